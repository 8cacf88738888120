/* SPDX-License-Identifier: BSD-3-Clause */
/* idle.c - a rank that waits leaves the processor to those that compute.
 *
 * Rank 0 waits in MPI_Recv while the others compute, all on the same few
 * processors (the runner binds them). What rank 0 may use is a part of its own
 * waiting time, so that a machine busy with other things does not fail this.
 */
#include "story.h"

#include <stdlib.h>

enum { WORK_MS = 2500 };

/* Of its waiting time the processor's; and how late it was woken. */
static double wait_once(double *late)
{
    double token = 0, cpu, wall;

    MPI_Barrier(MPI_COMM_WORLD);
    cpu = cpu_seconds();
    wall = now();
    if (rank == 0) {
        MPI_Recv(&token, 1, MPI_DOUBLE, 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        *late = now() - token;
    } else {
        compute(WORK_MS / 1000.0);
        if (rank == 1) {
            token = now();
            MPI_Send(&token, 1, MPI_DOUBLE, 0, 0, MPI_COMM_WORLD);
        }
    }
    return (cpu_seconds() - cpu) / (now() - wall);
}

/* The waiting one takes less than a tenth of the time that passes. A machine that is one
 * itself may count time as ours in which it was not let run, but not again and again. */
static void waits(void)
{
    double share = 0, late = 0;
    int again = 1;

    for (int tries = 0; again && tries < 3; tries++) {
        share = wait_once(&late);
        again = share >= 0.1 || late >= 1;
        MPI_Bcast(&again, 1, MPI_INT, 0, MPI_COMM_WORLD);
    }
    if (rank == 0) {
        expect(share < 0.1, "%.0f%% of its waiting time it had the processor", 100 * share);
        expect(late < 1, "woken %.2f s after the send", late);
    }
}

enum { ROUNDS = 200 };

static double exchanges(void)
{
    double t = now();
    int x = 0;

    for (int i = 0; i < ROUNDS && rank < 2; i++) {
        if (i % 10 == 0)
            nap(0.003);     /* long enough for the other to fall asleep */
        MPI_Sendrecv_replace(&x, 1, MPI_INT, !rank, 1, !rank, 1, MPI_COMM_WORLD,
                             MPI_STATUS_IGNORE);
    }
    return now() - t;
}

/* Sleeping does not slow down who talks: many short waits right after. The machine itself
 * may, now and then. */
static void wakes(void)
{
    double t = 0;
    int again = 1;

    for (int tries = 0; again && tries < 5; tries++) {
        MPI_Barrier(MPI_COMM_WORLD);
        t = exchanges();
        again = t >= 2;
        MPI_Bcast(&again, 1, MPI_INT, 0, MPI_COMM_WORLD);
    }
    expect(!again, "%d exchanges took %.2f s", (int)ROUNDS, t);
}

int main(int argc, char **argv)
{
    story_open(&argc, &argv, MPI_THREAD_SINGLE, 60);
    if (size < 2)
        story_skip("needs 2 ranks");
    if (story("waits"))
        waits();
    if (story("wakes"))
        wakes();
    return story_close();
}
