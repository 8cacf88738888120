/* SPDX-License-Identifier: BSD-3-Clause */
/* rdm_send.c - messages out.
 *
 * A message is put together in a buffer of ours, or on the stack where the library takes it
 * at once (inject), so the caller's memory is its own again when send returns.
 *
 * Messages in order are numbered, whatever the library says about order: one that is lost
 * when it connects anew by itself is noticed by the number. The peer may have
 * RDM_WINDOW of them unread, and RDM_WINDOW_BYTES, for libraries keep what nobody receives
 * in memory without a bound; it tells in every message how many it has dealt with.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "rdm.h"

enum { SHORT = 512 };           /* a message of so many bytes may be on the stack */

static size_t iov_sum(const struct pw_iov *iov, int n)
{
    size_t len = 0;

    for (int i = 0; i < n; i++)
        len += iov[i].len;
    return len;
}

static void iov_copy(uint8_t *to, const struct pw_iov *iov, int n)
{
    for (; n > 0; n--, iov++) {
        if (iov->len)
            memcpy(to, iov->base, iov->len);
        to += iov->len;
    }
}

/* What a message is put together of: a head, or NULL, and the bytes behind it. */
struct parts {
    const struct rdm_head *head;
    const struct pw_iov *iov;
    int n;
    size_t len;                 /* of all */
};

static void parts_copy(uint8_t *to, const struct parts *m)
{
    if (m->head) {
        memcpy(to, m->head, sizeof(*m->head));
        to += sizeof(*m->head);
    }
    iov_copy(to, m->iov, m->n);
}

/* 0, -EAGAIN, or another error of the library's, negative. */
static int post_short(struct rdm_peer *peer, const struct parts *m)
{
    uint8_t bytes[SHORT];

    parts_copy(bytes, m);
    return rdm_nic_of(peer)->driver->inject(peer, bytes, m->len);
}

__attribute__((noinline))
static int post_long(struct rdm_peer *peer, const struct parts *m)
{
    struct rdm_nic *nic = rdm_nic_of(peer);
    struct rdm_tx *tx = rdm_tx_get(nic, m->len <= RDM_INLINE);
    int err;

    if (!tx)
        return -EAGAIN;
    parts_copy(tx->bytes, m);
    tx->c.peer = peer;
    peer->tx++;
    err = nic->driver->send(peer, tx, m->len);
    if (err) {
        peer->tx--;
        rdm_tx_put(nic, tx);
    }
    return err;
}

static int post(struct rdm_peer *peer, const struct parts *m)
{
    struct rdm_nic *nic = rdm_nic_of(peer);
    int err = -EMSGSIZE;

    if (nic->broken)
        return -EAGAIN;
    if (!peer->there)
        return -EPIPE;
    if (m->len <= SHORT && m->len <= nic->inject_most)
        err = post_short(peer, m);
    if (err == -EMSGSIZE)
        err = post_long(peer, m);
    if (!err) {
        __atomic_fetch_add(&nic->base.counts.wire_bytes, m->len, __ATOMIC_RELAXED);
        return 0;
    }
    if (err == -EAGAIN)
        return -EAGAIN;
    rdm_peer_failed(peer, -err);
    return -EPIPE;
}

struct rdm_head rdm_control(const struct rdm_peer *peer, uint16_t kind)
{
    return (struct rdm_head){ .kind = kind, .slot = peer->its_slot, .seq = peer->sent,
                              .consumed = peer->consumed, .imm = peer->answers,
                              .token = peer->its_token };
}

int rdm_message(struct rdm_peer *peer, const void *data, size_t len)
{
    struct pw_iov iov = { data, len };

    return post(peer, &(struct parts){ .iov = &iov, .n = 1, .len = len });
}

/* ---- in order ---- */

static void window_forget(struct rdm_peer *peer)
{
    for (uint32_t i = peer->acked; i != peer->sent; i++)
        peer->bytes_out -= peer->bytes[i % RDM_WINDOW];
    peer->acked = peer->sent;
}

static bool window_open(const struct rdm_peer *peer)
{
    return peer->sent - peer->acked < RDM_WINDOW && peer->bytes_out < RDM_WINDOW_BYTES;
}

static int ordered_post(struct rdm_peer *peer, struct rdm_head *head, const struct parts *m)
{
    int err;

    head->slot = peer->its_slot;
    head->token = peer->its_token;
    head->seq = peer->sent;
    head->consumed = peer->consumed;
    err = post(peer, m);
    if (err)
        return err;
    peer->told = head->consumed;
    peer->untold_bytes = 0;
    peer->owe_ack = false;
    peer->asked += head->kind == RDM_PUT || head->kind == RDM_FETCH;
    peer->bytes[peer->sent % RDM_WINDOW] = (uint32_t)m->len;
    peer->bytes_out += (uint32_t)m->len;
    peer->sent++;
    return 0;
}

static int ordered_now(struct rdm_peer *peer, struct rdm_head *head, const struct parts *m)
{
    if (peer->state == RDM_CALLING)
        return -EAGAIN;
    if (peer->state != RDM_UP)
        return -EPIPE;
    return window_open(peer) ? ordered_post(peer, head, m) : -EAGAIN;
}

/* Room comes by looking only. */
static int ordered(struct rdm_peer *peer, struct rdm_head *head, const struct parts *m)
{
    int err;

    if (peer->state == RDM_UP && !window_open(peer))
        rdm_poll(rdm_nic_of(peer));
    err = ordered_now(peer, head, m);
    if (err == -EAGAIN && peer->state == RDM_UP && rdm_poll(rdm_nic_of(peer)))
        err = ordered_now(peer, head, m);
    return err;
}

static struct parts parts_of(const struct rdm_head *head, const struct pw_iov *iov, int n)
{
    return (struct parts){ head, iov, n, sizeof(*head) + iov_sum(iov, n) };
}

int rdm_ordered_now(struct rdm_peer *peer, struct rdm_head *head, const struct pw_iov *iov,
                    int n)
{
    const struct parts m = parts_of(head, iov, n);

    return ordered_now(peer, head, &m);
}

int rdm_ordered(struct rdm_peer *peer, struct rdm_head *head, const struct pw_iov *iov,
                int n)
{
    const struct parts m = parts_of(head, iov, n);

    return ordered(peer, head, &m);
}

/* All of it in one: each message goes through here. */
__attribute__((flatten))
int rdm_send(struct pw_nic_peer *base, uint32_t imm, const struct pw_iov *iov, int n,
             void *op)
{
    struct rdm_peer *peer = (struct rdm_peer *)base;
    struct rdm_nic *nic = rdm_nic_of(peer);
    struct rdm_head head = { .kind = RDM_DATA, .imm = imm };
    const struct parts m = parts_of(&head, iov, n);
    size_t len = m.len - sizeof(head);
    int err;

    (void)op;
    if (len > nic->base.info.frame_max)
        return -EMSGSIZE;
    rdm_lock(&nic->guard);
    if (rdm_stream_puts(peer))
        rdm_poll(nic);
    err = rdm_stream_puts(peer) ? -EAGAIN : ordered(peer, &head, &m);
    rdm_unlock(&nic->guard);
    if (!err)
        __atomic_fetch_add(&nic->base.counts.wire_copied, len, __ATOMIC_RELAXED);
    return err;
}

int rdm_send_inline(struct pw_nic_peer *base, uint32_t imm, const void *data, size_t len)
{
    struct pw_iov iov = { data, len };

    if (len > base->nic->info.inline_max)
        return -EMSGSIZE;
    return rdm_send(base, imm, &iov, 1, NULL);
}

/* ---- what is owed ---- */

static int pay_kind(struct rdm_peer *peer, uint16_t kind)
{
    struct rdm_head head = rdm_control(peer, kind);
    int err = rdm_message(peer, &head, sizeof(head));

    if (!err) {
        peer->told = head.consumed;
        peer->untold_bytes = 0;
    }
    return err;
}

static void pay_puts(struct rdm_peer *peer)
{
    while (peer->owed) {
        struct rdm_owed *owed = peer->owed;

        if (rdm_put_answer(peer, owed->id, owed->status))
            return;
        peer->owed = owed->next;
        rdm_consumed(peer, owed->bytes);
        free(owed);
    }
}

/* A bye comes after everything, the window does not hold it up. */
static void pay_bye(struct rdm_peer *peer)
{
    struct rdm_head head = { .kind = RDM_BYE };
    int err;

    if (peer->sent - peer->acked >= RDM_WINDOW)
        window_forget(peer);
    err = ordered_post(peer, &head, &(struct parts){ .head = &head, .len = sizeof(head) });
    if (err == -EAGAIN)
        return;
    peer->owe_bye = false;
    peer->bye_sent = !err;
    peer->bye_done = err != 0;
}

void rdm_pay(struct rdm_peer *peer)
{
    if (peer->owe_hello && (peer->state == RDM_CALLING || peer->state == RDM_UP))
        rdm_hello_send(peer, peer->state == RDM_UP ? RDM_WELCOME : RDM_HELLO);
    if (!peer->its_token)
        return;
    if (peer->owed)
        pay_puts(peer);
    if (peer->owe_ack && (peer->state == RDM_UP || peer->state == RDM_LEAVING) &&
        !pay_kind(peer, RDM_ACK))
        peer->owe_ack = false;
    if (peer->owe_bye)
        pay_bye(peer);
    if (peer->owe_bye_done && pay_kind(peer, RDM_BYE_DONE) != -EAGAIN)
        peer->owe_bye_done = false;
}
