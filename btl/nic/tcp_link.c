/* SPDX-License-Identifier: BSD-3-Clause */
/* tcp_link.c - calling, being called, and leaving.
 *
 * Start at tcp_connect() for the calls we make, at tcp_accept() for those of others; what is
 * under way goes on in tcp_links_step(). Which of two calls is taken: see tcp.h. Who does not
 * say the right hello is a stranger: closed, counted, and nothing it sends is looked at.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "tcp.h"

static uint64_t ms_since(uint64_t ns)
{
    return (pw_now_ns() - ns) / 1000000;
}

static void busy(struct tcp_nic *nic)
{
    bool any = nic->links || nic->peers || nic->shakes;

    __atomic_store_n(&nic->busy, any, __ATOMIC_RELAXED);
    __atomic_store_n(&nic->moving, nic->shakes != NULL, __ATOMIC_RELAXED);
}

static void chore(struct tcp_nic *nic)
{
    tcp_news(nic, &nic->chores);
}

static bool same(const struct tcp_address *a, const struct tcp_address *b)
{
    return !memcmp(a, b, sizeof(*a));
}

static struct tcp_link *link_find(const struct tcp_nic *nic, const struct tcp_address *remote)
{
    struct tcp_link *l = nic->links;

    while (l && (l->leaving || l->over || !same(&l->remote, remote)))
        l = l->next;
    return l;
}

static struct tcp_peer *peer_find(const struct tcp_nic *nic, const struct tcp_address *a)
{
    struct tcp_peer *p = nic->peers;

    while (p && !same(&p->address, a))
        p = p->next;
    return p;
}

/* ---- shakes ---- */

static struct tcp_shake *shake_new(struct tcp_nic *nic, enum tcp_shake_state state, int fd)
{
    struct tcp_shake *s = calloc(1, sizeof(*s));

    if (!s)
        return NULL;
    s->state = state;
    s->fd = fd;
    s->since_ns = pw_now_ns();
    s->next = nic->shakes;
    nic->shakes = s;
    busy(nic);
    return s;
}

/* Closes its socket, unless that is somebody else's by now. It stays in the list, which
 * somebody may be going through, until the next tcp_links_step(). */
static void shake_end(struct tcp_nic *nic, struct tcp_shake *s)
{
    if (s->peer && s->peer->call == s)
        s->peer->call = NULL;
    tcp_fd_end(nic->bulk_epoll, &s->fd);
    s->peer = NULL;
    s->state = SHAKE_OVER;
}

static void shakes_sweep(struct tcp_nic *nic)
{
    struct tcp_shake **at = &nic->shakes;

    while (*at) {
        struct tcp_shake *s = *at;

        if (s->state == SHAKE_OVER) {
            *at = s->next;
            free(s);
        } else {
            at = &s->next;
        }
    }
    busy(nic);
}

static void stranger(struct tcp_nic *nic, struct tcp_shake *s)
{
    tcp_count(&nic->nic.counts.strangers, 1);
    shake_end(nic, s);
}

static struct tcp_shake *shake_held(const struct tcp_nic *nic, const struct tcp_address *from)
{
    struct tcp_shake *s = nic->shakes;

    while (s && (s->state != SHAKE_HELD || !same(&s->in.hello.from, from)))
        s = s->next;
    return s;
}

/* ---- links ---- */

/* Takes the descriptor. */
static struct tcp_link *link_new(struct tcp_nic *nic, int fd, const struct tcp_address *remote,
                                 uint64_t session)
{
    struct tcp_link *l = calloc(1, sizeof(*l));

    if (!l || tcp_recv_open(l)) {
        free(l);
        return NULL;
    }
    l->nic = nic;
    l->fd = fd;
    l->remote = *remote;
    l->here = remote->host == nic->address.host;
    l->session = session;
    l->next = nic->links;
    nic->links = l;
    busy(nic);
    return l;
}

/* By progress, or where it has never been read. */
static void forget_link(struct tcp_link *l)
{
    struct tcp_nic *nic = l->nic;
    struct tcp_link **at = &nic->again;

    if (nic->last == l)
        nic->last = NULL;
    if (nic->bulk_last == l)
        nic->bulk_last = NULL;
    for (int i = 0; i < TCP_DIRECT; i++)
        if (nic->direct[i] == l)
            nic->direct[i] = NULL;
    while (l->in_again && *at && *at != l)
        at = &(*at)->again;
    if (l->in_again && *at)
        *at = l->again;
    l->in_again = false;
}

void tcp_link_free(struct tcp_link *l)
{
    struct tcp_nic *nic = l->nic;
    struct tcp_link **at = &nic->links;

    while (*at != l)
        at = &(*at)->next;
    *at = l->next;
    forget_link(l);
    tcp_asker_free(l);
    tcp_server_free(l);
    tcp_lend_drop(&nic->lender, l);
    tcp_fd_end(nic->frames_epoll, &l->fd);
    free(l->rest.copy);
    free(l->buf);
    free(l);
    busy(nic);
}

void tcp_link_lose(struct tcp_link *l, int err)
{
    int none = 0;

    if (__atomic_compare_exchange_n(&l->lost, &none, err, false, __ATOMIC_RELAXED,
                                    __ATOMIC_RELAXED))
        (void)shutdown(l->fd, SHUT_RDWR);
}

void tcp_doubt(struct tcp_link *l, bool doubted)
{
    struct tcp_peer *p = l->peer;

    if (p->doubted == doubted)
        return;
    p->doubted = doubted;
    /* Its owner may want to send it another way. */
    pthread_mutex_lock(&p->lock);
    if (doubted && tcp_keep_rest(l))
        tcp_link_lose(l, ENOMEM);
    pthread_mutex_unlock(&p->lock);
    chore(l->nic);
}

void tcp_fence(struct pw_nic_peer *peer)
{
    struct tcp_peer *p = (struct tcp_peer *)peer;
    struct tcp_nic *nic = p->nic;

    /* It may have called anew since, and the puts be those of that link. */
    pthread_mutex_lock(&nic->lock);
    for (struct tcp_link *l = nic->links, *next; l; l = next) {
        next = l->next;
        if (l->leaving || !same(&l->remote, &p->address))
            continue;
        tcp_server_free(l);
        tcp_link_lose(l, ECONNABORTED);
        if (!l->peer)
            tcp_link_free(l);
    }
    pthread_mutex_unlock(&nic->lock);
}

/* Link and peer have found each other: progress tells it. */
static void link_join(struct tcp_link *l, struct tcp_peer *p)
{
    pthread_mutex_lock(&p->lock);
    l->peer = p;
    p->link = l;
    pthread_mutex_unlock(&p->lock);
    p->tell_up = true;
    chore(l->nic);
}

int tcp_link_down(struct tcp_link *l, int cause, const char *why)
{
    struct tcp_nic *nic = l->nic;
    struct tcp_peer *p = l->peer;

    pthread_mutex_lock(&nic->lock);
    pthread_mutex_lock(&p->lock);
    tcp_ops_fail(p, -ECONNRESET);
    for (struct tcp_shake *s = nic->shakes; s; s = s->next)
        if (s->peer == p && s->bulk)
            shake_end(nic, s);       /* it was for this link */
    p->link = NULL;
    p->state = TCP_DOWN;
    p->gone = -cause + 1;
    memcpy(p->why, why, sizeof(p->why));
    tcp_link_free(l);
    pthread_mutex_unlock(&p->lock);
    pthread_mutex_unlock(&nic->lock);
    chore(nic);
    return 0;
}

/* ---- calls of ours ---- */

/* A call is of no use any more: tell why, unless there is a call of theirs to take. */
static void call_failed(struct tcp_nic *nic, struct tcp_shake *s, int err)
{
    struct tcp_peer *p = s->peer;

    if (s->bulk) {
        if (p->link)
            tcp_link_lose(p->link, -err);
        shake_end(nic, s);
        return;
    }
    shake_end(nic, s);
    if (shake_held(nic, &p->address))
        return;
    if (err == -ECONNREFUSED) {
        err = -ECONNRESET;
        tcp_why(nic, &p->address, p->why, "nobody is there, its process has ended");
    } else if (err == -ECONNRESET) {
        tcp_why(nic, &p->address, p->why, "it closed the connection instead of answering");
    } else if (err == -ETIMEDOUT) {
        tcp_why(nic, &p->address, p->why, "it has not answered");
    } else {
        tcp_why(nic, &p->address, p->why, "%s", strerror(-err));
    }
    p->gone = -err + 1;
    chore(nic);
}

void tcp_calls_anew(struct tcp_nic *nic)
{
    for (struct tcp_shake *s = nic->shakes; s; s = s->next)
        if (s->state == SHAKE_CALLING && s->peer && !s->peer->here)
            call_failed(nic, s, -ENETDOWN);
    nic->restored = true;
    chore(nic);
}

static int hello_send(struct tcp_nic *nic, struct tcp_shake *s)
{
    struct tcp_hello h = { .magic = TCP_MAGIC, .version = TCP_VERSION,
                           .what = s->bulk ? TCP_BULK : TCP_FRAMES, .session = s->session,
                           .from = nic->address };
    ssize_t n;

    memcpy(h.proof, s->peer->address.secret, TCP_HALF);
    n = send(s->fd, &h, sizeof(h), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n == (ssize_t)sizeof(h))
        return 0;
    return n < 0 ? -errno : -EIO;   /* an empty socket takes 80 bytes */
}

/* The connection for puts and gets needs no answer. */
static void asker_begin(struct tcp_nic *nic, struct tcp_shake *s)
{
    struct tcp_link *l = s->peer->link;
    struct tcp_asker *a = calloc(1, sizeof(*a));
    int err = a ? tcp_watch(nic->bulk_epoll, s->fd, EPOLLIN, l) : -ENOMEM;

    if (err) {
        free(a);
        call_failed(nic, s, err);
        return;
    }
    a->fd = s->fd;
    s->fd = -1;
    pthread_mutex_lock(&s->peer->lock);
    l->asker = a;
    pthread_mutex_unlock(&s->peer->lock);
    shake_end(nic, s);
    tcp_bulk_step(l, TCP_BOTH);
}

static void calling_step(struct tcp_nic *nic, struct tcp_shake *s)
{
    struct sockaddr_storage sa;
    socklen_t len = sizeof(int), sa_len = sizeof(sa);
    int err = 0;

    if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &err, &len))
        err = errno;
    if (!err && getpeername(s->fd, (struct sockaddr *)&sa, &sa_len)) {
        if (errno == ENOTCONN && (pw_now_ns() - s->since_ns) < nic->timeout_ns / 4)
            return;
        err = ETIMEDOUT;
    }
    err = err ? -err : hello_send(nic, s);
    if (!err)
        err = tcp_watch(nic->bulk_epoll, s->fd, EPOLLIN, NULL);
    if (err) {
        call_failed(nic, s, err);
    } else if (s->bulk) {
        asker_begin(nic, s);
    } else {
        s->state = SHAKE_ASKED;
    }
}

static void asked_step(struct tcp_nic *nic, struct tcp_shake *s)
{
    struct tcp_peer *p = s->peer;
    struct tcp_link *l;
    ssize_t n = recv(s->fd, s->in.bytes + s->have, sizeof(s->in.answer) - s->have,
                     MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        if (pw_now_ns() - s->since_ns > nic->timeout_ns)
            call_failed(nic, s, -ETIMEDOUT);
        return;
    }
    if (n <= 0) {
        call_failed(nic, s, n ? -errno : -ECONNRESET);
        return;
    }
    s->have += (size_t)n;
    if (s->have < sizeof(s->in.answer))
        return;
    if (!tcp_answer_sane(&s->in.answer, s->session, &p->address)) {
        call_failed(nic, s, -EPROTO);
        return;
    }
    tcp_watch(nic->bulk_epoll, s->fd, 0, NULL);
    l = link_new(nic, s->fd, &p->address, s->session);
    if (!l) {
        call_failed(nic, s, -ENOMEM);
        return;
    }
    s->fd = -1;
    shake_end(nic, s);
    link_join(l, p);
}

static int call(struct tcp_nic *nic, struct tcp_peer *p, bool bulk)
{
    uint64_t session = bulk ? p->link->session : ++nic->session;
    struct tcp_shake *s;
    int fd = -1, err;

    err = tcp_dial(nic, &p->address, p->here, &fd);
    if (!err)
        err = tcp_watch(nic->bulk_epoll, fd, EPOLLIN | EPOLLOUT, NULL);
    if (err && (err == -EMFILE || err == -ENFILE || err == -ENOMEM || fd < 0)) {
        tcp_fd_close(&fd);
        return err;
    }
    s = shake_new(nic, SHAKE_CALLING, fd);
    if (!s) {
        tcp_fd_close(&fd);
        return -ENOMEM;
    }
    s->peer = p;
    s->bulk = bulk;
    s->session = session;
    if (!bulk)
        p->call = s;
    if (err)    /* no way there now; that is told like what the network says later */
        call_failed(nic, s, err);
    return 0;
}

/* ---- calls of others ---- */

static int answer_send(struct tcp_nic *nic, struct tcp_shake *s)
{
    struct tcp_answer a = { .magic = TCP_MAGIC, .version = TCP_VERSION,
                            .session = s->in.hello.session };

    memcpy(a.proof, nic->address.secret + TCP_HALF, TCP_HALF);
    return send(s->fd, &a, sizeof(a), MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof(a) ? 0 : -EPIPE;
}

/* It is answered, and ours to the same peer given up. */
static void take(struct tcp_nic *nic, struct tcp_shake *s)
{
    const struct tcp_address *from = &s->in.hello.from;
    struct tcp_peer *p = peer_find(nic, from);
    struct tcp_link *l;

    tcp_watch(nic->bulk_epoll, s->fd, 0, NULL);
    if (answer_send(nic, s)) {
        shake_end(nic, s);
        return;
    }
    l = link_new(nic, s->fd, from, s->in.hello.session);
    if (!l) {
        shake_end(nic, s);
        return;
    }
    s->fd = -1;
    shake_end(nic, s);
    if (p && p->state == TCP_CALLS && !p->link) {
        if (p->call)
            shake_end(nic, p->call);
        p->gone = 0;        /* of a call of ours that failed, and was not told of yet */
        link_join(l, p);
    } else {
        chore(nic);         /* a caller */
    }
}

static bool ours_is_taken(const struct tcp_nic *nic, const struct tcp_peer *p)
{
    return p && p->call && memcmp(&nic->address, &p->address, sizeof(p->address)) < 0;
}

static void hold(struct tcp_nic *nic, struct tcp_shake *s, struct tcp_link *l)
{
    struct tcp_shake *older = shake_held(nic, &s->in.hello.from);

    if (older)
        shake_end(nic, older);
    tcp_watch(nic->bulk_epoll, s->fd, 0, NULL);
    s->state = SHAKE_HELD;
    s->since_ns = pw_now_ns();
    if (!l)
        return;
    /* Whose link is dead at the other end is told so by the answer to this. */
    if (l->peer)
        pthread_mutex_lock(&l->peer->lock);
    (void)tcp_say(l, TCP_ALIVE);
    if (l->peer)
        pthread_mutex_unlock(&l->peer->lock);
}

/* Their answer to our call is on its way, this came before it. */
static bool too_early(const struct tcp_nic *nic, const struct tcp_shake *s)
{
    struct tcp_peer *p = peer_find(nic, &s->in.hello.from);

    return p && p->call && p->call->session == s->in.hello.session &&
           ms_since(s->since_ns) <= TCP_HELLO_MS;
}

static void serve_begin(struct tcp_nic *nic, struct tcp_shake *s)
{
    struct tcp_link *l = link_find(nic, &s->in.hello.from);
    struct tcp_server *server;

    if (!l && too_early(nic, s))
        return;
    if (l && __atomic_load_n(&l->lost, __ATOMIC_RELAXED)) {
        shake_end(nic, s);       /* fenced, maybe: nothing more is served */
        return;
    }
    if (!l || l->session != s->in.hello.session || l->server) {
        stranger(nic, s);
        return;
    }
    server = calloc(1, sizeof(*server));
    if (!server || tcp_watch(nic->bulk_epoll, s->fd, EPOLLIN, l)) {
        free(server);
        shake_end(nic, s);
        return;
    }
    server->fd = s->fd;
    s->fd = -1;
    shake_end(nic, s);
    l->server = server;
    tcp_bulk_step(l, TCP_BOTH);
}

static bool has_ended(int fd)
{
    char byte;
    ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK);

    return !n || (n < 0 && errno != EAGAIN && errno != EINTR);
}

/* A call for frames. One that was given up may be read behind the next. */
static void heard_call(struct tcp_nic *nic, struct tcp_shake *s, struct tcp_link *l)
{
    int err = tcp_past_note(&nic->past, &s->in.hello);

    if (err == -EEXIST && !has_ended(s->fd))
        stranger(nic, s);
    else if (err)
        shake_end(nic, s);
    else if (l || ours_is_taken(nic, peer_find(nic, &s->in.hello.from)))
        hold(nic, s, l);
    else
        take(nic, s);
}

static void heard_whole(struct tcp_nic *nic, struct tcp_shake *s)
{
    const struct tcp_address *from = &s->in.hello.from;
    struct tcp_link *l = link_find(nic, from);

    if (!tcp_hello_sane(&s->in.hello, &nic->address)) {
        stranger(nic, s);
        return;
    }
    tcp_tune(nic, s->fd, from->host == nic->address.host);
    if (s->in.hello.what == TCP_BULK)
        serve_begin(nic, s);
    else
        heard_call(nic, s, l);
}

static void heard_step(struct tcp_nic *nic, struct tcp_shake *s)
{
    ssize_t n;

    if (s->have == sizeof(s->in.hello)) {
        heard_whole(nic, s);
        return;
    }
    n = recv(s->fd, s->in.bytes + s->have, sizeof(s->in.hello) - s->have, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        if (ms_since(s->since_ns) > TCP_HELLO_MS ||
            pw_now_ns() - s->since_ns > nic->timeout_ns)
            stranger(nic, s);
        return;
    }
    if (n > 0)
        s->have += (size_t)n;
    if (!tcp_hello_begins(&s->in.hello, s->have, &nic->address))
        stranger(nic, s);
    else if (n <= 0)
        shake_end(nic, s);       /* given up by who called */
    else if (s->have == sizeof(s->in.hello))
        heard_whole(nic, s);
}

/* The peer has another. What this one has brought is still read, but for puts: who asked
 * for them does them again. */
static void link_over(struct tcp_link *l)
{
    tcp_link_lose(l, ECONNRESET);
    tcp_server_free(l);
    l->over = true;
    if (!l->peer)
        tcp_link_free(l);
}

static void held_step(struct tcp_nic *nic, struct tcp_shake *s)
{
    struct tcp_link *l = link_find(nic, &s->in.hello.from);

    if (has_ended(s->fd)) {
        shake_end(nic, s);
        return;
    }
    if (l && ms_since(s->since_ns) > TCP_HELD_MS) {
        link_over(l);
        l = link_find(nic, &s->in.hello.from);
    }
    if (!l && !ours_is_taken(nic, peer_find(nic, &s->in.hello.from)))
        take(nic, s);
}

/* NULL: there is room for another. */
static struct tcp_shake *crowd_oldest(const struct tcp_nic *nic)
{
    struct tcp_shake *oldest = NULL;
    unsigned n = 0;

    for (struct tcp_shake *s = nic->shakes; s; s = s->next)
        if (s->state == SHAKE_HEARD) {
            oldest = s;     /* new ones come first in the list */
            n++;
        }
    return n < TCP_SHAKES ? NULL : oldest;
}

/* Who has kept silent for longest gives way, so that those who speak come through. Many may
 * have spoken since we looked last. */
static void crowd_thin(struct tcp_nic *nic)
{
    struct tcp_shake *s = crowd_oldest(nic);

    if (!s)
        return;
    heard_step(nic, s);
    if (s->state == SHAKE_HEARD)
        stranger(nic, s);
}

void tcp_accept(struct tcp_nic *nic)
{
    int fd;

    while ((fd = accept4(nic->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        crowd_thin(nic);
        if (tcp_watch(nic->bulk_epoll, fd, EPOLLIN | EPOLLRDHUP, NULL) ||
            !shake_new(nic, SHAKE_HEARD, fd))
            tcp_fd_close(&fd);
    }
}

/* ---- leaving ---- */

/* A link that leaves: what was accepted goes out, what comes is dropped. */
static void leaving_step(struct tcp_link *l)
{
    ssize_t n = 0;

    if (!l->shut && !tcp_flush(l)) {
        l->shut = true;
        (void)shutdown(l->fd, SHUT_WR);
    }
    for (int i = 0; i < TCP_BATCH; i++) {
        n = recv(l->fd, l->nic->scratch, TCP_SCRATCH, MSG_DONTWAIT);
        if (n <= 0)
            break;
    }
    if (!n || (n < 0 && errno != EAGAIN && errno != EINTR) || pw_now_ns() > l->leave_ns)
        tcp_link_free(l);
}

static void link_leave(struct tcp_link *l)
{
    tcp_say_bye(l);
    l->rest.n_left = 0;
    tcp_asker_free(l);
    tcp_server_free(l);
    tcp_watch(l->nic->frames_epoll, l->fd, 0, NULL);
    l->peer = NULL;
    l->leaving = true;
    l->leave_ns = pw_now_ns() + TCP_LEAVING_MS * (uint64_t)1000000;
    forget_link(l);
    leaving_step(l);
}

static void leave_all(struct tcp_nic *nic)
{
    uint64_t until = pw_now_ns() + TCP_LEAVING_MS * (uint64_t)1000000;
    bool waiting = true;

    for (struct tcp_link *l = nic->links, *next; l; l = next) {
        next = l->next;
        if (!l->leaving)
            link_leave(l);
    }
    while (waiting && pw_now_ns() < until) {
        waiting = false;
        for (struct tcp_link *l = nic->links, *next; l; l = next) {
            next = l->next;
            leaving_step(l);
        }
        for (struct tcp_link *l = nic->links; l; l = l->next)
            waiting |= !tcp_sent_all(l->fd) || !l->shut;
        if (waiting)
            (void)!poll(NULL, 0, 1);
    }
    while (nic->links)
        tcp_link_free(nic->links);
}

/* ---- what progress tells ---- */

static void askers_wanted(struct tcp_nic *nic)
{
    for (struct tcp_peer *p = nic->peers; p; p = p->next) {
        bool wanted;

        pthread_mutex_lock(&p->lock);
        wanted = p->wants_asker && p->link;
        p->wants_asker = false;
        pthread_mutex_unlock(&p->lock);
        if (!wanted || p->link->asker_called)
            continue;
        p->link->asker_called = true;
        if (call(nic, p, true))
            tcp_link_lose(p->link, ECONNRESET);
    }
}

static struct tcp_op *done_take(struct tcp_nic *nic)
{
    struct tcp_op *op;

    pthread_mutex_lock(&nic->news);
    op = nic->done;
    if (op && !(nic->done = op->next))
        nic->done_end = &nic->done;
    pthread_mutex_unlock(&nic->news);
    return op;
}

/* Puts, gets and frames that have ended. */
static int tell_done(struct tcp_nic *nic)
{
    struct tcp_op *op;
    int made = 0;

    while ((op = done_take(nic))) {
        struct tcp_peer *p = op->peer;
        void *cookie = op->cookie;
        int status = op->status;

        pthread_mutex_lock(&p->lock);
        if (op == &p->frame) {
            p->frame_pending = false;
        } else {
            op->next = p->idle;
            p->idle = op;
            __atomic_fetch_sub(&nic->asked, 1, __ATOMIC_RELAXED);
        }
        pthread_mutex_unlock(&p->lock);
        nic->config.up->complete(nic->config.ctx, cookie, status);
        made++;
    }
    return made;
}

/* A few links are looked at one by one: what arrives then wakes nothing. */
static void frames_watch(struct tcp_nic *nic, struct tcp_link *l)
{
    int i = 0;

    while (i < TCP_DIRECT && nic->direct[i])
        i++;
    if (i < TCP_DIRECT)
        nic->direct[i] = l;
    else if (tcp_watch(nic->frames_epoll, l->fd, EPOLLIN, l))
        tcp_link_lose(l, ENOMEM);
}

/* Under nic->lock. */
static bool up_take(struct tcp_nic *nic, struct tcp_peer *p)
{
    bool told = p->tell_up && p->link;

    p->tell_up = false;
    if (!told)
        return false;
    pthread_mutex_lock(&p->lock);
    p->state = TCP_UP;
    pthread_mutex_unlock(&p->lock);
    frames_watch(nic, p->link);
    nic->last = p->link;
    return true;
}

/* Doubts that have come or gone. Under nic->lock, which is not held in the upcall. */
static int tell_doubts(struct tcp_nic *nic)
{
    const struct pw_nic_config *c = &nic->config;
    struct tcp_peer *p = nic->peers;
    int made = 0;

    while (p) {
        bool now = p->doubted;

        if (p->doubt_told == now || p->state != TCP_UP) {
            p = p->next;
            continue;
        }
        p->doubt_told = now;
        if (!c->up->doubt)
            continue;
        pthread_mutex_unlock(&nic->lock);
        c->up->doubt(c->ctx, p->cookie, now);
        made++;
        pthread_mutex_lock(&nic->lock);
        p = nic->peers;
    }
    return made;
}

static int tell_peers(struct tcp_nic *nic)
{
    const struct pw_nic_config *c = &nic->config;
    struct tcp_peer *p;
    bool restored;
    int made = 0;

    pthread_mutex_lock(&nic->lock);
    while (1) {
        int gone;
        bool up;

        for (p = nic->peers; p && !p->tell_up && !p->gone; p = p->next)
            ;
        if (!p)
            break;
        up = up_take(nic, p);
        gone = up ? 0 : p->gone;
        if (gone) {
            p->gone = 0;
            pthread_mutex_lock(&p->lock);
            p->state = TCP_DOWN;
            pthread_mutex_unlock(&p->lock);
        }
        pthread_mutex_unlock(&nic->lock);
        if (up)
            c->up->up(c->ctx, p->cookie);
        if (gone) {
            made += tell_done(nic);
            c->up->down(c->ctx, p->cookie, 1 - gone, p->why);
        }
        made += up || gone;
        pthread_mutex_lock(&nic->lock);
    }
    made += tell_doubts(nic);
    restored = nic->restored;
    nic->restored = false;
    pthread_mutex_unlock(&nic->lock);
    if (restored && c->up->restored)
        c->up->restored(c->ctx, &nic->nic);
    return made;
}

int tcp_tell(struct tcp_nic *nic)
{
    int made;

    (void)__atomic_exchange_n(&nic->news_there, 0, __ATOMIC_ACQUIRE);
    made = tell_done(nic);
    if (__atomic_exchange_n(&nic->chores, 0, __ATOMIC_ACQUIRE)) {
        pthread_mutex_lock(&nic->lock);
        askers_wanted(nic);
        pthread_mutex_unlock(&nic->lock);
        made += tell_peers(nic);
        tcp_tell_callers(nic);
    }
    return made;
}

/* Has it left, and nothing is to be read of it but that? */
static bool caller_has_left(const struct tcp_link *l)
{
    struct tcp_head head, parsed;
    ssize_t n = recv(l->fd, &head, sizeof(head), MSG_DONTWAIT | MSG_PEEK);
    uint32_t len;

    if (n < 0)
        return errno != EAGAIN && errno != EINTR;
    return !n || (n == sizeof(head) && tcp_head_parse(&head, &parsed, &len) == TCP_BYE);
}

void tcp_tell_callers(struct tcp_nic *nic)
{
    const struct pw_nic_config *c = &nic->config;
    uint64_t begun = pw_now_ns();
    struct tcp_address from;
    struct tcp_link *l;

    pthread_mutex_lock(&nic->lock);
    for (l = nic->links; l;) {
        struct tcp_link *next = l->next;

        /* Each of them once, however long the upcalls take. */
        if (l->peer || l->leaving || l->told_ns >= begun ||
            ms_since(l->told_ns) < TCP_CALLER_MS) {
            l = next;
            continue;
        }
        l->told_ns = pw_now_ns();
        if (caller_has_left(l)) {
            tcp_link_free(l);
            l = next;
            continue;
        }
        from = l->remote;
        pthread_mutex_unlock(&nic->lock);
        if (c->up->caller)
            c->up->caller(c->ctx, &nic->nic, &from, sizeof(from));
        pthread_mutex_lock(&nic->lock);
        l = nic->links;
    }
    pthread_mutex_unlock(&nic->lock);
}

/* ---- all of them ---- */

static void shake_step(struct tcp_nic *nic, struct tcp_shake *s)
{
    switch (s->state) {
    case SHAKE_CALLING: calling_step(nic, s); break;
    case SHAKE_ASKED: asked_step(nic, s); break;
    case SHAKE_HEARD: heard_step(nic, s); break;
    case SHAKE_HELD: held_step(nic, s); break;
    case SHAKE_OVER: break;
    }
}

void tcp_links_step(struct tcp_nic *nic)
{
    for (struct tcp_shake *s = nic->shakes; s; s = s->next)
        shake_step(nic, s);
    shakes_sweep(nic);
    for (struct tcp_link *l = nic->links, *next; l; l = next) {
        next = l->next;
        if (l->leaving)
            leaving_step(l);
        else if (l->cut_ns && ms_since(l->cut_ns) > TCP_CUT_MS)
            tcp_link_lose(l, ECONNRESET);
        else if (l->fenced_ns && !l->server && pw_now_ns() - l->fenced_ns > nic->timeout_ns)
            tcp_link_lose(l, ETIMEDOUT);    /* the puts it waits for do not come */
    }
    askers_wanted(nic);
}

/* ---- connect and disconnect ---- */

static struct tcp_peer *peer_new(struct tcp_nic *nic, const struct tcp_address *a, void *cookie)
{
    struct tcp_peer *p = calloc(1, sizeof(*p));

    if (!p)
        return NULL;
    p->peer.nic = &nic->nic;
    p->nic = nic;
    p->cookie = cookie;
    p->address = *a;
    p->here = a->host == nic->address.host;
    pthread_mutex_init(&p->lock, NULL);
    p->to_ask_end = &p->to_ask;
    for (unsigned i = 0; i < TCP_OPS; i++) {
        p->ops[i].next = p->idle;
        p->idle = &p->ops[i];
    }
    p->next = nic->peers;
    nic->peers = p;
    busy(nic);
    return p;
}

static void peer_free(struct tcp_peer *p)
{
    struct tcp_peer **at = &p->nic->peers;

    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    busy(p->nic);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

int tcp_connect(struct pw_nic *nic, const void *addr, size_t len, void *cookie,
                struct pw_nic_peer **out)
{
    struct tcp_nic *n = (struct tcp_nic *)nic;
    struct tcp_address a;
    struct tcp_peer *p;
    struct tcp_link *l;
    int err = -ENOMEM;

    *out = NULL;
    if (!tcp_address_parse(addr, len, &a))
        return -EINVAL;
    if (!tcp_reachable(nic, addr, len))
        return -EHOSTUNREACH;
    pthread_mutex_lock(&n->lock);
    p = peer_new(n, &a, cookie);
    if (p) {
        l = link_find(n, &a);
        if (l && l->peer)
            err = -EINVAL;
        else if (l)
            link_join(l, p);
        if (!l)
            err = call(n, p, false);
        else if (!l->peer || l->peer == p)
            err = 0;
        if (err)
            peer_free(p);
        else
            *out = &p->peer;
    }
    pthread_mutex_unlock(&n->lock);
    tcp_thread_need(n);
    return err;
}

void tcp_links_close(struct tcp_nic *nic)
{
    while (nic->peers)
        tcp_disconnect(&nic->peers->peer);
    for (struct tcp_shake *s = nic->shakes; s; s = s->next)
        shake_end(nic, s);
    shakes_sweep(nic);
    leave_all(nic);
}

/* What of its has ended is not told any more. */
static void forget_done(struct tcp_peer *p)
{
    struct tcp_nic *nic = p->nic;
    struct tcp_op **at;

    pthread_mutex_lock(&nic->news);
    for (at = &nic->done; *at;)
        if ((*at)->peer == p) {
            if (*at != &p->frame)
                __atomic_fetch_sub(&nic->asked, 1, __ATOMIC_RELAXED);
            *at = (*at)->next;
        } else {
            at = &(*at)->next;
        }
    nic->done_end = at;
    pthread_mutex_unlock(&nic->news);
}

void tcp_disconnect(struct pw_nic_peer *peer)
{
    struct tcp_peer *p = (struct tcp_peer *)peer;
    struct tcp_nic *nic = p->nic;

    pthread_mutex_lock(&nic->lock);
    for (struct tcp_shake *s = nic->shakes, *next; s; s = next) {
        next = s->next;
        if (s->peer == p)
            shake_end(nic, s);
    }
    pthread_mutex_lock(&p->lock);
    if (p->link) {
        struct tcp_link *l = p->link;

        p->link = NULL;
        tcp_ops_fail(p, -ECONNRESET);
        link_leave(l);
    }
    pthread_mutex_unlock(&p->lock);
    forget_done(p);
    peer_free(p);
    pthread_mutex_unlock(&nic->lock);
}
