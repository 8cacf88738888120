/* SPDX-License-Identifier: BSD-3-Clause */
/* ofi_wire.h - what the ofi backend's messages look like; doc/wire.md says it in words.
 *
 * Both sides are little-endian. A message begins with struct ofi_head, but for a hello and
 * a leave: those are told by their magic, which is no kind.
 */
#ifndef PW_OFI_WIRE_H
#define PW_OFI_WIRE_H

#include <stdint.h>

/* The version changes with anything in this file. */
enum { OFI_MAGIC = 0x696f6650, OFI_VERSION = 1, OFI_NAME_MAX = 64, OFI_ID = 16 };

/* Published to peers through address(), as far as name_len says. */
struct ofi_address {
    uint32_t magic;
    uint8_t version;
    uint8_t name_len;
    uint16_t provider_version;  /* of the protocol that the provider speaks */
    uint32_t provider;          /* that protocol: FI_PROTO_RXM and so on */
    uint32_t format;            /* of the name: FI_SOCKADDR_IN and so on */
    uint64_t job;
    uint64_t host;              /* of the kernel's boot id and the network namespace */
    uint8_t secret[OFI_ID];     /* who knows it got this address from us */
    uint8_t name[OFI_NAME_MAX];
};

enum ofi_message_kind {
    /* in order, each takes room in the window */
    OFI_DATA = 1,       /* a frame: its bytes follow */
    OFI_PUT,            /* struct ofi_put_head, then its bytes */
    OFI_FETCH,          /* struct ofi_fetch_head: read this from me */
    OFI_BYE,            /* I leave; nothing follows */
    /* out of order */
    OFI_ACK,            /* only the count in the head */
    OFI_PING,           /* answered by ACK */
    OFI_BYE_DONE,       /* all up to BYE has arrived */
    OFI_PUT_DONE,       /* struct ofi_put_done */
};

struct ofi_head {
    uint16_t kind;
    uint16_t slot;      /* the receiver's name for the sender, from its hello */
    uint32_t seq;       /* of messages in order: 0, 1, ... */
    uint32_t consumed;  /* so many of the receiver's messages in order were dealt with */
    uint32_t imm;
    uint64_t token;     /* from the receiver's hello */
};

/* Memory as a peer names it: the 32 bytes of a key. */
struct ofi_key {
    uint64_t base, len;
    uint64_t key;       /* libfabric's */
    uint32_t place;     /* among the owner's pins */
    uint32_t there;     /* 1; else it is no key */
};

struct ofi_put_head {
    uint64_t addr;
    uint32_t id;
    uint32_t place;
    uint64_t key;
};

struct ofi_fetch_head {
    struct ofi_put_head to;
    uint64_t len;
    uint64_t from;      /* as libfabric wants it: an address or an offset */
    uint64_t from_key;
};

struct ofi_put_done {
    struct ofi_head head;
    uint32_t id;
    int32_t status;     /* 0 or -errno */
};

enum ofi_hello_what {
    OFI_HELLO = 1,      /* I call and want an answer */
    OFI_WELCOME,        /* I have your token and you have mine */
    OFI_LEAVE,          /* I do not call any more */
};

/* To somebody whose address we have. */
struct ofi_hello {
    uint32_t magic;
    uint8_t version;
    uint8_t what;
    uint16_t slot;              /* the sender's place for the receiver */
    uint8_t secret[OFI_ID];     /* the receiver's */
    uint64_t token;             /* to be shown to the sender */
    uint64_t echo;              /* the token of the receiver's hello; 0: none came */
    struct ofi_address from;
};

#endif
