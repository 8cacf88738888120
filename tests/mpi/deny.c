/* SPDX-License-Identifier: BSD-3-Clause */
/* deny.c - run a command on a kernel that lacks or forbids some system calls.
 *
 *     deny CALL[,CALL...]:ERRNO ... -- COMMAND ARGS
 *     deny process_vm_readv,process_vm_writev:EPERM membarrier:ENOSYS -- ./a
 *
 * A seccomp filter answers those calls with that error, for the command and all
 * that it starts. Exits 125 when it cannot be set up.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define THIS_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define THIS_ARCH AUDIT_ARCH_AARCH64
#else
#error "deny.c does not know this architecture"
#endif

static const struct { const char *name; int number; } calls[] = {
    { "memfd_create", __NR_memfd_create },
    { "process_vm_readv", __NR_process_vm_readv },
    { "process_vm_writev", __NR_process_vm_writev },
    { "membarrier", __NR_membarrier },
    { "userfaultfd", __NR_userfaultfd },
    { "pidfd_open", __NR_pidfd_open },
    { "madvise", __NR_madvise },
    { "mlock", __NR_mlock },
    { "fallocate", __NR_fallocate },
};

static const struct { const char *name; int number; } errors[] = {
    { "EPERM", EPERM }, { "ENOSYS", ENOSYS }, { "EACCES", EACCES }, { "ENOMEM", ENOMEM },
    { "EINVAL", EINVAL }, { "EMFILE", EMFILE }, { "ENOSPC", ENOSPC },
};

enum { MAX_CALLS = 64 };

static struct sock_filter program[4 + 2 * MAX_CALLS + 1];
static unsigned short length;

static void emit(struct sock_filter instruction)
{
    program[length++] = instruction;
}

static int refuse(const char *why, const char *what)
{
    fprintf(stderr, "deny: %s: %s\n", what, why);
    return -1;
}

static int error_number(const char *name)
{
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
        if (strcmp(errors[i].name, name) == 0)
            return errors[i].number;
    return refuse("not an error it knows", name);
}

static int deny(const char *name, int error)
{
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        if (strcmp(calls[i].name, name) != 0)
            continue;
        if (length > 2 * MAX_CALLS)
            return refuse("too many calls", name);
        emit((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
                                          (unsigned)calls[i].number, 0, 1));
        emit((struct sock_filter)BPF_STMT(BPF_RET | BPF_K,
                                          SECCOMP_RET_ERRNO | (unsigned)error));
        return 0;
    }
    return refuse("not a system call it knows", name);
}

/* One argument: CALL[,CALL...]:ERRNO */
static int deny_all(char *arg)
{
    char *colon = strchr(arg, ':'), *save = NULL;
    int error;

    if (!colon)
        return refuse("wants CALL:ERRNO", arg);
    *colon = '\0';
    error = error_number(colon + 1);
    if (error < 0)
        return -1;
    for (char *c = strtok_r(arg, ",", &save); c; c = strtok_r(NULL, ",", &save))
        if (deny(c, error))
            return -1;
    return 0;
}

int main(int argc, char **argv)
{
    struct sock_fprog filter = { .filter = program };
    int i;

    emit((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                                      offsetof(struct seccomp_data, arch)));
    /* Calls of another architecture (32 bit) pass: nothing here makes any. */
    emit((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, THIS_ARCH, 1, 0));
    emit((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    emit((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                                      offsetof(struct seccomp_data, nr)));
    for (i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (deny_all(argv[i]))
            return 125;
    if (i + 1 >= argc) {
        fprintf(stderr, "usage: deny CALL[,CALL...]:ERRNO ... -- COMMAND ARGS\n");
        return 125;
    }
    emit((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    filter.len = length;

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter)) {
        perror("deny: seccomp");
        return 125;
    }
    execvp(argv[i + 1], argv + i + 1);
    perror(argv[i + 1]);
    return 125;
}
