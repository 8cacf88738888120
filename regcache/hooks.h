/* SPDX-License-Identifier: BSD-3-Clause */
/* hooks.h - the monitor that watches this process's own system calls.
 *
 * The system call instructions of the C library that change memory are patched,
 * so that every call passes by here, whoever makes it: the program, a library,
 * free() inside the C library, the dynamic linker. hooks.c says how.
 */
#ifndef PINWHEEL_HOOKS_H
#define PINWHEEL_HOOKS_H

#include "pinwheel/monitor.h"

extern const struct pw_monitor_ops pw_hooks_monitor;

#endif
