/* SPDX-License-Identifier: BSD-3-Clause */
/* ucx.c - UCX's ucs_rcache, as its transports use it: with the events of UCM.
 *
 * The interface is internal to UCX, and libucx-dev has its header; it changed after
 * 1.13. Built without that header, or started with another version, this program
 * says so and measures nothing.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <stdio.h>
#include <string.h>

#include "loops.h"

#if defined HAVE_UCX && __has_include(<ucs/memory/rcache.h>)
#include <ucp/api/ucp.h>
#include <ucp/api/ucp_version.h>
#if UCP_API_VERSION == UCP_VERSION(1, 13)
#define UCX_1_13 1
#endif
#endif

#ifdef UCX_1_13
#include <ucm/api/ucm.h>
#include <ucs/memory/rcache.h>
#include <ucs/type/status.h>

struct region {
    ucs_rcache_region_t super;
    uint64_t handle;
};

static ucs_status_t reg(void *context, ucs_rcache_t *rcache, void *arg,
                        ucs_rcache_region_t *r, uint16_t flags)
{
    struct region *region = (struct region *)r;

    (void)rcache;
    (void)arg;
    (void)flags;
    return pins_do(context, (void *)r->super.start, r->super.end - r->super.start,
                   &region->handle) ? UCS_ERR_NO_MEMORY : UCS_OK;
}

static void dereg(void *context, ucs_rcache_t *rcache, ucs_rcache_region_t *r)
{
    (void)rcache;
    pins_undo(context, ((struct region *)r)->handle);
}

static void dump(void *context, ucs_rcache_t *rcache, ucs_rcache_region_t *r, char *buf,
                 size_t max)
{
    (void)context;
    (void)rcache;
    snprintf(buf, max, "handle %lu", (unsigned long)((struct region *)r)->handle);
}

static const ucs_rcache_ops_t ops = {
    .mem_reg = reg, .mem_dereg = dereg, .dump_region = dump,
};

static int ucx_open(const struct driver_config *config, void **cache,
                    char note[DRIVER_NOTE_MAX])
{
    ucs_rcache_params_t params = {
        .region_struct_size = sizeof(struct region),
        .alignment = UCS_RCACHE_MIN_ALIGNMENT,
        .max_alignment = 4096,
        .ucm_events = UCM_EVENT_VM_UNMAPPED,
        .ucm_event_priority = 1000,
        .ops = &ops,
        .context = config->pins,
        .max_regions = ~0ul,
        .max_size = ~(size_t)0,
        .max_unreleased = ~(size_t)0,
    };
    unsigned major, minor, release;
    ucs_status_t status;

    ucp_get_version(&major, &minor, &release);
    if (major != 1 || minor != 13) {
        snprintf(note, DRIVER_NOTE_MAX, "the libucs that is installed is of UCX %u.%u, and "
                 "this was built for 1.13, whose ucs_rcache is another", major, minor);
        return DRIVER_ABSENT;
    }
    status = ucs_rcache_create(&params, "pwbench", NULL, (ucs_rcache_t **)cache);
    if (status != UCS_OK) {
        snprintf(note, DRIVER_NOTE_MAX, "ucs_rcache_create: %s", ucs_status_string(status));
        return DRIVER_FAILED;
    }
    snprintf(note, DRIVER_NOTE_MAX, "ucs_rcache of UCX %u.%u.%u", major, minor, release);
    return 0;
}

static inline HOT
int ucx_get(void *cache, void *addr, size_t len, void **region)
{
    return ucs_rcache_get(cache, addr, len, PROT_READ | PROT_WRITE, NULL,
                          (ucs_rcache_region_t **)region);
}

static inline HOT
void ucx_put(void *cache, void *region)
{
    ucs_rcache_region_put(cache, region);
}

#else /* no UCX 1.13 to build with */

static int ucx_open(const struct driver_config *config, void **cache,
                    char note[DRIVER_NOTE_MAX])
{
    (void)config;
    (void)cache;
    snprintf(note, DRIVER_NOTE_MAX, "pwbench was built without UCX 1.13 and its "
             "ucs/memory/rcache.h (Debian package libucx-dev)");
    return DRIVER_ABSENT;
}

static int ucx_get(void *cache, void *addr, size_t len, void **region)
{
    (void)cache;
    (void)addr;
    (void)len;
    (void)region;
    return -1;
}

static void ucx_put(void *cache, void *region)
{
    (void)cache;
    (void)region;
}
#endif

static size_t ucx_hits(void *cache, const struct driver_use *uses, size_t n)
{
    return loop_hits(ucx_get, ucx_put, cache, uses, n);
}

const struct driver driver = {
    .name = "ucx", .caches = true, .survives_unmap = true,
    .open = ucx_open, .get = ucx_get, .put = ucx_put, .hits = ucx_hits,
};
