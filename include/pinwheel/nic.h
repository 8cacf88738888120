/* SPDX-License-Identifier: BSD-3-Clause */
/* nic.h - what a NIC backend promises, and what it may ask for.
 *
 * A backend is one const table (struct pw_nic_ops) and same-named functions; it
 * exports nothing else. Shared code calls the table and never asks which
 * backend it has. Passing tests/nic/conformance is what makes one usable.
 *
 * A NIC carries frames between this process and its peers, in order per peer,
 * and, where it can, reaches into a peer's memory by itself (put, get, atomic).
 * What it cannot reach is carried by frames instead; that is btl/core's work.
 *
 * Threads. open, close, connect, disconnect, progress and wait: one thread at a
 * time per NIC; the caller sees to it. send, send_inline, put, get, atomic, pin,
 * unpin, reach: any thread when the NIC was opened with `threads`, else one at a
 * time. Upcalls come from progress, on the thread that called it, with no lock
 * of the NIC held: they may call any operation but progress, wait, close and
 * disconnect. Only borrow and give_back may come from a thread of the NIC's own, or from
 * inside of an operation; they call nothing of the NIC.
 *
 * Errors are negative errno values. Backends do not print.
 */
#ifndef PINWHEEL_NIC_H
#define PINWHEEL_NIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pinwheel/pin.h"

struct pw_pool;
struct pw_nic;          /* a backend embeds it first in its own struct */
struct pw_nic_peer;     /* likewise: one NIC's view of one peer */

enum {
    PW_NIC_ADDRESS_MAX = 192,   /* bytes of an address, see address() */
    PW_NIC_KEY_MAX = 32,        /* bytes of a remote key, see pin() */
    PW_NIC_WHY_MAX = 256,       /* a sentence for people */
    PW_NIC_ROOM = 16,           /* bytes before a frame that stays, see send_kept() */
};

/* Returned by operations that finish later: the complete upcall follows, once. */
enum { PW_NIC_PENDING = 1 };

enum pw_nic_flag {
    PW_NIC_LOSSLESS = 1 << 0,   /* an accepted frame arrives as long as the
                                 * peer lives, and send is never PENDING:
                                 * nobody needs to keep a copy */
    PW_NIC_SAME_HOST = 1 << 1,  /* reaches peers on this host only */
    PW_NIC_PUT = 1 << 2,        /* has put and get for some memory, see reach() */
    PW_NIC_ATOMIC = 1 << 3,     /* has atomic for some memory */
    PW_NIC_PROMPT = 1 << 4,     /* put, get and atomic are never PENDING */
    PW_NIC_KEYS_OPTIONAL = 1 << 5,  /* a key of zeros, or none, is right too: memory
                                 * that pin refused, or that it was not asked for, is
                                 * reached as if key_size were 0. Pool memory needs
                                 * no pin */
    PW_NIC_ANSWERS = 1 << 6,    /* connect only begins: send and the others say -EAGAIN
                                 * until the up upcall has come. down may come
                                 * without it. Then, or after it, disconnect and
                                 * connect may be tried anew, for links come back.
                                 * From up to down what was accepted arrives, in
                                 * order: nobody sends it twice meanwhile */
    PW_NIC_REGIONS = 1 << 7,    /* a key holds the number of a region of the caller's
                                 * (8 bytes, then zeros), key_size is 0: before it
                                 * touches memory for a peer this NIC asks borrow() */
};

/* How well an address can be reached, as far as can be known without asking it. */
enum pw_fit {
    PW_FIT_NONE,        /* not at all */
    PW_FIT_ROUTED,      /* through a router */
    PW_FIT_LINK,        /* on the same network as this NIC */
    PW_FIT_HOST,        /* on this host */
};

/* How this NIC gets at [remote, remote + len) of a peer. */
enum pw_reach {
    PW_REACH_NONE,      /* it does not: use frames */
    PW_REACH_KERNEL,    /* through a system call for each transfer */
    PW_REACH_DIRECT,    /* at memory or wire speed, no call, no help from the peer */
};

enum pw_atomic_op {
    PW_ATOMIC_ADD, PW_ATOMIC_AND, PW_ATOMIC_OR, PW_ATOMIC_XOR,
    PW_ATOMIC_LAND, PW_ATOMIC_LOR, PW_ATOMIC_LXOR,
    PW_ATOMIC_SWAP, PW_ATOMIC_MIN, PW_ATOMIC_MAX, PW_ATOMIC_CSWAP,
};

enum pw_atomic_type { PW_INT32, PW_INT64, PW_FLOAT, PW_DOUBLE };

struct pw_atomic {
    enum pw_atomic_op op;
    enum pw_atomic_type type;   /* MIN and MAX compare signed */
    uint64_t operand;           /* low 4 bytes for the 32-bit types */
    uint64_t compare;           /* CSWAP: what must be there */
};

struct pw_iov {
    const void *base;
    size_t len;
};

/* Registered memory as a peer names it. Filled by pin(), sent to peers as bytes. */
struct pw_nic_key {
    uint8_t bytes[PW_NIC_KEY_MAX];
};

/* One of the devices that a backend could drive: an interface, a port, a domain. */
struct pw_nic_device {
    char name[32];              /* as people name it: "eth0" */
    char address[64];           /* with the length of its prefix, "10.0.0.1/24"; several
                                 * are separated by spaces; "": none */
    uint64_t bytes_per_s;       /* of its link; 0: not known */
    bool usable;
    bool spare;                 /* used only when somebody names it, why says why: a
                                 * loopback, a bridge of containers */
    char why[PW_NIC_WHY_MAX];   /* not usable: what is missing, what would mend it */
};

struct pw_nic_info {
    uint32_t flags;             /* enum pw_nic_flag */
    size_t frame_max;           /* largest send, bytes */
    size_t inline_max;          /* largest send_inline, bytes */
    size_t kept_least;          /* smallest frame that send_kept gains by, bytes */
    size_t own_put_least;       /* smallest put, and get, that gains by a key of our memory, */
    size_t own_get_least;       /* bytes; 0: none does */
    size_t key_size;            /* bytes of a remote key in use; 0 = peers need
                                 * none, and pin and unpin need not be called.
                                 * But see PW_NIC_KEYS_OPTIONAL */
    size_t key_room;            /* what key_size may be for others of the job, whatever
                                 * it is here: keys are of one size for all */
    uint32_t latency_ns;        /* one way, small frame; a first guess */
    uint64_t bytes_per_s;       /* a first guess */
    char what[96];              /* device and link, for people */
    char note[160];             /* what else it does here, or could and why not */
};

/* What a NIC has done by itself since it was opened: only grows. Read it with
 * __atomic_load_n(, RELAXED). */
struct pw_nic_counts {
    uint64_t attach_bytes;      /* copied to or from memory of peers that is no pool,
                                 * mapped here */
    uint64_t attached;          /* regions of peers that were mapped for that */
    uint64_t attach_evicted;    /* given up to make room for others */
    uint64_t attach_stale;      /* given up since their owner's memory had changed */
    uint64_t attach_refused;    /* could not be mapped, or not shared by us */
    uint64_t wire_bytes;        /* of messages, puts and gets that left through a network */
    uint64_t wire_copied;       /* of them and of what came, those that went through memory
                                 * of ours on their way from or to the user's */
    uint64_t reconnects;        /* connections made anew */
    uint64_t queue_pairs;       /* open connections of an RDMA device; of now */
    uint64_t rested;            /* of them, closed for others' sake */
    uint64_t strangers;         /* connections refused: not of this job, or nonsense */
};

struct pw_nic_upcalls {
    /* A frame from peer (the cookie given to connect). data is valid during the
     * call only and need not be aligned. len may be 0. */
    void (*recv)(void *ctx, void *peer, uint32_t imm, const void *data, size_t len);

    /* An operation that returned PW_NIC_PENDING ended: 0 or -errno. */
    void (*complete)(void *ctx, void *op, int status);

    /* The peer cannot be reached any more. All frames that had arrived before
     * were delivered. Comes once per peer, after complete(-ECONNRESET) for all
     * that was pending. cause: 0 when it left in good order, -ECONNRESET when
     * its process died, -EPROTO when it did what no peer of ours does: lengths and
     * places outside of what is shared are never followed, with distrust or
     * without; another errno else. why: a sentence that names the peer. */
    void (*down)(void *ctx, void *peer, int cause, const char *why);

    /* Somebody whom we have not connected to has connected to us: addr is what its
     * address() gave. What it sends waits until connect() is called for it, from here
     * or later. Comes again now and then until that, or until it has left. NULL:
     * nobody wants to know. */
    void (*caller)(void *ctx, struct pw_nic *nic, const void *addr, size_t len);

    /* The peer of a PW_NIC_ANSWERS NIC has answered: frames may be sent. Once for each
     * connect(). */
    void (*up)(void *ctx, void *peer);

    /* The peer does not acknowledge what it was sent, for doubt_ms; or it does again. It may
     * be busy or out of reach: what was accepted stays accepted, but somebody who has another
     * way goes that first. Only between up and down. NULL: nobody wants to know. */
    void (*doubt)(void *ctx, void *peer, bool doubted);

    /* The link of this NIC is back: connect() may succeed from now on, for peers whose down
     * has come. NULL: nobody wants to know. */
    void (*restored)(void *ctx, struct pw_nic *nic);

    /* For PW_NIC_REGIONS: may that peer do `access` (enum pw_access) to
     * [addr, addr + len) of the region of that number? 0: yes, and it stays until
     * give_back, which comes soon: the NIC does not wait for anything meanwhile. Only
     * for peers that are connected, or have called.
     * -EACCES: there is no such region, or it does not allow that. Any thread. */
    int (*borrow)(void *ctx, uint64_t region, uint64_t addr, size_t len, unsigned access);
    void (*give_back)(void *ctx, uint64_t region);
};

struct pw_nic_config {
    struct pw_pool *pool;           /* not NULL; outlives the NIC */
    const struct pw_nic_upcalls *up;
    void *ctx;                      /* handed to the upcalls */
    uint64_t job;                   /* frames of another job are refused */
    bool threads;                   /* see Threads above */
    unsigned local_peers;           /* expected on this host; a hint for sizes */
    size_t queue_bytes;             /* per-peer send queue; 0 = chosen by the NIC */
    bool kernel_copy;               /* may use process_vm_readv and the like */
    bool attach;                    /* may let peers map any memory, by /dev/pinwheel */
    uint32_t past_extra_ns;         /* what it costs more to read 16 KiB that their
                                     * writer's cache does not hold */
    const struct pw_nic_device *device; /* one of devices(); NULL where there is none */
    unsigned peer_timeout_ms;       /* a peer of which nothing is heard for so long is
                                     * down; 0: a NIC that is no network needs none */
    unsigned doubt_ms;              /* see the doubt upcall; 0: never. Some NICs never do */
    bool distrust;                  /* peers may change at any moment what they
                                     * share with us: what upcalls get is a copy
                                     * of our own, made before anybody looks */
    char *why;                      /* NULL, or PW_NIC_WHY_MAX bytes that begin as "": an
                                     * open() that fails may say there what is missing and
                                     * what would mend it. Not touched later */
};

struct pw_nic {
    const struct pw_nic_ops *ops;
    struct pw_nic_info info;        /* fixed after open */
    struct pw_nic_counts counts;
    unsigned callers;               /* peers that are not connected and may become
                                     * callers; set by who calls progress and wait */
};

struct pw_nic_peer {
    struct pw_nic *nic;
};

/* What a user may set of a backend: the parameter btl_pinwheel_<backend>_<name>. */
struct pw_nic_setting {
    const char *name;           /* NULL ends a list */
    const char *initial;        /* what holds if nobody sets it, as text */
    const char *help;
};

struct pw_nic_ops {
    const char *name;       /* a value of the parameter btl_pinwheel_nics */

    /* What a user may set, for all of the process; NULL: nothing. set comes before
     * everything else of the table: 0, or -EINVAL and a sentence that names the parameter,
     * its value and what is allowed. text may be NULL. */
    const struct pw_nic_setting *settings;
    int (*set)(const struct pw_nic_setting *setting, const char *text,
               char why[PW_NIC_WHY_MAX]);

    /* Could this machine run it? No lasting effect. 0 fills info; else -errno
     * (-ENODEV nothing there, -EACCES no privilege, -ENOSYS kernel or library
     * lacks it) and why says what is missing and what would mend it. */
    int (*probe)(struct pw_nic_info *info, char why[PW_NIC_WHY_MAX]);

    /* What there is, usable or not, best first: how many, of which at most max are
     * written. One NIC is opened for each of those that are used. NULL: this backend has
     * no devices, one NIC is all. */
    int (*devices)(struct pw_nic_device *out, int max);

    /* 0, or -EINVAL for a config out of range, -ENOMEM when the pool cannot
     * give the queues, or as probe(). */
    int (*open)(const struct pw_nic_config *config, struct pw_nic **out);

    /* Peers still connected are told that we left. What peers were sent before
     * still arrives. Pending operations are dropped without an upcall. */
    void (*close)(struct pw_nic *nic);

    /* Bytes by which peers reach us; PW_NIC_ADDRESS_MAX room, returns length. */
    size_t (*address)(struct pw_nic *nic, void *out);

    /* Does that address name a peer this NIC could reach (same host, same
     * network, same version), and how well (enum pw_fit)? Decides without talking to
     * it. */
    int (*reachable)(struct pw_nic *nic, const void *addr, size_t len);

    /* Never waits for the peer: frames may be sent at once, and arrive when the
     * peer connects to us in turn, as its caller upcall lets it. What a peer that is
     * gone had sent before still comes, if connect() is called when it is told of
     * as a caller. cookie is handed to the upcalls.
     * 0, or -EINVAL   not an address of this backend and version
     *       -EHOSTUNREACH  reachable() would say no
     *       -ECONNREFUSED  nobody is there (any more)
     *       -EACCES   the peer is another user's
     *       -ENOMEM */
    int (*connect)(struct pw_nic *nic, const void *addr, size_t len, void *cookie,
                   struct pw_nic_peer **out);

    /* Tell the peer that we left; frames sent before still arrive. No upcall
     * for this peer follows. */
    void (*disconnect)(struct pw_nic_peer *peer);

    /* From return on nothing is written to our memory of what that peer has put before. Its
     * link may end by that; then down comes. Somebody who puts the same another way asks for
     * it. From any upcall. NULL: puts end before complete(-ECONNRESET) comes to who asked
     * for them, or this NIC cannot say when they do. */
    void (*fence)(struct pw_nic_peer *peer);

    /* One frame of imm and all bytes of iov[0..n), n <= 3, at most frame_max.
     * 0 sent, the memory is the caller's again;
     * PW_NIC_PENDING: keep the memory until complete(op);
     * -EAGAIN: no room now, nothing was sent, try after progress;
     * -EMSGSIZE: over frame_max; -EPIPE: the peer is down. */
    int (*send)(struct pw_nic_peer *peer, uint32_t imm, const struct pw_iov *iov,
                int n, void *op);

    /* As send, of at least kept_least bytes, and the memory stays what it is, also beyond
     * complete(), until the peer's program has said that it has the frame, or for ever; so
     * its bytes may be on their way from where they lie. before: frames to that peer which
     * it has not said that of. room: 0, or PW_NIC_ROOM bytes before those of iov[0] are the
     * NIC's to write, and stay as well; 0 where bytes of an earlier call may still be on
     * their way. What is refused is nowhere on its way. NULL: this NIC gains nothing by
     * that. */
    int (*send_kept)(struct pw_nic_peer *peer, uint32_t imm, const struct pw_iov *iov,
                     int n, size_t room, unsigned before, void *op);

    /* The same as send for one small piece, at most inline_max; never PENDING. */
    int (*send_inline)(struct pw_nic_peer *peer, uint32_t imm, const void *data,
                       size_t len);

    /* How put, get and atomic would get at this memory of the peer. Asked once for
     * each transfer: a NIC may count on that to see what is used again. */
    enum pw_reach (*reach)(struct pw_nic_peer *peer, uint64_t remote, size_t len,
                           const struct pw_nic_key *key);

    /* Copy len bytes to or from the peer's address remote. Ordered with later
     * sends to that peer: who gets the frame sees the data.
     * 0 done, PW_NIC_PENDING, -EAGAIN as in send;
     * -EOPNOTSUPP  not in reach that way now: reach() tells what is left (it may
     *              come into reach later, too);
     * -EFAULT      the peer has no such memory; -EPIPE the peer is down. */
    int (*put)(struct pw_nic_peer *peer, const void *local, uint64_t remote,
               size_t len, const struct pw_nic_key *key, void *op);
    int (*get)(struct pw_nic_peer *peer, void *local, uint64_t remote, size_t len,
               const struct pw_nic_key *key, void *op);

    /* The same, and own is what pin() gave us for memory that holds all of local, with
     * PW_READ for a put, PW_WRITE for a get; it stays pinned until the operation is over.
     * Without it the NIC would have to register that memory for this one operation. NULL:
     * this NIC gains nothing by that. */
    int (*put_own)(struct pw_nic_peer *peer, const void *local, uint64_t remote,
                   size_t len, const struct pw_nic_key *key, const struct pw_nic_key *own,
                   void *op);
    int (*get_own)(struct pw_nic_peer *peer, void *local, uint64_t remote, size_t len,
                   const struct pw_nic_key *key, const struct pw_nic_key *own, void *op);

    /* Atomic with every other atomic on that memory, this CPU's included.
     * result (may be NULL) gets what was there before, in the low bytes.
     * Errors as put, and -EINVAL when remote is not aligned to its type. */
    int (*atomic)(struct pw_nic_peer *peer, const struct pw_atomic *what,
                  uint64_t remote, uint64_t *result, const struct pw_nic_key *key,
                  void *op);

    /* What the network adds to the latency of a small frame to that peer, one way, in ns, as
     * it was measured; 0: not known. Between up and down. NULL: never known. */
    uint32_t (*delay)(struct pw_nic_peer *peer);

    /* Make [addr, addr + len) usable for peers, with access (enum pw_access).
     * 0 fills key, or -EFAULT, -ENOMEM (pin limit), -EAGAIN (it was changing
     * meanwhile). unpin with the same range and key; where keys are optional, a key of
     * zeros need not be unpinned. */
    int (*pin)(struct pw_nic *nic, void *addr, size_t len, unsigned access,
               struct pw_nic_key *key);
    void (*unpin)(struct pw_nic *nic, void *addr, size_t len,
                  const struct pw_nic_key *key);

    /* Deliver what arrived, finish what is pending, look for new and dead
     * peers. Returns the number of upcalls made but for caller, of which nothing
     * has come yet, and of steps of puts and gets that make none: 0 says that its
     * caller may rest. Never blocks, and ends however fast frames come; nobody's wait
     * while others are served again and again. */
    int (*progress)(struct pw_nic *nic);

    /* Sleep until a frame may have arrived, at most timeout_us. Returns at once
     * when one is there already. May return early, never late. A caller need not end
     * it, but waits a millisecond at most while pw_nic.callers says that one may come. */
    void (*wait)(struct pw_nic *nic, unsigned timeout_us);
};

/* The backends that were built, NULL-terminated, best first. Defined in
 * btl/nic/backends.c. */
extern const struct pw_nic_ops *const pw_nic_backends[];

#endif
