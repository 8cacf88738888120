/* SPDX-License-Identifier: BSD-3-Clause */
/* pwinfo.c - what would pinwheel use on this machine, and why not the rest?
 *
 * A diagnosis, not a test: it exits 0 whatever it finds. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "pwinfo.h"
#include "pwinfo_peers.h"

static const char help[] =
    "Usage: pwinfo [--json] [--if-include LIST] [--if-exclude LIST] [--peers HOSTS]\n"
    "       pwinfo [--json] --live PID | --costs[=FILE]\n"
    "\n"
    "Prints what pinwheel would use on this machine, and why not the rest.\n"
    "\n"
    "  --json      print JSON\n"
    "  --peers HOSTS  instead, print the network interfaces, and how each of those hosts\n"
    "              would be reached and whether it answers; HOSTS: a host file as mpirun\n"
    "              takes it, or names with commas between them\n"
    "  --if-include LIST, --if-exclude LIST  as if a job had that for its parameters\n"
    "              btl_pinwheel_if_include, btl_pinwheel_if_exclude; without them, what\n"
    "              the environment sets\n"
    "  --live PID  instead, print what that process has counted so far\n"
    "  --costs     instead, print what moving bytes costs on this host and which way\n"
    "              messages go for it; =FILE: by what pwbench calibrate wrote there\n"
    "  --help      print this\n"
    "  --version   print the version\n";

struct options {
    bool json, costs;
    const char *costs_file, *include, *exclude, *peers;
    int live;
};

static struct pw_facts facts;

static int printed(int status)
{
    if (!fflush(stdout) && !ferror(stdout))
        return status;
    fprintf(stderr, "pwinfo: cannot write: %s\n", strerror(errno));
    return 1;
}

static int wrong(const char *what)
{
    fprintf(stderr, "pwinfo: %s; see pwinfo --help\n", what);
    return 2;
}

/* 0 when it is none. */
static int parse_pid(const char *text)
{
    char *end;
    long pid;

    errno = 0;
    pid = text ? strtol(text, &end, 10) : 0;
    return pid > 0 && pid <= INT_MAX && !*end && !errno ? (int)pid : 0;
}

/* An option with a value behind it, or after "=": 1; 0: it is not that option. */
static int valued(char ***argv, const char *name, const char **value)
{
    size_t n = strlen(name);
    char *arg = **argv;

    if (strncmp(arg, name, n) || (arg[n] && arg[n] != '='))
        return 0;
    *value = arg[n] ? arg + n + 1 : (*argv)[1];
    *argv += !arg[n] && *value;
    return 1;
}

/* -1: go on, else the exit status. */
static int parse(char **argv, struct options *o)
{
    const char *pid;

    for (argv++; *argv; argv++) {
        if (!strcmp(*argv, "--json")) {
            o->json = true;
        } else if (valued(&argv, "--live", &pid)) {
            o->live = parse_pid(pid);
            if (!o->live)
                return wrong("--live takes the number of a process");
        } else if (!strcmp(*argv, "--costs")) {
            o->costs = true;
        } else if (!strncmp(*argv, "--costs=", 8) && (*argv)[8]) {
            o->costs = true;
            o->costs_file = *argv + 8;
        } else if (valued(&argv, "--peers", &o->peers)) {
            if (!o->peers || !*o->peers)
                return wrong("--peers takes a host file, or names of hosts");
        } else if (valued(&argv, "--if-include", &o->include)) {
            if (!o->include)
                return wrong("--if-include takes names of interfaces, or addresses");
        } else if (valued(&argv, "--if-exclude", &o->exclude)) {
            if (!o->exclude)
                return wrong("--if-exclude takes names of interfaces, or addresses");
        } else if (!strcmp(*argv, "--help")) {
            fputs(help, stdout);
            return 0;
        } else if (!strcmp(*argv, "--version")) {
            puts("pwinfo (pinwheel) " PINWHEEL_VERSION);
            return 0;
        } else {
            fprintf(stderr, "pwinfo: there is no option \"%s\"; see pwinfo --help\n", *argv);
            return 2;
        }
    }
    return -1;
}

int main(int argc, char **argv)
{
    struct options o = { 0 };
    char why[PW_NIC_WHY_MAX];
    int status = argc ? parse(argv, &o) : 2;

    if (status >= 0)
        return status;
    if (o.costs)
        return printed(pw_costs_print(o.costs_file, o.json, stdout));
    if (o.live)
        return printed(pw_live_print(o.live, o.json, stdout));
    if (pw_facts_wish(&facts, o.include, o.exclude, why)) {
        fprintf(stderr, "pwinfo: %s\n", why);
        return 2;
    }
    if (o.peers)
        return printed(pw_peers_print(&facts, o.peers, o.json, stdout));
    pw_facts_gather(&facts);
    if (o.json)
        pw_facts_print_json(&facts, stdout);
    else
        pw_facts_print_text(&facts, stdout);
    return printed(0);
}
