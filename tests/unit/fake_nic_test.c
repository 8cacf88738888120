/* SPDX-License-Identifier: BSD-3-Clause */
/* fake_nic_test.c - the fake NIC does what a test asks of it, and nothing else.
 *
 * That it keeps the contract when nothing is asked is for tests/nic/conformance.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <errno.h>
#include <string.h>

#include "pinwheel/pool.h"
#include "tests/unit/fake_nic.h"

enum { SEEN = 64 };

struct end {
    struct pw_nic *nic;
    struct pw_nic_peer *peer;
    unsigned frames, downs, completes;
    uint32_t imm[SEEN];
    uint8_t first[SEEN];
    int cause, status;
};

struct rig {
    struct pw_pool *pool;
    struct end a, b;
};

static void up_recv(void *ctx, void *peer, uint32_t imm, const void *data, size_t len)
{
    struct end *end = ctx;

    cr_assert(eq(ptr, peer, end));
    cr_assert(lt(uint, end->frames, SEEN));
    end->imm[end->frames] = imm;
    end->first[end->frames++] = len ? *(const uint8_t *)data : 0;
}

static void up_complete(void *ctx, void *op, int status)
{
    struct end *end = ctx;

    cr_assert(eq(ptr, op, end));
    end->completes++;
    end->status = status;
}

static void up_down(void *ctx, void *peer, int cause, const char *why)
{
    struct end *end = ctx;

    cr_assert(eq(ptr, peer, end));
    cr_expect(ne(sz, strlen(why), 0));
    end->downs++;
    end->cause = cause;
}

static const struct pw_nic_upcalls upcalls = { .recv = up_recv, .complete = up_complete,
                                            .down = up_down };

static int end_connect(struct end *from, const struct end *to)
{
    uint8_t addr[PW_NIC_ADDRESS_MAX];
    size_t len = to->nic->ops->address(to->nic, addr);

    return from->nic->ops->connect(from->nic, addr, len, from, &from->peer);
}

static void end_open(struct end *end, const struct pw_nic_ops *ops,
                     struct pw_pool *pool)
{
    struct pw_nic_config config = { .pool = pool, .up = &upcalls, .ctx = end,
                                    .kernel_copy = true };

    memset(end, 0, sizeof *end);
    cr_assert(eq(int, ops->open(&config, &end->nic), 0));
}

static void rig_open(struct rig *r)
{
    struct pw_pool_config config = { .size = 4 << 20, .pages = PW_PAGES_4K };

    cr_assert(eq(int, pw_pool_open(&config, &r->pool), 0));
    end_open(&r->a, &fake_nic_ops, r->pool);
    end_open(&r->b, &fake_nic_ops, r->pool);
    cr_assert(eq(int, end_connect(&r->a, &r->b), 0));
    cr_assert(eq(int, end_connect(&r->b, &r->a), 0));
}

static void rig_close(struct rig *r)
{
    fake_nic_ops.close(r->a.nic);
    fake_nic_ops.close(r->b.nic);
    pw_pool_close(r->pool);
    cr_expect(eq(uint, fake_nic_reset(), 0));
}

static void progress(struct rig *r, int times)
{
    while (times--) {
        fake_nic_ops.progress(r->a.nic);
        fake_nic_ops.progress(r->b.nic);
    }
}

static int send_one(struct end *end, uint32_t imm)
{
    struct pw_iov iov = { "x", 1 };

    return end->nic->ops->send(end->peer, imm, &iov, 1, end);
}

static void send_frames(struct end *end, uint32_t n)
{
    for (uint32_t imm = 0; imm < n; imm++)
        cr_assert(eq(int, send_one(end, imm), 0));
}

/* ---- faults on frames ---- */

Test(fake_nic, drops_each_third_frame)
{
    struct rig r;

    rig_open(&r);
    fake_nic_set_faults(r.a.nic, &(struct fake_nic_faults){ .drop_every = 3 });
    send_frames(&r.a, 9);
    progress(&r, 2);
    cr_expect(eq(uint, r.b.frames, 6));
    cr_expect(eq(u32, r.b.imm[2], 3), "frame 2 is lost");
    rig_close(&r);
}

Test(fake_nic, faults_are_the_senders_alone)
{
    struct rig r;

    rig_open(&r);
    fake_nic_set_faults(r.a.nic, &(struct fake_nic_faults){ .drop_every = 1 });
    send_frames(&r.a, 5);
    send_frames(&r.b, 5);
    progress(&r, 2);
    cr_expect(eq(uint, r.b.frames, 0), "a's way out is a black hole");
    cr_expect(eq(uint, r.a.frames, 5));
    rig_close(&r);
}

Test(fake_nic, duplicates_each_second_frame)
{
    struct rig r;

    rig_open(&r);
    fake_nic_set_faults(r.a.nic, &(struct fake_nic_faults){ .duplicate_every = 2 });
    send_frames(&r.a, 4);
    progress(&r, 2);
    cr_expect(eq(uint, r.b.frames, 6));
    cr_expect(eq(u32, r.b.imm[1], 1));
    cr_expect(eq(u32, r.b.imm[2], 1));
    rig_close(&r);
}

Test(fake_nic, corrupts_one_frame)
{
    struct rig r;

    rig_open(&r);
    fake_nic_set_faults(r.a.nic, &(struct fake_nic_faults){ .corrupt_every = 2 });
    send_frames(&r.a, 2);
    progress(&r, 2);
    cr_expect(eq(u8, r.b.first[0], 'x'));
    cr_expect(ne(u8, r.b.first[1], 'x'));
    rig_close(&r);
}

Test(fake_nic, swaps_a_frame_with_the_one_before)
{
    struct rig r;

    rig_open(&r);
    fake_nic_set_faults(r.a.nic, &(struct fake_nic_faults){ .swap_every = 4 });
    send_frames(&r.a, 5);
    progress(&r, 2);
    cr_expect(eq(u32, r.b.imm[1], 1));
    cr_expect(eq(u32, r.b.imm[2], 3));
    cr_expect(eq(u32, r.b.imm[3], 2));
    cr_expect(eq(u32, r.b.imm[4], 4));
    rig_close(&r);
}

Test(fake_nic, delays_by_looks_of_the_receiver)
{
    struct rig r;

    rig_open(&r);
    fake_nic_set_faults(r.a.nic, &(struct fake_nic_faults){ .delay = 3 });
    send_frames(&r.a, 2);
    progress(&r, 3);
    cr_expect(eq(uint, r.b.frames, 0));
    cr_expect(eq(uint, fake_nic_in_flight(r.a.peer), 2));
    progress(&r, 1);
    cr_expect(eq(uint, r.b.frames, 2));
    cr_expect(eq(uint, fake_nic_in_flight(r.a.peer), 0));
    rig_close(&r);
}

/* ---- planned failures ---- */

Test(fake_nic, says_eagain_as_often_as_asked)
{
    struct rig r;

    rig_open(&r);
    fake_nic_fail(r.a.nic, FAKE_SEND, 2, 2, -EAGAIN);
    cr_expect(eq(int, send_one(&r.a, 0), 0));
    cr_expect(eq(int, send_one(&r.a, 1), -EAGAIN));
    cr_expect(eq(int, send_one(&r.a, 1), -EAGAIN));
    cr_expect(eq(int, send_one(&r.a, 1), 0));
    cr_expect(eq(uint, fake_nic_calls(r.a.nic, FAKE_SEND), 4));
    progress(&r, 2);
    cr_expect(eq(uint, r.b.frames, 2));
    rig_close(&r);
}

Test(fake_nic, fails_for_good_until_the_plan_is_dropped)
{
    struct rig r;

    rig_open(&r);
    fake_nic_fail(r.a.nic, FAKE_SEND_INLINE, 1, 0, -EIO);
    for (int i = 0; i < 5; i++)
        cr_expect(eq(int, fake_nic_ops.send_inline(r.a.peer, 0, "x", 1), -EIO));
    fake_nic_fail(r.a.nic, FAKE_SEND_INLINE, 1, 0, 0);
    cr_expect(eq(int, fake_nic_ops.send_inline(r.a.peer, 0, "x", 1), 0));
    rig_close(&r);
}

Test(fake_nic, every_operation_fails_when_asked)
{
    struct pw_atomic add = { .op = PW_ATOMIC_ADD, .type = PW_INT64, .operand = 1 };
    uint64_t word __attribute__((aligned(8))) = 5, other = 7;
    struct pw_nic_key key;
    struct pw_nic_peer *kept;
    struct rig r;

    rig_open(&r);
    fake_nic_fail(r.b.nic, FAKE_PIN, 1, 1, -ENOMEM);
    cr_expect(eq(int, fake_nic_ops.pin(r.b.nic, &word, 8, PW_READ, &key), -ENOMEM));
    cr_expect(eq(uint, fake_nic_pins(r.b.nic), 0));
    cr_assert(eq(int, fake_nic_ops.pin(r.b.nic, &word, 8,
                                       PW_READ | PW_WRITE | PW_ATOMIC, &key), 0));
    cr_expect(eq(uint, fake_nic_pins(r.b.nic), 1));

    fake_nic_fail(r.a.nic, FAKE_PUT, 1, 1, -EAGAIN);
    fake_nic_fail(r.a.nic, FAKE_GET, 1, 1, -EIO);
    fake_nic_fail(r.a.nic, FAKE_ATOMIC, 1, 1, -EOPNOTSUPP);
    fake_nic_fail(r.a.nic, FAKE_CONNECT, 1, 1, -ENOMEM);
    cr_expect(eq(int, fake_nic_ops.put(r.a.peer, &other, (uintptr_t)&word, 8, &key,
                                       &r.a), -EAGAIN));
    cr_expect(eq(int, fake_nic_ops.get(r.a.peer, &other, (uintptr_t)&word, 8, &key,
                                       &r.a), -EIO));
    cr_expect(eq(int, fake_nic_ops.atomic(r.a.peer, &add, (uintptr_t)&word, NULL, &key,
                                          &r.a), -EOPNOTSUPP));
    kept = r.a.peer;
    cr_expect(eq(int, end_connect(&r.a, &r.b), -ENOMEM));
    r.a.peer = kept;
    cr_expect(eq(u64, word, 5));
    fake_nic_ops.unpin(r.b.nic, &word, 8, &key);
    rig_close(&r);
}

Test(fake_nic, a_probe_that_refuses_says_why)
{
    struct pw_nic_config config = { .pool = (struct pw_pool *)1, .up = &upcalls };
    char why[PW_NIC_WHY_MAX] = "";
    struct pw_nic_info info;
    struct pw_nic *nic;

    fake_nic_traits(&fake_nic_ops)->probe_error = -EACCES;
    cr_expect(eq(int, fake_nic_ops.probe(&info, why), -EACCES));
    cr_expect(ne(sz, strlen(why), 0));
    cr_expect(eq(int, fake_nic_ops.open(&config, &nic), -EACCES));
    cr_expect(eq(int, fake_nic_ops2.probe(&info, why), 0), "the other kind is fine");
    fake_nic_reset();
}

/* ---- pending ---- */

Test(fake_nic, pending_sends_end_in_a_later_progress)
{
    char buffer[] = "x";
    struct pw_iov iov = { buffer, 1 };
    struct rig r;

    fake_nic_traits(&fake_nic_ops)->pending = true;
    rig_open(&r);
    cr_assert(eq(int, fake_nic_ops.send(r.a.peer, 7, &iov, 1, &r.a), PW_NIC_PENDING));
    cr_expect(eq(uint, r.a.completes, 0));
    buffer[0] = 'y';            /* it is read when it ends, so keep it */
    progress(&r, 2);
    cr_expect(eq(uint, r.a.completes, 1));
    cr_expect(eq(int, r.a.status, 0));
    cr_expect(eq(uint, r.b.frames, 1));
    cr_expect(eq(u8, r.b.first[0], 'y'));
    rig_close(&r);
}

Test(fake_nic, inline_frames_do_not_pass_pending_ones)
{
    struct rig r;

    fake_nic_traits(&fake_nic_ops)->pending = true;
    rig_open(&r);
    cr_assert(eq(int, send_one(&r.a, 1), PW_NIC_PENDING));
    cr_assert(eq(int, fake_nic_ops.send_inline(r.a.peer, 2, "z", 1), 0));
    progress(&r, 2);
    cr_assert(eq(uint, r.b.frames, 2));
    cr_expect(eq(u32, r.b.imm[0], 1));
    cr_expect(eq(u32, r.b.imm[1], 2));
    cr_expect(eq(u8, r.b.first[1], 'z'));
    rig_close(&r);
}

Test(fake_nic, a_completion_fails_when_asked)
{
    struct rig r;

    fake_nic_traits(&fake_nic_ops)->pending = true;
    rig_open(&r);
    fake_nic_fail(r.a.nic, FAKE_COMPLETE, 1, 1, -EIO);
    cr_assert(eq(int, send_one(&r.a, 1), PW_NIC_PENDING));
    progress(&r, 2);
    cr_expect(eq(int, r.a.status, -EIO));
    cr_expect(eq(uint, r.b.frames, 0), "it was not carried out");
    rig_close(&r);
}

Test(fake_nic, what_is_pending_ends_before_down)
{
    struct rig r;

    fake_nic_traits(&fake_nic_ops)->pending = true;
    rig_open(&r);
    cr_assert(eq(int, send_one(&r.a, 1), PW_NIC_PENDING));
    fake_nic_die(r.b.nic);
    fake_nic_ops.progress(r.a.nic);
    fake_nic_ops.progress(r.a.nic);
    cr_expect(eq(uint, r.a.completes, 1));
    cr_expect(eq(int, r.a.status, -ECONNRESET));
    cr_expect(eq(uint, r.a.downs, 1));
    rig_close(&r);
}

/* ---- paths that fail and come back ---- */

Test(fake_nic, a_cut_loses_what_is_delayed_and_tells_both)
{
    struct rig r;

    rig_open(&r);
    send_frames(&r.a, 2);
    fake_nic_set_faults(r.a.nic, &(struct fake_nic_faults){ .delay = 5 });
    send_frames(&r.a, 3);
    fake_nic_cut(r.a.nic, r.b.nic, -ETIMEDOUT);
    progress(&r, 10);
    cr_expect(eq(uint, r.b.frames, 2), "what had arrived is delivered");
    cr_expect(eq(uint, r.a.downs, 1));
    cr_expect(eq(uint, r.b.downs, 1));
    cr_expect(eq(int, r.a.cause, -ETIMEDOUT));
    cr_expect(eq(int, r.b.cause, -ETIMEDOUT));
    cr_expect(eq(int, send_one(&r.a, 0), -EPIPE));
    rig_close(&r);
}

Test(fake_nic, a_mended_path_is_connected_again)
{
    struct rig r;

    rig_open(&r);
    fake_nic_cut(r.a.nic, r.b.nic, -EIO);
    progress(&r, 2);
    fake_nic_ops.disconnect(r.a.peer);
    fake_nic_ops.disconnect(r.b.peer);
    cr_expect(eq(int, end_connect(&r.a, &r.b), -ECONNREFUSED));
    fake_nic_mend(r.b.nic, r.a.nic);
    cr_assert(eq(int, end_connect(&r.a, &r.b), 0));
    send_frames(&r.a, 3);
    cr_assert(eq(int, end_connect(&r.b, &r.a), 0));
    progress(&r, 2);
    cr_expect(eq(uint, r.b.frames, 3));
    rig_close(&r);
}

Test(fake_nic, death_is_told_to_the_others)
{
    struct rig r;

    rig_open(&r);
    send_frames(&r.a, 3);
    fake_nic_die(r.a.nic);
    cr_expect(eq(int, send_one(&r.a, 9), -EPIPE));
    progress(&r, 3);
    cr_expect(eq(uint, r.b.frames, 3), "published before");
    cr_expect(eq(uint, r.b.downs, 1));
    cr_expect(eq(int, r.b.cause, -ECONNRESET));
    cr_expect(eq(uint, r.a.downs, 0), "the dead hear nothing");
    rig_close(&r);
}

/* ---- reach ---- */

static enum pw_reach reach_of(struct rig *r, void *addr, const struct pw_nic_key *key)
{
    return fake_nic_ops.reach(r->a.peer, (uintptr_t)addr, 8, key);
}

Test(fake_nic, reach_is_what_the_traits_say)
{
    struct fake_nic_traits *traits = fake_nic_traits(&fake_nic_ops);
    struct pw_nic_key pool_key, other_key;
    uint64_t other = 0, *pooled;
    struct rig r;

    traits->pool_reach = PW_REACH_KERNEL;
    traits->other_reach = PW_REACH_NONE;
    rig_open(&r);
    pooled = pw_pool_alloc(r.pool, 4096, 0);
    cr_assert(ne(ptr, pooled, NULL));
    *pooled = 0;
    cr_assert(eq(int, fake_nic_ops.pin(r.b.nic, pooled, 8, PW_WRITE, &pool_key), 0));
    cr_assert(eq(int, fake_nic_ops.pin(r.b.nic, &other, 8, PW_WRITE, &other_key), 0));
    cr_expect(eq(int, (int)reach_of(&r, pooled, &pool_key), PW_REACH_KERNEL));
    cr_expect(eq(int, (int)reach_of(&r, &other, &other_key), PW_REACH_NONE));
    cr_expect(eq(int, fake_nic_ops.put(r.a.peer, &(uint64_t){ 3 }, (uintptr_t)pooled, 8,
                                       &pool_key, &r.a), 0));
    cr_expect(eq(u64, *pooled, 3));
    cr_expect(eq(int, fake_nic_ops.put(r.a.peer, &(uint64_t){ 3 }, (uintptr_t)&other, 8,
                                       &other_key, &r.a), -EOPNOTSUPP));
    fake_nic_ops.unpin(r.b.nic, pooled, 8, &pool_key);
    fake_nic_ops.unpin(r.b.nic, &other, 8, &other_key);
    rig_close(&r);
}

/* So that a cache which unpins too early is found out. */
Test(fake_nic, a_key_ends_with_its_pin)
{
    struct pw_nic_key key;
    uint64_t word = 1, out;
    struct rig r;

    rig_open(&r);
    cr_assert(eq(int, fake_nic_ops.pin(r.b.nic, &word, 8, PW_READ, &key), 0));
    cr_expect(eq(int, fake_nic_ops.get(r.a.peer, &out, (uintptr_t)&word, 8, &key,
                                       &r.a), 0));
    cr_expect(eq(int, fake_nic_ops.put(r.a.peer, &out, (uintptr_t)&word, 8, &key,
                                       &r.a), -EFAULT), "pinned to be read only");
    fake_nic_ops.unpin(r.b.nic, &word, 8, &key);
    cr_expect(eq(int, fake_nic_ops.get(r.a.peer, &out, (uintptr_t)&word, 8, &key,
                                       &r.a), -EFAULT));
    rig_close(&r);
}

/* ---- who finds whom ---- */

Test(fake_nic, kinds_and_networks_keep_apart)
{
    uint8_t addr[PW_NIC_ADDRESS_MAX];
    struct end second, far;
    struct rig r;
    size_t len;

    rig_open(&r);
    end_open(&second, &fake_nic_ops2, r.pool);
    fake_nic_traits(&fake_nic_ops)->network = 9;
    end_open(&far, &fake_nic_ops, r.pool);
    cr_expect(eq(str, (char *)(uintptr_t)second.nic->ops->name, "fake2"));
    cr_expect(eq(int, end_connect(&second, &r.a), -EINVAL));
    cr_expect(eq(int, end_connect(&far, &r.a), -EHOSTUNREACH));
    len = fake_nic_ops.address(r.a.nic, addr);
    cr_expect(not(fake_nic_ops.reachable(far.nic, addr, len)));
    cr_expect(not(fake_nic_ops2.reachable(second.nic, addr, len)));
    fake_nic_ops2.close(second.nic);
    fake_nic_ops.close(far.nic);
    rig_close(&r);
}

Test(fake_nic, reset_counts_what_was_left_open)
{
    struct pw_pool_config config = { .size = 2 << 20, .pages = PW_PAGES_4K };
    struct pw_pool *pool;
    struct end end;

    cr_assert(eq(int, pw_pool_open(&config, &pool), 0));
    end_open(&end, &fake_nic_ops, pool);
    cr_expect(eq(uint, fake_nic_reset(), 1));
    fake_nic_ops.close(end.nic);
    cr_expect(eq(uint, fake_nic_reset(), 0));
    pw_pool_close(pool);
}
