/* SPDX-License-Identifier: BSD-3-Clause */
/* rdma_side.c - see rdma_side.h. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pinwheel/clock.h"
#include "pinwheel/pool.h"
#include "tests/cache/rdma_side.h"

/* Nobody is that silent who lives: a debugger may stop one side. */
enum { SILENT_MS = 600 * 1000, DEVICES = 16 };
#define PATIENCE_NS UINT64_C(60000000000)

extern const struct pw_nic_ops pw_nic_verbs;

struct rdma_side {
    struct pw_pool *pool;
    struct pw_nic *nic;
    struct pw_nic_peer *peer;
    bool up, down, done;
    int status;
    struct pw_nic_device device;
};

/* ---- upcalls ---- */

static void side_recv(void *ctx, void *peer, uint32_t imm, const void *data, size_t len)
{
    (void)ctx, (void)peer, (void)imm, (void)data, (void)len;
}

static void side_complete(void *ctx, void *op, int status)
{
    struct rdma_side *s = ctx;
    (void)op;
    s->done = true;
    s->status = status;
}

static void side_down(void *ctx, void *peer, int cause, const char *why)
{
    struct rdma_side *s = ctx;
    (void)peer;
    if (cause)
        fprintf(stderr, "rdma: %s\n", why);
    s->down = true;
}

static void side_up(void *ctx, void *peer)
{
    struct rdma_side *s = ctx;
    (void)peer;
    s->up = true;
}

static const struct pw_nic_upcalls upcalls = {
    .recv = side_recv, .complete = side_complete, .down = side_down, .up = side_up,
};

/* ---- waiting ---- */

void rdma_side_turn(struct rdma_side *s)
{
    s->nic->ops->progress(s->nic);
}

/* What it waits for is brought by the device, not by this processor. */
static int side_until(struct rdma_side *s, const bool *what)
{
    uint64_t until = pw_now_ns() + PATIENCE_NS;
    unsigned turns = 0;

    while (!*what && !s->down) {
        rdma_side_turn(s);
        if (pw_now_ns() > until)
            return -ETIMEDOUT;
        if (++turns > 20)
            poll(NULL, 0, 1);
    }
    return *what ? 0 : -ECONNRESET;
}

/* ---- open and close ---- */

static int device_find(struct pw_nic_device *out)
{
    struct pw_nic_device *all = calloc(DEVICES, sizeof *all);
    int n = all ? pw_nic_verbs.devices(all, DEVICES) : 0, err = -ENODEV;

    for (int i = 0; i < n && i < DEVICES && err; i++)
        if (all[i].usable) {
            *out = all[i];
            err = 0;
        }
    free(all);
    return err;
}

int rdma_side_open(struct rdma_side **out)
{
    struct rdma_side *s = calloc(1, sizeof *s);
    struct pw_pool_config pool = { .size = 4 << 20, .pages = PW_PAGES_4K };
    struct pw_nic_config config = {
        .up = &upcalls, .ctx = s, .threads = true, .local_peers = 1,
        .peer_timeout_ms = SILENT_MS,
    };
    if (!s)
        return -ENOMEM;
    int err = device_find(&s->device);
    if (!err)
        err = pw_pool_open(&pool, &s->pool);
    config.pool = s->pool;
    config.device = &s->device;
    if (!err)
        err = pw_nic_verbs.open(&config, &s->nic);
    if (err) {
        pw_pool_close(s->pool);
        free(s);
        return err;
    }
    *out = s;
    return 0;
}

void rdma_side_close(struct rdma_side *s)
{
    s->nic->ops->close(s->nic);
    pw_pool_close(s->pool);
    free(s);
}

void rdma_side_address(struct rdma_side *s, struct rdma_hello *out)
{
    out->len = s->nic->ops->address(s->nic, out->address);
}

int rdma_side_meet(struct rdma_side *s, const struct rdma_hello *other)
{
    int err = s->nic->ops->connect(s->nic, other->address, other->len, s, &s->peer);
    return err ? err : side_until(s, &s->up);
}

/* ---- memory ---- */

int rdma_side_pin(struct rdma_side *s, void *addr, size_t len, unsigned access,
                  struct pw_nic_key *key)
{
    return s->nic->ops->pin(s->nic, addr, len, access, key);
}

void rdma_side_unpin(struct rdma_side *s, void *addr, size_t len,
                     const struct pw_nic_key *key)
{
    s->nic->ops->unpin(s->nic, addr, len, key);
}

int rdma_side_get(struct rdma_side *s, void *to, uint64_t from, size_t len,
                  const struct pw_nic_key *theirs, const struct pw_nic_key *own)
{
    const struct pw_nic_ops *ops = s->nic->ops;
    uint64_t until = pw_now_ns() + PATIENCE_NS;
    int err;

    s->done = false;
    while ((err = ops->get_own(s->peer, to, from, len, theirs, own, s)) == -EAGAIN) {
        rdma_side_turn(s);
        if (pw_now_ns() > until)
            return -ETIMEDOUT;
    }
    if (err != PW_NIC_PENDING)
        return err;
    err = side_until(s, &s->done);
    return err ? err : s->status;
}
