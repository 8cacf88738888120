/* SPDX-License-Identifier: BSD-3-Clause */
/* ifaces_watch.c - tells of links that go down and come back, as soon as the kernel knows.
 *
 * What the kernel could not keep for us (ENOBUFS) and what the caller has no room for is told
 * of as MISSED: nothing is lost in silence. A bridge tells of its ports by messages of its
 * own, in which one that leaves it looks deleted; pw_nl_link() leaves those out.
 */
#include <errno.h>
#include <stdalign.h>
#include <string.h>

#include "btl/nic/ifaces_kernel.h"

enum {
    DATAGRAM = 16 * 1024,
    DATAGRAMS = 256,        /* in one call, whoever else sends to our socket */
};

int pw_iface_watch(void)
{
    return pw_nl_open(RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR, SOCK_NONBLOCK);
}

struct events {
    struct pw_iface_event *out;
    int n, max;
};

static struct pw_iface_event *event(struct events *e)
{
    struct pw_iface_event *last = &e->out[e->n < e->max ? e->n++ : e->max - 1];

    memset(last, 0, sizeof(*last));
    last->change = PW_IFACE_MISSED;
    return last;
}

static int take(void *ctx, const struct nlmsghdr *m)
{
    struct events *e = ctx;
    bool full = e->n == e->max;
    struct pw_nl_link link;
    struct pw_nl_address address;
    struct pw_iface_event *into;

    if (!pw_nl_link(m, &link)) {
        into = event(e);
        if (full)
            return 1;
        into->change = link.carrier && !link.gone ? PW_IFACE_WENT_UP : PW_IFACE_WENT_DOWN;
        into->index = link.index;
        memcpy(into->name, link.name, sizeof(into->name));
    } else if (!pw_nl_address(m, &address) && (address.gone || !address.useless)) {
        into = event(e);
        if (full)
            return 1;
        into->change = address.gone ? PW_IFACE_IP_WENT : PW_IFACE_IP_CAME;
        into->index = address.index;
        into->ip = address.ip;
    }
    return 0;
}

int pw_iface_events(int fd, struct pw_iface_event *out, int max)
{
    alignas(struct nlmsghdr) char bytes[DATAGRAM];
    struct events e = { .out = out, .max = max };

    for (int i = 0; i < DATAGRAMS && e.n < e.max; i++) {
        int got = pw_nl_receive(fd, bytes, sizeof(bytes));

        if (got == -EAGAIN || got == -EWOULDBLOCK)
            break;
        /* ENOBUFS, a datagram that is too long or makes no sense. */
        if (got < 0 || (got > 0 && pw_nl_walk(bytes, (size_t)got, take, &e) < 0)) {
            event(&e);
            if (got != -ENOBUFS && got != -EMSGSIZE)
                break;
        }
    }
    return e.n;
}
