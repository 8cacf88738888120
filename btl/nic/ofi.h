/* SPDX-License-Identifier: BSD-3-Clause */
/* ofi.h - the ofi backend's own structures; nobody else includes this.
 *
 *     ofi.c          the table, open and close
 *     ofi_library.c  libfabric, loaded when it is first needed; what it offers
 *     ofi_wire.h     what travels in messages, byte by byte
 *     ofi_port.c     one endpoint of libfabric, with its queues and buffers
 *     ofi_test.c     does the endpoint do what its provider says?
 *     ofi_link.c     addresses, hellos, peers that come, leave and fall silent
 *     ofi_send.c     messages out
 *     ofi_events.c   the completion queue: messages in, what has ended
 *     ofi_turn.c     whose turn it is: progress, waiting, the service thread
 *     ofi_memory.c   registered memory, put and get
 *
 * libfabric is used for messages and for reading a peer's memory, and for nothing else.
 * A put asks the peer to read (a short one carries its bytes), so that who is written to
 * knows when to stop: a provider over TCP cannot take back what it was given, and the
 * kernel delivers it minutes later, when the put was done again on another path and the
 * memory is used for other things. Atomics are not offered: those of providers exclude
 * each other but not the CPU's.
 *
 * For the same reason an endpoint that may still write into memory of a lost peer's get is
 * closed and opened anew at the same address (ofi_port_reset). All of its peers are down
 * then, and come back.
 *
 * nic->lock guards everything and is held around all calls of libfabric; upcalls are made
 * without it, by ofi_progress() alone.
 */
#ifndef PW_OFI_H
#define PW_OFI_H

#include <pthread.h>
#include <sys/types.h>

#include <rdma/fabric.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>

#include "ifaces.h"
#include "ofi_wire.h"
#include "pinwheel/nic.h"
#include "pinwheel/pool.h"

enum {
    OFI_MESSAGE_MAX = 65536,        /* bytes of one message, headers included */
    OFI_PUT_SHORT = 8192,           /* puts up to there carry their bytes */
    OFI_BOUNCE = 32768,             /* gets up to there are copied where local memory must
                                     * be registered; longer ones register it */
    OFI_WINDOW = 64,                /* messages that a peer may have unread */
    OFI_WINDOW_BYTES = 1 << 20,     /* and their bytes */
    OFI_RX_BASE = 64, OFI_RX_PEER = 16, OFI_RX_MOST = 512,  /* buffers posted */
    OFI_TX_MOST = 256,              /* buffers under way */
    OFI_SLAB = 16,                  /* of them are made at a time */
    OFI_HELLO_MS = 100,             /* the first is repeated after that, then later */
    OFI_HELLO_MOST_MS = 1000,
    OFI_PING_MS = 400,              /* silent for so long: it is asked */
    OFI_TIMEOUT_MS = 15000,         /* where the config names none */
    OFI_CALLER_MS = 50,             /* between two upcalls for one caller */
    OFI_CALLER_KEPT_MS = 5000,      /* one that has left, or never came up, is kept so long */
    OFI_FLUSH_MS = 200,             /* a provider has so long to give back what was under
                                     * way to a lost peer */
    OFI_LEAVE_MS = 2000,            /* so long close waits for what peers have not read */
    OFI_TEST_MS = 3000,             /* so long the test of the endpoint may take */
    OFI_CALLERS_MAX = 4096,
};

/* ---- libfabric ---- */

/* What is exported by name; the rest of its interface are calls through what these give. */
struct ofi_library {
    uint32_t (*version)(void);
    int (*getinfo)(uint32_t version, const char *node, const char *service, uint64_t flags,
                   const struct fi_info *hints, struct fi_info **out);
    void (*freeinfo)(struct fi_info *info);
    struct fi_info *(*dupinfo)(const struct fi_info *info);
    int (*fabric)(struct fi_fabric_attr *attr, struct fid_fabric **out, void *context);
    const char *(*strerror)(int err);
};

/* NULL and a sentence when it cannot be loaded. Any thread; it stays loaded. */
const struct ofi_library *ofi_library(char why[PW_NIC_WHY_MAX]);

/* For tests: load that file instead, from the next ofi_library() on. */
void ofi_library_use(const char *file);

/* All that can be used, best first, one for each domain; give back by freeinfo.
 * 0, or -ENODEV and a sentence. */
int ofi_infos(const struct ofi_library *lib, struct fi_info **out, char why[PW_NIC_WHY_MAX]);

/* The one of that name (NULL: the first), as a copy; NULL: there is none. */
struct fi_info *ofi_info_named(const struct ofi_library *lib, const struct fi_info *list,
                               const char *name);

/* Is its domain one of the kernel's network interfaces? */
bool ofi_is_socket(const struct fi_info *info);

/* Nothing here but the kernel's interfaces, and nobody named a provider (FI_PROVIDER). */
bool ofi_only_sockets(void);

int ofi_devices(struct pw_nic_device *out, int max);

/* ---- one endpoint ---- */

struct ofi_nic;
struct ofi_peer;

enum ofi_kind { OFI_RX, OFI_TX, OFI_GET, OFI_PULL };

/* First in all that libfabric gets as context. */
struct ofi_context {
    struct fi_context2 room;        /* the provider's */
    enum ofi_kind kind;
    struct ofi_peer *peer;          /* NULL: nobody cares any more */
};

/* A buffer for one message: posted, or queued with what it brought. */
struct ofi_rx {
    struct ofi_context c;
    struct ofi_rx *next;
    struct ofi_slab *slab;
    size_t len;
    uint8_t *bytes;
    bool pulling;                   /* a PULL under way: what came later waits */
};

struct ofi_tx {
    struct ofi_context c;
    struct ofi_tx *next;
    struct ofi_slab *slab;
    uint8_t *bytes;
};

/* Buffers of both kinds, in one registration. */
struct ofi_slab {
    struct ofi_slab *next;
    uint8_t *memory;
    struct fid_mr *mr;              /* NULL where none is needed */
    union {
        struct ofi_rx rx[OFI_SLAB];
        struct ofi_tx tx[OFI_SLAB];
    };
};

/* What is closed and opened anew by a reset; the domain and what is registered stay. */
struct ofi_port {
    struct fid_av *av;
    struct fid_cq *cq;
    struct fid_ep *ep;
    int wait_fd;                    /* -1: this provider has none */
    uint8_t name[OFI_NAME_MAX];
    size_t name_len;
};

struct ofi_domain {
    const struct ofi_library *lib;
    struct fi_info *info;
    struct fid_fabric *fabric;
    struct fid_domain *domain;
};

int ofi_domain_open(struct ofi_domain *d, const struct ofi_library *lib,
                    struct fi_info *info);
void ofi_domain_close(struct ofi_domain *d);

/* name: at that address (a reset); NULL: at one that the provider chooses. */
int ofi_port_open(struct ofi_domain *d, struct ofi_port *port, const void *name,
                  size_t name_len);
void ofi_port_close(struct ofi_port *port);

/* Does libfabric want memory registered, addressed or keyed in that way? */
static inline bool ofi_mr(const struct ofi_domain *d, int mode)
{
    return d->info->domain_attr->mr_mode & mode;
}

/* Register memory; the provider's key if it chooses, else a random one. port: where keys
 * belong to an endpoint. 0 or -errno. */
int ofi_register(struct ofi_domain *d, struct ofi_port *port, const void *addr, size_t len,
                 uint64_t access, struct fid_mr **out);

/* ---- put and get ---- */

enum ofi_state {
    OFI_CALLING,        /* hellos are sent */
    OFI_UP,
    OFI_DYING,          /* queued upcalls, then down */
    OFI_DOWN,           /* the down upcall has come, or no one is to get one */
    OFI_LEAVING,        /* disconnected; what was sent is on its way */
};

/* An operation of ours that the user waits for. */
struct ofi_op {
    struct ofi_context c;           /* OFI_GET */
    struct ofi_op *next;            /* of the peer, or among those that are done */
    void *cookie;
    int status;
    uint32_t id;                    /* of a put: the peer's answer names it */
    bool with_provider;             /* a get that was not given back yet */
    struct fid_mr *mr;              /* registered for this operation; NULL none */
    struct ofi_tx *bounce;          /* a get through it; NULL none */
    uint8_t *local;
    size_t len, at;                 /* at: so much was read, or is being read */
    uint64_t remote, key;
};

/* A put of a peer's that we fetch. */
struct ofi_pull {
    struct ofi_context c;           /* OFI_PULL */
    struct ofi_pull *next;          /* among the peer's */
    struct ofi_rx *rx;              /* its place in the order */
    struct ofi_pin *pin;
    uint32_t id;
    bool started;                   /* with the provider */
    uint8_t *local;
    size_t len, at;
    uint64_t remote, key;
};

/* Memory that peers may reach. */
struct ofi_pin {
    struct fid_mr *mr;              /* NULL: this place is free */
    uint8_t *base;
    size_t len;
    unsigned access;
    unsigned users;                 /* pulls into it */
    bool closing;                   /* unpinned: the last user closes it */
};

/* ---- peers ---- */

/* An answer that found no room. */
struct ofi_owed {
    struct ofi_owed *next;
    struct ofi_put_done done;
};

struct ofi_peer {
    struct pw_nic_peer base;
    void *cookie;
    bool adopted;                   /* connect() was called for it; else it is a caller */
    enum ofi_state state;
    uint16_t slot;                  /* here */
    uint16_t its_slot;
    uint64_t token;                 /* it shows that to us */
    uint64_t its_token;             /* we to it; 0: not known */
    struct ofi_address address;
    fi_addr_t to;
    char text[64];                  /* its address for people */

    uint32_t sent, acked;           /* messages in order to it, and how many it consumed */
    uint32_t bytes[OFI_WINDOW];     /* of those that it did not */
    uint32_t bytes_out;             /* sum of them */
    uint32_t expected;              /* the next one from it */
    uint32_t consumed, told;        /* of its; as it knows it */
    struct ofi_rx *in, **in_end;    /* to be delivered, in order */
    struct ofi_rx *early;           /* came before others; sorted */
    uint64_t early_ms;              /* since when something is missing */
    struct ofi_op *ops;             /* pending */
    struct ofi_pull *pulls;
    struct ofi_owed *owed;
    unsigned tx;                    /* buffers under way to it */

    uint64_t heard_ms, asked_ms, hello_ms, begun_ms, lost_ms, probed_ms;
    uint64_t told_ms;               /* of a caller: its last upcall */
    unsigned hello_gap_ms;
    uint64_t echoed;                /* its token that our last hello named */
    bool owe_hello, owe_ack, owe_bye, owe_bye_done;
    bool bye_sent, bye_done, bye_heard;
    bool untold;                    /* it is up, and the upcall has not been made */
    bool queued;                    /* among nic->ready */
    struct ofi_peer *next_ready;
    struct ofi_peer *next;          /* of the NIC's */

    int cause;                      /* of the down upcall */
    char why[PW_NIC_WHY_MAX];
};

struct ofi_nic {
    struct pw_nic base;
    const struct pw_nic_upcalls *up;
    void *ctx;
    unsigned timeout_ms;
    pthread_mutex_t lock;
    struct ofi_domain domain;
    struct ofi_port port;
    struct ofi_address address;
    struct pw_iface iface;          /* of a socket; index 0: this is none */
    bool reads;                     /* the endpoint reads peers' memory */
    bool probes;                    /* a TCP connection to its address is answered: so who
                                     * refuses one is gone */
    bool broken;                    /* a reset failed */
    bool reset;                     /* wanted: at the end of ofi_poll() */

    struct ofi_slab *slabs;
    struct ofi_tx *tx_free;
    struct ofi_rx *rx_idle;         /* not posted yet */
    unsigned n_tx, n_rx;
    struct ofi_peer *peers;
    struct ofi_peer **slots;
    unsigned n_slots, n_peers;      /* n_peers: in any state; atomic */
    unsigned n_callers;             /* of the peers that nobody has connected to */
    struct ofi_peer *ready, **ready_end;    /* with something to deliver */
    struct ofi_op *done, **done_end;        /* upcalls to be made */
    struct ofi_pin **pins;
    unsigned n_pins, pin_hint;      /* all places before the hint are taken */
    uint32_t ids;

    pthread_t thread;
    bool has_thread, stop;
    int bell, stop_bell;            /* eventfds: end a wait, and the thread's sleep */
    int sleeping;                   /* atomic: somebody is in wait */
    unsigned looks;                 /* atomic: how often progress was called */
    uint64_t tick_ms;
    bool woken;                     /* atomic: the last sleep was ended by the port's
                                     * descriptor */
    unsigned false_wakes;           /* so often in a row without anything there */
};

static inline uint64_t ofi_ms(uint64_t ns)
{
    return ns / 1000000;
}

static inline struct ofi_nic *ofi_of(struct pw_nic *nic)
{
    return (struct ofi_nic *)nic;
}

static inline struct ofi_nic *ofi_nic_of(const struct ofi_peer *peer)
{
    return (struct ofi_nic *)peer->base.nic;
}

/* All below: with nic->lock held, unless it says otherwise. */

/* ---- ofi_port.c ---- */

struct ofi_tx *ofi_tx_get(struct ofi_nic *nic);
void ofi_tx_put(struct ofi_nic *nic, struct ofi_tx *tx);
void *ofi_desc(struct fid_mr *mr);

/* Post rx again, or keep it for later. */
void ofi_rx_post(struct ofi_nic *nic, struct ofi_rx *rx);
int ofi_rx_grow(struct ofi_nic *nic, unsigned peers);
void ofi_rx_retry(struct ofi_nic *nic);
void ofi_buffers_close(struct ofi_nic *nic);

/* Close the endpoint and open it anew at its address. What was under way has ended, and
 * libfabric touches none of it any more. False: this provider's cannot. */
bool ofi_port_reset(struct ofi_nic *nic);

/* ---- ofi_test.c ---- */

/* Before there are peers. 0, or -errno and a sentence: not to be used at all. Sets reads
 * and probes. */
int ofi_test(struct ofi_nic *nic, char why[PW_NIC_WHY_MAX]);

/* Does something at that address take TCP connections? 0 yes, -ECONNREFUSED no,
 * else not known. Waits wait_ms at most. */
int ofi_listens(const void *name, size_t len, int wait_ms);

/* ---- ofi_link.c ---- */

int ofi_link_open(struct ofi_nic *nic, uint64_t job);
void ofi_link_close(struct ofi_nic *nic);
size_t ofi_address(struct pw_nic *nic, void *out);
int ofi_reachable(struct pw_nic *nic, const void *addr, size_t len);
int ofi_connect(struct pw_nic *base, const void *addr, size_t len, void *cookie,
                struct pw_nic_peer **out);
void ofi_disconnect(struct pw_nic_peer *base);

/* what: enum ofi_hello_what. 0, -EAGAIN, -EPIPE. */
int ofi_hello_send(struct ofi_peer *peer, uint8_t what);
void ofi_hello_heard(struct ofi_nic *nic, const void *data, size_t len);
void ofi_peer_up(struct ofi_peer *peer);
void ofi_peer_free(struct ofi_peer *peer);

/* Is it time to tell of this caller? */
bool ofi_caller_due(const struct ofi_nic *nic, const struct ofi_peer *peer, uint64_t now);

/* The provider may not write for it any more: the down upcall can come. */
bool ofi_peer_settled(const struct ofi_peer *peer);

/* Reset the port where a peer wants it; the others are lost too, for a moment. */
void ofi_settle(struct ofi_nic *nic);

/* It is lost: what came is delivered, then the down upcall. */
__attribute__((format(printf, 3, 4)))
void ofi_peer_lost(struct ofi_peer *peer, int cause, const char *why, ...);

/* The provider says so, for something that went to it. */
void ofi_peer_failed(struct ofi_peer *peer, int fi_err);

/* Timers, and what is owed. */
void ofi_tick(struct ofi_nic *nic, uint64_t now_ms);

/* ---- ofi_send.c ---- */

int ofi_send(struct pw_nic_peer *base, uint32_t imm, const struct pw_iov *iov, int n,
             void *op);
int ofi_send_inline(struct pw_nic_peer *base, uint32_t imm, const void *data, size_t len);

/* A message in order: head.kind and imm are the caller's. 0, -EAGAIN, -EPIPE. */
int ofi_ordered(struct ofi_peer *peer, struct ofi_head *head, const struct pw_iov *iov,
                int n);

/* One out of order: 0, -EAGAIN, or as the provider says (the peer has failed). */
int ofi_message(struct ofi_peer *peer, const void *data, size_t len);

/* Send what is owed, as far as there is room. */
void ofi_pay(struct ofi_peer *peer);

/* ---- ofi_events.c ---- */

/* Read the completion queue. Returns the number of entries. */
int ofi_poll(struct ofi_nic *nic);
void ofi_peer_ready(struct ofi_peer *peer);
void ofi_consumed(struct ofi_peer *peer);

/* ---- ofi_turn.c ---- */

int ofi_progress(struct pw_nic *base);
void ofi_wait(struct pw_nic *base, unsigned timeout_us);
int ofi_thread_start(struct ofi_nic *nic);
void ofi_thread_stop(struct ofi_nic *nic);      /* without the lock */
void ofi_wake(struct ofi_nic *nic);

/* ---- ofi_memory.c ---- */

enum pw_reach ofi_reach(struct pw_nic_peer *base, uint64_t remote, size_t len,
                        const struct pw_nic_key *key);
int ofi_put(struct pw_nic_peer *base, const void *local, uint64_t remote, size_t len,
            const struct pw_nic_key *key, void *op);
int ofi_get(struct pw_nic_peer *base, void *local, uint64_t remote, size_t len,
            const struct pw_nic_key *key, void *op);
int ofi_atomic(struct pw_nic_peer *base, const struct pw_atomic *what, uint64_t remote,
               uint64_t *result, const struct pw_nic_key *key, void *op);
int ofi_pin(struct pw_nic *base, void *addr, size_t len, unsigned access,
            struct pw_nic_key *key);
void ofi_unpin(struct pw_nic *base, void *addr, size_t len, const struct pw_nic_key *key);

/* What the completion queue says of them; err as libfabric's, 0 done. */
void ofi_get_ended(struct ofi_op *op, int err);
void ofi_pull_ended(struct ofi_pull *pull, int err);
void ofi_pulls_retry(struct ofi_peer *peer);

/* From a peer. false: nonsense. */
bool ofi_put_heard(struct ofi_peer *peer, struct ofi_rx *rx);
bool ofi_pull_heard(struct ofi_peer *peer, struct ofi_rx *rx);
void ofi_put_done_heard(struct ofi_peer *peer, const struct ofi_put_done *done);

/* All of its operations end with that status. Those that the provider has not given back
 * are not touched by it any more: the caller has seen to that. */
void ofi_ops_end(struct ofi_peer *peer, int status);

/* Is there one, or a pull, that the provider may still write for? */
bool ofi_ops_with_provider(const struct ofi_peer *peer);
bool ofi_pulls_with_provider(const struct ofi_peer *peer);

/* Pulls of it are forgotten; none is with the provider. */
void ofi_pulls_end(struct ofi_peer *peer);

/* The port is closed: nothing is with the provider. */
void ofi_ops_returned(struct ofi_peer *peer);
void ofi_memory_close(struct ofi_nic *nic);

#endif
