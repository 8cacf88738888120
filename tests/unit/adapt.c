/* SPDX-License-Identifier: BSD-3-Clause */
/* adapt.c - stream or kernel, found out from what transfers took. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "btl/core/adapt.h"

enum { LEN = 256 << 10, MANY = 100000 };

/* ns for a transfer of LEN, by each carrier. */
struct world {
    uint64_t ns[PW_CARRIERS];
};

static struct pw_costs costs_of(unsigned stream_mb_s, unsigned kernel_mb_s)
{
    return (struct pw_costs){ .stream = pw_cost_line(1, stream_mb_s),
                              .kernel = pw_cost_line(1, kernel_mb_s) };
}

/* n transfers, each of which ends before the next; how many went by the kernel. */
static unsigned by_kernel(struct pw_adapt *a, const struct pw_costs *costs,
                          const struct world *w, unsigned n)
{
    unsigned kernel = 0;

    for (unsigned i = 0; i < n; i++) {
        enum pw_carrier c = pw_adapt_choose(a, costs, LEN);

        pw_adapt_note(a, costs, c, LEN, w->ns[c]);
        kernel += c == PW_CARRY_KERNEL;
    }
    return kernel;
}

static const struct world stream_better = { { 10000, 20000 } };
static const struct world kernel_better = { { 40000, 20000 } };

Test(adapt, begins_with_what_costs_say)
{
    const struct pw_costs fast_stream = costs_of(26000, 13000);
    const struct pw_costs fast_kernel = costs_of(6000, 13000), unknown = { 0 };
    struct pw_adapt a = { 0 }, b = { 0 }, c = { 0 };

    cr_expect(eq(int, pw_adapt_choose(&a, &fast_stream, LEN), PW_CARRY_STREAM));
    cr_expect(eq(int, pw_adapt_choose(&b, &fast_kernel, LEN), PW_CARRY_KERNEL));
    cr_expect(eq(int, pw_adapt_choose(&c, &unknown, LEN), PW_CARRY_STREAM));
}

Test(adapt, what_is_as_good_as_expected_is_hardly_doubted)
{
    const struct pw_costs costs = costs_of(26000, 13000);
    struct pw_adapt a = { 0 };

    cr_expect(eq(uint, by_kernel(&a, &costs, &stream_better, 200), 0));
    cr_expect(le(uint, by_kernel(&a, &costs, &stream_better, MANY), MANY / 1000));
}

Test(adapt, what_turns_out_dear_is_left)
{
    const struct pw_costs costs = costs_of(26000, 13000);
    struct pw_adapt a = { 0 };
    unsigned first = by_kernel(&a, &costs, &kernel_better, 10);

    cr_expect(ge(uint, first, 5), "after four transfers");
    cr_expect(ge(uint, by_kernel(&a, &costs, &kernel_better, MANY), MANY - MANY / 50));
}

Test(adapt, a_wrong_expectation_is_found_out)
{
    const struct pw_costs costs = costs_of(6000, 13000);
    struct pw_adapt a = { 0 };

    by_kernel(&a, &costs, &stream_better, 300);
    cr_expect(le(uint, by_kernel(&a, &costs, &stream_better, MANY), MANY / 50));
}

Test(adapt, follows_what_changes)
{
    const struct pw_costs costs = costs_of(26000, 13000);
    struct pw_adapt a = { 0 };

    for (int i = 0; i < 5; i++) {
        by_kernel(&a, &costs, &kernel_better, 1000);
        cr_expect(ge(uint, by_kernel(&a, &costs, &kernel_better, 1000), 950), "round %d", i);
        by_kernel(&a, &costs, &stream_better, 1000);
        cr_expect(le(uint, by_kernel(&a, &costs, &stream_better, 1000), 50), "round %d", i);
    }
}

Test(adapt, trials_in_vain_become_rare)
{
    const struct pw_costs costs = costs_of(26000, 20000);
    const struct world near = { { 12500, 13000 } };
    struct pw_adapt a = { 0 };

    by_kernel(&a, &costs, &near, 2000);
    cr_expect(le(uint, by_kernel(&a, &costs, &near, 25600), 2 * 100));
}

Test(adapt, one_interruption_changes_nothing)
{
    const struct pw_costs costs = costs_of(26000, 13000);
    struct pw_adapt a = { 0 };

    by_kernel(&a, &costs, &stream_better, 100);
    pw_adapt_note(&a, &costs, PW_CARRY_STREAM, LEN, 50000000);
    cr_expect(le(uint, by_kernel(&a, &costs, &stream_better, 1000), 2 * PW_TRIAL_LENGTH));
}

Test(adapt, a_trial_that_goes_badly_takes_one_transfer)
{
    const struct pw_costs costs = costs_of(26000, 26000);
    const struct world bad = { { 15000, 90000 } };
    struct pw_adapt a = { 0 };

    cr_expect(eq(uint, by_kernel(&a, &costs, &bad, 2 * PW_TRIAL_FIRST), 1));
}

/* A burst is asked for before the first of it ends. */
Test(adapt, what_was_under_way_before_a_trial_does_not_end_it)
{
    const struct pw_costs costs = costs_of(26000, 26000);
    struct pw_adapt a = { 0 };

    by_kernel(&a, &costs, &kernel_better, PW_TRIAL_FIRST);
    cr_assert(eq(int, pw_adapt_choose(&a, &costs, LEN), PW_CARRY_KERNEL));
    for (int i = 0; i < 60; i++)
        pw_adapt_note(&a, &costs, PW_CARRY_STREAM, LEN, 40000);
    cr_expect(eq(int, pw_adapt_choose(&a, &costs, LEN), PW_CARRY_KERNEL));
}

Test(adapt, lengths_are_judged_apart)
{
    const struct pw_costs costs = costs_of(26000, 13000);
    struct pw_adapt a = { 0 };

    by_kernel(&a, &costs, &kernel_better, 100);
    cr_expect(eq(int, pw_adapt_choose(&a, &costs, LEN), PW_CARRY_KERNEL));
    cr_expect(eq(int, pw_adapt_choose(&a, &costs, LEN + 1), PW_CARRY_STREAM));
    cr_expect(eq(int, pw_adapt_choose(&a, &costs, LEN / 2), PW_CARRY_STREAM));
    cr_expect(eq(int, pw_adapt_choose(&a, &costs, LEN / 2 + 1), PW_CARRY_KERNEL));
}

Test(adapt, any_time_and_length_is_taken)
{
    const struct pw_costs costs = costs_of(26000, 13000);
    struct pw_adapt a = { 0 };

    for (size_t len = 1; len && len < (size_t)1 << 50; len *= 2)
        for (int i = 0; i < 20; i++) {
            pw_adapt_note(&a, &costs, PW_CARRY_STREAM, len, 0);
            pw_adapt_note(&a, &costs, PW_CARRY_KERNEL, len, UINT64_MAX / 2);
            pw_adapt_choose(&a, &costs, len);
        }
    for (int i = 0; i < PW_TRIAL_CLASSES; i++)
        cr_expect(lt(u32, 0, a.trial.classes[i].cost[0]));
}
