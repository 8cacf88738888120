/* SPDX-License-Identifier: BSD-3-Clause */
/* metrics.h - everything that an engine counts, by name.
 *
 * One table, for whoever shows numbers: MPI_T, the page that pwinfo --live reads,
 * the line at the end of a job.
 */
#ifndef PW_METRICS_H
#define PW_METRICS_H

#include "engine.h"
#include "pinwheel/regcache.h"

struct pw_counts {
    struct pw_stats sent;
    struct pw_nic_counts nics;          /* of all of them */
    struct pw_regcache_stats cache;     /* zeros when nothing is pinned */
    uint64_t peers_connected;           /* endpoints that are open */
    uint64_t rails[PW_KEY_NICS];        /* wire_bytes of each NIC that is a network's */
};

struct pw_metric {
    const char *name, *what;
    bool level;                 /* of now; else a count that only grows */
    size_t at;                  /* of an uint64_t in struct pw_counts */
};

enum { PW_METRICS = 51 };
extern const struct pw_metric pw_metrics[PW_METRICS];

/* Any thread; stops nobody. */
void pw_engine_counts(struct pw_engine *e, struct pw_counts *out);
uint64_t pw_metric_value(const struct pw_counts *counts, int i);

#endif
