/* SPDX-License-Identifier: BSD-3-Clause */
/* adapt.h - stream or kernel, found out from what transfers took.
 *
 * Costs that were measured before tell where to begin. What a stream costs changes
 * while a job runs: with the cores that the host gives, with a peer that computes or
 * is at work on a transfer the other way. So each endpoint keeps what transfers of
 * about one length took by either way, and tries the other way when it may be the
 * cheaper one: at most two transfers in a trial, one where it goes badly, and later
 * each time that it was in vain. What seems not to be worth a trial gets one now and
 * then, for what is known of it may be old.
 *
 * Zeroed is valid: nothing is known yet. No locks: see core.h.
 */
#ifndef PW_ADAPT_H
#define PW_ADAPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "costs.h"

enum {
    PW_ADAPT_CLASSES = 8,       /* up to 32 KiB, each twice the last, from 2 MiB on */
    PW_ADAPT_FIRST = 4, PW_ADAPT_LAST = 256,    /* transfers until a trial */
    PW_ADAPT_TRIAL = 2,
    PW_ADAPT_DOUBT = 64,        /* trials that seemed not worth it until one is made */
};

/* The two, as indices. */
enum pw_carrier { PW_CARRY_STREAM, PW_CARRY_KERNEL, PW_CARRIERS };

struct pw_adapt {
    struct pw_adapt_class {
        uint32_t cost[PW_CARRIERS];    /* ns for 64 KiB, smoothed; 0 not known */
        uint16_t since, next;       /* transfers since the last trial; when to try */
        uint8_t carrier;               /* in use */
        uint8_t trial;              /* transfers left of a trial of the other one */
        uint8_t content;            /* trials that seemed not worth it */
        bool begun;
    } classes[PW_ADAPT_CLASSES];
};

enum pw_carrier pw_adapt_choose(struct pw_adapt *a, const struct pw_costs *costs,
                                size_t len);

/* A transfer of len bytes by that way took ns; of several at once, since the one
 * before it was done. */
void pw_adapt_note(struct pw_adapt *a, const struct pw_costs *costs,
                   enum pw_carrier carrier, size_t len, uint64_t ns);

#endif
