/* SPDX-License-Identifier: BSD-3-Clause */
/* stranger.c - somebody who is not of the job, at a port where one of its ranks listens.
 *
 *     stranger noise ADDRESS PORT N       connects N times, says something else each time
 *     stranger record INTERFACE FILE      what the first who connects to a rank by that
 *                                         interface sends it, from its hello on; until
 *                                         64 KiB, or killed
 *     stranger replay ADDRESS PORT FILE   connects and sends that
 *
 * A connection is left alone until its other end closes it, at most 5 s. Prints how many
 * were closed. IPv4.
 */
#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netpacket/packet.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "btl/nic/tcp_wire.h"

enum { PATIENCE_MS = 5000, FRAME_MOST = 128 << 10, RECORD_MOST = 64 << 10 };

static _Noreturn void die(const char *what)
{
    perror(what);
    exit(2);
}

/* ---- talking ---- */

static int call(const char *address, const char *port)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)) };
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (fd < 0 || inet_pton(AF_INET, address, &to.sin_addr) != 1 ||
        connect(fd, (struct sockaddr *)&to, sizeof to))
        die(address);
    return fd;
}

/* They may close before all is said. */
static void say(int fd, const uint8_t *data, size_t len)
{
    while (len) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

        if (n <= 0)
            return;
        data += n;
        len -= (size_t)n;
    }
}

/* Does the other end close it? An answer would be one to the job. */
static bool closed(int fd)
{
    struct pollfd p = { fd, POLLIN, 0 };
    char byte;
    bool over = poll(&p, 1, PATIENCE_MS) == 1 && recv(fd, &byte, 1, 0) <= 0;

    close(fd);
    return over;
}

/* Each fourth is a hello up to where the secret is. */
static bool make_noise(const char *address, const char *port, int i)
{
    struct tcp_hello hello = { .magic = TCP_MAGIC, .version = TCP_VERSION,
                               .what = (uint16_t)(TCP_FRAMES + i % 2) };
    uint8_t noise[4096 + sizeof hello];
    size_t len = 1 + (size_t)rand() % 4096;
    int fd = call(address, port);

    for (size_t j = 0; j < sizeof noise; j++)
        noise[j] = (uint8_t)rand();
    if (i % 4 == 3) {
        memcpy(noise, &hello, offsetof(struct tcp_hello, proof));
        len += sizeof hello;
    }
    say(fd, noise, len);
    shutdown(fd, SHUT_WR);
    return closed(fd);
}

/* ---- listening ---- */

struct flow {
    uint32_t from, next;    /* who sends, and the number of its next byte */
    uint16_t port;
    size_t len;             /* so much was seen of it; 0: there is none yet */
};

/* TCP's part of a packet, and how long its data is; NULL: it is none. */
static const struct tcphdr *tcp_of(const uint8_t *packet, size_t len, uint32_t *from,
                                   const uint8_t **data, size_t *data_len)
{
    const struct iphdr *ip = (const void *)packet;
    const struct tcphdr *tcp;
    size_t head;

    if (len < sizeof *ip || ip->version != 4 || ip->protocol != IPPROTO_TCP)
        return NULL;
    head = ip->ihl * 4u;
    tcp = (const void *)(packet + head);
    if (len < head + sizeof *tcp || ntohs(ip->tot_len) < head + tcp->doff * 4u)
        return NULL;
    *from = ip->saddr;
    *data = packet + head + tcp->doff * 4u;
    *data_len = ntohs(ip->tot_len) - head - tcp->doff * 4u;
    return tcp;
}

static bool is_hello(const uint8_t *data, size_t n)
{
    const struct tcp_hello *hello = (const void *)data;

    return n >= sizeof *hello && hello->magic == TCP_MAGIC && hello->what == TCP_FRAMES;
}

/* The next bytes of the flow: that of who says a hello, and more behind it, for of two who
 * call each other at once one goes again. What comes twice may have some behind what was
 * there. */
static size_t next_bytes(struct flow *f, const uint8_t *packet, size_t len,
                         const uint8_t **data)
{
    const struct tcphdr *tcp;
    uint32_t from, seen;
    size_t n;

    tcp = tcp_of(packet, len, &from, data, &n);
    if (!tcp || !n)
        return 0;
    if (f->len <= sizeof(struct tcp_hello) && is_hello(*data, n))
        *f = (struct flow){ .from = from, .port = tcp->source, .next = ntohl(tcp->seq) };
    seen = f->next - ntohl(tcp->seq);
    if (from != f->from || tcp->source != f->port || seen >= n)
        return 0;
    *data += seen;
    f->next += (uint32_t)n - seen;
    f->len += n - seen;
    return n - seen;
}

/* The socket is to see what comes from that port and nothing else: puts and gets of the
 * same job would fill it sooner than it is read, and what is lost is never said again. */
static void keep_to(int fd, uint16_t port)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 0),     /* where TCP's part is */
        BPF_STMT(BPF_LD | BPF_H | BPF_IND, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ntohs(port), 0, 1),
        BPF_STMT(BPF_RET | BPF_K, FRAME_MOST),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct sock_fprog filter = { sizeof code / sizeof code[0], code };

    if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter))
        die("SO_ATTACH_FILTER");
}

static int record(const char *interface, const char *path)
{
    struct sockaddr_ll at = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL),
                              .sll_ifindex = (int)if_nametoindex(interface) };
    int fd = socket(AF_PACKET, SOCK_DGRAM, htons(ETH_P_ALL)), room = 128 << 20;
    static uint8_t packet[FRAME_MOST];
    FILE *out = fopen(path, "w");
    struct flow flow = { 0 };
    bool kept = false;

    if (fd < 0 || !out || bind(fd, (struct sockaddr *)&at, sizeof at))
        die(interface);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
    printf("listening\n");
    fflush(stdout);
    while (flow.len < RECORD_MOST) {
        ssize_t len = recv(fd, packet, sizeof packet, 0);
        const uint8_t *data;
        size_t n = len > 0 ? next_bytes(&flow, packet, (size_t)len, &data) : 0;

        if (n && n == flow.len)
            rewind(out);
        if (n && (fwrite(data, 1, n, out) != n || fflush(out)))
            die(path);
        if (!kept && flow.len > sizeof(struct tcp_hello)) {
            keep_to(fd, flow.port);
            kept = true;
        }
    }
    return fclose(out) ? 2 : 0;
}

static bool replay(const char *address, const char *port, const char *path)
{
    static uint8_t said[RECORD_MOST + FRAME_MOST];
    FILE *in = fopen(path, "r");
    size_t n = in ? fread(said, 1, sizeof said, in) : 0;
    int fd;

    if (n < sizeof(struct tcp_hello))
        die(path);
    fclose(in);
    fd = call(address, port);
    say(fd, said, n);
    return closed(fd);
}

int main(int argc, char **argv)
{
    int n = 1, shut = 0;

    if (argc == 4 && !strcmp(argv[1], "record"))
        return record(argv[2], argv[3]);
    if (argc == 5 && !strcmp(argv[1], "noise")) {
        n = atoi(argv[4]);
        for (int i = 0; i < n; i++)
            shut += make_noise(argv[2], argv[3], i);
    } else if (argc == 5 && !strcmp(argv[1], "replay")) {
        shut = replay(argv[2], argv[3], argv[4]);
    } else {
        fprintf(stderr, "usage: stranger noise|record|replay ..., see its first comment\n");
        return 2;
    }
    printf("%d of %d were closed\n", shut, n);
    return shut != n;
}
