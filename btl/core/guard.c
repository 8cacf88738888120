/* SPDX-License-Identifier: BSD-3-Clause */
/* guard.c - frames that survive the path they were sent on.
 *
 * Start at pw_guard_send() and pw_guard_accept(). Numbers are 32 bits and wrap; the
 * window is far smaller than half of that, so "before" is unambiguous, also for what
 * an old connection still brings after long.
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
 * Copies lie in a ring of bytes, each in one piece. When none is kept it begins anew:
 * an exchange of short messages stays in the cache.
 *
 * Each numbered frame says in its tail what its sender expects next. Acknowledgements of
 * their own are for a receiver that sends nothing: after so many frames or bytes, and
 * from progress now and then.
 *
 * g->lock serialises senders; it is held across the NIC's send, which makes no
 * upcalls.
 */
#include <stdlib.h>

#include "guard.h"
#include "path.h"
#include "pinwheel/clock.h"
#include "pinwheel/copy.h"

/* Without an acknowledgement for this long, send again where frames may be lost. */
enum { PW_GUARD_OVERDUE_NS = 10 * 1000 * 1000 };

/* Bytes of copies: more than any link of today has under way between two progress calls. */
enum { PW_GUARD_BYTES = 1 << 20 };

/* Acknowledged at once when so much is owed. */
enum { PW_GUARD_OWED = 64, PW_GUARD_OWED_BYTES = PW_GUARD_BYTES / 8 };

/* So many unacknowledged frames are a stream: their sender is ahead of their reader. */
enum { STREAM = 4 };

struct guard_copy {
    struct pw_guard *g;
    uint32_t imm;
    uint32_t at, len;       /* in the ring, behind PW_NIC_ROOM bytes of the NIC's */
    bool in_nic;            /* the NIC still reads it */
    bool kept;              /* it was told that the copy stays */
};

struct pw_guard {
    struct pw_endpoint *ep;
    pthread_mutex_t lock;
    uint32_t acked, sent, next;
    uint32_t told;          /* by the peer: all before it has come */
    uint64_t heard_ns;      /* when acked moved last, or sending began */
    uint32_t expected;      /* from the peer */
    uint32_t owed;          /* frames taken and not acknowledged */
    size_t owed_bytes;
    bool busy;              /* counted in e->n_busy: see guard_mind() */
    bool owing;             /* counted in e->n_owing */
    struct pw_guard *next_left;     /* see ring_leave() */
    struct pw_pace pace;            /* of copies that another core reads */
    char *ring;
    size_t size, at;        /* where the next copy goes */
    struct guard_copy copies[PW_GUARD_WINDOW];
};

static void guard_lock(struct pw_guard *g)
{
    if (g->ep->e->config.threads)
        pthread_mutex_lock(&g->lock);
}

static void guard_unlock(struct pw_guard *g)
{
    if (g->ep->e->config.threads)
        pthread_mutex_unlock(&g->lock);
}

static struct guard_copy *copy_at(struct pw_guard *g, uint32_t seq)
{
    return &g->copies[seq % PW_GUARD_WINDOW];
}

int pw_guard_open(struct pw_endpoint *ep)
{
    struct pw_guard *g = calloc(1, sizeof(*g));

    if (!g)
        return -ENOMEM;
    g->ep = ep;
    g->size = PW_GUARD_BYTES;
    while (g->size < 4 * ep->frame_max)
        g->size *= 2;
    g->ring = malloc(g->size);
    if (!g->ring) {
        free(g);
        return -ENOMEM;
    }
    pthread_mutex_init(&g->lock, NULL);
    /* Pairs with the acquire in pw_frame_send(). */
    __atomic_store_n(&ep->guard, g, __ATOMIC_RELEASE);
    return 0;
}

static void count_if(unsigned *count, bool *flag, bool now)
{
    if (*flag != now)
        __atomic_fetch_add(count, now ? 1 : -1u, __ATOMIC_RELAXED);
    *flag = now;
}

static bool kept_by_any(struct pw_guard *g)
{
    for (uint32_t seq = g->acked; seq != g->next; seq++)
        if (copy_at(g, seq)->kept)
            return true;
    return false;
}

/* A socket may still refer to copies, and a peer that lives read what comes to lie there. */
static void ring_leave(struct pw_guard *g)
{
    static struct pw_guard *left;

    g->ep = NULL;
    g->next_left = __atomic_load_n(&left, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(&left, &g->next_left, g, true, __ATOMIC_RELEASE,
                                        __ATOMIC_RELAXED))
        ;
}

void pw_guard_close(struct pw_guard *g)
{
    if (!g)
        return;
    count_if(&g->ep->e->n_busy, &g->busy, false);
    count_if(&g->ep->e->n_owing, &g->owing, false);
    pthread_mutex_destroy(&g->lock);
    if (kept_by_any(g)) {
        ring_leave(g);
    } else {
        free(g->ring);
        free(g);
    }
}

static bool loses(const struct pw_path *path)
{
    return !(path->nic->info.flags & (PW_NIC_LOSSLESS | PW_NIC_ANSWERS));
}

/* Is progress to look at it in each call? When something is to be sent, or may have to be
 * sent again. Under g->lock. */
static void guard_mind(struct pw_guard *g)
{
    struct pw_path *path = pw_path_current(g->ep);

    count_if(&g->ep->e->n_busy, &g->busy,
             path && pw_endpoint_alive(g->ep) &&
                 (g->sent != g->next || (g->acked != g->next && loses(path))));
}

static void guard_owes(struct pw_guard *g, uint32_t frames, size_t bytes)
{
    g->owed = frames;
    g->owed_bytes = bytes;
    count_if(&g->ep->e->n_owing, &g->owing, frames != 0);
}

/* ---- copies ---- */

/* Room for len bytes in one piece; NULL: there is none now. Under g->lock. */
static char *ring_room(struct pw_guard *g, size_t len)
{
    size_t oldest = copy_at(g, g->acked)->at - PW_NIC_ROOM, at = g->at, end = g->size;

    if (g->acked == g->next) {
        at = 0;
    } else if (at <= oldest) {
        end = oldest;
    } else if (at + len > end) {
        at = 0;
        end = oldest;
    }
    if (at + len > end)
        return NULL;
    g->at = at;
    return g->ring + at;
}

/* Is the memory of such a copy what its path sends from? */
static bool keeps(const struct pw_path *path, size_t len)
{
    return path->nic->ops->send_kept && len >= path->nic->info.kept_least;
}

/* Of a stream's copies the peer's core may have read the last ones where they lie, and to
 * write there is to fetch its lines, or to go past the caches. */
static char *copy_bytes(struct pw_guard *g, char *to, const struct pw_iov *iov, bool stream)
{
    if (stream && iov->len >= PW_PACE_MIN)
        pw_copy_paced(&g->pace, to, iov->base, iov->len);
    else if (iov->len)
        memcpy(to, iov->base, iov->len);
    return to + iov->len;
}

/* Under g->lock. false: no room. */
static bool copy_make(struct pw_guard *g, uint32_t imm, const struct pw_iov *iov, int n,
                      size_t len)
{
    size_t whole = len + sizeof(struct pw_guard_tail);
    char *p = ring_room(g, PW_NIC_ROOM + whole);
    struct guard_copy *c = copy_at(g, g->next);
    struct pw_path *path = pw_path_current(g->ep);
    bool stream = path && keeps(path, whole) && g->next - g->acked >= STREAM;

    if (!p)
        return false;
    if (path)
        __atomic_fetch_add(&path->nic->counts.wire_copied, len, __ATOMIC_RELAXED);
    p += PW_NIC_ROOM;
    *c = (struct guard_copy){ .g = g, .imm = imm, .at = (uint32_t)(g->at + PW_NIC_ROOM),
                              .len = (uint32_t)whole };
    for (int i = 0; i < n; i++)
        p = copy_bytes(g, p, &iov[i], stream);
    g->at += PW_NIC_ROOM + whole;
    return true;
}

/* A cookie that no operation has. */
static void *copy_cookie(struct guard_copy *c)
{
    return (char *)c + 1;
}

bool pw_guard_owns(const void *op)
{
    return (uintptr_t)op & 1;
}

/* Forget copies up to what the peer has told, but for those that a NIC holds. Under
 * g->lock. */
static void guard_forget(struct pw_guard *g)
{
    while (g->acked != g->told && !copy_at(g, g->acked)->in_nic) {
        if (g->sent == g->acked)
            g->sent++;
        g->acked++;
        if (loses(&g->ep->paths[0]))
            g->heard_ns = pw_now_ns();
    }
}

/* Old or invented ones are outside of what is kept. Under g->lock. */
static void guard_hear(struct pw_guard *g, uint32_t ack)
{
    if (ack - g->acked > g->next - g->acked || ack - g->acked <= g->told - g->acked)
        return;
    g->told = ack;
    guard_forget(g);
}

/* ---- out ---- */

/* A copy stays until the peer says that it has it. What a NIC wrote before it may be on its
 * way by a path that is doubted: another one, or another time, has no use of that room. */
static int copy_send(struct pw_guard *g, struct guard_copy *c, struct pw_path *path)
{
    const struct pw_nic_ops *ops = path->nic->ops;
    struct pw_iov iov = { g->ring + c->at, c->len };
    int err;

    if (!keeps(path, c->len))
        return ops->send(path->peer, c->imm, &iov, 1, copy_cookie(c));
    err = ops->send_kept(path->peer, c->imm, &iov, 1, c->kept ? 0 : PW_NIC_ROOM,
                         g->sent - g->acked, copy_cookie(c));
    if (err >= 0)
        c->kept = true;
    return err;
}

/* Give the path what it has not been given. Under g->lock. */
static int guard_push(struct pw_guard *g)
{
    struct pw_path *path = pw_path_current(g->ep);
    int n = 0;

    while (path && g->sent != g->next) {
        struct guard_copy *c = copy_at(g, g->sent);
        struct pw_guard_tail tail = { .seq = g->sent, .ack = g->expected };
        int err;

        if (c->in_nic)
            break;
        memcpy(g->ring + c->at + c->len - sizeof(tail), &tail, sizeof(tail));
        err = copy_send(g, c, path);
        if (err < 0)
            break;
        c->in_nic = err == PW_NIC_PENDING;
        if (g->sent == g->acked && loses(path))
            g->heard_ns = pw_now_ns();
        g->sent++;
        guard_owes(g, 0, 0);
        n++;
    }
    guard_mind(g);
    return n;
}

int pw_guard_send(struct pw_guard *g, unsigned kind, uint8_t tag,
                  const struct pw_iov *iov, int n)
{
    size_t len = 0;
    int err = 0;

    if (!pw_endpoint_alive(g->ep))
        return -EPIPE;
    for (int i = 0; i < n; i++)
        len += iov[i].len;
    /* No path would ever take it. */
    if (len > g->ep->frame_max - sizeof(struct pw_guard_tail))
        return -EMSGSIZE;
    guard_lock(g);
    if (g->next - g->acked >= PW_GUARD_WINDOW ||
        !copy_make(g, pw_imm(kind | PW_F_NUMBERED, tag, (uint16_t)g->next), iov, n, len)) {
        err = -EAGAIN;
    } else {
        g->next++;
        guard_push(g);
    }
    guard_unlock(g);
    return err;
}

/* Under g->lock. */
static bool guard_acknowledge(struct pw_guard *g)
{
    struct pw_path *path = pw_path_current(g->ep);

    if (!path || path->nic->ops->send_inline(path->peer, pw_imm(PW_F_ACK, 0, 0),
                                             &g->expected, sizeof(g->expected)))
        return false;
    guard_owes(g, 0, 0);
    return true;
}

/* ---- in ---- */

bool pw_guard_accept(struct pw_guard *g, uint32_t imm, const void *data, size_t len)
{
    struct pw_guard_tail tail;
    bool fresh, known;

    if (len < sizeof(tail))
        return false;
    memcpy(&tail, (const char *)data + len - sizeof(tail), sizeof(tail));
    guard_lock(g);
    /* Of one that has come before, by another path, its sender may have used the memory
     * again meanwhile: what is in it then is nobody's word. */
    known = (uint16_t)imm == (uint16_t)tail.seq;
    fresh = known && tail.seq == g->expected;
    if (fresh)
        g->expected++;
    if (known)
        guard_hear(g, tail.ack);
    guard_mind(g);
    guard_owes(g, g->owed + 1, g->owed_bytes + len);
    if (g->owed >= PW_GUARD_OWED || g->owed_bytes >= PW_GUARD_OWED_BYTES)
        guard_acknowledge(g);
    guard_unlock(g);
    return fresh;
}

void pw_guard_acked(struct pw_guard *g, const void *data, size_t len)
{
    uint32_t seq;

    if (len != sizeof(seq))
        return;
    memcpy(&seq, data, sizeof(seq));
    guard_lock(g);
    guard_hear(g, seq);
    guard_mind(g);
    guard_unlock(g);
}

void pw_guard_sent(void *op)
{
    struct guard_copy *c = (struct guard_copy *)((char *)op - 1);
    struct pw_guard *g = c->g;

    guard_lock(g);
    c->in_nic = false;
    guard_forget(g);
    guard_mind(g);
    guard_unlock(g);
}

/* ---- from progress ---- */

/* What was acknowledged by the path that failed may not have come. */
void pw_guard_replay(struct pw_guard *g)
{
    guard_lock(g);
    g->sent = g->acked;
    guard_push(g);
    if (g->expected)
        guard_owes(g, g->owed + 1, g->owed_bytes);
    guard_unlock(g);
}

int pw_guard_step(struct pw_guard *g)
{
    struct pw_path *path = pw_path_current(g->ep);
    int n;

    guard_lock(g);
    if (g->sent != g->acked && path && loses(path) &&
        pw_now_ns() - g->heard_ns > PW_GUARD_OVERDUE_NS) {
        g->sent = g->acked;
        g->heard_ns = pw_now_ns();
    }
    n = guard_push(g);
    guard_unlock(g);
    return n;
}

int pw_guard_settle(struct pw_guard *g)
{
    int n = 0;

    guard_lock(g);
    if (g->owed)
        n = guard_acknowledge(g);
    guard_unlock(g);
    return n;
}

bool pw_guard_quiet(const struct pw_guard *g)
{
    return g->acked == g->next;
}
