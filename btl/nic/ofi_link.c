/* SPDX-License-Identifier: BSD-3-Clause */
/* ofi_link.c - addresses, hellos, peers that come, leave and fall silent.
 *
 * An RDM endpoint has no connections that anybody could see, so we make our own. Each side
 * draws a token for the other; what comes without it is dropped.
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
 * was to be read from, or for, may still be written by the provider then: the down upcall
 * waits until that was given back, and if that does not come the port is reset. Memory that
 * we fetch a peer's put into is let go of at half the time, for the peer does the put again
 * elsewhere when its own time is over.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ofi.h"
#include "pinwheel/clock.h"

static uint64_t ofi_now_ms(void)
{
    return ofi_ms(pw_now_ns());
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

static uint64_t hash_bytes(uint64_t hash, const void *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ ((const uint8_t *)data)[i]) * 0x100000001b3u;
    return hash;
}

/* The running kernel and the network namespace: who shares both reaches what listens on
 * 127.0.0.1. */
static uint64_t host_id(void)
{
    uint64_t hash = 0xcbf29ce484222325u;
    struct stat net = { 0 };
    char boot[64];
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, boot, sizeof(boot));

    if (fd >= 0)
        close(fd);
    if (n > 0)
        hash = hash_bytes(hash, boot, (size_t)n);
    if (!stat("/proc/self/ns/net", &net)) {
        hash = hash_bytes(hash, &net.st_ino, sizeof(net.st_ino));
        hash = hash_bytes(hash, &net.st_dev, sizeof(net.st_dev));
    }
    return hash;
}

static size_t address_len(const struct ofi_address *a)
{
    return offsetof(struct ofi_address, name) + a->name_len;
}

int ofi_link_open(struct ofi_nic *nic, uint64_t job)
{
    struct ofi_address *a = &nic->address;
    const struct fi_info *info = nic->domain.info;

    if (nic->port.name_len > OFI_NAME_MAX)
        return -EINVAL;
    a->magic = OFI_MAGIC;
    a->version = OFI_VERSION;
    a->name_len = (uint8_t)nic->port.name_len;
    a->provider_version = (uint16_t)info->ep_attr->protocol_version;
    a->provider = info->ep_attr->protocol;
    a->format = info->addr_format;
    a->job = job;
    a->host = host_id();
    memcpy(a->name, nic->port.name, nic->port.name_len);
    return getrandom(a->secret, sizeof(a->secret), 0) == sizeof(a->secret) ? 0 : -EIO;
}

size_t ofi_address(struct pw_nic *base, void *out)
{
    struct ofi_nic *nic = ofi_of(base);

    memcpy(out, &nic->address, address_len(&nic->address));
    return address_len(&nic->address);
}

/* Sockets' names hold their family; others are for their provider to understand. */
static bool name_sane(const struct ofi_address *a)
{
    static const struct sockaddr_in in;
    sa_family_t family;

    memcpy(&family, a->name, sizeof(family));
    if (a->format == FI_SOCKADDR_IN)
        return a->name_len == sizeof(in) && family == AF_INET &&
               !memcmp(a->name + offsetof(struct sockaddr_in, sin_zero), in.sin_zero,
                       sizeof(in.sin_zero));
    if (a->format == FI_SOCKADDR_IN6)
        return a->name_len == sizeof(struct sockaddr_in6) && family == AF_INET6;
    return a->name_len > 0;
}

/* 0 with a copy, or -EINVAL. */
static int address_read(const void *addr, size_t len, struct ofi_address *out)
{
    memset(out, 0, sizeof(*out));
    if (len <= offsetof(struct ofi_address, name) || len > sizeof(*out))
        return -EINVAL;
    memcpy(out, addr, len);
    if (out->magic != OFI_MAGIC || out->version != OFI_VERSION || len != address_len(out) ||
        !name_sane(out))
        return -EINVAL;
    return 0;
}

static int address_fit(const struct ofi_nic *nic, const struct ofi_address *a)
{
    const struct ofi_address *own = &nic->address;
    bool here = a->host == own->host;
    struct pw_ip ip;

    if (a->provider != own->provider || a->provider_version != own->provider_version ||
        a->format != own->format || a->job != own->job)
        return PW_FIT_NONE;
    if (!nic->iface.index)
        return here ? PW_FIT_HOST : PW_FIT_LINK;
    if (pw_ip_from_sockaddr((const struct sockaddr *)(const void *)a->name, a->name_len,
                            &ip))
        return PW_FIT_NONE;
    return pw_iface_fit(&nic->iface, &ip, here, NULL);
}

int ofi_reachable(struct pw_nic *base, const void *addr, size_t len)
{
    struct ofi_address a;

    return address_read(addr, len, &a) ? PW_FIT_NONE : address_fit(ofi_of(base), &a);
}

static bool address_equal(const struct ofi_address *a, const struct ofi_address *b)
{
    return !memcmp(a, b, sizeof(*a));
}

static void address_text(const struct ofi_address *a, char *out, size_t size)
{
    char ip[PW_IP_TEXT] = "";
    struct pw_ip parsed;
    uint16_t port;

    if ((a->format == FI_SOCKADDR_IN || a->format == FI_SOCKADDR_IN6) &&
        !pw_ip_from_sockaddr((const struct sockaddr *)(const void *)a->name, a->name_len,
                             &parsed)) {
        /* The port stands at the same place in both. */
        memcpy(&port, a->name + offsetof(struct sockaddr_in, sin_port), sizeof(port));
        parsed.prefix = parsed.family == 4 ? 32 : 128;
        snprintf(out, size, "%s port %u", pw_ip_text(&parsed, ip), ntohs(port));
        return;
    }
    for (size_t i = 0; i < a->name_len && 2 * i + 2 < size; i++)
        snprintf(out + 2 * i, size - 2 * i, "%02x", a->name[i]);
}

/* ---- the lists ---- */

static struct ofi_peer *peer_find(const struct ofi_nic *nic, const struct ofi_address *a)
{
    for (struct ofi_peer *peer = nic->peers; peer; peer = peer->next)
        if ((peer->state == OFI_CALLING || peer->state == OFI_UP) &&
            address_equal(&peer->address, a))
            return peer;
    return NULL;
}

static struct ofi_peer *caller_find(const struct ofi_nic *nic, const struct ofi_address *a)
{
    for (struct ofi_peer *peer = nic->peers; peer; peer = peer->next)
        if (!peer->adopted && peer->state != OFI_LEAVING && address_equal(&peer->address, a))
            return peer;
    return NULL;
}

/* The core connects anew by itself to whom it knows. */
bool ofi_caller_due(const struct ofi_nic *nic, const struct ofi_peer *peer, uint64_t now)
{
    if (peer->adopted || peer->state == OFI_LEAVING || now - peer->told_ms < OFI_CALLER_MS)
        return false;
    for (const struct ofi_peer *p = nic->peers; p; p = p->next)
        if (p->adopted && p->state != OFI_LEAVING &&
            address_equal(&p->address, &peer->address))
            return false;
    return true;
}

static int slot_take(struct ofi_nic *nic, struct ofi_peer *peer)
{
    struct ofi_peer **grown;
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

static void tx_forget(struct ofi_nic *nic, const struct ofi_peer *peer)
{
    for (struct ofi_slab *slab = nic->slabs; slab && peer->tx; slab = slab->next)
        for (size_t i = 0; slab->tx[0].c.kind == OFI_TX && i < OFI_SLAB; i++)
            if (slab->tx[i].c.peer == peer)
                slab->tx[i].c.peer = NULL;
}

static void rx_list_post(struct ofi_nic *nic, struct ofi_rx *rx)
{
    while (rx) {
        struct ofi_rx *next = rx->next;

        ofi_rx_post(nic, rx);
        rx = next;
    }
}

static void ready_remove(struct ofi_nic *nic, struct ofi_peer *peer)
{
    struct ofi_peer **at = &nic->ready;

    if (!peer->queued)
        return;
    while (*at != peer)
        at = &(*at)->next_ready;
    *at = peer->next_ready;
    if (!*at)
        nic->ready_end = at;
    peer->queued = false;
}

void ofi_peer_free(struct ofi_peer *peer)
{
    struct ofi_nic *nic = ofi_nic_of(peer);
    struct ofi_peer **at = &nic->peers;

    while (*at != peer)
        at = &(*at)->next;
    *at = peer->next;
    ready_remove(nic, peer);
    tx_forget(nic, peer);
    ofi_pulls_end(peer);
    rx_list_post(nic, peer->in);
    rx_list_post(nic, peer->early);
    while (peer->owed) {
        struct ofi_owed *owed = peer->owed;

        peer->owed = owed->next;
        free(owed);
    }
    /* A table of addresses that are gone would only grow. */
    if (nic->port.av && peer->to != FI_ADDR_UNSPEC)
        fi_av_remove(nic->port.av, &peer->to, 1, 0);
    nic->slots[peer->slot] = NULL;
    __atomic_fetch_sub(&nic->n_peers, 1, __ATOMIC_RELAXED);
    nic->n_callers -= !peer->adopted;
    free(peer);
}

/* ---- hellos ---- */

/* As a caller, until somebody adopts it. */
static struct ofi_peer *peer_make(struct ofi_nic *nic, const struct ofi_address *a)
{
    struct ofi_peer *peer = calloc(1, sizeof(*peer));

    if (!peer)
        return NULL;
    peer->base.nic = &nic->base;
    peer->address = *a;
    peer->token = token_draw();
    peer->in_end = &peer->in;
    peer->begun_ms = peer->heard_ms = peer->hello_ms = ofi_now_ms();
    peer->hello_gap_ms = OFI_HELLO_MS;
    peer->to = FI_ADDR_UNSPEC;
    address_text(a, peer->text, sizeof(peer->text));
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

static int peer_open(struct ofi_nic *nic, const struct ofi_address *a,
                     struct ofi_peer **out)
{
    struct ofi_peer *peer = peer_make(nic, a);

    if (!peer)
        return -ENOMEM;
    if (nic->broken)
        ofi_port_reset(nic);
    if (nic->broken || ofi_rx_grow(nic, nic->n_peers)) {
        ofi_peer_free(peer);
        return -ENOMEM;
    }
    if (fi_av_insert(nic->port.av, a->name, 1, &peer->to, 0, NULL) != 1) {
        peer->to = FI_ADDR_UNSPEC;
        ofi_peer_free(peer);
        return -EHOSTUNREACH;
    }
    *out = peer;
    return 0;
}

int ofi_hello_send(struct ofi_peer *peer, uint8_t what)
{
    struct ofi_nic *nic = ofi_nic_of(peer);
    struct ofi_hello hello = {
        .magic = OFI_MAGIC, .version = OFI_VERSION, .what = what, .slot = peer->slot,
        .token = peer->token, .echo = peer->its_token, .from = nic->address,
    };
    int err;

    memcpy(hello.secret, peer->address.secret, OFI_ID);
    err = ofi_message(peer, &hello, sizeof(hello));
    if (!err && what != OFI_LEAVE) {
        peer->owe_hello = false;
        peer->echoed = peer->its_token;
    }
    return err;
}

/* Is it from somebody whom our job gave our address to? */
static bool hello_right(const struct ofi_nic *nic, const struct ofi_hello *hello)
{
    struct ofi_address from;

    return hello->version == OFI_VERSION && hello->token &&
           !memcmp(hello->secret, nic->address.secret, OFI_ID) &&
           hello->from.name_len <= OFI_NAME_MAX &&
           !address_read(&hello->from, address_len(&hello->from), &from) &&
           address_fit(nic, &from) != PW_FIT_NONE;
}

void ofi_peer_up(struct ofi_peer *peer)
{
    if (peer->state != OFI_CALLING)
        return;
    peer->state = OFI_UP;
    peer->untold = true;
    peer->heard_ms = ofi_now_ms();
    ofi_peer_ready(peer);
}

static void hello_answer(struct ofi_peer *peer, const struct ofi_hello *hello)
{
    bool knows_me = hello->echo == peer->token;

    peer->heard_ms = ofi_now_ms();
    peer->its_token = hello->token;
    peer->its_slot = hello->slot;
    if (knows_me)
        ofi_peer_up(peer);
    if (hello->what == OFI_HELLO || peer->echoed != peer->its_token) {
        peer->owe_hello = true;
        ofi_pay(peer);
    }
}

/* A caller that has sent nothing is forgotten; the others are delivered first. */
static void leave_heard(struct ofi_peer *peer, const struct ofi_hello *hello)
{
    if (!peer || peer->its_token != hello->token)
        return;
    if (!peer->adopted && peer->state == OFI_CALLING)
        ofi_peer_free(peer);
    else if (peer->state == OFI_CALLING)
        peer->its_token = 0;
    else
        ofi_peer_lost(peer, 0, "it has left");
}

void ofi_hello_heard(struct ofi_nic *nic, const void *data, size_t len)
{
    struct ofi_hello hello;
    struct ofi_peer *peer;

    if (len == sizeof(hello))
        memcpy(&hello, data, sizeof(hello));
    if (len != sizeof(hello) || !hello_right(nic, &hello)) {
        __atomic_fetch_add(&nic->base.counts.strangers, 1, __ATOMIC_RELAXED);
        return;
    }
    peer = peer_find(nic, &hello.from);
    if (hello.what == OFI_LEAVE) {
        leave_heard(peer, &hello);
        return;
    }
    if (peer && peer->state == OFI_UP && peer->its_token != hello.token) {
        ofi_peer_lost(peer, -ENETRESET, "it has begun a new connection");
        peer = NULL;
    }
    if (!peer && peer_open(nic, &hello.from, &peer))
        return;                 /* it calls again */
    hello_answer(peer, &hello);
    ofi_wake(nic);
}

/* ---- connect and disconnect ---- */

static int peer_connect(struct ofi_nic *nic, const struct ofi_address *a, void *cookie,
                        struct ofi_peer **out)
{
    struct ofi_peer *peer = caller_find(nic, a);
    int err;

    if (!peer) {
        err = peer_open(nic, a, &peer);
        if (err)
            return err;
        peer->owe_hello = true;
    }
    peer->cookie = cookie;
    peer->adopted = true;
    nic->n_callers--;
    ofi_peer_ready(peer);
    ofi_pay(peer);
    *out = peer;
    return 0;
}

int ofi_connect(struct pw_nic *base, const void *addr, size_t len, void *cookie,
                struct pw_nic_peer **out)
{
    struct ofi_nic *nic = ofi_of(base);
    struct ofi_peer *peer = NULL;
    struct ofi_address a;
    int err = address_read(addr, len, &a);

    if (err)
        return err;
    if (address_fit(nic, &a) == PW_FIT_NONE)
        return -EHOSTUNREACH;
    pthread_mutex_lock(&nic->lock);
    err = peer_connect(nic, &a, cookie, &peer);
    pthread_mutex_unlock(&nic->lock);
    if (!err)
        *out = &peer->base;
    return err;
}

/* Nobody is told of what it was to bring. What the provider still writes for it has to end
 * first. */
static void peer_abandon(struct ofi_peer *peer)
{
    struct ofi_nic *nic = ofi_nic_of(peer);
    uint64_t until = ofi_now_ms() + OFI_FLUSH_MS;

    while (ofi_ops_with_provider(peer) && ofi_now_ms() < until)
        ofi_poll(nic);
    if (ofi_ops_with_provider(peer)) {
        nic->reset = true;
        ofi_settle(nic);
    }
    ofi_ops_end(peer, -ECANCELED);
}

/* Those operations of it that are done, with upcalls to be made: not any more. */
static void done_forget(struct ofi_nic *nic, const struct ofi_peer *peer)
{
    struct ofi_op **at = &nic->done;

    nic->done_end = at;
    while (*at) {
        struct ofi_op *op = *at;

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
static bool peer_leave(struct ofi_peer *peer)
{
    struct ofi_nic *nic = ofi_nic_of(peer);
    enum ofi_state was = peer->state;

    peer_abandon(peer);
    done_forget(nic, peer);
    ready_remove(nic, peer);
    peer->state = OFI_LEAVING;
    peer->lost_ms = ofi_now_ms();
    if (was == OFI_CALLING)
        ofi_hello_send(peer, OFI_LEAVE);
    if (was != OFI_UP || peer->bye_heard)
        return ofi_pulls_with_provider(peer);
    peer->owe_bye = true;
    ofi_pay(peer);
    return true;
}

void ofi_disconnect(struct pw_nic_peer *base)
{
    struct ofi_peer *peer = (struct ofi_peer *)base;
    struct ofi_nic *nic = ofi_nic_of(peer);

    pthread_mutex_lock(&nic->lock);
    if (!peer_leave(peer))
        ofi_peer_free(peer);
    pthread_mutex_unlock(&nic->lock);
}

/* Has it all that we sent, or will it never? */
static bool peer_left(const struct ofi_peer *peer, uint64_t now)
{
    if (ofi_pulls_with_provider(peer) && now - peer->lost_ms < OFI_FLUSH_MS)
        return false;
    return peer->state != OFI_LEAVING || peer->bye_done || peer->bye_heard ||
           !(peer->owe_bye || peer->bye_sent) || now - peer->lost_ms > OFI_LEAVE_MS;
}

static void link_linger(struct ofi_nic *nic)
{
    uint64_t until = ofi_now_ms() + OFI_LEAVE_MS;
    bool left;

    do {
        uint64_t now = ofi_now_ms();

        ofi_poll(nic);
        left = true;
        for (struct ofi_peer *peer = nic->peers; peer; peer = peer->next) {
            ofi_pay(peer);
            left = left && peer_left(peer, now);
        }
        if (!left) {
            pthread_mutex_unlock(&nic->lock);
            usleep(50);
            pthread_mutex_lock(&nic->lock);
        }
    } while (!left && !nic->broken && ofi_now_ms() < until);
}

void ofi_link_close(struct ofi_nic *nic)
{
    pthread_mutex_lock(&nic->lock);
    for (struct ofi_peer *peer = nic->peers, *next; peer; peer = next) {
        next = peer->next;
        if (peer->state != OFI_LEAVING && !peer_leave(peer))
            ofi_peer_free(peer);
    }
    if (nic->peers)
        link_linger(nic);
    pthread_mutex_unlock(&nic->lock);
}

/* ---- loss ---- */

void ofi_peer_lost(struct ofi_peer *peer, int cause, const char *why, ...)
{
    size_t at;
    va_list args;

    if (peer->state == OFI_LEAVING)
        peer->bye_done = true;
    if (peer->state != OFI_CALLING && peer->state != OFI_UP)
        return;
    peer->state = OFI_DYING;
    peer->cause = peer->bye_heard ? 0 : cause;
    peer->lost_ms = ofi_now_ms();
    at = (size_t)snprintf(peer->why, sizeof(peer->why), "%s: ", peer->text);
    va_start(args, why);
    vsnprintf(peer->why + at, sizeof(peer->why) - at, why, args);
    va_end(args);
    ofi_peer_ready(peer);
}

/* A link that failed looks like a process that died, but nobody refuses a connection. */
static bool peer_gone(struct ofi_peer *peer, int wait_ms)
{
    const struct ofi_nic *nic = ofi_nic_of(peer);

    peer->probed_ms = ofi_now_ms();
    return nic->probes && ofi_listens(peer->address.name, peer->address.name_len,
                                      wait_ms) == -ECONNREFUSED;
}

static void peer_lost_gone(struct ofi_peer *peer)
{
    bool was_up = peer->state == OFI_UP;

    ofi_peer_lost(peer, -ECONNRESET, "%s",
                  was_up ? "its process is gone" : "nobody is there (any more)");
}

void ofi_peer_failed(struct ofi_peer *peer, int fi_err)
{
    struct ofi_nic *nic = ofi_nic_of(peer);

    if (peer->state == OFI_LEAVING)
        peer->bye_done = true;
    if (peer->state != OFI_CALLING && peer->state != OFI_UP)
        return;
    if (peer->bye_heard)
        ofi_peer_lost(peer, 0, "it has left");
    else if (peer_gone(peer, 20))
        peer_lost_gone(peer);
    else if (peer->state == OFI_UP)
        ofi_peer_lost(peer, -ECONNABORTED, "the connection broke: %s",
                      nic->domain.lib->strerror(fi_err));
    else if (fi_err == FI_ECONNREFUSED)
        peer_lost_gone(peer);
}

bool ofi_peer_settled(const struct ofi_peer *peer)
{
    return !ofi_ops_with_provider(peer) && !ofi_pulls_with_provider(peer);
}

void ofi_settle(struct ofi_nic *nic)
{
    if (!nic->reset)
        return;
    nic->reset = false;
    if (!ofi_port_reset(nic))
        return;
    for (struct ofi_peer *peer = nic->peers; peer; peer = peer->next) {
        peer->to = FI_ADDR_UNSPEC;
        ofi_peer_lost(peer, -ENETRESET, "the endpoint was reset: another peer was lost");
        if (peer->state == OFI_DYING)
            ofi_peer_ready(peer);
    }
}

/* ---- time ---- */

static bool others_up(const struct ofi_nic *nic)
{
    for (const struct ofi_peer *peer = nic->peers; peer; peer = peer->next)
        if (peer->state == OFI_UP)
            return true;
    return false;
}

static void tick_calling(struct ofi_nic *nic, struct ofi_peer *peer, uint64_t now)
{
    bool stuck = peer->owe_hello;       /* the provider did not take the last one */

    if (!peer->adopted)
        return;                 /* it calls, we only answer */
    if (now - peer->begun_ms > nic->timeout_ms) {
        ofi_peer_lost(peer, -ETIMEDOUT, "it has not answered for %u ms", nic->timeout_ms);
        return;
    }
    if (now - peer->hello_ms < peer->hello_gap_ms)
        return;
    peer->hello_ms = now;
    if (peer->hello_gap_ms < OFI_HELLO_MOST_MS)
        peer->hello_gap_ms *= 2;
    if (stuck && peer_gone(peer, 5)) {
        peer_lost_gone(peer);
        return;
    }
    peer->owe_hello = true;
    /* A provider's connection may have got stuck; with a new one the core calls again. */
    if (now - peer->begun_ms > nic->timeout_ms / 4 && !others_up(nic))
        nic->reset = true;
}

static void tick_up(struct ofi_nic *nic, struct ofi_peer *peer, uint64_t now)
{
    uint64_t silent = now - peer->heard_ms;

    /* Long messages may come after shorter ones, but not while it goes on talking. */
    if (peer->early && silent < 2 * OFI_PING_MS &&
        now - peer->early_ms > nic->timeout_ms / 4) {
        ofi_peer_lost(peer, -ECONNABORTED, "messages from it were lost");
        nic->reset = true;
    } else if (silent > nic->timeout_ms ||
             (silent > nic->timeout_ms / 2 && ofi_pulls_with_provider(peer))) {
        ofi_peer_lost(peer, -ETIMEDOUT, "nothing was heard of it for %u ms",
                      (unsigned)silent);
        /* What TCP keeps for it would hold up the next connection. */
        if (!others_up(nic))
            nic->reset = true;
    } else if (silent > OFI_PING_MS && now - peer->asked_ms > OFI_PING_MS) {
        struct ofi_head ping = { .kind = OFI_PING, .slot = peer->its_slot,
                                 .consumed = peer->consumed, .token = peer->its_token };

        peer->asked_ms = now;
        if (silent > 2 * OFI_PING_MS && now - peer->probed_ms > OFI_HELLO_MOST_MS &&
            peer_gone(peer, 2))
            peer_lost_gone(peer);
        else
            ofi_message(peer, &ping, sizeof(ping));
    }
}

/* One that nobody wants to hear. */
static bool caller_over(const struct ofi_peer *peer, uint64_t now)
{
    uint64_t since = peer->state == OFI_DYING ? peer->lost_ms : peer->heard_ms;

    return !peer->adopted && (peer->state == OFI_DYING || peer->state == OFI_CALLING) &&
           now - since > OFI_CALLER_KEPT_MS && ofi_peer_settled(peer);
}

static void tick_peer(struct ofi_nic *nic, struct ofi_peer *peer, uint64_t now)
{
    if (peer->state == OFI_CALLING)
        tick_calling(nic, peer, now);
    else if (peer->state == OFI_UP)
        tick_up(nic, peer, now);
    else if (!ofi_peer_settled(peer) && now - peer->lost_ms > OFI_FLUSH_MS)
        nic->reset = true;
    else if (peer->state == OFI_LEAVING && peer_left(peer, now)) {
        ofi_peer_free(peer);
        return;
    }
    if (caller_over(peer, now)) {
        ofi_peer_free(peer);
        return;
    }
    peer->owe_ack = peer->owe_ack || peer->consumed != peer->told;
    ofi_pay(peer);
    ofi_pulls_retry(peer);
}

/* A process that was stopped has heard nothing, which is nobody's fault. */
static void tick_forgive(struct ofi_nic *nic, uint64_t ms)
{
    for (struct ofi_peer *peer = nic->peers; peer; peer = peer->next) {
        peer->heard_ms += ms;
        peer->begun_ms += ms;
        peer->early_ms += ms;
    }
}

void ofi_tick(struct ofi_nic *nic, uint64_t now)
{
    enum { LATE_MS = 1000 };

    if (nic->tick_ms && now - nic->tick_ms > LATE_MS)
        tick_forgive(nic, now - nic->tick_ms);
    nic->tick_ms = now;
    for (struct ofi_peer *peer = nic->peers, *next; peer; peer = next) {
        next = peer->next;
        tick_peer(nic, peer, now);
    }
    ofi_rx_retry(nic);
    ofi_settle(nic);
}
