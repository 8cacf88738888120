/* SPDX-License-Identifier: BSD-3-Clause */
/* ifaces.h - the network interfaces of this host, for backends that use its IP networks,
 * and for pwinfo.
 *
 *     ifaces.c          the list: what there is, what is to be used, why not the rest
 *     ifaces_kernel.c   reads it: netlink and ioctls
 *     ifaces_parse.c    what is in the kernel's netlink messages; no system call
 *     ifaces_ip.c       addresses
 *     ifaces_route.c    which way the kernel would send
 *     ifaces_watch.c    tells of links that go down and come back
 *
 * Everything is about the network namespace of the calling thread. Nothing is kept
 * between calls, and any thread may call. Errors are negative errno values. Memory is
 * taken by pw_ifaces_list and pw_iface_devices only, and is given back before they return.
 */
#ifndef PW_IFACES_H
#define PW_IFACES_H

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "pinwheel/nic.h"

enum {
    PW_IFACE_IPS = 8,       /* kept of an interface */
    PW_IFACES_MAX = 4096,   /* looked at; a host that has more shows the first ones */
    PW_IP_TEXT = 64,        /* room for an address as text */
};

/* An address of IPv4 or IPv6. */
struct pw_ip {
    uint8_t family;         /* 4 or 6; 0: none */
    uint8_t prefix;         /* bits of its network; 32 or 128 where there is none */
    uint8_t bytes[16];      /* as on the wire; 4 of them for IPv4, then zeros */
};

enum pw_iface_kind {
    PW_IFACE_OTHER,         /* what has a kind of its own that is not listed here */
    PW_IFACE_LOOPBACK,
    PW_IFACE_PHYSICAL,      /* with a device below it, or one of the hypervisor's */
    PW_IFACE_VETH,
    PW_IFACE_BRIDGE,
    PW_IFACE_BOND,          /* and team */
    PW_IFACE_VLAN,
    PW_IFACE_MACVLAN,       /* and ipvlan, macvtap */
    PW_IFACE_TUN,           /* and tap */
    PW_IFACE_WIREGUARD,
    PW_IFACE_TUNNEL,        /* gre, ipip, sit, vxlan, geneve ... */
    PW_IFACE_DUMMY,
};

/* What is done with it when nobody names any interface. Spare are, if they could be used:
 *   - a loopback and a dummy, which lead to this host only;
 *   - a bridge none of whose ports leads off this host (a device, bond, vlan, tunnel) and by
 *     which no route through a router goes: docker0, virbr0, cni0 and the like, whatever their
 *     names. Where ports are not known (no netlink), those names;
 *   - what has link-local addresses only: they do not tell networks apart;
 *   - what is a tunnel over other interfaces (tun, wireguard, gre, vxlan ...), unless nothing
 *     else is to be used. */
enum pw_iface_use {
    PW_IFACE_USED,
    PW_IFACE_SPARE,         /* only when it is named */
    PW_IFACE_UNUSABLE,
};

struct pw_iface {
    char name[IFNAMSIZ];
    int index;
    int master;                 /* index of the bridge or bond that it is a port of; 0: of
                                 * none */
    enum pw_iface_kind kind;
    bool up;                    /* somebody has set it up */
    bool carrier;               /* and there is a link */
    bool routes;                /* of a bridge: a route through a router goes out by it */
    unsigned mtu;               /* bytes; 0 not known */
    uint64_t bytes_per_s;       /* of its link; 0 not known */
    int n_ips;
    struct pw_ip ips[PW_IFACE_IPS];     /* IPv4 first. Link-local ones only when there are
                                 * no others */
    enum pw_iface_use use;
    char why[PW_NIC_WHY_MAX];   /* unless USED: why, and what would mend it */
};

/* The interfaces, best first: those to be used before spare and unusable ones, then by
 * carrier, speed and name. How many there are, of which at most max are written; -ENOMEM,
 * or what the kernel said when it refused every way of asking. Where netlink is forbidden
 * (seccomp) less is known: no kinds but those that drivers tell, no masters, no routes, and
 * interfaces without an address are not in the list. */
int pw_ifaces_list(struct pw_iface *out, int max);

/* The same, as a backend's devices() gives them. An error is no device. */
int pw_iface_devices(struct pw_nic_device *out, int max);

/* The interface of that name or index. 0, or -ENODEV, or as pw_ifaces_list. */
int pw_iface_find(const char *name, struct pw_iface *out);
int pw_iface_at(int index, struct pw_iface *out);

const char *pw_iface_kind_name(enum pw_iface_kind kind);

/* What pw_ifaces_list does with what it has read: sets use and why, and sorts. ports: masters
 * and routes are known. */
void pw_ifaces_judge(struct pw_iface *all, int n, bool ports);

/* ---- addresses ---- */

/* "10.0.0.1", "10.0.0.1/24", "2001:db8::1/64". 0 or -EINVAL. Without a prefix length: all
 * bits. */
int pw_ip_parse(const char *text, struct pw_ip *out);

/* With the prefix length where it is not all bits. */
const char *pw_ip_text(const struct pw_ip *ip, char out[PW_IP_TEXT]);

bool pw_ip_equal(const struct pw_ip *a, const struct pw_ip *b);     /* but for the prefix */
bool pw_ip_same_network(const struct pw_ip *network, const struct pw_ip *ip);
bool pw_ip_link_local(const struct pw_ip *ip);

/* To and from what sockets take. index: the interface, which a link-local address of IPv6
 * needs; 0 none. Length, or 0 when ip is none. from: 0, or -EAFNOSUPPORT; an IPv4 address
 * mapped into IPv6 becomes one of IPv4. */
socklen_t pw_ip_sockaddr(const struct pw_ip *ip, uint16_t port, int index,
                         struct sockaddr_storage *out);
int pw_ip_from_sockaddr(const struct sockaddr *from, socklen_t len, struct pw_ip *out);

/* ---- ways ---- */

struct pw_route {
    int index;              /* of the interface by which it leaves; 0 not known */
    bool local;             /* it is an address of this host */
    struct pw_ip source;    /* what it leaves with */
    struct pw_ip gateway;   /* the router; family 0: none, it is on the same network */
};

/* Which way the kernel sends to that address. index: only by this interface (0: any), as a
 * socket that is bound to it would; source: what rules see that go by it (NULL: none); the
 * route may say another.
 * 0, or -ENETUNREACH, -EHOSTUNREACH: no way, or what else the kernel said. Where netlink is
 * forbidden, the route that a UDP socket gets: index and gateway are not known then, nor is
 * it kept to the index or source that was given. */
int pw_route_get(const struct pw_ip *to, int index, const struct pw_ip *source,
                 struct pw_route *out);

/* How well is the peer's address reached by this interface as it was listed?
 *   PW_FIT_HOST    the peer is on this host, and the address is ours
 *   PW_FIT_LINK    it is in a network of this interface, which is not asked of the kernel
 *                  and so does not depend on whether the link is up now
 *   PW_FIT_ROUTED  the kernel has a route by this interface
 *   PW_FIT_NONE    neither; or the peer is on another host and its address is one of our
 *                  own too, as those of docker0 are
 * here: the peer is on this host, in this network namespace. source (may be NULL) gets the
 * address of the interface to send from, unless NONE. Towards HOST the kernel goes by the
 * loopback: a socket is not to be bound to the device then. */
enum pw_fit pw_iface_fit(const struct pw_iface *iface, const struct pw_ip *to, bool here,
                         struct pw_ip *source);

/* ---- changes ---- */

enum pw_iface_change {
    PW_IFACE_WENT_UP,       /* up, with carrier */
    PW_IFACE_WENT_DOWN,     /* not up, without carrier, or it is not there any more */
    PW_IFACE_IP_CAME,
    PW_IFACE_IP_WENT,
    PW_IFACE_MISSED,        /* changes came faster than they were read: list anew */
};

struct pw_iface_event {
    enum pw_iface_change change;
    int index;
    char name[IFNAMSIZ];    /* "" where it was not told */
    struct pw_ip ip;        /* of IP_CAME and IP_WENT */
};

/* A descriptor that polls readable when there is something to read, close-on-exec and
 * nonblocking, to be closed by close(2); or -errno where netlink is forbidden. */
int pw_iface_watch(void);

/* What has happened, in order: how many, at most max (of at least 1); 0: nothing more. Tells
 * the state that an interface is in: it may have been told before. Never blocks. Events
 * that do not fit into max are given up, and MISSED says so. */
int pw_iface_events(int fd, struct pw_iface_event *out, int max);

#endif
