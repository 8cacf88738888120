/* SPDX-License-Identifier: BSD-3-Clause */
/* uring.c - pinned memory as io_uring's registered buffers, and transfers on them.
 *
 * Start at uring_pin(): a table of empty slots was registered at open; to pin is to
 * fill a slot, to unpin is to empty it. A transfer is one queue entry that names
 * the slot; see transfer().
 *
 * u->slots_lock guards the free slots alone, so that pinning never waits for a
 * transfer. u->lock guards the queues. Of the threads that wait for a transfer one
 * is in the kernel (u->waiting) and takes what has come for all; the others wait
 * for u->news.
 *
 * System calls are raw: the interception need not distrust this ring, which never
 * asks the kernel to change memory.
 */
#include "pinwheel/uring.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "owner.h"
#include "raw.h"

enum {
    BUFFERS_MAX = 16384,            /* IORING_MAX_REG_BUFFERS, Linux io_uring/rsrc.h */
    ENTRIES_MAX = 4096,
    ENTRIES = 64,
    BUFFER_BYTES_MAX = 1 << 30,     /* as above, io_buffer_validate() */
};

struct queues {
    void *rings, *entries;          /* as mapped */
    size_t rings_size, entries_size;
    struct io_uring_sqe *sqes;
    struct io_uring_cqe *cqes;
    uint32_t *sq_tail, *cq_head, *cq_tail;
    uint32_t sq_mask, cq_mask;
};

struct pw_uring {
    int fd;
    struct pw_owner owner;
    struct queues q;

    pthread_mutex_t slots_lock;
    uint32_t free_slots;            /* how many, in slots[] */
    uint32_t *slots;

    pthread_mutex_t lock;
    pthread_cond_t news;
    unsigned under_way, entries;
    bool waiting;
    int broken;                     /* -errno: the ring cannot be waited for */
};

/* A transfer under way, on its caller's stack. */
struct transfer {
    int32_t result;
    bool done;
};

static int uring_setup(unsigned entries, struct io_uring_params *p)
{
    return (int)pw_raw3(SYS_io_uring_setup, entries, (long)(uintptr_t)p, 0);
}

static int uring_enter(struct pw_uring *u, unsigned submit, unsigned wait)
{
    return (int)pw_raw6(SYS_io_uring_enter, u->fd, submit, wait,
                        wait ? IORING_ENTER_GETEVENTS : 0, 0, 0);
}

static int uring_register(struct pw_uring *u, unsigned what, void *arg, unsigned size)
{
    return (int)pw_raw6(SYS_io_uring_register, u->fd, what, (long)(uintptr_t)arg, size,
                        0, 0);
}

static void *map(struct pw_uring *u, size_t size, off_t what)
{
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                    u->fd, what);

    return at == MAP_FAILED ? NULL : at;
}

static void queues_unmap(struct queues *q)
{
    if (q->rings)
        munmap(q->rings, q->rings_size);
    if (q->entries)
        munmap(q->entries, q->entries_size);
}

/* Entry i of the submission queue is always number i. */
static int queues_map(struct pw_uring *u, const struct io_uring_params *p)
{
    struct queues *q = &u->q;
    size_t sq = p->sq_off.array + p->sq_entries * sizeof(uint32_t);
    size_t cq = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe);
    char *rings;

    q->rings_size = sq > cq ? sq : cq;
    q->entries_size = p->sq_entries * sizeof(struct io_uring_sqe);
    q->rings = rings = map(u, q->rings_size, IORING_OFF_SQ_RING);
    q->entries = q->sqes = map(u, q->entries_size, IORING_OFF_SQES);
    if (!q->rings || !q->entries)
        return -ENOMEM;

    q->sq_tail = (uint32_t *)(void *)(rings + p->sq_off.tail);
    q->cq_head = (uint32_t *)(void *)(rings + p->cq_off.head);
    q->cq_tail = (uint32_t *)(void *)(rings + p->cq_off.tail);
    q->cqes = (struct io_uring_cqe *)(void *)(rings + p->cq_off.cqes);
    q->sq_mask = p->sq_entries - 1;
    q->cq_mask = p->cq_entries - 1;
    for (uint32_t i = 0; i < p->sq_entries; i++)
        ((uint32_t *)(void *)(rings + p->sq_off.array))[i] = i;
    return 0;
}

/* A table of empty slots: Linux 5.19. */
static int register_table(struct pw_uring *u, unsigned buffers)
{
    struct io_uring_rsrc_register table = {
        .nr = buffers, .flags = IORING_RSRC_REGISTER_SPARSE,
    };
    int err = uring_register(u, IORING_REGISTER_BUFFERS2, &table, sizeof table);

    return err == -EINVAL ? -ENODEV : err;
}

static int ring_open(struct pw_uring *u, unsigned entries, unsigned buffers)
{
    struct io_uring_params p = { 0 };
    int err;

    u->fd = uring_setup(entries, &p);
    if (u->fd < 0)
        return u->fd == -ENOSYS ? -ENODEV : u->fd;
    if (!(p.features & IORING_FEAT_SINGLE_MMAP))
        return -ENODEV;
    u->entries = p.sq_entries;
    err = queues_map(u, &p);
    return err ? err : register_table(u, buffers);
}

/* The lowest is taken first. */
static int slots_make(struct pw_uring *u, unsigned buffers)
{
    u->slots = malloc(buffers * sizeof *u->slots);
    if (!u->slots)
        return -ENOMEM;
    for (uint32_t i = 0; i < buffers; i++)
        u->slots[i] = buffers - 1 - i;
    u->free_slots = buffers;
    return 0;
}

/* Takes no lock: in a forked child a thread that is not there may hold it. The
 * kernel ends a ring some time after its descriptor; the pins shall end now. */
void pw_uring_close(struct pw_uring *u)
{
    if (!u)
        return;
    if (u->owner.mark && pw_owner_is_here(&u->owner))
        uring_register(u, IORING_UNREGISTER_BUFFERS, NULL, 0);
    queues_unmap(&u->q);
    if (u->fd >= 0)
        pw_raw3(SYS_close, u->fd, 0, 0);
    pw_owner_fini(&u->owner);
    free(u->slots);
    free(u);
}

int pw_uring_open(const struct pw_uring_config *config, struct pw_uring **out)
{
    unsigned buffers = config && config->buffers ? config->buffers : BUFFERS_MAX;
    unsigned entries = config && config->entries ? config->entries : ENTRIES;
    struct pw_uring *u;
    int err;

    *out = NULL;
    if (buffers > BUFFERS_MAX || entries > ENTRIES_MAX)
        return -EINVAL;
    u = calloc(1, sizeof *u);
    if (!u)
        return -ENOMEM;
    u->fd = -1;
    pthread_mutex_init(&u->slots_lock, NULL);
    pthread_mutex_init(&u->lock, NULL);
    pthread_cond_init(&u->news, NULL);
    err = pw_owner_init(&u->owner);
    if (!err)
        err = slots_make(u, buffers);
    if (!err)
        err = ring_open(u, entries, buffers);
    if (err) {
        pw_uring_close(u);
        return err;
    }
    *out = u;
    return 0;
}

/* Pinning. */

/* base NULL: empty it. */
static int slot_set(struct pw_uring *u, uint32_t index, void *base, size_t len)
{
    struct iovec buffer = { base, len };
    struct io_uring_rsrc_update2 update = {
        .offset = index, .nr = 1, .data = (uintptr_t)&buffer,
    };
    int got = uring_register(u, IORING_REGISTER_BUFFERS_UPDATE, &update, sizeof update);

    return got < 0 ? got : 0;
}

static int slot_take(struct pw_uring *u, uint32_t *index)
{
    int err = -ENOMEM;

    pthread_mutex_lock(&u->slots_lock);
    if (u->free_slots) {
        *index = u->slots[--u->free_slots];
        err = 0;
    }
    pthread_mutex_unlock(&u->slots_lock);
    return err;
}

static void slot_give(struct pw_uring *u, uint32_t index)
{
    pthread_mutex_lock(&u->slots_lock);
    u->slots[u->free_slots++] = index;
    pthread_mutex_unlock(&u->slots_lock);
}

static int uring_pin(void *ctx, void *addr, size_t len, unsigned access, void *handle)
{
    struct pw_uring *u = ctx;
    struct pw_uring_handle *h = handle;
    int err;

    (void)access;
    if (!pw_owner_is_here(&u->owner))
        return -EOPNOTSUPP;
    if (len > BUFFER_BYTES_MAX)
        return -EMSGSIZE;
    err = slot_take(u, &h->index);
    if (err)
        return err;
    err = slot_set(u, h->index, addr, len);
    if (err)
        slot_give(u, h->index);
    return err;
}

/* Transfers under way keep the pages until they are done. Should the kernel have
 * no memory to empty the slot, the pages stay until the slot is used again. */
static void uring_unpin(void *ctx, void *addr, size_t len, void *handle)
{
    struct pw_uring *u = ctx;
    struct pw_uring_handle *h = handle;

    (void)addr, (void)len;
    if (!pw_owner_is_here(&u->owner))
        return;
    slot_set(u, h->index, NULL, 0);
    slot_give(u, h->index);
}

const struct pw_pin_ops pw_uring_pin = {
    .name = "io_uring",
    .handle_size = sizeof(struct pw_uring_handle),
    .pin = uring_pin,
    .unpin = uring_unpin,
};

/* Transfers. All of these with u->lock held. */

/* Acquire: pairs with the kernel's release of the tail, which comes after the
 * entry. Release: the kernel may write over an entry once the head is past it. */
static void take_results(struct pw_uring *u)
{
    struct queues *q = &u->q;
    uint32_t head = *q->cq_head;
    uint32_t tail = __atomic_load_n(q->cq_tail, __ATOMIC_ACQUIRE);

    for (; head != tail; head++) {
        const struct io_uring_cqe *c = &q->cqes[head & q->cq_mask];
        struct transfer *t = (struct transfer *)(uintptr_t)c->user_data;

        t->result = c->res;
        t->done = true;
        u->under_way--;
    }
    __atomic_store_n(q->cq_head, head, __ATOMIC_RELEASE);
}

/* Until something has come, here or in another thread. The one in the kernel is
 * the only one to take results while it is there: it would wait for ever if
 * another took the one that it waits for. Then it wakes the others, and one of
 * them is next; nobody sleeps while nobody is in the kernel. */
static void wait_for_news(struct pw_uring *u)
{
    int got;

    if (u->waiting) {
        pthread_cond_wait(&u->news, &u->lock);
        return;
    }
    u->waiting = true;
    pthread_mutex_unlock(&u->lock);
    got = uring_enter(u, 0, 1);
    pthread_mutex_lock(&u->lock);
    u->waiting = false;
    if (got < 0 && got != -EINTR && got != -EAGAIN)
        u->broken = got;
    take_results(u);
    pthread_cond_broadcast(&u->news);
}

/* Nobody but the holder of the lock submits, and the kernel takes the entry within
 * the call: the queue is empty here, and again at the end. */
static int submit(struct pw_uring *u, const struct io_uring_sqe *sqe)
{
    struct queues *q = &u->q;
    uint32_t tail = *q->sq_tail;
    int got;

    q->sqes[tail & q->sq_mask] = *sqe;
    __atomic_store_n(q->sq_tail, tail + 1, __ATOMIC_RELEASE);
    do
        got = uring_enter(u, 1, 0);
    while (got == -EINTR);
    if (got == 1) {
        u->under_way++;
        return 0;
    }
    __atomic_store_n(q->sq_tail, tail, __ATOMIC_RELEASE);
    return got < 0 ? got : -EAGAIN;
}

static int run(struct pw_uring *u, const struct io_uring_sqe *sqe, struct transfer *t)
{
    int err;

    while (u->under_way == u->entries && !u->broken)
        wait_for_news(u);
    if (u->broken)
        return u->broken;
    err = submit(u, sqe);
    if (err)
        return err;
    if (!u->waiting)
        take_results(u);
    while (!t->done && !u->broken)
        wait_for_news(u);
    return t->done ? t->result : u->broken;
}

/* A length beyond the largest buffer would be cut to 32 bits. */
static ssize_t transfer(struct pw_uring *u, unsigned op, int fd, const void *handle,
                        const void *addr, size_t len, int64_t offset)
{
    const struct pw_uring_handle *h = handle;
    struct transfer t = { .done = false };
    struct io_uring_sqe sqe = {
        .opcode = (uint8_t)op, .fd = fd, .off = (uint64_t)offset,
        .addr = (uintptr_t)addr, .len = (uint32_t)len,
        .buf_index = (uint16_t)h->index, .user_data = (uintptr_t)&t,
    };
    int got;

    if (!pw_owner_is_here(&u->owner))
        return -EOPNOTSUPP;
    if (len > BUFFER_BYTES_MAX)
        return -EFAULT;
    pthread_mutex_lock(&u->lock);
    got = run(u, &sqe, &t);
    pthread_mutex_unlock(&u->lock);
    return got;
}

ssize_t pw_uring_read(struct pw_uring *u, int fd, const void *handle, void *addr,
                      size_t len, int64_t offset)
{
    return transfer(u, IORING_OP_READ_FIXED, fd, handle, addr, len, offset);
}

ssize_t pw_uring_write(struct pw_uring *u, int fd, const void *handle, const void *addr,
                       size_t len, int64_t offset)
{
    return transfer(u, IORING_OP_WRITE_FIXED, fd, handle, addr, len, offset);
}
