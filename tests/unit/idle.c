/* SPDX-License-Identifier: BSD-3-Clause */
/* idle.c - spin, give way, sleep: seen through what the NIC is asked to wait for.
 *
 * When things happen is the clock's; only their order and their bounds are
 * looked at, so that a busy machine changes nothing.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <limits.h>
#include <time.h>

#include "btl/core/idle.h"
#include "tests/unit/pair.h"

static uint64_t now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* Side a alone makes progress until it has waited so often; false after us. */
static bool poll_until_waits(struct pair *p, unsigned waits, uint64_t us)
{
    uint64_t end = now_us() + us;

    while (pair_waits.calls < waits && now_us() < end)
        pw_engine_progress(p->a.e);
    return pair_waits.calls >= waits;
}

Test(idle, who_waits_in_vain_sleeps_in_the_end)
{
    struct pair p;

    pair_open(&p, &(struct pair_plan){ .sleep_us = 1000 });
    cr_expect(poll_until_waits(&p, 1, 30000000));
    pair_close(&p);
}

Test(idle, sleeps_double_up_to_the_bound)
{
    const unsigned us[] = { 50, 100, 200, 400, 800, 1000, 1000, 1000 };
    struct pair p;

    pair_open(&p, &(struct pair_plan){ .sleep_us = 1000 });
    cr_expect(poll_until_waits(&p, 8, 30000000));
    for (int i = 0; i < 8; i++)
        cr_expect(eq(uint, pair_waits.us[i], us[i]), "sleep %d", i);
    pair_close(&p);
}

Test(idle, a_bound_below_the_first_sleep_holds)
{
    struct pair p;

    pair_open(&p, &(struct pair_plan){ .sleep_us = 7 });
    cr_expect(poll_until_waits(&p, 3, 30000000));
    for (int i = 0; i < 3; i++)
        cr_expect(eq(uint, pair_waits.us[i], 7));
    pair_close(&p);
}

/* With a core for each, 10 ms of spinning and giving way come first. */
Test(idle, no_sleep_comes_early)
{
    uint64_t start;
    struct pair p;

    pair_open(&p, &(struct pair_plan){ .sleep_us = 1000 });
    start = now_us();
    cr_expect(poll_until_waits(&p, 1, 30000000));
    cr_expect(ge(u64, now_us() - start, 10000));
    pair_close(&p);
}

/* More ranks than cores: the one waited for needs this core. The number of polls
 * tells it; a busy machine can only lower it, so the best of some tries. */
static unsigned polls_to_sleep(unsigned cores)
{
    unsigned polls = 0;
    struct pair p;

    pair_open(&p, &(struct pair_plan){ .sleep_us = 1000, .cores = cores });
    cr_expect(eq(int, p.a.e->crowded, cores == 1));
    while (!pair_waits.calls && polls < 100000000) {
        pw_engine_progress(p.a.e);
        polls++;
    }
    cr_expect(eq(uint, pair_waits.calls, 1));
    pair_close(&p);
    return polls;
}

Test(idle, in_a_crowd_sleep_comes_sooner)
{
    unsigned alone = 0, crowded = UINT_MAX, polls;

    for (int i = 0; i < 10; i++) {
        polls = polls_to_sleep(8);
        alone = polls > alone ? polls : alone;
        polls = polls_to_sleep(1);
        crowded = polls < crowded ? polls : crowded;
    }
    cr_expect(lt(uint, crowded, alone / 2));
}

Test(idle, with_no_sleep_allowed_there_is_none)
{
    struct pair p;

    pair_open(&p, &(struct pair_plan){ .sleep_us = 0, .cores = 1 });
    cr_expect(not(poll_until_waits(&p, 1, 50000)));
    pair_close(&p);
}

/* Only one of several NICs can wake us: they take turns, each for a short time. */
Test(idle, with_two_nics_in_use_nobody_sleeps_long)
{
    struct pair p;

    pair_open(&p, &(struct pair_plan){ .sleep_us = 100000, .cores = 1, .two_nics = true });
    cr_expect(poll_until_waits(&p, 12, 30000000));
    for (unsigned i = 0; i < 12; i++)
        cr_expect(le(uint, pair_waits.us[i], 100), "sleep %u", i);
    pair_close(&p);
}

Test(idle, a_nic_that_may_only_be_called_is_looked_at_each_millisecond)
{
    struct pair p;

    fake_nic_traits(&fake_nic_ops2)->flags &= ~(uint32_t)PW_NIC_SAME_HOST;
    pair_open(&p, &(struct pair_plan){ .sleep_us = 100000, .cores = 1, .two_nics = true });
    cr_assert(eq(int, p.a.ep->n_paths, 1));
    cr_expect(eq(int, p.a.e->n_active, 1));
    cr_expect(poll_until_waits(&p, 12, 30000000));
    for (unsigned i = 0; i < 12; i++)
        cr_expect(le(uint, pair_waits.us[i], 1000), "sleep %u", i);
    cr_expect(eq(uint, pair_waits.us[11], 1000));
    pair_close(&p);
}

Test(idle, an_event_starts_it_all_over)
{
    struct pair p;
    unsigned waits;

    pair_open(&p, &(struct pair_plan){ .sleep_us = 1000, .cores = 1 });
    cr_expect(poll_until_waits(&p, 5, 30000000));
    waits = pair_waits.calls;
    pair_send(&p.b, 0);
    cr_expect(eq(int, pw_engine_progress(p.a.e), 1));
    pw_engine_progress(p.a.e);
    cr_expect(eq(uint, pair_waits.calls, waits), "awake");
    cr_expect(poll_until_waits(&p, waits + 1, 30000000));
    cr_expect(eq(uint, pair_waits.us[waits], 50), "short again");
    pair_close(&p);
}

/* Its peer may read at any moment, and will not tell: no sleep before 10 ms have gone
 * in vain, crowd or not, and none longer than 200 us. */
static void sleeps_late_and_short(uint64_t start)
{
    cr_expect(ge(u64, now_us() - start, 10000));
    for (unsigned i = 0; i < 5; i++)
        cr_expect(eq(uint, pair_waits.us[i], i < 2 ? 50u << i : 200u), "sleep %u", i);
}

Test(idle, who_waits_for_room_sleeps_late_and_short)
{
    struct pair_note note;
    struct pair p;
    uint64_t start;

    pair_open(&p, &(struct pair_plan){ .sleep_us = 1000, .cores = 1 });
    fake_nic_fail(pair_nic(&p.a, 0), FAKE_SEND, 1, 0, -EAGAIN);
    pair_queue(&p.a, &note, 0);
    start = now_us();
    cr_expect(poll_until_waits(&p, 5, 30000000));
    sleeps_late_and_short(start);
    cr_expect(eq(uint, note.calls, 0));
    fake_nic_fail(pair_nic(&p.a, 0), FAKE_SEND, 1, 0, 0);
    pw_engine_progress(p.a.e);
    cr_expect(eq(uint, note.calls, 1));
    pair_close(&p);
}

/* A message that found no room is tried again by who sent it, at each turn. */
static bool try_until_waits(struct pair *p, unsigned waits, unsigned good_every)
{
    struct pw_iov iov = { "x", 1 };
    uint64_t end = now_us() + 60000;

    for (unsigned n = 1; pair_waits.calls < waits && now_us() < end; n++) {
        int err = good_every && n % good_every == 0 ? 0 : -EAGAIN;

        fake_nic_fail(pair_nic(&p->a, 0), FAKE_SEND, 1, 0, err);
        cr_assert(eq(int, pw_endpoint_send(p->a.ep, 1, &iov, 1), err));
        pw_engine_progress(p->a.e);
        if (!err)       /* not the engine's: it would sleep */
            fake_nic_ops.progress(pair_nic(&p->b, 0));
    }
    return pair_waits.calls >= waits;
}

Test(idle, who_tries_to_send_in_vain_sleeps_late_and_short)
{
    uint64_t start = now_us();
    struct pair p;

    pair_open(&p, &(struct pair_plan){ .sleep_us = 1000, .cores = 1 });
    while (!try_until_waits(&p, 5, 0))
        ;
    sleeps_late_and_short(start);
    pair_close(&p);
}

/* The queue is full most of the time, as it is when the peer is the slower one. */
Test(idle, who_finds_room_now_and_then_does_not_sleep)
{
    struct pair p;

    pair_open(&p, &(struct pair_plan){ .sleep_us = 1000, .cores = 1 });
    cr_expect(not(try_until_waits(&p, 1, 3)));
    pair_close(&p);
}
