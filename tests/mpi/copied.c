/* SPDX-License-Identifier: BSD-3-Clause */
/* copied.c - long messages, puts and gets between hosts go straight from one's memory into the
 * other's: of each, a few KiB at most pass through memory of pinwheel.
 *
 * Two ranks on two hosts, over tcp or what reads a peer's memory by itself. One message at a
 * time, several at once, and both ways, and from and to addresses that have other pages each
 * time; then puts and gets. Their bytes are checked, and counted: all have gone through the
 * network, whichever of both has moved them.
 */
#define _GNU_SOURCE
#include "counters.h"
#include "story.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { LEN = 1 << 20, AT_ONCE = 8, MOST = 4096 };

static char *out, *in;
static int n_rounds;

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

static unsigned long long moved, copied;

static void count_begin(void)
{
    moved = counter("btl_pinwheel_wire_bytes");
    copied = counter("btl_pinwheel_wire_copied");
    MPI_Barrier(MPI_COMM_WORLD);
}

/* So many of LEN bytes were moved by one rank or the other. */
static void count_end(unsigned long long transfers)
{
    MPI_Barrier(MPI_COMM_WORLD);
    moved = counter("btl_pinwheel_wire_bytes") - moved;
    copied = counter("btl_pinwheel_wire_copied") - copied;
    MPI_Allreduce(MPI_IN_PLACE, &moved, 1, MPI_UNSIGNED_LONG_LONG, MPI_SUM, MPI_COMM_WORLD);
    expect(moved >= transfers * LEN, "%llu bytes moved", moved);
    expect(copied <= transfers * MOST, "%llu bytes copied", copied);
}

static void count(int n, bool back)
{
    count_begin();
    for (int i = 0; i < n_rounds; i++)
        messages(n, back);
    count_end((unsigned long long)n * n_rounds * (back ? 2 : 1));
}

/* Whoever still had the old pages registered would send those, or receive into them. */
static void pages_change(void)
{
    char *at = mmap(NULL, LEN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    count_begin();
    for (int i = 0; i < n_rounds; i++) {
        munmap(at, LEN);
        if (mmap(at, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
                 0) != at) {
            expect(false, "no memory at the same place");
            break;
        }
        if (rank == 0) {
            fill(at, LEN, mix(7, (uint64_t)i));
            MPI_Send(at, LEN, MPI_CHAR, 1, 1, MPI_COMM_WORLD);
        } else {
            MPI_Recv(at, LEN, MPI_CHAR, 0, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            same(at, LEN, mix(7, (uint64_t)i), "message %d", i);
        }
    }
    count_end((unsigned long long)n_rounds);
    munmap(at, LEN);
}

/* By rank 0, to or from what rank 1 has in its window. */
static void windows(bool put)
{
    const char *which = put ? "put" : "get";
    MPI_Win win;

    MPI_Win_create(put ? in : out, (MPI_Aint)AT_ONCE * LEN, 1, MPI_INFO_NULL, MPI_COMM_WORLD,
                   &win);
    MPI_Win_lock_all(0, win);
    count_begin();
    for (int i = 0; i < AT_ONCE && rank == 0; i++) {
        char *mine = (put ? out : in) + (size_t)i * LEN;

        if (put)
            MPI_Put(mine, LEN, MPI_CHAR, 1, (MPI_Aint)i * LEN, LEN, MPI_CHAR, win);
        else
            MPI_Get(mine, LEN, MPI_CHAR, 1, (MPI_Aint)i * LEN, LEN, MPI_CHAR, win);
        MPI_Win_flush(1, win);
    }
    count_end(AT_ONCE);
    MPI_Win_unlock_all(win);
    MPI_Win_free(&win);
    for (int i = 0; i < AT_ONCE && rank == (put ? 1 : 0); i++)
        same(in + (size_t)i * LEN, LEN, mix((uint64_t)!rank, (uint64_t)i), "%s %d", which, i);
}

/* What a window of rank 1 had must not be there already. */
static void renew(void)
{
    memset(in, 0, (size_t)AT_ONCE * LEN);
    MPI_Barrier(MPI_COMM_WORLD);
}

int main(int argc, char **argv)
{
    story_open(&argc, &argv, MPI_THREAD_SINGLE, 120);
    if (size != 2)
        story_skip("it takes two ranks");
    n_rounds = story_rounds(5);
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
    if (story("from and to the same addresses, with other pages"))
        pages_change();
    renew();
    if (story("puts of 1 MiB"))
        windows(true);
    renew();
    if (story("gets of 1 MiB"))
        windows(false);
    free(out);
    free(in);
    return story_close();
}
