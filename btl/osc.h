/* SPDX-License-Identifier: BSD-3-Clause */
/* osc.h - windows of osc/rdma that we have made it make otherwise; see osc.c. */
#ifndef PW_OSC_H
#define PW_OSC_H

#include "pinwheel.h"

/* One window. Its functions in Open MPI's table are ours or osc/rdma's. */
struct pw_window {
    struct pw_window *next;
    struct ompi_win_t *win;
    ompi_osc_base_module_t rdma;    /* what osc/rdma had in the table */
    struct mca_btl_base_registration_handle_t *memory;  /* dynamic: what is attached */
    int *units;                     /* of each rank, where they differ */
};

/* What osc_select of Open MPI gets, without the flavor. */
struct pw_window_plan {
    struct ompi_win_t *win;
    void **base;
    size_t size;
    int unit;
    struct ompi_communicator_t *comm;
    struct opal_info_t *info;
    int *model;
};

/* Any thread. The window lives until it is freed. */
struct pw_window *pw_window_of(const struct ompi_win_t *win);

/* Have osc/rdma make it; an OMPI_ code. With `out`, *out is to be filled: its functions go
 * through pw_window_of() from then on. */
int pw_window_make(const struct pw_window_plan *plan, int flavor, struct pw_window **out);

/* An OMPI_ code. */
int pw_window_dynamic(const struct pw_window_plan *plan);
int pw_window_units(const struct pw_window_plan *plan, int flavor);

#endif
