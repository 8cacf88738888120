/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_group.c - the tests of all ranks together: alltoall, allreduce, barrier.
 *
 * As in the OSU micro-benchmarks each call is timed by itself, with a barrier behind
 * it that is not, and what is printed is the mean over the ranks. allreduce sums
 * single bytes, so that it knows all sizes.
 */
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include "clock.h"
#include "pwbench_tests.h"

double pw_alltoall_iterate(struct pw_bench *b, int size, long n)
{
    double spent = 0;

    for (long i = 0; i < n; i++) {
        double start = MPI_Wtime();

        MPI_Alltoall(b->send, size, MPI_CHAR, b->recv, size, MPI_CHAR, MPI_COMM_WORLD);
        spent += MPI_Wtime() - start;
        MPI_Barrier(MPI_COMM_WORLD);
    }
    return spent;
}

double pw_allreduce_iterate(struct pw_bench *b, int size, long n)
{
    double spent = 0;

    for (long i = 0; i < n; i++) {
        double start = MPI_Wtime();

        MPI_Allreduce(b->send, b->recv, size, MPI_UINT8_T, MPI_SUM, MPI_COMM_WORLD);
        spent += MPI_Wtime() - start;
        MPI_Barrier(MPI_COMM_WORLD);
    }
    return spent;
}

double pw_barrier_iterate(struct pw_bench *b, int size, long n)
{
    double start = MPI_Wtime();

    (void)b;
    (void)size;
    for (long i = 0; i < n; i++)
        MPI_Barrier(MPI_COMM_WORLD);
    return MPI_Wtime() - start;
}

/* ---- checks ---- */

void pw_alltoall_check(struct pw_bench *b, size_t size, int round)
{
    struct pw_wrong wrong;

    for (int to = 0; to < b->ranks; to++) {
        struct pw_place p = { round, b->rank, to };

        pw_pattern_fill(b->send + (size_t)to * size, size, &p);
    }
    pw_poison(b->recv, (size_t)b->ranks * size);
    MPI_Alltoall(b->send, (int)size, MPI_CHAR, b->recv, (int)size, MPI_CHAR,
                 MPI_COMM_WORLD);
    for (int from = 0; from < b->ranks; from++) {
        struct pw_place p = { round, from, b->rank };

        if (!pw_pattern_verify(b->recv + (size_t)from * size, size, &p, &wrong))
            pw_bench_wrong(b, size, &p, &wrong);
        p.slot = b->ranks;
        if (from == b->ranks - 1 && !pw_guard_verify(b->recv, (size_t)b->ranks * size,
                                                     &wrong))
            pw_bench_wrong(b, size, &p, &wrong);
    }
}

/* Small enough that the sum over all ranks is a byte: one that is larger wraps around
 * in one MPI and stays 255 in another (Open MPI 4.1 with AVX). */
static unsigned char summand(int ranks, const struct pw_place *p, size_t at)
{
    return (unsigned char)(pw_pattern_byte(p, at) % (255 / ranks + 1));
}

void pw_allreduce_check(struct pw_bench *b, size_t size, int round)
{
    struct pw_place mine = { round, b->rank, 0 };
    struct pw_wrong wrong;

    for (size_t at = 0; at < size; at++)
        b->send[at] = (char)summand(b->ranks, &mine, at);
    pw_poison(b->recv, size);
    MPI_Allreduce(b->send, b->recv, (int)size, MPI_UINT8_T, MPI_SUM, MPI_COMM_WORLD);
    for (size_t at = 0; at < size; at++) {
        unsigned char sum = 0;

        for (int r = 0; r < b->ranks; r++) {
            struct pw_place p = { round, r, 0 };

            sum = (unsigned char)(sum + summand(b->ranks, &p, at));
        }
        wrong = (struct pw_wrong){ at, (unsigned char)b->recv[at], sum };
        if (wrong.is != wrong.wanted) {
            pw_bench_wrong(b, size, &mine, &wrong);
            return;
        }
    }
    if (!pw_guard_verify(b->recv, size, &wrong))
        pw_bench_wrong(b, size, &mine, &wrong);
}

static bool one_host(int ranks)
{
    MPI_Comm here;
    int n;

    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &here);
    MPI_Comm_size(here, &n);
    MPI_Comm_free(&here);
    MPI_Allreduce(MPI_IN_PLACE, &n, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
    return n == ranks;
}

/* Nobody leaves before the last one has come, and each is the last one in turn. Only
 * the clock of one host can tell. */
void pw_barrier_check(struct pw_bench *b, size_t size, int round)
{
    struct timespec late = { 0, 500 * 1000 };
    int64_t entered, left, last;

    (void)size;
    if (round == 0 && !one_host(b->ranks)) {
        if (b->rank == 0)
            fprintf(stderr, "pwbench: barrier can be checked on one host only\n");
        MPI_Abort(MPI_COMM_WORLD, PW_BENCH_FAILED);
    }
    if (b->rank == round % b->ranks)
        nanosleep(&late, NULL);
    entered = pw_clock_ns();
    MPI_Barrier(MPI_COMM_WORLD);
    left = pw_clock_ns();
    MPI_Allreduce(&entered, &last, 1, MPI_INT64_T, MPI_MAX, MPI_COMM_WORLD);
    if (left >= last || b->wrong)
        return;
    b->wrong = true;
    fprintf(stderr, "pwbench: wrong: barrier, rank %d, round %d: it was left %g us before "
            "the last rank came\n", b->rank, round, (double)(last - left) / 1e3);
}
