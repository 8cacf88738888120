/* SPDX-License-Identifier: BSD-3-Clause */
/* compat.h - Open MPI's headers, and everything that depends on its version.
 *
 * Built for 4.1. What 5.0 and 6.0 change (receive callback, PMIx, accelerator
 * flags) comes here and nowhere else. The loader does not check the version of
 * the BTL interface, so pw_ompi_is_ours() does.
 */
#ifndef PW_COMPAT_H
#define PW_COMPAT_H

#include "opal_config.h"

#include "opal/class/opal_bitmap.h"
#include "opal/class/opal_free_list.h"
#include "opal/constants.h"
#include "opal/datatype/opal_convertor.h"
#include "opal/mca/btl/base/base.h"
#include "opal/mca/btl/btl.h"
#include "opal/mca/mpool/base/base.h"
#include "opal/mca/mpool/mpool.h"
#include "opal/mca/pmix/pmix.h"
#include "opal/runtime/opal.h"
#include "opal/threads/mutex.h"
#include "opal/util/output.h"
#include "opal/util/proc.h"
#include "opal/version.h"

#include "ompi/communicator/communicator.h"
#include "ompi/constants.h"
#include "ompi/mca/osc/base/base.h"
#include "ompi/mca/osc/osc.h"
#include "ompi/proc/proc.h"
#include "ompi/win/win.h"

/* The series that this object was compiled against, "4.1". A test builds an
 * object for another one. */
#ifndef PW_OMPI_SERIES
#define PW_STRING_(x) #x
#define PW_STRING(x) PW_STRING_(x)
#define PW_OMPI_SERIES PW_STRING(OPAL_MAJOR_VERSION) "." PW_STRING(OPAL_MINOR_VERSION)
#endif

/* Is the Open MPI that loaded us of that series? Its version is text such as
 * "4.1.4", or "v4.1.4, ident ..." where it was built from a repository. */
static inline bool pw_ompi_is_ours(const char *version)
{
    size_t n = strlen(PW_OMPI_SERIES);

    version += *version == 'v';
    return !strncmp(version, PW_OMPI_SERIES, n) && version[n] == '.';
}

#endif
