/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench.c - the command line of pwbench: measure a transport, or compare some.
 *
 * A single test (pwbench latency) is an MPI program; compare is an
 * ordinary program that starts such jobs, and regcache one that starts programs
 * without MPI. Options are all checked here, before anything is run.
 */
#include <string.h>

#include "matrix/matrix.h"
#include "pwbench_cli.h"

const char pw_help[] =
    "Usage: mpirun -n 2 pwbench TEST [OPTION]...\n"
    "       pwbench compare [OPTION]...\n"
    "       pwbench regcache [OPTION]...\n"
    "       pwbench matrix [OPTION]...\n"
    "       pwbench limit TEST [OPTION]...\n"
    "       pwbench calibrate [OPTION]...\n"
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
    "  --require LIST       fail where MPI has no control variables of these names\n"
    "\n"
    "pwbench compare is run without mpirun; it starts mpirun itself. Its options:\n"
    "  --csv FILE           write the results to FILE too\n"
    "  --plot FILE.svg      draw them too, with gnuplot: over the sizes, a panel for each\n"
    "                       test and kind of buffers, a line for each transport\n"
    "  --from FILE.csv      measure nothing: print, and with --plot draw, what an earlier\n"
    "                       run left by --csv; takes --tests and --buffers besides\n"
    "  --tests LIST         some of the tests above (latency,bw,bibw,put,get)\n"
    "  --sizes LIST         (8,1K,4K,16K,64K,256K,1M,4M; alltoall, allreduce: 8,64K)\n"
    "  --buffers LIST       malloc, alloc_mem or both (both; one-sided: alloc_mem;\n"
    "                       rate, alltoall, allreduce: malloc)\n"
    "  --ranks N            so many ranks; in pairs where a test is of two (2;\n"
    "                       alltoall, allreduce, barrier: 8)\n"
    "  --peers LIST         some of vader,ucx,tcp,ofi,ofi-net,ofi-verbs,sm,osc-rdma,\n"
    "                       osc-ucx,osc-tcp,mpich,pinwheel\n"
    "                       (vader,ucx,tcp; one-sided: sm,osc-rdma,osc-ucx; and mpich\n"
    "                       where it was found); with parameters of its btl set, say\n"
    "                       pinwheel:trust=copy:chunk=32768\n"
    "  --subject NAME       what the peers are compared with (pinwheel)\n"
    "  --window-kind KIND   the same window for all but sm (by transport)\n"
    "  --rounds N           medians are over N rounds (5)\n"
    "  --seconds S          about so long for each size in each round (0.1)\n"
    "  --bind HOW           core: each rank on a core of its own; rank: the same where\n"
    "                       hosts are one machine; none (core where there are enough)\n"
    "  --hosts LIST         between these hosts, as many ranks on each; peers: tcp,ucx,ofi,\n"
    "                       ofi-net; one-sided: osc-ucx,osc-tcp\n"
    "  --agent COMMAND      mpirun's way to them, instead of ssh\n"
    "  --osu DIR            instead of the tests above run the programs of the OSU\n"
    "                       micro-benchmarks 7.x that were built in DIR, where there is one\n"
    "  --limit              latency, bw, bibw, rate: also what the machine itself needs,\n"
    "                       without MPI, and the subject's ratio to that\n"
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
    "  --monitor NAME       of pinwheel's cache: auto, kdriver, hooks, uffd or\n"
    "                       none (hooks)\n"
    "  --timeout S          end a program that takes longer for a point (60)\n"
    "  --drivers DIR        take the programs that use the caches from DIR\n"
    "\n"
    "pwbench limit measures what the machine itself needs for the messages of latency, bw,\n"
    "bibw or rate, between two processes without MPI. Its options are those of a TEST from\n"
    "--sizes to --window, --check, and\n"
    "  --cores A,B          the hardware threads on which they run (the first two)\n"
    "\n"
    "pwbench matrix measures every pair of cores without MPI; see pwbench matrix --help.\n"
    "pwbench calibrate measures what moving bytes costs on this host, for pinwheel's jobs;\n"
    "see pwbench calibrate --help.\n"
    "\n"
    "  --help               print this\n"
    "  --version            print the version\n";

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

    while ((c = pw_next_option(argc, argv, options)) != -1) {
        switch (c) {
        case OPT_CSV: o.csv = true; break;
        case OPT_ROUNDS: o.rounds = (int)pw_parse_long("rounds", optarg, 1, 1000); break;
        case OPT_SECONDS: o.seconds = pw_parse_seconds("seconds", optarg); break;
        case OPT_QUICK: quick = true; break;
        case OPT_MONITOR: o.monitor = optarg; break;
        case OPT_TIMEOUT: o.timeout = pw_parse_seconds("timeout", optarg); break;
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
    { "compare", pw_compare_main },
    { "regcache", main_regcache },
    { "matrix", pw_matrix_main },
    { "calibrate", pw_calibrate_main },
    { "limit", pw_limit_main },
};
enum { COMMANDS = sizeof commands / sizeof *commands };

int main(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : "";
    int test = pw_test_find(word, strlen(word));

    if (!strcmp(word, "--help"))
        pw_print_help();
    if (!strcmp(word, "--version"))
        pw_print_version();
    if (!*word)
        pw_usage_error("say what to measure");
    if (test >= 0)
        return pw_single_main((enum pw_test)test, argc - 1, argv + 1);
    for (int i = 0; i < COMMANDS; i++)
        if (!strcmp(commands[i].name, word))
            return commands[i].run(argc - 1, argv + 1);
    pw_usage_error("there is no test \"%s\"", word);
}
