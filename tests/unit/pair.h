/* SPDX-License-Identifier: BSD-3-Clause */
/* pair.h - two engines in one process, each other's peer, over fake NICs.
 *
 *     struct pair p;
 *     pair_open(&p, &(struct pair_plan){ .keyed = true });
 *     pair_send(&p.a, 1);
 *     pair_turns(&p, 2);                  p.b.received is 1
 *     pair_close(&p);
 *
 * Side a asks, side b serves. The NICs are the fake ones with what the core
 * needs besides: keys, an offered buffer that can be reached, a wait that is
 * written down and does not sleep. Everything happens in the order the test
 * gives; only guards look at the clock.
 */
#ifndef PW_PAIR_H
#define PW_PAIR_H

#include "btl/core/core.h"
#include "tests/unit/fake_nic.h"

enum { PAIR_SEEN = 16, PAIR_WAITS = 64 };

/* Zeroed: one lossless NIC that reaches no memory. Costs are such that the kernel
 * is cheaper than a stream from 2.3 KB on. */
struct pair_plan {
    bool two_nics;              /* "fake" and "fake2" */
    unsigned rails;             /* or so many devices of "fake", "r0" and on, each on a
                                 * network of its own */
    unsigned first;             /* the first of them is r`first` */
    const char *include;        /* of them */
    unsigned peer_timeout_ms;
    bool keyed;                 /* NICs give keys, so that they reach what is pinned */
    bool offers;                /* and reach the peer's pool without one */
    bool kernel;                /* and the peer's other memory by the kernel */
    enum pw_bulk bulk;
    bool threads;
    size_t chunk;               /* 0: 1024 */
    size_t chunk_most;
    size_t queue_bytes;         /* 0: the fake NIC's own */
    unsigned cores, sleep_us;
    bool apart;                 /* do not open the endpoints */
    const char *monitor;        /* by name; NULL: auto, which is "none" here */
    int (*monitor_open)(const char *name, struct pw_monitor **out,
                        struct pw_monitor_report *report);  /* NULL: opens "none" */
    size_t pin_bytes, pin_regions;
    const struct pw_nic_ops *const *backends;   /* NULL: the fake NICs */
};

struct pair_side {
    struct pw_pool *pool;
    struct pw_engine *e;
    struct pw_endpoint *ep;
    struct pair_side *other;

    unsigned received;          /* messages */
    bool disorder;              /* some message did not carry the number it should */
    uint8_t tags[PAIR_SEEN];    /* of the first ones */
    size_t lens[PAIR_SEEN];
    uint8_t bytes[PAIR_SEEN];   /* their first bytes */
    unsigned deaths;
    int cause;
    char why[PW_NIC_WHY_MAX];
    unsigned news;              /* of paths, and the last */
    char told[400];
    unsigned callers;           /* told of */
    uint32_t fingerprint;       /* of the last one */
    /* Called from upcalls when set, after the books above. */
    void (*on_recv)(struct pair_side *side);
    void (*on_data)(struct pair_side *side, const void *data, size_t len);
    void (*on_dead)(struct pair_side *side);
    void (*on_caller)(struct pair_side *side);
};

struct pair {
    struct pair_side a, b;
};

void pair_open(struct pair *p, const struct pair_plan *plan);
void pair_close(struct pair *p);        /* expects that nothing is left open */

/* One side without a pair: its own pool and engine. */
int pair_side_open(struct pair_side *side, const struct pair_plan *plan,
                   const char *nics, char why[PW_NIC_WHY_MAX]);
void pair_side_close(struct pair_side *side);
int pair_meet(struct pair_side *side, struct pair_side *other);

void pair_turns(struct pair *p, unsigned n);

/* Progress on both sides until *count has reached want; false after 30 s. */
bool pair_until(struct pair *p, const unsigned *count, unsigned want);

/* A message of 4 bytes, its number. As pw_endpoint_send(). */
int pair_send(struct pair_side *side, uint32_t number);

/* A frame as no engine would send it, from side to its peer. */
void pair_forge(struct pair_side *side, uint32_t imm, const void *data, size_t len);

/* The i-th NIC of a side; its view of the peer. */
struct pw_nic *pair_nic(struct pair_side *side, int i);
struct pw_nic_peer *pair_peer(struct pair_side *side, int i);

/* A callback's books. */
struct pair_outcome {
    unsigned calls;
    int status;
};
void pair_done(void *arg, int status);

/* A queued message with its books. */
struct pair_note {
    struct pw_message m;
    uint32_t number;
    unsigned calls;
    int status;
};
void pair_queue(struct pair_side *side, struct pair_note *note, uint32_t number);

/* What the NICs were asked to wait for, since pair_open(). Of both sides. */
struct pair_waits {
    unsigned calls;
    unsigned us[PAIR_WAITS];    /* of the first ones */
};
extern struct pair_waits pair_waits;

/* Ranges that NICs of both sides have pinned and not unpinned, closed ones too. */
extern int pair_pinned;

/* The two tables, and the next open of either to fail when set, with that sentence. */
extern const struct pw_nic_ops *const pair_backends[];
extern int pair_open_error[2];
extern const char *pair_open_why;

/* Once a get or a put has answered -EOPNOTSUPP keys are of no use any more, when set:
 * what is left is what the plan says of memory without one. */
extern bool pair_keys_expire;

/* Gets of memory that needs no key fail with that when set. */
extern int pair_get_error;

/* What rails say that their network adds. */
extern uint32_t pair_delay_ns;

/* Of a hundred frames so many are lost, by chance but each time the same ones: the
 * fake NIC's own "each n-th" may fall into step with who sends again. */
extern unsigned pair_loss_percent;

/* Called before and after each send of a NIC, when set: what another thread does
 * meanwhile. */
extern void (*pair_before_send)(uint32_t imm);
extern void (*pair_after_send)(uint32_t imm);

/* Before a send of memory that is to stay, the arguments of send_kept. The room before it
 * is filled with PAIR_ROOM. */
enum { PAIR_ROOM = 0xa5 };
extern void (*pair_on_kept)(const void *base, size_t len, size_t room, unsigned before);

#endif
