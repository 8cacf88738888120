/* SPDX-License-Identifier: BSD-3-Clause */
/* pages.c - which kinds of page this machine has for us, and why not the rest.
 *
 * Every reason says what the user can do about it.
 */
#define _GNU_SOURCE
#include "pages.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pinwheel/kdriver.h"
#include "pinwheel/pool.h"
#include "segment.h"

#define HUGEPAGES "/sys/kernel/mm/hugepages/hugepages-2048kB/"

void pw_why_add(struct pw_why *why, const char *format, ...)
{
    size_t room = sizeof why->text - why->len;
    int sep, n;
    va_list ap;

    sep = snprintf(why->text + why->len, room, "%s", why->len ? "; " : "");
    if ((size_t)sep >= room)
        return;
    va_start(ap, format);
    n = vsnprintf(why->text + why->len + sep, room - (size_t)sep, format, ap);
    va_end(ap);

    if (n < 0 || (size_t)(sep + n) >= room)
        why->text[why->len] = '\0';
    else
        why->len += (size_t)(sep + n);
}

static int read_count(const struct pw_sys *sys, const char *path, uint64_t *out)
{
    char text[32], *end;
    int err = sys->read_text(path, text, sizeof text);

    if (err)
        return err;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return errno || end == text ? -EINVAL : 0;
}

size_t pw_pages_hugetlb_share(const struct pw_sys *sys, unsigned sharers,
                              size_t min_size, struct pw_why *why)
{
    uint64_t unused, promised = 0, share;

    if (read_count(sys, HUGEPAGES "free_hugepages", &unused)) {
        pw_why_add(why, "no 2 MiB hugepages: the kernel has no CONFIG_HUGETLBFS, "
                        "or /sys is not mounted");
        return 0;
    }
    if (unused == 0) {
        pw_why_add(why, "no 2 MiB hugepages reserved: "
                        "echo 512 > /proc/sys/vm/nr_hugepages");
        return 0;
    }

    /* A page stays "free" from another's mmap to its first touch: that keeps the
     * shares of processes that start together equal. Beyond what is not promised
     * yet, though, mmap would fail. */
    read_count(sys, HUGEPAGES "resv_hugepages", &promised);
    if (promised > unused)
        promised = unused;
    share = unused / sharers;
    if (share > unused - promised)
        share = unused - promised;

    if (min_size < PW_HUGE)
        min_size = PW_HUGE;
    if (share < (min_size - 1) / PW_HUGE + 1) {
        pw_why_add(why, "%llu reserved 2 MiB hugepages for each process, %zu needed: "
                        "raise /proc/sys/vm/nr_hugepages",
                   (unsigned long long)share, (min_size - 1) / PW_HUGE + 1);
        return 0;
    }
    if (share > SIZE_MAX / PW_HUGE)
        share = SIZE_MAX / PW_HUGE;
    return (size_t)share * PW_HUGE;
}

/* 0, or -errno of open or ioctl. */
static int kdriver_info(const struct pw_sys *sys, struct pw_kd_info *info)
{
    int err, fd = sys->open(PW_KD_PATH, O_RDWR | O_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    err = sys->ioctl(fd, PW_KD_INFO, info) ? -errno : 0;
    close(fd);
    return err;
}

size_t pw_pages_kdriver_share(const struct pw_sys *sys, unsigned sharers, size_t min_size,
                              struct pw_why *why)
{
    struct pw_kd_info info = { 0 };
    uint64_t share, left;
    int err = kdriver_info(sys, &info);

    if (err == -ENOENT || err == -ENXIO || err == -ENODEV)
        return 0;
    if (err == -EACCES || err == -EPERM) {
        pw_why_add(why, "no pages of " PW_KD_PATH ": this user may not open it");
        return 0;
    }
    if (err || info.version != PW_KD_VERSION || !(info.services & PW_KD_SERVICE_POOL)) {
        pw_why_add(why, "no pages of " PW_KD_PATH ": %s",
                   err ? strerror(-err) : "that driver is of another version");
        return 0;
    }

    left = info.user_bytes < info.user_bytes_max ? info.user_bytes_max - info.user_bytes : 0;
    share = info.user_bytes_max / sharers;
    if (share > left)
        share = left;
    if (share < PW_HUGE || share < min_size) {
        pw_why_add(why, "no pages of " PW_KD_PATH ": each process may have %llu MiB pinned, "
                        "raise ulimit -l or the driver's user_limit",
                   (unsigned long long)share >> 20);
        return 0;
    }
    return (size_t)share & ~(PW_HUGE - 1);
}

void pw_pages_why_no_thp(int err, struct pw_why *why)
{
    if (err == -EINVAL)
        pw_why_add(why, "no transparent hugepages: MADV_COLLAPSE needs Linux 6.1 with "
                        "CONFIG_TRANSPARENT_HUGEPAGE and shmem_enabled other than deny");
    else
        pw_why_add(why, "no transparent hugepages (%s): free memory is fragmented, "
                        "echo 1 > /proc/sys/vm/compact_memory", strerror(-err));
}

const char *pw_pages_name(enum pw_pages pages)
{
    switch (pages) {
    case PW_PAGES_AUTO: return "auto";
    case PW_PAGES_2M:   return "2 MiB hugepages";
    case PW_PAGES_THP:  return "transparent hugepages";
    case PW_PAGES_4K:   return "4 KiB pages";
    case PW_PAGES_KDRIVER: return "pinned hugepages of /dev/pinwheel";
    }
    return "unknown";
}
