/* SPDX-License-Identifier: BSD-3-Clause */
/* stripe.c - a put or get cut into pieces that go by several paths at once.
 *
 * Start at pw_stripe(). Pieces are cut as paths have room for them (share.c): whoever is
 * done takes the next one. A piece of a get whose path fails is taken back and given to
 * another, for to copy it again does no harm as long as the whole is not done; one of a put
 * goes by frames, and so do all where no path that is up reaches the memory.
 *
 *     the transfer   handed out  |  left
 *                    pieces: under way, done, or back
 *
 * Always true: a stripe is in ep->stripes while something of it is left or back. Its
 * callback comes once, when nothing is, nor under way: so who is told of a put's end may
 * send a frame by any path. All of it is under e->lock, which is not held across a NIC's
 * operation or the callback.
 */
#include <stdlib.h>

#include "path.h"
#include "pinwheel/clock.h"
#include "stripe.h"

/* Pieces of a stripe that are under way or back; and stripes that wait, at most. */
enum { PIECES = PW_PATHS * PW_SHARE_PIECES, WAITING = 64 };

struct piece {
    struct pw_stripe *s;
    struct pw_path *path;       /* NULL: by frames */
    size_t at, len;
};

struct range {
    size_t at, len;
};

struct pw_stripe {
    struct pw_whole whole;
    struct pw_stripe *next;     /* in ep->stripes */
    bool listed;
    struct pw_endpoint *ep;
    enum pw_op_kind kind;
    char *local;
    uint64_t remote;
    size_t len, handed;
    struct pw_key key;
    struct pw_region *own;      /* of the cache, pinned until it ends; NULL: none */
    unsigned paths;             /* that reach the memory; bits, by their places */
    struct range back[PIECES];
    unsigned n_back, out;       /* out: pieces under way */
    int status;
    pw_done_fn done;
    void *arg;
};

static int place_of(const struct pw_path *path)
{
    return (int)(path - path->ep->paths);
}

static int n_paths_of(const struct pw_endpoint *ep)
{
    /* Pairs with the release in path_add(). */
    return __atomic_load_n(&ep->n_paths, __ATOMIC_ACQUIRE);
}

static bool lane_open(const struct pw_path *path)
{
    return pw_path_is_up(path) && !__atomic_load_n(&path->broken, __ATOMIC_RELAXED);
}

void pw_stripe_time(struct pw_path *path, size_t len, enum pw_time what)
{
    struct pw_engine *e = path->ep->e;
    uint64_t now = pw_now_ns();

    pw_lock(e);
    if (what == PW_TIME_BEGIN)
        pw_share_begin(&path->share, len, now);
    else if (what == PW_TIME_END)
        pw_share_end(&path->share, len, now);
    else
        pw_share_drop(&path->share, len);
    pw_unlock(e);
}

/* ---- the list; all under e->lock ---- */

static void list_count(struct pw_endpoint *ep)
{
    bool any = ep->stripes != NULL;

    if (ep->striping != any)
        __atomic_fetch_add(&ep->e->n_busy, any ? 1 : -1u, __ATOMIC_RELAXED);
    __atomic_store_n(&ep->striping, any, __ATOMIC_RELAXED);
}

static bool has_more(const struct pw_stripe *s)
{
    return !s->status && (s->handed < s->len || s->n_back);
}

/* Those that have something back go first. */
static void list_put(struct pw_stripe *s)
{
    struct pw_stripe **at = &s->ep->stripes;

    if (s->listed || !has_more(s))
        return;
    while (!s->n_back && *at)
        at = &(*at)->next;
    s->next = *at;
    *at = s;
    s->listed = true;
    list_count(s->ep);
}

static void list_drop(struct pw_stripe *s)
{
    struct pw_stripe **at = &s->ep->stripes;

    if (!s->listed || has_more(s))
        return;
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    s->listed = false;
    list_count(s->ep);
}

static uint64_t bytes_left(const struct pw_endpoint *ep, unsigned *n)
{
    uint64_t left = 0;

    *n = 0;
    for (const struct pw_stripe *s = ep->stripes; s; s = s->next) {
        left += s->len - s->handed;
        for (unsigned i = 0; i < s->n_back; i++)
            left += s->back[i].len;
        ++*n;
    }
    return left;
}

/* ---- ends ---- */

/* Is it over? Then who gets true calls stripe_end(). Under e->lock. */
static bool stripe_over(struct pw_stripe *s)
{
    list_drop(s);
    if (s->out || has_more(s))
        return false;
    pw_whole_drop(s->ep->e, &s->whole);
    return true;
}

static void stripe_free(struct pw_stripe *s)
{
    pw_own_put(s->ep->e, s->own);
    free(s);
}

static void stripe_end(struct pw_stripe *s)
{
    pw_done_fn done = s->done;
    void *arg = s->arg;
    int status = s->status;

    stripe_free(s);
    done(arg, status);
}

/* One that was under way is so no more: status 0, or why the whole fails. */
static void piece_ended(void *arg, int status)
{
    struct pw_stripe *s = arg;
    struct pw_engine *e = s->ep->e;
    bool over;

    pw_lock(e);
    s->out--;
    if (status && !s->status)
        s->status = status;
    over = stripe_over(s);
    pw_unlock(e);
    if (over)
        stripe_end(s);
}

/* It has to go another way. */
static void piece_back(const struct piece *p)
{
    struct pw_stripe *s = p->s;
    bool over;

    pw_lock(s->ep->e);
    s->out--;
    s->back[s->n_back++] = (struct range){ p->at, p->len };
    list_put(s);
    over = stripe_over(s);
    pw_unlock(s->ep->e);
    if (over)
        stripe_end(s);
}

/* ---- the next piece ---- */

/* The paths that may have a piece now; doubted ones only when there are no others. */
static int lanes_of(const struct pw_stripe *s, unsigned without, struct pw_path *paths[],
                    const struct pw_share *shares[], uint64_t rates[])
{
    uint64_t now = pw_now_ns();
    int n_paths = n_paths_of(s->ep), n = 0;
    bool sure = false;

    for (int i = 0; i < n_paths; i++)
        sure |= s->paths >> i & 1 && lane_open(&s->ep->paths[i]) &&
                !pw_path_doubted(&s->ep->paths[i]);

    for (int i = 0; i < n_paths; i++) {
        struct pw_path *p = &s->ep->paths[i];

        if (!((s->paths & ~without) >> i & 1) || !lane_open(p) ||
            (sure && pw_path_doubted(p)))
            continue;
        paths[n] = p;
        shares[n] = &p->share;
        rates[n++] = pw_share_rate(&p->share, p->nic->info.bytes_per_s, now);
    }
    return n;
}

/* Cut off so much of what is back, or of what is left. */
static void piece_cut(struct pw_stripe *s, size_t len, struct piece *out)
{
    struct range *r = s->n_back ? &s->back[s->n_back - 1] : NULL;
    size_t have = r ? r->len : s->len - s->handed;

    out->s = s;
    /* No crumbs. */
    out->len = have < len + PW_PIECE_LEAST ? have : len;
    out->at = r ? r->at : s->handed;
    s->out++;
    if (!r) {
        s->handed += out->len;
    } else if (out->len < have) {
        r->at += out->len;
        r->len -= out->len;
    } else {
        s->n_back--;
    }
    list_drop(s);
}

/* Does none of the paths that are up reach the memory any more? */
static bool frames_only(const struct pw_stripe *s)
{
    int n_paths = n_paths_of(s->ep);
    bool up = false;

    for (int i = 0; i < n_paths; i++) {
        const struct pw_path *p = &s->ep->paths[i];

        if (s->paths >> i & 1 && lane_open(p))
            return false;
        up |= pw_path_is_up(p);
    }
    return up;
}

/* without: the paths that had no room just now. */
static bool piece_take(struct pw_endpoint *ep, unsigned without, struct piece *out)
{
    const struct pw_share *shares[PW_PATHS];
    struct pw_path *paths[PW_PATHS];
    uint64_t rates[PW_PATHS];
    struct pw_stripe *s;
    bool taken = false;
    unsigned waiting;
    size_t len;
    int n, i;

    pw_lock(ep->e);
    s = ep->stripes;
    if (s && !ep->dead && s->out + s->n_back < PIECES) {
        n = lanes_of(s, without, paths, shares, rates);
        i = n ? pw_share_next(shares, rates, n, s->len, bytes_left(ep, &waiting), &len)
              : -1;
        if (i >= 0) {
            piece_cut(s, len, out);
            out->path = paths[i];
            pw_share_begin(&paths[i]->share, out->len, pw_now_ns());
            taken = true;
        } else if (!n && frames_only(s)) {
            piece_cut(s, s->len, out);
            out->path = NULL;
            taken = true;
        }
    }
    pw_unlock(ep->e);
    return taken;
}

/* ---- a piece on its way ---- */

/* What the NIC said to it: PENDING, 0, or why it goes another way. false: this path takes
 * nothing now. */
static bool piece_settle(const struct piece *p, int err)
{
    struct pw_engine *e = p->s->ep->e;

    if (err == PW_NIC_PENDING)
        return true;
    pw_stripe_time(p->path, p->len, PW_TIME_DROP);
    if (err == -EPIPE)
        __atomic_store_n(&p->path->broken, true, __ATOMIC_RELAXED);
    if (err == -EOPNOTSUPP) {
        pw_lock(e);
        p->s->paths &= ~(1u << place_of(p->path));
        pw_unlock(e);
    }
    if (err == -EAGAIN || err == -ENOMEM || err == -EPIPE || err == -EOPNOTSUPP) {
        piece_back(p);
        return false;
    }
    piece_ended(p->s, err);
    return true;
}

static bool piece_by_nic(const struct piece *p)
{
    struct pw_stripe *s = p->s;
    struct pw_path *path = p->path;
    struct pw_op *op, what = { .kind = s->kind, .by = PW_BY_NIC, .ep = s->ep,
                               .local = s->local + p->at, .remote = s->remote + p->at,
                               .len = p->len, .key = s->key.id, .done = piece_ended,
                               .arg = s, .path = path, .piece = true };
    struct pw_nic_key room;
    const struct pw_nic_key *key = pw_path_key(path, &s->key, &room);
    uint64_t id;
    int err = -EAGAIN;

    op = pw_op_new(s->ep->e, &what, &id);
    if (!op)
        return piece_settle(p, -ENOMEM);
    if (pw_path_enter(path)) {
        err = pw_path_carry(path, &what, key, s->own, op);
        pw_path_leave(path);
    }
    if (err != PW_NIC_PENDING && !pw_op_take(s->ep->e, op, id, NULL))
        return true;        /* whoever ended it has seen to the rest */
    return piece_settle(p, err);
}

static bool piece_by_frames(const struct piece *p)
{
    struct pw_stripe *s = p->s;
    int err = pw_transfer_by_frames(s->ep, s->kind, s->local + p->at, s->remote + p->at,
                                    p->len, &s->key, piece_ended, s);

    if (err == PW_NIC_PENDING)
        return true;
    if (err == -ENOMEM) {
        piece_back(p);
        return false;
    }
    piece_ended(s, err);
    return true;
}

/* Its path is. A put goes by frames then, which come behind the fence; no other NIC's bytes
 * would. */
static void piece_lost(const struct piece *p)
{
    struct pw_stripe *s = p->s;
    int err;

    if (s->kind == PW_OP_GET) {
        piece_back(p);
        return;
    }
    pw_path_fence(p->path);
    err = pw_transfer_by_frames(s->ep, s->kind, s->local + p->at, s->remote + p->at, p->len,
                                &s->key, piece_ended, s);
    if (err != PW_NIC_PENDING)
        piece_ended(s, err);
}

int pw_stripes_step(struct pw_endpoint *ep)
{
    unsigned without = 0;
    struct piece p;
    int n = 0;

    while (piece_take(ep, without, &p)) {
        if (p.path ? piece_by_nic(&p) : piece_by_frames(&p))
            n++;
        else if (p.path)
            without |= 1u << place_of(p.path);
        else
            break;
    }
    return n;
}

void pw_stripe_nic_done(struct pw_op *op, int status)
{
    struct pw_stripe *s = op->arg;
    struct pw_endpoint *ep = op->ep;
    struct pw_path *path = op->path;
    struct piece p = { .s = s, .path = path, .len = op->len };

    if (op->kind == PW_OP_FREE)
        return;     /* ended with its endpoint */
    p.at = (size_t)((char *)op->local - s->local);
    pw_stripe_time(path, p.len, status ? PW_TIME_DROP : PW_TIME_END);
    if (status == -ECONNRESET && pw_endpoint_alive(ep)) {
        __atomic_store_n(&path->broken, true, __ATOMIC_RELAXED);
        pw_count(&ep->e->stats.striped_again, 1);
        if (pw_op_take(ep->e, op, op->id, NULL))
            piece_lost(&p);
    } else {
        pw_transfer_end(op, status == -ECONNRESET ? -EPIPE : status);
    }
    pw_stripes_step(ep);
}

void pw_stripes_fail(struct pw_endpoint *ep, int status)
{
    struct pw_stripe *s;

    pw_lock(ep->e);
    while ((s = ep->stripes)) {
        bool over;

        s->status = status;
        over = stripe_over(s);
        pw_unlock(ep->e);
        if (over)
            stripe_end(s);
        pw_lock(ep->e);
    }
    pw_unlock(ep->e);
}

/* ---- asking for one ---- */

/* `first`, and all others that reach it too. */
static unsigned lanes_find(struct pw_endpoint *ep, const struct pw_path *first,
                           uint64_t remote, size_t len, const struct pw_key *key,
                           uint64_t rates[PW_PATHS], int *n, uint64_t *alone)
{
    int n_paths = n_paths_of(ep);
    uint64_t now = pw_now_ns();
    unsigned lanes = 0;

    *n = 0;
    for (int i = 0; i < n_paths; i++) {
        struct pw_path *p = &ep->paths[i];
        struct pw_nic_key room;
        bool reaches = p == first;

        if (!lane_open(p) || p->nic->info.flags & PW_NIC_PROMPT ||
            (p != first && pw_path_doubted(p)))
            continue;
        if (!reaches && pw_path_enter(p)) {
            reaches = p->nic->ops->reach(p->peer, remote, len,
                                         pw_path_key(p, key, &room)) == PW_REACH_DIRECT;
            pw_path_leave(p);
        }
        if (!reaches)
            continue;
        lanes |= 1u << i;
        pw_lock(ep->e);
        rates[*n] = pw_share_rate(&p->share, p->nic->info.bytes_per_s, now);
        pw_unlock(ep->e);
        if (p == first)
            *alone = rates[*n];
        ++*n;
    }
    return lanes;
}

/* Its first pieces. Counted as one more of them until we return, so that what is over by
 * then needs no callback. Where others wait there is no room now. */
static int stripe_begin(struct pw_stripe *s)
{
    struct pw_endpoint *ep = s->ep;
    unsigned waiting;
    bool over;
    int err;

    pw_lock(ep->e);
    bytes_left(ep, &waiting);
    err = ep->dead ? -EPIPE : waiting >= WAITING ? -EAGAIN : 0;
    s->out = 1;
    if (!err) {
        pw_whole_add(ep->e, &s->whole);
        list_put(s);
    }
    pw_unlock(ep->e);
    if (err) {
        stripe_free(s);
        return err;
    }
    pw_count(&ep->e->stats.striped, 1);
    if (!waiting)
        pw_stripes_step(ep);
    pw_lock(ep->e);
    s->out--;
    over = stripe_over(s);
    err = over ? s->status : PW_NIC_PENDING;
    pw_unlock(ep->e);
    if (over)
        stripe_free(s);
    return err;
}

int pw_stripe(struct pw_endpoint *ep, struct pw_path *first, enum pw_op_kind kind,
              void *local, uint64_t remote, size_t len, const struct pw_key *key,
              pw_done_fn done, void *arg)
{
    struct pw_engine *e = ep->e;
    uint64_t rates[PW_PATHS], alone = 1;
    struct pw_stripe *s;
    unsigned lanes;
    int n;

    if (!key || first->nic->info.flags & PW_NIC_PROMPT || n_paths_of(ep) < 2)
        return -EOPNOTSUPP;
    lanes = lanes_find(ep, first, remote, len, key, rates, &n, &alone);
    if (!pw_share_pays(rates, n, alone, first->nic->info.bytes_per_s, len, e->config.want))
        return -EOPNOTSUPP;
    s = calloc(1, sizeof(*s));
    if (!s)
        return -ENOMEM;
    *s = (struct pw_stripe){ .ep = ep, .kind = kind, .local = local, .remote = remote,
                             .len = len, .paths = lanes, .done = done, .arg = arg };
    memcpy(&s->key, key, pw_engine_key_size(e));
    for (int i = 0; i < n_paths_of(ep) && !s->own; i++)
        if (lanes >> i & 1)
            s->own = pw_pinning_own(e, ep->paths[i].nic, kind, local, len);
    return stripe_begin(s);
}
