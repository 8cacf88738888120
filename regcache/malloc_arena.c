/* SPDX-License-Identifier: BSD-3-Clause */
/* malloc_arena.c - the pool that serves malloc, opened when it is first needed.
 *
 * Opening calls malloc nowhere of ours, but the C library may: a thread that is
 * opening gets its memory from the next allocator. Other threads wait.
 */
#define _GNU_SOURCE
#include "malloc_arena.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/mman.h>

#include "pinwheel/process_pool.h"

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

static struct pw_arena_here nowhere = { .refused = 1 };
struct pw_arena_here *pw_arena_here = &nowhere;
struct pw_arena *pw_arena_inherited;
struct pw_malloc_params pw_malloc_params;
pthread_mutex_t pw_arena_lock = PTHREAD_MUTEX_INITIALIZER;

static __thread bool opening __attribute__((tls_model("initial-exec")));

int pw_arena_start(void)
{
    void *page = mmap(NULL, sizeof *pw_arena_here, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (page == MAP_FAILED)
        return -errno;
    if (madvise(page, sizeof *pw_arena_here, MADV_WIPEONFORK)) {
        munmap(page, sizeof *pw_arena_here);
        return -EOPNOTSUPP;
    }
    pw_arena_here = page;
    return 0;
}

static struct pw_arena *arena_make(void)
{
    struct pw_arena *a = mmap(NULL, sizeof *a, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (a == MAP_FAILED)
        return NULL;
    if (pw_process_pool_get(&pw_malloc_params.pool, &a->pool) < 0)
        goto unmap;
    if (pw_heap_open(a->pool, &pw_malloc_params.heap))
        goto put;
    a->base = (uintptr_t)pw_pool_base(a->pool);
    a->size = pw_pool_size(a->pool);
    return a;

put:
    pw_process_pool_put(a->pool);
unmap:
    munmap(a, sizeof *a);
    return NULL;
}

struct pw_arena *pw_arena_open(void)
{
    struct pw_arena *a = pw_arena_now();
    int error;

    if (__builtin_expect(a != NULL, 1))
        return a;
    if (opening || __atomic_load_n(&pw_arena_here->refused, __ATOMIC_RELAXED))
        return NULL;

    error = errno;
    opening = true;
    pthread_mutex_lock(&pw_arena_lock);
    a = pw_arena_now();
    if (!a && !pw_arena_here->refused) {
        a = arena_make();
        __atomic_store_n(&pw_arena_here->refused, !a, __ATOMIC_RELAXED);
        __atomic_store_n(&pw_arena_here->now, a, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&pw_arena_lock);
    opening = false;
    errno = error;
    return a;
}
