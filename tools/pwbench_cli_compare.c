/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_cli_compare.c - the options of pwbench compare. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cores.h"
#include "pwbench_cli.h"
#include "pwbench_osu.h"
#include "pwbench_peers.h"

static void parse_transport(const char *option, const char *text, size_t len,
                            struct pw_variant *out)
{
    int err = pw_variant_parse(text, len, out);

    if (err == -ENOENT)
        pw_usage_error("--%s knows %s, not \"%.*s\"", option, pw_transport_names(),
                       (int)strcspn(text, ",:"), text);
    if (err == -ENOTSUP)
        pw_usage_error("--%s sets parameters of pinwheel, vader and tcp, not of %s", option,
                       out->transport->name);
    if (err == -E2BIG)
        pw_usage_error("--%s takes at most %d parameters, and not so much text: \"%.*s\"",
                       option, PW_SETTINGS_MAX, (int)len, text);
    if (err)
        pw_usage_error("--%s takes parameters as NAME:PARAMETER=VALUE, not \"%.*s\"",
                       option, (int)len, text);
}

static void parse_tests(const char *list, bool test[PW_TESTS])
{
    const char *item;
    size_t len;

    memset(test, 0, PW_TESTS * sizeof *test);
    while ((item = pw_list_next(&list, &len)) != NULL) {
        int t = pw_test_find(item, len);

        if (t < 0)
            pw_usage_error("--tests knows no test \"%.*s\"", (int)len, item);
        test[t] = true;
    }
}

static void parse_buffers_list(const char *list, struct pw_compare_options *o)
{
    const char *item;
    size_t len;

    memset(o->buffers, 0, sizeof o->buffers);
    while ((item = pw_list_next(&list, &len)) != NULL)
        o->buffers[pw_parse_buffers(item, len)] = true;
    o->buffers_given = true;
}

static void parse_peers(const char *list, struct pw_compare_options *o)
{
    struct pw_variant v;
    const char *item;
    size_t len;

    o->n_peers = 0;
    while ((item = pw_list_next(&list, &len)) != NULL) {
        parse_transport("peers", item, len, &v);
        for (int i = 0; i < o->n_peers; i++)
            if (!strcmp(o->peer[i].name, v.name))
                pw_usage_error("--peers names %s twice", v.name);
        if (o->n_peers == PW_PEERS_MAX)
            pw_usage_error("--peers takes at most %d transports", PW_PEERS_MAX);
        o->peer[o->n_peers++] = v;
    }
}

static enum pw_bind parse_bind(const char *text)
{
    static const char *const names[] = { [PW_BIND_NONE] = "none", [PW_BIND_CORE] = "core",
                                         [PW_BIND_RANK] = "rank" };

    for (int i = 0; i < (int)(sizeof names / sizeof *names); i++)
        if (!strcmp(text, names[i]))
            return (enum pw_bind)i;
    pw_usage_error("--bind knows core, rank and none, not \"%s\"", text);
}

/* Of letters that mean nothing to mpirun: it would take slots after a colon. */
static void parse_hosts(const char *list, struct pw_compare_options *o)
{
    const char *item;
    size_t len;

    o->hosts = list;
    o->n_hosts = 0;
    if (strlen(list) > PW_HOSTS_TEXT / 2)
        pw_usage_error("--hosts takes at most %d letters", PW_HOSTS_TEXT / 2);
    while ((item = pw_list_next(&list, &len)) != NULL) {
        for (size_t i = 0; i < len; i++)
            if (!isalnum((unsigned char)item[i]) && !strchr("._-", item[i]))
                len = 0;
        if (len == 0)
            pw_usage_error("--hosts takes names, as in a,b, not \"%s\"", o->hosts);
        o->n_hosts++;
    }
    if (o->n_hosts < 2)
        pw_usage_error("--hosts takes two at least");
}

/* Before the options are read, so that they have the last word. */
static void compare_defaults(struct pw_compare_options *o, bool quick)
{
    *o = (struct pw_compare_options){
        .mpirun = PW_MPIRUN, .rounds = quick ? 3 : 5,
        .seconds = quick ? 0.03 : 0.1, .timeout = 60, .n_hosts = 1,
        .bind = pw_cores_usable() >= 2 ? PW_BIND_CORE : PW_BIND_NONE,
        .window_kind = -1, .mpich_pwbench = pw_mpich_pwbench(),
    };
    parse_transport("subject", "pinwheel", strlen("pinwheel"), &o->subject);
    parse_tests(quick ? "latency,bw" : "latency,bw,bibw,put,get", o->test);
    parse_buffers_list("malloc,alloc_mem", o);
    o->buffers_given = false;
    pw_parse_sizes(quick ? "8,4K,64K,1M" : "8,1K,4K,16K,64K,256K,1M,4M", &o->sizes);
}

/* Which tests do not run between so many ranks? */
static void compare_check_ranks(const struct pw_compare_options *o)
{
    for (int t = 0; o->ranks && t < PW_TESTS; t++) {
        enum pw_kind kind = pw_test_info[t].kind;

        if (!o->test[t])
            continue;
        if (kind == PW_ONE_SIDED && o->ranks != 2)
            pw_usage_error("%s runs between 2 ranks, not %d", pw_test_info[t].name,
                           o->ranks);
        if (kind == PW_PAIR && o->ranks % 2)
            pw_usage_error("%s runs between an even number of ranks, not %d",
                        pw_test_info[t].name, o->ranks);
    }
}

/* What knows one host only? Ranks that are not given are 2 or 8. */
static void compare_check_hosts(const struct pw_compare_options *o)
{
    for (int t = 0; t < PW_TESTS; t++) {
        enum pw_kind kind = pw_test_info[t].kind;
        int ranks = o->ranks ? o->ranks : kind == PW_COLLECTIVE ? 8 : 2;

        if (o->test[t] && kind == PW_STARTUP)
            pw_usage_error("--hosts: %s is for one host", pw_test_info[t].name);
        if (o->test[t] && ranks % o->n_hosts)
            pw_usage_error("--hosts: %d ranks of %s are not the same number on each of %d "
                           "hosts", ranks, pw_test_info[t].name, o->n_hosts);
    }
    if (o->limit)
        pw_usage_error("--hosts: --limit is for one host");
    if (o->subject.transport->here_only)
        pw_usage_error("--hosts: %s reaches nobody on another host", o->subject.name);
    for (int i = 0; i < o->n_peers; i++)
        if (o->peer[i].transport->here_only)
            pw_usage_error("--hosts: %s reaches nobody on another host", o->peer[i].name);
}

/* Is there something that has a limit, and are there cores for it? */
static void compare_check_limit(const struct pw_compare_options *o)
{
    bool any = false;

    for (int t = 0; t < PW_TESTS; t++)
        any = any || (o->test[t] && pw_test_has_limit((enum pw_test)t));
    if (!any || (o->ranks && o->ranks != 2))
        pw_usage_error("--limit is for latency, bw, bibw and rate between 2 ranks");
    if (pw_cores_usable() < 2)
        pw_usage_error("--limit needs two cores, and pwbench may use one");
}

/* Is there a program for any of the tests, and can they run as asked for? */
static void compare_check_osu(const struct pw_compare_options *o, bool mpich)
{
    bool any = false;
    size_t odd;

    for (int t = 0; t < PW_TESTS; t++) {
        char *program = o->test[t] ? pw_osu_find(o->osu, (enum pw_test)t) : NULL;

        any = any || program;
        free(program);
    }
    if (!any)
        pw_usage_error("--osu: %s has no program of the OSU micro-benchmarks for any of "
                       "these tests, such as osu_latency", o->osu);
    if (o->buffers_given && !o->buffers[PW_MALLOC])
        pw_usage_error("--osu: its programs take their buffers from malloc");
    if (mpich)
        pw_usage_error("--osu: its programs are Open MPI's, which mpich cannot run");
    if (pw_osu_odd_size(&o->sizes, &odd))
        pw_usage_error("--osu: its programs double the smallest of the --sizes, from 1 on, "
                       "and so do not come to %zu", odd);
}

/* Is there something to draw? */
static void compare_check_plot(const struct pw_compare_options *o)
{
    for (int t = 0; t < PW_TESTS; t++)
        if (o->test[t] && !pw_test_info[t].one_size)
            return;
    pw_usage_error("--plot draws tests over sizes, and all of these have one size");
}

/* An option that says what to measure, beside --from. */
static void refuse_with_from(const struct option *options, int c)
{
    for (; options->name; options++)
        if (options->val == c)
            pw_usage_error("--from measures nothing and takes no --%s", options->name);
}

static void compare_check(const struct pw_compare_options *o)
{
    const struct pw_transport *subject = o->subject.transport;
    bool mpich = subject->mpich;

    for (int i = 0; i < o->n_peers; i++) {
        if (!strcmp(o->peer[i].name, o->subject.name))
            pw_usage_error("%s cannot be subject and peer at once", o->subject.name);
        mpich = mpich || o->peer[i].transport->mpich;
    }
    if (mpich && !o->mpich_pwbench)
        pw_usage_error("mpich needs a pwbench made by mpicc.mpich, and there is none "
                       "beside this one; give --mpich-pwbench PATH");
    for (int t = 0; subject->one_sided_only && t < PW_TESTS; t++)
        if (o->test[t] && pw_test_info[t].kind != PW_ONE_SIDED)
            pw_usage_error("%s is one-sided only; give --tests put,get,fadd,cas",
                           subject->name);
    compare_check_ranks(o);
    if (o->hosts)
        compare_check_hosts(o);
    else if (o->agent)
        pw_usage_error("--agent is the way to --hosts, and there are none");
    if (o->limit)
        compare_check_limit(o);
    if (o->osu)
        compare_check_osu(o, mpich);
    if (o->plot)
        compare_check_plot(o);
    if (getenv("OMPI_COMM_WORLD_RANK") || getenv("PMI_RANK"))
        pw_usage_error("compare starts mpirun itself; run it without mpirun");
}

int pw_compare_main(int argc, char **argv)
{
    static const struct option options[] = {
        { "csv", required_argument, NULL, OPT_CSV },
        { "plot", required_argument, NULL, OPT_PLOT },
        { "from", required_argument, NULL, OPT_FROM },
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
        { "hosts", required_argument, NULL, OPT_HOSTS },
        { "agent", required_argument, NULL, OPT_AGENT },
        { "osu", required_argument, NULL, OPT_OSU },
        { "limit", no_argument, NULL, OPT_LIMIT },
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
    int c, measuring = 0;

    for (int i = 1; i < argc; i++)
        quick = quick || !strcmp(argv[i], "--quick");
    compare_defaults(&o, quick);
    while ((c = pw_next_option(argc, argv, options)) != -1) {
        if (c != OPT_FROM && c != OPT_PLOT && c != OPT_TESTS && c != OPT_BUFFERS)
            measuring = c;
        switch (c) {
        case OPT_CSV: o.csv = optarg; break;
        case OPT_PLOT: o.plot = optarg; break;
        case OPT_FROM: o.from = optarg; break;
        case OPT_TESTS: parse_tests(optarg, o.test); o.tests_given = true; break;
        case OPT_SIZES: pw_parse_sizes(optarg, &o.sizes); o.sizes_given = true; break;
        case OPT_RANKS: o.ranks = (int)pw_parse_long("ranks", optarg, 1, 4096); break;
        case OPT_WINDOW_KIND: o.window_kind = (int)pw_parse_window_kind(optarg); break;
        case OPT_BUFFERS: parse_buffers_list(optarg, &o); break;
        case OPT_PEERS: parse_peers(optarg, &o); break;
        case OPT_SUBJECT:
            parse_transport("subject", optarg, strlen(optarg), &o.subject);
            break;
        case OPT_ROUNDS: o.rounds = (int)pw_parse_long("rounds", optarg, 1, 1000); break;
        case OPT_SECONDS: o.seconds = pw_parse_seconds("seconds", optarg); break;
        case OPT_BIND: o.bind = parse_bind(optarg); break;
        case OPT_HOSTS: parse_hosts(optarg, &o); break;
        case OPT_AGENT: o.agent = optarg; break;
        case OPT_OSU: o.osu = optarg; break;
        case OPT_LIMIT: o.limit = true; break;
        case OPT_TIMEOUT: o.timeout = pw_parse_seconds("timeout", optarg); break;
        case OPT_MPIRUN: o.mpirun = optarg; break;
        case OPT_MPICH: o.mpich_pwbench = *optarg ? optarg : NULL; break;
        }
    }
    if (o.from && measuring)
        refuse_with_from(options, measuring);
    if (o.from)
        return pw_compare_from(&o);
    compare_check(&o);
    return pw_compare_run(&o);
}
