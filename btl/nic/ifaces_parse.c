/* SPDX-License-Identifier: BSD-3-Clause */
/* ifaces_parse.c - netlink's messages about links, addresses and routes, as structures.
 *
 * Start at pw_nl_walk(). A message is a header, a structure for its type, and attributes: each
 * of them a length, a type, and bytes; some hold attributes in turn. Always true: nothing is
 * read before the length that it lies within has been compared with the one around it.
 *
 * Source: netlink(7), rtnetlink(7), and the headers of Linux.
 */
#include <errno.h>
#include <linux/if_link.h>
#include <net/if_arp.h>
#include <string.h>

#include "btl/nic/ifaces_parse.h"

/* IFF_LOWER_UP: <linux/if.h>, which does not go together with <net/if.h>. */
enum { LOWER_UP = 1 << 16 };

static int ended(const struct nlmsghdr *m)
{
    int error = 0;

    if (m->nlmsg_len >= NLMSG_LENGTH(sizeof(error)))
        memcpy(&error, NLMSG_DATA(m), sizeof(error));
    else if (m->nlmsg_type == NLMSG_ERROR)
        return -EBADMSG;
    if (error > 0 || error < -4095)
        return -EBADMSG;
    return error ? error : 1;
}

int pw_nl_walk(const void *bytes, size_t len, pw_nl_take *take, void *ctx)
{
    const char *at = bytes;
    int result;

    while (len) {
        const struct nlmsghdr *m = (const void *)at;
        size_t step;

        if (len < sizeof(*m) || m->nlmsg_len < sizeof(*m) || m->nlmsg_len > len)
            return -EBADMSG;
        if (m->nlmsg_flags & NLM_F_DUMP_INTR)
            return -EINTR;
        if (m->nlmsg_type == NLMSG_DONE || m->nlmsg_type == NLMSG_ERROR)
            return ended(m);
        if (m->nlmsg_type >= NLMSG_MIN_TYPE) {
            result = take(ctx, m);
            if (result)
                return result;
        }
        step = NLMSG_ALIGN((size_t)m->nlmsg_len);
        if (step >= len)
            break;
        at += step;
        len -= step;
    }
    return 0;
}

/* ---- attributes ---- */

struct attributes {
    const char *at;
    size_t left;
    bool bad;
};

struct attribute {
    int type;
    const void *data;
    size_t len;
};

static bool attribute_next(struct attributes *list, struct attribute *out)
{
    struct rtattr a;
    size_t step;

    if (!list->left)
        return false;
    if (list->left < sizeof(a)) {
        list->bad = true;
        return false;
    }
    memcpy(&a, list->at, sizeof(a));
    if (a.rta_len < sizeof(a) || a.rta_len > list->left) {
        list->bad = true;
        return false;
    }
    out->type = a.rta_type & NLA_TYPE_MASK;
    out->data = list->at + RTA_LENGTH(0);
    out->len = a.rta_len - RTA_LENGTH(0);
    step = RTA_ALIGN((size_t)a.rta_len);
    list->at += step < list->left ? step : list->left;
    list->left -= step < list->left ? step : list->left;
    return true;
}

/* The attributes behind the structure of that size; false: it is not all there. */
static bool attributes_of(const struct nlmsghdr *m, size_t head, struct attributes *out)
{
    size_t begin = NLMSG_SPACE(head);

    if (m->nlmsg_len < NLMSG_LENGTH(head))
        return false;
    out->bad = false;
    out->at = (const char *)m + (begin < m->nlmsg_len ? begin : m->nlmsg_len);
    out->left = (size_t)((const char *)m + m->nlmsg_len - out->at);
    return true;
}

static unsigned number(const struct attribute *a)
{
    uint32_t value = 0;

    if (a->len == sizeof(value))
        memcpy(&value, a->data, sizeof(value));
    return value;
}

/* A name: what is longer is cut, what a terminal would choke on replaced. */
static void text(const struct attribute *a, char *out, size_t room)
{
    size_t n = strnlen(a->data, a->len);

    if (n > room - 1)
        n = room - 1;
    memcpy(out, a->data, n);
    out[n] = '\0';
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)out[i] <= ' ' || (unsigned char)out[i] >= 0x7f)
            out[i] = '?';
}

static bool ip(const struct attribute *a, struct pw_ip *out)
{
    memset(out, 0, sizeof(*out));
    if (a->len != 4 && a->len != 16)
        return false;
    out->family = a->len == 4 ? 4 : 6;
    out->prefix = a->len * 8;
    memcpy(out->bytes, a->data, a->len);
    return true;
}

/* ---- links ---- */

static bool link_info(const struct attribute *info, struct pw_nl_link *out)
{
    struct attributes list = { .at = info->data, .left = info->len };
    struct attribute a;

    while (attribute_next(&list, &a))
        if (a.type == IFLA_INFO_KIND)
            text(&a, out->kind, sizeof(out->kind));
    return !list.bad;
}

int pw_nl_link(const struct nlmsghdr *m, struct pw_nl_link *out)
{
    struct attributes list;
    struct attribute a;
    struct ifinfomsg head;

    memset(out, 0, sizeof(*out));
    if (m->nlmsg_type != RTM_NEWLINK && m->nlmsg_type != RTM_DELLINK)
        return -ENOMSG;
    if (!attributes_of(m, sizeof(head), &list))
        return -EBADMSG;
    memcpy(&head, NLMSG_DATA(m), sizeof(head));
    if (head.ifi_family != AF_UNSPEC)   /* a bridge tells of its port: that one stays */
        return -ENOMSG;
    if (head.ifi_index <= 0)
        return -EBADMSG;
    out->index = head.ifi_index;
    out->gone = m->nlmsg_type == RTM_DELLINK;
    out->type = head.ifi_type;
    out->up = head.ifi_flags & IFF_UP;
    out->carrier = out->up && (head.ifi_flags & LOWER_UP);
    out->loopback = head.ifi_flags & IFF_LOOPBACK;
    while (attribute_next(&list, &a)) {
        if (a.type == IFLA_IFNAME)
            text(&a, out->name, sizeof(out->name));
        else if (a.type == IFLA_MTU)
            out->mtu = number(&a);
        else if (a.type == IFLA_MASTER)
            out->master = (int)number(&a);
        else if (a.type == IFLA_LINKINFO && !link_info(&a, out))
            return -EBADMSG;
    }
    return list.bad ? -EBADMSG : 0;
}

static const struct {
    const char *name;
    enum pw_iface_kind kind;
} kinds[] = {
    { "veth", PW_IFACE_VETH },
    { "bridge", PW_IFACE_BRIDGE },
    { "bond", PW_IFACE_BOND }, { "team", PW_IFACE_BOND },
    { "vlan", PW_IFACE_VLAN },
    { "macvlan", PW_IFACE_MACVLAN }, { "macvtap", PW_IFACE_MACVLAN },
    { "ipvlan", PW_IFACE_MACVLAN }, { "ipvtap", PW_IFACE_MACVLAN },
    { "tun", PW_IFACE_TUN },
    { "wireguard", PW_IFACE_WIREGUARD },
    { "gre", PW_IFACE_TUNNEL }, { "gretap", PW_IFACE_TUNNEL },
    { "ip6gre", PW_IFACE_TUNNEL }, { "ip6gretap", PW_IFACE_TUNNEL },
    { "erspan", PW_IFACE_TUNNEL }, { "ip6erspan", PW_IFACE_TUNNEL },
    { "ipip", PW_IFACE_TUNNEL }, { "ip6tnl", PW_IFACE_TUNNEL },
    { "sit", PW_IFACE_TUNNEL }, { "vti", PW_IFACE_TUNNEL }, { "vti6", PW_IFACE_TUNNEL },
    { "xfrm", PW_IFACE_TUNNEL }, { "vxlan", PW_IFACE_TUNNEL },
    { "geneve", PW_IFACE_TUNNEL }, { "ppp", PW_IFACE_TUNNEL },
    { "gtp", PW_IFACE_TUNNEL }, { "bareudp", PW_IFACE_TUNNEL },
    { "dummy", PW_IFACE_DUMMY }, { "ifb", PW_IFACE_DUMMY },
    { "ipoib", PW_IFACE_PHYSICAL },
};

enum pw_iface_kind pw_nl_kind(const struct pw_nl_link *link)
{
    if (link->loopback)
        return PW_IFACE_LOOPBACK;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (!strcmp(link->kind, kinds[i].name))
            return kinds[i].kind;
    if (!link->kind[0] && (link->type == ARPHRD_ETHER || link->type == ARPHRD_INFINIBAND))
        return PW_IFACE_PHYSICAL;
    return PW_IFACE_OTHER;
}

/* ---- addresses ---- */

int pw_nl_address(const struct nlmsghdr *m, struct pw_nl_address *out)
{
    struct attributes list;
    struct attribute a;
    struct ifaddrmsg head;
    struct pw_ip local = { 0 }, far = { 0 };
    unsigned flags;

    memset(out, 0, sizeof(*out));
    if (m->nlmsg_type != RTM_NEWADDR && m->nlmsg_type != RTM_DELADDR)
        return -ENOMSG;
    if (!attributes_of(m, sizeof(head), &list))
        return -EBADMSG;
    memcpy(&head, NLMSG_DATA(m), sizeof(head));
    if (head.ifa_family != AF_INET && head.ifa_family != AF_INET6)
        return -ENOMSG;
    flags = head.ifa_flags;
    while (attribute_next(&list, &a)) {
        if (a.type == IFA_LOCAL && !ip(&a, &local))
            return -EBADMSG;
        if (a.type == IFA_ADDRESS && !ip(&a, &far))
            return -EBADMSG;
        if (a.type == IFA_FLAGS && a.len == 4)
            flags = number(&a);
    }
    out->index = (int)head.ifa_index;
    out->gone = m->nlmsg_type == RTM_DELADDR;
    out->useless = head.ifa_family == AF_INET6 && (flags & PW_NL_USELESS);
    out->ip = local.family ? local : far;
    if (list.bad || out->index <= 0 || out->ip.family != (head.ifa_family == AF_INET ? 4 : 6) ||
        head.ifa_prefixlen > out->ip.prefix)
        return -EBADMSG;
    /* The network is that of the far end; where that is somebody else, there is none of
     * ours, but a route. */
    if (!local.family || !far.family || pw_ip_equal(&local, &far))
        out->ip.prefix = head.ifa_prefixlen;
    return 0;
}

/* ---- routes ---- */

/* Several ways: those by that interface. */
static bool ways(const struct attribute *of, int by, struct pw_nl_route *out)
{
    const char *at = of->data;
    size_t left = of->len;

    while (left) {
        struct rtnexthop hop;
        struct attributes list;
        struct attribute a;
        size_t step;

        if (left < sizeof(hop))
            return false;
        memcpy(&hop, at, sizeof(hop));
        if (hop.rtnh_len < sizeof(hop) || hop.rtnh_len > left)
            return false;
        list = (struct attributes){ .at = at + RTNH_LENGTH(0),
                                    .left = hop.rtnh_len - RTNH_LENGTH(0) };
        while (attribute_next(&list, &a))
            if ((a.type == RTA_GATEWAY || a.type == RTA_VIA) &&
                (!by || hop.rtnh_ifindex == by)) {
                out->router = true;
                out->index = hop.rtnh_ifindex;
            }
        if (list.bad)
            return false;
        step = RTNH_ALIGN((size_t)hop.rtnh_len);
        if (step >= left)
            break;
        at += step;
        left -= step;
    }
    return true;
}

int pw_nl_route(const struct nlmsghdr *m, int by, struct pw_nl_route *out)
{
    struct attributes list;
    struct attribute a;
    struct rtmsg head;

    memset(out, 0, sizeof(*out));
    if (m->nlmsg_type != RTM_NEWROUTE)
        return -ENOMSG;
    if (!attributes_of(m, sizeof(head), &list))
        return -EBADMSG;
    memcpy(&head, NLMSG_DATA(m), sizeof(head));
    if (head.rtm_family != AF_INET && head.rtm_family != AF_INET6)
        return -ENOMSG;
    out->type = head.rtm_type;
    while (attribute_next(&list, &a)) {
        if (a.type == RTA_OIF)
            out->index = (int)number(&a);
        else if (a.type == RTA_PREFSRC && !ip(&a, &out->source))
            return -EBADMSG;
        else if (a.type == RTA_GATEWAY && !ip(&a, &out->gateway))
            return -EBADMSG;
        else if (a.type == RTA_VIA)     /* IPv4 by a router of IPv6 */
            out->router = true;
        else if (a.type == RTA_MULTIPATH && !ways(&a, by, out))
            return -EBADMSG;
    }
    out->router |= out->gateway.family != 0;
    return list.bad ? -EBADMSG : 0;
}
