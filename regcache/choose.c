/* SPDX-License-Identifier: BSD-3-Clause */
/* choose.c - of which kind of page a pool is made, and how large it is.
 *
 * Start at pw_pool_choose(). Kinds that the machine has only so many pages of
 * (pages.c counts them) come first; pages that are taken one by one are there always.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>

#include "pool_inner.h"

/* Half of RAM for all sharers together, within what the limits let us make and
 * let every process map: each of them maps all the others' segments too. */
static size_t size_default(const struct pw_sys *sys, unsigned sharers)
{
    const size_t least = (size_t)64 << 20, most = (size_t)64 << 30;
    size_t size = (size_t)(sys->ram() / 2 / sharers);
    struct rlimit lim;

    if (size < least)
        size = least;
    if (size > most)
        size = most;
    if (sys->getrlimit(RLIMIT_FSIZE, &lim) == 0 && size > lim.rlim_cur)
        size = lim.rlim_cur;
    if (sys->getrlimit(RLIMIT_AS, &lim) == 0 && lim.rlim_cur != RLIM_INFINITY &&
        size > lim.rlim_cur / 2 / sharers)
        size = lim.rlim_cur / 2 / sharers;

    size &= ~(PW_HUGE - 1);
    return size ? size : PW_HUGE;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* A kind's segment: 0; NOT_HAD and, where that is of interest, why; or -errno, refused. */
enum { NOT_HAD = 1 };

static int segment_hugetlb(struct pw_pool *pool, const struct pw_wanted *w,
                           const struct pw_sys *sys)
{
    size_t share = pw_pages_hugetlb_share(sys, PW_HUGE, w->sharers, w->min_size, &pool->why);

    return share ? pw_segment_create(sys, smaller(smaller(w->size, share), w->at_most),
                                     PW_SEGMENT_HUGETLB, &pool->seg) : NOT_HAD;
}

static int segment_kdriver(struct pw_pool *pool, const struct pw_wanted *w,
                           const struct pw_sys *sys)
{
    size_t share = pw_pages_kdriver_share(sys, w->sharers, w->min_size, &pool->why);

    return share ? pw_segment_create(sys, smaller(smaller(w->size, share), w->at_most),
                                     PW_SEGMENT_KDRIVER, &pool->seg) : NOT_HAD;
}

/* In whole pages. Half of the memory may be rounded down; a size that somebody said is
 * rounded up. */
static size_t gigantic_size(const struct pw_wanted *w)
{
    size_t size = w->size + (w->all ? PW_GIGANTIC - 1 : 0);

    if (size < PW_GIGANTIC || w->at_most < PW_GIGANTIC)
        return PW_GIGANTIC;
    return size & ~(PW_GIGANTIC - 1);
}

/* Pages of 1 GiB are not for a pool that needs less, unless by name. And AUTO does not
 * make a pool smaller than somebody said to have them, for there are other kinds. */
static int segment_gigantic(struct pw_pool *pool, const struct pw_wanted *w,
                            const struct pw_sys *sys)
{
    bool named = w->pages == PW_PAGES_1G;
    size_t size = gigantic_size(w), needed = w->min_size, share;

    if (!named && w->size < PW_GIGANTIC)
        return NOT_HAD;
    if (!named && w->all && needed < size)
        needed = size;
    share = pw_pages_hugetlb_share(sys, PW_GIGANTIC, w->sharers, needed, &pool->why);
    return share ? pw_segment_create(sys, smaller(size, share), PW_SEGMENT_GIGANTIC,
                                     &pool->seg) : NOT_HAD;
}

/* Kinds that the machine has only so many of, best first. */
static const struct kind {
    enum pw_pages pages;
    int (*segment)(struct pw_pool *pool, const struct pw_wanted *w, const struct pw_sys *sys);
} scarce_kinds[] = {
    { PW_PAGES_KDRIVER, segment_kdriver },
    { PW_PAGES_2M, segment_hugetlb },
    { PW_PAGES_1G, segment_gigantic },
};

/* Pages that are taken one by one: transparent huge ones where those work. */
static int segment_sparse(struct pw_pool *pool, const struct pw_wanted *w,
                          const struct pw_sys *sys)
{
    int huge, err = pw_segment_create(sys, smaller(w->size, w->at_most), PW_SEGMENT_SPARSE,
                                      &pool->seg);

    if (err)
        return err;
    pool->pages = PW_PAGES_4K;
    if (w->pages == PW_PAGES_4K)
        return 0;

    huge = pw_populate_try_huge(sys, &pool->seg);
    if (huge == 0) {
        pool->pages = PW_PAGES_THP;
        return 0;
    }
    pw_pages_why_no_thp(huge, &pool->why);
    if (w->pages == PW_PAGES_AUTO)
        return 0;
    pw_segment_destroy(&pool->seg);
    return -ENOMEM;
}

int pw_pool_choose(struct pw_pool *pool, const struct pw_wanted *w,
                   const struct pw_sys *sys)
{
    const struct kind *k = scarce_kinds;
    const size_t n = sizeof scarce_kinds / sizeof *scarce_kinds;

    for (size_t i = 0; i < n; i++) {
        int err;

        if (w->pages != PW_PAGES_AUTO && w->pages != k[i].pages)
            continue;
        pool->pages = k[i].pages;
        err = k[i].segment(pool, w, sys);
        if (!err)
            return 0;
        if (err < 0)
            pw_why_add(&pool->why, "%s refused: %s", pw_pages_name(k[i].pages),
                       strerror(-err));
        if (w->pages != PW_PAGES_AUTO)
            return -ENOMEM;
    }
    if (w->pages != PW_PAGES_AUTO)
        pw_why_add(&pool->why, "%s were asked for", pw_pages_name(w->pages));
    return segment_sparse(pool, w, sys);
}

int pw_wanted_read(struct pw_wanted *w, const struct pw_pool_config *config,
                   const struct pw_sys *sys)
{
    if ((unsigned)config->pages > PW_PAGES_1G)
        return -EINVAL;
    if (config->size > (size_t)PW_BOOKS_MAX << PW_PAGE_SHIFT)
        return -EINVAL;
    *w = (struct pw_wanted){
        .pages = config->pages, .min_size = config->min_size, .all = config->size > 0,
        .size = (config->size + PW_HUGE - 1) & ~(PW_HUGE - 1),
        .at_most = SIZE_MAX, .sharers = config->sharers ? config->sharers : 1,
    };
    if (!w->size)
        w->size = size_default(sys, w->sharers);
    return 0;
}
