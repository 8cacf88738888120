/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_launch.c - run a program, keep what it prints, and never hang.
 *
 * Start at pw_launch(). mpirun puts its ranks into process groups of their own,
 * so ending the group of mpirun would miss them. We are the subreaper instead:
 * whatever mpirun leaves behind becomes our child, and children_end() ends it.
 */
#include "pwbench_launch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"

enum { GRACE_MS = 3000, TICK_MS = 100 };

static volatile sig_atomic_t stop_signal;

struct text {
    int fd;             /* -1 when the other end closed it */
    char *bytes;
    size_t used, room;
};

static void on_stop(int sig)
{
    stop_signal = sig;
}

void pw_launch_prepare(void)
{
    struct sigaction sa = { .sa_handler = on_stop };

    sigemptyset(&sa.sa_mask);
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGHUP, &sa, NULL);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
}

int pw_launch_signal(void)
{
    return stop_signal;
}

void pw_launch_end(void)
{
    if (!stop_signal)
        return;
    signal(stop_signal, SIG_DFL);
    raise(stop_signal);
}

static int64_t now_ms(void)
{
    return pw_clock_ns() / 1000000;
}

/* ---- output ---- */

static int text_init(struct text *t, int fd)
{
    *t = (struct text){ .fd = fd, .room = 4096 };
    t->bytes = malloc(t->room);
    return t->bytes ? 0 : -ENOMEM;
}

static void text_close(struct text *t)
{
    if (t->fd >= 0)
        close(t->fd);
    t->fd = -1;
}

/* All that can be read without waiting. Without memory for more, the rest is
 * read and dropped, so that the program can go on. */
static void text_read(struct text *t)
{
    while (t->fd >= 0) {
        ssize_t got;

        if (t->room - t->used < 2) {
            char *more = realloc(t->bytes, t->room * 2);

            if (more) {
                t->bytes = more;
                t->room *= 2;
            } else {
                t->used = 0;
            }
        }
        got = read(t->fd, t->bytes + t->used, t->room - t->used - 1);
        if (got > 0)
            t->used += (size_t)got;
        else if (got == 0)
            text_close(t);
        else if (errno != EINTR)
            return;
    }
}

static char *text_take(struct text *t)
{
    char *bytes = t->bytes;

    bytes[t->used] = '\0';
    t->bytes = NULL;
    return bytes;
}

/* ---- the child ---- */

static _Noreturn void child_exec(const char *const argv[], const char *const env[],
                                 int out, int err, int report)
{
    int in = open("/dev/null", O_RDONLY);
    int failure;

    prctl(PR_SET_PDEATHSIG, SIGTERM);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    if (in >= 0)
        dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    for (int i = 0; env && env[i]; i++)
        putenv((char *)(uintptr_t)env[i]);

    execvp(argv[0], (char *const *)(uintptr_t)argv);
    failure = errno;
    if (write(report, &failure, sizeof failure) < 0)
        _exit(126);
    _exit(127);
}

/* The report pipe closes on exec; what comes through it is why exec failed. */
static int child_start(const char *const argv[], const char *const env[],
                       struct text *out, struct text *err, pid_t *pid)
{
    int o[2] = { -1, -1 }, e[2] = { -1, -1 }, r[2] = { -1, -1 }, failure = 0;

    if (pipe2(o, O_CLOEXEC) || pipe2(e, O_CLOEXEC) || pipe2(r, O_CLOEXEC)) {
        failure = errno;
        goto close_all;
    }
    *pid = fork();
    if (*pid == 0)
        child_exec(argv, env, o[1], e[1], r[1]);
    if (*pid < 0) {
        failure = errno;
        goto close_all;
    }

    close(r[1]);
    r[1] = -1;
    while (read(r[0], &failure, sizeof failure) < 0 && errno == EINTR)
        ;
    if (failure) {
        waitpid(*pid, NULL, 0);
        goto close_all;
    }
    close(o[1]);
    close(e[1]);
    close(r[0]);
    fcntl(o[0], F_SETFL, O_NONBLOCK);
    fcntl(e[0], F_SETFL, O_NONBLOCK);
    out->fd = o[0];
    err->fd = e[0];
    return 0;

close_all:
    for (int i = 0; i < 2; i++) {
        if (o[i] >= 0)
            close(o[i]);
        if (e[i] >= 0)
            close(e[i]);
        if (r[i] >= 0)
            close(r[i]);
    }
    return -failure;
}

/* Read until the program ends; its status, or -1 at the deadline or when we are
 * asked to stop. The pipes do not tell: a process left behind may hold them. */
static int child_await(pid_t pid, struct text *out, struct text *err, int64_t deadline,
                       int *status)
{
    for (;;) {
        struct pollfd p[2] = { { out->fd, POLLIN, 0 }, { err->fd, POLLIN, 0 } };
        pid_t ended = waitpid(pid, status, WNOHANG);

        text_read(out);
        text_read(err);
        if (ended == pid)
            return 0;
        if (stop_signal || now_ms() >= deadline)
            return -1;
        /* Both pipes closed: poll() would only tick. */
        poll(p, 2, out->fd < 0 && err->fd < 0 ? 5 : TICK_MS);
    }
}

static pid_t parent_of(const char *pid)
{
    char path[64], line[512], *after;
    int parent = 0;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%.20s/stat", pid);
    f = fopen(path, "re");
    if (!f)
        return 0;
    /* The name in parentheses may contain anything, ')' included. */
    if (fgets(line, sizeof line, f) && (after = strrchr(line, ')')) != NULL &&
        sscanf(after + 1, " %*c %d", &parent) != 1)
        parent = 0;
    fclose(f);
    return parent;
}

/* End all children, and those that become our children when they are gone. */
static void children_end(void)
{
    int64_t deadline = now_ms() + GRACE_MS;
    struct timespec pause = { 0, 2 * 1000 * 1000 };

    do {
        DIR *proc = opendir("/proc");
        struct dirent *d;

        while (proc && (d = readdir(proc)) != NULL)
            if (d->d_name[0] >= '1' && d->d_name[0] <= '9' &&
                parent_of(d->d_name) == getpid())
                kill((pid_t)atoi(d->d_name), SIGKILL);
        if (proc)
            closedir(proc);
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
        if (waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD)
            return;
        nanosleep(&pause, NULL);
    } while (now_ms() < deadline);
}

int pw_launch(const char *const argv[], const char *const env[], double seconds,
              struct pw_launch_result *result)
{
    struct text out = { .fd = -1 }, err = { .fd = -1 };
    int status = 0, failure;
    pid_t pid = -1;

    memset(result, 0, sizeof *result);
    failure = text_init(&out, -1);
    if (!failure)
        failure = text_init(&err, -1);
    if (!failure)
        failure = child_start(argv, env, &out, &err, &pid);
    if (failure)
        goto free_text;

    if (child_await(pid, &out, &err, now_ms() + (int64_t)(seconds * 1000), &status)) {
        result->timed_out = !stop_signal;
        kill(pid, SIGTERM);
        for (int64_t until = now_ms() + GRACE_MS; now_ms() < until;) {
            pid_t ended = waitpid(pid, &status, WNOHANG);

            text_read(&out);
            text_read(&err);
            if (ended == pid)
                break;
            poll(NULL, 0, 10);
        }
    }
    children_end();
    text_read(&out);
    text_read(&err);
    text_close(&out);
    text_close(&err);
    if (stop_signal) {
        failure = -EINTR;
        goto free_text;
    }

    result->exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    result->out = text_take(&out);
    result->err = text_take(&err);
    return 0;

free_text:
    free(out.bytes);
    free(err.bytes);
    return failure;
}

void pw_launch_free(struct pw_launch_result *result)
{
    free(result->out);
    free(result->err);
    result->out = result->err = NULL;
}
