/* SPDX-License-Identifier: BSD-3-Clause */
/* host.c - what a test takes for a host: the first process of a set of namespaces, and
 * the way in.
 *
 *     host serve SOCKET           is process 1 there; starts what is asked of it
 *     host run SOCKET COMMAND...  asks it: COMMAND runs there with our directory,
 *                                 environment and files 0 to 2; exits as it does
 *
 * One cannot enter the pid namespace of a host from that of another, so nsenter cannot be
 * mpirun's remote shell. A socket in the file system, which hosts share, leads anywhere.
 *
 * As with a remote shell, COMMAND is told to end when who asked for it is gone. All that
 * it leaves is ended by the kernel with process 1.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FDS = 3, CANNOT_RUN = 127, ASKING_FAILED = 125 };

/* In front of the strings: the directory, then arguments, then environment. */
struct request {
    uint32_t args, env;
    uint32_t len;           /* of all the strings, with their ends */
};

extern char **environ;

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "host: %s: %s\n", what, strerror(errno));
    exit(ASKING_FAILED);
}

static int open_socket(const char *path, struct sockaddr_un *addr)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    *addr = (struct sockaddr_un){ .sun_family = AF_UNIX };
    if (fd < 0)
        die("socket");
    if (strlen(path) >= sizeof addr->sun_path) {
        errno = ENAMETOOLONG;
        die(path);
    }
    strcpy(addr->sun_path, path);
    return fd;
}

static bool read_all(int fd, void *to, size_t len)
{
    for (char *at = to; len; ) {
        ssize_t got = read(fd, at, len);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        at += got;
        len -= (size_t)got;
    }
    return true;
}

static bool write_all(int fd, const void *from, size_t len)
{
    for (const char *at = from; len; ) {
        ssize_t put = send(fd, at, len, MSG_NOSIGNAL);

        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return false;
        at += put;
        len -= (size_t)put;
    }
    return true;
}

/* ---- in the host ---- */

/* The request's head comes with our files in its hands. */
static bool take_head(int fd, struct request *q, int files[FDS])
{
    union { struct cmsghdr align; char room[CMSG_SPACE(sizeof(int) * FDS)]; } control;
    struct iovec iov = { q, sizeof *q };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
                        .msg_controllen = sizeof control };
    struct cmsghdr *c;

    if (recvmsg(fd, &m, 0) != sizeof *q)
        return false;
    c = CMSG_FIRSTHDR(&m);
    if (!c || c->cmsg_type != SCM_RIGHTS || c->cmsg_len != CMSG_LEN(sizeof(int) * FDS))
        return false;
    memcpy(files, CMSG_DATA(c), sizeof(int) * FDS);
    return true;
}

static char **next_strings(char **at, uint32_t n)
{
    char **list = calloc(n + 1, sizeof *list);

    for (uint32_t i = 0; list && i < n; i++) {
        list[i] = *at;
        *at += strlen(*at) + 1;
    }
    return list;
}

static _Noreturn void become(const struct request *q, char *strings, const int files[FDS])
{
    const char *dir = strings;
    char *at = strings + strlen(dir) + 1, **args = next_strings(&at, q->args);

    environ = next_strings(&at, q->env);
    for (int i = 0; i < FDS; i++)
        dup2(files[i], i);
    for (int i = 0; i < FDS; i++)
        if (files[i] >= FDS)
            close(files[i]);
    signal(SIGPIPE, SIG_DFL);
    if (!args || !environ || chdir(dir))
        die(dir);
    setsid();
    execvp(args[0], args);
    fprintf(stderr, "host: %s: %s\n", args[0], strerror(errno));
    _exit(CANNOT_RUN);
}

/* Until the command has ended. Who asked may leave before. */
static int await(int fd, pid_t pid)
{
    struct pollfd p[2] = {
        { (int)syscall(SYS_pidfd_open, pid, 0), POLLIN, 0 }, { fd, POLLIN, 0 },
    };
    int status = 0;

    while (!(p[0].revents & POLLIN)) {
        if (poll(p, 2, -1) < 0 && errno != EINTR)
            break;
        if (p[1].revents) {
            if (kill(-pid, SIGTERM))    /* it has no session of its own yet */
                kill(pid, SIGTERM);
            p[1].fd = -1;
            p[1].revents = 0;
        }
    }
    waitpid(pid, &status, 0);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static _Noreturn void attend(int fd)
{
    struct request q;
    int files[FDS], status;
    char *strings;
    pid_t pid;

    signal(SIGCHLD, SIG_DFL);
    if (!take_head(fd, &q, files))
        _exit(1);
    strings = calloc(1, (size_t)q.len + 1);
    if (!strings || !read_all(fd, strings, q.len))
        _exit(1);
    pid = fork();
    if (pid == 0) {
        close(fd);
        become(&q, strings, files);
    }
    for (int i = 0; i < FDS; i++)
        close(files[i]);
    status = pid < 0 ? ASKING_FAILED : await(fd, pid);
    write_all(fd, &status, sizeof status);
    _exit(0);
}

/* Children that we have inherited are nobody's: the kernel reaps them. The socket has its
 * name only when it listens, for who sees it calls. */
static _Noreturn void serve(const char *path)
{
    char before[sizeof ((struct sockaddr_un *)0)->sun_path + 8];
    struct sockaddr_un addr;
    int fd;

    snprintf(before, sizeof before, "%s.new", path);
    fd = open_socket(before, &addr);
    signal(SIGCHLD, SIG_IGN);
    if (bind(fd, (struct sockaddr *)&addr, sizeof addr) || listen(fd, 64) ||
        rename(before, path))
        die(path);
    for (;;) {
        int caller = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

        if (caller < 0)
            continue;
        if (fork() == 0) {
            close(fd);
            attend(caller);
        }
        close(caller);
    }
}

/* ---- outside, or in another host ---- */

static char *append(char *all, size_t *used, const char *text)
{
    size_t len = strlen(text) + 1;

    all = realloc(all, *used + len);
    if (!all)
        die("memory");
    memcpy(all + *used, text, len);
    *used += len;
    return all;
}

static void give_head(int fd, const struct request *q)
{
    union { struct cmsghdr align; char room[CMSG_SPACE(sizeof(int) * FDS)]; } control = { 0 };
    struct iovec iov = { (void *)(uintptr_t)q, sizeof *q };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
                        .msg_controllen = sizeof control };
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);

    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int) * FDS);
    memcpy(CMSG_DATA(c), (int[]){ 0, 1, 2 }, sizeof(int) * FDS);
    if (sendmsg(fd, &m, MSG_NOSIGNAL) != sizeof *q)
        die("the host does not answer");
}

static int run(const char *path, char **args)
{
    struct sockaddr_un addr;
    struct request q = { 0 };
    int fd = open_socket(path, &addr), status;
    size_t used = 0;
    char *all, *dir = getcwd(NULL, 0);

    if (connect(fd, (struct sockaddr *)&addr, sizeof addr))
        die(path);
    all = append(NULL, &used, dir ? dir : "/");
    for (; args[q.args]; q.args++)
        all = append(all, &used, args[q.args]);
    for (; environ[q.env]; q.env++)
        all = append(all, &used, environ[q.env]);
    q.len = (uint32_t)used;
    give_head(fd, &q);
    if (!write_all(fd, all, used) || !read_all(fd, &status, sizeof status)) {
        fprintf(stderr, "host: %s is no more\n", path);
        return ASKING_FAILED;
    }
    return status;
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "serve"))
        serve(argv[2]);
    if (argc > 3 && !strcmp(argv[1], "run"))
        return run(argv[2], argv + 3);
    fprintf(stderr, "usage: host serve SOCKET | host run SOCKET COMMAND...\n");
    return ASKING_FAILED;
}
