/* SPDX-License-Identifier: BSD-3-Clause */
/* window.c - see window.h. */
#include "window.h"

#include <stdlib.h>
#include <string.h>

static const char *const names[WINDOW_KINDS] = {
    "malloc", "MPI_Alloc_mem", "allocate", "dynamic", "shared",
};

const char *window_name(enum window_kind kind)
{
    return names[kind];
}

bool window_possible(enum window_kind kind)
{
    MPI_Comm near;
    int all, n;

    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &near);
    MPI_Comm_size(near, &n);
    MPI_Comm_free(&near);
    MPI_Allreduce(&n, &all, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
    return kind != WINDOW_SHARED || all == size;
}

static int unit_of(const struct window *w, int who)
{
    bool create = w->kind == WINDOW_MALLOC || w->kind == WINDOW_POOL;

    if (w->kind == WINDOW_DYNAMIC)
        return 1;
    return create && who % 2 ? 1 : w->unit;
}

static void open_dynamic(struct window *w)
{
    MPI_Aint mine;

    MPI_Win_create_dynamic(MPI_INFO_NULL, MPI_COMM_WORLD, &w->win);
    w->base = mem_get(MEM_MALLOC, w->bytes);
    /* A neighbour that comes and goes: attach must keep the two apart. */
    char *other = mem_get(MEM_MALLOC, 10000);
    MPI_Win_attach(w->win, other, 10000);
    MPI_Win_attach(w->win, w->base, (MPI_Aint)w->bytes);
    MPI_Win_detach(w->win, other);
    mem_put(MEM_MALLOC, other);
    MPI_Get_address(w->base, &mine);
    MPI_Allgather(&mine, 1, MPI_AINT, w->start, 1, MPI_AINT, MPI_COMM_WORLD);
}

void window_open(struct window *w, enum window_kind kind, size_t bytes, int unit)
{
    MPI_Aint n = (MPI_Aint)bytes;

    *w = (struct window){ .kind = kind, .bytes = bytes, .unit = unit };
    w->start = calloc((size_t)size, sizeof *w->start);
    switch (kind) {
    case WINDOW_MALLOC:
    case WINDOW_POOL:
        w->base = mem_get(kind == WINDOW_POOL ? MEM_POOL : MEM_MALLOC, bytes);
        MPI_Win_create(w->base, n, unit_of(w, rank), MPI_INFO_NULL, MPI_COMM_WORLD, &w->win);
        break;
    case WINDOW_ALLOCATE:
        MPI_Win_allocate(n, unit, MPI_INFO_NULL, MPI_COMM_WORLD, &w->base, &w->win);
        break;
    case WINDOW_SHARED:
        MPI_Win_allocate_shared(n, unit, MPI_INFO_NULL, MPI_COMM_WORLD, &w->base, &w->win);
        break;
    default:
        open_dynamic(w);
    }
    memset(w->base, 0, bytes);
    window_settle(w);
}

void window_close(struct window *w)
{
    MPI_Barrier(MPI_COMM_WORLD);
    if (w->kind == WINDOW_DYNAMIC)
        MPI_Win_detach(w->win, w->base);
    MPI_Win_free(&w->win);
    if (w->kind == WINDOW_POOL)
        mem_put(MEM_POOL, w->base);
    if (w->kind == WINDOW_MALLOC || w->kind == WINDOW_DYNAMIC)
        mem_put(MEM_MALLOC, w->base);
    free(w->start);
}

MPI_Aint window_at(const struct window *w, int to, size_t at)
{
    return w->start[to] + (MPI_Aint)at / unit_of(w, to);
}

void window_settle(struct window *w)
{
    MPI_Win_lock(MPI_LOCK_EXCLUSIVE, rank, 0, w->win);
    MPI_Win_unlock(rank, w->win);
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Win_lock(MPI_LOCK_SHARED, rank, 0, w->win);
    MPI_Win_unlock(rank, w->win);
}
