/* SPDX-License-Identifier: BSD-3-Clause */
/* broken.c - monitors that break the promise of monitor.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

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

/* ---- deaf ---- */

struct deaf {
    struct pw_monitor pub;
    struct pw_monitor *hooks;
};

static struct pw_monitor *hooks_of(struct pw_monitor *m)
{
    return ((struct deaf *)m)->hooks;
}

static int deaf_watch(struct pw_monitor *m, struct pw_range r, struct pw_watch *w)
{
    return hooks_of(m)->ops->watch(hooks_of(m), r, w);
}

static void deaf_unwatch(struct pw_monitor *m, struct pw_range r, struct pw_watch *w)
{
    hooks_of(m)->ops->unwatch(hooks_of(m), r, w);
}

static int deaf_fresh(struct pw_monitor *m, struct pw_range r, const struct pw_watch *w)
{
    return hooks_of(m)->ops->fresh(hooks_of(m), r, w);
}

/* Fewer than n would mean that there is no more: so ask until n are left, or none
 * came. */
static int deaf_changes(struct pw_monitor *m, struct pw_change *out, int n, uint64_t *upto)
{
    struct pw_monitor *hooks = hooks_of(m);
    int kept = 0, got, asked;
    do {
        asked = n - kept;
        got = hooks->ops->changes(hooks, out + kept, asked, upto);
        int end = kept + got;
        for (int i = kept; i < end; i++)
            if (out[i].cause != PW_EV_DISCARD)
                out[kept++] = out[i];
    } while (got == asked && kept < n);
    return kept;
}

static void deaf_close(struct pw_monitor *m)
{
    pw_monitor_close(hooks_of(m));
    free(m);
}

static const struct pw_monitor_ops deaf_ops = {
    .name = "deaf",
    .what = "the hooks without what madvise drops",
    .close = deaf_close,
    .watch = deaf_watch,
    .unwatch = deaf_unwatch,
    .fresh = deaf_fresh,
    .changes = deaf_changes,
};

static int deaf_open(struct pw_monitor **out, struct pw_monitor_report *report)
{
    struct deaf *d = calloc(1, sizeof *d);
    if (!d)
        return -ENOMEM;
    int err = pw_monitor_open("hooks", &d->hooks, report);
    if (err) {
        free(d);
        return err;
    }
    d->pub = *d->hooks;
    d->pub.ops = &deaf_ops;
    *out = &d->pub;
    return 0;
}

int broken_monitor_open(const char *name, struct pw_monitor **out,
                        struct pw_monitor_report *report)
{
    if (!strcmp(name, "blind"))
        return blind_open(out);
    if (!strcmp(name, "deaf"))
        return deaf_open(out, report);
    return pw_monitor_open(name, out, report);
}

void broken_monitor_close(struct pw_monitor *m)
{
    if (m && (m->ops == &blind_ops || m->ops == &deaf_ops))
        m->ops->close(m);
    else
        pw_monitor_close(m);
}
