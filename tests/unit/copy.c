/* SPDX-License-Identifier: BSD-3-Clause */
/* copy.c - the bulk copies do what memcpy does, and take the cheaper way. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>

#include "pinwheel/copy.h"

enum { OFFSETS = 65, STRIP = 128, LARGEST = 17 * 4096 };

static uint8_t *from_page, *to_page;

static void pages_alloc(void)
{
    from_page = aligned_alloc(4096, LARGEST + 4 * 4096);
    to_page = aligned_alloc(4096, LARGEST + 4 * 4096);
    for (int i = 0; i < LARGEST + 4 * 4096; i++)
        from_page[i] = (uint8_t)(1 + i % 251);
}

static void pages_free(void)
{
    free(from_page);
    free(to_page);
}

TestSuite(copy, .init = pages_alloc, .fini = pages_free);

typedef void copy_fn(void *to, const void *from, size_t len);

static struct pw_pace shared_pace;

static void paced(void *to, const void *from, size_t len)
{
    pw_copy_paced(&shared_pace, to, from, len);
}

static bool filled(const uint8_t *p, size_t len, uint8_t with)
{
    for (size_t i = 0; i < len; i++)
        if (p[i] != with)
            return false;
    return true;
}

/* Every byte came, and none beside. */
static void try_copy(copy_fn *copy, size_t to_offset, size_t from_offset, size_t len)
{
    uint8_t *to = to_page + STRIP + to_offset;
    const uint8_t *from = from_page + from_offset;

    memset(to - STRIP, 0, len + 2 * STRIP);
    copy(to, from, len);
    cr_assert(eq(int, memcmp(to, from, len), 0), "%zu bytes from %zu to %zu", len,
              from_offset, to_offset);
    cr_assert(filled(to - STRIP, STRIP, 0), "%zu bytes to %zu", len, to_offset);
    cr_assert(filled(to + len, STRIP, 0), "%zu bytes to %zu", len, to_offset);
}

static void try_offsets(copy_fn *copy, const size_t *sizes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t to = 0; to < OFFSETS; to++)
            for (size_t from = 0; from < OFFSETS; from += 1 + (sizes[i] > 300) * 6)
                try_copy(copy, to, from, sizes[i]);
}

/* Around the borders at which the code goes another way. */
static const size_t sizes[] = {
    0, 1, 15, 16, 17, 63, 64, 65, 127, 255, 256, 257, 319, 320, 321, 383, 2046, 2047,
    2048, 4093, 4094, 4095, 5000,
};
enum { N_SIZES = sizeof sizes / sizeof sizes[0] };

Test(copy, plain_copies_all_bytes_and_no_other_at_any_offset)
{
    try_offsets(pw_copy, sizes, N_SIZES);
}

Test(copy, past_the_cache_all_bytes_arrive_and_no_other_at_any_offset)
{
    try_offsets(pw_copy_past_cache, sizes, N_SIZES);
}

/* Where "rep movsb" is slow: the destination a little behind, modulo the page. */
Test(copy, a_destination_just_behind_the_source_in_its_page_is_copied_whole)
{
    for (size_t ahead = 0; ahead <= 40; ahead++) {
        try_copy(pw_copy, 4096 - STRIP + ahead, 0, LARGEST);
        try_copy(pw_copy, 4096 - STRIP + ahead, 7, 2048 + ahead);
    }
}

Test(copy, paced_copies_all_bytes_either_way)
{
    const size_t large[] = { PW_PACE_MIN, PW_PACE_MIN + 1, 16384, 65537 };

    for (int times = 0; times < 40; times++)
        for (size_t i = 0; i < 4; i++)
            try_copy(paced, (size_t)times, (size_t)times * 3, large[i]);
}

#ifdef __x86_64__
/* Costs so high that whatever the clock says now is no outlier. */
enum { CHEAP = 0x10000000, DEAR = 0x20000000 };

static unsigned way_taken(struct pw_pace *pace)
{
    struct pw_pace before = *pace;

    pw_copy_paced(pace, to_page, from_page, PW_PACE_MIN);
    cr_assert(ne(int, before.cost[0] != pace->cost[0], before.cost[1] != pace->cost[1]),
              "one cost is measured anew");
    return before.cost[1] != pace->cost[1];
}

Test(copy, the_way_that_was_faster_is_taken)
{
    struct pw_pace pace;

    for (unsigned turn = 1; turn < PW_PACE_TRY; turn++) {
        pace = (struct pw_pace){ .cost = { DEAR, CHEAP }, .turn = turn };
        cr_expect(eq(uint, way_taken(&pace), 1), "turn %u", turn);
        pace = (struct pw_pace){ .cost = { CHEAP, DEAR }, .turn = turn };
        cr_expect(eq(uint, way_taken(&pace), 0), "turn %u", turn);
    }
}

Test(copy, the_other_way_is_tried_now_and_then)
{
    struct pw_pace pace = { .cost = { DEAR, CHEAP }, .turn = 0 };

    cr_expect(eq(uint, way_taken(&pace), 0));
    pace = (struct pw_pace){ .cost = { CHEAP, DEAR }, .turn = PW_PACE_TRY };
    cr_expect(eq(uint, way_taken(&pace), 1));
}

Test(copy, both_ways_are_known_after_two_copies)
{
    struct pw_pace pace = { 0 };

    pw_copy_paced(&pace, to_page, from_page, LARGEST);
    pw_copy_paced(&pace, to_page, from_page, LARGEST);
    cr_expect(ne(u32, pace.cost[0], 0));
    cr_expect(ne(u32, pace.cost[1], 0));
    cr_expect(eq(u32, pace.turn, 2));
}

Test(copy, one_interruption_does_not_spoil_what_is_known)
{
    struct pw_pace pace = { .cost = { 1, DEAR }, .turn = 1 };

    pw_copy_paced(&pace, to_page, from_page, PW_PACE_MIN);
    cr_expect(eq(u32, pace.cost[0], 1), "more than eight times as long");
    cr_expect(eq(u32, pace.cost[1], DEAR));
}
#endif
