/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_port.c - what is opened of one port: queues, and the queue pair for letters.
 *
 * All ways and the letters share one completion queue and its channel, all ways one queue of
 * receive buffers. The completion queue never overruns: it has room for each buffer that may
 * be posted and each work request that may be under way.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "verbs.h"
#include "pinwheel/clock.h"

enum { LETTERS_BYTES = (VERBS_LETTERS_IN + VERBS_LETTERS_OUT) * VERBS_LETTER_ROOM };

/* Where a port has several LIDs a subnet manager has made a way for each. A queue pair hears
 * its peer by the LID that it was connected to, and no other, so both sides are to find the
 * same: a number of the pair says which of its LIDs each of the two has for the other. */
static uint64_t pair_number(const struct verbs_name *a, const struct verbs_name *b)
{
    return rdm_hash(RDM_HASH_BEGIN, a, sizeof(*a)) ^ rdm_hash(RDM_HASH_BEGIN, b, sizeof(*b));
}

static uint16_t path_bits(const struct verbs_name *name, uint64_t pair)
{
    return (uint16_t)((pair ^ pair >> 32) & ((1u << name->lmc) - 1));
}

void verbs_route_fill(const struct verbs_nic *nic, const struct rdm_address *to,
                      struct ibv_ah_attr *out)
{
    const struct verbs_name *own = verbs_name_of(&nic->base.address);
    const struct verbs_name *name = verbs_name_of(to);
    uint64_t pair = pair_number(own, name);

    memset(out, 0, sizeof(*out));
    out->port_num = nic->found.port;
    out->dlid = (uint16_t)(name->lid + path_bits(name, pair));
    out->src_path_bits = (uint8_t)path_bits(own, pair);
    out->is_global = nic->found.gid.link != VERBS_INFINIBAND ||
                     nic->found.attr.flags & IBV_QPF_GRH_REQUIRED;
    memcpy(out->grh.dgid.raw, name->gid, sizeof(name->gid));
    out->grh.sgid_index = (uint8_t)nic->found.gid.index;
    out->grh.hop_limit = VERBS_HOPS;
}

/* ---- the queue pair for letters ---- */

int verbs_letters_begin(struct verbs_nic *nic, uint32_t q_key)
{
    struct ibv_qp_attr attr = { .qp_state = IBV_QPS_INIT, .port_num = nic->found.port,
                                .pkey_index = (uint16_t)verbs_settings.pkey_index,
                                .qkey = q_key };
    int err = nic->lib->modify_qp(nic->ud, &attr, IBV_QP_STATE | IBV_QP_PKEY_INDEX |
                                  IBV_QP_PORT | IBV_QP_QKEY);

    attr.qp_state = IBV_QPS_RTR;
    if (!err)
        err = nic->lib->modify_qp(nic->ud, &attr, IBV_QP_STATE);
    attr.qp_state = IBV_QPS_RTS;
    if (!err)
        err = nic->lib->modify_qp(nic->ud, &attr, IBV_QP_STATE | IBV_QP_SQ_PSN);
    for (unsigned i = 0; !err && i < VERBS_LETTERS_IN; i++)
        err = -verbs_letter_post(nic, i);
    return -err;
}

static int ud_open(struct verbs_nic *nic, uint32_t q_key)
{
    struct ibv_qp_init_attr attr = {
        .send_cq = nic->cq, .recv_cq = nic->cq, .qp_type = IBV_QPT_UD, .sq_sig_all = 1,
        .cap = { .max_send_wr = VERBS_LETTERS_OUT, .max_recv_wr = VERBS_LETTERS_IN,
                 .max_send_sge = 1, .max_recv_sge = 1 },
    };

    nic->letters = mmap(NULL, LETTERS_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (nic->letters == MAP_FAILED) {
        nic->letters = NULL;
        return -ENOMEM;
    }
    nic->letters_mr = nic->lib->reg_mr(nic->pd, nic->letters, LETTERS_BYTES,
                                       IBV_ACCESS_LOCAL_WRITE);
    nic->ud = nic->letters_mr ? nic->lib->create_qp(nic->pd, &attr) : NULL;
    if (!nic->ud)
        return errno ? -errno : -EIO;
    return verbs_letters_begin(nic, q_key);
}

/* ---- queues ---- */

static int fd_settle(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) ? -errno : 0;
}

static int fd_watch(int epoll, int fd)
{
    struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

static int sleep_open(struct verbs_nic *nic)
{
    int err;

    nic->channel = nic->lib->create_comp_channel(nic->context);
    if (!nic->channel)
        return errno ? -errno : -EIO;
    nic->wait_fd = epoll_create1(EPOLL_CLOEXEC);
    if (nic->wait_fd < 0)
        return -errno;
    err = fd_watch(nic->wait_fd, nic->router.bell);
    if (!err)
        err = fd_settle(nic->channel->fd);
    if (!err)
        err = fd_settle(nic->context->async_fd);
    if (!err)
        err = fd_watch(nic->wait_fd, nic->channel->fd);
    return err ? err : fd_watch(nic->wait_fd, nic->context->async_fd);
}

static unsigned at_most(int limit, unsigned want)
{
    return limit > 0 && (unsigned)limit < want ? (unsigned)limit : want;
}

static int queues_open(struct verbs_nic *nic)
{
    const struct ibv_device_attr *limits = &nic->found.limits;
    unsigned receives = at_most(limits->max_srq_wr, VERBS_RECEIVES);
    unsigned entries = receives + VERBS_SENDS_ALL + VERBS_LETTERS_IN + VERBS_LETTERS_OUT;
    struct ibv_srq_init_attr srq = { .attr = { .max_wr = receives, .max_sge = 1 } };

    if (limits->max_cqe > 0 && entries > (unsigned)limits->max_cqe)
        return -EOPNOTSUPP;
    nic->cq = nic->lib->create_cq(nic->context, (int)entries, NULL, nic->channel, 0);
    if (!nic->cq)
        return errno ? -errno : -EIO;
    nic->srq = nic->lib->create_srq(nic->pd, &srq);
    return nic->srq ? 0 : errno ? -errno : -EIO;
}

static void name_fill(struct verbs_nic *nic, uint32_t q_key)
{
    struct rdm_address *a = &nic->base.address;
    struct verbs_name *name = (void *)a->name;

    *name = (struct verbs_name){
        .qpn = nic->ud->qp_num, .q_key = q_key, .lid = nic->found.attr.lid,
        .link = (uint8_t)nic->found.gid.link, .mtu = (uint8_t)nic->found.attr.active_mtu,
    };
    if (name->link == VERBS_INFINIBAND)
        name->lmc = nic->found.attr.lmc & VERBS_LMC_MOST;
    memcpy(name->gid, nic->found.gid.bytes, sizeof(name->gid));
    a->name_len = sizeof(*name);
    a->protocol = VERBS_VERSION;
    a->format = (uint32_t)nic->found.gid.link;
}

/* The highest bit of a Q_Key is for the privileged (InfiniBand, 10.2.5). */
static int q_key_draw(uint32_t *out)
{
    if (getrandom(out, sizeof(*out), 0) != (ssize_t)sizeof(*out))
        return -EIO;
    *out &= 0x7fffffff;
    return 0;
}

int verbs_port_open(struct verbs_nic *nic, char why[PW_NIC_WHY_MAX])
{
    const char *what = "a protection domain";
    uint32_t q_key = 0;
    int err = q_key_draw(&q_key);

    errno = 0;
    nic->pd = nic->lib->alloc_pd(nic->context);
    if (!err)
        err = nic->pd ? 0 : errno ? -errno : -EIO;
    if (!err) {
        what = "a completion channel";
        err = sleep_open(nic);
    }
    if (!err) {
        what = "queues";
        err = queues_open(nic);
    }
    if (!err) {
        what = "a queue pair for datagrams";
        err = ud_open(nic, q_key);
    }
    if (err)
        snprintf(why, PW_NIC_WHY_MAX, "%s gives no %s: %s", nic->found.name,
                 what + 2 * !strncmp(what, "a ", 2), strerror(-err));
    else
        name_fill(nic, q_key);
    return err;
}

/* Letters are to leave, and what ways had under way is to end. */
static void port_drain(struct verbs_nic *nic)
{
    uint64_t until = rdm_ms(pw_now_ns()) + VERBS_DRAIN_MS;
    bool left;

    do {
        left = false;
        verbs_poll(&nic->base);
        for (const struct verbs_way *way = nic->ways; way; way = way->next)
            left = left || !way->closed;
    } while (left && rdm_ms(pw_now_ns()) < until);
}

static void letters_close(struct verbs_nic *nic)
{
    if (nic->ud)
        nic->lib->destroy_qp(nic->ud);
    if (nic->letters_mr)
        nic->lib->dereg_mr(nic->letters_mr);
    if (nic->letters)
        munmap(nic->letters, LETTERS_BYTES);
    nic->ud = NULL;
    nic->letters_mr = NULL;
    nic->letters = NULL;
}

void verbs_port_close(struct rdm_nic *base)
{
    struct verbs_nic *nic = verbs_of(base);

    if (!nic->lib)
        return;                 /* nothing was opened */
    nic->closing = true;
    if (nic->ways) {
        verbs_ways_fail(nic, 0);
        port_drain(nic);
    }
    verbs_ways_free(nic);
    verbs_router_close(nic);
    letters_close(nic);
    if (nic->srq)
        nic->lib->destroy_srq(nic->srq);
    if (nic->cq)
        nic->lib->destroy_cq(nic->cq);
    if (nic->channel)
        nic->lib->destroy_comp_channel(nic->channel);
    if (nic->wait_fd >= 0)
        close(nic->wait_fd);
    nic->srq = NULL;
    nic->cq = NULL;
    nic->channel = NULL;
    nic->wait_fd = -1;
}

/* ---- events ---- */

static void event_heard(struct verbs_nic *nic, const struct ibv_async_event *event)
{
    switch (event->event_type) {
    case IBV_EVENT_QP_FATAL:
    case IBV_EVENT_QP_REQ_ERR:
    case IBV_EVENT_QP_ACCESS_ERR:
    case IBV_EVENT_PATH_MIG_ERR:
        if (event->element.qp->qp_context)
            verbs_way_fail(event->element.qp->qp_context, ECONNRESET);
        break;
    case IBV_EVENT_QP_LAST_WQE_REACHED:
        if (event->element.qp->qp_context)
            ((struct verbs_way *)event->element.qp->qp_context)->last = true;
        break;
    case IBV_EVENT_GID_CHANGE:
        verbs_gid_follow(nic->lib, nic->context, &nic->found);
        break;
    case IBV_EVENT_PORT_ERR:
        if (event->element.port_num == nic->found.port)
            verbs_ways_fail(nic, ENETDOWN);
        break;
    case IBV_EVENT_CQ_ERR:
    case IBV_EVENT_SRQ_ERR:
        nic->fatal = EOVERFLOW;
        verbs_ways_fail(nic, EOVERFLOW);
        break;
    case IBV_EVENT_DEVICE_FATAL:
        nic->fatal = ENODEV;
        verbs_ways_fail(nic, ENODEV);
        break;
    default:
        break;
    }
}

void verbs_events_read(struct verbs_nic *nic)
{
    struct ibv_async_event event;

    while (!nic->lib->get_async_event(nic->context, &event)) {
        event_heard(nic, &event);
        nic->lib->ack_async_event(&event);
    }
}

/* ---- sleeping ---- */

static void bells_hear(struct verbs_nic *nic)
{
    struct epoll_event rung[3];
    int n = epoll_wait(nic->wait_fd, rung, 3, 0);
    struct ibv_cq *cq;
    void *context;

    for (int i = 0; i < n; i++) {
        if (rung[i].data.fd == nic->context->async_fd)
            verbs_events_read(nic);
        else if (rung[i].data.fd == nic->channel->fd)
            while (!nic->lib->get_cq_event(nic->channel, &cq, &context))
                nic->lib->ack_cq_events(cq, 1);
    }
}

/* What comes before the queue is armed rings no bell, so it is looked at once more. */
int verbs_arm(struct rdm_nic *base)
{
    struct verbs_nic *nic = verbs_of(base);

    bells_hear(nic);
    verbs_routes_made(nic);
    if (nic->fatal || ibv_req_notify_cq(nic->cq, 0))
        return -1;
    return rdm_poll(base) ? -EAGAIN : nic->wait_fd;
}
