/* SPDX-License-Identifier: BSD-3-Clause */
/* kdriver.c - changes of memory as the kernel driver tells them.
 *
 * Start at kd_watch(). Each watch has a slot of the driver's (pinwheel/kdriver.h). The
 * word of the slot moves before the change is done, whoever does it and however; so
 * nothing is unseen. A change that is going on the driver waits for, so that a watch
 * begins when all before it is over. What is left to do here is to remember which range
 * a slot is of, and which of its moves have been told.
 *
 * There is no lock. A slot belongs to one watch at a time, for the kernel gives it out,
 * and it gets it back only after that watch has struck its name out (k->ranges[].who).
 * changes() may read an entry while it passes from one to the next. Then the name in it
 * changes, and the entry is passed over: what happens to the next watch after its caller
 * has found that fresh comes later, and moves word 0 again. No value of a word comes
 * twice, so a word that is not what changes() saw last has moved.
 *
 * fork: the tables are wiped in a child, and the first call there opens a descriptor of
 * the child's own and maps its words over the parent's. Until then the child sees the
 * parent's words move, which says nothing about its own memory.
 *
 * A program may close descriptors that are not its own. When the last copy of ours is
 * closed, the driver ends all watches, the words tell, and then they stand still. Our
 * number may be another's by then; each call that could take that for ours looks at the
 * number that the driver gives each descriptor (id).
 */
#include "kdriver.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "arena.h"
#include "owner.h"
#include "pinwheel/device.h"
#include "raw.h"
#include "records.h"

enum {
    SEES = PW_EV_ALL & ~PW_EV_LOST,
    SLOT_BITS = 24,             /* of pw_watch.since; above them, which watch it is */
    FROM = 800,                 /* descriptors above those that programs count on */
};

/* What a slot watches. Written by who has the slot. */
struct ranged {
    uint64_t who;               /* pw_watch.since; 0: nobody */
    uint64_t word;              /* the slot's, when the watch began */
    uintptr_t start, end;
};

struct kdriver {
    struct pw_monitor m;
    const struct pw_kdriver_sys *sys;
    struct pw_owner owner;
    int fd;
    uint64_t id;                /* of fd */
    uint64_t lost;              /* 1: fd is not ours any more, or never was */
    uint64_t none;              /* the word where there is no driver's */

    const uint64_t *words;      /* the driver's */
    uint32_t slots;
    struct ranged *ranges;      /* of each slot */
    uint64_t top;               /* above the highest slot there has been */
    uint64_t watches;           /* so far, here and in the parents */

    /* Used by changes() alone: the words as it saw them last, where it is in them, and
     * how far it has told. */
    uint64_t *told;
    uint32_t at, end;
    uint64_t pass;              /* word 0 when it began at the first slot */
    uint64_t upto;
};

static struct kdriver *kdriver_of(struct pw_monitor *m)
{
    return (struct kdriver *)(void *)m;
}

static uint64_t load(const uint64_t *p)
{
    return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

/* ---- the descriptor ---- */

/* Interrupted before anything was done. */
static int call(const struct kdriver *k, unsigned long request, void *arg)
{
    int err;

    do
        err = k->sys->ioctl(k->fd, request, arg);
    while (err == -EINTR);
    return err;
}

/* Is what has our number ours? */
static bool is_ours(const struct kdriver *k)
{
    struct pw_kd_info info = { .id = 0 };

    return !call(k, PW_KD_INFO, &info) && info.id == k->id;
}

static void give_up(struct kdriver *k, const char *why)
{
    uint64_t no = 0;

    if (!__atomic_compare_exchange_n(&k->lost, &no, 1, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_RELAXED))
        return;
    snprintf(k->m.note, sizeof k->m.note, "nothing is cached any more: %.200s", why);
    __atomic_store_n(&k->m.sees, PW_EV_LOST, __ATOMIC_RELEASE);
}

static void closed_by_others(struct kdriver *k)
{
    give_up(k, "the program has closed the driver's descriptor");
}

static int say(char why[PW_MONITOR_WHY_MAX], int err, const char *what)
{
    snprintf(why, PW_MONITOR_WHY_MAX, "%s", what);
    return err;
}

static int descriptor_open(struct kdriver *k, char why[PW_MONITOR_WHY_MAX])
{
    k->fd = k->sys->open();
    if (k->fd >= 0)
        return 0;
    pw_device_why(k->fd, why, PW_MONITOR_WHY_MAX);
    if (pw_device_missing(k->fd))
        return -ENODEV;
    return pw_device_forbidden(k->fd) ? -EPERM : k->fd;
}

static int info_check(struct kdriver *k, struct pw_kd_info *info,
                      char why[PW_MONITOR_WHY_MAX])
{
    int err = call(k, PW_KD_INFO, info);

    if (!pw_device_suits(err, info, PW_KD_SERVICE_WATCH, why, PW_MONITOR_WHY_MAX))
        return -ENODEV;
    if (info->words_bytes / 8 <= PW_KD_FIRST_SLOT || info->words_bytes / 8 >> SLOT_BITS)
        return say(why, -ENODEV, "the driver has no slots, or too many: its parameter "
                                 "\"slots\" must be changed");
    return 0;
}

/* A descriptor, and its words where they are or, the first time, anywhere. */
static int connect(struct kdriver *k, char why[PW_MONITOR_WHY_MAX])
{
    struct pw_kd_info info = { .version = 0 };
    void *words = NULL;
    int err = descriptor_open(k, why);

    if (!err)
        err = info_check(k, &info, why);
    if (!err && k->words && info.words_bytes / 8 != k->slots)
        err = say(why, -ENODEV, "the driver's number of slots has changed");
    if (err)
        return err;
    err = k->sys->map((void *)(uintptr_t)k->words, info.words_bytes, k->fd, &words);
    if (err) {
        snprintf(why, PW_MONITOR_WHY_MAX, "the driver's words cannot be mapped: %s",
                 strerror(-err));
        return err == -ENOMEM ? err : -ENODEV;
    }
    k->words = words;
    k->slots = (uint32_t)(info.words_bytes / 8);
    k->id = info.id;
    k->at = k->end = 0;
    k->upto = load(k->words);
    return 0;
}

static void descriptor_close(struct kdriver *k)
{
    if (k->fd >= 0)
        k->sys->close(k->fd);
    k->fd = -1;
}

/* In a child. What it has of the parent's descriptor would keep the parent's watches.
 * What failed may have left nothing where the words were, and others may be there. */
static void adopt(struct kdriver *k)
{
    char why[PW_MONITOR_WHY_MAX] = "";

    if (!load(&k->lost) && is_ours(k))
        descriptor_close(k);
    k->fd = -1;
    k->lost = 0;
    k->m.note[0] = '\0';
    k->m.sees = SEES;
    if (!connect(k, why))
        return;
    descriptor_close(k);
    k->words = NULL;
    k->m.word = &k->none;
    give_up(k, why);
}

/* Before anything else: are we where the tables are right? */
static void settle(struct kdriver *k)
{
    if (pw_owner_is_here(&k->owner))
        return;
    if (pw_owner_claim(&k->owner)) {
        adopt(k);
        pw_owner_settle(&k->owner);
    }
    while (!pw_owner_is_here(&k->owner))
        sched_yield();
}

/* ---- open and close ---- */

static size_t table_size(const struct kdriver *k)
{
    return k->slots * (sizeof *k->told + sizeof *k->ranges);
}

static int table_new(struct kdriver *k, char why[PW_MONITOR_WHY_MAX])
{
    int err = pw_owner_init(&k->owner);
    char *table = err ? NULL : pw_arena_new(table_size(k), 0);

    if (table && madvise(table, table_size(k), MADV_WIPEONFORK)) {
        pw_arena_free(table, table_size(k), 0);
        table = NULL;
    }
    if (!table) {
        snprintf(why, PW_MONITOR_WHY_MAX, "no memory for its tables");
        return -ENOMEM;
    }
    k->ranges = (struct ranged *)(void *)table;
    k->told = (uint64_t *)(void *)(table + k->slots * sizeof *k->ranges);
    return 0;
}

static void kd_close(struct pw_monitor *m)
{
    struct kdriver *k = kdriver_of(m);

    if (k->fd >= 0 && (!k->id || is_ours(k)))
        descriptor_close(k);
    if (k->words)
        munmap((void *)(uintptr_t)k->words, k->slots * sizeof *k->words);
    if (k->ranges)
        pw_arena_free(k->ranges, table_size(k), 0);
    pw_owner_fini(&k->owner);
    free(k);
}

int pw_kdriver_open_on(const struct pw_kdriver_sys *sys, struct pw_monitor **out,
                       char why[PW_MONITOR_WHY_MAX])
{
    struct kdriver *k = calloc(1, sizeof *k);
    int err;

    *out = NULL;
    if (!k)
        return say(why, -ENOMEM, "no memory");
    k->sys = sys;
    k->fd = -1;
    err = connect(k, why);
    if (!err)
        err = table_new(k, why);
    if (err) {
        kd_close(&k->m);
        return err;
    }
    k->m.ops = &pw_kdriver_monitor;
    k->m.word = k->words;
    k->m.sees = SEES;
    k->top = PW_KD_FIRST_SLOT;
    *out = &k->m;
    return 0;
}

/* Raw: the interception has nothing to learn from these. */
static int real_open(void)
{
    long fd = pw_raw6(SYS_openat, AT_FDCWD, (long)(uintptr_t)PW_KD_PATH,
                      O_RDWR | O_CLOEXEC, 0, 0, 0), high;

    if (fd < 0)
        return (int)fd;
    high = pw_raw3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, FROM);
    if (high < 0)
        return (int)fd;
    pw_raw3(SYS_close, fd, 0, 0);
    return (int)high;
}

static int real_ioctl(int fd, unsigned long request, void *arg)
{
    return (int)pw_raw3(SYS_ioctl, fd, (long)request, (long)(uintptr_t)arg);
}

static int real_map(void *at, size_t bytes, int fd, void **out)
{
    long p = pw_raw6(SYS_mmap, (long)(uintptr_t)at, (long)bytes, PROT_READ,
                     MAP_SHARED | (at ? MAP_FIXED : 0), fd, 0);

    if (p < 0 && p > -4096)
        return (int)p;
    *out = (void *)(uintptr_t)p;
    return 0;
}

static void real_close(int fd)
{
    pw_raw3(SYS_close, fd, 0, 0);
}

static const struct pw_kdriver_sys real = {
    .open = real_open, .ioctl = real_ioctl, .map = real_map, .close = real_close,
};

static int kd_open(struct pw_monitor **out, char why[PW_MONITOR_WHY_MAX])
{
    return pw_kdriver_open_on(&real, out, why);
}

/* ---- what the cache asks ---- */

/* What the driver's errors mean to the cache, if it is the driver that says so. */
static int meaning(struct kdriver *k, int err)
{
    if (err == -ENOMEM)
        return err;
    if (!is_ours(k)) {
        closed_by_others(k);
        return -EOPNOTSUPP;
    }
    switch (err) {
    case -ENOENT:
    case -EINVAL:               /* no addresses of programs */
        return -EFAULT;
    case -ENOSPC:
        return -ENOMEM;
    default:                    /* EACCES: it may not be read, so it cannot be pinned */
        return -EOPNOTSUPP;
    }
}

static void drop(struct kdriver *k, uint32_t slot)
{
    struct pw_kd_slot arg = { .slot = slot };

    if (call(k, PW_KD_DROP, &arg) && !is_ours(k))
        closed_by_others(k);
}

/* In this order: what is watched, then who, then whether it is fresh (the caller). Who
 * finds word 0 moved by what happened after that finds the name. */
static void enter(struct kdriver *k, const struct pw_kd_watch *arg, uint64_t who)
{
    struct ranged *r = &k->ranges[arg->slot];
    uint64_t top = load(&k->top);

    __atomic_store_n(&r->start, (uintptr_t)arg->start, __ATOMIC_RELAXED);
    __atomic_store_n(&r->end, (uintptr_t)arg->end, __ATOMIC_RELAXED);
    __atomic_store_n(&r->word, arg->word, __ATOMIC_RELAXED);
    while (top <= arg->slot &&
           !__atomic_compare_exchange_n(&k->top, &top, arg->slot + 1, true,
                                        __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        ;
    __atomic_store_n(&r->who, who, __ATOMIC_RELEASE);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* With which rights it will be used nobody says: with all that there are. mprotect that
 * takes none of them changes nothing. */
static int kd_watch(struct pw_monitor *m, struct pw_range r, struct pw_watch *w)
{
    struct kdriver *k = kdriver_of(m);
    struct pw_kd_watch arg = { .start = r.start, .end = r.end,
                               .access = PW_KD_READ | PW_KD_WRITE };
    int err;

    settle(k);
    if (load(&k->lost))
        return -EOPNOTSUPP;
    err = call(k, PW_KD_WATCH, &arg);
    if (err == -EACCES) {
        arg.access = PW_KD_READ;
        err = call(k, PW_KD_WATCH, &arg);
    }
    if (err)
        return meaning(k, err);
    if (arg.id != k->id || arg.slot < PW_KD_FIRST_SLOT || arg.slot >= k->slots) {
        closed_by_others(k);
        drop(k, arg.slot);
        return -EOPNOTSUPP;
    }
    w->since = __atomic_add_fetch(&k->watches, 1, __ATOMIC_RELAXED) << SLOT_BITS | arg.slot;
    enter(k, &arg, w->since);
    return 0;
}

/* The entry of that watch. NULL: it is none, or the parent's. */
static struct ranged *entry_of(struct kdriver *k, const struct pw_watch *w)
{
    uint32_t slot = w->since & ((1u << SLOT_BITS) - 1);

    settle(k);
    return slot < k->slots && load(&k->ranges[slot].who) == w->since ? &k->ranges[slot]
                                                                     : NULL;
}

static void kd_unwatch(struct pw_monitor *m, struct pw_range r, struct pw_watch *w)
{
    struct kdriver *k = kdriver_of(m);
    struct ranged *entry = entry_of(k, w);

    (void)r;
    if (!entry)
        return;
    __atomic_store_n(&entry->who, 0, __ATOMIC_RELEASE);
    if (!load(&k->lost))
        drop(k, (uint32_t)(entry - k->ranges));
}

static int kd_fresh(struct pw_monitor *m, struct pw_range r, const struct pw_watch *w)
{
    struct kdriver *k = kdriver_of(m);
    const struct ranged *entry = entry_of(k, w);

    (void)r;
    return entry && load(&k->words[entry - k->ranges]) == load(&entry->word);
}

static unsigned cause_of(uint64_t word)
{
    switch ((enum pw_kd_event)(word & 255)) {
    case PW_KD_UNMAP:
        return PW_EV_UNMAP;
    case PW_KD_DISCARD:
        return PW_EV_DISCARD;
    case PW_KD_PROTECT:
        return PW_EV_PROTECT;
    default:
        return PW_EV_LOST;
    }
}

/* Has that slot's word moved, and is the range still watched? Then *out tells. */
static bool moved(struct kdriver *k, uint32_t slot, struct pw_change *out)
{
    const struct ranged *r = &k->ranges[slot];
    uint64_t word = load(&k->words[slot]), who, began;

    if (word == k->told[slot])
        return false;
    k->told[slot] = word;
    who = load(&r->who);
    began = load(&r->word);
    out->range = (struct pw_range){ __atomic_load_n(&r->start, __ATOMIC_RELAXED),
                                    __atomic_load_n(&r->end, __ATOMIC_RELAXED) };
    out->cause = cause_of(word);
    if (out->cause == PW_EV_LOST)
        out->range = PW_RANGE_ALL;
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return who && load(&r->who) == who && word != began;
}

static int pass_on(struct kdriver *k, struct pw_change *out, int n)
{
    int got = 0;

    for (; k->at < k->end && got < n; k->at++)
        got += moved(k, k->at, &out[got]);
    if (k->at == k->end)
        k->upto = k->pass;
    return got;
}

/* Word 0 first: who moves it later is found the next time. */
static void pass_begin(struct kdriver *k)
{
    k->pass = load(k->words);
    k->at = PW_KD_FIRST_SLOT;
    k->end = k->pass == k->upto ? PW_KD_FIRST_SLOT : (uint32_t)load(&k->top);
}

static int kd_changes(struct pw_monitor *m, struct pw_change *out, int n, uint64_t *upto)
{
    struct kdriver *k = kdriver_of(m);
    int got = 0;

    settle(k);
    if (!k->words) {
        *upto = k->none;
        return 0;
    }
    if (k->at < k->end)         /* there was no room for more */
        got = pass_on(k, out, n);
    if (got < n) {
        pass_begin(k);
        got += pass_on(k, out + got, n - got);
    }
    *upto = k->upto;
    return got;
}

const struct pw_monitor_ops pw_kdriver_monitor = {
    .name = "kdriver",
    .what = "the kernel itself, by the driver /dev/pinwheel",
    .open = kd_open,
    .close = kd_close,
    .watch = kd_watch,
    .unwatch = kd_unwatch,
    .fresh = kd_fresh,
    .changes = kd_changes,
};
