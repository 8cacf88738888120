/* SPDX-License-Identifier: BSD-3-Clause */
/* tcp.h - the tcp backend's own structures; nobody else includes this.
 *
 *     tcp.c          open, close, the list of devices, progress, sleeping
 *     tcp_address.c  addresses: ours, those that can be reached, sentences about them
 *     tcp_socket.c   sockets: made, bound to the interface, tuned
 *     tcp_link.c     calling and being called, hello and answer, leaving
 *     tcp_past.c     calls that were heard before
 *     tcp_send.c     frames out
 *     tcp_recv.c     frames in
 *     tcp_bulk.c     puts and gets that we ask for
 *     tcp_serve.c    puts and gets of peers
 *     tcp_lend.c     their data without the kernel's copy
 *     tcp_thread.c   what goes on while the program computes; who is silent
 *     tcp_watch.c    interfaces that go down, peers that acknowledge nothing
 *     tcp_wire.h     what is said
 *
 * A peer is what connect() made. A link is a connection for frames whose both ends have
 * shown that they know each other; peer and link have each other, or the link is a
 * caller's, whom nobody has connected to yet. Each end of a link may have a second
 * connection to the other: its puts and gets, which so delay no frame, and which the other
 * end serves without its program's help. Sockets that are not that far are shakes.
 *
 *     connect()          peer, shake (calling, asked)  -> link    -> up
 *     somebody calls     shake (heard)                 -> link    -> caller, connect(), up
 *
 * Where both call at once the call of the one with the smaller address is taken: the other
 * end accepts it and gives up its own, this end does not answer the other's meanwhile
 * (shake held). So is a call held of who has a link already: either that link is found
 * broken soon, or the call is given up by who made it, or the link is taken for over. Its
 * peer has it until progress comes by, which may be long; the new link is a caller's then.
 *
 * Locks, in this order:
 *
 *     nic->lock    links, shakes, peers; receiving of puts and gets, and serving them. Held by
 *                  the slow part of progress, by the thread, by connect and disconnect
 *     peer->lock   peer->link, sending to it, peer->ops. Held by whoever sends
 *     nic->news    what progress is to tell
 *     lender.lock  the pipe; under any other, and nobody waits long for it
 *
 * Without a lock: receiving of frames, which only progress does; a link that a peer has is
 * closed by the thread that calls progress, so that it may look at it. No lock is held in an
 * upcall but borrow and give_back.
 */
#ifndef PW_TCP_H
#define PW_TCP_H

#include <errno.h>
#include <pthread.h>
#include <sys/uio.h>

#include "ifaces.h"
#include "pinwheel/clock.h"
#include "pinwheel/nic.h"
#include "pinwheel/trial.h"
#include "tcp_wire.h"

enum {
    TCP_RX_LEAST = 64 << 10,    /* of a link's buffer; it grows when longer frames come */
    TCP_SMALL = 512,            /* frames up to here are sent in one piece, copied */
    TCP_KEEP = 16 << 10,        /* the rest of a frame that did not fit: copied up to here */
    TCP_AHEAD = 512,            /* of answers, read at once */
    TCP_PIECE = 1 << 20,        /* of a put's or get's data, in one system call */
    TCP_STEP = 1 << 20,         /* before others have their turn */
    TCP_BATCH = 64,             /* frames, or answers, before others have their turn */
    TCP_SCRATCH = 64 << 10,
    TCP_LEND = 32 << 10,        /* so much may be sent where it lies, see tcp_lend.c */
    TCP_STREAM = 4,             /* frames that are not answered: more are to follow */
    TCP_DIRECT = 4,             /* links that are looked at one by one */
    TCP_HOT = 256,              /* calls of progress, see hot */
    TCP_CUT_MS = 1000,          /* without puts and gets a link is of no use */
    TCP_SHAKES = 256,           /* calls that have not said who they are yet */
    TCP_HELLO_MS = 5000,        /* how long one may take to */
    TCP_HELD_MS = 500,          /* then the link is taken for broken, not the call */
    TCP_LEAVING_MS = 5000,      /* what is left to send may take */
    TCP_AWAY_MS = 5,            /* without progress the thread serves */
    TCP_CALLER_MS = 5,          /* between two upcalls about a caller */
};

struct tcp_nic;
struct tcp_peer;
struct tcp_link;

/* A put, get or frame that was PENDING. */
struct tcp_op {
    struct tcp_op *next;        /* in peer->to_ask, peer->idle or nic->done */
    struct tcp_peer *peer;
    void *cookie;
    uint16_t kind;              /* TCP_PUT, TCP_GET; 0: none, or a frame */
    bool asked;                 /* the peer has all of the request */
    bool data;                  /* of a get: its data has come */
    bool lend;                  /* its data rather not copied, see tcp_lend.c */
    bool lends;                 /* so it is with a put's */
    bool timed;                 /* alone so far as it was asked for */
    uint32_t crowds;            /* of the peer then */
    uint64_t since_ns;
    int status;
    char *local;
    uint64_t region, remote;
    size_t len, sent;           /* sent: of the request and a put's data */
};

/* What of accepted frames has not gone out yet. */
struct tcp_rest {
    char *copy;                 /* TCP_FRAME_MAX and more, or NULL */
    size_t at, len;             /* what is left of the copy, sent first */
    struct iovec left[3];       /* then, of the caller's memory */
    int n_left;
    bool kept;                  /* that stays what it is, and may be lent */
};

/* Our connection for puts and gets to a peer. */
struct tcp_asker {
    int fd;
    struct tcp_op *receiving;   /* of TCP_DATA that is coming */
    size_t got;                 /* of it */
    uint8_t buf[TCP_AHEAD];
    size_t at, len;
    bool dry;                   /* the last look took all there was */
};

struct tcp_job {
    struct tcp_request ask;
    int status;
    bool with_data, lends;
    size_t sent;                /* of its reply, data and TCP_DONE */
};

/* A peer's connection for puts and gets. */
struct tcp_server {
    int fd;
    struct tcp_request put;     /* what is coming, or was the last */
    size_t have;                /* of the request */
    int put_status;
    size_t got;                 /* of its data */
    struct tcp_job jobs[TCP_OPS];
    unsigned first, n_jobs;     /* to be answered, in order */
};

/* See tcp_lend(). */
struct tcp_lender {
    pthread_mutex_t lock;
    int in, out;                /* of the pipe; -1: none yet */
    size_t inside;              /* bytes taken from memory that no socket has accepted */
    const void *whose;          /* atomic: for whom, or NULL: there are none */
    bool off;                   /* cannot be done here */
};

struct tcp_link {
    struct tcp_link *next;
    struct tcp_nic *nic;
    struct tcp_peer *peer;      /* NULL: of a caller, or leaving */
    struct tcp_address remote;
    bool here;                  /* on this host */
    uint64_t session;
    int fd;

    /* Receiving, by progress alone. */
    char *buf;
    size_t cap, head, tail;
    bool fenced;                /* the next frame waits for puts to land */
    bool more;                  /* whole frames may be left in buf */
    struct tcp_link *again;     /* in nic->again, where more or fenced: no socket tells */
    bool in_again;
    bool bye;

    /* Sending: peer->lock, or nic->lock where there is no peer. */
    struct tcp_rest rest;
    bool said;                  /* something, since the thread looked last */

    /* nic->lock. */
    struct tcp_asker *asker;
    bool asker_called;          /* there is one, or will be */
    struct tcp_server *server;
    uint64_t told_ns;           /* the caller upcall */
    uint64_t leave_ns;          /* leaving: until then */
    bool leaving, shut;
    bool over;                  /* lost, and its peer has called anew; to be told of */
    uint64_t cut_ns;            /* a connection for puts and gets broke then */
    uint64_t fenced_ns;         /* a frame waits since then for puts; or 0 */
    uint64_t unheard_ns[3];     /* of fd, asker, server: since then nothing is acknowledged */

    uint32_t landed;            /* atomic: puts of the peer */
    int lost;                   /* atomic: errno that ended it, or 0 */
};

/* See tcp_past_note(). */
struct tcp_past {
    struct tcp_caller *callers;
    size_t n;
};

enum tcp_state { TCP_CALLS, TCP_UP, TCP_DOWN };

struct tcp_peer {
    struct pw_nic_peer peer;
    struct tcp_nic *nic;
    struct tcp_peer *next;
    void *cookie;
    struct tcp_address address;
    bool here;
    struct tcp_shake *call;     /* nic->lock */
    bool tell_up;               /* nic->lock */
    int gone;                   /* nic->lock: down is to be told: 1 - cause; or 0 */
    bool doubted, doubt_told;   /* nic->lock */
    char why[PW_NIC_WHY_MAX];

    pthread_mutex_t lock;
    enum tcp_state state;
    struct tcp_link *link;
    struct tcp_op frame;        /* the one that is PENDING: peer->link->rest.left */
    bool frame_pending;
    struct tcp_op ops[TCP_OPS];
    struct tcp_op *idle;
    struct tcp_op *to_ask, **to_ask_end;
    uint32_t puts;              /* that were asked for */
    uint32_t puts_ended;        /* and that were answered */
    uint32_t crowds;            /* puts and gets that were asked for behind others */
    uint64_t ended_ns;          /* the last one was */
    struct pw_trial trials[2];  /* of single puts, and gets: 1 not copied */
    uint32_t gets;              /* atomic: that are not answered */
    bool wants_asker;
};

enum tcp_shake_state {
    SHAKE_CALLING,      /* connect(2) has not ended */
    SHAKE_ASKED,        /* our hello is sent */
    SHAKE_HEARD,        /* somebody called, and is to say who it is */
    SHAKE_HELD,         /* has said, and is not answered now */
    SHAKE_OVER,         /* to be freed */
};

struct tcp_shake {
    struct tcp_shake *next;
    enum tcp_shake_state state;
    int fd;
    struct tcp_peer *peer;      /* calling, asked */
    bool bulk;                  /* to be peer->link->asker */
    uint64_t since_ns;
    uint64_t session;
    size_t have;
    union {
        struct tcp_hello hello;
        struct tcp_answer answer;
        uint8_t bytes[sizeof(struct tcp_hello)];
    } in;
};

struct tcp_nic {
    struct pw_nic nic;
    struct pw_nic_config config;
    struct pw_iface iface;
    struct pw_ip ip;
    struct tcp_address address;
    uint64_t timeout_ns;
    int listen_fd;
    int frames_epoll;           /* links that a peer has; bulk_epoll; wake */
    int bulk_epoll;             /* nic->lock, but for waiting: the rest of the sockets */

    /* Of progress alone. */
    struct tcp_link *last;      /* heard of last */
    struct tcp_link *again;     /* have something left to deliver */
    unsigned turns;
    uint64_t slow_ns;
    struct tcp_link *direct[TCP_DIRECT];    /* links that are in no epoll */

    pthread_mutex_t lock;
    struct tcp_link *links;
    struct tcp_peer *peers;
    struct tcp_shake *shakes;
    uint64_t session;           /* of our last call for frames */
    struct tcp_past past;
    uint32_t busy;              /* atomic: links, peers, shakes: is there anything to do? */
    uint32_t moving;            /* atomic: shakes, which time ends too */
    uint32_t blocked;           /* atomic: what could not be sent; somebody is to go on */
    uint32_t chores;            /* atomic: peers want an asker, calls failed */
    uint32_t asked;             /* atomic: puts and gets under way */
    struct tcp_link *bulk_last; /* whose puts and gets moved last */
    uint32_t hot;               /* atomic: calls of progress that look for more of them */
    uint8_t *scratch;           /* where bytes go that nobody wants */
    struct tcp_lender lender;

    pthread_mutex_t news;
    struct tcp_op *done, **done_end;    /* nic->news */
    uint32_t news_there;        /* atomic */

    pthread_t thread;
    bool thread_runs;           /* of who calls progress */
    int bell;                   /* eventfd: ends the thread's sleep */
    int wake;                   /* eventfd: ends wait() */
    bool over;                  /* atomic */
    int iface_fd;               /* tells of interfaces, or -1; of the thread */
    bool iface_down;            /* of the thread */
    bool restored;              /* nic->lock: is to be told */
    bool waits;                 /* atomic: somebody is in wait() */
    uint32_t polls;             /* atomic: calls of progress */
};

extern const struct pw_nic_ops pw_nic_tcp;

static inline void tcp_count(uint64_t *counter, uint64_t n)
{
    __atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

/* ---- tcp_address.c ---- */

int tcp_address_open(struct tcp_nic *nic);      /* fills address but for the port */
size_t tcp_address(struct pw_nic *nic, void *out);
int tcp_reachable(struct pw_nic *nic, const void *addr, size_t len);
void tcp_address_ip(const struct tcp_address *a, struct pw_ip *ip);

/* "10.0.0.2 over eth0 (10.0.0.1): " and what; adds that the interface is down. */
void tcp_why(const struct tcp_nic *nic, const struct tcp_address *a, char *out,
             const char *what, ...) __attribute__((format(printf, 4, 5)));

/* ---- tcp_socket.c ---- */

void tcp_fd_close(int *fd);

/* One that was watched: the child of a fork may have it, too, and the epoll would go on. */
void tcp_fd_end(int epoll, int *fd);
int tcp_listen(struct tcp_nic *nic, int *fd, uint16_t *port);

/* A socket on its way there. 0, or -errno; in both cases connect(2) may end later. */
int tcp_dial(struct tcp_nic *nic, const struct tcp_address *to, bool here, int *fd);
void tcp_tune(struct tcp_nic *nic, int fd, bool here);
bool tcp_sent_all(int fd);                      /* has all of it left the socket? */
int tcp_watch(int epoll, int fd, uint32_t events, void *what);

/* ---- tcp_link.c ---- */

int tcp_connect(struct pw_nic *nic, const void *addr, size_t len, void *cookie,
                struct pw_nic_peer **out);
void tcp_disconnect(struct pw_nic_peer *peer);
void tcp_fence(struct pw_nic_peer *peer);

/* Go on with all that is not a link yet or any more, under nic->lock. */
void tcp_links_step(struct tcp_nic *nic);

/* Somebody is at the door. Under nic->lock. */
void tcp_accept(struct tcp_nic *nic);

/* The peer of that link is doubted now, or is not. Under nic->lock. */
void tcp_doubt(struct tcp_link *l, bool doubted);

/* What calls are under way were made before the interface came back: they end, and who made
 * them is told to try again. Under nic->lock. */
void tcp_calls_anew(struct tcp_nic *nic);

/* Its connection is broken, or nobody is heard of: whoever reads it finds its end, behind
 * what had come. Any thread that holds one of its locks. */
void tcp_link_lose(struct tcp_link *l, int err);

/* It has ended; by progress, under no lock. cause and why as in the down upcall, which is
 * made. */
int tcp_link_down(struct tcp_link *l, int cause, const char *why);

/* Of its peer's, which stays. Under nic->lock and, where there is a peer, peer->lock. */
void tcp_link_free(struct tcp_link *l);

/* Upcalls but those of frames and callers, and askers that are wanted. By progress; how many. */
int tcp_tell(struct tcp_nic *nic);
void tcp_tell_callers(struct tcp_nic *nic);

/* All peers are left; returns when what they were sent has gone out. No thread runs. */
void tcp_links_close(struct tcp_nic *nic);

/* ---- tcp_past.c, under nic->lock ---- */

/* That hello for frames was heard. 0; -EEXIST: it, or a later one of the same process, was
 * before; -ENOMEM. */
int tcp_past_note(struct tcp_past *past, const struct tcp_hello *h);
void tcp_past_close(struct tcp_past *past);

/* ---- tcp_send.c ---- */

int tcp_send(struct pw_nic_peer *peer, uint32_t imm, const struct pw_iov *iov, int n,
             void *op);
int tcp_send_kept(struct pw_nic_peer *peer, uint32_t imm, const struct pw_iov *iov, int n,
                  size_t room, unsigned before, void *op);
int tcp_send_inline(struct pw_nic_peer *peer, uint32_t imm, const void *data, size_t len);

/* As much of the rest as goes now. 0 when nothing is left, -EAGAIN, or what the socket
 * said. Under the lock of sending. */
int tcp_flush(struct tcp_link *l);

/* A record without bytes, where no rest is in its way. */
int tcp_say(struct tcp_link *l, enum tcp_kind kind);

/* What is still the caller's is copied, and the frame is done. 0, or -ENOMEM: it may be half
 * of it. Under the lock of sending. */
int tcp_keep_rest(struct tcp_link *l);

/* Behind all that was accepted. What is still the caller's is copied. */
void tcp_say_bye(struct tcp_link *l);

/* ---- tcp_recv.c ---- */

/* Deliver what has come, in bounds. By progress, under no lock. Upcalls made. */
int tcp_recv(struct tcp_link *l);

int tcp_recv_open(struct tcp_link *l);          /* 0 or -ENOMEM */
int tcp_recv_again(struct tcp_nic *nic);        /* of all in nic->again */

/* ---- tcp_bulk.c ---- */

enum pw_reach tcp_reach(struct pw_nic_peer *peer, uint64_t remote, size_t len,
                        const struct pw_nic_key *key);
int tcp_put(struct pw_nic_peer *peer, const void *local, uint64_t remote, size_t len,
            const struct pw_nic_key *key, void *op);
int tcp_get(struct pw_nic_peer *peer, void *local, uint64_t remote, size_t len,
            const struct pw_nic_key *key, void *op);

void tcp_asker_free(struct tcp_link *l);        /* nic->lock and peer->lock */
/* Send requests, and take what is answered. Under nic->lock. -errno: the connection is of
 * no use any more. Number of things done. */
int tcp_ask_step(struct tcp_link *l);
int tcp_ask_flush(struct tcp_peer *p);          /* peer->lock */

/* All ops have ended so. nic->lock and peer->lock. */
void tcp_ops_fail(struct tcp_peer *p, int status);

/* Tell of it by complete. */
void tcp_done(struct tcp_nic *nic, struct tcp_op *op, int status);

/* ---- tcp_serve.c ---- */

void tcp_server_free(struct tcp_link *l);       /* nic->lock */
int tcp_serve_step(struct tcp_link *l);         /* as tcp_ask_step */

/* ---- tcp_lend.c ---- */

void tcp_lender_open(struct tcp_lender *l);
void tcp_lender_close(struct tcp_lender *l);

/* Can a transfer of len bytes be lent now, which is worth it? */
bool tcp_lend_wanted(struct tcp_lender *l, size_t len);

/* As much of iov[0..n), n <= 2, as the socket, which does not block, takes; by reference:
 * the bytes stay what they are until the other end's program has them all. The next call
 * for the same `whose` goes on behind what was sent. more: something follows soon.
 * Bytes sent, -EAGAIN, what the socket said, or -EOPNOTSUPP: send them by a copy, and
 * tcp_lend_drop() first. */
ssize_t tcp_lend(struct tcp_lender *l, int fd, const void *whose, const struct iovec *iov,
                 int n, bool more);

/* Is something taken for it that its socket has not accepted? */
bool tcp_lend_begun(const struct tcp_lender *l, const void *whose);

/* Its bytes go another way from now on, or not at all. */
void tcp_lend_drop(struct tcp_lender *l, const void *whose);

/* ---- tcp_serve.c, both ---- */

/* Both or one of them, for a link. nic->lock. */
enum { TCP_ASK = 1, TCP_SERVE = 2, TCP_BOTH = TCP_ASK | TCP_SERVE };

int tcp_bulk_step(struct tcp_link *l, unsigned which);

/* ---- tcp_watch.c ---- */

void tcp_iface_look(struct tcp_nic *nic);       /* iface_fd is readable; no lock held */
void tcp_doubts_look(struct tcp_nic *nic);      /* now and then; under nic->lock */

/* Is something under way of which nothing was acknowledged for so long? nic->lock. */
bool tcp_unheard(struct tcp_link *l, uint64_t now, uint64_t ns);
uint32_t tcp_delay(struct pw_nic_peer *peer);

/* ---- tcp_thread.c ---- */

void tcp_thread_need(struct tcp_nic *nic);      /* by who calls progress; no lock held */
void tcp_thread_end(struct tcp_nic *nic);
void tcp_ring(struct tcp_nic *nic);

/* There is something for progress, told by news_there or chores. Any thread. */
void tcp_news(struct tcp_nic *nic, uint32_t *which);

/* All of the sockets but those for frames. Under nic->lock. */
int tcp_bulk_look(struct tcp_nic *nic);

/* Frames that could not be sent before. Under nic->lock. */
void tcp_flush_all(struct tcp_nic *nic);

#endif
