/* SPDX-License-Identifier: BSD-3-Clause */
/* shm_attach.h - any memory of a peer, mapped here by /dev/pinwheel.
 *
 * Two halves that share the key: shm_share.c exports our memory (pin, unpin),
 * shm_attach.c maps that of peers (reach, put, get, atomic). Nobody but shm*.c
 * includes this.
 */
#ifndef PW_SHM_ATTACH_H
#define PW_SHM_ATTACH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "pinwheel/nic.h"

struct shm_nic;
struct shm_peer;
struct shm_attach;
struct shm_mapping;

/* The system calls on the device and on what peers pass. As their manual pages say,
 * -1 and errno included. Tests put another table in its place before a NIC opens. */
struct shm_device {
    int (*open)(const char *path, int flags);
    int (*ioctl)(int fd, unsigned long request, void *arg);
    void *(*mmap)(void *addr, size_t len, int prot, int flags, int fd, off_t offset);
};
extern const struct shm_device *shm_device;

/* A region of ours as peers name it: struct pw_nic_key's bytes. slot 0: it is not to be
 * had by attaching. */
struct shm_key {
    uint64_t offset;            /* in our share descriptor; never another region's */
    uint64_t start;             /* its first address here */
    uint64_t word;              /* of its slot, as long as it is what it was */
    uint32_t slot;
    uint32_t pages : 30;        /* of 4 KiB */
    uint32_t writable : 1;
    uint32_t often : 1;         /* a window: worth a mapping at its first use */
};

/* Our control descriptor, and what we give to peers. -1: there is none. */
struct shm_share {
    int control, fd;
    uint64_t words_bytes;       /* of the generation words */
    uint64_t id;                /* of the control descriptor */
};

/* shm_share.c. open: 0, or -errno and why not, a sentence, in note. Closes by itself
 * then. */
enum { SHM_NOTE = sizeof(((struct pw_nic_info *)0)->note) };
int shm_share_open(struct shm_share *s, char note[SHM_NOTE]);
void shm_share_close(struct shm_share *s);
int shm_pin(struct pw_nic *nic, void *addr, size_t len, unsigned access,
            struct pw_nic_key *key);
void shm_unpin(struct pw_nic *nic, void *addr, size_t len, const struct pw_nic_key *key);

/* shm_attach.c. open: what a peer shares; takes the descriptor, whatever happens. NULL:
 * it is of no use. */
struct shm_attach *shm_attach_open(struct shm_nic *nic, int fd, uint64_t words_bytes);
void shm_attach_close(struct shm_attach *a);

/* Is it mapped, or worth it now? Counts as a use. */
bool shm_attach_wanted(struct shm_peer *p, uint64_t remote, size_t len,
                       const struct pw_nic_key *key);

/* 0, our address of it, and *m to give back; -ENOENT: not mapped, nor was it to be;
 * -EOPNOTSUPP: it was to be, and is not, which shm_attach_wanted() will not say again. */
int shm_attach_get(struct shm_peer *p, uint64_t remote, size_t len,
                   const struct pw_nic_key *key, bool write, char **at,
                   struct shm_mapping **m);

/* After so many bytes were copied. false: the region had changed by then; what was read
 * may be anything, and what was written may be nobody's. */
bool shm_attach_put(struct shm_peer *p, struct shm_mapping *m, size_t len);

/* The same for who would not do it twice: false only where nothing it did has met
 * memory of the peer. */
bool shm_attach_put_once(struct shm_peer *p, struct shm_mapping *m);

#endif
