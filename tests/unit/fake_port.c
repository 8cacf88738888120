/* SPDX-License-Identifier: BSD-3-Clause */
/* fake_port.c - see fake_port.h. A port is guarded by its NIC's lock, what others touch of it
 * by ports_lock.
 */
#include "fake_port.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct message {
    struct message *next;
    size_t len;
    uint8_t bytes[];
};

struct memory {
    struct memory *next;
    const uint8_t *addr;
    size_t len;
    unsigned access;
    uint64_t key;
};

/* A send that has ended, or a read. */
struct work {
    struct work *next;
    struct rdm_context *c;
    uint64_t of;                /* the port that is read; 0: a send */
    bool dropped;
    uint8_t *to;
    size_t len;
    uint64_t from, key;
};

struct fake_port {
    struct rdm_nic base;
    struct fake_port *next;     /* of all that are open */
    uint64_t id;
    bool open, full, reader;
    unsigned reads;             /* that may be done */
    struct message *in, **in_end;
    struct work *work, **work_end;
    struct rdm_rx *posted;
    struct memory *memory;
    struct message *held;       /* its receiver has them */
    unsigned n_held;
};

static pthread_mutex_t ports_lock = PTHREAD_MUTEX_INITIALIZER;
static struct fake_port *ports;
static uint64_t ids;

void (*fake_port_wire)(struct fake_port *from, struct fake_port *to, const void *bytes,
                       size_t len);

static struct fake_port *port_of(struct rdm_nic *nic)
{
    return (struct fake_port *)nic;
}

struct fake_port *fake_port_of(struct pw_nic *nic)
{
    return (struct fake_port *)nic;
}

void fake_port_full(struct fake_port *port, bool full)
{
    rdm_lock(&port->base.guard);
    port->full = full;
    rdm_unlock(&port->base.guard);
}

void fake_port_reads(struct fake_port *port, unsigned most)
{
    rdm_lock(&port->base.guard);
    port->reads = most;
    rdm_unlock(&port->base.guard);
}

unsigned fake_port_held(struct fake_port *port)
{
    unsigned n;

    rdm_lock(&port->base.guard);
    n = port->n_held;
    rdm_unlock(&port->base.guard);
    return n;
}

/* With ports_lock. */
static struct fake_port *port_find(uint64_t id)
{
    struct fake_port *port = ports;

    while (port && port->id != id)
        port = port->next;
    return port;
}

void fake_port_arrives(struct fake_port *to, const void *bytes, size_t len)
{
    struct message *m = malloc(sizeof(*m) + len);

    if (!m)
        abort();
    m->next = NULL;
    m->len = len;
    if (len)
        memcpy(m->bytes, bytes, len);
    *to->in_end = m;
    to->in_end = &m->next;
}

void fake_port_say(struct fake_port *to, const void *bytes, size_t len)
{
    pthread_mutex_lock(&ports_lock);
    fake_port_arrives(to, bytes, len);
    pthread_mutex_unlock(&ports_lock);
}

/* ---- open and close ---- */

static int port_listen(struct rdm_nic *nic)
{
    struct fake_port *port = port_of(nic);

    pthread_mutex_lock(&ports_lock);
    port->next = ports;
    ports = port;
    port->open = true;
    port->in_end = &port->in;
    port->work_end = &port->work;
    pthread_mutex_unlock(&ports_lock);
    return 0;
}

static int port_start(struct rdm_nic *nic, const char *device, char why[PW_NIC_WHY_MAX])
{
    struct fake_port *port = port_of(nic);

    (void)device;
    (void)why;
    rdm_info_fill(&nic->base.info);
    port->reads = UINT_MAX;
    pthread_mutex_lock(&ports_lock);
    port->id = ++ids;
    pthread_mutex_unlock(&ports_lock);
    memcpy(nic->address.name, &port->id, sizeof(port->id));
    nic->address.name_len = sizeof(port->id);
    return port_listen(nic);
}

static int reads_start(struct rdm_nic *nic, const char *device, char why[PW_NIC_WHY_MAX])
{
    nic->inject_most = FAKE_INJECT;
    nic->read_most = FAKE_READ_MOST;
    nic->local_mr = true;
    port_of(nic)->reader = true;
    return port_start(nic, device, why);
}

static int streams_start(struct rdm_nic *nic, const char *device, char why[PW_NIC_WHY_MAX])
{
    nic->streams = true;
    return port_start(nic, device, why);
}

static int both_start(struct rdm_nic *nic, const char *device, char why[PW_NIC_WHY_MAX])
{
    nic->read_most = FAKE_READ_MOST;
    port_of(nic)->reader = true;
    return streams_start(nic, device, why);
}

static int port_test(struct rdm_nic *nic, char why[PW_NIC_WHY_MAX])
{
    (void)why;
    nic->reads = port_of(nic)->reader;
    return 0;
}

/* What is under way is gone. */
static void port_close(struct rdm_nic *nic)
{
    struct fake_port *port = port_of(nic), **at = &ports;

    if (!port->open)
        return;
    pthread_mutex_lock(&ports_lock);
    while (*at != port)
        at = &(*at)->next;
    *at = port->next;
    port->open = false;
    while (port->in) {
        struct message *m = port->in;

        port->in = m->next;
        free(m);
    }
    pthread_mutex_unlock(&ports_lock);
    while (port->work) {
        struct work *w = port->work;

        port->work = w->next;
        free(w);
    }
    port->posted = NULL;
}

static void held_free(struct fake_port *port, struct rdm_rx *rx)
{
    struct message **at = &port->held;

    if (!rx->held)
        return;
    while (*at != rx->held)
        at = &(*at)->next;
    *at = (*at)->next;
    free(rx->held);
    rx->held = NULL;
    rx->bytes = rx->room;
    port->n_held--;
}

/* What nobody will hear is forgotten; memory is to have been given back. */
static void port_stop(struct rdm_nic *nic)
{
    struct fake_port *port = port_of(nic);

    while (port->held) {
        struct message *m = port->held;

        port->held = m->next;
        free(m);
    }
    if (port->memory) {
        fprintf(stderr, "memory is registered that nobody knows of\n");
        abort();
    }
}

static int port_address_ip(const struct rdm_address *a, struct pw_ip *ip, uint16_t *tcp)
{
    (void)ip;
    (void)tcp;
    return a->name_len == sizeof(uint64_t) ? -ENOENT : -EINVAL;
}

static int port_peer_open(struct rdm_peer *peer)
{
    memcpy(&peer->to.number, peer->address.name, sizeof(peer->to.number));
    return 0;
}

static void port_peer_close(struct rdm_peer *peer)
{
    peer->to.number = 0;
}

/* Its reads end, whether they may be done or not. */
static void port_peer_drop(struct rdm_peer *peer)
{
    for (struct work *w = port_of(rdm_nic_of(peer))->work; w; w = w->next)
        w->dropped = w->dropped || (w->of && w->c->peer == peer);
    __atomic_fetch_add(&rdm_nic_of(peer)->base.counts.reconnects, 1, __ATOMIC_RELAXED);
}

/* ---- messages ---- */

static int port_inject(struct rdm_peer *peer, const void *bytes, size_t len)
{
    struct fake_port *port = port_of(rdm_nic_of(peer)), *to;

    if (port->full)
        return -EAGAIN;
    pthread_mutex_lock(&ports_lock);
    to = port_find(peer->to.number);
    if (to && fake_port_wire)
        fake_port_wire(port, to, bytes, len);
    else if (to)
        fake_port_arrives(to, bytes, len);
    pthread_mutex_unlock(&ports_lock);
    return to ? 0 : -ECONNREFUSED;
}

static int work_add(struct fake_port *port, const struct work *of)
{
    struct work *w = malloc(sizeof(*w));

    if (!w)
        return -EAGAIN;
    *w = *of;
    w->next = NULL;
    *port->work_end = w;
    port->work_end = &w->next;
    return 0;
}

static int port_send(struct rdm_peer *peer, struct rdm_tx *tx, size_t len)
{
    struct fake_port *port = port_of(rdm_nic_of(peer));
    int err = port_inject(peer, tx->bytes, len);

    return err ? err : work_add(port, &(struct work){ .c = &tx->c });
}

static int reads_post(struct rdm_nic *nic, struct rdm_rx *rx)
{
    struct fake_port *port = port_of(nic);

    held_free(port, rx);
    rx->next = port->posted;
    port->posted = rx;
    return 0;
}

static int streams_post(struct rdm_nic *nic, struct rdm_rx *rx)
{
    held_free(port_of(nic), rx);
    return -EAGAIN;
}

static struct message *message_next(struct fake_port *port)
{
    struct message *m;

    pthread_mutex_lock(&ports_lock);
    m = port->in;
    if (m) {
        port->in = m->next;
        if (!port->in)
            port->in_end = &port->in;
    }
    pthread_mutex_unlock(&ports_lock);
    return m;
}

static void rx_fill(struct fake_port *port, struct rdm_rx *rx, struct message *m)
{
    rx->held = m;
    rx->bytes = m->bytes;
    rx->len = m->len;
    m->next = port->held;
    port->held = m;
    port->n_held++;
}

static bool reads_message(struct fake_port *port)
{
    struct rdm_rx *rx = port->posted;
    struct message *m = rx ? message_next(port) : NULL;

    if (!m)
        return false;
    port->posted = rx->next;
    rx_fill(port, rx, m);
    rdm_ended(&port->base, &rx->c, m->len, 0);
    return true;
}

static bool streams_message(struct fake_port *port)
{
    struct message *m = message_next(port);
    struct rdm_rx *rx = m ? rdm_rx_take(&port->base) : NULL;

    if (!rx) {
        free(m);
        return false;
    }
    rx_fill(port, rx, m);
    if (!rdm_message_heard(&port->base, rx))
        rdm_rx_post(&port->base, rx);
    return true;
}

/* ---- reading ---- */

static struct memory *memory_holds(const struct fake_port *port, uint64_t key,
                                   uint64_t addr, size_t len)
{
    for (struct memory *m = port->memory; m; m = m->next)
        if (m->key == key && addr >= (uintptr_t)m->addr && len <= m->len &&
            addr - (uintptr_t)m->addr <= m->len - len)
            return m;
    return NULL;
}

/* Offsets name memory, as where FI_MR_VIRT_ADDR is not asked for they do, or addresses. */
static int port_read(struct rdm_peer *peer, struct rdm_context *c, void *to, size_t len,
                     void *mr, uint64_t from, uint64_t key)
{
    struct fake_port *port = port_of(rdm_nic_of(peer));
    struct memory *local = mr;

    if (local ? !memory_holds(port, local->key, (uintptr_t)to, len) : port->base.local_mr) {
        fprintf(stderr, "a read of %zu bytes into memory that is not registered\n", len);
        abort();
    }
    if (port->full)
        return -EAGAIN;
    return work_add(port, &(struct work){ .c = c, .of = peer->to.number, .to = to,
                                          .len = len, .from = from, .key = key });
}

static int work_read(const struct work *w)
{
    const struct fake_port *of;
    const struct memory *m;
    int err = ECONNRESET;

    pthread_mutex_lock(&ports_lock);
    of = port_find(w->of);
    m = of ? memory_holds(of, w->key, w->from, w->len) : NULL;
    if (m && m->access & PW_READ) {
        memcpy(w->to, (const void *)(uintptr_t)w->from, w->len);
        err = 0;
    } else if (of) {
        err = EACCES;
    }
    pthread_mutex_unlock(&ports_lock);
    return err;
}

static bool work_do(struct fake_port *port)
{
    struct work *w = port->work, **at = &port->work;

    while (w && w->of && !port->reads && !w->dropped) {
        at = &w->next;
        w = w->next;
    }
    if (!w)
        return false;
    port->reads -= w->of && !w->dropped && port->reads != UINT_MAX;
    *at = w->next;
    if (!*at)
        port->work_end = at;
    rdm_ended(&port->base, w->c, w->len, w->dropped ? ECANCELED : w->of ? work_read(w) : 0);
    free(w);
    return true;
}

static int port_poll(struct rdm_nic *nic)
{
    enum { LOOKS = 32 };
    struct fake_port *port = port_of(nic);
    int n = 0;

    for (int i = 0; i < LOOKS; i++) {
        n += work_do(port);
        n += nic->streams ? streams_message(port) : reads_message(port);
    }
    return n;
}

static int port_arm(struct rdm_nic *nic)
{
    bool some;

    pthread_mutex_lock(&ports_lock);
    some = port_of(nic)->in;
    pthread_mutex_unlock(&ports_lock);
    return some ? -EAGAIN : -1;
}

/* ---- memory ---- */

static int port_mr_open(struct rdm_nic *nic, const void *addr, size_t len, unsigned access,
                        void **out)
{
    struct memory *m = malloc(sizeof(*m));

    if (!m)
        return -ENOMEM;
    pthread_mutex_lock(&ports_lock);
    *m = (struct memory){ .next = port_of(nic)->memory, .addr = addr, .len = len,
                          .access = access, .key = (++ids) * 0x9e3779b97f4a7c15u };
    port_of(nic)->memory = m;
    pthread_mutex_unlock(&ports_lock);
    *out = m;
    return 0;
}

static void port_mr_close(struct rdm_nic *nic, void *mr)
{
    struct memory **at = &port_of(nic)->memory;

    pthread_mutex_lock(&ports_lock);
    while (*at != mr)
        at = &(*at)->next;
    *at = (*at)->next;
    pthread_mutex_unlock(&ports_lock);
    free(mr);
}

static uint64_t port_mr_key(void *mr)
{
    return ((const struct memory *)mr)->key;
}

static const char *port_error(const struct rdm_nic *nic, int err)
{
    (void)nic;
    return strerror(err);
}

/* ---- the tables ---- */

#define PORT                                                                           \
    .magic = FAKE_MAGIC, .nic_size = sizeof(struct fake_port), .port_close = port_close, \
    .close = port_stop,                                                                \
    .test = port_test, .address_ip = port_address_ip, .peer_open = port_peer_open,     \
    .peer_close = port_peer_close, .send = port_send, .poll = port_poll,               \
    .arm = port_arm, .mr_open = port_mr_open, .mr_close = port_mr_close,               \
    .mr_key = port_mr_key, .error = port_error

static const struct rdm_driver reads_driver = {
    PORT, .ops = &fake_reads, .open = reads_start, .port_open = port_listen,
    .inject = port_inject, .post = reads_post, .read = port_read,
};

static const struct rdm_driver streams_driver = {
    PORT, .ops = &fake_streams, .open = streams_start,
    .peer_drop = port_peer_drop, .post = streams_post,
};

static const struct rdm_driver both_driver = {
    PORT, .ops = &fake_both, .open = both_start,
    .peer_drop = port_peer_drop, .post = streams_post, .read = port_read,
};

static int reads_open(const struct pw_nic_config *config, struct pw_nic **out)
{
    return rdm_open(&reads_driver, config, out);
}

static int streams_open(const struct pw_nic_config *config, struct pw_nic **out)
{
    return rdm_open(&streams_driver, config, out);
}

static int both_open(const struct pw_nic_config *config, struct pw_nic **out)
{
    return rdm_open(&both_driver, config, out);
}

const struct pw_nic_ops fake_both = { .name = "both", .open = both_open, RDM_OPS };
const struct pw_nic_ops fake_reads = { .name = "reads", .open = reads_open, RDM_OPS };
const struct pw_nic_ops fake_streams = { .name = "streams", .open = streams_open, RDM_OPS };
