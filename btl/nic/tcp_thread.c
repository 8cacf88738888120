/* SPDX-License-Identifier: BSD-3-Clause */
/* tcp_thread.c - what goes on while the program computes, and who is silent.
 *
 * One thread for each NIC, from its first peer or caller on. It sleeps. Where nobody has
 * called progress for TCP_AWAY_MS it does what needs no upcall: it answers callers, serves
 * puts and gets, sends what did not fit. Else it only says that this process is alive,
 * where nothing else was said for a while, and looks who has said nothing: TCP acknowledges
 * for a process that is stopped, so that each process has to speak for itself.
 */
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tcp.h"

enum { EVENTS = 32, TICK_MS_LEAST = 10, TICK_MS_MOST = 1000, TICKS = 8, DOUBT_LOOKS = 4 };

void tcp_ring(struct tcp_nic *nic)
{
    uint64_t one = 1;

    (void)!write(nic->wake, &one, sizeof(one));
}

void tcp_news(struct tcp_nic *nic, uint32_t *which)
{
    /* Either we see that somebody waits, or who is about to sees this: see tcp_wait(). */
    __atomic_store_n(which, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&nic->waits, __ATOMIC_SEQ_CST))
        tcp_ring(nic);
}

int tcp_bulk_look(struct tcp_nic *nic)
{
    struct epoll_event ev[EVENTS];
    int n = epoll_wait(nic->bulk_epoll, ev, EVENTS, 0), made = 0;
    bool others = false;

    for (int i = 0; i < n; i++)
        if (ev[i].data.ptr)
            made += tcp_bulk_step(ev[i].data.ptr, TCP_BOTH);
        else
            others = true;
    if (others) {
        tcp_accept(nic);
        tcp_links_step(nic);
    }
    return made;
}

void tcp_flush_all(struct tcp_nic *nic)
{
    __atomic_store_n(&nic->blocked, 0, __ATOMIC_RELAXED);
    for (struct tcp_link *l = nic->links; l; l = l->next) {
        if (l->leaving)
            continue;
        if (l->peer) {
            pthread_mutex_lock(&l->peer->lock);
            (void)tcp_flush(l);
            pthread_mutex_unlock(&l->peer->lock);
        }
        if (l->asker || l->server)
            tcp_bulk_step(l, TCP_BOTH);
    }
}

/* ---- alive? ---- */

static void speak(struct tcp_link *l)
{
    if (l->peer && pthread_mutex_trylock(&l->peer->lock))
        return;     /* somebody is speaking */
    if (!l->said)
        (void)tcp_say(l, TCP_ALIVE);
    l->said = false;
    if (l->peer)
        pthread_mutex_unlock(&l->peer->lock);
}

/* The kernel knows when something came, also where our program has not read it. While
 * something is unread, a full socket may be what keeps the peer from speaking; but its host
 * acknowledges what we say. */
static void listen_for(struct tcp_nic *nic, struct tcp_link *l)
{
    struct tcp_info info = { 0 };
    socklen_t len = sizeof(info);
    int unread = 0;

    if (tcp_unheard(l, pw_now_ns(), nic->timeout_ns))
        tcp_link_lose(l, ETIMEDOUT);
    if (ioctl(l->fd, SIOCINQ, &unread) || unread ||
        getsockopt(l->fd, IPPROTO_TCP, TCP_INFO, &info, &len))
        return;
    if (info.tcpi_last_data_recv * (uint64_t)1000000 > nic->timeout_ns)
        tcp_link_lose(l, ETIMEDOUT);
}

/* judge: whether those who are not heard of are silent. */
static void tick(struct tcp_nic *nic, bool judge)
{
    for (struct tcp_link *l = nic->links; l; l = l->next) {
        if (l->leaving)
            continue;
        speak(l);
        if (judge)
            listen_for(nic, l);
    }
    tcp_links_step(nic);
}

/* ---- the thread ---- */

struct watch {
    struct tcp_nic *nic;
    uint32_t polls;             /* when we looked last */
    uint64_t tick_ns, next_ns;
    uint64_t doubts_ns;         /* when acknowledgements are looked at; 0: never */
    uint64_t awake_ns;          /* since then this thread was never late */
};

static bool over(const struct tcp_nic *nic)
{
    return __atomic_load_n(&nic->over, __ATOMIC_RELAXED);
}

/* Where all processes were stopped, or the machine was, none has spoken: a peer is to have
 * the whole time to, while we are there to hear it. */
static void tick_due(struct watch *w)
{
    uint64_t now = pw_now_ns();

    if (now < w->next_ns)
        return;
    if (now - w->next_ns > 2 * w->tick_ns)
        w->awake_ns = now;
    pthread_mutex_lock(&w->nic->lock);
    tick(w->nic, now - w->awake_ns >= w->nic->timeout_ns);
    pthread_mutex_unlock(&w->nic->lock);
    w->next_ns = pw_now_ns() + w->tick_ns;
}

/* Has nobody called progress since we looked last, nor is about to? */
static bool away(struct watch *w)
{
    uint32_t polls = __atomic_load_n(&w->nic->polls, __ATOMIC_RELAXED);
    bool same = polls == w->polls;

    w->polls = polls;
    return same && !__atomic_load_n(&w->nic->waits, __ATOMIC_RELAXED);
}

static void doubts_due(struct watch *w)
{
    struct tcp_nic *nic = w->nic;

    if (!w->doubts_ns || pw_now_ns() < w->doubts_ns)
        return;
    pthread_mutex_lock(&nic->lock);
    tcp_doubts_look(nic);
    pthread_mutex_unlock(&nic->lock);
    w->doubts_ns = pw_now_ns() + nic->config.doubt_ms * (uint64_t)1000000 / DOUBT_LOOKS;
}

/* Sleep, until something comes if we are to serve, at most until something is due. */
static void doze(struct watch *w, bool serving)
{
    struct tcp_nic *nic = w->nic;
    struct pollfd fds[3] = { { .fd = nic->bell, .events = POLLIN },
                             { .fd = nic->iface_fd, .events = POLLIN },
                             { .fd = nic->bulk_epoll, .events = POLLIN } };
    uint64_t now = pw_now_ns(), due = w->next_ns;
    int ms;

    if (w->doubts_ns && w->doubts_ns < due)
        due = w->doubts_ns;
    ms = due > now ? (int)((due - now) / 1000000) + 1 : 0;

    if (!serving && ms > TCP_AWAY_MS)
        ms = TCP_AWAY_MS;
    if (serving && __atomic_load_n(&nic->blocked, __ATOMIC_RELAXED) && ms > 1)
        ms = 1;
    if (poll(fds, serving ? 3 : 2, ms) > 0 && fds[1].revents)
        tcp_iface_look(nic);
}

static void serve(struct tcp_nic *nic)
{
    pthread_mutex_lock(&nic->lock);
    tcp_bulk_look(nic);
    if (__atomic_load_n(&nic->blocked, __ATOMIC_RELAXED))
        tcp_flush_all(nic);
    pthread_mutex_unlock(&nic->lock);
}

static void *thread_main(void *arg)
{
    struct watch w = { .nic = arg };
    bool serving = false;

    w.tick_ns = w.nic->timeout_ns / TICKS;
    if (w.tick_ns > TICK_MS_MOST * (uint64_t)1000000)
        w.tick_ns = TICK_MS_MOST * (uint64_t)1000000;
    if (w.tick_ns < TICK_MS_LEAST * (uint64_t)1000000)
        w.tick_ns = TICK_MS_LEAST * (uint64_t)1000000;
    w.awake_ns = pw_now_ns();
    w.next_ns = w.awake_ns + w.tick_ns;
    w.doubts_ns = w.nic->config.doubt_ms ? w.awake_ns : 0;
    while (!over(w.nic)) {
        doze(&w, serving);
        serving = away(&w);
        if (serving)
            serve(w.nic);
        tick_due(&w);
        doubts_due(&w);
    }
    return NULL;
}

void tcp_thread_need(struct tcp_nic *nic)
{
    sigset_t all, old;

    if (nic->thread_runs)
        return;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    nic->thread_runs = !pthread_create(&nic->thread, NULL, thread_main, nic);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void tcp_thread_end(struct tcp_nic *nic)
{
    uint64_t one = 1;

    if (!nic->thread_runs)
        return;
    __atomic_store_n(&nic->over, true, __ATOMIC_RELAXED);
    (void)!write(nic->bell, &one, sizeof(one));
    pthread_join(nic->thread, NULL);
    nic->thread_runs = false;
}
