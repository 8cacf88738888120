/* SPDX-License-Identifier: BSD-3-Clause */
/* regcache_rig.h - a cache over a fake monitor and a fake pin backend, and a few
 * pages that are never touched: neither looks at memory. */
#ifndef PW_REGCACHE_RIG_H
#define PW_REGCACHE_RIG_H

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "fake_monitor.h"
#include "fake_pin.h"
#include "pinwheel/budget.h"

#define PAGE ((size_t)4096)
enum { RIG_PAGES = 1 << 16 };

struct rig {
    struct shared {             /* with forked children */
        struct fake_monitor mon;
        struct fake_pin pin;
    } *s;
    struct fake_monitor *mon;
    struct fake_pin *pin;
    struct pw_regcache *rc;
    char *buf;
};

static inline void rig_open_with(struct rig *g, uint32_t max_regions,
                                 struct pw_budget *budget)
{
    struct pw_regcache_config config;

    g->s = mmap(NULL, sizeof(*g->s), PROT_READ | PROT_WRITE,
                MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    g->mon = &g->s->mon;
    g->pin = &g->s->pin;
    fake_monitor_init(g->mon);
    g->buf = mmap(NULL, RIG_PAGES * PAGE, PROT_NONE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    config = (struct pw_regcache_config){
        .pin = &fake_pin_ops, .pin_ctx = g->pin, .monitor = &g->mon->super,
        .budget = budget, .max_regions = max_regions,
    };
    cr_assert(eq(int, pw_regcache_open(&config, &g->rc), 0));
}

static inline void rig_open(struct rig *g)
{
    rig_open_with(g, 0, NULL);
}

/* All that was pinned is unpinned, once. */
static inline void rig_close(struct rig *g)
{
    pw_regcache_close(g->rc);
    cr_expect(eq(int, g->pin->pins, g->pin->unpins));
    cr_expect(eq(int, g->pin->broken, 0));
    cr_expect(eq(sz, g->pin->bytes, 0));
}

static inline struct pw_region *rig_get(struct rig *g, size_t page, size_t pages,
                                        unsigned access)
{
    struct pw_region *r = NULL;
    int err = pw_regcache_get(g->rc, g->buf + page * PAGE, pages * PAGE, access, &r);

    cr_assert(eq(int, err, 0), "get of page %zu: %s", page, strerror(-err));
    cr_assert(fake_is_pinned(r));
    cr_assert(r->start <= (uintptr_t)g->buf + page * PAGE);
    cr_assert(r->end >= (uintptr_t)g->buf + (page + pages) * PAGE);
    cr_assert(eq(uint, r->access & access, access));
    return r;
}

/* get and put */
static inline void rig_use(struct rig *g, size_t page, size_t pages)
{
    pw_regcache_put(g->rc, rig_get(g, page, pages, PW_READ));
}

static inline void rig_change(struct rig *g, size_t page, size_t pages)
{
    fake_monitor_change(g->mon, g->buf + page * PAGE, pages * PAGE);
}

static inline struct pw_regcache_stats rig_stats(struct rig *g)
{
    struct pw_regcache_stats s;

    pw_regcache_stats(g->rc, &s);
    return s;
}

#endif
