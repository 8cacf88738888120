/* SPDX-License-Identifier: BSD-3-Clause */
/* serve.c - gets, puts and atomics of a peer on our memory, asked by frames.
 *
 * Start at pw_serve(). Every address that arrives is checked against the region
 * whose number came with it before anything is touched, and again before each piece:
 * a peer that lets us wait may have seen to it that the region is gone meanwhile. The
 * asking side and the picture of the exchange are in transfer.c.
 */
#include <stdlib.h>

#include "core.h"
#include "path.h"
#include "pinwheel/atomic.h"
#include "pinwheel/copy.h"

static void answer(struct pw_endpoint *ep, uint64_t id, int status, uint64_t result)
{
    struct pw_f_done f = { .id = id, .status = status, .result = result };

    /* Fails only when the peer is dead, or for lack of memory; then the asker
     * fails with us. */
    (void)pw_control_send(ep, PW_F_DONE, &f, sizeof(f));
}

/* Copy between our memory and the asker's offered buffer. 0, -EOPNOTSUPP. */
static int meet_offer(struct pw_endpoint *ep, const struct pw_f_request *r, bool put)
{
    void *mine = (void *)(uintptr_t)r->remote;
    enum pw_reach reach;
    struct pw_path *path = pw_path_reach(ep, r->offer, r->len, NULL, &reach);

    if (!path || reach != PW_REACH_DIRECT || !(path->nic->info.flags & PW_NIC_PROMPT))
        return -EOPNOTSUPP;
    return put ? path->nic->ops->get(path->peer, mine, r->offer, r->len, NULL, NULL)
               : path->nic->ops->put(path->peer, mine, r->offer, r->len, NULL, NULL);
}

static int serve_get(struct pw_endpoint *ep, const struct pw_f_request *r)
{
    int err = pw_region_check(ep->e, r->key, r->remote, r->len, PW_READ);
    struct pw_stream *s;

    if (err)
        return err;
    if (r->offer)
        return meet_offer(ep, r, false);
    s = malloc(sizeof(*s));
    if (!s)
        return -ENOMEM;
    *s = (struct pw_stream){ .kind = PW_F_GET_DATA, .id = r->id, .key = r->key,
                             .len = r->len,
                             .from = (const char *)(uintptr_t)r->remote };
    if (!pw_endpoint_stream(ep, s, NULL))
        free(s);
    pw_endpoint_pump(ep);
    return PW_NIC_PENDING;
}

static int serve_put(struct pw_endpoint *ep, const struct pw_f_request *r)
{
    int err = pw_region_check(ep->e, r->key, r->remote, r->len, PW_WRITE);
    struct pw_incoming *in;

    if (err)
        return err;
    if (r->offer)
        return meet_offer(ep, r, true);
    in = malloc(sizeof(*in));
    if (!in)
        return -ENOMEM;
    *in = (struct pw_incoming){ .next = ep->incoming, .id = r->id, .key = r->key,
                                .len = r->len,
                                .to = (char *)(uintptr_t)r->remote };
    ep->incoming = in;
    return PW_NIC_PENDING;
}

bool pw_serve_allowed(struct pw_endpoint *ep, const struct pw_stream *s)
{
    int err = pw_region_check(ep->e, s->key, (uint64_t)(uintptr_t)s->from + s->sent,
                              s->len - s->sent, PW_READ);

    if (err)
        answer(ep, s->id, err, 0);
    return !err;
}

static void serve_request(struct pw_endpoint *ep, unsigned kind, const void *data,
                          size_t len)
{
    struct pw_f_request r;
    int err;

    if (len != sizeof(r))
        return;
    memcpy(&r, data, sizeof(r));
    err = !r.len ? -EINVAL : kind == PW_F_GET ? serve_get(ep, &r) : serve_put(ep, &r);
    if (err != PW_NIC_PENDING)
        answer(ep, r.id, err, 0);
}

/* DATA of a put that was refused finds no record and is dropped. */
static void serve_data(struct pw_endpoint *ep, const void *data, size_t len)
{
    struct pw_incoming **at = &ep->incoming, *in;
    struct pw_f_data head;
    int err;

    if (len < sizeof(head))
        return;
    memcpy(&head, data, sizeof(head));
    len -= sizeof(head);
    while (*at && (*at)->id != head.id)
        at = &(*at)->next;
    in = *at;
    if (!in || head.offset != in->moved || len > in->len - in->moved)
        return;
    err = pw_region_check(ep->e, in->key, (uint64_t)(uintptr_t)in->to + in->moved, len,
                          PW_WRITE);
    if (!err) {
        pw_copy(in->to + in->moved, (const char *)data + sizeof(head), len);
        in->moved += len;
        if (in->moved < in->len)
            return;
    }
    *at = in->next;
    answer(ep, in->id, err, 0);
    free(in);
}

static void serve_atomic(struct pw_endpoint *ep, const void *data, size_t len)
{
    struct pw_f_atomic f;
    struct pw_atomic a;
    uint64_t result = 0;
    int err = -EINVAL;

    if (len != sizeof(f))
        return;
    memcpy(&f, data, sizeof(f));
    if (f.op <= PW_ATOMIC_CSWAP && f.type <= PW_DOUBLE) {
        a = (struct pw_atomic){ .op = (enum pw_atomic_op)f.op,
                                .type = (enum pw_atomic_type)f.type,
                                .operand = f.operand, .compare = f.compare };
        err = pw_region_check(ep->e, f.key, f.remote, pw_atomic_width(a.type),
                              PW_ATOMIC);
        if (!err)
            err = pw_atomic_apply(&a, (void *)(uintptr_t)f.remote, &result);
    }
    answer(ep, f.id, err, result);
}

/* What is under way of it is dropped by the asker. */
static void serve_cancel(struct pw_endpoint *ep, const void *data, size_t len)
{
    struct pw_f_cancel f;

    if (len != sizeof(f))
        return;
    memcpy(&f, data, sizeof(f));
    pw_endpoint_unstream(ep, PW_F_GET_DATA, f.id);
}

static void serve_fence(struct pw_endpoint *ep, const void *data, size_t len)
{
    struct pw_f_fence f;

    if (len != sizeof(f) || ep->n_paths < 2)
        return;
    memcpy(&f, data, sizeof(f));
    for (int i = 0; i < ep->n_paths; i++) {
        struct pw_path *p = &ep->paths[i];

        if (f.part < (uint32_t)ep->e->n_nics && p->nic == ep->e->nics[f.part] &&
            (uint32_t)p->part == f.own && p->peer && p->nic->ops->fence)
            p->nic->ops->fence(p->peer);
    }
}

void pw_serve(struct pw_endpoint *ep, unsigned kind, const void *data, size_t len)
{
    switch (kind) {
    case PW_F_GET:
    case PW_F_PUT:
        serve_request(ep, kind, data, len);
        break;
    case PW_F_PUT_DATA:
        serve_data(ep, data, len);
        break;
    case PW_F_ATOMIC:
        serve_atomic(ep, data, len);
        break;
    case PW_F_CANCEL:
        serve_cancel(ep, data, len);
        break;
    case PW_F_FENCE:
        serve_fence(ep, data, len);
        break;
    default:    /* of a newer peer, or nonsense: nobody waits for an answer */
        break;
    }
}

void pw_serve_forget(struct pw_endpoint *ep)
{
    while (ep->incoming) {
        struct pw_incoming *in = ep->incoming;
        ep->incoming = in->next;
        free(in);
    }
}
