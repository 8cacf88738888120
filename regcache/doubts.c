/* SPDX-License-Identifier: BSD-3-Clause */
/* doubts.c - ranges whose pages may still go. See doubts.h.
 *
 * A sequence lock: the version is odd while the writer is at it, and a reader that
 * finds it changed has read nothing.
 */
#include "doubts.h"

#include <errno.h>
#include <stdbool.h>

static uintptr_t peek(const uintptr_t *p)
{
    return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static void put(struct pw_doubts *d, unsigned i, struct pw_range r)
{
    __atomic_store_n(&d->range[i].start, r.start, __ATOMIC_RELAXED);
    __atomic_store_n(&d->range[i].end, r.end, __ATOMIC_RELAXED);
}

static void set_count(struct pw_doubts *d, unsigned n)
{
    __atomic_store_n(&d->n, n, __ATOMIC_RELAXED);
}

/* The fences pair with those in pw_doubts_check(). */
static void begin(struct pw_doubts *d)
{
    __atomic_store_n(&d->version, d->version + 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
}

static void end(struct pw_doubts *d)
{
    __atomic_store_n(&d->version, d->version + 1, __ATOMIC_RELEASE);
}

static struct pw_range hull(struct pw_range a, struct pw_range b)
{
    return (struct pw_range){ a.start < b.start ? a.start : b.start,
                              a.end > b.end ? a.end : b.end };
}

/* Bytes between two ranges, 0 when they touch. */
static uintptr_t gap(struct pw_range a, struct pw_range b)
{
    if (a.end < b.start)
        return b.start - a.end;
    return b.end < a.start ? a.start - b.end : 0;
}

static unsigned nearest(const struct pw_doubts *d, struct pw_range r)
{
    unsigned best = 0;

    for (unsigned i = 1; i < d->n; i++)
        if (gap(d->range[i], r) < gap(d->range[best], r))
            best = i;
    return best;
}

static void drop(struct pw_doubts *d, unsigned i)
{
    put(d, i, d->range[d->n - 1]);
    set_count(d, d->n - 1);
}

/* Into those it touches, which become one; else a place of its own; else into the
 * nearest. */
static void insert(struct pw_doubts *d, struct pw_range r)
{
    unsigned i = 0;

    while (i < d->n) {
        if (gap(d->range[i], r)) {
            i++;
            continue;
        }
        r = hull(d->range[i], r);
        drop(d, i);
        i = 0;
    }
    if (d->n == PW_DOUBTS) {
        i = nearest(d, r);
        r = hull(d->range[i], r);
        drop(d, i);
        insert(d, r);
        return;
    }
    put(d, d->n, r);
    set_count(d, d->n + 1);
}

/* What is left of range i on both sides of r. With no room for the second part
 * the whole stays. false: the entry is gone, and another is in its place. */
static bool cut(struct pw_doubts *d, unsigned i, struct pw_range r)
{
    struct pw_range was = d->range[i];
    bool left = was.start < r.start, right = r.end < was.end;

    if (left && right) {
        if (d->n == PW_DOUBTS)
            return true;
        put(d, i, (struct pw_range){ was.start, r.start });
        put(d, d->n, (struct pw_range){ r.end, was.end });
        set_count(d, d->n + 1);
    } else if (left) {
        put(d, i, (struct pw_range){ was.start, r.start });
    } else if (right) {
        put(d, i, (struct pw_range){ r.end, was.end });
    } else {
        drop(d, i);
        return false;
    }
    return true;
}

void pw_doubts_add(struct pw_doubts *d, struct pw_range r)
{
    begin(d);
    insert(d, r);
    end(d);
}

void pw_doubts_remove(struct pw_doubts *d, struct pw_range r)
{
    unsigned i = 0;

    begin(d);
    while (i < d->n)
        if (d->range[i].start >= r.end || r.start >= d->range[i].end || cut(d, i, r))
            i++;
    end(d);
}

int pw_doubts_check(const struct pw_doubts *d, struct pw_range r)
{
    uint64_t version = __atomic_load_n(&d->version, __ATOMIC_ACQUIRE);
    unsigned n = __atomic_load_n(&d->n, __ATOMIC_RELAXED);
    int err = 0;

    for (unsigned i = 0; i < n; i++)
        if (peek(&d->range[i].start) < r.end && r.start < peek(&d->range[i].end))
            err = -EOPNOTSUPP;
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if (version & 1 || __atomic_load_n(&d->version, __ATOMIC_RELAXED) != version)
        return -EAGAIN;
    return err;
}
