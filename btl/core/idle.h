/* SPDX-License-Identifier: BSD-3-Clause */
/* idle.h - what a rank does while it waits: spin, give way, sleep.
 *
 * With a core for each rank, spinning costs nobody anything and answers
 * soonest; yet a wait that lasts is ended by the operating system's scheduler
 * or the power budget, so after PW_SPIN_NS we give way, and after PW_YIELD_NS we
 * sleep, first shortly, then up to the configured bound. With more ranks than
 * cores the rank waited for may need this core: both come at once.
 */
#ifndef PW_IDLE_H
#define PW_IDLE_H

#include "core.h"

/* Polls between two looks at the clock: a poll is some 30 ns, a look as much. */
enum { PW_LOOK = 32, PW_LOOK_CROWDED = 8 };

void pw_idle_look(struct pw_engine *e);

/* A message of ours found no room and its sender will try again. Nobody wakes us
 * when there is room: so do not sleep soon, nor long. */
static inline void pw_idle_starved(struct pw_engine *e)
{
    __atomic_store_n(&e->idle.starved, true, __ATOMIC_RELAXED);
}

/* After a progress call with `events`; may give way or sleep. */
static inline void pw_idle(struct pw_engine *e, int events)
{
    if (events) {
        e->idle.polls = 0;
        e->idle.since_ns = 0;
    } else if (__builtin_expect(++e->idle.polls >= PW_LOOK_CROWDED, 0) &&
               (e->crowded || e->idle.polls >= PW_LOOK)) {
        pw_idle_look(e);
    }
}

#endif
