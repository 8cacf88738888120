/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_peers.h - the transports that pwbench compare knows, and the command
 * that runs a test over each. */
#ifndef PWBENCH_PEERS_H
#define PWBENCH_PEERS_H

#include "pwbench.h"

enum { PW_ARGS_MAX = 64, PW_TRANSPORT_MCA = 16 };

struct pw_transport {
    const char *name;
    bool one_sided_only;
    bool usual[2];          /* measured by default? [one_sided] */
    bool mpich;             /* runs under MPICH, with a pwbench built for it */
    bool ours;              /* the plugin, perhaps from a build tree */
    enum pw_window_kind window_kind;
    const char *mca[PW_TRANSPORT_MCA];      /* names and values in turn */
};

struct pw_command {
    const char *argv[PW_ARGS_MAX];
    const char *env[4];
    char text[PW_SIZES_TEXT + 512];     /* what argv and env point to */
    char self[4096];                    /* this program */
    char components[4200];              /* a setting, "" when not needed */
};

/* NULL when there is none of that name. */
const struct pw_transport *pw_transport_find(const char *name, size_t len);

/* The table, n-th entry; NULL behind the last. */
const struct pw_transport *pw_transport_at(int n);

/* All names, comma-separated, for people. */
const char *pw_transport_names(void);

/* The command that runs one test over t. verify: a run with --check that spends
 * little time on measuring.
 * 0, or -errno when the path of this program cannot be read. */
int pw_command_make(struct pw_command *c, const struct pw_compare_options *o,
                    const struct pw_transport *t, enum pw_test test,
                    enum pw_buffers buffers, bool verify);

#endif
