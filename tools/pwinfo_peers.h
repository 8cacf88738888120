/* SPDX-License-Identifier: BSD-3-Clause */
/* pwinfo_peers.h - how would other hosts be reached?
 *
 * What is asked of them is a TCP connection to two ports: one that nobody listens on, which
 * they refuse, and ssh's. Nothing needs to be installed or to run there.
 */
#ifndef PWINFO_PEERS_H
#define PWINFO_PEERS_H

#include "pwinfo.h"

enum {
    PW_HOST_NAME = 256,
    PW_HOSTS_MAX = 16384,
    PW_HOST_IPS = 8,        /* looked at of each host */
    PW_ANSWER_MS = 1000,    /* for an answer, and for a name server */
    PW_HOSTS_AT_ONCE = 64,
};

enum pw_answer {
    PW_UNASKED,         /* there is no way to it, or it is this host */
    PW_ANSWERED,
    PW_ANSWERED_SSH,    /* only at ssh's port */
    PW_SILENT,
    PW_REFUSED,         /* by somebody on the way, or by our own kernel: errno in error */
};

struct pw_peer_way {
    struct pw_ip ip;
    bool local;                 /* an address of this host, which is not asked */
    bool used;                  /* by names an interface that a job would use */
    char by[IFNAMSIZ];          /* "": there is no way, or none is needed */
    struct pw_ip source, gateway;       /* family 0: not known, none */
    enum pw_answer answer;
    int error;                  /* of UNASKED and REFUSED: errno */
    char why[PW_WHY];           /* what is wrong, and what would mend it; "": nothing */
};

struct pw_peer {
    char name[PW_HOST_NAME];
    bool self;                  /* it is the name of this host */
    int n;
    struct pw_peer_way ways[PW_HOST_IPS];
    char why[PW_WHY];           /* of the name; "": nothing is wrong with it */
};

/* The hosts of a file as mpirun --hostfile takes it, or of a list of names with commas
 * between them, each once, into *out (the caller's to free). How many; 0: why is a sentence
 * that tells what is wrong. */
int pw_hosts_read(const char *what, struct pw_peer **out, char why[PW_WHY]);

/* Fills in the rest of each, many at once. f: the interfaces. port: the one that nobody
 * listens on. */
void pw_peers_gather(const struct pw_facts *f, struct pw_peer *peers, int n, int port);

/* The interfaces and those hosts. 0, or 2 when `hosts` is no list of them: then it has said
 * why on stderr. */
int pw_peers_print(struct pw_facts *f, const char *hosts, bool json, FILE *to);

#endif
