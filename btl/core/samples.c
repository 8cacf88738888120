/* SPDX-License-Identifier: BSD-3-Clause */
/* samples.c - one thing, timed several times. */
#include "samples.h"

#include <stdlib.h>

#include "pinwheel/clock.h"

/* What a look at the clock may add, ns. */
enum { CLOCK_NS = 50 };

bool pw_samples_enough(struct pw_samples *s, int least, uint64_t budget_ns)
{
    if (!s->n && !s->start)
        s->start = pw_now_ns();
    return s->n == PW_SAMPLES || (s->n >= least && pw_now_ns() - s->start >= budget_ns);
}

void pw_samples_add(struct pw_samples *s, uint64_t ns)
{
    if (s->n < PW_SAMPLES)
        s->ns[s->n++] = ns;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

uint64_t pw_samples_typical(struct pw_samples *s)
{
    if (!s->n)
        return 0;
    qsort(s->ns, (size_t)s->n, sizeof s->ns[0], by_value);
    return s->ns[s->n / 4] ? s->ns[s->n / 4] : 1;
}

bool pw_samples_steady(struct pw_samples *s)
{
    uint64_t typical = pw_samples_typical(s);

    return s->n > 0 && typical <= s->ns[0] + s->ns[0] / 2 + CLOCK_NS;
}
