/* SPDX-License-Identifier: BSD-3-Clause */
/* uffd.h - the monitor that listens to userfaultfd, beside the interception. */
#ifndef PINWHEEL_UFFD_H
#define PINWHEEL_UFFD_H

#include "pinwheel/monitor.h"
#include "records.h"

extern const struct pw_monitor_ops pw_uffd_monitor;

/* As its open(), with another interception: `first` writes into `records`, which
 * its word belongs to. Closed with the monitor; the caller's still on an error. */
int pw_uffd_open_on(struct pw_monitor *first, struct pw_records *records,
                    struct pw_monitor **out, char why[PW_MONITOR_WHY_MAX]);

#endif
