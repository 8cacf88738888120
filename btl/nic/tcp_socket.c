/* SPDX-License-Identifier: BSD-3-Clause */
/* tcp_socket.c - sockets: made, kept to their interface, tuned.
 *
 * A socket that is bound to the interface's address alone may still leave by another
 * interface, where two have the same network: SO_BINDTODEVICE keeps a rail a rail. It is
 * not used within a host, whose traffic takes the loopback whatever its addresses are.
 */
#define _GNU_SOURCE
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tcp.h"

#ifndef TCP_RTO_MAX_MS
#define TCP_RTO_MAX_MS 44       /* Linux 6.15, include/uapi/linux/tcp.h */
#endif

/* A link that comes back is to be used within that. */
enum { RTO_MAX_MS = 1000 };

void tcp_fd_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void tcp_fd_end(int epoll, int *fd)
{
    if (*fd < 0)
        return;
    tcp_watch(epoll, *fd, 0, NULL);
    (void)shutdown(*fd, SHUT_RDWR);
    tcp_fd_close(fd);
}

int tcp_watch(int epoll, int fd, uint32_t events, void *what)
{
    struct epoll_event ev = { .events = events, .data.ptr = what };
    int op = events ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, err;

    err = epoll_ctl(epoll, op, fd, &ev) ? -errno : 0;
    if (err == -EEXIST)
        err = epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &ev) ? -errno : 0;
    return err;
}

static void set(int fd, int level, int name, int value)
{
    (void)setsockopt(fd, level, name, &value, sizeof(value));
}

/* bbr paces by timers: on links of microseconds that costs two thirds of the bandwidth
 * (tests/net, a pair of veth). Where an administrator has chosen anything else, it stays. */
static void choose_congestion(int fd)
{
    char name[16] = "";
    socklen_t len = sizeof(name) - 1;

    if (!getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &len) && !strncmp(name, "bbr", 3))
        (void)setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5);
}

/* Before it connects or listens: what the handshake tells the other end depends on it. */
static void tune_early(struct tcp_nic *nic, int fd)
{
    choose_congestion(fd);
    if (nic->config.queue_bytes) {
        set(fd, SOL_SOCKET, SO_SNDBUF, (int)nic->config.queue_bytes);
        set(fd, SOL_SOCKET, SO_RCVBUF, (int)nic->config.queue_bytes);
    }
}

static void keep_to_iface(struct tcp_nic *nic, int fd)
{
    (void)setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, nic->iface.name,
                     (socklen_t)strlen(nic->iface.name));
}

/* Without TCP_USER_TIMEOUT: the kernel ends a connection by that also while its other end
 * acknowledges but has no room, as who computes and reads no frames. See tcp_unheard(). */
void tcp_tune(struct tcp_nic *nic, int fd, bool here)
{
    set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set(fd, IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, 1);
    set(fd, IPPROTO_TCP, TCP_RTO_MAX_MS, RTO_MAX_MS);
    if (!here)
        keep_to_iface(nic, fd);
}

static int make(struct tcp_nic *nic)
{
    return socket(nic->ip.family == 4 ? AF_INET : AF_INET6,
                  SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

static int bind_here(struct tcp_nic *nic, int fd)
{
    struct sockaddr_storage sa;
    socklen_t len = pw_ip_sockaddr(&nic->ip, 0, nic->iface.index, &sa);

    return bind(fd, (struct sockaddr *)&sa, len) ? -errno : 0;
}

int tcp_listen(struct tcp_nic *nic, int *fd, uint16_t *port)
{
    union { struct sockaddr_storage any; struct sockaddr_in in; struct sockaddr_in6 in6; } sa;
    socklen_t len = sizeof(sa);
    int err;

    *fd = make(nic);
    if (*fd < 0)
        return -errno;
    tune_early(nic, *fd);
    err = bind_here(nic, *fd);
    if (err)
        return err;
    if (listen(*fd, 4096) || getsockname(*fd, (struct sockaddr *)&sa.any, &len))
        return -errno;
    *port = ntohs(nic->ip.family == 4 ? sa.in.sin_port : sa.in6.sin6_port);
    return 0;
}

int tcp_dial(struct tcp_nic *nic, const struct tcp_address *to, bool here, int *fd)
{
    struct sockaddr_storage sa;
    struct pw_ip ip;
    socklen_t len;
    int err;

    tcp_address_ip(to, &ip);
    len = pw_ip_sockaddr(&ip, to->port, nic->iface.index, &sa);
    *fd = make(nic);
    if (*fd < 0)
        return -errno;
    tune_early(nic, *fd);
    tcp_tune(nic, *fd, here);
    /* The port is chosen by connect(2), which knows the other end. */
    set(*fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
    err = bind_here(nic, *fd);
    if (!err && connect(*fd, (struct sockaddr *)&sa, len) && errno != EINPROGRESS)
        err = -errno;
    return err;
}

bool tcp_sent_all(int fd)
{
    int unsent = 0;

    return ioctl(fd, SIOCOUTQNSD, &unsent) || !unsent;
}
