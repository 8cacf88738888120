/* SPDX-License-Identifier: BSD-3-Clause */
/* mpool.c - MPI_Alloc_mem from the pool.
 *
 * Open MPI asks every mpool component at each call and takes the one with the
 * highest priority. We answer only while the transport is in use. When the pool is
 * full the memory is ordinary, but starts on a page all the same.
 */
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>

#include "pinwheel.h"

/* The default mpool has 50. */
enum { PW_MPOOL_PRIORITY = 90 };

/* Left for the queues of ranks that join later (MPI_Comm_spawn): a program that
 * takes the whole pool is to be able to talk to them. */
#define PW_POOL_RESERVE ((size_t)4 << 20)

static bool pool_has_room(size_t size)
{
    struct pw_pool_info info;

    pw_pool_describe(pw_module.pool, &info);
    return info.size - info.used > PW_POOL_RESERVE &&
           size <= info.size - info.used - PW_POOL_RESERVE;
}

/* Ordinary memory, on a page like the pool's. */
static void *elsewhere_alloc(size_t size)
{
    void *p;

    pw_tell(5, "%zu bytes of MPI_Alloc_mem do not fit the pool (btl_pinwheel_pool_size): "
            "ordinary memory is used", size);
    return posix_memalign(&p, 4096, size) ? NULL : p;
}

static void *pool_alloc(mca_mpool_base_module_t *mpool, size_t size, size_t align,
                        uint32_t flags)
{
    void *p = NULL;

    (void)mpool;
    (void)flags;
    if (!pw_module.pool)
        return NULL;
    size += !size;
    if (pool_has_room(size))
        p = pw_pool_alloc(pw_module.pool, size, align);
    return p ? p : elsewhere_alloc(size);
}

static bool from_pool(const void *addr)
{
    return pw_pool_contains(pw_module.pool, addr, 1);
}

static void pool_free(mca_mpool_base_module_t *mpool, void *addr)
{
    (void)mpool;
    if (!pw_module.pool)
        return;
    if (from_pool(addr))
        pw_pool_free(pw_module.pool, addr);
    else
        free(addr);
}

static void *pool_realloc(mca_mpool_base_module_t *mpool, void *addr, size_t size)
{
    size_t old = from_pool(addr) ? pw_pool_usable(pw_module.pool, addr)
                                 : malloc_usable_size(addr);
    void *p = pool_alloc(mpool, size, 0, 0);

    if (!p)
        return NULL;
    memcpy(p, addr, old < size ? old : size);
    pool_free(mpool, addr);
    return p;
}

static mca_mpool_base_module_t mpool_module = {
    .mpool_component = &mca_mpool_pinwheel_component,
    .mpool_alloc = pool_alloc,
    .mpool_realloc = pool_realloc,
    .mpool_free = pool_free,
    .flags = MCA_MPOOL_FLAGS_MPI_ALLOC_MEM,
    .mpool_allocation_unit = 4096,
    .mpool_name = "pinwheel",
};

/* Another pool asked for by name ("mpool_hints" of the info argument) keeps its
 * right: ours is then no better than the default. */
static int mpool_query(const char *hints, int *priority, mca_mpool_base_module_t **module)
{
    *module = NULL;
    if (!pw_module.engine)
        return OPAL_ERR_NOT_AVAILABLE;
    *priority = hints && *hints && !strstr(hints, "pinwheel") ? 1 : PW_MPOOL_PRIORITY;
    *module = &mpool_module;
    return OPAL_SUCCESS;
}

static int mpool_open(void)
{
    return pw_ompi_is_ours(opal_version_string) ? OPAL_SUCCESS : OPAL_ERR_NOT_SUPPORTED;
}

__attribute__((visibility("default")))
mca_mpool_base_component_t mca_mpool_pinwheel_component = {
    .mpool_version = {
        MCA_MPOOL_BASE_VERSION_3_0_0,
        .mca_component_name = "pinwheel",
        MCA_BASE_MAKE_VERSION(component, OPAL_MAJOR_VERSION, OPAL_MINOR_VERSION,
                              OPAL_RELEASE_VERSION),
        .mca_open_component = mpool_open,
    },
    .mpool_data = {
        .param_field = MCA_BASE_METADATA_PARAM_NONE,
    },
    .mpool_query = mpool_query,
};
