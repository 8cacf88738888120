/* SPDX-License-Identifier: BSD-3-Clause */
/* doubts.c - ranges in doubt: what was added stays in doubt until it is removed,
 * however many there are. Pages are numbered from a start of their own. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>

#include "regcache/doubts.h"

enum { PAGE = 4096, START = 1 << 20 };

static struct pw_doubts d;

/* Pages [from, to). */
static struct pw_range pages(int from, int to)
{
    return (struct pw_range){ START + (uintptr_t)from * PAGE, START + (uintptr_t)to * PAGE };
}

static bool doubtful(int page)
{
    int err = pw_doubts_check(&d, pages(page, page + 1));

    cr_assert(err == 0 || err == -EOPNOTSUPP, "%d", err);
    return err;
}

static void expect_doubtful(int from, int to)
{
    for (int i = from; i < to; i++)
        cr_expect(doubtful(i), "page %d", i);
}

static void expect_clear(int from, int to)
{
    for (int i = from; i < to; i++)
        cr_expect(eq(int, doubtful(i), false), "page %d", i);
}

Test(doubts, there_are_none_to_begin_with)
{
    expect_clear(0, 10);
}

Test(doubts, what_is_added_is_in_doubt_and_its_neighbours_are_not)
{
    pw_doubts_add(&d, pages(3, 6));
    expect_clear(0, 3);
    expect_doubtful(3, 6);
    expect_clear(6, 9);
    cr_expect(eq(int, pw_doubts_check(&d, pages(0, 4)), -EOPNOTSUPP));
    cr_expect(eq(int, pw_doubts_check(&d, pages(5, 9)), -EOPNOTSUPP));
    cr_expect(eq(int, pw_doubts_check(&d, pages(0, 9)), -EOPNOTSUPP));
}

Test(doubts, ranges_that_touch_become_one)
{
    pw_doubts_add(&d, pages(0, 2));
    pw_doubts_add(&d, pages(4, 6));
    cr_expect(eq(uint, d.n, 2));
    pw_doubts_add(&d, pages(2, 4));
    cr_expect(eq(uint, d.n, 1));
    expect_doubtful(0, 6);
    pw_doubts_add(&d, pages(1, 3));
    cr_expect(eq(uint, d.n, 1));
    expect_clear(6, 8);
}

Test(doubts, the_middle_of_one_can_be_removed)
{
    pw_doubts_add(&d, pages(0, 10));
    pw_doubts_remove(&d, pages(4, 6));
    expect_doubtful(0, 4);
    expect_clear(4, 6);
    expect_doubtful(6, 10);
}

Test(doubts, several_are_removed_or_cut_at_once)
{
    pw_doubts_add(&d, pages(0, 3));
    pw_doubts_add(&d, pages(4, 5));
    pw_doubts_add(&d, pages(6, 7));
    pw_doubts_add(&d, pages(8, 11));
    pw_doubts_remove(&d, pages(2, 9));
    expect_doubtful(0, 2);
    expect_clear(2, 9);
    expect_doubtful(9, 11);
    pw_doubts_remove(&d, pages(0, 100));
    cr_expect(eq(uint, d.n, 0));
}

Test(doubts, one_that_is_not_there_is_removed_without_harm)
{
    pw_doubts_add(&d, pages(4, 6));
    pw_doubts_remove(&d, pages(0, 4));
    pw_doubts_remove(&d, pages(6, 9));
    expect_doubtful(4, 6);
}

/* Too many: more is in doubt than was added, never less. */
Test(doubts, beyond_the_table_the_nearest_are_joined)
{
    for (int i = 0; i < PW_DOUBTS; i++)
        pw_doubts_add(&d, pages(10 * i, 10 * i + 1));
    expect_clear(1, 10);

    pw_doubts_add(&d, pages(13, 14));
    cr_expect(eq(uint, d.n, PW_DOUBTS));
    expect_doubtful(10, 14);
    expect_clear(14, 20);
    for (int i = 0; i < PW_DOUBTS; i++)
        expect_doubtful(10 * i, 10 * i + 1);

    pw_doubts_remove(&d, pages(11, 12));
    expect_doubtful(11, 12);        /* no room for a second part */
}

/* One writer, one reader: a page that is always in doubt is never found clear,
 * while the ranges around it come, go, join and move in the table. */
static bool stop;

static void *write_around(void *arg)
{
    (void)arg;
    for (int i = 0; i < 20000; i++) {
        pw_doubts_add(&d, pages(i % 7, i % 7 + 1));
        pw_doubts_add(&d, pages(101, 102));
        pw_doubts_remove(&d, pages(0, 10));
        pw_doubts_remove(&d, pages(101, 102));
    }
    __atomic_store_n(&stop, true, __ATOMIC_RELEASE);
    return NULL;
}

Test(doubts, a_reader_beside_the_writer_is_never_wrong)
{
    pthread_t writer;
    long wrong = 0;

    pw_doubts_add(&d, pages(100, 101));
    cr_assert(eq(int, pthread_create(&writer, NULL, write_around, NULL), 0));
    while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
        wrong += pw_doubts_check(&d, pages(100, 101)) == 0;
        wrong += pw_doubts_check(&d, pages(50, 60)) == -EOPNOTSUPP;
    }
    pthread_join(writer, NULL);
    cr_expect(eq(long, wrong, 0));
    expect_doubtful(100, 101);
    expect_clear(0, 100);
}
