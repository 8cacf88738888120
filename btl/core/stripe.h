/* SPDX-License-Identifier: BSD-3-Clause */
/* stripe.h - a put or get cut into pieces that go by several paths at once. */
#ifndef PW_STRIPE_H
#define PW_STRIPE_H

#include "core.h"

/* By `first` and all others that reach the memory by themselves. As pw_endpoint_get(), and
 * -EOPNOTSUPP: one path does it as well, nothing has been done. */
int pw_stripe(struct pw_endpoint *ep, struct pw_path *first, enum pw_op_kind kind,
              void *local, uint64_t remote, size_t len, const struct pw_key *key,
              pw_done_fn done, void *arg);

/* What one path alone does counts too for what it is worth. */
enum pw_time { PW_TIME_BEGIN, PW_TIME_END, PW_TIME_DROP };
void pw_stripe_time(struct pw_path *path, size_t len, enum pw_time what);

/* A NIC has ended a piece, or has not. Under e->progress. */
void pw_stripe_nic_done(struct pw_op *op, int status);

/* Give away what waits for a path with room. */
int pw_stripes_step(struct pw_endpoint *ep);

/* No more pieces of any of them; those that are under way end by themselves. */
void pw_stripes_fail(struct pw_endpoint *ep, int status);

#endif
