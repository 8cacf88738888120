/* SPDX-License-Identifier: BSD-3-Clause */
/* pinned_pins.c - a driver's pool in the hands of get_user_pages(): copies by another
 * process, direct I/O, registrations for long, and references that outlive it.
 */
#define _GNU_SOURCE
#include "config.h"
#include "pinned.h"

#include <linux/io_uring.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef HAVE_IBVERBS
#include <infiniband/verbs.h>
#endif

enum { DISK_BYTES = 16 << 20 };     /* of the RAM disk that the script makes */
static const char *disk = "/dev/ram0";

struct copies {
    pid_t owner;
    char *pool, *plain;
};

static void copy_both_ways(void *arg)
{
    struct copies *c = arg;
    struct iovec here = { c->plain, 4 * UNIT }, there = { c->pool, 4 * UNIT };

    expect(process_vm_readv(c->owner, &here, 1, &there, 1, 0) == (ssize_t)(4 * UNIT));
    expect(painted(c->plain, 4 * UNIT, 20));
    paint(c->plain, 4 * UNIT, 21);
    expect(process_vm_writev(c->owner, &here, 1, &there, 1, 0) == (ssize_t)(4 * UNIT));
}

/* The last 2 MiB have no pages yet: who copies fills them. */
void copied_by_others(void)
{
    int fd = pool_make(4 * UNIT);
    struct copies c = { .owner = getpid(), .pool = pool_map(fd, 4 * UNIT),
                        .plain = malloc(4 * UNIT) };

    paint(c.pool, 4 * UNIT, 20);
    expect(drain(fd, 3 * UNIT, UNIT) == 0 && zero(c.pool + 3 * UNIT, UNIT));
    paint(c.pool, 4 * UNIT, 20);
    madvise(c.pool, 4 * UNIT, MADV_DONTNEED);
    expect(ended(child(copy_both_ways, &c)) == 0);
    expect(painted(c.pool, 4 * UNIT, 21));
    expect(filled(fd) == 4 * UNIT);
}

void written_directly(void)
{
    int fd = pool_make(16 * MIB), out = open(disk, O_RDWR | O_DIRECT | O_CLOEXEC);
    char *p = pool_map(fd, 16 * MIB), *q;

    if (out < 0)
        give_up(disk);
    paint(p, 16 * MIB, 22);
    expect(pwrite(out, p, DISK_BYTES, 0) == DISK_BYTES);
    expect(drain(fd, 0, 16 * MIB) == 0);
    expect(pread(out, p, DISK_BYTES, 0) == DISK_BYTES, "into pages that come as it reads");
    expect(painted(p, 16 * MIB, 22));

    /* A part that begins and ends within huge pages, in a mapping of small entries. */
    q = pool_map(fd, 16 * MIB);
    mprotect(q + UNIT, PAGE, PROT_READ);
    mprotect(q + UNIT, PAGE, PROT_READ | PROT_WRITE);
    paint(p, UNIT, 23);
    expect(pread(out, q + 512, 3 * MIB, 512) == (ssize_t)(3 * MIB));
    expect(painted(p, 512, 23) && painted(p + 512, 16 * MIB - 512, 22 + 512 * STEP));
    close(out);
}

/* ---- io_uring, without a library ---- */

struct ring {
    int fd;
    struct io_uring_params params;
    char *sq, *cq;
    struct io_uring_sqe *sqe;
};

static void ring_open(struct ring *r)
{
    *r = (struct ring){ 0 };
    r->fd = (int)syscall(SYS_io_uring_setup, 4, &r->params);
    if (r->fd < 0)
        give_up("io_uring_setup");
    r->sq = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_SQ_RING);
    r->cq = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_CQ_RING);
    r->sqe = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_SQES);
    if (r->sq == MAP_FAILED || r->cq == MAP_FAILED || r->sqe == MAP_FAILED)
        give_up("io_uring's memory");
}

static int ring_register(struct ring *r, void *p, size_t len)
{
    struct iovec part = { p, len };

    return syscall(SYS_io_uring_register, r->fd, IORING_REGISTER_BUFFERS, &part, 1) ? -errno
                                                                                    : 0;
}

/* One transfer by the registered buffer, waited for. Bytes, or -errno. */
static int ring_transfer(struct ring *r, int opcode, int file, void *p, unsigned len)
{
    unsigned *tail = (unsigned *)(void *)(r->sq + r->params.sq_off.tail), at;
    unsigned *head = (unsigned *)(void *)(r->cq + r->params.cq_off.head);
    struct io_uring_cqe *cqe = (struct io_uring_cqe *)(void *)(r->cq + r->params.cq_off.cqes);

    at = *tail & (r->params.sq_entries - 1);
    r->sqe[at] = (struct io_uring_sqe){ .opcode = (uint8_t)opcode, .fd = file,
                                        .addr = (uintptr_t)p, .len = len };
    ((unsigned *)(void *)(r->sq + r->params.sq_off.array))[at] = at;
    __atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
    if (syscall(SYS_io_uring_enter, r->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0L) != 1)
        return -errno;
    at = *head & (r->params.cq_entries - 1);
    __atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
    return cqe[at].res;
}

void registered_for_io(void)
{
    int fd = pool_make(64 * MIB), out = open(disk, O_RDWR | O_DIRECT | O_CLOEXEC);
    char *p = pool_map(fd, 64 * MIB), *plain = aligned_alloc(PAGE, DISK_BYTES);
    struct ring r;

    if (out < 0)
        give_up(disk);
    ring_open(&r);
    if (ring_register(&r, p, 64 * MIB) == -EOPNOTSUPP) {
        printf("this kernel's io_uring registers no file's pages but those of tmpfs and hugetlbfs\n");
        return;
    }
    expect(filled(fd) == 64 * MIB);
    expect(smaps_kib(p, "FilePmdMapped") == 64 * 1024, "pinned by huge entries");

    paint(p + 32 * MIB, DISK_BYTES, 24);
    expect(ring_transfer(&r, IORING_OP_WRITE_FIXED, out, p + 32 * MIB, DISK_BYTES) == DISK_BYTES);
    expect(pread(out, plain, DISK_BYTES, 0) == DISK_BYTES && painted(plain, DISK_BYTES, 24));
    paint(plain, DISK_BYTES, 25);
    expect(pwrite(out, plain, DISK_BYTES, 0) == DISK_BYTES);
    expect(ring_transfer(&r, IORING_OP_READ_FIXED, out, p + 8 * MIB, DISK_BYTES) == DISK_BYTES);
    expect(painted(p + 8 * MIB, DISK_BYTES, 25), "a pin for writing is the page itself");

    /* The registration keeps its pages, a touch brings others. */
    expect(drain(fd, 8 * MIB, 16 * MIB) == 0 && zero(p + 8 * MIB, 16 * MIB));
    expect(ring_transfer(&r, IORING_OP_WRITE_FIXED, out, p + 8 * MIB, DISK_BYTES) == DISK_BYTES);
    expect(pread(out, plain, DISK_BYTES, 0) == DISK_BYTES && painted(plain, DISK_BYTES, 25));
    close(r.fd);
    close(out);
    free(plain);
}

#ifdef HAVE_IBVERBS
void registered_with_a_nic(void)
{
    struct ibv_device **list = ibv_get_device_list(NULL);
    int access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ;
    struct ibv_context *nic = list && *list ? ibv_open_device(*list) : NULL;
    struct ibv_pd *pd = nic ? ibv_alloc_pd(nic) : NULL;
    int fd = pool_make(64 * MIB);
    char *p = pool_map(fd, 64 * MIB);
    struct ibv_mr *mr;

    if (!pd)
        give_up("no RDMA device");
    paint(p, UNIT, 26);
    mr = ibv_reg_mr(pd, p, 64 * MIB, access);
    expect(mr != NULL);
    if (!mr)
        return;
    expect(filled(fd) == 64 * MIB);
    expect(smaps_kib(p, "FilePmdMapped") == 64 * 1024);
    expect(painted(p, UNIT, 26));
    close(fd);
    munmap(p, 64 * MIB);
    expect(counter("pool_pages") == 0, "what stays is the NIC's");
    expect(ibv_dereg_mr(mr) == 0);
    ibv_dealloc_pd(pd);
    ibv_close_device(nic);
    ibv_free_device_list(list);
}
#else
void registered_with_a_nic(void)
{
    printf("not tested: built without libibverbs\n");
}
#endif

/* A reference without a mapping: pages of a pipe. */
void outlives_the_pool(void)
{
    int fd = pool_make(2 * UNIT), ends[2];
    char *p = pool_map(fd, 2 * UNIT), got[3 * PAGE];
    struct iovec part = { p + UNIT - PAGE, 2 * PAGE };

    if (pipe(ends))
        give_up("pipe");
    paint(p, 2 * UNIT, 27);
    memcpy(got + 2 * PAGE, p + UNIT - PAGE, PAGE);
    expect(vmsplice(ends[1], &part, 1, 0) == (ssize_t)(2 * PAGE));
    expect(drain(fd, 0, 2 * UNIT) == 0 && zero(p, 2 * UNIT));
    paint(p, 2 * UNIT, 28);
    close(fd);
    munmap(p, 2 * UNIT);
    expect(counter("pools") == 0 && counter("pool_pages") == 0);
    expect(read(ends[0], got, 2 * PAGE) == (ssize_t)(2 * PAGE));
    expect(!memcmp(got, got + 2 * PAGE, PAGE), "the old bytes");
    close(ends[0]);
    close(ends[1]);
}
