/* SPDX-License-Identifier: BSD-3-Clause */
/* uffd.c - userfaultfd as a monitor, beside an interception that the tests play
 * themselves: what they call between begin() and end() was intercepted, all other
 * calls passed by it.
 *
 * No gt() here: that of Criterion 2.4.1 holds for equal values, too. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <unistd.h>

#include "child.h"
#include "pinwheel/uring.h"
#include "regcache/maps.h"
#include "regcache/monitors.h"
#include "regcache/raw.h"
#include "regcache/records.h"
#include "regcache/uffd.h"

#define PAGE ((size_t)4096)

/* A message that nobody reads keeps its caller waiting for ever. */
TestSuite(uffd, .timeout = 120);

/* The interception. */

static struct pw_records *records;
static struct pw_reader reader;
static struct pw_monitor first;
static int first_closed;

static int first_changes(struct pw_monitor *m, struct pw_change *out, int n,
                         uint64_t *upto)
{
    int got = pw_records_read(records, &reader, out, n);

    (void)m;
    *upto = reader.next;
    return got;
}

static int watches;

static int first_watch(struct pw_monitor *m, struct pw_range r, struct pw_watch *w)
{
    int err = pw_records_watch(records, r, w);

    (void)m;
    watches += !err;
    return err;
}

static void first_unwatch(struct pw_monitor *m, struct pw_range r, struct pw_watch *w)
{
    (void)m, (void)r, (void)w;
    watches--;
}

static int first_fresh(struct pw_monitor *m, struct pw_range r, const struct pw_watch *w)
{
    (void)m;
    return pw_records_fresh(records, r, w);
}

static void first_close(struct pw_monitor *m)
{
    cr_expect(eq(ptr, m, &first));
    first_closed++;
}

static const struct pw_monitor_ops first_ops = {
    .name = "first", .close = first_close, .watch = first_watch,
    .unwatch = first_unwatch, .fresh = first_fresh, .changes = first_changes,
};

static void first_make(void)
{
    if (!records && pw_records_create(&records))
        abort();
    pw_reader_init(&reader, records);
    first = (struct pw_monitor){
        .ops = &first_ops, .word = &records->word,
        .sees = PW_EV_UNMAP | PW_EV_REMAP | PW_EV_MAP_OVER | PW_EV_DISCARD,
    };
}

static char why[PW_MONITOR_WHY_MAX];

static int open_uffd(struct pw_monitor **m)
{
    *m = &first;
    first_make();
    memset(why, 0, sizeof why);
    return pw_uffd_open_on(&first, records, m, why);
}

static struct pw_monitor *monitor(void)
{
    struct pw_monitor *m;
    int err = open_uffd(&m);

    if (err == -EPERM || err == -ENODEV)
        cr_skip_test("no userfaultfd here: %s", why);
    cr_assert(eq(int, err, 0));
    return m;
}

/* Thread creation fails when told to; once, for a stack that was asked for. */
static int no_small_threads, no_threads;

int pthread_create(pthread_t *t, const pthread_attr_t *attr, void *(*run)(void *),
                   void *arg)
{
    int (*next)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

    if (no_threads)
        return no_threads;
    if (no_small_threads && attr)
        return no_small_threads;
    *(void **)&next = dlsym(RTLD_NEXT, "pthread_create");
    return next(t, attr, run, arg);
}

/* Memory. */

static char *map(size_t pages)
{
    char *p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    cr_assert(ne(ptr, p, MAP_FAILED));
    return p;
}

static char *map_at(char *where, size_t pages)
{
    return mmap(where, pages * PAGE, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

static struct pw_range range_of(const void *addr, size_t pages)
{
    return (struct pw_range){ (uintptr_t)addr, (uintptr_t)addr + pages * PAGE };
}

static int watch(struct pw_monitor *m, void *addr, size_t pages, struct pw_watch *w)
{
    int err;

    while ((err = m->ops->watch(m, range_of(addr, pages), w)) == -EAGAIN)
        sched_yield();
    return err;
}

static struct pw_watch watched(struct pw_monitor *m, void *addr, size_t pages)
{
    struct pw_watch w;

    cr_assert(eq(int, watch(m, addr, pages, &w), 0));
    return w;
}

static bool fresh(struct pw_monitor *m, void *addr, size_t pages,
                  const struct pw_watch *w)
{
    return m->ops->fresh(m, range_of(addr, pages), w);
}

/* How often [addr, + pages) is among the changes told since the last time. What has
 * moved the word may be written down a little later. */
static int times_told(struct pw_monitor *m, const void *addr, size_t pages)
{
    struct pw_range r = range_of(addr, pages);
    uint64_t word = __atomic_load_n(m->word, __ATOMIC_ACQUIRE), upto;
    struct pw_change c;
    int times = 0;

    do {
        if (m->ops->changes(m, &c, 1, &upto))
            times += c.cause == PW_EV_LOST ||
                     (c.range.start <= r.start && r.end <= c.range.end);
        else
            sched_yield();
    } while (upto < word);
    return times;
}

/* Messages. */

static char *scene_base;        /* eight pages, all watched */

static void by_munmap(void)
{
    munmap(scene_base + PAGE, PAGE);
}

static void by_map_over(void)
{
    map_at(scene_base + PAGE, 1);
}

static void by_dontneed(void)
{
    madvise(scene_base + PAGE, PAGE, MADV_DONTNEED);
}

static void by_free(void)
{
    madvise(scene_base + PAGE, PAGE, MADV_FREE);
}

static void by_moving(void)
{
    pw_raw6(SYS_mremap, (long)(scene_base + PAGE), (long)PAGE, (long)PAGE,
            MREMAP_MAYMOVE | MREMAP_FIXED, (long)(scene_base + 5 * PAGE), 0);
}

static void by_landing(void)
{
    pw_raw6(SYS_mremap, (long)(scene_base + 5 * PAGE), (long)PAGE, (long)PAGE,
            MREMAP_MAYMOVE | MREMAP_FIXED, (long)(scene_base + PAGE), 0);
}

static void by_moving_the_pages_alone(void)
{
    pw_raw6(SYS_mremap, (long)(scene_base + PAGE), (long)PAGE, (long)PAGE,
            MREMAP_MAYMOVE | 4 /* MREMAP_DONTUNMAP */, 0, 0);
}

static void by_shrinking(void)
{
    pw_raw6(SYS_mremap, (long)scene_base, (long)(8 * PAGE), (long)PAGE, 0, 0, 0);
}

static int unmap_in_a_clone(void *arg)
{
    (void)arg;
    pw_raw3(SYS_munmap, (long)(scene_base + PAGE), (long)PAGE, 0);
    return 0;
}

static void by_a_cloned_process(void)
{
    static char stack[64 << 10];
    int pid = clone(unmap_in_a_clone, stack + sizeof stack,
                    CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);

    cr_assert(lt(int, 0, pid));
    cr_assert(eq(int, waitpid(pid, NULL, 0), pid));
}

static const struct {
    const char *name;
    void (*act)(void);
} acts[] = {
    { "munmap", by_munmap },
    { "mmap over", by_map_over },
    { "madvise(DONTNEED)", by_dontneed },
    { "madvise(FREE)", by_free },
    { "mremap away", by_moving },
    { "mremap onto", by_landing },
    { "mremap(DONTUNMAP)", by_moving_the_pages_alone },
    { "mremap shorter", by_shrinking },
    { "munmap in a cloned process", by_a_cloned_process },
};

/* Many times: the word must have moved when the call returns, not soon after. */
Test(uffd, every_call_has_been_told_when_it_returns)
{
    struct pw_monitor *m = monitor();

    for (size_t i = 0; i < sizeof acts / sizeof acts[0]; i++) {
        for (int round = 0; round < 200; round++) {
            struct pw_watch w;
            uint64_t before;

            scene_base = map(8);
            w = watched(m, scene_base, 8);
            before = *m->word;
            cr_assert(fresh(m, scene_base, 8, &w));
            acts[i].act();
            cr_assert(lt(u64, before, __atomic_load_n(m->word, __ATOMIC_ACQUIRE)),
                      "%s", acts[i].name);
            cr_assert(eq(int, fresh(m, scene_base, 8, &w), false), "%s", acts[i].name);
            cr_assert(lt(int, 0, times_told(m, scene_base + PAGE, 1)), "%s",
                      acts[i].name);
            m->ops->unwatch(m, range_of(scene_base, 8), &w);
            munmap(scene_base, 8 * PAGE);
        }
    }
    m->ops->close(m);
}

/* Where there was nothing, but where another thread's munmap may not have been told
 * of yet. */
Test(uffd, what_mremap_is_given_is_told)
{
    struct pw_monitor *m = monitor();
    char *p = map(8), *q;

    watched(m, p, 8);
    q = (char *)pw_raw6(SYS_mremap, (long)p, (long)(8 * PAGE), (long)(800 * PAGE),
                        MREMAP_MAYMOVE, 0, 0);
    cr_assert(lt(ulong, (uintptr_t)q, -PAGE));
    cr_assert(ne(ptr, q, p));
    cr_expect(lt(int, 0, times_told(m, q, 8)));
    m->ops->close(m);
}

Test(uffd, a_heap_that_shrinks_is_told)
{
    struct pw_monitor *m = monitor();
    char *end = sbrk((intptr_t)(4 * PAGE));
    char *page = (char *)(((uintptr_t)end + 2 * PAGE) & ~(PAGE - 1));
    struct pw_watch w;

    *page = 1;
    w = watched(m, page, 1);
    pw_raw3(SYS_brk, (long)end, 0, 0);
    cr_expect(eq(int, fresh(m, page, 1, &w), false));
    cr_expect(lt(int, 0, times_told(m, page, 1)));
}

Test(uffd, it_passes_the_self_test)
{
    struct pw_monitor *m = monitor();

    cr_expect(ne(uint, m->sees & PW_EV_RAW, 0));
    cr_expect(eq(int, pw_monitor_selftest(m, why), 0), "%s", why);
    m->ops->close(m);
    cr_expect(eq(int, first_closed, 1));
}

Test(uffd, memory_that_is_left_alone_stays_fresh)
{
    struct pw_monitor *m = monitor();
    char *p = map(8);
    struct pw_watch w = watched(m, p, 8), again = watched(m, p + PAGE, 2);

    memset(p, 7, 8 * PAGE);
    mprotect(p, PAGE, PROT_READ);
    cr_expect(fresh(m, p, 8, &w));
    cr_expect(fresh(m, p + PAGE, 2, &again));
    m->ops->close(m);
}

Test(uffd, a_change_beside_what_is_watched_leaves_it_fresh)
{
    struct pw_monitor *m = monitor();
    char *p = map(8);
    struct pw_watch w = watched(m, p, 4);

    munmap(p + 4 * PAGE, 4 * PAGE);
    cr_expect(eq(int, times_told(m, p, 4), 0));
    cr_expect(fresh(m, p, 4, &w));
    m->ops->close(m);
}

Test(uffd, memory_that_others_could_change_is_not_watched)
{
    struct pw_monitor *m = monitor();
    int fd = memfd_create("pinwheel-uffd", MFD_CLOEXEC);
    char *p = map(3);
    struct pw_watch w;

    cr_assert(eq(int, ftruncate(fd, (off_t)PAGE), 0));
    mmap(p + PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
    cr_expect(eq(int, watch(m, p + PAGE, 1, &w), -EOPNOTSUPP), "shared");
    cr_expect(eq(int, watch(m, p, 3, &w), -EOPNOTSUPP), "partly shared");
    mmap(p + PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0);
    cr_expect(eq(int, watch(m, p + PAGE, 1, &w), -EOPNOTSUPP), "a file's");
    munmap(p + PAGE, PAGE);
    cr_expect(eq(int, watch(m, p, 3, &w), -EFAULT), "not mapped");
    cr_expect(eq(int, watch(m, p, 1, &w), 0));
    m->ops->close(m);
}

Test(uffd, memory_that_another_userfaultfd_has_is_not_watched)
{
    struct pw_monitor *m = monitor();
    int fd = (int)pw_raw3(SYS_userfaultfd, O_CLOEXEC | 1, 0, 0);
    struct uffdio_api api = { .api = UFFD_API };
    char *p = map(1);
    struct uffdio_register all = {
        .range = { (uintptr_t)p, PAGE }, .mode = UFFDIO_REGISTER_MODE_WP,
    };
    struct pw_watch w;

    cr_assert(eq(int, ioctl(fd, UFFDIO_API, &api), 0));
    cr_assert(eq(int, ioctl(fd, UFFDIO_REGISTER, &all), 0));
    cr_expect(eq(int, watch(m, p, 1, &w), -EOPNOTSUPP));
    close(fd);
    cr_expect(eq(int, watch(m, p, 1, &w), 0));
    m->ops->close(m);
}

/* The kernel registers whole huge pages only. NORESERVE: there need not be any. */
Test(uffd, a_small_part_of_a_huge_page_is_watched)
{
    struct pw_monitor *m = monitor();
    size_t huge = 2 << 20;
    char *p = mmap(NULL, huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS |
                   MAP_HUGETLB | MAP_NORESERVE, -1, 0);
    struct pw_watch w;

    if (p == MAP_FAILED)
        cr_skip_test("this kernel has no huge pages of 2 MiB");
    w = watched(m, p + PAGE, 1);
    cr_expect(fresh(m, p + PAGE, 1, &w));
    munmap(p, huge);
    cr_expect(eq(int, fresh(m, p + PAGE, 1, &w), false));
    m->ops->close(m);
}

/* A mapping in two parts cannot be moved as one. */
Test(uffd, a_mapping_of_which_a_part_is_watched_can_still_be_moved_whole)
{
    struct pw_monitor *m = monitor();
    char *p = map(8), *q;

    watched(m, p + 3 * PAGE, 1);
    p[3 * PAGE] = 'x';
    q = mremap(p, 8 * PAGE, 600 * PAGE, MREMAP_MAYMOVE);
    cr_assert(ne(ptr, q, MAP_FAILED));
    cr_expect(eq(int, q[3 * PAGE], 'x'));
    m->ops->close(m);
}

Test(uffd, the_interception_watches_what_is_watched_and_nothing_else)
{
    struct pw_monitor *m = monitor();
    char *p = map(3);
    struct pw_watch w;

    w = watched(m, p, 1);
    cr_expect(eq(int, watches, 1));
    m->ops->unwatch(m, range_of(p, 1), &w);
    cr_expect(eq(int, watches, 0));
    munmap(p + PAGE, PAGE);
    cr_expect(eq(int, watch(m, p, 3, &w), -EFAULT));
    cr_expect(eq(int, watches, 0));
    m->ops->close(m);
}

/* It has found code that it cannot patch, say. */
Test(uffd, an_interception_that_gives_up_takes_it_along)
{
    struct pw_monitor *m = monitor();

    times_told(m, NULL, 1);
    cr_expect(ne(uint, m->sees & PW_EV_UNMAP, 0));
    snprintf(first.note, sizeof first.note, "given up");
    first.sees = PW_EV_LOST;
    times_told(m, NULL, 1);
    cr_expect(eq(uint, m->sees, PW_EV_LOST));
    cr_expect(eq(str, m->note, "given up"));
    m->ops->close(m);
}

/* Pages in doubt. */

Test(uffd, pages_dropped_past_the_interception_are_not_watched_until_unmapped)
{
    struct pw_monitor *m = monitor();
    char *p = map(8);
    struct pw_watch w = watched(m, p, 8);

    madvise(p + 2 * PAGE, PAGE, MADV_DONTNEED);
    cr_expect(eq(int, watch(m, p, 8, &w), -EOPNOTSUPP));
    cr_expect(eq(int, watch(m, p + 2 * PAGE, 1, &w), -EOPNOTSUPP));
    cr_expect(eq(int, watch(m, p, 2, &w), 0));
    cr_expect(eq(int, watch(m, p + 3 * PAGE, 5, &w), 0));

    map_at(p + 2 * PAGE, 1);
    cr_expect(eq(int, watch(m, p, 8, &w), 0));
    m->ops->close(m);
}

Test(uffd, pages_dropped_by_an_intercepted_call_are_watched_when_it_has_ended)
{
    struct pw_monitor *m = monitor();
    char *p = map(8);
    struct pw_watch w = watched(m, p, 8);
    struct pw_mark mark = pw_records_begin(records, range_of(p, 4), PW_EV_DISCARD);

    madvise(p, 4 * PAGE, MADV_DONTNEED);
    cr_expect(eq(int, m->ops->watch(m, range_of(p, 1), &w), -EAGAIN), "it goes on");
    pw_records_end(records, mark);
    cr_expect(eq(int, watch(m, p, 8, &w), 0));
    cr_expect(fresh(m, p, 8, &w));
    m->ops->close(m);
}

/* The call goes upwards through several mappings, with a message for each. */
Test(uffd, an_intercepted_call_over_several_mappings_leaves_no_doubt)
{
    struct pw_monitor *m = monitor();
    char *p = map(8);
    struct pw_mark mark;
    struct pw_watch w;

    mprotect(p + 2 * PAGE, PAGE, PROT_READ);
    mprotect(p + 5 * PAGE, PAGE, PROT_READ);
    watched(m, p, 8);
    for (int i = 0; i < 2; i++) {
        mark = pw_records_begin(records, range_of(p, 8), PW_EV_DISCARD);
        madvise(p, 8 * PAGE, MADV_DONTNEED);
        pw_records_end(records, mark);
    }
    cr_expect(eq(int, watch(m, p, 8, &w), 0));
    m->ops->close(m);
}

/* One of the two passed by the interception, and may end after the other; which of
 * them is not known. */
static void beside_each_other(size_t from, size_t pages, size_t from2, size_t pages2)
{
    struct pw_monitor *m = monitor();
    char *p = map(8);
    struct pw_mark mark;
    struct pw_watch w;

    watched(m, p, 8);
    mark = pw_records_begin(records, range_of(p, 4), PW_EV_DISCARD);
    madvise(p + from * PAGE, pages * PAGE, MADV_DONTNEED);
    madvise(p + from2 * PAGE, pages2 * PAGE, MADV_DONTNEED);
    pw_records_end(records, mark);
    cr_expect(eq(int, watch(m, p, 1, &w), -EOPNOTSUPP));
    cr_expect(eq(int, watch(m, p + 3 * PAGE, 1, &w), -EOPNOTSUPP));
    cr_expect(eq(int, watch(m, p + 4 * PAGE, 4, &w), 0));
    m->ops->close(m);
}

Test(uffd, two_calls_beside_each_other_leave_a_doubt)
{
    beside_each_other(1, 1, 0, 4);
    beside_each_other(0, 4, 1, 1);
}

Test(uffd, two_intercepted_calls_beside_each_other_leave_none)
{
    struct pw_monitor *m = monitor();
    struct pw_mark a, b;
    char *p = map(8);
    struct pw_watch w;

    watched(m, p, 8);
    a = pw_records_begin(records, range_of(p, 4), PW_EV_DISCARD);
    b = pw_records_begin(records, range_of(p, 4), PW_EV_DISCARD);
    madvise(p, 4 * PAGE, MADV_DONTNEED);
    madvise(p, 4 * PAGE, MADV_DONTNEED);
    pw_records_end(records, a);
    pw_records_end(records, b);
    cr_expect(eq(int, watch(m, p, 8, &w), 0));
    m->ops->close(m);
}

Test(uffd, pages_dropped_beside_an_intercepted_munmap_are_in_doubt)
{
    struct pw_monitor *m = monitor();
    struct pw_mark mark;
    char *p = map(8);
    struct pw_watch w;

    watched(m, p, 8);
    mark = pw_records_begin(records, range_of(p, 4), PW_EV_UNMAP);
    madvise(p, PAGE, MADV_DONTNEED);
    pw_records_end(records, mark);
    cr_expect(eq(int, watch(m, p, 1, &w), -EOPNOTSUPP));
    m->ops->close(m);
}

Test(uffd, more_than_the_interception_told_is_told)
{
    struct pw_monitor *m = monitor();
    char *p = map(8);
    struct pw_mark mark;

    watched(m, p, 8);
    times_told(m, p, 8);
    mark = pw_records_begin(records, range_of(p, 1), PW_EV_UNMAP);
    munmap(p, 8 * PAGE);
    pw_records_end(records, mark);
    cr_expect(eq(int, times_told(m, p, 8), 1));
    m->ops->close(m);
}

/* Unless a call has ended before the reader could look: here none does. */
Test(uffd, what_the_interception_told_is_not_told_again)
{
    struct pw_monitor *m = monitor();
    char *p = map(201);
    int again = 0;

    watched(m, p, 201);
    for (int i = 0; i < 200; i++) {
        struct pw_mark mark = pw_records_begin(records, range_of(p + i * PAGE, 1),
                                               PW_EV_UNMAP);

        munmap(p + i * PAGE, PAGE);
        watched(m, p + 200 * PAGE, 1);      /* so the reader has looked */
        pw_records_end(records, mark);
        again += times_told(m, p + i * PAGE, 1) - 1;
    }
    cr_expect(eq(int, again, 0));
    m->ops->close(m);
}

/* The whole, with a pin that shows where it points. One thread changes pages past
 * the interception at any moment, another watches, pins and looks again. What it
 * took for good is tried when nobody changes anything. */

struct race {
    struct pw_monitor *m;
    struct pw_uring *u;
    int file;
    char *page;
    int round, stopped;
    struct pw_uring_handle h;
    bool pinned;
    uint64_t seen;
    long wrong, kept, refused;
};

static void change_at_random(struct race *r, unsigned *seed)
{
    for (unsigned spins = (unsigned)rand_r(seed) % 3000; spins--;)
        __asm__ volatile("pause");
    switch (rand_r(seed) % 3) {
    case 0:
        madvise(r->page, PAGE, MADV_DONTNEED);
        break;
    case 1:
        map_at(r->page, 1);
        break;
    case 2:
        munmap(r->page, PAGE);
        map_at(r->page, 1);
        break;
    }
}

/* Each round the changer makes one change while the other goes on caching. */
static void *changer(void *arg)
{
    struct race *r = arg;
    unsigned seed = 1;

    for (int i = 1; i <= 1500; i++) {
        __atomic_store_n(&r->round, i, __ATOMIC_RELEASE);
        change_at_random(r, &seed);
        __atomic_store_n(&r->stopped, i, __ATOMIC_RELEASE);
        while (__atomic_load_n(&r->round, __ATOMIC_ACQUIRE) == i)
            sched_yield();
        if (i % 8 == 0)     /* out of doubt */
            map_at(r->page, 1);
    }
    __atomic_store_n(&r->round, -1, __ATOMIC_RELEASE);
    return NULL;
}

/* What a cache does: drop what has changed; watch, pin, look again. */
static void cache_page(struct race *r)
{
    struct pw_watch w;
    struct pw_change c;
    uint64_t upto;

    while (r->seen != __atomic_load_n(r->m->word, __ATOMIC_ACQUIRE)) {
        int got = r->m->ops->changes(r->m, &c, 1, &upto);

        if (got && r->pinned && c.range.start < (uintptr_t)r->page + PAGE &&
            (uintptr_t)r->page < c.range.end) {
            pw_uring_pin.unpin(r->u, r->page, PAGE, &r->h);
            r->pinned = false;
        }
        if (!got && upto == r->seen)
            return;
        r->seen = upto;
    }
    if (r->pinned)
        return;
    if (r->m->ops->watch(r->m, range_of(r->page, 1), &w)) {
        r->refused++;
        return;
    }
    if (pw_uring_pin.pin(r->u, r->page, PAGE, PW_WRITE, &r->h))
        return;
    if (r->m->ops->fresh(r->m, range_of(r->page, 1), &w))
        r->pinned = true;
    else
        pw_uring_pin.unpin(r->u, r->page, PAGE, &r->h);
}

/* Nobody changes anything now. */
static void try_cached(struct race *r)
{
    if (!r->pinned || r->seen != __atomic_load_n(r->m->word, __ATOMIC_ACQUIRE))
        return;
    r->kept++;
    *(volatile char *)r->page = 0;
    r->wrong += pw_uring_read(r->u, r->file, &r->h, r->page, 1, 0) != 1 ||
                *(volatile char *)r->page != 'F';
}

Test(uffd, what_is_cached_beside_changes_past_the_interception_is_never_wrong)
{
    struct race r = { .m = monitor(), .page = map(3) + PAGE };
    pthread_t t;
    int i;

    if (pw_uring_open(NULL, &r.u))
        cr_skip_test("no io_uring here");
    r.file = memfd_create("pinwheel-uffd", MFD_CLOEXEC);
    cr_assert(eq(int, (int)write(r.file, "F", 1), 1));
    cr_assert(eq(int, pthread_create(&t, NULL, changer, &r), 0));
    while ((i = __atomic_load_n(&r.round, __ATOMIC_ACQUIRE)) >= 0) {
        cache_page(&r);
        if (i > 0 && __atomic_load_n(&r.stopped, __ATOMIC_ACQUIRE) == i) {
            cache_page(&r);
            try_cached(&r);
            __atomic_store_n(&r.round, 0, __ATOMIC_RELEASE);
            while (!__atomic_load_n(&r.round, __ATOMIC_ACQUIRE))
                sched_yield();
        }
    }
    pthread_join(t, NULL);
    cr_expect(eq(long, r.wrong, 0));
    cr_expect(lt(long, 0, r.kept));
    cr_expect(lt(long, 0, r.refused));
    pw_uring_close(r.u);
    r.m->ops->close(r.m);
}

/* What another thread does after the first look at the mappings. */
static void (*after_look)(void);
static char *turning;

int __real_pw_maps_find(struct pw_range r, struct pw_maps_found *out);
int __wrap_pw_maps_find(struct pw_range r, struct pw_maps_found *out);

int __wrap_pw_maps_find(struct pw_range r, struct pw_maps_found *out)
{
    void (*act)(void) = after_look;
    int err = __real_pw_maps_find(r, out);

    after_look = NULL;
    if (act)
        act();
    return err;
}

static void turn_shared(void)
{
    mmap(turning, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1,
         0);
}

static void turn_into_nothing(void)
{
    munmap(turning, PAGE);
}

static void turn_into_other_memory(void)
{
    map_at(turning, 1);
}

static int watch_while(struct pw_monitor *m, void (*act)(void))
{
    struct pw_watch w;
    int err;

    turning = map(3) + PAGE;
    after_look = act;
    err = watch(m, turning, 1, &w);
    cr_expect(eq(ptr, (void *)(uintptr_t)after_look, NULL));
    if (err)
        return err;
    cr_expect(fresh(m, turning, 1, &w));
    munmap(turning, PAGE);
    cr_expect(eq(int, fresh(m, turning, 1, &w), false));
    return 0;
}

Test(uffd, memory_that_changes_while_it_is_looked_up_is_vouched_for_as_what_it_became)
{
    struct pw_monitor *m = monitor();

    cr_expect(eq(int, watch_while(m, turn_shared), -EOPNOTSUPP));
    cr_expect(eq(int, watch_while(m, turn_into_nothing), -EFAULT));
    cr_expect(eq(int, watch_while(m, turn_into_other_memory), 0));
    m->ops->close(m);
}

/* With the real interception. A thread that is given addresses by it can rely on
 * having missed no munmap past it: what it is given is told before it returns. */

static struct pw_monitor *real(const char *name)
{
    struct pw_monitor_report report;
    struct pw_monitor *m;

    if (pw_monitor_open(name, &m, &report))
        cr_skip_test("%s", report.why_not);
    return m;
}

Test(uffd, what_the_c_library_is_given_by_the_kernel_is_told)
{
    struct pw_monitor *m = real("uffd");
    char *p, *q;

    times_told(m, NULL, 1);
    p = map(4);
    cr_expect(eq(int, times_told(m, p, 4), 1));
    q = mremap(p, 4 * PAGE, 400 * PAGE, MREMAP_MAYMOVE);
    cr_assert(ne(ptr, q, MAP_FAILED));
    cr_expect(lt(int, 0, times_told(m, q, 400)));
    cr_expect(eq(ptr, mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
                 MAP_FAILED));
    pw_monitor_close(m);

    m = real("hooks");
    times_told(m, NULL, 1);
    p = map(4);
    cr_expect(eq(int, times_told(m, p, 4), 0), "hooks alone need not");
    pw_monitor_close(m);
}

Test(uffd, shared_memory_that_is_attached_is_told)
{
    struct pw_monitor *m = real("uffd");
    int id = shmget(IPC_PRIVATE, PAGE, 0600);
    void *p;

    if (id < 0)
        cr_skip_test("no shared memory of System V here");
    times_told(m, NULL, 1);
    p = shmat(id, NULL, 0);
    shmctl(id, IPC_RMID, NULL);
    cr_assert(ne(ptr, p, (void *)-1));
    cr_expect(lt(int, 0, times_told(m, p, 1)));
    pw_monitor_close(m);
}

Test(uffd, calls_of_the_c_library_leave_no_doubt)
{
    struct pw_monitor *m = real("uffd");
    char *p = map(64);
    struct pw_watch w;

    for (int i = 0; i < 500; i++) {
        w = watched(m, p, 64);
        madvise(p + i % 64 * PAGE, PAGE, MADV_DONTNEED);
        cr_expect(eq(int, fresh(m, p, 64, &w), false));
    }
    madvise(p, 64 * PAGE, MADV_DONTNEED);
    cr_expect(eq(int, watch(m, p, 64, &w), 0));
    pw_raw3(SYS_madvise, (long)p, (long)PAGE, MADV_DONTNEED);
    cr_expect(eq(int, watch(m, p, 64, &w), -EOPNOTSUPP));
    munmap(p, 64 * PAGE);
    pw_monitor_close(m);
}

/* The reader. */

/* The one signal of the process that no thread of the test's takes. */
Test(uffd, the_reader_takes_no_signals)
{
    struct pw_monitor *m = monitor();
    sigset_t usr1, pending;

    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &usr1, NULL);
    cr_assert(eq(int, kill(getpid(), SIGUSR1), 0));
    usleep(20000);
    sigpending(&pending);
    cr_expect(eq(int, sigismember(&pending, SIGUSR1), 1));
    m->ops->close(m);
}

Test(uffd, a_program_whose_thread_local_storage_is_large_gets_a_larger_stack)
{
    struct pw_monitor *m;
    char *p = map(1);
    struct pw_watch w;

    m = monitor();
    m->ops->close(m);
    no_small_threads = EINVAL;
    cr_assert(eq(int, open_uffd(&m), 0));
    w = watched(m, p, 1);
    munmap(p, PAGE);
    cr_expect(eq(int, fresh(m, p, 1, &w), false));
    m->ops->close(m);
}

static int descriptors_used(void)
{
    int next = dup(0);

    close(next);
    return next;
}

Test(uffd, closing_leaves_nothing_and_memory_is_free_to_change)
{
    struct pw_monitor *m = monitor();
    char *p = map(1);
    int before;

    m->ops->close(m);
    before = descriptors_used();
    for (int i = 0; i < 20; i++) {
        m = monitor();
        watched(m, p, 1);
        m->ops->close(m);
    }
    cr_expect(eq(int, descriptors_used(), before));
    munmap(p, PAGE);
}

/* Children. */

struct family {
    struct pw_monitor *m;
    char *p;
    int ends[2];
};

static int forked(void *arg)
{
    struct family *f = arg;
    struct pw_watch w = { 0 };
    struct pw_change c;
    uint64_t upto;

    alarm(20);
    if (f->m->ops->watch(f->m, range_of(f->p, 4), &w) != -EOPNOTSUPP)
        return 1;
    if (f->m->ops->fresh(f->m, range_of(f->p, 4), &w))
        return 2;
    munmap(f->p, PAGE);
    madvise(f->p + PAGE, PAGE, MADV_DONTNEED);
    while (f->m->ops->changes(f->m, &c, 1, &upto))
        ;
    f->m->ops->close(f->m);
    munmap(f->p + PAGE, PAGE);
    return 0;
}

Test(uffd, a_forked_child_is_refused_and_its_changes_are_its_own)
{
    struct family f = { .m = monitor(), .p = map(4) };
    struct pw_watch w = watched(f.m, f.p, 4);

    cr_expect(eq(int, in_child(forked, &f), 0));
    cr_expect(fresh(f.m, f.p, 4, &w));
    munmap(f.p, PAGE);
    cr_expect(eq(int, fresh(f.m, f.p, 4, &w), false));
    f.m->ops->close(f.m);
}

/* It has a copy of the descriptor: what is registered stays so when ours is
 * closed. */
Test(uffd, closing_while_a_child_lives_keeps_nobody_waiting)
{
    struct family f = { .m = monitor(), .p = map(4) };
    char c;
    pid_t pid;

    watched(f.m, f.p, 4);
    cr_assert(eq(int, pipe(f.ends), 0));
    pid = fork();
    cr_assert(ge(int, pid, 0));
    if (pid == 0) {
        close(f.ends[1]);
        _exit((int)read(f.ends[0], &c, 1));
    }
    f.m->ops->close(f.m);
    munmap(f.p, 4 * PAGE);
    close(f.ends[1]);
    cr_expect(eq(int, waitpid(pid, NULL, 0), pid));
}

/* As daemons do. The messages still come; only nothing new is watched. */
static int all_descriptors_closed(void *arg)
{
    struct pw_monitor *m;
    char *p = arg;
    struct pw_watch w, none;

    alarm(20);
    if (open_uffd(&m) || m->ops->watch(m, range_of(p, 1), &w))
        return 1;
    if (pw_raw3(SYS_close_range, 3, UINT32_MAX, 0))
        return 2;
    if (m->ops->watch(m, range_of(p, 1), &none) != -EOPNOTSUPP)
        return 3;
    if (!m->ops->fresh(m, range_of(p, 1), &w))
        return 4;
    munmap(p, PAGE);
    if (m->ops->fresh(m, range_of(p, 1), &w))
        return 5;
    m->ops->close(m);
    return 0;
}

Test(uffd, a_program_that_closes_all_descriptors_is_still_told_about)
{
    struct pw_monitor *m = monitor();

    m->ops->close(m);
    cr_expect(eq(int, in_child(all_descriptors_closed, map(1)), 0));
}

static int as_nobody(void *arg)
{
    struct pw_monitor *m;
    struct pw_watch w;
    char *p = arg;

    alarm(20);
    if (become_nobody() || open_uffd(&m) || m->ops->watch(m, range_of(p, 1), &w))
        return 1;
    madvise(p, PAGE, MADV_DONTNEED);
    if (m->ops->fresh(m, range_of(p, 1), &w))
        return 2;
    if (pw_monitor_selftest(m, why))
        return 3;
    m->ops->close(m);
    return 0;
}

Test(uffd, it_needs_no_privilege)
{
    struct pw_monitor *m = monitor();

    m->ops->close(m);
    if (getuid() != 0)
        cr_skip_test("needs root to become another user");
    cr_expect(eq(int, in_child(as_nobody, map(1)), 0));
}

struct denial {
    unsigned call, error;
    bool nobody;
    int expected;
    const char *said;
};

static int denied(void *arg)
{
    const struct denial *d = arg;
    int before = descriptors_used(), err;
    struct pw_monitor *m;

    alarm(20);
    first_make();
    if ((d->nobody && become_nobody()) || deny_call(d->call, d->error))
        return 1;
    err = open_uffd(&m);
    if (err != d->expected)
        return 2;
    if (!err)
        m->ops->close(m);
    else if (m || !strstr(why, d->said))
        return 3;
    if (descriptors_used() != before)
        return 4;
    return 0;
}

Test(uffd, what_is_missing_is_said_and_nothing_is_left)
{
    struct denial all[] = {
        { SYS_userfaultfd, EPERM, true, -EPERM, "/dev/userfaultfd" },
        { SYS_userfaultfd, ENOSYS, true, -ENODEV, "CONFIG_USERFAULTFD" },
        { SYS_userfaultfd, EMFILE, false, -EMFILE, "open files" },
        { SYS_ioctl, EINVAL, false, -ENODEV, "tells of no changes" },
        { SYS_mmap, ENOMEM, false, -ENOMEM, "a page of its own" },
        { SYS_madvise, EINVAL, false, -ENODEV, "a page of its own" },
        { SYS_close_range, ENOSYS, false, -ENODEV, "Linux 5.9" },
        { SYS_close_range, EPERM, false, -EPERM, "close_range" },
    };
    struct pw_monitor *m = monitor();

    m->ops->close(m);
    if (getuid() != 0)
        cr_skip_test("needs root to become another user");
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        cr_expect(eq(int, in_child(denied, &all[i]), 0), "call %u, error %u",
                  all[i].call, all[i].error);
}

/* Forbidden by seccomp, say, in a container that has been given the device. */
Test(uffd, the_device_is_as_good_as_the_call)
{
    struct denial d = { SYS_userfaultfd, EPERM, false, 0, "" };
    struct pw_monitor *m = monitor();

    m->ops->close(m);
    if (access("/dev/userfaultfd", R_OK | W_OK))
        cr_skip_test("no /dev/userfaultfd that we may use");
    cr_expect(eq(int, in_child(denied, &d), 0));
}

Test(uffd, no_thread_is_an_error)
{
    struct pw_monitor *m = monitor();
    int before;

    m->ops->close(m);
    before = descriptors_used();
    no_threads = EAGAIN;
    cr_expect(eq(int, open_uffd(&m), -EAGAIN));
    cr_expect(eq(ptr, m, NULL));
    cr_expect(ne(ptr, strstr(why, "no thread can be started"), NULL));
    cr_expect(eq(int, descriptors_used(), before));
}

/* Registering takes memory of the kernel's, and a number of mappings. */
static int registration_refused(void *arg)
{
    struct pw_monitor *m;
    struct pw_watch w;

    alarm(20);
    if (open_uffd(&m) || deny_call(SYS_ioctl, ENOMEM))
        return 1;
    return m->ops->watch(m, range_of(arg, 1), &w) != -ENOMEM;
}

Test(uffd, no_memory_to_register_is_an_error)
{
    struct pw_monitor *m = monitor();

    m->ops->close(m);
    cr_expect(eq(int, in_child(registration_refused, map(1)), 0));
}

static int maps_refused(void *arg)
{
    struct pw_monitor *m;
    struct pw_watch w;

    alarm(20);
    if (open_uffd(&m) || deny_call(SYS_openat, EACCES))
        return 1;
    return m->ops->watch(m, range_of(arg, 1), &w) != -EOPNOTSUPP;
}

Test(uffd, memory_that_cannot_be_looked_up_is_not_watched)
{
    struct pw_monitor *m = monitor();

    m->ops->close(m);
    cr_expect(eq(int, in_child(maps_refused, map(1)), 0));
}
