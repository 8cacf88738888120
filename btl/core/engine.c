/* SPDX-License-Identifier: BSD-3-Clause */
/* engine.c - the NICs and progress.
 *
 * Start at pw_engine_progress(). Frames come in through engine_recv(), which
 * hands messages to btl/ and everything else to transfer.c and serve.c.
 */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "core.h"
#include "guard.h"
#include "idle.h"
#include "path.h"
#include "stripe.h"

/* With more ranks than cores, how long it takes until the peer has one and helps. A guess:
 * it decides where a job begins, what transfers then take decides the rest. */
enum { PW_TURN_NS = 20000 };

enum { PW_PEER_TIMEOUT_MS = 15000 };

/* Is this thread in an upcall of progress? */
static bool in_upcall(const struct pw_engine *e)
{
    return __atomic_load_n(&e->in_progress, __ATOMIC_RELAXED) &&
           (!e->config.threads ||
            pthread_equal(__atomic_load_n(&e->progress_thread, __ATOMIC_RELAXED),
                          pthread_self()));
}

int pw_engine_open(const struct pw_engine_config *config, struct pw_engine **out,
                   char why[PW_NIC_WHY_MAX])
{
    struct pw_engine *e = calloc(1, sizeof(*e));
    int err;

    *out = NULL;
    why[0] = '\0';
    if (!e)
        return -ENOMEM;
    e->config = *config;
    if (!e->config.backends)
        e->config.backends = pw_nic_backends;
    if (!e->config.peer_timeout_ms)
        e->config.peer_timeout_ms = PW_PEER_TIMEOUT_MS;
    e->crowded_costs = e->config.costs;
    pw_costs_later(&e->crowded_costs, PW_TURN_NS);
    pthread_mutex_init(&e->progress, NULL);
    pthread_mutex_init(&e->lock, NULL);
    e->locks = e->config.threads;
    err = pw_nics_open(e, why);
    if (!err)
        err = pw_pinning_open(e, why);
    e->keys_size = pw_engine_key_size(e) - offsetof(struct pw_key, nic);
    if (err) {
        pw_engine_close(e);
        return err;
    }
    pw_live_start(e);
    *out = e;
    return 0;
}

void pw_engine_close(struct pw_engine *e)
{
    if (!e)
        return;
    while (e->endpoints) {
        struct pw_endpoint *ep = e->endpoints;
        e->endpoints = ep->next;
        pw_endpoint_free(ep);
    }
    pw_live_stop(e);
    pw_pinning_close(e);
    while (e->n_nics) {
        struct pw_nic *nic = e->nics[--e->n_nics];
        nic->ops->close(nic);
    }
    pw_ops_fini(e);
    pw_regions_fini(e);
    pthread_mutex_destroy(&e->progress);
    pthread_mutex_destroy(&e->lock);
    free(e);
}

bool pw_engine_crowded(const struct pw_engine *e)
{
    return __atomic_load_n(&e->crowded, __ATOMIC_RELAXED);
}

size_t pw_engine_message_max(const struct pw_engine *e)
{
    return e->frame_max;
}

size_t pw_engine_message_max_afar(const struct pw_engine *e)
{
    size_t max = 0;

    for (int i = 0; i < e->n_nics; i++) {
        const struct pw_nic_info *info = &e->nics[i]->info;

        if (!(info->flags & PW_NIC_SAME_HOST) && (!max || info->frame_max < max))
            max = info->frame_max;
    }
    return max ? max - sizeof(struct pw_guard_tail) : 0;
}

const struct pw_nic_info *pw_engine_nic(const struct pw_engine *e, int i)
{
    return i >= 0 && i < e->n_nics ? &e->nics[i]->info : NULL;
}

const char *pw_engine_left_out(const struct pw_engine *e)
{
    return e->left_out;
}

void pw_engine_settle(struct pw_engine *e)
{
    if (__atomic_load_n(&e->n_lame, __ATOMIC_RELAXED))
        pw_failover_step(e, pw_now_ns());
    if (!__atomic_load_n(&e->n_owing, __ATOMIC_RELAXED))
        return;
    for (struct pw_endpoint *ep = __atomic_load_n(&e->endpoints, __ATOMIC_ACQUIRE); ep;
         ep = ep->next)
        if (ep->guard)
            pw_guard_settle(ep->guard);
}

static int progress_slow(struct pw_engine *e)
{
    struct pw_endpoint *ep;
    int n = 0;

    if (e->pinning && pw_calls_due(e))
        pw_pinning_step(e);
    if (__atomic_load_n(&e->n_chores, __ATOMIC_RELAXED))
        pw_endpoints_chores(e);
    if (pw_calls_due(e)) {
        n += pw_engine_look_around(e);
        pw_engine_settle(e);
    }
    if (!__atomic_load_n(&e->n_waiting, __ATOMIC_RELAXED) &&
        !__atomic_load_n(&e->n_busy, __ATOMIC_RELAXED))
        return 0;
    /* Pairs with the release in endpoint_list(): others may put new ones first;
     * only we take some out. */
    for (ep = __atomic_load_n(&e->endpoints, __ATOMIC_ACQUIRE); ep; ep = ep->next) {
        if (__atomic_load_n(&ep->waiting, __ATOMIC_RELAXED))
            n += pw_endpoint_pump(ep);
        if (ep->guard)
            n += pw_guard_step(ep->guard);
        if (__atomic_load_n(&ep->striping, __ATOMIC_RELAXED))
            n += pw_stripes_step(ep);
    }
    return n;
}

static inline int progress_entered(struct pw_engine *e)
{
    int n = 0;

    e->calls++;
    for (int i = 0; i < e->n_active; i++)
        n += e->active[i]->ops->progress(e->active[i]);
    if (__builtin_expect(__atomic_load_n(&e->n_chores, __ATOMIC_RELAXED) |
                         __atomic_load_n(&e->n_waiting, __ATOMIC_RELAXED) |
                         __atomic_load_n(&e->n_busy, __ATOMIC_RELAXED) |
                         pw_calls_due(e), 0))
        n += progress_slow(e);
    pw_idle(e, n);
    pw_progress_leave(e);
    return n;
}

int pw_engine_progress(struct pw_engine *e)
{
    return __builtin_expect(pw_progress_enter(e), 1) ? progress_entered(e) : 0;
}

void pw_engine_redirect(struct pw_engine *e, const struct pw_engine_upcalls *up, void *ctx)
{
    while (!pw_progress_enter(e))
        sched_yield();
    e->config.up = up;
    e->config.ctx = ctx;
    pw_progress_leave(e);
}

void pw_engine_bulk(struct pw_engine *e, enum pw_bulk bulk)
{
    e->config.bulk = bulk;
}

/* Not for what other threads begin meanwhile: one that waits for a lock of a window asks for
 * it again and again, and its holder may be who flushes. */
void pw_engine_flush(struct pw_engine *e)
{
    uint64_t begun;
    uint32_t at = 0;

    if (!__atomic_load_n(&e->n_pending, __ATOMIC_RELAXED))
        return;
    begun = pw_ops_begun(e);
    while (pw_ops_before(e, begun, &at)) {
        /* From an upcall: the progress that called it goes on afterwards. */
        if (in_upcall(e))
            return;
        /* Who has the progress needs e->lock for what we wait for: who asks for that again
         * and again would keep it from it. */
        if (pw_progress_enter(e))
            progress_entered(e);
        else
            sched_yield();
    }
}

/* Word by word, for others count meanwhile. */
void pw_engine_stats(struct pw_engine *e, struct pw_stats *out)
{
    const uint64_t *from = (const uint64_t *)&e->stats;
    uint64_t *to = (uint64_t *)out;

    _Static_assert(sizeof(*out) % sizeof(*to) == 0, "nothing but counters");
    for (size_t i = 0; i < sizeof(*out) / sizeof(*to); i++)
        to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}

/* A peer that numbers its frames waits for acknowledgements, also when we found
 * fewer paths to it than it to us. */
static bool numbered_accept(struct pw_endpoint *ep, uint32_t imm, const void *data,
                            size_t *len)
{
    if (!ep->guard && pw_guard_open(ep))
        return false;   /* it comes again */
    if (!pw_guard_accept(ep->guard, imm, data, *len))
        return false;
    *len -= sizeof(struct pw_guard_tail);
    return true;
}

static __attribute__((noinline))
void engine_recv_other(struct pw_engine *e, struct pw_endpoint *ep, uint32_t imm,
                       const void *data, size_t len)
{
    unsigned kind = pw_imm_kind(imm);

    if (__atomic_load_n(&ep->closing, __ATOMIC_RELAXED))
        return;
    if (imm >> 24 & PW_F_NUMBERED && !numbered_accept(ep, imm, data, &len))
        return;
    if (kind == PW_F_MESSAGE)
        e->config.up->recv(e->config.ctx, ep->cookie, (uint8_t)(imm >> 16), data, len);
    else if (kind == PW_F_GET_DATA)
        pw_transfer_data(ep, data, len);
    else if (kind == PW_F_DONE)
        pw_transfer_done(ep, data, len);
    else if (kind == PW_F_ACK && ep->guard)
        pw_guard_acked(ep->guard, data, len);
    else
        pw_serve(ep, kind, data, len);
}

/* Messages without a number are what nearly all frames are on one host. */
static void engine_recv(void *ctx, void *cookie, uint32_t imm, const void *data,
                        size_t len)
{
    struct pw_engine *e = ctx;
    struct pw_endpoint *ep = ((struct pw_path *)cookie)->ep;

    if (__builtin_expect(imm >> 24 == PW_F_MESSAGE &&
                         !__atomic_load_n(&ep->closing, __ATOMIC_RELAXED), 1))
        e->config.up->recv(e->config.ctx, ep->cookie, (uint8_t)(imm >> 16), data, len);
    else
        engine_recv_other(e, ep, imm, data, len);
}

static void engine_complete(void *ctx, void *op, int status)
{
    (void)ctx;
    if (pw_guard_owns(op))
        pw_guard_sent(op);
    else
        pw_transfer_nic_done(op, status);
}

static void engine_down(void *ctx, void *cookie, int cause, const char *why)
{
    (void)ctx;
    pw_path_down(cookie, cause, why);
}

static void engine_up(void *ctx, void *cookie)
{
    (void)ctx;
    pw_path_up(cookie);
}

static void engine_doubt(void *ctx, void *cookie, bool doubted)
{
    (void)ctx;
    pw_path_doubt(cookie, doubted);
}

static void engine_restored(void *ctx, struct pw_nic *nic)
{
    pw_paths_restored(ctx, nic);
}

static void engine_caller(void *ctx, struct pw_nic *nic, const void *addr, size_t len)
{
    pw_engine_called(ctx, nic, addr, len);
}

const struct pw_nic_upcalls pw_engine_nic_upcalls = {
    .recv = engine_recv,
    .complete = engine_complete,
    .down = engine_down,
    .caller = engine_caller,
    .up = engine_up,
    .doubt = engine_doubt,
    .restored = engine_restored,
    .borrow = pw_region_borrow,
    .give_back = pw_region_give_back,
};
