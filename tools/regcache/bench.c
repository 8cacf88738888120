/* SPDX-License-Identifier: BSD-3-Clause */
/* bench.c - what all patterns need: time, medians, the end. See bench.h. */
#include "bench.h"

#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../cores.h"

void bench_stop(int code, const char *format, ...)
{
    va_list args;

    fprintf(stderr, "%s: ", driver.name);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    fflush(stderr);
    _exit(code);
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double bench_median(double *values, int n)
{
    qsort(values, (size_t)n, sizeof *values, compare_doubles);
    return (values[n / 2] + values[(n - 1) / 2]) / 2;
}

void bench_stay_on_core(int index)
{
    int cpu = pw_core_at(index);
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu < 0 ? 0 : cpu, &set);
    if (cpu < 0 || sched_setaffinity(0, sizeof set, &set))
        bench_stop(DRIVER_ABSENT,
                   "%d threads need as many cores, and core %d is not to be had", index + 1,
                   index);
}

void *bench_reserve(size_t bytes, int flags)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);

    if (p == MAP_FAILED)
        bench_stop(DRIVER_ABSENT, "no %zu MiB of addresses: %s", bytes >> 20,
                   strerror(errno));
    return p;
}
