/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_library.c - libibverbs, loaded when it is first needed.
 *
 * It is not loaded on a machine without RDMA devices: rdm_ports_any() comes first. What
 * its header has as inline functions are calls through tables of an open device, so nothing
 * of it need be linked.
 */
#define _GNU_SOURCE
#include <stddef.h>

#include "verbs.h"

static const struct rdm_symbol symbols[] = {
    { "ibv_get_device_list", offsetof(struct verbs_library, get_device_list) },
    { "ibv_free_device_list", offsetof(struct verbs_library, free_device_list) },
    { "ibv_open_device", offsetof(struct verbs_library, open_device) },
    { "ibv_close_device", offsetof(struct verbs_library, close_device) },
    { "ibv_query_device", offsetof(struct verbs_library, query_device) },
    { "ibv_query_port", offsetof(struct verbs_library, query_port) },
    { "_ibv_query_gid_table", offsetof(struct verbs_library, query_gid_table) },
    { "ibv_get_async_event", offsetof(struct verbs_library, get_async_event) },
    { "ibv_ack_async_event", offsetof(struct verbs_library, ack_async_event) },
    { "ibv_alloc_pd", offsetof(struct verbs_library, alloc_pd) },
    { "ibv_dealloc_pd", offsetof(struct verbs_library, dealloc_pd) },
    { "ibv_reg_mr", offsetof(struct verbs_library, reg_mr) },
    { "ibv_reg_mr_iova2", offsetof(struct verbs_library, reg_mr_iova2) },
    { "ibv_dereg_mr", offsetof(struct verbs_library, dereg_mr) },
    { "ibv_create_comp_channel", offsetof(struct verbs_library, create_comp_channel) },
    { "ibv_destroy_comp_channel", offsetof(struct verbs_library, destroy_comp_channel) },
    { "ibv_create_cq", offsetof(struct verbs_library, create_cq) },
    { "ibv_destroy_cq", offsetof(struct verbs_library, destroy_cq) },
    { "ibv_get_cq_event", offsetof(struct verbs_library, get_cq_event) },
    { "ibv_ack_cq_events", offsetof(struct verbs_library, ack_cq_events) },
    { "ibv_create_srq", offsetof(struct verbs_library, create_srq) },
    { "ibv_destroy_srq", offsetof(struct verbs_library, destroy_srq) },
    { "ibv_create_qp", offsetof(struct verbs_library, create_qp) },
    { "ibv_modify_qp", offsetof(struct verbs_library, modify_qp) },
    { "ibv_destroy_qp", offsetof(struct verbs_library, destroy_qp) },
    { "ibv_create_ah", offsetof(struct verbs_library, create_ah) },
    { "ibv_destroy_ah", offsetof(struct verbs_library, destroy_ah) },
    { "ibv_fork_init", offsetof(struct verbs_library, fork_init) },
    { "ibv_is_fork_initialized", offsetof(struct verbs_library, is_fork_initialized) },
    { NULL, 0 },
};

static void library_prepare(void)
{
}

static struct verbs_library functions;
static struct rdm_library library = {
    .lock = PTHREAD_MUTEX_INITIALIZER, .file = "libibverbs.so.1", .name = "libibverbs",
    .package = "libibverbs1", .symbols = symbols, .functions = &functions,
    .prepare = library_prepare,
};

void verbs_library_use(const char *file)
{
    rdm_library_use(&library, file);
}

/* A child that is forked would else take pages from under the device. Kernels from 5.12 on
 * copy pinned pages for it, and nothing is to be done. It comes before anything is
 * registered; twice is as good as once. */
static void fork_prepare(const struct verbs_library *lib)
{
    if (lib->is_fork_initialized() == IBV_FORK_DISABLED)
        lib->fork_init();
}

const struct verbs_library *verbs_library(char why[PW_NIC_WHY_MAX])
{
    const struct verbs_library *lib = rdm_library_load(&library, why);

    if (lib)
        fork_prepare(lib);
    return lib;
}
