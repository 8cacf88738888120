/* SPDX-License-Identifier: BSD-3-Clause */
/* rails.h - which NIC of ours is to reach which NIC of a peer.
 *
 * A pure decision, and the peer comes to the same pairs from the other side: both know
 * the same fits, and nothing else counts but the difference and the sum of two places.
 */
#ifndef PW_RAILS_H
#define PW_RAILS_H

#include "pinwheel/nic.h"

enum { PW_RAILS = 4 };          /* NICs of one side */
enum { PW_PAIRS = 2 * PW_RAILS };

struct pw_rail {
    int own, part;              /* places among ours, and among the peer's */
};

/* fit[i][j]: how well our i-th reaches the peer's j-th (enum pw_fit). Each one is paired
 * with one other as far as there are so many, the best fits first, and neighbours by place
 * where fits are equal; then those that are left over with the best that fits, though that
 * one is taken. Returns how many. */
int pw_rails_pair(int fit[PW_RAILS][PW_RAILS], struct pw_rail out[PW_PAIRS]);

#endif
