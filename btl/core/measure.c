/* SPDX-License-Identifier: BSD-3-Clause */
/* measure.c - what gets between this process and a peer take, by each way.
 *
 * Start at pw_measure_get() and pw_measure_own(). Each side says READY when it comes, and
 * once more when it hears that of the other: what was said to one that was not there yet
 * is lost.
 */
#define _GNU_SOURCE
#include "measure.h"

#include <stddef.h>
#include <sys/mman.h>
#ifdef __x86_64__
#include <emmintrin.h>
#endif

#include "core.h"
#include "samples.h"

enum { STRAYS = 20 };
#define PATIENCE_NS 30000000000u

enum kind { READY = 1, WRITE, WRITTEN, END };

struct ready {
    uint64_t addrs[PW_WHERES];
    struct pw_key keys[PW_WHERES];
    cpu_set_t cpus;
};

struct note {
    uint64_t kind;
    union {
        struct ready ready;
        struct pw_measure_order order;
    };
};

/* ---- what arrives ---- */

static void up_recv(void *ctx, void *cookie, uint8_t tag, const void *data, size_t len)
{
    struct pw_measure *m = ctx;
    struct note n;

    if (cookie != m->cookie || tag != m->tag || len != sizeof n)
        return;
    memcpy(&n, data, sizeof n);
    if (n.kind == READY) {
        memcpy(m->peer_addrs, n.ready.addrs, sizeof m->peer_addrs);
        memcpy(m->peer_keys, n.ready.keys, sizeof m->peer_keys);
        m->peer_cpus = n.ready.cpus;
        m->answer = !m->met;
        m->met = true;
    } else if (n.kind == WRITE) {
        m->order = n.order;
        m->ordered = true;
    }
    m->written |= n.kind == WRITTEN;
    m->over |= n.kind == END;
}

static void up_dead(void *ctx, void *cookie, int cause, const char *why)
{
    struct pw_measure *m = ctx;

    (void)cause;
    (void)why;
    m->dead |= cookie == m->cookie;
}

const struct pw_engine_upcalls pw_measure_upcalls = { .recv = up_recv, .dead = up_dead };

/* ---- either side ---- */

static bool gone(const struct pw_measure *m)
{
    return m->dead || m->stuck || !pw_endpoint_alive(m->peer);
}

static uint64_t patience(const struct pw_measure *m)
{
    return m->until_ns ? m->until_ns : pw_now_ns() + PATIENCE_NS;
}

static bool late(const struct pw_measure *m)
{
    return m->until_ns && pw_now_ns() >= m->until_ns;
}

static int tell(struct pw_measure *m, enum kind kind, const struct note *what)
{
    struct note n = *what;
    struct pw_iov iov = { &n, sizeof n };
    uint64_t end = patience(m);
    int err;

    n.kind = kind;
    while ((err = pw_endpoint_send(m->peer, m->tag, &iov, 1)) == -EAGAIN) {
        if (gone(m))
            return -EPIPE;
        if (pw_now_ns() > end)
            return -ETIMEDOUT;
        pw_engine_progress(m->engine);
    }
    return err;
}

static int tell_ready(struct pw_measure *m)
{
    struct note n = { .kind = READY };

    sched_getaffinity(0, sizeof n.ready.cpus, &n.ready.cpus);
    for (int w = 0; w < PW_WHERES && m->owner; w++) {
        n.ready.addrs[w] = (uint64_t)(uintptr_t)m->buf[w];
        n.ready.keys[w] = m->keys[w];
    }
    return tell(m, READY, &n);
}

static int until(struct pw_measure *m, const bool *what)
{
    uint64_t end = patience(m);

    for (unsigned i = 1; !*what; i++) {
        if (gone(m))
            return -EPIPE;
        pw_engine_progress(m->engine);
        if (i % 256 == 0 && pw_now_ns() > end)
            return -ETIMEDOUT;
    }
    return 0;
}

int pw_measure_open(struct pw_measure *m, bool owner)
{
    int err;

    m->owner = owner;
    m->buf[PW_IN_POOL] = pw_pool_alloc(m->pool, m->len, 0);
    m->buf[PW_ELSEWHERE] = mmap(NULL, m->len, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (m->buf[PW_ELSEWHERE] == MAP_FAILED)
        m->buf[PW_ELSEWHERE] = NULL;
    if (!m->buf[PW_IN_POOL] || !m->buf[PW_ELSEWHERE])
        return -ENOMEM;
    for (int w = 0; w < PW_WHERES; w++) {
        memset(m->buf[w], 0, m->len);   /* as malloc's that was used */
        if (!owner)
            continue;
        err = pw_engine_register(m->engine, m->buf[w], m->len, PW_READ, false, &m->keys[w]);
        if (err)
            return err;
    }
    return 0;
}

void pw_measure_close(struct pw_measure *m)
{
    for (int w = 0; w < PW_WHERES; w++)
        if (m->keys[w].id)
            pw_engine_deregister(m->engine, &m->keys[w]);
    if (m->stuck)
        return;
    if (m->buf[PW_ELSEWHERE])
        munmap(m->buf[PW_ELSEWHERE], m->len);
    if (m->buf[PW_IN_POOL])
        pw_pool_free(m->pool, m->buf[PW_IN_POOL]);
}

/* ---- the owner of the memory ---- */

static bool flush(const unsigned char *p, size_t len)
{
#ifdef __x86_64__
    for (size_t i = 0; i < len; i += 64)
        _mm_clflush(p + i);
    _mm_mfence();
    return true;
#else
    (void)p;
    (void)len;
    return false;
#endif
}

static int obey(struct pw_measure *m)
{
    const struct pw_measure_order *o = &m->order;

    m->ordered = false;
    if (o->where < PW_WHERES && o->len <= m->len) {
        memset(m->buf[o->where], (int)o->byte, o->len);
        if (o->flush)
            flush(m->buf[o->where], o->len);
    }
    return tell(m, WRITTEN, &(struct note){ 0 });
}

int pw_measure_own(struct pw_measure *m)
{
    int err = tell_ready(m);

    for (unsigned i = 1; !err && !m->over; i++) {
        pw_engine_progress(m->engine);
        if (m->answer) {
            m->answer = false;
            err = tell_ready(m);
        } else if (m->ordered) {
            err = obey(m);
        } else if (gone(m)) {
            err = -EPIPE;
        } else if (i % 256 == 0 && late(m)) {
            err = -ETIMEDOUT;
        }
    }
    return err;
}

/* ---- the side that asks ---- */

int pw_measure_meet(struct pw_measure *m)
{
    int err = tell_ready(m);

    return err ? err : until(m, &m->met);
}

void pw_measure_end(struct pw_measure *m)
{
    if (!gone(m))
        tell(m, END, &(struct note){ 0 });
}

static void get_done(void *arg, int status)
{
    *(struct pw_measure_outcome *)arg = (struct pw_measure_outcome){ true, status };
}

static int fetch(struct pw_measure *m, enum pw_measure_where remote,
                 enum pw_measure_where local, size_t len)
{
    int err;

    m->outcome = (struct pw_measure_outcome){ false, 0 };
    err = pw_endpoint_get(m->peer, m->buf[local], m->peer_addrs[remote], len,
                          &m->peer_keys[remote], get_done, &m->outcome);
    if (err != PW_NIC_PENDING)
        return err;
    err = until(m, &m->outcome.done);
    if (err)
        m->stuck = true;
    return err ? err : m->outcome.status;
}

uint64_t pw_measure_get(struct pw_measure *m, enum pw_measure_where remote,
                        enum pw_measure_where local, size_t len, bool flushed, int *err)
{
    struct note n = { .order = { remote, len, ++m->byte & 255, flushed } };
    const unsigned char *got = m->buf[local];
    uint64_t start, ns;

    m->written = false;
    *err = tell(m, WRITE, &n);
    if (!*err)
        *err = until(m, &m->written);
    if (*err)
        return 0;
    start = pw_now_ns();
    *err = fetch(m, remote, local, len);
    ns = pw_now_ns() - start;
    if (!*err && (got[0] != n.order.byte || got[len - 1] != n.order.byte))
        *err = -EBADMSG;
    return *err ? 0 : ns ? ns : 1;
}

/* Between which buffers a way goes, and the field of the statistics that grows then. A
 * stream is counted by who sends it, so here it is what nothing else was. */
static const struct {
    enum pw_measure_where remote, local;
    size_t field;
    bool grows;
} ways[] = {
    [PW_MEASURE_DIRECT] = { PW_IN_POOL, PW_ELSEWHERE,
                            offsetof(struct pw_stats, direct_bytes), true },
    [PW_MEASURE_PUSH] = { PW_ELSEWHERE, PW_IN_POOL,
                          offsetof(struct pw_stats, push_bytes), true },
    [PW_MEASURE_STREAM] = { PW_ELSEWHERE, PW_ELSEWHERE,
                            offsetof(struct pw_stats, rescued), false },
    [PW_MEASURE_KERNEL] = { PW_ELSEWHERE, PW_ELSEWHERE,
                            offsetof(struct pw_stats, kernel_bytes), true },
};

static uint64_t counted(struct pw_measure *m, size_t field)
{
    struct pw_stats stats;
    uint64_t value;

    pw_engine_stats(m->engine, &stats);
    memcpy(&value, (const char *)&stats + field, sizeof value);
    return value;
}

/* Into s what took that way; of others nothing is kept. */
static int sample(struct pw_measure *m, enum pw_measure_way way, size_t len, bool flushed,
                  const struct pw_measure_plan *plan, struct pw_samples *s)
{
    int err = 0, strays = 0;

    *s = (struct pw_samples){ .n = 0 };
    while (!err && strays < STRAYS) {
        uint64_t before = counted(m, ways[way].field), ns;

        if (pw_samples_enough(s, plan->least, plan->budget_ns)) {
            if (!plan->steady || pw_samples_steady(s))
                break;
            if (s->n == PW_SAMPLES)
                *s = (struct pw_samples){ .n = 0 };
        }
        if (late(m))
            return -ETIMEDOUT;
        ns = pw_measure_get(m, ways[way].remote, ways[way].local, len, flushed, &err);
        if (err)
            break;
        if ((counted(m, ways[way].field) != before) == ways[way].grows)
            pw_samples_add(s, ns);
        else
            strays++;
    }
    return err;
}

int pw_measure_curve(struct pw_measure *m, enum pw_measure_way way,
                     const struct pw_measure_plan *plan, struct pw_cost_curve *out)
{
    struct pw_samples s;
    int err = 0;

    memset(out, 0, sizeof *out);
    for (int i = 0; i < plan->points && !err; i++) {
        err = sample(m, way, pw_cost_len(i), false, plan, &s);
        out->ns[i] = err ? 0 : pw_samples_typical(&s);
        if (!out->ns[i]) {
            memset(out, 0, sizeof *out);
            break;
        }
    }
    return err;
}

int pw_measure_past(struct pw_measure *m, const struct pw_measure_plan *plan, uint64_t *out)
{
    enum { LEN = 16384 };
    struct pw_samples cached, flushed;
    int err;

    if (!flush(m->buf[PW_IN_POOL], 0))
        return -EOPNOTSUPP;
    err = sample(m, PW_MEASURE_DIRECT, LEN, false, plan, &cached);
    if (!err)
        err = sample(m, PW_MEASURE_DIRECT, LEN, true, plan, &flushed);
    if (err)
        return err;
    *out = pw_samples_typical(&flushed) > pw_samples_typical(&cached)
           ? pw_samples_typical(&flushed) - pw_samples_typical(&cached) : 0;
    return 0;
}

/* ---- the CPUs ---- */

bool pw_measure_has_room(const cpu_set_t *a, const cpu_set_t *b, unsigned ranks)
{
    cpu_set_t both, common;
    unsigned n;

    CPU_OR(&both, a, b);
    CPU_AND(&common, a, b);
    n = (unsigned)CPU_COUNT(&both);
    /* Apart, they have been given theirs; else all may run anywhere there. */
    return n >= 2 && (!CPU_COUNT(&common) || n >= ranks);
}
