/* SPDX-License-Identifier: BSD-3-Clause */
/* draw.h - numbers at random that are the same each time: splitmix64. */
#ifndef PW_DRAW_H
#define PW_DRAW_H

#include <stdint.h>

static inline uint64_t draw(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15u;

    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

#endif
