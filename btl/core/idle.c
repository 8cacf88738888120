/* SPDX-License-Identifier: BSD-3-Clause */
/* idle.c - what a rank does while it waits: spin, give way, sleep.
 *
 * Start at pw_idle_look().
 *
 * Sleeping ends with a frame's arrival (the NIC's wait) or the time. Open MPI's
 * other progress functions stand still meanwhile, so the bound is short.
 *
 * Who waits for room in a peer's queue is woken by nobody. While the peer reads at
 * all, and room comes, that is no time to sleep; when it has read nothing for long, it
 * is away, and a short sleep costs less than a processor.
 */
#include <sched.h>

#include "idle.h"
#include "rescue.h"

/* Since the last event, ns. Crowded: two or three switches' worth of spinning,
 * then give way some times (cheaper than a sleep when the partner is the next
 * to run), then sleep. */
enum {
    PW_SPIN_NS = 200 * 1000, PW_YIELD_NS = 10 * 1000 * 1000,
    PW_SPIN_CROWDED_NS = 2 * 1000, PW_YIELD_CROWDED_NS = 50 * 1000,
};
enum { PW_SLEEP_FIRST_US = 50, PW_SLEEP_ROOM_US = 200 };

static void idle_sleep(struct pw_engine *e, bool awaits_room)
{
    struct pw_idle *idle = &e->idle;

    if (!idle->sleep_us)
        idle->sleep_us = PW_SLEEP_FIRST_US;
    if (awaits_room && idle->sleep_us > PW_SLEEP_ROOM_US)
        idle->sleep_us = PW_SLEEP_ROOM_US;
    if (idle->sleep_us > e->config.sleep_us)
        idle->sleep_us = e->config.sleep_us;
    /* Several NICs: none can wake us for all, so only give way. */
    if (e->n_nics == 1)
        e->nics[0]->ops->wait(e->nics[0], idle->sleep_us);
    else
        sched_yield();
    idle->sleep_us *= 2;
}

void pw_idle_look(struct pw_engine *e)
{
    struct pw_idle *idle = &e->idle;
    bool crowded = e->crowded;
    bool awaits_room = __atomic_load_n(&e->n_waiting, __ATOMIC_RELAXED) ||
                       __atomic_load_n(&idle->starved, __ATOMIC_RELAXED);
    uint64_t now = pw_now_ns(), idle_ns, sent, yield_ns;

    if (e->pinning)
        pw_pinning_idle(e);
    pw_live_step(e, now);
    if (__atomic_load_n(&e->n_rescues, __ATOMIC_RELAXED) && pw_rescue_look(e, now))
        return;
    idle->polls = 0;
    __atomic_store_n(&idle->starved, false, __ATOMIC_RELAXED);
    /* A message that was sent is no event of progress, but its peer has read. */
    sent = __atomic_load_n(&e->stats.messages, __ATOMIC_RELAXED);
    if (!idle->since_ns || (awaits_room && sent != idle->sent)) {
        idle->sent = sent;
        idle->since_ns = now;
        idle->sleep_us = 0;
    }
    idle_ns = now - idle->since_ns;
    if (idle_ns < (crowded ? PW_SPIN_CROWDED_NS : PW_SPIN_NS))
        return;
    yield_ns = crowded && !awaits_room ? PW_YIELD_CROWDED_NS : PW_YIELD_NS;
    if (idle_ns < yield_ns || !e->config.sleep_us)
        sched_yield();
    else
        idle_sleep(e, awaits_room);
    /* Having given way, look at every poll from now on. */
    idle->polls = PW_LOOK;
}
