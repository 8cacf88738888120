/* SPDX-License-Identifier: BSD-3-Clause */
/* hostile.c - a peer that writes into shared memory what no peer of ours writes.
 *
 * Three shm NICs in one process: ours, an honest one, and a liar. The liar's lies are
 * written by hand through its own mappings, as its process could. Whatever they are:
 * it is reported, once, by a sentence; nothing breaks; the honest one notices nothing.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "btl/nic/shm.h"
#include "tests/unit/draw.h"

extern const struct pw_nic_ops pw_nic_shm;

struct side;

struct link {
    struct side *side;
    struct pw_nic_peer *peer;
    void (*recv)(struct link *l, uint32_t imm, const void *data, size_t len);
    void *arg;
    uint32_t sent, frames;
    unsigned downs;
    int cause;
    char why[PW_NIC_WHY_MAX];
};

struct side {
    struct pw_pool *pool;
    struct pw_nic *nic;
    uint8_t address[PW_NIC_ADDRESS_MAX];
    size_t address_len;
};

static void up_recv(void *ctx, void *peer, uint32_t imm, const void *data, size_t len)
{
    struct link *l = peer;

    (void)ctx;
    cr_assert(eq(uint, l->downs, 0), "a frame after the end");
    if (l->recv)
        l->recv(l, imm, data, len);
    l->frames++;
}

static void up_complete(void *ctx, void *op, int status)
{
    (void)ctx;
    (void)op;
    cr_assert(eq(int, status, 1), "none is ever pending");
}

static void up_down(void *ctx, void *peer, int cause, const char *why)
{
    struct link *l = peer;

    (void)ctx;
    cr_assert(eq(uint, l->downs++, 0), "twice");
    l->cause = cause;
    snprintf(l->why, sizeof l->why, "%s", why);
}

static const struct pw_nic_upcalls up = { .recv = up_recv, .complete = up_complete,
                                            .down = up_down };

static void side_open(struct side *s, bool distrust)
{
    struct pw_pool_config pc = { .size = (size_t)16 << 20, .pages = PW_PAGES_4K };
    struct pw_nic_config nc = { .up = &up, .local_peers = 2, .queue_bytes = 65536,
                                .distrust = distrust };

    cr_assert(eq(int, pw_pool_open(&pc, &s->pool), 0));
    nc.pool = s->pool;
    cr_assert(eq(int, pw_nic_shm.open(&nc, &s->nic), 0));
    s->address_len = pw_nic_shm.address(s->nic, s->address);
}

static void side_close(struct side *s)
{
    pw_nic_shm.close(s->nic);
    pw_pool_close(s->pool);
}

static struct shm_peer *inner(struct link *l)
{
    return (struct shm_peer *)l->peer;
}

/* From one side to another and back; done when each can read the other's queue. */
static void link_open(struct link *a, struct side *sa, struct link *b, struct side *sb)
{
    *a = (struct link){ .side = sa };
    *b = (struct link){ .side = sb };
    cr_assert(eq(int, pw_nic_shm.connect(sa->nic, sb->address, sb->address_len, a,
                                         &a->peer), 0));
    cr_assert(eq(int, pw_nic_shm.connect(sb->nic, sa->address, sa->address_len, b,
                                         &b->peer), 0));
    while (!inner(a)->heard || !inner(b)->heard) {
        pw_nic_shm.progress(sa->nic);
        pw_nic_shm.progress(sb->nic);
    }
}

static void link_close(struct link *l)
{
    pw_nic_shm.disconnect(l->peer);
    l->peer = NULL;
}

static int send(struct link *l, size_t len)
{
    static const char bytes[65536];
    struct pw_iov iov = { bytes, len };
    int err = pw_nic_shm.send(l->peer, l->sent, &iov, 1, NULL);

    l->sent += !err;
    return err;
}

/* ---- three of them ---- */

struct three {
    struct side me, honest, liar;
    struct link to_honest, from_honest;     /* our end, and its end */
    struct link to_liar, from_liar;
};

static void three_open(struct three *t, bool distrust)
{
    side_open(&t->me, distrust);
    side_open(&t->honest, distrust);
    side_open(&t->liar, false);
    link_open(&t->to_honest, &t->me, &t->from_honest, &t->honest);
    link_open(&t->to_liar, &t->me, &t->from_liar, &t->liar);
}

static void three_close(struct three *t)
{
    side_close(&t->liar);
    side_close(&t->honest);
    side_close(&t->me);
}

static void turns(struct three *t, int n)
{
    for (; n; n--) {
        pw_nic_shm.progress(t->me.nic);
        pw_nic_shm.progress(t->honest.nic);
    }
}

static void honest_ones_are_heard(struct three *t)
{
    uint32_t here = t->to_honest.frames, there = t->from_honest.frames;

    for (int i = 0; i < 10; i++) {
        cr_assert(eq(int, send(&t->to_honest, 100), 0));
        cr_assert(eq(int, send(&t->from_honest, 5000), 0));
    }
    turns(t, 100);
    cr_expect(eq(u32, t->to_honest.frames, here + 10));
    cr_expect(eq(u32, t->from_honest.frames, there + 10));
    cr_expect(eq(uint, t->to_honest.downs + t->from_honest.downs, 0));
}

static void liar_is_reported(struct three *t, const char *with)
{
    struct pw_nic_peer *peer = t->to_liar.peer;
    char pid[32];
    uint64_t word = 0, at = (uintptr_t)pw_pool_base(t->liar.pool);

    turns(t, 9000);
    snprintf(pid, sizeof pid, "process %d ", (int)getpid());
    cr_expect(eq(uint, t->to_liar.downs, 1));
    cr_expect(eq(int, t->to_liar.cause, -EPROTO));
    cr_expect(ne(ptr, strstr(t->to_liar.why, pid), NULL), "%s", t->to_liar.why);
    cr_expect(ne(ptr, strstr(t->to_liar.why, with), NULL), "%s", t->to_liar.why);
    cr_expect(eq(int, send(&t->to_liar, 1), -EPIPE));
    cr_expect(eq(int, pw_nic_shm.get(peer, &word, at, sizeof word, NULL, NULL), -EPIPE));
    cr_expect(eq(int, pw_nic_shm.put(peer, &word, at, sizeof word, NULL, NULL), -EPIPE));
    honest_ones_are_heard(t);
}

static void put_word(struct shm_tx *tx, uint64_t at, uint64_t word, uint64_t place)
{
    uint64_t *w = shm_word(tx->ring, tx->in_ring.size, at);

    w[1] = place;
    __atomic_store_n(w, word, __ATOMIC_RELEASE);
}

/* What the liar writes where its next frame would be. */
static const struct lie {
    const char *what;
    uint64_t word, place;
} lies[] = {
    { "no length", (uint64_t)1 << 32, 0 },
    { "longer than any in the ring", SHM_STOW_MIN + 1, 0 },
    { "longer than the ring", 100000, 0 },
    { "the longest", 0x7fffffff, 0 },
    { "stowed, without a length", SHM_STOWED, 0 },
    { "stowed, longer than any", SHM_STOWED | (65536 / 4 + 1), 0 },
    { "stowed, the longest", SHM_STOWED | 0x7ffffffe, 0 },
    { "stowed beyond the stow", SHM_STOWED | 101, 65536 - 99 },
    { "stowed a lap ahead", SHM_STOWED | 2, 65536 },
    { "stowed nowhere", SHM_STOWED | 2, UINT64_MAX },
    { "a wrap to what is not there", SHM_WRAP, 0 },
};

static void lies_are_reported(bool distrust)
{
    for (unsigned i = 0; i < sizeof lies / sizeof *lies; i++) {
        struct three t;

        three_open(&t, distrust);
        turns(&t, 10);
        put_word(&inner(&t.from_liar)->tx, 0, lies[i].word, lies[i].place);
        liar_is_reported(&t, "can be no frame");
        cr_expect(eq(u32, t.to_liar.frames, 0), "%s", lies[i].what);
        three_close(&t);
    }
}

Test(hostile, a_lie_in_the_queue_is_reported_and_others_go_on)
{
    lies_are_reported(false);
}

Test(hostile, the_same_where_nobody_is_trusted)
{
    lies_are_reported(true);
}

/* It reads nothing, and says that it has read what was never sent. */
static void claims_are_reported(bool distrust, size_t len, bool stow)
{
    struct shm_ring *ring;
    struct three t;

    three_open(&t, distrust);
    while (!send(&t.to_liar, len))
        ;
    ring = inner(&t.from_liar)->rx.ring;
    __atomic_store_n(stow ? &ring->stow_head : &ring->head, (uint64_t)1 << 40,
                     __ATOMIC_RELEASE);
    cr_expect(eq(int, send(&t.to_liar, len), -EPIPE));
    liar_is_reported(&t, "claims to have read");
    three_close(&t);
}

Test(hostile, who_claims_to_have_read_what_was_not_sent_is_reported)
{
    for (int i = 0; i < 4; i++)
        claims_are_reported(i & 1, i & 2 ? 5000 : 40, i & 2);
}

/* Its goodbye came first; but what it left behind is no frame. */
Test(hostile, a_lie_left_behind_is_no_good_order)
{
    struct shm_tx *tx;
    struct three t;

    three_open(&t, false);
    for (int i = 0; i < 50; i++)
        cr_assert(eq(int, send(&t.from_liar, 8), 0));
    tx = &inner(&t.from_liar)->tx;
    put_word(tx, tx->in_ring.tail, 0x7fffffff, 0);
    link_close(&t.from_liar);
    pw_nic_shm.wait(t.me.nic, 0);       /* then the sockets are looked at next */
    pw_nic_shm.progress(t.me.nic);
    cr_expect(eq(int, inner(&t.to_liar)->state, SHM_LEAVING));
    liar_is_reported(&t, "can be no frame");
    cr_expect(eq(u32, t.to_liar.frames, 50));
    three_close(&t);
}

/* More of them than are read at a look. */
Test(hostile, a_hundred_goodbyes_are_one)
{
    struct three t;
    unsigned said = 0;
    int fd;

    three_open(&t, false);
    fd = inner(&t.from_liar)->out_fd;
    while (write(fd, "b", 1) == 1 && said < 100000)
        said++;
    cr_expect(lt(uint, 64, said));
    turns(&t, 9000);
    cr_expect(eq(uint, t.to_liar.downs, 1));
    cr_expect(eq(int, t.to_liar.cause, 0));
    honest_ones_are_heard(&t);
    three_close(&t);
}

/* ---- the bytes of a frame ---- */

struct glance {
    struct shm_tx *tx;      /* the liar's */
    struct shm_peer *peer;  /* the liar, as we see it */
    unsigned changed, shared;
};

static void change_while_looked_at(struct link *l, uint32_t imm, const void *data,
                                   size_t len)
{
    struct glance *g = l->arg;
    volatile const unsigned char *byte = data;
    unsigned char was = byte[len / 2];

    (void)imm;
    memset(g->tx->stow, 0xff, g->tx->in_stow.size);
    memset(g->tx->ring->data + SHM_WORD, 0xff, SHM_LINE - SHM_WORD);
    g->changed += byte[len / 2] != was;
    g->shared += (const char *)data >= g->peer->base &&
                 (const char *)data < g->peer->base + g->peer->remote_size;
}

static void glance_at(bool distrust, size_t len)
{
    struct glance g = { 0 };
    struct three t;

    three_open(&t, distrust);
    g.tx = &inner(&t.from_liar)->tx;
    g.peer = inner(&t.to_liar);
    t.to_liar.arg = &g;
    t.to_liar.recv = change_while_looked_at;
    cr_assert(eq(int, send(&t.from_liar, len), 0));
    turns(&t, 100);
    cr_expect(eq(u32, t.to_liar.frames, 1));
    cr_expect(eq(uint, g.changed, !distrust), "%zu bytes", len);
    cr_expect(eq(uint, g.shared, !distrust));
    honest_ones_are_heard(&t);
    three_close(&t);
}

Test(hostile, bytes_that_change_are_seen_where_peers_are_trusted)
{
    glance_at(false, 40);
    glance_at(false, 5000);
}

Test(hostile, nobody_can_change_what_one_sees_who_trusts_nobody)
{
    glance_at(true, 40);
    glance_at(true, 5000);
    glance_at(true, shm_frame_max(65536));
}

/* ---- at random, from a thread, while frames go both ways ---- */

enum { ROUNDS = 60, WILD_ROUNDS = 12, STEPS = 3000 };

struct fuzz {
    struct three t;
    bool wild;              /* into all of our segment, also what is the honest one's */
    void *mapped[2];
    char *area[3];
    size_t area_size[3];
    bool over;              /* atomic */
    uint64_t state;
    pthread_t thread;
    unsigned unstable;
};

static uint64_t some_word(uint64_t x)
{
    switch (x % 8) {
    case 0: return 0;
    case 1: return SHM_WRAP;
    case 2: return x;
    case 3: return 1 + (x >> 8) % 5000;
    case 4: return 1 + (x >> 8) % 100;
    case 5: return (x >> 8) % 65536;
    default: return SHM_STOWED | (1 + (x >> 8) % 17000);
    }
}

static void *scribble(void *arg)
{
    struct fuzz *f = arg;

    while (!__atomic_load_n(&f->over, __ATOMIC_RELAXED)) {
        uint64_t x = draw(&f->state);
        unsigned i = x >> 60 & 3 ? x >> 62 & 1 : 2;
        char *at = f->area[i] + (x >> 32) % f->area_size[i] / 8 * 8;

        if (x & 1)
            at = f->area[i] + (at - f->area[i]) / SHM_LINE * SHM_LINE;
        __atomic_store_n((uint64_t *)(void *)at, some_word(draw(&f->state)),
                         __ATOMIC_RELEASE);
        if (!(x >> 20 & 127))
            sched_yield();
    }
    return NULL;
}

/* Where nobody is trusted, the same bytes twice. */
static void look_twice(struct link *l, uint32_t imm, const void *data, size_t len)
{
    volatile const unsigned char *byte = data;
    struct fuzz *f = l->arg;
    unsigned sum[2] = { 0, 0 };

    (void)imm;
    for (int twice = 0; twice < 2; twice++)
        for (size_t i = 0; i < len; i++)
            sum[twice] = sum[twice] * 31 + byte[i];
    f->unstable += sum[0] != sum[1];
}

/* The same memory as `at` of that side's, at an address of the scribbler's own. */
static char *elsewhere(struct fuzz *f, int i, struct side *s, const void *at)
{
    cr_assert(eq(int, pw_pool_map(pw_pool_fd(s->pool), pw_pool_size(s->pool),
                                  &f->mapped[i]), 0));
    return (char *)f->mapped[i] + ((const char *)at - (char *)pw_pool_base(s->pool));
}

/* The liar's queue to us, all of it; ours to it, all of it; and again the words of ours
 * that the liar is to write, or all that we share with anybody. */
static void fuzz_arm(struct fuzz *f)
{
    size_t bytes = shm_queue_bytes(65536);

    f->area[0] = elsewhere(f, 0, &f->t.liar, inner(&f->t.from_liar)->tx.ring);
    f->area[1] = elsewhere(f, 1, &f->t.me, inner(&f->t.to_liar)->tx.ring);
    f->area_size[0] = f->area_size[1] = bytes;
    f->area[2] = f->wild ? f->mapped[1] : f->area[1];
    f->area_size[2] = f->wild ? 3 * bytes : sizeof(struct shm_ring);
    f->t.to_liar.recv = look_twice;
    f->t.to_liar.arg = f;
    f->over = false;
    cr_assert(eq(int, pthread_create(&f->thread, NULL, scribble, f), 0));
}

static void fuzz_steps(struct fuzz *f, uint64_t *state)
{
    struct three *t = &f->t;

    for (int i = 0; i < STEPS && !t->to_liar.downs && !t->from_liar.downs; i++) {
        uint64_t x = draw(state);

        send(&t->to_liar, x % 4 ? x >> 8 & 127 : (x >> 8) % 16000);
        send(&t->from_liar, x % 8 ? x >> 24 & 127 : (x >> 24) % 16000);
        send(&t->to_honest, x >> 40 & 255);
        send(&t->from_honest, x % 16 ? x >> 40 & 255 : 5000);
        pw_nic_shm.progress(t->liar.nic);
        turns(t, 1);
        if (x >> 50 == 0)
            pw_nic_shm.wait(t->me.nic, 10);
        if (i % 256 == 0)
            sched_yield();
    }
    __atomic_store_n(&f->over, true, __ATOMIC_RELAXED);
    pthread_join(f->thread, NULL);
    pw_pool_unmap(f->mapped[0], pw_pool_size(t->liar.pool));
    pw_pool_unmap(f->mapped[1], pw_pool_size(t->me.pool));
}

static void honest_one_is_unharmed(struct three *t)
{
    turns(t, 2000);
    cr_expect(eq(u32, t->to_honest.frames, t->from_honest.sent));
    cr_expect(eq(u32, t->from_honest.frames, t->to_honest.sent));
    honest_ones_are_heard(t);
}

static void fuzz(bool distrust, bool wild)
{
    static struct fuzz f;
    uint64_t state = 7 + distrust;
    unsigned caught = 0, frames = 0;
    int rounds = wild ? WILD_ROUNDS : ROUNDS;

    memset(&f, 0, sizeof f);
    f.wild = wild;
    for (int round = 0; round < rounds || !caught || !frames; round++) {
        f.state = (uint64_t)round;
        three_open(&f.t, distrust);
        fuzz_arm(&f);
        fuzz_steps(&f, &state);
        turns(&f.t, 9000);
        caught += f.t.to_liar.downs;
        frames += f.t.to_liar.frames;
        if (f.t.to_liar.downs)
            cr_expect(eq(int, f.t.to_liar.cause, -EPROTO), "%s", f.t.to_liar.why);
        if (!wild)
            honest_one_is_unharmed(&f.t);
        if (distrust)
            cr_expect(eq(uint, f.unstable, 0));
        three_close(&f.t);
    }
}

Test(hostile, scribbling_breaks_nothing_but_the_scribblers_messages, .timeout = 120)
{
    fuzz(false, false);
}

Test(hostile, nor_where_nobody_is_trusted, .timeout = 120)
{
    fuzz(true, false);
}

Test(hostile, scribbling_all_over_our_segment_breaks_only_messages, .timeout = 120)
{
    fuzz(false, true);
    fuzz(true, true);
}
