/* SPDX-License-Identifier: BSD-3-Clause */
/* ofi_port.c - one endpoint of libfabric, with its queues and buffers.
 *
 * The endpoint, its completion queue and its address table are one port. A reset closes
 * all three, which is the only way to be sure that a provider lets go of what it was given
 * for a peer that does not answer, and opens them at the same address. The domain stays,
 * and with it every registration; so a provider whose keys belong to an endpoint
 * (FI_MR_ENDPOINT) cannot be reset.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "ofi.h"

/* ---- domain ---- */

int ofi_domain_open(struct ofi_domain *d, const struct ofi_library *lib,
                    struct fi_info *info)
{
    int err;

    *d = (struct ofi_domain){ .lib = lib, .info = info };
    err = lib->fabric(info->fabric_attr, &d->fabric, NULL);
    if (err)
        return err;
    return fi_domain(d->fabric, info, &d->domain, NULL);
}

void ofi_domain_close(struct ofi_domain *d)
{
    if (d->domain)
        fi_close(&d->domain->fid);
    if (d->fabric)
        fi_close(&d->fabric->fid);
    if (d->info)
        d->lib->freeinfo(d->info);
    memset(d, 0, sizeof(*d));
}

/* ---- port ---- */

/* To sleep without a descriptor is to look now and then. */
static int port_queue(struct ofi_domain *d, struct ofi_port *port)
{
    struct fi_cq_attr attr = { .format = FI_CQ_FORMAT_MSG, .wait_obj = FI_WAIT_FD,
                               .size = 4 * OFI_RX_MOST };
    int err = fi_cq_open(d->domain, &attr, &port->cq, NULL);

    port->wait_fd = -1;
    if (!err)
        err = fi_control(&port->cq->fid, FI_GETWAIT, &port->wait_fd);
    if (!err)
        return 0;
    if (port->cq)
        fi_close(&port->cq->fid);
    port->wait_fd = -1;
    attr.wait_obj = FI_WAIT_NONE;
    return fi_cq_open(d->domain, &attr, &port->cq, NULL);
}

static int port_endpoint(struct ofi_domain *d, struct ofi_port *port, const void *name,
                         size_t name_len)
{
    struct fi_info *info = d->lib->dupinfo(d->info);
    int err = -ENOMEM;

    if (!info)
        return err;
    /* Providers have buffers for all that may be posted, and clear them at once. */
    if (info->rx_attr->size > OFI_RX_MOST)
        info->rx_attr->size = OFI_RX_MOST;
    if (info->tx_attr->size > OFI_TX_MOST)
        info->tx_attr->size = OFI_TX_MOST;
    if (name) {
        free(info->src_addr);
        info->src_addr = malloc(name_len);
        info->src_addrlen = info->src_addr ? name_len : 0;
        if (!info->src_addr)
            goto out;
        memcpy(info->src_addr, name, name_len);
    }
    err = fi_endpoint(d->domain, info, &port->ep, NULL);
    if (!err)
        err = fi_ep_bind(port->ep, &port->av->fid, 0);
    if (!err)
        err = fi_ep_bind(port->ep, &port->cq->fid, FI_TRANSMIT | FI_RECV);
    if (!err)
        err = fi_enable(port->ep);
out:
    d->lib->freeinfo(info);
    return err;
}

int ofi_port_open(struct ofi_domain *d, struct ofi_port *port, const void *name,
                  size_t name_len)
{
    struct fi_av_attr av = { .type = FI_AV_TABLE };
    int err;

    *port = (struct ofi_port){ .wait_fd = -1, .name_len = sizeof(port->name) };
    err = fi_av_open(d->domain, &av, &port->av, NULL);
    if (!err)
        err = port_queue(d, port);
    if (!err)
        err = port_endpoint(d, port, name, name_len);
    if (!err)
        err = fi_getname(&port->ep->fid, port->name, &port->name_len);
    if (err)
        ofi_port_close(port);
    return err;
}

void ofi_port_close(struct ofi_port *port)
{
    if (port->ep)
        fi_close(&port->ep->fid);
    if (port->cq)
        fi_close(&port->cq->fid);
    if (port->av)
        fi_close(&port->av->fid);
    port->ep = NULL;
    port->cq = NULL;
    port->av = NULL;
    port->wait_fd = -1;
}

/* ---- registration ---- */

void *ofi_desc(struct fid_mr *mr)
{
    return mr ? fi_mr_desc(mr) : NULL;
}

/* Random, so that nobody guesses one: who has a key can read. */
static uint64_t key_draw(const struct ofi_domain *d)
{
    size_t bytes = d->info->domain_attr->mr_key_size;
    uint64_t key = 0;

    if (ofi_mr(d, FI_MR_PROV_KEY) ||
        getrandom(&key, sizeof(key), 0) != (ssize_t)sizeof(key))
        return 0;
    return bytes < sizeof(key) ? key & ((UINT64_C(1) << 8 * bytes) - 1) : key;
}

int ofi_register(struct ofi_domain *d, struct ofi_port *port, const void *addr, size_t len,
                 uint64_t access, struct fid_mr **out)
{
    int err = -FI_ENOKEY;

    for (int tries = 0; tries < 8 && err == -FI_ENOKEY; tries++)
        err = fi_mr_reg(d->domain, addr, len, access, 0, key_draw(d), 0, out, NULL);
    if (!err && ofi_mr(d, FI_MR_ENDPOINT)) {
        err = fi_mr_bind(*out, &port->ep->fid, 0);
        if (!err)
            err = fi_mr_enable(*out);
        if (err)
            fi_close(&(*out)->fid);
    }
    if (!err)
        return 0;
    *out = NULL;
    return err == -FI_ENOMEM || err == -FI_EFAULT || err == -FI_EAGAIN ? err : -EIO;
}

/* ---- buffers ---- */

static size_t slab_bytes(void)
{
    return (size_t)OFI_SLAB * OFI_MESSAGE_MAX;
}

/* Pages come as they are touched: most messages are short. */
static struct ofi_slab *slab_open(struct ofi_nic *nic)
{
    struct ofi_slab *slab = calloc(1, sizeof(*slab));

    if (!slab)
        return NULL;
    slab->memory = mmap(NULL, slab_bytes(), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (slab->memory == MAP_FAILED)
        goto fail;
    if (ofi_mr(&nic->domain, FI_MR_LOCAL) &&
        ofi_register(&nic->domain, &nic->port, slab->memory, slab_bytes(),
                     FI_SEND | FI_RECV | FI_READ | FI_WRITE, &slab->mr))
        goto unmap;
    slab->next = nic->slabs;
    nic->slabs = slab;
    return slab;

unmap:
    munmap(slab->memory, slab_bytes());
fail:
    free(slab);
    return NULL;
}

static bool tx_grow(struct ofi_nic *nic)
{
    struct ofi_slab *slab = nic->n_tx < OFI_TX_MOST ? slab_open(nic) : NULL;

    if (!slab)
        return false;
    for (size_t i = 0; i < OFI_SLAB; i++) {
        slab->tx[i].c.kind = OFI_TX;
        slab->tx[i].slab = slab;
        slab->tx[i].bytes = slab->memory + i * OFI_MESSAGE_MAX;
        slab->tx[i].next = nic->tx_free;
        nic->tx_free = &slab->tx[i];
    }
    nic->n_tx += OFI_SLAB;
    return true;
}

struct ofi_tx *ofi_tx_get(struct ofi_nic *nic)
{
    struct ofi_tx *tx;

    if (!nic->tx_free && !tx_grow(nic))
        return NULL;
    tx = nic->tx_free;
    nic->tx_free = tx->next;
    return tx;
}

void ofi_tx_put(struct ofi_nic *nic, struct ofi_tx *tx)
{
    tx->c.peer = NULL;
    tx->next = nic->tx_free;
    nic->tx_free = tx;
}

void ofi_rx_post(struct ofi_nic *nic, struct ofi_rx *rx)
{
    rx->c.peer = NULL;
    rx->pulling = false;
    rx->next = NULL;
    if (nic->broken || fi_recv(nic->port.ep, rx->bytes, OFI_MESSAGE_MAX,
                               ofi_desc(rx->slab->mr), FI_ADDR_UNSPEC, rx)) {
        rx->next = nic->rx_idle;
        nic->rx_idle = rx;
    }
}

void ofi_rx_retry(struct ofi_nic *nic)
{
    struct ofi_rx *rx = nic->rx_idle;

    nic->rx_idle = NULL;
    while (rx) {
        struct ofi_rx *next = rx->next;

        ofi_rx_post(nic, rx);
        rx = next;
    }
}

int ofi_rx_grow(struct ofi_nic *nic, unsigned peers)
{
    unsigned want = OFI_RX_BASE + OFI_RX_PEER * peers;

    while (nic->n_rx < want && nic->n_rx < OFI_RX_MOST) {
        struct ofi_slab *slab = slab_open(nic);

        if (!slab)
            return nic->n_rx ? 0 : -ENOMEM;
        nic->n_rx += OFI_SLAB;
        for (size_t i = 0; i < OFI_SLAB; i++) {
            slab->rx[i].c.kind = OFI_RX;
            slab->rx[i].slab = slab;
            slab->rx[i].bytes = slab->memory + i * OFI_MESSAGE_MAX;
            ofi_rx_post(nic, &slab->rx[i]);
        }
    }
    return 0;
}

void ofi_buffers_close(struct ofi_nic *nic)
{
    while (nic->slabs) {
        struct ofi_slab *slab = nic->slabs;

        nic->slabs = slab->next;
        if (slab->mr)
            fi_close(&slab->mr->fid);
        munmap(slab->memory, slab_bytes());
        free(slab);
    }
    nic->tx_free = NULL;
    nic->rx_idle = NULL;
}

/* ---- reset ---- */

/* A slab is of one kind: the kinds of all its members say which. Those of rx that wait in
 * a peer's queue have a peer and keep their bytes; the others were posted. */
static void buffers_reclaim(struct ofi_nic *nic)
{
    nic->tx_free = NULL;
    nic->rx_idle = NULL;
    for (struct ofi_slab *slab = nic->slabs; slab; slab = slab->next)
        for (size_t i = 0; i < OFI_SLAB; i++) {
            if (slab->tx[0].c.kind == OFI_TX) {
                ofi_tx_put(nic, &slab->tx[i]);
            } else if (!slab->rx[i].c.peer) {
                slab->rx[i].next = nic->rx_idle;
                nic->rx_idle = &slab->rx[i];
            }
        }
    for (struct ofi_peer *peer = nic->peers; peer; peer = peer->next)
        peer->tx = 0;
}

bool ofi_port_reset(struct ofi_nic *nic)
{
    uint8_t name[OFI_NAME_MAX];
    size_t len = nic->address.name_len;

    if (ofi_mr(&nic->domain, FI_MR_ENDPOINT))
        return false;
    memcpy(name, nic->address.name, len);
    ofi_port_close(&nic->port);
    for (struct ofi_peer *peer = nic->peers; peer; peer = peer->next)
        ofi_ops_returned(peer);
    buffers_reclaim(nic);
    nic->broken = ofi_port_open(&nic->domain, &nic->port, name, len) ||
                  nic->port.name_len != len || memcmp(nic->port.name, name, len);
    if (!nic->broken)
        ofi_rx_retry(nic);
    __atomic_fetch_add(&nic->base.counts.reconnects, 1, __ATOMIC_RELAXED);
    return true;
}
