/* SPDX-License-Identifier: BSD-3-Clause */
/* ofi.c - the NIC backend over libfabric: its table, open and close. ofi.h lists the files.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "ofi.h"
#include "pinwheel/clock.h"

enum { OFI_INLINE = 1024 };

#define QUEUE_MOST ((size_t)1 << 30)

static void info_fill(struct pw_nic_info *info, const struct fi_info *fabric, uint64_t speed)
{
    bool socket = ofi_is_socket(fabric);

    memset(info, 0, sizeof(*info));
    info->flags = PW_NIC_ANSWERS | PW_NIC_PUT;
    info->frame_max = OFI_MESSAGE_MAX - sizeof(struct ofi_head);
    info->inline_max = OFI_INLINE;
    info->key_size = sizeof(struct ofi_key);
    info->key_room = sizeof(struct ofi_key);
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

static int nic_domain(struct ofi_nic *nic, const char *device, char why[PW_NIC_WHY_MAX])
{
    const struct ofi_library *lib = ofi_library(why);
    struct fi_info *infos, *info;
    int err;

    if (!lib)
        return -ENOSYS;
    err = ofi_infos(lib, &infos, why);
    if (err)
        return -ENODEV;
    info = ofi_info_named(lib, infos, device);
    lib->freeinfo(infos);
    if (!info)
        return -ENODEV;
    info_fill(&nic->base.info, info, speed_of(info));
    if (!ofi_is_socket(info) || pw_iface_find(info->domain_attr->name, &nic->iface))
        nic->iface.index = 0;
    err = ofi_domain_open(&nic->domain, lib, info);
    return err ? -ENODEV : 0;
}

static int nic_start(struct ofi_nic *nic, const struct pw_nic_config *config)
{
    char why[PW_NIC_WHY_MAX];
    int err = nic_domain(nic, config->device ? config->device->name : NULL, why);

    if (err)
        return err;
    if (ofi_port_open(&nic->domain, &nic->port, NULL, 0))
        return -ENODEV;
    err = ofi_rx_grow(nic, 0);
    if (!err)
        err = ofi_link_open(nic, config->job);
    if (!err)
        err = ofi_test(nic, why);
    if (!err && !nic->reads) {
        nic->base.info.flags &= ~(uint32_t)PW_NIC_PUT;
        nic->base.info.key_size = 0;
    }
    return err ? err : ofi_thread_start(nic);
}

static void nic_free(struct ofi_nic *nic)
{
    ofi_port_close(&nic->port);
    nic->broken = true;
    for (struct ofi_peer *peer = nic->peers; peer; peer = peer->next)
        ofi_ops_returned(peer);
    while (nic->peers) {
        ofi_ops_end(nic->peers, -ECANCELED);
        ofi_peer_free(nic->peers);
    }
    ofi_memory_close(nic);
    ofi_buffers_close(nic);
    ofi_domain_close(&nic->domain);
    free(nic->slots);
    if (nic->bell >= 0)
        close(nic->bell);
    if (nic->stop_bell >= 0)
        close(nic->stop_bell);
    pthread_mutex_destroy(&nic->lock);
    free(nic);
}

extern const struct pw_nic_ops pw_nic_ofi;

static int ofi_open(const struct pw_nic_config *config, struct pw_nic **out)
{
    struct ofi_nic *nic;
    int err;

    if (config->queue_bytes > QUEUE_MOST)
        return -EINVAL;
    nic = calloc(1, sizeof(*nic));
    if (!nic)
        return -ENOMEM;
    nic->base.ops = &pw_nic_ofi;
    nic->up = config->up;
    nic->ctx = config->ctx;
    nic->timeout_ms = config->peer_timeout_ms ? config->peer_timeout_ms : OFI_TIMEOUT_MS;
    nic->port.wait_fd = -1;
    nic->tick_ms = ofi_ms(pw_now_ns());
    nic->ready_end = &nic->ready;
    nic->done_end = &nic->done;
    pthread_mutex_init(&nic->lock, NULL);
    nic->bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    nic->stop_bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    err = nic->bell < 0 || nic->stop_bell < 0 ? -errno : nic_start(nic, config);
    if (err) {
        nic_free(nic);
        return err;
    }
    *out = &nic->base;
    return 0;
}

static void ofi_close(struct pw_nic *base)
{
    struct ofi_nic *nic = ofi_of(base);

    ofi_thread_stop(nic);
    ofi_link_close(nic);
    nic_free(nic);
}

const struct pw_nic_ops pw_nic_ofi = {
    .name = "ofi",
    .probe = ofi_probe,
    .devices = ofi_devices,
    .open = ofi_open,
    .close = ofi_close,
    .address = ofi_address,
    .reachable = ofi_reachable,
    .connect = ofi_connect,
    .disconnect = ofi_disconnect,
    .send = ofi_send,
    .send_inline = ofi_send_inline,
    .reach = ofi_reach,
    .put = ofi_put,
    .get = ofi_get,
    .atomic = ofi_atomic,
    .pin = ofi_pin,
    .unpin = ofi_unpin,
    .progress = ofi_progress,
    .wait = ofi_wait,
};
