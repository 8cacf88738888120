/* SPDX-License-Identifier: BSD-3-Clause */
/* rdm_lock.h - the lock of a NIC of rdm.h: one word, and futex(2) for who has to wait.
 *
 * A message takes it three times, and nearly always it is free. glibc's mutex has kinds and
 * owners to look at: some 25 instructions for each call, these are 4 (tools/steps).
 *
 * Zeroed it is free. Not to be taken twice by one thread.
 */
#ifndef PW_RDM_LOCK_H
#define PW_RDM_LOCK_H

#include <stdbool.h>
#include <stdint.h>

enum rdm_lock_word { RDM_FREE, RDM_HELD, RDM_AWAITED };

struct rdm_lock {
    uint32_t word;              /* AWAITED: held, and somebody may sleep */
};

/* The rare halves; rdm_lock.c. */
void rdm_lock_wait(struct rdm_lock *lock);
void rdm_lock_wake(struct rdm_lock *lock);

/* Pairs with rdm_unlock(). */
static inline bool rdm_trylock(struct rdm_lock *lock)
{
    uint32_t expected = RDM_FREE;

    return __atomic_compare_exchange_n(&lock->word, &expected, RDM_HELD, false,
                                       __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

static inline void rdm_lock(struct rdm_lock *lock)
{
    if (!rdm_trylock(lock))
        rdm_lock_wait(lock);
}

static inline void rdm_unlock(struct rdm_lock *lock)
{
    if (__atomic_exchange_n(&lock->word, RDM_FREE, __ATOMIC_RELEASE) == RDM_AWAITED)
        rdm_lock_wake(lock);
}

#endif
