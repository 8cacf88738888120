/* SPDX-License-Identifier: BSD-3-Clause */
/* heap.c - blocks of a program's malloc, in the pool.
 *
 * Start at pw_heap_alloc(). A block is a run of the books with a mark. What makes
 * it a heap:
 *
 * - Memory. Touching a 2 MiB piece of the segment page by page costs 1140 us and
 *   dropping it again 290, as one huge page 130 and 6 (Linux 6.18, 2-core EPYC
 *   virtual machine; private memory without huge pages takes 760 and 105). So
 *   blocks are populated at once, which a program that never touches them pays
 *   with memory: up to a bound. Beyond it memory comes by touch.
 * - Zeros. The books know which pages were handed out before; all others are zero.
 * - Giving back. What a free brings above the bound `retain' goes back to the
 *   system, in whole units of the segment that are free as a whole. A run that is
 *   being given back is nobody's: it is claimed from the books meanwhile, for the
 *   kernel takes its time and pool->lock is not held.
 *
 * Always true: a touch of a block does not fail for a limit of ours. Where it
 * could (no memfd, strict overcommit) the block is populated, or not handed out.
 */
#define _GNU_SOURCE
#include "pinwheel/heap.h"

#include <errno.h>
#include <string.h>

#include "bits.h"
#include "pool_inner.h"

static const size_t reserve_least = (size_t)4 << 20;

static uint32_t pages_of(size_t bytes)
{
    return (uint32_t)((bytes + PW_PAGE - 1) >> PW_PAGE_SHIFT);
}

/* With vm.overcommit_memory=2 a page that is one too many is a SIGBUS, not an
 * error of malloc; so is one of the driver's beyond what the user may have pinned.
 * Reserved hugepages are ours already. */
static bool touch_can_fail(const struct pw_pool *pool)
{
    char text[16];

    if (pw_segment_reserved(&pool->seg))
        return false;
    if (pool->seg.limited)
        return true;
    return !pool->populate.sys->read_text("/proc/sys/vm/overcommit_memory", text,
                                          sizeof text) && *text == '2';
}

int pw_heap_open(struct pw_pool *pool, const struct pw_heap_config *config)
{
    size_t size = pool->seg.size, retain = config->retain, reserve = size / 8;
    struct pw_heap heap = { .populate = config->populate, .snapshot.still.fd = -1 };
    int err = 0;

    if (retain == SIZE_MAX)
        retain = size / 16;
    if (heap.populate == SIZE_MAX)
        heap.populate = size / 16;
    if (reserve < reserve_least)
        reserve = reserve_least;
    heap.retain = pages_of(retain < size ? retain : size);
    heap.reserve = pages_of(reserve < size ? reserve : size);
    heap.prompt = touch_can_fail(pool);
    heap.state = PW_HEAP_OPEN;

    pthread_mutex_lock(&pool->lock);
    if (pool->heap.state != PW_HEAP_NONE)
        err = -EBUSY;
    else if (pool->populate.sys->madvise(pool->seg.base, size, MADV_DONTFORK))
        err = -errno;
    else
        pool->heap = heap;
    pthread_mutex_unlock(&pool->lock);
    return err;
}

/* Under the lock: is [offset, len) to be populated at once, on the heap's account
 * of *bytes? */
static bool populate_due(struct pw_pool *pool, size_t offset, size_t len, size_t *bytes)
{
    struct pw_heap *heap = &pool->heap;

    *bytes = pw_populate_missing(&pool->populate, offset, len);
    if (!heap->prompt && (heap->populated > heap->populate ||
                          *bytes > heap->populate - heap->populated))
        return false;
    heap->populated += *bytes;
    return *bytes > 0;
}

static int populate_now(struct pw_pool *pool, size_t offset, size_t len, size_t bytes)
{
    int err = pw_populate(&pool->populate, offset, len);

    if (!err)
        return 0;
    pthread_mutex_lock(&pool->lock);
    pool->heap.populated -= bytes;
    pthread_mutex_unlock(&pool->lock);
    return pool->heap.prompt ? err : 0;
}

static bool heap_has_room(const struct pw_pool *pool, uint32_t pages)
{
    const struct pw_books *b = &pool->books;

    return pool->heap.state == PW_HEAP_OPEN && b->pages - b->used >= pool->heap.reserve &&
           pages <= b->pages - b->used - pool->heap.reserve;
}

/* Taken twice as long and cut, a run has free pages behind it. */
static uint32_t take_with_room(struct pw_books *b, const struct pw_pool_place *want)
{
    uint32_t first = PW_BOOKS_NONE;

    if (want->pages <= (b->pages - b->used) / 4)
        first = pw_books_take(b, 2 * want->pages, want->align);
    if (first != PW_BOOKS_NONE) {
        pw_books_split(b, first, want->pages);
        pw_books_undo(b, first + want->pages);
    }
    return first;
}

static uint32_t heap_take(struct pw_pool *pool, const struct pw_pool_place *want,
                          unsigned flags)
{
    uint32_t first = PW_BOOKS_NONE;

    if (heap_has_room(pool, want->pages)) {
        if (flags & PW_HEAP_GROWS)
            first = take_with_room(&pool->books, want);
        if (first == PW_BOOKS_NONE)
            first = pw_books_take(&pool->books, want->pages, want->align);
    }
    if (first == PW_BOOKS_NONE) {
        pool->heap.stats.full++;
        pool->heap.stats.full_bytes += (uint64_t)want->pages << PW_PAGE_SHIFT;
        return first;
    }
    pw_books_mark(&pool->books, first, PW_RUN_HEAP);
    pool->heap.stats.taken++;
    pool->heap.stats.blocks++;
    pool->heap.stats.bytes += (uint64_t)want->pages << PW_PAGE_SHIFT;
    return first;
}

/* The bits of a live run stay as they are, so no lock. */
static void wipe(struct pw_pool *pool, uint32_t first, uint32_t pages)
{
    size_t end = first + pages, at = pw_bits_find(pool->books.worn, first, end, true);

    while (at < end) {
        size_t to = pw_bits_find(pool->books.worn, at, end, false);

        memset(pool->seg.base + (at << PW_PAGE_SHIFT), 0, (to - at) << PW_PAGE_SHIFT);
        at = pw_bits_find(pool->books.worn, to, end, true);
    }
}

void *pw_heap_alloc(struct pw_pool *pool, size_t size, size_t align, unsigned flags)
{
    struct pw_pool_place want;
    size_t offset, len, bytes = 0;
    uint32_t first;
    bool due;

    if (pw_pool_run(pool, size, align, &want))
        return NULL;

    pthread_mutex_lock(&pool->lock);
    first = heap_take(pool, &want, flags);
    offset = (size_t)first << PW_PAGE_SHIFT;
    len = (size_t)want.pages << PW_PAGE_SHIFT;
    due = first != PW_BOOKS_NONE && populate_due(pool, offset, len, &bytes);
    pthread_mutex_unlock(&pool->lock);
    if (first == PW_BOOKS_NONE)
        return NULL;

    if (due && populate_now(pool, offset, len, bytes)) {
        pw_pool_free(pool, pool->seg.base + offset);
        return NULL;
    }
    if (flags & PW_HEAP_ZERO)
        wipe(pool, first, want.pages);
    return pool->seg.base + offset;
}

void pw_heap_left(struct pw_pool *pool, uint32_t pages)
{
    pool->heap.stats.blocks--;
    pool->heap.stats.bytes -= (uint64_t)pages << PW_PAGE_SHIFT;
}

/* The whole units that [first, first + n) touches and the hole around it holds:
 * of those as many, from the end, as the bound is exceeded by. */
static struct pw_books_run surplus(const struct pw_pool *pool, struct pw_books_run hole,
                                   uint32_t first, uint32_t n)
{
    uint32_t unit = 1u << (pool->populate.shift - PW_PAGE_SHIFT), mask = ~(unit - 1);
    uint32_t low = first & mask, high = (first + n + unit - 1) & mask, much;

    if (pool->holds || pw_segment_reserved(&pool->seg) ||
        pool->books.worn_free <= pool->heap.retain)
        return (struct pw_books_run){ 0, 0 };
    much = (pool->books.worn_free - pool->heap.retain + unit - 1) & mask;
    if (low < hole.first)
        low += unit;
    if (high > hole.first + hole.n)
        high -= unit;
    if (low >= high)
        return (struct pw_books_run){ 0, 0 };
    if (high - low > much)
        low = high - much;
    return (struct pw_books_run){ low, high - low };
}

/* Give back to the system, and to the books. Under the lock, which is let go. */
static void drop(struct pw_pool *pool, struct pw_books_run hole, struct pw_books_run run)
{
    size_t offset = (size_t)run.first << PW_PAGE_SHIFT, missed;
    size_t len = (size_t)run.n << PW_PAGE_SHIFT;
    int err = pw_books_claim(&pool->books, hole, run.first, run.n);

    if (err)
        return;
    pool->dropping++;
    pthread_mutex_unlock(&pool->lock);
    err = pw_populate_drop(&pool->populate, offset, len, &missed);
    pthread_mutex_lock(&pool->lock);
    pool->dropping--;
    pool->heap.populated -= missed < pool->heap.populated ? missed : pool->heap.populated;
    pw_books_undo(&pool->books, run.first);
    if (!err) {
        pw_books_refresh(&pool->books, run.first, run.n);
        pool->heap.stats.dropped_bytes += len;
    }
}

/* Under the lock. */
static void heap_give(struct pw_pool *pool, uint32_t first)
{
    uint32_t n = pw_books_length(&pool->books, first);
    struct pw_books_run hole, much;

    pw_heap_left(pool, n);
    pw_books_give_into(&pool->books, first, &hole);
    if (pool->heap.state == PW_HEAP_INHERITED) {
        madvise(pool->seg.base + ((size_t)first << PW_PAGE_SHIFT),
                (size_t)n << PW_PAGE_SHIFT, MADV_DONTNEED);
        return;
    }
    much = surplus(pool, hole, first, n);
    if (much.n)
        drop(pool, hole, much);
}

int pw_heap_free(struct pw_pool *pool, void *ptr)
{
    uint32_t first = pw_pool_page(pool, ptr);
    bool ours;

    pthread_mutex_lock(&pool->lock);
    ours = pw_books_marked(&pool->books, first) == PW_RUN_HEAP;
    if (ours)
        heap_give(pool, first);
    pthread_mutex_unlock(&pool->lock);
    return ours ? 0 : -EINVAL;
}

/* Under the lock. */
static int heap_shrink(struct pw_pool *pool, uint32_t first, uint32_t pages)
{
    pw_books_split(&pool->books, first, pages);
    pool->heap.stats.blocks++;
    heap_give(pool, first + pages);
    return 0;
}

static int heap_grow(struct pw_pool *pool, uint32_t first, uint32_t old, uint32_t pages)
{
    int err;

    if (!heap_has_room(pool, pages - old))
        return -ENOMEM;
    err = pw_books_grow(&pool->books, first, pages);
    if (!err)
        pool->heap.stats.bytes += (uint64_t)(pages - old) << PW_PAGE_SHIFT;
    return err;
}

int pw_heap_resize(struct pw_pool *pool, void *ptr, size_t size)
{
    uint32_t first = pw_pool_page(pool, ptr), pages, old;
    size_t offset, len, bytes = 0;
    bool due = false;
    int err = 0;

    if (size == 0)
        return -EINVAL;
    if (size > pool->seg.size)
        return -ENOMEM;
    pages = pages_of(size);

    pthread_mutex_lock(&pool->lock);
    old = pw_books_marked(&pool->books, first) == PW_RUN_HEAP
          ? pw_books_length(&pool->books, first) : 0;
    offset = ((size_t)first + old) << PW_PAGE_SHIFT;
    len = pages > old ? (size_t)(pages - old) << PW_PAGE_SHIFT : 0;
    if (old == 0)
        err = -EINVAL;
    else if (pages < old)
        err = heap_shrink(pool, first, pages);
    else if (pages > old)
        err = heap_grow(pool, first, old, pages);
    if (!err && len)
        due = populate_due(pool, offset, len, &bytes);
    pthread_mutex_unlock(&pool->lock);

    if (due && populate_now(pool, offset, len, bytes)) {
        pw_heap_resize(pool, ptr, (size_t)old << PW_PAGE_SHIFT);
        return -ENOMEM;
    }
    return err;
}

/* What the neighbours of a block get on the way is on the heap's account too. */
int pw_heap_touch(struct pw_pool *pool, const void *addr, size_t len)
{
    size_t offset = (uintptr_t)addr - pool->range.base;
    size_t bytes = pw_populate_missing(&pool->populate, offset, len);
    int err;

    if (!bytes)
        return 0;
    err = pw_populate_used(&pool->populate, offset, len);
    if (err)
        return err;
    pthread_mutex_lock(&pool->lock);
    pool->heap.populated += bytes;
    pthread_mutex_unlock(&pool->lock);
    return 0;
}

size_t pw_heap_usable(struct pw_pool *pool, const void *ptr)
{
    uint32_t first = pw_pool_page(pool, ptr), pages = 0;

    pthread_mutex_lock(&pool->lock);
    if (pw_books_marked(&pool->books, first) == PW_RUN_HEAP)
        pages = pw_books_length(&pool->books, first);
    pthread_mutex_unlock(&pool->lock);
    return (size_t)pages << PW_PAGE_SHIFT;
}

void pw_heap_describe(struct pw_pool *pool, struct pw_heap_stats *out)
{
    pthread_mutex_lock(&pool->lock);
    *out = pool->heap.stats;
    pthread_mutex_unlock(&pool->lock);
}
