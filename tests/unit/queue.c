/* SPDX-License-Identifier: BSD-3-Clause */
/* queue.c - how much memory a queue of the shm NIC takes: what is used of it.
 *
 * Two NICs in this process. What the system has given for a segment is counted, and a
 * system that has nothing left is played.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <sys/stat.h>

#include "btl/nic/shm.h"
#include "regcache/pool_sys.h"
#include "tests/unit/pool_fake_sys.h"

extern const struct pw_nic_ops pw_nic_shm;

enum { PAGE = 4096, MIB = 1 << 20, QUEUE = 512 << 10, LONG = 20000 };

struct side {
    struct pw_pool *pool;
    struct pw_nic *nic;
    struct pw_nic_peer *peer;
    uint32_t frames;
    bool wrong;
    int downs, cause;
    char why[PW_NIC_WHY_MAX];
};

static char *content(size_t len, uint32_t number)
{
    static char bytes[LONG];

    memset(bytes, (int)(number * 31 + len) & 0xff, len);
    return bytes;
}

static void up_recv(void *ctx, void *peer, uint32_t imm, const void *data, size_t len)
{
    struct side *s = peer;

    (void)ctx;
    s->wrong |= imm != s->frames || memcmp(data, content(len, imm), len);
    s->frames++;
}

static void up_down(void *ctx, void *peer, int cause, const char *why)
{
    struct side *s = peer;

    (void)ctx;
    s->downs++;
    s->cause = cause;
    snprintf(s->why, sizeof(s->why), "%s", why);
}

static const struct pw_nic_upcalls up = { .recv = up_recv, .down = up_down };

static void side_open(struct side *s)
{
    const struct pw_pool_config pc = { .size = 16 * MIB, .pages = PW_PAGES_4K };
    struct pw_nic_config nc = { .up = &up, .queue_bytes = QUEUE };

    memset(s, 0, sizeof(*s));
    cr_assert(eq(int, pw_pool_open_sys(&pc, &fake_sys, &s->pool), 0));
    nc.pool = s->pool;
    cr_assert(eq(int, pw_nic_shm.open(&nc, &s->nic), 0));
}

static void side_close(struct side *s)
{
    pw_nic_shm.close(s->nic);
    pw_pool_close(s->pool);
}

static int meet(struct side *s, struct side *other)
{
    uint8_t address[PW_NIC_ADDRESS_MAX];
    size_t len = pw_nic_shm.address(other->nic, address);

    return pw_nic_shm.connect(s->nic, address, len, s, &s->peer);
}

/* The system's, but for the bell's page. */
static size_t memory_of(const struct side *s)
{
    struct stat st;

    cr_assert(eq(int, fstat(pw_pool_fd(s->pool), &st), 0));
    return (size_t)st.st_blocks * 512 - PAGE;
}

static int send_one(struct side *s, uint32_t number, size_t len)
{
    struct pw_iov iov = { content(len, number), len };

    return pw_nic_shm.send(s->peer, number, &iov, 1, NULL);
}

static void pair_open(struct side *a, struct side *b)
{
    fake_reset();
    side_open(a);
    side_open(b);
    cr_assert(eq(int, meet(a, b), 0));
    cr_assert(eq(int, meet(b, a), 0));
}

static void read_all(struct side *b, uint32_t frames)
{
    for (int i = 0; i < 1000000 && b->frames < frames && !b->downs; i++)
        pw_nic_shm.progress(b->nic);
    cr_assert(eq(u32, b->frames, frames));
    cr_expect(not(b->wrong));
    pw_nic_shm.progress(b->nic);
}

Test(queue, nobody_connected_takes_nothing)
{
    struct side a;

    fake_reset();
    side_open(&a);
    cr_expect(eq(sz, memory_of(&a), 0));
    side_close(&a);
}

/* Whatever the sizes, while the reader keeps up. */
Test(queue, two_pages_do_for_frames_that_are_read_soon)
{
    struct side a, b;

    pair_open(&a, &b);
    cr_expect(eq(sz, memory_of(&a), 2 * PAGE));
    for (uint32_t i = 0; i < 20000; i++) {
        cr_assert(eq(int, send_one(&a, i, i * 37 % 1000), 0));
        read_all(&b, i + 1);
    }
    cr_expect(eq(sz, memory_of(&a), 2 * PAGE));
    cr_expect(eq(sz, memory_of(&b), 2 * PAGE));
    side_close(&a);
    side_close(&b);
}

Test(queue, a_burst_takes_more_and_a_large_one_all)
{
    struct side a, b;
    uint32_t n = 0, first;

    pair_open(&a, &b);
    while (n < 300)
        cr_assert(eq(int, send_one(&a, n++, 100), 0));
    cr_expect(eq(sz, memory_of(&a), 64 << 10));
    read_all(&b, n);
    first = n;
    while (!send_one(&a, n, 100))
        n++;
    cr_expect(lt(u32, 300, n - first), "the whole ring is used");
    cr_expect(eq(sz, memory_of(&a), 2 * QUEUE + PAGE));
    read_all(&b, n);
    while (n % 10000)
        if (send_one(&a, n, n % 3000))
            read_all(&b, n);
        else
            n++;
    read_all(&b, n);
    side_close(&a);
    side_close(&b);
}

Test(queue, a_long_frame_takes_all)
{
    struct side a, b;

    pair_open(&a, &b);
    cr_assert(eq(int, send_one(&a, 0, LONG), 0));
    cr_expect(eq(sz, memory_of(&a), 2 * QUEUE + PAGE));
    read_all(&b, 1);
    for (uint32_t i = 1; i < 500; i++) {
        cr_assert(eq(int, send_one(&a, i, i * 40), 0));
        read_all(&b, i + 1);
    }
    side_close(&a);
    side_close(&b);
}

Test(queue, without_memory_there_is_no_connection)
{
    struct side a, b;

    fake_reset();
    side_open(&a);
    side_open(&b);
    fake_fail(FAKE_POPULATE, 1, ENOMEM);
    cr_expect(eq(int, meet(&a, &b), -ENOMEM));
    cr_expect(eq(int, meet(&a, &b), 0), "later there is");
    side_close(&a);
    side_close(&b);
}

/* What was sent before arrives, and then both know that it is over. */
Test(queue, without_memory_for_more_the_peer_is_given_up)
{
    for (int burst = 0; burst < 2; burst++) {
        struct side a, b;
        uint32_t n = 0;
        int err;

        pair_open(&a, &b);
        cr_assert(eq(int, send_one(&a, n++, 10), 0));
        fake_fail(FAKE_POPULATE, FAKE_ALWAYS, ENOMEM);
        while (!(err = send_one(&a, n, burst ? 100 : LONG)))
            n++;
        cr_expect(eq(int, err, -EPIPE));
        cr_expect(eq(int, send_one(&a, n, 0), -EPIPE));
        for (int i = 0; i < 100000 && !a.downs; i++)
            pw_nic_shm.progress(a.nic);
        cr_expect(eq(int, a.downs, 1));
        cr_expect(eq(int, a.cause, -ENOSPC));
        cr_expect(ne(ptr, strstr(a.why, "no memory left for messages to process"), NULL),
                  "%s", a.why);
        read_all(&b, n);
        fake_reset();
        side_close(&a);
        side_close(&b);
    }
}
