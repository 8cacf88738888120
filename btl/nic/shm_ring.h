/* SPDX-License-Identifier: BSD-3-Clause */
/* shm_ring.h - frames from one writer to one reader through shared memory.
 *
 * Start at shm_tx_send() and shm_rx_peek(). The queue lies in the writer's
 * segment and has two parts. The ring holds every frame in order, with one 8-byte
 * word that is its length, its immediate data and the flag "it is there" at once, so
 * that a small frame costs one line transfer:
 *
 *     | word: imm, len + 1 | bytes ...       | word | stowed at | 0 |
 *       line k              line k + 1         line n             not written yet
 *
 * A frame starts where a line or its second half does. What fits into half a line
 * takes no more, and shares the line with the next one; what is longer ends with its
 * last line. Between the word and the bytes lies a pad where it makes stores that fill
 * lines out of stores that straddle them.
 *
 * A frame of SHM_STOW_MIN bytes and more leaves only its place in the ring; its bytes
 * lie in the stow, a ring of the same size.
 *
 * Where the writer goes on is a matter of caches: shm_part.h.
 *
 * Always true: the word after the last published frame is 0. The writer clears
 * it before it publishes, so bytes of an earlier lap are never taken for a word.
 *
 * Frames are contiguous; in the ring the word WRAP tells how many bytes are left out
 * before the next one. How far the reader has read (head, stow_head) is published now
 * and then only: when nothing is left to read, every 2 KiB of the ring (SHM_TELL) and every
 * eighth of the stow.
 *
 * One writer thread and one reader thread at a time; the caller sees to it.
 */
#ifndef PW_SHM_RING_H
#define PW_SHM_RING_H

#include <string.h>

#include "pinwheel/copy.h"
#include "pinwheel/nic.h"
#include "shm_part.h"

enum { SHM_HALF = 32, SHM_STOW_MIN = 4096 };

/* So much of a frame is fetched ahead. */
enum { SHM_FETCH = 4096 };

/* The reader publishes after so much of the ring at the latest: the writer has to see that
 * it keeps up, or it would not jump. */
enum { SHM_TELL = 2048 };

/* From so many bytes on a frame's first line is written last. */
enum { SHM_FIRST_LAST = 256 };

/* Sizes of either part, ring and stow, bytes; a power of two. */
#define SHM_STOW_SIZE_MIN ((size_t)4096)
#define SHM_STOW_SIZE_MAX ((size_t)64 << 20)

#define SHM_WRAP UINT32_MAX
#define SHM_STOWED ((uint32_t)1 << 31)
enum { SHM_PAD_SHIFT = 24 };    /* of frames in the ring; a pad has five bits */
#define SHM_ODD ((uint32_t)7 << (SHM_PAD_SHIFT + 5))    /* set only in other words */

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
    size_t ring_most;           /* longer frames are stowed */
    struct shm_part in_ring, in_stow;
    struct pw_pace pace;
};

/* The reader's own books. */
struct shm_rx {
    const uint64_t *at;                 /* the next frame's word */
    struct shm_ring *ring;
    char *stow;
    size_t size;                        /* of either part */
    size_t tell;                        /* so much of the ring is read before it is
                                         * published */
    uint64_t pos, stow_pos;             /* bytes read */
    uint64_t published, stow_published; /* what head and stow_head say */
    uint64_t next, stow_next;           /* pos and stow_pos after this frame; stow_next
                                         * is stow_pos where it is not stowed */
};

/* Of the whole queue. */
static inline size_t shm_queue_bytes(size_t size)
{
    return sizeof(struct shm_ring) + 2 * size;
}

/* The largest frame. A quarter, so that reader and writer can work at the same
 * time and publishing eighths of the stow is enough. */
static inline size_t shm_frame_max(size_t size)
{
    return size / 4 - SHM_LINE;
}

/* Where the next frame begins after one of `bytes` at `at`, its word counted. */
static inline uint64_t shm_after(uint64_t at, uint64_t bytes)
{
    uint64_t half = (at | (SHM_HALF - 1)) + 1;

    return at + bytes <= half ? half : shm_lines(at + bytes);
}

static inline uint64_t *shm_word(struct shm_ring *ring, size_t size, uint64_t at)
{
    return (uint64_t *)(void *)(ring->data + (at & (size - 1)));
}

static inline void shm_tx_init(struct shm_tx *tx, void *memory, size_t size)
{
    *tx = (struct shm_tx){ .ring = (struct shm_ring *)memory,
                           .ring_most = shm_frame_max(size),
                           .in_ring = shm_part_init(size),
                           .in_stow = shm_part_init(size) };
    if (tx->ring_most >= SHM_STOW_MIN)
        tx->ring_most = SHM_STOW_MIN - 1;
    tx->stow = tx->ring->data + size;
    tx->ring->head = tx->ring->stow_head = 0;
    *shm_word(tx->ring, size, 0) = 0;
}

static inline void shm_rx_go(struct shm_rx *rx, uint64_t pos)
{
    rx->pos = pos;
    rx->at = shm_word(rx->ring, rx->size, pos);
}

static inline void shm_rx_init(struct shm_rx *rx, void *memory, size_t size)
{
    *rx = (struct shm_rx){ .ring = (struct shm_ring *)memory, .size = size,
                           .tell = size / 8 < SHM_TELL ? size / 8 : SHM_TELL };
    rx->stow = rx->ring->data + size;
    shm_rx_go(rx, 0);
}

/* A queue in which nothing ever is, for as long as there is none. */
static inline void shm_rx_none(struct shm_rx *rx)
{
    static const uint64_t nothing;

    *rx = (struct shm_rx){ .at = &nothing };
}

static __attribute__((noinline, unused))
int shm_tx_place_anew(struct shm_tx *tx, uint64_t len)
{
    const struct shm_backlog backlog = { 4, 4 };
    struct shm_part *p = &tx->in_ring;
    int err;

    p->bytes = shm_after(p->tail, len) - p->tail;
    p->skip = shm_part_skip(p, &tx->ring->head, p->bytes, 2 * SHM_LINE, true, backlog);
    if (p->skip)
        p->bytes = shm_after(0, len);
    err = shm_part_room(p, &tx->ring->head, p->skip + p->bytes + SHM_LINE);
    if (!err && !shm_part_ready(p, p->skip, p->bytes))
        err = -ENOBUFS;
    p->limit = err ? 0 : shm_part_limit(p, p->tail + p->skip);
    return err;
}

/* Where a frame goes in the ring whose word and what follows it are `len` bytes: *skip
 * is left out before, and it takes *bytes. Counts the cleared word behind them. 0,
 * -EAGAIN, -ENOBUFS or -EPROTO. */
static inline __attribute__((always_inline))
int shm_tx_place(struct shm_tx *tx, uint64_t len, uint64_t *skip, uint64_t *bytes)
{
    struct shm_part *p = &tx->in_ring;
    uint64_t end = shm_after(p->tail, len);
    int err;

    if (__builtin_expect(end + 2 * SHM_LINE <= p->limit, 1)) {
        *skip = 0;
        *bytes = end - p->tail;
        return 0;
    }
    err = shm_tx_place_anew(tx, len);
    *skip = p->skip;
    *bytes = p->bytes;
    return err;
}

static inline void shm_tx_publish(struct shm_tx *tx, uint64_t skip, uint64_t bytes,
                                  uint32_t imm, uint32_t low)
{
    struct shm_part *p = &tx->in_ring;
    uint64_t *word = shm_word(tx->ring, p->size, p->tail + skip);
    uint64_t *next = shm_word(tx->ring, p->size, p->tail + skip + bytes);

    __atomic_store_n(next, 0, __ATOMIC_RELAXED);
    /* Pairs with the acquire in shm_rx_word(). */
    __atomic_store_n(word, (uint64_t)imm << 32 | low, __ATOMIC_RELEASE);
    if (__builtin_expect(skip != 0, 0))
        __atomic_store_n(shm_word(tx->ring, p->size, p->tail),
                         (uint64_t)skip << 32 | SHM_WRAP, __ATOMIC_RELEASE);
    p->tail += skip + bytes;
    /* The line that the next publish clears: fetch it for writing now, off the
     * path of a message. Benchmark: pwbench latency --sizes 8. */
    pw_fetch_for_writing((char *)next + SHM_LINE);
}

static __attribute__((noinline, unused))
void shm_gather(char *to, const struct pw_iov *iov, int n)
{
    for (int i = 0; i < n; i++) {
        pw_copy_small(to, iov[i].base, iov[i].len);
        to += iov[i].len;
    }
}

/* The bytes of a frame in the ring. The reader looks at its first line, where the word
 * will be, again and again. Were that line begun first, he would take it back while the
 * rest of a longer frame is copied, and we would fetch it twice. */
static inline __attribute__((always_inline))
void shm_fill(char *to, const struct pw_iov *iov, int n, size_t len)
{
    size_t last = iov[n - 1].len;
    char *at = to + len - last;

    if (__builtin_expect(last >= SHM_FIRST_LAST, 0)) {
        size_t first = -(uintptr_t)at & (SHM_LINE - 1);

        pw_copy(at + first, (const char *)iov[n - 1].base + first, last - first);
        __atomic_signal_fence(__ATOMIC_RELEASE);
        last = first;
    }
    if (__builtin_expect(n == 2, 1))
        pw_copy_small(to, iov[0].base, iov[0].len);
    else
        shm_gather(to, iov, n - 1);
    pw_copy_small(at, iov[n - 1].base, last);
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

static __attribute__((noinline, unused))
int shm_tx_stow(struct shm_tx *tx, uint32_t imm, const struct pw_iov *iov, int n,
                size_t len)
{
    const struct shm_backlog backlog = { 0, 8 };
    struct shm_part *p = &tx->in_stow, was = *p;
    uint64_t pad = shm_stow_pad(iov, n, len), bytes = shm_lines(pad + len), skip, line;
    size_t gap = shm_part_skip(p, &tx->ring->stow_head, bytes, 0, bytes < PW_PACE_MIN,
                               backlog);
    int err = shm_part_room(p, &tx->ring->stow_head, gap + bytes);

    if (p->ready < p->size)
        err = -ENOBUFS;
    if (!err)
        err = shm_tx_place(tx, 2 * SHM_WORD, &skip, &line);
    if (err) {
        *p = was;       /* a jump that no frame followed did not happen */
        return err;
    }
    p->tail += gap;
    shm_stow_gather(tx, tx->stow + (p->tail & (p->size - 1)) + pad, iov, n);
    shm_word(tx->ring, tx->in_ring.size, tx->in_ring.tail + skip)[1] = p->tail + pad;
    p->tail += bytes;
    shm_tx_publish(tx, skip, line, imm, (uint32_t)(len + 1) | SHM_STOWED);
    return 0;
}

/* Bytes to leave out in the ring so that the last piece, the user's as a rule, begins
 * with half a line there. Of little it would only make more. */
static inline uint64_t shm_ring_pad(const struct pw_iov *iov, int n, size_t len)
{
    size_t last = iov[n - 1].len;

    return last >= SHM_LINE ? -(SHM_WORD + len - last) & (SHM_HALF - 1) : 0;
}

/* 0, -EAGAIN no room, -ENOBUFS no memory behind it yet (in_ring.ready, in_stow.ready),
 * -EMSGSIZE, or -EPROTO: the reader's word cannot be true. len
 * is the sum of the n > 0 pieces. */
static inline __attribute__((always_inline))
int shm_tx_send(struct shm_tx *tx, uint32_t imm, const struct pw_iov *iov, int n,
                size_t len)
{
    uint64_t bytes, skip, pad;
    char *to;
    int err;

    if (__builtin_expect(len > tx->ring_most, 0))
        return len > shm_frame_max(tx->in_stow.size) ? -EMSGSIZE
                                                     : shm_tx_stow(tx, imm, iov, n, len);
    pad = shm_ring_pad(iov, n, len);
    err = shm_tx_place(tx, SHM_WORD + pad + len, &skip, &bytes);
    if (__builtin_expect(err != 0, 0))
        return err;
    to = (char *)shm_word(tx->ring, tx->in_ring.size, tx->in_ring.tail + skip);
    to += SHM_WORD + pad;
    shm_fill(to, iov, n, len);
    shm_tx_publish(tx, skip, bytes, imm, (uint32_t)(len + 1 + (pad << SHM_PAD_SHIFT)));
    return 0;
}

/* The same for two short pieces, a header and less than a line, when nothing special is
 * due. True: sent. It calls nothing, so it keeps nothing on the stack. */
static inline __attribute__((always_inline))
bool shm_tx_short(struct shm_tx *tx, uint32_t imm, const struct pw_iov iov[2])
{
    size_t first = iov[0].len, second = iov[1].len;
    struct shm_part *p = &tx->in_ring;
    uint64_t end;
    char *to;

    if (__builtin_expect((first - 1 >= SHM_LINE) | (second >= SHM_LINE), 0))
        return false;
    end = shm_after(p->tail, SHM_WORD + first + second);
    if (__builtin_expect(end + 2 * SHM_LINE > p->limit, 0))
        return false;
    to = (char *)shm_word(tx->ring, p->size, p->tail) + SHM_WORD;
    pw_copy_small(to, iov[0].base, first);
    pw_copy_small(to + first, iov[1].base, second);
    shm_tx_publish(tx, 0, end - p->tail, imm, (uint32_t)(first + second + 1));
    return true;
}

/* The bytes will be read, but not before somebody has looked at their header: have them
 * come meanwhile. */
static inline void shm_rx_fetch(const char *from, ptrdiff_t len)
{
    if (len > SHM_FETCH)
        len = SHM_FETCH;
    for (ptrdiff_t at = 0; at < len; at += SHM_LINE)
        __builtin_prefetch(from + at);
}

static inline int shm_rx_stowed(struct shm_rx *rx, const uint64_t *at, size_t len,
                                const void **data)
{
    /* Once: who distrusts the writer must use what it has checked. */
    uint64_t start = __atomic_load_n(&at[1], __ATOMIC_RELAXED);
    uint64_t off = start & (rx->size - 1);

    if (len > shm_frame_max(rx->size) || len > rx->size - off ||
        start - rx->stow_pos >= rx->size)
        return -EPROTO;
    *data = rx->stow + off;
    rx->next = shm_after(rx->pos, 2 * SHM_WORD);
    rx->stow_next = shm_lines(start + len);
    shm_rx_fetch(rx->stow + off, (ptrdiff_t)len);
    return 1;
}

/* A frame that lies in the ring, as its word says. */
static inline int shm_rx_direct(struct shm_rx *rx, const uint64_t *at, uint32_t low,
                                const void **data, size_t *len)
{
    size_t head = SHM_WORD + (low >> SHM_PAD_SHIFT);

    *len = (low & (((uint32_t)1 << SHM_PAD_SHIFT) - 1)) - (size_t)1;
    /* Within its size and before the ring's end: one branch for both. */
    if (__builtin_expect((*len >= SHM_STOW_MIN) |
                         (head + *len > rx->size - (rx->pos & (rx->size - 1))), 0))
        return -EPROTO;
    *data = (const char *)at + head;
    rx->next = shm_after(rx->pos, head + *len);
    if (__builtin_expect(head + *len > SHM_LINE, 0))
        shm_rx_fetch((const char *)at + SHM_LINE, (ptrdiff_t)(head + *len - SHM_LINE));
    return 1;
}

/* The next frame's word; 0: there is none. Pairs with the release in shm_tx_publish(). */
static inline uint64_t shm_rx_word(const struct shm_rx *rx)
{
    return __atomic_load_n(rx->at, __ATOMIC_ACQUIRE);
}

/* A word that is not of a frame in the ring, or not of a frame at all. */
static __attribute__((noinline, unused))
int shm_rx_frame_odd(struct shm_rx *rx, uint64_t word, uint32_t *imm, const void **data,
                     size_t *len)
{
    if ((uint32_t)word == SHM_WRAP) {
        uint64_t skip = word >> 32;

        if (skip & (SHM_HALF - 1) || skip > rx->size - (rx->pos & (rx->size - 1)))
            return -EPROTO;
        shm_rx_go(rx, rx->pos + skip);
        word = shm_rx_word(rx);
    }
    *imm = (uint32_t)(word >> 32);
    *len = (size_t)((uint32_t)word & ~SHM_STOWED) - 1;
    if ((uint32_t)word & SHM_STOWED)
        return shm_rx_stowed(rx, rx->at, *len, data);
    return (uint32_t)word & SHM_ODD ? -EPROTO
                                    : shm_rx_direct(rx, rx->at, (uint32_t)word, data, len);
}

static inline bool shm_rx_empty(const struct shm_rx *rx)
{
    return !shm_rx_word(rx);
}

/* The frame of that word, in place. 1 (finish with shm_rx_done()), or -EPROTO when what is
 * there cannot be a frame. Each word of the writer's is read once, and what was read is
 * checked: a writer that changes it meanwhile leads us nowhere outside of its queue. */
static inline __attribute__((always_inline))
int shm_rx_frame(struct shm_rx *rx, uint64_t word, uint32_t *imm, const void **data,
                 size_t *len)
{
    if (__builtin_expect((uint32_t)word & SHM_ODD, 0))
        return shm_rx_frame_odd(rx, word, imm, data, len);
    *imm = (uint32_t)(word >> 32);
    return shm_rx_direct(rx, rx->at, (uint32_t)word, data, len);
}

/* Both. 0: none. */
static inline int shm_rx_peek(struct shm_rx *rx, uint32_t *imm, const void **data,
                              size_t *len)
{
    uint64_t word = shm_rx_word(rx);

    return word ? shm_rx_frame(rx, word, imm, data, len) : 0;
}

/* Pairs with the acquire in shm_part_read(). */
static inline void shm_rx_publish(uint64_t *head, uint64_t *published, uint64_t pos)
{
    __atomic_store_n(head, pos, __ATOMIC_RELEASE);
    *published = pos;
}

/* Nothing is there: now is time to publish what was read. */
static inline void shm_rx_rest(struct shm_rx *rx)
{
    if (rx->pos != rx->published)
        shm_rx_publish(&rx->ring->head, &rx->published, rx->pos);
    if (rx->stow_pos != rx->stow_published)
        shm_rx_publish(&rx->ring->stow_head, &rx->stow_published, rx->stow_pos);
}

/* Through with the frame that peek gave: its bytes may be written again. */
static inline void shm_rx_done(struct shm_rx *rx)
{
    shm_rx_go(rx, rx->next);
    if (__builtin_expect(rx->pos - rx->published >= rx->tell, 0))
        shm_rx_publish(&rx->ring->head, &rx->published, rx->pos);
    if (__builtin_expect(rx->stow_next == rx->stow_pos, 1))
        return;
    rx->stow_pos = rx->stow_next;
    if (rx->stow_pos - rx->stow_published >= rx->size / 8)
        shm_rx_publish(&rx->ring->stow_head, &rx->stow_published, rx->stow_pos);
}

#endif
