/* SPDX-License-Identifier: BSD-3-Clause */
/* copied.c - long messages between hosts go straight from the sender's memory into the
 * receiver's: of each, a few KiB at most pass through memory of pinwheel.
 *
 * Two ranks on two hosts, over the backend tcp. One message at a time, several at once, and
 * both ways. Their bytes are checked, and counted: all have left through the network.
 */
#include "counters.h"
#include "story.h"

#include <stdlib.h>

enum { LEN = 1 << 20, AT_ONCE = 8, ROUNDS = 5, MOST = 4096 };

static char *out, *in;

/* AT_ONCE or one message, from rank 0 and, where `back`, from rank 1, too. */
static void messages(int n, bool back)
{
    MPI_Request r[2 * AT_ONCE];
    int n_r = 0;

    for (int i = 0; i < n; i++) {
        char *from = out + (size_t)i * LEN, *to = in + (size_t)i * LEN;

        if (rank == 1 || back)
            MPI_Irecv(to, LEN, MPI_CHAR, !rank, 1, MPI_COMM_WORLD, &r[n_r++]);
        if (rank == 0 || back)
            MPI_Isend(from, LEN, MPI_CHAR, !rank, 1, MPI_COMM_WORLD, &r[n_r++]);
    }
    MPI_Waitall(n_r, r, MPI_STATUSES_IGNORE);
    for (int i = 0; i < n && (rank == 1 || back); i++)
        same(in + (size_t)i * LEN, LEN, mix((uint64_t)!rank, (uint64_t)i), "message %d", i);
}

static void count(int n, bool back)
{
    unsigned long long sent = counter("btl_pinwheel_wire_bytes");
    unsigned long long copied = counter("btl_pinwheel_wire_copied");
    unsigned long long messages_here = (unsigned long long)n * ROUNDS;

    for (int i = 0; i < ROUNDS; i++)
        messages(n, back);
    MPI_Barrier(MPI_COMM_WORLD);
    sent = counter("btl_pinwheel_wire_bytes") - sent;
    copied = counter("btl_pinwheel_wire_copied") - copied;
    if (rank == 0 || back)
        expect(sent >= messages_here * LEN, "%llu bytes sent", sent);
    expect(copied <= messages_here * (back ? 2 : 1) * MOST, "%llu bytes copied", copied);
}

int main(int argc, char **argv)
{
    story_open(&argc, &argv, MPI_THREAD_SINGLE, 120);
    if (size != 2)
        story_skip("it takes two ranks");
    out = malloc((size_t)AT_ONCE * LEN);
    in = calloc(AT_ONCE, LEN);
    for (int i = 0; i < AT_ONCE; i++)
        fill(out + (size_t)i * LEN, LEN, mix((uint64_t)rank, (uint64_t)i));
    if (story("one message of 1 MiB at a time"))
        count(1, false);
    if (story("%d of them at once", AT_ONCE))
        count(AT_ONCE, false);
    if (story("and both ways"))
        count(AT_ONCE, true);
    free(out);
    free(in);
    return story_close();
}
