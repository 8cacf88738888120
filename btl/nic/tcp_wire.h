/* SPDX-License-Identifier: BSD-3-Clause */
/* tcp_wire.h - what the tcp backend says over its connections; see doc/wire.md.
 *
 * Who calls begins with a hello. It shows half of the secret of the process that is
 * called, which only that process's address gives, and nothing else is looked at
 * before that half was found right. A hello is taken once: who says it again has
 * listened. The answer shows the other half. Both come before
 * anything else on a connection for frames; a connection for puts and gets begins with
 * the hello alone.
 *
 *     frames           records in both directions, a head of 16 bytes each
 *     puts and gets    requests of the caller's, and what the called one answers
 *
 * Numbers are in the byte order of x86_64. All that is read here was written by
 * somebody else: the functions check it, and nothing but what they let pass is used.
 */
#ifndef PW_TCP_WIRE_H
#define PW_TCP_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The version changes with anything in this file. */
enum {
    TCP_MAGIC = 0x70636f77,         /* of hello and answer */
    TCP_MARK = 0x74,                /* of an address */
    TCP_VERSION = 3,
    TCP_SECRET = 16, TCP_HALF = TCP_SECRET / 2,
    TCP_FRAME_MAX = 128 << 10,
    TCP_OPS = 64,                   /* requests that a caller has under way at most */
};

/* Published to peers through address(). */
struct tcp_address {
    uint8_t mark, version;
    uint8_t family;                 /* 4 or 6 */
    uint8_t prefix;                 /* bits of its network */
    uint16_t port;
    uint16_t zero;
    uint8_t ip[16];                 /* 4 bytes and zeros for IPv4 */
    uint8_t secret[TCP_SECRET];
    uint64_t host;                  /* the same for those who share a network namespace */
    uint64_t job;
};

enum tcp_hello_what { TCP_FRAMES = 1, TCP_BULK = 2 };

struct tcp_hello {
    uint32_t magic;
    uint16_t version;
    uint16_t what;                  /* enum tcp_hello_what */
    uint8_t proof[TCP_HALF];        /* first half of the secret of who is called */
    uint64_t session;               /* of TCP_FRAMES: greater than in any hello of this
                                     * process before; of TCP_BULK: that of the
                                     * connection for frames */
    struct tcp_address from;
};

struct tcp_answer {
    uint32_t magic;
    uint32_t version;
    uint8_t proof[TCP_HALF];        /* second half of the secret of who is called */
    uint64_t session;               /* as in the hello */
};

/* Records on a connection for frames. */
enum tcp_kind {
    TCP_FRAME = 1,      /* imm, and len bytes */
    TCP_ALIVE = 2,      /* nothing else to say */
    TCP_BYE = 3,        /* the last one: leaves in good order */
};

/* Of 16 bytes, for with 8 the kernel copies page-aligned bytes behind it to 8 bytes beyond
 * where they are in their page, which takes half as long again on some processors. */
struct tcp_head {
    uint32_t kind_len;              /* kind << 24 | len */
    uint32_t imm;                   /* of a frame, else 0 */
    uint32_t puts;                  /* it is not to be delivered before so many have landed */
    uint32_t zero;
};

/* On a connection for puts and gets. Each request is answered by a TCP_DONE with the
 * same op; before it, for a get, by one TCP_DATA and len bytes: all of them also when
 * some could not be read, as status tells then. Of a put, len bytes follow. */
enum tcp_bulk_kind { TCP_PUT = 1, TCP_GET = 2, TCP_DATA = 3, TCP_DONE = 4 };

struct tcp_request {
    uint16_t kind;
    uint16_t op;                    /* below TCP_OPS, the caller's choice */
    uint32_t lend;                  /* 1: a get's data rather not copied, see tcp_lend.c; 0 */
    uint64_t region, remote, len;
};

struct tcp_reply {
    uint16_t kind;
    uint16_t op;
    int32_t status;                 /* 0 or -errno; 0 in TCP_DATA */
    uint64_t len;                   /* of TCP_DATA, as in the request; else 0 */
};

_Static_assert(sizeof(struct tcp_address) == 56, "no holes");
_Static_assert(sizeof(struct tcp_hello) == 80 && sizeof(struct tcp_answer) == 24, "no holes");
_Static_assert(sizeof(struct tcp_head) == 16, "no holes");
_Static_assert(sizeof(struct tcp_request) == 32 && sizeof(struct tcp_reply) == 16, "no holes");

static inline bool tcp_zeros(const uint8_t *p, size_t n)
{
    uint8_t any = 0;

    for (size_t i = 0; i < n; i++)
        any |= p[i];
    return !any;
}

static inline bool tcp_address_sane(const struct tcp_address *a)
{
    unsigned bytes = a->family == 4 ? 4 : 16;

    return a->mark == TCP_MARK && a->version == TCP_VERSION &&
           (a->family == 4 || a->family == 6) && a->prefix <= 8 * bytes && !a->zero &&
           a->port && !tcp_zeros(a->ip, bytes) && tcp_zeros(a->ip + bytes, 16 - bytes);
}

static inline bool tcp_address_parse(const void *bytes, size_t len, struct tcp_address *a)
{
    if (len != sizeof(*a))
        return false;
    memcpy(a, bytes, sizeof(*a));
    return tcp_address_sane(a);
}

/* Does who said that know the secret of me? As much of it as has come; more may follow. */
static inline bool tcp_hello_begins(const struct tcp_hello *h, size_t have,
                                    const struct tcp_address *me)
{
    struct tcp_hello want = { .magic = TCP_MAGIC, .version = TCP_VERSION, .what = h->what };
    size_t n = offsetof(struct tcp_hello, session);

    memcpy(want.proof, me->secret, TCP_HALF);
    return !memcmp(h, &want, have < n ? have : n);
}

/* All of it has come, and begins well. */
static inline bool tcp_hello_sane(const struct tcp_hello *h, const struct tcp_address *me)
{
    return (h->what == TCP_FRAMES || h->what == TCP_BULK) && tcp_address_sane(&h->from) &&
           h->from.job == me->job && h->from.family == me->family &&
           memcmp(&h->from, me, sizeof(*me));
}

static inline bool tcp_answer_sane(const struct tcp_answer *a, uint64_t session,
                                   const struct tcp_address *called)
{
    return a->magic == TCP_MAGIC && a->version == TCP_VERSION && a->session == session &&
           !memcmp(a->proof, called->secret + TCP_HALF, TCP_HALF);
}

static inline struct tcp_head tcp_head_make(enum tcp_kind kind, size_t len, uint32_t imm,
                                            uint32_t puts)
{
    return (struct tcp_head){ (uint32_t)kind << 24 | (uint32_t)len, imm, puts, 0 };
}

/* What the head of a record says, or 0 when no peer of ours says so. */
static inline enum tcp_kind tcp_head_parse(const void *at, struct tcp_head *h, uint32_t *len)
{
    uint32_t kind;

    memcpy(h, at, sizeof(*h));
    kind = h->kind_len >> 24;
    *len = h->kind_len & 0xffffff;
    if (kind < TCP_FRAME || kind > TCP_BYE || h->zero ||
        *len > (kind == TCP_FRAME ? (uint32_t)TCP_FRAME_MAX : 0))
        return 0;
    return (enum tcp_kind)kind;
}

static inline bool tcp_request_sane(const struct tcp_request *r)
{
    return (r->kind == TCP_PUT || r->kind == TCP_GET) && r->op < TCP_OPS && r->lend <= 1 &&
           r->len <= SIZE_MAX / 2 && r->remote + r->len >= r->remote;
}

static inline bool tcp_reply_sane(const struct tcp_reply *r)
{
    return r->op < TCP_OPS && (r->kind == TCP_DONE ? !r->len && r->status <= 0
                                                   : r->kind == TCP_DATA && !r->status);
}

#endif
