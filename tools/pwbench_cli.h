/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_cli.h - what the commands of pwbench share in reading options.
 *
 * A command is called with its own name as argv[0]. Whatever is wrong ends the program
 * with PW_BENCH_USAGE, before anything is run.
 */
#ifndef PWBENCH_CLI_H
#define PWBENCH_CLI_H

#include <getopt.h>

#include "pwbench.h"

enum {
    OPT_SIZES = 256, OPT_BUFFERS, OPT_ITERATIONS, OPT_WARMUP, OPT_SECONDS, OPT_BATCHES,
    OPT_WINDOW, OPT_WINDOW_KIND, OPT_CHECK, OPT_CSV, OPT_TESTS, OPT_PEERS, OPT_SUBJECT,
    OPT_ROUNDS, OPT_BIND, OPT_QUICK, OPT_TIMEOUT, OPT_MPIRUN, OPT_MPICH, OPT_HELP,
    OPT_VERSION, OPT_MONITOR, OPT_DRIVERS, OPT_PAIRS, OPT_COMPUTE, OPT_RANKS,
    OPT_PLOT, OPT_FROM, OPT_REQUIRE, OPT_LIMIT, OPT_CORES, OPT_OSU,
    OPT_HOSTS, OPT_AGENT,
};

/* What --help prints; each program has its own. */
extern const char pw_help[];

_Noreturn void pw_print_help(void);
_Noreturn void pw_print_version(void);

/* One sentence on stderr. */
__attribute__((format(printf, 1, 2)))
_Noreturn void pw_usage_error(const char *format, ...);

/* The next option as getopt_long() gives it, or -1 at the end. What is wrong,
 * or no option at all, is a usage error; OPT_HELP and OPT_VERSION are served. */
int pw_next_option(int argc, char **argv, const struct option *options);

/* Values; option is the name without dashes, for the sentence. */
long pw_parse_long(const char *option, const char *text, long min, long max);
double pw_parse_seconds(const char *option, const char *text);
void pw_parse_sizes(const char *text, struct pw_sizes *out);
enum pw_buffers pw_parse_buffers(const char *text, size_t len);
enum pw_window_kind pw_parse_window_kind(const char *text);

/* The next item of a comma-separated list, its length in *len; NULL at the end.
 * An empty item is one of length 0, which no list knows. */
const char *pw_list_next(const char **rest, size_t *len);

/* The options of a test, with MPI or without: entries of a table for getopt_long().
 * begin: what they are when none is given; then each that pw_next_option() gives; and
 * end, once. */
#define PW_TEST_OPTIONS \
    { "sizes", required_argument, NULL, OPT_SIZES }, \
    { "buffers", required_argument, NULL, OPT_BUFFERS }, \
    { "iterations", required_argument, NULL, OPT_ITERATIONS }, \
    { "warmup", required_argument, NULL, OPT_WARMUP }, \
    { "seconds", required_argument, NULL, OPT_SECONDS }, \
    { "batches", required_argument, NULL, OPT_BATCHES }, \
    { "window", required_argument, NULL, OPT_WINDOW }, \
    { "check", no_argument, NULL, OPT_CHECK }, \
    { "help", no_argument, NULL, OPT_HELP }, \
    { "version", no_argument, NULL, OPT_VERSION }

void pw_test_options_begin(enum pw_test test, struct pw_single_options *o);
void pw_test_option(int c, struct pw_single_options *o);
void pw_test_options_end(struct pw_single_options *o);

/* Commands. The exit code. */
int pw_single_main(enum pw_test test, int argc, char **argv);
int pw_compare_main(int argc, char **argv);

#endif
