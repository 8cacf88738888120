/* SPDX-License-Identifier: BSD-3-Clause */
/* miss.c - what a get does that did not hit: pin, and remember.
 *
 * Start at pw_get_slow(). The order is watch, pin, look whether anything changed
 * meanwhile, publish. A region that is being made has a number and is private: no
 * index leads to it, so it is made without the lock.
 *
 * Overlaps. A request that overlaps live regions asks for one region in the place
 * of all (pinned once instead of twice), as long as that is not much larger than
 * the request: else a small request at the edge of a large region would pin it all
 * again. What a new region contains is retired. Regions that overlap otherwise
 * live side by side, and a request is never a reason to retire what it does not
 * contain: two buffers that overlap could take turns for ever.
 *
 * A backend may widen what is pinned (pw_pin_ops.widen). Nothing idle is unpinned for the
 * sake of that.
 */
#include <sched.h>
#include <time.h>

#include "cache.h"

/* A merged region is at most so many times the request. What overlaps unmerged is
 * then less than a third of what is pinned. */
enum { PW_MERGE_MOST = 4 };

/* How often pages may change under the pinning before we give up. */
enum { PW_TRIES = 16 };

/* How long a change in another thread, or its record, is waited for before the region
 * is pinned for this caller alone: it yields, then it sleeps, twice as long each time,
 * 25 ms in all. A yield does not let a thread run that waits for another core. */
enum { PW_YIELDS = 64, PW_NAPS = 9, PW_NAP_NS = 50000 };

struct request {
    uintptr_t first, last;
    unsigned access;
};

static struct pw_range pages_of(const struct request *q)
{
    return (struct pw_range){ q->first & ~(PW_PAGE - 1), (q->last | (PW_PAGE - 1)) + 1 };
}

static size_t size_of(struct pw_range r)
{
    return r.end - r.start;
}

static void count(uint64_t *counter)
{
    __atomic_add_fetch(counter, 1, __ATOMIC_RELAXED);
}

/* Let another thread go on. false: it has been waited for long enough. */
static bool wait_on(int *waits)
{
    int naps = *waits - PW_YIELDS;

    if (naps >= PW_NAPS)
        return false;
    ++*waits;
    if (naps < 0)
        sched_yield();
    else
        nanosleep(&(struct timespec){ .tv_nsec = (long)PW_NAP_NS << naps }, NULL);
    return true;
}

/* Who finds the word moved may come while the record is still being written. That is
 * a matter of a few instructions, unless the writer's thread has lost its core there,
 * and to pin what is cached costs more. false as pw_drain(); then the same record is
 * not waited for again: its writer may be stopped. Lets go of the lock meanwhile. */
static bool drain(struct pw_cache *rc, uint32_t *doomed)
{
    int waits = 0;

    while (!pw_drain(rc, doomed)) {
        bool more = rc->hot.seen != rc->awaited;

        if (more) {
            pthread_mutex_unlock(&rc->lock);
            more = wait_on(&waits);
            pw_regcache_lock(rc);
        }
        if (!more) {
            rc->awaited = rc->hot.seen;
            return false;
        }
    }
    return true;
}

/* A reference for the caller's thread, under the lock: nobody retires meanwhile. */
static void take(struct pw_cache *rc, uint32_t n, const struct request *q)
{
    struct pw_seat *seat = pw_seat_take(rc);
    struct pw_tally *t = seat ? &seat->tallies[n] : &rc->base[n];

    pw_more(&t->gets);
    if (seat && rc->cards[n].start_denied != PW_CARD_EMPTY)
        pw_seat_found(&rc->hot, seat, q->first, n);
}

struct plan {
    struct pw_range range;
    unsigned access;
    size_t most;
    bool wide;                  /* the backend has made it larger */
};

static void consider(struct pw_cache *rc, struct pw_region *r, void *arg)
{
    struct plan *p = arg;
    struct pw_range hull = { r->start < p->range.start ? r->start : p->range.start,
                             r->end > p->range.end ? r->end : p->range.end };

    (void)rc;
    if (size_of(hull) > p->most)
        return;
    p->range = hull;
    p->access |= r->access;
}

/* A number that nobody uses, or PW_NOBODY. */
static uint32_t number_take(struct pw_cache *rc)
{
    uint32_t n = rc->free_list;

    if (n != PW_NOBODY) {
        rc->free_list = pw_own(pw_region_at(rc, n))->next;
    } else if (rc->high < rc->config.max_regions) {
        n = rc->high++;
        pw_region_at(rc, n)->number = n;
        pw_store(&rc->cards[n].start_denied, PW_CARD_EMPTY);
    }
    if (n != PW_NOBODY)
        *pw_own(pw_region_at(rc, n)) = (struct pw_region_own){
            .state = PW_REGION_PRIVATE };
    return n;
}

static void number_give(struct pw_cache *rc, uint32_t n)
{
    struct pw_region_own *own = pw_own(pw_region_at(rc, n));

    pw_regcache_lock(rc);
    own->state = PW_REGION_FREE;
    own->next = rc->free_list;
    rc->free_list = n;
    pthread_mutex_unlock(&rc->lock);
}

/* Make room. false: nothing is idle. */
static bool evicted(struct pw_cache *rc, size_t bytes)
{
    uint32_t doomed = PW_NOBODY;
    size_t got;

    pw_regcache_lock(rc);
    got = pw_evict(rc, bytes, &doomed);
    pthread_mutex_unlock(&rc->lock);
    pw_unpin_all(rc, doomed);
    return got;
}

static bool trusted(const struct pw_cache *rc, struct pw_range r)
{
    int n = pw_load_acquire(&rc->n_trusted);

    for (int i = 0; i < n; i++)
        if (rc->trusted[i].start <= r.start && r.end <= rc->trusted[i].end)
            return true;
    return false;
}

/* Ask the monitor. 0, also where the region is to be this caller's alone; or
 * -EFAULT, or -EOPNOTSUPP when a smaller range may fare better. What is idle makes
 * room in the monitor's tables, too. */
static int watch(struct pw_cache *rc, struct pw_region *r, bool merged)
{
    struct pw_monitor *m = rc->config.monitor;
    struct pw_range range = { r->start, r->end };
    struct pw_region_own *own = pw_own(r);
    int err, waits = 0;

    do
        err = m->ops->watch(m, range, &own->watch);
    while ((err == -EAGAIN && wait_on(&waits)) || (err == -ENOMEM && evicted(rc, 1)));
    own->watched = !err;
    if (err == -EFAULT)
        return err;
    return err && merged ? -EOPNOTSUPP : 0;
}

static int charge(struct pw_cache *rc, size_t len, bool evict)
{
    if (!rc->config.budget)
        return 0;
    while (pw_budget_charge(rc->config.budget, len, 1))
        if (!evict || !evicted(rc, len))
            return -ENOMEM;
    return 0;
}

static int pin(struct pw_cache *rc, struct pw_region *r, bool evict)
{
    const struct pw_pin_ops *ops = rc->config.pin;
    size_t len = r->end - r->start;
    int err;

    while ((err = ops->pin(rc->config.pin_ctx, (void *)r->start, len, r->access,
                           r->handle)) == -ENOMEM)
        if (!evict || !evicted(rc, len))
            break;
    return err;
}

struct replaced {
    const struct pw_region *by;
    uint32_t retired;
};

static void retire_contained(struct pw_cache *rc, struct pw_region *r, void *arg)
{
    struct replaced *x = arg;

    if (r != x->by && x->by->start <= r->start && r->end <= x->by->end &&
        !(r->access & ~x->by->access))
        pw_retire(rc, r, &x->retired);
}

/* In sight of all from here on. Without memory for the index it stays private. */
static void publish(struct pw_cache *rc, struct pw_region *r, uint32_t *doomed)
{
    struct replaced x = { .by = r, .retired = PW_NOBODY };
    struct pw_card *card = &rc->cards[r->number];

    if (pw_index_add(rc, r))
        return;
    pw_own(r)->state = PW_REGION_LIVE;
    pw_store(&card->end, r->end);
    pw_store_release(&card->start_denied, r->start | (~r->access & PW_ACCESS_ALL));
    pw_index_overlaps(rc, (struct pw_range){ r->start, r->end }, retire_contained, &x);
    if (x.retired != PW_NOBODY)
        count(&rc->count.merges);
    pw_reap(rc, x.retired, doomed);
}

/* It is pinned. Publish it if that can be answered for. 0 with a reference in *out,
 * perhaps to another's region that was faster; -EAGAIN: pages changed, r is undone. */
static int settle(struct pw_cache *rc, struct pw_region *r, bool vouched,
                  const struct request *q, struct pw_region **out)
{
    struct pw_monitor *m = rc->config.monitor;
    struct pw_region_own *own = pw_own(r);
    uint32_t doomed = PW_NOBODY, n = r->number;
    bool told;
    int err = 0;

    /* First, for it lets go of the lock: what is retired and not yet taken would be
     * reaped by any who still knows the number. */
    pw_regcache_lock(rc);
    told = vouched && drain(rc, &doomed);
    pw_store(&rc->count.pinned_bytes, rc->count.pinned_bytes + (r->end - r->start));
    pw_store(&rc->count.pinned_regions, rc->count.pinned_regions + 1);
    own->state = PW_REGION_RETIRED;
    if (told) {
        uint32_t other = pw_index_find(rc, q->first, q->last, q->access);

        if (own->watched &&
            !m->ops->fresh(m, (struct pw_range){ r->start, r->end }, &own->watch))
            err = -EAGAIN, count(&rc->count.retries);
        else if (other != PW_NOBODY)
            n = other;
        else
            publish(rc, r, &doomed);
    }
    if (!err) {
        take(rc, n, q);
        *out = pw_region_at(rc, n);
    }
    if (err || n != r->number)
        pw_reap_one(rc, r->number, &doomed);
    else if (own->state != PW_REGION_LIVE)
        count(&rc->count.uncached);
    pthread_mutex_unlock(&rc->lock);
    pw_unpin_all(rc, doomed);
    return err;
}

/* Make region n, and give it to the caller. 0; or -errno, and n is free again. */
static int make(struct pw_cache *rc, uint32_t n, const struct plan *p, bool merged,
                const struct request *q, struct pw_region **out)
{
    struct pw_region *r = pw_region_at(rc, n);
    struct pw_region_own *own = pw_own(r);
    size_t len = size_of(p->range);
    bool trust = trusted(rc, p->range);
    int err;

    r->start = p->range.start;
    r->end = p->range.end;
    r->access = p->access;
    err = charge(rc, len, !p->wide);
    if (err)
        goto number;
    if (!trust)
        err = watch(rc, r, merged);
    if (err)
        goto credit;
    err = pin(rc, r, !p->wide);
    if (err)
        goto unwatch;
    return settle(rc, r, trust || own->watched, q, out);

unwatch:
    if (own->watched)
        rc->config.monitor->ops->unwatch(rc->config.monitor, p->range, &own->watch);
credit:
    if (rc->config.budget)
        pw_budget_credit(rc->config.budget, len, 1);
number:
    number_give(rc, n);
    return err;
}

/* Look again, with everything applied that has changed. true: *out is taken. Else
 * *n is a number for a new region (PW_NOBODY: there is none) and *p what to pin. */
static bool look(struct pw_cache *rc, const struct request *q, struct plan *p,
                 uint32_t *n, struct pw_region **out)
{
    uint32_t doomed = PW_NOBODY, found = PW_NOBODY;

    pw_regcache_lock(rc);
    if (drain(rc, &doomed))
        found = pw_index_find(rc, q->first, q->last, q->access);
    if (found != PW_NOBODY) {
        take(rc, found, q);
        *out = pw_region_at(rc, found);
    } else {
        *p = (struct plan){ pages_of(q), q->access, PW_MERGE_MOST * size_of(pages_of(q)),
                            false };
        pw_index_overlaps(rc, p->range, consider, p);
        *n = number_take(rc);
    }
    pthread_mutex_unlock(&rc->lock);
    pw_unpin_all(rc, doomed);
    return found != PW_NOBODY;
}

static void widen(struct pw_cache *rc, struct plan *p)
{
    const struct pw_pin_ops *ops = rc->config.pin;
    size_t size = size_of(p->range);

    if (!ops->widen)
        return;
    ops->widen(rc->config.pin_ctx, &p->range.start, &p->range.end);
    p->wide = size_of(p->range) != size;
}

/* What attempt() says besides 0 and an error that is final. */
enum { PW_FOUND = 1, PW_SMALLER = 2 };

/* One round. PW_FOUND: it was there. PW_SMALLER: what a merged region failed at,
 * the request alone may do. -EAGAIN: once more. */
static int attempt(struct pw_cache *rc, const struct request *q, bool alone,
                   struct pw_region **out)
{
    struct plan exact = { .range = pages_of(q), .access = q->access }, p;
    uint32_t n;
    bool merged;
    int err;

    if (look(rc, q, &p, &n, out))
        return PW_FOUND;
    if (n == PW_NOBODY)
        return evicted(rc, 1) ? -EAGAIN : -ENOMEM;
    if (!alone)
        widen(rc, &p);
    merged = !alone && (size_of(p.range) != size_of(exact.range) ||
                        p.access != exact.access);
    err = make(rc, n, merged ? &p : &exact, merged, q, out);
    return err && err != -EAGAIN && merged ? PW_SMALLER : err;
}

int pw_regcache_get_slow(struct pw_regcache *hot, uintptr_t first, uintptr_t last,
                         unsigned access, struct pw_region **out)
{
    struct pw_cache *rc = pw_cache_of(hot);
    struct request q = { first, last, access };
    bool alone = false;
    int err, tries = 0;

    if (last < first || last == first - 1 || access & ~PW_ACCESS_ALL)
        return -EINVAL;
    if (pages_of(&q).end <= first)
        return -EFAULT;
    do {
        err = attempt(rc, &q, alone, out);
        alone |= err == PW_SMALLER;
    } while (err == PW_SMALLER || (err == -EAGAIN && ++tries < PW_TRIES));
    count(err == PW_FOUND ? &rc->count.hits : &rc->count.misses);
    if (err == -ENOMEM || err == -EAGAIN)
        count(&rc->count.refused);
    return err < 0 ? err : 0;
}

/* A hit on another region than this thread's last. */
int pw_regcache_get_other(struct pw_regcache *hot, uintptr_t first, uintptr_t last,
                          unsigned access, struct pw_region **out)
{
    struct pw_cache *rc = pw_cache_of(hot);
    struct pw_seat *seat = pw_lanes[hot->lane].seat;
    uint32_t n = pw_index_find(rc, first, last, access);

    if (!pw_likely(pw_load(&seat->card->start_denied) != PW_CARD_EMPTY))
        pw_regcache_reap(hot, seat->region->number);    /* see pw_hold() */
    if (!pw_likely(n != PW_NOBODY))
        return pw_regcache_get_slow(hot, first, last, access, out);
    pw_seat_found(hot, seat, first, n);
    if (!pw_likely(pw_hold(seat->tally, seat->card, first, last, access))) {
        if (pw_load(&seat->card->start_denied) == PW_CARD_EMPTY)
            pw_regcache_reap(hot, n);
        return pw_regcache_get_slow(hot, first, last, access, out);
    }
    pw_count_hit(seat);
    *out = seat->region;
    return 0;
}

/* By a thread that has no seat here. */
void pw_regcache_put_slow(struct pw_regcache *hot, struct pw_region *r)
{
    struct pw_cache *rc = pw_cache_of(hot);
    uint32_t doomed = PW_NOBODY, n = r->number;
    struct pw_seat *seat;
    struct pw_tally *t;

    pw_regcache_lock(rc);
    seat = pw_seat_take(rc);
    t = seat ? &seat->tallies[n] : &rc->base[n];
    pw_more(&t->puts);
    if (rc->cards[n].start_denied == PW_CARD_EMPTY)
        pw_reap_one(rc, n, &doomed);
    pthread_mutex_unlock(&rc->lock);
    pw_unpin_all(rc, doomed);
}
