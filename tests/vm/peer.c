/* SPDX-License-Identifier: BSD-3-Clause */
/* peer.c - see peer.h. */
#include "peer.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum op { CALL, FILL, WRONG, WORD, SEND, TAKE, FORK, CHILD_READS };

struct order {
    enum op op;
    long arg[7];
};

struct board *board;

uint64_t pattern(uint64_t seed, uint64_t offset)
{
    return seed ? (seed * 0x9e3779b97f4a7c15 ^ (offset / 8 + 1) * 0xd6e8feb86659fd93) | 1 : 0;
}

void pattern_fill(void *p, size_t len, uint64_t seed)
{
    volatile uint64_t *words = p;

    for (size_t i = 0; i < len / 8; i++)
        words[i] = pattern(seed, i * 8);
}

long pattern_wrong(const void *p, size_t len, uint64_t seed)
{
    const volatile uint64_t *words = p;
    long wrong = 0;

    for (size_t i = 0; i < len / 8; i++)
        wrong += words[i] == pattern(seed, i * 8) ? 0 : 8;
    return wrong;
}

/* ---- what a peer does ---- */

static long wait_for_signal(void)
{
    pid_t pid = fork();

    if (pid == 0) {
        prctl(PR_SET_NAME, "waits");
        for (;;)
            pause();
    }
    return pid;
}

static long child_reads(long addr)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        *(volatile char *)addr;
        _exit(0);
    }
    waitpid(pid, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
}

static long send_with(int sock, const void *what, size_t len, int fd)
{
    union { struct cmsghdr header; char bytes[CMSG_SPACE(sizeof(int))]; } control = { 0 };
    struct iovec iov = { (void *)what, len };
    struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };

    if (fd >= 0) {
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    }
    return sendmsg(sock, &message, MSG_NOSIGNAL) == (ssize_t)len ? 0 : -EPIPE;
}

static long receive_with(int sock, void *what, size_t len, int *fd)
{
    union { struct cmsghdr header; char bytes[CMSG_SPACE(sizeof(int))]; } control;
    struct iovec iov = { what, len };
    struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
                              .msg_controllen = sizeof control };

    *fd = -1;
    if (recvmsg(sock, &message, MSG_CMSG_CLOEXEC) != (ssize_t)len)
        return -EPIPE;
    if (CMSG_FIRSTHDR(&message))
        memcpy(fd, CMSG_DATA(&control.header), sizeof *fd);
    return 0;
}

static long obey(const struct order *o, int fd)
{
    const long *a = o->arg;
    long ret;

    switch (o->op) {
    case CALL:
        ret = syscall(a[0], a[1], a[2], a[3], a[4], a[5], a[6]);
        return ret == -1 ? -errno : ret;
    case FILL:
        pattern_fill((void *)a[0], (size_t)a[1], (uint64_t)a[2]);
        return 0;
    case WRONG:
        return pattern_wrong((void *)a[0], (size_t)a[1], (uint64_t)a[2]);
    case WORD:
        return (long)((volatile uint64_t *)a[0])[a[1]];
    case TAKE:
        return fd;
    case FORK:
        return wait_for_signal();
    case CHILD_READS:
        return child_reads(a[0]);
    case SEND:
        return 0;
    }
    return -EINVAL;
}

static void serve(int sock)
{
    struct order o;
    long answer;
    int fd;

    while (receive_with(sock, &o, sizeof o, &fd) == 0) {
        answer = obey(&o, fd);
        send_with(sock, &answer, sizeof answer, o.op == SEND ? (int)o.arg[0] : -1);
    }
    _exit(0);
}

/* ---- what the story does ---- */

void peer_start(struct peer *p)
{
    int pair[2];

    if (!board)
        board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    fflush(stdout);
    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
    p->pid = fork();
    if (p->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(pair[0]);
        serve(pair[1]);
    }
    close(pair[1]);
    p->sock = pair[0];
}

void peer_end(struct peer *p, int signal)
{
    if (!p->pid)
        return;
    kill(p->pid, signal);
    waitpid(p->pid, NULL, 0);
    close(p->sock);
    p->pid = 0;
}

static long ask(struct peer *p, const struct order *o, int give, int *take)
{
    long answer, err;
    int fd;

    err = send_with(p->sock, o, sizeof *o, give);
    if (!err)
        err = receive_with(p->sock, &answer, sizeof answer, &fd);
    if (err)
        return err;
    if (take)
        *take = fd;
    return answer;
}

long peer_call(struct peer *p, const long args[7])
{
    struct order o = { .op = CALL };

    memcpy(o.arg, args, sizeof o.arg);
    return ask(p, &o, -1, NULL);
}

long peer_fill(struct peer *p, long addr, size_t len, uint64_t seed)
{
    return ask(p, &(struct order){ FILL, { addr, (long)len, (long)seed } }, -1, NULL);
}

long peer_wrong(struct peer *p, long addr, size_t len, uint64_t seed)
{
    return ask(p, &(struct order){ WRONG, { addr, (long)len, (long)seed } }, -1, NULL);
}

uint64_t peer_word(struct peer *p, long words, unsigned slot)
{
    return (uint64_t)ask(p, &(struct order){ WORD, { words, slot } }, -1, NULL);
}

long peer_pass(struct peer *from, long fd, struct peer *to)
{
    long ret;
    int here = -1;

    ret = ask(from, &(struct order){ SEND, { fd } }, -1, &here);
    if (ret < 0 || here < 0)
        return ret < 0 ? ret : -EBADF;
    ret = ask(to, &(struct order){ TAKE, { 0 } }, here, NULL);
    close(here);
    return ret;
}

long peer_fork(struct peer *p)
{
    return ask(p, &(struct order){ FORK, { 0 } }, -1, NULL);
}

long peer_child_reads(struct peer *p, long addr)
{
    return ask(p, &(struct order){ CHILD_READS, { addr } }, -1, NULL);
}

long counter(const char *name)
{
    char path[128];
    long value = -1;
    FILE *f;

    snprintf(path, sizeof path, "/sys/class/misc/pinwheel/counters/%s", name);
    f = fopen(path, "r");
    if (!f || fscanf(f, "%ld", &value) != 1)
        value = -1;
    if (f)
        fclose(f);
    return value;
}

bool counter_becomes(const char *name, long value)
{
    for (int i = 0; i < 600; i++) {
        if (counter(name) == value)
            return true;
        usleep(100000);
    }
    return same(counter(name), value, name);
}

bool right(bool is, const char *format, ...)
{
    va_list list;

    printf(is ? "RIGHT " : "WRONG ");
    va_start(list, format);
    vprintf(format, list);
    va_end(list);
    putchar('\n');
    fflush(stdout);
    return is;
}

bool same(long got, long want, const char *what)
{
    if (got != want)
        printf("%s: %ld (0x%lx), and not %ld (0x%lx)\n", what, got, got, want, want);
    return got == want;
}
