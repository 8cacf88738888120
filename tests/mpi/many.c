/* SPDX-License-Identifier: BSD-3-Clause */
/* many.c - thousands of sends in flight to one rank that is not looking.
 *
 * The sender may not answer the receiver's silence with memory: what it keeps
 * is ob1's request for each send and the transport's queue, not a copy of each
 * message. So its resident set may grow by at most
 *
 *     REQUEST bytes per send   ob1's request and its bookkeeping
 *   + QUEUE                    rings and fragments of the transport
 *
 * which for the larger messages is far less than the bytes in flight. Eager
 * messages are buffered at the receiver once it looks: that is ob1's, and free.
 * A second round must then do with what the first one took.
 */
#include "story.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REQUEST = 2048, QUEUE = 16 << 20, AGAIN = 4 << 20, LARGEST = 100000 };

/* Sum of a round of 10,000 over 6 sizes: about 215 MB in flight. */
static const int lens[] = { 0, 8, 200, 4000, 25000, LARGEST };

static int message_len(int only, int i)
{
    return only < 0 ? lens[i % 6] : only;
}

/* Bytes of the pattern differ by where in `s` a message starts. */
static char *message_start(char *s, int i)
{
    return s + i % 64 * 8;
}

static void sender(int n, int only, long *peak_kib)
{
    MPI_Request *q = malloc((size_t)n * sizeof *q);
    char *s = malloc(LARGEST + 64 * 8);

    fill(s, LARGEST + 64 * 8, 3);
    memset(q, 0, (size_t)n * sizeof *q);
    long before = status_kib("VmRSS");

    for (int i = 0; i < n; i++)
        MPI_Isend(message_start(s, i), message_len(only, i), MPI_CHAR, 0, i % 1000,
                  MPI_COMM_WORLD, &q[i]);
    for (double end = now() + 0.2; now() < end;) {
        int all;
        MPI_Testall(n, q, &all, MPI_STATUSES_IGNORE);
    }
    *peak_kib = status_kib("VmRSS") - before;
    MPI_Waitall(n, q, MPI_STATUSES_IGNORE);
    free(q);
    free(s);
}

static void receiver(int n, int only, int from)
{
    char *want = malloc(LARGEST + 64 * 8), *r = malloc(LARGEST);

    fill(want, LARGEST + 64 * 8, 3);
    for (int i = 0; i < n; i++) {
        MPI_Status st;
        int len;

        memset(r, 0, (size_t)message_len(only, i));
        MPI_Recv(r, LARGEST, MPI_CHAR, from, i % 1000, MPI_COMM_WORLD, &st);
        MPI_Get_count(&st, MPI_CHAR, &len);
        expect(len == message_len(only, i), "message %d from %d has %d bytes, not %d", i,
               from, len, message_len(only, i));
        if (memcmp(r, message_start(want, i), (size_t)len) != 0) {
            expect(false, "message %d from %d, %d bytes: wrong data", i, from, len);
            break;
        }
    }
    free(want);
    free(r);
}

static void round_of(int n, int only, int senders, long *kib)
{
    *kib = 0;
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == 0) {
        nap(0.5);
        for (int from = 1; from <= senders; from++)
            receiver(n, only, from);
    } else if (rank <= senders) {
        sender(n, only, kib);
    }
    MPI_Barrier(MPI_COMM_WORLD);
}

static void flood(int n, int only, int senders)
{
    long first, second, limit = ((long)n * REQUEST + QUEUE) / 1024;

    round_of(n, only, senders, &first);
    expect(first <= limit, "%d sends in flight took %ld KiB, allowed are %ld", n, first, limit);
    long before = status_kib("VmHWM");
    round_of(n, only, senders, &second);
    if (rank > 0) {
        long more = status_kib("VmHWM") - before;
        expect(more <= AGAIN / 1024, "a second round took %ld KiB more", more);
    }
}

int main(int argc, char **argv)
{
    story_open(&argc, &argv, MPI_THREAD_SINGLE, 220);
    if (story("one sender, 10000 mixed"))
        flood(10000, -1, 1);
    for (int i = 0; i < 6; i++)
        if (story("one sender, 10000 of %d", lens[i]))
            flood(10000, lens[i], 1);
    if (size > 2 && story("all to one"))
        flood(10000 / (size - 1), -1, size - 1);
    return story_close();
}
