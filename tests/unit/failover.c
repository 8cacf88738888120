/* SPDX-License-Identifier: BSD-3-Clause */
/* failover.c - peers that answer late, paths that fail and return, peers that are gone.
 *
 * The NICs are fakes that answer (PW_NIC_ANSWERS). A message carries its number, so that
 * tests/unit/pair.c notices one that is missing, comes twice or comes early.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>
#include <time.h>

#include "btl/core/guard.h"
#include "btl/core/path.h"
#include "pinwheel/clock.h"
#include "tests/unit/pair.h"

static void answering(void)
{
    struct fake_nic_traits *t = fake_nic_traits(&fake_nic_ops);

    t->flags = PW_NIC_PUT | PW_NIC_ANSWERS;
}

static void rails_open(struct pair *p, unsigned rails, unsigned timeout_ms)
{
    answering();
    pair_open(p, &(struct pair_plan){ .rails = rails, .peer_timeout_ms = timeout_ms,
                                      .keyed = true });
}

static void cut(struct pair *p, int rail)
{
    fake_nic_cut(pair_nic(&p->a, rail), pair_nic(&p->b, rail), -ETIMEDOUT);
}

static void mend(struct pair *p, int rail)
{
    fake_nic_mend(pair_nic(&p->a, rail), pair_nic(&p->b, rail));
}

/* Progress until both sides have a path, or this one; for at most 30 s. */
static bool until_path(struct pair *p, int rail)
{
    time_t end = time(NULL) + 30;

    while (time(NULL) < end) {
        struct pw_path *a = pw_path_current(p->a.ep), *b = pw_path_current(p->b.ep);

        if (a && b && (rail < 0 || (a == &p->a.ep->paths[rail] &&
                                    b == &p->b.ep->paths[rail])))
            return true;
        pair_turns(p, 1);
    }
    return false;
}

static void expect_all(struct pair *p, uint32_t n)
{
    cr_expect(pair_until(p, &p->a.received, n), "%u of %u came", p->a.received, n);
    cr_expect(pair_until(p, &p->b.received, n), "%u of %u came", p->b.received, n);
    pair_turns(p, 100);
    cr_expect(eq(uint, p->a.received, n));
    cr_expect(eq(uint, p->b.received, n));
    cr_expect(not(p->a.disorder));
    cr_expect(not(p->b.disorder));
    cr_expect(eq(uint, p->a.deaths, 0));
    cr_expect(eq(uint, p->b.deaths, 0));
}

static void send_both(struct pair *p, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++) {
        while (pair_send(&p->a, i) == -EAGAIN)
            pair_turns(p, 1);
        while (pair_send(&p->b, i) == -EAGAIN)
            pair_turns(p, 1);
    }
}

/* ---- until the peer answers ---- */

Test(failover, what_is_sent_before_the_peer_answers_arrives_then)
{
    struct pair p;

    answering();
    pair_open(&p, &(struct pair_plan){ .rails = 2, .apart = true });
    cr_assert(eq(int, pair_meet(&p.a, &p.b), 0));
    cr_expect(eq(ptr, p.a.ep->path, NULL));
    for (uint32_t i = 0; i < 100; i++)
        cr_assert(eq(int, pair_send(&p.a, i), 0));
    pair_turns(&p, 200);
    cr_expect(eq(uint, p.b.received, 0));
    cr_expect(eq(uint, p.a.deaths, 0));
    cr_assert(eq(int, pair_meet(&p.b, &p.a), 0));
    for (uint32_t i = 0; i < 100; i++)
        cr_assert(eq(int, pair_send(&p.b, i), 0));
    expect_all(&p, 100);
    cr_expect(eq(uint, p.a.news + p.b.news, 0), "nothing was lost");
    pair_close(&p);
}

Test(failover, a_window_that_is_full_before_the_answer_says_try_again)
{
    uint32_t sent = 0;
    struct pair p;

    answering();
    pair_open(&p, &(struct pair_plan){ .rails = 1, .apart = true });
    cr_assert(eq(int, pair_meet(&p.a, &p.b), 0));
    while (pair_send(&p.a, sent) == 0)
        sent++;
    cr_expect(eq(u32, sent, PW_GUARD_WINDOW));
    cr_assert(eq(int, pair_meet(&p.b, &p.a), 0));
    cr_expect(pair_until(&p, &p.b.received, sent));
    cr_expect(not(p.b.disorder));
    pair_close(&p);
}

Test(failover, transfers_before_the_answer_are_to_be_tried_again)
{
    struct pair_outcome done = { 0 };
    uint64_t memory = 5, local = 0;
    struct pw_key key = { 0 };
    struct pair p;

    answering();
    pair_open(&p, &(struct pair_plan){ .rails = 1, .apart = true });
    cr_assert(eq(int, pair_meet(&p.a, &p.b), 0));
    cr_assert(eq(int, pw_engine_register(p.b.e, &memory, 8, PW_READ, false, &key), 0));
    cr_expect(eq(int, pw_endpoint_get(p.a.ep, &local, (uintptr_t)&memory, 8, &key,
                                      pair_done, &done), -EAGAIN));
    cr_assert(eq(int, pair_meet(&p.b, &p.a), 0));
    cr_assert(until_path(&p, 0));
    cr_expect(ge(int, pw_endpoint_get(p.a.ep, &local, (uintptr_t)&memory, 8, &key,
                                      pair_done, &done), 0));
    pw_engine_deregister(p.b.e, &key);
    pair_close(&p);
}

/* ---- one path ---- */

/* The NIC knows, and has not yet said so. */
Test(failover, transfers_by_a_path_that_has_just_failed_are_to_be_tried_again)
{
    struct pair_outcome done = { 0 };
    uint64_t memory = 5, local = 0;
    struct pw_key key = { 0 };
    struct pair p;

    rails_open(&p, 1, 5000);
    cr_assert(until_path(&p, 0));
    cr_assert(eq(int, pw_engine_register(p.b.e, &memory, 8, PW_READ | PW_WRITE, false, &key),
                 0));
    fake_nic_fail(pair_nic(&p.a, 0), FAKE_GET, 1, 1, -EPIPE);
    cr_expect(eq(int, pw_endpoint_get(p.a.ep, &local, (uintptr_t)&memory, 8, &key,
                                      pair_done, &done), -EAGAIN));
    fake_nic_fail(pair_nic(&p.a, 0), FAKE_PUT, 1, 1, -EPIPE);
    cr_expect(eq(int, pw_endpoint_put(p.a.ep, &local, (uintptr_t)&memory, 8, &key,
                                      pair_done, &done), -EAGAIN));
    cr_expect(eq(uint, p.a.e->n_pending, 0));
    cr_expect(eq(uint, done.calls, 0));
    cr_expect(eq(u64, memory, 5));
    cr_expect(ge(int, pw_endpoint_get(p.a.ep, &local, (uintptr_t)&memory, 8, &key,
                                      pair_done, &done), 0));
    pair_turns(&p, 3);
    cr_expect(eq(u64, local, 5));
    pw_engine_deregister(p.b.e, &key);
    pair_close(&p);
}

Test(failover, a_path_that_returns_in_time_has_lost_nothing)
{
    struct pair p;

    rails_open(&p, 1, 30000);
    cr_assert(until_path(&p, 0));
    send_both(&p, 0, 300);
    cut(&p, 0);
    send_both(&p, 300, 600);
    pair_turns(&p, 300);
    cr_expect(eq(ptr, p.a.ep->path, NULL));
    mend(&p, 0);
    expect_all(&p, 600);
    pair_close(&p);
}

Test(failover, a_peer_without_a_path_for_too_long_is_dead_and_why_is_said)
{
    struct pair_note note;
    struct pair p;

    rails_open(&p, 2, 300);
    cr_assert(until_path(&p, -1));
    cut(&p, 0);
    cut(&p, 1);
    pair_turns(&p, 3);
    pair_queue(&p.a, &note, 0);
    cr_expect(eq(uint, p.a.deaths, 0));
    cr_expect(pair_until(&p, &p.a.deaths, 1));
    cr_expect(eq(int, p.a.cause, -ETIMEDOUT));
    cr_expect(ne(ptr, strstr(p.a.why, "no path for 0."), NULL), "%s", p.a.why);
    cr_expect(ne(ptr, strstr(p.a.why, "fake r0: the link was cut"), NULL), "%s", p.a.why);
    cr_expect(ne(ptr, strstr(p.a.why, "fake r1: "), NULL), "%s", p.a.why);
    cr_expect(eq(int, pair_send(&p.a, 0), -EPIPE));
    pair_close(&p);
}

Test(failover, a_peer_that_never_answers_is_dead_in_the_end)
{
    struct pair p;

    answering();
    pair_open(&p, &(struct pair_plan){ .rails = 1, .apart = true, .peer_timeout_ms = 200 });
    cut(&p, 0);
    cr_assert(eq(int, pair_meet(&p.a, &p.b), 0));
    cr_expect(eq(int, pair_send(&p.a, 0), 0));
    cr_expect(pair_until(&p, &p.a.deaths, 1));
    cr_expect(ne(ptr, strstr(p.a.why, "it has not answered"), NULL), "%s", p.a.why);
    pair_close(&p);
}

/* Its host says so: nobody waits for the timeout, which is beyond this test's. */
Test(failover, a_process_that_died_is_not_waited_for)
{
    struct pair p;

    rails_open(&p, 2, 1000000);
    cr_assert(until_path(&p, -1));
    fake_nic_die(pair_nic(&p.b, 0));
    fake_nic_die(pair_nic(&p.b, 1));
    cr_expect(pair_until(&p, &p.a.deaths, 1));
    cr_expect(ne(int, p.a.cause, 0));
    pair_close(&p);
}

Test(failover, a_peer_that_leaves_is_not_waited_for_either)
{
    struct pair p;

    rails_open(&p, 2, 1000000);
    cr_assert(until_path(&p, -1));
    send_both(&p, 0, 10);
    expect_all(&p, 10);
    pw_endpoint_close(p.b.ep);
    cr_expect(pair_until(&p, &p.a.deaths, 1));
    cr_expect(eq(int, p.a.cause, 0));
    pair_close(&p);
}

Test(failover, a_peer_that_breaks_the_rules_is_given_up)
{
    struct pair p;

    rails_open(&p, 1, 1000000);
    cr_assert(until_path(&p, 0));
    fake_nic_cut(pair_nic(&p.a, 0), pair_nic(&p.b, 0), -EPROTO);
    pair_turns(&p, 3);
    cr_expect(eq(uint, p.a.deaths, 1));
    cr_expect(eq(int, p.a.cause, -EPROTO));
    pair_close(&p);
}

/* Ranks of one host: they lost each other where a third one was away for long. */
Test(failover, a_path_that_needs_no_answer_is_not_waited_for)
{
    struct pair p;

    pair_open(&p, &(struct pair_plan){ .peer_timeout_ms = 1 });
    pw_failover_step(p.a.e, pw_now_ns() + 1000000000);
    cr_expect(pw_endpoint_alive(p.a.ep));
    cr_expect(eq(uint, p.a.deaths, 0));
    pair_close(&p);
}

Test(failover, closing_while_no_path_is_up)
{
    struct pair_note note;
    struct pair p;

    rails_open(&p, 2, 30000);
    cr_assert(until_path(&p, -1));
    cut(&p, 0);
    cut(&p, 1);
    pair_turns(&p, 200);
    pair_queue(&p.a, &note, 0);
    pw_endpoint_close(p.a.ep);
    cr_expect(eq(uint, p.a.e->n_lame, 0));
    cr_expect(eq(uint, p.a.e->n_busy, 0));
    cr_expect(eq(uint, p.a.e->n_owing, 0));
    pair_turns(&p, 200);
    pair_close(&p);
}

/* ---- two paths ---- */

Test(failover, one_of_two_rails_is_lost_and_returns)
{
    struct pair p;

    rails_open(&p, 2, 30000);
    cr_assert(until_path(&p, 0));
    send_both(&p, 0, 400);
    cut(&p, 0);
    send_both(&p, 400, 900);
    expect_all(&p, 900);
    cr_expect(eq(ptr, p.a.ep->path, &p.a.ep->paths[1]));
    cr_expect(eq(uint, p.a.news, 1));
    cr_expect(eq(str, p.a.told, "path fake r0 is lost: the link was cut; going on over "
                                "fake r1"));
    mend(&p, 0);
    cr_expect(until_path(&p, 0));
    send_both(&p, 900, 1000);
    expect_all(&p, 1000);
    cr_expect(eq(uint, p.a.news, 2));
    cr_expect(eq(str, p.a.told, "path fake r0 is back"));
    pair_close(&p);
}

Test(failover, the_rail_that_is_not_in_use_is_lost)
{
    struct pair p;

    rails_open(&p, 2, 30000);
    cr_assert(until_path(&p, 0));
    send_both(&p, 0, 100);
    cut(&p, 1);
    pair_turns(&p, 5);
    send_both(&p, 100, 200);
    expect_all(&p, 200);
    cr_expect(eq(ptr, p.a.ep->path, &p.a.ep->paths[0]));
    pair_close(&p);
}

static void flap(const struct fake_nic_faults *faults, bool pending)
{
    unsigned seed = 5;
    struct pair p;

    fake_nic_traits(&fake_nic_ops)->faults = *faults;
    fake_nic_traits(&fake_nic_ops)->pending = pending;
    rails_open(&p, 2, 30000);
    cr_assert(until_path(&p, -1));
    for (uint32_t i = 0; i < 20; i++) {
        int rail = rand_r(&seed) & 1;

        send_both(&p, i * 200, i * 200 + 100);
        cut(&p, rail);
        pair_turns(&p, rand_r(&seed) % 7);
        send_both(&p, i * 200 + 100, i * 200 + 200);
        mend(&p, rail);
        if (i % 3 == 0)
            cr_assert(until_path(&p, 0));
    }
    expect_all(&p, 4000);
    pair_close(&p);
}

Test(failover, rails_that_come_and_go_lose_and_repeat_nothing)
{
    flap(&(struct fake_nic_faults){ 0 }, false);
}

Test(failover, what_was_on_its_way_then_is_sent_again)
{
    flap(&(struct fake_nic_faults){ .delay = 4 }, false);
}

Test(failover, and_what_a_nic_had_not_sent_yet)
{
    flap(&(struct fake_nic_faults){ .delay = 2 }, true);
}

/* ---- doubts ---- */

/* As a NIC says it, in progress. */
static void doubt(struct pair_side *side, int rail, bool doubted)
{
    pw_engine_nic_upcalls.doubt(side->e, &side->ep->paths[rail], doubted);
}

static uint64_t times_doubted(const struct pair_side *side)
{
    struct pw_stats s;

    pw_engine_stats(side->e, &s);
    return s.doubted;
}

Test(failover, a_doubted_path_is_left_at_once_and_taken_again)
{
    struct pair p;

    rails_open(&p, 2, 30000);
    cr_assert(until_path(&p, 0));
    send_both(&p, 0, 100);
    doubt(&p.a, 0, true);
    cr_expect(eq(ptr, p.a.ep->path, &p.a.ep->paths[1]));
    cr_expect(pw_path_is_up(&p.a.ep->paths[0]));
    send_both(&p, 100, 300);
    doubt(&p.a, 0, false);
    cr_expect(eq(ptr, p.a.ep->path, &p.a.ep->paths[0]));
    send_both(&p, 300, 400);
    expect_all(&p, 400);
    cr_expect(eq(uint, p.a.news, 0), "nobody need be told");
    cr_expect(eq(u64, times_doubted(&p.a), 1));
    cr_expect(eq(u64, times_doubted(&p.b), 0));
    pair_close(&p);
}

/* What the other path brings meanwhile is taken; what the doubted one had comes late. */
Test(failover, what_a_doubted_path_had_comes_once)
{
    struct fake_nic_faults slow = { .delay = 100 }, none = { 0 };
    struct pair p;

    rails_open(&p, 2, 30000);
    cr_assert(until_path(&p, 0));
    fake_nic_set_faults(pair_nic(&p.a, 0), &slow);
    send_both(&p, 0, 50);
    doubt(&p.a, 0, true);
    cr_expect(pair_until(&p, &p.b.received, 50));
    cr_expect(lt(uint, 0, fake_nic_in_flight(pair_peer(&p.a, 0))));
    fake_nic_set_faults(pair_nic(&p.a, 0), &none);
    pair_turns(&p, 200);
    expect_all(&p, 50);
    pair_close(&p);
}

Test(failover, where_all_paths_are_doubted_the_one_in_use_stays)
{
    struct pair p;

    rails_open(&p, 2, 30000);
    cr_assert(until_path(&p, 0));
    doubt(&p.a, 1, true);
    cr_expect(eq(ptr, p.a.ep->path, &p.a.ep->paths[0]));
    doubt(&p.a, 0, true);
    cr_expect(eq(ptr, p.a.ep->path, &p.a.ep->paths[0]));
    doubt(&p.a, 1, false);
    cr_expect(eq(ptr, p.a.ep->path, &p.a.ep->paths[1]));
    doubt(&p.a, 1, true);
    cr_expect(eq(ptr, p.a.ep->path, &p.a.ep->paths[1]));
    send_both(&p, 0, 100);
    expect_all(&p, 100);
    pair_close(&p);
}

Test(failover, a_path_that_was_doubted_and_lost_is_trusted_when_it_returns)
{
    struct pair p;

    rails_open(&p, 2, 30000);
    cr_assert(until_path(&p, 0));
    doubt(&p.a, 0, true);
    cut(&p, 0);
    pair_turns(&p, 5);
    doubt(&p.a, 0, false);      /* of no importance: it is down */
    cr_expect(eq(ptr, p.a.ep->path, &p.a.ep->paths[1]));
    mend(&p, 0);
    cr_expect(until_path(&p, 0));
    cr_expect(not(pw_path_doubted(&p.a.ep->paths[0])));
    pair_close(&p);
}

Test(failover, a_doubted_path_gets_no_gets_where_there_is_another)
{
    uint64_t memory = 5, local = 0;
    struct pair_outcome done = { 0 };
    struct pw_key key = { 0 };
    struct pair p;

    rails_open(&p, 2, 30000);
    cr_assert(until_path(&p, 0));
    cr_assert(eq(int, pw_engine_register(p.b.e, &memory, 8, PW_READ, false, &key), 0));
    doubt(&p.a, 0, true);
    cr_expect(eq(int, pw_endpoint_get(p.a.ep, &local, (uintptr_t)&memory, 8, &key, pair_done,
                                      &done), 0));
    cr_expect(eq(u64, local, 5));
    cr_expect(eq(uint, fake_nic_calls(pair_nic(&p.a, 0), FAKE_GET), 0));
    cr_expect(eq(uint, fake_nic_calls(pair_nic(&p.a, 1), FAKE_GET), 1));
    doubt(&p.a, 1, true);
    cr_expect(eq(int, pw_endpoint_get(p.a.ep, &local, (uintptr_t)&memory, 8, &key, pair_done,
                                      &done), 0), "any is better than none");
    pw_engine_deregister(p.b.e, &key);
    pair_close(&p);
}

Test(failover, nics_are_asked_to_doubt_where_there_are_several_devices)
{
    struct pair p;

    rails_open(&p, 2, 30000);
    cr_expect(eq(uint, p.a.e->doubt_ms, 200));
    pair_close(&p);
    rails_open(&p, 1, 3000);
    cr_expect(eq(uint, p.a.e->doubt_ms, 0));
    pair_close(&p);
}

/* ---- what the network adds ---- */

Test(failover, each_time_that_a_path_comes_up_its_delay_is_measured)
{
    struct pair p;

    rails_open(&p, 2, 30000);
    cr_assert(until_path(&p, 0));
    cr_expect(eq(u32, p.a.ep->paths[0].delay_ns, 0));
    cut(&p, 0);
    cr_assert(until_path(&p, 1));
    pair_delay_ns = 99000;
    mend(&p, 0);
    cr_assert(until_path(&p, 0), "less than a tenth of a millisecond is next to nothing");
    cut(&p, 0);
    cr_assert(until_path(&p, 1));
    pair_delay_ns = 300000;
    mend(&p, 0);
    while (!pw_path_is_up(&p.a.ep->paths[0]) || !pw_path_is_up(&p.b.ep->paths[0]))
        pair_turns(&p, 1);
    cr_expect(eq(u32, p.a.ep->paths[0].delay_ns, 300000));
    cr_expect(eq(ptr, p.a.ep->path, &p.a.ep->paths[1]), "the other has less");
    send_both(&p, 0, 100);
    expect_all(&p, 100);
    pair_close(&p);
    pair_delay_ns = 0;
}

/* ---- links that say that they are back ---- */

Test(failover, a_link_that_is_back_is_tried_at_once)
{
    struct pw_path *path;
    struct pair p;

    rails_open(&p, 2, 30000);
    cr_assert(until_path(&p, 0));
    path = &p.a.ep->paths[0];
    cut(&p, 0);
    while (path->state != PW_PATH_DOWN)
        pair_turns(&p, 1);
    path->retry_ns = UINT64_MAX;    /* a second from now, and the test need not wait */
    path->retry_ms = 1000;
    pw_engine_nic_upcalls.restored(p.a.e, pair_nic(&p.a, 1));
    cr_expect(eq(u64, path->retry_ns, UINT64_MAX), "another one's");
    pw_engine_nic_upcalls.restored(p.a.e, pair_nic(&p.a, 0));
    cr_expect(eq(u64, path->retry_ns, 0));
    cr_expect(eq(uint, path->retry_ms, 0), "and soon again");
    mend(&p, 0);
    cr_expect(until_path(&p, 0));
    pair_close(&p);
}

/* ---- what it costs ---- */

Test(failover, nothing_is_sent_twice_on_a_path_that_stands)
{
    struct timespec pause = { .tv_nsec = 30 * 1000 * 1000 };
    struct pair p;

    rails_open(&p, 1, 30000);
    cr_assert(until_path(&p, 0));
    for (uint32_t i = 0; i < 50; i++)
        cr_assert(eq(int, pair_send(&p.a, i), 0));
    unsigned sent = fake_nic_calls(pair_nic(&p.a, 0), FAKE_SEND);
    nanosleep(&pause, NULL);    /* the receiver computes */
    for (int i = 0; i < 1000; i++)
        pw_engine_progress(p.a.e);
    cr_expect(eq(uint, fake_nic_calls(pair_nic(&p.a, 0), FAKE_SEND), sent));
    pair_close(&p);
}

Test(failover, an_exchange_needs_no_acknowledgements_of_their_own)
{
    struct pair p;

    rails_open(&p, 1, 30000);
    cr_assert(until_path(&p, 0));
    for (uint32_t i = 0; i < 1000; i++) {
        cr_assert(eq(int, pair_send(&p.a, i), 0));
        pw_engine_progress(p.b.e);
        cr_assert(eq(int, pair_send(&p.b, i), 0));
        pw_engine_progress(p.a.e);
    }
    expect_all(&p, 1000);
    cr_expect(lt(uint, fake_nic_calls(pair_nic(&p.a, 0), FAKE_SEND_INLINE), 100));
    cr_expect(lt(uint, fake_nic_calls(pair_nic(&p.b, 0), FAKE_SEND_INLINE), 100));
    pair_close(&p);
}

Test(failover, a_stream_is_acknowledged_now_and_then)
{
    struct pair p;

    rails_open(&p, 1, 30000);
    cr_assert(until_path(&p, 0));
    for (uint32_t i = 0; i < 10000; i++) {
        while (pair_send(&p.a, i) == -EAGAIN)
            pair_turns(&p, 1);
        pw_engine_progress(p.b.e);
    }
    cr_expect(pair_until(&p, &p.b.received, 10000));
    cr_expect(not(p.b.disorder));
    cr_expect(lt(uint, fake_nic_calls(pair_nic(&p.b, 0), FAKE_SEND_INLINE), 10000 / 20));
    for (int i = 0; i < 1000 && !pw_guard_quiet(p.a.ep->guard); i++)
        pair_turns(&p, 1);
    cr_expect(pw_guard_quiet(p.a.ep->guard), "the last ones too, in time");
    cr_expect(eq(uint, p.a.e->n_busy, 0));
    cr_expect(eq(uint, p.b.e->n_owing, 0));
    pair_close(&p);
}

Test(failover, frames_of_any_length_pass_through_the_ring_of_copies)
{
    static uint8_t bytes[16384];
    unsigned seed = 9;
    struct pair p;

    rails_open(&p, 1, 30000);
    cr_assert(until_path(&p, 0));
    for (unsigned i = 0; i < 3000; i++) {
        struct pw_iov iov = { bytes, 5 + rand_r(&seed) % 16000 };

        while (pw_endpoint_send(p.a.ep, 0, &iov, 1) == -EAGAIN)
            pair_turns(&p, 1);
    }
    cr_expect(pair_until(&p, &p.b.received, 3000));
    pair_close(&p);
}
