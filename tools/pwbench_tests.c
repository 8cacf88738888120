/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_tests.c - what is timed, and the memory it is done on.
 *
 * The same work as the OSU micro-benchmarks of the same names, so that numbers
 * can be held against each other: latency is half a round trip; bw is a window
 * of sends, answered once; put and get are one operation and its flush, in one
 * passive epoch for the whole run.
 */
#include "pwbench_tests.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { TAG_DATA = 1, TAG_ACK = 2 };

static void iterate_latency(struct pw_bench *b, int size, long n)
{
    if (b->rank == 0) {
        for (long i = 0; i < n; i++) {
            MPI_Send(b->send, size, MPI_CHAR, 1, TAG_DATA, MPI_COMM_WORLD);
            MPI_Recv(b->recv, size, MPI_CHAR, 1, TAG_DATA, MPI_COMM_WORLD,
                     MPI_STATUS_IGNORE);
        }
    } else {
        for (long i = 0; i < n; i++) {
            MPI_Recv(b->recv, size, MPI_CHAR, 0, TAG_DATA, MPI_COMM_WORLD,
                     MPI_STATUS_IGNORE);
            MPI_Send(b->send, size, MPI_CHAR, 0, TAG_DATA, MPI_COMM_WORLD);
        }
    }
}

static void iterate_bw(struct pw_bench *b, int size, long n)
{
    int window = b->o->window;

    for (long i = 0; i < n; i++) {
        if (b->rank == 0) {
            for (int w = 0; w < window; w++)
                MPI_Isend(b->send, size, MPI_CHAR, 1, TAG_DATA, MPI_COMM_WORLD,
                          &b->request[w]);
            MPI_Waitall(window, b->request, MPI_STATUSES_IGNORE);
            MPI_Recv(NULL, 0, MPI_CHAR, 1, TAG_ACK, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        } else {
            for (int w = 0; w < window; w++)
                MPI_Irecv(b->recv, size, MPI_CHAR, 0, TAG_DATA, MPI_COMM_WORLD,
                          &b->request[w]);
            MPI_Waitall(window, b->request, MPI_STATUSES_IGNORE);
            MPI_Send(NULL, 0, MPI_CHAR, 0, TAG_ACK, MPI_COMM_WORLD);
        }
    }
}

static void iterate_bibw(struct pw_bench *b, int size, long n)
{
    int window = b->o->window;

    for (long i = 0; i < n; i++) {
        for (int w = 0; w < window; w++)
            MPI_Irecv(b->recv, size, MPI_CHAR, b->other, TAG_DATA, MPI_COMM_WORLD,
                      &b->request[w]);
        for (int w = 0; w < window; w++)
            MPI_Isend(b->send, size, MPI_CHAR, b->other, TAG_DATA, MPI_COMM_WORLD,
                      &b->request[window + w]);
        MPI_Waitall(2 * window, b->request, MPI_STATUSES_IGNORE);
    }
}

/* Rank 1 returns at once: it is in the barrier that follows, as a program that
 * is reached one-sidedly would be in some call of its own. */
static void iterate_put(struct pw_bench *b, int size, long n)
{
    if (b->rank != 0)
        return;
    for (long i = 0; i < n; i++) {
        MPI_Put(b->send, size, MPI_CHAR, 1, b->win_at, size, MPI_CHAR, b->win);
        MPI_Win_flush(1, b->win);
    }
}

static void iterate_get(struct pw_bench *b, int size, long n)
{
    if (b->rank != 0)
        return;
    for (long i = 0; i < n; i++) {
        MPI_Get(b->recv, size, MPI_CHAR, 1, b->win_at, size, MPI_CHAR, b->win);
        MPI_Win_flush(1, b->win);
    }
}

void pw_bench_iterate(struct pw_bench *b, size_t size, long n)
{
    static void (*const iterate[PW_TESTS])(struct pw_bench *, int, long) = {
        [PW_LATENCY] = iterate_latency,
        [PW_BW] = iterate_bw,
        [PW_BIBW] = iterate_bibw,
        [PW_PUT] = iterate_put,
        [PW_GET] = iterate_get,
    };

    iterate[b->o->test](b, (int)size, n);
}

double pw_bench_value(const struct pw_bench *b, size_t size, double seconds)
{
    double window_bytes = (double)size * b->o->window;

    switch (b->o->test) {
    case PW_LATENCY:
        return seconds * 1e6 / 2;
    case PW_BW:
        return window_bytes / seconds / 1e6;
    case PW_BIBW:
        return 2 * window_bytes / seconds / 1e6;
    default:
        return seconds * 1e6;
    }
}

/* ---- memory ---- */

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

static size_t room_needed(const struct pw_single_options *o)
{
    size_t room = pw_sizes_largest(&o->sizes) + PW_GUARD;

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
    b->other = 1 - b->rank;
    b->room = room_needed(o);

    b->send = buffer_open(b);
    b->recv = buffer_open(b);
    b->request = calloc(2 * (size_t)o->window, sizeof *b->request);
    if (!b->send || !b->recv || !b->request)
        goto nomem;
    if (pw_test_info[o->test].one_sided && window_open(b))
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
