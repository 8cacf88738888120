/* SPDX-License-Identifier: BSD-3-Clause */
/* shm_events.c - what the sockets tell: callers, departures, deaths.
 *
 * Start at shm_look(), which progress comes to now and then, and at
 * shm_link_progress(); who calls whom is drawn in shm_link.c.
 *
 * Always true: what a peer sent before its socket closed is in its queue when we
 * see the close, so the queue is emptied before the peer is reported down.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shm.h"

/* Events handled in one look at the sockets, and messages of one socket: there is
 * an end to it also when a peer never stops. */
enum { SHM_EVENTS = 32, SHM_MESSAGES = 64 };

/* What a hello may bring, and room to see that somebody passes more. */
enum { SHM_PASSED = 2, SHM_PASSED_ROOM = 4 };

/* A segment, and perhaps what the driver shares. More are nobody's: close them all. */
static void shm_take_descriptors(struct shm_stranger *s, const struct cmsghdr *c)
{
    size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

    for (size_t i = 0; i < n; i++) {
        int fd;

        memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
        if (n > SHM_PASSED)
            close(fd);
        else if (i == 0)
            s->segment = fd;
        else
            s->share = fd;
    }
}

/* The caller's first message: its hello, or nonsense. */
static int shm_hello_recv(struct shm_nic *nic, struct shm_stranger *s)
{
    struct iovec iov = { &s->hello, sizeof(s->hello) };
    union { char bytes[CMSG_SPACE(SHM_PASSED_ROOM * sizeof(int))]; struct cmsghdr align; }
        control;
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1,
                        .msg_control = &control, .msg_controllen = sizeof(control) };
    ssize_t n = recvmsg(s->fd, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return -EAGAIN;
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
        shm_take_descriptors(s, c);
    if (n != (ssize_t)sizeof(s->hello) || !shm_hello_sane(nic, &s->hello) ||
        (s->share >= 0 && !s->hello.words_bytes) ||
        (s->segment < 0 && !(m.msg_flags & MSG_CTRUNC)))
        return -EPROTO;
    s->greeted = true;
    return 0;
}

/* With no descriptor left we could not even tell who cannot be reached: one is kept for
 * that. */
static int shm_accept_one(struct shm_nic *nic)
{
    int fd = accept4(nic->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0 && (errno == EMFILE || errno == ENFILE) && nic->spare_fd >= 0) {
        shm_fd_close(&nic->spare_fd);
        fd = accept4(nic->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    }
    if (nic->spare_fd < 0)
        nic->spare_fd = fcntl(nic->epoll_fd, F_DUPFD_CLOEXEC, 0);
    return fd;
}

/* Callers wait in the list of strangers until their hello is read and a
 * connect() for them is made. */
static void shm_accept(struct shm_nic *nic)
{
    for (int i = 0; i < SHM_EVENTS; i++) {
        struct shm_stranger *s;
        int fd = shm_accept_one(nic);

        if (fd < 0)
            return;
        s = calloc(1, sizeof(*s));
        if (!s) {
            close(fd);
            return;
        }
        s->fd = fd;
        s->segment = s->share = -1;
        if (shm_same_user(fd, &s->pid) || shm_epoll(nic, fd)) {
            shm_stranger_free(s);
            continue;
        }
        s->next = nic->strangers;
        nic->strangers = s;
        shm_stir(nic);
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
    shm_detour(p);
}

/* Read what a peer's socket holds. true when its end is closed. A close while
 * messages of ours were unread is told as an error, once, before what the peer
 * had written: so read on behind the first error. */
bool shm_socket_drain(int fd, bool *bye)
{
    bool closed = false;

    for (int i = 0; fd >= 0 && i < SHM_MESSAGES; i++) {
        char c;
        ssize_t n = recv(fd, &c, 1, MSG_DONTWAIT);

        if (n == 1)
            *bye |= c == SHM_BYE;
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
    int err;

    if (s->greeted) {           /* this is its end */
        if (shm_socket_drain(s->fd, &s->bye) || s->bye)
            shm_fd_close(&s->fd);
        return;
    }
    err = shm_hello_recv(nic, s);
    if (err == -EAGAIN)
        return;
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
        shm_leaving(p, err == -EMFILE ? err : -ENOMEM);
}

/* Hellos that are there already, of callers that epoll may tell of only later. */
static void shm_hear_all(struct shm_nic *nic)
{
    struct shm_stranger **at = &nic->strangers;

    shm_accept(nic);
    while (*at) {
        struct shm_stranger *s = *at;

        if (!s->greeted)
            shm_stranger_event(nic, at);
        if (*at == s)
            at = &s->next;
    }
}

static void shm_peer_event(struct shm_nic *nic, struct shm_peer *p)
{
    bool closed = shm_socket_drain(p->out_fd, &p->bye);

    /* It called us before it closed: its frames and its goodbye are in that. */
    if (closed && !p->heard)
        shm_hear_all(nic);
    closed |= shm_socket_drain(p->in_fd, &p->bye);
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
    case -ENOSPC:
        snprintf(why, sizeof(why), "there is no memory left for messages to process %d of "
                 "this host", (int)p->pid);
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
        if (__atomic_load_n(&p->starved, __ATOMIC_RELAXED))
            shm_leaving(p, -ENOSPC);
        if (err)
            shm_leaving(p, err == -ECONNREFUSED ? -ECONNRESET : err);
        if (p->state == SHM_LEAVING && shm_rx_empty(&p->rx)) {
            shm_report_down(nic, p);
            events++;
        }
    }
    return events;
}

/* Callers that nobody has connected to. An upcall may do so, which takes one out of the
 * list. Who is gone and was told of since has been waited for long enough. */
static void shm_tell_callers(struct shm_nic *nic)
{
    struct shm_stranger **at, *s;

    for (s = nic->strangers; s; s = s->next)
        s->untold = s->greeted;
    for (at = &nic->strangers; (s = *at);) {
        struct shm_address a = nic->address;

        if (!s->untold) {
            at = &s->next;
            continue;
        }
        if (s->told) {
            *at = s->next;
            shm_stranger_free(s);
            continue;
        }
        s->untold = false;
        s->told = s->fd < 0;
        memcpy(a.id, s->hello.from, SHM_ID);
        memcpy(a.secret, s->hello.from_secret, SHM_ID);
        if (nic->config.up->caller)
            nic->config.up->caller(nic->config.ctx, &nic->nic, &a, sizeof(a));
        at = &nic->strangers;
    }
}

/* Returns the number of upcalls made, but for callers. */
int shm_link_progress(struct shm_nic *nic)
{
    struct epoll_event ev[SHM_EVENTS];
    int n = epoll_wait(nic->epoll_fd, ev, SHM_EVENTS, 0), events;

    for (int i = 0; i < n; i++)
        shm_fd_event(nic, ev[i].data.fd);
    events = shm_peers_step(nic);
    if (nic->strangers)
        shm_tell_callers(nic);
    return events;
}

/* ---- when to look ---- */

/* Between two looks at the sockets when all is quiet: a look is a system call, and who
 * calls for the first time waits for it. By the clock, for progress calls may be far
 * apart; or so many times SHM_POLLS of them, when they are cheap. Soon after a call of
 * ours or another's there are more to come, an answer at least: an eighth of the time
 * since then. */
enum { SHM_LOOK_NS = 200 * 1000, SHM_LOOK_ROUNDS = 128, SHM_STIRRED_SHARE = 8 };

static uint64_t shm_now(void)
{
#ifdef __x86_64__
    return __rdtsc();
#else
    uint64_t ns, ticks;

    shm_clocks(&ns, &ticks);
    return ticks;
#endif
}

void shm_stir(struct shm_nic *nic)
{
    nic->stirred = shm_now();
}

void shm_look_soon(struct shm_nic *nic)
{
    nic->polls = SHM_POLLS;
    nic->rounds = SHM_LOOK_ROUNDS;
}

static bool shm_look_due(struct shm_nic *nic)
{
    uint64_t now = shm_now(), wait, calm;

    if (!nic->look_ticks)
        nic->look_ticks = shm_ticks(nic, SHM_LOOK_NS);
    calm = (now - nic->stirred) / SHM_STIRRED_SHARE;
    wait = calm < nic->look_ticks ? calm : nic->look_ticks;
    if (++nic->rounds < SHM_LOOK_ROUNDS && now - nic->looked < wait)
        return false;
    nic->looked = now;
    nic->rounds = 0;
    return true;
}

int shm_look(struct shm_nic *nic)
{
    bool accused = __atomic_load_n(&nic->accusations, __ATOMIC_RELAXED);

    nic->polls = 0;
    if (__builtin_expect(nic->awaits_barrier, 0))
        shm_barrier_look(nic);
    if (!shm_look_due(nic) && !nic->n_leaving && !accused)
        return 0;
    return shm_link_progress(nic);
}
