/* SPDX-License-Identifier: BSD-3-Clause */
/* books.h - which pages of a pool are handed out, by page number.
 *
 * Knows no memory, only numbers: what is written into the pool, by us or by a
 * peer, cannot reach the books. The caller holds its own lock around each call.
 * take and give allocate nothing and make no system call.
 */
#ifndef PINWHEEL_BOOKS_H
#define PINWHEEL_BOOKS_H

#include <stdint.h>

#include "sys.h"

#define PW_BOOKS_NONE  UINT32_MAX
#define PW_BOOKS_MAX   ((uint32_t)1 << 30)  /* pages; 4 TiB of 4 KiB pages */
#define PW_BOOKS_LARGE 512u                 /* runs of so many are placed high */
#define PW_BOOKS_BINS  31

struct pw_books_page;

struct pw_books {
    struct pw_books_page *page;     /* one for each page, mostly untouched */
    uint64_t *worn;                 /* a bit for each page */
    uint32_t pages, used;
    uint32_t worn_free;             /* free pages that were handed out before */
    uint32_t filled;                /* bit b: bin[b] is not empty */
    uint32_t bin[PW_BOOKS_BINS];    /* heads of lists of free blocks */
};

struct pw_books_run {
    uint32_t first, n;
};

/* pages: 1 to PW_BOOKS_MAX, all free at first. 16 bytes and a bit of address space
 * for each, of which memory is used around block ends only.
 * 0, or -EINVAL pages out of range, or -errno of mmap. */
int pw_books_init(struct pw_books *b, const struct pw_sys *sys, uint32_t pages);
void pw_books_fini(struct pw_books *b);

/* A run of n > 0 pages that starts on a multiple of align (a power of two up
 * to PW_BOOKS_MAX): its first page, or PW_BOOKS_NONE when no free block holds
 * one. */
uint32_t pw_books_take(struct pw_books *b, uint32_t n, uint32_t align);

/* 0, or -EINVAL when no run handed out starts at first: nothing is changed. */
int pw_books_give(struct pw_books *b, uint32_t first);

/* The same for a run that nobody has used: its pages are what they were before. */
int pw_books_undo(struct pw_books *b, uint32_t first);

/* Give, and where the free pages around it now begin and end. */
int pw_books_give_into(struct pw_books *b, uint32_t first, struct pw_books_run *hole);

/* Make these pages, all inside a hole that give_into() told of just now, a run.
 * 0, or -EINVAL. */
int pw_books_claim(struct pw_books *b, struct pw_books_run hole, uint32_t first,
                   uint32_t n);

/* Make a run n pages long where it is. 0, or -ENOMEM when the pages behind it are
 * not free, -EINVAL when it is longer or none starts there: nothing is changed. */
int pw_books_grow(struct pw_books *b, uint32_t first, uint32_t n);

/* Make a run of n pages and one of the rest, with its mark, out of one. 0, or
 * -EINVAL when it is no longer than that. */
int pw_books_split(struct pw_books *b, uint32_t first, uint32_t n);

/* Pages of the run that starts at first, 0 when none handed out does. */
uint32_t pw_books_length(const struct pw_books *b, uint32_t first);

/* A run carries a number of the caller's, 0 at first. Of what is no run: 0. */
void pw_books_mark(struct pw_books *b, uint32_t first, uint32_t mark);
uint32_t pw_books_marked(const struct pw_books *b, uint32_t first);

/* The first run at or behind `first', which is 0 or the end of the run before;
 * its length in *n. PW_BOOKS_NONE behind the last. */
uint32_t pw_books_next(const struct pw_books *b, uint32_t first, uint32_t *n);

/* Free pages whose contents are gone: as if never handed out. */
void pw_books_refresh(struct pw_books *b, uint32_t first, uint32_t n);

#endif
