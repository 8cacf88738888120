/* SPDX-License-Identifier: BSD-3-Clause */
/* kdriver.h - the monitor that asks the kernel driver, /dev/pinwheel. */
#ifndef PINWHEEL_REGCACHE_KDRIVER_H
#define PINWHEEL_REGCACHE_KDRIVER_H

#include <stddef.h>

#include "pinwheel/monitor.h"

extern const struct pw_monitor_ops pw_kdriver_monitor;

/* What it asks the system for; tests have a driver of their own. All return -errno on
 * an error. */
struct pw_kdriver_sys {
    int (*open)(void);                          /* a control descriptor */
    int (*ioctl)(int fd, unsigned long request, void *arg);

    /* Its words, read-only: at `at`, over what is there, or anywhere for NULL. */
    int (*map)(void *at, size_t bytes, int fd, void **out);
    void (*close)(int fd);
};

/* As its open(), on another system. */
int pw_kdriver_open_on(const struct pw_kdriver_sys *sys, struct pw_monitor **out,
                       char why[PW_MONITOR_WHY_MAX]);

#endif
