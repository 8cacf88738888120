/* SPDX-License-Identifier: BSD-3-Clause */
/* rig.c - see rig.h. Upcalls land in up_recv, up_complete and up_down, which
 * check what no case needs to check again: cookies, contexts, completions that
 * come twice, frames after down.
 */
#include "rig.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static _Thread_local struct rig *rigs;
static _Thread_local bool in_progress;

/* ---- upcalls ---- */

static void up_recv(void *ctx, void *peer, uint32_t imm, const void *data, size_t len)
{
    struct conn *conn = peer;

    REQUIRE(conn && conn->rig == ctx);
    conn->rig->upcalls++;
    CHECK(conn->peer);
    CHECK_EQ(conn->downs, 0);
    CHECK_EQ(conn->ups, rig_answers(conn->rig));
    CHECK(len == 0 || data);
    conn->recv(conn, imm, data, len);
    conn->frames++;
}

static void up_complete(void *ctx, void *cookie, int status)
{
    struct rig *rig = ctx;
    struct op *op = cookie;

    rig->upcalls++;
    REQUIRE(op && op->conn->rig == rig);
    CHECK_EQ(op->conn->downs, 0);
    CHECK(status <= 0);
    op->status = status;
    if (op->posted) {
        CHECK_EQ(op->done, 0);
        if (!op->done) {
            op->conn->posted--;
            *(op->prev ? &op->prev->next : &rig->posted) = op->next;
            if (op->next)
                op->next->prev = op->prev;
            op->next = rig->finished;
            rig->finished = op;
        }
        op->done = 1;
    } else {
        /* Who waits for it may be another thread. */
        CHECK_EQ(__atomic_exchange_n(&op->done, 1, __ATOMIC_ACQ_REL), 0);
    }
}

static void up_down(void *ctx, void *peer, int cause, const char *why)
{
    struct conn *conn = peer;

    REQUIRE(conn && conn->rig == ctx);
    conn->rig->upcalls++;
    CHECK(conn->peer);
    CHECK(why && *why && strlen(why) < PW_NIC_WHY_MAX);
    CHECK_EQ(conn->posted, 0);
    conn->cause = cause;
    CHECK_EQ(++conn->downs, 1);
}

static void up_up(void *ctx, void *peer)
{
    struct conn *conn = peer;

    REQUIRE(conn && conn->rig == ctx);
    conn->rig->upcalls++;
    CHECK(conn->peer);
    CHECK_EQ(conn->downs, 0);
    CHECK_EQ(++conn->ups, 1);
}

/* Not counted, see progress in nic.h. */
static void up_caller(void *ctx, struct pw_nic *nic, const void *address, size_t len)
{
    struct rig *rig = ctx;

    REQUIRE(nic == rig->nic && address && len > 0 && len <= sizeof rig->caller);
    memcpy(rig->caller, address, len);
    rig->caller_len = len;
    rig->callers++;
    if (rig->on_caller)
        rig->on_caller(rig);
}

/* ---- regions ---- */

struct region {
    struct region *next;
    uint64_t number, base, len;
    unsigned access, lent;
};

static struct region **region_at(struct rig *rig, uint64_t number)
{
    struct region **at = &rig->regions;

    while (*at && (*at)->number != number)
        at = &(*at)->next;
    return at;
}

/* Neither counted, and by any thread. */
static int up_borrow(void *ctx, uint64_t number, uint64_t addr, size_t len, unsigned access)
{
    struct rig *rig = ctx;
    struct region *r;
    bool ok;

    pthread_mutex_lock(&rig->lock);
    r = *region_at(rig, number);
    ok = r && (r->access & access) == access && addr - r->base <= r->len &&
         len <= r->len - (addr - r->base);
    if (ok) {
        r->lent++;
        rig->lent++;
    }
    pthread_mutex_unlock(&rig->lock);
    return ok ? 0 : -EACCES;
}

static void up_give_back(void *ctx, uint64_t number)
{
    struct rig *rig = ctx;
    struct region *r;

    pthread_mutex_lock(&rig->lock);
    r = *region_at(rig, number);
    if (CHECK(r && r->lent > 0)) {
        r->lent--;
        rig->lent--;
    }
    pthread_mutex_unlock(&rig->lock);
}

int rig_pin(struct rig *rig, void *addr, size_t len, unsigned access,
            struct pw_nic_key *key)
{
    struct region *r;
    int err = rig->nic->ops->pin(rig->nic, addr, len, access, key);

    if (err || !(rig->nic->info.flags & PW_NIC_REGIONS))
        return err;
    r = calloc(1, sizeof *r);
    REQUIRE(r != NULL);
    *r = (struct region){ .base = (uintptr_t)addr, .len = len, .access = access };
    pthread_mutex_lock(&rig->lock);
    r->number = ++rig->last_region;
    r->next = rig->regions;
    rig->regions = r;
    pthread_mutex_unlock(&rig->lock);
    memset(key, 0, sizeof *key);
    memcpy(key->bytes, &r->number, sizeof r->number);
    return 0;
}

void rig_unpin(struct rig *rig, void *addr, size_t len, const struct pw_nic_key *key)
{
    bool lent = true;

    while (rig->nic->info.flags & PW_NIC_REGIONS && lent) {
        struct region **at, *r;
        uint64_t number;

        memcpy(&number, key->bytes, sizeof number);
        pthread_mutex_lock(&rig->lock);
        at = region_at(rig, number);
        r = *at;
        REQUIRE(r != NULL);
        lent = r->lent;         /* soon it is not */
        if (!lent) {
            *at = r->next;
            free(r);
        }
        pthread_mutex_unlock(&rig->lock);
        sched_yield();
    }
    rig->nic->ops->unpin(rig->nic, addr, len, key);
}

static const struct pw_nic_upcalls upcalls = {
    .recv = up_recv, .complete = up_complete, .down = up_down, .caller = up_caller,
    .up = up_up, .borrow = up_borrow, .give_back = up_give_back,
};

bool rig_answers(const struct rig *rig)
{
    return rig->nic->info.flags & PW_NIC_ANSWERS;
}

/* ---- rigs ---- */

void rig_config(const struct rig *rig, const struct rig_options *options,
                struct pw_nic_config *out)
{
    memset(out, 0, sizeof *out);
    out->pool = rig->pool;
    out->up = &upcalls;
    out->ctx = (void *)(uintptr_t)rig;
    out->job = options->job;
    out->threads = options->threads;
    out->local_peers = 4;
    out->queue_bytes = options->queue_bytes;
    out->kernel_copy = !options->no_kernel_copy;
    out->distrust = rig->subject->distrust;
    out->attach = true;
    out->device = rig->subject->device ? &rig->device : NULL;
    out->peer_timeout_ms = 4 * suite_patience_ms;   /* nobody is silent that long */
}

static void device_find(struct rig *rig)
{
    struct pw_nic_device *all = calloc(64, sizeof *all);
    int n = rig->subject->ops->devices(all, 64);

    for (int i = 0; i < n && i < 64; i++)
        if (!strcmp(all[i].name, rig->subject->device))
            rig->device = all[i];
    free(all);
    if (!rig->device.name[0])
        case_skip("there is no device %s", rig->subject->device);
}

void rig_open(struct rig *rig, const struct subject *subject,
              const struct rig_options *options)
{
    static const struct rig_options none;
    struct pw_pool_config pool = { .pages = PW_PAGES_4K, .sharers = 1 };
    struct pw_nic_config config;

    if (!options)
        options = &none;
    memset(rig, 0, sizeof *rig);
    rig->subject = subject;
    pthread_mutex_init(&rig->lock, NULL);
    if (subject->device)
        device_find(rig);
    pool.size = options->pool_bytes ? options->pool_bytes : (size_t)32 << 20;
    REQUIRE_EQ(pw_pool_open(&pool, &rig->pool), 0);
    rig_config(rig, options, &config);
    REQUIRE_EQ(subject->ops->open(&config, &rig->nic), 0);
    REQUIRE(rig->nic && rig->nic->ops == subject->ops);
    rig->address_len = subject->ops->address(rig->nic, rig->address);
    REQUIRE(rig->address_len > 0 && rig->address_len <= PW_NIC_ADDRESS_MAX);
    rig->next = rigs;
    rigs = rig;
}

static void ops_free(struct op *op)
{
    while (op) {
        struct op *next = op->next;

        free(op);
        op = next;
    }
}

void rig_close(struct rig *rig)
{
    struct rig **at = &rigs;

    rig->subject->ops->close(rig->nic);
    CHECK_EQ(rig->lent, 0);
    while (rig->regions) {
        struct region *r = rig->regions;

        rig->regions = r->next;
        free(r);
    }
    pthread_mutex_destroy(&rig->lock);
    pw_pool_close(rig->pool);
    ops_free(rig->posted);
    ops_free(rig->finished);
    while (*at && *at != rig)
        at = &(*at)->next;
    REQUIRE(*at != NULL);
    *at = rig->next;
}

static size_t size_none(const struct conn *conn, uint32_t seq)
{
    (void)conn;
    (void)seq;
    return 0;
}

void rig_connect(struct rig *rig, struct conn *conn, const void *address, size_t len)
{
    rig_connect_like(rig, conn, address, len, &(struct conn){ .arg = NULL });
}

void rig_connect_like(struct rig *rig, struct conn *conn, const void *address,
                      size_t len, const struct conn *like)
{
    *conn = *like;
    conn->rig = rig;
    if (!conn->recv)
        conn->recv = conn_recv_sequence;
    if (!conn->size)
        conn->size = size_none;
    REQUIRE(rig->nic->ops->reachable(rig->nic, address, len));
    REQUIRE_EQ(rig->nic->ops->connect(rig->nic, address, len, conn, &conn->peer), 0);
    REQUIRE(conn->peer && conn->peer->nic == rig->nic);
}

void conn_disconnect(struct conn *conn)
{
    conn->rig->nic->ops->disconnect(conn->peer);
    conn->peer = NULL;      /* an upcall for it is a failed check from here on */
}

void conn_await_up(struct conn *conn)
{
    struct deadline d = deadline_patient();

    REQUIRE(!in_progress || !rig_answers(conn->rig) || conn->ups);
    while (rig_answers(conn->rig) && !conn->ups && !conn->downs)
        REQUIRE(pump_before(&d));
}

int pump(void)
{
    int made = 0;

    for (struct rig *rig = rigs; rig; rig = rig->next) {
        int n;

        if (rig->elsewhere)
            continue;
        ops_free(rig->finished);
        rig->finished = NULL;
        rig->upcalls = 0;
        in_progress = true;
        n = rig->nic->ops->progress(rig->nic);
        in_progress = false;
        /* And what of puts and gets makes none. */
        CHECK(n >= (int)rig->upcalls);
        made += n;
    }
    if (!made)
        sched_yield();
    return made;
}

/* ---- time ---- */

uint64_t clock_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

struct deadline deadline_in(unsigned ms)
{
    return (struct deadline){ clock_ns() + (uint64_t)ms * 1000000u };
}

struct deadline deadline_patient(void)
{
    return deadline_in(suite_patience_ms);
}

bool deadline_over(const struct deadline *d)
{
    return clock_ns() > d->ns;
}

bool pump_before(const struct deadline *d)
{
    if (deadline_over(d))
        return false;
    pump();
    return true;
}

/* A failed check ends the case: what follows would wait for it again. */
void conn_await_frames(struct conn *conn, uint64_t frames)
{
    struct deadline d = deadline_patient();

    while (conn->frames < frames && pump_before(&d))
        ;
    REQUIRE_EQ(conn->frames, frames);
}

void conn_await_down(struct conn *conn, int cause)
{
    struct deadline d = deadline_patient();

    while (!conn->downs && pump_before(&d))
        ;
    REQUIRE_EQ(conn->downs, 1);
    CHECK_EQ(conn->cause, cause);
}

/* ---- contents ---- */

uint32_t mix(uint32_t x)
{
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ x >> 16;
}

static uint64_t frame_word(uint64_t seed, size_t i)
{
    uint64_t x = seed * 0x9e3779b97f4a7c15u + (i + 1) * 0x2545f4914f6cdd1du;

    return x ^ x >> 29;
}

void frame_fill(void *data, size_t len, uint64_t seed)
{
    uint64_t word;
    size_t i = 0;

    for (; i + 8 <= len; i += 8) {
        word = frame_word(seed, i / 8);
        memcpy((char *)data + i, &word, 8);
    }
    word = frame_word(seed, i / 8);
    if (i < len)
        memcpy((char *)data + i, &word, len - i);
}

bool frame_is(const void *data, size_t len, uint64_t seed)
{
    uint64_t word, there, wrong = 0;
    size_t i = 0;

    for (; i + 8 <= len; i += 8) {
        memcpy(&there, (const char *)data + i, 8);
        wrong |= there ^ frame_word(seed, i / 8);
    }
    word = frame_word(seed, i / 8);
    return !wrong && (i == len || !memcmp((const char *)data + i, &word, len - i));
}

uint64_t sequence_seed(uint32_t tag, uint32_t seq)
{
    return (uint64_t)tag << 32 | seq;
}

void conn_recv_sequence(struct conn *conn, uint32_t imm, const void *data, size_t len)
{
    uint32_t seq = (uint32_t)conn->frames;

    CHECK_EQ(imm, seq);
    CHECK_EQ(len, conn->size(conn, seq));
    CHECK(frame_is(data, len, sequence_seed(conn->tag_in, imm)));
}

/* ---- sending ---- */

static int op_wait(struct op *op, int err, const struct deadline *d)
{
    if (err != PW_NIC_PENDING)
        return err;
    while (!__atomic_load_n(&op->done, __ATOMIC_ACQUIRE))
        REQUIRE(pump_before(d));
    return op->status;
}

int send_now(struct conn *conn, uint32_t imm, const struct pw_iov *iov, int n)
{
    struct deadline d = deadline_patient();
    struct op op = { .conn = conn };
    int err;

    while ((err = conn->rig->nic->ops->send(conn->peer, imm, iov, n, &op)) == -EAGAIN)
        REQUIRE(pump_before(&d));
    return op_wait(&op, err, &d);
}

int inline_now(struct conn *conn, uint32_t imm, const void *data, size_t len)
{
    struct deadline d = deadline_patient();
    int err;

    while ((err = conn->rig->nic->ops->send_inline(conn->peer, imm, data, len)) ==
           -EAGAIN)
        REQUIRE(pump_before(&d));
    CHECK(err <= 0);
    return err;
}

int conn_post(struct conn *conn, uint32_t imm, const void *data, size_t len)
{
    struct rig *rig = conn->rig;
    struct op *op = malloc(sizeof *op + len);
    struct pw_iov iov;
    int err;

    conn_await_up(conn);
    REQUIRE(op != NULL);
    memset(op, 0, sizeof *op);
    op->conn = conn;
    op->posted = true;
    if (len)
        memcpy(op->data, data, len);
    iov = (struct pw_iov){ op->data, len };
    err = rig->nic->ops->send(conn->peer, imm, &iov, 1, op);
    if (err != PW_NIC_PENDING) {
        free(op);
        return err;
    }
    op->next = rig->posted;
    if (op->next)
        op->next->prev = op;
    rig->posted = op;
    conn->posted++;
    return 0;
}

static bool sequence_inline(const struct conn *conn, uint32_t seq, size_t len)
{
    return len <= conn->rig->nic->info.inline_max && mix(seq ^ 0x5bd1u) % 2;
}

static uint8_t *sequence_data(const struct conn *conn, uint32_t seq, size_t len)
{
    uint8_t *data = malloc(len + 1);

    REQUIRE(data != NULL);
    frame_fill(data, len, sequence_seed(conn->tag_out, seq));
    return data;
}

int conn_send_sequence(struct conn *conn, uint32_t seq)
{
    size_t len = conn->size(conn, seq);
    uint8_t *data = sequence_data(conn, seq, len);
    struct pw_iov iov = { data, len };
    int err;

    err = sequence_inline(conn, seq, len) ? inline_now(conn, seq, data, len)
                                          : send_now(conn, seq, &iov, 1);
    free(data);
    return err;
}

int conn_post_sequence(struct conn *conn, uint32_t seq)
{
    size_t len = conn->size(conn, seq);
    uint8_t *data = sequence_data(conn, seq, len);
    int err;

    conn_await_up(conn);
    err = sequence_inline(conn, seq, len)
        ? conn->rig->nic->ops->send_inline(conn->peer, seq, data, len)
        : conn_post(conn, seq, data, len);
    free(data);
    return err;
}

int put_now(struct conn *conn, const void *local, uint64_t remote, size_t len,
            const struct pw_nic_key *key)
{
    struct deadline d = deadline_patient();
    struct op op = { .conn = conn };
    int err;

    while ((err = conn->rig->nic->ops->put(conn->peer, local, remote, len, key, &op)) ==
           -EAGAIN)
        REQUIRE(pump_before(&d));
    return op_wait(&op, err, &d);
}

int get_now(struct conn *conn, void *local, uint64_t remote, size_t len,
            const struct pw_nic_key *key)
{
    struct deadline d = deadline_patient();
    struct op op = { .conn = conn };
    int err;

    while ((err = conn->rig->nic->ops->get(conn->peer, local, remote, len, key, &op)) ==
           -EAGAIN)
        REQUIRE(pump_before(&d));
    return op_wait(&op, err, &d);
}

int put_own_now(struct conn *conn, const void *local, uint64_t remote, size_t len,
                const struct pw_nic_key *key, const struct pw_nic_key *own)
{
    const struct pw_nic_ops *ops = conn->rig->nic->ops;
    struct deadline d = deadline_patient();
    struct op op = { .conn = conn };
    int err;

    while ((err = ops->put_own(conn->peer, local, remote, len, key, own, &op)) == -EAGAIN)
        REQUIRE(pump_before(&d));
    return op_wait(&op, err, &d);
}

int get_own_now(struct conn *conn, void *local, uint64_t remote, size_t len,
                const struct pw_nic_key *key, const struct pw_nic_key *own)
{
    const struct pw_nic_ops *ops = conn->rig->nic->ops;
    struct deadline d = deadline_patient();
    struct op op = { .conn = conn };
    int err;

    while ((err = ops->get_own(conn->peer, local, remote, len, key, own, &op)) == -EAGAIN)
        REQUIRE(pump_before(&d));
    return op_wait(&op, err, &d);
}

int atomic_now(struct conn *conn, const struct pw_atomic *what, uint64_t remote,
               uint64_t *result, const struct pw_nic_key *key)
{
    const struct pw_nic_ops *ops = conn->rig->nic->ops;
    struct deadline d = deadline_patient();
    struct op op = { .conn = conn };
    int err;

    while ((err = ops->atomic(conn->peer, what, remote, result, key, &op)) == -EAGAIN)
        REQUIRE(pump_before(&d));
    return op_wait(&op, err, &d);
}

/* ---- pairs ---- */

void pair_open(struct pair *p, const struct subject *subject,
               const struct rig_options *options)
{
    rig_open(&p->a, subject, options);
    rig_open(&p->b, subject, options);
    rig_connect(&p->a, &p->ab, p->b.address, p->b.address_len);
    rig_connect(&p->b, &p->ba, p->a.address, p->a.address_len);
    conn_await_up(&p->ab);
    conn_await_up(&p->ba);
}

void pair_close(struct pair *p)
{
    rig_close(&p->a);
    rig_close(&p->b);
}

/* ---- windows ---- */

void window_open(struct window *w, struct rig *rig, size_t len, bool pooled)
{
    w->rig = rig;
    w->len = len;
    w->pooled = pooled;
    w->mem = pooled ? pw_pool_alloc(rig->pool, len, 64)
                    : aligned_alloc(4096, (len + 4095) / 4096 * 4096);
    REQUIRE(w->mem != NULL);
    memset(w->mem, 0, len);
    REQUIRE_EQ(rig_pin(rig, w->mem, len, PW_READ | PW_WRITE | PW_ATOMIC, &w->key), 0);
}

void window_close(struct window *w)
{
    rig_unpin(w->rig, w->mem, w->len, &w->key);
    if (w->pooled)
        CHECK_EQ(pw_pool_free(w->rig->pool, w->mem), 0);
    else
        free(w->mem);
}

struct window_name window_name(const struct window *w)
{
    return (struct window_name){ (uintptr_t)w->mem, w->len, w->key };
}

enum pw_reach reach_soon(struct conn *conn, const struct window_name *w)
{
    const struct pw_nic_ops *ops = conn->rig->nic->ops;
    struct deadline soon = deadline_in(500), late = deadline_patient();
    unsigned turns = 0;
    enum pw_reach reach;

    /* Half a second; on a busy machine as many turns as that would be. */
    while ((reach = ops->reach(conn->peer, w->addr, w->len, &w->key)) == PW_REACH_NONE &&
           (turns++ < 5000 || !deadline_over(&soon)) && pump_before(&late))
        ;
    return reach;
}
