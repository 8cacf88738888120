/* SPDX-License-Identifier: BSD-3-Clause */
/* malloc_arena.h - whose is this address: the pool's, an inherited pool's, or the
 * next allocator's? */
#ifndef PINWHEEL_MALLOC_ARENA_H
#define PINWHEEL_MALLOC_ARENA_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "malloc_params.h"

/* A pool that serves, or served the parent of, this process. Lives for ever. */
struct pw_arena {
    uintptr_t base;
    size_t size;
    struct pw_pool *pool;
    struct pw_arena *next;      /* one that an older ancestor had */
};

/* In memory that every kind of fork wipes: a child, also one that we are not told
 * of, has no pool and does not take from its parent's. */
struct pw_arena_here {
    struct pw_arena *now;
    int refused;                /* there is none to be had */
};

extern struct pw_arena_here *pw_arena_here;
extern struct pw_arena *pw_arena_inherited;
extern struct pw_malloc_params pw_malloc_params;
extern pthread_mutex_t pw_arena_lock;   /* while a pool is opened, and around fork */

/* Before the first open. 0 or -errno: there will be no pool. */
int pw_arena_start(void);

/* The pool, opened if need be. NULL: use the next allocator. */
struct pw_arena *pw_arena_open(void);

static inline struct pw_arena *pw_arena_now(void)
{
    return __atomic_load_n(&pw_arena_here->now, __ATOMIC_ACQUIRE);
}

static inline struct pw_arena *pw_arena_of(const void *p)
{
    struct pw_arena *a = pw_arena_now();

    if (a && (uintptr_t)p - a->base < a->size)
        return a;
    for (a = pw_arena_inherited; __builtin_expect(a != NULL, 0); a = a->next)
        if ((uintptr_t)p - a->base < a->size)
            return a;
    return NULL;
}

#endif
