/* SPDX-License-Identifier: BSD-3-Clause */
/* subjects.h - what the suite runs on: the backends, and the fake NIC in the ways
 * a backend may differ from another. */
#ifndef PW_NIC_SUBJECTS_H
#define PW_NIC_SUBJECTS_H

#include "tests/unit/fake_nic.h"
#include "suite.h"

/* Ends with a name of NULL; free() it. NULL without memory. */
struct subject *subjects_all(void);

/* The fake NIC; the suite's own tests change its traits. */
struct subject subject_fake(const char *name, const struct fake_nic_traits *traits);
struct fake_nic_traits traits_plain(void);

#endif
