/* SPDX-License-Identifier: BSD-3-Clause */
/* arena.h - large tables whose pages are only taken when they are touched. */
#ifndef PINWHEEL_ARENA_H
#define PINWHEEL_ARENA_H

#include <stddef.h>
#include <sys/mman.h>

/* Where in its page a table begins. A load whose address has the low 12 bits of a
 * store just before it waits for that store: so what a hit writes (tallies) does not
 * begin where what it reads does (a cache's first page, a monitor's word, cards). */
enum { PW_COLOUR_CARDS = 2560, PW_COLOUR_TALLIES = 1024 };

/* Zeroed memory, or NULL. */
static inline void *pw_arena_new(size_t size, size_t colour)
{
    char *p = mmap(NULL, colour + size, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return p == MAP_FAILED ? NULL : p + colour;
}

static inline void pw_arena_free(void *p, size_t size, size_t colour)
{
    if (p)
        munmap((char *)p - colour, colour + size);
}

/* Zero it again, and give its pages back. */
static inline void pw_arena_wipe(void *p, size_t size, size_t colour)
{
    madvise((char *)p - colour, colour + size, MADV_DONTNEED);
}

#endif
