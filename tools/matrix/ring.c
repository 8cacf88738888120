/* SPDX-License-Identifier: BSD-3-Clause */
/* ring.c - two copies through shared memory: the sender copies a message in, the
 * receiver copies it out, and who waits spins, sleeps on a futex or reads an
 * eventfd. */
#include <string.h>

#include "slots.h"

static int ring_open(const struct pw_link *with, const struct pw_bell_ops *how,
                     struct pw_link **out)
{
    struct pw_slots *s;
    int err = pw_slots_open(with, how, true, &s);

    if (!err)
        *out = &s->link;
    return err;
}

static int spin_open(const struct pw_link *with, struct pw_link **out)
{
    return ring_open(with, &pw_bell_spin, out);
}

static int futex_open(const struct pw_link *with, struct pw_link **out)
{
    return ring_open(with, &pw_bell_futex, out);
}

static int eventfd_open(const struct pw_link *with, struct pw_link **out)
{
    return ring_open(with, &pw_bell_eventfd, out);
}

static int ring_send(struct pw_link *l, const char *message)
{
    struct pw_slots *s = (struct pw_slots *)l;
    char *slot;
    int err = pw_slots_free(s, &slot);

    if (err)
        return err;
    memcpy(slot, message, l->size);
    return pw_slots_ring(s, PW_FULL);
}

const struct pw_link_ops pw_link_spin = {
    .name = "spin", .what = "shared memory, two copies, spinning", .spins = true,
    .open = spin_open, .close = pw_slots_close, .enter = pw_slots_enter,
    .say = pw_slots_say, .hear = pw_slots_hear,
    .next = pw_link_next_own, .send = ring_send, .receive = pw_slots_receive,
};

const struct pw_link_ops pw_link_futex = {
    .name = "futex", .what = "shared memory, two copies, sleeping on a futex",
    .open = futex_open, .close = pw_slots_close, .enter = pw_slots_enter,
    .say = pw_slots_say, .hear = pw_slots_hear,
    .next = pw_link_next_own, .send = ring_send, .receive = pw_slots_receive,
};

const struct pw_link_ops pw_link_eventfd = {
    .name = "eventfd", .what = "shared memory, two copies, sleeping on an eventfd",
    .open = eventfd_open, .close = pw_slots_close, .enter = pw_slots_enter,
    .say = pw_slots_say, .hear = pw_slots_hear,
    .next = pw_link_next_own, .send = ring_send, .receive = pw_slots_receive,
};
