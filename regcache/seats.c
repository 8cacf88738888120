/* SPDX-License-Identifier: BSD-3-Clause */
/* seats.c - what each thread holds of each cache.
 *
 * A seat counts, for each region, the gets and the puts of one thread. All gets
 * less all puts is the number of references. A region may be put by another thread
 * than got it, so a single seat says nothing.
 *
 * Why a difference of zero can be trusted although seats are read one after another:
 * it is only taken of a region that nobody can get any more (retired, and
 * pw_retire_barrier() since), so its gets stand still, but for a pw_hold() that
 * failed: that one counts a get and then a put. All puts are read first, then all
 * gets. A put that was read had its get counted before, so what is found is at least
 * the true number. Source: the same order in SRCU, kernel/rcu/srcutree.c.
 *
 * A thread that ends leaves its counts to rc->base. It learns of it by the
 * destructor of a pthread key, which looks through the caches that are open.
 *
 * Locks: `open_lock`, then rc->lock.
 */
#include <stdlib.h>

#include "arena.h"
#include "cache.h"

/* An id that no cache has, nor a page that was wiped. */
enum { PW_NO_CACHE = -1 };
static struct pw_seat nowhere;
#define LANE { .id = PW_NO_CACHE, .seat = &nowhere }
__thread struct pw_lane pw_lanes[PW_LANES] = { LANE, LANE, LANE, LANE };

static pthread_mutex_t open_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static int no_key;                  /* -errno when there is none */
static struct pw_cache *caches;
static struct pw_seat *old_seats;   /* of caches that were closed: lanes may still
                                     * lead to them */
static uint64_t last_id;

static size_t tally_size(const struct pw_cache *rc)
{
    return rc->config.max_regions * sizeof(struct pw_tally);
}

static void seat_leave(struct pw_cache *rc, struct pw_seat *seat)
{
    for (uint32_t n = 0; n < rc->high; n++) {
        struct pw_tally *t = &seat->tallies[n], *base = &rc->base[n];

        pw_store(&base->gets, base->gets + t->gets);
        pw_store(&base->puts, base->puts + t->puts);
        pw_store(&t->gets, 0);
        pw_store(&t->puts, 0);
    }
    seat->owner = NULL;
}

static void thread_ends(void *lanes)
{
    struct pw_cache *rc;
    struct pw_seat *seat;

    for (int i = 0; i < PW_LANES; i++)
        pw_lanes[i] = (struct pw_lane)LANE;
    pthread_mutex_lock(&open_lock);
    for (rc = caches; rc; rc = rc->next) {
        pw_regcache_lock(rc);
        for (seat = rc->seats; seat; seat = seat->next)
            if (seat->owner == lanes)
                seat_leave(rc, seat);
        pthread_mutex_unlock(&rc->lock);
    }
    pthread_mutex_unlock(&open_lock);
}

/* A thread that forks while another opens a cache must find the list whole. */
static void before_fork(void) { pthread_mutex_lock(&open_lock); }
static void after_fork(void) { pthread_mutex_unlock(&open_lock); }

static void begin(void)
{
    no_key = -pthread_key_create(&key, thread_ends);
    if (!no_key)
        no_key = -pthread_atfork(before_fork, after_fork, after_fork);
}

static void name(struct pw_cache *rc, uint64_t id)
{
    rc->hot.lane = id % PW_LANES;
    rc->hot.lane_offset = (uint64_t)((char *)&pw_lanes[rc->hot.lane] -
                                     (char *)__builtin_thread_pointer());
    pw_store_release(&rc->hot.id, id);
}

int pw_seats_register(struct pw_cache *rc)
{
    pthread_once(&once, begin);
    if (no_key)
        return no_key;
    pthread_mutex_lock(&open_lock);
    name(rc, ++last_id);
    rc->next = caches;
    caches = rc;
    pthread_mutex_unlock(&open_lock);
    return 0;
}

void pw_seats_unregister(struct pw_cache *rc)
{
    struct pw_cache **at;

    pthread_mutex_lock(&open_lock);
    for (at = &caches; *at; at = &(*at)->next)
        if (*at == rc) {
            *at = rc->next;
            break;
        }
    pthread_mutex_unlock(&open_lock);
}

static struct pw_seat *seat_new(struct pw_cache *rc)
{
    struct pw_seat *seat = aligned_alloc(64, (sizeof(*seat) + 63) & ~(size_t)63);

    if (!seat)
        return NULL;
    *seat = (struct pw_seat){
        .tallies = pw_arena_new(tally_size(rc), PW_COLOUR_TALLIES), .next = rc->seats };
    if (!seat->tallies) {
        free(seat);
        return NULL;
    }
    pw_store_release(&rc->seats, seat);
    return seat;
}

/* NULL where there is no memory for one: then rc->base counts, under the lock. */
struct pw_seat *pw_seat_take(struct pw_cache *rc)
{
    struct pw_seat *seat = pw_seat_here(rc);

    if (seat || rc->fenced)
        return seat;
    /* Another cache may have taken the lane since. */
    for (seat = rc->seats; seat && seat->owner != pw_lanes; )
        seat = seat->next;
    if (!seat)
        for (seat = rc->seats; seat && seat->owner; )
            seat = seat->next;
    if (!seat)
        seat = seat_new(rc);
    if (!seat || pthread_setspecific(key, pw_lanes))
        return NULL;
    pw_seat_found(&rc->hot, seat, 0, 0);
    seat->owner = pw_lanes;
    pw_lanes[rc->hot.lane] = (struct pw_lane){ .id = rc->hot.id, .seat = seat };
    return seat;
}

uint32_t pw_gets(const struct pw_cache *rc, uint32_t n)
{
    uint32_t sum = rc->base[n].gets;

    for (const struct pw_seat *seat = rc->seats; seat; seat = seat->next)
        sum += pw_load_acquire(&seat->tallies[n].gets);
    return sum;
}

uint32_t pw_refs(const struct pw_cache *rc, uint32_t n)
{
    uint32_t puts = rc->base[n].puts;

    for (const struct pw_seat *seat = rc->seats; seat; seat = seat->next)
        puts += pw_load_acquire(&seat->tallies[n].puts);
    return pw_gets(rc, n) - puts;
}

void pw_seats_free(struct pw_cache *rc)
{
    struct pw_seat *seat, *next;

    pthread_mutex_lock(&open_lock);
    for (seat = rc->seats; seat; seat = next) {
        next = seat->next;
        pw_arena_free(seat->tallies, tally_size(rc), PW_COLOUR_TALLIES);
        *seat = (struct pw_seat){ .next = old_seats };
        old_seats = seat;
    }
    pthread_mutex_unlock(&open_lock);
    pw_arena_free(rc->base, tally_size(rc), 0);
}

/* The threads are the parent's, and so is what they hold. */
void pw_seats_forget(struct pw_cache *rc)
{
    for (struct pw_seat *seat = rc->seats; seat; seat = seat->next) {
        pw_arena_wipe(seat->tallies, tally_size(rc), PW_COLOUR_TALLIES);
        seat->owner = NULL;
        seat->hits = 0;
    }
    pw_arena_wipe(rc->base, tally_size(rc), 0);
    name(rc, __atomic_add_fetch(&last_id, 1, __ATOMIC_RELAXED));
}
