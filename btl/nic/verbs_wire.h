/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_wire.h - how queue pairs are connected: the name in an address, and letters.
 *
 * A letter is a datagram from the queue pair of one NIC that anybody may write to, to that
 * of another. Both sides are little-endian. doc/wire.md says it in words.
 */
#ifndef PW_VERBS_WIRE_H
#define PW_VERBS_WIRE_H

#include <stdint.h>

#include "rdm_wire.h"

/* The version changes with anything in this file. */
enum { VERBS_LETTER_MAGIC = 0x766c7750, VERBS_VERSION = 2 };

/* Networks of these kinds do not reach each other: the format of an address. */
enum verbs_link {
    VERBS_NOWHERE,
    VERBS_INFINIBAND,
    VERBS_ROCE1,        /* RoCE v1: frames of Ethernet */
    VERBS_ROCE2_IPV4,   /* RoCE v2: datagrams of IP */
    VERBS_ROCE2_IPV6,
};

/* The name in an address. */
struct verbs_name {
    uint8_t gid[16];
    uint32_t qpn;       /* that letters go to, 24 bits */
    uint32_t q_key;     /* which they show; random, the highest bit is 0 */
    uint16_t lid;       /* 0 where there is none; the first of 2^lmc */
    uint16_t tcp;       /* where the process listens, network order; 0: nowhere */
    uint8_t link;       /* enum verbs_link */
    uint8_t mtu;        /* of the port, as enum ibv_mtu */
    uint8_t lmc;
    uint8_t zero;
};

enum verbs_letter_what {
    VERBS_ASK = 1,      /* here is my queue pair; I do not know yours */
    VERBS_ANSWER,       /* mine is connected to yours, which I do not know of the other way */
    VERBS_READY,        /* both are */
    VERBS_CLOSE,        /* mine is gone */
    VERBS_REST,         /* may both be destroyed? Nothing of mine is under way */
    VERBS_RESTED,       /* mine is, and nothing of it was under way */
    VERBS_BUSY,         /* not now; or to ASK: there is no room for one now */
};

/* It ends where the name of `from` does. */
struct verbs_letter {
    uint32_t magic;
    uint8_t version;
    uint8_t what;
    uint8_t mtu;                /* of the sender's port */
    uint8_t reads;              /* so many reads of its memory at a time */
    uint8_t secret[RDM_ID];     /* the receiver's, from its address */
    uint64_t job;
    uint64_t to;                /* the sum of the address that it is for */
    uint64_t number;            /* of the sender's queue pair: later ones have higher ones */
    uint64_t echo;              /* of the receiver's that is meant; 0: none */
    uint32_t qpn;               /* the sender's queue pair for the receiver, 24 bits; of REST
                                 * and what follows it the last one, 0: none */
    uint32_t psn;               /* its first packet's number, 24 bits; of REST which question
                                 * it is, of RESTED and BUSY which one is answered */
    struct rdm_address from;
};

#endif
