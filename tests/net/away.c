/* SPDX-License-Identifier: BSD-3-Clause */
/* away.c - a rank that computes for long, to which more was sent than sockets hold.
 *
 *     mpirun -n 2 ... away SECONDS
 *
 * Rank 1 is outside of MPI for so many seconds; rank 0 says "moving", and waits until all
 * that it has sent is read. Then each has a message from the other.
 */
#include "../mpi/story.h"

#include <stdio.h>
#include <stdlib.h>

enum { MESSAGES = 200, BYTES = 16000 };

static char buffers[MESSAGES][BYTES];

static void send_all(MPI_Request r[MESSAGES])
{
    for (int i = 0; i < MESSAGES; i++) {
        fill(buffers[i], BYTES, (uint64_t)i);
        MPI_Isend(buffers[i], BYTES, MPI_BYTE, 1, i, MPI_COMM_WORLD, &r[i]);
    }
    puts("moving");
    fflush(stdout);
    MPI_Waitall(MESSAGES, r, MPI_STATUSES_IGNORE);
}

static void receive_all(MPI_Request r[MESSAGES])
{
    for (int i = 0; i < MESSAGES; i++)
        MPI_Irecv(buffers[i], BYTES, MPI_BYTE, 0, i, MPI_COMM_WORLD, &r[i]);
    MPI_Waitall(MESSAGES, r, MPI_STATUSES_IGNORE);
    for (int i = 0; i < MESSAGES; i++)
        same(buffers[i], BYTES, (uint64_t)i, "message %d", i);
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 1;
    MPI_Request r[MESSAGES];
    int one = 1;

    story_open(&one, &argv, MPI_THREAD_SINGLE, 200);
    if (size != 2)
        story_skip("two ranks are needed");
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == 0) {
        send_all(r);
    } else {
        compute(seconds);
        receive_all(r);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    return story_close();
}
