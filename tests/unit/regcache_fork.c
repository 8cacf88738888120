/* SPDX-License-Identifier: BSD-3-Clause */
/* regcache_fork.c - a forked child starts with an empty cache and leaves what its
 * parent has pinned alone; and a machine without membarrier(2).
 *
 * The fakes lie in shared memory, so the parent sees what the child did to them. */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "regcache_rig.h"

/* Run in a forked child, which exits with what fn returns. */
static int in_child(int (*fn)(struct rig *), struct rig *g)
{
    pid_t pid = fork();
    int status;

    if (!pid)
        _exit(fn(g));
    cr_assert(eq(int, waitpid(pid, &status, 0), pid));
    cr_assert(eq(int, WTERMSIG(status), 0));
    return WEXITSTATUS(status);
}

static int use_page_0(struct rig *g)
{
    struct pw_region *r;
    int pins = g->pin->pins;

    if (pw_regcache_get(g->rc, g->buf, PAGE, PW_READ, &r) || g->pin->pins != pins + 1)
        return 1;
    pw_regcache_put(g->rc, r);
    if (pw_regcache_get(g->rc, g->buf, PAGE, PW_READ, &r) || g->pin->pins != pins + 1)
        return 2;
    pw_regcache_put(g->rc, r);
    return 0;
}

Test(regcache_fork, a_child_pins_for_itself)
{
    struct rig g;

    rig_open(&g);
    rig_use(&g, 0, 1);
    cr_expect(eq(int, in_child(use_page_0, &g), 0));
    cr_expect(eq(int, g.pin->unpins, 0), "what the parent pinned stays");
    rig_use(&g, 0, 1);
    cr_expect(eq(int, g.pin->pins, 2), "the parent still hits");
    g.pin->pins--;              /* the child's, which it did not close */
    g.pin->bytes -= PAGE;
    rig_close(&g);
}

static int use_and_close(struct rig *g)
{
    int err = use_page_0(g);

    pw_regcache_close(g->rc);
    return err ? err : g->pin->unpins != 1;
}

Test(regcache_fork, a_child_that_closes_unpins_its_own_only)
{
    struct rig g;

    rig_open(&g);
    rig_use(&g, 0, 1);
    rig_use(&g, 10, 1);
    cr_expect(eq(int, in_child(use_and_close, &g), 0));
    cr_expect(eq(int, g.pin->unpins, 1));
    rig_use(&g, 0, 1);
    cr_expect(eq(int, g.pin->pins, 3));
    rig_close(&g);
}

static int close_at_once(struct rig *g)
{
    pw_regcache_progress(g->rc);
    pw_regcache_close(g->rc);
    return g->pin->unpins;
}

Test(regcache_fork, a_child_that_only_closes_unpins_nothing)
{
    struct pw_region *held;
    struct rig g;

    rig_open(&g);
    held = rig_get(&g, 0, 1, PW_READ);
    cr_expect(eq(int, in_child(close_at_once, &g), 0));
    cr_expect(fake_is_pinned(held));
    pw_regcache_put(g.rc, held);
    rig_close(&g);
}

static int count_is_zero(struct rig *g)
{
    struct pw_regcache_stats s;

    if (pw_regcache_trim(g->rc, SIZE_MAX))
        return 1;
    s = rig_stats(g);
    return s.pinned_bytes || s.regions || s.hits;
}

Test(regcache_fork, a_child_counts_from_zero)
{
    struct rig g;

    rig_open(&g);
    rig_use(&g, 0, 1);
    rig_use(&g, 0, 1);
    cr_expect(eq(int, in_child(count_is_zero, &g), 0));
    rig_close(&g);
}

static int child_of_child(struct rig *g)
{
    int err = use_and_close(g), status;
    pid_t pid;

    (void)err;
    pid = fork();
    if (!pid)
        _exit(0);
    return waitpid(pid, &status, 0) == pid ? WEXITSTATUS(status) : 9;
}

static int use_then_fork(struct rig *g)
{
    int err = use_page_0(g), status;
    pid_t pid;

    if (err)
        return err;
    pid = fork();
    if (!pid)
        _exit(use_page_0(g));
    return waitpid(pid, &status, 0) == pid ? 10 * WEXITSTATUS(status) : 9;
}

Test(regcache_fork, a_child_of_a_child_does_too)
{
    struct rig g;

    rig_open(&g);
    rig_use(&g, 0, 1);
    cr_expect(eq(int, in_child(use_then_fork, &g), 0));
    cr_expect(eq(int, in_child(child_of_child, &g), 0));
    cr_expect(eq(int, g.pin->unpins, 1), "by the one that closed");
}

/* Another thread is inside a pin, and in and out of the lock, while we fork. */
static void *busy(void *arg)
{
    struct rig *g = arg;
    struct pw_region *r;

    for (size_t i = 0; !__atomic_load_n(&g->mon->speechless, __ATOMIC_RELAXED); i++) {
        if (pw_regcache_get(g->rc, g->buf + i % 500 * 2 * PAGE, PAGE, PW_READ, &r))
            continue;
        pw_regcache_put(g->rc, r);
        if (i % 100 == 0)
            pw_regcache_trim(g->rc, SIZE_MAX);
    }
    return NULL;
}

static int use_far_page(struct rig *g)
{
    struct pw_region *r;

    alarm(10);
    if (pw_regcache_get(g->rc, g->buf + 5000 * PAGE, PAGE, PW_READ, &r))
        return 1;
    pw_regcache_put(g->rc, r);
    return 0;
}

Test(regcache_fork, forking_while_another_thread_is_in_the_cache)
{
    pthread_t t;
    struct rig g;

    rig_open(&g);
    cr_assert(eq(int, pthread_create(&t, NULL, busy, &g), 0));
    for (int i = 0; i < 50; i++)
        cr_assert(eq(int, in_child(use_far_page, &g), 0), "in round %d", i);
    __atomic_store_n(&g.mon->speechless, true, __ATOMIC_RELAXED);
    pthread_join(t, NULL);
}

static void forbid_membarrier(void)
{
    struct sock_filter f[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = { sizeof(f) / sizeof(f[0]), f };

    cr_assert(eq(int, prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0));
    cr_assert(eq(int, prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog), 0));
}

Test(regcache_fork, without_membarrier_it_works_under_its_lock)
{
    struct pw_region *held;
    struct rig g;

    forbid_membarrier();
    rig_open(&g);
    rig_use(&g, 0, 1);
    held = rig_get(&g, 0, 1, PW_READ);
    rig_change(&g, 0, 1);
    rig_use(&g, 0, 1);
    cr_expect(fake_is_pinned(held));
    pw_regcache_put(g.rc, held);
    cr_expect(eq(int, g.pin->pins, 2));
    cr_expect(eq(int, g.pin->unpins, 1));
    cr_expect(eq(u64, rig_stats(&g).hits, 1));
    rig_close(&g);
}
