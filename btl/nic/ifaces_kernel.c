/* SPDX-License-Identifier: BSD-3-Clause */
/* ifaces_kernel.c - what the kernel says of interfaces, their addresses and routes.
 *
 * Start at pw_table_read(). It asks by netlink, and for speeds by the ethtool ioctl; not in
 * /sys, which shows the network namespace of who mounted it. Where netlink is forbidden,
 * older ioctls tell a part of it. What changes while it is told is asked for anew.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/if_link.h>
#include <linux/sockios.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "btl/nic/ifaces_kernel.h"

enum {
    DATAGRAM = 64 * 1024,   /* the kernel's lists come in pieces of at most 32 KiB */
    TRIES = 8,              /* of a list that changes while it is told */
    ANSWERS = 100000,       /* datagrams of one list */
    SECONDS = 5,            /* for the kernel to answer */
};

/* ---- netlink ---- */

int pw_nl_open(unsigned groups, int flags)
{
    struct sockaddr_nl self = { .nl_family = AF_NETLINK, .nl_groups = groups };
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | flags, NETLINK_ROUTE);
    int err;

    if (fd < 0)
        return -errno;
    if (!bind(fd, (struct sockaddr *)&self, sizeof(self)))
        return fd;
    err = -errno;
    close(fd);
    return err;
}

int pw_nl_receive(int fd, void *bytes, size_t room)
{
    struct sockaddr_nl from = { 0 };
    struct iovec iov = { bytes, room };
    struct msghdr m = { .msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &iov,
                        .msg_iovlen = 1 };
    ssize_t got;

    do {
        got = recvmsg(fd, &m, 0);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
        return -errno;
    if (m.msg_namelen != sizeof(from) || from.nl_family != AF_NETLINK || from.nl_pid)
        return 0;
    return m.msg_flags & MSG_TRUNC ? -EMSGSIZE : (int)got;
}

/* Who answered what. */
struct asked {
    uint32_t seq;
    uint32_t port;
    pw_nl_take *take;
    void *ctx;
};

static int take_ours(void *ctx, const struct nlmsghdr *m)
{
    const struct asked *a = ctx;

    if (m->nlmsg_seq != a->seq || m->nlmsg_pid != a->port)
        return 0;
    return a->take(a->ctx, m);
}

static int answers(int fd, struct asked *a, bool list)
{
    char *bytes = malloc(DATAGRAM);
    int err = bytes ? 0 : -ENOMEM;

    for (int i = 0; !err; i++) {
        int got = i < ANSWERS ? pw_nl_receive(fd, bytes, DATAGRAM) : -EMSGSIZE;

        err = got > 0 ? pw_nl_walk(bytes, (size_t)got, take_ours, a) : got;
        if (!err && got > 0 && !list)
            err = 1;
    }
    free(bytes);
    return err == 1 ? 0 : err;
}

int pw_nl_ask(struct nlmsghdr *request, pw_nl_take *take, void *ctx)
{
    struct timeval patience = { .tv_sec = SECONDS };
    struct sockaddr_nl self = { 0 };
    socklen_t len = sizeof(self);
    struct asked a = { .seq = 1, .take = take, .ctx = ctx };
    int one = 1, err, fd = pw_nl_open(0, 0);

    if (fd < 0)
        return fd;
    /* Since Linux 4.20 the kernel leaves out by itself what was not asked for. */
    setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &one, sizeof(one));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    request->nlmsg_seq = a.seq;
    request->nlmsg_pid = 0;
    request->nlmsg_flags |= NLM_F_REQUEST;
    if (getsockname(fd, (struct sockaddr *)&self, &len) ||
        send(fd, request, request->nlmsg_len, 0) < 0) {
        err = -errno;
    } else {
        a.port = self.nl_pid;
        err = answers(fd, &a, (request->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP);
    }
    close(fd);
    return err;
}

/* ---- the table ---- */

struct pw_iface *pw_table_find(const struct pw_iface_table *t, int index)
{
    for (int i = 0; i < t->n; i++)
        if (t->all[i].index == index)
            return &t->all[i];
    return NULL;
}

/* A new entry; NULL: there are as many as there may be (*err 0), or no memory. */
static struct pw_iface *table_add(struct pw_iface_table *t, int *err)
{
    struct pw_iface *more;
    int room = t->room ? 2 * t->room : 32;

    *err = 0;
    if (t->n == PW_IFACES_MAX)
        return NULL;
    if (t->n == t->room) {
        more = realloc(t->all, (size_t)room * sizeof(*more));
        if (!more) {
            *err = -ENOMEM;
            return NULL;
        }
        t->all = more;
        t->room = room;
    }
    memset(&t->all[t->n], 0, sizeof(t->all[0]));
    return &t->all[t->n++];
}

/* Better ones are kept, and stand first. */
static int rank(const struct pw_ip *ip)
{
    return 2 * pw_ip_link_local(ip) + (ip->family == 6);
}

static void add_ip(struct pw_iface *iface, const struct pw_ip *ip)
{
    int i = iface->n_ips;

    if (i == PW_IFACE_IPS) {
        if (rank(ip) >= rank(&iface->ips[i - 1]))
            return;
        i--;
    } else {
        iface->n_ips++;
    }
    for (; i > 0 && rank(&iface->ips[i - 1]) > rank(ip); i--)
        iface->ips[i] = iface->ips[i - 1];
    iface->ips[i] = *ip;
}

/* Link-local ones only where there are no others. */
static void drop_link_local(struct pw_iface *iface)
{
    if (iface->n_ips && !pw_ip_link_local(&iface->ips[0]))
        while (pw_ip_link_local(&iface->ips[iface->n_ips - 1]))
            iface->n_ips--;
}

/* ---- by netlink ---- */

static int take_link(void *ctx, const struct nlmsghdr *m)
{
    struct pw_iface_table *t = ctx;
    struct pw_nl_link link;
    struct pw_iface *iface;
    int err = pw_nl_link(m, &link);

    if (err)
        return err == -ENOMSG ? 0 : err;
    iface = link.gone || !link.name[0] ? NULL : table_add(t, &err);
    if (!iface)
        return err;
    memcpy(iface->name, link.name, sizeof(iface->name));
    iface->index = link.index;
    iface->master = link.master;
    iface->kind = pw_nl_kind(&link);
    iface->up = link.up;
    iface->carrier = link.carrier;
    iface->mtu = link.mtu;
    return 0;
}

static int take_address(void *ctx, const struct nlmsghdr *m)
{
    struct pw_iface_table *t = ctx;
    struct pw_nl_address address;
    struct pw_iface *iface;
    int err = pw_nl_address(m, &address);

    if (err)
        return err == -ENOMSG ? 0 : err;
    iface = address.gone || address.useless ? NULL : pw_table_find(t, address.index);
    if (iface)
        add_ip(iface, &address.ip);
    return 0;
}

static int take_route(void *ctx, const struct nlmsghdr *m)
{
    struct pw_iface *bridge = ctx;
    struct pw_nl_route route;
    int err = pw_nl_route(m, bridge->index, &route);

    if (err)
        return err == -ENOMSG ? 0 : err;
    if (route.type != RTN_UNICAST || !route.router || route.index != bridge->index)
        return 0;
    bridge->routes = true;
    return 1;               /* that is all there was to know */
}

static int ask_links(struct pw_iface_table *t)
{
    struct {
        struct nlmsghdr head;
        struct ifinfomsg what;
        struct rtattr mask_head;
        uint32_t mask;
    } ask = {
        .head = { .nlmsg_len = sizeof(ask), .nlmsg_type = RTM_GETLINK, .nlmsg_flags = NLM_F_DUMP },
        .mask_head = { .rta_len = RTA_LENGTH(sizeof(uint32_t)), .rta_type = IFLA_EXT_MASK },
        .mask = RTEXT_FILTER_SKIP_STATS,
    };

    return pw_nl_ask(&ask.head, take_link, t);
}

static int ask_addresses(struct pw_iface_table *t)
{
    struct {
        struct nlmsghdr head;
        struct ifaddrmsg what;
    } ask = {
        .head = { .nlmsg_len = sizeof(ask), .nlmsg_type = RTM_GETADDR, .nlmsg_flags = NLM_F_DUMP },
    };

    return pw_nl_ask(&ask.head, take_address, t);
}

static int ask_routes(struct pw_iface *bridge, int family)
{
    struct {
        struct nlmsghdr head;
        struct rtmsg what;
        struct rtattr by_head;
        int32_t by;
    } ask = {
        .head = { .nlmsg_len = sizeof(ask), .nlmsg_type = RTM_GETROUTE,
                  .nlmsg_flags = NLM_F_DUMP },
        .what = { .rtm_family = (unsigned char)family },
        .by_head = { .rta_len = RTA_LENGTH(sizeof(int32_t)), .rta_type = RTA_OIF },
        .by = bridge->index,
    };

    return pw_nl_ask(&ask.head, take_route, bridge);
}

static int read_netlink(struct pw_iface_table *t)
{
    int err = ask_links(t);

    if (!err)
        err = ask_addresses(t);
    /* Only bridges are judged by their routes, and where those cannot be had, by their
     * ports alone. */
    for (int i = 0; !err && i < t->n; i++)
        if (t->all[i].kind == PW_IFACE_BRIDGE && t->all[i].n_ips) {
            ask_routes(&t->all[i], AF_INET);
            ask_routes(&t->all[i], AF_INET6);
        }
    t->masters = true;
    return err;
}

/* ---- by ioctls ---- */

/* As its driver calls itself. */
static enum pw_iface_kind driver_kind(int fd, struct ifreq *r, int flags)
{
    struct ethtool_drvinfo driver = { .cmd = ETHTOOL_GDRVINFO };
    struct pw_nl_link link = { .loopback = flags & IFF_LOOPBACK };

    if (!ioctl(fd, SIOCGIFHWADDR, r))
        link.type = r->ifr_hwaddr.sa_family;
    r->ifr_data = (void *)&driver;
    if (!ioctl(fd, SIOCETHTOOL, r)) {
        memcpy(link.kind, driver.driver, sizeof(link.kind) - 1);
        if (pw_nl_kind(&link) != PW_IFACE_OTHER)
            return pw_nl_kind(&link);
        link.kind[0] = '\0';
    }
    return pw_nl_kind(&link);
}

static struct pw_iface *named(struct pw_iface_table *t, int fd, const char *name, int *err)
{
    struct ifreq r = { 0 };
    struct pw_iface *iface;
    int index, flags;

    *err = 0;
    snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", name);
    r.ifr_name[strcspn(r.ifr_name, ":")] = '\0';    /* "eth0:1" is an address of eth0 */
    if (ioctl(fd, SIOCGIFINDEX, &r))
        return NULL;
    index = r.ifr_ifindex;
    iface = pw_table_find(t, index);
    if (iface || ioctl(fd, SIOCGIFFLAGS, &r))
        return iface;
    flags = (unsigned short)r.ifr_flags;
    iface = table_add(t, err);
    if (!iface)
        return NULL;
    memcpy(iface->name, r.ifr_name, sizeof(iface->name));
    iface->index = index;
    iface->up = flags & IFF_UP;
    iface->carrier = iface->up && (flags & IFF_RUNNING);
    if (!ioctl(fd, SIOCGIFMTU, &r))
        iface->mtu = (unsigned)r.ifr_mtu;
    iface->kind = driver_kind(fd, &r, flags);
    return iface;
}

static int read_v4(struct pw_iface_table *t, int fd)
{
    struct ifconf list = { .ifc_len = DATAGRAM };
    struct ifreq *each = malloc(DATAGRAM), r;
    struct pw_iface *iface;
    struct pw_ip ip, mask;
    int err = each ? 0 : -ENOMEM;

    list.ifc_req = each;
    if (!err && ioctl(fd, SIOCGIFCONF, &list))
        err = -errno;
    for (size_t i = 0; !err && i < (size_t)list.ifc_len / sizeof(r); i++) {
        r = each[i];
        if (pw_ip_from_sockaddr(&r.ifr_addr, sizeof(struct sockaddr_in), &ip))
            continue;
        iface = named(t, fd, r.ifr_name, &err);
        if (!iface)
            continue;
        if (!ioctl(fd, SIOCGIFNETMASK, &r) &&
            !pw_ip_from_sockaddr(&r.ifr_netmask, sizeof(struct sockaddr_in), &mask)) {
            uint32_t bits;

            memcpy(&bits, mask.bytes, 4);
            ip.prefix = (uint8_t)__builtin_popcount(bits);
        }
        add_ip(iface, &ip);
    }
    free(each);
    return err;
}

/* A line for each address: 32 hexadecimal digits, index, prefix length, scope, flags, name. */
static int read_v6(struct pw_iface_table *t, int fd)
{
    FILE *f = fopen("/proc/thread-self/net/if_inet6", "re");
    char line[128], name[IFNAMSIZ];
    unsigned index, prefix, scope, flags;
    int err = 0;

    while (f && !err && fgets(line, sizeof(line), f)) {
        struct pw_ip ip = { .family = 6 };
        struct pw_iface *iface;
        bool sane = strlen(line) > 32;

        for (int i = 0; sane && i < 16; i++)
            sane = sscanf(line + 2 * i, "%2hhx", &ip.bytes[i]) == 1;
        if (!sane || sscanf(line + 32, "%x %x %x %x %15s", &index, &prefix, &scope, &flags,
                            name) != 5 || prefix > 128)
            continue;
        ip.prefix = (uint8_t)prefix;
        iface = flags & PW_NL_USELESS ? NULL : named(t, fd, name, &err);
        if (iface)
            add_ip(iface, &ip);
    }
    if (f)
        fclose(f);
    return err;
}

static int read_ioctls(struct pw_iface_table *t)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), err;

    if (fd < 0)
        return -errno;
    err = read_v4(t, fd);
    if (!err)
        err = read_v6(t, fd);
    close(fd);
    return err;
}

/* ---- speeds ---- */

static uint64_t speed(int fd, const char *name)
{
    union {
        struct ethtool_link_settings head;
        uint32_t room[sizeof(struct ethtool_link_settings) / 4 + 3 * 127];
    } s = { .head.cmd = ETHTOOL_GLINKSETTINGS };
    struct ifreq r = { 0 };

    memcpy(r.ifr_name, name, sizeof(r.ifr_name));
    r.ifr_data = (void *)&s;
    /* The first call tells how long the masks are, as a negative number. */
    if (ioctl(fd, SIOCETHTOOL, &r) || s.head.link_mode_masks_nwords >= 0)
        return 0;
    s.head.cmd = ETHTOOL_GLINKSETTINGS;
    s.head.link_mode_masks_nwords = (int8_t)-s.head.link_mode_masks_nwords;
    if (ioctl(fd, SIOCETHTOOL, &r) || s.head.speed == (uint32_t)SPEED_UNKNOWN)
        return 0;
    return s.head.speed * 125000ULL;    /* of Mbit/s */
}

/* What goes through others has no speed of its own, whatever it says. Asking takes a lock
 * of the kernel's, so only those that may be used are asked. */
static void read_speeds(struct pw_iface_table *t)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    for (int i = 0; fd >= 0 && i < t->n; i++) {
        struct pw_iface *iface = &t->all[i];

        switch (iface->kind) {
        case PW_IFACE_LOOPBACK: case PW_IFACE_TUN: case PW_IFACE_WIREGUARD:
        case PW_IFACE_TUNNEL: case PW_IFACE_DUMMY:
            break;
        default:
            if (iface->carrier && iface->n_ips)
                iface->bytes_per_s = speed(fd, iface->name);
        }
    }
    if (fd >= 0)
        close(fd);
}

int pw_table_read(struct pw_iface_table *t)
{
    int err = -EINTR;

    memset(t, 0, sizeof(*t));
    for (int i = 0; err == -EINTR && i < TRIES; i++) {
        t->n = 0;
        err = read_netlink(t);
    }
    if (err && err != -ENOMEM) {
        t->n = 0;
        t->masters = false;
        err = read_ioctls(t);
    }
    if (err)
        return err;
    for (int i = 0; i < t->n; i++)
        drop_link_local(&t->all[i]);
    read_speeds(t);
    return 0;
}
