/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_figures.h - how often to iterate, and what the time of an iteration comes to.
 * No MPI here: what is measured without it is to be measured alike. */
#ifndef PWBENCH_FIGURES_H
#define PWBENCH_FIGURES_H

#include "pwbench.h"

enum { PW_LARGE = 8192 };       /* bytes; above, fewer iterations do */

struct pw_counts {
    long iterations, warmup;
};

/* What was asked for, else as many as the OSU micro-benchmarks do. */
struct pw_counts pw_counts_for(const struct pw_single_options *o, size_t size);

/* Iterations that fit the time, when each took so many seconds; 0: not known. */
long pw_counts_fit(const struct pw_single_options *o, struct pw_counts c, double each);

/* The first iteration of the i-th of n batches; of batch n, the end. */
long pw_batch_start(long iterations, int i, int n);

/* What to print for one iteration of that many seconds, in which each pair of ranks had so
 * many messages in flight, all pairs together. */
double pw_figure(enum pw_test test, double messages, size_t size, double seconds);

/* Three digits that count for small values, two decimals for the rest. */
int pw_decimals(double value);

#endif
