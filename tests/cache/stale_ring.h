/* SPDX-License-Identifier: BSD-3-Clause */
/* stale_ring.h - io_uring as a way round the C library: one request, from a ring
 * made for it or before.
 *
 * A ring is set up by system calls; what makes them is the includer's choice, by
 * STALE_SYSCALL. Without one it is syscall(3).
 */
#ifndef PINWHEEL_TESTS_STALE_RING_H
#define PINWHEEL_TESTS_STALE_RING_H

#include <errno.h>
#include <linux/io_uring.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef STALE_SYSCALL
static inline long stale_syscall(long nr, long a, long b, long c, long d, long e, long f)
{
    long r = syscall(nr, a, b, c, d, e, f);
    return r == -1 ? -errno : r;
}
#define STALE_SYSCALL stale_syscall
#endif

struct stale_ring {
    long fd, ring, sqes;
    size_t size, sqes_size;
    struct io_uring_params p;
};

static inline void stale_ring_close(struct stale_ring *r)
{
    if (r->sqes > 0)
        STALE_SYSCALL(SYS_munmap, r->sqes, (long)r->sqes_size, 0, 0, 0, 0);
    if (r->ring > 0)
        STALE_SYSCALL(SYS_munmap, r->ring, (long)r->size, 0, 0, 0, 0);
    STALE_SYSCALL(SYS_close, r->fd, 0, 0, 0, 0, 0);
}

static inline int stale_ring_open(struct stale_ring *r)
{
    memset(r, 0, sizeof *r);
    r->fd = STALE_SYSCALL(SYS_io_uring_setup, 4, (long)&r->p, 0, 0, 0, 0);
    if (r->fd < 0)
        return (int)r->fd;
    size_t cq = r->p.cq_off.cqes + r->p.cq_entries * sizeof(struct io_uring_cqe);
    size_t sq = r->p.sq_off.array + r->p.sq_entries * sizeof(uint32_t);
    r->size = cq > sq ? cq : sq;
    r->sqes_size = r->p.sq_entries * sizeof(struct io_uring_sqe);
    r->ring = STALE_SYSCALL(SYS_mmap, 0, (long)r->size, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_POPULATE, r->fd, IORING_OFF_SQ_RING);
    r->sqes = STALE_SYSCALL(SYS_mmap, 0, (long)r->sqes_size, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_POPULATE, r->fd, IORING_OFF_SQES);
    if (r->p.features & IORING_FEAT_SINGLE_MMAP && r->ring > 0 && r->sqes > 0)
        return 0;
    stale_ring_close(r);
    return -ENOSYS;
}

/* One request, waited for: the first of its ring. What it came to, or -errno. */
static inline int stale_ring_first(struct stale_ring *r, const struct io_uring_sqe *request)
{
    uint32_t *tail = (uint32_t *)(r->ring + r->p.sq_off.tail);
    struct io_uring_cqe *cqe = (struct io_uring_cqe *)(r->ring + r->p.cq_off.cqes);
    memcpy((void *)r->sqes, request, sizeof *request);
    *(uint32_t *)(r->ring + r->p.sq_off.array) = 0;
    __atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
    long n = STALE_SYSCALL(SYS_io_uring_enter, r->fd, 1, 1, IORING_ENTER_GETEVENTS, 0, 0);
    return n < 0 ? (int)n : __atomic_load_n(&cqe->res, __ATOMIC_ACQUIRE);
}

static inline int stale_ring_do(const struct io_uring_sqe *request)
{
    struct stale_ring r;
    int err = stale_ring_open(&r);
    if (err)
        return err;
    err = stale_ring_first(&r, request);
    stale_ring_close(&r);
    return err;
}

static inline struct io_uring_sqe stale_madvise_request(void *addr, size_t len, int advice)
{
    struct io_uring_sqe r;
    memset(&r, 0, sizeof r);
    r.opcode = IORING_OP_MADVISE;
    r.fd = -1;
    r.addr = (uintptr_t)addr;
    r.len = (uint32_t)len;
    r.fadvise_advice = (uint32_t)advice;
    return r;
}

static inline int stale_ring_madvise(void *addr, size_t len, int advice)
{
    struct io_uring_sqe r = stale_madvise_request(addr, len, advice);
    return stale_ring_do(&r);
}

static inline int stale_ring_fallocate(int fd, int mode, uint64_t offset, uint64_t len)
{
    struct io_uring_sqe r;
    memset(&r, 0, sizeof r);
    r.opcode = IORING_OP_FALLOCATE;
    r.fd = fd;
    r.off = offset;
    r.addr = len;
    r.len = (uint32_t)mode;
    return stale_ring_do(&r);
}

#endif
