/* SPDX-License-Identifier: BSD-3-Clause */
/* shm_events.c - what the sockets tell: callers, departures, deaths.
 *
 * Start at shm_link_progress(); who calls whom is drawn in shm_link.c.
 *
 * Always true: what a peer sent before its socket closed is in its queue when we
 * see the close, so the queue is emptied before the peer is reported down.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shm.h"

/* Events handled in one look at the sockets, and messages of one socket: there is
 * an end to it also when a peer never stops. */
enum { SHM_EVENTS = 32, SHM_MESSAGES = 64 };

/* One descriptor is a segment. More are nobody's: close them all. */
static void shm_take_descriptor(struct shm_stranger *s, const struct cmsghdr *c)
{
    size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

    for (size_t i = 0; i < n; i++) {
        int fd;

        memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
        if (n == 1)
            s->segment = fd;
        else
            close(fd);
    }
}

/* The caller's first message: its hello, or nonsense. */
static int shm_hello_recv(struct shm_nic *nic, struct shm_stranger *s)
{
    struct iovec iov = { &s->hello, sizeof(s->hello) };
    union { char bytes[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } control;
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1,
                        .msg_control = &control, .msg_controllen = sizeof(control) };
    ssize_t n = recvmsg(s->fd, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return -EAGAIN;
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
        shm_take_descriptor(s, c);
    if (n != (ssize_t)sizeof(s->hello) || s->segment < 0 ||
        !shm_hello_sane(nic, &s->hello))
        return -EPROTO;
    return 0;
}

/* Callers wait in the list of strangers until their hello is read and a
 * connect() for them is made. */
static void shm_accept(struct shm_nic *nic)
{
    for (int i = 0; i < SHM_EVENTS; i++) {
        struct shm_stranger *s;
        int fd = accept4(nic->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd < 0)
            return;
        s = calloc(1, sizeof(*s));
        if (!s) {
            close(fd);
            return;
        }
        s->fd = fd;
        s->segment = -1;
        if (shm_same_user(fd, &s->pid) || shm_epoll(nic, fd)) {
            shm_stranger_free(s);
            continue;
        }
        s->next = nic->strangers;
        nic->strangers = s;
    }
}

void shm_leaving(struct shm_peer *p, int cause)
{
    if (p->state > SHM_CALLED)
        return;
    if (!p->heard)
        p->nic->n_unheard--;
    p->state = SHM_LEAVING;
    p->cause = cause;
    p->nic->n_leaving++;
    __atomic_store_n(&p->down, true, __ATOMIC_RELEASE);
}

/* Read what a peer's socket holds. true when its end is closed. A close while
 * messages of ours were unread is told as an error, once, before what the peer
 * had written: so read on behind the first error. */
static bool shm_socket_drain(struct shm_peer *p, int fd)
{
    bool closed = false;

    for (int i = 0; fd >= 0 && i < SHM_MESSAGES; i++) {
        char c;
        ssize_t n = recv(fd, &c, 1, MSG_DONTWAIT);

        if (n == 1)
            p->bye |= c == SHM_BYE;
        else if (n < 0 && errno == EAGAIN)
            break;
        else if (n == 0 || (errno != EINTR && closed))
            return true;
        else if (errno != EINTR)
            closed = true;
    }
    return closed;
}

static struct shm_peer *shm_peer_unheard(struct shm_nic *nic, const uint8_t *id)
{
    for (unsigned i = 0; i < nic->n_peers; i++) {
        struct shm_peer *p = nic->peers[i];
        if (!p->heard && p->state <= SHM_CALLED &&
            !memcmp(p->address.id, id, SHM_ID))
            return p;
    }
    return NULL;
}

static void shm_stranger_event(struct shm_nic *nic, struct shm_stranger **at)
{
    struct shm_stranger *s = *at;
    struct shm_peer *p;
    int err = -ECONNRESET;      /* had said hello: this is its end */

    if (s->segment < 0) {
        err = shm_hello_recv(nic, s);
        if (err == -EAGAIN)
            return;
    }
    if (err) {
        *at = s->next;
        shm_stranger_free(s);
        return;
    }
    p = shm_peer_unheard(nic, s->hello.from);
    if (!p)
        return;
    *at = s->next;
    err = shm_hear(p, s);
    if (err == -EPROTO)
        shm_distrust(p, SHM_LIE_SEAL);
    else if (err)
        shm_leaving(p, -ENOMEM);
}

/* Hellos that are there already, of callers that epoll may tell of only later. */
static void shm_hear_all(struct shm_nic *nic)
{
    struct shm_stranger **at = &nic->strangers;

    shm_accept(nic);
    while (*at) {
        struct shm_stranger *s = *at;

        if (s->segment < 0)
            shm_stranger_event(nic, at);
        if (*at == s)
            at = &s->next;
    }
}

static void shm_peer_event(struct shm_nic *nic, struct shm_peer *p)
{
    bool closed = shm_socket_drain(p, p->out_fd);

    /* It called us before it closed: its frames and its goodbye are in that. */
    if (closed && !p->heard)
        shm_hear_all(nic);
    closed |= shm_socket_drain(p, p->in_fd);
    if (p->bye || closed)
        shm_leaving(p, p->bye ? 0 : -ECONNRESET);
    if (p->state > SHM_CALLED) {
        shm_fd_close(&p->out_fd);
        shm_fd_close(&p->in_fd);
    }
}

static void shm_fd_event(struct shm_nic *nic, int fd)
{
    if (fd == nic->listen_fd) {
        shm_accept(nic);
        return;
    }
    for (struct shm_stranger **at = &nic->strangers; *at; at = &(*at)->next)
        if ((*at)->fd == fd) {
            shm_stranger_event(nic, at);
            return;
        }
    for (unsigned i = 0; i < nic->n_peers; i++)
        if (nic->peers[i]->out_fd == fd || nic->peers[i]->in_fd == fd) {
            shm_peer_event(nic, nic->peers[i]);
            return;
        }
}

static void shm_report_down(struct shm_nic *nic, struct shm_peer *p)
{
    char why[PW_NIC_WHY_MAX];

    p->state = SHM_DOWN;
    nic->n_leaving--;
    switch (p->cause) {
    case 0:
        snprintf(why, sizeof(why), "process %d left", (int)p->pid);
        break;
    case -ECONNRESET:
        snprintf(why, sizeof(why), "process %d of this host died", (int)p->pid);
        break;
    case -ENOMEM:
        snprintf(why, sizeof(why), "the segment of process %d cannot be mapped: is "
                 "the address space limited (ulimit -v)?", (int)p->pid);
        break;
    case -EPROTO:
        snprintf(why, sizeof(why), "process %d of this host %s: nothing more of it is "
                 "believed", (int)p->pid, shm_lie_text(p->lie));
        break;
    default:
        snprintf(why, sizeof(why), "shared memory of process %d: %s", (int)p->pid,
                 strerror(-p->cause));
    }
    nic->config.up->down(nic->config.ctx, p->cookie, p->cause, why);
}

static int shm_peers_step(struct shm_nic *nic)
{
    int events = 0;

    /* Pairs with the release in shm_accuse(): who accuses from now on is seen at the
     * next look. */
    (void)__atomic_exchange_n(&nic->accusations, false, __ATOMIC_ACQUIRE);
    for (unsigned i = 0; i < nic->n_peers; i++) {
        struct shm_peer *p = nic->peers[i];
        int err = p->state == SHM_CALLING ? shm_call(p) : 0;

        if (__atomic_load_n(&p->accused, __ATOMIC_RELAXED) && p->state < SHM_DOWN)
            shm_distrust(p, SHM_LIE_HEAD);
        if (err)
            shm_leaving(p, err == -ECONNREFUSED ? -ECONNRESET : err);
        if (p->state == SHM_LEAVING && (!p->rx.ring || shm_rx_empty(&p->rx))) {
            shm_report_down(nic, p);
            events++;
        }
    }
    return events;
}

/* Returns the number of upcalls made. */
int shm_link_progress(struct shm_nic *nic)
{
    struct epoll_event ev[SHM_EVENTS];
    int n = epoll_wait(nic->epoll_fd, ev, SHM_EVENTS, 0);

    nic->polls = 0;
    for (int i = 0; i < n; i++)
        shm_fd_event(nic, ev[i].data.fd);
    return shm_peers_step(nic);
}
