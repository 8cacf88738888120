/* SPDX-License-Identifier: BSD-3-Clause */
/* tcp_watch.c - what the kernel knows of links before their silence tells: that the
 * interface is down, and that what was sent is not acknowledged.
 *
 * Both by the NIC's thread. A host acknowledges for a process that computes or stands still,
 * so who does not is out of reach; a peer that only has much to read is not doubted, for
 * then nothing is under way. Delayed acknowledgements, and what is sent once more since it
 * was lost, take some 40 ms to 200 ms: a doubt may be wrong, and does no harm then.
 *
 * Source: TCP_DELACK_MAX, TCP_RTO_MIN, Linux include/net/tcp.h; tcp_get_info(),
 * net/ipv4/tcp.c.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "tcp.h"

enum { EVENTS = 16 };

#define MS ((uint64_t)1000000)

/* ---- the interface ---- */

/* All that goes by it: the other end may hear nothing of that. */
static void went_down(struct tcp_nic *nic)
{
    for (struct tcp_link *l = nic->links; l; l = l->next)
        if (!l->here && !l->leaving)
            tcp_link_lose(l, ENETDOWN);
}

static bool up_now(const struct tcp_nic *nic)
{
    struct pw_iface now;

    return !pw_iface_find(nic->iface.name, &now) && now.up && now.carrier;
}

void tcp_iface_look(struct tcp_nic *nic)
{
    struct pw_iface_event events[EVENTS];
    bool up = !nic->iface_down;
    int n;

    while ((n = pw_iface_events(nic->iface_fd, events, EVENTS)) > 0)
        for (int i = 0; i < n; i++) {
            if (events[i].change == PW_IFACE_MISSED)
                up = up_now(nic);
            else if (events[i].index != nic->iface.index)
                continue;
            else if (events[i].change == PW_IFACE_WENT_DOWN)
                up = false;
            else if (events[i].change == PW_IFACE_WENT_UP)
                up = true;
            if (up == !nic->iface_down)
                continue;
            nic->iface_down = !up;
            pthread_mutex_lock(&nic->lock);
            if (up)
                tcp_calls_anew(nic);
            else
                went_down(nic);
            pthread_mutex_unlock(&nic->lock);
        }
}

/* ---- acknowledgements ---- */

/* Nothing is acknowledged of what is under way, for as long as that. */
static bool unheard(int fd, uint64_t *since_ns, uint64_t now, uint64_t doubt_ns)
{
    struct tcp_info info = { 0 };
    socklen_t len = sizeof(info);

    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) || !info.tcpi_unacked) {
        *since_ns = 0;
        return false;
    }
    if (!*since_ns || info.tcpi_last_ack_recv * MS < now - *since_ns)
        *since_ns = now;
    return now - *since_ns >= doubt_ns;
}

bool tcp_unheard(struct tcp_link *l, uint64_t now, uint64_t doubt_ns)
{
    bool bad = unheard(l->fd, &l->unheard_ns[0], now, doubt_ns);

    if (l->asker)
        bad |= unheard(l->asker->fd, &l->unheard_ns[1], now, doubt_ns);
    if (l->server)
        bad |= unheard(l->server->fd, &l->unheard_ns[2], now, doubt_ns);
    return bad;
}

/* Half of a round trip, as the kernel has it: of the handshake, when the link is new. */
uint32_t tcp_delay(struct pw_nic_peer *peer)
{
    struct tcp_peer *p = (struct tcp_peer *)peer;
    struct tcp_info info = { 0 };
    socklen_t len = sizeof(info);
    uint32_t us = 0;

    pthread_mutex_lock(&p->lock);
    if (p->link && !getsockopt(p->link->fd, IPPROTO_TCP, TCP_INFO, &info, &len))
        us = info.tcpi_rtt;
    pthread_mutex_unlock(&p->lock);
    return us < UINT32_MAX / 500 ? us * 500 : UINT32_MAX;
}

void tcp_doubts_look(struct tcp_nic *nic)
{
    uint64_t now = pw_now_ns(), doubt_ns = nic->config.doubt_ms * MS;

    for (struct tcp_link *l = nic->links; l; l = l->next)
        if (l->peer && !l->leaving)
            tcp_doubt(l, tcp_unheard(l, now, doubt_ns));
}
