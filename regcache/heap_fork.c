/* SPDX-License-Identifier: BSD-3-Clause */
/* heap_fork.c - a forked child gets copies of the heap's blocks.
 *
 * Start at pw_heap_fork_prepare(). The pool is shared memory, which a fork would
 * go on sharing; and its pages cannot be made copy-on-write, because the peers
 * that read them have mapped this very file. So blocks are copied before the fork,
 * into private memory that the fork hands on, and the child puts the copies where
 * the blocks were. What the pool holds besides blocks stays shared.
 *
 * The parent copies, not the child: it need not wait for a child that a debugger
 * has stopped or somebody has killed, and the copies are of one moment before the
 * fork, as locks that other fork handlers took before us promise. Measured on Linux
 * 6.18, 2-core EPYC virtual machine: 170 ms for a GiB in huge pages.
 *
 * The pool's addresses are not inherited (MADV_DONTFORK). A child that comes by
 * clone(2) or so, without us, has a hole there: it crashes rather than write into
 * its parent's memory.
 */
#define _GNU_SOURCE
#include "pinwheel/heap.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bits.h"
#include "pool_inner.h"

/* ---- which pieces ---- */

/* Only whole pages can be exchanged in the child: of a reserved hugepage all of
 * it, whatever else it holds. Pieces that touch are one. */
static void piece_add(struct pw_snapshot *s, size_t page, size_t from, size_t to)
{
    struct pw_piece *last = s->n ? &s->piece[s->n - 1] : NULL;

    from &= ~(page - 1);
    to = (to + page - 1) & ~(page - 1);
    if (last && from <= last->offset + last->len) {
        if (to > last->offset + last->len)
            last->len = to - last->offset;
        return;
    }
    s->piece[s->n++] = (struct pw_piece){ .offset = from, .len = to - from };
}

/* Under the lock. */
static void pieces_find(struct pw_pool *pool, struct pw_snapshot *s)
{
    size_t page = pw_segment_page(&pool->seg);
    uint32_t n = 0, first = pw_books_next(&pool->books, 0, &n);

    for (; first != PW_BOOKS_NONE; first = pw_books_next(&pool->books, first + n, &n))
        if (pw_books_marked(&pool->books, first) == PW_RUN_HEAP)
            piece_add(s, page, (size_t)first << PW_PAGE_SHIFT,
                      ((size_t)first + n) << PW_PAGE_SHIFT);
}

/* ---- their copies ---- */

/* Private memory that agrees with the original in 2 MiB, so that huge pages can
 * move as such. */
static char *copy_map(const struct pw_pool *pool, size_t len)
{
    size_t more = len >= PW_HUGE ? PW_HUGE : 0, before, behind;
    char *map = pool->populate.sys->mmap(NULL, len + more, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (map == MAP_FAILED || !more)
        return map;
    before = -(uintptr_t)map & (PW_HUGE - 1);
    behind = more - before;
    if (before)
        munmap(map, before);
    if (behind)
        munmap(map + before + len, behind);
    if (pool->pages != PW_PAGES_4K)
        madvise(map + before, len, MADV_HUGEPAGE);
    return map + before;
}

/* From the file where it is ours: pages that are protected or not mapped here would
 * each take a fault to be read at their address. */
static void copy_range(const struct pw_pool *pool, const struct pw_piece *p, size_t from,
                       size_t to, bool file)
{
    while (file && from < to) {
        ssize_t got = pread(pool->seg.fd, p->copy + (from - p->offset), to - from,
                            (off_t)from);

        if (got > 0)
            from += (size_t)got;
        else if (got == 0 || errno != EINTR)
            file = false;
    }
    memcpy(p->copy + (from - p->offset), pool->seg.base + from, to - from);
}

/* What nobody has touched is zero in the copy as well. Where the file system does
 * not tell holes, or a program has closed the file behind our back, all of it is
 * copied. */
static size_t copy_data(const struct pw_pool *pool, const struct pw_piece *p, bool holes)
{
    size_t at = p->offset, end = p->offset + p->len, copied = 0;

    while (at < end) {
        off_t data = holes ? lseek(pool->seg.fd, (off_t)at, SEEK_DATA) : -1;
        off_t hole = data >= 0 ? lseek(pool->seg.fd, data, SEEK_HOLE) : -1;

        if (holes && data < 0 && errno == ENXIO)
            break;
        if (data < 0 || hole < 0) {
            data = (off_t)at;
            hole = (off_t)end;
        }
        if ((size_t)data >= end)
            break;
        at = (size_t)hole < end ? (size_t)hole : end;
        copy_range(pool, p, (size_t)data, at, holes);
        copied += at - (size_t)data;
    }
    return copied;
}

/* Of a page of 1 GiB, which may be there for one small block, only what is handed out. */
static size_t copy_runs(const struct pw_pool *pool, const struct pw_piece *p)
{
    size_t end = p->offset + p->len, copied = 0;
    uint32_t n = 0, first = pw_books_next(&pool->books, 0, &n);

    for (; first != PW_BOOKS_NONE; first = pw_books_next(&pool->books, first + n, &n)) {
        size_t from = (size_t)first << PW_PAGE_SHIFT;
        size_t to = ((size_t)first + n) << PW_PAGE_SHIFT;

        from = from > p->offset ? from : p->offset;
        to = to < end ? to : end;
        if (from < to) {
            copy_range(pool, p, from, to, false);
            copied += to - from;
        }
    }
    return copied;
}

static int pieces_copy(struct pw_pool *pool, struct pw_snapshot *s)
{
    bool gigantic = pool->seg.kind == PW_SEGMENT_GIGANTIC;
    bool holes = pool->seg.kind == PW_SEGMENT_SPARSE && pw_segment_has_fd(&pool->seg);

    for (size_t i = 0; i < s->n; i++) {
        s->piece[i].copy = copy_map(pool, s->piece[i].len);
        if (s->piece[i].copy == MAP_FAILED) {
            s->piece[i].copy = NULL;
            return -ENOMEM;
        }
        pool->heap.stats.fork_bytes += gigantic ? copy_runs(pool, &s->piece[i])
                                                : copy_data(pool, &s->piece[i], holes);
    }
    return 0;
}

static void pieces_drop(struct pw_snapshot *s)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->piece[i].copy)
            munmap(s->piece[i].copy, s->piece[i].len);
    if (s->piece)
        munmap(s->piece, s->room * sizeof *s->piece);
    s->piece = NULL;
    s->n = s->room = 0;
}

/* ---- other threads ---- */

/* Is that address in the pool? Then the thread that forks would wait for itself:
 * a program may have made a stack of a block. */
static bool stands_in_pool(const struct pw_pool *pool)
{
    char here;

    return pw_pool_contains(pool, &here, 1) ||
           pw_pool_contains(pool, __builtin_thread_pointer(), 1);
}

static void others_stop(struct pw_pool *pool, struct pw_snapshot *s)
{
    if (stands_in_pool(pool) ||
        pw_still_begin(&s->still, pool->seg.base, pool->seg.size))
        return;
    for (size_t i = 0; i < s->n; i++)
        if (pw_still_hold(&s->still, pool->seg.base + s->piece[i].offset, s->piece[i].len))
            return;
}

/* Protection works page by page and leaves a huge page mapped by none. It is still
 * one: the kernel only has to map it again as such, which takes microseconds and
 * spares the program 512 faults. */
static void huge_again(struct pw_pool *pool, const struct pw_snapshot *s)
{
    const struct pw_populate *p = &pool->populate;

    for (size_t i = 0; i < s->n; i++) {
        size_t end = (s->piece[i].offset + s->piece[i].len + PW_HUGE - 1) >> p->shift;
        size_t at = pw_bits_find(p->done, s->piece[i].offset >> p->shift, end, true);

        while (at < end) {
            size_t to = pw_bits_find(p->done, at, end, false);

            p->sys->madvise(pool->seg.base + (at << p->shift), (to - at) << p->shift,
                            MADV_COLLAPSE);
            at = pw_bits_find(p->done, to, end, true);
        }
    }
}

/* ---- around fork ---- */

int pw_heap_fork_prepare(struct pw_pool *pool, unsigned flags)
{
    struct pw_snapshot *s = &pool->heap.snapshot;
    void *room;

    pthread_mutex_lock(&pool->lock);
    *s = (struct pw_snapshot){ .still.fd = -1 };
    if (pool->heap.state != PW_HEAP_OPEN || !pool->heap.stats.blocks)
        return 0;

    s->room = pool->heap.stats.blocks;
    room = pool->populate.sys->mmap(NULL, s->room * sizeof *s->piece,
                                    PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED) {
        s->room = 0;
        s->err = -ENOMEM;
        return s->err;
    }
    s->piece = room;
    pieces_find(pool, s);
    if (flags & PW_HEAP_NO_COPIES)
        return 0;
    if (!(flags & PW_HEAP_ALONE))
        others_stop(pool, s);
    pool->heap.stats.forks++;
    s->err = pieces_copy(pool, s);
    return s->err;
}

void pw_heap_fork_parent(struct pw_pool *pool)
{
    struct pw_snapshot *s = &pool->heap.snapshot;
    bool stopped = s->still.fd >= 0;

    pw_still_end(&s->still);
    if (stopped && pool->pages == PW_PAGES_THP)
        huge_again(pool, s);
    pieces_drop(s);
    pthread_mutex_unlock(&pool->lock);
}

/* Addresses that are taken and lead nowhere. */
static int child_bar(void *base, size_t size)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;

    return mmap(base, size, PROT_NONE, flags, -1, 0) == MAP_FAILED ? -errno : 0;
}

/* What is shared with the parent comes back. When the file is not ours any more,
 * its addresses are kept free. */
static void child_map(struct pw_pool *pool)
{
    int reserve = pw_segment_reserved(&pool->seg) ? 0 : MAP_NORESERVE;
    int flags = MAP_SHARED | MAP_FIXED | reserve;

    if (pw_segment_has_fd(&pool->seg) &&
        mmap(pool->seg.base, pool->seg.size, PROT_READ | PROT_WRITE, flags, pool->seg.fd,
             0) != MAP_FAILED)
        return;
    child_bar(pool->seg.base, pool->seg.size);
}

static int child_place(struct pw_pool *pool, struct pw_piece *p)
{
    char *at = pool->seg.base + p->offset;

    if (!p->copy)
        return child_bar(at, p->len);
    if (mremap(p->copy, p->len, p->len, MREMAP_MAYMOVE | MREMAP_FIXED, at) == MAP_FAILED)
        return -errno;
    p->copy = NULL;
    return 0;
}

int pw_heap_fork_child(struct pw_pool *pool)
{
    struct pw_snapshot *s = &pool->heap.snapshot;
    int err = s->err;

    pw_still_forget(&s->still);
    child_map(pool);
    for (size_t i = 0; i < s->n && !err; i++)
        err = child_place(pool, &s->piece[i]);
    pieces_drop(s);
    pool->heap.state = PW_HEAP_INHERITED;
    pthread_mutex_init(&pool->lock, NULL);
    return err;
}
