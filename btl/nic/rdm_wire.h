/* SPDX-License-Identifier: BSD-3-Clause */
/* rdm_wire.h - what messages look like between endpoints of libfabric, of UCX, or of
 * libibverbs; doc/wire.md says it in words.
 *
 * Both sides are little-endian. A message begins with struct rdm_head, but for a hello and
 * a leave: those are told by their magic, which is no kind.
 */
#ifndef PW_RDM_WIRE_H
#define PW_RDM_WIRE_H

#include <stdint.h>

/* The version changes with anything in this file. */
enum {
    RDM_OFI_MAGIC = 0x696f6650, RDM_UCX_MAGIC = 0x78637550, /* of whose endpoints it is */
    RDM_VERBS_MAGIC = 0x76627250,
    RDM_VERSION = 4, RDM_NAME_MAX = 144, RDM_ID = 16,
};

/* Published to peers through address(), as far as name_len says. */
struct rdm_address {
    uint32_t magic;
    uint8_t version;
    uint8_t name_len;
    uint16_t protocol_version;  /* of what the library's endpoints speak */
    uint32_t protocol;          /* that protocol, as the library numbers it */
    uint32_t format;            /* of the name, as the library numbers it */
    uint64_t job;
    uint64_t host;              /* of the kernel's boot id and the network namespace */
    uint8_t secret[RDM_ID];     /* who knows it got this address from us */
    uint8_t name[RDM_NAME_MAX];
};

enum rdm_message_kind {
    /* in order, each takes room in the window */
    RDM_DATA = 1,       /* a frame: its bytes follow */
    RDM_PUT,            /* struct rdm_put_head, then its bytes */
    RDM_FETCH,          /* struct rdm_fetch_head: read this from me */
    RDM_GET_DATA,       /* struct rdm_get_data, then bytes that were asked for */
    RDM_BYE,            /* I leave; nothing follows */
    /* out of order */
    RDM_ACK,            /* only the count in the head */
    RDM_PING,           /* answered by ACK */
    RDM_BYE_DONE,       /* all up to BYE has arrived */
    RDM_PUT_DONE,       /* struct rdm_put_done */
    RDM_GET,            /* struct rdm_get: send me that memory */
};

struct rdm_head {
    uint16_t kind;
    uint16_t slot;      /* the receiver's name for the sender, from its hello */
    uint32_t seq;       /* of messages in order: 0, 1, ...; of others: so many in order were
                         * sent before */
    uint32_t consumed;  /* so many of the receiver's messages in order were dealt with */
    uint32_t imm;       /* of others than DATA: so many PUT_DONE were sent, with this one */
    uint64_t token;     /* from the receiver's hello */
};

/* Memory as a peer names it: the 32 bytes of a key. */
struct rdm_key {
    uint64_t base, len;
    uint64_t key;       /* the library's; random where it has none */
    uint32_t place;     /* among the owner's pins */
    uint32_t there;     /* RDM_THERE, perhaps RDM_READABLE; else it is no key */
};

enum {
    RDM_THERE = 1,
    RDM_READABLE = 2,   /* the library reads it, and into it; else messages do */
};

struct rdm_put_head {
    uint64_t addr;
    uint32_t id;
    uint32_t place;
    uint64_t key;
};

struct rdm_fetch_head {
    struct rdm_put_head to;
    uint64_t len;
    uint64_t from;      /* as the library wants it: an address or an offset */
    uint64_t from_key;
};

struct rdm_put_done {
    struct rdm_head head;
    uint32_t id;
    int32_t status;     /* 0 or -errno */
};

struct rdm_get {
    struct rdm_head head;
    uint64_t addr;
    uint64_t len;
    uint64_t key;
    uint32_t id;
    uint32_t place;
};

struct rdm_get_data {
    uint64_t at;        /* where they stand in what was asked for */
    uint32_t id;
    int32_t status;     /* 0, or -errno: no bytes, and no more come */
};

enum rdm_hello_what {
    RDM_HELLO = 1,      /* I call and want an answer */
    RDM_WELCOME,        /* I have your token and you have mine */
    RDM_LEAVE,          /* I do not call any more */
};

/* To somebody whose address we have. It ends where the name does. */
struct rdm_hello {
    uint32_t magic;
    uint8_t version;
    uint8_t what;
    uint16_t slot;              /* the sender's place for the receiver */
    uint8_t secret[RDM_ID];     /* the receiver's */
    uint64_t token;             /* to be shown to the sender */
    uint64_t echo;              /* the token of the receiver's hello; 0: none came */
    struct rdm_address from;
};

#endif
