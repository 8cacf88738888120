/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench.c - the command line of pwbench: measure a transport, or compare some.
 *
 * A single test (pwbench latency) is an MPI program; compare is an
 * ordinary program that starts such jobs, and regcache one that starts programs
 * without MPI. Options are all checked here, before anything is run.
 */
#include "pwbench.h"

#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cores.h"
#include "matrix/matrix.h"
#include "pwbench_peers.h"

static const char help[] =
    "Usage: mpirun -n 2 pwbench TEST [OPTION]...\n"
    "       pwbench compare [OPTION]...\n"
    "       pwbench regcache [OPTION]...\n"
    "       pwbench matrix [OPTION]...\n"
    "\n"
    "Measures MPI. TEST is one of, between two ranks,\n"
    "  latency   half a round trip of MPI_Send and MPI_Recv, us\n"
    "  bw        a window of MPI_Isend, answered once, MB/s\n"
    "  bibw      the same in both directions at once, MB/s\n"
    "  rate      bw's messages, of 8 bytes, in a second, millions\n"
    "  overlap   MPI_Irecv and MPI_Isend, compute, MPI_Waitall, us\n"
    "  put, get  MPI_Put or MPI_Get and MPI_Win_flush, us\n"
    "  fadd, cas MPI_Fetch_and_op or MPI_Compare_and_swap of 8 bytes and\n"
    "            MPI_Win_flush, us\n"
    "or of any number of ranks\n"
    "  alltoall, allreduce, barrier\n"
    "            one call, mean over the ranks, us\n"
    "  init      MPI_Init and MPI_Finalize, the slowest rank, ms\n"
    "\n"
    "Options of a TEST:\n"
    "  --sizes LIST         bytes: 8,4K,1M or 1:4M for all powers of two (1:4M)\n"
    "  --buffers KIND       malloc or alloc_mem (malloc)\n"
    "  --iterations N       for each size (as many as the OSU benchmarks do)\n"
    "  --warmup N           untimed iterations before that\n"
    "  --seconds S          stop a size after about S seconds (2; with\n"
    "                       --iterations: no limit)\n"
    "  --batches N          print the median over N batches (1: the mean over all)\n"
    "  --window N           messages in flight for bw, bibw and rate (64)\n"
    "  --window-kind KIND   one-sided: create, allocate or dynamic (create)\n"
    "  --pairs              latency, bw, bibw, rate, overlap: any even number of ranks,\n"
    "                       the first with the middle one and so on, all at once\n"
    "  --compute LIST       overlap: us of work for each size, or one number for all\n"
    "                       (as long as the messages alone take)\n"
    "  --check              verify the data of every size\n"
    "\n"
    "pwbench compare is run without mpirun; it starts mpirun itself. Its options:\n"
    "  --csv FILE           write the results to FILE too\n"
    "  --tests LIST         some of the tests above (latency,bw,bibw,put,get)\n"
    "  --sizes LIST         (8,1K,4K,16K,64K,256K,1M,4M; alltoall, allreduce: 8,64K)\n"
    "  --buffers LIST       malloc, alloc_mem or both (both; one-sided: alloc_mem;\n"
    "                       rate, alltoall, allreduce: malloc)\n"
    "  --ranks N            so many ranks; in pairs where a test is of two (2;\n"
    "                       alltoall, allreduce, barrier: 8)\n"
    "  --peers LIST         some of vader,ucx,tcp,sm,osc-rdma,osc-ucx,mpich,pinwheel\n"
    "                       (vader,ucx,tcp; one-sided: sm,osc-rdma,osc-ucx; and mpich\n"
    "                       where it was found)\n"
    "  --subject NAME       what the peers are compared with (pinwheel)\n"
    "  --window-kind KIND   the same window for all but sm (the best one for each)\n"
    "  --rounds N           medians are over N rounds (5)\n"
    "  --seconds S          about so long for each size in each round (0.1)\n"
    "  --bind core|none     each rank on a core of its own (core where there are enough)\n"
    "  --quick              latency and bw of 8,4K,64K,1M, 3 rounds of 0.03 s\n"
    "  --timeout S          end an mpirun that takes longer (60)\n"
    "  --mpirun PATH        the mpirun of Open MPI (the one built with)\n"
    "  --mpich-pwbench PATH pwbench built by mpicc.mpich (the one built beside this)\n"
    "\n"
    "pwbench regcache measures what the registration caches of pinwheel, UCX (1.13)\n"
    "and Open MPI (grdma) cost, one beside the other, without MPI. Its options:\n"
    "  --csv                print cache,regions,pattern,threads,ns instead of a table\n"
    "  --rounds N           medians are over N rounds (5)\n"
    "  --seconds S          measure each point so long in each round (0.05)\n"
    "  --quick              3 rounds of 0.01 s\n"
    "  --monitor NAME       of pinwheel's cache: auto, hooks, uffd or none (hooks)\n"
    "  --timeout S          end a program that takes longer for a point (60)\n"
    "  --drivers DIR        take the programs that use the caches from DIR\n"
    "\n"
    "pwbench matrix measures every pair of cores without MPI; see pwbench matrix --help.\n"
    "\n"
    "  --help               print this\n"
    "  --version            print the version\n";

/* mpirun starts two of us: only one should say what is wrong. */
static bool speaker(void)
{
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");

    if (!rank)
        rank = getenv("PMI_RANK");
    return !rank || !strcmp(rank, "0");
}

__attribute__((format(printf, 1, 2), noreturn))
static void usage_error(const char *format, ...)
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

static long parse_long(const char *option, const char *text, long min, long max)
{
    char *end;
    long value = strtol(text, &end, 10);

    if (end == text || *end || value < min || value > max)
        usage_error("--%s takes a number from %ld to %ld, not \"%s\"", option, min, max, text);
    return value;
}

static double parse_seconds(const char *option, const char *text)
{
    char *end;
    double value = strtod(text, &end);

    if (end == text || *end || !(value >= 0.001 && value <= 3600))
        usage_error("--%s takes seconds from 0.001 to 3600, not \"%s\"", option, text);
    return value;
}

/* The next item of a comma-separated list, its length in *len; NULL at the end.
 * An empty item is one of length 0, which no list knows. */
static const char *list_next(const char **rest, size_t *len)
{
    const char *item = *rest;

    if (!item)
        return NULL;
    *len = strcspn(item, ",");
    *rest = item[*len] ? item + *len + 1 : NULL;
    return item;
}

/* Microseconds of work: one number, or one for each size. */
static void parse_compute(const char *list, struct pw_single_options *o)
{
    const char *item;
    size_t len;

    o->n_compute = 0;
    while ((item = list_next(&list, &len)) != NULL) {
        char *end;
        double us = strtod(item, &end);

        if (end == item || end != item + len || !(us >= 0 && us <= 1e7))
            usage_error("--compute takes microseconds from 0 to 10000000, not \"%.*s\"",
                        (int)len, item);
        if (o->n_compute == PW_SIZES_MAX)
            usage_error("--compute takes at most %d numbers", PW_SIZES_MAX);
        o->compute[o->n_compute++] = us;
    }
}

static void parse_sizes(const char *text, struct pw_sizes *out)
{
    if (pw_sizes_parse(text, out))
        usage_error("--sizes takes a list like 8,4K,1M or 1:4M of at most %d sizes, not \"%s\"",
                    PW_SIZES_MAX, text);
    if (pw_sizes_largest(out) > INT_MAX)
        usage_error("--sizes takes at most %d bytes, which is what an MPI count holds", INT_MAX);
}

static int find_name(const char *const names[], int n, const char *name, size_t len)
{
    for (int i = 0; i < n; i++)
        if (strlen(names[i]) == len && !strncmp(names[i], name, len))
            return i;
    return -1;
}

static enum pw_buffers parse_buffers(const char *text, size_t len)
{
    int kind = find_name(pw_buffers_name, PW_BUFFERS, text, len);

    if (kind < 0)
        usage_error("--buffers knows malloc and alloc_mem, not \"%.*s\"", (int)len, text);
    return (enum pw_buffers)kind;
}

static enum pw_window_kind parse_window_kind(const char *text)
{
    int kind = find_name(pw_window_kind_name, PW_WINDOW_KINDS, text, strlen(text));

    if (kind < 0)
        usage_error("--window-kind knows create, allocate and dynamic, not \"%s\"", text);
    return (enum pw_window_kind)kind;
}

static const struct pw_transport *parse_transport(const char *option, const char *text,
                                                  size_t len)
{
    const struct pw_transport *t = pw_transport_find(text, len);

    if (!t)
        usage_error("--%s knows %s, not \"%.*s\"", option, pw_transport_names(), (int)len,
                    text);
    return t;
}

enum {
    OPT_SIZES = 256, OPT_BUFFERS, OPT_ITERATIONS, OPT_WARMUP, OPT_SECONDS, OPT_BATCHES,
    OPT_WINDOW, OPT_WINDOW_KIND, OPT_CHECK, OPT_CSV, OPT_TESTS, OPT_PEERS, OPT_SUBJECT,
    OPT_ROUNDS, OPT_BIND, OPT_QUICK, OPT_TIMEOUT, OPT_MPIRUN, OPT_MPICH, OPT_HELP,
    OPT_VERSION, OPT_MONITOR, OPT_DRIVERS, OPT_PAIRS, OPT_COMPUTE, OPT_RANKS,
};

static void print_version(void)
{
    puts("pwbench (pinwheel) " PINWHEEL_VERSION);
    exit(0);
}

static void print_help(void)
{
    fputs(help, stdout);
    exit(0);
}

/* The next option as getopt_long() gives it, or -1 at the end. What is wrong,
 * or no option at all, is a usage error. */
static int next_option(int argc, char **argv, const struct option *options)
{
    int c;

    opterr = 0;
    c = getopt_long(argc, argv, ":", options, NULL);
    if (c == OPT_HELP)
        print_help();
    if (c == OPT_VERSION)
        print_version();
    if (c == ':')
        usage_error("%s needs a value", argv[optind - 1]);
    if (c == '?')
        usage_error("%s has no option %s", argv[0], argv[optind - 1]);
    if (c == -1 && optind < argc)
        usage_error("%s takes no argument \"%s\"", argv[0], argv[optind]);
    return c;
}

/* ---- the two kinds of command ---- */

/* What each option allows is checked; now what they say together. */
static void single_check(const struct pw_single_options *o, bool sizes_given)
{
    const struct pw_test_info *t = &pw_test_info[o->test];

    if (t->one_size && sizes_given)
        usage_error("%s has no --sizes", t->name);
    if (o->pairs && t->kind != PW_PAIR)
        usage_error("--pairs is for latency, bw, bibw, rate and overlap, not for %s", t->name);
    if (o->n_compute && o->test != PW_OVERLAP)
        usage_error("--compute is for overlap, not for %s", t->name);
    if (o->n_compute > 1 && o->n_compute != o->sizes.n)
        usage_error("--compute takes one number or one for each of %d sizes, not %d",
                    o->sizes.n, o->n_compute);
}

static int main_single(enum pw_test test, int argc, char **argv)
{
    static const struct option options[] = {
        { "sizes", required_argument, NULL, OPT_SIZES },
        { "buffers", required_argument, NULL, OPT_BUFFERS },
        { "iterations", required_argument, NULL, OPT_ITERATIONS },
        { "warmup", required_argument, NULL, OPT_WARMUP },
        { "seconds", required_argument, NULL, OPT_SECONDS },
        { "batches", required_argument, NULL, OPT_BATCHES },
        { "window", required_argument, NULL, OPT_WINDOW },
        { "window-kind", required_argument, NULL, OPT_WINDOW_KIND },
        { "check", no_argument, NULL, OPT_CHECK },
        { "pairs", no_argument, NULL, OPT_PAIRS },
        { "compute", required_argument, NULL, OPT_COMPUTE },
        { "help", no_argument, NULL, OPT_HELP },
        { "version", no_argument, NULL, OPT_VERSION },
        { NULL, 0, NULL, 0 },
    };
    struct pw_single_options o = { .test = test, .warmup = -1, .window = 64, .batches = 1,
                                   .seconds = -1 };
    bool sizes_given = false;
    int c;

    parse_sizes("1:4M", &o.sizes);
    if (pw_test_info[test].one_size)
        o.sizes = (struct pw_sizes){ 1, { pw_test_info[test].size } };
    while ((c = next_option(argc, argv, options)) != -1) {
        switch (c) {
        case OPT_SIZES: parse_sizes(optarg, &o.sizes); sizes_given = true; break;
        case OPT_BUFFERS: o.buffers = parse_buffers(optarg, strlen(optarg)); break;
        case OPT_ITERATIONS: o.iterations = parse_long("iterations", optarg, 1, 1000000000); break;
        case OPT_WARMUP: o.warmup = parse_long("warmup", optarg, 0, 1000000000); break;
        case OPT_SECONDS: o.seconds = parse_seconds("seconds", optarg); break;
        case OPT_BATCHES: o.batches = (int)parse_long("batches", optarg, 1, 1000); break;
        case OPT_WINDOW: o.window = (int)parse_long("window", optarg, 1, 65536); break;
        case OPT_WINDOW_KIND: o.window_kind = parse_window_kind(optarg); break;
        case OPT_CHECK: o.check = true; break;
        case OPT_PAIRS: o.pairs = true; break;
        case OPT_COMPUTE: parse_compute(optarg, &o); break;
        }
    }
    single_check(&o, sizes_given);
    if (o.seconds < 0)
        o.seconds = o.iterations ? 0 : 2;
    return pw_single_run(&o);
}

static void parse_tests(const char *list, bool test[PW_TESTS])
{
    const char *item;
    size_t len;

    memset(test, 0, PW_TESTS * sizeof *test);
    while ((item = list_next(&list, &len)) != NULL) {
        int t = pw_test_find(item, len);

        if (t < 0)
            usage_error("--tests knows no test \"%.*s\"", (int)len, item);
        test[t] = true;
    }
}

static void parse_buffers_list(const char *list, struct pw_compare_options *o)
{
    const char *item;
    size_t len;

    memset(o->buffers, 0, sizeof o->buffers);
    while ((item = list_next(&list, &len)) != NULL)
        o->buffers[parse_buffers(item, len)] = true;
    o->buffers_given = true;
}

static void parse_peers(const char *list, struct pw_compare_options *o)
{
    const struct pw_transport *t;
    const char *item;
    size_t len;

    o->n_peers = 0;
    while ((item = list_next(&list, &len)) != NULL) {
        t = parse_transport("peers", item, len);
        for (int i = 0; i < o->n_peers; i++)
            if (o->peer[i] == t->name)
                usage_error("--peers names %s twice", t->name);
        if (o->n_peers == PW_PEERS_MAX)
            usage_error("--peers takes at most %d transports", PW_PEERS_MAX);
        o->peer[o->n_peers++] = t->name;
    }
}

static bool parse_bind(const char *text)
{
    if (strcmp(text, "core") && strcmp(text, "none"))
        usage_error("--bind knows core and none, not \"%s\"", text);
    return !strcmp(text, "core");
}

/* Before the options are read, so that they have the last word. */
static void compare_defaults(struct pw_compare_options *o, bool quick)
{
    *o = (struct pw_compare_options){
        .subject = "pinwheel", .mpirun = PW_MPIRUN, .rounds = quick ? 3 : 5,
        .seconds = quick ? 0.03 : 0.1, .timeout = 60, .bind = pw_cores_usable() >= 2,
        .window_kind = -1, .mpich_pwbench = pw_mpich_pwbench(),
    };
    parse_tests(quick ? "latency,bw" : "latency,bw,bibw,put,get", o->test);
    parse_buffers_list("malloc,alloc_mem", o);
    o->buffers_given = false;
    parse_sizes(quick ? "8,4K,64K,1M" : "8,1K,4K,16K,64K,256K,1M,4M", &o->sizes);
}

/* Which tests do not run between so many ranks? */
static void compare_check_ranks(const struct pw_compare_options *o)
{
    for (int t = 0; o->ranks && t < PW_TESTS; t++) {
        enum pw_kind kind = pw_test_info[t].kind;

        if (!o->test[t])
            continue;
        if (kind == PW_ONE_SIDED && o->ranks != 2)
            usage_error("%s runs between 2 ranks, not %d", pw_test_info[t].name, o->ranks);
        if (kind == PW_PAIR && o->ranks % 2)
            usage_error("%s runs between an even number of ranks, not %d",
                        pw_test_info[t].name, o->ranks);
    }
}

static void compare_check(const struct pw_compare_options *o)
{
    const struct pw_transport *subject = pw_transport_find(o->subject, strlen(o->subject));
    bool mpich = subject->mpich;

    for (int i = 0; i < o->n_peers; i++) {
        if (o->peer[i] == subject->name)
            usage_error("%s cannot be subject and peer at once", subject->name);
        mpich = mpich || !strcmp(o->peer[i], "mpich");
    }
    if (mpich && !o->mpich_pwbench)
        usage_error("mpich needs a pwbench made by mpicc.mpich, and there is none beside "
                    "this one; give --mpich-pwbench PATH");
    for (int t = 0; subject->one_sided_only && t < PW_TESTS; t++)
        if (o->test[t] && pw_test_info[t].kind != PW_ONE_SIDED)
            usage_error("%s is one-sided only; give --tests put,get,fadd,cas", subject->name);
    compare_check_ranks(o);
    if (getenv("OMPI_COMM_WORLD_RANK") || getenv("PMI_RANK"))
        usage_error("compare starts mpirun itself; run it without mpirun");
}

static int main_compare(int argc, char **argv)
{
    static const struct option options[] = {
        { "csv", required_argument, NULL, OPT_CSV },
        { "tests", required_argument, NULL, OPT_TESTS },
        { "sizes", required_argument, NULL, OPT_SIZES },
        { "buffers", required_argument, NULL, OPT_BUFFERS },
        { "ranks", required_argument, NULL, OPT_RANKS },
        { "peers", required_argument, NULL, OPT_PEERS },
        { "window-kind", required_argument, NULL, OPT_WINDOW_KIND },
        { "subject", required_argument, NULL, OPT_SUBJECT },
        { "rounds", required_argument, NULL, OPT_ROUNDS },
        { "seconds", required_argument, NULL, OPT_SECONDS },
        { "bind", required_argument, NULL, OPT_BIND },
        { "quick", no_argument, NULL, OPT_QUICK },
        { "timeout", required_argument, NULL, OPT_TIMEOUT },
        { "mpirun", required_argument, NULL, OPT_MPIRUN },
        { "mpich-pwbench", required_argument, NULL, OPT_MPICH },
        { "help", no_argument, NULL, OPT_HELP },
        { "version", no_argument, NULL, OPT_VERSION },
        { NULL, 0, NULL, 0 },
    };
    struct pw_compare_options o;
    bool quick = false;
    int c;

    for (int i = 1; i < argc; i++)
        quick = quick || !strcmp(argv[i], "--quick");
    compare_defaults(&o, quick);
    while ((c = next_option(argc, argv, options)) != -1) {
        switch (c) {
        case OPT_CSV: o.csv = optarg; break;
        case OPT_TESTS: parse_tests(optarg, o.test); break;
        case OPT_SIZES: parse_sizes(optarg, &o.sizes); o.sizes_given = true; break;
        case OPT_RANKS: o.ranks = (int)parse_long("ranks", optarg, 1, 4096); break;
        case OPT_WINDOW_KIND: o.window_kind = (int)parse_window_kind(optarg); break;
        case OPT_BUFFERS: parse_buffers_list(optarg, &o); break;
        case OPT_PEERS: parse_peers(optarg, &o); break;
        case OPT_SUBJECT: o.subject = parse_transport("subject", optarg, strlen(optarg))->name; break;
        case OPT_ROUNDS: o.rounds = (int)parse_long("rounds", optarg, 1, 1000); break;
        case OPT_SECONDS: o.seconds = parse_seconds("seconds", optarg); break;
        case OPT_BIND: o.bind = parse_bind(optarg); break;
        case OPT_TIMEOUT: o.timeout = parse_seconds("timeout", optarg); break;
        case OPT_MPIRUN: o.mpirun = optarg; break;
        case OPT_MPICH: o.mpich_pwbench = *optarg ? optarg : NULL; break;
        }
    }
    compare_check(&o);
    return pw_compare_run(&o);
}

static int main_regcache(int argc, char **argv)
{
    static const struct option options[] = {
        { "csv", no_argument, NULL, OPT_CSV },
        { "rounds", required_argument, NULL, OPT_ROUNDS },
        { "seconds", required_argument, NULL, OPT_SECONDS },
        { "quick", no_argument, NULL, OPT_QUICK },
        { "monitor", required_argument, NULL, OPT_MONITOR },
        { "timeout", required_argument, NULL, OPT_TIMEOUT },
        { "drivers", required_argument, NULL, OPT_DRIVERS },
        { "help", no_argument, NULL, OPT_HELP },
        { "version", no_argument, NULL, OPT_VERSION },
        { NULL, 0, NULL, 0 },
    };
    struct pw_regcache_options o = { .timeout = 60, .monitor = "hooks" };
    bool quick = false;
    int c;

    while ((c = next_option(argc, argv, options)) != -1) {
        switch (c) {
        case OPT_CSV: o.csv = true; break;
        case OPT_ROUNDS: o.rounds = (int)parse_long("rounds", optarg, 1, 1000); break;
        case OPT_SECONDS: o.seconds = parse_seconds("seconds", optarg); break;
        case OPT_QUICK: quick = true; break;
        case OPT_MONITOR: o.monitor = optarg; break;
        case OPT_TIMEOUT: o.timeout = parse_seconds("timeout", optarg); break;
        case OPT_DRIVERS: o.drivers = optarg; break;
        }
    }
    if (!o.rounds)
        o.rounds = quick ? 3 : 5;
    if (o.seconds == 0)
        o.seconds = quick ? 0.01 : 0.05;
    return pw_regcache_run(&o);
}

/* What is not a test: these start programs themselves. */
static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
} commands[] = {
    { "compare", main_compare },
    { "regcache", main_regcache },
    { "matrix", pw_matrix_main },
};
enum { COMMANDS = sizeof commands / sizeof *commands };

int main(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : "";
    int test = pw_test_find(word, strlen(word));

    if (!strcmp(word, "--help"))
        print_help();
    if (!strcmp(word, "--version"))
        print_version();
    if (!*word)
        usage_error("say what to measure");
    if (test >= 0)
        return main_single((enum pw_test)test, argc - 1, argv + 1);
    for (int i = 0; i < COMMANDS; i++)
        if (!strcmp(commands[i].name, word))
            return commands[i].run(argc - 1, argv + 1);
    usage_error("there is no test \"%s\"", word);
}
