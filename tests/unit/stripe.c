/* SPDX-License-Identifier: BSD-3-Clause */
/* stripe.c - transfers that go by two rails at once, and what becomes of their pieces when
 * something fails.
 *
 * The NICs are fakes that answer (PW_NIC_ANSWERS) and end gets and puts in a later call of
 * progress.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>
#include <time.h>

#include "btl/core/path.h"
#include "tests/unit/pair.h"

enum { LEN = 1 << 20 };

struct rig {
    struct pair p;
    char *here, *there;
    struct pw_key key;
    struct pair_outcome done;
};

static void rig_open(struct rig *g, unsigned timeout_ms, bool pending)
{
    struct fake_nic_traits *t = fake_nic_traits(&fake_nic_ops);

    t->flags = PW_NIC_PUT | PW_NIC_ANSWERS;
    t->pending = pending;
    t->bytes_per_s = 60000000;
    memset(g, 0, sizeof *g);
    pair_open(&g->p, &(struct pair_plan){ .rails = 2, .peer_timeout_ms = timeout_ms,
                                          .keyed = true });
    while (!pw_path_is_up(&g->p.a.ep->paths[0]) || !pw_path_is_up(&g->p.a.ep->paths[1]))
        pair_turns(&g->p, 1);
    g->here = malloc(LEN);
    g->there = malloc(LEN);
    for (int i = 0; i < LEN; i++) {
        g->here[i] = (char)(i % 251);
        g->there[i] = (char)(i % 241);
    }
    cr_assert(eq(int, pw_engine_register(g->p.b.e, g->there, LEN, PW_READ | PW_WRITE, false,
                                         &g->key), 0));
}

static void rig_close(struct rig *g)
{
    pw_engine_deregister(g->p.b.e, &g->key);
    pair_close(&g->p);
    free(g->here);
    free(g->there);
}

static int get(struct rig *g)
{
    return pw_endpoint_get(g->p.a.ep, g->here, (uintptr_t)g->there, LEN, &g->key, pair_done,
                           &g->done);
}

static int put(struct rig *g)
{
    return pw_endpoint_put(g->p.a.ep, g->here, (uintptr_t)g->there, LEN, &g->key, pair_done,
                           &g->done);
}

static struct pw_stats stats(struct rig *g)
{
    struct pw_stats s;

    pw_engine_stats(g->p.a.e, &s);
    return s;
}

static void expect_done(struct rig *g, int status)
{
    cr_assert(pair_until(&g->p, &g->done.calls, 1));
    pair_turns(&g->p, 200);
    cr_expect(eq(uint, g->done.calls, 1), "once");
    cr_expect(eq(int, g->done.status, status));
    cr_expect(eq(ptr, g->p.a.ep->stripes, NULL));
    cr_expect(not(g->p.a.ep->striping));
    if (!status)
        cr_expect(eq(int, memcmp(g->here, g->there, LEN), 0));
}

static unsigned calls(struct rig *g, int rail, enum fake_op op)
{
    return fake_nic_calls(pair_nic(&g->p.a, rail), op);
}

static unsigned fences(struct rig *g, int rail)
{
    return fake_nic_calls(pair_nic(&g->p.b, rail), FAKE_FENCE);
}

static void cut(struct rig *g, int rail)
{
    fake_nic_cut(pair_nic(&g->p.a, rail), pair_nic(&g->p.b, rail), -ETIMEDOUT);
}

Test(stripe, a_get_goes_by_both_rails)
{
    struct rig g;

    rig_open(&g, 0, true);
    cr_expect(eq(int, get(&g), PW_NIC_PENDING));
    expect_done(&g, 0);
    cr_expect(lt(uint, 1, calls(&g, 0, FAKE_GET)));
    cr_expect(lt(uint, 1, calls(&g, 1, FAKE_GET)));
    cr_expect(eq(u64, stats(&g).striped, 1));
    cr_expect(eq(u64, stats(&g).direct_bytes, LEN));
    rig_close(&g);
}

Test(stripe, a_put_goes_by_both_rails)
{
    struct rig g;

    rig_open(&g, 0, true);
    cr_expect(eq(int, put(&g), PW_NIC_PENDING));
    expect_done(&g, 0);
    cr_expect(lt(uint, 1, calls(&g, 0, FAKE_PUT)));
    cr_expect(lt(uint, 1, calls(&g, 1, FAKE_PUT)));
    rig_close(&g);
}

/* A callback would come before the caller knows that there is one to come. */
Test(stripe, what_nics_do_at_once_needs_no_callback)
{
    struct rig g;

    rig_open(&g, 0, false);
    cr_expect(eq(int, get(&g), 0));
    cr_expect(eq(int, memcmp(g.here, g.there, LEN), 0));
    pair_turns(&g.p, 100);
    cr_expect(eq(uint, g.done.calls, 0));
    cr_expect(eq(u64, stats(&g).striped, 1));
    rig_close(&g);
}

Test(stripe, what_is_short_goes_by_one)
{
    struct pair_outcome done = { 0 };
    struct rig g;

    rig_open(&g, 0, true);
    cr_expect(eq(int, pw_endpoint_get(g.p.a.ep, g.here, (uintptr_t)g.there, 20000, &g.key,
                                      pair_done, &done), PW_NIC_PENDING));
    cr_assert(pair_until(&g.p, &done.calls, 1));
    cr_expect(eq(uint, calls(&g, 0, FAKE_GET), 1));
    cr_expect(eq(uint, calls(&g, 1, FAKE_GET), 0));
    cr_expect(eq(u64, stats(&g).striped, 0));
    cr_expect(eq(uint, g.p.a.ep->paths[0].share.pieces, 0), "and is timed");
    cr_expect(g.p.a.ep->paths[0].share.begun);
    rig_close(&g);
}

Test(stripe, with_one_rail_up_it_goes_by_that)
{
    struct rig g;

    rig_open(&g, 0, true);
    cut(&g, 0);
    while (pw_path_is_up(&g.p.a.ep->paths[0]))
        pair_turns(&g.p, 1);
    cr_expect(eq(int, get(&g), PW_NIC_PENDING));
    expect_done(&g, 0);
    cr_expect(eq(uint, calls(&g, 1, FAKE_GET), 1));
    cr_expect(eq(u64, stats(&g).striped, 0));
    rig_close(&g);
}

Test(stripe, a_rail_that_is_lost_gives_its_pieces_to_the_other)
{
    struct rig g;

    rig_open(&g, 0, true);
    cr_assert(eq(int, get(&g), PW_NIC_PENDING));
    cut(&g, 1);
    expect_done(&g, 0);
    cr_expect(lt(u64, 0, stats(&g).striped_again));
    cr_expect(eq(u64, stats(&g).stream_bytes, 0), "not by frames");
    cr_expect(eq(uint, fences(&g, 1), 0), "we write nothing more ourselves");
    rig_close(&g);
}

Test(stripe, a_put_whose_rail_is_lost_as_well)
{
    struct rig g;

    rig_open(&g, 0, true);
    cr_assert(eq(int, put(&g), PW_NIC_PENDING));
    cut(&g, 0);
    expect_done(&g, 0);
    cr_expect(lt(u64, 0, stats(&g).striped_again));
    cr_expect(lt(u64, 0, stats(&g).stream_bytes), "by frames, behind the fence");
    cr_expect(eq(uint, fences(&g, 0), 1));
    cr_expect(eq(uint, fences(&g, 1), 0));
    rig_close(&g);
}

/* What of it lies unread at the other end must not come upon what is put there later. */
Test(stripe, a_short_put_whose_rail_is_lost_is_fenced_too)
{
    struct pair_outcome done = { 0 };
    struct rig g;

    rig_open(&g, 0, true);
    for (int lap = 1; lap <= 2; lap++) {
        done.calls = 0;
        cr_assert(eq(int, pw_endpoint_put(g.p.a.ep, g.here, (uintptr_t)g.there, 20000, &g.key,
                                          pair_done, &done), PW_NIC_PENDING));
        cut(&g, 0);
        cr_assert(pair_until(&g.p, &done.calls, 1));
        cr_expect(eq(int, done.status, 0));
        cr_expect(eq(int, memcmp(g.here, g.there, 20000), 0));
        cr_expect(eq(uint, fences(&g, 0), lap), "once for each loss");
        fake_nic_mend(pair_nic(&g.p.a, 0), pair_nic(&g.p.b, 0));
        while (!pw_path_is_up(&g.p.a.ep->paths[0]))
            pair_turns(&g.p, 1);
    }
    rig_close(&g);
}

/* Soon: not at once where the other one seems to be much faster. */
Test(stripe, a_rail_that_returns_has_pieces_again)
{
    uint64_t until = pw_now_ns() + UINT64_C(20000000000);
    unsigned before;
    struct rig g;

    rig_open(&g, 0, true);
    cut(&g, 1);
    cr_assert(eq(int, get(&g), PW_NIC_PENDING));
    expect_done(&g, 0);
    fake_nic_mend(pair_nic(&g.p.a, 1), pair_nic(&g.p.b, 1));
    while (!pw_path_is_up(&g.p.a.ep->paths[1]))
        pair_turns(&g.p, 1);
    cr_expect(not(g.p.a.ep->paths[1].broken));
    before = calls(&g, 1, FAKE_GET);
    do {
        g.done.calls = 0;
        cr_assert(eq(int, get(&g), PW_NIC_PENDING));
        expect_done(&g, 0);
    } while (calls(&g, 1, FAKE_GET) == before && pw_now_ns() < until);
    cr_expect(lt(uint, before, calls(&g, 1, FAKE_GET)));
    rig_close(&g);
}

Test(stripe, both_are_lost_and_one_returns)
{
    struct rig g;

    rig_open(&g, 0, true);
    cr_assert(eq(int, get(&g), PW_NIC_PENDING));
    cut(&g, 0);
    cut(&g, 1);
    pair_turns(&g.p, 300);
    cr_expect(eq(uint, g.done.calls, 0));
    fake_nic_mend(pair_nic(&g.p.a, 1), pair_nic(&g.p.b, 1));
    expect_done(&g, 0);
    rig_close(&g);
}

/* Also while no piece of it is under way, and for those that begin later. */
Test(stripe, a_flush_waits_for_the_whole)
{
    uint32_t at = 0;
    uint64_t begun;
    struct rig g;

    rig_open(&g, 0, true);
    begun = pw_ops_begun(g.p.a.e);
    cr_expect(eq(int, get(&g), PW_NIC_PENDING));
    cr_expect(not(pw_ops_before(g.p.a.e, begun, &at)));
    begun = pw_ops_begun(g.p.a.e);
    cut(&g, 0);
    cut(&g, 1);
    pair_turns(&g.p, 50);
    at = 0;
    cr_expect(pw_ops_before(g.p.a.e, begun, &at));
    cr_expect(lt(u32, 0, g.p.a.e->n_pending));
    fake_nic_mend(pair_nic(&g.p.a, 1), pair_nic(&g.p.b, 1));
    while (pw_ops_before(g.p.a.e, begun, &at))
        pair_turns(&g.p, 1);
    cr_expect(eq(uint, g.done.calls, 1));
    cr_expect(eq(u32, g.p.a.e->n_pending, 0));
    rig_close(&g);
}

Test(stripe, none_returns_and_the_whole_fails_once)
{
    struct rig g;

    rig_open(&g, 300, true);
    cr_assert(eq(int, get(&g), PW_NIC_PENDING));
    cut(&g, 0);
    cut(&g, 1);
    expect_done(&g, -EPIPE);
    cr_expect(eq(uint, g.p.a.deaths, 1));
    rig_close(&g);
}

Test(stripe, closing_while_pieces_are_under_way)
{
    struct rig g;

    rig_open(&g, 0, true);
    cr_assert(eq(int, get(&g), PW_NIC_PENDING));
    pw_endpoint_close(g.p.a.ep);
    cr_expect(eq(uint, g.done.calls, 1));
    cr_expect(eq(int, g.done.status, -ECANCELED));
    pair_turns(&g.p, 50);
    cr_expect(eq(uint, g.p.a.e->n_busy, 0));
    cr_expect(eq(uint, g.done.calls, 1));
    rig_close(&g);
}

Test(stripe, what_is_wanted_says_from_which_length_on)
{
    static const struct { enum pw_want want; size_t len; unsigned striped; } all[] = {
        { PW_WANT_LATENCY, 40000, 0 }, { PW_WANT_AUTO, 40000, 0 },
        { PW_WANT_BANDWIDTH, 40000, 1 }, { PW_WANT_LATENCY, 140000, 1 },
        { PW_WANT_AUTO, 140000, 2 }, { PW_WANT_LATENCY, LEN, 3 },
    };
    struct rig g;

    rig_open(&g, 0, true);
    for (int i = 0; i < 2; i++)     /* 40000 bytes take 40 us */
        pair_nic(&g.p.a, i)->info.bytes_per_s = 1000000000;
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        struct pair_outcome done = { 0 };

        g.p.a.e->config.want = all[i].want;
        for (int j = 0; j < 2; j++)
            g.p.a.ep->paths[j].share = (struct pw_share){ .out = 0 };
        cr_assert(eq(int, pw_endpoint_get(g.p.a.ep, g.here, (uintptr_t)g.there, all[i].len,
                                          &g.key, pair_done, &done), PW_NIC_PENDING));
        cr_assert(pair_until(&g.p, &done.calls, 1));
        cr_expect(eq(u64, stats(&g).striped, all[i].striped), "%zu bytes, case %u",
                  all[i].len, i);
    }
    rig_close(&g);
}

/* ---- doubts ---- */

static void doubt(struct rig *g, int rail, bool doubted)
{
    pw_engine_nic_upcalls.doubt(g->p.a.e, &g->p.a.ep->paths[rail], doubted);
}

Test(stripe, a_doubted_rail_keeps_what_it_has_and_gets_no_more)
{
    unsigned before;
    struct rig g;

    rig_open(&g, 0, true);
    cr_assert(eq(int, get(&g), PW_NIC_PENDING));
    doubt(&g, 1, true);
    before = calls(&g, 1, FAKE_GET);
    cr_expect(lt(uint, 0, before));
    expect_done(&g, 0);
    cr_expect(eq(uint, calls(&g, 1, FAKE_GET), before));
    cr_expect(eq(u64, stats(&g).striped_again, 0));
    rig_close(&g);
}

Test(stripe, with_a_doubted_rail_it_goes_by_the_other_alone)
{
    struct rig g;

    rig_open(&g, 0, true);
    doubt(&g, 0, true);
    cr_assert(eq(int, get(&g), PW_NIC_PENDING));
    expect_done(&g, 0);
    cr_expect(eq(uint, calls(&g, 0, FAKE_GET), 0));
    cr_expect(eq(u64, stats(&g).striped, 0));
    rig_close(&g);
}

Test(stripe, where_all_rails_are_doubted_they_go_on)
{
    struct rig g;

    rig_open(&g, 0, true);
    cr_assert(eq(int, get(&g), PW_NIC_PENDING));
    doubt(&g, 0, true);
    doubt(&g, 1, true);
    expect_done(&g, 0);
    cr_expect(eq(u64, stats(&g).stream_bytes, 0), "not by frames");
    rig_close(&g);
}

/* ---- what a NIC may say to a piece ---- */

Test(stripe, no_room_now_is_room_later)
{
    struct rig g;

    rig_open(&g, 0, true);
    fake_nic_fail(pair_nic(&g.p.a, 0), FAKE_GET, 1, 3, -EAGAIN);
    fake_nic_fail(pair_nic(&g.p.a, 1), FAKE_GET, 1, 2, -EAGAIN);
    cr_expect(eq(int, get(&g), PW_NIC_PENDING));
    expect_done(&g, 0);
    rig_close(&g);
}

Test(stripe, a_rail_that_says_it_is_down_is_left_alone)
{
    unsigned before;
    struct rig g;

    rig_open(&g, 0, true);
    fake_nic_fail(pair_nic(&g.p.a, 1), FAKE_GET, 1, 0, -EPIPE);
    cr_expect(eq(int, get(&g), PW_NIC_PENDING));
    expect_done(&g, 0);
    before = calls(&g, 1, FAKE_GET);
    cr_expect(eq(uint, before, 1));
    cr_expect(g.p.a.ep->paths[1].broken);
    rig_close(&g);
}

Test(stripe, memory_that_no_rail_reaches_any_more_goes_by_frames)
{
    struct rig g;

    rig_open(&g, 0, true);
    fake_nic_fail(pair_nic(&g.p.a, 0), FAKE_GET, 2, 0, -EOPNOTSUPP);
    fake_nic_fail(pair_nic(&g.p.a, 1), FAKE_GET, 2, 0, -EOPNOTSUPP);
    cr_expect(eq(int, get(&g), PW_NIC_PENDING));
    expect_done(&g, 0);
    rig_close(&g);
}

Test(stripe, a_put_that_no_rail_takes_any_more_goes_by_frames)
{
    struct rig g;

    rig_open(&g, 0, true);
    fake_nic_fail(pair_nic(&g.p.a, 0), FAKE_PUT, 2, 0, -EOPNOTSUPP);
    fake_nic_fail(pair_nic(&g.p.a, 1), FAKE_PUT, 2, 0, -EOPNOTSUPP);
    cr_expect(eq(int, put(&g), PW_NIC_PENDING));
    expect_done(&g, 0);
    rig_close(&g);
}

Test(stripe, a_piece_that_is_refused_fails_the_whole)
{
    struct rig g;

    rig_open(&g, 0, true);
    fake_nic_fail(pair_nic(&g.p.a, 1), FAKE_GET, 2, 1, -EFAULT);
    cr_expect(eq(int, get(&g), PW_NIC_PENDING), "others are under way");
    cr_expect(eq(uint, g.done.calls, 0));
    expect_done(&g, -EFAULT);
    cr_expect(lt(uint, calls(&g, 0, FAKE_GET) + calls(&g, 1, FAKE_GET), 6));
    rig_close(&g);
}

Test(stripe, refused_at_once_there_is_no_callback)
{
    struct rig g;

    rig_open(&g, 0, true);
    fake_nic_fail(pair_nic(&g.p.a, 0), FAKE_GET, 1, 0, -EFAULT);
    fake_nic_fail(pair_nic(&g.p.a, 1), FAKE_GET, 1, 0, -EFAULT);
    cr_expect(eq(int, get(&g), -EFAULT));
    pair_turns(&g.p, 50);
    cr_expect(eq(uint, g.done.calls, 0));
    rig_close(&g);
}

Test(stripe, a_piece_that_ends_badly_fails_the_whole)
{
    struct rig g;

    rig_open(&g, 0, true);
    fake_nic_fail(pair_nic(&g.p.a, 1), FAKE_COMPLETE, 1, 1, -EIO);
    cr_expect(eq(int, get(&g), PW_NIC_PENDING));
    expect_done(&g, -EIO);
    rig_close(&g);
}

/* ---- many ---- */

Test(stripe, so_many_may_wait_and_no_more)
{
    struct pair_outcome done = { 0 };
    unsigned n = 0;
    struct rig g;

    rig_open(&g, 0, true);
    while (pw_endpoint_get(g.p.a.ep, g.here, (uintptr_t)g.there, LEN, &g.key, pair_done,
                           &done) == PW_NIC_PENDING && n < 1000)
        n++;
    cr_expect(eq(uint, n, 64));
    cr_expect(eq(int, get(&g), -EAGAIN));
    cr_expect(pair_until(&g.p, &done.calls, n));
    cr_expect(eq(int, done.status, 0));
    cr_expect(eq(int, get(&g), PW_NIC_PENDING));
    expect_done(&g, 0);
    rig_close(&g);
}

Test(stripe, many_while_rails_come_and_go)
{
    struct pair_outcome done = { 0 };
    unsigned n = 0;
    struct rig g;

    rig_open(&g, 0, true);
    for (int round = 0; round < 6; round++) {
        int rail = round & 1;

        for (int i = 0; i < 10; i++)
            n += pw_endpoint_get(g.p.a.ep, g.here, (uintptr_t)g.there, LEN, &g.key,
                                 pair_done, &done) == PW_NIC_PENDING;
        pair_turns(&g.p, 3);
        cut(&g, rail);
        pair_turns(&g.p, 3);
        fake_nic_mend(pair_nic(&g.p.a, rail), pair_nic(&g.p.b, rail));
        while (!pw_path_is_up(&g.p.a.ep->paths[rail]))
            pair_turns(&g.p, 1);
    }
    cr_expect(pair_until(&g.p, &done.calls, n));
    pair_turns(&g.p, 200);
    cr_expect(eq(uint, done.calls, n));
    cr_expect(eq(int, done.status, 0));
    cr_expect(eq(int, memcmp(g.here, g.there, LEN), 0));
    cr_expect(eq(uint, g.p.a.deaths, 0));
    rig_close(&g);
}
