/* SPDX-License-Identifier: BSD-3-Clause */
/* scan.h - where machine code makes system calls by itself. x86_64 only. */
#ifndef PINWHEEL_SCAN_H
#define PINWHEEL_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pw_raw_call {
    const unsigned char *at;    /* the bytes of a syscall instruction */
    int nr;                     /* the constant loaded before it, or -1 */
    unsigned apart;             /* bytes between the two */

    /* By what stands around it this is an instruction, not two bytes of others. */
    bool certain;
};

/* Call visit for each place in [code, code + size) that may be a system call. */
void pw_scan(const void *code, size_t size,
             void (*visit)(void *ctx, const struct pw_raw_call *call), void *ctx);

/* Is it one that may change memory unseen, or set up a ring that can? */
bool pw_scan_dangerous(const struct pw_raw_call *call);

/* Is it one whose changes userfaultfd may not tell of: madvise(MADV_GUARD_INSTALL),
 * shmat(SHM_REMAP), or a ring that can do the first; or mmap and mremap, for
 * who is given addresses that an munmap past the C library has just left is faster
 * than the tale? */
bool pw_scan_untold(const struct pw_raw_call *call);

#endif
