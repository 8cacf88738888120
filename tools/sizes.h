/* SPDX-License-Identifier: BSD-3-Clause */
/* sizes.h - lists of message sizes as people type them: 8,4K,1M or 1:4M. */
#ifndef PW_TOOLS_SIZES_H
#define PW_TOOLS_SIZES_H

#include <stddef.h>

enum {
    PW_SIZES_MAX = 64,
    PW_SIZES_TEXT = PW_SIZES_MAX * 21,  /* room for pw_sizes_format() */
};

struct pw_sizes {
    int n;
    size_t at[PW_SIZES_MAX];
};

/* Commas separate items. An item is a number of bytes with an optional suffix
 * K, M or G (powers of 1024), or LOW:HIGH, which stands for LOW, twice LOW and
 * so on up to HIGH (LOW at least 1).
 * 0, or -EINVAL  not such a list, or empty
 *       -E2BIG   more than PW_SIZES_MAX sizes */
int pw_sizes_parse(const char *text, struct pw_sizes *out);

/* The same list in plain bytes, 8,4096,1048576. */
void pw_sizes_format(const struct pw_sizes *sizes, char out[PW_SIZES_TEXT]);

size_t pw_sizes_largest(const struct pw_sizes *sizes);

#endif
