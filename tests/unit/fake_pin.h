/* SPDX-License-Identifier: BSD-3-Clause */
/* fake_pin.h - a pin backend that pins nothing, keeps count, and refuses on demand.
 *
 * A handle is a live number from pin to unpin and a dead one afterwards, so that who
 * holds a region can see that it is pinned. Lay it into shared memory to see what a
 * forked child does. */
#ifndef PW_FAKE_PIN_H
#define PW_FAKE_PIN_H

#include <stdbool.h>

#include "pinwheel/regcache.h"

enum { FAKE_LIVE = 0x50494e, FAKE_DEAD = 0xdead };

struct fake_handle {
    uint32_t state, number;
};

struct fake_pin {
    int pins, unpins;
    size_t bytes, most_bytes;   /* pinned now, and at most */
    size_t limit;               /* -ENOMEM above; 0: none */
    int fail_at;                /* the nth pin fails, 1 is the next; 0: none */
    int fail_times;             /* and so many after it */
    int error;
    unsigned refuse_access;     /* -EFAULT for any of these bits */
    size_t refuse_len;          /* -EFAULT for longer; 0: none */
    size_t widen_to;            /* pinned in multiples of that; 0: as asked for */
    void (*meanwhile)(void *);  /* called inside each pin */
    void *meanwhile_arg;
    int broken;                 /* unpins of what was not pinned */
};

extern const struct pw_pin_ops fake_pin_ops;

static inline bool fake_is_pinned(const struct pw_region *r)
{
    const struct fake_handle *h = (const struct fake_handle *)(const void *)r->handle;

    return __atomic_load_n(&h->state, __ATOMIC_RELAXED) == FAKE_LIVE;
}

#endif
