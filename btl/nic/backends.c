/* SPDX-License-Identifier: BSD-3-Clause */
/* backends.c - the NIC backends of this build, best first. */
#include "pinwheel/nic.h"

extern const struct pw_nic_ops pw_nic_shm, pw_nic_tcp;

const struct pw_nic_ops *const pw_nic_backends[] = {
    &pw_nic_shm,
    &pw_nic_tcp,
    NULL,
};
