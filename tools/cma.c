/* SPDX-License-Identifier: BSD-3-Clause */
/* cma.c - see cma.h. */
#include "cma.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>

int pw_cma_read(pid_t from, void *to, const void *at, size_t len)
{
    struct iovec local = { to, len }, remote = { (void *)(uintptr_t)at, len };
    ssize_t n = process_vm_readv(from, &local, 1, &remote, 1, 0);

    if (n == (ssize_t)len)
        return 0;
    return n < 0 ? -errno : -EIO;
}

int pw_cma_why(int err, char *why, size_t len)
{
    if (err == -EPERM || err == -EACCES)
        snprintf(why, len, "process_vm_readv is forbidden: %s (a container's seccomp "
                 "filter or kernel.yama.ptrace_scope can do that)", strerror(-err));
    else
        snprintf(why, len, "process_vm_readv: %s", strerror(-err));
    return err;
}
