/* SPDX-License-Identifier: BSD-3-Clause */
/* ifaces_route.c - which way the kernel would send, and how well an address fits.
 *
 * Asked for a way by one interface, the kernel makes one up for IPv4 when it has none: as if
 * the address were on that network. So it is asked for the entry of its table first, and only
 * then for all that follows from it (RTM_F_FIB_MATCH).
 */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "btl/nic/ifaces_kernel.h"

struct ask {
    struct nlmsghdr head;
    struct rtmsg what;
    char attributes[96];
};

static void add(struct ask *ask, int type, const void *data, size_t len)
{
    struct rtattr a = { .rta_len = (unsigned short)RTA_LENGTH(len),
                        .rta_type = (unsigned short)type };
    char *at = (char *)ask + ask->head.nlmsg_len;

    memcpy(at, &a, sizeof(a));
    memcpy(at + RTA_LENGTH(0), data, len);
    ask->head.nlmsg_len += (uint32_t)RTA_SPACE(len);
}

struct answer {
    struct pw_nl_route route;
    bool came;
};

static int take(void *ctx, const struct nlmsghdr *m)
{
    struct answer *answer = ctx;
    int err = pw_nl_route(m, 0, &answer->route);

    answer->came |= !err;
    return err == -ENOMSG ? 0 : err;
}

static int route_ask(const struct pw_ip *to, int index, const struct pw_ip *source,
                     unsigned flags, struct pw_nl_route *out)
{
    struct ask ask = { .head = { .nlmsg_type = RTM_GETROUTE } };
    struct answer answer = { 0 };
    size_t len = to->family == 4 ? 4 : 16;
    int err;

    ask.head.nlmsg_len = NLMSG_LENGTH(sizeof(ask.what));
    ask.what.rtm_family = to->family == 4 ? AF_INET : AF_INET6;
    ask.what.rtm_flags = flags;
    ask.what.rtm_dst_len = (unsigned char)(8 * len);
    add(&ask, RTA_DST, to->bytes, len);
    if (source && source->family == to->family) {
        ask.what.rtm_src_len = (unsigned char)(8 * len);
        add(&ask, RTA_SRC, source->bytes, len);
    }
    if (index)
        add(&ask, RTA_OIF, &index, sizeof(index));
    err = pw_nl_ask(&ask.head, take, &answer);
    *out = answer.route;
    return err ? err : answer.came ? 0 : -EBADMSG;
}

/* ---- without netlink ---- */

static bool ours(const struct pw_ip *ip)
{
    struct sockaddr_storage at;
    socklen_t len = pw_ip_sockaddr(ip, 0, 0, &at);
    int fd = socket(at.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool yes = fd >= 0 && !bind(fd, (struct sockaddr *)&at, len);

    if (fd >= 0)
        close(fd);
    return yes;
}

static int route_udp(const struct pw_ip *to, struct pw_route *out)
{
    struct sockaddr_storage at;
    socklen_t len = pw_ip_sockaddr(to, 9, 0, &at);
    int err = 0, fd = socket(at.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    if (connect(fd, (struct sockaddr *)&at, len)) {
        err = -errno;
    } else {
        len = sizeof(at);
        if (getsockname(fd, (struct sockaddr *)&at, &len))
            err = -errno;
        else
            err = pw_ip_from_sockaddr((struct sockaddr *)&at, len, &out->source);
    }
    close(fd);
    out->local = !err && ours(to);
    return err;
}

static bool forbidden(int err)
{
    return err == -EPERM || err == -EACCES || err == -ENOSYS || err == -EAFNOSUPPORT ||
           err == -EPROTONOSUPPORT;
}

/* ---- the way ---- */

int pw_route_get(const struct pw_ip *to, int index, const struct pw_ip *source,
                 struct pw_route *out)
{
    struct pw_nl_route entry = { 0 }, way;
    int err, probe;

    memset(out, 0, sizeof(*out));
    if (!to->family)
        return -EINVAL;
    probe = pw_nl_open(0, 0);
    if (probe < 0)
        return forbidden(probe) ? route_udp(to, out) : probe;
    close(probe);
    if (index) {
        err = route_ask(to, index, source, RTM_F_FIB_MATCH, &entry);
        if (!err && entry.type != RTN_UNICAST && entry.type != RTN_LOCAL)
            err = -EHOSTUNREACH;
        if (err)
            return err;
    }
    err = route_ask(to, index, source, 0, &way);
    if (!err && way.type != RTN_UNICAST && way.type != RTN_LOCAL)
        err = -EHOSTUNREACH;
    /* A bound socket does not get a way by another interface that IPv6 may have told. */
    if (!err && index && way.index != index && way.type != RTN_LOCAL)
        err = -ENETUNREACH;
    if (err)
        return err;
    out->index = way.index;
    out->local = way.type == RTN_LOCAL;
    out->source = entry.source.family ? entry.source : way.source;
    out->gateway = way.gateway;
    return 0;
}

/* ---- fit ---- */

/* Of that family, the one in whose network it lies if there is one: the most exact. */
static const struct pw_ip *sender(const struct pw_iface *iface, const struct pw_ip *to, bool *near)
{
    const struct pw_ip *found = NULL;

    *near = false;
    for (int i = 0; i < iface->n_ips; i++) {
        const struct pw_ip *ip = &iface->ips[i];

        if (ip->family != to->family)
            continue;
        if (pw_ip_same_network(ip, to)) {
            if (!*near || ip->prefix > found->prefix)
                found = ip;
            *near = true;
        } else if (!found) {
            found = ip;
        }
    }
    return found;
}

static bool has(const struct pw_iface *iface, const struct pw_ip *ip)
{
    for (int i = 0; i < iface->n_ips; i++)
        if (pw_ip_equal(&iface->ips[i], ip))
            return true;
    return false;
}

static bool is_own(const struct pw_iface *iface, const struct pw_ip *to)
{
    struct pw_route route;

    return has(iface, to) || (!pw_route_get(to, 0, NULL, &route) && route.local);
}

enum pw_fit pw_iface_fit(const struct pw_iface *iface, const struct pw_ip *to, bool here,
                         struct pw_ip *source)
{
    bool near;
    const struct pw_ip *from = sender(iface, to, &near);
    enum pw_fit fit = PW_FIT_NONE;
    struct pw_route route;

    if (!from)
        return PW_FIT_NONE;
    if (is_own(iface, to)) {
        fit = here ? PW_FIT_HOST : PW_FIT_NONE;
    } else if (near) {
        fit = PW_FIT_LINK;
    } else if (!pw_route_get(to, iface->index, from, &route)) {
        if (has(iface, &route.source))
            from = &route.source;
        if (route.index == iface->index || (!route.index && from == &route.source))
            fit = PW_FIT_ROUTED;
    }
    if (source && fit != PW_FIT_NONE)
        *source = *from;
    return fit;
}
