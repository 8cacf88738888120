/* SPDX-License-Identifier: BSD-3-Clause */
/* bad_cache.c - a cache that does its work, or not, for the tests of what pwbench
 * regcache measures: it is linked with the rest of such a program.
 *
 * It knows that memory is the same by a mark that it leaves there: pages that are
 * mapped anew hold zeros. What it does wrong is --monitor's value:
 *   amnesiac      it finds nothing
 *   stale         it does not look at the mark
 *   eager         it unpins what is in use
 *   hoarder       it never unpins
 *   forgetful     it pins at each get, from the hundredth on
 *   merging       it takes neighbours together
 *   miscounting   it counts two hits for one
 *   failing       gets fail, from the hundredth on
 *   broken        it does not open
 *   slow-get, slow-put    20 us longer, which the figure has to show
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "tools/regcache/driver.h"

enum { REGIONS_MAX = 4096, MARK = 0x6b72616d, NEIGHBOUR = 8192 };

struct region {
    char *addr;
    size_t len;
    uint64_t pin;
    int refs;
    bool live;
};

static struct {
    const char *does;
    struct pins *pins;
    struct region region[REGIONS_MAX];
    int n, gets;
    uint64_t hits;
} bad;

static bool does(const char *what)
{
    return !strcmp(bad.does, what);
}

static void dawdle(void)
{
    struct timespec start, now;

    clock_gettime(CLOCK_MONOTONIC, &start);
    do
        clock_gettime(CLOCK_MONOTONIC, &now);
    while ((now.tv_sec - start.tv_sec) * 1000000000 + now.tv_nsec - start.tv_nsec < 20000);
}

/* Nothing may be mapped there: the kernel looks, not we. */
static bool is_marked(const struct region *r)
{
    int mark = 0;
    struct iovec to = { &mark, sizeof mark }, from = { r->addr, sizeof mark };

    return process_vm_readv(getpid(), &to, 1, &from, 1, 0) == sizeof mark && mark == MARK;
}

static void unpin(struct region *r)
{
    r->live = false;
    if (!does("hoarder"))
        pins_undo(bad.pins, r->pin);
}

/* As caches do: what has changed goes out, and is unpinned unless it is in use. */
static void look_round(void)
{
    for (int i = 0; i < bad.n; i++) {
        struct region *r = &bad.region[i];

        if (!r->live || does("stale") || is_marked(r))
            continue;
        if (r->refs && !does("eager"))
            continue;
        unpin(r);
    }
}

static struct region *find(const char *addr, size_t len)
{
    size_t more = does("merging") ? NEIGHBOUR : 0;

    for (int i = 0; i < bad.n && !does("amnesiac"); i++) {
        struct region *r = &bad.region[i];

        if (r->live && r->addr <= addr && addr + len <= r->addr + r->len + more &&
            (does("stale") || is_marked(r)))
            return r;
    }
    return NULL;
}

static int bad_open(const struct driver_config *config, void **cache,
                    char note[DRIVER_NOTE_MAX])
{
    *cache = &bad;
    bad.does = config->monitor;
    bad.pins = config->pins;
    snprintf(note, DRIVER_NOTE_MAX, "a cache that is %s", bad.does);
    return does("broken") ? DRIVER_FAILED : 0;
}

static int bad_get(void *cache, void *addr, size_t len, void **region)
{
    struct region *r;

    (void)cache;
    bad.gets++;
    if (does("slow-get"))
        dawdle();
    if (does("failing") && bad.gets >= 100)
        return -ENOMEM;
    r = find(addr, len);
    if (r && !(does("forgetful") && bad.gets >= 100)) {
        bad.hits += does("miscounting") ? 2 : 1;
    } else {
        look_round();
        if (bad.n == REGIONS_MAX)
            return -ENOMEM;
        r = &bad.region[bad.n++];
        *r = (struct region){ .addr = addr, .len = len, .live = true };
        memcpy(addr, &(int){ MARK }, sizeof(int));
        pins_do(bad.pins, addr, len, &r->pin);
    }
    r->refs++;
    *region = r;
    return 0;
}

static void bad_put(void *cache, void *region)
{
    struct region *r = region;

    (void)cache;
    if (does("slow-put"))
        dawdle();
    if (--r->refs == 0 && r->live && !does("stale") && !is_marked(r))
        unpin(r);
}

static size_t bad_hits(void *cache, const struct driver_use *uses, size_t n)
{
    size_t failed = 0;
    void *region;

    for (size_t i = 0; i < n; i++) {
        if (bad_get(cache, uses[i].addr, uses[i].len, &region))
            failed++;
        else
            bad_put(cache, region);
    }
    return failed;
}

static uint64_t bad_hit_count(void *cache)
{
    (void)cache;
    return bad.hits;
}

const struct driver driver = {
    .name = "bad", .caches = true, .survives_unmap = true,
    .open = bad_open, .get = bad_get, .put = bad_put, .hits = bad_hits,
    .hit_count = bad_hit_count,
};
