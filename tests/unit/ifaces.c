/* SPDX-License-Identifier: BSD-3-Clause */
/* ifaces.c - which interfaces are to be used, by what the kernel says of them; addresses. */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <string.h>
#include <sys/un.h>

#include "btl/nic/ifaces.h"

enum { IFACES = 16 };

struct host {
    struct pw_iface all[IFACES];
    int n;
};

/* One that is to be used, of 10 Gbit/s. */
static struct pw_iface *has(struct host *h, const char *name, enum pw_iface_kind kind,
                            const char *ip)
{
    struct pw_iface *iface = &h->all[h->n++];

    memset(iface, 0, sizeof(*iface));
    strcpy(iface->name, name);
    iface->index = h->n;
    iface->kind = kind;
    iface->up = iface->carrier = true;
    iface->mtu = 1500;
    iface->bytes_per_s = 1250000000;
    if (ip)
        cr_assert(zero(int, pw_ip_parse(ip, &iface->ips[iface->n_ips++])));
    return iface;
}

static const struct pw_iface *judged(struct host *h, const char *name)
{
    pw_ifaces_judge(h->all, h->n, true);
    for (int i = 0; i < h->n; i++)
        if (!strcmp(h->all[i].name, name))
            return &h->all[i];
    cr_fatal("no %s", name);
    return NULL;
}

static void expect(struct host *h, const char *name, enum pw_iface_use use, const char *why)
{
    const struct pw_iface *iface = judged(h, name);

    cr_expect(eq(int, iface->use, use), "%s: %s", name, iface->why);
    cr_expect(strstr(iface->why, why) && !*why == !*iface->why, "%s: %s", name, iface->why);
}

Test(ifaces, what_has_a_link_and_an_address_is_used)
{
    struct host h = { .n = 0 };

    has(&h, "eth0", PW_IFACE_PHYSICAL, "10.0.0.1/24");
    has(&h, "r0", PW_IFACE_VETH, "10.77.0.1/24");
    has(&h, "bond0", PW_IFACE_BOND, "10.1.0.1/24");
    has(&h, "eth0.5", PW_IFACE_VLAN, "10.2.0.1/24");
    has(&h, "mv0", PW_IFACE_MACVLAN, "fd77::1/64");
    has(&h, "hsr0", PW_IFACE_OTHER, "10.3.0.1/24");
    for (int i = 0; i < h.n; i++)
        expect(&h, h.all[i].name, PW_IFACE_USED, "");
}

Test(ifaces, what_is_down_says_how_to_set_it_up)
{
    struct host h = { .n = 0 };
    struct pw_iface *i = has(&h, "r1", PW_IFACE_PHYSICAL, "10.0.0.1/24");

    i->up = i->carrier = false;
    expect(&h, "r1", PW_IFACE_UNUSABLE, "ip link set r1 up");
}

Test(ifaces, what_has_no_carrier_says_where_to_look)
{
    static const struct { int kind; const char *why; } cases[] = {
        { PW_IFACE_PHYSICAL, "cable" }, { PW_IFACE_VETH, "other end" },
        { PW_IFACE_BRIDGE, "none is attached" }, { PW_IFACE_BOND, "none of its ports" },
        { PW_IFACE_VLAN, "below it" },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct host h = { .n = 0 };

        has(&h, "it", (enum pw_iface_kind)cases[i].kind, "10.0.0.1/24")->carrier = false;
        expect(&h, "it", PW_IFACE_UNUSABLE, cases[i].why);
    }
}

Test(ifaces, what_has_no_address_says_how_to_give_it_one)
{
    struct host h = { .n = 0 };

    has(&h, "eth1", PW_IFACE_PHYSICAL, NULL);
    expect(&h, "eth1", PW_IFACE_UNUSABLE, "ip addr add ADDRESS/LENGTH dev eth1");
}

Test(ifaces, a_port_points_to_its_bridge)
{
    struct host h = { .n = 0 };
    int bridge = has(&h, "br0", PW_IFACE_BRIDGE, "10.0.0.1/24")->index;

    has(&h, "eth0", PW_IFACE_PHYSICAL, NULL)->master = bridge;
    has(&h, "eth1", PW_IFACE_PHYSICAL, "fe80::1/64")->master = bridge;
    expect(&h, "eth0", PW_IFACE_UNUSABLE, "a port of br0");
    expect(&h, "eth1", PW_IFACE_UNUSABLE, "a port of br0");
    expect(&h, "br0", PW_IFACE_USED, "");
}

/* A VRF's ports keep their addresses. */
Test(ifaces, a_port_with_addresses_of_its_own_is_used)
{
    struct host h = { .n = 0 };
    int vrf = has(&h, "vrf0", PW_IFACE_OTHER, NULL)->index;

    has(&h, "eth0", PW_IFACE_PHYSICAL, "10.0.0.1/24")->master = vrf;
    expect(&h, "eth0", PW_IFACE_USED, "");
}

Test(ifaces, a_bridge_that_only_containers_are_attached_to_is_spare)
{
    struct host h = { .n = 0 };
    int docker = has(&h, "docker0", PW_IFACE_BRIDGE, "172.17.0.1/16")->index, vms;

    has(&h, "veth1234", PW_IFACE_VETH, NULL)->master = docker;
    vms = has(&h, "lab", PW_IFACE_BRIDGE, "192.168.7.1/24")->index;
    has(&h, "vnet0", PW_IFACE_TUN, NULL)->master = vms;
    expect(&h, "docker0", PW_IFACE_SPARE, "as Docker makes them");
    expect(&h, "lab", PW_IFACE_SPARE, "without a port that leads off this host");
}

/* The name is a hint in what is said, and decides nothing. */
Test(ifaces, a_bridge_with_a_device_is_used_whatever_its_name)
{
    struct host h = { .n = 0 };
    int docker = has(&h, "docker0", PW_IFACE_BRIDGE, "10.0.0.1/24")->index;

    has(&h, "eth0", PW_IFACE_PHYSICAL, NULL)->master = docker;
    expect(&h, "docker0", PW_IFACE_USED, "");
}

Test(ifaces, a_bridge_that_a_router_is_behind_is_used)
{
    struct host h = { .n = 0 };

    has(&h, "br0", PW_IFACE_BRIDGE, "10.0.0.1/24")->routes = true;
    expect(&h, "br0", PW_IFACE_USED, "");
}

Test(ifaces, where_ports_are_not_known_the_name_decides)
{
    struct host h = { .n = 0 };

    has(&h, "virbr0", PW_IFACE_BRIDGE, "192.168.122.1/24");
    has(&h, "br0", PW_IFACE_BRIDGE, "10.0.0.1/24");
    has(&h, "docker9", PW_IFACE_PHYSICAL, "10.1.0.1/24");
    pw_ifaces_judge(h.all, h.n, false);
    for (int i = 0; i < h.n; i++)
        cr_expect(eq(int, h.all[i].use == PW_IFACE_SPARE, !strcmp(h.all[i].name, "virbr0")),
                  "%s", h.all[i].name);
}

Test(ifaces, what_leads_to_this_host_only_is_spare)
{
    struct host h = { .n = 0 };

    has(&h, "lo", PW_IFACE_LOOPBACK, "127.0.0.1/8");
    has(&h, "dummy0", PW_IFACE_DUMMY, "10.0.0.1/32");
    expect(&h, "lo", PW_IFACE_SPARE, "loopback");
    expect(&h, "dummy0", PW_IFACE_SPARE, "this host only");
}

Test(ifaces, link_local_addresses_alone_are_spare)
{
    struct host h = { .n = 0 };

    has(&h, "eth0", PW_IFACE_PHYSICAL, "fe80::1/64");
    has(&h, "eth1", PW_IFACE_PHYSICAL, "169.254.7.7/16");
    expect(&h, "eth0", PW_IFACE_SPARE, "link-local");
    expect(&h, "eth1", PW_IFACE_SPARE, "link-local");
}

Test(ifaces, a_tunnel_is_used_where_there_is_nothing_else)
{
    struct host h = { .n = 0 };

    has(&h, "lo", PW_IFACE_LOOPBACK, "127.0.0.1/8");
    has(&h, "wg0", PW_IFACE_WIREGUARD, "10.8.0.1/24");
    has(&h, "tap0", PW_IFACE_TUN, "10.0.2.100/24");
    expect(&h, "wg0", PW_IFACE_USED, "");
    has(&h, "eth0", PW_IFACE_PHYSICAL, "10.0.0.1/24")->carrier = false;
    expect(&h, "tap0", PW_IFACE_USED, "");
    has(&h, "eth1", PW_IFACE_PHYSICAL, "10.0.1.1/24");
    expect(&h, "wg0", PW_IFACE_SPARE, "a tunnel");
    expect(&h, "tap0", PW_IFACE_SPARE, "a tunnel");
}

Test(ifaces, the_best_comes_first)
{
    static const char *const order[] = { "fast", "r2", "r10", "slow", "mute", "lo", "bare",
                                         "down" };
    struct host h = { .n = 0 };
    struct pw_iface *i = has(&h, "down", PW_IFACE_PHYSICAL, "10.0.0.1/24");

    i->up = i->carrier = false;
    has(&h, "lo", PW_IFACE_LOOPBACK, "127.0.0.1/8");
    has(&h, "mute", PW_IFACE_PHYSICAL, "10.0.6.1/24")->bytes_per_s = 0;
    has(&h, "slow", PW_IFACE_PHYSICAL, "10.0.1.1/24")->bytes_per_s = 125000000;
    has(&h, "r10", PW_IFACE_PHYSICAL, "10.0.2.1/24");
    has(&h, "r2", PW_IFACE_PHYSICAL, "10.0.3.1/24");
    has(&h, "bare", PW_IFACE_PHYSICAL, NULL);
    has(&h, "fast", PW_IFACE_PHYSICAL, "10.0.4.1/24")->bytes_per_s = 12500000000;
    pw_ifaces_judge(h.all, h.n, true);
    for (int k = 0; k < h.n; k++)
        cr_expect(eq(str, h.all[k].name, (char *)order[k]));
}

/* ---- addresses ---- */

Test(ifaces, addresses_as_text)
{
    static const char *const right[] = { "10.0.0.1", "10.0.0.1/24", "0.0.0.0/0", "2001:db8::1",
                                         "2001:db8::1/64", "::/0", "fe80::1/10" };
    static const char *const wrong[] = { "", "10.0.0", "10.0.0.1/33", "10.0.0.1/", "10.0.0.1/-1",
        "10.0.0.1/2x", "10.0.0.1/ 8", "::1/129", "eth0", "10.0.0.1/99999999999999999999",
        "2001:db8:2001:db8:2001:db8:2001:db8:2001:db8:2001:db8:2001:db8" };
    char text[PW_IP_TEXT];
    struct pw_ip ip;

    for (size_t i = 0; i < sizeof(right) / sizeof(right[0]); i++) {
        cr_expect(zero(int, pw_ip_parse(right[i], &ip)), "%s", right[i]);
        cr_expect(eq(str, (char *)pw_ip_text(&ip, text), (char *)right[i]));
    }
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        cr_expect(eq(int, pw_ip_parse(wrong[i], &ip), -EINVAL), "%s", wrong[i]);
        cr_expect(eq(int, ip.family, 0));
    }
    cr_expect(eq(str, (char *)pw_ip_text(&ip, text), ""));
}

Test(ifaces, networks)
{
    static const struct { const char *network, *ip; bool in; } cases[] = {
        { "10.0.0.1/24", "10.0.0.200", true }, { "10.0.0.1/24", "10.0.1.1", false },
        { "10.0.0.1/22", "10.0.3.1", true }, { "10.0.0.1/22", "10.0.4.1", false },
        { "10.0.0.1/31", "10.0.0.0", true }, { "10.0.0.1", "10.0.0.1", true },
        { "10.0.0.1", "10.0.0.2", false }, { "0.0.0.0/0", "1.2.3.4", true },
        { "::/0", "1.2.3.4", false }, { "fd77::1/64", "fd77::ffff", true },
        { "fd77::1/64", "fd77:0:0:1::1", false }, { "fd77::1", "fd77::1", true },
    };
    struct pw_ip network, ip;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        pw_ip_parse(cases[i].network, &network);
        pw_ip_parse(cases[i].ip, &ip);
        cr_expect(eq(int, pw_ip_same_network(&network, &ip), cases[i].in), "%s %s",
                  cases[i].network, cases[i].ip);
    }
    pw_ip_parse("10.0.0.1/8", &network);
    pw_ip_parse("10.0.0.1", &ip);
    cr_expect(pw_ip_equal(&network, &ip), "the prefix is no part of it");
    cr_expect(zero(int, pw_ip_equal(&(struct pw_ip){ 0 }, &(struct pw_ip){ 0 })));
}

Test(ifaces, addresses_as_sockets_take_them)
{
    static const char *const both[] = { "10.0.0.1", "2001:db8::1", "fe80::1" };
    struct sockaddr_storage at;
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    char text[PW_IP_TEXT];
    struct pw_ip ip, back;
    socklen_t len;

    for (size_t i = 0; i < sizeof(both) / sizeof(both[0]); i++) {
        pw_ip_parse(both[i], &ip);
        len = pw_ip_sockaddr(&ip, 7, 3, &at);
        cr_expect(zero(int, pw_ip_from_sockaddr((struct sockaddr *)&at, len, &back)));
        cr_expect(eq(str, (char *)pw_ip_text(&back, text), (char *)both[i]));
        cr_expect(eq(int, pw_ip_from_sockaddr((struct sockaddr *)&at, len - 1, &back),
                     -EAFNOSUPPORT));
    }
    pw_ip_parse("::ffff:10.0.0.1", &ip);
    len = pw_ip_sockaddr(&ip, 7, 0, &at);
    cr_expect(zero(int, pw_ip_from_sockaddr((struct sockaddr *)&at, len, &back)));
    cr_expect(eq(str, (char *)pw_ip_text(&back, text), "10.0.0.1"), "mapped into IPv6");
    memset(&ip, 0, sizeof(ip));
    cr_expect(eq(uint, pw_ip_sockaddr(&ip, 7, 0, &at), 0));
    cr_expect(eq(int, pw_ip_from_sockaddr((struct sockaddr *)&un, sizeof(un), &back),
                 -EAFNOSUPPORT));
}
