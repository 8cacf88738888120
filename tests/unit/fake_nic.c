/* SPDX-License-Identifier: BSD-3-Clause */
/* fake_nic.c - the NIC that lives in one process: who is there, and what comes in.
 *
 * Start at peer_pair() for how connections find each other and at fake_progress()
 * for what comes in. fake_world.h says what always holds.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fake_world.h"

enum { BUDGET = 64 };       /* frames of one peer in one progress */

#define FAKE_VERSION 1u
#define QUEUE_DEFAULT ((size_t)256 << 10)
#define QUEUE_MAX ((size_t)1 << 30)

static const char address_magic[8] = "pw-fake";

struct address {
    char magic[8];
    uint32_t version, kind, network, pad;
    uint64_t number;
};

_Static_assert(sizeof(struct address) <= PW_NIC_ADDRESS_MAX, "an address fits");

struct fake_world fake_world = {
    .lock = PTHREAD_MUTEX_INITIALIZER, .once = PTHREAD_ONCE_INIT,
};

const struct fake_nic_traits fake_default_traits = {
    .flags = PW_NIC_LOSSLESS | PW_NIC_SAME_HOST | PW_NIC_PUT | PW_NIC_ATOMIC,
    .frame_max = 16384,
    .inline_max = 256,
    .latency_ns = 500,
    .bytes_per_s = 1000000000,
    .pool_reach = PW_REACH_DIRECT,
    .other_reach = PW_REACH_DIRECT,
};

static void world_init(void)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&fake_world.changed, &attr);
    pthread_condattr_destroy(&attr);
    for (int i = 0; i < FAKE_KINDS; i++)
        fake_world.traits[i] = fake_default_traits;
}

void fake_world_make(void)
{
    pthread_once(&fake_world.once, world_init);
}

void fake_lock(void)
{
    fake_world_make();
    pthread_mutex_lock(&fake_world.lock);
}

void fake_unlock(void)
{
    pthread_mutex_unlock(&fake_world.lock);
}

struct fake_nic *fake_nic_find(uint64_t number)
{
    struct fake_nic *nic = fake_world.nics;

    while (nic && (nic->number != number || nic->life != FAKE_LIVES))
        nic = nic->next;
    return nic;
}

struct fake_cut **fake_cut_find(uint64_t a, uint64_t b)
{
    struct fake_cut **at = &fake_world.cuts;

    while (*at && !((*at)->a == a && (*at)->b == b) &&
           !((*at)->a == b && (*at)->b == a))
        at = &(*at)->next;
    return at;
}

int fake_planned(struct fake_nic *nic, enum fake_op op)
{
    struct fake_plan *plan = &nic->plans[op];

    nic->calls[op]++;
    if (!plan->err)
        return 0;
    if (plan->nth > 1) {
        plan->nth--;
        return 0;
    }
    int err = plan->err;
    if (plan->count && --plan->count == 0)
        plan->err = 0;
    return err;
}

/* ---- opening and closing ---- */

static int probe_as(unsigned kind, struct pw_nic_info *info, char why[PW_NIC_WHY_MAX])
{
    fake_lock();
    struct fake_nic_traits t = fake_world.traits[kind];
    fake_unlock();

    if (t.probe_error) {
        snprintf(why, PW_NIC_WHY_MAX, "the test wants no fake NIC (%s)",
                 strerror(-t.probe_error));
        return t.probe_error;
    }
    memset(info, 0, sizeof *info);
    info->flags = t.flags;
    info->frame_max = t.frame_max;
    info->inline_max = t.inline_max;
    info->latency_ns = t.latency_ns;
    info->bytes_per_s = t.bytes_per_s;
    info->key_room = t.key_room;
    snprintf(info->what, sizeof info->what, "queues in memory, network %u", t.network);
    return 0;
}

static int fake_probe(struct pw_nic_info *info, char why[PW_NIC_WHY_MAX])
{
    return probe_as(0, info, why);
}

static int fake2_probe(struct pw_nic_info *info, char why[PW_NIC_WHY_MAX])
{
    return probe_as(1, info, why);
}

static int open_as(unsigned kind, const struct pw_nic_config *config,
                   struct pw_nic **out)
{
    char why[PW_NIC_WHY_MAX];
    struct fake_nic *nic;
    int err;

    *out = NULL;
    if (!config->pool || !config->up || config->queue_bytes > QUEUE_MAX)
        return -EINVAL;
    nic = calloc(1, sizeof *nic);
    if (!nic)
        return -ENOMEM;
    err = probe_as(kind, &nic->base.info, why);
    if (err) {
        free(nic);
        return err;
    }
    nic->base.ops = kind ? &fake_nic_ops2 : &fake_nic_ops;
    nic->kind = kind;
    nic->config = *config;
    if (!nic->config.queue_bytes)
        nic->config.queue_bytes = QUEUE_DEFAULT;

    fake_lock();
    nic->traits = fake_world.traits[kind];
    nic->number = ++fake_world.numbers;
    nic->next = fake_world.nics;
    fake_world.nics = nic;
    if (breaks(nic, FAKE_BREAK_LEAK) && dup(2) < 0)
        nic->traits.breaks &= ~(uint32_t)FAKE_BREAK_LEAK;
    fake_unlock();
    *out = &nic->base;
    return 0;
}

static int fake_open(const struct pw_nic_config *config, struct pw_nic **out)
{
    return open_as(0, config, out);
}

static int fake2_open(const struct pw_nic_config *config, struct pw_nic **out)
{
    return open_as(1, config, out);
}

static void work_drop_all(struct fake_peer *p)
{
    while (p->work) {
        struct fake_work *w = p->work;

        p->work = w->next;
        free(w);
    }
    p->work_tail = NULL;
    p->n_work = 0;
}

void fake_unread_remove(struct fake_stream *s)
{
    struct fake_stream **at = &fake_world.unread;

    while (*at && *at != s)
        at = &(*at)->next;
    if (*at) {
        *at = s->next;
        fake_stream_unref(s);
    }
}

/* Nobody will read or write this connection's streams any more. */
static void peer_leave(struct fake_nic *nic, struct fake_peer *p, int cause)
{
    if (breaks(nic, FAKE_BREAK_CLOSE_LOSES))
        fake_stream_lose_all(p->tx);
    if (!breaks(nic, FAKE_BREAK_NO_DOWN)) {
        fake_stream_end(p->tx, cause);
        if (p->rx)
            fake_stream_abandon(p->rx, cause);
    }
    p->tx->writer = NULL;
}

static void peer_free(struct fake_peer *p)
{
    work_drop_all(p);
    fake_stream_unref(p->tx);
    if (p->rx)
        fake_stream_unref(p->rx);
    free(p);
}

/* No one can connect to this NIC now: forget who waits for it. Of its own streams those
 * that hold something can still be read. */
void fake_nic_leave(struct fake_nic *nic, int cause)
{
    struct fake_stream *s = fake_world.unread, *next;

    for (; s; s = next) {
        next = s->next;
        if (s->to == nic->number && !breaks(nic, FAKE_BREAK_NO_DOWN))
            fake_stream_abandon(s, cause);
        if (s->to == nic->number)
            fake_unread_remove(s);
    }
    for (struct fake_peer *p = nic->peers; p; p = p->next) {
        peer_leave(nic, p, cause);
        if (!p->tx->head)
            fake_unread_remove(p->tx);
    }
    pthread_cond_broadcast(&fake_world.changed);
}

static void fake_close(struct pw_nic *base)
{
    struct fake_nic *nic = nic_of(base), **at = &fake_world.nics;

    fake_lock();
    if (nic->life == FAKE_LIVES)
        fake_nic_leave(nic, 0);
    while (*at != nic)
        at = &(*at)->next;
    *at = nic->next;
    while (nic->peers) {
        struct fake_peer *p = nic->peers;

        nic->peers = p->next;
        peer_free(p);
    }
    while (nic->pins) {
        struct fake_pin *pin = nic->pins;

        nic->pins = pin->next;
        free(pin);
    }
    while (nic->late) {
        struct fake_work *w = nic->late;

        nic->late = w->next;
        free(w);
    }
    fake_unlock();
    free(nic);
}

/* ---- who is there ---- */

static size_t fake_address(struct pw_nic *base, void *out)
{
    struct fake_nic *nic = nic_of(base);
    struct address a = {
        .version = FAKE_VERSION,
        .kind = nic->kind,
        .network = nic->traits.network,
        .number = nic->number,
    };

    memcpy(a.magic, address_magic, sizeof a.magic);
    memcpy(out, &a, sizeof a);
    return sizeof a;
}

static int address_check(struct fake_nic *nic, const void *addr, size_t len,
                         struct address *a)
{
    if (breaks(nic, FAKE_BREAK_ANY_ADDRESS)) {
        memset(a, 0, sizeof *a);
        memcpy(a, addr, len < sizeof *a ? len : sizeof *a);
        return 0;
    }
    if (len != sizeof *a)
        return -EINVAL;
    memcpy(a, addr, sizeof *a);
    if (memcmp(a->magic, address_magic, sizeof a->magic) ||
        a->version != FAKE_VERSION || a->pad || a->kind != nic->kind)
        return -EINVAL;
    return a->network == nic->traits.network ? 0 : -EHOSTUNREACH;
}

static int fake_reachable(struct pw_nic *base, const void *addr, size_t len)
{
    struct address a;

    return address_check(nic_of(base), addr, len, &a) ? PW_FIT_NONE : PW_FIT_LINK;
}

/* The oldest stream from there to here that nobody reads yet. */
static struct fake_stream *unread_find(const struct fake_nic *nic, uint64_t from)
{
    struct fake_stream *s = fake_world.unread;

    while (s && (s->from != from || s->to != nic->number))
        s = s->next;
    return s;
}

static void peer_pair(struct fake_nic *nic, struct fake_peer *p)
{
    struct fake_stream *s = unread_find(nic, p->to);
    struct fake_peer *other;

    if (!s) {
        struct fake_stream **last = &fake_world.unread;

        while (*last)
            last = &(*last)->next;
        *last = p->tx;
        p->tx->next = NULL;
        fake_stream_ref(p->tx);
        return;
    }
    fake_stream_ref(s);
    fake_unread_remove(s);
    if (breaks(nic, FAKE_BREAK_EARLY_LOST))
        fake_stream_lose_all(s);
    p->rx = s;
    other = s->writer;
    if (other) {
        other->rx = p->tx;
        fake_stream_ref(p->tx);
    } else {
        fake_stream_abandon(p->tx, 0);
    }
}

static bool answers(const struct fake_nic *nic)
{
    return nic->traits.flags & PW_NIC_ANSWERS;
}

static int peer_new(struct fake_nic *nic, uint64_t to, void *cookie,
                    struct pw_nic_peer **out)
{
    struct fake_peer *p = calloc(1, sizeof *p), **last = &nic->peers;

    if (!p)
        return -ENOMEM;
    p->tx = fake_stream_new(nic->number, to, p);
    if (!p->tx) {
        free(p);
        return -ENOMEM;
    }
    p->base.nic = &nic->base;
    p->to = to;
    p->cookie = cookie;
    while (*last)
        last = &(*last)->next;
    *last = p;
    if (!*fake_cut_find(nic->number, to)) {
        p->called = true;
        peer_pair(nic, p);
    }
    pthread_cond_broadcast(&fake_world.changed);
    *out = &p->base;
    return 0;
}

static int fake_connect(struct pw_nic *base, const void *addr, size_t len, void *cookie,
                        struct pw_nic_peer **out)
{
    struct fake_nic *nic = nic_of(base), *target;
    struct address a;
    int err;

    *out = NULL;
    fake_lock();
    err = nic->life == FAKE_LIVES ? fake_planned(nic, FAKE_CONNECT) : -EPIPE;
    if (!err)
        err = address_check(nic, addr, len, &a);
    if (err)
        goto out;

    target = fake_nic_find(a.number);
    if ((!target && !breaks(nic, FAKE_BREAK_NO_REFUSAL) &&
         !unread_find(nic, a.number)) ||
        (*fake_cut_find(nic->number, a.number) && !answers(nic)) ||
        (target && target->config.job != nic->config.job &&
         !breaks(nic, FAKE_BREAK_ANY_JOB)))
        err = -ECONNREFUSED;
    else
        err = peer_new(nic, a.number, cookie, out);
out:
    fake_unlock();
    return err;
}

static void fake_disconnect(struct pw_nic_peer *base)
{
    struct fake_peer *p = peer_of(base), **at;
    struct fake_nic *nic = nic_of(base->nic);

    fake_lock();
    if (nic->life == FAKE_LIVES)
        peer_leave(nic, p, 0);
    /* Nobody has read it and nothing is in it: it need not wait for a reader. */
    if (!p->rx && !p->tx->head)
        fake_unread_remove(p->tx);
    for (at = &nic->peers; *at != p; at = &(*at)->next)
        ;
    *at = p->next;
    peer_free(p);
    pthread_cond_broadcast(&fake_world.changed);
    fake_unlock();
}

/* What the peer has put and is not there yet fails with the link. */
static void fake_fence(struct pw_nic_peer *base)
{
    struct fake_peer *p = peer_of(base);
    struct fake_nic *nic = nic_of(base->nic), *other;

    fake_lock();
    fake_planned(nic, FAKE_FENCE);
    other = fake_nic_find(p->to);
    fake_peers_cut(nic, p->to, -ECONNABORTED);
    if (other)
        fake_peers_cut(other, nic->number, -ECONNABORTED);
    pthread_cond_broadcast(&fake_world.changed);
    fake_unlock();
}

/* ---- progress ---- */

static void up_complete(struct fake_nic *nic, void *op, int status)
{
    fake_unlock();
    nic->config.up->complete(nic->config.ctx, op, status);
    if (breaks(nic, FAKE_BREAK_COMPLETE_TWICE))
        nic->config.up->complete(nic->config.ctx, op, status);
    fake_lock();
}

static void *cookie_of(const struct fake_nic *nic, const struct fake_peer *p)
{
    return breaks(nic, FAKE_BREAK_COOKIE) ? nic->peers->cookie : p->cookie;
}

static struct fake_work *work_pop(struct fake_peer *p)
{
    struct fake_work *w = p->work;

    p->work = w->next;
    if (!p->work)
        p->work_tail = NULL;
    p->n_work--;
    return w;
}

/* Carry out what is pending since an earlier progress. */
static int peer_run(struct fake_nic *nic, struct fake_peer *p)
{
    int made = 0;

    while (p->work && p->work->tick < nic->tick) {
        int status = p->work->silent ? 0 : fake_planned(nic, FAKE_COMPLETE);
        struct fake_work *w;

        /* Nothing passes a link that is cut. */
        if (!status)
            status = p->tx->unread ? -EPIPE : fake_work_run(p, p->work);
        if (status == -EAGAIN)
            break;
        w = work_pop(p);
        if (status == -EPIPE)
            status = -ECONNRESET;
        if (!w->silent) {
            up_complete(nic, w->op, status);
            made++;
        }
        free(w);
    }
    return made;
}

static int peer_deliver(struct fake_nic *nic, struct fake_peer *p)
{
    struct fake_frame *f;
    int made = 0;

    if (!p->rx || p->down)
        return 0;
    p->rx->ticks++;
    while (made < BUDGET && nic->life == FAKE_LIVES && (f = fake_stream_pop(p->rx))) {
        fake_unlock();
        nic->config.up->recv(nic->config.ctx, cookie_of(nic, p), f->imm, f->data,
                             f->len);
        free(f);
        fake_lock();
        made++;
    }
    return made;
}

/* PW_NIC_ANSWERS: call again while the path is cut; up when the other side has called. */
static int peer_rise(struct fake_nic *nic, struct fake_peer *p)
{
    if (p->down || p->up)
        return 0;
    if (!p->called && !*fake_cut_find(nic->number, p->to)) {
        p->called = true;
        peer_pair(nic, p);
    }
    if (!p->rx || p->rx->ended)
        return 0;
    p->up = true;
    fake_unlock();
    nic->config.up->up(nic->config.ctx, p->cookie);
    fake_lock();
    return 1;
}

static bool peer_falls(const struct fake_peer *p)
{
    if (p->down)
        return false;
    return p->rx ? p->rx->ended && !p->rx->head : p->tx->unread;
}

static int peer_fall(struct fake_nic *nic, struct fake_peer *p)
{
    int cause = p->rx ? p->rx->cause : p->tx->cause, made = 1;
    const char *why = cause == 0 ? "the peer left" : cause == -ECONNRESET
        ? "the peer's process died" : "the link was cut";

    p->down = true;
    while (p->work) {
        struct fake_work *w = work_pop(p);

        if (!w->silent) {
            up_complete(nic, w->op, -ECONNRESET);
            made++;
        }
        free(w);
    }
    if (breaks(nic, FAKE_BREAK_DOWN_CAUSE))
        cause = cause ? 0 : -ECONNRESET;
    for (int i = 0; i <= breaks(nic, FAKE_BREAK_DOWN_TWICE); i++) {
        fake_unlock();
        nic->config.up->down(nic->config.ctx, p->cookie, cause, why);
        fake_lock();
    }
    return made;
}

static void run_late(struct fake_nic *nic)
{
    while (nic->late && nic->late->tick + 3 < nic->tick) {
        struct fake_work *w = nic->late;

        nic->late = w->next;
        fake_copy_by_hand(w, w->len);
        free(w);
    }
}

/* The upcall may connect, which takes one out of the list. */
static void tell_callers(struct fake_nic *nic)
{
    struct fake_stream *s = fake_world.unread;

    if (!nic->config.up->caller || breaks(nic, FAKE_BREAK_NO_CALLER))
        return;
    while (s && nic->life == FAKE_LIVES) {
        struct address a = { .version = FAKE_VERSION, .kind = nic->kind,
                             .network = nic->traits.network, .number = s->from };

        if (s->to != nic->number || s->told == nic->tick) {
            s = s->next;
            continue;
        }
        s->told = nic->tick;
        memcpy(a.magic, address_magic, sizeof a.magic);
        fake_unlock();
        nic->config.up->caller(nic->config.ctx, &nic->base, &a, sizeof a);
        fake_lock();
        s = fake_world.unread;
    }
}

static int fake_progress(struct pw_nic *base)
{
    struct fake_nic *nic = nic_of(base);
    int made = 0;

    fake_lock();
    nic->tick++;
    run_late(nic);
    tell_callers(nic);
    for (struct fake_peer *p = nic->peers; p && nic->life == FAKE_LIVES; p = p->next) {
        int delivered;

        if (answers(nic))
            made += peer_rise(nic, p);
        made += peer_run(nic, p);
        delivered = peer_deliver(nic, p);
        made += delivered;
        if (delivered && breaks(nic, FAKE_BREAK_STARVE))
            break;
        if (nic->life == FAKE_LIVES && peer_falls(p))
            made += peer_fall(nic, p);
    }
    fake_unlock();
    return breaks(nic, FAKE_BREAK_SLEEPY_PROGRESS) ? 0 : made;
}

static bool nic_ready(const struct fake_nic *nic)
{
    if (nic->life != FAKE_LIVES || nic->late)
        return true;
    for (const struct fake_peer *p = nic->peers; p; p = p->next)
        if (p->work || (!p->down && p->rx && p->rx->head) || peer_falls(p))
            return true;
    return false;
}

static void fake_wait(struct pw_nic *base, unsigned timeout_us)
{
    struct fake_nic *nic = nic_of(base);
    bool deaf = breaks(nic, FAKE_BREAK_DEAF), spin = breaks(nic, FAKE_BREAK_SPIN);
    struct timespec end;
    uint64_t ns = (uint64_t)timeout_us * 1000;

    if (base->callers && !deaf && ns > 1000000)
        ns = 1000000;
    if (breaks(nic, FAKE_BREAK_OVERSLEEP))
        ns *= 20;
    clock_gettime(CLOCK_MONOTONIC, &end);
    ns += (uint64_t)end.tv_nsec;
    end.tv_sec += (time_t)(ns / 1000000000);
    end.tv_nsec = (long)(ns % 1000000000);

    fake_lock();
    while (!spin && (deaf || !nic_ready(nic)) &&
           pthread_cond_timedwait(&fake_world.changed, &fake_world.lock, &end) !=
               ETIMEDOUT)
        ;
    fake_unlock();
}

#define FAKE_TABLE(prefix, title) {                                 \
    .name = title, .probe = prefix##_probe, .open = prefix##_open,  \
    .close = fake_close, .address = fake_address,                   \
    .reachable = fake_reachable, .connect = fake_connect,           \
    .disconnect = fake_disconnect, .fence = fake_fence,             \
    .send = fake_send,                                              \
    .send_inline = fake_send_inline, .reach = fake_reach,           \
    .put = fake_put, .get = fake_get, .atomic = fake_atomic,        \
    .put_own = fake_put_own, .get_own = fake_get_own,               \
    .pin = fake_pin, .unpin = fake_unpin, .progress = fake_progress, \
    .wait = fake_wait }

const struct pw_nic_ops fake_nic_ops = FAKE_TABLE(fake, "fake");
const struct pw_nic_ops fake_nic_ops2 = FAKE_TABLE(fake2, "fake2");
