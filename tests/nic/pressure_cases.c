/* SPDX-License-Identifier: BSD-3-Clause */
/* pressure_cases.c - a receiver that does not look: memory stays bounded, what was
 * accepted arrives once and in order, and others are not held up. */
#include <errno.h>

#include "rig.h"

enum { FRAMES_BOUND = 2000000 };

#define BYTES_BOUND ((uint64_t)64 << 20)

static size_t size_arg(const struct conn *conn, uint32_t seq)
{
    (void)seq;
    return *(const size_t *)conn->arg;
}

/* Send until the NIC says -EAGAIN. Returns how many it took. */
static uint32_t fill(struct conn *conn)
{
    uint64_t bytes = 0;
    uint32_t seq = 0;
    int err;

    while ((err = conn_post_sequence(conn, seq)) == 0) {
        bytes += conn->size(conn, seq++);
        REQUIRE(bytes < BYTES_BOUND && seq < FRAMES_BOUND);
    }
    REQUIRE_EQ(err, -EAGAIN);
    REQUIRE(seq > 0);
    return seq;
}

static void fill_and_drain(const struct subject *s, size_t size)
{
    struct rig_options options = { .queue_bytes = 65536 };
    struct pair p;
    uint32_t seq;

    pair_open(&p, s, &options);
    if (size > p.a.nic->info.frame_max)
        size = p.a.nic->info.frame_max;
    p.ab.size = p.ba.size = size_arg;
    p.ab.arg = p.ba.arg = &size;
    for (int lap = 0; lap < 3; lap++) {
        p.ba.frames = 0;
        seq = fill(&p.ab);
        conn_await_frames(&p.ba, seq);
    }
    for (uint32_t more = seq; more < seq + 100; more++)
        REQUIRE_EQ(conn_send_sequence(&p.ab, more), 0);
    conn_await_frames(&p.ba, seq + 100);
    pair_close(&p);
}

static void full_queue_is_eagain(const struct subject *s)
{
    static const size_t sizes[] = { 0, 1, 8, 56, 57, 1000, 4096, SIZE_MAX };

    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++)
        fill_and_drain(s, sizes[i]);
}

static void default_queue_is_bounded(const struct subject *s)
{
    size_t size = 1024;
    struct pair p;

    pair_open(&p, s, NULL);
    p.ab.size = p.ba.size = size_arg;
    p.ab.arg = p.ba.arg = &size;
    conn_await_frames(&p.ba, fill(&p.ab));
    pair_close(&p);
}

static void queue_to_the_absent_is_bounded(const struct subject *s)
{
    struct rig a, b;
    struct conn ab, ba;
    size_t size = 100;
    uint32_t seq;

    rig_open(&a, s, NULL);
    rig_open(&b, s, NULL);
    rig_connect(&a, &ab, b.address, b.address_len);
    ab.size = size_arg;
    ab.arg = &size;
    seq = fill(&ab);
    rig_connect(&b, &ba, a.address, a.address_len);
    ba.size = size_arg;
    ba.arg = &size;
    conn_await_frames(&ba, seq);
    rig_close(&a);
    rig_close(&b);
}

/* c never looks; frames to b must pass all the same. */
static void one_full_queue_holds_up_no_other(const struct subject *s)
{
    struct rig c;
    struct pair p;
    struct conn ac, ca;
    size_t size = 500;
    uint32_t seq;

    rig_open(&c, s, NULL);
    pair_open(&p, s, NULL);
    rig_connect(&p.a, &ac, c.address, c.address_len);
    rig_connect(&c, &ca, p.a.address, p.a.address_len);
    ac.size = ca.size = size_arg;
    ac.arg = ca.arg = &size;
    seq = fill(&ac);
    for (uint32_t i = 0; i < 1000; i++) {
        struct deadline d = deadline_patient();
        int err;

        while ((err = conn_post_sequence(&p.ab, i)) == -EAGAIN) {
            REQUIRE(!deadline_over(&d));
            s->ops->progress(p.a.nic);
            s->ops->progress(p.b.nic);
        }
        REQUIRE_EQ(err, 0);
    }
    for (struct deadline d = deadline_patient(); p.ba.frames < 1000;) {
        REQUIRE(!deadline_over(&d));
        s->ops->progress(p.a.nic);
        s->ops->progress(p.b.nic);
    }
    CHECK_EQ(ca.frames, 0);
    conn_await_frames(&ca, seq);
    rig_close(&c);
    pair_close(&p);
}

const struct nic_case pressure_cases[] = {
    { "a full queue is -EAGAIN and loses nothing", full_queue_is_eagain, 20, false },
    { "the default queue is bounded", default_queue_is_bounded, 10, false },
    { "a queue to who has not connected is bounded",
      queue_to_the_absent_is_bounded, 10, false },
    { "one full queue holds up no other peer",
      one_full_queue_holds_up_no_other, 10, false },
    { 0 }
};
