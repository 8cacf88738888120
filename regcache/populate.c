/* SPDX-License-Identifier: BSD-3-Clause */
/* populate.c - puts memory behind the pool's pages before they are handed out.
 *
 * Start at pw_populate(). A sparse file gets memory at first touch, and where
 * there is none left that touch is a SIGBUS. So we ask before we hand out, and
 * the answer is an error code.
 *
 * Transparent huge pages: Debian's default for shared memory is `never', but
 * MADV_COLLAPSE works regardless. It is cheapest on 2 MiB of which one page is
 * present: the huge page is then zeroed instead of copied together. Measured on
 * Linux 6.18, a 2-core EPYC virtual machine, microseconds for 2 MiB:
 *     populate 512 small pages                    1130
 *     populate 512 small pages, then collapse     1130 + 540
 *     populate 1 page, collapse, populate         5 + 105 + 0.3
 * A collapse that fails (no 2 MiB of contiguous memory) leaves small pages,
 * which the second populate completes. One call collapses a whole range: each
 * call first drains the page caches of every CPU.
 *
 * Pages of the driver are asked for as such (PW_KD_FILL), for then a refusal has a
 * reason; mapping them is one fault for each.
 *
 * Always true: a set bit in `done' means the unit has memory; pages of other units may
 * have some too (pw_populate_little()). Bits are cleared by
 * pw_populate_drop() alone: freed pages stay with the segment until somebody asks
 * for that, and their reuse costs nothing.
 */
#define _GNU_SOURCE
#include "populate.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>

#include "bits.h"
#include "pinwheel/kdriver.h"

/* Linux before 5.14 has no MADV_POPULATE_WRITE. fallocate() takes the memory;
 * the touches then only fill the page table. Another thread may be using a part
 * of a 2 MiB unit already, so they must not change what is there. */
static int populate_old(const struct pw_populate *p, size_t offset, size_t len)
{
    if (p->sys->fallocate(p->seg->fd, 0, (off_t)offset, (off_t)len))
        return -errno;
    for (size_t at = offset; at < offset + len; at += PW_PAGE)
        __atomic_fetch_or(p->seg->base + at, 0, __ATOMIC_RELAXED);
    return 0;
}

static int populate_range(const struct pw_populate *p, size_t offset, size_t len)
{
    for (int tries = 0; tries < 3; tries++) {
        if (p->sys->madvise(p->seg->base + offset, len, MADV_POPULATE_WRITE) == 0)
            return 0;
        if (errno == EINVAL)
            return populate_old(p, offset, len);
        if (errno != EAGAIN && errno != EINTR)
            break;
    }
    return -errno;
}

/* The page of a huge page that is populated first. The huge page comes from the NUMA
 * node that this one is on, whatever the process's memory policy. With interleaving a
 * page's number tells its node, and those that begin a huge page, 512 apart, would all
 * be on one. These are 521 apart, a prime: each node has its turn. */
static size_t first_touch(size_t huge)
{
    return huge + huge / PW_HUGE * 9 % (PW_HUGE / PW_PAGE) * PW_PAGE;
}

/* One page in each 2 MiB, then collapse. 0, or -errno of the first refusal; what
 * is not huge then is still to be populated. */
static int collapse_range(const struct pw_populate *p, size_t offset, size_t len)
{
    for (size_t at = offset; at < offset + len; at += PW_HUGE) {
        int err = populate_range(p, first_touch(at), PW_PAGE);

        if (err)
            return err;
    }
    return p->sys->madvise(p->seg->base + offset, len, MADV_COLLAPSE) ? -errno : 0;
}

/* All of it or nothing. Where a program has closed the descriptor behind our back, a
 * touch does as well. */
static int fill_range(const struct pw_populate *p, size_t offset, size_t len)
{
    struct pw_kd_part part = { .offset = offset, .len = len, .node = -1 };

    if (!pw_segment_has_fd(p->seg))
        return 0;
    return p->sys->ioctl(p->seg->fd, PW_KD_FILL, &part) ? -errno : 0;
}

/* Whether anything collapsed does not matter: populating says what counts. */
static int populate_units(const struct pw_populate *p, size_t from, size_t to)
{
    size_t offset = from << p->shift, len = (to - from) << p->shift;

    if (p->pages == PW_PAGES_THP)
        collapse_range(p, offset, len);
    if (p->pages == PW_PAGES_KDRIVER) {
        int err = fill_range(p, offset, len);

        if (err)
            return err;
    }
    return populate_range(p, offset, len);
}

/* To the system. What is left reads as zeros. */
static int give_back(const struct pw_populate *p, size_t offset, size_t len)
{
    struct pw_kd_part part = { .offset = offset, .len = len };

    if (p->pages != PW_PAGES_KDRIVER)
        return p->sys->fallocate(p->seg->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                 (off_t)offset, (off_t)len) ? -errno : 0;
    if (!pw_segment_has_fd(p->seg))
        return -EBADF;
    return p->sys->ioctl(p->seg->fd, PW_KD_DRAIN, &part) ? -errno : 0;
}

/* After a failure: what was taken goes back to a machine that is short of it. A
 * unit that is partly another allocation's may be in use by now: it stays. */
static void release_units(const struct pw_populate *p, size_t from, size_t to,
                          size_t offset, size_t len)
{
    size_t start = from << p->shift, end = to << p->shift;

    if (start < offset)
        start += (size_t)1 << p->shift;
    if (end > offset + len)
        end -= (size_t)1 << p->shift;
    if (start < end)
        give_back(p, start, end - start);
}

static int populate(struct pw_populate *p, size_t offset, size_t len, bool release)
{
    size_t unit = (size_t)1 << p->shift;
    size_t to = (offset + len + unit - 1) >> p->shift;
    size_t from = pw_bits_find(p->done, offset >> p->shift, to, false);

    while (from < to) {
        size_t end = pw_bits_find(p->done, from, to, true);
        int err = populate_units(p, from, end);

        if (err) {
            if (release)
                release_units(p, from, end, offset, len);
            return err;
        }
        pw_bits_set(p->done, from, end);
        from = pw_bits_find(p->done, end, to, false);
    }
    return 0;
}

int pw_populate(struct pw_populate *p, size_t offset, size_t len)
{
    return populate(p, offset, len, true);
}

int pw_populate_used(struct pw_populate *p, size_t offset, size_t len)
{
    return populate(p, offset, len, false);
}

int pw_populate_little(struct pw_populate *p, size_t offset, size_t len)
{
    size_t from = offset & ~(PW_PAGE - 1);
    size_t to = (offset + len + PW_PAGE - 1) & ~(PW_PAGE - 1);

    if (p->pages != PW_PAGES_THP)
        return pw_populate(p, offset, len);
    return populate_range(p, from, to - from);
}

size_t pw_populate_missing(const struct pw_populate *p, size_t offset, size_t len)
{
    size_t unit = (size_t)1 << p->shift;
    size_t from = offset >> p->shift, to = (offset + len + unit - 1) >> p->shift;

    return (to - from - pw_bits_count(p->done, from, to)) << p->shift;
}

void pw_populate_extent(const struct pw_populate *p, size_t least, size_t most,
                        size_t *from, size_t *to)
{
    size_t first = *from >> p->shift, last = (*to - 1) >> p->shift, end;

    end = pw_bits_find(p->done, first, ((most - 1) >> p->shift) + 1, false);
    if (end <= last)
        return;
    while (first > least >> p->shift && pw_bits_find(p->done, first - 1, first, true) < first)
        first--;
    *from = first << p->shift > least ? first << p->shift : least;
    *to = end << p->shift < most ? end << p->shift : most;
}

int pw_populate_drop(struct pw_populate *p, size_t offset, size_t len, size_t *missed)
{
    size_t from = offset >> p->shift, to = (offset + len) >> p->shift;

    *missed = pw_bits_count(p->done, from, to) << p->shift;
    pw_bits_clear(p->done, from, to);
    return give_back(p, offset, len);
}

int pw_populate_try_huge(const struct pw_sys *sys, const struct pw_segment *seg)
{
    const struct pw_populate p = { .sys = sys, .seg = seg };

    return collapse_range(&p, 0, PW_HUGE);
}

int pw_populate_init(struct pw_populate *p, const struct pw_sys *sys,
                     const struct pw_segment *seg, enum pw_pages pages)
{
    unsigned shift = pages == PW_PAGES_4K ? 12 : pages == PW_PAGES_1G ? 30 : 21;
    size_t size = pw_bits_bytes(seg->size >> shift);
    void *done = sys->mmap(NULL, size, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (done == MAP_FAILED)
        return -errno;
    *p = (struct pw_populate){ .sys = sys, .seg = seg, .pages = pages, .shift = shift,
                               .done = done, .done_size = size };
    return 0;
}

void pw_populate_fini(struct pw_populate *p)
{
    munmap(p->done, p->done_size);
}
