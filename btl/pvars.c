/* SPDX-License-Identifier: BSD-3-Clause */
/* pvars.c - what is counted, as performance variables of MPI_T.
 *
 * btl_pinwheel_NAME for each of pw_metrics. They always run: a handle needs no
 * start, and the value is fetched when it is read, which stops nobody. Before
 * MPI_Init has chosen the transport, and where it did not, all are 0.
 *
 * Source: MPI 3.1, 14.3.7.
 */
#include "core/metrics.h"
#include "pinwheel.h"

#include "opal/mca/base/mca_base_pvar.h"

static int pvar_read(const struct mca_base_pvar_t *pvar, void *value, void *obj)
{
    const struct pw_metric *m = pvar->ctx;
    unsigned long long *out = value;
    struct pw_counts counts;

    (void)obj;
    *out = 0;
    if (pw_module.engine) {
        pw_engine_counts(pw_module.engine, &counts);
        *out = pw_metric_value(&counts, (int)(m - pw_metrics));
    }
    return OPAL_SUCCESS;
}

int pw_pvars_register(void)
{
    int rc = 0;

    for (int i = 0; i < PW_METRICS && rc >= 0; i++) {
        const struct pw_metric *m = &pw_metrics[i];

        rc = mca_base_component_pvar_register(&mca_btl_pinwheel_component.btl_version,
                m->name, m->what, OPAL_INFO_LVL_4,
                m->level ? MCA_BASE_PVAR_CLASS_LEVEL : MCA_BASE_PVAR_CLASS_COUNTER,
                MCA_BASE_VAR_TYPE_UNSIGNED_LONG_LONG, NULL, MCA_BASE_VAR_BIND_NO_OBJECT,
                MCA_BASE_PVAR_FLAG_READONLY | MCA_BASE_PVAR_FLAG_CONTINUOUS, pvar_read,
                NULL, NULL, (void *)(uintptr_t)m);
    }
    return rc < 0 ? rc : 0;
}
