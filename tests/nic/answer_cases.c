/* SPDX-License-Identifier: BSD-3-Clause */
/* answer_cases.c - NICs whose peers answer, and which borrow the memory they reach into:
 * what comes before what, who is told of a refusal, and links that are made anew. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "party.h"

static void need_answers(const struct rig *rig)
{
    if (!rig_answers(rig))
        case_skip("frames to a peer of %s may be sent at once", rig->subject->name);
}

static void need_regions(const struct rig *rig)
{
    if (!(rig->nic->info.flags & PW_NIC_REGIONS))
        case_skip("%s borrows nothing", rig->subject->name);
}

static void not_before_up(const struct subject *s)
{
    struct window_name none = { .addr = 4096, .len = 8 };
    struct rig a, b;
    struct conn ab;
    uint64_t word;

    rig_open(&a, s, NULL);
    need_answers(&a);
    rig_open(&b, s, NULL);
    rig_connect(&a, &ab, b.address, b.address_len);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(s->ops->send(ab.peer, 0, &(struct pw_iov){ "x", 1 }, 1, NULL), -EAGAIN);
        CHECK_EQ(s->ops->send_inline(ab.peer, 0, "x", 1), -EAGAIN);
        if (a.nic->info.flags & PW_NIC_PUT) {
            CHECK_EQ(s->ops->put(ab.peer, &word, none.addr, 8, &none.key, NULL), -EAGAIN);
            CHECK_EQ(s->ops->get(ab.peer, &word, none.addr, 8, &none.key, NULL), -EAGAIN);
        }
        s->ops->progress(a.nic);    /* of b, which has to answer, none was made */
        if (ab.ups)
            break;                  /* it answers by itself */
    }
    conn_await_up(&ab);
    CHECK_EQ(ab.ups, 1);
    CHECK_EQ(ab.downs, 0);
    REQUIRE_EQ(conn_send_sequence(&ab, 0), 0);
    rig_close(&a);
    rig_close(&b);
}

static void answered_without_being_wanted(const struct subject *s)
{
    struct rig a, b;
    struct conn ab;

    rig_open(&a, s, NULL);
    need_answers(&a);
    rig_open(&b, s, NULL);
    rig_connect(&a, &ab, b.address, b.address_len);
    conn_await_up(&ab);
    CHECK_EQ(ab.ups, 1);
    CHECK_EQ(ab.downs, 0);
    rig_close(&b);
    conn_await_down(&ab, 0);
    rig_close(&a);
}

/* Nobody, then down, then somebody again: by the same address. */
static void anew_after_down(const struct subject *s)
{
    struct pair p;

    pair_open(&p, s, NULL);
    need_answers(&p.a);
    for (uint32_t lap = 0; lap < 10; lap++) {
        struct conn *leaves = lap % 2 ? &p.ab : &p.ba, *stays = lap % 2 ? &p.ba : &p.ab;

        conn_disconnect(leaves);
        conn_await_down(stays, 0);
        rig_connect(leaves->rig, leaves, stays->rig->address, stays->rig->address_len);
        if (lap % 3)
            conn_await_up(leaves);      /* before the other end has even noted its own end */
        conn_disconnect(stays);
        rig_connect(stays->rig, stays, leaves->rig->address, leaves->rig->address_len);
        for (uint32_t seq = 0; seq < 10; seq++) {
            REQUIRE_EQ(conn_send_sequence(&p.ab, seq), 0);
            REQUIRE_EQ(conn_send_sequence(&p.ba, seq), 0);
        }
        conn_await_frames(&p.ba, 10);
        conn_await_frames(&p.ab, 10);
    }
    pair_close(&p);
}

/* ---- regions ---- */

static bool refused(int err)
{
    return err == -EACCES || err == -EFAULT;
}

static void refusal_is_told(const struct subject *s)
{
    static uint8_t local[4096], before[4096];
    struct pw_nic_key read_only, unknown;
    struct pair p;
    uint8_t *mem;

    pair_open(&p, s, NULL);
    need_regions(&p.b);
    mem = aligned_alloc(4096, 4096);
    REQUIRE(mem != NULL);
    frame_fill(mem, 4096, 1);
    memset(local, 7, sizeof local);
    memcpy(before, local, sizeof local);
    REQUIRE_EQ(rig_pin(&p.b, mem, 4096, PW_READ, &read_only), 0);
    memset(&unknown, 0, sizeof unknown);
    unknown.bytes[2] = 9;

    CHECK(refused(put_now(&p.ab, local, (uintptr_t)mem, 4096, &read_only)));
    CHECK(refused(put_now(&p.ab, local, (uintptr_t)mem, 8, &unknown)));
    CHECK(refused(get_now(&p.ab, local, (uintptr_t)mem + 1, 4096, &read_only)));
    CHECK(refused(get_now(&p.ab, local, (uintptr_t)mem - 1, 8, &read_only)));
    CHECK(refused(get_now(&p.ab, local, (uintptr_t)mem, 8, &unknown)));
    CHECK(frame_is(mem, 4096, 1));
    CHECK(!memcmp(local, before, sizeof local));

    REQUIRE_EQ(get_now(&p.ab, local, (uintptr_t)mem, 4096, &read_only), 0);
    CHECK(frame_is(local, 4096, 1));
    rig_unpin(&p.b, mem, 4096, &read_only);
    CHECK(refused(get_now(&p.ab, local, (uintptr_t)mem, 8, &read_only)));
    REQUIRE_EQ(conn_send_sequence(&p.ab, 0), 0);
    conn_await_frames(&p.ba, 1);
    free(mem);
    pair_close(&p);
}

/* ---- an owner that computes ---- */

enum { LONG = 3 << 20 };

static void absent_main(struct party *self)
{
    struct window_name name;
    struct window w;
    struct conn conn;
    struct rig rig;
    char byte;

    rig_open(&rig, self->subject, NULL);
    window_open(&w, &rig, LONG, false);
    frame_fill(w.mem, LONG, 5);
    name = window_name(&w);
    rig_meet(&rig, &conn, self->self_fd);
    conn_await_up(&conn);
    say(self->self_fd, &name, sizeof name);
    while (read(self->self_fd, &byte, 1) != 1)
        ;       /* no progress */
    /* ThreadSanitizer knows of no order but by locks of this process, which not each call of
     * progress takes. */
    for (struct deadline d = deadline_in(20); pump_before(&d);)
        ;
    CHECK(frame_is(w.mem, LONG, 6));
    window_close(&w);
    rig_close(&rig);
}

static void owner_that_computes_is_served_from(const struct subject *s)
{
    uint8_t *local = malloc(LONG);
    struct window_name name;
    struct party child;
    struct conn conn;
    struct rig rig;
    char byte = 1;

    REQUIRE(local != NULL);
    party_start(&child, s, absent_main, NULL);
    rig_open(&rig, s, NULL);
    need_regions(&rig);
    rig_meet(&rig, &conn, child.fd);
    hear(child.fd, &name, sizeof name);
    conn_await_up(&conn);
    REQUIRE_EQ(get_now(&conn, local, name.addr, LONG, &name.key), 0);
    CHECK(frame_is(local, LONG, 5));
    frame_fill(local, LONG, 6);
    REQUIRE_EQ(put_now(&conn, local, name.addr, LONG, &name.key), 0);
    say(child.fd, &byte, 1);
    party_end(&child);
    rig_close(&rig);
    free(local);
}

/* ---- the fence ---- */

static void fencing_main(struct party *self)
{
    uint8_t *after = malloc(LONG);
    struct window_name name;
    struct window w;
    struct conn conn;
    struct rig rig;
    char byte;

    REQUIRE(after != NULL);
    rig_open(&rig, self->subject, NULL);
    window_open(&w, &rig, LONG, false);
    frame_fill(w.mem, LONG, 5);
    name = window_name(&w);
    rig_meet(&rig, &conn, self->self_fd);
    conn_await_up(&conn);
    say(self->self_fd, &name, sizeof name);
    hear(self->self_fd, &byte, 1);
    usleep(3000);       /* in the midst of them: its NIC serves them by itself */
    self->subject->ops->fence(conn.peer);
    memcpy(after, w.mem, LONG);
    usleep(100000);
    CHECK(!memcmp(after, w.mem, LONG));
    say(self->self_fd, &byte, 1);
    pump();
    window_close(&w);
    rig_close(&rig);
    free(after);
}

static void nothing_written_behind_a_fence(const struct subject *s)
{
    uint8_t *local = malloc(LONG);
    struct window_name name;
    struct party child;
    struct conn conn;
    struct rig rig;
    char byte = 1;
    int err = 0;

    REQUIRE(local != NULL);
    party_start(&child, s, fencing_main, NULL);
    rig_open(&rig, s, NULL);
    need_regions(&rig);
    if (!s->ops->fence)
        case_skip("%s has no fence", s->name);
    rig_meet(&rig, &conn, child.fd);
    hear(child.fd, &name, sizeof name);
    conn_await_up(&conn);
    say(child.fd, &byte, 1);
    for (uint32_t lap = 6; !err; lap++) {
        frame_fill(local, LONG, lap);
        err = put_now(&conn, local, name.addr, LONG, &name.key);
    }
    CHECK(err == -ECONNRESET || err == -EPIPE);
    hear(child.fd, &byte, 1);
    party_end(&child);
    rig_close(&rig);
    free(local);
}

const struct nic_case answer_cases[] = {
    { "nothing is accepted before the peer has answered", not_before_up, 10, false },
    { "a peer answers whom it has not connected to",
      answered_without_being_wanted, 10, false },
    { "a link is made anew after it was down", anew_after_down, 20, false },
    { "a refused region is told, and untouched", refusal_is_told, 10, false },
    { "an owner that computes is read and written",
      owner_that_computes_is_served_from, 20, true },
    { "nothing is written behind a fence", nothing_written_behind_a_fence, 20, true },
    { 0 }
};
