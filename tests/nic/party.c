/* SPDX-License-Identifier: BSD-3-Clause */
/* party.c - see party.h. */
#include "hosts.h"
#include "party.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static unsigned parties;    /* of this process that have not ended */

void *shared_alloc(size_t size)
{
    void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                     -1, 0);

    REQUIRE(mem != MAP_FAILED);
    return mem;
}

static void *thread_main(void *arg)
{
    struct party *p = arg;

    p->main(p);
    close(p->self_fd);
    return NULL;
}

void party_start(struct party *p, const struct subject *subject,
                 void (*main)(struct party *self), void *arg)
{
    int fds[2], err;

    CHECK(case_has_parties());
    memset(p, 0, sizeof *p);
    p->subject = subject;
    p->main = main;
    p->arg = arg;
    REQUIRE_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    p->fd = fds[0];
    p->self_fd = fds[1];
    if (subject->one_process) {
        REQUIRE_EQ(pthread_create(&p->thread, NULL, thread_main, p), 0);
        return;
    }
    fflush(NULL);
    p->pid = hosts_fork(++parties, &err);
    REQUIRE(p->pid >= 0);
    if (!p->pid) {
        REQUIRE_EQ(err, 0);
        close(p->fd);
        main(p);
        exit(case_failed());
    }
    close(p->self_fd);
}

bool party_killed(const struct party *self)
{
    return __atomic_load_n(&self->killed, __ATOMIC_ACQUIRE);
}

void party_kill(struct party *p)
{
    if (p->subject->one_process) {
        struct rig *rig = __atomic_load_n(&p->rig, __ATOMIC_ACQUIRE);

        p->subject->die(rig->nic);
        __atomic_store_n(&p->killed, 1, __ATOMIC_RELEASE);
        REQUIRE_EQ(pthread_join(p->thread, NULL), 0);
    } else {
        REQUIRE_EQ(kill(p->pid, SIGKILL), 0);
        REQUIRE_EQ(waitpid(p->pid, NULL, 0), p->pid);
        parties--;
    }
    close(p->fd);
}

void party_end(struct party *p)
{
    struct pollfd poll_fd = { .fd = p->fd };
    int status = 0;

    /* It closes its end when main returns, or by dying. */
    while (!poll(&poll_fd, 1, 0))
        pump();
    if (p->subject->one_process) {
        REQUIRE_EQ(pthread_join(p->thread, NULL), 0);
    } else {
        REQUIRE_EQ(waitpid(p->pid, &status, 0), p->pid);
        CHECK_EQ(status, 0);
        parties--;
    }
    close(p->fd);
}

void say(int fd, const void *data, size_t len)
{
    REQUIRE_EQ(send(fd, data, len, MSG_NOSIGNAL), (ssize_t)len);
}

void hear(int fd, void *data, size_t len)
{
    struct deadline d = deadline_patient();
    size_t got = 0;

    while (got < len) {
        ssize_t n = recv(fd, (char *)data + got, len - got, MSG_DONTWAIT);

        if (n > 0) {
            got += (size_t)n;
            continue;
        }
        REQUIRE(n < 0 && (errno == EAGAIN || errno == EINTR));
        REQUIRE(pump_before(&d));
    }
}

void rig_meet(struct rig *rig, struct conn *conn, int fd)
{
    rig_meet_like(rig, conn, fd, &(struct conn){ .arg = NULL });
}

void rig_meet_like(struct rig *rig, struct conn *conn, int fd, const struct conn *like)
{
    uint8_t address[PW_NIC_ADDRESS_MAX];
    uint64_t len = rig->address_len;
    char connected = 1;

    say(fd, &len, sizeof len);
    say(fd, rig->address, rig->address_len);
    hear(fd, &len, sizeof len);
    REQUIRE(len <= sizeof address);
    hear(fd, address, len);
    rig_connect_like(rig, conn, address, len, like);
    say(fd, &connected, 1);
    hear(fd, &connected, 1);
}
