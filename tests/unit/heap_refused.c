/* SPDX-License-Identifier: BSD-3-Clause */
/* heap_refused.c - a heap in a pool whose kernel refuses something. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pinwheel/heap.h"
#include "pool_fake_sys.h"
#include "regcache/pool_inner.h"
#include "regcache/pool_sys.h"

#define MIB ((size_t)1 << 20)

static struct pw_pool *pool;

static void start(void)
{
    fake_reset();
}
TestSuite(heap_refused, .init = start);

static void pool_make(enum pw_pages pages)
{
    struct pw_pool_config config = { .size = 64 * MIB, .pages = pages };

    cr_assert(eq(int, pw_pool_open_sys(&config, &fake_sys, &pool), 0));
}

static int heap_make(size_t populate)
{
    struct pw_heap_config config = { .retain = 0, .populate = populate };

    return pw_heap_open(pool, &config);
}

static struct pw_heap_stats stats(void)
{
    struct pw_heap_stats s;

    pw_heap_describe(pool, &s);
    return s;
}

static bool only(const char *p, size_t len, char c)
{
    for (size_t i = 0; i < len; i++)
        if (p[i] != c)
            return false;
    return true;
}

Test(heap_refused, a_pool_that_children_would_share_serves_no_heap)
{
    pool_make(PW_PAGES_4K);
    fake_fail(FAKE_DONTDUMP, 1, EINVAL);
    cr_expect(eq(int, heap_make(0), -EINVAL));
    cr_expect(eq(ptr, pw_heap_alloc(pool, MIB, 0, 0), NULL));
    cr_expect(eq(int, heap_make(0), 0), "later it may");
    pw_pool_close(pool);
}

Test(heap_refused, no_memory_at_once_is_no_error_where_a_touch_will_do)
{
    char *p;

    pool_make(PW_PAGES_4K);
    cr_assert(eq(int, heap_make(32 * MIB), 0));
    fake_fail(FAKE_POPULATE, FAKE_ALWAYS, ENOMEM);
    p = pw_heap_alloc(pool, MIB, 0, 0);
    cr_assert(ne(ptr, p, NULL));
    memset(p, 1, MIB);
    cr_expect(eq(sz, pool->heap.populated, 0), "nothing is on the account");
    pw_pool_close(pool);
}

Test(heap_refused, a_touch_without_memory_loses_nothing)
{
    char *p;

    pool_make(PW_PAGES_4K);
    cr_assert(eq(int, heap_make(0), 0));
    p = pw_heap_alloc(pool, 2 * MIB, 0, 0);
    memset(p, 7, MIB);
    fake_fail(FAKE_POPULATE, 1, ENOMEM);
    cr_expect(eq(int, pw_heap_touch(pool, p, 2 * MIB), -ENOMEM));
    cr_expect(only(p, MIB, 7));
    cr_expect(eq(sz, pool->heap.populated, 0), "nothing is on the account");
    cr_expect(eq(int, pw_heap_touch(pool, p, 2 * MIB), 0), "later it may");
    fake_reset();
    cr_expect(eq(int, pw_heap_touch(pool, p, 2 * MIB), 0));
    cr_expect(eq(int, fake.all, 0), "what is there costs no call");
    cr_expect(only(p, MIB, 7));
    pw_pool_close(pool);
}

/* A file in /dev/shm may be out of room at any touch, and with strict overcommit a
 * memfd may be: SIGBUS. */
static void touch_is_not_trusted(void)
{
    char *p;

    cr_assert(eq(int, heap_make(0), 0));
    fake_fail(FAKE_POPULATE, FAKE_ALWAYS, ENOMEM);
    cr_expect(eq(ptr, pw_heap_alloc(pool, MIB, 0, 0), NULL), "it is to be ordinary");
    cr_expect(eq(u64, stats().blocks, 0));
    fake_reset();
    p = pw_heap_alloc(pool, MIB, 0, PW_HEAP_GROWS);
    cr_expect(ne(ptr, p, NULL));
    cr_expect(eq(int, fake.calls[FAKE_POPULATE] > 0, 1));
    fake_fail(FAKE_POPULATE, FAKE_ALWAYS, ENOMEM);
    cr_expect(eq(int, pw_heap_resize(pool, p, 2 * MIB), -ENOMEM));
    cr_expect(eq(sz, pw_heap_usable(pool, p), MIB));
    pw_pool_close(pool);
}

Test(heap_refused, a_file_of_limited_room_gives_memory_at_once_or_no_block)
{
    fake_fail(FAKE_MEMFD, FAKE_ALWAYS, ENOSYS);
    pool_make(PW_PAGES_4K);
    touch_is_not_trusted();
}

Test(heap_refused, strict_overcommit_gives_memory_at_once_or_no_block)
{
    pool_make(PW_PAGES_4K);
    fake.resv_pages = 2;        /* what every other file says */
    touch_is_not_trusted();
}

Test(heap_refused, memory_that_cannot_be_given_back_stays)
{
    char *p, *q;

    pool_make(PW_PAGES_4K);
    cr_assert(eq(int, heap_make(0), 0));
    p = pw_heap_alloc(pool, MIB, 0, 0);
    memset(p, 1, MIB);
    fake_fail(FAKE_FALLOCATE, 1, EOPNOTSUPP);
    cr_expect(eq(int, pw_heap_free(pool, p), 0));
    cr_expect(eq(u64, stats().dropped_bytes, 0));
    q = pw_heap_alloc(pool, MIB, 0, PW_HEAP_ZERO);
    cr_expect(eq(ptr, q, p));
    cr_expect(only(q, MIB, 0), "its bytes were not forgotten to be dirty");
    cr_expect(eq(int, pw_heap_free(pool, q), 0));
    cr_expect(eq(u64, stats().dropped_bytes, MIB));
    pw_pool_close(pool);
}

/* Reserved hugepages are the pool's own: giving one back gives up the reservation.
 * And a child can exchange them as a whole only. */
Test(heap_refused, reserved_hugepages_stay_and_are_copied_whole)
{
    char *p, *other;
    pid_t pid;
    int status;

    fake.free_pages = 64;
    pool_make(PW_PAGES_2M);
    cr_assert(eq(int, heap_make(SIZE_MAX), 0));
    p = pw_heap_alloc(pool, 4 * MIB, 0, 0);
    memset(p, 1, 4 * MIB);
    pw_heap_free(pool, p);
    cr_expect(eq(u64, stats().dropped_bytes, 0));

    p = pw_heap_alloc(pool, 100000, 0, 0);
    other = pw_pool_alloc(pool, 4096, 0);
    cr_assert(lt(sz, (size_t)(other - p), 2 * MIB), "they share a page");
    memset(p, 7, 100000);
    other[0] = 7;
    cr_assert(eq(int, pw_heap_fork_prepare(pool, PW_HEAP_ALONE), 0));
    cr_expect(eq(sz, pool->heap.snapshot.n, 1));
    cr_expect(eq(sz, pool->heap.snapshot.piece[0].len, 2 * MIB));
    pid = fork();
    if (pid == 0) {
        bool well = !pw_heap_fork_child(pool) && only(p, 100000, 7) && other[0] == 7;

        other[0] = p[0] = 8;
        _exit(!well);
    }
    pw_heap_fork_parent(pool);
    waitpid(pid, &status, 0);
    cr_expect(eq(int, status, 0));
    cr_expect(eq(chr, p[0], 7));
    cr_expect(eq(chr, other[0], 7));
    pw_pool_close(pool);
}

/* A page of 1 GiB is exchanged as a whole, too. */
Test(heap_refused, of_a_gigabyte_only_what_is_handed_out_is_copied)
{
    char *p, *gone, *other;
    pid_t pid;
    int status;

    fake.free_1g = 1;
    pool_make(PW_PAGES_1G);
    cr_assert(eq(int, heap_make(SIZE_MAX), 0));
    p = pw_heap_alloc(pool, 100000, 0, 0);
    gone = pw_heap_alloc(pool, 8 * MIB, 0, 0);
    other = pw_pool_alloc(pool, 4096, 0);
    memset(p, 7, 100000);
    memset(gone, 7, 8 * MIB);
    other[0] = 7;
    pw_heap_free(pool, gone);
    cr_expect(eq(u64, stats().dropped_bytes, 0));
    cr_assert(eq(int, pw_heap_fork_prepare(pool, PW_HEAP_ALONE), 0));
    cr_expect(eq(sz, pool->heap.snapshot.n, 1));
    cr_expect(eq(sz, pool->heap.snapshot.piece[0].len, 1024 * MIB));
    pid = fork();
    if (pid == 0) {
        bool well = !pw_heap_fork_child(pool) && only(p, 100000, 7) && other[0] == 7 &&
                    only(gone, 8 * MIB, 0);

        other[0] = p[0] = 8;
        _exit(!well);
    }
    pw_heap_fork_parent(pool);
    waitpid(pid, &status, 0);
    cr_expect(eq(int, status, 0));
    cr_expect(eq(chr, p[0], 7));
    cr_expect(eq(chr, other[0], 7));
    cr_expect(eq(u64, stats().fork_bytes, 25 * 4096 + 4096));
    pw_pool_close(pool);
}

/* A touch beyond what a user may have pinned is a SIGBUS. */
Test(heap_refused, the_drivers_pages_come_before_the_block_and_go_back)
{
    char *p;

    fake.pinnable = 64 * MIB;
    pool_make(PW_PAGES_KDRIVER);
    cr_assert(eq(int, heap_make(0), 0));
    fake_fail(FAKE_KD_FILL, 1, EDQUOT);
    cr_expect(eq(ptr, pw_heap_alloc(pool, 4 * MIB, 0, 0), NULL));
    p = pw_heap_alloc(pool, 4 * MIB, 0, 0);
    cr_assert(ne(ptr, p, NULL));
    cr_expect(eq(u64, fake.filled, 4 * MIB), "all of it, whatever the bound");
    memset(p, 1, 4 * MIB);
    cr_expect(eq(int, pw_heap_free(pool, p), 0));
    cr_expect(eq(u64, stats().dropped_bytes, 4 * MIB));
    cr_expect(eq(u64, fake.drained, 8 * MIB), "also of the one that was refused");
    p = pw_heap_alloc(pool, 4 * MIB, 0, PW_HEAP_ZERO);
    cr_expect(only(p, 4 * MIB, 0));
    fake_fail(FAKE_KD_DRAIN, 1, EBADF);
    cr_expect(eq(int, pw_heap_free(pool, p), 0));
    cr_expect(eq(u64, stats().dropped_bytes, 4 * MIB));
    pw_pool_close(pool);
}

Test(heap_refused, a_fork_without_memory_for_copies_is_told_of)
{
    char *p;

    pool_make(PW_PAGES_4K);
    cr_assert(eq(int, heap_make(0), 0));
    p = pw_heap_alloc(pool, 3 * MIB, 0, 0);
    memset(p, 1, 3 * MIB);
    for (int nth = 1; nth <= 2; nth++) {
        int status;
        pid_t pid;

        fake_fail(FAKE_MMAP, nth, ENOMEM);
        cr_expect(eq(int, pw_heap_fork_prepare(pool, PW_HEAP_ALONE), -ENOMEM), "mmap %d", nth);
        pid = fork();
        if (pid == 0)
            _exit(pw_heap_fork_child(pool) != -ENOMEM);
        pw_heap_fork_parent(pool);
        waitpid(pid, &status, 0);
        cr_expect(eq(int, status, 0), "the child is told too");
    }
    cr_expect(only(p, 3 * MIB, 1));
    cr_expect(eq(int, pw_heap_free(pool, p), 0), "nothing is locked");
    pw_pool_close(pool);
}
