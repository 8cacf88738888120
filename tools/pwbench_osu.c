/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_osu.c - see pwbench_osu.h. */
#include "pwbench_osu.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* fadd and cas have none: OSU's are of a single byte. */
static const char *const programs[PW_TESTS] = {
    [PW_LATENCY] = "osu_latency", [PW_BW] = "osu_bw", [PW_BIBW] = "osu_bibw",
    [PW_RATE] = "osu_mbw_mr", [PW_PUT] = "osu_put_latency", [PW_GET] = "osu_get_latency",
    [PW_ALLTOALL] = "osu_alltoall", [PW_ALLREDUCE] = "osu_allreduce",
    [PW_BARRIER] = "osu_barrier", [PW_INIT] = "osu_init",
};

const char *pw_osu_name(enum pw_test test)
{
    return programs[test];
}

int pw_osu_test(const char *program)
{
    for (int t = 0; t < PW_TESTS; t++)
        if (programs[t] && !strcmp(programs[t], program))
            return t;
    return -1;
}

/* The first to be there and executable. */
char *pw_osu_find(const char *dir, enum pw_test test)
{
    static const char *const roots[] = { "", "c/mpi/", "mpi/",
                                         "libexec/osu-micro-benchmarks/mpi/" };
    static const char *const rooms[] = { "", "pt2pt/standard/", "pt2pt/", "one-sided/",
                                         "collective/blocking/", "collective/",
                                         "startup/" };

    for (size_t a = 0; programs[test] && a < sizeof roots / sizeof *roots; a++) {
        for (size_t b = 0; b < sizeof rooms / sizeof *rooms; b++) {
            char *path;

            if (asprintf(&path, "%s/%s%s%s", dir, roots[a], rooms[b], programs[test]) < 0)
                return NULL;
            if (access(path, X_OK) == 0)
                return path;
            free(path);
        }
    }
    return NULL;
}

static size_t smallest(const struct pw_sizes *sizes)
{
    size_t least = sizes->at[0];

    for (int i = 1; i < sizes->n; i++)
        if (sizes->at[i] < least)
            least = sizes->at[i];
    return least;
}

bool pw_osu_odd_size(const struct pw_sizes *sizes, size_t *odd)
{
    size_t least = smallest(sizes);

    for (int i = 0; i < sizes->n; i++) {
        size_t times = least ? sizes->at[i] / least : 0;

        *odd = sizes->at[i];
        if (!times || times & (times - 1) || times * least != *odd)
            return true;
    }
    return false;
}

/* "nprocs: 2, min: 227 ms, max: 412 ms, avg: 319 ms": the slowest rank, as ours. */
static bool parse_init(const char *out, double *value)
{
    const char *max = strstr(out, ", max: ");

    return max && sscanf(max, ", max: %lf ms", value) == 1;
}

/* A line with nothing but a number. */
static bool parse_barrier(const char *line, double *value)
{
    char more[2];

    return sscanf(line, "%lf %1s", value, more) == 1;
}

/* The rate is the third number. */
static bool parse_sized(enum pw_test test, const char *line, size_t *size, double *value)
{
    if (test != PW_RATE)
        return sscanf(line, "%zu %lf", size, value) == 2;
    if (sscanf(line, "%zu %*f %lf", size, value) != 2)
        return false;
    *value /= 1e6;
    return true;
}

static bool parse_line(enum pw_test test, const char *line, const struct pw_sizes *sizes,
                       double *values)
{
    size_t size = 0;
    double value;

    if (test == PW_BARRIER ? !parse_barrier(line, &value)
                           : !parse_sized(test, line, &size, &value))
        return false;
    for (int i = 0; i < sizes->n; i++)
        if (sizes->at[i] == size)
            values[i] = value;
    return true;
}

/* In a line of its own, behind blanks or not; '#' begins a heading. */
bool pw_osu_parse(enum pw_test test, const char *out, const struct pw_sizes *sizes,
                  double *values)
{
    char line[256];

    if (test == PW_INIT)
        return parse_init(out, values) && isfinite(values[0]) && values[0] >= 0;
    for (int i = 0; i < sizes->n; i++)
        values[i] = NAN;
    for (; *out; out += strcspn(out, "\n"), out += *out == '\n') {
        snprintf(line, sizeof line, "%.*s", (int)strcspn(out, "\n"), out);
        if (!line[strspn(line, " \t\r")] || *line == '#')
            continue;
        if (!parse_line(test, line, sizes, values))
            return false;
    }
    for (int i = 0; i < sizes->n; i++)
        if (!isfinite(values[i]) || values[i] < 0)
            return false;
    return true;
}
