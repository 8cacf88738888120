/* SPDX-License-Identifier: BSD-3-Clause */
/* serve_fuzz.c - a peer that makes up requests, answers and data, nearly right.
 *
 * Side a does its work honestly, and between that sends what comes to its mind: with
 * numbers that are in use, keys that hold, places that nearly do. Side b meanwhile has
 * operations of its own. Whatever comes, only memory changes that a may change: the
 * regions, and what b is getting, until it was told that it has it.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "tests/unit/draw.h"
#include "tests/unit/pair.h"

enum { LEN = 256, REGIONS = 4, OPS = 4, FRAMES = 30000, STRIP = 0x5a, REST = 0x66 };

/* In the middle of it, strips on both sides. */
struct region {
    uint8_t all[3 * LEN];
    struct pw_key key;
    unsigned access;
    bool gone;              /* registered once */
};

struct op {
    uint8_t all[3 * LEN];
    struct pair_outcome done;
    bool open;
};

struct rig {
    struct pair p;
    struct region region[REGIONS];
    struct region theirs;   /* a's, which b works on */
    struct op op[OPS];
    bool had_some;          /* a put was under way to the region that left */
    uint64_t state;
};

static uint64_t at(const uint8_t *all)
{
    return (uint64_t)(uintptr_t)all + LEN;
}

static bool filled(const uint8_t *p, size_t len, uint8_t with)
{
    for (size_t i = 0; i < len; i++)
        if (p[i] != with)
            return false;
    return true;
}

static void region_open(struct region *m, struct pw_engine *e, unsigned access)
{
    memset(m->all, STRIP, sizeof m->all);
    m->access = access;
    cr_assert(eq(int, pw_engine_register(e, m->all + LEN, LEN, access, false, &m->key), 0));
}

static void rig_open(struct rig *r)
{
    static const unsigned access[REGIONS] = { PW_READ | PW_WRITE | PW_ATOMIC, PW_READ,
                                              PW_WRITE, PW_WRITE };

    memset(r, 0, sizeof *r);
    pair_open(&r->p, &(struct pair_plan){ .chunk = 64 });
    for (int i = 0; i < REGIONS; i++)
        region_open(&r->region[i], r->p.b.e, access[i]);
    region_open(&r->theirs, r->p.a.e, PW_READ | PW_WRITE | PW_ATOMIC);
    for (int i = 0; i < OPS; i++)
        memset(r->op[i].all, REST, sizeof r->op[i].all);
}

/* ---- b's own work ---- */

static void op_start(struct rig *r, struct op *o)
{
    struct pw_atomic add = { .op = PW_ATOMIC_ADD, .type = PW_INT64, .operand = 1 };
    uint64_t x = draw(&r->state), remote = at(r->theirs.all);
    size_t len = 1 + (x >> 8) % LEN;
    struct pw_endpoint *ep = r->p.b.ep;
    int err;

    cr_assert(filled(o->all, sizeof o->all, REST), "written to after its end");
    memset(o->all, STRIP, sizeof o->all);
    o->done = (struct pair_outcome){ 0 };
    if (x % 3 == 0)
        err = pw_endpoint_get(ep, o->all + LEN, remote, len, &r->theirs.key, pair_done,
                              &o->done);
    else if (x % 3 == 1)
        err = pw_endpoint_put(ep, o->all + LEN, remote, len, &r->theirs.key, pair_done,
                              &o->done);
    else
        err = pw_endpoint_atomic(ep, &add, remote + (-remote & 7),
                                 (uint64_t *)(void *)(o->all + LEN + (-at(o->all) & 7)),
                                 &r->theirs.key, pair_done, &o->done);
    cr_assert(eq(int, err, PW_NIC_PENDING));
    o->open = true;
}

static void ops_step(struct rig *r)
{
    for (int i = 0; i < OPS; i++) {
        struct op *o = &r->op[i];

        if (o->open && o->done.calls) {
            cr_assert(eq(uint, o->done.calls, 1));
            cr_assert(filled(o->all, LEN, STRIP) && filled(o->all + 2 * LEN, LEN, STRIP));
            memset(o->all, REST, sizeof o->all);
            o->open = false;
        } else if (!o->open && draw(&r->state) % 4 == 0) {
            op_start(r, o);
        }
    }
}

/* ---- what a makes up ---- */

/* Its own numbers, or one that b has given. */
static uint64_t some_id(struct rig *r)
{
    struct pw_engine *e = r->p.b.e;
    uint64_t x = draw(&r->state);

    if (x % 4 == 0)
        return x;
    if (x % 4 == 1 && e->n_ops)
        return e->ops[(x >> 8) % e->n_ops]->id;
    return 1000 + (x >> 8) % 6;
}

static uint64_t some_len(struct rig *r)
{
    uint64_t x = draw(&r->state);

    return x % 16 == 0 ? x : x % 16 == 1 ? 0 : x % 8 == 2 ? LEN + (x >> 8) % 3 - 1 :
           1 + (x >> 8) % 100;
}

static size_t make_request(struct rig *r, void *frame)
{
    uint64_t x = draw(&r->state);
    struct region *m = &r->region[x % REGIONS];
    struct pw_f_request f = {
        .id = some_id(r), .len = some_len(r), .key = m->key.id,
        .remote = at(m->all) + (x >> 8) % (LEN + 20) - 10,
        .offer = x >> 20 & 3 ? 0 : draw(&r->state),
    };

    memcpy(frame, &f, sizeof f);
    return sizeof f;
}

static size_t make_atomic(struct rig *r, void *frame)
{
    uint64_t x = draw(&r->state);
    struct region *m = &r->region[x % REGIONS];
    struct pw_f_atomic f = {
        .id = some_id(r), .key = m->key.id, .op = (x >> 8) % 13, .type = (x >> 16) % 6,
        .remote = at(m->all) + (x >> 24) % (LEN + 20) - 10, .operand = x, .compare = x,
    };

    memcpy(frame, &f, sizeof f);
    return sizeof f;
}

/* The next piece of some put that a has announced, or get that b is doing. */
static void next_piece(struct rig *r, unsigned kind, struct pw_f_data *f)
{
    struct pw_engine *e = r->p.b.e;
    struct pw_incoming *in = r->p.b.ep->incoming;

    if (kind == PW_F_PUT_DATA) {
        for (uint64_t skip = draw(&r->state) % 8; skip && in && in->next; skip--)
            in = in->next;
        if (in)
            *f = (struct pw_f_data){ in->id, in->moved };
    } else if (e->n_ops) {
        struct pw_op *op = e->ops[draw(&r->state) % e->n_ops];
        *f = (struct pw_f_data){ op->id, op->moved };
    }
}

static size_t make_data(struct rig *r, unsigned kind, void *frame)
{
    uint64_t x = draw(&r->state);
    struct pw_f_data f = { .id = some_id(r), .offset = x >> 40 & 63 };

    if (x % 4)
        next_piece(r, kind, &f);
    if (x % 16 == 15)
        f.offset++;
    memcpy(frame, &f, sizeof f);
    return sizeof f + (x >> 8) % (x >> 32 & 7 ? 40 : 400);
}

static size_t make_done(struct rig *r, void *frame)
{
    uint64_t x = draw(&r->state);
    struct pw_f_done f = { .id = some_id(r), .result = x,
                           .status = x % 4 ? -(int64_t)(x >> 8 & 255) : (int64_t)x };

    memcpy(frame, &f, sizeof f);
    return sizeof f;
}

static void make_up(struct rig *r)
{
    uint8_t frame[512];
    uint64_t x = draw(&r->state);
    unsigned kind = 1 + x % 7;
    size_t len;

    memset(frame, (int)(x >> 8), sizeof frame);
    switch (kind) {
    case PW_F_GET:
    case PW_F_PUT: len = make_request(r, frame); break;
    case PW_F_ATOMIC: len = make_atomic(r, frame); break;
    case PW_F_GET_DATA:
    case PW_F_PUT_DATA: len = make_data(r, kind, frame); break;
    case PW_F_DONE: len = make_done(r, frame); break;
    default: len = (x >> 16) % 20; break;
    }
    if (x >> 40 & 31)
        pair_forge(&r->p.a, pw_imm(kind, 0, 0), frame, len);
    else
        pair_forge(&r->p.a, pw_imm(x >> 50 & 0x7f, 0, 0), frame, (x >> 32) % sizeof frame);
}

/* ---- */

static void regions_check(struct rig *r)
{
    for (int i = 0; i < REGIONS; i++) {
        struct region *m = &r->region[i];

        cr_assert(filled(m->all, LEN, STRIP), "before region %d", i);
        cr_assert(filled(m->all + 2 * LEN, LEN, STRIP), "behind region %d", i);
        if (!(m->access & PW_WRITE) || m->gone)
            cr_assert(filled(m->all + LEN, LEN, STRIP), "in region %d", i);
    }
}

/* In mid-traffic one is given back, and its memory is somebody else's. */
static void region_leave(struct rig *r, struct region *m)
{
    struct pw_incoming *in = r->p.b.ep->incoming;

    while (in && (in->key != m->key.id || in->len - in->moved < 8))
        in = in->next;
    r->had_some = in != NULL;
    pw_engine_deregister(r->p.b.e, &m->key);
    memset(m->all, STRIP, sizeof m->all);
    m->gone = true;
}

Test(serve_fuzz, what_is_made_up_changes_nothing_but_what_may_be_changed, .timeout = 120)
{
    static struct rig r;
    bool written;

    rig_open(&r);
    for (unsigned n = 0; n < FRAMES; n++) {
        make_up(&r);
        ops_step(&r);
        pair_turns(&r.p, 1);
        if (n % 64 == 0)
            regions_check(&r);
        if (n == FRAMES / 2)
            region_leave(&r, &r.region[3]);
    }
    written = !filled(r.region[0].all + LEN, LEN, STRIP) &&
              !filled(r.region[2].all + LEN, LEN, STRIP);
    cr_expect(written, "some of it was a good put");
    cr_expect(r.had_some, "and one was cut off");
    cr_expect(eq(uint, r.p.a.deaths + r.p.b.deaths, 0));
    pair_turns(&r.p, 100);
    cr_expect(eq(int, pair_send(&r.p.a, r.p.b.received), 0));
    pair_turns(&r.p, 5);
    regions_check(&r);
    pair_close(&r.p);
}
