/* SPDX-License-Identifier: BSD-3-Clause */
/* bell.c - see bell.h. Futex and eventfd sleep at once: what is measured is what
 * waking costs. */
#include "bell.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool rung(struct pw_bell *b, uint32_t times)
{
    /* Pairs with the release or stronger in the ring functions. */
    return (int32_t)(atomic_load_explicit(&b->count, memory_order_acquire) - times) >= 0;
}

static void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

static int spin_ring(struct pw_bell *b, int fd)
{
    uint32_t count = atomic_load_explicit(&b->count, memory_order_relaxed);

    (void)fd;
    atomic_store_explicit(&b->count, count + 1, memory_order_release);
    return 0;
}

/* On a core of its own it never yields: on a busy machine each side would then wait
 * for the other to be let on again, and of the short times when both run nothing
 * would be seen. */
static int spin_await(struct pw_bell *b, int fd, uint32_t times, bool yields)
{
    (void)fd;
    while (!rung(b, times)) {
        if (yields)
            sched_yield();
        else
            cpu_relax();
    }
    return 0;
}

static int futex_ring(struct pw_bell *b, int fd)
{
    (void)fd;
    /* Sequentially consistent, as in futex_await(): either the count is seen
     * there, or that it sleeps is seen here. */
    atomic_fetch_add(&b->count, 1);
    if (atomic_load(&b->sleeping) &&
        syscall(SYS_futex, &b->count, FUTEX_WAKE, 1, NULL, NULL, 0) < 0)
        return -errno;
    return 0;
}

static int futex_await(struct pw_bell *b, int fd, uint32_t times, bool yields)
{
    int err = 0;

    (void)fd;
    (void)yields;
    while (!err && !rung(b, times)) {
        uint32_t seen;

        atomic_store(&b->sleeping, 1);
        seen = atomic_load(&b->count);
        if ((int32_t)(seen - times) < 0 &&
            syscall(SYS_futex, &b->count, FUTEX_WAIT, seen, NULL, NULL, 0) < 0 &&
            errno != EAGAIN && errno != EINTR)
            err = -errno;
        atomic_store(&b->sleeping, 0);
    }
    return err;
}

static int eventfd_ring(struct pw_bell *b, int fd)
{
    uint64_t one = 1;

    (void)b;
    while (write(fd, &one, sizeof one) < 0)
        if (errno != EINTR)
            return -errno;
    return 0;
}

/* A semaphore: each read takes one ring. */
static int eventfd_await(struct pw_bell *b, int fd, uint32_t times, bool yields)
{
    uint64_t one;

    (void)b;
    (void)times;
    (void)yields;
    while (read(fd, &one, sizeof one) < 0)
        if (errno != EINTR)
            return -errno;
    return 0;
}

const struct pw_bell_ops pw_bell_spin = { .ring = spin_ring, .await = spin_await };
const struct pw_bell_ops pw_bell_futex = { .ring = futex_ring, .await = futex_await };
const struct pw_bell_ops pw_bell_eventfd = {
    .descriptor = true, .ring = eventfd_ring, .await = eventfd_await,
};
