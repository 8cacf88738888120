/* SPDX-License-Identifier: BSD-3-Clause */
/* malloc.c - malloc and its kin, with large blocks from the shared pool.
 *
 * Preloaded, so that buffers that a program took from malloc() are one copy away
 * for the peers. What is smaller than the threshold, and what the pool has no room
 * for, is the next allocator's (malloc_next.c). An address tells whose it is
 * (malloc_arena.c), so blocks of both kinds may be mixed and outlive anything.
 *
 * Until our constructor has run everything is the next allocator's: so the start
 * of the C++ library, which takes a large block in each program, opens no pool.
 */
#define _GNU_SOURCE
#include "pinwheel/malloc.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "malloc_arena.h"
#include "malloc_fork.h"
#include "malloc_next.h"
#include "malloc_tell.h"

#define EXPORT __attribute__((visibility("default")))
#define ALIGN_MOST ((size_t)2 << 20)

static size_t threshold = SIZE_MAX;

/* ---- what is said ---- */

void pw_malloc_tell(const char *sentence)
{
    struct iovec line[] = {
        { (char *)(uintptr_t)"pinwheel-malloc: ", 17 },
        { (char *)(uintptr_t)sentence, strlen(sentence) },
        { (char *)(uintptr_t)"\n", 1 },
    };

    (void)!writev(STDERR_FILENO, line, 3);
}

__attribute__((noreturn))
static void not_a_block(const char *function, const void *p)
{
    char line[80];

    snprintf(line, sizeof line, "%s(%p): invalid pointer", function, p);
    pw_malloc_tell(line);
    abort();
}

/* ---- large blocks ---- */

/* NULL: it is the next allocator's. */
static void *large(size_t size, size_t align, unsigned flags)
{
    struct pw_arena *a = pw_arena_open();

    return a ? pw_heap_alloc(a->pool, size, align, flags) : NULL;
}

static bool is_power_of_two(size_t n)
{
    return n && !(n & (n - 1));
}

static void *large_aligned(size_t size, size_t align)
{
    return is_power_of_two(align) && align <= ALIGN_MOST ? large(size, align, 0) : NULL;
}

static void large_free(struct pw_arena *a, void *p)
{
    int error = errno;

    if (pw_heap_free(a->pool, p))
        not_a_block("free", p);
    errno = error;
}

/* A block of the next allocator grows beyond the threshold. One that was beyond it
 * before had no room here, and that allocator may be able to move it by its pages:
 * it stays. */
static void *move_in(void *p, size_t old, size_t size)
{
    void *q = large(size, 0, PW_HEAP_GROWS);

    if (!q)
        return pw_next.realloc(p, size);
    memcpy(q, p, old < size ? old : size);
    pw_next.free(p);
    return q;
}

static void *large_realloc(struct pw_arena *a, void *p, size_t size)
{
    size_t old = pw_heap_usable(a->pool, p);
    void *q = NULL;

    if (!old)
        not_a_block("realloc", p);
    if (size == 0) {
        large_free(a, p);
        return NULL;
    }
    if (size >= threshold) {
        if (!pw_heap_resize(a->pool, p, size))
            return p;
        q = large(size, 0, PW_HEAP_GROWS);
    }
    if (!q)
        q = pw_next.malloc(size);
    if (!q)
        return NULL;
    memcpy(q, p, old < size ? old : size);
    large_free(a, p);
    return q;
}

/* ---- the C library's names ---- */

EXPORT void *malloc(size_t size)
{
    void *p = size >= threshold ? large(size, 0, 0) : NULL;

    return p ? p : pw_next.malloc(size);
}

EXPORT void *calloc(size_t n, size_t each)
{
    size_t size;
    void *p = NULL;

    if (!__builtin_mul_overflow(n, each, &size) && size >= threshold)
        p = large(size, 0, PW_HEAP_ZERO);
    return p ? p : pw_next.calloc(n, each);
}

EXPORT void free(void *p)
{
    struct pw_arena *a = pw_arena_of(p);

    if (__builtin_expect(a == NULL, 1))
        pw_next.free(p);
    else
        large_free(a, p);
}

EXPORT void *realloc(void *p, size_t size)
{
    struct pw_arena *a = pw_arena_of(p);
    size_t old;

    if (!p)
        return malloc(size);
    if (a)
        return large_realloc(a, p, size);
    if (size < threshold)
        return pw_next.realloc(p, size);
    old = pw_next.usable_size(p);
    return old / 2 < threshold ? move_in(p, old, size) : pw_next.realloc(p, size);
}

EXPORT void *reallocarray(void *p, size_t n, size_t each)
{
    size_t size;

    if (__builtin_mul_overflow(n, each, &size)) {
        errno = ENOMEM;
        return NULL;
    }
    return realloc(p, size);
}

EXPORT int posix_memalign(void **out, size_t align, size_t size)
{
    void *p = size >= threshold && align % sizeof(void *) == 0 ? large_aligned(size, align)
                                                                : NULL;

    if (!p)
        return pw_next.posix_memalign(out, align, size);
    *out = p;
    return 0;
}

EXPORT void *aligned_alloc(size_t align, size_t size)
{
    void *p = size >= threshold ? large_aligned(size, align) : NULL;

    return p ? p : pw_next.aligned_alloc(align, size);
}

EXPORT void *memalign(size_t align, size_t size)
{
    void *p = size >= threshold ? large_aligned(size, align) : NULL;

    return p ? p : pw_next.memalign(align, size);
}

/* Blocks of the pool are whole pages. */
EXPORT void *valloc(size_t size)
{
    void *p = size >= threshold ? large(size, 0, 0) : NULL;

    return p ? p : pw_next.valloc(size);
}

EXPORT void *pvalloc(size_t size)
{
    void *p = size >= threshold ? large(size, 0, 0) : NULL;

    return p ? p : pw_next.pvalloc(size);
}

EXPORT size_t malloc_usable_size(void *p)
{
    struct pw_arena *a = pw_arena_of(p);

    return a ? pw_heap_usable(a->pool, p) : pw_next.usable_size(p);
}

/* ---- from start to end ---- */

void pw_malloc_describe(struct pw_malloc_info *out)
{
    struct pw_arena *a = pw_arena_now();

    *out = (struct pw_malloc_info){ .threshold = threshold, .open = a != NULL };
    if (a) {
        pw_pool_describe(a->pool, &out->pool);
        pw_heap_describe(a->pool, &out->heap);
    }
}

/* What is wrong is the same for all ranks of a host. */
static void tell_once(const char *sentence)
{
    const char *rank = getenv("OMPI_COMM_WORLD_LOCAL_RANK");

    if (!rank || !strcmp(rank, "0"))
        pw_malloc_tell(sentence);
}

__attribute__((constructor))
static void start(void)
{
    pw_next_find();
    pw_malloc_params_read(&pw_malloc_params, tell_once);
    if (pw_malloc_fork_start() || pw_arena_start()) {
        tell_once("this system cannot keep a pool apart from forked children: large "
                  "blocks are ordinary memory");
        return;
    }
    threshold = pw_malloc_params.threshold;
}

__attribute__((destructor))
static void report(void)
{
    struct pw_malloc_info i;
    char line[512];

    if (!pw_malloc_params.verbose)
        return;
    pw_malloc_describe(&i);
    snprintf(line, sizeof line,
             "process %d: %llu blocks came from a pool of %zu MiB (%s), %llu of %llu KiB are "
             "left; %llu requests (%llu KiB) did not fit; %llu KiB were given back; %llu "
             "forks copied %llu KiB",
             (int)getpid(), (unsigned long long)i.heap.taken, i.pool.size >> 20,
             i.open ? pw_pages_name(i.pool.pages) : "not opened",
             (unsigned long long)i.heap.blocks, (unsigned long long)i.heap.bytes >> 10,
             (unsigned long long)i.heap.full, (unsigned long long)i.heap.full_bytes >> 10,
             (unsigned long long)i.heap.dropped_bytes >> 10,
             (unsigned long long)i.heap.forks, (unsigned long long)i.heap.fork_bytes >> 10);
    pw_malloc_tell(line);
}
