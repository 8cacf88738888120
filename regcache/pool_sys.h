/* SPDX-License-Identifier: BSD-3-Clause */
/* pool_sys.h - the pool on a system call table of the caller's, for tests. */
#ifndef PINWHEEL_POOL_SYS_H
#define PINWHEEL_POOL_SYS_H

#include "pinwheel/pool.h"
#include "sys.h"

/* As pw_pool_open(), pw_pool_map() and pw_pool_probe(). sys must outlive the
 * pool. */
int pw_pool_open_sys(const struct pw_pool_config *config, const struct pw_sys *sys,
                     struct pw_pool **out);
int pw_pool_map_sys(const struct pw_sys *sys, int fd, size_t size, void **base);
int pw_pool_probe_sys(const struct pw_sys *sys, struct pw_pool_info *out);

#endif
