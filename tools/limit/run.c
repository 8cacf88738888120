/* SPDX-License-Identifier: BSD-3-Clause */
/* run.c - the two processes: which way is the fastest, and how long it takes.
 *
 * Start at limit_run(). Side 0 has the clock. It says on the board what both are to do
 * next, and both do it; so each order ends on both sides before the next. At each size
 * every way is tried for a part of the time, and the fastest is measured for all of it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "limit.h"
#include "tools/clock.h"
#include "tools/cma.h"
#include "tools/pwbench_figures.h"
#include "tools/pwbench_pattern.h"
#include "tools/pwbench_table.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25        /* Linux 6.1; older libraries do not know it */
#endif

enum { HUGE = 2 << 20, CANDIDATES_MAX = 20, BUFFERS = 4, TRY_WARMUP = 10,
       PAST_MIN = 1024, WIDE_MIN = 64 << 10 };

static const double try_part = 0.1;     /* of the time, for each way */
static const double patience = 60, patience_of_size = 10;    /* s, on a busy machine */

/* ---- an order ---- */

static int iterate_latency(struct limit_side *s, const struct limit_order *o)
{
    int err = 0;

    for (long i = 0; !err && i < o->n; i++) {
        err = o->way->move(s, o->size, s->side == 0, s->side == 1);
        if (!err)
            err = o->way->move(s, o->size, s->side == 1, s->side == 0);
    }
    return err;
}

/* bw and rate: the receiver answers each window. */
static int iterate_window(struct limit_side *s, const struct limit_order *o)
{
    long window = s->o->test.window;
    int err = 0;

    for (long i = 0; !err && i < o->n; i++) {
        if (s->side == 0) {
            err = o->way->move(s, o->size, window, 0);
            limit_await(&s->board->taken[1], ++s->awaited_taken);
        } else {
            err = o->way->move(s, o->size, 0, window);
            limit_raise(&s->board->taken[1]);
        }
    }
    return err;
}

/* Who is read from may not go on before. */
static int iterate_bibw(struct limit_side *s, const struct limit_order *o)
{
    long window = s->o->test.window;
    int err = 0;

    for (long i = 0; !err && i < o->n; i++) {
        err = o->way->move(s, o->size, window, window);
        if (err || !o->way->lent)
            continue;
        limit_raise(&s->board->taken[s->side]);
        limit_await(&s->board->taken[1 - s->side], ++s->awaited_taken);
    }
    return err;
}

static int iterate(struct limit_side *s, const struct limit_order *o)
{
    switch (s->o->test.test) {
    case PW_LATENCY: return iterate_latency(s, o);
    case PW_BIBW:    return iterate_bibw(s, o);
    default:         return iterate_window(s, o);
    }
}

static void lanes_begin(struct limit_side *s, const struct limit_order *o)
{
    struct lane_shape shape = lane_shape(o->piece, o->way->wide);

    s->piece = o->piece;
    s->out = (struct lane_out){ .lane = &s->lane[s->side], .shape = shape,
                                .past = o->way->past };
    s->in = (struct lane_in){ .lane = &s->lane[1 - s->side], .shape = shape };
}

static int obey(struct limit_side *s, const struct limit_order *o)
{
    if (o->fresh)
        lanes_begin(s, o);
    return o->verb == LIMIT_CHECK ? limit_check(s, o) : iterate(s, o);
}

/* Both sides have done it then. */
static int order(struct limit_side *s, const struct limit_order *o)
{
    int err;

    if (o->fresh)
        memset(s->lane, 0, 2 * sizeof *s->lane);
    s->board->order = *o;
    limit_raise(&s->board->ordered);
    if (o->verb == LIMIT_END)
        return 0;
    err = obey(s, o);
    if (!err)
        limit_await(&s->board->obeyed, ++s->orders);
    return err;
}

static int follow_orders(struct limit_side *s)
{
    struct limit_order o;
    int err;

    for (;;) {
        limit_await(&s->board->ordered, ++s->orders);
        o = s->board->order;
        if (o.verb == LIMIT_END)
            return 0;
        err = obey(s, &o);
        if (err)
            return err;
        limit_raise(&s->board->obeyed);
    }
}

/* ---- measuring, side 0 ---- */

/* Seconds of n iterations, or -errno. */
static double timed(struct limit_side *s, struct limit_order *o, long n)
{
    double start;
    int err;

    o->verb = LIMIT_ITERATE;
    o->n = n;
    start = pw_clock_s();
    err = order(s, o);
    o->fresh = false;
    return err ? err : pw_clock_s() - start;
}

/* As choose_iterations() of pwbench_single.c does. -errno. */
static long choose_iterations(struct limit_side *s, struct limit_order *o,
                              const struct pw_single_options *t)
{
    struct pw_counts c = pw_counts_for(t, o->size);
    long half = c.warmup / 2, rest = c.warmup - half;
    double took = timed(s, o, half);

    if (took >= 0)
        took = timed(s, o, rest);
    if (took < 0)
        return (long)took;
    return pw_counts_fit(t, c, rest ? took / (double)rest : 0);
}

/* Seconds for an iteration, the median over the batches; or -errno. */
static double measure(struct limit_side *s, struct limit_order *o,
                      const struct pw_single_options *t)
{
    double each[PW_BATCHES_MAX];
    long n = choose_iterations(s, o, t);
    int batches = n < t->batches ? (int)n : t->batches;

    if (n < 0)
        return (double)n;
    for (int i = 0; i < batches; i++) {
        long these = pw_batch_start(n, i + 1, batches) - pw_batch_start(n, i, batches);
        double took = timed(s, o, these);

        if (took < 0)
            return took;
        each[i] = took / (double)these;
    }
    return pw_median(each, batches);
}

static void add(struct limit_order candidate[CANDIDATES_MAX], int *n,
                const struct limit_way *way, size_t piece, size_t size)
{
    if (*n < CANDIDATES_MAX)
        candidate[(*n)++] = (struct limit_order){ .way = way, .piece = piece,
                                                  .size = size };
}

static int find_candidates(const struct limit_side *s, size_t size,
                           struct limit_order candidate[CANDIDATES_MAX])
{
    static const size_t piece[] = { 2048, 8192, 32768 };
    int n = 0;

    for (int w = 0; w < LIMIT_WAYS; w++) {
        const struct limit_way *way = &limit_ways[w];

        if ((way->mapped && !s->shared) || (way->kernel && !s->board->cma))
            continue;
        if ((way->past && size < PAST_MIN) || (way->wide && size < WIDE_MIN))
            continue;
        if (!way->pieces || size <= LANE_PIECE_MAX)
            add(candidate, &n, way, way->pieces ? size : 0, size);
        for (size_t p = 0; way->pieces && p < sizeof piece / sizeof *piece; p++)
            if (size > piece[p])
                add(candidate, &n, way, piece[p], size);
    }
    return n;
}

static void found(const struct limit_side *s, const struct limit_order *o, double seconds,
                  struct limit_found *out)
{
    const struct pw_single_options *t = &s->o->test;

    out->value = pw_figure(t->test, t->window, o->size, seconds);
    if (o->way->pieces && o->piece < o->size)
        snprintf(out->way, sizeof out->way, "%spieces of %zu%s",
                 o->way->wide ? "wide " : "", o->piece,
                 o->way->past ? " past the cache" : "");
    else
        snprintf(out->way, sizeof out->way, "%s", o->way->name);
}

static int check_all(struct limit_side *s, struct limit_order *candidate, int n)
{
    int err = 0;

    for (int i = 0; !err && i < n; i++) {
        candidate[i].verb = LIMIT_CHECK;
        candidate[i].fresh = true;
        err = order(s, &candidate[i]);
    }
    return err;
}

static int measure_size(struct limit_side *s, size_t size, struct limit_found *out)
{
    struct pw_single_options shortly = s->o->test;
    struct limit_order candidate[CANDIDATES_MAX];
    int n = find_candidates(s, size, candidate), best = 0, err = 0;
    double took, least = 0;

    shortly.seconds *= try_part;
    shortly.batches = 5;
    if (shortly.warmup < 0 || shortly.warmup > TRY_WARMUP)
        shortly.warmup = TRY_WARMUP;
    if (s->o->test.check)
        err = check_all(s, candidate, n);
    for (int i = 0; !err && n > 1 && i < n; i++) {
        candidate[i].fresh = true;
        took = measure(s, &candidate[i], &shortly);
        if (took < 0)
            err = (int)took;
        else if (i == 0 || took < least) {
            least = took;
            best = i;
        }
    }
    if (err)
        return err;
    candidate[best].fresh = true;
    took = measure(s, &candidate[best], &s->o->test);
    if (took < 0)
        return (int)took;
    found(s, &candidate[best], took, out);
    return 0;
}

static int measure_all(struct limit_side *s)
{
    const struct pw_sizes *sizes = &s->o->test.sizes;
    int err = 0;

    for (int i = 0; !err && i < sizes->n; i++)
        err = measure_size(s, sizes->at[i], &s->board->found[i]);
    if (!err)
        order(s, &(struct limit_order){ .verb = LIMIT_END });
    return err;
}

/* ---- the two processes ---- */

/* The buffers as a test has them: those of malloc as pwbench_memory.c takes them, and
 * shared ones on hugepages where the kernel gives them, as pinwheel's pool has. */
static int buffers_open(struct limit_side *s)
{
    if (s->shared) {
        s->send = s->shared + 2 * (size_t)s->side * s->room;
        s->recv = s->send + s->room;
    } else if (posix_memalign((void **)&s->send, 4096, s->room) ||
               posix_memalign((void **)&s->recv, 4096, s->room)) {
        return -ENOMEM;
    }
    memset(s->send, s->side + 1, s->room);
    memset(s->recv, s->side + 1, s->room);
    if (s->shared && s->room >= HUGE)
        madvise(s->send, 2 * s->room, MADV_COLLAPSE);
    return 0;
}

/* It may be forbidden: then there are the other ways. */
static void cma_try(struct limit_side *s)
{
    char byte;
    int err = pw_cma_read(s->peer, &byte, s->board, 1);

    s->board->cma = !err;
    if (err)
        pw_cma_why(err, s->board->no_cma, PW_PAIR_WHY);
}

static int side_prepare(void *arg, int side, pid_t peer, char *why)
{
    struct limit_side *s = arg;
    int err;

    s->side = side;
    s->peer = peer;
    s->why = why;
    err = buffers_open(s);
    s->board->send[side] = s->send;
    if (side == 0)
        cma_try(s);
    return err;
}

static int side_measure(void *arg, int side)
{
    return side == 0 ? measure_all(arg) : follow_orders(arg);
}

/* ---- the caller ---- */

static void *map(size_t len)
{
    void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

/* Begins where a hugepage can; for the rest of this process. */
static char *map_buffers(size_t len)
{
    uintptr_t p = (uintptr_t)map(len + HUGE);

    if (!p)
        return NULL;
    p = (p + HUGE - 1) / HUGE * HUGE;
    madvise((void *)p, len, MADV_HUGEPAGE);
    return (char *)p;
}

static double time_for(const struct pw_single_options *t)
{
    return patience +
           t->sizes.n * (patience_of_size + t->seconds * (1 + CANDIDATES_MAX * try_part));
}

int limit_run(const struct limit_options *o, struct limit_board **board,
              char why[PW_PAIR_WHY])
{
    struct limit_side s = { .o = o, .room = pw_sizes_largest(&o->test.sizes) + PW_GUARD };
    struct pw_pair_work work = { .core = { o->core[0], o->core[1] }, .arg = &s,
                                 .seconds = time_for(&o->test),
                                 .prepare = side_prepare, .measure = side_measure };

    s.room = (s.room + 4095) / 4096 * 4096;
    if (s.room >= HUGE)
        s.room = (s.room + HUGE - 1) / HUGE * HUGE;
    s.board = map(sizeof *s.board);
    s.lane = map(2 * sizeof *s.lane);
    if (o->test.buffers == PW_ALLOC_MEM)
        s.shared = map_buffers(BUFFERS * s.room);
    if (!s.board || !s.lane || (o->test.buffers == PW_ALLOC_MEM && !s.shared)) {
        snprintf(why, PW_PAIR_WHY, "no shared memory for buffers of %zu bytes: %s", s.room,
                 strerror(errno));
        return -EOPNOTSUPP;
    }
    *board = s.board;
    return pw_pair_run(&work, why);
}
