/* SPDX-License-Identifier: BSD-3-Clause */
/* cheat.c - a machine without, for the tests of pwbench regcache.
 *
 * Preloaded into one of its programs. PW_CHEAT says what is missing:
 *   ucx-1.13     UCX says it is 1.14
 *   ucs_rcache   UCX makes no cache
 *   io_uring     the kernel has none
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#define EXPORT __attribute__((visibility("default")))

typedef void version_fn(unsigned *, unsigned *, unsigned *);
typedef int create_fn(const void *, const char *, void *, void **);
typedef long syscall_fn(long, ...);

static bool without(const char *what)
{
    const char *wanted = getenv("PW_CHEAT");

    return wanted && !strcmp(wanted, what);
}

EXPORT void ucp_get_version(unsigned *major, unsigned *minor, unsigned *release)
{
    ((version_fn *)dlsym(RTLD_NEXT, "ucp_get_version"))(major, minor, release);
    if (without("ucx-1.13"))
        *minor = 14;
}

EXPORT int ucs_rcache_create(const void *params, const char *name, void *stats, void **out)
{
    if (without("ucs_rcache"))
        return -4;  /* UCS_ERR_NO_MEMORY */
    return ((create_fn *)dlsym(RTLD_NEXT, "ucs_rcache_create"))(params, name, stats, out);
}

/* Six words, whatever the call, as the C library passes them on. */
EXPORT long syscall(long number, ...)
{
    long a[6];
    va_list args;

    va_start(args, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(args, long);
    va_end(args);
    if (number == SYS_io_uring_setup && without("io_uring")) {
        errno = ENOSYS;
        return -1;
    }
    return ((syscall_fn *)dlsym(RTLD_NEXT, "syscall"))(number, a[0], a[1], a[2], a[3], a[4],
                                                       a[5]);
}
