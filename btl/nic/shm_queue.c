/* SPDX-License-Identifier: BSD-3-Clause */
/* shm_queue.c - the memory of the queue that we write for a peer.
 *
 * Start at shm_queue_make(): addresses for the whole queue, and memory for its first two
 * pages, or for all where it could be refused later. shm_queue_grow() gets more when a frame comes to where there is none, so what is
 * never used costs nothing. Nothing is touched before the system has given it: what it
 * has not is an error and no signal.
 */
#define _GNU_SOURCE
#include <unistd.h>

#include "shm.h"

/* What is tried when the pool is short of room, before it is an error; what a queue has
 * at least where nobody is; and what all queues of a rank have, if it is not many. */
#define SHM_QUEUE_LEAST ((size_t)128 << 10)
#define SHM_QUEUE_USUAL ((size_t)1 << 20)
#define SHM_QUEUES_MOST ((size_t)4 << 20)

/* As much as has left the second caches of both cores when it is written again: half of
 * it is not enough (doc/costs.md). Where the C library does not know that cache, the
 * usual size. */
static size_t shm_queue_best(void)
{
    long cache = sysconf(_SC_LEVEL2_CACHE_SIZE);
    size_t size = SHM_QUEUE_USUAL;

    while (cache > 0 && size < 2 * (size_t)cache && size < SHM_QUEUES_MOST)
        size *= 2;
    return size;
}

size_t shm_queue_least(const struct pw_nic_config *config)
{
    return config->queue_bytes ? config->queue_bytes : SHM_QUEUE_LEAST;
}

/* Many peers: less for each, for all may come to be used. */
size_t shm_queue_choose(const struct pw_nic_config *config)
{
    unsigned peers = config->local_peers ? config->local_peers : 1;
    size_t share = SHM_QUEUES_MOST / peers, size;

    if (config->queue_bytes)
        return config->queue_bytes;
    for (size = shm_queue_best(); size > share && size > SHM_QUEUE_LEAST;)
        size /= 2;
    return size;
}

/* How much of the ring has memory: at first, and when a burst came. The stow has none
 * before something is stowed; then it all comes at once, in large pages if there are. */
enum { SHM_READY_FIRST = SHM_LINE + SHM_HOT, SHM_READY_BURST = 64 << 10,
       SHM_READY_LARGE = 2 << 20 };

/* The driver counts what it pins against limits that others of the same user fill, too:
 * what is not had at once may not be had later, when it is too late for less. */
static bool shm_pool_may_refuse(struct pw_pool *pool)
{
    struct pw_pool_info info;

    pw_pool_describe(pool, &info);
    return info.pages == PW_PAGES_KDRIVER;
}

/* NULL: no addresses, or no memory. */
static struct shm_ring *shm_queue_try(struct pw_pool *pool, size_t size, bool whole)
{
    size_t bytes = shm_queue_bytes(size);
    struct shm_ring *ring = pw_pool_reserve(pool, bytes, SHM_LINE);

    if (ring && pw_pool_back(pool, ring, whole ? bytes : SHM_READY_FIRST, !whole)) {
        pw_pool_free(pool, ring);
        return NULL;
    }
    return ring;
}

int shm_queue_make(struct shm_peer *p)
{
    struct shm_nic *nic = p->nic;
    struct pw_pool *pool = nic->config.pool;
    size_t size = nic->queue_size;
    bool whole = shm_pool_may_refuse(pool);
    struct shm_ring *ring;

    while (!(ring = shm_queue_try(pool, size, whole)) && !nic->config.queue_bytes &&
           size > SHM_QUEUE_LEAST)
        size /= 2;
    if (!ring)
        return -ENOMEM;
    shm_tx_init(&p->tx, ring, size);
    if (whole)
        return 0;
    if (size > SHM_HOT)
        p->tx.in_ring.ready = SHM_HOT;
    p->tx.in_stow.ready = 0;
    return 0;
}

int shm_queue_grow(struct shm_peer *p, bool stows)
{
    struct shm_part *ring = &p->tx.in_ring, *stow = &p->tx.in_stow;
    bool all = stows || ring->ready > SHM_HOT || ring->size <= SHM_READY_BURST;
    size_t bytes = all ? shm_queue_bytes(ring->size) : SHM_READY_BURST;
    /* No large page for the line by which it is larger than some. */
    size_t rest = all && bytes > SHM_READY_LARGE ? bytes % SHM_READY_LARGE : 0;
    struct pw_pool *pool = p->nic->config.pool;
    char *queue = (char *)p->tx.ring;
    int err = pw_pool_back(pool, queue, bytes - rest, !all);

    if (!err && rest)
        err = pw_pool_back(pool, queue + bytes - rest, rest, true);
    if (err)
        return err;
    ring->ready = all ? ring->size : SHM_READY_BURST - SHM_LINE;
    stow->ready = all ? stow->size : 0;
    return 0;
}
