/* SPDX-License-Identifier: BSD-3-Clause */
/* tcp_address.c - where we are, who can be reached, and how people read it.
 *
 * Two processes share a host, for us, when they share the network namespace of one boot:
 * then the addresses of all interfaces are local to both.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tcp.h"

static uint64_t hash(uint64_t h, const void *bytes, size_t len)
{
    const uint8_t *p = bytes;

    for (size_t i = 0; i < len; i++)
        h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}

/* What cannot be read is alike everywhere; addresses that are no one's here tell hosts
 * apart all the same. */
static uint64_t host_id(void)
{
    uint64_t h = 0xcbf29ce484222325u;
    struct stat st;
    char text[64];
    ssize_t n = 0;
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

    if (fd >= 0) {
        n = read(fd, text, sizeof(text));
        close(fd);
    }
    if (n > 0)
        h = hash(h, text, (size_t)n);
    if (!stat("/proc/self/ns/net", &st))
        h = hash(h, &st.st_ino, sizeof(st.st_ino));
    return h;
}

int tcp_address_open(struct tcp_nic *nic)
{
    struct tcp_address *a = &nic->address;

    *a = (struct tcp_address){ .mark = TCP_MARK, .version = TCP_VERSION,
                               .family = nic->ip.family, .prefix = nic->ip.prefix,
                               .host = host_id(), .job = nic->config.job };
    memcpy(a->ip, nic->ip.bytes, sizeof(a->ip));
    if (getrandom(&nic->session, sizeof(nic->session), 0) != sizeof(nic->session))
        return -EIO;
    nic->session >>= 1;     /* there is room for more */
    return getrandom(a->secret, TCP_SECRET, 0) == TCP_SECRET ? 0 : -EIO;
}

size_t tcp_address(struct pw_nic *nic, void *out)
{
    memcpy(out, &((struct tcp_nic *)nic)->address, sizeof(struct tcp_address));
    return sizeof(struct tcp_address);
}

void tcp_address_ip(const struct tcp_address *a, struct pw_ip *ip)
{
    ip->family = a->family;
    ip->prefix = a->prefix;
    memcpy(ip->bytes, a->ip, sizeof(ip->bytes));
}

int tcp_reachable(struct pw_nic *nic, const void *addr, size_t len)
{
    struct tcp_nic *n = (struct tcp_nic *)nic;
    struct tcp_address a;
    struct pw_ip ip;

    if (!tcp_address_parse(addr, len, &a) || a.job != n->address.job ||
        a.family != n->address.family)
        return PW_FIT_NONE;
    tcp_address_ip(&a, &ip);
    return pw_iface_fit(&n->iface, &ip, a.host == n->address.host, NULL);
}

static const char *bare(const struct pw_ip *ip, char out[PW_IP_TEXT])
{
    struct pw_ip alone = *ip;

    alone.prefix = ip->family == 4 ? 32 : 128;
    return pw_ip_text(&alone, out);
}

void tcp_why(const struct tcp_nic *nic, const struct tcp_address *a, char *out,
             const char *what, ...)
{
    char there[PW_IP_TEXT], here[PW_IP_TEXT], text[128];
    const char *link = "";
    struct pw_iface now;
    struct pw_ip ip;
    va_list args;

    va_start(args, what);
    vsnprintf(text, sizeof(text), what, args);
    va_end(args);
    tcp_address_ip(a, &ip);
    if (pw_iface_find(nic->iface.name, &now))
        link = "; that interface is not there any more";
    else if (!now.up)
        link = "; that interface is down";
    else if (!now.carrier)
        link = "; that interface has no carrier";
    snprintf(out, PW_NIC_WHY_MAX, "%s by %s (%s): %s%s", bare(&ip, there), nic->iface.name,
             bare(&nic->ip, here), text, link);
}
