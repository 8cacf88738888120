/* SPDX-License-Identifier: BSD-3-Clause */
/* hooks_entry.h - what runs in the place of a patched syscall instruction.
 *
 * The rules for everything reached from here: general registers only, no lock, no
 * allocation, nothing of the C library, errno and the program's stack below the
 * red zone untouched. It may run inside malloc, in a signal handler, in a child
 * made by vfork or clone(CLONE_VM), and in the dynamic linker.
 */
#ifndef PINWHEEL_HOOKS_ENTRY_H
#define PINWHEEL_HOOKS_ENTRY_H

#include <stdint.h>

#include "hooks_effects.h"
#include "records.h"

enum { PW_TEXT_PAGES = 64 };

/* Causes in the records that changes() does not hand out as they are. */
enum {
    PW_CAUSE_OBJECTS = 1 << 16,     /* the dynamic linker loaded or unloaded */
    PW_CAUSE_CODE = 1 << 17,        /* this range was made executable */
};

/* The one interception of this process. What the entry reads is written before the
 * first patch, or atomically. */
struct pw_hooks {
    struct pw_records *records;
    struct pw_range loader;             /* the dynamic linker's text */

    /* Calls to look at, a bit each. All others, and all when nobody listens, take
     * the short way: the bare instruction, no stack. */
    uint64_t numbers[8];

    /* Pages that hold patched code, and who made them writable: another patcher. */
    uintptr_t text[PW_TEXT_PAGES];
    unsigned n_text;
    uint64_t text_writable;             /* a bit each */

    uint64_t rings;                     /* io_uring was asked for */
    uint64_t objects;                   /* times the dynamic linker told of any */

    /* How many listeners hear too late of munmap past the C library, when another
     * thread may have the addresses: they are told of what a call was given, too. */
    uint64_t late;

    /* A test's: told +1 and -1 at both ends of a hook; else NULL. */
    void (*witness)(int);
};
extern struct pw_hooks pw_hooks;

/* Where stubs jump to: patch.c. In assembly: the address to go on at lies on the
 * stack, 136 bytes below where the stack was. */
void pw_hooks_enter(void);

/* Called by the dynamic linker in place of its empty _dl_debug_state(). */
void pw_hooks_objects_changed(void);

/* Is somebody else writing to patched pages, or could? */
static inline int pw_hooks_meddled(void)
{
    return __atomic_load_n(&pw_hooks.text_writable, __ATOMIC_ACQUIRE) != 0;
}

#endif
