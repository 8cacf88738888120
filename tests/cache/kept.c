/* SPDX-License-Identifier: BSD-3-Clause */
/* kept.c - what an oracle keeps of each thing that it has pinned. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/cache/kept.h"

#define KEPT_MAGIC 0x6b657074u

void give_up(const char *what)
{
    fprintf(stderr, "oracle: %s\n", what);
    abort();
}

struct kept kept_begin(pid_t owner, const void *addr, size_t len)
{
    return (struct kept){ KEPT_MAGIC, owner, (uintptr_t)addr, len };
}

void kept_check(const struct kept *k)
{
    if (k->magic != KEPT_MAGIC)
        give_up("a region was handed out that is not pinned");
}

void kept_end(struct kept *k, const void *addr, size_t len)
{
    if (!k || k->magic != KEPT_MAGIC || k->start != (uintptr_t)addr || k->len != len)
        give_up("something was unpinned that is not pinned");
    if (k->owner != getpid())
        give_up("a child unpinned what its parent had pinned");
    k->magic = 0;
}
