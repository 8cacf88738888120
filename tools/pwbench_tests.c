/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_tests.c - the tests between two ranks: what is timed.
 *
 * The same work as the OSU micro-benchmarks of the same names, so that numbers
 * can be held against each other: latency is half a round trip; bw is a window
 * of sends, answered once; put, get and the atomics are one operation and its
 * flush, in one passive epoch for the whole run.
 *
 * Sides: of each pair 0 sends first, 1 answers. Without --pairs they are the ranks.
 */
#include "pwbench_tests.h"

#include <stdint.h>

#include "pwbench_figures.h"

enum { TAG_DATA = 1, TAG_ACK = 2 };

static void iterate_latency(struct pw_bench *b, int size, long n)
{
    int other = b->other;

    if (b->side == 0) {
        for (long i = 0; i < n; i++) {
            MPI_Send(b->send, size, MPI_CHAR, other, TAG_DATA, MPI_COMM_WORLD);
            MPI_Recv(b->recv, size, MPI_CHAR, other, TAG_DATA, MPI_COMM_WORLD,
                     MPI_STATUS_IGNORE);
        }
    } else {
        for (long i = 0; i < n; i++) {
            MPI_Recv(b->recv, size, MPI_CHAR, other, TAG_DATA, MPI_COMM_WORLD,
                     MPI_STATUS_IGNORE);
            MPI_Send(b->send, size, MPI_CHAR, other, TAG_DATA, MPI_COMM_WORLD);
        }
    }
}

/* bw and rate. */
static void iterate_window(struct pw_bench *b, int size, long n)
{
    int window = b->o->window, other = b->other;

    for (long i = 0; i < n; i++) {
        if (b->side == 0) {
            for (int w = 0; w < window; w++)
                MPI_Isend(b->send, size, MPI_CHAR, other, TAG_DATA, MPI_COMM_WORLD,
                          &b->request[w]);
            MPI_Waitall(window, b->request, MPI_STATUSES_IGNORE);
            MPI_Recv(NULL, 0, MPI_CHAR, other, TAG_ACK, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        } else {
            for (int w = 0; w < window; w++)
                MPI_Irecv(b->recv, size, MPI_CHAR, other, TAG_DATA, MPI_COMM_WORLD,
                          &b->request[w]);
            MPI_Waitall(window, b->request, MPI_STATUSES_IGNORE);
            MPI_Send(NULL, 0, MPI_CHAR, other, TAG_ACK, MPI_COMM_WORLD);
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

static void iterate_overlap(struct pw_bench *b, int size, long n)
{
    MPI_Request request[2];

    for (long i = 0; i < n; i++) {
        MPI_Irecv(b->recv, size, MPI_CHAR, b->other, TAG_DATA, MPI_COMM_WORLD, &request[0]);
        MPI_Isend(b->send, size, MPI_CHAR, b->other, TAG_DATA, MPI_COMM_WORLD, &request[1]);
        pw_compute(b->steps);
        MPI_Waitall(2, request, MPI_STATUSES_IGNORE);
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

static void iterate_fadd(struct pw_bench *b, int size, long n)
{
    (void)size;
    if (b->rank != 0)
        return;
    for (long i = 0; i < n; i++) {
        MPI_Fetch_and_op(b->send, b->recv, MPI_INT64_T, 1, b->win_at, MPI_SUM, b->win);
        MPI_Win_flush(1, b->win);
    }
}

/* As a program loops around it: what is expected next is what is known to be there.
 * So all but the first swap. */
static void iterate_cas(struct pw_bench *b, int size, long n)
{
    int64_t *old = (int64_t *)b->recv, *wanted = (int64_t *)b->send, expected = 0;

    (void)size;
    if (b->rank != 0)
        return;
    for (long i = 0; i < n; i++) {
        *wanted = expected + 1;
        MPI_Compare_and_swap(wanted, &expected, old, MPI_INT64_T, 1, b->win_at, b->win);
        MPI_Win_flush(1, b->win);
        expected = *old == expected ? *wanted : *old;
    }
}

/* What is timed from the first iteration to the last. */
static void (*const plain[PW_TESTS])(struct pw_bench *, int, long) = {
    [PW_LATENCY] = iterate_latency,
    [PW_BW] = iterate_window,
    [PW_BIBW] = iterate_bibw,
    [PW_RATE] = iterate_window,
    [PW_OVERLAP] = iterate_overlap,
    [PW_PUT] = iterate_put,
    [PW_GET] = iterate_get,
    [PW_FADD] = iterate_fadd,
    [PW_CAS] = iterate_cas,
};

/* What knows itself which part of an iteration counts. */
static double (*const timed[PW_TESTS])(struct pw_bench *, int, long) = {
    [PW_ALLTOALL] = pw_alltoall_iterate,
    [PW_ALLREDUCE] = pw_allreduce_iterate,
    [PW_BARRIER] = pw_barrier_iterate,
};

double pw_bench_iterate(struct pw_bench *b, size_t size, long n)
{
    double start;

    if (timed[b->o->test])
        return timed[b->o->test](b, (int)size, n);
    start = MPI_Wtime();
    plain[b->o->test](b, (int)size, n);
    return MPI_Wtime() - start;
}

bool pw_bench_counts(const struct pw_bench *b)
{
    return pw_test_info[b->o->test].kind == PW_COLLECTIVE || b->side == 0;
}

double pw_bench_value(const struct pw_bench *b, size_t size, double seconds)
{
    double messages = (double)b->o->window * (b->o->pairs ? b->ranks / 2 : 1);

    return pw_figure(b->o->test, messages, size, seconds);
}
