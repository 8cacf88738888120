/* SPDX-License-Identifier: BSD-3-Clause */
/* far.c - the module by which messages go to ranks of other hosts.
 *
 * Open MPI asks a module, not a rank, how long a message may be that is sent before the
 * receiver has asked for it. Between hosts an answer takes several times as long as within
 * one, and the kernel reads such a message while it is still being written: there longer
 * ones are worth it (doc/costs.md). So there are two modules for one engine. This one has
 * ranks of other hosts alone, and the higher exclusivity: messages to them are its own. The
 * other one has all ranks, as windows want it, and the messages of this host.
 *
 * Always true: both give the same endpoint for a rank (procs.c), and what arrives is told as
 * that module's by which it is answered (send.c: pw_recv).
 */
#include "limits.h"
#include "pinwheel.h"

static int far_register_error(struct mca_btl_base_module_t *btl,
                              mca_btl_base_module_error_cb_fn_t cb)
{
    (void)btl;
    (void)cb;       /* the other module has it, too */
    return OPAL_SUCCESS;
}

static int far_finalize(struct mca_btl_base_module_t *btl)
{
    (void)btl;      /* with the other one */
    return OPAL_SUCCESS;
}

struct mca_btl_base_module_t pw_far;

/* As the other one, which is complete. */
void pw_far_open(const struct pw_module *m)
{
    size_t most = pw_engine_message_max_afar(m->engine);
    size_t eager = pw_params.eager_limit ? pw_params.eager_limit : PW_EAGER_LIMIT_FAR;

    pw_far = m->super;
    if (!most)
        return;
    pw_far.btl_exclusivity++;
    pw_far.btl_register_error = far_register_error;
    pw_far.btl_finalize = far_finalize;
    pw_far.btl_eager_limit = eager < most ? eager : most;
    if (pw_far.btl_max_send_size < pw_far.btl_eager_limit)
        pw_far.btl_max_send_size = pw_far.btl_eager_limit;
}

bool pw_far_wanted(const struct pw_module *m)
{
    return pw_engine_message_max_afar(m->engine) != 0;
}
