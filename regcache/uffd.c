/* SPDX-License-Identifier: BSD-3-Clause */
/* uffd.c - changes of memory by system calls that pass by the interception:
 * userfaultfd tells of them.
 *
 * Start at uffd_watch(). Mappings are registered with userfaultfd, in the mode for
 * write protection, but nothing is ever protected: no access faults, and the only
 * messages are those of munmap (mmap over and brk among them), mremap and madvise.
 * Whoever makes such a call waits in the kernel until its message is read.
 *
 * Messages alone come too late for two things, therefore the interception is the
 * first source, and both write into the same records:
 *   - munmap has given the addresses away before its message is read, and another
 *     thread may have them. The interception tells before, and of what mmap gives.
 *   - madvise drops the pages after its message was read, nobody can say when. What
 *     the interception knows to be going on is over at its end. The rest stays in
 *     doubt (u->doubts) and is not watched again until it is unmapped.
 *
 * The word must have moved before a message is read, for the reading is what lets
 * the caller go on; what it says is only known afterwards. So the reader draws a
 * ticket when there is something to read, and writes the record when it has been
 * read: who looks meanwhile finds a record that is not written yet.
 *
 * The reader takes no lock and makes no mapping: whoever waits for it may hold any
 * lock, malloc's too. It has a table of descriptors of its own, with ours alone:
 * a program that closes all that it does not know does not end the messages.
 *
 * Whole mappings are registered, never parts: that would split them, and a mremap
 * of the whole would then fail.
 *
 * Sources: fs/userfaultfd.c and mm/madvise.c of Linux 6.18.
 */
#include "uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "doubts.h"
#include "hooks.h"
#include "hooks_entry.h"
#include "hooks_install.h"
#include "maps.h"
#include "owner.h"
#include "raw.h"

/* Newer than some headers; Linux include/uapi/linux/userfaultfd.h, close_range.h. */
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif
#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE 2
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif

#define PAGE ((size_t)4096)

enum {
    STACK_BYTES = 64 << 10,
    FEATURES = UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE |
               UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_PAGEFAULT_FLAG_WP,
};

/* How far the kernel has told of an intercepted madvise that is going on. */
struct progress {
    uint64_t state;                 /* of the mark: which one */
    uintptr_t told;
};

struct uffd {
    struct pw_monitor m;
    struct pw_monitor *first;
    struct pw_records *records;
    struct pw_owner owner;
    int fd;
    char *bell;                     /* a page whose unmapping ends the reader */

    pthread_t reader;
    sem_t started;
    int start_err;
    bool ended;                     /* the reader's own */

    uint64_t between;               /* 1: a ticket is drawn, what for is not told */
    struct pw_doubts doubts;

    /* The reader's: intercepted calls of madvise that were going on when it was
     * about to read, and of each what the kernel has told. */
    struct pw_records_change discards[PW_RECORDS_GOING_ON];
    unsigned n_discards;
    struct progress progress[PW_RECORDS_GOING_ON];
};

static struct uffd *uffd_of(struct pw_monitor *m)
{
    return (struct uffd *)(void *)m;
}

static struct pw_range range_at(uint64_t start, uint64_t end)
{
    return (struct pw_range){ (uintptr_t)start, (uintptr_t)end };
}

static int registration(struct uffd *u, struct pw_range r)
{
    struct uffdio_register reg = {
        .range = { r.start, r.end - r.start }, .mode = UFFDIO_REGISTER_MODE_WP,
    };

    return (int)pw_raw3(SYS_ioctl, u->fd, (long)UFFDIO_REGISTER, (long)(uintptr_t)&reg);
}

static void unregister(struct uffd *u, uintptr_t start, uintptr_t end)
{
    struct uffdio_range r = { start, end - start };

    if (start < end)
        pw_raw3(SYS_ioctl, u->fd, (long)UFFDIO_UNREGISTER, (long)(uintptr_t)&r);
}

/* ---- the reader ---- */

static bool contains(struct pw_range outer, struct pw_range inner)
{
    return outer.start <= inner.start && inner.end <= outer.end;
}

/* Another madvise than the interception's may run beside it on the same pages.
 * The kernel goes upwards through the range of a call: a message from below what
 * was told is of another call, and either may end later than we know. */
static bool continues(struct uffd *u, struct pw_range r,
                      const struct pw_records_change *going)
{
    struct progress *p = &u->progress[going->slot];

    if (p->state != going->state)
        *p = (struct progress){ going->state, going->range.start };
    if (r.start < p->told)
        return false;
    p->told = r.end;
    return true;
}

/* The next change that the interception has begun and not ended, from c->slot on. */
static bool going_on(const struct uffd *u, struct pw_records_change *c)
{
    for (; pw_records_going_on(u->records, PW_RANGE_ALL, c); c->slot++) {
        const uint64_t *state = &u->records->going_on[c->slot].state;

        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (c->cause & PW_EV_ALL && __atomic_load_n(state, __ATOMIC_RELAXED) == c->state)
            return true;
    }
    return false;
}

/* Is it of an intercepted call? Otherwise *doubtful grows to what may be. */
static bool explains(struct uffd *u, struct pw_range r,
                     const struct pw_records_change *going, struct pw_range *doubtful)
{
    if (going->cause != PW_EV_DISCARD || !contains(going->range, r))
        return false;
    if (continues(u, r, going))
        return true;
    *doubtful = going->range;
    return false;
}

/* Pages are about to go. The call waited for us to read, so it was going on before
 * we did, and may have ended since; or it has only begun meanwhile. */
static void removal(struct uffd *u, struct pw_range r)
{
    struct pw_records_change going = { .slot = 0 };
    struct pw_range doubtful = r;

    for (unsigned i = 0; i < u->n_discards; i++)
        if (explains(u, r, &u->discards[i], &doubtful))
            return;
    for (; going_on(u, &going); going.slot++)
        if (explains(u, r, &going, &doubtful))
            return;
    pw_doubts_add(&u->doubts, doubtful);
}

static void note_discards(struct uffd *u)
{
    struct pw_records_change going = { .slot = 0 };

    u->n_discards = 0;
    for (; going_on(u, &going); going.slot++)
        if (going.cause == PW_EV_DISCARD)
            u->discards[u->n_discards++] = going;
}

/* What the interception has begun and not ended it has told itself. */
static bool told_already(struct uffd *u, struct pw_range r)
{
    struct pw_records_change going = { .slot = 0 };

    for (; going_on(u, &going); going.slot++)
        if (contains(going.range, r))
            return true;
    return false;
}

static void tell(struct uffd *u, uint64_t ticket, struct pw_range r)
{
    if (told_already(u, r))
        r = range_at(0, 0);
    pw_records_fill(u->records, ticket, r, PW_EV_RAW);
}

static void handle(struct uffd *u, uint64_t ticket, const struct uffd_msg *msg)
{
    struct pw_range r = range_at(0, 0), to;

    switch (msg->event) {
    case UFFD_EVENT_UNMAP:
        r = range_at(msg->arg.remove.start, msg->arg.remove.end);
        pw_doubts_remove(&u->doubts, r);
        u->ended |= r.start <= (uintptr_t)u->bell && (uintptr_t)u->bell < r.end;
        break;
    case UFFD_EVENT_REMAP:
        r = range_at(msg->arg.remap.from, msg->arg.remap.from + msg->arg.remap.len);
        to = range_at(msg->arg.remap.to, msg->arg.remap.to + msg->arg.remap.len);
        tell(u, pw_records_draw(u->records), to);
        break;
    case UFFD_EVENT_REMOVE:
        r = range_at(msg->arg.remove.start, msg->arg.remove.end);
        removal(u, r);
        break;
    }
    tell(u, ticket, r);
}

/* between is raised before the ticket is drawn, and lowered after the doubt is
 * entered: pairs with uffd_watch(). */
static void take(struct uffd *u)
{
    struct uffd_msg msg;
    uint64_t ticket;

    __atomic_store_n(&u->between, 1, __ATOMIC_RELEASE);
    ticket = pw_records_draw(u->records);
    note_discards(u);
    if (pw_raw3(SYS_read, u->fd, (long)(uintptr_t)&msg, sizeof msg) == sizeof msg)
        handle(u, ticket, &msg);
    else
        pw_records_fill(u->records, ticket, range_at(0, 0), PW_EV_RAW);
    __atomic_store_n(&u->between, 0, __ATOMIC_RELEASE);
}

/* A table of descriptors of this thread's own, and in it ours. */
static int keep_own_descriptor(const struct uffd *u)
{
    long err = pw_raw3(SYS_close_range, u->fd + 1, UINT32_MAX, CLOSE_RANGE_UNSHARE);

    if (!err && u->fd > 0)
        err = pw_raw3(SYS_close_range, 0, u->fd - 1, 0);
    return (int)err;
}

static void *read_messages(void *arg)
{
    struct uffd *u = arg;
    struct pollfd p = { .fd = u->fd, .events = POLLIN };

    u->start_err = keep_own_descriptor(u);
    u->ended = u->start_err;
    sem_post(&u->started);
    while (!u->ended)
        if (pw_raw6(SYS_ppoll, (long)(uintptr_t)&p, 1, 0, 0, 0, 0) == 1)
            take(u);
    return NULL;
}

/* A small stack, unless the program's thread-local storage does not fit. */
static int reader_create(struct uffd *u)
{
    pthread_attr_t attr;
    int err;

    if (pthread_attr_init(&attr))
        return -ENOMEM;
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    err = pthread_create(&u->reader, &attr, read_messages, u);
    pthread_attr_destroy(&attr);
    if (err == EINVAL)
        err = pthread_create(&u->reader, NULL, read_messages, u);
    return -err;
}

/* Signals are for the program's threads. */
static int reader_start(struct uffd *u, char why[PW_MONITOR_WHY_MAX])
{
    sigset_t all, before;
    int err;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    err = reader_create(u);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err) {
        snprintf(why, PW_MONITOR_WHY_MAX, "no thread can be started: %s",
                 strerror(-err));
        return err;
    }
    while (sem_wait(&u->started))
        ;
    if (!u->start_err)
        return 0;
    pthread_join(u->reader, NULL);
    snprintf(why, PW_MONITOR_WHY_MAX, "close_range: %s; it needs Linux 5.9 and leave to "
             "use that", strerror(-u->start_err));
    return u->start_err == -ENOSYS ? -ENODEV : u->start_err;
}

/* ---- open and close ---- */

/* Without a right to handle the kernel's own faults, which we never have any of.
 * Before Linux 5.11 there was no such, and who may use it at all may so. */
static int descriptor(void)
{
    int flags = O_CLOEXEC | O_NONBLOCK, device;
    long fd = pw_raw3(SYS_userfaultfd, flags | UFFD_USER_MODE_ONLY, 0, 0);

    if (fd == -EINVAL)
        fd = pw_raw3(SYS_userfaultfd, flags, 0, 0);
    if (fd != -EPERM && fd != -EACCES && fd != -ENOSYS)
        return (int)fd;
    device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    if (device < 0)
        return (int)fd;
    fd = pw_raw3(SYS_ioctl, device, (long)USERFAULTFD_IOC_NEW, flags);
    close(device);
    return (int)fd;
}

static int descriptor_open(struct uffd *u, char why[PW_MONITOR_WHY_MAX])
{
    struct uffdio_api api = { .api = UFFD_API, .features = FEATURES };

    u->fd = descriptor();
    if (u->fd == -ENOSYS || u->fd == -EPERM || u->fd == -EACCES) {
        snprintf(why, PW_MONITOR_WHY_MAX, "userfaultfd: %s; it needs Linux 5.11 with "
                 "CONFIG_USERFAULTFD, and leave by seccomp or by /dev/userfaultfd "
                 "(Linux 6.1)", strerror(-u->fd));
        return u->fd == -ENOSYS ? -ENODEV : -EPERM;
    }
    if (u->fd < 0) {
        snprintf(why, PW_MONITOR_WHY_MAX, "userfaultfd: %s", strerror(-u->fd));
        return u->fd;
    }
    if (!pw_raw3(SYS_ioctl, u->fd, (long)UFFDIO_API, (long)(uintptr_t)&api))
        return 0;
    snprintf(why, PW_MONITOR_WHY_MAX, "userfaultfd tells of no changes here: it needs "
             "Linux 5.7, on a CPU where it can protect from writing");
    return -ENODEV;
}

static int bell_hang(struct uffd *u, char why[PW_MONITOR_WHY_MAX])
{
    int err;

    u->bell = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (u->bell == MAP_FAILED) {
        u->bell = NULL;
        snprintf(why, PW_MONITOR_WHY_MAX, "no memory");
        return -ENOMEM;
    }
    err = registration(u, range_at((uintptr_t)u->bell, (uintptr_t)u->bell + PAGE));
    if (!err)
        return 0;
    snprintf(why, PW_MONITOR_WHY_MAX, "a page cannot be registered with userfaultfd: %s",
             strerror(-err));
    return err == -ENOMEM ? err : -ENODEV;
}

static void visit(struct pw_range r, enum pw_memory kind, void *arg)
{
    struct uffd *u = arg;
    uintptr_t bell = (uintptr_t)u->bell;

    if (kind != PW_MEM_PRIVATE)
        return;
    if (r.start <= bell && bell < r.end) {
        unregister(u, r.start, bell);
        unregister(u, bell + PAGE, r.end);
    } else {
        unregister(u, r.start, r.end);
    }
}

/* A child may hold a copy of the descriptor, so closing ours does not unregister
 * what we have: it would wait for a reader for ever. */
static void reader_stop(struct uffd *u)
{
    pw_maps_each(visit, u);
    pw_raw3(SYS_munmap, (long)(uintptr_t)u->bell, (long)PAGE, 0);
    pthread_join(u->reader, NULL);
    u->bell = NULL;
}

/* What was opened of it, but the reader. */
static void give_up(struct uffd *u)
{
    if (u->fd >= 0)
        pw_raw3(SYS_close, u->fd, 0, 0);
    if (u->bell)
        pw_raw3(SYS_munmap, (long)(uintptr_t)u->bell, (long)PAGE, 0);
    pw_owner_fini(&u->owner);
    sem_destroy(&u->started);
    free(u);
}

static void uffd_close(struct pw_monitor *m)
{
    struct uffd *u = uffd_of(m);
    struct pw_monitor *first = u->first;

    __atomic_sub_fetch(&pw_hooks.late, 1, __ATOMIC_RELAXED);
    if (pw_owner_is_here(&u->owner))
        reader_stop(u);
    give_up(u);
    first->ops->close(first);
}

/* What the interception sees no longer, we do not see in time. */
static void take_after(struct uffd *u)
{
    unsigned sees = __atomic_load_n(&u->first->sees, __ATOMIC_ACQUIRE);

    if (sees & PW_EV_UNMAP || !(u->m.sees & PW_EV_UNMAP))
        return;
    __atomic_store_n(&u->m.sees, sees, __ATOMIC_RELEASE);
    memcpy(u->m.note, u->first->note, sizeof u->m.note);
}

static void describe(struct uffd *u)
{
    u->m.ops = &pw_uffd_monitor;
    u->m.word = u->first->word;
    u->m.sees = u->first->sees | PW_EV_RAW;
    snprintf(u->m.note, sizeof u->m.note, "private memory only; unseen are madvise("
             "MADV_GUARD_INSTALL) and shmat(SHM_REMAP) past the C library, and munmap "
             "past it comes late for a thread that gets its addresses past it, too");
}

int pw_uffd_open_on(struct pw_monitor *first, struct pw_records *records,
                    struct pw_monitor **out, char why[PW_MONITOR_WHY_MAX])
{
    struct uffd *u = calloc(1, sizeof *u);
    int err;

    *out = NULL;
    if (!u) {
        snprintf(why, PW_MONITOR_WHY_MAX, "no memory");
        return -ENOMEM;
    }
    u->first = first;
    u->records = records;
    u->fd = -1;
    sem_init(&u->started, 0, 0);
    err = pw_owner_init(&u->owner);
    if (err)
        snprintf(why, PW_MONITOR_WHY_MAX, "a page of its own: %s", strerror(-err));
    else
        err = descriptor_open(u, why);
    if (!err)
        err = bell_hang(u, why);
    if (!err)
        err = reader_start(u, why);
    if (err) {
        give_up(u);
        return err;
    }
    describe(u);
    __atomic_add_fetch(&pw_hooks.late, 1, __ATOMIC_RELAXED);
    *out = &u->m;
    return 0;
}

static int uffd_open(struct pw_monitor **out, char why[PW_MONITOR_WHY_MAX])
{
    char reason[PW_MONITOR_WHY_MAX] = "";
    struct pw_monitor *first;
    int err = pw_hooks_open_under(&first, reason);

    *out = NULL;
    if (err) {
        snprintf(why, PW_MONITOR_WHY_MAX, "userfaultfd alone tells too late, and the "
                 "interception cannot be had: %.150s", reason);
        return err;
    }
    if (pw_hooks_untold()) {
        snprintf(why, PW_MONITOR_WHY_MAX, "%s", pw_hooks_untold());
        err = -ENODEV;
    } else {
        err = pw_uffd_open_on(first, pw_hooks.records, out, why);
    }
    if (err)
        first->ops->close(first);
    return err;
}

/* ---- what the cache asks ---- */

static int private_whole(struct pw_range r, struct pw_range *whole)
{
    struct pw_maps_found found;
    int err = pw_maps_find(r, &found);

    if (err)
        return err == -EFAULT ? err : -EOPNOTSUPP;
    *whole = found.whole;
    return found.kinds == PW_MEM_PRIVATE ? 0 : -EOPNOTSUPP;
}

/* -EBUSY: another userfaultfd has it. The rest are kinds of memory that cannot be
 * registered, or our descriptor, which the program has closed. */
static int watch_pages(struct uffd *u, struct pw_range r)
{
    struct pw_range whole;
    int err = private_whole(r, &whole);

    if (err)
        return err;
    err = registration(u, whole);
    if (err)
        return err == -ENOMEM ? err : -EOPNOTSUPP;
    /* Until it was registered, other memory may have come into its place. */
    return private_whole(r, &whole);
}

/* The interception reads the word first. A change told of later is found by
 * fresh(); one before was told of, or the reader is at it: then we would not know
 * of a doubt yet. */
static int uffd_watch(struct pw_monitor *m, struct pw_range r, struct pw_watch *w)
{
    struct uffd *u = uffd_of(m);
    int err;

    if (!pw_owner_is_here(&u->owner))
        return -EOPNOTSUPP;
    err = u->first->ops->watch(u->first, r, w);
    if (err)
        return err;
    if (pw_hooks_untold())
        err = -EOPNOTSUPP;
    if (!err && __atomic_load_n(&u->between, __ATOMIC_ACQUIRE))
        err = -EAGAIN;
    if (!err)
        err = pw_doubts_check(&u->doubts, r);
    if (!err)
        err = watch_pages(u, r);
    if (err)
        u->first->ops->unwatch(u->first, r, w);
    return err;
}

/* Mappings stay registered until they are unmapped: others may be watched there. */
static void uffd_unwatch(struct pw_monitor *m, struct pw_range r, struct pw_watch *w)
{
    struct pw_monitor *first = uffd_of(m)->first;

    first->ops->unwatch(first, r, w);
}

static int uffd_fresh(struct pw_monitor *m, struct pw_range r, const struct pw_watch *w)
{
    struct uffd *u = uffd_of(m);

    return pw_owner_is_here(&u->owner) && u->first->ops->fresh(u->first, r, w);
}

static int uffd_changes(struct pw_monitor *m, struct pw_change *out, int n,
                        uint64_t *upto)
{
    struct uffd *u = uffd_of(m);
    int got = u->first->ops->changes(u->first, out, n, upto);

    take_after(u);
    return got;
}

const struct pw_monitor_ops pw_uffd_monitor = {
    .name = "uffd",
    .what = "the interception, and userfaultfd for what passes by it",
    .open = uffd_open,
    .close = uffd_close,
    .watch = uffd_watch,
    .unwatch = uffd_unwatch,
    .fresh = uffd_fresh,
    .changes = uffd_changes,
};
