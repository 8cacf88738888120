/* SPDX-License-Identifier: BSD-3-Clause */
/* hooks_sites.h - the calls that are patched, and the C library's functions they are in.
 *
 * Others patch too. Open MPI's patcher and UCX's UCM overwrite the first 12 or 13
 * bytes of the C library's functions with a jump to their own; these make the call
 * by syscall(), which is patched here, so they are left alone: a function is either
 * hooked (its system call is patched) or joined (somebody else's jump is at its
 * entry, and a trial call of it was seen to arrive).
 *
 * One thread at a time. What looks at code does so inside of dl_iterate_phdr(), whose
 * lock keeps it loaded.
 */
#ifndef PINWHEEL_HOOKS_SITES_H
#define PINWHEEL_HOOKS_SITES_H

#include <link.h>
#include <stdbool.h>
#include <stdint.h>

#include "patch.h"
#include "pinwheel/monitor.h"

/* Is addr in a segment of that object? */
bool pw_object_contains(const struct dl_phdr_info *info, uintptr_t addr);

/* Patch there, and have who makes that page writable noticed. 0, or as
 * pw_patch_lay() and pw_patch_arm(); -ENOSPC too when there are too many. */
int pw_sites_add(const struct pw_text *text, uintptr_t at, enum pw_patch_kind kind);

/* In this order, for all objects in turn: forget what is in none of them. */
void pw_sites_unsee(void);
void pw_sites_see(const struct dl_phdr_info *info);
void pw_sites_drop_unseen(void);

/* Is everything, functions too, as it was left? mend: what can be. */
bool pw_sites_as_left(void);
void pw_sites_mend(void);

/* Is a call in that range patched, and nobody else's jump upon it? */
bool pw_sites_any_in(struct pw_range range);

/* The functions. find: where they begin in libc, a handle of dlopen(). measure: where they
 * end, by its frames. settle: what has become of each, once the library's calls are
 * patched. found: has find been called? */
void pw_functions_find(void *libc);
bool pw_functions_found(void);
void pw_functions_measure(const struct pw_frames *frames);
void pw_functions_settle(void);

/* Where syscall() is, which makes any call. */
struct pw_range pw_functions_any(void);

/* Where the function that begins there ends, or 0. */
uintptr_t pw_function_end(const struct pw_frames *frames, uintptr_t start);

/* Does each function that somebody else has patched still come by here? Who patched
 * may want locks: so outside of dl_iterate_phdr(). */
void pw_functions_try(void);

#endif
