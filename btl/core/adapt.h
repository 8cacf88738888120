/* SPDX-License-Identifier: BSD-3-Clause */
/* adapt.h - stream or kernel, found out from what transfers took.
 *
 * Costs that were measured before tell where to begin. What a stream costs changes
 * while a job runs: with the cores that the host gives, with a peer that computes or
 * is at work on a transfer the other way. So each endpoint keeps what transfers took by
 * either way, and tries the other one now and then (pinwheel/trial.h).
 *
 * Zeroed is valid: nothing is known yet. No locks: see core.h.
 */
#ifndef PW_ADAPT_H
#define PW_ADAPT_H

#include "costs.h"
#include "pinwheel/trial.h"

/* The two, as the ways of a trial. */
enum pw_carrier { PW_CARRY_STREAM, PW_CARRY_KERNEL, PW_CARRIERS };

struct pw_adapt {
    struct pw_trial trial;
};

enum pw_carrier pw_adapt_choose(struct pw_adapt *a, const struct pw_costs *costs,
                                size_t len);

/* A transfer of len bytes by that way took ns; of several at once, since the one
 * before it was done. */
void pw_adapt_note(struct pw_adapt *a, const struct pw_costs *costs,
                   enum pw_carrier carrier, size_t len, uint64_t ns);

#endif
