/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_mpich.c - the tests alone, for the program that MPICH's compiler makes and
 * pwbench compare starts. It takes a TEST and its options as pwbench does. */
#include <string.h>

#include "pwbench_cli.h"

const char pw_help[] =
    "Usage: mpirun.mpich -n 2 pwbench-mpich TEST [OPTION]...\n"
    "\n"
    "pwbench built with MPICH: see pwbench --help.\n";

int main(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : "";
    int test = pw_test_find(word, strlen(word));

    if (!strcmp(word, "--help"))
        pw_print_help();
    if (!strcmp(word, "--version"))
        pw_print_version();
    if (test < 0)
        pw_usage_error("there is no test \"%s\"", word);
    return pw_single_main((enum pw_test)test, argc - 1, argv + 1);
}
