/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_cli.c - what the commands of pwbench share in reading options. */
#include "pwbench_cli.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* mpirun starts several of us: only one should say what is wrong. */
static bool speaker(void)
{
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");

    if (!rank)
        rank = getenv("PMI_RANK");
    return !rank || !strcmp(rank, "0");
}

void pw_usage_error(const char *format, ...)
{
    va_list args;

    if (speaker()) {
        fputs("pwbench: ", stderr);
        va_start(args, format);
        vfprintf(stderr, format, args);
        va_end(args);
        fputs("; see pwbench --help\n", stderr);
    }
    exit(PW_BENCH_USAGE);
}

/* ---- values of options ---- */

long pw_parse_long(const char *option, const char *text, long min, long max)
{
    char *end;
    long value = strtol(text, &end, 10);

    if (end == text || *end || value < min || value > max)
        pw_usage_error("--%s takes a number from %ld to %ld, not \"%s\"", option, min, max,
                       text);
    return value;
}

double pw_parse_seconds(const char *option, const char *text)
{
    char *end;
    double value = strtod(text, &end);

    if (end == text || *end || !(value >= 0.001 && value <= 3600))
        pw_usage_error("--%s takes seconds from 0.001 to 3600, not \"%s\"", option, text);
    return value;
}

const char *pw_list_next(const char **rest, size_t *len)
{
    const char *item = *rest;

    if (!item)
        return NULL;
    *len = strcspn(item, ",");
    *rest = item[*len] ? item + *len + 1 : NULL;
    return item;
}

void pw_parse_sizes(const char *text, struct pw_sizes *out)
{
    if (pw_sizes_parse(text, out))
        pw_usage_error(
            "--sizes takes a list like 8,4K,1M or 1:4M of at most %d sizes, not \"%s\"",
            PW_SIZES_MAX, text);
    if (pw_sizes_largest(out) > INT_MAX)
        pw_usage_error("--sizes takes at most %d bytes, which is what an MPI count holds",
                       INT_MAX);
}

static int find_name(const char *const names[], int n, const char *name, size_t len)
{
    for (int i = 0; i < n; i++)
        if (strlen(names[i]) == len && !strncmp(names[i], name, len))
            return i;
    return -1;
}

enum pw_buffers pw_parse_buffers(const char *text, size_t len)
{
    int kind = find_name(pw_buffers_name, PW_BUFFERS, text, len);

    if (kind < 0)
        pw_usage_error("--buffers knows malloc and alloc_mem, not \"%.*s\"", (int)len,
                       text);
    return (enum pw_buffers)kind;
}

enum pw_window_kind pw_parse_window_kind(const char *text)
{
    int kind = find_name(pw_window_kind_name, PW_WINDOW_KINDS, text, strlen(text));

    if (kind < 0)
        pw_usage_error("--window-kind knows create, allocate and dynamic, not \"%s\"",
                       text);
    return (enum pw_window_kind)kind;
}

void pw_print_version(void)
{
    puts("pwbench (pinwheel) " PINWHEEL_VERSION);
    exit(0);
}

void pw_print_help(void)
{
    fputs(pw_help, stdout);
    exit(0);
}

int pw_next_option(int argc, char **argv, const struct option *options)
{
    int c;

    opterr = 0;
    c = getopt_long(argc, argv, ":", options, NULL);
    if (c == OPT_HELP)
        pw_print_help();
    if (c == OPT_VERSION)
        pw_print_version();
    if (c == ':')
        pw_usage_error("%s needs a value", argv[optind - 1]);
    if (c == '?')
        pw_usage_error("%s has no option %s", argv[0], argv[optind - 1]);
    if (c == -1 && optind < argc)
        pw_usage_error("%s takes no argument \"%s\"", argv[0], argv[optind]);
    return c;
}

/* ---- the options of every test ---- */

void pw_test_options_begin(enum pw_test test, struct pw_single_options *o)
{
    *o = (struct pw_single_options){ .test = test, .warmup = -1, .window = 64, .batches = 1,
                                     .seconds = -1 };
    pw_parse_sizes("1:4M", &o->sizes);
    if (pw_test_info[test].one_size)
        o->sizes = (struct pw_sizes){ 1, { pw_test_info[test].size } };
}

void pw_test_option(int c, struct pw_single_options *o)
{
    const long most = 1000000000;

    switch (c) {
    case OPT_SIZES:
        if (pw_test_info[o->test].one_size)
            pw_usage_error("%s has no --sizes", pw_test_info[o->test].name);
        pw_parse_sizes(optarg, &o->sizes);
        break;
    case OPT_BUFFERS: o->buffers = pw_parse_buffers(optarg, strlen(optarg)); break;
    case OPT_ITERATIONS:
        o->iterations = pw_parse_long("iterations", optarg, 1, most);
        break;
    case OPT_WARMUP: o->warmup = pw_parse_long("warmup", optarg, 0, most); break;
    case OPT_SECONDS: o->seconds = pw_parse_seconds("seconds", optarg); break;
    case OPT_BATCHES:
        o->batches = (int)pw_parse_long("batches", optarg, 1, PW_BATCHES_MAX);
        break;
    case OPT_WINDOW: o->window = (int)pw_parse_long("window", optarg, 1, 65536); break;
    case OPT_CHECK: o->check = true; break;
    }
}

void pw_test_options_end(struct pw_single_options *o)
{
    if (o->seconds < 0)
        o->seconds = o->iterations ? 0 : 2;
}
