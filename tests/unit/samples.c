/* SPDX-License-Identifier: BSD-3-Clause */
/* samples.c - when there are enough, and which figure they give. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "btl/core/samples.h"

static struct pw_samples of(const uint64_t *ns, int n)
{
    struct pw_samples s = { .n = 0 };

    for (int i = 0; i < n; i++)
        pw_samples_add(&s, ns[i]);
    return s;
}
#define OF(...) of((const uint64_t[]){ __VA_ARGS__ }, \
                   (int)(sizeof (uint64_t[]){ __VA_ARGS__ } / sizeof(uint64_t)))

Test(samples, the_figure_is_the_lower_quartile)
{
    struct pw_samples s = OF(900, 100, 5000, 300, 200, 400, 8000, 500);

    cr_expect(eq(u64, pw_samples_typical(&s), 300));
}

Test(samples, none_give_nothing_and_nothing_counts_as_one)
{
    struct pw_samples none = { .n = 0 }, zero = OF(0, 0, 0, 0);

    cr_expect(eq(u64, pw_samples_typical(&none), 0));
    cr_expect(not(pw_samples_steady(&none)));
    cr_expect(eq(u64, pw_samples_typical(&zero), 1));
}

Test(samples, enough_are_the_least_when_the_time_is_spent)
{
    struct pw_samples s = { .n = 0 };

    cr_expect(not(pw_samples_enough(&s, 2, 0)));
    pw_samples_add(&s, 1);
    cr_expect(not(pw_samples_enough(&s, 2, 0)));
    pw_samples_add(&s, 1);
    cr_expect(pw_samples_enough(&s, 2, 0));
    cr_expect(not(pw_samples_enough(&s, 2, UINT64_MAX)));
}

Test(samples, enough_are_as_many_as_there_is_room_for)
{
    struct pw_samples s = { .n = 0 };

    for (int i = 0; i < PW_SAMPLES + 3; i++)
        pw_samples_add(&s, 1000 + (uint64_t)i);
    cr_expect(eq(int, s.n, PW_SAMPLES));
    cr_expect(pw_samples_enough(&s, 2, UINT64_MAX));
}

Test(samples, they_agree_when_the_short_ones_do)
{
    struct pw_samples calm = OF(1000, 1100, 1500, 1200, 90000, 80000, 1010, 70000, 1020),
                      half = OF(1000, 1549, 1550, 9000, 9000, 9000, 9000, 9000, 9000),
                      wild = OF(1000, 1600, 1700, 9000, 9000, 9000, 9000, 9000, 9000);

    cr_expect(pw_samples_steady(&calm));
    cr_expect(pw_samples_steady(&half), "half as much again, and the clock");
    cr_expect(not(pw_samples_steady(&wild)));
}
