/* SPDX-License-Identifier: BSD-3-Clause */
/* barrier.c - sends fence until membarrier(2) of others reaches this process.
 *
 * The thread that registers is made by pthread_create(), which this program has of its
 * own: it can be refused, or held back.
 */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "btl/nic/shm.h"

extern const struct pw_nic_ops pw_nic_shm;

int __real_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *arg);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *arg);

static bool refuse, ended;
static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
static struct { void *(*f)(void *); void *arg; } wanted;

static void *when_let_go(void *arg)
{
    (void)arg;
    void *result;

    pthread_mutex_lock(&held);
    pthread_mutex_unlock(&held);
    result = wanted.f(wanted.arg);
    __atomic_store_n(&ended, true, __ATOMIC_RELEASE);
    return result;
}

int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *arg)
{
    if (refuse)
        return EAGAIN;
    wanted.f = f;
    wanted.arg = arg;
    return __real_pthread_create(t, a, when_let_go, NULL);
}

static void up_recv(void *ctx, void *peer, uint32_t imm, const void *data, size_t len)
{
    (void)peer;
    (void)imm;
    (void)data;
    (void)len;
    ++*(int *)ctx;
}

static void up_complete(void *ctx, void *op, int status)
{
    (void)ctx;
    (void)op;
    (void)status;
}

static void up_down(void *ctx, void *peer, int cause, const char *why)
{
    (void)ctx;
    (void)peer;
    (void)cause;
    (void)why;
}

static const struct pw_nic_upcalls up = { .recv = up_recv, .complete = up_complete,
                                            .down = up_down };

struct host {
    struct pw_pool *pool;
    struct pw_nic *nic;
    struct pw_nic_peer *peer;
    int frames;
};

static void host_open(struct host *h)
{
    struct pw_pool_config pc = { .size = (size_t)16 << 20, .pages = PW_PAGES_4K };
    struct pw_nic_config nc = { .up = &up, .ctx = &h->frames };

    memset(h, 0, sizeof(*h));
    cr_assert(eq(int, pw_pool_open(&pc, &h->pool), 0));
    nc.pool = h->pool;
    cr_assert(eq(int, pw_nic_shm.open(&nc, &h->nic), 0));
}

static void host_connect(struct host *h, struct host *to)
{
    struct shm_address a;
    size_t len = pw_nic_shm.address(to->nic, &a);

    cr_assert(eq(int, pw_nic_shm.connect(h->nic, &a, len, h, &h->peer), 0));
}

static void host_close(struct host *h)
{
    pw_nic_shm.close(h->nic);
    pw_pool_close(h->pool);
}

static bool fences(const struct host *h)
{
    return ((struct shm_peer *)h->peer)->fenced_wake;
}

/* Both make progress until `fences` of a is so, or ten seconds are over. */
static bool until_fences(struct host *a, struct host *b, bool so)
{
    for (time_t end = time(NULL) + 10; time(NULL) < end;) {
        pw_nic_shm.progress(a->nic);
        pw_nic_shm.progress(b->nic);
        if (((struct shm_peer *)a->peer)->heard && fences(a) == so)
            return true;
    }
    return false;
}

static void need_membarrier(void)
{
    long can = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);

    if (can < 0 || !(can & MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED))
        cr_skip_test("this kernel has no membarrier for all processes");
}

static void carries(struct host *from, struct host *to)
{
    struct pw_iov iov = { "x", 1 };
    int before = to->frames;

    cr_assert(eq(int, from->nic->ops->send(from->peer, 1, &iov, 1, NULL), 0));
    for (time_t end = time(NULL) + 10; to->frames == before && time(NULL) < end;)
        pw_nic_shm.progress(to->nic);
    cr_expect(eq(int, to->frames, before + 1));
}

Test(barrier, sends_fence_until_it_is_set_up)
{
    struct host a, b;

    need_membarrier();
    pthread_mutex_lock(&held);
    host_open(&a);
    refuse = true;              /* b's is the like, and not waited for */
    host_open(&b);
    host_connect(&a, &b);
    host_connect(&b, &a);
    cr_assert(until_fences(&a, &b, true));
    for (int i = 0; i < 1000; i++)
        pw_nic_shm.progress(a.nic);
    cr_expect(fences(&a), "nothing has been set up yet");
    carries(&a, &b);

    pthread_mutex_unlock(&held);
    cr_expect(until_fences(&a, &b, false));
    carries(&a, &b);
    host_close(&a);
    host_close(&b);
}

Test(barrier, without_a_thread_it_is_set_up_at_once)
{
    struct host a, b;

    need_membarrier();
    refuse = true;
    host_open(&a);
    host_open(&b);
    host_connect(&a, &b);
    host_connect(&b, &a);
    cr_expect(until_fences(&a, &b, false));
    carries(&a, &b);
    host_close(&a);
    host_close(&b);
}

Test(barrier, who_closes_early_waits_for_it)
{
    struct host a;

    need_membarrier();
    host_open(&a);
    host_close(&a);
    cr_expect(__atomic_load_n(&ended, __ATOMIC_ACQUIRE));
}
