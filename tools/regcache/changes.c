/* SPDX-License-Identifier: BSD-3-Clause */
/* changes.c - what it costs when memory comes and goes, and when it is new. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../clock.h"
#include "bench.h"

enum {
    MAP_BYTES = 64 << 10,
    HOLE = 1 << 30,
    PADS = 16, PAIRS = 16,      /* mappings besides; pairs of mmap and munmap in a batch */
    ROUNDS_MAX = 256,
    MISSES_MAX = 4096, MISSES_PINNED_MAX = 1024, MISSES_BATCH = 32,
};

/* What mmap and munmap cost depends on what is mapped already: beside a mapping that
 * can be made longer they are another work, and where one more makes the kernel's tree
 * of mappings split a node, each of them does. What is mapped where differs from cache
 * to cache. So this happens far from everything, and with 0 to 15 further mappings. */
struct place {
    char *hole, *pads, *at;     /* addresses only; `at` is where it happens */
    int n_pads;
};

static void place_init(struct place *p)
{
    p->hole = bench_reserve(HOLE, 0);
    munmap(p->hole, HOLE);
    p->pads = p->hole + HOLE / 4;
    p->at = p->hole + HOLE / 2;
    p->n_pads = 0;
}

/* One further mapping, or none at all again. */
static void place_next(struct place *p)
{
    if (++p->n_pads == PADS) {
        munmap(p->pads, PADS * 2 * BENCH_PAGE);
        p->n_pads = 0;
    } else if (mmap(p->pads + (size_t)p->n_pads * 2 * BENCH_PAGE, BENCH_PAGE, PROT_READ,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED) {
        bench_stop(DRIVER_FAILED, "mmap: %s", strerror(errno));
    }
}

static void map_unmap(struct bench *b, void *where, size_t i)
{
    void *p =
        mmap(where, MAP_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        bench_stop(DRIVER_FAILED, "mmap: %s", strerror(errno));
    if (b->pattern->kind == CHURN)
        bench_use(b, p, MAP_BYTES);
    munmap(p, MAP_BYTES);
    if (b->pattern->kind == MUNMAP_GET)
        bench_use(b, b->uses[i % BENCH_USES].addr, b->uses[i % BENCH_USES].len);
}

/* The mean over all numbers of further mappings, of the medians over the batches. */
double bench_munmap(struct bench *b)
{
    double each[PADS][ROUNDS_MAX], until = pw_clock_s() + b->seconds, sum = 0;
    struct place place;
    size_t i = 0;
    int rounds = 0;

    place_init(&place);
    bench_stay_on_core(0);
    do {
        for (int pads = 0; pads < PADS; pads++) {
            double start;

            map_unmap(b, place.at, i++);
            start = pw_clock_s();
            for (int k = 0; k < PAIRS; k++)
                map_unmap(b, place.at, i++);
            each[pads][rounds % ROUNDS_MAX] = (pw_clock_s() - start) / PAIRS;
            place_next(&place);
        }
        rounds++;
    } while (pw_clock_s() < until);
    for (int pads = 0; pads < PADS; pads++)
        sum += bench_median(each[pads], rounds < ROUNDS_MAX ? rounds : ROUNDS_MAX);
    return sum / PADS * 1e9;
}

/* How many misses may be pinned: what is pinned stays so until the end. */
static size_t misses_pinned_max(void)
{
    struct rlimit limit;

    if (geteuid() == 0 || getrlimit(RLIMIT_MEMLOCK, &limit) ||
        limit.rlim_cur / 2 / MAP_BYTES > MISSES_PINNED_MAX)
        return MISSES_PINNED_MAX;
    return (size_t)limit.rlim_cur / 2 / MAP_BYTES;
}

double bench_misses(struct bench *b)
{
    bool pinned = b->pattern->kind == MISS_PINNED;
    size_t n = pinned ? misses_pinned_max() : MISSES_MAX, stride = MAP_BYTES + BENCH_PAGE;
    char *at = bench_reserve(n * stride, pinned ? MAP_POPULATE : 0);
    double each[MISSES_MAX / MISSES_BATCH], until = pw_clock_s() + b->seconds;
    uint64_t before = pins_pinned(&b->pins);
    int batches = 0;

    if (n < 2 * MISSES_BATCH)
        bench_stop(DRIVER_ABSENT,
                   "this user may lock too little memory; raise RLIMIT_MEMLOCK");
    bench_stay_on_core(0);
    for (size_t i = 0; i + MISSES_BATCH <= n && (batches < 2 || pw_clock_s() < until);
         i += MISSES_BATCH) {
        double start = pw_clock_s();

        for (size_t k = i; k < i + MISSES_BATCH; k++)
            bench_use(b, at + k * stride, MAP_BYTES);
        each[batches++] = (pw_clock_s() - start) / MISSES_BATCH;
    }
    if (pins_pinned(&b->pins) - before != (uint64_t)batches * MISSES_BATCH)
        bench_stop(DRIVER_FAILED, "some gets were hits where misses are measured");
    return bench_median(each, batches) * 1e9;
}

/* Bytes of memory that the process has in use, by the kernel's count. */
static size_t resident(void)
{
    char line[256];
    size_t kib = 0;
    FILE *f = fopen("/proc/self/smaps_rollup", "re");

    if (!f)
        bench_stop(DRIVER_ABSENT, "/proc/self/smaps_rollup: %s", strerror(errno));
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "Rss: %zu kB", &kib) == 1)
            break;
    fclose(f);
    return kib << 10;
}

double bench_memory(struct bench *b)
{
    size_t few = b->regions / 50, before;

    for (size_t i = 0; i < few; i++)
        bench_use(b, b->region[i].addr, b->region[i].len);
    resident();
    before = resident();
    for (size_t i = few; i < b->regions; i++)
        bench_use(b, b->region[i].addr, b->region[i].len);
    if (pins_pinned(&b->pins) - pins_unpinned(&b->pins) < b->regions)
        bench_stop(DRIVER_FAILED, "fewer than %zu regions are cached", b->regions);
    return (double)(resident() - before) / (double)(b->regions - few);
}
