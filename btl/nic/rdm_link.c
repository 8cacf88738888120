/* SPDX-License-Identifier: BSD-3-Clause */
/* rdm_link.c - addresses, hellos, peers that come, leave and fall silent.
 *
 * An endpoint for reliable datagrams has no connections that anybody could see, so we make
 * our own. Each side draws a token for the other; what comes without it is dropped.
 *
 *     a                                   b
 *     connect: HELLO(b's secret, ta, 0) ->
 *          <- HELLO(a's secret, tb, ta)   a is a caller from here on
 *     up: its own token came back
 *          WELCOME(b's secret, ta, tb) -> up
 *     messages show tb ->                 caller upcall; connect, at some time: what has
 *                                         come is delivered, and more may be sent
 *          <- messages show ta
 *     BYE ->                              <- BYE_DONE: all before it has arrived
 *
 * Who connects anew draws another token: the other side takes that for the end of the old
 * connection. Hellos are repeated until they are answered.
 *
 * A peer of which nothing was heard is asked (PING); one that stays silent is lost. What it
 * was to be read from, or for, may still be written by the library then: the down upcall
 * waits until that was given back, and if that does not come the port is reset. Memory that
 * we fetch a peer's put into is let go of at half the time, for the peer does the put again
 * elsewhere when its own time is over.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rdm.h"
#include "pinwheel/clock.h"

static uint64_t rdm_now_ms(void)
{
    return rdm_ms(pw_now_ns());
}

/* 0 too where it happened after somebody looked at the clock. */
static uint64_t passed(uint64_t now, uint64_t since)
{
    return now > since ? now - since : 0;
}

static uint64_t token_draw(void)
{
    uint64_t token = 0;

    while (!token)
        if (getrandom(&token, sizeof(token), 0) != (ssize_t)sizeof(token))
            return 0;
    return token;
}

/* ---- addresses ---- */

uint64_t rdm_hash(uint64_t hash, const void *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ ((const uint8_t *)data)[i]) * 0x100000001b3u;
    return hash;
}

/* The running kernel and the network namespace: who shares both reaches what listens on
 * 127.0.0.1. */
static uint64_t host_id(void)
{
    uint64_t hash = RDM_HASH_BEGIN;
    struct stat net = { 0 };
    char boot[64];
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, boot, sizeof(boot));

    if (fd >= 0)
        close(fd);
    if (n > 0)
        hash = rdm_hash(hash, boot, (size_t)n);
    if (!stat("/proc/self/ns/net", &net)) {
        hash = rdm_hash(hash, &net.st_ino, sizeof(net.st_ino));
        hash = rdm_hash(hash, &net.st_dev, sizeof(net.st_dev));
    }
    return hash;
}

static size_t address_len(const struct rdm_address *a)
{
    return offsetof(struct rdm_address, name) + a->name_len;
}

/* One for all NICs of the process: what addresses have in common is published once. */
static pthread_once_t secret_once = PTHREAD_ONCE_INIT;
static uint8_t secret[RDM_ID];
static bool secret_there;

static void secret_draw(void)
{
    secret_there = getrandom(secret, sizeof(secret), 0) == sizeof(secret);
}

int rdm_link_open(struct rdm_nic *nic, uint64_t job)
{
    struct rdm_address *a = &nic->address;

    a->magic = nic->driver->magic;
    a->version = RDM_VERSION;
    a->job = job;
    a->host = host_id();
    pthread_once(&secret_once, secret_draw);
    memcpy(a->secret, secret, sizeof(a->secret));
    return secret_there ? 0 : -EIO;
}

size_t rdm_address(struct pw_nic *base, void *out)
{
    struct rdm_nic *nic = rdm_of(base);

    memcpy(out, &nic->address, address_len(&nic->address));
    return address_len(&nic->address);
}

/* 0 with a copy, or -EINVAL. */
static int address_read(const struct rdm_nic *nic, const void *addr, size_t len,
                        struct rdm_address *out)
{
    struct pw_ip ip;
    uint16_t port;

    memset(out, 0, sizeof(*out));
    if (len <= offsetof(struct rdm_address, name) || len > sizeof(*out))
        return -EINVAL;
    memcpy(out, addr, len);
    if (out->magic != nic->driver->magic || out->version != RDM_VERSION ||
        len != address_len(out) || nic->driver->address_ip(out, &ip, &port) == -EINVAL)
        return -EINVAL;
    return 0;
}

static int address_fit(const struct rdm_nic *nic, const struct rdm_address *a)
{
    const struct rdm_address *own = &nic->address;
    bool here = a->host == own->host;
    struct pw_ip ip;
    uint16_t port;

    if (a->protocol != own->protocol || a->protocol_version != own->protocol_version ||
        a->format != own->format || a->job != own->job)
        return PW_FIT_NONE;
    if (!nic->iface.index)
        return here ? PW_FIT_HOST : PW_FIT_LINK;
    if (nic->driver->address_ip(a, &ip, &port))
        return PW_FIT_NONE;
    return pw_iface_fit(&nic->iface, &ip, here, NULL);
}

int rdm_reachable(struct pw_nic *base, const void *addr, size_t len)
{
    struct rdm_address a;

    return address_read(rdm_of(base), addr, len, &a) ? PW_FIT_NONE
                                                     : address_fit(rdm_of(base), &a);
}

static bool address_equal(const struct rdm_address *a, const struct rdm_address *b)
{
    return !memcmp(a, b, sizeof(*a));
}

static void address_text(const struct rdm_nic *nic, const struct rdm_address *a, char *out,
                         size_t size)
{
    char text[PW_IP_TEXT] = "";
    struct pw_ip ip;
    uint16_t port;

    if (!nic->driver->address_ip(a, &ip, &port)) {
        ip.prefix = ip.family == 4 ? 32 : 128;
        snprintf(out, size, "%s port %u", pw_ip_text(&ip, text), port);
        return;
    }
    for (size_t i = 0; i < a->name_len && 2 * i + 2 < size; i++)
        snprintf(out + 2 * i, size - 2 * i, "%02x", a->name[i]);
}

/* ---- the lists ---- */

static struct rdm_peer *peer_find(const struct rdm_nic *nic, const struct rdm_address *a)
{
    for (struct rdm_peer *peer = nic->peers; peer; peer = peer->next)
        if ((peer->state == RDM_CALLING || peer->state == RDM_UP) &&
            address_equal(&peer->address, a))
            return peer;
    return NULL;
}

static struct rdm_peer *caller_find(const struct rdm_nic *nic, const struct rdm_address *a)
{
    for (struct rdm_peer *peer = nic->peers; peer; peer = peer->next)
        if (!peer->adopted && peer->state != RDM_LEAVING && address_equal(&peer->address, a))
            return peer;
    return NULL;
}

/* The core connects anew by itself to whom it knows. */
bool rdm_caller_due(const struct rdm_nic *nic, const struct rdm_peer *peer, uint64_t now)
{
    if (peer->adopted || peer->state == RDM_LEAVING ||
        passed(now, peer->told_ms) < RDM_CALLER_MS)
        return false;
    for (const struct rdm_peer *p = nic->peers; p; p = p->next)
        if (p->adopted && p->state != RDM_LEAVING &&
            address_equal(&p->address, &peer->address))
            return false;
    return true;
}

static int slot_take(struct rdm_nic *nic, struct rdm_peer *peer)
{
    struct rdm_peer **grown;
    unsigned i, n;

    for (i = 0; i < nic->n_slots && nic->slots[i]; i++)
        ;
    if (i == nic->n_slots) {
        n = nic->n_slots ? 2 * nic->n_slots : 16;
        if (n > UINT16_MAX + 1u)
            return -ENOMEM;
        grown = realloc(nic->slots, n * sizeof(*grown));
        if (!grown)
            return -ENOMEM;
        memset(grown + nic->n_slots, 0, (n - nic->n_slots) * sizeof(*grown));
        nic->slots = grown;
        nic->n_slots = n;
    }
    nic->slots[i] = peer;
    peer->slot = (uint16_t)i;
    return 0;
}

static void tx_forget(struct rdm_nic *nic, const struct rdm_peer *peer)
{
    for (struct rdm_slab *slab = nic->slabs; slab && peer->tx; slab = slab->next)
        for (size_t i = 0; slab->tx[0].c.kind == RDM_TX && i < RDM_SLAB; i++)
            if (slab->tx[i].c.peer == peer)
                slab->tx[i].c.peer = NULL;
}

static void rx_list_post(struct rdm_nic *nic, struct rdm_rx *rx)
{
    while (rx) {
        struct rdm_rx *next = rx->next;

        rdm_rx_post(nic, rx);
        rx = next;
    }
}

static void ready_remove(struct rdm_nic *nic, struct rdm_peer *peer)
{
    struct rdm_peer **at = &nic->ready;

    if (!peer->queued)
        return;
    while (*at != peer)
        at = &(*at)->next_ready;
    *at = peer->next_ready;
    if (!*at)
        nic->ready_end = at;
    peer->queued = false;
}

void rdm_peer_free(struct rdm_peer *peer)
{
    struct rdm_nic *nic = rdm_nic_of(peer);
    struct rdm_peer **at = &nic->peers;

    while (*at != peer)
        at = &(*at)->next;
    *at = peer->next;
    ready_remove(nic, peer);
    tx_forget(nic, peer);
    rdm_pulls_end(peer);
    rdm_stream_end(peer);
    rx_list_post(nic, peer->in);
    rx_list_post(nic, peer->early);
    while (peer->owed) {
        struct rdm_owed *owed = peer->owed;

        peer->owed = owed->next;
        free(owed);
    }
    /* A table of addresses that are gone would only grow. */
    if (peer->there)
        nic->driver->peer_close(peer);
    nic->slots[peer->slot] = NULL;
    __atomic_fetch_sub(&nic->n_peers, 1, __ATOMIC_RELAXED);
    nic->n_callers -= !peer->adopted;
    free(peer);
}

/* ---- hellos ---- */

/* As a caller, until somebody adopts it. */
static struct rdm_peer *peer_make(struct rdm_nic *nic, const struct rdm_address *a)
{
    struct rdm_peer *peer = calloc(1, sizeof(*peer));

    if (!peer)
        return NULL;
    peer->base.nic = &nic->base;
    peer->address = *a;
    peer->token = token_draw();
    peer->in_end = &peer->in;
    peer->begun_ms = peer->heard_ms = peer->hello_ms = rdm_now_ms();
    peer->hello_gap_ms = RDM_HELLO_MS;
    address_text(nic, a, peer->text, sizeof(peer->text));
    if (slot_take(nic, peer)) {
        free(peer);
        return NULL;
    }
    peer->next = nic->peers;
    nic->peers = peer;
    __atomic_fetch_add(&nic->n_peers, 1, __ATOMIC_RELAXED);
    nic->n_callers++;
    return peer;
}

static int peer_open(struct rdm_nic *nic, const struct rdm_address *a,
                     struct rdm_peer **out)
{
    struct rdm_peer *peer = peer_make(nic, a);
    int err;

    if (!peer)
        return -ENOMEM;
    if (nic->broken)
        rdm_port_reset(nic);
    if (nic->broken || rdm_rx_grow(nic, nic->n_peers)) {
        rdm_peer_free(peer);
        return -ENOMEM;
    }
    err = nic->driver->peer_open(peer);
    if (err) {
        rdm_peer_free(peer);
        return err;
    }
    peer->there = true;
    peer->reads = nic->reads &&
                  (!nic->driver->peer_reads || nic->driver->peer_reads(peer));
    *out = peer;
    return 0;
}

static size_t hello_len(const struct rdm_hello *hello)
{
    return offsetof(struct rdm_hello, from) + address_len(&hello->from);
}

int rdm_hello_send(struct rdm_peer *peer, uint8_t what)
{
    struct rdm_nic *nic = rdm_nic_of(peer);
    struct rdm_hello hello = {
        .magic = nic->driver->magic, .version = RDM_VERSION, .what = what, .slot = peer->slot,
        .token = peer->token, .echo = peer->its_token, .from = nic->address,
    };
    int err;

    memcpy(hello.secret, peer->address.secret, RDM_ID);
    err = rdm_message(peer, &hello, hello_len(&hello));
    if (!err && what != RDM_LEAVE) {
        peer->owe_hello = false;
        peer->echoed = peer->its_token;
    }
    return err;
}

/* Is it from somebody whom our job gave our address to? */
static bool hello_right(const struct rdm_nic *nic, const struct rdm_hello *hello)
{
    struct rdm_address from;

    return hello->magic == nic->driver->magic && hello->version == RDM_VERSION &&
           hello->what >= RDM_HELLO && hello->what <= RDM_LEAVE && hello->token &&
           !memcmp(hello->secret, nic->address.secret, RDM_ID) &&
           hello->from.name_len <= RDM_NAME_MAX &&
           !address_read(nic, &hello->from, address_len(&hello->from), &from) &&
           address_fit(nic, &from) != PW_FIT_NONE;
}

void rdm_peer_up(struct rdm_peer *peer)
{
    if (peer->state != RDM_CALLING)
        return;
    peer->state = RDM_UP;
    peer->untold = true;
    peer->heard_ms = rdm_now_ms();
    rdm_peer_ready(peer);
}

static void hello_answer(struct rdm_peer *peer, const struct rdm_hello *hello)
{
    bool knows_me = hello->echo == peer->token;

    peer->heard_ms = rdm_now_ms();
    peer->its_token = hello->token;
    peer->its_slot = hello->slot;
    if (knows_me)
        rdm_peer_up(peer);
    if (hello->what == RDM_HELLO || peer->echoed != peer->its_token) {
        peer->owe_hello = true;
        rdm_pay(peer);
    }
}

/* A caller that has sent nothing is forgotten; the others are delivered first. */
static void leave_heard(struct rdm_peer *peer, const struct rdm_hello *hello)
{
    if (!peer || peer->its_token != hello->token)
        return;
    if (!peer->adopted && peer->state == RDM_CALLING)
        rdm_peer_free(peer);
    else if (peer->state == RDM_CALLING)
        peer->its_token = 0;
    else
        rdm_peer_lost(peer, 0, "it has left");
}

/* Of a connection that has ended meanwhile: it begins no other. */
static bool hello_late(const struct rdm_nic *nic, const struct rdm_hello *hello)
{
    for (const struct rdm_peer *peer = nic->peers; peer; peer = peer->next)
        if (peer->state != RDM_CALLING && peer->state != RDM_UP &&
            peer->its_token == hello->token && address_equal(&peer->address, &hello->from))
            return true;
    return false;
}

void rdm_hello_heard(struct rdm_nic *nic, const void *data, size_t len)
{
    struct rdm_hello hello = { 0 };
    struct rdm_peer *peer;

    if (len <= sizeof(hello))
        memcpy(&hello, data, len);
    if (!hello_right(nic, &hello) || len != hello_len(&hello)) {
        __atomic_fetch_add(&nic->base.counts.strangers, 1, __ATOMIC_RELAXED);
        return;
    }
    peer = peer_find(nic, &hello.from);
    if (hello.what == RDM_LEAVE) {
        leave_heard(peer, &hello);
        return;
    }
    if (peer && peer->state == RDM_UP && peer->its_token != hello.token) {
        rdm_peer_lost(peer, -ENETRESET, "it has begun a new connection");
        peer = NULL;
    }
    if (!peer && (hello_late(nic, &hello) || peer_open(nic, &hello.from, &peer)))
        return;                 /* who wants an answer calls again */
    hello_answer(peer, &hello);
    rdm_wake(nic);
}

/* ---- connect and disconnect ---- */

static int peer_connect(struct rdm_nic *nic, const struct rdm_address *a, void *cookie,
                        struct rdm_peer **out)
{
    struct rdm_peer *peer = caller_find(nic, a);
    int err;

    if (!peer) {
        err = peer_open(nic, a, &peer);
        if (err)
            return err;
        peer->owe_hello = true;
    }
    peer->cookie = cookie;
    peer->adopted = true;
    peer->begun_ms = rdm_now_ms();      /* it may have called for long */
    nic->n_callers--;
    rdm_peer_ready(peer);
    rdm_pay(peer);
    *out = peer;
    return 0;
}

int rdm_connect(struct pw_nic *base, const void *addr, size_t len, void *cookie,
                struct pw_nic_peer **out)
{
    struct rdm_nic *nic = rdm_of(base);
    struct rdm_peer *peer = NULL;
    struct rdm_address a;
    int err = address_read(nic, addr, len, &a);

    if (err)
        return err;
    if (address_fit(nic, &a) == PW_FIT_NONE)
        return -EHOSTUNREACH;
    rdm_lock(&nic->guard);
    err = peer_connect(nic, &a, cookie, &peer);
    rdm_unlock(&nic->guard);
    if (!err)
        *out = &peer->base;
    return err;
}

static void ops_wait(struct rdm_peer *peer)
{
    uint64_t until = rdm_now_ms() + RDM_FLUSH_MS;

    while (rdm_ops_under_way(peer) && rdm_now_ms() < until)
        rdm_poll(rdm_nic_of(peer));
}

/* Nobody is told of what it was to bring. What the library still writes for it has to end
 * first. */
static void peer_abandon(struct rdm_peer *peer)
{
    struct rdm_nic *nic = rdm_nic_of(peer);

    ops_wait(peer);
    if (rdm_ops_under_way(peer) && nic->driver->peer_drop) {
        nic->driver->peer_drop(peer);
        ops_wait(peer);
    } else if (rdm_ops_under_way(peer)) {
        nic->reset = true;
        rdm_settle(nic);
    }
    rdm_ops_end(peer, -ECANCELED);
}

/* Those operations of it that are done, with upcalls to be made: not any more. */
static void done_forget(struct rdm_nic *nic, const struct rdm_peer *peer)
{
    struct rdm_op **at = &nic->done;

    nic->done_end = at;
    while (*at) {
        struct rdm_op *op = *at;

        if (op->c.peer == peer) {
            *at = op->next;
            free(op);
        } else {
            at = &op->next;
            nic->done_end = at;
        }
    }
}

/* True: it is to be kept until the peer has said that all has arrived. */
static bool peer_leave(struct rdm_peer *peer)
{
    struct rdm_nic *nic = rdm_nic_of(peer);
    enum rdm_state was = peer->state;

    peer_abandon(peer);
    done_forget(nic, peer);
    ready_remove(nic, peer);
    peer->state = RDM_LEAVING;
    peer->lost_ms = rdm_now_ms();
    if (was == RDM_CALLING)
        rdm_hello_send(peer, RDM_LEAVE);
    if (was != RDM_UP || peer->bye_heard)
        return !rdm_peer_settled(peer);
    peer->owe_bye = true;
    rdm_pay(peer);
    return true;
}

void rdm_disconnect(struct pw_nic_peer *base)
{
    struct rdm_peer *peer = (struct rdm_peer *)base;
    struct rdm_nic *nic = rdm_nic_of(peer);

    rdm_lock(&nic->guard);
    if (!peer_leave(peer))
        rdm_peer_free(peer);
    rdm_unlock(&nic->guard);
}

/* Has it all that we sent, or will it never? */
static bool peer_left(const struct rdm_peer *peer, uint64_t now)
{
    if (!rdm_peer_settled(peer) && passed(now, peer->lost_ms) < RDM_FLUSH_MS)
        return false;
    return peer->state != RDM_LEAVING || peer->bye_done || peer->bye_heard ||
           !(peer->owe_bye || peer->bye_sent) || passed(now, peer->lost_ms) > RDM_LEAVE_MS;
}

static void link_linger(struct rdm_nic *nic)
{
    uint64_t until = rdm_now_ms() + RDM_LEAVE_MS;
    bool left;

    do {
        uint64_t now = rdm_now_ms();

        rdm_poll(nic);
        left = true;
        for (struct rdm_peer *peer = nic->peers; peer; peer = peer->next) {
            rdm_pay(peer);
            left = left && peer_left(peer, now);
        }
        if (!left) {
            rdm_unlock(&nic->guard);
            usleep(50);
            rdm_lock(&nic->guard);
        }
    } while (!left && !nic->broken && rdm_now_ms() < until);
}

static struct rdm_peer *peer_staying(const struct rdm_nic *nic)
{
    struct rdm_peer *peer = nic->peers;

    while (peer && peer->state == RDM_LEAVING)
        peer = peer->next;
    return peer;
}

/* The list may change with each that leaves: others are heard meanwhile. */
void rdm_link_close(struct rdm_nic *nic)
{
    struct rdm_peer *peer;

    rdm_lock(&nic->guard);
    while ((peer = peer_staying(nic)))
        if (!peer_leave(peer))
            rdm_peer_free(peer);
    if (nic->peers)
        link_linger(nic);
    rdm_unlock(&nic->guard);
}

/* ---- loss ---- */

/* Begins the sentence: "10.0.0.2 port 7 by eth0 (10.0.0.1): ". Its length. */
static size_t path_text(struct rdm_peer *peer)
{
    struct rdm_nic *nic = rdm_nic_of(peer);
    char text[PW_IP_TEXT];
    struct pw_ip own;
    uint16_t port;

    if (!nic->iface.index || nic->driver->address_ip(&nic->address, &own, &port))
        return (size_t)snprintf(peer->why, sizeof(peer->why), "%s: ", peer->text);
    own.prefix = own.family == 4 ? 32 : 128;
    return (size_t)snprintf(peer->why, sizeof(peer->why), "%s by %s (%s): ", peer->text,
                            nic->iface.name, pw_ip_text(&own, text));
}

void rdm_peer_lost(struct rdm_peer *peer, int cause, const char *why, ...)
{
    size_t at;
    va_list args;

    if (peer->state == RDM_LEAVING)
        peer->bye_done = true;
    if (peer->state != RDM_CALLING && peer->state != RDM_UP)
        return;
    peer->state = RDM_DYING;
    peer->cause = peer->bye_heard ? 0 : cause;
    peer->lost_ms = rdm_now_ms();
    at = path_text(peer);
    va_start(args, why);
    vsnprintf(peer->why + at, sizeof(peer->why) - at, why, args);
    va_end(args);
    rdm_peer_ready(peer);
}

/* A link that failed looks like a process that died, but nobody refuses a connection. */
static bool peer_gone(struct rdm_peer *peer, int wait_ms)
{
    const struct rdm_nic *nic = rdm_nic_of(peer);

    peer->probed_ms = rdm_now_ms();
    return nic->probes && rdm_listens(nic, &peer->address, wait_ms) == -ECONNREFUSED;
}

/* Its connection is closed. A process that ends closes all it has one after the other, and
 * what listens may be the last. */
static bool peer_ends(struct rdm_peer *peer)
{
    enum { LOOKS = 10, LOOK_US = 500 };
    const struct rdm_nic *nic = rdm_nic_of(peer);
    int err = 0;

    peer->probed_ms = rdm_now_ms();
    for (int i = 0; i < LOOKS && nic->probes && !err; i++) {
        if (i)
            usleep(LOOK_US);
        err = rdm_listens(nic, &peer->address, 20);
    }
    return err == -ECONNREFUSED;
}

static void peer_lost_gone(struct rdm_peer *peer)
{
    bool was_up = peer->state == RDM_UP;

    rdm_peer_lost(peer, -ECONNRESET, "%s",
                  was_up ? "its process is gone" : "nobody is there (any more)");
}

void rdm_peer_failed(struct rdm_peer *peer, int err)
{
    struct rdm_nic *nic = rdm_nic_of(peer);

    if (peer->state == RDM_LEAVING)
        peer->bye_done = true;
    if (peer->state != RDM_CALLING && peer->state != RDM_UP)
        return;
    if (peer->bye_heard)
        rdm_peer_lost(peer, 0, "it has left");
    else if (peer_ends(peer))
        peer_lost_gone(peer);
    else if (peer->state == RDM_UP)
        rdm_peer_lost(peer, -ECONNABORTED, "the connection broke: %s",
                      nic->driver->error(nic, err));
    else if (err == ECONNREFUSED)
        peer_lost_gone(peer);
}

bool rdm_peer_settled(const struct rdm_peer *peer)
{
    return !rdm_ops_under_way(peer) && !rdm_pulls_under_way(peer);
}

/* What is under way to one that we have left still arrives, unless it has to end. */
static bool peer_droppable(const struct rdm_peer *peer)
{
    return peer->there && peer->state != RDM_UP &&
           (peer->state != RDM_LEAVING || !rdm_peer_settled(peer));
}

/* Those that do not answer, with what is under way to them. Who still calls begins anew. */
static void peers_drop(struct rdm_nic *nic)
{
    for (struct rdm_peer *peer = nic->peers; peer; peer = peer->next)
        if (peer_droppable(peer)) {
            nic->driver->peer_drop(peer);
            if (peer->state != RDM_CALLING)
                continue;
            nic->driver->peer_close(peer);
            peer->there = !nic->driver->peer_open(peer);
            peer->owe_hello = peer->owe_hello || peer->adopted;
        }
}

void rdm_settle(struct rdm_nic *nic)
{
    if (!nic->reset)
        return;
    nic->reset = false;
    if (nic->driver->peer_drop) {
        peers_drop(nic);
        return;
    }
    if (!rdm_port_reset(nic))
        return;
    for (struct rdm_peer *peer = nic->peers; peer; peer = peer->next) {
        rdm_peer_lost(peer, -ENETRESET, "the endpoint was reset: another peer was lost");
        if (peer->state == RDM_DYING)
            rdm_peer_ready(peer);
    }
}

/* ---- time ---- */

static bool others_up(const struct rdm_nic *nic)
{
    for (const struct rdm_peer *peer = nic->peers; peer; peer = peer->next)
        if (peer->state == RDM_UP)
            return true;
    return false;
}

static void tick_calling(struct rdm_nic *nic, struct rdm_peer *peer, uint64_t now)
{
    bool stuck = peer->owe_hello;       /* the library did not take the last one */

    if (!peer->adopted)
        return;                 /* it calls, we only answer */
    if (passed(now, peer->begun_ms) > nic->timeout_ms) {
        rdm_peer_lost(peer, -ETIMEDOUT, "it has not answered for %u ms", nic->timeout_ms);
        return;
    }
    if (passed(now, peer->hello_ms) < peer->hello_gap_ms)
        return;
    peer->hello_ms = now;
    if (peer->hello_gap_ms < RDM_HELLO_MOST_MS)
        peer->hello_gap_ms *= 2;
    if (stuck && peer_gone(peer, 5)) {
        peer_lost_gone(peer);
        return;
    }
    peer->owe_hello = true;
    /* The connection below may have got stuck; with a new one the core calls again. */
    if (passed(now, peer->begun_ms) > nic->timeout_ms / 4 && !others_up(nic))
        nic->reset = true;
}

static void tick_up(struct rdm_nic *nic, struct rdm_peer *peer, uint64_t now)
{
    uint64_t silent = passed(now, peer->heard_ms);

    /* Long messages may come after shorter ones, but not while it goes on talking. */
    if (silent < 2 * RDM_PING_MS && rdm_missing(peer, now - nic->timeout_ms / 4)) {
        rdm_peer_lost(peer, -ECONNABORTED, "messages from it were lost");
        nic->reset = true;
    } else if (silent > nic->timeout_ms ||
             (silent > nic->timeout_ms / 2 && rdm_pulls_under_way(peer))) {
        rdm_peer_lost(peer, -ETIMEDOUT, "nothing was heard of it for %u ms",
                      (unsigned)silent);
        /* What TCP keeps for it would hold up the next connection. */
        if (!others_up(nic))
            nic->reset = true;
    } else if (silent > RDM_PING_MS && passed(now, peer->asked_ms) > RDM_PING_MS) {
        struct rdm_head ping = rdm_control(peer, RDM_PING);

        peer->asked_ms = now;
        if (silent > 2 * RDM_PING_MS &&
            passed(now, peer->probed_ms) > RDM_HELLO_MOST_MS &&
            peer_gone(peer, 2))
            peer_lost_gone(peer);
        else if (!nic->driver->ask || nic->driver->ask(peer))
            rdm_message(peer, &ping, sizeof(ping));
    }
}

/* One that nobody wants to hear. */
static bool caller_over(const struct rdm_peer *peer, uint64_t now)
{
    uint64_t since = peer->state == RDM_DYING ? peer->lost_ms : peer->heard_ms;

    return !peer->adopted && (peer->state == RDM_DYING || peer->state == RDM_CALLING) &&
           passed(now, since) > RDM_CALLER_KEPT_MS && rdm_peer_settled(peer);
}

static void tick_peer(struct rdm_nic *nic, struct rdm_peer *peer, uint64_t now)
{
    if (peer->state == RDM_CALLING)
        tick_calling(nic, peer, now);
    else if (peer->state == RDM_UP)
        tick_up(nic, peer, now);
    else if (!rdm_peer_settled(peer))
        nic->reset = nic->reset || passed(now, peer->lost_ms) > RDM_FLUSH_MS;
    else if (peer->state == RDM_LEAVING && peer_left(peer, now)) {
        rdm_peer_free(peer);
        return;
    }
    if (caller_over(peer, now)) {
        rdm_peer_free(peer);
        return;
    }
    peer->owe_ack = peer->owe_ack || peer->consumed != peer->told;
    rdm_pay(peer);
    rdm_reads_retry(peer);
    rdm_stream(peer);
}

/* What has happened since the process went on is not moved behind now. */
static uint64_t forgiven(uint64_t at, uint64_t ms, uint64_t now)
{
    return at + ms < now ? at + ms : now;
}

/* A process that was stopped has heard nothing, which is nobody's fault. */
static void tick_forgive(struct rdm_nic *nic, uint64_t ms, uint64_t now)
{
    for (struct rdm_peer *peer = nic->peers; peer; peer = peer->next) {
        peer->heard_ms = forgiven(peer->heard_ms, ms, now);
        peer->begun_ms = forgiven(peer->begun_ms, ms, now);
        peer->early_ms = forgiven(peer->early_ms, ms, now);
        peer->answers_ms = forgiven(peer->answers_ms, ms, now);
    }
}

void rdm_tick(struct rdm_nic *nic, uint64_t now)
{
    enum { LATE_MS = 1000 };

    if (nic->tick_ms && now - nic->tick_ms > LATE_MS)
        tick_forgive(nic, now - nic->tick_ms, now);
    nic->tick_ms = now;
    for (struct rdm_peer *peer = nic->peers, *next; peer; peer = next) {
        next = peer->next;
        tick_peer(nic, peer, now);
    }
    rdm_rx_retry(nic);
    rdm_settle(nic);
}
