/* SPDX-License-Identifier: BSD-3-Clause */
/* hooks_objects.h - one loaded object: which of its calls are patched, who passes by.
 *
 * What else is told of them: pw_hooks_check_code() and pw_hooks_told_of_objects(), in
 * hooks_install.h.
 */
#ifndef PINWHEEL_HOOKS_OBJECTS_H
#define PINWHEEL_HOOKS_OBJECTS_H

#include <link.h>
#include <stdbool.h>

#include "pinwheel/monitor.h"

/* Find the C library's functions and the dynamic linker. 0, or -ENODEV and a sentence:
 * there is no such library. Outside of dl_iterate_phdr(). */
int pw_objects_find_libc(char why[PW_MONITOR_WHY_MAX]);

/* From within dl_iterate_phdr(), under the survey's lock. Each object is looked through
 * once; the C library again where something is amiss. */
void pw_objects_look(const struct dl_phdr_info *info, bool amiss);

#endif
