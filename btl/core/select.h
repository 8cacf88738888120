/* SPDX-License-Identifier: BSD-3-Clause */
/* select.h - which devices of which backends are used.
 *
 *     struct pw_candidate c[PW_CANDIDATES];
 *     int n = pw_candidates(backends, wish.nics, c, PW_CANDIDATES);
 *     pw_select(&wish, c, n, PW_KEY_NICS);
 *
 * pw_select() is a pure decision: the core opens what it says, pwinfo shows the same.
 */
#ifndef PW_SELECT_H
#define PW_SELECT_H

#include <stdbool.h>
#include <stddef.h>

#include "pinwheel/nic.h"

enum { PW_CANDIDATES = 64 };

/* What a user has said; NULL or "": nothing. */
struct pw_wish {
    const char *nics;           /* names of backends, comma-separated */
    const char *include;        /* devices, comma-separated: a name, an address, or
                                 * addresses as in 10.0.0.0/8 */
    const char *exclude;        /* the same; wins over include */
};

/* A device of a backend; of one without devices, the backend. */
struct pw_candidate {
    const struct pw_nic_ops *ops;
    struct pw_nic_device device;    /* without devices only usable and why say something */
    bool has_device;
    bool chosen;
    char why[PW_NIC_WHY_MAX];       /* not chosen: why */
};

/* Is that backend named in the list, or the list empty? */
bool pw_backend_wanted(const char *nics, const char *name);

/* 0, or -EINVAL and a sentence: a backend that there is not, addresses that are none. */
int pw_wish_check(const struct pw_wish *wish, const struct pw_nic_ops *const *backends,
                  char why[PW_NIC_WHY_MAX]);

/* Ask the wanted backends, best first; how many there are, at most max. */
int pw_candidates(const struct pw_nic_ops *const *backends, const char *nics,
                  struct pw_candidate *out, int max);

/* Choose at most `most` of them: usable ones that are not excluded and, where some are
 * included, are among those; spare ones only when they are. Where no backend was named, a
 * device is left out when those before it drive all of its addresses. How many. */
int pw_select(const struct pw_wish *wish, struct pw_candidate *c, int n, int most);

#endif
