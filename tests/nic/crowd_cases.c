/* SPDX-License-Identifier: BSD-3-Clause */
/* crowd_cases.c - many peers at one NIC, upcalls that send, threads that share. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "rig.h"

static size_t size_below_200(const struct conn *conn, uint32_t seq)
{
    size_t max = conn->rig->nic->info.frame_max;
    size_t size = mix(seq) % 200;

    return size < max ? size : max;
}

/* ---- all to all ---- */

enum { CROWD = 9 };

struct crowd {
    struct rig rig[CROWD];
    struct conn conn[CROWD][CROWD];     /* [from][to] */
};

static void crowd_open(struct crowd *c, const struct subject *s)
{
    struct rig_options options = { .pool_bytes = (size_t)8 << 20 };

    for (int i = 0; i < CROWD; i++)
        rig_open(&c->rig[i], s, &options);
    for (int i = 0; i < CROWD; i++)
        for (int j = 0; j < CROWD; j++) {
            struct conn *conn = &c->conn[i][j];

            if (i == j)
                continue;
            rig_connect(&c->rig[i], conn, c->rig[j].address, c->rig[j].address_len);
            conn->size = size_below_200;
            conn->tag_out = (uint32_t)(i * CROWD + j);
            conn->tag_in = (uint32_t)(j * CROWD + i);
        }
    for (int i = 0; i < CROWD; i++)
        for (int j = 0; j < CROWD; j++)
            if (i != j)
                conn_await_up(&c->conn[i][j]);
}

static void all_to_all(const struct subject *s)
{
    static struct crowd c;
    uint32_t n = rounds(s, 400);

    crowd_open(&c, s);
    for (uint32_t seq = 0; seq < n; seq++)
        for (int i = 0; i < CROWD; i++)
            for (int j = 0; j < CROWD; j++)
                if (i != j)
                    REQUIRE_EQ(conn_send_sequence(&c.conn[i][j], seq), 0);
    for (int i = 0; i < CROWD; i++)
        for (int j = 0; j < CROWD; j++)
            if (i != j)
                conn_await_frames(&c.conn[i][j], n);
    for (int i = 0; i < CROWD; i++)
        rig_close(&c.rig[i]);
}

/* One of many leaves: the others hear of that one alone and go on. */
static void one_of_many_leaves(const struct subject *s)
{
    static struct crowd c;

    crowd_open(&c, s);
    rig_close(&c.rig[4]);
    for (int i = 0; i < CROWD; i++)
        if (i != 4)
            conn_await_down(&c.conn[i][4], 0);
    for (int i = 0; i < CROWD; i++)
        for (int j = 0; j < CROWD; j++)
            if (i != j && i != 4 && j != 4)
                REQUIRE_EQ(conn_send_sequence(&c.conn[i][j], 0), 0);
    for (int i = 0; i < CROWD; i++)
        for (int j = 0; j < CROWD; j++)
            if (i != j && i != 4 && j != 4) {
                conn_await_frames(&c.conn[i][j], 1);
                CHECK_EQ(c.conn[i][j].downs, 0);
            }
    for (int i = 0; i < CROWD; i++)
        if (i != 4)
            rig_close(&c.rig[i]);
}

/* ---- upcalls that send ---- */

struct echo {
    uint32_t sent;      /* frames returned; those refused are sent again later */
};

static void recv_and_echo(struct conn *conn, uint32_t imm, const void *data, size_t len)
{
    struct echo *echo = conn->arg;

    conn_recv_sequence(conn, imm, data, len);
    if (echo->sent == imm && conn_post_sequence(conn, imm) == 0)
        echo->sent++;
}

static void upcalls_may_send(const struct subject *s)
{
    struct rig_options options = { .queue_bytes = 16384 };
    struct deadline d = deadline_patient();
    uint32_t n = rounds(s, 20000);
    struct echo echo = { 0 };
    struct pair p;

    pair_open(&p, s, &options);
    p.ab.size = p.ba.size = size_below_200;
    p.ab.tag_out = p.ba.tag_in = 1;
    p.ab.tag_in = p.ba.tag_out = 2;
    p.ba.recv = recv_and_echo;
    p.ba.arg = &echo;
    for (uint32_t seq = 0; seq < n || p.ab.frames < n;) {
        int err = seq < n ? conn_post_sequence(&p.ab, seq) : -EAGAIN;

        REQUIRE(err == 0 || err == -EAGAIN);
        seq += err == 0;
        while (echo.sent < p.ba.frames && conn_post_sequence(&p.ba, echo.sent) == 0)
            echo.sent++;
        if (err)
            REQUIRE(pump_before(&d) && !case_failed());
    }
    CHECK_EQ(echo.sent, n);
    pair_close(&p);
}

struct joiner {
    struct rig *b;
    struct conn second;
    bool connected;
};

/* connect is among what an upcall may call. */
static void recv_and_connect(struct conn *conn, uint32_t imm, const void *data,
                             size_t len)
{
    struct joiner *joiner = conn->arg;

    (void)imm;
    REQUIRE(!joiner->connected);
    joiner->connected = true;
    rig_connect(conn->rig, &joiner->second, data, len);
    if (!rig_answers(conn->rig))
        REQUIRE_EQ(conn->rig->nic->ops->send_inline(joiner->second.peer, 0, NULL, 0), 0);
}

static void upcalls_may_connect(const struct subject *s)
{
    struct joiner joiner = { 0 };
    struct conn back;
    struct pw_iov iov;
    struct rig c;
    struct pair p;

    pair_open(&p, s, NULL);
    rig_open(&c, s, NULL);
    rig_connect(&c, &back, p.b.address, p.b.address_len);
    p.ba.recv = recv_and_connect;
    p.ba.arg = &joiner;
    iov = (struct pw_iov){ c.address, c.address_len };
    REQUIRE_EQ(send_now(&p.ab, 0, &iov, 1), 0);
    conn_await_frames(&p.ba, 1);
    if (rig_answers(&p.b))
        REQUIRE_EQ(inline_now(&joiner.second, 0, NULL, 0), 0);
    conn_await_frames(&back, 1);
    rig_close(&c);
    pair_close(&p);
}

/* ---- threads ---- */

enum { THREADS = 4 };

struct sender {
    pthread_t thread;
    struct conn *conn;
    struct window_name window;
    uint32_t number, n;
    bool put, add;
    int done;           /* atomic */
};

struct counts {
    uint32_t next[THREADS];
};

static uint64_t seed_of(uint32_t thread, uint32_t seq)
{
    return (uint64_t)(thread + 1) << 40 | seq;
}

/* A thread's own frames keep their order. */
static void recv_of_threads(struct conn *conn, uint32_t imm, const void *data, size_t len)
{
    struct counts *counts = conn->arg;
    uint32_t thread = imm >> 24, seq = imm & 0xffffff;

    REQUIRE(thread < THREADS);
    CHECK_EQ(seq, counts->next[thread]);
    counts->next[thread]++;
    CHECK_EQ(len, size_below_200(conn, seq));
    CHECK(frame_is(data, len, seed_of(thread, seq)));
}

static void reach_in(struct sender *me, uint32_t seq)
{
    struct pw_atomic add = { .op = PW_ATOMIC_ADD, .type = PW_INT64, .operand = 1 };
    uint64_t value = seed_of(me->number, seq), back = 0, before;
    uint64_t slot = me->window.addr + 64 * (1 + me->number);
    const struct pw_nic_key *key = &me->window.key;

    if (me->put) {
        REQUIRE_EQ(put_now(me->conn, &value, slot, sizeof value, key), 0);
        REQUIRE_EQ(get_now(me->conn, &back, slot, sizeof back, key), 0);
        CHECK_EQ(back, value);
    }
    if (me->add)
        REQUIRE_EQ(atomic_now(me->conn, &add, me->window.addr, &before, key), 0);
}

static void *sender_main(void *arg)
{
    struct sender *me = arg;
    uint8_t data[200];

    for (uint32_t seq = 0; seq < me->n; seq++) {
        size_t len = size_below_200(me->conn, seq);
        uint32_t imm = me->number << 24 | seq;
        struct pw_iov iov = { data, len };

        frame_fill(data, len, seed_of(me->number, seq));
        if (mix(seq) % 3 && len <= me->conn->rig->nic->info.inline_max)
            REQUIRE_EQ(inline_now(me->conn, imm, data, len), 0);
        else
            REQUIRE_EQ(send_now(me->conn, imm, &iov, 1), 0);
        if (seq % 4 == 0)
            reach_in(me, seq);
    }
    __atomic_store_n(&me->done, 1, __ATOMIC_RELEASE);
    return NULL;
}

static void senders_start(struct sender *senders, struct pair *p, struct window *w,
                          uint32_t n)
{
    struct window_name name = window_name(w);
    bool put = reach_soon(&p->ab, &name) != PW_REACH_NONE;
    bool add = put && p->a.nic->info.flags & PW_NIC_ATOMIC;

    for (uint32_t i = 0; i < THREADS; i++) {
        senders[i] = (struct sender){ .conn = &p->ab, .window = name, .number = i,
                                      .n = n, .put = put, .add = add };
        REQUIRE_EQ(pthread_create(&senders[i].thread, NULL, sender_main, &senders[i]),
                   0);
    }
}

static void threads_share_a_nic(const struct subject *s)
{
    struct rig_options options = { .threads = true, .queue_bytes = 32768 };
    struct deadline d = deadline_patient();
    struct sender senders[THREADS];
    struct counts counts = { 0 };
    uint32_t n = rounds(s, 10000);
    struct window w;
    struct pair p;

    pair_open(&p, s, &options);
    p.ba.recv = recv_of_threads;
    p.ba.arg = &counts;
    window_open(&w, &p.b, 4096, true);
    senders_start(senders, &p, &w, n);
    for (int i = 0; i < THREADS; i++) {
        while (!__atomic_load_n(&senders[i].done, __ATOMIC_ACQUIRE))
            REQUIRE(pump_before(&d) && !case_failed());
        REQUIRE_EQ(pthread_join(senders[i].thread, NULL), 0);
    }
    conn_await_frames(&p.ba, THREADS * (uint64_t)n);
    if (senders[0].add)
        CHECK_EQ(__atomic_load_n((uint64_t *)(void *)w.mem, __ATOMIC_SEQ_CST),
                 THREADS * (uint64_t)((n + 3) / 4));
    window_close(&w);
    pair_close(&p);
}

static void *pinner_main(void *arg)
{
    struct sender *me = arg;
    struct rig *rig = me->conn->rig;
    uint8_t *mem = (uint8_t *)(uintptr_t)me->window.addr;
    struct pw_nic_key keys[8];

    for (uint32_t i = 0; i < me->n; i++) {
        for (int k = 0; k < 8; k++)
            REQUIRE_EQ(rig->nic->ops->pin(rig->nic, mem + k * 512, 512,
                                          PW_READ | PW_WRITE, &keys[k]), 0);
        for (int k = 0; k < 8; k++)
            rig->nic->ops->unpin(rig->nic, mem + k * 512, 512, &keys[k]);
    }
    __atomic_store_n(&me->done, 1, __ATOMIC_RELEASE);
    return NULL;
}

/* pin and unpin by threads, while another progresses. */
static void threads_pin_and_unpin(const struct subject *s)
{
    struct rig_options options = { .threads = true };
    struct deadline d = deadline_patient();
    struct sender pinners[THREADS];
    struct window w;
    struct pair p;

    pair_open(&p, s, &options);
    window_open(&w, &p.a, THREADS * 4096, true);
    for (uint32_t i = 0; i < THREADS; i++) {
        pinners[i] = (struct sender){ .conn = &p.ab, .n = rounds(s, 500) };
        pinners[i].window.addr = (uintptr_t)w.mem + i * 4096;
        REQUIRE_EQ(pthread_create(&pinners[i].thread, NULL, pinner_main, &pinners[i]),
                   0);
    }
    for (int i = 0; i < THREADS; i++) {
        while (!__atomic_load_n(&pinners[i].done, __ATOMIC_ACQUIRE))
            REQUIRE(pump_before(&d));
        REQUIRE_EQ(pthread_join(pinners[i].thread, NULL), 0);
    }
    window_close(&w);
    pair_close(&p);
}

const struct nic_case crowd_cases[] = {
    { "nine NICs, all to all", all_to_all, 20, false },
    { "one of nine leaves, the others go on", one_of_many_leaves, 10, false },
    { "upcalls may send", upcalls_may_send, 20, false },
    { "upcalls may connect", upcalls_may_connect, 10, false },
    { "four threads share a NIC while another progresses", threads_share_a_nic, 20, false },
    { "threads pin and unpin", threads_pin_and_unpin, 20, false },
    { 0 }
};
