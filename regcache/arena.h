/* SPDX-License-Identifier: BSD-3-Clause */
/* arena.h - large tables whose pages are only taken when they are touched. */
#ifndef PINWHEEL_ARENA_H
#define PINWHEEL_ARENA_H

#include <stddef.h>
#include <sys/mman.h>

/* Zeroed memory, or NULL. */
static inline void *pw_arena_new(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

static inline void pw_arena_free(void *p, size_t size)
{
    if (p)
        munmap(p, size);
}

#endif
