/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_steps.c - what a message takes by libibverbs: instructions of ours, and no system
 * call.
 *
 * One side of a ping-pong goes by single steps: a look that finds a message, and the answer.
 * What the device's own functions execute is not counted. perftest's ib_send_lat takes
 * PERFTEST instructions for the same, the device's among them (doc/paths.md).
 */
#include <stdio.h>
#include <stdlib.h>

#include "fake_verbs.h"
#include "rdm_pair.h"
#include "steps.h"

enum { PERFTEST = 547, MOST = 150 };    /* percent of that */
enum { TURNS = 33, SHORT = 8 };         /* one in 32 sends tells of its end */

extern const struct pw_nic_ops pw_nic_verbs;

/* ---- a device whose functions have names ---- */

static struct ibv_context_ops real;

__attribute__((noinline)) static int device_poll_cq(struct ibv_cq *cq, int n, struct ibv_wc *wc)
{
    int got = real.poll_cq(cq, n, wc);

    __asm__ volatile("" ::: "memory");
    return got;
}

__attribute__((noinline)) static int device_post_send(struct ibv_qp *qp, struct ibv_send_wr *wr,
                                                      struct ibv_send_wr **bad)
{
    int err = real.post_send(qp, wr, bad);

    __asm__ volatile("" ::: "memory");
    return err;
}

__attribute__((noinline)) static int device_post_srq_recv(struct ibv_srq *srq,
                                                          struct ibv_recv_wr *wr,
                                                          struct ibv_recv_wr **bad)
{
    int err = real.post_srq_recv(srq, wr, bad);

    __asm__ volatile("" ::: "memory");
    return err;
}

static void device_name(struct end *end)
{
    struct ibv_context_ops *its = &((struct verbs_nic *)end->nic)->context->ops;

    real = *its;
    its->poll_cq = device_poll_cq;
    its->post_send = device_post_send;
    its->post_srq_recv = device_post_srq_recv;
}

/* ---- the story ---- */

static void device(void)
{
    char why[PW_NIC_WHY_MAX];

    if (verbs_memlock_refuses(why))
        cr_skip("%s", why);
    ops = &pw_nic_verbs;
    fake_verbs_install();
    end_device = "fake0";
}

static void clean(void)
{
    pair_close();
    fake_verbs_remove();
}

/* Threads of ours would see to messages while a step takes that long. */
static void alone(struct end *end)
{
    rdm_thread_stop((struct rdm_nic *)end->nic);
}

static int answer(struct end *from)
{
    return ops->send_inline(from->peer, 0, "message", SHORT);
}

static void turns(void)
{
    cr_assert(eq(int, answer(&a), 0));
    for (int i = 0; i < TURNS; i++) {
        unsigned before = b.frames;
        int err;

        steps_begin();
        ops->progress(b.nic);
        err = answer(&b);
        steps_end();
        cr_assert(eq(int, err, 0));
        cr_assert(eq(uint, b.frames, before + 1), "it is there at the first look");
        before = a.frames;
        SOON(a.frames == before + 1);
        cr_assert(eq(int, answer(&a), 0));
    }
}

static int by_size(const void *x, const void *y)
{
    return *(const int *)x - *(const int *)y;
}

static void counted(const struct steps_turn *turn, int n, int *typical, unsigned *calls)
{
    int all[STEPS_TURNS];

    *calls = 0;
    for (int i = 0; i < n; i++) {
        all[i] = (int)turn[i].instructions;
        *calls += turn[i].calls;
    }
    qsort(all, (size_t)n, sizeof(*all), by_size);
    *typical = all[n / 2];
    fprintf(stderr, "# instructions: %d of ours (%d to %d), %u of the device's\n", *typical,
            all[0], all[n - 1], turn[n / 2].apart);
}

Test(verbs_steps, a_message_takes_few_instructions_and_no_system_call, .init = device,
     .fini = clean, .timeout = 60)
{
    void *const apart[STEPS_APART] = { (void *)device_poll_cq, (void *)device_post_send,
                                       (void *)device_post_srq_recv };
    static struct steps_turn turn[STEPS_TURNS];
    struct steps s;
    const char *why;
    unsigned calls;
    int n, typical;

    if (!steps_open(&s, apart, &why))
        cr_skip("%s", why);
    pair_open();
    device_name(&a);
    device_name(&b);
    alone(&a);
    alone(&b);
    turns();
    n = steps_close(&s, turn);
    cr_assert(eq(int, n, TURNS));
    counted(turn, n, &typical, &calls);
    cr_expect(eq(uint, calls, 0), "the device needs none, and we make none");
#ifdef __OPTIMIZE__
    cr_expect(lt(int, 100 * typical, MOST * PERFTEST));
#endif
}
