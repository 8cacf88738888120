/* SPDX-License-Identifier: BSD-3-Clause */
/* stale_ring.h - io_uring as a way round the C library: one request, from a ring
 * made for it.
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

/* One request, waited for. What it came to, or -errno of the ring. */
static inline int stale_ring_do(const struct io_uring_sqe *request)
{
    struct io_uring_params p;
    memset(&p, 0, sizeof p);
    long fd = STALE_SYSCALL(SYS_io_uring_setup, 4, (long)&p, 0, 0, 0, 0);
    if (fd < 0)
        return (int)fd;
    if (!(p.features & IORING_FEAT_SINGLE_MMAP)) {
        STALE_SYSCALL(SYS_close, fd, 0, 0, 0, 0, 0);
        return -ENOSYS;
    }
    size_t cq_size = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe);
    size_t sq_size = p.sq_off.array + p.sq_entries * sizeof(uint32_t);
    size_t size = cq_size > sq_size ? cq_size : sq_size;
    size_t sqes_size = p.sq_entries * sizeof(struct io_uring_sqe);
    long ring = STALE_SYSCALL(SYS_mmap, 0, (long)size, PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_POPULATE, fd, IORING_OFF_SQ_RING);
    long sqes = STALE_SYSCALL(SYS_mmap, 0, (long)sqes_size, PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_POPULATE, fd, IORING_OFF_SQES);
    int result = -ENOMEM;
    if (ring > 0 && sqes > 0) {
        uint32_t *tail = (uint32_t *)(ring + p.sq_off.tail);
        struct io_uring_cqe *cqe = (struct io_uring_cqe *)(ring + p.cq_off.cqes);
        memcpy((void *)sqes, request, sizeof *request);
        *(uint32_t *)(ring + p.sq_off.array) = 0;
        __atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
        long n = STALE_SYSCALL(SYS_io_uring_enter, fd, 1, 1, IORING_ENTER_GETEVENTS, 0, 0);
        result = n < 0 ? (int)n : __atomic_load_n(&cqe->res, __ATOMIC_ACQUIRE);
    }
    if (sqes > 0)
        STALE_SYSCALL(SYS_munmap, sqes, (long)sqes_size, 0, 0, 0, 0);
    if (ring > 0)
        STALE_SYSCALL(SYS_munmap, ring, (long)size, 0, 0, 0, 0);
    STALE_SYSCALL(SYS_close, fd, 0, 0, 0, 0, 0);
    return result;
}

static inline int stale_ring_madvise(void *addr, size_t len, int advice)
{
    struct io_uring_sqe r;
    memset(&r, 0, sizeof r);
    r.opcode = IORING_OP_MADVISE;
    r.fd = -1;
    r.addr = (uintptr_t)addr;
    r.len = (uint32_t)len;
    r.fadvise_advice = (uint32_t)advice;
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
