/* SPDX-License-Identifier: BSD-3-Clause */
/* atomic_cases.c - every operation and type against a model of our own, bad
 * requests, and several processes at one word. */
#include <errno.h>
#include <math.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "party.h"

enum { OPS = PW_ATOMIC_CSWAP + 1, TYPES = PW_DOUBLE + 1, WORDS = 8, MIDDLE = 4 };

static void need_atomic(const struct rig *rig)
{
    if (!(rig->nic->info.flags & PW_NIC_ATOMIC))
        case_skip("%s has no atomics", rig->subject->name);
}

static bool is_float(enum pw_atomic_type type)
{
    return type == PW_FLOAT || type == PW_DOUBLE;
}

static size_t width_of(enum pw_atomic_type type)
{
    return type == PW_INT64 || type == PW_DOUBLE ? 8 : 4;
}

static bool op_exists(enum pw_atomic_op op, enum pw_atomic_type type)
{
    return !is_float(type) || op == PW_ATOMIC_ADD || op == PW_ATOMIC_SWAP ||
           op == PW_ATOMIC_MIN || op == PW_ATOMIC_MAX || op == PW_ATOMIC_CSWAP;
}

/* ---- the model ---- */

static uint64_t model_int(enum pw_atomic_op op, int64_t old, int64_t x)
{
    uint64_t a = (uint64_t)old, b = (uint64_t)x;

    switch (op) {
    case PW_ATOMIC_ADD: return a + b;
    case PW_ATOMIC_AND: return a & b;
    case PW_ATOMIC_OR: return a | b;
    case PW_ATOMIC_XOR: return a ^ b;
    case PW_ATOMIC_LAND: return a != 0 ? b != 0 : 0;
    case PW_ATOMIC_LOR: return a != 0 ? 1 : b != 0;
    case PW_ATOMIC_LXOR: return (a != 0) != (b != 0);
    case PW_ATOMIC_MIN: return old <= x ? a : b;
    case PW_ATOMIC_MAX: return old >= x ? a : b;
    default: return b;
    }
}

static double model_float(enum pw_atomic_op op, double old, double x)
{
    switch (op) {
    case PW_ATOMIC_ADD: return old + x;
    case PW_ATOMIC_MIN: return fmin(old, x);
    case PW_ATOMIC_MAX: return fmax(old, x);
    default: return x;
    }
}

static uint64_t bits_of(enum pw_atomic_type type, double value)
{
    float single = (float)value;
    uint64_t bits = 0;

    if (type == PW_FLOAT)
        memcpy(&bits, &single, sizeof single);
    else
        memcpy(&bits, &value, sizeof value);
    return bits;
}

static uint64_t keep_low(enum pw_atomic_type type, uint64_t bits)
{
    return width_of(type) == 4 ? (uint32_t)bits : bits;
}

/* ---- one operation ---- */

/* An operation, what is in memory before it, and what shall be after. */
struct trial {
    struct pw_atomic what;
    uint64_t before, after;
};

static struct trial trial_make(enum pw_atomic_op op, enum pw_atomic_type type,
                               int64_t old, int64_t x, bool match)
{
    struct trial t = { .what = { .op = op, .type = type } };

    if (is_float(type)) {
        double a = type == PW_FLOAT ? (float)old / 4 : (double)old / 4;
        double b = type == PW_FLOAT ? (float)x / 4 : (double)x / 4;

        t.before = bits_of(type, a);
        t.what.operand = bits_of(type, b);
        t.after = bits_of(type, model_float(op, a, b));
    } else {
        t.before = keep_low(type, (uint64_t)old);
        t.what.operand = keep_low(type, (uint64_t)x);
        t.after = keep_low(type, model_int(op, old, x));
    }
    if (op == PW_ATOMIC_CSWAP) {
        t.what.compare = match ? t.before : t.before ^ 1;
        t.after = match ? t.what.operand : t.before;
    }
    return t;
}

/* Words around the target keep their bits. */
static void trial_run(struct conn *conn, struct window *w, const struct trial *t)
{
    enum pw_atomic_type type = t->what.type;
    uint64_t words[WORDS], result = 0x1122334455667788u;
    size_t offset = MIDDLE * 8 + (width_of(type) == 4 ? 4 : 0);
    bool exists = op_exists(t->what.op, type);
    uint64_t want = exists ? t->after : t->before;

    memset(words, 0xa5, sizeof words);
    memcpy((uint8_t *)words + offset, &t->before, width_of(type));
    memcpy(w->mem, words, sizeof words);
    CHECK_EQ(atomic_now(conn, &t->what, (uintptr_t)w->mem + offset, &result, &w->key),
             exists ? 0 : -EOPNOTSUPP);
    if (exists)
        CHECK_EQ(keep_low(type, result), t->before);
    memcpy((uint8_t *)words + offset, &want, width_of(type));
    if (memcmp(w->mem, words, sizeof words))
        case_fail(__FILE__, __LINE__, "op %d type %d on %llx with %llx left wrong bits",
                  t->what.op, type, (unsigned long long)t->before,
                  (unsigned long long)t->what.operand);
}

struct target {
    struct pair p;
    struct window w;
};

static void target_open(struct target *t, const struct subject *s)
{
    struct window_name name;

    pair_open(&t->p, s, NULL);
    need_atomic(&t->p.a);
    window_open(&t->w, &t->p.b, 4096, true);
    name = window_name(&t->w);
    REQUIRE(reach_soon(&t->p.ab, &name) != PW_REACH_NONE);
}

static void target_close(struct target *t)
{
    window_close(&t->w);
    pair_close(&t->p);
}

static void every_op_and_type(const struct subject *s)
{
    static const int64_t values[] = {
        0, 1, -1, 2, 12345, -77, INT32_MAX, INT32_MIN, 0x5a5a5a5a,
    };
    enum { VALUES = sizeof values / sizeof *values };
    struct target t;

    target_open(&t, s);
    for (int op = 0; op < OPS; op++)
        for (int type = 0; type < TYPES; type++)
            for (int i = 0; i < VALUES * VALUES; i++) {
                struct trial trial = trial_make((enum pw_atomic_op)op,
                                                (enum pw_atomic_type)type,
                                                values[i / VALUES],
                                                values[i % VALUES], i % 2);

                trial_run(&t.p.ab, &t.w, &trial);
            }
    target_close(&t);
}

static void wide_values(const struct subject *s)
{
    struct target t;

    target_open(&t, s);
    for (uint32_t i = 0; i < 200; i++) {
        int64_t old = (int64_t)((uint64_t)mix(i) << 32 | mix(i + 1000));
        int64_t x = (int64_t)((uint64_t)mix(i + 2000) << 32 | mix(i + 3000));

        for (int op = 0; op < OPS; op++) {
            struct trial trial = trial_make((enum pw_atomic_op)op, PW_INT64, old, x,
                                            i % 2);

            trial_run(&t.p.ab, &t.w, &trial);
        }
    }
    target_close(&t);
}

static void result_may_be_null(const struct subject *s)
{
    struct pw_atomic add = { .op = PW_ATOMIC_ADD, .type = PW_INT64, .operand = 5 };
    struct target t;
    uint64_t value;

    target_open(&t, s);
    CHECK_EQ(atomic_now(&t.p.ab, &add, (uintptr_t)t.w.mem, NULL, &t.w.key), 0);
    memcpy(&value, t.w.mem, sizeof value);
    CHECK_EQ(value, 5);
    target_close(&t);
}

static void unaligned_is_refused(const struct subject *s)
{
    uint8_t zero[64] = { 0 };
    struct target t;

    target_open(&t, s);
    for (int type = 0; type < TYPES; type++)
        for (unsigned at = 1; at < width_of((enum pw_atomic_type)type); at++) {
            struct pw_atomic swap = { .op = PW_ATOMIC_SWAP, .operand = ~(uint64_t)0,
                                      .type = (enum pw_atomic_type)type };
            uint64_t result;

            CHECK_EQ(atomic_now(&t.p.ab, &swap, (uintptr_t)t.w.mem + at, &result,
                                &t.w.key), -EINVAL);
        }
    CHECK(!memcmp(t.w.mem, zero, sizeof zero));
    target_close(&t);
}

static void atomic_on_bad_address_is_refused(const struct subject *s)
{
    static const uint64_t bad[] = { 8, (uint64_t)1 << 63, UINT64_MAX - 7 };
    struct pw_atomic add = { .op = PW_ATOMIC_ADD, .type = PW_INT64, .operand = 1 };
    struct target t;
    uint64_t result;

    target_open(&t, s);
    for (int i = 0; i < 3; i++) {
        int err = atomic_now(&t.p.ab, &add, bad[i], &result, &t.w.key);

        CHECK(err == -EFAULT || err == -EOPNOTSUPP);
    }
    target_close(&t);
}

static void without_atomics_they_are_refused(const struct subject *s)
{
    struct pw_atomic add = { .op = PW_ATOMIC_ADD, .type = PW_INT64, .operand = 1 };
    uint64_t result, zero = 0;
    struct window w;
    struct pair p;

    pair_open(&p, s, NULL);
    if (p.a.nic->info.flags & PW_NIC_ATOMIC)
        case_skip("%s has atomics", s->name);
    window_open(&w, &p.b, 4096, true);
    CHECK_EQ(atomic_now(&p.ab, &add, (uintptr_t)w.mem, &result, &w.key), -EOPNOTSUPP);
    CHECK(!memcmp(w.mem, &zero, sizeof zero));
    window_close(&w);
    pair_close(&p);
}

/* ---- contention: the parent's memory, two children and the parent's CPU ---- */

enum { CHILDREN = 2 };

struct shared {
    uint32_t n;
    bool with_lock;
};

/* Take the lock in word 0, count in word 1, release. */
static void count_under_lock(struct conn *conn, const struct window_name *w)
{
    struct pw_atomic take = { .op = PW_ATOMIC_CSWAP, .type = PW_INT64, .operand = 1 };
    struct pw_atomic leave = { .op = PW_ATOMIC_SWAP, .type = PW_INT64, .operand = 0 };
    uint64_t seen = 1, count;

    for (;;) {
        REQUIRE_EQ(atomic_now(conn, &take, w->addr, &seen, &w->key), 0);
        if (!seen)
            break;
        sched_yield();
    }
    REQUIRE_EQ(get_now(conn, &count, w->addr + 64, sizeof count, &w->key), 0);
    count++;
    sched_yield();          /* let the other in, if the lock does not hold */
    REQUIRE_EQ(put_now(conn, &count, w->addr + 64, sizeof count, &w->key), 0);
    REQUIRE_EQ(atomic_now(conn, &leave, w->addr, &seen, &w->key), 0);
    CHECK_EQ(seen, 1);
}

static void add_one(struct conn *conn, const struct window_name *w, uint64_t *last)
{
    struct pw_atomic add = { .op = PW_ATOMIC_ADD, .type = PW_INT64, .operand = 1 };
    uint64_t before;

    REQUIRE_EQ(atomic_now(conn, &add, w->addr, &before, &w->key), 0);
    CHECK(before + 1 > *last);      /* what only grows was never seen to shrink */
    *last = before + 1;
}

static void contender_main(struct party *self)
{
    const struct shared *shared = self->arg;
    struct window_name name;
    uint64_t last = 0;
    struct conn conn;
    struct rig rig;
    char byte = 1;

    rig_open(&rig, self->subject, NULL);
    rig_meet(&rig, &conn, self->self_fd);
    hear(self->self_fd, &name, sizeof name);
    REQUIRE(reach_soon(&conn, &name) != PW_REACH_NONE);
    say(self->self_fd, &byte, 1);
    hear(self->self_fd, &byte, 1);
    for (uint32_t i = 0; i < shared->n; i++) {
        if (shared->with_lock)
            count_under_lock(&conn, &name);
        else
            add_one(&conn, &name, &last);
    }
    say(self->self_fd, &byte, 1);
    hear(self->self_fd, &byte, 1);
    rig_close(&rig);
}

static void contend(const struct subject *s, struct rig *rig, struct window *w,
                    struct party *children, struct conn *conns, struct shared *shared)
{
    struct window_name name;
    char byte = 1;

    for (int i = 0; i < CHILDREN; i++)
        party_start(&children[i], s, contender_main, shared);
    rig_open(rig, s, NULL);
    need_atomic(rig);
    window_open(w, rig, 4096, true);
    name = window_name(w);
    for (int i = 0; i < CHILDREN; i++) {
        rig_meet(rig, &conns[i], children[i].fd);
        say(children[i].fd, &name, sizeof name);
    }
    for (int i = 0; i < CHILDREN; i++)
        hear(children[i].fd, &byte, 1);
    for (int i = 0; i < CHILDREN; i++)
        say(children[i].fd, &byte, 1);
}

static void contend_end(struct party *children)
{
    char byte = 1;

    for (int i = 0; i < CHILDREN; i++)
        hear(children[i].fd, &byte, 1);
    for (int i = 0; i < CHILDREN; i++)
        say(children[i].fd, &byte, 1);
    for (int i = 0; i < CHILDREN; i++)
        party_end(&children[i]);
}

static void sum_of_fetch_adds(const struct subject *s)
{
    struct shared *shared = shared_alloc(sizeof *shared);
    struct party children[CHILDREN];
    struct conn conns[CHILDREN];
    struct window w;
    struct rig rig;

    shared->n = rounds(s, 100000);
    contend(s, &rig, &w, children, conns, shared);
    for (uint32_t i = 0; i < shared->n; i++) {
        __atomic_fetch_add((uint64_t *)(void *)w.mem, 1, __ATOMIC_SEQ_CST);
        if (i % 64 == 0)
            pump();
    }
    contend_end(children);
    CHECK_EQ(__atomic_load_n((uint64_t *)(void *)w.mem, __ATOMIC_SEQ_CST),
             (CHILDREN + 1) * (uint64_t)shared->n);
    window_close(&w);
    rig_close(&rig);
}

static void lock_by_compare_and_swap(const struct subject *s)
{
    struct shared *shared = shared_alloc(sizeof *shared);
    struct party children[CHILDREN];
    struct conn conns[CHILDREN];
    struct window w;
    struct rig rig;
    uint64_t count;

    shared->n = rounds(s, 5000);
    shared->with_lock = true;
    contend(s, &rig, &w, children, conns, shared);
    contend_end(children);
    memcpy(&count, w.mem + 64, sizeof count);
    CHECK_EQ(count, CHILDREN * (uint64_t)shared->n);
    window_close(&w);
    rig_close(&rig);
}

const struct nic_case atomic_cases[] = {
    { "every atomic of every type does what it says", every_op_and_type, 20, false },
    { "atomics use all 64 bits", wide_values, 10, false },
    { "an atomic's result may be NULL", result_may_be_null, 10, false },
    { "an unaligned atomic is -EINVAL", unaligned_is_refused, 10, false },
    { "an atomic on a bad address is -EFAULT or -EOPNOTSUPP",
      atomic_on_bad_address_is_refused, 10, false },
    { "without atomics they are -EOPNOTSUPP", without_atomics_they_are_refused, 10, false },
    { "fetch-adds of two processes and this one add up", sum_of_fetch_adds, 20, true },
    { "a lock made of compare-and-swap locks", lock_by_compare_and_swap, 20, true },
    { 0 }
};
