/* SPDX-License-Identifier: BSD-3-Clause */
/* limit.h - what the machine itself needs for the messages of a test: the same messages
 * between two processes on two cores, with no MPI at all.
 *
 * main.c    the command line of pwbench limit, and what it prints
 * run.c     the two processes: which way is the fastest, and how long it takes
 * check.c   is what arrives what was sent?
 * ways.c    the ways from one process to the other
 * lane.h    one of them in detail: slots of lines in shared memory
 *
 * A side sends and receives as a rank of the test does: from one buffer into another, the
 * same ones each time.
 */
#ifndef PW_LIMIT_H
#define PW_LIMIT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "lane.h"
#include "tools/pair.h"
#include "tools/pwbench.h"

enum { LIMIT_WAY_TEXT = 64 };

struct limit_options {
    struct pw_single_options test;
    int core[2];
};

/* A count that one side raises and the other awaits. */
struct limit_line {
    _Alignas(64) _Atomic uint32_t n;
};

static inline void limit_raise(struct limit_line *l)
{
    uint32_t n = atomic_load_explicit(&l->n, memory_order_relaxed);

    /* Pairs with the acquire in limit_await(). */
    atomic_store_explicit(&l->n, n + 1, memory_order_release);
}

static inline void limit_await(const struct limit_line *l, uint32_t n)
{
    while ((int32_t)(atomic_load_explicit(&l->n, memory_order_acquire) - n) < 0)
        ;
}

struct limit_way;

/* What both are to do next; side 0 says it. */
enum limit_verb { LIMIT_ITERATE, LIMIT_CHECK, LIMIT_END };
struct limit_order {
    enum limit_verb verb;
    const struct limit_way *way;
    size_t piece, size;
    bool fresh;                     /* begin with empty lanes */
    long n;
};

/* Both sides have all of it mapped. */
struct limit_board {
    struct limit_line ordered, obeyed;      /* orders, side 0 to 1 and back */
    struct limit_line lent[2];              /* messages of that side that can be read */
    struct limit_line taken[2];             /* windows that side has received */
    struct limit_order order;
    const char *send[2];                    /* where each side's buffer is, in its own
                                             * memory */
    bool cma;                               /* process_vm_readv works */
    char no_cma[PW_PAIR_WHY];
    struct limit_found {
        double value;
        char way[LIMIT_WAY_TEXT];
    } found[PW_SIZES_MAX];
};

struct limit_side {
    const struct limit_options *o;
    struct limit_board *board;
    struct lane *lane;              /* [2], by the side that sends */
    char *shared;                   /* alloc_mem: all four buffers; else NULL */
    size_t room;                    /* of a buffer */
    char *send, *recv;              /* this side's */
    int side;
    pid_t peer;
    char *why;
    uint32_t orders, awaited, awaited_taken;    /* of the other side's, so far */
    size_t piece;
    struct lane_out out;
    struct lane_in in;
};

/* ---- ways.c ---- */

struct limit_way {
    const char *name;
    bool pieces;        /* messages go in pieces: name is of one that goes as a whole */
    bool past;          /* by stores past the cache */
    bool wide;          /* through more memory than the caches hold */
    bool lent;          /* the other side reads what is sent where it lies */
    bool mapped;        /* for which it must be mapped */
    bool kernel;

    /* Send and receive so many messages of size bytes at the same time. 0 or -errno. */
    int (*move)(struct limit_side *s, size_t size, long send, long recv);
};

extern const struct limit_way limit_ways[];
enum { LIMIT_WAYS = 6 };

/* ---- check.c: 0, or -EBADMSG and a sentence in s->why ---- */

int limit_check(struct limit_side *s, const struct limit_order *order);

/* ---- run.c ---- */

/* The values are in *board then, until this process ends. 0, or what pw_pair_run()
 * returns, and a sentence. */
int limit_run(const struct limit_options *o, struct limit_board **board,
              char why[PW_PAIR_WHY]);

#endif
