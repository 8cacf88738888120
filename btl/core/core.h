/* SPDX-License-Identifier: BSD-3-Clause */
/* core.h - the core's own structures, shared by its files and nobody else.
 *
 *     engine.c    open and close, progress, what comes in
 *     nics.c      the NICs: which are opened, which are asked
 *     connect.c   endpoints opened and closed
 *     address.c   the address of a process
 *     endpoint.c  one peer: messages, what waits for room, its death
 *     select.c    which devices of which backends are used
 *     rails.c     which NIC of ours goes with which NIC of a peer
 *     path.c      which path, and which way for a transfer
 *     share.c     which of several paths has the next piece of one
 *     stripe.c    transfers in pieces, by several paths at once
 *     costs.c     what each way costs, measured before
 *     adapt.c     the same, measured by the transfers themselves
 *     samples.c   one thing, timed several times
 *     measure.c   what gets between two processes take, measured by themselves
 *     rescue.c    transfers whose owner does not answer
 *     transfer.c  get, put and atomic, as the asking side
 *     serve.c     the same, as the side whose memory it is
 *     ops.c       what is pending, by number
 *     regions.c   memory that peers may reach, by number
 *     pinning.c   pinned for the NICs, and remembered: the registration cache
 *     metrics.c   what is counted, by name
 *     failover.c  paths that come up, fail and return
 *     guard.c     copies until acknowledged, replay on another path
 *     idle.c      spin, give way, sleep
 *
 * Locks, when there are threads. e->progress: held by the one thread that makes
 * progress or opens and closes endpoints; only ever tried, never waited for,
 * because upcalls made under it take locks of Open MPI that callers may hold.
 * e->lock: guards lists and tables, held for a few instructions, never across an
 * upcall, a callback or a NIC operation that could upcall.
 */
#ifndef PW_CORE_H
#define PW_CORE_H

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "adapt.h"
#include "pinwheel/clock.h"
#include "engine.h"
#include "pinwheel/pool.h"
#include "share.h"

/* The immediate data of a frame: what it is, the message's tag, its number. */
enum pw_kind {
    PW_F_MESSAGE, PW_F_GET, PW_F_GET_DATA, PW_F_PUT, PW_F_PUT_DATA, PW_F_ATOMIC,
    PW_F_DONE, PW_F_ACK, PW_F_CANCEL, PW_F_FENCE, PW_F_KINDS,
};
enum { PW_F_NUMBERED = 0x80 };      /* seq counts: see guard.c */

static inline uint32_t pw_imm(unsigned kind, uint8_t tag, uint16_t seq)
{
    return (uint32_t)kind << 24 | (uint32_t)tag << 16 | seq;
}

static inline unsigned pw_imm_kind(uint32_t imm)
{
    return imm >> 24 & 0x7f;
}

/* What travels in frames; doc/wire.md has it for people. Same host or same
 * architecture on both sides, so no byte swapping. */
struct pw_f_request {       /* GET, PUT */
    uint64_t id;            /* the asker's, comes back in DONE and DATA */
    uint64_t remote, len;   /* in the receiver's memory */
    uint64_t key;
    uint64_t offer;         /* the asker's buffer when its pool holds it: the
                             * receiver may reach it there. 0: send DATA */
};
struct pw_f_data {          /* GET_DATA, PUT_DATA; the bytes follow */
    uint64_t id;
    uint64_t offset;
};
struct pw_f_atomic {
    uint64_t id, remote, key;
    uint32_t op, type;
    uint64_t operand, compare;
};
struct pw_f_done {
    uint64_t id;
    int64_t status;
    uint64_t result;
};

struct pw_f_cancel {        /* of a GET: send no more of it */
    uint64_t id;
};

struct pw_f_fence {         /* write nothing more of what came by this path as puts */
    uint32_t own, part;     /* places of the sender's NIC and of the receiver's */
};

enum pw_op_kind { PW_OP_FREE, PW_OP_GET, PW_OP_PUT, PW_OP_ATOMIC };

/* Who ends it: our NIC, or the peer by frames. What others say is not heard. */
enum pw_op_by { PW_BY_NIC, PW_BY_FRAMES, PW_BY_OFFER };

/* One get, put or atomic of ours that is not done. */
struct pw_op {
    uint64_t id;            /* generation << 32 | index */
    uint64_t born;          /* so many had begun before it */
    enum pw_op_kind kind;
    enum pw_op_by by;
    struct pw_op *next;     /* free list */
    struct pw_endpoint *ep;
    void *local;
    uint64_t remote;
    size_t len, moved;
    uint64_t key;
    uint64_t *result;
    unsigned width;
    bool rescue;            /* may be called off, see rescue.h */
    uint64_t heard;         /* the endpoint's when it was looked at, and since when */
    uint64_t heard_ns;
    uint64_t started_ns;    /* when it was asked for; 0: nobody wants to know */
    pw_done_fn done;
    void *arg;
    struct pw_path *path;   /* by which a NIC does it */
    bool timed;             /* for its share; see share.h */
    bool piece;             /* of a stripe */
    struct pw_region *own;  /* of the cache, pinned until it ends; NULL: none */
};

/* What goes in pieces that are operations of their own, younger than the whole. */
struct pw_whole {
    struct pw_whole *next;
    uint64_t born;
};

/* Bytes being sent as DATA frames. */
struct pw_stream {
    struct pw_stream *next;
    enum pw_kind kind;
    uint64_t id;
    uint64_t key;           /* of the region that is read for a peer; 0: it is for
                             * an operation of ours */
    const char *from;
    size_t len, sent;
};

/* A put of the peer that arrives as DATA frames. */
struct pw_incoming {
    struct pw_incoming *next;
    uint64_t id, key;
    char *to;
    size_t len, moved;
};

struct pw_span {
    uint64_t base;
    size_t len;
};

struct pw_exposed {
    uint64_t id;            /* generation << 32 | index; 0 free */
    char *base;
    size_t len;
    unsigned access;
    uint32_t next_free;
    struct pw_region *region;   /* of the cache; NULL: needed no pinning */
    unsigned lent;              /* how often a NIC has it, see pw_region_borrow() */
    bool sparse;                /* not base and len, but spans */
    uint32_t n_spans;
    struct pw_span *spans;      /* what is attached, in any order */
};

enum pw_path_state {
    PW_PATH_DOWN,
    PW_PATH_TRYING,         /* the peer has not answered yet */
    PW_PATH_UP,
};

enum { PW_PATHS = 8 };      /* of an endpoint */

struct pw_path {
    struct pw_endpoint *ep;
    struct pw_nic *nic;
    struct pw_nic_peer *peer;
    int part;               /* the place of the peer's NIC among its own: keys go by it */
    enum pw_path_state state;   /* atomic */
    unsigned users;         /* atomic: calls of other threads, see pw_path_enter() */
    bool lame;              /* counted in e->n_lame: may come up */
    bool lost;              /* was up, and that it is not was told */
    unsigned retry_ms;
    uint64_t retry_ns;      /* when to connect again */
    char why[128];          /* it is not up */
    struct pw_share share;  /* of stripes; under e->lock */
    bool broken;            /* atomic: for them, until it is up again */
    uint32_t delay_ns;      /* of the network, as measured; next to nothing is 0 */
    bool doubted;           /* atomic: its peer acknowledges nothing at the moment */
    bool fenced;            /* the peer was told to, since it was up */
};

struct pw_guard;
struct pw_live;
struct pw_pinning;
struct pw_stripe;

enum pw_where { PW_IS_NOWHERE, PW_IS_NEAR, PW_IS_AFAR };

struct pw_endpoint {
    struct pw_engine *e;
    struct pw_endpoint *next;
    void *cookie;
    struct pw_path *path;           /* in use for frames; NULL until opened */
    struct pw_path paths[PW_PATHS];
    int n_paths;
    bool dead;                      /* atomic */
    bool closing;                   /* atomic: no upcalls any more */
    enum pw_where where;            /* as what it is counted */
    size_t frame_max;               /* of the paths it has had; set before the first */
    uint32_t prints[PW_KEY_NICS];   /* of the parts of its address */
    bool waiting;                   /* atomic: something below waits for room */
    struct pw_message *queue, **queue_end;
    struct pw_stream *streams, **streams_end;
    struct pw_incoming *incoming;
    struct pw_stripe *stripes;      /* not handed out wholly; under e->lock */
    bool striping;                  /* atomic: there are some; counted in e->n_busy */
    struct pw_adapt adapt;          /* under e->lock */
    uint64_t heard;                 /* GET_DATA frames */
    uint64_t streamed_ns;           /* when the last streamed get ended; under
                                     * e->lock */
    struct pw_guard *guard;         /* atomic; NULL: one lossless path, nothing to
                                     * guard */
    bool put_off;                   /* progress is to connect it */
    uint8_t *addr;                  /* while somebody may connect; else NULL */
    size_t addr_len;
    uint64_t away_ns;               /* since when no path is up; 0: one is */
    bool away_told;
    unsigned refusals;              /* in a row */
};

struct pw_idle {
    unsigned polls;
    bool starved;           /* a message found no room since the last look */
    uint64_t sent;          /* messages, when since_ns was set */
    uint64_t since_ns;
    unsigned sleep_us;
    unsigned turn;          /* of the NICs in use */
};

struct pw_engine {
    struct pw_engine_config config;
    struct pw_nic *nics[PW_KEY_NICS];
    struct pw_nic_device devices[PW_KEY_NICS];  /* as they were chosen; a NIC may look */
    int n_nics;
    char left_out[PW_NIC_WHY_MAX];      /* backends of which nothing can be used, and why */
    struct pw_nic *active[PW_KEY_NICS]; /* asked in each progress call: of this host, or with
                                         * a path; the others now and then */
    int n_active;
    unsigned uses[PW_KEY_NICS];         /* paths of each NIC */
    size_t frame_max;
    struct pw_endpoint *endpoints;
    unsigned n_endpoints;           /* atomic */
    unsigned n_local;               /* endpoints on this host */
    unsigned n_remote;              /* on others */
    unsigned n_near, n_far;         /* atomic: peers on this host and on others, as was
                                     * told */
    bool crowded;                   /* with us, more than there are cores */
    struct pw_costs crowded_costs;  /* then: config.costs, but the peer helps only when it
                                     * has a core */
    unsigned n_waiting;             /* endpoints with `waiting` set */
    unsigned n_chores;             /* endpoints to open or close in progress */
    unsigned n_busy, n_owing;       /* atomic: guards, and endpoints with stripes, that each
                                     * call is to look at; guards that have something to
                                     * acknowledge */
    unsigned n_lame;                /* atomic: paths that may come up */
    uint64_t lame_ns;               /* when they were looked at */
    unsigned nic_timeout_ms, doubt_ms;  /* as NICs were told */
    unsigned calls;                 /* of progress */

    pthread_mutex_t progress, lock;
    bool locks;                     /* the program has threads, or a NIC in use has one
                                     * that looks at regions */
    bool in_progress;               /* under progress */
    pthread_t progress_thread;

    struct pw_op **ops;
    uint32_t n_ops, n_pending;
    uint64_t ops_born;              /* ever */
    struct pw_whole *wholes;        /* the oldest first */
    uint32_t n_rescues;             /* atomic: operations with `rescue` set */
    struct pw_op *free_ops;
    struct pw_exposed *regions;
    uint32_t n_regions, free_region;
    struct pw_pinning *pinning;     /* NULL: nothing is pinned */
    size_t keys_size;               /* of what NICs may have in a key */

    struct pw_idle idle;
    struct pw_stats stats;
    struct pw_live *live;           /* NULL: cannot be had here */
    uint64_t live_ns;               /* when it was written last */
};

/* What every so many progress calls look after: the cache, paths that are not up. */
enum { PW_CALLS = 64 };

static inline bool pw_calls_due(const struct pw_engine *e)
{
    return e->calls % PW_CALLS == 0;
}

static inline void pw_lock(struct pw_engine *e)
{
    if (e->locks)
        pthread_mutex_lock(&e->lock);
}

static inline void pw_unlock(struct pw_engine *e)
{
    if (e->locks)
        pthread_mutex_unlock(&e->lock);
}

/* Statistics may lose a count when threads race; they never tear. */
static inline void pw_count(uint64_t *counter, uint64_t n)
{
    __atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + n,
                     __ATOMIC_RELAXED);
}

/* endpoint.c: frames of ours. Control frames are never lost for lack of room:
 * they are copied and wait. 0 or -EPIPE, -ENOMEM. */
int pw_frame_send(struct pw_endpoint *ep, unsigned kind, uint8_t tag,
                  const struct pw_iov *iov, int n);
int pw_control_send(struct pw_endpoint *ep, unsigned kind, const void *data, size_t len);
void pw_endpoint_free(struct pw_endpoint *ep);
void pw_endpoint_kill(struct pw_endpoint *ep, int cause, const char *why);
void pw_endpoint_wait_room(struct pw_endpoint *ep);
int pw_endpoint_pump(struct pw_endpoint *ep);
/* false when the endpoint is dead, or when op (may be NULL), whose bytes they are,
 * has ended: s stays the caller's. */
bool pw_endpoint_stream(struct pw_endpoint *ep, struct pw_stream *s,
                        const struct pw_op *op);
void pw_endpoint_unstream(struct pw_endpoint *ep, enum pw_kind kind, uint64_t id);

/* connect.c */
void pw_endpoints_chores(struct pw_engine *e);
int pw_path_connect(struct pw_path *path);      /* once more; as connect() of the NIC */
void pw_engine_called(struct pw_engine *e, struct pw_nic *nic, const void *part,
                      size_t len);

/* failover.c */
/* A path that connect() was called for: 0, or what it said. */
void pw_path_start(struct pw_path *path, int err);
void pw_path_up(struct pw_path *path);
void pw_path_down(struct pw_path *path, int cause, const char *why);
void pw_path_doubt(struct pw_path *path, bool doubted);
/* That NIC's link is back: its paths are tried now. */
void pw_paths_restored(struct pw_engine *e, const struct pw_nic *nic);
void pw_failover_step(struct pw_engine *e, uint64_t now);
void pw_paths_close(struct pw_endpoint *ep);
/* A put by that path failed, and is done again another way: what is sent from here on
 * finds nothing written by the first try. Under e->progress. */
void pw_path_fence(struct pw_path *path);
enum { PW_PATH_NAME = 64 };
const char *pw_path_name(const struct pw_path *path, char room[PW_PATH_NAME]);

/* engine.c */
/* Not recursive: a thread that is in an upcall finds it taken. */
static inline bool pw_progress_enter(struct pw_engine *e)
{
    if (__builtin_expect(e->config.threads, 0)) {
        if (pthread_mutex_trylock(&e->progress))
            return false;
        __atomic_store_n(&e->progress_thread, pthread_self(), __ATOMIC_RELAXED);
    } else if (e->in_progress) {
        return false;
    }
    __atomic_store_n(&e->in_progress, true, __ATOMIC_RELAXED);
    return true;
}

static inline void pw_progress_leave(struct pw_engine *e)
{
    __atomic_store_n(&e->in_progress, false, __ATOMIC_RELAXED);
    if (__builtin_expect(e->config.threads, 0))
        pthread_mutex_unlock(&e->progress);
}
/* nics.c. open: 0, or as pw_engine_open(). */
int pw_nics_open(struct pw_engine *e, char why[PW_NIC_WHY_MAX]);
/* n more paths of that NIC, or as -1u one less. Under e->progress. */
void pw_nic_used(struct pw_engine *e, const struct pw_nic *nic, unsigned n);
/* Ask the NICs that are not active: has somebody called? Under e->progress. */
int pw_engine_look_around(struct pw_engine *e);
/* What progress does now and then, and before it sleeps: paths that are not up, and
 * acknowledgements. Under e->progress. */
void pw_engine_settle(struct pw_engine *e);
/* the upcalls that NICs get */
extern const struct pw_nic_upcalls pw_engine_nic_upcalls;

/* What transfers are expected to take. */
static inline const struct pw_costs *pw_costs_now(const struct pw_engine *e)
{
    return __atomic_load_n(&e->crowded, __ATOMIC_RELAXED) ? &e->crowded_costs
                                                          : &e->config.costs;
}

/* serve.c */
void pw_serve(struct pw_endpoint *ep, unsigned kind, const void *data, size_t len);
void pw_serve_forget(struct pw_endpoint *ep);
/* May what is left of s still be read? Else the peer is told so. */
bool pw_serve_allowed(struct pw_endpoint *ep, const struct pw_stream *s);

/* transfer.c */
void pw_transfer_data(struct pw_endpoint *ep, const void *data, size_t len);
void pw_transfer_done(struct pw_endpoint *ep, const void *data, size_t len);
void pw_transfer_nic_done(struct pw_op *op, int status);
/* End it as it stands; or ask for all of it once more, true when that failed and it
 * has ended. Under e->progress. */
void pw_transfer_end(struct pw_op *op, int status);
bool pw_transfer_again(struct pw_op *op);
void pw_transfer_fail_all(struct pw_endpoint *ep, int status);
/* As pw_endpoint_get() and put, by frames; never done at once. */
int pw_transfer_by_frames(struct pw_endpoint *ep, enum pw_op_kind kind, void *local,
                          uint64_t remote, size_t len, const struct pw_key *key,
                          pw_done_fn done, void *arg);

/* n more or, as -1u, one less. */
static inline void pw_rescue_count(struct pw_engine *e, uint32_t n)
{
    __atomic_fetch_add(&e->n_rescues, n, __ATOMIC_RELAXED);
}

/* ops.c */
/* A new one like `what`, all but its id; from here on it may end in another
 * thread. NULL without memory. */
struct pw_op *pw_op_new(struct pw_engine *e, const struct pw_op *what, uint64_t *id);
struct pw_op *pw_op_find(struct pw_engine *e, uint64_t id);
/* Who gets true has ended it, and nobody else will. *was (may be NULL) is what it
 * was. */
bool pw_op_take(struct pw_engine *e, struct pw_op *op, uint64_t id, struct pw_op *was);
/* One more, and one less that is pending, which is more than its pieces. Under e->lock. */
void pw_whole_add(struct pw_engine *e, struct pw_whole *w);
void pw_whole_drop(struct pw_engine *e, struct pw_whole *w);
/* How many have begun ever; is one of the first `begun` pending? From place *at (first 0)
 * on, which moves past those that are not: what takes their places is younger. */
uint64_t pw_ops_begun(struct pw_engine *e);
bool pw_ops_before(struct pw_engine *e, uint64_t begun, uint32_t *at);
void pw_ops_fini(struct pw_engine *e);

/* regions.c */
/* May a peer do `access` to [addr, addr + len) under that number? 0, -EACCES. */
int pw_region_check(struct pw_engine *e, uint64_t id, uint64_t addr, size_t len,
                    unsigned access);
/* For NICs that touch memory for a peer: upcalls of theirs. A region that is lent is not
 * given up before it is back. */
int pw_region_borrow(void *ctx, uint64_t id, uint64_t addr, size_t len, unsigned access);
void pw_region_give_back(void *ctx, uint64_t id);
/* Remove one that is left, from place *at (first 0) on; false: there is none. */
bool pw_exposed_pop(struct pw_engine *e, uint32_t *at, struct pw_region **region);
void pw_regions_fini(struct pw_engine *e);

/* pinning.c. open: after the NICs; close: before them. */
int pw_pinning_open(struct pw_engine *e, char why[PW_NIC_WHY_MAX]);
void pw_pinning_close(struct pw_engine *e);
/* The NICs' part of key is zeros, and stays so where nothing is pinned; then *region
 * stays NULL. */
int pw_pinning_get(struct pw_engine *e, void *addr, size_t len, unsigned access,
                   struct pw_key *key, struct pw_region **region);
void pw_pinning_put(struct pw_engine *e, struct pw_region *region);
/* Our own memory, for a NIC that gains by its key (own_put_least): NULL where that one, or
 * what may be pinned, does not allow for it, and it does without. To be put. */
struct pw_region *pw_pinning_own(struct pw_engine *e, const struct pw_nic *nic,
                                 enum pw_op_kind kind, void *local, size_t len);
static inline void pw_own_put(struct pw_engine *e, struct pw_region *own)
{
    if (own)
        pw_pinning_put(e, own);
}
/* As put or get of that path's NIC; own as above. */
int pw_path_carry(const struct pw_path *path, const struct pw_op *what,
                  const struct pw_nic_key *key, const struct pw_region *own, void *op);
void pw_pinning_step(struct pw_engine *e);      /* when pw_calls_due() */
void pw_pinning_idle(struct pw_engine *e);
const struct pw_monitor *pw_pinning_monitor(const struct pw_engine *e);   /* or NULL */

/* metrics.c */
void pw_live_start(struct pw_engine *e);
void pw_live_stop(struct pw_engine *e);
void pw_live_step(struct pw_engine *e, uint64_t now_ns);

#endif
