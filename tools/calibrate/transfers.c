/* SPDX-License-Identifier: BSD-3-Clause */
/* transfers.c - gets between two processes, by pinwheel's own core, each way.
 *
 * Start at calib_transfers(). A session is two engines of the shared-memory NIC, here
 * and in the partner, which owns the memory. Before each get the owner writes all of it,
 * as a rank does that sends what it has computed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "btl/core/engine.h"
#include "calibrate.h"
#include "pinwheel/pool.h"

enum {
    LEAST = 3, BUDGET_NS = 40 * 1000 * 1000,
    RING_LEN = 1 << 20, RING_ROUNDS = 3, RING_FIRST = 10,
    RING_SAMPLES = 25,
    PATIENCE_NS = 2000000000,
};

/* Two buffers, and what queues need. */
enum { POOL = 192 << 20, POOL_SMALL = 32 << 20 };

enum where { IN_POOL, ELSEWHERE, WHERES };

/* The messages of both: what to write and how much; written. */
enum { TAG_WRITE = 1, TAG_WRITTEN, TAG_END };
struct order { uint64_t where, len, byte; };

struct side {
    int fd;
    size_t len;                 /* of each buffer */
    struct pw_pool *pool;
    struct pw_engine *e;
    struct pw_endpoint *ep;
    unsigned char *buf[WHERES];
    struct order order;         /* what was asked for last */
    bool ordered, written, over, dead;
};

struct session {
    struct side side;
    enum pw_bulk bulk;
    size_t chunk, queue;
    bool kernel;
    int fds[2];
    pid_t partner;
    struct pw_key keys[WHERES];
    uint64_t addrs[WHERES];
};

/* ---- either side ---- */

static void up_recv(void *ctx, void *cookie, uint8_t tag, const void *data, size_t len)
{
    struct side *s = ctx;

    (void)cookie;
    if (tag == TAG_WRITE && len == sizeof s->order) {
        memcpy(&s->order, data, len);
        s->ordered = true;
    }
    s->written |= tag == TAG_WRITTEN;
    s->over |= tag == TAG_END;
}

static void up_dead(void *ctx, void *cookie, int cause, const char *why)
{
    (void)cookie;
    (void)cause;
    (void)why;
    ((struct side *)ctx)->dead = true;
}

static bool send_all(int fd, const void *data, size_t len)
{
    return send(fd, data, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static bool recv_all(int fd, void *data, size_t len)
{
    return recv(fd, data, len, MSG_WAITALL) == (ssize_t)len;
}

static int buffers_open(struct side *s)
{
    s->buf[IN_POOL] = pw_pool_alloc(s->pool, s->len, 0);
    s->buf[ELSEWHERE] = mmap(NULL, s->len, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!s->buf[IN_POOL] || s->buf[ELSEWHERE] == MAP_FAILED)
        return -ENOMEM;
    /* As malloc gives it. */
    memset(s->buf[ELSEWHERE], 0, s->len);
    memset(s->buf[IN_POOL], 0, s->len);
    return 0;
}

/* Engine, and the endpoint to the other one, whose address comes by the socket. */
static int side_open(struct session *n)
{
    static const struct pw_engine_upcalls up = { .recv = up_recv, .dead = up_dead };
    struct side *s = &n->side;
    struct pw_pool_config pool = { .size = s->len > RING_LEN ? POOL : POOL_SMALL,
                                   .sharers = 2 };
    struct pw_engine_config config = {
        .up = &up, .ctx = s, .nics = "shm",
        .local_peers = 1, .queue_bytes = n->queue, .kernel_copy = n->kernel,
        .chunk = n->chunk, .costs = pw_costs_default, .bulk = n->bulk, .cores = 2,
    };
    char why[PW_NIC_WHY_MAX] = "";
    unsigned char mine[1024], theirs[1024];
    int err = pw_pool_open(&pool, &s->pool), len;

    if (err)
        return calib_fail(err, "no shared memory: %s", strerror(-err));
    config.pool = s->pool;
    /* No rank of a job is to meet us. */
    config.job = (uint64_t)geteuid() << 32 | 0xca11b;
    err = pw_engine_open(&config, &s->e, why);
    if (err)
        return calib_fail(err, "shared memory cannot be used: %s", *why ? why
                          : strerror(-err));
    err = buffers_open(s);
    if (err)
        return calib_fail(err, "%zu MiB of memory cannot be had", s->len >> 19);
    memset(mine, 0, sizeof mine);
    len = pw_engine_address(s->e, mine + 4, sizeof mine - 4);
    memcpy(mine, &len, sizeof len);
    if (len < 0 || !send_all(s->fd, mine, sizeof mine) ||
        !recv_all(s->fd, theirs, sizeof theirs))
        return calib_fail(-EIO, "the other process is gone");
    memcpy(&len, theirs, sizeof len);
    err = pw_endpoint_open(s->e, theirs + 4, (size_t)len, s, &s->ep, why);
    return err ? calib_fail(err, "no path to the other process: %s", why) : 0;
}

static void side_close(struct side *s)
{
    if (s->e)
        pw_engine_close(s->e);
    if (s->buf[ELSEWHERE] && s->buf[ELSEWHERE] != MAP_FAILED)
        munmap(s->buf[ELSEWHERE], s->len);
    if (s->pool)
        pw_pool_close(s->pool);
    close(s->fd);
}

static bool tell(struct side *s, uint8_t tag, const void *data, size_t len)
{
    struct pw_iov iov = { data, len };
    int err;

    while ((err = pw_endpoint_send(s->ep, tag, &iov, 1)) == -EAGAIN && !s->dead)
        pw_engine_progress(s->e);
    return !err;
}

/* ---- the owner of the memory ---- */

static void own(void *arg)
{
    struct session *n = arg;
    struct side *s = &n->side;

    close(n->fds[0]);
    s->fd = n->fds[1];
    if (side_open(n))
        _exit(1);
    for (int w = 0; w < WHERES; w++) {
        n->addrs[w] = (uint64_t)(uintptr_t)s->buf[w];
        if (pw_engine_register(s->e, s->buf[w], s->len, PW_READ, false, &n->keys[w]))
            _exit(1);
    }
    if (!send_all(s->fd, n->addrs, sizeof n->addrs) ||
        !send_all(s->fd, n->keys, sizeof n->keys))
        _exit(1);
    while (!s->over && !s->dead) {
        pw_engine_progress(s->e);
        if (!s->ordered)
            continue;
        s->ordered = false;
        if (s->order.where < WHERES && s->order.len <= s->len)
            memset(s->buf[s->order.where], (int)s->order.byte, s->order.len);
        if (!tell(s, TAG_WRITTEN, "", 1))
            break;
    }
    side_close(s);
}

/* ---- the side that gets ---- */

static int session_open(struct session *n, int here, int there)
{
    struct side *s = &n->side;
    int err;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, n->fds) || !calib_bind(here))
        return calib_fail(-errno, "CPU %d: %s", here, strerror(errno));
    n->partner = calib_partner(there, own, n);
    close(n->fds[1]);
    s->fd = n->fds[0];
    if (n->partner < 0)
        return calib_fail((int)n->partner, "fork: %s", strerror((int)-n->partner));
    err = side_open(n);
    if (!err && (!recv_all(s->fd, n->addrs, sizeof n->addrs) ||
                 !recv_all(s->fd, n->keys, sizeof n->keys)))
        err = calib_fail(-EIO, "the process on CPU %d could not take part", there);
    return err;
}

static void session_close(struct session *n)
{
    if (n->side.ep)
        tell(&n->side, TAG_END, "", 1);
    side_close(&n->side);
    if (n->partner > 0)
        calib_partner_end(n->partner);
}

struct outcome { bool done; int status; };

static void get_done(void *arg, int status)
{
    *(struct outcome *)arg = (struct outcome){ true, status };
}

static bool until(struct side *s, const bool *what)
{
    uint64_t end = calib_now() + PATIENCE_NS;

    for (unsigned i = 1; !*what && !s->dead; i++) {
        pw_engine_progress(s->e);
        if (i % 1024 == 0 && calib_now() > end)
            break;
    }
    return *what;
}

/* One get of what the owner has just written, checked; ns, or 0 and -errno in *err. */
static uint64_t get(struct session *n, enum where remote, enum where local, size_t len,
                    int *err)
{
    static uint64_t byte;
    struct side *s = &n->side;
    struct order order = { remote, len, ++byte & 255 };
    static struct outcome o;    /* may be written to after we gave up */
    uint64_t start, ns;
    int rc;

    o = (struct outcome){ false, 0 };
    s->written = false;
    if (!tell(s, TAG_WRITE, &order, sizeof order) || !until(s, &s->written)) {
        *err = calib_fail(-EIO, "the other process does not answer");
        return 0;
    }
    start = calib_now();
    rc = pw_endpoint_get(s->ep, s->buf[local], n->addrs[remote], len, &n->keys[remote],
                         get_done, &o);
    if (rc == PW_NIC_PENDING) {
        rc = until(s, &o.done) ? o.status : -ETIMEDOUT;
        if (rc == -ETIMEDOUT)
            s->dead = true;     /* it may still write to our buffer: never again */
    }
    ns = calib_now() - start;
    if (!rc && (s->buf[local][0] != order.byte || s->buf[local][len - 1] != order.byte))
        rc = -EBADMSG;
    if (rc) {
        *err = calib_fail(rc, "a get of %zu bytes: %s", len, strerror(-rc));
        return 0;
    }
    return ns ? ns : 1;
}

/* The field of the statistics that tells which way it went. */
static uint64_t moved(struct session *n, size_t field)
{
    struct pw_stats stats;
    uint64_t value;

    pw_engine_stats(n->side.e, &stats);
    memcpy(&value, (const char *)&stats + field, sizeof value);
    return value;
}

/* Of what went another way than was wanted nothing is kept. A stream is counted by
 * who sends it, so here it is what nothing else was. */
static int curve(struct session *n, enum where remote, enum where local, size_t field,
                 struct pw_cost_curve *out)
{
    int err = 0;

    for (int i = 0; i < PW_COST_POINTS && !err; i++) {
        struct calib_samples s = { .n = 0 };
        size_t len = pw_cost_len(i);
        int strays = 0;

        while (!err && strays < 20 && !calib_enough(&s, LEAST, BUDGET_NS)) {
            uint64_t before = moved(n, field), ns = get(n, remote, local, len, &err);
            bool counted = moved(n, field) != before;

            if (err)
                break;
            if (counted == (field != offsetof(struct pw_stats, rescued)))
                calib_add(&s, ns);
            else
                strays++;
        }
        out->ns[i] = calib_typical(&s);
        if (!err && !out->ns[i]) {      /* not possible here: not known */
            memset(out, 0, sizeof *out);
            break;
        }
    }
    return err;
}

#define FIELD(name) offsetof(struct pw_stats, name)

static int curves(int here, int there, struct pw_calibration *c)
{
    struct session stream = { .side.len = pw_cost_len(PW_COST_POINTS - 1),
                              .bulk = PW_BULK_STREAM, .chunk = c->chunk };
    struct session kernel = { .side.len = pw_cost_len(PW_COST_POINTS - 1), .kernel = true,
                              .bulk = PW_BULK_KERNEL, .chunk = c->chunk };
    int err = session_open(&stream, here, there);

    if (!err)
        err = curve(&stream, IN_POOL, ELSEWHERE, FIELD(direct_bytes), &c->costs.direct);
    if (!err)
        err = curve(&stream, ELSEWHERE, IN_POOL, FIELD(push_bytes), &c->costs.push);
    if (!err)
        err = curve(&stream, ELSEWHERE, ELSEWHERE, FIELD(rescued), &c->costs.stream);
    session_close(&stream);
    if (err)
        return err;
    err = session_open(&kernel, here, there);
    if (!err)
        err = curve(&kernel, ELSEWHERE, ELSEWHERE, FIELD(kernel_bytes), &c->costs.kernel);
    session_close(&kernel);
    return err;
}

/* ---- pieces and queues ---- */

/* The first ones are how the core finds out with which stores to copy. */
static int ring_one(int here, int there, int queue, int chunk, uint64_t *out)
{
    struct session n = { .side.len = RING_LEN, .bulk = PW_BULK_STREAM,
                         .chunk = pw_calib_chunks[chunk], .queue = pw_calib_queues[queue] };
    struct calib_samples s = { .n = 0 };
    int err = session_open(&n, here, there);

    for (int i = 0; i < RING_SAMPLES && !err; i++) {
        uint64_t ns = get(&n, ELSEWHERE, ELSEWHERE, RING_LEN, &err);

        if (i >= RING_FIRST)
            calib_add(&s, ns);
    }
    session_close(&n);
    *out = calib_typical(&s);
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
