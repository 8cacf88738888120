/* SPDX-License-Identifier: BSD-3-Clause */
/* calibrate.h - what moving bytes costs on this host, measured.
 *
 * calibrate.c   the command line, the order of things, what is kept
 * transfers.c   gets between two processes, by pinwheel's own core, each way
 * copies.c      memcpy and stores past the cache, by where the lines are
 * small.c       a cache line, a wake-up, mapping a page
 * partner.c     the process on the other core
 *
 * Two processes, each bound to a CPU of its own. All return 0 or -errno and a sentence
 * in calib_why.
 */
#ifndef PW_TOOLS_CALIBRATE_H
#define PW_TOOLS_CALIBRATE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "btl/core/costs_file.h"
#include "btl/core/samples.h"

extern char calib_why[PW_CALIB_WHY];

__attribute__((format(printf, 2, 3)))
int calib_fail(int err, const char *format, ...);


/* Bind this process; false: not allowed there. */
bool calib_bind(int cpu);

/* A process that runs `work` on that CPU and then ends; it ends with us, and by itself
 * after a minute. The pid, or -errno. */
pid_t calib_partner(int cpu, void (*work)(void *arg), void *arg);
/* true: it ended well. */
bool calib_partner_end(pid_t pid);

int calib_transfers(int here, int there, struct pw_calibration *c);
int calib_copies(int here, int there, struct pw_calibration *c);
int calib_wake(int here, int there, struct pw_calibration *c);
int calib_map(struct pw_calibration *c);
/* Pairs of the n CPUs, until budget_ns is spent; those at the end are left out then. */
int calib_pairs(const int *cpus, int n, uint64_t budget_ns, struct pw_calibration *c);

#endif
