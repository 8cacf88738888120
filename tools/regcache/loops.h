/* SPDX-License-Identifier: BSD-3-Clause */
/* loops.h - the loop whose time is "a hit": get, put, next buffer.
 *
 * Inlined into each cache's driver with that driver's own get and put, so that what
 * is called is the cache's function, as its users call it, and no pointer of ours
 * stands between. The compiler carries nothing from one turn over to the next, where
 * a user has code of his own.
 */
#ifndef PW_TOOLS_REGCACHE_LOOPS_H
#define PW_TOOLS_REGCACHE_LOOPS_H

#include "driver.h"

/* For the get and put of a driver too. */
#define HOT __attribute__((always_inline))

typedef int get_fn(void *cache, void *addr, size_t len, void **region);
typedef void put_fn(void *cache, void *region);

static inline HOT
size_t loop_hits(get_fn *get, put_fn *put, void *cache, const struct driver_use *uses,
                 size_t n)
{
    size_t failed = 0;
    void *region;

    for (size_t i = 0; i < n; i++) {
        if (__builtin_expect(get(cache, uses[i].addr, uses[i].len, &region), 0))
            failed++;
        else
            put(cache, region);
        __asm__ volatile("" ::: "memory");
    }
    return failed;
}

#endif
