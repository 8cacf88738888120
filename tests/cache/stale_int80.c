/* SPDX-License-Identifier: BSD-3-Clause */
/* stale_int80.c - an object that makes a 32-bit system call in a 64-bit process, and
 * no other. */
#include <errno.h>
#include <stddef.h>

__attribute__((visibility("default"))) long stale_int80_munmap(void *addr, size_t len);

long stale_int80_munmap(void *addr, size_t len)
{
#ifdef __x86_64__
    enum { I386_MUNMAP = 91 };
    long r;
    __asm__ volatile("int $0x80" : "=a"(r)
                     : "a"(I386_MUNMAP), "b"(addr), "c"(len)
                     : "r8", "r9", "r10", "r11", "memory");
    return (int)r;
#else
    (void)addr, (void)len;
    return -ENOSYS;
#endif
}
