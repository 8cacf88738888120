/* SPDX-License-Identifier: BSD-3-Clause */
/* pool_fake_sys.h - a kernel that refuses what a test asks it to refuse.
 *
 * Calls go to the real kernel unless told otherwise. Hugepages are pretended:
 * the flag is dropped, so that the path runs on machines without any; those of 1 GiB
 * are populated in words only, and take memory as they are touched. So is the
 * driver: its pools are memfds, which FILL and DRAIN fill and punch.
 */
#ifndef PW_POOL_FAKE_SYS_H
#define PW_POOL_FAKE_SYS_H

#include <stdint.h>

#include "regcache/sys.h"

enum fake_call {
    FAKE_MEMFD, FAKE_MEMFD_HUGE, FAKE_OPEN, FAKE_FTRUNCATE, FAKE_FALLOCATE, FAKE_SEALS,
    FAKE_MMAP, FAKE_POPULATE, FAKE_COLLAPSE, FAKE_DONTDUMP, FAKE_MOVE_PAGES,
    FAKE_DEVICE, FAKE_KD_INFO, FAKE_KD_POOL, FAKE_KD_FILL, FAKE_KD_DRAIN,
    FAKE_KD_POOL_INFO,
    FAKE_CALLS
};

#define FAKE_ALWAYS 0

struct fake_sys {
    int free_pages, resv_pages;     /* of 2 MiB; -1: no such file */
    int free_1g, resv_1g;
    int all_pages;                  /* of either size, in use or not */
    const char *free_text;          /* instead of free_pages, when not NULL */
    const char *nodes;              /* online; pages are on 3 and 5 in turn */
    uint64_t ram;
    rlim_t fsize, as;
    uint64_t pinnable, pinned;      /* bytes, by the driver; 0: there is none */
    unsigned version, services;     /* the driver's */
    long magic;                     /* of the file system that files are in; 0: as is */
    long block;                     /* its f_bsize; 0: as is */

    int calls[FAKE_CALLS];          /* made so far, refused ones included */
    unsigned memfd_flags;           /* of the last memfd_create */
    char opened[64];                /* path of the last open */
    int shared_flags;               /* of the last mmap with MAP_SHARED */
    uint64_t filled, drained;       /* bytes that the driver was asked for so far */
    int node;                       /* of the last FILL */
    int all;                        /* calls of any kind so far */
};

extern struct fake_sys fake;
extern const struct pw_sys fake_sys;

/* No refusals, no hugepages, no driver, 8 GiB of RAM, no limits. */
void fake_reset(void);

/* The nth call from now fails with err (> 0), or each one: FAKE_ALWAYS. */
void fake_fail(enum fake_call call, int nth, int err);

/* The nth call from now of whatever kind fails with err. */
void fake_fail_any(int nth, int err);

#endif
