/* SPDX-License-Identifier: BSD-3-Clause */
/* caller_cases.c - peers that connect to us before we thought of them.
 *
 * One side alone connects and sends; the other is told, and connects when it likes.
 */
#include <errno.h>
#include <string.h>

#include "party.h"

enum { LONG_WAIT_US = 5000000, SOON_MS = 4500 };

static size_t size_small(const struct conn *conn, uint32_t seq)
{
    (void)conn;
    return mix(seq) % 100;
}

static const struct conn small_frames = { .size = size_small };

/* rig->arg is where the connection goes. */
static void answer(struct rig *rig)
{
    struct conn *conn = rig->arg;

    if (!conn->peer)
        rig_connect_like(rig, conn, rig->caller, rig->caller_len, &small_frames);
}

static void answering(struct rig *rig, struct conn *conn)
{
    memset(conn, 0, sizeof *conn);
    rig->arg = conn;
    rig->on_caller = answer;
}

/* Frames 0 .. n - 1, out of reach of whoever sends them. */
static void send_all(struct conn *conn, uint32_t n)
{
    struct deadline d = deadline_patient();

    for (uint32_t seq = 0; seq < n; seq++)
        REQUIRE_EQ(conn_post_sequence(conn, seq), 0);
    while (conn->posted) {
        REQUIRE(!deadline_over(&d));
        conn->rig->nic->ops->progress(conn->rig->nic);
    }
}

static void caller_is_connected(const struct subject *s)
{
    struct pair p;

    rig_open(&p.a, s, NULL);
    rig_open(&p.b, s, NULL);
    answering(&p.b, &p.ba);
    rig_connect_like(&p.a, &p.ab, p.b.address, p.b.address_len, &small_frames);
    send_all(&p.ab, 20);
    conn_await_frames(&p.ba, 20);
    CHECK_EQ(p.b.caller_len, p.a.address_len);
    CHECK(!memcmp(p.b.caller, p.a.address, p.a.address_len));
    CHECK_EQ(p.b.callers, 1);
    CHECK_EQ(p.a.callers, 0);
    send_all(&p.ba, 20);
    conn_await_frames(&p.ab, 20);
    pair_close(&p);
}

static void caller_is_told_of_again(const struct subject *s)
{
    struct deadline d = deadline_patient();
    struct pair p;

    rig_open(&p.a, s, NULL);
    rig_open(&p.b, s, NULL);
    rig_connect_like(&p.a, &p.ab, p.b.address, p.b.address_len, &small_frames);
    send_all(&p.ab, 20);
    while (p.b.callers < 3 && pump_before(&d))
        ;
    REQUIRE(p.b.callers >= 3);
    rig_connect_like(&p.b, &p.ba, p.a.address, p.a.address_len, &small_frames);
    p.b.callers = 0;
    conn_await_frames(&p.ba, 20);
    for (int i = 0; i < 1000; i++)
        pump();
    CHECK_EQ(p.b.callers, 0);
    pair_close(&p);
}

static void connected_ones_are_no_callers(const struct subject *s)
{
    struct pair p;

    pair_open(&p, s, NULL);
    p.ab.size = p.ba.size = size_small;
    send_all(&p.ab, 20);
    send_all(&p.ba, 20);
    conn_await_frames(&p.ba, 20);
    conn_await_frames(&p.ab, 20);
    CHECK_EQ(p.a.callers + p.b.callers, 0);
    pair_close(&p);
}

static void both_call_at_once(const struct subject *s)
{
    for (int i = 0; i < 20; i++) {
        struct pair p;

        rig_open(&p.a, s, NULL);
        rig_open(&p.b, s, NULL);
        answering(&p.b, &p.ba);
        rig_connect_like(&p.a, &p.ab, p.b.address, p.b.address_len, &small_frames);
        for (int k = 0; k < i; k++)
            s->ops->progress(p.b.nic);
        if (!p.ba.peer)
            rig_connect_like(&p.b, &p.ba, p.a.address, p.a.address_len, &small_frames);
        send_all(&p.ab, 5);
        send_all(&p.ba, 5);
        conn_await_frames(&p.ba, 5);
        conn_await_frames(&p.ab, 5);
        pair_close(&p);
    }
}

/* Its frames were sent, and are not to be lost because nobody had looked. */
static void caller_leaves(const struct subject *s)
{
    for (int by_close = 0; by_close < 2; by_close++)
        for (int looked = 0; looked < 2; looked++) {
            struct pair p;

            rig_open(&p.a, s, NULL);
            rig_open(&p.b, s, NULL);
            rig_connect_like(&p.a, &p.ab, p.b.address, p.b.address_len, &small_frames);
            send_all(&p.ab, 20);
            while (looked && !p.b.callers)
                s->ops->progress(p.b.nic);
            answering(&p.b, &p.ba);
            if (by_close)
                rig_close(&p.a);
            else
                conn_disconnect(&p.ab);
            conn_await_down(&p.ba, 0);
            CHECK_EQ(p.ba.frames, 20);
            CHECK_EQ(s->ops->send(p.ba.peer, 0, &(struct pw_iov){ "x", 1 }, 1, NULL),
                     -EPIPE);
            conn_disconnect(&p.ba);
            rig_close(&p.b);
            if (!by_close)
                rig_close(&p.a);
        }
}

static void calling_main(struct party *self)
{
    uint8_t address[PW_NIC_ADDRESS_MAX];
    struct conn conn;
    struct rig rig;
    uint64_t len;
    char byte = 1;

    rig_open(&rig, self->subject, NULL);
    __atomic_store_n(&self->rig, &rig, __ATOMIC_RELEASE);
    hear(self->self_fd, &len, sizeof len);
    REQUIRE(len <= sizeof address);
    hear(self->self_fd, address, len);
    rig_connect_like(&rig, &conn, address, len, &small_frames);
    send_all(&conn, 20);
    say(self->self_fd, &byte, 1);
    while (!party_killed(self))
        pump();
    rig_close(&rig);
}

static void caller_is_killed(const struct subject *s)
{
    struct party child;
    struct conn conn;
    struct rig rig;
    uint64_t len;
    char byte;

    party_start(&child, s, calling_main, NULL);
    rig_open(&rig, s, NULL);
    len = rig.address_len;
    say(child.fd, &len, sizeof len);
    say(child.fd, rig.address, len);
    hear(child.fd, &byte, 1);
    party_kill(&child);
    answering(&rig, &conn);
    conn_await_down(&conn, -ECONNRESET);
    CHECK_EQ(conn.frames, 20);
    rig_close(&rig);
}

/* Nobody who could ring is connected: all the same it is not slept through. */
static void *sleeper_main(void *arg)
{
    struct rig *rig = arg;
    uint64_t start = clock_ns();

    rig->nic->callers = 1;
    while (!rig->callers && clock_ns() - start < 60000000000u) {
        rig->nic->ops->wait(rig->nic, LONG_WAIT_US);
        rig->nic->ops->progress(rig->nic);
    }
    CHECK((clock_ns() - start) / 1000000 < SOON_MS || suite_patience_ms > 30000);
    return NULL;
}

static void caller_ends_a_wait(const struct subject *s)
{
    pthread_t sleeper;
    struct pair p;

    rig_open(&p.a, s, NULL);
    rig_open(&p.b, s, NULL);
    p.b.elsewhere = true;
    REQUIRE_EQ(pthread_create(&sleeper, NULL, sleeper_main, &p.b), 0);
    rig_connect_like(&p.a, &p.ab, p.b.address, p.b.address_len, &small_frames);
    send_all(&p.ab, 1);
    pthread_join(sleeper, NULL);
    p.b.elsewhere = false;
    CHECK(p.b.callers >= 1);
    pair_close(&p);
}

const struct nic_case caller_cases[] = {
    { "a caller can be connected to from its upcall", caller_is_connected, 10, false },
    { "a caller is told of until it is connected to", caller_is_told_of_again, 10, false },
    { "who is connected is no caller", connected_ones_are_no_callers, 10, false },
    { "both call at once", both_call_at_once, 10, false },
    { "a caller that has left is heard to the end", caller_leaves, 10, false },
    { "a caller that was killed is heard to the end", caller_is_killed, 20, true },
    { "a caller ends a wait soon", caller_ends_a_wait, 20, false },
    { 0 }
};
