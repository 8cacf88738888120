/* SPDX-License-Identifier: BSD-3-Clause */
/* hooks_install.c - have every system call of interest pass by hooks_entry.c.
 *
 * Start at survey(): all objects that are loaded are looked through, each once
 * (hooks_objects.c), and their calls patched (hooks_sites.c). pw_hooks_check() surveys
 * again when objects came or went, or somebody else has patched: to do so, he makes the
 * page writable, which hooks_entry.c sees; nothing is vouched for until it is not any
 * more.
 *
 * What the three files know of objects and functions is only touched inside of
 * dl_iterate_phdr(), whose lock also keeps objects from being unloaded meanwhile.
 * Trial calls are made outside of it, for who patched may want locks.
 */
#include "hooks_install.h"

#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>

#include "hooks_entry.h"
#include "hooks_objects.h"
#include "hooks_sites.h"
#include "hooks_verdict.h"
#include "owner.h"
#include "raw.h"

static struct {
    unsigned long long adds, subs;      /* of objects, when surveyed last */
    uint64_t objects;                   /* pw_hooks.objects, then */
    unsigned opens;
} state;

/* ---- who may ask ---- */

/* May the dynamic linker be asked? Its lock is not made free in a forked child, and
 * another thread of the parent may have held it. */
static struct pw_owner asked;
static bool calm;

/* A folder for each thread, and each has a link to the one they are in. The C
 * library's __libc_single_threaded does not come back when threads have ended. */
static bool alone_here(void)
{
    struct stat st;

    return !stat("/proc/self/task", &st) && st.st_nlink == 3;
}

static void before_fork(void)
{
    calm = pw_owner_is_here(&asked) && alone_here();
}

static void in_child(void)
{
    *asked.mark = calm;
}

static int ask_with_care(void)
{
    int err;

    if (asked.mark)
        return 0;
    err = pw_owner_init(&asked);
    return err ? err : -pthread_atfork(before_fork, NULL, in_child);
}

bool pw_hooks_may_ask(void)
{
    return pw_owner_is_here(&asked);
}

/* ---- all objects ---- */

struct survey {
    unsigned objects;           /* looked at in this pass */
    unsigned long long adds, subs;
    bool amiss;                 /* something was not as we left it */
    bool again;                 /* unloaded meanwhile */
};

static int see_sites(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct survey *v = arg;

    (void)size;
    if (!v->objects++)
        pw_sites_unsee();
    v->subs = info->dlpi_subs;
    pw_sites_see(info);
    return 0;
}

static int look(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct survey *v = arg;

    (void)size;
    if (!v->objects++) {
        v->again = info->dlpi_subs != v->subs;
        if (v->again)
            return 1;
        pw_sites_drop_unseen();
        v->amiss = !pw_sites_as_left();
        if (v->amiss)
            pw_sites_mend();
    }
    pw_objects_look(info, v->amiss);
    v->adds = info->dlpi_adds;
    return 0;
}

/* true: something had been undone, so that changes were missed. */
static bool survey(void)
{
    uint64_t objects = __atomic_load_n(&pw_hooks.objects, __ATOMIC_ACQUIRE);
    struct survey v;

    do {
        v = (struct survey){ 0 };
        dl_iterate_phdr(see_sites, &v);
        v.objects = 0;
        dl_iterate_phdr(look, &v);
    } while (v.again);
    /* What dlmopen() and LD_AUDIT load has its own C library, and is in no list
     * but the count. */
    if (v.adds - v.subs > v.objects)
        pw_hooks_say(PW_PASSED_BY, "%s%s has a C library of its own: use the uffd monitor",
                     "what dlmopen() loaded", "");
    __atomic_store_n(&state.adds, v.adds, __ATOMIC_RELAXED);
    __atomic_store_n(&state.subs, v.subs, __ATOMIC_RELAXED);
    __atomic_store_n(&state.objects, objects, __ATOMIC_RELEASE);
    return v.amiss;
}

/* Is everything as the last survey left it? */
static int glance(struct dl_phdr_info *info, size_t size, void *arg)
{
    bool *clean = arg;

    (void)size;
    *clean = info->dlpi_adds == __atomic_load_n(&state.adds, __ATOMIC_RELAXED) &&
             info->dlpi_subs == __atomic_load_n(&state.subs, __ATOMIC_RELAXED) &&
             pw_sites_as_left();
    return 1;
}

/* In a child that may not ask: does what the parent found still hold? */
static bool as_at_fork(void)
{
    return pw_hooks_told_of_objects() &&
           state.objects == __atomic_load_n(&pw_hooks.objects, __ATOMIC_ACQUIRE) &&
           pw_sites_as_left();
}

/* A spin lock in memory that fork wipes: a child never finds it taken. */
static void lock(void)
{
    while (__atomic_exchange_n(&pw_hooks.records->lock, 1, __ATOMIC_ACQUIRE))
        pw_raw3(SYS_sched_yield, 0, 0, 0);
}

static void unlock(void)
{
    __atomic_store_n(&pw_hooks.records->lock, 0, __ATOMIC_RELEASE);
}

bool pw_hooks_check(bool alone)
{
    bool clean = false;
    const char *why;

    if (__atomic_load_n(&pw_hooks.rings, __ATOMIC_ACQUIRE)) {
        pw_hooks_say(PW_PASSED_BY, "%s%s can change memory unseen: use the uffd monitor",
                     "a ring of io_uring", "");
        pw_hooks_say(PW_UNTOLD, "%s%s can change memory in ways that userfaultfd does not "
                     "tell of", "a ring of io_uring", "");
    }
    if (!pw_hooks_may_ask() && !as_at_fork())
        pw_hooks_say(PW_BROKEN, "%s%s has loaded objects or was patched since it was "
                     "forked", "this process", "");
    if (pw_hooks_blind(alone))
        return false;
    if (!pw_hooks_may_ask())
        return true;
    dl_iterate_phdr(glance, &clean);
    if (clean)
        return true;
    lock();
    if (survey()) {
        pw_functions_try();
        pw_hooks_lose();
    }
    if (pw_hooks_failed(&why))
        pw_hooks_say(PW_BROKEN, "%s%s", why, "");
    unlock();
    return !pw_hooks_blind(alone);
}

/* ---- the first time ---- */

static void listen(bool on)
{
    static const unsigned short rings[] = { SYS_io_uring_setup, SYS_io_uring_enter,
                                            SYS_io_uring_register, 0 };
    uint64_t bits[8] = { 0 };

    for (int i = 0; on && pw_effect_numbers[i]; i++)
        bits[pw_effect_numbers[i] / 64] |= (uint64_t)1 << pw_effect_numbers[i] % 64;
    for (int i = 0; on && rings[i]; i++)
        bits[rings[i] / 64] |= (uint64_t)1 << rings[i] % 64;
    for (int i = 0; i < 8; i++)
        __atomic_store_n(&pw_hooks.numbers[i], bits[i], __ATOMIC_RELEASE);
}

static int install(bool alone, char why[PW_MONITOR_WHY_MAX])
{
    const char *failure;
    int err;

    err = ask_with_care();
    if (!err && !pw_hooks.records)
        err = pw_records_create(&pw_hooks.records);
    if (err) {
        snprintf(why, PW_MONITOR_WHY_MAX, "no memory that fork wipes (Linux 4.14 has it)");
        return err;
    }
    if (!pw_hooks_may_ask()) {
        snprintf(why, PW_MONITOR_WHY_MAX, "this process was forked beside other threads, "
                 "one of which may have held the dynamic linker's lock");
        return -ENODEV;
    }
    if (!pw_functions_found() && (err = pw_objects_find_libc(why)))
        return err;
    pw_hooks_fail_not();
    __atomic_store_n(&pw_hooks.text_writable, 0, __ATOMIC_RELEASE);
    listen(true);
    survey();
    if (!pw_sites_any_in(pw_hooks.loader))
        pw_hooks_fail(-ENODEV, "the dynamic linker's %s could not be hooked%s", "munmap",
                      "");
    if (!pw_hooks_failed(&failure))
        pw_functions_try();
    err = pw_hooks_failed(&failure);
    if (err) {
        snprintf(why, PW_MONITOR_WHY_MAX, "%s", failure);
        return err;
    }
    if (pw_hooks_blind(alone)) {
        snprintf(why, PW_MONITOR_WHY_MAX, "%s", pw_hooks_blind(alone));
        return -ENODEV;
    }
    return 0;
}

int pw_hooks_acquire(bool alone, char why[PW_MONITOR_WHY_MAX])
{
    int err;

#if !defined(__x86_64__)
    snprintf(why, PW_MONITOR_WHY_MAX, "system calls are hooked on x86_64 only");
    return -ENODEV;
#endif
    err = install(alone, why);
    if (!err)
        state.opens++;
    else if (!state.opens)
        listen(false);
    return err;
}

void pw_hooks_release(void)
{
    if (!--state.opens)
        listen(false);
}
