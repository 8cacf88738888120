/* SPDX-License-Identifier: BSD-3-Clause */
/* pool.c - one shared segment per process, handed out in pages.
 *
 * Start at pw_pool_alloc(): the books (books.c) choose page numbers, populate.c
 * puts memory behind them. Opening chooses the kind of page (choose.c) and makes
 * the segment (segment.c).
 *
 * pool->lock guards the books, nothing else, and is not held while the kernel
 * populates: zeroing a gigabyte takes a while. What no other thread may see
 * half done needs no lock: a run belongs to its taker alone from take to give.
 *
 * Nothing here calls malloc: a pool can serve one.
 */
#define _GNU_SOURCE
#include "pinwheel/pool.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "pool_inner.h"
#include "pool_sys.h"

static int pool_make(const struct pw_wanted *w, const struct pw_sys *sys, struct pw_pool **out)
{
    struct pw_pool *pool;
    int err;

    pool = mmap(NULL, sizeof *pool, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                -1, 0);
    if (pool == MAP_FAILED)
        return -ENOMEM;

    err = pw_pool_choose(pool, w, sys);
    if (err)
        goto unmap;
    err = pw_populate_init(&pool->populate, sys, &pool->seg, pool->pages);
    if (err)
        goto segment;
    err = pw_books_init(&pool->books, sys, (uint32_t)(pool->seg.size >> PW_PAGE_SHIFT));
    if (err)
        goto populate;

    pthread_mutex_init(&pool->lock, NULL);
    pool->range = (struct pw_pool_range){ (uintptr_t)pool->seg.base, pool->seg.size };
    *out = pool;
    return 0;

populate:
    pw_populate_fini(&pool->populate);
segment:
    pw_segment_destroy(&pool->seg);
unmap:
    munmap(pool, sizeof *pool);
    return err;
}

int pw_pool_open_sys(const struct pw_pool_config *config, const struct pw_sys *sys,
                     struct pw_pool **out)
{
    struct pw_wanted w;
    int err = pw_wanted_read(&w, config, sys);

    *out = NULL;
    return err ? err : pool_make(&w, sys, out);
}

int pw_pool_open(const struct pw_pool_config *config, struct pw_pool **out)
{
    return pw_pool_open_sys(config, &pw_sys_real, out);
}

void pw_pool_close(struct pw_pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_destroy(&pool->lock);
    pw_books_fini(&pool->books);
    pw_populate_fini(&pool->populate);
    pw_segment_destroy(&pool->seg);
    munmap(pool, sizeof *pool);
}

static uint32_t pool_take(struct pw_pool *pool, uint32_t pages, uint32_t align)
{
    uint32_t first;

    pthread_mutex_lock(&pool->lock);
    first = pw_books_take(&pool->books, pages, align);
    pthread_mutex_unlock(&pool->lock);
    return first;
}

static int pool_give(struct pw_pool *pool, uint32_t first)
{
    int err;

    pthread_mutex_lock(&pool->lock);
    if (pw_books_marked(&pool->books, first) == PW_RUN_HEAP)
        pw_heap_left(pool, pw_books_length(&pool->books, first));
    err = pw_books_give(&pool->books, first);
    pthread_mutex_unlock(&pool->lock);
    return err;
}

int pw_pool_run(const struct pw_pool *pool, size_t size, size_t align,
                struct pw_pool_place *out)
{
    if (size == 0 || size > pool->seg.size || align > PW_HUGE || (align & (align - 1)))
        return -EINVAL;
    if (align < PW_PAGE)
        align = PW_PAGE;
    if (size >= PW_HUGE)
        align = PW_HUGE;
    out->pages = (uint32_t)((size + PW_PAGE - 1) >> PW_PAGE_SHIFT);
    out->align = (uint32_t)(align >> PW_PAGE_SHIFT);
    return 0;
}

void *pw_pool_reserve(struct pw_pool *pool, size_t size, size_t align)
{
    struct pw_pool_place want;
    uint32_t first;

    if (pw_pool_run(pool, size, align, &want))
        return NULL;
    first = pool_take(pool, want.pages, want.align);
    return first == PW_BOOKS_NONE ? NULL
                                  : pool->seg.base + ((size_t)first << PW_PAGE_SHIFT);
}

int pw_pool_back(struct pw_pool *pool, void *ptr, size_t len, bool little)
{
    size_t offset = (size_t)((char *)ptr - pool->seg.base);

    if (!len || !pw_pool_contains(pool, ptr, len))
        return -EINVAL;
    return little ? pw_populate_little(&pool->populate, offset, len)
                  : pw_populate(&pool->populate, offset, len);
}

void *pw_pool_alloc(struct pw_pool *pool, size_t size, size_t align)
{
    void *p = pw_pool_reserve(pool, size, align);

    if (p && pw_pool_back(pool, p, size, false)) {
        pw_pool_free(pool, p);
        return NULL;
    }
    return p;
}

int pw_pool_free(struct pw_pool *pool, void *ptr)
{
    return ptr ? pool_give(pool, pw_pool_page(pool, ptr)) : 0;
}

size_t pw_pool_usable(struct pw_pool *pool, const void *ptr)
{
    uint32_t pages;

    pthread_mutex_lock(&pool->lock);
    pages = pw_books_length(&pool->books, pw_pool_page(pool, ptr));
    pthread_mutex_unlock(&pool->lock);
    return (size_t)pages << PW_PAGE_SHIFT;
}

void pw_pool_extent(const struct pw_pool *pool, size_t within, uintptr_t *start,
                    uintptr_t *end)
{
    size_t base = (uintptr_t)pool->seg.base, from = *start - base, to = *end - base;
    size_t least = from & ~(within - 1), most = (to + within - 1) & ~(within - 1);

    if (most > pool->seg.size)
        most = pool->seg.size;
    pw_populate_extent(&pool->populate, least, most, &from, &to);
    *start = base + from;
    *end = base + to;
}

/* Whoever gives memory back does so without the lock, and is done soon. */
void pw_pool_hold(struct pw_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->holds++;
    while (pool->dropping) {
        pthread_mutex_unlock(&pool->lock);
        sched_yield();
        pthread_mutex_lock(&pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
}

void pw_pool_release(struct pw_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->holds--;
    pthread_mutex_unlock(&pool->lock);
}

int pw_pool_fd(const struct pw_pool *pool)
{
    return pool->seg.fd;
}

void *pw_pool_base(const struct pw_pool *pool)
{
    return pool->seg.base;
}

size_t pw_pool_size(const struct pw_pool *pool)
{
    return pool->seg.size;
}

void pw_pool_describe(struct pw_pool *pool, struct pw_pool_info *out)
{
    *out = (struct pw_pool_info){ .pages = pool->pages, .size = pool->seg.size };
    memcpy(out->why, pool->why.text, sizeof out->why);

    pthread_mutex_lock(&pool->lock);
    out->used = (size_t)pool->books.used << PW_PAGE_SHIFT;
    pthread_mutex_unlock(&pool->lock);
}

/* What MPI makes, but for its size. */
int pw_pool_probe_sys(const struct pw_sys *sys, struct pw_pool_info *out)
{
    const struct pw_pool_config config = { .min_size = PW_POOL_SHARE_LEAST };
    struct pw_pool *pool;
    struct pw_wanted w;
    int err = pw_wanted_read(&w, &config, sys);

    w.at_most = PW_HUGE;
    if (!err)
        err = pool_make(&w, sys, &pool);
    if (err)
        return err;
    pw_pool_describe(pool, out);
    pw_pool_close(pool);
    return 0;
}

int pw_pool_probe(struct pw_pool_info *out)
{
    return pw_pool_probe_sys(&pw_sys_real, out);
}

/* A peer's memory does not belong into our core dump: n ranks would write it n
 * times. */
int pw_pool_map_sys(const struct pw_sys *sys, int fd, size_t size, void **base)
{
    struct stat st;
    int err;

    if (fstat(fd, &st))
        return -errno;
    if (size == 0 || st.st_size < 0 || (size_t)st.st_size < size)
        return -EINVAL;
    err = pw_segment_map(sys, fd, size, true, base);
    if (err)
        return err;
    sys->madvise(*base, size, MADV_DONTDUMP);
    return 0;
}

int pw_pool_map(int fd, size_t size, void **base)
{
    return pw_pool_map_sys(&pw_sys_real, fd, size, base);
}

void pw_pool_unmap(void *base, size_t size)
{
    munmap(base, size);
}

bool pw_pool_steady(int fd)
{
    return pw_segment_steady(&pw_sys_real, fd);
}
