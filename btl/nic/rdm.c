/* SPDX-License-Identifier: BSD-3-Clause */
/* rdm.c - open and close what rdm.h describes, and its reset.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "pinwheel/clock.h"
#include "rdm.h"

#define QUEUE_MOST ((size_t)1 << 30)

void rdm_info_fill(struct pw_nic_info *info)
{
    memset(info, 0, sizeof(*info));
    info->flags = PW_NIC_ANSWERS | PW_NIC_PUT;
    info->frame_max = RDM_MESSAGE_MAX - sizeof(struct rdm_head);
    info->inline_max = RDM_INLINE;
    info->key_size = sizeof(struct rdm_key);
    info->key_room = sizeof(struct rdm_key);
}

static int nic_start(struct rdm_nic *nic, const struct pw_nic_config *config)
{
    char unread[PW_NIC_WHY_MAX], *why = config->why ? config->why : unread;
    int err = nic->driver->open(nic, config->device ? config->device->name : NULL, why);

    if (!err) {
        err = rdm_buffers_open(nic);
        if (err)
            snprintf(why, PW_NIC_WHY_MAX, "memory for its messages cannot be registered:"
                     " ulimit -l unlimited, or memlock in /etc/security/limits.conf");
    }
    if (!err)
        err = rdm_link_open(nic, config->job);
    if (!err)
        err = nic->driver->test(nic, why);
    if (!err && !nic->reads && !nic->streams) {
        nic->base.info.flags &= ~(uint32_t)PW_NIC_PUT;
        nic->base.info.key_size = 0;
    }
    if (!err && nic->reads) {
        nic->base.info.own_put_least = RDM_PUT_SHORT + 1;
        nic->base.info.own_get_least = nic->local_mr ? RDM_BOUNCE + 1 : 0;
    }
    return err ? err : rdm_thread_start(nic);
}

static void nic_free(struct rdm_nic *nic)
{
    nic->driver->port_close(nic);
    nic->broken = true;
    for (struct rdm_peer *peer = nic->peers; peer; peer = peer->next)
        rdm_ops_returned(peer);
    while (nic->peers) {
        nic->peers->there = false;
        rdm_ops_end(nic->peers, -ECANCELED);
        rdm_peer_free(nic->peers);
    }
    rdm_memory_close(nic);
    rdm_buffers_close(nic);
    nic->driver->close(nic);
    free(nic->slots);
    if (nic->bell >= 0)
        close(nic->bell);
    if (nic->stop_bell >= 0)
        close(nic->stop_bell);
    free(nic);
}

static struct rdm_nic *nic_make(const struct rdm_driver *driver,
                                const struct pw_nic_config *config)
{
    struct rdm_nic *nic = calloc(1, driver->nic_size);

    if (!nic)
        return NULL;
    nic->driver = driver;
    nic->base.ops = driver->ops;
    nic->up = config->up;
    nic->ctx = config->ctx;
    nic->distrust = config->distrust;
    nic->timeout_ms = config->peer_timeout_ms ? config->peer_timeout_ms : RDM_TIMEOUT_MS;
    nic->tick_ms = rdm_ms(pw_now_ns());
    nic->ready_end = &nic->ready;
    nic->done_end = &nic->done;
    nic->bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    nic->stop_bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return nic;
}

int rdm_open(const struct rdm_driver *driver, const struct pw_nic_config *config,
             struct pw_nic **out)
{
    struct rdm_nic *nic;
    int err;

    if (config->queue_bytes > QUEUE_MOST)
        return -EINVAL;
    nic = nic_make(driver, config);
    if (!nic)
        return -ENOMEM;
    err = nic->bell < 0 || nic->stop_bell < 0 ? -EMFILE : nic_start(nic, config);
    if (err) {
        nic_free(nic);
        return err;
    }
    *out = &nic->base;
    return 0;
}

void rdm_close(struct pw_nic *base)
{
    struct rdm_nic *nic = rdm_of(base);

    rdm_thread_stop(nic);
    rdm_link_close(nic);
    nic_free(nic);
}

bool rdm_port_reset(struct rdm_nic *nic)
{
    struct rdm_address was = nic->address;

    if (!nic->driver->port_open)
        return false;
    nic->driver->port_close(nic);
    for (struct rdm_peer *peer = nic->peers; peer; peer = peer->next) {
        rdm_ops_returned(peer);
        peer->there = false;
    }
    rdm_buffers_reclaim(nic);
    nic->broken = nic->driver->port_open(nic) ||
                  memcmp(&nic->address, &was, sizeof(was)) != 0;
    nic->address = was;
    if (!nic->broken)
        rdm_rx_retry(nic);
    __atomic_fetch_add(&nic->base.counts.reconnects, 1, __ATOMIC_RELAXED);
    return true;
}
