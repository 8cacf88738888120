/* SPDX-License-Identifier: BSD-3-Clause */
/* still.c - threads that write to these pages wait for a moment. See still.h.
 *
 * Nobody reads what the descriptor has to tell: a thread that faults sleeps until
 * the protection goes and it is woken. Closing alone would do neither while a
 * forked child has the descriptor too. Source: userfaultfd_unregister() in Linux
 * fs/userfaultfd.c, which takes the protection off, but wakes those only who wait
 * for missing pages.
 */
#define _GNU_SOURCE
#include "still.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Linux 5.19; headers may be older. */
#ifndef UFFD_FEATURE_WP_HUGETLBFS_SHMEM
#define UFFD_FEATURE_WP_HUGETLBFS_SHMEM (1 << 12)
#endif

int pw_still_begin(struct pw_still *s, void *base, size_t size)
{
    struct uffdio_api api = { .api = UFFD_API,
                              .features = UFFD_FEATURE_WP_HUGETLBFS_SHMEM };
    struct uffdio_register all = {
        .range = { (uintptr_t)base, size }, .mode = UFFDIO_REGISTER_MODE_WP,
    };
    int err;

    s->base = base;
    s->size = size;
    s->fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    if (s->fd < 0) {
        s->fd = -1;
        return -errno;
    }
    if (!ioctl(s->fd, UFFDIO_API, &api) && !ioctl(s->fd, UFFDIO_REGISTER, &all))
        return 0;
    err = -errno;
    pw_still_end(s);
    return err;
}

int pw_still_hold(struct pw_still *s, void *start, size_t len)
{
    struct uffdio_writeprotect on = {
        .range = { (uintptr_t)start, len }, .mode = UFFDIO_WRITEPROTECT_MODE_WP,
    };
    int err;

    if (s->fd < 0)
        return 0;
    do
        err = ioctl(s->fd, UFFDIO_WRITEPROTECT, &on) ? -errno : 0;
    while (err == -EAGAIN);
    if (err)
        pw_still_end(s);
    return err;
}

void pw_still_end(struct pw_still *s)
{
    struct uffdio_range all = { (uintptr_t)s->base, s->size };

    if (s->fd < 0)
        return;
    ioctl(s->fd, UFFDIO_UNREGISTER, &all);
    ioctl(s->fd, UFFDIO_WAKE, &all);
    pw_still_forget(s);
}

void pw_still_forget(struct pw_still *s)
{
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}
