/* SPDX-License-Identifier: BSD-3-Clause */
/* plain.c - no cache and no hooks: what mmap and munmap cost by themselves. */
#include <stdio.h>

#include "driver.h"

static int plain_open(const struct driver_config *config, void **cache,
                      char note[DRIVER_NOTE_MAX])
{
    (void)config;
    *cache = NULL;
    snprintf(note, DRIVER_NOTE_MAX, "no cache, no hooks");
    return 0;
}

const struct driver driver = { .name = "plain", .open = plain_open };
