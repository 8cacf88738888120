/* SPDX-License-Identifier: BSD-3-Clause */
/* none.c - the monitor that sees nothing, so that nothing is cached. It runs on
 * every machine and needs nothing, not even memory. */
#include "monitors.h"

#include <errno.h>

static const uint64_t never;

static struct pw_monitor none = {
    .ops = &pw_none_monitor,
    .word = &never,
    .note = "nothing is seen, so nothing is cached",
};

static int none_open(struct pw_monitor **out, char why[PW_MONITOR_WHY_MAX])
{
    why[0] = '\0';
    *out = &none;
    return 0;
}

static void none_close(struct pw_monitor *m)
{
    (void)m;
}

static int none_watch(struct pw_monitor *m, struct pw_range r, struct pw_watch *w)
{
    (void)m, (void)r, (void)w;
    return -EOPNOTSUPP;
}

static void none_unwatch(struct pw_monitor *m, struct pw_range r, struct pw_watch *w)
{
    (void)m, (void)r, (void)w;
}

static int none_fresh(struct pw_monitor *m, struct pw_range r, const struct pw_watch *w)
{
    (void)m, (void)r, (void)w;
    return 0;
}

static int none_changes(struct pw_monitor *m, struct pw_change *out, int n,
                        uint64_t *upto)
{
    (void)m, (void)out, (void)n;
    *upto = never;
    return 0;
}

const struct pw_monitor_ops pw_none_monitor = {
    .name = "none",
    .what = "no caching: every buffer is pinned anew",
    .open = none_open,
    .close = none_close,
    .watch = none_watch,
    .unwatch = none_unwatch,
    .fresh = none_fresh,
    .changes = none_changes,
};
