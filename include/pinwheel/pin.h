/* SPDX-License-Identifier: BSD-3-Clause */
/* pin.h - what pins pages, as the registration cache sees it.
 *
 * An embedded const table and a context: the NICs of an MPI job, or a ring of
 * io_uring. A handle is what the pinning left behind (a key, a slot); the cache
 * keeps it beside the region, aligned to 16 bytes, and never looks inside.
 */
#ifndef PINWHEEL_PIN_H
#define PINWHEEL_PIN_H

#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(default)
#ifdef __cplusplus
extern "C" {
#endif

/* What a device or a peer may do with pinned memory. */
enum pw_access { PW_READ = 1, PW_WRITE = 2, PW_ATOMIC = 4 };

struct pw_pin_ops {
    const char *name;
    size_t handle_size;         /* bytes, at most PW_PIN_HANDLE_MAX */

    /* Pin [addr, addr + len), both multiples of 4 KiB, and fill handle.
     * 0, or -ENOMEM  a limit was reached: the cache unpins something idle and
     *                tries again
     *       -EFAULT  not mapped, or not with that access
     *       -errno   of the device
     * Called with no lock of the cache held, by any thread, also at the same
     * time. May allocate, and may call anything but this cache. */
    int (*pin)(void *ctx, void *addr, size_t len, unsigned access, void *handle);

    /* Undo it. The addresses may be unmapped by then, or be other memory. */
    void (*unpin)(void *ctx, void *addr, size_t len, void *handle);

    /* A range that is to be pinned, whole pages, may become larger: to memory around it
     * that is there, and that others will ask for. What cannot be pinned so, or is more
     * than a limit allows, is pinned as it was asked for. Called as pin. NULL: never. */
    void (*widen)(void *ctx, uintptr_t *start, uintptr_t *end);
};

enum { PW_PIN_HANDLE_MAX = 256 };

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop
#endif
