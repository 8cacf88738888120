/* SPDX-License-Identifier: BSD-3-Clause */
/* calibrate.c - measures what moving bytes costs on this host, and keeps it.
 *
 *     calibrate [--output FILE] [--cpus A,B]
 *
 * Started by `pwbench calibrate`. Exit codes: 0 measured and kept; 1 it could not be
 * kept or measured, what was kept before is there still; 2 a wrong option; 3 this
 * process may use one CPU only, and two are needed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "calibrate.h"
#include "tools/cores.h"

enum { PAIRS_BUDGET_NS = 1500 * 1000 * 1000 };

struct options {
    const char *output;
    int a, b;
};

static int usable(int *cpus, int room)
{
    cpu_set_t set;
    int n = 0;

    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set))
        return 0;
    for (int i = 0; i < CPU_SETSIZE && n < room; i++)
        if (CPU_ISSET(i, &set))
            cpus[n++] = i;
    return n;
}

static bool among(const int *cpus, int n, int cpu)
{
    for (int i = 0; i < n; i++)
        if (cpus[i] == cpu)
            return true;
    return false;
}

/* Two cores; two threads of one core where there are no two. */
static int choose(struct options *o, const int *cpus, int n)
{
    if (o->a >= 0) {
        if (o->a != o->b && among(cpus, n, o->a) && among(cpus, n, o->b))
            return 0;
        fprintf(stderr,
                "pwbench calibrate: --cpus takes two different CPUs that this process "
                "may use, such as 0,1\n");
        return 2;
    }
    if (n < 2) {
        fprintf(stderr, "pwbench calibrate: this process may use one CPU only, and two are "
                "needed: start it without taskset, or in a container with two CPUs\n");
        return 3;
    }
    o->a = pw_core_at(0);
    o->b = pw_core_at(1);
    if (o->a < 0 || o->b < 0) {
        o->a = cpus[0];
        o->b = cpus[1];
    }
    return 0;
}

static void step(const char *what)
{
    printf("%s\n", what);
    fflush(stdout);
}

static int measure(const struct options *o, const int *cpus, int n,
                   struct pw_calibration *c)
{
    int err;

    step("  cache lines from core to core, wake-ups, mappings");
    err = calib_pairs(cpus, n, PAIRS_BUDGET_NS, c);
    if (!err)
        err = calib_wake(o->a, o->b, c);
    if (!err)
        err = calib_map(c);
    if (err)
        return err;
    step("  copies");
    err = calib_copies(o->a, o->b, c);
    if (err)
        return err;
    c->costs.past_extra = c->copy_none.ns[1] > c->copy_other.ns[1]
                          ? c->copy_none.ns[1] - c->copy_other.ns[1] : 0;
    step("  transfers between two processes");
    return calib_transfers(o->a, o->b, c);
}

static void print_size(size_t len)
{
    if (len < 1 << 20)
        printf("  %4zu KiB", len >> 10);
    else
        printf("  %4zu MiB", len >> 20);
}

static void print_us(uint64_t ns)
{
    if (ns)
        printf(" %9.2f", (double)ns / 1000);
    else
        printf(" %9s", "-");
}

static void print(const struct pw_calibration *c)
{
    printf("\n  one transfer, us%10s %9s %9s %9s\n", "", "", "", "");
    printf("  %8s %9s %9s %9s %9s\n", "size", "direct", "push", "stream", "kernel");
    for (int i = 0; i < PW_COST_POINTS; i++) {
        print_size(pw_cost_len(i));
        print_us(c->costs.direct.ns[i]);
        print_us(c->costs.push.ns[i]);
        print_us(c->costs.stream.ns[i]);
        print_us(c->costs.kernel.ns[i]);
        putchar('\n');
    }
    if (!c->costs.kernel.ns[0])
        printf("  the kernel's copy between processes is refused here\n");
}

static int keep(const char *path, const struct pw_calibration *c)
{
    char why[PW_CALIB_WHY];
    int err = pw_calib_write(path, c, why);

    if (err) {
        fprintf(stderr,
                "pwbench calibrate: cannot write %s: %s. --output FILE takes another "
                "place; jobs are told of it by btl_pinwheel_costs\n",
                path, why);
        return 1;
    }
    printf("\nkept in %s; pwinfo --costs prints all of it\n", path);
    return 0;
}

static int number(const char *text, const char **end)
{
    char *e;
    long n = strtol(text, &e, 10);

    *end = e;
    return e == text || n < 0 || n >= CPU_SETSIZE ? -1 : (int)n;
}

static int parse(int argc, char **argv, struct options *o)
{
    static const struct option options[] = {
        { "output", required_argument, NULL, 'o' },
        { "cpus", required_argument, NULL, 'c' },
        { NULL, 0, NULL, 0 },
    };
    const char *end;
    int c;

    opterr = 0;
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c == 'o') {
            o->output = optarg;
        } else if (c == 'c') {
            o->a = number(optarg, &end);
            o->b = *end == ',' ? number(end + 1, &end) : -1;
            if (o->a < 0 || *end)
                o->a = o->b = 0;
        } else {
            fprintf(stderr,
                    "pwbench calibrate: \"%s\" is not understood; there are --output "
                    "FILE and --cpus A,B\n",
                    argv[optind - 1]);
            return 2;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "pwbench calibrate: there is no argument \"%s\"\n", argv[optind]);
        return 2;
    }
    return 0;
}

int main(int argc, char **argv)
{
    static struct pw_calibration c;
    static int cpus[CPU_SETSIZE];
    struct options o = { .a = -1, .b = -1 };
    char path[PW_CALIB_PATH];
    int n = usable(cpus, CPU_SETSIZE), err = parse(argc, argv, &o);

    if (!err)
        err = choose(&o, cpus, n);
    if (err)
        return err;
    if (!o.output && pw_calib_path(path)) {
        fprintf(stderr,
                "pwbench calibrate: this user has no home directory to keep it in: use "
                "--output FILE\n");
        return 1;
    }
    pw_calib_identify(&c);
    pw_calib_stamp(&c);
    strcpy(c.by, PW_CALIB_BY_TOOL);
    printf("measuring %s, %s, on CPUs %d and %d; some 5 s, best on an idle machine\n",
           c.host, c.cpu, o.a, o.b);
    err = measure(&o, cpus, n, &c);
    if (err) {
        fprintf(stderr, "pwbench calibrate: %s\n", calib_why);
        return 1;
    }
    print(&c);
    return keep(o.output ? o.output : path, &c);
}
