/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_names.c - what tests, buffers and windows are called. No MPI here: the
 * table and the command line need it without. */
#include <string.h>

#include "pwbench.h"

const struct pw_test_info pw_test_info[PW_TESTS] = {
    [PW_LATENCY] = { "latency", "MPI Latency", "Latency (us)", "us", false, false },
    [PW_BW] = { "bw", "MPI Bandwidth", "Bandwidth (MB/s)", "MB/s", false, true },
    [PW_BIBW] = { "bibw", "MPI Bi-Directional Bandwidth", "Bandwidth (MB/s)", "MB/s",
                  false, true },
    [PW_PUT] = { "put", "MPI_Put Latency", "Latency (us)", "us", true, false },
    [PW_GET] = { "get", "MPI_Get Latency", "Latency (us)", "us", true, false },
};

const char *const pw_buffers_name[PW_BUFFERS] = { "malloc", "alloc_mem" };
const char *const pw_window_kind_name[PW_WINDOW_KINDS] = { "create", "allocate", "dynamic" };

int pw_test_find(const char *name, size_t len)
{
    for (int t = 0; t < PW_TESTS; t++)
        if (strlen(pw_test_info[t].name) == len && !strncmp(pw_test_info[t].name, name, len))
            return t;
    return -1;
}
