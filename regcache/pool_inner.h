/* SPDX-License-Identifier: BSD-3-Clause */
/* pool_inner.h - the pool's own structure, for the files that are the pool.
 *
 *     pool.c       pages for those who ask the pool
 *     choose.c     which kind of page it has
 *     heap.c       blocks of a program's malloc
 *     heap_fork.c  a forked child's copies of those blocks
 */
#ifndef PINWHEEL_POOL_INNER_H
#define PINWHEEL_POOL_INNER_H

#include <pthread.h>

#include "books.h"
#include "pages.h"
#include "pinwheel/heap.h"
#include "pinwheel/pool.h"
#include "populate.h"
#include "segment.h"
#include "still.h"

#define PW_PAGE_SHIFT 12

/* Marks of runs in the books: MPI_Alloc_mem and queues have none. */
enum { PW_RUN_HEAP = 1 };

/* Bytes of the pool that a child is to have, and the parent's copy of them. */
struct pw_piece {
    size_t offset, len;
    char *copy;
};

/* From prepare to the end of a fork. */
struct pw_snapshot {
    struct pw_piece *piece;
    size_t n, room;             /* pieces; there is room for */
    struct pw_still still;
    int err;                    /* why there are no copies */
};

enum pw_heap_state {
    PW_HEAP_NONE,       /* the pool serves no malloc */
    PW_HEAP_OPEN,
    PW_HEAP_INHERITED,  /* this is a child: blocks are private copies, none new */
};

struct pw_heap {
    enum pw_heap_state state;
    bool prompt;                /* memory must come before a block is handed out */
    uint32_t retain;            /* pages */
    uint32_t reserve;           /* pages that are not the heap's to take */
    size_t populate, populated; /* bytes: may be, are */
    struct pw_heap_stats stats;
    struct pw_snapshot snapshot;
};

struct pw_pool {
    struct pw_pool_range range;     /* first: pw_pool_contains() */
    struct pw_segment seg;
    struct pw_populate populate;
    enum pw_pages pages;
    struct pw_why why;

    pthread_mutex_t lock;
    struct pw_books books;
    struct pw_heap heap;
    unsigned holds;                 /* who needs the pages to stay */
    unsigned dropping;              /* threads that give memory back right now */
};

/* What is asked for, in the terms of all kinds. */
struct pw_wanted {
    enum pw_pages pages;
    size_t size, min_size;      /* size: a multiple of PW_HUGE */
    size_t at_most;             /* bytes, whatever size is: of a probe, which needs little */
    bool all;                   /* the caller said a size, and did not leave it to us */
    unsigned sharers;           /* at least 1 */
};

/* 0, or -EINVAL as pw_pool_open(). */
int pw_wanted_read(struct pw_wanted *w, const struct pw_pool_config *config,
                   const struct pw_sys *sys);

/* Makes pool->seg, and says of what in pool->pages and why in pool->why. Returns as
 * pw_pool_open(). */
int pw_pool_choose(struct pw_pool *pool, const struct pw_wanted *w, const struct pw_sys *sys);

/* A run that serves size bytes, or -EINVAL. */
struct pw_pool_place {
    uint32_t pages, align;
};
int pw_pool_run(const struct pw_pool *pool, size_t size, size_t align,
                struct pw_pool_place *out);

/* The page that starts at ptr, or PW_BOOKS_NONE. */
static inline uint32_t pw_pool_page(const struct pw_pool *pool, const void *ptr)
{
    uintptr_t offset = (uintptr_t)ptr - pool->range.base;

    if (offset >= pool->range.size || offset % PW_PAGE)
        return PW_BOOKS_NONE;
    return (uint32_t)(offset >> PW_PAGE_SHIFT);
}

/* A block of that many pages is given back. Under pool->lock. */
void pw_heap_left(struct pw_pool *pool, uint32_t pages);

#endif
