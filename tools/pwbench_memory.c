/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_memory.c - the buffers and windows of the tests.
 *
 * Start at pw_bench_open(). All ranks have equal buffers, which are made once, large
 * enough for the largest size and for what its check needs.
 */
#include "pwbench_tests.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static char *buffer_open(const struct pw_bench *b)
{
    char *mem = NULL;

    if (b->o->buffers == PW_ALLOC_MEM) {
        if (MPI_Alloc_mem((MPI_Aint)b->room, MPI_INFO_NULL, &mem) != MPI_SUCCESS)
            return NULL;
    } else if (posix_memalign((void **)&mem, 4096, b->room)) {
        return NULL;
    }
    memset(mem, b->rank + 1, b->room);
    return mem;
}

static void buffer_close(const struct pw_bench *b, char *mem)
{
    if (!mem)
        return;
    if (b->o->buffers == PW_ALLOC_MEM)
        MPI_Free_mem(mem);
    else
        free(mem);
}

static int window_open(struct pw_bench *b)
{
    MPI_Aint room = (MPI_Aint)b->room;

    switch (b->o->window_kind) {
    case PW_WIN_ALLOCATE:
        MPI_Win_allocate(room, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &b->win_mem, &b->win);
        memset(b->win_mem, b->rank + 1, b->room);
        break;
    case PW_WIN_DYNAMIC:
        b->win_mem = buffer_open(b);
        if (!b->win_mem)
            return -ENOMEM;
        MPI_Win_create_dynamic(MPI_INFO_NULL, MPI_COMM_WORLD, &b->win);
        MPI_Win_attach(b->win, b->win_mem, room);
        MPI_Get_address(b->win_mem, &b->win_at);
        MPI_Bcast(&b->win_at, 1, MPI_AINT, 1, MPI_COMM_WORLD);
        break;
    default:
        b->win_mem = buffer_open(b);
        if (!b->win_mem)
            return -ENOMEM;
        MPI_Win_create(b->win_mem, room, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &b->win);
    }

    /* Rank 1's lock on itself lets it look at its own memory in a check. */
    MPI_Win_lock(MPI_LOCK_SHARED, 1, 0, b->win);
    return 0;
}

static void window_close(struct pw_bench *b)
{
    if (b->win == MPI_WIN_NULL)
        return;
    MPI_Win_unlock(1, b->win);
    if (b->o->window_kind == PW_WIN_DYNAMIC) {
        MPI_Barrier(MPI_COMM_WORLD);
        MPI_Win_detach(b->win, b->win_mem);
    }
    MPI_Win_free(&b->win);
    if (b->o->window_kind == PW_WIN_ALLOCATE)
        b->win_mem = NULL;
}

static size_t room_needed(const struct pw_bench *b)
{
    const struct pw_single_options *o = b->o;
    size_t largest = pw_sizes_largest(&o->sizes);
    size_t message = o->test == PW_ALLTOALL ? largest * (size_t)b->ranks : largest;
    size_t room = message + PW_GUARD;

    for (int i = 0; o->check && i < o->sizes.n; i++) {
        size_t size = o->sizes.at[i];
        size_t need = (size_t)pw_check_slots(o, size) * pw_check_stride(size);

        if (need > room)
            room = need;
    }
    return room;
}

int pw_bench_open(struct pw_bench *b, const struct pw_single_options *o)
{
    memset(b, 0, sizeof *b);
    b->o = o;
    b->win = MPI_WIN_NULL;
    MPI_Comm_rank(MPI_COMM_WORLD, &b->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &b->ranks);
    b->side = b->rank >= b->ranks / 2;
    b->other = b->rank + (b->side ? -1 : 1) * (b->ranks / 2);
    b->room = room_needed(b);

    b->send = buffer_open(b);
    b->recv = buffer_open(b);
    b->request = calloc(2 * (size_t)o->window, sizeof *b->request);
    if (!b->send || !b->recv || !b->request)
        goto nomem;
    if (pw_test_info[o->test].kind == PW_ONE_SIDED && window_open(b))
        goto nomem;
    return 0;

nomem:
    pw_bench_close(b);
    return -ENOMEM;
}

void pw_bench_close(struct pw_bench *b)
{
    window_close(b);
    buffer_close(b, b->win_mem);
    free(b->request);
    buffer_close(b, b->recv);
    buffer_close(b, b->send);
}
