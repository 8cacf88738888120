/* SPDX-License-Identifier: BSD-3-Clause */
/* monitors.h - the monitors that are built in, and the test that each must pass
 * before it is used. */
#ifndef PINWHEEL_MONITORS_H
#define PINWHEEL_MONITORS_H

#include "pinwheel/monitor.h"

extern const struct pw_monitor_ops pw_none_monitor;

/* As pw_monitor_open(), from a list of the caller's own that ends in NULL. */
int pw_monitor_open_from(const struct pw_monitor_ops *const *list, const char *name,
                         struct pw_monitor **out, struct pw_monitor_report *report);

/* Does m notice what it says that it sees? Each event that can be tried on pages
 * made for it is tried, through the C library as programs do.
 * 0; -EIO: it does not; -ENOMEM: no pages to try it on. why: a sentence. */
int pw_monitor_selftest(struct pw_monitor *m, char why[PW_MONITOR_WHY_MAX]);

#endif
