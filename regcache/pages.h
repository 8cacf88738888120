/* SPDX-License-Identifier: BSD-3-Clause */
/* pages.h - which kinds of page this machine has for us, and why not the rest. */
#ifndef PINWHEEL_PAGES_H
#define PINWHEEL_PAGES_H

#include <stddef.h>

#include "sys.h"

/* Sentences, separated by "; ". What does not fit any more is left out. */
struct pw_why {
    char text[256];
    size_t len;
};

void pw_why_add(struct pw_why *why, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Bytes of reserved hugepages of that size (PW_HUGE or PW_GIGANTIC) that one of `sharers`
 * processes may take, in whole pages. When less than min_size, 0 and a reason in why;
 * that nobody has reserved any of 1 GiB is none. */
size_t pw_pages_hugetlb_share(const struct pw_sys *sys, size_t page, unsigned sharers,
                              size_t min_size, struct pw_why *why);

/* Bytes that one of `sharers` processes may have pinned by /dev/pinwheel, likewise; no
 * reason where there is no such device. */
size_t pw_pages_kdriver_share(const struct pw_sys *sys, unsigned sharers, size_t min_size,
                              struct pw_why *why);

/* Why MADV_COLLAPSE failed with err (< 0), for the user. */
void pw_pages_why_no_thp(int err, struct pw_why *why);

#endif
