/* SPDX-License-Identifier: BSD-3-Clause */
/* onecopy.c - the receiver takes a message from where the sender wrote it: by
 * process_vm_readv (CMA), or by a copy from memory that it has mapped too. Both
 * sides spin, so that the copy is what differs. */
#include <string.h>

#include "slots.h"
#include "tools/cma.h"

static int mapped_open(const struct pw_link *with, struct pw_link **out)
{
    struct pw_slots *s;
    int err = pw_slots_open(with, &pw_bell_spin, true, &s);

    if (!err)
        *out = &s->link;
    return err;
}

static int cma_open(const struct pw_link *with, struct pw_link **out)
{
    struct pw_slots *s;
    int err = pw_slots_open(with, &pw_bell_spin, false, &s);

    if (!err)
        *out = &s->link;
    return err;
}

/* Message or word, both processes have it at the same address. */
static int cma_read(struct pw_link *l, void *to, void *from, size_t len)
{
    return pw_cma_read(l->peer, to, from, len);
}

static int cma_enter(struct pw_link *l)
{
    struct pw_slots *s = (struct pw_slots *)l;
    uint64_t word;
    int err = pw_slots_enter(l);

    if (!err)
        err = cma_read(l, &word, s->own_word, sizeof word);
    if (err)
        pw_cma_why(err, l->why, PW_WHY);
    return err;
}

/* What MPI libraries do: the shared line says that there is something, and the
 * data come from the other's memory. */
static int cma_say(struct pw_link *l, uint64_t word)
{
    struct pw_slots *s = (struct pw_slots *)l;

    memcpy(s->own_word, &word, sizeof word);
    return pw_slots_say(l, 0);
}

static int cma_hear(struct pw_link *l, uint64_t *word)
{
    struct pw_slots *s = (struct pw_slots *)l;
    int err = pw_slots_hear(l, word);

    return err ? err : cma_read(l, word, s->own_word, sizeof *word);
}

static int onecopy_next(struct pw_link *l, char **message)
{
    return pw_slots_free((struct pw_slots *)l, message);
}

static int onecopy_send(struct pw_link *l, const char *message)
{
    (void)message;
    return pw_slots_ring((struct pw_slots *)l, PW_FULL);
}

static int cma_receive(struct pw_link *l)
{
    struct pw_slots *s = (struct pw_slots *)l;
    char *slot;
    int err = pw_slots_full(s, &slot);

    if (!err)
        err = cma_read(l, l->buffer, slot, l->size);
    return err ? err : pw_slots_ring(s, PW_FREE);
}

const struct pw_link_ops pw_link_cma = {
    .name = "cma", .what = "one copy by process_vm_readv, spinning", .spins = true,
    .open = cma_open, .close = pw_slots_close, .enter = cma_enter,
    .say = cma_say, .hear = cma_hear,
    .next = onecopy_next, .send = onecopy_send, .receive = cma_receive,
};

const struct pw_link_ops pw_link_mapped = {
    .name = "mapped", .what = "one copy from memory that both have mapped, spinning",
    .spins = true,
    .open = mapped_open, .close = pw_slots_close, .enter = pw_slots_enter,
    .say = pw_slots_say, .hear = pw_slots_hear,
    .next = onecopy_next, .send = onecopy_send, .receive = pw_slots_receive,
};
