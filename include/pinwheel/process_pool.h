/* SPDX-License-Identifier: BSD-3-Clause */
/* process_pool.h - the one pool of this process, whoever opens it first.
 *
 * A preloaded malloc and the MPI transport want the same pool: a buffer of malloc
 * is one copy away for the peers because the transport shows them that pool.
 *
 * A child of fork() has none until it opens one of its own.
 *
 * Any thread; not from signal handlers. Nothing here calls malloc.
 */
#ifndef PINWHEEL_PROCESS_POOL_H
#define PINWHEEL_PROCESS_POOL_H

#include "pinwheel/pool.h"

#pragma GCC visibility push(default)
#ifdef __cplusplus
extern "C" {
#endif

/* The pool of this process, opened as config says if there is none yet.
 * 0 opened; 1 it was open already, and config is not looked at;
 * -errno as pw_pool_open(), with *out NULL. Give it back with put(). */
int pw_process_pool_get(const struct pw_pool_config *config, struct pw_pool **out);

/* The last one to put it closes it, unless memory of it is still handed out: then
 * it stays, for the next get(). */
void pw_process_pool_put(struct pw_pool *pool);

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop
#endif
