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

/* As its open(), for a monitor that sees by other means what passes by the C
 * library, and knows what kind of memory it is asked about: neither matters to this
 * one then. The records are pw_hooks.records. */
int pw_hooks_open_under(struct pw_monitor **out, char why[PW_MONITOR_WHY_MAX]);

#endif
