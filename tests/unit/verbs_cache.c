/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_cache.c - our own memory of long puts and gets over libibverbs is registered once and
 * remembered, for as long as it does not change.
 *
 * Two engines of this process talk over a device of fake_verbs.h. The cache is the real one,
 * its monitor sees what a test shows it.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fake_monitor.h"
#include "fake_verbs.h"
#include "pair.h"
#include "pinwheel/pool.h"

enum { LEN = 1 << 20, SHORT = 4096 };

extern const struct pw_nic_ops pw_nic_verbs;
static const struct pw_nic_ops *const backends[] = { &pw_nic_verbs, NULL };

static struct fake_monitor monitors[2];     /* of each engine, in the order of opening */
static unsigned n_monitors;

static int monitor_open(const char *name, struct pw_monitor **out,
                        struct pw_monitor_report *report)
{
    struct fake_monitor *m = &monitors[n_monitors++ % 2];

    (void)name;
    (void)report;
    fake_monitor_init(m);
    *out = &m->super;
    return 0;
}

static struct pair p;
static struct pw_key theirs;
static char *mine, *remote;

static unsigned registered(void)
{
    unsigned n;

    fake_verbs_lock();
    n = rdma.registered;
    fake_verbs_unlock();
    return n;
}

static char *memory_make(void)
{
    char *memory = aligned_alloc(4096, LEN);

    cr_assert(memory != NULL);
    memset(memory, 0, LEN);
    return memory;
}

static int move_once(bool put, size_t len)
{
    struct pair_outcome o = { 0 };
    uint64_t at = (uintptr_t)remote;
    int err;

    err = put ? pw_endpoint_put(p.a.ep, mine, at, len, &theirs, pair_done, &o)
              : pw_endpoint_get(p.a.ep, mine, at, len, &theirs, pair_done, &o);
    cr_assert(eq(int, err, PW_NIC_PENDING));
    cr_assert(pair_until(&p, &o.calls, 1));
    return o.status;
}

/* Other bytes each time. */
static void move(bool put, size_t len)
{
    static char byte;

    memset(mine, ++byte, len);
    memset(remote, ++byte, len);
    cr_expect(eq(int, move_once(put, len), 0));
    cr_expect(eq(int, mine[len - 1], put ? byte - 1 : byte));
    cr_expect(eq(int, memcmp(mine, remote, len), 0));
}

static void open_with(size_t pin_bytes)
{
    struct pair_plan plan = { .backends = backends, .monitor_open = monitor_open,
                              .pin_bytes = pin_bytes };
    char why[PW_NIC_WHY_MAX];

    if (verbs_memlock_refuses(why))
        cr_skip("%s", why);
    fake_verbs_install();
    pair_open(&p, &plan);
    mine = memory_make();
    remote = memory_make();
    cr_assert(eq(int, pw_engine_register(p.b.e, remote, LEN, PW_READ | PW_WRITE, true,
                                         &theirs), 0));
    cr_assert(eq(int, pair_send(&p.a, 0), 0));
    cr_assert(pair_until(&p, &p.b.received, 1));
}

static void open_both(void)
{
    open_with(0);
}

static void open_small(void)
{
    open_with(LEN + LEN / 2);
}

static void close_both(void)
{
    pw_engine_deregister(p.b.e, &theirs);
    pair_close(&p);
    cr_expect(eq(uint, rdma.opened, 0), "all is given back");
    fake_verbs_remove();
    free(mine);
    free(remote);
}

#define BOTH .init = open_both, .fini = close_both, .timeout = 60

Test(verbs_cache, what_is_put_again_and_again_is_registered_once, BOTH)
{
    unsigned before = registered();

    for (int i = 0; i < 5; i++)
        move(true, LEN);
    cr_expect(eq(uint, registered(), before + 1));
}

Test(verbs_cache, what_is_got_into_again_and_again_is_registered_once, BOTH)
{
    unsigned before = registered();

    for (int i = 0; i < 5; i++)
        move(false, LEN);
    cr_expect(eq(uint, registered(), before + 1));
}

Test(verbs_cache, a_part_of_it_is_registered_with_it, BOTH)
{
    unsigned before;

    move(true, LEN);
    before = registered();
    move(true, LEN / 4);
    cr_expect(eq(uint, registered(), before));
}

/* An munmap and an mmap, as the monitor tells it. */
Test(verbs_cache, memory_that_changed_is_registered_anew, BOTH)
{
    unsigned before;

    move(true, LEN);
    before = registered();
    fake_monitor_change(&monitors[0], mine, LEN);
    move(true, LEN);
    cr_expect(eq(uint, registered(), before + 1));
    move(true, LEN);
    cr_expect(eq(uint, registered(), before + 1));
}

Test(verbs_cache, short_ones_register_nothing, BOTH)
{
    unsigned before;

    move(true, SHORT);
    move(false, SHORT);         /* buffers of ours were made for that */
    before = registered();
    move(true, SHORT);
    move(false, SHORT);
    cr_expect(eq(uint, registered(), before));
}

/* What may be pinned is spent: it is registered for each operation, as long as that takes. */
Test(verbs_cache, without_room_in_the_budget_it_goes_on, .init = open_small,
     .fini = close_both, .timeout = 60)
{
    char *other = memory_make();
    struct pw_key key = { 0 };
    unsigned before;

    cr_assert(eq(int, pw_engine_register(p.a.e, other, LEN, PW_READ, true, &key), 0));
    before = registered();
    for (unsigned i = 1; i < 4; i++) {
        move(i % 2, LEN);
        cr_expect(eq(uint, registered(), before + i));
    }
    pw_engine_deregister(p.a.e, &key);
    move(true, LEN);
    cr_expect(eq(uint, registered(), before + 4));
    move(true, LEN);
    cr_expect(eq(uint, registered(), before + 4), "there is room again");
    free(other);
}

/* MPI_Alloc_mem, as often as a program likes. */
Test(verbs_cache, many_buffers_of_the_pool_are_registered_at_once, BOTH)
{
    enum { BUFFERS = 50, EACH = 32 << 10 };
    struct pw_key keys[BUFFERS];
    char *buffers[BUFFERS];
    unsigned before;

    for (int i = 0; i < BUFFERS; i++) {
        buffers[i] = pw_pool_alloc(p.a.pool, EACH, 0);
        cr_assert(buffers[i] != NULL);
    }
    before = registered();
    for (int i = 0; i < BUFFERS; i++)
        cr_assert(eq(int, pw_engine_register(p.a.e, buffers[i], EACH, PW_READ, true,
                                             &keys[i]), 0));
    cr_expect(eq(uint, registered(), before + 1));
    for (int i = 0; i < BUFFERS; i++)
        pw_engine_deregister(p.a.e, &keys[i]);
    for (int i = 0; i < BUFFERS; i++)
        cr_expect(eq(int, pw_pool_free(p.a.pool, buffers[i]), 0));
}

/* Others come behind them: those that were registered are not registered once more. */
Test(verbs_cache, a_pool_that_grows_registers_what_is_new, BOTH)
{
    enum { EACH = 256 << 10 };
    struct pw_key first, again, other;
    char *one = pw_pool_alloc(p.a.pool, EACH, 0), *two;
    unsigned before = registered();

    cr_assert(eq(int, pw_engine_register(p.a.e, one, EACH, PW_READ, true, &first), 0));
    cr_expect(eq(uint, registered(), before + 1));
    two = pw_pool_alloc(p.a.pool, EACH, 0);
    cr_assert(eq(int, pw_engine_register(p.a.e, one, EACH, PW_READ, true, &again), 0));
    cr_expect(eq(uint, registered(), before + 1));
    cr_assert(eq(int, pw_engine_register(p.a.e, two, EACH, PW_READ, true, &other), 0));
    cr_expect(eq(uint, registered(), before + 2));
    pw_engine_deregister(p.a.e, &first);
    pw_engine_deregister(p.a.e, &again);
    pw_engine_deregister(p.a.e, &other);
    pw_pool_free(p.a.pool, one);
    pw_pool_free(p.a.pool, two);
}

/* Nothing more of ours may be locked, not even for one operation: frames bring it. */
Test(verbs_cache, what_the_device_does_not_take_is_copied, BOTH)
{
    unsigned before;

    move(true, SHORT);
    move(false, SHORT);         /* buffers of ours were made for that */
    before = registered();
    fake_verbs_refuse("reg_mr", ENOMEM);
    for (int i = 0; i < 4; i++)
        move(i % 2, LEN);
    cr_expect(eq(uint, registered(), before));
    fake_verbs_refuse(NULL, 0);
    move(true, LEN);
    cr_expect(eq(uint, registered(), before + 1), "when it does, it is registered");
}

/* As a window is that may not be registered. */
Test(verbs_cache, memory_of_no_nic_is_reached_by_frames, BOTH)
{
    struct pw_key key = { 0 };

    fake_verbs_refuse("reg_mr", ENOMEM);
    cr_expect(eq(int, pw_engine_register(p.b.e, mine, LEN, PW_READ, true, &key), -ENOMEM));
    fake_verbs_refuse(NULL, 0);
    pw_engine_deregister(p.b.e, &theirs);
    cr_assert(eq(int, pw_engine_register_copied(p.b.e, remote, LEN, PW_READ | PW_WRITE, true,
                                                &theirs), 0));
    for (int i = 0; i < 4; i++)
        move(i % 2, LEN);
}

/* As close_both() sees. */
Test(verbs_cache, what_is_under_way_at_the_end_is_given_back, BOTH)
{
    static struct pair_outcome o;
    int err;

    fake_verbs_lock();
    rdma.hold_reads = true;
    fake_verbs_unlock();
    err = pw_endpoint_get(p.a.ep, mine, (uintptr_t)remote, LEN, &theirs, pair_done, &o);
    cr_assert(eq(int, err, PW_NIC_PENDING));
    pair_turns(&p, 10);
    cr_expect(eq(uint, o.calls, 0));
}
