/* SPDX-License-Identifier: BSD-3-Clause */
/* barrier.h - a fence in every thread of this process, paid by the caller.
 * Source: membarrier(2), MEMBARRIER_CMD_PRIVATE_EXPEDITED. */
#ifndef PINWHEEL_BARRIER_H
#define PINWHEEL_BARRIER_H

#include <errno.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Once per process before the first, and again in a forked child. 0, -errno. */
static inline int pw_barrier_register(void)
{
    return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0)
           ? -errno : 0;
}

/* Cannot fail once registered. Pairs with the compiler barriers in pw_hold() and
 * pw_unhold(). */
static inline void pw_retire_barrier(void)
{
    syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
}

#endif
