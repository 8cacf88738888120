/* SPDX-License-Identifier: BSD-3-Clause */
/* rdm_lock.c - a lock that one has at a time, and that nobody waits for in vain. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <pthread.h>
#include <unistd.h>

#include "btl/nic/rdm_lock.h"

enum { THREADS = 4, TIMES = 20000 };

static struct rdm_lock guard;
static unsigned sum;            /* its */
static int waiting;             /* atomic */

static void *add(void *arg)
{
    (void)arg;
    for (int i = 0; i < TIMES; i++) {
        if (i % 3 || !rdm_trylock(&guard))
            rdm_lock(&guard);
        sum++;
        rdm_unlock(&guard);
    }
    return NULL;
}

static void *add_once(void *arg)
{
    (void)arg;
    __atomic_fetch_add(&waiting, 1, __ATOMIC_RELAXED);
    rdm_lock(&guard);
    sum++;
    rdm_unlock(&guard);
    return NULL;
}

static void start(pthread_t thread[THREADS], void *(*what)(void *))
{
    for (int i = 0; i < THREADS; i++)
        cr_assert(eq(int, pthread_create(&thread[i], NULL, what, NULL), 0));
}

static void end(pthread_t thread[THREADS])
{
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
}

Test(rdm_lock, one_at_a_time, .timeout = 60)
{
    pthread_t thread[THREADS];

    start(thread, add);
    end(thread);
    cr_expect(eq(uint, sum, THREADS * TIMES));
    cr_expect(eq(uint, guard.word, RDM_FREE));
}

Test(rdm_lock, all_who_sleep_are_woken, .timeout = 60)
{
    pthread_t thread[THREADS];

    rdm_lock(&guard);
    cr_expect(eq(int, rdm_trylock(&guard), 0));
    start(thread, add_once);
    while (__atomic_load_n(&waiting, __ATOMIC_RELAXED) < THREADS ||
           __atomic_load_n(&guard.word, __ATOMIC_RELAXED) != RDM_AWAITED)
        usleep(1000);
    usleep(20000);
    cr_expect(eq(uint, sum, 0), "they wait");
    rdm_unlock(&guard);
    end(thread);
    cr_expect(eq(uint, sum, THREADS));
}
