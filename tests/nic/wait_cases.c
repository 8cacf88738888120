/* SPDX-License-Identifier: BSD-3-Clause */
/* wait_cases.c - sleeping: in time, without burning the processor, and no wake-up
 * lost. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "party.h"

/* A wake-up that was lost shows as a wait of its whole length. */
enum { LONG_WAIT_US = 5000000, SOON_MS = 4500 };

static uint64_t cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void nap(unsigned ms)
{
    struct timespec t = { ms / 1000, (long)(ms % 1000) * 1000000 };

    nanosleep(&t, NULL);
}

static uint64_t ms_since(uint64_t start)
{
    return (clock_ns() - start) / 1000000;
}

/* Let connections settle: what comes in for them may end a wait early. */
static void settle(void)
{
    struct deadline d = deadline_in(50);

    while (pump_before(&d))
        ;
}

static void wait_ends_in_time(const struct subject *s)
{
    uint64_t best = UINT64_MAX;
    struct pair p;

    pair_open(&p, s, NULL);
    settle();
    for (int i = 0; i < 5; i++) {   /* the machine itself may be late, once */
        uint64_t start = clock_ns(), took;

        s->ops->wait(p.a.nic, 50000);
        took = ms_since(start);
        best = took < best ? took : best;
        pump();
    }
    CHECK(best < 50 + 250);
    pair_close(&p);
}

static void wait_without_peers_ends_in_time(const struct subject *s)
{
    uint64_t best = UINT64_MAX;
    struct rig rig;

    rig_open(&rig, s, NULL);
    for (int i = 0; i < 5; i++) {
        uint64_t start = clock_ns(), took;

        s->ops->wait(rig.nic, 50000);
        s->ops->wait(rig.nic, 0);
        took = ms_since(start);
        best = took < best ? took : best;
    }
    CHECK(best < 50 + 900);
    rig_close(&rig);
}

/* It may return early, but an idle rank must leave the processor to others. */
static void wait_sleeps(const struct subject *s)
{
    unsigned returns = 0;
    uint64_t start, cpu;
    struct pair p;

    pair_open(&p, s, NULL);
    settle();
    start = clock_ns();
    cpu = cpu_ns();
    while (ms_since(start) < 300) {
        s->ops->wait(p.a.nic, 100000);
        s->ops->progress(p.a.nic);
        returns++;
    }
    CHECK(returns < 3000);
    CHECK((cpu_ns() - cpu) / 1000000 < 150);
    pair_close(&p);
}

static void wait_sees_what_is_there(const struct subject *s)
{
    struct pair p;

    pair_open(&p, s, NULL);
    settle();
    for (uint32_t i = 0; i < 100; i++) {
        uint64_t start = clock_ns();

        if (i % 10 == 0)
            s->ops->wait(p.b.nic, 1000);
        REQUIRE_EQ(conn_send_sequence(&p.ab, i), 0);
        s->ops->wait(p.b.nic, LONG_WAIT_US);
        REQUIRE(ms_since(start) < SOON_MS);
        conn_await_frames(&p.ba, i + 1);
    }
    pair_close(&p);
}

/* A frame from who has not been connected to is none; it must not keep the
 * processor awake for good, nor be lost. */
static void wait_for_a_peer_not_connected(const struct subject *s)
{
    struct rig a, b;
    struct conn ab, ba;

    rig_open(&a, s, NULL);
    rig_open(&b, s, NULL);
    rig_connect(&a, &ab, b.address, b.address_len);
    REQUIRE_EQ(conn_send_sequence(&ab, 0), 0);
    for (int i = 0; i < 20; i++) {
        s->ops->wait(b.nic, 1000);
        pump();
    }
    rig_connect(&b, &ba, a.address, a.address_len);
    for (struct deadline d = deadline_patient(); !ba.frames;) {
        REQUIRE(!deadline_over(&d));
        s->ops->wait(b.nic, 100000);
        s->ops->progress(b.nic);
    }
    rig_close(&a);
    rig_close(&b);
}

/* ---- between processes ---- */

/* Wait and progress as a rank in MPI_Recv does, until so many frames came. */
static void sleep_until(struct conn *conn, uint64_t frames)
{
    struct rig *rig = conn->rig;

    while (conn->frames < frames) {
        uint64_t start = clock_ns();

        REQUIRE(!conn->downs);
        if (pump() > 0)
            continue;
        rig->nic->ops->wait(rig->nic, LONG_WAIT_US);
        REQUIRE(ms_since(start) < SOON_MS && !case_failed());
    }
}

static void late_sender_main(struct party *self)
{
    struct conn conn;
    struct rig rig;
    char byte;

    rig_open(&rig, self->subject, NULL);
    rig_meet(&rig, &conn, self->self_fd);
    settle();                       /* who has not heard of the sleeper cannot wake it */
    for (uint32_t i = 0; i < 5; i++) {
        hear(self->self_fd, &byte, 1);
        nap(30 + 20 * i);
        REQUIRE_EQ(conn_send_sequence(&conn, i), 0);
    }
    hear(self->self_fd, &byte, 1);
    rig_close(&rig);
}

static void frame_from_a_process_ends_the_wait(const struct subject *s)
{
    struct party child;
    struct conn conn;
    struct rig rig;
    char byte = 1;

    party_start(&child, s, late_sender_main, NULL);
    rig_open(&rig, s, NULL);
    rig_meet(&rig, &conn, child.fd);
    settle();
    for (uint32_t i = 0; i < 5; i++) {
        say(child.fd, &byte, 1);
        sleep_until(&conn, i + 1);
    }
    say(child.fd, &byte, 1);
    party_end(&child);
    rig_close(&rig);
}

struct ping {
    uint32_t n;
};

/* Wait at once, or spin a little first, so that sleeping and sending meet at many
 * moments. */
static void spin_some(struct conn *conn, uint32_t i)
{
    for (uint32_t k = mix(i) % 40; k; k--)
        conn->rig->nic->ops->progress(conn->rig->nic);
}

static void pong_main(struct party *self)
{
    const struct ping *ping = self->arg;
    struct conn conn;
    struct rig rig;
    char byte = 1;

    rig_open(&rig, self->subject, NULL);
    rig_meet(&rig, &conn, self->self_fd);
    for (uint32_t i = 0; i < ping->n; i++) {
        spin_some(&conn, i + 77);
        sleep_until(&conn, i + 1);
        REQUIRE_EQ(conn_send_sequence(&conn, i), 0);
    }
    hear(self->self_fd, &byte, 1);
    rig_close(&rig);
}

static void ping_pong_loses_no_wakeup(const struct subject *s)
{
    struct ping *ping = shared_alloc(sizeof *ping);
    struct party child;
    struct conn conn;
    struct rig rig;
    char byte = 1;

    ping->n = rounds(s, 20000);
    party_start(&child, s, pong_main, ping);
    rig_open(&rig, s, NULL);
    rig_meet(&rig, &conn, child.fd);
    for (uint32_t i = 0; i < ping->n; i++) {
        REQUIRE_EQ(conn_send_sequence(&conn, i), 0);
        spin_some(&conn, i);
        sleep_until(&conn, i + 1);
    }
    say(child.fd, &byte, 1);
    party_end(&child);
    rig_close(&rig);
}

/* The receiver sleeps between bursts; two senders wake it. */
enum { SENDERS = 2 };

static void burst_main(struct party *self)
{
    const struct ping *ping = self->arg;
    struct conn conn;
    struct rig rig;
    char byte = 1;

    rig_open(&rig, self->subject, NULL);
    rig_meet(&rig, &conn, self->self_fd);
    for (uint32_t i = 0; i < ping->n; i++) {
        if (mix(i) % 50 == 0)
            nap(1);
        REQUIRE_EQ(conn_send_sequence(&conn, i), 0);
        spin_some(&conn, i);
    }
    hear(self->self_fd, &byte, 1);
    rig_close(&rig);
}

static void two_senders_wake_one_receiver(const struct subject *s)
{
    struct ping *ping = shared_alloc(sizeof *ping);
    struct party child[SENDERS];
    struct conn conn[SENDERS];
    struct rig rig;
    char byte = 1;

    ping->n = rounds(s, 5000);
    for (int i = 0; i < SENDERS; i++)
        party_start(&child[i], s, burst_main, ping);
    rig_open(&rig, s, NULL);
    for (int i = 0; i < SENDERS; i++)
        rig_meet(&rig, &conn[i], child[i].fd);
    for (int i = 0; i < SENDERS; i++)
        sleep_until(&conn[i], ping->n);
    for (int i = 0; i < SENDERS; i++)
        say(child[i].fd, &byte, 1);
    for (int i = 0; i < SENDERS; i++)
        party_end(&child[i]);
    rig_close(&rig);
}

const struct nic_case wait_cases[] = {
    { "wait ends in time", wait_ends_in_time, 10, false },
    { "wait ends in time where there are no peers",
      wait_without_peers_ends_in_time, 10, false },
    { "wait sleeps", wait_sleeps, 10, false },
    { "wait sees a frame that is there", wait_sees_what_is_there, 10, false },
    { "wait with a peer not connected yet", wait_for_a_peer_not_connected, 10, false },
    { "a frame from a process ends the wait",
      frame_from_a_process_ends_the_wait, 10, true },
    { "ping-pong asleep loses no wake-up", ping_pong_loses_no_wakeup, 20, true },
    { "two senders wake one receiver", two_senders_wake_one_receiver, 20, true },
    { 0 }
};
