/* SPDX-License-Identifier: BSD-3-Clause */
/* stale_raw_map.c - a shared object that maps memory past the C library, and does
 * nothing else. */
#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>

__attribute__((visibility("default"))) long stale_map_mmap(void *addr, size_t len,
                                                           long flags);

#ifdef __x86_64__
/* Private anonymous memory. */
long stale_map_mmap(void *addr, size_t len, long flags)
{
    long r;
    register long r10 __asm__("r10") = flags | MAP_PRIVATE | MAP_ANONYMOUS;
    register long r8 __asm__("r8") = -1, r9 __asm__("r9") = 0;
    __asm__ volatile("mov %1, %%eax\n\tsyscall" : "=&a"(r)
                     : "i"(SYS_mmap), "D"(addr), "S"(len), "d"(PROT_READ | PROT_WRITE),
                       "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return r;
}
#else
long stale_map_mmap(void *addr, size_t len, long flags)
{
    (void)addr, (void)len, (void)flags;
    return -ENOSYS;
}
#endif
