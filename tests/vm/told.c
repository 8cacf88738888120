/* SPDX-License-Identifier: BSD-3-Clause */
/* told.c - see told.h. */
#define _GNU_SOURCE
#include "told.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HANGS_S = 200 };

unsigned failures;

void fail(const char *file, int line, const char *what, const char *format, ...)
{
    int err = errno;
    va_list args;

    printf("%s:%d: %s", strrchr(file, '/') ? strrchr(file, '/') + 1 : file, line, what);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf(" (%s)\n", strerror(err));
    fflush(stdout);
    failures++;
}

void give_up(const char *what)
{
    printf("%s: %m\nWRONG %s\n", what, what);
    fflush(stdout);
    _exit(1);
}

pid_t child(void (*run)(void *), void *arg)
{
    pid_t pid;

    fflush(stdout);
    pid = fork();
    if (pid < 0)
        give_up("fork");
    if (pid)
        return pid;
    failures = 0;
    alarm(HANGS_S);
    run(arg);
    fflush(stdout);
    _exit(failures != 0);
}

int ended(pid_t pid)
{
    int status = -1;

    /* __WALL: a clone need not end with SIGCHLD. */
    if (waitpid(pid, &status, __WALL) != pid)
        give_up("waitpid");
    return status;
}

void on_one_processor(cpu_set_t *all)
{
    cpu_set_t one;

    CPU_ZERO(&one);
    CPU_SET(0, &one);
    if (sched_getaffinity(0, sizeof *all, all) || sched_setaffinity(0, sizeof one, &one))
        give_up("sched_setaffinity");
}

void on_all_processors(const cpu_set_t *all)
{
    if (sched_setaffinity(0, sizeof *all, all))
        give_up("sched_setaffinity");
}

long number_of(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char text[32] = "";

    /* Without malloc: stories count what changes their memory. */
    if (fd < 0 || read(fd, text, sizeof text - 1) <= 0)
        give_up(path);
    close(fd);
    return atol(text);
}

long counter(const char *name)
{
    char path[128];

    snprintf(path, sizeof path, "/sys/class/misc/pinwheel/counters/%s", name);
    return number_of(path);
}
