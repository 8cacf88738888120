/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench.h - what the files of pwbench share.
 *
 * pwbench.c          the commands
 * pwbench_cli.c      reading options; _cli_single and _cli_compare too
 * pwbench_mpich.c    instead of pwbench.c in the program for MPICH
 * pwbench_names.c    what tests, buffers and windows are called
 * pwbench_figures.c  how many iterations, and what their time comes to
 * pwbench_single.c   one test, under mpirun
 * pwbench_tests.c    the tests between two ranks: what is timed
 * pwbench_group.c    the tests of all ranks together, and their checks
 * pwbench_init.c     how long MPI takes to start and to end
 * pwbench_compute.c  work for the time between a send and its wait
 * pwbench_require.c  are the parameters there that were set?
 * pwbench_memory.c   the buffers and windows of the tests
 * pwbench_check.c    is what arrives what was sent?
 * pwbench_pattern.c  the patterns by which that is known
 * pwbench_compare.c  transports against each other; no MPI in this process
 * pwbench_from.c     the results of an earlier run again
 * pwbench_peers.c    the transports and their mpirun options
 * pwbench_osu.c      the OSU micro-benchmarks in the place of our tests
 * pwbench_variant.c  a transport with parameters of its own
 * pwbench_regcache.c registration caches against each other
 * limit/             what the machine itself needs, without MPI
 * pwbench_launch.c   run a program with a time limit
 * pwbench_table.c    medians and the table
 * pwbench_csv.c      the table as a file, and back
 * pwbench_plot.c     the table as a picture; _gnuplot.c, the commands for it
 */
#ifndef PWBENCH_H
#define PWBENCH_H

#include <stdbool.h>
#include <stddef.h>

#include "pwbench_variant.h"
#include "sizes.h"

/* From the Makefile; a build by hand, as for another MPI library, has none. */
#ifndef PINWHEEL_VERSION
#define PINWHEEL_VERSION "(version unknown)"
#endif
#ifndef PW_MPIRUN
#define PW_MPIRUN "mpirun"
#endif
/* Where make install puts the programs that we start. */
#ifndef PW_DRIVERS
#define PW_DRIVERS "/usr/local/libexec/pinwheel"
#endif

/* Exit codes: 0 done; PW_BENCH_FAILED wrong data or no measurement;
 * PW_BENCH_USAGE a wrong option, nothing was run. */
enum { PW_BENCH_FAILED = 1, PW_BENCH_USAGE = 2 };

enum pw_test {
    PW_LATENCY, PW_BW, PW_BIBW, PW_RATE, PW_OVERLAP, PW_PUT, PW_GET, PW_FADD, PW_CAS,
    PW_ALLTOALL, PW_ALLREDUCE, PW_BARRIER, PW_INIT, PW_TESTS
};

enum pw_kind {
    PW_PAIR,            /* 2 ranks, or pairs of them */
    PW_ONE_SIDED,       /* 2 ranks */
    PW_COLLECTIVE,      /* any number */
    PW_STARTUP,         /* any number, on one host */
    PW_KINDS
};

struct pw_test_info {
    const char *name;       /* as typed */
    const char *title;      /* as in the heading */
    const char *column;
    const char *unit;
    enum pw_kind kind;
    bool rate;              /* more is better; else a time, less is better */
    bool windowed;          /* an iteration is a window of messages */
    bool buffers;           /* messages of the caller's memory are passed */
    bool one_size;          /* always of this size: */
    size_t size;
};

extern const struct pw_test_info pw_test_info[PW_TESTS];

/* The test of that name, or -1. */
int pw_test_find(const char *name, size_t len);

enum pw_buffers { PW_MALLOC, PW_ALLOC_MEM, PW_BUFFERS };
extern const char *const pw_buffers_name[PW_BUFFERS];

/* Does pwbench limit know what the machine needs for it? */
bool pw_test_has_limit(enum pw_test test);

/* The name of the buffers, "-" for a test without. */
const char *pw_test_buffers(enum pw_test test, enum pw_buffers buffers);

enum pw_window_kind { PW_WIN_CREATE, PW_WIN_ALLOCATE, PW_WIN_DYNAMIC, PW_WINDOW_KINDS };
extern const char *const pw_window_kind_name[PW_WINDOW_KINDS];

enum { PW_BATCHES_MAX = 1000 };

struct pw_single_options {
    enum pw_test test;
    struct pw_sizes sizes;
    enum pw_buffers buffers;
    enum pw_window_kind window_kind;
    long iterations;    /* 0: by test and size, as OSU has them */
    long warmup;        /* -1: by test and size */
    int window;         /* messages in flight for bw, bibw and rate */
    int batches;        /* the result is the median over them */
    double seconds;     /* at most about so long for each size; 0: no limit */
    bool check;
    bool pairs;         /* any even number of ranks; the first half sends first */
    int n_compute;      /* overlap: 0 for as long as the messages alone take; else */
    double compute[PW_SIZES_MAX];       /* us, for each size or once for all */
    int n_require;
    const char *require[PW_SETTINGS_MAX];   /* MPI_T control variables; else it fails */
};

/* To what a rank is bound: a core of its own among those of its host; or, for hosts that
 * are namespaces of one machine, of its own among those of all. */
enum pw_bind { PW_BIND_NONE, PW_BIND_CORE, PW_BIND_RANK };

enum { PW_PEERS_MAX = 8 };

struct pw_compare_options {
    const char *csv;                /* NULL: table only */
    const char *plot;               /* SVG; NULL: none */
    const char *from;               /* results of an earlier run; NULL: measure */
    struct pw_variant subject;
    const char *mpirun;
    const char *mpich_pwbench;      /* NULL: no transport mpich */
    bool test[PW_TESTS];
    bool tests_given;
    bool buffers[PW_BUFFERS];
    bool buffers_given;             /* else some tests use one kind only */
    struct pw_sizes sizes;
    bool sizes_given;               /* else collectives have sizes of their own */
    int ranks;                      /* 0: as many as is usual for each test */
    int window_kind;                /* enum pw_window_kind; -1: by transport and test */
    int n_peers;                    /* 0: those that suit each test */
    struct pw_variant peer[PW_PEERS_MAX];
    int rounds;
    const char *osu;                /* directory of OSU's programs; NULL: our own tests */
    bool limit;                     /* what the machine itself needs, too */
    enum pw_bind bind;              /* where there are cores enough */
    const char *hosts;              /* names, comma-separated; NULL: this one alone */
    int n_hosts;                    /* of them; else 1 */
    const char *agent;              /* mpirun's way to them; NULL: its own */
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

/* All return the exit code. The first two start and end MPI; pw_init_run() is the
 * test init, for pw_single_run(). */
int pw_single_run(const struct pw_single_options *o);
int pw_init_run(const struct pw_single_options *o);
int pw_compare_run(const struct pw_compare_options *o);
int pw_compare_from(const struct pw_compare_options *o);
int pw_regcache_run(const struct pw_regcache_options *o);

/* pwbench_calibrate.c: becomes the program that measures this host. An exit code. */
int pw_calibrate_main(int argc, char **argv);

/* limit/: what the machine itself needs, without MPI. An exit code. */
int pw_limit_main(int argc, char **argv);

#endif
