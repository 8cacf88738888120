/* SPDX-License-Identifier: BSD-3-Clause */
/* refuse.c - a machine that refuses some calls, for the tests of pwinfo.
 *
 * Preloaded. PW_REFUSE_CMA, PW_REFUSE_MEMFD and PW_REFUSE_MEMBARRIER are the
 * errno that process_vm_readv, memfd_create and membarrier fail with.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

/* Not through syscall(), which is ours. */
static long kernel(long number, long a, long b, long c, long d, long e, long f)
{
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;

    __asm__ volatile("syscall" : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    if (result < 0) {
        errno = (int)-result;
        return -1;
    }
    return result;
}

static int refused(const char *name)
{
    const char *value = getenv(name);

    if (!value)
        return 0;
    errno = atoi(value);
    return 1;
}

EXPORT ssize_t process_vm_readv(pid_t pid, const struct iovec *local, unsigned long n_local,
                                const struct iovec *remote, unsigned long n_remote,
                                unsigned long flags)
{
    if (refused("PW_REFUSE_CMA"))
        return -1;
    return kernel(SYS_process_vm_readv, pid, (long)local, (long)n_local, (long)remote,
                  (long)n_remote, (long)flags);
}

EXPORT int memfd_create(const char *name, unsigned flags)
{
    if (refused("PW_REFUSE_MEMFD"))
        return -1;
    return (int)kernel(SYS_memfd_create, (long)name, (long)flags, 0, 0, 0, 0);
}

EXPORT long syscall(long number, ...)
{
    long arg[6];
    va_list args;

    va_start(args, number);
    for (int i = 0; i < 6; i++)
        arg[i] = va_arg(args, long);
    va_end(args);
    if (number == SYS_membarrier && refused("PW_REFUSE_MEMBARRIER"))
        return -1;
    return kernel(number, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
}
