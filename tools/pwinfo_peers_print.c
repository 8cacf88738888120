/* SPDX-License-Identifier: BSD-3-Clause */
/* pwinfo_peers_print.c - how other hosts would be reached, for people and for programs. */
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "pwinfo_peers.h"

/* The last of the ports that the kernel gives out: it is to be open to peers as those are
 * that the transport is given, and is hardly ever in use. */
static int closed_port(void)
{
    char line[64];
    int first, last;

    if (pw_read_line("/proc/sys/net/ipv4/ip_local_port_range", line, sizeof(line)) &&
        sscanf(line, "%d %d", &first, &last) == 2 && last > 0 && last < 65536)
        return last;
    return 60999;
}

static const char *bare(const struct pw_ip *ip, char text[PW_IP_TEXT])
{
    struct pw_ip alone = *ip;

    alone.prefix = ip->family == 4 ? 32 : 128;
    return pw_ip_text(&alone, text);
}

static const char *outcome(const struct pw_peer_way *w)
{
    if (w->local)
        return "an address of this host";
    switch (w->answer) {
    case PW_ANSWERED: return "answers";
    case PW_ANSWERED_SSH: return "answers ssh only";
    case PW_SILENT: return "does not answer";
    case PW_REFUSED: return "cannot be reached";
    default: return "no way";
    }
}

static void print_way(const struct pw_peer_way *w, const char *label, FILE *to)
{
    char ip[PW_IP_TEXT], source[PW_IP_TEXT], gateway[PW_IP_TEXT];

    pw_text_label(to, label);
    fputs(bare(&w->ip, ip), to);
    if (w->by[0])
        fprintf(to, " by %s from %s", w->by, bare(&w->source, source));
    if (w->gateway.family)
        fprintf(to, " via %s", bare(&w->gateway, gateway));
    fprintf(to, ": %s\n", outcome(w));
    pw_text_reason(to, w->why);
}

static void print_text(const struct pw_facts *f, const struct pw_peer *peers, int n, int port,
                       FILE *to)
{
    pw_text_interfaces(f, to);
    fprintf(to, "\nPeers, by their answers at TCP ports %d and 22\n", port);
    for (int i = 0; i < n; i++) {
        const struct pw_peer *p = &peers[i];

        if (!p->n) {
            pw_text_label(to, p->name);
            fputs("not known\n", to);
        }
        for (int k = 0; k < p->n; k++)
            print_way(&p->ways[k], k ? "" : p->name, to);
        pw_text_reason(to, p->why);
    }
}

static void text(struct pw_json *j, const char *key, const char *value)
{
    if (*value)
        pw_json_string(j, key, value);
    else
        pw_json_null(j, key);
}

/* This host answers itself, and nobody else that goes by its addresses. */
static void json_way(struct pw_json *j, const struct pw_peer_way *w, bool self)
{
    char ip[PW_IP_TEXT];

    pw_json_open(j, NULL, '{');
    pw_json_string(j, "address", bare(&w->ip, ip));
    pw_json_bool(j, "local", w->local);
    text(j, "interface", w->by);
    pw_json_bool(j, "used", w->used);
    text(j, "source", bare(&w->source, ip));
    text(j, "gateway", bare(&w->gateway, ip));
    pw_json_bool(j, "answers", w->local ? self : w->answer == PW_ANSWERED);
    pw_json_string(j, "outcome", outcome(w));
    text(j, "why", w->why);
    pw_json_close(j, '}');
}

static void print_json(const struct pw_facts *f, const struct pw_peer *peers, int n, int port,
                       FILE *to)
{
    struct pw_json j = { .to = to };

    pw_json_open(&j, NULL, '{');
    pw_json_string(&j, "version", PINWHEEL_VERSION);
    pw_json_interfaces(&j, f);
    pw_json_integer(&j, "port", port);
    pw_json_open(&j, "peers", '[');
    for (int i = 0; i < n; i++) {
        pw_json_open(&j, NULL, '{');
        pw_json_string(&j, "name", peers[i].name);
        pw_json_bool(&j, "self", peers[i].self);
        text(&j, "why", peers[i].why);
        pw_json_open(&j, "ways", '[');
        for (int k = 0; k < peers[i].n; k++)
            json_way(&j, &peers[i].ways[k], peers[i].self);
        pw_json_close(&j, ']');
        pw_json_close(&j, '}');
    }
    pw_json_close(&j, ']');
    pw_json_close(&j, '}');
}

int pw_peers_print(struct pw_facts *f, const char *hosts, bool json, FILE *to)
{
    struct pw_peer *peers = NULL;
    int port = closed_port(), n;
    char why[PW_WHY];

    n = pw_hosts_read(hosts, &peers, why);
    if (!n) {
        fprintf(stderr, "pwinfo: --peers: %s\n", why);
        return 2;
    }
    pw_facts_interfaces(f);
    pw_peers_gather(f, peers, n, port);
    if (json)
        print_json(f, peers, n, port, to);
    else
        print_text(f, peers, n, port, to);
    free(peers);
    return 0;
}
