/* SPDX-License-Identifier: BSD-3-Clause */
/* ways.c - the ways from one process to the other.
 *
 *   lane    two copies through shared memory: as a whole, or in pieces, so that both
 *           cores copy at the same time; by ordinary stores or by those past the cache;
 *           through what the caches hold, or through more
 *   copy    one memcpy() by the receiver, from memory that both have mapped
 *   cma     one copy by the kernel: process_vm_readv()
 */
#include "limit.h"
#include "tools/cma.h"

/* What is left of the message that goes through the lane. */
static size_t part(const struct limit_side *s, size_t size, size_t at)
{
    return size - at < s->piece ? size - at : s->piece;
}

static bool put_piece(struct limit_side *s, size_t size, size_t *at)
{
    size_t len = part(s, size, *at);

    if (!lane_put(&s->out, s->send + *at, len))
        return false;
    *at += len;
    return *at == size;
}

static bool get_piece(struct limit_side *s, size_t size, size_t *at)
{
    size_t len = part(s, size, *at);

    if (!lane_get(&s->in, s->recv + *at))
        return false;
    *at += len;
    return *at == size;
}

static int lane_move(struct limit_side *s, size_t size, long send, long recv)
{
    size_t put = 0, got = 0;

    while (send || recv) {
        if (send && put_piece(s, size, &put)) {
            put = 0;
            send--;
        }
        if (recv && get_piece(s, size, &got)) {
            got = 0;
            recv--;
        }
    }
    return 0;
}

static void lend(struct limit_side *s, long messages)
{
    while (messages--)
        limit_raise(&s->board->lent[s->side]);
}

static int copy_move(struct limit_side *s, size_t size, long send, long recv)
{
    lend(s, send);
    while (recv--) {
        limit_await(&s->board->lent[1 - s->side], ++s->awaited);
        memcpy(s->recv, s->board->send[1 - s->side], size);
    }
    return 0;
}

static int cma_move(struct limit_side *s, size_t size, long send, long recv)
{
    int err = 0;

    lend(s, send);
    while (!err && recv--) {
        limit_await(&s->board->lent[1 - s->side], ++s->awaited);
        err = pw_cma_read(s->peer, s->recv, s->board->send[1 - s->side], size);
    }
    return err ? pw_cma_why(err, s->why, PW_PAIR_WHY) : 0;
}

const struct limit_way limit_ways[LIMIT_WAYS] = {
    { .name = "lines", .pieces = true, .move = lane_move },
    { .name = "lines past the cache", .pieces = true, .past = true, .move = lane_move },
    { .name = "wide lines", .pieces = true, .wide = true, .move = lane_move },
    { .name = "wide lines past the cache", .pieces = true, .wide = true, .past = true,
      .move = lane_move },
    { .name = "copy", .lent = true, .mapped = true, .move = copy_move },
    { .name = "cma", .lent = true, .kernel = true, .move = cma_move },
};
