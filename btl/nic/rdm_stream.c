/* SPDX-License-Identifier: BSD-3-Clause */
/* rdm_stream.c - puts and gets by messages, where the library does not read memory itself.
 *
 *     put     PUT messages with a piece each, all answered
 *     get     GET names memory; its owner, whose service thread hears of it where the program
 *             computes, sends GET_DATA with a piece each
 *
 * Pieces are messages in order and take room in the window, so they are sent as the peer
 * deals with them. They are copied from and to the user's memory under nic->guard, with the
 * pin looked at each time: who has unpinned memory finds nobody in it. A piece that comes
 * late finds no operation and is dropped, so nothing has to be taken back from a library when
 * a peer is lost.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rdm.h"

enum {
    PUT_PIECE = RDM_MESSAGE_MAX - sizeof(struct rdm_head) - sizeof(struct rdm_put_head),
    GET_PIECE = RDM_MESSAGE_MAX - sizeof(struct rdm_head) - sizeof(struct rdm_get_data),
    SERVES_MOST = 4096,         /* gets of one peer; the core asks for far fewer at a time */
};

static size_t piece_of(size_t left, size_t most)
{
    return left < most ? left : most;
}

static void count_copied(struct rdm_nic *nic, size_t len)
{
    __atomic_fetch_add(&nic->base.counts.wire_copied, len, __ATOMIC_RELAXED);
}

/* ---- put ---- */

static bool put_unsent(const struct rdm_op *op)
{
    return op->put && op->at < op->len && !op->status;
}

static int put_step(struct rdm_peer *peer)
{
    struct rdm_head head = { .kind = RDM_PUT };
    struct rdm_op *op = peer->ops;
    struct rdm_put_head to;
    struct pw_iov iov[2] = { { &to, sizeof(to) } };
    int err;

    while (!put_unsent(op))
        op = op->next;
    to = (struct rdm_put_head){ .addr = op->remote + op->at, .id = op->id,
                                .place = op->place, .key = op->key };
    iov[1] = (struct pw_iov){ op->local + op->at, piece_of(op->len - op->at, PUT_PIECE) };
    err = rdm_ordered_now(peer, &head, iov, 2);
    if (err)
        return err;
    op->at += iov[1].len;
    op->unanswered++;
    peer->n_puts -= op->at == op->len;
    count_copied(rdm_nic_of(peer), iov[1].len);
    return 0;
}

bool rdm_stream_put_done(struct rdm_op *op, int status)
{
    struct rdm_peer *peer = op->c.peer;

    if (!op->unanswered)
        return false;           /* nothing was asked */
    op->unanswered--;
    if (status && !op->status) {
        peer->n_puts -= put_unsent(op);
        op->status = status < 0 ? status : -EPROTO;
    }
    if (!op->unanswered && !put_unsent(op))
        rdm_op_done(op, op->status);
    return true;
}

/* ---- get ---- */

int rdm_stream_get(struct rdm_peer *peer, struct rdm_op *op)
{
    struct rdm_get get = {
        .head = rdm_control(peer, RDM_GET),
        .addr = op->remote, .len = op->len, .key = op->key, .place = op->place,
    };

    get.id = op->id = rdm_id_next(rdm_nic_of(peer));
    op->get = true;
    return rdm_message(peer, &get, sizeof(get));
}

static struct rdm_op *get_named(struct rdm_peer *peer, uint32_t id)
{
    struct rdm_op *op = peer->ops;

    while (op && !(op->get && op->id == id))
        op = op->next;
    return op;
}

bool rdm_get_data_heard(struct rdm_peer *peer, const struct rdm_rx *rx)
{
    const struct rdm_get_data *data = (const void *)(rx->bytes + sizeof(struct rdm_head));
    size_t head = sizeof(struct rdm_head) + sizeof(*data), len;
    struct rdm_op *op;

    if (rx->len < head || !rdm_nic_of(peer)->streams)
        return false;
    op = get_named(peer, data->id);
    if (!op)
        return true;
    if (data->status) {
        rdm_op_done(op, data->status < 0 ? data->status : -EPROTO);
        return true;
    }
    len = rx->len - head;
    if (data->at != op->landed || !len || len > op->len - op->landed)
        return false;
    memcpy(op->local + op->landed, data + 1, len);
    op->landed += len;
    count_copied(rdm_nic_of(peer), len);
    if (op->landed == op->len)
        rdm_op_done(op, 0);
    return true;
}

/* ---- gets of peers ---- */

bool rdm_get_heard(struct rdm_peer *peer, const struct rdm_rx *rx)
{
    const struct rdm_get *get = (const void *)rx->bytes;
    struct rdm_nic *nic = rdm_nic_of(peer);
    struct rdm_serve *serve, **at = &peer->serves;

    if (rx->len != sizeof(*get) || !get->len || !nic->streams ||
        peer->n_serves == SERVES_MOST)
        return false;
    serve = calloc(1, sizeof(*serve));
    if (!serve) {
        rdm_peer_lost(peer, -ENOMEM, "there is no memory to answer it");
        return true;
    }
    serve->pin = rdm_pin_named(nic, get->place, get->key, get->addr, get->len,
                               PW_READ);
    serve->id = get->id;
    serve->addr = get->addr;
    serve->len = get->len;
    if (serve->pin)
        serve->pin->users++;
    while (*at)
        at = &(*at)->next;
    *at = serve;
    peer->n_serves++;
    return true;
}

static void serve_end(struct rdm_peer *peer)
{
    struct rdm_serve *serve = peer->serves;

    peer->serves = serve->next;
    peer->n_serves--;
    if (serve->pin)
        rdm_pin_release(rdm_nic_of(peer), serve->pin);
    free(serve);
}

static int serve_step(struct rdm_peer *peer)
{
    struct rdm_serve *serve = peer->serves;
    struct rdm_head head = { .kind = RDM_GET_DATA };
    struct rdm_get_data data = { .id = serve->id, .at = serve->at };
    struct pw_iov iov[2] = { { &data, sizeof(data) } };
    int err;

    if (!serve->pin || serve->pin->closing)
        data.status = -EFAULT;
    else
        iov[1] = (struct pw_iov){ (const uint8_t *)(uintptr_t)serve->addr + serve->at,
                                  piece_of(serve->len - serve->at, GET_PIECE) };
    err = rdm_ordered_now(peer, &head, iov, data.status ? 1 : 2);
    if (err)
        return err;
    serve->at += iov[1].len;
    count_copied(rdm_nic_of(peer), iov[1].len);
    if (data.status || serve->at == serve->len)
        serve_end(peer);
    return 0;
}

/* ---- both ---- */

void rdm_stream(struct rdm_peer *peer)
{
    int err = 0;

    while (!err && peer->state == RDM_UP && (peer->serves || peer->n_puts)) {
        if (peer->n_puts)
            err = put_step(peer);
        if (!err && peer->serves)
            err = serve_step(peer);
    }
}

void rdm_stream_end(struct rdm_peer *peer)
{
    while (peer->serves)
        serve_end(peer);
    peer->n_puts = 0;
}
