/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_osu.h - the programs of the OSU micro-benchmarks 7.x, in the place of our own
 * tests: which there are, where they lie, and what they print. */
#ifndef PWBENCH_OSU_H
#define PWBENCH_OSU_H

#include "pwbench.h"

/* The program that measures what that test does, "osu_latency"; NULL: there is none. */
const char *pw_osu_name(enum pw_test test);

/* The test of that program, or -1. */
int pw_osu_test(const char *program);

/* It, in the directory in which they were built or installed, or in which they lie. To
 * be freed; NULL when it is not there, or without memory. */
char *pw_osu_find(const char *dir, enum pw_test test);

/* The first size that no such program can have that also has the smallest: they double
 * it. False when all are well. */
bool pw_osu_odd_size(const struct pw_sizes *sizes, size_t *odd);

/* What it printed: a value for each size, in the test's unit. False: it is not that. */
bool pw_osu_parse(enum pw_test test, const char *out, const struct pw_sizes *sizes,
                  double *values);

#endif
