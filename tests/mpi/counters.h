/* SPDX-License-Identifier: BSD-3-Clause */
/* counters.h - a transport's counters by name, as any tool reads them: MPI_T. */
#ifndef TESTS_MPI_COUNTERS_H
#define TESTS_MPI_COUNTERS_H

#include <mpi.h>

/* How many performance variables begin with prefix. */
int counters_named(const char *prefix);

/* The value now; a failure of the story, and 0, when there is no such counter. */
unsigned long long counter(const char *name);

#endif
