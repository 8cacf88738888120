/* SPDX-License-Identifier: BSD-3-Clause */
/* ops.c - gets, puts and atomics that are not done, found by number.
 *
 * The number travels to the peer and comes back, so it carries a generation: an
 * answer that comes late, twice or from nowhere finds nothing.
 *
 * Always true: an operation is ended by who took it, once. Its asker may give up
 * (a send failed) while progress finds its peer dead; both try to take it.
 */
#include <stdlib.h>

#include "core.h"

/* Under e->lock; pw_engine_flush() looks without. */
static void pending_add(struct pw_engine *e, uint32_t n)
{
    __atomic_store_n(&e->n_pending, e->n_pending + n, __ATOMIC_RELAXED);
}

static struct pw_op *pw_op_grow(struct pw_engine *e)
{
    struct pw_op **ops, *op;

    if (!(e->n_ops & (e->n_ops + 1))) {
        ops = realloc(e->ops, 2 * ((size_t)e->n_ops + 1) * sizeof(struct pw_op *));
        if (!ops)
            return NULL;
        e->ops = ops;
    }
    op = calloc(1, sizeof(*op));
    if (!op)
        return NULL;
    op->id = (uint64_t)1 << 32 | e->n_ops;
    e->ops[e->n_ops] = op;
    __atomic_store_n(&e->n_ops, e->n_ops + 1, __ATOMIC_RELAXED);
    return op;
}

struct pw_op *pw_op_new(struct pw_engine *e, const struct pw_op *what, uint64_t *id)
{
    struct pw_op *op;

    pw_lock(e);
    op = e->free_ops;
    if (op)
        e->free_ops = op->next;
    else
        op = pw_op_grow(e);
    if (op) {
        *id = op->id;
        *op = *what;
        op->id = *id;
        op->born = e->ops_born++;
        pending_add(e, 1);
    }
    pw_unlock(e);
    return op;
}

struct pw_op *pw_op_find(struct pw_engine *e, uint64_t id)
{
    uint32_t i = (uint32_t)id;
    struct pw_op *op = NULL;

    pw_lock(e);
    if (i < e->n_ops && e->ops[i]->id == id && e->ops[i]->kind != PW_OP_FREE)
        op = e->ops[i];
    pw_unlock(e);
    return op;
}

bool pw_op_take(struct pw_engine *e, struct pw_op *op, uint64_t id, struct pw_op *was)
{
    struct pw_region *own = NULL;
    bool ours;

    pw_lock(e);
    ours = op->id == id && op->kind != PW_OP_FREE;
    if (ours) {
        if (was)
            *was = *op;
        own = op->own;
        op->kind = PW_OP_FREE;
        op->id += (uint64_t)1 << 32;
        op->next = e->free_ops;
        e->free_ops = op;
        pending_add(e, -1u);
        if (op->rescue)
            pw_rescue_count(e, -1u);
    }
    pw_unlock(e);
    pw_own_put(e, own);
    return ours;
}

void pw_whole_add(struct pw_engine *e, struct pw_whole *w)
{
    struct pw_whole **at = &e->wholes;

    while (*at)
        at = &(*at)->next;
    w->born = e->ops_born++;
    w->next = NULL;
    *at = w;
    pending_add(e, 1);
}

void pw_whole_drop(struct pw_engine *e, struct pw_whole *w)
{
    struct pw_whole **at = &e->wholes;

    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    pending_add(e, -1u);
}

uint64_t pw_ops_begun(struct pw_engine *e)
{
    uint64_t n;

    pw_lock(e);
    n = e->ops_born;
    pw_unlock(e);
    return n;
}

bool pw_ops_before(struct pw_engine *e, uint64_t begun, uint32_t *at)
{
    bool found;

    pw_lock(e);
    found = e->wholes && e->wholes->born < begun;
    while (*at < e->n_ops && !found) {
        const struct pw_op *op = e->ops[*at];

        found = op->kind != PW_OP_FREE && op->born < begun;
        *at += !found;
    }
    pw_unlock(e);
    return found;
}

void pw_ops_fini(struct pw_engine *e)
{
    for (uint32_t i = 0; i < e->n_ops; i++)
        free(e->ops[i]);
    free(e->ops);
}
