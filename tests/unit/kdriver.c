/* SPDX-License-Identifier: BSD-3-Clause */
/* kdriver.c - the monitor that asks the kernel driver, over a driver of our own. What
 * the real one sees is proved in virtual machines (tests/vm/cache). */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "child.h"
#include "fake_driver.h"
#include "regcache/monitors.h"

#define PAGE ((uintptr_t)4096)

static struct pw_monitor *m;
static char why[PW_MONITOR_WHY_MAX];

static int open_it(void)
{
    memset(why, 0, sizeof why);
    return pw_kdriver_open_on(&fake_driver_sys, &m, why);
}

static void begin(void)
{
    fake_driver_reset();
    cr_assert(eq(int, open_it(), 0), "%s", why);
}

static void end(void)
{
    pw_monitor_close(m);
}

TestSuite(kdriver, .init = begin, .fini = end, .timeout = 120);
TestSuite(kdriver_open, .init = fake_driver_reset, .timeout = 120);

/* The nth of some ranges of four pages that do not touch. */
static struct pw_range range(unsigned n)
{
    return (struct pw_range){ (1000 + 8 * n) * PAGE, (1004 + 8 * n) * PAGE };
}

static struct pw_watch watch(struct pw_range r)
{
    struct pw_watch w = { 0 };

    cr_assert(eq(int, m->ops->watch(m, r, &w), 0));
    return w;
}

static bool fresh(struct pw_range r, struct pw_watch w)
{
    return m->ops->fresh(m, r, &w);
}

static void unwatch(struct pw_range r, struct pw_watch w)
{
    m->ops->unwatch(m, r, &w);
}

static void change(struct pw_range r, enum pw_kd_event event)
{
    fake_driver_change(r.start, r.end, event);
}

/* All that there is to tell. How often that range is among it. */
static struct pw_change told[256];
static int n_told;

static int times(struct pw_range r)
{
    int n = 0;

    for (int i = 0; i < n_told; i++)
        n += told[i].range.start == r.start && told[i].range.end == r.end;
    return n;
}

static int listen_to(void)
{
    uint64_t word = *m->word, upto = 0;

    n_told = m->ops->changes(m, told, 256, &upto);
    cr_expect(eq(u64, upto, word));
    return n_told;
}

/* ---- opening ---- */

static void expect_refused(int err, const char *sentence)
{
    cr_expect(eq(int, open_it(), err));
    cr_expect(eq(ptr, m, NULL));
    cr_expect(ne(ptr, strstr(why, sentence), NULL), "%s", why);
    cr_expect(eq(ptr, fake_driver_control(), NULL), "nothing is left open");
    cr_expect(eq(int, fake_driver.foreign, 0));
}

Test(kdriver_open, a_driver_that_is_not_there_is_told_with_what_would_mend_it)
{
    static const int errors[] = { ENOENT, ENODEV, ENXIO };

    for (int i = 0; i < 3; i++) {
        fake_driver.open_error = errors[i];
        expect_refused(-ENODEV, "there is no /dev/pinwheel, for the optional kernel "
                                "driver is not loaded (modprobe");
    }
}

Test(kdriver_open, without_leave_to_open_it_that_is_told)
{
    fake_driver.open_error = EACCES;
    expect_refused(-EPERM, "may not be opened by this user");
    fake_driver.open_error = EPERM;
    expect_refused(-EPERM, "may not be opened by this user");
}

Test(kdriver_open, any_other_error_is_told_by_its_name)
{
    fake_driver.open_error = EMFILE;
    expect_refused(-EMFILE, "/dev/pinwheel cannot be opened: Too many open files");
}

Test(kdriver_open, what_does_not_answer_is_no_driver)
{
    fake_driver.info_error = ENOTTY;
    expect_refused(-ENODEV, "is no driver of ours: Inappropriate ioctl");
}

Test(kdriver_open, another_version_is_refused)
{
    fake_driver.version = PW_KD_VERSION + 1;
    expect_refused(-ENODEV, "has version 2 and this library is for 1");
}

Test(kdriver_open, a_driver_that_does_not_watch_is_refused)
{
    fake_driver.services = PW_KD_SERVICE_POOL | PW_KD_SERVICE_ATTACH;
    expect_refused(-ENODEV, "does not offer this");
}

Test(kdriver_open, a_number_of_slots_that_cannot_be_is_refused)
{
    fake_driver.words_bytes = 8 * PW_KD_FIRST_SLOT;
    expect_refused(-ENODEV, "no slots, or too many");
    fake_driver.words_bytes = 8ull << 24;
    expect_refused(-ENODEV, "no slots, or too many");
}

Test(kdriver_open, words_that_cannot_be_mapped_are_told)
{
    fake_driver.map_error = EAGAIN;
    expect_refused(-ENODEV, "words cannot be mapped: Resource temporarily");
    fake_driver.map_error = ENOMEM;
    expect_refused(-ENOMEM, "words cannot be mapped: Cannot allocate");
}

Test(kdriver_open, it_sees_everything_and_leaves_nothing_behind)
{
    cr_assert(eq(int, open_it(), 0));
    cr_expect(eq(uint, m->sees, PW_EV_ALL & ~PW_EV_LOST));
    cr_expect(eq(str, m->note, ""));
    cr_expect(eq(u64, *m->word, fake_driver_control()->words[0]));
    pw_monitor_close(m);
    cr_expect(eq(ptr, fake_driver_control(), NULL));
    cr_expect(eq(int, fake_driver.foreign, 0));
}

Test(kdriver_open, the_real_one_works_or_says_why_not)
{
    int err = pw_kdriver_monitor.open(&m, why);

    if (err) {
        cr_expect(eq(ptr, m, NULL));
        cr_expect(ne(str, why, ""));
        return;
    }
    pw_monitor_close(m);
}

/* ---- watching ---- */

Test(kdriver, what_happens_to_a_range_is_told_once_with_its_cause)
{
    static const struct {
        enum pw_kd_event event;
        unsigned cause;
    } events[] = {
        { PW_KD_UNMAP, PW_EV_UNMAP }, { PW_KD_DISCARD, PW_EV_DISCARD },
        { PW_KD_PROTECT, PW_EV_PROTECT },
    };
    struct pw_watch w[2] = { watch(range(0)), watch(range(1)) };

    for (int i = 0; i < 3; i++) {
        struct pw_watch again = watch(range(0));

        cr_expect(eq(int, listen_to(), 0));
        cr_expect(fresh(range(0), again));
        change(range(0), events[i].event);
        cr_expect(not(fresh(range(0), again)));
        unwatch(range(0), again);
        cr_assert(eq(int, listen_to(), 1));
        cr_expect(eq(uint, told[0].cause, events[i].cause));
        cr_expect(eq(int, times(range(0)), 1));
        cr_expect(eq(int, listen_to(), 0), "once");
    }
    cr_expect(not(fresh(range(0), w[0])));
    cr_expect(fresh(range(1), w[1]));
}

Test(kdriver, what_is_gone_or_unheard_of_may_be_everything)
{
    watch(range(0));
    change(range(0), PW_KD_GONE);
    cr_assert(eq(int, listen_to(), 1));
    cr_expect(eq(uint, told[0].cause, PW_EV_LOST));
    cr_expect(eq(ulong, told[0].range.start, 0));
    cr_expect(le(ulong, UINTPTR_MAX - PAGE, told[0].range.end));
    change(range(0), (enum pw_kd_event)77);
    cr_assert(eq(int, listen_to(), 1));
    cr_expect(eq(uint, told[0].cause, PW_EV_LOST));
}

Test(kdriver, watches_that_overlap_are_told_each)
{
    struct pw_range all = { range(0).start, range(3).end };
    struct pw_watch a = watch(range(0)), b = watch(all), c = watch(range(0));

    change(range(2), PW_KD_UNMAP);
    cr_expect(fresh(range(0), a));
    cr_expect(not(fresh(all, b)));
    cr_expect(eq(int, listen_to(), 1));
    cr_expect(eq(int, times(all), 1));
    change(range(0), PW_KD_UNMAP);
    cr_expect(eq(int, listen_to(), 3));
    cr_expect(eq(int, times(range(0)), 2));
    cr_expect(eq(int, times(all), 1));
    unwatch(range(0), a);
    change(range(0), PW_KD_UNMAP);
    cr_expect(eq(int, listen_to(), 2), "the other two go on");
    cr_expect(not(fresh(range(0), c)));
}

Test(kdriver, a_change_between_watch_and_fresh_is_seen)
{
    struct pw_watch w = watch(range(0));

    change(range(0), PW_KD_DISCARD);
    listen_to();
    cr_expect(not(fresh(range(0), w)), "told or not");
}

Test(kdriver, who_is_not_watched_any_more_is_not_told)
{
    struct pw_watch w = watch(range(0));

    change(range(0), PW_KD_UNMAP);
    unwatch(range(0), w);
    cr_expect(eq(int, listen_to(), 0));
    cr_expect(eq(int, fake_driver.drops, 1));
    cr_expect(not(fresh(range(0), w)));
    unwatch(range(0), w);
    cr_expect(eq(int, fake_driver.drops, 1), "twice is once");
}

Test(kdriver, a_slot_that_is_given_again_is_of_the_new_range)
{
    struct pw_watch a = watch(range(0)), b;

    change(range(0), PW_KD_UNMAP);
    unwatch(range(0), a);
    b = watch(range(1));
    cr_assert(fake_driver_control()->watch[PW_KD_FIRST_SLOT].taken);
    cr_assert(not(fake_driver_control()->watch[PW_KD_FIRST_SLOT + 1].taken));
    cr_expect(eq(int, listen_to(), 0), "what the slot was through before");
    cr_expect(fresh(range(1), b));
    cr_expect(not(fresh(range(0), a)));
    unwatch(range(0), a);
    cr_expect(fresh(range(1), b), "who had the slot before does not end it");
    change(range(1), PW_KD_DISCARD);
    cr_expect(eq(int, listen_to(), 1));
    cr_expect(eq(int, times(range(1)), 1));
}

Test(kdriver, more_changes_than_are_asked_for_come_with_the_next_calls)
{
    enum { RANGES = 40, AT_ONCE = 16 };
    struct pw_change some[AT_ONCE];
    int seen[RANGES] = { 0 }, got, calls = 0;
    uint64_t upto, last = 0;

    for (unsigned i = 0; i < RANGES; i++)
        watch(range(i));
    for (unsigned i = 0; i < RANGES; i++)
        change(range(i), PW_KD_UNMAP);
    do {
        got = m->ops->changes(m, some, AT_ONCE, &upto);
        cr_expect(le(u64, last, upto));
        cr_expect(eq(int, got == AT_ONCE, upto != *m->word));
        last = upto;
        for (int i = 0; i < got; i++)
            seen[(some[i].range.start / PAGE - 1000) / 8]++;
        calls++;
    } while (upto != *m->word);
    cr_expect(eq(int, calls, 3));
    for (int i = 0; i < RANGES; i++)
        cr_expect(eq(int, seen[i], 1), "range %d", i);
    cr_expect(eq(int, m->ops->changes(m, some, 0, &upto), 0));
    cr_expect(eq(u64, upto, *m->word));
}

Test(kdriver, what_moves_behind_and_before_a_reader_is_told)
{
    struct pw_change one;
    uint64_t upto;

    for (unsigned i = 0; i < 3; i++)
        watch(range(i));
    change(range(1), PW_KD_UNMAP);
    cr_assert(eq(int, m->ops->changes(m, &one, 1, &upto), 1));
    cr_expect(ne(u64, upto, *m->word), "nobody has looked for more");
    change(range(0), PW_KD_UNMAP);
    change(range(2), PW_KD_UNMAP);
    cr_expect(eq(int, listen_to(), 2));
    cr_expect(eq(int, times(range(0)), 1));
    cr_expect(eq(int, times(range(2)), 1));
}

Test(kdriver, there_may_be_thousands)
{
    enum { MANY = FAKE_SLOTS - PW_KD_FIRST_SLOT };
    static struct pw_watch w[MANY];
    struct pw_watch one;

    for (unsigned i = 0; i < MANY; i++)
        w[i] = watch(range(i));
    cr_expect(eq(int, m->ops->watch(m, range(MANY), &one), -ENOMEM), "the slots are spent");
    change(range(0), PW_KD_UNMAP);
    change(range(MANY - 1), PW_KD_UNMAP);
    cr_expect(eq(int, listen_to(), 2));
    cr_expect(eq(int, times(range(MANY - 1)), 1));
    for (unsigned i = 1; i + 1 < MANY; i++)
        cr_assert(fresh(range(i), w[i]));
    unwatch(range(7), w[7]);
    cr_expect(eq(int, m->ops->watch(m, range(MANY), &one), 0));
}

Test(kdriver, what_the_driver_refuses_the_cache_is_told_in_its_words)
{
    static const struct {
        int error, means;
    } errors[] = {
        { ENOENT, -EFAULT }, { EINVAL, -EFAULT }, { ENOSPC, -ENOMEM }, { ENOMEM, -ENOMEM },
        { EXDEV, -EOPNOTSUPP }, { EIO, -EOPNOTSUPP },
    };
    struct pw_watch w;

    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        fake_driver.watch_error = errors[i].error;
        fake_driver.watch_errors = 1;
        cr_expect(eq(int, m->ops->watch(m, range(0), &w), errors[i].means),
                  "%s", strerror(errors[i].error));
    }
    cr_expect(eq(int, m->ops->watch(m, range(0), &w), 0), "none of them is for ever");
    cr_expect(eq(str, m->note, ""));
}

Test(kdriver, an_interrupted_call_is_made_again)
{
    fake_driver.watch_interrupts = 3;
    cr_expect(fresh(range(0), watch(range(0))));
}

Test(kdriver, memory_is_watched_with_all_its_rights)
{
    struct pw_watch w;

    watch(range(0));
    fake_driver.read_only = true;
    watch(range(1));
    cr_expect(eq(uint, fake_driver_control()->watch[PW_KD_FIRST_SLOT].arg.access,
                 PW_KD_READ | PW_KD_WRITE));
    cr_expect(eq(uint, fake_driver_control()->watch[PW_KD_FIRST_SLOT + 1].arg.access,
                 PW_KD_READ));
    fake_driver.watch_error = EACCES;
    fake_driver.watch_errors = 2;
    cr_expect(eq(int, m->ops->watch(m, range(2), &w), -EOPNOTSUPP));
}

/* ---- descriptors that the program closes ---- */

static void expect_deaf(struct pw_range r, struct pw_watch w)
{
    struct pw_watch other;

    cr_expect(not(fresh(r, w)));
    cr_expect(eq(int, m->ops->watch(m, range(5), &other), -EOPNOTSUPP));
    cr_expect(ne(ptr, strstr(m->note, "the program has closed"), NULL));
    cr_expect(eq(uint, m->sees, PW_EV_LOST));
}

Test(kdriver, a_descriptor_that_others_close_ends_all_watches)
{
    struct pw_watch w = watch(range(0));

    watch(range(1));
    fake_driver_close(fake_driver_control()->fd);
    cr_expect(eq(int, listen_to(), 2));
    cr_expect(eq(uint, told[0].cause, PW_EV_LOST));
    expect_deaf(range(0), w);
    unwatch(range(0), w);
    cr_expect(eq(int, fake_driver.drops, 0));
}

/* Closing it is the first that we do after that. */
static void expect_left_alone(int fd)
{
    int closes = fake_driver.closes;

    pw_monitor_close(m);
    cr_expect(eq(int, fake_driver.closes, closes));
    cr_expect(eq(int, fcntl(fd, F_GETFD), 0), "what has its number stays");
    close(fd);
    fake_driver_reset();
    cr_assert(eq(int, open_it(), 0));
}

Test(kdriver, another_file_in_its_place_is_left_alone)
{
    int fd = fake_driver_control()->fd;
    struct pw_watch w = watch(range(0)), v = watch(range(1));

    fake_driver_close(fd);
    cr_assert(eq(int, dup2(1, fd), fd));
    unwatch(range(1), v);
    expect_deaf(range(0), w);
    expect_left_alone(fd);
}

Test(kdriver, another_file_in_its_place_at_the_end_is_left_alone)
{
    int fd = fake_driver_control()->fd;

    fake_driver_close(fd);
    cr_assert(eq(int, dup2(1, fd), fd));
    expect_left_alone(fd);
}

/* In which the first slot has the word that it has in ours, too. */
Test(kdriver, another_descriptor_of_the_driver_in_its_place_is_noticed)
{
    int fd = fake_driver_control()->fd;
    struct pw_watch w = watch(range(0)), other;
    struct pw_kd_watch theirs = { .start = PAGE, .end = 2 * PAGE, .access = PW_KD_READ };

    fake_driver_close(fd);
    cr_assert(eq(int, fake_driver_sys.open(), fd));
    cr_expect(eq(int, m->ops->watch(m, range(0), &other), -EOPNOTSUPP));
    cr_expect(eq(int, fake_driver.watches, 2));
    cr_expect(eq(int, fake_driver.drops, 1), "what it watches by mistake is dropped");
    expect_deaf(range(0), w);
    cr_assert(eq(int, fake_driver_sys.ioctl(fd, PW_KD_WATCH, &theirs), 0));
    cr_assert(eq(uint, theirs.slot, PW_KD_FIRST_SLOT));
    unwatch(range(0), w);
    cr_expect(eq(int, fake_driver.drops, 1), "and what it has by itself is not");
    pw_monitor_close(m);
    cr_expect(eq(int, fake_driver_control()->fd, fd));
    fake_driver_close(fd);
    fake_driver_reset();
    cr_assert(eq(int, open_it(), 0));
}

Test(kdriver, a_slot_that_cannot_be_is_not_believed)
{
    struct pw_watch w;

    fake_driver.answers_slot = FAKE_SLOTS;
    cr_expect(eq(int, m->ops->watch(m, range(0), &w), -EOPNOTSUPP));
}

/* ---- fork ---- */

static struct pw_watch parents;

/* The number of the first thing that was wrong. */
#define CHECK(what) do { if (!(what)) return __LINE__ % 120 + 1; } while (0)

static int uses_it(void *arg)
{
    struct pw_change c;
    struct pw_watch w;
    uint64_t upto;
    int fd = fake_driver_control()->fd;

    (void)arg;
    CHECK(m->ops->changes(m, &c, 1, &upto) == 0);
    CHECK(upto == *m->word && *m->word == 0);
    CHECK(fake_driver.opens == 2);
    CHECK(fake_driver.closes == 1 && fake_driver_control()->fd == fd);
    CHECK(!m->ops->fresh(m, range(0), &parents));
    CHECK(!m->ops->watch(m, range(0), &w));
    CHECK(m->ops->fresh(m, range(0), &w));
    m->ops->unwatch(m, range(0), &parents);
    CHECK(fake_driver.drops == 0);
    change(range(0), PW_KD_UNMAP);
    CHECK(!m->ops->fresh(m, range(0), &w));
    CHECK(*m->word != 0);
    CHECK(m->ops->changes(m, &c, 1, &upto) == 1);
    CHECK(c.range.start == range(0).start && c.cause == PW_EV_UNMAP);
    pw_monitor_close(m);
    CHECK(!fake_driver_control());
    return 0;
}

Test(kdriver, a_child_has_a_descriptor_and_words_of_its_own)
{
    parents = watch(range(0));
    cr_expect(eq(int, in_child(uses_it, NULL), 0));
    cr_expect(fresh(range(0), parents));
    cr_expect(eq(int, listen_to(), 0));
    change(range(0), PW_KD_UNMAP);
    cr_expect(eq(int, listen_to(), 1));
}

static int has_a_child(void *arg)
{
    struct pw_watch w;

    CHECK(!m->ops->watch(m, range(0), &w));
    fake_driver.opens = 1;
    fake_driver.closes = 0;
    parents = w;
    return in_child(uses_it, arg);
}

Test(kdriver, so_has_a_childs_child)
{
    parents = watch(range(0));
    cr_expect(eq(int, in_child(has_a_child, NULL), 0));
}

static int only_closes(void *arg)
{
    (void)arg;
    pw_monitor_close(m);
    CHECK(fake_driver.opens == 1 && fake_driver.closes == 1);
    return fake_driver.foreign;
}

Test(kdriver, a_child_may_close_what_it_never_used)
{
    cr_expect(eq(int, in_child(only_closes, NULL), 0));
}

static int cannot(void *arg)
{
    struct pw_change c;
    struct pw_watch w;
    uint64_t upto;

    fake_driver.open_error = arg ? 0 : EACCES;
    fake_driver.map_error = arg ? ENOMEM : 0;
    CHECK(m->ops->watch(m, range(0), &w) == -EOPNOTSUPP);
    CHECK(m->ops->changes(m, &c, 1, &upto) == 0);
    CHECK(upto == *m->word);
    CHECK(!m->ops->fresh(m, range(0), &parents));
    m->ops->unwatch(m, range(0), &parents);
    CHECK(strstr(m->note, arg ? "cannot be mapped" : "may not be opened"));
    CHECK(!fake_driver_control());
    pw_monitor_close(m);
    return 0;
}

Test(kdriver, a_child_that_cannot_have_one_refuses)
{
    watch(range(1));
    change(range(1), PW_KD_UNMAP);
    parents = watch(range(0));
    cr_expect(eq(int, in_child(cannot, NULL), 0));
    cr_expect(eq(int, in_child(cannot, &parents), 0));
    cr_expect(fresh(range(0), parents));
}

static int finds_other_slots(void *arg)
{
    struct pw_watch w;

    (void)arg;
    fake_driver.words_bytes /= 2;
    CHECK(m->ops->watch(m, range(0), &w) == -EOPNOTSUPP);
    CHECK(strstr(m->note, "number of slots has changed"));
    return 0;
}

Test(kdriver, a_child_does_not_map_words_of_another_size_over_the_old_ones)
{
    cr_expect(eq(int, in_child(finds_other_slots, NULL), 0));
}

static int may_use_it_again(void *arg)
{
    struct pw_watch w;

    (void)arg;
    CHECK(!m->ops->watch(m, range(0), &w));
    CHECK(m->ops->fresh(m, range(0), &w));
    CHECK(!*m->note && m->sees == (PW_EV_ALL & ~PW_EV_LOST));
    return 0;
}

Test(kdriver, what_a_parent_has_lost_a_child_may_have)
{
    struct pw_watch w;

    fake_driver_close(fake_driver_control()->fd);
    cr_expect(eq(int, m->ops->watch(m, range(0), &w), -EOPNOTSUPP));
    cr_expect(eq(int, in_child(may_use_it_again, NULL), 0));
}

enum { THREADS = 4, ROUNDS = 300 };

static void *first_use(void *arg)
{
    struct pw_watch w;
    struct pw_range r = range((unsigned)(uintptr_t)arg);

    if (m->ops->watch(m, r, &w) || !m->ops->fresh(m, r, &w))
        return arg;
    return NULL;
}

static int many_at_once(void *arg)
{
    pthread_t t[THREADS];
    void *wrong;

    (void)arg;
    for (uintptr_t i = 0; i < THREADS; i++)
        CHECK(!pthread_create(&t[i], NULL, first_use, (void *)(i + 1)));
    for (int i = 0; i < THREADS; i++)
        CHECK(!pthread_join(t[i], &wrong) && !wrong);
    CHECK(fake_driver.opens == 2);
    return 0;
}

Test(kdriver, of_a_childs_threads_one_opens)
{
    for (int i = 0; i < 20; i++)
        cr_assert(eq(int, in_child(many_at_once, NULL), 0));
}

/* ---- threads ---- */

static pthread_mutex_t reading = PTHREAD_MUTEX_INITIALIZER;
static int heard[THREADS];
static int unheard, spoiled;

static void hear(void)
{
    struct pw_change some[3];
    uint64_t word = __atomic_load_n(m->word, __ATOMIC_ACQUIRE), upto;

    pthread_mutex_lock(&reading);
    do {
        int got = m->ops->changes(m, some, 3, &upto);

        for (int i = 0; i < got; i++)
            if (some[i].range.end == some[i].range.start + 4 * PAGE)
                heard[(some[i].range.start / PAGE - 1000) / 8]++;
            else
                __atomic_add_fetch(&spoiled, 1, __ATOMIC_RELAXED);
    } while ((int64_t)(upto - word) < 0);
    pthread_mutex_unlock(&reading);
}

/* Watches its own range, finds it fresh, changes it, and must hear of that; all of
 * them take slots from each other. */
static void *watcher(void *arg)
{
    unsigned n = (unsigned)(uintptr_t)arg;
    struct pw_range r = range(n);
    struct pw_watch w;

    for (int i = 0; i < ROUNDS; i++) {
        int before;

        if (m->ops->watch(m, r, &w) || !m->ops->fresh(m, r, &w)) {
            __atomic_add_fetch(&spoiled, 1, __ATOMIC_RELAXED);
            continue;
        }
        pthread_mutex_lock(&reading);
        before = heard[n];
        pthread_mutex_unlock(&reading);
        change(r, PW_KD_UNMAP);
        hear();
        pthread_mutex_lock(&reading);
        unheard += heard[n] != before + 1;
        pthread_mutex_unlock(&reading);
        __atomic_add_fetch(&spoiled, m->ops->fresh(m, r, &w), __ATOMIC_RELAXED);
        m->ops->unwatch(m, r, &w);
    }
    return NULL;
}

Test(kdriver, threads_hear_of_what_they_watch_once)
{
    pthread_t t[THREADS];

    for (uintptr_t i = 0; i < THREADS; i++)
        pthread_create(&t[i], NULL, watcher, (void *)i);
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    cr_expect(eq(int, unheard, 0));
    cr_expect(eq(int, spoiled, 0));
}
