/* SPDX-License-Identifier: BSD-3-Clause */
/* hosts.h - the processes of a case on two hosts, which are namespaces that a test has made
 * (tests/net/hosts.sh).
 *
 * The case's own process is on the first host, and of its parties each one of even number;
 * those of odd number, from 1, are on the second and have its network, name, boot_id,
 * /dev/shm and processes. On the first host they have its network, /sys and name, else what is the
 * machine's: no process can be moved among others.
 */
#ifndef PW_NIC_HOSTS_H
#define PW_NIC_HOSTS_H

#include <stdbool.h>
#include <sys/types.h>

/* "PID,PID": a process of each host. 0 or -errno. Before any case. */
int hosts_choose(const char *pids);

bool hosts_chosen(void);

/* In the process of a case, first. 0 or -errno. */
int hosts_enter_case(void);

/* fork() to party number n. In the child *err says whether it is there: 0 or -errno. */
pid_t hosts_fork(unsigned n, int *err);

#endif
