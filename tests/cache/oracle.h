/* SPDX-License-Identifier: BSD-3-Clause */
/* oracle.h - is what is pinned what the program sees? Asked without the cache.
 *
 * An oracle is a pin backend: a real long-term pin, the registered buffers of an
 * io_uring. It keeps what the kernel says of the frames behind the pages at the
 * moment they are pinned, and answers in two ways that share nothing:
 *
 *     frames  the page frame numbers of /proc/self/pagemap then, and now
 *     data    READ_FIXED through the pin lands where the program reads it;
 *             WRITE_FIXED takes what the program has written
 *
 * Frames need CAP_SYS_ADMIN; without, oracle_sees_frames() says no, and data alone
 * decides. Any thread; works in a forked child.
 */
#ifndef PINWHEEL_TESTS_ORACLE_H
#define PINWHEEL_TESTS_ORACLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pinwheel/pin.h"
#include "pinwheel/regcache.h"

struct oracle;

/* slots: how many regions may be pinned at once. 0 or -errno. */
int oracle_open(unsigned slots, struct oracle **out);
void oracle_close(struct oracle *o);

/* The backend; the oracle itself is its pin_ctx. */
const struct pw_pin_ops *oracle_ops(struct oracle *o);

bool oracle_sees_frames(const struct oracle *o);

struct oracle_frame {
    uintptr_t page;             /* its address */
    uint64_t then, now;         /* frame numbers; now is 0 where no page is */
};

/* Compare the frames of [addr, addr + len), which r covers.
 * 0; 1 they differ, the first such page in *bad; or -errno. */
int oracle_frames(struct oracle *o, const struct pw_region *r, const void *addr,
                  size_t len, struct oracle_frame *bad);

/* Bring len bytes of data to addr through the pin of r, which covers it; or fetch
 * them from there. 0 or -errno. */
int oracle_in(struct oracle *o, const struct pw_region *r, void *addr, size_t len,
              const void *data);
int oracle_out(struct oracle *o, const struct pw_region *r, const void *addr, size_t len,
               void *data);

#endif
