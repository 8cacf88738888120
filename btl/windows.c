/* SPDX-License-Identifier: BSD-3-Clause */
/* windows.c - which of Open MPI's components makes a window.
 *
 * With a transport that offers what it wants, osc/rdma bids for every window, one point
 * more than osc/sm. For MPI_Win_allocate among ranks of one host that is the worse
 * choice: both put all parts into one file that every rank maps, and no transport is
 * asked for anything, but osc/sm then loads and stores at once while osc/rdma first
 * finds out where to (8 bytes, MPI_Fetch_and_op: 0.019 us and 0.041), and its parts begin
 * where copies can be slow (MPI_Put of 64 KiB: 1.3 us and 20, Zen 4). So its bid is made
 * a point lower than osc/sm's, unless somebody has chosen it. osc/sm bids for nothing
 * else; osc/ucx and osc/pt2pt stay below.
 */
#include "opal/mca/base/mca_base_var.h"
#include "pinwheel.h"

enum { BELOW_OSC_SM = 99 };

/* From add_procs: later than the components' parameters are registered, earlier than
 * any window. Open MPI reads this one anew for each window, but has not marked it as one
 * that may be set later, so it is written where it lies. */
void pw_windows_prefer_sm(void)
{
    int var = mca_base_var_find("ompi", "osc", "rdma", "priority");
    mca_base_var_source_t source;
    unsigned int *priority = NULL;

    if (var >= 0 &&
        mca_base_var_get_value(var, &priority, &source, NULL) == OPAL_SUCCESS &&
        source == MCA_BASE_VAR_SOURCE_DEFAULT && priority && *priority > BELOW_OSC_SM)
        *priority = BELOW_OSC_SM;
}
