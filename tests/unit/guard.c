/* SPDX-License-Identifier: BSD-3-Clause */
/* guard.c - frames arrive once and in order over NICs that lose, repeat and die.
 *
 * A message carries its number, so that tests/unit/pair.c notices one that is
 * missing, comes twice or comes early.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <time.h>

#include "btl/core/guard.h"
#include "tests/unit/pair.h"

static const struct fake_nic_faults no_faults;

/* NICs that promise nothing. */
static void lossy_open(struct pair *p, const struct pair_plan *plan,
                       const struct fake_nic_faults *faults)
{
    struct fake_nic_traits *t[] = { fake_nic_traits(&fake_nic_ops),
                                    fake_nic_traits(&fake_nic_ops2) };

    for (int i = 0; i < 2; i++) {
        t[i]->flags &= ~(uint32_t)PW_NIC_LOSSLESS;
        t[i]->faults = *faults;
    }
    pair_open(p, plan);
    cr_assert(ne(ptr, p->a.ep->guard, NULL));
}

static void expect_all(struct pair *p, uint32_t n)
{
    cr_expect(pair_until(p, &p->a.received, n), "%u of %u came", p->a.received, n);
    cr_expect(pair_until(p, &p->b.received, n), "%u of %u came", p->b.received, n);
    pair_turns(p, 5);
    cr_expect(eq(uint, p->a.received, n));
    cr_expect(eq(uint, p->b.received, n));
    cr_expect(not(p->a.disorder));
    cr_expect(not(p->b.disorder));
}

/* n messages each way, as fast as there is room. */
static void exchange(struct pair *p, uint32_t n)
{
    uint32_t a = 0, b = 0;
    time_t end = time(NULL) + 30;

    while ((a < n || b < n) && time(NULL) < end) {
        while (a < n && pair_send(&p->a, a) == 0)
            a++;
        while (b < n && pair_send(&p->b, b) == 0)
            b++;
        pair_turns(p, 1);
    }
    expect_all(p, n);
}

static void exchange_over(const struct fake_nic_faults *faults, uint32_t n)
{
    struct pair p;

    lossy_open(&p, &(struct pair_plan){ 0 }, faults);
    exchange(&p, n);
    pair_close(&p);
}

/* ---- faults ---- */

Test(guard, nothing_is_lost_or_repeated_over_a_good_nic)
{
    exchange_over(&no_faults, 10000);
}

Test(guard, one_frame_in_a_hundred_is_lost)
{
    pair_loss_percent = 1;
    exchange_over(&no_faults, 10000);
}

/* Each loss costs the time after which an answer is overdue, so fewer frames. */
Test(guard, one_frame_in_ten_is_lost)
{
    pair_loss_percent = 10;
    exchange_over(&no_faults, 2000);
}

Test(guard, three_frames_in_ten_are_lost)
{
    pair_loss_percent = 30;
    exchange_over(&no_faults, 400);
}

Test(guard, one_frame_in_three_comes_twice)
{
    exchange_over(&(struct fake_nic_faults){ .duplicate_every = 3 }, 10000);
}

Test(guard, frames_come_late)
{
    exchange_over(&(struct fake_nic_faults){ .delay = 7 }, 10000);
}

Test(guard, one_frame_in_seventy_overtakes_another)
{
    exchange_over(&(struct fake_nic_faults){ .swap_every = 70 }, 1500);
}

Test(guard, loss_repetition_and_delay_at_once)
{
    pair_loss_percent = 3;
    exchange_over(&(struct fake_nic_faults){ .duplicate_every = 7, .swap_every = 53,
                                             .delay = 3 }, 3000);
}

/* Those in the immediate data are 16 bits. */
Test(guard, numbers_wrap_round)
{
    exchange_over(&(struct fake_nic_faults){ .duplicate_every = 101 }, 140000);
}

/* b takes everything and its acknowledgements are lost: a sends again, b drops
 * it, and the first acknowledgement that comes through ends that. */
Test(guard, lost_acknowledgements_lead_to_no_second_delivery)
{
    struct pair p;

    lossy_open(&p, &(struct pair_plan){ 0 }, &no_faults);
    fake_nic_set_faults(pair_nic(&p.b, 0), &(struct fake_nic_faults){ .drop_every = 1 });
    for (uint32_t i = 0; i < 500; i++)
        cr_assert(eq(int, pair_send(&p.a, i), 0));
    cr_expect(pair_until(&p, &p.b.received, 500));
    unsigned sent = fake_nic_calls(pair_nic(&p.a, 0), FAKE_SEND);
    while (fake_nic_calls(pair_nic(&p.a, 0), FAKE_SEND) < sent + 500)
        pair_turns(&p, 1);
    cr_expect(eq(uint, p.b.received, 500));
    cr_expect(not(pw_guard_quiet(p.a.ep->guard)));

    fake_nic_set_faults(pair_nic(&p.b, 0), &no_faults);
    for (int i = 0; i < 1000000 && !pw_guard_quiet(p.a.ep->guard); i++)
        pair_turns(&p, 1);
    cr_expect(pw_guard_quiet(p.a.ep->guard));
    cr_expect(eq(uint, p.b.received, 500));
    cr_expect(not(p.b.disorder));
    pair_close(&p);
}

Test(guard, a_nic_without_room_is_tried_again_in_order)
{
    struct pair p;

    lossy_open(&p, &(struct pair_plan){ .queue_bytes = 4096 }, &no_faults);
    fake_nic_fail(pair_nic(&p.a, 0), FAKE_SEND, 5, 40, -EAGAIN);
    exchange(&p, 1000);
    pair_close(&p);
}

/* ---- the window ---- */

Test(guard, a_full_window_says_try_again_and_recovers)
{
    uint32_t sent = 0;
    struct pair p;

    lossy_open(&p, &(struct pair_plan){ 0 }, &no_faults);
    fake_nic_set_faults(pair_nic(&p.a, 0), &(struct fake_nic_faults){ .drop_every = 1 });
    while (pair_send(&p.a, sent) == 0)
        sent++;
    cr_expect(eq(u32, sent, PW_GUARD_WINDOW));
    cr_expect(eq(int, pair_send(&p.a, sent), -EAGAIN));

    fake_nic_set_faults(pair_nic(&p.a, 0), &no_faults);
    cr_expect(pair_until(&p, &p.b.received, sent));
    pair_turns(&p, 2);
    cr_expect(eq(int, pair_send(&p.a, sent), 0));
    cr_expect(pair_until(&p, &p.b.received, sent + 1));
    cr_expect(not(p.b.disorder));
    pair_close(&p);
}

Test(guard, the_callers_memory_is_free_when_send_returns)
{
    uint32_t number = 0;
    struct pw_iov iov[2] = { { &number, 2 }, { (char *)&number + 2, 2 } };
    struct pair p;

    lossy_open(&p, &(struct pair_plan){ 0 }, &no_faults);
    pair_loss_percent = 50;
    for (; number < 20; number++)
        cr_assert(eq(int, pw_endpoint_send(p.a.ep, 0, iov, 2), 0));
    number = 0xffffffff;
    cr_expect(pair_until(&p, &p.b.received, 20));
    cr_expect(not(p.b.disorder));
    pair_close(&p);
}

/* A frame that no path takes would block all that follow. */
Test(guard, a_message_that_is_too_large_is_refused)
{
    static const char bytes[65536];
    struct pw_iov iov = { bytes, sizeof bytes };
    struct pair p;

    lossy_open(&p, &(struct pair_plan){ 0 }, &no_faults);
    cr_expect(eq(int, pw_endpoint_send(p.a.ep, 0, &iov, 1), -EMSGSIZE));
    iov.len = pw_engine_message_max(p.a.e) + 1;
    cr_expect(eq(int, pw_endpoint_send(p.a.ep, 0, &iov, 1), -EMSGSIZE));
    iov.len--;
    cr_expect(eq(int, pw_endpoint_send(p.a.ep, 0, &iov, 1), 0));
    cr_expect(pair_until(&p, &p.b.received, 1));
    cr_expect(eq(sz, p.b.lens[0], iov.len));
    pair_close(&p);
}

Test(guard, acknowledgements_that_cannot_be_meant_are_ignored)
{
    uint32_t wrong[] = { 10, 11, 1000, 32768, 65535, 0x80000000, 0xffffffff };
    uint64_t all = 9;
    struct pair p;

    lossy_open(&p, &(struct pair_plan){ 0 }, &no_faults);
    fake_nic_set_faults(pair_nic(&p.a, 0), &(struct fake_nic_faults){ .drop_every = 1 });
    for (uint32_t i = 0; i < 9; i++)
        cr_assert(eq(int, pair_send(&p.a, i), 0));
    for (int i = 0; i < 7; i++)
        pair_forge(&p.b, pw_imm(PW_F_ACK, 0, 0), &wrong[i], 4);
    pair_forge(&p.b, pw_imm(PW_F_ACK, 0, 0), &all, 2);
    pair_forge(&p.b, pw_imm(PW_F_ACK, 0, 0), &all, 8);
    pair_forge(&p.b, pw_imm(PW_F_ACK, 0, 0), &all, 0);
    pair_turns(&p, 2);
    fake_nic_set_faults(pair_nic(&p.a, 0), &no_faults);
    cr_expect(pair_until(&p, &p.b.received, 9), "all copies were kept");
    cr_expect(not(p.b.disorder));
    pair_close(&p);
}

/* An old one that was delayed: what it names is long acknowledged. */
Test(guard, an_old_acknowledgement_is_ignored)
{
    uint32_t old = 3;
    struct pair p;

    lossy_open(&p, &(struct pair_plan){ 0 }, &no_faults);
    exchange(&p, 100);
    fake_nic_set_faults(pair_nic(&p.a, 0), &(struct fake_nic_faults){ .drop_every = 1 });
    for (uint32_t i = 100; i < 110; i++)
        cr_assert(eq(int, pair_send(&p.a, i), 0));
    pair_forge(&p.b, pw_imm(PW_F_ACK, 0, 0), &old, 4);
    pair_turns(&p, 2);
    fake_nic_set_faults(pair_nic(&p.a, 0), &no_faults);
    cr_expect(pair_until(&p, &p.b.received, 110));
    cr_expect(not(p.b.disorder));
    pair_close(&p);
}

Test(guard, numbers_that_are_not_the_next_are_dropped)
{
    const uint32_t wrong[] = { 4, 6, 2000, 32767, 32768, 65541, 0x80000005, 0 };
    struct { uint32_t body; struct pw_guard_tail tail; } f = { .body = 0xbad };
    struct pair p;

    lossy_open(&p, &(struct pair_plan){ 0 }, &no_faults);
    exchange(&p, 5);
    for (int i = 0; i < 8; i++) {
        f.tail = (struct pw_guard_tail){ .seq = wrong[i] };
        pair_forge(&p.a, pw_imm(PW_F_MESSAGE | PW_F_NUMBERED, 0, (uint16_t)wrong[i]), &f,
                   sizeof f);
    }
    f.tail.seq = 5;     /* the number, but one of the two says otherwise */
    pair_forge(&p.a, pw_imm(PW_F_MESSAGE | PW_F_NUMBERED, 0, 6), &f, sizeof f);
    for (size_t len = 0; len < sizeof f.tail; len++)
        pair_forge(&p.a, pw_imm(PW_F_MESSAGE | PW_F_NUMBERED, 0, 5), &f.tail, len);
    pair_turns(&p, 3);
    cr_expect(eq(uint, p.b.received, 5));
    cr_expect(eq(int, pair_send(&p.a, 5), 0));
    cr_expect(pair_until(&p, &p.b.received, 6));
    cr_expect(not(p.b.disorder));
    pair_close(&p);
}

/* ---- sends that the NIC finishes later ---- */

Test(guard, copies_stay_until_the_nic_is_through)
{
    struct pair p;

    fake_nic_traits(&fake_nic_ops)->pending = true;
    lossy_open(&p, &(struct pair_plan){ 0 },
               &(struct fake_nic_faults){ .duplicate_every = 9 });
    pair_loss_percent = 2;
    exchange(&p, 3000);
    pair_close(&p);
}

/* The peer cannot know of the frame yet, and says it does: it is ours and the
 * NIC's business how long the copy is read. */
Test(guard, an_acknowledgement_does_not_free_what_the_nic_reads)
{
    uint32_t all = 20;
    struct pair p;

    fake_nic_traits(&fake_nic_ops)->pending = true;
    lossy_open(&p, &(struct pair_plan){ 0 }, &no_faults);
    for (uint32_t i = 0; i < 20; i++)
        cr_assert(eq(int, pair_send(&p.a, i), 0));
    pw_guard_acked(p.a.ep->guard, &all, sizeof all);
    cr_expect(not(pw_guard_quiet(p.a.ep->guard)));
    cr_expect(pair_until(&p, &p.b.received, 20));
    cr_expect(not(p.b.disorder));
    for (int i = 0; i < 1000000 && !pw_guard_quiet(p.a.ep->guard); i++)
        pair_turns(&p, 1);
    cr_expect(pw_guard_quiet(p.a.ep->guard));
    pair_close(&p);
}

Test(guard, closing_while_the_nic_reads_copies)
{
    struct pair p;

    fake_nic_traits(&fake_nic_ops)->pending = true;
    lossy_open(&p, &(struct pair_plan){ 0 }, &no_faults);
    for (uint32_t i = 0; i < 20; i++)
        cr_assert(eq(int, pair_send(&p.a, i), 0));
    pw_endpoint_close(p.a.ep);
    pair_turns(&p, 3);
    pair_close(&p);
}

/* ---- memory that stays ---- */

enum { KEPT = 4096 };

/* What the frames of one side were sent from, and began with. */
static struct { const uint32_t *at; uint32_t was; size_t room; } kept[KEPT];
static unsigned n_kept, before_most, changed;

/* The frame's beginning, and the room before it, which its NIC has filled (pair.c). */
static bool is_changed(unsigned i)
{
    const uint8_t *room = (const uint8_t *)kept[i].at - kept[i].room;
    bool other = *kept[i].at != kept[i].was;

    for (size_t byte = 0; byte < kept[i].room; byte++)
        other |= room[byte] != PAIR_ROOM;
    return other;
}

static void keep(const void *base, size_t len, size_t room, unsigned before)
{
    cr_assert(ge(sz, len, sizeof kept->was));
    cr_assert(le(uint, before, n_kept));
    for (unsigned i = 0; i < before; i++)
        changed += is_changed(n_kept - 1 - i);
    before_most = before > before_most ? before : before_most;
    kept[n_kept].at = base;
    kept[n_kept].room = room;
    kept[n_kept++].was = *(const uint32_t *)base;
}

Test(guard, memory_stays_until_it_is_answered)
{
    struct pair p;

    pair_on_kept = keep;
    lossy_open(&p, &(struct pair_plan){ 0 }, &no_faults);
    for (uint32_t n = 0; n < 3000; n++) {
        while (pair_send(&p.a, n))
            pair_turns(&p, 1);
        if (n % 50 == 0)
            pair_turns(&p, 1);
    }
    cr_expect(pair_until(&p, &p.b.received, 3000));
    cr_expect(eq(uint, n_kept, 3000));
    cr_expect(eq(uint, changed, 0));
    cr_expect(lt(uint, 20, before_most));
    pair_close(&p);
}

/* A socket may still read it; who reads it there is not gone yet. */
Test(guard, memory_stays_although_its_endpoint_is_closed)
{
    struct pair p;

    pair_on_kept = keep;
    lossy_open(&p, &(struct pair_plan){ 0 }, &no_faults);
    for (uint32_t i = 0; i < 20; i++)
        cr_assert(eq(int, pair_send(&p.a, i + 1), 0));
    pw_endpoint_close(p.a.ep);
    pair_turns(&p, 3);
    for (int i = 0; i < 8; i++) {
        void *other = malloc(1 << 20);

        memset(other, 0xff, 1 << 20);
        cr_expect(ne(ptr, other, NULL));        /* kept: it may be where the other was */
    }
    for (unsigned i = 0; i < n_kept; i++)
        changed += is_changed(i);
    cr_expect(eq(uint, n_kept, 20));
    cr_expect(eq(uint, changed, 0));
    pair_close(&p);
}

/* What a NIC wrote there may still be on its way, and says what was so then. */
Test(guard, what_is_sent_again_has_no_room_before_it)
{
    enum { FRAMES = 5 };
    struct pair p;

    pair_on_kept = keep;
    lossy_open(&p, &(struct pair_plan){ 0 }, &no_faults);
    for (uint32_t n = 0; n < FRAMES; n++)
        cr_assert(eq(int, pair_send(&p.a, n), 0));
    pw_guard_replay(p.a.ep->guard);
    cr_assert(eq(uint, n_kept, 2 * FRAMES));
    for (unsigned i = 0; i < 2 * FRAMES; i++)
        cr_expect(eq(sz, kept[i].room, i < FRAMES ? PW_NIC_ROOM : 0));
    cr_expect(pair_until(&p, &p.b.received, FRAMES));
    cr_expect(eq(uint, changed, 0));
    pair_close(&p);
}

Test(guard, short_frames_are_not_kept)
{
    struct pair p;

    pair_on_kept = keep;
    lossy_open(&p, &(struct pair_plan){ 0 }, &no_faults);
    pair_nic(&p.a, 0)->info.kept_least = pair_nic(&p.b, 0)->info.kept_least = 100;
    exchange(&p, 10);
    cr_expect(eq(uint, n_kept, 0));
    pair_close(&p);
}

enum { LONG = 16000 };

static unsigned came, wrong;

static uint8_t long_byte(unsigned frame, size_t i)
{
    return (uint8_t)(7 * frame + i % 251);
}

static void look(struct pair_side *side, const void *data, size_t len)
{
    const uint8_t *p = data;

    (void)side;
    wrong += len != LONG;
    for (size_t i = 0; i < len; i++)
        wrong += p[i] != long_byte(came, i);
    came++;
}

/* Whichever way they are copied: both are tried. */
Test(guard, a_stream_of_long_frames_arrives_byte_by_byte)
{
    enum { FRAMES = 600 };
    static uint8_t bytes[LONG];
    time_t end = time(NULL) + 30;
    struct pair p;

    pair_on_kept = keep;
    lossy_open(&p, &(struct pair_plan){ 0 }, &no_faults);
    p.b.on_data = look;
    for (unsigned n = 0; n < FRAMES; n++) {
        for (size_t i = 0; i < LONG; i++)
            bytes[i] = long_byte(n, i);
        while (pw_endpoint_send(p.a.ep, 5, &(struct pw_iov){ bytes, LONG }, 1) == -EAGAIN &&
               time(NULL) < end)
            pair_turns(&p, 1);
    }
    pair_turns(&p, 200);
    cr_expect(eq(uint, came, FRAMES));
    cr_expect(eq(uint, wrong, 0));
    cr_expect(lt(uint, 20, before_most));
    pair_close(&p);
}

/* What comes once more by an old path may be of memory that has other frames by now: it
 * acknowledges nothing. */
Test(guard, a_number_that_does_not_agree_acknowledges_nothing)
{
    struct { uint32_t body; struct pw_guard_tail tail; } f = { .tail = { .seq = 9, .ack = 3 } };
    struct pair p;

    lossy_open(&p, &(struct pair_plan){ 0 }, &no_faults);
    pair_loss_percent = 100;
    for (uint32_t i = 0; i < 5; i++)
        cr_assert(eq(int, pair_send(&p.b, i), 0));
    pw_guard_accept(p.b.ep->guard, pw_imm(PW_F_MESSAGE | PW_F_NUMBERED, 0, 8), &f, sizeof f);
    /* Did it say that three had come, these would not be sent again. */
    pair_loss_percent = 0;
    cr_expect(pair_until(&p, &p.a.received, 5));
    cr_expect(not(p.a.disorder));
    pair_close(&p);
}

/* A send that failed in the NIC is as good as lost. */
Test(guard, a_send_that_the_nic_failed_is_sent_again)
{
    struct pair p;

    fake_nic_traits(&fake_nic_ops)->pending = true;
    lossy_open(&p, &(struct pair_plan){ 0 }, &no_faults);
    fake_nic_fail(pair_nic(&p.a, 0), FAKE_COMPLETE, 3, 4, -EIO);
    exchange(&p, 100);
    pair_close(&p);
}

/* ---- several paths ---- */

static const struct pair_plan two_paths = { .two_nics = true };

Test(guard, two_good_paths_are_guarded_too)
{
    struct pair p;

    pair_open(&p, &two_paths);
    cr_assert(ne(ptr, p.a.ep->guard, NULL));
    exchange(&p, 2000);
    pair_close(&p);
}

/* The first path fails with frames in flight, which are lost with it. */
static void fail_in_mid_flow(const struct fake_nic_faults *faults)
{
    uint32_t sent = 0;
    struct pair p;

    lossy_open(&p, &two_paths, faults);
    for (; sent < 600; sent++)
        cr_assert(eq(int, pair_send(&p.a, sent), 0));
    for (uint32_t i = 0; i < 600; i++)
        cr_assert(eq(int, pair_send(&p.b, i), 0));
    pair_turns(&p, 1);
    fake_nic_cut(pair_nic(&p.a, 0), pair_nic(&p.b, 0), -ETIMEDOUT);
    for (; sent < 900; sent++)
        cr_assert(eq(int, pair_send(&p.a, sent), 0));
    for (uint32_t i = 600; i < 900; i++)
        cr_assert(eq(int, pair_send(&p.b, i), 0));
    expect_all(&p, 900);
    cr_expect(eq(uint, p.a.deaths, 0), "the other path lives");
    cr_expect(eq(uint, p.b.deaths, 0));
    cr_expect(eq(ptr, p.a.ep->path, &p.a.ep->paths[1]));
    pair_close(&p);
}

Test(guard, another_path_takes_over_in_order)
{
    fail_in_mid_flow(&no_faults);
}

Test(guard, what_was_in_flight_is_sent_again_on_the_other_path)
{
    fail_in_mid_flow(&(struct fake_nic_faults){ .delay = 4 });
}

Test(guard, another_path_takes_over_although_it_loses_frames_itself)
{
    pair_loss_percent = 3;
    fail_in_mid_flow(&(struct fake_nic_faults){ .delay = 4 });
}

Test(guard, pending_sends_move_to_the_other_path)
{
    fake_nic_traits(&fake_nic_ops)->pending = true;
    fake_nic_traits(&fake_nic_ops2)->pending = true;
    fail_in_mid_flow(&(struct fake_nic_faults){ .delay = 2 });
}

Test(guard, the_last_path_takes_everything_along)
{
    struct pair_outcome get = { 0 };
    uint64_t memory = 5, local = 0;
    struct pair_note note;
    struct pw_key key = { 0 };
    struct pair p;

    pair_open(&p, &two_paths);
    cr_assert(eq(int, pw_engine_register(p.b.e, &memory, 8, PW_READ, false, &key), 0));
    fake_nic_cut(pair_nic(&p.a, 0), pair_nic(&p.b, 0), -ETIMEDOUT);
    pair_turns(&p, 3);
    cr_expect(eq(uint, p.a.deaths, 0));
    for (uint32_t i = 0; i < PW_GUARD_WINDOW - 1; i++)
        cr_assert(eq(int, pair_send(&p.a, i), 0));
    cr_assert(eq(int, pw_endpoint_get(p.a.ep, &local, (uintptr_t)&memory, 8, &key,
                                      pair_done, &get), PW_NIC_PENDING));
    pair_queue(&p.a, &note, 0);
    fake_nic_die(pair_nic(&p.b, 0));
    fake_nic_die(pair_nic(&p.b, 1));
    pair_turns(&p, 5);
    cr_expect(eq(uint, p.a.deaths, 1));
    cr_expect(eq(int, p.a.cause, -ECONNRESET));
    cr_expect(eq(uint, get.calls, 1));
    cr_expect(eq(int, get.status, -EPIPE));
    cr_expect(eq(uint, note.calls, 1));
    cr_expect(eq(int, note.status, -EPIPE));
    cr_expect(eq(int, pair_send(&p.a, 0), -EPIPE));
    pair_turns(&p, 5);
    cr_expect(eq(uint, p.a.deaths, 1));
    pair_close(&p);
}

/* b could not connect its second NIC, and so has a single path that needs no
 * guard. a has two and numbers its frames. */
Test(guard, a_peer_that_numbers_its_frames_is_understood)
{
    struct pair plain;
    struct pair_plan plan = two_paths;

    plan.apart = true;
    pair_open(&plain, &plan);
    fake_nic_fail(pair_nic(&plain.b, 1), FAKE_CONNECT, 1, 1, -ENOMEM);
    cr_assert(eq(int, pair_meet(&plain.a, &plain.b), 0));
    cr_assert(eq(int, pair_meet(&plain.b, &plain.a), 0));
    cr_assert(eq(int, plain.b.ep->n_paths, 1));
    exchange(&plain, 3000);
    pair_close(&plain);
}

/* ---- transfers over such paths ---- */

Test(guard, atomics_happen_exactly_once_under_loss)
{
    const struct pw_atomic add = { .op = PW_ATOMIC_ADD, .type = PW_INT64, .operand = 1 };
    struct pair_outcome done = { 0 };
    uint64_t counter = 0, seen[500], sum = 0;
    struct pw_key key = { 0 };
    struct pair p;

    lossy_open(&p, &(struct pair_plan){ 0 },
               &(struct fake_nic_faults){ .duplicate_every = 5 });
    pair_loss_percent = 10;
    cr_assert(eq(int, pw_engine_register(p.b.e, &counter, 8, PW_ATOMIC, false, &key), 0));
    for (int i = 0; i < 500; i++)
        cr_assert(eq(int, pw_endpoint_atomic(p.a.ep, &add, (uintptr_t)&counter, &seen[i],
                                             &key, pair_done, &done), PW_NIC_PENDING));
    cr_expect(pair_until(&p, &done.calls, 500));
    pair_turns(&p, 10);
    cr_expect(eq(uint, done.calls, 500));
    cr_expect(eq(u64, counter, 500));
    for (int i = 0; i < 500; i++)
        sum += seen[i];
    cr_expect(eq(u64, sum, 500 * 499 / 2), "each was told another value");
    pair_close(&p);
}

static void transfer_over(const struct fake_nic_faults *faults)
{
    enum { LEN = 100000 };
    struct pair_outcome done = { 0 };
    uint8_t *from = malloc(LEN), *middle = calloc(1, LEN), *to = calloc(1, LEN);
    struct pw_key key = { 0 };
    struct pair p;

    for (int i = 0; i < LEN; i++)
        from[i] = (uint8_t)(i * 7 + (i >> 8));
    lossy_open(&p, &(struct pair_plan){ 0 }, faults);
    cr_assert(eq(int, pw_engine_register(p.b.e, middle, LEN, PW_READ | PW_WRITE, false,
                                         &key), 0));
    cr_assert(eq(int, pw_endpoint_put(p.a.ep, from, (uintptr_t)middle, LEN, &key,
                                      pair_done, &done), PW_NIC_PENDING));
    cr_expect(pair_until(&p, &done.calls, 1));
    cr_assert(eq(int, pw_endpoint_get(p.a.ep, to, (uintptr_t)middle, LEN, &key,
                                      pair_done, &done), PW_NIC_PENDING));
    cr_expect(pair_until(&p, &done.calls, 2));
    cr_expect(eq(int, done.status, 0));
    cr_expect(eq(int, memcmp(from, to, LEN), 0));
    pair_close(&p);
    free(from);
    free(middle);
    free(to);
}

Test(guard, streams_get_through_loss)
{
    pair_loss_percent = 10;
    transfer_over(&no_faults);
}

Test(guard, streams_get_through_repetition_and_delay)
{
    transfer_over(&(struct fake_nic_faults){ .duplicate_every = 2, .delay = 3 });
}

/* The NIC had the put in hands when its path failed; frames on the other path
 * do it instead, and the caller does not notice. */
static void taken_over(bool put)
{
    struct pair_outcome done = { 0 };
    uint64_t memory = 5, local = 6;
    struct pw_key key = { 0 };
    struct pair_plan plan = two_paths;
    struct pair p;

    plan.keyed = true;
    fake_nic_traits(&fake_nic_ops)->pending = true;
    fake_nic_traits(&fake_nic_ops2)->other_reach = PW_REACH_NONE;
    pair_open(&p, &plan);
    cr_assert(eq(int, pw_engine_register(p.b.e, &memory, 8, PW_READ | PW_WRITE, false,
                                         &key), 0));
    cr_assert(eq(int, put ? pw_endpoint_put(p.a.ep, &local, (uintptr_t)&memory, 8, &key,
                                            pair_done, &done)
                          : pw_endpoint_get(p.a.ep, &local, (uintptr_t)&memory, 8, &key,
                                            pair_done, &done), PW_NIC_PENDING));
    fake_nic_fail(pair_nic(&p.a, 0), FAKE_COMPLETE, 1, 1, -ECONNRESET);
    fake_nic_cut(pair_nic(&p.a, 0), pair_nic(&p.b, 0), -ETIMEDOUT);
    cr_expect(pair_until(&p, &done.calls, 1));
    pair_turns(&p, 5);
    cr_expect(eq(uint, done.calls, 1));
    cr_expect(eq(int, done.status, 0));
    cr_expect(eq(u64, memory, put ? 6 : 5));
    cr_expect(eq(u64, local, put ? 6 : 5));
    cr_expect(eq(uint, p.a.deaths, 0));
    pair_close(&p);
}

Test(guard, a_put_that_its_nic_gave_up_goes_on_by_frames)
{
    taken_over(true);
}

Test(guard, a_get_that_its_nic_gave_up_goes_on_by_frames)
{
    taken_over(false);
}
