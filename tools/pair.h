/* SPDX-License-Identifier: BSD-3-Clause */
/* pair.h - two processes, each on a core of its own, that measure together.
 *
 * Processes and not threads, for ranks are processes. They inherit what the caller has
 * mapped and opened; what is to come back lies in memory that it has mapped MAP_SHARED.
 */
#ifndef PW_TOOLS_PAIR_H
#define PW_TOOLS_PAIR_H

#include <sys/types.h>

enum { PW_PAIR_WHY = 200 };     /* room for a reason */

/* Both functions are called in each of the two processes, with its side, 0 or 1, and
 * return 0 or -errno. They may wait for the other side as long as it takes: both are
 * ended when one fails, and when the time is over. */
struct pw_pair_work {
    int core[2];                /* hardware threads, as sched_setaffinity() numbers them */
    double seconds;             /* the time for all of it */
    void *arg;

    /* First. An error: it cannot run here; more than the errno tells may be put into
     * why, PW_PAIR_WHY bytes, then and by measure. */
    int (*prepare)(void *arg, int side, pid_t peer, char *why);

    /* When both are prepared. Who is done waits for the other: its memory stays. */
    int (*measure)(void *arg, int side);
};

/* The processes are gone when this returns. Call pw_launch_prepare() first.
 * 0, or -EINTR       we were asked to stop (pw_launch_signal())
 *       -EOPNOTSUPP  it cannot run here
 *       -EIO         it went wrong: an error of measure, an ended process, too long
 * The last two with a sentence in why. */
int pw_pair_run(const struct pw_pair_work *w, char why[PW_PAIR_WHY]);

#endif
