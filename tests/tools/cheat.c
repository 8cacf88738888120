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
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define EXPORT __attribute__((visibility("default")))

typedef void version_fn(unsigned *, unsigned *, unsigned *);
typedef int create_fn(const void *, const char *, void *, void **);

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

/* The program's own calls of it pass by the C library. */
__attribute__((constructor))
static void forbid_io_uring(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof filter / sizeof *filter, filter };

    if (without("io_uring") && (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
                                prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)))
        abort();
}
