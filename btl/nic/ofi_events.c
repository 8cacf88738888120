/* SPDX-License-Identifier: BSD-3-Clause */
/* ofi_events.c - the completion queue: messages in, what has ended.
 *
 * Start at ofi_poll(). Whoever has the lock reads the queue: progress, the service thread, a
 * sender that found no room. What needs an upcall is queued for progress; the rest is done
 * here: hellos and acknowledgements, short puts and the beginning of long ones.
 */
#include <errno.h>
#include <string.h>

#include "ofi.h"
#include "pinwheel/clock.h"

void ofi_peer_ready(struct ofi_peer *peer)
{
    struct ofi_nic *nic = ofi_nic_of(peer);

    if (!peer->queued) {
        peer->queued = true;
        peer->next_ready = NULL;
        *nic->ready_end = peer;
        nic->ready_end = &peer->next_ready;
    }
    ofi_wake(nic);
}

/* A quarter of the window is told of at once, less by the next tick or message. */
void ofi_consumed(struct ofi_peer *peer)
{
    peer->consumed++;
    if (peer->consumed - peer->told >= OFI_WINDOW / 4) {
        peer->owe_ack = true;
        ofi_pay(peer);
    }
}

static void window_acked(struct ofi_peer *peer, uint32_t consumed)
{
    if (consumed - peer->acked > peer->sent - peer->acked)
        return;                 /* an older one that was overtaken, or nonsense */
    while (peer->acked != consumed)
        peer->bytes_out -= peer->bytes[peer->acked++ % OFI_WINDOW];
}

/* ---- messages in order ---- */

static void nonsense(struct ofi_peer *peer)
{
    ofi_peer_lost(peer, -EPROTO, "it has sent what no peer of ours sends");
}

/* True: rx is kept. */
static bool ordered_take(struct ofi_peer *peer, struct ofi_rx *rx)
{
    struct ofi_nic *nic = ofi_nic_of(peer);
    const struct ofi_head *head = (const void *)rx->bytes;
    bool sane = true;

    peer->expected++;
    rx->c.peer = peer;
    switch (head->kind) {
    case OFI_DATA:
        __atomic_fetch_add(&nic->base.counts.wire_copied, rx->len - sizeof(*head),
                           __ATOMIC_RELAXED);
        break;
    case OFI_PUT:
        sane = ofi_put_heard(peer, rx);
        break;
    case OFI_FETCH:
        sane = ofi_pull_heard(peer, rx);
        break;
    default:
        peer->bye_heard = true;
        peer->owe_bye_done = true;
        ofi_pay(peer);
        ofi_peer_lost(peer, 0, "it has left");
        break;
    }
    if (!sane)
        nonsense(peer);
    if (head->kind != OFI_DATA && !rx->pulling) {
        ofi_consumed(peer);
        return false;
    }
    rx->next = NULL;
    *peer->in_end = rx;
    peer->in_end = &rx->next;
    ofi_peer_ready(peer);
    return true;
}

static void early_keep(struct ofi_peer *peer, struct ofi_rx *rx, uint32_t seq)
{
    struct ofi_rx **at = &peer->early;

    if (!peer->early)
        peer->early_ms = ofi_ms(pw_now_ns());
    while (*at && (int32_t)(((const struct ofi_head *)(const void *)(*at)->bytes)->seq -
                            seq) < 0)
        at = &(*at)->next;
    rx->c.peer = peer;
    rx->next = *at;
    *at = rx;
}

static bool early_next(struct ofi_peer *peer)
{
    const struct ofi_head *head;

    if (!peer->early || peer->state != OFI_UP)
        return false;
    head = (const void *)peer->early->bytes;
    return head->seq == peer->expected;
}

static bool ordered_heard(struct ofi_peer *peer, struct ofi_rx *rx)
{
    const struct ofi_head *head = (const void *)rx->bytes;
    bool kept;

    if (peer->state != OFI_UP || (int32_t)(head->seq - peer->expected) < 0)
        return false;
    if (head->seq != peer->expected) {
        if (head->seq - peer->expected > 2 * OFI_WINDOW) {
            nonsense(peer);
            return false;
        }
        early_keep(peer, rx, head->seq);
        return true;
    }
    kept = ordered_take(peer, rx);
    while (early_next(peer)) {
        struct ofi_rx *next = peer->early;

        peer->early = next->next;
        peer->early_ms = ofi_ms(pw_now_ns());
        if (!ordered_take(peer, next))
            ofi_rx_post(ofi_nic_of(peer), next);
    }
    return kept;
}

/* ---- any message ---- */

static bool control_heard(struct ofi_peer *peer, const struct ofi_rx *rx)
{
    const struct ofi_head *head = (const void *)rx->bytes;

    switch (head->kind) {
    case OFI_ACK:
        break;
    case OFI_PING:
        peer->owe_ack = true;
        ofi_pay(peer);
        break;
    case OFI_BYE_DONE:
        peer->bye_done = true;
        break;
    case OFI_PUT_DONE:
        if (rx->len == sizeof(struct ofi_put_done))
            ofi_put_done_heard(peer, (const void *)rx->bytes);
        break;
    default:
        return false;
    }
    return true;
}

static struct ofi_peer *head_peer(const struct ofi_nic *nic, const struct ofi_rx *rx)
{
    const struct ofi_head *head = (const void *)rx->bytes;
    struct ofi_peer *peer;

    if (rx->len < sizeof(*head) || head->slot >= nic->n_slots)
        return NULL;
    peer = nic->slots[head->slot];
    return peer && peer->token == head->token && peer->its_token ? peer : NULL;
}

/* True: rx is kept. */
static bool message_heard(struct ofi_nic *nic, struct ofi_rx *rx)
{
    const struct ofi_head *head = (const void *)rx->bytes;
    uint32_t magic = 0;
    struct ofi_peer *peer;

    if (rx->len >= sizeof(magic))
        memcpy(&magic, rx->bytes, sizeof(magic));
    if (magic == OFI_MAGIC) {
        ofi_hello_heard(nic, rx->bytes, rx->len);
        return false;
    }
    peer = head_peer(nic, rx);
    if (!peer) {
        /* Of a connection that has ended, or of somebody who never had one. */
        if (rx->len < sizeof(*head) || head->kind < OFI_DATA || head->kind > OFI_PUT_DONE)
            __atomic_fetch_add(&nic->base.counts.strangers, 1, __ATOMIC_RELAXED);
        return false;
    }
    peer->heard_ms = nic->tick_ms;
    ofi_peer_up(peer);          /* it knows our token, so it has heard us */
    window_acked(peer, head->consumed);
    if (head->kind >= OFI_DATA && head->kind <= OFI_BYE) {
        if (peer->state == OFI_LEAVING && head->kind == OFI_BYE) {
            peer->bye_heard = true;
            peer->owe_bye_done = true;
            ofi_pay(peer);
        }
        return ordered_heard(peer, rx);
    }
    if (!control_heard(peer, rx))
        nonsense(peer);
    return false;
}

/* ---- the queue ---- */

static void ended(struct ofi_nic *nic, struct ofi_context *c, size_t len, int err)
{
    struct ofi_rx *rx = (struct ofi_rx *)c;
    struct ofi_peer *peer = c->peer;

    switch (c->kind) {
    case OFI_RX:
        rx->len = len;
        if (err || len > OFI_MESSAGE_MAX || !message_heard(nic, rx))
            ofi_rx_post(nic, rx);
        break;
    case OFI_TX:
        if (peer)
            peer->tx--;
        ofi_tx_put(nic, (struct ofi_tx *)c);
        if (peer && err)
            ofi_peer_failed(peer, err);
        break;
    case OFI_GET:
        ofi_get_ended((struct ofi_op *)c, err);
        break;
    case OFI_PULL:
        ofi_pull_ended((struct ofi_pull *)c, err);
        break;
    }
}

static bool error_read(struct ofi_nic *nic)
{
    struct fi_cq_err_entry entry = { 0 };

    if (fi_cq_readerr(nic->port.cq, &entry, 0) != 1)
        return false;
    if (entry.op_context)
        ended(nic, entry.op_context, 0, entry.err ? entry.err : FI_EOTHER);
    return true;
}

int ofi_poll(struct ofi_nic *nic)
{
    enum { BATCH = 16, BATCHES = 4 };
    struct fi_cq_msg_entry entries[BATCH];
    int n = 0;

    for (int i = 0; i < BATCHES && !nic->broken; i++) {
        ssize_t got = fi_cq_read(nic->port.cq, entries, BATCH);

        if (got == -FI_EAVAIL) {
            n += error_read(nic);
            continue;
        }
        if (got <= 0)
            break;
        for (ssize_t k = 0; k < got; k++)
            ended(nic, entries[k].op_context, entries[k].len, 0);
        n += (int)got;
        if (got < BATCH)
            break;
    }
    return n;
}
