/* SPDX-License-Identifier: BSD-3-Clause */
/* share.c - pieces of a transfer, and which path each of them goes. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "btl/core/share.h"

#define MB ((uint64_t)1000000)
#define MS ((uint64_t)1000000)

/* A path that has brought so much for 40 ms until `now`. */
static struct pw_share known(uint64_t bytes_per_s, uint64_t now)
{
    struct pw_share s = { .begun = true };

    for (uint64_t t = now - 40 * MS; t < now; t += MS) {
        pw_share_begin(&s, bytes_per_s / 1000, t);
        pw_share_end(&s, bytes_per_s / 1000, t + MS);
    }
    return s;
}

/* Two paths at work on a transfer as their rates are: when it is done. */
static uint64_t carry(struct pw_share shares[2], const uint64_t rates[2], uint64_t now,
                      size_t len, size_t by[2])
{
    const struct pw_share *at[2] = { &shares[0], &shares[1] };
    struct { size_t len[PW_SHARE_PIECES]; int n; uint64_t end; } q[2] = { { .n = 0 } };
    size_t left = len, piece;

    by[0] = by[1] = 0;
    while (left || q[0].n || q[1].n) {
        uint64_t expect[2];
        int i, first;

        for (i = 0; i < 2; i++)
            expect[i] = pw_share_rate(&shares[i], 1000 * MB, now);
        while (left && (i = pw_share_next(at, expect, 2, len, left, &piece)) >= 0) {
            piece = piece < left ? piece : left;
            left -= piece;
            by[i] += piece;
            pw_share_begin(&shares[i], piece, now);
            if (!q[i].n)
                q[i].end = now + piece * 1000 * MS / rates[i];
            q[i].len[q[i].n++] = piece;
        }
        cr_assert(q[0].n || q[1].n, "somebody is at work while something is left");
        first = !q[0].n || (q[1].n && q[1].end < q[0].end);
        now = q[first].end;
        pw_share_end(&shares[first], q[first].len[0], now);
        for (i = 1; i < q[first].n; i++)
            q[first].len[i - 1] = q[first].len[i];
        if (--q[first].n)
            q[first].end = now + q[first].len[0] * 1000 * MS / rates[first];
    }
    return now;
}

static void expect_near(double is, double want, double part)
{
    cr_expect(is > want * (1 - part) && is < want * (1 + part), "%g, not %g", is, want);
}

Test(share, equal_paths_have_halves)
{
    struct pw_share s[2] = { known(60 * MB, 100 * MS), known(60 * MB, 100 * MS) };
    const uint64_t rates[2] = { 60 * MB, 60 * MB };
    size_t by[2];
    uint64_t end = carry(s, rates, 100 * MS, 16 << 20, by);

    expect_near((double)by[0], 8 << 20, 0.02);
    expect_near((double)(end - 100 * MS), (16 << 20) / 120.0 * 1000, 0.03);
}

Test(share, a_path_of_a_tenth_has_an_eleventh)
{
    struct pw_share s[2] = { known(60 * MB, 100 * MS), known(6 * MB, 100 * MS) };
    const uint64_t rates[2] = { 60 * MB, 6 * MB };
    size_t by[2];
    uint64_t end = carry(s, rates, 100 * MS, 16 << 20, by);

    expect_near((double)by[1], (16 << 20) / 11.0, 0.15);
    expect_near((double)(end - 100 * MS), (16 << 20) / 66.0 * 1000, 0.05);
}

/* It was as fast as the other until now. What it has before that shows holds up once. */
Test(share, a_path_that_is_throttled_meanwhile_does_not_hold_up_the_whole)
{
    struct pw_share s[2] = { known(60 * MB, 100 * MS), known(60 * MB, 100 * MS) };
    const uint64_t rates[2] = { 60 * MB, 6 * MB };
    size_t by[2];
    uint64_t first = carry(s, rates, 100 * MS, 16 << 20, by), second;

    cr_expect(lt(u64, first - 100 * MS, 350 * MS), "half of it by the slow one: 1398 ms");
    second = carry(s, rates, first, 16 << 20, by);
    expect_near((double)(second - first), (16 << 20) / 66.0 * 1000, 0.05);
}

Test(share, nothing_known_of_a_path_means_small_pieces_and_few)
{
    struct pw_share s[2] = { { .out = 0 }, { .out = 0 } };
    const struct pw_share *at[2] = { &s[0], &s[1] };
    const uint64_t rates[2] = { 1000 * MB, 1000 * MB };
    size_t piece;
    int given = 0, i;

    while ((i = pw_share_next(at, rates, 2, 64 << 20, 64 << 20, &piece)) >= 0) {
        cr_assert(eq(sz, piece, PW_PIECE_FIRST));
        pw_share_begin(&s[i], piece, 1);
        given++;
    }
    cr_expect(eq(int, given, 4));
}

/* The last piece: 1 ms by the fast path, behind 2 ms of others; 5 ms by the slow one. */
Test(share, near_the_end_a_slow_path_gets_nothing)
{
    struct pw_share s[2] = { known(60 * MB, 100 * MS), known(3 * MB, 100 * MS) };
    const struct pw_share *at[2] = { &s[0], &s[1] };
    const uint64_t rates[2] = { 60 * MB, 3 * MB };
    size_t piece;

    for (int i = 0; i < PW_SHARE_PIECES; i++)
        pw_share_begin(&s[0], 10000, 100 * MS);
    cr_expect(eq(int, pw_share_next(at, rates, 2, 1 << 20, 60000, &piece), -1));
    cr_expect(eq(int, pw_share_next(at, rates, 2, 1 << 20, 60 << 20, &piece), 1));
}

Test(share, a_path_has_only_so_much_before_it)
{
    struct pw_share s = known(60 * MB, 100 * MS);
    const struct pw_share *at[1] = { &s };
    const uint64_t rates[1] = { 60 * MB };
    size_t piece;
    int n = 0;

    while (pw_share_next(at, rates, 1, 64 << 20, 64 << 20, &piece) == 0 && n < 100) {
        pw_share_begin(&s, piece, 100 * MS);
        n++;
    }
    cr_expect(le(u64, s.out, 9 * 60 * MB / 1000));
    cr_expect(ge(u64, s.out, 7 * 60 * MB / 1000));
}

Test(share, pieces_that_are_seen_to_end_at_once_are_one_measure)
{
    struct pw_share s = { .begun = true };

    for (int i = 0; i < 8; i++)
        pw_share_begin(&s, 10000, 0);
    for (int i = 0; i < 8; i++)
        pw_share_end(&s, 10000, 2 * MS);
    expect_near((double)s.bytes_per_s, 40.0 * MB, 0.01);
    cr_expect(eq(uint, s.pieces, 0));
    cr_expect(eq(u64, s.out, 0));
}

Test(share, the_first_piece_says_nothing_for_it_made_the_connection)
{
    struct pw_share s = { .out = 0 };

    pw_share_begin(&s, 65536, 0);
    pw_share_end(&s, 65536, 300 * MS);
    cr_expect(eq(u64, s.bytes_per_s, 0));
    cr_expect(eq(u64, pw_share_rate(&s, 60 * MB, 300 * MS), 60 * MB));
}

/* As a shaper lets pass before it begins to shape. */
Test(share, a_burst_says_nothing)
{
    struct pw_share s = { .begun = true };

    pw_share_begin(&s, 131072, 0);
    pw_share_end(&s, 131072, 20000);
    cr_expect(eq(u64, s.bytes_per_s, 0));
}

Test(share, what_was_slow_long_ago_gets_another_try)
{
    struct pw_share s = known(1 * MB, 100 * MS);

    expect_near((double)pw_share_rate(&s, 60 * MB, 101 * MS), 1.0 * MB, 0.1);
    cr_expect(lt(u64, 10 * MB, pw_share_rate(&s, 60 * MB, 1200 * MS)));
    cr_expect(eq(u64, pw_share_rate(&s, 60 * MB, 100000 * MS), 60 * MB));
    /* Busy, it is not doubted. */
    pw_share_begin(&s, 1000, 101 * MS);
    expect_near((double)pw_share_rate(&s, 60 * MB, 1200 * MS), 1.0 * MB, 0.1);
}

Test(share, nobody_says_how_fast_a_path_is)
{
    struct pw_share s = { .out = 0 };

    cr_expect(eq(u64, pw_share_rate(&s, 0, 5), 1));
}

Test(share, what_is_dropped_is_no_measure)
{
    struct pw_share s = { .begun = true };

    pw_share_begin(&s, 1000, 0);
    pw_share_drop(&s, 1000);
    cr_expect(eq(u64, s.out, 0));
    cr_expect(eq(uint, s.pieces, 0));
    cr_expect(eq(u64, s.bytes_per_s, 0));
}

Test(share, several_paths_pay_from_some_length_on)
{
    const uint64_t fast[2] = { 1250 * MB, 1250 * MB }, slow[2] = { 60 * MB, 60 * MB };

    cr_expect(not(pw_share_pays(fast, 1, fast[0], fast[0], 1 << 30, PW_WANT_AUTO)));
    cr_expect(not(pw_share_pays(fast, 2, fast[0], fast[0], 40000, PW_WANT_AUTO)));
    cr_expect(pw_share_pays(fast, 2, fast[0], fast[0], 1 << 20, PW_WANT_AUTO));
    cr_expect(pw_share_pays(slow, 2, slow[0], fast[0], 140000, PW_WANT_AUTO));
    cr_expect(not(pw_share_pays(slow, 2, slow[0], fast[0], 130000, PW_WANT_AUTO)));
}

Test(share, what_is_wanted_moves_that_length)
{
    const uint64_t fast[2] = { 1250 * MB, 1250 * MB };

    cr_expect(pw_share_pays(fast, 2, fast[0], fast[0], 40000, PW_WANT_BANDWIDTH));
    cr_expect(not(pw_share_pays(fast, 2, fast[0], fast[0], 20000, PW_WANT_BANDWIDTH)));
    cr_expect(pw_share_pays(fast, 2, fast[0], fast[0], 150000, PW_WANT_AUTO));
    cr_expect(not(pw_share_pays(fast, 2, fast[0], fast[0], 150000, PW_WANT_LATENCY)));
    cr_expect(pw_share_pays(fast, 2, fast[0], fast[0], 1 << 20, PW_WANT_LATENCY));
}

/* Two ends of a veth: what one path does not bring is the processor's fault. */
Test(share, where_the_processor_limits_a_path_others_do_not_help)
{
    const uint64_t rates[2] = { 700 * MB, 700 * MB };

    cr_expect(not(pw_share_pays(rates, 2, 700 * MB, 1250 * MB, 1 << 20, PW_WANT_AUTO)));
    cr_expect(not(pw_share_pays(rates, 2, 1900 * MB, 1250 * MB, 1 << 20, PW_WANT_AUTO)));
    cr_expect(pw_share_pays(rates, 2, 700 * MB, 1250 * MB, 1 << 20, PW_WANT_BANDWIDTH));
    cr_expect(pw_share_pays(rates, 2, 1180 * MB, 1250 * MB, 1 << 20, PW_WANT_AUTO));
    cr_expect(pw_share_pays(rates, 2, 60 * MB, 1250 * MB, 1 << 20, PW_WANT_AUTO));
}
