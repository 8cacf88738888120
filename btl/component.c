/* SPDX-License-Identifier: BSD-3-Clause */
/* component.c - found, opened and closed by Open MPI.
 *
 * Start at component_init(). Open MPI opens every component it finds, asks it
 * once for modules, and closes those that gave none. We give one module, and another
 * one for ranks of other hosts (far.c), or say in one line why not.
 */
#include "pinwheel.h"

static int component_register(void)
{
    int rc = pw_params_register();

    return rc ? rc : pw_pvars_register();
}

static int component_open(void)
{
    if (!pw_ompi_is_ours(opal_version_string)) {
        pw_say(true, "this pinwheel was built for Open MPI %s and is being loaded by %s: "
               "build it against this Open MPI (./configure --with-ompi=PREFIX). It is "
               "not used.", PW_OMPI_SERIES, opal_version_string);
        return OPAL_ERR_NOT_SUPPORTED;
    }
    return OPAL_SUCCESS;
}

static int component_close(void)
{
    pw_module_close();
    return OPAL_SUCCESS;
}

static mca_btl_base_module_t **component_init(int *n, bool progress_threads, bool threads)
{
    mca_btl_base_module_t **modules;
    char why[PW_NIC_WHY_MAX];

    (void)progress_threads;
    *n = 0;
    if (pw_params_check(why, sizeof(why))) {
        pw_say(true, "%s. pinwheel is not used.", why);
        return NULL;
    }
    modules = calloc(2, sizeof(*modules));
    if (!modules || pw_module_open(threads || opal_using_threads()) ||
        pw_procs_publish()) {
        pw_module_close();
        free(modules);
        return NULL;
    }
    modules[0] = &pw_module.super;
    modules[1] = &pw_far;
    *n = pw_far_wanted(&pw_module) ? 2 : 1;
    return modules;
}

static int component_progress(void)
{
    return pw_engine_progress(pw_module.engine);
}

__attribute__((visibility("default")))
mca_btl_base_component_3_0_0_t mca_btl_pinwheel_component = {
    .btl_version = {
        MCA_BTL_DEFAULT_VERSION("pinwheel"),
        .mca_open_component = component_open,
        .mca_close_component = component_close,
        .mca_register_component_params = component_register,
    },
    .btl_data = {
        .param_field = MCA_BASE_METADATA_PARAM_NONE,
    },
    .btl_init = component_init,
    .btl_progress = component_progress,
};
