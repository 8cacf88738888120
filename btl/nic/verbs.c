/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs.c - the NIC backend over libibverbs: its table, open and close. verbs.h and rdm.h
 * list the others.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rdm_ports.h"
#include "verbs.h"

static bool software_port(const struct verbs_found *found)
{
    char device[sizeof(found->name)];

    snprintf(device, sizeof(device), "%.*s", (int)strcspn(found->name, ":"), found->name);
    return rdm_ports_software(device);
}

static const char *gid_text(const struct verbs_gid *gid, char out[PW_IP_TEXT])
{
    struct pw_ip ip;

    if (verbs_gid_ip(gid->bytes, &ip)) {
        ip.prefix = ip.family == 4 ? 32 : 128;
        pw_ip_text(&ip, out);
    } else {
        snprintf(out, PW_IP_TEXT, "none");
    }
    return out;
}

/* What a connection waits for an acknowledgement, as InfiniBand counts it. */
static unsigned timeout_in(unsigned timeout, const char **unit)
{
    uint64_t ns = UINT64_C(4096) << timeout;

    *unit = ns < 10000000 ? "us" : "ms";
    return (unsigned)(ns < 10000000 ? ns / 1000 : (ns + 500000) / 1000000);
}

static void note_fill(struct pw_nic_info *info, const struct verbs_found *found)
{
    static const char *const rnr[] = { "0", "1", "2", "3", "4", "5", "6", "no end" };
    const char *unit;
    unsigned wait = timeout_in(verbs_settings.timeout, &unit);
    char text[PW_IP_TEXT];

    snprintf(info->note, sizeof(info->note), "peers know port %u by GID %u of %u, %s; packets"
             " of %u bytes, %u retries of %u %s, RNR %s, P_Key %u", found->port,
             found->gid.index, found->n_gids, gid_text(&found->gid, text),
             128u << found->attr.active_mtu, verbs_settings.retries, wait, unit,
             rnr[verbs_settings.rnr_retries % 8], verbs_settings.pkey_index);
}

static void info_fill(struct pw_nic_info *info, const struct verbs_found *found)
{
    rdm_info_fill(info);
    info->latency_ns = software_port(found) ? 10000 : 2000;
    info->bytes_per_s = found->bytes_per_s ? found->bytes_per_s : 1000000000;
    snprintf(info->what, sizeof(info->what), "%s: libibverbs, %s", found->name,
             verbs_link_text(found->gid.link));
    note_fill(info, found);
}

/* Devices say themselves why they cannot be used. */
static int verbs_probe(struct pw_nic_info *info, char why[PW_NIC_WHY_MAX])
{
    struct verbs_found found = { 0 };
    const struct verbs_library *lib;
    struct ibv_context *context;
    int err;

    if (!rdm_ports_any()) {
        snprintf(why, PW_NIC_WHY_MAX, "this machine has no RDMA device");
        return -ENODEV;
    }
    rdm_info_fill(info);
    info->latency_ns = 2000;
    info->bytes_per_s = 1000000000;
    snprintf(info->what, sizeof(info->what), "this host's RDMA devices, by libibverbs");
    if (verbs_memlock_refuses(why))
        return 0;
    lib = verbs_library(why);
    context = lib ? verbs_device_open(lib, NULL, &found, &err, why) : NULL;
    if (context) {
        info_fill(info, &found);
        lib->close_device(context);
    }
    return 0;
}

/* ---- open ---- */

/* Each processor may have a rank that uses that device. */
static unsigned qps_share(int max_qp)
{
    long ranks = sysconf(_SC_NPROCESSORS_CONF);
    long share = max_qp / (ranks > 0 ? ranks : 1);

    return share < VERBS_QPS_LEAST ? VERBS_QPS_LEAST
           : share < VERBS_QPS_MOST ? (unsigned)share : VERBS_QPS_MOST;
}

static void nic_limits(struct verbs_nic *nic)
{
    const struct ibv_device_attr *limits = &nic->found.limits;
    struct rdm_nic *base = &nic->base;

    nic->reads_most = limits->max_qp_init_rd_atom < VERBS_READS
                          ? (unsigned)limits->max_qp_init_rd_atom : VERBS_READS;
    nic->reads_served = limits->max_qp_rd_atom < VERBS_READS
                            ? (unsigned)limits->max_qp_rd_atom : VERBS_READS;
    base->read_most = nic->found.attr.max_msg_sz < VERBS_READ_MOST
                          ? nic->found.attr.max_msg_sz : VERBS_READ_MOST;
    base->local_mr = true;
    nic->qps_most = verbs_settings.qps ? verbs_settings.qps : qps_share(limits->max_qp);
}

/* Networks of InfiniBand with other subnet prefixes are others. */
static void subnet_note(struct verbs_nic *nic)
{
    const struct verbs_gid *gid = &nic->found.gid;

    if (gid->link == VERBS_INFINIBAND)
        nic->base.address.protocol ^= (uint32_t)rdm_hash(RDM_HASH_BEGIN, gid->bytes, 8);
}

/* The interface that a GID is of says who is reached. Where it is not in this namespace, or
 * there is none, all are tried that speak the same. */
static void iface_open(struct verbs_nic *nic)
{
    const struct verbs_gid *gid = &nic->found.gid;
    struct rdm_nic *base = &nic->base;
    struct verbs_name *name = (void *)base->address.name;
    struct pw_ip ip;

    if (gid->link < VERBS_ROCE2_IPV4 || !gid->ifindex ||
        pw_iface_at((int)gid->ifindex, &base->iface)) {
        base->iface.index = 0;
        return;
    }
    if (verbs_gid_ip(gid->bytes, &ip))
        nic->listen_fd = rdm_listen_open(base, &ip, &name->tcp);
}

static int nic_open(struct verbs_nic *nic, const char *device, char why[PW_NIC_WHY_MAX])
{
    int err;

    nic->lib = verbs_library(why);
    if (!nic->lib)
        return -ENOSYS;
    err = verbs_router_open(nic);
    if (err)
        return err;
    nic->context = verbs_device_open(nic->lib, device, &nic->found, &err, why);
    if (!nic->context)
        return err;
    nic_limits(nic);
    err = verbs_port_open(nic, why);
    if (!err)
        err = verbs_memory_try(nic, why);
    if (err)
        return err;
    err = verbs_inline_try(nic);
    nic->base.inject_most = nic->inline_most;
    if (err)
        snprintf(why, PW_NIC_WHY_MAX, "%s gives no reliable connection: %s",
                 nic->found.name, strerror(-err));
    return err;
}

static int verbs_start(struct rdm_nic *base, const char *device, char why[PW_NIC_WHY_MAX])
{
    struct verbs_nic *nic = verbs_of(base);
    int err;

    nic->wait_fd = nic->listen_fd = -1;
    err = nic_open(nic, device, why);
    if (err)
        return err == -ENOMEM ? err : -ENODEV;
    info_fill(&base->base.info, &nic->found);
    subnet_note(nic);
    iface_open(nic);
    return 0;
}

/* What a device cannot do it refuses when it is asked for; what is left to see is whether
 * our kernel answers who wants to know whether we live. */
static int verbs_test(struct rdm_nic *base, char why[PW_NIC_WHY_MAX])
{
    struct verbs_nic *nic = verbs_of(base);

    (void)why;
    base->reads = nic->reads_most && nic->reads_served;
    base->probes = nic->listen_fd >= 0 && !rdm_listens(base, &base->address, 100);
    return 0;
}

static void verbs_stop(struct rdm_nic *base)
{
    struct verbs_nic *nic = verbs_of(base);

    if (nic->pd)
        nic->lib->dealloc_pd(nic->pd);
    if (nic->context)
        nic->lib->close_device(nic->context);
    if (nic->lib && nic->listen_fd >= 0)
        close(nic->listen_fd);
}

/* ---- addresses ---- */

static int verbs_address_ip(const struct rdm_address *a, struct pw_ip *ip, uint16_t *port)
{
    const struct verbs_name *name = verbs_name_of(a);

    if (!verbs_name_right(name, a->name_len) || name->link != a->format)
        return -EINVAL;
    if (name->link < VERBS_ROCE2_IPV4)
        return -ENOENT;
    if (!verbs_gid_ip(name->gid, ip))
        return -EINVAL;
    *port = ntohs(name->tcp);
    return 0;
}

static const char *verbs_error(const struct rdm_nic *nic, int err)
{
    (void)nic;
    switch (err) {
    case ETIMEDOUT:
        return "it does not acknowledge what it is sent";
    case ENOBUFS:
        return "it had no buffer for what it was sent, as often as"
               " btl_pinwheel_verbs_rnr_retries says";
    case EOVERFLOW:
        return "a queue of the device has failed";
    case ENETDOWN:
        return "the port is down";
    case ENODEV:
        return "the device has failed, or is gone";
    case ECONNRESET:
        return "it has closed its queue pair";
    case ECONNABORTED:
        return "the queue pair has failed";
    default:
        return strerror(err);
    }
}

/* ---- the tables ---- */

extern const struct pw_nic_ops pw_nic_verbs;

static const struct rdm_driver verbs_driver = {
    .ops = &pw_nic_verbs,
    .magic = RDM_VERBS_MAGIC,
    .nic_size = sizeof(struct verbs_nic),
    .open = verbs_start,
    .close = verbs_stop,
    .test = verbs_test,
    .port_close = verbs_port_close,
    .address_ip = verbs_address_ip,
    .peer_open = verbs_peer_open,
    .peer_close = verbs_peer_close,
    .peer_drop = verbs_peer_drop,
    .ask = verbs_peer_ask,
    .inject = verbs_inject,
    .send = verbs_send,
    .post = verbs_post,
    .poll = verbs_poll,
    .arm = verbs_arm,
    .mr_open = verbs_mr_open,
    .mr_close = verbs_mr_close,
    .mr_key = verbs_mr_key,
    .read = verbs_read,
    .error = verbs_error,
};

static int verbs_open(const struct pw_nic_config *config, struct pw_nic **out)
{
    return rdm_open(&verbs_driver, config, out);
}

const struct pw_nic_ops pw_nic_verbs = {
    .name = "verbs",
    .probe = verbs_probe,
    .devices = verbs_devices,
    .open = verbs_open,
    .settings = verbs_settings_list,
    .set = verbs_set,
    RDM_OPS,
};
