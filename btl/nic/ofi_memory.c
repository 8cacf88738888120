/* SPDX-License-Identifier: BSD-3-Clause */
/* ofi_memory.c - registered memory, put and get.
 *
 *     get         we read the peer's memory (fi_read)
 *     short put   its bytes go along in a message
 *     long put    the peer reads ours, when it is told to
 *
 * Each ends when the data is where it belongs: the peer answers a put. A frame that was sent
 * after a put waits in the peer's queue until what it has to fetch has come.
 *
 * A key says where libfabric finds the memory, and where we find the pin, by which puts are
 * checked. Where local memory must be registered too (FI_MR_LOCAL), a short get goes through
 * a buffer of ours, and other memory is registered for that one transfer.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ofi.h"

_Static_assert(sizeof(struct ofi_key) <= PW_NIC_KEY_MAX, "a key fits");

/* ---- registered memory ---- */

static int pin_place(struct ofi_nic *nic, unsigned *place)
{
    struct ofi_pin **grown;
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

/* A provider in software takes any address, and the process dies of it when a peer reads
 * there. To write nothing back is a cheap way to have the kernel look. */
static int check_mapped(const void *addr, size_t len)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t from = (uintptr_t)addr & ~(page - 1);

    if ((uintptr_t)addr + len < (uintptr_t)addr)
        return -EFAULT;
    return msync((void *)from, (uintptr_t)addr + len - from, MS_ASYNC) ? -EFAULT : 0;
}

/* What libfabric calls FI_MR_ALLOCATED: pages are to be there. Old kernels have not that
 * call, and touch pages as they pin. */
static int populate(const struct ofi_nic *nic, void *addr, size_t len, unsigned access)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t from = (uintptr_t)addr & ~(page - 1);

    if (!ofi_mr(&nic->domain, FI_MR_ALLOCATED) ||
        !madvise((void *)from, (uintptr_t)addr + len - from,
                 access & PW_WRITE ? MADV_POPULATE_WRITE : MADV_POPULATE_READ))
        return 0;
    return errno == ENOMEM || errno == EFAULT ? -EFAULT : 0;
}

static int pin_register(struct ofi_nic *nic, void *addr, size_t len, unsigned access,
                        struct ofi_key *key)
{
    uint64_t rights = FI_READ | FI_WRITE | FI_REMOTE_READ |
                      (access & (PW_WRITE | PW_ATOMIC) ? FI_REMOTE_WRITE : 0);
    struct ofi_pin *pin = calloc(1, sizeof(*pin));
    unsigned place;
    int err = pin ? pin_place(nic, &place) : -ENOMEM;

    if (!err)
        err = ofi_register(&nic->domain, &nic->port, addr, len, rights, &pin->mr);
    if (err) {
        free(pin);
        return err;
    }
    pin->base = addr;
    pin->len = len;
    pin->access = access;
    nic->pins[place] = pin;
    nic->pin_hint = place + 1;
    *key = (struct ofi_key){ .base = (uintptr_t)addr, .len = len, .place = place,
                             .key = fi_mr_key(pin->mr), .there = 1 };
    return 0;
}

int ofi_pin(struct pw_nic *base, void *addr, size_t len, unsigned access,
            struct pw_nic_key *out)
{
    struct ofi_nic *nic = ofi_of(base);
    struct ofi_key key;
    int err;

    memset(out, 0, sizeof(*out));
    if (!nic->reads)
        return 0;
    err = check_mapped(addr, len);
    if (!err)
        err = populate(nic, addr, len, access);
    if (err)
        return err;
    pthread_mutex_lock(&nic->lock);
    err = pin_register(nic, addr, len, access, &key);
    pthread_mutex_unlock(&nic->lock);
    if (!err)
        memcpy(out, &key, sizeof(key));
    return err;
}

static void pin_free(struct ofi_pin *pin)
{
    fi_close(&pin->mr->fid);
    free(pin);
}

static void pin_release(struct ofi_pin *pin)
{
    if (!--pin->users && pin->closing)
        pin_free(pin);
}

void ofi_unpin(struct pw_nic *base, void *addr, size_t len, const struct pw_nic_key *bytes)
{
    struct ofi_nic *nic = ofi_of(base);
    struct ofi_pin *pin;
    struct ofi_key key;

    (void)addr;
    (void)len;
    memcpy(&key, bytes, sizeof(key));
    if (!key.there)
        return;
    pthread_mutex_lock(&nic->lock);
    pin = key.place < nic->n_pins ? nic->pins[key.place] : NULL;
    if (pin && fi_mr_key(pin->mr) == key.key) {
        nic->pins[key.place] = NULL;
        if (key.place < nic->pin_hint)
            nic->pin_hint = key.place;
        pin->closing = true;
        if (!pin->users)
            pin_free(pin);
    }
    pthread_mutex_unlock(&nic->lock);
}

/* The pin that a peer names, if it may write there. */
static struct ofi_pin *pin_named(const struct ofi_nic *nic, const struct ofi_put_head *to,
                                 uint64_t len)
{
    struct ofi_pin *pin = to->place < nic->n_pins ? nic->pins[to->place] : NULL;
    uint64_t at;

    if (!pin || fi_mr_key(pin->mr) != to->key || !(pin->access & (PW_WRITE | PW_ATOMIC)))
        return NULL;
    at = to->addr - (uintptr_t)pin->base;
    return at <= pin->len && len <= pin->len - at ? pin : NULL;
}

/* ---- asking ---- */

static bool key_covers(const struct ofi_key *key, uint64_t remote, size_t len)
{
    uint64_t at = remote - key->base;

    return at <= key->len && len <= key->len - at;
}

/* 0, or -EOPNOTSUPP, -EFAULT. */
static int key_read(const struct ofi_nic *nic, uint64_t remote, size_t len,
                    const struct pw_nic_key *bytes, struct ofi_key *out)
{
    memset(out, 0, sizeof(*out));
    if (bytes)
        memcpy(out, bytes, sizeof(*out));
    if (!nic->reads || out->there != 1 || out->base + out->len < out->base)
        return -EOPNOTSUPP;
    return key_covers(out, remote, len) ? 0 : -EFAULT;
}

enum pw_reach ofi_reach(struct pw_nic_peer *base, uint64_t remote, size_t len,
                        const struct pw_nic_key *bytes)
{
    struct ofi_key key;

    return key_read(ofi_of(base->nic), remote, len, bytes, &key) ? PW_REACH_NONE
                                                                 : PW_REACH_DIRECT;
}

/* As libfabric names memory to peers. */
static uint64_t mr_address(const struct ofi_nic *nic, uint64_t addr, uint64_t base)
{
    return ofi_mr(&nic->domain, FI_MR_VIRT_ADDR) ? addr : addr - base;
}

static int peer_usable(const struct ofi_peer *peer)
{
    if (peer->state == OFI_UP)
        return ofi_nic_of(peer)->broken ? -EAGAIN : 0;
    return peer->state == OFI_CALLING ? -EAGAIN : -EPIPE;
}

/* ---- operations ---- */

static struct ofi_op *op_make(struct ofi_peer *peer, void *cookie, size_t len)
{
    struct ofi_op *op = calloc(1, sizeof(*op));

    if (op) {
        op->c.kind = OFI_GET;
        op->c.peer = peer;
        op->cookie = cookie;
        op->len = len;
    }
    return op;
}

static void op_release(struct ofi_nic *nic, struct ofi_op *op)
{
    if (op->mr)
        fi_close(&op->mr->fid);
    if (op->bounce)
        ofi_tx_put(nic, op->bounce);
    op->mr = NULL;
    op->bounce = NULL;
}

static void op_done(struct ofi_op *op, int status)
{
    struct ofi_peer *peer = op->c.peer;
    struct ofi_nic *nic = ofi_nic_of(peer);
    struct ofi_op **at = &peer->ops;

    while (*at != op)
        at = &(*at)->next;
    *at = op->next;
    op_release(nic, op);
    op->status = status;
    op->next = NULL;
    *nic->done_end = op;
    nic->done_end = &op->next;
    ofi_wake(nic);
}

static void op_begin(struct ofi_op *op)
{
    op->next = op->c.peer->ops;
    op->c.peer->ops = op;
}

/* ---- get ---- */

/* All of it, or as much as the provider takes in one call. */
static int get_step(struct ofi_op *op)
{
    struct ofi_nic *nic = ofi_nic_of(op->c.peer);
    size_t most = nic->domain.info->ep_attr->max_msg_size, len = op->len - op->at;
    uint8_t *to = op->bounce ? op->bounce->bytes : op->local + op->at;
    struct fid_mr *mr = op->bounce ? op->bounce->slab->mr : op->mr;
    int err;

    if (len > most)
        len = most;
    err = (int)fi_read(nic->port.ep, to, len, ofi_desc(mr), op->c.peer->to,
                       op->remote + op->at, op->key, op);
    if (err)
        return err == -FI_EAGAIN ? -EAGAIN : err;
    op->at += len;
    op->with_provider = true;
    return 0;
}

static int get_local(struct ofi_nic *nic, struct ofi_op *op)
{
    if (!ofi_mr(&nic->domain, FI_MR_LOCAL))
        return 0;
    if (op->len > OFI_BOUNCE)
        return ofi_register(&nic->domain, &nic->port, op->local, op->len, FI_READ,
                            &op->mr);
    op->bounce = ofi_tx_get(nic);
    return op->bounce ? 0 : -EAGAIN;
}

static int get_begin(struct ofi_peer *peer, struct ofi_op *op)
{
    struct ofi_nic *nic = ofi_nic_of(peer);
    int err = get_local(nic, op);

    if (!err)
        err = get_step(op);
    if (err) {
        op_release(nic, op);
        free(op);
        if (err == -EAGAIN) {
            ofi_poll(nic);
        } else if (err != -ENOMEM) {
            ofi_peer_failed(peer, -err);
            err = -EPIPE;
        }
        return err;
    }
    op_begin(op);
    return PW_NIC_PENDING;
}

int ofi_get(struct pw_nic_peer *base, void *local, uint64_t remote, size_t len,
            const struct pw_nic_key *bytes, void *cookie)
{
    struct ofi_peer *peer = (struct ofi_peer *)base;
    struct ofi_nic *nic = ofi_nic_of(peer);
    struct ofi_key key;
    struct ofi_op *op;
    int err;

    pthread_mutex_lock(&nic->lock);
    err = peer_usable(peer);
    if (!err)
        err = key_read(nic, remote, len, bytes, &key);
    if (!err && len) {
        op = op_make(peer, cookie, len);
        if (op) {
            op->local = local;
            op->remote = mr_address(nic, remote, key.base);
            op->key = key.key;
        }
        err = op ? get_begin(peer, op) : -EAGAIN;
    }
    pthread_mutex_unlock(&nic->lock);
    return err;
}

void ofi_get_ended(struct ofi_op *op, int err)
{
    struct ofi_peer *peer = op->c.peer;
    struct ofi_nic *nic = ofi_nic_of(peer);

    op->with_provider = false;
    if (!err && op->bounce) {
        memcpy(op->local, op->bounce->bytes, op->len);
        __atomic_fetch_add(&nic->base.counts.wire_copied, op->len, __ATOMIC_RELAXED);
    }
    if (!err && op->at < op->len) {
        if (peer->state == OFI_UP && !get_step(op))
            return;
        err = FI_EIO;
    }
    if (!err) {
        __atomic_fetch_add(&nic->base.counts.wire_bytes, op->len, __ATOMIC_RELAXED);
        op_done(op, 0);
        return;
    }
    /* Memory that is not registered any more is not the connection's fault. */
    if (err == FI_EACCES || err == FI_ENOKEY || err == FI_EKEYREJECTED) {
        op_done(op, -EFAULT);
        return;
    }
    ofi_peer_failed(peer, err);
    if (peer->state == OFI_DYING && ofi_peer_settled(peer))
        ofi_peer_ready(peer);
}

/* ---- put ---- */

static int put_short(struct ofi_peer *peer, struct ofi_op *op, const void *local,
                     const struct ofi_put_head *to)
{
    struct ofi_head head = { .kind = OFI_PUT };
    struct pw_iov iov[2] = { { to, sizeof(*to) }, { local, op->len } };

    return ofi_ordered(peer, &head, iov, 2);
}

static int put_long(struct ofi_peer *peer, struct ofi_op *op, const void *local,
                    const struct ofi_put_head *to)
{
    struct ofi_nic *nic = ofi_nic_of(peer);
    struct ofi_head head = { .kind = OFI_FETCH };
    struct ofi_fetch_head fetch = { .to = *to, .len = op->len };
    struct pw_iov iov = { &fetch, sizeof(fetch) };
    int err = ofi_register(&nic->domain, &nic->port, local, op->len,
                           FI_READ | FI_REMOTE_READ, &op->mr);

    if (err)
        return err;
    fetch.from = mr_address(nic, (uintptr_t)local, (uintptr_t)local);
    fetch.from_key = fi_mr_key(op->mr);
    return ofi_ordered(peer, &head, &iov, 1);
}

static int put_begin(struct ofi_peer *peer, const void *local, struct ofi_op *op,
                     const struct ofi_key *key, uint64_t remote)
{
    struct ofi_nic *nic = ofi_nic_of(peer);
    struct ofi_put_head to = { .addr = remote, .place = key->place, .key = key->key };
    int err;

    to.id = op->id = ++nic->ids;
    err = op->len <= OFI_PUT_SHORT ? put_short(peer, op, local, &to)
                                   : put_long(peer, op, local, &to);
    if (err) {
        op_release(nic, op);
        free(op);
        return err;
    }
    __atomic_fetch_add(op->len <= OFI_PUT_SHORT ? &nic->base.counts.wire_copied
                                                : &nic->base.counts.wire_bytes,
                       op->len, __ATOMIC_RELAXED);
    op_begin(op);
    return PW_NIC_PENDING;
}

int ofi_put(struct pw_nic_peer *base, const void *local, uint64_t remote, size_t len,
            const struct pw_nic_key *bytes, void *cookie)
{
    struct ofi_peer *peer = (struct ofi_peer *)base;
    struct ofi_nic *nic = ofi_nic_of(peer);
    struct ofi_key key;
    struct ofi_op *op;
    int err;

    pthread_mutex_lock(&nic->lock);
    err = peer_usable(peer);
    if (!err)
        err = key_read(nic, remote, len, bytes, &key);
    if (!err && len) {
        op = op_make(peer, cookie, len);
        err = op ? put_begin(peer, local, op, &key, remote) : -EAGAIN;
    }
    pthread_mutex_unlock(&nic->lock);
    return err;
}

void ofi_put_done_heard(struct ofi_peer *peer, const struct ofi_put_done *done)
{
    for (struct ofi_op *op = peer->ops; op; op = op->next)
        if (op->id && op->id == done->id) {
            op_done(op, done->status <= 0 ? done->status : -EPROTO);
            return;
        }
}

/* ---- puts of peers ---- */

static void put_answer(struct ofi_peer *peer, uint32_t id, int status)
{
    struct ofi_put_done done = {
        .head = { .kind = OFI_PUT_DONE, .slot = peer->its_slot, .token = peer->its_token,
                  .consumed = peer->consumed },
        .id = id, .status = status,
    };
    struct ofi_owed *owed, **at = &peer->owed;

    if (!peer->owed && !ofi_message(peer, &done, sizeof(done)))
        return;
    owed = calloc(1, sizeof(*owed));
    if (!owed) {
        ofi_peer_lost(peer, -ENOMEM, "there is no memory to answer it");
        return;
    }
    owed->done = done;
    while (*at)
        at = &(*at)->next;
    *at = owed;
}

bool ofi_put_heard(struct ofi_peer *peer, struct ofi_rx *rx)
{
    const struct ofi_put_head *to = (const void *)(rx->bytes + sizeof(struct ofi_head));
    struct ofi_nic *nic = ofi_nic_of(peer);
    size_t len;

    if (rx->len < sizeof(struct ofi_head) + sizeof(*to))
        return false;
    len = rx->len - sizeof(struct ofi_head) - sizeof(*to);
    if (pin_named(nic, to, len)) {
        memcpy((void *)(uintptr_t)to->addr, to + 1, len);
        __atomic_fetch_add(&nic->base.counts.wire_copied, len, __ATOMIC_RELAXED);
        put_answer(peer, to->id, 0);
    } else {
        put_answer(peer, to->id, -EFAULT);
    }
    return true;
}

/* ---- pulls ---- */

static void pull_remove(struct ofi_peer *peer, struct ofi_pull *pull)
{
    struct ofi_pull **at = &peer->pulls;

    while (*at != pull)
        at = &(*at)->next;
    *at = pull->next;
    pull->rx->pulling = false;
    pin_release(pull->pin);
    free(pull);
}

static void pull_done(struct ofi_pull *pull, int status)
{
    struct ofi_peer *peer = pull->c.peer;

    if (peer->state == OFI_UP || peer->state == OFI_LEAVING)
        put_answer(peer, pull->id, status);
    pull_remove(peer, pull);
    if (peer->state != OFI_LEAVING)
        ofi_peer_ready(peer);
}

static int pull_step(struct ofi_pull *pull)
{
    struct ofi_nic *nic = ofi_nic_of(pull->c.peer);
    size_t most = nic->domain.info->ep_attr->max_msg_size, len = pull->len - pull->at;
    int err;

    if (nic->broken)
        return -EAGAIN;
    if (len > most)
        len = most;
    err = (int)fi_read(nic->port.ep, pull->local + pull->at, len, ofi_desc(pull->pin->mr),
                       pull->c.peer->to, pull->remote + pull->at, pull->key, pull);
    if (!err) {
        pull->at += len;
        pull->started = true;
    }
    return err;
}

static void pull_go(struct ofi_pull *pull)
{
    int err = pull_step(pull);

    if (err && err != -FI_EAGAIN)
        ofi_peer_failed(pull->c.peer, -err);
}

void ofi_pulls_retry(struct ofi_peer *peer)
{
    for (struct ofi_pull *pull = peer->pulls; pull && peer->state == OFI_UP;
         pull = pull->next)
        if (!pull->started)
            pull_go(pull);
}

bool ofi_pull_heard(struct ofi_peer *peer, struct ofi_rx *rx)
{
    const struct ofi_fetch_head *fetch = (const void *)(rx->bytes + sizeof(struct ofi_head));
    struct ofi_nic *nic = ofi_nic_of(peer);
    struct ofi_pull *pull;
    struct ofi_pin *pin;

    if (rx->len != sizeof(struct ofi_head) + sizeof(*fetch))
        return false;
    pin = pin_named(nic, &fetch->to, fetch->len);
    pull = pin ? calloc(1, sizeof(*pull)) : NULL;
    if (!pull || !fetch->len) {
        put_answer(peer, fetch->to.id, pin ? -ENOMEM : -EFAULT);
        free(pull);
        return true;
    }
    *pull = (struct ofi_pull){
        .c = { .kind = OFI_PULL, .peer = peer }, .rx = rx, .pin = pin,
        .id = fetch->to.id, .local = (uint8_t *)(uintptr_t)fetch->to.addr,
        .len = fetch->len, .remote = fetch->from, .key = fetch->from_key,
        .next = peer->pulls,
    };
    peer->pulls = pull;
    pin->users++;
    rx->pulling = true;
    pull_go(pull);
    return true;
}

void ofi_pull_ended(struct ofi_pull *pull, int err)
{
    struct ofi_peer *peer = pull->c.peer;

    pull->started = false;
    if (!err && pull->at == pull->len) {
        pull_done(pull, 0);
        return;
    }
    if (!err) {
        pull_go(pull);
        return;
    }
    ofi_peer_failed(peer, err);
    if (peer->state == OFI_DYING && ofi_peer_settled(peer))
        ofi_peer_ready(peer);
}

/* ---- endings ---- */

void ofi_pulls_end(struct ofi_peer *peer)
{
    while (peer->pulls)
        pull_remove(peer, peer->pulls);
}

void ofi_ops_end(struct ofi_peer *peer, int status)
{
    while (peer->ops)
        op_done(peer->ops, status);
}

bool ofi_ops_with_provider(const struct ofi_peer *peer)
{
    for (const struct ofi_op *op = peer->ops; op; op = op->next)
        if (op->with_provider)
            return true;
    return false;
}

bool ofi_pulls_with_provider(const struct ofi_peer *peer)
{
    for (const struct ofi_pull *pull = peer->pulls; pull; pull = pull->next)
        if (pull->started)
            return true;
    return false;
}

void ofi_ops_returned(struct ofi_peer *peer)
{
    for (struct ofi_op *op = peer->ops; op; op = op->next) {
        op->with_provider = false;
        op->bounce = NULL;          /* all buffers are taken back by the port */
    }
    for (struct ofi_pull *pull = peer->pulls; pull; pull = pull->next)
        pull->started = false;
}

int ofi_atomic(struct pw_nic_peer *base, const struct pw_atomic *what, uint64_t remote,
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

void ofi_memory_close(struct ofi_nic *nic)
{
    for (unsigned i = 0; i < nic->n_pins; i++)
        if (nic->pins[i])
            pin_free(nic->pins[i]);
    free(nic->pins);
    while (nic->done) {
        struct ofi_op *op = nic->done;

        nic->done = op->next;
        free(op);
    }
}
