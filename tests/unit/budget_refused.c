/* SPDX-License-Identifier: BSD-3-Clause */
/* budget_refused.c - what becomes of the budget where the host's account cannot be
 * had, or is not what it should be. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "budget_rig.h"

TestSuite(budget_refused, .init = rig_open, .fini = rig_close);

static void expect_no_account_in(const char *where, const char *why)
{
    struct pw_budget *b;
    struct pw_budget_info info;

    cr_assert(eq(int, pw_budget_open_sys(&usual, &fake_sys, where, &b), 0));
    info = info_of(b);
    cr_expect(ne(ptr, strstr(info.why, why), NULL), "'%s' does not say '%s'", info.why, why);
    cr_expect(eq(sz, info.rank_bytes, 25 * MIB), "a quarter of the host's");
    cr_expect(eq(sz, info.host_bytes, 100 * MIB));
    cr_expect(eq(int, pw_budget_charge(b, 25 * MIB + 1, 1), -ENOMEM));
    cr_expect(eq(int, pw_budget_charge(b, 25 * MIB, 1), 0));
    cr_expect(eq(sz, info_of(b).host_used_bytes, 25 * MIB));
    cr_expect(eq(u32, info_of(b).processes, 1));
    pw_budget_credit(b, 25 * MIB, 1);
    cr_expect(eq(u32, info_of(b).processes, 0));
    pw_budget_close(b);
}

static void expect_no_account(const char *why)
{
    expect_no_account_in(dir, why);
}

static void put_there(mode_t mode, off_t size)
{
    int fd = open(account(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);

    cr_assert(ge(int, fd, 0));
    cr_assert(eq(int, fchmod(fd, mode), 0));
    cr_assert(eq(int, ftruncate(fd, size), 0));
    close(fd);
}

static off_t there(void)
{
    struct stat st;
    off_t size = lstat(account(), &st) ? -1 : st.st_size;

    unlink(account());
    return size;
}

Test(budget_refused, no_dev_shm)
{
    expect_no_account_in("/nonexistent", "/nonexistent/pinwheel.");
    expect_no_account_in("/nonexistent", "No such file or directory");
}

Test(budget_refused, a_read_only_dev_shm)
{
    fake.open = EROFS;
    expect_no_account("Read-only file system");
}

Test(budget_refused, no_descriptor_left)
{
    fake.open = EMFILE;
    expect_no_account("Too many open files");
}

/* Pages are reserved: a full file system is not found out by SIGBUS. */
Test(budget_refused, a_full_dev_shm)
{
    fake.fallocate = ENOSPC;
    expect_no_account("No space left on device");
    cr_expect(le(int, (int)there(), 65536));
}

Test(budget_refused, a_file_that_may_not_grow)
{
    fake.ftruncate = EFBIG;
    expect_no_account("File too large");
    cr_expect(eq(int, (int)there(), 0));
}

Test(budget_refused, no_address_space)
{
    fake.mmap = ENOMEM;
    expect_no_account("Cannot allocate memory");
    there();
}

Test(budget_refused, no_address_space_for_one_who_comes_later)
{
    struct other o = holder(1);

    fake.mmap = ENOMEM;
    expect_no_account("Cannot allocate memory");
    other_kill(&o);
    there();
}

Test(budget_refused, a_file_system_without_locks)
{
    fake.ofd_lock = EINVAL;
    expect_no_account("cannot be locked");
    cr_expect(eq(int, (int)there(), 0));
}

Test(budget_refused, a_lock_that_cannot_be_dropped)
{
    fake.lock_type = F_UNLCK;
    fake.ofd_lock = ENOLCK;
    expect_no_account("cannot be shared");
    there();
}

Test(budget_refused, every_place_is_taken)
{
    fake.ofd_lock = EAGAIN;
    expect_no_account("all places");
    cr_expect(eq(int, (int)there(), 0));
}

Test(budget_refused, a_symlink_is_not_followed)
{
    cr_assert(eq(int, symlink("/dev/null", account()), 0));
    expect_no_account("cannot be opened");
    there();
}

Test(budget_refused, a_folder_in_its_place)
{
    cr_assert(eq(int, mkdir(account(), 0700), 0));
    expect_no_account("Is a directory");
    rmdir(account());
}

Test(budget_refused, a_pipe_in_its_place_is_not_waited_for)
{
    cr_assert(eq(int, mkfifo(account(), 0600), 0));
    expect_no_account("is not a file");
    there();
}

Test(budget_refused, another_users_file)
{
    put_there(0600, 65536);
    if (chown(account(), 54321, 54321)) {
        there();
        rmdir(dir);
        cr_skip_test("only root can make one");
    }
    expect_no_account("belongs to another user");
    cr_expect(eq(int, (int)there(), 65536), "and is left alone");
}

Test(budget_refused, a_file_that_others_may_write)
{
    put_there(0620, 65536);
    expect_no_account("is open to others");
    there();
}

Test(budget_refused, a_file_that_has_a_second_name)
{
    char second[96];

    put_there(0600, 65536);
    snprintf(second, sizeof second, "%s.second", account());
    cr_assert(eq(int, link(account(), second), 0));
    expect_no_account("is open to others");
    unlink(second);
    there();
}

Test(budget_refused, garbage_that_nobody_uses_is_made_anew)
{
    static const off_t sizes[] = { 0, 100, 65536, 1 << 20 };

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct pw_budget *b;
        int fd;

        put_there(0600, sizes[i]);
        fd = open(account(), O_WRONLY | O_CLOEXEC);
        for (off_t at = 0; at < sizes[i]; at += 4)
            cr_assert(eq(int, (int)pwrite(fd, "\xff\xff\xff\xff", 4, at), 4));
        close(fd);
        b = open_with(usual);
        cr_expect(eq(str, info_of(b).why, ""));
        cr_expect(eq(sz, info_of(b).host_bytes, 100 * MIB));
        cr_expect(eq(sz, info_of(b).host_used_bytes, 0));
        cr_expect(eq(int, pw_budget_charge(b, 64 * MIB, 1), 0));
        pw_budget_close(b);
    }
}

static bool locks_a_place(void *arg)
{
    int fd = open(account(), O_RDWR | O_CLOEXEC);

    (void)arg;
    return pw_sys_real.ofd_lock(fd, F_WRLCK, 5, 1) == 0;
}

Test(budget_refused, garbage_that_somebody_uses_is_left_alone)
{
    static const struct { off_t size; const char *why; } cases[] = {
        { 100, "is no account" }, { 65536, "of another version" },
    };

    for (int i = 0; i < 2; i++) {
        struct other o;

        put_there(0600, cases[i].size);
        o = other_start(locks_a_place, NULL);
        other_wait(&o);
        expect_no_account(cases[i].why);
        other_reap(&o);
        cr_expect(eq(int, (int)there(), (int)cases[i].size));
    }
}

Test(budget_refused, the_accounts_file_is_removed_under_us)
{
    struct pw_budget *b = open_with(usual), *later;

    cr_expect(eq(int, unlink(account()), 0));
    cr_expect(eq(int, pw_budget_charge(b, 60 * MIB, 1), 0));
    later = open_with(usual);
    pw_budget_close(b);
    cr_expect(eq(int, access(account(), F_OK), 0), "the later one's file is not ours");
    pw_budget_close(later);
}

Test(budget_refused, a_umask_that_takes_everything)
{
    mode_t old = umask(0777);
    struct pw_budget *b = open_with(usual);
    struct stat st;

    umask(old);
    cr_expect(eq(str, info_of(b).why, ""));
    cr_expect(eq(int, stat(account(), &st), 0));
    cr_expect(eq(int, (int)(st.st_mode & 07777), 0600));
    pw_budget_close(b);
}
