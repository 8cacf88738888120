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

/* With several NICs: the longest wait on one of those in use, and on the only one. */
enum { PW_SLEEP_TURN_US = 100, PW_SLEEP_CALLED_US = 1000 };

/* Only one NIC can wake us. Where several have peers they take turns, for a short time
 * each; who may only be called waits a little longer. */
static void nic_sleep(struct pw_engine *e, unsigned us)
{
    struct pw_nic *used[PW_KEY_NICS], *nic;
    int n = 0;

    for (int i = 0; i < e->n_nics; i++)
        if (e->uses[i])
            used[n++] = e->nics[i];
    nic = n ? used[e->idle.turn++ % (unsigned)n] : e->nics[0];
    if (n > 1 && us > PW_SLEEP_TURN_US)
        us = PW_SLEEP_TURN_US;
    else if (e->n_nics > 1 && us > PW_SLEEP_CALLED_US)
        us = PW_SLEEP_CALLED_US;
    nic->ops->wait(nic, us);
}

static void idle_sleep(struct pw_engine *e, bool awaits_room)
{
    struct pw_idle *idle = &e->idle;

    if (!idle->sleep_us)
        idle->sleep_us = PW_SLEEP_FIRST_US;
    if (awaits_room && idle->sleep_us > PW_SLEEP_ROOM_US)
        idle->sleep_us = PW_SLEEP_ROOM_US;
    if (idle->sleep_us > e->config.sleep_us)
        idle->sleep_us = e->config.sleep_us;
    nic_sleep(e, idle->sleep_us);
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
    if (pw_engine_look_around(e))
        return;
    if (__atomic_load_n(&e->n_owing, __ATOMIC_RELAXED) |
        __atomic_load_n(&e->n_lame, __ATOMIC_RELAXED))
        pw_engine_settle(e);
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
