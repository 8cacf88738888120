/* SPDX-License-Identifier: BSD-3-Clause */
/* failover.c - paths that come up, fail and return.
 *
 * Start at pw_path_down(). All of it is under e->progress.
 *
 * Always true: frames change their path only together with a replay of all that is not
 * acknowledged, so none of them overtakes another.
 */
#include "core.h"
#include "guard.h"
#include "path.h"

/* From now on frames take the best path there is. */
static struct pw_path *path_change(struct pw_endpoint *ep)
{
    struct pw_path *best = pw_path_best(ep);

    __atomic_store_n(&ep->path, best, __ATOMIC_RELEASE);
    if (best && ep->guard)
        pw_guard_replay(ep->guard);
    return best;
}

void pw_path_up(struct pw_path *path)
{
    struct pw_endpoint *ep = path->ep;

    __atomic_store_n(&path->state, PW_PATH_UP, __ATOMIC_RELAXED);
    if (!pw_path_current(ep))
        path_change(ep);
}

void pw_path_down(struct pw_path *path, int cause, const char *why)
{
    struct pw_endpoint *ep = path->ep;

    __atomic_store_n(&path->state, PW_PATH_DOWN, __ATOMIC_RELAXED);
    if (pw_path_current(ep) && pw_path_current(ep) != path)
        return;
    if (path_change(ep))
        return;
    for (int i = 0; i < ep->n_paths; i++)
        if (ep->paths[i].state == PW_PATH_TRYING)
            return;
    pw_endpoint_kill(ep, cause, why);
}
