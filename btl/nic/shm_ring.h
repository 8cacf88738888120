/* SPDX-License-Identifier: BSD-3-Clause */
/* shm_ring.h - frames from one writer to one reader through shared memory.
 *
 * Start at shm_tx_send() and shm_rx_peek(). The queue lies in the writer's
 * segment and has two parts. The ring holds every frame in order, starting on a
 * cache line, with one 8-byte word that is its length, its immediate data and
 * the flag "it is there" at once, so that a small frame costs one line transfer:
 *
 *     | word: imm, len + 1 | bytes ...       | word | stowed at | 0 |
 *       line k              line k + 1         line n             not written yet
 *
 * A frame of SHM_STOW_MIN bytes and more leaves only its place there; its bytes
 * lie in the stow, a larger ring. So the small ring stays in the cache, and the
 * large one is large enough that its lines have left the reader's cache when
 * they are written again.
 *
 * Always true: the word after the last published frame is 0. The writer clears
 * it before it publishes, so bytes of an earlier lap are never taken for a word.
 *
 * Frames are contiguous. One that does not fit before the end of the ring leaves
 * the word WRAP and starts at line 0; in the stow the rest is just left out. How
 * far the reader has read (head, stow_head) is published now and then only, every
 * eighth of either part: the writer looks when it believes that there is no room.
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

enum { SHM_LINE = 64, SHM_WORD = 8, SHM_STOW_MIN = 2048 };

/* Sizes of the stow, bytes; a power of two. The ring's size follows from it. */
#define SHM_STOW_SIZE_MIN ((size_t)4096)
#define SHM_STOW_SIZE_MAX ((size_t)64 << 20)

#define SHM_WRAP UINT32_MAX
#define SHM_STOWED ((uint32_t)1 << 31)

/* In shared memory, followed by the ring and the stow. Bytes counted since the
 * queue was made; they never wrap. */
struct shm_ring {
    uint64_t head __attribute__((aligned(SHM_LINE)));   /* the reader writes both */
    uint64_t stow_head;
    char data[] __attribute__((aligned(SHM_LINE)));     /* the writer writes */
};

/* The writer's own books. */
struct shm_tx {
    struct shm_ring *ring;
    char *stow;
    size_t size, stow_size;
    uint64_t tail, stow_tail;           /* bytes written */
    uint64_t head_seen, stow_head_seen; /* the reader's, when last looked at */
    struct pw_pace pace;
};

/* The reader's own books. */
struct shm_rx {
    struct shm_ring *ring;
    char *stow;
    size_t size, stow_size;
    uint64_t pos, stow_pos;             /* bytes read */
    uint64_t published, stow_published; /* what head and stow_head say */
    uint64_t next, stow_next;           /* pos and stow_pos after this frame */
};

static inline size_t shm_ring_size(size_t stow_size)
{
    size_t size = stow_size / 16;

    return size < 4096 ? 4096 : size > 65536 ? 65536 : size;
}

/* Of the whole queue. */
static inline size_t shm_queue_bytes(size_t stow_size)
{
    return sizeof(struct shm_ring) + shm_ring_size(stow_size) + stow_size;
}

/* The largest frame. A quarter, so that reader and writer can work at the same
 * time and publishing eighths is enough. */
static inline size_t shm_frame_max(size_t stow_size)
{
    return stow_size / 4 - SHM_LINE;
}

static inline uint64_t shm_lines(uint64_t len)
{
    return (len + SHM_LINE - 1) & ~(uint64_t)(SHM_LINE - 1);
}

static inline uint64_t *shm_word(struct shm_ring *ring, size_t size, uint64_t at)
{
    return (uint64_t *)(void *)(ring->data + (at & (size - 1)));
}

static inline void shm_tx_init(struct shm_tx *tx, void *memory, size_t stow_size)
{
    size_t size = shm_ring_size(stow_size);

    *tx = (struct shm_tx){ .ring = (struct shm_ring *)memory, .size = size,
                           .stow_size = stow_size };
    tx->stow = tx->ring->data + size;
    tx->ring->head = tx->ring->stow_head = 0;
    *shm_word(tx->ring, size, 0) = 0;
}

static inline void shm_rx_init(struct shm_rx *rx, void *memory, size_t stow_size)
{
    size_t size = shm_ring_size(stow_size);

    *rx = (struct shm_rx){ .ring = (struct shm_ring *)memory, .size = size,
                           .stow_size = stow_size };
    rx->stow = rx->ring->data + size;
}

/* Are `need` bytes free? 0, -EAGAIN, or -EPROTO when the reader claims to have
 * read what was not written, or takes back what it had read. Looks at the reader's
 * line only when it must. Pairs with the release in shm_rx_publish(): the reader is
 * through with what it published before we write there again. */
static inline int shm_tx_room(const uint64_t *head, uint64_t *seen, uint64_t tail,
                              uint64_t need, size_t size)
{
    uint64_t now;

    if (__builtin_expect(tail + need - *seen <= size, 1))
        return 0;
    now = __atomic_load_n(head, __ATOMIC_ACQUIRE);
    if (__builtin_expect(now - *seen > tail - *seen, 0))
        return -EPROTO;
    *seen = now;
    return tail + need - now <= size ? 0 : -EAGAIN;
}

/* Where `bytes` go in the ring: *skip is left unused before its end. Counts the
 * cleared word behind them. */
static inline int shm_tx_place(struct shm_tx *tx, uint64_t bytes, uint64_t *skip)
{
    uint64_t to_end = tx->size - (tx->tail & (tx->size - 1));

    *skip = bytes > to_end ? to_end : 0;
    return shm_tx_room(&tx->ring->head, &tx->head_seen, tx->tail,
                       *skip + bytes + SHM_LINE, tx->size);
}

static inline void shm_tx_publish(struct shm_tx *tx, uint64_t skip, uint64_t bytes,
                                  uint32_t imm, uint32_t low)
{
    uint64_t *word = shm_word(tx->ring, tx->size, tx->tail + skip);
    uint64_t *next = shm_word(tx->ring, tx->size, tx->tail + skip + bytes);

    __atomic_store_n(next, 0, __ATOMIC_RELAXED);
    /* Pairs with the acquire in shm_rx_peek(). */
    __atomic_store_n(word, (uint64_t)imm << 32 | low, __ATOMIC_RELEASE);
    if (__builtin_expect(skip != 0, 0))
        __atomic_store_n(shm_word(tx->ring, tx->size, tx->tail), SHM_WRAP,
                         __ATOMIC_RELEASE);
    tx->tail += skip + bytes;
    /* The line that the next publish clears: fetch it for writing now, off the
     * path of a message. Benchmark: pwbench latency --sizes 8. */
    __builtin_prefetch((char *)next + SHM_LINE, 1);
}

static inline void shm_stow_gather(struct shm_tx *tx, char *to, const struct pw_iov *iov,
                                   int n)
{
    for (int i = 0; i < n; i++) {
        if (iov[i].len >= PW_PACE_MIN)
            pw_copy_paced(&tx->pace, to, iov[i].base, iov[i].len);
        else if (iov[i].len)
            pw_copy(to, iov[i].base, iov[i].len);
        to += iov[i].len;
    }
}

/* Bytes to leave out in the stow so that the last piece, the longest as a rule,
 * lies there as it lies in its line at home: copies are fastest so. */
static inline uint64_t shm_stow_pad(const struct pw_iov *iov, int n, size_t len)
{
    return ((uintptr_t)iov[n - 1].base - (len - iov[n - 1].len)) & (SHM_LINE - 1);
}

static inline int shm_tx_stow(struct shm_tx *tx, uint32_t imm, const struct pw_iov *iov,
                              int n, size_t len)
{
    uint64_t pad = shm_stow_pad(iov, n, len), bytes = shm_lines(pad + len), skip, at;
    uint64_t to_end = tx->stow_size - (tx->stow_tail & (tx->stow_size - 1));

    int err = shm_tx_place(tx, SHM_LINE, &skip);

    at = tx->stow_tail + (bytes > to_end ? to_end : 0);
    if (!err)
        err = shm_tx_room(&tx->ring->stow_head, &tx->stow_head_seen, tx->stow_tail,
                          at + bytes - tx->stow_tail, tx->stow_size);
    if (err)
        return err;
    shm_stow_gather(tx, tx->stow + (at & (tx->stow_size - 1)) + pad, iov, n);
    tx->stow_tail = at + bytes;
    shm_word(tx->ring, tx->size, tx->tail + skip)[1] = at + pad;
    shm_tx_publish(tx, skip, SHM_LINE, imm, (uint32_t)(len + 1) | SHM_STOWED);
    return 0;
}

/* 0, -EAGAIN no room, -EMSGSIZE, or -EPROTO: the reader's word cannot be true. len
 * is the sum of the n > 0 pieces. */
static inline int shm_tx_send(struct shm_tx *tx, uint32_t imm,
                              const struct pw_iov *iov, int n, size_t len)
{
    uint64_t bytes = shm_lines(SHM_WORD + len), skip;
    char *to;
    int err;

    if (__builtin_expect(len >= SHM_STOW_MIN || bytes > tx->size / 4, 0))
        return len > shm_frame_max(tx->stow_size) ? -EMSGSIZE
                                                  : shm_tx_stow(tx, imm, iov, n, len);
    err = shm_tx_place(tx, bytes, &skip);
    if (__builtin_expect(err != 0, 0))
        return err;
    to = (char *)shm_word(tx->ring, tx->size, tx->tail + skip) + SHM_WORD;
    for (int i = 0; i < n; i++) {
        pw_copy_small(to, iov[i].base, iov[i].len);
        to += iov[i].len;
    }
    shm_tx_publish(tx, skip, bytes, imm, (uint32_t)(len + 1));
    return 0;
}

static inline int shm_rx_peek_stowed(struct shm_rx *rx, const uint64_t *at, size_t len,
                                     const void **data)
{
    /* Once: who distrusts the writer must use what it has checked. */
    uint64_t start = __atomic_load_n(&at[1], __ATOMIC_RELAXED);
    uint64_t off = start & (rx->stow_size - 1);

    if (len > shm_frame_max(rx->stow_size) || len > rx->stow_size - off ||
        start - rx->stow_pos >= rx->stow_size)
        return -EPROTO;
    *data = rx->stow + off;
    rx->next = rx->pos + SHM_LINE;
    rx->stow_next = shm_lines(start + len);
    return 1;
}

/* The next frame, in place. 1 there is one (finish with shm_rx_done()), 0 none,
 * -EPROTO when what is there cannot be a frame. Each word of the writer's is read
 * once, and what was read is checked: a writer that changes it meanwhile leads us
 * nowhere outside of its queue. */
static inline int shm_rx_peek(struct shm_rx *rx, uint32_t *imm, const void **data,
                              size_t *len)
{
    uint64_t *at = shm_word(rx->ring, rx->size, rx->pos);
    /* Pairs with the releases in shm_tx_publish(). */
    uint64_t word = __atomic_load_n(at, __ATOMIC_ACQUIRE);
    uint32_t low;

    if (__builtin_expect(!word, 1))
        return 0;
    if (__builtin_expect((uint32_t)word == SHM_WRAP, 0)) {
        rx->pos += rx->size - (rx->pos & (rx->size - 1));
        at = shm_word(rx->ring, rx->size, rx->pos);
        word = __atomic_load_n(at, __ATOMIC_ACQUIRE);
    }
    low = (uint32_t)word;
    *imm = (uint32_t)(word >> 32);
    *len = (size_t)(low & ~SHM_STOWED) - 1;
    if (low & SHM_STOWED)
        return shm_rx_peek_stowed(rx, at, *len, data);
    /* Within its size and before the ring's end: one branch for both. */
    if (__builtin_expect((*len > rx->size / 4) |
                         (*len > rx->size - SHM_WORD - (rx->pos & (rx->size - 1))), 0))
        return -EPROTO;
    *data = at + 1;
    rx->next = rx->pos + shm_lines(SHM_WORD + *len);
    rx->stow_next = rx->stow_pos;
    return 1;
}

static inline bool shm_rx_empty(struct shm_rx *rx)
{
    return !__atomic_load_n(shm_word(rx->ring, rx->size, rx->pos), __ATOMIC_ACQUIRE);
}

/* Pairs with the acquire in shm_tx_room(). */
static inline void shm_rx_publish(uint64_t *head, uint64_t *published, uint64_t pos)
{
    __atomic_store_n(head, pos, __ATOMIC_RELEASE);
    *published = pos;
}

/* Through with the frame that peek gave: its bytes may be written again. */
static inline void shm_rx_done(struct shm_rx *rx)
{
    rx->pos = rx->next;
    rx->stow_pos = rx->stow_next;
    if (__builtin_expect(rx->pos - rx->published >= rx->size / 8, 0))
        shm_rx_publish(&rx->ring->head, &rx->published, rx->pos);
    if (__builtin_expect(rx->stow_pos - rx->stow_published >= rx->stow_size / 8, 0))
        shm_rx_publish(&rx->ring->stow_head, &rx->stow_published, rx->stow_pos);
}

#endif
