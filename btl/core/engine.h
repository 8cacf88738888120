/* SPDX-License-Identifier: BSD-3-Clause */
/* engine.h - what btl/ asks of the core: one engine, an endpoint for each peer.
 *
 * The engine owns the NICs. An endpoint owns the paths to one peer and offers
 * messages, and get, put and atomics on any memory that the peer registered;
 * how they travel (mapped memory, the kernel, a NIC, frames through a ring) is
 * decided here from what the paths cost.
 *
 * Threads: everything may be called by any thread when the engine was opened
 * with `threads`; else by one at a time. Upcalls and callbacks come from
 * pw_engine_progress(), pw_engine_flush() or, for what is done at once, not at
 * all. They may call anything but progress, flush, wait and close.
 *
 * Errors are negative errno values. The core does not print.
 */
#ifndef PW_ENGINE_H
#define PW_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pinwheel/budget.h"
#include "pinwheel/monitor.h"
#include "pinwheel/nic.h"

#include "costs.h"
#include "share.h"

struct pw_engine;
struct pw_endpoint;

enum { PW_KEY_NICS = 4 };       /* NICs of one process, at most */

struct pw_engine_upcalls {
    /* A message; data is valid during the call. cookie: the endpoint's. */
    void (*recv)(void *ctx, void *cookie, uint8_t tag, const void *data, size_t len);

    /* The last path to the peer is dead; everything pending fails right after this,
     * with -EPIPE. cause: 0 when it left in good order; why: a sentence. */
    void (*dead)(void *ctx, void *cookie, int cause, const char *why);

    /* A peer has connected to us that we have no endpoint for: the fingerprint is one of
     * those of its address. What it sends waits until there is one; open it, from here or
     * later. Comes again now and then. NULL: nobody wants to know. */
    void (*caller)(void *ctx, uint32_t fingerprint);

    /* A path to the peer is lost, or back, while others go on, or all are waited for: a
     * sentence, once for each event. NULL: nobody wants to know. */
    void (*news)(void *ctx, void *cookie, const char *sentence);
};

/* How a get of ordinary memory that the kernel reaches goes while its owner is in
 * MPI. */
enum pw_bulk {
    PW_BULK_AUTO,               /* as costs say, and then as it turns out */
    PW_BULK_STREAM, PW_BULK_KERNEL,
};

struct pw_engine_config {
    struct pw_pool *pool;
    const struct pw_engine_upcalls *up;
    void *ctx;
    const char *nics;           /* names, comma-separated; NULL or "" = all */
    const char *if_include, *if_exclude;    /* devices, see select.h */
    unsigned peer_timeout_ms;   /* without any path for so long a peer on another host
                                 * is dead; 0: 15 s */
    uint64_t job;
    bool threads;
    unsigned local_peers;       /* expected on this host */
    size_t queue_bytes;         /* per peer; 0 = chosen by the NIC */
    bool kernel_copy;
    bool attach;                /* see struct pw_nic_config */
    bool distrust;              /* see struct pw_nic_config */
    size_t chunk;               /* bytes of a piece of a streamed transfer */
    size_t chunk_most;          /* the same, of long transfers; 0: as the others */
    struct pw_costs costs;
    enum pw_bulk bulk;
    enum pw_want want;          /* of several paths to a peer */
    unsigned cores;             /* with more ranks on this host than that, idle
                                 * ones give way early; 0 = not known */
    unsigned sleep_us;          /* longest sleep when idle; 0 = never sleep */
    const struct pw_nic_ops *const *backends;   /* NULL = pw_nic_backends */

    /* Registered memory. NULL, "" or "auto": the best monitor there is, once some
     * NIC needs pinned memory, and none before, for to watch memory is to
     * interfere with the program. A name: that one, and every registration goes
     * through the cache, whatever the NICs need. */
    const char *monitor;
    size_t pin_bytes, pin_regions, pin_host_bytes;  /* 0: as budget.h says */
    /* NULL = pw_monitor_open() */
    int (*monitor_open)(const char *name, struct pw_monitor **out,
                        struct pw_monitor_report *report);
};

/* 0, and why says what is missing for those NICs that could not be opened, "" where all
 * were that are wanted;
 * or -ENODEV  no NIC could be opened; why says for each what is missing
 *       -EINVAL  a name in nics that no backend has, or in monitor that no
 *                monitor has, or a device that is none; why names it
 *       -ENOMEM */
int pw_engine_open(const struct pw_engine_config *config, struct pw_engine **out,
                   char why[PW_NIC_WHY_MAX]);

/* Closes endpoints and NICs. Pending callbacks come with -ECANCELED. */
void pw_engine_close(struct pw_engine *e);

/* What peers need to know: at most `room` bytes into out; the length, or
 * -ENOSPC. */
int pw_engine_address(struct pw_engine *e, void *out, size_t room);

/* The largest message, in bytes. */
size_t pw_engine_message_max(const struct pw_engine *e);

/* The same to ranks of other hosts; 0: none can be reached. */
size_t pw_engine_message_max_afar(const struct pw_engine *e);

/* Are there more ranks on this host than cores? May change when peers come and go. */
bool pw_engine_crowded(const struct pw_engine *e);

/* Returns the number of things that happened. Gives way or sleeps when there
 * have been none for a while, see idle.h. Returns 0 at once when another thread
 * is in it, or when called from an upcall. */
int pw_engine_progress(struct pw_engine *e);

/* Progress until every get, put and atomic is done that this process had begun by then. */
void pw_engine_flush(struct pw_engine *e);

/* From now on upcalls go there; and gets of ordinary memory that way. For who measures,
 * when nobody listens any more. Not from an upcall; waits for another thread's progress. */
void pw_engine_redirect(struct pw_engine *e, const struct pw_engine_upcalls *up, void *ctx);
void pw_engine_bulk(struct pw_engine *e, enum pw_bulk bulk);

/* Could there be a path to that address? */
bool pw_engine_reachable(struct pw_engine *e, const void *addr, size_t len);

/* What the caller upcall may name a peer with that address by, one for each of its NICs,
 * then zeros; and whether it is of this host. Two addresses may have one in common, though
 * hardly ever. */
void pw_engine_fingerprints(struct pw_engine *e, const void *addr, size_t len,
                            uint32_t prints[PW_KEY_NICS], bool *near);

/* So many peers there are on this host, and on others, that may talk to us, those with an
 * endpoint among them. Any thread. */
void pw_engine_neighbours(struct pw_engine *e, unsigned near, unsigned afar);

/* An endpoint for the peer with that address. Does not wait for the peer.
 * 0, or -EINVAL not an address; -EHOSTUNREACH no NIC reaches it, why says so;
 * -ENOMEM; else the last path's error. */
int pw_endpoint_open(struct pw_engine *e, const void *addr, size_t len, void *cookie,
                     struct pw_endpoint **out, char why[PW_NIC_WHY_MAX]);

/* What was sent still arrives. Pending callbacks come with -ECANCELED, maybe from
 * a later progress; upcalls for this endpoint do not come any more, but one may
 * be under way in another thread. */
void pw_endpoint_close(struct pw_endpoint *ep);

bool pw_endpoint_alive(const struct pw_endpoint *ep);

/* One message: all bytes of iov[0..n), n <= 2. 0 when it is on its way and the
 * memory is the caller's again; -EAGAIN no room now (try after progress, or
 * queue it); -EMSGSIZE; -EPIPE the peer is dead. */
int pw_endpoint_send(struct pw_endpoint *ep, uint8_t tag, const struct pw_iov *iov,
                     int n);

/* A message that waits for room. The caller keeps it and what iov points to
 * until done(): 0, -EMSGSIZE, -EPIPE or -ECANCELED. */
struct pw_message {
    struct pw_message *next;            /* the queue's */
    uint32_t imm;                       /* the queue's */
    int n;
    struct pw_iov iov[2];
    void (*done)(struct pw_message *m, int status);
};
void pw_endpoint_queue(struct pw_endpoint *ep, uint8_t tag, struct pw_message *m);

/* Memory that peers may reach, as they name it. Sent to them as bytes; `len` of
 * them are in use (pw_engine_key_size()). */
struct pw_key {
    uint64_t id;                        /* checked by the owner on each frame */
    uint32_t access;                    /* enum pw_access */
    uint32_t passive;                   /* its owner may be busy computing:
                                         * prefer ways that need no help */
    struct pw_nic_key nic[PW_KEY_NICS]; /* in the order of the owner's NICs */
};
size_t pw_engine_key_size(const struct pw_engine *e);

/* Does some NIC pin the pool's memory? Then its pages are to stay. */
bool pw_engine_pins_pool(const struct pw_engine *e);

/* What the i-th NIC in use says of itself; NULL: there are not so many. */
const struct pw_nic_info *pw_engine_nic(const struct pw_engine *e, int i);

/* Backends that were built and wanted, of which this machine has nothing that can be used,
 * each with the reason; "": there are none. */
const char *pw_engine_left_out(const struct pw_engine *e);

/* access 0: for this process alone, as ob1 asks for where it will get to; nothing is
 * pinned for that. Where no NIC must have it pinned, only -ENOMEM for want of a number. 0, or -ENOMEM, -EAGAIN, -EFAULT as pw_regcache_get(), or the NIC's
 * error. Give back with the key that was filled. */
int pw_engine_register(struct pw_engine *e, void *addr, size_t len, unsigned access,
                       bool passive, struct pw_key *key);
void pw_engine_deregister(struct pw_engine *e, const struct pw_key *key);

/* The same with a key of no NIC's: nothing is pinned, frames bring what is put and got. 0 or
 * -ENOMEM. */
int pw_engine_register_copied(struct pw_engine *e, void *addr, size_t len, unsigned access,
                              bool passive, struct pw_key *key);

/* A region that is what is attached to it, at first nothing; never pinned. Peers name its
 * bytes by their addresses here. 0 or -ENOMEM. */
int pw_engine_register_sparse(struct pw_engine *e, unsigned access, bool passive,
                              struct pw_key *key);

/* 0, -EINVAL: beyond all addresses, -EEXIST: some of it is attached already, -ENOMEM. No
 * bytes may be attached, too. Any thread. */
int pw_engine_attach(struct pw_engine *e, const struct pw_key *key, void *addr, size_t len);

/* What was attached from addr on: no peer reaches it any more when this returns. 0 or
 * -ENOENT. */
int pw_engine_detach(struct pw_engine *e, const struct pw_key *key, const void *addr);

/* Called once when a get, put or atomic that returned PW_NIC_PENDING ended. */
typedef void (*pw_done_fn)(void *arg, int status);

/* Copy between local memory and the peer's [remote, remote + len), which lies
 * in memory registered under key. 0 done (done is not called), PW_NIC_PENDING,
 * or -EAGAIN, -ENOMEM, -EPIPE, -EACCES (key does not allow it), -EFAULT. What
 * the owner refuses comes as the callback's status. */
int pw_endpoint_get(struct pw_endpoint *ep, void *local, uint64_t remote, size_t len,
                    const struct pw_key *key, pw_done_fn done, void *arg);
int pw_endpoint_put(struct pw_endpoint *ep, const void *local, uint64_t remote,
                    size_t len, const struct pw_key *key, pw_done_fn done, void *arg);

/* The same when it can be done at once, by a NIC that reaches the memory: 0.
 * -EOPNOTSUPP: not so, call the above. Cheaper, for nothing need be kept. */
int pw_endpoint_get_now(struct pw_endpoint *ep, void *local, uint64_t remote, size_t len,
                        const struct pw_key *key);
int pw_endpoint_put_now(struct pw_endpoint *ep, const void *local, uint64_t remote,
                        size_t len, const struct pw_key *key);

/* *result (may be NULL) gets the previous value, by the time of 0 or done.
 * Errors as above, and -EINVAL (unaligned), -EOPNOTSUPP (op and type). */
int pw_endpoint_atomic(struct pw_endpoint *ep, const struct pw_atomic *what,
                       uint64_t remote, uint64_t *result, const struct pw_key *key,
                       pw_done_fn done, void *arg);

/* For people: what was sent, and bytes by each way. Counted without locks: with
 * threads a count may be lost now and then. */
struct pw_stats {
    uint64_t messages, message_bytes;
    uint64_t direct_bytes, kernel_bytes, push_bytes, stream_bytes;
    uint64_t atomics_direct, atomics_frame, queued;
    uint64_t rescued;       /* gets that the kernel copied, their owner was silent */
    uint64_t striped;       /* puts and gets that went by several paths at once */
    uint64_t striped_again; /* pieces of them whose path failed */
    uint64_t doubted;       /* times that a path was left for want of acknowledgements */
};
void pw_engine_stats(struct pw_engine *e, struct pw_stats *out);

/* How registered memory is remembered, for people. */
struct pw_memory_info {
    const char *monitor;        /* the name of the one at work; NULL: no NIC needs
                                 * pinned memory */
    unsigned sees;              /* enum pw_event */
    char note[256];             /* what it does not see, a sentence */
    bool refused;               /* it is not the one asked for by name */
    char why[512];              /* why not that one, or not the better ones */
    struct pw_budget_info budget;
};
void pw_engine_memory(struct pw_engine *e, struct pw_memory_info *out);

#endif
