/* SPDX-License-Identifier: BSD-3-Clause */
/* tcp_strangers.c - who calls a tcp NIC: strangers, many at once, peers that lie. */

#include "btl/nic/tcp.h"
#include "tests/unit/tcp_rig.h"

enum { PATIENT_MS = 60000, SHORT_MS = 300 };

/* ---- strangers ---- */

/* They are closed and counted, and two that know each other go on. */
static void stranger_says(const void *bytes, size_t len)
{
    struct end *a = end_open(PATIENT_MS, 0), *b = end_open(PATIENT_MS, 0);
    int fd;

    ends_join(a, b);
    fd = plain_dial(&a->address);
    plain_say(fd, bytes, len);
    PUMP_UNTIL(a, b, plain_closed(fd));
    cr_expect(eq(u64, strangers(a), 1));
    cr_expect(eq(uint, a->callers, 0));
    ends_work(a, b);
    ends_work(b, a);
    close(fd);
    end_close(a);
    end_close(b);
}

Test(tcp_strangers, noise_is_a_strangers)
{
    static const char noise[] = "GET / HTTP/1.1\r\nHost: here\r\n\r\n";

    stranger_says(noise, sizeof(noise));
}

Test(tcp_strangers, one_wrong_byte_is_enough)
{
    stranger_says("w", 1);
}

/* What another job's process says to its peer, byte by byte right there. */
Test(tcp_strangers, a_replayed_stream_of_another_job_is_a_strangers)
{
    struct end *other = end_open(PATIENT_MS, 0);
    struct { struct tcp_hello hello; struct tcp_head head; char bytes[8]; } stream;

    stream.hello = hello_to(&other->address, TCP_FRAMES);
    stream.head = tcp_head_make(TCP_FRAME, 8, 1, 0);
    memset(stream.bytes, 1, sizeof(stream.bytes));
    end_close(other);
    stranger_says(&stream, sizeof(stream));
}

Test(tcp_strangers, half_of_a_secret_by_chance_and_another_job_is_a_strangers)
{
    struct end *a = end_open(PATIENT_MS, 0);
    struct tcp_hello h = hello_to(&a->address, TCP_FRAMES);
    int fd = plain_dial(&a->address);

    h.from.job++;
    plain_say(fd, &h, sizeof(h));
    PUMP_UNTIL(a, NULL, plain_closed(fd));
    cr_expect(eq(u64, strangers(a), 1));
    cr_expect(eq(uint, a->callers, 0));
    close(fd);
    end_close(a);
}

Test(tcp_strangers, a_call_for_puts_without_a_link_is_a_strangers)
{
    struct end *a = end_open(PATIENT_MS, 0);
    struct tcp_hello h = hello_to(&a->address, TCP_BULK);
    int fd = plain_dial(&a->address);

    plain_say(fd, &h, sizeof(h));
    PUMP_UNTIL(a, NULL, plain_closed(fd));
    cr_expect(eq(u64, strangers(a), 1));
    close(fd);
    end_close(a);
}

Test(tcp_strangers, half_a_hello_and_silence_is_closed_in_the_end)
{
    struct end *a = end_open(SHORT_MS, 0);
    struct tcp_hello h = hello_to(&a->address, TCP_FRAMES);
    int fd = plain_dial(&a->address);

    plain_say(fd, &h, sizeof(h) / 2);
    PUMP_UNTIL(a, NULL, plain_closed(fd));
    cr_expect(eq(u64, strangers(a), 1));
    close(fd);
    end_close(a);
}

/* More than are listened to at once say nothing: who speaks comes through. */
Test(tcp_strangers, a_crowd_of_silent_strangers_keeps_nobody_out)
{
    enum { CROWD = 400 };
    struct end *a = end_open(PATIENT_MS, 0), *b = end_open(PATIENT_MS, 0);
    int fd[CROWD];

    for (int i = 0; i < CROWD; i++) {
        fd[i] = plain_dial(&a->address);
        pw_nic_tcp.progress(a->nic);
    }
    ends_join(a, b);
    ends_work(a, b);
    cr_expect(ge(u64, strangers(a), 1));
    for (int i = 0; i < CROWD; i++)
        close(fd[i]);
    ends_work(b, a);
    end_close(a);
    end_close(b);
}

/* Somebody has listened, and says what was said to us; also when the link is gone. */
Test(tcp_strangers, a_hello_said_again_is_a_strangers)
{
    struct end *a = end_open(PATIENT_MS, 0);
    struct tcp_answer answer;
    struct tcp_hello h;
    int fd = plain_peer(a, &h), again = plain_dial(&a->address), next;

    plain_say(again, &h, sizeof(h));
    PUMP_UNTIL(a, NULL, plain_closed(again));
    cr_expect(eq(u64, strangers(a), 1));
    cr_expect(eq(uint, a->downs, 0), "the link is what it was");
    close(again);
    close(fd);
    PUMP_UNTIL(a, NULL, a->downs);
    pw_nic_tcp.disconnect(a->peer);
    again = plain_dial(&a->address);
    plain_say(again, &h, sizeof(h));
    PUMP_UNTIL(a, NULL, plain_closed(again));
    cr_expect(eq(u64, strangers(a), 2));
    h.session++;
    next = plain_dial(&a->address);
    plain_say(next, &h, sizeof(h));
    PUMP_UNTIL(a, NULL, recv(next, &answer, sizeof(answer), MSG_DONTWAIT) ==
                            sizeof(answer));
    cr_expect(eq(u64, strangers(a), 2));
    close(again);
    close(next);
    end_close(a);
}

/* ---- many callers ---- */

static bool all_answered(const int *fd, int n)
{
    struct tcp_answer answer;

    while (n && recv(fd[n - 1], &answer, sizeof(answer), MSG_DONTWAIT | MSG_PEEK) ==
                    sizeof(answer))
        n--;
    return !n;
}

/* More than are listened to at once, before anybody has looked: each has said who it is. */
Test(tcp_strangers, many_who_call_at_once_are_all_answered)
{
    enum { MANY = 300 };
    struct end *a = end_open(PATIENT_MS, 0);
    int fd[MANY];

    for (int i = 0; i < MANY; i++) {
        struct tcp_hello h = hello_to(&a->address, TCP_FRAMES);

        memcpy(h.from.secret, &i, sizeof(i));
        fd[i] = plain_dial(&a->address);
        plain_say(fd[i], &h, sizeof(h));
    }
    PUMP_UNTIL(a, NULL, all_answered(fd, MANY) || strangers(a));
    cr_expect(eq(u64, strangers(a), 0));
    for (int i = 0; i < MANY; i++)
        close(fd[i]);
    end_close(a);
}

/* By the time the second has been told of it is time for the first again. */
Test(tcp_strangers, progress_ends_however_long_it_takes_to_hear_of_callers)
{
    struct end *a = end_open(PATIENT_MS, 0);
    int fd[2];

    a->caller_us = 2 * TCP_CALLER_MS * 1000;
    for (int i = 0; i < 2; i++) {
        struct tcp_hello h = hello_to(&a->address, TCP_FRAMES);

        h.from.secret[0] = (uint8_t)i;
        fd[i] = plain_dial(&a->address);
        plain_say(fd[i], &h, sizeof(h));
    }
    PUMP_UNTIL(a, NULL, a->callers > 2);
    close(fd[0]);
    close(fd[1]);
    end_close(a);
}

/* ---- peers that lie ---- */

static void peer_says(const void *bytes, size_t len)
{
    struct end *a = end_open(PATIENT_MS, 0);
    struct tcp_hello h;
    int fd = plain_peer(a, &h);

    plain_say(fd, bytes, len);
    PUMP_UNTIL(a, NULL, a->downs);
    cr_expect(eq(int, a->cause, -EPROTO));
    cr_expect(strstr(a->why, "127.0.0.1") && strstr(a->why, "lo"));
    cr_expect(eq(uint, a->frames, 0));
    close(fd);
    end_close(a);
}

Test(tcp_strangers, a_frame_too_long_is_eproto)
{
    struct tcp_head head = tcp_head_make(TCP_FRAME, TCP_FRAME_MAX + 1, 1, 0);

    peer_says(&head, sizeof(head));
}

Test(tcp_strangers, an_unknown_record_is_eproto)
{
    struct tcp_head head = tcp_head_make((enum tcp_kind)77, 0, 0, 0);

    peer_says(&head, sizeof(head));
}

static void bulk_says(const void *bytes, size_t len)
{
    struct end *a = end_open(PATIENT_MS, 0);
    struct tcp_hello h;
    int fd = plain_peer(a, &h), bulk = plain_dial(&a->address);

    h.what = TCP_BULK;
    plain_say(bulk, &h, sizeof(h));
    plain_say(bulk, bytes, len);
    PUMP_UNTIL(a, NULL, a->downs);
    cr_expect(eq(int, a->cause, -EPROTO));
    close(bulk);
    close(fd);
    end_close(a);
}

Test(tcp_strangers, a_request_of_no_kind_is_eproto)
{
    struct tcp_request r = { .kind = TCP_DONE, .len = 8 };

    bulk_says(&r, sizeof(r));
}

Test(tcp_strangers, a_request_that_wishes_what_nobody_can_is_eproto)
{
    struct tcp_request r = { .kind = TCP_GET, .lend = 2, .len = 8 };

    bulk_says(&r, sizeof(r));
}

Test(tcp_strangers, a_request_beyond_the_end_of_memory_is_eproto)
{
    struct tcp_request r = { .kind = TCP_GET, .remote = UINT64_MAX - 4, .len = 100 };

    bulk_says(&r, sizeof(r));
}

/* Answers are not read, so that the jobs stay: one more than may be asked at once. */
Test(tcp_strangers, too_many_requests_at_once_are_eproto)
{
    enum { N = TCP_OPS + 8 };
    static char source[8 << 20];
    struct tcp_request r[N];

    for (int i = 0; i < N; i++)
        r[i] = (struct tcp_request){ .kind = TCP_GET, .op = (uint16_t)(i % TCP_OPS),
                                     .remote = (uintptr_t)source, .len = sizeof(source) };
    bulk_says(r, sizeof(r));
}

/* An answer to nothing that was asked. */
Test(tcp_strangers, an_answer_invented_is_eproto)
{
    struct tcp_reply r = { .kind = TCP_DONE, .op = 3 };
    struct end *a = end_open(PATIENT_MS, 0);
    struct tcp_address there = a->address;
    struct pw_nic_key key = { { 0 } };
    struct tcp_answer answer;
    struct tcp_hello h;
    uint64_t word;
    int listener = plain_listen(&there.port), fd, bulk;

    cr_assert(eq(int, end_connect(a, &there), 0));
    fd = accept(listener, NULL, NULL);
    PUMP_UNTIL(a, NULL, recv(fd, &h, sizeof(h), MSG_DONTWAIT) == sizeof(h));
    answer = (struct tcp_answer){ .magic = TCP_MAGIC, .version = TCP_VERSION,
                                  .session = h.session };
    memcpy(answer.proof, there.secret + TCP_HALF, TCP_HALF);
    plain_say(fd, &answer, sizeof(answer));
    PUMP_UNTIL(a, NULL, a->ups);
    cr_assert(eq(int, pw_nic_tcp.get(a->peer, &word, 4096, 8, &key, a), PW_NIC_PENDING));
    pw_nic_tcp.progress(a->nic);
    bulk = accept(listener, NULL, NULL);
    plain_say(bulk, &r, sizeof(r));
    PUMP_UNTIL(a, NULL, a->downs);
    cr_expect(eq(int, a->cause, -EPROTO));
    cr_expect(eq(uint, a->completes, 1));
    cr_expect(eq(int, a->status, -ECONNRESET));
    close(bulk);
    close(fd);
    close(listener);
    end_close(a);
}

/* Somebody else listens there by now. */
Test(tcp_strangers, who_answers_without_the_secret_is_not_believed)
{
    struct end *a = end_open(PATIENT_MS, 0);
    struct tcp_address there = a->address;
    struct tcp_answer answer = { .magic = TCP_MAGIC, .version = TCP_VERSION };
    struct tcp_hello h;
    int listener = plain_listen(&there.port), fd;

    memset(there.secret, 0x11, TCP_HALF);
    cr_assert(eq(int, end_connect(a, &there), 0));
    fd = accept(listener, NULL, NULL);
    PUMP_UNTIL(a, NULL, recv(fd, &h, sizeof(h), MSG_DONTWAIT) == sizeof(h));
    answer.session = h.session;
    memcpy(answer.proof, h.proof, TCP_HALF);
    plain_say(fd, &answer, sizeof(answer));
    PUMP_UNTIL(a, NULL, a->downs);
    cr_expect(eq(int, a->cause, -EPROTO));
    cr_expect(eq(uint, a->ups, 0));
    close(fd);
    close(listener);
    end_close(a);
}
