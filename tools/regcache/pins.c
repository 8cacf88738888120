/* SPDX-License-Identifier: BSD-3-Clause */
/* pins.c - pins that count, and pins by io_uring. See pins.h.
 *
 * The ring's calls do not pass through the C library: a cache that trusts its memory
 * less when it sees the program use io_uring, as ours does, shall not see the device
 * that it is measured with.
 */
#include "pins.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "regcache/raw.h"

void pins_init(struct pins *p)
{
    memset(p, 0, sizeof *p);
    p->ring = -1;
}

static int ring_register(int ring, unsigned what, void *arg, size_t size)
{
    return (int)pw_raw6(SYS_io_uring_register, ring, what, (long)(uintptr_t)arg, (long)size,
                        0, 0);
}

int pins_use_ring(struct pins *p)
{
    struct io_uring_params params = { 0 };
    struct io_uring_rsrc_register table = {
        .nr = PINS_RING_MAX, .flags = IORING_RSRC_REGISTER_SPARSE,
    };
    int ring = (int)pw_raw3(SYS_io_uring_setup, 1, (long)(uintptr_t)&params, 0), err;

    if (ring < 0)
        return ring;
    err = ring_register(ring, IORING_REGISTER_BUFFERS2, &table, sizeof table);
    if (err < 0) {
        close(ring);
        return err;
    }
    p->ring = ring;
    for (p->n_free = 0; p->n_free < PINS_RING_MAX; p->n_free++)
        p->free[p->n_free] = (uint16_t)p->n_free;
    return 0;
}

void pins_fini(struct pins *p)
{
    if (p->ring >= 0)
        close(p->ring);
    p->ring = -1;
}

/* An empty buffer unpins what the slot had. */
static int slot_set(struct pins *p, unsigned slot, void *addr, size_t len)
{
    struct iovec buffer = { addr, len };
    struct io_uring_rsrc_update2 update = {
        .offset = slot, .data = (uintptr_t)&buffer, .nr = 1,
    };
    int err =
        ring_register(p->ring, IORING_REGISTER_BUFFERS_UPDATE, &update, sizeof update);

    return err < 0 ? err : 0;
}

int pins_do(struct pins *p, void *addr, size_t len, uint64_t *handle)
{
    *handle = 0;
    if (p->ring >= 0) {
        int err;

        if (!p->n_free)
            return -ENOMEM;
        *handle = p->free[p->n_free - 1];
        err = slot_set(p, (unsigned)*handle, addr, len);
        if (err)
            return err;
        p->n_free--;
    }
    __atomic_fetch_add(&p->pinned, 1, __ATOMIC_RELAXED);
    return 0;
}

void pins_undo(struct pins *p, uint64_t handle)
{
    if (p->ring >= 0) {
        slot_set(p, (unsigned)handle, NULL, 0);
        p->free[p->n_free++] = (uint16_t)handle;
    }
    __atomic_fetch_add(&p->unpinned, 1, __ATOMIC_RELAXED);
}
