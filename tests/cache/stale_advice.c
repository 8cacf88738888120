/* SPDX-License-Identifier: BSD-3-Clause */
/* stale_advice.c - madvise and its kin: the mapping stays, its pages go. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/cache/stale.h"
#include "tests/cache/stale_ring.h"

/* Newer than Debian 12's C library; values from Linux
 * include/uapi/asm-generic/mman-common.h. */
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

enum { HUGE_PAGE = 2 << 20 };

static int advise(struct scene *s, int advice)
{
    if (!madvise(s->part, s->part_len, advice))
        return 0;
    return errno == EINVAL ? stale_cannot(s, "this kernel knows no such advice") : -errno;
}

static int dontneed(struct scene *s) { return advise(s, MADV_DONTNEED); }

static int make_locked(struct scene *s)
{
    int err = stale_make_private(s);
    return err ? err : mlock(s->addr, s->len) ? -errno : 0;
}

static int dontneed_locked(struct scene *s) { return advise(s, MADV_DONTNEED_LOCKED); }

/* Freed when memory is short: now, then. Pages that are pinned are not. */
static int free_lazily(struct scene *s)
{
    int err = advise(s, MADV_FREE);
    return err ? err : advise(s, MADV_PAGEOUT);
}

static int page_out(struct scene *s) { return advise(s, MADV_PAGEOUT); }

static int guard(struct scene *s) { return advise(s, MADV_GUARD_INSTALL); }

static int guard_and_back(struct scene *s)
{
    int err = guard(s);
    return err ? err : advise(s, MADV_GUARD_REMOVE);
}

static int dontneed_by_syscall(struct scene *s)
{
    return syscall(SYS_madvise, s->part, s->part_len, MADV_DONTNEED) ? -errno : 0;
}

static int posix_dontneed(struct scene *s)
{
    return -posix_madvise(s->part, s->part_len, POSIX_MADV_DONTNEED);
}

/* In several pieces, as process_madvise takes them. */
static int advise_process(struct scene *s, bool by_syscall)
{
    struct iovec piece[2] = {
        { s->part, STALE_PAGE },
        { s->part + STALE_PAGE, s->part_len - STALE_PAGE },
    };
    int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
    if (self < 0)
        return stale_cannot(s, "no pidfd_open here");
    ssize_t n = by_syscall ? syscall(SYS_process_madvise, self, piece, 2, MADV_DONTNEED, 0)
                           : process_madvise(self, piece, 2, MADV_DONTNEED, 0);
    int err = errno;
    close(self);
    if (n == (ssize_t)s->part_len)
        return 0;
    if (n < 0 && (err == EINVAL || err == ENOSYS))
        return stale_cannot(s, "process_madvise drops no pages in this kernel");
    return n < 0 ? -err : -EIO;
}

static int dontneed_process(struct scene *s) { return advise_process(s, false); }
static int dontneed_process_syscall(struct scene *s) { return advise_process(s, true); }

static int dontneed_ring(struct scene *s)
{
    int err = stale_ring_madvise(s->part, s->part_len, MADV_DONTNEED);
    if (err == -ENOSYS || err == -EPERM)
        return stale_cannot(s, "no io_uring here");
    return err;
}

/* A ring from before there was any monitor. */
static struct stale_ring old_ring;

static int make_old_ring(struct scene *s)
{
    if (stale_ring_open(&old_ring))
        return stale_cannot(s, "no io_uring here");
    return stale_make_private(s);
}

static int dontneed_old_ring(struct scene *s)
{
    struct io_uring_sqe r = stale_madvise_request(s->part, s->part_len, MADV_DONTNEED);
    return stale_ring_first(&old_ring, &r);
}

static int make_shared(struct scene *s)
{
    s->len = STALE_LEN;
    s->addr = mmap(NULL, s->len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return s->addr == MAP_FAILED ? -errno : 0;
}

static int remove_pages(struct scene *s) { return advise(s, MADV_REMOVE); }

/* A huge page where the kernel gives any. */
static int make_huge(struct scene *s)
{
    unsigned char *p = mmap(NULL, 2 * HUGE_PAGE, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return -errno;
    p = (unsigned char *)(((uintptr_t)p + HUGE_PAGE - 1) & -(uintptr_t)HUGE_PAGE);
    if (madvise(p, HUGE_PAGE, MADV_HUGEPAGE))
        return stale_cannot(s, "no transparent huge pages here");
    s->addr = p;
    s->len = HUGE_PAGE;
    return 0;
}

/* The huge page is split into mapped small ones; none of them moves. */
static int split(struct scene *s)
{
    unsigned char *at = s->addr + HUGE_PAGE / 2;
    if (mprotect(at, STALE_PAGE, PROT_READ) || mprotect(at, STALE_PAGE, PROT_READ | PROT_WRITE))
        return -errno;
    return 0;
}

/* Small pages that the kernel is asked to make a huge one of, which would move
 * them: it must not while they are pinned. */
static int make_small(struct scene *s)
{
    int err = make_huge(s);
    return err ? err : madvise(s->addr, s->len, MADV_NOHUGEPAGE) ? -errno : 0;
}

static int collapse(struct scene *s)
{
    if (madvise(s->addr, s->len, MADV_HUGEPAGE))
        return -errno;
    if (madvise(s->addr, s->len, MADV_COLLAPSE) && errno == EINVAL)
        return stale_cannot(s, "no MADV_COLLAPSE here");
    return 0;
}

const struct stale_case stale_advice_cases[] = {
    { "dontneed", "madvise(MADV_DONTNEED)", MOVES | PLAIN, stale_make_private, dontneed },
    { "dontneed-syscall", "syscall(SYS_madvise, MADV_DONTNEED)", MOVES | PLAIN,
      stale_make_private, dontneed_by_syscall },
    { "dontneed-locked", "madvise(MADV_DONTNEED_LOCKED)", MOVES | PLAIN,
      make_locked, dontneed_locked },
    { "remove", "madvise(MADV_REMOVE) of shared memory", MOVES, make_shared, remove_pages },
    { "madv-free", "madvise(MADV_FREE), and memory reclaimed", PLAIN,
      stale_make_private, free_lazily },
    { "pageout", "madvise(MADV_PAGEOUT)", PLAIN, stale_make_private, page_out },
    { "guard", "madvise(MADV_GUARD_INSTALL), and removed again", MOVES | PLAIN,
      stale_make_private, guard_and_back },
    { "guard-gone", "madvise(MADV_GUARD_INSTALL), and left there", MOVES | GONE | PLAIN,
      stale_make_private, guard },
    { "posix-madvise", "posix_madvise(POSIX_MADV_DONTNEED)", PLAIN,
      stale_make_private, posix_dontneed },
    { "process-madvise", "process_madvise(MADV_DONTNEED) of itself", MOVES | PLAIN,
      stale_make_private, dontneed_process },
    { "process-madvise-syscall", "syscall(SYS_process_madvise) of itself", MOVES | PLAIN,
      stale_make_private, dontneed_process_syscall },
    { "uring-madvise", "IORING_OP_MADVISE, its ring by syscall()", MOVES | PLAIN,
      stale_make_private, dontneed_ring },
    { "uring-before", "IORING_OP_MADVISE, its ring from before", MOVES | FIRST,
      make_old_ring, dontneed_old_ring },
    { "huge-part", "madvise(MADV_DONTNEED) inside a huge page", MOVES | PLAIN,
      make_huge, dontneed },
    { "huge-split", "mprotect splits a huge page", PLAIN | WHOLE, make_huge, split },
    { "huge-collapse", "madvise(MADV_COLLAPSE) of small pages", PLAIN | WHOLE,
      make_small, collapse },
    { NULL, NULL, 0, NULL, NULL },
};
