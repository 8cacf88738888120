/* SPDX-License-Identifier: BSD-3-Clause */
/* hooks_install.h - have every system call of interest pass by hooks_entry.c.
 *
 * One interception for the process; it stays once it is there. Any thread; none
 * from a signal handler. May take the dynamic linker's lock, so call with no lock
 * held that a constructor or a dl_iterate_phdr() callback may want.
 */
#ifndef PINWHEEL_HOOKS_INSTALL_H
#define PINWHEEL_HOOKS_INSTALL_H

#include <stdbool.h>

#include "pinwheel/monitor.h"

/* Patch what is not patched yet, and listen. Each success is to be followed by one
 * pw_hooks_release(): the last one stops listening, the patches stay. 0; or -ENODEV,
 * -EPERM, -ENOMEM with a sentence that says what is missing.
 *
 * alone, here and below: code that makes its system calls past the C library is a
 * reason to refuse. Otherwise somebody else sees to it. */
int pw_hooks_acquire(bool alone, char why[PW_MONITOR_WHY_MAX]);
void pw_hooks_release(void);

/* Is everything seen? Looks whether objects were loaded or somebody else has
 * patched since, mends what can be mended (then the word moves, and everything is
 * told as lost), and looks through what is new. false, for good: pw_hooks_blind()
 * says why. */
bool pw_hooks_check(bool alone);

/* This range was made executable: what does it hold? It may be gone by now. */
void pw_hooks_check_code(struct pw_range range);

/* Why not everything is seen, a sentence; NULL: it is. */
const char *pw_hooks_blind(bool alone);

/* Why something may be seen neither by the interception nor by userfaultfd, a
 * sentence; NULL: nothing is known of. What pw_hooks_check() found last. */
const char *pw_hooks_untold(void);

/* For hooks_objects.c: may the dynamic linker be asked? Not in a child that was forked
 * beside other threads. */
bool pw_hooks_may_ask(void);

/* Does the word move when the dynamic linker has loaded something? */
bool pw_hooks_told_of_objects(void);

#endif
