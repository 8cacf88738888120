/* SPDX-License-Identifier: BSD-3-Clause */
/* shm_ring.h - frames from one writer to one reader through shared memory.
 *
 * Start at shm_tx_send() and shm_rx_peek(). The ring lies in the writer's
 * segment. A frame starts on a cache line with one 8-byte word that is its
 * length, its immediate data and the flag "it is there" at once, so that a
 * small frame costs one line transfer:
 *
 *     | word imm, len + 1 | bytes ...            | word | bytes | 0 |
 *       line k              line k + 1             next           not written yet
 *
 * Always true: the word after the last published frame is 0. The writer clears
 * it before it publishes, so bytes of an earlier lap are never taken for a word.
 *
 * A frame is contiguous. One that does not fit before the end leaves the word
 * WRAP and starts at line 0. `head`, how far the reader has read, is published
 * now and then only (every eighth of the ring): the writer looks at it only
 * when it believes the ring to be full.
 *
 * One writer thread and one reader thread at a time; the caller sees to it.
 */
#ifndef PW_SHM_RING_H
#define PW_SHM_RING_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "pinwheel/copy.h"
#include "pinwheel/nic.h"

enum { SHM_LINE = 64, SHM_WORD = 8 };

#define SHM_RING_MIN ((size_t)4096)
#define SHM_RING_MAX ((size_t)64 << 20)
#define SHM_WRAP UINT32_MAX

/* In shared memory. Bytes counted since the ring was made; never wrap. */
struct shm_ring {
    uint64_t head __attribute__((aligned(SHM_LINE)));   /* reader writes */
    char data[] __attribute__((aligned(SHM_LINE)));     /* writer writes */
};

/* The writer's own books. */
struct shm_tx {
    struct shm_ring *ring;
    size_t size;        /* of data; a power of two */
    uint64_t tail;      /* bytes written */
    uint64_t head_seen; /* what ring->head was when last looked at */
    struct pw_pace pace;
};

/* The reader's own books. */
struct shm_rx {
    struct shm_ring *ring;
    size_t size;
    uint64_t pos;       /* bytes read */
    uint64_t published; /* what ring->head says */
};

static inline size_t shm_ring_bytes(size_t size)
{
    return sizeof(struct shm_ring) + size;
}

/* The largest frame a ring of that size takes. A quarter, so that reader and
 * writer can work at the same time and publishing eighths is enough. */
static inline size_t shm_ring_frame_max(size_t size)
{
    return size / 4 - SHM_WORD;
}

static inline uint64_t shm_frame_bytes(size_t len)
{
    return (SHM_WORD + len + SHM_LINE - 1) & ~(uint64_t)(SHM_LINE - 1);
}

static inline uint64_t *shm_word(struct shm_ring *ring, size_t size, uint64_t at)
{
    return (uint64_t *)(void *)(ring->data + (at & (size - 1)));
}

static inline void shm_tx_init(struct shm_tx *tx, void *memory, size_t size)
{
    tx->ring = (struct shm_ring *)memory;
    tx->size = size;
    tx->tail = tx->head_seen = 0;
    tx->pace = (struct pw_pace){ 0 };
    tx->ring->head = 0;
    *shm_word(tx->ring, size, 0) = 0;
}

static inline void shm_rx_init(struct shm_rx *rx, void *memory, size_t size)
{
    rx->ring = (struct shm_ring *)memory;
    rx->size = size;
    rx->pos = rx->published = 0;
}

/* Are `need` bytes free? Looks at the reader's line only when it must. */
static inline bool shm_tx_room(struct shm_tx *tx, uint64_t need)
{
    if (tx->tail + need - tx->head_seen <= tx->size)
        return true;
    /* Pairs with the release in shm_rx_done(): the reader is through with
     * those bytes before we write them again. */
    tx->head_seen = __atomic_load_n(&tx->ring->head, __ATOMIC_ACQUIRE);
    return tx->tail + need - tx->head_seen <= tx->size;
}

static inline void shm_gather(struct shm_tx *tx, char *to, const struct pw_iov *iov,
                              int n)
{
    for (int i = 0; i < n; i++) {
        if (__builtin_expect(iov[i].len >= PW_PACE_MIN, 0))
            pw_copy_paced(&tx->pace, to, iov[i].base, iov[i].len);
        else if (iov[i].len)
            memcpy(to, iov[i].base, iov[i].len);
        to += iov[i].len;
    }
}

/* Where a frame of `bytes` goes: *skip is what is left unused before the end.
 * false when there is no room, counting the cleared word behind it. */
static inline bool shm_tx_place(struct shm_tx *tx, uint64_t bytes, uint64_t *skip)
{
    uint64_t to_end = tx->size - (tx->tail & (tx->size - 1));

    *skip = bytes > to_end ? to_end : 0;
    return shm_tx_room(tx, *skip + bytes + SHM_LINE);
}

static inline void shm_tx_publish(struct shm_tx *tx, uint64_t skip, uint64_t bytes,
                                  uint32_t imm, size_t len)
{
    uint64_t *word = shm_word(tx->ring, tx->size, tx->tail + skip);
    uint64_t *next = shm_word(tx->ring, tx->size, tx->tail + skip + bytes);
    uint64_t value = (uint64_t)imm << 32 | (uint32_t)(len + 1);

    __atomic_store_n(next, 0, __ATOMIC_RELAXED);
    /* Pairs with the acquire in shm_rx_peek(). */
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
    if (skip)
        __atomic_store_n(shm_word(tx->ring, tx->size, tx->tail), SHM_WRAP,
                         __ATOMIC_RELEASE);
    tx->tail += skip + bytes;
    /* The line that the next publish clears: fetch it for writing now, off the
     * path of a message. Benchmark: pwbench latency --sizes 8. */
    __builtin_prefetch((char *)next + SHM_LINE, 1);
}

/* 0, -EAGAIN no room, or -EMSGSIZE. len is the sum of the pieces. */
static inline int shm_tx_send(struct shm_tx *tx, uint32_t imm,
                              const struct pw_iov *iov, int n, size_t len)
{
    uint64_t bytes = shm_frame_bytes(len), skip;

    if (__builtin_expect(len > shm_ring_frame_max(tx->size), 0))
        return -EMSGSIZE;
    if (__builtin_expect(!shm_tx_place(tx, bytes, &skip), 0))
        return -EAGAIN;
    shm_gather(tx, (char *)shm_word(tx->ring, tx->size, tx->tail + skip) + SHM_WORD,
               iov, n);
    shm_tx_publish(tx, skip, bytes, imm, len);
    return 0;
}

/* The next frame, in place. 1 there is one (finish with shm_rx_done()), 0 none,
 * -EPROTO when what is there cannot be a frame. */
static inline int shm_rx_peek(struct shm_rx *rx, uint32_t *imm, const void **data,
                              size_t *len)
{
    uint64_t *at = shm_word(rx->ring, rx->size, rx->pos);
    /* Pairs with the releases in shm_tx_publish(). */
    uint64_t word = __atomic_load_n(at, __ATOMIC_ACQUIRE);

    if (__builtin_expect(!word, 1))
        return 0;
    if (__builtin_expect((uint32_t)word == SHM_WRAP, 0)) {
        rx->pos += rx->size - (rx->pos & (rx->size - 1));
        at = shm_word(rx->ring, rx->size, rx->pos);
        word = __atomic_load_n(at, __ATOMIC_ACQUIRE);
    }
    *len = (size_t)(uint32_t)word - 1;
    if (__builtin_expect(*len > shm_ring_frame_max(rx->size), 0))
        return -EPROTO;
    *imm = (uint32_t)(word >> 32);
    *data = at + 1;
    return 1;
}

static inline bool shm_rx_empty(struct shm_rx *rx)
{
    return !__atomic_load_n(shm_word(rx->ring, rx->size, rx->pos), __ATOMIC_ACQUIRE);
}

/* Through with the frame of that length: its bytes may be written again. */
static inline void shm_rx_done(struct shm_rx *rx, size_t len)
{
    rx->pos += shm_frame_bytes(len);
    if (rx->pos - rx->published >= rx->size / 8) {
        /* Pairs with the acquire in shm_tx_room(). */
        __atomic_store_n(&rx->ring->head, rx->pos, __ATOMIC_RELEASE);
        rx->published = rx->pos;
    }
}

#endif
