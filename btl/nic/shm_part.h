/* SPDX-License-Identifier: BSD-3-Clause */
/* shm_part.h - where the writer of one part of a queue goes on: its ring, or its stow.
 *
 * Start at shm_part_skip(). A part is a circle of bytes. For little, lines that both
 * cores have in their caches are the cheapest ones. So once the writer has used the first
 * few KiB (hot) it jumps back to the beginning, if the reader has kept up; a burst spreads
 * over the whole. Long frames (PW_PACE_MIN) always go lap by lap: the stow is large enough
 * that its lines have left the reader's cache when they are written again, which for them
 * is cheaper. doc/costs.md has the measurements.
 *
 * What was unread at a jump, with the word in the ring that tells of it, lies a lap later
 * in the midst of what is free: the writer goes around it (hop), so a jump costs a burst
 * next to no room. The writer looks how far the reader is when it believes that there is
 * no room, or that it may jump.
 */
#ifndef PW_SHM_PART_H
#define PW_SHM_PART_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SHM_LINE = 64, SHM_WORD = 8 };

/* At most so much of a part is hot: with what stands before it, two pages. */
enum { SHM_HOT = 8192 - SHM_LINE };

/* The writer's books of one part. Bytes left out count as written, and those of a jump
 * as read: what the reader has published is then from jump_low up to jump_from until it
 * comes to jump_to. What it has not read at that moment lies a lap later in
 * block_start up to block_end. */
struct shm_part {
    size_t size;
    size_t ready;               /* from its beginning there is memory for so much */
    uint64_t tail;              /* bytes written */
    uint64_t seen;              /* bytes read, when last looked */
    uint64_t turn;              /* when tail is there: jump? */
    uint64_t limit;             /* see shm_part_limit(); of the ring only */
    uint64_t skip, bytes;       /* where shm_tx_place_anew() puts the next frame */
    uint64_t jump_low, jump_from, jump_to;
    uint64_t block_start, block_end;
};

static inline uint64_t shm_lines(uint64_t len)
{
    return (len + SHM_LINE - 1) & ~(uint64_t)(SHM_LINE - 1);
}

static inline size_t shm_hot(size_t size)
{
    return size / 2 < SHM_HOT ? size / 2 : SHM_HOT;
}

static inline struct shm_part shm_part_init(size_t size)
{
    return (struct shm_part){ .size = size, .ready = size, .turn = shm_hot(size),
                              .block_start = UINT64_MAX };
}

/* Has a reader that published `now` not come to the last jump yet? */
static inline bool shm_part_before_jump(const struct shm_part *p, uint64_t now)
{
    return now - p->jump_low <= p->jump_from - p->jump_low;
}

/* How far the reader has read. Pairs with the release in shm_rx_publish(): it is
 * through with what it published before we write there again. */
static inline uint64_t shm_part_read(const struct shm_part *p, const uint64_t *head)
{
    uint64_t now = __atomic_load_n(head, __ATOMIC_ACQUIRE);

    return shm_part_before_jump(p, now) ? p->jump_to : now;
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

/* Do so many bytes, `skip` further on, end where there is memory, with a line behind? */
static inline bool shm_part_ready(const struct shm_part *p, size_t skip, size_t bytes)
{
    size_t at = (p->tail + skip) & (p->size - 1);

    return p->ready == p->size || at + bytes + SHM_LINE <= p->ready;
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

    if (p->tail < p->block_end && shm_part_before_jump(p, now))
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
    if (p->ready < p->size && limit > lap_end - p->size + p->ready)
        limit = lap_end - p->size + p->ready;
    return limit < p->block_start ? limit : p->block_start;
}

#endif
