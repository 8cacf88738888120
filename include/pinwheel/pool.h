/* SPDX-License-Identifier: BSD-3-Clause */
/* pool.h - one shared segment of large pages per process, handed out in pages.
 *
 * The segment is anonymous (memfd, or an O_TMPFILE where memfd is refused): it
 * has no name, is passed to peers as a descriptor, and is gone with its last
 * user, kill -9 included. Memory handed out is populated, so that touching it
 * cannot fail later; it lies on the NUMA node of the thread that first got it, or
 * where that thread's memory policy said (set_mempolicy(2), numactl(8)), and stays
 * there when it is freed and handed out again. The allocator's books are private to
 * the process: a peer that writes where it should not cannot break them.
 *
 * All functions may be called by any thread unless said otherwise. None may be
 * called from a signal handler.
 *
 * A fork()ed child shares the memory, and its exit takes nothing away. The books
 * stay the parent's: the child must not alloc or free.
 */
#ifndef PINWHEEL_POOL_H
#define PINWHEEL_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(default)
#ifdef __cplusplus
extern "C" {
#endif

struct pw_pool;

/* What a struct pw_pool begins with, for pw_pool_contains() alone. */
struct pw_pool_range {
    uintptr_t base;
    size_t size;
};

/* What backs the segment. AUTO takes the first that works of KDRIVER, 2M, 1G, THP, 4K;
 * and 1G only for pools of 1 GiB and more, of which it takes whole pages. */
enum pw_pages {
    PW_PAGES_AUTO,
    PW_PAGES_2M,    /* hugetlbfs pages of 2 MiB, reserved by the administrator */
    PW_PAGES_THP,   /* transparent huge pages, by MADV_COLLAPSE */
    PW_PAGES_4K,
    PW_PAGES_KDRIVER,   /* pinned hugepages of the kernel driver (kdriver.h) */
    PW_PAGES_1G,    /* hugetlbfs pages of 1 GiB. The first byte of one takes all of it */
};

/* The min_size of MPI jobs, and of pw_pool_probe(). */
#define PW_POOL_SHARE_LEAST ((size_t)16 << 20)

struct pw_pool_config {
    size_t size;            /* bytes of address space; 0 = half of RAM divided
                             * by sharers. Rounded up to 2 MiB, or 1 GiB: what the
                             * kind has. Pages are only taken as they are handed
                             * out. */
    enum pw_pages pages;    /* a fixed kind that this machine refuses is an
                             * error; AUTO never is */
    unsigned sharers;       /* processes of this host that open a pool too (0
                             * counts as 1): reserved hugepages are split, and so
                             * is what this user may have pinned */
    size_t min_size;        /* the least that is of use; KDRIVER, 2M and 1G are
                             * passed over by AUTO when the share is smaller; 1G
                             * also when it is smaller than a size other than 0 */
};

struct pw_pool_info {
    enum pw_pages pages;    /* never AUTO */
    size_t size, used;      /* bytes */
    char why[256];          /* why not the better kinds, a sentence; "" if best.
                             * That there is no driver is no reason */
};

/* Make the segment.
 * 0, or -EINVAL  size not representable, unknown kind
 *       -ENOMEM  the kind asked for cannot be had; *out is NULL
 *       -errno   of memfd_create, ftruncate or mmap; see their manual pages
 */
int pw_pool_open(const struct pw_pool_config *config, struct pw_pool **out);

/* Unmap and forget; memory still handed out becomes invalid. NULL is fine.
 * No other thread may be in a call on this pool. */
void pw_pool_close(struct pw_pool *pool);

/* size bytes (> 0), starting on a 4 KiB page, or on `align` (0, or a power of two
 * up to 2 MiB) when that is larger; sizes of 2 MiB and up start on 2 MiB. Contents
 * are undefined. Populated: a first touch takes no page fault and cannot fail.
 * NULL when the pool is full, the machine is out of memory, size is 0, or align
 * is no such value. Memory given back stays with the pool for the next caller. */
void *pw_pool_alloc(struct pw_pool *pool, size_t size, size_t align);

/* The same without memory behind it: none of it may be touched before pw_pool_back()
 * was called for that part. Given back by pw_pool_free(). */
void *pw_pool_reserve(struct pw_pool *pool, size_t size, size_t align);

/* Put memory behind [ptr, ptr + len), len > 0, of a live allocation; what is there stays.
 * little: behind those pages alone, where the pool's kind has small ones; else in the
 * kind's own units around them, as pw_pool_alloc() does.
 * 0, or -EINVAL not inside the pool, or -errno: no memory. */
int pw_pool_back(struct pw_pool *pool, void *ptr, size_t len, bool little);

/* Give back what pw_pool_alloc() or pw_pool_reserve() returned; NULL is fine.
 * 0, or -EINVAL when ptr is not a live allocation (nothing is changed). */
int pw_pool_free(struct pw_pool *pool, void *ptr);

/* Usable bytes of a live allocation, 0 when it is none. */
size_t pw_pool_usable(struct pw_pool *pool, const void *ptr);

/* Widen [*start, *end), inside the pool, to all memory around it that the pool has put
 * behind its addresses, but not beyond the multiples of `within` (a power of two, from 2 MiB
 * on) around it. As it was where part of it has no memory in the kind's own units. */
void pw_pool_extent(const struct pw_pool *pool, size_t within, uintptr_t *start,
                    uintptr_t *end);

/* Somebody has pinned the pool's pages: memory that a program's heap frees (heap.h)
 * stays behind its addresses until all who held let go, for pages that came anew
 * would be others than the pinned ones. Counted. */
void pw_pool_hold(struct pw_pool *pool);
void pw_pool_release(struct pw_pool *pool);

/* Fixed while the pool is open. The descriptor stays the pool's own. */
int pw_pool_fd(const struct pw_pool *pool);
void *pw_pool_base(const struct pw_pool *pool);
size_t pw_pool_size(const struct pw_pool *pool);

/* Is [addr, addr + len) wholly inside the segment? Inline: on every send. An
 * address below base wraps round to an offset beyond any size. */
static inline bool pw_pool_contains(const struct pw_pool *pool, const void *addr,
                                    size_t len)
{
    const struct pw_pool_range *r = (const struct pw_pool_range *)(const void *)pool;
    uintptr_t offset = (uintptr_t)addr - r->base;

    return offset < r->size && len <= r->size - offset;
}

void pw_pool_describe(struct pw_pool *pool, struct pw_pool_info *out);

/* The NUMA nodes that memory handed out so far lies on, as "0" or "0,2", in at most room
 * bytes (> 0). "" on a machine with one node, and where the kernel does not tell
 * (move_pages(2)). A heap's memory that came by touch (heap.h) is left out. Takes some
 * microseconds for each 2 MiB. */
void pw_pool_nodes(struct pw_pool *pool, char *list, size_t room);

/* "pinned hugepages of /dev/pinwheel", "2 MiB hugepages", "1 GiB hugepages",
 * "transparent hugepages", "4 KiB pages", "auto". */
const char *pw_pages_name(enum pw_pages pages);

/* A peer's segment, mapped read and write at an address of our own.
 * 0, or -EINVAL  fd is smaller than size: touching it would be a SIGBUS; or size is not
 *                in whole pages of it
 *       -errno   of fstat or mmap. fd stays the caller's. */
int pw_pool_map(int fd, size_t size, void **base);
void pw_pool_unmap(void *base, size_t size);

/* Is fd, given by a peer that may want to harm us, a file that nobody can make smaller
 * while we look at it? A memfd sealed against that, or a pool of the driver's. */
bool pw_pool_steady(int fd);

/* What AUTO would take on this machine for a pool of default size that is nobody else's,
 * of PW_POOL_SHARE_LEAST at least, and why not the rest: for pwinfo. Makes and closes a
 * small pool. Returns as pw_pool_open(). */
int pw_pool_probe(struct pw_pool_info *out);

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop

#endif
