/* SPDX-License-Identifier: BSD-3-Clause */
/* tcp_serve.c - puts and gets of peers: to and from memory that is borrowed for it.
 *
 * Whoever holds nic->lock does it: progress, or the thread while the program computes.
 * Memory is borrowed for each system call, and given back behind it. So a peer that stops
 * in the middle holds nothing, and memory that was deregistered meanwhile ends the transfer
 * with an error; what the peer still sends, or expects, is dropped, or zeros.
 *
 * Of a put nothing is read ahead: its data goes from the socket into the owner's memory by
 * the kernel, which says -EFAULT where there is none.
 */
#include <stdlib.h>
#include <sys/socket.h>

#include "tcp.h"

enum { REQUEST = sizeof(struct tcp_request), REPLY = sizeof(struct tcp_reply) };

static const char zeros[TCP_SCRATCH];

/* The ends of answers that went well: constant, so that they can be lent. */
#define END(i) { .kind = TCP_DONE, .op = (i) }
#define ENDS4(i) END(i), END((i) + 1), END((i) + 2), END((i) + 3)
#define ENDS16(i) ENDS4(i), ENDS4((i) + 4), ENDS4((i) + 8), ENDS4((i) + 12)
static const struct tcp_reply ends[] = { ENDS16(0), ENDS16(16), ENDS16(32), ENDS16(48) };
_Static_assert(sizeof(ends) == TCP_OPS * REPLY, "one for each");

static int borrow(struct tcp_nic *nic, const struct tcp_request *r, unsigned access)
{
    const struct pw_nic_config *c = &nic->config;

    return c->up->borrow ? c->up->borrow(c->ctx, r->region, r->remote, r->len, access)
                         : -EACCES;
}

static void give_back(struct tcp_nic *nic, const struct tcp_request *r)
{
    nic->config.up->give_back(nic->config.ctx, r->region);
}

static int job_add(struct tcp_server *s, const struct tcp_request *r, int status)
{
    if (s->n_jobs == TCP_OPS)
        return -EPROTO;     /* no peer of ours asks for more at once */
    s->jobs[(s->first + s->n_jobs++) % TCP_OPS] = (struct tcp_job){ .ask = *r,
                                                                   .status = status };
    return 0;
}

/* ---- what comes ---- */

/* recv(2) into there, or into the scratch: bytes, 0, or -errno. */
static ssize_t put_recv(struct tcp_nic *nic, struct tcp_server *s)
{
    size_t left = s->put.len - s->got;
    size_t most = left < TCP_PIECE ? left : TCP_PIECE;
    ssize_t n;

    if (!s->put_status)
        s->put_status = borrow(nic, &s->put, PW_WRITE);
    if (!s->put_status) {
        n = recv(s->fd, (void *)(uintptr_t)(s->put.remote + s->got), most, MSG_DONTWAIT);
        n = n < 0 ? -errno : n;
        give_back(nic, &s->put);
        if (n != -EFAULT)
            return n;
        s->put_status = -EFAULT;
    }
    n = recv(s->fd, nic->scratch, most < TCP_SCRATCH ? most : TCP_SCRATCH, MSG_DONTWAIT);
    return n < 0 ? -errno : n;
}

static int put_landed(struct tcp_link *l)
{
    struct tcp_server *s = l->server;

    /* A put of no bytes is refused like another. */
    if (!s->put.len && !(s->put_status = borrow(l->nic, &s->put, PW_WRITE)))
        give_back(l->nic, &s->put);
    s->have = 0;
    /* Pairs with have_landed(): who sees the count sees the data. */
    __atomic_fetch_add(&l->landed, 1, __ATOMIC_RELEASE);
    return job_add(s, &s->put, s->put_status);
}

static int request_whole(struct tcp_link *l)
{
    struct tcp_server *s = l->server;

    if (!tcp_request_sane(&s->put))
        return -EPROTO;
    s->got = 0;
    s->put_status = 0;
    if (s->put.kind == TCP_PUT)
        return s->put.len ? 0 : put_landed(l);
    s->have = 0;
    return job_add(s, &s->put, 0);
}

/* Bytes taken, or -errno. */
static ssize_t hear_some(struct tcp_link *l)
{
    struct tcp_server *s = l->server;
    int err = 0;
    ssize_t n;

    if (s->have < REQUEST) {
        n = recv(s->fd, (char *)&s->put + s->have, REQUEST - s->have, MSG_DONTWAIT);
        if (n <= 0)
            return n ? -errno : -EPIPE;
        s->have += (size_t)n;
        if (s->have == REQUEST)
            err = request_whole(l);
    } else {
        n = put_recv(l->nic, s);
        if (n <= 0)
            return n ? n : -EPIPE;
        s->got += (size_t)n;
        if (s->got == s->put.len)
            err = put_landed(l);
    }
    return err ? err : n;
}

/* ---- what is answered ---- */

/* The parts of a job's answer that are left: head, data, end. */
struct answer {
    struct tcp_reply data, done;
    struct iovec iov[3];
    int n;
};

static void part_add(struct answer *a, size_t *skip, void *base, size_t len)
{
    size_t gone = *skip < len ? *skip : len;

    *skip -= gone;
    if (len > gone)
        a->iov[a->n++] = (struct iovec){ (char *)base + gone, len - gone };
}

static size_t job_data(const struct tcp_job *j)
{
    return j->with_data ? j->ask.len : 0;
}

static void answer_make(struct answer *a, const struct tcp_job *j)
{
    size_t skip = j->sent, len = job_data(j);
    uint16_t op = j->ask.op;
    size_t at = j->sent > REPLY ? j->sent - REPLY : 0;

    *a = (struct answer){ .data = { .kind = TCP_DATA, .op = op, .len = len },
                          .done = { .kind = TCP_DONE, .op = op, .status = j->status } };
    if (len)
        part_add(a, &skip, &a->data, REPLY);
    if (len && j->status && at < len) {         /* zeros for what cannot be had */
        size_t most = len - at < TCP_SCRATCH ? len - at : TCP_SCRATCH;

        a->iov[a->n++] = (struct iovec){ (void *)(uintptr_t)zeros, most };
        if (at + most < len)
            return;
        skip = 0;
    } else if (len && at < len) {
        size_t most = len - at < TCP_PIECE ? len - at : TCP_PIECE;

        a->iov[a->n++] = (struct iovec){ (void *)(uintptr_t)(j->ask.remote + at), most };
        if (at + most < len)
            return;
        skip = 0;
    } else {
        skip = len ? j->sent - REPLY - len : j->sent;
    }
    part_add(a, &skip, &a->done, REPLY);
}

static ssize_t answer_send(struct tcp_server *s, struct answer *a)
{
    struct msghdr m = { .msg_iov = a->iov, .msg_iovlen = (size_t)a->n };
    ssize_t n = sendmsg(s->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);

    return n < 0 ? -errno : n;
}

/* The head, which is copied: it goes with what follows. */
static ssize_t head_send(struct tcp_server *s, const struct tcp_job *j)
{
    struct tcp_reply head = { .kind = TCP_DATA, .op = j->ask.op, .len = j->ask.len };
    ssize_t n = send(s->fd, (char *)&head + j->sent, REPLY - j->sent,
                     MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE);

    return n < 0 ? -errno : n;
}

/* A piece of the data, and behind the last one the end. */
static ssize_t data_lend(struct tcp_nic *nic, struct tcp_server *s, const struct tcp_job *j)
{
    size_t at = j->sent - REPLY, most = TCP_PIECE;
    size_t left = at < j->ask.len ? j->ask.len - at : 0;
    size_t skip = left ? 0 : at - j->ask.len;
    struct answer a = { .n = 0 };

    if (left)
        a.iov[a.n++] = (struct iovec){ (void *)(uintptr_t)(j->ask.remote + at),
                                       left < most ? left : most };
    if (left <= most)
        part_add(&a, &skip, (void *)(uintptr_t)&ends[j->ask.op], REPLY);
    return tcp_lend(&nic->lender, s->fd, s, a.iov, a.n, left > most);
}

static bool data_left(const struct tcp_job *j)
{
    return j->ask.kind == TCP_GET && !j->status && j->sent < REPLY + j->ask.len;
}

/* What has begun comes to its end, whatever happens; lent also from its midst on, when
 * others have come to wait for it. */
static void data_decide(struct tcp_nic *nic, const struct tcp_server *s, struct tcp_job *j)
{
    if (!j->sent) {
        j->with_data = j->ask.kind == TCP_GET && !j->status && j->ask.len;
        j->lends = false;
    }
    if (j->with_data && !j->lends && (j->ask.lend || s->n_jobs > 1))
        j->lends = tcp_lend_wanted(&nic->lender, j->ask.len);
}

/* As answer_some(); -EOPNOTSUPP: by a copy. */
static ssize_t answer_lend(struct tcp_nic *nic, struct tcp_server *s,
                           const struct tcp_job *j)
{
    if (!j->with_data || j->status || !j->lends)
        return -EOPNOTSUPP;
    return j->sent < REPLY ? head_send(s, j) : data_lend(nic, s, j);
}

/* Bytes sent of the first job's answer; -errno. */
static ssize_t answer_some(struct tcp_nic *nic, struct tcp_server *s, struct tcp_job *j)
{
    bool lent = data_left(j);
    struct answer a;
    ssize_t n;

    if (lent) {
        j->status = borrow(nic, &j->ask, PW_READ);
        lent = !j->status;
    }
    data_decide(nic, s, j);
    n = answer_lend(nic, s, j);
    if (n == -EOPNOTSUPP) {
        tcp_lend_drop(&nic->lender, s);
        answer_make(&a, j);
        n = answer_send(s, &a);
    }
    if (lent)
        give_back(nic, &j->ask);
    if (n == -EFAULT && lent) {
        j->status = -EFAULT;
        n = 0;
    }
    return n;
}

static int answer_jobs(struct tcp_nic *nic, struct tcp_server *s)
{
    size_t sent = 0;
    int done = 0;

    while (s->n_jobs) {
        struct tcp_job *j = &s->jobs[s->first];
        ssize_t n = sent < TCP_STEP ? answer_some(nic, s, j) : -EAGAIN;

        if (n == -EAGAIN || n == -EINTR || n == -ENOBUFS) {
            __atomic_store_n(&nic->blocked, 1, __ATOMIC_RELAXED);
            return done;
        }
        if (n < 0)
            return (int)n;
        j->sent += (size_t)n;
        sent += (size_t)n;
        done++;
        if (j->sent < (job_data(j) ? REPLY + job_data(j) : 0) + REPLY)
            continue;
        tcp_count(&nic->nic.counts.wire_bytes, job_data(j));
        s->first = (s->first + 1) % TCP_OPS;
        s->n_jobs--;
    }
    return done;
}

int tcp_serve_step(struct tcp_link *l)
{
    size_t bytes = 0;
    int n = 0, done;

    while (n < TCP_BATCH && bytes < TCP_STEP) {
        unsigned jobs = l->server->n_jobs;
        ssize_t got = hear_some(l);

        if (got == -EINTR || got == -EAGAIN)
            break;
        if (got < 0)
            return (int)got;
        bytes += (size_t)got;
        n++;
        /* Not behind another look at the socket, which takes half a microsecond. */
        if (!jobs && l->server->n_jobs && (done = answer_jobs(l->nic, l->server)) < 0)
            return done;
    }
    done = answer_jobs(l->nic, l->server);
    return done < 0 ? done : n + done;
}

void tcp_server_free(struct tcp_link *l)
{
    if (!l->server)
        return;
    tcp_lend_drop(&l->nic->lender, l->server);
    tcp_fd_end(l->nic->bulk_epoll, &l->server->fd);
    free(l->server);
    l->server = NULL;
}

/* ---- both ---- */

/* Where a peer leaves, its frames say so; else it is lost a little later (tcp_link.c). */
static void cut(struct tcp_link *l, int err)
{
    if (!l->cut_ns)
        l->cut_ns = pw_now_ns();
    if (err == -EPROTO)
        tcp_link_lose(l, EPROTO);
}

int tcp_bulk_step(struct tcp_link *l, unsigned which)
{
    int n = 0, err;

    if (which & TCP_ASK && l->asker && (err = tcp_ask_step(l))) {
        if (err < 0) {
            cut(l, err);
            pthread_mutex_lock(&l->peer->lock);
            tcp_asker_free(l);
            pthread_mutex_unlock(&l->peer->lock);
        } else {
            n += err;
        }
    }
    if (which & TCP_SERVE && l->server && (err = tcp_serve_step(l))) {
        if (err < 0) {
            cut(l, err);
            tcp_server_free(l);
        } else {
            n += err;
            __atomic_store_n(&l->nic->hot, TCP_HOT, __ATOMIC_RELAXED);
        }
    }
    if (n)
        l->nic->bulk_last = l;
    return n;
}
