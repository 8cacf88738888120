/* SPDX-License-Identifier: BSD-3-Clause */
/* index.h - where a hit looks: see index.c. Inline, for it is on the hit's way. */
#ifndef PINWHEEL_INDEX_H
#define PINWHEEL_INDEX_H

#include "cache.h"

struct pw_table {
    uint32_t bits;              /* 1 << bits entries */
    uint32_t used;
    struct pw_table *older;     /* readers may still be in it */
    uint32_t entry[];           /* tag << 24 | number + 1; 0: free */
};

static inline uint64_t pw_index_slot(const struct pw_table *t, uint64_t hash)
{
    return hash >> (64 - t->bits);
}

#endif
