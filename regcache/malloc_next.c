/* SPDX-License-Identifier: BSD-3-Clause */
/* malloc_next.c - the allocator behind ours. See malloc_next.h.
 *
 * Found by RTLD_NEXT and not under the C library's own names (__libc_malloc), for
 * with jemalloc or tcmalloc behind us small blocks are theirs. The dynamic linker
 * calls malloc before any constructor runs, so the table starts with functions
 * that look the others up first. dlsym() may itself allocate: while it runs,
 * memory comes from a few pages of our own, which are not given back.
 */
#define _GNU_SOURCE
#include "malloc_next.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- while dlsym() runs ---- */

static char early[16384] __attribute__((aligned(16)));
static size_t early_used;
static bool finding;

static bool is_early(const void *p)
{
    return (uintptr_t)p - (uintptr_t)early < sizeof early;
}

static void *early_take(size_t size)
{
    void *p = early + early_used;

    if (size > sizeof early - early_used) {
        errno = ENOMEM;
        return NULL;
    }
    early_used += (size + 15) & ~(size_t)15;
    return p;
}

/* ---- the first calls ---- */

static void *first_malloc(size_t size)
{
    if (finding)
        return early_take(size);
    pw_next_find();
    return pw_next.malloc(size);
}

static void *first_calloc(size_t n, size_t size)
{
    if (finding)
        return size && n > sizeof early / size ? NULL : early_take(n * size);
    pw_next_find();
    return pw_next.calloc(n, size);
}

static void *first_realloc(void *p, size_t size)
{
    if (finding)
        return p ? NULL : early_take(size);
    pw_next_find();
    return pw_next.realloc(p, size);
}

static void first_free(void *p)
{
    if (finding)
        return;
    pw_next_find();
    pw_next.free(p);
}

static void *first_memalign(size_t align, size_t size)
{
    pw_next_find();
    return pw_next.memalign(align, size);
}

static void *first_aligned_alloc(size_t align, size_t size)
{
    pw_next_find();
    return pw_next.aligned_alloc(align, size);
}

static int first_posix_memalign(void **p, size_t align, size_t size)
{
    pw_next_find();
    return pw_next.posix_memalign(p, align, size);
}

static void *first_valloc(size_t size)
{
    pw_next_find();
    return pw_next.valloc(size);
}

static void *first_pvalloc(size_t size)
{
    pw_next_find();
    return pw_next.pvalloc(size);
}

static size_t first_usable_size(void *p)
{
    pw_next_find();
    return pw_next.usable_size(p);
}

static pid_t first_fork(void)
{
    pw_next_find();
    return pw_next.fork();
}

struct pw_next pw_next = {
    .malloc = first_malloc, .calloc = first_calloc, .realloc = first_realloc,
    .free = first_free, .memalign = first_memalign, .aligned_alloc = first_aligned_alloc,
    .posix_memalign = first_posix_memalign, .valloc = first_valloc,
    .pvalloc = first_pvalloc, .usable_size = first_usable_size, .fork = first_fork,
};

/* ---- finding ---- */

/* What early_take() gave outlives the search. */
static void (*found_free)(void *);
static void *(*found_realloc)(void *, size_t);

static void later_free(void *p)
{
    if (!is_early(p))
        found_free(p);
}

static void *later_realloc(void *p, size_t size)
{
    size_t most = (size_t)(early + sizeof early - (char *)p);
    void *q;

    if (!is_early(p))
        return found_realloc(p, size);
    q = pw_next.malloc(size);
    return q ? memcpy(q, p, size < most ? size : most) : NULL;
}

static void *find(const char *name)
{
    void *f = dlsym(RTLD_NEXT, name);
    static const char gone[] = "pinwheel-malloc: no allocator behind it\n";

    if (!f) {
        (void)!write(STDERR_FILENO, gone, sizeof gone - 1);
        abort();
    }
    return f;
}

void pw_next_find(void)
{
    struct pw_next next;

    finding = true;
    next.malloc = find("malloc");
    next.calloc = find("calloc");
    next.realloc = find("realloc");
    next.free = find("free");
    next.memalign = find("memalign");
    next.aligned_alloc = find("aligned_alloc");
    next.posix_memalign = find("posix_memalign");
    next.valloc = find("valloc");
    next.pvalloc = find("pvalloc");
    next.usable_size = find("malloc_usable_size");
    next.fork = find("fork");
    finding = false;

    if (early_used) {
        found_free = next.free;
        found_realloc = next.realloc;
        next.free = later_free;
        next.realloc = later_realloc;
    }
    pw_next = next;
}
