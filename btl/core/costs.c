/* SPDX-License-Identifier: BSD-3-Clause */
/* costs.c - what a transfer takes, read off a curve. */
#include "costs.h"

const struct pw_costs pw_costs_default = {
    .direct = { { 100, 240, 860, 3400, 17700, 86000, 643000, 2572000 } },
    .push =   { { 600, 740, 1400, 3900, 18200, 86500, 643500, 2572500 } },
    .stream = { { 700, 1010, 2140, 6900, 26700, 105400, 789000, 3156000 } },
    .kernel = { { 1310, 2190, 5730, 19100, 76200, 330000, 1924000, 7696000 } },
    .past_extra = 1400,
};

uint64_t pw_cost_ns(const struct pw_cost_curve *curve, size_t len)
{
    const uint64_t *ns = curve->ns;
    int last = PW_COST_POINTS - 1, i = 0;
    double from, part, at;

    if (!ns[0] || !ns[last])
        return PW_COST_UNKNOWN;
    if (len >= pw_cost_len(last))
        return (uint64_t)((double)ns[last] * (double)len / (double)pw_cost_len(last));
    while (len >= pw_cost_len(i + 1))
        i++;
    from = (double)pw_cost_len(i);
    part = ((double)len - from) / ((double)pw_cost_len(i + 1) - from);
    at = (double)ns[i] + part * ((double)ns[i + 1] - (double)ns[i]);
    return at > 1 ? (uint64_t)at : 1;
}

struct pw_cost_curve pw_cost_line(unsigned ns, unsigned mb_s)
{
    struct pw_cost_curve c = { { 0 } };

    for (int i = 0; mb_s && i < PW_COST_POINTS; i++)
        c.ns[i] = ns + pw_cost_len(i) * 1000 / mb_s;
    return c;
}

void pw_cost_extend(struct pw_cost_curve *curve, int points,
                    const struct pw_cost_curve *shape)
{
    double factor = (double)curve->ns[points - 1] / (double)shape->ns[points - 1];

    for (int i = points; i < PW_COST_POINTS; i++)
        curve->ns[i] = (uint64_t)((double)shape->ns[i] * factor);
}

static void later(struct pw_cost_curve *curve, unsigned ns)
{
    for (int i = 0; i < PW_COST_POINTS && curve->ns[0]; i++)
        curve->ns[i] += ns;
}

void pw_costs_later(struct pw_costs *costs, unsigned ns)
{
    later(&costs->stream, ns);
    later(&costs->push, ns);
}

static bool rises(const struct pw_cost_curve *c)
{
    for (int i = 1; i < PW_COST_POINTS; i++)
        if (c->ns[i] <= c->ns[i - 1])
            return false;
    return c->ns[0] > 0;
}

bool pw_costs_plausible(const struct pw_costs *c)
{
    return rises(&c->direct) && rises(&c->push) && rises(&c->stream) &&
           (!c->kernel.ns[0] || rises(&c->kernel));
}
