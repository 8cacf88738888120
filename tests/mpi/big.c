/* SPDX-License-Identifier: BSD-3-Clause */
/* big.c - one message of more than 2 GiB, between malloc'ed and pool buffers,
 * and one MPI_Put of that size. Where a length passes through an int, it ends here.
 */
#include "story.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* 2.2 GiB in blocks of 1 MiB, and a rest that is not a whole block. */
#define BLOCK ((size_t)1 << 20)
#define BLOCKS 2253
#define REST 12345
#define BYTES (BLOCK * BLOCKS + REST)

static long mem_available_kib(void)
{
    char line[128];
    long kib = 0;
    FILE *f = fopen("/proc/meminfo", "r");

    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %ld", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib;
}

static MPI_Datatype big_type(void)
{
    MPI_Datatype block, t;
    int len[2] = { BLOCKS, REST };
    MPI_Aint at[2] = { 0, (MPI_Aint)(BLOCK * BLOCKS) };

    MPI_Type_contiguous((int)BLOCK, MPI_CHAR, &block);
    MPI_Datatype types[2] = { block, MPI_CHAR };
    MPI_Type_create_struct(2, len, at, types, &t);
    MPI_Type_commit(&t);
    MPI_Type_free(&block);
    return t;
}

static void message(enum mem smem, enum mem rmem, MPI_Datatype t)
{
    enum mem mine = rank ? rmem : smem;
    char *buf = mem_get(mine, BYTES + 8);

    if (rank == 0) {
        fill(buf + 3, BYTES, 11);
        MPI_Send(buf + 3, 1, t, 1, 0, MPI_COMM_WORLD);
        MPI_Recv(buf, 8, MPI_CHAR, 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    } else {
        MPI_Status st;
        MPI_Count n;

        memset(buf, 0, BYTES);
        MPI_Recv(buf, 1, t, 0, 0, MPI_COMM_WORLD, &st);
        MPI_Get_elements_x(&st, t, &n);
        expect((size_t)n == BLOCKS + REST || (size_t)n == BYTES, "%lld elements came",
               (long long)n);
        same(buf, BYTES, 11, "2.2 GiB, %s to %s", mem_name(smem), mem_name(rmem));
        MPI_Send(buf, 8, MPI_CHAR, 0, 0, MPI_COMM_WORLD);
    }
    mem_put(mine, buf);
}

static void put(enum mem mem, MPI_Datatype t)
{
    char *buf = mem_get(mem, BYTES);
    MPI_Win win;

    if (rank)
        memset(buf, 0, BYTES);
    else
        fill(buf, BYTES, 12);
    MPI_Win_create(buf, rank ? (MPI_Aint)BYTES : 0, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &win);
    MPI_Win_fence(0, win);
    if (rank == 0)
        MPI_Put(buf, 1, t, 1, 0, 1, t, win);
    MPI_Win_fence(0, win);
    if (rank)
        same(buf, BYTES, 12, "put of 2.2 GiB, %s", mem_name(mem));
    MPI_Win_free(&win);
    mem_put(mem, buf);
}

int main(int argc, char **argv)
{
    MPI_Datatype t;

    story_open(&argc, &argv, MPI_THREAD_SINGLE, 150);
    if (mem_available_kib() < 12L << 20)
        story_skip("messages of 2.2 GiB want 12 GiB of free memory");
    if (size != 2)
        story_skip("needs 2 ranks");

    t = big_type();
    for (int c = 0; c < 4; c++)
        if (story("send %s-%s", mem_name(c & 1), mem_name(c >> 1)))
            message(c & 1, c >> 1, t);
    for (int c = 0; c < 2; c++)
        if (story("put %s", mem_name(c)))
            put(c, t);
    MPI_Type_free(&t);
    return story_close();
}
