/* SPDX-License-Identifier: BSD-3-Clause */
/* topology.h - what two cores share: caches, memory, the package. By hwloc. */
#ifndef PW_MATRIX_TOPOLOGY_H
#define PW_MATRIX_TOPOLOGY_H

#include "matrix.h"
#include "tools/json.h"

/* 0, or -ENOSYS  built without hwloc
 *       -errno   hwloc could not tell. *out is NULL then. */
int pw_topology_open(struct pw_topology **out);
void pw_topology_close(struct pw_topology *t);

/* The version of hwloc that this was built with; "" without it. */
void pw_topology_version(char out[PW_TEXT]);

/* Fills what the pair shares. */
void pw_topology_pair(const struct pw_topology *t, struct pw_pair *pair);

/* The machine, and where each of the cores is, as the value of key; null when t is
 * NULL. */
void pw_topology_write(const struct pw_topology *t, struct pw_json *j, const char *key,
                       const int core[], int n_cores);

#endif
