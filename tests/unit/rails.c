/* SPDX-License-Identifier: BSD-3-Clause */
/* rails.c - which NIC goes with which: the same from both sides. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "btl/core/rails.h"

/* As "0-1 2-0", in the order of preference. */
static const char *pairs(int fit[PW_RAILS][PW_RAILS])
{
    static char text[64];
    struct pw_rail rails[PW_PAIRS];
    int n = pw_rails_pair(fit, rails), at = 0;

    text[0] = '\0';
    for (int i = 0; i < n; i++)
        at += snprintf(text + at, sizeof(text) - (size_t)at, "%s%d-%d", i ? " " : "",
                       rails[i].own, rails[i].part);
    return text;
}

enum { R = PW_FIT_ROUTED, L = PW_FIT_LINK };

Test(rails, nothing_fits_nothing)
{
    int fit[PW_RAILS][PW_RAILS] = { { 0 } };

    cr_expect(eq(str, (char *)pairs(fit), ""));
}

Test(rails, two_links_go_straight)
{
    int fit[PW_RAILS][PW_RAILS] = { { 0 }, { 0, L, R }, { 0, R, L } };

    cr_expect(eq(str, (char *)pairs(fit), "1-1 2-2"));
}

Test(rails, the_same_network_is_found_whatever_its_place)
{
    int fit[PW_RAILS][PW_RAILS] = { { R, L }, { L, R } };

    cr_expect(eq(str, (char *)pairs(fit), "0-1 1-0"));
}

Test(rails, where_all_is_alike_each_has_its_own)
{
    int fit[PW_RAILS][PW_RAILS] = { { R, R, R }, { R, R, R }, { R, R, R } };

    cr_expect(eq(str, (char *)pairs(fit), "0-0 1-1 2-2"));
}

Test(rails, who_is_left_over_shares)
{
    int two_to_one[PW_RAILS][PW_RAILS] = { { L }, { R } };
    int one_to_three[PW_RAILS][PW_RAILS] = { { R, L, R } };

    cr_expect(eq(str, (char *)pairs(two_to_one), "0-0 1-0"));
    cr_expect(eq(str, (char *)pairs(one_to_three), "0-1 0-0 0-2"));
}

Test(rails, no_more_than_there_is_room_for)
{
    int fit[PW_RAILS][PW_RAILS];

    for (int i = 0; i < PW_RAILS; i++)
        for (int j = 0; j < PW_RAILS; j++)
            fit[i][j] = L;
    cr_expect(eq(str, (char *)pairs(fit), "0-0 1-1 2-2 3-3"));
}

static bool has(const struct pw_rail *rails, int n, int own, int part)
{
    for (int i = 0; i < n; i++)
        if (rails[i].own == own && rails[i].part == part)
            return true;
    return false;
}

/* What one side chooses the other one chooses too. */
Test(rails, both_sides_come_to_the_same_pairs)
{
    srand(6);
    for (int round = 0; round < 20000; round++) {
        int fit[PW_RAILS][PW_RAILS], turned[PW_RAILS][PW_RAILS], n, m;
        struct pw_rail ours[PW_PAIRS], theirs[PW_PAIRS];

        for (int i = 0; i < PW_RAILS; i++)
            for (int j = 0; j < PW_RAILS; j++)
                fit[i][j] = turned[j][i] = rand() % 3;
        n = pw_rails_pair(fit, ours);
        m = pw_rails_pair(turned, theirs);
        cr_assert(eq(int, n, m));
        for (int i = 0; i < n; i++)
            cr_assert(has(theirs, m, ours[i].part, ours[i].own), "round %d", round);
    }
}
