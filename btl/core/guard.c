/* SPDX-License-Identifier: BSD-3-Clause */
/* guard.c - frames that survive the path they were sent on.
 *
 * Start at pw_guard_send() and pw_guard_accept(). Numbers are 16 bits and wrap;
 * the window is far smaller than half of that, so "before" is unambiguous.
 *
 *     acked <= sent <= next       (as distances from acked)
 *       |        |       |
 *       |        |       the next frame's number
 *       |        the first frame that the present path has not been given
 *       the oldest frame that is kept
 *
 * Going back (a path failed, an answer is overdue) means sent = acked. The
 * receiver takes frames in order only, so what comes twice is dropped, and what
 * comes early is dropped too and sent again: simple, and enough where loss is
 * rare.
 *
 * g->lock serialises senders; it is held across the NIC's send, which makes no
 * upcalls.
 */
#include <stdlib.h>

#include "guard.h"
#include "pinwheel/clock.h"

/* Without an acknowledgement for this long, send again. */
enum { PW_GUARD_OVERDUE_NS = 10 * 1000 * 1000 };

struct guard_copy {
    struct pw_op op;        /* for the NIC; kind PW_OP_FRAME */
    uint32_t imm;
    size_t len;
    char *bytes;
    bool in_nic;            /* the NIC still reads bytes */
};

struct pw_guard {
    struct pw_endpoint *ep;
    pthread_mutex_t lock;
    uint16_t acked, sent, next;
    uint64_t heard_ns;      /* when acked moved last, or sending began */
    uint16_t expected;      /* from the peer */
    unsigned owed;          /* frames taken and not acknowledged */
    struct guard_copy copies[PW_GUARD_WINDOW];
};

static struct guard_copy *copy_at(struct pw_guard *g, uint16_t seq)
{
    return &g->copies[seq % PW_GUARD_WINDOW];
}

int pw_guard_open(struct pw_endpoint *ep)
{
    struct pw_guard *g = calloc(1, sizeof(*g));

    if (!g)
        return -ENOMEM;
    g->ep = ep;
    pthread_mutex_init(&g->lock, NULL);
    for (int i = 0; i < PW_GUARD_WINDOW; i++)
        g->copies[i].op = (struct pw_op){ .kind = PW_OP_FRAME, .ep = ep };
    __atomic_fetch_or(&ep->e->each_call, PW_EACH_GUARDS, __ATOMIC_RELAXED);
    /* Pairs with the acquire in pw_frame_send(). */
    __atomic_store_n(&ep->guard, g, __ATOMIC_RELEASE);
    return 0;
}

void pw_guard_close(struct pw_guard *g)
{
    if (!g)
        return;
    for (int i = 0; i < PW_GUARD_WINDOW; i++)
        free(g->copies[i].bytes);
    pthread_mutex_destroy(&g->lock);
    free(g);
}

/* Give the path what it has not been given. Under g->lock. */
static int guard_push(struct pw_guard *g)
{
    struct pw_path *path = __atomic_load_n(&g->ep->path, __ATOMIC_ACQUIRE);
    int n = 0;

    while (path && g->sent != g->next) {
        struct guard_copy *c = copy_at(g, g->sent);
        struct pw_iov iov = { c->bytes, c->len };
        int err;

        if (c->in_nic)
            break;
        err = path->nic->ops->send(path->peer, c->imm, &iov, 1, &c->op);
        if (err < 0)
            break;
        c->in_nic = err == PW_NIC_PENDING;
        if (g->sent == g->acked)
            g->heard_ns = pw_now_ns();
        g->sent++;
        n++;
    }
    return n;
}

static int copy_make(struct guard_copy *c, const struct pw_iov *iov, int n, size_t len)
{
    char *p = malloc(len ? len : 1);

    if (!p)
        return -ENOMEM;
    c->bytes = p;
    c->len = len;
    for (int i = 0; i < n; i++)
        if (iov[i].len) {
            memcpy(p, iov[i].base, iov[i].len);
            p += iov[i].len;
        }
    return 0;
}

int pw_guard_send(struct pw_guard *g, unsigned kind, uint8_t tag,
                  const struct pw_iov *iov, int n)
{
    struct guard_copy *c;
    size_t len = 0;
    int err = 0;

    if (!pw_endpoint_alive(g->ep))
        return -EPIPE;
    for (int i = 0; i < n; i++)
        len += iov[i].len;
    if (len > g->ep->frame_max)      /* no path would ever take it */
        return -EMSGSIZE;
    pthread_mutex_lock(&g->lock);
    c = copy_at(g, g->next);
    if ((uint16_t)(g->next - g->acked) >= PW_GUARD_WINDOW)
        err = -EAGAIN;
    if (!err)
        err = copy_make(c, iov, n, len);
    if (!err) {
        c->imm = pw_imm(kind | PW_F_NUMBERED, tag, g->next);
        g->next++;
        guard_push(g);
    }
    pthread_mutex_unlock(&g->lock);
    return err;
}

bool pw_guard_accept(struct pw_guard *g, uint32_t imm)
{
    bool fresh;

    pthread_mutex_lock(&g->lock);
    fresh = (uint16_t)imm == g->expected;
    if (fresh)
        g->expected++;
    g->owed++;
    pthread_mutex_unlock(&g->lock);
    return fresh;
}

/* Forget copies up to `seq` that no NIC holds. Under g->lock. */
static void guard_forget(struct pw_guard *g, uint16_t seq)
{
    while (g->acked != seq) {
        struct guard_copy *c = copy_at(g, g->acked);
        if (c->in_nic)
            break;
        free(c->bytes);
        c->bytes = NULL;
        if (g->sent == g->acked)
            g->sent++;
        g->acked++;
        g->heard_ns = pw_now_ns();
    }
}

void pw_guard_acked(struct pw_guard *g, const void *data, size_t len)
{
    uint16_t seq;

    if (len != sizeof(seq))
        return;
    memcpy(&seq, data, sizeof(seq));
    pthread_mutex_lock(&g->lock);
    /* Old or invented acknowledgements are outside of what is kept. */
    if ((uint16_t)(seq - g->acked) <= (uint16_t)(g->next - g->acked))
        guard_forget(g, seq);
    pthread_mutex_unlock(&g->lock);
}

void pw_guard_sent(struct pw_guard *g, void *op)
{
    pthread_mutex_lock(&g->lock);
    ((struct guard_copy *)op)->in_nic = false;
    pthread_mutex_unlock(&g->lock);
}

void pw_guard_replay(struct pw_guard *g)
{
    pthread_mutex_lock(&g->lock);
    g->sent = g->acked;
    guard_push(g);
    pthread_mutex_unlock(&g->lock);
}

static bool guard_acknowledge(struct pw_guard *g)
{
    struct pw_path *path = __atomic_load_n(&g->ep->path, __ATOMIC_ACQUIRE);
    uint16_t seq = g->expected;

    if (!path || path->nic->ops->send_inline(path->peer, pw_imm(PW_F_ACK, 0, 0), &seq,
                                             sizeof(seq)))
        return false;
    g->owed = 0;
    return true;
}

int pw_guard_step(struct pw_guard *g)
{
    int n = 0;

    pthread_mutex_lock(&g->lock);
    if (g->sent != g->acked && pw_now_ns() - g->heard_ns > PW_GUARD_OVERDUE_NS) {
        g->sent = g->acked;
        g->heard_ns = pw_now_ns();
    }
    n += guard_push(g);
    if (g->owed)
        n += guard_acknowledge(g);
    pthread_mutex_unlock(&g->lock);
    return n;
}

bool pw_guard_quiet(const struct pw_guard *g)
{
    return g->acked == g->next;
}
