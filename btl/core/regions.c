/* SPDX-License-Identifier: BSD-3-Clause */
/* regions.c - memory that peers may reach, found by number.
 *
 * A frame that asks for memory names the region's number; what it asks for must
 * lie inside. The number carries a generation, so that one of a region that is
 * gone finds nothing. Transfers that a NIC does by itself are checked by the
 * NIC, or, in a mapped pool, by its bounds.
 */
#include <stdlib.h>

#include "core.h"

enum { PW_NO_REGION = UINT32_MAX };

static int pw_region_grow(struct pw_engine *e)
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

static int pw_region_add(struct pw_engine *e, void *addr, size_t len,
                         unsigned access, uint64_t *id)
{
    struct pw_exposed *r;
    int err = 0;

    pw_lock(e);
    if (!e->n_regions || e->free_region == PW_NO_REGION)
        err = pw_region_grow(e);
    if (!err) {
        r = &e->regions[e->free_region];
        e->free_region = r->next_free;
        r->id += (uint64_t)1 << 32;
        r->base = addr;
        r->len = len;
        r->access = access;
        *id = r->id;
    }
    pw_unlock(e);
    return err;
}

static void pw_region_remove(struct pw_engine *e, uint64_t id, void **base, size_t *len)
{
    uint32_t i = (uint32_t)id;

    pw_lock(e);
    *base = e->regions[i].base;
    *len = e->regions[i].len;
    e->regions[i].access = 0;
    e->regions[i].next_free = e->free_region;
    e->free_region = i;
    pw_unlock(e);
}

/* May a peer do `access` to [addr, addr + len) under that number? 0, -EACCES. */
int pw_region_check(struct pw_engine *e, uint64_t id, uint64_t addr, size_t len,
                    unsigned access)
{
    uint32_t i = (uint32_t)id;
    int err = -EACCES;

    pw_lock(e);
    if (i < e->n_regions && e->regions[i].id == id) {
        const struct pw_exposed *r = &e->regions[i];
        uint64_t off = addr - (uint64_t)(uintptr_t)r->base;
        if ((r->access & access) == access && off <= r->len && len <= r->len - off)
            err = 0;
    }
    pw_unlock(e);
    return err;
}

static void pw_unpin_nics(struct pw_engine *e, int n, void *addr, size_t len,
                          const struct pw_key *key)
{
    while (n--)
        if (e->nics[n]->info.key_size)
            e->nics[n]->ops->unpin(e->nics[n], addr, len, &key->nic[n]);
}

int pw_engine_register(struct pw_engine *e, void *addr, size_t len, unsigned access,
                       bool passive, struct pw_key *key)
{
    int n, err = 0;

    key->access = access;
    key->passive = passive;
    for (n = 0; n < e->n_nics; n++) {
        if (!e->nics[n]->info.key_size)
            continue;
        err = e->nics[n]->ops->pin(e->nics[n], addr, len, access, &key->nic[n]);
        if (err)
            goto unpin;
    }
    err = pw_region_add(e, addr, len, access, &key->id);
    if (!err)
        return 0;
unpin:
    pw_unpin_nics(e, n, addr, len, key);
    return err;
}

void pw_engine_deregister(struct pw_engine *e, const struct pw_key *key)
{
    void *base;
    size_t len;

    pw_region_remove(e, key->id, &base, &len);
    pw_unpin_nics(e, e->n_nics, base, len, key);
}

size_t pw_engine_key_size(const struct pw_engine *e)
{
    size_t n = 0;

    for (int i = 0; i < e->n_nics; i++)
        if (e->nics[i]->info.key_size)
            n = (size_t)i + 1;
    return offsetof(struct pw_key, nic) + n * sizeof(struct pw_nic_key);
}

void pw_regions_fini(struct pw_engine *e)
{
    free(e->regions);
}
