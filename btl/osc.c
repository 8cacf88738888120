/* SPDX-License-Identifier: BSD-3-Clause */
/* osc.c - windows that osc/rdma of Open MPI 4.1 gets wrong between hosts.
 *
 * Open MPI asks its osc components for each window which one makes it. We bid for two
 * kinds, a point more than osc/rdma, have osc/rdma make them otherwise than was asked for,
 * and stand between the program and its functions for what differs:
 *
 *     osc_dynamic.c  dynamic windows: osc/rdma waits there for a lock that it has itself
 *     osc_units.c    windows over several hosts whose ranks have different displacement
 *                    units: on a host with one rank it does not set that rank's own
 *
 * Where osc/rdma does not bid, neither do we. All ranks of a window decide alike, as its
 * flavor and where its ranks are is the same for all of them.
 */
#include <pthread.h>

#include "osc.h"

static pthread_mutex_t windows_lock = PTHREAD_MUTEX_INITIALIZER;
static struct pw_window *windows;

struct pw_window *pw_window_of(const struct ompi_win_t *win)
{
    struct pw_window *w;

    pthread_mutex_lock(&windows_lock);
    for (w = windows; w && w->win != win; w = w->next)
        ;
    pthread_mutex_unlock(&windows_lock);
    return w;
}

static void window_unlist(const struct pw_window *w)
{
    struct pw_window **at = &windows;

    pthread_mutex_lock(&windows_lock);
    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    pthread_mutex_unlock(&windows_lock);
}

/* osc/rdma gives the memory back that was registered, and waits for all ranks. */
static int window_free(struct ompi_win_t *win)
{
    struct pw_window *w = pw_window_of(win);
    int rc = w->rdma.osc_free(win);

    window_unlist(w);
    free(w->units);
    free(w);
    return rc;
}

static ompi_osc_base_component_t *osc_rdma(void)
{
    mca_base_component_list_item_t *item;

    OPAL_LIST_FOREACH(item, &ompi_osc_base_framework.framework_components,
                      mca_base_component_list_item_t) {
        if (!strcmp(item->cli_component->mca_component_name, "rdma"))
            return (ompi_osc_base_component_t *)(uintptr_t)item->cli_component;
    }
    return NULL;
}

int pw_window_make(const struct pw_window_plan *plan, int flavor, struct pw_window **out)
{
    struct pw_window *w = out ? calloc(1, sizeof(*w)) : NULL;
    int rc;

    if (out && !w)
        return OMPI_ERR_OUT_OF_RESOURCE;
    rc = osc_rdma()->osc_select(plan->win, plan->base, plan->size, plan->unit, plan->comm,
                                plan->info, flavor, plan->model);
    if (rc != OMPI_SUCCESS || !out) {
        free(w);
        return rc;
    }
    w->win = plan->win;
    w->rdma = *plan->win->w_osc_module;
    plan->win->w_osc_module->osc_free = window_free;
    pthread_mutex_lock(&windows_lock);
    w->next = windows;
    windows = w;
    pthread_mutex_unlock(&windows_lock);
    *out = w;
    return OMPI_SUCCESS;
}

static bool over_hosts(struct ompi_communicator_t *comm)
{
    for (int i = 0; i < ompi_comm_size(comm); i++)
        if (!OPAL_PROC_ON_LOCAL_NODE(ompi_comm_peer_lookup(comm, i)->super.proc_flags))
            return true;
    return false;
}

static bool is_ours(struct ompi_communicator_t *comm, int flavor)
{
    if (!pw_module.engine)
        return false;
    if (flavor == MPI_WIN_FLAVOR_CREATE || flavor == MPI_WIN_FLAVOR_ALLOCATE)
        return over_hosts(comm);
    return flavor == MPI_WIN_FLAVOR_DYNAMIC;
}

static int osc_query(struct ompi_win_t *win, void **base, size_t size, int unit,
                     struct ompi_communicator_t *comm, struct opal_info_t *info, int flavor)
{
    ompi_osc_base_component_t *rdma = is_ours(comm, flavor) ? osc_rdma() : NULL;
    int bid = rdma ? rdma->osc_query(win, base, size, unit, comm, info, flavor) : -1;

    return bid < 0 ? -1 : bid + 1;
}

static int osc_select(struct ompi_win_t *win, void **base, size_t size, int unit,
                      struct ompi_communicator_t *comm, struct opal_info_t *info, int flavor,
                      int *model)
{
    struct pw_window_plan plan = { .win = win, .base = base, .size = size, .unit = unit,
                                   .comm = comm, .info = info, .model = model };

    return flavor == MPI_WIN_FLAVOR_DYNAMIC ? pw_window_dynamic(&plan)
                                            : pw_window_units(&plan, flavor);
}

static int osc_init(bool progress_threads, bool threads)
{
    (void)progress_threads;
    (void)threads;
    return OMPI_SUCCESS;
}

static int osc_finalize(void)
{
    return OMPI_SUCCESS;
}

static int osc_open(void)
{
    return pw_ompi_is_ours(opal_version_string) ? OPAL_SUCCESS : OPAL_ERR_NOT_SUPPORTED;
}

__attribute__((visibility("default")))
ompi_osc_base_component_t mca_osc_pinwheel_component = {
    .osc_version = {
        OMPI_OSC_BASE_VERSION_3_0_0,
        .mca_component_name = "pinwheel",
        MCA_BASE_MAKE_VERSION(component, OPAL_MAJOR_VERSION, OPAL_MINOR_VERSION,
                              OPAL_RELEASE_VERSION),
        .mca_open_component = osc_open,
    },
    .osc_data = {
        .param_field = MCA_BASE_METADATA_PARAM_NONE,
    },
    .osc_init = osc_init,
    .osc_query = osc_query,
    .osc_select = osc_select,
    .osc_finalize = osc_finalize,
};
