/* SPDX-License-Identifier: BSD-3-Clause */
/* costs.h - what moving bytes between two ranks of this host takes, by each way.
 *
 * A curve holds what one transfer takes, from the call to its end, with both ranks in
 * MPI and nothing else under way, at 4 KiB and each four times the last up to 64 MiB;
 * between and below them on a straight line, beyond the last at its rate. Times are
 * nanoseconds. Any thread; nothing here changes what it is given.
 */
#ifndef PW_COSTS_H
#define PW_COSTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PW_COST_POINTS = 8 };
#define PW_COST_UNKNOWN UINT64_MAX

/* All 0: not known. */
struct pw_cost_curve {
    uint64_t ns[PW_COST_POINTS];
};

struct pw_costs {
    struct pw_cost_curve direct;    /* one copy from memory that both map */
    struct pw_cost_curve push;      /* the same by the other side, asked by a frame */
    struct pw_cost_curve stream;    /* two copies, through the queue */
    struct pw_cost_curve kernel;    /* process_vm_readv(2) */
    uint64_t past_extra;            /* reading 16 KiB from memory instead of from the
                                     * cache of the core that wrote them; below 10^9 */
};

/* The length at a point, in bytes. */
static inline size_t pw_cost_len(int point) { return (size_t)4096 << 2 * point; }

/* PW_COST_UNKNOWN for a curve that is not known. */
uint64_t pw_cost_ns(const struct pw_cost_curve *curve, size_t len);

/* A curve that is ns per transfer and a straight line; mb_s: 10^6 bytes per second.
 * mb_s 0: not known. */
struct pw_cost_curve pw_cost_line(unsigned ns, unsigned mb_s);

/* A curve of which the first `points` are known goes on as `shape` does. One that is not
 * known stays so. */
void pw_cost_extend(struct pw_cost_curve *curve, int points,
                    const struct pw_cost_curve *shape);

/* Does more take longer, on each curve that is known; and is none but the kernel's
 * unknown? What is otherwise was measured while something disturbed. */
bool pw_costs_plausible(const struct pw_costs *c);

/* What needs the peer's help (stream, push) takes so much longer. */
void pw_costs_later(struct pw_costs *costs, unsigned ns);

/* The costs used where nothing was measured; see doc/costs.md for how they were
 * taken. */
extern const struct pw_costs pw_costs_default;

#endif
