/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_pattern.c - see pwbench_pattern.h. */
#include "pwbench_pattern.h"

#include <stdint.h>
#include <string.h>

enum { POISON = 0xa5 };

/* Word i of a message: a multiplicative hash, different in all bytes for
 * neighbours in any of the four numbers. */
static uint64_t word_at(const struct pw_place *p, size_t i)
{
    uint64_t x = i + 1;

    x = x * 0x9e3779b97f4a7c15u + (uint64_t)p->round;
    x = (x ^ x >> 29) * 0xbf58476d1ce4e5b9u + (uint64_t)p->slot;
    x = (x ^ x >> 32) * 0x94d049bb133111ebu + (uint64_t)p->sender;
    return x ^ x >> 31;
}

void pw_pattern_fill(char *mem, size_t size, const struct pw_place *p)
{
    for (size_t at = 0; at < size; at += 8) {
        uint64_t word = word_at(p, at / 8);
        memcpy(mem + at, &word, size - at < 8 ? size - at : 8);
    }
}

unsigned char pw_pattern_byte(const struct pw_place *p, size_t at)
{
    unsigned char bytes[8];
    uint64_t word = word_at(p, at / 8);

    memcpy(bytes, &word, 8);
    return bytes[at % 8];
}

void pw_poison(char *mem, size_t size)
{
    memset(mem, POISON, size + PW_GUARD);
}

bool pw_pattern_verify(const char *mem, size_t size, const struct pw_place *p,
                       struct pw_wrong *wrong)
{
    for (size_t at = 0; at < size; at += 8) {
        uint64_t word = word_at(p, at / 8);

        if (!memcmp(mem + at, &word, size - at < 8 ? size - at : 8))
            continue;
        while ((unsigned char)mem[at] == pw_pattern_byte(p, at))
            at++;
        *wrong = (struct pw_wrong){ at, (unsigned char)mem[at], pw_pattern_byte(p, at) };
        return false;
    }
    return true;
}

bool pw_guard_verify(const char *mem, size_t size, struct pw_wrong *wrong)
{
    for (size_t at = size; at < size + PW_GUARD; at++) {
        if ((unsigned char)mem[at] != POISON) {
            *wrong = (struct pw_wrong){ at, (unsigned char)mem[at], POISON };
            return false;
        }
    }
    return true;
}
