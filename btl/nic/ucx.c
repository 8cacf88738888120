/* SPDX-License-Identifier: BSD-3-Clause */
/* ucx.c - the NIC backend over UCX: its table, and what UCX does for rdm's files. ucx.h and
 * rdm.h list the others.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pinwheel/clock.h"
#include "ucx.h"

static void info_fill(struct pw_nic_info *info, const char *device, uint64_t speed)
{
    rdm_info_fill(info);
    info->latency_ns = speed && speed < 2000000000 ? 10000 : 3000;
    info->bytes_per_s = speed ? speed : 1000000000;
    snprintf(info->what, sizeof(info->what), "%s: UCX", device);
}

/* Who asks what there is need not load UCX for it. */
static int ucx_probe(struct pw_nic_info *info, char why[PW_NIC_WHY_MAX])
{
    (void)why;
    info_fill(info, "this host's interfaces and RDMA ports", 0);
    return 0;
}

/* ---- open ---- */

/* Where somebody who hears nothing of us finds out whether we are there. */
static int listen_open(struct ucx_nic *nic, struct ucx_name *name)
{
    const struct pw_ip *ip = &nic->base.iface.ips[0];
    uint16_t port;
    int fd = rdm_listen_open(&nic->base, ip, &port);

    if (fd < 0)
        return fd;
    nic->listen_fd = fd;
    name->family = (uint8_t)ip->family;
    name->port = port;
    memcpy(name->ip, ip->bytes, sizeof(name->ip));
    return 0;
}

static int ucx_start(struct rdm_nic *base, const char *device, char why[PW_NIC_WHY_MAX])
{
    struct ucx_nic *nic = ucx_of(base);
    struct ucx_name *name = (void *)base->address.name;
    unsigned major, minor, release;
    int err;

    nic->wait_fd = nic->listen_fd = -1;
    nic->aside_end = &nic->aside;
    nic->ended_end = &nic->ended;
    nic->lib = ucx_library(why);
    if (!nic->lib)
        return -ENOSYS;
    nic->lib->get_version(&major, &minor, &release);
    base->address.protocol = major;
    base->address.protocol_version = (uint16_t)minor;
    base->streams = true;
    base->read_most = UCX_READ_MOST;
    if (!device || pw_iface_find(device, &base->iface))
        base->iface.index = 0;
    info_fill(&base->base.info, device ? device : "any device",
              base->iface.index ? base->iface.bytes_per_s : 0);
    err = ucx_port_open(nic, device, why);
    if (!err && base->iface.index && base->iface.n_ips)
        err = listen_open(nic, name);
    if (!err)
        name->sum = ucx_name_sum(name, base->address.name_len);
    return err;
}

static void ucx_stop(struct rdm_nic *base)
{
    struct ucx_nic *nic = ucx_of(base);

    if (nic->context)
        nic->lib->cleanup(nic->context);
    if (nic->listen_fd >= 0)
        close(nic->listen_fd);
}

/* ---- addresses ---- */

uint32_t ucx_name_sum(const struct ucx_name *name, size_t len)
{
    struct ucx_name head = *name;
    uint64_t sum = RDM_HASH_BEGIN;

    head.sum = 0;
    sum = rdm_hash(sum, &head, sizeof(head));
    sum = rdm_hash(sum, name->worker, len - sizeof(head));
    return (uint32_t)(sum ^ sum >> 32);
}

static int ucx_address_ip(const struct rdm_address *a, struct pw_ip *ip, uint16_t *port)
{
    const struct ucx_name *name = (const void *)a->name;

    if (a->name_len <= sizeof(*name) || a->name_len > RDM_NAME_MAX || name->domain > 64 ||
        name->sum != ucx_name_sum(name, a->name_len))
        return -EINVAL;
    if (!name->family)
        return -ENOENT;
    if (name->family != 4 && name->family != 6)
        return -EINVAL;
    memset(ip, 0, sizeof(*ip));
    ip->family = name->family;
    ip->prefix = name->family == 4 ? 32 : 128;
    memcpy(ip->bytes, name->ip, name->family == 4 ? 4 : 16);
    *port = ntohs(name->port);
    return 0;
}

static const char *ucx_error(const struct rdm_nic *nic, int err)
{
    (void)nic;
    return strerror(err);
}

/* ---- the tables ---- */

extern const struct pw_nic_ops pw_nic_ucx;

static const struct rdm_driver ucx_driver = {
    .ops = &pw_nic_ucx,
    .magic = RDM_UCX_MAGIC,
    .nic_size = sizeof(struct ucx_nic),
    .open = ucx_start,
    .close = ucx_stop,
    .test = ucx_test,
    .port_close = ucx_port_close,
    .address_ip = ucx_address_ip,
    .peer_open = ucx_peer_open,
    .peer_close = ucx_peer_close,
    .peer_drop = ucx_peer_drop,
    .peer_reads = ucx_peer_reads,
    .send = ucx_send,
    .post = ucx_post,
    .poll = ucx_poll,
    .arm = ucx_arm,
    .mr_open = ucx_mr_open,
    .mr_close = ucx_mr_close,
    .mr_key = ucx_mr_key,
    .mr_reads = ucx_mr_reads,
    .read = ucx_read,
    .error = ucx_error,
};

static int ucx_open(const struct pw_nic_config *config, struct pw_nic **out)
{
    return rdm_open(&ucx_driver, config, out);
}

const struct pw_nic_ops pw_nic_ucx = {
    .name = "ucx",
    .probe = ucx_probe,
    .devices = ucx_devices,
    .open = ucx_open,
    RDM_OPS,
};
