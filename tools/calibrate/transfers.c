/* SPDX-License-Identifier: BSD-3-Clause */
/* transfers.c - gets between two processes, by pinwheel's own core, each way.
 *
 * Start at calib_transfers(). A session is two engines of the shared-memory NIC, here
 * and in the partner, which owns the memory; btl/core/measure.h does the rest.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "btl/core/measure.h"
#include "calibrate.h"
#include "pinwheel/pool.h"

enum {
    LEAST = 3, BUDGET_NS = 40 * 1000 * 1000,
    RING_LEN = 1 << 20, RING_ROUNDS = 3, RING_FIRST = 10,
    RING_SAMPLES = 25,
};

/* Two buffers, and what queues need. */
enum { POOL = 192 << 20, POOL_SMALL = 32 << 20 };

struct session {
    struct pw_measure m;
    enum pw_bulk bulk;
    size_t chunk, queue;
    bool kernel;
    int fds[2], fd;
    pid_t partner;
};

static bool send_all(int fd, const void *data, size_t len)
{
    return send(fd, data, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static bool recv_all(int fd, void *data, size_t len)
{
    return recv(fd, data, len, MSG_WAITALL) == (ssize_t)len;
}

static int engine_open(struct session *n)
{
    struct pw_measure *m = &n->m;
    struct pw_pool_config pool = { .size = m->len > RING_LEN ? POOL : POOL_SMALL,
                                   .sharers = 2 };
    struct pw_engine_config config = {
        .up = &pw_measure_upcalls, .ctx = m, .nics = "shm",
        .local_peers = 1, .queue_bytes = n->queue, .kernel_copy = n->kernel,
        .chunk = n->chunk, .costs = pw_costs_default, .bulk = n->bulk, .cores = 2,
    };
    char why[PW_NIC_WHY_MAX] = "";
    int err = pw_pool_open(&pool, &m->pool);

    if (err)
        return calib_fail(err, "no shared memory: %s", strerror(-err));
    config.pool = m->pool;
    /* No rank of a job is to meet us. */
    config.job = (uint64_t)geteuid() << 32 | 0xca11b;
    err = pw_engine_open(&config, &m->engine, why);
    return err ? calib_fail(err, "shared memory cannot be used: %s",
                            *why ? why : strerror(-err)) : 0;
}

/* Engine, and the endpoint to the other one, whose address comes by the socket. */
static int side_open(struct session *n, bool owner)
{
    struct pw_measure *m = &n->m;
    char why[PW_NIC_WHY_MAX] = "";
    unsigned char mine[1024], theirs[1024];
    int err = engine_open(n), len;

    if (err)
        return err;
    memset(mine, 0, sizeof mine);
    len = pw_engine_address(m->engine, mine + 4, sizeof mine - 4);
    memcpy(mine, &len, sizeof len);
    if (len < 0 || !send_all(n->fd, mine, sizeof mine) ||
        !recv_all(n->fd, theirs, sizeof theirs))
        return calib_fail(-EIO, "the other process is gone");
    memcpy(&len, theirs, sizeof len);
    m->cookie = m;
    err = pw_endpoint_open(m->engine, theirs + 4, (size_t)len, m, &m->peer, why);
    if (err)
        return calib_fail(err, "no path to the other process: %s", why);
    err = pw_measure_open(m, owner);
    return err ? calib_fail(err, "%zu MiB of memory cannot be had", m->len >> 19) : 0;
}

static void side_close(struct session *n)
{
    struct pw_measure *m = &n->m;

    if (m->peer)
        pw_endpoint_close(m->peer);
    if (m->pool)
        pw_measure_close(m);
    if (m->engine)
        pw_engine_close(m->engine);
    if (m->pool)
        pw_pool_close(m->pool);
    close(n->fd);
}

static void own(void *arg)
{
    struct session *n = arg;

    close(n->fds[0]);
    n->fd = n->fds[1];
    if (side_open(n, true))
        _exit(1);
    pw_measure_own(&n->m);
    side_close(n);
}

static int session_open(struct session *n, int here, int there)
{
    int err;

    n->fd = -1;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, n->fds) || !calib_bind(here))
        return calib_fail(-errno, "CPU %d: %s", here, strerror(errno));
    n->partner = calib_partner(there, own, n);
    close(n->fds[1]);
    n->fd = n->fds[0];
    if (n->partner < 0)
        return calib_fail((int)n->partner, "fork: %s", strerror((int)-n->partner));
    err = side_open(n, false);
    if (!err && pw_measure_meet(&n->m))
        err = calib_fail(-EIO, "the process on CPU %d could not take part", there);
    return err;
}

static void session_close(struct session *n)
{
    if (n->m.peer)
        pw_measure_end(&n->m);
    side_close(n);
    if (n->partner > 0)
        calib_partner_end(n->partner);
}

static int curve(struct session *n, enum pw_measure_way way, struct pw_cost_curve *out)
{
    const struct pw_measure_plan plan = { .points = PW_COST_POINTS, .least = LEAST,
                                          .budget_ns = BUDGET_NS };
    int err = pw_measure_curve(&n->m, way, &plan, out);

    return err ? calib_fail(err, "a get: %s", strerror(-err)) : 0;
}

static int curves(int here, int there, struct pw_calibration *c)
{
    struct session stream = { .m.len = pw_cost_len(PW_COST_POINTS - 1),
                              .bulk = PW_BULK_STREAM, .chunk = c->chunk };
    struct session kernel = { .m.len = pw_cost_len(PW_COST_POINTS - 1), .kernel = true,
                              .bulk = PW_BULK_KERNEL, .chunk = c->chunk };
    int err = session_open(&stream, here, there);

    if (!err)
        err = curve(&stream, PW_MEASURE_DIRECT, &c->costs.direct);
    if (!err)
        err = curve(&stream, PW_MEASURE_PUSH, &c->costs.push);
    if (!err)
        err = curve(&stream, PW_MEASURE_STREAM, &c->costs.stream);
    session_close(&stream);
    if (err)
        return err;
    err = session_open(&kernel, here, there);
    if (!err)
        err = curve(&kernel, PW_MEASURE_KERNEL, &c->costs.kernel);
    session_close(&kernel);
    return err;
}

/* ---- pieces and queues ---- */

/* The first ones are how the core finds out with which stores to copy. */
static int ring_one(int here, int there, int queue, int chunk, uint64_t *out)
{
    struct session n = { .m.len = RING_LEN, .bulk = PW_BULK_STREAM,
                         .chunk = pw_calib_chunks[chunk], .queue = pw_calib_queues[queue] };
    struct pw_samples s = { .n = 0 };
    int err = session_open(&n, here, there);

    for (int i = 0; i < RING_SAMPLES && !err; i++) {
        uint64_t ns =
            pw_measure_get(&n.m, PW_ELSEWHERE, PW_ELSEWHERE, RING_LEN, false, &err);

        if (err)
            calib_fail(err, "a get of %d bytes: %s", RING_LEN, strerror(-err));
        else if (i >= RING_FIRST)
            pw_samples_add(&s, ns);
    }
    session_close(&n);
    *out = pw_samples_typical(&s);
    return err;
}

typedef uint64_t ring_table[PW_CALIB_QUEUES][PW_CALIB_CHUNKS];

/* The best of the rounds, each of which goes through all, for what else happens
 * changes with time. */
static int ring(int here, int there, ring_table *rounds, ring_table best)
{
    int err = 0;

    for (int r = 0; r < RING_ROUNDS; r++)
        for (int q = 0; q < PW_CALIB_QUEUES; q++)
            for (int k = 0; k < PW_CALIB_CHUNKS && !err; k++) {
                err = ring_one(here, there, q, k, &rounds[r][q][k]);
                if (r == 0 || rounds[r][q][k] < best[q][k])
                    best[q][k] = rounds[r][q][k];
            }
    return err;
}

/* In a queue of 1 MiB. Another than the usual one only where it gains a tenth in every
 * round: what is as good costs nothing to leave alone. */
static uint64_t best_chunk(ring_table *rounds, ring_table best)
{
    enum { QUEUE = 1, USUAL = 2 };
    int found = USUAL;

    for (int k = 0; k < PW_CALIB_CHUNKS; k++) {
        bool always = true;

        for (int r = 0; r < RING_ROUNDS; r++) {
            uint64_t usual = rounds[r][QUEUE][USUAL];

            always &= rounds[r][QUEUE][k] < usual - usual / 10;
        }
        if (always && best[QUEUE][k] < best[QUEUE][found])
            found = k;
    }
    return pw_calib_chunks[found];
}

int calib_transfers(int here, int there, struct pw_calibration *c)
{
    static ring_table rounds[RING_ROUNDS];
    int err = ring(here, there, rounds, c->ring);

    if (err)
        return err;
    c->chunk = best_chunk(rounds, c->ring);
    return curves(here, there, c);
}
