/* SPDX-License-Identifier: BSD-3-Clause */
/* hooks_effects.c - what each form of each system call is taken to change. The
 * calls are described here, not made, but for what is asked of the kernel. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "regcache/hooks_effects.h"
#include "regcache/records.h"

#define P 4096ul
#define AT 0x7f0000123000ul         /* no multiple of a hugepage */
#define HUGE_AT 0x7f0000200000ul    /* of 2 MiB */
#define ALL_END PW_RANGE_ALL.end

static struct pw_effect e[PW_EFFECTS_MAX];

static int effects(long nr, unsigned long a, unsigned long b, unsigned long c,
                   unsigned long d, unsigned long f)
{
    struct pw_call call = { nr, { a, b, c, d, f, 0 } };

    memset(e, 0, sizeof e);
    return pw_effects(&call, e);
}

static void expect_at(int i, uintptr_t start, uintptr_t end, unsigned cause)
{
    cr_expect(eq(ulong, e[i].range.start, start));
    cr_expect(eq(ulong, e[i].range.end, end));
    cr_expect(eq(uint, e[i].cause, cause));
}

static void expect_one(int n, uintptr_t start, uintptr_t end, unsigned cause)
{
    cr_assert(eq(int, n, 1));
    expect_at(0, start, end, cause);
}

Test(effects, munmap_of_whole_and_begun_pages)
{
    expect_one(effects(SYS_munmap, AT, 2 * P, 0, 0, 0), AT, AT + 2 * P, PW_EV_UNMAP);
    expect_one(effects(SYS_munmap, AT, P + 1, 0, 0, 0), AT, AT + 2 * P, PW_EV_UNMAP);
}

Test(effects, what_must_fail_changes_nothing)
{
    cr_expect(zero(int, effects(SYS_munmap, AT + 1, P, 0, 0, 0)));
    cr_expect(zero(int, effects(SYS_munmap, AT, 0, 0, 0, 0)));
    cr_expect(zero(int, effects(SYS_madvise, AT + 8, P, MADV_DONTNEED, 0, 0)));
    cr_expect(zero(int, effects(SYS_mprotect, AT + 8, P, PROT_NONE, 0, 0)));
}

Test(effects, a_length_beyond_all_addresses_ends_with_them)
{
    expect_one(effects(SYS_munmap, AT, ~0ul, 0, 0, 0), AT, ALL_END, PW_EV_UNMAP);
    expect_one(effects(SYS_munmap, AT, ~0ul - AT, 0, 0, 0), AT, ALL_END, PW_EV_UNMAP);
}

Test(effects, numbers_are_taken_as_the_kernel_takes_them)
{
    cr_expect(eq(int, effects(SYS_munmap | 0x40000000, AT, P, 0, 0, 0), 1), "x32");
    cr_expect(eq(int, effects(SYS_munmap | 1l << 40, AT, P, 0, 0, 0), 1), "32 bits");
    cr_expect(zero(int, effects(SYS_getpid, AT, P, 0, 0, 0)));
}

Test(effects, an_address_may_be_tagged)
{
    expect_one(effects(SYS_munmap, AT | 0x5ul << 57, P, 0, 0, 0), AT, AT + P,
               PW_EV_UNMAP);
}

Test(effects, mmap_matters_when_it_is_fixed)
{
    unsigned long anonymous = MAP_PRIVATE | MAP_ANONYMOUS;

    cr_expect(zero(int, effects(SYS_mmap, AT, P, PROT_READ, anonymous, -1ul)));
    cr_expect(zero(int, effects(SYS_mmap, AT, P, PROT_READ,
                                anonymous | MAP_FIXED_NOREPLACE, -1ul)));
    expect_one(effects(SYS_mmap, AT, P + 5, PROT_READ, anonymous | MAP_FIXED, -1ul), AT,
               AT + 2 * P, PW_EV_MAP_OVER);
}

Test(effects, mmap_of_hugepages_rounds_as_they_do)
{
    expect_one(effects(SYS_mmap, HUGE_AT, P, PROT_READ,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_HUGETLB, -1ul),
               HUGE_AT, HUGE_AT + (2ul << 20), PW_EV_MAP_OVER);
    expect_one(effects(SYS_mmap, HUGE_AT, P, PROT_READ, MAP_SHARED | MAP_FIXED, 3),
               HUGE_AT, HUGE_AT + (2ul << 20), PW_EV_MAP_OVER);
    expect_one(effects(SYS_mmap, HUGE_AT, P, PROT_READ,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1ul),
               HUGE_AT, HUGE_AT + P, PW_EV_MAP_OVER);
}

/* What c was given, by an interception that is listened to late. */
static int given(long nr, unsigned long old, unsigned long len, unsigned long new_len,
                 unsigned long flags, long at)
{
    const struct pw_call call = { nr, { old, len, new_len, flags, -1ul, 0 } };

    return pw_effects_new(&call, at, e);
}

/* malloc's neighbours stay cached: one mapping in 512 begins there by chance. */
Test(effects, new_memory_that_begins_where_a_hugepage_might_is_no_larger)
{
    unsigned long anonymous = MAP_PRIVATE | MAP_ANONYMOUS, huge = HUGE_AT;

    expect_one(given(SYS_mmap, 0, P, PROT_READ, anonymous, HUGE_AT), huge, huge + P,
               PW_EV_MAP_OVER);
    expect_one(given(SYS_mmap, 0, P, PROT_READ, anonymous | MAP_HUGETLB, HUGE_AT), huge,
               huge + (2ul << 20), PW_EV_MAP_OVER);
    expect_one(given(SYS_mmap, 0, P, PROT_READ, MAP_SHARED, HUGE_AT), huge,
               huge + (2ul << 20), PW_EV_MAP_OVER);
    expect_one(given(SYS_mremap, AT, P, 2 * P, MREMAP_MAYMOVE, HUGE_AT), huge,
               huge + 2 * P, PW_EV_REMAP);
    expect_one(given(SYS_mremap, HUGE_AT + (4ul << 20), P, 2 * P, MREMAP_MAYMOVE, HUGE_AT),
               huge, huge + (2ul << 20), PW_EV_REMAP);
}

Test(effects, a_call_that_failed_was_given_nothing)
{
    cr_expect(zero(int, given(SYS_mmap, 0, P, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS,
                              -ENOMEM)));
    cr_expect(zero(int, given(SYS_mremap, AT, P, 2 * P, MREMAP_MAYMOVE, -EFAULT)));
}

Test(effects, mremap_of_small_pages_to_where_a_hugepage_might_begin_is_no_larger)
{
    cr_assert(eq(int, effects(SYS_mremap, AT, P, P, MREMAP_MAYMOVE | MREMAP_FIXED,
                              HUGE_AT), 2));
    expect_at(0, AT, AT + P, PW_EV_REMAP);
    expect_at(1, HUGE_AT, HUGE_AT + P, PW_EV_REMAP);
}

Test(effects, mremap_that_may_move)
{
    expect_one(effects(SYS_mremap, AT, 2 * P, 4 * P, MREMAP_MAYMOVE, 0), AT, AT + 2 * P,
               PW_EV_REMAP);
}

Test(effects, mremap_that_shrinks_cuts_off_the_end)
{
    expect_one(effects(SYS_mremap, AT, 4 * P, P, 0, 0), AT + P, AT + 4 * P, PW_EV_REMAP);
    expect_one(effects(SYS_mremap, AT, 4 * P, P, MREMAP_MAYMOVE, 0), AT + P, AT + 4 * P,
               PW_EV_REMAP);
}

Test(effects, mremap_that_stays_changes_nothing)
{
    cr_expect(zero(int, effects(SYS_mremap, AT, P, 4 * P, 0, 0)));
    cr_expect(zero(int, effects(SYS_mremap, AT, 4 * P, 4 * P, MREMAP_MAYMOVE, 0)));
    cr_expect(zero(int, effects(SYS_mremap, AT, 4 * P, 0, MREMAP_MAYMOVE, 0)), "EINVAL");
}

Test(effects, mremap_to_an_address_changes_both)
{
    unsigned long to = AT + 64 * P;

    cr_assert(eq(int, effects(SYS_mremap, AT, 2 * P, 3 * P,
                              MREMAP_MAYMOVE | MREMAP_FIXED, to), 2));
    expect_at(0, AT, AT + 2 * P, PW_EV_REMAP);
    expect_at(1, to, to + 3 * P, PW_EV_REMAP);
    /* An old length of 0 copies a shared mapping and leaves it. */
    expect_one(effects(SYS_mremap, AT, 0, P, MREMAP_MAYMOVE | MREMAP_FIXED, to), to,
               to + P, PW_EV_REMAP);
}

Test(effects, mremap_that_leaves_the_old_addresses_empties_them)
{
    expect_one(effects(SYS_mremap, AT, P, P, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0), AT,
               AT + P, PW_EV_REMAP);
}

Test(effects, mremap_with_a_flag_of_the_future_may_do_anything_to_both)
{
    cr_expect(eq(int, effects(SYS_mremap, AT, P, P, 1 << 9, AT + 64 * P), 2));
}

Test(effects, madvise_that_drops_pages)
{
    static const int drop[] = { MADV_DONTNEED, MADV_FREE, MADV_REMOVE, 24, 102, 21, 13,
                                100, 101, 26, 63, 64, 104, 4711, -1 };

    for (unsigned i = 0; i < sizeof drop / sizeof drop[0]; i++)
        expect_one(effects(SYS_madvise, AT, P, (unsigned long)drop[i], 0, 0), AT, AT + P,
                   PW_EV_DISCARD);
}

Test(effects, madvise_that_leaves_pages_alone)
{
    static const int leave[] = { MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED,
                                 MADV_DONTFORK, MADV_DOFORK, MADV_MERGEABLE, MADV_HUGEPAGE,
                                 MADV_NOHUGEPAGE, MADV_DONTDUMP, MADV_DODUMP,
                                 MADV_WIPEONFORK, MADV_KEEPONFORK, 20, 22, 23, 25, 103 };

    for (unsigned i = 0; i < sizeof leave / sizeof leave[0]; i++)
        cr_expect(zero(int, effects(SYS_madvise, AT, P, (unsigned long)leave[i], 0, 0)));
}

Test(effects, process_madvise_of_several_ranges)
{
    struct iovec v[3] = { { (void *)AT, P }, { (void *)(AT + 1), P },
                          { (void *)(AT + 8 * P), 2 * P } };

    cr_assert(eq(int, effects(SYS_process_madvise, 3, (unsigned long)v, 3, MADV_DONTNEED,
                              0), 2));
    expect_at(0, AT, AT + P, PW_EV_DISCARD);
    expect_at(1, AT + 8 * P, AT + 10 * P, PW_EV_DISCARD);
    cr_expect(zero(int, effects(SYS_process_madvise, 3, (unsigned long)v, 3,
                                MADV_WILLNEED, 0)));
    cr_expect(zero(int, effects(SYS_process_madvise, 3, (unsigned long)v, 0,
                                MADV_DONTNEED, 0)));
}

Test(effects, process_madvise_that_cannot_be_read_is_of_everything)
{
    expect_one(effects(SYS_process_madvise, 3, 8, 1, MADV_DONTNEED, 0), 0, ALL_END,
               PW_EV_DISCARD);
    expect_one(effects(SYS_process_madvise, 3, AT, 9, MADV_DONTNEED, 0), 0, ALL_END,
               PW_EV_DISCARD);
}

Test(effects, brk_downwards)
{
    unsigned long now = (unsigned long)sbrk(0), page = now & ~(P - 1);

    cr_expect(zero(int, effects(SYS_brk, 0, 0, 0, 0, 0)), "a question");
    cr_expect(zero(int, effects(SYS_brk, now + P, 0, 0, 0, 0)));
    expect_one(effects(SYS_brk, page - 2 * P, 0, 0, 0, 0), page - 2 * P,
               (now + P - 1) & ~(P - 1), PW_EV_BRK);
    expect_one(effects(SYS_brk, page - 2 * P - 1, 0, 0, 0, 0), page - 2 * P,
               (now + P - 1) & ~(P - 1), PW_EV_BRK);
}

Test(effects, shmat_over_memory_is_as_large_as_the_segment)
{
    int id = shmget(IPC_PRIVATE, 2 * P + 1, IPC_CREAT | 0600);

    cr_assert(ge(int, id, 0));
    expect_one(effects(SYS_shmat, (unsigned long)id, AT, SHM_REMAP, 0, 0), AT, AT + 3 * P,
               PW_EV_SHM);
    expect_one(effects(SYS_shmat, (unsigned long)id, AT + 7, SHM_REMAP | SHM_RND, 0, 0),
               AT, AT + 3 * P, PW_EV_SHM);
    cr_expect(zero(int, effects(SYS_shmat, (unsigned long)id, AT, 0, 0, 0)));
    cr_expect(zero(int, effects(SYS_shmat, (unsigned long)id, 0, SHM_REMAP, 0, 0)));
    shmctl(id, IPC_RMID, NULL);
    expect_one(effects(SYS_shmat, (unsigned long)id, AT, SHM_REMAP, 0, 0), AT, ALL_END,
               PW_EV_SHM);
}

Test(effects, files_and_segments_change_nothing_that_is_watched)
{
    expect_one(effects(SYS_shmdt, AT, 0, 0, 0, 0), AT, AT, PW_EV_SHM);
    expect_one(effects(SYS_ftruncate, 3, 0, 0, 0, 0), 0, 0, PW_EV_TRUNCATE);
    expect_one(effects(SYS_truncate, AT, 0, 0, 0, 0), 0, 0, PW_EV_TRUNCATE);
    expect_one(effects(SYS_fallocate, 3, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, P,
                       0), 0, 0, PW_EV_TRUNCATE);
    expect_one(effects(SYS_fallocate, 3, FALLOC_FL_COLLAPSE_RANGE, 0, P, 0), 0, 0,
               PW_EV_TRUNCATE);
    expect_one(effects(SYS_fallocate, 3, FALLOC_FL_ZERO_RANGE, 0, P, 0), 0, 0,
               PW_EV_TRUNCATE);
    cr_expect(zero(int, effects(SYS_fallocate, 3, 0, 0, P, 0)));
    cr_expect(zero(int, effects(SYS_fallocate, 3, FALLOC_FL_KEEP_SIZE, 0, P, 0)));
}

Test(effects, mprotect_matters_when_nothing_is_allowed_any_more)
{
    cr_expect(zero(int, effects(SYS_mprotect, AT, P, PROT_READ, 0, 0)));
    cr_expect(zero(int, effects(SYS_mprotect, AT, P, PROT_EXEC, 0, 0)));
    expect_one(effects(SYS_mprotect, AT, P, PROT_NONE, 0, 0), AT, AT + P, PW_EV_PROTECT);
    expect_one(effects(SYS_pkey_mprotect, AT, P, PROT_NONE, 1, 0), AT, AT + P,
               PW_EV_PROTECT);
    expect_one(effects(SYS_mprotect, AT, P, PROT_NONE | PROT_GROWSDOWN, 0, 0), 0, AT + P,
               PW_EV_PROTECT);
    expect_one(effects(SYS_mprotect, AT, P, PROT_NONE | PROT_GROWSUP, 0, 0), AT, ALL_END,
               PW_EV_PROTECT);
}

Test(effects, remap_file_pages_starts_at_its_page)
{
    expect_one(effects(SYS_remap_file_pages, AT + 5, P, 0, 0, 0), AT, AT + P,
               PW_EV_MAP_OVER);
}

Test(effects, every_number_that_is_known_is_listed)
{
    static const unsigned short want[] = {
        SYS_munmap, SYS_mmap, SYS_mremap, SYS_madvise, SYS_process_madvise, SYS_brk,
        SYS_shmat, SYS_shmdt, SYS_truncate, SYS_ftruncate, SYS_fallocate, SYS_mprotect,
        SYS_pkey_mprotect, SYS_remap_file_pages
    };

    for (unsigned i = 0; i < sizeof want / sizeof want[0]; i++) {
        int k = 0;

        while (pw_effect_numbers[k] && pw_effect_numbers[k] != want[i])
            k++;
        cr_expect(eq(uint, pw_effect_numbers[k], want[i]));
    }
}
