/* SPDX-License-Identifier: BSD-3-Clause */
/* passive.c - a rank of another host computes, and is read and written meanwhile.
 *
 * Rank 0 does arithmetic, without a call of MPI, until the other one has got so many times
 * from its window, what it has put before among that, and has put a word there that says so.
 * So nothing of it may wait for the target. No clock judges but the one that ends what hangs.
 */
#include "../mpi/story.h"

#include <stdio.h>
#include <string.h>

enum { GETS = 64, LARGEST = 1 << 20, WORD = 64, PATIENCE = 60 };

static char *base, *local;      /* of the window: a word in a line, what is got, what is put */
static MPI_Win win;

/* Until that word is there. False: it does not come. */
static bool compute_until(int word)
{
    volatile int *at = (volatile int *)(void *)base;
    volatile uint64_t x = 1;

    for (double end = now() + PATIENCE; *at != word;) {
        for (int i = 0; i < 1000; i++)
            x = x * 3 + 1;
        if (now() > end)
            return false;
    }
    return true;
}

static void get_all(int len)
{
    char *put = local, *got = local + LARGEST;

    for (int i = 0; i < GETS; i++) {
        MPI_Get(got, len, MPI_BYTE, 0, WORD, len, MPI_BYTE, win);
        MPI_Win_flush(0, win);
        same(got, (size_t)len, (uint64_t)len, "get %d of %d bytes", i, len);
        memset(got, 0, (size_t)len);
        if (i % 8)
            continue;
        fill(put, (size_t)len, (uint64_t)(len + i));
        MPI_Put(put, len, MPI_BYTE, 0, WORD + LARGEST, len, MPI_BYTE, win);
        MPI_Win_flush(0, win);
        MPI_Get(got, len, MPI_BYTE, 0, WORD + LARGEST, len, MPI_BYTE, win);
        MPI_Win_flush(0, win);
        same(got, (size_t)len, (uint64_t)(len + i), "what was put, %d bytes", len);
    }
}

static void meet(int len, int word)
{
    if (rank == 0)
        fill(base + WORD, (size_t)len, (uint64_t)len);
    MPI_Win_sync(win);
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == 0) {
        expect(compute_until(word), "gets of %d bytes wait for their target", len);
    } else {
        get_all(len);
        MPI_Put(&word, 1, MPI_INT, 0, 0, 1, MPI_INT, win);
        MPI_Win_flush(0, win);
    }
    MPI_Barrier(MPI_COMM_WORLD);
}

int main(int argc, char **argv)
{
    static const int lens[] = { 8, 4096, 65536, LARGEST };

    story_open(&argc, &argv, MPI_THREAD_SINGLE, 280);
    if (size != 2)
        story_skip("two ranks are needed");
    local = mem_get(MEM_MALLOC, 2 * LARGEST);
    base = mem_get(MEM_MALLOC, WORD + 2 * LARGEST);
    memset(base, 0, WORD + 2 * LARGEST);
    MPI_Win_create(base, WORD + 2 * LARGEST, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &win);
    MPI_Win_lock_all(MPI_MODE_NOCHECK, win);
    for (int i = 0; i < 4; i++)
        if (story("%d bytes", lens[i]))
            meet(lens[i], i + 1);
    MPI_Win_unlock_all(win);
    MPI_Win_free(&win);
    mem_put(MEM_MALLOC, base);
    mem_put(MEM_MALLOC, local);
    return story_close();
}
