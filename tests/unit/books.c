/* SPDX-License-Identifier: BSD-3-Clause */
/* books.c - the pool's allocator, on page numbers alone. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "regcache/books.h"

#define LARGE PW_BOOKS_LARGE

static struct pw_books books_of(uint32_t pages)
{
    struct pw_books b;

    cr_assert(eq(int, pw_books_init(&b, &pw_sys_real, pages), 0));
    return b;
}

Test(books, sizes_that_cannot_be_kept_are_refused)
{
    struct pw_books b;

    cr_expect(eq(int, pw_books_init(&b, &pw_sys_real, 0), -EINVAL));
    cr_expect(eq(int, pw_books_init(&b, &pw_sys_real, PW_BOOKS_MAX + 1), -EINVAL));
}

static void *mmap_refused(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
    (void)addr, (void)len, (void)prot, (void)flags, (void)fd, (void)off;
    errno = ENOMEM;
    return MAP_FAILED;
}

Test(books, no_address_space_is_an_error)
{
    struct pw_sys sys = pw_sys_real;
    struct pw_books b;

    sys.mmap = mmap_refused;
    cr_expect(eq(int, pw_books_init(&b, &sys, 512), -ENOMEM));
}

/* 4 TiB of pool: 16 GiB of address space for records, of which three pages of
 * memory are in use. */
Test(books, the_biggest_pool_is_cheap)
{
    struct pw_books b = books_of(PW_BOOKS_MAX);
    uint32_t first = pw_books_take(&b, PW_BOOKS_MAX, 1);

    cr_expect(eq(u32, first, 0));
    cr_expect(eq(u32, pw_books_take(&b, 1, 1), PW_BOOKS_NONE));
    cr_expect(eq(int, pw_books_give(&b, first), 0));
    cr_expect(eq(u32, pw_books_take(&b, 1, PW_BOOKS_MAX), 0));
    pw_books_fini(&b);
}

Test(books, one_page_is_a_pool)
{
    struct pw_books b = books_of(1);

    cr_expect(eq(u32, pw_books_take(&b, 1, 1), 0));
    cr_expect(eq(u32, pw_books_take(&b, 1, 1), PW_BOOKS_NONE));
    cr_expect(eq(int, pw_books_give(&b, 0), 0));
    cr_expect(eq(u32, pw_books_take(&b, 1, 1), 0));
    pw_books_fini(&b);
}

Test(books, nothing_and_more_than_all_are_refused)
{
    struct pw_books b = books_of(64);

    cr_expect(eq(u32, pw_books_take(&b, 0, 1), PW_BOOKS_NONE));
    cr_expect(eq(u32, pw_books_take(&b, 65, 1), PW_BOOKS_NONE));
    cr_expect(eq(u32, pw_books_take(&b, UINT32_MAX, 1), PW_BOOKS_NONE));
    cr_expect(eq(u32, b.used, 0));
    pw_books_fini(&b);
}

Test(books, only_the_start_of_a_live_run_can_be_given_back)
{
    struct pw_books b = books_of(64);
    uint32_t first = pw_books_take(&b, 8, 1);

    cr_expect(eq(int, pw_books_give(&b, first + 1), -EINVAL), "inside");
    cr_expect(eq(int, pw_books_give(&b, first + 8), -EINVAL), "free block");
    cr_expect(eq(int, pw_books_give(&b, 64), -EINVAL), "past the end");
    cr_expect(eq(int, pw_books_give(&b, PW_BOOKS_NONE), -EINVAL));
    cr_expect(eq(u32, b.used, 8), "nothing changed");

    cr_expect(eq(int, pw_books_give(&b, first), 0));
    cr_expect(eq(int, pw_books_give(&b, first), -EINVAL), "twice");
    cr_expect(eq(u32, b.used, 0));
    pw_books_fini(&b);
}

/* The start of a free run that was merged into the one below it. */
Test(books, a_merged_start_is_no_start)
{
    struct pw_books b = books_of(64);
    uint32_t low = pw_books_take(&b, 8, 1), high = pw_books_take(&b, 8, 1);

    cr_assert(eq(u32, high, low + 8));
    pw_books_give(&b, low);
    pw_books_give(&b, high);
    cr_expect(eq(int, pw_books_give(&b, high), -EINVAL));
    cr_expect(eq(u32, pw_books_length(&b, high), 0));
    cr_expect(eq(u32, pw_books_take(&b, 64, 1), low), "one block again");
    pw_books_fini(&b);
}

Test(books, length_is_known_for_live_runs_only)
{
    struct pw_books b = books_of(64);
    uint32_t first = pw_books_take(&b, 7, 1);

    cr_expect(eq(u32, pw_books_length(&b, first), 7));
    cr_expect(eq(u32, pw_books_length(&b, first + 1), 0));
    cr_expect(eq(u32, pw_books_length(&b, 1000), 0));
    pw_books_give(&b, first);
    cr_expect(eq(u32, pw_books_length(&b, first), 0));
    pw_books_fini(&b);
}

/* Small runs packed at the bottom leave the rest for runs that need 2 MiB. */
Test(books, small_runs_stay_out_of_the_way_of_large_ones)
{
    struct pw_books b = books_of(8 * LARGE);

    for (int i = 0; i < 100; i++)
        cr_assert(lt(u32, pw_books_take(&b, 5, 1), LARGE));
    for (int i = 0; i < 7; i++) {
        uint32_t first = pw_books_take(&b, LARGE, LARGE);

        cr_assert(ne(u32, first, PW_BOOKS_NONE));
        cr_expect(eq(u32, first % LARGE, 0));
    }
    pw_books_fini(&b);
}

/* 2 MiB and a page: the rest of its last 2 MiB serves small runs. */
Test(books, what_a_large_run_leaves_over_is_used)
{
    struct pw_books b = books_of(4 * LARGE);
    uint32_t large = pw_books_take(&b, LARGE + 1, LARGE);

    cr_assert(eq(u32, large, 2 * LARGE));
    cr_expect(eq(u32, pw_books_take(&b, LARGE - 1, 1), large + LARGE + 1));
    pw_books_fini(&b);
}

Test(books, the_run_given_back_last_is_taken_first)
{
    struct pw_books b = books_of(16 * LARGE);
    const uint32_t sizes[] = { 1, 3, 256, LARGE, 3 * LARGE };

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint32_t align = sizes[i] < LARGE ? 1 : LARGE;
        uint32_t first = pw_books_take(&b, sizes[i], align);

        pw_books_give(&b, first);
        cr_expect(eq(u32, pw_books_take(&b, sizes[i], align), first));
    }
    pw_books_fini(&b);
}

/* Every other page free: half of the pool, and no two pages together. */
Test(books, a_pool_in_tatters_serves_single_pages_only)
{
    struct pw_books b = books_of(1024);

    for (uint32_t i = 0; i < 1024; i++)
        cr_assert(eq(u32, pw_books_take(&b, 1, 1), i));
    for (uint32_t i = 0; i < 1024; i += 2)
        pw_books_give(&b, i);
    cr_expect(eq(u32, pw_books_take(&b, 2, 1), PW_BOOKS_NONE));

    pw_books_give(&b, 501);
    cr_expect(eq(u32, pw_books_take(&b, 3, 1), 500), "the only hole of three");
    pw_books_fini(&b);
}

/* 64 holes of four pages, of which only the one freed first, and so looked at
 * last, starts on a multiple of 1024. */
Test(books, the_one_block_that_fits_is_found)
{
    struct pw_books b = books_of(1024);

    for (uint32_t i = 0; i < 64; i++) {
        cr_assert(eq(u32, pw_books_take(&b, 4, 1), 16 * i));
        cr_assert(eq(u32, pw_books_take(&b, 12, 1), 16 * i + 4));
    }
    for (uint32_t i = 0; i < 64; i++)
        cr_assert(eq(int, pw_books_give(&b, 16 * i), 0));

    cr_expect(eq(u32, pw_books_take(&b, 3, 1024), 0));
    cr_expect(eq(u32, pw_books_take(&b, 3, 1024), PW_BOOKS_NONE));
    pw_books_fini(&b);
}

/* The model: an owner for each page. */
#define PAGES 4096u
#define RUNS 200

struct model {
    uint8_t taken[PAGES];
    uint32_t first[RUNS], n[RUNS];
    uint32_t used;
};

static bool model_fits(const struct model *m, uint32_t n, uint32_t align)
{
    uint32_t run = 0;

    for (uint32_t at = PAGES; at-- > 0;) {
        run = m->taken[at] ? 0 : run + 1;
        if (run >= n && at % align == 0)
            return true;
    }
    return false;
}

static uint32_t dice(uint64_t *seed, uint32_t sides)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33) % sides;
}

static void model_take(struct model *m, struct pw_books *b, int slot, uint64_t *seed)
{
    uint32_t n = dice(seed, 8) ? 1 + dice(seed, 40) : 1 + dice(seed, 3 * LARGE);
    uint32_t align = n >= LARGE ? LARGE : 1u << dice(seed, 6);
    uint32_t first = pw_books_take(b, n, align);

    if (first == PW_BOOKS_NONE) {
        cr_assert(not(model_fits(m, n, align)), "refused %u pages on %u", n, align);
        return;
    }
    cr_assert(eq(u32, first % align, 0));
    cr_assert(le(u32, first + n, PAGES));
    for (uint32_t i = 0; i < n; i++) {
        cr_assert(not(m->taken[first + i]), "page %u given twice", first + i);
        m->taken[first + i] = 1;
    }
    m->first[slot] = first;
    m->n[slot] = n;
    m->used += n;
}

static void model_give(struct model *m, struct pw_books *b, int slot)
{
    cr_assert(eq(u32, pw_books_length(b, m->first[slot]), m->n[slot]));
    cr_assert(eq(int, pw_books_give(b, m->first[slot]), 0));
    memset(m->taken + m->first[slot], 0, m->n[slot]);
    m->used -= m->n[slot];
    m->n[slot] = 0;
}

static void books_agree_with_model(uint64_t seed)
{
    static struct model m;
    struct pw_books b = books_of(PAGES);

    memset(&m, 0, sizeof m);
    for (int step = 0; step < 20000; step++) {
        int slot = (int)dice(&seed, RUNS);

        if (m.n[slot])
            model_give(&m, &b, slot);
        else
            model_take(&m, &b, slot, &seed);
        cr_assert(eq(u32, b.used, m.used));
    }
    for (int slot = 0; slot < RUNS; slot++)
        if (m.n[slot])
            model_give(&m, &b, slot);
    cr_expect(eq(u32, pw_books_take(&b, PAGES, 1), 0), "all coalesced");
    pw_books_fini(&b);
}

Test(books, random_runs_agree_with_a_simple_model)
{
    for (uint64_t seed = 1; seed <= 5; seed++)
        books_agree_with_model(seed);
}
