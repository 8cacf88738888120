/* SPDX-License-Identifier: BSD-3-Clause */
/* hooks_ears.h - a monitor of the hooks, and what it tells, for tests. */
#ifndef TEST_HOOKS_EARS_H
#define TEST_HOOKS_EARS_H

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "regcache/hooks.h"
#include "regcache/hooks_entry.h"

#define PAGE ((size_t)4096)
enum { EARS_MAX = 256 };

/* ThreadSanitizer's own calls, for its shadow of the memory, are heard as well. */
#ifdef __SANITIZE_THREAD__
enum { EXACT = 0 };
#else
enum { EXACT = 1 };
#endif

static struct pw_monitor *ears;
static struct pw_change heard[EARS_MAX];
static int n_heard;

static inline struct pw_monitor *ears_another(void)
{
    char why[PW_MONITOR_WHY_MAX] = "";
    struct pw_monitor *m;
    int err = pw_hooks_monitor.open(&m, why);

    cr_assert(zero(int, err), "%s", why);
    return m;
}

static inline void ears_open(void)
{
    ears = ears_another();
}

static inline void ears_close(void)
{
    pw_hooks_monitor.close(ears);
}

/* Everything since the last time. */
static inline int listen_to(struct pw_monitor *m)
{
    uint64_t upto;

    n_heard = pw_hooks_monitor.changes(m, heard, EARS_MAX, &upto);
    return n_heard;
}

static inline void hush(void)
{
    while (listen_to(ears) == EARS_MAX)
        ;
}

/* Of what was heard: is there one of all these pages, with that cause? */
static inline bool heard_at(uintptr_t at, size_t len, unsigned cause)
{
    for (int i = 0; i < n_heard; i++)
        if (heard[i].cause == cause && heard[i].range.start <= at &&
            heard[i].range.end >= at + len)
            return true;
    return false;
}

static inline bool heard_of(const void *addr, size_t len, unsigned cause)
{
    return heard_at((uintptr_t)addr, len, cause);
}

/* Something that may have been anything. */
static inline bool heard_a_loss(void)
{
    return heard_at(PW_RANGE_ALL.start, PW_RANGE_ALL.end, PW_EV_LOST);
}

/* Whether threads that are not the test's own may change memory at any time. */
static bool others_run;

/* This and nothing else. */
static inline void expect_heard(const void *addr, size_t len, unsigned cause)
{
    listen_to(ears);
    cr_expect(heard_of(addr, len, cause));
    if (!EXACT || others_run)
        return;
    cr_expect(eq(int, n_heard, 1));
    cr_expect(eq(ulong, heard[0].range.start, (uintptr_t)addr));
    cr_expect(eq(ulong, heard[0].range.end, (uintptr_t)addr + len));
    cr_expect(eq(uint, heard[0].cause, cause));
}

static inline void expect_silence(uint64_t before)
{
    if (EXACT && !others_run)
        cr_expect(eq(u64, *ears->word, before));
}

/* None of the pages lies where a hugepage could begin, unless there are many: what is
 * done there may be of a hugepage, and is told of as such. */
static inline char *map(size_t pages)
{
    const uintptr_t huge = (uintptr_t)2 << 20;
    size_t len = pages * PAGE;
    char *p;

    do {
        p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        cr_assert(ne(ptr, p, MAP_FAILED));
    } while (len < huge && ((uintptr_t)p - 1) / huge != ((uintptr_t)p + len - 1) / huge);
    memset(p, 1, pages * PAGE);
    return p;
}

static inline int watch(const void *addr, size_t len)
{
    struct pw_range r = { (uintptr_t)addr, (uintptr_t)addr + len };
    struct pw_watch w;

    return pw_hooks_monitor.watch(ears, r, &w);
}

#endif
