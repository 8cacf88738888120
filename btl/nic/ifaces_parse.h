/* SPDX-License-Identifier: BSD-3-Clause */
/* ifaces_parse.h - netlink's messages about links, addresses and routes, as structures.
 *
 * The bytes come from the kernel, and from nobody else if the reader looks at who sent
 * them; lengths are checked all the same, before anything behind them is read. Bytes need
 * no alignment but that of malloc. No system calls.
 */
#ifndef PW_IFACES_PARSE_H
#define PW_IFACES_PARSE_H

#include <linux/if_addr.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include "btl/nic/ifaces.h"

/* IFA_F_ of an address of IPv6 that is not ours yet, not for long, or to be used by nobody
 * new. */
enum {
    PW_NL_USELESS = IFA_F_TENTATIVE | IFA_F_DADFAILED | IFA_F_DEPRECATED | IFA_F_TEMPORARY,
};

struct pw_nl_link {
    int index;
    bool gone;                  /* RTM_DELLINK */
    bool up, carrier, loopback;
    unsigned short type;        /* ARPHRD_ */
    int master;
    unsigned mtu;
    char name[IFNAMSIZ];
    char kind[24];              /* "veth"; "": it has none */
};

struct pw_nl_address {
    int index;
    bool gone;
    bool useless;               /* PW_NL_USELESS */
    struct pw_ip ip;
};

struct pw_nl_route {
    int type;                   /* RTN_ */
    int index;
    bool router;                /* by a router, or one of several ways is */
    struct pw_ip source, gateway;
};

/* 0, or whatever ends the walk. */
typedef int pw_nl_take(void *ctx, const struct nlmsghdr *m);

/* Calls take for the messages of one datagram.
 * 0: all were taken, 1: and it was the end (NLMSG_DONE, or an acknowledgement), or what
 * take returned; what the kernel refused with (NLMSG_ERROR); -EBADMSG a length that
 * cannot be; -EINTR the list changed while it was told (NLM_F_DUMP_INTR): ask anew. */
int pw_nl_walk(const void *bytes, size_t len, pw_nl_take *take, void *ctx);

/* 0, -EBADMSG, or -ENOMSG: it is about something else. Missing parts are 0. */
int pw_nl_link(const struct nlmsghdr *m, struct pw_nl_link *out);
int pw_nl_address(const struct nlmsghdr *m, struct pw_nl_address *out);
/* by: of a route with several ways, look at those of that interface (0: all). */
int pw_nl_route(const struct nlmsghdr *m, int by, struct pw_nl_route *out);

enum pw_iface_kind pw_nl_kind(const struct pw_nl_link *link);

#endif
