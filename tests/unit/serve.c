/* SPDX-License-Identifier: BSD-3-Clause */
/* serve.c - what a peer may do to our memory, and what it may not.
 *
 * Side a plays every part here, the broken one too: frames are forged by hand
 * and given to its NIC, so that side b gets them as from a peer.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "tests/unit/pair.h"

enum { LEN = 256 };

/* b's memory with strips around it, registered. */
struct rig {
    struct pair p;
    struct pw_key key;
    uint8_t all[3 * LEN], *memory;
    struct pair_outcome done;
};

static uint64_t at(const void *p)
{
    return (uint64_t)(uintptr_t)p;
}

static void rig_open(struct rig *r, unsigned access)
{
    memset(r, 0, sizeof *r);
    r->memory = r->all + LEN;
    for (int i = 0; i < 3 * LEN; i++)
        r->all[i] = (uint8_t)i;
    pair_open(&r->p, &(struct pair_plan){ .chunk = 64 });
    cr_assert(eq(int, pw_engine_register(r->p.b.e, r->memory, LEN, access, false, &r->key),
                 0));
    /* a does not look at access itself; the owner must. */
    r->key.access = PW_READ | PW_WRITE | PW_ATOMIC;
}

static bool untouched(const struct rig *r)
{
    for (int i = 0; i < 3 * LEN; i++)
        if (r->all[i] != (uint8_t)i)
            return false;
    return true;
}

/* Peer, memory and both engines are as they were, and still work. */
static void rig_close_unharmed(struct rig *r)
{
    pair_turns(&r->p, 5);
    cr_expect(untouched(r));
    cr_expect(eq(uint, r->p.a.deaths, 0));
    cr_expect(eq(uint, r->p.b.deaths, 0));
    r->p.a.received = r->p.b.received = 0;
    cr_expect(eq(int, pair_send(&r->p.a, 0), 0));
    cr_expect(eq(int, pair_send(&r->p.b, 0), 0));
    pair_turns(&r->p, 3);
    cr_expect(eq(uint, r->p.a.received, 1));
    cr_expect(eq(uint, r->p.b.received, 1));
    pair_close(&r->p);
}

static int get(struct rig *r, uint64_t remote, size_t len)
{
    static uint8_t to[4 * LEN];

    return pw_endpoint_get(r->p.a.ep, to, remote, len, &r->key, pair_done, &r->done);
}

static int put(struct rig *r, uint64_t remote, size_t len)
{
    static const uint8_t from[4 * LEN] = { 0xff };

    return pw_endpoint_put(r->p.a.ep, from, remote, len, &r->key, pair_done, &r->done);
}

static int add(struct rig *r, uint64_t remote)
{
    const struct pw_atomic a = { .op = PW_ATOMIC_ADD, .type = PW_INT64, .operand = 1 };

    return pw_endpoint_atomic(r->p.a.ep, &a, remote, NULL, &r->key, pair_done, &r->done);
}

static void expect_refused(struct rig *r, int started, int status)
{
    unsigned before = r->done.calls;

    cr_assert(eq(int, started, PW_NIC_PENDING));
    cr_expect(pair_until(&r->p, &r->done.calls, before + 1));
    cr_expect(eq(int, r->done.status, status));
    pair_turns(&r->p, 3);
    cr_expect(eq(uint, r->done.calls, before + 1));
    cr_expect(eq(uint, r->p.a.e->n_waiting, 0), "no piece of it is still sent");
}

/* ---- who may do what ---- */

Test(serve, reading_needs_read_access)
{
    struct rig r;

    rig_open(&r, PW_WRITE | PW_ATOMIC);
    expect_refused(&r, get(&r, at(r.memory), 8), -EACCES);
    rig_close_unharmed(&r);
}

Test(serve, writing_needs_write_access)
{
    struct rig r;

    rig_open(&r, PW_READ | PW_ATOMIC);
    expect_refused(&r, put(&r, at(r.memory), 8), -EACCES);
    expect_refused(&r, put(&r, at(r.memory), LEN), -EACCES);
    rig_close_unharmed(&r);
}

/* Its data is not sent to the end for nothing, and its buffer not read any more
 * once the caller was told. */
Test(serve, a_put_that_is_refused_stops_midway)
{
    enum { LARGE = 300000 };
    uint8_t *from = calloc(1, LARGE);
    struct pw_stats at_once, later;
    struct rig r;

    rig_open(&r, PW_READ);
    fake_nic_fail(pair_nic(&r.p.a, 0), FAKE_SEND, 10, 20, -EAGAIN);
    expect_refused(&r, pw_endpoint_put(r.p.a.ep, from, at(r.memory), LARGE, &r.key,
                                       pair_done, &r.done), -EACCES);
    fake_nic_fail(pair_nic(&r.p.a, 0), FAKE_SEND, 1, 0, 0);
    pw_engine_stats(r.p.a.e, &at_once);
    cr_expect(lt(u64, at_once.stream_bytes, LARGE));
    pair_turns(&r.p, 50);
    pw_engine_stats(r.p.a.e, &later);
    cr_expect(eq(u64, later.stream_bytes, at_once.stream_bytes));
    rig_close_unharmed(&r);
    free(from);
}

Test(serve, atomics_need_atomic_access)
{
    struct rig r;

    rig_open(&r, PW_READ | PW_WRITE);
    expect_refused(&r, add(&r, at(r.memory)), -EACCES);
    rig_close_unharmed(&r);
}

static void refuse_everything(struct rig *r, uint64_t remote, size_t len)
{
    expect_refused(r, get(r, remote, len), -EACCES);
    expect_refused(r, put(r, remote, len), -EACCES);
}

Test(serve, a_range_must_lie_inside_the_region)
{
    struct rig r;
    uint64_t m;

    rig_open(&r, PW_READ | PW_WRITE | PW_ATOMIC);
    m = at(r.memory);
    refuse_everything(&r, m - 1, 1);
    refuse_everything(&r, m - 1, LEN);
    refuse_everything(&r, m, LEN + 1);
    refuse_everything(&r, m + LEN, 1);
    refuse_everything(&r, m + LEN - 7, 8);
    refuse_everything(&r, 0, 1);
    refuse_everything(&r, UINT64_MAX - 3, 8);
    expect_refused(&r, add(&r, m - 8), -EACCES);
    expect_refused(&r, add(&r, m + LEN), -EACCES);
    expect_refused(&r, add(&r, m + LEN - 4), -EACCES);
    rig_close_unharmed(&r);
}

Test(serve, a_region_is_reached_to_its_last_byte)
{
    struct rig r;

    rig_open(&r, PW_READ | PW_WRITE);
    expect_refused(&r, get(&r, at(r.memory), LEN), 0);
    expect_refused(&r, get(&r, at(r.memory) + LEN - 1, 1), 0);
    rig_close_unharmed(&r);
}

Test(serve, a_key_must_be_one_that_was_given)
{
    uint64_t good;
    struct rig r;

    rig_open(&r, PW_READ | PW_WRITE | PW_ATOMIC);
    good = r.key.id;
    for (int bit = 0; bit < 64; bit++) {
        r.key.id = good ^ (uint64_t)1 << bit;
        expect_refused(&r, get(&r, at(r.memory), 8), -EACCES);
    }
    r.key.id = 0;
    expect_refused(&r, put(&r, at(r.memory), 8), -EACCES);
    r.key.id = UINT64_MAX;
    expect_refused(&r, add(&r, at(r.memory)), -EACCES);
    rig_close_unharmed(&r);
}

Test(serve, a_key_dies_with_its_region)
{
    struct pw_key next = { 0 };
    struct rig r;

    rig_open(&r, PW_READ | PW_WRITE | PW_ATOMIC);
    r.key.access = PW_READ | PW_WRITE | PW_ATOMIC;
    pw_engine_deregister(r.p.b.e, &r.key);
    expect_refused(&r, get(&r, at(r.memory), 8), -EACCES);
    /* The same memory again, in the same place of the table. */
    cr_assert(eq(int, pw_engine_register(r.p.b.e, r.memory, LEN, PW_READ, false, &next), 0));
    cr_expect(eq(u32, (uint32_t)next.id, (uint32_t)r.key.id));
    expect_refused(&r, get(&r, at(r.memory), 8), -EACCES);
    r.key = next;
    expect_refused(&r, get(&r, at(r.memory), 8), 0);
    rig_close_unharmed(&r);
}

Test(serve, without_a_key_nothing_is_reached)
{
    static uint8_t to[8];
    struct rig r;

    rig_open(&r, PW_READ | PW_WRITE);
    expect_refused(&r, pw_endpoint_get(r.p.a.ep, to, at(r.memory), 8, NULL, pair_done,
                                       &r.done), -EACCES);
    rig_close_unharmed(&r);
}

/* ---- atomics ---- */

/* 32-bit fields lie in the low bytes of what travels. */
static uint64_t once(struct rig *r, struct pw_atomic a, uint64_t before, uint64_t *result,
                     int status)
{
    *result = 0xabcdef;
    memcpy(r->memory, &before, 8);
    cr_assert(eq(int, pw_endpoint_atomic(r->p.a.ep, &a, at(r->memory), result, &r->key,
                                         pair_done, &r->done), PW_NIC_PENDING));
    r->done.calls = 0;
    cr_assert(pair_until(&r->p, &r->done.calls, 1));
    cr_expect(eq(int, r->done.status, status), "op %d", a.op);
    memcpy(&before, r->memory, 8);
    return before;
}

Test(serve, every_atomic_is_done_and_tells_what_was_there)
{
    const struct { enum pw_atomic_op op; uint64_t before, operand, after; } cases[] = {
        { PW_ATOMIC_ADD, 40, 2, 42 },      { PW_ATOMIC_AND, 12, 10, 8 },
        { PW_ATOMIC_OR, 12, 10, 14 },      { PW_ATOMIC_XOR, 12, 10, 6 },
        { PW_ATOMIC_LAND, 4, 0, 0 },       { PW_ATOMIC_LOR, 0, 9, 1 },
        { PW_ATOMIC_LXOR, 5, 9, 0 },       { PW_ATOMIC_SWAP, 5, 9, 9 },
        { PW_ATOMIC_MIN, 5, (uint64_t)-9, (uint64_t)-9 },
        { PW_ATOMIC_MAX, 5, (uint64_t)-9, 5 },
    };
    uint64_t result;
    struct rig r;

    rig_open(&r, PW_ATOMIC);
    r.memory += -at(r.memory) & 7;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct pw_atomic a = { .op = cases[i].op, .type = PW_INT64,
                               .operand = cases[i].operand };

        cr_expect(eq(u64, once(&r, a, cases[i].before, &result, 0), cases[i].after),
                  "op %d", a.op);
        cr_expect(eq(u64, result, cases[i].before), "op %d", a.op);
    }
    pair_close(&r.p);
}

Test(serve, compare_and_swap_swaps_only_what_it_expected)
{
    struct pw_atomic a = { .op = PW_ATOMIC_CSWAP, .type = PW_INT64, .operand = 9,
                           .compare = 5 };
    uint64_t result;
    struct rig r;

    rig_open(&r, PW_ATOMIC);
    r.memory += -at(r.memory) & 7;
    cr_expect(eq(u64, once(&r, a, 5, &result, 0), 9));
    cr_expect(eq(u64, result, 5));
    cr_expect(eq(u64, once(&r, a, 6, &result, 0), 6));
    cr_expect(eq(u64, result, 6));
    pair_close(&r.p);
}

Test(serve, an_atomic_that_does_not_exist_changes_nothing)
{
    struct pw_atomic bits_of_float = { .op = PW_ATOMIC_XOR, .type = PW_FLOAT, .operand = 1 };
    struct pw_atomic no_op = { .op = (enum pw_atomic_op)(PW_ATOMIC_CSWAP + 1),
                               .type = PW_INT64 };
    struct pw_atomic no_type = { .op = PW_ATOMIC_ADD, .operand = 1,
                                 .type = (enum pw_atomic_type)(PW_DOUBLE + 1) };
    uint64_t result;
    struct rig r;

    rig_open(&r, PW_ATOMIC);
    r.memory += -at(r.memory) & 7;
    cr_expect(eq(u64, once(&r, bits_of_float, 5, &result, -EOPNOTSUPP), 5));
    cr_expect(eq(u64, once(&r, no_op, 5, &result, -EINVAL), 5));
    cr_expect(eq(u64, once(&r, no_type, 5, &result, -EINVAL), 5));
    cr_expect(eq(u64, result, 0xabcdef), "and gives no result");
    pair_close(&r.p);
}

Test(serve, an_unaligned_atomic_is_refused)
{
    struct rig r;

    rig_open(&r, PW_ATOMIC);
    expect_refused(&r, add(&r, (at(r.memory) | 7) - 3), -EINVAL);
    rig_close_unharmed(&r);
}

Test(serve, an_atomic_without_a_result_is_fine)
{
    struct rig r;

    rig_open(&r, PW_ATOMIC);
    r.memory += -at(r.memory) & 7;
    memset(r.memory, 0, 8);
    expect_refused(&r, add(&r, at(r.memory)), 0);
    cr_expect(eq(u8, r.memory[0], 1));
    pair_close(&r.p);
}

/* ---- frames as no engine sends them: to the owner ---- */

static void forge(struct rig *r, unsigned kind, const void *data, size_t len)
{
    pair_forge(&r->p.a, pw_imm(kind, 0, 0), data, len);
    pair_turns(&r->p, 2);
}

Test(serve, frames_of_every_kind_and_every_length_do_no_harm)
{
    uint8_t bytes[160];
    struct rig r;

    rig_open(&r, PW_READ | PW_WRITE | PW_ATOMIC);
    for (unsigned fill = 0; fill < 3; fill++)
        for (unsigned kind = PW_F_GET; kind <= 0x7f; kind++)
            for (size_t len = 0; len <= sizeof bytes; len += kind < PW_F_KINDS ? 1 : 40) {
                memset(bytes, fill == 2 ? 0xff : (int)fill, sizeof bytes);
                forge(&r, kind, bytes, len);
            }
    cr_expect(eq(uint, r.p.b.received, 0));
    rig_close_unharmed(&r);
}

Test(serve, a_number_that_is_not_the_next_one_is_dropped)
{
    struct rig r;

    rig_open(&r, PW_READ);
    pair_forge(&r.p.a, pw_imm(PW_F_MESSAGE | PW_F_NUMBERED, 3, 500), "x", 1);
    pair_turns(&r.p, 3);
    cr_expect(eq(uint, r.p.b.received, 0));
    rig_close_unharmed(&r);
}

/* Right but for their lengths. */
Test(serve, a_request_of_a_wrong_length_is_dropped)
{
    struct { struct pw_f_request f; char more; } put = { .f = { .id = 1, .len = 8 } };
    struct { struct pw_f_atomic f; char more; } add = {
        .f = { .id = 2, .op = PW_ATOMIC_ADD, .type = PW_INT64, .operand = 1 },
    };
    struct rig r;

    rig_open(&r, PW_WRITE | PW_ATOMIC);
    put.f.key = add.f.key = r.key.id;
    put.f.remote = at(r.memory);
    add.f.remote = at(r.memory) + (-at(r.memory) & 7);
    forge(&r, PW_F_PUT, &put, sizeof put.f - 1);
    forge(&r, PW_F_PUT, &put, sizeof put.f + 1);
    forge(&r, PW_F_ATOMIC, &add, sizeof add.f - 1);
    forge(&r, PW_F_ATOMIC, &add, sizeof add.f + 1);
    cr_expect(eq(ptr, r.p.b.ep->incoming, NULL));
    rig_close_unharmed(&r);
}

Test(serve, a_request_for_nothing_is_refused)
{
    struct pw_f_request f = { .id = 12345 };
    struct rig r;

    rig_open(&r, PW_READ | PW_WRITE);
    f.key = r.key.id;
    f.remote = at(r.memory);
    forge(&r, PW_F_GET, &f, sizeof f);
    forge(&r, PW_F_PUT, &f, sizeof f);
    cr_expect(eq(ptr, r.p.b.ep->incoming, NULL));
    rig_close_unharmed(&r);
}

struct data_frame {
    struct pw_f_data head;
    uint8_t bytes[2 * LEN];
};

/* A put of 16 bytes is announced; none of these is its data. */
Test(serve, put_data_that_does_not_fit_the_put_is_dropped)
{
    struct pw_f_request f = { .id = 12345, .len = 16 };
    struct data_frame d = { .head = { .id = 12345 } };
    struct rig r;

    memset(d.bytes, 0xff, sizeof d.bytes);
    rig_open(&r, PW_WRITE);
    f.key = r.key.id;
    f.remote = at(r.memory);
    forge(&r, PW_F_PUT, &f, sizeof f);
    cr_assert(ne(ptr, r.p.b.ep->incoming, NULL));

    forge(&r, PW_F_PUT_DATA, &d, sizeof d.head + 17);           /* too much */
    d.head.offset = 1;
    forge(&r, PW_F_PUT_DATA, &d, sizeof d.head + 8);            /* not the next */
    d.head.offset = UINT64_MAX;
    forge(&r, PW_F_PUT_DATA, &d, sizeof d.head + 8);
    d.head.offset = 0;
    d.head.id = 12346;
    forge(&r, PW_F_PUT_DATA, &d, sizeof d.head + 8);            /* another's */
    d.head.id = 12345;
    forge(&r, PW_F_PUT_DATA, &d, sizeof d.head - 1);            /* no head */
    forge(&r, PW_F_PUT_DATA, &d, sizeof d.head);                /* no data */
    cr_expect(untouched(&r));
    cr_expect(ne(ptr, r.p.b.ep->incoming, NULL));

    for (int i = 0; i < 16; i++)
        d.bytes[i] = (uint8_t)(LEN + i);
    forge(&r, PW_F_PUT_DATA, &d, sizeof d.head + 10);
    d.head.offset = 10;
    memmove(d.bytes, d.bytes + 10, 6);
    forge(&r, PW_F_PUT_DATA, &d, sizeof d.head + 6);
    cr_expect(eq(ptr, r.p.b.ep->incoming, NULL), "the right data ends it");
    forge(&r, PW_F_PUT_DATA, &d, sizeof d.head + 6);            /* after the end */
    rig_close_unharmed(&r);
}

/* A put is announced, and its data held back until the memory is somebody else's. */
Test(serve, put_data_that_comes_after_its_region_has_gone_is_not_written)
{
    struct pw_f_request f = { .id = 12345, .len = 16 };
    struct data_frame d = { .head = { .id = 12345 } };
    struct rig r;

    rig_open(&r, PW_WRITE);
    f.key = r.key.id;
    f.remote = at(r.memory);
    forge(&r, PW_F_PUT, &f, sizeof f);
    for (int i = 0; i < 4; i++)
        d.bytes[i] = (uint8_t)(LEN + i);
    forge(&r, PW_F_PUT_DATA, &d, sizeof d.head + 4);
    cr_assert(ne(ptr, r.p.b.ep->incoming, NULL));
    pw_engine_deregister(r.p.b.e, &r.key);
    memset(d.bytes, 0xff, sizeof d.bytes);
    d.head.offset = 4;
    forge(&r, PW_F_PUT_DATA, &d, sizeof d.head + 4);
    cr_expect(eq(ptr, r.p.b.ep->incoming, NULL), "and no more is waited for");
    rig_close_unharmed(&r);
}

/* A get that its asker lets us wait with: there is no room for its data, and the memory
 * goes before there is. */
Test(serve, a_get_ends_when_its_region_goes)
{
    struct pw_stats stats;
    struct rig r;

    rig_open(&r, PW_READ);
    fake_nic_fail(pair_nic(&r.p.b, 0), FAKE_SEND, 2, 0, -EAGAIN);
    cr_assert(eq(int, get(&r, at(r.memory), LEN), PW_NIC_PENDING));
    pair_turns(&r.p, 5);
    pw_engine_stats(r.p.b.e, &stats);
    cr_expect(eq(u64, stats.stream_bytes, 64), "the first piece");
    cr_expect(eq(uint, r.done.calls, 0));
    pw_engine_deregister(r.p.b.e, &r.key);
    fake_nic_fail(pair_nic(&r.p.b, 0), FAKE_SEND, 1, 0, 0);
    cr_expect(pair_until(&r.p, &r.done.calls, 1));
    cr_expect(eq(int, r.done.status, -EACCES));
    pair_turns(&r.p, 5);
    pw_engine_stats(r.p.b.e, &stats);
    cr_expect(eq(u64, stats.stream_bytes, 64), "and no other");
    cr_expect(eq(uint, r.p.b.e->n_waiting, 0));
    rig_close_unharmed(&r);
}

Test(serve, an_offer_out_of_reach_is_not_touched)
{
    struct pw_f_request f = { .id = 12345, .len = 16, .offer = 4096 };
    struct rig r;

    rig_open(&r, PW_READ | PW_WRITE);
    f.key = r.key.id;
    f.remote = at(r.memory);
    forge(&r, PW_F_GET, &f, sizeof f);
    forge(&r, PW_F_PUT, &f, sizeof f);
    cr_expect(eq(ptr, r.p.b.ep->incoming, NULL));
    rig_close_unharmed(&r);
}

/* ---- frames as no engine sends them: to the asker ---- */

/* A get of 16 bytes is waiting; b sends things that are not its answer. */
struct asking {
    struct rig r;
    uint8_t all[48], *to;
    uint64_t id;
};

static void asking_open(struct asking *a)
{
    rig_open(&a->r, PW_READ);
    memset(a->all, 0xee, sizeof a->all);
    a->to = a->all + 16;
    /* The request does not reach b: only forged answers come. */
    fake_nic_set_faults(pair_nic(&a->r.p.a, 0), &(struct fake_nic_faults){ .drop_every = 1 });
    cr_assert(eq(int, pw_endpoint_get(a->r.p.a.ep, a->to, at(a->r.memory), 16, &a->r.key,
                                      pair_done, &a->r.done), PW_NIC_PENDING));
    fake_nic_set_faults(pair_nic(&a->r.p.a, 0), &(struct fake_nic_faults){ 0 });
    a->id = a->r.p.a.e->ops[0]->id;
}

static void reply(struct asking *a, unsigned kind, const void *data, size_t len)
{
    pair_forge(&a->r.p.b, pw_imm(kind, 0, 0), data, len);
    pair_turns(&a->r.p, 2);
}

static bool nothing_came(const struct asking *a)
{
    for (size_t i = 0; i < sizeof a->all; i++)
        if (a->all[i] != 0xee)
            return false;
    return !a->r.done.calls;
}

Test(serve, get_data_that_does_not_fit_the_get_is_dropped)
{
    struct data_frame d = { .head = { 0 } };
    struct asking a;

    asking_open(&a);
    d.head.id = a.id;
    reply(&a, PW_F_GET_DATA, &d, sizeof d.head + 17);           /* too much */
    d.head.offset = 1;
    reply(&a, PW_F_GET_DATA, &d, sizeof d.head + 8);            /* not the next */
    d.head.offset = 0;
    d.head.id = a.id + 1;
    reply(&a, PW_F_GET_DATA, &d, sizeof d.head + 16);           /* no such op */
    d.head.id = a.id + ((uint64_t)1 << 32);
    reply(&a, PW_F_GET_DATA, &d, sizeof d.head + 16);           /* a later one */
    d.head.id = UINT64_MAX;
    reply(&a, PW_F_GET_DATA, &d, sizeof d.head + 16);
    reply(&a, PW_F_GET_DATA, &d, sizeof d.head - 1);
    cr_expect(nothing_came(&a));

    d.head.id = a.id;
    reply(&a, PW_F_GET_DATA, &d, sizeof d.head + 16);
    cr_expect(eq(uint, a.r.done.calls, 1));
    cr_expect(eq(u8, a.to[0], 0));
    cr_expect(eq(u8, a.to[16], 0xee));
    reply(&a, PW_F_GET_DATA, &d, sizeof d.head + 16);           /* the op is gone */
    cr_expect(eq(uint, a.r.done.calls, 1));
    rig_close_unharmed(&a.r);
}

Test(serve, an_answer_of_a_wrong_length_or_number_is_dropped)
{
    struct pw_f_done f = { 0 };
    struct asking a;

    asking_open(&a);
    f.id = a.id;
    reply(&a, PW_F_DONE, &f, sizeof f - 1);
    f.id = a.id ^ 1;
    reply(&a, PW_F_DONE, &f, sizeof f);
    f.id = a.id - ((uint64_t)1 << 32);
    reply(&a, PW_F_DONE, &f, sizeof f);
    f.id = 0;
    reply(&a, PW_F_DONE, &f, sizeof f);
    cr_expect(nothing_came(&a));
    rig_close_unharmed(&a.r);
}

/* Else a get would end well without its data. */
Test(serve, a_get_does_not_succeed_before_its_bytes_came)
{
    struct pw_f_done f = { 0 };
    struct asking a;

    asking_open(&a);
    f.id = a.id;
    reply(&a, PW_F_DONE, &f, sizeof f);
    cr_expect(eq(uint, a.r.done.calls, 1));
    cr_expect(eq(int, a.r.done.status, -EPROTO));
    rig_close_unharmed(&a.r);
}

Test(serve, a_status_that_is_no_errno_becomes_a_protocol_error)
{
    const int64_t wrong[] = { 1, INT64_MAX, -4096, INT64_MIN, (int64_t)1 << 32 };

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct pw_f_done f = { .status = wrong[i] };
        struct asking a;

        asking_open(&a);
        f.id = a.id;
        reply(&a, PW_F_DONE, &f, sizeof f);
        cr_expect(eq(uint, a.r.done.calls, 1));
        cr_expect(eq(int, a.r.done.status, -EPROTO));
        rig_close_unharmed(&a.r);
    }
}

/* The NIC would end it again, and the buffer is in its hands meanwhile. */
static void answer_the_nics(bool put)
{
    struct pair_outcome done = { 0 };
    uint64_t memory = 5, local = 6;
    struct data_frame d = { .head = { 0 } };
    struct pw_f_done f = { 0 };
    struct pw_key key = { 0 };
    struct pair p;

    fake_nic_traits(&fake_nic_ops)->pending = true;
    pair_open(&p, &(struct pair_plan){ .keyed = true });
    cr_assert(eq(int, pw_engine_register(p.b.e, &memory, 8, PW_READ | PW_WRITE, false,
                                         &key), 0));
    cr_assert(eq(int, put ? pw_endpoint_put(p.a.ep, &local, at(&memory), 8, &key, pair_done,
                                            &done)
                          : pw_endpoint_get(p.a.ep, &local, at(&memory), 8, &key, pair_done,
                                            &done), PW_NIC_PENDING));
    d.head.id = f.id = p.a.e->ops[0]->id;
    pw_engine_nic_upcalls.recv(p.a.e, &p.a.ep->paths[0], pw_imm(PW_F_DONE, 0, 0), &f,
                               sizeof f);
    pw_engine_nic_upcalls.recv(p.a.e, &p.a.ep->paths[0], pw_imm(PW_F_GET_DATA, 0, 0), &d,
                               sizeof d.head + 8);
    cr_expect(eq(uint, done.calls, 0));
    cr_expect(eq(u64, local, 6));
    pair_turns(&p, 3);
    cr_expect(eq(uint, done.calls, 1));
    cr_expect(eq(int, done.status, 0));
    pair_close(&p);
}

Test(serve, a_put_in_the_nics_hands_is_not_ended_by_a_frame)
{
    answer_the_nics(true);
}

Test(serve, a_get_in_the_nics_hands_is_not_ended_by_a_frame)
{
    answer_the_nics(false);
}

static void second_meets(struct pair_side *side, struct pair_side *other,
                         struct pw_endpoint **out)
{
    uint8_t addr[PW_NIC_ADDRESS_MAX + 16];
    char why[PW_NIC_WHY_MAX];
    int len = pw_engine_address(other->e, addr, sizeof addr);

    cr_assert(eq(int, pw_endpoint_open(side->e, addr, (size_t)len, side, out, why), 0));
}

/* Peers share the numbers, so an answer counts only from who was asked. */
Test(serve, an_answer_of_another_peer_is_dropped)
{
    struct data_frame d = { .head = { 0 } };
    struct pw_f_done f = { .status = -EIO };
    struct pw_endpoint *to_a, *to_b;
    struct asking a;

    asking_open(&a);
    second_meets(&a.r.p.b, &a.r.p.a, &to_a);
    second_meets(&a.r.p.a, &a.r.p.b, &to_b);
    d.head.id = f.id = a.id;
    a.r.p.b.ep = to_a;
    reply(&a, PW_F_GET_DATA, &d, sizeof d.head + 16);
    reply(&a, PW_F_DONE, &f, sizeof f);
    cr_expect(nothing_came(&a));
    pair_close(&a.r.p);
}
