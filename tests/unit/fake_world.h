/* SPDX-License-Identifier: BSD-3-Clause */
/* fake_world.h - what the fake NIC's own files share; tests include fake_nic.h.
 *
 *     fake_nic.c      who is there: open, close, connect, progress, wait
 *     fake_work.c     what goes out: send, put, get, atomic, and pinned memory
 *     fake_wire.c     frames on their way, and what faults do to them
 *     fake_control.c  what a test asks for
 *
 * A connection writes one stream (tx) and reads at most one (rx, the stream of the
 * connection that the other side made to us; NULL until it did). Connections of
 * two NICs are paired in the order in which they were made, so that both sides
 * may disconnect and connect again.
 *
 * fake_world.lock guards everything here; it is not held across upcalls. Every
 * function below but fake_lock() and the operations wants it held.
 */
#ifndef PW_FAKE_WORLD_H
#define PW_FAKE_WORLD_H

#include <pthread.h>

#include "fake_nic.h"
#include "fake_wire.h"

enum { FAKE_KINDS = 2 };

struct fake_pin {
    struct fake_pin *next;
    uint32_t serial;
    unsigned access;
    uint64_t addr, len;
};

/* One operation, on the caller's stack or waiting in a connection's list. */
struct fake_work {
    struct fake_work *next;
    enum fake_op kind;
    uint32_t imm;
    int n;
    struct pw_iov iov[3];
    void *local;
    uint64_t remote;
    size_t len;
    struct pw_nic_key key;
    struct pw_atomic what;
    uint64_t *result;
    void *op;
    bool silent;            /* nobody waits for its completion */
    uint64_t tick;          /* of the NIC, when it was submitted */
    uint8_t copy[];
};

struct fake_plan {
    unsigned nth, count;
    int err;
};

enum fake_life { FAKE_LIVES, FAKE_DIED };

struct fake_peer {
    struct pw_nic_peer base;
    struct fake_peer *next;
    uint64_t to;
    void *cookie;
    struct fake_stream *tx, *rx;
    struct fake_work *work, *work_tail;
    unsigned n_work;
    bool down;
    bool called;                /* its call has gone out; PW_NIC_ANSWERS only */
    bool up;
};

struct fake_nic {
    struct pw_nic base;
    struct fake_nic *next;
    uint64_t number, tick;
    enum fake_life life;
    unsigned kind;
    struct fake_nic_traits traits;
    struct pw_nic_config config;
    struct fake_peer *peers;
    struct fake_pin *pins;
    struct fake_plan plans[FAKE_OPS];
    unsigned calls[FAKE_OPS];
    struct fake_work *late;      /* FAKE_BREAK_PUT_LATE */
};

struct fake_cut {
    struct fake_cut *next;
    uint64_t a, b;
};

extern struct fake_world {
    pthread_mutex_t lock;
    pthread_once_t once;
    pthread_cond_t changed;
    struct fake_nic *nics;
    struct fake_stream *unread;     /* oldest first */
    struct fake_cut *cuts;
    uint64_t numbers;
    uint32_t serials;
    struct fake_nic_traits traits[FAKE_KINDS];
} fake_world;

extern const struct fake_nic_traits fake_default_traits;

static inline struct fake_nic *nic_of(struct pw_nic *nic)
{
    return (struct fake_nic *)nic;
}

static inline struct fake_peer *peer_of(struct pw_nic_peer *peer)
{
    return (struct fake_peer *)peer;
}

static inline bool breaks(const struct fake_nic *nic, enum fake_break what)
{
    return nic->traits.breaks & (uint32_t)what;
}

/* The first call of either makes the world. */
void fake_world_make(void);
void fake_lock(void);
void fake_unlock(void);

/* NULL when no NIC of that number lives. */
struct fake_nic *fake_nic_find(uint64_t number);
/* Its side of the links to that one fails. Locked. */
void fake_peers_cut(struct fake_nic *nic, uint64_t to, int cause);

/* Where the cut between two NICs is linked, or the end of the list. */
struct fake_cut **fake_cut_find(uint64_t a, uint64_t b);

/* Count a call; the errno that was planned for it, or 0. */
int fake_planned(struct fake_nic *nic, enum fake_op op);

/* No one can connect to this NIC from now on. */
void fake_nic_leave(struct fake_nic *nic, int cause);
void fake_unread_remove(struct fake_stream *s);

/* Carry out one operation: 0, or its error. */
int fake_work_run(struct fake_peer *p, struct fake_work *w);
void fake_copy_by_hand(const struct fake_work *w, size_t len);

/* Operations of the table that are not in fake_nic.c. */
int fake_pin(struct pw_nic *nic, void *addr, size_t len, unsigned access,
             struct pw_nic_key *key);
void fake_unpin(struct pw_nic *nic, void *addr, size_t len,
                const struct pw_nic_key *key);
enum pw_reach fake_reach(struct pw_nic_peer *peer, uint64_t remote, size_t len,
                         const struct pw_nic_key *key);
int fake_send(struct pw_nic_peer *peer, uint32_t imm, const struct pw_iov *iov, int n,
              void *op);
int fake_send_inline(struct pw_nic_peer *peer, uint32_t imm, const void *data,
                     size_t len);
int fake_put(struct pw_nic_peer *peer, const void *local, uint64_t remote, size_t len,
             const struct pw_nic_key *key, void *op);
int fake_get(struct pw_nic_peer *peer, void *local, uint64_t remote, size_t len,
             const struct pw_nic_key *key, void *op);
int fake_put_own(struct pw_nic_peer *peer, const void *local, uint64_t remote, size_t len,
                 const struct pw_nic_key *key, const struct pw_nic_key *own, void *op);
int fake_get_own(struct pw_nic_peer *peer, void *local, uint64_t remote, size_t len,
                 const struct pw_nic_key *key, const struct pw_nic_key *own, void *op);
int fake_atomic(struct pw_nic_peer *peer, const struct pw_atomic *what,
                uint64_t remote, uint64_t *result, const struct pw_nic_key *key,
                void *op);

#endif
