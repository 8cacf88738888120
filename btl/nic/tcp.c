/* SPDX-License-Identifier: BSD-3-Clause */
/* tcp.c - the NIC that is an interface of the host, driven through TCP sockets.
 *
 * Start at tcp_progress(), and at tcp.h, which says what there is. Progress reads the link
 * that it heard of last at each call, for that is where an answer comes from, and asks the
 * kernel about all others every few calls. What has to be looked at now and then (callers,
 * calls of ours, links that leave) is, every millisecond.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tcp.h"

enum {
    TURNS = 8,              /* calls of progress for each look at all sockets */
    TURNS_IDLE = 128,       /* the same where there is no peer and no caller */
    SLOW_NS = 1000000,
    EVENTS = 32,
    TIMEOUT_MS = 15000,
    INLINE_MAX = 1024,
    QUEUE_MAX = 64 << 20,
};

static void tcp_describe(struct pw_nic_info *info)
{
    *info = (struct pw_nic_info){
        .flags = PW_NIC_PUT | PW_NIC_ANSWERS | PW_NIC_REGIONS,
        .frame_max = TCP_FRAME_MAX,
        .inline_max = INLINE_MAX,
        .kept_least = TCP_LEND,
        .latency_ns = 5000,
        .bytes_per_s = (uint64_t)5e9,
        .what = "TCP over the interfaces of this host",
    };
}

static int tcp_probe(struct pw_nic_info *info, char why[PW_NIC_WHY_MAX])
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), err = fd < 0 ? errno : 0;

    if (fd < 0)
        fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        snprintf(why, PW_NIC_WHY_MAX, "TCP sockets cannot be used here (%s): allow "
                 "socket(AF_INET, SOCK_STREAM) in this container", strerror(err));
        return err == EACCES || err == EPERM ? -EACCES : -ENODEV;
    }
    close(fd);
    why[0] = '\0';
    tcp_describe(info);
    return 0;
}

static int tcp_devices(struct pw_nic_device *out, int max)
{
    return pw_iface_devices(out, max);
}

/* ---- open and close ---- */

static int iface_open(struct tcp_nic *nic)
{
    const struct pw_nic_device *d = nic->config.device;
    int err = pw_iface_find(d->name, &nic->iface);

    if (!err && !nic->iface.n_ips)
        err = -ENODEV;
    if (err)
        return err;
    nic->ip = nic->iface.ips[0];
    snprintf(nic->nic.info.what, sizeof(nic->nic.info.what), "TCP over %.15s, %.63s", d->name,
             d->address);
    if (d->bytes_per_s)
        nic->nic.info.bytes_per_s = d->bytes_per_s;
    return 0;
}

static int sockets_open(struct tcp_nic *nic)
{
    int err;

    nic->frames_epoll = epoll_create1(EPOLL_CLOEXEC);
    nic->bulk_epoll = epoll_create1(EPOLL_CLOEXEC);
    nic->bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    nic->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (nic->frames_epoll < 0 || nic->bulk_epoll < 0 || nic->bell < 0 || nic->wake < 0)
        return -errno;
    /* Where that is forbidden silence tells. */
    nic->iface_fd = pw_iface_watch();
    err = tcp_listen(nic, &nic->listen_fd, &nic->address.port);
    if (!err)
        err = tcp_watch(nic->bulk_epoll, nic->listen_fd, EPOLLIN, NULL);
    if (!err)
        err = tcp_watch(nic->frames_epoll, nic->bulk_epoll, EPOLLIN, nic);
    if (!err)
        err = tcp_watch(nic->frames_epoll, nic->wake, EPOLLIN, NULL);
    return err;
}

static void tcp_close(struct pw_nic *nic)
{
    struct tcp_nic *n = (struct tcp_nic *)nic;

    if (!n)
        return;
    tcp_thread_end(n);
    tcp_links_close(n);
    tcp_fd_close(&n->listen_fd);
    tcp_fd_close(&n->frames_epoll);
    tcp_fd_close(&n->bulk_epoll);
    tcp_fd_close(&n->bell);
    tcp_fd_close(&n->wake);
    tcp_fd_close(&n->iface_fd);
    tcp_lender_close(&n->lender);
    tcp_past_close(&n->past);
    pthread_mutex_destroy(&n->lock);
    pthread_mutex_destroy(&n->news);
    free(n->scratch);
    free(n);
}

static int tcp_open(const struct pw_nic_config *config, struct pw_nic **out)
{
    struct tcp_nic *nic;
    int err;

    *out = NULL;
    if (!config->up || !config->device || config->queue_bytes > QUEUE_MAX)
        return -EINVAL;
    nic = calloc(1, sizeof(*nic));
    if (!nic)
        return -ENOMEM;
    nic->nic.ops = &pw_nic_tcp;
    nic->config = *config;
    nic->timeout_ns = (config->peer_timeout_ms ? config->peer_timeout_ms : TIMEOUT_MS) *
                      (uint64_t)1000000;
    nic->listen_fd = nic->frames_epoll = nic->bulk_epoll = nic->bell = nic->wake = -1;
    nic->iface_fd = -1;
    nic->done_end = &nic->done;
    tcp_lender_open(&nic->lender);
    pthread_mutex_init(&nic->lock, NULL);
    pthread_mutex_init(&nic->news, NULL);
    tcp_describe(&nic->nic.info);
    nic->scratch = malloc(TCP_SCRATCH);
    err = nic->scratch ? iface_open(nic) : -ENOMEM;
    if (!err)
        err = tcp_address_open(nic);
    if (!err)
        err = sockets_open(nic);
    nic->config.device = NULL;
    if (err) {
        tcp_close(&nic->nic);
        return err;
    }
    *out = &nic->nic;
    return 0;
}

/* ---- memory ---- */

/* Keys are numbers of regions, which the caller makes: nothing is to be pinned. */
static int tcp_pin(struct pw_nic *nic, void *addr, size_t len, unsigned access,
                   struct pw_nic_key *key)
{
    (void)nic;
    (void)addr;
    (void)len;
    (void)access;
    memset(key, 0, sizeof(*key));
    return 0;
}

static void tcp_unpin(struct pw_nic *nic, void *addr, size_t len, const struct pw_nic_key *key)
{
    (void)nic;
    (void)addr;
    (void)len;
    (void)key;
}

/* Atomics go as frames, so that each happens once whatever becomes of links. */
static int tcp_atomic(struct pw_nic_peer *peer, const struct pw_atomic *what, uint64_t remote,
                      uint64_t *result, const struct pw_nic_key *key, void *op)
{
    (void)peer;
    (void)what;
    (void)remote;
    (void)result;
    (void)key;
    (void)op;
    return -EOPNOTSUPP;
}

/* ---- progress ---- */

/* Not waited for: where the thread has it, the thread does the same. */
static int bulk_soon(struct tcp_nic *n, bool asked, uint32_t hot)
{
    int made = 0;

    if (hot)
        __atomic_store_n(&n->hot, hot - 1, __ATOMIC_RELAXED);
    if (pthread_mutex_trylock(&n->lock))
        return 0;
    if (n->bulk_last)
        made = tcp_bulk_step(n->bulk_last, (asked ? TCP_ASK : 0) | (hot ? TCP_SERVE : 0));
    pthread_mutex_unlock(&n->lock);
    return made;
}

static int bulk_all(struct tcp_nic *n)
{
    int made;

    pthread_mutex_lock(&n->lock);
    made = tcp_bulk_look(n);
    pthread_mutex_unlock(&n->lock);
    return made;
}

static int slow(struct tcp_nic *n, uint64_t now)
{
    n->slow_ns = now;
    if (!__atomic_load_n(&n->busy, __ATOMIC_RELAXED)) {
        if (__atomic_load_n(&n->nic.callers, __ATOMIC_RELAXED))
            tcp_thread_need(n);
        return 0;
    }
    tcp_thread_need(n);
    pthread_mutex_lock(&n->lock);
    tcp_links_step(n);
    pthread_mutex_unlock(&n->lock);
    tcp_tell_callers(n);
    return 0;
}

/* All sockets. */
static int look(struct tcp_nic *n)
{
    struct epoll_event ev[EVENTS];
    int got = epoll_wait(n->frames_epoll, ev, EVENTS, 0), made = 0;
    uint64_t count, now;

    for (int i = 0; i < got; i++) {
        if (!ev[i].data.ptr)
            (void)!read(n->wake, &count, sizeof(count));
        else if (ev[i].data.ptr == n)
            made += bulk_all(n);
        else
            made += tcp_recv(ev[i].data.ptr);
    }
    for (int i = 0; i < TCP_DIRECT; i++)
        if (n->direct[i] && n->direct[i] != n->last && !n->direct[i]->in_again)
            made += tcp_recv(n->direct[i]);
    now = pw_now_ns();
    if (now - n->slow_ns >= SLOW_NS)
        made += slow(n, now);
    return made;
}

static void blocked(struct tcp_nic *n)
{
    if (pthread_mutex_trylock(&n->lock))
        return;
    tcp_flush_all(n);
    pthread_mutex_unlock(&n->lock);
}

static int tcp_progress(struct pw_nic *nic)
{
    struct tcp_nic *n = (struct tcp_nic *)nic;
    uint32_t hot = __atomic_load_n(&n->hot, __ATOMIC_RELAXED);
    bool asked = __atomic_load_n(&n->asked, __ATOMIC_RELAXED);
    int made = 0;

    __atomic_store_n(&n->polls, n->polls + 1, __ATOMIC_RELAXED);
    if (__builtin_expect(n->again != NULL, 0))
        made = tcp_recv_again(n);
    if (asked || hot)
        made += bulk_soon(n, asked, hot);
    /* To look at two sockets is to see each of them half as soon. */
    if (n->last && !n->last->in_again && (!(asked || hot) || n->turns % 4 == 0))
        made += tcp_recv(n->last);
    if ((++n->turns >= TURNS || n->again) &&
        (n->turns >= TURNS_IDLE || __atomic_load_n(&n->busy, __ATOMIC_RELAXED))) {
        n->turns = 0;
        made += look(n);
    }
    if (__atomic_load_n(&n->blocked, __ATOMIC_RELAXED))
        blocked(n);
    if (__atomic_load_n(&n->news_there, __ATOMIC_ACQUIRE) |
        __atomic_load_n(&n->chores, __ATOMIC_ACQUIRE))
        made += tcp_tell(n);
    return made;
}

static bool anything(struct tcp_nic *n)
{
    return (n->again && n->again->more) ||
           __atomic_load_n(&n->news_there, __ATOMIC_SEQ_CST) ||
           __atomic_load_n(&n->chores, __ATOMIC_SEQ_CST);
}

static void tcp_wait(struct pw_nic *nic, unsigned timeout_us)
{
    struct tcp_nic *n = (struct tcp_nic *)nic;
    struct pollfd fds[TCP_DIRECT + 1] = { { .fd = n->frames_epoll, .events = POLLIN } };
    struct timespec t;

    if (timeout_us > 1000 && (__atomic_load_n(&n->blocked, __ATOMIC_RELAXED) ||
                              __atomic_load_n(&n->moving, __ATOMIC_RELAXED) ||
                              n->again))
        timeout_us = 1000;
    for (int i = 0; i < TCP_DIRECT; i++)
        fds[i + 1] = (struct pollfd){ .fd = n->direct[i] ? n->direct[i]->fd : -1,
                                      .events = POLLIN };
    t.tv_sec = timeout_us / 1000000;
    t.tv_nsec = (long)(timeout_us % 1000000) * 1000;
    /* Pairs with tcp_news(): who has some behind this rings. */
    __atomic_store_n(&n->waits, true, __ATOMIC_SEQ_CST);
    if (!anything(n))
        (void)!ppoll(fds, TCP_DIRECT + 1, &t, NULL);
    __atomic_store_n(&n->waits, false, __ATOMIC_RELAXED);
    n->turns = TURNS_IDLE;      /* look at once */
}

const struct pw_nic_ops pw_nic_tcp = {
    .name = "tcp",
    .probe = tcp_probe,
    .devices = tcp_devices,
    .open = tcp_open,
    .close = tcp_close,
    .address = tcp_address,
    .reachable = tcp_reachable,
    .connect = tcp_connect,
    .disconnect = tcp_disconnect,
    .fence = tcp_fence,
    .send = tcp_send,
    .send_kept = tcp_send_kept,
    .send_inline = tcp_send_inline,
    .reach = tcp_reach,
    .put = tcp_put,
    .get = tcp_get,
    .atomic = tcp_atomic,
    .delay = tcp_delay,
    .pin = tcp_pin,
    .unpin = tcp_unpin,
    .progress = tcp_progress,
    .wait = tcp_wait,
};
