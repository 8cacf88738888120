/* SPDX-License-Identifier: BSD-3-Clause */
/* ifaces_ip.c - addresses of IPv4 and IPv6: as text, as sockets take them, compared. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "btl/nic/ifaces.h"

static int bits(const struct pw_ip *ip)
{
    return ip->family == 4 ? 32 : 128;
}

int pw_ip_parse(const char *text, struct pw_ip *out)
{
    char address[INET6_ADDRSTRLEN];
    const char *slash = strchr(text, '/');
    size_t n = slash ? (size_t)(slash - text) : strlen(text);
    long prefix;
    char *end;

    memset(out, 0, sizeof(*out));
    if (n >= sizeof(address))
        return -EINVAL;
    memcpy(address, text, n);
    address[n] = '\0';
    if (inet_pton(AF_INET, address, out->bytes) == 1)
        out->family = 4;
    else if (inet_pton(AF_INET6, address, out->bytes) == 1)
        out->family = 6;
    else
        return -EINVAL;
    out->prefix = bits(out);
    if (!slash)
        return 0;
    prefix = strtol(slash + 1, &end, 10);
    if (slash[1] < '0' || slash[1] > '9' || *end || prefix > bits(out)) {
        memset(out, 0, sizeof(*out));
        return -EINVAL;
    }
    out->prefix = (uint8_t)prefix;
    return 0;
}

const char *pw_ip_text(const struct pw_ip *ip, char out[PW_IP_TEXT])
{
    out[0] = '\0';
    if (!ip->family)
        return out;
    inet_ntop(ip->family == 4 ? AF_INET : AF_INET6, ip->bytes, out, PW_IP_TEXT);
    if (ip->prefix < bits(ip))
        snprintf(out + strlen(out), PW_IP_TEXT - strlen(out), "/%u", ip->prefix);
    return out;
}

bool pw_ip_equal(const struct pw_ip *a, const struct pw_ip *b)
{
    return a->family && a->family == b->family &&
           !memcmp(a->bytes, b->bytes, a->family == 4 ? 4 : 16);
}

bool pw_ip_same_network(const struct pw_ip *network, const struct pw_ip *ip)
{
    int whole = network->prefix / 8, rest = network->prefix % 8;

    if (!network->family || network->family != ip->family || network->prefix > bits(network) ||
        memcmp(network->bytes, ip->bytes, (size_t)whole))
        return false;
    return !rest || !((network->bytes[whole] ^ ip->bytes[whole]) >> (8 - rest));
}

bool pw_ip_link_local(const struct pw_ip *ip)
{
    if (ip->family == 4)
        return ip->bytes[0] == 169 && ip->bytes[1] == 254;
    return ip->family == 6 && ip->bytes[0] == 0xfe && (ip->bytes[1] & 0xc0) == 0x80;
}

socklen_t pw_ip_sockaddr(const struct pw_ip *ip, uint16_t port, int index,
                         struct sockaddr_storage *out)
{
    struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(port) };
    struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };

    memset(out, 0, sizeof(*out));
    if (ip->family == 4) {
        memcpy(&v4.sin_addr, ip->bytes, 4);
        memcpy(out, &v4, sizeof(v4));
        return sizeof(v4);
    }
    if (ip->family != 6)
        return 0;
    memcpy(&v6.sin6_addr, ip->bytes, 16);
    if (pw_ip_link_local(ip))
        v6.sin6_scope_id = (uint32_t)index;
    memcpy(out, &v6, sizeof(v6));
    return sizeof(v6);
}

int pw_ip_from_sockaddr(const struct sockaddr *from, socklen_t len, struct pw_ip *out)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;

    memset(out, 0, sizeof(*out));
    if (len >= sizeof(v4) && from->sa_family == AF_INET) {
        memcpy(&v4, from, sizeof(v4));
        out->family = 4;
        memcpy(out->bytes, &v4.sin_addr, 4);
    } else if (len >= sizeof(v6) && from->sa_family == AF_INET6) {
        memcpy(&v6, from, sizeof(v6));
        out->family = IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr) ? 4 : 6;
        memcpy(out->bytes, v6.sin6_addr.s6_addr + (out->family == 4 ? 12 : 0),
               out->family == 4 ? 4 : 16);
    } else {
        return -EAFNOSUPPORT;
    }
    out->prefix = bits(out);
    return 0;
}
