/* SPDX-License-Identifier: BSD-3-Clause */
/* cache.h - the registration cache's own structures, shared by its files only.
 *
 *     include/pinwheel/regcache_hit.h    get and put, as long as all goes well, and
 *                  why that holds. Start there.
 *     miss.c       what get does else: look it up, pin, merge, publish
 *     retire.c     changes noticed, regions retired, evicted, unpinned
 *     index.c      regions found by address
 *     seats.c      what each thread holds
 *     regcache.c   open, close, fork, counters
 *
 * A region has a number, and a card that says in two words what it covers. It is
 *     free      its number waits for a next use
 *     private   being pinned, in nobody's sight
 *     live      on its card and in the index: handed out by get
 *     retired   off its card and the index, still referenced; also one that was
 *               pinned for a single caller, from the beginning
 *     doomed    nobody refers to it: being unpinned
 *
 * rc->lock guards all but what a hit reads, and is never held across pin, unpin
 * or a call of the user's. What a hit reads is written atomically under it.
 */
#ifndef PINWHEEL_CACHE_H
#define PINWHEEL_CACHE_H

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "pinwheel/budget.h"
#include "pinwheel/regcache.h"

#define PW_PAGE ((uintptr_t)4096)
enum { PW_NOBODY = UINT32_MAX };    /* no region's number */
enum { PW_TRUSTED = 8, PW_EVENTS = 12 };

enum pw_region_state {
    PW_REGION_FREE, PW_REGION_PRIVATE, PW_REGION_LIVE, PW_REGION_RETIRED,
    PW_REGION_DOOMED,
};

/* What lies in pw_region.reserved. */
struct pw_region_own {
    enum pw_region_state state;
    uint32_t next;              /* in a list of numbers */
    struct pw_watch watch;
    bool watched;               /* the monitor was asked, and vouches */
    bool indexed;
    uint8_t level;
    uint32_t gets;              /* all, when the clock's hand passed last */
};

struct pw_table;

struct pw_counters {
    uint64_t hits, misses, merges, evictions, retries, uncached, refused;
    uint64_t invalidated[PW_EVENTS];
    uint64_t regions, pinned_bytes, pinned_regions;
};

/* What a hit reads lies alone in a page that fork wipes; all else behind it, where
 * a child finds it. */
struct pw_cache {
    struct pw_regcache hot;
    _Alignas(4096) pthread_mutex_t lock;
    uint64_t reviving;          /* a thread of a forked child is at it */

    /* Read by gets that look further in the index. */
    _Alignas(64) struct pw_table *table;
    uint64_t levels;            /* bit L: the index has regions of level L */

    /* As in hot, for a child, where that is wiped. */
    struct pw_card *cards;
    char *regions;
    size_t stride;

    _Alignas(64) struct pw_regcache_config config;
    struct pw_seat *seats;
    struct pw_tally *base;      /* of threads that are gone, and of those without
                                 * a seat, under the lock */
    bool fenced;                /* no membarrier here: every get takes the lock */
    uint32_t high;              /* numbers below were used */
    uint32_t free_list;
    uint32_t hand;              /* of the clock that picks what is evicted */
    uint32_t in_level[64];
    uint64_t awaited;           /* value of hot.seen, where waiting was in vain */
    struct pw_range trusted[PW_TRUSTED];
    int n_trusted;
    struct pw_counters count;   /* written under the lock, read without */
    struct pw_cache *next;      /* in the list of open caches */
};

static inline struct pw_cache *pw_cache_of(struct pw_regcache *rc)
{
    return (struct pw_cache *)(void *)rc;
}

static inline struct pw_region *pw_region_at(const struct pw_cache *rc, uint32_t n)
{
    return (struct pw_region *)(void *)(rc->regions + n * rc->stride);
}

static inline struct pw_region_own *pw_own(struct pw_region *r)
{
    _Static_assert(sizeof(struct pw_region_own) <= sizeof(r->reserved), "has room");
    return (struct pw_region_own *)(void *)r->reserved;
}

static inline struct pw_seat *pw_seat_here(const struct pw_cache *rc)
{
    return pw_seated(&rc->hot) ? pw_lanes[rc->hot.lane].seat : NULL;
}

/* Everything below is called with rc->lock held unless it says otherwise. */

/* index.c */
int pw_index_open(struct pw_cache *rc);
void pw_index_show(struct pw_cache *rc);    /* to hits; also in a forked child */
void pw_index_close(struct pw_cache *rc);
void pw_index_clear(struct pw_cache *rc);
int pw_index_add(struct pw_cache *rc, struct pw_region *r);  /* 0, -ENOMEM */
void pw_index_remove(struct pw_cache *rc, struct pw_region *r);
/* Any thread, without the lock: a hint that the card must confirm; or PW_NOBODY. */
uint32_t pw_index_find(const struct pw_cache *rc, uintptr_t first, uintptr_t last,
                       unsigned access);
/* Call visit for each live region that overlaps the range; it may retire it. */
void pw_index_overlaps(struct pw_cache *rc, struct pw_range range,
                       void (*visit)(struct pw_cache *rc, struct pw_region *r,
                                     void *arg), void *arg);

/* seats.c */
struct pw_seat *pw_seat_take(struct pw_cache *rc);   /* this thread's; NULL */
uint32_t pw_refs(const struct pw_cache *rc, uint32_t n);
uint32_t pw_gets(const struct pw_cache *rc, uint32_t n);
int pw_seats_register(struct pw_cache *rc);      /* without the lock */
void pw_seats_unregister(struct pw_cache *rc);   /* without the lock */
void pw_seats_free(struct pw_cache *rc);
void pw_seats_forget(struct pw_cache *rc);       /* in a forked child */

/* retire.c: lists are of numbers, linked by own->next. */
bool pw_drain(struct pw_cache *rc, uint32_t *doomed);
void pw_retire(struct pw_cache *rc, struct pw_region *r, uint32_t *retired);
void pw_reap(struct pw_cache *rc, uint32_t retired, uint32_t *doomed);
void pw_reap_one(struct pw_cache *rc, uint32_t n, uint32_t *doomed);
size_t pw_evict(struct pw_cache *rc, size_t bytes, uint32_t *doomed);
/* Without the lock: unpin and free. */
void pw_unpin_all(struct pw_cache *rc, uint32_t doomed);

/* regcache.c: without the lock. In a forked child, before anything else. */
void pw_regcache_revive(struct pw_cache *rc);
static inline void pw_regcache_lock(struct pw_cache *rc)
{
    if (!pw_likely(pw_load_acquire(&rc->hot.id)))
        pw_regcache_revive(rc);
    pthread_mutex_lock(&rc->lock);
}

#endif
