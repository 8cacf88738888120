/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_peers.h - the transports that pwbench compare knows, and the command
 * that runs a test over each. */
#ifndef PWBENCH_PEERS_H
#define PWBENCH_PEERS_H

#include "pwbench.h"

enum { PW_ARGS_MAX = 96, PW_TRANSPORT_MCA = 16, PW_HOSTS_TEXT = 512 };

struct pw_transport {
    const char *name;
    bool one_sided_only;
    bool usual[PW_KINDS];   /* measured by default in tests of that kind? */
    bool far[PW_KINDS];     /* and between hosts? */
    bool here_only;         /* reaches nobody on another host */
    bool mpich;             /* runs under MPICH, with a pwbench built for it */
    bool machine;           /* none: what the machine itself needs */
    bool ours;              /* the plugin, perhaps from a build tree */
    bool window_fixed;      /* knows no window but this: */
    enum pw_window_kind window_kind;
    enum pw_window_kind cas_window_kind;
    const char *parameters; /* what names of those that can be set begin with, or NULL */
    const char *mca[PW_TRANSPORT_MCA];      /* names and values in turn */
};

/* What is to be run over a transport. */
struct pw_job {
    enum pw_test test;
    enum pw_buffers buffers;
    int ranks;
    struct pw_sizes sizes;
    bool verify;                    /* with --check; spend little time on measuring */
    double compute[PW_SIZES_MAX];   /* overlap: us at each size */
    bool compute_of_peer;           /* not of the subject */
    const char *osu;                /* the program to run, but to verify; NULL: pwbench */
    int core[2];                    /* where the ranks are; -1: not known */
};

struct pw_command {
    const char *argv[PW_ARGS_MAX];
    const char *env[4];
    char text[2 * PW_SIZES_TEXT + 2 * PW_HOSTS_TEXT + 1024]; /* what argv and env point to */
    char self[4096];                    /* this program */
    char components[4200];              /* a setting, "" when not needed */
};

/* NULL when there is none of that name. */
const struct pw_transport *pw_transport_find(const char *name, size_t len);

/* Is it measured in tests of that kind when nobody has named peers? */
bool pw_transport_usual(const struct pw_transport *t, const struct pw_compare_options *o,
                        enum pw_kind kind);

/* The table, n-th entry; NULL behind the last. */
const struct pw_transport *pw_transport_at(int n);

/* What pwbench limit measures, which is in no list. */
extern const struct pw_transport pw_transport_limit;

/* All names, comma-separated, for people. */
const char *pw_transport_names(void);

/* The pwbench that was built with MPICH's compiler beside this one; NULL when there is
 * none. */
const char *pw_mpich_pwbench(void);

/* The command that runs a job over v. c points into v.
 * 0, or -errno when the path of this program cannot be read. */
int pw_command_make(struct pw_command *c, const struct pw_compare_options *o,
                    const struct pw_variant *v, const struct pw_job *job);

#endif
