/* SPDX-License-Identifier: BSD-3-Clause */
/* hooks.c - the monitor that watches this process's own system calls. */
#include "hooks.h"

#include <errno.h>
#include <stdio.h>

static int hooks_open(struct pw_monitor **out, char why[PW_MONITOR_WHY_MAX])
{
    *out = NULL;
    snprintf(why, PW_MONITOR_WHY_MAX, "this build has no interception yet");
    return -ENODEV;
}

const struct pw_monitor_ops pw_hooks_monitor = {
    .name = "hooks",
    .what = "this process's own system calls, seen in the C library",
    .open = hooks_open,
};
