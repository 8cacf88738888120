/* SPDX-License-Identifier: BSD-3-Clause */
/* tcp_bulk.c - puts and gets that we ask for, by a connection of their own.
 *
 * Start at ask(). The connection is made when the first one is asked for, and requests wait
 * for it in p->to_ask. Data of a put leaves from the caller's memory, that of a get is read
 * into it. Frames sent behind a put tell how many puts they are to wait for (tcp_send.c).
 */
#include <stdlib.h>
#include <sys/socket.h>

#include "tcp.h"

enum { REQUEST = sizeof(struct tcp_request), REPLY = sizeof(struct tcp_reply) };

enum pw_reach tcp_reach(struct pw_nic_peer *peer, uint64_t remote, size_t len,
                        const struct pw_nic_key *key)
{
    (void)peer;
    (void)remote;
    (void)len;
    return key ? PW_REACH_DIRECT : PW_REACH_NONE;
}

void tcp_done(struct tcp_nic *nic, struct tcp_op *op, int status)
{
    op->status = status;
    op->next = NULL;
    pthread_mutex_lock(&nic->news);
    *nic->done_end = op;
    nic->done_end = &op->next;
    pthread_mutex_unlock(&nic->news);
    tcp_news(nic, &nic->news_there);
}

static size_t op_bytes(const struct tcp_op *op)
{
    return REQUEST + (op->kind == TCP_PUT ? op->len : 0);
}

/* A put's data, from where it lies; its head before, which goes with what follows. As
 * ask_some(); -EOPNOTSUPP: by a copy. */
static ssize_t put_lend(struct tcp_asker *a, struct tcp_op *op, const struct tcp_request *r)
{
    struct tcp_lender *lender = &op->peer->nic->lender;
    size_t begun = op->sent > REQUEST ? op->sent - REQUEST : 0;
    size_t left = op->len - begun, most = left < TCP_PIECE ? left : TCP_PIECE;
    struct iovec iov = { op->local + begun, most };
    ssize_t n;

    if (!op->sent)
        op->lends = (op->lend || op->peer->puts - op->peer->puts_ended > 1) &&
                    tcp_lend_wanted(lender, op->len);
    if (!op->lends)
        return -EOPNOTSUPP;
    if (op->sent >= REQUEST) {
        n = tcp_lend(lender, a->fd, a, &iov, 1, left > most);
        if (n == -EOPNOTSUPP)
            tcp_lend_drop(lender, a);
        return n;
    }
    n = send(a->fd, (const char *)r + op->sent, REQUEST - op->sent,
             MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE);
    return n < 0 ? -errno : n;
}

/* One system call's worth. Bytes sent, or -errno. */
static ssize_t ask_some(struct tcp_asker *a, struct tcp_peer *p, struct tcp_op *op)
{
    struct tcp_request r = { .kind = op->kind, .op = (uint16_t)(op - p->ops),
                             .lend = op->kind == TCP_GET && op->lend, .region = op->region, .remote = op->remote, .len = op->len };
    size_t begun = op->sent > REQUEST ? op->sent - REQUEST : 0;
    size_t left = op->kind == TCP_PUT ? op->len - begun : 0;
    struct iovec iov[2];
    struct msghdr m = { .msg_iov = iov };
    ssize_t n = left ? put_lend(a, op, &r) : -EOPNOTSUPP;

    if (n != -EOPNOTSUPP)
        return n;
    if (op->sent < REQUEST)
        iov[m.msg_iovlen++] = (struct iovec){ (char *)&r + op->sent, REQUEST - op->sent };
    if (left)
        iov[m.msg_iovlen++] = (struct iovec){ op->local + begun,
                                              left < TCP_PIECE ? left : TCP_PIECE };
    n = sendmsg(a->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
    return n < 0 ? -errno : n;
}

int tcp_ask_flush(struct tcp_peer *p)
{
    struct tcp_asker *a = p->link->asker;
    size_t sent = 0;

    while (p->to_ask) {
        struct tcp_op *op = p->to_ask;
        ssize_t n = sent < TCP_STEP ? ask_some(a, p, op) : -EAGAIN;

        if (n == -EAGAIN || n == -EINTR || n == -ENOBUFS) {
            __atomic_store_n(&p->nic->blocked, 1, __ATOMIC_RELAXED);
            return 0;
        }
        if (n < 0)
            return (int)n;
        sent += (size_t)n;
        op->sent += (size_t)n;
        if (op->sent < op_bytes(op))
            continue;
        p->to_ask = op->next;
        if (!p->to_ask)
            p->to_ask_end = &p->to_ask;
        op->asked = true;
    }
    return 0;
}

/* ---- one alone: with the kernel's copy, or without ---- */

static const uint64_t nothing_expected[2] = { 0, 0 };

/* Which is sooner depends on whose cache the data is in, and on what memory costs the
 * kernel: it is tried (pinwheel/trial.h). Under p->lock, before p counts it. */
static void op_choose(struct tcp_peer *p, struct tcp_op *op)
{
    bool alone = p->puts == p->puts_ended && !__atomic_load_n(&p->gets, __ATOMIC_RELAXED);

    if (!alone)
        p->crowds++;
    if (!alone || !p->link->asker || op->len < TCP_LEND)
        return;
    op->lend = pw_trial_choose(&p->trials[op->kind == TCP_GET], nothing_expected, op->len);
    op->timed = true;
    op->crowds = p->crowds;
    op->since_ns = pw_now_ns();
}

/* Under p->lock. */
static void op_note(struct tcp_peer *p, const struct tcp_op *op)
{
    uint64_t now = pw_now_ns();

    if (op->timed && op->crowds == p->crowds)
        pw_trial_note(&p->trials[op->kind == TCP_GET], nothing_expected, op->lend, op->len,
                      pw_trial_seen(now - op->since_ns, op->since_ns - p->ended_ns));
    p->ended_ns = now;
}

/* Under p->lock. */
static void ask_now(struct tcp_peer *p)
{
    if (p->link->asker) {
        int err = tcp_ask_flush(p);

        if (err)
            tcp_link_lose(p->link, -err);
    } else {
        p->wants_asker = true;
        __atomic_store_n(&p->nic->chores, 1, __ATOMIC_RELEASE);
    }
}

static int ask(struct pw_nic_peer *peer, uint16_t kind, char *local, uint64_t remote,
               size_t len, const struct pw_nic_key *key, void *cookie)
{
    struct tcp_peer *p = (struct tcp_peer *)peer;
    struct tcp_op *op;
    int err = PW_NIC_PENDING;

    if (!key)
        return -EOPNOTSUPP;
    if (len > SIZE_MAX / 2 || remote + len < remote)
        return -EFAULT;
    pthread_mutex_lock(&p->lock);
    op = p->idle;
    if (p->state != TCP_UP || !p->link || !op) {
        err = p->state == TCP_DOWN ? -EPIPE : -EAGAIN;
    } else {
        p->idle = op->next;
        *op = (struct tcp_op){ .peer = p, .cookie = cookie, .kind = kind, .local = local,
                               .remote = remote, .len = len };
        memcpy(&op->region, key->bytes, sizeof(op->region));
        op_choose(p, op);
        *p->to_ask_end = op;
        p->to_ask_end = &op->next;
        p->puts += kind == TCP_PUT;
        if (kind == TCP_GET)
            __atomic_fetch_add(&p->gets, 1, __ATOMIC_RELAXED);
        __atomic_fetch_add(&p->nic->asked, 1, __ATOMIC_RELAXED);
        ask_now(p);
    }
    pthread_mutex_unlock(&p->lock);
    if (err == PW_NIC_PENDING && kind == TCP_PUT)
        tcp_count(&p->nic->nic.counts.wire_bytes, len);
    return err;
}

int tcp_put(struct pw_nic_peer *peer, const void *local, uint64_t remote, size_t len,
            const struct pw_nic_key *key, void *op)
{
    return ask(peer, TCP_PUT, (char *)(uintptr_t)local, remote, len, key, op);
}

int tcp_get(struct pw_nic_peer *peer, void *local, uint64_t remote, size_t len,
            const struct pw_nic_key *key, void *op)
{
    return ask(peer, TCP_GET, local, remote, len, key, op);
}

/* ---- answers ---- */

/* The next bytes of a get's data: how many, or -errno; -EPIPE at the end. */
static ssize_t data_some(struct tcp_nic *nic, struct tcp_asker *a)
{
    struct tcp_op *op = a->receiving;
    size_t left = op->len - a->got, have = a->len - a->at;
    size_t most = left < TCP_PIECE ? left : TCP_PIECE;
    /* The end, and the head of the next one's data, but none of that. */
    struct iovec iov[2] = { { op->local + a->got, most }, { a->buf, 2 * REPLY } };
    struct msghdr m = { .msg_iov = iov, .msg_iovlen = most == left ? 2 : 1 };
    ssize_t n;

    if (have) {
        have = have < left ? have : left;
        memcpy(op->local + a->got, a->buf + a->at, have);
        tcp_count(&nic->nic.counts.wire_copied, have);
        a->at += have;
        a->got += have;
        return (ssize_t)have;
    }
    n = recvmsg(a->fd, &m, MSG_DONTWAIT);
    if (n <= 0)
        return n ? -errno : -EPIPE;
    a->at = 0;
    a->len = (size_t)n > most ? (size_t)n - most : 0;
    a->got += (size_t)n - a->len;
    return n;
}

/* A request was answered; under nic->lock. */
static int answered(struct tcp_peer *p, const struct tcp_reply *r)
{
    struct tcp_op *op = &p->ops[r->op];
    bool ok;

    pthread_mutex_lock(&p->lock);
    ok = op->kind && op->asked;
    if (ok && r->kind == TCP_DATA) {
        ok = op->kind == TCP_GET && !op->data && r->len == op->len;
        p->link->asker->receiving = ok ? op : NULL;
        p->link->asker->got = 0;
        op->data = true;
    } else if (ok) {
        ok = r->status || op->kind == TCP_PUT || op->data || !op->len;
    }
    if (ok && r->kind == TCP_DONE) {
        if (!r->status)
            op_note(p, op);
        if (op->kind == TCP_GET)
            __atomic_fetch_sub(&p->gets, 1, __ATOMIC_RELAXED);
        else
            p->puts_ended++;
        op->kind = 0;
        tcp_done(p->nic, op, r->status);
    }
    pthread_mutex_unlock(&p->lock);
    return ok ? 0 : -EPROTO;
}

/* The same for what is none: replies. */
static ssize_t reply_some(struct tcp_peer *p, struct tcp_asker *a)
{
    struct tcp_reply r;
    size_t room;
    ssize_t n;
    int err;

    if (a->len - a->at >= REPLY) {
        memcpy(&r, a->buf + a->at, REPLY);
        a->at += REPLY;
        err = tcp_reply_sane(&r) ? answered(p, &r) : -EPROTO;
        return err ? err : REPLY;
    }
    memmove(a->buf, a->buf + a->at, a->len - a->at);
    a->len -= a->at;
    a->at = 0;
    if (a->dry)
        return -EAGAIN;
    /* What follows the head of a get's data goes where it belongs, and aligned as it was:
     * the kernel copies that faster. */
    room = (__atomic_load_n(&p->gets, __ATOMIC_RELAXED) ? REPLY : TCP_AHEAD) - a->len;
    n = recv(a->fd, a->buf + a->len, room, MSG_DONTWAIT);
    if (n <= 0)
        return n ? -errno : -EPIPE;
    a->len += (size_t)n;
    a->dry = (size_t)n < room;
    return n;
}

int tcp_ask_step(struct tcp_link *l)
{
    struct tcp_asker *a = l->asker;
    size_t bytes = 0;
    int n = 0, err;

    a->dry = false;
    /* What has been read ahead is seen to: nothing else would come back to it. */
    while ((n < TCP_BATCH && bytes < TCP_STEP) || a->at != a->len) {
        ssize_t got;

        if (a->receiving && a->got == a->receiving->len)
            a->receiving = NULL;
        got = a->receiving ? data_some(l->nic, a) : reply_some(l->peer, a);
        if (got == -EINTR || got == -EAGAIN)
            break;
        if (got < 0)
            return (int)got;
        bytes += (size_t)got;
        n++;
    }
    pthread_mutex_lock(&l->peer->lock);
    err = tcp_ask_flush(l->peer);
    pthread_mutex_unlock(&l->peer->lock);
    return err ? err : n;
}

/* ---- the end ---- */

void tcp_ops_fail(struct tcp_peer *p, int status)
{
    for (unsigned i = 0; i < TCP_OPS; i++)
        if (p->ops[i].kind) {
            p->ops[i].kind = 0;
            tcp_done(p->nic, &p->ops[i], status);
        }
    __atomic_store_n(&p->gets, 0, __ATOMIC_RELAXED);
    p->puts_ended = p->puts;
    p->to_ask = NULL;
    p->to_ask_end = &p->to_ask;
    if (p->frame_pending && p->link && p->link->rest.n_left) {
        p->link->rest.n_left = 0;
        tcp_done(p->nic, &p->frame, status);
    }
}

void tcp_asker_free(struct tcp_link *l)
{
    if (!l->asker)
        return;
    tcp_lend_drop(&l->nic->lender, l->asker);
    tcp_fd_end(l->nic->bulk_epoll, &l->asker->fd);
    free(l->asker);
    l->asker = NULL;
}
