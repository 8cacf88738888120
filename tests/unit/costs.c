/* SPDX-License-Identifier: BSD-3-Clause */
/* costs.c - what a transfer takes, read off a curve. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "btl/core/costs.h"

static const struct pw_cost_curve curve = {
    { 1000, 2000, 4000, 10000, 40000, 200000, 1000000, 5000000 },
};

Test(costs, at_its_points_a_curve_is_what_was_measured)
{
    for (int i = 0; i < PW_COST_POINTS; i++)
        cr_expect(eq(u64, pw_cost_ns(&curve, pw_cost_len(i)), curve.ns[i]), "%d", i);
    cr_expect(eq(sz, pw_cost_len(0), 4096));
    cr_expect(eq(sz, pw_cost_len(PW_COST_POINTS - 1), 64 << 20));
}

Test(costs, between_two_points_it_is_straight)
{
    cr_expect(eq(u64, pw_cost_ns(&curve, 10240), 1500));
    cr_expect(eq(u64, pw_cost_ns(&curve, (1 << 20) + (3 << 19)), 120000));
}

Test(costs, below_the_first_point_it_goes_on_straight_and_stays_above_nothing)
{
    const struct pw_cost_curve steep = { { 10, 1000, 1, 1, 1, 1, 1, 1 } };

    cr_expect(eq(u64, pw_cost_ns(&curve, 1024), 750));
    cr_expect(eq(u64, pw_cost_ns(&steep, 1), 1));
}

Test(costs, beyond_the_last_point_the_rate_stays)
{
    cr_expect(eq(u64, pw_cost_ns(&curve, (size_t)256 << 20), 20000000));
    cr_expect(eq(u64, pw_cost_ns(&curve, (size_t)1 << 40) / 1000000, 81920));
}

Test(costs, a_curve_that_is_not_known_costs_more_than_any)
{
    const struct pw_cost_curve none = { { 0 } }, half = { { 1, 2, 3 } };

    cr_expect(eq(u64, pw_cost_ns(&none, 1), PW_COST_UNKNOWN));
    cr_expect(eq(u64, pw_cost_ns(&half, 1), PW_COST_UNKNOWN));
}

Test(costs, a_line_is_so_much_each_time_and_so_much_a_byte)
{
    struct pw_cost_curve line = pw_cost_line(500, 1000);

    cr_expect(eq(u64, pw_cost_ns(&line, 4096), 4596));
    cr_expect(eq(u64, pw_cost_ns(&line, 1 << 20), 500 + (1 << 20)));
    cr_expect(eq(u64, pw_cost_ns(&line, 100000), 100500));
    line = pw_cost_line(500, 0);
    cr_expect(eq(u64, pw_cost_ns(&line, 1), PW_COST_UNKNOWN));
}

Test(costs, defaults_are_known_and_rise_with_the_length)
{
    const struct pw_cost_curve *all[] = { &pw_costs_default.direct, &pw_costs_default.push,
                                          &pw_costs_default.stream,
                                          &pw_costs_default.kernel };

    for (int i = 0; i < 4; i++) {
        cr_expect(lt(u64, 0, all[i]->ns[0]));
        for (int k = 1; k < PW_COST_POINTS; k++)
            cr_expect(lt(u64, all[i]->ns[k - 1], all[i]->ns[k]), "curve %d, %d", i, k);
    }
}

Test(costs, a_peer_that_must_help_may_be_waited_for)
{
    struct pw_costs c = { .direct = pw_cost_line(10, 1000), .stream = pw_cost_line(20, 1000),
                          .kernel = pw_cost_line(30, 1000) };
    const struct pw_costs was = c;

    pw_costs_later(&c, 5000);
    for (size_t len = 1; len < (size_t)1 << 26; len *= 3)
        cr_expect(eq(u64, pw_cost_ns(&c.stream, len), pw_cost_ns(&was.stream, len) + 5000),
                  "%zu bytes", len);
    cr_expect(zero(memcmp(&c.direct, &was.direct, sizeof c.direct)));
    cr_expect(zero(memcmp(&c.kernel, &was.kernel, sizeof c.kernel)));
    cr_expect(eq(u64, pw_cost_ns(&c.push, 4096), PW_COST_UNKNOWN), "not known, still");
}

Test(costs, what_was_not_measured_goes_on_as_another_curve_does)
{
    const struct pw_cost_curve shape = { { 1, 2, 3, 4, 5, 10, 20, 50 } };
    struct pw_cost_curve c = { { 10, 20, 30, 40, 100, 7, 7, 7 } }, unknown = { { 0 } };

    pw_cost_extend(&c, 5, &shape);
    cr_expect(eq(u64, c.ns[4], 100));
    cr_expect(eq(u64, c.ns[5], 200));
    cr_expect(eq(u64, c.ns[6], 400));
    cr_expect(eq(u64, c.ns[7], 1000));
    pw_cost_extend(&unknown, 5, &shape);
    cr_expect(eq(u64, pw_cost_ns(&unknown, 1), PW_COST_UNKNOWN));
}

Test(costs, more_that_takes_less_was_measured_badly)
{
    struct pw_costs c = pw_costs_default;
    struct pw_cost_curve *all[] = { &c.direct, &c.push, &c.stream, &c.kernel };

    cr_expect(pw_costs_plausible(&c));
    for (int i = 0; i < 4; i++) {
        struct pw_cost_curve was = *all[i];

        all[i]->ns[3] = all[i]->ns[2];
        cr_expect(not(pw_costs_plausible(&c)), "curve %d", i);
        memset(all[i], 0, sizeof *all[i]);
        cr_expect(eq(int, pw_costs_plausible(&c), i == 3), "only the kernel's may be unknown");
        *all[i] = was;
    }
}
