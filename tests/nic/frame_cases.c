/* SPDX-License-Identifier: BSD-3-Clause */
/* frame_cases.c - contents, sizes and order of frames. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "party.h"

/* Sizes 0 to 4 KiB, around every power of two, and the largest. */
struct sizes {
    size_t list[256];
    unsigned n;
};

static void sizes_add(struct sizes *sizes, size_t size, size_t max)
{
    if (size <= max && sizes->n < 256)
        sizes->list[sizes->n++] = size;
}

static void sizes_make(struct sizes *sizes, size_t max)
{
    sizes->n = 0;
    for (size_t size = 0; size <= 4096; size += 61)
        sizes_add(sizes, size, max);
    for (size_t power = 1; power && power <= max; power *= 2)
        for (size_t size = power - 1; size <= power + 1; size++)
            sizes_add(sizes, size, max);
    sizes_add(sizes, max - 1, max);
    sizes_add(sizes, max, max);
}

static size_t size_listed(const struct conn *conn, uint32_t seq)
{
    const struct sizes *sizes = conn->arg;

    return sizes->list[seq % sizes->n];
}

/* Cut [0, len) into n pieces, some of them empty. */
static void cut(struct pw_iov *iov, int n, const uint8_t *data, size_t len, uint32_t seed)
{
    for (int i = 0; i < n; i++) {
        size_t piece = i == n - 1 ? len : mix(seed * 4 + (uint32_t)i) % (len + 1);

        iov[i] = (struct pw_iov){ piece ? data : NULL, piece };
        data += piece;
        len -= piece;
    }
}

static void every_size_in_pieces(const struct subject *s)
{
    struct sizes sizes;
    struct pair p;
    uint8_t *data;
    uint32_t seq = 0;

    pair_open(&p, s, NULL);
    sizes_make(&sizes, p.a.nic->info.frame_max);
    p.ba.size = size_listed;
    p.ba.arg = &sizes;
    data = malloc(p.a.nic->info.frame_max + 1);
    REQUIRE(data != NULL);
    for (int n = 1; n <= 3; n++)
        for (unsigned i = 0; i < sizes.n; i++, seq++) {
            struct pw_iov iov[3];

            frame_fill(data + seq % 2, sizes.list[i], sequence_seed(0, seq));
            cut(iov, n, data + seq % 2, sizes.list[i], seq);
            REQUIRE_EQ(send_now(&p.ab, seq, iov, n), 0);
            memset(data, 0, sizes.list[i]);     /* ours again */
        }
    conn_await_frames(&p.ba, seq);
    free(data);
    pair_close(&p);
}

static void no_pieces_is_an_empty_frame(const struct subject *s)
{
    struct pair p;

    pair_open(&p, s, NULL);
    REQUIRE_EQ(send_now(&p.ab, 0, NULL, 0), 0);
    REQUIRE_EQ(inline_now(&p.ab, 1, NULL, 0), 0);
    conn_await_frames(&p.ba, 2);
    pair_close(&p);
}

static void too_large_is_refused(const struct subject *s)
{
    const struct pw_nic_ops *ops = s->ops;
    size_t frame_max, inline_max;
    struct pw_iov iov[3];
    struct pair p;
    uint8_t *data;

    pair_open(&p, s, NULL);
    frame_max = p.a.nic->info.frame_max;
    inline_max = p.a.nic->info.inline_max;
    data = calloc(1, frame_max + 1);
    REQUIRE(data != NULL);
    iov[0] = (struct pw_iov){ data, frame_max + 1 };
    CHECK_EQ(ops->send(p.ab.peer, 0, iov, 1, NULL), -EMSGSIZE);
    iov[0] = (struct pw_iov){ data, frame_max / 2 };
    iov[1] = (struct pw_iov){ data, frame_max / 2 };
    iov[2] = (struct pw_iov){ data, 2 };
    CHECK_EQ(ops->send(p.ab.peer, 0, iov, 3, NULL), -EMSGSIZE);
    CHECK_EQ(ops->send_inline(p.ab.peer, 0, data, inline_max + 1), -EMSGSIZE);
    free(data);
    REQUIRE_EQ(conn_send_sequence(&p.ab, 0), 0);    /* nothing was sent before */
    conn_await_frames(&p.ba, 1);
    pair_close(&p);
}

static size_t size_counted(const struct conn *conn, uint32_t seq)
{
    return seq % (conn->rig->nic->info.inline_max + 1);
}

static void every_inline_size(const struct subject *s)
{
    uint32_t n;
    struct pair p;
    uint8_t *data;

    pair_open(&p, s, NULL);
    n = (uint32_t)p.a.nic->info.inline_max + 1;
    p.ba.size = size_counted;
    data = malloc(n);
    REQUIRE(data != NULL);
    for (uint32_t seq = 0; seq < n; seq++) {
        frame_fill(data, seq, sequence_seed(0, seq));
        REQUIRE_EQ(inline_now(&p.ab, seq, data, seq), 0);
        memset(data, 0, seq);
    }
    conn_await_frames(&p.ba, n);
    free(data);
    pair_close(&p);
}

static void recv_imm(struct conn *conn, uint32_t imm, const void *data, size_t len)
{
    (void)data;
    CHECK_EQ(len, 0);
    CHECK_EQ(imm, ((const uint32_t *)conn->arg)[conn->frames % 8]);
}

static void all_bits_of_imm(const struct subject *s)
{
    static const uint32_t imms[8] = {
        0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0xa5a5a5a5, 0x00ff0000, 0xfffffffe,
    };
    struct pair p;

    pair_open(&p, s, NULL);
    p.ba.recv = recv_imm;
    p.ba.arg = (void *)(uintptr_t)imms;
    for (unsigned i = 0; i < 16; i++)
        REQUIRE_EQ(i < 8 ? inline_now(&p.ab, imms[i % 8], NULL, 0)
                         : send_now(&p.ab, imms[i % 8], NULL, 0), 0);
    conn_await_frames(&p.ba, 16);
    pair_close(&p);
}

/* ---- order ---- */

/* Mostly small, sometimes up to 4 KiB. */
static size_t size_small(const struct conn *conn, uint32_t seq)
{
    size_t max = conn->rig->nic->info.frame_max;
    uint32_t r = mix(seq + 17);
    size_t size = r % 64 == 0 ? r / 64 % 4096 : r / 64 % 100;

    return size < max ? size : max;
}

static size_t size_any(const struct conn *conn, uint32_t seq)
{
    return mix(seq + 99) % (conn->rig->nic->info.frame_max + 1);
}

static void order_kept(const struct subject *s, uint32_t n,
                       size_t (*size)(const struct conn *, uint32_t),
                       size_t queue_bytes)
{
    struct rig_options options = { .queue_bytes = queue_bytes };
    struct pair p;

    pair_open(&p, s, &options);
    p.ab.size = p.ba.size = size;
    for (uint32_t seq = 0; seq < n; seq++) {
        struct deadline d = deadline_patient();
        int err;

        while ((err = conn_post_sequence(&p.ab, seq)) == -EAGAIN)
            REQUIRE(pump_before(&d));
        REQUIRE_EQ(err, 0);
        if (seq % 1000 == 0)
            REQUIRE(!case_failed());
    }
    conn_await_frames(&p.ba, n);
    pair_close(&p);
}

static void order_of_mixed_sends(const struct subject *s)
{
    order_kept(s, rounds(s, 100000), size_small, 0);
}

static void order_with_any_size(const struct subject *s)
{
    order_kept(s, rounds(s, 6000), size_any, 0);
}

static void order_through_a_small_queue(const struct subject *s)
{
    order_kept(s, rounds(s, 20000), size_small, 16384);
}

/* ---- frames whose memory stays ---- */

enum { KEPT = 200, KEPT_BYTES = 160 << 10 };

static size_t size_kept(const struct conn *conn, uint32_t seq)
{
    size_t most = conn->rig->nic->info.frame_max;

    most = most < KEPT_BYTES ? most : KEPT_BYTES;
    return seq % 3 ? mix(seq + 5) % 200 : most - mix(seq) % (most / 2);
}

static int kept_post(struct conn *conn, uint32_t seq, const void *data, struct op *op)
{
    const struct pw_nic_ops *ops = conn->rig->nic->ops;
    struct pw_iov iov = { data, conn->size(conn, seq) };

    return ops->send_kept ? ops->send_kept(conn->peer, seq, &iov, 1, 0, seq, op)
                          : ops->send(conn->peer, seq, &iov, 1, op);
}

/* All of them in a row; who gains nothing by memory that stays just sends. */
static void kept_in_order(const struct subject *s, size_t queue_bytes)
{
    struct rig_options options = { .queue_bytes = queue_bytes };
    struct op *ops = calloc(KEPT, sizeof(*ops));
    uint8_t *data = malloc((size_t)KEPT * KEPT_BYTES);
    struct pair p;

    REQUIRE(ops && data);
    pair_open(&p, s, &options);
    p.ab.size = p.ba.size = size_kept;
    for (uint32_t seq = 0; seq < KEPT; seq++) {
        uint8_t *at = data + (size_t)seq * KEPT_BYTES;
        struct deadline d = deadline_patient();
        int err;

        frame_fill(at, size_kept(&p.ab, seq), sequence_seed(p.ab.tag_out, seq));
        ops[seq].conn = &p.ab;
        while ((err = kept_post(&p.ab, seq, at, &ops[seq])) == -EAGAIN)
            REQUIRE(pump_before(&d));
        REQUIRE(err == 0 || err == PW_NIC_PENDING);
    }
    conn_await_frames(&p.ba, KEPT);
    pair_close(&p);
    free(data);
    free(ops);
}

static void order_of_kept_frames(const struct subject *s)
{
    kept_in_order(s, 0);
}

static void kept_frames_through_a_small_queue(const struct subject *s)
{
    kept_in_order(s, 16384);
}

struct both_ways {
    uint32_t n;
};

/* Send n frames while as many come in. */
static void stream_both_ways(struct conn *conn, uint32_t n)
{
    struct deadline d = deadline_patient();

    for (uint32_t seq = 0; seq < n || conn->frames < n;) {
        int err = seq < n ? conn_post_sequence(conn, seq) : -EAGAIN;

        REQUIRE(err == 0 || err == -EAGAIN);
        seq += err == 0;
        if (err || seq % 16 == 0)
            pump();
        if (seq % 1000 == 0)
            REQUIRE(!deadline_over(&d) && !case_failed());
    }
    while (conn->posted)
        REQUIRE(pump_before(&d));
}

static void both_ways_main(struct party *self)
{
    const struct both_ways *arg = self->arg;
    struct conn conn;
    struct rig rig;
    char done = 1;

    rig_open(&rig, self->subject, NULL);
    rig_meet_like(&rig, &conn, self->self_fd, &(struct conn){ .size = size_small });
    stream_both_ways(&conn, arg->n);
    say(self->self_fd, &done, 1);
    hear(self->self_fd, &done, 1);
    rig_close(&rig);
}

static void order_both_ways_between_processes(const struct subject *s)
{
    struct both_ways *arg = shared_alloc(sizeof *arg);
    struct party child;
    struct conn conn;
    struct rig rig;
    char done = 1;

    arg->n = rounds(s, 100000);
    party_start(&child, s, both_ways_main, arg);
    rig_open(&rig, s, NULL);
    rig_meet_like(&rig, &conn, child.fd, &(struct conn){ .size = size_small });
    stream_both_ways(&conn, arg->n);
    say(child.fd, &done, 1);
    hear(child.fd, &done, 1);
    party_end(&child);
    rig_close(&rig);
}

/* ---- one side first ---- */

static void frames_before_the_peer_connects(const struct subject *s)
{
    struct rig a, b;
    struct conn ab, ba;

    rig_open(&a, s, NULL);
    rig_open(&b, s, NULL);
    rig_connect(&a, &ab, b.address, b.address_len);
    ab.size = size_small;
    for (uint32_t seq = 0; seq < 20; seq++)
        REQUIRE_EQ(conn_post_sequence(&ab, seq), 0);
    for (int i = 0; i < 200; i++)
        pump();
    CHECK_EQ(ab.downs, 0);
    rig_connect(&b, &ba, a.address, a.address_len);
    ba.size = size_small;
    for (uint32_t seq = 20; seq < 40; seq++)
        REQUIRE_EQ(conn_send_sequence(&ab, seq), 0);
    conn_await_frames(&ba, 40);
    REQUIRE_EQ(conn_send_sequence(&ba, 0), 0);
    conn_await_frames(&ab, 1);
    rig_close(&a);
    rig_close(&b);
}

const struct nic_case frame_cases[] = {
    { "frames of every size, in one to three pieces", every_size_in_pieces, 20, false },
    { "no pieces make an empty frame", no_pieces_is_an_empty_frame, 10, false },
    { "a frame too large is -EMSGSIZE", too_large_is_refused, 10, false },
    { "inline frames of every size", every_inline_size, 10, false },
    { "imm keeps all its bits", all_bits_of_imm, 10, false },
    { "send and send_inline mixed keep their order", order_of_mixed_sends, 20, false },
    { "order holds for frames of any size", order_with_any_size, 20, false },
    { "order holds through a small queue", order_through_a_small_queue, 20, false },
    { "order holds for frames whose memory stays", order_of_kept_frames, 20, false },
    { "the same through a small queue", kept_frames_through_a_small_queue, 20, false },
    { "order holds both ways between processes",
      order_both_ways_between_processes, 20, true },
    { "frames sent before the peer connects arrive",
      frames_before_the_peer_connects, 10, false },
    { 0 }
};
