/* SPDX-License-Identifier: BSD-3-Clause */
/* adapt.c - stream or kernel, found out from what transfers took. */
#include "adapt.h"

static void expect(const struct pw_costs *costs, size_t len, uint64_t ns[PW_CARRIERS])
{
    _Static_assert(PW_COST_UNKNOWN == PW_TRIAL_UNKNOWN, "the same");
    ns[PW_CARRY_STREAM] = pw_cost_ns(&costs->stream, len);
    ns[PW_CARRY_KERNEL] = pw_cost_ns(&costs->kernel, len);
}

enum pw_carrier pw_adapt_choose(struct pw_adapt *a, const struct pw_costs *costs,
                                size_t len)
{
    uint64_t ns[PW_CARRIERS];

    expect(costs, len, ns);
    return pw_trial_choose(&a->trial, ns, len) ? PW_CARRY_KERNEL : PW_CARRY_STREAM;
}

void pw_adapt_note(struct pw_adapt *a, const struct pw_costs *costs,
                   enum pw_carrier carrier, size_t len, uint64_t ns)
{
    uint64_t expected[PW_CARRIERS];

    expect(costs, len, expected);
    pw_trial_note(&a->trial, expected, carrier, len, ns);
}
