/* SPDX-License-Identifier: BSD-3-Clause */
/* tcp_rig.h - NICs of the tcp backend on the loopback, and plain sockets that pretend to be
 * one: a stranger's, or a peer's that does what no peer of ours does. */
#ifndef PW_TEST_TCP_RIG_H
#define PW_TEST_TCP_RIG_H

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "btl/nic/tcp_wire.h"
#include "pinwheel/clock.h"
#include "pinwheel/nic.h"

extern const struct pw_nic_ops pw_nic_tcp;

/* One NIC, and its peer. */
struct end {
    struct pw_nic *nic;
    struct pw_nic_peer *peer;
    struct tcp_address address;
    unsigned ups, downs, frames, callers, completes, doubts, trusts, restored;
    int cause, status;
    size_t bytes;                       /* of the last frame */
    char why[PW_NIC_WHY_MAX];
    int borrow;                         /* what borrow answers */
    unsigned refuse_after;              /* 0, or so often it answers 0 first; atomic */
    const char *arena;                  /* where arena_len: nothing else is lent */
    size_t arena_len;
    unsigned borrows, lent;             /* atomic; the first while refuse_after is set */
    unsigned caller_us;                 /* how long the caller upcall takes */
    uint8_t data[TCP_FRAME_MAX];
};

static inline void end_recv(void *ctx, void *peer, uint32_t imm, const void *data, size_t len)
{
    struct end *e = ctx;

    (void)peer;
    (void)imm;
    e->frames++;
    e->bytes = len;
    memcpy(e->data, data, len);
}

static inline void end_complete(void *ctx, void *op, int status)
{
    struct end *e = ctx;

    (void)op;
    e->completes++;
    e->status = status;
}

static inline void end_down(void *ctx, void *peer, int cause, const char *why)
{
    struct end *e = ctx;

    (void)peer;
    e->downs++;
    e->cause = cause;
    strncpy(e->why, why, sizeof(e->why) - 1);
}

static inline void end_caller(void *ctx, struct pw_nic *nic, const void *addr, size_t len)
{
    (void)nic;
    (void)addr;
    (void)len;
    ((struct end *)ctx)->callers++;
    if (((struct end *)ctx)->caller_us)
        usleep(((struct end *)ctx)->caller_us);
}

static inline void end_up(void *ctx, void *peer)
{
    (void)peer;
    ((struct end *)ctx)->ups++;
}

static inline int end_borrow(void *ctx, uint64_t region, uint64_t addr, size_t len,
                             unsigned access)
{
    struct end *e = ctx;
    int err = __atomic_load_n(&e->borrow, __ATOMIC_RELAXED);

    (void)region;
    (void)access;
    if (__atomic_load_n(&e->refuse_after, __ATOMIC_RELAXED) &&
        __atomic_fetch_add(&e->borrows, 1, __ATOMIC_RELAXED) < e->refuse_after)
        err = 0;
    if (e->arena_len && (addr < (uintptr_t)e->arena || len > e->arena_len ||
                         addr - (uintptr_t)e->arena > e->arena_len - len))
        err = -EACCES;
    if (!err)
        __atomic_fetch_add(&e->lent, 1, __ATOMIC_RELAXED);
    return err;
}

static inline void end_give_back(void *ctx, uint64_t region)
{
    (void)region;
    __atomic_fetch_sub(&((struct end *)ctx)->lent, 1, __ATOMIC_RELAXED);
}

static inline void end_doubt(void *ctx, void *peer, bool doubted)
{
    struct end *e = ctx;

    (void)peer;
    e->doubts += doubted;
    e->trusts += !doubted;
}

static inline void end_restored(void *ctx, struct pw_nic *nic)
{
    (void)nic;
    ((struct end *)ctx)->restored++;
}

static const struct pw_nic_upcalls end_upcalls = {
    .recv = end_recv, .complete = end_complete, .down = end_down, .caller = end_caller,
    .up = end_up, .borrow = end_borrow, .give_back = end_give_back,
    .doubt = end_doubt, .restored = end_restored,
};

static inline struct end *end_open_on(const struct pw_nic_device *device, unsigned timeout_ms,
                                      size_t queue)
{
    struct end *e = calloc(1, sizeof(*e));
    struct pw_nic_config c = { .up = &end_upcalls, .ctx = e, .job = 7, .device = device,
                               .peer_timeout_ms = timeout_ms, .queue_bytes = queue,
                               .doubt_ms = 200 };

    cr_assert(eq(int, pw_nic_tcp.open(&c, &e->nic), 0));
    cr_assert(eq(sz, pw_nic_tcp.address(e->nic, &e->address), sizeof(e->address)));
    return e;
}

/* timeout_ms: of silence; queue: 0, or bytes of the sockets. */
static inline struct end *end_open(unsigned timeout_ms, size_t queue)
{
    struct pw_nic_device lo = { .name = "lo", .address = "127.0.0.1/8" };

    return end_open_on(&lo, timeout_ms, queue);
}

static inline void end_close(struct end *e)
{
    pw_nic_tcp.close(e->nic);
    cr_expect(eq(uint, e->lent, 0));
    free(e);
}

/* Of a NIC's counts one, to which its thread may add. */
static inline uint64_t count_now(const uint64_t *count)
{
    return __atomic_load_n(count, __ATOMIC_RELAXED);
}

static inline uint64_t strangers(const struct end *e)
{
    return count_now(&e->nic->counts.strangers);
}

static inline int end_connect(struct end *e, const struct tcp_address *to)
{
    return pw_nic_tcp.connect(e->nic, to, sizeof(*to), NULL, &e->peer);
}

static inline void ends_progress(struct end *a, struct end *b)
{
    pw_nic_tcp.progress(a->nic);
    if (b)
        pw_nic_tcp.progress(b->nic);
}

/* Progress of both until that holds; a failed assertion when it does not within 30 s. */
#define PUMP_UNTIL(a, b, what)                                                          \
    do {                                                                                \
        uint64_t until_ = pw_now_ns() + 30000000000u;                                   \
        bool held_ = false;                                                             \
                                                                                        \
        while (!(held_ = (what)) && pw_now_ns() < until_)                               \
            ends_progress((a), (b));                                                    \
        cr_assert(held_, "%s", #what);                                                  \
    } while (0)

static inline void ends_join(struct end *a, struct end *b)
{
    cr_assert(eq(int, end_connect(a, &b->address), 0));
    cr_assert(eq(int, end_connect(b, &a->address), 0));
    PUMP_UNTIL(a, b, a->ups && b->ups);
}

static inline int end_send(struct end *from, struct end *to, const void *data, size_t len)
{
    struct pw_iov iov = { data, len };
    unsigned before = from->completes;
    int err;

    while ((err = pw_nic_tcp.send(from->peer, 1, &iov, 1, from)) == -EAGAIN) {
        pw_nic_tcp.progress(from->nic);
        pw_nic_tcp.progress(to->nic);
    }
    if (err == PW_NIC_PENDING) {
        PUMP_UNTIL(from, to, from->completes > before);
        err = from->status;
    }
    return err;
}

static inline void ends_work(struct end *a, struct end *b)
{
    unsigned got = b->frames;

    cr_expect(eq(int, end_send(a, b, "hello", 5), 0));
    PUMP_UNTIL(a, b, b->frames > got);
    cr_expect(eq(sz, b->bytes, 5));
}

/* ---- plain sockets ---- */

static inline int plain_dial(const struct tcp_address *to)
{
    struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(to->port) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    memcpy(&sa.sin_addr, to->ip, 4);
    cr_assert(eq(int, connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0));
    return fd;
}

static inline int plain_listen(uint16_t *port)
{
    struct sockaddr_in sa = { .sin_family = AF_INET,
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(sa);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    cr_assert(eq(int, bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0));
    cr_assert(eq(int, listen(fd, 16), 0));
    cr_assert(eq(int, getsockname(fd, (struct sockaddr *)&sa, &len), 0));
    *port = ntohs(sa.sin_port);
    return fd;
}

static inline void plain_say(int fd, const void *bytes, size_t len)
{
    (void)!send(fd, bytes, len, MSG_NOSIGNAL);
}

/* A hello to that NIC of somebody whose address is like it but for port and secret. Another
 * call than before, and not the next one. */
static inline struct tcp_hello hello_to(const struct tcp_address *to, enum tcp_hello_what what)
{
    static uint64_t session;
    struct tcp_hello h = { .magic = TCP_MAGIC, .version = TCP_VERSION,
                           .what = (uint16_t)what, .session = session += 100, .from = *to };

    memcpy(h.proof, to->secret, TCP_HALF);
    h.from.port ^= 1;
    memset(h.from.secret, 0x33, TCP_SECRET);
    return h;
}

/* Has it been closed from there? Bytes that come before that are read. */
static inline bool plain_closed(int fd)
{
    char bytes[4096];
    ssize_t n;

    while ((n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0)
        ;
    return !n || (n < 0 && errno != EAGAIN);
}

/* As a peer of ours would: an established link. */
static inline int plain_peer(struct end *e, struct tcp_hello *h)
{
    struct tcp_answer answer;
    int fd = plain_dial(&e->address);

    *h = hello_to(&e->address, TCP_FRAMES);
    plain_say(fd, h, sizeof(*h));
    PUMP_UNTIL(e, NULL, recv(fd, &answer, sizeof(answer), MSG_PEEK | MSG_DONTWAIT) ==
                            sizeof(answer));
    cr_assert(eq(sz, (size_t)recv(fd, &answer, sizeof(answer), 0), sizeof(answer)));
    cr_assert(tcp_answer_sane(&answer, h->session, &e->address));
    cr_assert(eq(int, end_connect(e, &h->from), 0));
    PUMP_UNTIL(e, NULL, e->ups);
    return fd;
}

#endif
