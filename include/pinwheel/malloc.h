/* SPDX-License-Identifier: BSD-3-Clause */
/* malloc.h - what libpinwheel-malloc.so is doing in this process.
 *
 * A program does not link it: it is preloaded or it is not, and
 *
 *     #pragma weak pw_malloc_describe
 *     if (pw_malloc_describe) pw_malloc_describe(&info);
 *
 * tells. What it does for malloc() and fork(), and its parameters, are in
 * pinwheel-malloc(7).
 */
#ifndef PINWHEEL_MALLOC_H
#define PINWHEEL_MALLOC_H

#include <stdbool.h>
#include <stddef.h>

#include "pinwheel/heap.h"

#pragma GCC visibility push(default)
#ifdef __cplusplus
extern "C" {
#endif

struct pw_malloc_info {
    size_t threshold;           /* requests of so many bytes go to the pool */
    bool open;                  /* it has a pool; the rest is zero else */
    struct pw_pool_info pool;
    struct pw_heap_stats heap;
};

/* Any thread; not from a signal handler. */
void pw_malloc_describe(struct pw_malloc_info *out);

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop
#endif
