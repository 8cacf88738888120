/* SPDX-License-Identifier: BSD-3-Clause */
/* shm_distrust.c - peers that do what no peer of ours does, and a place that none of
 * them can write to.
 *
 * A peer may write at any moment into all that it shares with us. Trusted or not, it
 * leads us nowhere else: what it wrote is read once, then checked (shm_ring.h,
 * shm_hello_sane(), shm_mapped()), and one that is caught is heard no more: start at
 * shm_distrust(). With config.distrust upcalls get a copy of each frame, made in the
 * bounce (shm_deliver()), and memory that its owner could take away is refused.
 */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "shm.h"

/* As large as a frame of any peer can be; only what is used takes memory. */
static const size_t bounce_size = SHM_STOW_SIZE_MAX / 4;

/* A mapping of our own: memory of malloc() could lie in the pool
 * (libpinwheel-malloc), where peers write. */
int shm_bounce_open(struct shm_nic *nic)
{
    void *p = mmap(NULL, bounce_size, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (p == MAP_FAILED)
        return -ENOMEM;
    nic->bounce = p;
    return 0;
}

void shm_bounce_close(struct shm_nic *nic)
{
    if (nic->bounce)
        munmap(nic->bounce, bounce_size);
}

/* Any thread may find it out, in a send; progress takes the peer out. */
int shm_accuse(struct shm_peer *p)
{
    __atomic_store_n(&p->down, true, __ATOMIC_RELEASE);
    shm_detour(p);
    __atomic_store_n(&p->accused, true, __ATOMIC_RELAXED);
    /* Pairs with the acquire in shm_peers_step(). */
    __atomic_store_n(&p->nic->accusations, true, __ATOMIC_RELEASE);
    return -EPIPE;
}

/* Also of one that is leaving already: then not in good order. */
void shm_distrust(struct shm_peer *p, enum shm_lie lie)
{
    shm_leaving(p, -EPROTO);
    if (p->state == SHM_LEAVING && !p->lie) {
        p->cause = -EPROTO;
        p->lie = lie;
    }
    shm_rx_none(&p->rx);
}

const char *shm_lie_text(enum shm_lie lie)
{
    switch (lie) {
    case SHM_LIE_HEAD: return "claims to have read what was never sent to it";
    case SHM_LIE_SEAL: return "shares memory that it could take away again (it is not "
                              "sealed), and is not trusted to leave it";
    default:           return "wrote into its queue what can be no frame";
    }
}
