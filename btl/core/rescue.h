/* SPDX-License-Identifier: BSD-3-Clause */
/* rescue.h - a stream that does not come, for its owner computes.
 *
 * An owner that is not in MPI answers no request. Where the kernel reaches its memory,
 * a get that has waited about as long as the kernel's copy takes is called off and
 * copied by the kernel: so whoever waits in MPI goes on, whatever the other one does.
 */
#ifndef PW_RESCUE_H
#define PW_RESCUE_H

#include "core.h"

/* A streamed get that may be called off: the NIC of `path` reaches its owner's memory
 * by the kernel, at once and without a key. */
bool pw_rescue_possible(const struct pw_path *path, enum pw_reach reach);

/* From progress, when nothing has happened for a while and e->n_rescues is not 0.
 * Returns the number of gets that were ended. */
int pw_rescue_look(struct pw_engine *e, uint64_t now_ns);

#endif
