/* SPDX-License-Identifier: BSD-3-Clause */
/* matrix.h - what the files of pwbench matrix share: options and results.
 *
 * options.c    the command line
 * run.c        every pair over every transport, and what goes wrong
 * point.c      one point, by two processes that tools/pair.c pins and ends
 * link.h       what a transport is; transports.c lists them
 * stream.c     pipe, UNIX socket, TCP
 * slots.c      shared memory and bells: what the other five stand on
 * bell.c       three ways to wait: spin, futex, eventfd
 * ring.c       two copies through shared memory, one for each way to wait
 * onecopy.c    CMA and mapped copy
 * topology.c   what two cores share, by hwloc
 * result.c     the results: memory and arithmetic
 * host.c       which machine this is, and when
 * table.c      results for people
 * write.c      results as JSON
 * read.c       and back
 * diff.c       two results side by side
 * svg.c        heat maps, drawn by gnuplot
 */
#ifndef PW_MATRIX_H
#define PW_MATRIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "tools/pair.h"

/* From the Makefile; a build by hand, as for another MPI library, has none. */
#ifndef PINWHEEL_VERSION
#define PINWHEEL_VERSION "(version unknown)"
#endif

enum {
    PW_TRANSPORTS_MAX = 16,
    PW_SHARES_MAX = 10,
    PW_WHY = PW_PAIR_WHY,       /* room for a reason */
    PW_TEXT = 160,              /* room for a name of the host's */
    PW_CORES_MAX = 1024,
    PW_WORD_BYTES = 8,          /* what latency is measured with */
};

struct pw_link_ops;

struct pw_matrix_options {
    int n_transports;
    const struct pw_link_ops *transport[PW_TRANSPORTS_MAX];
    int n_cores;
    int core[PW_CORES_MAX];     /* hardware threads, as sched_setaffinity() numbers them */
    size_t size;                /* bytes of a message for throughput */
    double seconds;             /* of a point */
    double timeout;             /* of a point, seconds */
    const char *json;           /* a file, "-" for stdout, or NULL */
    const char *svg;            /* what the names of the drawings begin with, or NULL */
};

enum pw_measure { PW_M_LATENCY, PW_M_THROUGHPUT, PW_MEASURES };

/* ns, or MB/s (10^6 bytes). */
struct pw_point {
    double median, p10, p90;
    int samples;                /* 0: not measured, and the rest means nothing */
};

struct pw_pair {
    int a, b;
    int n_shares;               /* 0: not known */
    char shares[PW_SHARES_MAX][24];     /* the closest first */
};

struct pw_result {
    char name[16];
    char reason[PW_WHY];        /* why it was left out, or "" */
    struct pw_point *point[PW_MEASURES];    /* one for each pair */
};

struct pw_matrix {
    char pinwheel[PW_TEXT], date[PW_TEXT], host[PW_TEXT], cpu[PW_TEXT];
    char kernel[PW_TEXT], libc[PW_TEXT];
    char hwloc[PW_TEXT];        /* "" without it */
    double load;                /* processes that ran or wanted to before it began */
    double seconds;
    size_t size;
    int n_cores, n_pairs, n_results;
    int *core;
    struct pw_pair *pair;
    struct pw_result result[PW_TRANSPORTS_MAX];
};

/* ---- result.c ---- */

/* Pairs that n cores make: each with each other, or the only one with itself. */
int pw_pairs(int n_cores);

/* Room for these cores, with all their pairs and no results.
 * 0, or -ENOMEM. After an error too: pw_matrix_fini(). */
int pw_matrix_init(struct pw_matrix *m, const int core[], int n_cores);
void pw_matrix_fini(struct pw_matrix *m);

/* A further transport, nothing of it measured; NULL without memory, or behind
 * PW_TRANSPORTS_MAX. */
struct pw_result *pw_matrix_add(struct pw_matrix *m, const char *name);

/* NULL, or -1, when m has none of that kind. */
const struct pw_result *pw_matrix_find(const struct pw_matrix *m, const char *name);
int pw_matrix_pair(const struct pw_matrix *m, int a, int b);

/* Median and percentiles; sorts values. */
struct pw_point pw_point_of(double *values, int n);

/* ---- host.c ---- */

/* Names, versions and the time, all but hwloc's. */
void pw_matrix_describe(struct pw_matrix *m);

/* ---- table.c ---- */

void pw_matrix_print(const struct pw_matrix *m, FILE *to);

/* The closest thing that both share, "-" when it is not known. */
const char *pw_pair_shares(const struct pw_pair *pair);

/* ---- the rest, each in the file of its name ---- */

struct pw_topology;

/* 0, or -errno when it could not be written. topology may be NULL. */
int pw_matrix_write(const struct pw_matrix *m, const struct pw_topology *topology,
                    FILE *to);

/* 0, or -errno and a sentence in why. -ENOSYS: built without a library for it.
 * After an error there is nothing to free. */
int pw_matrix_read(const char *path, struct pw_matrix *out, char why[PW_WHY]);

/* PREFIX-latency.svg and PREFIX-throughput.svg. 0, or -errno and a sentence in why;
 * -ENOENT from the second: there is no gnuplot. The first two are asked before
 * measuring, which may take minutes. */
int pw_matrix_can_draw(const char *prefix, char why[PW_WHY]);
int pw_matrix_has_gnuplot(char why[PW_WHY]);
int pw_matrix_draw(const struct pw_matrix *m, const char *prefix, char why[PW_WHY]);

/* argv[0] is "matrix". All return the exit code. */
int pw_matrix_main(int argc, char **argv);
int pw_matrix_run(const struct pw_matrix_options *o);
int pw_matrix_diff(const char *a, const char *b);

#endif
