/* SPDX-License-Identifier: BSD-3-Clause */
/* clock.h - the time for what lasts: never set back. Any thread. */
#ifndef PINWHEEL_CLOCK_H
#define PINWHEEL_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t pw_now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

#endif
