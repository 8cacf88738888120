/* SPDX-License-Identifier: BSD-3-Clause */
/* rdm_pair.c - see rdm_pair.h. */
#include "rdm_pair.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void up_recv(void *ctx, void *peer, uint32_t imm, const void *data, size_t len)
{
    (void)peer;
    (void)imm;
    (void)data;
    (void)len;
    ((struct end *)ctx)->frames++;
}

static void up_complete(void *ctx, void *op, int status)
{
    struct end *end = ctx;

    cr_expect(op == end);
    cr_expect(eq(int, end->downs, 0));
    end->done++;
    end->status = status;
}

static void up_down(void *ctx, void *peer, int cause, const char *why)
{
    struct end *end = ctx;

    (void)peer;
    cr_expect(strlen(why) > 10);
    end->downs++;
    end->cause = cause;
    snprintf(end->why, sizeof(end->why), "%s", why);
}

static const struct pw_nic_upcalls upcalls = {
    .recv = up_recv, .complete = up_complete, .down = up_down,
};

char end_why[PW_NIC_WHY_MAX];
const char *end_device = "lo";

int end_open(struct end *end)
{
    struct pw_nic_device device = { .usable = true };
    struct pw_nic_config config = { .up = &upcalls, .ctx = end, .device = &device,
                                    .why = end_why };

    snprintf(device.name, sizeof(device.name), "%s", end_device);
    memset(end, 0, sizeof(*end));
    end_why[0] = '\0';
    return ops->open(&config, &end->nic);
}

struct end a, b;
const struct pw_nic_ops *ops;

void look(void)
{
    if (a.nic)
        ops->progress(a.nic);
    if (b.nic)
        ops->progress(b.nic);
    sched_yield();
}

void connect_to(struct end *from, struct end *to)
{
    uint8_t address[PW_NIC_ADDRESS_MAX];
    size_t len = ops->address(to->nic, address);

    cr_assert(eq(int, ops->connect(from->nic, address, len, from, &from->peer), 0));
}

void pair_open(void)
{
    cr_assert(eq(int, end_open(&a), 0));
    cr_assert(eq(int, end_open(&b), 0));
    connect_to(&a, &b);
    connect_to(&b, &a);
    SOON(ops->send_inline(a.peer, 0, "x", 1) == 0);
    SOON(b.frames == 1);
}

void pair_close(void)
{
    if (a.nic)
        ops->close(a.nic);
    if (b.nic)
        ops->close(b.nic);
    a.nic = b.nic = NULL;
}

/* ---- memory ---- */

char *source, *target;

void memory_make(void)
{
    source = malloc(BYTES);
    target = calloc(1, BYTES);
    cr_assert(source && target);
    for (int i = 0; i < BYTES; i++)
        source[i] = (char)(i * 7 + i / 1000);
}

/* What a has of its own side of it; NULL: nothing. */
static const struct pw_nic_key *own_source, *own_target;

static int ask(bool put, size_t len, const struct pw_nic_key *key)
{
    uint64_t remote = (uintptr_t)(put ? target : source);

    if (put)
        return own_source ? ops->put_own(a.peer, source, remote, len, key, own_source, &a)
                          : ops->put(a.peer, source, remote, len, key, &a);
    return own_target ? ops->get_own(a.peer, target, remote, len, key, own_target, &a)
                      : ops->get(a.peer, target, remote, len, key, &a);
}

void move(bool put, size_t len, const struct pw_nic_key *key)
{
    int err;

    memset(target, 0, BYTES);
    a.done = 0;
    SOON((err = ask(put, len, key)) != -EAGAIN);
    cr_assert(eq(int, err, PW_NIC_PENDING));
    SOON(a.done == 1);
    cr_expect(eq(int, a.status, 0));
    cr_expect(memcmp(source, target, len) == 0, "%zu bytes", len);
    cr_expect(len == BYTES || target[len] == 0);
}

void move_all_sizes(void)
{
    static const size_t sizes[] = { 1, 100, 8192, 8193, 32768, 32769, 131072, BYTES };
    enum { N = sizeof(sizes) / sizeof(*sizes) };
    struct pw_nic_key from, to, own_from, own_to;

    memory_make();
    cr_assert(eq(int, ops->pin(b.nic, source, BYTES, PW_READ, &from), 0));
    cr_assert(eq(int, ops->pin(b.nic, target, BYTES, PW_READ | PW_WRITE, &to), 0));
    cr_assert(eq(int, ops->pin(a.nic, source, BYTES, PW_READ, &own_from), 0));
    cr_assert(eq(int, ops->pin(a.nic, target, BYTES, PW_WRITE, &own_to), 0));
    for (int i = 0; i < 2 * N; i++) {
        own_source = i < N ? NULL : &own_from;
        own_target = i < N ? NULL : &own_to;
        move(true, sizes[i % N], &to);
        move(false, sizes[i % N], &from);
    }
    own_source = own_target = NULL;
    ops->unpin(a.nic, source, BYTES, &own_from);
    ops->unpin(a.nic, target, BYTES, &own_to);
    ops->unpin(b.nic, source, BYTES, &from);
    ops->unpin(b.nic, target, BYTES, &to);
}

void put_to_read_only_memory(void)
{
    struct pw_nic_key key;
    size_t sizes[] = { 10, 20000 };

    pair_open();
    memory_make();
    cr_assert(eq(int, ops->pin(b.nic, target, BYTES, PW_READ, &key), 0));
    for (int i = 0; i < 2; i++) {
        a.done = 0;
        cr_assert(eq(int, ops->put(a.peer, source, (uintptr_t)target, sizes[i], &key, &a),
                     PW_NIC_PENDING));
        SOON(a.done == 1);
        cr_expect(eq(int, a.status, -EFAULT));
        cr_expect(eq(int, target[0], 0));
    }
    pair_close();
}

void get_unpinned(size_t len)
{
    struct pw_nic_key key;

    pair_open();
    memory_make();
    cr_assert(eq(int, ops->pin(b.nic, source, BYTES, PW_READ, &key), 0));
    ops->unpin(b.nic, source, BYTES, &key);
    cr_assert(eq(int, ops->get(a.peer, target, (uintptr_t)source, len, &key, &a),
                 PW_NIC_PENDING));
}

static size_t hello_bytes(const struct rdm_hello *hello)
{
    return offsetof(struct rdm_hello, from.name) + hello->from.name_len;
}

/* hello: with its magic, and nothing that a stranger would not know. */
void strangers(struct rdm_hello *hello)
{
    struct rdm_nic *nic;
    uint8_t noise[1024];
    unsigned calls = 0;

    pair_open();
    nic = (struct rdm_nic *)b.nic;
    hello->from = ((struct rdm_nic *)a.nic)->address;
    rdm_lock(&nic->guard);
    srand(7);
    for (int i = 0; i < 2000; i++, calls++) {
        for (size_t k = 0; k < sizeof(noise); k++)
            noise[k] = (uint8_t)rand();
        rdm_hello_heard(nic, noise, (size_t)rand() % sizeof(noise));
    }
    rdm_hello_heard(nic, hello, hello_bytes(hello));        /* the secret is missing */
    memcpy(hello->secret, nic->address.secret, RDM_ID);
    hello->from.job++;
    rdm_hello_heard(nic, hello, hello_bytes(hello));        /* another job's */
    hello->from.job--;
    hello->from.name_len = 255;
    rdm_hello_heard(nic, hello, hello_bytes(hello));
    calls += 3;
    cr_expect(eq(int, (int)nic->n_peers, 1));
    rdm_unlock(&nic->guard);
    cr_expect(eq(int, (int)__atomic_load_n(&b.nic->counts.strangers, __ATOMIC_RELAXED),
                 (int)calls));
    SOON(ops->send_inline(a.peer, 0, "x", 1) == 0);
    SOON(b.frames == 2);
    cr_expect(eq(int, b.downs, 0));
    pair_close();
}

/* ---- time ---- */

static struct rdm_peer *peer_of(struct end *end)
{
    return (struct rdm_peer *)end->peer;
}

/* As a process that was not scheduled: when it goes on it hears of its peer first, and looks
 * at the clock then. */
void stopped_for_long(void)
{
    struct rdm_nic *nic;
    uint64_t now;

    pair_open();
    nic = (struct rdm_nic *)a.nic;
    rdm_lock(&nic->guard);
    now = rdm_ms(pw_now_ns());
    peer_of(&a)->heard_ms = peer_of(&a)->early_ms = now;
    nic->tick_ms = now - 5000;
    rdm_tick(nic, now);
    cr_expect(eq(int, peer_of(&a)->state, RDM_UP), "%s", peer_of(&a)->why);
    rdm_unlock(&nic->guard);
    SOON(ops->send_inline(a.peer, 0, "x", 1) == 0);
    SOON(b.frames == 2);
    cr_expect(eq(int, a.downs, 0));
    pair_close();
}

/* Who is connected to late has its time from then on. */
void called_for_long(void)
{
    struct rdm_nic *nic;

    cr_assert(eq(int, end_open(&a), 0));
    cr_assert(eq(int, end_open(&b), 0));
    nic = (struct rdm_nic *)b.nic;
    connect_to(&a, &b);
    SOON(__atomic_load_n(&nic->n_peers, __ATOMIC_RELAXED) == 1);
    rdm_lock(&nic->guard);
    nic->peers->begun_ms -= 10 * nic->timeout_ms;
    nic->peers->state = RDM_CALLING;    /* what it has said last is on its way */
    rdm_unlock(&nic->guard);
    connect_to(&b, &a);
    rdm_lock(&nic->guard);
    rdm_tick(nic, rdm_ms(pw_now_ns()));
    rdm_unlock(&nic->guard);
    SOON(ops->send_inline(a.peer, 0, "x", 1) == 0);
    SOON(b.frames == 1);
    cr_expect(eq(int, b.downs, 0));
    pair_close();
}

/* Number 0 is that of no operation. */
void numbers_wrap(void)
{
    struct rdm_nic *nic;

    pair_open();
    nic = (struct rdm_nic *)a.nic;
    rdm_lock(&nic->guard);
    nic->ids = UINT32_MAX;
    rdm_unlock(&nic->guard);
    move_all_sizes();
    pair_close();
}

void fill(struct end *from)
{
    struct rdm_nic *nic = (struct rdm_nic *)from->nic;
    uint32_t unread;

    do {
        ops->send_inline(from->peer, 0, "x", 1);
        ops->progress(from->nic);
        rdm_lock(&nic->guard);
        unread = peer_of(from)->sent - peer_of(from)->acked;
        rdm_unlock(&nic->guard);
        sched_yield();
    } while (unread < RDM_WINDOW);
}
