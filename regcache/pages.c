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

#include "pinwheel/device.h"
#include "pinwheel/pool.h"
#include "segment.h"

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

static int hugetlb_count(const struct pw_sys *sys, size_t page, const char *what,
                         uint64_t *out)
{
    char path[96];

    snprintf(path, sizeof path, "/sys/kernel/mm/hugepages/hugepages-%zukB/%s_hugepages",
             page >> 10, what);
    return read_count(sys, path, out);
}

/* Of the free pages, those that one of `sharers` processes may have. A page stays "free"
 * from another's mmap to its first touch: that keeps the shares of processes that start
 * together equal. Beyond what is not promised yet, though, mmap would fail. And a process
 * that came first has touched a page or two by now, which may leave too little to the
 * others: what all need they have, if it is not more than their share of all there are. */
static uint64_t hugetlb_pages(const struct pw_sys *sys, size_t page, unsigned sharers,
                              uint64_t unused, uint64_t needed)
{
    uint64_t promised = 0, all = 0, share = unused / sharers;

    hugetlb_count(sys, page, "resv", &promised);
    if (promised > unused)
        promised = unused;
    if (share < needed && !hugetlb_count(sys, page, "nr", &all) && all / sharers >= needed)
        share = needed;
    return share > unused - promised ? unused - promised : share;
}

/* Pages of 1 GiB are reserved by those who know why, and nobody is told to. */
static void why_no_hugetlb(size_t page, bool offered, struct pw_why *why)
{
    if (page != PW_HUGE)
        return;
    if (offered)
        pw_why_add(why, "no 2 MiB hugepages reserved: "
                        "echo 512 > /proc/sys/vm/nr_hugepages");
    else
        pw_why_add(why, "no 2 MiB hugepages: the kernel has no CONFIG_HUGETLBFS, "
                        "or /sys is not mounted");
}

size_t pw_pages_hugetlb_share(const struct pw_sys *sys, size_t page, unsigned sharers,
                              size_t min_size, struct pw_why *why)
{
    uint64_t unused = 0, share, needed = min_size ? (min_size - 1) / page + 1 : 1;
    int err = hugetlb_count(sys, page, "free", &unused);

    if (err || unused == 0) {
        why_no_hugetlb(page, !err, why);
        return 0;
    }
    share = hugetlb_pages(sys, page, sharers, unused, needed);
    if (share < needed) {
        pw_why_add(why, "%llu reserved %s for each process, %llu needed: raise %s",
                   (unsigned long long)share,
                   pw_pages_name(page == PW_HUGE ? PW_PAGES_2M : PW_PAGES_1G),
                   (unsigned long long)needed,
                   page == PW_HUGE ? "/proc/sys/vm/nr_hugepages" : "hugepages=N of the kernel");
        return 0;
    }
    if (share > SIZE_MAX / page)
        share = SIZE_MAX / page;
    return (size_t)share * page;
}

/* Is there a driver for us? If not and it is of interest, why not. */
static bool kdriver_info(const struct pw_sys *sys, struct pw_kd_info *info,
                         struct pw_why *why)
{
    int err, fd = sys->open(PW_KD_PATH, O_RDWR | O_CLOEXEC, 0);
    char text[sizeof why->text];
    bool suits;

    if (fd < 0) {
        err = -errno;
        pw_device_why(err, text, sizeof text);
        if (!pw_device_missing(err))
            pw_why_add(why, "%s", text);
        return false;
    }
    err = sys->ioctl(fd, PW_KD_INFO, info) ? -errno : 0;
    close(fd);
    suits = pw_device_suits(err, info, PW_KD_SERVICE_POOL, text, sizeof text);
    if (!suits)
        pw_why_add(why, "%s", text);
    return suits;
}

size_t pw_pages_kdriver_share(const struct pw_sys *sys, unsigned sharers, size_t min_size,
                              struct pw_why *why)
{
    struct pw_kd_info info = { 0 };
    uint64_t share, left;

    if (!kdriver_info(sys, &info, why))
        return 0;

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
    case PW_PAGES_1G:   return "1 GiB hugepages";
    }
    return "unknown";
}
