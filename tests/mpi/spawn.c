/* SPDX-License-Identifier: BSD-3-Clause */
/* spawn.c - a job that starts two more processes, talks to them through the
 * intercommunicator and a merged one, and lets them go; twice.
 */
#include "story.h"

#include <stdlib.h>
#include <string.h>

enum { CHILDREN = 2, LARGEST = 4 << 20 };

static const int lens[] = { 0, 1, 100, 4096, 65537, 1 << 20, LARGEST };

/* Every process of one side with every one of the other. `me` and `first` make
 * the seeds of the two sides differ. */
static void cross(MPI_Comm inter, bool parent, enum mem mem)
{
    int others, me;
    char *s = mem_get(mem, LARGEST), *r = mem_get(mem, LARGEST);

    MPI_Comm_remote_size(inter, &others);
    MPI_Comm_rank(inter, &me);
    for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
        for (int o = 0; o < others; o++) {
            MPI_Request q[2];
            uint64_t out = mix((uint64_t)(me * 50 + o), parent);
            uint64_t in = mix((uint64_t)(o * 50 + me), !parent);

            fill(s, (size_t)lens[i], out);
            memset(r, 0, (size_t)lens[i]);
            MPI_Irecv(r, lens[i], MPI_CHAR, o, 5, inter, &q[0]);
            MPI_Isend(s, lens[i], MPI_CHAR, o, 5, inter, &q[1]);
            MPI_Waitall(2, q, MPI_STATUSES_IGNORE);
            same(r, (size_t)lens[i], in, "%d bytes over the intercommunicator", lens[i]);
        }
    }
    mem_put(mem, s);
    mem_put(mem, r);
}

static void together(MPI_Comm inter, bool parent)
{
    MPI_Comm all;
    int me, n, left, right;
    long sum, mine;
    enum { LEN = 1 << 20 };
    char *s = malloc(LEN), *r = malloc(LEN);

    MPI_Intercomm_merge(inter, !parent, &all);
    MPI_Comm_rank(all, &me);
    MPI_Comm_size(all, &n);
    mine = me + 1;
    MPI_Allreduce(&mine, &sum, 1, MPI_LONG, MPI_SUM, all);
    expect(sum == (long)n * (n + 1) / 2, "allreduce over both: %ld", sum);

    left = (me + n - 1) % n;
    right = (me + 1) % n;
    fill(s, LEN, (uint64_t)me);
    MPI_Sendrecv(s, LEN, MPI_CHAR, right, 1, r, LEN, MPI_CHAR, left, 1, all, MPI_STATUS_IGNORE);
    same(r, LEN, (uint64_t)left, "ring over both");
    MPI_Barrier(all);
    MPI_Comm_free(&all);
    free(s);
    free(r);
}

static void meet(MPI_Comm inter, bool parent)
{
    cross(inter, parent, MEM_MALLOC);
    cross(inter, parent, MEM_POOL);
    together(inter, parent);
    MPI_Comm_disconnect(&inter);
}

int main(int argc, char **argv)
{
    static char child[] = "child";
    char *args[] = { child, NULL };
    MPI_Comm inter;

    story_open(&argc, &argv, MPI_THREAD_SINGLE, 60);
    MPI_Comm_get_parent(&inter);
    if (inter != MPI_COMM_NULL) {
        meet(inter, false);
        return story_close();
    }
    for (int round = 0; round < 2; round++) {
        int errors[CHILDREN];

        MPI_Comm_spawn(argv[0], args, CHILDREN, MPI_INFO_NULL, 0, MPI_COMM_WORLD, &inter, errors);
        meet(inter, true);
    }
    return story_close();
}
