/* SPDX-License-Identifier: BSD-3-Clause */
/* rdm_buffers.c - buffers for messages, by the slab.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "rdm.h"

static size_t slab_bytes(void)
{
    return (size_t)RDM_SLAB * RDM_MESSAGE_MAX;
}

/* Pages come as they are touched: most messages are short. Where little memory can be locked
 * each message would ask anew, so who was refused asks again in the next tick. */
static struct rdm_slab *slab_open(struct rdm_nic *nic)
{
    struct rdm_slab *slab;

    if (nic->refused_ms == nic->tick_ms)
        return NULL;
    slab = calloc(1, sizeof(*slab));
    if (!slab)
        return NULL;
    slab->memory = mmap(NULL, slab_bytes(), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (slab->memory == MAP_FAILED)
        goto fail;
    if (nic->local_mr &&
        nic->driver->mr_open(nic, slab->memory, slab_bytes(), 0, &slab->mr))
        goto unmap;
    slab->next = nic->slabs;
    nic->slabs = slab;
    return slab;

unmap:
    munmap(slab->memory, slab_bytes());
fail:
    free(slab);
    nic->refused_ms = nic->tick_ms;
    return NULL;
}

static bool tx_grow(struct rdm_nic *nic, unsigned most)
{
    struct rdm_slab *slab = nic->n_tx < most ? slab_open(nic) : NULL;

    if (!slab)
        return false;
    for (size_t i = 0; i < RDM_SLAB; i++) {
        slab->tx[i].c.kind = RDM_TX;
        slab->tx[i].slab = slab;
        slab->tx[i].bytes = slab->memory + i * RDM_MESSAGE_MAX;
        slab->tx[i].next = nic->tx_free;
        nic->tx_free = &slab->tx[i];
    }
    nic->n_tx += RDM_SLAB;
    return true;
}

struct rdm_tx *rdm_tx_get(struct rdm_nic *nic, bool spare)
{
    struct rdm_tx *tx;

    if (!nic->tx_free && !tx_grow(nic, spare ? 2 * RDM_TX_MOST : RDM_TX_MOST))
        return NULL;
    tx = nic->tx_free;
    nic->tx_free = tx->next;
    return tx;
}

void rdm_tx_put(struct rdm_nic *nic, struct rdm_tx *tx)
{
    tx->c.peer = NULL;
    tx->next = nic->tx_free;
    nic->tx_free = tx;
}

void rdm_rx_post(struct rdm_nic *nic, struct rdm_rx *rx)
{
    rx->c.peer = NULL;
    rx->pulling = rx->owed = false;
    rx->next = NULL;
    if (nic->broken || nic->driver->post(nic, rx)) {
        rx->next = nic->rx_idle;
        nic->rx_idle = rx;
    } else {
        nic->n_posted++;
    }
}

void rdm_rx_retry(struct rdm_nic *nic)
{
    struct rdm_rx *rx = nic->rx_idle;

    nic->rx_idle = NULL;
    while (rx) {
        struct rdm_rx *next = rx->next;

        rdm_rx_post(nic, rx);
        rx = next;
    }
}

static bool rx_grow(struct rdm_nic *nic)
{
    struct rdm_slab *slab = slab_open(nic);

    if (!slab)
        return false;
    nic->n_rx += RDM_SLAB;
    for (size_t i = 0; i < RDM_SLAB; i++) {
        slab->rx[i].c.kind = RDM_RX;
        slab->rx[i].slab = slab;
        slab->rx[i].room = slab->rx[i].bytes = slab->memory + i * RDM_MESSAGE_MAX;
        rdm_rx_post(nic, &slab->rx[i]);
    }
    return true;
}

int rdm_rx_grow(struct rdm_nic *nic, unsigned peers)
{
    unsigned want = RDM_RX_BASE + RDM_RX_PEER * peers;

    while (nic->n_rx < want && nic->n_rx < RDM_RX_MOST)
        if (!rx_grow(nic))
            return nic->n_rx ? 0 : -ENOMEM;
    return 0;
}

/* Where little memory can be registered, those to receive with would take all of it. */
int rdm_buffers_open(struct rdm_nic *nic)
{
    if (nic->local_mr && !tx_grow(nic, RDM_TX_MOST))
        return -ENOMEM;
    return rdm_rx_grow(nic, 0);
}

/* While the program computes, messages wait for it, and what others say meanwhile is to be
 * heard: that they live, that they have put, that they leave. Windows bound how many wait. */
void rdm_rx_more(struct rdm_nic *nic)
{
    unsigned most = RDM_RX_BASE + (RDM_WINDOW + RDM_RX_PEER) * nic->n_peers;

    if (nic->n_posted < RDM_RX_LEAST && !nic->rx_idle && !nic->broken && nic->n_rx < most)
        rx_grow(nic);
}

/* As many as peers have sent: windows bound that. */
struct rdm_rx *rdm_rx_take(struct rdm_nic *nic)
{
    struct rdm_rx *rx;

    if (!nic->rx_idle && !rx_grow(nic))
        return NULL;
    rx = nic->rx_idle;
    nic->rx_idle = rx->next;
    return rx;
}

void rdm_buffers_close(struct rdm_nic *nic)
{
    while (nic->slabs) {
        struct rdm_slab *slab = nic->slabs;

        nic->slabs = slab->next;
        if (slab->mr)
            nic->driver->mr_close(nic, slab->mr);
        munmap(slab->memory, slab_bytes());
        free(slab);
    }
    nic->tx_free = NULL;
    nic->rx_idle = NULL;
}

/* A slab is of one kind: the kinds of all its members say which. Those of rx that wait in
 * a peer's queue have a peer and keep their bytes; the others were posted. */
void rdm_buffers_reclaim(struct rdm_nic *nic)
{
    nic->tx_free = NULL;
    nic->rx_idle = NULL;
    nic->n_posted = 0;
    for (struct rdm_slab *slab = nic->slabs; slab; slab = slab->next)
        for (size_t i = 0; i < RDM_SLAB; i++) {
            if (slab->tx[0].c.kind == RDM_TX) {
                rdm_tx_put(nic, &slab->tx[i]);
            } else if (!slab->rx[i].c.peer) {
                slab->rx[i].next = nic->rx_idle;
                nic->rx_idle = &slab->rx[i];
            }
        }
    for (struct rdm_peer *peer = nic->peers; peer; peer = peer->next)
        peer->tx = 0;
}
