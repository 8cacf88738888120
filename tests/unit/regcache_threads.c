/* SPDX-License-Identifier: BSD-3-Clause */
/* regcache_threads.c - the cache under several threads: references that move between
 * them, threads that end, and everything at once. */
#include <pthread.h>
#include <sched.h>

#include "pinwheel/clock.h"
#include "regcache/cache.h"
#include "regcache_rig.h"

struct errand {
    struct rig *g;
    struct pw_region *r;
    pthread_t thread;
    pthread_barrier_t *step;
};

static void *put_it(void *arg)
{
    struct errand *e = arg;

    pw_regcache_put(e->g->rc, e->r);
    return NULL;
}

static void *get_it(void *arg)
{
    struct errand *e = arg;

    e->r = rig_get(e->g, 0, 1, PW_READ);
    return NULL;
}

static void run(void *(*fn)(void *), struct errand *e)
{
    cr_assert(eq(int, pthread_create(&e->thread, NULL, fn, e), 0));
    pthread_join(e->thread, NULL);
}

Test(regcache_threads, one_gets_another_puts)
{
    struct errand e;
    struct rig g;

    rig_open(&g);
    e.g = &g;
    e.r = rig_get(&g, 0, 1, PW_READ);
    run(put_it, &e);
    rig_change(&g, 0, 1);
    pw_regcache_progress(g.rc);
    cr_expect(eq(int, g.pin->unpins, 1), "nobody holds it");
    rig_close(&g);
}

Test(regcache_threads, a_region_outlives_the_thread_that_got_it)
{
    struct errand e;
    struct rig g;

    rig_open(&g);
    e.g = &g;
    run(get_it, &e);
    rig_change(&g, 0, 1);
    pw_regcache_progress(g.rc);
    cr_expect(fake_is_pinned(e.r));
    pw_regcache_put(g.rc, e.r);
    cr_expect(eq(int, g.pin->unpins, 1));
    rig_close(&g);
}

Test(regcache_threads, the_last_put_unpins_whichever_thread_it_is)
{
    struct errand e;
    struct rig g;

    rig_open(&g);
    e.g = &g;
    run(get_it, &e);
    pw_regcache_put(g.rc, rig_get(&g, 0, 1, PW_READ));
    rig_change(&g, 0, 1);
    pw_regcache_progress(g.rc);
    cr_expect(eq(int, g.pin->unpins, 0));
    run(put_it, &e);
    cr_expect(eq(int, g.pin->unpins, 1));
    rig_close(&g);
}

static void *use_once(void *arg)
{
    rig_use(((struct errand *)arg)->g, 0, 1);
    return NULL;
}

static size_t seats_of(struct pw_regcache *rc)
{
    size_t n = 0;

    for (struct pw_seat *s = pw_cache_of(rc)->seats; s; s = s->next)
        n++;
    return n;
}

Test(regcache_threads, threads_that_end_leave_their_seats_to_others)
{
    struct errand e;
    struct rig g;

    rig_open(&g);
    e.g = &g;
    for (int i = 0; i < 100; i++)
        run(use_once, &e);
    cr_expect(eq(sz, seats_of(g.rc), 1));
    cr_expect(eq(int, g.pin->pins, 1));
    cr_expect(eq(u64, rig_stats(&g).hits, 99));
    rig_close(&g);
}

static void *use_and_wait(void *arg)
{
    struct errand *e = arg;

    rig_use(e->g, 0, 1);
    pthread_barrier_wait(e->step);
    pthread_barrier_wait(e->step);
    return NULL;
}

Test(regcache_threads, a_thread_may_end_after_the_cache_was_closed)
{
    pthread_barrier_t step;
    struct errand e;
    struct rig g;

    rig_open(&g);
    e.g = &g;
    e.step = &step;
    pthread_barrier_init(&step, NULL, 2);
    cr_assert(eq(int, pthread_create(&e.thread, NULL, use_and_wait, &e), 0));
    pthread_barrier_wait(&step);
    rig_close(&g);
    pthread_barrier_wait(&step);
    cr_expect(eq(int, pthread_join(e.thread, NULL), 0));
}

/* Some get and put and look whether what they hold is pinned, one changes pages, one
 * trims. Regions wander from thread to thread through a mailbox. */
enum { WORKERS = 3, SPAN = 64, MAIL = 8 };

struct crowd {
    struct rig g;
    struct pw_region *mail[MAIL];
    bool stop;
    long gets, wrong;
};

static void worker_step(struct crowd *c, unsigned *seed)
{
    size_t len = 1 + (size_t)rand_r(seed) % 4, at = (size_t)rand_r(seed) % (SPAN - len);
    struct pw_region *r, *other;
    int err = pw_regcache_get(c->g.rc, c->g.buf + at * PAGE, len * PAGE, PW_READ, &r);

    if (err == -EAGAIN || err == -ENOMEM)
        return;
    __atomic_add_fetch(&c->gets, 1, __ATOMIC_RELAXED);
    if (err || !fake_is_pinned(r))
        __atomic_add_fetch(&c->wrong, 1, __ATOMIC_RELAXED);
    if (rand_r(seed) % 4 == 0) {
        other = __atomic_exchange_n(&c->mail[rand_r(seed) % MAIL], r, __ATOMIC_ACQ_REL);
        r = other;
    }
    if (rand_r(seed) % 8 == 0)
        sched_yield();
    if (r && !fake_is_pinned(r))
        __atomic_add_fetch(&c->wrong, 1, __ATOMIC_RELAXED);
    if (r)
        pw_regcache_put(c->g.rc, r);
}

static void *worker(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)&seed;
    struct crowd *c = arg;

    for (int i = 0; i < 2000; i++)
        worker_step(c, &seed);
    return NULL;
}

static void *workers(void *arg)     /* one after another, so that threads end */
{
    struct crowd *c = arg;
    pthread_t t;

    while (!__atomic_load_n(&c->stop, __ATOMIC_RELAXED)) {
        pthread_create(&t, NULL, worker, c);
        pthread_join(t, NULL);
    }
    return NULL;
}

static void *changer(void *arg)
{
    struct crowd *c = arg;
    unsigned seed = 99;

    while (!__atomic_load_n(&c->stop, __ATOMIC_RELAXED)) {
        rig_change(&c->g, (size_t)rand_r(&seed) % SPAN, 1 + (size_t)rand_r(&seed) % 3);
        if (rand_r(&seed) % 16 == 0)
            pw_regcache_trim(c->g.rc, 4 * PAGE);
        for (volatile int i = 0; i < 300; i++)
            ;
    }
    return NULL;
}

Test(regcache_threads, everything_at_once)
{
    uint64_t until = pw_now_ns() + UINT64_C(20000000000);
    struct crowd c = { .stop = false };
    pthread_t t[WORKERS + 1];

    rig_open_with(&c.g, 32, NULL);
    for (int i = 0; i < WORKERS; i++)
        pthread_create(&t[i], NULL, workers, &c);
    pthread_create(&t[WORKERS], NULL, changer, &c);
    while (__atomic_load_n(&c.gets, __ATOMIC_RELAXED) < 200000 && pw_now_ns() < until)
        sched_yield();
    __atomic_store_n(&c.stop, true, __ATOMIC_RELAXED);
    for (int i = 0; i <= WORKERS; i++)
        pthread_join(t[i], NULL);
    for (int i = 0; i < MAIL; i++)
        if (c.mail[i])
            pw_regcache_put(c.g.rc, c.mail[i]);
    cr_expect(lt(long, 0, c.gets));
    cr_expect(eq(long, c.wrong, 0));
    pw_regcache_trim(c.g.rc, SIZE_MAX);
    cr_expect(eq(u64, rig_stats(&c.g).pinned_regions, 0), "no reference was lost");
    rig_close(&c.g);
}
