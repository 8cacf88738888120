/* SPDX-License-Identifier: BSD-3-Clause */
/* malloc_params.c - what a user may set for libpinwheel-malloc, by environment.
 *
 * The pool is the transport's as well, so what is set for that one's
 * (btl_pinwheel_pool_size, btl_pinwheel_pool_pages) holds here too: mpirun hands
 * the parameters of its command line to the ranks as OMPI_MCA_ variables. What is
 * wrong with those the transport will say.
 */
#define _GNU_SOURCE
#include "malloc_params.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "number.h"

/* A pair of malloc and free costs 55 to 100 ns here and 20 to 35 in the C library
 * (400 to 700 when two threads do nothing else), a message of 64 KiB 1.9 us instead
 * of 6.7. Smaller blocks are more often not messages. Fewer bytes than a page make
 * no sense. Linux 6.18, 2-core EPYC virtual machine. */
static const size_t threshold_default = 64 << 10, threshold_least = 4096;

static void number(const char *name, size_t least, size_t *out, void (*tell)(const char *))
{
    const char *text = getenv(name);
    size_t value;
    char line[256];

    if (!text || !*text)
        return;
    if (!pw_number_parse(text, &value) && value >= least) {
        *out = value;
        return;
    }
    snprintf(line, sizeof line, "%s=%.80s: must be a number of bytes from %zu on (k, m and "
             "g may follow); the default holds", name, text, least);
    tell(line);
}

/* One of two words. */
static void choice(const char *name, const char *no, const char *yes, bool *out,
                   void (*tell)(const char *))
{
    const char *text = getenv(name);
    char line[256];

    if (!text || !*text)
        return;
    if (!strcmp(text, yes) || !strcmp(text, no)) {
        *out = !strcmp(text, yes);
        return;
    }
    snprintf(line, sizeof line, "%s=%.80s: must be %s or %s; the default holds", name, text,
             no, yes);
    tell(line);
}

/* How many processes of this host will open a pool too, as the launcher says: Open
 * MPI's, Hydra's. 0: it does not. */
static unsigned sharers(void)
{
    static const char *const names[] = { "OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS" };
    size_t n;

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *text = getenv(names[i]);

        if (text && !pw_number_parse(text, &n) && n > 0 && n < 1 << 20)
            return (unsigned)n;
    }
    return 0;
}

static enum pw_pages pages(void)
{
    const char *text = getenv("OMPI_MCA_btl_pinwheel_pool_pages");

    if (text && !strcmp(text, "kdriver"))
        return PW_PAGES_KDRIVER;
    if (text && !strcmp(text, "2m"))
        return PW_PAGES_2M;
    if (text && !strcmp(text, "1g"))
        return PW_PAGES_1G;
    if (text && !strcmp(text, "thp"))
        return PW_PAGES_THP;
    if (text && !strcmp(text, "4k"))
        return PW_PAGES_4K;
    return PW_PAGES_AUTO;
}

/* Reserved hugepages are for those who share them out: a shell that came first
 * would take them all. */
static void pool_config(struct pw_pool_config *out)
{
    const char *size = getenv("OMPI_MCA_btl_pinwheel_pool_size");

    *out = (struct pw_pool_config){ .pages = pages(), .sharers = sharers(),
                                    .min_size = PW_POOL_SHARE_LEAST };
    if (!out->sharers)
        out->min_size = SIZE_MAX;
    if (size && pw_number_parse(size, &out->size))
        out->size = 0;
}

void pw_malloc_params_read(struct pw_malloc_params *out, void (*tell)(const char *))
{
    *out = (struct pw_malloc_params){
        .threshold = threshold_default, .fork_copies = true,
        .heap = { .retain = SIZE_MAX, .populate = SIZE_MAX },
    };
    pool_config(&out->pool);
    number("PINWHEEL_MALLOC_THRESHOLD", threshold_least, &out->threshold, tell);
    number("PINWHEEL_MALLOC_SIZE", (size_t)16 << 20, &out->pool.size, tell);
    number("PINWHEEL_MALLOC_RETAIN", 0, &out->heap.retain, tell);
    number("PINWHEEL_MALLOC_POPULATE", 0, &out->heap.populate, tell);
    choice("PINWHEEL_MALLOC_VERBOSE", "0", "1", &out->verbose, tell);
    choice("PINWHEEL_MALLOC_FORK", "none", "copy", &out->fork_copies, tell);
}
