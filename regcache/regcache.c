/* SPDX-License-Identifier: BSD-3-Clause */
/* regcache.c - a cache's beginning and end, its fork, its counters.
 *
 * The tables are as large as max_regions asks, but their pages are only taken as
 * regions are used: a cache of few regions is small.
 */
#include <sched.h>
#include <unistd.h>

#include "arena.h"
#include "barrier.h"
#include "cache.h"

enum { PW_REGIONS_DEFAULT = 65536, PW_REGIONS_MOST = (1 << 24) - 1 };

static size_t cards_size(const struct pw_cache *rc)
{
    return rc->config.max_regions * sizeof(struct pw_card);
}

static size_t regions_size(const struct pw_cache *rc)
{
    return rc->config.max_regions * rc->stride;
}

static size_t base_size(const struct pw_cache *rc)
{
    return rc->config.max_regions * sizeof(struct pw_tally);
}

static void tables_free(struct pw_cache *rc)
{
    pw_arena_free(rc->regions, regions_size(rc), 0);
    pw_arena_free(rc->cards, cards_size(rc), PW_COLOUR_CARDS);
    pw_index_close(rc);
    if (rc->base)
        pw_seats_free(rc);
}

static int tables_new(struct pw_cache *rc)
{
    rc->cards = pw_arena_new(cards_size(rc), PW_COLOUR_CARDS);
    rc->regions = pw_arena_new(regions_size(rc), 0);
    rc->base = pw_arena_new(base_size(rc), 0);
    if (!rc->cards || !rc->regions || !rc->base || pw_index_open(rc) ||
        madvise(rc, PW_PAGE, MADV_WIPEONFORK)) {
        tables_free(rc);
        return -ENOMEM;
    }
    return 0;
}

/* Begin to hear the monitor: what it told before concerns nobody here. */
static void start(struct pw_cache *rc)
{
    struct pw_monitor *m = rc->config.monitor;
    struct pw_change list[16];
    uint64_t upto;

    while (m->ops->changes(m, list, 16, &upto) == 16)
        ;
    rc->free_list = PW_NOBODY;
    rc->high = rc->hand = 0;
    rc->fenced = pw_barrier_register() != 0;
    rc->hot.cards = rc->cards;
    rc->hot.regions = rc->regions;
    rc->hot.stride = rc->stride;
    pw_index_show(rc);
    rc->hot.word = m->word;
    rc->hot.seen = upto;
    rc->awaited = UINT64_MAX;
}

static bool sane(const struct pw_regcache_config *c)
{
    return c && c->pin && c->monitor && c->pin->handle_size <= PW_PIN_HANDLE_MAX &&
           c->max_regions <= PW_REGIONS_MOST;
}

int pw_regcache_open(const struct pw_regcache_config *config, struct pw_regcache **out)
{
    struct pw_cache *rc;
    int err;

    *out = NULL;
    if (!sane(config))
        return -EINVAL;
    rc = pw_arena_new(sizeof(*rc), 0);
    if (!rc)
        return -ENOMEM;
    rc->config = *config;
    rc->stride = (sizeof(struct pw_region) + config->pin->handle_size + 15) & ~(size_t)15;
    if (!rc->config.max_regions)
        rc->config.max_regions = PW_REGIONS_DEFAULT;
    pthread_mutex_init(&rc->lock, NULL);
    err = tables_new(rc);
    if (err)
        goto free;
    start(rc);
    err = pw_seats_register(rc);
    if (err)
        goto tables;
    *out = &rc->hot;
    return 0;

tables:
    tables_free(rc);
free:
    pw_arena_free(rc, sizeof(*rc), 0);
    return err;
}

void pw_regcache_close(struct pw_regcache *hot)
{
    struct pw_cache *rc = pw_cache_of(hot);
    uint32_t doomed = PW_NOBODY;

    if (!hot)
        return;
    pw_seats_unregister(rc);
    pw_regcache_lock(rc);
    for (uint32_t n = 0; n < rc->high; n++) {
        struct pw_region_own *own = pw_own(pw_region_at(rc, n));

        if (own->state == PW_REGION_FREE)
            continue;
        own->state = PW_REGION_DOOMED;
        own->next = doomed;
        doomed = n;
    }
    pthread_mutex_unlock(&rc->lock);
    pw_unpin_all(rc, doomed);
    tables_free(rc);
    pthread_mutex_destroy(&rc->lock);
    pw_arena_free(rc, sizeof(*rc), 0);
}

/* In a forked child, `hot` is wiped. All that is cached is the parent's, pinned for
 * the parent's devices: forget it, unpin nothing. Other threads of the parent may
 * have been anywhere, the lock's holder among them. */
void pw_regcache_revive(struct pw_cache *rc)
{
    uint64_t mine = (uint64_t)getpid(), before = pw_load(&rc->reviving);

    /* A child of a child finds the number of its parent there. */
    if (before == mine || !__atomic_compare_exchange_n(&rc->reviving, &before, mine,
                                                       false, __ATOMIC_ACQUIRE,
                                                       __ATOMIC_RELAXED)) {
        while (!pw_load_acquire(&rc->hot.id))
            sched_yield();
        return;
    }
    pthread_mutex_init(&rc->lock, NULL);
    pw_arena_wipe(rc->cards, cards_size(rc), PW_COLOUR_CARDS);
    pw_arena_wipe(rc->regions, regions_size(rc), 0);
    pw_index_clear(rc);
    rc->count = (struct pw_counters){ 0 };
    if (rc->config.budget)
        pw_budget_forked(rc->config.budget);
    start(rc);
    pw_seats_forget(rc);
}

int pw_regcache_trust(struct pw_regcache *hot, const void *base, size_t size)
{
    struct pw_cache *rc = pw_cache_of(hot);
    int err = -ENOSPC;

    pw_regcache_lock(rc);
    if (rc->n_trusted < PW_TRUSTED) {
        rc->trusted[rc->n_trusted] = (struct pw_range){ (uintptr_t)base,
                                                        (uintptr_t)base + size };
        pw_store_release(&rc->n_trusted, rc->n_trusted + 1);
        err = 0;
    }
    pthread_mutex_unlock(&rc->lock);
    return err;
}

void pw_regcache_stats(struct pw_regcache *hot, struct pw_regcache_stats *out)
{
    struct pw_cache *rc = pw_cache_of(hot);
    const struct pw_counters *c = &rc->count;

    *out = (struct pw_regcache_stats){
        .hits = pw_load(&c->hits),
        .misses = pw_load(&c->misses),
        .merges = pw_load(&c->merges),
        .evictions = pw_load(&c->evictions),
        .retries = pw_load(&c->retries),
        .uncached = pw_load(&c->uncached),
        .refused = pw_load(&c->refused),
        .regions = pw_load(&c->regions),
        .pinned_bytes = pw_load(&c->pinned_bytes),
        .pinned_regions = pw_load(&c->pinned_regions),
    };
    for (int i = 0; i < PW_EVENTS; i++)
        out->invalidated[i] = pw_load(&c->invalidated[i]);
    for (const struct pw_seat *s = pw_load_acquire(&rc->seats); s; s = s->next)
        out->hits += pw_load(&s->hits);
}
