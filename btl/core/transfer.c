/* SPDX-License-Identifier: BSD-3-Clause */
/* transfer.c - get, put and atomic, as the side that asks.
 *
 * Start at pw_endpoint_get(). What a NIC reaches is done by the NIC. Everything
 * else is asked for with a frame; the other side's half is in serve.c:
 *
 *     get  GET ------->            our buffer in our pool: copied there, DONE
 *          <---- GET_DATA ...      else streamed; the last byte completes it
 *     put  PUT ------->            our buffer in our pool: taken there, DONE
 *          PUT_DATA ... ->  <- DONE   else streamed
 *     atomic  ATOMIC -> <- DONE
 *
 * A get whose GET_DATA does not come may be called off by CANCEL: see rescue.c.
 */
#include <stdlib.h>

#include "core.h"
#include "guard.h"
#include "path.h"
#include "pinwheel/copy.h"
#include "pinwheel/heap.h"
#include "rescue.h"
#include "stripe.h"

static bool access_allowed(const struct pw_key *key, unsigned access)
{
    return !key || (key->access & access) == access;
}

/* What to return when an operation did not come to be pending. */
static int gave_up(struct pw_endpoint *ep, struct pw_op *op, uint64_t id, int err)
{
    return pw_op_take(ep->e, op, id, NULL) ? err : PW_NIC_PENDING;
}

/* -EOPNOTSUPP from a NIC means "not by me": the caller goes on by frames. */
static int by_nic(struct pw_endpoint *ep, struct pw_path *path, enum pw_op_kind kind,
                  void *local, uint64_t remote, size_t len, const struct pw_key *key,
                  pw_done_fn done, void *arg)
{
    struct pw_op what = { .kind = kind, .by = PW_BY_NIC, .ep = ep, .local = local,
                          .remote = remote, .len = len, .key = key ? key->id : 0,
                          .done = done, .arg = arg, .path = path };
    struct pw_nic_key room;
    const struct pw_nic_key *k = pw_path_key(path, key, &room);
    bool several = __atomic_load_n(&ep->n_paths, __ATOMIC_RELAXED) > 1;
    bool timed = several && len >= PW_PIECE_LEAST &&
                 !(path->nic->info.flags & PW_NIC_PROMPT);
    struct pw_op *op = NULL;
    uint64_t id;
    int err;

    if (!(path->nic->info.flags & PW_NIC_PROMPT)) {
        what.timed = timed;
        what.own = pw_pinning_own(ep->e, path->nic, kind, local, len);
        op = pw_op_new(ep->e, &what, &id);
        if (!op) {
            pw_own_put(ep->e, what.own);
            return -ENOMEM;
        }
    }
    if (timed)
        pw_stripe_time(path, len, PW_TIME_BEGIN);
    if (pw_path_enter(path)) {
        err = pw_path_carry(path, &what, k, what.own, op);
        pw_path_leave(path);
    } else {
        err = -EAGAIN;
    }
    /* It has noticed what progress will tell us: there is another path, or will be. */
    if (err == -EPIPE && ep->guard && pw_endpoint_alive(ep))
        err = -EAGAIN;
    if (timed && err != PW_NIC_PENDING)
        pw_stripe_time(path, len, PW_TIME_DROP);
    if (op && err != PW_NIC_PENDING)
        return gave_up(ep, op, id, err);
    return err;
}

/* The request, and a put's data behind it. op may have ended by the time its
 * request is sent: the rest is taken from `what`. */
static int ask(struct pw_endpoint *ep, struct pw_op *op, const struct pw_op *what)
{
    bool offer = what->by == PW_BY_OFFER;
    struct pw_f_request r = {
        .id = what->id, .remote = what->remote, .len = what->len, .key = what->key,
        .offer = offer ? (uint64_t)(uintptr_t)what->local : 0,
    };
    struct pw_stream *s = NULL;
    int err;

    if (what->kind == PW_OP_PUT && !offer) {
        s = malloc(sizeof(*s));
        if (!s)
            return -ENOMEM;
        *s = (struct pw_stream){ .kind = PW_F_PUT_DATA, .id = what->id,
                                 .from = what->local, .len = what->len };
    }
    err = pw_control_send(ep, what->kind == PW_OP_GET ? PW_F_GET : PW_F_PUT, &r,
                          sizeof(r));
    if (s && (err || !pw_endpoint_stream(ep, s, op)))
        free(s);
    return err;
}

/* Not before the request is under way: what calls it off must come behind it. */
static void may_be_rescued(struct pw_engine *e, struct pw_op *op, uint64_t id)
{
    pw_lock(e);
    if (op->id == id && op->kind != PW_OP_FREE) {
        op->rescue = true;
        pw_rescue_count(e, 1);
    }
    pw_unlock(e);
}

/* bulk: the kernel could do it too. */
static int by_frames(struct pw_endpoint *ep, enum pw_op_kind kind, void *local,
                     uint64_t remote, size_t len, const struct pw_key *key,
                     bool offer, bool bulk, pw_done_fn done, void *arg)
{
    struct pw_op what = { .kind = kind, .by = offer ? PW_BY_OFFER : PW_BY_FRAMES,
                          .ep = ep, .local = local, .remote = remote, .len = len,
                          .key = key ? key->id : 0, .done = done, .arg = arg };
    struct pw_op *op;
    int err;

    if (!pw_endpoint_alive(ep))
        return -EPIPE;
    if (bulk)
        what.started_ns = pw_now_ns();
    op = pw_op_new(ep->e, &what, &what.id);
    if (!op)
        return -ENOMEM;
    err = ask(ep, op, &what);
    if (err)
        return gave_up(ep, op, what.id, err);
    if (bulk)
        may_be_rescued(ep->e, op, what.id);
    return PW_NIC_PENDING;
}

int pw_transfer_by_frames(struct pw_endpoint *ep, enum pw_op_kind kind, void *local,
                          uint64_t remote, size_t len, const struct pw_key *key,
                          pw_done_fn done, void *arg)
{
    return by_frames(ep, kind, local, remote, len, key, false, false, done, arg);
}

/* Of memory that the kernel reaches: the cheaper way as was measured before. */
static enum pw_way bulk_expect(const struct pw_engine *e, size_t len)
{
    const struct pw_costs *c = pw_costs_now(e);

    if (e->config.bulk != PW_BULK_AUTO)
        return e->config.bulk == PW_BULK_KERNEL ? PW_WAY_KERNEL : PW_WAY_STREAM;
    return pw_cost_ns(&c->kernel, len) < pw_cost_ns(&c->stream, len) ? PW_WAY_KERNEL
                                                                      : PW_WAY_STREAM;
}

/* The same for a get that can go either way, as it turns out; and what it took. */
static enum pw_way bulk_choose(struct pw_endpoint *ep, size_t len)
{
    struct pw_engine *e = ep->e;
    enum pw_carrier carrier;

    if (e->config.bulk != PW_BULK_AUTO)
        return bulk_expect(e, len);
    pw_lock(e);
    carrier = pw_adapt_choose(&ep->adapt, pw_costs_now(e), len);
    pw_unlock(e);
    return carrier == PW_CARRY_KERNEL ? PW_WAY_KERNEL : PW_WAY_STREAM;
}

static void bulk_note(struct pw_endpoint *ep, enum pw_carrier carrier, size_t len,
                      uint64_t started_ns)
{
    uint64_t now = pw_now_ns();

    pw_lock(ep->e);
    /* Streams come one after the other: each is to pay for itself alone. */
    if (carrier == PW_CARRY_STREAM) {
        if (started_ns < ep->streamed_ns)
            started_ns = ep->streamed_ns;
        ep->streamed_ns = now;
    }
    pw_adapt_note(&ep->adapt, pw_costs_now(ep->e), carrier, len, now - started_ns);
    pw_unlock(ep->e);
}

static void count_way(struct pw_engine *e, enum pw_way way, size_t len)
{
    struct pw_stats *s = &e->stats;

    if (way != PW_WAY_STREAM)
        pw_count(way == PW_WAY_DIRECT ? &s->direct_bytes :
                 way == PW_WAY_KERNEL ? &s->kernel_bytes : &s->push_bytes, len);
}

/* again: what was in direct reach was not, after all. */
static int carry(struct pw_endpoint *ep, enum pw_op_kind kind, void *local,
                 uint64_t remote, size_t len, const struct pw_key *key, bool again,
                 pw_done_fn done, void *arg)
{
    struct pw_choice c = { .len = len, .passive = !key || key->passive };
    enum pw_way way, bulk;
    bool either, offer;
    struct pw_path *path;
    uint64_t start = 0;
    int err;

    path = pw_path_reach(ep, remote, len, key, &c.reach);
    if (!path)
        return pw_endpoint_alive(ep) ? -EAGAIN : -EPIPE;
    if (again && c.reach == PW_REACH_DIRECT)
        c.reach = PW_REACH_NONE;
    c.in_pool = path->nic->info.flags & PW_NIC_SAME_HOST &&
                pw_pool_contains(ep->e->config.pool, local, len);
    either = kind == PW_OP_GET && !c.passive && !c.in_pool &&
             pw_rescue_possible(path, c.reach);
    bulk = either ? bulk_choose(ep, len) : bulk_expect(ep->e, len);
    way = pw_way_choose(bulk, &c);
    if (way == PW_WAY_DIRECT || way == PW_WAY_KERNEL) {
        if (either)
            start = pw_now_ns();
        err = -EOPNOTSUPP;
        if (way == PW_WAY_DIRECT)
            err = pw_stripe(ep, path, kind, local, remote, len, key, done, arg);
        if (err == -EOPNOTSUPP)
            err = by_nic(ep, path, kind, local, remote, len, key, done, arg);
        if (err >= 0)
            count_way(ep->e, way, len);
        /* No more may be pinned: of our own memory, which frames need not be. */
        if (err == -ENOMEM && way == PW_WAY_DIRECT)
            err = -EOPNOTSUPP;
        if (!err && either)
            bulk_note(ep, PW_CARRY_KERNEL, len, start);
        if (err != -EOPNOTSUPP)
            return err;
        if (way == PW_WAY_DIRECT)
            return carry(ep, kind, local, remote, len, key, true, done, arg);
        way = PW_WAY_STREAM;
        either = false;
    }
    offer = way == PW_WAY_PUSH;
    /* Where this fails the peer's touch brings the memory. */
    if (offer)
        (void)pw_heap_touch(ep->e->config.pool, local, len);
    err = by_frames(ep, kind, local, remote, len, key, offer, either, done, arg);
    if (err >= 0)
        count_way(ep->e, way, len);
    return err;
}

static int transfer(struct pw_endpoint *ep, enum pw_op_kind kind, void *local,
                    uint64_t remote, size_t len, const struct pw_key *key,
                    pw_done_fn done, void *arg)
{
    if (__builtin_expect(!access_allowed(key, kind == PW_OP_GET ? PW_READ : PW_WRITE), 0))
        return -EACCES;
    if (!len)
        return 0;
    return carry(ep, kind, local, remote, len, key, false, done, arg);
}

/* The path in use, when its NIC reaches that memory and makes nobody wait. */
static struct pw_path *path_now(struct pw_endpoint *ep, uint64_t remote, size_t len,
                                const struct pw_key *key, unsigned access)
{
    struct pw_path *path = __atomic_load_n(&ep->path, __ATOMIC_ACQUIRE);

    if (path && path->nic->info.flags & PW_NIC_PROMPT && pw_path_keyless(path) &&
        access_allowed(key, access) &&
        path->nic->ops->reach(path->peer, remote, len, NULL) == PW_REACH_DIRECT)
        return path;
    return NULL;
}

int pw_endpoint_get_now(struct pw_endpoint *ep, void *local, uint64_t remote, size_t len,
                        const struct pw_key *key)
{
    struct pw_path *path = path_now(ep, remote, len, key, PW_READ);
    int err;

    if (!path)
        return -EOPNOTSUPP;
    err = path->nic->ops->get(path->peer, local, remote, len, NULL, NULL);
    if (!err)
        count_way(ep->e, PW_WAY_DIRECT, len);
    return err ? -EOPNOTSUPP : 0;
}

int pw_endpoint_put_now(struct pw_endpoint *ep, const void *local, uint64_t remote,
                        size_t len, const struct pw_key *key)
{
    struct pw_path *path = path_now(ep, remote, len, key, PW_WRITE);
    int err;

    if (!path)
        return -EOPNOTSUPP;
    err = path->nic->ops->put(path->peer, local, remote, len, NULL, NULL);
    if (!err)
        count_way(ep->e, PW_WAY_DIRECT, len);
    return err ? -EOPNOTSUPP : 0;
}

int pw_endpoint_get(struct pw_endpoint *ep, void *local, uint64_t remote, size_t len,
                    const struct pw_key *key, pw_done_fn done, void *arg)
{
    return transfer(ep, PW_OP_GET, local, remote, len, key, done, arg);
}

int pw_endpoint_put(struct pw_endpoint *ep, const void *local, uint64_t remote,
                    size_t len, const struct pw_key *key, pw_done_fn done, void *arg)
{
    return transfer(ep, PW_OP_PUT, (void *)(uintptr_t)local, remote, len, key, done,
                    arg);
}

static int atomic_by_frame(struct pw_endpoint *ep, const struct pw_atomic *what,
                           uint64_t remote, uint64_t *result,
                           const struct pw_key *key, pw_done_fn done, void *arg)
{
    struct pw_op new = { .kind = PW_OP_ATOMIC, .by = PW_BY_FRAMES, .ep = ep,
                         .result = result, .done = done, .arg = arg };
    struct pw_f_atomic f = {
        .remote = remote, .key = key ? key->id : 0, .op = what->op,
        .type = what->type, .operand = what->operand, .compare = what->compare,
    };
    struct pw_op *op;
    int err;

    if (!pw_endpoint_alive(ep))
        return -EPIPE;
    op = pw_op_new(ep->e, &new, &f.id);
    if (!op)
        return -ENOMEM;
    err = pw_control_send(ep, PW_F_ATOMIC, &f, sizeof(f));
    if (err)
        return gave_up(ep, op, f.id, err);
    pw_count(&ep->e->stats.atomics_frame, 1);
    return PW_NIC_PENDING;
}

int pw_endpoint_atomic(struct pw_endpoint *ep, const struct pw_atomic *what,
                       uint64_t remote, uint64_t *result, const struct pw_key *key,
                       pw_done_fn done, void *arg)
{
    struct pw_nic_key room;
    struct pw_path *path;
    enum pw_reach reach;
    int err;

    if (!access_allowed(key, PW_ATOMIC))
        return -EACCES;
    path = pw_path_reach(ep, remote,
                         what->type == PW_INT32 || what->type == PW_FLOAT ? 4 : 8, key,
                         &reach);
    if (!path)
        return pw_endpoint_alive(ep) ? -EAGAIN : -EPIPE;
    /* A path that can fail would leave it open whether the atomic happened; as
     * a numbered frame it happens once. */
    if (reach == PW_REACH_DIRECT && path->nic->info.flags & PW_NIC_ATOMIC &&
        path->nic->info.flags & PW_NIC_PROMPT) {
        err = path->nic->ops->atomic(path->peer, what, remote, result,
                                     pw_path_key(path, key, &room), NULL);
        if (!err)
            pw_count(&ep->e->stats.atomics_direct, 1);
        if (err != -EOPNOTSUPP)
            return err;
    }
    return atomic_by_frame(ep, what, remote, result, key, done, arg);
}

/* End it, unless somebody else did: then nothing of it is ours any more. */
static void op_complete(struct pw_endpoint *ep, struct pw_op *op, uint64_t id, int status,
                        uint64_t result)
{
    struct pw_op was;

    if (!pw_op_take(ep->e, op, id, &was))
        return;
    if (was.kind == PW_OP_PUT)
        pw_endpoint_unstream(ep, PW_F_PUT_DATA, id);
    if (!status && was.started_ns)
        bulk_note(ep, PW_CARRY_STREAM, was.len, was.started_ns);
    if (!status && was.result)
        *was.result = result;
    was.done(was.arg, status);
}

/* GET_DATA: bytes that we asked for. What does not fit what was asked is
 * dropped; the peer is broken and its DONE will not come. */
void pw_transfer_data(struct pw_endpoint *ep, const void *data, size_t len)
{
    struct pw_f_data head;
    struct pw_op *op;

    if (len < sizeof(head))
        return;
    memcpy(&head, data, sizeof(head));
    len -= sizeof(head);
    op = pw_op_find(ep->e, head.id);
    if (!op || op->ep != ep || op->kind != PW_OP_GET || op->by != PW_BY_FRAMES ||
        head.offset != op->moved || len > op->len - op->moved)
        return;
    ep->heard++;
    pw_copy((char *)op->local + op->moved, (const char *)data + sizeof(head), len);
    op->moved += len;
    if (op->moved == op->len)
        op_complete(ep, op, head.id, 0, 0);
}

/* The peer could not reach what we offered: the long way then. */
static int ask_again(struct pw_endpoint *ep, struct pw_op *op)
{
    struct pw_op what = *op;

    what.by = op->by = PW_BY_FRAMES;
    return ask(ep, op, &what);
}

void pw_transfer_end(struct pw_op *op, int status)
{
    op_complete(op->ep, op, op->id, status, 0);
}

bool pw_transfer_again(struct pw_op *op)
{
    int err;

    op->moved = 0;
    err = ask_again(op->ep, op);
    if (err)
        op_complete(op->ep, op, op->id, err, 0);
    return err != 0;
}

/* A NIC finished, or failed and may be replaced: copying again does no harm
 * before the callback came, so frames on another path take over. */
void pw_transfer_nic_done(struct pw_op *op, int status)
{
    struct pw_endpoint *ep = op->ep;

    if (op->piece) {
        pw_stripe_nic_done(op, status);
        return;
    }
    if (op->timed && op->kind != PW_OP_FREE) {
        pw_stripe_time(op->path, op->len, status ? PW_TIME_DROP : PW_TIME_END);
        op->timed = false;
    }
    if (status == -ECONNRESET && op->kind != PW_OP_ATOMIC && ep->guard &&
        pw_endpoint_alive(ep)) {
        if (op->kind == PW_OP_PUT)
            pw_path_fence(op->path);
        if (!ask_again(ep, op))
            return;
    }
    op_complete(ep, op, op->id, status == -ECONNRESET ? -EPIPE : status, 0);
}

void pw_transfer_done(struct pw_endpoint *ep, const void *data, size_t len)
{
    struct pw_f_done f;
    struct pw_op *op;
    int status;

    if (len != sizeof(f))
        return;
    memcpy(&f, data, sizeof(f));
    op = pw_op_find(ep->e, f.id);
    if (!op || op->ep != ep || op->by == PW_BY_NIC)
        return;
    status = f.status > 0 || f.status < -4095 ? -EPROTO : (int)f.status;
    if (!status && op->kind == PW_OP_GET && op->by == PW_BY_FRAMES)
        status = -EPROTO;       /* its last byte ends it, and has not come */
    if (status == -EOPNOTSUPP && op->by == PW_BY_OFFER) {
        status = ask_again(ep, op);
        if (!status)
            return;
    }
    op_complete(ep, op, f.id, status, f.result);
}

void pw_transfer_fail_all(struct pw_endpoint *ep, int status)
{
    struct pw_engine *e = ep->e;

    pw_stripes_fail(ep, status);
    for (uint32_t i = 0; i < __atomic_load_n(&e->n_ops, __ATOMIC_RELAXED); i++) {
        struct pw_op *op;
        uint64_t id;

        pw_lock(e);
        op = e->ops[i];
        id = op->id;
        if (op->kind == PW_OP_FREE || op->ep != ep)
            op = NULL;
        pw_unlock(e);
        if (op)
            op_complete(ep, op, id, status, 0);
    }
}
