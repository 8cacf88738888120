/* SPDX-License-Identifier: BSD-3-Clause */
/* bits.h - a bit for each page or unit, in words of 64.
 *
 * Bits are set and cleared by atomic instructions, so that neighbours in a word
 * may belong to different threads. Order with other memory is the caller's.
 */
#ifndef PINWHEEL_BITS_H
#define PINWHEEL_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes that n bits take. */
static inline size_t pw_bits_bytes(size_t n)
{
    return (n + 63) / 64 * 8;
}

/* The first bit in [from, to) that is `value'; to when there is none. */
static inline size_t pw_bits_find(const uint64_t *bits, size_t from, size_t to, bool value)
{
    while (from < to) {
        uint64_t word = __atomic_load_n(&bits[from / 64], __ATOMIC_RELAXED);

        word = (value ? word : ~word) >> (from % 64);
        if (word) {
            from += (size_t)__builtin_ctzll(word);
            return from < to ? from : to;
        }
        from = (from / 64 + 1) * 64;
    }
    return to;
}

/* The bits of [from, to) that lie in the word of from. */
static inline uint64_t pw_bits_mask(size_t from, size_t to)
{
    uint64_t mask = ~(uint64_t)0 << (from % 64);
    size_t end = (from / 64 + 1) * 64;

    return to < end ? mask & ~(~(uint64_t)0 << (to % 64)) : mask;
}

static inline size_t pw_bits_count(const uint64_t *bits, size_t from, size_t to)
{
    size_t n = 0;

    for (; from < to; from = (from / 64 + 1) * 64)
        n += (size_t)__builtin_popcountll(
            __atomic_load_n(&bits[from / 64], __ATOMIC_RELAXED) & pw_bits_mask(from, to));
    return n;
}

static inline void pw_bits_set(uint64_t *bits, size_t from, size_t to)
{
    for (; from < to; from = (from / 64 + 1) * 64)
        __atomic_fetch_or(&bits[from / 64], pw_bits_mask(from, to), __ATOMIC_RELAXED);
}

static inline void pw_bits_clear(uint64_t *bits, size_t from, size_t to)
{
    for (; from < to; from = (from / 64 + 1) * 64)
        __atomic_fetch_and(&bits[from / 64], ~pw_bits_mask(from, to), __ATOMIC_RELAXED);
}

#endif
