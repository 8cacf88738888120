/* SPDX-License-Identifier: BSD-3-Clause */
/* ring.c - frames through shared memory: whole, in order, and nothing else.
 *
 * Writer and reader lie in one process; what a process of its own would do to
 * the memory is done here by hand.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "btl/nic/shm_ring.h"
#include "tests/unit/draw.h"

enum { STOW = 65536, BEYOND = 4096 };

struct rig {
    struct shm_tx tx;
    struct shm_rx rx;
    uint8_t *memory, *beyond;   /* what lies behind the queue must not change */
    size_t frame_max;
};

/* The memory of a new queue is what a pool had in it before: anything. */
static void rig_open(struct rig *r, size_t stow)
{
    size_t bytes = shm_queue_bytes(stow);

    r->memory = aligned_alloc(4096, (bytes + 2 * BEYOND) & ~(size_t)(BEYOND - 1));
    r->beyond = r->memory + bytes;
    memset(r->memory, 0xff, bytes + BEYOND / 2);
    shm_tx_init(&r->tx, r->memory, stow);
    shm_rx_init(&r->rx, r->memory, stow);
    r->frame_max = shm_frame_max(stow);
}

static void rig_close(struct rig *r)
{
    for (int i = 0; i < BEYOND / 2; i++)
        cr_assert(eq(u8, r->beyond[i], 0xff), "byte %d behind the queue", i);
    free(r->memory);
}

/* Frames are filled with a byte from their number, so that a wrong one shows. */
static uint8_t fill_of(uint32_t number)
{
    return (uint8_t)(number * 37 + 11);
}

static int send_filled(struct rig *r, uint32_t number, size_t len, uint8_t with)
{
    static uint8_t bytes[STOW];
    struct pw_iov iov = { bytes, len };

    memset(bytes, with, len < sizeof bytes ? len : sizeof bytes);
    return shm_tx_send(&r->tx, number, &iov, 1, len);
}

static int send(struct rig *r, uint32_t number, size_t len)
{
    return send_filled(r, number, len, fill_of(number));
}

static void expect_frame(struct rig *r, uint32_t number, size_t len)
{
    const uint8_t *data;
    const void *at;
    uint32_t imm;
    size_t got;

    cr_assert(not(shm_rx_empty(&r->rx)));
    cr_assert(eq(int, shm_rx_peek(&r->rx, &imm, &at, &got), 1), "frame %u", number);
    cr_assert(eq(u32, imm, number));
    cr_assert(eq(sz, got, len), "frame %u", number);
    data = at;
    for (size_t i = 0; i < len; i++)
        cr_assert(eq(u8, data[i], fill_of(number)), "byte %zu of frame %u", i, number);
    shm_rx_done(&r->rx);
}

static void expect_none(struct rig *r)
{
    const void *at;
    uint32_t imm;
    size_t len;

    cr_assert(shm_rx_empty(&r->rx));
    cr_assert(eq(int, shm_rx_peek(&r->rx, &imm, &at, &len), 0));
}

/* ---- one at a time ---- */

Test(ring, a_new_one_is_empty_whatever_its_memory_held)
{
    struct rig r;

    rig_open(&r, STOW);
    expect_none(&r);
    rig_close(&r);
}

static void every_size(size_t stow)
{
    struct rig r;
    uint32_t n = 0;

    rig_open(&r, stow);
    for (size_t len = 0; len <= r.frame_max; len += len < 4500 ? 1 : 977, n++) {
        cr_assert(eq(int, send(&r, n, len), 0), "%zu bytes", len);
        expect_frame(&r, n, len);
        expect_none(&r);
    }
    cr_assert(eq(int, send(&r, n, r.frame_max), 0));
    expect_frame(&r, n, r.frame_max);
    rig_close(&r);
}

Test(ring, a_frame_of_any_size_comes_out_as_it_went_in)
{
    every_size(SHM_STOW_SIZE_MIN);
    every_size(STOW);
}

Test(ring, a_frame_over_the_largest_is_refused)
{
    struct rig r;

    rig_open(&r, STOW);
    cr_expect(eq(int, send(&r, 0, r.frame_max + 1), -EMSGSIZE));
    cr_expect(eq(int, send(&r, 0, STOW), -EMSGSIZE));
    expect_none(&r);
    cr_expect(eq(int, send(&r, 0, r.frame_max), 0));
    expect_frame(&r, 0, r.frame_max);
    rig_close(&r);
}

Test(ring, all_bits_of_the_immediate_data_arrive)
{
    const uint32_t imms[] = { 0, 1, 0x80000000, 0x7fffffff, 0xffffffff };
    struct rig r;

    rig_open(&r, STOW);
    for (int i = 0; i < 5; i++) {
        cr_assert(eq(int, send(&r, imms[i], 8), 0));
        cr_assert(eq(int, send(&r, imms[i], 5000), 0));
        expect_frame(&r, imms[i], 8);
        expect_frame(&r, imms[i], 5000);
    }
    rig_close(&r);
}

Test(ring, pieces_become_one_frame)
{
    uint8_t bytes[5000];
    const size_t lens[] = { 0, 1, 8, 15, 16, 17, 64, 100, 1500, 4000 };
    struct rig r;

    rig_open(&r, STOW);
    for (uint32_t a = 0; a < 10; a++)
        for (uint32_t b = 0; b < 10; b++)
            for (uint32_t c = 0; c < 10; c++) {
                struct pw_iov iov[3] = { { bytes + a, lens[a] }, { bytes + 3 * b, lens[b] },
                                         { bytes + 7 * c, lens[c] } };
                size_t len = lens[a] + lens[b] + lens[c];

                memset(bytes, fill_of(a), sizeof bytes);
                cr_assert(eq(int, shm_tx_send(&r.tx, a, iov, 3, len), 0));
                expect_frame(&r, a, len);
            }
    rig_close(&r);
}

Test(ring, pieces_are_put_in_their_order)
{
    for (size_t scale = 1; scale < 2000; scale *= 7) {
        uint8_t a[2000], b[2000];
        struct pw_iov iov[2] = { { a, scale }, { b, 2 * scale > 2000 ? 2000 : 2 * scale } };
        const uint8_t *data;
        const void *at;
        uint32_t imm;
        size_t len;
        struct rig r;

        memset(a, 1, sizeof a);
        memset(b, 2, sizeof b);
        rig_open(&r, STOW);
        cr_assert(eq(int, shm_tx_send(&r.tx, 0, iov, 2, iov[0].len + iov[1].len), 0));
        cr_assert(eq(int, shm_rx_peek(&r.rx, &imm, &at, &len), 1));
        data = at;
        cr_expect(eq(u8, data[0], 1));
        cr_expect(eq(u8, data[scale - 1], 1));
        cr_expect(eq(u8, data[scale], 2));
        cr_expect(eq(u8, data[len - 1], 2));
        rig_close(&r);
    }
}

/* ---- full, and round and round ---- */

/* Fill it, empty it, over and over, so that every frame size meets the end in
 * every position. */
static void fill_and_empty(struct rig *r, size_t len, int laps)
{
    uint32_t sent = 0, got = 0;

    while (laps--) {
        while (!send(r, sent, len))
            sent++;
        cr_assert(lt(u32, 2, sent - got), "%zu bytes", len);
        for (; got < sent; got++)
            expect_frame(r, got, len);
        expect_none(r);
    }
}

Test(ring, a_full_one_says_try_again_and_recovers)
{
    const size_t sizes[] = { 0, 1, 55, 56, 57, 120, 248, 1000, 1016, 1017, 2047, 2048,
                             3000, 4095, 4096, 8000, 16000 };
    struct rig r;

    rig_open(&r, STOW);
    for (int i = 0; i < 17; i++)
        fill_and_empty(&r, sizes[i], 20);
    rig_close(&r);
}

Test(ring, nothing_that_was_sent_changes_when_it_is_full)
{
    uint32_t sent = 0;
    struct rig r;

    rig_open(&r, STOW);
    while (!send(&r, sent, 40))
        sent++;
    for (int i = 0; i < 100; i++)
        cr_assert(eq(int, send(&r, 0xbad, i * 10), -EAGAIN));
    for (uint32_t i = 0; i < sent; i++)
        expect_frame(&r, i, 40);
    expect_none(&r);
    rig_close(&r);
}

/* The stow may be full while the ring has room, and the other way round. */
Test(ring, a_full_stow_stops_large_frames_only)
{
    uint32_t sent = 0;
    struct rig r;

    rig_open(&r, STOW);
    while (!send(&r, sent, 16000))
        sent++;
    cr_expect(lt(u32, sent, 8));
    cr_expect(eq(int, send(&r, sent, 100), 0));
    for (uint32_t i = 0; i < sent; i++)
        expect_frame(&r, i, 16000);
    expect_frame(&r, sent, 100);
    cr_expect(eq(int, send(&r, 0, 16000), 0));
    expect_frame(&r, 0, 16000);
    rig_close(&r);
}

Test(ring, a_full_ring_stops_large_frames_too)
{
    uint32_t sent = 0;
    struct rig r;

    rig_open(&r, STOW);
    while (!send(&r, sent, 40))
        sent++;
    cr_expect(eq(int, send(&r, sent, 5000), -EAGAIN));
    for (uint32_t i = 0; i < sent; i++)
        expect_frame(&r, i, 40);
    cr_expect(eq(int, send(&r, sent, 5000), 0));
    expect_frame(&r, sent, 5000);
    rig_close(&r);
}

/* A frame that ends at the very end: no wrap is left, the next starts at 0. */
static size_t ring_at(const struct rig *r)
{
    return r->tx.in_ring.tail % r->tx.in_ring.size;
}

/* A burst, one line after the other, until so many bytes are left before the end. Half
 * of it stays unread, so that the writer has no reason to jump. How many. */
static uint32_t go_to(struct rig *r, size_t left)
{
    uint32_t n = 0;

    for (; ring_at(r) != r->tx.in_ring.size - left; n++)
        cr_assert(eq(int, send(r, n, 40), 0));
    for (uint32_t i = 0; i < n / 2; i++)
        expect_frame(r, i, 40);
    return n;
}

Test(ring, a_frame_fits_exactly_before_the_end)
{
    struct rig r;
    uint32_t n;

    rig_open(&r, SHM_STOW_SIZE_MIN);
    n = go_to(&r, 4 * SHM_LINE);
    cr_assert(eq(int, send(&r, n, 4 * SHM_LINE - SHM_HALF), 0));
    cr_expect(eq(sz, ring_at(&r), 0));
    for (uint32_t i = n / 2; i < n; i++)
        expect_frame(&r, i, 40);
    expect_frame(&r, n, 4 * SHM_LINE - SHM_HALF);
    expect_none(&r);

    n = go_to(&r, 3 * SHM_LINE);
    cr_assert(eq(int, send(&r, n, 4 * SHM_LINE - SHM_HALF), 0), "one line too long");
    cr_expect(eq(sz, ring_at(&r), 4 * SHM_LINE));
    for (uint32_t i = n / 2; i < n; i++)
        expect_frame(&r, i, 40);
    expect_frame(&r, n, 4 * SHM_LINE - SHM_HALF);
    expect_none(&r);
    rig_close(&r);
}

/* ---- where frames lie ---- */

Test(ring, two_small_frames_share_a_line)
{
    struct rig r;

    rig_open(&r, STOW);
    cr_assert(eq(int, send(&r, 0, SHM_HALF - SHM_WORD), 0));
    cr_expect(eq(sz, ring_at(&r), SHM_HALF));
    cr_assert(eq(int, send(&r, 1, 1), 0));
    cr_expect(eq(sz, ring_at(&r), SHM_LINE));
    cr_assert(eq(int, send(&r, 2, SHM_HALF - SHM_WORD + 1), 0));
    cr_expect(eq(sz, ring_at(&r), 2 * SHM_LINE), "a longer one ends with its line");
    cr_assert(eq(int, send(&r, 3, 5000), 0));
    cr_expect(eq(sz, ring_at(&r), 2 * SHM_LINE + SHM_HALF), "of a stowed one only the place");
    cr_assert(eq(int, send(&r, 4, 100), 0));
    cr_expect(eq(sz, ring_at(&r), 5 * SHM_LINE), "from half a line");
    expect_frame(&r, 0, SHM_HALF - SHM_WORD);
    expect_frame(&r, 1, 1);
    expect_frame(&r, 2, SHM_HALF - SHM_WORD + 1);
    expect_frame(&r, 3, 5000);
    expect_frame(&r, 4, 100);
    expect_none(&r);
    rig_close(&r);
}

/* The user's bytes, not the header before them. */
Test(ring, bytes_of_a_line_and_more_begin_with_half_a_line)
{
    static const uint8_t bytes[1000];
    const void *at;
    uint32_t imm;
    struct rig r;
    size_t len;

    rig_open(&r, 1 << 20);
    for (size_t head = 1; head < 40; head++)
        for (size_t n = 64; n < 1000; n += 131) {
            struct pw_iov iov[2] = { { bytes, head }, { bytes + n % 7, n } };

            cr_assert(eq(int, shm_tx_send(&r.tx, 0, iov, 2, head + n), 0));
            cr_assert(eq(int, shm_rx_peek(&r.rx, &imm, &at, &len), 1));
            cr_assert(eq(sz, len, head + n));
            cr_assert(eq(u64, ((uintptr_t)at + head) % SHM_HALF, 0));
            shm_rx_done(&r.rx);
        }
    rig_close(&r);
}

/* One at a time, as an answer is awaited. */
static size_t farthest(struct rig *r, size_t len, int times, size_t (*at)(const struct rig *))
{
    size_t far = 0;

    for (int n = 0; n < times; n++) {
        cr_assert(eq(int, send(r, (uint32_t)n, len), 0));
        expect_frame(r, (uint32_t)n, len);
        expect_none(r);
        shm_rx_rest(&r->rx);
        far = at(r) > far ? at(r) : far;
    }
    return far;
}

static size_t stow_at(const struct rig *r)
{
    return r->tx.in_stow.tail % r->tx.in_stow.size;
}

Test(ring, while_the_reader_keeps_up_few_lines_are_used)
{
    const size_t sizes[] = { 0, 20, 100, 1000, 3900 };
    struct rig r;

    for (int i = 0; i < 5; i++) {
        rig_open(&r, 1 << 20);
        cr_expect(le(sz, farthest(&r, sizes[i], 5000, ring_at), SHM_HOT + 8192));
        rig_close(&r);
    }
    rig_open(&r, 1 << 20);
    cr_expect(le(sz, farthest(&r, 5000, 5000, stow_at), SHM_HOT + 8192));
    cr_expect(lt(sz, (1 << 20) - 40000, farthest(&r, 20000, 5000, stow_at)),
              "long ones go lap by lap");
    rig_close(&r);
}

/* It never rests, so what it has read is known by what it publishes on the way. */
Test(ring, a_reader_that_always_finds_a_frame_is_seen_to_keep_up)
{
    uint32_t first = 0;
    size_t far = 0;
    struct rig r;

    rig_open(&r, 1 << 20);
    for (uint32_t n = 0; n < 50000; n++) {
        cr_assert(eq(int, send(&r, n, 40), 0));
        if (n >= 20)
            expect_frame(&r, first++, 40);
        far = ring_at(&r) > far ? ring_at(&r) : far;
    }
    cr_expect(le(sz, far, 3 * SHM_HOT), "the writer went on at the beginning");
    rig_close(&r);
}

/* All of a part but a little is there for a burst, wherever the writer is. */
static size_t burst(struct rig *r, uint32_t *number, size_t len)
{
    uint32_t first = *number;
    size_t bytes = 0;

    int err;

    for (; !(err = send(r, *number, len)); ++*number)
        bytes += shm_lines(len + SHM_WORD);
    cr_assert(eq(int, err, -EAGAIN));
    for (; first < *number; first++)
        expect_frame(r, first, len);
    expect_none(r);
    shm_rx_rest(&r->rx);
    return bytes;
}

Test(ring, a_burst_finds_room_wherever_the_last_one_ended)
{
    struct rig r;
    uint32_t n = 0;

    rig_open(&r, 1 << 20);
    for (int i = 0; i < 300; i += 7) {
        farthest(&r, 40, i, ring_at);
        cr_assert(lt(sz, r.tx.in_ring.size - 1024, burst(&r, &n, 40)), "burst %d", i);
        farthest(&r, 5000, i, stow_at);
        cr_assert(lt(sz, r.tx.in_stow.size - 32768, burst(&r, &n, 5000)), "burst %d", i);
    }
    rig_close(&r);
}

/* The reader has read all when the writer jumps, and then not for a while. */
Test(ring, the_word_of_a_jump_stays_until_it_is_read)
{
    struct rig r;
    uint32_t n = 0, first;

    rig_open(&r, 1 << 20);
    while (r.tx.in_ring.jump_to == 0) {
        cr_assert(eq(int, send(&r, n, 40), 0));
        if (r.tx.in_ring.jump_to)
            break;
        expect_frame(&r, n++, 40);
        shm_rx_rest(&r.rx);
    }
    cr_expect(lt(sz, ring_at(&r), 2 * SHM_LINE));
    first = n++;
    while (!send(&r, n, 40))
        n++;
    cr_assert(eq(int, send(&r, n, 40), -EAGAIN));
    cr_expect(lt(u32, r.tx.in_ring.size / SHM_LINE - 8, n - first));
    for (; first < n; first++)
        expect_frame(&r, first, 40);
    expect_none(&r);
    rig_close(&r);
}

/* Some frames are unread when the writer jumps. */
Test(ring, what_is_unread_at_a_jump_stays)
{
    for (uint32_t behind = 1; behind < 60; behind += 7) {
        uint32_t n = 0, first = 0;
        struct rig r;

        rig_open(&r, 1 << 20);
        for (; !r.tx.in_ring.jump_to; n++) {
            cr_assert(eq(int, send(&r, n, 40), 0));
            if (n >= behind)
                expect_frame(&r, first++, 40);
            shm_rx_rest(&r.rx);
        }
        cr_expect(lt(u32, n, 3 * SHM_HOT / SHM_LINE), "it did jump");
        while (!send(&r, n, 40))
            n++;
        for (; first < n; first++)
            expect_frame(&r, first, 40);
        expect_none(&r);
        rig_close(&r);
    }
}

/* It would jump in the stow, but the ring is full; then a longer one comes. */
Test(ring, a_jump_that_the_ring_has_no_room_for_did_not_happen)
{
    static const size_t longer[] = { 8000, 16000 };

    for (int i = 0; i < 2; i++) {
        uint32_t n = 0, first;
        struct rig r;

        rig_open(&r, STOW);
        while (stow_at(&r) + 5056 <= SHM_HOT) {
            cr_assert(eq(int, send(&r, n, 5000), 0));
            expect_frame(&r, n++, 5000);
            shm_rx_rest(&r.rx);
        }
        for (first = n; !send(&r, n, 8);)
            n++;
        cr_assert(eq(int, send(&r, n, 5000), -EAGAIN));
        for (; first < n; first++)
            expect_frame(&r, first, 8);
        expect_none(&r);
        shm_rx_rest(&r.rx);
        cr_assert(eq(int, send(&r, n, longer[i]), 0));
        expect_frame(&r, n, longer[i]);
        expect_none(&r);
        rig_close(&r);
    }
}

/* Anything, in any order, against a list of what was sent. */
Test(ring, whatever_is_sent_and_read_in_turn_is_whole_and_in_order)
{
    const size_t stows[] = { SHM_STOW_SIZE_MIN, 16384, STOW, 1 << 20 };

    for (int i = 0; i < 4; i++) {
        static size_t len[1 << 16];
        uint32_t sent = 0, got = 0;
        uint64_t state = (uint64_t)i + 1;
        struct rig r;

        rig_open(&r, stows[i]);
        for (int n = 0; n < 100000; n++) {
            uint64_t x = draw(&state);
            size_t most = x & 1 ? 60 : x & 14 ? 2500 : r.frame_max;

            if (most > r.frame_max)
                most = r.frame_max;
            if (most > STOW)
                most = STOW;
            /* Long times of a kind: bursts, and one by one. */
            if ((x >> 8) % 16 < (n / 1000 % 2 ? 12 : 8)) {
                len[sent & 0xffff] = (x >> 16) % (most + 1);
                sent += !send(&r, sent, len[sent & 0xffff]);
            } else if (got < sent) {
                expect_frame(&r, got, len[got & 0xffff]);
                got++;
            } else {
                expect_none(&r);
                shm_rx_rest(&r.rx);
            }
        }
        for (; got < sent; got++)
            expect_frame(&r, got, len[got & 0xffff]);
        rig_close(&r);
    }
}

/* Bytes of an earlier lap lie where a word will be: every value of them must
 * read as "nothing there" until the word is written. */
Test(ring, what_earlier_frames_held_is_never_taken_for_a_frame)
{
    const uint8_t withs[] = { 0xff, 0x01, 0x80, 0x7f };
    const size_t sizes[] = { 0, 1, 56, 57, 184, 500, 1016, 3000 };
    const void *at;
    uint32_t imm;
    size_t len;
    struct rig r;

    rig_open(&r, SHM_STOW_SIZE_MIN * 4);
    for (uint32_t n = 0; n < 20000; n++) {
        cr_assert(eq(int, send_filled(&r, n, sizes[n * 7 % 8], withs[n / 3 % 4]), 0));
        cr_assert(eq(int, shm_rx_peek(&r.rx, &imm, &at, &len), 1));
        cr_assert(eq(u32, imm, n));
        cr_assert(eq(sz, len, sizes[n * 7 % 8]));
        shm_rx_done(&r.rx);
        expect_none(&r);
    }
    rig_close(&r);
}

/* ---- a peer that breaks its side ---- */

static int peek(struct rig *r)
{
    const void *at;
    uint32_t imm;
    size_t len;

    return shm_rx_peek(&r->rx, &imm, &at, &len);
}

static void expect_refused(struct rig *r, uint64_t word)
{
    *shm_word(r->rx.ring, r->rx.size, 0) = word;
    cr_expect(eq(int, peek(r), -EPROTO), "word %llx", (unsigned long long)word);
    shm_rx_go(&r->rx, 0);
}

Test(ring, a_word_that_can_be_no_frame_is_refused)
{
    struct rig r;

    rig_open(&r, STOW);
    expect_refused(&r, (uint64_t)1 << 32);                      /* no length */
    expect_refused(&r, SHM_STOW_MIN + 1);                         /* too long */
    expect_refused(&r, 0x7fffffff);
    expect_refused(&r, SHM_WRAP - 1);
    expect_refused(&r, SHM_WRAP);                               /* by nothing */
    expect_refused(&r, r.rx.size << 32 | SHM_WRAP);             /* to nothing */
    expect_refused(&r, (r.rx.size + SHM_HALF) << 32 | SHM_WRAP);
    expect_refused(&r, (uint64_t)8 << 32 | SHM_WRAP);           /* into a half line */
    expect_refused(&r, (uint64_t)0x7f << SHM_PAD_SHIFT | 2);    /* a pad beyond all */
    expect_refused(&r, (uint64_t)1 << SHM_PAD_SHIFT);           /* nothing but a pad */
    expect_refused(&r, SHM_STOWED);
    expect_refused(&r, SHM_STOWED | (uint32_t)(r.frame_max + 2));
    rig_close(&r);
}

Test(ring, a_wrap_that_leads_nowhere_is_refused)
{
    struct rig r;

    rig_open(&r, STOW);
    cr_assert(eq(int, send(&r, 0, 8), 0));
    expect_frame(&r, 0, 8);
    *shm_word(r.rx.ring, r.rx.size, 0) = 0;
    *shm_word(r.rx.ring, r.rx.size, SHM_HALF) = (r.rx.size - SHM_HALF) << 32 | SHM_WRAP;
    cr_expect(eq(int, peek(&r), -EPROTO));
    rig_close(&r);
}

/* One that would go on in what lies behind the ring. */
Test(ring, a_frame_that_does_not_end_before_the_ring_is_refused)
{
    struct rig r;
    size_t last;

    rig_open(&r, STOW);
    last = r.rx.size - SHM_LINE;
    shm_rx_go(&r.rx, 7 * r.rx.size + last);
    *shm_word(r.rx.ring, r.rx.size, last) = SHM_LINE - SHM_WORD + 1;
    cr_expect(eq(int, peek(&r), 1), "up to its end");
    *shm_word(r.rx.ring, r.rx.size, last) = SHM_LINE - SHM_WORD + 2;
    cr_expect(eq(int, peek(&r), -EPROTO), "a byte more");
    rig_close(&r);
}

/* Of the stow, each place comes in its turn. */
Test(ring, a_stowed_frame_lies_neither_before_nor_far_behind_the_last)
{
    uint64_t *word;
    struct rig r;

    rig_open(&r, STOW);
    word = shm_word(r.rx.ring, r.rx.size, 0);
    r.rx.stow_pos = 5 * STOW + 640;
    word[0] = SHM_STOWED | 3;
    word[1] = r.rx.stow_pos;
    cr_expect(eq(int, peek(&r), 1));
    word[1] = r.rx.stow_pos - 1;
    cr_expect(eq(int, peek(&r), -EPROTO));
    word[1] = r.rx.stow_pos + STOW;
    cr_expect(eq(int, peek(&r), -EPROTO));
    rig_close(&r);
}

/* The reader writes how far it is; it can be no further than we are, and not less far
 * than it was. */
Test(ring, a_reader_that_lies_about_its_place_is_refused)
{
    const int64_t lies[] = { 64, 1, INT64_MAX, INT64_MIN, -128 };
    enum { LIES = sizeof lies / sizeof *lies };

    for (int i = 0; i < 2 * LIES; i++) {
        size_t len = i < LIES ? 40 : 5000;
        uint32_t n = 0;
        uint64_t *head, tail;
        struct rig r;

        rig_open(&r, STOW);
        for (; n < 5 * r.tx.in_ring.size / SHM_LINE; n++) {     /* some laps */
            cr_assert(eq(int, send(&r, n, len), 0));
            expect_frame(&r, n, len);
        }
        while (!send(&r, n, len))
            n++;
        head = i < LIES ? &r.tx.ring->head : &r.tx.ring->stow_head;
        tail = i < LIES ? r.tx.in_ring.tail : r.tx.in_stow.tail;
        *head = (lies[i % LIES] < 0 ? *head : tail) + (uint64_t)lies[i % LIES];
        cr_expect(eq(int, send(&r, n, len), -EPROTO), "lie %d", i);
        cr_expect(eq(u64, i < LIES ? r.tx.in_ring.tail : r.tx.in_stow.tail, tail),
                  "nothing was sent");
        rig_close(&r);
    }
}

/* Wherever a peer says that a frame lies: inside, or refused. */
Test(ring, a_stowed_frame_lies_in_the_stow)
{
    uint64_t *word;
    struct rig r;

    rig_open(&r, STOW);
    word = shm_word(r.rx.ring, r.rx.size, 0);
    for (uint64_t start = 0; start < 3 * STOW; start += 61)
        for (size_t len = 1; len <= r.frame_max; len += 997) {
            const void *at;
            uint32_t imm;
            size_t got;
            int err;

            word[0] = SHM_STOWED | (uint32_t)(len + 1);
            word[1] = start;
            err = shm_rx_peek(&r.rx, &imm, &at, &got);
            if (start >= STOW || start + len > STOW) {
                cr_assert(eq(int, err, -EPROTO));
                continue;
            }
            cr_assert(eq(int, err, 1));
            cr_assert(eq(sz, got, len));
            cr_assert(eq(ptr, (void *)(uintptr_t)at, r.rx.stow + start % STOW));
        }
    word[0] = SHM_STOWED | (uint32_t)(r.frame_max + 2);
    word[1] = 0;
    cr_expect(eq(int, peek(&r), -EPROTO), "inside, and larger than any");
    word[0] = SHM_STOWED | 3;
    word[1] = UINT64_MAX;
    cr_expect(eq(int, peek(&r), -EPROTO));
    rig_close(&r);
}

/* ---- two threads ---- */

enum { FRAMES = 1000000 };

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
static const uint32_t n_frames = FRAMES / 10;
#else
static const uint32_t n_frames = FRAMES;
#endif

/* Mostly small, now and then up to the largest. */
static size_t size_of(uint32_t number, size_t frame_max)
{
    uint32_t x = number * 2654435761u;

    x ^= x >> 15;
    return x % 64 ? x / 64 % 200 : x / 64 % (frame_max + 1);
}

static uint32_t checksum(const uint8_t *p, size_t len)
{
    uint32_t sum = 1, word;

    for (; len >= 4; p += 4, len -= 4) {
        memcpy(&word, p, 4);
        sum = (sum ^ word) * 16777619u;
    }
    while (len--)
        sum = (sum ^ *p++) * 16777619u;
    return sum;
}

static const uint8_t *noise(void)
{
    static uint8_t bytes[2 * STOW];

    if (!bytes[1])
        for (uint32_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (uint8_t)(i * i * 31 + i * 7 + 1);
    return bytes;
}

/* The checksum is the immediate data; where in the noise a frame begins depends
 * on its number. */
static void *write_all(void *arg)
{
    struct rig *r = arg;
    const uint8_t *bytes = noise();

    for (uint32_t n = 0; n < n_frames; n++) {
        size_t len = size_of(n, r->frame_max);
        struct pw_iov iov = { bytes + n % STOW, len };
        uint32_t sum = checksum(iov.base, len);

        while (shm_tx_send(&r->tx, sum ^ n, &iov, 1, len))
            sched_yield();
    }
    return NULL;
}

static bool next_is(struct rig *r, uint32_t n)
{
    const void *at;
    uint32_t imm;
    size_t len;
    int err;
    bool good;

    while (!(err = shm_rx_peek(&r->rx, &imm, &at, &len)))
        sched_yield();
    good = err == 1 && len == size_of(n, r->frame_max) && (checksum(at, len) ^ n) == imm;
    shm_rx_done(&r->rx);
    return good;
}

Test(ring, a_million_frames_from_thread_to_thread_are_whole_and_in_order)
{
    pthread_t writer;
    struct rig r;

    noise();
    rig_open(&r, STOW);
    cr_assert(eq(int, pthread_create(&writer, NULL, write_all, &r), 0));
    for (uint32_t n = 0; n < n_frames; n++)
        cr_assert(next_is(&r, n), "frame %u", n);
    pthread_join(writer, NULL);
    expect_none(&r);
    rig_close(&r);
}
