/* SPDX-License-Identifier: BSD-3-Clause */
/* transfer.c - get, put and atomics: whichever way they go, the bytes are right.
 *
 * serve.c, the other side of them, is the subject of tests/unit/serve.c.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "tests/unit/pair.h"

enum { FRAME_MAX = 2048, HEAD = sizeof(struct pw_f_data), GUARD = 64 };

/* A buffer between two strips that nobody may touch. */
struct strip {
    uint8_t *base, *data;
    size_t len;
};

static struct strip strip_in(void *base, size_t len, uint8_t seed)
{
    struct strip s = { base, (uint8_t *)base + GUARD, len };

    memset(base, 0xee, len + 2 * GUARD);
    for (size_t i = 0; i < len; i++)
        s.data[i] = (uint8_t)(seed + i * 7 + (i >> 8));
    return s;
}

static struct strip strip_new(size_t len, uint8_t seed)
{
    return strip_in(malloc(len + 2 * GUARD), len, seed);
}

static struct strip strip_in_pool(struct pw_pool *pool, size_t len, uint8_t seed)
{
    return strip_in(pw_pool_alloc(pool, len + 2 * GUARD, 0), len, seed);
}

static bool strip_whole(const struct strip *s)
{
    for (int i = 0; i < GUARD; i++)
        if (s->base[i] != 0xee || s->data[s->len + (size_t)i] != 0xee)
            return false;
    return true;
}

static uint64_t at(const void *p)
{
    return (uint64_t)(uintptr_t)p;
}

/* How a transfer is to go: what the NICs can, where our buffer is. */
struct way {
    struct pair_plan plan;
    uint32_t flags;         /* added to the fake NIC's */
    enum pw_reach reach;
    bool pending, in_pool;
};

static const struct way streamed = { .plan = { .chunk = 1024 } };

static void way_open(struct pair *p, const struct way *w)
{
    struct fake_nic_traits *t = fake_nic_traits(&fake_nic_ops);

    t->frame_max = FRAME_MAX;
    t->flags |= w->flags;
    t->pending = w->pending;
    if (w->reach)
        t->pool_reach = t->other_reach = w->reach;
    pair_open(p, &w->plan);
}

/* One transfer of that size there and then checked; the way it went is in the
 * statistics that are returned. */
static struct pw_stats carry(const struct way *w, bool put, size_t len)
{
    struct pair_outcome done = { 0 };
    struct pw_key key = { 0 };
    struct strip mine, theirs;
    struct pw_stats stats;
    struct pair p;
    int err;

    way_open(&p, w);
    mine = w->in_pool ? strip_in_pool(p.a.pool, len, 1) : strip_new(len, 1);
    theirs = strip_new(len, 99);
    cr_assert(eq(int, pw_engine_register(p.b.e, theirs.data, len, PW_READ | PW_WRITE,
                                         false, &key), 0));
    err = put ? pw_endpoint_put(p.a.ep, mine.data, at(theirs.data), len, &key, pair_done,
                                &done)
              : pw_endpoint_get(p.a.ep, mine.data, at(theirs.data), len, &key, pair_done,
                                &done);
    if (err == PW_NIC_PENDING)
        cr_expect(pair_until(&p, &done.calls, 1));
    else
        cr_expect(eq(int, err, 0));
    pair_turns(&p, 3);
    cr_expect(eq(uint, done.calls, err == PW_NIC_PENDING));
    cr_expect(eq(int, done.status, 0));
    cr_expect(eq(int, memcmp(mine.data, theirs.data, len), 0), "%zu bytes", len);
    cr_expect(eq(u8, theirs.data[len - 1],
                 (uint8_t)((put ? 1 : 99) + (len - 1) * 7 + ((len - 1) >> 8))));
    cr_expect(strip_whole(&mine));
    cr_expect(strip_whole(&theirs));
    cr_expect(eq(uint, p.a.e->n_pending, 0));
    pw_engine_stats(p.a.e, &stats);
    pw_engine_deregister(p.b.e, &key);
    pair_close(&p);
    if (!w->in_pool)
        free(mine.base);
    free(theirs.base);
    return stats;
}

/* Around the size of a piece, of a frame, and of several. */
static const size_t sizes[] = {
    1, 7, 8, 9, 63, 64, 65, 1023, 1024, 1025, 2047, 2048, 2049,
    FRAME_MAX - HEAD - 1, FRAME_MAX - HEAD, FRAME_MAX - HEAD + 1,
    2 * (FRAME_MAX - HEAD) - 1, 2 * (FRAME_MAX - HEAD), 2 * (FRAME_MAX - HEAD) + 1,
    10000, 300000,
};
enum { N_SIZES = sizeof sizes / sizeof sizes[0] };

static void carry_all(const struct way *w, bool put)
{
    for (int i = 0; i < N_SIZES; i++)
        carry(w, put, sizes[i]);
}

/* ---- by frames ---- */

/* In how many pieces n gets of that size come, which are asked for at once. */
static uint64_t frames_of(const struct pair_plan *plan, int n, size_t len)
{
    struct pair_outcome done = { 0 };
    struct pw_key key = { 0 };
    uint8_t *from = calloc(1, len), *to = calloc(1, len);
    struct pair p;
    uint64_t got;

    pair_open(&p, plan);
    cr_assert(eq(int, pw_engine_register(p.b.e, from, len, PW_READ, false, &key), 0));
    /* All of them wait before the first begins. */
    for (int i = 0; i < n; i++)
        cr_assert(eq(int, pw_endpoint_get(p.a.ep, to, at(from), len, &key, pair_done, &done),
                     PW_NIC_PENDING));
    cr_expect(pair_until(&p, &done.calls, (unsigned)n));
    got = p.a.ep->heard;
    pw_engine_deregister(p.b.e, &key);
    pair_close(&p);
    free(from);
    free(to);
    return got;
}

Test(transfer, long_ones_come_in_larger_pieces)
{
    const struct pair_plan usual = { .chunk = 64 }, grows = { .chunk = 64, .chunk_most = 256 };

    cr_expect(eq(u64, frames_of(&usual, 1, 16384), 256));
    cr_expect(eq(u64, frames_of(&grows, 1, 1984), 31));
    cr_expect(eq(u64, frames_of(&grows, 1, 4096), 32), "of 128");
    cr_expect(eq(u64, frames_of(&grows, 1, 8192), 32), "of 256");
    cr_expect(eq(u64, frames_of(&grows, 1, 16384), 64), "not more");
}

/* The narrow queue holds a part of the first; then the others are known to come. */
Test(transfer, pieces_are_larger_while_others_wait_behind)
{
    const struct pair_plan grows = { .chunk = 64, .chunk_most = 256, .queue_bytes = 4096 };

    cr_expect(eq(u64, frames_of(&grows, 1, 1984), 31));
    cr_expect(lt(u64, frames_of(&grows, 10, 1984), 10 * 31 / 2));
}

Test(transfer, a_get_is_streamed_in_pieces)
{
    carry_all(&streamed, false);
}

Test(transfer, a_put_is_streamed_in_pieces)
{
    carry_all(&streamed, true);
}

Test(transfer, pieces_are_no_larger_than_a_frame)
{
    const struct way big = { .plan = { .chunk = 1 << 20 } };

    carry_all(&big, false);
    carry_all(&big, true);
}

static unsigned pieces;

static void count_piece(uint32_t imm)
{
    pieces += pw_imm_kind(imm) == PW_F_PUT_DATA;
}

Test(transfer, pieces_are_as_large_as_was_configured)
{
    const struct way w = { .plan = { .chunk = 100 } };

    pair_after_send = count_piece;
    carry(&w, true, 1000);
    cr_expect(eq(uint, pieces, 10));
    carry(&w, true, 1001);
    cr_expect(eq(uint, pieces, 21));
}

Test(transfer, streams_get_through_a_narrow_queue)
{
    const struct way narrow = { .plan = { .chunk = 1024, .queue_bytes = 4096 } };

    carry(&narrow, false, 300000);
    carry(&narrow, true, 300000);
}

Test(transfer, streamed_bytes_are_counted_by_who_sends_them)
{
    cr_expect(eq(u64, carry(&streamed, true, 5000).stream_bytes, 5000));
    cr_expect(eq(u64, carry(&streamed, false, 5000).stream_bytes, 0));
}

Test(transfer, a_transfer_of_nothing_is_done_at_once)
{
    struct pw_key key = { .access = PW_READ | PW_WRITE };
    struct pair_outcome done = { 0 };
    struct pair p;
    char c;

    way_open(&p, &streamed);
    cr_expect(eq(int, pw_endpoint_get(p.a.ep, &c, 0, 0, &key, pair_done, &done), 0));
    cr_expect(eq(int, pw_endpoint_put(p.a.ep, &c, 0, 0, &key, pair_done, &done), 0));
    pair_turns(&p, 3);
    cr_expect(eq(uint, done.calls, 0));
    pair_close(&p);
}

Test(transfer, a_thousand_at_once_all_end_where_they_belong)
{
    enum { N = 1000, LEN = 300 };
    struct pair_outcome done[N] = { { 0 } };
    struct strip from = strip_new(N * LEN, 3), to = strip_new(N * LEN, 8);
    struct pw_key key = { 0 };
    struct pair p;

    way_open(&p, &streamed);
    memset(to.data, 0, to.len);
    cr_assert(eq(int, pw_engine_register(p.b.e, from.data, from.len, PW_READ, false, &key),
                 0));
    for (size_t i = 0; i < N; i++)
        cr_assert(eq(int, pw_endpoint_get(p.a.ep, to.data + i * LEN,
                                          at(from.data + i * LEN), LEN, &key, pair_done,
                                          &done[i]), PW_NIC_PENDING));
    cr_expect(eq(uint, p.a.e->n_pending, N));
    for (int i = 0; i < N; i++)
        cr_assert(pair_until(&p, &done[i].calls, 1));
    pair_turns(&p, 3);
    for (int i = 0; i < N; i++)
        cr_assert(eq(uint, done[i].calls, 1));
    cr_expect(eq(int, memcmp(from.data, to.data, N * LEN), 0));
    cr_expect(strip_whole(&to));
    pair_close(&p);
    free(from.base);
    free(to.base);
}

/* Both sides count their transfers from the same number, so a get of the peer and
 * a put of ours have one in common. */
Test(transfer, a_put_and_the_peers_get_of_the_same_number_both_end)
{
    enum { LEN = 300000 };
    struct pair_outcome put = { 0 }, get = { 0 };
    struct strip mine = strip_new(LEN, 1), theirs = strip_new(LEN, 2);
    uint8_t small[8] = { 1 }, there[8] = { 0 };
    struct pw_key key_a = { 0 }, key_b = { 0 };
    struct pair p;

    pair_open(&p, &(struct pair_plan){ .queue_bytes = 4096 });
    cr_assert(eq(int, pw_engine_register(p.a.e, mine.data, LEN, PW_READ, false, &key_a), 0));
    cr_assert(eq(int, pw_engine_register(p.b.e, there, 8, PW_WRITE, false, &key_b), 0));
    cr_assert(eq(int, pw_endpoint_put(p.a.ep, small, at(there), 8, &key_b, pair_done, &put),
                 PW_NIC_PENDING));
    cr_assert(eq(int, pw_endpoint_get(p.b.ep, theirs.data, at(mine.data), LEN, &key_a,
                                      pair_done, &get), PW_NIC_PENDING));
    cr_assert(eq(u64, p.a.e->ops[0]->id, p.b.e->ops[0]->id));
    cr_expect(pair_until(&p, &put.calls, 1));
    cr_assert(eq(uint, get.calls, 0), "the get is under way meanwhile");
    cr_expect(pair_until(&p, &get.calls, 1));
    cr_expect(eq(int, memcmp(mine.data, theirs.data, LEN), 0));
    pair_close(&p);
    free(mine.base);
    free(theirs.base);
}

/* ---- from and to our pool ---- */

static const struct way pushed = {
    .plan = { .offers = true, .chunk = 1024 }, .flags = PW_NIC_PROMPT, .in_pool = true,
};

Test(transfer, the_peer_puts_into_a_buffer_of_our_pool)
{
    struct pw_stats s = carry(&pushed, false, 100000);

    cr_expect(eq(u64, s.push_bytes, 100000));
    cr_expect(eq(u64, s.stream_bytes, 0));
    carry_all(&pushed, false);
}

Test(transfer, the_peer_takes_from_a_buffer_of_our_pool)
{
    struct pw_stats s = carry(&pushed, true, 100000);

    cr_expect(eq(u64, s.push_bytes, 100000));
    cr_expect(eq(u64, s.stream_bytes, 0), "no piece was sent");
    carry_all(&pushed, true);
}

/* As when the peer could not map our pool. */
Test(transfer, an_offer_that_cannot_be_reached_is_streamed)
{
    struct way w = pushed;
    struct pw_stats s;

    w.plan.offers = false;
    s = carry(&w, true, 100000);
    cr_expect(eq(u64, s.stream_bytes, 100000));
    carry_all(&w, true);
    carry_all(&w, false);
}

/* The offer would be met later; nobody would know when. */
Test(transfer, an_offer_over_a_nic_that_is_not_prompt_is_streamed)
{
    struct way w = pushed;

    w.flags = 0;
    cr_expect(eq(u64, carry(&w, true, 100000).stream_bytes, 100000));
    carry(&w, false, 100000);
}

/* ---- by the NIC ---- */

Test(transfer, a_nic_that_reaches_the_memory_does_it_alone)
{
    const struct way direct = { .plan = { .keyed = true }, .flags = PW_NIC_PROMPT };
    struct pw_stats s = carry(&direct, false, 5000);

    cr_expect(eq(u64, s.direct_bytes, 5000));
    cr_expect(eq(u64, carry(&direct, true, 5000).direct_bytes, 5000));
    carry_all(&direct, false);
    carry_all(&direct, true);
}

Test(transfer, a_nic_that_takes_its_time_calls_back)
{
    const struct way direct = { .plan = { .keyed = true }, .pending = true };

    cr_expect(eq(u64, carry(&direct, false, 5000).direct_bytes, 5000));
    cr_expect(eq(u64, carry(&direct, true, 5000).direct_bytes, 5000));
}

Test(transfer, the_kernel_copies_what_costs_more_in_frames)
{
    const struct way kernel = { .plan = { .keyed = true }, .flags = PW_NIC_PROMPT,
                                .reach = PW_REACH_KERNEL };

    cr_expect(eq(u64, carry(&kernel, true, 100).stream_bytes, 100));
    cr_expect(eq(u64, carry(&kernel, true, 10000).kernel_bytes, 10000));
    cr_expect(eq(u64, carry(&kernel, false, 10000).kernel_bytes, 10000));
}

Test(transfer, with_more_ranks_than_cores_the_kernel_copies_less_too)
{
    const struct way crowded = { .plan = { .keyed = true, .cores = 1 },
                                 .flags = PW_NIC_PROMPT, .reach = PW_REACH_KERNEL };

    cr_expect(eq(u64, carry(&crowded, true, 100).kernel_bytes, 100));
    cr_expect(eq(u64, carry(&crowded, false, 100).kernel_bytes, 100));
}

Test(transfer, a_passive_owners_memory_goes_through_the_kernel)
{
    struct pair_outcome done = { 0 };
    struct strip theirs = strip_new(100, 4);
    struct pw_key key = { 0 };
    uint8_t mine[100];
    struct pair p;
    const struct way kernel = { .plan = { .keyed = true }, .flags = PW_NIC_PROMPT,
                                .reach = PW_REACH_KERNEL };

    way_open(&p, &kernel);
    cr_assert(eq(int, pw_engine_register(p.b.e, theirs.data, 100, PW_READ, true, &key), 0));
    cr_expect(eq(int, pw_endpoint_get(p.a.ep, mine, at(theirs.data), 100, &key, pair_done,
                                      &done), 0), "without the owner's progress");
    cr_expect(eq(int, memcmp(mine, theirs.data, 100), 0));
    pair_close(&p);
    free(theirs.base);
}

/* ---- at once, or not at all ---- */

/* 8 bytes there and back with get_now and put_now, all of which answer `want`. */
static void now(const struct way *w, bool in_pool, unsigned access, int want)
{
    uint64_t elsewhere = 5, mine = 6, *theirs = &elsewhere;
    struct pw_key key = { 0 };
    struct pair p;

    way_open(&p, w);
    if (in_pool) {
        theirs = pw_pool_alloc(p.b.pool, 4096, 0);
        *theirs = 5;
    }
    cr_assert(eq(int, pw_engine_register(p.b.e, theirs, 8, access, false, &key), 0));
    cr_expect(eq(int, pw_endpoint_put_now(p.a.ep, &mine, at(theirs), 8, &key), want));
    cr_expect(eq(u64, *theirs, want ? 5 : 6));
    *theirs = 7;
    cr_expect(eq(int, pw_endpoint_get_now(p.a.ep, &mine, at(theirs), 8, &key), want));
    cr_expect(eq(u64, mine, want ? 6 : 7));
    pair_close(&p);
}

static const struct way mapped = { .plan = { .offers = true }, .flags = PW_NIC_PROMPT };

Test(transfer, mapped_memory_is_reached_now)
{
    now(&mapped, true, PW_READ | PW_WRITE, 0);
}

Test(transfer, what_is_not_mapped_takes_the_other_way)
{
    now(&mapped, false, PW_READ | PW_WRITE, -EOPNOTSUPP);
}

Test(transfer, a_key_without_the_access_takes_the_other_way)
{
    now(&mapped, true, PW_ATOMIC, -EOPNOTSUPP);
}

Test(transfer, a_nic_that_is_not_prompt_does_nothing_now)
{
    struct way w = mapped;

    w.flags = 0;
    now(&w, true, PW_READ | PW_WRITE, -EOPNOTSUPP);
}

Test(transfer, a_nic_that_can_do_without_keys_does_it_now)
{
    struct way w = mapped;

    w.plan.keyed = true;
    w.flags |= PW_NIC_KEYS_OPTIONAL;
    now(&w, true, PW_READ | PW_WRITE, 0);
}

Test(transfer, a_nic_with_keys_does_nothing_now)
{
    struct way w = mapped;

    w.plan.keyed = true;
    now(&w, true, PW_READ | PW_WRITE, -EOPNOTSUPP);
}

Test(transfer, the_dead_do_nothing_now)
{
    struct pair p;
    uint64_t mine = 6, *theirs;

    way_open(&p, &mapped);
    theirs = pw_pool_alloc(p.b.pool, 4096, 0);
    *theirs = 5;
    fake_nic_die(pair_nic(&p.b, 0));
    pair_turns(&p, 3);
    cr_expect(eq(int, pw_endpoint_put_now(p.a.ep, &mine, at(theirs), 8, NULL), -EOPNOTSUPP));
    cr_expect(eq(int, pw_endpoint_get_now(p.a.ep, &mine, at(theirs), 8, NULL), -EOPNOTSUPP));
    cr_expect(eq(u64, *theirs, 5));
    pair_close(&p);
}

/* ---- several NICs ---- */

/* Each NIC gets its own part of the key, also when it is not the first. */
static void over_second_nic(bool atomic)
{
    struct pair_outcome done = { 0 };
    struct pw_atomic what = { .op = PW_ATOMIC_ADD, .type = PW_INT64, .operand = 5 };
    uint64_t memory = 37, result = 0, mine = 8;
    struct pw_key key = { 0 };
    struct pair p;

    fake_nic_traits(&fake_nic_ops)->other_reach = PW_REACH_NONE;
    fake_nic_traits(&fake_nic_ops2)->flags |= PW_NIC_PROMPT;
    pair_open(&p, &(struct pair_plan){ .two_nics = true, .keyed = true });
    cr_assert(eq(int, pw_engine_register(p.b.e, &memory, 8, PW_WRITE | PW_ATOMIC, false,
                                         &key), 0));
    if (atomic) {
        cr_expect(eq(int, pw_endpoint_atomic(p.a.ep, &what, at(&memory), &result, &key,
                                             pair_done, &done), 0));
        cr_expect(eq(u64, memory, 42));
        cr_expect(eq(u64, result, 37));
    } else {
        cr_expect(eq(int, pw_endpoint_put(p.a.ep, &mine, at(&memory), 8, &key, pair_done,
                                          &done), 0));
        cr_expect(eq(u64, memory, 8));
    }
    pair_close(&p);
}

Test(transfer, a_second_nic_gets_its_own_key_for_a_put)
{
    over_second_nic(false);
}

Test(transfer, a_second_nic_gets_its_own_key_for_an_atomic)
{
    over_second_nic(true);
}

/* ---- what goes wrong ---- */

Test(transfer, a_key_without_the_access_is_refused_before_anything_is_sent)
{
    struct pw_atomic what = { .op = PW_ATOMIC_ADD, .type = PW_INT64, .operand = 1 };
    struct pair_outcome done = { 0 };
    struct pw_key key = { 0 };
    uint64_t memory = 7, mine = 1;
    struct pair p;

    way_open(&p, &streamed);
    cr_assert(eq(int, pw_engine_register(p.b.e, &memory, 8, PW_READ, false, &key), 0));
    cr_expect(eq(int, pw_endpoint_put(p.a.ep, &mine, at(&memory), 8, &key, pair_done,
                                      &done), -EACCES));
    cr_expect(eq(int, pw_endpoint_atomic(p.a.ep, &what, at(&memory), NULL, &key, pair_done,
                                         &done), -EACCES));
    key.access = PW_WRITE;
    cr_expect(eq(int, pw_endpoint_get(p.a.ep, &mine, at(&memory), 8, &key, pair_done,
                                      &done), -EACCES));
    pair_turns(&p, 3);
    cr_expect(eq(uint, done.calls, 0));
    cr_expect(eq(u64, memory, 7));
    pair_close(&p);
}

/* NICs at their limit: the caller is told, or waits, but nothing is done twice. */
Test(transfer, an_error_of_the_nic_is_the_callers)
{
    const struct way direct = { .plan = { .keyed = true } };
    struct pair_outcome done = { 0 };
    struct pw_key key = { 0 };
    uint64_t memory = 7, mine = 1;
    struct pair p;

    way_open(&p, &direct);
    cr_assert(eq(int, pw_engine_register(p.b.e, &memory, 8, PW_READ | PW_WRITE, false,
                                         &key), 0));
    fake_nic_fail(pair_nic(&p.a, 0), FAKE_PUT, 1, 1, -EAGAIN);
    cr_expect(eq(int, pw_endpoint_put(p.a.ep, &mine, at(&memory), 8, &key, pair_done,
                                      &done), -EAGAIN));
    fake_nic_fail(pair_nic(&p.a, 0), FAKE_GET, 1, 1, -EFAULT);
    cr_expect(eq(int, pw_endpoint_get(p.a.ep, &mine, at(&memory), 8, &key, pair_done,
                                      &done), -EFAULT));
    cr_expect(eq(uint, p.a.e->n_pending, 0));
    cr_expect(eq(uint, done.calls, 0));
    cr_expect(eq(u64, memory, 7));
    pair_close(&p);
}

Test(transfer, a_nic_that_declines_is_replaced_by_frames)
{
    const struct way direct = { .plan = { .keyed = true }, .flags = PW_NIC_PROMPT };
    struct pw_atomic what = { .op = PW_ATOMIC_ADD, .type = PW_INT64, .operand = 1 };
    struct pair_outcome done = { 0 };
    struct pw_key key = { 0 };
    uint64_t memory = 7, mine = 1;
    struct pair p;

    way_open(&p, &direct);
    cr_assert(eq(int, pw_engine_register(p.b.e, &memory, 8, PW_WRITE | PW_ATOMIC, false,
                                         &key), 0));
    fake_nic_fail(pair_nic(&p.a, 0), FAKE_PUT, 1, 1, -EOPNOTSUPP);
    cr_expect(eq(int, pw_endpoint_put(p.a.ep, &mine, at(&memory), 8, &key, pair_done,
                                      &done), PW_NIC_PENDING));
    cr_expect(pair_until(&p, &done.calls, 1));
    cr_expect(eq(u64, memory, 1));
    fake_nic_fail(pair_nic(&p.a, 0), FAKE_ATOMIC, 1, 1, -EOPNOTSUPP);
    cr_expect(eq(int, pw_endpoint_atomic(p.a.ep, &what, at(&memory), NULL, &key, pair_done,
                                         &done), PW_NIC_PENDING));
    cr_expect(pair_until(&p, &done.calls, 2));
    cr_expect(eq(int, done.status, 0));
    cr_expect(eq(u64, memory, 2));
    pair_close(&p);
}

/* A mapping that turned out stale: the NIC may still reach it by the kernel. */
Test(transfer, a_nic_that_declines_is_asked_what_is_left)
{
    const struct way direct = { .plan = { .keyed = true, .kernel = true },
                                .flags = PW_NIC_PROMPT };
    struct strip theirs = strip_new(10000, 4), mine = strip_new(10000, 5);
    struct pair_outcome done = { 0 };
    struct pw_key key = { 0 };
    struct pw_stats stats;
    struct pair p;

    for (int put = 0; put < 2; put++) {
        way_open(&p, &direct);
        cr_assert(eq(int, pw_engine_register(p.b.e, theirs.data, theirs.len,
                                             PW_READ | PW_WRITE, true, &key), 0));
        pair_keys_expire = true;
        fake_nic_fail(pair_nic(&p.a, 0), put ? FAKE_PUT : FAKE_GET, 1, 1, -EOPNOTSUPP);
        cr_expect(eq(int, put ? pw_endpoint_put(p.a.ep, mine.data, at(theirs.data), 10000,
                                                &key, pair_done, &done)
                              : pw_endpoint_get(p.a.ep, mine.data, at(theirs.data), 10000,
                                                &key, pair_done, &done), 0));
        cr_expect(eq(int, memcmp(mine.data, theirs.data, 10000), 0));
        pw_engine_stats(p.a.e, &stats);
        cr_expect(eq(u64, stats.kernel_bytes, 10000));
        cr_expect(eq(u64, stats.direct_bytes, 0));
        cr_expect(strip_whole(&mine) && strip_whole(&theirs));
        mine.data[0]++;
        pair_close(&p);
    }
    free(mine.base);
    free(theirs.base);
}

Test(transfer, a_transfer_that_fails_in_the_nic_ends_with_its_error)
{
    const struct way direct = { .plan = { .keyed = true }, .pending = true };
    struct pair_outcome done = { 0 };
    struct pw_key key = { 0 };
    uint64_t memory = 7, mine = 1;
    struct pair p;

    way_open(&p, &direct);
    cr_assert(eq(int, pw_engine_register(p.b.e, &memory, 8, PW_WRITE, false, &key), 0));
    fake_nic_fail(pair_nic(&p.a, 0), FAKE_COMPLETE, 1, 1, -EFAULT);
    cr_expect(eq(int, pw_endpoint_put(p.a.ep, &mine, at(&memory), 8, &key, pair_done,
                                      &done), PW_NIC_PENDING));
    pair_turns(&p, 5);
    cr_expect(eq(uint, done.calls, 1));
    cr_expect(eq(int, done.status, -EFAULT));
    cr_expect(eq(u64, memory, 7));
    pair_close(&p);
}

/* ---- flush ---- */

Test(transfer, flush_returns_when_nothing_is_pending)
{
    const struct way direct = { .plan = { .keyed = true }, .pending = true };
    struct pair_outcome done = { 0 };
    struct pw_key key = { 0 };
    uint64_t memory[50], mine = 1;
    struct pair p;

    way_open(&p, &direct);
    pw_engine_flush(p.a.e);
    cr_assert(eq(int, pw_engine_register(p.b.e, memory, sizeof memory, PW_WRITE, false,
                                         &key), 0));
    for (int i = 0; i < 50; i++)
        cr_assert(eq(int, pw_endpoint_put(p.a.ep, &mine, at(&memory[i]), 8, &key,
                                          pair_done, &done), PW_NIC_PENDING));
    pw_engine_flush(p.a.e);
    cr_expect(eq(uint, done.calls, 50));
    cr_expect(eq(u64, memory[49], 1));
    pair_close(&p);
}

static void flush_inside(struct pair_side *side)
{
    pw_engine_flush(side->e);
}

Test(transfer, flush_in_an_upcall_does_not_wait_for_itself)
{
    struct pair_outcome done = { 0 };
    struct pw_key key = { 0 };
    uint64_t memory = 7, mine = 1;
    struct pair p;

    way_open(&p, &streamed);
    p.a.on_recv = flush_inside;
    cr_assert(eq(int, pw_engine_register(p.b.e, &memory, 8, PW_WRITE, false, &key), 0));
    pair_send(&p.b, 0);
    pw_endpoint_put(p.a.ep, &mine, at(&memory), 8, &key, pair_done, &done);
    cr_expect(pair_until(&p, &done.calls, 1));
    cr_expect(eq(uint, p.a.received, 1));
    cr_expect(eq(u64, memory, 1));
    pair_close(&p);
}
