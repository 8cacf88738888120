/* SPDX-License-Identifier: BSD-3-Clause */
/* slots.c - see slots.h. Nothing is touched before the fork, so that each page
 * comes from the memory next to the core that uses it first: the sender's. */
#include "slots.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

static int map(size_t len, int kind, void *out)
{
    void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, kind | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        return -errno;
    memcpy(out, &p, sizeof p);
    return 0;
}

static void unmap(void *p, size_t len)
{
    if (p)
        munmap(p, len);
}

void pw_slots_close(struct pw_link *l)
{
    struct pw_slots *s = (struct pw_slots *)l;

    for (int i = 0; i < PW_BELLS; i++)
        if (s->fd[i] >= 0)
            close(s->fd[i]);
    unmap(s->slot, PW_SLOTS * s->stride);
    unmap(s->bell, PW_BELLS * sizeof *s->bell);
    unmap(s->own_word, PW_WORD_BYTES);
    free(s);
}

static int bells_open(struct pw_slots *s)
{
    int err = map(PW_BELLS * sizeof *s->bell, MAP_SHARED, &s->bell);

    for (int i = 0; !err && s->how->descriptor && i < PW_BELLS; i++) {
        s->fd[i] = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);
        if (s->fd[i] < 0)
            err = -errno;
    }
    return err;
}

int pw_slots_open(const struct pw_link *with, const struct pw_bell_ops *how, bool shared,
                  struct pw_slots **out)
{
    struct pw_slots *s = malloc(sizeof *s);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    int err;

    if (!s)
        return -ENOMEM;
    *s = (struct pw_slots){ .link = *with, .how = how };
    memset(s->fd, -1, sizeof s->fd);
    s->stride = (with->size + page - 1) / page * page;
    err = bells_open(s);
    if (!err)
        err = map(PW_SLOTS * s->stride, shared ? MAP_SHARED : MAP_PRIVATE, &s->slot);
    if (!err && !shared)
        err = map(PW_WORD_BYTES, MAP_PRIVATE, &s->own_word);
    if (err) {
        pw_slots_close(&s->link);
        return err;
    }
    *out = s;
    return 0;
}

int pw_slots_enter(struct pw_link *l)
{
    struct pw_slots *s = (struct pw_slots *)l;

    if (l->side == 0)
        memset(s->slot, 0, PW_SLOTS * s->stride);
    return 0;
}

int pw_slots_ring(struct pw_slots *s, enum pw_bell_name which)
{
    return s->how->ring(&s->bell[which], s->fd[which]);
}

int pw_slots_await(struct pw_slots *s, enum pw_bell_name which)
{
    return s->how->await(&s->bell[which], s->fd[which], ++s->awaited[which],
                         s->link.yields);
}

static char *slot_at(struct pw_slots *s)
{
    return s->slot + s->moved % PW_SLOTS * s->stride;
}

int pw_slots_free(struct pw_slots *s, char **slot)
{
    *slot = slot_at(s);
    return s->moved++ < PW_SLOTS ? 0 : pw_slots_await(s, PW_FREE);
}

int pw_slots_full(struct pw_slots *s, char **slot)
{
    *slot = slot_at(s);
    s->moved++;
    return pw_slots_await(s, PW_FULL);
}

int pw_slots_receive(struct pw_link *l)
{
    struct pw_slots *s = (struct pw_slots *)l;
    char *slot;
    int err = pw_slots_full(s, &slot);

    if (err)
        return err;
    memcpy(l->buffer, slot, l->size);
    return pw_slots_ring(s, PW_FREE);
}

int pw_slots_say(struct pw_link *l, uint64_t word)
{
    struct pw_slots *s = (struct pw_slots *)l;
    enum pw_bell_name mine = l->side == 0 ? PW_WORD_0 : PW_WORD_1;

    s->bell[mine].word = word;
    return pw_slots_ring(s, mine);
}

int pw_slots_hear(struct pw_link *l, uint64_t *word)
{
    struct pw_slots *s = (struct pw_slots *)l;
    enum pw_bell_name theirs = l->side == 0 ? PW_WORD_1 : PW_WORD_0;
    int err = pw_slots_await(s, theirs);

    *word = s->bell[theirs].word;
    return err;
}
