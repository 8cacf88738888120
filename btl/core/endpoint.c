/* SPDX-License-Identifier: BSD-3-Clause */
/* endpoint.c - one peer: its paths, what waits for room, its death.
 *
 * Start at pw_endpoint_send(). Frames leave at once when the path has room and
 * nothing waits; what waits leaves in order from pw_endpoint_pump(), which
 * progress calls: first the queue (messages and control frames), then the
 * streams, one after the other.
 *
 * Always true: while anything is in the queue no message overtakes it; `waiting`
 * is set when queue or streams hold something.
 */
#include <stdlib.h>

#include "core.h"
#include "guard.h"
#include "idle.h"
#include "path.h"

/* A stream is at least so many pieces, where they are larger than usual. */
enum { PW_PIECES = 32, PW_PIECES_BEFORE_OTHERS = 4 };

/* Apart, so that it is part of pw_endpoint_send(), which each small message passes. */
static inline int frame_send(struct pw_endpoint *ep, unsigned kind, uint8_t tag,
                             const struct pw_iov *iov, int n)
{
    struct pw_path *path = __atomic_load_n(&ep->path, __ATOMIC_ACQUIRE);
    struct pw_guard *guard = __atomic_load_n(&ep->guard, __ATOMIC_ACQUIRE);

    if (__builtin_expect(guard != NULL, 0))
        return pw_guard_send(guard, kind, tag, iov, n);
    if (__builtin_expect(!path, 0))
        return pw_endpoint_alive(ep) ? -EAGAIN : -EPIPE;
    return path->nic->ops->send(path->peer, pw_imm(kind, tag, 0), iov, n, NULL);
}

int pw_frame_send(struct pw_endpoint *ep, unsigned kind, uint8_t tag,
                  const struct pw_iov *iov, int n)
{
    return frame_send(ep, kind, tag, iov, n);
}

int pw_endpoint_send(struct pw_endpoint *ep, uint8_t tag, const struct pw_iov *iov,
                     int n)
{
    int err;

    if (__builtin_expect(__atomic_load_n(&ep->waiting, __ATOMIC_RELAXED), 0) &&
        __atomic_load_n(&ep->queue, __ATOMIC_RELAXED))
        return -EAGAIN;
    err = frame_send(ep, PW_F_MESSAGE, tag, iov, n);
    if (__builtin_expect(!err, 1))
        pw_count(&ep->e->stats.messages, 1);
    else if (err == -EAGAIN)
        pw_idle_starved(ep->e);
    return err;
}

bool pw_endpoint_alive(const struct pw_endpoint *ep)
{
    return !__atomic_load_n(&ep->dead, __ATOMIC_ACQUIRE);
}

/* Under e->lock. */
static void endpoint_waits(struct pw_endpoint *ep)
{
    if (!ep->waiting) {
        __atomic_store_n(&ep->waiting, true, __ATOMIC_RELAXED);
        __atomic_store_n(&ep->e->n_waiting, ep->e->n_waiting + 1, __ATOMIC_RELAXED);
    }
}

static void endpoint_waits_not(struct pw_endpoint *ep)
{
    if (ep->waiting && !ep->queue && !ep->streams) {
        __atomic_store_n(&ep->waiting, false, __ATOMIC_RELAXED);
        __atomic_store_n(&ep->e->n_waiting, ep->e->n_waiting - 1, __ATOMIC_RELAXED);
    }
}

static bool endpoint_enqueue(struct pw_endpoint *ep, struct pw_message *m)
{
    bool dead;

    m->next = NULL;
    pw_lock(ep->e);
    dead = ep->dead;
    if (!dead) {
        __atomic_store_n(ep->queue_end, m, __ATOMIC_RELAXED);
        ep->queue_end = &m->next;
        endpoint_waits(ep);
    }
    pw_unlock(ep->e);
    return !dead;
}

void pw_endpoint_queue(struct pw_endpoint *ep, uint8_t tag, struct pw_message *m)
{
    m->imm = pw_imm(PW_F_MESSAGE, tag, 0);
    pw_count(&ep->e->stats.queued, 1);
    if (!endpoint_enqueue(ep, m))
        m->done(m, -EPIPE);
}

struct control {
    struct pw_message m;
    char bytes[];
};

static void control_done(struct pw_message *m, int status)
{
    (void)status;
    free(m);
}

int pw_control_send(struct pw_endpoint *ep, unsigned kind, const void *data, size_t len)
{
    struct pw_iov iov = { data, len };
    struct control *c;
    int err = -EAGAIN;

    if (!__atomic_load_n(&ep->queue, __ATOMIC_RELAXED))
        err = pw_frame_send(ep, kind, 0, &iov, 1);
    if (err != -EAGAIN)
        return err;
    c = malloc(sizeof(*c) + len);
    if (!c)
        return -ENOMEM;
    memcpy(c->bytes, data, len);
    c->m = (struct pw_message){ .imm = pw_imm(kind, 0, 0), .n = 1,
                                .iov[0] = { c->bytes, len }, .done = control_done };
    if (!endpoint_enqueue(ep, &c->m)) {
        free(c);
        return -EPIPE;
    }
    return 0;
}

bool pw_endpoint_stream(struct pw_endpoint *ep, struct pw_stream *s,
                        const struct pw_op *op)
{
    bool wanted;

    s->next = NULL;
    pw_lock(ep->e);
    wanted = !ep->dead && (!op || (op->id == s->id && op->kind != PW_OP_FREE));
    if (wanted) {
        __atomic_store_n(ep->streams_end, s, __ATOMIC_RELAXED);
        ep->streams_end = &s->next;
        endpoint_waits(ep);
    }
    pw_unlock(ep->e);
    return wanted;
}

/* GET_DATA goes by the peer's numbers, PUT_DATA by ours: they may be equal. */
static struct pw_stream *stream_take(struct pw_endpoint *ep, enum pw_kind kind,
                                     uint64_t id)
{
    struct pw_stream **at = &ep->streams, *s;

    while (*at && ((*at)->kind != kind || (*at)->id != id))
        at = &(*at)->next;
    s = *at;
    if (s) {
        *at = s->next;
        if (!s->next)
            ep->streams_end = at;
    }
    return s;
}

void pw_endpoint_unstream(struct pw_endpoint *ep, enum pw_kind kind, uint64_t id)
{
    struct pw_stream *s;

    pw_lock(ep->e);
    s = stream_take(ep, kind, id);
    endpoint_waits_not(ep);
    pw_unlock(ep->e);
    free(s);
}

/* While the first piece is written and the last one is read, one side waits, unless
 * another stream comes behind; and each piece costs something beside the copy. */
static size_t piece_of(const struct pw_engine_config *config, const struct pw_stream *s)
{
    size_t pieces = __atomic_load_n(&s->next, __ATOMIC_RELAXED) ? PW_PIECES_BEFORE_OTHERS
                                                               : PW_PIECES;
    size_t piece = config->chunk;

    while (piece * 2 <= config->chunk_most && piece * 2 * pieces <= s->len)
        piece *= 2;
    return piece;
}

/* One DATA frame of a stream: 1 sent, 0 sent and the stream is done, -EAGAIN. */
static int stream_step(struct pw_endpoint *ep, struct pw_stream *s)
{
    size_t room = ep->frame_max - sizeof(struct pw_f_data) -
                  (ep->guard ? sizeof(struct pw_guard_tail) : 0);
    size_t part = s->len - s->sent, piece = piece_of(&ep->e->config, s);
    struct pw_f_data head = { .id = s->id, .offset = s->sent };
    struct pw_iov iov[2];
    int err;

    if (room > piece)
        room = piece;
    if (part > room)
        part = room;
    iov[0] = (struct pw_iov){ &head, sizeof(head) };
    iov[1] = (struct pw_iov){ s->from + s->sent, part };
    err = pw_frame_send(ep, s->kind, 0, iov, 2);
    if (err)
        return err;
    s->sent += part;
    pw_count(&ep->e->stats.stream_bytes, part);
    return s->sent < s->len;
}

static struct pw_message *queue_first(struct pw_endpoint *ep)
{
    struct pw_message *m;

    pw_lock(ep->e);
    m = ep->queue;
    pw_unlock(ep->e);
    return m;
}

/* While nothing is in the queue, which goes first. */
static struct pw_stream *stream_first(struct pw_endpoint *ep)
{
    struct pw_stream *s;

    pw_lock(ep->e);
    s = ep->queue ? NULL : ep->streams;
    pw_unlock(ep->e);
    return s;
}

static int pump_queue(struct pw_endpoint *ep)
{
    struct pw_message *m;
    int n = 0, err;

    while ((m = queue_first(ep))) {
        err = pw_frame_send(ep, pw_imm_kind(m->imm), (uint8_t)(m->imm >> 16),
                            m->iov, m->n);
        if (err && err != -EMSGSIZE)    /* which would stay so */
            break;
        pw_lock(ep->e);
        __atomic_store_n(&ep->queue, m->next, __ATOMIC_RELAXED);
        if (!m->next)
            ep->queue_end = &ep->queue;
        pw_unlock(ep->e);
        m->done(m, err);
        n++;
    }
    return n;
}

static int pump_streams(struct pw_endpoint *ep)
{
    struct pw_stream *s;
    int n = 0;

    while ((s = stream_first(ep))) {
        int more = !s->key || pw_serve_allowed(ep, s) ? stream_step(ep, s) : 0;
        if (more < 0)
            break;
        n++;
        if (!more)
            pw_endpoint_unstream(ep, s->kind, s->id);
    }
    return n;
}

/* Under e->progress: nobody else takes from queue or streams. */
int pw_endpoint_pump(struct pw_endpoint *ep)
{
    int n = pump_queue(ep);

    n += pump_streams(ep);
    pw_lock(ep->e);
    endpoint_waits_not(ep);
    pw_unlock(ep->e);
    return n;
}

static void queue_drop(struct pw_endpoint *ep, int status)
{
    struct pw_message *m;
    struct pw_stream *s;

    pw_lock(ep->e);
    m = ep->queue;
    s = ep->streams;
    __atomic_store_n(&ep->queue, NULL, __ATOMIC_RELAXED);
    ep->queue_end = &ep->queue;
    ep->streams = NULL;
    ep->streams_end = &ep->streams;
    endpoint_waits_not(ep);
    pw_unlock(ep->e);
    while (m) {
        struct pw_message *next = m->next;
        m->done(m, status);
        m = next;
    }
    while (s) {
        struct pw_stream *next = s->next;
        free(s);
        s = next;
    }
}

/* The last path is gone: nothing more is sent, what is pending fails. Why is told first, for
 * ob1 ends the job without a word when a get of its own fails. */
void pw_endpoint_kill(struct pw_endpoint *ep, int cause, const char *why)
{
    struct pw_engine *e = ep->e;

    pw_lock(e);
    __atomic_store_n(&ep->dead, true, __ATOMIC_RELEASE);
    pw_unlock(e);
    if (!__atomic_load_n(&ep->closing, __ATOMIC_RELAXED))
        e->config.up->dead(e->config.ctx, ep->cookie, cause, why);
    queue_drop(ep, -EPIPE);
    pw_transfer_fail_all(ep, -EPIPE);
    pw_serve_forget(ep);
}

void pw_endpoint_free(struct pw_endpoint *ep)
{
    queue_drop(ep, -ECANCELED);
    pw_transfer_fail_all(ep, -ECANCELED);
    pw_serve_forget(ep);
    pw_paths_close(ep);
    pw_guard_close(ep->guard);
    free(ep->addr);
    free(ep);
}
