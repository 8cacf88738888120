/* SPDX-License-Identifier: BSD-3-Clause */
/* selftest.c - a monitor is tried before it is trusted.
 *
 * Start at pw_monitor_selftest(). Each trial makes four pages, has the second (and
 * for some calls the fourth) watched, makes a call that changes them, and then the
 * word must have moved, the watch must not be fresh and changes() must tell of
 * those pages.
 *
 * Not tried: brk, since another thread's malloc may be moving the break; dlclose,
 * for which there would have to be something to unload; what other processes do;
 * and losing records.
 *
 * An address that was unmapped may belong to another thread a moment later: it is
 * not touched again.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <time.h>
#include <unistd.h>

#include "monitors.h"
#include "raw.h"

#define PAGE ((size_t)4096)

enum {
    PAGES = 4,
    WATCHED = 1,            /* numbers of pages */
    LANDED_ON = 3,
    WATCH_TRIES = 1000,     /* while another thread is changing something there */
    WATCH_YIELDS = 100,     /* so many of them at once, the others a millisecond apart */
    CHANGES_AT_ONCE = 16,
    CHANGES_CALLS = 1 << 16,
};

struct scene {
    char *base;
    int fd;                 /* of a file of one page, or -1 */
    struct pw_range range[2];
    struct pw_watch watch[2];
    int ranges;
};

struct trial {
    unsigned event;
    const char *call;       /* "TEXT of a watched page" */

    /* 0, or -errno when this call cannot be made here: there is nothing to see. */
    int (*act)(struct scene *s);
    bool gone;              /* the watched page is nobody's afterwards */
    bool lands;             /* the fourth page is watched, too */
    int file;               /* MAP_SHARED or MAP_PRIVATE of a file; 0: no file.
                             * A monitor may refuse to watch it */
};

static char *page(const struct scene *s, size_t number)
{
    return s->base + number * PAGE;
}

static int done(int result)
{
    return result ? -errno : 0;
}

static int act_munmap(struct scene *s)
{
    return done(munmap(page(s, WATCHED), PAGE));
}

static int act_raw(struct scene *s)
{
    return (int)pw_raw3(SYS_munmap, (long)(uintptr_t)page(s, WATCHED), (long)PAGE, 0);
}

static int act_mremap(struct scene *s)
{
    return done(mremap(page(s, WATCHED), PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
                       page(s, LANDED_ON)) == MAP_FAILED);
}

static int act_map_over(struct scene *s)
{
    return done(mmap(page(s, WATCHED), PAGE, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED);
}

static int act_discard(struct scene *s)
{
    return done(madvise(page(s, WATCHED), PAGE, MADV_DONTNEED));
}

static int act_protect(struct scene *s)
{
    return done(mprotect(page(s, WATCHED), PAGE, PROT_NONE));
}

static int act_truncate(struct scene *s)
{
    return done(ftruncate(s->fd, 0));
}

static int act_punch(struct scene *s)
{
    return done(fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                          (off_t)PAGE));
}

static int act_attach(struct scene *s)
{
    int id = shmget(IPC_PRIVATE, PAGE, IPC_CREAT | 0600), err;
    void *at;

    if (id < 0)
        return -errno;
    at = shmat(id, page(s, WATCHED), SHM_REMAP);
    err = at == (void *)-1 ? -errno : 0;
    shmctl(id, IPC_RMID, NULL);
    return err;
}

static const struct trial trials[] = {
    { .event = PW_EV_UNMAP, .call = "munmap", .act = act_munmap, .gone = true },
    { .event = PW_EV_RAW, .call = "munmap past the C library", .act = act_raw,
      .gone = true },
    { .event = PW_EV_REMAP, .call = "mremap", .act = act_mremap, .gone = true,
      .lands = true },
    { .event = PW_EV_MAP_OVER, .call = "mmap(MAP_FIXED)", .act = act_map_over },
    { .event = PW_EV_DISCARD, .call = "madvise(MADV_DONTNEED)", .act = act_discard },
    { .event = PW_EV_PROTECT, .call = "mprotect(PROT_NONE)", .act = act_protect },
    { .event = PW_EV_SHM, .call = "shmat(SHM_REMAP)", .act = act_attach },
    { .event = PW_EV_TRUNCATE, .call = "ftruncate", .act = act_truncate,
      .file = MAP_SHARED },
    { .event = PW_EV_TRUNCATE, .call = "ftruncate", .act = act_truncate,
      .file = MAP_PRIVATE },
    { .event = PW_EV_TRUNCATE, .call = "fallocate(FALLOC_FL_PUNCH_HOLE)",
      .act = act_punch, .file = MAP_SHARED },
    { .event = PW_EV_TRUNCATE, .call = "fallocate(FALLOC_FL_PUNCH_HOLE)",
      .act = act_punch, .file = MAP_PRIVATE },
};

static void scene_range(struct scene *s, size_t number)
{
    uintptr_t start = (uintptr_t)page(s, number);

    s->range[s->ranges++] = (struct pw_range){ start, start + PAGE };
}

static int scene_file(struct scene *s, int sharing)
{
    s->fd = memfd_create("pinwheel-selftest", MFD_CLOEXEC);
    if (s->fd < 0)
        return -errno;
    if (ftruncate(s->fd, (off_t)PAGE))
        return -errno;
    return done(mmap(page(s, WATCHED), PAGE, PROT_READ | PROT_WRITE, sharing | MAP_FIXED,
                     s->fd, 0) == MAP_FAILED);
}

/* page_gone: the watched one is unmapped by now. */
static void scene_close(struct scene *s, bool page_gone)
{
    for (size_t i = 0; i < PAGES; i++)
        if (i != WATCHED || !page_gone)
            munmap(page(s, i), PAGE);
    if (s->fd >= 0)
        close(s->fd);
}

static int scene_open(struct scene *s, const struct trial *t)
{
    int err = 0;

    *s = (struct scene){ .fd = -1 };
    s->base = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (s->base == MAP_FAILED)
        return -ENOMEM;
    if (t->file)
        err = scene_file(s, t->file);
    if (err) {
        scene_close(s, false);
        return err;
    }
    scene_range(s, WATCHED);
    if (t->lands)
        scene_range(s, LANDED_ON);
    return 0;
}

static void unwatch(struct pw_monitor *m, struct scene *s, int ranges)
{
    for (int i = 0; i < ranges; i++)
        m->ops->unwatch(m, s->range[i], &s->watch[i]);
}

/* That thread may have to wait for a processor. */
static void give_way(int tries)
{
    if (tries < WATCH_YIELDS)
        sched_yield();
    else
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
}

/* Touched first: a page that was never there need not be missed. */
static int watch(struct pw_monitor *m, struct scene *s)
{
    for (int i = 0; i < s->ranges; i++) {
        int err = -EAGAIN;

        *(volatile char *)s->range[i].start = 1;
        for (int tries = 0; err == -EAGAIN && tries < WATCH_TRIES; tries++) {
            err = m->ops->watch(m, s->range[i], &s->watch[i]);
            if (err == -EAGAIN)
                give_way(tries);
        }
        if (err) {
            unwatch(m, s, i);
            return err;
        }
    }
    return 0;
}

static bool covers(const struct pw_change *c, struct pw_range r)
{
    return c->cause == PW_EV_LOST || (c->range.start <= r.start && r.end <= c->range.end);
}

/* All changes up to now are taken. A record may be on its way: the word has moved,
 * and what has changed is told a moment later. */
static bool told(struct pw_monitor *m, const struct scene *s)
{
    struct pw_change changes[CHANGES_AT_ONCE];
    uint64_t word = __atomic_load_n(m->word, __ATOMIC_ACQUIRE), upto;
    bool seen[2] = { false, false };

    for (int calls = 0; calls < CHANGES_CALLS; calls++) {
        int got = m->ops->changes(m, changes, CHANGES_AT_ONCE, &upto);

        for (int c = 0; c < got; c++)
            for (int i = 0; i < s->ranges; i++)
                seen[i] |= covers(&changes[c], s->range[i]);
        if ((int64_t)(upto - word) >= 0)
            break;
        if (!got)
            sched_yield();
    }
    return seen[0] && (s->ranges < 2 || seen[1]);
}

/* NULL, or what was wrong. */
static const char *judge(struct pw_monitor *m, const struct scene *s, uint64_t before)
{
    if (__atomic_load_n(m->word, __ATOMIC_ACQUIRE) == before)
        return "did not move the word";
    for (int i = 0; i < s->ranges; i++)
        if (m->ops->fresh(m, s->range[i], &s->watch[i]))
            return "left it fresh";
    return told(m, s) ? NULL : "is not among the changes told";
}

static int fail(char why[PW_MONITOR_WHY_MAX], const struct trial *t, const char *what)
{
    snprintf(why, PW_MONITOR_WHY_MAX, "self-test: %s of a watched page %s", t->call,
             what);
    return -EIO;
}

static int try(struct pw_monitor *m, const struct trial *t, char why[PW_MONITOR_WHY_MAX])
{
    const char *wrong;
    struct scene s;
    uint64_t before;
    int err = scene_open(&s, t);

    if (err == -ENOMEM) {
        snprintf(why, PW_MONITOR_WHY_MAX, "self-test: no memory for its pages");
        return err;
    }
    if (err)
        return 0;   /* no such file can be had, so none will change */
    err = watch(m, &s);
    if (err) {
        scene_close(&s, false);
        if (t->file && err == -EOPNOTSUPP)
            return 0;
        snprintf(why, PW_MONITOR_WHY_MAX, "self-test: a page for %s is not watched "
                 "(error %d)", t->call, -err);
        return -EIO;
    }
    told(m, &s);    /* trials before this one had the same addresses */
    before = __atomic_load_n(m->word, __ATOMIC_ACQUIRE);
    err = t->act(&s);
    wrong = err ? NULL : judge(m, &s, before);
    unwatch(m, &s, s.ranges);
    scene_close(&s, t->gone && !err);
    return wrong ? fail(why, t, wrong) : 0;
}

int pw_monitor_selftest(struct pw_monitor *m, char why[PW_MONITOR_WHY_MAX])
{
    for (size_t i = 0; i < sizeof trials / sizeof trials[0]; i++) {
        int err = 0;

        if (m->sees & trials[i].event)
            err = try(m, &trials[i], why);
        if (err)
            return err;
    }
    return 0;
}
