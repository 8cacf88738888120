/* SPDX-License-Identifier: BSD-3-Clause */
/* osc_dynamic.c - MPI_Win_create_dynamic.
 *
 * To find out what another rank has attached, osc/rdma of Open MPI 4.1 takes that rank's
 * lock for itself and then, to read the list, once more as one of several readers: it waits
 * for ever (osc_rdma_dynamic.c, find and refresh). So it is told to make a window of
 * MPI_Win_create on all memory from address 0 on, in which displacements are addresses, as
 * they are in a dynamic one. What it registers for that is a sparse region of the engine:
 * to attach and detach is between the program and us, and what is not attached is refused
 * where memory is touched for a peer. Only what a peer copies by itself, by the kernel or in
 * a mapped pool, is bounded by what is mapped instead.
 *
 * A window that we cannot make so is refused; there is nothing else to offer.
 */
#include <errno.h>

#include "osc.h"

static int dynamic_attach(struct ompi_win_t *win, void *base, size_t len)
{
    struct pw_window *w = pw_window_of(win);

    return pw_engine_attach(pw_module.engine, &w->memory->key, base, len)
               ? OMPI_ERR_RMA_ATTACH : OMPI_SUCCESS;
}

static int dynamic_detach(struct ompi_win_t *win, const void *base)
{
    struct pw_window *w = pw_window_of(win);

    return pw_engine_detach(pw_module.engine, &w->memory->key, base) ? OMPI_ERR_BASE
                                                                     : OMPI_SUCCESS;
}

int pw_window_dynamic(const struct pw_window_plan *plan)
{
    struct pw_window_plan whole = *plan;
    struct pw_window *w;
    void *bottom = NULL;
    int rc;

    whole.base = &bottom;
    whole.size = PW_ALL_MEMORY;
    whole.unit = 1;
    pw_sparse_handle = NULL;
    rc = pw_window_make(&whole, MPI_WIN_FLAVOR_CREATE, &w);
    if (rc != OMPI_SUCCESS)
        return rc;
    w->memory = pw_sparse_handle;
    if (!w->memory) {       /* registered with another transport */
        plan->win->w_osc_module->osc_free(plan->win);
        return OMPI_ERR_NOT_SUPPORTED;
    }
    plan->win->w_osc_module->osc_win_attach = dynamic_attach;
    plan->win->w_osc_module->osc_win_detach = dynamic_detach;
    return OMPI_SUCCESS;
}
