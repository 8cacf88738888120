/* SPDX-License-Identifier: BSD-3-Clause */
/* fake_nic.c - the NIC that lives in one process: operations and control.
 *
 * Start at submit() for what goes out and fake_progress() for what comes in. A
 * connection writes one stream (tx) and reads at most one (rx, the stream of the
 * connection that the other side made to us; NULL until it did). Connections of
 * two NICs are paired in the order in which they were made, so that both sides
 * may disconnect and connect again.
 *
 * world.lock guards everything here; it is not held across upcalls.
 */
#define _GNU_SOURCE     /* process_vm_readv */

#include "fake_nic.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "fake_wire.h"
#include "pinwheel/atomic.h"
#include "pinwheel/pool.h"

enum { KINDS = 2, PENDING_MAX = 64, BUDGET = 64 };

#define FAKE_VERSION 1u
#define QUEUE_DEFAULT ((size_t)256 << 10)
#define QUEUE_MAX ((size_t)1 << 30)
#define KEY_MAGIC 0x70776b79u

static const char address_magic[8] = "pw-fake";

struct address {
    char magic[8];
    uint32_t version, kind, network, pad;
    uint64_t number;
};

struct key {
    uint32_t magic, serial;
    uint64_t number, addr, len;
};

_Static_assert(sizeof(struct key) <= PW_NIC_KEY_MAX, "a key fits");
_Static_assert(sizeof(struct address) <= PW_NIC_ADDRESS_MAX, "an address fits");

struct pin {
    struct pin *next;
    uint32_t serial;
    unsigned access;
    uint64_t addr, len;
};

/* One operation, on the caller's stack or waiting in a connection's list. */
struct work {
    struct work *next;
    enum fake_op kind;
    uint32_t imm;
    int n;
    struct pw_iov iov[3];
    void *local;
    uint64_t remote;
    size_t len;
    struct pw_nic_key key;
    struct pw_atomic what;
    uint64_t *result;
    void *op;
    bool silent;            /* nobody waits for its completion */
    uint64_t tick;          /* of the NIC, when it was submitted */
    uint8_t copy[];
};

struct plan {
    unsigned nth, count;
    int err;
};

enum life { LIVES, DIED };

struct fake_peer {
    struct pw_nic_peer base;
    struct fake_peer *next;
    uint64_t to;
    void *cookie;
    struct fake_stream *tx, *rx;
    struct work *work, *work_tail;
    unsigned n_work;
    bool down;
};

struct fake_nic {
    struct pw_nic base;
    struct fake_nic *next;
    uint64_t number, tick;
    enum life life;
    unsigned kind;
    struct fake_nic_traits traits;
    struct pw_nic_config config;
    struct fake_peer *peers;
    struct pin *pins;
    struct plan plans[FAKE_OPS];
    unsigned calls[FAKE_OPS];
    struct work *late;      /* FAKE_BREAK_PUT_LATE */
};

struct cut {
    struct cut *next;
    uint64_t a, b;
};

static struct {
    pthread_mutex_t lock;
    pthread_once_t once;
    pthread_cond_t changed;
    struct fake_nic *nics;
    struct fake_stream *unread;     /* oldest first */
    struct cut *cuts;
    uint64_t numbers;
    uint32_t serials;
    struct fake_nic_traits traits[KINDS];
} world = { .lock = PTHREAD_MUTEX_INITIALIZER, .once = PTHREAD_ONCE_INIT };

static const struct fake_nic_traits default_traits = {
    .flags = PW_NIC_LOSSLESS | PW_NIC_SAME_HOST | PW_NIC_PUT | PW_NIC_ATOMIC,
    .frame_max = 16384,
    .inline_max = 256,
    .latency_ns = 500,
    .bytes_per_s = 1000000000,
    .pool_reach = PW_REACH_DIRECT,
    .other_reach = PW_REACH_DIRECT,
};

static void world_init(void)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&world.changed, &attr);
    pthread_condattr_destroy(&attr);
    for (int i = 0; i < KINDS; i++)
        world.traits[i] = default_traits;
}

static void lock(void)
{
    pthread_once(&world.once, world_init);
    pthread_mutex_lock(&world.lock);
}

static void unlock(void)
{
    pthread_mutex_unlock(&world.lock);
}

static struct fake_nic *nic_of(struct pw_nic *nic)
{
    return (struct fake_nic *)nic;
}

static struct fake_peer *peer_of(struct pw_nic_peer *peer)
{
    return (struct fake_peer *)peer;
}

static bool breaks(const struct fake_nic *nic, enum fake_break what)
{
    return nic->traits.breaks & (uint32_t)what;
}

static struct fake_nic *nic_find(uint64_t number)
{
    struct fake_nic *nic = world.nics;

    while (nic && (nic->number != number || nic->life != LIVES))
        nic = nic->next;
    return nic;
}

static struct cut **cut_find(uint64_t a, uint64_t b)
{
    struct cut **at = &world.cuts;

    while (*at && !((*at)->a == a && (*at)->b == b) &&
           !((*at)->a == b && (*at)->b == a))
        at = &(*at)->next;
    return at;
}

/* Count a call; the errno that was planned for it, or 0. */
static int planned(struct fake_nic *nic, enum fake_op op)
{
    struct plan *plan = &nic->plans[op];

    nic->calls[op]++;
    if (!plan->err)
        return 0;
    if (plan->nth > 1) {
        plan->nth--;
        return 0;
    }
    int err = plan->err;
    if (plan->count && --plan->count == 0)
        plan->err = 0;
    return err;
}

/* ---- opening and closing ---- */

static int probe_as(unsigned kind, struct pw_nic_info *info, char why[PW_NIC_WHY_MAX])
{
    lock();
    struct fake_nic_traits t = world.traits[kind];
    unlock();

    if (t.probe_error) {
        snprintf(why, PW_NIC_WHY_MAX, "the test wants no fake NIC (%s)",
                 strerror(-t.probe_error));
        return t.probe_error;
    }
    memset(info, 0, sizeof *info);
    info->flags = t.flags;
    info->frame_max = t.frame_max;
    info->inline_max = t.inline_max;
    info->latency_ns = t.latency_ns;
    info->bytes_per_s = t.bytes_per_s;
    snprintf(info->what, sizeof info->what, "queues in memory, network %u", t.network);
    return 0;
}

static int fake_probe(struct pw_nic_info *info, char why[PW_NIC_WHY_MAX])
{
    return probe_as(0, info, why);
}

static int fake2_probe(struct pw_nic_info *info, char why[PW_NIC_WHY_MAX])
{
    return probe_as(1, info, why);
}

static int open_as(unsigned kind, const struct pw_nic_config *config,
                   struct pw_nic **out)
{
    char why[PW_NIC_WHY_MAX];
    struct fake_nic *nic;
    int err;

    *out = NULL;
    if (!config->pool || !config->up || config->queue_bytes > QUEUE_MAX)
        return -EINVAL;
    nic = calloc(1, sizeof *nic);
    if (!nic)
        return -ENOMEM;
    err = probe_as(kind, &nic->base.info, why);
    if (err) {
        free(nic);
        return err;
    }
    nic->base.ops = kind ? &fake_nic_ops2 : &fake_nic_ops;
    nic->kind = kind;
    nic->config = *config;
    if (!nic->config.queue_bytes)
        nic->config.queue_bytes = QUEUE_DEFAULT;

    lock();
    nic->traits = world.traits[kind];
    nic->number = ++world.numbers;
    nic->next = world.nics;
    world.nics = nic;
    if (breaks(nic, FAKE_BREAK_LEAK) && dup(2) < 0)
        nic->traits.breaks &= ~(uint32_t)FAKE_BREAK_LEAK;
    unlock();
    *out = &nic->base;
    return 0;
}

static int fake_open(const struct pw_nic_config *config, struct pw_nic **out)
{
    return open_as(0, config, out);
}

static int fake2_open(const struct pw_nic_config *config, struct pw_nic **out)
{
    return open_as(1, config, out);
}

static void work_drop_all(struct fake_peer *p)
{
    while (p->work) {
        struct work *w = p->work;

        p->work = w->next;
        free(w);
    }
    p->work_tail = NULL;
    p->n_work = 0;
}

static void unread_remove(struct fake_stream *s)
{
    struct fake_stream **at = &world.unread;

    while (*at && *at != s)
        at = &(*at)->next;
    if (*at) {
        *at = s->next;
        fake_stream_unref(s);
    }
}

/* Nobody will read or write this connection's streams any more. */
static void peer_leave(struct fake_nic *nic, struct fake_peer *p, int cause)
{
    if (breaks(nic, FAKE_BREAK_CLOSE_LOSES))
        fake_stream_lose_all(p->tx);
    if (!breaks(nic, FAKE_BREAK_NO_DOWN)) {
        fake_stream_end(p->tx, cause);
        if (p->rx)
            fake_stream_abandon(p->rx, cause);
    }
    p->tx->writer = NULL;
}

static void peer_free(struct fake_peer *p)
{
    work_drop_all(p);
    fake_stream_unref(p->tx);
    if (p->rx)
        fake_stream_unref(p->rx);
    free(p);
}

/* No one can connect to this NIC now: forget who waits for it, and its own
 * streams that no one has read. */
static void nic_leave(struct fake_nic *nic, int cause)
{
    struct fake_stream *s = world.unread, *next;

    for (; s; s = next) {
        next = s->next;
        if (s->to == nic->number && !breaks(nic, FAKE_BREAK_NO_DOWN))
            fake_stream_abandon(s, cause);
        if (s->to == nic->number || s->from == nic->number)
            unread_remove(s);
    }
    for (struct fake_peer *p = nic->peers; p; p = p->next)
        peer_leave(nic, p, cause);
    pthread_cond_broadcast(&world.changed);
}

static void fake_close(struct pw_nic *base)
{
    struct fake_nic *nic = nic_of(base), **at = &world.nics;

    lock();
    if (nic->life == LIVES)
        nic_leave(nic, 0);
    while (*at != nic)
        at = &(*at)->next;
    *at = nic->next;
    while (nic->peers) {
        struct fake_peer *p = nic->peers;

        nic->peers = p->next;
        peer_free(p);
    }
    while (nic->pins) {
        struct pin *pin = nic->pins;

        nic->pins = pin->next;
        free(pin);
    }
    while (nic->late) {
        struct work *w = nic->late;

        nic->late = w->next;
        free(w);
    }
    unlock();
    free(nic);
}

/* ---- who is there ---- */

static size_t fake_address(struct pw_nic *base, void *out)
{
    struct fake_nic *nic = nic_of(base);
    struct address a = {
        .version = FAKE_VERSION,
        .kind = nic->kind,
        .network = nic->traits.network,
        .number = nic->number,
    };

    memcpy(a.magic, address_magic, sizeof a.magic);
    memcpy(out, &a, sizeof a);
    return sizeof a;
}

static int address_check(struct fake_nic *nic, const void *addr, size_t len,
                         struct address *a)
{
    if (breaks(nic, FAKE_BREAK_ANY_ADDRESS)) {
        memset(a, 0, sizeof *a);
        memcpy(a, addr, len < sizeof *a ? len : sizeof *a);
        return 0;
    }
    if (len != sizeof *a)
        return -EINVAL;
    memcpy(a, addr, sizeof *a);
    if (memcmp(a->magic, address_magic, sizeof a->magic) ||
        a->version != FAKE_VERSION || a->pad || a->kind != nic->kind)
        return -EINVAL;
    return a->network == nic->traits.network ? 0 : -EHOSTUNREACH;
}

static bool fake_reachable(struct pw_nic *base, const void *addr, size_t len)
{
    struct address a;

    return !address_check(nic_of(base), addr, len, &a);
}

/* Take the oldest stream from there that nobody reads yet. */
static void peer_pair(struct fake_nic *nic, struct fake_peer *p)
{
    struct fake_stream *s = world.unread;
    struct fake_peer *other;

    while (s && (s->from != p->to || s->to != nic->number))
        s = s->next;
    if (!s) {
        struct fake_stream **last = &world.unread;

        while (*last)
            last = &(*last)->next;
        *last = p->tx;
        p->tx->next = NULL;
        fake_stream_ref(p->tx);
        return;
    }
    fake_stream_ref(s);
    unread_remove(s);
    if (breaks(nic, FAKE_BREAK_EARLY_LOST))
        fake_stream_lose_all(s);
    p->rx = s;
    other = s->writer;
    if (other) {
        other->rx = p->tx;
        fake_stream_ref(p->tx);
    } else {
        fake_stream_abandon(p->tx, 0);
    }
}

static int peer_new(struct fake_nic *nic, uint64_t to, void *cookie,
                    struct pw_nic_peer **out)
{
    struct fake_peer *p = calloc(1, sizeof *p), **last = &nic->peers;

    if (!p)
        return -ENOMEM;
    p->tx = fake_stream_new(nic->number, to, p);
    if (!p->tx) {
        free(p);
        return -ENOMEM;
    }
    p->base.nic = &nic->base;
    p->to = to;
    p->cookie = cookie;
    while (*last)
        last = &(*last)->next;
    *last = p;
    peer_pair(nic, p);
    pthread_cond_broadcast(&world.changed);
    *out = &p->base;
    return 0;
}

static int fake_connect(struct pw_nic *base, const void *addr, size_t len,
                        void *cookie, struct pw_nic_peer **out)
{
    struct fake_nic *nic = nic_of(base), *target;
    struct address a;
    int err;

    *out = NULL;
    lock();
    err = nic->life == LIVES ? planned(nic, FAKE_CONNECT) : -EPIPE;
    if (!err)
        err = address_check(nic, addr, len, &a);
    if (err)
        goto out;

    target = nic_find(a.number);
    if ((!target && !breaks(nic, FAKE_BREAK_NO_REFUSAL)) ||
        *cut_find(nic->number, a.number) ||
        (target && target->config.job != nic->config.job &&
         !breaks(nic, FAKE_BREAK_ANY_JOB)))
        err = -ECONNREFUSED;
    else
        err = peer_new(nic, a.number, cookie, out);
out:
    unlock();
    return err;
}

static void fake_disconnect(struct pw_nic_peer *base)
{
    struct fake_peer *p = peer_of(base), **at;
    struct fake_nic *nic = nic_of(base->nic);

    lock();
    if (nic->life == LIVES)
        peer_leave(nic, p, 0);
    /* Nobody has read it and nothing is in it: it need not wait for a reader. */
    if (!p->rx && !p->tx->head)
        unread_remove(p->tx);
    for (at = &nic->peers; *at != p; at = &(*at)->next)
        ;
    *at = p->next;
    peer_free(p);
    pthread_cond_broadcast(&world.changed);
    unlock();
}

/* ---- memory ---- */

static bool mapped(void *addr, size_t len)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t from = (uintptr_t)addr / page * page;

    if ((uintptr_t)addr + len < (uintptr_t)addr)
        return false;
    return !msync((void *)from, (uintptr_t)addr + len - from, MS_ASYNC);
}

static int fake_pin(struct pw_nic *base, void *addr, size_t len, unsigned access,
                    struct pw_nic_key *out)
{
    struct fake_nic *nic = nic_of(base);
    struct key key = { .magic = KEY_MAGIC, .number = nic->number,
                       .addr = (uintptr_t)addr, .len = len };
    struct pin *pin;
    int err;

    lock();
    err = planned(nic, FAKE_PIN);
    unlock();
    if (err)
        return err;
    if (!mapped(addr, len))
        return -EFAULT;
    pin = calloc(1, sizeof *pin);
    if (!pin)
        return -ENOMEM;
    pin->access = access;
    pin->addr = key.addr;
    pin->len = len;

    lock();
    pin->serial = key.serial = ++world.serials;
    pin->next = nic->pins;
    nic->pins = pin;
    unlock();
    memset(out, 0, sizeof *out);
    memcpy(out, &key, sizeof key);
    return 0;
}

static void fake_unpin(struct pw_nic *base, void *addr, size_t len,
                       const struct pw_nic_key *bytes)
{
    struct fake_nic *nic = nic_of(base);
    struct pin **at = &nic->pins, *pin;
    struct key key;

    memcpy(&key, bytes, sizeof key);
    lock();
    while (*at && ((*at)->serial != key.serial || (*at)->len != len ||
                   (*at)->addr != (uintptr_t)addr))
        at = &(*at)->next;
    pin = *at;
    if (!pin) {
        fprintf(stderr, "fake NIC: unpin of what is not pinned\n");
        abort();
    }
    *at = pin->next;
    unlock();
    free(pin);
}

static struct pin *pin_find(struct fake_nic *target, const struct key *key,
                            uint64_t remote, size_t len)
{
    struct pin *pin = target->pins;

    if (key->magic != KEY_MAGIC || key->number != target->number)
        return NULL;
    while (pin && pin->serial != key->serial)
        pin = pin->next;
    if (!pin || remote < pin->addr || remote - pin->addr > pin->len ||
        len > pin->len - (remote - pin->addr))
        return NULL;
    return pin;
}

/* How this memory is reached: 0, or what put and get return for it. */
static int reach_find(struct fake_peer *p, uint64_t remote, size_t len,
                      const struct pw_nic_key *bytes, unsigned access,
                      enum pw_reach *out)
{
    struct fake_nic *nic = nic_of(p->base.nic), *target = nic_find(p->to);
    struct pin *pin;
    struct key key;

    *out = PW_REACH_NONE;
    if (!(nic->traits.flags & PW_NIC_PUT) || !bytes)
        return -EOPNOTSUPP;
    if (!target)
        return -EPIPE;
    memcpy(&key, bytes, sizeof key);
    pin = pin_find(target, &key, remote, len);
    if (!pin || (pin->access & access) != access)
        return -EFAULT;
    *out = pw_pool_contains(target->config.pool, (void *)(uintptr_t)remote, len)
        ? nic->traits.pool_reach : nic->traits.other_reach;
    if (*out == PW_REACH_KERNEL && !nic->config.kernel_copy &&
        !breaks(nic, FAKE_BREAK_KERNEL))
        *out = PW_REACH_NONE;
    return *out == PW_REACH_NONE ? -EOPNOTSUPP : 0;
}

static enum pw_reach fake_reach(struct pw_nic_peer *base, uint64_t remote, size_t len,
                                const struct pw_nic_key *key)
{
    struct fake_peer *p = peer_of(base);
    enum pw_reach reach = PW_REACH_NONE;

    lock();
    if (!p->down)
        reach_find(p, remote, len, key, 0, &reach);
    if (breaks(nic_of(base->nic), FAKE_BREAK_NO_REACH))
        reach = PW_REACH_NONE;
    unlock();
    return reach;
}

/* ---- carrying out one operation ---- */

static int copy_through_kernel(const struct work *w)
{
    struct iovec local = { w->local, w->len };
    struct iovec remote = { (void *)(uintptr_t)w->remote, w->len };
    size_t done = 0;

    while (done < w->len) {
        ssize_t n = w->kind == FAKE_PUT
            ? process_vm_writev(getpid(), &local, 1, &remote, 1, 0)
            : process_vm_readv(getpid(), &local, 1, &remote, 1, 0);

        if (n <= 0)
            return n < 0 ? -errno : -EFAULT;
        done += (size_t)n;
        local.iov_base = (char *)w->local + done;
        remote.iov_base = (char *)(uintptr_t)w->remote + done;
        local.iov_len = remote.iov_len = w->len - done;
    }
    return 0;
}

static void copy_by_hand(const struct work *w, size_t len)
{
    void *remote = (void *)(uintptr_t)w->remote;

    if (w->kind == FAKE_PUT)
        memcpy(remote, w->local, len);
    else
        memcpy(w->local, remote, len);
}

/* FAKE_BREAK_PUT_LATE: the data waits for a later progress. */
static int put_later(struct fake_nic *nic, const struct work *w)
{
    struct work *late = malloc(sizeof *late + w->len), **at = &nic->late;

    if (!late)
        return -ENOMEM;
    *late = *w;
    memcpy(late->copy, w->local, w->len);
    late->local = late->copy;
    late->next = NULL;
    late->tick = nic->tick;
    while (*at)
        at = &(*at)->next;
    *at = late;
    return 0;
}

static int run_copy(struct fake_peer *p, struct work *w)
{
    struct fake_nic *nic = nic_of(p->base.nic);
    enum pw_reach reach;
    int err = reach_find(p, w->remote, w->len, &w->key,
                         w->kind == FAKE_PUT ? PW_WRITE : PW_READ, &reach);

    if (err == -EFAULT && breaks(nic, FAKE_BREAK_NO_FAULT))
        return 0;
    if (err || !w->len)
        return err;
    if (reach == PW_REACH_KERNEL)
        return copy_through_kernel(w);
    if (w->kind == FAKE_PUT && breaks(nic, FAKE_BREAK_PUT_LATE))
        return put_later(nic, w);
    copy_by_hand(w, w->len + breaks(nic, FAKE_BREAK_OVERRUN));
    return 0;
}

static void torn_atomic(const struct work *w, uint64_t *result)
{
    void *target = (void *)(uintptr_t)w->remote;
    size_t width = pw_atomic_width(w->what.type);
    uint64_t old = 0, next = 0;
    bool take;

    if (width == 4)
        old = __atomic_load_n((uint32_t *)target, __ATOMIC_RELAXED);
    else
        old = __atomic_load_n((uint64_t *)target, __ATOMIC_RELAXED);
    take = w->what.op != PW_ATOMIC_CSWAP || old == w->what.compare;
    pw_atomic_next(&w->what, old, &next);
    unlock();
    if (old % 16 == 0)      /* long enough for another to come between, often enough */
        nanosleep(&(struct timespec){ .tv_nsec = 20000 }, NULL);
    lock();
    if (take && width == 4)
        __atomic_store_n((uint32_t *)target, (uint32_t)next, __ATOMIC_RELAXED);
    else if (take)
        __atomic_store_n((uint64_t *)target, next, __ATOMIC_RELAXED);
    *result = old;
}

static int run_atomic(struct fake_peer *p, struct work *w)
{
    struct fake_nic *nic = nic_of(p->base.nic);
    size_t width = pw_atomic_width(w->what.type);
    uint64_t before = 0, next;
    enum pw_reach reach;
    int err = reach_find(p, w->remote, width, &w->key, PW_ATOMIC, &reach);

    if (err == -EFAULT && breaks(nic, FAKE_BREAK_NO_FAULT))
        return 0;
    if (err)
        return err;
    if (!(nic->traits.flags & PW_NIC_ATOMIC) || reach != PW_REACH_DIRECT)
        return -EOPNOTSUPP;
    if (w->remote % width && breaks(nic, FAKE_BREAK_UNALIGNED))
        return 0;
    if (!(w->remote % width) && breaks(nic, FAKE_BREAK_TORN) &&
        pw_atomic_next(&w->what, 0, &next))
        torn_atomic(w, &before);
    else
        err = pw_atomic_apply(&w->what, (void *)(uintptr_t)w->remote, &before);
    if (!err && breaks(nic, FAKE_BREAK_RESULT))
        pw_atomic_next(&w->what, before, &before);
    if (!err && w->result)
        memcpy(w->result, &before, sizeof before);
    return err;
}

static bool some_queue_full(struct fake_nic *nic)
{
    for (struct fake_peer *p = nic->peers; p; p = p->next)
        if (!fake_stream_room(p->tx, nic->traits.frame_max, nic->config.queue_bytes))
            return true;
    return false;
}

static int run_send(struct fake_peer *p, struct work *w)
{
    struct fake_nic *nic = nic_of(p->base.nic);
    bool first = w->kind == FAKE_SEND_INLINE && breaks(nic, FAKE_BREAK_INLINE_FIRST);
    int n = w->n == 3 && breaks(nic, FAKE_BREAK_IOV) ? 2 : w->n;
    int err;

    if (p->tx->unread)
        return breaks(nic, FAKE_BREAK_NO_EPIPE) ? 0 : -EPIPE;
    if (breaks(nic, FAKE_BREAK_ALL_STALL) && some_queue_full(nic))
        return -EAGAIN;
    if (!fake_stream_room(p->tx, w->len, nic->config.queue_bytes)) {
        if (breaks(nic, FAKE_BREAK_LIE))
            return p->tx->sent % 2 ? -EAGAIN : (p->tx->sent++, 0);
        if (!breaks(nic, FAKE_BREAK_UNBOUNDED))
            return -EAGAIN;
    }
    err = fake_stream_push(p->tx, &nic->traits.faults, w->imm, w->iov, n, first);
    pthread_cond_broadcast(&world.changed);
    return err == -ENOMEM ? -EAGAIN : err;
}

static int work_run(struct fake_peer *p, struct work *w)
{
    switch (w->kind) {
    case FAKE_PUT:
    case FAKE_GET:
        return run_copy(p, w);
    case FAKE_ATOMIC:
        return run_atomic(p, w);
    default:
        return run_send(p, w);
    }
}

/* ---- submitting ---- */

/* What a pending operation must be told at once. */
static int work_check(struct fake_peer *p, const struct work *w)
{
    static const unsigned needs[FAKE_OPS] = {
        [FAKE_PUT] = PW_WRITE, [FAKE_GET] = PW_READ, [FAKE_ATOMIC] = PW_ATOMIC,
    };
    size_t width = pw_atomic_width(w->what.type);
    enum pw_reach reach;
    uint64_t next;
    int err;

    if (p->tx->unread)
        return -EPIPE;
    if (!needs[w->kind])
        return 0;
    err = reach_find(p, w->remote, w->kind == FAKE_ATOMIC ? width : w->len, &w->key,
                     needs[w->kind], &reach);
    if (err || w->kind != FAKE_ATOMIC)
        return err;
    if (reach != PW_REACH_DIRECT || !pw_atomic_next(&w->what, 0, &next))
        return -EOPNOTSUPP;
    return w->remote % width ? -EINVAL : 0;
}

static int work_queue(struct fake_nic *nic, struct fake_peer *p, const struct work *w)
{
    int err = work_check(p, w);
    struct work *held;

    if (err)
        return err;
    if (p->n_work >= PENDING_MAX)
        return -EAGAIN;
    held = malloc(sizeof *held + (w->silent ? w->len : 0));
    if (!held)
        return -EAGAIN;
    *held = *w;
    held->next = NULL;
    held->tick = nic->tick;
    if (w->silent) {
        if (w->len)
            memcpy(held->copy, w->iov[0].base, w->len);
        held->iov[0].base = held->copy;
    }
    if (p->work_tail)
        p->work_tail->next = held;
    else
        p->work = held;
    p->work_tail = held;
    p->n_work++;
    pthread_cond_broadcast(&world.changed);
    return w->silent ? 0 : PW_NIC_PENDING;
}

static int submit(struct pw_nic_peer *base, struct work *w)
{
    struct fake_peer *p = peer_of(base);
    struct fake_nic *nic = nic_of(base->nic);
    int err;

    lock();
    err = planned(nic, w->kind);
    if (err)
        ;
    else if ((p->down && !breaks(nic, FAKE_BREAK_NO_EPIPE)) || nic->life != LIVES)
        err = -EPIPE;
    else if (p->down)
        err = 0;
    else if (p->work || (nic->traits.pending && !w->silent))
        err = work_queue(nic, p, w);
    else
        err = work_run(p, w);
    unlock();
    return err;
}

static int fake_send(struct pw_nic_peer *peer, uint32_t imm, const struct pw_iov *iov,
                     int n, void *op)
{
    struct fake_nic *nic = nic_of(peer->nic);
    struct work w = { .kind = FAKE_SEND, .imm = imm, .n = n, .op = op };

    if (n < 0 || n > 3)
        return -EINVAL;
    for (int i = 0; i < n; i++) {
        w.iov[i] = iov[i];
        w.len += iov[i].len;
    }
    if (w.len > nic->base.info.frame_max) {
        if (!breaks(nic, FAKE_BREAK_FRAME_MAX))
            return -EMSGSIZE;
        w.n = 1;
        w.len = w.iov[0].len = nic->base.info.frame_max;
    }
    return submit(peer, &w);
}

static int fake_send_inline(struct pw_nic_peer *peer, uint32_t imm, const void *data,
                            size_t len)
{
    struct work w = { .kind = FAKE_SEND_INLINE, .imm = imm, .n = 1,
                      .iov = { { data, len } }, .len = len, .silent = true };

    if (len > peer->nic->info.inline_max &&
        !breaks(nic_of(peer->nic), FAKE_BREAK_FRAME_MAX))
        return -EMSGSIZE;
    return submit(peer, &w);
}

static int fake_put(struct pw_nic_peer *peer, const void *local, uint64_t remote,
                    size_t len, const struct pw_nic_key *key, void *op)
{
    struct work w = { .kind = FAKE_PUT, .local = (void *)(uintptr_t)local,
                      .remote = remote, .len = len, .op = op };

    if (!key)
        return -EOPNOTSUPP;
    w.key = *key;
    return submit(peer, &w);
}

static int fake_get(struct pw_nic_peer *peer, void *local, uint64_t remote, size_t len,
                    const struct pw_nic_key *key, void *op)
{
    struct work w = { .kind = FAKE_GET, .local = local, .remote = remote, .len = len,
                      .op = op };

    if (!key)
        return -EOPNOTSUPP;
    w.key = *key;
    return submit(peer, &w);
}

static int fake_atomic(struct pw_nic_peer *peer, const struct pw_atomic *what,
                       uint64_t remote, uint64_t *result, const struct pw_nic_key *key,
                       void *op)
{
    struct work w = { .kind = FAKE_ATOMIC, .what = *what, .remote = remote,
                      .result = result, .op = op };

    if (!key)
        return -EOPNOTSUPP;
    w.key = *key;
    return submit(peer, &w);
}

/* ---- progress ---- */

static void up_complete(struct fake_nic *nic, void *op, int status)
{
    unlock();
    nic->config.up->complete(nic->config.ctx, op, status);
    if (breaks(nic, FAKE_BREAK_COMPLETE_TWICE))
        nic->config.up->complete(nic->config.ctx, op, status);
    lock();
}

static void *cookie_of(const struct fake_nic *nic, const struct fake_peer *p)
{
    return breaks(nic, FAKE_BREAK_COOKIE) ? nic->peers->cookie : p->cookie;
}

static struct work *work_pop(struct fake_peer *p)
{
    struct work *w = p->work;

    p->work = w->next;
    if (!p->work)
        p->work_tail = NULL;
    p->n_work--;
    return w;
}

/* Carry out what is pending since an earlier progress. */
static int peer_run(struct fake_nic *nic, struct fake_peer *p)
{
    int made = 0;

    while (p->work && p->work->tick < nic->tick) {
        int status = p->work->silent ? 0 : planned(nic, FAKE_COMPLETE);
        struct work *w;

        if (!status)
            status = work_run(p, p->work);
        if (status == -EAGAIN)
            break;
        w = work_pop(p);
        if (status == -EPIPE)
            status = -ECONNRESET;
        if (!w->silent) {
            up_complete(nic, w->op, status);
            made++;
        }
        free(w);
    }
    return made;
}

static int peer_deliver(struct fake_nic *nic, struct fake_peer *p)
{
    struct fake_frame *f;
    int made = 0;

    if (!p->rx || p->down)
        return 0;
    p->rx->ticks++;
    while (made < BUDGET && nic->life == LIVES && (f = fake_stream_pop(p->rx))) {
        unlock();
        nic->config.up->recv(nic->config.ctx, cookie_of(nic, p), f->imm, f->data,
                             f->len);
        free(f);
        lock();
        made++;
    }
    return made;
}

static bool peer_falls(const struct fake_peer *p)
{
    if (p->down)
        return false;
    return p->rx ? p->rx->ended && !p->rx->head : p->tx->unread;
}

static int peer_fall(struct fake_nic *nic, struct fake_peer *p)
{
    int cause = p->rx ? p->rx->cause : p->tx->cause, made = 1;
    const char *why = cause == 0 ? "the peer left" : cause == -ECONNRESET
        ? "the peer's process died" : "the link was cut";

    p->down = true;
    while (p->work) {
        struct work *w = work_pop(p);

        if (!w->silent) {
            up_complete(nic, w->op, -ECONNRESET);
            made++;
        }
        free(w);
    }
    if (breaks(nic, FAKE_BREAK_DOWN_CAUSE))
        cause = cause ? 0 : -ECONNRESET;
    for (int i = 0; i <= breaks(nic, FAKE_BREAK_DOWN_TWICE); i++) {
        unlock();
        nic->config.up->down(nic->config.ctx, p->cookie, cause, why);
        lock();
    }
    return made;
}

static void run_late(struct fake_nic *nic)
{
    while (nic->late && nic->late->tick + 3 < nic->tick) {
        struct work *w = nic->late;

        nic->late = w->next;
        copy_by_hand(w, w->len);
        free(w);
    }
}

static int fake_progress(struct pw_nic *base)
{
    struct fake_nic *nic = nic_of(base);
    int made = 0;

    lock();
    nic->tick++;
    run_late(nic);
    for (struct fake_peer *p = nic->peers; p && nic->life == LIVES; p = p->next) {
        made += peer_run(nic, p);
        made += peer_deliver(nic, p);
        if (nic->life == LIVES && peer_falls(p))
            made += peer_fall(nic, p);
    }
    unlock();
    return breaks(nic, FAKE_BREAK_SLEEPY_PROGRESS) ? 0 : made;
}

static bool nic_ready(const struct fake_nic *nic)
{
    if (nic->life != LIVES || nic->late)
        return true;
    for (const struct fake_peer *p = nic->peers; p; p = p->next)
        if (p->work || (!p->down && p->rx && p->rx->head) || peer_falls(p))
            return true;
    return false;
}

static void fake_wait(struct pw_nic *base, unsigned timeout_us)
{
    struct fake_nic *nic = nic_of(base);
    bool deaf = breaks(nic, FAKE_BREAK_DEAF), spin = breaks(nic, FAKE_BREAK_SPIN);
    struct timespec end;
    uint64_t ns = (uint64_t)timeout_us * 1000;

    if (breaks(nic, FAKE_BREAK_OVERSLEEP))
        ns *= 20;
    clock_gettime(CLOCK_MONOTONIC, &end);
    ns += (uint64_t)end.tv_nsec;
    end.tv_sec += (time_t)(ns / 1000000000);
    end.tv_nsec = (long)(ns % 1000000000);

    lock();
    while (!spin && (deaf || !nic_ready(nic)) &&
           pthread_cond_timedwait(&world.changed, &world.lock, &end) != ETIMEDOUT)
        ;
    unlock();
}

/* ---- control ---- */

struct fake_nic_traits *fake_nic_traits(const struct pw_nic_ops *ops)
{
    pthread_once(&world.once, world_init);
    return &world.traits[ops == &fake_nic_ops2];
}

unsigned fake_nic_reset(void)
{
    unsigned open = 0;

    lock();
    for (int i = 0; i < KINDS; i++)
        world.traits[i] = default_traits;
    while (world.cuts) {
        struct cut *cut = world.cuts;

        world.cuts = cut->next;
        free(cut);
    }
    for (struct fake_nic *nic = world.nics; nic; nic = nic->next)
        open++;
    unlock();
    return open;
}

void fake_nic_set_faults(struct pw_nic *nic, const struct fake_nic_faults *faults)
{
    lock();
    nic_of(nic)->traits.faults = *faults;
    unlock();
}

void fake_nic_fail(struct pw_nic *nic, enum fake_op op, unsigned nth, unsigned count,
                   int err)
{
    lock();
    nic_of(nic)->plans[op] = (struct plan){ nth, count, err };
    unlock();
}

unsigned fake_nic_calls(struct pw_nic *nic, enum fake_op op)
{
    lock();
    unsigned calls = nic_of(nic)->calls[op];
    unlock();
    return calls;
}

unsigned fake_nic_pins(struct pw_nic *nic)
{
    unsigned pins = 0;

    lock();
    for (struct pin *pin = nic_of(nic)->pins; pin; pin = pin->next)
        pins++;
    unlock();
    return pins;
}

unsigned fake_nic_in_flight(struct pw_nic_peer *peer)
{
    lock();
    unsigned frames = peer_of(peer)->tx->frames;
    unlock();
    return frames;
}

static void stream_cut(struct fake_stream *s, int cause)
{
    fake_stream_lose_delayed(s);
    fake_stream_end(s, cause);
    fake_stream_abandon(s, cause);
    unread_remove(s);
}

static void nic_cut(struct fake_nic *nic, uint64_t to, int cause)
{
    for (struct fake_peer *p = nic->peers; p; p = p->next)
        if (p->to == to && !p->down) {
            stream_cut(p->tx, cause);
            if (p->rx)
                stream_cut(p->rx, cause);
        }
}

void fake_nic_cut(struct pw_nic *a, struct pw_nic *b, int cause)
{
    struct fake_nic *x = nic_of(a), *y = nic_of(b);
    struct cut *cut = calloc(1, sizeof *cut);

    if (!cut)
        abort();
    lock();
    cut->a = x->number;
    cut->b = y->number;
    cut->next = world.cuts;
    world.cuts = cut;
    nic_cut(x, y->number, cause);
    nic_cut(y, x->number, cause);
    pthread_cond_broadcast(&world.changed);
    unlock();
}

void fake_nic_mend(struct pw_nic *a, struct pw_nic *b)
{
    struct cut **at, *cut;

    lock();
    while (*(at = cut_find(nic_of(a)->number, nic_of(b)->number))) {
        cut = *at;
        *at = cut->next;
        free(cut);
    }
    unlock();
}

void fake_nic_die(struct pw_nic *base)
{
    struct fake_nic *nic = nic_of(base);

    lock();
    nic_leave(nic, -ECONNRESET);
    nic->life = DIED;
    unlock();
}

#define FAKE_TABLE(prefix, title) {                                 \
    .name = title, .probe = prefix##_probe, .open = prefix##_open,  \
    .close = fake_close, .address = fake_address,                   \
    .reachable = fake_reachable, .connect = fake_connect,           \
    .disconnect = fake_disconnect, .send = fake_send,               \
    .send_inline = fake_send_inline, .reach = fake_reach,           \
    .put = fake_put, .get = fake_get, .atomic = fake_atomic,        \
    .pin = fake_pin, .unpin = fake_unpin, .progress = fake_progress, \
    .wait = fake_wait }

const struct pw_nic_ops fake_nic_ops = FAKE_TABLE(fake, "fake");
const struct pw_nic_ops fake_nic_ops2 = FAKE_TABLE(fake2, "fake2");
