/* SPDX-License-Identifier: BSD-3-Clause */
/* device.h - why /dev/pinwheel cannot be used: the same words for whoever opens it.
 *
 * How it is opened is not the same: the monitor calls the kernel past the interception,
 * and each has a table of system calls that tests replace. Any thread.
 */
#ifndef PINWHEEL_DEVICE_H
#define PINWHEEL_DEVICE_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "pinwheel/kdriver.h"

/* Does err (< 0) of opening it mean that there is no driver? */
static inline bool pw_device_missing(int err)
{
    return err == -ENOENT || err == -ENODEV || err == -ENXIO;
}

/* May others open it, but not this user? */
static inline bool pw_device_forbidden(int err)
{
    return err == -EACCES || err == -EPERM;
}

/* What err (< 0) of opening it means, in at most room bytes. */
static inline void pw_device_why(int err, char *why, size_t room)
{
    if (pw_device_missing(err))
        snprintf(why, room, "there is no " PW_KD_PATH ", for the optional kernel driver is "
                 "not loaded (modprobe pinwheel)");
    else if (pw_device_forbidden(err))
        snprintf(why, room, PW_KD_PATH " may not be opened by this user, who must be in its "
                 "group");
    else
        snprintf(why, room, PW_KD_PATH " cannot be opened: %s", strerror(-err));
}

/* After PW_KD_INFO, which returned err (<= 0): does that driver do all of `services` for
 * us? If not, why says so. */
static inline bool pw_device_suits(int err, const struct pw_kd_info *info,
                                   unsigned services, char *why, size_t room)
{
    if (err)
        snprintf(why, room, PW_KD_PATH " is no driver of ours: %s", strerror(-err));
    else if (info->version != PW_KD_VERSION)
        snprintf(why, room, "the driver has version %u and this library is for %u: they "
                 "must be of the same release", info->version, PW_KD_VERSION);
    else if ((info->services & services) != services)
        snprintf(why, room, "the driver that is loaded does not offer this: it must be of "
                 "the same release as this library");
    else
        return true;
    return false;
}

#endif
