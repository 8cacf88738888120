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

Test(copy, small_ones_take_all_bytes_and_no_other_at_any_offset)
{
    for (size_t len = 0; len <= 40; len++)
        for (size_t to = 0; to < 9; to++)
            for (size_t from = 0; from < 9; from++)
                try_copy(pw_copy_small, to, from, len);
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

    for (int times = 0; times < 80; times++)
        for (size_t i = 0; i < 4; i++)
            try_copy(paced, (size_t)times, (size_t)times * 3, large[i]);
}

/* A clock of our own: each way costs what `cost` says. Returns the number of
 * copies until the way changed, 0 when it did not within `most`. */
static unsigned notes_until_change(struct pw_pace *p, const unsigned cost[2], unsigned most)
{
    unsigned way = p->way;

    for (unsigned n = 1; n <= most; n++) {
        pw_pace_note(p, cost[p->way]);
        if (p->way != way)
            return n;
    }
    return 0;
}

Test(copy, the_other_way_is_tried_soon_after_the_start)
{
    const unsigned cost[2] = { 1000, 1000 };
    struct pw_pace p = { 0 };

    cr_expect(eq(uint, p.way, 0));
    cr_expect(eq(uint, notes_until_change(&p, cost, 1000), PW_PACE_FIRST));
}

Test(copy, a_cheaper_way_is_kept)
{
    const unsigned cost[2] = { 1000, 900 };
    struct pw_pace p = { 0 };

    notes_until_change(&p, cost, 1000);
    cr_expect(eq(uint, notes_until_change(&p, cost, PW_PACE_TRIAL + 100), 0));
    cr_expect(eq(uint, p.way, 1));
}

Test(copy, a_way_little_dearer_is_given_up_after_a_whole_trial)
{
    const unsigned cost[2] = { 1000, 1100 };
    struct pw_pace p = { 0 };

    notes_until_change(&p, cost, 1000);
    cr_expect(eq(uint, notes_until_change(&p, cost, 1000), PW_PACE_TRIAL - 1));
    cr_expect(eq(uint, p.way, 0));
}

Test(copy, a_way_much_dearer_is_given_up_early)
{
    const unsigned cost[2] = { 1000, 5000 };
    struct pw_pace p = { 0 };

    notes_until_change(&p, cost, 1000);
    cr_expect(eq(uint, notes_until_change(&p, cost, 1000), PW_PACE_EARLY - 1));
    cr_expect(eq(uint, p.way, 0));
}

Test(copy, what_the_reader_pays_counts)
{
    const unsigned cost[2] = { 1000, 500 };
    struct pw_pace dear = { .past_extra = 600 }, cheap = { .past_extra = 400 };

    notes_until_change(&dear, cost, 1000);
    notes_until_change(&dear, cost, 1000);
    cr_expect(eq(uint, dear.way, 0));
    notes_until_change(&cheap, cost, 1000);
    cr_expect(eq(uint, notes_until_change(&cheap, cost, PW_PACE_TRIAL + 100), 0));
    cr_expect(eq(uint, cheap.way, 1));
}

/* What a copy costs is settled by those before it: the first of a trial may be
 * dear and the last cheap. */
Test(copy, the_end_of_a_trial_counts)
{
    const unsigned dear[2] = { 1000, 1400 }, cheap[2] = { 1000, 500 };
    struct pw_pace p = { 0 };

    notes_until_change(&p, dear, 1000);
    cr_expect(eq(uint, notes_until_change(&p, dear, PW_PACE_TRIAL / 2), 0));
    cr_expect(eq(uint, notes_until_change(&p, cheap, PW_PACE_TRIAL), 0));
    cr_expect(eq(uint, p.way, 1));
}

Test(copy, trials_in_vain_come_less_and_less_often)
{
    const unsigned cost[2] = { 1000, 5000 };
    const unsigned gaps[] = { 2048, 4096, 8192, 8192 };
    struct pw_pace p = { 0 };

    notes_until_change(&p, cost, 1000);
    for (int i = 0; i < 4; i++) {
        notes_until_change(&p, cost, 1000);
        cr_expect(eq(uint, p.way, 0));
        cr_expect(eq(uint, notes_until_change(&p, cost, 100000), gaps[i]), "gap %d", i);
    }
}

Test(copy, a_way_that_becomes_dear_is_compared_soon)
{
    const unsigned before[2] = { 1000, 5000 }, after[2] = { 20000, 1000 };
    struct pw_pace p = { 0 };

    for (int i = 0; i < 8; i++)
        notes_until_change(&p, before, 100000);
    cr_assert(eq(uint, p.way, 0));
    cr_assert(eq(u32, p.next, PW_PACE_LATE));
    for (unsigned c = 2000; c <= 20000; c *= 2)     /* not one interruption */
        notes_until_change(&p, (unsigned[2]){ c, 1000 }, 30);
    cr_expect(notes_until_change(&p, after, 100000) <= PW_PACE_SOON);
    cr_expect(eq(uint, notes_until_change(&p, after, 1000), 0), "and the other one stays");
}

/* A process that was stopped, say: longer than 32 bits can tell. */
Test(copy, a_first_copy_that_took_for_ever_is_forgotten)
{
    struct pw_pace p = { 0 };
    unsigned dear = 0;

    pw_pace_note(&p, UINT64_MAX);
    for (int i = 0; i < 100000; i++) {
        dear += !p.way;
        pw_pace_note(&p, p.way ? 1000 : 3000);
    }
    cr_expect(lt(uint, dear, 10000));
}

Test(copy, one_interruption_does_not_spoil_what_is_known)
{
    struct pw_pace p = { .cost = { 1000, 0 }, .next = PW_PACE_LATE };

    pw_pace_note(&p, 8000);
    cr_expect(eq(u32, p.cost[0], 1000), "eight times as long");
    pw_pace_note(&p, 2000);
    cr_expect(eq(u32, p.cost[0], 1125));
}

#ifdef __x86_64__
Test(copy, the_clock_is_read_for_the_way_in_use)
{
    struct pw_pace p = { 0 };

    pw_copy_paced(&p, to_page, from_page, LARGEST);
    cr_expect(ne(u32, p.cost[0], 0));
    cr_expect(eq(u32, p.cost[1], 0));
}
#endif
