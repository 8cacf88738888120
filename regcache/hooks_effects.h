/* SPDX-License-Identifier: BSD-3-Clause */
/* hooks_effects.h - which memory a system call may change, told from its arguments.
 *
 * Called inside a hook: no lock, no allocation, nothing of the C library, and
 * errno stays as it is. May make system calls of its own for rare ones.
 */
#ifndef PINWHEEL_HOOKS_EFFECTS_H
#define PINWHEEL_HOOKS_EFFECTS_H

#include <stdbool.h>
#include <stdint.h>

#include "pinwheel/monitor.h"

/* In the order in which hooks_entry.c saves the registers. */
struct pw_call {
    long nr;
    unsigned long arg[6];
};

/* The number as the kernel takes it: 32 bits, and without the bit that says x32,
 * which has the same numbers for all calls here. */
static inline unsigned pw_call_nr(const struct pw_call *c)
{
    return (unsigned)c->nr & ~0x40000000u;
}

struct pw_effect {
    struct pw_range range;      /* empty: nothing that may be watched, see below */
    unsigned cause;             /* enum pw_event */
};

enum { PW_EFFECTS_MAX = 8 };

/* What c changes when it succeeds, at most PW_EFFECTS_MAX; returns how many. 0:
 * nothing, the call is harmless or must fail. Where the range cannot be told, it
 * is too large, never too small.
 *
 * Cut and punched files, and detached SysV segments, have an empty range: what
 * they change is memory of files and shared memory, which is never watched. */
int pw_effects(const struct pw_call *c, struct pw_effect out[PW_EFFECTS_MAX]);

/* The memory that c was given, when it returned `result`: addresses that had been
 * nobody's, or somebody's who has not told of it yet. true: it was given some. */
bool pw_effects_new(const struct pw_call *c, long result, struct pw_effect *out);

/* The numbers of calls that pw_effects() knows; 0 at the end. */
extern const unsigned short pw_effect_numbers[];

#endif
