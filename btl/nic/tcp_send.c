/* SPDX-License-Identifier: BSD-3-Clause */
/* tcp_send.c - frames out, straight from the caller's memory.
 *
 * Start at tcp_send(). A frame is accepted when its first byte has gone. What does not fit
 * into the socket then is copied when it is short, and else sent from the caller's memory
 * later, the frame being PENDING. While there is such a rest, no other frame is accepted:
 * the core keeps what is waiting anyway.
 */
#include <stdlib.h>
#include <sys/socket.h>

#include "tcp.h"

enum { REST_MAX = TCP_FRAME_MAX + 64 };

static bool rest_empty(const struct tcp_rest *r)
{
    return !r->len && !r->n_left;
}

static void blocked(struct tcp_nic *nic)
{
    __atomic_store_n(&nic->blocked, 1, __ATOMIC_RELAXED);
}

/* What the socket said to a send; the end is found by who reads. */
static int send_failed(struct tcp_link *l)
{
    if (errno == EAGAIN || errno == EINTR || errno == ENOBUFS)
        return -EAGAIN;
    tcp_link_lose(l, errno);
    return -errno;
}

static int rest_copy(struct tcp_link *l, const void *bytes, size_t len)
{
    struct tcp_rest *r = &l->rest;

    if (!r->copy)
        r->copy = malloc(REST_MAX);
    if (!r->copy || r->at + r->len + len > REST_MAX)
        return -ENOMEM;
    if (len)
        memcpy(r->copy + r->at + r->len, bytes, len);
    r->len += len;
    blocked(l->nic);
    return 0;
}

/* Without its first `sent` bytes. */
static int rest_of(struct tcp_link *l, const struct iovec *iov, int n, size_t sent)
{
    int err = 0;

    for (int i = 0; i < n && !err; i++) {
        size_t skip = sent < iov[i].iov_len ? sent : iov[i].iov_len;

        sent -= skip;
        if (iov[i].iov_len > skip)
            err = rest_copy(l, (const char *)iov[i].iov_base + skip, iov[i].iov_len - skip);
    }
    return err;
}

static void rest_keep(struct tcp_link *l, const struct iovec *iov, int n, size_t sent)
{
    struct tcp_rest *r = &l->rest;

    r->n_left = 0;
    for (int i = 0; i < n; i++) {
        size_t skip = sent < iov[i].iov_len ? sent : iov[i].iov_len;

        sent -= skip;
        if (iov[i].iov_len > skip)
            r->left[r->n_left++] = (struct iovec){ (char *)iov[i].iov_base + skip,
                                                   iov[i].iov_len - skip };
    }
    blocked(l->nic);
}

static int flush_copy(struct tcp_link *l)
{
    struct tcp_rest *r = &l->rest;

    while (r->len) {
        ssize_t n = send(l->fd, r->copy + r->at, r->len, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0)
            return send_failed(l);
        r->at += (size_t)n;
        r->len -= (size_t)n;
    }
    r->at = 0;
    return 0;
}

static int flush_left(struct tcp_link *l)
{
    struct tcp_rest *r = &l->rest;

    while (r->n_left) {
        struct iovec iov[3];
        struct msghdr m = { .msg_iov = iov, .msg_iovlen = (size_t)r->n_left };
        int n_iov = r->n_left;
        ssize_t n;

        memcpy(iov, r->left, sizeof(iov));
        n = sendmsg(l->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0)
            return send_failed(l);
        rest_keep(l, iov, n_iov, (size_t)n);
    }
    return 0;
}

int tcp_flush(struct tcp_link *l)
{
    bool pending = l->rest.n_left;
    int err = flush_copy(l);

    if (!err)
        err = flush_left(l);
    if (err == -EAGAIN)
        blocked(l->nic);
    if (!err && pending)
        tcp_done(l->nic, &l->peer->frame, 0);
    return err;
}

int tcp_say(struct tcp_link *l, enum tcp_kind kind)
{
    struct tcp_head head = tcp_head_make(kind, 0, 0, 0);
    ssize_t n;

    if (!rest_empty(&l->rest))
        return -EAGAIN;
    n = send(l->fd, &head, sizeof(head), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0)
        return send_failed(l);
    return (size_t)n < sizeof(head) ? rest_copy(l, (char *)&head + n, sizeof(head) - (size_t)n)
                                    : 0;
}

int tcp_keep_rest(struct tcp_link *l)
{
    struct tcp_rest *r = &l->rest;

    if (!r->n_left)
        return 0;
    if (r->len && r->at) {
        memmove(r->copy, r->copy + r->at, r->len);
        r->at = 0;
    }
    for (int i = 0; i < r->n_left; i++)
        if (rest_copy(l, r->left[i].iov_base, r->left[i].iov_len))
            return -ENOMEM;
    r->n_left = 0;
    tcp_done(l->nic, &l->peer->frame, 0);
    return 0;
}

void tcp_say_bye(struct tcp_link *l)
{
    struct tcp_head head = tcp_head_make(TCP_BYE, 0, 0, 0);
    struct tcp_rest *r = &l->rest;

    if (tcp_say(l, TCP_BYE) != -EAGAIN)
        return;
    if (r->len && r->at) {
        memmove(r->copy, r->copy + r->at, r->len);
        r->at = 0;
    }
    for (int i = 0; i < r->n_left; i++)
        if (rest_copy(l, r->left[i].iov_base, r->left[i].iov_len))
            return;
    r->n_left = 0;
    (void)rest_copy(l, &head, sizeof(head));
}

/* Some of it has gone. */
static int accepted(struct tcp_peer *p, struct tcp_link *l, const struct iovec *iov, int n,
                    size_t sent, size_t total, void *op)
{
    l->said = true;
    if (__builtin_expect(sent == total, 1))
        return 0;
    if (total - sent <= TCP_KEEP || !op || p->frame_pending || sent < iov[0].iov_len ||
        n - 1 > 3) {
        tcp_count(&l->nic->nic.counts.wire_copied, total - sent);
        if (rest_of(l, iov, n, sent))
            tcp_link_lose(l, ENOMEM);
        return 0;
    }
    rest_keep(l, iov, n, sent);
    p->frame = (struct tcp_op){ .peer = p, .cookie = op };
    p->frame_pending = true;
    return PW_NIC_PENDING;
}

static int send_small(struct tcp_peer *p, struct tcp_link *l, uint32_t imm,
                      const struct pw_iov *iov, int n, size_t len)
{
    struct { struct tcp_head head; char bytes[TCP_SMALL]; } out;
    size_t at = 0, total = sizeof(out.head) + len;
    struct iovec whole;
    ssize_t sent;

    out.head = tcp_head_make(TCP_FRAME, len, imm, p->puts);
    for (int i = 0; i < n; i++)
        if (iov[i].len) {
            memcpy(out.bytes + at, iov[i].base, iov[i].len);
            at += iov[i].len;
        }
    sent = send(l->fd, &out, total, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (__builtin_expect(sent < 0, 0))
        return send_failed(l);
    tcp_count(&l->nic->nic.counts.wire_copied, len);
    whole = (struct iovec){ &out, total };
    return accepted(p, l, &whole, 1, (size_t)sent, total, NULL);
}

static int send_long(struct tcp_peer *p, struct tcp_link *l, uint32_t imm,
                     const struct pw_iov *pieces, int n, size_t len, void *op)
{
    struct tcp_head head = tcp_head_make(TCP_FRAME, len, imm, p->puts);
    struct iovec iov[4] = { { &head, sizeof(head) } };
    struct msghdr m = { .msg_iov = iov, .msg_iovlen = (size_t)n + 1 };
    ssize_t sent;

    for (int i = 0; i < n; i++)
        iov[i + 1] = (struct iovec){ (void *)(uintptr_t)pieces[i].base, pieces[i].len };
    sent = sendmsg(l->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0)
        return send_failed(l);
    return accepted(p, l, iov, n + 1, (size_t)sent, sizeof(head) + len, op);
}

static int send_locked(struct tcp_peer *p, uint32_t imm, const struct pw_iov *iov, int n,
                       size_t len, void *op)
{
    struct tcp_link *l = p->link;
    int err = 0;

    if (__builtin_expect(p->state != TCP_UP || !l, 0))
        return p->state == TCP_DOWN ? -EPIPE : -EAGAIN;
    if (__builtin_expect(!rest_empty(&l->rest), 0))
        err = tcp_flush(l);
    if (!err)
        err = len <= TCP_SMALL ? send_small(p, l, imm, iov, n, len)
                               : send_long(p, l, imm, iov, n, len, op);
    /* Where the connection broke, down comes, with all that had arrived before it. */
    return err < 0 ? -EAGAIN : err;
}

int tcp_send(struct pw_nic_peer *peer, uint32_t imm, const struct pw_iov *iov, int n, void *op)
{
    struct tcp_peer *p = (struct tcp_peer *)peer;
    size_t len = 0;
    int err;

    for (int i = 0; i < n; i++)
        len += iov[i].len;
    if (len > TCP_FRAME_MAX)
        return -EMSGSIZE;
    pthread_mutex_lock(&p->lock);
    err = send_locked(p, imm, iov, n, len, op);
    pthread_mutex_unlock(&p->lock);
    if (err >= 0)
        tcp_count(&p->nic->nic.counts.wire_bytes, len);
    return err;
}

int tcp_send_inline(struct pw_nic_peer *peer, uint32_t imm, const void *data, size_t len)
{
    struct pw_iov iov = { data, len };

    if (len > peer->nic->info.inline_max)
        return -EMSGSIZE;
    return tcp_send(peer, imm, &iov, 1, NULL);
}
