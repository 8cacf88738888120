/* SPDX-License-Identifier: BSD-3-Clause */
/* cores.c - how much CPU this process may use. */
#include "cores.h"

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>

static bool affinity(cpu_set_t *set)
{
    CPU_ZERO(set);
    return sched_getaffinity(0, sizeof *set, set) == 0 && CPU_COUNT(set) > 0;
}

int pw_cpus_usable(void)
{
    cpu_set_t set;

    return affinity(&set) ? CPU_COUNT(&set) : 1;
}

/* The lowest-numbered usable thread of cpu's core; cpu itself when unknown. The
 * list is like 0,4 or 0-1 (Linux, Documentation/admin-guide/cputopology.rst). */
static int core_leader(int cpu, const cpu_set_t *usable)
{
    char path[96];
    int from, to, leader = cpu;
    FILE *f;

    snprintf(path, sizeof path,
             "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    f = fopen(path, "re");
    if (!f)
        return cpu;
    while (fscanf(f, "%d", &from) == 1) {
        int next = fgetc(f);

        to = from;
        if (next == '-') {
            if (fscanf(f, "%d", &to) != 1)
                break;
            next = fgetc(f);
        }
        for (int i = from; i <= to && i < CPU_SETSIZE; i++)
            if (i >= 0 && i < leader && CPU_ISSET(i, usable))
                leader = i;
        if (next != ',')
            break;
    }
    fclose(f);
    return leader;
}

/* The n-th core's leader. Behind the last: -1, and *cores says how many there are. */
static int core_leader_at(const cpu_set_t *usable, int n, int *cores)
{
    *cores = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, usable) && core_leader(cpu, usable) == cpu && (*cores)++ == n)
            return cpu;
    return -1;
}

int pw_cores_usable(void)
{
    cpu_set_t set;
    int cores;

    if (!affinity(&set))
        return 1;
    core_leader_at(&set, CPU_SETSIZE, &cores);
    return cores;
}

int pw_core_at(int n)
{
    cpu_set_t set;
    int cores;

    return affinity(&set) ? core_leader_at(&set, n, &cores) : -1;
}
