/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_variant.c - see pwbench_variant.h. */
#include "pwbench_variant.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "pwbench_peers.h"

/* Of letters that mean nothing in a list, a CSV file or a command of gnuplot. */
static bool letters(const char *text, size_t len, const char *further)
{
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)text[i]) && (!text[i] || !strchr(further, text[i])))
            return false;
    return len > 0;
}

/* text is PARAMETER=VALUE. */
static int setting_parse(const char *text, size_t len, struct pw_variant *v)
{
    const char *prefix = v->transport->parameters, *value = memchr(text, '=', len);
    struct pw_setting *s = &v->setting[v->n_settings];
    size_t name = value ? (size_t)(value - text) : 0, rest = value ? len - name - 1 : 0;

    if (!value++ || !letters(text, name, "_") || !letters(value, rest, "_./+^@%=-"))
        return -EINVAL;
    if (v->n_settings == PW_SETTINGS_MAX || strlen(prefix) + name >= PW_SETTING ||
        rest >= PW_SETTING)
        return -E2BIG;
    snprintf(s->name, sizeof s->name, "%s%.*s", prefix, (int)name, text);
    snprintf(s->value, sizeof s->value, "%.*s", (int)rest, value);
    v->n_settings++;
    return 0;
}

static size_t until_colon(const char *text, size_t len)
{
    const char *colon = memchr(text, ':', len);

    return colon ? (size_t)(colon - text) : len;
}

int pw_variant_parse(const char *text, size_t len, struct pw_variant *out)
{
    size_t part = until_colon(text, len), at = part;
    int err = 0;

    memset(out, 0, sizeof *out);
    out->transport = pw_transport_find(text, part);
    if (!out->transport)
        return -ENOENT;
    if (part < len && !out->transport->parameters)
        return -ENOTSUP;
    if (len >= sizeof out->name)
        return -E2BIG;
    snprintf(out->name, sizeof out->name, "%.*s", (int)len, text);
    while (!err && at < len) {
        at++;
        part = until_colon(text + at, len - at);
        err = setting_parse(text + at, part, out);
        at += part;
    }
    return err;
}

void pw_variant_plain(const struct pw_transport *t, struct pw_variant *out)
{
    memset(out, 0, sizeof *out);
    out->transport = t;
    snprintf(out->name, sizeof out->name, "%s", t->name);
}

int pw_variant_same_transport(const char *a, const char *b)
{
    size_t len = until_colon(a, strlen(a));

    return len == until_colon(b, strlen(b)) && !strncmp(a, b, len);
}
