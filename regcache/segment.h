/* SPDX-License-Identifier: BSD-3-Clause */
/* segment.h - an anonymous file, mapped on a boundary of its pages, shared by fd.
 *
 * Any thread; a segment is not changed between create and destroy.
 */
#ifndef PINWHEEL_SEGMENT_H
#define PINWHEEL_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "sys.h"

#define PW_PAGE ((size_t)4096)
#define PW_HUGE ((size_t)2 << 20)
#define PW_GIGANTIC ((size_t)1 << 30)

enum pw_segment_kind {
    PW_SEGMENT_SPARSE,  /* pages come one by one */
    PW_SEGMENT_HUGETLB, /* of reserved 2 MiB pages, all of them this segment's own */
    PW_SEGMENT_GIGANTIC, /* of reserved 1 GiB pages, likewise */
    PW_SEGMENT_KDRIVER, /* a pool of /dev/pinwheel: pages of 2 MiB, which come one by one */
};

struct pw_segment {
    int fd;             /* close-on-exec, and fixed in size where it can be */
    char *base;         /* a multiple of PW_HUGE, and of the kind's pages */
    size_t size;
    enum pw_segment_kind kind;
    bool limited;       /* by the room of a file system, or by what a user may have
                         * pinned: a touch may fail for it */
    dev_t dev;          /* which file fd is, should a program close descriptors */
    ino_t ino;          /* that are not its own */
};

/* Are all its pages its own from the start? Then they come and go as a whole. */
static inline bool pw_segment_reserved(const struct pw_segment *seg)
{
    return seg->kind == PW_SEGMENT_HUGETLB || seg->kind == PW_SEGMENT_GIGANTIC;
}

/* Bytes of the least that can be mapped otherwise than its neighbours. */
static inline size_t pw_segment_page(const struct pw_segment *seg)
{
    if (seg->kind == PW_SEGMENT_GIGANTIC)
        return PW_GIGANTIC;
    return seg->kind == PW_SEGMENT_HUGETLB ? PW_HUGE : PW_PAGE;
}

/* size: a multiple of PW_HUGE, and of the kind's pages.
 * 0, or -EFBIG   size is beyond RLIMIT_FSIZE
 *       -ENOMEM  no address space, or not that many hugepages left
 *       -errno   of memfd_create, open, ioctl, ftruncate, fcntl or mmap */
int pw_segment_create(const struct pw_sys *sys, size_t size, enum pw_segment_kind kind,
                      struct pw_segment *out);

/* As pw_pool_steady(). */
bool pw_segment_steady(const struct pw_sys *sys, int fd);

/* Is fd still the segment's file? */
bool pw_segment_has_fd(const struct pw_segment *seg);

/* Unmap and close. The memory goes when the last peer has done so too. */
void pw_segment_destroy(struct pw_segment *seg);

/* Map [0, size) of fd, read and write, at a multiple of PW_HUGE and of its file's pages
 * of the kernel's choosing. 0, -EINVAL: part of a reserved hugepage, or -errno of mmap.
 * Undo with munmap(). */
int pw_segment_map(const struct pw_sys *sys, int fd, size_t size, bool noreserve,
                   void **base);

#endif
