/* SPDX-License-Identifier: BSD-3-Clause */
/* stale_raw_few.c - a shared object that calls the kernel itself, but only to unmap:
 * the number of each call stands beside it. */
#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/syscall.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT long stale_few_munmap(void *addr, size_t len);
EXPORT long stale_few_clone_munmap(void *addr, size_t len);

#ifdef __x86_64__
long stale_few_munmap(void *addr, size_t len)
{
    long r;
    __asm__ volatile("mov %1, %%eax\n\tsyscall" : "=&a"(r)
                     : "i"(SYS_munmap), "D"(addr), "S"(len) : "rcx", "r11", "memory");
    return r;
}

/* The child runs on the stack of its parent, as with vfork, and touches none of
 * it: all is in registers. It ends with 0 when munmap did what it should. */
long stale_few_clone_munmap(void *addr, size_t len)
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
long stale_few_munmap(void *addr, size_t len)
{
    (void)addr, (void)len;
    return -ENOSYS;
}
long stale_few_clone_munmap(void *addr, size_t len)
{
    (void)addr, (void)len;
    return -ENOSYS;
}
#endif
