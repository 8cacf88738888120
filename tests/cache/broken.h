/* SPDX-License-Identifier: BSD-3-Clause */
/* broken.h - monitors that fail on purpose, so that tests can show that they would
 * notice.
 *
 *     blind      vouches for all memory and sees nothing
 *     deaf       the hooks, but what madvise and its kin drop is not told
 *     forgetful  the hooks, but one change in a hundred is not told
 *     late       the hooks, but the word moves some 50 us after it should
 *     hasty      the hooks, but what changes while it is pinned is called fresh
 */
#ifndef PINWHEEL_TESTS_BROKEN_H
#define PINWHEEL_TESTS_BROKEN_H

#include "pinwheel/monitor.h"

/* As pw_monitor_open(), for these as well. */
int broken_monitor_open(const char *name, struct pw_monitor **out,
                        struct pw_monitor_report *report);
void broken_monitor_close(struct pw_monitor *m);

#endif
