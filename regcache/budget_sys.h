/* SPDX-License-Identifier: BSD-3-Clause */
/* budget_sys.h - the budget on a system call table and in a folder of the
 * caller's, for tests. */
#ifndef PINWHEEL_BUDGET_SYS_H
#define PINWHEEL_BUDGET_SYS_H

#include "pinwheel/budget.h"
#include "sys.h"

/* As pw_budget_open(). sys must outlive the budget; dir is copied, and shorter
 * than 64. */
int pw_budget_open_sys(const struct pw_budget_config *config, const struct pw_sys *sys,
                       const char *dir, struct pw_budget **out);

#endif
