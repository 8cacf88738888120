/* SPDX-License-Identifier: BSD-3-Clause */
/* rails.c - which NIC of ours is to reach which NIC of a peer. */
#include "rails.h"

#include <stdbool.h>
#include <stdlib.h>

struct taken {
    bool own[PW_RAILS], part[PW_RAILS];
};

/* Is (i, j) the better pair? The same from the peer's side, where i and j change places. */
static bool better(int fit[PW_RAILS][PW_RAILS], int i, int j, const struct pw_rail *than)
{
    int far = abs(i - j), than_far = abs(than->own - than->part);

    if (fit[i][j] != fit[than->own][than->part])
        return fit[i][j] > fit[than->own][than->part];
    if (far != than_far)
        return far < than_far;
    return i + j < than->own + than->part;
}

/* The best pair of which neither is taken; leftovers: of which just one is. */
static bool best_pair(int fit[PW_RAILS][PW_RAILS], const struct taken *t, bool leftovers,
                      struct pw_rail *best)
{
    bool found = false;

    for (int i = 0; i < PW_RAILS; i++)
        for (int j = 0; j < PW_RAILS; j++) {
            bool fits = leftovers ? t->own[i] != t->part[j] : !t->own[i] && !t->part[j];

            if (!fits || fit[i][j] <= PW_FIT_NONE ||
                (found && !better(fit, i, j, best)))
                continue;
            *best = (struct pw_rail){ i, j };
            found = true;
        }
    return found;
}

int pw_rails_pair(int fit[PW_RAILS][PW_RAILS], struct pw_rail out[PW_PAIRS])
{
    struct taken t = { { false }, { false } };
    bool leftovers = false;
    int n = 0;

    while (n < PW_PAIRS) {
        if (best_pair(fit, &t, leftovers, &out[n])) {
            t.own[out[n].own] = t.part[out[n].part] = true;
            n++;
        } else if (!leftovers) {
            leftovers = true;
        } else {
            break;
        }
    }
    return n;
}
