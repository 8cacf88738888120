/* SPDX-License-Identifier: BSD-3-Clause */
/* trial.c - two ways of which nothing is expected; tests/unit/adapt.c has the rest. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "pinwheel/trial.h"

enum { LEN = 256 << 10, MANY = 100000 };

static const uint64_t nothing[2] = { 0, 0 };

/* n transfers, each of which ends before the next; how many went by way 1. */
static unsigned by_the_other(struct pw_trial *t, const uint64_t ns[2], unsigned n)
{
    unsigned other = 0;

    for (unsigned i = 0; i < n; i++) {
        int way = pw_trial_choose(t, nothing, LEN);

        pw_trial_note(t, nothing, way, LEN, ns[way]);
        other += way == 1;
    }
    return other;
}

Test(trial, without_an_expectation_the_first_is_begun_with_and_the_other_tried)
{
    const uint64_t same[2] = { 50000, 50000 };
    struct pw_trial t = { 0 };

    cr_expect(eq(uint, by_the_other(&t, same, PW_TRIAL_FIRST), 0));
    cr_expect(eq(int, pw_trial_choose(&t, nothing, LEN), 1));
    by_the_other(&t, same, MANY);
    cr_expect(le(uint, by_the_other(&t, same, MANY), MANY / 100));
}

Test(trial, the_cheaper_one_is_found)
{
    const uint64_t first[2] = { 40000, 60000 }, second[2] = { 60000, 40000 };
    struct pw_trial t = { 0 }, u = { 0 };

    cr_expect(le(uint, by_the_other(&t, first, MANY), MANY / 50));
    cr_expect(le(uint, MANY - MANY / 50, by_the_other(&u, second, MANY)));
}

/* As much of the time before as may be the price, and no more. */
Test(trial, the_time_before_counts_with_bounds)
{
    cr_expect(eq(u64, pw_trial_seen(100, 0), 100));
    cr_expect(eq(u64, pw_trial_seen(100, 130), 230));
    cr_expect(eq(u64, pw_trial_seen(100, 1000000000), 100 + 100 * PW_TRIAL_BEFORE));
    cr_expect(eq(u64, pw_trial_seen(100, UINT64_MAX), 100 + 100 * PW_TRIAL_BEFORE));
}
