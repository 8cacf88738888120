/* SPDX-License-Identifier: BSD-3-Clause */
/* heap.h - a program's large blocks in the pool: what a malloc needs beyond pool.h.
 *
 * Blocks differ from what pw_pool_alloc() gives in three ways. Their memory may
 * come at the first touch, for programs ask for more than they use. What is freed
 * goes back to the system beyond a bound, unless somebody holds the pool
 * (pw_pool_hold()). And a child of fork() gets copies of them, as it would of any
 * heap, while it shares the rest of the pool.
 *
 * Nothing here calls malloc. Any thread unless said otherwise; not from signal
 * handlers.
 */
#ifndef PINWHEEL_HEAP_H
#define PINWHEEL_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pinwheel/pool.h"

#pragma GCC visibility push(default)
#ifdef __cplusplus
extern "C" {
#endif

/* SIZE_MAX: the default. */
struct pw_heap_config {
    size_t retain;      /* bytes of freed memory that are kept for the next block;
                         * default a sixteenth of the pool */
    size_t populate;    /* bytes that blocks get at once, in huge pages where the
                         * pool has those; blocks beyond get memory page by page at
                         * first touch. Default the same */
};

struct pw_heap_stats {
    uint64_t blocks, bytes;             /* live now, in whole pages */
    uint64_t taken;                     /* blocks handed out so far */
    uint64_t full, full_bytes;          /* requests that did not fit */
    uint64_t dropped_bytes;             /* given back to the system so far */
    uint64_t forks, fork_bytes;         /* children that got copies, bytes copied */
};

/* Let the pool serve a heap. From then on kinds of fork that pw_heap_fork_*() do
 * not accompany leave the child without the pool's addresses, so that it cannot
 * write into the parent's heap. An eighth of the pool, at least 4 MiB, is left to
 * others. 0, or -errno of madvise; -EBUSY when it does already. */
int pw_heap_open(struct pw_pool *pool, const struct pw_heap_config *config);

enum pw_heap_flag {
    PW_HEAP_ZERO = 1,   /* all bytes are 0 */
    PW_HEAP_GROWS = 2,  /* put it where it can grow, see pw_heap_resize() */
};

/* As pw_pool_alloc(), but for the above. NULL when it does not fit. */
void *pw_heap_alloc(struct pw_pool *pool, size_t size, size_t align, unsigned flags);

/* 0, or -EINVAL when no block starts at ptr. */
int pw_heap_free(struct pw_pool *pool, void *ptr);

/* Make a block size bytes long where it is.
 * 0, or -ENOMEM  what follows it is taken
 *       -EINVAL  no block starts at ptr, or size is 0 */
int pw_heap_resize(struct pw_pool *pool, void *ptr, size_t size);

/* Have memory behind [addr, addr + len) of the pool now, as if this thread touched all
 * of it first: it then lies on this thread's NUMA node, or where its memory policy says.
 * For what a peer is about to write, whose own node it would be on otherwise. In whole
 * huge pages where the pool has those; costs no system call when it is there.
 * 0, or -errno of madvise: not all of it has memory yet, nothing is lost. */
int pw_heap_touch(struct pw_pool *pool, const void *addr, size_t len);

/* Usable bytes of a block, 0 when none starts at ptr. */
size_t pw_heap_usable(struct pw_pool *pool, const void *ptr);

void pw_heap_describe(struct pw_pool *pool, struct pw_heap_stats *out);

/* Around fork(), in this order and on the thread that forks; signals are best
 * blocked until the last. prepare copies the live blocks. Between prepare and
 * parent no other thread can take or free a block, and where the kernel lets us
 * stop them (see still.h) none can write to one: the copies are then of one
 * moment. A peer's writes are not stopped.
 *
 * prepare: 0, or -errno of mmap: there are no copies. parent or child must follow
 * all the same, and the child has not got the blocks.
 * child: 0, or -errno of mremap: the blocks are not there. The pool then knows the
 * blocks it had, for pw_heap_free(), pw_heap_usable() and a resize that shrinks;
 * nothing else is to be called on it. */
enum pw_heap_fork {
    PW_HEAP_ALONE = 1,      /* there are no other threads */
    PW_HEAP_NO_COPIES = 2,  /* the child does without the blocks: it cannot read or
                             * write there */
};
int pw_heap_fork_prepare(struct pw_pool *pool, unsigned flags);
void pw_heap_fork_parent(struct pw_pool *pool);
int pw_heap_fork_child(struct pw_pool *pool);

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop
#endif
