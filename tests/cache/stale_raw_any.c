/* SPDX-License-Identifier: BSD-3-Clause */
/* stale_raw_any.c - a shared object that makes any call to the kernel itself, as
 * language run times and some libraries do. */
#include <errno.h>
#include <stddef.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT long stale_raw_any(long nr, long a, long b, long c, long d, long e, long f);

static long any(long nr, long a, long b, long c, long d, long e, long f)
{
    return stale_raw_any(nr, a, b, c, d, e, f);
}
#define STALE_SYSCALL any
#include "tests/cache/stale_ring.h"

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
#else
long stale_raw_any(long nr, long a, long b, long c, long d, long e, long f)
{
    (void)nr, (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
    return -ENOSYS;
}
#endif

int stale_raw_ring_madvise(void *addr, size_t len, int advice)
{
    return stale_ring_madvise(addr, len, advice);
}
