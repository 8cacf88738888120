/* SPDX-License-Identifier: BSD-3-Clause */
/* fuzz_ops.c - one random step after the other, and children that go on from there. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/vm/fuzz.h"

#define CHILDREN 3

/* splitmix64 */
uint64_t rng_next(struct rng *r)
{
    uint64_t z = r->state += 0x9e3779b97f4a7c15ull;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

uint64_t below(struct rng *r, uint64_t n)
{
    return rng_next(r) % n;
}

bool one_in(struct rng *r, unsigned n)
{
    return below(r, n) == 0;
}

uint64_t rng_length(struct rng *r, uint64_t most)
{
    uint64_t limit = 1ull << below(r, 64);

    return 1 + below(r, limit < most ? limit : most);
}

/* ---- children ---- */

static pthread_mutex_t children_lock = PTHREAD_MUTEX_INITIALIZER;
static pid_t children[CHILDREN];

static void child(struct rng *r, pid_t parent)
{
    static char *const nothing[] = { "true", NULL };

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(0);
    myself = atomic_fetch_add(&board->numbers, 1) + 1;
    thread_open();
    areas_after_fork();
    descs_after_fork();
    steps(r, 1 + (unsigned)below(r, 40), true);
    if (one_in(r, 4))
        execv("/bin/true", nothing);
    while (one_in(r, 2))
        pause();
    _exit(0);
}

/* Whoever had that place ends, wherever it is. */
static void step_fork(struct rng *r)
{
    pid_t *place = &children[below(r, CHILDREN)], parent = getpid(), pid;
    struct rng other = { rng_next(r) };

    if (pthread_mutex_trylock(&children_lock) != 0)
        return;
    if (*place > 0) {
        kill(*place, SIGKILL);
        waitpid(*place, NULL, 0);
    }
    pid = fork();
    if (pid == 0)
        child(&other, parent);
    *place = pid;
    atomic_fetch_add(&board->forks, pid > 0);
    pthread_mutex_unlock(&children_lock);
}

static void step_limits(struct rng *r)
{
    static const rlim_t locked[] = { 64 << 10, 8 << 20, 64 << 20, 256 << 20 };
    static const rlim_t files[] = { 24, 48, 200 };
    struct rlimit limit;

    if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0) {
        limit.rlim_cur = locked[below(r, 4)];
        setrlimit(RLIMIT_MEMLOCK, &limit);
    }
    if (one_in(r, 4) && getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = files[below(r, 3)];
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static const struct step {
    void (*take)(struct rng *r);
    unsigned weight;
} all[] = {
    { call_open, 3 },        { desc_shut, 2 },    { desc_pass, 4 },
    { desc_receive, 5 },     { call_info, 2 },    { call_watch, 8 },
    { call_export, 10 },     { call_drop, 9 },    { call_share, 4 },
    { call_pool, 2 },        { call_part, 6 },    { call_pool_info, 2 },
    { call_garbage, 3 },     { call_map, 16 },    { call_map_garbage, 2 },
    { watch_and_change, 4 }, { area_memory, 10 }, { area_lose, 10 },
    { area_touch, 40 },      { area_remap, 5 },   { area_protect, 4 },
    { area_advise, 6 },      { area_punch, 3 },   { area_secret, 8 },
    { area_other, 3 },       { step_limits, 1 },  { step_fork, 1 },
};

void steps(struct rng *r, unsigned n, bool child)
{
    unsigned sum = 0;

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        sum += all[i].weight;
    for (; n > 0 && !atomic_load_explicit(&board->stop, memory_order_relaxed); n--) {
        unsigned at = (unsigned)below(r, sum);
        const struct step *step = all;

        while (at >= step->weight)
            at -= step++->weight;
        if (!child || step->take != step_fork)
            step->take(r);
    }
}
