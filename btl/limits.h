/* SPDX-License-Identifier: BSD-3-Clause */
/* limits.h - lengths at which a message changes its way, unless a user says otherwise.
 *
 * Bytes, as text where Open MPI wants text. doc/costs.md tells where they come from.
 */
#ifndef PW_LIMITS_H
#define PW_LIMITS_H

#define PW_TEXT_OF(x) #x
#define PW_TEXT(x) PW_TEXT_OF(x)

#define PW_EAGER_LIMIT 16384        /* headers included */
#define PW_EAGER_LIMIT_FAR 65792    /* to ranks of other hosts: 64 KiB and headers */
#define PW_RGET_MIN 65537
#define PW_RGET_MIN_FAR 16384       /* of ranks on other hosts: all that is not eager */

/* With more ranks on the host than cores, where every answer waits for a core. */
#define PW_EAGER_LIMIT_CROWDED 16448
#define PW_RGET_MIN_CROWDED 16384
#define PW_CHUNK 16384              /* where nothing was measured */
#define PW_CHUNK_MOST 65536         /* of long transfers */

#endif
