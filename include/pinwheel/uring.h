/* SPDX-License-Identifier: BSD-3-Clause */
/* uring.h - file I/O out of and into cached memory, without a copy and without
 * pinning it each time: a pin backend made of io_uring's registered buffers.
 *
 *     struct pw_uring *u;
 *     pw_uring_open(NULL, &u);
 *     config.pin = &pw_uring_pin;
 *     config.pin_ctx = u;
 *     ...
 *     if (!pw_regcache_get(rc, buf, len, PW_WRITE, &r)) {
 *         got = pw_uring_read(u, fd, r->handle, buf, len, offset);
 *         pw_regcache_put(rc, r);
 *     }
 *
 * The pin is the kernel's long-term one (FOLL_LONGTERM), as a NIC's is. It counts
 * against the user's RLIMIT_MEMLOCK where that binds. It is always one for
 * writing, whatever access was asked for.
 *
 * Any thread, but for open and close. None from a signal handler.
 *
 * fork: a child's calls are refused (-EOPNOTSUPP), and it unpins nothing. It holds
 * a copy of the ring's descriptor, and with it the parent's pages, until it calls
 * pw_uring_close(), execs or ends.
 *
 * Source: io_uring_register(2), IORING_REGISTER_BUFFERS2 and
 * IORING_REGISTER_BUFFERS_UPDATE.
 */
#ifndef PINWHEEL_URING_H
#define PINWHEEL_URING_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "pinwheel/pin.h"

#pragma GCC visibility push(default)
#ifdef __cplusplus
extern "C" {
#endif

struct pw_uring;

struct pw_uring_config {
    unsigned buffers;   /* pinned at a time, up to 16,384; 0: 16,384 */
    unsigned entries;   /* transfers under way at a time, up to 4096; 0: 64.
                         * Rounded up to a power of two */
};

/* What the pinning leaves: r->handle points to one. */
struct pw_uring_handle {
    uint32_t index;
};

/* config may be NULL. 0, or
 * -EINVAL  a number too large
 * -ENODEV  no io_uring, or one before Linux 5.19
 * -EPERM   it is forbidden here (seccomp, /proc/sys/kernel/io_uring_disabled)
 * -ENOMEM, -EMFILE, -ENFILE */
int pw_uring_open(const struct pw_uring_config *config, struct pw_uring **out);

/* Unpin everything. No other thread may be in a call on this ring. NULL is fine. */
void pw_uring_close(struct pw_uring *u);

/* ctx: the struct pw_uring. pin() also returns
 * -EMSGSIZE    more than 1 GiB, the most that the kernel takes as one buffer
 * -EOPNOTSUPP  memory of a kind that is not pinned, or called in a forked child
 * and -ENOMEM when all buffers are taken or RLIMIT_MEMLOCK is reached; -EFAULT
 * for memory that may not be written. */
extern const struct pw_pin_ops pw_uring_pin;

/* Read the file into pinned memory, or write it from there, at offset (-1: where
 * the file stands). [addr, addr + len) lies in what the handle was pinned for.
 * Returns when it is done; other threads' transfers go on meanwhile.
 *
 * Bytes done, fewer than len at the end of a file or where read(2) does so; or
 * -EFAULT      the range is not within the pinned one, or the handle is no more
 * -EOPNOTSUPP  in a forked child
 * -errno       as read(2) and write(2) */
ssize_t pw_uring_read(struct pw_uring *u, int fd, const void *handle, void *addr,
                      size_t len, int64_t offset);
ssize_t pw_uring_write(struct pw_uring *u, int fd, const void *handle,
                       const void *addr, size_t len, int64_t offset);

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop
#endif
