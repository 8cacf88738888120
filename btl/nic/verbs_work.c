/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_work.c - what is posted, what has ended.
 *
 * Start at verbs_poll(). A work request is a place in its way's ring, of which its name to
 * the device is the address; one that ends takes those before it along, so small sends,
 * whose bytes the device takes at once, tell only now and then that they have ended.
 */
#include <errno.h>

#include "verbs.h"
#include "pinwheel/clock.h"

int verbs_status_errno(enum ibv_wc_status status)
{
    switch (status) {
    case IBV_WC_SUCCESS:
        return 0;
    case IBV_WC_REM_ACCESS_ERR:
        return EACCES;
    case IBV_WC_LOC_PROT_ERR:
        return EFAULT;
    case IBV_WC_RETRY_EXC_ERR:
    case IBV_WC_RESP_TIMEOUT_ERR:
        return ETIMEDOUT;
    case IBV_WC_RNR_RETRY_EXC_ERR:
        return ENOBUFS;
    case IBV_WC_WR_FLUSH_ERR:
        return ECONNABORTED;
    case IBV_WC_REM_INV_REQ_ERR:
    case IBV_WC_BAD_RESP_ERR:
        return EPROTO;
    case IBV_WC_REM_OP_ERR:
    case IBV_WC_REM_ABORT_ERR:
        return EREMOTEIO;
    case IBV_WC_FATAL_ERR:
        return ENODEV;
    default:
        return EIO;
    }
}

/* ---- out ---- */

/* c: ends with it, and by rdm_ended(); NULL: the device needs nothing of ours any more. */
static int work_post(struct verbs_way *way, struct ibv_send_wr *wr, struct rdm_context *c)
{
    struct verbs_work *work = &way->works[way->posted % VERBS_SENDS];
    struct verbs_nic *nic = way->nic;
    struct ibv_send_wr *bad;
    int err;

    if (way->posted - way->retired == VERBS_SENDS || nic->sends == VERBS_SENDS_ALL)
        return -EAGAIN;
    *work = (struct verbs_work){ .way = way, .c = c, .seq = way->posted };
    wr->wr_id = (uintptr_t)work | VERBS_ID_WORK;
    if (c || way->silent + 1 >= VERBS_SIGNAL)
        wr->send_flags |= IBV_SEND_SIGNALED;
    err = ibv_post_send(way->qp, wr, &bad);
    if (err)
        return err == ENOMEM ? -EAGAIN : -err;
    way->silent = wr->send_flags & IBV_SEND_SIGNALED ? 0 : way->silent + 1;
    way->posted++;
    way->wanted_ms = 0;
    way->used = ++nic->uses;
    nic->sends++;
    return 0;
}

int verbs_flush(struct verbs_way *way)
{
    struct ibv_send_wr wr = { .opcode = IBV_WR_SEND, .send_flags = IBV_SEND_SIGNALED };
    int err = work_post(way, &wr, NULL);

    if (err && err != -EAGAIN)
        verbs_way_fail(way, -err);
    return err;
}

/* Most have one that is connected. */
static int way_of(struct rdm_peer *peer, struct verbs_way **out)
{
    *out = peer->to.pointer;
    return (*out)->state == VERBS_CONNECTED ? 0 : verbs_peer_way(peer, out);
}

__attribute__((flatten))
int verbs_inject(struct rdm_peer *peer, const void *bytes, size_t len)
{
    struct ibv_sge sge = { .addr = (uintptr_t)bytes, .length = (uint32_t)len };
    struct ibv_send_wr wr = { .sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_SEND,
                              .send_flags = IBV_SEND_INLINE };
    struct verbs_way *way;
    int err = way_of(peer, &way);

    return err ? err : work_post(way, &wr, NULL);
}

int verbs_send(struct rdm_peer *peer, struct rdm_tx *tx, size_t len)
{
    struct ibv_sge sge = { .addr = (uintptr_t)tx->bytes, .length = (uint32_t)len,
                           .lkey = ((struct ibv_mr *)tx->slab->mr)->lkey };
    struct ibv_send_wr wr = { .sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_SEND };
    struct verbs_way *way;
    int err = way_of(peer, &way);

    return err ? err : work_post(way, &wr, &tx->c);
}

int verbs_read(struct rdm_peer *peer, struct rdm_context *c, void *to, size_t len, void *mr,
               uint64_t from, uint64_t key)
{
    struct ibv_sge sge = { .addr = (uintptr_t)to, .length = (uint32_t)len,
                           .lkey = ((struct ibv_mr *)mr)->lkey };
    struct ibv_send_wr wr = { .sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_RDMA_READ,
                              .wr.rdma = { .remote_addr = from, .rkey = (uint32_t)key } };
    struct verbs_way *way;
    int err = way_of(peer, &way);

    return err ? err : work_post(way, &wr, c);
}

int verbs_post(struct rdm_nic *base, struct rdm_rx *rx)
{
    struct verbs_nic *nic = verbs_of(base);
    struct ibv_sge sge = { .addr = (uintptr_t)rx->bytes, .length = RDM_MESSAGE_MAX,
                           .lkey = ((struct ibv_mr *)rx->slab->mr)->lkey };
    struct ibv_recv_wr wr = { .wr_id = (uintptr_t)rx | VERBS_ID_RX, .sg_list = &sge,
                              .num_sge = 1 }, *bad;

    if (!nic->srq || nic->closing || base->n_posted >= VERBS_RECEIVES)
        return -EAGAIN;
    return -ibv_post_srq_recv(nic->srq, &wr, &bad);
}

/* ---- what has ended ---- */

void verbs_way_retire(struct verbs_way *way, uint32_t end)
{
    uint32_t n = end - way->retired;

    if (n > way->posted - way->retired)
        return;
    way->retired = end;
    way->nic->sends -= n;
}

static void work_ended(struct verbs_nic *nic, const struct verbs_work *work, int err)
{
    struct verbs_way *way = work->way;
    struct rdm_context *c = work->c;

    if (!way->qp)
        return;                 /* it has ended with the queue pair */
    verbs_way_retire(way, work->seq + 1);
    if (err)
        verbs_way_fail(way, err);
    if (c)
        rdm_ended(&nic->base, c, 0, err);
}

/* An empty one says nothing but that it has come. */
static void rx_ended(struct verbs_nic *nic, struct rdm_rx *rx, const struct ibv_wc *wc)
{
    int err = verbs_status_errno(wc->status);

    if (nic->n_answered && !err)
        verbs_way_heard(nic, wc->qp_num);
    rdm_ended(&nic->base, &rx->c, wc->byte_len, err || wc->byte_len ? err : ENOMSG);
}

static void ended(struct verbs_nic *nic, const struct ibv_wc *wc)
{
    uint64_t id = wc->wr_id & ~(uint64_t)VERBS_ID_MASK;

    switch (wc->wr_id & VERBS_ID_MASK) {
    case VERBS_ID_WORK:
        work_ended(nic, (const struct verbs_work *)(uintptr_t)id,
                   verbs_status_errno(wc->status));
        break;
    case VERBS_ID_RX:
        rx_ended(nic, (struct rdm_rx *)(uintptr_t)id, wc);
        break;
    case VERBS_ID_LETTER_IN:
        verbs_letter_came(nic, (unsigned)(id >> 2), wc);
        break;
    default:
        verbs_letter_left(nic, (unsigned)(id >> 2), wc);
        break;
    }
}

/* What takes system calls is done when rdm's clock has moved on. Events come last: what came
 * before one of them has been polled when ways are looked after again. */
static void tend(struct verbs_nic *nic)
{
    bool moved = nic->base.tick_ms != nic->tick_ms;
    uint64_t now;

    if (!moved && !nic->n_failed && !nic->restless)
        return;
    now = rdm_ms(pw_now_ns());
    nic->tick_ms = nic->base.tick_ms;
    verbs_letters_tend(nic, now);
    verbs_ways_tend(nic, now);
    verbs_rest_tend(nic, now);
    if (moved || nic->n_failed)
        verbs_events_read(nic);
}

int verbs_poll(struct rdm_nic *base)
{
    enum { BATCH = 16, BATCHES = 4 };
    struct verbs_nic *nic = verbs_of(base);
    struct ibv_wc wc[BATCH];
    int n = 0, got = BATCH;

    for (int i = 0; i < BATCHES && got == BATCH; i++) {
        got = nic->cq ? ibv_poll_cq(nic->cq, BATCH, wc) : 0;
        for (int k = 0; k < got; k++)
            ended(nic, &wc[k]);
        n += got > 0 ? got : 0;
    }
    nic->drained = got >= 0 && got < BATCH;
    if (nic->drained)
        verbs_ways_forget(nic);
    if (got < 0 && !nic->fatal) {
        nic->fatal = EIO;
        verbs_ways_fail(nic, EIO);
    }
    verbs_routes_made(nic);
    tend(nic);
    return n;
}
