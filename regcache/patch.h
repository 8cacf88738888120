/* SPDX-License-Identifier: BSD-3-Clause */
/* patch.h - make two bytes of running code go elsewhere.
 *
 * Only two bytes of an instruction stream are ever changed, by one store within
 * one cache line, from one whole instruction to another (a short jump): a thread
 * runs the old or the new one, wherever it is. Where the two bytes are a syscall
 * instruction, a thread about to make the call is caught too.
 *
 * The short jump goes to padding between two functions, which nobody runs; there a
 * long jump goes to a stub on a page of ours near the object; and that brings the
 * registers to where they are wanted.
 *
 * One thread at a time. x86_64 only.
 */
#ifndef PINWHEEL_PATCH_H
#define PINWHEEL_PATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "frames.h"

/* Executable code of one object, as loaded. */
struct pw_text {
    uintptr_t start, end;
    int prot;                   /* PROT_* of its pages */
    struct pw_frames frames;
};

enum pw_patch_kind {
    PW_PATCH_SYSCALL,           /* a syscall instruction; goes to pw_hooks_enter */
    PW_PATCH_NOTICE,            /* a function that only returns; goes to
                                 * pw_hooks_objects_changed */
};

struct pw_site {
    uintptr_t at;               /* the two bytes */
    uintptr_t pad, stub;
    unsigned char was[2], now[2];
    int prot;
};

/* Lay the way from `at` to the entry, all but its first step. 0, or
 * -ENOSPC   no padding in reach, or the two bytes lie in two cache lines
 * -ENOMEM   no free address space near the object
 * -EPERM    the code may not be changed (SELinux, for one) */
int pw_patch_lay(const struct pw_text *t, uintptr_t at, enum pw_patch_kind kind,
                 struct pw_site *site);

/* The first step. All processors see what was laid before they can take it. 0, or
 * -EPERM. */
int pw_patch_arm(const struct pw_site *site);

/* Is it as pw_patch_arm() left it? Or as it was before, with the way still there? */
bool pw_patch_intact(const struct pw_site *site);
bool pw_patch_undone(const struct pw_site *site);

/* Forget what was laid in code that is no longer loaded. */
void pw_patch_forget(const struct pw_site *site);

#endif
