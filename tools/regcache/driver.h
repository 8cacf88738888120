/* SPDX-License-Identifier: BSD-3-Clause */
/* driver.h - one registration cache, as pwbench regcache measures it.
 *
 * There is one small program for each cache, so that no cache runs beside
 * another's hooks: one file that defines `driver`, and the rest (see bench.h), which
 * is the same in all. What is timed stands in loops.h.
 *
 *     regcache-NAME [--regions N] [--pattern P] [--threads T] [--seconds S]
 *                   [--monitor NAME]
 *
 * measures one point and prints one number, and before it a line "# ..." that says
 * what was measured. Exit codes: 0 measured; DRIVER_ABSENT this cache or this
 * point cannot be had on this machine, for the reason on stderr; DRIVER_FAILED
 * anything else; DRIVER_USAGE a wrong option. What it says on stderr besides is a
 * warning.
 */
#ifndef PW_TOOLS_REGCACHE_DRIVER_H
#define PW_TOOLS_REGCACHE_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pins.h"

enum { DRIVER_FAILED = 1, DRIVER_USAGE = 2, DRIVER_ABSENT = 3, DRIVER_NOTE_MAX = 256 };

/* A buffer that is looked up. */
struct driver_use {
    void *addr;
    size_t len;
};

struct driver_config {
    struct pins *pins;      /* what the cache is to pin with */
    size_t regions;         /* it must hold at least so many at once */
    int threads;            /* that will use it */
    const char *monitor;    /* of our own cache; the others have one each */
};

struct driver {
    const char *name;
    bool caches;            /* false: there is nothing to get, only memory to unmap */
    bool survives_unmap;    /* of memory that is in use; grdma ends the process */

    /* 0; or DRIVER_ABSENT or DRIVER_FAILED, and note says why. On 0 note says what
     * it is: version, monitor. Ready to notice changes of memory. */
    int (*open)(const struct driver_config *config, void **cache,
                char note[DRIVER_NOTE_MAX]);

    /* One get, for reading and writing, and its put. */
    int (*get)(void *cache, void *addr, size_t len, void **region);
    void (*put)(void *cache, void *region);

    /* get and put each of these in turn, by direct calls. How many gets failed. */
    size_t (*hits)(void *cache, const struct driver_use *uses, size_t n);

    /* Hits so far by the cache's own count, in all threads; NULL: it has none. */
    uint64_t (*hit_count)(void *cache);
};

extern const struct driver driver;

#endif
