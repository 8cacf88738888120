/* SPDX-License-Identifier: BSD-3-Clause */
/* stale_raw_object.c - a shared object that talks to the kernel itself, as language
 * run times and some libraries do. */
#include <linux/sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/syscall.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT long stale_raw_any(long nr, long a, long b, long c, long d, long e, long f);

static long any(long nr, long a, long b, long c, long d, long e, long f)
{
    return stale_raw_any(nr, a, b, c, d, e, f);
}
#define STALE_SYSCALL any
#include "tests/cache/stale_ring.h"

EXPORT long stale_raw_munmap(void *addr, size_t len);
EXPORT long stale_raw_clone_munmap(void *addr, size_t len);
EXPORT int stale_raw_ring_madvise(void *addr, size_t len, int advice);

#ifdef __x86_64__
long stale_raw_any(long nr, long a, long b, long c, long d, long e, long f)
{
    long r;
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    __asm__ volatile("syscall" : "=a"(r)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return r;
}

long stale_raw_munmap(void *addr, size_t len)
{
    long r;
    __asm__ volatile("mov %1, %%eax\n\tsyscall" : "=&a"(r)
                     : "i"(SYS_munmap), "D"(addr), "S"(len) : "rcx", "r11", "memory");
    return r;
}

/* The child runs on the stack of its parent, as with vfork, and touches none of
 * it: all is in registers. It ends with 0 when munmap did what it should. */
long stale_raw_clone_munmap(void *addr, size_t len)
{
    long child;
    register void *r12 __asm__("r12") = addr;
    register size_t r13 __asm__("r13") = len;
    register long r10 __asm__("r10") = 0, r8 __asm__("r8") = 0;
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "mov %[unmap], %%eax\n\t"
                     "mov %%r12, %%rdi\n\t"
                     "mov %%r13, %%rsi\n\t"
                     "syscall\n\t"
                     "mov %%eax, %%edi\n\t"
                     "mov %[exit], %%eax\n\t"
                     "syscall\n"
                     "1:"
                     : "=a"(child)
                     : "a"(SYS_clone), "D"(CLONE_VM | CLONE_VFORK | SIGCHLD), "S"(0), "d"(0),
                       "r"(r10), "r"(r8), "r"(r12), "r"(r13),
                       [unmap] "i"(SYS_munmap), [exit] "i"(SYS_exit)
                     : "rcx", "r11", "memory", "cc");
    return child;
}
#else
long stale_raw_any(long nr, long a, long b, long c, long d, long e, long f)
{
    (void)nr, (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
    return -ENOSYS;
}
long stale_raw_munmap(void *addr, size_t len)
{
    (void)addr, (void)len;
    return -ENOSYS;
}
long stale_raw_clone_munmap(void *addr, size_t len)
{
    (void)addr, (void)len;
    return -ENOSYS;
}
#endif

int stale_raw_ring_madvise(void *addr, size_t len, int advice)
{
    return stale_ring_madvise(addr, len, advice);
}
