/* SPDX-License-Identifier: BSD-3-Clause */
/* populate.h - have the kernel put memory behind a range of a segment, now.
 *
 * Any thread, without a lock: populating twice is harmless.
 */
#ifndef PINWHEEL_POPULATE_H
#define PINWHEEL_POPULATE_H

#include <stddef.h>
#include <stdint.h>

#include "pinwheel/pool.h"
#include "segment.h"
#include "sys.h"

struct pw_populate {
    const struct pw_sys *sys;
    const struct pw_segment *seg;
    enum pw_pages pages;
    unsigned shift;             /* log2 of the unit: 4 KiB, 2 MiB or 1 GiB */
    uint64_t *done;             /* a bit for each unit that has memory */
    size_t done_size;           /* bytes */
};

/* pages: not AUTO. sys and seg must outlive p. 0, or -errno of mmap. */
int pw_populate_init(struct pw_populate *p, const struct pw_sys *sys,
                     const struct pw_segment *seg, enum pw_pages pages);
void pw_populate_fini(struct pw_populate *p);

/* Whole units around [offset, offset + len), len > 0, so that a touch neither
 * faults nor fails. What was populated before costs no system call and keeps its
 * contents. 0, or -errno of madvise, fallocate or ioctl: no memory. */
int pw_populate(struct pw_populate *p, size_t offset, size_t len);

/* The same for a range that somebody may have written to: what is there stays when
 * there is no memory for the rest. */
int pw_populate_used(struct pw_populate *p, size_t offset, size_t len);

/* The same for the 4 KiB pages of the range alone, where there are such: a transparent
 * hugepage is not made of them, nor are they counted as done. */
int pw_populate_little(struct pw_populate *p, size_t offset, size_t len);

/* Bytes that pw_populate() would have to get. */
size_t pw_populate_missing(const struct pw_populate *p, size_t offset, size_t len);

/* Widen [*from, *to) to the units around it that are done, inside of [least, most). As it
 * was where one of its own is not. */
void pw_populate_extent(const struct pw_populate *p, size_t least, size_t most,
                        size_t *from, size_t *to);

/* Give the memory of whole units back to the system; they read as zeros then. In
 * *missed the bytes of it that pw_populate() had got. Nobody may use or populate
 * the range meanwhile. 0, or -errno of fallocate or ioctl: some may be gone, or none. */
int pw_populate_drop(struct pw_populate *p, size_t offset, size_t len, size_t *missed);

/* Will 2 MiB of this segment become one huge page? The first 2 MiB are tried
 * and stay so. 0, or -errno of madvise. */
int pw_populate_try_huge(const struct pw_sys *sys, const struct pw_segment *seg);

#endif
