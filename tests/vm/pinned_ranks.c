/* SPDX-License-Identifier: BSD-3-Clause */
/* pinned_ranks.c - an MPI job whose MPI_Alloc_mem is served by a pool of the driver's, or
 * of reserved pages of 1 GiB.
 *
 *     mpirun -n 2 pinned_ranks KIND
 *
 * KIND tells what the pool should be made of: kdriver, 1g, or thp for pages that are
 * neither.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/mpi/counters.h"
#include "tests/mpi/story.h"

static const size_t MiB = (size_t)1 << 20;

/* 0 where there is no driver. */
static long driver_counter(const char *name)
{
    char path[128];
    long n = 0;
    FILE *f;

    snprintf(path, sizeof path, "/sys/class/misc/pinwheel/counters/%s", name);
    f = fopen(path, "r");
    if (f && fscanf(f, "%ld", &n) != 1)
        n = -1;
    if (f)
        fclose(f);
    return n;
}

/* Is [p, p + len) in a mapping of the driver's? */
static int in_driver(const char *p, size_t len)
{
    FILE *f = fopen("/proc/self/maps", "r");
    unsigned long start, end;
    char line[512];
    int found = 0;

    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "%lx-%lx", &start, &end) == 2 && start <= (unsigned long)p &&
            (unsigned long)p + len <= end)
            found = strstr(line, "pinwheel-pool") && !strstr(line, "memfd:");
    if (f)
        fclose(f);
    return found;
}

/* KiB of a page of the mapping that p is in. */
static long page_of(const char *p)
{
    FILE *f = fopen("/proc/self/smaps", "r");
    unsigned long start, end;
    char line[512];
    long kib = 0;
    int here = 0;

    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
            here = start <= (unsigned long)p && (unsigned long)p < end;
        if (here && sscanf(line, "KernelPageSize: %ld", &kib) == 1)
            break;
    }
    if (f)
        fclose(f);
    return kib;
}

static void messages(char *out, char *in, size_t len)
{
    int peer = rank ^ 1;

    fill(out, len, mix(len, (uint64_t)rank));
    memset(in, 0, len);
    MPI_Sendrecv(out, (int)len, MPI_CHAR, peer, 0, in, (int)len, MPI_CHAR, peer, 0,
                 MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    same(in, len, mix(len, (uint64_t)peer), "%zu bytes", len);
}

static void window(char *out, char *in, size_t len)
{
    int peer = rank ^ 1;
    MPI_Win win;

    fill(out, len, mix(len, (uint64_t)rank + 2));
    memset(in, 0, len);
    MPI_Win_create(in, (MPI_Aint)len, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &win);
    MPI_Win_fence(0, win);
    MPI_Put(out, (int)len, MPI_CHAR, peer, 0, (int)len, MPI_CHAR, win);
    MPI_Win_fence(0, win);
    same(in, len, mix(len, (uint64_t)peer + 2), "%zu bytes put", len);
    MPI_Win_free(&win);
}

int main(int argc, char **argv)
{
    int none = 1, driver = argc == 2 && !strcmp(argv[1], "kdriver");
    int gigantic = argc == 2 && !strcmp(argv[1], "1g");
    size_t len = 24 * MiB;
    unsigned long long direct;
    char *out, *in;

    if (argc != 2)
        return 2;
    story_open(&none, &argv, MPI_THREAD_SINGLE, 120);
    out = mem_get(MEM_POOL, len);
    in = mem_get(MEM_POOL, len);
    story("what the pool is made of");
    expect(in_driver(out, len) == driver, "MPI_Alloc_mem gave other memory");
    expect(in_driver(in, len) == driver, "MPI_Alloc_mem gave other memory");
    expect((page_of(out) == 1 << 20) == gigantic, "pages of %ld KiB", page_of(out));
    MPI_Barrier(MPI_COMM_WORLD);
    expect(driver_counter("pools") == (driver ? size : 0), "%ld pools", driver_counter("pools"));
    expect(driver_counter("pool_pages") >= (driver ? (long)(2 * len / 4096) * size : 0),
           "%ld pages", driver_counter("pool_pages"));
    expect(driver || driver_counter("pool_pages") == 0, "%ld pages", driver_counter("pool_pages"));
    MPI_Barrier(MPI_COMM_WORLD);

    story("bytes");
    direct = counter("btl_pinwheel_direct_bytes");
    for (size_t n = 1; n <= 16 * MiB; n *= 16)
        messages(out, in, n);
    direct = counter("btl_pinwheel_direct_bytes") - direct;
    expect(direct >= 16 * MiB, "%llu bytes were copied once", direct);
    window(out, in, 8 * MiB);
    mem_put(MEM_POOL, in);
    mem_put(MEM_POOL, out);
    return story_close();
}
