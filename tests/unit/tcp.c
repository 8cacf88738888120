/* SPDX-License-Identifier: BSD-3-Clause */
/* tcp.c - links of a tcp NIC: of peers that fall silent, call anew, or call as they are
 * called, and of a process that has forked. What all NICs promise is in tests/nic. */
#define _GNU_SOURCE
#include <sys/epoll.h>
#include <sys/wait.h>

#include "btl/nic/tcp.h"
#include "tests/unit/tcp_rig.h"

enum { PATIENT_MS = 60000, SHORT_MS = 1500, QUIET_MS = 3000 };

/* ---- silence ---- */

Test(tcp, a_peer_that_falls_silent_is_down)
{
    struct end *a = end_open(SHORT_MS, 0);
    struct tcp_hello h;
    int fd = plain_peer(a, &h);

    PUMP_UNTIL(a, NULL, a->downs);
    cr_expect(eq(int, a->cause, -ETIMEDOUT));
    cr_expect(strstr(a->why, "nothing was heard") != NULL);
    close(fd);
    end_close(a);
}

Test(tcp, a_peer_that_accepts_and_never_answers_is_down)
{
    struct end *a = end_open(SHORT_MS, 0);
    struct tcp_address there = a->address;
    int listener = plain_listen(&there.port);

    cr_assert(eq(int, end_connect(a, &there), 0));
    PUMP_UNTIL(a, NULL, a->downs);
    cr_expect(eq(int, a->cause, -ETIMEDOUT));
    cr_expect(eq(uint, a->ups, 0));
    close(listener);
    end_close(a);
}

/* Neither has anything to say for much longer than would be silence. */
Test(tcp, who_has_nothing_to_say_is_not_silent)
{
    struct end *a = end_open(QUIET_MS, 0), *b = end_open(QUIET_MS, 0);
    uint64_t until;

    ends_join(a, b);
    until = pw_now_ns() + QUIET_MS * (uint64_t)1500000;
    while (pw_now_ns() < until) {
        pw_nic_tcp.progress(a->nic);
        pw_nic_tcp.progress(b->nic);
    }
    cr_expect(eq(uint, a->downs + b->downs, 0));
    ends_work(a, b);
    end_close(a);
    end_close(b);
}

/* It computes, its thread speaks for it. */
Test(tcp, who_makes_no_progress_is_not_silent)
{
    struct end *a = end_open(QUIET_MS, 0), *b = end_open(QUIET_MS, 0);
    uint64_t until;

    ends_join(a, b);
    until = pw_now_ns() + QUIET_MS * (uint64_t)1500000;
    while (pw_now_ns() < until)
        pw_nic_tcp.progress(a->nic);
    cr_expect(eq(uint, a->downs, 0));
    ends_work(a, b);
    end_close(a);
    end_close(b);
}

/* It reads nothing for longer than would be silence, and its socket is full. */
Test(tcp, who_reads_nothing_is_not_silent)
{
    struct end *a = end_open(QUIET_MS, 4096), *b = end_open(QUIET_MS, 4096);
    static uint8_t bytes[10000];
    struct pw_iov iov = { bytes, sizeof(bytes) };
    unsigned n = 0;
    uint64_t until;

    ends_join(a, b);
    until = pw_now_ns() + QUIET_MS * (uint64_t)1500000;
    while (pw_now_ns() < until && !a->downs) {
        n += pw_nic_tcp.send(a->peer, 1, &iov, 1, NULL) == 0;
        pw_nic_tcp.progress(a->nic);
    }
    cr_expect(eq(uint, a->downs, 0), "%s", a->why);
    PUMP_UNTIL(a, b, b->frames >= n || a->downs);
    cr_expect(eq(uint, b->frames, n));
    end_close(a);
    end_close(b);
}

/* ---- a link that is dead at one end only ---- */

/* The peer has lost it without a word, and calls anew. */
Test(tcp, who_calls_anew_is_heard_behind_the_end_of_the_old_link)
{
    struct end *a = end_open(PATIENT_MS, 0);
    struct tcp_answer answer;
    struct tcp_hello h;
    int old = plain_peer(a, &h), fd = plain_dial(&a->address);

    h.session++;
    plain_say(fd, &h, sizeof(h));
    PUMP_UNTIL(a, NULL, a->downs);
    cr_expect(eq(int, a->cause, -ECONNRESET));
    pw_nic_tcp.disconnect(a->peer);
    a->ups = 0;
    cr_assert(eq(int, end_connect(a, &h.from), 0));
    PUMP_UNTIL(a, NULL, a->ups);
    PUMP_UNTIL(a, NULL, recv(fd, &answer, sizeof(answer), MSG_DONTWAIT) == sizeof(answer));
    cr_expect(tcp_answer_sane(&answer, h.session, &a->address));
    close(old);
    close(fd);
    end_close(a);
}

/* Without our progress. */
static void wait_for_answer(int fd, struct tcp_answer *answer)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };

    cr_assert(eq(int, poll(&p, 1, 30000), 1), "nobody answers");
    cr_assert(eq(sz, (size_t)recv(fd, answer, sizeof(*answer), 0), sizeof(*answer)));
}

/* Who calls would else give us up for dead while we compute. */
Test(tcp, who_calls_anew_is_answered_though_we_compute)
{
    struct end *a = end_open(PATIENT_MS, 0);
    struct { struct tcp_head head; char bytes[8]; } frame = { .bytes = "later" };
    struct tcp_answer answer;
    struct tcp_hello h;
    int old = plain_peer(a, &h), fd;

    frame.head = tcp_head_make(TCP_FRAME, sizeof(frame.bytes), 1, 0);
    plain_say(old, &frame, sizeof(frame));
    fd = plain_dial(&a->address);
    h.session++;
    plain_say(fd, &h, sizeof(h));
    wait_for_answer(fd, &answer);
    cr_expect(tcp_answer_sane(&answer, h.session, &a->address));
    plain_say(fd, &frame, sizeof(frame));
    cr_expect(eq(uint, a->downs, 0), "progress is to tell of it");
    PUMP_UNTIL(a, NULL, a->downs);
    cr_expect(eq(uint, a->frames, 1), "what had come before is not lost");
    cr_expect(eq(int, a->cause, -ECONNRESET));
    pw_nic_tcp.disconnect(a->peer);
    cr_assert(eq(int, end_connect(a, &h.from), 0));
    PUMP_UNTIL(a, NULL, a->frames == 2);
    cr_expect(eq(uint, a->ups, 2));
    close(old);
    close(fd);
    end_close(a);
}

/* The NIC's thread may write it. */
static int byte_at(struct end *e, const char *place)
{
    struct tcp_nic *nic = (struct tcp_nic *)e->nic;
    int byte;

    pthread_mutex_lock(&nic->lock);
    byte = *place;
    pthread_mutex_unlock(&nic->lock);
    return byte;
}

enum { HALF = 4096 };
static char place[2 * HALF], half[HALF];

/* A put to all of that place, by a connection of the link with such a hello; the other half
 * comes later. */
static void put_half(int bulk, struct tcp_hello h)
{
    struct tcp_request put = { .kind = TCP_PUT, .remote = (uintptr_t)place,
                               .len = sizeof(place) };

    memset(half, 1, sizeof(half));
    h.what = TCP_BULK;
    plain_say(bulk, &h, sizeof(h));
    plain_say(bulk, &put, sizeof(put));
    plain_say(bulk, half, sizeof(half));
}

/* Its puts were done again since, by who asked for them. */
Test(tcp, nothing_is_put_by_a_link_behind_which_its_peer_called_anew)
{
    struct end *a = end_open(PATIENT_MS, 0);
    struct tcp_answer answer;
    struct tcp_hello h;
    int old = plain_peer(a, &h), bulk = plain_dial(&a->address), fd;

    put_half(bulk, h);
    PUMP_UNTIL(a, NULL, byte_at(a, place + HALF - 1));
    fd = plain_dial(&a->address);
    h.session++;
    plain_say(fd, &h, sizeof(h));
    wait_for_answer(fd, &answer);
    plain_say(bulk, half, sizeof(half));
    PUMP_UNTIL(a, NULL, plain_closed(bulk));
    cr_expect(eq(int, byte_at(a, place + HALF), 0));
    close(old);
    close(bulk);
    close(fd);
    end_close(a);
}

/* Progress does not know of that link yet; the peer has lost it as well. */
Test(tcp, nothing_is_put_by_a_link_that_came_behind_the_one_that_is_fenced)
{
    struct end *a = end_open(PATIENT_MS, 0);
    struct tcp_answer answer;
    struct tcp_hello h;
    int old = plain_peer(a, &h), fd = plain_dial(&a->address), bulk;

    h.session++;
    plain_say(fd, &h, sizeof(h));
    wait_for_answer(fd, &answer);
    bulk = plain_dial(&a->address);
    put_half(bulk, h);
    for (uint64_t until = pw_now_ns() + 30000000000u;
         !byte_at(a, place + HALF - 1) && pw_now_ns() < until;)
        poll(NULL, 0, 1);
    cr_assert(eq(int, byte_at(a, place + HALF - 1), 1), "who computes is served");
    pw_nic_tcp.fence(a->peer);
    plain_say(bulk, half, sizeof(half));
    PUMP_UNTIL(a, NULL, plain_closed(bulk));
    cr_expect(eq(int, byte_at(a, place + HALF), 0));
    close(old);
    close(bulk);
    close(fd);
    end_close(a);
}

/* ---- both call ---- */

Test(tcp, both_call_and_one_connection_results)
{
    for (unsigned i = 0; i < 60; i++) {
        struct end *a = end_open(PATIENT_MS, 0), *b = end_open(PATIENT_MS, 0);

        cr_assert(eq(int, end_connect(a, &b->address), 0));
        for (unsigned k = 0; k < i % 8; k++)
            pw_nic_tcp.progress(a->nic);
        cr_assert(eq(int, end_connect(b, &a->address), 0));
        for (unsigned k = 0; k < i / 8; k++)
            pw_nic_tcp.progress(b->nic);
        PUMP_UNTIL(a, b, a->ups && b->ups);
        ends_work(a, b);
        ends_work(b, a);
        cr_expect(eq(uint, a->downs + b->downs, 0));
        cr_expect(eq(uint, a->ups + b->ups, 2));
        cr_expect(eq(u64, strangers(a) + strangers(b), 0));
        end_close(a);
        end_close(b);
    }
}

/* ---- fork ---- */

static bool in_sight(int epoll)
{
    struct epoll_event event;

    return epoll_wait(epoll, &event, 1, 0) != 0;
}

/* A child has all sockets until it runs another program: closed here, they are still open,
 * and an epoll would go on telling of them. */
Test(tcp, what_a_child_still_has_is_out_of_sight_here)
{
    struct tcp_request get = { .kind = TCP_GET, .len = 8 };
    struct end *a = end_open(PATIENT_MS, 0);
    struct tcp_nic *nic = (struct tcp_nic *)a->nic;
    struct tcp_reply reply;
    struct tcp_hello h;
    int fd = plain_peer(a, &h), bulk = plain_dial(&a->address), ends[2];
    pid_t child;

    h.what = TCP_BULK;
    get.remote = (uintptr_t)a->why;
    plain_say(bulk, &h, sizeof(h));
    plain_say(bulk, &get, sizeof(get));
    PUMP_UNTIL(a, NULL, recv(bulk, &reply, sizeof(reply), MSG_DONTWAIT) == sizeof(reply));
    cr_assert(eq(int, pipe(ends), 0));
    child = fork();
    if (!child) {
        close(fd);
        close(bulk);
        close(ends[1]);
        (void)!read(ends[0], &reply, 1);
        _exit(0);
    }
    close(bulk);
    close(fd);
    PUMP_UNTIL(a, NULL, a->downs);
    pw_nic_tcp.disconnect(a->peer);
    cr_expect(not(in_sight(nic->bulk_epoll)));
    cr_expect(not(in_sight(nic->frames_epoll)));
    close(ends[1]);
    cr_expect(eq(int, waitpid(child, NULL, 0), child));
    close(ends[0]);
    end_close(a);
}
