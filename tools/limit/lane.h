/* SPDX-License-Identifier: BSD-3-Clause */
/* lane.h - slots of lines in shared memory, from one side to the other.
 *
 * The least that carries a message with what MPI has to tell about it: a word that says
 * that it is there, 16 bytes for its length, tag, source and communicator, and the bytes;
 * all in one line where they fit. The word is the message's number and is written last.
 * The reader tells how far it is after each quarter of the slots. In a header, for a call
 * would cost as much as the rest.
 */
#ifndef PW_LIMIT_LANE_H
#define PW_LIMIT_LANE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "pinwheel/copy.h"

enum {
    LANE_LINE = 64,
    LANE_HEAD = 24,                 /* the word and the 16 bytes */
    LANE_PIECE_MAX = 64 * 1024,
    LANE_BYTES = 8 * LANE_PIECE_MAX,
    LANE_WIDE_BYTES = 64 * LANE_PIECE_MAX,  /* more than both cores' second caches */
    LANE_PAGE = 4096,
    LANE_SLOTS = 128,               /* at most: more would leave the first cache */
};

struct lane_head {
    _Alignas(LANE_LINE) _Atomic uint64_t word;
    uint64_t about, len;
    char bytes[LANE_LINE - LANE_HEAD];
};

/* Bytes that do not fit beside their head lie in the body, where they begin at a line, as
 * the caller's buffer does: a copy whose target is a line further in its page than its
 * source is slow. */
struct lane {
    _Alignas(LANE_LINE) _Atomic uint64_t read;
    struct lane_head head[LANE_SLOTS];
    _Alignas(LANE_PAGE) char body[LANE_WIDE_BYTES];
};

/* Each side's view: how slots are laid out, and how far it is. */
struct lane_shape {
    size_t stride;                  /* from slot to slot in the body; 0: beside the head */
    size_t slots;
};

struct lane_out {
    struct lane *lane;
    struct lane_shape shape;
    bool past;                      /* stores past the cache */
    uint64_t n, read;               /* written; known to be read */
    size_t next;                    /* slot */
};

struct lane_in {
    struct lane *lane;
    struct lane_shape shape;
    uint64_t n, told;
    size_t next;
};

/* For pieces of at most so many bytes. wide: so many slots that their lines have left
 * both caches when they are written again. */
static inline struct lane_shape lane_shape(size_t piece, bool wide)
{
    size_t stride = (piece + LANE_LINE - 1) / LANE_LINE * LANE_LINE, slots;

    if (LANE_HEAD + piece <= LANE_LINE)
        return (struct lane_shape){ 0, LANE_SLOTS };
    slots = (wide ? LANE_WIDE_BYTES : LANE_BYTES) / stride;
    return (struct lane_shape){ stride, slots < LANE_SLOTS ? slots : LANE_SLOTS };
}

static inline char *lane_bytes(struct lane *l, const struct lane_shape *shape, size_t slot)
{
    return shape->stride ? l->body + slot * shape->stride : l->head[slot].bytes;
}

/* The lines are asked for all at once: one after the other, each store would wait for its
 * line to come from the reader's cache. */
static inline void lane_fill(const struct lane_out *o, char *to, const char *from,
                             size_t len)
{
    if (o->past) {
        pw_copy_past_cache(to, from, len);
        return;
    }
    for (size_t at = 0; at < len; at += LANE_LINE)
        pw_fetch_for_writing(to + at);
    pw_copy(to, from, len);
}

/* False: no room. */
static inline bool lane_put(struct lane_out *o, const char *from, size_t len)
{
    struct lane_head *h = &o->lane->head[o->next];

    if (o->n - o->read == o->shape.slots) {
        /* Pairs with the release in lane_get(): what was read may be overwritten. */
        o->read = atomic_load_explicit(&o->lane->read, memory_order_acquire);
        if (o->n - o->read == o->shape.slots)
            return false;
    }
    lane_fill(o, lane_bytes(o->lane, &o->shape, o->next), from, len);
    h->about = o->n;
    h->len = len;
    /* Pairs with the acquire in lane_get(). */
    atomic_store_explicit(&h->word, ++o->n, memory_order_release);
    if (++o->next == o->shape.slots)
        o->next = 0;
    return true;
}

/* False: nothing there. */
static inline bool lane_get(struct lane_in *i, char *to)
{
    struct lane_head *h = &i->lane->head[i->next];

    if (atomic_load_explicit(&h->word, memory_order_acquire) != i->n + 1)
        return false;
    memcpy(to, lane_bytes(i->lane, &i->shape, i->next), h->len);
    i->n++;
    if (i->n - i->told >= (i->shape.slots + 3) / 4) {
        i->told = i->n;
        atomic_store_explicit(&i->lane->read, i->n, memory_order_release);
    }
    if (++i->next == i->shape.slots)
        i->next = 0;
    return true;
}

#endif
