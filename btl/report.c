/* SPDX-License-Identifier: BSD-3-Clause */
/* report.c - what people and Open MPI are told: lines of output, error codes. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "opal/util/proc.h"
#include "pinwheel.h"

void pw_say(bool once, const char *format, ...)
{
    char line[1024];
    va_list ap;

    if (once && opal_process_info.my_local_rank > 0)
        return;
    va_start(ap, format);
    vsnprintf(line, sizeof(line), format, ap);
    va_end(ap);
    opal_output(0, "pinwheel: %s", line);
}

void pw_tell(int level, const char *format, ...)
{
    char line[1024];
    va_list ap;

    va_start(ap, format);
    vsnprintf(line, sizeof(line), format, ap);
    va_end(ap);
    opal_output_verbose(level, opal_btl_base_framework.framework_output, "pinwheel: %s",
                        line);
}

int pw_opal_error(int err)
{
    switch (err) {
    case 0:            return OPAL_SUCCESS;
    case -EAGAIN:
    case -ENOMEM:      return OPAL_ERR_OUT_OF_RESOURCE;
    case -EOPNOTSUPP:  return OPAL_ERR_NOT_SUPPORTED;
    case -EPIPE:
    case -ECONNRESET:
    case -EHOSTUNREACH: return OPAL_ERR_UNREACH;
    case -EINVAL:
    case -EACCES:
    case -EFAULT:      return OPAL_ERR_BAD_PARAM;
    default:           return OPAL_ERROR;
    }
}
