/* SPDX-License-Identifier: BSD-3-Clause */
/* fake_control.c - what a test asks of the fake NIC; fake_nic.h says what. */
#include <errno.h>
#include <stdlib.h>

#include "fake_world.h"

struct fake_nic_traits *fake_nic_traits(const struct pw_nic_ops *ops)
{
    fake_world_make();
    return &fake_world.traits[ops == &fake_nic_ops2];
}

unsigned fake_nic_reset(void)
{
    unsigned open = 0;

    fake_lock();
    for (int i = 0; i < FAKE_KINDS; i++)
        fake_world.traits[i] = fake_default_traits;
    while (fake_world.cuts) {
        struct fake_cut *cut = fake_world.cuts;

        fake_world.cuts = cut->next;
        free(cut);
    }
    for (struct fake_nic *nic = fake_world.nics; nic; nic = nic->next)
        open++;
    fake_unlock();
    return open;
}

void fake_nic_set_faults(struct pw_nic *nic, const struct fake_nic_faults *faults)
{
    fake_lock();
    nic_of(nic)->traits.faults = *faults;
    fake_unlock();
}

void fake_nic_fail(struct pw_nic *nic, enum fake_op op, unsigned nth, unsigned count,
                   int err)
{
    fake_lock();
    nic_of(nic)->plans[op] = (struct fake_plan){ nth, count, err };
    fake_unlock();
}

unsigned fake_nic_calls(struct pw_nic *nic, enum fake_op op)
{
    fake_lock();
    unsigned calls = nic_of(nic)->calls[op];
    fake_unlock();
    return calls;
}

unsigned fake_nic_pins(struct pw_nic *nic)
{
    unsigned pins = 0;

    fake_lock();
    for (struct fake_pin *pin = nic_of(nic)->pins; pin; pin = pin->next)
        pins++;
    fake_unlock();
    return pins;
}

unsigned fake_nic_in_flight(struct pw_nic_peer *peer)
{
    fake_lock();
    unsigned frames = peer_of(peer)->tx->frames;
    fake_unlock();
    return frames;
}

static void stream_cut(struct fake_stream *s, int cause)
{
    fake_stream_lose_delayed(s);
    fake_stream_end(s, cause);
    fake_stream_abandon(s, cause);
    fake_unread_remove(s);
}

void fake_peers_cut(struct fake_nic *nic, uint64_t to, int cause)
{
    for (struct fake_peer *p = nic->peers; p; p = p->next)
        if (p->to == to && !p->down) {
            stream_cut(p->tx, cause);
            if (p->rx)
                stream_cut(p->rx, cause);
        }
}

void fake_nic_cut(struct pw_nic *a, struct pw_nic *b, int cause)
{
    struct fake_nic *x = nic_of(a), *y = nic_of(b);
    struct fake_cut *cut = calloc(1, sizeof *cut);

    if (!cut)
        abort();
    fake_lock();
    cut->a = x->number;
    cut->b = y->number;
    cut->next = fake_world.cuts;
    fake_world.cuts = cut;
    fake_peers_cut(x, y->number, cause);
    fake_peers_cut(y, x->number, cause);
    pthread_cond_broadcast(&fake_world.changed);
    fake_unlock();
}

void fake_nic_mend(struct pw_nic *a, struct pw_nic *b)
{
    struct fake_cut **at, *cut;

    fake_lock();
    while (*(at = fake_cut_find(nic_of(a)->number, nic_of(b)->number))) {
        cut = *at;
        *at = cut->next;
        free(cut);
    }
    fake_unlock();
}

void fake_nic_die(struct pw_nic *base)
{
    struct fake_nic *nic = nic_of(base);

    fake_lock();
    fake_nic_leave(nic, -ECONNRESET);
    nic->life = FAKE_DIED;
    fake_unlock();
}
