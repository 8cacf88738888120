/* SPDX-License-Identifier: BSD-3-Clause */
/* rescue.c - a get whose owner does not answer is done by the kernel.
 *
 * The time is what the test says it is: engines make progress only where written.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "btl/core/rescue.h"
#include "tests/unit/pair.h"

enum { LEN = 100000, US = 1000, LATER = 10000 * US };

/* A get of LEN bytes from a silent owner, streamed. */
struct rig {
    struct pair p;
    struct pw_key key;
    struct pair_outcome done;
    unsigned char *mine, *theirs;
};

static void rig_get(struct rig *r)
{
    cr_assert(eq(int, pw_endpoint_get(r->p.a.ep, r->mine, (uintptr_t)r->theirs, LEN, &r->key,
                                      pair_done, &r->done), PW_NIC_PENDING));
}

static void rig_open(struct rig *r, const struct pair_plan *plan)
{
    fake_nic_traits(&fake_nic_ops)->flags |= PW_NIC_PROMPT;
    memset(r, 0, sizeof *r);
    pair_get_error = 0;
    pair_open(&r->p, plan);
    r->mine = malloc(LEN);
    r->theirs = malloc(LEN);
    memset(r->mine, 0xee, LEN);
    for (int i = 0; i < LEN; i++)
        r->theirs[i] = (unsigned char)(i * 7 + (i >> 8));
    cr_assert(eq(int, pw_engine_register(r->p.b.e, r->theirs, LEN, PW_READ, false, &r->key),
                 0));
    rig_get(r);
}

static void rig_close(struct rig *r)
{
    pw_engine_deregister(r->p.b.e, &r->key);
    cr_expect(eq(uint, r->p.a.e->n_rescues, 0));
    pair_close(&r->p);
    free(r->mine);
    free(r->theirs);
}

static const struct pair_plan plan = { .kernel = true, .bulk = PW_BULK_STREAM };

static void expect_done(struct rig *r, unsigned rescued)
{
    struct pw_stats stats;

    cr_expect(eq(uint, r->done.calls, 1));
    cr_expect(eq(int, r->done.status, 0));
    cr_expect(eq(int, memcmp(r->mine, r->theirs, LEN), 0));
    pw_engine_stats(r->p.a.e, &stats);
    cr_expect(eq(u64, stats.rescued, rescued));
}

/* Of two looks in silence the second one, so much later. */
static int look_after(struct rig *r, uint64_t ns)
{
    pw_rescue_look(r->p.a.e, 1000);
    return pw_rescue_look(r->p.a.e, 1000 + ns);
}

Test(rescue, a_silent_owners_memory_is_copied_by_the_kernel)
{
    struct rig r;

    rig_open(&r, &plan);
    cr_expect(eq(int, look_after(&r, LATER), 1));
    expect_done(&r, 1);
    rig_close(&r);
}

Test(rescue, an_owner_has_some_time)
{
    struct rig r;

    rig_open(&r, &plan);
    cr_expect(eq(int, look_after(&r, 5 * US), 0), "100 KB by the kernel take 8 us");
    cr_expect(eq(uint, r.done.calls, 0));
    cr_expect(eq(int, look_after(&r, 250 * US), 1));
    rig_close(&r);
}

/* What the owner sends meanwhile finds nothing, and it stops. */
Test(rescue, an_owner_that_comes_late_sends_no_more)
{
    struct rig r;

    rig_open(&r, &plan);
    cr_assert(eq(int, look_after(&r, LATER), 1));
    memset(r.mine, 0x55, LEN);      /* the caller's again */
    pair_turns(&r.p, 50);
    for (int i = 0; i < LEN; i++)
        cr_assert(eq(u8, r.mine[i], 0x55), "byte %d", i);
    cr_expect(eq(ptr, r.p.b.ep->streams, NULL));
    cr_expect(eq(int, r.p.b.ep->waiting, false));
    cr_expect(eq(uint, r.done.calls, 1));

    r.done = (struct pair_outcome){ 0 };
    rig_get(&r);
    cr_expect(pair_until(&r.p, &r.done.calls, 1));
    expect_done(&r, 1);
    rig_close(&r);
}

Test(rescue, what_has_come_is_not_copied_again)
{
    struct pw_stats stats;
    struct rig r;

    rig_open(&r, &(struct pair_plan){ .kernel = true, .bulk = PW_BULK_STREAM,
                                      .queue_bytes = 16384 });
    pw_engine_progress(r.p.b.e);
    pw_engine_progress(r.p.a.e);
    cr_assert(eq(int, look_after(&r, LATER), 1));
    expect_done(&r, 1);
    pw_engine_stats(r.p.a.e, &stats);
    cr_expect(lt(u64, stats.kernel_bytes, LEN));
    pair_turns(&r.p, 50);
    expect_done(&r, 1);
    rig_close(&r);
}

Test(rescue, an_owner_that_sends_something_else_is_not_silent)
{
    struct rig r;

    rig_open(&r, &plan);
    pw_rescue_look(r.p.a.e, 1000);
    for (uint64_t t = 1; t < 20; t++) {
        r.p.a.ep->heard++;
        cr_expect(eq(int, pw_rescue_look(r.p.a.e, 1000 + t * LATER), 0));
    }
    cr_expect(eq(int, pw_rescue_look(r.p.a.e, 1000 + 20 * LATER), 1));
    rig_close(&r);
}

Test(rescue, a_kernel_that_refuses_is_asked_once)
{
    struct rig r;

    rig_open(&r, &plan);
    pair_get_error = -EOPNOTSUPP;
    cr_expect(eq(int, look_after(&r, LATER), 0));
    cr_expect(eq(uint, r.p.a.e->n_rescues, 0));
    cr_expect(eq(int, look_after(&r, 100 * LATER), 0));
    cr_expect(eq(uint, r.done.calls, 0));
    cr_expect(pair_until(&r.p, &r.done.calls, 1), "the owner answers in the end");
    expect_done(&r, 0);
    rig_close(&r);
}

Test(rescue, without_a_word_to_the_owner_nothing_is_called_off)
{
    struct rig r;

    rig_open(&r, &plan);
    r.p.a.ep->dead = true;
    cr_expect(eq(int, look_after(&r, LATER), 0));
    r.p.a.ep->dead = false;
    cr_expect(pair_until(&r.p, &r.done.calls, 1));
    rig_close(&r);
}

/* The owner may be in the middle of its copy, into memory that is the caller's when
 * the get is done. */
Test(rescue, an_offered_buffer_is_left_to_the_owner)
{
    struct pair_outcome done = { 0 };
    struct rig r;
    void *mine;

    rig_open(&r, &(struct pair_plan){ .kernel = true, .offers = true,
                                      .bulk = PW_BULK_STREAM });
    look_after(&r, LATER);
    mine = pw_pool_alloc(r.p.a.pool, LEN, 0);
    fake_nic_traits(&fake_nic_ops)->flags |= PW_NIC_SAME_HOST;
    r.p.a.e->nics[0]->info.flags |= PW_NIC_SAME_HOST;
    cr_assert(eq(int, pw_endpoint_get(r.p.a.ep, mine, (uintptr_t)r.theirs, LEN, &r.key,
                                      pair_done, &done), PW_NIC_PENDING));
    cr_expect(eq(uint, r.p.a.e->n_rescues, 0));
    cr_expect(eq(int, look_after(&r, LATER), 0));
    cr_expect(pair_until(&r.p, &done.calls, 1));
    pw_pool_free(r.p.a.pool, mine);
    rig_close(&r);
}

Test(rescue, who_waits_looks_by_itself)
{
    struct rig r;

    rig_open(&r, &plan);
    for (uint64_t end = pw_now_ns() + 30000000000u; !r.done.calls && pw_now_ns() < end;)
        pw_engine_progress(r.p.a.e);
    expect_done(&r, 1);
    rig_close(&r);
}

Test(rescue, a_dead_owners_get_fails_as_ever)
{
    struct rig r;

    rig_open(&r, &plan);
    pw_endpoint_kill(r.p.a.ep, ECONNRESET, "gone");
    cr_expect(eq(uint, r.done.calls, 1));
    cr_expect(eq(int, r.done.status, -EPIPE));
    cr_expect(eq(uint, r.p.a.e->n_rescues, 0));
    cr_expect(eq(int, look_after(&r, LATER), 0));
    rig_close(&r);
}

/* Too long, too short, of nothing: no harm. */
Test(rescue, nonsense_calls_nothing_off)
{
    const struct pw_f_cancel none = { 12345 };
    struct rig r;

    rig_open(&r, &plan);
    pair_forge(&r.p.a, pw_imm(PW_F_CANCEL, 0, 0), &none, sizeof none);
    pair_forge(&r.p.a, pw_imm(PW_F_CANCEL, 0, 0), &none, sizeof none - 1);
    pair_forge(&r.p.a, pw_imm(PW_F_CANCEL, 0, 0), "", 0);
    cr_expect(pair_until(&r.p, &r.done.calls, 1));
    expect_done(&r, 0);
    rig_close(&r);
}
