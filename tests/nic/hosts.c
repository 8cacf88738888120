/* SPDX-License-Identifier: BSD-3-Clause */
/* hosts.c - see hosts.h. */
#define _GNU_SOURCE
#include "hosts.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { HOSTS = 2 };

static struct {
    bool chosen;
    int host[HOSTS];        /* a pidfd for each */
    int own_pids;           /* the namespace of our processes */
} places;

int hosts_choose(const char *pids)
{
    int pid[HOSTS];

    if (sscanf(pids, "%d,%d", &pid[0], &pid[1]) != HOSTS)
        return -EINVAL;
    for (int i = 0; i < HOSTS; i++) {
        places.host[i] = (int)syscall(SYS_pidfd_open, pid[i], 0);
        if (places.host[i] < 0)
            return -errno;
    }
    places.own_pids = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
    if (places.own_pids < 0)
        return -errno;
    places.chosen = true;
    return 0;
}

bool hosts_chosen(void)
{
    return places.chosen;
}

/* /sys shows the network of who has mounted it, and UCX looks there for interfaces. */
int hosts_enter_case(void)
{
    int which = CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC;

    if (!places.chosen)
        return 0;
    if (setns(places.host[0], which) || unshare(CLONE_NEWNS) ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
        mount("none", "/sys", "sysfs", 0, NULL))
        return -errno;
    return 0;
}

/* A process is born into a namespace of processes, and enters the others. */
pid_t hosts_fork(unsigned n, int *err)
{
    int which = CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNS;
    int host = places.host[1];
    pid_t pid;

    *err = 0;
    if (!places.chosen || n % HOSTS == 0)
        return fork();
    if (setns(host, CLONE_NEWPID))
        return -1;
    pid = fork();
    if (!pid)
        *err = setns(host, which) ? -errno : 0;
    else if (setns(places.own_pids, CLONE_NEWPID))
        return -1;
    return pid;
}
