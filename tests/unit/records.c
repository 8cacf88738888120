/* SPDX-License-Identifier: BSD-3-Clause */
/* records.c - what happened to memory: told in order, never missed, never waited
 * for. Writers that stop in the middle are played by drawing a ticket and not
 * filling it, or by marking a record as being written. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "regcache/records.h"

#define PAGE ((uintptr_t)4096)

static struct pw_records *r;
static struct pw_reader reader;

static void setup(void)
{
    cr_assert(zero(int, pw_records_create(&r)));
    pw_reader_init(&reader, r);
}

static void teardown(void)
{
    pw_records_destroy(r);
}

TestSuite(records, .init = setup, .fini = teardown);

static struct pw_range pages(uintptr_t first, uintptr_t n)
{
    return (struct pw_range){ first * PAGE, (first + n) * PAGE };
}

static void change(struct pw_range range, unsigned cause)
{
    pw_records_end(r, pw_records_begin(r, range, cause));
}

static struct pw_watch watched(struct pw_range range)
{
    struct pw_watch w;

    cr_assert(zero(int, pw_records_watch(r, range, &w)));
    return w;
}

static int watch(struct pw_range range)
{
    struct pw_watch w;

    return pw_records_watch(r, range, &w);
}

static int read_one(struct pw_change *c)
{
    return pw_records_read(r, &reader, c, 1);
}

/* Fill the ring once, with changes of a page that no test watches. */
static void a_lap(void)
{
    for (int i = 0; i < PW_RECORDS; i++)
        change(pages(900, 1), PW_EV_UNMAP);
}

Test(records, changes_are_told_with_range_and_cause_oldest_first)
{
    struct pw_change c[4];

    change(pages(1, 2), PW_EV_UNMAP);
    change(pages(7, 1), PW_EV_DISCARD);
    cr_expect(eq(int, pw_records_read(r, &reader, c, 4), 2));
    cr_expect(eq(ulong, c[0].range.start, PAGE));
    cr_expect(eq(ulong, c[0].range.end, 3 * PAGE));
    cr_expect(eq(uint, c[0].cause, PW_EV_UNMAP));
    cr_expect(eq(ulong, c[1].range.start, 7 * PAGE));
    cr_expect(eq(uint, c[1].cause, PW_EV_DISCARD));
    cr_expect(zero(int, pw_records_read(r, &reader, c, 4)), "each once");
    cr_expect(eq(u64, reader.next, r->word), "up to the word");
}

Test(records, a_reader_takes_as_many_as_it_has_room_for)
{
    struct pw_change c[3];

    for (unsigned i = 0; i < 5; i++)
        change(pages(i, 1), PW_EV_UNMAP);
    cr_expect(zero(int, pw_records_read(r, &reader, c, 0)));
    cr_expect(eq(int, pw_records_read(r, &reader, c, 3), 3));
    cr_expect(eq(int, pw_records_read(r, &reader, c, 3), 2));
    cr_expect(eq(ulong, c[1].range.start, 4 * PAGE));
}

Test(records, a_reader_hears_nothing_from_before_its_time)
{
    struct pw_change c;

    change(pages(1, 1), PW_EV_UNMAP);
    pw_reader_init(&reader, r);
    cr_expect(zero(int, read_one(&c)));
}

Test(records, two_readers_hear_the_same)
{
    struct pw_reader second;
    struct pw_change c;

    pw_reader_init(&second, r);
    change(pages(1, 1), PW_EV_UNMAP);
    cr_expect(eq(int, read_one(&c), 1));
    cr_expect(eq(int, pw_records_read(r, &second, &c, 1), 1));
}

/* ---- watch and fresh ---- */

Test(records, what_is_being_changed_cannot_be_watched_until_the_end)
{
    struct pw_mark mark = pw_records_begin(r, pages(10, 2), PW_EV_UNMAP);

    cr_expect(eq(int, watch(pages(11, 5)), -EAGAIN));
    cr_expect(eq(int, watch(pages(9, 2)), -EAGAIN));
    cr_expect(zero(int, watch(pages(12, 1))), "just behind it");
    cr_expect(zero(int, watch(pages(9, 1))), "just before it");
    pw_records_end(r, mark);
    cr_expect(zero(int, watch(pages(10, 2))));
}

Test(records, a_watch_is_fresh_until_its_pages_change)
{
    struct pw_watch w = watched(pages(10, 4));
    struct pw_mark mark;

    cr_expect(pw_records_fresh(r, pages(10, 4), &w));
    change(pages(14, 1), PW_EV_UNMAP);
    cr_expect(pw_records_fresh(r, pages(10, 4), &w), "a neighbour");
    mark = pw_records_begin(r, pages(13, 1), PW_EV_UNMAP);
    cr_expect(not(pw_records_fresh(r, pages(10, 4), &w)), "from the beginning on");
    pw_records_end(r, mark);
    cr_expect(not(pw_records_fresh(r, pages(10, 4), &w)), "and ever after");
}

Test(records, what_was_lost_may_be_anything)
{
    struct pw_watch w = watched(pages(10, 4));

    change(pages(0, 0), PW_EV_LOST);
    cr_expect(not(pw_records_fresh(r, pages(10, 4), &w)));
}

Test(records, a_change_of_nothing_is_told_and_hinders_nobody)
{
    struct pw_watch w = watched(pages(10, 4));
    struct pw_mark mark = pw_records_begin(r, pages(11, 0), PW_EV_TRUNCATE);
    struct pw_change c;

    cr_expect(zero(int, watch(pages(10, 4))));
    cr_expect(pw_records_fresh(r, pages(10, 4), &w));
    pw_records_end(r, mark);
    cr_expect(eq(int, read_one(&c), 1));
    cr_expect(eq(uint, c.cause, PW_EV_TRUNCATE));
}

Test(records, after_a_lap_nothing_is_fresh)
{
    struct pw_watch w = watched(pages(10, 4));

    a_lap();
    cr_expect(pw_records_fresh(r, pages(10, 4), &w), "the ring still has them all");
    change(pages(900, 1), PW_EV_UNMAP);
    cr_expect(not(pw_records_fresh(r, pages(10, 4), &w)));
}

Test(records, what_is_going_on_is_found_after_any_number_of_laps)
{
    struct pw_mark mark = pw_records_begin(r, pages(10, 2), PW_EV_UNMAP);

    a_lap();
    a_lap();
    cr_expect(eq(int, watch(pages(10, 1)), -EAGAIN));
    pw_records_end(r, mark);
    cr_expect(zero(int, watch(pages(10, 1))));
}

Test(records, more_changes_at_once_than_are_told_apart_are_changes_of_everything)
{
    struct pw_mark marks[PW_RECORDS_GOING_ON + 1];

    for (int i = 0; i < PW_RECORDS_GOING_ON; i++)
        marks[i] = pw_records_begin(r, pages(10, 1), PW_EV_UNMAP);
    cr_expect(zero(int, watch(pages(500, 1))));
    marks[PW_RECORDS_GOING_ON] = pw_records_begin(r, pages(10, 1), PW_EV_UNMAP);
    cr_expect(eq(int, watch(pages(500, 1)), -EAGAIN));
    pw_records_end(r, marks[PW_RECORDS_GOING_ON]);
    cr_expect(zero(int, watch(pages(500, 1))));
    for (int i = 0; i < PW_RECORDS_GOING_ON; i++)
        pw_records_end(r, marks[i]);
    cr_expect(zero(int, watch(pages(10, 1))));
}

Test(records, what_goes_on_can_be_listed)
{
    struct pw_mark first = pw_records_begin(r, pages(10, 2), PW_EV_UNMAP);
    struct pw_mark second = pw_records_begin(r, pages(11, 2), PW_EV_DISCARD);
    struct pw_records_change c = { .slot = 0 };

    cr_expect(pw_records_going_on(r, pages(11, 1), &c));
    cr_expect(eq(uint, c.cause, PW_EV_UNMAP));
    cr_expect(eq(ulong, c.range.start, 10 * PAGE));
    c.slot++;
    cr_expect(pw_records_going_on(r, pages(11, 1), &c));
    cr_expect(eq(uint, c.cause, PW_EV_DISCARD));
    c.slot++;
    cr_expect(not(pw_records_going_on(r, pages(11, 1), &c)));
    pw_records_end(r, first);
    pw_records_end(r, second);
    c.slot = 0;
    cr_expect(not(pw_records_going_on(r, pages(11, 1), &c)));
}

Test(records, what_is_just_beginning_is_everything)
{
    struct pw_records_change c = { .slot = 0 };

    r->going_on[3].state = 7;   /* as a writer leaves it while it fills it in */
    cr_expect(eq(int, watch(pages(500, 1)), -EAGAIN));
    cr_expect(pw_records_going_on(r, pages(500, 1), &c));
    cr_expect(eq(uint, c.cause, 0u));
    cr_expect(eq(uint, c.slot, 3u));
}

/* ---- writers that stand still ---- */

Test(records, a_record_that_is_not_written_yet_is_waited_for)
{
    struct pw_watch w = watched(pages(10, 1));
    uint64_t ticket = pw_records_draw(r);
    struct pw_change c;

    change(pages(20, 1), PW_EV_UNMAP);
    cr_expect(not(pw_records_fresh(r, pages(10, 1), &w)), "it may be of these pages");
    cr_expect(zero(int, read_one(&c)));
    cr_expect(ne(u64, reader.next, r->word), "and the word says that there is more");
    pw_records_fill(r, ticket, pages(30, 1), PW_EV_BRK);
    cr_expect(pw_records_fresh(r, pages(10, 1), &w));
    cr_expect(eq(int, read_one(&c), 1));
    cr_expect(eq(uint, c.cause, PW_EV_BRK));
    cr_expect(eq(int, read_one(&c), 1));
    cr_expect(eq(uint, c.cause, PW_EV_UNMAP));
}

Test(records, a_writer_that_was_lapped_writes_elsewhere)
{
    uint64_t ticket = pw_records_draw(r);
    struct pw_change c;

    a_lap();
    pw_records_fill(r, ticket, pages(30, 1), PW_EV_BRK);
    cr_expect(eq(u64, r->word, (uint64_t)PW_RECORDS + 2));
    cr_expect(eq(int, read_one(&c), 1));
    cr_expect(eq(uint, c.cause, PW_EV_LOST));
    cr_expect(eq(u64, reader.next, r->word));
}

/* The change itself is found: it is going on. */
Test(records, a_writer_that_stands_in_the_way_is_passed)
{
    struct pw_change c;

    change(pages(1, 1), PW_EV_UNMAP);
    cr_expect(eq(int, read_one(&c), 1));
    r->ring[1].state = 3;       /* another one writes the record of ticket 0 + 1 */
    change(pages(2, 1), PW_EV_UNMAP);
    cr_expect(eq(u64, r->word, 3ul), "a second ticket was drawn");
    cr_expect(eq(int, read_one(&c), 1));
    cr_expect(eq(uint, c.cause, PW_EV_LOST), "nobody waits for the first");
    change(pages(3, 1), PW_EV_UNMAP);
    cr_expect(eq(int, read_one(&c), 1));
    cr_expect(eq(ulong, c.range.start, 3 * PAGE));
}

/* ---- readers that stand still ---- */

Test(records, a_reader_that_was_lapped_is_told_once_that_it_lost)
{
    struct pw_change c[2];

    a_lap();
    change(pages(1, 1), PW_EV_UNMAP);
    cr_expect(eq(int, pw_records_read(r, &reader, c, 2), 1));
    cr_expect(eq(uint, c[0].cause, PW_EV_LOST));
    cr_expect(eq(ulong, c[0].range.start, 0ul));
    cr_expect(eq(ulong, c[0].range.end, PW_RANGE_ALL.end));
    change(pages(2, 1), PW_EV_DISCARD);
    cr_expect(eq(int, pw_records_read(r, &reader, c, 2), 1));
    cr_expect(eq(uint, c[0].cause, PW_EV_DISCARD));
}

Test(records, a_full_ring_is_told_whole)
{
    struct pw_change c[PW_RECORDS + 1];

    a_lap();
    cr_expect(eq(int, pw_records_read(r, &reader, c, PW_RECORDS + 1), PW_RECORDS));
    for (int i = 0; i < PW_RECORDS; i++)
        cr_assert(eq(uint, c[i].cause, PW_EV_UNMAP));
}

/* ---- other processes ---- */

static int fork_starts_anew(void *arg)
{
    struct pw_change c[2];

    (void)arg;
    if (r->word || watch(pages(10, 1)))
        return 1;               /* what goes on in the parent does not here */
    if (pw_records_read(r, &reader, c, 2) != 1 || c[0].cause != PW_EV_LOST)
        return 2;
    change(pages(3, 1), PW_EV_DISCARD);
    if (pw_records_read(r, &reader, c, 2) != 1 || c[0].cause != PW_EV_DISCARD)
        return 3;
    return 0;
}

Test(records, a_forked_child_starts_anew_and_loses_everything_once)
{
    struct pw_mark mark;
    struct pw_change c;

    for (int i = 0; i < 5; i++)
        change(pages(1, 1), PW_EV_UNMAP);
    mark = pw_records_begin(r, pages(10, 1), PW_EV_UNMAP);
    cr_expect(zero(int, in_child(fork_starts_anew, NULL)));
    pw_records_end(r, mark);
    cr_expect(eq(u64, r->word, 6ul), "the parent's are its own");
    cr_expect(eq(int, read_one(&c), 1));
    cr_expect(eq(uint, c.cause, PW_EV_UNMAP));
}

static int more_than_the_parent(void *arg)
{
    struct pw_change c[8];

    (void)arg;
    for (int i = 0; i < 5; i++)
        change(pages(1, 1), PW_EV_UNMAP);
    return pw_records_read(r, &reader, c, 8) != 1 || c[0].cause != PW_EV_LOST;
}

static int grandchild(void *arg)
{
    struct pw_change c[2];

    pw_records_read(r, &reader, c, 2);
    change(pages(1, 1), PW_EV_UNMAP);
    pw_records_read(r, &reader, c, 2);
    return in_child(more_than_the_parent, arg);
}

Test(records, a_child_knows_that_it_is_one_when_it_has_done_more_than_its_parent)
{
    struct pw_change c;

    change(pages(1, 1), PW_EV_UNMAP);
    cr_expect(eq(int, read_one(&c), 1));
    cr_expect(zero(int, in_child(more_than_the_parent, NULL)));
    cr_expect(zero(int, in_child(grandchild, NULL)), "nor is it its child's child");
}

static struct pw_mark begun[2];

static int going_on(struct pw_range range)
{
    struct pw_records_change c = { .slot = 0 };
    int n = 0;

    for (; pw_records_going_on(r, range, &c); c.slot++)
        n++;
    return n;
}

static int end_in_the_child(void *arg)
{
    struct pw_mark mine;
    int err;

    (void)arg;
    for (int i = 0; i < PW_RECORDS_GOING_ON; i++)
        mine = pw_records_begin(r, pages(20, 1), PW_EV_UNMAP);
    mine = pw_records_begin(r, pages(20, 1), PW_EV_UNMAP);
    pw_records_end(r, begun[0]);
    pw_records_end(r, begun[1]);
    /* Its own are all still there, and its crowd. */
    err = going_on(pages(20, 1)) != PW_RECORDS_GOING_ON || watch(pages(500, 1)) != -EAGAIN;
    pw_records_end(r, mine);
    return err;
}

/* As when a signal handler forks: the child returns into the hook. */
Test(records, what_the_parent_began_is_not_ended_in_the_child)
{
    struct pw_mark marks[PW_RECORDS_GOING_ON];

    for (int i = 0; i < PW_RECORDS_GOING_ON; i++)
        marks[i] = pw_records_begin(r, pages(10, 1), PW_EV_UNMAP);
    begun[0] = marks[0];
    begun[1] = pw_records_begin(r, pages(10, 1), PW_EV_UNMAP);
    cr_expect(zero(int, in_child(end_in_the_child, NULL)));
}

static char stack[1 << 16];

static int change_in_same_memory(void *arg)
{
    (void)arg;
    change(pages(5, 1), PW_EV_REMAP);
    return 0;
}

Test(records, a_process_with_the_same_memory_writes_to_the_same_records)
{
    struct pw_change c;
    pid_t pid = clone(change_in_same_memory, stack + sizeof stack,
                      CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);

    cr_assert(lt(int, 0, pid));
    waitpid(pid, NULL, 0);
    cr_expect(eq(int, read_one(&c), 1));
    cr_expect(eq(uint, c.cause, PW_EV_REMAP));
}

/* ---- threads ---- */

enum { WRITERS = 4, EACH = 20000 };

static void *write_many(void *arg)
{
    uintptr_t me = (uintptr_t)arg;

    for (uintptr_t i = 0; i < EACH; i++)
        change(pages(me * EACH + i, me + 1), PW_EV_UNMAP);
    return NULL;
}

/* A range fits its writer, and each writer's come in order. */
static void check_told(const struct pw_change *c, uintptr_t last[WRITERS])
{
    uintptr_t first = c->range.start / PAGE, writer = first / EACH;

    cr_assert(lt(ulong, writer, (unsigned long)WRITERS));
    cr_assert(eq(ulong, c->range.end, c->range.start + (writer + 1) * PAGE));
    cr_assert(ge(ulong, first, last[writer]));
    last[writer] = first + 1;
}

Test(records, no_record_is_torn_while_threads_write)
{
    uintptr_t last[WRITERS] = { 0 };
    pthread_t threads[WRITERS];
    struct pw_change c[16];
    uint64_t seen = 0;

    for (uintptr_t i = 0; i < WRITERS; i++)
        cr_assert(zero(int, pthread_create(&threads[i], NULL, write_many, (void *)i)));
    while (seen < (uint64_t)WRITERS * EACH) {
        int n = pw_records_read(r, &reader, c, 16);

        for (int i = 0; i < n; i++)
            if (c[i].cause != PW_EV_LOST)
                check_told(&c[i], last);
        seen = reader.next;
        if (!n)
            sched_yield();
    }
    for (int i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    cr_expect(ge(u64, r->word, (uint64_t)WRITERS * EACH));
    cr_expect(zero(int, watch(PW_RANGE_ALL)), "all have ended");
}

/* What the records are for. `pages_now` stands for the pages behind an address: it
 * changes between begin and end only. */
static uint64_t pages_now;
static int stop;

static void *change_pages(void *arg)
{
    (void)arg;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        struct pw_mark mark = pw_records_begin(r, pages(10, 1), PW_EV_UNMAP);

        __atomic_add_fetch(&pages_now, 1, __ATOMIC_RELEASE);
        pw_records_end(r, mark);
        for (int i = 0; i < 20; i++)
            change(pages(20, 1), PW_EV_UNMAP);
    }
    return NULL;
}

/* Pinned, found fresh, used while the word has not moved: the same pages. */
static int use_once(void)
{
    struct pw_watch w;
    uint64_t pinned, used;

    if (pw_records_watch(r, pages(10, 1), &w))
        return 0;
    pinned = __atomic_load_n(&pages_now, __ATOMIC_ACQUIRE);
    if (!pw_records_fresh(r, pages(10, 1), &w))
        return 0;
    used = __atomic_load_n(&pages_now, __ATOMIC_ACQUIRE);
    if (!pw_records_fresh(r, pages(10, 1), &w))
        return 0;
    return pinned == used ? 1 : -1;
}

Test(records, what_is_fresh_is_what_was_pinned)
{
    pthread_t threads[2];
    int uses = 0, wrong = 0;

    for (int i = 0; i < 2; i++)
        cr_assert(zero(int, pthread_create(&threads[i], NULL, change_pages, NULL)));
    for (int i = 0; i < 200000 || (!uses && i < 10000000); i++) {
        int how = use_once();

        uses += how > 0;
        wrong += how < 0;
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    cr_expect(zero(int, wrong));
    cr_expect(lt(int, 0, uses));
}

/* ---- what create refuses ---- */

static int without(void *arg)
{
    struct pw_records *other;
    const unsigned *call = arg;

    if (deny_call(call[0], call[1]))
        return 100;
    return -pw_records_create(&other) == (int)call[2] && !other ? 0 : 1;
}

Test(records, without_memory_that_fork_wipes_there_are_none)
{
    unsigned call[] = { SYS_madvise, EINVAL, ENODEV };

    cr_expect(zero(int, in_child(without, call)));
}

Test(records, without_memory_there_are_none)
{
    unsigned call[] = { SYS_mmap, ENOMEM, ENOMEM };

    cr_expect(zero(int, in_child(without, call)));
}

Test(records, to_destroy_none_is_fine)
{
    pw_records_destroy(NULL);
}
