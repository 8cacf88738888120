/* SPDX-License-Identifier: BSD-3-Clause */
/* ofi_send.c - messages out.
 *
 * A message is put together in a buffer of ours, or on the stack where the provider takes it
 * at once (fi_inject), so the caller's memory is its own again when send returns.
 *
 * Messages in order are numbered, whatever the provider says about order: one that is lost
 * when a provider connects anew by itself is noticed by the number. The peer may have
 * OFI_WINDOW of them unread, and OFI_WINDOW_BYTES, for providers keep what has no receive
 * posted in memory without a bound; it tells in every message how many it has dealt with.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "ofi.h"

static size_t iov_sum(const struct pw_iov *iov, int n)
{
    size_t len = 0;

    for (int i = 0; i < n; i++)
        len += iov[i].len;
    return len;
}

static void iov_copy(uint8_t *to, const struct pw_iov *iov, int n)
{
    for (int i = 0; i < n; i++) {
        if (iov[i].len)
            memcpy(to, iov[i].base, iov[i].len);
        to += iov[i].len;
    }
}

/* 0, -EAGAIN, or another error of libfabric's, negative. */
static int post_short(struct ofi_peer *peer, const struct pw_iov *iov, int n, size_t len)
{
    enum { SHORT = 512 };
    struct ofi_nic *nic = ofi_nic_of(peer);
    uint8_t bytes[SHORT];

    if (len > SHORT || len > nic->domain.info->tx_attr->inject_size)
        return -EMSGSIZE;
    iov_copy(bytes, iov, n);
    return (int)fi_inject(nic->port.ep, bytes, len, peer->to);
}

static int post_long(struct ofi_peer *peer, const struct pw_iov *iov, int n, size_t len)
{
    struct ofi_nic *nic = ofi_nic_of(peer);
    struct ofi_tx *tx = ofi_tx_get(nic);
    int err;

    if (!tx)
        return -EAGAIN;
    iov_copy(tx->bytes, iov, n);
    tx->c.peer = peer;
    err = (int)fi_send(nic->port.ep, tx->bytes, len, ofi_desc(tx->slab->mr), peer->to, tx);
    if (err)
        ofi_tx_put(nic, tx);
    else
        peer->tx++;
    return err;
}

static int post(struct ofi_peer *peer, const struct pw_iov *iov, int n)
{
    struct ofi_nic *nic = ofi_nic_of(peer);
    size_t len = iov_sum(iov, n);
    int err;

    if (nic->broken)
        return -EAGAIN;
    if (peer->to == FI_ADDR_UNSPEC)
        return -EPIPE;
    err = post_short(peer, iov, n, len);
    if (err == -EMSGSIZE)
        err = post_long(peer, iov, n, len);
    if (!err) {
        __atomic_fetch_add(&nic->base.counts.wire_bytes, len, __ATOMIC_RELAXED);
        return 0;
    }
    if (err == -FI_EAGAIN)
        return -EAGAIN;
    ofi_peer_failed(peer, -err);
    return -EPIPE;
}

int ofi_message(struct ofi_peer *peer, const void *data, size_t len)
{
    struct pw_iov iov = { data, len };

    return post(peer, &iov, 1);
}

/* ---- in order ---- */

static void window_forget(struct ofi_peer *peer)
{
    for (uint32_t i = peer->acked; i != peer->sent; i++)
        peer->bytes_out -= peer->bytes[i % OFI_WINDOW];
    peer->acked = peer->sent;
}

static bool window_open(const struct ofi_peer *peer)
{
    return peer->sent - peer->acked < OFI_WINDOW && peer->bytes_out < OFI_WINDOW_BYTES;
}

static int ordered_post(struct ofi_peer *peer, struct ofi_head *head,
                        const struct pw_iov *iov, int n)
{
    struct pw_iov all[6] = { { head, sizeof(*head) } };
    size_t len;
    int err;

    for (int i = 0; i < n; i++)
        all[i + 1] = iov[i];
    head->slot = peer->its_slot;
    head->token = peer->its_token;
    head->seq = peer->sent;
    head->consumed = peer->consumed;
    err = post(peer, all, n + 1);
    if (err)
        return err;
    len = iov_sum(all, n + 1);
    peer->told = head->consumed;
    peer->owe_ack = false;
    peer->bytes[peer->sent % OFI_WINDOW] = (uint32_t)len;
    peer->bytes_out += (uint32_t)len;
    peer->sent++;
    return 0;
}

int ofi_ordered(struct ofi_peer *peer, struct ofi_head *head, const struct pw_iov *iov,
                int n)
{
    int err;

    if (peer->state == OFI_CALLING)
        return -EAGAIN;
    if (peer->state != OFI_UP)
        return -EPIPE;
    if (!window_open(peer)) {
        ofi_poll(ofi_nic_of(peer));
        if (peer->state != OFI_UP)
            return -EPIPE;
        if (!window_open(peer))
            return -EAGAIN;
    }
    err = ordered_post(peer, head, iov, n);
    if (err == -EAGAIN)
        ofi_poll(ofi_nic_of(peer));     /* room comes by progress only */
    return err;
}

int ofi_send(struct pw_nic_peer *base, uint32_t imm, const struct pw_iov *iov, int n,
             void *op)
{
    struct ofi_peer *peer = (struct ofi_peer *)base;
    struct ofi_nic *nic = ofi_nic_of(peer);
    struct ofi_head head = { .kind = OFI_DATA, .imm = imm };
    size_t len = iov_sum(iov, n);
    int err;

    (void)op;
    if (len > nic->base.info.frame_max)
        return -EMSGSIZE;
    pthread_mutex_lock(&nic->lock);
    err = ofi_ordered(peer, &head, iov, n);
    pthread_mutex_unlock(&nic->lock);
    if (!err)
        __atomic_fetch_add(&nic->base.counts.wire_copied, len, __ATOMIC_RELAXED);
    return err;
}

int ofi_send_inline(struct pw_nic_peer *base, uint32_t imm, const void *data, size_t len)
{
    struct pw_iov iov = { data, len };

    if (len > base->nic->info.inline_max)
        return -EMSGSIZE;
    return ofi_send(base, imm, &iov, 1, NULL);
}

/* ---- what is owed ---- */

static int pay_kind(struct ofi_peer *peer, uint16_t kind)
{
    struct ofi_head head = { .kind = kind, .slot = peer->its_slot,
                             .token = peer->its_token, .consumed = peer->consumed };
    int err = ofi_message(peer, &head, sizeof(head));

    if (!err)
        peer->told = head.consumed;
    return err;
}

static void pay_puts(struct ofi_peer *peer)
{
    while (peer->owed) {
        struct ofi_owed *owed = peer->owed;

        owed->done.head.consumed = peer->consumed;
        if (ofi_message(peer, &owed->done, sizeof(owed->done)))
            return;
        peer->owed = owed->next;
        free(owed);
    }
}

/* A bye comes after everything, the window does not hold it up. */
static void pay_bye(struct ofi_peer *peer)
{
    struct ofi_head head = { .kind = OFI_BYE };
    int err;

    if (peer->sent - peer->acked >= OFI_WINDOW)
        window_forget(peer);
    err = ordered_post(peer, &head, NULL, 0);
    if (err == -EAGAIN)
        return;
    peer->owe_bye = false;
    peer->bye_sent = !err;
    peer->bye_done = err != 0;
}

void ofi_pay(struct ofi_peer *peer)
{
    if (peer->owe_hello && (peer->state == OFI_CALLING || peer->state == OFI_UP))
        ofi_hello_send(peer, peer->state == OFI_UP ? OFI_WELCOME : OFI_HELLO);
    if (!peer->its_token)
        return;
    if (peer->owed)
        pay_puts(peer);
    if (peer->owe_ack && (peer->state == OFI_UP || peer->state == OFI_LEAVING) &&
        !pay_kind(peer, OFI_ACK))
        peer->owe_ack = false;
    if (peer->owe_bye)
        pay_bye(peer);
    if (peer->owe_bye_done && pay_kind(peer, OFI_BYE_DONE) != -EAGAIN)
        peer->owe_bye_done = false;
}
