/* SPDX-License-Identifier: BSD-3-Clause */
/* index.c - regions found by address, without a lock.
 *
 * A region of 2^(L-1) < size <= 2^L bytes is of level L. It is entered once for
 * each run of 2^L bytes that it touches: one or two entries, however large it is.
 * Who looks for an address asks once per level in use, from the smallest that
 * could cover the request; the regions of most programs are of few levels.
 *
 * One open hash table, linear probing. An entry is one word, so a reader sees it
 * whole. Writers move entries while readers look (removal closes gaps, growth
 * makes a new table): a reader may miss what is there and then takes the lock and
 * looks again; what it finds, the card must confirm. An outgrown table stays until
 * close, for a reader may be in it; all of them together are smaller than the last.
 */
#include <stdlib.h>
#include <string.h>

#include "index.h"

static struct pw_table *table_new(uint32_t bits)
{
    struct pw_table *t = calloc(1, sizeof(*t) + (sizeof(t->entry[0]) << bits));

    if (t)
        t->bits = bits;
    return t;
}

/* For pw_index_first(): the old shift with either table, the new with the new. */
void pw_index_show(struct pw_cache *rc)
{
    pw_store_release(&rc->hot.entries, rc->table->entry);
    pw_store_release(&rc->hot.shift, 64 - rc->table->bits);
}

int pw_index_open(struct pw_cache *rc)
{
    rc->table = table_new(8);
    return rc->table ? 0 : -ENOMEM;
}

void pw_index_close(struct pw_cache *rc)
{
    struct pw_table *t, *older;

    for (t = rc->table; t; t = older) {
        older = t->older;
        free(t);
    }
}

static void levels_set(struct pw_cache *rc, uint64_t levels)
{
    bool single = levels && !(levels & (levels - 1));

    pw_store(&rc->levels, levels);
    pw_store(&rc->hot.only_level, single ? (uint64_t)__builtin_ctzl(levels) : 0);
}

void pw_index_clear(struct pw_cache *rc)
{
    memset(rc->table->entry, 0, sizeof(rc->table->entry[0]) << rc->table->bits);
    memset(rc->in_level, 0, sizeof(rc->in_level));
    rc->table->used = 0;
    levels_set(rc, 0);
}

static uint32_t number_in(uint32_t e)
{
    return (e & 0xffffff) - 1;
}

uint32_t pw_index_find(const struct pw_cache *rc, uintptr_t first, uintptr_t last,
                       unsigned access)
{
    const struct pw_table *t = pw_load_acquire(&rc->table);
    uint64_t levels = pw_load(&rc->levels) & ~(uint64_t)0 << pw_level_of(first, last);
    uint64_t mask = ((uint64_t)1 << t->bits) - 1;

    for (; levels; levels &= levels - 1) {
        uint64_t hash = pw_index_hash(first, (unsigned)__builtin_ctzl(levels));
        uint64_t at = pw_index_slot(t, hash);
        uint32_t e;

        for (; (e = pw_load(&t->entry[at])); at = (at + 1) & mask) {
            uint32_t n = number_in(e);
            if (e >> 24 == (hash & 255) &&
                pw_card_covers(&rc->cards[n], first, last, access))
                return n;
        }
    }
    return PW_NOBODY;
}

static void entry_put(struct pw_table *t, uint64_t hash, uint32_t e)
{
    uint64_t mask = ((uint64_t)1 << t->bits) - 1, at = pw_index_slot(t, hash);

    while (t->entry[at])
        at = (at + 1) & mask;
    pw_store_release(&t->entry[at], e);
    t->used++;
}

static uint32_t entry_of(uint64_t hash, uint32_t n)
{
    return (uint32_t)hash << 24 | (n + 1);
}

/* The runs of level L that a region touches, as addresses in them. */
static int runs_of(const struct pw_region *r, unsigned level, uintptr_t run[2])
{
    run[0] = r->start;
    run[1] = r->end - 1;
    return run[0] >> level == run[1] >> level ? 1 : 2;
}

static void region_enter(struct pw_table *t, struct pw_region *r)
{
    unsigned level = pw_own(r)->level;
    uintptr_t run[2];

    for (int i = runs_of(r, level, run); i--; ) {
        uint64_t hash = pw_index_hash(run[i], level);
        entry_put(t, hash, entry_of(hash, r->number));
    }
}

static int table_grow(struct pw_cache *rc)
{
    struct pw_table *t = table_new(rc->table->bits + 1);

    if (!t)
        return -ENOMEM;
    for (uint32_t n = 0; n < rc->high; n++) {
        struct pw_region *r = pw_region_at(rc, n);
        if (pw_own(r)->indexed)
            region_enter(t, r);
    }
    t->older = rc->table;
    pw_store_release(&rc->table, t);
    pw_index_show(rc);
    return 0;
}

int pw_index_add(struct pw_cache *rc, struct pw_region *r)
{
    struct pw_region_own *own = pw_own(r);

    /* At most half full, so that runs of entries stay short. */
    if ((rc->table->used + 2) * 2 > 1u << rc->table->bits && table_grow(rc))
        return -ENOMEM;
    own->level = (uint8_t)pw_level_of(r->start, r->end - 1);
    own->indexed = true;
    region_enter(rc->table, r);
    rc->in_level[own->level]++;
    levels_set(rc, rc->levels | (uint64_t)1 << own->level);
    pw_store(&rc->count.regions, rc->count.regions + 1);
    return 0;
}

/* The entry's own place, from its number's region: entries do not keep hashes. */
static uint64_t home_of(struct pw_cache *rc, uint32_t e)
{
    struct pw_region *r = pw_region_at(rc, number_in(e));
    unsigned level = pw_own(r)->level;
    uintptr_t run[2];

    for (int i = runs_of(r, level, run); i--; ) {
        uint64_t hash = pw_index_hash(run[i], level);
        if (entry_of(hash, r->number) == e)
            return pw_index_slot(rc->table, hash);
    }
    abort();    /* an entry of no region: memory was overwritten */
}

/* Close the gap: what lies behind and belongs at or before it moves up. */
static void entry_remove(struct pw_cache *rc, uint64_t at)
{
    struct pw_table *t = rc->table;
    uint64_t mask = ((uint64_t)1 << t->bits) - 1, next = at;
    uint32_t e;

    while ((e = t->entry[next = (next + 1) & mask]))
        if (((next - home_of(rc, e)) & mask) >= ((next - at) & mask)) {
            pw_store(&t->entry[at], e);
            at = next;
        }
    pw_store(&t->entry[at], 0);
    t->used--;
}

void pw_index_remove(struct pw_cache *rc, struct pw_region *r)
{
    struct pw_region_own *own = pw_own(r);
    uint64_t mask = ((uint64_t)1 << rc->table->bits) - 1;
    uintptr_t run[2];

    for (int i = runs_of(r, own->level, run); i--; ) {
        uint64_t hash = pw_index_hash(run[i], own->level);
        uint64_t at = pw_index_slot(rc->table, hash);

        while (rc->table->entry[at] != entry_of(hash, r->number))
            at = (at + 1) & mask;
        entry_remove(rc, at);
    }
    own->indexed = false;
    if (!--rc->in_level[own->level])
        levels_set(rc, rc->levels & ~((uint64_t)1 << own->level));
    pw_store(&rc->count.regions, rc->count.regions - 1);
}

typedef void (*visit_fn)(struct pw_cache *, struct pw_region *, void *);

static bool overlaps(const struct pw_region *r, struct pw_range range)
{
    return r->start < range.end && range.start < r->end;
}

static void visit_all(struct pw_cache *rc, struct pw_range range, visit_fn visit,
                      void *arg)
{
    for (uint32_t n = 0; n < rc->high; n++) {
        struct pw_region *r = pw_region_at(rc, n);
        if (pw_own(r)->indexed && overlaps(r, range))
            visit(rc, r, arg);
    }
}

/* A visit may remove the entry under our eyes, and others move up into its place:
 * look there again. What is removed elsewhere can hide others from us, so begin the
 * run anew after each visit that removed something. */
static void visit_run(struct pw_cache *rc, struct pw_range range, uintptr_t addr,
                      unsigned level, visit_fn visit, void *arg)
{
    uint64_t hash = pw_index_hash(addr, level);
    uint32_t e;
    uint64_t mask = ((uint64_t)1 << rc->table->bits) - 1;
    uint64_t at = pw_index_slot(rc->table, hash);

    while ((e = rc->table->entry[at])) {
        struct pw_region *r = pw_region_at(rc, number_in(e));
        uint32_t used = rc->table->used;

        if (e >> 24 == (hash & 255) && overlaps(r, range))
            visit(rc, r, arg);
        at = rc->table->used == used ? (at + 1) & mask : pw_index_slot(rc->table, hash);
    }
}

/* The cheaper of two ways: ask for each run that the range touches, or look at all
 * regions. A region that lies in two runs is visited twice unless it is removed. */
void pw_index_overlaps(struct pw_cache *rc, struct pw_range range, visit_fn visit,
                       void *arg)
{
    uint64_t levels = rc->levels, runs = 0, l;

    for (l = levels; l; l &= l - 1) {
        unsigned level = (unsigned)__builtin_ctzl(l);
        runs += ((range.end - 1) >> level) - (range.start >> level) + 1;
    }
    if (runs > rc->count.regions) {
        visit_all(rc, range, visit, arg);
        return;
    }
    for (l = levels; l; l &= l - 1) {
        unsigned level = (unsigned)__builtin_ctzl(l);
        uintptr_t run = range.start >> level, end = (range.end - 1) >> level;

        for (; run <= end; run++)
            visit_run(rc, range, run << level, level, visit, arg);
    }
}
