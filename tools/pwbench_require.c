/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_require.c - has this MPI the parameters that were set? Open MPI takes no notice
 * of a parameter that nobody has: what is misspelt would be measured as if it were set. */
#include <mpi.h>
#include <stdio.h>

#include "pwbench_tests.h"

bool pw_require(const struct pw_single_options *o, int rank)
{
    bool found = true;
    int level, at;

    if (!o->n_require)
        return true;
    MPI_T_init_thread(MPI_THREAD_SINGLE, &level);
    for (int i = 0; i < o->n_require; i++) {
        if (MPI_T_cvar_get_index(o->require[i], &at) == MPI_SUCCESS)
            continue;
        if (rank == 0)
            fprintf(stderr, "pwbench: there is no parameter %s\n", o->require[i]);
        found = false;
    }
    MPI_T_finalize();
    return found;
}
