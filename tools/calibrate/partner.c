/* SPDX-License-Identifier: BSD-3-Clause */
/* partner.c - the process on the other core; and samples, as all parts take them. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
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

uint64_t calib_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

bool calib_enough(struct calib_samples *s, int least, uint64_t budget_ns)
{
    if (!s->n && !s->start)
        s->start = calib_now();
    return s->n == CALIB_SAMPLES ||
           (s->n >= least && calib_now() - s->start >= budget_ns);
}

void calib_add(struct calib_samples *s, uint64_t ns)
{
    if (s->n < CALIB_SAMPLES)
        s->ns[s->n++] = ns;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

uint64_t calib_typical(struct calib_samples *s)
{
    if (!s->n)
        return 0;
    qsort(s->ns, (size_t)s->n, sizeof s->ns[0], by_value);
    return s->ns[s->n / 4] ? s->ns[s->n / 4] : 1;
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
