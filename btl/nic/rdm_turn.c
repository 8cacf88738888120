/* SPDX-License-Identifier: BSD-3-Clause */
/* rdm_turn.c - whose turn it is: progress, waiting, the service thread.
 *
 * Libraries move data when they are called, so somebody has to call them while the program
 * computes: a peer that gets from here, or puts, waits for it. The service thread does when
 * progress was not called for RDM_ABSENT_MS, and sleeps on the library's descriptor
 * between. It makes no upcall: messages stay queued for progress. It is there from the start:
 * who calls a rank that computes is to be answered too.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "rdm.h"
#include "pinwheel/clock.h"

enum {
    RDM_ABSENT_MS = 3,          /* progress was not called for so long: the thread serves */
    RDM_TICK_MS = 50,
    RDM_IDLE_LOOKS = 64,        /* without peers progress looks at one call of so many */
    RDM_TICK_LOOKS = 128,       /* progress looks at the clock at one of so many */
    RDM_UPCALLS = 64,           /* of one progress */
    RDM_NAP_US = 1000,          /* where there is no descriptor to sleep on */
    RDM_FALSE_WAKES = 4,        /* in a row, and the descriptor is not believed */
    RDM_SLEEP_MS = 20,          /* longest sleep, whatever a descriptor says */
};

void rdm_wake(struct rdm_nic *nic)
{
    uint64_t one = 1;

    if (__atomic_load_n(&nic->sleeping, __ATOMIC_SEQ_CST) &&
        write(nic->bell, &one, sizeof(one)) < 0)
        return;                 /* full: it rings already */
}

static void tick_if_due(struct rdm_nic *nic)
{
    uint64_t now = rdm_ms(pw_now_ns());

    if (now - nic->tick_ms >= RDM_TICK_MS)
        rdm_tick(nic, now);
}

/* ---- upcalls ---- */

/* The list may change with each upcall; who was told is not due. */
static struct rdm_peer *caller_next(const struct rdm_nic *nic, uint64_t now)
{
    struct rdm_peer *peer = nic->n_callers ? nic->peers : NULL;

    while (peer && !rdm_caller_due(nic, peer, now))
        peer = peer->next;
    return peer;
}

static void deliver_callers(struct rdm_nic *nic)
{
    uint64_t now = rdm_ms(pw_now_ns());
    struct rdm_address a;
    struct rdm_peer *peer;

    while (nic->up->caller && (peer = caller_next(nic, now))) {
        peer->told_ms = now;
        a = peer->address;
        rdm_unlock(&nic->guard);
        nic->up->caller(nic->ctx, &nic->base, &a,
                        offsetof(struct rdm_address, name) + a.name_len);
        rdm_lock(&nic->guard);
    }
}

static int deliver_done(struct rdm_nic *nic)
{
    int n = 0;

    while (nic->done) {
        struct rdm_op *op = nic->done;

        nic->done = op->next;
        if (!nic->done)
            nic->done_end = &nic->done;
        rdm_unlock(&nic->guard);
        nic->up->complete(nic->ctx, op->cookie, op->status);
        free(op);
        rdm_lock(&nic->guard);
        n++;
    }
    return n;
}

/* A frame, or a put that was fetched meanwhile: of that nobody is told. */
static int deliver_head(struct rdm_nic *nic, struct rdm_peer *peer)
{
    struct rdm_rx *rx = peer->in;
    const struct rdm_head *head = (const void *)rx->bytes;
    bool frame = head->kind == RDM_DATA;

    peer->in = rx->next;
    if (!peer->in)
        peer->in_end = &peer->in;
    if (frame) {
        rdm_unlock(&nic->guard);
        nic->up->recv(nic->ctx, peer->cookie, head->imm, head + 1,
                      rx->len - sizeof(*head));
        rdm_lock(&nic->guard);
    }
    if (!rx->owed)
        rdm_consumed(peer, rx->len);
    rdm_rx_post(nic, rx);
    return frame;
}

/* Operations end before the peer is down. */
static int deliver_down(struct rdm_nic *nic, struct rdm_peer *peer)
{
    int n;

    if (!rdm_peer_settled(peer))
        return 0;               /* the tick sees to that */
    rdm_ops_end(peer, -ECONNRESET);
    n = deliver_done(nic);
    peer->state = RDM_DOWN;
    rdm_unlock(&nic->guard);
    nic->up->down(nic->ctx, peer->cookie, peer->cause, peer->why);
    rdm_lock(&nic->guard);
    return n + 1;
}

/* The next thing that this peer has, one at a time, so that nobody waits long for others.
 * Returns the number of upcalls. */
static int deliver_peer(struct rdm_nic *nic, struct rdm_peer *peer)
{
    if (!peer->adopted)
        return 0;
    if (peer->untold) {
        peer->untold = false;
        if (!nic->up->up)
            return 0;
        rdm_unlock(&nic->guard);
        nic->up->up(nic->ctx, peer->cookie);
        rdm_lock(&nic->guard);
        return 1;
    }
    if (peer->state == RDM_DYING && peer->pulls && rdm_peer_settled(peer))
        rdm_pulls_end(peer);
    if (peer->in && !peer->in->pulling)
        return deliver_head(nic, peer);
    if (!peer->in && peer->state == RDM_DYING)
        return deliver_down(nic, peer);
    return 0;
}

static bool peer_has_more(const struct rdm_peer *peer)
{
    if (!peer->adopted)
        return false;
    return (peer->in && !peer->in->pulling) || peer->untold ||
           (peer->state == RDM_DYING && rdm_peer_settled(peer));
}

static int deliver(struct rdm_nic *nic)
{
    int n = 0;

    while (nic->ready && n < RDM_UPCALLS) {
        struct rdm_peer *peer = nic->ready;

        nic->ready = peer->next_ready;
        if (!nic->ready)
            nic->ready_end = &nic->ready;
        peer->queued = false;
        n += deliver_peer(nic, peer);
        if (peer_has_more(peer))
            rdm_peer_ready(peer);
    }
    return n + (nic->done ? deliver_done(nic) : 0);
}

int rdm_progress(struct pw_nic *base)
{
    struct rdm_nic *nic = rdm_of(base);
    unsigned looks = __atomic_load_n(&nic->looks, __ATOMIC_RELAXED) + 1;
    int n;

    __atomic_store_n(&nic->looks, looks, __ATOMIC_RELAXED);
    if (!__atomic_load_n(&nic->n_peers, __ATOMIC_RELAXED) && looks % RDM_IDLE_LOOKS)
        return 0;
    if (!rdm_trylock(&nic->guard))
        return 0;
    rdm_poll(nic);
    if (looks % RDM_TICK_LOOKS == 0)
        tick_if_due(nic);
    rdm_settle(nic);
    n = deliver(nic);
    if (nic->n_callers)
        deliver_callers(nic);
    rdm_unlock(&nic->guard);
    return n;
}

/* ---- sleeping ---- */

static bool something_to_do(const struct rdm_nic *nic)
{
    return nic->ready || nic->done || caller_next(nic, rdm_ms(pw_now_ns()));
}

/* The descriptor to sleep on, -1: there is none; or -EAGAIN: no sleep, there is something.
 * Those of some providers are readable for as long as they are connected; `found`
 * is what looking brought after the last sleep. It may have been room for somebody. */
static int sleep_on(struct rdm_nic *nic, int found)
{
    bool woken = __atomic_exchange_n(&nic->woken, false, __ATOMIC_RELAXED);

    nic->false_wakes = found || !woken ? 0 : nic->false_wakes + 1;
    if (found)
        return -EAGAIN;
    if (nic->broken || nic->false_wakes > RDM_FALSE_WAKES)
        return -1;
    return nic->driver->arm(nic);
}

/* True: the descriptor ended it. */
static bool nap(int fd, int bell, uint64_t us)
{
    struct pollfd polled[2] = { { .fd = bell, .events = POLLIN },
                                { .fd = fd, .events = POLLIN } };
    struct timespec t = { .tv_sec = (time_t)(us / 1000000),
                          .tv_nsec = (long)(us % 1000000) * 1000 };
    uint64_t rings;

    if (ppoll(polled, 2, &t, NULL) <= 0)
        return false;
    if (polled[0].revents && read(bell, &rings, sizeof(rings)) < 0)
        return false;           /* somebody else has heard it */
    return polled[1].revents;
}

static uint64_t nap_us(int fd, uint64_t us)
{
    return fd < 0 && us > RDM_NAP_US ? RDM_NAP_US : us;
}

void rdm_wait(struct pw_nic *base, unsigned timeout_us)
{
    struct rdm_nic *nic = rdm_of(base);
    uint64_t us = timeout_us < RDM_SLEEP_MS * 1000 ? timeout_us : RDM_SLEEP_MS * 1000;
    int fd, found;

    __atomic_store_n(&nic->sleeping, 1, __ATOMIC_SEQ_CST);
    rdm_lock(&nic->guard);
    found = rdm_poll(nic);
    tick_if_due(nic);
    fd = something_to_do(nic) ? -EAGAIN : sleep_on(nic, found);
    rdm_unlock(&nic->guard);
    if (fd != -EAGAIN && nap(fd, nic->bell, nap_us(fd, us)))
        __atomic_store_n(&nic->woken, true, __ATOMIC_RELAXED);
    __atomic_store_n(&nic->sleeping, 0, __ATOMIC_SEQ_CST);
}

/* ---- the service thread ---- */

static void serve(struct rdm_nic *nic)
{
    int fd, found;

    rdm_lock(&nic->guard);
    found = rdm_poll(nic);
    tick_if_due(nic);
    rdm_settle(nic);
    if (found)
        rdm_wake(nic);
    fd = sleep_on(nic, found);
    rdm_unlock(&nic->guard);
    if (fd != -EAGAIN && nap(fd, nic->stop_bell, nap_us(fd, RDM_SLEEP_MS * 1000)))
        __atomic_store_n(&nic->woken, true, __ATOMIC_RELAXED);
}

static void *thread_main(void *arg)
{
    struct rdm_nic *nic = arg;
    unsigned seen = __atomic_load_n(&nic->looks, __ATOMIC_RELAXED);

    while (!__atomic_load_n(&nic->stop, __ATOMIC_ACQUIRE)) {
        unsigned looks = __atomic_load_n(&nic->looks, __ATOMIC_RELAXED);

        if (looks == seen) {
            serve(nic);
        } else {
            seen = looks;
            nap(-1, nic->stop_bell, RDM_ABSENT_MS * 1000);
        }
    }
    return NULL;
}

/* Signals are the program's. */
int rdm_thread_start(struct rdm_nic *nic)
{
    sigset_t all, old;
    int err;

    if (nic->has_thread)
        return 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    err = pthread_create(&nic->thread, NULL, thread_main, nic);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    nic->has_thread = !err;
    return -err;
}

void rdm_thread_stop(struct rdm_nic *nic)
{
    uint64_t one = 1;

    if (!nic->has_thread)
        return;
    __atomic_store_n(&nic->stop, true, __ATOMIC_RELEASE);
    while (write(nic->stop_bell, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
    pthread_join(nic->thread, NULL);
    nic->has_thread = false;
}
