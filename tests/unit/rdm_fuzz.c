/* SPDX-License-Identifier: BSD-3-Clause */
/* rdm_fuzz.c - a peer of the backends over libfabric and UCX that says what it likes,
 * beside one that does not.
 *
 * v is between two: good, to which it must not lose anything, and bad, which is another one
 * in each life. bad sends, puts and gets as honest ones do, but its messages are lost,
 * doubled, late, cut or changed on their way, and others are made up (rdm_fuzz_wire.c).
 * Whatever comes: of v's memory only changes what bad may write, or what v was getting; each
 * operation ends once, the connection ends once, and what v keeps for anybody is bounded.
 *
 * One thread, a clock that moves when it is looked at, keys and tokens from the seed: a run
 * is the same each time. PW_FUZZ_SECONDS=600 goes on for so long, PW_FUZZ_SEED=N begins
 * there; each run tells its seed before it begins.
 */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "pinwheel/clock.h"
#include "rdm_fuzz.h"

enum { LEN = 100000, STRIP = 256, GUARD = 0x5a, REST = 0x66, OPS = 4, STEPS = 80,
       LIVES = 12, RUNS = 12, FRAME = 3000, PATIENCE_MS = 2000 };

/* ---- what is the same each time ---- */

int __real_clock_gettime(clockid_t id, struct timespec *out);
int __wrap_clock_gettime(clockid_t id, struct timespec *out);
ssize_t __wrap_getrandom(void *to, size_t len, unsigned flags);
int __wrap_rdm_thread_start(struct rdm_nic *nic);
int __wrap_usleep(unsigned us);

static uint64_t now_ns = 1000000000, random_state;

int __wrap_clock_gettime(clockid_t id, struct timespec *out)
{
    (void)id;
    now_ns += 500;
    *out = (struct timespec){ .tv_sec = (time_t)(now_ns / 1000000000),
                              .tv_nsec = (long)(now_ns % 1000000000) };
    return 0;
}

int __wrap_usleep(unsigned us)
{
    now_ns += us * UINT64_C(1000);
    return 0;
}

ssize_t __wrap_getrandom(void *to, size_t len, unsigned flags)
{
    (void)flags;
    for (size_t i = 0; i < len; i++)
        ((uint8_t *)to)[i] = (uint8_t)draw(&random_state);
    return (ssize_t)len;
}

int __wrap_rdm_thread_start(struct rdm_nic *nic)
{
    (void)nic;
    return 0;
}

/* ---- who there is ---- */

struct area {
    uint8_t *all;               /* a strip, LEN bytes, a strip */
    struct pw_nic_key key;
    bool pinned;
};

struct op {
    uint8_t *all;
    uint64_t number;            /* of the bytes that it moves */
    size_t len;
    bool open, done, put;
    int status;
};

/* One end of a connection. */
struct link {
    struct pw_nic_peer *peer;
    bool honest;
    unsigned ups, downs;
    int cause;
    uint32_t sent, heard;
    struct op ops[OPS];
};

enum { ALL_ITS, READ_ONLY, WRITE_ONLY, LEAVES, GOODS, NOBODYS, AREAS };

static struct fuzz {
    const struct pw_nic_ops *ops;
    uint64_t state, seed;
    struct pw_nic *v, *good, *bad;
    struct link v_good, v_bad, good_v, bad_v;
    struct area area[AREAS];    /* v's */
    struct area goods, bads;    /* theirs, for v */
    bool bad_calls;             /* v has heard of it */
    unsigned resets, written, broken, refused, whole;
} f;

_Static_assert((int)AREAS == (int)FUZZ_KEYS, "all have a key");

static void hold(bool ok, const char *what)
{
    cr_assert(ok, "seed %llu: %s", (unsigned long long)f.seed, what);
}

static uint64_t pick(uint64_t n)
{
    return draw(&f.state) % n;
}

static void fill(uint8_t *p, size_t len, uint64_t number)
{
    for (size_t i = 0; i < len; i++)
        p[i] = (uint8_t)(number * 131 + i * 7 + i / 253);
}

static bool filled(const uint8_t *p, size_t len, uint64_t number)
{
    for (size_t i = 0; i < len; i++)
        if (p[i] != (uint8_t)(number * 131 + i * 7 + i / 253))
            return false;
    return true;
}

static bool all_are(const uint8_t *p, size_t len, uint8_t byte)
{
    return !len || (p[0] == byte && !memcmp(p, p + 1, len - 1));
}

/* ---- upcalls ---- */

static void up_recv(void *ctx, void *cookie, uint32_t imm, const void *data, size_t len)
{
    struct link *l = cookie;
    uint8_t *copy = malloc(len ? len : 1);

    (void)ctx;
    if (len)
        memcpy(copy, data, len);
    if (l->honest) {
        hold(imm == l->heard, "one is lost, or comes twice");
        hold(filled(copy, len, imm), "a frame of others' bytes");
        l->heard++;
    }
    hold(!l->downs, "a frame of one that is down");
    free(copy);
}

static void up_complete(void *ctx, void *op, int status)
{
    struct op *o = op;

    (void)ctx;
    hold(o->open && !o->done, "an operation ends twice");
    o->done = true;
    o->status = status;
}

static void up_down(void *ctx, void *cookie, int cause, const char *why)
{
    struct link *l = cookie;

    (void)ctx;
    hold(why[0] && !l->downs, "a connection ends twice");
    l->downs++;
    l->cause = cause;
}

static void up_up(void *ctx, void *cookie)
{
    (void)ctx;
    ((struct link *)cookie)->ups++;
}

static void up_caller(void *ctx, struct pw_nic *nic, const void *addr, size_t len)
{
    (void)ctx;
    (void)addr;
    (void)len;
    if (nic == f.v)
        f.bad_calls = true;
}

static const struct pw_nic_upcalls upcalls = {
    .recv = up_recv, .complete = up_complete, .down = up_down, .up = up_up,
    .caller = up_caller,
};

static struct pw_nic *nic_open(void)
{
    struct pw_nic_config config = { .up = &upcalls, .peer_timeout_ms = PATIENCE_MS };
    struct pw_nic *nic = NULL;

    cr_assert(eq(int, f.ops->open(&config, &nic), 0));
    return nic;
}

static void link_open(struct pw_nic *from, struct pw_nic *to, struct link *l)
{
    uint8_t address[PW_NIC_ADDRESS_MAX];
    size_t len = f.ops->address(to, address);
    bool honest = l->honest;

    for (int i = 0; i < OPS; i++)
        free(l->ops[i].all);
    *l = (struct link){ .honest = honest };
    for (int i = 0; i < OPS; i++) {
        l->ops[i].all = malloc(LEN + 2 * STRIP);
        memset(l->ops[i].all, REST, LEN + 2 * STRIP);
    }
    cr_assert(eq(int, f.ops->connect(from, address, len, l, &l->peer), 0));
}

static void turn(unsigned ms)
{
    now_ns += ms * UINT64_C(1000000);
    f.ops->progress(f.v);
    f.ops->progress(f.good);
    if (f.bad)
        f.ops->progress(f.bad);
}

/* ---- memory ---- */

static void area_open(struct area *a, struct pw_nic *nic, unsigned access)
{
    a->all = malloc(LEN + 2 * STRIP);
    memset(a->all, GUARD, LEN + 2 * STRIP);
    cr_assert(eq(int, f.ops->pin(nic, a->all + STRIP, LEN, access, &a->key), 0));
    a->pinned = true;
}

static void area_unpin(struct area *a, struct pw_nic *nic)
{
    if (a->pinned)
        f.ops->unpin(nic, a->all + STRIP, LEN, &a->key);
    a->pinned = false;
}

static void area_close(struct area *a, struct pw_nic *nic)
{
    area_unpin(a, nic);
    free(a->all);
}

static void areas_check(void)
{
    static const char *const names[AREAS] = {
        "", "written where it may only read", "", "written to what was given back", "",
        "written without a key"
    };

    for (int i = 0; i < AREAS; i++) {
        const struct area *a = &f.area[i];
        bool kept = i == READ_ONLY || i == NOBODYS || (i == LEAVES && !a->pinned);

        hold(all_are(a->all, STRIP, GUARD) && all_are(a->all + STRIP + LEN, STRIP, GUARD),
             "written beside memory that is registered");
        hold(!kept || all_are(a->all + STRIP, LEN, GUARD), names[i]);
    }
    f.written += !all_are(f.area[ALL_ITS].all + STRIP, LEN, GUARD);
}

/* ---- operations ---- */

static void op_end(struct link *l, struct op *o)
{
    const uint8_t *at = o->all + STRIP;

    hold(all_are(o->all, STRIP, GUARD) && all_are(at + LEN, STRIP, GUARD),
         "written beside what was to be got");
    hold(o->put || all_are(at + o->len, LEN - o->len, GUARD), "more is written than got");
    hold(!o->put || filled(at, LEN, o->number), "written to what is put");
    hold(!l->honest || !o->status || l->downs, "an operation with good fails");
    f.refused += !l->honest && o->status == -EFAULT;
    memset(o->all, REST, LEN + 2 * STRIP);
    o->open = o->done = false;
}

static void op_begin(struct link *l, struct op *o, const struct pw_nic_key *key)
{
    struct rdm_key k;
    size_t len = pick(4) ? 1 + pick(2000) : 1 + pick(LEN);
    uint64_t at;
    int err;

    memcpy(&k, key, sizeof(k));
    at = k.base + pick(k.len - len + 1);
    hold(all_are(o->all, LEN + 2 * STRIP, REST), "written after its end");
    memset(o->all, GUARD, LEN + 2 * STRIP);
    o->put = pick(2);
    o->len = len;
    o->number = draw(&f.state);
    o->open = true;
    if (o->put)
        fill(o->all + STRIP, LEN, o->number);
    err = o->put ? f.ops->put(l->peer, o->all + STRIP, at, len, key, o)
                 : f.ops->get(l->peer, o->all + STRIP, at, len, key, o);
    if (err != PW_NIC_PENDING) {
        memset(o->all, REST, LEN + 2 * STRIP);
        o->open = false;
    }
}

static void link_work(struct link *l, const struct pw_nic_key *key)
{
    uint8_t bytes[FRAME];
    size_t len = pick(FRAME);
    struct pw_iov iov = { bytes, len };

    fill(bytes, len, l->sent);
    for (int i = 0; i < OPS; i++) {
        struct op *o = &l->ops[i];

        if (o->open && o->done)
            op_end(l, o);
        else if (!o->open && !l->downs && !pick(4))
            op_begin(l, o, key);
    }
    if (!l->downs && pick(2) && !f.ops->send(l->peer, l->sent, &iov, 1, NULL))
        l->sent++;
}

/* All of them have been told of. */
static void link_settled(struct link *l)
{
    for (int i = 0; i < OPS; i++) {
        hold(!l->ops[i].open || l->ops[i].done, "an operation does not end");
        if (l->ops[i].open)
            op_end(l, &l->ops[i]);
    }
}

/* What is disconnected is not told of, and not touched any more. */
static void link_drop(struct link *l)
{
    f.ops->disconnect(l->peer);
    for (int i = 0; i < OPS; i++)
        if (l->ops[i].open)
            memset(l->ops[i].all, REST, LEN + 2 * STRIP);
}

/* ---- bounds ---- */

static unsigned list_len(const struct rdm_rx *rx)
{
    unsigned n = 0;

    for (; rx; rx = rx->next)
        n++;
    return n;
}

static void bounds_check(void)
{
    const struct rdm_nic *nic = (const struct rdm_nic *)f.v;

    hold(nic->n_peers < 300, "peers");
    for (const struct rdm_peer *peer = nic->peers; peer; peer = peer->next) {
        unsigned owed = 0, pulls = 0;

        for (const struct rdm_owed *o = peer->owed; o; o = o->next)
            owed++;
        for (const struct rdm_pull *p = peer->pulls; p; p = p->next)
            pulls++;
        hold(list_len(peer->in) + list_len(peer->early) < RDM_WINDOW + 2, "messages");
        hold(owed < RDM_WINDOW + 2, "answers");
        hold(pulls < RDM_WINDOW + 2, "puts");
        hold(peer->n_serves < 4097, "gets");
    }
}

/* ---- a life ---- */

/* A reset, which bad may bring about, ends that of good, too: they connect anew. */
static void good_again(void)
{
    if (!f.v_good.downs && !f.good_v.downs)
        return;
    hold(f.ops == &fake_reads && f.v->counts.reconnects, "good is lost");
    f.resets++;
    for (unsigned i = 0; i < 5000 && !(f.v_good.downs && f.good_v.downs); i++)
        turn(1);
    hold(f.v_good.downs && f.good_v.downs, "good does not hear of it");
    link_settled(&f.v_good);
    link_settled(&f.good_v);
    f.ops->disconnect(f.v_good.peer);
    f.ops->disconnect(f.good_v.peer);
    link_open(f.v, f.good, &f.v_good);
    link_open(f.good, f.v, &f.good_v);
}

static void life_begin(void)
{
    f.bad = nic_open();
    f.bad_calls = false;
    area_open(&f.bads, f.bad, PW_READ | PW_WRITE);
    link_open(f.bad, f.v, &f.bad_v);
    if (pick(2))
        link_open(f.v, f.bad, &f.v_bad);
    for (unsigned i = 0; i < 1000 && !f.v_bad.peer; i++) {
        turn(1);
        if (f.bad_calls)
            link_open(f.v, f.bad, &f.v_bad);
    }
    hold(f.v_bad.peer, "nobody has called");
    mouth.bad = (struct rdm_nic *)f.bad;
    mouth.to = (struct rdm_peer *)f.bad_v.peer;
    mouth.seen = (struct rdm_peer *)f.v_bad.peer;
    mouth.manner = (enum fuzz_manner)pick(FUZZ_MANNERS);
    mouth.spoil_in = 1u << (1 + pick(8));
}

static void life_step(void)
{
    link_work(&f.v_good, &f.goods.key);
    link_work(&f.good_v, &f.area[GOODS].key);
    link_work(&f.v_bad, &f.bads.key);
    link_work(&f.bad_v, &mouth.keys[pick(8) ? ALL_ITS : pick(AREAS)]);
    for (uint64_t n = f.bad_v.downs ? 0 : pick(5); n; n--)
        if (!pick(8))
            fuzz_make_up(&mouth);
    if (!pick(30))
        fake_port_full(fake_port_of(f.v), true);
    else if (!pick(4))
        fake_port_full(fake_port_of(f.v), false);
    if (!pick(30))
        fake_port_reads(fake_port_of(f.v), (unsigned)pick(2));
    else if (!pick(4))
        fake_port_reads(fake_port_of(f.v), UINT32_MAX);
    turn((unsigned)pick(3));
    bounds_check();
    good_again();
}

static void area_leaves(void)
{
    area_unpin(&f.area[LEAVES], f.v);
    memset(f.area[LEAVES].all + STRIP, GUARD, LEN);
}

/* With what it has pinned. */
static void bad_close(void)
{
    f.ops->close(f.bad);
    free(f.bads.all);
    f.bad = NULL;
}

static void life_end(void)
{
    fake_port_full(fake_port_of(f.v), false);
    fake_port_reads(fake_port_of(f.v), UINT32_MAX);
    mouth.to = NULL;
    if (pick(2))
        bad_close();
    for (unsigned i = 0; i < 10000 && !f.v_bad.downs && !f.bad; i++) {
        turn(1);
        good_again();
    }
    hold(f.v_bad.downs || f.bad, "it has left, and is not lost");
    f.broken += f.v_bad.downs && f.v_bad.cause == -EPROTO;
    if (f.v_bad.downs)
        link_settled(&f.v_bad);
    mouth.seen = NULL;
    link_drop(&f.v_bad);
    f.v_bad.peer = NULL;
    mouth.bad = NULL;
    if (f.bad) {
        link_drop(&f.bad_v);
        bad_close();
    }
    fuzz_forget(&mouth);
}

static void life(unsigned n)
{
    life_begin();
    for (unsigned i = 0; i < STEPS && !f.v_bad.downs; i++) {
        life_step();
        if (n == LIVES / 2 && i == STEPS / 3)
            area_leaves();
    }
    f.whole += !f.v_bad.downs;
    life_end();
    areas_check();
}

/* ---- a run ---- */

static void link_free(struct link *l)
{
    for (int i = 0; i < OPS; i++)
        free(l->ops[i].all);
    memset(l, 0, sizeof(*l));
}

static void run_open(void)
{
    static const unsigned access[AREAS] = {
        PW_READ | PW_WRITE, PW_READ, PW_WRITE, PW_READ | PW_WRITE, PW_READ | PW_WRITE,
        PW_READ | PW_WRITE,
    };

    f.v = nic_open();
    f.good = nic_open();
    f.v_good.honest = f.good_v.honest = true;
    for (int i = 0; i < AREAS; i++) {
        area_open(&f.area[i], f.v, access[i]);
        mouth.keys[i] = f.area[i].key;
    }
    /* Of those that are not for it, it knows where they are and no more. */
    for (uint64_t i = GOODS; i < AREAS; i++)
        memcpy(mouth.keys[i].bytes + offsetof(struct rdm_key, key), &i, sizeof(i));
    area_open(&f.goods, f.good, PW_READ | PW_WRITE);
    link_open(f.v, f.good, &f.v_good);
    link_open(f.good, f.v, &f.good_v);
}

static void run_close(void)
{
    const struct link *v = &f.v_good, *good = &f.good_v;

    for (unsigned i = 0; i < 3000 && (good->heard != v->sent || v->heard != good->sent); i++)
        turn(1);
    hold(good->heard == v->sent && v->heard == good->sent, "good has lost something");
    for (int i = 0; i < AREAS; i++)
        area_close(&f.area[i], f.v);
    area_close(&f.goods, f.good);
    f.ops->close(f.good);
    f.ops->close(f.v);
    link_free(&f.v_good);
    link_free(&f.good_v);
    link_free(&f.v_bad);
    link_free(&f.bad_v);
}

static void run(uint64_t seed)
{
    fprintf(stderr, "# seed %llu\n", (unsigned long long)seed);
    f.seed = seed;
    f.state = seed;
    random_state = mouth.state = seed * 2 + 1;
    run_open();
    for (unsigned n = 0; n < LIVES; n++)
        life(n);
    run_close();
}

static uint64_t number_of(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text ? strtoull(text, NULL, 10) : otherwise;
}

static uint64_t real_seconds(void)
{
    struct timespec t;

    __real_clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec;
}

/* One thread, so that ThreadSanitizer, which takes thirty times as long, has little to find. */
#ifdef __SANITIZE_THREAD__
enum { SEEDS = 2 };
#else
enum { SEEDS = RUNS };
#endif

static void runs(const struct pw_nic_ops *ops)
{
    uint64_t first = number_of("PW_FUZZ_SEED", 1), seconds = number_of("PW_FUZZ_SECONDS", 0);
    uint64_t until = real_seconds() + seconds, n = 0;

    f.ops = ops;
    fake_port_wire = fuzz_wire;
    while (seconds ? real_seconds() < until : n < (getenv("PW_FUZZ_SEED") ? 1 : SEEDS))
        run(first + n++);
    fprintf(stderr, "# %u spoilt, %u lives broken off, %u whole, %u times refused, "
            "%u written, %u resets\n", mouth.spoilt, f.broken, f.whole, f.refused, f.written,
            f.resets);
    if (n < RUNS)
        return;
    cr_expect(lt(uint, LIVES, f.broken), "some of what is said is nonsense");
    cr_expect(lt(uint, LIVES, f.whole), "and some is not");
    cr_expect(lt(uint, 10, f.refused), "some is not allowed");
    cr_expect(lt(uint, LIVES, f.written), "and some is a good put");
}

Test(rdm_fuzz, a_peer_that_lies_where_memory_is_read, .timeout = 86400)
{
    runs(&fake_reads);
}

Test(rdm_fuzz, a_peer_that_lies_where_there_is_both, .timeout = 86400)
{
    runs(&fake_both);
}

Test(rdm_fuzz, a_peer_that_lies_where_all_is_messages, .timeout = 86400)
{
    runs(&fake_streams);
}
