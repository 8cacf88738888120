/* SPDX-License-Identifier: BSD-3-Clause */
/* ofi_port.c - one endpoint of libfabric, with its queue and its addresses.
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

int ofi_domain_open(struct ofi_nic *nic)
{
    int err = nic->lib->fabric(nic->info->fabric_attr, &nic->fabric, NULL);

    return err ? err : fi_domain(nic->fabric, nic->info, &nic->domain, NULL);
}

void ofi_domain_close(struct rdm_nic *base)
{
    struct ofi_nic *nic = ofi_of(base);

    if (nic->domain)
        fi_close(&nic->domain->fid);
    if (nic->fabric)
        fi_close(&nic->fabric->fid);
    if (nic->info)
        nic->lib->freeinfo(nic->info);
}

/* ---- port ---- */

/* To sleep without a descriptor is to look now and then. */
static int port_queue(struct ofi_nic *nic)
{
    struct fi_cq_attr attr = { .format = FI_CQ_FORMAT_MSG, .wait_obj = FI_WAIT_FD,
                               .size = 4 * RDM_RX_MOST };
    int err = fi_cq_open(nic->domain, &attr, &nic->cq, NULL);

    nic->wait_fd = -1;
    if (!err)
        err = fi_control(&nic->cq->fid, FI_GETWAIT, &nic->wait_fd);
    if (!err)
        return 0;
    if (nic->cq)
        fi_close(&nic->cq->fid);
    nic->wait_fd = -1;
    attr.wait_obj = FI_WAIT_NONE;
    return fi_cq_open(nic->domain, &attr, &nic->cq, NULL);
}

static int port_endpoint(struct ofi_nic *nic, const void *name, size_t name_len)
{
    struct fi_info *info = nic->lib->dupinfo(nic->info);
    int err = -ENOMEM;

    if (!info)
        return err;
    /* Providers have buffers for all that may be posted, and clear them at once. */
    if (info->rx_attr->size > RDM_RX_MOST)
        info->rx_attr->size = RDM_RX_MOST;
    if (info->tx_attr->size > RDM_TX_MOST)
        info->tx_attr->size = RDM_TX_MOST;
    if (name) {
        free(info->src_addr);
        info->src_addr = malloc(name_len);
        info->src_addrlen = info->src_addr ? name_len : 0;
        if (!info->src_addr)
            goto out;
        memcpy(info->src_addr, name, name_len);
    }
    err = fi_endpoint(nic->domain, info, &nic->ep, NULL);
    if (!err)
        err = fi_ep_bind(nic->ep, &nic->av->fid, 0);
    if (!err)
        err = fi_ep_bind(nic->ep, &nic->cq->fid, FI_TRANSMIT | FI_RECV);
    if (!err)
        err = fi_enable(nic->ep);
out:
    nic->lib->freeinfo(info);
    return err;
}

int ofi_port_open(struct ofi_nic *nic, const void *name, size_t name_len)
{
    struct rdm_address *a = &nic->base.address;
    size_t len = OFI_NAME_MAX;
    struct fi_av_attr av = { .type = FI_AV_TABLE };
    int err;

    err = fi_av_open(nic->domain, &av, &nic->av, NULL);
    if (!err)
        err = port_queue(nic);
    if (!err)
        err = port_endpoint(nic, name, name_len);
    if (!err)
        err = fi_getname(&nic->ep->fid, a->name, &len);
    if (!err && len > OFI_NAME_MAX)
        err = -EINVAL;
    a->name_len = (uint8_t)len;
    if (err)
        ofi_port_close(&nic->base);
    return err;
}

void ofi_port_close(struct rdm_nic *base)
{
    struct ofi_nic *nic = ofi_of(base);

    if (nic->ep)
        fi_close(&nic->ep->fid);
    if (nic->cq)
        fi_close(&nic->cq->fid);
    if (nic->av)
        fi_close(&nic->av->fid);
    nic->ep = NULL;
    nic->cq = NULL;
    nic->av = NULL;
    nic->wait_fd = -1;
}

/* ---- registration ---- */

/* Random, so that nobody guesses one: who has a key can read. */
static uint64_t key_draw(const struct ofi_nic *nic)
{
    size_t bytes = nic->info->domain_attr->mr_key_size;
    uint64_t key = 0;

    if (ofi_mr(nic, FI_MR_PROV_KEY) ||
        getrandom(&key, sizeof(key), 0) != (ssize_t)sizeof(key))
        return 0;
    return bytes < sizeof(key) ? key & ((UINT64_C(1) << 8 * bytes) - 1) : key;
}

int ofi_register(struct ofi_nic *nic, const void *addr, size_t len, uint64_t rights,
                 struct fid_mr **out)
{
    int err = -FI_ENOKEY;

    for (int tries = 0; tries < 8 && err == -FI_ENOKEY; tries++)
        err = fi_mr_reg(nic->domain, addr, len, rights, 0, key_draw(nic), 0, out, NULL);
    if (!err && ofi_mr(nic, FI_MR_ENDPOINT)) {
        err = fi_mr_bind(*out, &nic->ep->fid, 0);
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
