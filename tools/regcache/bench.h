/* SPDX-License-Identifier: BSD-3-Clause */
/* bench.h - what the files share that measure one point.
 *
 *     driver.c     the command line, and the order of things
 *     proof.c      a cache does its work before it is measured
 *     layout.c     the regions that are cached, and the buffers that are looked up
 *     hits.c       patterns of hits, in one thread or several
 *     changes.c    patterns in which memory comes and goes, and misses
 *     bench.c      time, medians, the end
 */
#ifndef PW_TOOLS_REGCACHE_BENCH_H
#define PW_TOOLS_REGCACHE_BENCH_H

#include "driver.h"

enum {
    BENCH_PAGE = 4096,
    BENCH_USES = 10240,         /* length of the list of buffers; then it begins anew */
    BENCH_THREADS_MAX = 64,
    BENCH_BATCHES_MAX = 4096,
};

enum kind { HITS, MUNMAP, MUNMAP_GET, CHURN, MISS, MISS_PINNED, MEMORY };

struct pattern {
    const char *name;
    enum kind kind;
    unsigned log2_min, log2_max;    /* lengths of the regions */
    bool one;                       /* one region is used again and again */
    bool inside;                    /* parts of regions, from any byte on */
};

struct bench {
    const struct pattern *pattern;
    size_t regions;
    int threads;
    double seconds;
    void *cache;
    struct pins pins;
    struct driver_use *region;  /* what is cached */
    struct driver_use uses[BENCH_USES];
};

/* Say why on stderr, and end with that code. */
__attribute__((format(printf, 2, 3), noreturn))
void bench_stop(int code, const char *format, ...);

double bench_median(double *values, int n);     /* sorts them */

/* This thread runs on that core from now on. */
void bench_stay_on_core(int index);

/* Addresses for as much as we like; pages come when they are touched, if ever.
 * flags: more ones for mmap(). */
void *bench_reserve(size_t bytes, int flags);

/* Regions side by side, a page between them so that none are neighbours. */
void bench_lay_out(struct bench *b);

/* The list of what is looked up. */
void bench_choose_uses(struct bench *b);

/* One get and its put. */
void bench_use(struct bench *b, void *addr, size_t len);

/* Get and put all regions. They must all be cached afterwards, each as a region of
 * its own, or the figure would be of another number than we say. */
void bench_cache_all(struct bench *b);

/* ns for a get and its put, in each thread. With one thread there is no other in
 * the process. */
double bench_hits(struct bench *b);

/* ns for mmap and munmap of 64 KiB and what the pattern does besides. */
double bench_munmap(struct bench *b);

/* ns for a get of 64 KiB that was never seen before, and its put. */
double bench_misses(struct bench *b);

/* Bytes for each region that is cached, beyond what the first few needed. The
 * regions' own pages are not touched. */
double bench_memory(struct bench *b);

#endif
