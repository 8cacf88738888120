/* SPDX-License-Identifier: BSD-3-Clause */
/* pinning.c - registered memory: pinned once for all NICs, remembered, limited.
 *
 * The cache is the real one. The monitor is a fake that vouches for everything
 * and sees what a test says has changed.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "btl/core/metrics.h"
#include "pinwheel/live.h"
#include "tests/unit/pair.h"

enum { PAGE = 4096, PAGES = 64 };
static char memory[PAGES * PAGE] __attribute__((aligned(4096)));

/* ---- the monitor ---- */

struct fake {
    struct pw_monitor base;
    uint64_t word;
    struct pw_change pending[8];
    int n_pending;
};

static const struct pw_monitor_ops fake_ops;
static const char note[] = "it sees what the test shows it";
static struct fake fakes[16];       /* one for each engine, in the order of opening */
static int opens, closes, watches, watch_error, open_error;

static pthread_mutex_t fake_lock = PTHREAD_MUTEX_INITIALIZER;

static struct fake *fake_of(struct pw_monitor *m)
{
    return (struct fake *)m;
}

static void change(const void *start, size_t len)
{
    uintptr_t at = (uintptr_t)start;

    pthread_mutex_lock(&fake_lock);
    for (int i = 0; i < opens; i++) {
        if (fakes[i].n_pending < 8)
            fakes[i].pending[fakes[i].n_pending++] =
                (struct pw_change){ { at, at + len }, PW_EV_UNMAP };
        else
            fakes[i].pending[0] = (struct pw_change){ { 0, UINTPTR_MAX & ~4095ul },
                                                      PW_EV_LOST };
        __atomic_add_fetch(&fakes[i].word, 1, __ATOMIC_SEQ_CST);
    }
    pthread_mutex_unlock(&fake_lock);
}

static void fake_close(struct pw_monitor *m)
{
    (void)m;
    closes++;
}

static int fake_watch(struct pw_monitor *m, struct pw_range r, struct pw_watch *w)
{
    (void)r;
    __atomic_add_fetch(&watches, 1, __ATOMIC_RELAXED);
    w->since = __atomic_load_n(&fake_of(m)->word, __ATOMIC_SEQ_CST);
    return watch_error;
}

static void fake_unwatch(struct pw_monitor *m, struct pw_range r, struct pw_watch *w)
{
    (void)m;
    (void)r;
    (void)w;
}

static int fake_fresh(struct pw_monitor *m, struct pw_range r, const struct pw_watch *w)
{
    (void)r;
    return w->since == __atomic_load_n(&fake_of(m)->word, __ATOMIC_SEQ_CST);
}

static int fake_changes(struct pw_monitor *m, struct pw_change *out, int n, uint64_t *upto)
{
    struct fake *f = fake_of(m);
    int told;

    pthread_mutex_lock(&fake_lock);
    told = f->n_pending < n ? f->n_pending : n;
    memcpy(out, f->pending, (size_t)told * sizeof(*out));
    memmove(f->pending, f->pending + told, (size_t)(f->n_pending - told) * sizeof(*out));
    f->n_pending -= told;
    *upto = f->word;
    pthread_mutex_unlock(&fake_lock);
    return told;
}

static const struct pw_monitor_ops fake_ops = {
    .name = "fake", .close = fake_close, .watch = fake_watch, .unwatch = fake_unwatch,
    .fresh = fake_fresh, .changes = fake_changes,
};

static int open_fake(const char *name, struct pw_monitor **out,
                     struct pw_monitor_report *report)
{
    if (name && !strcmp(name, "none"))
        return pw_monitor_open("none", out, report);
    if (open_error) {
        strcpy(report->why_not, open_error == -EIO ? "" : "the test wants it so");
        return open_error;
    }
    strcpy(report->why_not, name ? "" : "better: not here");
    cr_assert(lt(int, opens, 16));
    fakes[opens] = (struct fake){ .base = { .ops = &fake_ops, .word = &fakes[opens].word,
                                            .sees = PW_EV_UNMAP | PW_EV_LOST },
                                  .word = 1 };
    strcpy(fakes[opens].base.note, note);
    *out = &fakes[opens++].base;
    return 0;
}

static const struct pair_plan
    cached = { .keyed = true, .monitor_open = open_fake },
    cached_two = { .keyed = true, .two_nics = true, .monitor_open = open_fake },
    unneeded = { .monitor_open = open_fake },
    asked_for = { .monitor_open = open_fake, .monitor = "fake" },
    small = { .keyed = true, .monitor_open = open_fake, .pin_bytes = 8 * PAGE };

/* ---- helpers ---- */

static struct pw_key reg(struct pair *p, int page, int pages)
{
    struct pw_key key = { 0 };

    cr_assert(eq(int, pw_engine_register(p->a.e, memory + page * PAGE, (size_t)pages * PAGE,
                                         PW_READ, false, &key), 0));
    return key;
}

static int reg_error(struct pair *p, int page, int pages)
{
    struct pw_key key = { 0 };

    return pw_engine_register(p->a.e, memory + page * PAGE, (size_t)pages * PAGE, PW_READ,
                              false, &key);
}

static void dereg(struct pair *p, struct pw_key key)
{
    pw_engine_deregister(p->a.e, &key);
}

static unsigned pins(struct pair *p)
{
    return fake_nic_calls(pair_nic(&p->a, 0), FAKE_PIN);
}

static struct pw_regcache_stats stats(struct pair *p)
{
    struct pw_counts counts;

    pw_engine_counts(p->a.e, &counts);
    return counts.cache;
}

static void close_and_expect_all_unpinned(struct pair *p)
{
    pair_close(p);
    cr_expect(eq(int, pair_pinned, 0), "all is unpinned");
    cr_expect(eq(int, opens, closes), "each monitor is closed");
}

/* ---- once is enough ---- */

Test(pinning, the_same_memory_is_pinned_once)
{
    struct pair p;

    pair_open(&p, &cached);
    for (int i = 0; i < 10; i++)
        dereg(&p, reg(&p, 0, 4));
    cr_expect(eq(uint, pins(&p), 1));
    cr_expect(eq(u64, stats(&p).hits, 9));
    cr_expect(eq(u64, stats(&p).misses, 1));
    cr_expect(eq(u64, stats(&p).pinned_bytes, 4 * PAGE));
    cr_expect(eq(uint, fake_nic_pins(pair_nic(&p.a, 0)), 1), "it stays");
    close_and_expect_all_unpinned(&p);
}

Test(pinning, a_part_of_it_has_the_same_pin_and_a_number_of_its_own)
{
    struct pw_key whole, part;
    struct pair p;

    pair_open(&p, &cached);
    whole = reg(&p, 0, 8);
    part = reg(&p, 2, 1);
    cr_expect(eq(uint, pins(&p), 1));
    cr_expect(eq(int, memcmp(whole.nic, part.nic, sizeof whole.nic[0]), 0));
    cr_expect(ne(u64, whole.id, part.id));
    cr_expect(eq(int, pw_region_check(p.a.e, part.id, (uintptr_t)memory, 1, PW_READ), -EACCES),
              "peers are let at what was registered, not at what is pinned");
    dereg(&p, whole);
    dereg(&p, part);
    close_and_expect_all_unpinned(&p);
}

Test(pinning, all_nics_pin_it_and_each_has_its_key)
{
    struct pw_key first, again;
    struct pair p;

    pair_open(&p, &cached_two);
    first = reg(&p, 0, 1);
    again = reg(&p, 0, 1);
    for (int i = 0; i < 2; i++) {
        cr_expect(eq(uint, fake_nic_calls(pair_nic(&p.a, i), FAKE_PIN), 1));
        cr_expect(eq(int, memcmp(&first.nic[i], &again.nic[i], sizeof first.nic[i]), 0));
    }
    cr_expect(ne(int, memcmp(&first.nic[0], &first.nic[1], sizeof first.nic[0]), 0));
    dereg(&p, first);
    dereg(&p, again);
    close_and_expect_all_unpinned(&p);
}

Test(pinning, a_nic_without_keys_among_others_is_not_asked)
{
    struct pw_key key;
    struct pair p;

    pair_open(&p, &cached_two);
    pair_nic(&p.a, 0)->info.key_size = 0;
    key = reg(&p, 0, 1);
    cr_expect(eq(uint, fake_nic_calls(pair_nic(&p.a, 0), FAKE_PIN), 0));
    cr_expect(eq(uint, fake_nic_calls(pair_nic(&p.a, 1), FAKE_PIN), 1));
    dereg(&p, key);
    close_and_expect_all_unpinned(&p);
}

Test(pinning, memory_that_has_changed_is_pinned_again)
{
    struct pair p;

    pair_open(&p, &cached);
    dereg(&p, reg(&p, 0, 4));
    change(memory, PAGE);
    dereg(&p, reg(&p, 0, 4));
    cr_expect(eq(uint, pins(&p), 2));
    cr_expect(eq(uint, fake_nic_pins(pair_nic(&p.a, 0)), 1), "the old pin is undone");
    cr_expect(eq(u64, stats(&p).invalidated[0], 1));
    close_and_expect_all_unpinned(&p);
}

Test(pinning, what_has_changed_is_unpinned_by_progress_alone)
{
    struct pair p;

    pair_open(&p, &cached);
    dereg(&p, reg(&p, 0, 4));
    change(memory, PAGE);
    cr_expect(eq(int, pair_pinned, 1));
    pair_turns(&p, 40);
    cr_expect(eq(int, pair_pinned, 0), "the first look when idle");
    close_and_expect_all_unpinned(&p);
}

/* Messages come in all the time: nobody is ever idle. */
Test(pinning, a_busy_progress_notices_changes_too)
{
    struct pair p;

    pair_open(&p, &cached);
    dereg(&p, reg(&p, 0, 4));
    change(memory, PAGE);
    for (uint32_t i = 0; i < 200; i++) {
        cr_assert(eq(int, pair_send(&p.b, i), 0));
        cr_assert(lt(int, 0, pw_engine_progress(p.a.e)));
    }
    cr_expect(eq(int, pair_pinned, 0));
    close_and_expect_all_unpinned(&p);
}

Test(pinning, the_pool_needs_no_watching)
{
    struct pw_key key = { 0 };
    struct pair p;
    void *mine;

    pair_open(&p, &cached);
    mine = pw_pool_alloc(p.a.pool, 8 * PAGE, 0);
    watch_error = -EOPNOTSUPP;
    for (int i = 0; i < 3; i++) {
        cr_assert(eq(int, pw_engine_register(p.a.e, mine, 8 * PAGE, PW_READ | PW_WRITE,
                                             false, &key), 0));
        dereg(&p, key);
    }
    cr_expect(eq(int, watches, 0));
    cr_expect(eq(uint, pins(&p), 1));
    pw_pool_free(p.a.pool, mine);
    close_and_expect_all_unpinned(&p);
}

Test(pinning, memory_nobody_vouches_for_is_pinned_each_time)
{
    struct pair p;

    pair_open(&p, &cached);
    watch_error = -EOPNOTSUPP;
    for (int i = 0; i < 3; i++)
        dereg(&p, reg(&p, 0, 1));
    cr_expect(eq(uint, pins(&p), 3));
    cr_expect(eq(int, pair_pinned, 0));
    cr_expect(eq(u64, stats(&p).uncached, 3));
    close_and_expect_all_unpinned(&p);
}

Test(pinning, no_bytes_or_no_peers_need_no_pin)
{
    struct pw_key key = { 0 };
    struct pair p;

    pair_open(&p, &cached);
    cr_expect(eq(int, pw_engine_register(p.a.e, memory, 0, PW_READ, false, &key), 0));
    dereg(&p, key);
    cr_expect(eq(int, pw_engine_register(p.a.e, memory, 8, 0, false, &key), 0));
    dereg(&p, key);
    cr_expect(eq(uint, pins(&p), 0));
    close_and_expect_all_unpinned(&p);
}

Test(pinning, what_nobody_deregistered_is_given_back_at_the_end)
{
    struct pair p;

    pair_open(&p, &cached_two);
    for (int i = 0; i < PAGES; i++)
        reg(&p, i, 1);
    dereg(&p, reg(&p, 7, 1));
    close_and_expect_all_unpinned(&p);
}

/* ---- limits and failures ---- */

Test(pinning, the_budget_is_not_passed)
{
    struct pw_key key;
    struct pair p;

    pair_open(&p, &small);
    cr_expect(eq(int, reg_error(&p, 0, 9), -ENOMEM));
    cr_expect(eq(u32, p.a.e->n_regions, 0), "no number is taken");
    key = reg(&p, 0, 8);
    cr_expect(eq(int, reg_error(&p, 20, 1), -ENOMEM), "all is in use");
    cr_expect(eq(u64, stats(&p).refused, 2));
    dereg(&p, key);
    dereg(&p, reg(&p, 20, 1));
    cr_expect(eq(u64, stats(&p).evictions, 1), "what is idle makes room");
    close_and_expect_all_unpinned(&p);
}

Test(pinning, the_number_of_regions_is_limited_too)
{
    struct pair_plan plan = cached;
    struct pw_key a, b;
    struct pair p;

    plan.pin_regions = 2;
    pair_open(&p, &plan);
    a = reg(&p, 0, 1);
    b = reg(&p, 10, 1);
    cr_expect(eq(int, reg_error(&p, 20, 1), -ENOMEM));
    dereg(&p, a);
    dereg(&p, reg(&p, 20, 1));
    dereg(&p, b);
    close_and_expect_all_unpinned(&p);
}

Test(pinning, more_regions_than_a_cache_has_by_default)
{
    enum { MANY = 66000 };
    struct pair_plan plan = asked_for;      /* no NIC: only numbers */
    struct pw_memory_info info;
    struct pw_key key = { 0 };
    struct pair p;
    char *pages = mmap(NULL, (size_t)MANY * PAGE, PROT_READ,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    cr_assert(ne(ptr, pages, MAP_FAILED));
    plan.pin_regions = MANY;
    plan.pin_bytes = (size_t)MANY * PAGE;
    pair_open(&p, &plan);
    for (int i = 0; i < MANY; i++)
        cr_assert(eq(int, pw_engine_register(p.a.e, pages + (size_t)i * PAGE, PAGE, PW_READ,
                                             false, &key), 0));
    cr_expect(eq(int, reg_error(&p, 0, 1), -ENOMEM));
    pw_engine_memory(p.a.e, &info);
    cr_expect(eq(sz, info.budget.rank_regions, MANY));
    cr_expect(eq(sz, info.budget.used_regions, MANY));
    close_and_expect_all_unpinned(&p);
    munmap(pages, (size_t)MANY * PAGE);
}

Test(pinning, a_nic_at_its_limit_gets_room_by_unpinning_what_is_idle)
{
    struct pair p;

    pair_open(&p, &cached);
    dereg(&p, reg(&p, 0, 1));
    fake_nic_fail(pair_nic(&p.a, 0), FAKE_PIN, 1, 1, -ENOMEM);
    dereg(&p, reg(&p, 20, 1));
    cr_expect(eq(u64, stats(&p).evictions, 1));
    cr_expect(eq(int, pair_pinned, 1));
    close_and_expect_all_unpinned(&p);
}

Test(pinning, a_second_nic_that_refuses_undoes_the_first)
{
    static const int errors[] = { -ENOMEM, -EFAULT, -EIO };
    struct pair p;

    pair_open(&p, &cached_two);
    for (int i = 0; i < 3; i++) {
        /* Each time: the cache tries some errors again. */
        fake_nic_fail(pair_nic(&p.a, 1), FAKE_PIN, 1, 0, errors[i]);
        cr_expect(eq(int, reg_error(&p, 0, 1), errors[i]));
        cr_expect(eq(int, pair_pinned, 0));
    }
    fake_nic_fail(pair_nic(&p.a, 1), FAKE_PIN, 1, 0, 0);
    cr_expect(eq(u32, p.a.e->n_regions, 0));
    cr_expect(eq(u64, stats(&p).pinned_bytes, 0));
    dereg(&p, reg(&p, 0, 1));
    close_and_expect_all_unpinned(&p);
}

/* ---- threads ---- */

static bool enough;

static void *register_many(void *arg)
{
    struct pair *p = arg;

    for (int i = 0; i < 2000; i++)
        dereg(p, reg(p, i * 7 % 32, 1 + i % 5));
    return NULL;
}

static void *progress_and_change(void *arg)
{
    struct pair *p = arg;

    for (int i = 0; !__atomic_load_n(&enough, __ATOMIC_RELAXED); i++) {
        pair_turns(p, 8);
        if (i % 16 == 0)
            change(memory + i % 32 * PAGE, PAGE);
    }
    return NULL;
}

Test(pinning, threads_register_while_memory_changes)
{
    struct pair_plan plan = cached_two;
    pthread_t threads[3], other;
    struct pair p;

    plan.threads = true;
    pair_open(&p, &plan);
    cr_assert(eq(int, pthread_create(&other, NULL, progress_and_change, &p), 0));
    for (int i = 0; i < 3; i++)
        cr_assert(eq(int, pthread_create(&threads[i], NULL, register_many, &p), 0));
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    __atomic_store_n(&enough, true, __ATOMIC_RELAXED);
    pthread_join(other, NULL);
    cr_expect(eq(u64, stats(&p).hits + stats(&p).misses, 6000));
    cr_expect(eq(u64, stats(&p).refused, 0));
    close_and_expect_all_unpinned(&p);
}

/* ---- which monitor ---- */

Test(pinning, no_need_no_monitor)
{
    struct pw_memory_info info;
    struct pw_key key = { 0 };
    struct pair p;

    pair_open(&p, &unneeded);
    cr_expect(eq(int, opens, 0));
    pw_engine_memory(p.a.e, &info);
    cr_expect(eq(ptr, (void *)info.monitor, NULL));
    cr_expect(eq(str, info.note, ""));
    cr_expect(eq(u32, p.a.e->n_busy, 0), "progress does nothing for it");
    cr_assert(eq(int, pw_engine_register(p.a.e, memory, 1, PW_READ, false, &key), 0));
    dereg(&p, key);
    cr_expect(eq(u64, stats(&p).misses, 0));
    close_and_expect_all_unpinned(&p);
}

Test(pinning, auto_says_what_it_passed_over)
{
    static const char *const names[] = { NULL, "", "auto" };
    struct pair_plan plan = cached;
    struct pw_memory_info info;
    struct pair p;

    for (int i = 0; i < 3; i++) {
        plan.monitor = names[i];
        pair_open(&p, &plan);
        pw_engine_memory(p.a.e, &info);
        cr_expect(eq(str, (char *)info.monitor, "fake"));
        cr_expect(eq(str, info.why, "better: not here"));
        cr_expect(eq(str, info.note, (char *)note));
        cr_expect(eq(uint, info.sees, PW_EV_UNMAP | PW_EV_LOST));
        cr_expect(not(info.refused));
        close_and_expect_all_unpinned(&p);
    }
}

Test(pinning, a_monitor_asked_for_by_name_watches_without_need)
{
    struct pair p;

    pair_open(&p, &asked_for);
    cr_expect(eq(int, opens, 2), "one for each side");
    for (int i = 0; i < 3; i++)
        dereg(&p, reg(&p, 0, 1));
    cr_expect(eq(u64, stats(&p).hits, 2));
    cr_expect(eq(uint, pins(&p), 0), "and no NIC is bothered");
    close_and_expect_all_unpinned(&p);
}

Test(pinning, a_monitor_that_cannot_be_had_is_replaced_and_it_is_said)
{
    struct pw_memory_info info;
    struct pair p;

    open_error = -EPERM;
    pair_open(&p, &asked_for);
    pw_engine_memory(p.a.e, &info);
    cr_expect(eq(str, (char *)info.monitor, "none"));
    cr_expect(info.refused);
    cr_expect(eq(str, info.why, "the test wants it so"));
    dereg(&p, reg(&p, 0, 1));
    cr_expect(eq(u64, stats(&p).uncached, 1));
    close_and_expect_all_unpinned(&p);

    open_error = -EIO;
    pair_open(&p, &asked_for);
    pw_engine_memory(p.a.e, &info);
    cr_expect(eq(str, info.why, strerror(EIO)), "never without a word");
    close_and_expect_all_unpinned(&p);
}

static void expect_no_engine(int error, const char *says)
{
    char why[PW_NIC_WHY_MAX];
    struct pair_side side;

    open_error = error;
    cr_expect(eq(int, pair_side_open(&side, &asked_for, "fake", why), error));
    cr_expect(ne(ptr, strstr(why, says), NULL), "%s", why);
    cr_expect(eq(uint, fake_nic_reset(), 0), "no NIC stays open");
}

Test(pinning, an_unknown_monitor_is_refused_by_name)
{
    expect_no_engine(-EINVAL, "the test wants it so");
}

Test(pinning, no_memory_for_a_monitor_is_no_engine)
{
    expect_no_engine(-ENOMEM, "");
}

/* ---- what is counted ---- */

Test(metrics, each_number_has_one_name)
{
    cr_assert(eq(sz, PW_METRICS * sizeof(uint64_t), sizeof(struct pw_counts)));
    for (int i = 0; i < PW_METRICS; i++) {
        cr_expect(lt(sz, 10, strlen(pw_metrics[i].what)));
        cr_expect(lt(sz, strlen(pw_metrics[i].name), PW_LIVE_NAME));
        for (int j = 0; j < i; j++) {
            cr_expect(ne(sz, pw_metrics[i].at, pw_metrics[j].at));
            cr_expect(ne(int, strcmp(pw_metrics[i].name, pw_metrics[j].name), 0));
        }
    }
}

Test(metrics, events_have_the_names_that_monitors_give_them)
{
    for (int event = 0; event < 12; event++) {
        struct pw_counts counts = { 0 };
        char name[64];
        int found = 0;

        counts.cache.invalidated[event] = 7;
        snprintf(name, sizeof name, "cache_invalidated_%s", pw_event_name(1u << event));
        for (int i = 0; i < PW_METRICS; i++)
            if (pw_metric_value(&counts, i) == 7) {
                cr_expect(eq(str, (char *)pw_metrics[i].name, name));
                found++;
            }
        cr_expect(eq(int, found, 1), "%s", name);
    }
}

static uint64_t value(const struct pw_live_page *page, const char *name)
{
    for (uint32_t i = 0; i < page->n_values; i++)
        if (!strcmp(page->values[i].name, name))
            return page->values[i].value;
    cr_fatal("no %s", name);
    return 0;
}

/* The page of the second engine, or of the first: in the order of descriptors. */
static bool page_shows(const char *name, uint64_t wanted)
{
    struct pw_live_page page;

    for (unsigned i = 0; !pw_live_read(getpid(), i, &page); i++)
        if (value(&page, name) == wanted)
            return true;
    return false;
}

Test(metrics, who_looks_from_outside_sees_what_has_happened)
{
    struct pw_live_page page;
    struct pair p;

    pair_open(&p, &cached);
    cr_expect(eq(int, pw_live_read(getpid(), 1, &page), 0), "one for each engine");
    cr_expect(eq(int, pw_live_read(getpid(), 2, &page), -ENOENT));
    cr_expect(eq(str, page.texts[0].text, "fake"));
    cr_expect(eq(str, page.texts[1].text, (char *)note));
    for (int i = 0; i < 5; i++)
        dereg(&p, reg(&p, 0, 2));
    pair_send(&p.a, 1);
    for (int i = 0; i < 1000 && !page_shows("cache_hits", 4); i++) {
        pair_turns(&p, 64);
        usleep(1000);
    }
    cr_expect(page_shows("cache_hits", 4));
    cr_expect(page_shows("cache_pinned_bytes", 2 * PAGE));
    cr_expect(page_shows("messages", 1));
    close_and_expect_all_unpinned(&p);
    cr_expect(eq(int, pw_live_read(getpid(), 0, &page), -ENOENT), "nothing stays");
}

Test(metrics, a_busy_rank_is_seen_too)
{
    struct pair p;

    pair_open(&p, &cached);
    dereg(&p, reg(&p, 0, 1));
    usleep(2000);
    for (uint32_t i = 0; i < 2048; i++) {
        cr_assert(eq(int, pair_send(&p.b, i), 0));
        cr_assert(lt(int, 0, pw_engine_progress(p.a.e)));
    }
    cr_expect(page_shows("cache_misses", 1));
    close_and_expect_all_unpinned(&p);
}

/* ---- NICs that can do without ---- */

static bool has_key(const struct pw_key *key, int nic)
{
    static const struct pw_nic_key none;

    return memcmp(&key->nic[nic], &none, sizeof(none));
}

static void open_optional(struct pair *p, const struct pair_plan *plan)
{
    fake_nic_traits(&fake_nic_ops)->flags |= PW_NIC_KEYS_OPTIONAL;
    pair_open(p, plan);
}

Test(pinning, where_keys_are_optional_nobody_fails_for_a_limit)
{
    struct pw_key key;
    struct pair p;

    open_optional(&p, &small);
    key = reg(&p, 0, 4);
    cr_expect(has_key(&key, 0));
    dereg(&p, key);
    memset(&key, 0xff, sizeof(key));
    cr_expect(eq(int, pw_engine_register(p.a.e, memory, 9 * PAGE, PW_READ, false, &key), 0));
    cr_expect(not(has_key(&key, 0)), "more than may be pinned");
    cr_expect(eq(int, pw_region_check(p.a.e, key.id, (uintptr_t)memory, 9 * PAGE, PW_READ), 0),
              "it is reached by frames");
    cr_expect(eq(u64, stats(&p).refused, 1), "and counted");
    dereg(&p, key);
    fake_nic_fail(pair_nic(&p.a, 0), FAKE_PIN, 1, 0, -ENOMEM);
    key = reg(&p, 20, 1);
    cr_expect(not(has_key(&key, 0)), "the NIC's own limit");
    dereg(&p, key);
    fake_nic_fail(pair_nic(&p.a, 0), FAKE_PIN, 1, 1, 0);
    key = reg(&p, 20, 1);
    cr_expect(has_key(&key, 0), "once there is room it is pinned again");
    dereg(&p, key);
    close_and_expect_all_unpinned(&p);
}

Test(pinning, where_keys_are_optional_the_pool_is_not_pinned)
{
    struct pw_key key;
    struct pair p;
    void *mine;

    open_optional(&p, &cached);
    mine = pw_pool_alloc(p.a.pool, 8 * PAGE, 0);
    cr_assert(eq(int, pw_engine_register(p.a.e, mine, 8 * PAGE, PW_READ, false, &key), 0));
    cr_expect(not(has_key(&key, 0)));
    cr_expect(eq(uint, pins(&p), 0));
    cr_expect(not(pw_engine_pins_pool(p.a.e)));
    dereg(&p, key);
    pw_pool_free(p.a.pool, mine);
    close_and_expect_all_unpinned(&p);
}

/* To pin each time costs more than it saves. */
Test(pinning, where_keys_are_optional_and_nothing_is_remembered_nothing_is_pinned)
{
    const struct pair_plan blind = { .keyed = true, .monitor = "none",
                                     .monitor_open = open_fake };
    struct pw_key key;
    struct pair p;

    open_optional(&p, &blind);
    key = reg(&p, 0, 4);
    cr_expect(not(has_key(&key, 0)));
    cr_expect(eq(uint, pins(&p), 0));
    dereg(&p, key);
    close_and_expect_all_unpinned(&p);
}

Test(pinning, one_nic_that_can_do_without_does_not_stop_another_that_cannot)
{
    struct pw_key key = { 0 };
    struct pair p;

    open_optional(&p, &cached_two);
    cr_expect(pw_engine_pins_pool(p.a.e));
    fake_nic_fail(pair_nic(&p.a, 0), FAKE_PIN, 1, 1, -ENOMEM);
    key = reg(&p, 0, 4);
    cr_expect(not(has_key(&key, 0)));
    cr_expect(has_key(&key, 1));
    dereg(&p, key);
    fake_nic_fail(pair_nic(&p.a, 1), FAKE_PIN, 1, 0, -EFAULT);
    cr_expect(eq(int, reg_error(&p, 20, 1), -EFAULT), "who cannot do without decides");
    fake_nic_fail(pair_nic(&p.a, 1), FAKE_PIN, 1, 1, 0);
    close_and_expect_all_unpinned(&p);
}

/* A rank that cannot pin and one that can speak of keys of one size. */
Test(pinning, keys_have_room_for_what_others_may_have)
{
    struct pw_key key;
    struct pair p;

    fake_nic_traits(&fake_nic_ops)->key_room = PW_NIC_KEY_MAX;
    pair_open(&p, &unneeded);
    cr_expect(eq(sz, pw_engine_key_size(p.a.e), offsetof(struct pw_key, nic[1])));
    memset(&key, 0xff, sizeof(key));
    cr_assert(eq(int, pw_engine_register(p.a.e, memory, PAGE, PW_READ, false, &key), 0));
    cr_expect(not(has_key(&key, 0)));
    dereg(&p, key);
    pair_close(&p);
}
