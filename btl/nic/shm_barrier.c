/* SPDX-License-Identifier: BSD-3-Clause */
/* shm_barrier.c - this process takes part in membarrier(2), so its sends need no fence.
 *
 * Who sleeps calls the barrier, which reaches the processes that are registered
 * (shm_wait). To register takes the kernel some 10 ms once a process has threads, and
 * one of Open MPI has; so a thread of ours waits for that, and until then sends fence.
 * It ends by itself, and is joined when the NIC closes.
 */
#define _GNU_SOURCE
#include <linux/membarrier.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shm.h"

static void *shm_register(void *arg)
{
    struct shm_nic *nic = arg;

    long err = syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0);

    __atomic_store_n(&nic->registered, err ? -1 : 1, __ATOMIC_RELEASE);
    return NULL;
}

/* No signal of the program's is delivered to a thread that it does not know. */
static bool shm_register_aside(struct shm_nic *nic)
{
    sigset_t all, before;
    bool started;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    started = !pthread_create(&nic->registrar, NULL, shm_register, nic);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return started;
}

void shm_barrier_open(struct shm_nic *nic)
{
    const long both = MEMBARRIER_CMD_GLOBAL_EXPEDITED |
                      MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED;
    long can = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);

    nic->membarrier = can >= 0 && (can & both) == both;
    if (!nic->membarrier)
        return;
    nic->awaits_barrier = true;
    nic->registering = shm_register_aside(nic);
    if (!nic->registering)
        shm_register(nic);
}

bool shm_barrier_reaches_us(struct shm_nic *nic)
{
    return __atomic_load_n(&nic->registered, __ATOMIC_ACQUIRE) > 0;
}

void shm_barrier_look(struct shm_nic *nic)
{
    if (!__atomic_load_n(&nic->registered, __ATOMIC_ACQUIRE))
        return;
    nic->awaits_barrier = false;
    if (shm_barrier_reaches_us(nic))
        for (unsigned i = 0; i < nic->n_peers; i++)
            __atomic_store_n(&nic->peers[i]->fenced_wake, nic->peers[i]->wants_fence,
                             __ATOMIC_RELAXED);
}

void shm_barrier_close(struct shm_nic *nic)
{
    if (nic->registering)
        pthread_join(nic->registrar, NULL);
    nic->registering = false;
}
