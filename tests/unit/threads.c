/* SPDX-License-Identifier: BSD-3-Clause */
/* threads.c - an engine that several threads use while others make progress.
 *
 * The first tests have one thread and play the other: what it does falls into
 * the very moment in which it matters. The rest race in earnest, for
 * ThreadSanitizer above all.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pinwheel/clock.h"
#include "tests/unit/pair.h"

enum { THREADS = 4, TIMES = 300, PIECE = 200 };

static uint64_t at(const void *p)
{
    return (uint64_t)(uintptr_t)p;
}

/* ---- meanwhile ---- */

static struct pair *met;

/* The peer is found dead while we ask it for something. */
static void die_meanwhile(uint32_t imm)
{
    (void)imm;
    pair_before_send = NULL;
    fake_nic_die(pair_nic(&met->b, 0));
    pw_engine_progress(met->a.e);
    cr_assert(eq(uint, met->a.deaths, 1));
}

/* A callback or an error, never both, and the operation is given back once. */
static void expect_ended_once(struct pair *p, const struct pair_outcome *o, int err)
{
    pair_turns(p, 3);
    cr_expect(eq(uint, o->calls, err == PW_NIC_PENDING));
    cr_expect(eq(int, o->calls ? o->status : err, -EPIPE));
    cr_expect(eq(uint, p->a.e->n_pending, 0));
    cr_expect(eq(uint, p->a.e->n_waiting, 0));
}

Test(threads, a_peer_that_dies_while_it_is_asked_fails_the_transfer_once)
{
    const struct pw_atomic add = { .op = PW_ATOMIC_ADD, .type = PW_INT64, .operand = 1 };
    uint64_t memory = 5, local = 6;

    for (int what = 0; what < 3; what++) {
        struct pair_outcome o = { 0 };
        struct pw_key key = { 0 };
        struct pair p;
        int err;

        pair_open(&p, &(struct pair_plan){ .threads = true });
        met = &p;
        cr_assert(eq(int, pw_engine_register(p.b.e, &memory, 8, PW_READ | PW_WRITE |
                                             PW_ATOMIC, false, &key), 0));
        pair_before_send = die_meanwhile;
        err = what == 0 ? pw_endpoint_get(p.a.ep, &local, at(&memory), 8, &key, pair_done, &o)
            : what == 1 ? pw_endpoint_put(p.a.ep, &local, at(&memory), 8, &key, pair_done, &o)
            : pw_endpoint_atomic(p.a.ep, &add, at(&memory), NULL, &key, pair_done, &o);
        expect_ended_once(&p, &o, err);
        pair_close(&p);
    }
}

/* The owner refuses a put before its data was even queued. */
static void answer_meanwhile(uint32_t imm)
{
    (void)imm;
    pair_after_send = NULL;
    pw_engine_progress(met->b.e);
    pw_engine_progress(met->a.e);
}

Test(threads, a_put_that_is_refused_at_once_sends_no_data)
{
    struct pair_outcome o = { 0 };
    uint64_t memory = 5, local = 6;
    struct pw_key key = { 0 };
    struct pw_stats stats;
    struct pair p;

    pair_open(&p, &(struct pair_plan){ .threads = true });
    met = &p;
    cr_assert(eq(int, pw_engine_register(p.b.e, &memory, 8, PW_READ, false, &key), 0));
    key.access = PW_WRITE;
    pair_after_send = answer_meanwhile;
    cr_expect(eq(int, pw_endpoint_put(p.a.ep, &local, at(&memory), 8, &key, pair_done, &o),
                 PW_NIC_PENDING));
    cr_expect(eq(uint, o.calls, 1), "the answer came before put returned");
    cr_expect(eq(uint, p.a.e->n_waiting, 0), "its buffer is the caller's again");
    pair_turns(&p, 3);
    pw_engine_stats(p.a.e, &stats);
    cr_expect(eq(u64, stats.stream_bytes, 0));
    cr_expect(eq(uint, o.calls, 1));
    cr_expect(eq(int, o.status, -EACCES));
    pair_close(&p);
}

/* ---- in earnest ---- */

struct worker {
    pthread_t thread;
    struct pair *p;
    unsigned number;
    bool failed;
    uint8_t *mine, *theirs;
    struct pw_key key;
};

static unsigned running;    /* workers */
static unsigned next_of[THREADS];
static bool disorder;

static void workers_start(struct worker *w, struct pair *p, void *(*body)(void *))
{
    running = THREADS;
    for (unsigned i = 0; i < THREADS; i++) {
        w[i].p = p;
        w[i].number = i;
        cr_assert(eq(int, pthread_create(&w[i].thread, NULL, body, &w[i]), 0));
    }
}

/* This thread makes progress until all workers are through. */
static void workers_join(struct worker *w, struct pair *p)
{
    while (__atomic_load_n(&running, __ATOMIC_ACQUIRE))
        pair_turns(p, 1);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(w[i].thread, NULL);
        cr_expect(not(w[i].failed), "worker %d", i);
    }
    pair_turns(p, 20);
}

static void worker_ends(void)
{
    __atomic_fetch_sub(&running, 1, __ATOMIC_RELEASE);
}

static void note_order(struct pair_side *side, const void *data, size_t len)
{
    uint32_t words[2];

    (void)side;
    if (len != sizeof words)
        return;
    memcpy(words, data, sizeof words);
    disorder |= words[0] >= THREADS || words[1] != next_of[words[0]]++;
}

static void *send_many(void *arg)
{
    struct worker *w = arg;
    struct pair_side *side = &w->p->a;

    for (uint32_t i = 0; i < TIMES; i++) {
        uint32_t words[2] = { w->number, i };
        struct pw_iov iov = { words, sizeof words };
        int err;

        while ((err = pw_endpoint_send(side->ep, 0, &iov, 1)) == -EAGAIN)
            sched_yield();
        w->failed |= err != 0;
    }
    worker_ends();
    return NULL;
}

static void send_over(const struct pair_plan *plan)
{
    struct worker w[THREADS] = { { 0 } };
    struct pair p;

    pair_open(&p, plan);
    p.b.on_data = note_order;
    workers_start(w, &p, send_many);
    workers_join(w, &p);
    cr_expect(pair_until(&p, &p.b.received, THREADS * TIMES));
    cr_expect(not(disorder), "each thread's messages are in order");
    pair_close(&p);
}

Test(threads, all_send_while_one_makes_progress)
{
    send_over(&(struct pair_plan){ .threads = true, .queue_bytes = 4096 });
}

Test(threads, all_send_through_a_guard)
{
    fake_nic_traits(&fake_nic_ops)->flags &= ~(uint32_t)PW_NIC_LOSSLESS;
    send_over(&(struct pair_plan){ .threads = true });
}

static void *queue_many(void *arg)
{
    struct worker *w = arg;
    struct pair_note *notes = calloc(TIMES, sizeof *notes);

    for (uint32_t i = 0; i < TIMES; i++)
        pair_queue(&w->p->a, &notes[i], 0);
    for (uint32_t i = 0; i < TIMES; i++)
        while (!__atomic_load_n(&notes[i].calls, __ATOMIC_ACQUIRE))
            sched_yield();
    free(notes);
    worker_ends();
    return NULL;
}

Test(threads, all_queue_while_one_makes_progress)
{
    struct worker w[THREADS] = { { 0 } };
    struct pair p;

    pair_open(&p, &(struct pair_plan){ .threads = true, .queue_bytes = 4096 });
    workers_start(w, &p, queue_many);
    workers_join(w, &p);
    cr_expect(pair_until(&p, &p.b.received, THREADS * TIMES));
    pair_close(&p);
}

static void flag_done(void *arg, int status)
{
    __atomic_store_n((int *)arg, status ? status : 1, __ATOMIC_RELEASE);
}

static int wait_for(int *flag)
{
    int status;

    while (!(status = __atomic_load_n(flag, __ATOMIC_ACQUIRE)))
        sched_yield();
    return status;
}

/* Put, get back and compare, in memory of its own; flush as osc/rdma does. */
static void *put_and_get(void *arg)
{
    struct worker *w = arg;
    struct pw_endpoint *ep = w->p->a.ep;
    uint8_t back[PIECE];

    for (int i = 0; i < TIMES / 4; i++) {
        int put = 0, get = 0;

        memset(w->mine, i + (int)w->number, PIECE);
        w->failed |= pw_endpoint_put(ep, w->mine, at(w->theirs), PIECE, &w->key, flag_done,
                                     &put) != PW_NIC_PENDING || wait_for(&put) != 1;
        w->failed |= pw_endpoint_get(ep, back, at(w->theirs), PIECE, &w->key, flag_done,
                                     &get) != PW_NIC_PENDING;
        pw_engine_flush(w->p->a.e);
        w->failed |= wait_for(&get) != 1 || memcmp(back, w->mine, PIECE);
    }
    worker_ends();
    return NULL;
}

static void transfer_over(const struct pair_plan *plan)
{
    static uint8_t mine[THREADS][PIECE], theirs[THREADS][PIECE];
    struct worker w[THREADS] = { { 0 } };
    struct pair p;

    pair_open(&p, plan);
    for (int i = 0; i < THREADS; i++) {
        w[i].mine = mine[i];
        w[i].theirs = theirs[i];
        cr_assert(eq(int, pw_engine_register(p.b.e, theirs[i], PIECE, PW_READ | PW_WRITE,
                                             false, &w[i].key), 0));
    }
    workers_start(w, &p, put_and_get);
    workers_join(w, &p);
    cr_expect(eq(uint, p.a.e->n_pending, 0));
    pair_close(&p);
}

static _Thread_local bool flushes;
static unsigned ways_given;     /* by that thread */

int sched_yield(void)
{
    if (flushes)
        __atomic_fetch_add(&ways_given, 1, __ATOMIC_RELAXED);
    return (int)syscall(SYS_sched_yield);
}

static void *flush_main(void *arg)
{
    flushes = true;
    pw_engine_flush(arg);
    return NULL;
}

/* Who asks for the locks again and again keeps them from the one for which it waits. */
Test(threads, who_flushes_gives_way_to_who_makes_progress, .timeout = 120)
{
    uint64_t memory = 5, local = 6, until = pw_now_ns() + UINT64_C(20000000000);
    struct pair_outcome o = { 0 };
    struct pw_key key = { 0 };
    pthread_t thread;
    struct pair p;

    pair_open(&p, &(struct pair_plan){ .threads = true });
    cr_assert(eq(int, pw_engine_register(p.b.e, &memory, 8, PW_READ, false, &key), 0));
    cr_assert(eq(int, pw_endpoint_get(p.a.ep, &local, at(&memory), 8, &key, pair_done, &o),
                 PW_NIC_PENDING));
    cr_assert(eq(int, pw_progress_enter(p.a.e), 1));
    cr_assert(eq(int, pthread_create(&thread, NULL, flush_main, p.a.e), 0));
    while (__atomic_load_n(&ways_given, __ATOMIC_RELAXED) < 100 && pw_now_ns() < until)
        sched_yield();
    cr_expect(le(uint, 100, __atomic_load_n(&ways_given, __ATOMIC_RELAXED)));
    pw_progress_leave(p.a.e);
    while (__atomic_load_n(&p.a.e->n_pending, __ATOMIC_RELAXED)) {
        pw_engine_progress(p.b.e);
        pw_engine_progress(p.a.e);
    }
    pthread_join(thread, NULL);
    cr_expect(eq(u64, local, 5));
    pw_engine_deregister(p.b.e, &key);
    pair_close(&p);
}

Test(threads, all_put_and_get_by_frames)
{
    transfer_over(&(struct pair_plan){ .threads = true, .chunk = 64 });
}

Test(threads, all_put_and_get_by_the_nic)
{
    fake_nic_traits(&fake_nic_ops)->pending = true;
    transfer_over(&(struct pair_plan){ .threads = true, .keyed = true });
}

static void *register_many(void *arg)
{
    struct worker *w = arg;
    struct pw_engine *e = w->p->a.e;
    char memory[64];

    for (int i = 0; i < TIMES; i++) {
        struct pw_key key = { 0 };

        w->failed |= pw_engine_register(e, memory, 64, PW_READ, false, &key) != 0;
        w->failed |= pw_region_check(e, key.id, at(memory), 64, PW_READ) != 0;
        pw_engine_deregister(e, &key);
        w->failed |= pw_region_check(e, key.id, at(memory), 64, PW_READ) != -EACCES;
    }
    worker_ends();
    return NULL;
}

Test(threads, all_register_and_deregister)
{
    struct worker w[THREADS] = { { 0 } };
    struct pair p;

    pair_open(&p, &(struct pair_plan){ .threads = true, .keyed = true });
    workers_start(w, &p, register_many);
    workers_join(w, &p);
    cr_expect(eq(uint, fake_nic_pins(pair_nic(&p.a, 0)), 0));
    pair_close(&p);
}

static void *open_and_close(void *arg)
{
    struct worker *w = arg;
    struct pair_side *a = &w->p->a;
    uint8_t addr[PW_NIC_ADDRESS_MAX + 16];
    int len = pw_engine_address(w->p->b.e, addr, sizeof addr);
    char why[PW_NIC_WHY_MAX];

    for (int i = 0; i < TIMES / 4; i++) {
        struct pw_endpoint *ep;

        w->failed |= pw_endpoint_open(a->e, addr, (size_t)len, a, &ep, why) != 0;
        sched_yield();
        pw_endpoint_close(ep);
    }
    worker_ends();
    return NULL;
}

/* One guarded endpoint besides, so that progress walks along the list. */
Test(threads, all_open_and_close_endpoints)
{
    struct worker w[THREADS] = { { 0 } };
    struct pair p;

    fake_nic_traits(&fake_nic_ops)->flags &= ~(uint32_t)PW_NIC_LOSSLESS;
    pair_open(&p, &(struct pair_plan){ .threads = true });
    workers_start(w, &p, open_and_close);
    workers_join(w, &p);
    cr_expect(eq(ptr, p.a.e->endpoints, p.a.ep), "one is left");
    cr_expect(eq(ptr, p.a.ep->next, NULL));
    pair_close(&p);
}

/* Progress in every thread at once: one does it, the others return. */
static void *progress_many(void *arg)
{
    struct worker *w = arg;

    for (int i = 0; i < TIMES; i++) {
        pw_engine_progress(w->p->a.e);
        pw_engine_progress(w->p->b.e);
    }
    worker_ends();
    return NULL;
}

Test(threads, all_make_progress)
{
    struct worker w[THREADS] = { { 0 } };
    uint32_t sent = 0;
    struct pair p;

    pair_open(&p, &(struct pair_plan){ .threads = true });
    workers_start(w, &p, progress_many);
    while (__atomic_load_n(&running, __ATOMIC_ACQUIRE))
        sent += pair_send(&p.a, sent) == 0;
    workers_join(w, &p);
    cr_expect(pair_until(&p, &p.b.received, sent));
    cr_expect(not(p.b.disorder));
    pair_close(&p);
}

/* Each transfer ends, with or without its data, when the peer dies under it. */
static void *until_death(void *arg)
{
    struct worker *w = arg;
    int err;

    do {
        int flag = 0;

        err = pw_endpoint_put(w->p->a.ep, w->mine, at(w->theirs), PIECE, &w->key, flag_done,
                              &flag);
        if (err == PW_NIC_PENDING)
            err = wait_for(&flag);
    } while (err == 1 || err == -EAGAIN);
    w->failed = err != -EPIPE;
    worker_ends();
    return NULL;
}

Test(threads, a_death_ends_what_all_have_under_way)
{
    static uint8_t mine[THREADS][PIECE], theirs[THREADS][PIECE];
    struct worker w[THREADS] = { { 0 } };
    struct pair p;

    pair_open(&p, &(struct pair_plan){ .threads = true, .chunk = 64 });
    for (int i = 0; i < THREADS; i++) {
        w[i].mine = mine[i];
        w[i].theirs = theirs[i];
        cr_assert(eq(int, pw_engine_register(p.b.e, theirs[i], PIECE, PW_WRITE, false,
                                             &w[i].key), 0));
    }
    workers_start(w, &p, until_death);
    pair_turns(&p, 200);
    fake_nic_die(pair_nic(&p.b, 0));
    workers_join(w, &p);
    cr_expect(eq(uint, p.a.deaths, 1));
    cr_expect(eq(uint, p.a.e->n_pending, 0));
    cr_expect(eq(uint, p.a.e->n_waiting, 0));
    pair_close(&p);
}
