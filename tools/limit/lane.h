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

enum {
    LANE_LINE = 64,
    LANE_HEAD = 24,                 /* the word and the 16 bytes */
    LANE_PIECE_MAX = 64 * 1024,
    LANE_BYTES = 2 * (LANE_PIECE_MAX + LANE_LINE),
    LANE_SLOTS = 128,               /* at most: more would leave the first cache */
};

struct lane {
    _Alignas(LANE_LINE) _Atomic uint64_t read;
    _Alignas(LANE_LINE) char slot[LANE_BYTES];
};

struct lane_head {
    _Atomic uint64_t word;
    uint64_t about, len;
};

/* Each side's view: how slots are laid out, and how far it is. */
struct lane_shape {
    size_t stride, offset;          /* from slot to slot; of the bytes in a slot */
    uint64_t slots;
};

struct lane_out {
    struct lane *lane;
    struct lane_shape shape;
    uint64_t n, read;               /* written; known to be read */
    size_t next;                    /* the slot of the next */
};

struct lane_in {
    struct lane *lane;
    struct lane_shape shape;
    uint64_t n, told;
    size_t next;
};

/* For pieces of at most so many bytes. Bytes that need more lines anyway begin with one. */
static inline struct lane_shape lane_shape(size_t piece)
{
    size_t offset = LANE_HEAD + piece <= LANE_LINE ? LANE_HEAD : LANE_LINE;
    size_t stride = (offset + piece + LANE_LINE - 1) / LANE_LINE * LANE_LINE;
    size_t slots = LANE_BYTES / stride;

    return (struct lane_shape){ stride, offset, slots < LANE_SLOTS ? slots : LANE_SLOTS };
}

static inline struct lane_head *lane_head(struct lane *l, size_t at)
{
    return (struct lane_head *)(void *)(l->slot + at);
}

/* False: no room. */
static inline bool lane_put(struct lane_out *o, const char *from, size_t len)
{
    struct lane_head *h = lane_head(o->lane, o->next);

    if (o->n - o->read == o->shape.slots) {
        /* Pairs with the release in lane_get(): what was read may be overwritten. */
        o->read = atomic_load_explicit(&o->lane->read, memory_order_acquire);
        if (o->n - o->read == o->shape.slots)
            return false;
    }
    memcpy((char *)h + o->shape.offset, from, len);
    h->about = o->n;
    h->len = len;
    /* Pairs with the acquire in lane_get(). */
    atomic_store_explicit(&h->word, ++o->n, memory_order_release);
    o->next += o->shape.stride;
    if (o->next == o->shape.slots * o->shape.stride)
        o->next = 0;
    return true;
}

/* False: nothing there. */
static inline bool lane_get(struct lane_in *i, char *to)
{
    struct lane_head *h = lane_head(i->lane, i->next);

    if (atomic_load_explicit(&h->word, memory_order_acquire) != i->n + 1)
        return false;
    memcpy(to, (char *)h + i->shape.offset, h->len);
    i->n++;
    if (i->n - i->told >= (i->shape.slots + 3) / 4) {
        i->told = i->n;
        atomic_store_explicit(&i->lane->read, i->n, memory_order_release);
    }
    i->next += i->shape.stride;
    if (i->next == i->shape.slots * i->shape.stride)
        i->next = 0;
    return true;
}

#endif
