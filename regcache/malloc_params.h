/* SPDX-License-Identifier: BSD-3-Clause */
/* malloc_params.h - what a user may set for libpinwheel-malloc, by environment. */
#ifndef PINWHEEL_MALLOC_PARAMS_H
#define PINWHEEL_MALLOC_PARAMS_H

#include <stdbool.h>
#include <stddef.h>

#include "pinwheel/heap.h"
#include "pinwheel/pool.h"

struct pw_malloc_params {
    size_t threshold;
    bool verbose, fork_copies;
    struct pw_pool_config pool;
    struct pw_heap_config heap;
};

/* Calls tell() with a sentence for each value that is none; the default holds
 * then. Allocates nothing. */
void pw_malloc_params_read(struct pw_malloc_params *out,
                           void (*tell)(const char *sentence));

#endif
