/* SPDX-License-Identifier: BSD-3-Clause */
/* pinning.c - memory that peers may reach, pinned for the NICs and remembered.
 *
 * Start at pw_pinning_get(). A region of the cache is memory that every NIC which
 * needs it has pinned; its handle is their keys, by the NICs' places in the engine.
 * It may cover more than was asked for, but what peers are let at is what was
 * asked for (regions.c). Of the pool as much is pinned at once as lies together, up to
 * PW_PIN_SEGMENT: many buffers of MPI_Alloc_mem are one region.
 *
 * While no NIC needs pinned memory and nobody asks for a monitor by name, there
 * is none of this: e->pinning is NULL.
 *
 * Where all that pin could do without (PW_NIC_KEYS_OPTIONAL), nobody fails for memory
 * that is not pinned: it gets a key of zeros. So does the pool's, and, where a monitor
 * that sees nothing is at work, all: to pin anew each time costs more than it saves.
 */
#include <stdio.h>
#include <stdlib.h>

#include "core.h"
#include "metrics.h"
#include "pinwheel/budget.h"
#include "pinwheel/clock.h"
#include "pinwheel/regcache.h"

/* Looks at what has changed between two writes of the page. */
enum { PW_PIN_LOOKS = 16 };
enum { PW_REGIONS_DEFAULT = 65536 };        /* of the cache */

/* All of a pool is not: that is half of the machine's memory, and what nobody has asked
 * for has no pages yet. */
#define PW_PIN_SEGMENT ((size_t)16 << 20)

struct pw_pinning {
    struct pw_monitor *monitor;
    struct pw_budget *budget;
    struct pw_regcache *cache;
    struct pw_pin_ops ops;
    unsigned looks;
    bool optional;
    bool refused;
    char why[512];
};

_Static_assert(sizeof(struct pw_nic_key) * PW_KEY_NICS <= PW_PIN_HANDLE_MAX,
               "all keys fit a handle");

/* ---- the NICs, as the cache sees them ---- */

/* Has it pinned? One that can do without may have done so. */
static bool nic_pinned(const struct pw_nic *nic, const struct pw_nic_key *key)
{
    static const struct pw_nic_key none;

    return nic->info.key_size && (!(nic->info.flags & PW_NIC_KEYS_OPTIONAL) ||
                                  memcmp(key, &none, sizeof(none)));
}

static void unpin_nics(struct pw_engine *e, int n, void *addr, size_t len,
                       const struct pw_nic_key *keys)
{
    while (n--)
        if (nic_pinned(e->nics[n], &keys[n]))
            e->nics[n]->ops->unpin(e->nics[n], addr, len, &keys[n]);
}

static int pinning_pin(void *ctx, void *addr, size_t len, unsigned access, void *handle)
{
    struct pw_engine *e = ctx;
    struct pw_nic_key *keys = handle;
    int err;

    memset(keys, 0, e->pinning->ops.handle_size);
    for (int i = 0; i < e->n_nics; i++) {
        if (!e->nics[i]->info.key_size)
            continue;
        err = e->nics[i]->ops->pin(e->nics[i], addr, len, access, &keys[i]);
        /* Not for this one's sake, when others need it. */
        if (err && !e->pinning->optional &&
            e->nics[i]->info.flags & PW_NIC_KEYS_OPTIONAL) {
            memset(&keys[i], 0, sizeof(keys[i]));
            err = 0;
        }
        if (err) {
            unpin_nics(e, i, addr, len, keys);
            return err;
        }
    }
    return 0;
}

static void pinning_unpin(void *ctx, void *addr, size_t len, void *handle)
{
    struct pw_engine *e = ctx;

    unpin_nics(e, e->n_nics, addr, len, handle);
}

static void pinning_widen(void *ctx, uintptr_t *start, uintptr_t *end)
{
    const struct pw_pool *pool = ((struct pw_engine *)ctx)->config.pool;

    if (pw_pool_contains(pool, (void *)*start, *end - *start))
        pw_pool_extent(pool, PW_PIN_SEGMENT, start, end);
}

/* ---- opening ---- */

/* Places of the NICs up to the last that needs pinned memory. */
static size_t keys_in_use(const struct pw_engine *e)
{
    size_t n = 0;

    for (int i = 0; i < e->n_nics; i++)
        if (e->nics[i]->info.key_size)
            n = (size_t)i + 1;
    return n;
}

/* Is there a NIC that pins, and no NIC that must? */
static bool keys_optional(const struct pw_engine *e)
{
    size_t n = 0;

    for (int i = 0; i < e->n_nics; i++) {
        if (!e->nics[i]->info.key_size)
            continue;
        if (!(e->nics[i]->info.flags & PW_NIC_KEYS_OPTIONAL))
            return false;
        n++;
    }
    return n;
}

bool pw_engine_pins_pool(const struct pw_engine *e)
{
    return keys_in_use(e) && !keys_optional(e);
}

/* The same in all ranks, also where one of them cannot pin and another can; ranks of
 * several hosts may differ in their NICs. */
size_t pw_engine_key_size(const struct pw_engine *e)
{
    size_t n = keys_in_use(e);

    for (int i = 0; i < e->n_nics; i++)
        if (!(e->nics[i]->info.flags & PW_NIC_SAME_HOST))
            n = PW_KEY_NICS;
    for (size_t i = n; i < (size_t)e->n_nics; i++)
        if (e->nics[i]->info.key_room)
            n = i + 1;
    return offsetof(struct pw_key, nic) + n * sizeof(struct pw_nic_key);
}

/* Never silently something else than what was asked for by name. */
static int monitor_open(struct pw_engine *e, const char *name, char why[PW_NIC_WHY_MAX])
{
    struct pw_pinning *p = e->pinning;
    struct pw_monitor_report report = { 0 };
    int (*open)(const char *, struct pw_monitor **, struct pw_monitor_report *) =
        e->config.monitor_open ? e->config.monitor_open : pw_monitor_open;
    int err = open(name, &p->monitor, &report);

    if (err == -EINVAL) {
        snprintf(why, PW_NIC_WHY_MAX, "%.255s", report.why_not);
        return err;
    }
    snprintf(p->why, sizeof(p->why), "%s", report.why_not);
    if (err && err != -ENOMEM && name) {
        if (!*p->why)
            snprintf(p->why, sizeof(p->why), "%s", strerror(-err));
        p->refused = true;
        err = open("none", &p->monitor, NULL);
    }
    return err;
}

static int cache_open(struct pw_engine *e)
{
    struct pw_pinning *p = e->pinning;
    struct pw_budget_config limits = {
        .rank_bytes = e->config.pin_bytes, .rank_regions = e->config.pin_regions,
        .host_bytes = e->config.pin_host_bytes, .sharers = e->config.local_peers + 1,
    };
    struct pw_regcache_config config = { .pin = &p->ops, .pin_ctx = e,
                                         .monitor = p->monitor };
    int err = pw_budget_open(&limits, &p->budget);

    if (err)
        return err;
    p->ops = (struct pw_pin_ops){ .name = "NICs", .pin = pinning_pin,
                                  .unpin = pinning_unpin, .widen = pinning_widen };
    p->ops.handle_size = keys_in_use(e) * sizeof(struct pw_nic_key);
    config.budget = p->budget;
    /* The budget says how many; the table is to have room for them. */
    if (e->config.pin_regions > PW_REGIONS_DEFAULT)
        config.max_regions = (uint32_t)e->config.pin_regions;
    err = pw_regcache_open(&config, &p->cache);
    if (err)
        return err;
    return pw_regcache_trust(p->cache, pw_pool_base(e->config.pool),
                             pw_pool_size(e->config.pool));
}

int pw_pinning_open(struct pw_engine *e, char why[PW_NIC_WHY_MAX])
{
    const char *name = e->config.monitor;
    int err;

    if (!name || !*name || !strcmp(name, "auto")) {
        if (!keys_in_use(e))
            return 0;
        name = NULL;
    }
    e->pinning = calloc(1, sizeof(*e->pinning));
    if (!e->pinning)
        return -ENOMEM;
    e->pinning->optional = keys_optional(e);
    err = monitor_open(e, name, why);
    if (!err)
        err = cache_open(e);
    return err;
}

/* What peers could reach until now is given back first: the cache wants that. */
void pw_pinning_close(struct pw_engine *e)
{
    struct pw_pinning *p = e->pinning;
    struct pw_region *region;
    uint32_t at = 0;

    if (!p)
        return;
    while (pw_exposed_pop(e, &at, &region))
        if (region)
            pw_regcache_put(p->cache, region);
    pw_regcache_close(p->cache);
    pw_budget_close(p->budget);
    pw_monitor_close(p->monitor);
    e->pinning = NULL;
    free(p);
}

/* ---- at work ---- */

int pw_pinning_get(struct pw_engine *e, void *addr, size_t len, unsigned access,
                   struct pw_key *key, struct pw_region **region)
{
    struct pw_pinning *p = e->pinning;
    int err;

    if (p->optional && (!p->monitor->sees || pw_pool_contains(e->config.pool, addr, len)))
        return 0;
    err = pw_regcache_get(p->cache, addr, len, access, region);
    if (!err)
        memcpy(key->nic, (*region)->handle, p->ops.handle_size);
    return p->optional ? 0 : err;
}

void pw_pinning_put(struct pw_engine *e, struct pw_region *region)
{
    pw_regcache_put(e->pinning->cache, region);
}

struct pw_region *pw_pinning_own(struct pw_engine *e, const struct pw_nic *nic,
                                 enum pw_op_kind kind, void *local, size_t len)
{
    size_t least = kind == PW_OP_GET ? nic->info.own_get_least : nic->info.own_put_least;
    struct pw_region *region = NULL;

    if (!least || len < least || !e->pinning || e->pinning->optional ||
        pw_regcache_get(e->pinning->cache, local, len,
                        kind == PW_OP_GET ? PW_WRITE : PW_READ, &region))
        return NULL;
    return region;
}

int pw_path_carry(const struct pw_path *path, const struct pw_op *what,
                  const struct pw_nic_key *key, const struct pw_region *own, void *op)
{
    const struct pw_nic_ops *ops = path->nic->ops;
    const struct pw_engine *e = path->ep->e;
    const struct pw_nic_key *mine = own ? (const void *)own->handle : NULL;
    bool get = what->kind == PW_OP_GET;

    for (int i = 0; mine && e->nics[i] != path->nic; i++)
        mine++;
    if (mine && ops->put_own && ops->get_own)
        return get ? ops->get_own(path->peer, what->local, what->remote, what->len, key, mine,
                                  op)
                   : ops->put_own(path->peer, what->local, what->remote, what->len, key, mine,
                                  op);
    return get ? ops->get(path->peer, what->local, what->remote, what->len, key, op)
               : ops->put(path->peer, what->local, what->remote, what->len, key, op);
}

void pw_pinning_idle(struct pw_engine *e)
{
    pw_regcache_progress(e->pinning->cache);
}

void pw_pinning_step(struct pw_engine *e)
{
    struct pw_pinning *p = e->pinning;
    pw_regcache_progress(p->cache);
    if (++p->looks < PW_PIN_LOOKS)
        return;
    p->looks = 0;
    pw_live_step(e, pw_now_ns());
}

/* ---- for people ---- */

const struct pw_monitor *pw_pinning_monitor(const struct pw_engine *e)
{
    return e->pinning ? e->pinning->monitor : NULL;
}

void pw_engine_memory(struct pw_engine *e, struct pw_memory_info *out)
{
    struct pw_pinning *p = e->pinning;

    memset(out, 0, sizeof(*out));
    if (!p)
        return;
    out->monitor = p->monitor->ops->name;
    out->sees = p->monitor->sees;
    snprintf(out->note, sizeof(out->note), "%s", p->monitor->note);
    out->refused = p->refused;
    snprintf(out->why, sizeof(out->why), "%s", p->why);
    pw_budget_describe(p->budget, &out->budget);
}

static void nic_counts_add(struct pw_nic_counts *sum, const struct pw_nic_counts *one)
{
    const uint64_t *from = (const uint64_t *)one;
    uint64_t *to = (uint64_t *)sum;

    _Static_assert(sizeof(*one) % sizeof(*from) == 0, "nothing but counters");
    for (size_t i = 0; i < sizeof(*one) / sizeof(*from); i++)
        to[i] += __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}

void pw_engine_counts(struct pw_engine *e, struct pw_counts *out)
{
    int rail = 0;

    memset(out, 0, sizeof(*out));
    pw_engine_stats(e, &out->sent);
    if (e->pinning)
        pw_regcache_stats(e->pinning->cache, &out->cache);
    for (int i = 0; i < e->n_nics; i++) {
        nic_counts_add(&out->nics, &e->nics[i]->counts);
        if (!(e->nics[i]->info.flags & PW_NIC_SAME_HOST))
            out->rails[rail++] = __atomic_load_n(&e->nics[i]->counts.wire_bytes,
                                                 __ATOMIC_RELAXED);
    }
    out->peers_connected = __atomic_load_n(&e->n_endpoints, __ATOMIC_RELAXED);
}
