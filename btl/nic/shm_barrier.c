/* SPDX-License-Identifier: BSD-3-Clause */
/* shm_barrier.c - this process takes part in membarrier(2), so its sends need no fence.
 *
 * Who sleeps calls the barrier, which reaches the processes that are registered
 * (shm_wait). To register takes the kernel some 10 ms once a process has threads, and
 * one of Open MPI has; so a thread of ours waits for that, and until then sends fence.
 * It is one for all NICs of the process, ends by itself, and is joined when the last
 * NIC closes, for its code may go then.
 */
#define _GNU_SOURCE
#include <linux/membarrier.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shm.h"

/* lock guards all but `outcome`. What a parent had is not a forked child's. */
static struct {
    pthread_mutex_t lock;
    pid_t owner;
    unsigned nics;
    bool joinable;
    pthread_t thread;
    int outcome;            /* atomic: 0 not known yet, 1 registered, -1 refused */
} reg = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void *shm_register(void *arg)
{
    long err = syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0);

    (void)arg;
    __atomic_store_n(&reg.outcome, err ? -1 : 1, __ATOMIC_RELEASE);
    return NULL;
}

/* No signal of the program's is delivered to a thread that it does not know. */
static void shm_register_aside(void)
{
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    reg.joinable = !pthread_create(&reg.thread, NULL, shm_register, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!reg.joinable)
        shm_register(NULL);
}

void shm_barrier_open(struct shm_nic *nic)
{
    const long both = MEMBARRIER_CMD_GLOBAL_EXPEDITED |
                      MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED;
    long can = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);

    nic->membarrier = can >= 0 && (can & both) == both;
    if (!nic->membarrier)
        return;
    pthread_mutex_lock(&reg.lock);
    if (reg.owner != getpid()) {
        reg.owner = getpid();
        reg.nics = 0;
        reg.joinable = false;
        __atomic_store_n(&reg.outcome, 0, __ATOMIC_RELAXED);
        shm_register_aside();
    }
    reg.nics++;
    pthread_mutex_unlock(&reg.lock);
    nic->awaits_barrier = nic->holds_barrier = true;
}

bool shm_barrier_reaches_us(const struct shm_nic *nic)
{
    return nic->membarrier && __atomic_load_n(&reg.outcome, __ATOMIC_ACQUIRE) > 0;
}

void shm_barrier_look(struct shm_nic *nic)
{
    if (!__atomic_load_n(&reg.outcome, __ATOMIC_ACQUIRE))
        return;
    nic->awaits_barrier = false;
    if (shm_barrier_reaches_us(nic))
        for (unsigned i = 0; i < nic->n_peers; i++) {
            __atomic_store_n(&nic->peers[i]->fenced_wake, nic->peers[i]->wants_fence,
                             __ATOMIC_RELAXED);
            shm_detour(nic->peers[i]);
        }
}

void shm_barrier_close(struct shm_nic *nic)
{
    if (!nic->holds_barrier)
        return;
    nic->holds_barrier = false;
    pthread_mutex_lock(&reg.lock);
    if (reg.owner == getpid() && --reg.nics == 0 && reg.joinable) {
        pthread_join(reg.thread, NULL);
        reg.joinable = false;
    }
    pthread_mutex_unlock(&reg.lock);
}
