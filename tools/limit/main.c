/* SPDX-License-Identifier: BSD-3-Clause */
/* main.c - the command line of pwbench limit, and what it prints. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "limit.h"
#include "tools/cores.h"
#include "tools/pwbench_cli.h"
#include "tools/pwbench_figures.h"
#include "tools/pwbench_launch.h"

static void parse_cores(const char *text, int core[2])
{
    char *comma, *end;
    long a = strtol(text, &comma, 10), b = -1;

    end = comma;
    if (comma != text && *comma == ',')
        b = strtol(comma + 1, &end, 10);
    if (b < 0 || a < 0 || *end || end == comma + 1 || a == b || a > 65535 || b > 65535)
        pw_usage_error("--cores takes two different hardware threads, such as 0,1, not "
                       "\"%s\"", text);
    core[0] = (int)a;
    core[1] = (int)b;
}

/* The first two that may be used. */
static void choose_cores(int core[2])
{
    if (core[0] >= 0)
        return;
    if (pw_cores_usable() < 2)
        pw_usage_error("limit needs two cores, and may use one");
    core[0] = pw_core_at(0);
    core[1] = pw_core_at(1);
}

static void print(const struct limit_options *o, const struct limit_board *board)
{
    const struct pw_single_options *t = &o->test;
    const struct pw_test_info *info = &pw_test_info[t->test];

    printf("# pwbench limit of the %s Test\n", info->title);
    printf("# Buffers: %s%s, cores %d and %d\n", pw_buffers_name[t->buffers],
           t->check ? ", data verified" : "", o->core[0], o->core[1]);
    if (!board->cma)
        printf("# Without cma: %s\n", board->no_cma);
    printf("%-10s%18s  %s\n", "# Size", info->column, "Way");
    for (int i = 0; i < t->sizes.n; i++) {
        const struct limit_found *f = &board->found[i];

        printf("%-10zu%18.*f  %s\n", t->sizes.at[i], pw_decimals(f->value), f->value,
               f->way);
    }
}

static int limit_measure(const struct limit_options *o)
{
    struct limit_board *board;
    char why[PW_PAIR_WHY];
    int err;

    pw_launch_prepare();
    err = limit_run(o, &board, why);
    if (!err)
        print(o, board);
    else if (err != -EINTR)
        fprintf(stderr, "pwbench: %s\n", why);
    pw_launch_end();
    return err ? PW_BENCH_FAILED : 0;
}

static enum pw_test parse_test(const char *word)
{
    int test = word ? pw_test_find(word, strlen(word)) : -1;

    if (!word || *word == '-')
        pw_usage_error("limit needs a test: latency, bw, bibw or rate");
    if (test < 0 || !pw_test_has_limit((enum pw_test)test))
        pw_usage_error("limit knows latency, bw, bibw and rate, not \"%s\"", word);
    return (enum pw_test)test;
}

int pw_limit_main(int argc, char **argv)
{
    static const struct option options[] = {
        PW_TEST_OPTIONS,
        { "cores", required_argument, NULL, OPT_CORES },
        { NULL, 0, NULL, 0 },
    };
    struct limit_options o = { .core = { -1, -1 } };
    bool help = argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "--version"));
    enum pw_test test = PW_LATENCY;
    int c;

    if (!help) {
        test = parse_test(argv[1]);
        argv[1] = argv[0];
        argc--;
        argv++;
    }
    pw_test_options_begin(test, &o.test);
    while ((c = pw_next_option(argc, argv, options)) != -1) {
        if (c == OPT_CORES)
            parse_cores(optarg, o.core);
        else
            pw_test_option(c, &o.test);
    }
    choose_cores(o.core);
    pw_test_options_end(&o.test);
    return limit_measure(&o);
}
