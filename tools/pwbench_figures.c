/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_figures.c - see pwbench_figures.h. */
#include "pwbench_figures.h"

enum { ITERATIONS_MIN = 4 };

struct pw_counts pw_counts_for(const struct pw_single_options *o, size_t size)
{
    static const struct pw_counts by_test[3][2] = {     /* [test][large] */
        { { 10000, 100 }, { 1000, 10 } },
        { { 100, 10 }, { 20, 2 } },                     /* of windows */
        { { 1000, 100 }, { 100, 10 } },                 /* collectives */
    };
    const struct pw_test_info *t = &pw_test_info[o->test];
    int row = t->windowed ? 1 : t->kind == PW_COLLECTIVE ? 2 : 0;
    struct pw_counts c = by_test[row][size > PW_LARGE];

    if (o->iterations)
        c.iterations = o->iterations;
    if (o->warmup >= 0)
        c.warmup = o->warmup;
    return c;
}

long pw_counts_fit(const struct pw_single_options *o, struct pw_counts c, double each)
{
    long n = c.iterations;

    if (o->seconds > 0 && each > 0 && (double)n * each > o->seconds) {
        n = (long)(o->seconds / each);
        if (n < ITERATIONS_MIN)
            n = ITERATIONS_MIN;
        if (n > c.iterations)
            n = c.iterations;
    }
    return n;
}

long pw_batch_start(long iterations, int i, int n)
{
    return iterations * i / n;
}

double pw_figure(enum pw_test test, double messages, size_t size, double seconds)
{
    switch (test) {
    case PW_LATENCY:
        return seconds * 1e6 / 2;
    case PW_BW:
        return messages * (double)size / seconds / 1e6;
    case PW_BIBW:
        return 2 * messages * (double)size / seconds / 1e6;
    case PW_RATE:
        return messages / seconds / 1e6;
    default:
        return seconds * 1e6;
    }
}

int pw_decimals(double value)
{
    return value < 1 ? 4 : value < 10 ? 3 : 2;
}
