/* SPDX-License-Identifier: BSD-3-Clause */
/* pwinfo.c - what would pinwheel use on this machine, and why not the rest?
 *
 * A diagnosis, not a test: it exits 0 whatever it finds. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "pwinfo.h"

static const char help[] =
    "Usage: pwinfo [--json] [--live PID | --costs[=FILE]]\n"
    "\n"
    "Prints what pinwheel would use on this machine, and why not the rest.\n"
    "\n"
    "  --json      print JSON\n"
    "  --live PID  instead, print what that process has counted so far\n"
    "  --costs     instead, print what moving bytes costs on this host and which way\n"
    "              messages go for it; =FILE: by what pwbench calibrate wrote there\n"
    "  --help      print this\n"
    "  --version   print the version\n";

static int printed(int status)
{
    if (!fflush(stdout) && !ferror(stdout))
        return status;
    fprintf(stderr, "pwinfo: cannot write: %s\n", strerror(errno));
    return 1;
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

int main(int argc, char **argv)
{
    struct pw_facts facts;
    bool json = false, costs = false;
    const char *file = NULL;
    int live = 0;

    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--json")) {
            json = true;
        } else if (!strcmp(argv[i], "--live")) {
            live = parse_pid(argv[++i]);
            if (!live) {
                fputs("pwinfo: --live takes the number of a process; see pwinfo --help\n",
                      stderr);
                return 2;
            }
        } else if (!strcmp(argv[i], "--costs")) {
            costs = true;
        } else if (!strncmp(argv[i], "--costs=", 8) && argv[i][8]) {
            costs = true;
            file = argv[i] + 8;
        } else if (!strcmp(argv[i], "--help")) {
            fputs(help, stdout);
            return 0;
        } else if (!strcmp(argv[i], "--version")) {
            puts("pwinfo (pinwheel) " PINWHEEL_VERSION);
            return 0;
        } else {
            fprintf(stderr, "pwinfo: there is no option \"%s\"; see pwinfo --help\n",
                    argv[i]);
            return 2;
        }
    }

    if (costs)
        return printed(pw_costs_print(file, json, stdout));
    if (live)
        return printed(pw_live_print(live, json, stdout));
    pw_facts_gather(&facts);
    if (json)
        pw_facts_print_json(&facts, stdout);
    else
        pw_facts_print_text(&facts, stdout);
    return printed(0);
}
