/* SPDX-License-Identifier: BSD-3-Clause */
/* broken.c - monitors that break the promise of monitor.h. */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/cache/broken.h"

/* ---- blind ---- */

static uint64_t still;          /* a word that never moves */

static int blind_watch(struct pw_monitor *m, struct pw_range r, struct pw_watch *w)
{
    (void)m, (void)r;
    w->since = still;
    return 0;
}

static void blind_unwatch(struct pw_monitor *m, struct pw_range r, struct pw_watch *w)
{
    (void)m, (void)r, (void)w;
}

static int blind_fresh(struct pw_monitor *m, struct pw_range r, const struct pw_watch *w)
{
    (void)m, (void)r, (void)w;
    return 1;
}

static int blind_changes(struct pw_monitor *m, struct pw_change *out, int n, uint64_t *upto)
{
    (void)m, (void)out, (void)n;
    *upto = still;
    return 0;
}

static void blind_close(struct pw_monitor *m) { free(m); }

static const struct pw_monitor_ops blind_ops = {
    .name = "blind",
    .what = "sees nothing and vouches for everything",
    .close = blind_close,
    .watch = blind_watch,
    .unwatch = blind_unwatch,
    .fresh = blind_fresh,
    .changes = blind_changes,
};

static int blind_open(struct pw_monitor **out)
{
    struct pw_monitor *m = calloc(1, sizeof *m);
    if (!m)
        return -ENOMEM;
    m->ops = &blind_ops;
    m->word = &still;
    m->sees = PW_EV_ALL;
    *out = m;
    return 0;
}

/* ---- what stands between the cache and the hooks ---- */

enum fault { FAULT_DEAF, FAULT_FORGETFUL, FAULT_LATE, FAULT_HASTY };
static const char *const faults[] = { "deaf", "forgetful", "late", "hasty" };
enum { FORGETS = 100, LATE_US = 50 };

struct faulty {
    struct pw_monitor pub;
    struct pw_monitor *hooks;
    enum fault fault;
    uint64_t told;              /* changes, for FORGETFUL */
    uint64_t word;              /* of LATE: the hooks' as it was a moment ago */
    pthread_t thread;
    bool stop;
};

static struct faulty *faulty_of(struct pw_monitor *m) { return (struct faulty *)m; }
static struct pw_monitor *hooks_of(struct pw_monitor *m) { return faulty_of(m)->hooks; }

static int faulty_watch(struct pw_monitor *m, struct pw_range r, struct pw_watch *w)
{
    return hooks_of(m)->ops->watch(hooks_of(m), r, w);
}

static void faulty_unwatch(struct pw_monitor *m, struct pw_range r, struct pw_watch *w)
{
    hooks_of(m)->ops->unwatch(hooks_of(m), r, w);
}

static int faulty_fresh(struct pw_monitor *m, struct pw_range r, const struct pw_watch *w)
{
    if (faulty_of(m)->fault == FAULT_HASTY)
        return 1;
    return hooks_of(m)->ops->fresh(hooks_of(m), r, w);
}

static bool dropped(struct faulty *f, const struct pw_change *c)
{
    if (f->fault == FAULT_DEAF)
        return c->cause == PW_EV_DISCARD;
    return f->fault == FAULT_FORGETFUL && ++f->told % FORGETS == 0;
}

/* Fewer than n would mean that there is no more: so ask until n are left, or none
 * came. */
static int faulty_changes(struct pw_monitor *m, struct pw_change *out, int n, uint64_t *upto)
{
    struct pw_monitor *hooks = hooks_of(m);
    int kept = 0, got, asked;
    do {
        asked = n - kept;
        got = hooks->ops->changes(hooks, out + kept, asked, upto);
        int end = kept + got;
        for (int i = kept; i < end; i++)
            if (!dropped(faulty_of(m), &out[i]))
                out[kept++] = out[i];
    } while (got == asked && kept < n);
    return kept;
}

/* As by a work queue that gets to it when it gets to it. */
static void *follow_late(void *arg)
{
    struct faulty *f = arg;
    while (!__atomic_load_n(&f->stop, __ATOMIC_RELAXED)) {
        uint64_t word = __atomic_load_n(f->hooks->word, __ATOMIC_ACQUIRE);
        usleep(LATE_US);
        __atomic_store_n(&f->word, word, __ATOMIC_RELEASE);
    }
    return NULL;
}

static void faulty_close(struct pw_monitor *m)
{
    struct faulty *f = faulty_of(m);
    __atomic_store_n(&f->stop, true, __ATOMIC_RELAXED);
    if (f->fault == FAULT_LATE)
        pthread_join(f->thread, NULL);
    pw_monitor_close(f->hooks);
    free(f);
}

static const struct pw_monitor_ops faulty_ops = {
    .name = "faulty",
    .what = "the hooks, badly passed on",
    .close = faulty_close,
    .watch = faulty_watch,
    .unwatch = faulty_unwatch,
    .fresh = faulty_fresh,
    .changes = faulty_changes,
};

static int faulty_open(enum fault fault, struct pw_monitor **out,
                       struct pw_monitor_report *report)
{
    struct faulty *f = calloc(1, sizeof *f);
    if (!f)
        return -ENOMEM;
    int err = pw_monitor_open("hooks", &f->hooks, report);
    if (err) {
        free(f);
        return err;
    }
    f->pub = *f->hooks;
    f->pub.ops = &faulty_ops;
    f->fault = fault;
    if (fault == FAULT_LATE) {
        f->word = *f->hooks->word;
        f->pub.word = &f->word;
        err = -pthread_create(&f->thread, NULL, follow_late, f);
        if (err) {
            pw_monitor_close(f->hooks);
            free(f);
            return err;
        }
    }
    *out = &f->pub;
    return 0;
}

int broken_monitor_open(const char *name, struct pw_monitor **out,
                        struct pw_monitor_report *report)
{
    if (!strcmp(name, "blind"))
        return blind_open(out);
    for (unsigned i = 0; i < sizeof faults / sizeof faults[0]; i++)
        if (!strcmp(name, faults[i]))
            return faulty_open((enum fault)i, out, report);
    return pw_monitor_open(name, out, report);
}

void broken_monitor_close(struct pw_monitor *m)
{
    if (m && (m->ops == &blind_ops || m->ops == &faulty_ops))
        m->ops->close(m);
    else
        pw_monitor_close(m);
}
