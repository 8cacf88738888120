/* SPDX-License-Identifier: BSD-3-Clause */
/* fuzz.h - the parts of the driver's fuzzer: what it has, and how right is told from
 * wrong.
 *
 *     fuzz_kdriver.c  processes: who they are, how they end; what must hold at the end
 *     fuzz_ops.c      one random step after the other
 *     fuzz_calls.c    the driver's calls, and which answer each may give
 *     fuzz_areas.c    memory and mappings: touched, changed, and never another's
 *
 * An actor is a process of a few threads. It has areas of memory and descriptors, each
 * below a lock that is only ever tried: who does not get it does something else. A
 * forked child goes on with copies of all that.
 *
 * Each cell of 8 bytes is 0 or has in its upper half a tag, which says whose it is. The
 * memory that an actor exports has another one than what it keeps for itself, so memory
 * that is seen where it must not be is recognized at once.
 */
#ifndef PINWHEEL_TESTS_VM_FUZZ_H
#define PINWHEEL_TESTS_VM_FUZZ_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "pinwheel/kdriver.h"

#define PAGE 4096ul
#define HUGE_PAGE (2ul << 20)
#define ACTORS 6
#define AREAS 20
#define DESCS 20
#define PUBLISHED 64
#define ADDRESSES_END (1ul << 47)

/* ---- what all processes share ---- */

enum call {
    OPEN, INFO, WATCH, EXPORT, DROP, SHARE, POOL, FILL, DRAIN, POOL_INFO, MAP_WORDS, ATTACH,
    MAP_POOL, CALLS
};

/* An export that others may try to map. */
struct published {
    uint64_t id, offset, len, tag, access;
    uint64_t sum;               /* of all these: it was not being written meanwhile */
};

struct board {
    _Atomic uint32_t numbers;   /* last one that somebody was given */
    _Atomic bool stop;
    _Atomic unsigned broken;
    _Atomic uint64_t good[CALLS], bad[CALLS];
    _Atomic uint64_t touches, strangers, secrets, moved, forks, failed;
    struct published exports[PUBLISHED];
};
extern struct board *board;

/* Something that must not be. The run ends. */
void broken(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- chance ---- */

struct rng {
    uint64_t state;
};
uint64_t rng_next(struct rng *r);
uint64_t below(struct rng *r, uint64_t n);      /* n > 0 */
bool one_in(struct rng *r, unsigned n);
uint64_t rng_length(struct rng *r, uint64_t most);      /* 1 to most, small ones often */

/* ---- tags ---- */

enum whose { OPEN_TO_ALL = 0xa1, SECRET = 0xb2, POOLED_BY = 0xc3 };
uint64_t tag_of(enum whose whose, uint32_t number);     /* in the upper half */
extern uint32_t me;             /* the number in tags of this actor */
extern uint32_t myself;         /* of this process: a child has one of its own */

/* ---- areas ---- */

enum kind { NOTHING, PRIVATE, SHARED, VAST, WORDS, ATTACHED, POOLED };

struct area {
    pthread_rwlock_t lock;      /* for writing: to change where it is */
    enum kind kind;
    char *at;
    size_t len;
    int prot;
    int most;                   /* what mprotect may add */
    bool may_bus;               /* a touch may be a SIGBUS */
    bool elses;                 /* it is the parent's, and is left alone */
    int file;                   /* SHARED; else -1 */
    uint64_t tag;
    uint64_t generation;        /* another one for each new area */
    _Atomic int exports;        /* that may show it */
    volatile uint64_t *words;   /* last ones seen, of the first page, for WORDS */
};
extern struct area areas[AREAS];

void areas_open(void);
/* Locked; or NULL. kinds: 1 << kind */
struct area *area_read(struct rng *r, unsigned kinds);
struct area *area_write(struct rng *r, unsigned kinds);
void area_done(struct area *a);
char *area_place(struct rng *r, const struct area *a, size_t len, uint64_t modulo);
void area_settle(struct area *a, enum kind kind, char *at, size_t len, int prot,
                 uint64_t tag);
void area_unmap(struct area *a);                /* locked for writing */
void area_no_longer_shown(struct area *a, uint64_t generation);
void area_memory(struct rng *r);                /* some NOTHING becomes memory */
void area_touch(struct rng *r);
void area_remap(struct rng *r);
void area_protect(struct rng *r);
void area_advise(struct rng *r);
void area_punch(struct rng *r);
void area_secret(struct rng *r);
void area_other(struct rng *r);
void area_lose(struct rng *r);
void areas_after_fork(void);

/* ---- descriptors ---- */

enum what { CLOSED, CONTROL_FD, SHARE_FD, POOL_FD };

struct desc {
    pthread_rwlock_t lock;      /* for writing: to open and close */
    enum what what;
    int fd;
    uint32_t process;           /* CONTROL: whose, see myself */
    uid_t uid;                  /* SHARE: of the control descriptor */
    uint64_t id;                /* of the control descriptor */
    ino_t inode;
    uint64_t tag, size;         /* POOL */
    volatile uint64_t *words;   /* CONTROL, of this process; or NULL */
    size_t words_bytes;
};
extern struct desc descs[DESCS];

void descs_open(int (*pipes)[2], int mine);
void thread_open(void);         /* each thread that makes calls; and a forked child */
void descs_after_fork(void);
struct desc *desc_read(struct rng *r, enum what what);
struct desc *desc_write(struct rng *r, enum what what);
void desc_done(struct desc *d);
void desc_close(struct desc *d);                /* locked for writing */
void desc_shut(struct rng *r);                  /* some one */
void desc_pass(struct rng *r);
void desc_receive(struct rng *r);

/* The calls, each on something by chance. */
void call_open(struct rng *r);
void call_info(struct rng *r);
void call_watch(struct rng *r);
void call_export(struct rng *r);
void call_drop(struct rng *r);
void call_share(struct rng *r);
void call_pool(struct rng *r);
void call_part(struct rng *r);
void call_pool_info(struct rng *r);
void call_garbage(struct rng *r);
void call_map(struct rng *r);
void call_map_garbage(struct rng *r);
void watch_and_change(struct rng *r);

/* From here on the n-th allocation of this thread fails, by chance, until done. */
void failing(struct rng *r);
void failing_done(void);
extern bool with_failures;
extern uint32_t services;       /* of the driver, as PW_KD_INFO tells them */

/* fuzz_ops.c */
void steps(struct rng *r, unsigned n, bool child);

/* fuzz_kdriver.c: a touch. What the thread got for it: 0, SIGBUS, SIGSEGV. */
int guarded(void (*touch)(void *), void *arg);

#endif
