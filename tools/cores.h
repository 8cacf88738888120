/* SPDX-License-Identifier: BSD-3-Clause */
/* cores.h - how much CPU this process may use. */
#ifndef PW_TOOLS_CORES_H
#define PW_TOOLS_CORES_H

/* Hardware threads in our affinity mask, at least 1. */
int pw_cpus_usable(void);

/* Cores they belong to: threads that share one count once. At least 1. Where
 * the kernel does not tell which share, each counts. */
int pw_cores_usable(void);

/* A hardware thread of the n-th of those cores, as sched_setaffinity() numbers
 * them; -1 when there is none. */
int pw_core_at(int n);

#endif
