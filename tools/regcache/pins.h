/* SPDX-License-Identifier: BSD-3-Clause */
/* pins.h - what all measured caches pin with: nothing at all, or io_uring.
 *
 * A hit pins nothing, so the figures of hits are taken with pins that only count.
 * What a miss costs with a device behind it is measured with buffers registered
 * with a ring of io_uring: a long-term pin by the kernel, as a NIC's.
 *
 * Any thread.
 */
#ifndef PW_TOOLS_REGCACHE_PINS_H
#define PW_TOOLS_REGCACHE_PINS_H

#include <stddef.h>
#include <stdint.h>

enum { PINS_RING_MAX = 4096 };

struct pins {
    int ring;                       /* -1: count only */
    uint64_t pinned, unpinned;      /* so far */
    uint32_t n_free;
    uint16_t free[PINS_RING_MAX];   /* slots of the ring; one thread */
};

void pins_init(struct pins *p);

/* Pin with io_uring from now on, at most PINS_RING_MAX at a time, in one thread.
 * 0, or -errno when this machine does not let us. */
int pins_use_ring(struct pins *p);
void pins_fini(struct pins *p);

/* 0 and a handle for pins_undo(); or -ENOMEM, -EFAULT, -errno of io_uring. */
int pins_do(struct pins *p, void *addr, size_t len, uint64_t *handle);
void pins_undo(struct pins *p, uint64_t handle);

static inline uint64_t pins_pinned(const struct pins *p)
{
    return __atomic_load_n(&p->pinned, __ATOMIC_RELAXED);
}

static inline uint64_t pins_unpinned(const struct pins *p)
{
    return __atomic_load_n(&p->unpinned, __ATOMIC_RELAXED);
}

#endif
