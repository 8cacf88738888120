/* SPDX-License-Identifier: BSD-3-Clause */
/* tcp_fuzz.c - the other end of a tcp link says what it likes.
 *
 * It knows the secret, so that all it says is looked at: heads, requests and replies that are
 * right, nearly right, or noise, cut anywhere. Whatever comes, the NIC stays within its memory
 * (which sanitizers see), delivers no frame longer than frames are, ends each link and each
 * get once, and takes the next caller.
 */
#define _GNU_SOURCE
#include "tests/unit/draw.h"
#include "tests/unit/tcp_rig.h"

enum { LIVES = 150, SAYINGS = 60, PATIENT_MS = 60000, ARENA = 1 << 16 };

struct mouth {
    uint64_t state;
    int fd;
};

static uint64_t pick(struct mouth *m, uint64_t n)
{
    return draw(&m->state) % n;
}

/* All of it, or a part; sometimes with a bit that is wrong. */
static void say(struct mouth *m, const void *bytes, size_t len, unsigned wrong_in)
{
    static uint8_t copy[2 * TCP_FRAME_MAX];

    memcpy(copy, bytes, len);
    if (len && !pick(m, wrong_in))
        copy[pick(m, len)] ^= (uint8_t)(1u << pick(m, 8));
    (void)!send(m->fd, copy, len, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void say_noise(struct mouth *m)
{
    uint64_t words[16];

    for (int i = 0; i < 16; i++)
        words[i] = draw(&m->state);
    say(m, words, 1 + pick(m, sizeof(words)), 1);
}

static void say_frame(struct mouth *m)
{
    static uint8_t bytes[sizeof(struct tcp_head) + TCP_FRAME_MAX];
    size_t len = pick(m, 8) ? pick(m, 300) : pick(m, TCP_FRAME_MAX + 2);
    enum tcp_kind kind = pick(m, 20) ? TCP_FRAME : (enum tcp_kind)pick(m, 6);
    struct tcp_head head = tcp_head_make(kind, kind == TCP_FRAME ? len : 0,
                                         (uint32_t)draw(&m->state), pick(m, 2000) ? 0 : 1);

    memcpy(bytes, &head, sizeof(head));
    say(m, bytes, sizeof(head) + (kind == TCP_FRAME && len <= TCP_FRAME_MAX ? len : 0), 50);
}

static void say_request(struct mouth *m, const char *arena)
{
    static uint8_t bytes[sizeof(struct tcp_request) + ARENA];
    size_t len = pick(m, 4) ? pick(m, 200) : pick(m, ARENA);
    struct tcp_request r = { .kind = (uint16_t)(1 + pick(m, 2)), .op = (uint16_t)pick(m, 64),
                             .region = 1, .remote = (uintptr_t)arena + pick(m, ARENA),
                             .len = len };

    if (!pick(m, 40))
        r.len = draw(&m->state);
    memcpy(bytes, &r, sizeof(r));
    say(m, bytes, sizeof(r) + (r.kind == TCP_PUT ? len : 0), 50);
}

static void hear_all(struct end *e, int fd)
{
    static char sink[65536];

    for (int i = 0; i < 20; i++) {
        pw_nic_tcp.progress(e->nic);
        while (recv(fd, sink, sizeof(sink), MSG_DONTWAIT) > 0)
            ;
    }
}

/* One life of a peer that lies. */
static void live(struct end *e, uint64_t seed, bool bulk)
{
    struct mouth m = { .state = seed };
    struct tcp_hello h;
    int fd = plain_peer(e, &h), bulk_fd = -1;

    m.fd = fd;
    if (bulk) {
        h.what = TCP_BULK;
        m.fd = bulk_fd = plain_dial(&e->address);
        plain_say(bulk_fd, &h, sizeof(h));
    }
    for (int i = 0; i < SAYINGS && !e->downs; i++) {
        if (!pick(&m, 40))
            say_noise(&m);
        else if (bulk)
            say_request(&m, e->arena);
        else
            say_frame(&m);
        hear_all(e, m.fd);
        cr_assert(le(sz, e->bytes, TCP_FRAME_MAX));
    }
    close(fd);
    if (bulk)
        close(bulk_fd);
    PUMP_UNTIL(e, NULL, e->downs);
    pw_nic_tcp.disconnect(e->peer);
    e->ups = e->downs = 0;
}

static void lives(bool bulk)
{
    struct end *e = end_open(PATIENT_MS, 0);
    char *arena = malloc(ARENA);

    memset(arena, 1, ARENA);
    e->arena = arena;
    e->arena_len = ARENA;
    for (uint64_t seed = 1; seed <= LIVES; seed++)
        live(e, seed, bulk);
    end_close(e);
    free(arena);
}

Test(tcp_fuzz, frames_of_a_peer_that_lies)
{
    lives(false);
}

Test(tcp_fuzz, requests_of_a_peer_that_lies)
{
    lives(true);
}

/* ---- answers to what we ask ---- */

static void answer(struct mouth *m)
{
    static uint8_t bytes[sizeof(struct tcp_reply) + 4096];
    struct tcp_reply r = { .kind = (uint16_t)(3 + pick(m, 2)), .op = (uint16_t)pick(m, 4) };

    if (r.kind == TCP_DATA)
        r.len = pick(m, 8) ? 4096 : pick(m, 5000);
    else if (!pick(m, 3))
        r.status = -(int32_t)pick(m, 40);
    memset(bytes, 5, sizeof(bytes));
    memcpy(bytes, &r, sizeof(r));
    say(m, bytes, sizeof(r) + (r.len <= 4096 ? r.len : 4096), 20);
}

/* Accepts as e's peer: e's links for frames, and for puts and gets. */
static void accept_both(struct end *e, struct tcp_address *there, int listener, int fds[2],
                        uint8_t *local)
{
    struct tcp_answer a = { .magic = TCP_MAGIC, .version = TCP_VERSION };
    struct pw_nic_key key = { { 0 } };
    struct tcp_hello h;

    cr_assert(eq(int, end_connect(e, there), 0));
    fds[0] = accept(listener, NULL, NULL);
    PUMP_UNTIL(e, NULL, recv(fds[0], &h, sizeof(h), MSG_DONTWAIT) == sizeof(h));
    a.session = h.session;
    memcpy(a.proof, there->secret + TCP_HALF, TCP_HALF);
    plain_say(fds[0], &a, sizeof(a));
    PUMP_UNTIL(e, NULL, e->ups);
    for (int i = 0; i < 4; i++)
        cr_assert(eq(int, pw_nic_tcp.get(e->peer, local + i * 4096, 4096, 4096, &key, e),
                     PW_NIC_PENDING));
    pw_nic_tcp.progress(e->nic);
    fds[1] = accept(listener, NULL, NULL);
    hear_all(e, fds[1]);
}

Test(tcp_fuzz, answers_of_a_peer_that_lies)
{
    struct end *e = end_open(PATIENT_MS, 0);
    struct tcp_address there = e->address;
    int listener = plain_listen(&there.port);

    for (uint64_t seed = 1; seed <= LIVES; seed++) {
        struct mouth m = { .state = seed };
        uint8_t *local = malloc(4 * 4096);      /* its end is where a sanitizer looks */
        int fds[2];

        e->completes = 0;
        accept_both(e, &there, listener, fds, local);
        m.fd = fds[1];
        for (int i = 0; i < 12 && !e->downs; i++) {
            if (pick(&m, 30))
                answer(&m);
            else
                say_noise(&m);
            hear_all(e, m.fd);
        }
        close(fds[0]);
        close(fds[1]);
        PUMP_UNTIL(e, NULL, e->downs);
        cr_assert(eq(uint, e->completes, 4), "each of the gets ends once");
        pw_nic_tcp.disconnect(e->peer);
        e->ups = e->downs = 0;
        free(local);
    }
    close(listener);
    end_close(e);
}

/* ---- strangers and addresses ---- */

Test(tcp_fuzz, hellos_that_are_nearly_right)
{
    struct end *e = end_open(PATIENT_MS, 0);
    struct mouth m = { .state = 1 };

    for (int i = 0; i < 2000; i++) {
        struct tcp_hello h = hello_to(&e->address, TCP_FRAMES);

        m.fd = plain_dial(&e->address);
        say(&m, &h, pick(&m, 4) ? sizeof(h) : pick(&m, sizeof(h)), 1);
        pw_nic_tcp.progress(e->nic);
        close(m.fd);
    }
    PUMP_UNTIL(e, NULL, strangers(e) > 400);
    end_close(e);
}

Test(tcp_fuzz, addresses_that_are_nearly_right)
{
    struct end *e = end_open(PATIENT_MS, 0);
    struct mouth m = { .state = 2 };

    for (int i = 0; i < 200000; i++) {
        struct tcp_address a = e->address;
        size_t len = pick(&m, 8) ? sizeof(a) : pick(&m, sizeof(a));
        uint8_t *copy = malloc(len ? len : 1);
        struct tcp_address out;

        for (uint64_t n = 1 + pick(&m, 3); n; n--)
            ((uint8_t *)&a)[pick(&m, sizeof(a))] = (uint8_t)draw(&m.state);
        memcpy(copy, &a, len);
        if (tcp_address_parse(copy, len, &out))
            cr_assert(tcp_address_sane(&out));
        if (i % 100 == 0)
            (void)pw_nic_tcp.reachable(e->nic, copy, len);
        free(copy);
    }
    end_close(e);
}
