/* SPDX-License-Identifier: BSD-3-Clause */
/* process_pool.c - the one pool of this process. See process_pool.h.
 *
 * The record says whose it is. A child, whatever kind of fork made it, finds one
 * that is its parent's and makes its own: it need not be told, and cannot meet a
 * lock that somebody held when it was forked.
 *
 * record->lock is held while a pool is opened, which calls nothing that could want
 * a pool.
 */
#define _GNU_SOURCE
#include "pinwheel/process_pool.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "owner.h"

struct record {
    struct pw_owner owner;
    pid_t pid;                  /* of the owner, where no page can be wiped */
    pthread_mutex_t lock;
    struct pw_pool *pool;
    unsigned users;
};

static struct record *current;

static struct record *record_make(void)
{
    struct record *r = mmap(NULL, sizeof *r, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (r == MAP_FAILED)
        return NULL;
    pw_owner_init(&r->owner);
    r->pid = getpid();
    pthread_mutex_init(&r->lock, NULL);
    return r;
}

static void record_drop(struct record *r)
{
    pw_owner_fini(&r->owner);
    munmap(r, sizeof *r);
}

static bool record_is_ours(const struct record *r)
{
    return r->owner.mark ? pw_owner_is_here(&r->owner) : r->pid == getpid();
}

/* This process's own, NULL without memory for it. */
static struct record *record_get(void)
{
    struct record *r = __atomic_load_n(&current, __ATOMIC_ACQUIRE), *mine;

    while (!r || !record_is_ours(r)) {
        mine = record_make();
        if (!mine)
            return NULL;
        if (__atomic_compare_exchange_n(&current, &r, mine, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_ACQUIRE))
            return mine;
        record_drop(mine);
    }
    return r;
}

int pw_process_pool_get(const struct pw_pool_config *config, struct pw_pool **out)
{
    struct record *r = record_get();
    int err = 1;

    *out = NULL;
    if (!r)
        return -ENOMEM;
    pthread_mutex_lock(&r->lock);
    if (!r->pool)
        err = pw_pool_open(config, &r->pool);
    if (err >= 0)
        r->users++;
    *out = r->pool;
    pthread_mutex_unlock(&r->lock);
    return err;
}

void pw_process_pool_put(struct pw_pool *pool)
{
    struct record *r = pool ? record_get() : NULL;
    struct pw_pool_info info;

    if (!r)
        return;
    pthread_mutex_lock(&r->lock);
    if (pool == r->pool && r->users && !--r->users) {
        pw_pool_describe(pool, &info);
        if (!info.used) {
            pw_pool_close(pool);
            r->pool = NULL;
        }
    }
    pthread_mutex_unlock(&r->lock);
}
