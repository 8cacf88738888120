/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_compute.c - work for the time between a send and its wait.
 *
 * A number of steps, not a span of time: whoever is interrupted, or shares the core
 * with something that moves data, has as much work left as before.
 */
#include <stdint.h>

#include "pwbench_tests.h"

static volatile uint64_t sink;

void pw_compute(long steps)
{
    uint64_t x = sink;

    /* Each step needs the one before it. */
    for (long i = 0; i < steps; i++)
        x = x * 6364136223846793005u + 1442695040888963407u;
    sink = x;
}

/* The fastest of some tries: what disturbs makes it slower only. */
double pw_compute_speed(void)
{
    enum { TRIES = 25, STEPS = 50000 };
    double best = 0;

    for (int i = 0; i < TRIES; i++) {
        double start = MPI_Wtime(), took;

        pw_compute(STEPS);
        took = MPI_Wtime() - start;
        if (took > 0 && STEPS / took > best)
            best = STEPS / took;
    }
    return best;
}
