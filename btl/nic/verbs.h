/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs.h - the backend over libibverbs: its own part of rdm.h; nobody else includes this.
 *
 *     verbs.c          the table; open and close
 *     verbs_library.c  libibverbs, loaded when it is first needed
 *     verbs_settings.c what a user may set
 *     verbs_devices.c  devices, ports, and which GID a port is known by
 *     verbs_wire.h     the name in an address, and letters, byte by byte
 *     verbs_port.c     what is opened of one port: queues, and the queue pair for letters
 *     verbs_conn.c     ways: one connected queue pair to each process
 *     verbs_rest.c     a bound on open queue pairs
 *     verbs_route.c    where letters go: the kernel may wait for that
 *     verbs_letter.c   letters out and in
 *     verbs_work.c     what is posted, what has ended
 *     verbs_memory.c   registered memory
 *
 * A way is a reliable connection to one process, shared by all peers that are it. Datagrams
 * (letters) connect its two queue pairs. Messages are sends into one shared receive queue;
 * memory is read by RDMA, and that is all the rights that peers get: nobody writes into our
 * memory but our own reads. Whatever fails moves the queue pair to its error state, and from
 * its destruction on the device touches nothing that was posted to it.
 */
#ifndef PW_VERBS_H
#define PW_VERBS_H

#include <infiniband/verbs.h>

#include "rdm.h"
#include "verbs_wire.h"

enum {
    VERBS_SENDS = 128,          /* work requests under way by one way */
    VERBS_SENDS_ALL = 2048,     /* by all of them: the completion queue has room for those */
    VERBS_RECEIVES = 1024,      /* buffers posted */
    VERBS_SIGNAL = 32,          /* one in so many small sends tells when it has ended */
    VERBS_INLINE = 256,         /* bytes of one */
    VERBS_READS = 16,           /* reads of a peer's memory at a time, by one way */
    VERBS_READ_MOST = 1 << 30,

    VERBS_LETTERS_IN = 64, VERBS_LETTERS_OUT = 32,
    VERBS_GRH = 40,             /* bytes before each that comes */
    VERBS_LETTER_ROOM = 320,
    VERBS_ASK_MS = 50,          /* an unanswered letter is repeated then, later less often */
    VERBS_ASK_MOST_MS = 800,
    VERBS_IDLE_MS = 5000,       /* a way that nobody uses is closed then */
    VERBS_QPS_MOST = 1024,      /* open queue pairs, where nobody sets another bound */
    VERBS_QPS_LEAST = 8,
    VERBS_WANTED_MS = 2000,     /* who wanted a queue pair so long ago has given up */
    VERBS_HOLD_MS = 100,        /* a new one waits so long for whom it was made */
    VERBS_YIELD_MS = 1000,      /* a question has its queue pair so long without an answer */
    VERBS_BUSY_MS = 5,          /* between two questions whether a way may rest */
    VERBS_REFUSED_MS = 10,      /* and between two queue pairs that the device refuses */
    VERBS_DRAIN_MS = 150,       /* a device has so long to give back what was posted; less than
                                 * RDM_FLUSH_MS, for which who disconnects or unpins waits */

    /* Where nobody sets another. */
    VERBS_TIMEOUT = 17,         /* 4.096 us * 2^17 = 537 ms for an acknowledgement, */
    VERBS_RETRIES = 6,          /* so many times more; rxe takes 7 for ever
                                 * (drivers/infiniband/sw/rxe/rxe_comp.c) */
    VERBS_RNR_RETRIES = 7,      /* for ever while the peer has no buffer: each time */
    VERBS_RNR_TIMER = 12,       /* after 0.64 ms (InfiniBand, table 45) */
    VERBS_HOPS = 64,
    VERBS_LMC_MOST = 7,         /* of 3 bits (ibv_query_port(3)): 2^7 LIDs of a port */
};

/* ---- libibverbs ---- */

/* The functions in use that it exports; the others are calls through a context. */
struct verbs_library {
    struct ibv_device **(*get_device_list)(int *n);
    void (*free_device_list)(struct ibv_device **list);
    struct ibv_context *(*open_device)(struct ibv_device *device);
    int (*close_device)(struct ibv_context *context);
    int (*query_device)(struct ibv_context *context, struct ibv_device_attr *out);
    int (*query_port)(struct ibv_context *context, uint8_t port, struct ibv_port_attr *out);
    ssize_t (*query_gid_table)(struct ibv_context *context, struct ibv_gid_entry *out,
                               size_t max, uint32_t flags, size_t entry_size);
    int (*get_async_event)(struct ibv_context *context, struct ibv_async_event *out);
    void (*ack_async_event)(struct ibv_async_event *event);
    struct ibv_pd *(*alloc_pd)(struct ibv_context *context);
    int (*dealloc_pd)(struct ibv_pd *pd);
    struct ibv_mr *(*reg_mr)(struct ibv_pd *pd, void *addr, size_t len, int access);
    struct ibv_mr *(*reg_mr_iova2)(struct ibv_pd *pd, void *addr, size_t len, uint64_t iova,
                                   unsigned access);
    int (*dereg_mr)(struct ibv_mr *mr);
    struct ibv_comp_channel *(*create_comp_channel)(struct ibv_context *context);
    int (*destroy_comp_channel)(struct ibv_comp_channel *channel);
    struct ibv_cq *(*create_cq)(struct ibv_context *context, int entries, void *cq_context,
                                struct ibv_comp_channel *channel, int vector);
    int (*destroy_cq)(struct ibv_cq *cq);
    int (*get_cq_event)(struct ibv_comp_channel *channel, struct ibv_cq **cq, void **context);
    void (*ack_cq_events)(struct ibv_cq *cq, unsigned n);
    struct ibv_srq *(*create_srq)(struct ibv_pd *pd, struct ibv_srq_init_attr *attr);
    int (*destroy_srq)(struct ibv_srq *srq);
    struct ibv_qp *(*create_qp)(struct ibv_pd *pd, struct ibv_qp_init_attr *attr);
    int (*modify_qp)(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask);
    int (*destroy_qp)(struct ibv_qp *qp);
    struct ibv_ah *(*create_ah)(struct ibv_pd *pd, struct ibv_ah_attr *attr);
    int (*destroy_ah)(struct ibv_ah *ah);
    int (*fork_init)(void);
    enum ibv_fork_status (*is_fork_initialized)(void);
};

/* NULL and a sentence when it cannot be loaded. Any thread; it stays loaded. */
const struct verbs_library *verbs_library(char why[PW_NIC_WHY_MAX]);

/* For tests: load that file instead, from the next verbs_library() on. */
void verbs_library_use(const char *file);

/* ---- what a user may set ---- */

/* Changes only before anything else of the backend is called. */
struct verbs_settings {
    unsigned retries, timeout, rnr_retries;     /* as InfiniBand counts them */
    unsigned mtu;               /* enum ibv_mtu; 0: the port's */
    unsigned pkey_index;
    unsigned qps;               /* open queue pairs of a port; 0: what the device allows */
    int gid_index;              /* -1: any of that kind */
    enum verbs_link gid_kind;   /* VERBS_NOWHERE: the best */
};

extern struct verbs_settings verbs_settings;
extern const struct pw_nic_setting verbs_settings_list[];
int verbs_set(const struct pw_nic_setting *setting, const char *text,
              char why[PW_NIC_WHY_MAX]);

/* ---- devices and ports ---- */

/* The entry of a port's table of GIDs that it is known by. */
struct verbs_gid {
    uint8_t bytes[16];
    uint32_t index;
    uint32_t ifindex;           /* of its network interface; 0: none */
    enum verbs_link link;
};

/* One port of a device, looked at. */
struct verbs_found {
    char name[32];              /* "mlx5_0"; of several ports "mlx4_0:2" */
    uint8_t port;
    bool usable;
    char why[PW_NIC_WHY_MAX];   /* not usable */
    uint64_t bytes_per_s;
    unsigned n_gids;
    struct verbs_gid gid;
    struct ibv_port_attr attr;
    struct ibv_device_attr limits;
};

int verbs_devices(struct pw_nic_device *out, int max);

/* Open the device of that name (NULL: the first that is usable) and look at its port. NULL,
 * *err and a sentence. */
struct ibv_context *verbs_device_open(const struct verbs_library *lib, const char *name,
                                      struct verbs_found *out, int *err,
                                      char why[PW_NIC_WHY_MAX]);

/* The GID by which most others reach that port, of those that the settings allow: false if
 * there is none. */
bool verbs_gid_choose(const struct ibv_gid_entry *all, size_t n, uint32_t port,
                      bool ethernet, struct verbs_gid *out);

/* The table of an open port has changed: where is the GID that peers know it by? One that is
 * not there may come back: it stays what it was. */
void verbs_gid_follow(const struct verbs_library *lib, struct ibv_context *context,
                      struct verbs_found *found);

/* "RoCE v2 of IPv4". */
const char *verbs_link_text(unsigned link);

/* The IP address that it holds. False: none. */
bool verbs_gid_ip(const uint8_t gid[16], struct pw_ip *out);

/* Is that limit of locked memory too small for us? Then what to do about it. */
bool verbs_memlock_short(uint64_t limit, bool exempt, char why[PW_NIC_WHY_MAX]);
bool verbs_memlock_refuses(char why[PW_NIC_WHY_MAX]);      /* this process's */

/* ---- one port ---- */

struct verbs_nic;

/* A work request: its name to the device. */
struct verbs_work {
    struct verbs_way *way;
    struct rdm_context *c;      /* that ends with it; NULL none */
    uint32_t seq;
};

enum verbs_state {
    VERBS_RESTING,              /* it has no queue pair, and needs none or waits for room */
    VERBS_ASKING,               /* its queue pair is not connected */
    VERBS_ANSWERED,             /* it is; the peer's is not known to be */
    VERBS_CONNECTED,
    VERBS_PARTING,              /* nothing more is posted: it is to rest */
    VERBS_FAILED,
};

struct verbs_route;

struct verbs_way {
    struct verbs_way *next;
    struct verbs_nic *nic;
    struct rdm_address to;
    enum verbs_state state;
    unsigned users;             /* peers */
    int err;                    /* FAILED: why, positive; 0: it was not needed any more */
    bool told;                  /* its peers were */
    bool rings;                 /* the peer is to be told that it is closed */
    bool last;                  /* it takes no more buffers from the shared queue */
    bool dirty;                 /* destroyed before the device had given back everything */
    bool closed;                /* nothing of it is open any more */
    bool agrees;                /* PARTING: the peer has asked for that, */
    bool asked;                 /* or is asked, */
    bool flushed;               /* when all that was sent has ended, of which this tells */
    struct ibv_qp *qp;          /* NULL: none */
    uint32_t qpn;               /* of the last one */
    struct ibv_ah *ah;          /* where its letters go; NULL: not known yet */
    struct verbs_route *route;  /* that is found out; NULL: it is not */
    uint32_t psn;
    uint64_t number, its_number;
    uint64_t its_last;          /* highest number of its queue pairs before that */
    uint64_t its_heard;         /* number that its last question showed */
    uint64_t rank;              /* among pairs of processes, the same to both */
    uint32_t round, its_round;  /* of the last question whether it may rest: ours, its */
    uint64_t wanted_ms;         /* somebody wanted to send by it; 0: and has */
    uint64_t called_ms;         /* the peer has asked for it, and there was no room */
    uint64_t busy_ms;           /* the peer would not have it rest */
    uint64_t used;              /* when it was used, by nic->uses */
    uint64_t ticket;            /* when it was first wanted, by the same */
    uint64_t since_ms;          /* in that state; FAILED: or somebody tried to go on */
    uint64_t failed_ms;
    uint64_t idle_ms;           /* since when it has no users */
    uint64_t said_ms;           /* its last letter */
    unsigned gap_ms;
    unsigned letters;           /* under way */
    uint32_t posted, retired;   /* work requests */
    uint32_t silent;            /* so many of the last ones tell nothing when they end */
    struct verbs_work works[VERBS_SENDS];
};

/* Lists: with its lock, which is held for moments only. */
struct verbs_router {
    pthread_t thread;
    bool has_thread, stop;
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct verbs_route *wanted, *made;
    bool any_made;              /* atomic */
    int bell;                   /* eventfd: so */
};

struct verbs_nic {
    struct rdm_nic base;
    const struct verbs_library *lib;
    struct verbs_found found;
    struct ibv_context *context;
    struct ibv_pd *pd;
    struct ibv_comp_channel *channel;
    struct ibv_cq *cq;
    struct ibv_srq *srq;
    struct ibv_qp *ud;          /* for letters */
    struct ibv_mr *letters_mr;
    uint8_t *letters;           /* VERBS_LETTERS_IN that come, then those that go */
    struct verbs_way *letter_of[VERBS_LETTERS_OUT];     /* whose is under way; NULL: free */
    bool letter_in[VERBS_LETTERS_IN];                   /* posted */
    bool letters_failed;        /* the queue pair for letters has: it is to be begun anew */
    uint64_t letters_ms;        /* since then */
    unsigned inline_most;
    bool strict;                /* it does not take IBV_ACCESS_RELAXED_ORDERING */
    unsigned reads_most;        /* of ours at a time, and peers' */
    unsigned reads_served;
    unsigned sends;             /* work requests under way, of all ways */
    struct verbs_router router;
    int wait_fd;                /* an epoll of the channel's, the context's and the router's
                                 * descriptors */
    int listen_fd;              /* -1: none */
    bool closing;
    bool drained;               /* the completion queue was empty when it was last polled */
    int fatal;                  /* the device is gone, or its queue: positive errno */
    struct verbs_way *ways;
    struct verbs_way *lost;     /* destroyed, and the device has not said that it has ended */
    unsigned n_answered;        /* ways in that state */
    unsigned n_failed;          /* ways that are to be closed */
    unsigned n_qps, qps_most;   /* queue pairs of ways */
    uint64_t refused_ms;        /* when the device refused one */
    uint64_t uses;              /* counts */
    bool restless;              /* some way is PARTING, or waits for room */
    uint64_t numbers;           /* the last one */
    uint64_t tick_ms;           /* when ways were looked after */
};

static inline struct verbs_nic *verbs_of(struct rdm_nic *nic)
{
    return (struct verbs_nic *)nic;
}

static inline const struct verbs_name *verbs_name_of(const struct rdm_address *a)
{
    return (const void *)a->name;
}

/* Errors are negative errno; `why` has a sentence then. */
int verbs_port_open(struct verbs_nic *nic, char why[PW_NIC_WHY_MAX]);

/* The queue pair for letters, from its reset state; with buffers to receive. */
int verbs_letters_begin(struct verbs_nic *nic, uint32_t q_key);

/* All but the context and its protection domain. */
void verbs_port_close(struct rdm_nic *nic);
int verbs_arm(struct rdm_nic *nic);

/* See what has become of the port and the device. Makes a system call. */
void verbs_events_read(struct verbs_nic *nic);

/* How packets get to that NIC. */
void verbs_route_fill(const struct verbs_nic *nic, const struct rdm_address *to,
                      struct ibv_ah_attr *out);

/* ---- verbs_conn.c ---- */

/* How many bytes may a send take along? 0 or -errno. */
int verbs_inline_try(struct verbs_nic *nic);

int verbs_peer_open(struct rdm_peer *peer);
void verbs_peer_close(struct rdm_peer *peer);
void verbs_peer_drop(struct rdm_peer *peer);

/* What the peer's messages go by: -EAGAIN while it is being connected, -ECONNRESET. */
int verbs_peer_way(struct rdm_peer *peer, struct verbs_way **out);

/* A letter of a process that has shown our secret. */
void verbs_letter_heard(struct verbs_nic *nic, const struct verbs_letter *letter);

/* A queue pair for one that rests: then it asks. -EBUSY: there is no room. It may have
 * failed. */
int verbs_way_start(struct verbs_way *way, uint64_t now_ms);

void verbs_way_state(struct verbs_way *way, enum verbs_state state);
void verbs_way_connected(struct verbs_way *way);
void verbs_qp_destroy(struct verbs_way *way);

/* Something has come by that queue pair: its peer's is connected. */
void verbs_way_heard(struct verbs_nic *nic, uint32_t qpn);

/* It is of no use any more: its queue pair moves to the error state. err: positive, as
 * people are told it. */
void verbs_way_fail(struct verbs_way *way, int err);
void verbs_ways_fail(struct verbs_nic *nic, int err);

/* Repeat letters, close what has failed. */
void verbs_ways_tend(struct verbs_nic *nic, uint64_t now_ms);

/* The completion queue was found empty: nothing more is said of those that were destroyed
 * before that. */
void verbs_ways_forget(struct verbs_nic *nic);

/* The device gives nothing back any more. */
void verbs_ways_free(struct verbs_nic *nic);

/* Where its letters go: ah, which is its from here on; NULL: err says why there is none. */
void verbs_way_routed(struct verbs_way *way, struct ibv_ah *ah, int err);

/* ---- verbs_rest.c ---- */

/* May there be one more queue pair? */
bool verbs_room(const struct verbs_nic *nic, uint64_t now_ms);

/* Somebody has something to send by it: one of ours, or the peer. */
void verbs_way_want(struct verbs_way *way);
void verbs_way_called(struct verbs_way *way);

/* Let ways rest that are to, and those begin anew that wait for room. */
void verbs_rest_tend(struct verbs_nic *nic, uint64_t now_ms);

void verbs_peers_heard(struct verbs_way *way);
void verbs_rest_heard(struct verbs_way *way, const struct verbs_letter *letter);
void verbs_rested_heard(struct verbs_way *way, const struct verbs_letter *letter);
void verbs_busy_heard(struct verbs_way *way, const struct verbs_letter *letter);

/* The peer asks for a new queue pair: does the way rest, now? */
bool verbs_way_renewed(struct verbs_way *way);

int verbs_peer_ask(struct rdm_peer *peer);

/* ---- verbs_route.c ---- */

int verbs_router_open(struct verbs_nic *nic);

/* Waits for the thread; and drops what it was to do, for nobody wants it any more. */
void verbs_router_close(struct verbs_nic *nic);

/* verbs_way_routed() comes, from verbs_routes_made(). 0 or -ENOMEM. */
int verbs_route_want(struct verbs_way *way);
void verbs_route_forget(struct verbs_way *way);
void verbs_routes_made(struct verbs_nic *nic);

/* ---- verbs_letter.c ---- */

/* 0, or -EAGAIN: too many are under way. */
int verbs_letter_send(struct verbs_way *way, uint8_t what);

/* Is it one, of our job, from somebody who was given our address? Then *out is a copy.
 * src_qpn: where it came from. */
bool verbs_letter_read(const struct rdm_address *own, const void *bytes, size_t len,
                       uint32_t src_qpn, struct verbs_letter *out);

/* Is that the name of a NIC of such a network? */
bool verbs_name_right(const struct verbs_name *name, size_t len);

/* By which a letter says whom it is for. */
uint64_t verbs_address_sum(const struct rdm_address *a);

int verbs_letter_post(struct verbs_nic *nic, unsigned i);
void verbs_letter_came(struct verbs_nic *nic, unsigned i, const struct ibv_wc *wc);
void verbs_letter_left(struct verbs_nic *nic, unsigned i, const struct ibv_wc *wc);

/* Where their queue pair has failed, as when a link is down: begin it anew, with the same
 * number. */
void verbs_letters_tend(struct verbs_nic *nic, uint64_t now_ms);

/* ---- verbs_work.c ---- */

/* What a work request is called, by the lowest bits of its number. */
enum { VERBS_ID_WORK, VERBS_ID_RX, VERBS_ID_LETTER_IN, VERBS_ID_LETTER_OUT, VERBS_ID_MASK = 3 };

int verbs_inject(struct rdm_peer *peer, const void *bytes, size_t len);
int verbs_send(struct rdm_peer *peer, struct rdm_tx *tx, size_t len);
int verbs_read(struct rdm_peer *peer, struct rdm_context *c, void *to, size_t len, void *mr,
               uint64_t from, uint64_t key);
int verbs_post(struct rdm_nic *nic, struct rdm_rx *rx);

/* An empty message, that tells when all before it has arrived. 0 or -EAGAIN; or the way has
 * failed. */
int verbs_flush(struct verbs_way *way);
int verbs_poll(struct rdm_nic *nic);

/* All up to the one of that number have ended. */
void verbs_way_retire(struct verbs_way *way, uint32_t end);
int verbs_status_errno(enum ibv_wc_status status);      /* positive */

/* ---- verbs_memory.c ---- */

int verbs_mr_open(struct rdm_nic *nic, const void *addr, size_t len, unsigned access,
                  void **out);
void verbs_mr_close(struct rdm_nic *nic, void *mr);
uint64_t verbs_mr_key(void *mr);

/* Can as much be registered as messages need? Else a sentence. */
int verbs_memory_try(struct verbs_nic *nic, char why[PW_NIC_WHY_MAX]);

#endif
