/* SPDX-License-Identifier: BSD-3-Clause */
/* partner.c - the process on the other core; the clock and the sentence of what failed. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "calibrate.h"

char calib_why[PW_CALIB_WHY];

int calib_fail(int err, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    vsnprintf(calib_why, sizeof calib_why, format, ap);
    va_end(ap);
    return err;
}

bool calib_bind(int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    return sched_setaffinity(0, sizeof set, &set) == 0;
}

pid_t calib_partner(int cpu, void (*work)(void *arg), void *arg)
{
    pid_t parent = getpid(), pid = fork();

    if (pid != 0)
        return pid < 0 ? -errno : pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent || !calib_bind(cpu))
        _exit(1);
    alarm(60);
    work(arg);
    _exit(0);
}

bool calib_partner_end(pid_t pid)
{
    int status;

    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return false;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}
