/* SPDX-License-Identifier: BSD-3-Clause */
/* adapt.c - stream or kernel, found out from what transfers took. */
#include "adapt.h"

enum { UNIT = 64 << 10 };

static struct pw_adapt_class *class_of(struct pw_adapt *a, size_t len)
{
    int i = 0;

    while (i < PW_ADAPT_CLASSES - 1 && len > (size_t)32768 << i)
        i++;
    return &a->classes[i];
}

static uint64_t per_unit(uint64_t ns, size_t len)
{
    return (uint64_t)((double)ns * UNIT / (double)len);
}

static uint64_t expected(const struct pw_costs *costs, enum pw_carrier carrier, size_t len)
{
    uint64_t ns = pw_cost_ns(carrier == PW_CARRY_KERNEL ? &costs->kernel : &costs->stream,
                             len);

    return ns == PW_COST_UNKNOWN ? ns : per_unit(ns, len);
}

static void begin(struct pw_adapt_class *c, const struct pw_costs *costs, size_t len)
{
    c->begun = true;
    c->next = PW_ADAPT_FIRST;
    c->carrier = expected(costs, PW_CARRY_KERNEL, len) <
                 expected(costs, PW_CARRY_STREAM, len) ? PW_CARRY_KERNEL : PW_CARRY_STREAM;
}

enum pw_carrier pw_adapt_choose(struct pw_adapt *a, const struct pw_costs *costs,
                                size_t len)
{
    struct pw_adapt_class *c = class_of(a, len);

    if (!c->begun)
        begin(c, costs, len);
    return c->trial ? !c->carrier : c->carrier;
}

/* An interruption counts for four times the usual at most, so that one does not
 * decide; what lasts gets through. */
static void smooth(uint32_t *cost, uint64_t sample)
{
    if (sample > UINT32_MAX / 8)
        sample = UINT32_MAX / 8;
    if (!sample)
        sample = 1;
    if (!*cost) {
        *cost = (uint32_t)sample;
        return;
    }
    if (sample > 4 * (uint64_t)*cost)
        sample = 4 * (uint64_t)*cost;
    *cost = (uint32_t)(*cost + ((int64_t)sample - (int64_t)*cost) / 4);
    if (!*cost)
        *cost = 1;
}

static void trial_over(struct pw_adapt_class *c)
{
    uint32_t mine = c->cost[c->carrier], other = c->cost[!c->carrier];

    c->trial = 0;
    c->since = 0;
    c->content = 0;
    if (other < mine - mine / 8) {
        c->carrier = !c->carrier;
        c->next = PW_ADAPT_FIRST;
    } else {
        c->next = c->next < PW_ADAPT_LAST ? (uint16_t)(2 * c->next) : PW_ADAPT_LAST;
    }
}

static bool worth_a_trial(const struct pw_adapt_class *c, const struct pw_costs *costs,
                          size_t len)
{
    uint64_t other = expected(costs, !c->carrier, len);

    if (c->cost[!c->carrier] && c->cost[!c->carrier] < other)
        other = c->cost[!c->carrier];
    return other != PW_COST_UNKNOWN && c->cost[c->carrier] > other - other / 8;
}

void pw_adapt_note(struct pw_adapt *a, const struct pw_costs *costs,
                   enum pw_carrier carrier, size_t len, uint64_t ns)
{
    struct pw_adapt_class *c = class_of(a, len);

    if (!c->begun)
        begin(c, costs, len);
    /* What a trial finds is fresh: what was found long ago does not soften it. */
    if (c->trial == PW_ADAPT_TRIAL && carrier != c->carrier)
        c->cost[carrier] = 0;
    smooth(&c->cost[carrier], per_unit(ns, len));
    if (c->trial) {
        if (carrier != c->carrier &&
            (--c->trial == 0 || c->cost[carrier] / 2 > c->cost[c->carrier]))
            trial_over(c);
    } else if (carrier == c->carrier && ++c->since >= c->next) {
        c->since = 0;
        if (worth_a_trial(c, costs, len) || ++c->content >= PW_ADAPT_DOUBT)
            c->trial = PW_ADAPT_TRIAL;
    }
}
