/* SPDX-License-Identifier: BSD-3-Clause */
/* colls.c - collectives of random sizes, blocking and not, checked element by
 * element. All ranks draw the same numbers, so each knows what must come.
 */
#include "story.h"

#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 30, LARGEST = 60000 };      /* longs */

static uint64_t state;
static long *a, *b, *c;     /* size * LARGEST longs, at least */

static long element(int who, long i)
{
    return (long)(mix((uint64_t)who, (uint64_t)i) >> 24);
}

static void put_elements(long *p, int n, int who)
{
    for (int i = 0; i < n; i++)
        p[i] = element(who, i);
}

static void check_elements(const long *p, int n, int who, const char *what)
{
    for (int i = 0; i < n; i++) {
        if (p[i] == element(who, i))
            continue;
        expect(false, "%s: element %d of %d, of rank %d, is wrong", what, i, n, who);
        return;
    }
}

/* Sum over ranks [0, ranks) of element i. */
static void check_sums(const long *p, int n, int ranks, const char *what)
{
    for (int i = 0; i < n; i++) {
        long sum = 0;
        for (int r = 0; r < ranks; r++)
            sum += element(r, i);
        if (p[i] == sum)
            continue;
        expect(false, "%s: element %d of %d is wrong", what, i, n);
        return;
    }
}

static int some_len(void)
{
    static const unsigned top[] = { 4, 100, 1000, 10000, LARGEST };
    unsigned limit = top[draw(&state) % 5];

    return (int)(draw(&state) % limit);
}

static int some_rank(void)
{
    return (int)(draw(&state) % (unsigned)size);
}

static void bcast(void)
{
    int n = some_len(), root = some_rank();

    put_elements(a, n, rank);
    MPI_Bcast(a, n, MPI_LONG, root, MPI_COMM_WORLD);
    check_elements(a, n, root, "bcast");
}

static void reduce(void)
{
    int n = some_len(), root = some_rank();

    put_elements(a, n, rank);
    MPI_Reduce(a, b, n, MPI_LONG, MPI_SUM, root, MPI_COMM_WORLD);
    if (rank == root)
        check_sums(b, n, size, "reduce");
}

static void allreduce(void)
{
    int n = some_len();

    put_elements(a, n, rank);
    MPI_Allreduce(a, b, n, MPI_LONG, MPI_SUM, MPI_COMM_WORLD);
    check_sums(b, n, size, "allreduce");
    MPI_Allreduce(MPI_IN_PLACE, a, n, MPI_LONG, MPI_SUM, MPI_COMM_WORLD);
    check_sums(a, n, size, "allreduce in place");
}

static void scan(void)
{
    int n = some_len();

    put_elements(a, n, rank);
    MPI_Scan(a, b, n, MPI_LONG, MPI_SUM, MPI_COMM_WORLD);
    check_sums(b, n, rank + 1, "scan");
    MPI_Exscan(a, b, n, MPI_LONG, MPI_SUM, MPI_COMM_WORLD);
    if (rank)
        check_sums(b, n, rank, "exscan");
}

static void allgather(void)
{
    int n = some_len() / size;

    put_elements(a, n, rank);
    MPI_Allgather(a, n, MPI_LONG, b, n, MPI_LONG, MPI_COMM_WORLD);
    for (int r = 0; r < size; r++)
        check_elements(b + (long)r * n, n, r, "allgather");
}

static void gather_scatter(void)
{
    int n = some_len() / size, root = some_rank();

    put_elements(a, n, rank);
    MPI_Gather(a, n, MPI_LONG, b, n, MPI_LONG, root, MPI_COMM_WORLD);
    for (int r = 0; rank == root && r < size; r++)
        check_elements(b + (long)r * n, n, r, "gather");
    MPI_Scatter(b, n, MPI_LONG, c, n, MPI_LONG, root, MPI_COMM_WORLD);
    check_elements(c, n, rank, "scatter");
}

/* From i to j go parts of the same n elements, marked with both. */
static void alltoall(void)
{
    int n = some_len() / size;

    for (int r = 0; r < size; r++)
        put_elements(a + (long)r * n, n, rank * 100 + r);
    MPI_Alltoall(a, n, MPI_LONG, b, n, MPI_LONG, MPI_COMM_WORLD);
    for (int r = 0; r < size; r++)
        check_elements(b + (long)r * n, n, r * 100 + rank, "alltoall");
}

static int part(int from, int to, int n)
{
    return n ? (int)(mix((uint64_t)(from * 64 + to), 9) % (unsigned)n) : 0;
}

static void alltoallv(void)
{
    int n = some_len() / size, sn[64], sd[64], rn[64], rd[64], so = 0, ro = 0;

    for (int r = 0; r < size; r++) {
        sn[r] = part(rank, r, n);
        rn[r] = part(r, rank, n);
        sd[r] = so;
        rd[r] = ro;
        put_elements(a + so, sn[r], rank * 100 + r);
        so += sn[r];
        ro += rn[r];
    }
    MPI_Alltoallv(a, sn, sd, MPI_LONG, b, rn, rd, MPI_LONG, MPI_COMM_WORLD);
    for (int r = 0; r < size; r++)
        check_elements(b + rd[r], rn[r], r * 100 + rank, "alltoallv");
}

static void reduce_scatter(void)
{
    int n = some_len() / size;

    put_elements(a, n * size, rank);
    MPI_Reduce_scatter_block(a, b, n, MPI_LONG, MPI_SUM, MPI_COMM_WORLD);
    for (int i = 0; i < n; i++) {
        long sum = 0;
        for (int r = 0; r < size; r++)
            sum += element(r, (long)rank * n + i);
        if (b[i] != sum) {
            expect(false, "reduce_scatter: element %d of %d is wrong", i, n);
            break;
        }
    }
}

/* Several collectives in flight, and messages between neighbours meanwhile. */
static void nonblocking(void)
{
    int n = some_len() / 2, m = some_len() / size, root = some_rank(), left, right;
    long *a2 = a + LARGEST / 2, *b2 = b + LARGEST / 2, out = rank, in = -1;
    MPI_Request q[4];

    left = (rank + size - 1) % size;
    right = (rank + 1) % size;
    put_elements(c, n, rank);
    put_elements(a, n, rank);
    for (int r = 0; r < size; r++)
        put_elements(a2 + (long)r * m, m, rank * 100 + r);
    MPI_Ibcast(c, n, MPI_LONG, root, MPI_COMM_WORLD, &q[0]);
    MPI_Iallreduce(a, b, n, MPI_LONG, MPI_SUM, MPI_COMM_WORLD, &q[1]);
    MPI_Ialltoall(a2, m, MPI_LONG, b2, m, MPI_LONG, MPI_COMM_WORLD, &q[2]);
    MPI_Ibarrier(MPI_COMM_WORLD, &q[3]);
    MPI_Sendrecv(&out, 1, MPI_LONG, right, 0, &in, 1, MPI_LONG, left, 0, MPI_COMM_WORLD,
                 MPI_STATUS_IGNORE);
    expect(in == left, "a message beside collectives: %ld, not %d", in, left);
    MPI_Waitall(4, q, MPI_STATUSES_IGNORE);
    check_elements(c, n, root, "ibcast");
    check_sums(b, n, size, "iallreduce");
    for (int r = 0; r < size; r++)
        check_elements(b2 + (long)r * m, m, r * 100 + rank, "ialltoall");
}

/* No rank leaves a barrier before the last one has come. */
static void barrier(void)
{
    int late = some_rank();
    double mine, last;

    if (rank == late)
        nap(0.02);
    mine = now();       /* one clock for all processes of the host */
    MPI_Barrier(MPI_COMM_WORLD);
    double left = now();
    MPI_Allreduce(&mine, &last, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    expect(left >= last, "left the barrier %g s before the last one came", last - left);
}

static const struct { const char *name; void (*run)(void); } stories[] = {
    { "bcast", bcast }, { "reduce", reduce }, { "allreduce", allreduce }, { "scan", scan },
    { "allgather", allgather }, { "gather and scatter", gather_scatter },
    { "alltoall", alltoall }, { "vector alltoall", alltoallv },
    { "sums scattered", reduce_scatter }, { "nonblocking", nonblocking },
    { "barrier", barrier },
};

int main(int argc, char **argv)
{
    story_open(&argc, &argv, MPI_THREAD_SINGLE, 100);
    for (int mem = 0; mem < 2; mem++) {
        size_t room = (size_t)LARGEST * 2 * sizeof(long);

        a = mem_get(mem, room);
        b = mem_get(mem, room);
        c = mem_get(mem, room);
        for (size_t s = 0; s < sizeof stories / sizeof stories[0]; s++) {
            if (!story("%s %s", stories[s].name, mem_name(mem)))
                continue;
            state = mix(s, (uint64_t)size);
            for (int i = 0; i < ROUNDS; i++)
                stories[s].run();
        }
        mem_put(mem, a);
        mem_put(mem, b);
        mem_put(mem, c);
    }
    return story_close();
}
