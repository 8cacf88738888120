/* SPDX-License-Identifier: BSD-3-Clause */
/* regcache.c - the cache, one thread, over a fake monitor and a fake pin backend. */
#include "regcache_rig.h"

Test(regcache, second_use_is_a_hit)
{
    struct rig g;

    rig_open(&g);
    rig_use(&g, 0, 4);
    rig_use(&g, 0, 4);
    cr_expect(eq(int, g.pin->pins, 1));
    cr_expect(eq(u64, rig_stats(&g).hits, 1));
    cr_expect(eq(u64, rig_stats(&g).misses, 1));
    rig_close(&g);
}

Test(regcache, what_lies_inside_a_region_is_a_hit_however_it_is_aligned)
{
    struct pw_region *r;
    struct rig g;

    rig_open(&g);
    rig_use(&g, 3, 1000);
    for (size_t at = 3 * PAGE; at < 1003 * PAGE; at += 977) {
        size_t room = 1003 * PAGE - at, len = 1 + at % (room < 70000 ? room : 70000);
        cr_assert(eq(int, pw_regcache_get(g.rc, g.buf + at, len, PW_READ, &r), 0));
        pw_regcache_put(g.rc, r);
    }
    cr_expect(eq(int, g.pin->pins, 1));
    rig_close(&g);
}

Test(regcache, a_byte_pins_its_page_and_two_bytes_may_pin_two)
{
    struct pw_region *r;
    struct rig g;

    rig_open(&g);
    cr_assert(eq(int, pw_regcache_get(g.rc, g.buf + 5, 1, PW_READ, &r), 0));
    cr_expect(eq(sz, r->end - r->start, PAGE));
    pw_regcache_put(g.rc, r);
    cr_assert(eq(int, pw_regcache_get(g.rc, g.buf + 9 * PAGE - 1, 2, PW_READ, &r), 0));
    cr_expect(eq(sz, r->end - r->start, 2 * PAGE));
    pw_regcache_put(g.rc, r);
    rig_close(&g);
}

/* munmap, mmap: same address, other pages. A cache keyed by address alone would
 * send the old ones. */
Test(regcache, same_address_new_pages_is_pinned_again)
{
    struct rig g;

    rig_open(&g);
    rig_use(&g, 0, 4);
    rig_change(&g, 1, 1);
    rig_use(&g, 0, 4);
    cr_expect(eq(int, g.pin->pins, 2));
    cr_expect(eq(int, g.pin->unpins, 1));
    cr_expect(eq(u64, rig_stats(&g).invalidated[0], 1), "counted as an munmap");
    rig_close(&g);
}

Test(regcache, a_change_elsewhere_leaves_it)
{
    struct rig g;

    rig_open(&g);
    rig_use(&g, 10, 4);
    rig_change(&g, 9, 1);
    rig_change(&g, 14, 100);
    rig_use(&g, 10, 4);
    cr_expect(eq(int, g.pin->pins, 1));
    rig_close(&g);
}

Test(regcache, a_change_takes_every_region_it_touches_of_any_size)
{
    struct rig g;

    rig_open(&g);
    for (size_t i = 0; i < 12; i++)
        rig_use(&g, 5000 * i, (size_t)1 << i);
    cr_expect(eq(int, g.pin->pins, 12));
    rig_change(&g, 5000 * 11 + 2047, 1);
    rig_change(&g, 0, 5001);
    for (size_t i = 0; i < 12; i++)
        rig_use(&g, 5000 * i, (size_t)1 << i);
    cr_expect(eq(int, g.pin->pins, 15));
    rig_close(&g);
}

Test(regcache, when_records_were_lost_everything_is_pinned_again)
{
    struct rig g;

    rig_open(&g);
    for (size_t i = 0; i < 20; i++)
        rig_use(&g, 2 * i, 1);
    for (int i = 0; i < FAKE_CHANGES + 1; i++)
        rig_change(&g, 60000, 1);
    for (size_t i = 0; i < 20; i++)
        rig_use(&g, 2 * i, 1);
    cr_expect(eq(int, g.pin->pins, 40));
    cr_expect(eq(u64, rig_stats(&g).invalidated[11], 20), "counted as lost");
    rig_close(&g);
}

Test(regcache, what_is_held_stays_pinned_until_it_is_put)
{
    struct pw_region *held;
    struct rig g;

    rig_open(&g);
    held = rig_get(&g, 0, 1, PW_READ);
    rig_change(&g, 0, 1);
    rig_use(&g, 0, 1);
    cr_expect(fake_is_pinned(held));
    cr_expect(eq(int, g.pin->unpins, 0));
    pw_regcache_put(g.rc, held);
    cr_expect(eq(int, g.pin->unpins, 1));
    rig_close(&g);
}

Test(regcache, the_last_of_many_puts_unpins)
{
    struct pw_region *held[5];
    struct rig g;

    rig_open(&g);
    for (int i = 0; i < 5; i++)
        held[i] = rig_get(&g, 0, 1, PW_READ);
    rig_change(&g, 0, 1);
    pw_regcache_progress(g.rc);
    for (int i = 0; i < 5; i++) {
        cr_expect(eq(int, g.pin->unpins, 0));
        pw_regcache_put(g.rc, held[i]);
    }
    cr_expect(eq(int, g.pin->unpins, 1));
    rig_close(&g);
}

Test(regcache, progress_unpins_what_has_changed_without_a_get)
{
    struct rig g;

    rig_open(&g);
    rig_use(&g, 0, 1);
    rig_change(&g, 0, 1);
    pw_regcache_progress(g.rc);
    cr_expect(eq(int, g.pin->unpins, 1));
    cr_expect(eq(u64, rig_stats(&g).pinned_bytes, 0));
    rig_close(&g);
}

static void change_meanwhile(void *arg)
{
    rig_change(arg, 0, 1);
}

Test(regcache, pages_that_change_while_they_are_pinned_are_pinned_again)
{
    struct pw_region *r;
    struct rig g;

    rig_open(&g);
    g.pin->meanwhile = change_meanwhile;
    g.pin->meanwhile_arg = &g;
    cr_expect(eq(int, pw_regcache_get(g.rc, g.buf, PAGE, PW_READ, &r), -EAGAIN));
    cr_expect(eq(int, g.pin->pins, g.pin->unpins), "nothing stays behind");
    cr_expect(lt(int, 3, g.pin->pins), "it was tried again");
    cr_expect(eq(u64, rig_stats(&g).refused, 1));
    g.pin->meanwhile = NULL;
    rig_use(&g, 0, 1);
    rig_close(&g);
}

static void change_once(void *arg)
{
    struct rig *g = arg;

    rig_change(g, 0, 1);
    g->pin->meanwhile = NULL;
}

Test(regcache, what_is_published_after_a_change_is_the_second_pin)
{
    struct rig g;

    rig_open(&g);
    g.pin->meanwhile = change_once;
    g.pin->meanwhile_arg = &g;
    rig_use(&g, 0, 1);
    rig_use(&g, 0, 1);
    cr_expect(eq(int, g.pin->pins, 2));
    cr_expect(eq(int, g.pin->unpins, 1));
    cr_expect(eq(u64, rig_stats(&g).retries, 1));
    rig_close(&g);
}

static void elsewhere(void *arg)
{
    rig_change(arg, 100, 1);
}

Test(regcache, a_change_of_others_does_not_disturb_a_miss)
{
    struct rig g;

    rig_open(&g);
    g.pin->meanwhile = elsewhere;
    g.pin->meanwhile_arg = &g;
    rig_use(&g, 0, 1);
    g.pin->meanwhile = NULL;
    rig_use(&g, 0, 1);
    cr_expect(eq(int, g.pin->pins, 1));
    rig_close(&g);
}

/* One that pins from inside a pin: an allocator of the backend's that is cached too. */
static void get_another(void *arg)
{
    struct rig *g = arg;

    g->pin->meanwhile = NULL;
    rig_use(g, 0, 1);
}

Test(regcache, no_lock_is_held_across_pin)
{
    struct rig g;

    rig_open(&g);
    g.pin->meanwhile = get_another;
    g.pin->meanwhile_arg = &g;
    rig_use(&g, 0, 1);
    cr_expect(eq(int, g.pin->pins, 2), "both pinned it");
    cr_expect(eq(int, g.pin->unpins, 1), "the first to be ready is kept");
    rig_use(&g, 0, 1);
    cr_expect(eq(int, g.pin->pins, 2));
    rig_close(&g);
}

Test(regcache, memory_nobody_vouches_for_is_pinned_for_each_caller)
{
    struct pw_region *r;
    struct rig g;

    rig_open(&g);
    g.mon->watch_error = -EOPNOTSUPP;
    g.mon->watch_errors = 1000;
    for (int i = 1; i <= 3; i++) {
        r = rig_get(&g, 0, 4, PW_READ);
        cr_expect(eq(int, g.pin->pins, i));
        pw_regcache_put(g.rc, r);
        cr_expect(eq(int, g.pin->unpins, i));
    }
    cr_expect(eq(u64, rig_stats(&g).uncached, 3));
    cr_expect(eq(u64, rig_stats(&g).regions, 0));
    rig_close(&g);
}

Test(regcache, where_a_change_never_ends_memory_is_pinned_for_its_caller)
{
    struct rig g;

    rig_open(&g);
    g.mon->watch_error = -EAGAIN;
    g.mon->watch_errors = 1 << 20;
    rig_use(&g, 0, 1);
    cr_expect(eq(int, g.pin->unpins, 1));
    cr_expect(eq(u64, rig_stats(&g).uncached, 1));
    rig_close(&g);
}

Test(regcache, a_change_that_ends_soon_is_waited_for)
{
    struct rig g;

    rig_open(&g);
    g.mon->watch_error = -EAGAIN;
    g.mon->watch_errors = 3;
    rig_use(&g, 0, 1);
    cr_expect(eq(u64, rig_stats(&g).regions, 1));
    rig_close(&g);
}

/* The word has moved, and nobody can say yet what it was. */
Test(regcache, while_a_change_is_unknown_nothing_is_taken_from_the_cache)
{
    struct rig g;

    rig_open(&g);
    rig_use(&g, 0, 1);
    g.mon->speechless = true;
    rig_change(&g, 0, 1);
    rig_use(&g, 0, 1);
    cr_expect(eq(int, g.pin->pins, 2));
    cr_expect(eq(int, g.pin->unpins, 1), "pinned for one caller");
    g.mon->speechless = false;
    rig_use(&g, 0, 1);
    cr_expect(eq(int, g.pin->pins, 3));
    rig_close(&g);
}

/* Another thread is writing it down: of other memory, as it turns out. */
static void expect_waited_for(int looks)
{
    struct rig g;

    rig_open(&g);
    rig_use(&g, 0, 1);
    g.mon->hesitates = looks;
    rig_change(&g, 10, 1);
    rig_use(&g, 0, 1);
    cr_expect(eq(int, g.pin->pins, 1), "a hit");
    rig_close(&g);
}

Test(regcache, a_change_that_is_being_told_is_waited_for)
{
    expect_waited_for(3);
}

/* Its thread has lost its core: yielding alone does not bring it back. */
Test(regcache, a_change_whose_writer_waits_for_a_core_is_waited_for)
{
    expect_waited_for(70);
}

/* One that is stopped for good costs its 25 ms once, not with each message. */
Test(regcache, a_change_that_was_waited_for_in_vain_is_not_waited_for_again)
{
    struct rig g;
    int asked;

    rig_open(&g);
    rig_use(&g, 0, 1);
    g.mon->speechless = true;
    rig_change(&g, 10, 1);
    asked = g.mon->asked;
    rig_use(&g, 0, 1);
    cr_expect(lt(int, asked + 64, g.mon->asked), "the first get waits");
    asked = g.mon->asked;
    rig_use(&g, 0, 1);
    cr_expect(lt(int, g.mon->asked, asked + 8), "the second does not");
    g.mon->speechless = false;
    rig_use(&g, 0, 1);
    cr_expect(eq(int, g.pin->pins, 3), "told: the first region, which nothing changed");
    rig_change(&g, 10, 1);
    g.mon->hesitates = 70;
    rig_use(&g, 0, 1);
    cr_expect(eq(int, g.pin->pins, 3), "the next one is waited for");
    rig_close(&g);
}

/* It was begun while the pages were pinned. */
static void change_elsewhere(void *arg)
{
    struct rig *g = arg;

    g->mon->hesitates = 3;
    rig_change(g, 10, 1);
}

Test(regcache, a_change_told_late_costs_no_region_that_it_does_not_touch)
{
    struct rig g;

    rig_open(&g);
    g.pin->meanwhile = change_elsewhere;
    g.pin->meanwhile_arg = &g;
    rig_use(&g, 0, 1);
    g.pin->meanwhile = NULL;
    rig_use(&g, 0, 1);
    cr_expect(eq(int, g.pin->pins, 1), "the second is a hit");
    rig_close(&g);
}

Test(regcache, tables_of_the_monitor_that_are_full_cost_the_cache_not_the_region)
{
    struct rig g;

    rig_open(&g);
    g.mon->watch_error = -ENOMEM;
    g.mon->watch_errors = 1;
    rig_use(&g, 0, 1);
    cr_expect(eq(u64, rig_stats(&g).uncached, 1));
    rig_use(&g, 0, 1);
    cr_expect(eq(u64, rig_stats(&g).regions, 1));
    rig_close(&g);
}

Test(regcache, what_is_idle_makes_room_in_the_monitors_tables)
{
    struct rig g;

    rig_open(&g);
    for (size_t i = 0; i < 3; i++)
        rig_use(&g, 10 * i, 1);
    g.mon->watch_error = -ENOMEM;
    g.mon->watch_errors = 2;
    rig_use(&g, 100, 1);
    cr_expect(eq(u64, rig_stats(&g).uncached, 0));
    cr_expect(eq(u64, rig_stats(&g).evictions, 2));
    cr_expect(eq(int, g.mon->unwatches, 2));
    cr_expect(eq(u64, rig_stats(&g).regions, 2));
    rig_close(&g);
}

Test(regcache, what_is_not_mapped_is_refused_by_watch_and_by_pin)
{
    struct pw_region *r;
    struct rig g;

    rig_open(&g);
    g.mon->watch_error = -EFAULT;
    g.mon->watch_errors = 1;
    cr_expect(eq(int, pw_regcache_get(g.rc, g.buf, PAGE, PW_READ, &r), -EFAULT));
    g.pin->fail_at = 1;
    g.pin->error = -EFAULT;
    cr_expect(eq(int, pw_regcache_get(g.rc, g.buf, PAGE, PW_READ, &r), -EFAULT));
    cr_expect(eq(int, g.mon->watches, g.mon->unwatches));
    cr_expect(eq(int, g.pin->pins, 0));
    rig_close(&g);
}

Test(regcache, an_error_of_the_device_reaches_the_caller)
{
    struct pw_region *r;
    struct rig g;

    rig_open(&g);
    g.pin->fail_at = 1;
    g.pin->error = -EIO;
    cr_expect(eq(int, pw_regcache_get(g.rc, g.buf, PAGE, PW_READ, &r), -EIO));
    rig_use(&g, 0, 1);
    rig_close(&g);
}

Test(regcache, at_the_pin_limit_idle_regions_make_room)
{
    struct pw_region *held;
    struct rig g;

    rig_open(&g);
    g.pin->limit = 8 * PAGE;
    held = rig_get(&g, 0, 4, PW_READ);
    rig_use(&g, 10, 4);
    rig_use(&g, 20, 4);
    cr_expect(fake_is_pinned(held));
    cr_expect(eq(u64, rig_stats(&g).evictions, 1));
    pw_regcache_put(g.rc, held);
    rig_close(&g);
}

Test(regcache, at_the_pin_limit_with_nothing_idle_it_is_ENOMEM)
{
    struct pw_region *held, *r;
    struct rig g;

    rig_open(&g);
    g.pin->limit = 8 * PAGE;
    held = rig_get(&g, 0, 8, PW_READ);
    cr_expect(eq(int, pw_regcache_get(g.rc, g.buf + 20 * PAGE, 1, PW_READ, &r), -ENOMEM));
    cr_expect(eq(u64, rig_stats(&g).refused, 1));
    pw_regcache_put(g.rc, held);
    rig_use(&g, 20, 1);
    rig_close(&g);
}

Test(regcache, all_numbers_taken_an_idle_one_is_evicted)
{
    struct pw_region *held[8], *r;
    struct rig g;

    rig_open_with(&g, 8, NULL);
    for (size_t i = 0; i < 20; i++)
        rig_use(&g, 2 * i, 1);
    cr_expect(eq(u64, rig_stats(&g).regions, 8));
    for (size_t i = 0; i < 8; i++)
        held[i] = rig_get(&g, 100 + 2 * i, 1, PW_READ);
    cr_expect(eq(int, pw_regcache_get(g.rc, g.buf + 200 * PAGE, 1, PW_READ, &r), -ENOMEM));
    for (size_t i = 0; i < 8; i++)
        pw_regcache_put(g.rc, held[i]);
    rig_use(&g, 200, 1);
    rig_close(&g);
}

Test(regcache, what_is_used_again_and_again_outlives_what_passes_by)
{
    struct rig g;
    int pins;

    rig_open_with(&g, 16, NULL);
    for (size_t i = 0; i < 400; i++) {
        rig_use(&g, 1000 + 2 * i, 1);
        rig_use(&g, 0, 1);
    }
    pins = g.pin->pins;
    rig_use(&g, 0, 1);
    cr_expect(eq(int, g.pin->pins, pins));
    cr_expect(eq(int, pins, 401), "it was pinned once");
    rig_close(&g);
}

Test(regcache, trim_unpins_as_much_as_it_is_asked_and_no_held_region)
{
    struct pw_region *held;
    struct rig g;

    rig_open(&g);
    held = rig_get(&g, 0, 1, PW_READ);
    for (size_t i = 1; i < 11; i++)
        rig_use(&g, 10 * i, 2);
    cr_expect(ge(sz, pw_regcache_trim(g.rc, 5 * PAGE), 5 * PAGE));
    cr_expect(eq(int, g.pin->unpins, 3));
    cr_expect(eq(sz, pw_regcache_trim(g.rc, SIZE_MAX), 14 * PAGE));
    cr_expect(eq(sz, pw_regcache_trim(g.rc, SIZE_MAX), 0));
    cr_expect(fake_is_pinned(held));
    pw_regcache_put(g.rc, held);
    rig_close(&g);
}

Test(regcache, trusted_memory_is_not_asked_about_and_never_stale)
{
    struct pw_region *r;
    struct rig g;

    rig_open(&g);
    cr_assert(eq(int, pw_regcache_trust(g.rc, g.buf, 100 * PAGE), 0));
    g.mon->watch_error = -EOPNOTSUPP;
    g.mon->watch_errors = 1000;
    rig_use(&g, 10, 4);
    rig_change(&g, 0, 100);
    rig_use(&g, 10, 4);
    cr_expect(eq(int, g.pin->pins, 1));
    cr_expect(eq(int, g.mon->watch_errors, 1000));
    r = rig_get(&g, 99, 2, PW_READ);
    cr_expect(eq(int, g.mon->watch_errors, 999), "half of it is not trusted");
    pw_regcache_put(g.rc, r);
    for (int i = 1; i < 8; i++)
        cr_expect(eq(int, pw_regcache_trust(g.rc, g.buf, PAGE), 0));
    cr_expect(eq(int, pw_regcache_trust(g.rc, g.buf, PAGE), -ENOSPC));
    rig_close(&g);
}

Test(regcache, nonsense_is_EINVAL)
{
    struct pw_regcache_config config = { 0 };
    struct pw_pin_ops huge = fake_pin_ops;
    struct pw_regcache *rc;
    struct pw_region *r;
    struct rig g;

    rig_open(&g);
    cr_expect(eq(int, pw_regcache_get(g.rc, g.buf, 0, PW_READ, &r), -EINVAL));
    cr_expect(eq(int, pw_regcache_get(g.rc, NULL, 0, PW_READ, &r), -EINVAL));
    cr_expect(eq(int, pw_regcache_get(g.rc, g.buf, SIZE_MAX, PW_READ, &r), -EINVAL));
    cr_expect(eq(int, pw_regcache_get(g.rc, g.buf, 1, 64, &r), -EINVAL));
    cr_expect(eq(int, pw_regcache_get(g.rc, (void *)(UINTPTR_MAX - 10), 5, PW_READ, &r),
                 -EFAULT));
    cr_expect(eq(int, pw_regcache_open(NULL, &rc), -EINVAL));
    cr_expect(eq(int, pw_regcache_open(&config, &rc), -EINVAL));
    config.pin = &fake_pin_ops;
    cr_expect(eq(int, pw_regcache_open(&config, &rc), -EINVAL), "no monitor");
    config.monitor = &g.mon->super;
    config.max_regions = 1 << 24;
    cr_expect(eq(int, pw_regcache_open(&config, &rc), -EINVAL));
    config.max_regions = 0;
    huge.handle_size = PW_PIN_HANDLE_MAX + 1;
    config.pin = &huge;
    cr_expect(eq(int, pw_regcache_open(&config, &rc), -EINVAL));
    cr_expect(eq(ptr, rc, NULL));
    pw_regcache_close(NULL);
    rig_close(&g);
}

Test(regcache, more_caches_than_lanes)
{
    struct rig g[9];

    for (int i = 0; i < 9; i++)
        rig_open(&g[i]);
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < 9; i++)
            rig_use(&g[i], (size_t)i, 1);
    for (int i = 0; i < 9; i++) {
        cr_expect(eq(int, g[i].pin->pins, 1));
        cr_expect(eq(u64, rig_stats(&g[i]).hits, 2));
        rig_close(&g[i]);
    }
}

Test(regcache, a_cache_opened_after_another_was_closed_knows_nothing_of_it)
{
    struct rig g;

    for (int i = 0; i < 10; i++) {
        rig_open(&g);
        rig_use(&g, 0, 1);
        cr_expect(eq(int, g.pin->pins, 1));
        rig_close(&g);
    }
}

Test(regcache, what_the_counters_say_adds_up)
{
    struct pw_regcache_stats s;
    struct pw_region *held;
    struct rig g;

    rig_open(&g);
    rig_use(&g, 0, 4);
    rig_use(&g, 0, 4);
    held = rig_get(&g, 10, 2, PW_READ);
    rig_change(&g, 10, 1);
    pw_regcache_progress(g.rc);
    s = rig_stats(&g);
    cr_expect(eq(u64, s.hits, 1));
    cr_expect(eq(u64, s.misses, 2));
    cr_expect(eq(u64, s.regions, 1));
    cr_expect(eq(u64, s.pinned_regions, 2), "the held one is still pinned");
    cr_expect(eq(u64, s.pinned_bytes, 6 * PAGE));
    pw_regcache_put(g.rc, held);
    cr_expect(eq(u64, rig_stats(&g).pinned_bytes, 4 * PAGE));
    rig_close(&g);
}

/* Random gets and changes against a list of what must not be given any more. */
Test(regcache, a_long_random_story_agrees_with_a_simple_model)
{
    enum { SPAN = 512 };
    unsigned seed = 20240, born[SPAN], now = 1;
    struct rig g;

    rig_open_with(&g, 24, NULL);
    memset(born, 0, sizeof(born));
    for (int i = 0; i < 60000; i++, now++) {
        size_t len = 1 + (size_t)rand_r(&seed) % (rand_r(&seed) % 8 ? 3 : 60);
        size_t at = (size_t)rand_r(&seed) % (SPAN - len);

        if (rand_r(&seed) % 16 == 0) {
            rig_change(&g, at, len);
            for (size_t p = at; p < at + len; p++)
                born[p] = (unsigned)g.pin->pins;
        } else {
            struct pw_region *r = rig_get(&g, at, len, 1u << rand_r(&seed) % 2);
            struct fake_handle *h = (struct fake_handle *)(void *)r->handle;
            size_t first = (r->start - (uintptr_t)g.buf) / PAGE;

            for (size_t p = first; p < (r->end - (uintptr_t)g.buf) / PAGE; p++)
                cr_assert(lt(uint, born[p], h->number), "page %zu has changed since", p);
            pw_regcache_put(g.rc, r);
        }
    }
    cr_expect(lt(u64, 1000, rig_stats(&g).hits));
    cr_expect(lt(u64, 100, rig_stats(&g).evictions));
    rig_close(&g);
}
