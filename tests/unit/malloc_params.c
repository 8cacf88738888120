/* SPDX-License-Identifier: BSD-3-Clause */
/* malloc_params.c - what a user may set for libpinwheel-malloc. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "regcache/malloc_params.h"

static char said[512];
static int lines;

static void tell(const char *sentence)
{
    lines++;
    snprintf(said, sizeof said, "%s", sentence);
}

static struct pw_malloc_params params(void)
{
    struct pw_malloc_params p;

    lines = 0;
    pw_malloc_params_read(&p, tell);
    return p;
}

static void clean(void)
{
    static const char *const names[] = {
        "PINWHEEL_MALLOC_THRESHOLD", "PINWHEEL_MALLOC_SIZE", "PINWHEEL_MALLOC_RETAIN",
        "PINWHEEL_MALLOC_POPULATE", "PINWHEEL_MALLOC_VERBOSE", "PINWHEEL_MALLOC_FORK",
        "OMPI_MCA_btl_pinwheel_pool_size", "OMPI_MCA_btl_pinwheel_pool_pages",
        "OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS",
    };

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        unsetenv(names[i]);
}
TestSuite(malloc_params, .init = clean);

Test(malloc_params, defaults_hold_where_nothing_is_set)
{
    struct pw_malloc_params p = params();

    cr_expect(eq(int, lines, 0));
    cr_expect(eq(sz, p.threshold, 65536));
    cr_expect(eq(sz, p.pool.size, 0));
    cr_expect(eq(int, p.pool.pages, PW_PAGES_AUTO));
    cr_expect(eq(sz, p.heap.retain, SIZE_MAX));
    cr_expect(eq(sz, p.heap.populate, SIZE_MAX));
    cr_expect(eq(int, p.fork_copies, true));
    cr_expect(eq(int, p.verbose, false));
}

Test(malloc_params, what_is_set_holds)
{
    struct pw_malloc_params p;

    setenv("PINWHEEL_MALLOC_THRESHOLD", "128K", 1);
    setenv("PINWHEEL_MALLOC_SIZE", "2g", 1);
    setenv("PINWHEEL_MALLOC_RETAIN", "0", 1);
    setenv("PINWHEEL_MALLOC_POPULATE", "3m", 1);
    setenv("PINWHEEL_MALLOC_VERBOSE", "1", 1);
    setenv("PINWHEEL_MALLOC_FORK", "none", 1);
    setenv("OMPI_MCA_btl_pinwheel_pool_size", "16m", 1);
    setenv("OMPI_MCA_btl_pinwheel_pool_pages", "thp", 1);
    p = params();
    cr_expect(eq(int, lines, 0));
    cr_expect(eq(sz, p.threshold, (size_t)128 << 10));
    cr_expect(eq(sz, p.pool.size, (size_t)2 << 30), "ours comes first");
    cr_expect(eq(sz, p.heap.retain, 0));
    cr_expect(eq(sz, p.heap.populate, (size_t)3 << 20));
    cr_expect(eq(int, p.pool.pages, PW_PAGES_THP));
    setenv("OMPI_MCA_btl_pinwheel_pool_pages", "kdriver", 1);
    cr_expect(eq(int, params().pool.pages, PW_PAGES_KDRIVER));
    setenv("OMPI_MCA_btl_pinwheel_pool_pages", "1g", 1);
    cr_expect(eq(int, params().pool.pages, PW_PAGES_1G));
    cr_expect(eq(int, p.fork_copies, false));
    cr_expect(eq(int, p.verbose, true));
}

Test(malloc_params, a_bad_value_is_one_sentence_and_the_default_holds)
{
    static const char *const bad[] = { "x", "-5", "64kb", "4095", " 64k", "0x10000",
                                       "18446744073709551616" };

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        setenv("PINWHEEL_MALLOC_THRESHOLD", bad[i], 1);
        cr_expect(eq(sz, params().threshold, 65536), "%s", bad[i]);
        cr_expect(eq(int, lines, 1), "%s", bad[i]);
        cr_expect(strstr(said, bad[i]) && strstr(said, "PINWHEEL_MALLOC_THRESHOLD"));
    }
    setenv("PINWHEEL_MALLOC_VERBOSE", "2", 1);
    setenv("PINWHEEL_MALLOC_FORK", "yes", 1);
    params();
    cr_expect(eq(int, lines, 3));
}

/* Hugepages that somebody reserved are shared out by those who know how many they
 * are. */
Test(malloc_params, reserved_hugepages_are_for_ranks)
{
    cr_expect(eq(sz, params().pool.min_size, SIZE_MAX));
    cr_expect(eq(uint, params().pool.sharers, 0));
    setenv("OMPI_COMM_WORLD_LOCAL_SIZE", "4", 1);
    cr_expect(eq(uint, params().pool.sharers, 4));
    cr_expect(eq(sz, params().pool.min_size, (size_t)16 << 20));
    unsetenv("OMPI_COMM_WORLD_LOCAL_SIZE");
    setenv("MPI_LOCALNRANKS", "3", 1);
    cr_expect(eq(uint, params().pool.sharers, 3));
    setenv("MPI_LOCALNRANKS", "none", 1);
    cr_expect(eq(uint, params().pool.sharers, 0));
}

/* The transport says what is wrong with its own. */
Test(malloc_params, a_bad_value_of_the_transport_is_passed_over)
{
    setenv("OMPI_MCA_btl_pinwheel_pool_size", "big", 1);
    setenv("OMPI_MCA_btl_pinwheel_pool_pages", "big", 1);
    cr_expect(eq(sz, params().pool.size, 0));
    cr_expect(eq(int, params().pool.pages, PW_PAGES_AUTO));
    cr_expect(eq(int, lines, 0));
}
