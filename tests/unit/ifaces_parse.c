/* SPDX-License-Identifier: BSD-3-Clause */
/* ifaces_parse.c - what netlink says of links, addresses and routes, and what it never would:
 * lengths that cannot be, answers to others, datagrams that somebody else sent. */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <net/if_arp.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "btl/nic/ifaces_kernel.h"
#include "tests/unit/draw.h"

enum { PAGE = 4096, ROUNDS = 200000 };

/* A datagram that grows. */
struct gram {
    _Alignas(8) char bytes[1024];
    size_t len;
    size_t message;     /* where the last one begins */
    size_t nested;      /* where the attribute that is open begins */
};

static void put(struct gram *g, const void *data, size_t len)
{
    cr_assert(g->len + NLMSG_ALIGN(len) <= sizeof(g->bytes));
    if (len)
        memcpy(g->bytes + g->len, data, len);
    g->len += NLMSG_ALIGN(len);
    ((struct nlmsghdr *)(void *)(g->bytes + g->message))->nlmsg_len =
        (uint32_t)(g->len - g->message);
}

static struct nlmsghdr *message(struct gram *g, int type, const void *head, size_t len)
{
    struct nlmsghdr h = { .nlmsg_type = (uint16_t)type, .nlmsg_seq = 1 };

    g->message = g->len;
    put(g, &h, sizeof(h));
    put(g, head, len);
    return (void *)(g->bytes + g->message);
}

static void attribute(struct gram *g, int type, const void *data, size_t len)
{
    struct rtattr a = { .rta_len = (unsigned short)RTA_LENGTH(len),
                        .rta_type = (unsigned short)type };

    put(g, &a, sizeof(a));
    if (len)
        put(g, data, len);
}

static void word(struct gram *g, int type, uint32_t value)
{
    attribute(g, type, &value, sizeof(value));
}

static void text(struct gram *g, int type, const char *value)
{
    attribute(g, type, value, strlen(value) + 1);
}

static void nest(struct gram *g, int type)
{
    g->nested = g->len;
    attribute(g, type, NULL, 0);
}

static void nest_end(struct gram *g)
{
    struct rtattr *a = (void *)(g->bytes + g->nested);

    a->rta_len = (unsigned short)(g->len - g->nested);
}

static struct nlmsghdr *veth(struct gram *g)
{
    struct ifinfomsg i = { .ifi_type = ARPHRD_ETHER, .ifi_index = 7,
                           .ifi_flags = IFF_UP | IFF_RUNNING | 1 << 16 };
    struct nlmsghdr *m = message(g, RTM_NEWLINK, &i, sizeof(i));

    text(g, IFLA_IFNAME, "r0");
    word(g, IFLA_MTU, 9000);
    word(g, IFLA_MASTER, 3);
    nest(g, IFLA_LINKINFO | NLA_F_NESTED);
    text(g, IFLA_INFO_KIND, "veth");
    nest_end(g);
    return m;
}

static struct nlmsghdr *address_v4(struct gram *g)
{
    struct ifaddrmsg i = { .ifa_family = AF_INET, .ifa_prefixlen = 24, .ifa_index = 7 };
    struct nlmsghdr *m = message(g, RTM_NEWADDR, &i, sizeof(i));

    attribute(g, IFA_ADDRESS, "\x0a\x4d\0\x01", 4);
    attribute(g, IFA_LOCAL, "\x0a\x4d\0\x01", 4);
    return m;
}

static struct nlmsghdr *route_v4(struct gram *g)
{
    struct rtmsg r = { .rtm_family = AF_INET, .rtm_type = RTN_UNICAST };
    struct nlmsghdr *m = message(g, RTM_NEWROUTE, &r, sizeof(r));

    word(g, RTA_OIF, 7);
    attribute(g, RTA_GATEWAY, "\x0a\x4d\0\xfe", 4);
    attribute(g, RTA_PREFSRC, "\x0a\x4d\0\x01", 4);
    return m;
}

static struct nlmsghdr *route_of_two_ways(struct gram *g)
{
    struct rtmsg r = { .rtm_family = AF_INET, .rtm_type = RTN_UNICAST };
    struct nlmsghdr *m = message(g, RTM_NEWROUTE, &r, sizeof(r));
    struct rtnexthop hop = { .rtnh_len = sizeof(hop) + 8, .rtnh_ifindex = 7 };

    nest(g, RTA_MULTIPATH);
    put(g, &hop, sizeof(hop));
    attribute(g, RTA_GATEWAY, "\x0a\x4d\0\xfe", 4);
    hop.rtnh_ifindex = 8;
    put(g, &hop, sizeof(hop));
    attribute(g, RTA_GATEWAY, "\x0a\x4e\0\xfe", 4);
    nest_end(g);
    return m;
}

/* ---- what is right ---- */

Test(ifaces_parse, a_link)
{
    struct gram g = { .len = 0 };
    struct pw_nl_link l;

    cr_assert(zero(int, pw_nl_link(veth(&g), &l)));
    cr_expect(eq(int, l.index, 7));
    cr_expect(eq(int, l.master, 3));
    cr_expect(eq(uint, l.mtu, 9000));
    cr_expect(eq(str, l.name, "r0"));
    cr_expect(eq(int, pw_nl_kind(&l), PW_IFACE_VETH));
    cr_expect(l.up && l.carrier && !l.loopback && !l.gone);
}

Test(ifaces_parse, a_link_that_is_not_up_has_no_carrier)
{
    struct gram g = { .len = 0 };
    struct pw_nl_link l;
    struct ifinfomsg i = { .ifi_index = 1, .ifi_flags = 1 << 16 };

    cr_assert(zero(int, pw_nl_link(message(&g, RTM_DELLINK, &i, sizeof(i)), &l)));
    cr_expect(l.gone && !l.up && !l.carrier);
}

/* RTM_DELLINK of AF_BRIDGE: a port has left its bridge, and lives on. */
Test(ifaces_parse, what_a_bridge_says_of_its_port_is_no_link)
{
    struct gram g = { .len = 0 };
    struct pw_nl_link l;
    struct ifinfomsg i = { .ifi_family = AF_BRIDGE, .ifi_index = 7 };

    cr_expect(eq(int, pw_nl_link(message(&g, RTM_DELLINK, &i, sizeof(i)), &l), -ENOMSG));
}

Test(ifaces_parse, kinds)
{
    static const struct { const char *kind; unsigned short type; int is; } cases[] = {
        { "", ARPHRD_ETHER, PW_IFACE_PHYSICAL }, { "", ARPHRD_INFINIBAND, PW_IFACE_PHYSICAL },
        { "", ARPHRD_TUNNEL, PW_IFACE_OTHER }, { "bridge", ARPHRD_ETHER, PW_IFACE_BRIDGE },
        { "bond", ARPHRD_ETHER, PW_IFACE_BOND }, { "vlan", ARPHRD_ETHER, PW_IFACE_VLAN },
        { "macvlan", ARPHRD_ETHER, PW_IFACE_MACVLAN }, { "tun", ARPHRD_NONE, PW_IFACE_TUN },
        { "wireguard", ARPHRD_NONE, PW_IFACE_WIREGUARD },
        { "vxlan", ARPHRD_ETHER, PW_IFACE_TUNNEL }, { "dummy", ARPHRD_ETHER, PW_IFACE_DUMMY },
        { "hsr", ARPHRD_ETHER, PW_IFACE_OTHER },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct pw_nl_link l = { .type = cases[i].type };

        strcpy(l.kind, cases[i].kind);
        cr_expect(eq(int, (int)pw_nl_kind(&l), cases[i].is), "%s", cases[i].kind);
        cr_expect(ne(str, (char *)pw_iface_kind_name(cases[i].is), ""));
    }
    cr_expect(eq(int, pw_nl_kind(&(struct pw_nl_link){ .loopback = true, .type = ARPHRD_LOOPBACK }),
                 PW_IFACE_LOOPBACK));
}

Test(ifaces_parse, a_name_is_cut_and_holds_nothing_that_a_terminal_obeys)
{
    struct gram g = { .len = 0 };
    struct pw_nl_link l;
    struct ifinfomsg i = { .ifi_index = 7 };
    struct nlmsghdr *m = message(&g, RTM_NEWLINK, &i, sizeof(i));

    text(&g, IFLA_IFNAME, "a\033[31m name that is far too long");
    cr_assert(zero(int, pw_nl_link(m, &l)));
    cr_expect(eq(str, l.name, "a?[31m?name?tha"));
}

Test(ifaces_parse, addresses)
{
    struct gram g = { .len = 0 };
    struct pw_nl_address a;
    struct ifaddrmsg i = { .ifa_family = AF_INET6, .ifa_prefixlen = 64, .ifa_index = 7 };
    struct nlmsghdr *m;
    char t[PW_IP_TEXT];

    cr_assert(zero(int, pw_nl_address(address_v4(&g), &a)));
    cr_expect(eq(str, (char *)pw_ip_text(&a.ip, t), "10.77.0.1/24"));
    cr_expect(eq(int, a.index, 7));
    cr_expect(zero(int, a.gone || a.useless));

    m = message(&g, RTM_DELADDR, &i, sizeof(i));
    attribute(&g, IFA_ADDRESS, "\xfd\x77\0\0\0\0\0\0\0\0\0\0\0\0\0\x02", 16);
    cr_assert(zero(int, pw_nl_address(m, &a)));
    cr_expect(eq(str, (char *)pw_ip_text(&a.ip, t), "fd77::2/64"));
    cr_expect(a.gone && !a.useless);
}

Test(ifaces_parse, an_address_that_is_still_being_tried_is_useless)
{
    struct gram g = { .len = 0 };
    struct pw_nl_address a;
    struct ifaddrmsg i = { .ifa_family = AF_INET6, .ifa_prefixlen = 64, .ifa_index = 7 };
    struct nlmsghdr *m = message(&g, RTM_NEWADDR, &i, sizeof(i));

    attribute(&g, IFA_ADDRESS, "\xfd\x77\0\0\0\0\0\0\0\0\0\0\0\0\0\x02", 16);
    word(&g, IFA_FLAGS, IFA_F_TENTATIVE);
    cr_assert(zero(int, pw_nl_address(m, &a)));
    cr_expect(a.useless);
}

/* 10.9.0.1 peer 10.9.0.2/24: the network is not ours. */
Test(ifaces_parse, the_near_end_of_two_has_no_network)
{
    struct gram g = { .len = 0 };
    struct pw_nl_address a;
    struct ifaddrmsg i = { .ifa_family = AF_INET, .ifa_prefixlen = 24, .ifa_index = 7 };
    struct nlmsghdr *m = message(&g, RTM_NEWADDR, &i, sizeof(i));
    char t[PW_IP_TEXT];

    attribute(&g, IFA_ADDRESS, "\x0a\x09\0\x02", 4);
    attribute(&g, IFA_LOCAL, "\x0a\x09\0\x01", 4);
    cr_assert(zero(int, pw_nl_address(m, &a)));
    cr_expect(eq(str, (char *)pw_ip_text(&a.ip, t), "10.9.0.1"));
}

Test(ifaces_parse, routes)
{
    struct gram g = { .len = 0 };
    struct pw_nl_route r;
    char t[PW_IP_TEXT];

    cr_assert(zero(int, pw_nl_route(route_v4(&g), 0, &r)));
    cr_expect(eq(int, r.index, 7));
    cr_expect(eq(int, r.type, RTN_UNICAST));
    cr_expect(r.router);
    cr_expect(eq(str, (char *)pw_ip_text(&r.gateway, t), "10.77.0.254"));
    cr_expect(eq(str, (char *)pw_ip_text(&r.source, t), "10.77.0.1"));
}

Test(ifaces_parse, a_route_of_several_ways_is_looked_through_for_one)
{
    struct gram g = { .len = 0 };
    struct pw_nl_route r;
    struct nlmsghdr *m = route_of_two_ways(&g);

    for (int by = 6; by <= 8; by++) {
        cr_assert(zero(int, pw_nl_route(m, by, &r)));
        cr_expect(eq(int, r.router, by != 6));
        cr_expect(eq(int, r.index, by == 6 ? 0 : by));
    }
}

/* ---- what is wrong ---- */

static int count(void *ctx, const struct nlmsghdr *m)
{
    (void)m;
    ++*(int *)ctx;
    return 0;
}

static int walk(const struct gram *g, int *n)
{
    *n = 0;
    return pw_nl_walk(g->bytes, g->len, count, n);
}

Test(ifaces_parse, a_walk_ends_as_the_kernel_says)
{
    struct gram g = { .len = 0 };
    int n, error = -ENODEV, zero = 0, odd = 5;
    struct nlmsghdr *m;

    veth(&g);
    address_v4(&g);
    cr_expect(eq(int, walk(&g, &n), 0));
    cr_expect(eq(int, n, 2));

    message(&g, NLMSG_DONE, &zero, 4);
    cr_expect(eq(int, walk(&g, &n), 1));

    g.len = 0;
    message(&g, NLMSG_ERROR, &error, 4);
    cr_expect(eq(int, walk(&g, &n), -ENODEV));

    g.len = 0;
    message(&g, NLMSG_DONE, &error, 4);
    cr_expect(eq(int, walk(&g, &n), -ENODEV), "a list that ends with an error");

    g.len = 0;
    message(&g, NLMSG_ERROR, &zero, 4);
    cr_expect(eq(int, walk(&g, &n), 1), "an acknowledgement");

    g.len = 0;
    message(&g, NLMSG_ERROR, &odd, 4);
    cr_expect(eq(int, walk(&g, &n), -EBADMSG), "an error that is none");

    g.len = 0;
    message(&g, NLMSG_ERROR, NULL, 0);
    cr_expect(eq(int, walk(&g, &n), -EBADMSG), "an error without a number");

    g.len = 0;
    m = veth(&g);
    m->nlmsg_flags = NLM_F_DUMP_INTR;
    cr_expect(eq(int, walk(&g, &n), -EINTR), "the list changed");
}

Test(ifaces_parse, lengths_that_cannot_be)
{
    struct gram g = { .len = 0 };
    struct nlmsghdr *m = veth(&g);
    uint32_t right = m->nlmsg_len;
    int n;

    g.len -= 4;
    cr_expect(eq(int, walk(&g, &n), -EBADMSG), "longer than the datagram");
    m->nlmsg_len = sizeof(*m) - 1;
    cr_expect(eq(int, walk(&g, &n), -EBADMSG), "shorter than a header");
    g.len = sizeof(*m) - 4;
    m->nlmsg_len = right;
    cr_expect(eq(int, walk(&g, &n), -EBADMSG), "half a header");
}

Test(ifaces_parse, attributes_that_cannot_be)
{
    struct gram g = { .len = 0 };
    struct nlmsghdr *m = veth(&g);
    struct rtattr *first = (void *)((char *)m + NLMSG_SPACE(sizeof(struct ifinfomsg)));
    unsigned short right = first->rta_len;
    struct pw_nl_link l;

    first->rta_len = 2;
    cr_expect(eq(int, pw_nl_link(m, &l), -EBADMSG), "shorter than its header");
    first->rta_len = 0xfff0;
    cr_expect(eq(int, pw_nl_link(m, &l), -EBADMSG), "longer than the message");
    first->rta_len = right;
    m->nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg)) - 4;
    cr_expect(eq(int, pw_nl_link(m, &l), -EBADMSG), "half a structure");
    m->nlmsg_len = NLMSG_SPACE(sizeof(struct ifinfomsg)) + 2;
    cr_expect(eq(int, pw_nl_link(m, &l), -EBADMSG), "half an attribute");
}

Test(ifaces_parse, an_address_of_a_wrong_length)
{
    struct gram g = { .len = 0 };
    struct ifaddrmsg i = { .ifa_family = AF_INET, .ifa_prefixlen = 24, .ifa_index = 7 };
    struct nlmsghdr *m = message(&g, RTM_NEWADDR, &i, sizeof(i));
    struct pw_nl_address a;

    cr_expect(eq(int, pw_nl_address(m, &a), -EBADMSG), "none at all");
    attribute(&g, IFA_LOCAL, "\x0a\x4d\0\x01\0\0\0\0", 8);
    cr_expect(eq(int, pw_nl_address(m, &a), -EBADMSG), "8 bytes");
    g.len = 0;
    i.ifa_prefixlen = 33;
    m = message(&g, RTM_NEWADDR, &i, sizeof(i));
    attribute(&g, IFA_LOCAL, "\x0a\x4d\0\x01", 4);
    cr_expect(eq(int, pw_nl_address(m, &a), -EBADMSG), "a network of 33 bits");
}

Test(ifaces_parse, a_message_about_something_else)
{
    struct gram g = { .len = 0 };
    struct nlmsghdr *m = veth(&g);
    struct pw_nl_address a;
    struct pw_nl_route r;
    struct pw_nl_link l;

    cr_expect(eq(int, pw_nl_address(m, &a), -ENOMSG));
    cr_expect(eq(int, pw_nl_route(m, 0, &r), -ENOMSG));
    cr_expect(eq(int, pw_nl_link(address_v4(&g), &l), -ENOMSG));
}

static int parse_all(void *ctx, const struct nlmsghdr *m)
{
    struct pw_nl_address a;
    struct pw_nl_route r;
    struct pw_nl_link l;

    if (!pw_nl_link(m, &l))
        *(int *)ctx += l.index > 0 && strnlen(l.name, sizeof(l.name)) < sizeof(l.name) &&
                       pw_nl_kind(&l) <= PW_IFACE_DUMMY;
    if (!pw_nl_address(m, &a))
        *(int *)ctx += a.ip.prefix <= (a.ip.family == 4 ? 32 : 128);
    if (!pw_nl_route(m, 7, &r))
        *(int *)ctx += 1;
    return 0;
}

/* Right messages with some bytes wrong, before a page that nobody may touch. */
Test(ifaces_parse, whatever_comes_nothing_behind_it_is_read)
{
    char *room = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t state = 4711;
    struct gram g = { .len = 0 };
    int parsed = 0, broken = 0;

    cr_assert(ne(ptr, room, MAP_FAILED));
    cr_assert(zero(int, mprotect(room + PAGE, PAGE, PROT_NONE)));
    veth(&g);
    address_v4(&g);
    route_v4(&g);
    route_of_two_ways(&g);
    cr_assert(eq(int, pw_nl_walk(g.bytes, g.len, parse_all, &parsed), 0));
    cr_assert(eq(int, parsed, 4));
    for (int i = 0; i < ROUNDS; i++) {
        size_t len = draw(&state) % 4 ? g.len : draw(&state) % (g.len + 1);
        char *at = room + PAGE - NLMSG_ALIGN(len);

        memcpy(at, g.bytes, len);
        for (uint64_t n = draw(&state) % 5; len && n > 0; n--)
            at[draw(&state) % len] = (char)(draw(&state) % 3 ? draw(&state) % 64 : draw(&state));
        broken += pw_nl_walk(at, len, parse_all, &parsed) < 0;
    }
    cr_expect(lt(int, ROUNDS / 100, broken));
    cr_expect(lt(int, ROUNDS / 10, parsed));
    munmap(room, 2 * PAGE);
}

/* ---- datagrams ---- */

/* Only root may send from process to process in the groups of rtnetlink; this family is
 * for everybody. */
static int talker(struct sockaddr_nl *name)
{
    socklen_t len = sizeof(*name);
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_USERSOCK);

    memset(name, 0, sizeof(*name));
    name->nl_family = AF_NETLINK;
    if (fd < 0)
        cr_skip_test("this kernel has no netlink for users");
    cr_assert(zero(int, bind(fd, (struct sockaddr *)name, sizeof(*name))));
    cr_assert(zero(int, getsockname(fd, (struct sockaddr *)name, &len)));
    return fd;
}

Test(ifaces_parse, a_datagram_that_another_process_sent_is_ignored)
{
    struct sockaddr_nl us, them;
    int fd = talker(&us), other = talker(&them);
    struct gram g = { .len = 0 };
    char bytes[1024];

    veth(&g);
    cr_assert(eq(long, sendto(other, g.bytes, g.len, 0, (struct sockaddr *)&us, sizeof(us)),
                 (long)g.len));
    cr_expect(eq(int, pw_nl_receive(fd, bytes, sizeof(bytes)), 0));
    cr_expect(eq(int, pw_nl_receive(fd, bytes, sizeof(bytes)), -EAGAIN));
    close(other);
    close(fd);
}

static int never(void *ctx, const struct nlmsghdr *m)
{
    (void)m;
    ++*(int *)ctx;
    return 0;
}

Test(ifaces_parse, a_datagram_that_does_not_fit_is_told_of)
{
    struct {
        struct nlmsghdr head;
        struct ifinfomsg what;
    } ask = { .head = { .nlmsg_len = sizeof(ask), .nlmsg_type = RTM_GETLINK, .nlmsg_seq = 1,
                        .nlmsg_flags = NLM_F_REQUEST }, .what = { .ifi_index = 1 } };
    int fd = pw_nl_open(0, 0);
    char bytes[64];

    cr_assert(ge(int, fd, 0));
    cr_assert(eq(long, send(fd, &ask, sizeof(ask), 0), (long)sizeof(ask)));
    cr_expect(eq(int, pw_nl_receive(fd, bytes, sizeof(bytes)), -EMSGSIZE));
    close(fd);
}

Test(ifaces_parse, what_the_kernel_refuses_is_an_error)
{
    struct {
        struct nlmsghdr head;
        struct ifinfomsg what;
    } ask = { .head = { .nlmsg_len = sizeof(ask), .nlmsg_type = RTM_GETLINK },
              .what = { .ifi_index = 0x7ffffff0 } };
    int taken = 0;

    cr_expect(eq(int, pw_nl_ask(&ask.head, never, &taken), -ENODEV));
    cr_expect(eq(int, taken, 0));
}
