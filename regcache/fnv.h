/* SPDX-License-Identifier: BSD-3-Clause */
/* fnv.h - FNV-1a, to tell things apart: against accidents, not against anybody.
 *
 * Begin with PW_FNV32 or PW_FNV64 and go on with what it gave.
 * Source: http://www.isthe.com/chongo/tech/comp/fnv/
 */
#ifndef PINWHEEL_FNV_H
#define PINWHEEL_FNV_H

#include <stddef.h>
#include <stdint.h>

#define PW_FNV32 UINT32_C(0x811c9dc5)
#define PW_FNV64 UINT64_C(0xcbf29ce484222325)

static inline uint32_t pw_fnv32(uint32_t hash, const void *data, size_t len)
{
    const unsigned char *p = data;

    while (len--)
        hash = (hash ^ *p++) * UINT32_C(0x01000193);
    return hash;
}

static inline uint64_t pw_fnv64(uint64_t hash, const void *data, size_t len)
{
    const unsigned char *p = data;

    while (len--)
        hash = (hash ^ *p++) * UINT64_C(0x100000001b3);
    return hash;
}

#endif
