/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_tests.h - the tests: what is timed, what is checked, and on what memory.
 *
 * All ranks call everything here, with equal arguments. Errors of MPI end the
 * job, as MPI_ERRORS_ARE_FATAL has it.
 */
#ifndef PWBENCH_TESTS_H
#define PWBENCH_TESTS_H

#include <mpi.h>

#include "pwbench.h"
#include "pwbench_pattern.h"

struct pw_bench {
    const struct pw_single_options *o;
    int rank, ranks;
    int side, other;        /* in a pair: 0 sends first; the rank of the other one */
    size_t room;            /* bytes of each buffer */
    char *send, *recv;      /* what is passed to MPI */
    MPI_Request *request;   /* 2 * window */
    MPI_Win win;            /* one-sided tests only */
    char *win_mem;          /* this rank's memory in it */
    MPI_Aint win_at;        /* where rank 1's memory starts, as a displacement */
    long steps;             /* overlap: of pw_compute() in each iteration */
    bool wrong;             /* this rank saw wrong data */
};

/* 0, or -ENOMEM. */
int pw_bench_open(struct pw_bench *b, const struct pw_single_options *o);
void pw_bench_close(struct pw_bench *b);

/* n iterations; an iteration is a round trip, a window, one operation. The seconds
 * that this rank spent on what the test measures. */
double pw_bench_iterate(struct pw_bench *b, size_t size, long n);

/* Does this rank's time count? */
bool pw_bench_counts(const struct pw_bench *b);

/* What to print for one iteration of that many seconds. */
double pw_bench_value(const struct pw_bench *b, size_t size, double seconds);

/* Send data that differs each time, and look at what arrives. Sets b->wrong on
 * the rank that saw it, which says where on stderr. */
void pw_bench_check(struct pw_bench *b, size_t size);

/* Tell it, if this rank has not told of something before. */
void pw_bench_wrong(struct pw_bench *b, size_t size, const struct pw_place *p,
                    const struct pw_wrong *wrong);

/* Distinct messages in flight at once during pw_bench_check(), and the distance
 * between them in the buffer. */
int pw_check_slots(const struct pw_single_options *o, size_t size);
size_t pw_check_stride(size_t size);

/* Collectives, pwbench_group.c: as iterate and one round of check. */
double pw_alltoall_iterate(struct pw_bench *b, int size, long n);
double pw_allreduce_iterate(struct pw_bench *b, int size, long n);
double pw_barrier_iterate(struct pw_bench *b, int size, long n);
void pw_alltoall_check(struct pw_bench *b, size_t size, int round);
void pw_allreduce_check(struct pw_bench *b, size_t size, int round);
void pw_barrier_check(struct pw_bench *b, size_t size, int round);

/* False unless this MPI has what --require names; says what is missing, on rank 0. Call it
 * between MPI_Init and MPI_Finalize; pwbench_require.c. */
bool pw_require(const struct pw_single_options *o, int rank);

/* Work in registers, without a call of MPI; pwbench_compute.c. */
void pw_compute(long steps);
double pw_compute_speed(void);      /* steps in a second */

#endif
