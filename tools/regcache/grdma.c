/* SPDX-License-Identifier: BSD-3-Clause */
/* grdma.c - Open MPI's registration cache, as its BTLs use it: with leave_pinned
 * and its memory hooks.
 *
 * The one tool that includes headers of Open MPI's inside; there is no other way to
 * reach that cache. It is compiled for the Open MPI that pinwheel is built for.
 */
#include "opal_config.h"

#include <stdio.h>
#include <string.h>

#include "opal/constants.h"
#include "opal/mca/base/mca_base_framework.h"
#include "opal/mca/memory/base/base.h"
#include "opal/mca/rcache/base/base.h"
#include "opal/mca/rcache/rcache.h"
#include "opal/memoryhooks/memory.h"
#include "opal/runtime/opal.h"
#include "opal/runtime/opal_params.h"
#include "opal/threads/thread_usage.h"
#include "opal/version.h"

#include "loops.h"

struct registration {
    mca_rcache_base_registration_t super;
    uint64_t handle;
};

static int reg(void *ctx, void *base, size_t size, mca_rcache_base_registration_t *r)
{
    return pins_do(ctx, base, size, &((struct registration *)r)->handle)
           ? OPAL_ERR_OUT_OF_RESOURCE : OPAL_SUCCESS;
}

static int dereg(void *ctx, mca_rcache_base_registration_t *r)
{
    pins_undo(ctx, ((struct registration *)r)->handle);
    return OPAL_SUCCESS;
}

/* Hooks first: without them Open MPI makes a cache that holds on to nothing. */
static bool hooks_on(void)
{
    int want = OPAL_MEMORY_FREE_SUPPORT | OPAL_MEMORY_MUNMAP_SUPPORT;

    if (mca_base_framework_open(&opal_memory_base_framework, 0) != OPAL_SUCCESS)
        return false;
    return (opal_mem_hooks_support_level() & want) == want;
}

static int grdma_open(const struct driver_config *config, void **cache,
                      char note[DRIVER_NOTE_MAX])
{
    static char cache_name[] = "pwbench";
    mca_rcache_base_resources_t resources = {
        .cache_name = cache_name, .reg_data = config->pins,
        .sizeof_reg = sizeof(struct registration),
        .register_mem = reg, .deregister_mem = dereg,
    };

    if (opal_init(NULL, NULL) != OPAL_SUCCESS) {
        snprintf(note, DRIVER_NOTE_MAX, "opal_init failed");
        return DRIVER_ABSENT;
    }
    if (!hooks_on()) {
        snprintf(note, DRIVER_NOTE_MAX, "this Open MPI has no memory hooks, and caches "
                 "nothing without");
        return DRIVER_ABSENT;
    }
    opal_leave_pinned = 1;
    opal_set_using_threads(config->threads > 1);
    if (mca_base_framework_open(&opal_rcache_base_framework, 0) != OPAL_SUCCESS ||
        !(*cache = mca_rcache_base_module_create("grdma", &opal_leave_pinned,
                                                 &resources))) {
        snprintf(note, DRIVER_NOTE_MAX, "this Open MPI has no rcache component grdma");
        return DRIVER_ABSENT;
    }
    snprintf(note, DRIVER_NOTE_MAX, "grdma of Open MPI %s", opal_version_string);
    return 0;
}

static inline HOT
int grdma_get(void *cache, void *addr, size_t len, void **region)
{
    mca_rcache_base_module_t *rcache = cache;

    return rcache->rcache_register(rcache, addr, len, 0, MCA_RCACHE_ACCESS_ANY,
                                   (mca_rcache_base_registration_t **)region);
}

static inline HOT
void grdma_put(void *cache, void *region)
{
    mca_rcache_base_module_t *rcache = cache;

    rcache->rcache_deregister(rcache, region);
}

static size_t grdma_hits(void *cache, const struct driver_use *uses, size_t n)
{
    return loop_hits(grdma_get, grdma_put, cache, uses, n);
}

const struct driver driver = {
    .name = "grdma", .caches = true, .open = grdma_open,
    .get = grdma_get, .put = grdma_put, .hits = grdma_hits,
};
