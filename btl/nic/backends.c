/* SPDX-License-Identifier: BSD-3-Clause */
/* backends.c - the NIC backends of this build, best first. */
#include "config.h"

#include "pinwheel/nic.h"

extern const struct pw_nic_ops pw_nic_shm, pw_nic_tcp;
#ifdef HAVE_IBVERBS
extern const struct pw_nic_ops pw_nic_verbs;
#endif
#ifdef HAVE_LIBFABRIC
extern const struct pw_nic_ops pw_nic_ofi;
#endif
#ifdef HAVE_UCX
extern const struct pw_nic_ops pw_nic_ucx;
#endif

const struct pw_nic_ops *const pw_nic_backends[] = {
    &pw_nic_shm,
    &pw_nic_tcp,
#ifdef HAVE_IBVERBS
    &pw_nic_verbs,
#endif
#ifdef HAVE_LIBFABRIC
    &pw_nic_ofi,
#endif
#ifdef HAVE_UCX
    &pw_nic_ucx,
#endif
    NULL,
};
