/* SPDX-License-Identifier: BSD-3-Clause */
/* sixteen_cases.c - sixteen senders and one receiver: each has its turn, in order,
 * and a receiver that is away costs them memory that is bounded.
 *
 * Turns are counted, not timed: what a busy machine does to the processes changes
 * nothing.
 */
#include <errno.h>
#include <time.h>

#include "party.h"

enum { SENDERS = 16 };

static size_t size_of_turn(const struct conn *conn, uint32_t seq)
{
    (void)seq;
    return conn->tag_out % 2 ? 40 : 300;
}

/* ---- turns ---- */

/* Every sender has frames waiting at any time, so that who gets none in a window of
 * frames is being starved. */
struct turns {
    struct rig receiver, rig[SENDERS];
    struct conn to[SENDERS], from[SENDERS];
    uint32_t sent[SENDERS];
    uint64_t before[SENDERS];       /* frames of each when the window began */
};

static void turns_open(struct turns *t, const struct subject *s)
{
    struct rig_options options = { .pool_bytes = (size_t)8 << 20, .queue_bytes = 65536 };

    rig_open(&t->receiver, s, &options);
    for (uint32_t i = 0; i < SENDERS; i++) {
        struct conn like = { .size = size_of_turn, .tag_out = i, .tag_in = i };

        rig_open(&t->rig[i], s, &options);
        rig_connect_like(&t->rig[i], &t->to[i], t->receiver.address,
                         t->receiver.address_len, &like);
        rig_connect_like(&t->receiver, &t->from[i], t->rig[i].address,
                         t->rig[i].address_len, &like);
        t->sent[i] = 0;
    }
}

static void turns_close(struct turns *t)
{
    for (int i = 0; i < SENDERS; i++)
        rig_close(&t->rig[i]);
    rig_close(&t->receiver);
}

static void top_up(struct turns *t, int i)
{
    int err = 0;

    while (!err && t->sent[i] - t->from[i].frames < 200)
        if (!(err = conn_post_sequence(&t->to[i], t->sent[i])))
            t->sent[i]++;
    REQUIRE(!err || err == -EAGAIN);
}

static uint64_t window_of(struct turns *t, uint64_t frames)
{
    struct deadline d = deadline_patient();
    uint64_t got;

    for (int i = 0; i < SENDERS; i++)
        t->before[i] = t->from[i].frames;
    do {
        REQUIRE(!deadline_over(&d) && !case_failed());
        for (int i = 0; i < SENDERS; i++) {
            top_up(t, i);
            t->rig[i].nic->ops->progress(t->rig[i].nic);
        }
        t->receiver.nic->ops->progress(t->receiver.nic);
        got = 0;
        for (int i = 0; i < SENDERS; i++)
            got += t->from[i].frames - t->before[i];
    } while (got < frames);
    return got;
}

static void each_has_its_turn(const struct subject *s)
{
    static struct turns t;
    uint32_t windows = rounds(s, 60);

    turns_open(&t, s);
    pump();
    window_of(&t, SENDERS * 200);       /* until all have been heard */
    for (uint32_t n = 0; n < windows; n++) {
        uint64_t got = window_of(&t, SENDERS * 200), fair = got / SENDERS;

        for (int i = 0; i < SENDERS; i++) {
            uint64_t mine = t.from[i].frames - t.before[i];

            if (mine < fair / 4)
                case_fail(__FILE__, __LINE__, "sender %d had %llu turns of %llu", i,
                          (unsigned long long)mine, (unsigned long long)got);
        }
        REQUIRE(!case_failed());
    }
    for (int i = 0; i < SENDERS; i++)
        conn_await_frames(&t.from[i], t.sent[i]);
    turns_close(&t);
}

/* ---- a receiver that is away, in processes ---- */

enum { ABSENT_MS = 1500 };

struct away {
    uint32_t n;
    uint32_t sent[SENDERS];     /* atomic */
};

struct away_arg {
    struct away *away;
    uint32_t number;
};

static size_t size_mixed(const struct conn *conn, uint32_t seq)
{
    size_t max = conn->rig->nic->info.frame_max;
    size_t size = mix(seq ^ conn->tag_out << 20) % 8 ? mix(seq) % 300 : mix(seq) % 20000;

    return size < max ? size : max;
}

static const struct rig_options away_options = { .pool_bytes = (size_t)8 << 20,
                                                 .queue_bytes = 65536 };

static void away_sender_main(struct party *self)
{
    const struct away_arg *arg = self->arg;
    uint32_t i = arg->number;
    struct conn like = { .size = size_mixed, .tag_out = i, .tag_in = i }, conn;
    struct rig rig;
    char byte;

    rig_open(&rig, self->subject, &away_options);
    rig_meet_like(&rig, &conn, self->self_fd, &like);
    for (uint32_t seq = 0; seq < arg->away->n; seq++) {
        int err;

        /* The receiver is away for longer than patience would last. */
        while ((err = conn_post_sequence(&conn, seq)) == -EAGAIN)
            rig.nic->ops->wait(rig.nic, pump() ? 0 : 200);
        REQUIRE_EQ(err, 0);
        __atomic_store_n(&arg->away->sent[i], seq + 1, __ATOMIC_RELAXED);
    }
    while (conn.posted)
        pump();
    hear(self->self_fd, &byte, 1);
    rig_close(&rig);
}

static void compute(unsigned ms)
{
    struct deadline d = deadline_in(ms);

    while (!deadline_over(&d))
        ;
}

/* What is on its way to us is in queues, and these have an end. */
static void on_their_way_is_bounded(struct away *away, struct conn *from)
{
    for (int i = 0; i < SENDERS; i++) {
        uint32_t sent = __atomic_load_n(&away->sent[i], __ATOMIC_RELAXED);
        uint64_t bytes = 0;

        for (uint32_t seq = (uint32_t)from[i].frames; seq < sent; seq++)
            bytes += size_mixed(&from[i], seq);
        CHECK(bytes <= (uint64_t)1 << 20);
    }
}

static void receiver_that_is_away(const struct subject *s)
{
    struct away *away = shared_alloc(sizeof *away);
    struct away_arg arg[SENDERS];
    struct party child[SENDERS];
    struct conn from[SENDERS];
    struct rig rig;
    char byte = 1;

    away->n = rounds(s, 3000);
    for (uint32_t i = 0; i < SENDERS; i++) {
        arg[i] = (struct away_arg){ away, i };
        party_start(&child[i], s, away_sender_main, &arg[i]);
    }
    rig_open(&rig, s, &away_options);
    for (uint32_t i = 0; i < SENDERS; i++) {
        struct conn like = { .size = size_mixed, .tag_out = i, .tag_in = i };
        rig_meet_like(&rig, &from[i], child[i].fd, &like);
    }
    for (int absences = 0; absences < 3; absences++) {
        compute(ABSENT_MS / 3);
        on_their_way_is_bounded(away, from);
        pump();
    }
    for (int i = 0; i < SENDERS; i++)
        for (struct deadline d = deadline_patient(); from[i].frames < away->n;)
            REQUIRE(pump_before(&d) && !case_failed());
    for (int i = 0; i < SENDERS; i++)
        say(child[i].fd, &byte, 1);
    for (int i = 0; i < SENDERS; i++)
        party_end(&child[i]);
    rig_close(&rig);
}

const struct nic_case sixteen_cases[] = {
    { "sixteen senders have their turns at one receiver", each_has_its_turn, 30, false },
    { "sixteen senders to one that is away", receiver_that_is_away, 40, true },
    { 0 }
};
