/* SPDX-License-Identifier: BSD-3-Clause */
/* number.h - a number that a user has set.
 *
 * In a header, for the transport and libpinwheel-malloc are libraries of their own.
 * Allocates nothing.
 */
#ifndef PINWHEEL_NUMBER_H
#define PINWHEEL_NUMBER_H

#include <ctype.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* "16384", "16k", "1M", "2g" (of 1024). 0, or -EINVAL when it is no such number or too
 * large, or text is NULL. */
static inline int pw_number_parse(const char *text, size_t *out)
{
    unsigned long long n;
    unsigned shift = 0;
    char *end;

    if (!text || !isdigit((unsigned char)*text))
        return -EINVAL;
    errno = 0;
    n = strtoull(text, &end, 10);
    switch (*end) {
    case 'k': case 'K': shift = 10; break;
    case 'm': case 'M': shift = 20; break;
    case 'g': case 'G': shift = 30; break;
    }
    if (errno || end[shift != 0] || n > SIZE_MAX >> shift)
        return -EINVAL;
    *out = (size_t)n << shift;
    return 0;
}

#endif
