/* SPDX-License-Identifier: BSD-3-Clause */
/* ring_fuzz.c - the other side of a queue writes what it likes while we look.
 *
 * A thread scribbles through a second mapping of the queue, as a peer's process does.
 * Behind our mapping of it, and before, lie pages that nobody may touch. Whatever
 * happens, we stay inside, and say so when what we find cannot be true.
 */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include "btl/nic/shm_ring.h"
#include "tests/unit/draw.h"

enum { PAGE = 4096, LEAST = 1000, ROUNDS = 200000, FRAMES_MAX = 65536 };

struct rig {
    size_t size, bytes;
    char *room, *mine;          /* our queue, its end before a page of nothing */
    struct shm_ring *theirs;    /* the same memory */
    size_t room_size;
    uint64_t at;                /* atomic: where we are, so that lies are near */
    bool over;                  /* atomic */
    pthread_t thread;
    uint64_t state;
};

static void rig_open(struct rig *r, size_t size, void *(*scribble)(void *))
{
    int fd = memfd_create("queue", MFD_CLOEXEC);
    size_t len, slack;

    *r = (struct rig){ .size = size,
                       .bytes = shm_queue_bytes(size), .state = size };
    len = (r->bytes + PAGE - 1) / PAGE * PAGE;
    slack = len - r->bytes;
    cr_assert(fd >= 0 && !ftruncate(fd, (off_t)len));
    r->room_size = len + 2 * PAGE;
    r->room = mmap(NULL, r->room_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert(ne(ptr, r->room, MAP_FAILED));
    cr_assert(ne(ptr, mmap(r->room + PAGE, len, PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_FIXED, fd, 0), MAP_FAILED));
    r->mine = r->room + PAGE + slack;
    r->theirs = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    cr_assert(ne(ptr, r->theirs, MAP_FAILED));
    r->theirs = (struct shm_ring *)(void *)((char *)r->theirs + slack);
    close(fd);
    cr_assert(eq(int, pthread_create(&r->thread, NULL, scribble, r), 0));
}

static void rig_close(struct rig *r)
{
    __atomic_store_n(&r->over, true, __ATOMIC_RELAXED);
    pthread_join(r->thread, NULL);
    munmap((char *)r->theirs - (r->room_size - 2 * PAGE - r->bytes),
           r->room_size - 2 * PAGE);
    munmap(r->room, r->room_size);
}

static void put(void *at, uint64_t value)
{
    __atomic_store_n((uint64_t *)at, value, __ATOMIC_RELEASE);
}

/* ---- a writer that lies, our reader ---- */

/* A word as it could be, or nearly. */
static uint64_t some_word(struct rig *r)
{
    uint64_t x = draw(&r->state);

    switch (x % 8) {
    case 0: return 0;
    case 1: return (x >> 8) % 4 * SHM_HALF << 32 | SHM_WRAP;
    case 2: return draw(&r->state);
    case 3: return 1 + (x >> 8) % (2 * r->size);
    case 4: return 1 + (x >> 8) % 200;
    default: return SHM_STOWED | (1 + (x >> 8) % (shm_frame_max(r->size) + 100));
    }
}

static uint64_t some_place(struct rig *r)
{
    uint64_t x = draw(&r->state), at = __atomic_load_n(&r->at, __ATOMIC_RELAXED);

    return x % 8 ? at + (x >> 8) % (r->size + 500) - 200 : x;
}

static void *lie_as_writer(void *arg)
{
    struct rig *r = arg;

    while (!__atomic_load_n(&r->over, __ATOMIC_RELAXED)) {
        uint64_t line = draw(&r->state) % r->size / SHM_HALF * SHM_HALF;

        put(r->theirs->data + line + SHM_WORD, some_place(r));
        put(r->theirs->data + line, some_word(r));
        put(r->theirs->data + line + SHM_WORD, some_place(r));
    }
    return NULL;
}

static bool within(const char *data, size_t len, const char *from, size_t size)
{
    return data >= from && len <= size && (size_t)(data - from) <= size - len;
}

static unsigned sum_of(const unsigned char *data, size_t len)
{
    unsigned sum = 0;

    for (size_t i = 0; i < len; i++)
        sum += data[i];
    return sum;
}

static void read_lies(size_t size)
{
    unsigned frames = 0, stowed = 0, lies = 0, sum = 0;
    struct shm_rx rx;
    struct rig r;

    rig_open(&r, size, lie_as_writer);
    shm_rx_init(&rx, r.mine, size);
    for (unsigned n = 0; n < ROUNDS || frames < LEAST || stowed < LEAST || lies < LEAST;
         n++) {
        const void *data;
        uint32_t imm;
        size_t len;
        int got = shm_rx_peek(&rx, &imm, &data, &len);

        if (got > 0) {
            bool in_stow = within(data, len, rx.stow, size);
            cr_assert(in_stow || within(data, len, rx.ring->data, r.size));
            cr_assert(len <= shm_frame_max(size) || len < SHM_STOW_MIN);
            sum += sum_of(data, len);
            *(in_stow ? &stowed : &frames) += 1;
            shm_rx_done(&rx);
        } else if (got < 0) {
            cr_assert(eq(int, got, -EPROTO));
            shm_rx_init(&rx, r.mine, size);     /* as the next peer's */
            shm_rx_go(&rx, n % 1000 * SHM_LINE);
            lies++;
        } else {
            shm_rx_go(&rx, rx.pos + SHM_HALF);
        }
        __atomic_store_n(&r.at, rx.stow_pos, __ATOMIC_RELAXED);
        if (n % 512 == 0)
            sched_yield();
    }
    cr_expect(ne(uint, sum, 1));        /* the bytes were read */
    rig_close(&r);
}

Test(ring_fuzz, a_reader_stays_in_the_queue_whatever_is_written, .timeout = 120)
{
    read_lies(SHM_STOW_SIZE_MIN);
}

Test(ring_fuzz, a_reader_stays_in_a_larger_queue_too, .timeout = 120)
{
    read_lies(65536);
}

/* ---- a reader that lies, our writer ---- */

static void *lie_as_reader(void *arg)
{
    struct rig *r = arg;

    while (!__atomic_load_n(&r->over, __ATOMIC_RELAXED)) {
        uint64_t x = draw(&r->state), at = __atomic_load_n(&r->at, __ATOMIC_RELAXED);
        uint64_t lie = x % 16 ? at - (x >> 8) % 4096 : x % 32 ? x : at + (x >> 8) % 4096;

        put(x >> 60 & 1 ? &r->theirs->head : &r->theirs->stow_head, lie);
        put(r->theirs->data + draw(&r->state) % (2 * r->size) / 8 * 8, x);
        if (x >> 50 & 1)
            sched_yield();
    }
    return NULL;
}

static void write_to_liar(size_t size)
{
    static char bytes[FRAMES_MAX];
    unsigned sent = 0, full = 0, lies = 0;
    uint64_t state = 1;
    struct shm_tx tx;
    struct rig r;

    rig_open(&r, size, lie_as_reader);
    shm_tx_init(&tx, r.mine, size);
    for (unsigned n = 0; n < ROUNDS || sent < LEAST || lies < LEAST; n++) {
        uint64_t x = draw(&state);
        size_t len = (x >> 8) % (x % 2 ? 100 : shm_frame_max(size) + 1);
        struct pw_iov iov[2] = { { bytes, len / 3 }, { bytes + 1, len - len / 3 } };
        int err = shm_tx_send(&tx, n, iov, 2, len);

        cr_assert(err == 0 || err == -EAGAIN || err == -EPROTO);
        sent += err == 0;
        full += err == -EAGAIN;
        if (err == -EPROTO) {
            lies++;
            shm_tx_init(&tx, r.mine, size);
        }
        __atomic_store_n(&r.at, n % 2 ? tx.in_ring.tail : tx.in_stow.tail, __ATOMIC_RELAXED);
        if (n % 512 == 0 || (err == -EAGAIN && full % 16 == 0))
            sched_yield();
    }
    rig_close(&r);
}

Test(ring_fuzz, a_writer_stays_in_the_queue_whatever_its_reader_claims, .timeout = 120)
{
    write_to_liar(SHM_STOW_SIZE_MIN);
}

Test(ring_fuzz, a_writer_stays_in_a_larger_queue_too, .timeout = 120)
{
    write_to_liar(65536);
}
