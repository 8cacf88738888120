/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_calibrate.c - finds and becomes the program that measures this host: it uses
 * pinwheel's own parts, of which pwbench knows nothing. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "pwbench.h"

static const char help[] =
    "Usage: pwbench calibrate [--output FILE] [--cpus A,B]\n"
    "\n"
    "Measures what moving bytes costs on this host, in some 5 s, and keeps it for the\n"
    "jobs of this user (btl_pinwheel_costs); pwinfo --costs prints it. Best on an idle\n"
    "machine.\n"
    "\n"
    "  --output FILE  keep it there ($XDG_CACHE_HOME or ~/.cache, pinwheel/costs-HOST)\n"
    "  --cpus A,B     between these two CPUs (the first of two cores)\n"
    "  --help         print this\n";

/* In a build tree this program is tools/pwbench, or tools/.libs/pwbench under libtool,
 * and the other tools/calibrate/calibrate; else where make install puts it. */
static void find(char path[PATH_MAX])
{
    char self[PATH_MAX - 32], *slash;
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);

    self[len < 0 ? 0 : len] = '\0';
    for (int up = 0; up < 2 && (slash = strrchr(self, '/')) != NULL; up++) {
        *slash = '\0';
        snprintf(path, PATH_MAX, "%s/calibrate/calibrate", self);
        if (access(path, X_OK) == 0)
            return;
    }
    snprintf(path, PATH_MAX, "%s/calibrate", PW_DRIVERS);
}

int pw_calibrate_main(int argc, char **argv)
{
    char path[PATH_MAX];

    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--help")) {
            fputs(help, stdout);
            return 0;
        }
    find(path);
    fflush(stdout);
    execv(path, argv);
    fprintf(stderr, "pwbench calibrate: cannot start %s: %s; is pinwheel installed as a "
            "whole?\n", path, strerror(errno));
    return 1;
}
