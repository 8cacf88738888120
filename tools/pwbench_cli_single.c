/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_cli_single.c - the options of a single test. */
#include <stdlib.h>
#include <string.h>

#include "pwbench_cli.h"

/* Microseconds of work: one number, or one for each size. */
static void parse_compute(const char *list, struct pw_single_options *o)
{
    const char *item;
    size_t len;

    o->n_compute = 0;
    while ((item = pw_list_next(&list, &len)) != NULL) {
        char *end;
        double us = strtod(item, &end);

        if (end == item || end != item + len || !(us >= 0 && us <= 1e7))
            pw_usage_error("--compute takes microseconds from 0 to 10000000, not \"%.*s\"",
                        (int)len, item);
        if (o->n_compute == PW_SIZES_MAX)
            pw_usage_error("--compute takes at most %d numbers", PW_SIZES_MAX);
        o->compute[o->n_compute++] = us;
    }
}

/* Names, comma-separated; text is cut at the commas. */
static void parse_require(char *text, struct pw_single_options *o)
{
    char *name;

    o->n_require = 0;
    while ((name = strsep(&text, ",")) != NULL) {
        if (!*name)
            pw_usage_error("--require takes names, comma-separated");
        if (o->n_require == PW_SETTINGS_MAX)
            pw_usage_error("--require takes at most %d names", PW_SETTINGS_MAX);
        o->require[o->n_require++] = name;
    }
}

/* What each option allows is checked; now what they say together. */
static void single_check(const struct pw_single_options *o)
{
    const struct pw_test_info *t = &pw_test_info[o->test];

    if (o->pairs && t->kind != PW_PAIR)
        pw_usage_error("--pairs is for latency, bw, bibw, rate and overlap, not for %s",
                       t->name);
    if (o->n_compute && o->test != PW_OVERLAP)
        pw_usage_error("--compute is for overlap, not for %s", t->name);
    if (o->n_compute > 1 && o->n_compute != o->sizes.n)
        pw_usage_error("--compute takes one number or one for each of %d sizes, not %d",
                    o->sizes.n, o->n_compute);
}

int pw_single_main(enum pw_test test, int argc, char **argv)
{
    static const struct option options[] = {
        PW_TEST_OPTIONS,
        { "window-kind", required_argument, NULL, OPT_WINDOW_KIND },
        { "pairs", no_argument, NULL, OPT_PAIRS },
        { "compute", required_argument, NULL, OPT_COMPUTE },
        { "require", required_argument, NULL, OPT_REQUIRE },
        { NULL, 0, NULL, 0 },
    };
    struct pw_single_options o;
    int c;

    pw_test_options_begin(test, &o);
    while ((c = pw_next_option(argc, argv, options)) != -1) {
        switch (c) {
        case OPT_WINDOW_KIND: o.window_kind = pw_parse_window_kind(optarg); break;
        case OPT_PAIRS: o.pairs = true; break;
        case OPT_COMPUTE: parse_compute(optarg, &o); break;
        case OPT_REQUIRE: parse_require(optarg, &o); break;
        default: pw_test_option(c, &o);
        }
    }
    single_check(&o);
    pw_test_options_end(&o);
    return pw_single_run(&o);
}
