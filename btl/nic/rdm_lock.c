/* SPDX-License-Identifier: BSD-3-Clause */
/* rdm_lock.c - who waits for the lock of rdm_lock.h.
 *
 * Who sleeps has said so in the word, and whoever has slept leaves it said: there may be
 * others. So one wake too many may come, and none too few.
 */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rdm_lock.h"

void rdm_lock_wait(struct rdm_lock *lock)
{
    while (__atomic_exchange_n(&lock->word, RDM_AWAITED, __ATOMIC_ACQUIRE) != RDM_FREE)
        syscall(SYS_futex, &lock->word, FUTEX_WAIT_PRIVATE, RDM_AWAITED, NULL, NULL, 0);
}

void rdm_lock_wake(struct rdm_lock *lock)
{
    syscall(SYS_futex, &lock->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}
