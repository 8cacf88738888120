/* SPDX-License-Identifier: BSD-3-Clause */
/* rdm_listen.c - does the process of a peer that is silent still exist?
 *
 * A link that failed looks like a process that died. But where a library listens for
 * connections, or we do on its behalf, the kernel of a host that is reached refuses one to a
 * process that is gone.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rdm.h"

static int listens_wait(int fd, int wait_ms)
{
    struct pollfd p = { .fd = fd, .events = POLLOUT };
    socklen_t len = sizeof(int);
    int err = 0;

    if (poll(&p, 1, wait_ms) != 1)
        return -ETIMEDOUT;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len))
        return -errno;
    return -err;
}

int rdm_listens(const struct rdm_nic *nic, const struct rdm_address *a, int wait_ms)
{
    struct sockaddr_storage to;
    struct pw_ip ip;
    socklen_t len;
    uint16_t port;
    int fd, err = 0;

    if (nic->driver->address_ip(a, &ip, &port))
        return -EAFNOSUPPORT;
    len = pw_ip_sockaddr(&ip, port, nic->iface.index, &to);
    fd = socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (struct sockaddr *)&to, len))
        err = errno == EINPROGRESS ? listens_wait(fd, wait_ms) : -errno;
    close(fd);
    return err;
}

int rdm_listen_open(const struct rdm_nic *nic, const struct pw_ip *ip, uint16_t *port)
{
    struct sockaddr_storage at;
    socklen_t len = pw_ip_sockaddr(ip, 0, nic->iface.index, &at);
    int err, fd = socket(at.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    if (bind(fd, (struct sockaddr *)&at, len) || listen(fd, SOMAXCONN) ||
        getsockname(fd, (struct sockaddr *)&at, &len)) {
        err = errno;
        close(fd);
        return -err;
    }
    /* It stands at the same place in both families. */
    *port = ((struct sockaddr_in *)&at)->sin_port;
    return fd;
}
