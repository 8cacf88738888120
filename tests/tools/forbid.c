/* SPDX-License-Identifier: BSD-3-Clause */
/* forbid.c - a machine that forbids or lies, for the tests of pwbench matrix.
 *
 * Preloaded. PW_FORBID says what the kernel refuses, as a container's seccomp filter
 * makes it do:
 *   cma        process_vm_readv    EPERM
 *   eventfd    eventfd2            ENOSYS
 *   affinity   sched_setaffinity   EPERM
 *   tcp        connect             ENETUNREACH
 *   fork       clone               EAGAIN
 * PW_LIE changes what process_vm_readv delivers: the first byte of each message, or
 * of each word but the first.
 */
#include <dlfcn.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define EXPORT __attribute__((visibility("default")))

static const struct {
    const char *name;
    unsigned call, error;
} kinds[] = {
    { "cma", SYS_process_vm_readv, EPERM },
    { "eventfd", SYS_eventfd2, ENOSYS },
    { "affinity", SYS_sched_setaffinity, EPERM },
    { "tcp", SYS_connect, ENETUNREACH },
    { "fork", SYS_clone, EAGAIN },
};

static void forbid(unsigned call, unsigned error)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof filter / sizeof *filter, filter };

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        abort();
}

__attribute__((constructor))
static void forbid_all(void)
{
    const char *wanted = getenv("PW_FORBID");

    for (size_t i = 0; wanted && i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(wanted, kinds[i].name))
            forbid(kinds[i].call, kinds[i].error);
}

typedef ssize_t read_fn(pid_t, const struct iovec *, unsigned long, const struct iovec *,
                        unsigned long, unsigned long);

EXPORT ssize_t process_vm_readv(pid_t pid, const struct iovec *local, unsigned long n_local,
                                const struct iovec *remote, unsigned long n_remote,
                                unsigned long flags)
{
    static int words;
    const char *lie = getenv("PW_LIE");
    read_fn *real = (read_fn *)dlsym(RTLD_NEXT, "process_vm_readv");
    ssize_t n = real(pid, local, n_local, remote, n_remote, flags);
    int is_word = local->iov_len == 8;

    words += is_word;
    if (lie && n > 0 && ((!strcmp(lie, "message") && !is_word) ||
                         (!strcmp(lie, "word") && words > 1)))
        ++*(unsigned char *)local->iov_base;
    return n;
}
