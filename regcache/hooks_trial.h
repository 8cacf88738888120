/* SPDX-License-Identifier: BSD-3-Clause */
/* hooks_trial.h - does a call of this function arrive at the hooks? */
#ifndef PINWHEEL_HOOKS_TRIAL_H
#define PINWHEEL_HOOKS_TRIAL_H

#include <stdbool.h>
#include <stdint.h>

/* Make a harmless call of the C library's function of that name, on pages made for
 * it, and see whether it is recorded. true also for functions that cannot be tried
 * without harm. */
bool pw_hooks_trial(const char *name, uintptr_t function);

#endif
