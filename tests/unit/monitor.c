/* SPDX-License-Identifier: BSD-3-Clause */
/* monitor.c - how a monitor is chosen, and that the self-test finds out one that
 * does not keep its promise.
 *
 * This program's own munmap() and the like stand before the C library's, so that
 * a fake monitor can see them; what it fails to notice is set by each test. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <unistd.h>

#include "pinwheel/clock.h"
#include "regcache/maps.h"
#include "regcache/monitors.h"
#include "regcache/raw.h"

#define PAGE ((size_t)4096)
#define EVERYWHERE ((struct pw_range){ 0, UINTPTR_MAX })

enum {
    TRIED = PW_EV_UNMAP | PW_EV_REMAP | PW_EV_MAP_OVER | PW_EV_DISCARD | PW_EV_SHM |
            PW_EV_PROTECT | PW_EV_TRUNCATE,
    RECORDS = 4096,
};

/* What the fakes do wrong, events by bit. */
static struct faults {
    int open_err;           /* of the fake called "first" */
    unsigned sees;
    unsigned blind;         /* nothing is noticed */
    unsigned silent;        /* the word moves, but nobody is told */
    bool blind_to_source;   /* of mremap */
    bool blind_to_target;
    bool always_fresh;
    bool short_by_a_page;   /* too little of a change is told */
    int watch_err;
    int busy;               /* so many watches find a change going on */
    uint64_t busy_until_ns; /* and those before then */
    bool refuses_files;
    bool endless;           /* changes() never comes to an end */
    bool overrun;           /* all changes are told as one that is LOST */
} faults;

static uint64_t word;
static struct pw_change records[RECORDS];
static uint64_t taken;
static int opened, closed, watches;

static void note(struct pw_range r, unsigned cause)
{
    uint64_t at;

    if (faults.blind & cause)
        return;
    at = __atomic_fetch_add(&word, 1, __ATOMIC_ACQ_REL);
    if (faults.short_by_a_page)
        r.end -= PAGE;
    records[at % RECORDS] = faults.silent & cause ?
        (struct pw_change){ { 0, 0 }, cause } : (struct pw_change){ r, cause };
}

static struct pw_range range_of(const void *addr, size_t len)
{
    return (struct pw_range){ (uintptr_t)addr, (uintptr_t)addr + len };
}

static long result(long got)
{
    if (got >= 0)
        return got;
    errno = (int)-got;
    return -1;
}

int munmap(void *addr, size_t len)
{
    note(range_of(addr, len), PW_EV_UNMAP);
    return (int)result(pw_raw3(SYS_munmap, (long)(uintptr_t)addr, (long)len, 0));
}

void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
    if (flags & MAP_FIXED)
        note(range_of(addr, len), PW_EV_MAP_OVER);
    return (void *)result(pw_raw6(SYS_mmap, (long)(uintptr_t)addr, (long)len, prot,
                                  flags, fd, offset));
}

void *mremap(void *addr, size_t old, size_t new, int flags, ...)
{
    void *target = NULL;

    if (flags & MREMAP_FIXED) {
        va_list ap;

        va_start(ap, flags);
        target = va_arg(ap, void *);
        va_end(ap);
        if (!faults.blind_to_target)
            note(range_of(target, new), PW_EV_REMAP);
    }
    if (!faults.blind_to_source)
        note(range_of(addr, old), PW_EV_REMAP);
    return (void *)result(pw_raw6(SYS_mremap, (long)(uintptr_t)addr, (long)old,
                                  (long)new, flags, (long)(uintptr_t)target, 0));
}

int madvise(void *addr, size_t len, int advice)
{
    note(range_of(addr, len), PW_EV_DISCARD);
    return (int)result(pw_raw3(SYS_madvise, (long)(uintptr_t)addr, (long)len, advice));
}

int mprotect(void *addr, size_t len, int prot)
{
    if (prot == PROT_NONE)
        note(range_of(addr, len), PW_EV_PROTECT);
    return (int)result(pw_raw3(SYS_mprotect, (long)(uintptr_t)addr, (long)len, prot));
}

void *shmat(int id, const void *addr, int flags)
{
    if (flags & SHM_REMAP)
        note(range_of(addr, PAGE), PW_EV_SHM);
    return (void *)result(pw_raw3(SYS_shmat, id, (long)(uintptr_t)addr, flags));
}

int ftruncate(int fd, off_t size)
{
    note(EVERYWHERE, PW_EV_TRUNCATE);
    return (int)result(pw_raw3(SYS_ftruncate, fd, size, 0));
}

int fallocate(int fd, int mode, off_t offset, off_t len)
{
    note(EVERYWHERE, PW_EV_TRUNCATE);
    return (int)result(pw_raw6(SYS_fallocate, fd, mode, offset, len, 0, 0));
}

static int fake_watch(struct pw_monitor *m, struct pw_range r, struct pw_watch *w)
{
    unsigned kinds = PW_MEM_PRIVATE;

    (void)m;
    cr_expect(eq(sz, r.end - r.start, PAGE));
    if (faults.busy > 0) {
        faults.busy--;
        return -EAGAIN;
    }
    if (pw_now_ns() < faults.busy_until_ns)
        return -EAGAIN;
    if (faults.refuses_files && pw_maps_kinds(r, &kinds))
        return -EFAULT;
    if (kinds != PW_MEM_PRIVATE)
        return -EOPNOTSUPP;
    if (faults.watch_err)
        return faults.watch_err;
    w->since = word;
    watches++;
    return 0;
}

static void fake_unwatch(struct pw_monitor *m, struct pw_range r, struct pw_watch *w)
{
    (void)m, (void)r, (void)w;
    watches--;
}

static int fake_fresh(struct pw_monitor *m, struct pw_range r, const struct pw_watch *w)
{
    (void)m, (void)r;
    return faults.always_fresh || w->since == word;
}

static int fake_changes(struct pw_monitor *m, struct pw_change *out, int n,
                        uint64_t *upto)
{
    int got = 0;

    (void)m;
    if (faults.overrun && taken != word) {
        out[got++] = (struct pw_change){ EVERYWHERE, PW_EV_LOST };
        out[0].range = (struct pw_range){ 0, 0 };
        taken = word;
    }
    while (got < n && (taken != word || faults.endless)) {
        out[got++] = records[taken % RECORDS];
        taken += taken != word;
    }
    *upto = taken;
    return got;
}

static struct pw_monitor fake;

static int fake_open(struct pw_monitor **out, const struct pw_monitor_ops *ops)
{
    fake = (struct pw_monitor){ .ops = ops, .word = &word, .sees = faults.sees };
    taken = word;
    opened++;
    *out = &fake;
    return 0;
}

static void fake_close(struct pw_monitor *m)
{
    cr_expect(eq(ptr, m, &fake));
    closed++;
}

static const struct pw_monitor_ops first, second;

static int first_open(struct pw_monitor **out, char why[PW_MONITOR_WHY_MAX])
{
    *out = NULL;
    if (!faults.open_err)
        return fake_open(out, &first);
    snprintf(why, PW_MONITOR_WHY_MAX, "the first has error %d", -faults.open_err);
    return faults.open_err;
}

static int second_open(struct pw_monitor **out, char why[PW_MONITOR_WHY_MAX])
{
    (void)why;
    faults = (struct faults){ .sees = TRIED };
    return fake_open(out, &second);
}

static const struct pw_monitor_ops first = {
    .name = "first", .open = first_open, .close = fake_close, .watch = fake_watch,
    .unwatch = fake_unwatch, .fresh = fake_fresh, .changes = fake_changes,
}, second = {
    .name = "second", .open = second_open, .close = fake_close, .watch = fake_watch,
    .unwatch = fake_unwatch, .fresh = fake_fresh, .changes = fake_changes,
};

static const struct pw_monitor_ops *const list[] = {
    &first, &second, &pw_none_monitor, NULL
};

static struct pw_monitor_report report;

static int open_as(const char *name, struct pw_monitor **out)
{
    memset(&report, 'x', sizeof report);
    *out = &fake;
    return pw_monitor_open_from(list, name, out, &report);
}

static bool said(const char *part)
{
    if (strstr(report.why_not, part))
        return true;
    cr_log_error("\"%s\" is not in \"%s\"", part, report.why_not);
    return false;
}

/* The first fake, with these faults, is found out: `part` is said of it. */
static void expect_found_out(struct faults with, const char *part)
{
    struct pw_monitor *m;

    opened = closed = watches = 0;
    faults = with;
    faults.sees = faults.sees ? faults.sees : TRIED;
    cr_expect(eq(int, open_as("first", &m), -EIO));
    cr_expect(eq(ptr, m, NULL));
    cr_expect(said("first: self-test: "));
    cr_expect(said(part));
    cr_expect(eq(int, opened, 1));
    cr_expect(eq(int, closed, 1), "what failed is closed");
    cr_expect(eq(int, watches, 0), "what was watched is not any more");
}

static void expect_taken(struct faults with)
{
    struct pw_monitor *m;

    opened = closed = watches = 0;
    faults = with;
    faults.sees = faults.sees ? faults.sees : TRIED;
    cr_assert(eq(int, open_as("first", &m), 0), "%s", report.why_not);
    cr_expect(eq(int, watches, 0));
    cr_expect(eq(int, closed, 0));
    pw_monitor_close(m);
    cr_expect(eq(int, closed, 1));
}

Test(monitor, one_that_keeps_its_promise_is_taken)
{
    struct pw_monitor *m;

    faults.sees = TRIED;
    cr_assert(eq(int, open_as(NULL, &m), 0));
    cr_expect(eq(ptr, m, &fake));
    cr_expect(eq(str, (char *)report.name, "first"));
    cr_expect(eq(str, report.why_not, ""));
    pw_monitor_close(m);
}

Test(monitor, auto_is_the_same_as_no_name)
{
    struct pw_monitor *m;

    faults.sees = TRIED;
    cr_assert(eq(int, open_as("auto", &m), 0));
    cr_expect(eq(str, (char *)report.name, "first"));
}

Test(monitor, one_that_does_not_open_is_passed_over_and_the_report_says_why)
{
    struct pw_monitor *m;

    faults.open_err = -EPERM;
    cr_assert(eq(int, open_as(NULL, &m), 0));
    cr_expect(eq(str, (char *)report.name, "second"));
    cr_expect(eq(str, report.why_not, "first: the first has error 1"));
}

Test(monitor, one_that_fails_the_self_test_is_closed_and_passed_over)
{
    struct pw_monitor *m;

    faults.sees = TRIED;
    faults.blind = PW_EV_UNMAP;
    cr_assert(eq(int, open_as(NULL, &m), 0));
    cr_expect(eq(str, (char *)report.name, "second"));
    cr_expect(said("first: self-test: munmap of a watched page did not move the word"));
    cr_expect(eq(int, closed, 1));
}

Test(monitor, the_report_may_be_left_out)
{
    struct pw_monitor *m;

    faults.open_err = -ENODEV;
    cr_expect(eq(int, pw_monitor_open_from(list, NULL, &m, NULL), 0));
}

Test(monitor, one_asked_for_by_name_is_taken_or_fails)
{
    struct pw_monitor *m;

    cr_expect(eq(int, open_as("second", &m), 0));
    cr_expect(eq(str, (char *)report.name, "second"));

    faults.open_err = -ENODEV;
    cr_expect(eq(int, open_as("first", &m), -ENODEV));
    cr_expect(eq(ptr, m, NULL));
    cr_expect(eq(str, (char *)report.name, ""));
    cr_expect(eq(str, report.why_not, "first: the first has error 19"));
}

Test(monitor, a_name_that_is_none_is_told_the_names)
{
    struct pw_monitor *m;

    cr_expect(eq(int, open_as("wishful", &m), -EINVAL));
    cr_expect(eq(ptr, m, NULL));
    cr_expect(eq(str, report.why_not, "no monitor is called \"wishful\": auto, first, "
                                      "second, none"));
}

Test(monitor, reasons_that_are_too_long_are_cut)
{
    static const struct pw_monitor_ops *const many[] = {
        &first, &first, &first, &first, &first, &first, &first, &first, &first, &first,
        &first, &first, &first, &first, &first, &first, &first, &first, &first, &first,
        &pw_none_monitor, NULL
    };
    struct pw_monitor *m;

    faults.open_err = -ENODEV;
    cr_expect(eq(int, pw_monitor_open_from(many, NULL, &m, &report), 0));
    cr_expect(eq(sz, strnlen(report.why_not, sizeof report.why_not),
                 sizeof report.why_not - 1));
    cr_expect(eq(str, (char *)report.name, "none"));
}

static const struct {
    unsigned event;
    const char *call;
} calls[] = {
    { PW_EV_UNMAP, "munmap of" },
    { PW_EV_REMAP, "mremap of" },
    { PW_EV_MAP_OVER, "mmap(MAP_FIXED) of" },
    { PW_EV_DISCARD, "madvise(MADV_DONTNEED) of" },
    { PW_EV_SHM, "shmat(SHM_REMAP) of" },
    { PW_EV_PROTECT, "mprotect(PROT_NONE) of" },
    { PW_EV_TRUNCATE, "ftruncate of" },
};

Test(selftest, a_call_that_goes_unnoticed_is_found_out)
{
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        expect_found_out((struct faults){ .blind = calls[i].event }, calls[i].call);
        cr_expect(said("a watched page did not move the word"));
    }
}

Test(selftest, a_call_that_is_not_declared_need_not_be_noticed)
{
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
        expect_taken((struct faults){ .blind = calls[i].event,
                                      .sees = TRIED & ~calls[i].event });
}

Test(selftest, memory_that_is_refused_need_not_be_noticed)
{
    expect_taken((struct faults){ .blind = PW_EV_TRUNCATE, .refuses_files = true });
}

Test(selftest, a_change_that_is_not_told_is_found_out)
{
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        expect_found_out((struct faults){ .silent = calls[i].event }, calls[i].call);
        cr_expect(said("a watched page is not among the changes told"));
    }
}

Test(selftest, what_mremap_leaves_and_what_it_lands_on_must_both_be_told)
{
    expect_found_out((struct faults){ .blind_to_source = true },
                     "mremap of a watched page is not among the changes told");
    expect_found_out((struct faults){ .blind_to_target = true },
                     "mremap of a watched page is not among the changes told");
}

Test(selftest, a_change_told_too_small_is_found_out)
{
    expect_found_out((struct faults){ .short_by_a_page = true },
                     "munmap of a watched page is not among the changes told");
}

Test(selftest, a_watch_that_stays_fresh_is_found_out)
{
    expect_found_out((struct faults){ .always_fresh = true },
                     "munmap of a watched page left it fresh");
}

Test(selftest, a_call_past_the_c_library_is_tried_where_declared)
{
    expect_found_out((struct faults){ .sees = TRIED | PW_EV_RAW },
                     "munmap past the C library of a watched page did not move the word");
}

Test(selftest, one_that_watches_nothing_is_found_out)
{
    expect_found_out((struct faults){ .watch_err = -EOPNOTSUPP },
                     "a page for munmap is not watched (error 95)");
    expect_found_out((struct faults){ .busy = 1 << 20 },
                     "a page for munmap is not watched (error 11)");
}

Test(selftest, one_that_is_busy_for_a_while_is_asked_again)
{
    expect_taken((struct faults){ .busy = 20 });
}

/* The thread that is at it had no processor for so long. */
Test(selftest, one_that_is_busy_for_a_tenth_of_a_second_too)
{
    expect_taken((struct faults){ .busy_until_ns = pw_now_ns() + 100 * 1000 * 1000 });
}

Test(selftest, one_that_has_lost_count_has_told)
{
    expect_taken((struct faults){ .overrun = true });
}

Test(selftest, changes_without_an_end_do_not_hang_it)
{
    expect_taken((struct faults){ .endless = true });
}

Test(selftest, one_that_sees_nothing_is_not_tried)
{
    struct pw_monitor *m;

    cr_assert(eq(int, open_as("none", &m), 0));
    cr_expect(eq(str, (char *)report.name, "none"));
    cr_expect(eq(str, report.why_not, ""));
}

Test(selftest, it_leaves_no_mapping_and_no_descriptor_behind)
{
    int before = dup(0), after;

    close(before);
    expect_taken((struct faults){ .sees = TRIED });
    expect_found_out((struct faults){ .blind = PW_EV_TRUNCATE }, "ftruncate");
    expect_found_out((struct faults){ .watch_err = -ENOMEM }, "error 12");
    after = dup(0);
    cr_expect(eq(int, after, before));
    close(after);
}

Test(none, watches_nothing_and_never_changes)
{
    struct pw_monitor *m;
    struct pw_change change;
    struct pw_watch w;
    uint64_t before, upto = 77;
    void *p = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    cr_assert(eq(int, pw_monitor_open("none", &m, NULL), 0));
    before = *m->word;
    cr_expect(eq(uint, m->sees, 0));
    cr_expect(eq(int, m->ops->watch(m, range_of(p, PAGE), &w), -EOPNOTSUPP));
    munmap(p, PAGE);
    cr_expect(eq(int, m->ops->changes(m, &change, 1, &upto), 0));
    cr_expect(eq(u64, upto, before));
    cr_expect(eq(u64, *m->word, before));
    m->ops->unwatch(m, range_of(p, PAGE), &w);
    cr_expect(eq(int, m->ops->fresh(m, range_of(p, PAGE), &w), 0));
    pw_monitor_close(m);
}

Test(monitor, closing_nothing_is_fine)
{
    pw_monitor_close(NULL);
}

/* Names become names of counters: short, and each its own. */
Test(monitor, every_event_has_a_name_of_its_own)
{
    for (unsigned a = 1; a <= PW_EV_LOST; a <<= 1) {
        cr_expect(lt(sz, 0, strlen(pw_event_name(a))));
        for (unsigned b = 1; b < a; b <<= 1)
            cr_expect(ne(str, (char *)pw_event_name(a), (char *)pw_event_name(b)));
    }
    cr_expect(eq(str, (char *)pw_event_name(0), ""));
    cr_expect(eq(str, (char *)pw_event_name(PW_EV_UNMAP | PW_EV_BRK), ""));
    cr_expect(eq(str, (char *)pw_event_name(PW_EV_LOST << 1), ""));
}
