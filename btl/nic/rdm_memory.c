/* SPDX-License-Identifier: BSD-3-Clause */
/* rdm_memory.c - registered memory, put and get.
 *
 *     get         we read the peer's memory
 *     short put   its bytes go along in a message
 *     long put    the peer reads ours, when it is told to
 *
 * Where one of both does not read, or the library would not have that memory, messages bring
 * it (rdm_stream.c).
 *
 * Each ends when the data is where it belongs: the peer answers a put. A frame that was sent
 * after a put waits in the peer's queue until what it has to fetch has come.
 *
 * A key says where the library finds the memory, and where we find the pin, by which puts are
 * checked. Where local memory must be registered too (local_mr), a short get goes through
 * a buffer of ours. Longer ones, and long puts, take the caller's pin of it; where there is
 * none the memory is registered for that one transfer.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "rdm.h"
#include "pinwheel/clock.h"

_Static_assert(sizeof(struct rdm_key) <= PW_NIC_KEY_MAX, "a key fits");

/* ---- registered memory ---- */

static int pin_place(struct rdm_nic *nic, unsigned *place)
{
    struct rdm_pin **grown;
    unsigned n = nic->n_pins ? 2 * nic->n_pins : 64;

    for (*place = nic->pin_hint; *place < nic->n_pins; ++*place)
        if (!nic->pins[*place])
            return 0;
    if (n > UINT32_MAX / 2)
        return -ENOMEM;
    grown = realloc(nic->pins, n * sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    memset(grown + nic->n_pins, 0, (n - nic->n_pins) * sizeof(*grown));
    *place = nic->n_pins;
    nic->pins = grown;
    nic->n_pins = n;
    return 0;
}

/* A library takes any address where it copies, and the process dies of it when a peer reads
 * there. To write nothing back is a cheap way to have the kernel look. */
static int check_mapped(const void *addr, size_t len)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t from = (uintptr_t)addr & ~(page - 1);

    if ((uintptr_t)addr + len < (uintptr_t)addr)
        return -EFAULT;
    return msync((void *)from, (uintptr_t)addr + len - from, MS_ASYNC) ? -EFAULT : 0;
}

/* Where pages are to be there (libfabric: FI_MR_ALLOCATED). Old kernels have not that
 * call, and touch pages as they pin. */
static int populate(const struct rdm_nic *nic, void *addr, size_t len, unsigned access)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t from = (uintptr_t)addr & ~(page - 1);

    if (!nic->populate ||
        !madvise((void *)from, (uintptr_t)addr + len - from,
                 access & PW_WRITE ? MADV_POPULATE_WRITE : MADV_POPULATE_READ))
        return 0;
    return errno == ENOMEM || errno == EFAULT ? -EFAULT : 0;
}

static bool mr_reads(const struct rdm_nic *nic, void *mr)
{
    return nic->reads && (!nic->driver->mr_reads || nic->driver->mr_reads(mr));
}

static int pin_register(struct rdm_nic *nic, void *addr, size_t len, unsigned access,
                        struct rdm_key *key)
{
    struct rdm_pin *pin = calloc(1, sizeof(*pin));
    unsigned place;
    int err = pin ? pin_place(nic, &place) : -ENOMEM;

    if (!err)
        err = nic->driver->mr_open(nic, addr, len, access, &pin->mr);
    if (err) {
        free(pin);
        return err;
    }
    pin->base = addr;
    pin->len = len;
    pin->access = access;
    pin->reads = mr_reads(nic, pin->mr);
    nic->pins[place] = pin;
    nic->pin_hint = place + 1;
    *key = (struct rdm_key){ .base = (uintptr_t)addr, .len = len, .place = place,
                             .key = nic->driver->mr_key(pin->mr),
                             .there = RDM_THERE | (pin->reads ? RDM_READABLE : 0) };
    return 0;
}

int rdm_pin(struct pw_nic *base, void *addr, size_t len, unsigned access,
            struct pw_nic_key *out)
{
    struct rdm_nic *nic = rdm_of(base);
    struct rdm_key key;
    int err;

    memset(out, 0, sizeof(*out));
    if (!nic->reads && !nic->streams)
        return 0;
    err = check_mapped(addr, len);
    if (!err)
        err = populate(nic, addr, len, access);
    if (err)
        return err;
    rdm_lock(&nic->guard);
    err = pin_register(nic, addr, len, access, &key);
    rdm_unlock(&nic->guard);
    if (!err)
        memcpy(out, &key, sizeof(key));
    return err;
}

void rdm_pin_release(struct rdm_nic *nic, struct rdm_pin *pin)
{
    if (--pin->users || !pin->closing)
        return;
    if (pin->mr)
        nic->driver->mr_close(nic, pin->mr);
    free(pin);
}

/* The library may write there: a pull, or a get of ours. */
static bool writes_into(const struct rdm_peer *peer, const struct rdm_pin *pin)
{
    for (const struct rdm_pull *pull = peer->pulls; pull; pull = pull->next)
        if (pull->pin == pin && pull->started)
            return true;
    for (const struct rdm_op *op = peer->ops; op; op = op->next)
        if (op->own == pin && op->under_way)
            return true;
    return false;
}

static bool pin_under_way(const struct rdm_nic *nic, const struct rdm_pin *pin)
{
    for (const struct rdm_peer *peer = nic->peers; peer; peer = peer->next)
        if (writes_into(peer, pin))
            return true;
    return false;
}

static void pin_wait(struct rdm_nic *nic, const struct rdm_pin *pin)
{
    uint64_t until = rdm_ms(pw_now_ns()) + RDM_FLUSH_MS;

    while (pin_under_way(nic, pin) && rdm_ms(pw_now_ns()) < until)
        rdm_poll(nic);
}

static void pin_drop(struct rdm_nic *nic, const struct rdm_pin *pin)
{
    for (struct rdm_peer *peer = nic->peers; peer; peer = peer->next)
        if (writes_into(peer, pin)) {
            rdm_peer_lost(peer, -ENETRESET, "memory that is written to was given back");
            nic->driver->peer_drop(peer);
        }
    pin_wait(nic, pin);
}

/* A peer's put is being fetched into it, which none of ours would have under way; or a get of
 * ours that nobody waits for any more. What the library writes there has to end before the
 * memory is somebody else's. */
static void pin_settle(struct rdm_nic *nic, const struct rdm_pin *pin)
{
    pin_wait(nic, pin);
    if (!pin_under_way(nic, pin))
        return;
    if (nic->driver->peer_drop) {
        pin_drop(nic, pin);
    } else {
        nic->reset = true;
        rdm_settle(nic);
    }
}

static void pin_close(struct rdm_nic *nic, struct rdm_pin *pin)
{
    pin->closing = true;
    pin->users++;
    if (pin->users > 1)
        pin_settle(nic, pin);
    if (!pin_under_way(nic, pin)) {
        nic->driver->mr_close(nic, pin->mr);
        pin->mr = NULL;
    }
    rdm_pin_release(nic, pin);
}

void rdm_unpin(struct pw_nic *base, void *addr, size_t len, const struct pw_nic_key *bytes)
{
    struct rdm_nic *nic = rdm_of(base);
    struct rdm_pin *pin;
    struct rdm_key key;

    (void)addr;
    (void)len;
    memcpy(&key, bytes, sizeof(key));
    if (!key.there)
        return;
    rdm_lock(&nic->guard);
    pin = key.place < nic->n_pins ? nic->pins[key.place] : NULL;
    if (pin && nic->driver->mr_key(pin->mr) == key.key) {
        nic->pins[key.place] = NULL;
        if (key.place < nic->pin_hint)
            nic->pin_hint = key.place;
        pin_close(nic, pin);
    }
    rdm_unlock(&nic->guard);
}

struct rdm_pin *rdm_pin_named(const struct rdm_nic *nic, uint32_t place, uint64_t key,
                              uint64_t addr, uint64_t len, unsigned access)
{
    struct rdm_pin *pin = place < nic->n_pins ? nic->pins[place] : NULL;
    uint64_t at;

    if (!pin || nic->driver->mr_key(pin->mr) != key || !(pin->access & access))
        return NULL;
    at = addr - (uintptr_t)pin->base;
    return at <= pin->len && len <= pin->len - at ? pin : NULL;
}

/* The pin where a peer's put is to go, if it may. */
static struct rdm_pin *pin_of_put(const struct rdm_nic *nic, const struct rdm_put_head *to,
                                  uint64_t len)
{
    return rdm_pin_named(nic, to->place, to->key, to->addr, len, PW_WRITE);
}

/* ---- asking ---- */

static bool key_covers(const struct rdm_key *key, uint64_t remote, size_t len)
{
    uint64_t at = remote - key->base;

    return at <= key->len && len <= key->len - at;
}

/* 0, or -EOPNOTSUPP, -EFAULT. */
static int key_read(const struct rdm_nic *nic, uint64_t remote, size_t len,
                    const struct pw_nic_key *bytes, struct rdm_key *out)
{
    memset(out, 0, sizeof(*out));
    if (bytes)
        memcpy(out, bytes, sizeof(*out));
    if (!(nic->reads || nic->streams) || (out->there & ~(uint32_t)RDM_READABLE) != RDM_THERE ||
        out->base + out->len < out->base)
        return -EOPNOTSUPP;
    return key_covers(out, remote, len) ? 0 : -EFAULT;
}

enum pw_reach rdm_reach(struct pw_nic_peer *base, uint64_t remote, size_t len,
                        const struct pw_nic_key *bytes)
{
    struct rdm_key key;

    return key_read(rdm_of(base->nic), remote, len, bytes, &key) ? PW_REACH_NONE
                                                                 : PW_REACH_DIRECT;
}

/* As the library names memory to peers. */
static uint64_t mr_address(const struct rdm_nic *nic, uint64_t addr, uint64_t base)
{
    return nic->offsets ? addr - base : addr;
}

/* The rest is brought by messages. */
static bool by_reading(const struct rdm_peer *peer, const struct rdm_key *key)
{
    return peer->reads && key->there & RDM_READABLE;
}

static int peer_usable(const struct rdm_peer *peer)
{
    if (peer->state == RDM_UP)
        return rdm_nic_of(peer)->broken ? -EAGAIN : 0;
    return peer->state == RDM_CALLING ? -EAGAIN : -EPIPE;
}

/* ---- operations ---- */

uint32_t rdm_id_next(struct rdm_nic *nic)
{
    nic->ids += nic->ids == UINT32_MAX;
    return ++nic->ids;
}

static struct rdm_op *op_make(struct rdm_peer *peer, void *cookie, size_t len)
{
    struct rdm_op *op = calloc(1, sizeof(*op));

    if (op) {
        op->c.kind = RDM_READ;
        op->c.peer = peer;
        op->cookie = cookie;
        op->len = len;
        op->most = rdm_nic_of(peer)->read_most;
    }
    return op;
}

static void op_release(struct rdm_nic *nic, struct rdm_op *op)
{
    if (op->mr)
        nic->driver->mr_close(nic, op->mr);
    if (op->bounce)
        rdm_tx_put(nic, op->bounce);
    if (op->own)
        rdm_pin_release(nic, op->own);
    op->mr = NULL;
    op->bounce = NULL;
    op->own = NULL;
}

void rdm_op_done(struct rdm_op *op, int status)
{
    struct rdm_peer *peer = op->c.peer;
    struct rdm_nic *nic = rdm_nic_of(peer);
    struct rdm_op **at = &peer->ops;

    while (*at != op)
        at = &(*at)->next;
    *at = op->next;
    op_release(nic, op);
    if (op->forgotten) {
        free(op);
        return;
    }
    op->status = status;
    op->next = NULL;
    *nic->done_end = op;
    nic->done_end = &op->next;
    rdm_wake(nic);
}

/* key: NULL, or what the caller has of the memory; with that access. */
static void op_own(struct rdm_op *op, const struct pw_nic_key *bytes, const void *local,
                   unsigned access)
{
    struct rdm_nic *nic = rdm_nic_of(op->c.peer);
    struct rdm_key key = { 0 };

    if (bytes)
        memcpy(&key, bytes, sizeof(key));
    if (!key.there)
        return;
    op->own = rdm_pin_named(nic, key.place, key.key, (uintptr_t)local, op->len, access);
    if (op->own)
        op->own->users++;
}

/* The caller's memory for that one transfer. What no device takes (of a mapped file, perhaps)
 * goes another way; the connection is none the worse for it. */
static int op_register(struct rdm_op *op, const void *local, unsigned access)
{
    struct rdm_nic *nic = rdm_nic_of(op->c.peer);
    int err = nic->driver->mr_open(nic, local, op->len, access, &op->mr);

    return err && err != -EAGAIN && err != -ENOMEM ? -EOPNOTSUPP : err;
}

static void op_begin(struct rdm_op *op)
{
    op->next = op->c.peer->ops;
    op->c.peer->ops = op;
}

/* ---- get ---- */

/* As much of `left` bytes as the library takes in one call: how many, or -errno. */
static ssize_t read_step(struct rdm_context *c, size_t *most, uint8_t *to, size_t left,
                         void *mr, uint64_t from, uint64_t key)
{
    const struct rdm_driver *driver = rdm_nic_of(c->peer)->driver;
    size_t len = left < *most ? left : *most;
    int err = driver->read(c->peer, c, to, len, mr, from, key);

    if (err == -ENOMEM && len > RDM_READ_SHORT) {
        *most = len = RDM_READ_SHORT;
        err = driver->read(c->peer, c, to, len, mr, from, key);
    }
    return err ? err : (ssize_t)len;
}

static int get_step(struct rdm_op *op)
{
    uint8_t *to = op->bounce ? op->bounce->bytes : op->local + op->at;
    void *mr = op->bounce ? op->bounce->slab->mr : op->own ? op->own->mr : op->mr;
    ssize_t n = read_step(&op->c, &op->most, to, op->len - op->at, mr, op->remote + op->at,
                          op->key);

    if (n < 0)
        return (int)n;
    op->at += (size_t)n;
    op->under_way = true;
    return 0;
}

static int get_local(struct rdm_nic *nic, struct rdm_op *op)
{
    if (!nic->local_mr || op->own)
        return 0;
    if (op->len > RDM_BOUNCE)
        return op_register(op, op->local, 0);
    op->bounce = rdm_tx_get(nic, false);
    return op->bounce ? 0 : -EAGAIN;
}

static int get_ask(struct rdm_peer *peer, struct rdm_op *op, const struct rdm_key *key)
{
    int err;

    if (!by_reading(peer, key))
        return rdm_stream_get(peer, op);
    op->remote = mr_address(rdm_nic_of(peer), op->remote, key->base);
    err = get_local(rdm_nic_of(peer), op);
    return err ? err : get_step(op);
}

static int get_begin(struct rdm_peer *peer, struct rdm_op *op, const struct rdm_key *key)
{
    struct rdm_nic *nic = rdm_nic_of(peer);
    int err = get_ask(peer, op, key);

    if (err) {
        op_release(nic, op);
        free(op);
        if (err == -EAGAIN) {
            rdm_poll(nic);
        } else if (err != -ENOMEM && err != -EPIPE && err != -EOPNOTSUPP) {
            rdm_peer_failed(peer, -err);
            err = -EPIPE;
        }
        return err;
    }
    op_begin(op);
    return PW_NIC_PENDING;
}

int rdm_get_own(struct pw_nic_peer *base, void *local, uint64_t remote, size_t len,
                const struct pw_nic_key *bytes, const struct pw_nic_key *own, void *cookie)
{
    struct rdm_peer *peer = (struct rdm_peer *)base;
    struct rdm_nic *nic = rdm_nic_of(peer);
    struct rdm_key key;
    struct rdm_op *op;
    int err;

    rdm_lock(&nic->guard);
    err = peer_usable(peer);
    if (!err)
        err = key_read(nic, remote, len, bytes, &key);
    if (!err && len) {
        op = op_make(peer, cookie, len);
        if (op) {
            op->local = local;
            op->remote = remote;
            op->key = key.key;
            op->place = key.place;
            op_own(op, own, local, PW_WRITE);
        }
        err = op ? get_begin(peer, op, &key) : -EAGAIN;
    }
    rdm_unlock(&nic->guard);
    return err;
}

int rdm_get(struct pw_nic_peer *base, void *local, uint64_t remote, size_t len,
            const struct pw_nic_key *key, void *cookie)
{
    return rdm_get_own(base, local, remote, len, key, NULL, cookie);
}

/* The next piece. Where there is no room it is asked for again by the next tick. */
static void get_go(struct rdm_op *op)
{
    struct rdm_peer *peer = op->c.peer;
    int err = peer->state == RDM_UP ? get_step(op) : 0;

    if (err && err != -EAGAIN)
        rdm_peer_failed(peer, -err);
}

/* Those by reading, which have no number. */
static void gets_retry(struct rdm_peer *peer)
{
    for (struct rdm_op *op = peer->ops; op && peer->state == RDM_UP; op = op->next)
        if (!op->id && !op->under_way && !rdm_nic_of(peer)->broken)
            get_go(op);
}

static void get_over(struct rdm_op *op, int err)
{
    struct rdm_peer *peer = op->c.peer;
    struct rdm_nic *nic = rdm_nic_of(peer);

    if (op->forgotten) {
        rdm_op_done(op, -ECANCELED);
        return;
    }
    if (!err && op->bounce) {
        memcpy(op->local, op->bounce->bytes, op->len);
        __atomic_fetch_add(&nic->base.counts.wire_copied, op->len, __ATOMIC_RELAXED);
    }
    if (!err && op->at < op->len) {
        get_go(op);
        return;
    }
    if (!err) {
        __atomic_fetch_add(&nic->base.counts.wire_bytes, op->len, __ATOMIC_RELAXED);
        rdm_op_done(op, 0);
    } else if (err == EACCES || err == ENOKEY || err == EKEYREJECTED) {
        /* Memory that is not registered any more is not the connection's fault. */
        rdm_op_done(op, -EFAULT);
    } else {
        rdm_peer_failed(peer, err);
    }
}

void rdm_get_ended(struct rdm_op *op, int err)
{
    struct rdm_peer *peer = op->c.peer;

    op->under_way = false;
    get_over(op, err);
    if (peer->state == RDM_DYING && rdm_peer_settled(peer))
        rdm_peer_ready(peer);
}

/* ---- put ---- */

static int put_short(struct rdm_peer *peer, struct rdm_op *op, const void *local,
                     const struct rdm_put_head *to)
{
    struct rdm_head head = { .kind = RDM_PUT };
    struct pw_iov iov[2] = { { to, sizeof(*to) }, { local, op->len } };

    return rdm_ordered(peer, &head, iov, 2);
}

static int put_long(struct rdm_peer *peer, struct rdm_op *op, const void *local,
                    const struct rdm_put_head *to)
{
    struct rdm_nic *nic = rdm_nic_of(peer);
    struct rdm_head head = { .kind = RDM_FETCH };
    struct rdm_fetch_head fetch = { .to = *to, .len = op->len };
    struct pw_iov iov = { &fetch, sizeof(fetch) };
    const void *base = op->own ? op->own->base : local;
    int err = op->own ? 0 : op_register(op, local, PW_READ);
    void *mr = op->own ? op->own->mr : op->mr;

    if (err)
        return err;
    if (!mr_reads(nic, mr))
        return -EOPNOTSUPP;
    fetch.from = mr_address(nic, (uintptr_t)local, (uintptr_t)base);
    fetch.from_key = nic->driver->mr_key(mr);
    return rdm_ordered(peer, &head, &iov, 1);
}

static int put_stream(struct rdm_peer *peer, const void *local, struct rdm_op *op,
                      const struct rdm_put_head *to)
{
    op_release(rdm_nic_of(peer), op);
    op->put = true;
    op->local = (uint8_t *)(uintptr_t)local;
    op->remote = to->addr;
    op->key = to->key;
    op->place = to->place;
    op_begin(op);
    peer->n_puts++;
    rdm_stream(peer);
    return PW_NIC_PENDING;
}

static int put_begin(struct rdm_peer *peer, const void *local, struct rdm_op *op,
                     const struct rdm_key *key, uint64_t remote)
{
    struct rdm_nic *nic = rdm_nic_of(peer);
    struct rdm_put_head to = { .addr = remote, .place = key->place, .key = key->key };
    int err = -EOPNOTSUPP;

    to.id = op->id = rdm_id_next(nic);
    if (by_reading(peer, key))
        err = op->len <= RDM_PUT_SHORT ? put_short(peer, op, local, &to)
                                       : put_long(peer, op, local, &to);
    if (err == -EOPNOTSUPP)
        return put_stream(peer, local, op, &to);
    if (err) {
        op_release(nic, op);
        free(op);
        return err;
    }
    __atomic_fetch_add(op->len <= RDM_PUT_SHORT ? &nic->base.counts.wire_copied
                                                : &nic->base.counts.wire_bytes,
                       op->len, __ATOMIC_RELAXED);
    op_begin(op);
    return PW_NIC_PENDING;
}

int rdm_put_own(struct pw_nic_peer *base, const void *local, uint64_t remote, size_t len,
                const struct pw_nic_key *bytes, const struct pw_nic_key *own, void *cookie)
{
    struct rdm_peer *peer = (struct rdm_peer *)base;
    struct rdm_nic *nic = rdm_nic_of(peer);
    struct rdm_key key;
    struct rdm_op *op;
    int err;

    rdm_lock(&nic->guard);
    err = peer_usable(peer);
    if (!err)
        err = key_read(nic, remote, len, bytes, &key);
    if (!err && len) {
        op = op_make(peer, cookie, len);
        if (op)
            op_own(op, own, local, PW_READ);
        err = op ? put_begin(peer, local, op, &key, remote) : -EAGAIN;
    }
    rdm_unlock(&nic->guard);
    return err;
}

int rdm_put(struct pw_nic_peer *base, const void *local, uint64_t remote, size_t len,
            const struct pw_nic_key *key, void *cookie)
{
    return rdm_put_own(base, local, remote, len, key, NULL, cookie);
}

bool rdm_put_done_heard(struct rdm_peer *peer, const struct rdm_put_done *done)
{
    struct rdm_op *op = peer->ops;

    while (op && (!op->id || op->id != done->id))
        op = op->next;
    if (!op)
        return true;            /* it has ended otherwise */
    if (op->get)
        return false;
    if (op->put)
        return rdm_stream_put_done(op, done->status);
    rdm_op_done(op, done->status <= 0 ? done->status : -EPROTO);
    return true;
}

/* ---- puts of peers ---- */

int rdm_put_answer(struct rdm_peer *peer, uint32_t id, int status)
{
    struct rdm_put_done done = { .head = rdm_control(peer, RDM_PUT_DONE), .id = id,
                                 .status = status };
    int err;

    done.head.imm++;
    err = rdm_message(peer, &done, sizeof(done));
    peer->answers += !err;
    return err;
}

/* rx: where the put came. */
static void put_answer(struct rdm_peer *peer, struct rdm_rx *rx, uint32_t id, int status)
{
    struct rdm_owed *owed, **at = &peer->owed;

    if (!peer->owed && !rdm_put_answer(peer, id, status))
        return;
    owed = calloc(1, sizeof(*owed));
    if (!owed) {
        rdm_peer_lost(peer, -ENOMEM, "there is no memory to answer it");
        return;
    }
    owed->id = id;
    owed->status = status;
    owed->bytes = rx->len;
    rx->owed = true;
    while (*at)
        at = &(*at)->next;
    *at = owed;
}

bool rdm_put_heard(struct rdm_peer *peer, struct rdm_rx *rx)
{
    const struct rdm_put_head *to = (const void *)(rx->bytes + sizeof(struct rdm_head));
    struct rdm_nic *nic = rdm_nic_of(peer);
    size_t len;

    if (rx->len < sizeof(struct rdm_head) + sizeof(*to))
        return false;
    len = rx->len - sizeof(struct rdm_head) - sizeof(*to);
    if (pin_of_put(nic, to, len)) {
        memcpy((void *)(uintptr_t)to->addr, to + 1, len);
        __atomic_fetch_add(&nic->base.counts.wire_copied, len, __ATOMIC_RELAXED);
        put_answer(peer, rx, to->id, 0);
    } else {
        put_answer(peer, rx, to->id, -EFAULT);
    }
    return true;
}

/* ---- pulls ---- */

static void pull_remove(struct rdm_peer *peer, struct rdm_pull *pull)
{
    struct rdm_pull **at = &peer->pulls;

    while (*at != pull)
        at = &(*at)->next;
    *at = pull->next;
    pull->rx->pulling = false;
    rdm_pin_release(rdm_nic_of(peer), pull->pin);
    free(pull);
}

static void pull_done(struct rdm_pull *pull, int status)
{
    struct rdm_peer *peer = pull->c.peer;

    if (peer->state == RDM_UP || peer->state == RDM_LEAVING)
        put_answer(peer, pull->rx, pull->id, status);
    pull_remove(peer, pull);
    if (peer->state != RDM_LEAVING)
        rdm_peer_ready(peer);
}

static int pull_step(struct rdm_pull *pull)
{
    ssize_t n;

    if (rdm_nic_of(pull->c.peer)->broken)
        return -EAGAIN;
    n = read_step(&pull->c, &pull->most, pull->local + pull->at, pull->len - pull->at,
                  pull->pin->mr, pull->remote + pull->at, pull->key);
    if (n < 0)
        return (int)n;
    pull->at += (size_t)n;
    pull->started = true;
    return 0;
}

static void pull_go(struct rdm_pull *pull)
{
    int err;

    if (pull->pin->closing) {
        pull_done(pull, -EFAULT);
        return;
    }
    err = pull_step(pull);
    if (err && err != -EAGAIN)
        rdm_peer_failed(pull->c.peer, -err);
}

void rdm_reads_retry(struct rdm_peer *peer)
{
    gets_retry(peer);
    for (struct rdm_pull *pull = peer->pulls, *next; pull && peer->state == RDM_UP;
         pull = next) {
        next = pull->next;
        if (!pull->started)
            pull_go(pull);
    }
}

bool rdm_pull_heard(struct rdm_peer *peer, struct rdm_rx *rx)
{
    const struct rdm_fetch_head *fetch = (const void *)(rx->bytes + sizeof(struct rdm_head));
    struct rdm_nic *nic = rdm_nic_of(peer);
    struct rdm_pull *pull;
    struct rdm_pin *pin;

    if (rx->len != sizeof(struct rdm_head) + sizeof(*fetch))
        return false;
    pin = peer->reads ? pin_of_put(nic, &fetch->to, fetch->len) : NULL;
    if (pin && !pin->reads)
        pin = NULL;
    pull = pin ? calloc(1, sizeof(*pull)) : NULL;
    if (!pull || !fetch->len) {
        put_answer(peer, rx, fetch->to.id, pin ? -ENOMEM : -EFAULT);
        free(pull);
        return true;
    }
    *pull = (struct rdm_pull){
        .c = { .kind = RDM_PULL, .peer = peer }, .rx = rx, .pin = pin,
        .id = fetch->to.id, .local = (uint8_t *)(uintptr_t)fetch->to.addr,
        .most = nic->read_most, .len = fetch->len, .remote = fetch->from,
        .key = fetch->from_key,
        .next = peer->pulls,
    };
    peer->pulls = pull;
    pin->users++;
    rx->pulling = true;
    pull_go(pull);
    return true;
}

void rdm_pull_ended(struct rdm_pull *pull, int err)
{
    struct rdm_peer *peer = pull->c.peer;

    pull->started = false;
    if (err)
        rdm_peer_failed(peer, err);
    else if (pull->at == pull->len)
        pull_done(pull, 0);
    else if (peer->state == RDM_UP || peer->state == RDM_LEAVING)
        pull_go(pull);
    if (peer->state == RDM_DYING && rdm_peer_settled(peer))
        rdm_peer_ready(peer);
}

/* ---- endings ---- */

void rdm_pulls_end(struct rdm_peer *peer)
{
    while (peer->pulls)
        pull_remove(peer, peer->pulls);
}

void rdm_ops_end(struct rdm_peer *peer, int status)
{
    peer->n_puts = 0;
    for (struct rdm_op *op = peer->ops, *next; op; op = next) {
        next = op->next;
        if (op->under_way)
            op->forgotten = true;
        else
            rdm_op_done(op, status);
    }
}

bool rdm_ops_under_way(const struct rdm_peer *peer)
{
    for (const struct rdm_op *op = peer->ops; op; op = op->next)
        if (op->under_way)
            return true;
    return false;
}

bool rdm_pulls_under_way(const struct rdm_peer *peer)
{
    for (const struct rdm_pull *pull = peer->pulls; pull; pull = pull->next)
        if (pull->started)
            return true;
    return false;
}

void rdm_ops_returned(struct rdm_peer *peer)
{
    for (struct rdm_op *op = peer->ops; op; op = op->next) {
        op->under_way = false;
        op->bounce = NULL;          /* all buffers are taken back by the port */
    }
    for (struct rdm_pull *pull = peer->pulls; pull; pull = pull->next)
        pull->started = false;
}

int rdm_atomic(struct pw_nic_peer *base, const struct pw_atomic *what, uint64_t remote,
               uint64_t *result, const struct pw_nic_key *key, void *op)
{
    (void)base;
    (void)what;
    (void)remote;
    (void)result;
    (void)key;
    (void)op;
    return -EOPNOTSUPP;
}

void rdm_memory_close(struct rdm_nic *nic)
{
    for (unsigned i = 0; i < nic->n_pins; i++)
        if (nic->pins[i])
            pin_close(nic, nic->pins[i]);
    free(nic->pins);
    while (nic->done) {
        struct rdm_op *op = nic->done;

        nic->done = op->next;
        free(op);
    }
}
