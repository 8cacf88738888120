/* SPDX-License-Identifier: BSD-3-Clause */
/* ifaces_kernel.h - asks the kernel; ifaces.c judges what it says. */
#ifndef PW_IFACES_KERNEL_H
#define PW_IFACES_KERNEL_H

#include "btl/nic/ifaces_parse.h"

/* All there are, in no order; use and why are not filled in. */
struct pw_iface_table {
    struct pw_iface *all;   /* by malloc */
    int n, room;
    bool masters;           /* what a port of what is, and routes, are known */
};

/* 0, -ENOMEM, or what the kernel refused with. The caller frees all in each case. */
int pw_table_read(struct pw_iface_table *t);

struct pw_iface *pw_table_find(const struct pw_iface_table *t, int index);

/* A netlink socket for rtnetlink, that hears of those groups (RTMGRP_); or -errno. */
int pw_nl_open(unsigned groups, int flags);

/* One datagram of the kernel's into bytes: its length; 0: somebody else's, to be ignored;
 * -EMSGSIZE it does not fit, or as recvmsg(2). */
int pw_nl_receive(int fd, void *bytes, size_t room);

/* Sends request (its length is in its header) and calls take for each message of the
 * answer. 0, or what ended it: pw_nl_walk() tells what can. */
int pw_nl_ask(struct nlmsghdr *request, pw_nl_take *take, void *ctx);

#endif
