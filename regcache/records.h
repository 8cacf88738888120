/* SPDX-License-Identifier: BSD-3-Clause */
/* records.h - what happened to memory, told by any thread to any reader.
 *
 * Whoever is about to change memory calls begin, changes it, and calls end. Both
 * are a few atomic instructions: no lock, no allocation, no system call, nothing of
 * the C library; they may be called in a signal handler, inside malloc, and by a
 * process that was cloned with CLONE_VM.
 *
 * In a forked child all records are gone and the word starts from 0 again: the
 * memory of a `struct pw_records` is wiped by the kernel at fork.
 */
#ifndef PINWHEEL_RECORDS_H
#define PINWHEEL_RECORDS_H

#include <stdbool.h>
#include <stdint.h>

#include "pinwheel/monitor.h"

enum {
    PW_RECORDS = 1024,          /* kept; a power of two */
    PW_RECORDS_GOING_ON = 256,  /* changes at the same moment that are told apart */
};

#define PW_RANGE_ALL ((struct pw_range){ 0, UINTPTR_MAX & ~(uintptr_t)4095 })

struct pw_record {
    uint64_t state;             /* see records.c */
    uintptr_t start, end;
    uint64_t cause;
};

struct pw_going_on {
    uint64_t state;
    uintptr_t start, end;
    uint64_t cause;
};

struct pw_records {
    _Alignas(64) uint64_t word; /* changes begun: a monitor's word */
    _Alignas(64) uint64_t turn; /* of going_on, to spread those who look for room */
    int64_t crowd;              /* going on without room in going_on */
    uint64_t unwritten;         /* tickets below: not waited for */
    uint64_t era;               /* 0 in a forked child until somebody reads there */
    uint64_t lock;              /* the owner's own: free again in a forked child */
    struct pw_going_on going_on[PW_RECORDS_GOING_ON];
    struct pw_record ring[PW_RECORDS];
};

/* 0; -ENOMEM; -ENODEV where the kernel cannot wipe memory at fork (before Linux
 * 4.14). */
int pw_records_create(struct pw_records **out);
void pw_records_destroy(struct pw_records *r);

/* From before the change until after it. What begin returns goes to end. An empty
 * range is a change that concerns nothing watched: it is told, no more. */
struct pw_mark {
    uint64_t state;
    unsigned slot;
};
struct pw_mark pw_records_begin(struct pw_records *r, struct pw_range range,
                                unsigned cause);
void pw_records_end(struct pw_records *r, struct pw_mark mark);

/* The middle of begin in two steps, for who learns late what has changed: draw moves
 * the word, and whoever looks meanwhile finds a record that is not written yet.
 * Each ticket that was drawn is filled, soon. */
uint64_t pw_records_draw(struct pw_records *r);
void pw_records_fill(struct pw_records *r, uint64_t ticket, struct pw_range range,
                     unsigned cause);

/* The first change at or after c->slot that is going on and meets the range: *c is
 * filled in. What is just beginning counts, as everything. false: no more. */
struct pw_records_change {
    unsigned slot;              /* 0 to begin with, then the last one's plus 1 */
    uint64_t state;             /* no two changes have the same */
    struct pw_range range;
    unsigned cause;             /* 0: just beginning */
};
bool pw_records_going_on(const struct pw_records *r, struct pw_range range,
                         struct pw_records_change *c);

/* As the monitor's operations of the same names. watch: 0 or -EAGAIN. */
int pw_records_watch(struct pw_records *r, struct pw_range range, struct pw_watch *w);
bool pw_records_fresh(struct pw_records *r, struct pw_range range,
                      const struct pw_watch *w);

/* Who reads, from the moment of its init on. Used by one thread at a time. */
struct pw_reader {
    uint64_t next;              /* ticket */
    uint64_t era;
};
void pw_reader_init(struct pw_reader *reader, const struct pw_records *r);

/* The next at most n records, oldest first; how many. When the reader was lapped,
 * or is in a forked child for the first time: PW_EV_LOST of all addresses. */
int pw_records_read(struct pw_records *r, struct pw_reader *reader,
                    struct pw_change *out, int n);

#endif
