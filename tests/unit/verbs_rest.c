/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_rest.c - a bound on open queue pairs of libibverbs: who is not needed rests, and
 * begins anew; everything arrives once and in order all the same.
 *
 * Several NICs of this process talk over a device of fake_verbs.h.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "draw.h"
#include "fake_verbs.h"
#include "pinwheel/clock.h"

enum { MOST = 8, LEN_MOST = 6000, GET = 100000, SLOW_MS = 200000 };

extern const struct pw_nic_ops pw_nic_verbs;
static const struct pw_nic_ops *const ops = &pw_nic_verbs;

struct member {
    struct pw_nic *nic;
    struct pw_nic_peer *to[MOST];
    uint32_t sent[MOST], got[MOST];     /* to, and from */
    unsigned wrong, downs, gets;
};

static struct member all[MOST];
static unsigned n_all;

/* ---- what comes ---- */

static void up_recv(void *ctx, void *peer, uint32_t imm, const void *data, size_t len)
{
    struct member *m = ctx;
    size_t from = (size_t)(uintptr_t)peer - 1;

    m->wrong += imm != m->got[from]++ || ((const uint8_t *)data)[len - 1] != (uint8_t)imm;
}

static void up_complete(void *ctx, void *op, int status)
{
    struct member *m = ctx;

    (void)op;
    m->gets++;
    m->wrong += status != 0;
}

static void up_down(void *ctx, void *peer, int cause, const char *why)
{
    (void)peer;
    (void)cause;
    (void)why;
    ((struct member *)ctx)->downs++;
}

static const struct pw_nic_upcalls upcalls = {
    .recv = up_recv, .complete = up_complete, .down = up_down,
};

/* ---- the party ---- */

static void set_bound(const char *text)
{
    const struct pw_nic_setting *s = ops->settings;
    char why[PW_NIC_WHY_MAX];

    while (strcmp(s->name, "connections") != 0)
        s++;
    cr_assert(eq(int, ops->set(s, text, why), 0));
}

static void look(void)
{
    for (unsigned i = 0; i < n_all; i++)
        if (all[i].nic)
            ops->progress(all[i].nic);
    sched_yield();
}

static bool soon(bool (*done)(void))
{
    uint64_t until = pw_now_ns() + UINT64_C(40000000000);

    while (!done() && pw_now_ns() < until)
        look();
    return done();
}

static void meet(unsigned i, unsigned k)
{
    uint8_t address[PW_NIC_ADDRESS_MAX];
    size_t len = ops->address(all[k].nic, address);

    cr_assert(eq(int, ops->connect(all[i].nic, address, len, (void *)(uintptr_t)(k + 1),
                                   &all[i].to[k]), 0));
}

/* timeout_ms: 0: it is not about that. */
static void party_open(unsigned n, unsigned timeout_ms)
{
    struct pw_nic_device device = { .usable = true, .name = "fake0" };
    char why[PW_NIC_WHY_MAX];

    /* On a busy machine nobody is lost for that. */
    if (!timeout_ms)
        timeout_ms = SLOW_MS;
    for (n_all = 0; n_all < n; n_all++) {
        struct pw_nic_config config = { .up = &upcalls, .ctx = &all[n_all], .why = why,
                                        .device = &device, .peer_timeout_ms = timeout_ms };

        cr_assert(eq(int, ops->open(&config, &all[n_all].nic), 0), "%s", why);
    }
    for (unsigned i = 0; i < n; i++)
        for (unsigned k = 0; k < n; k++)
            if (i != k)
                meet(i, k);
}

static void device(void)
{
    char why[PW_NIC_WHY_MAX];

    if (verbs_memlock_refuses(why))
        cr_skip("%s", why);
    fake_verbs_install();
}

static void clean(void)
{
    for (unsigned i = 0; i < n_all; i++) {
        if (all[i].nic)
            ops->close(all[i].nic);
        cr_expect(eq(uint, all[i].wrong, 0), "%u: each once, in order, whole", i);
    }
    cr_expect(eq(uint, rdma.opened, 0), "all is given back");
    fake_verbs_remove();
}

#define BOTH .init = device, .fini = clean, .timeout = 100

/* False: not now. */
static bool say(unsigned i, unsigned k, size_t len)
{
    static uint8_t bytes[LEN_MOST];
    struct pw_iov iov = { bytes, len };
    struct member *m = &all[i];

    bytes[len - 1] = (uint8_t)m->sent[k];
    if (ops->send(m->to[k], m->sent[k], &iov, 1, NULL))
        return false;
    m->sent[k]++;
    return true;
}

static bool all_heard(void)
{
    for (unsigned i = 0; i < n_all; i++)
        for (unsigned k = 0; k < n_all; k++)
            if (all[k].got[i] != all[i].sent[k])
                return false;
    return true;
}

/* Members whose turn it is say something to others, until each has said so much. */
static void talk(uint64_t seed, unsigned frames)
{
    uint64_t until = pw_now_ns() + UINT64_C(60000000000);
    unsigned said = 0;

    while (said < frames * n_all && pw_now_ns() < until) {
        unsigned i = (unsigned)(draw(&seed) % n_all), k = (unsigned)(draw(&seed) % n_all);

        if (i != k)
            said += say(i, k, draw(&seed) % 4 ? 1 + draw(&seed) % 100
                                              : 1 + draw(&seed) % LEN_MOST);
        if (draw(&seed) % 3 == 0)
            ops->progress(all[draw(&seed) % n_all].nic);
        if (draw(&seed) % 64 == 0)
            look();
    }
    cr_expect(eq(uint, said, frames * n_all));
    cr_expect(soon(all_heard));
    for (unsigned i = 0; i < n_all; i++)
        cr_expect(eq(uint, all[i].downs, 0));
}

static unsigned most(void)
{
    unsigned n;

    fake_verbs_lock();
    n = rdma.qps_most;
    fake_verbs_unlock();
    return n;
}

static uint64_t count(unsigned i, bool rested)
{
    const struct pw_nic_counts *c = &all[i].nic->counts;

    return __atomic_load_n(rested ? &c->rested : &c->queue_pairs, __ATOMIC_RELAXED);
}

/* ---- all talk to all ---- */

Test(verbs_rest, four_talk_with_two_connections_each, BOTH)
{
    set_bound("2");
    party_open(4, 0);
    talk(7, 300);
    cr_expect(eq(uint, most(), 2));
    cr_expect(lt(u64, 0, count(0, true)));
}

/* a asks b, b asks c, c asks a: somebody takes a question back. */
Test(verbs_rest, four_talk_with_one_connection_each, BOTH)
{
    set_bound("1");
    party_open(4, 0);
    talk(8, 60);
    cr_expect(eq(uint, most(), 1));
}

Test(verbs_rest, all_have_a_connection_where_there_is_room, BOTH)
{
    set_bound("3");
    party_open(4, 0);
    talk(9, 100);
    cr_expect(eq(uint, most(), 3));
    for (unsigned i = 0; i < 4; i++) {
        cr_expect(eq(u64, count(i, false), 3));
        cr_expect(eq(u64, count(i, true), 0));
    }
}

static uint64_t letters_seed;

static bool sometimes(const struct verbs_letter *letter)
{
    (void)letter;
    return draw(&letters_seed) % 5;
}

Test(verbs_rest, four_talk_while_letters_are_lost_and_come_twice, BOTH)
{
    letters_seed = 11;
    rdma.letter = sometimes;
    rdma.letters_twice = 200;
    set_bound("2");
    party_open(4, 0);
    talk(12, 60);
    cr_expect(eq(uint, most(), 2));
}

/* ---- the device has no more ---- */

Test(verbs_rest, a_device_with_two_queue_pairs, BOTH)
{
    rdma.qps = 2;
    set_bound("0");
    party_open(4, 0);
    talk(13, 100);
    cr_expect(eq(uint, most(), 2));
}

/* ---- one pair, and a third ---- */

static void say_soon(unsigned i, unsigned k)
{
    while (!say(i, k, 10))
        look();
    cr_assert(soon(all_heard));
}

/* All know all, with bound 1, and 0 has spoken to 1 last. */
static void pair_of(unsigned n, unsigned timeout_ms)
{
    set_bound("1");
    party_open(n, timeout_ms);
    for (unsigned i = 0; i < n; i++)
        for (unsigned k = 0; k < n; k++)
            if (i != k)
                say_soon(i, k);
    say_soon(0, 1);
}

static unsigned rests;      /* so many REST are lost */

static bool lose_rests(const struct verbs_letter *letter)
{
    if (letter->what != VERBS_REST || !rests)
        return true;
    rests--;
    return false;
}

/* 0 wants 2 and 1 wants 3: both ask the other whether they may part. */
Test(verbs_rest, both_ask_at_once, BOTH)
{
    pair_of(4, 0);
    fake_verbs_lock();
    rests = 6;
    rdma.letter = lose_rests;
    fake_verbs_unlock();
    for (bool a = false, b = false; !a || !b; look()) {
        a = a || say(0, 2, 100);
        b = b || say(1, 3, 100);
    }
    cr_expect(soon(all_heard));
    say_soon(0, 1);
    cr_expect(eq(uint, most(), 1));
}

static bool got(void)
{
    return all[1].gets == 1;
}

/* 1 reads memory of 0, so they do not part. */
Test(verbs_rest, who_has_something_under_way_does_not_agree, BOTH)
{
    char *from = calloc(1, GET), *to = malloc(GET);
    struct pw_nic_key key;

    cr_assert(from && to);
    pair_of(3, 0);
    cr_assert(eq(int, ops->pin(all[0].nic, from, GET, PW_READ, &key), 0));
    fake_verbs_lock();
    rdma.hold_reads = true;
    fake_verbs_unlock();
    while (ops->get(all[1].to[0], to, (uintptr_t)from, GET, &key, &all[1]) == -EAGAIN)
        look();
    for (int i = 0; i < 3000; i++) {
        cr_assert(eq(int, say(0, 2, 10), 0));
        look();
    }
    cr_expect(eq(uint, all[1].gets, 0));
    fake_verbs_go_on();
    cr_expect(soon(got));
    cr_expect(eq(int, memcmp(from, to, GET), 0));
    say_soon(0, 2);
    ops->unpin(all[0].nic, from, GET, &key);
    free(from);
    free(to);
}

/* ---- those that rest ---- */

/* 1 has no queue pair. */
static bool third_connected(void)
{
    return all_heard() && count(1, false) == 0;
}

static void rest_them(unsigned timeout_ms)
{
    pair_of(3, timeout_ms);
    while (!say(0, 2, 10))
        look();
    cr_assert(soon(third_connected));
}

/* They are asked whether they live, and need no queue pair for that. */
Test(verbs_rest, who_rests_is_up, BOTH)
{
    uint64_t until, rested;

    rest_them(1200);
    rested = count(0, true);
    until = pw_now_ns() + UINT64_C(2500000000);
    while (pw_now_ns() < until)
        look();
    cr_expect(lt(u64, count(0, true), rested + 4));
    for (unsigned i = 0; i < 3; i++)
        cr_expect(eq(uint, all[i].downs, 0));
    say_soon(1, 0);
}

static bool told(void)
{
    return all[0].downs;
}

Test(verbs_rest, who_is_killed_while_it_rests_is_down, BOTH)
{
    rest_them(1200);
    fake_verbs_cut(all[1].nic);
    cr_expect(soon(told));
}

Test(verbs_rest, who_leaves_while_it_rests_says_so, BOTH)
{
    rest_them(0);
    ops->disconnect(all[1].to[0]);
    cr_expect(soon(told));
}

Test(verbs_rest, a_port_that_goes_down_is_the_end_of_those_that_rest_too, BOTH)
{
    rest_them(0);
    fake_verbs_event(IBV_EVENT_PORT_ERR, NULL);
    cr_expect(soon(told));
}

/* ---- nothing is left ---- */

struct opened {
    unsigned objects;
    size_t locked;
};

static struct opened opened(void)
{
    struct opened now;

    fake_verbs_lock();
    now = (struct opened){ rdma.opened, rdma.locked };
    fake_verbs_unlock();
    return now;
}

/* With one at a time, each message needs another than the last. */
Test(verbs_rest, a_thousand_connections_leave_nothing, BOTH)
{
    struct opened first, last;

    pair_of(3, 0);
    for (unsigned i = 0; i < 10; i++)
        say_soon(0, 1 + i % 2);
    first = opened();
    for (unsigned i = 0; count(0, true) < 1000; i++)
        say_soon(0, 1 + i % 2);
    last = opened();
    cr_expect(lt(uint, last.objects, first.objects + 3), "queue pairs of this moment");
    cr_expect(eq(sz, last.locked, first.locked));
}

Test(verbs_rest, ten_thousand_registrations_leave_nothing, BOTH)
{
    enum { AT_A_TIME = 16, LEN = 8192 };
    static uint8_t memory[AT_A_TIME][LEN];
    struct pw_nic_key keys[AT_A_TIME];
    struct opened first, last;

    set_bound("0");
    party_open(2, 0);
    say_soon(0, 1);
    first = opened();
    for (unsigned i = 0; i < 10000 + AT_A_TIME; i++) {
        unsigned k = i % AT_A_TIME;

        if (i >= AT_A_TIME)
            ops->unpin(all[0].nic, memory[k], LEN, &keys[k]);
        if (i < 10000)
            cr_assert(eq(int, ops->pin(all[0].nic, memory[k], LEN, PW_READ, &keys[k]), 0));
    }
    last = opened();
    cr_expect(eq(uint, last.objects, first.objects));
    cr_expect(eq(sz, last.locked, first.locked));
}

/* ---- what peers take ---- */

/* So much is registered by each of n: buffers to receive with, of 1 MiB at a time, that grow
 * with peers up to a bound; those to send with; letters. */
static void takes(unsigned n, unsigned qps)
{
    unsigned receive = RDM_RX_BASE + RDM_RX_PEER * (n - 1);
    size_t slab = (size_t)RDM_SLAB * RDM_MESSAGE_MAX, each;

    party_open(n, 0);
    talk(20, 20);
    each = opened().locked / n;
    cr_expect(eq(uint, most(), qps));
    cr_expect(lt(sz, each, (receive / RDM_SLAB + 2) * slab), "%zu KiB", each / 1024);
    for (unsigned i = 0; i < n; i++)
        cr_expect(lt(u64, count(i, false), qps + 1));
}

Test(verbs_rest, what_two_take, BOTH)
{
    set_bound("0");
    takes(2, 1);
}

Test(verbs_rest, what_eight_take, BOTH)
{
    set_bound("0");
    takes(8, 7);
}

Test(verbs_rest, what_eight_take_with_three_connections_each, BOTH)
{
    set_bound("3");
    takes(8, 3);
}
