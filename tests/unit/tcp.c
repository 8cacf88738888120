/* SPDX-License-Identifier: BSD-3-Clause */
/* tcp.c - strangers at the door of a tcp NIC, peers that fall silent or lie, memory that is not
 * there, small sockets. What all NICs promise is in tests/nic. */
#define _GNU_SOURCE
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "btl/nic/tcp.h"
#include "tests/unit/tcp_rig.h"

enum { PATIENT_MS = 60000, SHORT_MS = 300, QUIET_MS = 3000, LONG = 1 << 20 };

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

Test(tcp, noise_is_a_strangers)
{
    static const char noise[] = "GET / HTTP/1.1\r\nHost: here\r\n\r\n";

    stranger_says(noise, sizeof(noise));
}

Test(tcp, one_wrong_byte_is_enough)
{
    stranger_says("w", 1);
}

/* What another job's process says to its peer, byte by byte right there. */
Test(tcp, a_replayed_stream_of_another_job_is_a_strangers)
{
    struct end *other = end_open(PATIENT_MS, 0);
    struct { struct tcp_hello hello; struct tcp_head head; char bytes[8]; } stream;

    stream.hello = hello_to(&other->address, TCP_FRAMES);
    stream.head = tcp_head_make(TCP_FRAME, 8, 1, 0);
    memset(stream.bytes, 1, sizeof(stream.bytes));
    end_close(other);
    stranger_says(&stream, sizeof(stream));
}

Test(tcp, half_of_a_secret_by_chance_and_another_job_is_a_strangers)
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

Test(tcp, a_call_for_puts_without_a_link_is_a_strangers)
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

Test(tcp, half_a_hello_and_silence_is_closed_in_the_end)
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
Test(tcp, a_crowd_of_silent_strangers_keeps_nobody_out)
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
Test(tcp, a_hello_said_again_is_a_strangers)
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
Test(tcp, many_who_call_at_once_are_all_answered)
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
Test(tcp, progress_ends_however_long_it_takes_to_hear_of_callers)
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

Test(tcp, a_frame_too_long_is_eproto)
{
    struct tcp_head head = tcp_head_make(TCP_FRAME, TCP_FRAME_MAX + 1, 1, 0);

    peer_says(&head, sizeof(head));
}

Test(tcp, an_unknown_record_is_eproto)
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

Test(tcp, a_request_of_no_kind_is_eproto)
{
    struct tcp_request r = { .kind = TCP_DONE, .len = 8 };

    bulk_says(&r, sizeof(r));
}

Test(tcp, a_request_beyond_the_end_of_memory_is_eproto)
{
    struct tcp_request r = { .kind = TCP_GET, .remote = UINT64_MAX - 4, .len = 100 };

    bulk_says(&r, sizeof(r));
}

/* Answers are not read, so that the jobs stay: one more than may be asked at once. */
Test(tcp, too_many_requests_at_once_are_eproto)
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
Test(tcp, an_answer_invented_is_eproto)
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
Test(tcp, who_answers_without_the_secret_is_not_believed)
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
    struct end *a = end_open(SHORT_MS, 4096), *b = end_open(SHORT_MS, 4096);
    static uint8_t bytes[10000];
    struct pw_iov iov = { bytes, sizeof(bytes) };
    unsigned n = 0;
    uint64_t until;

    ends_join(a, b);
    until = pw_now_ns() + 10 * SHORT_MS * (uint64_t)1000000;
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

/* Its puts were done again since, by who asked for them. */
Test(tcp, nothing_is_put_by_a_link_behind_which_its_peer_called_anew)
{
    enum { HALF = 4096 };
    static char place[2 * HALF], bytes[HALF];
    struct tcp_request put = { .kind = TCP_PUT, .remote = (uintptr_t)place,
                               .len = sizeof(place) };
    struct end *a = end_open(PATIENT_MS, 0);
    struct tcp_answer answer;
    struct tcp_hello h;
    int old = plain_peer(a, &h), bulk = plain_dial(&a->address), fd;

    memset(bytes, 1, sizeof(bytes));
    h.what = TCP_BULK;
    plain_say(bulk, &h, sizeof(h));
    plain_say(bulk, &put, sizeof(put));
    plain_say(bulk, bytes, sizeof(bytes));
    PUMP_UNTIL(a, NULL, byte_at(a, place + HALF - 1));
    fd = plain_dial(&a->address);
    h.what = TCP_FRAMES;
    h.session++;
    plain_say(fd, &h, sizeof(h));
    wait_for_answer(fd, &answer);
    plain_say(bulk, bytes, sizeof(bytes));
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
    enum { HALF = 4096 };
    static char place[2 * HALF], bytes[HALF];
    struct tcp_request put = { .kind = TCP_PUT, .remote = (uintptr_t)place,
                               .len = sizeof(place) };
    struct end *a = end_open(PATIENT_MS, 0);
    struct tcp_answer answer;
    struct tcp_hello h;
    int old = plain_peer(a, &h), fd = plain_dial(&a->address), bulk;

    memset(bytes, 1, sizeof(bytes));
    h.session++;
    plain_say(fd, &h, sizeof(h));
    wait_for_answer(fd, &answer);
    bulk = plain_dial(&a->address);
    h.what = TCP_BULK;
    plain_say(bulk, &h, sizeof(h));
    plain_say(bulk, &put, sizeof(put));
    plain_say(bulk, bytes, sizeof(bytes));
    for (uint64_t until = pw_now_ns() + 30000000000u;
         !byte_at(a, place + HALF - 1) && pw_now_ns() < until;)
        poll(NULL, 0, 1);
    cr_assert(eq(int, byte_at(a, place + HALF - 1), 1), "who computes is served");
    pw_nic_tcp.fence(a->peer);
    plain_say(bulk, bytes, sizeof(bytes));
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

/* ---- memory ---- */

static int reach_now(struct end *a, struct end *b, bool put, void *local, void *remote, size_t len)
{
    struct pw_nic_key key = { { 0 } };
    unsigned before = a->completes;
    int err;

    while ((err = put ? pw_nic_tcp.put(a->peer, local, (uintptr_t)remote, len, &key, a)
                      : pw_nic_tcp.get(a->peer, local, (uintptr_t)remote, len, &key, a)) ==
           -EAGAIN)
        pw_nic_tcp.progress(a->nic);
    cr_assert(eq(int, err, PW_NIC_PENDING));
    PUMP_UNTIL(a, b, a->completes > before);
    return a->status;
}

/* Its owner has unmapped what it still shares: in the middle, and all of it. */
Test(tcp, memory_that_is_not_there_is_efault_and_no_more)
{
    struct end *a = end_open(PATIENT_MS, 0), *b = end_open(PATIENT_MS, 0);
    char *local = calloc(1, LONG), *mem;

    mem = mmap(NULL, LONG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert(ne(ptr, mem, MAP_FAILED));
    memset(mem, 1, LONG);
    munmap(mem + LONG / 2, LONG / 2);
    ends_join(a, b);
    for (int put = 0; put < 2; put++) {
        cr_expect(eq(int, reach_now(a, b, put, local, mem, LONG), -EFAULT));
        cr_expect(eq(int, reach_now(a, b, put, local, mem + LONG / 2, 100), -EFAULT));
        cr_expect(eq(int, reach_now(a, b, put, local, mem, LONG / 2), 0));
    }
    ends_work(a, b);
    cr_expect(eq(uint, a->downs + b->downs, 0));
    munmap(mem, LONG / 2);
    free(local);
    end_close(a);
    end_close(b);
}

Test(tcp, a_region_that_is_refused_is_told_and_untouched)
{
    struct end *a = end_open(PATIENT_MS, 0), *b = end_open(PATIENT_MS, 0);
    char *local = calloc(1, LONG), *mem = calloc(1, LONG);

    ends_join(a, b);
    memset(local, 2, LONG);
    b->borrow = -EACCES;
    cr_expect(eq(int, reach_now(a, b, true, local, mem, LONG), -EACCES));
    cr_expect(eq(int, reach_now(a, b, true, local, mem, 0), -EACCES));
    cr_expect(eq(int, reach_now(a, b, false, local, mem, LONG), -EACCES));
    cr_expect(eq(int, mem[0] | mem[LONG - 1], 0));
    cr_expect(eq(int, local[0] & local[LONG - 1], 2));
    b->borrow = 0;
    cr_expect(eq(int, reach_now(a, b, true, local, mem, LONG), 0));
    cr_expect(eq(int, memcmp(local, mem, LONG), 0));
    free(local);
    free(mem);
    end_close(a);
    end_close(b);
}

/* Who waits and serves meanwhile is not idle: the core would give its processor away. */
Test(tcp, to_serve_is_progress)
{
    struct end *a = end_open(PATIENT_MS, 0), *b = end_open(PATIENT_MS, 0);
    struct pw_nic_key key = { { 0 } };
    char local[8] = "abcdefg", mem[8];
    unsigned puts = 100, upcalls;
    int served = 0;

    ends_join(a, b);
    cr_expect(eq(int, reach_now(a, b, true, local, mem, sizeof(mem)), 0));
    PUMP_UNTIL(a, b, !pw_nic_tcp.progress(b->nic));
    upcalls = b->ups + b->downs + b->completes;
    for (unsigned before = a->completes; a->completes < before + puts;) {
        unsigned done = a->completes;

        cr_assert(eq(int, pw_nic_tcp.put(a->peer, local, (uintptr_t)mem, sizeof(mem), &key, a),
                     PW_NIC_PENDING));
        while (a->completes == done) {
            pw_nic_tcp.progress(a->nic);
            served += pw_nic_tcp.progress(b->nic);
        }
    }
    cr_expect(eq(uint, b->ups + b->downs + b->completes, upcalls));
    cr_expect(lt(int, (int)puts / 2, served));
    end_close(a);
    end_close(b);
}

/* Nothing but the beginning of a get's data goes through memory of ours. */
Test(tcp, long_transfers_are_not_copied)
{
    struct end *a = end_open(PATIENT_MS, 0), *b = end_open(PATIENT_MS, 0);
    char *local = calloc(1, LONG), *mem = calloc(1, LONG);

    ends_join(a, b);
    cr_expect(eq(int, reach_now(a, b, true, local, mem, LONG), 0));
    cr_expect(eq(int, reach_now(a, b, false, local, mem, LONG), 0));
    cr_expect(eq(u64, a->nic->counts.wire_bytes, LONG));
    cr_expect(eq(u64, b->nic->counts.wire_bytes, LONG));
    cr_expect(le(u64, a->nic->counts.wire_copied, 1024));
    cr_expect(eq(u64, b->nic->counts.wire_copied, 0));
    free(local);
    free(mem);
    end_close(a);
    end_close(b);
}

enum { SEVERAL = 8 };

/* Gets of the SEVERAL parts of mem, all of them asked for at once. */
static void get_all(struct end *a, char *local, char *mem)
{
    struct pw_nic_key key = { { 0 } };

    for (int i = 0; i < SEVERAL; i++)
        cr_assert(eq(int, pw_nic_tcp.get(a->peer, local + i * (LONG / SEVERAL),
                                         (uintptr_t)mem + (size_t)i * (LONG / SEVERAL),
                                         LONG / SEVERAL, &key, a), PW_NIC_PENDING));
}

/* Where several wait their data is lent to the socket (tcp_lend.c), whatever its size. */
Test(tcp, several_gets_at_once_bring_the_right_bytes)
{
    for (int queue = 0; queue <= 4096; queue += 4096) {
        struct end *a = end_open(PATIENT_MS, queue), *b = end_open(PATIENT_MS, queue);
        char *local = calloc(1, LONG), *mem = malloc(LONG);

        for (int i = 0; i < LONG; i++)
            mem[i] = (char)(i * 7 + i / 251);
        ends_join(a, b);
        get_all(a, local, mem);
        PUMP_UNTIL(a, b, a->completes == SEVERAL);
        cr_expect(eq(int, a->status, 0));
        cr_expect(eq(int, memcmp(local, mem, LONG), 0));
        cr_expect(eq(u64, b->nic->counts.wire_copied, 0));
        free(local);
        free(mem);
        end_close(a);
        end_close(b);
    }
}

/* Some of it has been taken, and not sent: that is not sent any more. */
Test(tcp, a_region_that_goes_while_it_is_lent_is_told)
{
    struct end *a = end_open(PATIENT_MS, 4096), *b = end_open(PATIENT_MS, 4096);
    char *local = calloc(1, LONG), *mem = malloc(LONG);

    memset(mem, 1, LONG);
    ends_join(a, b);
    get_all(a, local, mem);
    PUMP_UNTIL(a, b, local[100]);
    b->borrow = -EACCES;
    memset(mem, 2, LONG);
    PUMP_UNTIL(a, b, a->completes == SEVERAL);
    cr_expect(eq(int, a->status, -EACCES));
    cr_expect(eq(int, local[LONG / SEVERAL - 1], 0));
    b->borrow = 0;
    get_all(a, local, mem);
    PUMP_UNTIL(a, b, a->completes == 2 * SEVERAL);
    cr_expect(eq(int, a->status, 0));
    cr_expect(eq(int, memcmp(local, mem, LONG), 0));
    free(local);
    free(mem);
    end_close(a);
    end_close(b);
}

/* ---- small sockets ---- */

/* Frames and transfers many times as long as what a socket takes. */
Test(tcp, what_does_not_fit_goes_out_piece_by_piece)
{
    struct end *a = end_open(PATIENT_MS, 4096), *b = end_open(PATIENT_MS, 4096);
    uint8_t *local = malloc(LONG), *mem = calloc(1, LONG);

    for (int i = 0; i < LONG; i++)
        local[i] = (uint8_t)(i * 7 + i / 251);
    ends_join(a, b);
    for (unsigned i = 0; i < 40; i++) {
        size_t len = i % 4 ? i * 3000 : TCP_FRAME_MAX;

        cr_expect(eq(int, end_send(a, b, local + i, len), 0));
        PUMP_UNTIL(a, b, b->frames == i + 1);
        cr_expect(eq(sz, b->bytes, len));
        cr_expect(eq(int, memcmp(b->data, local + i, len), 0));
    }
    cr_expect(eq(int, reach_now(a, b, true, local, mem, LONG), 0));
    cr_expect(eq(int, memcmp(local, mem, LONG), 0));
    memset(local, 0, LONG);
    cr_expect(eq(int, reach_now(a, b, false, local, mem, LONG), 0));
    cr_expect(eq(int, memcmp(local, mem, LONG), 0));
    free(local);
    free(mem);
    end_close(a);
    end_close(b);
}

/* The rest of a frame is copied when the caller leaves: its memory is its own again. */
Test(tcp, a_frame_that_was_pending_arrives_behind_a_disconnect)
{
    struct end *a = end_open(PATIENT_MS, 4096), *b = end_open(PATIENT_MS, 4096);
    uint8_t *local = malloc(TCP_FRAME_MAX);
    struct pw_iov iov = { local, TCP_FRAME_MAX };

    memset(local, 9, TCP_FRAME_MAX);
    ends_join(a, b);
    cr_assert(eq(int, pw_nic_tcp.send(a->peer, 1, &iov, 1, a), PW_NIC_PENDING));
    pw_nic_tcp.disconnect(a->peer);
    memset(local, 0, TCP_FRAME_MAX);
    PUMP_UNTIL(a, b, b->downs);
    cr_expect(eq(int, b->cause, 0));
    cr_expect(eq(uint, b->frames, 1));
    cr_expect(eq(int, b->data[0] & b->data[TCP_FRAME_MAX - 1], 9));
    cr_expect(eq(uint, a->completes, 0));
    free(local);
    end_close(a);
    end_close(b);
}
