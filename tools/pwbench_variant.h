/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_variant.h - a transport as it is typed: its name, perhaps with parameters that
 * are set for it, as in pinwheel:trust=copy:chunk=32768. */
#ifndef PWBENCH_VARIANT_H
#define PWBENCH_VARIANT_H

#include <stddef.h>

enum { PW_VARIANT_NAME = 128, PW_SETTINGS_MAX = 4, PW_SETTING = 80 };

struct pw_transport;

struct pw_variant {
    const struct pw_transport *transport;
    char name[PW_VARIANT_NAME];             /* as typed */
    int n_settings;
    struct pw_setting {
        char name[PW_SETTING];              /* all of it, btl_pinwheel_trust */
        char value[PW_SETTING];
    } setting[PW_SETTINGS_MAX];
};

/* Of text, which needs not end there. No name holds a comma or a quote.
 * 0, or -ENOENT   no such transport
 *       -ENOTSUP  it has no parameters that could be set so
 *       -EINVAL   what follows the name is not :PARAMETER=VALUE
 *       -E2BIG    more than PW_SETTINGS_MAX of these, or too long */
int pw_variant_parse(const char *text, size_t len, struct pw_variant *out);

/* A transport as it is. */
void pw_variant_plain(const struct pw_transport *t, struct pw_variant *out);

/* Does that name one of the same transport, maybe with other parameters? */
int pw_variant_same_transport(const char *a, const char *b);

#endif
