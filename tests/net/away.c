/* SPDX-License-Identifier: BSD-3-Clause */
/* away.c - a rank that computes for long, to which more was sent than sockets hold.
 *
 *     mpirun ... away SECONDS
 *
 * Rank 1 is outside of MPI for so many seconds; all others send to it, say "moving", and
 * wait until all that they have sent is read.
 */
#include "../mpi/story.h"

#include <stdio.h>
#include <stdlib.h>

enum { MESSAGES = 200, BYTES = 16000 };

static char buffers[MESSAGES][BYTES];

static void send_all(MPI_Request r[MESSAGES])
{
    for (int i = 0; i < MESSAGES; i++) {
        fill(buffers[i], BYTES, mix((uint64_t)rank, (uint64_t)i));
        MPI_Isend(buffers[i], BYTES, MPI_BYTE, 1, i, MPI_COMM_WORLD, &r[i]);
    }
    puts("moving");
    fflush(stdout);
    MPI_Waitall(MESSAGES, r, MPI_STATUSES_IGNORE);
}

static void receive_all(MPI_Request r[MESSAGES], int from)
{
    for (int i = 0; i < MESSAGES; i++)
        MPI_Irecv(buffers[i], BYTES, MPI_BYTE, from, i, MPI_COMM_WORLD, &r[i]);
    MPI_Waitall(MESSAGES, r, MPI_STATUSES_IGNORE);
    for (int i = 0; i < MESSAGES; i++)
        same(buffers[i], BYTES, mix((uint64_t)from, (uint64_t)i), "message %d of rank %d", i,
             from);
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 1;
    MPI_Request r[MESSAGES];
    int one = 1;

    story_open(&one, &argv, MPI_THREAD_SINGLE, 200);
    if (size < 2)
        story_skip("two ranks are needed");
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank != 1) {
        send_all(r);
    } else {
        compute(seconds);
        for (int from = 0; from < size; from++)
            if (from != rank)
                receive_all(r, from);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    return story_close();
}
