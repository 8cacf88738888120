/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_single.c - one test under mpirun: for each size check, warm up, time, print.
 *
 * Rank 0 decides how often to iterate, from the time the warm-up took, and
 * tells the others.
 */
#include <stdio.h>
#include <stdlib.h>

#include "cores.h"
#include "pwbench_figures.h"
#include "pwbench_tests.h"

/* Warm up, and find how many iterations fit the time. The first half of the
 * warm-up meets page faults and connection set-up, so the second half counts. */
static long choose_iterations(struct pw_bench *b, size_t size, struct pw_counts c)
{
    long half = c.warmup / 2, timed = c.warmup - half, n;
    double start, each;

    pw_bench_iterate(b, size, half);
    start = MPI_Wtime();
    pw_bench_iterate(b, size, timed);
    each = timed ? (MPI_Wtime() - start) / (double)timed : 0;

    n = pw_counts_fit(b->o, c, each);
    MPI_Bcast(&n, 1, MPI_LONG, 0, MPI_COMM_WORLD);
    return n;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* The mean over the ranks whose time counts. Valid on rank 0. */
static double mean_over_ranks(const struct pw_bench *b, double each)
{
    double mine[2] = { 0, 0 }, sum[2];

    if (pw_bench_counts(b)) {
        mine[0] = each;
        mine[1] = 1;
    }
    MPI_Reduce(mine, sum, 2, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
    return b->rank == 0 ? sum[0] / sum[1] : 0;
}

/* Seconds for an iteration. Valid on rank 0. */
static double measure(struct pw_bench *b, size_t size)
{
    long n = choose_iterations(b, size, pw_counts_for(b->o, size));
    int batches = n < b->o->batches ? (int)n : b->o->batches;
    double *each = calloc((size_t)batches, sizeof *each), result;

    if (!each)
        MPI_Abort(MPI_COMM_WORLD, PW_BENCH_FAILED);
    MPI_Barrier(MPI_COMM_WORLD);
    for (int i = 0; i < batches; i++) {
        long these = pw_batch_start(n, i + 1, batches) - pw_batch_start(n, i, batches);

        each[i] = pw_bench_iterate(b, size, these) / (double)these;
    }
    MPI_Barrier(MPI_COMM_WORLD);

    qsort(each, (size_t)batches, sizeof *each, compare_doubles);
    result = (each[batches / 2] + each[(batches - 1) / 2]) / 2;
    free(each);
    return mean_over_ranks(b, result);
}

/* overlap: how much to compute at the i-th size, in us: what was asked for, or as long
 * as the messages alone take. Valid on rank 0, as *alone is, the time of the latter. */
static double choose_compute(struct pw_bench *b, int i, double *alone)
{
    const struct pw_single_options *o = b->o;
    double compute, speed = pw_compute_speed();

    b->steps = 0;
    *alone = measure(b, o->sizes.at[i]) * 1e6;
    compute = !o->n_compute ? *alone : o->compute[o->n_compute == 1 ? 0 : i];
    b->steps = (long)(compute * 1e-6 * speed);
    MPI_Bcast(&b->steps, 1, MPI_LONG, 0, MPI_COMM_WORLD);
    return compute;
}

/* False when data was wrong on any rank. */
static bool data_is_right(struct pw_bench *b, size_t size)
{
    int wrong;

    pw_bench_check(b, size);
    wrong = b->wrong;
    MPI_Allreduce(MPI_IN_PLACE, &wrong, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    return !wrong;
}

static void run_size(struct pw_bench *b, int i)
{
    bool overlap = b->o->test == PW_OVERLAP;
    size_t size = b->o->sizes.at[i];
    double alone = 0, compute = overlap ? choose_compute(b, i, &alone) : 0;
    double value = pw_bench_value(b, size, measure(b, size));

    if (b->rank != 0)
        return;
    printf("%-10zu%18.*f", size, pw_decimals(value), value);
    if (overlap)
        printf("%18.*f%18.*f", pw_decimals(compute), compute, pw_decimals(alone), alone);
    putchar('\n');
    fflush(stdout);
}

/* Where both are, when each is bound to a core. */
static void print_cores(const struct pw_bench *b, const int core[2])
{
    if (b->ranks == 2 && core[0] >= 0 && core[1] >= 0)
        printf("# Cores: %d %d\n", core[0], core[1]);
}

static void print_heading(const struct pw_bench *b, const int core[2])
{
    const struct pw_single_options *o = b->o;
    const struct pw_test_info *t = &pw_test_info[o->test];
    bool one_sided = t->kind == PW_ONE_SIDED;

    printf("# pwbench %s Test\n", t->title);
    printf("# Buffers: %s%s%s%s\n", pw_test_buffers(o->test, o->buffers),
           one_sided ? ", window: " : "",
           one_sided ? pw_window_kind_name[o->window_kind] : "",
           o->check ? ", data verified" : "");
    if (b->ranks != 2)
        printf("# Ranks: %d%s\n", b->ranks, o->pairs ? ", in pairs" : "");
    print_cores(b, core);
    printf("%-10s%18s", "# Size", t->column);
    if (o->test == PW_OVERLAP)
        printf("%18s%18s", "Compute (us)", "Messages (us)");
    putchar('\n');
    fflush(stdout);
}

/* A hardware thread of each of the first two ranks' cores, or -1. Valid on rank 0. */
static void find_cores(const struct pw_bench *b, int core[2])
{
    int mine[2] = { -1, -1 };

    core[0] = core[1] = -1;
    if (b->rank < 2 && pw_cores_usable() == 1)
        mine[b->rank] = pw_core_at(0);
    MPI_Reduce(mine, core, 2, MPI_INT, MPI_MAX, 0, MPI_COMM_WORLD);
}

static int run_sizes(const struct pw_single_options *o)
{
    struct pw_bench b;
    int core[2], exit_code = 0;

    if (pw_bench_open(&b, o)) {
        fprintf(stderr,
                "pwbench: no memory for buffers of %zu bytes; use smaller --sizes\n",
                b.room);
        MPI_Abort(MPI_COMM_WORLD, PW_BENCH_FAILED);
    }
    find_cores(&b, core);
    if (b.rank == 0)
        print_heading(&b, core);
    for (int i = 0; i < o->sizes.n && !exit_code; i++) {
        if (o->check && !data_is_right(&b, o->sizes.at[i]))
            exit_code = PW_BENCH_FAILED;
        else
            run_size(&b, i);
    }
    pw_bench_close(&b);
    return exit_code;
}

/* Does the test run between so many? Says so if not, on rank 0. */
static bool ranks_suit(const struct pw_single_options *o, int ranks, int rank)
{
    const struct pw_test_info *t = &pw_test_info[o->test];

    if (t->kind == PW_COLLECTIVE || ranks == 2 || (o->pairs && ranks % 2 == 0))
        return true;
    if (rank == 0 && o->pairs)
        fprintf(stderr,
                "pwbench: %s --pairs runs between an even number of ranks, not %d\n",
                t->name, ranks);
    else if (rank == 0)
        fprintf(stderr, "pwbench: %s runs between 2 ranks, not %d; start it with mpirun -n "
                "2%s\n", t->name, ranks,
                t->kind == PW_PAIR ? ", or give --pairs" : "");
    return false;
}

int pw_single_run(const struct pw_single_options *o)
{
    int ranks, rank, exit_code = PW_BENCH_USAGE;

    if (o->test == PW_INIT)
        return pw_init_run(o);
    MPI_Init(NULL, NULL);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (ranks_suit(o, ranks, rank) && pw_require(o, rank))
        exit_code = run_sizes(o);
    MPI_Finalize();
    return exit_code;
}
