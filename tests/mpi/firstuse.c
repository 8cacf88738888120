/* SPDX-License-Identifier: BSD-3-Clause */
/* firstuse.c - ranks that talk to few others, and for the first time.
 *
 * A transport connects when two ranks first use each other. So each story is for a
 * job of its own (see the script contact), in which nobody has talked before; the
 * counter btl_pinwheel_peers_connected tells who has.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "counters.h"
#include "story.h"

enum { LEN = 100, LONG = 300 * 1000, THREADS = 4 };

static int connected(void)
{
    return (int)counter("btl_pinwheel_peers_connected");
}

static void exchange(int to, int from, int len, int tag)
{
    char *s = malloc((size_t)len), *r = malloc((size_t)len);

    fill(s, (size_t)len, mix((uint64_t)rank, (uint64_t)to));
    MPI_Sendrecv(s, len, MPI_CHAR, to, tag, r, len, MPI_CHAR, from, tag, MPI_COMM_WORLD,
                 MPI_STATUS_IGNORE);
    same(r, (size_t)len, mix((uint64_t)from, (uint64_t)rank), "from %d", from);
    free(s);
    free(r);
}

static void ring(void)
{
    int neighbours = size - 1 < 2 ? size - 1 : 2;

    expect(connected() == 0, "%d peers connected before the first message", connected());
    for (int i = 0; i < 20; i++) {
        exchange((rank + 1) % size, (rank + size - 1) % size, LEN, i);
        exchange((rank + 1) % size, (rank + size - 1) % size, LONG, i);
    }
    expect(connected() == neighbours, "%d peers connected, %d neighbours", connected(),
           neighbours);
    /* Nobody goes on before all have counted: that is a lap, and to know it another. */
    for (int lap = 0; lap < 2; lap++) {
        if (rank)
            MPI_Recv(&lap, 1, MPI_INT, rank - 1, 8, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        MPI_Send(&lap, 1, MPI_INT, (rank + 1) % size, 8, MPI_COMM_WORLD);
        if (!rank)
            MPI_Recv(&lap, 1, MPI_INT, size - 1, 8, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    }
}

/* One after the other, so that rank 0 sleeps before each; nobody whom it waits for is
 * connected to it but its neighbours in the ring. */
static void all_to_first(void)
{
    char r[LEN], s[LEN];
    int ring_peers = connected(), expected = size - 1;
    bool come[1024] = { false };

    fill(s, LEN, (uint64_t)rank);
    if (rank) {
        nap(0.03 * rank);
        MPI_Send(s, LEN, MPI_CHAR, 0, 7, MPI_COMM_WORLD);
        expected = ring_peers + (rank != 1 && rank != size - 1);
        expect(connected() == expected, "%d peers connected, not %d", connected(), expected);
        return;
    }
    for (int i = 1; i < size; i++) {
        MPI_Status status;

        MPI_Recv(r, LEN, MPI_CHAR, MPI_ANY_SOURCE, 7, MPI_COMM_WORLD, &status);
        same(r, LEN, (uint64_t)status.MPI_SOURCE, "from %d", status.MPI_SOURCE);
        expect(!come[status.MPI_SOURCE], "twice from %d", status.MPI_SOURCE);
        come[status.MPI_SOURCE] = true;
    }
    expect(connected() == expected, "%d peers connected, not %d", connected(), expected);
}

/* All at once: both sides of each pair may call the other at the same moment. */
static void alltoall(void)
{
    int *s = malloc((size_t)size * sizeof *s), *r = malloc((size_t)size * sizeof *r);
    MPI_Request *req = malloc(2 * (size_t)size * sizeof *req);

    for (int i = 0; i < 5; i++) {
        for (int k = 0; k < size; k++) {
            s[k] = (rank * size + k) * 10 + i;
            MPI_Irecv(&r[k], 1, MPI_INT, k, i, MPI_COMM_WORLD, &req[k]);
        }
        for (int k = 0; k < size; k++)
            MPI_Isend(&s[k], 1, MPI_INT, k, i, MPI_COMM_WORLD, &req[size + k]);
        MPI_Waitall(2 * size, req, MPI_STATUSES_IGNORE);
        for (int from = 0; from < size; from++)
            expect(r[from] == (from * size + rank) * 10 + i, "%d from %d", r[from], from);
    }
    expect(connected() == size - 1, "%d peers connected", connected());
    free(req);
    free(s);
    free(r);
}

/* Into memory that no rank can map, and such that all can. */
static void put(enum mem kind)
{
    long *base = mem_get(kind, (size_t)size * sizeof *base), mine = rank + 1000, old = 0;
    MPI_Win win;

    memset(base, 0, (size_t)size * sizeof *base);
    MPI_Win_create(base, size * (MPI_Aint)sizeof *base, sizeof *base, MPI_INFO_NULL,
                   MPI_COMM_WORLD, &win);
    MPI_Win_lock_all(0, win);
    for (int to = 0; to < size; to++)
        MPI_Put(&mine, 1, MPI_LONG, to, rank, 1, MPI_LONG, win);
    MPI_Win_flush_all(win);
    for (int to = 0; to < size; to++) {
        MPI_Fetch_and_op(&mine, &old, MPI_LONG, to, rank, MPI_SUM, win);
        MPI_Win_flush(to, win);
        expect(old == mine, "%ld in rank %d's", old, to);
    }
    MPI_Win_unlock_all(win);
    MPI_Barrier(MPI_COMM_WORLD);
    for (int from = 0; from < size; from++)
        expect(base[from] == 2 * (from + 1000), "%ld from %d", base[from], from);
    expect(connected() == size - 1, "%d peers connected", connected());
    MPI_Win_free(&win);
    mem_put(kind, base);
}

static void *thread_main(void *arg)
{
    int t = (int)(intptr_t)arg;

    for (int i = 1; i < size; i++) {
        int shift = 1 + (i - 1 + t) % (size - 1);

        exchange((rank + shift) % size, (rank + size - shift) % size, LEN, t * 100 + shift);
    }
    return NULL;
}

static void threads(void)
{
    pthread_t thread[THREADS];

    expect(connected() == 0, "%d peers connected before the first message", connected());
    for (int t = 0; t < THREADS; t++)
        pthread_create(&thread[t], NULL, thread_main, (void *)(intptr_t)t);
    for (int t = 0; t < THREADS; t++)
        pthread_join(thread[t], NULL);
    expect(connected() == size - 1, "%d peers connected", connected());
}

/* ---- who cannot be reached: the job ends with a line that says why ---- */

/* Rank 0 has no descriptor left for a socket when it first sends, or is called. */
static void no_descriptors(bool calls)
{
    struct rlimit none;
    int fd = dup(0);

    if (rank == 0) {
        getrlimit(RLIMIT_NOFILE, &none);
        none.rlim_cur = (rlim_t)fd;
        setrlimit(RLIMIT_NOFILE, &none);
    }
    close(fd);
    if (rank == 0)
        while (dup(0) >= 0)
            ;
    if (rank == 0 && calls)
        MPI_Send(&rank, 1, MPI_INT, 1, 7, MPI_COMM_WORLD);
    else
        MPI_Recv(&rank, 1, MPI_INT, !rank, 7, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
}

/* Rank 1 dies before anybody has connected to it. */
static void dead(const char *file)
{
    int fd;

    if (rank == 1) {
        fd = open(file, O_CREAT | O_WRONLY, 0600);
        expect(fd >= 0, "%s cannot be made", file);
        kill(getpid(), SIGKILL);
    }
    while (access(file, F_OK))
        nap(0.01);
    nap(0.2);       /* it is gone, as a rule */
    for (;;)
        MPI_Send(&size, 1, MPI_INT, 1, 7, MPI_COMM_WORLD);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    bool multiple = !strcmp(what, "threads");

    argc -= argc > 1;
    story_open(&argc, &argv, multiple ? MPI_THREAD_MULTIPLE : MPI_THREAD_SINGLE, 100);
    if (!strcmp(what, "ring")) {
        ring();
        all_to_first();
    } else if (!strcmp(what, "alltoall")) {
        alltoall();
    } else if (!strcmp(what, "put")) {
        put(MEM_MALLOC);
    } else if (!strcmp(what, "put-pool")) {
        put(MEM_POOL);
    } else if (multiple) {
        threads();
    } else if (!strcmp(what, "cannot-call")) {
        no_descriptors(true);
    } else if (!strcmp(what, "cannot-answer")) {
        if (rank == 1)
            MPI_Send(&size, 1, MPI_INT, 0, 7, MPI_COMM_WORLD);
        no_descriptors(false);
    } else if (!strcmp(what, "dead")) {
        dead(argv[argc]);
    } else {
        expect(false, "firstuse WHAT, not \"%s\"", what);
    }
    return story_close();
}
