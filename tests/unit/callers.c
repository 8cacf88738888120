/* SPDX-License-Identifier: BSD-3-Clause */
/* callers.c - a peer that connects to us before we do: who it is, and what comes of it. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "btl/core/metrics.h"
#include "tests/unit/pair.h"

static const struct pair_plan apart = { .apart = true };

struct address {
    uint8_t bytes[2 * (PW_NIC_ADDRESS_MAX + 16)];
    size_t len;
};

static struct address address_of(struct pair_side *side)
{
    struct address a;
    int len = pw_engine_address(side->e, a.bytes, sizeof a.bytes);

    cr_assert(lt(int, 0, len));
    a.len = (size_t)len;
    return a;
}

static uint32_t fingerprint_of(struct pair_side *seen, struct pair_side *by, bool *near)
{
    struct address a = address_of(seen);

    uint32_t prints[PW_KEY_NICS];

    pw_engine_fingerprints(by->e, a.bytes, a.len, prints, near);
    return prints[0];
}

static uint64_t peers_connected(struct pair_side *side)
{
    struct pw_counts n;

    pw_engine_counts(side->e, &n);
    return n.peers_connected;
}

static int answer_error;
static uint32_t answered;       /* the fingerprint */

static void answer(struct pair_side *side)
{
    if (side->ep)
        return;
    answered = side->fingerprint;
    answer_error = pair_meet(side, side->other);
}

Test(callers, one_is_told_by_the_fingerprint_of_its_address)
{
    struct pair p;
    bool near;

    pair_open(&p, &apart);
    cr_expect(ne(u32, fingerprint_of(&p.a, &p.b, &near), fingerprint_of(&p.b, &p.b, &near)));
    cr_assert(eq(int, pair_meet(&p.a, &p.b), 0));
    pair_turns(&p, 1);
    cr_expect(eq(uint, p.b.callers, 1));
    cr_expect(eq(u32, p.b.fingerprint, fingerprint_of(&p.a, &p.b, &near)));
    cr_expect(near);
    cr_expect(eq(uint, p.a.callers, 0));
    pair_turns(&p, 3);
    cr_expect(lt(uint, 1, p.b.callers), "it comes again, for nobody has answered");
    pair_close(&p);
}

Test(callers, one_with_two_nics_is_told_by_the_first_too)
{
    struct pair p;
    bool near;

    pair_open(&p, &(struct pair_plan){ .apart = true, .two_nics = true });
    cr_assert(eq(int, pair_meet(&p.a, &p.b), 0));
    p.b.on_caller = answer;
    pw_engine_progress(p.b.e);
    cr_expect(eq(u32, answered, fingerprint_of(&p.a, &p.b, &near)));
    cr_expect(eq(int, p.b.ep->n_paths, 2));
    pair_close(&p);
}

Test(callers, an_address_of_another_host_is_not_near)
{
    uint32_t prints[PW_KEY_NICS];
    struct pair p;
    bool near = true;

    fake_nic_traits(&fake_nic_ops)->flags &= ~(uint32_t)PW_NIC_SAME_HOST;
    pair_open(&p, &apart);
    cr_expect(ne(u32, fingerprint_of(&p.a, &p.b, &near), 0));
    cr_expect(not(near));
    pw_engine_fingerprints(p.a.e, "nonsense", 8, prints, &near);
    cr_expect(eq(u32, prints[0], 0));
    pair_close(&p);
}

/* What it sent before waits for the endpoint that its call brings about. */
Test(callers, messages_arrive_when_the_upcall_opens_an_endpoint)
{
    for (int threads = 0; threads < 2; threads++) {
        struct pair p;

        pair_open(&p, &(struct pair_plan){ .apart = true, .threads = threads });
        p.b.on_caller = answer;
        answer_error = 1;
        cr_assert(eq(int, pair_meet(&p.a, &p.b), 0));
        cr_expect(eq(u64, peers_connected(&p.a), 1));
        cr_expect(eq(u64, peers_connected(&p.b), 0));
        for (uint32_t i = 0; i < 10; i++)
            cr_assert(eq(int, pair_send(&p.a, i), 0));
        cr_assert(pair_until(&p, &p.b.received, 10));
        cr_expect(eq(int, answer_error, 0));
        cr_expect(not(p.b.disorder));
        cr_expect(eq(u64, peers_connected(&p.b), 1));
        cr_expect(eq(uint, p.b.callers, 1), "who was answered is told of no more");
        cr_expect(eq(int, pair_send(&p.b, 0), 0));
        cr_assert(pair_until(&p, &p.a.received, 1));
        pw_endpoint_close(p.b.ep);
        cr_expect(eq(u64, peers_connected(&p.b), 0));
        pair_close(&p);
    }
}

Test(callers, one_that_cannot_be_connected_is_a_death)
{
    struct pair p;

    pair_open(&p, &apart);
    p.b.on_caller = answer;
    fake_nic_fail(pair_nic(&p.b, 0), FAKE_CONNECT, 1, 0, -ENOMEM);
    cr_assert(eq(int, pair_meet(&p.a, &p.b), 0));
    pair_turns(&p, 2);
    cr_expect(eq(int, answer_error, 0), "progress is to do it");
    cr_expect(eq(uint, p.b.deaths, 1));
    cr_expect(eq(int, p.b.cause, -ENOMEM));
    cr_expect(ne(ptr, strstr(p.b.why, "fake: "), NULL), "%s", p.b.why);
    cr_expect(eq(int, pair_send(&p.b, 0), -EPIPE));
    pair_close(&p);
}

Test(callers, what_a_caller_that_left_had_sent_still_arrives)
{
    struct pair p;

    pair_open(&p, &apart);
    p.b.on_caller = answer;
    cr_assert(eq(int, pair_meet(&p.a, &p.b), 0));
    for (uint32_t i = 0; i < 5; i++)
        cr_assert(eq(int, pair_send(&p.a, i), 0));
    pw_endpoint_close(p.a.ep);
    cr_assert(pair_until(&p, &p.b.deaths, 1));
    cr_expect(eq(uint, p.b.received, 5));
    cr_expect(eq(int, p.b.cause, 0));
    pair_close(&p);
}

/* ---- those who may call ---- */

Test(callers, ranks_that_nobody_talks_to_crowd_the_cores_too)
{
    struct pair p;

    pair_open(&p, &(struct pair_plan){ .apart = true, .cores = 3 });
    cr_expect(not(p.a.e->crowded));
    pw_engine_neighbours(p.a.e, 2, 0);
    cr_expect(not(p.a.e->crowded));
    pw_engine_neighbours(p.a.e, 3, 0);
    cr_expect(p.a.e->crowded);
    cr_assert(eq(int, pair_meet(&p.a, &p.b), 0));
    cr_expect(p.a.e->crowded, "it was one of the three");
    pw_engine_neighbours(p.a.e, 1, 0);
    cr_expect(not(p.a.e->crowded));
    pair_close(&p);
}

Test(callers, the_nic_is_told_how_many_may_call)
{
    struct pair p;

    pair_open(&p, &apart);
    cr_expect(eq(uint, pair_nic(&p.a, 0)->callers, 0));
    pw_engine_neighbours(p.a.e, 2, 0);
    cr_expect(eq(uint, pair_nic(&p.a, 0)->callers, 2));
    cr_assert(eq(int, pair_meet(&p.a, &p.b), 0));
    cr_expect(eq(uint, pair_nic(&p.a, 0)->callers, 1));
    pw_endpoint_close(p.a.ep);
    cr_expect(eq(uint, pair_nic(&p.a, 0)->callers, 2));
    pw_engine_neighbours(p.a.e, 0, 0);
    cr_expect(eq(uint, pair_nic(&p.a, 0)->callers, 0));
    pair_close(&p);
}
