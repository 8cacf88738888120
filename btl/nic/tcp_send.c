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

/* What a caller of ops->send or send_kept wants. */
struct frame {
    uint32_t imm;
    const struct pw_iov *iov;
    int n;
    bool kept;
    size_t room;
    unsigned before;
    void *op;
};

static bool rest_empty(const struct tcp_rest *r)
{
    return !r->len && !r->n_left;
}

static void blocked(struct tcp_nic *nic)
{
    __atomic_store_n(&nic->blocked, 1, __ATOMIC_RELAXED);
}

/* What the socket said to a send; the end is found by who reads. */
static int send_failed(struct tcp_link *l, int err)
{
    if (err == EAGAIN || err == EINTR || err == ENOBUFS)
        return -EAGAIN;
    tcp_link_lose(l, err);
    return -err;
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

/* Without its first `sent` bytes. What of them is in the lender's pipe is copied, too. */
static int rest_of(struct tcp_link *l, const struct iovec *iov, int n, size_t sent)
{
    int err = 0;

    tcp_lend_drop(&l->nic->lender, l);
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
            return send_failed(l, errno);
        r->at += (size_t)n;
        r->len -= (size_t)n;
    }
    r->at = 0;
    return 0;
}

/* Bytes sent of the frame's iov[0..n), or -errno. kept: where they lie. */
static ssize_t bytes_send(struct tcp_link *l, struct iovec *iov, int n, bool kept)
{
    struct msghdr m = { .msg_iov = iov, .msg_iovlen = (size_t)n };
    ssize_t sent = kept ? tcp_lend(&l->nic->lender, l->fd, l, iov, n, false) : -EOPNOTSUPP;

    if (sent != -EOPNOTSUPP)
        return sent;
    tcp_lend_drop(&l->nic->lender, l);
    sent = sendmsg(l->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent < 0 ? -errno : sent;
}

static int flush_left(struct tcp_link *l)
{
    struct tcp_rest *r = &l->rest;

    while (r->n_left) {
        struct iovec iov[3];
        int n_iov = r->n_left;
        ssize_t n;

        memcpy(iov, r->left, sizeof(iov));
        n = bytes_send(l, iov, n_iov, r->kept);
        if (n < 0)
            return send_failed(l, (int)-n);
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
        return send_failed(l, errno);
    return (size_t)n < sizeof(head) ? rest_copy(l, (char *)&head + n, sizeof(head) - (size_t)n)
                                    : 0;
}

int tcp_keep_rest(struct tcp_link *l)
{
    struct tcp_rest *r = &l->rest;

    if (!r->n_left)
        return 0;
    tcp_lend_drop(&l->nic->lender, l);
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
    tcp_lend_drop(&l->nic->lender, l);
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

/* Some of it has gone. The first `ours` bytes are on our stack. */
static int accepted(struct tcp_peer *p, struct tcp_link *l, const struct iovec *iov, int n,
                    size_t sent, size_t ours, void *op)
{
    size_t total = 0;

    for (int i = 0; i < n; i++)
        total += iov[i].iov_len;
    l->said = true;
    if (__builtin_expect(sent == total, 1))
        return 0;
    if (total - sent <= TCP_KEEP || !op || p->frame_pending || sent < ours || n - 1 > 3) {
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

static int send_small(struct tcp_peer *p, struct tcp_link *l, const struct frame *f, size_t len)
{
    struct { struct tcp_head head; char bytes[TCP_SMALL]; } out;
    size_t at = 0, total = sizeof(out.head) + len;
    struct iovec whole;
    ssize_t sent;

    out.head = tcp_head_make(TCP_FRAME, len, f->imm, p->puts);
    for (int i = 0; i < f->n; i++)
        if (f->iov[i].len) {
            memcpy(out.bytes + at, f->iov[i].base, f->iov[i].len);
            at += f->iov[i].len;
        }
    sent = send(l->fd, &out, total, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (__builtin_expect(sent < 0, 0))
        return send_failed(l, errno);
    tcp_count(&l->nic->nic.counts.wire_copied, len);
    whole = (struct iovec){ &out, total };
    return accepted(p, l, &whole, 1, (size_t)sent, total, NULL);
}

/* The head, copied, and behind it what is lent. Bytes sent, or -errno. */
static ssize_t frame_lend(struct tcp_link *l, struct iovec *iov, int n)
{
    ssize_t head = send(l->fd, iov[0].iov_base, iov[0].iov_len,
                        MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE);
    ssize_t sent;

    if (head < 0)
        return -errno;
    if ((size_t)head < iov[0].iov_len)
        return head;
    sent = bytes_send(l, iov + 1, n - 1, true);
    return sent > 0 ? head + sent : head;   /* what the socket says, it says again */
}

/* With the head in the room before it. What the pipe has of a frame that is refused goes. */
static int send_whole(struct tcp_peer *p, struct tcp_link *l, const struct frame *f, size_t len)
{
    struct tcp_head head = tcp_head_make(TCP_FRAME, len, f->imm, p->puts);
    char *base = (char *)(uintptr_t)f->iov[0].base - sizeof(head);
    struct iovec iov = { base, sizeof(head) + len };
    ssize_t sent;

    _Static_assert(sizeof(head) <= PW_NIC_ROOM, "it fits");
    memcpy(base, &head, sizeof(head));
    sent = bytes_send(l, &iov, 1, true);
    if (sent >= 0)
        return accepted(p, l, &iov, 1, (size_t)sent, 0, f->op);
    tcp_lend_drop(&l->nic->lender, l);
    return send_failed(l, (int)-sent);
}

static int send_long(struct tcp_peer *p, struct tcp_link *l, const struct frame *f, size_t len)
{
    struct tcp_head head = tcp_head_make(TCP_FRAME, len, f->imm, p->puts);
    struct iovec iov[4] = { { &head, sizeof(head) } };
    ssize_t sent;

    for (int i = 0; i < f->n; i++)
        iov[i + 1] = (struct iovec){ (void *)(uintptr_t)f->iov[i].base, f->iov[i].len };
    l->rest.kept = f->kept && f->n <= 2 && f->before >= TCP_STREAM &&
                   tcp_lend_wanted(&l->nic->lender, len);
    if (l->rest.kept && f->n == 1 && f->room)
        return send_whole(p, l, f, len);
    sent = l->rest.kept ? frame_lend(l, iov, f->n + 1)
                        : bytes_send(l, iov, f->n + 1, false);
    if (sent < 0)
        return send_failed(l, (int)-sent);
    return accepted(p, l, iov, f->n + 1, (size_t)sent, sizeof(head), f->op);
}

static int send_locked(struct tcp_peer *p, const struct frame *f, size_t len)
{
    struct tcp_link *l = p->link;
    int err = 0;

    if (__builtin_expect(p->state != TCP_UP || !l, 0))
        return p->state == TCP_DOWN ? -EPIPE : -EAGAIN;
    if (__builtin_expect(!rest_empty(&l->rest), 0))
        err = tcp_flush(l);
    if (!err)
        err = len <= TCP_SMALL ? send_small(p, l, f, len) : send_long(p, l, f, len);
    /* Where the connection broke, down comes, with all that had arrived before it. */
    return err < 0 ? -EAGAIN : err;
}

static int frame_send(struct pw_nic_peer *peer, const struct frame *f)
{
    struct tcp_peer *p = (struct tcp_peer *)peer;
    size_t len = 0;
    int err;

    for (int i = 0; i < f->n; i++)
        len += f->iov[i].len;
    if (len > TCP_FRAME_MAX)
        return -EMSGSIZE;
    pthread_mutex_lock(&p->lock);
    err = send_locked(p, f, len);
    pthread_mutex_unlock(&p->lock);
    if (err >= 0)
        tcp_count(&p->nic->nic.counts.wire_bytes, len);
    return err;
}

int tcp_send(struct pw_nic_peer *peer, uint32_t imm, const struct pw_iov *iov, int n, void *op)
{
    struct frame f = { .imm = imm, .iov = iov, .n = n, .op = op };

    return frame_send(peer, &f);
}

int tcp_send_kept(struct pw_nic_peer *peer, uint32_t imm, const struct pw_iov *iov, int n,
                  size_t room, unsigned before, void *op)
{
    struct frame f = { .imm = imm, .iov = iov, .n = n, .op = op, .kept = true, .room = room,
                       .before = before };

    return frame_send(peer, &f);
}

int tcp_send_inline(struct pw_nic_peer *peer, uint32_t imm, const void *data, size_t len)
{
    struct pw_iov iov = { data, len };

    if (len > peer->nic->info.inline_max)
        return -EMSGSIZE;
    return tcp_send(peer, imm, &iov, 1, NULL);
}
