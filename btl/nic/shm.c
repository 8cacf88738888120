/* SPDX-License-Identifier: BSD-3-Clause */
/* shm.c - the NIC that is the host's own memory.
 *
 * Start at shm_send() and shm_progress(). Each process writes the frames for a
 * peer into a ring in its own segment, and the peer, to which the segment's
 * descriptor was passed (shm_link.c), reads them there. So a send never waits
 * for the peer to show up, and what was sent outlives the sender.
 *
 * Sleeping: the reader sets bell->sleeping, makes every CPU that runs one of us
 * pass a barrier (membarrier(2)), looks at its rings once more and waits on the
 * futex. The writer therefore needs no fence between publishing a frame and
 * looking at the bell, once its process takes part (shm_barrier.c).
 */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "shm.h"

extern const struct pw_nic_ops pw_nic_shm;

/* Frames taken from one peer before the next has its turn, when they come
 * without a pause. */
enum { SHM_BATCH = 32 };

/* Where the kernel lets only ancestors look into a process (Yama), permit who
 * started us and all that it started, which is the job on this host, and no
 * more. Without Yama this does nothing. Source: PR_SET_PTRACER, prctl(2). */
static void shm_permit_job(void)
{
    prctl(PR_SET_PTRACER, (unsigned long)getppid(), 0, 0, 0);
}

/* Every frame must fit every queue, also one that had to be made smaller. */
static void shm_describe(struct pw_nic_info *info, const struct pw_nic_config *config)
{
    *info = (struct pw_nic_info){
        .flags = PW_NIC_LOSSLESS | PW_NIC_SAME_HOST | PW_NIC_PUT | PW_NIC_ATOMIC |
                 PW_NIC_PROMPT,
        .frame_max = shm_frame_max(shm_queue_least(config)),
        .inline_max = 1024,
        .key_room = sizeof(struct shm_key),
        .latency_ns = 70,
        .bytes_per_s = (uint64_t)40e9,
        .what = "shared memory of this host",
    };
}

/* Where the driver is, peers may map what we register. */
static void shm_share(struct shm_nic *nic, struct pw_nic_info *info)
{
    if (shm_share_open(&nic->share, info->note))
        return;
    info->flags |= PW_NIC_KEYS_OPTIONAL;
    info->key_size = sizeof(struct shm_key);
}

static int shm_probe(struct pw_nic_info *info, char why[PW_NIC_WHY_MAX])
{
    struct shm_nic nic = { .listen_fd = -1, .epoll_fd = -1, .spare_fd = -1,
                           .share = { .control = -1, .fd = -1 } };
    int err = shm_link_open(&nic);

    shm_link_close(&nic);
    if (err) {
        snprintf(why, PW_NIC_WHY_MAX, "abstract UNIX sockets cannot be used here (%s): "
                 "allow socket(AF_UNIX, SOCK_SEQPACKET) and epoll in this container",
                 strerror(-err));
        return err;
    }
    why[0] = '\0';
    shm_describe(info, &(struct pw_nic_config){ 0 });
    shm_share(&nic, info);
    shm_share_close(&nic.share);
    return 0;
}

static void shm_free(struct shm_nic *nic)
{
    shm_barrier_close(nic);
    shm_link_close(nic);
    shm_share_close(&nic->share);
    shm_bounce_close(nic);
    pw_pool_free(nic->config.pool, nic->bell);
    free(nic->peers);
    free(nic);
}

static int shm_open(const struct pw_nic_config *config, struct pw_nic **out)
{
    size_t size = shm_queue_choose(config);
    struct shm_nic *nic;
    int err;

    *out = NULL;
    if (!config->pool || !config->up || size < SHM_STOW_SIZE_MIN ||
        size > SHM_STOW_SIZE_MAX || (size & (size - 1)))
        return -EINVAL;
    nic = calloc(1, sizeof(*nic));
    if (!nic)
        return -ENOMEM;
    nic->nic.ops = &pw_nic_shm;
    nic->config = *config;
    nic->queue_size = size;
    shm_clocks(&nic->open_ns, &nic->open_ticks);
    nic->listen_fd = nic->epoll_fd = nic->spare_fd = -1;
    nic->share = (struct shm_share){ .control = -1, .fd = -1 };
    if (config->kernel_copy)
        shm_permit_job();
    shm_describe(&nic->nic.info, config);

    err = -ENOMEM;
    nic->bell = pw_pool_alloc(config->pool, sizeof(*nic->bell), SHM_LINE);
    if (!nic->bell)
        goto fail;
    nic->bell->sleeping = 0;
    if (config->distrust && (err = shm_bounce_open(nic)))
        goto fail;
    err = shm_link_open(nic);
    if (err)
        goto fail;
    shm_barrier_open(nic);
    if (config->attach)
        shm_share(nic, &nic->nic.info);
    else
        snprintf(nic->nic.info.note, SHM_NOTE, "no attach: it is switched off");
    *out = &nic->nic;
    return 0;

fail:
    shm_free(nic);
    return err;
}

static void shm_close(struct pw_nic *nic)
{
    struct shm_nic *n = (struct shm_nic *)nic;

    if (!n)
        return;
    while (n->n_peers)
        shm_disconnect(&n->peers[n->n_peers - 1]->peer);
    shm_free(n);
}

static inline void shm_tx_lock(struct shm_peer *p)
{
    if (__builtin_expect(!p->nic->config.threads, 1))
        return;
    while (__atomic_exchange_n(&p->tx_lock, 1, __ATOMIC_ACQUIRE))
        __builtin_ia32_pause();
}

static inline void shm_tx_unlock(struct shm_peer *p)
{
    if (p->nic->config.threads)
        __atomic_store_n(&p->tx_lock, 0, __ATOMIC_RELEASE);
}

void shm_ring_bell(struct shm_bell *bell)
{
    uint32_t one = 1;

    if (__atomic_compare_exchange_n(&bell->sleeping, &one, 0, false, __ATOMIC_SEQ_CST,
                                    __ATOMIC_RELAXED))
        syscall(SYS_futex, &bell->sleeping, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* After publishing: does the reader sleep? Pairs with shm_wait(). */
static inline void shm_wake(struct shm_peer *p)
{
    if (!__atomic_load_n(&p->heard, __ATOMIC_ACQUIRE))
        return;
    if (__builtin_expect(__atomic_load_n(&p->fenced_wake, __ATOMIC_RELAXED), 0))
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (__builtin_expect(__atomic_load_n(&p->bell->sleeping, __ATOMIC_RELAXED), 0))
        shm_ring_bell(p->bell);
}

/* The machine has no memory for what is to be sent: progress takes the peer out. */
static int shm_starve(struct shm_peer *p)
{
    __atomic_store_n(&p->down, true, __ATOMIC_RELEASE);
    shm_detour(p);
    __atomic_store_n(&p->starved, true, __ATOMIC_RELAXED);
    /* Pairs with the acquire in shm_peers_step(). */
    __atomic_store_n(&p->nic->accusations, true, __ATOMIC_RELEASE);
    return -EPIPE;
}

/* A send that came to where the queue has no memory yet. */
static __attribute__((noinline))
int shm_send_grown(struct shm_peer *p, uint32_t imm, const struct pw_iov *iov, int n,
                   size_t len)
{
    int err = -ENOBUFS, grown = 0;

    shm_tx_lock(p);
    while (err == -ENOBUFS && !grown) {
        grown = shm_queue_grow(p, len > p->tx.ring_most);
        if (!grown)
            err = shm_tx_send(&p->tx, imm, iov, n, len);
    }
    shm_tx_unlock(p);
    if (!err)
        shm_wake(p);
    return grown ? shm_starve(p) : err == -EPROTO ? shm_accuse(p) : err;
}

/* Any frame, in any state of the peer. */
static __attribute__((noinline))
int shm_send_any(struct shm_peer *p, uint32_t imm, const struct pw_iov *iov, int n)
{
    static const struct pw_iov nothing;
    size_t len;
    int err;

    if (__builtin_expect(n == 0, 0)) {
        iov = &nothing;
        n = 1;
    }
    len = iov[0].len + (n > 1 ? iov[1].len : 0);
    for (int i = 2; __builtin_expect(i < n, 0); i++)
        len += iov[i].len;
    if (__builtin_expect(__atomic_load_n(&p->down, __ATOMIC_RELAXED), 0))
        return -EPIPE;
    if (__builtin_expect(len > p->tx.ring_most, 0) && len > p->nic->nic.info.frame_max)
        return -EMSGSIZE;
    shm_tx_lock(p);
    err = shm_tx_send(&p->tx, imm, iov, n, len);
    shm_tx_unlock(p);
    if (!err)
        shm_wake(p);
    else if (err == -ENOBUFS)
        err = shm_send_grown(p, imm, iov, n, len);
    else if (err == -EPROTO)
        err = shm_accuse(p);
    return err;
}

/* What most frames are is done here; whatever is left to do otherwise, there. */
static int shm_send(struct pw_nic_peer *peer, uint32_t imm, const struct pw_iov *iov,
                    int n, void *op)
{
    struct shm_peer *p = (struct shm_peer *)peer;

    (void)op;
    if (__builtin_expect(n != 2 || __atomic_load_n(&p->detour, __ATOMIC_RELAXED) ||
                         !shm_tx_short(&p->tx, imm, iov), 0))
        return shm_send_any(p, imm, iov, n);
    if (__builtin_expect(__atomic_load_n(p->sleeping, __ATOMIC_RELAXED), 0))
        shm_ring_bell(p->bell);
    return 0;
}

static int shm_send_inline(struct pw_nic_peer *peer, uint32_t imm, const void *data,
                           size_t len)
{
    struct pw_iov iov = { data, len };

    if (len > peer->nic->info.inline_max)
        return -EMSGSIZE;
    return shm_send(peer, imm, &iov, 1, NULL);
}

/* What peek gave, where nobody else can write. Its length was checked against the
 * queue's largest frame, which is at most the bounce. */
static const void *shm_own(struct shm_nic *nic, const void *data, size_t len)
{
    pw_copy(nic->bounce, data, len);
    /* From here on the shared bytes are not looked at again, also not by a compiler
     * that knows the two to be equal. */
    __asm__ volatile("" ::: "memory");
    return nic->bounce;
}

/* After a pause one frame is all there is, as a rule. To look for the next would
 * take its line from the writer and hold up the program by a cache miss: 15 ns
 * of 150 in pwbench latency --sizes 8. Inlined whatever its size, for there are two
 * of it: 1 ns. */
static inline __attribute__((always_inline))
int shm_deliver(struct shm_nic *nic, struct shm_peer *p, uint64_t word, const bool own)
{
    int most = p->busy ? SHM_BATCH : 1, n = 0;
    const void *data;
    uint32_t imm;
    size_t len;

    p->busy = true;
    do {
        if (__builtin_expect(shm_rx_frame(&p->rx, word, &imm, &data, &len) < 0, 0)) {
            shm_distrust(p, SHM_LIE_FRAME);
            return n;
        }
        if (own)
            data = shm_own(nic, data, len);
        nic->config.up->recv(nic->config.ctx, p->cookie, imm, data, len);
        shm_rx_done(&p->rx);
        if (++n >= most)
            return n;
        word = shm_rx_word(&p->rx);
    } while (word);
    p->busy = false;
    return n;
}

/* With config.distrust. Kept out of the way of the other. */
static __attribute__((noinline)) int shm_deliver_own(struct shm_nic *nic,
                                                     struct shm_peer *p, uint64_t word)
{
    return shm_deliver(nic, p, word, true);
}

/* After the last frame of a burst, or the only one: off the path of its answer. */
static inline void shm_rest(struct shm_peer *p)
{
    p->busy = false;
    shm_rx_rest(&p->rx);
}

static int shm_progress(struct pw_nic *nic)
{
    struct shm_nic *n = (struct shm_nic *)nic;
    int events = 0;

    /* connect() in an upcall may move the array: index it anew each time. */
    for (unsigned i = 0; i < n->n_peers; i++) {
        struct shm_peer *p = n->peers[i];
        uint64_t word = shm_rx_word(&p->rx);

        if (__builtin_expect(!word, 1))
            shm_rest(p);
        else
            events += __builtin_expect(n->config.distrust, 0) ?
                      shm_deliver_own(n, p, word) : shm_deliver(n, p, word, false);
    }
    if (__builtin_expect(++n->polls >= SHM_POLLS, 0))
        events += shm_look(n);
    return events;
}

static bool shm_anything(struct shm_nic *nic)
{
    for (unsigned i = 0; i < nic->n_peers; i++)
        if (!shm_rx_empty(&nic->peers[i]->rx))
            return true;
    return false;
}

static void shm_wait(struct pw_nic *nic, unsigned timeout_us)
{
    struct shm_nic *n = (struct shm_nic *)nic;
    struct timespec t;

    /* A peer that has not heard of us cannot ring: look at the sockets soon. */
    if ((n->n_unheard || nic->callers) && timeout_us > 1000)
        timeout_us = 1000;
    t.tv_sec = timeout_us / 1000000;
    t.tv_nsec = (long)(timeout_us % 1000000) * 1000;

    __atomic_store_n(&n->bell->sleeping, 1, __ATOMIC_SEQ_CST);
    /* Pairs with shm_wake(): after this, a writer that saw us awake has its
     * frame visible to us. Where it is refused, hello.fenced_wake made the
     * writers fence. */
    if (n->membarrier)
        syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0);
    else
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (!shm_anything(n))
        syscall(SYS_futex, &n->bell->sleeping, FUTEX_WAIT, 1, &t, NULL, 0);
    __atomic_store_n(&n->bell->sleeping, 0, __ATOMIC_RELAXED);
    shm_look_soon(n);
}

const struct pw_nic_ops pw_nic_shm = {
    .name = "shm",
    .probe = shm_probe,
    .open = shm_open,
    .close = shm_close,
    .address = shm_address,
    .reachable = shm_reachable,
    .connect = shm_connect,
    .disconnect = shm_disconnect,
    .send = shm_send,
    .send_inline = shm_send_inline,
    .reach = shm_reach,
    .put = shm_put,
    .get = shm_get,
    .atomic = shm_atomic,
    .pin = shm_pin,
    .unpin = shm_unpin,
    .progress = shm_progress,
    .wait = shm_wait,
};
