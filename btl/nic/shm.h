/* SPDX-License-Identifier: BSD-3-Clause */
/* shm.h - the shm backend's own structures; nobody else includes this.
 *
 *     shm.c        open, close, frames, progress, sleeping and waking
 *     shm_queue.c  the memory of the queue that we write for a peer
 *     shm_link.c   addresses, and calling a peer with our segment
 *     shm_events.c what the sockets tell: callers, departures, deaths
 *     shm_distrust.c  peers that do what no peer of ours does
 *     shm_reach.c  put, get, atomic: by the mapped segment, by attaching, by the kernel
 *     shm_share.c  our memory outside the pool, exported by the driver
 *     shm_attach.c that of peers, mapped here
 *     shm_ring.h   frames from one process to another
 *     shm_part.h   where in the queue the next one goes
 */
#ifndef PW_SHM_H
#define PW_SHM_H

#include <pthread.h>
#include <sys/types.h>

#include "pinwheel/nic.h"
#include "pinwheel/pool.h"
#include "shm_attach.h"
#include "shm_ring.h"

/* The version changes with struct shm_address, struct shm_hello or shm_ring.h:
 * only processes that agree on them meet. */
enum { SHM_MAGIC = 0x6d687370, SHM_VERSION = 6, SHM_ID = 16, SHM_BYE = 'b' };

/* In every segment: who sends to its owner looks here, and wakes it. */
struct shm_bell {
    uint32_t sleeping __attribute__((aligned(SHM_LINE)));   /* a futex */
};

/* Published to peers through address(). */
struct shm_address {
    uint32_t magic;
    uint32_t version;
    uint8_t id[SHM_ID];         /* the socket's abstract name; visible to all */
    uint8_t secret[SHM_ID];     /* who knows it got this address from us */
    uint8_t boot[SHM_ID];       /* the host, and the kernel it runs since boot */
    uint64_t net;               /* network namespace: where the name is valid */
    uint64_t job;
    uint32_t uid;
    uint32_t pad;
};

/* The first message to a peer's socket, with our segment's descriptor and, when there is
 * one, the share descriptor of the driver. */
struct shm_hello {
    uint32_t magic;
    uint32_t version;
    uint8_t secret[SHM_ID];     /* the receiver's: proves we know its address */
    uint8_t from[SHM_ID];
    uint64_t base, size;        /* our segment, as we address it */
    uint64_t queue, queue_size; /* offset of what we write for you; its stow's size */
    uint64_t bell;              /* offset of our struct shm_bell */
    uint32_t fenced_wake;       /* we cannot membarrier: fence before you look */
    uint32_t pad;
    uint8_t from_secret[SHM_ID];    /* the sender's: with `from` all of its address
                                     * that is not as the receiver's own */
    uint64_t words_bytes;       /* of the driver's words; 0: no share descriptor */
};

/* A hello that came before the connect() for its sender. */
struct shm_stranger {
    struct shm_stranger *next;
    struct shm_hello hello;
    pid_t pid;
    int fd;                     /* its connection to us; -1: it is gone */
    int segment;                /* its descriptor; -1: we had no room for it */
    int share;                  /* the other one; -1: none, or the like */
    bool greeted;               /* hello is there */
    bool bye;                   /* it said that it leaves */
    bool untold;                /* in this look at the sockets: no upcall yet */
    bool told;                  /* there was one since it is gone */
};

/* Progress calls between two thoughts about a look at the sockets. */
enum { SHM_POLLS = 64 };

enum shm_link_state {
    SHM_CALLING,    /* its backlog was full; trying again */
    SHM_CALLED,     /* our hello is sent */
    SHM_LEAVING,    /* it is gone; its ring may still hold frames */
    SHM_DOWN,       /* the down upcall was made */
};

/* What no peer of ours does. */
enum shm_lie {
    SHM_HONEST,
    SHM_LIE_FRAME,  /* its queue holds what can be no frame */
    SHM_LIE_HEAD,   /* it has read what we never wrote */
    SHM_LIE_SEAL,   /* its memory could be taken from under us */
};

struct shm_peer {
    struct pw_nic_peer peer;
    struct shm_nic *nic;
    void *cookie;

    struct shm_tx tx;           /* under tx_lock when the NIC has threads */
    int tx_lock;
    bool down;                  /* atomic: sends answer -EPIPE */
    bool detour;                /* atomic, shm_detour(): not by the shortest way */

    bool heard;                 /* atomic: its hello came, what follows is set */
    bool fenced_wake;           /* atomic: fence before looking at its bell */
    bool wants_fence;           /* it cannot call the barrier */
    struct shm_rx rx;
    bool busy;                  /* the last look found a frame */
    char *base;                 /* its segment, as we map it */
    struct shm_bell *bell;      /* in its segment */
    const uint32_t *sleeping;   /* in its bell; before it is heard, a word that is 0 */
    uint64_t remote_base, remote_size;  /* its segment, as it addresses it */
    struct shm_attach *attach;  /* its other memory; NULL: not to be had */

    enum shm_link_state state;
    int cause;                  /* of LEAVING */
    enum shm_lie lie;           /* when cause is -EPROTO */
    bool accused;               /* atomic: a send has seen SHM_LIE_HEAD */
    bool starved;               /* atomic: a send has found no memory for the queue */
    bool bye;                   /* it said that it leaves */
    struct shm_address address;
    int out_fd, in_fd;          /* our call, its call; -1 none */
    pid_t pid;                  /* as our kernel names it; 0 not known */
    int kernel;                 /* process_vm_readv: 0 untried, 1 works, -1 not */
};

struct shm_nic {
    struct pw_nic nic;
    struct pw_nic_config config;
    struct shm_address address;
    size_t queue_size;          /* of a stow, if the pool has room */
    struct shm_bell *bell;      /* in our segment */
    struct shm_share share;     /* for the rest of our memory */
    bool membarrier;            /* the kernel has membarrier(2) */
    bool awaits_barrier;        /* that others' barriers reach us is not in the peers'
                                 * fenced_wake yet */
    bool holds_barrier;         /* shm_barrier_close() is due */
    int listen_fd, epoll_fd;
    int spare_fd;               /* given up to learn who calls when there is no other */

    struct shm_peer **peers;
    unsigned n_peers, cap_peers;
    unsigned n_unheard;         /* connected to, hello not yet here */
    unsigned n_leaving;         /* to be reported down */
    struct shm_stranger *strangers;
    unsigned polls;             /* progress calls, see SHM_POLLS */
    unsigned rounds;            /* of SHM_POLLS since the sockets were looked at */
    uint64_t looked, stirred;   /* ticks: then, and when somebody called last, or we */
    uint32_t look_ticks;        /* SHM_LOOK_NS; 0 not known yet */
    bool accusations;           /* atomic: some peer is accused, or starved */
    uint64_t open_ns, open_ticks;   /* when it was opened, by two clocks */
    char *bounce;               /* config.distrust: the frame that an upcall sees */
};

/* Sends have more to look at than the frame. After each change of what is asked here. */
static inline void shm_detour(struct shm_peer *p)
{
    __atomic_store_n(&p->detour,
                     p->nic->config.threads ||
                     __atomic_load_n(&p->down, __ATOMIC_RELAXED) ||
                     __atomic_load_n(&p->fenced_wake, __ATOMIC_RELAXED), __ATOMIC_RELAXED);
}

/* shm.c: wake the owner of that bell if it sleeps. */
void shm_ring_bell(struct shm_bell *bell);

/* shm_queue.c. choose, least: bytes of a queue, and of one that was made where the pool
 * was short of room. make: a queue for a peer, with memory for little. grow: with more,
 * under tx_lock; for all of it, stow too, where `stows`. 0, or -ENOMEM when the pool has
 * no room or the machine no memory. */
size_t shm_queue_choose(const struct pw_nic_config *config);
size_t shm_queue_least(const struct pw_nic_config *config);
int shm_queue_make(struct shm_peer *p);
int shm_queue_grow(struct shm_peer *p, bool stows);

/* shm_barrier.c. look: from progress, now and then. Each NIC of a process has it open
 * for itself. */
void shm_barrier_open(struct shm_nic *nic);
void shm_barrier_close(struct shm_nic *nic);
void shm_barrier_look(struct shm_nic *nic);
bool shm_barrier_reaches_us(const struct shm_nic *nic);

/* shm_link.c */
void shm_clocks(uint64_t *ns, uint64_t *ticks);
uint32_t shm_ticks(const struct shm_nic *nic, uint32_t ns);
int shm_link_open(struct shm_nic *nic);
void shm_link_close(struct shm_nic *nic);
size_t shm_address(struct pw_nic *nic, void *out);
int shm_reachable(struct pw_nic *nic, const void *addr, size_t len);
int shm_connect(struct pw_nic *nic, const void *addr, size_t len, void *cookie,
                struct pw_nic_peer **out);
void shm_disconnect(struct pw_nic_peer *peer);

/* shm_link.c, for shm_events.c */
void shm_fd_close(int *fd);
void shm_stranger_free(struct shm_stranger *s);
int shm_epoll(struct shm_nic *nic, int fd);
int shm_same_user(int fd, pid_t *pid);
bool shm_hello_sane(const struct shm_nic *nic, const struct shm_hello *h);
int shm_hear(struct shm_peer *p, struct shm_stranger *s);
int shm_call(struct shm_peer *p);
bool shm_socket_drain(int fd, bool *bye);

/* shm_events.c. looks: now and then from progress, and that the next one is due. */
int shm_look(struct shm_nic *nic);
void shm_look_soon(struct shm_nic *nic);
void shm_stir(struct shm_nic *nic);
int shm_link_progress(struct shm_nic *nic);     /* number of upcalls made */
void shm_leaving(struct shm_peer *p, int cause);

/* shm_distrust.c */
int shm_bounce_open(struct shm_nic *nic);
void shm_bounce_close(struct shm_nic *nic);
int shm_accuse(struct shm_peer *p);             /* -EPIPE, for who sends */
void shm_distrust(struct shm_peer *p, enum shm_lie lie);
const char *shm_lie_text(enum shm_lie lie);

/* shm_reach.c */
enum pw_reach shm_reach(struct pw_nic_peer *peer, uint64_t remote, size_t len,
                        const struct pw_nic_key *key);
int shm_put(struct pw_nic_peer *peer, const void *local, uint64_t remote, size_t len,
            const struct pw_nic_key *key, void *op);
int shm_get(struct pw_nic_peer *peer, void *local, uint64_t remote, size_t len,
            const struct pw_nic_key *key, void *op);
int shm_atomic(struct pw_nic_peer *peer, const struct pw_atomic *what,
               uint64_t remote, uint64_t *result, const struct pw_nic_key *key,
               void *op);

#endif
