/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_tests.h - the tests between rank 0 and rank 1.
 *
 * Both ranks call everything here, with equal arguments. Errors of MPI end the
 * job, as MPI_ERRORS_ARE_FATAL has it.
 */
#ifndef PWBENCH_TESTS_H
#define PWBENCH_TESTS_H

#include <mpi.h>

#include "pwbench.h"

enum {
    PW_GUARD = 64,      /* bytes behind each message that must stay untouched */
};

struct pw_bench {
    const struct pw_single_options *o;
    int rank, other;
    size_t room;            /* bytes of each buffer */
    char *send, *recv;      /* what is passed to MPI */
    MPI_Request *request;   /* 2 * window */
    MPI_Win win;            /* one-sided tests only */
    char *win_mem;          /* this rank's memory in it */
    MPI_Aint win_at;        /* where rank 1's memory starts, as a displacement */
    bool wrong;             /* this rank saw wrong data */
};

/* 0, or -ENOMEM. */
int pw_bench_open(struct pw_bench *b, const struct pw_single_options *o);
void pw_bench_close(struct pw_bench *b);

/* n iterations; an iteration is a round trip, a window, or one put or get. */
void pw_bench_iterate(struct pw_bench *b, size_t size, long n);

/* What to print for one iteration of that many seconds. */
double pw_bench_value(const struct pw_bench *b, size_t size, double seconds);

/* Send data that differs each time, and look at what arrives. Sets b->wrong on
 * the rank that saw it, which says where on stderr. */
void pw_bench_check(struct pw_bench *b, size_t size);

/* Distinct messages in flight at once during pw_bench_check(), and the distance
 * between them in the buffer. */
int pw_check_slots(const struct pw_single_options *o, size_t size);
size_t pw_check_stride(size_t size);

#endif
