/* SPDX-License-Identifier: BSD-3-Clause */
/* malloc_fork.h - a fork of a process whose heap is in the pool. */
#ifndef PINWHEEL_MALLOC_FORK_H
#define PINWHEEL_MALLOC_FORK_H

/* Have the C library call us around each fork(). Once, as early as can be: handlers
 * that others register later run before ours in the parent and after ours in the
 * child, and so see the blocks as they should be. 0 or an error number. */
int pw_malloc_fork_start(void);

#endif
