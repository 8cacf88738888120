/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_single.c - one test between two ranks: for each size check, warm up,
 * time, print.
 *
 * Rank 0 decides how often to iterate, from the time the warm-up took, and
 * tells rank 1.
 */
#include <stdio.h>
#include <stdlib.h>

#include "pwbench_tests.h"

enum { LARGE = 8192, ITERATIONS_MIN = 4 };

struct counts {
    long iterations, warmup;
};

/* As in the OSU micro-benchmarks. */
static struct counts default_counts(const struct pw_single_options *o, size_t size)
{
    bool large = size > LARGE, rate = pw_test_info[o->test].rate;
    struct counts c = {
        .iterations = rate ? (large ? 20 : 100) : (large ? 1000 : 10000),
        .warmup = large ? (rate ? 2 : 10) : (rate ? 10 : 100),
    };

    if (o->iterations)
        c.iterations = o->iterations;
    if (o->warmup >= 0)
        c.warmup = o->warmup;
    return c;
}

/* Warm up, and find how many iterations fit the time. The first half of the
 * warm-up meets page faults and connection set-up, so the second half counts. */
static long choose_iterations(struct pw_bench *b, size_t size, struct counts c)
{
    const struct pw_single_options *o = b->o;
    long half = c.warmup / 2, timed = c.warmup - half, n = c.iterations;
    double start, each;

    pw_bench_iterate(b, size, half);
    start = MPI_Wtime();
    pw_bench_iterate(b, size, timed);
    each = timed ? (MPI_Wtime() - start) / (double)timed : 0;

    if (o->seconds > 0 && each > 0 && (double)n * each > o->seconds) {
        n = (long)(o->seconds / each);
        if (n < ITERATIONS_MIN)
            n = ITERATIONS_MIN;
        if (n > c.iterations)
            n = c.iterations;
    }
    MPI_Bcast(&n, 1, MPI_LONG, 0, MPI_COMM_WORLD);
    return n;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Seconds for an iteration. Valid on rank 0. */
static double measure(struct pw_bench *b, size_t size)
{
    long n = choose_iterations(b, size, default_counts(b->o, size));
    int batches = n < b->o->batches ? (int)n : b->o->batches;
    double *each = calloc((size_t)batches, sizeof *each), result;

    if (!each)
        MPI_Abort(MPI_COMM_WORLD, PW_BENCH_FAILED);
    MPI_Barrier(MPI_COMM_WORLD);
    for (int i = 0; i < batches; i++) {
        long these = n * (i + 1) / batches - n * i / batches;
        double start = MPI_Wtime();

        pw_bench_iterate(b, size, these);
        each[i] = (MPI_Wtime() - start) / (double)these;
    }
    MPI_Barrier(MPI_COMM_WORLD);

    qsort(each, (size_t)batches, sizeof *each, compare_doubles);
    result = (each[batches / 2] + each[(batches - 1) / 2]) / 2;
    free(each);
    return result;
}

/* Three digits that count for small values, two decimals for the rest. */
static int decimals(double value)
{
    return value < 1 ? 4 : value < 10 ? 3 : 2;
}

/* False when data was wrong on either rank. */
static bool run_size(struct pw_bench *b, size_t size)
{
    double value;
    int wrong;

    if (b->o->check) {
        pw_bench_check(b, size);
        wrong = b->wrong;
        MPI_Allreduce(MPI_IN_PLACE, &wrong, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
        if (wrong)
            return false;
    }

    value = pw_bench_value(b, size, measure(b, size));
    if (b->rank == 0) {
        printf("%-10zu%18.*f\n", size, decimals(value), value);
        fflush(stdout);
    }
    return true;
}

static void print_heading(const struct pw_single_options *o)
{
    const struct pw_test_info *t = &pw_test_info[o->test];

    printf("# pwbench %s Test\n", t->title);
    printf("# Buffers: %s%s%s%s\n", pw_buffers_name[o->buffers],
           t->one_sided ? ", window: " : "",
           t->one_sided ? pw_window_kind_name[o->window_kind] : "",
           o->check ? ", data verified" : "");
    printf("%-10s%18s\n", "# Size", t->column);
    fflush(stdout);
}

static int run_sizes(const struct pw_single_options *o)
{
    struct pw_bench b;
    int exit_code = 0;

    if (pw_bench_open(&b, o)) {
        fprintf(stderr, "pwbench: no memory for buffers of %zu bytes; use smaller --sizes\n",
                b.room);
        MPI_Abort(MPI_COMM_WORLD, PW_BENCH_FAILED);
    }
    if (b.rank == 0)
        print_heading(o);
    for (int i = 0; i < o->sizes.n && !exit_code; i++)
        if (!run_size(&b, o->sizes.at[i]))
            exit_code = PW_BENCH_FAILED;
    pw_bench_close(&b);
    return exit_code;
}

int pw_single_run(const struct pw_single_options *o)
{
    int ranks, rank, exit_code;

    MPI_Init(NULL, NULL);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (ranks == 2) {
        exit_code = run_sizes(o);
    } else {
        if (rank == 0)
            fprintf(stderr, "pwbench: %s runs between 2 ranks, not %d; start it with "
                    "mpirun -n 2\n", pw_test_info[o->test].name, ranks);
        exit_code = PW_BENCH_USAGE;
    }
    MPI_Finalize();
    return exit_code;
}
