/* SPDX-License-Identifier: BSD-3-Clause */
/* doubts.h - ranges whose pages may still go, at a moment that nobody is told of.
 *
 * One thread writes, any thread reads; nobody waits for another. Too many ranges
 * are made fewer by joining neighbours: what is in doubt grows, it never shrinks
 * by mistake.
 */
#ifndef PINWHEEL_DOUBTS_H
#define PINWHEEL_DOUBTS_H

#include <stdint.h>

#include "pinwheel/monitor.h"

enum { PW_DOUBTS = 64 };

struct pw_doubts {
    uint64_t version;           /* odd: being written */
    unsigned n;
    struct pw_range range[PW_DOUBTS];
};

/* By the one writer; all zero to begin with. */
void pw_doubts_add(struct pw_doubts *d, struct pw_range r);
void pw_doubts_remove(struct pw_doubts *d, struct pw_range r);

/* 0: r meets none; -EOPNOTSUPP: it does; -EAGAIN: they are being written. */
int pw_doubts_check(const struct pw_doubts *d, struct pw_range r);

#endif
