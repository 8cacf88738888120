/* SPDX-License-Identifier: BSD-3-Clause */
/* fuzz_use.c - slots are got through the cache, and what is pinned is held against
 * what the program sees.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/cache/fuzz.h"

static size_t first_difference(const unsigned char *a, const unsigned char *b, size_t len)
{
    size_t i = 0;
    while (i < len && a[i] == b[i])
        i++;
    return i;
}

static void agree(struct worker *w, const unsigned char *memory,
                  const unsigned char *shadow, size_t len)
{
    if (!memcmp(memory, shadow, len))
        return;
    size_t at = first_difference(memory, shadow, len);
    mismatch(w, memory + at, "the program has %#x in its memory and wrote %#x; nobody "
             "else may have written there", memory[at], shadow[at]);
}

/* What a device has no business with: that the program's own view is right. */
void slot_agrees(struct worker *w, struct slot *s)
{
    agree(w, s->addr, s->shadow, s->len);
}

static void check_frames(struct worker *w, const struct pw_region *r, const void *addr,
                         size_t len)
{
    struct oracle_frame bad;
    if (!oracle_sees_frames(fuzz.oracle))
        return;
    int err = oracle_frames(fuzz.oracle, r, addr, len, &bad);
    if (err < 0) {
        errno = -err;
        trouble(w, "the frames cannot be read");
    }
    if (err)
        mismatch(w, (void *)bad.page, "region #%u %#lx-%#lx has frame %#llx pinned, the "
                 "program has %#llx", r->number, (unsigned long)r->start,
                 (unsigned long)r->end, (unsigned long long)bad.then,
                 (unsigned long long)bad.now);
}

/* NULL: refused for a reason that may be. */
static struct pw_region *get(struct worker *w, void *addr, size_t len, unsigned access)
{
    struct pw_region *r = NULL;
    uintptr_t start = (uintptr_t)addr;
    int err = pw_regcache_get(fuzz.cache, addr, len, access, &r);
    note(w, OP_GET, addr, len, err, err ? 0 : r->number);
    /* Linux 6.1 makes no fixed buffer of a System V segment, nor of memory of two kinds. */
    if (err == -ENOMEM || err == -EOPNOTSUPP || err == -EINVAL)
        w->refused++;
    else if (err == -EAGAIN)
        w->again++;
    else if (err)
        mismatch(w, addr, "memory is there, and get says %s", strerror(-err));
    if (err)
        return NULL;
    if (r->start > start || r->end < start + len || access & ~r->access)
        mismatch(w, addr, "region #%u %#lx-%#lx access %u was given for %zu bytes, access %u",
                 r->number, (unsigned long)r->start, (unsigned long)r->end, r->access,
                 len, access);
    return r;
}

static void put(struct worker *w, struct pw_region *r, const void *addr, size_t len)
{
    note(w, OP_PUT, addr, len, 0, r->number);
    pw_regcache_put(fuzz.cache, r);
}

static void io_went(struct worker *w, int err)
{
    if (!err)
        return;
    errno = -err;
    trouble(w, "I/O through the pin");
}

/* All of it, whole pages, or any bytes. */
static void some_range(struct worker *w, const struct slot *s, size_t *from, size_t *len)
{
    size_t pages = s->len / PAGE, how = below(w, 5);
    *from = 0;
    *len = s->len;
    if (how < 2 && s->kind != HUGE)
        return;
    if (how == 2 && pages) {
        *from = below(w, pages) * PAGE;
        *len = (1 + below(w, pages - *from / PAGE)) * PAGE;
    } else {
        *from = below(w, s->len);
        *len = 1 + below(w, s->len - *from);
    }
    if (*len > 64 << 10)
        *len = 64 << 10;
}

static unsigned some_access(struct worker *w, unsigned needed)
{
    return needed | (unsigned)below(w, 4);
}

/* The device writes; who calls has the slot for itself. */
static void bring(struct worker *w, unsigned char *addr, unsigned char *shadow, size_t len)
{
    struct pw_region *r = get(w, addr, len, some_access(w, PW_WRITE));
    if (!r)
        return;
    check_frames(w, r, addr, len);
    uint64_t x = draw(w) | 1;
    for (size_t i = 0; i < len; i++) {
        w->data[i] = (unsigned char)(x >> 56);
        x *= 6364136223846793005u;
        x += 1442695040888963407u;
    }
    io_went(w, oracle_in(fuzz.oracle, r, addr, len, w->data));
    note(w, OP_IN, addr, len, 0, r->number);
    if (memcmp(addr, w->data, len)) {
        size_t at = first_difference(addr, w->data, len);
        mismatch(w, addr + at, "READ_FIXED through region #%u brought %#x, the program sees "
                 "%#x", r->number, w->data[at], addr[at]);
    }
    memcpy(shadow, w->data, len);
    put(w, r, addr, len);
}

void use_in(struct worker *w, struct slot *s)
{
    size_t from, len;
    some_range(w, s, &from, &len);
    bring(w, s->addr + from, s->shadow + from, len);
}

static void check_out(struct worker *w, struct pw_region *r, unsigned char *addr,
                      const unsigned char *shadow, size_t len)
{
    check_frames(w, r, addr, len);
    io_went(w, oracle_out(fuzz.oracle, r, addr, len, w->data));
    note(w, OP_OUT, addr, len, 0, r->number);
    if (memcmp(w->data, shadow, len)) {
        size_t at = first_difference(w->data, shadow, len);
        mismatch(w, addr + at, "WRITE_FIXED through region #%u took %#x, the program wrote "
                 "%#x and sees %#x", r->number, w->data[at], shadow[at], addr[at]);
    }
}

/* The device reads; others may have the slot written out at the same time. */
void use_out(struct worker *w, struct slot *s)
{
    size_t from, len;
    some_range(w, s, &from, &len);
    unsigned char *addr = s->addr + from;
    struct pw_region *r = get(w, addr, len, some_access(w, PW_READ));
    if (!r)
        return;
    check_out(w, r, addr, s->shadow + from, len);
    put(w, r, addr, len);
    agree(w, addr, s->shadow + from, len);
}

/* Hit after hit. */
void use_look(struct worker *w, struct slot *s)
{
    size_t from, len;
    some_range(w, s, &from, &len);
    for (size_t n = 1 + below(w, 8); n > 0; n--) {
        struct pw_region *r = get(w, s->addr + from, len, some_access(w, PW_READ));
        if (!r)
            return;
        check_frames(w, r, s->addr + from, len);
        put(w, r, s->addr + from, len);
    }
    w->counts[OP_LOOK]++;
}

/* One range over two cells, the slots of which are shared with others. */
void use_span(struct worker *w, struct slot *s)
{
    struct slot *t = s->kind == CELL && s->len == CELL_LEN ? slot_of_cell(s->cell + 1) : NULL;
    if (!t || t == s || !slot_share(t))
        return;
    if (t->kind == CELL && t->addr == s->addr + s->len) {
        size_t before = 1 + below(w, s->len), behind = 1 + below(w, t->len);
        unsigned char *addr = t->addr - before;
        struct pw_region *r = get(w, addr, before + behind, PW_READ);
        if (r) {
            check_out(w, r, addr, s->shadow + s->len - before, before);
            check_out(w, r, t->addr, t->shadow, behind);
            put(w, r, addr, before + behind);
        }
        w->counts[OP_SPAN]++;
    }
    slot_leave(t);
}

static struct held *held_take(struct worker *w)
{
    struct held *h = &fuzz.held[below(w, HELD_MAX)];
    return __atomic_exchange_n(&h->busy, 1, __ATOMIC_ACQUIRE) ? NULL : h;
}

static void held_leave(struct held *h) { __atomic_store_n(&h->busy, 0, __ATOMIC_RELEASE); }

static void held_put(struct worker *w, struct held *h)
{
    if (h->region)
        put(w, h->region, (void *)h->start, h->end - h->start);
    h->region = NULL;
}

/* To be put later, whatever becomes of the memory meanwhile. */
void use_hold(struct worker *w, struct slot *s)
{
    struct held *h = held_take(w);
    if (!h)
        return;
    held_put(w, h);
    size_t from, len;
    some_range(w, s, &from, &len);
    h->region = get(w, s->addr + from, len, some_access(w, PW_READ));
    h->start = (uintptr_t)(s->addr + from);
    h->end = h->start + len;
    w->counts[OP_HOLD]++;
    held_leave(h);
}

void held_put_some(struct worker *w)
{
    struct held *h = held_take(w);
    if (!h)
        return;
    held_put(w, h);
    held_leave(h);
}

/* When no other thread runs any more. */
void held_put_all(struct worker *w)
{
    for (unsigned i = 0; i < HELD_MAX; i++)
        held_put(w, &fuzz.held[i]);
}

/* Who has the slot changes it while we get it. Whatever comes of that, the next get
 * of it must be right: pages that went while they were pinned are not remembered. */
void use_in_race(struct worker *w, const struct slot *s)
{
    unsigned char *addr = __atomic_load_n(&s->addr, __ATOMIC_RELAXED);
    size_t len = __atomic_load_n(&s->len, __ATOMIC_RELAXED);
    size_t pages = addr && len <= SLOT_MAX ? len / PAGE : 0;
    for (size_t n = below(w, 8); n > 0 && pages > 0; n--) {
        struct pw_region *r;
        size_t from = below(w, 2) ? 0 : below(w, pages) * PAGE;
        len = below(w, 2) ? (pages * PAGE - from) : PAGE;
        int err = pw_regcache_get(fuzz.cache, addr + from, len, PW_READ | PW_WRITE, &r);
        note(w, OP_RACE, addr + from, len, err, err ? 0 : r->number);
        if (!err)
            put(w, r, addr + from, len);
    }
}

/* Memory that is in no slot: the caller's alone. */
void use_memory(struct worker *w, unsigned char *addr, size_t len)
{
    struct pw_region *r = get(w, addr, len, PW_READ | PW_WRITE);
    if (!r)
        return;
    check_frames(w, r, addr, len);
    memset(addr, (int)below(w, 256), len);
    io_went(w, oracle_out(fuzz.oracle, r, addr, len, w->data));
    if (memcmp(addr, w->data, len))
        mismatch(w, addr, "WRITE_FIXED through region #%u took something else than the "
                 "program wrote", r->number);
    put(w, r, addr, len);
}
