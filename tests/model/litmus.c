/* SPDX-License-Identifier: BSD-3-Clause */
/* litmus.c - two threads on two CPUs race as a get, or a put, races with retiring.
 *
 * The model (regcache.pml) says what follows from x86-TSO and membarrier(2); this
 * asks the machine. One thread writes its count and reads the card, with the very
 * pw_hold() and pw_unhold() of the cache; the other empties the card, calls
 * pw_retire_barrier(), and reads the counts. Never may both be wrong:
 *
 *     hold against retire    the one holds the region, the other finds nobody
 *     put against retire     each believes that the other one unpins it
 *
 * Without the barrier both happen: that is tried too, for a race that never comes
 * close proves nothing.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "pinwheel/regcache.h"
#include "regcache/barrier.h"

enum { PAGE = 4096, SECONDS_RIGHT = 4, SECONDS_WRONG = 90 };
enum { ROUNDS_MOST = 2000000, ROUNDS_LEAST = 20000 };

/* What the two write lies in lines of its own, as in the cache. */
static struct {
    _Alignas(128) struct pw_card card;
    _Alignas(128) struct pw_tally tally;
    _Alignas(128) uint32_t go;          /* round that is on; 0: none, END: no more */
    _Alignas(128) uint32_t done;        /* round that the user of the region ended */
    _Alignas(128) uint64_t start;       /* time stamp at which both begin */
    bool still_in;                      /* what the user found: the region is live */
} it;

#define END UINT32_MAX

struct race {
    const char *name;
    bool put;                           /* hold otherwise */
    bool barrier;
};

struct outcome {
    uint32_t rounds;
    uint32_t both_wrong;
    uint32_t user_first, retirer_first; /* seen by the other in time */
};

static uint64_t stamp(void)
{
    return __builtin_ia32_rdtsc();
}

/* Two that wait for each other on busy CPUs must let others run. */
static void wait_a_little(unsigned *waited)
{
    if (++*waited % 2000)
        __builtin_ia32_pause();
    else
        sched_yield();
}

static void wait_for_start(uint64_t at)
{
    while ((int64_t)(at - stamp()) > 0)
        ;
}

static bool use(const struct race *race)
{
    if (race->put)
        return !pw_unhold(&it.tally, &it.card);
    return pw_hold(&it.tally, &it.card, PAGE, PAGE, PW_READ);
}

static void *user(void *arg)
{
    const struct race *race = arg;
    uint32_t round, last = 0;
    uint64_t start;

    for (;; last = round) {
        unsigned waited = 0;

        while ((round = pw_load_acquire(&it.go)) == last)
            wait_a_little(&waited);
        if (round == END)
            return NULL;
        start = it.start;
        (void)pw_load(&it.card.start_denied);   /* at hand, so that it is read soon */
        wait_for_start(start);
        it.still_in = use(race);
        pw_store_release(&it.done, round);
    }
}

/* As pw_retire() and pw_refs() do. */
static bool retire_finds_nobody(bool barrier)
{
    uint32_t puts;

    pw_store(&it.card.start_denied, PW_CARD_EMPTY);
    if (barrier)
        pw_retire_barrier();
    else
        pw_compiler_barrier();
    puts = pw_load_acquire(&it.tally.puts);
    return pw_load_acquire(&it.tally.gets) == puts;
}

static void one_round(const struct race *race, uint32_t round, struct outcome *o)
{
    unsigned waited = 0;
    bool nobody;

    it.tally = (struct pw_tally){ .gets = race->put };
    it.card.end = 2 * PAGE;
    pw_store(&it.card.start_denied, PAGE);
    /* At one time, but for a little more or less from round to round. A barrier takes
     * much longer than a hold, which otherwise is always first. */
    it.start = stamp() + 1500;
    pw_store_release(&it.go, round);
    (void)pw_load(&it.tally.gets);
    wait_for_start(it.start + (uint64_t)(round * 2654435761u >> 24) - 128);
    nobody = retire_finds_nobody(race->barrier);
    while (pw_load_acquire(&it.done) != round)
        wait_a_little(&waited);

    /* A put is seen where nobody is left; a hold where somebody is. */
    o->both_wrong += race->put ? it.still_in && !nobody : it.still_in && nobody;
    o->user_first += it.still_in;
    o->retirer_first += !it.still_in;
    o->rounds++;
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static bool run_on(pthread_t thread, int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    return pthread_setaffinity_np(thread, sizeof set, &set) == 0;
}

static struct outcome run(const struct race *race, const int cpu[2])
{
    double end = now() + (race->barrier ? SECONDS_RIGHT : SECONDS_WRONG);
    struct outcome o = { 0 };
    pthread_t thread;

    memset(&it, 0, sizeof it);
    if (pthread_create(&thread, NULL, user, (void *)race) || !run_on(thread, cpu[1]) ||
        !run_on(pthread_self(), cpu[0])) {
        printf("Bail out! no thread on CPU %d and %d\n", cpu[0], cpu[1]);
        exit(1);
    }
    for (uint32_t round = 1; round < ROUNDS_MOST; round++) {
        one_round(race, round, &o);
        if (o.both_wrong || (round % 256 == 0 && now() > end && o.rounds > ROUNDS_LEAST))
            break;
    }
    pw_store_release(&it.go, END);
    pthread_join(thread, NULL);
    return o;
}

/* Two CPUs that we may run on. */
static bool two_cpus(int cpu[2])
{
    cpu_set_t set;
    int n = 0;

    if (sched_getaffinity(0, sizeof set, &set))
        return false;
    for (int i = 0; i < CPU_SETSIZE && n < 2; i++)
        if (CPU_ISSET(i, &set))
            cpu[n++] = i;
    return n == 2;
}

int main(void)
{
    static const struct race races[] = {
        { "a hold and who retires", false, true },
        { "a hold and who retires", false, false },
        { "a put and who retires", true, true },
        { "a put and who retires", true, false },
    };
    int cpu[2];

    if (!two_cpus(cpu)) {
        printf("1..0 # SKIP needs two CPUs\n");
        return 0;
    }
    if (pw_barrier_register()) {
        printf("1..0 # SKIP no membarrier(2) here: the cache takes its lock instead\n");
        return 0;
    }
    for (int i = 0; i < 4; i++) {
        struct outcome o = run(&races[i], cpu);

        printf("# %u rounds: the region was found live in %u, empty in %u\n", o.rounds,
               o.user_first, o.retirer_first);
        printf("%sok %d - %s are %s\n",
               (o.both_wrong != 0) == races[i].barrier ? "not " : "", i + 1,
               races[i].name,
               races[i].barrier ? "never both wrong" : "both wrong without the barrier");
        fflush(stdout);
    }
    printf("1..4\n");
    return 0;
}
