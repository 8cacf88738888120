/* SPDX-License-Identifier: BSD-3-Clause */
/* samples.h - one thing, timed several times: when is it enough, and what is the figure?
 *
 * What disturbs a measurement makes it longer, so figures are taken from the short end.
 */
#ifndef PW_SAMPLES_H
#define PW_SAMPLES_H

#include <stdbool.h>
#include <stdint.h>

enum { PW_SAMPLES = 64 };

/* Zeroed is valid. */
struct pw_samples {
    uint64_t ns[PW_SAMPLES], start;
    int n;
};

/* There are least, and budget_ns was spent since the first time it was asked; or there
 * is room for no more. */
bool pw_samples_enough(struct pw_samples *s, int least, uint64_t budget_ns);

/* Without room for it: forgotten. */
void pw_samples_add(struct pw_samples *s, uint64_t ns);

/* The lower quartile, at least 1; 0 of none. Puts them in order. */
uint64_t pw_samples_typical(struct pw_samples *s);

/* Do the shortest quarter of them agree? Else whatever they say was disturbed. */
bool pw_samples_steady(struct pw_samples *s);

#endif
