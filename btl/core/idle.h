/* SPDX-License-Identifier: BSD-3-Clause */
/* idle.h - what a rank does while it waits: spin, give way, sleep.
 *
 * With a core for each rank, spinning costs nobody anything and answers
 * soonest; yet a wait that lasts is ended by the operating system's scheduler
 * or the power budget, so after PW_SPIN_NS we give way, and after PW_YIELD_NS we
 * sleep, first shortly, then up to the configured bound. With more ranks than
 * cores the rank waited for may need this core: both come at once.
 */
#ifndef PW_IDLE_H
#define PW_IDLE_H

#include "core.h"

/* After a progress call with `events`; may give way or sleep. */
void pw_idle(struct pw_engine *e, int events);

#endif
