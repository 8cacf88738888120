/* SPDX-License-Identifier: BSD-3-Clause */
/* records.c - what happened to memory, told by any thread to any reader.
 *
 * Start at pw_records_begin(). A change is put into two places before it happens:
 *
 *     going_on   a table of changes that have begun and not ended. Whoever starts
 *                to watch looks here, for the pages may go, and their addresses be
 *                given out again, at any time until the end.
 *     ring       the last changes in order of their tickets, for whoever watched
 *                before. A ticket is what the word was when its change began.
 *
 * The order is: enter going_on, move the word (this draws the ticket), write the
 * record, change the memory, leave going_on. So, for each change and each reader,
 * one of three holds: the reader watched first, and finds the word moved and the
 * record; or it finds the change going on; or the change is over.
 *
 * A writer may stop anywhere for any time, and never come back (a cloned process
 * that is killed). Hence:
 *   - a ticket whose record is not written yet is not skipped: fresh() and read()
 *     stop there. Its change has not happened, as long as it is not written.
 *   - a writer that finds a later ticket's record in its place draws a new ticket.
 *     Readers who wait for the old one are told that records were lost.
 *   - two writers a whole ring apart never write the same place at once: it is
 *     taken by compare-and-swap, and who finds it taken draws a new ticket.
 * None of them waits for another, so a signal handler may interrupt any.
 *
 * A record's state is ticket * 2 + 2, and 1 more while it is being written; 0 is a
 * record never used. An entry of going_on has the state `turn` * 2 + 2 with the
 * era above it, and 1 more while it is being filled: then its range counts as
 * everything. 0 is a free one.
 *
 * Everything here is read and written atomically; x86 and the C11 model both give
 * the order stated beside each access.
 */
#include "records.h"

#include <errno.h>

/* Marks that are no entry of going_on. */
enum { CROWD = PW_RECORDS_GOING_ON, NOTHING };

enum { ERA_SHIFT = 48 };

static uint64_t load(const uint64_t *p)
{
    return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static uintptr_t peek(const uintptr_t *p)
{
    return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static void poke(uintptr_t *p, uintptr_t value)
{
    __atomic_store_n(p, value, __ATOMIC_RELAXED);
}

static bool swap(uint64_t *p, uint64_t from, uint64_t to)
{
    return __atomic_compare_exchange_n(p, &from, to, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_RELAXED);
}

static bool overlap(uintptr_t start, uintptr_t end, struct pw_range with)
{
    return start < end && start < with.end && with.start < end;
}

/* ---- writers ---- */

/* Not into going_on: nobody can tell what it is, so it is everything. */
static struct pw_mark join_crowd(struct pw_records *r)
{
    __atomic_add_fetch(&r->crowd, 1, __ATOMIC_ACQ_REL);
    return (struct pw_mark){ load(&r->era), CROWD };
}

static struct pw_mark enter(struct pw_records *r, struct pw_range range, unsigned cause)
{
    uint64_t turn = __atomic_fetch_add(&r->turn, 1, __ATOMIC_RELAXED);
    uint64_t state = (turn * 2 + 2) ^ load(&r->era) << ERA_SHIFT;

    for (unsigned i = 0; i < PW_RECORDS_GOING_ON; i++) {
        unsigned slot = (unsigned)(turn + i) % PW_RECORDS_GOING_ON;
        struct pw_going_on *g = &r->going_on[slot];

        if (load(&g->state) || !swap(&g->state, 0, state | 1))
            continue;
        poke(&g->start, range.start);
        poke(&g->end, range.end);
        __atomic_store_n(&g->cause, cause, __ATOMIC_RELAXED);
        __atomic_store_n(&g->state, state, __ATOMIC_RELEASE);
        return (struct pw_mark){ state, slot };
    }
    return join_crowd(r);
}

/* false: somebody has or takes this place for a later ticket, or still writes an
 * earlier one. */
static bool write_record(struct pw_records *r, uint64_t ticket, struct pw_range range,
                         unsigned cause)
{
    struct pw_record *rec = &r->ring[ticket % PW_RECORDS];
    uint64_t mine = ticket * 2 + 2, before = load(&rec->state);

    if (before & 1 || before >= mine || !swap(&rec->state, before, mine + 1))
        return false;
    /* The odd state is seen before the fields change: the swap is no weaker than
     * a release for what follows on x86, and the fence says it elsewhere. Pairs
     * with the fence in look(). */
    __atomic_thread_fence(__ATOMIC_RELEASE);
    poke(&rec->start, range.start);
    poke(&rec->end, range.end);
    __atomic_store_n(&rec->cause, cause, __ATOMIC_RELAXED);
    __atomic_store_n(&rec->state, mine, __ATOMIC_RELEASE);
    return true;
}

/* Nobody shall wait for this ticket's record, nor for those before it. */
static void give_up(struct pw_records *r, uint64_t ticket)
{
    uint64_t seen = load(&r->unwritten);

    while (seen <= ticket && !swap(&r->unwritten, seen, ticket + 1))
        seen = load(&r->unwritten);
}

uint64_t pw_records_draw(struct pw_records *r)
{
    /* Acquire and release: an entry of going_on is there before the word moves, for
     * pw_records_watch(). */
    return __atomic_fetch_add(&r->word, 1, __ATOMIC_ACQ_REL);
}

/* Another ticket is needed only when this thread stood still for a whole ring, or
 * another one stands still while it writes. */
void pw_records_fill(struct pw_records *r, uint64_t ticket, struct pw_range range,
                     unsigned cause)
{
    while (!write_record(r, ticket, range, cause)) {
        give_up(r, ticket);
        ticket = pw_records_draw(r);
    }
}

struct pw_mark pw_records_begin(struct pw_records *r, struct pw_range range,
                                unsigned cause)
{
    struct pw_mark mark = { 0, NOTHING };

    if (range.start < range.end)
        mark = enter(r, range, cause);
    pw_records_fill(r, pw_records_draw(r), range, cause);
    return mark;
}

void pw_records_end(struct pw_records *r, struct pw_mark mark)
{
    /* Not so when this is a child forked by a signal handler meanwhile: what
     * began in its parent is not in its table. */
    if (mark.slot < PW_RECORDS_GOING_ON)
        swap(&r->going_on[mark.slot].state, mark.state, 0);
    else if (mark.slot == CROWD && mark.state == load(&r->era))
        __atomic_sub_fetch(&r->crowd, 1, __ATOMIC_ACQ_REL);
}

/* ---- readers ---- */

bool pw_records_going_on(const struct pw_records *r, struct pw_range range,
                         struct pw_records_change *c)
{
    for (; c->slot < PW_RECORDS_GOING_ON; c->slot++) {
        const struct pw_going_on *g = &r->going_on[c->slot];

        c->state = load(&g->state);
        if (!c->state)
            continue;
        c->range = (struct pw_range){ peek(&g->start), peek(&g->end) };
        c->cause = (unsigned)__atomic_load_n(&g->cause, __ATOMIC_RELAXED);
        /* What was read may be of one that came into its place: then the first has
         * ended, and the second moves the word after this call began. */
        if (c->state & 1) {
            c->range = PW_RANGE_ALL;
            c->cause = 0;
            return true;
        }
        if (overlap(c->range.start, c->range.end, range))
            return true;
    }
    return false;
}

int pw_records_watch(struct pw_records *r, struct pw_range range, struct pw_watch *w)
{
    struct pw_records_change c = { .slot = 0 };

    /* Before the table is looked through: who moves the word later is found by
     * fresh(), who moved it before has entered the table. */
    w->since = load(&r->word);
    if (__atomic_load_n(&r->crowd, __ATOMIC_ACQUIRE) > 0)
        return -EAGAIN;
    return pw_records_going_on(r, range, &c) ? -EAGAIN : 0;
}

enum look { TOLD, NOT_YET, GONE };

static enum look look(const struct pw_records *r, uint64_t ticket, struct pw_change *out)
{
    const struct pw_record *rec = &r->ring[ticket % PW_RECORDS];
    uint64_t mine = ticket * 2 + 2, state = load(&rec->state);

    if (state > mine + 1)
        return GONE;
    if (state != mine)
        return ticket < load(&r->unwritten) ? GONE : NOT_YET;
    out->range = (struct pw_range){ peek(&rec->start), peek(&rec->end) };
    out->cause = (unsigned)__atomic_load_n(&rec->cause, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);    /* pairs with write_record()'s */
    return load(&rec->state) == mine ? TOLD : GONE;
}

bool pw_records_fresh(struct pw_records *r, struct pw_range range,
                      const struct pw_watch *w)
{
    uint64_t now = load(&r->word);

    if (now < w->since || now - w->since > PW_RECORDS)
        return false;
    for (uint64_t t = w->since; t != now; t++) {
        struct pw_change c;

        if (look(r, t, &c) != TOLD || c.cause == PW_EV_LOST ||
            overlap(c.range.start, c.range.end, range))
            return false;
    }
    return true;
}

void pw_reader_init(struct pw_reader *reader, const struct pw_records *r)
{
    reader->era = load(&r->era);
    reader->next = load(&r->word);
}

/* All records up to the word are given up. What of them has not happened yet is
 * going on, and found there by whoever watches from now on. */
static int lost(struct pw_records *r, struct pw_reader *reader, struct pw_change *out)
{
    pw_reader_init(reader, r);
    *out = (struct pw_change){ PW_RANGE_ALL, PW_EV_LOST };
    return 1;
}

int pw_records_read(struct pw_records *r, struct pw_reader *reader,
                    struct pw_change *out, int n)
{
    uint64_t now;
    int got = 0;

    if (n < 1)
        return 0;
    swap(&r->era, 0, reader->era + 1);      /* in a forked child */
    if (load(&r->era) != reader->era)
        return lost(r, reader, out);
    now = load(&r->word);
    while (got < n && reader->next != now) {
        enum look what = look(r, reader->next, &out[got]);

        if (what == GONE)
            return got + lost(r, reader, &out[got]);
        if (what == NOT_YET)
            break;
        reader->next++;
        got++;
    }
    return got;
}
