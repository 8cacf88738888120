/* SPDX-License-Identifier: BSD-3-Clause */
/* fake_monitor.h - a monitor whose memory changes when a test says so.
 *
 * In shared memory, so that a forked child's doings show; several threads may call
 * fake_monitor_change() at once. */
#ifndef PW_FAKE_MONITOR_H
#define PW_FAKE_MONITOR_H

#include <pthread.h>
#include <stdbool.h>

#include "pinwheel/monitor.h"

enum { FAKE_CHANGES = 64 };

struct fake_monitor {
    struct pw_monitor super;
    uint64_t word, told;
    struct pw_change change[FAKE_CHANGES];
    pthread_mutex_t lock;
    int watches, unwatches;
    int watch_error;            /* what watch() answers while watch_errors > 0 */
    int watch_errors;
    size_t watch_most;          /* larger ranges are -EOPNOTSUPP; 0: none */
    bool speechless;            /* changes() tells nothing although there is */
    int hesitates;              /* so many times */
    int asked;                  /* calls of changes() */
};

void fake_monitor_init(struct fake_monitor *m);
void fake_monitor_change(struct fake_monitor *m, void *addr, size_t len);
void fake_monitor_tell(struct fake_monitor *m, struct pw_change change);

#endif
