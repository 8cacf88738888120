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
 * lie in the stow, a larger ring.
 *
 * Where the writer goes on. For little, lines that both cores have in their caches are
 * the cheapest ones. So once the writer has used the first few KiB of either part (hot)
 * it jumps back to the beginning, if the reader has kept up; a burst spreads over the
 * whole. Long frames (PW_PACE_MIN) always use the whole stow, lap by lap: it is large
 * enough that its lines have left the reader's cache when they are written again, which
 * for them is cheaper. doc/costs.md has the measurements.
 *
 * Always true: the word after the last published frame is 0. The writer clears
 * it before it publishes, so bytes of an earlier lap are never taken for a word.
 *
 * Frames are contiguous. Where one does not fit before the end, or the writer jumps, it
 * leaves out what is left; in the ring the word WRAP tells how much. After a jump that
 * word, and what was unread then, lies in the midst of what is free: the writer goes
 * around it (block), so a jump costs a burst next to no room. How far the reader has
 * read (head, stow_head) is published now and then only: when nothing is left to read,
 * and every eighth of either part. The writer looks when it believes that there is no
 * room, or that it may jump.
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

enum { SHM_LINE = 64, SHM_HALF = 32, SHM_WORD = 8, SHM_STOW_MIN = 2048 };

/* At most so much of a part is hot. */
enum { SHM_HOT = 8192 };

/* So much of a frame is fetched ahead. */
enum { SHM_FETCH = 1024 };

/* Sizes of the stow, bytes; a power of two. The ring's size follows from it. */
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

/* The writer's books of one part. Bytes left out count as written, and those of a jump
 * as read: what the reader has published is then from jump_low up to jump_from until it
 * comes to jump_to. What it has not read at that moment lies a lap later in
 * block_start up to block_end. */
struct shm_part {
    size_t size;
    uint64_t tail;              /* bytes written */
    uint64_t seen;              /* bytes read, when last looked */
    uint64_t turn;              /* when tail is there: jump? */
    uint64_t limit;             /* see shm_part_limit(); of the ring only */
    uint64_t skip, bytes;       /* where shm_tx_place_anew() puts the next frame */
    uint64_t jump_low, jump_from, jump_to;
    uint64_t block_start, block_end;
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
    struct shm_ring *ring;
    char *stow;
    size_t size, stow_size;
    uint64_t pos, stow_pos;             /* bytes read */
    uint64_t published, stow_published; /* what head and stow_head say */
    uint64_t next, stow_next;           /* pos and stow_pos after this frame; stow_next
                                         * is stow_pos where it is not stowed */
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

static inline size_t shm_hot(size_t size)
{
    return size / 2 < SHM_HOT ? size / 2 : SHM_HOT;
}

static inline struct shm_part shm_part_init(size_t size)
{
    return (struct shm_part){ .size = size, .turn = shm_hot(size), .block_start = UINT64_MAX };
}

static inline void shm_tx_init(struct shm_tx *tx, void *memory, size_t stow_size)
{
    size_t size = shm_ring_size(stow_size);

    *tx = (struct shm_tx){ .ring = (struct shm_ring *)memory,
                           .ring_most = size / 4 - SHM_LINE,
                           .in_ring = shm_part_init(size),
                           .in_stow = shm_part_init(stow_size) };
    if (tx->ring_most >= SHM_STOW_MIN)
        tx->ring_most = SHM_STOW_MIN - 1;
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

/* How far the reader has read. Pairs with the release in shm_rx_publish(): it is
 * through with what it published before we write there again. */
static inline uint64_t shm_part_read(const struct shm_part *p, const uint64_t *head)
{
    uint64_t now = __atomic_load_n(head, __ATOMIC_ACQUIRE);

    return now - p->jump_low <= p->jump_from - p->jump_low ? p->jump_to : now;
}

/* Are `need` bytes free? 0, -EAGAIN, or -EPROTO when the reader claims to have
 * read what was not written, or takes back what it had read. Looks at the reader's
 * line only when it must. */
static inline int shm_part_room(struct shm_part *p, const uint64_t *head, uint64_t need)
{
    uint64_t now;

    if (__builtin_expect(p->tail + need - p->seen <= p->size, 1))
        return 0;
    now = shm_part_read(p, head);
    if (__builtin_expect(now - p->seen > p->tail - p->seen, 0))
        return -EPROTO;
    p->seen = now;
    return p->tail + need - now <= p->size ? 0 : -EAGAIN;
}

/* How much may be unread at a jump, in eighths of what is hot: soon after the writer has
 * used that, and when it has used twice as much. */
struct shm_backlog {
    uint16_t early, late;
};

/* It is time: has the reader read enough, so that the writer may go on at the beginning
 * with `need` bytes? Bytes left out for that, or 0: then look again soon, but after a
 * burst that went far beyond what is hot not before the next lap. To write again what
 * only the reader's larger cache has is dearer than what none has. */
static __attribute__((noinline, unused))
size_t shm_part_jump(struct shm_part *p, const uint64_t *head, size_t need,
                     struct shm_backlog backlog)
{
    size_t at = p->tail & (p->size - 1), hot = shm_hot(p->size);
    size_t most = hot / 8 * (at < 2 * hot ? backlog.early : backlog.late);
    uint64_t now, unread;

    if (at + need < hot || at >= 3 * hot) {
        p->turn = p->tail - at + hot + (at < hot ? 0 : p->size);
        return 0;
    }
    now = shm_part_read(p, head);
    unread = p->tail - now;
    if (unread > most || need + unread > at) {
        p->turn = p->tail + hot / 8;
        return 0;
    }
    p->jump_low = now;
    p->jump_from = p->tail;
    p->jump_to = p->seen = p->tail + (p->size - at);
    p->turn = p->jump_to + hot;
    p->block_start = (now & ~(uint64_t)(SHM_LINE - 1)) + p->size;
    p->block_end = shm_lines(p->tail + SHM_WORD) + p->size;
    return p->size - at;
}

/* Bytes to leave out where what was unread at the last jump, the word of the jump among
 * it, may be so still. */
static __attribute__((noinline, unused))
size_t shm_part_hop(struct shm_part *p, const uint64_t *head)
{
    uint64_t now = __atomic_load_n(head, __ATOMIC_ACQUIRE);

    if (p->tail < p->block_end && now - p->jump_low <= p->jump_from - p->jump_low)
        return p->block_end - p->tail;
    p->block_start = UINT64_MAX;
    return 0;
}

/* Bytes to leave out before `bytes`, which need so many more behind them. After a jump
 * there is room in this part, and it is noted down: who does not leave its bytes out puts
 * back what p was. */
static inline size_t shm_part_skip(struct shm_part *p, const uint64_t *head, size_t bytes,
                                   size_t more, bool jump, struct shm_backlog backlog)
{
    size_t to_end = p->size - (p->tail & (p->size - 1)), skip = 0;

    if (p->tail + bytes + more > p->turn && jump)
        skip = shm_part_jump(p, head, bytes + more, backlog);
    if (!skip && p->tail + bytes + more > p->block_start)
        skip = shm_part_hop(p, head);
    return skip + bytes > to_end ? to_end : skip;
}

/* Everything that may keep a frame from just following the last one comes at a known
 * position. The first of these, for a frame that ends two lines before. */
static inline uint64_t shm_part_limit(const struct shm_part *p, uint64_t from)
{
    uint64_t lap_end = (from | (p->size - 1)) + 1, limit = lap_end + 2 * SHM_LINE;

    if (limit > p->seen + p->size + SHM_LINE)
        limit = p->seen + p->size + SHM_LINE;
    if (limit > p->turn)
        limit = p->turn;
    return limit < p->block_start ? limit : p->block_start;
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
    p->limit = err ? 0 : shm_part_limit(p, p->tail + p->skip);
    return err;
}

/* Where a frame goes in the ring whose word and what follows it are `len` bytes: *skip
 * is left out before, and it takes *bytes. Counts the cleared word behind them. 0,
 * -EAGAIN or -EPROTO. */
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
    /* Pairs with the acquire in shm_rx_peek(). */
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
int shm_tx_stow(struct shm_tx *tx, uint32_t imm, const struct pw_iov *iov,
                              int n, size_t len)
{
    const struct shm_backlog backlog = { 0, 8 };
    struct shm_part *p = &tx->in_stow, was = *p;
    uint64_t pad = shm_stow_pad(iov, n, len), bytes = shm_lines(pad + len), skip, line;
    size_t gap = shm_part_skip(p, &tx->ring->stow_head, bytes, 0, bytes < PW_PACE_MIN,
                               backlog);
    int err = shm_part_room(p, &tx->ring->stow_head, gap + bytes);

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

/* 0, -EAGAIN no room, -EMSGSIZE, or -EPROTO: the reader's word cannot be true. len
 * is the sum of the n > 0 pieces. */
static inline __attribute__((always_inline))
int shm_tx_send(struct shm_tx *tx, uint32_t imm, const struct pw_iov *iov, int n, size_t len)
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
    to = (char *)shm_word(tx->ring, tx->in_ring.size, tx->in_ring.tail + skip) + SHM_WORD + pad;
    if (__builtin_expect(n == 2, 1)) {
        pw_copy_small(to, iov[0].base, iov[0].len);
        pw_copy_small(to + iov[0].len, iov[1].base, iov[1].len);
    } else {
        shm_gather(to, iov, n);
    }
    shm_tx_publish(tx, skip, bytes, imm, (uint32_t)(len + 1 + (pad << SHM_PAD_SHIFT)));
    return 0;
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
    uint64_t off = start & (rx->stow_size - 1);

    if (len > shm_frame_max(rx->stow_size) || len > rx->stow_size - off ||
        start - rx->stow_pos >= rx->stow_size)
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
    if (__builtin_expect((*len > rx->size / 4) |
                         (head + *len > rx->size - (rx->pos & (rx->size - 1))), 0))
        return -EPROTO;
    *data = (const char *)at + head;
    rx->next = shm_after(rx->pos, head + *len);
    if (__builtin_expect(head + *len > SHM_LINE, 0))
        shm_rx_fetch((const char *)at + SHM_LINE, (ptrdiff_t)(head + *len - SHM_LINE));
    return 1;
}

/* A word that is not of a frame in the ring, or not of a frame at all. */
static __attribute__((noinline, unused))
int shm_rx_peek_odd(struct shm_rx *rx, uint64_t word, uint32_t *imm, const void **data,
                    size_t *len)
{
    const uint64_t *at;

    if ((uint32_t)word == SHM_WRAP) {
        uint64_t skip = word >> 32;

        if (skip & (SHM_HALF - 1) || skip > rx->size - (rx->pos & (rx->size - 1)))
            return -EPROTO;
        rx->pos += skip;
        /* Pairs with the release in shm_tx_publish(). */
        word = __atomic_load_n(shm_word(rx->ring, rx->size, rx->pos), __ATOMIC_ACQUIRE);
    }
    at = shm_word(rx->ring, rx->size, rx->pos);
    *imm = (uint32_t)(word >> 32);
    *len = (size_t)((uint32_t)word & ~SHM_STOWED) - 1;
    if ((uint32_t)word & SHM_STOWED)
        return shm_rx_stowed(rx, at, *len, data);
    return (uint32_t)word & SHM_ODD ? -EPROTO
                                    : shm_rx_direct(rx, at, (uint32_t)word, data, len);
}

/* The next frame, in place. 1 there is one (finish with shm_rx_done()), 0 none,
 * -EPROTO when what is there cannot be a frame. Each word of the writer's is read
 * once, and what was read is checked: a writer that changes it meanwhile leads us
 * nowhere outside of its queue. */
static inline __attribute__((always_inline))
int shm_rx_peek(struct shm_rx *rx, uint32_t *imm, const void **data, size_t *len)
{
    const uint64_t *at = shm_word(rx->ring, rx->size, rx->pos);
    /* Pairs with the release in shm_tx_publish(). */
    uint64_t word = __atomic_load_n(at, __ATOMIC_ACQUIRE);

    if (__builtin_expect(!word, 1))
        return 0;
    if (__builtin_expect((uint32_t)word & SHM_ODD, 0))
        return shm_rx_peek_odd(rx, word, imm, data, len);
    *imm = (uint32_t)(word >> 32);
    return shm_rx_direct(rx, at, (uint32_t)word, data, len);
}

static inline bool shm_rx_empty(struct shm_rx *rx)
{
    return !__atomic_load_n(shm_word(rx->ring, rx->size, rx->pos), __ATOMIC_ACQUIRE);
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
    rx->pos = rx->next;
    if (__builtin_expect(rx->pos - rx->published >= rx->size / 8, 0))
        shm_rx_publish(&rx->ring->head, &rx->published, rx->pos);
    if (__builtin_expect(rx->stow_next == rx->stow_pos, 1))
        return;
    rx->stow_pos = rx->stow_next;
    if (rx->stow_pos - rx->stow_published >= rx->stow_size / 8)
        shm_rx_publish(&rx->ring->stow_head, &rx->stow_published, rx->stow_pos);
}

#endif
