/* SPDX-License-Identifier: BSD-3-Clause */
/* rdm.h - a NIC backend over a library whose endpoints send messages to whoever has their
 * address (reliable datagrams), and may read memory: ofi over libfabric, ucx over UCX, verbs
 * over libibverbs.
 *
 *     rdm.c          open and close
 *     rdm_library.h  the library, loaded when it is first needed
 *     rdm_ports.h    the kernel's list of RDMA devices
 *     rdm_wire.h     what travels in messages, byte by byte
 *     rdm_buffers.c  buffers for messages
 *     rdm_link.c     addresses, hellos, peers that come, leave and fall silent
 *     rdm_listen.c   does the process of a peer that is silent still exist?
 *     rdm_send.c     messages out
 *     rdm_events.c   messages in, what has ended
 *     rdm_lock.h     the lock
 *     rdm_turn.c     whose turn it is: progress, waiting, the service thread
 *     rdm_memory.c   registered memory, put and get
 *     rdm_stream.c   puts and gets by messages, where the library does not read memory
 *
 * The library is used for messages and, where it does that without the peer's help, for
 * reading its memory; for nothing else.
 * A put asks the peer to read (a short one carries its bytes), so that who is written to
 * knows when to stop: what goes over TCP cannot be taken back once the library has it, and
 * the kernel delivers it minutes later, when the put was done again on another path and the
 * memory is used for other things. Atomics are not offered: those of libraries exclude
 * each other but not the CPU's.
 *
 * For the same reason an endpoint that may still write into memory of a lost peer's get is
 * closed and opened anew at the same address (rdm_port_reset). All of its peers are down
 * then, and come back.
 *
 * nic->guard guards everything and is held around all calls of the library; upcalls are made
 * without it, by rdm_progress() alone.
 */
#ifndef PW_RDM_H
#define PW_RDM_H

#include <pthread.h>
#include <sys/types.h>

#include "ifaces.h"
#include "rdm_library.h"
#include "rdm_lock.h"
#include "rdm_wire.h"
#include "pinwheel/nic.h"
#include "pinwheel/pool.h"

enum {
    RDM_MESSAGE_MAX = 65536,        /* bytes of one message, headers included */
    RDM_PUT_SHORT = 8192,           /* puts up to there carry their bytes */
    RDM_READ_SHORT = 1024,          /* so much is read at a time where the library finds no
                                     * way to register what it reads into */
    RDM_BOUNCE = 32768,             /* gets up to there are copied where local memory must
                                     * be registered; longer ones register it */
    RDM_WINDOW = 64,                /* messages that a peer may have unread */
    RDM_WINDOW_BYTES = 1 << 20,     /* and their bytes */
    RDM_RX_BASE = 64, RDM_RX_PEER = 16, RDM_RX_MOST = 512,  /* buffers posted */
    RDM_RX_LEAST = 32,              /* when fewer are, because others wait for their turn,
                                     * more are made */
    RDM_TX_MOST = 256,              /* buffers under way */
    RDM_SLAB = 16,                  /* of them are made at a time */
    RDM_HELLO_MS = 100,             /* the first is repeated after that, then later */
    RDM_HELLO_MOST_MS = 1000,
    RDM_PING_MS = 400,              /* silent for so long: it is asked */
    RDM_TIMEOUT_MS = 15000,         /* where the config names none */
    RDM_CALLER_MS = 50,             /* between two upcalls for one caller */
    RDM_CALLER_KEPT_MS = 5000,      /* one that has left, or never came up, is kept so long */
    RDM_FLUSH_MS = 200,             /* a library has so long to give back what was under
                                     * way to a lost peer */
    RDM_LEAVE_MS = 2000,            /* so long close waits for what peers have not read */
    RDM_TEST_MS = 3000,             /* so long the test of the endpoint may take */
    RDM_INLINE = 1024,
};

/* ---- what a library does for these files ---- */

struct rdm_nic;
struct rdm_peer;

enum rdm_kind { RDM_RX, RDM_TX, RDM_READ, RDM_PULL };

/* First in all that a library gets and gives back. */
struct rdm_context {
    void *room[8];                  /* the library's */
    enum rdm_kind kind;
    struct rdm_peer *peer;          /* NULL: nobody cares any more */
};

/* A buffer for one message: given to the library, or queued with what it brought. A library
 * that has memory of its own for that may leave the bytes there. */
struct rdm_rx {
    struct rdm_context c;
    struct rdm_rx *next;
    struct rdm_slab *slab;
    size_t len;
    uint8_t *bytes;
    uint8_t *room;                  /* ours */
    void *held;                     /* the library's; NULL: they are in ours */
    bool pulling;                   /* a PULL under way: what came later waits */
    bool owed;                      /* its answer found no room: unread until it has */
};

struct rdm_tx {
    struct rdm_context c;
    struct rdm_tx *next;
    struct rdm_slab *slab;
    uint8_t *bytes;
};

/* Buffers of both kinds, in one registration. */
struct rdm_slab {
    struct rdm_slab *next;
    uint8_t *memory;
    void *mr;                       /* NULL where none is needed */
    union {
        struct rdm_rx rx[RDM_SLAB];
        struct rdm_tx tx[RDM_SLAB];
    };
};

/* Called with nic->guard held. Errors are negative errno; what an ending says is a positive
 * one. An error of send, inject and read but -EAGAIN and -EMSGSIZE is the connection's. */
struct rdm_driver {
    const struct pw_nic_ops *ops;
    uint32_t magic;                 /* of its addresses and hellos */
    size_t nic_size;                /* of what begins with struct rdm_nic */

    /* Fill nic->base.info, nic->address but for job and host, and what these files are to
     * know of the library. device: NULL for the best. */
    int (*open)(struct rdm_nic *nic, const char *device, char why[PW_NIC_WHY_MAX]);
    /* After port_close; when all that was registered is given back. Also after a failed
     * open. */
    void (*close)(struct rdm_nic *nic);
    /* When there are buffers to receive with, before there are peers: does it do what it
     * says? Sets reads and probes. -errno and a sentence: it is not to be used at all. */
    int (*test)(struct rdm_nic *nic, char why[PW_NIC_WHY_MAX]);

    /* No context comes back any more, and none that was out is touched. */
    void (*port_close)(struct rdm_nic *nic);
    /* At the address that it had. NULL: a library that can drop a peer alone needs none. */
    int (*port_open)(struct rdm_nic *nic);

    /* 0 and the IP address and port that are in it; -ENOENT: there is none; -EINVAL: no
     * address of this library's. */
    int (*address_ip)(const struct rdm_address *a, struct pw_ip *ip, uint16_t *port);

    /* A way to peer->address. 0, -EHOSTUNREACH or -ENOMEM. */
    int (*peer_open)(struct rdm_peer *peer);
    /* Where nic->reads: does that one read, too, and what can we read of it? NULL: all do. */
    bool (*peer_reads)(const struct rdm_peer *peer);
    void (*peer_close)(struct rdm_peer *peer);
    /* NULL, or drop what is under way to it, as the port is not closed for it: endings
     * follow. */
    void (*peer_drop)(struct rdm_peer *peer);

    /* NULL, or: it may be alive without a connection, and is asked otherwise than by a
     * message; heard_ms says when it has answered. Not 0: a message it is. */
    int (*ask)(struct rdm_peer *peer);

    /* At most inject_most bytes; the memory is the caller's again. */
    int (*inject)(struct rdm_peer *peer, const void *bytes, size_t len);
    /* 0: rdm_ended() comes, perhaps from inside. */
    int (*send)(struct rdm_peer *peer, struct rdm_tx *tx, size_t len);
    /* Give it a buffer to receive with; not 0: not now. */
    int (*post)(struct rdm_nic *nic, struct rdm_rx *rx);

    /* rdm_message_heard() and rdm_ended() for what has come. How many. */
    int (*poll)(struct rdm_nic *nic);
    /* Before a sleep: a descriptor that becomes readable; -1: there is none; -EAGAIN:
     * something has come. */
    int (*arm)(struct rdm_nic *nic);

    /* access: enum pw_access of peers, 0: our own use alone. 0 or -errno. */
    int (*mr_open)(struct rdm_nic *nic, const void *addr, size_t len, unsigned access,
                   void **out);
    void (*mr_close)(struct rdm_nic *nic, void *mr);
    uint64_t (*mr_key)(void *mr);
    /* May it be read, and read into? Not if the library would not have it, and mr_open gave
     * no more than a number. NULL: all may. */
    bool (*mr_reads)(void *mr);

    /* Read a peer's memory, where peer->reads. At most nic->read_most. 0: rdm_ended() comes,
     * not from inside. -ENOMEM: less may do. */
    int (*read)(struct rdm_peer *peer, struct rdm_context *c, void *to, size_t len,
                void *mr, uint64_t from, uint64_t key);

    const char *(*error)(const struct rdm_nic *nic, int err);
};

/* ---- put and get ---- */

enum rdm_state {
    RDM_CALLING,        /* hellos are sent */
    RDM_UP,
    RDM_DYING,          /* queued upcalls, then down */
    RDM_DOWN,           /* the down upcall has come, or no one is to get one */
    RDM_LEAVING,        /* disconnected; what was sent is on its way */
};

/* An operation of ours that the user waits for. */
struct rdm_op {
    struct rdm_context c;           /* RDM_READ */
    struct rdm_op *next;            /* of the peer, or among those that are done */
    void *cookie;
    int status;
    uint32_t id;                    /* of a put: the peer's answer names it */
    bool under_way;                 /* a get that was not given back yet */
    bool forgotten;                 /* and of which nobody is told when it is */
    void *mr;                       /* registered for this operation; NULL none */
    struct rdm_pin *own;            /* or where it lies in what is registered; NULL nowhere */
    struct rdm_tx *bounce;          /* a get through it; NULL none */
    uint8_t *local;
    size_t most;                    /* of it is read at a time */
    size_t len, at;                 /* at: so much was read, or is being read, or was sent */
    size_t landed;                  /* by messages: so much is in its place */
    unsigned unanswered;            /* pieces of a put */
    uint64_t remote, key;
    uint32_t place;
    bool put;                       /* by messages, of local */
    bool get;                       /* by messages, into local */
};

/* A put of a peer's that we fetch. */
struct rdm_pull {
    struct rdm_context c;           /* RDM_PULL */
    struct rdm_pull *next;          /* among the peer's */
    struct rdm_rx *rx;              /* its place in the order */
    struct rdm_pin *pin;
    uint32_t id;
    bool started;                   /* the library has it */
    uint8_t *local;
    size_t most;                    /* of it is read at a time */
    size_t len, at;
    uint64_t remote, key;
};

/* A get of a peer's that we answer by messages. */
struct rdm_serve {
    struct rdm_serve *next;         /* of the peer, in the order in which they came */
    struct rdm_pin *pin;            /* NULL: refused */
    uint32_t id;
    uint64_t addr;
    size_t len, at;
};

/* Memory that peers may reach. */
struct rdm_pin {
    void *mr;
    uint8_t *base;
    size_t len;
    unsigned access;
    bool reads;                     /* the library reads it */
    unsigned users;                 /* pulls into it, serves, and operations of ours */
    bool closing;                   /* unpinned: the last user frees it */
};

/* ---- peers ---- */

/* An answer that found no room. */
struct rdm_owed {
    struct rdm_owed *next;
    uint32_t id;
    int status;
    size_t bytes;                   /* of the put, which counts as read when this is paid */
};

struct rdm_peer {
    struct pw_nic_peer base;
    void *cookie;
    bool adopted;                   /* connect() was called for it; else it is a caller */
    enum rdm_state state;
    uint16_t slot;                  /* here */
    uint16_t its_slot;
    uint64_t token;                 /* it shows that to us */
    uint64_t its_token;             /* we to it; 0: not known */
    struct rdm_address address;
    bool there;                     /* opened by the driver */
    bool reads;                     /* it and we read each other's memory */
    union {
        uint64_t number;
        void *pointer;
    } to;                           /* as the driver calls it */
    char text[64];                  /* its address for people */

    uint32_t sent, acked;           /* messages in order to it, and how many it consumed */
    uint32_t bytes[RDM_WINDOW];     /* of those that it did not */
    uint32_t bytes_out;             /* sum of them */
    uint32_t expected;              /* the next one from it */
    uint32_t consumed, told;        /* of its; as it knows it */
    size_t untold_bytes;            /* of those that it does not know of */
    struct rdm_rx *in, **in_end;    /* to be delivered, in order */
    struct rdm_rx *early;           /* came before others; sorted */
    uint32_t claimed;               /* so many in order it says to have sent */
    uint32_t answers;               /* PUT_DONE to it */
    uint32_t asked;                 /* PUT and FETCH to it */
    uint32_t answered, answers_claimed;     /* from it: that came, and that it has sent */
    uint64_t early_ms, answers_ms;  /* since when one of either is missing */
    struct rdm_op *ops;             /* pending */
    struct rdm_pull *pulls;
    struct rdm_serve *serves;
    unsigned n_serves;
    unsigned n_puts;                /* of the ops, with pieces that were not sent */
    struct rdm_owed *owed;
    unsigned tx;                    /* buffers under way to it */

    uint64_t heard_ms, asked_ms, hello_ms, begun_ms, lost_ms, probed_ms;
    uint64_t told_ms;               /* of a caller: its last upcall */
    unsigned hello_gap_ms;
    uint64_t echoed;                /* its token that our last hello named */
    bool owe_hello, owe_ack, owe_bye, owe_bye_done;
    bool bye_sent, bye_done, bye_heard;
    bool untold;                    /* it is up, and the upcall has not been made */
    bool queued;                    /* among nic->ready */
    struct rdm_peer *next_ready;
    struct rdm_peer *next;          /* of the NIC's */

    int cause;                      /* of the down upcall */
    char why[PW_NIC_WHY_MAX];
};

struct rdm_nic {
    struct pw_nic base;
    const struct pw_nic_upcalls *up;
    void *ctx;
    unsigned timeout_ms;
    struct rdm_lock guard;
    const struct rdm_driver *driver;
    struct rdm_address address;
    struct pw_iface iface;          /* of a socket; index 0: this is none */
    size_t inject_most, read_most;
    bool local_mr;                  /* what is sent, or read into, is to be registered */
    bool populate;                  /* what is registered has to have its pages */
    bool offsets;                   /* registered memory is named by offsets, not addresses */
    bool reads;                     /* the endpoint reads peers' memory */
    bool distrust;                  /* of peers, as the config says */
    bool streams;                   /* messages bring what is put and got, where it does not */
    bool probes;                    /* a TCP connection to its address is answered: so who
                                     * refuses one is gone */
    bool broken;                    /* a reset failed */
    bool polling;                   /* the driver looks at what has come */
    bool reset;                     /* wanted: at the end of rdm_poll() */

    struct rdm_slab *slabs;
    struct rdm_tx *tx_free;
    struct rdm_rx *rx_idle;         /* not posted yet */
    uint64_t refused_ms;            /* tick in which memory for more was refused */
    unsigned n_tx, n_rx, n_posted;  /* n_posted: of n_rx, those that the library has */
    struct rdm_peer *peers;
    struct rdm_peer **slots;
    unsigned n_slots, n_peers;      /* n_peers: in any state; atomic */
    unsigned n_callers;             /* of the peers that nobody has connected to */
    struct rdm_peer *ready, **ready_end;    /* with something to deliver */
    struct rdm_op *done, **done_end;        /* upcalls to be made */
    struct rdm_pin **pins;
    unsigned n_pins, pin_hint;      /* all places before the hint are taken */
    uint32_t ids;

    pthread_t thread;
    bool has_thread, stop;
    int bell, stop_bell;            /* eventfds: end a wait, and the thread's sleep */
    int sleeping;                   /* atomic: somebody is in wait */
    unsigned looks;                 /* atomic: how often progress was called */
    uint64_t tick_ms;
    bool woken;                     /* atomic: the last sleep was ended by the library's
                                     * descriptor */
    unsigned false_wakes;           /* so often in a row without anything there */
};

static inline uint64_t rdm_ms(uint64_t ns)
{
    return ns / 1000000;
}

static inline struct rdm_nic *rdm_of(struct pw_nic *nic)
{
    return (struct rdm_nic *)nic;
}

static inline struct rdm_nic *rdm_nic_of(const struct rdm_peer *peer)
{
    return (struct rdm_nic *)peer->base.nic;
}

/* All below: with nic->guard held, unless it says otherwise. */

/* ---- rdm.c ---- */

/* pw_nic_ops.open and close of a backend with that driver. */
int rdm_open(const struct rdm_driver *driver, const struct pw_nic_config *config,
             struct pw_nic **out);
void rdm_close(struct pw_nic *base);

/* Close the endpoint and open it anew at its address. What was under way has ended, and
 * the library touches none of it any more. False: this one's cannot. */
bool rdm_port_reset(struct rdm_nic *nic);

/* What all of these NICs have in common. */
void rdm_info_fill(struct pw_nic_info *info);

/* The part of a backend's table that is the same for all. */
#define RDM_OPS                                                                        \
    .close = rdm_close, .address = rdm_address, .reachable = rdm_reachable,            \
    .connect = rdm_connect, .disconnect = rdm_disconnect, .send = rdm_send,            \
    .send_inline = rdm_send_inline, .reach = rdm_reach, .put = rdm_put, .get = rdm_get, \
    .put_own = rdm_put_own, .get_own = rdm_get_own,                                    \
    .atomic = rdm_atomic, .pin = rdm_pin, .unpin = rdm_unpin,                          \
    .progress = rdm_progress, .wait = rdm_wait

/* ---- rdm_buffers.c ---- */

/* spare: for a short message, without which others do not go on. */
struct rdm_tx *rdm_tx_get(struct rdm_nic *nic, bool spare);
void rdm_tx_put(struct rdm_nic *nic, struct rdm_tx *tx);

/* The first ones to send with and to receive with. 0 or -ENOMEM. */
int rdm_buffers_open(struct rdm_nic *nic);

/* Give rx to the library again, or keep it for later. */
void rdm_rx_post(struct rdm_nic *nic, struct rdm_rx *rx);

/* For a library that needs none posted: one to note a message down with. NULL: no memory. */
struct rdm_rx *rdm_rx_take(struct rdm_nic *nic);
int rdm_rx_grow(struct rdm_nic *nic, unsigned peers);

/* The library has given one back, and it may be kept for long. */
void rdm_rx_more(struct rdm_nic *nic);
void rdm_rx_retry(struct rdm_nic *nic);
void rdm_buffers_close(struct rdm_nic *nic);

/* The port is closed: none is with the library any more. */
void rdm_buffers_reclaim(struct rdm_nic *nic);

/* ---- rdm_listen.c ---- */

/* Does something at that address take TCP connections? 0 yes, -ECONNREFUSED no,
 * else not known. Waits wait_ms at most. */
int rdm_listens(const struct rdm_nic *nic, const struct rdm_address *a, int wait_ms);

/* Listen there, by nic->iface: a descriptor and the port in network order, or -errno.
 * Nothing is ever accepted: the kernel answers who looks whether we are there. */
int rdm_listen_open(const struct rdm_nic *nic, const struct pw_ip *ip, uint16_t *port);

/* ---- rdm_link.c ---- */

/* FNV-1a; begin with RDM_HASH_BEGIN. */
#define RDM_HASH_BEGIN UINT64_C(0xcbf29ce484222325)
uint64_t rdm_hash(uint64_t hash, const void *data, size_t len);

/* The driver has filled its part of nic->address. */
int rdm_link_open(struct rdm_nic *nic, uint64_t job);
void rdm_link_close(struct rdm_nic *nic);
size_t rdm_address(struct pw_nic *nic, void *out);
int rdm_reachable(struct pw_nic *nic, const void *addr, size_t len);
int rdm_connect(struct pw_nic *base, const void *addr, size_t len, void *cookie,
                struct pw_nic_peer **out);
void rdm_disconnect(struct pw_nic_peer *base);

/* what: enum rdm_hello_what. 0, -EAGAIN, -EPIPE. */
int rdm_hello_send(struct rdm_peer *peer, uint8_t what);
void rdm_hello_heard(struct rdm_nic *nic, const void *data, size_t len);
void rdm_peer_up(struct rdm_peer *peer);
void rdm_peer_free(struct rdm_peer *peer);

/* Is it time to tell of this caller? */
bool rdm_caller_due(const struct rdm_nic *nic, const struct rdm_peer *peer, uint64_t now);

/* The library may not write for it any more: the down upcall can come. */
bool rdm_peer_settled(const struct rdm_peer *peer);

/* Reset the port where a peer wants it; the others are lost too, for a moment. */
void rdm_settle(struct rdm_nic *nic);

/* It is lost: what came is delivered, then the down upcall. */
__attribute__((format(printf, 3, 4)))
void rdm_peer_lost(struct rdm_peer *peer, int cause, const char *why, ...);

/* The library says so, for something that went to it; err as it says it, positive. */
void rdm_peer_failed(struct rdm_peer *peer, int err);

/* Timers, and what is owed. */
void rdm_tick(struct rdm_nic *nic, uint64_t now_ms);

/* ---- rdm_send.c ---- */

int rdm_send(struct pw_nic_peer *base, uint32_t imm, const struct pw_iov *iov, int n,
             void *op);
int rdm_send_inline(struct pw_nic_peer *base, uint32_t imm, const void *data, size_t len);

/* A message in order: head.kind and imm are the caller's. 0, -EAGAIN, -EPIPE. */
int rdm_ordered(struct rdm_peer *peer, struct rdm_head *head, const struct pw_iov *iov,
                int n);

/* The same, and no look at what has come where there is no room. */
int rdm_ordered_now(struct rdm_peer *peer, struct rdm_head *head, const struct pw_iov *iov,
                    int n);

/* One out of order: 0, -EAGAIN, or -EPIPE (the peer has failed). */
int rdm_message(struct rdm_peer *peer, const void *data, size_t len);

/* How such a one begins, but for hellos. */
struct rdm_head rdm_control(const struct rdm_peer *peer, uint16_t kind);

/* Send what is owed, as far as there is room. */
void rdm_pay(struct rdm_peer *peer);

/* ---- rdm_events.c ---- */

/* See what has come and what has ended. How many. */
int rdm_poll(struct rdm_nic *nic);

/* From the driver: what a context was for has ended, err 0 or positive. */
void rdm_ended(struct rdm_nic *nic, struct rdm_context *c, size_t len, int err);

/* From the driver: a message has come. True: rx is kept, and posted again later. */
bool rdm_message_heard(struct rdm_nic *nic, struct rdm_rx *rx);

/* Has it sent what has not come, and nothing else has since then? */
bool rdm_missing(const struct rdm_peer *peer, uint64_t since_ms);

void rdm_peer_ready(struct rdm_peer *peer);
void rdm_consumed(struct rdm_peer *peer, size_t bytes);

/* ---- rdm_turn.c ---- */

int rdm_progress(struct pw_nic *base);
void rdm_wait(struct pw_nic *base, unsigned timeout_us);
int rdm_thread_start(struct rdm_nic *nic);
void rdm_thread_stop(struct rdm_nic *nic);      /* without the lock */
void rdm_wake(struct rdm_nic *nic);

/* ---- rdm_memory.c ---- */

enum pw_reach rdm_reach(struct pw_nic_peer *base, uint64_t remote, size_t len,
                        const struct pw_nic_key *key);
int rdm_put(struct pw_nic_peer *base, const void *local, uint64_t remote, size_t len,
            const struct pw_nic_key *key, void *op);
int rdm_get(struct pw_nic_peer *base, void *local, uint64_t remote, size_t len,
            const struct pw_nic_key *key, void *op);
int rdm_put_own(struct pw_nic_peer *base, const void *local, uint64_t remote, size_t len,
                const struct pw_nic_key *key, const struct pw_nic_key *own, void *op);
int rdm_get_own(struct pw_nic_peer *base, void *local, uint64_t remote, size_t len,
                const struct pw_nic_key *key, const struct pw_nic_key *own, void *op);
int rdm_atomic(struct pw_nic_peer *base, const struct pw_atomic *what, uint64_t remote,
               uint64_t *result, const struct pw_nic_key *key, void *op);
int rdm_pin(struct pw_nic *base, void *addr, size_t len, unsigned access,
            struct pw_nic_key *key);
void rdm_unpin(struct pw_nic *base, void *addr, size_t len, const struct pw_nic_key *key);

/* They have ended; err positive, 0 done. */
void rdm_get_ended(struct rdm_op *op, int err);
void rdm_pull_ended(struct rdm_pull *pull, int err);

/* Pieces of both that found no room. */
void rdm_reads_retry(struct rdm_peer *peer);

/* From a peer. false: nonsense. */
bool rdm_put_heard(struct rdm_peer *peer, struct rdm_rx *rx);
bool rdm_pull_heard(struct rdm_peer *peer, struct rdm_rx *rx);
bool rdm_put_done_heard(struct rdm_peer *peer, const struct rdm_put_done *done);

/* To it: its put of that number has ended so. Errors as rdm_message(). */
int rdm_put_answer(struct rdm_peer *peer, uint32_t id, int status);

/* For an operation that the peer answers by its number; never 0, which is that of none. */
uint32_t rdm_id_next(struct rdm_nic *nic);

/* An operation among its peer's ended: its upcall is to be made. */
void rdm_op_done(struct rdm_op *op, int status);

/* The pin at that place, if a peer with that key may do `access` (enum pw_access) to
 * [addr, addr + len) of it. */
struct rdm_pin *rdm_pin_named(const struct rdm_nic *nic, uint32_t place, uint64_t key,
                              uint64_t addr, uint64_t len, unsigned access);
void rdm_pin_release(struct rdm_nic *nic, struct rdm_pin *pin);

/* All of its operations end with that status. One that the library has not given back ends
 * when it is, and nobody is told. */
void rdm_ops_end(struct rdm_peer *peer, int status);

/* Is there one, or a pull, that the library may still write for? */
bool rdm_ops_under_way(const struct rdm_peer *peer);
bool rdm_pulls_under_way(const struct rdm_peer *peer);

/* Pulls of it are forgotten; the library has none. */
void rdm_pulls_end(struct rdm_peer *peer);

/* The port is closed: the library has nothing. */
void rdm_ops_returned(struct rdm_peer *peer);
void rdm_memory_close(struct rdm_nic *nic);

/* ---- rdm_stream.c ---- */

/* Ask for what op is to get. 0, -EAGAIN or -EPIPE. */
int rdm_stream_get(struct rdm_peer *peer, struct rdm_op *op);

/* What waits for the peer to read: pieces of puts, and of what it gets. */
void rdm_stream(struct rdm_peer *peer);

/* Are pieces of a put left, behind which nothing may be sent? */
static inline bool rdm_stream_puts(const struct rdm_peer *peer)
{
    return peer->n_puts > 0;
}
void rdm_stream_end(struct rdm_peer *peer);
bool rdm_stream_put_done(struct rdm_op *op, int status);

/* As above. */
bool rdm_get_heard(struct rdm_peer *peer, const struct rdm_rx *rx);
bool rdm_get_data_heard(struct rdm_peer *peer, const struct rdm_rx *rx);

#endif
