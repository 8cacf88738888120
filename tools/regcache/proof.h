/* SPDX-License-Identifier: BSD-3-Clause */
/* proof.h - a cache does its work before it is measured. */
#ifndef PW_TOOLS_REGCACHE_PROOF_H
#define PW_TOOLS_REGCACHE_PROOF_H

#include "driver.h"

/* The second get is a hit; memory that was unmapped and mapped anew is pinned anew;
 * what is in use when it is unmapped stays pinned until it is put, and no longer
 * (not asked of a cache that ends the process then).
 * 0; or -1, and note says what the cache did wrong. */
int proof(void *cache, struct pins *pins, char note[DRIVER_NOTE_MAX]);

#endif
