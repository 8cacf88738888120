/* SPDX-License-Identifier: BSD-3-Clause */
/* malloc_next.h - the allocator behind ours: the C library's, or another that was
 * preloaded after us or that the program is linked with. */
#ifndef PINWHEEL_MALLOC_NEXT_H
#define PINWHEEL_MALLOC_NEXT_H

#include <stddef.h>
#include <sys/types.h>

struct pw_next {
    void *(*malloc)(size_t);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void (*free)(void *);
    void *(*memalign)(size_t, size_t);
    void *(*aligned_alloc)(size_t, size_t);
    int (*posix_memalign)(void **, size_t, size_t);
    void *(*valloc)(size_t);
    void *(*pvalloc)(size_t);
    size_t (*usable_size)(void *);
    pid_t (*fork)(void);
};

/* Usable from the first instruction on: what it calls looks the others up. */
extern struct pw_next pw_next;

void pw_next_find(void);

#endif
