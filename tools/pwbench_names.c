/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_names.c - what tests, buffers and windows are called. No MPI here: the
 * table and the command line need it without. */
#include <string.h>

#include "pwbench.h"

#define LATENCY "Latency (us)"
#define BANDWIDTH "Bandwidth (MB/s)"

const struct pw_test_info pw_test_info[PW_TESTS] = {
    [PW_LATENCY] = { .name = "latency", .title = "MPI Latency", .column = LATENCY,
                     .unit = "us", .buffers = true },
    [PW_BW] = { .name = "bw", .title = "MPI Bandwidth", .column = BANDWIDTH,
                .unit = "MB/s", .rate = true, .windowed = true, .buffers = true },
    [PW_BIBW] = { .name = "bibw", .title = "MPI Bi-Directional Bandwidth",
                  .column = BANDWIDTH, .unit = "MB/s", .rate = true, .windowed = true,
                  .buffers = true },
    [PW_RATE] = { .name = "rate", .title = "MPI Message Rate", .column = "Rate (M/s)",
                  .unit = "M/s", .rate = true, .windowed = true, .buffers = true,
                  .one_size = true, .size = 8 },
    [PW_OVERLAP] = { .name = "overlap", .title = "MPI Exchange during Compute",
                     .column = "Total (us)", .unit = "us", .buffers = true },
    [PW_PUT] = { .name = "put", .title = "MPI_Put Latency", .column = LATENCY,
                 .unit = "us", .kind = PW_ONE_SIDED, .buffers = true },
    [PW_GET] = { .name = "get", .title = "MPI_Get Latency", .column = LATENCY,
                 .unit = "us", .kind = PW_ONE_SIDED, .buffers = true },
    [PW_FADD] = { .name = "fadd", .title = "MPI_Fetch_and_op Latency", .column = LATENCY,
                  .unit = "us", .kind = PW_ONE_SIDED, .buffers = true,
                  .one_size = true, .size = 8 },
    [PW_CAS] = { .name = "cas", .title = "MPI_Compare_and_swap Latency", .column = LATENCY,
                 .unit = "us", .kind = PW_ONE_SIDED, .buffers = true,
                 .one_size = true, .size = 8 },
    [PW_ALLTOALL] = { .name = "alltoall", .title = "MPI_Alltoall Latency",
                      .column = LATENCY, .unit = "us", .kind = PW_COLLECTIVE,
                      .buffers = true },
    [PW_ALLREDUCE] = { .name = "allreduce", .title = "MPI_Allreduce Latency",
                       .column = LATENCY, .unit = "us", .kind = PW_COLLECTIVE,
                       .buffers = true },
    [PW_BARRIER] = { .name = "barrier", .title = "MPI_Barrier Latency", .column = LATENCY,
                     .unit = "us", .kind = PW_COLLECTIVE, .one_size = true },
    [PW_INIT] = { .name = "init", .title = "MPI_Init and MPI_Finalize",
                  .column = "Time (ms)", .unit = "ms", .kind = PW_STARTUP,
                  .one_size = true },
};

const char *const pw_buffers_name[PW_BUFFERS] = { "malloc", "alloc_mem" };
const char *const pw_window_kind_name[PW_WINDOW_KINDS] = { "create", "allocate",
                                                           "dynamic" };

int pw_test_find(const char *name, size_t len)
{
    for (int t = 0; t < PW_TESTS; t++)
        if (strlen(pw_test_info[t].name) == len &&
            !strncmp(pw_test_info[t].name, name, len))
            return t;
    return -1;
}

bool pw_test_has_limit(enum pw_test test)
{
    return test == PW_LATENCY || test == PW_BW || test == PW_BIBW || test == PW_RATE;
}

const char *pw_test_buffers(enum pw_test test, enum pw_buffers buffers)
{
    return pw_test_info[test].buffers ? pw_buffers_name[buffers] : "-";
}
