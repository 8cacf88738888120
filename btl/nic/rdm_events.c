/* SPDX-License-Identifier: BSD-3-Clause */
/* rdm_events.c - messages in, and what has ended.
 *
 * Start at rdm_poll(): the library tells of what has come by rdm_message_heard() and
 * rdm_ended(). Whoever has the lock looks: progress, the service thread, a
 * sender that found no room. What needs an upcall is queued for progress; the rest is done
 * here: hellos and acknowledgements, short puts and the beginning of long ones.
 */
#include <errno.h>
#include <string.h>

#include "rdm.h"
#include "pinwheel/clock.h"

void rdm_peer_ready(struct rdm_peer *peer)
{
    struct rdm_nic *nic = rdm_nic_of(peer);

    if (!peer->queued) {
        peer->queued = true;
        peer->next_ready = NULL;
        *nic->ready_end = peer;
        nic->ready_end = &peer->next_ready;
    }
    rdm_wake(nic);
}

/* A quarter of the window is told of at once, less by the next tick or message. */
void rdm_consumed(struct rdm_peer *peer, size_t bytes)
{
    peer->consumed++;
    peer->untold_bytes += bytes;
    if (peer->consumed - peer->told >= RDM_WINDOW / 4 ||
        peer->untold_bytes >= RDM_WINDOW_BYTES / 4) {
        peer->owe_ack = true;
        rdm_pay(peer);
    }
}

static void window_acked(struct rdm_peer *peer, uint32_t consumed)
{
    if (consumed - peer->acked > peer->sent - peer->acked)
        return;                 /* an older one that was overtaken, or nonsense */
    while (peer->acked != consumed)
        peer->bytes_out -= peer->bytes[peer->acked++ % RDM_WINDOW];
}

static const struct rdm_head *rx_head(const struct rdm_rx *rx)
{
    return (const void *)rx->bytes;
}

/* ---- messages in order ---- */

static void nonsense(struct rdm_peer *peer)
{
    rdm_peer_lost(peer, -EPROTO, "it has sent what no peer of ours sends");
}

/* May it have sent so many, and answered so many? A farewell needs no room in the window;
 * what is out of order counts those before it. */
static bool number_sane(const struct rdm_peer *peer, const struct rdm_head *head)
{
    uint32_t end = peer->consumed + RDM_WINDOW;

    if (peer->state != RDM_UP)
        return true;            /* nobody counts any more */
    if (head->kind < RDM_BYE)
        return (int32_t)(head->seq - end) < 0;
    if (head->kind == RDM_BYE)
        return (int32_t)(head->seq - end) <= 0;
    return (int32_t)(head->seq - end) <= 1 && (int32_t)(head->imm - peer->asked) <= 0;
}

static bool ordered_missing(const struct rdm_peer *peer)
{
    return peer->early || peer->claimed != peer->expected;
}

static bool answers_missing(const struct rdm_peer *peer)
{
    return peer->answers_claimed != peer->answered;
}

bool rdm_missing(const struct rdm_peer *peer, uint64_t since_ms)
{
    return (ordered_missing(peer) && peer->early_ms < since_ms) ||
           (answers_missing(peer) && peer->answers_ms < since_ms);
}

/* A library that connects anew by itself may lose what was under way, and nobody notices
 * when nothing comes behind it. So what is out of order tells how much there was. */
static void claims_hear(struct rdm_peer *peer, const struct rdm_head *head)
{
    uint64_t now = rdm_nic_of(peer)->tick_ms;

    if (!ordered_missing(peer))
        peer->early_ms = now;
    if (!answers_missing(peer))
        peer->answers_ms = now;
    if ((int32_t)(head->seq - peer->claimed) > 0)
        peer->claimed = head->seq;
    if ((int32_t)(head->imm - peer->answers_claimed) > 0)
        peer->answers_claimed = head->imm;
}

/* True: rx is kept. */
static bool ordered_take(struct rdm_peer *peer, struct rdm_rx *rx)
{
    struct rdm_nic *nic = rdm_nic_of(peer);
    const struct rdm_head *head = (const void *)rx->bytes;
    bool sane = true;

    peer->expected++;
    peer->early_ms = nic->tick_ms;
    if ((int32_t)(peer->claimed - peer->expected) < 0)
        peer->claimed = peer->expected;
    rx->c.peer = peer;
    switch (head->kind) {
    case RDM_DATA:
        __atomic_fetch_add(&nic->base.counts.wire_copied, rx->len - sizeof(*head),
                           __ATOMIC_RELAXED);
        break;
    case RDM_PUT:
        sane = rdm_put_heard(peer, rx);
        break;
    case RDM_FETCH:
        sane = rdm_pull_heard(peer, rx);
        break;
    case RDM_GET_DATA:
        sane = rdm_get_data_heard(peer, rx);
        break;
    default:
        if (rx->len != sizeof(*head)) {
            sane = false;
            break;
        }
        peer->bye_heard = true;
        peer->owe_bye_done = true;
        rdm_pay(peer);
        rdm_peer_lost(peer, 0, "it has left");
        break;
    }
    if (!sane)
        nonsense(peer);
    if (head->kind != RDM_DATA && !rx->pulling) {
        if (!rx->owed)
            rdm_consumed(peer, rx->len);
        return false;
    }
    rx->next = NULL;
    *peer->in_end = rx;
    peer->in_end = &rx->next;
    rdm_peer_ready(peer);
    return true;
}

/* True: it is kept. False: it has come before. */
static bool early_keep(struct rdm_peer *peer, struct rdm_rx *rx, uint32_t seq)
{
    struct rdm_rx **at = &peer->early;

    if (!ordered_missing(peer))
        peer->early_ms = rdm_nic_of(peer)->tick_ms;
    while (*at && (int32_t)(rx_head(*at)->seq - seq) < 0)
        at = &(*at)->next;
    if (*at && rx_head(*at)->seq == seq)
        return false;
    rx->c.peer = peer;
    rx->next = *at;
    *at = rx;
    return true;
}

static bool early_next(struct rdm_peer *peer)
{
    const struct rdm_head *head;

    if (!peer->early || peer->state != RDM_UP)
        return false;
    head = (const void *)peer->early->bytes;
    return head->seq == peer->expected;
}

static bool ordered_heard(struct rdm_peer *peer, struct rdm_rx *rx)
{
    const struct rdm_head *head = (const void *)rx->bytes;
    bool kept;

    if (peer->state != RDM_UP || (int32_t)(head->seq - peer->expected) < 0)
        return false;
    if (head->seq != peer->expected)
        return early_keep(peer, rx, head->seq);
    kept = ordered_take(peer, rx);
    while (early_next(peer)) {
        struct rdm_rx *next = peer->early;

        peer->early = next->next;
        if (!ordered_take(peer, next))
            rdm_rx_post(rdm_nic_of(peer), next);
    }
    return kept;
}

/* ---- any message ---- */

static void answer_count(struct rdm_peer *peer)
{
    peer->answered++;
    peer->answers_ms = rdm_nic_of(peer)->tick_ms;
    if ((int32_t)(peer->answers_claimed - peer->answered) < 0)
        peer->answers_claimed = peer->answered;
}

static size_t control_len(uint16_t kind)
{
    return kind == RDM_PUT_DONE ? sizeof(struct rdm_put_done) :
           kind == RDM_GET ? sizeof(struct rdm_get) : sizeof(struct rdm_head);
}

static bool control_heard(struct rdm_peer *peer, const struct rdm_rx *rx)
{
    const struct rdm_head *head = rx_head(rx);

    if (rx->len != control_len(head->kind))
        return false;
    switch (head->kind) {
    case RDM_ACK:
        break;
    case RDM_PING:
        peer->owe_ack = true;
        rdm_pay(peer);
        break;
    case RDM_BYE_DONE:
        peer->bye_done = true;
        break;
    case RDM_PUT_DONE:
        if (peer->answered == peer->asked)
            return false;
        answer_count(peer);
        return rdm_put_done_heard(peer, (const void *)rx->bytes);
    case RDM_GET:
        return rdm_get_heard(peer, rx);
    default:
        return false;
    }
    return true;
}

static struct rdm_peer *head_peer(const struct rdm_nic *nic, const struct rdm_rx *rx)
{
    const struct rdm_head *head = (const void *)rx->bytes;
    struct rdm_peer *peer;

    if (rx->len < sizeof(*head) || head->slot >= nic->n_slots)
        return NULL;
    peer = nic->slots[head->slot];
    return peer && peer->token == head->token && peer->its_token ? peer : NULL;
}

/* True: rx is kept. */
static bool peer_heard(struct rdm_peer *peer, struct rdm_rx *rx)
{
    const struct rdm_head *head = (const void *)rx->bytes;

    peer->heard_ms = rdm_nic_of(peer)->tick_ms;
    rdm_peer_up(peer);          /* it knows our token, so it has heard us */
    if (!number_sane(peer, head)) {
        nonsense(peer);
        return false;
    }
    window_acked(peer, head->consumed);
    if (head->kind >= RDM_DATA && head->kind <= RDM_BYE) {
        if (peer->state == RDM_LEAVING && head->kind == RDM_BYE) {
            peer->bye_heard = true;
            peer->owe_bye_done = true;
            rdm_pay(peer);
        }
        return ordered_heard(peer, rx);
    }
    if (!control_heard(peer, rx))
        nonsense(peer);
    claims_hear(peer, head);
    return false;
}

/* As rdm_send(). */
__attribute__((flatten))
bool rdm_message_heard(struct rdm_nic *nic, struct rdm_rx *rx)
{
    const struct rdm_head *head = (const void *)rx->bytes;
    uint32_t magic = 0;
    struct rdm_peer *peer;
    bool kept;

    if (rx->len >= sizeof(magic))
        memcpy(&magic, rx->bytes, sizeof(magic));
    if (magic == nic->driver->magic) {
        rdm_hello_heard(nic, rx->bytes, rx->len);
        return false;
    }
    peer = head_peer(nic, rx);
    if (!peer) {
        /* Of a connection that has ended, or of somebody who never had one. */
        if (rx->len < sizeof(*head) || head->kind < RDM_DATA || head->kind > RDM_GET)
            __atomic_fetch_add(&nic->base.counts.strangers, 1, __ATOMIC_RELAXED);
        return false;
    }
    kept = peer_heard(peer, rx);
    if (peer->serves || rdm_stream_puts(peer))
        rdm_stream(peer);
    return kept;
}

/* ---- what has ended ---- */

void rdm_ended(struct rdm_nic *nic, struct rdm_context *c, size_t len, int err)
{
    struct rdm_rx *rx = (struct rdm_rx *)c;
    struct rdm_peer *peer = c->peer;

    switch (c->kind) {
    case RDM_RX:
        nic->n_posted--;
        rx->len = len;
        if (err || len > RDM_MESSAGE_MAX || !rdm_message_heard(nic, rx))
            rdm_rx_post(nic, rx);
        rdm_rx_more(nic);
        break;
    case RDM_TX:
        if (peer)
            peer->tx--;
        rdm_tx_put(nic, (struct rdm_tx *)c);
        if (peer && err)
            rdm_peer_failed(peer, err);
        break;
    case RDM_READ:
        rdm_get_ended((struct rdm_op *)c, err);
        break;
    case RDM_PULL:
        rdm_pull_ended((struct rdm_pull *)c, err);
        break;
    }
}

int rdm_poll(struct rdm_nic *nic)
{
    int n;

    if (nic->broken || nic->polling)
        return 0;
    nic->polling = true;
    n = nic->driver->poll(nic);
    nic->polling = false;
    return n;
}
