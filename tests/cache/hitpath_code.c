/* SPDX-License-Identifier: BSD-3-Clause */
/* hitpath_code.c - get and put as a program's compiler makes them of the header, each
 * in a function of its own, for tests/cache/hitpath to take apart.
 *
 * Run, it sees that hits come this way: exit status 0. */
#include <sys/mman.h>

#include "pinwheel/regcache.h"

/* What the test puts into the path, to see whether it is told of. */
#ifndef HITPATH_SEED
#define HITPATH_SEED
#endif

int hit_get(struct pw_regcache *rc, void *addr, size_t len, unsigned access,
            struct pw_region **out);
void hit_put(struct pw_regcache *rc, struct pw_region *r);

__attribute__((noinline)) int hit_get(struct pw_regcache *rc, void *addr, size_t len,
                                      unsigned access, struct pw_region **out)
{
    HITPATH_SEED;
    return pw_regcache_get(rc, addr, len, access, out);
}

__attribute__((noinline)) void hit_put(struct pw_regcache *rc, struct pw_region *r)
{
    pw_regcache_put(rc, r);
}

static int pin(void *ctx, void *addr, size_t len, unsigned access, void *handle)
{
    (void)addr, (void)len, (void)access, (void)handle;
    ++*(int *)ctx;
    return 0;
}

static void unpin(void *ctx, void *addr, size_t len, void *handle)
{
    (void)addr, (void)len, (void)handle;
    --*(int *)ctx;
}

enum { SMALL = 4096, LARGE = 1 << 20, ROUNDS = 100 };

/* Two regions in turn, of two sizes: each get is for another than the last. */
static int use(struct pw_regcache *rc, char *small, char *large)
{
    struct pw_region *r;

    for (int i = 0; i < ROUNDS; i++) {
        char *at = i % 2 ? small + i : large + i * SMALL;

        if (hit_get(rc, at, 64, PW_WRITE, &r))
            return 1;
        if ((uintptr_t)at < r->start || r->end < (uintptr_t)at + 64)
            return 1;
        hit_put(rc, r);
    }
    return 0;
}

int main(void)
{
    static const struct pw_pin_ops ops = { .name = "counts", .pin = pin, .unpin = unpin };
    char *memory = mmap(NULL, 2 * LARGE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct pw_regcache_config config = { .pin = &ops };
    struct pw_regcache_stats stats;
    struct pw_region *r;
    struct pw_regcache *rc;
    int pins = 0, bad;

    config.pin_ctx = &pins;
    if (memory == MAP_FAILED || pw_monitor_open("none", &config.monitor, NULL) ||
        pw_regcache_open(&config, &rc) || pw_regcache_trust(rc, memory, 2 * LARGE) ||
        hit_get(rc, memory, LARGE, PW_WRITE, &r))
        return 2;
    hit_put(rc, r);
    bad = use(rc, memory + LARGE + SMALL, memory);
    pw_regcache_stats(rc, &stats);
    bad |= pins != 2 || stats.misses != 2 || stats.hits != ROUNDS - 1;
    pw_regcache_close(rc);
    pw_monitor_close(config.monitor);
    return bad || pins;
}
