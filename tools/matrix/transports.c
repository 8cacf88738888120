/* SPDX-License-Identifier: BSD-3-Clause */
/* transports.c - the list of transports, and what they have in common. */
#include <stdarg.h>
#include <stdio.h>

#include "link.h"

const struct pw_link_ops *const pw_links[] = {
    &pw_link_pipe, &pw_link_unix, &pw_link_tcp, &pw_link_eventfd, &pw_link_spin,
    &pw_link_futex, &pw_link_cma, &pw_link_mapped, NULL,
};

int pw_link_next_own(struct pw_link *l, char **message)
{
    *message = l->buffer;
    return 0;
}

int pw_link_fails(const struct pw_link *l, int err, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(l->why, PW_WHY, format, args);
    va_end(args);
    return err;
}
