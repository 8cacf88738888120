/* SPDX-License-Identifier: BSD-3-Clause */
/* winops.c - accumulate, get_accumulate, fetch_and_op and compare_and_swap on
 * every kind of window: each operation on each type it is defined for, and
 * sums that come out right only when nothing is lost between ranks.
 */
#include "window.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 32, TIMES = 200 };   /* elements of an accumulate; rounds of contention */

union value {
    int32_t i32;
    int64_t i64;
    uint32_t u32;
    uint64_t u64;
    float f;
    double d;
};

struct type {
    const char *name;
    MPI_Datatype mpi;
    int width;
    bool bits;          /* bitwise and logical operations are defined */
    void (*set)(union value *v, int x);
    /* op on a and b into a; false where MPI does not define it */
    bool (*apply)(union value *a, const union value *b, MPI_Op op);
};

#define ARITHMETIC(m) \
    if (op == MPI_SUM) a->m += b->m; \
    else if (op == MPI_PROD) a->m *= b->m; \
    else if (op == MPI_MIN) a->m = b->m < a->m ? b->m : a->m; \
    else if (op == MPI_MAX) a->m = b->m > a->m ? b->m : a->m; \
    else if (op == MPI_REPLACE) a->m = b->m; \
    else if (op == MPI_NO_OP) ;

#define INTEGER(m) \
    static void set_##m(union value *v, int x) { v->m = 0; v->m += x; } \
    static bool apply_##m(union value *a, const union value *b, MPI_Op op) \
    { \
        ARITHMETIC(m) \
        else if (op == MPI_BAND) a->m &= b->m; \
        else if (op == MPI_BOR) a->m |= b->m; \
        else if (op == MPI_BXOR) a->m ^= b->m; \
        else if (op == MPI_LAND) a->m = a->m && b->m; \
        else if (op == MPI_LOR) a->m = a->m || b->m; \
        else if (op == MPI_LXOR) a->m = !a->m != !b->m; \
        else return false; \
        return true; \
    }

#define FLOATING(m) \
    static void set_##m(union value *v, int x) { v->m = 0; v->m += x; } \
    static bool apply_##m(union value *a, const union value *b, MPI_Op op) \
    { \
        ARITHMETIC(m) \
        else return false; \
        return true; \
    }

INTEGER(i32)
INTEGER(i64)
INTEGER(u32)
INTEGER(u64)
FLOATING(f)
FLOATING(d)

static const struct type types[] = {
    { "int32", MPI_INT32_T, 4, true, set_i32, apply_i32 },
    { "int64", MPI_INT64_T, 8, true, set_i64, apply_i64 },
    { "uint32", MPI_UINT32_T, 4, true, set_u32, apply_u32 },
    { "uint64", MPI_UINT64_T, 8, true, set_u64, apply_u64 },
    { "float", MPI_FLOAT, 4, false, set_f, apply_f },
    { "double", MPI_DOUBLE, 8, false, set_d, apply_d },
};
enum { TYPES = sizeof types / sizeof types[0] };

static const struct { const char *name; MPI_Op op; } ops[] = {
    { "sum", MPI_SUM }, { "prod", MPI_PROD }, { "min", MPI_MIN }, { "max", MPI_MAX },
    { "replace", MPI_REPLACE }, { "no_op", MPI_NO_OP }, { "band", MPI_BAND },
    { "bor", MPI_BOR }, { "bxor", MPI_BXOR }, { "land", MPI_LAND }, { "lor", MPI_LOR },
    { "lxor", MPI_LXOR },
};
enum { OPS = sizeof ops / sizeof ops[0] };

/* One rank's elements: what lies at the target, and the operand. Small, with
 * zeros and negative ones among them, so that floats are exact. */
static int start_value(int k)
{
    return k * 5 % 23 - 7;
}

static int operand_value(int from, int k)
{
    return (k * 11 + from) % 19 - 6;
}

static char *slot(struct window *w, int from)
{
    return w->base + (size_t)from * N * 8;
}

static MPI_Aint slot_at(const struct window *w, int to, const struct type *t, int k)
{
    return window_at(w, to, (size_t)rank * N * 8 + (size_t)(k * t->width));
}

static void set_start(struct window *w, const struct type *t)
{
    window_settle(w);
    for (int from = 0; from < size; from++) {
        for (int k = 0; k < N; k++) {
            union value v = { 0 };
            t->set(&v, start_value(k));
            memcpy(slot(w, from) + k * t->width, &v, (size_t)t->width);
        }
    }
    window_settle(w);
}

static void set_operands(void *buf, const struct type *t)
{
    for (int k = 0; k < N; k++) {
        union value v = { 0 };
        t->set(&v, operand_value(rank, k));
        memcpy((char *)buf + k * t->width, &v, (size_t)t->width);
    }
}

/* After op by `from`, when `want_new`; else what was there before. */
static void check(const char *got, const struct type *t, int o, int from, bool want_new,
                  const char *what)
{
    for (int k = 0; k < N; k++) {
        union value v = { 0 }, operand = { 0 };

        t->set(&v, start_value(k));
        t->set(&operand, operand_value(from, k));
        if (want_new)
            t->apply(&v, &operand, ops[o].op);
        if (memcmp(got + k * t->width, &v, (size_t)t->width) == 0)
            continue;
        expect(false, "%s of %s %s: element %d is wrong", what, t->name, ops[o].name, k);
        return;
    }
}

static bool defined(const struct type *t, int o)
{
    union value a = { 0 }, b = { 0 };

    return t->apply(&a, &b, ops[o].op);
}

static void accumulate(struct window *w, const struct type *t, int o)
{
    uint64_t in[N];
    int to = (rank + 1) % size, from = (rank + size - 1) % size;

    if (ops[o].op == MPI_NO_OP)
        return;         /* for get_accumulate only */
    set_start(w, t);
    set_operands(in, t);
    MPI_Win_fence(0, w->win);
    MPI_Accumulate(in, N, t->mpi, to, slot_at(w, to, t, 0), N, t->mpi, ops[o].op, w->win);
    MPI_Win_fence(0, w->win);
    check(slot(w, from), t, o, from, true, "accumulate");
}

static void get_accumulate(struct window *w, const struct type *t, int o)
{
    uint64_t in[N], old[N];
    int to = (rank + 1) % size, from = (rank + size - 1) % size;

    set_start(w, t);
    set_operands(in, t);
    MPI_Win_lock(MPI_LOCK_SHARED, to, 0, w->win);
    MPI_Get_accumulate(in, N, t->mpi, old, N, t->mpi, to, slot_at(w, to, t, 0), N, t->mpi,
                       ops[o].op, w->win);
    MPI_Win_unlock(to, w->win);
    check((char *)old, t, o, rank, false, "result of get_accumulate");
    window_settle(w);
    check(slot(w, from), t, o, from, true, "get_accumulate");
}

static void fetch_and_op(struct window *w, const struct type *t, int o)
{
    uint64_t in[N], old[N];
    int to = (rank + 1) % size, from = (rank + size - 1) % size;

    set_start(w, t);
    set_operands(in, t);
    MPI_Win_lock(MPI_LOCK_SHARED, to, 0, w->win);
    for (int k = 0; k < N; k++)
        MPI_Fetch_and_op((char *)in + k * t->width, (char *)old + k * t->width, t->mpi, to,
                         slot_at(w, to, t, k), ops[o].op, w->win);
    MPI_Win_unlock(to, w->win);
    check((char *)old, t, o, rank, false, "result of fetch_and_op");
    window_settle(w);
    check(slot(w, from), t, o, from, true, "fetch_and_op");
}

/* Even elements are compared with what is there, odd ones with something else.
 * Our own window is a target too. */
static void compare_and_swap(struct window *w, const struct type *t)
{
    uint64_t in[N], old[N];

    set_operands(in, t);
    for (int step = 0; step < 2; step++) {
        int to = (rank + step) % size, from = (rank + size - step) % size, bad = 0;

        set_start(w, t);
        MPI_Win_lock(MPI_LOCK_SHARED, to, 0, w->win);
        for (int k = 0; k < N; k++) {
            union value with = { 0 };
            t->set(&with, start_value(k) + k % 2);
            MPI_Compare_and_swap((char *)in + k * t->width, &with, (char *)old + k * t->width,
                                 t->mpi, to, slot_at(w, to, t, k), w->win);
            MPI_Win_flush(to, w->win);
        }
        MPI_Win_unlock(to, w->win);
        check((char *)old, t, 0, rank, false, "result of compare_and_swap");
        window_settle(w);
        for (int k = 0; k < N; k++) {
            union value v = { 0 };
            t->set(&v, k % 2 ? start_value(k) : operand_value(from, k));
            bad += memcmp(slot(w, from) + k * t->width, &v, (size_t)t->width) != 0;
        }
        expect(bad == 0, "compare_and_swap of %s: %d elements are wrong", t->name, bad);
    }
}

/* All add one to the same element of rank 0, by turns in three ways. */
static void contended_sum(struct window *w, const struct type *t)
{
    union value one = { 0 }, old, want = { 0 };

    t->set(&one, 1);
    t->set(&want, TIMES * size);
    MPI_Win_lock_all(0, w->win);
    for (int i = 0; i < TIMES; i++) {
        MPI_Aint at = window_at(w, 0, 0);

        if (i % 3 == 0)
            MPI_Accumulate(&one, 1, t->mpi, 0, at, 1, t->mpi, MPI_SUM, w->win);
        else if (i % 3 == 1)
            MPI_Fetch_and_op(&one, &old, t->mpi, 0, at, MPI_SUM, w->win);
        else
            MPI_Get_accumulate(&one, 1, t->mpi, &old, 1, t->mpi, 0, at, 1, t->mpi, MPI_SUM,
                               w->win);
        MPI_Win_flush(0, w->win);
    }
    MPI_Win_unlock_all(w->win);
    window_settle(w);
    if (rank == 0)
        expect(memcmp(w->base, &want, (size_t)t->width) == 0, "a sum of %s by %d ranks is "
               "wrong", t->name, size);
}

/* Each number is drawn once. */
static void tickets(struct window *w, const struct type *t)
{
    union value one = { 0 }, got = { 0 };
    int total = TIMES * size, mine[TIMES], *all = malloc((size_t)total * sizeof *all);
    char *seen = calloc((size_t)total, 1);

    t->set(&one, 1);
    MPI_Win_lock_all(0, w->win);
    for (int i = 0; i < TIMES; i++) {
        MPI_Fetch_and_op(&one, &got, t->mpi, size - 1, window_at(w, size - 1, 0), MPI_SUM, w->win);
        MPI_Win_flush(size - 1, w->win);
        mine[i] = got.i32;
        expect(i == 0 || mine[i] > mine[i - 1], "ticket %d after %d", mine[i], mine[i - 1]);
    }
    MPI_Win_unlock_all(w->win);
    MPI_Allgather(mine, TIMES, MPI_INT, all, TIMES, MPI_INT, MPI_COMM_WORLD);
    for (int i = 0; i < total; i++) {
        expect(all[i] >= 0 && all[i] < total && !seen[all[i]], "ticket %d of %s drawn twice or "
               "never there", all[i], t->name);
        if (all[i] >= 0 && all[i] < total)
            seen[all[i]] = 1;
    }
    free(all);
    free(seen);
}

/* Count by compare_and_swap loops. */
static void swap_count(struct window *w, const struct type *t)
{
    union value seen = { 0 }, next = { 0 }, old = { 0 }, want = { 0 };

    MPI_Win_lock_all(0, w->win);
    for (int i = 0; i < TIMES / 4; i++) {
        for (;;) {
            next = seen;
            t->set(&old, 1);
            t->apply(&next, &old, MPI_SUM);
            MPI_Compare_and_swap(&next, &seen, &old, t->mpi, 0, window_at(w, 0, 0), w->win);
            MPI_Win_flush(0, w->win);
            if (memcmp(&old, &seen, (size_t)t->width) == 0)
                break;
            memset(&seen, 0, sizeof seen);
            memcpy(&seen, &old, (size_t)t->width);
        }
    }
    MPI_Win_unlock_all(w->win);
    window_settle(w);
    t->set(&want, TIMES / 4 * size);
    if (rank == 0)
        expect(memcmp(w->base, &want, (size_t)t->width) == 0, "%s counted by "
               "compare_and_swap: wrong sum", t->name);
}

/* Every second element of the target, all ranks at once: MPI_SUM. */
static void strided(struct window *w, const struct type *t)
{
    MPI_Datatype seconds;
    uint64_t in[N];
    int bad = 0;

    MPI_Type_vector(N / 2, 1, 2, t->mpi, &seconds);
    MPI_Type_commit(&seconds);
    for (int k = 0; k < N; k++) {
        union value v = { 0 };
        t->set(&v, k);
        memcpy((char *)in + k * t->width, &v, (size_t)t->width);
    }
    MPI_Win_fence(0, w->win);
    for (int to = 0; to < size; to++)
        MPI_Accumulate(in, N / 2, t->mpi, to, window_at(w, to, 0), 1, seconds, MPI_SUM, w->win);
    MPI_Win_fence(0, w->win);
    for (int k = 0; k < N - 1; k++) {
        union value v = { 0 };
        t->set(&v, k % 2 ? 0 : k / 2 * size);
        bad += memcmp(w->base + k * t->width, &v, (size_t)t->width) != 0;
    }
    expect(bad == 0, "accumulate of %s to a vector: %d elements are wrong", t->name, bad);
    MPI_Type_free(&seconds);
}

static const struct {
    const char *name;
    void (*each_op)(struct window *w, const struct type *t, int o);
    void (*each_type)(struct window *w, const struct type *t);
    bool integers_only;
} stories[] = {
    { "accumulate", accumulate, NULL, false },
    { "getacc", get_accumulate, NULL, false },
    { "fop", fetch_and_op, NULL, false },
    { "cas", NULL, compare_and_swap, true },
    { "sum", NULL, contended_sum, false },
    { "tickets", NULL, tickets, true },
    { "caslock", NULL, swap_count, true },
    { "strided", NULL, strided, false },
};

static void tell(enum window_kind kind, size_t s, const struct type *t)
{
    struct window w;

    if (!story("%s %s %s", stories[s].name, window_name(kind), t->name))
        return;
    window_open(&w, kind, (size_t)size * N * 8, t->width);
    if (stories[s].each_type)
        stories[s].each_type(&w, t);
    for (int o = 0; stories[s].each_op && o < OPS; o++)
        if (defined(t, o))
            stories[s].each_op(&w, t, o);
    window_close(&w);
}

int main(int argc, char **argv)
{
    story_open(&argc, &argv, MPI_THREAD_SINGLE, 100);
    for (enum window_kind k = 0; k < WINDOW_KINDS; k++)
        for (size_t s = 0; window_possible(k) && s < sizeof stories / sizeof stories[0];
             s++)
            for (int t = 0; t < TYPES; t++)
                if (types[t].bits || !stories[s].integers_only)
                    tell(k, s, &types[t]);
    return story_close();
}
