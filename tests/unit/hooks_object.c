/* SPDX-License-Identifier: BSD-3-Clause */
/* hooks_object.c - a shared object that unmaps past the C library, for hooks.c. */
#include <stddef.h>
#include <sys/syscall.h>

__attribute__((visibility("default"))) long hooks_object_munmap(void *addr, size_t len);

long hooks_object_munmap(void *addr, size_t len)
{
    long r = -1;

#ifdef __x86_64__
    __asm__ volatile("mov %1, %%eax\n\tsyscall" : "=&a"(r)
                     : "i"(SYS_munmap), "D"(addr), "S"(len) : "rcx", "r11", "memory");
#else
    (void)addr, (void)len;
#endif
    return r;
}
