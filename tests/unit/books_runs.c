/* SPDX-License-Identifier: BSD-3-Clause */
/* books_runs.c - runs that grow, are split, marked and claimed; pages that were
 * handed out before. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <errno.h>
#include <stdint.h>

#include "regcache/bits.h"
#include "regcache/books.h"

static struct pw_books books_of(uint32_t pages)
{
    struct pw_books b;

    cr_assert(eq(int, pw_books_init(&b, &pw_sys_real, pages), 0));
    return b;
}

static uint32_t worn(const struct pw_books *b, uint32_t from, uint32_t to)
{
    return (uint32_t)pw_bits_count(b->worn, from, to);
}

Test(books_runs, a_run_grows_into_free_pages_behind_it)
{
    struct pw_books b = books_of(100);
    uint32_t a = pw_books_take(&b, 10, 1), c;

    cr_expect(eq(int, pw_books_grow(&b, a, 30), 0));
    cr_expect(eq(u32, pw_books_length(&b, a), 30));
    cr_expect(eq(u32, b.used, 30));
    c = pw_books_take(&b, 5, 1);
    cr_expect(eq(u32, c, a + 30));
    cr_expect(eq(int, pw_books_grow(&b, a, 31), -ENOMEM), "the next page is taken");
    cr_expect(eq(int, pw_books_grow(&b, c, 71), -ENOMEM), "there are 70");
    cr_expect(eq(int, pw_books_grow(&b, c, 70), 0), "all of them");
    cr_expect(eq(int, pw_books_grow(&b, c, 70), 0), "as it is");
    cr_expect(eq(int, pw_books_grow(&b, c, 71), -ENOMEM), "the end");
    cr_expect(eq(int, pw_books_grow(&b, a, 5), -EINVAL), "that is no growth");
    cr_expect(eq(int, pw_books_grow(&b, a + 1, 50), -EINVAL), "no run starts there");
    pw_books_fini(&b);
}

Test(books_runs, a_run_is_split_in_two_with_one_mark)
{
    struct pw_books b = books_of(100);
    uint32_t a = pw_books_take(&b, 10, 1);

    cr_expect(eq(u32, pw_books_marked(&b, a), 0));
    pw_books_mark(&b, a, 7);
    cr_expect(eq(int, pw_books_split(&b, a, 10), -EINVAL), "nothing would be left");
    cr_expect(eq(int, pw_books_split(&b, a, 0), -EINVAL));
    cr_expect(eq(int, pw_books_split(&b, a + 1, 2), -EINVAL), "no run starts there");
    cr_expect(eq(int, pw_books_split(&b, a, 4), 0));
    cr_expect(eq(u32, pw_books_length(&b, a), 4));
    cr_expect(eq(u32, pw_books_length(&b, a + 4), 6));
    cr_expect(eq(u32, pw_books_marked(&b, a), 7));
    cr_expect(eq(u32, pw_books_marked(&b, a + 4), 7));
    cr_expect(eq(int, pw_books_give(&b, a), 0));
    cr_expect(eq(int, pw_books_give(&b, a + 4), 0));
    cr_expect(eq(u32, b.used, 0));
    cr_expect(eq(u32, pw_books_marked(&b, a), 0), "no run, no mark");
    a = pw_books_take(&b, 100, 1);
    cr_expect(eq(u32, pw_books_marked(&b, a), 0), "a new one has none");
    pw_books_fini(&b);
}

Test(books_runs, the_runs_are_found_one_after_the_other)
{
    struct pw_books b = books_of(64);
    uint32_t n = 0, a = pw_books_take(&b, 3, 1), h = pw_books_take(&b, 5, 1);
    uint32_t c = pw_books_take(&b, 7, 1);

    pw_books_give(&b, h);
    cr_expect(eq(u32, pw_books_next(&b, 0, &n), a));
    cr_expect(eq(u32, n, 3));
    cr_expect(eq(u32, pw_books_next(&b, a + n, &n), c), "the hole is passed over");
    cr_expect(eq(u32, n, 7));
    cr_expect(eq(u32, pw_books_next(&b, c + n, &n), PW_BOOKS_NONE));
    pw_books_give(&b, a);
    pw_books_give(&b, c);
    cr_expect(eq(u32, pw_books_next(&b, 0, &n), PW_BOOKS_NONE), "an empty pool");
    pw_books_take(&b, 64, 1);
    cr_expect(eq(u32, pw_books_next(&b, 0, &n), 0));
    cr_expect(eq(u32, pw_books_next(&b, n, &n), PW_BOOKS_NONE), "a full one");
    pw_books_fini(&b);
}

Test(books_runs, a_part_of_a_hole_is_claimed)
{
    struct pw_books b = books_of(100);
    uint32_t a = pw_books_take(&b, 60, 1), z = pw_books_take(&b, 40, 1);
    struct pw_books_run hole;

    cr_assert(eq(int, pw_books_give_into(&b, a, &hole), 0));
    cr_expect(eq(u32, hole.first, 0));
    cr_expect(eq(u32, hole.n, 60));
    cr_expect(eq(int, pw_books_claim(&b, hole, 50, 11), -EINVAL), "beyond its end");
    cr_expect(eq(int, pw_books_claim(&b, hole, 10, 0), -EINVAL));
    cr_expect(eq(int, pw_books_claim(&b, hole, 10, 20), 0));
    cr_expect(eq(u32, pw_books_length(&b, 10), 20));
    cr_expect(eq(u32, b.used, 60));
    cr_expect(eq(int, pw_books_claim(&b, hole, 40, 5), -EINVAL), "it is another hole now");
    cr_assert(eq(int, pw_books_give_into(&b, 10, &hole), 0));
    cr_expect(eq(u32, hole.n, 60), "the pieces are one again");
    cr_expect(eq(int, pw_books_give_into(&b, 10, &hole), -EINVAL), "twice");
    cr_expect(eq(int, pw_books_claim(&b, hole, 0, 60), 0), "all of it");
    pw_books_give(&b, 0);
    pw_books_give(&b, z);
    pw_books_fini(&b);
}

Test(books_runs, pages_are_worn_once_they_come_back)
{
    struct pw_books b = books_of(200);
    uint32_t a = pw_books_take(&b, 100, 1);

    cr_expect(eq(u32, worn(&b, 0, 200), 0), "a new pool is fresh");
    pw_books_give(&b, a);
    cr_expect(eq(u32, b.worn_free, 100));
    cr_expect(eq(u32, worn(&b, a, a + 100), 100));

    a = pw_books_take(&b, 60, 1);
    cr_expect(eq(u32, b.worn_free, 40), "what is taken is not free");
    cr_expect(eq(u32, worn(&b, a, a + 60), 60), "its bits tell what it was");
    cr_expect(eq(int, pw_books_undo(&b, a), 0));
    cr_expect(eq(u32, b.worn_free, 100), "as before");

    a = pw_books_take(&b, 150, 1);
    cr_expect(eq(u32, b.worn_free, 0));
    pw_books_undo(&b, a);
    cr_expect(eq(u32, b.worn_free, 100), "unused pages are as fresh as they were");
    cr_expect(eq(int, pw_books_undo(&b, a), -EINVAL));

    pw_books_refresh(&b, 10, 30);
    cr_expect(eq(u32, b.worn_free, 70));
    cr_expect(eq(u32, worn(&b, 10, 40), 0));
    pw_books_fini(&b);
}

/* worn_free is the number of worn bits of free pages, whatever happens. */
Test(books_runs, the_count_of_worn_pages_agrees_with_their_bits)
{
    enum { PAGES = 3000, RUNS = 40 };
    struct pw_books b = books_of(PAGES);
    uint32_t run[RUNS], state = 12345;

    for (int i = 0; i < RUNS; i++)
        run[i] = PW_BOOKS_NONE;
    for (int turn = 0; turn < 20000; turn++) {
        uint32_t *r = &run[(state = state * 1664525u + 1013904223u) >> 8 & 31], free_worn = 0;
        uint32_t len = *r == PW_BOOKS_NONE ? 0 : pw_books_length(&b, *r), n = state >> 20 & 127;
        struct pw_books_run hole;

        if (!len) {
            *r = pw_books_take(&b, n + 1, 1u << (state >> 27 & 3));
        } else if (turn % 5 == 0) {
            pw_books_grow(&b, *r, len + n);
        } else if (turn % 5 == 1 && len > 1) {
            pw_books_split(&b, *r, len / 2);
            pw_books_undo(&b, *r + len / 2);
        } else {
            pw_books_give_into(&b, *r, &hole);
            if (turn % 5 == 2 && !pw_books_claim(&b, hole, hole.first + hole.n / 3,
                                                 hole.n / 3)) {
                pw_books_undo(&b, hole.first + hole.n / 3);
                pw_books_refresh(&b, hole.first + hole.n / 3, hole.n / 3);
            }
            *r = PW_BOOKS_NONE;
        }
        if (turn % 50)
            continue;
        for (uint32_t at = 0, len2; at < PAGES; at += len2) {
            uint32_t next = pw_books_next(&b, at, &len2);

            if (next == PW_BOOKS_NONE)
                next = PAGES, len2 = 0;
            free_worn += worn(&b, at, next);
            len2 += next - at;
        }
        cr_assert(eq(u32, b.worn_free, free_worn), "turn %d", turn);
    }
    pw_books_fini(&b);
}
