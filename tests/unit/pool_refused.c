/* SPDX-License-Identifier: BSD-3-Clause */
/* pool_refused.c - what the pool does when the kernel says no. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pinwheel/kdriver.h"
#include "pinwheel/pool.h"
#include "pool_fake_sys.h"
#include "regcache/pages.h"
#include "regcache/pool_inner.h"
#include "regcache/pool_sys.h"
#include "regcache/populate.h"
#include "regcache/segment.h"

#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)
#define PAGE ((size_t)4096)

static const struct pw_pool_config small = { .size = 16 * MIB };
static const struct pw_pool_config small_4k = { .size = 16 * MIB, .pages = PW_PAGES_4K };

static int open_err(const struct pw_pool_config *config)
{
    struct pw_pool *pool = (struct pw_pool *)&fake;
    int err = pw_pool_open_sys(config, &fake_sys, &pool);

    if (err)
        cr_expect(eq(ptr, pool, NULL));
    else
        pw_pool_close(pool);
    return err;
}

static struct pw_pool *open_ok(const struct pw_pool_config *config)
{
    struct pw_pool *pool;

    cr_assert(eq(int, pw_pool_open_sys(config, &fake_sys, &pool), 0));
    return pool;
}

static struct pw_pool_info info_of(const struct pw_pool_config *config)
{
    struct pw_pool *pool = open_ok(config);
    struct pw_pool_info info;

    pw_pool_describe(pool, &info);
    pw_pool_close(pool);
    return info;
}

static void expect_why(const struct pw_pool_info *info, const char *part)
{
    cr_expect(ne(ptr, strstr(info->why, part), NULL), "\"%s\" is not in \"%s\"", part,
              info->why);
}

/* What an error must not leave: descriptors, and mappings of the segment or
 * reserved for it. Counted by name, for malloc and sanitizers map too. */
static int descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int n = 0;

    cr_assert(ne(ptr, dir, NULL));
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static int segment_mappings(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    int n = 0;

    cr_assert(ne(ptr, maps, NULL));
    while (fgets(line, sizeof line, maps))
        n += strstr(line, "pinwheel-pool") != NULL;
    fclose(maps);
    return n;
}

TestSuite(pool_refused, .init = fake_reset);

/* Each system call of an open in turn, whichever it is. AUTO may go on with a
 * lesser kind of page; then the pool must work. */
static void each_call_refused(const struct pw_pool_config *config, int err)
{
    int fds = descriptors(), opened = 0, nth = 0;

    while (++nth <= 100) {
        struct pw_pool *pool;
        int got, made;

        fake_reset();
        fake.free_pages = 64;
        fake.free_1g = 2;
        fake.pinnable = config->pages == PW_PAGES_KDRIVER ? 64 * MIB : 0;
        fake_fail_any(nth, err);
        got = pw_pool_open_sys(config, &fake_sys, &pool);
        made = fake.all;
        fake_reset();
        if (got == 0) {
            char *p = pw_pool_alloc(pool, 3 * MIB, 0);

            cr_assert(ne(ptr, p, NULL), "call %d", nth);
            memset(p, 1, 3 * MIB);
            pw_pool_close(pool);
            opened++;
        } else {
            cr_expect(got == -err || got == -ENOMEM, "call %d: %d", nth, got);
            cr_expect(eq(ptr, pool, NULL));
        }
        cr_expect(eq(int, descriptors(), fds), "call %d", nth);
        cr_expect(eq(int, segment_mappings(), 0), "call %d", nth);
        if (made < nth)
            break;
    }
    cr_expect(lt(int, nth, 100));
    cr_expect(lt(int, 5, nth), "the calls were counted");
    cr_expect(lt(int, 0, opened));
}

Test(pool_refused, whichever_call_fails_nothing_is_left_behind)
{
    struct pw_pool_config config = { .size = 16 * MIB };

    for (int pages = PW_PAGES_AUTO; pages <= PW_PAGES_1G; pages++) {
        config.pages = (enum pw_pages)pages;
        each_call_refused(&config, ENOMEM);
        each_call_refused(&config, EMFILE);
    }
}

/* Bytes of address space in use. */
static size_t address_space(void)
{
    FILE *statm = fopen("/proc/self/statm", "r");
    size_t pages = 0;

    cr_assert(ne(ptr, statm, NULL));
    cr_assert(eq(int, fscanf(statm, "%zu", &pages), 1));
    fclose(statm);
    return pages * PAGE;
}

/* The room for alignment, 2 MiB each time, and the reservation of a mapping that
 * failed. 100 rounds, for malloc and sanitizers take some as well. */
Test(pool_refused, no_address_space_leaks)
{
    size_t before;

    cr_assert(eq(int, open_err(&small_4k), 0));
    before = address_space();
    for (int i = 0; i < 100; i++) {
        cr_assert(eq(int, open_err(&small_4k), 0));
        fake_fail(FAKE_MMAP, 2, ENOMEM);
        cr_assert(eq(int, open_err(&small_4k), -ENOMEM));
    }
    cr_expect(lt(sz, address_space(), before + 100 * MIB));
}

Test(pool_refused, memfd_create_failing_for_want_of_descriptors_is_told)
{
    fake_fail(FAKE_MEMFD, FAKE_ALWAYS, EMFILE);
    cr_expect(eq(int, open_err(&small_4k), -EMFILE));
    cr_expect(eq(int, fake.calls[FAKE_OPEN], 0));
}

Test(pool_refused, ftruncate_failing_is_told)
{
    fake_fail(FAKE_FTRUNCATE, 1, EINVAL);
    cr_expect(eq(int, open_err(&small_4k), -EINVAL));
}

Test(pool_refused, a_segment_that_cannot_be_sealed_is_not_used)
{
    fake_fail(FAKE_SEALS, 1, EPERM);
    cr_expect(eq(int, open_err(&small_4k), -EPERM));
}

Test(pool_refused, no_address_space_is_told)
{
    for (int nth = 1; nth <= 4; nth++) {
        fake_fail(FAKE_MMAP, nth, ENOMEM);
        cr_expect(eq(int, open_err(&small_4k), -ENOMEM), "mmap %d", nth);
    }
    fake_fail(FAKE_MMAP, 5, ENOMEM);
    cr_expect(eq(int, open_err(&small_4k), 0), "there are four");
}

/* Linux before 6.3 does not know MFD_NOEXEC_SEAL. */
Test(pool_refused, an_unknown_memfd_flag_is_left_out)
{
    cr_expect(eq(int, open_err(&small_4k), 0));
    cr_expect(ne(uint, fake.memfd_flags & MFD_NOEXEC_SEAL, 0));
    fake_reset();
    fake_fail(FAKE_MEMFD, 1, EINVAL);
    cr_expect(eq(int, open_err(&small_4k), 0));
    cr_expect(eq(int, fake.calls[FAKE_MEMFD], 2));
    cr_expect(eq(uint, fake.memfd_flags & MFD_NOEXEC_SEAL, 0));
    cr_expect(eq(uint, fake.memfd_flags, MFD_CLOEXEC | MFD_ALLOW_SEALING));
}

static void expect_works_without_a_name(struct pw_pool *pool)
{
    char *p = pw_pool_alloc(pool, 3 * MIB, 0);
    struct stat st;

    cr_assert(ne(ptr, p, NULL));
    memset(p, 1, 3 * MIB);
    cr_assert(eq(int, fstat(pw_pool_fd(pool), &st), 0));
    cr_expect(eq(long, (long)st.st_nlink, 0));
    cr_expect(ne(int, fcntl(pw_pool_fd(pool), F_GETFD) & FD_CLOEXEC, 0));
}

Test(pool_refused, without_memfd_a_nameless_file_in_dev_shm_serves)
{
    const int refusals[] = { ENOSYS, EPERM, EACCES };

    for (int i = 0; i < 3; i++) {
        struct pw_pool *pool;

        fake_fail(FAKE_MEMFD, FAKE_ALWAYS, refusals[i]);
        pool = open_ok(&small);
        cr_expect(eq(str, fake.opened, "/dev/shm"));
        expect_works_without_a_name(pool);
        pw_pool_close(pool);
    }
}

static bool tmpfile_works(const char *dir)
{
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

Test(pool_refused, without_dev_shm_a_nameless_file_in_tmpdir_serves)
{
    struct pw_pool *pool;

    if (!tmpfile_works("/var/tmp"))
        cr_skip_test("/var/tmp has no O_TMPFILE");
    setenv("TMPDIR", "/var/tmp", 1);
    fake_fail(FAKE_MEMFD, FAKE_ALWAYS, ENOSYS);
    fake_fail(FAKE_OPEN, 1, EACCES);
    pool = open_ok(&small_4k);
    cr_expect(eq(str, fake.opened, "/var/tmp"));
    expect_works_without_a_name(pool);
    pw_pool_close(pool);
}

Test(pool_refused, without_tmpdir_it_is_tmp)
{
    setenv("TMPDIR", "", 1);
    fake_fail(FAKE_MEMFD, FAKE_ALWAYS, ENOSYS);
    fake_fail(FAKE_OPEN, FAKE_ALWAYS, EACCES);
    cr_expect(eq(int, open_err(&small), -EACCES));
    cr_expect(eq(str, fake.opened, "/tmp"));
    cr_expect(eq(int, fake.calls[FAKE_OPEN], 2));
}

/* ---- the driver's pages ---- */

/* A machine without the driver is nothing to tell of. */
Test(pool_refused, a_driver_that_is_not_there_is_no_reason)
{
    struct pw_pool_config config = { .size = 16 * MIB, .pages = PW_PAGES_KDRIVER };
    struct pw_pool_info info = info_of(&small);

    cr_expect(eq(ptr, strstr(info.why, "/dev/pinwheel"), NULL), "%s", info.why);
    fake.free_pages = 64;
    cr_expect(eq(str, info_of(&small).why, ""));
    cr_expect(eq(int, open_err(&config), -ENOMEM));
}

Test(pool_refused, the_drivers_pages_are_taken_first)
{
    struct pw_pool *pool;
    struct pw_pool_info info;
    char *p;

    fake.pinnable = 64 * MIB;
    fake.free_pages = 64;
    pool = open_ok(&small);
    pw_pool_describe(pool, &info);
    cr_expect(eq(int, info.pages, PW_PAGES_KDRIVER));
    cr_expect(eq(sz, info.size, 16 * MIB));
    cr_expect(eq(str, info.why, ""));
    cr_expect(eq(u64, fake.filled, 0), "nothing is taken yet");

    p = pw_pool_alloc(pool, 3 * MIB, 0);
    cr_assert(ne(ptr, p, NULL));
    memset(p, 1, 3 * MIB);
    cr_expect(eq(u64, fake.filled, 4 * MIB), "in its own units");
    cr_expect(eq(int, fake.node, -1), "by the thread's policy");
    cr_expect(eq(int, fake.calls[FAKE_COLLAPSE], 0));
    cr_expect(eq(int, pw_pool_back(pool, p, PAGE, true), 0));
    cr_expect(eq(u64, fake.filled, 4 * MIB), "what is there is not asked for again");
    pw_pool_close(pool);
}

Test(pool_refused, without_room_the_driver_fills_nothing)
{
    struct pw_pool_config config = { .size = 16 * MIB, .pages = PW_PAGES_KDRIVER };
    struct pw_pool *pool;

    fake.pinnable = 64 * MIB;
    pool = open_ok(&config);
    fake_fail(FAKE_KD_FILL, 1, EDQUOT);
    cr_expect(eq(ptr, pw_pool_alloc(pool, 4 * MIB, 0), NULL));
    fake_fail(FAKE_POPULATE, 1, EFAULT);
    cr_expect(eq(ptr, pw_pool_alloc(pool, 4 * MIB, 0), NULL));
    cr_expect(eq(u64, fake.filled, fake.drained - 4 * MIB), "what was taken goes back");
    cr_expect(ne(ptr, pw_pool_alloc(pool, 4 * MIB, 0), NULL));
    pw_pool_close(pool);
}

/* A program that closes descriptors which are not its own: pages come by touch. */
Test(pool_refused, a_drivers_descriptor_that_was_closed_is_done_without)
{
    struct pw_pool_config config = { .size = 16 * MIB, .pages = PW_PAGES_KDRIVER };
    struct pw_pool *pool;
    char *p;
    int other;

    fake.pinnable = 64 * MIB;
    pool = open_ok(&config);
    other = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    cr_assert(eq(int, dup2(other, pw_pool_fd(pool)), pw_pool_fd(pool)));
    p = pw_pool_alloc(pool, 4 * MIB, 0);
    cr_assert(ne(ptr, p, NULL));
    memset(p, 1, 4 * MIB);
    cr_expect(eq(int, fake.calls[FAKE_KD_FILL], 0), "whose ever it is now");
    cr_expect(eq(int, pw_populate_drop(&pool->populate, 0, 2 * MIB, &(size_t){ 0 }), -EBADF));
    cr_expect(eq(int, fake.calls[FAKE_KD_DRAIN], 0));
    pw_pool_close(pool);
    close(other);
}

/* 64 MiB for three: 20 for each, in whole hugepages. */
Test(pool_refused, what_a_user_may_have_pinned_is_split)
{
    struct pw_pool_config config = { .size = 64 * MIB, .sharers = 3 };

    fake.pinnable = 64 * MIB;
    cr_expect(eq(sz, info_of(&config).size, 20 * MIB));
    fake.pinned = 57 * MIB;
    cr_expect(eq(sz, info_of(&config).size, 6 * MIB), "others have the rest");
    fake.pinned = 63 * MIB;
    cr_expect(ne(int, info_of(&config).pages, PW_PAGES_KDRIVER));
    fake.pinned = 65 * MIB;
    cr_expect(ne(int, info_of(&config).pages, PW_PAGES_KDRIVER));
}

/* RLIMIT_MEMLOCK is 8 MiB for most. */
Test(pool_refused, what_is_too_little_to_pin_is_passed_over)
{
    struct pw_pool_config config = { .size = 64 * MIB, .min_size = 16 * MIB };
    struct pw_pool_info info;

    fake.pinnable = 8 * MIB;
    info = info_of(&config);
    cr_expect(ne(int, info.pages, PW_PAGES_KDRIVER));
    cr_expect(eq(sz, info.size, 64 * MIB));
    expect_why(&info, "each process may have 8 MiB pinned, raise ulimit -l");
    config.pages = PW_PAGES_KDRIVER;
    cr_expect(eq(int, open_err(&config), -ENOMEM));
    config.min_size = 8 * MIB;
    cr_expect(eq(int, open_err(&config), 0));
}

Test(pool_refused, a_driver_that_cannot_be_used_is_told_of)
{
    struct pw_pool_info info;

    fake.pinnable = 64 * MIB;
    fake_fail(FAKE_DEVICE, FAKE_ALWAYS, EACCES);
    info = info_of(&small);
    expect_why(&info, "/dev/pinwheel may not be opened by this user");
    fake_fail(FAKE_DEVICE, FAKE_ALWAYS, EMFILE);
    info = info_of(&small);
    expect_why(&info, "/dev/pinwheel cannot be opened: Too many open files");
    fake_fail(FAKE_DEVICE, 2, EMFILE);
    info = info_of(&small);
    expect_why(&info, "pages of /dev/pinwheel refused: Too many open files");
    fake_reset();

    fake.pinnable = 64 * MIB;
    fake_fail(FAKE_KD_INFO, 1, EIO);
    info = info_of(&small);
    expect_why(&info, "/dev/pinwheel is no driver of ours: Input/output error");
    fake_fail(FAKE_KD_POOL, 1, ENFILE);
    info = info_of(&small);
    expect_why(&info, "pages of /dev/pinwheel refused: Too many open files in system");
    fake.services = 1;
    info = info_of(&small);
    expect_why(&info, "the driver that is loaded does not offer this");
    fake.services = PW_KD_SERVICE_POOL;
    fake.version++;
    info = info_of(&small);
    expect_why(&info, "the driver has version 2");
}

/* A peer's file may answer as a driver's pool does; of which file system it is the
 * kernel says. */
Test(pool_refused, a_file_is_steady_when_nobody_can_cut_it)
{
    int loose = memfd_create("loose", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    cr_expect(not(pw_segment_steady(&fake_sys, loose)), "one that answers");
    cr_expect(not(pw_segment_steady(&fake_sys, -1)));
    fake.magic = PW_KD_MAGIC;
    cr_expect(pw_segment_steady(&fake_sys, loose));
    fake_fail(FAKE_KD_POOL_INFO, 1, ENOTTY);
    cr_expect(not(pw_segment_steady(&fake_sys, loose)), "a share descriptor, say");
    fake.magic = 0;
    cr_assert(eq(int, fcntl(loose, F_ADD_SEALS, F_SEAL_SHRINK), 0));
    cr_expect(pw_segment_steady(&fake_sys, loose));
    cr_expect(pw_pool_steady(loose));
    close(loose);
}

/* ---- reserved hugepages ---- */

Test(pool_refused, no_hugepages_says_how_to_reserve_some)
{
    struct pw_pool_info info = info_of(&small);

    cr_expect(ne(int, info.pages, PW_PAGES_2M));
    expect_why(&info, "echo 512 > /proc/sys/vm/nr_hugepages");
}

Test(pool_refused, a_kernel_without_hugepages_is_named)
{
    struct pw_pool_info info;

    fake.free_pages = -1;
    info = info_of(&small);
    expect_why(&info, "CONFIG_HUGETLBFS");
    fake.free_pages = 0;
    fake.free_text = "nonsense";
    info = info_of(&small);
    expect_why(&info, "CONFIG_HUGETLBFS");
}

Test(pool_refused, reserved_hugepages_are_taken_first)
{
    struct pw_pool_info info;

    fake.free_pages = 64;
    info = info_of(&small);
    cr_expect(eq(int, info.pages, PW_PAGES_2M));
    cr_expect(eq(sz, info.size, 16 * MIB));
    cr_expect(eq(str, info.why, ""));
    cr_expect(eq(uint, fake.memfd_flags & (MFD_HUGETLB | MFD_HUGE_2MB),
                 MFD_HUGETLB | MFD_HUGE_2MB));
}

/* Else a page taken by another between mmap and touch is a SIGBUS. */
Test(pool_refused, hugepages_are_reserved_and_small_pages_are_not)
{
    cr_assert(eq(int, open_err(&small_4k), 0));
    cr_expect(ne(int, fake.shared_flags & MAP_NORESERVE, 0));
    fake.free_pages = 64;
    cr_assert(eq(int, open_err(&small), 0));
    cr_expect(eq(int, fake.shared_flags & MAP_NORESERVE, 0));
}

/* Three share 32 pages: ten each, though 16 pages were wanted. */
Test(pool_refused, a_share_of_the_hugepages_is_all_a_process_takes)
{
    struct pw_pool_config config = { .size = 32 * MIB, .sharers = 3 };
    struct pw_pool *pool;

    fake.free_pages = 32;
    pool = open_ok(&config);
    cr_expect(eq(sz, pw_pool_size(pool), 20 * MIB));
    cr_expect(ne(ptr, pw_pool_alloc(pool, 20 * MIB, 0), NULL));
    cr_expect(eq(int, fake.calls[FAKE_COLLAPSE], 0));
    pw_pool_close(pool);
}

Test(pool_refused, hugepages_promised_to_others_are_not_counted)
{
    struct pw_pool_config config = { .size = 64 * MIB };

    fake.free_pages = 32;
    fake.resv_pages = 30;
    cr_expect(eq(sz, info_of(&config).size, 4 * MIB));
    fake.resv_pages = 40;
    cr_expect(ne(int, info_of(&config).pages, PW_PAGES_2M));
    fake.resv_pages = -1;
    cr_expect(eq(sz, info_of(&config).size, 64 * MIB));
}

Test(pool_refused, a_share_too_small_to_be_of_use_is_passed_over)
{
    struct pw_pool_config config = { .size = 64 * MIB, .min_size = 16 * MIB };
    struct pw_pool_info info;

    fake.free_pages = 7;
    info = info_of(&config);
    cr_expect(ne(int, info.pages, PW_PAGES_2M));
    cr_expect(eq(sz, info.size, 64 * MIB));
    expect_why(&info, "7 reserved 2 MiB hugepages for each process, 8 needed");

    config.pages = PW_PAGES_2M;
    cr_expect(eq(int, open_err(&config), -ENOMEM));
    fake.free_pages = 8;
    cr_expect(eq(int, open_err(&config), 0));
}

/* Somebody else was quicker: the reservation at mmap fails. */
Test(pool_refused, hugepages_gone_in_the_meantime_are_done_without)
{
    struct pw_pool_config config = small;
    struct pw_pool_info info;

    fake.free_pages = 64;
    fake_fail(FAKE_MMAP, 2, ENOMEM);
    info = info_of(&config);
    cr_expect(ne(int, info.pages, PW_PAGES_2M));
    expect_why(&info, "2 MiB hugepages refused: Cannot allocate memory");

    config.pages = PW_PAGES_2M;
    fake_fail(FAKE_MMAP, 2, ENOMEM);
    cr_expect(eq(int, open_err(&config), -ENOMEM));
    fake_fail(FAKE_MEMFD_HUGE, FAKE_ALWAYS, ENOENT);
    cr_expect(eq(int, open_err(&config), -ENOMEM));
}

/* Of three processes the first has touched one page already: 8 were needed by each. */
Test(pool_refused, what_the_first_has_touched_does_not_leave_too_little_to_the_last)
{
    struct pw_pool_config config = { .size = 64 * MIB, .sharers = 3, .min_size = 16 * MIB };

    fake.free_pages = 23;
    fake.resv_pages = 7;
    cr_expect(ne(int, info_of(&config).pages, PW_PAGES_2M));
    fake.all_pages = 24;
    cr_expect(eq(int, info_of(&config).pages, PW_PAGES_2M));
    cr_expect(eq(sz, info_of(&config).size, 16 * MIB));
    fake.resv_pages = 16;
    cr_expect(ne(int, info_of(&config).pages, PW_PAGES_2M), "but what is promised is");
    fake.resv_pages = 7;
    fake.all_pages = 23;
    cr_expect(ne(int, info_of(&config).pages, PW_PAGES_2M), "and it is no share of all");
}

/* ---- reserved hugepages of 1 GiB ---- */

static struct pw_pool_info pool_info(struct pw_pool *pool)
{
    struct pw_pool_info info;

    pw_pool_describe(pool, &info);
    return info;
}

Test(pool_refused, pages_of_a_gigabyte_come_before_transparent_ones)
{
    struct pw_pool_config config = { .size = 2 * GIB };
    struct pw_pool *pool;
    struct pw_pool_info info;
    char *p;

    fake.free_1g = 3;
    pool = open_ok(&config);
    info = pool_info(pool);
    cr_expect(eq(int, info.pages, PW_PAGES_1G));
    cr_expect(eq(sz, info.size, 2 * GIB));
    cr_expect(eq(uint, fake.memfd_flags & (MFD_HUGETLB | MFD_HUGE_1GB | MFD_HUGE_2MB),
                 MFD_HUGETLB | MFD_HUGE_1GB));
    cr_expect(eq(int, fake.shared_flags & MAP_NORESERVE, 0), "reserved by mmap");
    expect_why(&info, "no 2 MiB hugepages reserved");

    p = pw_pool_alloc(pool, 3 * MIB, 0);
    cr_assert(ne(ptr, p, NULL));
    cr_expect(eq(sz, pw_populate_missing(&pool->populate, 0, 2 * GIB), GIB), "whole pages");
    cr_expect(ne(ptr, pw_pool_alloc(pool, 900 * MIB, 0), NULL));
    cr_expect(eq(int, fake.calls[FAKE_POPULATE], 1), "what has memory is not asked for");
    cr_expect(ne(ptr, pw_pool_alloc(pool, 200 * MIB, 0), NULL), "over a boundary");
    cr_expect(eq(int, fake.calls[FAKE_POPULATE], 2));
    cr_expect(eq(int, fake.calls[FAKE_COLLAPSE], 0));
    pw_pool_close(pool);
}

Test(pool_refused, better_pages_come_before_those_of_a_gigabyte)
{
    struct pw_pool_config config = { .size = 2 * GIB };

    fake.free_1g = 3;
    fake.free_pages = 64;
    cr_expect(eq(int, info_of(&config).pages, PW_PAGES_2M));
    fake.free_pages = 0;
    fake.pinnable = 64 * MIB;
    cr_expect(eq(int, info_of(&config).pages, PW_PAGES_KDRIVER));
}

Test(pool_refused, a_pool_that_needs_less_takes_no_gigabyte_unless_by_name)
{
    struct pw_pool_config config = { .size = GIB - 2 * MIB };

    fake.free_1g = 3;
    cr_expect(ne(int, info_of(&config).pages, PW_PAGES_1G));
    cr_expect(eq(sz, info_of(&config).size, GIB - 2 * MIB));
    config.size = 64 * MIB;
    config.pages = PW_PAGES_1G;
    cr_expect(eq(sz, info_of(&config).size, GIB));
    cr_expect(eq(str, info_of(&config).why, ""), "what was asked for");
}

Test(pool_refused, a_size_somebody_said_is_had_whole_or_of_other_pages)
{
    struct pw_pool_config config = { .size = 2 * GIB + 1 };
    struct pw_pool_info info;

    fake.free_1g = 2;
    info = info_of(&config);
    cr_expect(ne(int, info.pages, PW_PAGES_1G));
    cr_expect(eq(sz, info.size, 2 * GIB + 2 * MIB));
    expect_why(&info, "2 reserved 1 GiB hugepages for each process, 3 needed");
    fake.free_1g = 3;
    cr_expect(eq(sz, info_of(&config).size, 3 * GIB), "rounded up");
    config.min_size = 4 * GIB;
    cr_expect(ne(int, info_of(&config).pages, PW_PAGES_1G));

    config.pages = PW_PAGES_1G;
    cr_expect(eq(int, open_err(&config), -ENOMEM));
    config.min_size = 16 * MIB;
    fake.free_1g = 2;
    cr_expect(eq(sz, info_of(&config).size, 2 * GIB), "by name, what there is");
    fake.free_1g = 0;
    cr_expect(eq(int, open_err(&config), -ENOMEM));
    fake.free_1g = -1;
    cr_expect(eq(int, open_err(&config), -ENOMEM), "a processor without them");
}

/* Half of 5 GiB for two: 1.25 for each. */
Test(pool_refused, the_default_size_is_rounded_down_to_gigabytes)
{
    struct pw_pool_config config = { .sharers = 2 };

    fake.ram = 5 * GIB;
    fake.free_1g = 8;
    cr_expect(eq(int, info_of(&config).pages, PW_PAGES_1G));
    cr_expect(eq(sz, info_of(&config).size, GIB));
    fake.ram = 4 * GIB - MIB;
    cr_expect(ne(int, info_of(&config).pages, PW_PAGES_1G));
    config.pages = PW_PAGES_1G;
    cr_expect(eq(sz, info_of(&config).size, GIB), "by name");
    fake.ram = 64 * GIB;
    cr_expect(eq(sz, info_of(&config).size, 4 * GIB), "its share");
}

/* Two ranks, two pages: the first has touched its own when the second looks. */
Test(pool_refused, each_of_two_has_one_of_two_gigabytes)
{
    struct pw_pool_config config = { .sharers = 2, .min_size = 16 * MIB };

    fake.all_pages = 2;
    fake.free_1g = 2;
    fake.resv_1g = 1;
    cr_expect(eq(int, info_of(&config).pages, PW_PAGES_1G));
    fake.free_1g = 1;
    fake.resv_1g = 0;
    cr_expect(eq(int, info_of(&config).pages, PW_PAGES_1G));
    fake.resv_1g = 1;
    cr_expect(ne(int, info_of(&config).pages, PW_PAGES_1G));
}

Test(pool_refused, gigabytes_gone_in_the_meantime_are_done_without)
{
    struct pw_pool_config config = { .size = GIB };
    struct pw_pool_info info;

    fake.free_1g = 1;
    fake_fail(FAKE_MMAP, 2, ENOMEM);
    info = info_of(&config);
    cr_expect(ne(int, info.pages, PW_PAGES_1G));
    expect_why(&info, "1 GiB hugepages refused: Cannot allocate memory");
    fake_fail(FAKE_MEMFD_HUGE, FAKE_ALWAYS, ENODEV);
    info = info_of(&config);
    expect_why(&info, "1 GiB hugepages refused: No such device");
    config.pages = PW_PAGES_1G;
    cr_expect(eq(int, open_err(&config), -ENOMEM));
}

/* A page on a node that has none, say. */
Test(pool_refused, a_gigabyte_that_does_not_come_is_null)
{
    struct pw_pool_config config = { .size = 2 * GIB, .pages = PW_PAGES_1G };
    struct pw_pool *pool;

    fake.free_1g = 2;
    pool = open_ok(&config);
    fake_fail(FAKE_POPULATE, 1, EFAULT);
    cr_expect(eq(ptr, pw_pool_alloc(pool, MIB, 0), NULL));
    cr_expect(eq(int, fake.calls[FAKE_FALLOCATE], 0), "it may be others' by now");
    fake_fail(FAKE_POPULATE, 1, EFAULT);
    cr_expect(eq(ptr, pw_pool_alloc(pool, 2 * GIB, 0), NULL));
    cr_expect(eq(int, fake.calls[FAKE_FALLOCATE], 1), "all its own: it goes back");
    cr_expect(eq(sz, pool_info(pool).used, 0));
    cr_expect(ne(ptr, pw_pool_alloc(pool, MIB, 0), NULL));
    pw_pool_close(pool);
}

/* mmap would map all of the last page, over what lies behind. */
Test(pool_refused, a_peers_hugepages_are_mapped_whole_and_where_they_may_be)
{
    struct pw_pool *pool = open_ok(&small_4k);
    void *base;

    fake.magic = 0x958458f6;
    fake.block = GIB;
    cr_expect(eq(int, pw_pool_map_sys(&fake_sys, pw_pool_fd(pool), 16 * MIB, &base), -EINVAL));
    fake.block = 16 * MIB;
    cr_assert(eq(int, pw_pool_map_sys(&fake_sys, pw_pool_fd(pool), 16 * MIB, &base), 0));
    cr_expect(eq(sz, (uintptr_t)base % (16 * MIB), 0));
    pw_pool_unmap(base, 16 * MIB);
    pw_pool_close(pool);
}

/* What AUTO would take in a job of one process, with little of it. */
Test(pool_refused, the_probe_asks_for_what_jobs_ask_for)
{
    struct pw_pool_info info;

    fake.pinnable = 15 * MIB;
    cr_assert(eq(int, pw_pool_probe_sys(&fake_sys, &info), 0));
    cr_expect(ne(int, info.pages, PW_PAGES_KDRIVER));
    expect_why(&info, "each process may have 15 MiB pinned");
    fake.pinnable = 16 * MIB;
    cr_assert(eq(int, pw_pool_probe_sys(&fake_sys, &info), 0));
    cr_expect(eq(int, info.pages, PW_PAGES_KDRIVER));
    cr_expect(eq(sz, info.size, 2 * MIB));
    fake.pinnable = 0;
    fake.free_pages = 7;
    fake.free_1g = 4;
    cr_assert(eq(int, pw_pool_probe_sys(&fake_sys, &info), 0));
    cr_expect(eq(int, info.pages, PW_PAGES_1G));
    cr_expect(eq(sz, info.size, GIB));
    expect_why(&info, "7 reserved 2 MiB hugepages for each process, 8 needed");
}

Test(pool_refused, without_collapse_small_pages_serve_and_the_reason_is_given)
{
    struct pw_pool_config config = small;
    struct pw_pool_info info;

    fake_fail(FAKE_COLLAPSE, FAKE_ALWAYS, EINVAL);
    info = info_of(&config);
    cr_expect(eq(int, info.pages, PW_PAGES_4K));
    expect_why(&info, "nr_hugepages");
    expect_why(&info, "MADV_COLLAPSE needs Linux 6.1");

    fake_fail(FAKE_COLLAPSE, FAKE_ALWAYS, ENOMEM);
    info = info_of(&config);
    cr_expect(eq(int, info.pages, PW_PAGES_4K));
    expect_why(&info, "echo 1 > /proc/sys/vm/compact_memory");

    config.pages = PW_PAGES_THP;
    cr_expect(eq(int, open_err(&config), -ENOMEM));
}

Test(pool_refused, a_kind_asked_for_is_not_called_second_best)
{
    struct pw_pool_info info = info_of(&small_4k);

    cr_expect(eq(str, info.why, "4 KiB pages were asked for"));
    cr_expect(eq(int, fake.calls[FAKE_COLLAPSE], 0));
}

static struct pw_pool *open_thp(void)
{
    const struct pw_pool_config config = { .size = 16 * MIB, .pages = PW_PAGES_THP };
    struct pw_pool *pool;

    if (pw_pool_open_sys(&config, &fake_sys, &pool))
        cr_skip_test("no transparent hugepages for shared memory here");
    return pool;
}

/* No 2 MiB of contiguous memory: the same pages, but small. */
Test(pool_refused, memory_that_does_not_collapse_is_handed_out_all_the_same)
{
    const int refusals[] = { EINVAL, ENOMEM, EAGAIN, EBUSY };

    for (int i = 0; i < 4; i++) {
        struct pw_pool *pool = open_thp();
        char *p;

        fake_fail(FAKE_COLLAPSE, FAKE_ALWAYS, refusals[i]);
        p = pw_pool_alloc(pool, 8 * MIB, 0);
        cr_assert(ne(ptr, p, NULL));
        memset(p, 1, 8 * MIB);
        pw_pool_close(pool);
        fake_reset();
    }
}

static void expect_nothing_taken(struct pw_pool *pool)
{
    struct pw_pool_info info;
    struct stat st;

    pw_pool_describe(pool, &info);
    cr_expect(eq(sz, info.used, 0));
    cr_assert(eq(int, fstat(pw_pool_fd(pool), &st), 0));
    cr_expect(le(sz, (size_t)st.st_blocks * 512, 2 * MIB), "what the open tried");
}

/* The last call populates what the collapse left; before it, 16 MiB have been
 * taken, which a machine out of memory needs back. */
Test(pool_refused, a_machine_out_of_memory_gives_null_and_has_its_memory_back)
{
    struct pw_pool *pool = open_thp();
    char *p;

    fake_fail(FAKE_POPULATE, 9, EFAULT);
    cr_expect(eq(ptr, pw_pool_alloc(pool, 16 * MIB, 0), NULL));
    expect_nothing_taken(pool);
    fake_fail(FAKE_POPULATE, FAKE_ALWAYS, ENOMEM);
    cr_expect(eq(ptr, pw_pool_alloc(pool, 16 * MIB, 0), NULL));
    expect_nothing_taken(pool);

    fake_reset();
    p = pw_pool_alloc(pool, 16 * MIB, 0);
    cr_assert(ne(ptr, p, NULL));
    memset(p, 1, 16 * MIB);
    pw_pool_close(pool);
}

/* [1 MiB, 5 MiB): its first and last 2 MiB are shared with neighbours, who may
 * have populated and filled them while we tried. */
Test(pool_refused, giving_back_memory_spares_the_neighbours)
{
    struct pw_segment seg;
    struct pw_populate p;

    cr_assert(eq(int, pw_segment_create(&fake_sys, 6 * MIB, PW_SEGMENT_SPARSE, &seg), 0));
    cr_assert(eq(int, pw_populate_init(&p, &fake_sys, &seg, PW_PAGES_2M), 0));
    memset(seg.base, 'x', 6 * MIB);
    fake_fail(FAKE_POPULATE, FAKE_ALWAYS, ENOMEM);
    cr_expect(eq(int, pw_populate(&p, MIB, 4 * MIB), -ENOMEM));
    cr_expect(eq(chr, seg.base[0], 'x'));
    cr_expect(eq(chr, seg.base[2 * MIB - 1], 'x'));
    cr_expect(eq(chr, seg.base[2 * MIB], '\0'), "all its own");
    cr_expect(eq(chr, seg.base[4 * MIB - 1], '\0'));
    cr_expect(eq(chr, seg.base[4 * MIB], 'x'));
    cr_expect(eq(chr, seg.base[6 * MIB - 1], 'x'));

    /* Within one 2 MiB, none is all its own. */
    cr_expect(eq(int, pw_populate(&p, MIB, PAGE), -ENOMEM));
    cr_expect(eq(chr, seg.base[0], 'x'));
    pw_populate_fini(&p);
    pw_segment_destroy(&seg);
}

Test(pool_refused, no_memory_for_what_was_reserved)
{
    struct pw_pool *pool = open_ok(&small_4k);
    char *p = pw_pool_reserve(pool, MIB, 0);

    cr_assert(ne(ptr, p, NULL));
    cr_expect(eq(int, fake.calls[FAKE_POPULATE], 0));
    for (int little = 0; little < 2; little++) {
        fake_fail(FAKE_POPULATE, 1, ENOMEM);
        cr_expect(eq(int, pw_pool_back(pool, p, MIB, little), -ENOMEM));
        cr_expect(eq(int, pw_pool_back(pool, p, MIB, little), 0), "later there is");
        p = pw_pool_reserve(pool, MIB, 0);
    }
    pw_pool_close(pool);
}

Test(pool_refused, populated_once_is_populated_for_good)
{
    struct pw_pool *pool = open_ok(&small_4k);
    char *p = pw_pool_alloc(pool, MIB, 0);
    int calls = fake.calls[FAKE_POPULATE];

    cr_expect(eq(int, calls, 1));
    for (int i = 0; i < 10; i++) {
        pw_pool_free(pool, p);
        p = pw_pool_alloc(pool, MIB, 0);
    }
    cr_expect(eq(int, fake.calls[FAKE_POPULATE], calls));
    pw_pool_close(pool);
}

/* [page 0][hole of 1][page 2]: only what has no memory yet is asked for. */
Test(pool_refused, a_partly_populated_run_asks_for_the_rest_only)
{
    struct pw_pool *pool = open_ok(&small_4k);
    char *a = pw_pool_alloc(pool, 100 * PAGE, 0);
    int before = fake.calls[FAKE_POPULATE];
    char *b;

    pw_pool_free(pool, a);
    a[99 * PAGE] = 'x';
    b = pw_pool_alloc(pool, 300 * PAGE, 0);
    cr_assert(eq(ptr, b, a));
    cr_expect(eq(int, fake.calls[FAKE_POPULATE], before + 1));
    cr_expect(eq(chr, a[99 * PAGE], 'x'), "untouched");
    pw_pool_close(pool);
}

Test(pool_refused, passing_refusals_are_tried_again_lasting_ones_are_not)
{
    struct pw_pool *pool = open_ok(&small_4k);
    int before;

    fake_fail(FAKE_POPULATE, 1, EAGAIN);
    cr_expect(ne(ptr, pw_pool_alloc(pool, MIB, 0), NULL));
    fake_fail(FAKE_POPULATE, 1, EINTR);
    cr_expect(ne(ptr, pw_pool_alloc(pool, MIB, 0), NULL));

    before = fake.calls[FAKE_POPULATE];
    fake_fail(FAKE_POPULATE, FAKE_ALWAYS, EAGAIN);
    cr_expect(eq(ptr, pw_pool_alloc(pool, MIB, 0), NULL));
    cr_expect(eq(int, fake.calls[FAKE_POPULATE], before + 3));
    pw_pool_close(pool);
}

/* Linux before 5.14: populating is EINVAL, fallocate() is not. */
Test(pool_refused, without_populate_fallocate_takes_the_memory)
{
    struct pw_pool *pool;
    struct stat st;

    fake_fail(FAKE_POPULATE, FAKE_ALWAYS, EINVAL);
    pool = open_ok(&small_4k);
    cr_assert(ne(ptr, pw_pool_alloc(pool, 4 * MIB, 0), NULL));
    cr_assert(eq(int, fstat(pw_pool_fd(pool), &st), 0));
    cr_expect(eq(sz, (size_t)st.st_blocks * 512, 4 * MIB));

    fake_fail(FAKE_FALLOCATE, 1, ENOSPC);
    cr_expect(eq(ptr, pw_pool_alloc(pool, 4 * MIB, 0), NULL));
    cr_expect(ne(ptr, pw_pool_alloc(pool, 4 * MIB, 0), NULL));
    pw_pool_close(pool);
}

/* A unit that two allocations share is populated while the first is in use. */
Test(pool_refused, without_populate_memory_in_use_is_not_changed)
{
    struct pw_pool_config config = { .size = 16 * MIB, .pages = PW_PAGES_2M };
    struct pw_pool *pool;
    char *p;

    fake.free_pages = 64;
    fake_fail(FAKE_POPULATE, FAKE_ALWAYS, EINVAL);
    pool = open_ok(&config);
    p = pw_pool_base(pool);
    memset(p, 'x', 2 * MIB);
    cr_assert(eq(ptr, pw_pool_alloc(pool, PAGE, 0), p));
    for (size_t i = 0; i < 2 * MIB; i++)
        cr_assert(eq(chr, p[i], 'x'));
    pw_pool_close(pool);
}

Test(pool_refused, the_default_size_is_half_of_ram_shared_and_bounded)
{
    struct pw_pool_config config = { .pages = PW_PAGES_4K };

    cr_expect(eq(sz, info_of(&config).size, 4096 * MIB));
    config.sharers = 3;
    cr_expect(eq(sz, info_of(&config).size, 1364 * MIB), "in whole 2 MiB");
    config.sharers = 1000;
    cr_expect(eq(sz, info_of(&config).size, 64 * MIB), "at least");
    config.sharers = 1;
    fake.ram = (uint64_t)1 << 40;
    cr_expect(eq(sz, info_of(&config).size, 64 * 1024 * MIB), "at most");
    fake.ram = 0;
    cr_expect(eq(sz, info_of(&config).size, 64 * MIB), "unknown");
}

Test(pool_refused, the_default_size_keeps_within_the_limits)
{
    struct pw_pool_config config = { .pages = PW_PAGES_4K, .sharers = 4 };

    fake.as = 1024 * MIB;
    cr_expect(eq(sz, info_of(&config).size, 128 * MIB), "room for all four, and more");
    fake.fsize = 33 * MIB;
    cr_expect(eq(sz, info_of(&config).size, 32 * MIB));
    fake.as = MIB;
    fake.fsize = RLIM_INFINITY;
    cr_expect(eq(sz, info_of(&config).size, 2 * MIB), "at least one");
}

Test(pool_refused, a_probe_that_fails_says_so)
{
    struct pw_pool_info info;

    fake_fail(FAKE_MEMFD, FAKE_ALWAYS, EMFILE);
    cr_expect(eq(int, pw_pool_probe_sys(&fake_sys, &info), -EMFILE));
    fake_reset();
    fake.free_pages = 8;
    cr_expect(eq(int, pw_pool_probe_sys(&fake_sys, &info), 0));
    cr_expect(eq(int, info.pages, PW_PAGES_2M));
}

Test(pool_refused, a_peer_without_address_space_is_told)
{
    struct pw_pool *pool = open_ok(&small_4k);
    void *base;

    for (int nth = 1; nth <= 2; nth++) {
        fake_fail(FAKE_MMAP, nth, ENOMEM);
        cr_expect(eq(int, pw_pool_map_sys(&fake_sys, pw_pool_fd(pool), 16 * MIB, &base),
                     -ENOMEM));
    }
    cr_expect(eq(int, segment_mappings(), 1), "the owner's");
    pw_pool_close(pool);
}

/* Old kernels and odd files may refuse MADV_DONTDUMP: then dumps are bigger. */
Test(pool_refused, a_peer_maps_even_if_its_core_dump_cannot_be_trimmed)
{
    struct pw_pool *pool = open_ok(&small_4k);
    void *base;

    fake_fail(FAKE_DONTDUMP, 1, EINVAL);
    cr_assert(eq(int, pw_pool_map_sys(&fake_sys, pw_pool_fd(pool), 16 * MIB, &base), 0));
    pw_pool_unmap(base, 16 * MIB);
    pw_pool_close(pool);
}

/* Half a sentence would mislead. */
Test(pool_refused, reasons_that_do_not_fit_are_left_out)
{
    struct pw_why why = { .len = 0 };

    pw_why_add(&why, "%0200d", 1);
    pw_why_add(&why, "%0100d", 2);
    cr_expect(eq(sz, strlen(why.text), 200));
    pw_why_add(&why, "short");
    cr_expect(eq(str, why.text + 200, "; short"));
    pw_why_add(&why, "%046d", 3);
    cr_expect(eq(sz, strlen(why.text), 255));
    pw_why_add(&why, "x");
    cr_expect(eq(sz, strlen(why.text), 255));
}

/* ---- NUMA nodes ---- */

static const char *nodes_of(struct pw_pool *pool, size_t room)
{
    static char list[64];

    memset(list, 'x', sizeof list);
    pw_pool_nodes(pool, list, room);
    return list;
}

Test(pool_refused, the_nodes_of_what_was_handed_out_are_told)
{
    struct pw_pool *pool = open_ok(&small_4k);

    fake.nodes = "0-7\n";
    cr_expect(eq(str, (char *)nodes_of(pool, 64), ""), "there is no memory yet");
    pw_pool_alloc(pool, 4096, 0);
    cr_expect(eq(str, (char *)nodes_of(pool, 64), "3"));
    pw_pool_alloc(pool, 4 * MIB, 0);
    cr_expect(eq(str, (char *)nodes_of(pool, 64), "3,5"));
    cr_expect(eq(str, (char *)nodes_of(pool, 2), "3"), "as far as there is room");
    cr_expect(eq(str, (char *)nodes_of(pool, 1), ""));
    pw_pool_close(pool);
}

/* As in a container. */
Test(pool_refused, no_node_is_told_where_the_kernel_does_not_tell)
{
    struct pw_pool *pool = open_ok(&small_4k);

    pw_pool_alloc(pool, 4096, 0);
    fake.nodes = "0,3\n";
    fake_fail(FAKE_MOVE_PAGES, 1, EPERM);
    cr_expect(eq(str, (char *)nodes_of(pool, 64), ""));
    cr_expect(eq(int, fake.calls[FAKE_MOVE_PAGES], 1));
    fake.nodes = "0\n";
    cr_expect(eq(str, (char *)nodes_of(pool, 64), ""));
    fake.nodes = NULL;
    fake.resv_pages = -1;
    cr_expect(eq(str, (char *)nodes_of(pool, 64), ""), "no such file");
    cr_expect(eq(int, fake.calls[FAKE_MOVE_PAGES], 1), "with one node nobody is asked");
    pw_pool_close(pool);
}
