/* SPDX-License-Identifier: BSD-3-Clause */
/* party.h - the other processes of a conformance case.
 *
 * Start them before any rig is opened: a NIC does not survive fork. Where the
 * subject's NICs see each other within one process only, a party is a thread
 * and its death is acted by the subject.
 */
#ifndef PW_NIC_PARTY_H
#define PW_NIC_PARTY_H

#include <pthread.h>
#include <sys/types.h>

#include "rig.h"

struct party {
    const struct subject *subject;
    void (*main)(struct party *self);
    void *arg;              /* from shared_alloc(), where results are wanted */
    int fd;                 /* to the party, for who started it */
    int self_fd;            /* to who started it, for the party */
    int killed;             /* atomic; threads end their main when it is set */
    struct rig *rig;        /* what dies with it; set by the party */
    pid_t pid;
    pthread_t thread;
};

/* Memory that parties see too; lives as long as the case. */
void *shared_alloc(size_t size);

void party_start(struct party *p, const struct subject *subject,
                 void (*main)(struct party *self), void *arg);

/* kill -9, and wait until it is gone. */
void party_kill(struct party *p);

/* Wait for its main to return; pumps meanwhile. */
void party_end(struct party *p);

/* In the party: has it been killed? Always false in a process. */
bool party_killed(const struct party *self);

/* Exact messages between who started a party and the party. hear() pumps. */
void say(int fd, const void *data, size_t len);
void hear(int fd, void *data, size_t len);

/* Exchange addresses over fd and connect. Returns when both sides have: neither
 * finds that the other has left already. */
void rig_meet(struct rig *rig, struct conn *conn, int fd);
void rig_meet_like(struct rig *rig, struct conn *conn, int fd, const struct conn *like);

#endif
