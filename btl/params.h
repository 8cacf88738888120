/* SPDX-License-Identifier: BSD-3-Clause */
/* params.h - what a user may set: `ompi_info --param btl pinwheel --level 9`. */
#ifndef PW_PARAMS_H
#define PW_PARAMS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/engine.h"
#include "pinwheel/pool.h"

/* What holds after pw_params_check(); sizes in bytes. */
struct pw_params {
    char *nics;
    char *if_include, *if_exclude;
    size_t peer_timeout;            /* seconds */
    char *pool_pages_name;
    enum pw_pages pool_pages;       /* from the name, by pw_params_check() */
    size_t pool_size;
    size_t queue_size;
    size_t eager_limit;
    size_t max_send_size;
    size_t rget_min;
    size_t chunk;
    size_t cma;
    size_t attach;
    size_t sleep_us;
    char *monitor;
    char *trust;
    bool distrust;                  /* from trust, by pw_params_check() */
    char *bulk_name;
    char *want_name;
    enum pw_want want;              /* from want_name, by pw_params_check() */
    char *costs;
    enum pw_bulk bulk;              /* from bulk_name, by pw_params_check() */
    size_t calibrate_ms;
    size_t pin_bytes, pin_regions, pin_host_bytes;
};

extern struct pw_params pw_params;

/* Register all with Open MPI; 0 or an OPAL error. */
int pw_params_register(void);

/* Read what was set into pw_params. 0, or -EINVAL and a sentence in why: the
 * parameter, its value, what is allowed. */
int pw_params_check(char *why, size_t room);

#endif
