/* SPDX-License-Identifier: BSD-3-Clause */
/* pingpong.c - messages between two processes, by the operations of a NIC alone.
 *
 *     pingpong BACKEND DEVICE send|put BYTES
 *
 * What perftest's ib_send_lat and ib_write_lat do with libibverbs: each side sends when the
 * other one's message has come, until they are killed. Says its process after WARM of them.
 * tools/steps counts what it executes, from one getppid() to the next.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pinwheel/nic.h"
#include "pinwheel/pool.h"

enum { WARM = 300, BYTES_MAX = 8192, POOL = 32 << 20 };

/* What a side tells of itself before they begin. */
struct card {
    size_t len;
    uint8_t address[PW_NIC_ADDRESS_MAX];
    uint64_t window;
    struct pw_nic_key key;
};

struct side {
    struct pw_nic *nic;
    struct pw_nic_peer *peer;
    struct card card, other;
    uint8_t *window;            /* what the other one puts to */
    uint8_t out[BYTES_MAX];
    size_t bytes;
    bool up, came, put_done;
};

static void fail(const char *what, int err)
{
    fprintf(stderr, "pingpong: %s: %s\n", what, strerror(err < 0 ? -err : err));
    exit(1);
}

/* ---- upcalls ---- */

static void up_recv(void *ctx, void *cookie, uint32_t imm, const void *data, size_t len)
{
    struct side *s = ctx;

    (void)cookie;
    (void)imm;
    if (len != s->bytes || ((const uint8_t *)data)[0] != 1)
        fail("another message has come", EBADMSG);
    s->came = true;
}

static void up_complete(void *ctx, void *op, int status)
{
    struct side *s = ctx;

    (void)op;
    if (status)
        fail("a put has failed", status);
    s->put_done = true;
}

static void up_down(void *ctx, void *cookie, int cause, const char *why)
{
    (void)ctx;
    (void)cookie;
    (void)cause;
    fprintf(stderr, "pingpong: %s\n", why);
    exit(1);
}

static void up_up(void *ctx, void *cookie)
{
    (void)cookie;
    ((struct side *)ctx)->up = true;
}

static const struct pw_nic_upcalls upcalls = {
    .recv = up_recv, .complete = up_complete, .down = up_down, .up = up_up,
};

/* ---- setting up ---- */

static const struct pw_nic_ops *backend(const char *name)
{
    for (int i = 0; pw_nic_backends[i]; i++)
        if (!strcmp(pw_nic_backends[i]->name, name))
            return pw_nic_backends[i];
    fail(name, ENOENT);
    return NULL;
}

static const struct pw_nic_device *device(const struct pw_nic_ops *ops, const char *name)
{
    static struct pw_nic_device all[64];
    int n = ops->devices ? ops->devices(all, 64) : 0;

    for (int i = 0; i < n && i < 64; i++)
        if (!strcmp(all[i].name, name))
            return &all[i];
    if (ops->devices)
        fail(name, ENODEV);
    return NULL;
}

static void side_open(struct side *s, const struct pw_nic_ops *ops, const char *name, int fd)
{
    struct pw_pool_config pool = { .size = POOL, .pages = PW_PAGES_4K, .sharers = 2 };
    struct pw_nic_config config = { .up = &upcalls, .ctx = s, .job = 0x9009,
                                    .local_peers = 1, .peer_timeout_ms = 60000 };
    int err = pw_pool_open(&pool, &config.pool);

    if (err)
        fail("no memory", err);
    config.device = device(ops, name);
    err = ops->open(&config, &s->nic);
    if (err)
        fail(name, err);
    s->window = aligned_alloc(4096, BYTES_MAX);
    memset(s->window, 0, BYTES_MAX);
    memset(s->out, 1, sizeof(s->out));
    err = ops->pin(s->nic, s->window, BYTES_MAX, PW_READ | PW_WRITE, &s->card.key);
    if (err)
        fail("memory cannot be registered", err);
    s->card.window = (uintptr_t)s->window;
    s->card.len = ops->address(s->nic, s->card.address);
    if (write(fd, &s->card, sizeof(s->card)) != sizeof(s->card) ||
        recv(fd, &s->other, sizeof(s->other), MSG_WAITALL) != sizeof(s->other))
        fail("the other side is gone", EPIPE);
    err = ops->connect(s->nic, s->other.address, s->other.len, s, &s->peer);
    if (err)
        fail("no connection", err);
    while (s->nic->info.flags & PW_NIC_ANSWERS && !s->up)
        ops->progress(s->nic);
}

/* ---- turns ---- */

static void send_one(struct side *s)
{
    struct pw_iov iov = { s->out, s->bytes };
    const struct pw_nic_ops *ops = s->nic->ops;
    int err;

    while ((err = s->bytes <= s->nic->info.inline_max
                      ? ops->send_inline(s->peer, 0, s->out, s->bytes)
                      : ops->send(s->peer, 0, &iov, 1, s)) == -EAGAIN)
        ops->progress(s->nic);
    if (err < 0)
        fail("a message cannot be sent", err);
}

static void recv_one(struct side *s)
{
    while (!s->came)
        s->nic->ops->progress(s->nic);
    s->came = false;
}

static void put_one(struct side *s, uint8_t turn)
{
    const struct pw_nic_ops *ops = s->nic->ops;
    int err;

    s->out[s->bytes - 1] = turn;
    while ((err = ops->put(s->peer, s->out, s->other.window, s->bytes, &s->other.key, s)) ==
           -EAGAIN)
        ops->progress(s->nic);
    if (err < 0)
        fail("a put is refused", err);
    while (err == PW_NIC_PENDING && !s->put_done)
        ops->progress(s->nic);
    s->put_done = false;
}

static void put_await(struct side *s, uint8_t turn)
{
    while (__atomic_load_n(&s->window[s->bytes - 1], __ATOMIC_ACQUIRE) != turn)
        s->nic->ops->progress(s->nic);
}

static void play(struct side *s, bool first, bool puts)
{
    for (unsigned i = 1;; i++) {
        uint8_t turn = (uint8_t)(1 + i % 200);

        if (first && puts)
            put_one(s, turn);
        else if (first)
            send_one(s);
        if (puts)
            put_await(s, turn);
        else
            recv_one(s);
        if (!first && puts)
            put_one(s, turn);
        else if (!first)
            send_one(s);
        getppid();
        if (first && i == WARM) {
            printf("%d\n", (int)getpid());
            fflush(stdout);
        }
    }
}

int main(int argc, char **argv)
{
    static struct side s;
    int fds[2];
    pid_t pid;

    s.bytes = argc == 5 ? (size_t)atoi(argv[4]) : 0;
    if (!s.bytes || s.bytes > BYTES_MAX ||
        (strcmp(argv[3], "send") != 0 && strcmp(argv[3], "put") != 0))
        fail("pingpong BACKEND DEVICE send|put BYTES", EINVAL);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds))
        fail("a pair of sockets", errno);
    pid = fork();
    if (pid < 0)
        fail("fork", errno);
    if (!pid)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    side_open(&s, backend(argv[1]), argv[2], fds[!pid]);
    play(&s, pid != 0, !strcmp(argv[3], "put"));
    return 0;
}
