/* SPDX-License-Identifier: BSD-3-Clause */
/* regcache_hit.h - get and put of the registration cache, as long as all goes well.
 *
 * Included by regcache.h, which says what they promise; nothing else here is for
 * callers. Inline, for two calls into a library cost as much as the rest of a hit.
 * The layout belongs to the library's version (its soname).
 *
 * No system call, no lock, no atomic read-modify-write, no fence: tests/cache/hitpath
 * takes the compiled code apart to see.
 *
 * How a hit can do without a fence. References are counted by each thread for
 * itself, in its seat. Who takes one writes its count, then reads the card. Who
 * retires a region writes the card, calls membarrier(2), then reads all counts. The
 * barrier puts a fence into every running thread: either the thread has seen the
 * card empty, or the retirer sees its count. A put is the same: it writes its count,
 * then reads the card, and whoever comes last finds that nobody is left.
 *
 * How a hit is fresh. The monitor's word is compared with `seen`, up to where its
 * changes have been applied, before the card is read: equal means that every change
 * told so far has emptied the cards it touches. All of struct pw_regcache lies in a
 * page that fork wipes, so in a child no thread has a seat.
 */
#ifndef PINWHEEL_REGCACHE_HIT_H
#define PINWHEEL_REGCACHE_HIT_H

#include "pinwheel/regcache.h"

#pragma GCC visibility push(default)
#ifdef __cplusplus
extern "C" {
#endif

/* What a region covers. The first word: page of the start, and in the low bits the
 * access (enum pw_access) that it does not give; or empty. */
struct pw_card {
    uint64_t start_denied;
    uint64_t end;
};
#define PW_CARD_EMPTY UINT64_MAX    /* starts behind every address */
enum { PW_ACCESS_ALL = PW_READ | PW_WRITE | PW_ATOMIC };

/* What one thread did with a region; another may have put what it got. */
struct pw_tally {
    uint32_t gets, puts;
};

/* One thread in one cache. */
struct pw_seat {
    struct pw_tally *tallies;   /* by the region's number */
    uint64_t hits;
    uintptr_t first;            /* what the last get asked for, and found */
    struct pw_card *card;
    struct pw_tally *tally;
    struct pw_region *region;
    const void *owner;          /* the thread's lanes; NULL: free */
    struct pw_seat *next;
};

/* Where a thread finds its seats. One of another cache, or of one that was closed,
 * has no region of this cache. */
enum { PW_LANES = 4 };
struct pw_lane {
    uint64_t id;                /* of the cache */
    struct pw_seat *seat;       /* never NULL */
};
extern __thread struct pw_lane pw_lanes[PW_LANES]
    __attribute__((tls_model("initial-exec")));

struct pw_regcache {
    uint64_t id;                /* of no other cache, ever; never 0 but in a page
                                 * that was wiped */
    uint64_t lane;              /* its place in pw_lanes */
    uint64_t lane_offset;       /* the same, in bytes from the thread pointer */
    const uint64_t *word;       /* the monitor's */
    uint64_t seen;
    struct pw_card *cards;      /* by the region's number */

    /* The index: see regcache/index.h. `shift` is read first and written last, so
     * it never asks for more than the table has. */
    uint64_t only_level;        /* of all regions; 0: they are of several */
    uint64_t shift;
    uint32_t *entries;          /* tag << 24 | number + 1; 0: free */
    char *regions;              /* by the region's number, stride bytes each */
    uint64_t stride;
};

int pw_regcache_get_other(struct pw_regcache *rc, uintptr_t first, uintptr_t last,
                          unsigned access, struct pw_region **out);
int pw_regcache_get_slow(struct pw_regcache *rc, uintptr_t first, uintptr_t last,
                         unsigned access, struct pw_region **out);
void pw_regcache_put_slow(struct pw_regcache *rc, struct pw_region *r);
void pw_regcache_reap(struct pw_regcache *rc, uint32_t number);

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop

#define pw_load(p) __atomic_load_n(p, __ATOMIC_RELAXED)
#define pw_store(p, v) __atomic_store_n(p, v, __ATOMIC_RELAXED)
#define pw_load_acquire(p) __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define pw_store_release(p, v) __atomic_store_n(p, v, __ATOMIC_RELEASE)

/* Nothing moves across in this thread's code. In the CPU, the barrier that
 * pw_reap() in regcache/retire.c calls sees to it. */
#define pw_compiler_barrier() __atomic_signal_fence(__ATOMIC_SEQ_CST)

#define pw_likely(x) __builtin_expect(!!(x), 1)

/* One instruction each, where the compiler would take three: this is what a hit
 * consists of. ThreadSanitizer must see what happens. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define PW_NO_ASM
#endif
#endif
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__) && !defined(PW_NO_ASM)
/* Written by this thread alone, so that it need not be atomic to others. */
static inline void pw_more(uint32_t *n)
{
    __asm__ volatile("addl $1, %0" : "+m"(*n) : : "cc", "memory");
}

static inline void pw_count_hit(struct pw_seat *seat)
{
    __asm__ volatile("addq $1, %0" : "+m"(seat->hits) : : "cc");
}

static inline uint64_t pw_lane_id(const struct pw_regcache *rc)
{
    uint64_t id;

    __asm__ volatile("movq %%fs:(%1), %0" : "=r"(id) : "r"(rc->lane_offset));
    return id;
}

static inline struct pw_seat *pw_lane_seat(const struct pw_regcache *rc)
{
    struct pw_seat *seat;

    __asm__ volatile("movq %%fs:8(%1), %0" : "=r"(seat) : "r"(rc->lane_offset));
    return seat;
}
#else
static inline void pw_more(uint32_t *n)
{
    pw_store_release(n, pw_load(n) + 1);
}

static inline void pw_count_hit(struct pw_seat *seat)
{
    pw_store(&seat->hits, pw_load(&seat->hits) + 1);
}

static inline uint64_t pw_lane_id(const struct pw_regcache *rc)
{
    return pw_lanes[rc->lane].id;
}

static inline struct pw_seat *pw_lane_seat(const struct pw_regcache *rc)
{
    return pw_lanes[rc->lane].seat;
}
#endif

static inline bool pw_seated(const struct pw_regcache *rc)
{
    return pw_lane_id(rc) == rc->id;
}

static inline bool pw_fresh(const struct pw_regcache *rc)
{
    uint64_t seen = pw_load_acquire(&rc->seen);

    return pw_load_acquire(rc->word) == seen;
}

/* start <= first, said of the pages of both, so that the low bits do not matter.
 * One condition, for each of the three alone cannot be foreseen by the CPU. */
static inline bool pw_card_covers(const struct pw_card *card, uintptr_t first,
                                  uintptr_t last, unsigned access)
{
    uint64_t w = pw_load_acquire(&card->start_denied);

    return (w <= (first | 4095)) & (last < pw_load(&card->end)) & !(w & access);
}

/* Take a reference, then look whether the region is (still) live and right. The
 * order pairs with pw_reap(). false: nothing was taken, but who retired it meanwhile
 * may have seen us; when the card is empty, call pw_regcache_reap(). */
static inline bool pw_hold(struct pw_tally *t, const struct pw_card *card,
                           uintptr_t first, uintptr_t last, unsigned access)
{
    pw_more(&t->gets);
    pw_compiler_barrier();
    if (pw_likely(pw_card_covers(card, first, last, access)))
        return true;
    pw_more(&t->puts);
    pw_compiler_barrier();
    return false;
}

/* Give one back. true: the region is not live; call pw_regcache_reap(). The order
 * pairs with pw_reap(). */
static inline bool pw_unhold(struct pw_tally *t, const struct pw_card *card)
{
    pw_more(&t->puts);
    pw_compiler_barrier();
    return pw_load(&card->start_denied) == PW_CARD_EMPTY;
}

/* The least level at which a region that covers first..last can be: its size is at
 * most 1 << level. */
static inline unsigned pw_level_of(uintptr_t first, uintptr_t last)
{
    return 64 - (unsigned)__builtin_clzl((last | 4095) - (first & ~(uintptr_t)4095));
}

/* Multiplied by 2^64 over the golden ratio: the high bits are well mixed. */
static inline uint64_t pw_index_hash(uintptr_t addr, unsigned level)
{
    return ((addr >> level) << 6 | level) * 0x9e3779b97f4a7c15u;
}

/* Where this thread's next get looks first. */
static inline void pw_seat_found(const struct pw_regcache *rc, struct pw_seat *seat,
                                 uintptr_t first, uint32_t n)
{
    seat->first = first;
    seat->card = &rc->cards[n];
    seat->tally = &seat->tallies[n];
    seat->region = (struct pw_region *)(void *)(rc->regions + n * rc->stride);
}

/* Most regions are of the level that the request is of, and stand in the first
 * place. false: look further. To know the only level saves an instruction (bsr) that
 * is slow on many CPUs, and finds what lies inside large regions. */
static inline bool pw_index_first(const struct pw_regcache *rc, uintptr_t first,
                                  uintptr_t last, struct pw_seat *seat)
{
    unsigned only = (unsigned)pw_load(&rc->only_level);
    uint64_t hash = pw_index_hash(first, only ? only : pw_level_of(first, last));
    uint64_t at = hash >> pw_load_acquire(&rc->shift);
    uint32_t e = pw_load(&pw_load(&rc->entries)[at]);

    if (!pw_likely(e >> 24 == (hash & 255)))
        return false;
    pw_seat_found(rc, seat, first, (e & 0xffffff) - 1);
    return true;
}

static inline __attribute__((always_inline)) int
pw_regcache_get(struct pw_regcache *rc, void *addr, size_t len, unsigned access,
                struct pw_region **out)
{
    uintptr_t first = (uintptr_t)addr, last = first + len - 1;
    struct pw_seat *seat = pw_lane_seat(rc);

    if (!pw_likely(pw_seated(rc) && pw_fresh(rc) && first <= last))
        return pw_regcache_get_slow(rc, first, last, access, out);
    if (seat->first != first && !pw_index_first(rc, first, last, seat))
        return pw_regcache_get_other(rc, first, last, access, out);
    if (!pw_likely(pw_hold(seat->tally, seat->card, first, last, access)))
        return pw_regcache_get_other(rc, first, last, access, out);
    pw_count_hit(seat);
    *out = seat->region;
    return 0;
}

static inline __attribute__((always_inline)) void
pw_regcache_put(struct pw_regcache *rc, struct pw_region *r)
{
    struct pw_seat *seat = pw_lane_seat(rc);
    bool gone;

    if (pw_likely(r == seat->region)) {     /* without a look at *r */
        gone = pw_unhold(seat->tally, seat->card);
    } else if (pw_likely(pw_seated(rc))) {
        gone = pw_unhold(&seat->tallies[r->number], &rc->cards[r->number]);
    } else {
        pw_regcache_put_slow(rc, r);
        return;
    }
    if (!pw_likely(!gone))
        pw_regcache_reap(rc, r->number);
}

#endif
