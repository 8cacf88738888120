/* SPDX-License-Identifier: BSD-3-Clause */
/* clock.h - the time for what lasts, with a sign, as tools subtract it. Any thread. */
#ifndef PW_TOOLS_CLOCK_H
#define PW_TOOLS_CLOCK_H

#include <stdint.h>

#include "pinwheel/clock.h"

static inline int64_t pw_clock_ns(void)
{
    return (int64_t)pw_now_ns();
}

static inline double pw_clock_s(void)
{
    return (double)pw_clock_ns() * 1e-9;
}

#endif
