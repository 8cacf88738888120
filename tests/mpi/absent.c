/* SPDX-License-Identifier: BSD-3-Clause */
/* absent.c - a receiver that computes for seconds while the others go on sending.
 *
 * Rank 0 computes, and does not call MPI. The others send until their queues to it (some
 * 4 MiB) are full, and then wait: without more memory, and without a processor of their
 * own. When it comes back everything is there, in order and as it was sent.
 */
#include "story.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { AWAY_MS = 1500, MESSAGES = 2400, LONGEST = 200000, GROWTH_KIB = 32 << 10 };

static const int eager[] = { 8, 1000, 12000, 200, 0, 4000 };
static const int mixed[] = { 8, 30000, 1000, LONGEST, 12000, 70000 };

/* Filled before the clock starts: only sending and waiting are looked at. */
static void sender(const int lens[6])
{
    char *s = malloc(LONGEST + 64);
    long before = status_kib("VmRSS"), grown;
    double cpu, wall;

    fill(s, LONGEST + 64, (uint64_t)rank);
    cpu = cpu_seconds();
    wall = now();
    for (int i = 0; i < MESSAGES; i++)
        MPI_Send(s + i % 8 * 8, lens[i % 6], MPI_CHAR, 0, i, MPI_COMM_WORLD);
    wall = now() - wall;
    cpu = cpu_seconds() - cpu;
    grown = status_kib("VmHWM") - before;
    expect(grown <= GROWTH_KIB, "%ld KiB more than before", grown);
    expect(cpu < 0.4 * wall, "%.2f s of processor time in %.2f s of sending and waiting",
           cpu, wall);
    free(s);
}

/* In turns, so that every sender waits for room again and again. */
static void receiver(const int lens[6])
{
    char *want[64], *r = malloc(LONGEST);
    bool right = true;

    for (int from = 1; from < size; from++) {
        want[from] = malloc(LONGEST + 64);
        fill(want[from], LONGEST + 64, (uint64_t)from);
    }
    compute(AWAY_MS / 1000.0);
    for (int i = 0; i < MESSAGES; i++)
        for (int from = 1; from < size; from++) {
            MPI_Status st;
            int len;

            MPI_Recv(r, LONGEST, MPI_CHAR, from, i, MPI_COMM_WORLD, &st);
            MPI_Get_count(&st, MPI_CHAR, &len);
            right = right && len == lens[i % 6] &&
                    !memcmp(r, want[from] + i % 8 * 8, (size_t)len);
            expect(right, "message %d from %d, %d bytes", i, from, len);
            if (i == MESSAGES / 2 && from == 1)
                compute(AWAY_MS / 1000.0);
        }
    for (int from = 1; from < size; from++)
        free(want[from]);
    free(r);
}

static void away(const int lens[6])
{
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == 0)
        receiver(lens);
    else
        sender(lens);
    MPI_Barrier(MPI_COMM_WORLD);
}

int main(int argc, char **argv)
{
    story_open(&argc, &argv, MPI_THREAD_SINGLE, 100);
    if (size < 2 || size > 64)
        story_skip("needs 2 to 64 ranks");
    if (story("short messages"))
        away(eager);
    if (story("messages of all kinds"))
        away(mixed);
    return story_close();
}
