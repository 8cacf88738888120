/* SPDX-License-Identifier: BSD-3-Clause */
/* nodes.c - on which NUMA nodes a pool's memory lies: asked of the kernel, page by page,
 * for people who look at where their memory is. Nothing else depends on it.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>

#include "bits.h"
#include "pool_inner.h"

/* Nodes beyond are not told of. */
enum { NODES = 64, AT_ONCE = 256 };

/* A list such as "0" or "0-1,3". */
static bool several_nodes(const struct pw_sys *sys)
{
    char list[256];

    return !sys->read_text("/sys/devices/system/node/online", list, sizeof list) &&
           strpbrk(list, "-,");
}

/* A bit for each node that has one of these pages. */
static uint64_t nodes_of(const struct pw_sys *sys, void **page, size_t n)
{
    int node[AT_ONCE];
    uint64_t found = 0;

    if (!n || sys->move_pages(0, n, page, NULL, node, 0))
        return 0;
    for (size_t i = 0; i < n; i++)
        if (node[i] >= 0 && node[i] < NODES)
            found |= (uint64_t)1 << node[i];
    return found;
}

static uint64_t nodes_of_pool(const struct pw_pool *pool)
{
    const struct pw_populate *p = &pool->populate;
    size_t n = 0, end = pool->seg.size >> p->shift;
    uint64_t found = 0;
    void *page[AT_ONCE];

    for (size_t at = pw_bits_find(p->done, 0, end, true); at < end;
         at = pw_bits_find(p->done, at + 1, end, true)) {
        page[n++] = pool->seg.base + (at << p->shift);
        if (n == AT_ONCE) {
            found |= nodes_of(p->sys, page, n);
            n = 0;
        }
    }
    return found | nodes_of(p->sys, page, n);
}

void pw_pool_nodes(struct pw_pool *pool, char *list, size_t room)
{
    uint64_t found = several_nodes(pool->populate.sys) ? nodes_of_pool(pool) : 0;
    size_t len = 0;

    list[0] = '\0';
    for (int i = 0; i < NODES && len < room; i++)
        if (found >> i & 1)
            len += (size_t)snprintf(list + len, room - len, "%s%d", len ? "," : "", i);
}
