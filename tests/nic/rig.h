/* SPDX-License-Identifier: BSD-3-Clause */
/* rig.h - a NIC with a pool of its own, and connections that watch what arrives.
 *
 * All rigs that a thread opened are progressed by pump(), which everything here
 * that has to wait calls. A failure to set up ends the case.
 */
#ifndef PW_NIC_RIG_H
#define PW_NIC_RIG_H

#include <pthread.h>

#include "pinwheel/pool.h"
#include "suite.h"

struct op;
struct region;

struct rig_options {
    uint64_t job;
    bool threads;
    bool no_kernel_copy;
    size_t queue_bytes;
    size_t pool_bytes;      /* 0 is 32 MiB */
};

struct rig {
    struct rig *next;               /* among those of this thread */
    const struct subject *subject;
    struct pw_nic_device device;
    struct pw_pool *pool;
    struct pw_nic *nic;
    uint8_t address[PW_NIC_ADDRESS_MAX];
    size_t address_len;
    unsigned upcalls;               /* since the last look of pump() */
    unsigned callers;               /* told of, all in all */
    uint8_t caller[PW_NIC_ADDRESS_MAX];     /* the last one */
    size_t caller_len;
    void (*on_caller)(struct rig *rig);
    void *arg;
    bool elsewhere;                 /* another thread makes its progress: pump() does not */
    struct op *posted, *finished;
    pthread_mutex_t lock;           /* of the regions, which any thread may borrow */
    struct region *regions;
    uint64_t last_region;
    unsigned lent;                  /* borrowed and not given back */
};

/* One connection; the cookie is its address. */
struct conn {
    struct rig *rig;
    struct pw_nic_peer *peer;
    void (*recv)(struct conn *conn, uint32_t imm, const void *data, size_t len);
    void *arg;
    uint32_t tag_in, tag_out;   /* seeds of contents, see frame_fill() */
    size_t (*size)(const struct conn *conn, uint32_t seq);  /* of frame seq */
    uint64_t frames;        /* received */
    unsigned posted;        /* operations not complete yet */
    unsigned ups;
    unsigned downs;
    int cause;              /* of the last down */
};

/* One operation that may be pending. */
struct op {
    struct op *next, *prev;     /* in rig->posted; only those of conn_post() */
    struct conn *conn;
    bool posted;
    int done;                   /* atomic */
    int status;
    uint8_t data[];
};

void rig_open(struct rig *rig, const struct subject *subject,
              const struct rig_options *options);
void rig_close(struct rig *rig);
void rig_config(const struct rig *rig, const struct rig_options *options,
                struct pw_nic_config *out);

/* pin and unpin; of a NIC that borrows regions, the key is made here. */
int rig_pin(struct rig *rig, void *addr, size_t len, unsigned access,
            struct pw_nic_key *key);
void rig_unpin(struct rig *rig, void *addr, size_t len, const struct pw_nic_key *key);

bool rig_answers(const struct rig *rig);        /* PW_NIC_ANSWERS */

/* Connect to whoever has that address. It does not wait for an answer: the first frame
 * does, by conn_await_up(). conn gets recv, arg, size and tags from
 * like, so that they hold for the first frame; else it is set up for
 * conn_recv_sequence and empty frames. */
void rig_connect(struct rig *rig, struct conn *conn, const void *address, size_t len);
void rig_connect_like(struct rig *rig, struct conn *conn, const void *address,
                      size_t len, const struct conn *like);
void conn_disconnect(struct conn *conn);

/* Pump until the peer has answered, or is down; at once where none answers. Not in an
 * upcall. */
void conn_await_up(struct conn *conn);

/* Progress this thread's rigs. Returns what it did, upcalls and else. Yields when there
 * was nothing. */
int pump(void);

struct deadline {
    uint64_t ns;
};

uint64_t clock_ns(void);
struct deadline deadline_in(unsigned ms);
struct deadline deadline_patient(void);
bool deadline_over(const struct deadline *d);

/* pump() once; false when the time is over. */
bool pump_before(const struct deadline *d);

/* Pump until so many frames came in; a failed check when they do not. */
void conn_await_frames(struct conn *conn, uint64_t frames);
void conn_await_down(struct conn *conn, int cause);

/* ---- contents ---- */

void frame_fill(void *data, size_t len, uint64_t seed);
bool frame_is(const void *data, size_t len, uint64_t seed);
uint32_t mix(uint32_t x);

/* Frame seq carries imm = seq, conn->size(seq) bytes seeded by its direction's tag and
 * by seq. This checks that they come in order, each once. */
void conn_recv_sequence(struct conn *conn, uint32_t imm, const void *data, size_t len);
uint64_t sequence_seed(uint32_t tag, uint32_t seq);

/* ---- sending ---- */

/* Send and wait for completion; -EAGAIN is tried again. 0, or the error. */
int send_now(struct conn *conn, uint32_t imm, const struct pw_iov *iov, int n);
int inline_now(struct conn *conn, uint32_t imm, const void *data, size_t len);

/* One try, contents copied where they must stay: 0 accepted, or the error. */
int conn_post(struct conn *conn, uint32_t imm, const void *data, size_t len);

/* Frame seq of the sequence by one of send and send_inline, as seq decides. */
int conn_send_sequence(struct conn *conn, uint32_t seq);
int conn_post_sequence(struct conn *conn, uint32_t seq);

/* put, get and atomic the same way. */
int put_now(struct conn *conn, const void *local, uint64_t remote, size_t len,
            const struct pw_nic_key *key);
int get_now(struct conn *conn, void *local, uint64_t remote, size_t len,
            const struct pw_nic_key *key);

/* The same by put_own and get_own: own is the key of a pin that holds local. */
int put_own_now(struct conn *conn, const void *local, uint64_t remote, size_t len,
                const struct pw_nic_key *key, const struct pw_nic_key *own);
int get_own_now(struct conn *conn, void *local, uint64_t remote, size_t len,
                const struct pw_nic_key *key, const struct pw_nic_key *own);
int atomic_now(struct conn *conn, const struct pw_atomic *what, uint64_t remote,
               uint64_t *result, const struct pw_nic_key *key);

/* ---- two rigs in this process ---- */

struct pair {
    struct rig a, b;
    struct conn ab, ba;     /* a's connection to b, and b's to a */
};

void pair_open(struct pair *p, const struct subject *subject,
               const struct rig_options *options);
void pair_close(struct pair *p);

/* ---- memory that peers may reach ---- */

struct window {
    struct rig *rig;
    uint8_t *mem;
    size_t len;
    bool pooled;
    struct pw_nic_key key;
};

/* What a peer needs to know of it. */
struct window_name {
    uint64_t addr, len;
    struct pw_nic_key key;
};

void window_open(struct window *w, struct rig *rig, size_t len, bool pooled);
void window_close(struct window *w);
struct window_name window_name(const struct window *w);

/* Pump until it is in reach; PW_REACH_NONE when that does not come soon. */
enum pw_reach reach_soon(struct conn *conn, const struct window_name *w);

#endif
