/* SPDX-License-Identifier: BSD-3-Clause */
/* fake_work.c - what the fake NIC sends, copies and changes for its caller.
 *
 * Start at submit(). An operation is carried out at once, or, when the NIC is a
 * pending one, waits in its connection's list for a later progress. What follows a
 * waiting one waits too: order holds among all of a connection's operations.
 */
#define _GNU_SOURCE     /* process_vm_readv */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "fake_world.h"
#include "pinwheel/atomic.h"
#include "pinwheel/pool.h"

enum { PENDING_MAX = 64 };

#define KEY_MAGIC 0x70776b79u

struct key {
    uint32_t magic, serial;
    uint64_t number, addr, len;
};

_Static_assert(sizeof(struct key) <= PW_NIC_KEY_MAX, "a key fits");

/* ---- memory ---- */

static bool mapped(void *addr, size_t len)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t from = (uintptr_t)addr / page * page;

    if ((uintptr_t)addr + len < (uintptr_t)addr)
        return false;
    return !msync((void *)from, (uintptr_t)addr + len - from, MS_ASYNC);
}

int fake_pin(struct pw_nic *base, void *addr, size_t len, unsigned access,
             struct pw_nic_key *out)
{
    struct fake_nic *nic = nic_of(base);
    struct key key = { .magic = KEY_MAGIC, .number = nic->number,
                       .addr = (uintptr_t)addr, .len = len };
    struct fake_pin *pin;
    int err;

    fake_lock();
    err = fake_planned(nic, FAKE_PIN);
    fake_unlock();
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

    fake_lock();
    pin->serial = key.serial = ++fake_world.serials;
    pin->next = nic->pins;
    nic->pins = pin;
    fake_unlock();
    memset(out, 0, sizeof *out);
    memcpy(out, &key, sizeof key);
    return 0;
}

void fake_unpin(struct pw_nic *base, void *addr, size_t len,
                const struct pw_nic_key *bytes)
{
    struct fake_nic *nic = nic_of(base);
    struct fake_pin **at = &nic->pins, *pin;
    struct key key;

    memcpy(&key, bytes, sizeof key);
    fake_lock();
    while (*at && ((*at)->serial != key.serial || (*at)->len != len ||
                   (*at)->addr != (uintptr_t)addr))
        at = &(*at)->next;
    pin = *at;
    if (!pin) {
        fprintf(stderr, "fake NIC: unpin of what is not pinned\n");
        abort();
    }
    *at = pin->next;
    fake_unlock();
    free(pin);
}

static struct fake_pin *pin_find(struct fake_nic *target, const struct key *key,
                                 uint64_t remote, size_t len)
{
    struct fake_pin *pin = target->pins;

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
    struct fake_nic *nic = nic_of(p->base.nic), *target = fake_nic_find(p->to);
    struct fake_pin *pin;
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

enum pw_reach fake_reach(struct pw_nic_peer *base, uint64_t remote, size_t len,
                         const struct pw_nic_key *key)
{
    struct fake_peer *p = peer_of(base);
    enum pw_reach reach = PW_REACH_NONE;

    fake_lock();
    if (!p->down)
        reach_find(p, remote, len, key, 0, &reach);
    if (breaks(nic_of(base->nic), FAKE_BREAK_NO_REACH))
        reach = PW_REACH_NONE;
    fake_unlock();
    return reach;
}

/* ---- carrying out one operation ---- */

static int copy_through_kernel(const struct fake_work *w)
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

void fake_copy_by_hand(const struct fake_work *w, size_t len)
{
    void *remote = (void *)(uintptr_t)w->remote;

    if (w->kind == FAKE_PUT)
        memcpy(remote, w->local, len);
    else
        memcpy(w->local, remote, len);
}

/* FAKE_BREAK_PUT_LATE: the data waits for a later progress. */
static int put_later(struct fake_nic *nic, const struct fake_work *w)
{
    struct fake_work *late = malloc(sizeof *late + w->len), **at = &nic->late;

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

static int run_copy(struct fake_peer *p, struct fake_work *w)
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
    fake_copy_by_hand(w, w->len + breaks(nic, FAKE_BREAK_OVERRUN));
    return 0;
}

static void torn_atomic(const struct fake_work *w, uint64_t *result)
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
    fake_unlock();
    if (old % 16 == 0)      /* long enough for another to come between, often enough */
        nanosleep(&(struct timespec){ .tv_nsec = 20000 }, NULL);
    fake_lock();
    if (take && width == 4)
        __atomic_store_n((uint32_t *)target, (uint32_t)next, __ATOMIC_RELAXED);
    else if (take)
        __atomic_store_n((uint64_t *)target, next, __ATOMIC_RELAXED);
    *result = old;
}

static int run_atomic(struct fake_peer *p, struct fake_work *w)
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

static int run_send(struct fake_peer *p, struct fake_work *w)
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
    pthread_cond_broadcast(&fake_world.changed);
    return err == -ENOMEM ? -EAGAIN : err;
}

int fake_work_run(struct fake_peer *p, struct fake_work *w)
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
static int work_check(struct fake_peer *p, const struct fake_work *w)
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

static int work_queue(struct fake_nic *nic, struct fake_peer *p,
                      const struct fake_work *w)
{
    int err = work_check(p, w);
    struct fake_work *held;

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
    pthread_cond_broadcast(&fake_world.changed);
    return w->silent ? 0 : PW_NIC_PENDING;
}

static int submit(struct pw_nic_peer *base, struct fake_work *w)
{
    struct fake_peer *p = peer_of(base);
    struct fake_nic *nic = nic_of(base->nic);
    int err;

    fake_lock();
    err = fake_planned(nic, w->kind);
    if (err)
        ;
    else if ((p->down && !breaks(nic, FAKE_BREAK_NO_EPIPE)) || nic->life != FAKE_LIVES)
        err = -EPIPE;
    else if (p->down)
        err = 0;
    else if (nic->traits.flags & PW_NIC_ANSWERS && !p->up)
        err = -EAGAIN;
    else if (p->work || (nic->traits.pending && !w->silent))
        err = work_queue(nic, p, w);
    else
        err = fake_work_run(p, w);
    fake_unlock();
    return err;
}

int fake_send(struct pw_nic_peer *peer, uint32_t imm, const struct pw_iov *iov, int n,
              void *op)
{
    struct fake_nic *nic = nic_of(peer->nic);
    struct fake_work w = { .kind = FAKE_SEND, .imm = imm, .n = n, .op = op };

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

int fake_send_inline(struct pw_nic_peer *peer, uint32_t imm, const void *data,
                     size_t len)
{
    struct fake_work w = { .kind = FAKE_SEND_INLINE, .imm = imm, .n = 1,
                      .iov = { { data, len } }, .len = len, .silent = true };

    if (len > peer->nic->info.inline_max &&
        !breaks(nic_of(peer->nic), FAKE_BREAK_FRAME_MAX))
        return -EMSGSIZE;
    return submit(peer, &w);
}

int fake_put(struct pw_nic_peer *peer, const void *local, uint64_t remote, size_t len,
             const struct pw_nic_key *key, void *op)
{
    struct fake_work w = { .kind = FAKE_PUT, .local = (void *)(uintptr_t)local,
                      .remote = remote, .len = len, .op = op };

    if (!key)
        return -EOPNOTSUPP;
    w.key = *key;
    return submit(peer, &w);
}

int fake_get(struct pw_nic_peer *peer, void *local, uint64_t remote, size_t len,
             const struct pw_nic_key *key, void *op)
{
    struct fake_work w = { .kind = FAKE_GET, .local = local, .remote = remote, .len = len,
                      .op = op };

    if (!key)
        return -EOPNOTSUPP;
    w.key = *key;
    return submit(peer, &w);
}

/* Where in memory of ours: it lies in that pin. NULL: it does not. */
static void *own_place(struct pw_nic_peer *peer, const void *local, size_t len,
                       const struct pw_nic_key *own)
{
    const struct fake_nic *nic = nic_of(peer->nic);
    uintptr_t addr = (uintptr_t)local;
    struct key key;

    memcpy(&key, own, sizeof key);
    if (key.magic != KEY_MAGIC || key.number != nic->number || addr < key.addr ||
        len > key.len || addr - key.addr > key.len - len)
        return NULL;
    return (void *)(nic->traits.faults.own_first ? key.addr : addr);
}

int fake_put_own(struct pw_nic_peer *peer, const void *local, uint64_t remote, size_t len,
                 const struct pw_nic_key *key, const struct pw_nic_key *own, void *op)
{
    void *place = own_place(peer, local, len, own);

    return place ? fake_put(peer, place, remote, len, key, op) : -EFAULT;
}

int fake_get_own(struct pw_nic_peer *peer, void *local, uint64_t remote, size_t len,
                 const struct pw_nic_key *key, const struct pw_nic_key *own, void *op)
{
    void *place = own_place(peer, local, len, own);

    return place ? fake_get(peer, place, remote, len, key, op) : -EFAULT;
}

int fake_atomic(struct pw_nic_peer *peer, const struct pw_atomic *what, uint64_t remote,
                uint64_t *result, const struct pw_nic_key *key, void *op)
{
    struct fake_work w = { .kind = FAKE_ATOMIC, .what = *what, .remote = remote,
                      .result = result, .op = op };

    if (!key)
        return -EOPNOTSUPP;
    w.key = *key;
    return submit(peer, &w);
}
