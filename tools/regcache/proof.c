/* SPDX-License-Identifier: BSD-3-Clause */
/* proof.c - a cache does its work before it is measured. See proof.h.
 *
 * A cache without the freshness check or without references would be faster, and
 * worth nothing. So each process that measures first sees both at work.
 */
#include "proof.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

enum { LEN = 64 << 10 };

__attribute__((format(printf, 2, 3)))
static int wrong(char note[DRIVER_NOTE_MAX], const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(note, DRIVER_NOTE_MAX, format, args);
    va_end(args);
    return -1;
}

static void *map_at(void *where)
{
    void *p = mmap(where, LEN, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | (where ? MAP_FIXED_NOREPLACE : 0), -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

/* By the code whose time is taken. False when the get failed. */
static bool use(void *cache, void *addr)
{
    struct driver_use one = { addr, LEN };

    return driver.hits(cache, &one, 1) == 0;
}

static int prove_freshness(void *cache, struct pins *pins, void *p,
                           char note[DRIVER_NOTE_MAX])
{
    if (!use(cache, p) || !use(cache, p))
        return wrong(note, "a get of %d bytes failed", LEN);
    if (pins_pinned(pins) != 1)
        return wrong(note, "the second get of the same buffer was no hit");
    munmap(p, LEN);
    if (map_at(p) != p)
        return wrong(note, "the address could not be mapped again: %s", strerror(errno));
    if (!use(cache, p))
        return wrong(note, "a get of memory that was mapped anew failed");
    if (pins_pinned(pins) != 2)
        return wrong(note,
                     "it did not notice that memory was unmapped; is its monitor on?");
    return 0;
}

/* p is cached; other is not. */
static int prove_reference(void *cache, struct pins *pins, void *p, void *other,
                           char note[DRIVER_NOTE_MAX])
{
    uint64_t unpinned;
    void *region;

    if (driver.get(cache, p, LEN, &region))
        return wrong(note, "a get of cached memory failed");
    unpinned = pins_unpinned(pins);
    munmap(p, LEN);
    if (!use(cache, other))
        return wrong(note, "a get of %d bytes failed", LEN);
    if (pins_unpinned(pins) != unpinned)
        return wrong(note, "it unpinned a region that was in use");
    driver.put(cache, region);
    if (map_at(p) != p || !use(cache, p))
        return wrong(note, "a get of memory that was mapped anew failed");
    if (pins_unpinned(pins) != unpinned + 1)
        return wrong(note, "it did not unpin a region that nobody can use any more");
    return 0;
}

int proof(void *cache, struct pins *pins, char note[DRIVER_NOTE_MAX])
{
    void *p = map_at(NULL), *other = map_at(NULL);
    char said[DRIVER_NOTE_MAX];
    int err;

    if (!p || !other)
        return wrong(note, "mmap: %s", strerror(errno));
    err = prove_freshness(cache, pins, p, said);
    if (!err && driver.survives_unmap)
        err = prove_reference(cache, pins, p, other, said);
    if (err)
        snprintf(note, DRIVER_NOTE_MAX, "%s", said);
    return err;
}
