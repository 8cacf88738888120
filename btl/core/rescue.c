/* SPDX-License-Identifier: BSD-3-Clause */
/* rescue.c - a stream that does not come, for its owner computes.
 *
 * Start at pw_rescue_look().
 *
 * Always true: the owner reads CANCEL before anything that tells it that the get is
 * done, for both travel in the same order; so its stream is gone before its memory
 * may be. Frames of the stream that are under way find no operation and are dropped.
 */
#include "rescue.h"

#include "path.h"

/* Whatever the copy costs: below, a wait is what a busy owner needs to look up;
 * above, nobody gains by waiting longer. */
enum { PW_RESCUE_LEAST_NS = 20 * 1000, PW_RESCUE_MOST_NS = 200 * 1000 };

bool pw_rescue_possible(const struct pw_path *path, enum pw_reach reach)
{
    return reach == PW_REACH_KERNEL && path->nic->info.flags & PW_NIC_PROMPT &&
           pw_path_keyless(path);
}

static uint64_t patience_ns(const struct pw_engine *e, const struct pw_op *op)
{
    uint64_t ns = pw_cost_ns(&e->config.costs.kernel, op->len - op->moved);

    return ns < PW_RESCUE_LEAST_NS ? PW_RESCUE_LEAST_NS :
           ns > PW_RESCUE_MOST_NS ? PW_RESCUE_MOST_NS : ns;
}

/* Has its owner been silent for long? One that sends the bytes of another get is not.
 * The time begins when that is first seen. */
static bool overdue(const struct pw_engine *e, struct pw_op *op, uint64_t now_ns)
{
    if (!op->heard_ns || op->heard != op->ep->heard) {
        op->heard = op->ep->heard;
        op->heard_ns = now_ns;
        return false;
    }
    return now_ns - op->heard_ns >= patience_ns(e, op);
}

/* true: it has ended. */
static bool rescue(struct pw_engine *e, struct pw_op *op)
{
    struct pw_endpoint *ep = op->ep;
    struct pw_f_cancel f = { .id = op->id };
    size_t left = op->len - op->moved;
    enum pw_reach reach;
    struct pw_path *path = pw_path_reach(ep, op->remote + op->moved, left, NULL, &reach);
    int err;

    op->rescue = false;
    pw_rescue_count(e, -1u);
    if (!path || !pw_rescue_possible(path, reach) ||
        pw_control_send(ep, PW_F_CANCEL, &f, sizeof(f)))
        return false;
    err = path->nic->ops->get(path->peer, (char *)op->local + op->moved,
                              op->remote + op->moved, left, NULL, NULL);
    if (err)
        return pw_transfer_again(op);
    pw_count(&e->stats.kernel_bytes, left);
    pw_count(&e->stats.rescued, 1);
    op->moved = op->len;
    pw_transfer_end(op, 0);
    return true;
}

/* Under e->progress. Others make operations meanwhile, only we end streamed ones. */
int pw_rescue_look(struct pw_engine *e, uint64_t now_ns)
{
    int n = 0;

    for (uint32_t i = 0; i < __atomic_load_n(&e->n_ops, __ATOMIC_RELAXED); i++) {
        struct pw_op *op;
        bool due;

        pw_lock(e);
        op = e->ops[i];
        due = op->kind == PW_OP_GET && op->by == PW_BY_FRAMES && op->rescue &&
              pw_endpoint_alive(op->ep) && overdue(e, op, now_ns);
        pw_unlock(e);
        if (due)
            n += rescue(e, op);
    }
    return n;
}
