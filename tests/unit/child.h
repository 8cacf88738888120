/* SPDX-License-Identifier: BSD-3-Clause */
/* child.h - parts of a test that run in a process of their own: without a
 * privilege, without a system call, or to see what fork() leaves.
 *
 * A child must not use the test library; it tells by its exit status. */
#ifndef TEST_CHILD_H
#define TEST_CHILD_H

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* What run(arg) returned in a child, 0 to 126; 127 when it died. */
static inline int in_child(int (*run)(void *arg), void *arg)
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0)
        _exit(run(arg));
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
        return 127;
    return WEXITSTATUS(status);
}

/* From now on the kernel answers that system call with that error, for this
 * thread and the ones it makes. The architecture is the one we are built for. */
static inline int deny_call(unsigned number, unsigned error)
{
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = { .len = 4, .filter = program };

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return -1;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
}

/* A user without privileges, who may still look at itself in /proc. */
static inline int become_nobody(void)
{
    return setgid(65534) || setuid(65534) || prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

#endif
