/* SPDX-License-Identifier: BSD-3-Clause */
/* sizes.c - see sizes.h. */
#include "sizes.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* One number with its suffix; *text moves behind it. */
static bool parse_bytes(const char **text, size_t *out)
{
    unsigned long long value;
    unsigned shift = 0;
    char *end;

    /* strtoull() would take a sign and blanks. */
    if (!isdigit((unsigned char)**text))
        return false;
    errno = 0;
    value = strtoull(*text, &end, 10);
    if (errno)
        return false;

    switch (toupper((unsigned char)*end)) {
    case 'K': shift = 10; break;
    case 'M': shift = 20; break;
    case 'G': shift = 30; break;
    }
    if (shift)
        end++;
    if (value > (SIZE_MAX / 2) >> shift)
        return false;

    *out = (size_t)value << shift;
    *text = end;
    return true;
}

static int sizes_add(struct pw_sizes *sizes, size_t size)
{
    if (sizes->n == PW_SIZES_MAX)
        return -E2BIG;
    sizes->at[sizes->n++] = size;
    return 0;
}

static int parse_item(const char **text, struct pw_sizes *out)
{
    size_t low, high;
    int err;

    if (!parse_bytes(text, &low))
        return -EINVAL;
    if (**text != ':')
        return sizes_add(out, low);

    ++*text;
    if (!parse_bytes(text, &high) || low == 0 || high < low)
        return -EINVAL;
    for (; low <= high; low *= 2) {
        err = sizes_add(out, low);
        if (err)
            return err;
    }
    return 0;
}

int pw_sizes_parse(const char *text, struct pw_sizes *out)
{
    int err;

    out->n = 0;
    for (;;) {
        err = parse_item(&text, out);
        if (err)
            return err;
        if (*text == '\0')
            return 0;
        if (*text++ != ',')
            return -EINVAL;
    }
}

void pw_sizes_format(const struct pw_sizes *sizes, char out[PW_SIZES_TEXT])
{
    int used = 0;

    out[0] = '\0';
    for (int i = 0; i < sizes->n; i++)
        used += snprintf(out + used, (size_t)(PW_SIZES_TEXT - used), "%s%zu",
                         i ? "," : "", sizes->at[i]);
}

size_t pw_sizes_largest(const struct pw_sizes *sizes)
{
    size_t largest = 0;

    for (int i = 0; i < sizes->n; i++)
        if (sizes->at[i] > largest)
            largest = sizes->at[i];
    return largest;
}
