/* SPDX-License-Identifier: BSD-3-Clause */
/* osc_units.c - windows whose ranks have different displacement units.
 *
 * With one rank of a window on its host, osc/rdma of Open MPI 4.1 makes that rank's state by
 * itself (allocate_state_single) and forgets the rank's own unit where units differ: it
 * reckons with what lies there. So all are told to be 1, and displacements are multiplied
 * here. Where all ranks have the same unit nothing is changed.
 */
#include "osc.h"

static ptrdiff_t scaled(const struct pw_window *w, int target, ptrdiff_t disp)
{
    return w->units[target] * disp;
}

static int units_put(const void *from, int n, struct ompi_datatype_t *type, int target,
                     ptrdiff_t disp, int target_n, struct ompi_datatype_t *target_type,
                     struct ompi_win_t *win)
{
    struct pw_window *w = pw_window_of(win);

    return w->rdma.osc_put(from, n, type, target, scaled(w, target, disp), target_n,
                           target_type, win);
}

static int units_get(void *to, int n, struct ompi_datatype_t *type, int target,
                     ptrdiff_t disp, int target_n, struct ompi_datatype_t *target_type,
                     struct ompi_win_t *win)
{
    struct pw_window *w = pw_window_of(win);

    return w->rdma.osc_get(to, n, type, target, scaled(w, target, disp), target_n,
                           target_type, win);
}

static int units_accumulate(const void *from, int n, struct ompi_datatype_t *type, int target,
                            ptrdiff_t disp, int target_n,
                            struct ompi_datatype_t *target_type, struct ompi_op_t *op,
                            struct ompi_win_t *win)
{
    struct pw_window *w = pw_window_of(win);

    return w->rdma.osc_accumulate(from, n, type, target, scaled(w, target, disp), target_n,
                                  target_type, op, win);
}

static int units_compare_and_swap(const void *from, const void *compare, void *result,
                                  struct ompi_datatype_t *type, int target, ptrdiff_t disp,
                                  struct ompi_win_t *win)
{
    struct pw_window *w = pw_window_of(win);

    return w->rdma.osc_compare_and_swap(from, compare, result, type, target,
                                        scaled(w, target, disp), win);
}

static int units_fetch_and_op(const void *from, void *result, struct ompi_datatype_t *type,
                              int target, ptrdiff_t disp, struct ompi_op_t *op,
                              struct ompi_win_t *win)
{
    struct pw_window *w = pw_window_of(win);

    return w->rdma.osc_fetch_and_op(from, result, type, target, scaled(w, target, disp), op,
                                    win);
}

static int units_get_accumulate(const void *from, int n, struct ompi_datatype_t *type,
                                void *result, int result_n,
                                struct ompi_datatype_t *result_type, int target,
                                ptrdiff_t disp, int target_n,
                                struct ompi_datatype_t *target_type, struct ompi_op_t *op,
                                struct ompi_win_t *win)
{
    struct pw_window *w = pw_window_of(win);

    return w->rdma.osc_get_accumulate(from, n, type, result, result_n, result_type, target,
                                      scaled(w, target, disp), target_n, target_type, op,
                                      win);
}

static int units_rput(const void *from, int n, struct ompi_datatype_t *type, int target,
                      ptrdiff_t disp, int target_n, struct ompi_datatype_t *target_type,
                      struct ompi_win_t *win, struct ompi_request_t **request)
{
    struct pw_window *w = pw_window_of(win);

    return w->rdma.osc_rput(from, n, type, target, scaled(w, target, disp), target_n,
                            target_type, win, request);
}

static int units_rget(void *to, int n, struct ompi_datatype_t *type, int target,
                      ptrdiff_t disp, int target_n, struct ompi_datatype_t *target_type,
                      struct ompi_win_t *win, struct ompi_request_t **request)
{
    struct pw_window *w = pw_window_of(win);

    return w->rdma.osc_rget(to, n, type, target, scaled(w, target, disp), target_n,
                            target_type, win, request);
}

static int units_raccumulate(const void *from, int n, struct ompi_datatype_t *type,
                             int target, ptrdiff_t disp, int target_n,
                             struct ompi_datatype_t *target_type, struct ompi_op_t *op,
                             struct ompi_win_t *win, struct ompi_request_t **request)
{
    struct pw_window *w = pw_window_of(win);

    return w->rdma.osc_raccumulate(from, n, type, target, scaled(w, target, disp), target_n,
                                   target_type, op, win, request);
}

static int units_rget_accumulate(const void *from, int n, struct ompi_datatype_t *type,
                                 void *result, int result_n,
                                 struct ompi_datatype_t *result_type, int target,
                                 ptrdiff_t disp, int target_n,
                                 struct ompi_datatype_t *target_type, struct ompi_op_t *op,
                                 struct ompi_win_t *win, struct ompi_request_t **request)
{
    struct pw_window *w = pw_window_of(win);

    return w->rdma.osc_rget_accumulate(from, n, type, result, result_n, result_type, target,
                                       scaled(w, target, disp), target_n, target_type, op,
                                       win, request);
}

static void put_between(ompi_osc_base_module_t *osc)
{
    osc->osc_put = units_put;
    osc->osc_get = units_get;
    osc->osc_accumulate = units_accumulate;
    osc->osc_compare_and_swap = units_compare_and_swap;
    osc->osc_fetch_and_op = units_fetch_and_op;
    osc->osc_get_accumulate = units_get_accumulate;
    osc->osc_rput = units_rput;
    osc->osc_rget = units_rget;
    osc->osc_raccumulate = units_raccumulate;
    osc->osc_rget_accumulate = units_rget_accumulate;
}

/* *units stays NULL where all are alike. */
static int units_compare(const struct pw_window_plan *plan, int **units)
{
    int size = ompi_comm_size(plan->comm), *all = malloc((size_t)size * sizeof(*all)), rc;
    bool differ = false;

    *units = NULL;
    if (!all)
        return OMPI_ERR_OUT_OF_RESOURCE;
    rc = PMPI_Allgather(&plan->unit, 1, MPI_INT, all, 1, MPI_INT, plan->comm);
    for (int i = 0; rc == MPI_SUCCESS && i < size; i++)
        differ = differ || all[i] != plan->unit;
    if (rc == MPI_SUCCESS && differ)
        *units = all;
    else
        free(all);
    return rc == MPI_SUCCESS ? OMPI_SUCCESS : OMPI_ERROR;
}

int pw_window_units(const struct pw_window_plan *plan, int flavor)
{
    struct pw_window_plan bytes = *plan;
    struct pw_window *w;
    int *units, rc = units_compare(plan, &units);

    if (rc != OMPI_SUCCESS)
        return rc;
    if (!units)
        return pw_window_make(plan, flavor, NULL);
    bytes.unit = 1;
    rc = pw_window_make(&bytes, flavor, &w);
    if (rc != OMPI_SUCCESS) {
        free(units);
        return rc;
    }
    w->units = units;
    plan->win->w_flags &= ~OMPI_WIN_SAME_DISP;
    put_between(plan->win->w_osc_module);
    return OMPI_SUCCESS;
}
