/* SPDX-License-Identifier: BSD-3-Clause */
/* measure.h - what gets between this process and a peer take, by each way.
 *
 * Both fill the first part of a struct pw_measure, whose engine has pw_measure_upcalls.
 * Then one owns the memory and the other one asks:
 *
 *     pw_measure_open(m, true)            pw_measure_open(m, false)
 *     pw_measure_own(m)                   pw_measure_meet(m)
 *                                         pw_measure_curve(m, ...) ...
 *                                         pw_measure_end(m)
 *     pw_measure_close(m)                 pw_measure_close(m)
 *
 * It does not matter who comes first. Before each get the owner writes all of what is
 * fetched, as a rank does that sends what it has computed. Nothing waits longer than
 * until until_ns; where that is 0, nobody waits longer than 30 s for a silent peer.
 *
 * One thread; nobody else may use the engine meanwhile.
 */
#ifndef PW_MEASURE_H
#define PW_MEASURE_H

#include <sched.h>

#include "engine.h"

/* Where a buffer is. */
enum pw_measure_where { PW_IN_POOL, PW_ELSEWHERE, PW_WHERES };

enum pw_measure_way {
    PW_MEASURE_DIRECT, PW_MEASURE_PUSH, PW_MEASURE_STREAM, PW_MEASURE_KERNEL,
};

struct pw_measure {
    /* Ours to read; peer may be set when the engine is open. */
    struct pw_engine *engine;
    struct pw_endpoint *peer;
    void *cookie;               /* the endpoint's */
    struct pw_pool *pool;       /* the engine's */
    size_t len;                 /* of each buffer: the longest get */
    uint8_t tag;                /* of our messages */
    uint64_t until_ns;          /* CLOCK_MONOTONIC; 0: no limit */

    /* Its own. */
    unsigned char *buf[PW_WHERES];
    struct pw_key keys[PW_WHERES], peer_keys[PW_WHERES];
    uint64_t peer_addrs[PW_WHERES];
    cpu_set_t peer_cpus;        /* what the peer may run on, when it was met */
    struct pw_measure_order { uint64_t where, len, byte, flush; } order;
    uint64_t byte;
    bool owner, met, answer, ordered, written, over, dead, stuck;
    struct pw_measure_outcome { bool done; int status; } outcome;
};

/* Samples of each figure: least and most, and budget_ns from least on. `steady`: their
 * short ones must agree, else the figure is taken again while there is time. */
struct pw_measure_plan {
    int points;                 /* of the curve, from the shortest on */
    int least;
    uint64_t budget_ns;
    bool steady;
};

/* For an engine's upcalls, with the struct pw_measure as ctx. */
extern const struct pw_engine_upcalls pw_measure_upcalls;

/* The buffers. 0, or -ENOMEM, or as pw_engine_register(). */
int pw_measure_open(struct pw_measure *m, bool owner);
/* Once the endpoint is closed where a get was given up: the peer may still be at it. What
 * it may write to is never given back. */
void pw_measure_close(struct pw_measure *m);

/* What the peer asks for, until it says that this is the end: 0; or -ETIMEDOUT, or
 * -EPIPE: it is gone. */
int pw_measure_own(struct pw_measure *m);

/* 0, or -ETIMEDOUT, -EPIPE. */
int pw_measure_meet(struct pw_measure *m);
void pw_measure_end(struct pw_measure *m);

/* One get of what the owner has just written, checked: ns, or 0 and
 * -ETIMEDOUT, -EPIPE, -EBADMSG (wrong bytes) or the get's error in *err. flushed: out of
 * all caches before. */
uint64_t pw_measure_get(struct pw_measure *m, enum pw_measure_where remote,
                        enum pw_measure_where local, size_t len, bool flushed, int *err);

/* The first points of a curve; all are 0 (not known) when gets do not go that way. 0, or
 * as above. */
int pw_measure_curve(struct pw_measure *m, enum pw_measure_way way,
                     const struct pw_measure_plan *plan, struct pw_cost_curve *out);

/* What struct pw_costs calls past_extra. -EOPNOTSUPP: this CPU cannot tell. */
int pw_measure_past(struct pw_measure *m, const struct pw_measure_plan *plan,
                    uint64_t *out);

/* Two processes that may run on these CPUs, and so many ranks on the host with them: has
 * each of the two a CPU to itself while they measure? */
bool pw_measure_has_room(const cpu_set_t *a, const cpu_set_t *b, unsigned ranks);

#endif
