/* SPDX-License-Identifier: BSD-3-Clause */
/* shm_link.c - addresses, and calling a peer with our segment.
 *
 * Start at shm_connect(); what the sockets tell is in shm_events.c. Each process
 * listens on an abstract UNIX socket with a random name; abstract, so that nothing is
 * left behind by kill -9. To connect means to call the peer's socket and leave a hello
 * with our segment's descriptor there; nobody waits for an answer. The peer does the
 * same towards us, as soon as it sees the call: its caller upcall asks for it. So there
 * are two sockets for a pair, each telling its caller and its callee of the other's end:
 *
 *     a.out ------------> b.in     hello of a, its segment; later BYE of either
 *     a.in  <------------ b.out    hello of b, its segment; later BYE of either
 *
 * A hello is believed when the kernel says that the caller is of our user and
 * when it names our secret, which only the holders of our address know.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "pinwheel/clock.h"
#include "shm.h"

static void shm_socket_name(const uint8_t id[SHM_ID], struct sockaddr_un *sa,
                            socklen_t *len)
{
    char *p = sa->sun_path + 1;

    memset(sa, 0, sizeof(*sa));
    sa->sun_family = AF_UNIX;
    p += sprintf(p, "pinwheel-");
    for (int i = 0; i < SHM_ID; i++)
        p += sprintf(p, "%02x", id[i]);
    *len = (socklen_t)(p - (char *)sa);
}

static int shm_random(void *out, size_t len)
{
    return getrandom(out, len, 0) == (ssize_t)len ? 0 : -EIO;
}

/* ---- clocks ---- */

void shm_clocks(uint64_t *ns, uint64_t *ticks)
{
    *ns = pw_now_ns();
#ifdef __x86_64__
    *ticks = __rdtsc();
#else
    *ticks = *ns;
#endif
}

/* How many of the CPU's ticks that is, within a percent: some time has passed since the
 * NIC was opened, or is spent here. */
uint32_t shm_ticks(const struct shm_nic *nic, uint32_t ns)
{
    enum { LEAST_NS = 20 * 1000 };
    uint64_t now_ns, now_ticks;
    double ticks;

    do
        shm_clocks(&now_ns, &now_ticks);
    while (now_ns - nic->open_ns < LEAST_NS);
    ticks = (double)(now_ticks - nic->open_ticks) / (double)(now_ns - nic->open_ns) * ns;
    return ticks > 0 && ticks < UINT32_MAX ? (uint32_t)ticks : 0;
}

/* Two processes that name the same boot and the same network namespace can
 * reach each other's abstract sockets. Unreadable files leave zeros: alike. */
static void shm_host(struct shm_address *a)
{
    struct stat st;
    char text[64] = "";
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    unsigned n = 0;

    if (fd >= 0) {
        if (read(fd, text, sizeof(text) - 1) > 0)
            for (const char *p = text; *p && n < 2 * SHM_ID; p++) {
                int c = *p >= 'a' ? *p - 'a' + 10 : *p - '0';
                if (c < 0 || c > 15)
                    continue;
                a->boot[n / 2] = (uint8_t)(a->boot[n / 2] << 4 | c);
                n++;
            }
        close(fd);
    }
    if (!stat("/proc/self/ns/net", &st))
        a->net = st.st_ino;
}

int shm_epoll(struct shm_nic *nic, int fd)
{
    struct epoll_event ev = { .events = EPOLLIN | EPOLLRDHUP, .data.fd = fd };

    return epoll_ctl(nic->epoll_fd, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

int shm_link_open(struct shm_nic *nic)
{
    struct sockaddr_un sa;
    socklen_t len;
    int err;

    nic->address = (struct shm_address){
        .magic = SHM_MAGIC, .version = SHM_VERSION,
        .uid = (uint32_t)geteuid(), .job = nic->config.job,
    };
    shm_host(&nic->address);
    err = shm_random(nic->address.id, SHM_ID);
    if (!err)
        err = shm_random(nic->address.secret, SHM_ID);
    if (err)
        return err;

    nic->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    nic->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (nic->listen_fd < 0 || nic->epoll_fd < 0)
        return -errno;
    shm_socket_name(nic->address.id, &sa, &len);
    if (bind(nic->listen_fd, (struct sockaddr *)&sa, len) ||
        listen(nic->listen_fd, 4096))
        return -errno;
    nic->spare_fd = fcntl(nic->epoll_fd, F_DUPFD_CLOEXEC, 0);
    return shm_epoll(nic, nic->listen_fd);
}

void shm_fd_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void shm_stranger_free(struct shm_stranger *s)
{
    shm_fd_close(&s->fd);
    shm_fd_close(&s->segment);
    shm_fd_close(&s->share);
    free(s);
}

void shm_link_close(struct shm_nic *nic)
{
    while (nic->strangers) {
        struct shm_stranger *s = nic->strangers;
        nic->strangers = s->next;
        shm_stranger_free(s);
    }
    shm_fd_close(&nic->listen_fd);
    shm_fd_close(&nic->epoll_fd);
    shm_fd_close(&nic->spare_fd);
}

size_t shm_address(struct pw_nic *nic, void *out)
{
    memcpy(out, &((struct shm_nic *)nic)->address, sizeof(struct shm_address));
    return sizeof(struct shm_address);
}

static bool shm_address_parse(const void *addr, size_t len, struct shm_address *a)
{
    if (len != sizeof(*a))
        return false;
    memcpy(a, addr, sizeof(*a));
    return a->magic == SHM_MAGIC && a->version == SHM_VERSION;
}

static bool shm_same_place(const struct shm_nic *nic, const struct shm_address *a)
{
    const struct shm_address *me = &nic->address;

    return a->net == me->net && a->job == me->job &&
           !memcmp(a->boot, me->boot, SHM_ID);
}

int shm_reachable(struct pw_nic *nic, const void *addr, size_t len)
{
    struct shm_nic *n = (struct shm_nic *)nic;
    struct shm_address a;

    return shm_address_parse(addr, len, &a) && shm_same_place(n, &a) &&
                   a.uid == n->address.uid ? PW_FIT_HOST : PW_FIT_NONE;
}

int shm_same_user(int fd, pid_t *pid)
{
    struct ucred cred;
    socklen_t len = sizeof(cred);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len))
        return -errno;
    *pid = cred.pid;
    return cred.uid == geteuid() ? 0 : -EACCES;
}

static void shm_hello_fill(struct shm_peer *p, struct shm_hello *h)
{
    struct shm_nic *nic = p->nic;
    char *base = pw_pool_base(nic->config.pool);

    *h = (struct shm_hello){
        .magic = SHM_MAGIC, .version = SHM_VERSION,
        .base = (uint64_t)(uintptr_t)base, .size = pw_pool_size(nic->config.pool),
        .queue = (uint64_t)((char *)p->tx.ring - base), .queue_size = p->tx.in_stow.size,
        .bell = (uint64_t)((char *)nic->bell - base),
        .fenced_wake = !nic->membarrier,
        .words_bytes = nic->share.fd >= 0 ? nic->share.words_bytes : 0,
    };
    memcpy(h->secret, p->address.secret, SHM_ID);
    memcpy(h->from, nic->address.id, SHM_ID);
    memcpy(h->from_secret, nic->address.secret, SHM_ID);
}

static int shm_hello_send(struct shm_peer *p)
{
    struct shm_hello h;
    struct iovec iov = { &h, sizeof(h) };
    union { char bytes[CMSG_SPACE(2 * sizeof(int))]; struct cmsghdr align; } control;
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control };
    struct cmsghdr *c;
    int fds[2] = { pw_pool_fd(p->nic->config.pool), p->nic->share.fd };
    size_t bytes = (fds[1] < 0 ? 1 : 2) * sizeof(int);

    shm_hello_fill(p, &h);
    memset(&control, 0, sizeof(control));
    m.msg_controllen = CMSG_SPACE(bytes);
    c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(bytes);
    memcpy(CMSG_DATA(c), fds, bytes);
    return sendmsg(p->out_fd, &m, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* Call the peer and leave our hello. 0 also when its backlog is full: then the
 * state stays CALLING and progress tries again. */
int shm_call(struct shm_peer *p)
{
    struct sockaddr_un sa;
    socklen_t len;
    int err;

    if (p->out_fd < 0)
        p->out_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (p->out_fd < 0)
        return -errno;
    shm_socket_name(p->address.id, &sa, &len);
    if (connect(p->out_fd, (struct sockaddr *)&sa, len))
        return errno == EAGAIN ? 0 : -errno;
    err = shm_same_user(p->out_fd, &p->pid);
    if (!err)
        err = shm_hello_send(p);
    if (!err)
        err = shm_epoll(p->nic, p->out_fd);
    if (!err)
        p->state = SHM_CALLED;
    return err;
}

bool shm_hello_sane(const struct shm_nic *nic, const struct shm_hello *h)
{
    uint64_t bytes = shm_queue_bytes(h->queue_size);

    return h->magic == SHM_MAGIC && h->version == SHM_VERSION &&
           !memcmp(h->secret, nic->address.secret, SHM_ID) &&
           h->queue_size >= SHM_STOW_SIZE_MIN && h->queue_size <= SHM_STOW_SIZE_MAX &&
           !(h->queue_size & (h->queue_size - 1)) &&
           h->queue <= h->size && bytes <= h->size - h->queue &&
           h->base % SHM_LINE == 0 && h->queue % SHM_LINE == 0 &&
           h->bell % SHM_LINE == 0 &&
           h->bell <= h->size && sizeof(struct shm_bell) <= h->size - h->bell;
}

/* The peer's hello is here: from now on its frames can be read and its memory
 * reached. Takes the stranger, whatever happens. -EPROTO: its segment is not what
 * config.distrust asks for; -EMFILE: there was no descriptor for it. */
int shm_hear(struct shm_peer *p, struct shm_stranger *s)
{
    bool wrong = s->segment >= 0 && p->nic->config.distrust && !pw_pool_steady(s->segment);
    void *base;
    int err = s->segment < 0 ? -EMFILE : wrong ? -EPROTO :
              pw_pool_map(s->segment, s->hello.size, &base);

    if (wrong)
        p->pid = s->pid;
    if (!err) {
        p->base = base;
        p->remote_base = s->hello.base;
        p->remote_size = s->hello.size;
        p->bell = (struct shm_bell *)(void *)(p->base + s->hello.bell);
        p->wants_fence = s->hello.fenced_wake;
        p->fenced_wake = p->wants_fence || !shm_barrier_reaches_us(p->nic);
        shm_detour(p);
        p->sleeping = &p->bell->sleeping;
        p->in_fd = s->fd;
        p->pid = s->pid;
        p->bye = s->bye;
        s->fd = -1;
        shm_rx_init(&p->rx, p->base + s->hello.queue, s->hello.queue_size);
        p->attach = shm_attach_open(p->nic, s->share, s->hello.words_bytes);
        s->share = -1;
        p->nic->n_unheard--;
        /* Pairs with the acquire loads of heard in shm.c, shm_reach.c and shm_attach.c. */
        __atomic_store_n(&p->heard, true, __ATOMIC_RELEASE);
        /* It may sleep, and our hello is at its socket: it is to look there. */
        if (p->state == SHM_CALLED)
            shm_ring_bell(p->bell);
    }
    shm_stranger_free(s);
    return err;
}

static struct shm_stranger *shm_stranger_take(struct shm_nic *nic, const uint8_t *id)
{
    for (struct shm_stranger **at = &nic->strangers; *at; at = &(*at)->next) {
        struct shm_stranger *s = *at;
        if (memcmp(s->hello.from, id, SHM_ID))
            continue;
        *at = s->next;
        return s;
    }
    return NULL;
}

static int shm_peer_keep(struct shm_nic *nic, struct shm_peer *p)
{
    if (nic->n_peers == nic->cap_peers) {
        unsigned cap = nic->cap_peers ? 2 * nic->cap_peers : 16;
        struct shm_peer **peers = realloc(nic->peers, cap * sizeof(struct shm_peer *));
        if (!peers)
            return -ENOMEM;
        nic->peers = peers;
        nic->cap_peers = cap;
    }
    nic->peers[nic->n_peers++] = p;
    nic->n_unheard++;
    return 0;
}

static void shm_peer_free(struct shm_peer *p)
{
    shm_fd_close(&p->out_fd);
    shm_fd_close(&p->in_fd);
    shm_attach_close(p->attach);
    if (p->heard)
        pw_pool_unmap(p->base, p->remote_size);
    pw_pool_free(p->nic->config.pool, p->tx.ring);
    free(p);
}

/* The caller had connected to us, and has left or died: what it sent is still there. */
static void shm_called_too_late(struct shm_peer *p)
{
    shm_fd_close(&p->out_fd);
    (void)shm_socket_drain(p->in_fd, &p->bye);
    shm_leaving(p, p->bye ? 0 : -ECONNRESET);
}

/* Both hellos, as far as they are there. Of a caller that is known its end is no error. */
static int shm_meet(struct shm_peer *p)
{
    struct shm_stranger *s = shm_stranger_take(p->nic, p->address.id);
    int called = s && s->fd < 0 ? -ECONNREFUSED : shm_call(p), err = 0;

    if (called && (!s || called != -ECONNREFUSED))
        err = called;
    if (!err)
        err = shm_peer_keep(p->nic, p);
    if (err) {
        if (s)
            shm_stranger_free(s);
        shm_peer_free(p);
        return err;
    }
    err = s ? shm_hear(p, s) : 0;
    if (err == -EPROTO) {
        shm_distrust(p, SHM_LIE_SEAL);
    } else if (err) {
        shm_disconnect(&p->peer);
        return err;
    } else if (called) {
        shm_called_too_late(p);
    }
    return 0;
}

int shm_connect(struct pw_nic *nic, const void *addr, size_t len, void *cookie,
                struct pw_nic_peer **out)
{
    static const uint32_t awake;
    struct shm_nic *n = (struct shm_nic *)nic;
    struct shm_address a;
    struct shm_peer *p;
    int err;

    *out = NULL;
    if (!shm_address_parse(addr, len, &a))
        return -EINVAL;
    if (!shm_same_place(n, &a))
        return -EHOSTUNREACH;
    if (a.uid != n->address.uid)
        return -EACCES;
    p = aligned_alloc(SHM_LINE, (sizeof(*p) + SHM_LINE - 1) & ~(size_t)(SHM_LINE - 1));
    if (!p)
        return -ENOMEM;
    *p = (struct shm_peer){ .peer.nic = nic, .nic = n, .cookie = cookie, .address = a,
                            .state = SHM_CALLING, .out_fd = -1, .in_fd = -1,
                            .sleeping = &awake };
    shm_rx_none(&p->rx);
    shm_detour(p);
    err = shm_queue_make(p);
    if (err) {
        shm_peer_free(p);
        return err;
    }
    p->tx.pace.past_extra = shm_ticks(n, n->config.past_extra_ns);
    err = shm_meet(p);
    if (err)
        return err;
    shm_stir(n);
    *out = &p->peer;
    return 0;
}

static void shm_say_bye(int fd)
{
    char bye = SHM_BYE;

    if (fd >= 0)
        (void)!send(fd, &bye, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void shm_disconnect(struct pw_nic_peer *peer)
{
    struct shm_peer *p = (struct shm_peer *)peer;
    struct shm_nic *nic = p->nic;

    shm_say_bye(p->out_fd);
    shm_say_bye(p->in_fd);
    if (!p->heard && p->state <= SHM_CALLED)
        nic->n_unheard--;
    if (p->state == SHM_LEAVING)
        nic->n_leaving--;
    for (unsigned i = 0; i < nic->n_peers; i++)
        if (nic->peers[i] == p) {
            nic->peers[i] = nic->peers[--nic->n_peers];
            break;
        }
    shm_peer_free(p);
}
