/* SPDX-License-Identifier: BSD-3-Clause */
/* pwinfo.c - what would pinwheel use on this machine, and why not the rest?
 *
 * A diagnosis, not a test: it exits 0 whatever it finds. */
#include <errno.h>
#include <string.h>

#include "pwinfo.h"

static const char help[] =
    "Usage: pwinfo [--json]\n"
    "\n"
    "Prints what pinwheel would use on this machine, and why not the rest.\n"
    "\n"
    "  --json     print JSON\n"
    "  --help     print this\n"
    "  --version  print the version\n";

int main(int argc, char **argv)
{
    struct pw_facts facts;
    bool json = false;

    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--json")) {
            json = true;
        } else if (!strcmp(argv[i], "--help")) {
            fputs(help, stdout);
            return 0;
        } else if (!strcmp(argv[i], "--version")) {
            puts("pwinfo (pinwheel) " PINWHEEL_VERSION);
            return 0;
        } else {
            fprintf(stderr, "pwinfo: there is no option \"%s\"; see pwinfo --help\n", argv[i]);
            return 2;
        }
    }

    pw_facts_gather(&facts);
    if (json)
        pw_facts_print_json(&facts, stdout);
    else
        pw_facts_print_text(&facts, stdout);
    if (fflush(stdout) || ferror(stdout)) {
        fprintf(stderr, "pwinfo: cannot write: %s\n", strerror(errno));
        return 1;
    }
    return 0;
}
