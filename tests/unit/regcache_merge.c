/* SPDX-License-Identifier: BSD-3-Clause */
/* regcache_merge.c - buffers that overlap: pinned once where that is cheap, never in
 * turns, and at most 1.5 times what the program uses. */
#include "regcache_rig.h"

Test(regcache_merge, a_buffer_that_grew_replaces_its_smaller_self)
{
    struct rig g;

    rig_open(&g);
    rig_use(&g, 0, 4);
    rig_use(&g, 0, 8);
    cr_expect(eq(u64, rig_stats(&g).regions, 1));
    cr_expect(eq(u64, rig_stats(&g).merges, 1));
    rig_use(&g, 0, 4);
    cr_expect(eq(int, g.pin->pins, 2));
    rig_close(&g);
}

Test(regcache_merge, two_that_overlap_become_one_and_both_hit)
{
    struct rig g;

    rig_open(&g);
    rig_use(&g, 0, 8);
    rig_use(&g, 4, 8);
    cr_expect(eq(u64, rig_stats(&g).pinned_bytes, 12 * PAGE));
    for (int i = 0; i < 5; i++) {
        rig_use(&g, 0, 8);
        rig_use(&g, 4, 8);
    }
    cr_expect(eq(int, g.pin->pins, 2));
    rig_close(&g);
}

Test(regcache_merge, neighbours_that_do_not_overlap_stay_apart)
{
    struct rig g;

    rig_open(&g);
    rig_use(&g, 0, 4);
    rig_use(&g, 4, 4);
    cr_expect(eq(u64, rig_stats(&g).regions, 2));
    cr_expect(eq(u64, rig_stats(&g).merges, 0));
    rig_close(&g);
}

/* ---- what the backend widens ---- */

enum { WIDE = 64 };             /* pages */

static size_t wide_begin(const struct rig *g)       /* a page of the rig */
{
    uintptr_t at = (uintptr_t)g->buf;

    return ((at + WIDE * PAGE - 1) / (WIDE * PAGE) * WIDE * PAGE - at) / PAGE;
}

Test(regcache_merge, neighbours_are_one_where_the_backend_says_so)
{
    struct rig g;
    size_t at;

    rig_open(&g);
    g.pin->widen_to = WIDE * PAGE;
    at = wide_begin(&g);
    for (size_t i = 0; i < WIDE; i++)
        rig_use(&g, at + i, 1);
    cr_expect(eq(int, g.pin->pins, 1));
    cr_expect(eq(u64, rig_stats(&g).hits, WIDE - 1));
    rig_use(&g, at + WIDE - 1, 2);
    cr_expect(eq(u64, rig_stats(&g).pinned_bytes, 2 * WIDE * PAGE));
    cr_expect(eq(u64, rig_stats(&g).regions, 1));
    rig_close(&g);
}

Test(regcache_merge, what_cannot_be_pinned_so_wide_is_pinned_as_asked_for)
{
    struct rig g;
    size_t at;

    rig_open(&g);
    g.pin->widen_to = WIDE * PAGE;
    g.pin->refuse_len = WIDE * PAGE - 1;
    at = wide_begin(&g);
    rig_use(&g, at + 3, 2);
    cr_expect(eq(u64, rig_stats(&g).pinned_bytes, 2 * PAGE));
    cr_expect(eq(int, g.pin->pins, 1));
    rig_close(&g);
}

/* The wide one would fit if what is idle went. */
static void wide_spares(struct pw_budget *budget, size_t limit)
{
    struct rig g;
    size_t at;

    rig_open_with(&g, 0, budget);
    g.pin->limit = limit;
    at = wide_begin(&g);
    rig_use(&g, at + WIDE, WIDE / 2);
    g.pin->widen_to = WIDE * PAGE;
    rig_use(&g, at, 1);
    cr_expect(eq(u64, rig_stats(&g).pinned_bytes, (WIDE / 2 + 1) * PAGE));
    cr_expect(eq(u64, rig_stats(&g).evictions, 0));
    rig_close(&g);
}

Test(regcache_merge, nothing_idle_goes_for_what_nobody_asked_for)
{
    struct pw_budget_config limits = { .rank_bytes = (WIDE + 8) * PAGE };
    struct pw_budget *budget;

    cr_assert(eq(int, pw_budget_open(&limits, &budget), 0));
    wide_spares(budget, 0);
    pw_budget_close(budget);
}

Test(regcache_merge, nor_where_the_device_refuses)
{
    wide_spares(NULL, (WIDE + 8) * PAGE);
}

/* ---- what overlaps ---- */

/* A page at the edge of a large region is not worth pinning all of it anew. */
Test(regcache_merge, a_small_piece_does_not_pin_a_large_one_again)
{
    struct rig g;

    rig_open(&g);
    rig_use(&g, 0, 1000);
    rig_use(&g, 999, 2);
    cr_expect(eq(u64, rig_stats(&g).pinned_bytes, 1002 * PAGE));
    rig_use(&g, 0, 1000);
    rig_use(&g, 999, 2);
    cr_expect(eq(int, g.pin->pins, 2), "and both are kept");
    rig_close(&g);
}

Test(regcache_merge, more_access_is_pinned_once_for_both)
{
    struct rig g;

    rig_open(&g);
    pw_regcache_put(g.rc, rig_get(&g, 0, 4, PW_READ));
    pw_regcache_put(g.rc, rig_get(&g, 0, 4, PW_WRITE));
    for (int i = 0; i < 3; i++) {
        pw_regcache_put(g.rc, rig_get(&g, 0, 4, PW_READ));
        pw_regcache_put(g.rc, rig_get(&g, 1, 1, PW_READ | PW_WRITE));
    }
    cr_expect(eq(int, g.pin->pins, 2));
    cr_expect(eq(u64, rig_stats(&g).regions, 1));
    rig_close(&g);
}

/* The first half may be read only, so the two cannot be one region. */
Test(regcache_merge, where_the_whole_cannot_be_pinned_the_part_is)
{
    struct pw_region *r;
    struct rig g;

    rig_open(&g);
    pw_regcache_put(g.rc, rig_get(&g, 0, 4, PW_READ));
    g.pin->refuse_len = 4 * PAGE;
    pw_regcache_put(g.rc, rig_get(&g, 2, 4, PW_WRITE));
    cr_expect(eq(u64, rig_stats(&g).regions, 2));
    for (int i = 0; i < 3; i++) {
        pw_regcache_put(g.rc, rig_get(&g, 0, 4, PW_READ));
        pw_regcache_put(g.rc, rig_get(&g, 2, 4, PW_WRITE));
    }
    cr_expect(eq(int, g.pin->pins, 2), "they do not take turns");
    g.pin->refuse_access = PW_WRITE;
    cr_expect(eq(int, pw_regcache_get(g.rc, g.buf, 1, PW_WRITE, &r), -EFAULT));
    pw_regcache_put(g.rc, rig_get(&g, 0, 4, PW_READ));
    rig_close(&g);
}

Test(regcache_merge, where_the_whole_is_not_vouched_for_the_part_is)
{
    struct rig g;

    rig_open(&g);
    rig_use(&g, 0, 4);
    g.mon->watch_most = 4 * PAGE;
    rig_use(&g, 2, 4);
    cr_expect(eq(u64, rig_stats(&g).uncached, 0));
    cr_expect(eq(u64, rig_stats(&g).regions, 2));
    rig_close(&g);
}

Test(regcache_merge, a_part_that_is_held_outlives_the_merge)
{
    struct pw_region *held;
    struct rig g;

    rig_open(&g);
    held = rig_get(&g, 0, 4, PW_READ);
    rig_use(&g, 2, 4);
    cr_expect(eq(u64, rig_stats(&g).regions, 1));
    cr_expect(fake_is_pinned(held));
    pw_regcache_put(g.rc, held);
    cr_expect(eq(int, g.pin->unpins, 1));
    rig_close(&g);
}

/* The trace, run twice: what is pinned when it has run, against the pages it used;
 * and nothing is pinned in the second run that was pinned in the first. */
static void run_trace(void (*trace)(struct rig *g, bool *used), const char *name)
{
    static bool used[RIG_PAGES];
    size_t set = 0;
    struct rig g;
    int pins;

    rig_open(&g);
    memset(used, 0, sizeof(used));
    trace(&g, used);
    for (size_t i = 0; i < RIG_PAGES; i++)
        set += used[i];
    cr_expect(le(u64, rig_stats(&g).pinned_bytes * 2, set * PAGE * 3),
              "%s: %zu pages used, %zu pinned", name, set,
              (size_t)rig_stats(&g).pinned_bytes / PAGE);
    trace(&g, used);
    pins = g.pin->pins;
    trace(&g, used);
    cr_expect(eq(int, g.pin->pins, pins), "%s: pinned again in the third run", name);
    rig_close(&g);
}

static void touch(struct rig *g, bool *used, size_t page, size_t pages)
{
    rig_use(g, page, pages);
    memset(used + page, 1, pages);
}

static void sliding_window(struct rig *g, bool *used)
{
    for (size_t i = 0; i < 2000; i++)
        touch(g, used, i, 64);
}

static void growing(struct rig *g, bool *used)
{
    for (size_t i = 1; i < 3000; i += 1 + i / 10)
        touch(g, used, 100, i);
}

static void halo(struct rig *g, bool *used)     /* a stencil's rows and borders */
{
    for (size_t row = 0; row < 64; row++) {
        touch(g, used, row * 32, 32);
        touch(g, used, row * 32 + 30, 4);
        touch(g, used, row * 32, 1);
    }
}

static void mixed(struct rig *g, bool *used)
{
    unsigned seed = 7;

    for (int i = 0; i < 3000; i++) {
        size_t pages = (size_t)1 << rand_r(&seed) % 9;
        touch(g, used, (size_t)rand_r(&seed) % 60 * 256 + (size_t)rand_r(&seed) % 64,
              pages);
    }
}

Test(regcache_merge, a_sliding_window_does_not_pin_its_pages_many_times)
{
    run_trace(sliding_window, "sliding window");
}

Test(regcache_merge, a_growing_buffer_is_pinned_about_once)
{
    run_trace(growing, "growing");
}

Test(regcache_merge, rows_and_their_borders_do_not_take_turns)
{
    run_trace(halo, "halo");
}

Test(regcache_merge, a_mix_of_sizes_that_overlap_at_random)
{
    run_trace(mixed, "mixed");
}
