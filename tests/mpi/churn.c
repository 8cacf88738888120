/* SPDX-License-Identifier: BSD-3-Clause */
/* churn.c - steady traffic of all kinds, for the runner's bad days.
 *
 *     churn SECONDS [WHAT [FATE]]
 *
 * WHAT   big, small, put or all: what ranks send to each other, checked
 * FATE   what befalls rank 1 after half of the time:
 *          kill  SIGKILL, in the midst of it
 *          exit  leaves with exit(0), without MPI_Finalize
 *          stop  SIGSTOP for 3 s
 */
#include "story.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SMALL = 3000 };

static MPI_Win win;
static int big;
static char *base, *s, *r;
static double exit_at;      /* when set: leave then, without a word */

static void messages(int len, int i)
{
    int right = (rank + 1) % size, left = (rank + size - 1) % size;

    fill(s, (size_t)len, mix((uint64_t)rank, (uint64_t)i));
    MPI_Sendrecv(s, len, MPI_CHAR, right, 1, r, len, MPI_CHAR, left, 1, MPI_COMM_WORLD,
                 MPI_STATUS_IGNORE);
    same(r, (size_t)len, mix((uint64_t)left, (uint64_t)i), "%d bytes, round %d", len, i);
}

static void puts_and_gets(int i)
{
    int right = (rank + 1) % size, len = i % 2 ? big : SMALL;

    fill(s, (size_t)len, mix((uint64_t)rank, (uint64_t)i));
    MPI_Put(s, len, MPI_CHAR, right, 0, len, MPI_CHAR, win);
    MPI_Win_flush(right, win);
    MPI_Get(r, len, MPI_CHAR, right, 0, len, MPI_CHAR, win);
    MPI_Win_flush(right, win);
    same(r, (size_t)len, mix((uint64_t)rank, (uint64_t)i), "put and get, round %d", i);
}

/* Befalls its parent: forked before MPI_Init, for MPI knows no fork. */
static void fate_fork(const char *fate, double after)
{
    pid_t me = getpid();

    if (fork() != 0)
        return;
    nap(after);
    if (getppid() != me)
        _exit(0);
    if (strcmp(fate, "kill") == 0) {
        kill(me, SIGKILL);
    } else {
        kill(me, SIGSTOP);
        nap(3);
        kill(me, SIGCONT);
    }
    _exit(0);
}

static void run(const char *what, double seconds)
{
    bool all = strcmp(what, "all") == 0;
    int go = 1;

    for (double end = now() + seconds; go; ) {
        for (int i = 0; i < 20; i++) {
            if (all || strcmp(what, "small") == 0)
                for (int k = 0; k < 50; k++)
                    messages(k * 61 % SMALL, i * 50 + k);
            if (all || strcmp(what, "big") == 0)
                messages(big - i * 1000, i);
            if (all || strcmp(what, "put") == 0)
                puts_and_gets(i);
            if (exit_at > 0 && now() > exit_at)
                _exit(0);
        }
        go = now() < end;
        MPI_Bcast(&go, 1, MPI_INT, 0, MPI_COMM_WORLD);
    }
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 2;
    const char *what = argc > 2 ? argv[2] : "all", *fate = argc > 3 ? argv[3] : "";
    const char *me = getenv("OMPI_COMM_WORLD_RANK");
    bool struck = *fate && me && strcmp(me, "1") == 0;
    int one = 1;

    if (struck && strcmp(fate, "exit") != 0)
        fate_fork(fate, seconds / 2 + 0.5);
    story_open(&one, &argv, MPI_THREAD_SINGLE, (unsigned)seconds + 60);
    if (struck && strcmp(fate, "exit") == 0)
        exit_at = now() + seconds / 2;
    story("churn %s", what);

    big = story_largest(4 << 20);
    s = mem_get(MEM_MALLOC, (size_t)big);
    r = mem_get(MEM_POOL, (size_t)big);
    base = mem_get(MEM_POOL, (size_t)big);
    MPI_Win_create(base, big, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &win);
    MPI_Win_lock_all(0, win);
    run(what, seconds);
    MPI_Win_unlock_all(win);
    MPI_Win_free(&win);
    mem_put(MEM_POOL, base);
    mem_put(MEM_POOL, r);
    mem_put(MEM_MALLOC, s);
    return story_close();
}
