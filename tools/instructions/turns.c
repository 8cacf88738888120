/* SPDX-License-Identifier: BSD-3-Clause */
/* turns.c - messages that are there when they are asked for.
 *
 * tools/instructions/instructions counts with it what one MPI_Send and one MPI_Recv
 * execute. Two ranks on one host send 8 bytes back and forth. After its MPI_Send a rank
 * writes a byte into a FIFO, and the other one calls MPI_Recv only when it has read it.
 * So no receive looks for a message in vain, which would take as many instructions as
 * there is time, and every run executes the same.
 *
 * counted_send() is called by rank 0 alone and counted_recv() by rank 1 alone: what is
 * executed below them is what callgrind is told to count, so the profile of rank 0 is
 * that of sending and the one of rank 1 that of receiving.
 */
#include <errno.h>
#include <fcntl.h>
#include <mpi.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BYTES = 8, CONNECT = 100, WARMUP = 200 };

static char message[BYTES];
static int rank;
static volatile long calls;

/* Something stays to be done behind each call: a jump instead of it would leave the
 * function before MPI is done. */
#define NOT_INLINE __attribute__((noinline))

NOT_INLINE static void counted_send(void)
{
    MPI_Send(message, BYTES, MPI_CHAR, 1 - rank, 0, MPI_COMM_WORLD);
    calls++;
}

NOT_INLINE static void counted_recv(void)
{
    MPI_Recv(message, BYTES, MPI_CHAR, 1 - rank, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    calls++;
}

/* Once they take turns, a rank that waits for the FIFO does nothing for MPI. So what
 * both have to do for a connection is done before, and not by MPI_Recv, whose looks at
 * the transport are counted. */
static void connect_ranks(void)
{
    for (int i = 0; i < CONNECT; i++) {
        char other[BYTES];

        MPI_Sendrecv(message, BYTES, MPI_CHAR, 1 - rank, 0, other, BYTES, MPI_CHAR,
                     1 - rank, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    }
    MPI_Barrier(MPI_COMM_WORLD);
}

static void fail(const char *what)
{
    fprintf(stderr, "turns: %s: %s\n", what, strerror(errno));
    MPI_Abort(MPI_COMM_WORLD, 1);
}

static void my_turn_ends(int fifo)
{
    if (write(fifo, "", 1) != 1)
        fail("cannot write to the FIFO");
}

static void my_turn_comes(int fifo)
{
    char byte;
    ssize_t n;

    do
        n = read(fifo, &byte, 1);
    while (n < 0 && errno == EINTR);
    if (n == 0)
        errno = EPIPE;
    if (n != 1)
        fail("cannot read from the FIFO");
}

static void send_turn(int to, bool counted)
{
    memset(message, rank + 1, BYTES);
    if (counted)
        counted_send();
    else
        MPI_Send(message, BYTES, MPI_CHAR, 1 - rank, 0, MPI_COMM_WORLD);
    my_turn_ends(to);
}

static void recv_turn(int from, bool counted)
{
    my_turn_comes(from);
    if (counted)
        counted_recv();
    else
        MPI_Recv(message, BYTES, MPI_CHAR, 1 - rank, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    for (int i = 0; i < BYTES; i++)
        if (message[i] != 2 - rank) {
            errno = EBADMSG;
            fail("a message came as another one");
        }
}

int main(int argc, char **argv)
{
    long n = argc == 4 ? strtol(argv[1], NULL, 10) : 0;
    int to_1, to_0, ranks;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    if (n <= 0 || ranks != 2) {
        errno = EINVAL;
        fail("mpirun -n 2 turns MESSAGES FIFO FIFO");
    }
    /* Opened for both, neither waits for the other. */
    to_1 = open(argv[2], O_RDWR);
    to_0 = open(argv[3], O_RDWR);
    if (to_1 < 0 || to_0 < 0)
        fail("cannot open the FIFO");
    connect_ranks();
    /* Not before rank 1 is out of the barrier: it would find the first message there. */
    if (rank == 0)
        my_turn_comes(to_0);
    else
        my_turn_ends(to_0);

    for (long i = 0; i < n + WARMUP; i++) {
        if (rank == 0) {
            send_turn(to_1, i >= WARMUP);
            recv_turn(to_0, false);
        } else {
            recv_turn(to_1, i >= WARMUP);
            send_turn(to_0, false);
        }
    }
    MPI_Finalize();
    return 0;
}
