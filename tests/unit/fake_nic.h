/* SPDX-License-Identifier: BSD-3-Clause */
/* fake_nic.h - a NIC that lives in one process and misbehaves on request.
 *
 * For tests of code that uses NICs, and to prove that the conformance suite
 * notices a bad one. It keeps the whole contract of pinwheel/nic.h as long as
 * nobody asks for a fault. NICs of one process find each other by address;
 * frames travel through queues in memory.
 *
 *     fake_nic_reset();
 *     struct fake_nic_traits t = *fake_nic_traits(&fake_nic_ops);
 *     t.pending = true;
 *     *fake_nic_traits(&fake_nic_ops) = t;          what the next open() makes
 *     fake_nic_ops.open(&config, &nic);
 *     fake_nic_fail(nic, FAKE_SEND, 3, 2, -EAGAIN); the 3rd and 4th send from now
 *     fake_nic_cut(nic, other, -ETIMEDOUT);         the path fails
 *     fake_nic_mend(nic, other);                    and may be connected again
 *
 * Two tables, two kinds of NIC that do not reach each other: for tests of
 * several paths to one peer. Every function here may be called by any thread,
 * from upcalls too, unless said otherwise.
 */
#ifndef PW_FAKE_NIC_H
#define PW_FAKE_NIC_H

#include "pinwheel/nic.h"

extern const struct pw_nic_ops fake_nic_ops;    /* named "fake" */
extern const struct pw_nic_ops fake_nic_ops2;   /* named "fake2" */

/* Applied to each frame as it leaves the NIC. 0 means never. */
struct fake_nic_faults {
    unsigned drop_every;        /* each n-th frame is lost; 1 = a black hole */
    unsigned duplicate_every;   /* each n-th frame arrives twice */
    unsigned corrupt_every;     /* each n-th frame has one bit changed */
    unsigned swap_every;        /* each n-th frame overtakes the one before it,
                                 * if that one is still on its way */
    unsigned delay;             /* progress calls of the receiver that pass
                                 * before a frame can be seen */
    bool own_first;             /* put_own and get_own begin at the pin's first byte */
};

/* One promise of the contract each, broken. For the suite's own tests. */
enum fake_break {
    FAKE_BREAK_LEAK = 1 << 0,           /* open leaks a descriptor */
    FAKE_BREAK_ANY_ADDRESS = 1 << 1,    /* reachable() says yes to anything */
    FAKE_BREAK_ANY_JOB = 1 << 2,        /* frames of other jobs come in */
    FAKE_BREAK_EARLY_LOST = 1 << 3,     /* frames sent before the peer connects */
    FAKE_BREAK_FRAME_MAX = 1 << 4,      /* frames over frame_max are cut short */
    FAKE_BREAK_IOV = 1 << 5,            /* the third piece is forgotten */
    FAKE_BREAK_INLINE_FIRST = 1 << 6,   /* send_inline overtakes send */
    FAKE_BREAK_UNBOUNDED = 1 << 7,      /* never -EAGAIN */
    FAKE_BREAK_LIE = 1 << 8,            /* a full queue takes the frame, loses it */
    FAKE_BREAK_COOKIE = 1 << 9,         /* upcalls name the first peer */
    FAKE_BREAK_PUT_LATE = 1 << 10,      /* the frame comes before the put data */
    FAKE_BREAK_OVERRUN = 1 << 11,       /* put and get copy one byte more */
    FAKE_BREAK_NO_FAULT = 1 << 12,      /* bad keys and addresses answer 0 */
    FAKE_BREAK_TORN = 1 << 13,          /* atomic is load, then store */
    FAKE_BREAK_RESULT = 1 << 14,        /* atomic returns the new value */
    FAKE_BREAK_UNALIGNED = 1 << 15,     /* unaligned atomics answer 0 */
    FAKE_BREAK_DEAF = 1 << 16,          /* wait sleeps its whole time */
    FAKE_BREAK_OVERSLEEP = 1 << 17,     /* wait sleeps for longer */
    FAKE_BREAK_SPIN = 1 << 18,          /* wait burns the processor */
    FAKE_BREAK_CLOSE_LOSES = 1 << 19,   /* close takes queued frames along */
    FAKE_BREAK_NO_DOWN = 1 << 20,       /* nobody is told */
    FAKE_BREAK_DOWN_TWICE = 1 << 21,
    FAKE_BREAK_DOWN_CAUSE = 1 << 22,    /* death is told as good order */
    FAKE_BREAK_NO_EPIPE = 1 << 23,      /* sends to the dead answer 0 */
    FAKE_BREAK_COMPLETE_TWICE = 1 << 24,
    FAKE_BREAK_NO_REACH = 1 << 25,      /* reach() says NONE, put works */
    FAKE_BREAK_KERNEL = 1 << 26,        /* kernel_copy = false is ignored */
    FAKE_BREAK_SLEEPY_PROGRESS = 1 << 27,   /* progress counts no upcalls */
    FAKE_BREAK_ALL_STALL = 1 << 28,     /* one full queue stops all sends */
    FAKE_BREAK_NO_REFUSAL = 1 << 29,    /* connect to a closed NIC answers 0 */
    FAKE_BREAK_STARVE = 1 << 30,        /* who comes first is served first, always */
    FAKE_BREAK_NO_CALLER = -0x7fffffff - 1, /* nobody is told of who calls */
};

/* What open() makes. */
struct fake_nic_traits {
    uint32_t flags;             /* enum pw_nic_flag */
    size_t frame_max, inline_max;
    uint32_t latency_ns;
    uint64_t bytes_per_s;
    size_t key_room;
    uint32_t network;           /* NICs reach each other on the same one only */
    enum pw_reach pool_reach;   /* memory in the peer's pool */
    enum pw_reach other_reach;  /* the peer's other memory */
    bool pending;               /* send, put, get, atomic end in a later progress */
    int probe_error;            /* probe and open return it, unless 0 */
    uint32_t breaks;            /* enum fake_break */
    struct fake_nic_faults faults;
};

/* The traits of the NICs opened next, to be read and written: lossless, put and
 * atomic, DIRECT reach to everything pinned, no faults, until changed. Not while
 * another thread opens a NIC. */
struct fake_nic_traits *fake_nic_traits(const struct pw_nic_ops *ops);

/* Default traits, no cuts. Returns the number of NICs that are still open. */
unsigned fake_nic_reset(void);

/* Replace the faults of an open NIC. */
void fake_nic_set_faults(struct pw_nic *nic, const struct fake_nic_faults *faults);

/* What fails and is counted. */
enum fake_op {
    FAKE_CONNECT, FAKE_SEND, FAKE_SEND_INLINE, FAKE_PUT, FAKE_GET, FAKE_ATOMIC,
    FAKE_PIN, FAKE_FENCE,
    FAKE_COMPLETE,  /* of a pending operation: it is not carried out */
    FAKE_OPS
};

/* Calls nth .. nth + count - 1 of op from now on return err and do nothing else.
 * nth 1 is the next call; count 0 means all from there on. A later call for the
 * same op replaces the plan; err 0 drops it. */
void fake_nic_fail(struct pw_nic *nic, enum fake_op op, unsigned nth, unsigned count,
                   int err);

/* How often op was called, failures included. */
unsigned fake_nic_calls(struct pw_nic *nic, enum fake_op op);

/* Ranges pinned and not unpinned. */
unsigned fake_nic_pins(struct pw_nic *nic);

/* Frames accepted for this peer and not delivered to it yet. */
unsigned fake_nic_in_flight(struct pw_nic_peer *peer);

/* The path between two NICs fails: frames still delayed are lost, each side gets
 * down(cause), connect answers -ECONNREFUSED until mended; with PW_NIC_ANSWERS it begins
 * and nothing comes of it until then. cause is negative. */
void fake_nic_cut(struct pw_nic *a, struct pw_nic *b, int cause);
void fake_nic_mend(struct pw_nic *a, struct pw_nic *b);

/* As if the process that owns the NIC were killed now. Its operations answer
 * -EPIPE from then on and its progress does nothing; close it to free it. */
void fake_nic_die(struct pw_nic *nic);

#endif
