/* SPDX-License-Identifier: BSD-3-Clause */
/* budget.h - how much may be pinned, by this process and on this host.
 *
 * Two limits hold at once: this process's own, and one that all processes of the
 * user on this host share. What a process had charged to the host's is free
 * again at once when it ends, kill -9 included: others see that it is gone.
 *
 * Any thread. Not from signal handlers.
 */
#ifndef PINWHEEL_BUDGET_H
#define PINWHEEL_BUDGET_H

#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(default)
#ifdef __cplusplus
extern "C" {
#endif

struct pw_budget;

struct pw_budget_config {
    size_t rank_bytes;      /* 0: three quarters of RLIMIT_MEMLOCK, or, where that
                             * does not bind (CAP_IPC_LOCK, unlimited), a quarter
                             * of RAM divided by sharers */
    size_t rank_regions;    /* 0: 65,536 */
    size_t host_bytes;      /* 0: half of RAM. All processes must say the same;
                             * the first one's holds */
    unsigned sharers;       /* processes expected on this host; 0 counts as 1 */
    const char *name;       /* of the host's account; NULL: the user's. Letters,
                             * digits, '-', at most 64 */
};

struct pw_budget_info {
    size_t rank_bytes, rank_regions, host_bytes;            /* limits */
    size_t used_bytes, used_regions, host_used_bytes;       /* now */
    unsigned processes;         /* alive with something charged, on this host */
    char why[256];              /* why there is no host account, a sentence; "" */
};

/* 0; or -EINVAL for a name that is none, -ENOMEM. Where the host's account cannot
 * be had (no /dev/shm), the host's limit divided by sharers is added to this
 * process's own, and info.why says so. */
int pw_budget_open(const struct pw_budget_config *config, struct pw_budget **out);
void pw_budget_close(struct pw_budget *b);      /* gives everything back; NULL is fine */

/* Take, or give back. charge: 0; -ENOMEM when a limit would be passed (nothing is
 * taken); -EDQUOT when it is the host's and others hold it. */
int pw_budget_charge(struct pw_budget *b, size_t bytes, size_t regions);
void pw_budget_credit(struct pw_budget *b, size_t bytes, size_t regions);

/* In a forked child, before anything else: the parent's charges are not its. */
void pw_budget_forked(struct pw_budget *b);

void pw_budget_describe(struct pw_budget *b, struct pw_budget_info *out);

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop
#endif
