/* SPDX-License-Identifier: BSD-3-Clause */
/* tcp_recv.c - frames in.
 *
 * Only progress comes here, so nothing of the receiving half needs a lock. Frames are
 * delivered where recv(2) has put them; when all have been, the buffer begins anew at its
 * first bytes, which are in the cache.
 */
#define _GNU_SOURCE     /* POLLRDHUP */
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "tcp.h"

enum { HEAD = sizeof(struct tcp_head), ROOM_LEAST = 16 << 10, BATCH_BYTES = 256 << 10 };

/* Room for what is coming: at least the whole of a record of `need` bytes. */
static int room_make(struct tcp_link *l, size_t need)
{
    if (l->head == l->tail) {
        l->head = l->tail = 0;
    } else if (l->head && (l->head + need > l->cap || l->cap - l->tail < ROOM_LEAST)) {
        memmove(l->buf, l->buf + l->head, l->tail - l->head);
        l->tail -= l->head;
        l->head = 0;
    }
    if (need > l->cap || !l->buf) {
        size_t cap = need > TCP_RX_LEAST ? 2 * (TCP_FRAME_MAX + HEAD) : TCP_RX_LEAST;
        char *buf = realloc(l->buf, cap);

        if (!buf)
            return -ENOMEM;
        l->buf = buf;
        l->cap = cap;
    }
    return 0;
}

static bool have_landed(const struct tcp_link *l, uint32_t puts)
{
    /* Pairs with the release in tcp_serve.c: the data of these puts is in place. */
    return (int32_t)(puts - __atomic_load_n(&l->landed, __ATOMIC_ACQUIRE)) <= 0;
}

/* Puts that frames wait for come by the other connection. */
static bool puts_awaited(struct tcp_link *l, uint32_t puts)
{
    if (__builtin_expect(have_landed(l, puts), 1))
        return true;
    pthread_mutex_lock(&l->nic->lock);
    tcp_bulk_step(l, TCP_SERVE);
    l->fenced = !have_landed(l, puts);
    if (!l->fenced)
        l->fenced_ns = 0;
    else if (!l->fenced_ns)
        l->fenced_ns = pw_now_ns();
    pthread_mutex_unlock(&l->nic->lock);
    return !l->fenced;
}

/* Counts the frames in made. 0, or -errno. */
static int deliver(struct tcp_link *l, int *made)
{
    const struct pw_nic_config *c = &l->nic->config;
    size_t bytes = 0, need = HEAD;
    int most = *made + TCP_BATCH;

    l->more = l->fenced = false;
    while (l->tail - l->head >= HEAD && !l->bye) {
        struct tcp_head h;
        uint32_t len;
        enum tcp_kind kind = tcp_head_parse(l->buf + l->head, &h, &len);

        if (!kind)
            return -EPROTO;
        need = HEAD + len;
        if (l->tail - l->head < need || (kind == TCP_FRAME && !puts_awaited(l, h.puts)))
            break;
        if (*made >= most || bytes >= BATCH_BYTES) {
            l->more = true;
            break;
        }
        if (kind == TCP_FRAME) {
            ++*made;
            bytes += need;
            c->up->recv(c->ctx, l->peer->cookie, h.imm, l->buf + l->head + HEAD, len);
        }
        l->bye = kind == TCP_BYE;
        l->head += need;
        need = HEAD;
    }
    if (bytes)
        tcp_count(&l->nic->nic.counts.wire_copied, bytes);
    if ((l->more || l->fenced) && !l->in_again) {
        l->in_again = true;
        l->again = l->nic->again;
        l->nic->again = l;
    }
    return room_make(l, need);
}

int tcp_recv_again(struct tcp_nic *nic)
{
    struct tcp_link *l = nic->again;
    int made = 0;

    nic->again = NULL;
    while (l) {
        struct tcp_link *next = l->again;

        l->in_again = false;
        made += tcp_recv(l);
        l = next;
    }
    return made;
}

static int ended(struct tcp_link *l, int err)
{
    int lost = __atomic_load_n(&l->lost, __ATOMIC_RELAXED);
    char why[PW_NIC_WHY_MAX];

    if (l->bye) {
        tcp_why(l->nic, &l->remote, why, "it has left");
        return tcp_link_down(l, 0, why);
    }
    /* By now the socket may say no more than that it was shut. */
    if (lost)
        err = -lost;
    if (!err || err == -EPIPE)
        err = -ECONNRESET;
    if (err == -EPROTO)
        tcp_why(l->nic, &l->remote, why, "it sent what no process of this job sends");
    else if (err == -ECONNRESET)
        tcp_why(l->nic, &l->remote, why, "its process has ended, or has reset the connection");
    else if (lost == ECONNABORTED)
        tcp_why(l->nic, &l->remote, why, "it goes another way");
    else if (lost == ETIMEDOUT)
        tcp_why(l->nic, &l->remote, why, "nothing was heard for %.1f s",
                (double)l->nic->timeout_ns * 1e-9);
    else if (lost == ENETDOWN)
        tcp_why(l->nic, &l->remote, why, "the link went down");
    else
        tcp_why(l->nic, &l->remote, why, "%s", strerror(-err));
    return tcp_link_down(l, err, why);
}

/* There is no room to read what would come before its end: a frame waits for puts, and
 * these come no more. */
static bool hung_up(const struct tcp_link *l)
{
    struct pollfd p = { .fd = l->fd, .events = POLLRDHUP };

    return poll(&p, 1, 0) > 0;
}

int tcp_recv(struct tcp_link *l)
{
    int made = 0, err = 0;
    ssize_t n = 0;

    if (__builtin_expect(l->more || l->fenced, 0))
        err = deliver(l, &made);
    if (__builtin_expect(err || l->bye, 0))
        return made + ended(l, err);
    if (l->more)
        return made;
    if (__builtin_expect(l->tail == l->cap, 0))
        return hung_up(l) ? made + ended(l, 0) : made;
    n = recv(l->fd, l->buf + l->tail, l->cap - l->tail, MSG_DONTWAIT);
    if (n > 0) {
        l->tail += (size_t)n;
        l->nic->last = l;
        err = deliver(l, &made);
        if (__builtin_expect(!err && !l->bye, 1))
            return made;
    } else if (n < 0) {
        if (errno == EAGAIN || errno == EINTR)
            return made;
        err = -errno;
    }
    return made + ended(l, err);
}

int tcp_recv_open(struct tcp_link *l)
{
    return room_make(l, sizeof(struct tcp_head));
}
