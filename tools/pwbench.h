/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench.h - what the files of pwbench share.
 *
 * pwbench.c          the command line
 * pwbench_names.c    what tests, buffers and windows are called
 * pwbench_single.c   one test between two ranks, under mpirun
 * pwbench_tests.c    the tests themselves: what is timed
 * pwbench_check.c    the patterns by which --check knows right data from wrong
 * pwbench_compare.c  transports against each other; no MPI in this process
 * pwbench_peers.c    the transports and their mpirun options
 * pwbench_regcache.c registration caches against each other
 * pwbench_launch.c   run a program with a time limit
 * pwbench_table.c    medians, the table and the CSV file
 */
#ifndef PWBENCH_H
#define PWBENCH_H

#include <stdbool.h>
#include <stddef.h>

#include "sizes.h"

/* From the Makefile; a build by hand, as for another MPI library, has neither. */
#ifndef PINWHEEL_VERSION
#define PINWHEEL_VERSION "(version unknown)"
#endif
#ifndef PW_MPIRUN
#define PW_MPIRUN "mpirun"
#endif

/* Exit codes: 0 done; PW_BENCH_FAILED wrong data or no measurement;
 * PW_BENCH_USAGE a wrong option, nothing was run. */
enum { PW_BENCH_FAILED = 1, PW_BENCH_USAGE = 2 };

enum pw_test { PW_LATENCY, PW_BW, PW_BIBW, PW_PUT, PW_GET, PW_TESTS };

struct pw_test_info {
    const char *name;       /* as typed */
    const char *title;      /* as in the heading */
    const char *column;
    const char *unit;
    bool one_sided;
    bool rate;              /* MB/s, more is better; else us, less is better */
};

extern const struct pw_test_info pw_test_info[PW_TESTS];

/* The test of that name, or -1. */
int pw_test_find(const char *name, size_t len);

enum pw_buffers { PW_MALLOC, PW_ALLOC_MEM, PW_BUFFERS };
extern const char *const pw_buffers_name[PW_BUFFERS];

enum pw_window_kind { PW_WIN_CREATE, PW_WIN_ALLOCATE, PW_WIN_DYNAMIC, PW_WINDOW_KINDS };
extern const char *const pw_window_kind_name[PW_WINDOW_KINDS];

struct pw_single_options {
    enum pw_test test;
    struct pw_sizes sizes;
    enum pw_buffers buffers;
    enum pw_window_kind window_kind;
    long iterations;    /* 0: by test and size, as OSU has them */
    long warmup;        /* -1: by test and size */
    int window;         /* messages in flight for bw and bibw */
    int batches;        /* the result is the median over them */
    double seconds;     /* at most about so long for each size; 0: no limit */
    bool check;
};

enum { PW_PEERS_MAX = 8 };

struct pw_compare_options {
    const char *csv;                /* NULL: table only */
    const char *subject;
    const char *mpirun;
    const char *mpich_pwbench;      /* NULL: no peer mpich */
    bool test[PW_TESTS];
    bool buffers[PW_BUFFERS];
    bool buffers_given;             /* else one-sided tests use alloc_mem only */
    struct pw_sizes sizes;
    int n_peers;                    /* 0: those that suit each test */
    const char *peer[PW_PEERS_MAX];
    int rounds;
    bool bind;                      /* each rank on a core of its own */
    double seconds;                 /* as in pw_single_options */
    double timeout;                 /* of one mpirun, seconds */
};

struct pw_regcache_options {
    bool csv;               /* CSV instead of the table */
    int rounds;
    double seconds;         /* each point in each round */
    double timeout;         /* of one point, seconds */
    const char *monitor;    /* of our cache */
    const char *drivers;    /* directory of the programs; NULL: where they belong */
};

/* All return the exit code. pw_single_run() starts and ends MPI. */
int pw_single_run(const struct pw_single_options *o);
int pw_compare_run(const struct pw_compare_options *o);
int pw_regcache_run(const struct pw_regcache_options *o);

#endif
