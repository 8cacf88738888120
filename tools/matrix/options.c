/* SPDX-License-Identifier: BSD-3-Clause */
/* options.c - the command line of pwbench matrix. All is checked here, before
 * anything is measured. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "link.h"
#include "tools/cores.h"
#include "tools/pwbench.h"
#include "tools/sizes.h"

enum { SIZE_MIN = 64, SIZE_MAX_BYTES = 16 << 20 };

/* What a run may take without --seconds, and what a figure gets at least and most. */
static const double run_seconds = 120, point_least = 0.01, point_most = 0.1;
static const double point_quick = 0.02;

static const char help[] =
    "Usage: pwbench matrix [OPTION]...\n"
    "       pwbench matrix --diff A.json B.json\n"
    "\n"
    "Measures latency and throughput between every pair of cores: two processes,\n"
    "each on its core. It needs no MPI and is run without mpirun.\n"
    "\n"
    "  --transport LIST  some of these (all):\n";

static const char help_rest[] =
    "  --cores LIST      between these hardware threads, such as 0,2-5; all: every one\n"
    "                    that may be used (one for each core)\n"
    "  --size BYTES      of a message for throughput, such as 4K (64K)\n"
    "  --seconds S       for each figure (0.1, less for many cores)\n"
    "  --quick           0.02 s for each figure\n"
    "  --json FILE       write the results to FILE too; - is stdout, and the table\n"
    "                    then goes to stderr\n"
    "  --svg PREFIX      draw heat maps, PREFIX-latency.svg and PREFIX-throughput.svg\n"
    "                    (needs gnuplot)\n"
    "  --timeout S       leave out a transport that takes S seconds longer (10)\n"
    "  --diff A B        compare two files that --json wrote; measures nothing\n"
    "  --help            print this\n";

__attribute__((format(printf, 1, 2), noreturn))
static void usage_error(const char *format, ...)
{
    va_list args;

    fputs("pwbench: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputs("; see pwbench matrix --help\n", stderr);
    exit(PW_BENCH_USAGE);
}

static void print_help(void)
{
    fputs(help, stdout);
    for (int i = 0; pw_links[i]; i++)
        printf("    %-8s        %s\n", pw_links[i]->name, pw_links[i]->what);
    fputs(help_rest, stdout);
    exit(0);
}

/* ---- values ---- */

static double parse_seconds(const char *option, const char *text)
{
    char *end;
    double value = strtod(text, &end);

    if (end == text || *end || !(value >= 0.001 && value <= 3600))
        usage_error("--%s takes seconds from 0.001 to 3600, not \"%s\"", option, text);
    return value;
}

static size_t parse_size(const char *text)
{
    struct pw_sizes sizes;

    if (pw_sizes_parse(text, &sizes) || sizes.n != 1 || sizes.at[0] < SIZE_MIN ||
        sizes.at[0] > SIZE_MAX_BYTES)
        usage_error("--size takes bytes from %d to 16M, such as 4K, not \"%s\"", SIZE_MIN,
                    text);
    return sizes.at[0];
}

static const struct pw_link_ops *find_transport(const char *name, size_t len)
{
    char known[200] = "";

    for (int i = 0; pw_links[i]; i++) {
        if (strlen(pw_links[i]->name) == len && !strncmp(pw_links[i]->name, name, len))
            return pw_links[i];
        snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i ? ", " : "",
                 pw_links[i]->name);
    }
    usage_error("--transport knows %s, not \"%.*s\"", known, (int)len, name);
}

static void parse_transports(const char *list, struct pw_matrix_options *o)
{
    o->n_transports = 0;
    for (;;) {
        size_t len = strcspn(list, ",");
        const struct pw_link_ops *t = find_transport(list, len);

        for (int i = 0; i < o->n_transports; i++)
            if (o->transport[i] == t)
                usage_error("--transport names %s twice", t->name);
        o->transport[o->n_transports++] = t;
        if (!list[len])
            return;
        list += len + 1;
    }
}

/* ---- cores ---- */

static void usable(cpu_set_t *set)
{
    CPU_ZERO(set);
    if (sched_getaffinity(0, sizeof *set, set))
        usage_error("the cores that may be used cannot be found out: %s", strerror(errno));
}

static void add_core(struct pw_matrix_options *o, int core, const cpu_set_t *may)
{
    if (core >= CPU_SETSIZE || !CPU_ISSET(core, may))
        usage_error("core %d is none that this process may use", core);
    for (int i = 0; i < o->n_cores; i++)
        if (o->core[i] == core)
            usage_error("--cores names core %d twice", core);
    o->core[o->n_cores++] = core;
}

/* A number at *text, which moves behind it; -1 when there is none. */
static int parse_core(const char **text)
{
    char *end;
    long value;

    if (**text < '0' || **text > '9')
        return -1;
    value = strtol(*text, &end, 10);
    *text = end;
    return value < CPU_SETSIZE ? (int)value : CPU_SETSIZE;
}

static void parse_cores(const char *list, struct pw_matrix_options *o)
{
    const char *at = list;
    cpu_set_t may;

    usable(&may);
    o->n_cores = 0;
    if (!strcmp(list, "all")) {
        for (int core = 0; core < CPU_SETSIZE; core++)
            if (CPU_ISSET(core, &may))
                add_core(o, core, &may);
        return;
    }
    for (;;) {
        int first = parse_core(&at), last = first;

        if (first >= 0 && *at == '-') {
            at++;
            last = parse_core(&at);
        }
        if (first < 0 || last < first || (*at && *at != ','))
            usage_error("--cores takes a list like 0,2-5, or all, not \"%s\"", list);
        for (int core = first; core <= last; core++)
            add_core(o, core, &may);
        if (!*at++)
            return;
    }
}

/* One hardware thread for each core. */
static void default_cores(struct pw_matrix_options *o)
{
    int core;

    for (int n = 0; n < PW_CORES_MAX && (core = pw_core_at(n)) >= 0; n++)
        o->core[o->n_cores++] = core;
    if (!o->n_cores)
        usage_error("the cores that may be used cannot be found out");
}

/* ---- all of it ---- */

static double default_seconds(const struct pw_matrix_options *o)
{
    double seconds = run_seconds / pw_pairs(o->n_cores) / o->n_transports / PW_MEASURES;

    if (seconds > point_most)
        return point_most;
    return seconds < point_least ? point_least : seconds;
}

enum {
    OPT_TRANSPORT = 256, OPT_CORES, OPT_SIZE, OPT_SECONDS, OPT_QUICK, OPT_JSON, OPT_SVG,
    OPT_TIMEOUT, OPT_DIFF, OPT_HELP,
};

static const struct option options[] = {
    { "transport", required_argument, NULL, OPT_TRANSPORT },
    { "cores", required_argument, NULL, OPT_CORES },
    { "size", required_argument, NULL, OPT_SIZE },
    { "seconds", required_argument, NULL, OPT_SECONDS },
    { "quick", no_argument, NULL, OPT_QUICK },
    { "json", required_argument, NULL, OPT_JSON },
    { "svg", required_argument, NULL, OPT_SVG },
    { "timeout", required_argument, NULL, OPT_TIMEOUT },
    { "diff", no_argument, NULL, OPT_DIFF },
    { "help", no_argument, NULL, OPT_HELP },
    { NULL, 0, NULL, 0 },
};

/* -1 behind the last one. */
static int next_option(int argc, char **argv)
{
    int c;

    opterr = 0;
    c = getopt_long(argc, argv, ":", options, NULL);
    if (c == OPT_HELP)
        print_help();
    if (c == ':')
        usage_error("%s needs a value", argv[optind - 1]);
    if (c == '?')
        usage_error("matrix has no option %s", argv[optind - 1]);
    return c;
}

int pw_matrix_main(int argc, char **argv)
{
    static struct pw_matrix_options o = { .size = 64 << 10, .timeout = 10 };
    bool quick = false, diff = false;
    int c, given = 0;

    while (pw_links[o.n_transports]) {
        o.transport[o.n_transports] = pw_links[o.n_transports];
        o.n_transports++;
    }
    while ((c = next_option(argc, argv)) != -1) {
        given++;
        switch (c) {
        case OPT_TRANSPORT: parse_transports(optarg, &o); break;
        case OPT_CORES: parse_cores(optarg, &o); break;
        case OPT_SIZE: o.size = parse_size(optarg); break;
        case OPT_SECONDS: o.seconds = parse_seconds("seconds", optarg); break;
        case OPT_QUICK: quick = true; break;
        case OPT_JSON: o.json = optarg; break;
        case OPT_SVG: o.svg = optarg; break;
        case OPT_TIMEOUT: o.timeout = parse_seconds("timeout", optarg); break;
        case OPT_DIFF: diff = true; break;
        }
    }
    if (diff && given > 1)
        usage_error("--diff measures nothing and takes no other option");
    if (diff && argc - optind != 2)
        usage_error("--diff takes two files that --json wrote");
    if (diff)
        return pw_matrix_diff(argv[optind], argv[optind + 1]);
    if (optind < argc)
        usage_error("matrix takes no argument \"%s\"", argv[optind]);
    if (!o.n_cores)
        default_cores(&o);
    if (o.seconds == 0)
        o.seconds = quick ? point_quick : default_seconds(&o);
    return pw_matrix_run(&o);
}
