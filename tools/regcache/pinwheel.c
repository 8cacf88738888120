/* SPDX-License-Identifier: BSD-3-Clause */
/* pinwheel.c - our own cache, as any program uses it: through libpinwheel.so. */
#include "pinwheel/regcache.h"

#include <stdio.h>
#include <string.h>

#include "loops.h"

static int pin(void *ctx, void *addr, size_t len, unsigned access, void *handle)
{
    (void)access;
    return pins_do(ctx, addr, len, handle);
}

static void unpin(void *ctx, void *addr, size_t len, void *handle)
{
    (void)addr;
    (void)len;
    pins_undo(ctx, *(uint64_t *)handle);
}

static const struct pw_pin_ops pin_ops = {
    .name = "bench", .handle_size = sizeof(uint64_t), .pin = pin, .unpin = unpin,
};

static int pinwheel_open(const struct driver_config *config, void **cache,
                         char note[DRIVER_NOTE_MAX])
{
    struct pw_regcache_config c = { .pin = &pin_ops, .pin_ctx = config->pins };
    struct pw_monitor_report report = { 0 };
    int err = pw_monitor_open(config->monitor, &c.monitor, &report);

    if (err) {
        snprintf(note, DRIVER_NOTE_MAX, "the monitor %s does not run here: %.*s",
                 config->monitor, DRIVER_NOTE_MAX / 2,
                 report.why_not[0] ? report.why_not : strerror(-err));
        return DRIVER_ABSENT;
    }
    if (!strcmp(report.name, "none")) {
        snprintf(note, DRIVER_NOTE_MAX, "with the monitor none nothing is cached");
        return DRIVER_ABSENT;
    }
    err = pw_regcache_open(&c, (struct pw_regcache **)cache);
    if (err) {
        snprintf(note, DRIVER_NOTE_MAX, "pw_regcache_open: %s", strerror(-err));
        pw_monitor_close(c.monitor);
        return DRIVER_FAILED;
    }
    snprintf(note, DRIVER_NOTE_MAX, "libpinwheel " PINWHEEL_VERSION ", monitor %s",
             report.name);
    return 0;
}

static inline HOT
int pinwheel_get(void *cache, void *addr, size_t len, void **region)
{
    return pw_regcache_get(cache, addr, len, PW_READ | PW_WRITE,
                           (struct pw_region **)region);
}

static inline HOT
void pinwheel_put(void *cache, void *region)
{
    pw_regcache_put(cache, region);
}

static size_t pinwheel_hits(void *cache, const struct driver_use *uses, size_t n)
{
    return loop_hits(pinwheel_get, pinwheel_put, cache, uses, n);
}

static uint64_t pinwheel_hit_count(void *cache)
{
    struct pw_regcache_stats stats;

    pw_regcache_stats(cache, &stats);
    return stats.hits;
}

const struct driver driver = {
    .name = "pinwheel", .caches = true, .survives_unmap = true,
    .open = pinwheel_open, .get = pinwheel_get, .put = pinwheel_put,
    .hits = pinwheel_hits,
    .hit_count = pinwheel_hit_count,
};
