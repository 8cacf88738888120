/* SPDX-License-Identifier: BSD-3-Clause */
/* hits.c - what a hit costs.
 *
 * Each thread runs through the list of buffers in batches until the time is over; its
 * result is the median over the batches, for a machine that does other things too
 * disturbs some of them.
 */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <time.h>

#include "../clock.h"
#include "bench.h"

enum { CHUNK = 512 };           /* of the list, in one call of driver.hits() */

struct worker {
    struct bench *b;
    int index;
    size_t chunks, failed;      /* done; gets among them that failed */
    size_t warm;                /* chunks done before it was measured */
    double ns;
    double share;               /* of the time that it ran */
};

/* While they are measured no thread starts or ends: that changes memory, and a cache
 * may well miss then. */
static struct {
    int arrived, done;
    uint64_t pinned, counted;   /* by the pins and by the cache, when the last one has
                                 * arrived and none is off */
    double until;
} gate;

static uint64_t hits_counted(const struct bench *b)
{
    return driver.hit_count ? driver.hit_count(b->cache) : 0;
}

/* Off they go together. The last to arrive says until when. */
static double gate_pass(struct bench *b)
{
    double until;

    if (__atomic_add_fetch(&gate.arrived, 1, __ATOMIC_ACQ_REL) == b->threads) {
        gate.pinned = pins_pinned(&b->pins);
        gate.counted = hits_counted(b);
        until = pw_clock_s() + b->seconds;
        __atomic_store(&gate.until, &until, __ATOMIC_RELEASE);
        return until;
    }
    do {
        sched_yield();
        __atomic_load(&gate.until, &until, __ATOMIC_ACQUIRE);
    } while (until == 0);
    return until;
}

/* Nobody leaves before the last one is done. */
static void gate_leave(const struct bench *b)
{
    __atomic_add_fetch(&gate.done, 1, __ATOMIC_ACQ_REL);
    while (__atomic_load_n(&gate.done, __ATOMIC_ACQUIRE) < b->threads)
        sched_yield();
}

/* The next part of the list. Each thread starts at another one. */
static void use_chunk(struct worker *w)
{
    size_t parts = BENCH_USES / CHUNK;
    size_t first = (size_t)w->index * parts / (size_t)w->b->threads;
    const struct driver_use *uses = w->b->uses + (first + w->chunks++) % parts * CHUNK;

    w->failed += driver.hits(w->b->cache, uses, CHUNK);
}

/* Everything seen once, and how many chunks make a batch that is long beside the
 * clock's own cost. */
static size_t warm_up(struct worker *w)
{
    double start = pw_clock_s(), least = w->b->seconds / 1000, took;

    do {
        use_chunk(w);
        took = pw_clock_s() - start;
    } while (w->chunks < 2 * BENCH_USES / CHUNK && took < 0.3);
    took /= (double)w->chunks;
    if (least < 20e-6)
        least = 20e-6;
    return took >= least ? 1 : (size_t)(least / took) + 1;
}

static double cpu_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void *worker_run(void *arg)
{
    struct worker *w = arg;
    double each[BENCH_BATCHES_MAX], until, since, cpu;
    size_t batch;
    int n = 0;

    bench_stay_on_core(w->index);
    batch = warm_up(w);
    w->warm = w->chunks;
    until = gate_pass(w->b);
    since = pw_clock_s();
    cpu = cpu_seconds();
    do {
        double start = pw_clock_s();

        for (size_t i = 0; i < batch; i++)
            use_chunk(w);
        each[n++ % BENCH_BATCHES_MAX] = (pw_clock_s() - start) / (double)(batch * CHUNK);
    } while (pw_clock_s() < until);
    w->share = (cpu_seconds() - cpu) / (pw_clock_s() - since);
    gate_leave(w->b);
    w->ns = bench_median(each, n < BENCH_BATCHES_MAX ? n : BENCH_BATCHES_MAX) * 1e9;
    return NULL;
}

/* Were they all hits, by the pins and by the cache's own count? */
static void check_hits(struct bench *b, size_t uses)
{
    if (pins_pinned(&b->pins) != gate.pinned)
        bench_stop(DRIVER_FAILED, "%zu gets were misses where hits are measured",
                   (size_t)(pins_pinned(&b->pins) - gate.pinned));
    if (driver.hit_count && hits_counted(b) - gate.counted != uses)
        bench_stop(DRIVER_FAILED, "%zu hits were measured, and the cache counted %zu", uses,
                   (size_t)(hits_counted(b) - gate.counted));
}

double bench_hits(struct bench *b)
{
    struct worker w[BENCH_THREADS_MAX];
    pthread_t thread[BENCH_THREADS_MAX];
    size_t uses = 0;
    double ns = 0, share = 1;

    for (int i = 0; i < b->threads; i++)
        w[i] = (struct worker){ .b = b, .index = i };
    for (int i = 1; i < b->threads; i++)
        if (pthread_create(&thread[i], NULL, worker_run, &w[i]))
            bench_stop(DRIVER_ABSENT, "no thread %d", i + 1);
    worker_run(&w[0]);
    for (int i = 1; i < b->threads; i++)
        pthread_join(thread[i], NULL);

    for (int i = 0; i < b->threads; i++) {
        if (w[i].failed)
            bench_stop(DRIVER_FAILED, "%zu gets failed", w[i].failed);
        uses += (w[i].chunks - w[i].warm) * CHUNK;
        ns += w[i].ns / b->threads;
        if (w[i].share < share)
            share = w[i].share;
    }
    check_hits(b, uses);
    if (b->threads > 1 && share < 0.9)
        fprintf(stderr, "%s: the machine is busy: a thread ran %.0f %% of the time, and "
                "what threads cost each other shows in part only\n", driver.name,
                share * 100);
    return ns;
}
