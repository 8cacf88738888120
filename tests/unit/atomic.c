/* SPDX-License-Identifier: BSD-3-Clause */
/* atomic.c - one atomic operation on memory: every one, on every type. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <math.h>
#include <pthread.h>

#include "pinwheel/atomic.h"

/* 64 bits of a value as it lies in memory, 32-bit ones in the low bytes. */
static uint64_t i64(int64_t v) { return (uint64_t)v; }
static uint64_t i32(int32_t v) { return (uint32_t)v; }

static uint64_t f64(double v)
{
    uint64_t bits;

    memcpy(&bits, &v, 8);
    return bits;
}

static uint64_t f32(float v)
{
    uint32_t bits;

    memcpy(&bits, &v, 4);
    return bits;
}

/* Apply between two words that must stay; what was there comes as the result. */
static void expect_after(enum pw_atomic_op op, enum pw_atomic_type type, uint64_t before,
                         uint64_t operand, uint64_t after)
{
    struct pw_atomic a = { .op = op, .type = type, .operand = operand };
    uint32_t small[3] = { 0xeeeeeeee, (uint32_t)before, 0xeeeeeeee };
    uint64_t large[3] = { 0xeeeeeeee, before, 0xeeeeeeee };
    bool is_small = pw_atomic_width(type) == 4;
    uint64_t result = 0x1234567812345678;

    cr_expect(eq(int, pw_atomic_apply(&a, is_small ? (void *)&small[1] : &large[1], &result),
                 0), "op %d type %d", op, type);
    cr_expect(eq(u64, is_small ? small[1] : large[1], after), "op %d type %d", op, type);
    cr_expect(eq(u64, result, before), "op %d type %d", op, type);
    cr_expect(eq(u32, small[0], 0xeeeeeeee));
    cr_expect(eq(u32, small[2], 0xeeeeeeee));
    cr_expect(eq(u64, large[0], 0xeeeeeeee));
    cr_expect(eq(u64, large[2], 0xeeeeeeee));
}

static void expect_int(enum pw_atomic_op op, int32_t before, int32_t operand, int32_t after)
{
    expect_after(op, PW_INT32, i32(before), i32(operand), i32(after));
    expect_after(op, PW_INT64, i64(before), i64(operand), i64(after));
}

static void expect_float(enum pw_atomic_op op, float before, float operand, float after)
{
    expect_after(op, PW_FLOAT, f32(before), f32(operand), f32(after));
    expect_after(op, PW_DOUBLE, f64(before), f64(operand), f64(after));
}

Test(atomic, integers_are_added_and_wrap_round)
{
    expect_int(PW_ATOMIC_ADD, 40, 2, 42);
    expect_int(PW_ATOMIC_ADD, 40, -41, -1);
    expect_after(PW_ATOMIC_ADD, PW_INT32, i32(INT32_MAX), i32(1), i32(INT32_MIN));
    expect_after(PW_ATOMIC_ADD, PW_INT64, i64(INT64_MAX), i64(1), i64(INT64_MIN));
    expect_after(PW_ATOMIC_ADD, PW_INT64, i64(INT32_MAX), i64(1), i64((int64_t)1 << 31));
}

Test(atomic, bits_are_combined)
{
    expect_int(PW_ATOMIC_AND, 12, 10, 8);
    expect_int(PW_ATOMIC_OR, 12, 10, 14);
    expect_int(PW_ATOMIC_XOR, 12, 10, 6);
    expect_int(PW_ATOMIC_AND, -1, 10, 10);
    expect_int(PW_ATOMIC_XOR, -1, -1, 0);
    expect_after(PW_ATOMIC_OR, PW_INT64, (uint64_t)1 << 63, 1, (uint64_t)1 << 63 | 1);
}

Test(atomic, truth_is_combined_and_is_one)
{
    const struct { int x, y; } of[] = { { 0, 0 }, { 0, 4 }, { 8, 0 }, { 8, -4 } };

    for (int i = 0; i < 4; i++) {
        expect_int(PW_ATOMIC_LAND, of[i].x, of[i].y, of[i].x && of[i].y);
        expect_int(PW_ATOMIC_LOR, of[i].x, of[i].y, of[i].x || of[i].y);
        expect_int(PW_ATOMIC_LXOR, of[i].x, of[i].y, !of[i].x != !of[i].y);
    }
    /* The low half alone would be false. */
    expect_after(PW_ATOMIC_LAND, PW_INT64, (uint64_t)1 << 32, (uint64_t)1 << 40, 1);
}

Test(atomic, integers_are_compared_with_their_sign)
{
    expect_int(PW_ATOMIC_MIN, 3, -5, -5);
    expect_int(PW_ATOMIC_MIN, -5, 3, -5);
    expect_int(PW_ATOMIC_MAX, 3, -5, 3);
    expect_int(PW_ATOMIC_MAX, -5, 3, 3);
    expect_int(PW_ATOMIC_MAX, INT32_MIN, INT32_MAX, INT32_MAX);
    expect_int(PW_ATOMIC_MIN, 7, 7, 7);
    expect_after(PW_ATOMIC_MIN, PW_INT64, i64(INT64_MIN), i64(INT64_MAX), i64(INT64_MIN));
}

Test(atomic, every_type_is_swapped)
{
    expect_int(PW_ATOMIC_SWAP, 3, -5, -5);
    expect_float(PW_ATOMIC_SWAP, 3.5f, -5.25f, -5.25f);
}

Test(atomic, floating_point_is_added_and_compared)
{
    expect_float(PW_ATOMIC_ADD, 1.5f, 2.25f, 3.75f);
    expect_float(PW_ATOMIC_ADD, 1.5f, -2.25f, -0.75f);
    expect_float(PW_ATOMIC_MIN, 1.5f, -2.25f, -2.25f);
    expect_float(PW_ATOMIC_MIN, -3.0f, -2.25f, -3.0f);
    expect_float(PW_ATOMIC_MAX, 1.5f, -2.25f, 1.5f);
    expect_float(PW_ATOMIC_MAX, -3.0f, -2.25f, -2.25f);
    expect_float(PW_ATOMIC_MAX, -INFINITY, INFINITY, INFINITY);
    expect_float(PW_ATOMIC_ADD, 0.0f, -0.0f, 0.0f);
}

/* A sum of floats is rounded as a float, one of doubles as a double. */
Test(atomic, sums_are_rounded_to_their_type)
{
    expect_after(PW_ATOMIC_ADD, PW_FLOAT, f32(16777216.0f), f32(1.0f), f32(16777216.0f));
    expect_after(PW_ATOMIC_ADD, PW_DOUBLE, f64(16777216.0), f64(1.0), f64(16777217.0));
}

static void expect_cswap(enum pw_atomic_type type, uint64_t before, uint64_t compare,
                         uint64_t operand, uint64_t after)
{
    struct pw_atomic a = { .op = PW_ATOMIC_CSWAP, .type = type, .operand = operand,
                           .compare = compare };
    uint64_t memory = before, result = 99;

    cr_expect(eq(int, pw_atomic_apply(&a, &memory, &result), 0));
    cr_expect(eq(u64, memory, after), "type %d", type);
    cr_expect(eq(u64, result, before), "type %d", type);
}

Test(atomic, compare_and_swap_swaps_only_what_it_expected)
{
    const enum pw_atomic_type types[] = { PW_INT32, PW_INT64, PW_FLOAT, PW_DOUBLE };

    for (int i = 0; i < 4; i++) {
        expect_cswap(types[i], 5, 5, 9, 9);
        expect_cswap(types[i], 5, 6, 9, 5);
        expect_cswap(types[i], 0, 0, 0, 0);
    }
    expect_cswap(PW_INT64, (uint64_t)1 << 32, 0, 9, (uint64_t)1 << 32);
}

/* 32-bit operands are the low bytes, whatever the high ones are. */
Test(atomic, the_high_half_of_a_small_operand_does_not_matter)
{
    struct pw_atomic a = { .op = PW_ATOMIC_CSWAP, .type = PW_INT32,
                           .operand = 0xffffffff00000009, .compare = 0xffffffff00000005 };
    uint32_t memory = 5;

    cr_expect(eq(int, pw_atomic_apply(&a, &memory, NULL), 0), "a result may be left out");
    cr_expect(eq(u32, memory, 9));
    a = (struct pw_atomic){ .op = PW_ATOMIC_MAX, .type = PW_INT32,
                            .operand = 0x1ffffffff };
    cr_expect(eq(int, pw_atomic_apply(&a, &memory, NULL), 0));
    cr_expect(eq(u32, memory, 9), "-1 is the operand");
}

Test(atomic, what_does_not_exist_for_floating_point_is_refused)
{
    const enum pw_atomic_op ops[] = { PW_ATOMIC_AND, PW_ATOMIC_OR, PW_ATOMIC_XOR,
                                      PW_ATOMIC_LAND, PW_ATOMIC_LOR, PW_ATOMIC_LXOR };

    for (int i = 0; i < 6; i++)
        for (int type = PW_FLOAT; type <= PW_DOUBLE; type++) {
            struct pw_atomic a = { .op = ops[i], .type = (enum pw_atomic_type)type,
                                   .operand = 1 };
            uint64_t memory = 5, result = 6;

            cr_expect(eq(int, pw_atomic_apply(&a, &memory, &result), -EOPNOTSUPP));
            cr_expect(eq(u64, memory, 5));
            cr_expect(eq(u64, result, 6));
        }
}

Test(atomic, a_target_must_be_aligned_to_its_type)
{
    uint64_t memory[2] = { 5, 6 }, result = 7;

    for (uintptr_t off = 1; off < 8; off++) {
        struct pw_atomic a = { .op = PW_ATOMIC_ADD, .type = PW_INT64, .operand = 1 };

        cr_expect(eq(int, pw_atomic_apply(&a, (char *)memory + off, &result), -EINVAL));
        a.type = PW_INT32;
        cr_expect(eq(int, pw_atomic_apply(&a, (char *)memory + off, NULL),
                     off == 4 ? 0 : -EINVAL));
    }
    cr_expect(eq(u64, memory[0], 5 + ((uint64_t)1 << 32)));
    cr_expect(eq(u64, memory[1], 6));
    cr_expect(eq(u64, result, 7));
}

/* ---- two threads on one word ---- */

enum { TIMES = 100000 };

struct race {
    struct pw_atomic what;
    uint64_t memory;
};

static void *hammer(void *arg)
{
    struct race *r = arg;

    for (int i = 0; i < TIMES; i++)
        pw_atomic_apply(&r->what, &r->memory, NULL);
    return NULL;
}

static uint64_t race_of(struct pw_atomic what)
{
    struct race r = { .what = what };
    pthread_t other;

    cr_assert(eq(int, pthread_create(&other, NULL, hammer, &r), 0));
    hammer(&r);
    pthread_join(other, NULL);
    return r.memory;
}

Test(atomic, nothing_is_lost_between_two_threads)
{
    struct pw_atomic add = { .op = PW_ATOMIC_ADD };

    add.type = PW_INT32;
    add.operand = 1;
    cr_expect(eq(u64, race_of(add), 2 * TIMES));
    add.type = PW_INT64;
    cr_expect(eq(u64, race_of(add), 2 * TIMES));
    add.type = PW_FLOAT;
    add.operand = f32(1);
    cr_expect(eq(u64, race_of(add), f32(2 * TIMES)));
    add.type = PW_DOUBLE;
    add.operand = f64(1);
    cr_expect(eq(u64, race_of(add), f64(2 * TIMES)));
}
