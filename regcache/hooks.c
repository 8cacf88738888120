/* SPDX-License-Identifier: BSD-3-Clause */
/* hooks.c - the monitor that watches this process's own system calls.
 *
 * Read in this order:
 *     patch.c            two bytes of code go elsewhere, safely
 *     hooks_entry.c      what runs there: record, call the kernel
 *     hooks_effects.c    which memory a call changes
 *     records.c          how it is told
 *     hooks_install.c    all objects: surveyed, and checked again
 *     hooks_objects.c    one of them: which of its calls are patched, who passes by
 *     hooks_sites.c      what is patched, and who else patches
 *     hooks_verdict.c    what is not seen, and why
 *     hooks.c            the monitor
 *
 * What is vouched for: private anonymous memory only. A file or a shared segment
 * can be cut by others. Pages of this process alone change by its own calls only,
 * and those pass by here, as long as pw_hooks_check() says so.
 *
 * fork: a child's records are empty, the patches are there, and all goes on.
 */
#include "hooks.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hooks_entry.h"
#include "hooks_install.h"
#include "maps.h"
#include "records.h"

enum {
    SEES = PW_EV_UNMAP | PW_EV_REMAP | PW_EV_MAP_OVER | PW_EV_DISCARD | PW_EV_BRK |
           PW_EV_SHM | PW_EV_TRUNCATE | PW_EV_PROTECT | PW_EV_DLCLOSE | PW_EV_LOST,
};

struct hooks {
    struct pw_monitor base;
    struct pw_reader reader;
    bool alone;                 /* nobody else sees what we do not */
    uint64_t blind;             /* base says so */
};

static struct hooks *hooks_of(struct pw_monitor *m)
{
    return (struct hooks *)m;
}

static int open_as(bool alone, struct pw_monitor **out, char why[PW_MONITOR_WHY_MAX])
{
    struct hooks *h;
    int err;

    *out = NULL;
    h = calloc(1, sizeof *h);
    if (!h) {
        snprintf(why, PW_MONITOR_WHY_MAX, "no memory");
        return -ENOMEM;
    }
    err = pw_hooks_acquire(alone, why);
    if (err) {
        free(h);
        return err;
    }
    h->base = (struct pw_monitor){ .ops = &pw_hooks_monitor, .sees = SEES,
                                   .word = &pw_hooks.records->word };
    snprintf(h->base.note, sizeof h->base.note, "not seen: what other processes do, and "
             "calls that pass by the C library in code made at run time; so memory of "
             "files and shared memory is not cached%s", pw_hooks_told_of_objects() ? "" :
             "; objects loaded later are looked at only when something new is cached");
    h->alone = alone;
    pw_reader_init(&h->reader, pw_hooks.records);
    *out = &h->base;
    return 0;
}

static int hooks_open(struct pw_monitor **out, char why[PW_MONITOR_WHY_MAX])
{
    return open_as(true, out, why);
}

int pw_hooks_open_under(struct pw_monitor **out, char why[PW_MONITOR_WHY_MAX])
{
    return open_as(false, out, why);
}

static void hooks_close(struct pw_monitor *m)
{
    pw_hooks_release();
    free(m);
}

/* Say in this monitor what has become true of all. */
static void admit(struct pw_monitor *m)
{
    const char *why = pw_hooks_blind(hooks_of(m)->alone);
    uint64_t no = 0;

    if (!why ||
        !__atomic_compare_exchange_n(&hooks_of(m)->blind, &no, 1, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_RELAXED))
        return;
    snprintf(m->note, sizeof m->note, "nothing is cached any more: %s", why);
    __atomic_store_n(&m->sees, PW_EV_LOST, __ATOMIC_RELEASE);
}

static int hooks_watch(struct pw_monitor *m, struct pw_range r, struct pw_watch *w)
{
    bool alone = hooks_of(m)->alone;
    unsigned kinds = 0;
    int err;

    if (!pw_hooks_check(alone)) {
        admit(m);
        return -EOPNOTSUPP;
    }
    if (pw_hooks_meddled())
        return -EOPNOTSUPP;
    err = pw_records_watch(pw_hooks.records, r, w);
    if (err || !alone)
        return err;
    /* After the watch has begun: a change of kind is a change. */
    err = pw_maps_kinds(r, &kinds);
    if (err)
        return err == -EFAULT ? err : -EOPNOTSUPP;
    return kinds == PW_MEM_PRIVATE ? 0 : -EOPNOTSUPP;
}

static void hooks_unwatch(struct pw_monitor *m, struct pw_range r, struct pw_watch *w)
{
    (void)m, (void)r, (void)w;
}

static int hooks_fresh(struct pw_monitor *m, struct pw_range r, const struct pw_watch *w)
{
    (void)m;
    return pw_records_fresh(pw_hooks.records, r, w);
}

/* Take out of c what is news for us, not for the caller. How many are left; *look:
 * objects were loaded or unloaded. */
static int sift(struct pw_change *c, int n, bool *look)
{
    int kept = 0;

    for (int i = 0; i < n; i++) {
        if (c[i].cause == PW_CAUSE_OBJECTS)
            *look = true;
        else if (c[i].cause == PW_CAUSE_CODE)
            pw_hooks_check_code(c[i].range);
        else
            c[kept++] = c[i];
    }
    return kept;
}

static int hooks_changes(struct pw_monitor *m, struct pw_change *out, int n,
                         uint64_t *upto)
{
    struct hooks *h = hooks_of(m);
    int kept = 0, got;

    do {
        bool look = false;

        got = pw_records_read(pw_hooks.records, &h->reader, out + kept, n - kept);
        kept += sift(out + kept, got, &look);
        if (look)
            pw_hooks_check(h->alone);   /* what it finds is recorded, and read next */
    } while (got && kept < n);
    *upto = h->reader.next;
    admit(m);
    return kept;
}

const struct pw_monitor_ops pw_hooks_monitor = {
    .name = "hooks",
    .what = "this process's own system calls, in the C library",
    .open = hooks_open,
    .close = hooks_close,
    .watch = hooks_watch,
    .unwatch = hooks_unwatch,
    .fresh = hooks_fresh,
    .changes = hooks_changes,
};
