/* SPDX-License-Identifier: BSD-3-Clause */
/* regcache.h - is this buffer pinned already? If not, pin it, and remember.
 *
 *     struct pw_region *r;
 *     int err = pw_regcache_get(rc, buf, len, PW_READ, &r);
 *     if (!err) {
 *         ... use r->handle with the device ...
 *         pw_regcache_put(rc, r);
 *     }
 *
 * A hit makes no system call, takes no lock and executes no atomic
 * read-modify-write and no fence; it takes a few nanoseconds. A region handed out
 * was pinned with the pages that the program sees at that address, and nothing
 * that the monitor sees has changed them since, at the time of the call. What
 * the program does to its memory while it holds the region is its own business.
 *
 * fork: the parent keeps its regions. A child starts with an empty cache and
 * must not put what its parent got.
 *
 * All functions but open and close: any thread. None from a signal handler.
 */
#ifndef PINWHEEL_REGCACHE_H
#define PINWHEEL_REGCACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pinwheel/monitor.h"
#include "pinwheel/pin.h"

#pragma GCC visibility push(default)
#ifdef __cplusplus
extern "C" {
#endif

struct pw_regcache;
struct pw_budget;

/* Valid from get to put. Callers read it and change nothing. */
struct pw_region {
    uintptr_t start, end;   /* pinned: whole pages, at least what was asked for */
    unsigned access;        /* enum pw_access, at least what was asked for */
    uint32_t number;        /* below max_regions; of no other region meanwhile */
    uint64_t reserved[3];   /* the cache's own */
    /* What the pin backend left. */
    unsigned char handle[] __attribute__((aligned(16)));
};

struct pw_regcache_config {
    const struct pw_pin_ops *pin;   /* with pin_ctx; both outlive the cache */
    void *pin_ctx;
    struct pw_monitor *monitor;     /* outlives the cache; this cache's alone */
    struct pw_budget *budget;       /* NULL: no limit but max_regions. Outlives it */
    uint32_t max_regions;           /* 0: 65,536; below 1 << 24 */
};

/* 0, or -EINVAL  a value out of range, no pin or monitor
 *       -ENOMEM */
int pw_regcache_open(const struct pw_regcache_config *config, struct pw_regcache **out);

/* Unpin everything. Every region must have been put, and no other thread may be
 * in a call on this cache. NULL is fine. */
void pw_regcache_close(struct pw_regcache *rc);

/* Give a pinned region that covers [addr, addr + len), pinning on a miss.
 *
 * addr, len   bytes, len > 0; widened to whole pages
 * access      enum pw_access: what a device or peer may do
 * *out        referenced; return it with pw_regcache_put(), from any thread
 *
 * 0, or -EINVAL  len is 0, or the range wraps round
 *       -EFAULT  (part of) the range is not mapped, or not with that access
 *       -ENOMEM  the budget or the pin limit is spent and nothing idle is left to
 *                unpin: use the path that copies, or put something first
 *       -EAGAIN  the pages kept changing while they were being pinned: try later
 *       -errno   of the pin backend
 *
 * Memory that the monitor cannot vouch for is pinned for this one caller and
 * unpinned at the put: right, but slow. pw_regcache_stats() counts those.
 *
 * Source: collision-retry as in mmu_interval_read_begin(), Linux
 * mm/mmu_notifier.c; the counters per thread as in SRCU, kernel/rcu/srcutree.c.
 */
static inline int pw_regcache_get(struct pw_regcache *rc, void *addr, size_t len,
                                  unsigned access, struct pw_region **out);
static inline void pw_regcache_put(struct pw_regcache *rc, struct pw_region *r);

/* Notice what has changed, and unpin what nobody can use any more. A get does it
 * too; call this now and then from a program that may not get for long, so that
 * memory it has unmapped does not stay pinned. One load when there is nothing. */
void pw_regcache_progress(struct pw_regcache *rc);

/* Unpin idle regions until at least `bytes` are unpinned, the ones longest unused
 * first; SIZE_MAX: all. Returns the bytes unpinned. */
size_t pw_regcache_trim(struct pw_regcache *rc, size_t bytes);

/* This memory is known never to change behind its addresses (a pool's segment):
 * the monitor is not asked about it. 0, or -ENOSPC after eight. */
int pw_regcache_trust(struct pw_regcache *rc, const void *base, size_t size);

/* Since open, but for the three of now. Read without stopping anybody: counts of
 * a hit that is going on may be missing. */
struct pw_regcache_stats {
    uint64_t hits, misses;          /* gets that found a region, that did not */
    uint64_t merges;                /* misses that replaced regions they overlap */
    uint64_t evictions;             /* idle regions unpinned to make room */
    uint64_t retries;               /* pinned again since pages changed meanwhile */
    uint64_t uncached;              /* misses of memory nobody vouches for */
    uint64_t refused;               /* gets that ended in -ENOMEM or -EAGAIN */
    uint64_t invalidated[12];       /* regions, by enum pw_event's bit number */
    uint64_t regions;               /* now in the index */
    uint64_t pinned_bytes;          /* now, retired ones still in use among them */
    uint64_t pinned_regions;
};
void pw_regcache_stats(struct pw_regcache *rc, struct pw_regcache_stats *out);

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop

#include "pinwheel/regcache_hit.h"

#endif
