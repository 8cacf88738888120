/* SPDX-License-Identifier: BSD-3-Clause */
/* timeline.c - how fast a checked stream of messages goes, from moment to moment.
 *
 *     mpirun -n 2 ... timeline SECONDS
 *
 * Rank 0 sends messages of 256 KiB, eight of which may be under way; rank 1 looks at every
 * byte. It prints "moving" and the time of day when the first has come, and in the end for
 * each 50 ms the time since then and MB/s. What this draws: tests/net/timeline.
 */
#include "../mpi/story.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LEN = 256 << 10, AHEAD = 8, BINS = 20 * 100, BIN_MS = 50 };

struct head {
    uint64_t number, last;
};

static char *slots[AHEAD], *want;
static MPI_Request requests[AHEAD];
static uint64_t bins[BINS];

/* The last ones say so: as many as the receiver has asked for. */
static void send_all(double seconds)
{
    double begin = now();
    uint64_t n = 0;

    for (int left = AHEAD; left; n++) {
        struct head head = { n, now() - begin >= seconds };
        int slot = (int)(n % AHEAD);

        MPI_Wait(&requests[slot], MPI_STATUS_IGNORE);
        fill(slots[slot], LEN, n);
        memcpy(slots[slot], &head, sizeof head);
        MPI_Isend(slots[slot], LEN, MPI_BYTE, 1, 0, MPI_COMM_WORLD, &requests[slot]);
        left -= head.last != 0;
    }
    MPI_Waitall(AHEAD, requests, MPI_STATUSES_IGNORE);
}

static void ask(int slot)
{
    MPI_Irecv(slots[slot], LEN, MPI_BYTE, 0, 0, MPI_COMM_WORLD, &requests[slot]);
}

static void tell_begin(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    printf("moving %lld.%03ld\n", (long long)t.tv_sec, t.tv_nsec / 1000000);
    fflush(stdout);
}

static void receive_all(void)
{
    double begin = 0;
    size_t last = 0;

    for (int i = 0; i < AHEAD; i++)
        ask(i);
    for (uint64_t n = 0, left = AHEAD; left; n++) {
        int slot = (int)(n % AHEAD);
        struct head head;
        size_t bin;

        MPI_Wait(&requests[slot], MPI_STATUS_IGNORE);
        if (!n) {
            tell_begin();
            begin = now();
        }
        bin = (size_t)((now() - begin) * 1000 / BIN_MS);
        if (bin < BINS)
            bins[last = bin] += LEN;
        memcpy(&head, slots[slot], sizeof head);
        fill(want, LEN, n);
        memcpy(want, &head, sizeof head);
        expect(head.number == n && !memcmp(want, slots[slot], LEN), "message %llu is wrong",
               (unsigned long long)n);
        if (head.last)
            left--;
        else
            ask(slot);
    }
    for (size_t i = 0; i < last; i++)
        printf("rate %.3f %.1f\n", (double)i * BIN_MS / 1e3,
               (double)bins[i] / (BIN_MS * 1e3));
}

int main(int argc, char **argv)
{
    int one = 1;

    story_open(&one, &argv, MPI_THREAD_SINGLE, 150);
    if (size != 2 || argc != 2)
        story_skip("2 ranks and the seconds are wanted");
    want = malloc(LEN);
    for (int i = 0; i < AHEAD; i++) {
        slots[i] = malloc(LEN);
        requests[i] = MPI_REQUEST_NULL;
    }
    if (rank == 0)
        send_all(atof(argv[1]));
    else
        receive_all();
    return story_close();
}
