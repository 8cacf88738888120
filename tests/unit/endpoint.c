/* SPDX-License-Identifier: BSD-3-Clause */
/* endpoint.c - one peer: messages in order, what waits for room, death, close. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "tests/unit/pair.h"

static int send_bytes(struct pair_side *side, uint8_t tag, size_t len)
{
    static const char bytes[65536];
    struct pw_iov iov = { bytes, len };

    return pw_endpoint_send(side->ep, tag, &iov, 1);
}

/* ---- messages ---- */

Test(endpoint, messages_arrive_in_order)
{
    struct pair p;

    pair_open(&p, &(struct pair_plan){ 0 });
    for (uint32_t i = 0; i < 1000; i++)
        cr_assert(eq(int, pair_send(&p.a, i), 0));
    pair_turns(&p, 100);
    cr_expect(eq(uint, p.b.received, 1000));
    cr_expect(not(p.b.disorder));
    cr_expect(eq(uint, p.a.received, 0));
    pair_close(&p);
}

Test(endpoint, a_message_has_its_tag_its_length_and_both_its_pieces)
{
    struct pw_iov iov[2] = { { "head", 4 }, { "and body", 8 } };
    struct pair p;

    pair_open(&p, &(struct pair_plan){ 0 });
    cr_expect(eq(int, pw_endpoint_send(p.a.ep, 0xff, iov, 2), 0));
    cr_expect(eq(int, pw_endpoint_send(p.a.ep, 0, iov + 1, 1), 0));
    cr_expect(eq(int, send_bytes(&p.a, 7, 0), 0));
    pair_turns(&p, 2);
    cr_assert(eq(uint, p.b.received, 3));
    cr_expect(eq(u8, p.b.tags[0], 0xff));
    cr_expect(eq(sz, p.b.lens[0], 12));
    cr_expect(eq(u8, p.b.bytes[0], 'h'));
    cr_expect(eq(u8, p.b.tags[1], 0));
    cr_expect(eq(u8, p.b.bytes[1], 'a'));
    cr_expect(eq(u8, p.b.tags[2], 7));
    cr_expect(eq(sz, p.b.lens[2], 0));
    pair_close(&p);
}

Test(endpoint, the_largest_message_goes_and_a_larger_one_is_refused)
{
    struct pair p;
    size_t max;

    pair_open(&p, &(struct pair_plan){ 0 });
    max = pw_engine_message_max(p.a.e);
    cr_expect(eq(int, send_bytes(&p.a, 0, max), 0));
    cr_expect(eq(int, send_bytes(&p.a, 0, max + 1), -EMSGSIZE));
    pair_turns(&p, 2);
    cr_expect(eq(uint, p.b.received, 1));
    cr_expect(eq(sz, p.b.lens[0], max));
    pair_close(&p);
}

Test(endpoint, a_full_nic_says_try_again_and_recovers)
{
    unsigned sent = 0;
    struct pair p;

    pair_open(&p, &(struct pair_plan){ .queue_bytes = 4096 });
    while (pair_send(&p.a, sent) == 0)
        sent++;
    cr_expect(lt(uint, 10, sent));
    cr_expect(eq(int, pair_send(&p.a, sent), -EAGAIN));
    pair_turns(&p, 2);
    cr_expect(eq(int, pair_send(&p.a, sent), 0));
    pair_turns(&p, 2);
    cr_expect(eq(uint, p.b.received, sent + 1));
    cr_expect(not(p.b.disorder));
    pair_close(&p);
}

/* ---- the queue ---- */

Test(endpoint, queued_messages_leave_in_order_and_are_done_once)
{
    struct pair_note notes[40];
    struct pair p;

    pair_open(&p, &(struct pair_plan){ 0 });
    fake_nic_fail(pair_nic(&p.a, 0), FAKE_SEND, 1, 7, -EAGAIN);
    for (uint32_t i = 0; i < 40; i++)
        pair_queue(&p.a, &notes[i], i);
    pair_turns(&p, 20);
    cr_expect(eq(uint, p.b.received, 40));
    cr_expect(not(p.b.disorder));
    for (int i = 0; i < 40; i++) {
        cr_expect(eq(uint, notes[i].calls, 1));
        cr_expect(eq(int, notes[i].status, 0));
    }
    pair_close(&p);
}

Test(endpoint, no_message_overtakes_the_queue)
{
    struct pair_note note;
    struct pair p;

    pair_open(&p, &(struct pair_plan){ 0 });
    pair_queue(&p.a, &note, 0);
    cr_expect(eq(int, pair_send(&p.a, 1), -EAGAIN), "although the NIC has room");
    pair_turns(&p, 1);
    cr_expect(eq(int, pair_send(&p.a, 1), 0));
    pair_turns(&p, 2);
    cr_expect(eq(uint, p.b.received, 2));
    cr_expect(not(p.b.disorder));
    pair_close(&p);
}

/* The send before it was answered -EAGAIN for the queue's sake, so nobody had
 * looked at its size. */
Test(endpoint, a_queued_message_that_is_too_large_fails_and_lets_others_pass)
{
    static const char bytes[65536];
    struct pair_note big, small;
    struct pair p;

    pair_open(&p, &(struct pair_plan){ 0 });
    fake_nic_fail(pair_nic(&p.a, 0), FAKE_SEND, 1, 1, -EAGAIN);
    pair_queue(&p.a, &big, 9);
    big.m.iov[0] = (struct pw_iov){ bytes, sizeof bytes };
    pair_queue(&p.a, &small, 0);
    pair_turns(&p, 5);
    cr_expect(eq(uint, big.calls, 1));
    cr_expect(eq(int, big.status, -EMSGSIZE));
    cr_expect(eq(uint, small.calls, 1));
    cr_expect(eq(uint, p.b.received, 1));
    cr_expect(eq(uint, p.a.e->n_waiting, 0));
    pair_close(&p);
}

Test(endpoint, statistics_count_what_was_sent_and_what_had_to_wait)
{
    struct pair_note note;
    struct pw_stats stats;
    struct pair p;

    pair_open(&p, &(struct pair_plan){ 0 });
    pair_send(&p.a, 0);
    pair_send(&p.a, 1);
    pair_queue(&p.a, &note, 2);
    pair_turns(&p, 2);
    pw_engine_stats(p.a.e, &stats);
    cr_expect(eq(u64, stats.messages, 2));
    cr_expect(eq(u64, stats.queued, 1));
    pair_close(&p);
}

/* ---- control frames and streams ---- */

/* 100 gets ask at once through a NIC that takes nothing for a while. */
Test(endpoint, control_frames_wait_and_are_not_lost)
{
    struct pair_outcome done = { 0 };
    struct pw_key key = { 0 };
    uint8_t from[100], to[100] = { 0 };
    struct pair p;

    for (int i = 0; i < 100; i++)
        from[i] = (uint8_t)(i + 1);
    pair_open(&p, &(struct pair_plan){ 0 });
    cr_assert(eq(int, pw_engine_register(p.b.e, from, 100, PW_READ, false, &key), 0));
    fake_nic_fail(pair_nic(&p.a, 0), FAKE_SEND, 1, 30, -EAGAIN);
    fake_nic_fail(pair_nic(&p.b, 0), FAKE_SEND, 5, 30, -EAGAIN);
    for (int i = 0; i < 100; i++)
        cr_assert(eq(int, pw_endpoint_get(p.a.ep, to + i, (uintptr_t)from + (uintptr_t)i,
                                          1, &key, pair_done, &done), PW_NIC_PENDING));
    pair_turns(&p, 100);
    cr_expect(eq(uint, done.calls, 100));
    cr_expect(eq(int, memcmp(from, to, 100), 0));
    pw_engine_deregister(p.b.e, &key);
    pair_close(&p);
}

static unsigned bytes_when_received;
static uint8_t *watched;
static size_t watched_len;

static void count_filled(struct pair_side *side)
{
    (void)side;
    bytes_when_received = 0;
    for (size_t i = 0; i < watched_len; i++)
        bytes_when_received += watched[i] == 'x';
}

/* A message sent while a put of 200 pieces is on its way does not wait for it. */
Test(endpoint, messages_and_streams_share_the_path)
{
    enum { LEN = 200 * 1024 };
    struct pair_outcome done = { 0 };
    uint8_t *from = malloc(LEN), *to = calloc(1, LEN);
    struct pw_key key = { 0 };
    struct pair p;

    memset(from, 'x', LEN);
    watched = to;
    watched_len = LEN;
    pair_open(&p, &(struct pair_plan){ .queue_bytes = 16384 });
    p.b.on_recv = count_filled;
    cr_assert(eq(int, pw_engine_register(p.b.e, to, LEN, PW_WRITE, false, &key), 0));
    cr_assert(eq(int, pw_endpoint_put(p.a.ep, from, (uintptr_t)to, LEN, &key, pair_done,
                                      &done), PW_NIC_PENDING));
    pair_turns(&p, 3);
    cr_assert(eq(uint, done.calls, 0), "still on its way");
    for (uint32_t sent = 0; sent < 1; pair_turns(&p, 1))
        sent += pair_send(&p.a, 0) == 0;
    cr_expect(pair_until(&p, &p.b.received, 1));
    cr_expect(lt(uint, 0, bytes_when_received));
    cr_expect(lt(uint, bytes_when_received, LEN));
    cr_expect(pair_until(&p, &done.calls, 1));
    cr_expect(eq(int, memcmp(from, to, LEN), 0));
    pair_close(&p);
    free(from);
    free(to);
}

/* A queued message comes in between as well, and does not wait for the end. */
Test(endpoint, the_queue_goes_before_streams)
{
    enum { LEN = 200 * 1024 };
    struct pair_outcome done = { 0 };
    uint8_t *from = malloc(LEN), *to = calloc(1, LEN);
    struct pw_key key = { 0 };
    struct pair_note note;
    struct pair p;

    memset(from, 'x', LEN);
    watched = to;
    watched_len = LEN;
    pair_open(&p, &(struct pair_plan){ .queue_bytes = 16384 });
    p.b.on_recv = count_filled;
    cr_assert(eq(int, pw_engine_register(p.b.e, to, LEN, PW_WRITE, false, &key), 0));
    pw_endpoint_put(p.a.ep, from, (uintptr_t)to, LEN, &key, pair_done, &done);
    pair_turns(&p, 3);
    pair_queue(&p.a, &note, 0);
    cr_expect(pair_until(&p, &p.b.received, 1));
    cr_expect(lt(uint, bytes_when_received, LEN));
    cr_expect(pair_until(&p, &done.calls, 1));
    cr_expect(eq(int, memcmp(from, to, LEN), 0));
    pair_close(&p);
    free(from);
    free(to);
}

static unsigned pieces;

static void count_piece(uint32_t imm)
{
    pieces += pw_imm_kind(imm) == PW_F_PUT_DATA;
}

/* A NIC that has no room for the message may have some for the next piece, and
 * then for another: the message would starve. */
Test(endpoint, no_stream_goes_on_while_the_queue_is_stuck)
{
    struct pair_outcome done = { 0 };
    uint8_t from[5000] = { 1 }, to[5000];
    struct pw_key key = { 0 };
    struct pair_note note;
    struct pair p;

    pair_open(&p, &(struct pair_plan){ 0 });
    cr_assert(eq(int, pw_engine_register(p.b.e, to, 5000, PW_WRITE, false, &key), 0));
    pw_endpoint_put(p.a.ep, from, (uintptr_t)to, 5000, &key, pair_done, &done);
    pair_queue(&p.a, &note, 0);
    fake_nic_fail(pair_nic(&p.a, 0), FAKE_SEND, 1, 1, -EAGAIN);
    pair_after_send = count_piece;
    pw_engine_progress(p.a.e);
    cr_expect(eq(uint, note.calls, 0));
    cr_expect(eq(uint, pieces, 0));
    pw_engine_progress(p.a.e);
    cr_expect(eq(uint, note.calls, 1));
    cr_expect(lt(uint, 0, pieces));
    cr_expect(pair_until(&p, &done.calls, 1));
    pair_close(&p);
}

/* ---- death ---- */

Test(endpoint, death_is_told_once_with_cause_and_reason)
{
    struct pair p;

    pair_open(&p, &(struct pair_plan){ 0 });
    cr_expect(pw_endpoint_alive(p.a.ep));
    fake_nic_die(pair_nic(&p.b, 0));
    pair_turns(&p, 5);
    cr_expect(eq(uint, p.a.deaths, 1));
    cr_expect(eq(int, p.a.cause, -ECONNRESET));
    cr_expect(eq(str, p.a.why, "the peer's process died"));
    cr_expect(not(pw_endpoint_alive(p.a.ep)));
    pair_close(&p);
}

Test(endpoint, leaving_in_good_order_is_a_death_without_a_cause)
{
    struct pair p;

    pair_open(&p, &(struct pair_plan){ 0 });
    pw_endpoint_close(p.b.ep);
    pair_turns(&p, 3);
    cr_expect(eq(uint, p.a.deaths, 1));
    cr_expect(eq(int, p.a.cause, 0));
    cr_expect(eq(uint, p.b.deaths, 0), "who closes is not told");
    pair_close(&p);
}

/* A get, a put, an atomic and a message, all waiting for a peer that dies. */
Test(endpoint, what_is_pending_at_death_fails_exactly_once)
{
    struct pair_outcome get = { 0 }, put = { 0 }, add = { 0 };
    struct pw_atomic what = { .op = PW_ATOMIC_ADD, .type = PW_INT64, .operand = 1 };
    uint64_t memory = 5, local = 0, result = 77;
    struct pair_note note;
    struct pw_key key = { 0 };
    struct pair p;

    pair_open(&p, &(struct pair_plan){ 0 });
    cr_assert(eq(int, pw_engine_register(p.b.e, &memory, 8, PW_READ | PW_WRITE | PW_ATOMIC,
                                         false, &key), 0));
    pw_endpoint_get(p.a.ep, &local, (uintptr_t)&memory, 8, &key, pair_done, &get);
    pw_endpoint_put(p.a.ep, &local, (uintptr_t)&memory, 8, &key, pair_done, &put);
    pw_endpoint_atomic(p.a.ep, &what, (uintptr_t)&memory, &result, &key, pair_done, &add);
    pair_queue(&p.a, &note, 0);
    fake_nic_die(pair_nic(&p.b, 0));
    pair_turns(&p, 5);
    cr_expect(eq(uint, get.calls, 1));
    cr_expect(eq(int, get.status, -EPIPE));
    cr_expect(eq(uint, put.calls, 1));
    cr_expect(eq(int, put.status, -EPIPE));
    cr_expect(eq(uint, add.calls, 1));
    cr_expect(eq(int, add.status, -EPIPE));
    cr_expect(eq(uint, note.calls, 1));
    cr_expect(eq(int, note.status, -EPIPE));
    cr_expect(eq(u64, memory, 5));
    cr_expect(eq(u64, result, 77));
    cr_expect(eq(uint, p.a.e->n_pending, 0));
    cr_expect(eq(uint, p.a.e->n_waiting, 0));
    pair_close(&p);
}

/* The NIC itself was at work: it fails the transfer, and the peer with it. */
Test(endpoint, a_transfer_that_the_nic_had_fails_with_epipe_too)
{
    struct pair_outcome put = { 0 };
    uint64_t memory = 5, local = 6;
    struct pw_key key = { 0 };
    struct pair p;

    fake_nic_traits(&fake_nic_ops)->pending = true;
    pair_open(&p, &(struct pair_plan){ .keyed = true });
    cr_assert(eq(int, pw_engine_register(p.b.e, &memory, 8, PW_WRITE, false, &key), 0));
    cr_assert(eq(int, pw_endpoint_put(p.a.ep, &local, (uintptr_t)&memory, 8, &key,
                                      pair_done, &put), PW_NIC_PENDING));
    fake_nic_die(pair_nic(&p.b, 0));
    pair_turns(&p, 5);
    cr_expect(eq(uint, put.calls, 1));
    cr_expect(eq(int, put.status, -EPIPE));
    cr_expect(eq(u64, memory, 5));
    pair_close(&p);
}

Test(endpoint, whatever_is_asked_of_the_dead_fails_with_epipe)
{
    struct pair_outcome o = { 0 };
    struct pw_atomic what = { .op = PW_ATOMIC_ADD, .type = PW_INT64, .operand = 1 };
    uint64_t local = 0;
    struct pair_note note;
    struct pw_key key = { .access = PW_READ | PW_WRITE | PW_ATOMIC };
    struct pair p;

    pair_open(&p, &(struct pair_plan){ 0 });
    fake_nic_die(pair_nic(&p.b, 0));
    pair_turns(&p, 5);
    cr_expect(eq(int, pair_send(&p.a, 0), -EPIPE));
    pair_queue(&p.a, &note, 0);
    cr_expect(eq(uint, note.calls, 1));
    cr_expect(eq(int, note.status, -EPIPE));
    cr_expect(eq(int, pw_endpoint_get(p.a.ep, &local, 64, 8, &key, pair_done, &o), -EPIPE));
    cr_expect(eq(int, pw_endpoint_put(p.a.ep, &local, 64, 8, &key, pair_done, &o), -EPIPE));
    cr_expect(eq(int, pw_endpoint_atomic(p.a.ep, &what, 64, &local, &key, pair_done, &o),
                 -EPIPE));
    cr_expect(eq(uint, o.calls, 0), "an error that was returned has no callback");
    pair_close(&p);
}

static unsigned failed_before_dead;
static struct pair_note *dead_note;

static void look_at_note(struct pair_side *side)
{
    (void)side;
    failed_before_dead = dead_note->calls;
}

Test(endpoint, death_is_told_before_what_is_pending_fails)
{
    struct pair_note note;
    struct pair p;

    pair_open(&p, &(struct pair_plan){ 0 });
    dead_note = &note;
    p.a.on_dead = look_at_note;
    fake_nic_fail(pair_nic(&p.a, 0), FAKE_SEND, 1, 0, -EAGAIN);
    pair_queue(&p.a, &note, 0);
    fake_nic_die(pair_nic(&p.b, 0));
    pair_turns(&p, 5);
    cr_expect(eq(uint, p.a.deaths, 1));
    cr_expect(eq(uint, failed_before_dead, 0));
    cr_expect(eq(uint, note.calls, 1));
    pair_close(&p);
}

Test(endpoint, what_arrived_before_death_is_delivered)
{
    struct pair p;

    pair_open(&p, &(struct pair_plan){ 0 });
    for (uint32_t i = 0; i < 10; i++)
        pair_send(&p.b, i);
    fake_nic_die(pair_nic(&p.b, 0));
    pair_turns(&p, 5);
    cr_expect(eq(uint, p.a.received, 10));
    cr_expect(eq(uint, p.a.deaths, 1));
    pair_close(&p);
}

/* ---- close ---- */

Test(endpoint, close_cancels_what_the_nic_does_not_take)
{
    struct pair_outcome get = { 0 };
    uint64_t memory = 5, local = 0;
    struct pair_note note;
    struct pw_key key = { 0 };
    struct pair p;

    pair_open(&p, &(struct pair_plan){ 0 });
    cr_assert(eq(int, pw_engine_register(p.b.e, &memory, 8, PW_READ, false, &key), 0));
    pw_endpoint_get(p.a.ep, &local, (uintptr_t)&memory, 8, &key, pair_done, &get);
    fake_nic_fail(pair_nic(&p.a, 0), FAKE_SEND, 1, 0, -EAGAIN);
    pair_queue(&p.a, &note, 0);
    pw_endpoint_close(p.a.ep);
    cr_expect(eq(uint, note.calls, 1));
    cr_expect(eq(int, note.status, -ECANCELED));
    cr_expect(eq(uint, get.calls, 1));
    cr_expect(eq(int, get.status, -ECANCELED));
    cr_expect(eq(uint, p.a.e->n_waiting, 0));
    cr_expect(eq(uint, p.a.e->n_pending, 0));
    pair_close(&p);
}

Test(endpoint, what_was_sent_before_close_arrives)
{
    struct pair p;

    pair_open(&p, &(struct pair_plan){ 0 });
    for (uint32_t i = 0; i < 50; i++)
        cr_assert(eq(int, pair_send(&p.a, i), 0));
    pw_endpoint_close(p.a.ep);
    pair_turns(&p, 5);
    cr_expect(eq(uint, p.b.received, 50));
    cr_expect(eq(uint, p.b.deaths, 1));
    pair_close(&p);
}

Test(endpoint, close_sends_what_waits_when_there_is_room)
{
    struct pair_note notes[5];
    struct pair p;

    pair_open(&p, &(struct pair_plan){ 0 });
    for (uint32_t i = 0; i < 5; i++)
        pair_queue(&p.a, &notes[i], i);
    pw_endpoint_close(p.a.ep);
    for (int i = 0; i < 5; i++)
        cr_expect(eq(int, notes[i].status, 0));
    pair_turns(&p, 5);
    cr_expect(eq(uint, p.b.received, 5));
    pair_close(&p);
}

Test(endpoint, closing_nothing_is_allowed)
{
    pw_endpoint_close(NULL);
    pw_engine_close(NULL);
}

/* Its owner frees the note and the buffers of the get: somebody must say so. */
Test(endpoint, closing_the_engine_cancels_what_is_pending)
{
    struct pair_outcome get = { 0 };
    uint64_t memory = 5, local = 0;
    struct pair_note note;
    struct pw_key key = { 0 };
    struct pair p;

    pair_open(&p, &(struct pair_plan){ 0 });
    cr_assert(eq(int, pw_engine_register(p.b.e, &memory, 8, PW_READ, false, &key), 0));
    pw_endpoint_get(p.a.ep, &local, (uintptr_t)&memory, 8, &key, pair_done, &get);
    pair_queue(&p.a, &note, 0);
    pair_close(&p);
    cr_expect(eq(uint, note.calls, 1));
    cr_expect(eq(int, note.status, -ECANCELED));
    cr_expect(eq(uint, get.calls, 1));
    cr_expect(eq(int, get.status, -ECANCELED));
}
