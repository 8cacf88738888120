/* SPDX-License-Identifier: BSD-3-Clause */
/* regions.c - memory that peers may reach, found by number.
 *
 * A frame that asks for memory names the region's number; what it asks for must
 * lie inside. The number carries a generation, so that one of a region that is
 * gone finds nothing. What NICs have pinned for it stays referenced until then
 * (pinning.c), and a region that a NIC is at for a peer at that moment is waited for: a
 * NIC that serves peers by a thread of its own borrows it. Transfers that a NIC does by
 * itself are checked by the NIC, or, in a mapped pool, by its bounds.
 *
 * A sparse region has no memory of its own: it is what is attached to it, wherever that
 * lies, and changes meanwhile. Nothing of it is pinned.
 */
#include <sched.h>
#include <stdlib.h>

#include "core.h"

enum { PW_NO_REGION = UINT32_MAX, PW_IN_USE = UINT32_MAX - 1 };

static int exposed_grow(struct pw_engine *e)
{
    uint32_t n = e->n_regions ? 2 * e->n_regions : 64;
    struct pw_exposed *r = realloc(e->regions, n * sizeof(*r));

    if (!r)
        return -ENOMEM;
    e->regions = r;
    for (uint32_t i = e->n_regions; i < n; i++)
        r[i] = (struct pw_exposed){ .id = i, .next_free = i + 1 < n ? i + 1
                                                                 : PW_NO_REGION };
    e->free_region = e->n_regions;
    e->n_regions = n;
    return 0;
}

static int exposed_add(struct pw_engine *e, void *addr, size_t len, unsigned access,
                       struct pw_region *region, uint64_t *id)
{
    struct pw_exposed *r;
    int err = 0;

    pw_lock(e);
    if (!e->n_regions || e->free_region == PW_NO_REGION)
        err = exposed_grow(e);
    if (!err) {
        r = &e->regions[e->free_region];
        e->free_region = r->next_free;
        r->id += (uint64_t)1 << 32;
        r->base = addr;
        r->len = len;
        r->access = access;
        r->region = region;
        r->sparse = false;
        r->lent = 0;
        r->next_free = PW_IN_USE;
        *id = r->id;
    }
    pw_unlock(e);
    return err;
}

static struct pw_region *exposed_remove(struct pw_engine *e, uint64_t id)
{
    struct pw_region *region;
    uint32_t i = (uint32_t)id;

    pw_lock(e);
    e->regions[i].access = 0;
    while (e->regions[i].lent) {
        pw_unlock(e);
        sched_yield();
        pw_lock(e);
    }
    region = e->regions[i].region;
    e->regions[i].region = NULL;
    free(e->regions[i].spans);
    e->regions[i].spans = NULL;
    e->regions[i].n_spans = 0;
    e->regions[i].next_free = e->free_region;
    e->free_region = i;
    pw_unlock(e);
    return region;
}

bool pw_exposed_pop(struct pw_engine *e, uint32_t *at, struct pw_region **region)
{
    while (*at < e->n_regions && e->regions[*at].next_free != PW_IN_USE)
        ++*at;
    if (*at == e->n_regions)
        return false;
    *region = exposed_remove(e, e->regions[*at].id);
    return true;
}

/* Is all of [addr, addr + len) attached? Neighbours may be attached one by one. */
static bool spans_cover(const struct pw_exposed *r, uint64_t addr, size_t len)
{
    uint64_t from = addr;
    bool on = true;

    if (len > UINT64_MAX - addr)
        return false;
    while (on && from - addr < len) {
        on = false;
        for (uint32_t i = 0; i < r->n_spans && !on; i++) {
            on = from - r->spans[i].base < r->spans[i].len;
            if (on)
                from = r->spans[i].base + r->spans[i].len;
        }
    }
    return on;
}

static bool exposed_holds(const struct pw_exposed *r, uint64_t addr, size_t len)
{
    uint64_t off = addr - (uint64_t)(uintptr_t)r->base;

    if (__builtin_expect(r->sparse, 0))
        return spans_cover(r, addr, len);
    return off <= r->len && len <= r->len - off;
}

/* The region of that number, if a peer may do `access` to [addr, addr + len) in it; else
 * NULL. Under e->lock. */
static struct pw_exposed *exposed_find(struct pw_engine *e, uint64_t id, uint64_t addr,
                                       size_t len, unsigned access)
{
    uint32_t i = (uint32_t)id;
    struct pw_exposed *r;

    if (i >= e->n_regions || e->regions[i].id != id)
        return NULL;
    r = &e->regions[i];
    return (r->access & access) == access && exposed_holds(r, addr, len) ? r : NULL;
}

int pw_region_check(struct pw_engine *e, uint64_t id, uint64_t addr, size_t len,
                    unsigned access)
{
    bool found;

    pw_lock(e);
    found = exposed_find(e, id, addr, len, access);
    pw_unlock(e);
    return found ? 0 : -EACCES;
}

int pw_region_borrow(void *ctx, uint64_t id, uint64_t addr, size_t len, unsigned access)
{
    struct pw_engine *e = ctx;
    struct pw_exposed *r;

    pthread_mutex_lock(&e->lock);
    r = exposed_find(e, id, addr, len, access);
    if (r)
        r->lent++;
    pthread_mutex_unlock(&e->lock);
    return r ? 0 : -EACCES;
}

void pw_region_give_back(void *ctx, uint64_t id)
{
    struct pw_engine *e = ctx;

    pthread_mutex_lock(&e->lock);
    e->regions[(uint32_t)id].lent--;
    pthread_mutex_unlock(&e->lock);
}

int pw_engine_register(struct pw_engine *e, void *addr, size_t len, unsigned access,
                       bool passive, struct pw_key *key)
{
    struct pw_region *region = NULL;
    int err;

    key->access = access;
    key->passive = passive;
    memset(key->nic, 0, e->keys_size);
    if (__builtin_expect(e->pinning && len && access, 0)) {
        err = pw_pinning_get(e, addr, len, access, key, &region);
        if (err)
            return err;
    }
    err = exposed_add(e, addr, len, access, region, &key->id);
    if (err && region)
        pw_pinning_put(e, region);
    return err;
}

int pw_engine_register_copied(struct pw_engine *e, void *addr, size_t len, unsigned access,
                              bool passive, struct pw_key *key)
{
    key->access = access;
    key->passive = passive;
    memset(key->nic, 0, e->keys_size);
    return exposed_add(e, addr, len, access, NULL, &key->id);
}

int pw_engine_register_sparse(struct pw_engine *e, unsigned access, bool passive,
                              struct pw_key *key)
{
    int err;

    key->access = access;
    key->passive = passive;
    memset(key->nic, 0, e->keys_size);
    err = exposed_add(e, NULL, 0, access, NULL, &key->id);
    if (!err) {
        pw_lock(e);
        e->regions[(uint32_t)key->id].sparse = true;
        pw_unlock(e);
    }
    return err;
}

static bool spans_meet(const struct pw_span *s, uint64_t base, size_t len)
{
    return s->len && len && base < s->base + s->len && s->base < base + len;
}

/* One of no bytes is in nobody's way, and is there to be detached. Under e->lock. */
static int span_add(struct pw_exposed *r, uint64_t base, size_t len)
{
    struct pw_span *spans;

    if (base + len < base)
        return -EINVAL;
    for (uint32_t i = 0; i < r->n_spans; i++)
        if (spans_meet(&r->spans[i], base, len))
            return -EEXIST;
    spans = realloc(r->spans, (r->n_spans + 1) * sizeof(*spans));
    if (!spans)
        return -ENOMEM;
    r->spans = spans;
    spans[r->n_spans++] = (struct pw_span){ base, len };
    return 0;
}

int pw_engine_attach(struct pw_engine *e, const struct pw_key *key, void *addr, size_t len)
{
    int err;

    pw_lock(e);
    err = span_add(&e->regions[(uint32_t)key->id], (uintptr_t)addr, len);
    pw_unlock(e);
    return err;
}

/* Under e->lock; false: there is no such. */
static bool span_remove(struct pw_exposed *r, uint64_t base)
{
    for (uint32_t i = 0; i < r->n_spans; i++)
        if (r->spans[i].base == base) {
            r->spans[i] = r->spans[--r->n_spans];
            return true;
        }
    return false;
}

int pw_engine_detach(struct pw_engine *e, const struct pw_key *key, const void *addr)
{
    uint32_t i = (uint32_t)key->id;
    bool found;

    pw_lock(e);
    found = span_remove(&e->regions[i], (uintptr_t)addr);
    while (found && e->regions[i].lent) {
        pw_unlock(e);
        sched_yield();
        pw_lock(e);
    }
    pw_unlock(e);
    return found ? 0 : -ENOENT;
}

void pw_engine_deregister(struct pw_engine *e, const struct pw_key *key)
{
    struct pw_region *region = exposed_remove(e, key->id);

    if (region)
        pw_pinning_put(e, region);
}

void pw_regions_fini(struct pw_engine *e)
{
    for (uint32_t i = 0; i < e->n_regions; i++)
        free(e->regions[i].spans);
    free(e->regions);
}
