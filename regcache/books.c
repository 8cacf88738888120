/* SPDX-License-Identifier: BSD-3-Clause */
/* books.c - a buddy-less page allocator: power-of-two bins, coalescing free.
 *
 * Start at pw_books_take(). The pages are divided into blocks without gaps, each
 * live (handed out) or free. Of a page's record,
 *     head   is the length of the block that starts there, with FREE set when
 *            it is free; 0 when none starts there
 *     tail   is the length of the free block that ends there, else 0
 *     next, prev   link a free block's first page into its bin; next of a live
 *            one is its mark
 *
 * Always true: no two free blocks touch. A bin b holds the free blocks of 2^b to
 * 2^(b+1) - 1 pages. Of free pages alone, a set bit in `worn' means that the page
 * was handed out before, and worn_free counts them; the bits of a live run stay as
 * they were when it was taken.
 *
 * Small runs are cut from a block's low end and large ones from its high end, so
 * that in a fresh pool small ones gather at the bottom, out of the way of runs
 * that must start on 2 MiB. Freeing in reverse order restores the former state
 * and the next run of that size gets the same, already populated, pages.
 */
#define _GNU_SOURCE
#include "books.h"

#include <errno.h>
#include <string.h>

#include "bits.h"

#define FREE ((uint32_t)1 << 31)
#define NONE PW_BOOKS_NONE

/* How many blocks of a bin too small to fit for certain are tried before a
 * bigger bin is cut: bounds the usual search, and still prefers a hole that fits
 * to a fresh piece. */
#define LOOK 8

struct pw_books_page {
    uint32_t head, tail, next, prev;
};

static unsigned log2_floor(uint32_t n)
{
    return 31u - (unsigned)__builtin_clz(n);
}

static unsigned log2_ceil(uint32_t n)
{
    return n == 1 ? 0 : log2_floor(n - 1) + 1;
}

static void block_insert(struct pw_books *b, uint32_t first, uint32_t n)
{
    unsigned bin = log2_floor(n);
    struct pw_books_page *p = &b->page[first];

    p->head = n | FREE;
    b->page[first + n - 1].tail = n;
    p->prev = NONE;
    p->next = b->bin[bin];
    if (p->next != NONE)
        b->page[p->next].prev = first;
    b->bin[bin] = first;
    b->filled |= 1u << bin;
}

/* Returns the block's length. */
static uint32_t block_remove(struct pw_books *b, uint32_t first)
{
    struct pw_books_page *p = &b->page[first];
    uint32_t n = p->head & ~FREE;
    unsigned bin = log2_floor(n);

    if (p->next != NONE)
        b->page[p->next].prev = p->prev;
    if (p->prev != NONE)
        b->page[p->prev].next = p->next;
    else
        b->bin[bin] = p->next;
    if (b->bin[bin] == NONE)
        b->filled &= ~(1u << bin);

    p->head = 0;
    b->page[first + n - 1].tail = 0;
    return n;
}

/* Where in the free block at first a run would go, or NONE. */
static uint32_t block_place(const struct pw_books *b, uint32_t first, uint32_t n,
                            uint32_t align)
{
    uint32_t len = b->page[first].head & ~FREE, start;

    if (len < n)
        return NONE;
    if (n >= PW_BOOKS_LARGE) {
        start = (first + len - n) & ~(align - 1);
        return start >= first ? start : NONE;
    }
    start = (first + align - 1) & ~(align - 1);
    return start - first <= len - n ? start : NONE;
}

/* A block of that bin in which the run fits, among the first `look`. */
static uint32_t bin_search(const struct pw_books *b, unsigned bin, uint32_t n,
                           uint32_t align, uint32_t look)
{
    uint32_t at = b->bin[bin];

    for (; at != NONE && look > 0; at = b->page[at].next, look--)
        if (block_place(b, at, n, align) != NONE)
            return at;
    return NONE;
}

static uint32_t bins_search(const struct pw_books *b, unsigned from, unsigned to,
                            uint32_t n, uint32_t align, uint32_t look)
{
    uint32_t at = NONE;

    for (unsigned bin = from; bin < to && at == NONE; bin++)
        at = bin_search(b, bin, n, align, look);
    return at;
}

static uint32_t block_find(const struct pw_books *b, uint32_t n, uint32_t align)
{
    /* Blocks of bin `sure` and up hold the run wherever they start. */
    unsigned from = log2_floor(n), sure = log2_ceil(n + align - 1);
    uint32_t at;

    at = bins_search(b, from, sure, n, align, LOOK);
    if (at != NONE)
        return at;

    if (b->filled >> sure)
        return b->bin[sure + (unsigned)__builtin_ctz(b->filled >> sure)];

    return bins_search(b, from, sure, n, align, UINT32_MAX);
}

/* Pages that were free until now become a run. */
static void live_set(struct pw_books *b, uint32_t first, uint32_t n)
{
    b->page[first].head = n;
    b->page[first].next = 0;
    b->used += n;
    b->worn_free -= (uint32_t)pw_bits_count(b->worn, first, first + n);
}

uint32_t pw_books_take(struct pw_books *b, uint32_t n, uint32_t align)
{
    uint32_t first, start, end;

    if (n == 0 || n > b->pages - b->used)
        return NONE;
    first = block_find(b, n, align);
    if (first == NONE)
        return NONE;

    start = block_place(b, first, n, align);
    end = first + block_remove(b, first);
    if (first < start)
        block_insert(b, first, start - first);
    if (start + n < end)
        block_insert(b, start + n, end - (start + n));

    live_set(b, start, n);
    return start;
}

int pw_books_claim(struct pw_books *b, struct pw_books_run hole, uint32_t first, uint32_t n)
{
    uint32_t end = hole.first + hole.n;

    if (n == 0 || b->page[hole.first].head != (hole.n | FREE) || first < hole.first ||
        first > end || n > end - first)
        return -EINVAL;
    block_remove(b, hole.first);
    if (hole.first < first)
        block_insert(b, hole.first, first - hole.first);
    if (first + n < end)
        block_insert(b, first + n, end - (first + n));
    live_set(b, first, n);
    return 0;
}

/* A live run of n pages becomes free, and one with what is free around it. */
static struct pw_books_run run_free(struct pw_books *b, uint32_t first, uint32_t n)
{
    b->page[first].head = 0;
    b->used -= n;
    b->worn_free += (uint32_t)pw_bits_count(b->worn, first, first + n);

    if (first + n < b->pages && (b->page[first + n].head & FREE))
        n += block_remove(b, first + n);
    if (first > 0 && b->page[first - 1].tail) {
        uint32_t before = b->page[first - 1].tail;

        first -= before;
        n += block_remove(b, first);
    }
    block_insert(b, first, n);
    return (struct pw_books_run){ first, n };
}

int pw_books_give_into(struct pw_books *b, uint32_t first, struct pw_books_run *hole)
{
    uint32_t n = pw_books_length(b, first);

    if (n == 0)
        return -EINVAL;
    pw_bits_set(b->worn, first, first + n);
    *hole = run_free(b, first, n);
    return 0;
}

int pw_books_give(struct pw_books *b, uint32_t first)
{
    struct pw_books_run hole;

    return pw_books_give_into(b, first, &hole);
}

int pw_books_undo(struct pw_books *b, uint32_t first)
{
    uint32_t n = pw_books_length(b, first);

    if (n == 0)
        return -EINVAL;
    run_free(b, first, n);
    return 0;
}

/* The pages from `end' on, taken from the free block that starts there. */
static int run_grow(struct pw_books *b, uint32_t first, uint32_t end, uint32_t more)
{
    uint32_t head = end < b->pages ? b->page[end].head : 0, got = head & ~FREE;

    if (!(head & FREE) || got < more)
        return -ENOMEM;
    block_remove(b, end);
    if (got > more)
        block_insert(b, end + more, got - more);
    b->worn_free -= (uint32_t)pw_bits_count(b->worn, end, end + more);
    b->page[first].head += more;
    b->used += more;
    return 0;
}

int pw_books_grow(struct pw_books *b, uint32_t first, uint32_t n)
{
    uint32_t old = pw_books_length(b, first);

    if (old == 0 || n < old)
        return -EINVAL;
    return n == old ? 0 : run_grow(b, first, first + old, n - old);
}

int pw_books_split(struct pw_books *b, uint32_t first, uint32_t n)
{
    uint32_t old = pw_books_length(b, first);

    if (n == 0 || n >= old)
        return -EINVAL;
    b->page[first].head = n;
    b->page[first + n].head = old - n;
    b->page[first + n].next = b->page[first].next;
    return 0;
}

void pw_books_mark(struct pw_books *b, uint32_t first, uint32_t mark)
{
    b->page[first].next = mark;
}

uint32_t pw_books_marked(const struct pw_books *b, uint32_t first)
{
    return pw_books_length(b, first) ? b->page[first].next : 0;
}

uint32_t pw_books_next(const struct pw_books *b, uint32_t first, uint32_t *n)
{
    while (first < b->pages && b->page[first].head & FREE)
        first += b->page[first].head & ~FREE;
    if (first >= b->pages)
        return NONE;
    *n = b->page[first].head;
    return first;
}

void pw_books_refresh(struct pw_books *b, uint32_t first, uint32_t n)
{
    b->worn_free -= (uint32_t)pw_bits_count(b->worn, first, first + n);
    pw_bits_clear(b->worn, first, first + n);
}

uint32_t pw_books_length(const struct pw_books *b, uint32_t first)
{
    uint32_t head = first < b->pages ? b->page[first].head : 0;

    return head & FREE ? 0 : head;
}

/* The pages' records, and behind them a bit for each. */
static size_t records_bytes(uint32_t pages)
{
    return pages * sizeof(struct pw_books_page) + pw_bits_bytes(pages);
}

int pw_books_init(struct pw_books *b, const struct pw_sys *sys, uint32_t pages)
{
    char *page;

    if (pages == 0 || pages > PW_BOOKS_MAX)
        return -EINVAL;
    page = sys->mmap(NULL, records_bytes(pages), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (page == MAP_FAILED)
        return -errno;

    *b = (struct pw_books){
        .page = (struct pw_books_page *)(void *)page, .pages = pages,
        .worn = (uint64_t *)(void *)(page + pages * sizeof *b->page),
    };
    memset(b->bin, 0xff, sizeof b->bin);
    block_insert(b, 0, pages);
    return 0;
}

void pw_books_fini(struct pw_books *b)
{
    munmap(b->page, records_bytes(b->pages));
}
