/* SPDX-License-Identifier: BSD-3-Clause */
/* slots.h - a few messages in memory, and bells: what ring.c and onecopy.c share.
 *
 * Message n lies in slot n modulo PW_SLOTS. The sender fills a slot and rings
 * FULL; the receiver empties it and rings FREE. Words go by bells of their own.
 */
#ifndef PW_MATRIX_SLOTS_H
#define PW_MATRIX_SLOTS_H

#include "bell.h"
#include "link.h"

enum { PW_SLOTS = 4 };

/* The words of side 0, those of side 1, and the slots'. */
enum pw_bell_name { PW_WORD_0, PW_WORD_1, PW_FULL, PW_FREE, PW_BELLS };

struct pw_slots {
    struct pw_link link;
    const struct pw_bell_ops *how;
    struct pw_bell *bell;           /* [PW_BELLS], shared */
    int fd[PW_BELLS];               /* -1 where there is none */
    char *slot;                     /* all of them */
    size_t stride;
    uint32_t awaited[PW_BELLS];     /* by this process */
    uint32_t moved;                 /* messages sent, or received, by this process */
    void *own_word;                 /* cma: what the other side reads */
};

/* shared: the other process sees what is written to a slot; else each has its
 * own at the same address. 0, or -errno. */
int pw_slots_open(const struct pw_link *with, const struct pw_bell_ops *how, bool shared,
                  struct pw_slots **out);
void pw_slots_close(struct pw_link *l);

int pw_slots_enter(struct pw_link *l);
int pw_slots_ring(struct pw_slots *s, enum pw_bell_name which);
int pw_slots_await(struct pw_slots *s, enum pw_bell_name which);

/* The sender: the slot of the next message, once it is free. */
int pw_slots_free(struct pw_slots *s, char **slot);

/* The receiver: the slot of the next message, once it is full. */
int pw_slots_full(struct pw_slots *s, char **slot);

/* Copy the next message out of its slot, and give that back. */
int pw_slots_receive(struct pw_link *l);

/* Words, for those whose bells carry them. */
int pw_slots_say(struct pw_link *l, uint64_t word);
int pw_slots_hear(struct pw_link *l, uint64_t *word);

#endif
