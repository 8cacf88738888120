/* SPDX-License-Identifier: BSD-3-Clause */
/* json.c - see json.h. */
#include "json.h"

#include <math.h>
#include <string.h>

/* Length of the UTF-8 character at s, 0 when it is none (RFC 3629: no overlong
 * forms, no surrogates, at most U+10FFFF). */
static int utf8_length(const unsigned char *s)
{
    unsigned char low = 0x80, high = 0xbf;
    int len;

    if (s[0] < 0x80)
        return 1;
    if (s[0] >= 0xc2 && s[0] <= 0xdf)
        len = 2;
    else if (s[0] >= 0xe0 && s[0] <= 0xef)
        len = 3;
    else if (s[0] >= 0xf0 && s[0] <= 0xf4)
        len = 4;
    else
        return 0;

    switch (s[0]) {
    case 0xe0: low = 0xa0; break;
    case 0xed: high = 0x9f; break;
    case 0xf0: low = 0x90; break;
    case 0xf4: high = 0x8f; break;
    }
    if (s[1] < low || s[1] > high)
        return 0;
    for (int i = 2; i < len; i++)
        if (s[i] < 0x80 || s[i] > 0xbf)
            return 0;
    return len;
}

static void put_string(FILE *to, const char *value)
{
    const unsigned char *s = (const unsigned char *)value;

    fputc('"', to);
    while (*s) {
        int len = utf8_length(s);

        if (len == 0)
            fputs("\\ufffd", to);
        else if (*s == '"' || *s == '\\')
            fprintf(to, "\\%c", *s);
        else if (*s == '\n')
            fputs("\\n", to);
        else if (*s == '\t')
            fputs("\\t", to);
        else if (*s < 0x20 || *s == 0x7f)
            fprintf(to, "\\u%04x", *s);
        else
            fwrite(s, 1, (size_t)len, to);
        s += len ? len : 1;
    }
    fputc('"', to);
}

/* What stands before each value. */
static void begin(struct pw_json *j, const char *key)
{
    if (j->follows)
        fputc(',', j->to);
    if (j->depth)
        fprintf(j->to, "\n%*s", 2 * j->depth, "");
    if (key) {
        put_string(j->to, key);
        fputs(": ", j->to);
    }
    j->follows = true;
}

void pw_json_open(struct pw_json *j, const char *key, char bracket)
{
    begin(j, key);
    fputc(bracket, j->to);
    j->depth++;
    j->follows = false;
}

void pw_json_close(struct pw_json *j, char bracket)
{
    j->depth--;
    if (j->follows)
        fprintf(j->to, "\n%*s", 2 * j->depth, "");
    fputc(bracket, j->to);
    j->follows = true;
    if (j->depth == 0)
        fputc('\n', j->to);
}

void pw_json_string(struct pw_json *j, const char *key, const char *value)
{
    begin(j, key);
    put_string(j->to, value);
}

void pw_json_integer(struct pw_json *j, const char *key, long long value)
{
    begin(j, key);
    fprintf(j->to, "%lld", value);
}

void pw_json_number(struct pw_json *j, const char *key, double value)
{
    begin(j, key);
    if (isfinite(value))
        fprintf(j->to, "%.6g", value);
    else
        fputs("null", j->to);
}

void pw_json_bool(struct pw_json *j, const char *key, bool value)
{
    begin(j, key);
    fputs(value ? "true" : "false", j->to);
}

void pw_json_null(struct pw_json *j, const char *key)
{
    begin(j, key);
    fputs("null", j->to);
}
