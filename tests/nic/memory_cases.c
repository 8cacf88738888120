/* SPDX-License-Identifier: BSD-3-Clause */
/* memory_cases.c - put and get: contents, bounds, reach, order with frames. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "party.h"

/* Two values: a byte too much, copied from one guard to the other, must show. */
enum { GUARD = 64, GUARD_THERE = 0xa5, GUARD_HERE = 0x5a };

#define LARGEST ((size_t)8 << 20)

static void need_put(const struct rig *rig)
{
    if (!(rig->nic->info.flags & PW_NIC_PUT))
        case_skip("%s has no put and get", rig->subject->name);
}

static bool guards_whole(const uint8_t *mem, size_t len, uint8_t byte)
{
    uint8_t wrong = 0;

    for (size_t i = 0; i < GUARD; i++)
        wrong |= (mem[i] ^ byte) | (mem[GUARD + len + i] ^ byte);
    return !wrong;
}

static int put_one(struct conn *conn, const uint8_t *local, uint64_t remote, size_t len,
                   const struct window_name *name, const struct pw_nic_key *own)
{
    return own ? put_own_now(conn, local, remote, len, &name->key, own)
               : put_now(conn, local, remote, len, &name->key);
}

static int get_one(struct conn *conn, uint8_t *local, uint64_t remote, size_t len,
                   const struct window_name *name, const struct pw_nic_key *own)
{
    return own ? get_own_now(conn, local, remote, len, &name->key, own)
               : get_now(conn, local, remote, len, &name->key);
}

/* Put to, and get back from, GUARD bytes into the window plus offset. own: NULL, or of a
 * pin that holds local. */
static void copy_there_and_back(struct conn *conn, struct window *w, uint8_t *local,
                                size_t offset, size_t len, const struct pw_nic_key *own)
{
    struct window_name name = window_name(w);
    uint64_t remote = name.addr + offset + GUARD;
    uint8_t *there = w->mem + offset;
    uint64_t seed = len * 31 + offset;

    memset(there, GUARD_THERE, len + 2 * GUARD);
    memset(local, GUARD_HERE, len + 2 * GUARD);
    frame_fill(local + GUARD, len, seed);
    REQUIRE_EQ(put_one(conn, local + GUARD, remote, len, &name, own), 0);
    CHECK(frame_is(there + GUARD, len, seed));
    CHECK(guards_whole(there, len, GUARD_THERE));
    CHECK(guards_whole(local, len, GUARD_HERE));

    frame_fill(there + GUARD, len, seed + 1);
    REQUIRE_EQ(get_one(conn, local + GUARD, remote, len, &name, own), 0);
    CHECK(frame_is(local + GUARD, len, seed + 1));
    CHECK(guards_whole(there, len, GUARD_THERE));
    CHECK(guards_whole(local, len, GUARD_HERE));
    CHECK(frame_is(there + GUARD, len, seed + 1));
}

static void copies(struct conn *conn, struct window *w, uint8_t *local)
{
    static const size_t sizes[] = {
        1, 2, 3, 7, 8, 9, 63, 64, 65, 255, 1000, 4095, 4096, 4097, 65537, 1 << 20,
    };
    static const size_t offsets[] = { 0, 1, 3, 17, 4090 };

    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (unsigned j = 0; j < sizeof offsets / sizeof *offsets; j++)
            copy_there_and_back(conn, w, local + j % 2 * 5, offsets[j], sizes[i], NULL);
    copy_there_and_back(conn, w, local, 1, LARGEST - 3, NULL);
}

static void put_get_pool_memory(const struct subject *s)
{
    struct rig_options options = { .pool_bytes = (size_t)64 << 20 };
    struct window there, here;
    struct window_name name;
    uint8_t *local;
    struct pair p;

    pair_open(&p, s, &options);
    need_put(&p.a);
    window_open(&there, &p.b, LARGEST + 8192, true);
    window_open(&here, &p.a, LARGEST + 8192, true);
    local = malloc(LARGEST + 8192);
    REQUIRE(local != NULL);
    name = window_name(&there);
    REQUIRE(reach_soon(&p.ab, &name) != PW_REACH_NONE);
    copies(&p.ab, &there, here.mem);
    copies(&p.ab, &there, local);
    free(local);
    window_close(&here);
    window_close(&there);
    pair_close(&p);
}

/* From the middle of a pin, too, and into it; and while others are pinned. */
static void put_get_pinned_memory(const struct subject *s)
{
    static const size_t sizes[] = { 1, 4097, 8192, 8193, 32768, 32769, 65537, 1 << 20 };
    struct window there, here, other;
    struct window_name name;
    struct pair p;

    if (!s->ops->put_own || !s->ops->get_own)
        case_skip("%s has no use for memory of its own side that is pinned", s->name);
    pair_open(&p, s, NULL);
    need_put(&p.a);
    window_open(&there, &p.b, (1 << 20) + 8192, false);
    window_open(&other, &p.a, 4096, false);
    window_open(&here, &p.a, (2 << 20) + 8192, false);
    name = window_name(&there);
    REQUIRE(reach_soon(&p.ab, &name) != PW_REACH_NONE);
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        copy_there_and_back(&p.ab, &there, here.mem, i, sizes[i], &here.key);
        copy_there_and_back(&p.ab, &there, here.mem + (1 << 20) + 5, 0, sizes[i],
                            &here.key);
    }
    window_close(&here);
    window_close(&other);
    window_close(&there);
    pair_close(&p);
}

/* Where reach says NONE, put and get must say so too, and touch nothing. */
static void must_be_out_of_reach(struct conn *conn, struct window *w)
{
    struct window_name name = window_name(w);
    uint8_t local[GUARD];

    memset(local, 1, sizeof local);
    memset(w->mem, GUARD_THERE, 3 * GUARD);
    CHECK_EQ(put_now(conn, local, name.addr + GUARD, 8, &name.key), -EOPNOTSUPP);
    CHECK_EQ(get_now(conn, local, name.addr + GUARD, 8, &name.key), -EOPNOTSUPP);
    CHECK(guards_whole(w->mem, GUARD, GUARD_THERE));
    CHECK(w->mem[GUARD] == GUARD_THERE && local[0] == 1);
}

static void put_get_other_memory(const struct subject *s)
{
    struct window_name name;
    struct window there;
    uint8_t *local;
    struct pair p;

    pair_open(&p, s, NULL);
    need_put(&p.a);
    window_open(&there, &p.b, LARGEST + 8192, false);
    local = malloc(LARGEST + 8192);
    REQUIRE(local != NULL);
    name = window_name(&there);
    if (reach_soon(&p.ab, &name) == PW_REACH_NONE)
        must_be_out_of_reach(&p.ab, &there);
    else
        copies(&p.ab, &there, local);
    free(local);
    window_close(&there);
    pair_close(&p);
}

static void without_kernel_copy_no_kernel_reach(const struct subject *s)
{
    struct rig_options options = { .no_kernel_copy = true };
    struct pair p;

    pair_open(&p, s, &options);
    need_put(&p.a);
    for (int pooled = 0; pooled < 2; pooled++) {
        struct window_name name;
        struct window there;
        enum pw_reach reach;

        window_open(&there, &p.b, 65536, pooled);
        name = window_name(&there);
        reach = reach_soon(&p.ab, &name);
        CHECK(reach != PW_REACH_KERNEL);
        if (reach == PW_REACH_NONE)
            must_be_out_of_reach(&p.ab, &there);
        window_close(&there);
    }
    pair_close(&p);
}

static void without_put_nothing_is_in_reach(const struct subject *s)
{
    struct pair p;

    pair_open(&p, s, NULL);
    if (p.a.nic->info.flags & PW_NIC_PUT)
        case_skip("%s has put and get", s->name);
    for (int pooled = 0; pooled < 2; pooled++) {
        struct window_name name;
        struct window there;

        window_open(&there, &p.b, 65536, pooled);
        name = window_name(&there);
        CHECK_EQ(reach_soon(&p.ab, &name), PW_REACH_NONE);
        must_be_out_of_reach(&p.ab, &there);
        window_close(&there);
    }
    pair_close(&p);
}

static bool refused(const struct rig *rig, int err)
{
    return err == -EFAULT || err == -EOPNOTSUPP ||
           (rig->nic->info.flags & PW_NIC_REGIONS && err == -EACCES);
}

static void must_fault(struct conn *conn, uint64_t remote, size_t len,
                       const struct pw_nic_key *key)
{
    static uint8_t local[16384];

    REQUIRE(len <= sizeof local);
    conn->rig->nic->ops->reach(conn->peer, remote, len, key);
    CHECK(refused(conn->rig, put_now(conn, local, remote, len, key)));
    CHECK(refused(conn->rig, get_now(conn, local, remote, len, key)));
}

/* Two pages mapped and pinned, then a hole. */
static void bad_addresses_are_refused(const struct subject *s)
{
    struct pw_nic_key key, hole_key;
    struct window w;
    struct pair p;
    uint8_t *mem;

    pair_open(&p, s, NULL);
    window_open(&w, &p.b, 8192, true);
    mem = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
               -1, 0);
    REQUIRE(mem != MAP_FAILED);
    memset(mem, 1, 3 * 4096);
    REQUIRE_EQ(rig_pin(&p.b, mem, 8192, PW_READ | PW_WRITE, &key), 0);
    REQUIRE_EQ(munmap(mem + 8192, 4096), 0);
    for (int i = 0; i < 100; i++)
        pump();

    must_fault(&p.ab, (uintptr_t)mem + 8192, 64, &key);
    must_fault(&p.ab, (uintptr_t)mem + 8190, 64, &key);
    must_fault(&p.ab, 8, 64, &w.key);
    must_fault(&p.ab, UINT64_MAX - 10, 64, &w.key);
    must_fault(&p.ab, UINT64_MAX - 8191, 8192, &w.key);
    must_fault(&p.ab, (uint64_t)1 << 63, 64, &w.key);
    memset(&hole_key, 0xff, sizeof hole_key);
    must_fault(&p.ab, (uintptr_t)mem + 8192, 64, &hole_key);
    memset(&hole_key, 0, sizeof hole_key);
    must_fault(&p.ab, (uintptr_t)mem + 8192, 64, &hole_key);

    REQUIRE_EQ(conn_send_sequence(&p.ab, 0), 0);
    conn_await_frames(&p.ba, 1);
    rig_unpin(&p.b, mem, 8192, &key);
    munmap(mem, 8192);
    window_close(&w);
    pair_close(&p);
}

static void pin_of_a_hole_is_efault_or_harmless(const struct subject *s)
{
    struct pw_nic_key key;
    struct rig rig;
    uint8_t *mem;
    int err;

    rig_open(&rig, s, NULL);
    mem = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(mem != MAP_FAILED);
    REQUIRE_EQ(munmap(mem, 4096), 0);
    err = s->ops->pin(rig.nic, mem, 4096, PW_READ, &key);
    CHECK(err == 0 || err == -EFAULT);
    if (!err)
        s->ops->unpin(rig.nic, mem, 4096, &key);
    rig_close(&rig);
}

static void many_ranges_pinned(const struct subject *s)
{
    enum { N = 200 };
    struct pw_nic_key keys[N];
    struct window w;
    struct pair p;
    uint64_t value;

    pair_open(&p, s, NULL);
    need_put(&p.a);
    window_open(&w, &p.b, N * 4096, true);
    for (int i = 0; i < N; i++)
        REQUIRE_EQ(rig_pin(&p.b, w.mem + i * 4096, 4096, PW_READ | PW_WRITE, &keys[i]), 0);
    for (int i = 0; i < N; i++) {
        struct window_name name = { (uintptr_t)w.mem + (unsigned)i * 4096u, 4096,
                                    keys[i] };

        REQUIRE(reach_soon(&p.ab, &name) != PW_REACH_NONE);
        value = mix((uint32_t)i);
        REQUIRE_EQ(put_now(&p.ab, &value, name.addr, 8, &keys[i]), 0);
    }
    for (int i = N - 1; i >= 0; i--) {
        memcpy(&value, w.mem + i * 4096, 8);
        CHECK_EQ(value, mix((uint32_t)i));
        rig_unpin(&p.b, w.mem + i * 4096, 4096, &keys[i]);
    }
    window_close(&w);
    pair_close(&p);
}

/* ---- put, then send ---- */

enum { PUT_MAX = 65536 };

struct put_then_send {
    uint32_t n;
    size_t len;
    bool pooled;
    bool reached;
};

static void recv_look(struct conn *conn, uint32_t imm, const void *data, size_t len)
{
    const struct window *w = conn->arg;
    uint32_t size;

    REQUIRE_EQ(len, sizeof size);
    memcpy(&size, data, sizeof size);
    CHECK(frame_is(w->mem, size, imm));
}

static void put_then_send_main(struct party *self)
{
    const struct put_then_send *arg = self->arg;
    struct window_name name;
    struct window w;
    struct conn conn;
    struct rig rig;
    char byte = 1;

    rig_open(&rig, self->subject, NULL);
    window_open(&w, &rig, PUT_MAX, arg->pooled);
    name = window_name(&w);
    rig_meet(&rig, &conn, self->self_fd);
    conn.recv = recv_look;
    conn.arg = &w;
    say(self->self_fd, &name, sizeof name);
    hear(self->self_fd, &byte, 1);
    for (uint32_t i = 1; arg->reached && i <= arg->n; i++) {
        conn_await_frames(&conn, i);
        REQUIRE(!case_failed());
        REQUIRE_EQ(inline_now(&conn, i, NULL, 0), 0);
    }
    say(self->self_fd, &byte, 1);
    hear(self->self_fd, &byte, 1);
    window_close(&w);
    rig_close(&rig);
}

/* The put may be pending while the frame is sent: order is the NIC's business. */
static void put_and_send(struct conn *conn, const struct window_name *w,
                         const void *data, uint32_t size, uint32_t i)
{
    const struct pw_nic_ops *ops = conn->rig->nic->ops;
    struct deadline d = deadline_patient();
    struct op op = { .conn = conn };
    int err;

    while ((err = ops->put(conn->peer, data, w->addr, size, &w->key, &op)) == -EAGAIN)
        REQUIRE(pump_before(&d));
    REQUIRE(err == 0 || err == PW_NIC_PENDING);
    REQUIRE_EQ(inline_now(conn, i, &size, sizeof size), 0);
    while (err == PW_NIC_PENDING && !op.done)
        REQUIRE(pump_before(&d));
    REQUIRE_EQ(op.status, 0);
}

static void recv_echo(struct conn *conn, uint32_t imm, const void *data, size_t len)
{
    (void)data;
    CHECK_EQ(imm, conn->frames + 1);
    CHECK_EQ(len, 0);
}

static void put_then_send(const struct subject *s, uint32_t n, size_t len, bool pooled)
{
    struct put_then_send *arg = shared_alloc(sizeof *arg);
    uint8_t *data = malloc(len);
    struct window_name name;
    struct party child;
    struct conn conn;
    struct rig rig;
    char byte = 1;

    REQUIRE(data != NULL);
    *arg = (struct put_then_send){ .n = n, .len = len, .pooled = pooled };
    party_start(&child, s, put_then_send_main, arg);
    rig_open(&rig, s, NULL);
    need_put(&rig);
    rig_meet(&rig, &conn, child.fd);
    conn.recv = recv_echo;
    hear(child.fd, &name, sizeof name);
    arg->reached = reach_soon(&conn, &name) != PW_REACH_NONE;
    CHECK(arg->reached || !pooled);
    say(child.fd, &byte, 1);
    for (uint32_t i = 1; arg->reached && i <= n; i++) {
        frame_fill(data, len, i);
        put_and_send(&conn, &name, data, (uint32_t)len, i);
        conn_await_frames(&conn, i);
    }
    hear(child.fd, &byte, 1);
    say(child.fd, &byte, 1);
    party_end(&child);
    rig_close(&rig);
    free(data);
}

static void frame_after_put_finds_pool_data(const struct subject *s)
{
    put_then_send(s, rounds(s, 2000), 40, true);
    put_then_send(s, rounds(s, 300), PUT_MAX, true);
}

static void frame_after_put_finds_other_data(const struct subject *s)
{
    put_then_send(s, rounds(s, 2000), 40, false);
    put_then_send(s, rounds(s, 300), PUT_MAX, false);
}

const struct nic_case memory_cases[] = {
    { "put and get over pool memory", put_get_pool_memory, 20, false },
    { "put and get over other memory, or -EOPNOTSUPP", put_get_other_memory, 20, false },
    { "put and get with memory of one's own side that is pinned", put_get_pinned_memory, 20,
      false },
    { "no kernel copies where they are not wanted",
      without_kernel_copy_no_kernel_reach, 10, false },
    { "without put nothing is in reach", without_put_nothing_is_in_reach, 10, false },
    { "bad addresses are -EFAULT or -EOPNOTSUPP", bad_addresses_are_refused, 10, false },
    { "pinning a hole is -EFAULT or harmless",
      pin_of_a_hole_is_efault_or_harmless, 10, false },
    { "many ranges pinned at once", many_ranges_pinned, 10, false },
    { "a frame after a put finds its data, pool memory",
      frame_after_put_finds_pool_data, 20, true },
    { "a frame after a put finds its data, other memory",
      frame_after_put_finds_other_data, 20, true },
    { 0 }
};
