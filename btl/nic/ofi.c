/* SPDX-License-Identifier: BSD-3-Clause */
/* ofi.c - the NIC backend over libfabric: its table, and what libfabric does for rdm's files.
 * ofi.h and rdm.h list the others.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "ofi.h"

_Static_assert(sizeof(struct fi_context2) <= sizeof(((struct rdm_context *)0)->room),
               "libfabric's part of a context fits");

static void info_fill(struct pw_nic_info *info, const struct fi_info *fabric, uint64_t speed)
{
    bool socket = ofi_is_socket(fabric);

    rdm_info_fill(info);
    info->latency_ns = socket ? 10000 : 3000;
    info->bytes_per_s = speed ? speed : 1000000000;
    snprintf(info->what, sizeof(info->what), "%s: libfabric's %s",
             fabric->domain_attr->name, fabric->fabric_attr->prov_name);
}

static uint64_t speed_of(const struct fi_info *info)
{
    struct pw_iface iface;

    if (info->nic && info->nic->link_attr && info->nic->link_attr->speed)
        return info->nic->link_attr->speed / 8;
    if (ofi_is_socket(info) && !pw_iface_find(info->domain_attr->name, &iface))
        return iface.bytes_per_s;
    return 0;
}

/* Where all that there is are sockets, whoever asks need not load libfabric to be told so. */
static void info_of_sockets(struct pw_nic_info *info)
{
    struct fi_domain_attr domain = { .name = "lo" };
    struct fi_fabric_attr fabric = { .prov_name = "provider over TCP" };
    struct fi_info socket = { .domain_attr = &domain, .fabric_attr = &fabric };

    info_fill(info, &socket, 0);
    snprintf(info->what, sizeof(info->what), "this host's interfaces, by libfabric");
}

static int ofi_probe(struct pw_nic_info *info, char why[PW_NIC_WHY_MAX])
{
    const struct ofi_library *lib;
    struct fi_info *infos;
    int err;

    if (ofi_only_sockets()) {
        info_of_sockets(info);
        return 0;
    }
    lib = ofi_library(why);
    if (!lib)
        return -ENOSYS;
    err = ofi_infos(lib, &infos, why);
    if (err)
        return -ENODEV;
    info_fill(info, infos, speed_of(infos));
    lib->freeinfo(infos);
    return 0;
}

/* ---- open ---- */

static int nic_info(struct ofi_nic *nic, const char *device, char why[PW_NIC_WHY_MAX])
{
    struct fi_info *infos;

    nic->lib = ofi_library(why);
    if (!nic->lib)
        return -ENOSYS;
    if (ofi_infos(nic->lib, &infos, why))
        return -ENODEV;
    nic->info = ofi_info_named(nic->lib, infos, device);
    nic->lib->freeinfo(infos);
    if (nic->info)
        return 0;
    snprintf(why, PW_NIC_WHY_MAX, "libfabric has no provider that uses it");
    return -ENODEV;
}

static void nic_limits(struct ofi_nic *nic)
{
    struct rdm_nic *base = &nic->base;

    base->inject_most = nic->info->tx_attr->inject_size;
    base->read_most = nic->info->ep_attr->max_msg_size;
    base->local_mr = ofi_mr(nic, FI_MR_LOCAL);
    base->populate = ofi_mr(nic, FI_MR_ALLOCATED);
    base->offsets = !ofi_mr(nic, FI_MR_VIRT_ADDR);
    base->address.protocol = nic->info->ep_attr->protocol;
    base->address.protocol_version = (uint16_t)nic->info->ep_attr->protocol_version;
    base->address.format = nic->info->addr_format;
}

static int ofi_start(struct rdm_nic *base, const char *device, char why[PW_NIC_WHY_MAX])
{
    struct ofi_nic *nic = ofi_of(base);
    int err;

    nic->wait_fd = -1;
    err = nic_info(nic, device, why);
    if (err)
        return err;
    info_fill(&base->base.info, nic->info, speed_of(nic->info));
    if (!ofi_is_socket(nic->info) ||
        pw_iface_find(nic->info->domain_attr->name, &base->iface))
        base->iface.index = 0;
    nic_limits(nic);
    err = ofi_domain_open(nic);
    if (!err)
        err = ofi_port_open(nic, NULL, 0);
    if (err)
        snprintf(why, PW_NIC_WHY_MAX, "libfabric's %s gives no endpoint on it: %s",
                 nic->info->fabric_attr->prov_name, nic->lib->strerror(-err));
    return err ? -ENODEV : 0;
}

static int ofi_reopen(struct rdm_nic *base)
{
    uint8_t name[OFI_NAME_MAX];
    size_t len = base->address.name_len;

    if (ofi_mr(ofi_of(base), FI_MR_ENDPOINT))
        return -EOPNOTSUPP;
    memcpy(name, base->address.name, len);
    return ofi_port_open(ofi_of(base), name, len);
}

/* ---- peers ---- */

/* Sockets' names hold their family; others are for their provider to understand. */
static int ofi_address_ip(const struct rdm_address *a, struct pw_ip *ip, uint16_t *port)
{
    static const struct sockaddr_in in;
    sa_family_t family;
    size_t len;

    memcpy(&family, a->name, sizeof(family));
    if (a->format == FI_SOCKADDR_IN)
        len = family == AF_INET &&
                      !memcmp(a->name + offsetof(struct sockaddr_in, sin_zero), in.sin_zero,
                              sizeof(in.sin_zero)) ? sizeof(in) : 0;
    else if (a->format == FI_SOCKADDR_IN6)
        len = family == AF_INET6 ? sizeof(struct sockaddr_in6) : 0;
    else
        return a->name_len && a->name_len <= OFI_NAME_MAX ? -ENOENT : -EINVAL;
    if (!len || a->name_len != len)
        return -EINVAL;
    /* The port stands at the same place in both. */
    memcpy(port, a->name + offsetof(struct sockaddr_in, sin_port), sizeof(*port));
    *port = ntohs(*port);
    return pw_ip_from_sockaddr((const struct sockaddr *)(const void *)a->name,
                               (socklen_t)len, ip) ? -EINVAL : 0;
}

static int ofi_peer_open(struct rdm_peer *peer)
{
    struct ofi_nic *nic = ofi_of(rdm_nic_of(peer));

    return fi_av_insert(nic->av, peer->address.name, 1, &peer->to.number, 0, NULL) == 1
               ? 0 : -EHOSTUNREACH;
}

/* A table of addresses that are gone would only grow. */
static void ofi_peer_close(struct rdm_peer *peer)
{
    fi_av_remove(ofi_of(rdm_nic_of(peer))->av, &peer->to.number, 1, 0);
}

/* ---- messages ---- */

static int ofi_inject(struct rdm_peer *peer, const void *bytes, size_t len)
{
    return (int)fi_inject(ofi_of(rdm_nic_of(peer))->ep, bytes, len, peer->to.number);
}

static int ofi_post_send(struct rdm_peer *peer, struct rdm_tx *tx, size_t len)
{
    return (int)fi_send(ofi_of(rdm_nic_of(peer))->ep, tx->bytes, len, ofi_desc(tx->slab->mr),
                        peer->to.number, tx);
}

static int ofi_post(struct rdm_nic *nic, struct rdm_rx *rx)
{
    return (int)fi_recv(ofi_of(nic)->ep, rx->bytes, RDM_MESSAGE_MAX, ofi_desc(rx->slab->mr),
                        FI_ADDR_UNSPEC, rx);
}

static bool error_read(struct ofi_nic *nic)
{
    struct fi_cq_err_entry entry = { 0 };

    if (fi_cq_readerr(nic->cq, &entry, 0) != 1)
        return false;
    if (entry.op_context)
        rdm_ended(&nic->base, entry.op_context, 0, entry.err ? entry.err : FI_EOTHER);
    return true;
}

static int ofi_poll(struct rdm_nic *base)
{
    enum { BATCH = 16, BATCHES = 4 };
    struct ofi_nic *nic = ofi_of(base);
    struct fi_cq_msg_entry entries[BATCH];
    int n = 0;

    for (int i = 0; i < BATCHES && !base->broken; i++) {
        ssize_t got = fi_cq_read(nic->cq, entries, BATCH);

        if (got == -FI_EAVAIL) {
            n += error_read(nic);
            continue;
        }
        if (got <= 0)
            break;
        for (ssize_t k = 0; k < got; k++)
            rdm_ended(base, entries[k].op_context, entries[k].len, 0);
        n += (int)got;
        if (got < BATCH)
            break;
    }
    return n;
}

static int ofi_arm(struct rdm_nic *base)
{
    struct ofi_nic *nic = ofi_of(base);
    struct fid *fid = &nic->cq->fid;

    if (nic->wait_fd < 0)
        return -1;
    return fi_trywait(nic->fabric, &fid, 1) ? -EAGAIN : nic->wait_fd;
}

/* ---- memory ---- */

static int ofi_mr_open(struct rdm_nic *nic, const void *addr, size_t len, unsigned access,
                       void **out)
{
    /* Nobody but us writes there: puts are fetched. */
    uint64_t rights = FI_READ | FI_WRITE | (access ? 0 : FI_SEND | FI_RECV) |
                      (access & PW_READ && nic->reads ? FI_REMOTE_READ : 0);
    struct fid_mr *mr;
    int err = ofi_register(ofi_of(nic), addr, len, rights, &mr);

    *out = mr;
    return err;
}

static void ofi_mr_close(struct rdm_nic *nic, void *mr)
{
    (void)nic;
    fi_close(&((struct fid_mr *)mr)->fid);
}

static uint64_t ofi_mr_key(void *mr)
{
    return fi_mr_key(mr);
}

static int ofi_read(struct rdm_peer *peer, struct rdm_context *c, void *to, size_t len,
                    void *mr, uint64_t from, uint64_t key)
{
    return (int)fi_read(ofi_of(rdm_nic_of(peer))->ep, to, len, ofi_desc(mr), peer->to.number,
                        from, key, c);
}

static const char *ofi_error(const struct rdm_nic *nic, int err)
{
    return ((const struct ofi_nic *)nic)->lib->strerror(err);
}

/* ---- the tables ---- */

extern const struct pw_nic_ops pw_nic_ofi;

static const struct rdm_driver ofi_driver = {
    .ops = &pw_nic_ofi,
    .magic = RDM_OFI_MAGIC,
    .nic_size = sizeof(struct ofi_nic),
    .open = ofi_start,
    .close = ofi_domain_close,
    .test = ofi_test,
    .port_close = ofi_port_close,
    .port_open = ofi_reopen,
    .address_ip = ofi_address_ip,
    .peer_open = ofi_peer_open,
    .peer_close = ofi_peer_close,
    .inject = ofi_inject,
    .send = ofi_post_send,
    .post = ofi_post,
    .poll = ofi_poll,
    .arm = ofi_arm,
    .mr_open = ofi_mr_open,
    .mr_close = ofi_mr_close,
    .mr_key = ofi_mr_key,
    .read = ofi_read,
    .error = ofi_error,
};

static int ofi_open(const struct pw_nic_config *config, struct pw_nic **out)
{
    return rdm_open(&ofi_driver, config, out);
}

const struct pw_nic_ops pw_nic_ofi = {
    .name = "ofi",
    .probe = ofi_probe,
    .devices = ofi_devices,
    .open = ofi_open,
    RDM_OPS,
};
