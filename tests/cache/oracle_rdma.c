/* SPDX-License-Identifier: BSD-3-Clause */
/* oracle_rdma.c - the oracle of oracle.h over an RDMA port: what another process reads from
 * there by RDMA is what the program has written, and what the device brings there is what
 * the program reads.
 *
 * A pin is what the backend over libibverbs makes of it. The other process is rdma_peer, of
 * the same folder. No frames are looked at: the device is what would use the wrong ones.
 *
 * What goes wrong with the pinning itself is noticed, too (kept.h).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/cache/kept.h"
#include "tests/cache/oracle.h"
#include "tests/cache/rdma_side.h"

enum { ANSWER_MS = 70 * 1000 };

extern char **environ;

struct handle {
    struct pw_nic_key key;
    struct kept *kept;
};

struct oracle {
    struct pw_pin_ops ops;
    pid_t owner;                /* whose the rest is: a child needs its own */
    struct rdma_side *side;
    pid_t peer;
    int socket;                 /* to it */
    unsigned char *window;      /* shared with it */
    struct rdma_hello its;
};

/* One transfer at a time. A child must not be forked in the midst of one, for it would find
 * the lock taken. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void lock_take(void) { pthread_mutex_lock(&lock); }
static void lock_give(void) { pthread_mutex_unlock(&lock); }

/* ---- the peer ---- */

static int peer_path(char path[PATH_MAX])
{
    ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 1);
    if (n < 0)
        return -errno;
    path[n] = 0;
    char *end = strrchr(path, '/') + 1;
    size_t room = (size_t)(path + PATH_MAX - end);
    return snprintf(end, room, "rdma_peer") < (int)room ? 0 : -ENAMETOOLONG;
}

/* Not by fork, which would have the kernel copy what is pinned. */
static int peer_spawn(struct oracle *o, int socket, int window)
{
    posix_spawn_file_actions_t files;
    char path[PATH_MAX], *argv[] = { path, NULL };
    int err = peer_path(path);
    if (err)
        return err;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, socket, RDMA_PEER_SOCKET);
    posix_spawn_file_actions_adddup2(&files, window, RDMA_PEER_WINDOW);
    err = -posix_spawn(&o->peer, path, &files, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&files);
    return err;
}

/* The same, with a number that is not among those which the peer knows. */
static int above(int fd)
{
    int high = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, RDMA_PEER_WINDOW + 1);
    int err = errno;
    if (fd >= 0)
        close(fd);
    errno = err;
    return high;
}

static int window_make(struct oracle *o)
{
    int fd = above(memfd_create("oracle", MFD_CLOEXEC));
    if (fd < 0)
        return -errno;
    o->window = ftruncate(fd, RDMA_WINDOW) ? MAP_FAILED
                : mmap(NULL, RDMA_WINDOW, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (o->window != MAP_FAILED)
        return fd;
    int err = -errno;
    close(fd);
    return err;
}

static int peer_start(struct oracle *o)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
        return -errno;
    pair[0] = above(pair[0]);
    pair[1] = above(pair[1]);
    int window = window_make(o);
    int err = window < 0 ? window : peer_spawn(o, pair[1], window);
    if (window >= 0)
        close(window);
    close(pair[1]);
    o->socket = pair[0];
    return err;
}

static int hear(struct oracle *o, void *what, size_t len)
{
    struct pollfd said = { o->socket, POLLIN, 0 };
    ssize_t n = -1;

    for (int i = 0; i < ANSWER_MS && n < 0; i++) {
        rdma_side_turn(o->side);
        if (poll(&said, 1, 1) > 0)
            n = recv(o->socket, what, len, 0);
    }
    return n == (ssize_t)len ? 0 : n < 0 ? -ETIMEDOUT : -EPIPE;
}

static int meet(struct oracle *o)
{
    struct rdma_hello hello = { 0 };
    int err = hear(o, &o->its, sizeof o->its);
    if (err)
        return err;
    rdma_side_address(o->side, &hello);
    if (send(o->socket, &hello, sizeof hello, MSG_NOSIGNAL) != sizeof hello)
        return -errno;
    return rdma_side_meet(o->side, &o->its);
}

/* ---- one's own ---- */

static int own(struct oracle *o)
{
    int err = rdma_side_open(&o->side);
    if (!err)
        err = peer_start(o);
    if (!err)
        err = meet(o);
    return err;
}

/* A forked child opens its own, and leaves alone what is its parent's: the kernel objects
 * are the parent's still. */
static int ensure_own(struct oracle *o)
{
    pid_t self = getpid();
    if (__atomic_load_n(&o->owner, __ATOMIC_ACQUIRE) == self)
        return 0;
    int err = 0;
    lock_take();
    if (o->owner != self) {
        err = own(o);
        if (!err)
            __atomic_store_n(&o->owner, self, __ATOMIC_RELEASE);
    }
    lock_give();
    return err;
}

static struct kept *kept_of(const struct pw_region *r)
{
    struct kept *k = ((const struct handle *)(const void *)r->handle)->kept;
    kept_check(k);
    return k;
}

/* ---- the backend ---- */

static int oracle_pin(void *ctx, void *addr, size_t len, unsigned access, void *handle)
{
    struct oracle *o = ctx;
    struct handle *h = handle;
    int err = ensure_own(o);
    if (err)
        return err;

    struct kept *k = malloc(sizeof *k);
    if (!k)
        return -ENOMEM;
    *k = kept_begin(o->owner, addr, len);
    err = rdma_side_pin(o->side, addr, len, access, &h->key);
    if (err) {
        free(k);
        return err;
    }
    h->kept = k;
    return 0;
}

static void oracle_unpin(void *ctx, void *addr, size_t len, void *handle)
{
    struct oracle *o = ctx;
    struct handle *h = handle;
    struct kept *k = h->kept;
    kept_end(k, addr, len);
    rdma_side_unpin(o->side, addr, len, &h->key);
    h->kept = NULL;
    free(k);
}

const struct pw_pin_ops *oracle_ops(struct oracle *o) { return &o->ops; }

/* ---- frames ---- */

bool oracle_sees_frames(const struct oracle *o)
{
    (void)o;
    return false;
}

int oracle_frames(struct oracle *o, const struct pw_region *r, const void *addr,
                  size_t len, struct oracle_frame *bad)
{
    (void)o, (void)r, (void)addr, (void)len, (void)bad;
    return -EOPNOTSUPP;
}

/* ---- data ---- */

static const struct pw_nic_key *key_of(const struct pw_region *r)
{
    return &((const struct handle *)(const void *)r->handle)->key;
}

/* Ours is the device that reads, from the peer's window. */
int oracle_in(struct oracle *o, const struct pw_region *r, void *addr, size_t len,
              const void *data)
{
    kept_of(r);
    int err = len > RDMA_WINDOW ? -E2BIG : ensure_own(o);
    if (err)
        return err;
    lock_take();
    memcpy(o->window, data, len);
    err = rdma_side_get(o->side, addr, o->its.window, len, &o->its.key, key_of(r));
    lock_give();
    return err;
}

static int ask(struct oracle *o, const struct rdma_order *order)
{
    int answer;
    if (send(o->socket, order, sizeof *order, MSG_NOSIGNAL) != sizeof *order)
        return -errno;
    int err = hear(o, &answer, sizeof answer);
    return err ? err : answer;
}

/* And here the peer's. */
int oracle_out(struct oracle *o, const struct pw_region *r, const void *addr, size_t len,
               void *data)
{
    struct rdma_order order = { (uintptr_t)addr, len, *key_of(r) };
    kept_of(r);
    int err = len > RDMA_WINDOW ? -E2BIG : ensure_own(o);
    if (err)
        return err;
    lock_take();
    memset(o->window, 0xee, len);
    err = ask(o, &order);
    if (!err)
        memcpy(data, o->window, len);
    lock_give();
    return err;
}

/* ---- open and close ---- */

int oracle_open(unsigned slots, struct oracle **out)
{
    static bool once;
    struct oracle *o = calloc(1, sizeof *o);
    (void)slots;
    if (!o)
        return -ENOMEM;
    if (!once)
        pthread_atfork(lock_take, lock_give, lock_give);
    once = true;
    o->ops = (struct pw_pin_ops){
        .name = "oracle", .handle_size = sizeof(struct handle),
        .pin = oracle_pin, .unpin = oracle_unpin,
    };
    int err = ensure_own(o);
    if (err) {
        free(o);
        return err;
    }
    *out = o;
    return 0;
}

void oracle_close(struct oracle *o)
{
    if (o->owner == getpid()) {
        rdma_side_close(o->side);
        close(o->socket);
        waitpid(o->peer, NULL, 0);
        munmap(o->window, RDMA_WINDOW);
    }
    free(o);
}
