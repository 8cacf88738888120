/* SPDX-License-Identifier: BSD-3-Clause */
/* still.h - threads that write to these pages wait for a moment.
 *
 * By userfaultfd's write protection, which the kernel has for shared memory since
 * Linux 5.19. A writer sleeps in its page fault, whether it writes by itself or in
 * a system call; nobody gets a signal. It takes the right to handle faults of the
 * kernel (CAP_SYS_PTRACE, or vm.unprivileged_userfaultfd=1): without that a
 * thread inside read(2) would get EFAULT, so then nobody is stopped.
 */
#ifndef PINWHEEL_STILL_H
#define PINWHEEL_STILL_H

#include <stddef.h>

struct pw_still {
    int fd;             /* of userfaultfd; -1 nobody is stopped */
    void *base;
    size_t size;
};

/* base, size: a mapping; who writes to what pw_still_hold() names, any part of it
 * in whole pages (of the mapping's size of page), waits for pw_still_end(). The
 * caller must not write there itself.
 * 0, or -errno: nobody waits, and s->fd is -1. */
int pw_still_begin(struct pw_still *s, void *base, size_t size);
int pw_still_hold(struct pw_still *s, void *start, size_t len);
void pw_still_end(struct pw_still *s);  /* nothing when s->fd is -1 */

/* In a child forked in between: its own memory is not concerned. */
void pw_still_forget(struct pw_still *s);

#endif
