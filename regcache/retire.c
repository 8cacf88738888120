/* SPDX-License-Identifier: BSD-3-Clause */
/* retire.c - regions leave the cache: their pages changed, something larger took
 * their place, or room is needed.
 *
 * Start at pw_drain(). All regions that leave together are first taken off their
 * cards and the index, then one barrier for all, then their references are summed.
 * Those that nobody holds are doomed: the caller unpins them when it has let go of
 * the lock. The others are unpinned by whoever puts them last, see pw_unhold().
 */
#include "barrier.h"
#include "cache.h"

static void count(uint64_t *counter, uint64_t n)
{
    pw_store(counter, *counter + n);
}

/* Off the card, and nobody can get it; its references are yet to be looked at. */
void pw_retire(struct pw_cache *rc, struct pw_region *r, uint32_t *retired)
{
    struct pw_region_own *own = pw_own(r);

    pw_store(&rc->cards[r->number].start_denied, PW_CARD_EMPTY);
    pw_index_remove(rc, r);
    own->state = PW_REGION_RETIRED;
    own->next = *retired;
    *retired = r->number;
}

static void reap(struct pw_cache *rc, uint32_t n, uint32_t *doomed)
{
    struct pw_region_own *own = pw_own(pw_region_at(rc, n));

    if (own->state != PW_REGION_RETIRED || pw_refs(rc, n))
        return;
    own->state = PW_REGION_DOOMED;
    own->next = *doomed;
    *doomed = n;
}

/* The barrier pairs with those in pw_hold() and pw_unhold(). */
void pw_reap(struct pw_cache *rc, uint32_t retired, uint32_t *doomed)
{
    uint32_t next;

    if (retired == PW_NOBODY)
        return;
    if (!rc->fenced)
        pw_retire_barrier();
    for (; retired != PW_NOBODY; retired = next) {
        next = pw_own(pw_region_at(rc, retired))->next;
        reap(rc, retired, doomed);
    }
}

/* One that was retired before: a reference of it has gone. */
void pw_reap_one(struct pw_cache *rc, uint32_t n, uint32_t *doomed)
{
    reap(rc, n, doomed);
}

struct changed {
    uint32_t retired;
    unsigned cause;
};

static void change_meets(struct pw_cache *rc, struct pw_region *r, void *arg)
{
    struct changed *c = arg;

    /* What is not watched cannot change: see pw_regcache_trust(). */
    if (!pw_own(r)->watched)
        return;
    count(&rc->count.invalidated[__builtin_ctz(c->cause)], 1);
    pw_retire(rc, r, &c->retired);
}

/* Apply what the monitor had to tell when we were called. Regions leave before
 * `seen` moves: who then finds it equal to the word finds their cards empty.
 * false: a change was begun, but what it changes is not written down yet. */
bool pw_drain(struct pw_cache *rc, uint32_t *doomed)
{
    struct pw_monitor *m = rc->config.monitor;
    uint64_t word = pw_load_acquire(rc->hot.word), was, upto;
    struct changed c = { .retired = PW_NOBODY };
    struct pw_change list[16];
    int n;

    while ((int64_t)(word - (was = rc->hot.seen)) > 0) {
        n = m->ops->changes(m, list, 16, &upto);
        if (!n && upto == was)
            break;
        for (int i = 0; i < n; i++) {
            c.cause = list[i].cause & PW_EV_ALL ? list[i].cause & PW_EV_ALL : PW_EV_LOST;
            if (rc->count.regions)
                pw_index_overlaps(rc, list[i].range, change_meets, &c);
        }
        pw_store_release(&rc->hot.seen, upto);
    }
    pw_reap(rc, c.retired, doomed);
    return (int64_t)(word - rc->hot.seen) <= 0;
}

/* A clock. Its hand passes the regions in turn and lets go of those that nobody
 * holds and nobody has got since it passed last; the others it leaves until it
 * comes again. Two rounds find every idle region. Returns the bytes that were
 * doomed: `bytes` at least, unless nothing more is idle. */
size_t pw_evict(struct pw_cache *rc, size_t bytes, uint32_t *doomed)
{
    uint32_t retired = PW_NOBODY, was = *doomed, n;
    uint64_t left = 2 * (uint64_t)rc->high;
    size_t out = 0, chosen = 0;

    for (; left && chosen < bytes; left--) {
        struct pw_region *r = pw_region_at(rc, n = rc->hand);
        uint32_t gets;

        rc->hand = n + 1 < rc->high ? n + 1 : 0;
        if (pw_own(r)->state != PW_REGION_LIVE || pw_refs(rc, n))
            continue;
        gets = pw_gets(rc, n);
        if (gets != pw_own(r)->gets) {
            pw_own(r)->gets = gets;
            continue;
        }
        chosen += r->end - r->start;
        pw_retire(rc, r, &retired);
        count(&rc->count.evictions, 1);
    }
    pw_reap(rc, retired, doomed);
    for (n = *doomed; n != was; n = pw_own(pw_region_at(rc, n))->next)
        out += pw_region_at(rc, n)->end - pw_region_at(rc, n)->start;
    return out;
}

static void unpin(struct pw_cache *rc, struct pw_region *r)
{
    struct pw_region_own *own = pw_own(r);
    struct pw_monitor *m = rc->config.monitor;
    size_t len = r->end - r->start;

    rc->config.pin->unpin(rc->config.pin_ctx, (void *)r->start, len, r->handle);
    if (own->watched)
        m->ops->unwatch(m, (struct pw_range){ r->start, r->end }, &own->watch);
    if (rc->config.budget)
        pw_budget_credit(rc->config.budget, len, 1);
}

/* Without the lock. */
void pw_unpin_all(struct pw_cache *rc, uint32_t doomed)
{
    uint32_t next;

    for (; doomed != PW_NOBODY; doomed = next) {
        struct pw_region *r = pw_region_at(rc, doomed);
        struct pw_region_own *own = pw_own(r);

        next = own->next;
        unpin(rc, r);
        pw_regcache_lock(rc);
        count(&rc->count.pinned_bytes, -(uint64_t)(r->end - r->start));
        count(&rc->count.pinned_regions, -(uint64_t)1);
        own->state = PW_REGION_FREE;
        own->next = rc->free_list;
        rc->free_list = doomed;
        pthread_mutex_unlock(&rc->lock);
    }
}

/* A reference went that was possibly the last of a region that is not live. */
void pw_regcache_reap(struct pw_regcache *hot, uint32_t number)
{
    struct pw_cache *rc = pw_cache_of(hot);
    uint32_t doomed = PW_NOBODY;

    pw_regcache_lock(rc);
    pw_reap_one(rc, number, &doomed);
    pthread_mutex_unlock(&rc->lock);
    pw_unpin_all(rc, doomed);
}

void pw_regcache_progress(struct pw_regcache *hot)
{
    struct pw_cache *rc = pw_cache_of(hot);
    uint32_t doomed = PW_NOBODY;

    /* In a forked child there is nothing of ours to look after. */
    if (!hot->id || pw_fresh(hot))
        return;
    pw_regcache_lock(rc);
    pw_drain(rc, &doomed);
    pthread_mutex_unlock(&rc->lock);
    pw_unpin_all(rc, doomed);
}

size_t pw_regcache_trim(struct pw_regcache *hot, size_t bytes)
{
    struct pw_cache *rc = pw_cache_of(hot);
    uint32_t doomed = PW_NOBODY;
    size_t out;

    pw_regcache_lock(rc);
    pw_drain(rc, &doomed);
    out = pw_evict(rc, bytes, &doomed);
    pthread_mutex_unlock(&rc->lock);
    pw_unpin_all(rc, doomed);
    return out;
}
