/* SPDX-License-Identifier: BSD-3-Clause */
/* heap.c - blocks of a malloc in the pool, and what a forked child gets of them. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pinwheel/heap.h"
#include "regcache/pool_inner.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define PAGE (4 * KIB)

static const struct pw_heap_config defaults = { .retain = SIZE_MAX, .populate = SIZE_MAX };

static struct pw_pool *heap_of(size_t size, enum pw_pages pages, struct pw_heap_config heap)
{
    struct pw_pool_config config = { .size = size, .pages = pages };
    struct pw_pool *pool;

    cr_assert(eq(int, pw_pool_open(&config, &pool), 0));
    cr_assert(eq(int, pw_heap_open(pool, &heap), 0));
    return pool;
}

static struct pw_heap_stats stats(struct pw_pool *pool)
{
    struct pw_heap_stats s;

    pw_heap_describe(pool, &s);
    return s;
}

/* Bytes of memory behind the pool. */
static size_t memory(struct pw_pool *pool)
{
    struct stat st;

    cr_assert(eq(int, fstat(pw_pool_fd(pool), &st), 0));
    return (size_t)st.st_blocks * 512;
}

static bool only(const char *p, size_t len, char c)
{
    for (size_t i = 0; i < len; i++)
        if (p[i] != c)
            return false;
    return true;
}

Test(heap, blocks_and_other_memory_share_the_pool)
{
    struct pw_pool *pool = heap_of(64 * MIB, PW_PAGES_AUTO, defaults);
    char *block = pw_heap_alloc(pool, 100 * KIB, 0, 0), *other = pw_pool_alloc(pool, MIB, 0);

    cr_assert(ne(ptr, block, NULL));
    cr_assert(ne(ptr, other, NULL));
    cr_expect(eq(sz, pw_heap_usable(pool, block), 100 * KIB));
    cr_expect(eq(sz, pw_heap_usable(pool, other), 0), "that is no block");
    cr_expect(eq(int, pw_heap_free(pool, other), -EINVAL));
    cr_expect(eq(int, pw_heap_resize(pool, other, PAGE), -EINVAL));
    cr_expect(eq(u64, stats(pool).blocks, 1));

    /* MPI_Free_mem of what was ordinary memory when the pool was full. */
    cr_expect(eq(int, pw_pool_free(pool, block), 0));
    cr_expect(eq(u64, stats(pool).blocks, 0));
    cr_expect(eq(u64, stats(pool).bytes, 0));
    cr_expect(eq(int, pw_heap_free(pool, block), -EINVAL), "twice");
    cr_expect(eq(int, pw_pool_free(pool, other), 0));
    pw_pool_close(pool);
}

Test(heap, an_eighth_is_left_to_others)
{
    struct pw_pool *pool = heap_of(64 * MIB, PW_PAGES_4K, defaults);

    cr_expect(eq(ptr, pw_heap_alloc(pool, 57 * MIB, 0, 0), NULL));
    cr_expect(ne(ptr, pw_heap_alloc(pool, 54 * MIB, 0, 0), NULL));
    cr_expect(eq(ptr, pw_heap_alloc(pool, 3 * MIB, 0, 0), NULL));
    cr_expect(ne(ptr, pw_pool_alloc(pool, 6 * MIB, 0), NULL), "an other");
    cr_expect(eq(u64, stats(pool).full, 2));
    cr_expect(eq(u64, stats(pool).full_bytes, 60 * MIB));
    cr_expect(eq(ptr, pw_heap_alloc(pool, PAGE, 4 * MIB, 0), NULL), "align too big");
    cr_expect(eq(ptr, pw_heap_alloc(pool, 0, 0, 0), NULL));
    pw_pool_close(pool);
}

Test(heap, a_touch_brings_the_memory_of_its_pages_and_keeps_what_is_there)
{
    struct pw_pool *pool = heap_of(64 * MIB, PW_PAGES_4K,
                                   (struct pw_heap_config){ SIZE_MAX, 0 });
    char *p = pw_heap_alloc(pool, 4 * MIB, 0, 0);
    size_t before;

    memset(p, 7, MIB);
    before = memory(pool);
    cr_expect(eq(int, pw_heap_touch(pool, p + MIB / 2 + 1, MIB), 0));
    cr_expect(eq(sz, memory(pool), before + MIB / 2 + PAGE));
    cr_expect(only(p, MIB, 7));
    cr_expect(only(p + MIB, 3 * MIB, 0));
    cr_expect(eq(sz, pool->heap.populated, MIB + PAGE));
    pw_heap_free(pool, p);
    pw_pool_close(pool);
}

Test(heap, a_pool_serves_one_heap)
{
    struct pw_pool *pool = heap_of(16 * MIB, PW_PAGES_4K, defaults);

    cr_expect(eq(int, pw_heap_open(pool, &defaults), -EBUSY));
    pw_pool_close(pool);
}

Test(heap, without_a_heap_there_are_no_blocks)
{
    struct pw_pool_config config = { .size = 16 * MIB, .pages = PW_PAGES_4K };
    struct pw_pool *pool;

    cr_assert(eq(int, pw_pool_open(&config, &pool), 0));
    cr_expect(eq(ptr, pw_heap_alloc(pool, MIB, 0, 0), NULL));
    pw_pool_close(pool);
}

/* Bytes that were never handed out are zero and are not wiped: that would take
 * memory. */
Test(heap, zeros_cost_nothing_in_a_fresh_pool)
{
    struct pw_heap_config config = { .retain = SIZE_MAX, .populate = 0 };
    struct pw_pool *pool = heap_of(256 * MIB, PW_PAGES_4K, config);
    char *p = pw_heap_alloc(pool, 100 * MIB, 0, PW_HEAP_ZERO);

    cr_assert(ne(ptr, p, NULL));
    cr_expect(lt(sz, memory(pool), MIB));
    memset(p + 10 * MIB, 1, MIB);
    pw_heap_free(pool, p);
    p = pw_heap_alloc(pool, 100 * MIB, 0, PW_HEAP_ZERO);
    cr_expect(only(p, 100 * MIB, 0));
    pw_pool_close(pool);
}

Test(heap, memory_comes_at_once_up_to_a_bound)
{
    struct pw_heap_config config = { .retain = SIZE_MAX, .populate = 8 * MIB };
    struct pw_pool *pool = heap_of(256 * MIB, PW_PAGES_4K, config);

    pw_heap_alloc(pool, 6 * MIB, 0, 0);
    cr_expect(ge(sz, memory(pool), 6 * MIB));
    pw_heap_alloc(pool, 6 * MIB, 0, 0);
    cr_expect(lt(sz, memory(pool), 7 * MIB), "it would be beyond");
    pw_heap_alloc(pool, MIB, 0, 0);
    cr_expect(ge(sz, memory(pool), 7 * MIB), "this is not");
    pw_pool_close(pool);
}

Test(heap, a_block_changes_its_length_where_it_is)
{
    struct pw_pool *pool = heap_of(256 * MIB, PW_PAGES_4K, defaults);
    char *p = pw_heap_alloc(pool, 3 * MIB, 0, PW_HEAP_GROWS), *q;

    memset(p, 5, 3 * MIB);
    cr_expect(eq(int, pw_heap_resize(pool, p, 5 * MIB), 0));
    memset(p + 3 * MIB, 5, 2 * MIB);
    cr_expect(eq(u64, stats(pool).bytes, 5 * MIB));
    cr_expect(eq(int, pw_heap_resize(pool, p, 5 * MIB - 1), 0), "the same pages");
    cr_expect(eq(int, pw_heap_resize(pool, p, MIB), 0));
    cr_expect(eq(u64, stats(pool).bytes, MIB));
    cr_expect(only(p, MIB, 5));
    q = pw_heap_alloc(pool, 100 * KIB, 0, 0);
    cr_expect(eq(int, pw_heap_resize(pool, q, 200 * MIB), -ENOMEM), "that is all of it");
    cr_expect(eq(int, pw_heap_resize(pool, q, SIZE_MAX), -ENOMEM));
    cr_expect(eq(int, pw_heap_resize(pool, p, 0), -EINVAL));
    cr_expect(eq(int, pw_heap_resize(pool, p + PAGE, MIB), -EINVAL), "inside of it");
    cr_expect(eq(u64, stats(pool).blocks, 2));
    pw_pool_close(pool);
}

static void churn(struct pw_pool *pool, int n)
{
    char *p[64];

    for (int i = 0; i < n; i++)
        memset(p[i] = pw_heap_alloc(pool, MIB, 0, 0), 1, MIB);
    for (int i = 0; i < n; i++)
        cr_assert(eq(int, pw_heap_free(pool, p[(i * 5) % n]), 0));
}

TestSuite(heap_memory);
static void freed_memory_goes_beyond(enum pw_pages pages)
{
    struct pw_heap_config config = { .retain = 4 * MIB, .populate = SIZE_MAX };
    struct pw_pool *pool = heap_of(256 * MIB, pages, config);
    char *p;

    churn(pool, 32);
    cr_expect(le(sz, memory(pool), 8 * MIB), "%zu bytes stay", memory(pool));
    cr_expect(ge(u64, stats(pool).dropped_bytes, 26 * MIB));
    p = pw_heap_alloc(pool, 64 * MIB, 0, PW_HEAP_ZERO);
    cr_expect(only(p, 64 * MIB, 0));
    pw_pool_close(pool);
}

Test(heap_memory, what_is_freed_beyond_the_bound_goes_by_small_pages)
{
    freed_memory_goes_beyond(PW_PAGES_4K);
}

Test(heap_memory, and_by_the_best_there_are)
{
    freed_memory_goes_beyond(PW_PAGES_AUTO);
}

/* A NIC has pinned the pool: other pages behind its addresses would not be those. */
Test(heap_memory, nothing_goes_while_somebody_holds_the_pool)
{
    struct pw_heap_config config = { .retain = 0, .populate = SIZE_MAX };
    struct pw_pool *pool = heap_of(256 * MIB, PW_PAGES_4K, config);

    pw_pool_hold(pool);
    pw_pool_hold(pool);
    churn(pool, 16);
    pw_pool_release(pool);
    churn(pool, 16);
    cr_expect(ge(sz, memory(pool), 16 * MIB));
    cr_expect(eq(u64, stats(pool).dropped_bytes, 0));
    pw_pool_release(pool);
    churn(pool, 16);
    cr_expect(le(sz, memory(pool), MIB));
    pw_pool_close(pool);
}

/* ---- fork ---- */

/* fork() as libpinwheel-malloc does it. */
static pid_t heap_fork(struct pw_pool *pool, unsigned flags, int *err)
{
    pid_t pid;

    *err = pw_heap_fork_prepare(pool, flags);
    pid = fork();
    if (pid == 0)
        *err = pw_heap_fork_child(pool);
    else
        pw_heap_fork_parent(pool);
    return pid;
}

static int died_of(int status)
{
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static int status_of(pid_t pid)
{
    int status = -1;

    waitpid(pid, &status, 0);
    return status;
}

Test(heap_fork, a_child_has_copies_of_blocks_and_shares_the_rest)
{
    struct pw_pool *pool = heap_of(64 * MIB, PW_PAGES_AUTO, defaults);
    char *block = pw_heap_alloc(pool, 5 * MIB, 0, 0), *other = pw_pool_alloc(pool, MIB, 0);
    int err;
    pid_t pid;

    memset(block, 1, 5 * MIB);
    memset(other, 1, MIB);
    pid = heap_fork(pool, PW_HEAP_ALONE, &err);
    if (pid == 0) {
        bool well = !err && only(block, 5 * MIB, 1) && only(other, MIB, 1);

        memset(block, 2, 5 * MIB);
        memset(other, 2, MIB);
        well = well && pw_heap_usable(pool, block) == 5 * MIB &&
               !pw_heap_alloc(pool, MIB, 0, 0) && !pw_heap_resize(pool, block, MIB) &&
               !pw_heap_free(pool, block) && pw_heap_free(pool, block) == -EINVAL;
        _exit(!well);
    }
    cr_expect(eq(int, err, 0));
    cr_expect(eq(int, status_of(pid), 0));
    cr_expect(only(block, 5 * MIB, 1), "the child wrote to its own");
    cr_expect(only(other, MIB, 2), "the child wrote to the shared");
    cr_expect(eq(u64, stats(pool).forks, 1));
    cr_expect(ne(ptr, pw_heap_alloc(pool, MIB, 0, 0), NULL), "the parent goes on");
    pw_pool_close(pool);
}

Test(heap_fork, without_copies_a_child_has_no_blocks)
{
    struct pw_pool *pool = heap_of(64 * MIB, PW_PAGES_4K, defaults);
    volatile char *block = pw_heap_alloc(pool, MIB, 0, 0), *other = pw_pool_alloc(pool, MIB, 0);
    int err, status;
    pid_t pid = heap_fork(pool, PW_HEAP_NO_COPIES, &err);

    if (pid == 0) {
        signal(SIGSEGV, SIG_DFL);
        other[0] = 3;
        block[0] = 3;
        _exit(0);
    }
    status = status_of(pid);
    cr_expect(eq(int, died_of(status), SIGSEGV), "status %#x", (unsigned)status);
    cr_expect(eq(chr, other[0], 3));
    cr_expect(eq(chr, block[0], 0));
    cr_expect(eq(u64, stats(pool).forks, 0));
    pw_pool_close(pool);
}

Test(heap_fork, a_fork_that_nobody_accompanies_takes_the_addresses_away)
{
    struct pw_pool *pool = heap_of(64 * MIB, PW_PAGES_4K, defaults);
    volatile char *block = pw_heap_alloc(pool, MIB, 0, 0);
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        signal(SIGSEGV, SIG_DFL);
        block[0] = 3;
        _exit(0);
    }
    status = status_of(pid);
    cr_expect(eq(int, died_of(status), SIGSEGV), "status %#x", (unsigned)status);
    cr_expect(eq(chr, block[0], 0));
    pw_pool_close(pool);
}

Test(heap_fork, without_its_descriptor_a_pool_still_gives_copies)
{
    struct pw_pool *pool = heap_of(64 * MIB, PW_PAGES_4K, defaults);
    char *block = pw_heap_alloc(pool, MIB, 0, 0);
    int err, fd = pw_pool_fd(pool);
    pid_t pid;

    memset(block, 6, MIB);
    close(fd);
    cr_assert(eq(int, open("/dev/zero", O_RDWR), fd), "another file has its number");
    pid = heap_fork(pool, PW_HEAP_ALONE, &err);
    if (pid == 0)
        _exit(err || !only(block, MIB, 6));
    cr_expect(eq(int, status_of(pid), 0));
    pw_pool_close(pool);
}
