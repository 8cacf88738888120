/* SPDX-License-Identifier: BSD-3-Clause */
/* ifaces_net.c - network interfaces as a kernel has them.
 *
 * Each test makes a network namespace of its own, which it alone is in, and in it
 *
 *     r0 10.77.0.1/24 ---- p0 (in a second namespace) 10.77.0.2/24
 *
 * by ip(8). Without the right to make namespaces, or without ip, they are skipped.
 */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "btl/nic/ifaces.h"

enum { IFACES = 32, EVENTS = 64, WAIT_MS = 20000 };

static void write_file(const char *path, const char *format, unsigned id)
{
    char text[64];
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    snprintf(text, sizeof(text), format, id);
    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        cr_skip_test("user namespaces are not allowed here");
    close(fd);
}

/* Runs that in our namespace; ip's own complaints go to the log. */
static bool ip(const char *arguments)
{
    char command[256];

    snprintf(command, sizeof(command), "ip %s", arguments);
    return !system(command);
}

static void new_namespace(void)
{
    unsigned uid = getuid(), gid = getgid();

    if (!unshare(CLONE_NEWNET))
        return;
    if (unshare(CLONE_NEWUSER | CLONE_NEWNET))
        cr_skip_test("network namespaces are not allowed here");
    write_file("/proc/self/setgroups", "deny", 0);
    write_file("/proc/self/uid_map", "0 %u 1", uid);
    write_file("/proc/self/gid_map", "0 %u 1", gid);
}

/* Two namespaces joined by a link; we are in the one of r0. The other one, which lives as
 * long as this descriptor of it. */
static int two_hosts(void)
{
    char far[64], command[128];
    int self, other;

    new_namespace();
    if (system("ip link set lo up 2>/dev/null"))
        cr_skip_test("there is no ip(8) here");
    other = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    cr_assert(zero(int, unshare(CLONE_NEWNET)));
    self = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    snprintf(far, sizeof(far), "/proc/%d/fd/%d", getpid(), other);
    cr_assert(ip("link set lo up"));
    snprintf(command, sizeof(command), "link add r0 type veth peer name p0 netns %s", far);
    if (!ip(command))
        cr_skip_test("this kernel has no veth, or this ip cannot name a namespace by its file");
    cr_assert(ip("link set r0 mtu 9000 up"));
    cr_assert(ip("addr add 10.77.0.1/24 dev r0"));
    cr_assert(zero(int, setns(other, CLONE_NEWNET)));
    cr_assert(ip("link set p0 up"));
    cr_assert(ip("addr add 10.77.0.2/24 dev p0"));
    cr_assert(zero(int, setns(self, CLONE_NEWNET)));
    close(self);
    return other;
}

/* Until the kernel has seen to what follows from what was done. */
static struct pw_iface await(const char *name, enum pw_iface_use use)
{
    struct pw_iface iface;

    for (int ms = 0; ms < WAIT_MS; ms += 10) {
        if (!pw_iface_find(name, &iface) && iface.use == use)
            return iface;
        usleep(10000);
    }
    cr_fatal("%s is %d, \"%s\"", name, iface.use, iface.why);
    return iface;
}

static struct pw_ip address(const char *text)
{
    struct pw_ip ip;

    cr_assert(zero(int, pw_ip_parse(text, &ip)));
    return ip;
}

Test(ifaces_net, a_link_with_an_address_is_used)
{
    struct pw_iface all[IFACES], r0;
    struct pw_nic_device devices[IFACES];
    char text[PW_IP_TEXT];
    int n;

    two_hosts();
    r0 = await("r0", PW_IFACE_USED);
    cr_expect(eq(int, r0.kind, PW_IFACE_VETH));
    cr_expect(eq(uint, r0.mtu, 9000));
    cr_expect(eq(u64, r0.bytes_per_s, 1250000000), "veth: 10 Gbit/s");
    cr_assert(eq(int, r0.n_ips, 1), "no link-local one beside another");
    cr_expect(eq(str, (char *)pw_ip_text(&r0.ips[0], text), "10.77.0.1/24"));

    n = pw_ifaces_list(all, IFACES);
    cr_assert(ge(int, n, 2));
    cr_expect(eq(str, all[0].name, "r0"), "best first");
    memset(all, 0, sizeof(all));
    cr_expect(eq(int, pw_ifaces_list(all, 1), n), "one is written, all are counted");
    cr_expect(eq(str, all[0].name, "r0"));
    cr_expect(eq(str, all[1].name, ""));

    cr_assert(eq(int, pw_iface_devices(devices, IFACES), n));
    cr_expect(eq(str, devices[0].name, "r0"));
    cr_expect(eq(str, devices[0].address, "10.77.0.1/24"));
    cr_expect(devices[0].usable);
    cr_expect(zero(int, devices[0].spare));
    cr_expect(eq(str, devices[0].why, ""));
}

Test(ifaces_net, it_is_found_by_index_too)
{
    struct pw_iface r0, same;

    two_hosts();
    r0 = await("r0", PW_IFACE_USED);
    cr_assert(zero(int, pw_iface_at(r0.index, &same)));
    cr_expect(eq(str, same.name, "r0"));
    cr_expect(eq(int, pw_iface_find("r9", &same), -ENODEV));
    cr_expect(eq(int, pw_iface_at(9999, &same), -ENODEV));
}

Test(ifaces_net, a_loopback_is_spare)
{
    struct pw_nic_device devices[IFACES];
    struct pw_iface lo;
    int n;

    two_hosts();
    lo = await("lo", PW_IFACE_SPARE);
    cr_expect(eq(int, lo.kind, PW_IFACE_LOOPBACK));
    n = pw_iface_devices(devices, IFACES);
    for (int i = 0; i < n; i++)
        if (!strcmp(devices[i].name, "lo"))
            cr_expect(devices[i].usable && devices[i].spare && devices[i].why[0]);
}

Test(ifaces_net, what_is_wrong_with_a_link_is_told)
{
    struct pw_nic_device devices[IFACES];
    struct pw_iface r0;
    int far = two_hosts(), self, n;

    cr_assert(ip("link set r0 down"));
    r0 = await("r0", PW_IFACE_UNUSABLE);
    cr_expect(zero(int, r0.up));
    cr_expect(ne(ptr, strstr(r0.why, "ip link set r0 up"), NULL), "%s", r0.why);
    n = pw_iface_devices(devices, IFACES);
    for (int i = 0; i < n; i++)
        if (!strcmp(devices[i].name, "r0"))
            cr_expect(zero(int, devices[i].usable));

    self = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    cr_assert(zero(int, setns(far, CLONE_NEWNET)));
    cr_assert(ip("link set p0 down"));
    cr_assert(zero(int, setns(self, CLONE_NEWNET)));
    cr_assert(ip("link set r0 up"));
    r0 = await("r0", PW_IFACE_UNUSABLE);
    cr_expect(r0.up);
    cr_expect(ne(ptr, strstr(r0.why, "no carrier"), NULL), "%s", r0.why);

    cr_assert(zero(int, setns(far, CLONE_NEWNET)));
    cr_assert(ip("link set p0 up"));
    cr_assert(zero(int, setns(self, CLONE_NEWNET)));
    await("r0", PW_IFACE_USED);
    close(self);
}

static void bridge(const char *name, const char *ips)
{
    char command[128];

    snprintf(command, sizeof(command), "link add %s type bridge", name);
    if (!ip(command))
        cr_skip_test("this kernel has no bridges");
    snprintf(command, sizeof(command), "addr add %s dev %s", ips, name);
    cr_assert(ip(command));
    snprintf(command, sizeof(command), "link set %s up", name);
    cr_assert(ip(command));
    cr_assert(ip("link add c0 type veth peer name c0p"));
    snprintf(command, sizeof(command), "link set c0 master %s up", name);
    cr_assert(ip(command));
    cr_assert(ip("link set c0p up"));
}

Test(ifaces_net, a_bridge_of_containers_is_spare_until_a_router_is_behind_it)
{
    struct pw_iface it;

    two_hosts();
    bridge("docker0", "172.17.0.1/16");
    it = await("docker0", PW_IFACE_SPARE);
    cr_expect(eq(int, it.kind, PW_IFACE_BRIDGE));
    it = await("c0", PW_IFACE_UNUSABLE);
    cr_expect(ne(ptr, strstr(it.why, "a port of docker0"), NULL), "%s", it.why);
    cr_assert(ip("route add 10.200.0.0/16 via 172.17.0.9"));
    await("docker0", PW_IFACE_USED);
    cr_assert(ip("route del 10.200.0.0/16"));
    await("docker0", PW_IFACE_SPARE);
    cr_assert(ip("route add 10.200.0.0/16 nexthop via 10.77.0.2 nexthop via 172.17.0.9"));
    await("docker0", PW_IFACE_USED);
}

Test(ifaces_net, more_addresses_than_there_is_room_for)
{
    struct pw_nic_device devices[IFACES];
    struct pw_iface r0;
    char command[64];

    two_hosts();
    for (int i = 0; i < 20; i++) {
        snprintf(command, sizeof(command), "addr add 10.80.%d.1/24 dev r0", i);
        cr_assert(ip(command));
    }
    r0 = await("r0", PW_IFACE_USED);
    cr_expect(eq(int, r0.n_ips, PW_IFACE_IPS));
    cr_assert(ge(int, pw_iface_devices(devices, IFACES), 1));
    cr_expect(eq(str, devices[0].address,
                 "10.77.0.1/24 10.80.0.1/24 10.80.1.1/24 10.80.2.1/24"), "whole ones");
}

/* ---- ways ---- */

static enum pw_fit fit(const struct pw_iface *iface, const char *to, bool here, const char *from)
{
    struct pw_ip ip = address(to), source = { 0 };
    enum pw_fit result = pw_iface_fit(iface, &ip, here, &source);
    char text[PW_IP_TEXT];

    source.prefix = source.family == 4 ? 32 : 128;
    cr_expect(eq(str, (char *)pw_ip_text(&source, text), (char *)from), "to %s", to);
    return result;
}

Test(ifaces_net, how_well_an_address_fits)
{
    struct pw_iface r0, lo, docker;

    two_hosts();
    cr_assert(ip("addr add 10.79.0.1/24 dev r0"));
    cr_assert(ip("route add 10.99.0.0/16 via 10.77.0.2"));
    cr_assert(ip("route add 10.98.0.0/16 via 10.77.0.2 src 10.79.0.1"));
    cr_assert(ip("route add unreachable 10.97.0.0/16"));
    bridge("docker0", "172.17.0.1/16");
    r0 = await("r0", PW_IFACE_USED);
    lo = await("lo", PW_IFACE_SPARE);
    docker = await("docker0", PW_IFACE_SPARE);

    cr_expect(eq(int, fit(&r0, "10.77.0.2", false, "10.77.0.1"), PW_FIT_LINK));
    cr_expect(eq(int, fit(&r0, "10.79.0.2", false, "10.79.0.1"), PW_FIT_LINK));
    cr_expect(eq(int, fit(&r0, "10.99.1.1", false, "10.77.0.1"), PW_FIT_ROUTED));
    cr_expect(eq(int, fit(&r0, "10.98.1.1", false, "10.79.0.1"), PW_FIT_ROUTED));
    cr_expect(eq(int, fit(&r0, "10.97.1.1", false, ""), PW_FIT_NONE));
    cr_expect(eq(int, fit(&r0, "10.55.1.1", false, ""), PW_FIT_NONE), "no route");
    cr_expect(eq(int, fit(&r0, "fd77::1", false, ""), PW_FIT_NONE), "no such address here");
    cr_expect(eq(int, fit(&docker, "10.77.0.2", false, ""), PW_FIT_NONE),
              "which leaves by another one");
    cr_expect(eq(int, fit(&lo, "10.77.0.2", false, ""), PW_FIT_NONE));

    cr_expect(eq(int, fit(&r0, "10.77.0.1", true, "10.77.0.1"), PW_FIT_HOST));
    cr_expect(eq(int, fit(&r0, "10.77.0.1", false, ""), PW_FIT_NONE), "ours, of another host");
    cr_expect(eq(int, fit(&docker, "172.17.0.1", false, ""), PW_FIT_NONE), "docker0 of both");
    cr_expect(eq(int, fit(&r0, "172.17.0.1", false, ""), PW_FIT_NONE), "by any interface");
    cr_expect(eq(int, fit(&r0, "127.0.1.1", false, ""), PW_FIT_NONE));

    cr_assert(ip("link set r0 down"));
    cr_expect(eq(int, fit(&r0, "10.77.0.2", false, "10.77.0.1"), PW_FIT_LINK),
              "a link that is down now");
    cr_expect(eq(int, fit(&r0, "10.99.1.1", false, ""), PW_FIT_NONE));
}

Test(ifaces_net, how_well_an_address_of_version_6_fits)
{
    struct pw_iface r0;

    two_hosts();
    if (!ip("addr add fd77::1/64 dev r0 nodad"))
        cr_skip_test("this kernel has no IPv6");
    cr_assert(ip("-6 route add fd99::/16 via fd77::2"));
    r0 = await("r0", PW_IFACE_USED);
    cr_expect(eq(int, fit(&r0, "fd77::2", false, "fd77::1"), PW_FIT_LINK));
    cr_expect(eq(int, fit(&r0, "fd99::1", false, "fd77::1"), PW_FIT_ROUTED));
    cr_expect(eq(int, fit(&r0, "fd55::1", false, ""), PW_FIT_NONE));
    cr_expect(eq(int, fit(&r0, "fd77::1", false, ""), PW_FIT_NONE));
    cr_expect(eq(int, fit(&r0, "fd77::1", true, "fd77::1"), PW_FIT_HOST));
}

Test(ifaces_net, which_way_the_kernel_sends)
{
    struct pw_route route;
    struct pw_ip to;
    struct pw_iface r0;
    char text[PW_IP_TEXT];

    two_hosts();
    cr_assert(ip("route add default via 10.77.0.2"));
    r0 = await("r0", PW_IFACE_USED);
    to = address("8.8.8.8");
    cr_assert(zero(int, pw_route_get(&to, 0, NULL, &route)));
    cr_expect(eq(int, route.index, r0.index));
    cr_expect(eq(str, (char *)pw_ip_text(&route.source, text), "10.77.0.1"));
    cr_expect(eq(str, (char *)pw_ip_text(&route.gateway, text), "10.77.0.2"));
    to = address("10.77.0.1");
    cr_assert(zero(int, pw_route_get(&to, 0, NULL, &route)));
    cr_expect(route.local);
    cr_assert(ip("route del default"));
    to = address("8.8.8.8");
    cr_expect(eq(int, pw_route_get(&to, 0, NULL, &route), -ENETUNREACH));
    memset(&to, 0, sizeof(to));
    cr_expect(eq(int, pw_route_get(&to, 0, NULL, &route), -EINVAL));
}

/* ---- where netlink is forbidden ---- */

static void forbid_netlink(void)
{
    struct sock_filter f[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_NETLINK, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = { sizeof(f) / sizeof(f[0]), f };

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog))
        cr_skip_test("seccomp filters are not permitted here");
}

Test(ifaces_net, without_netlink_there_is_less_but_enough)
{
    struct pw_iface r0, all[IFACES];
    struct pw_route route;
    struct pw_ip to;
    bool v6;
    char text[PW_IP_TEXT];

    two_hosts();
    v6 = ip("addr add fd77::1/64 dev r0 nodad");
    cr_assert(ip("route add 10.99.0.0/16 via 10.77.0.2"));
    await("r0", PW_IFACE_USED);
    forbid_netlink();
    r0 = await("r0", PW_IFACE_USED);
    cr_expect(eq(int, r0.kind, PW_IFACE_VETH));
    cr_expect(eq(uint, r0.mtu, 9000));
    cr_expect(eq(u64, r0.bytes_per_s, 1250000000));
    cr_assert(eq(int, r0.n_ips, 1 + v6));
    cr_expect(eq(str, (char *)pw_ip_text(&r0.ips[0], text), "10.77.0.1/24"));
    if (v6)
        cr_expect(eq(str, (char *)pw_ip_text(&r0.ips[1], text), "fd77::1/64"));
    await("lo", PW_IFACE_SPARE);
    cr_expect(eq(int, pw_ifaces_list(all, IFACES), 2), "those with addresses");
    cr_expect(eq(int, pw_iface_watch(), -EPERM));

    cr_expect(eq(int, fit(&r0, "10.77.0.2", false, "10.77.0.1"), PW_FIT_LINK));
    cr_expect(eq(int, fit(&r0, "10.99.0.2", false, "10.77.0.1"), PW_FIT_ROUTED));
    cr_expect(eq(int, fit(&r0, "10.55.0.2", false, ""), PW_FIT_NONE));
    cr_expect(eq(int, fit(&r0, "10.77.0.1", false, ""), PW_FIT_NONE));
    cr_expect(eq(int, fit(&r0, "10.77.0.1", true, "10.77.0.1"), PW_FIT_HOST));
    to = address("10.55.0.1");
    cr_expect(eq(int, pw_route_get(&to, 0, NULL, &route), -ENETUNREACH));
}

/* ---- changes ---- */

/* Reads until that change of that interface is told. */
static bool heard(int fd, enum pw_iface_change change, const char *name)
{
    struct pw_iface_event events[EVENTS];
    struct pollfd p = { .fd = fd, .events = POLLIN };

    while (poll(&p, 1, WAIT_MS) == 1) {
        int n = pw_iface_events(fd, events, EVENTS);

        for (int i = 0; i < n; i++)
            if (events[i].change == change && (!name || !strcmp(events[i].name, name)))
                return true;
    }
    return false;
}

Test(ifaces_net, changes_are_told)
{
    struct pw_iface_event event;
    int far = two_hosts(), self = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), fd;

    await("r0", PW_IFACE_USED);
    fd = pw_iface_watch();
    cr_assert(ge(int, fd, 0));
    cr_expect(eq(int, pw_iface_events(fd, &event, 1), 0), "nothing yet");

    cr_assert(zero(int, setns(far, CLONE_NEWNET)));
    cr_assert(ip("link set p0 down"));
    cr_assert(zero(int, setns(self, CLONE_NEWNET)));
    cr_expect(heard(fd, PW_IFACE_WENT_DOWN, "r0"), "the other end is gone");
    cr_assert(zero(int, setns(far, CLONE_NEWNET)));
    cr_assert(ip("link set p0 up"));
    cr_assert(zero(int, setns(self, CLONE_NEWNET)));
    cr_expect(heard(fd, PW_IFACE_WENT_UP, "r0"));
    cr_assert(ip("addr add 10.81.0.1/24 dev r0"));
    cr_expect(heard(fd, PW_IFACE_IP_CAME, NULL));
    cr_assert(ip("addr del 10.81.0.1/24 dev r0"));
    cr_expect(heard(fd, PW_IFACE_IP_WENT, NULL));
    cr_assert(ip("link del r0"));
    cr_expect(heard(fd, PW_IFACE_WENT_DOWN, "r0"));
    close(fd);
    close(self);
}

/* A port that leaves its bridge is told of as deleted, by the bridge; it is there still. */
Test(ifaces_net, a_port_that_leaves_its_bridge_has_not_gone_down)
{
    struct pw_iface_event events[EVENTS];
    int fd, n;

    two_hosts();
    bridge("br0", "10.5.0.1/24");
    await("br0", PW_IFACE_SPARE);
    fd = pw_iface_watch();
    cr_assert(ge(int, fd, 0));
    cr_assert(ip("link set c0 nomaster"));
    cr_assert(ip("link set r0 mtu 1500"));
    for (bool last = false; !last;) {
        cr_assert(eq(int, poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, WAIT_MS), 1));
        n = pw_iface_events(fd, events, EVENTS);
        for (int i = 0; i < n; i++) {
            cr_expect(zero(int, events[i].change == PW_IFACE_WENT_DOWN &&
                                !strcmp(events[i].name, "c0")));
            last |= !strcmp(events[i].name, "r0");
        }
    }
    close(fd);
}

Test(ifaces_net, what_was_missed_is_told)
{
    int small = 1, fd;

    two_hosts();
    await("r0", PW_IFACE_USED);
    fd = pw_iface_watch();
    cr_assert(ge(int, fd, 0));
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    for (int i = 0; i < 50; i++)
        cr_assert(ip(i % 2 ? "link set r0 up" : "link set r0 down"));
    cr_expect(heard(fd, PW_IFACE_MISSED, NULL));
    close(fd);
}
