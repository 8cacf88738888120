/* SPDX-License-Identifier: BSD-3-Clause */
/* budget.c - limits of a process and of a host, and what becomes of them when
 * processes fork, exec and are killed.
 *
 * The host's account of each test is a file in a folder of the test's own; only
 * one test uses /dev/shm.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pinwheel/budget.h"
#include "regcache/account.h"
#include "regcache/budget_sys.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

/* A rank that may have 64 MiB of a host's 100. */
static const struct pw_budget_config usual = {
    .rank_bytes = 64 * MIB, .rank_regions = 100, .host_bytes = 100 * MIB, .sharers = 4,
};

/* --------------------------------------------- a kernel that says what we like */

static struct fake {
    int open, ofd_lock, fallocate, ftruncate, mmap, read;   /* errno, 0: the real one */
    short lock_type;            /* only this one is refused */
    uint64_t ram;
    struct rlimit memlock;
    const char *status, *uid_map;
} fake;

static struct pw_sys fake_sys;

static int fake_open(const char *path, int flags, mode_t mode)
{
    errno = fake.open;
    return errno ? -1 : pw_sys_real.open(path, flags, mode);
}

static int fake_ofd_lock(int fd, short type, off_t start, off_t len)
{
    errno = type == fake.lock_type ? fake.ofd_lock : 0;
    return errno ? -1 : pw_sys_real.ofd_lock(fd, type, start, len);
}

static int fake_fallocate(int fd, int mode, off_t offset, off_t len)
{
    errno = fake.fallocate;
    return errno ? -1 : pw_sys_real.fallocate(fd, mode, offset, len);
}

static int fake_ftruncate(int fd, off_t size)
{
    errno = fake.ftruncate;
    return errno ? -1 : pw_sys_real.ftruncate(fd, size);
}

static void *fake_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
    errno = fake.mmap;
    return errno ? MAP_FAILED : pw_sys_real.mmap(addr, len, prot, flags, fd, offset);
}

static uint64_t fake_ram(void)
{
    return fake.ram;
}

static int fake_getrlimit(int resource, struct rlimit *out)
{
    cr_assert(eq(int, resource, RLIMIT_MEMLOCK));
    *out = fake.memlock;
    return 0;
}

static int fake_read_text(const char *path, char *text, size_t size)
{
    const char *told = strstr(path, "uid_map") ? fake.uid_map
                       : strstr(path, "status") ? fake.status : NULL;

    if (fake.read)
        return -fake.read;
    if (!told)
        return pw_sys_real.read_text(path, text, size);
    snprintf(text, size, "%s", told);
    return 0;
}

static char dir[40];

static void setup(void)
{
    fake = (struct fake){
        .lock_type = F_WRLCK, .ram = 64 * GIB, .memlock = { RLIM_INFINITY, RLIM_INFINITY },
        .status = "Name:\tx\nCapEff:\t0000000000000000\n",
        .uid_map = "         0          0 4294967295\n",
    };
    fake_sys = pw_sys_real;
    fake_sys.open = fake_open;
    fake_sys.ofd_lock = fake_ofd_lock;
    fake_sys.fallocate = fake_fallocate;
    fake_sys.ftruncate = fake_ftruncate;
    fake_sys.mmap = fake_mmap;
    fake_sys.ram = fake_ram;
    fake_sys.getrlimit = fake_getrlimit;
    fake_sys.read_text = fake_read_text;

    signal(SIGPIPE, SIG_IGN);   /* telling one that was killed */
    strcpy(dir, "/tmp/pinwheel-budget.XXXXXX");
    cr_assert(ne(ptr, mkdtemp(dir), NULL));
}

/* No test may leave a file behind but the one that it put there itself. */
static void teardown(void)
{
    cr_expect(eq(int, rmdir(dir), 0), "left behind in %s", dir);
}

TestSuite(budget, .init = setup, .fini = teardown);

static char *account(void)
{
    static char path[80];

    snprintf(path, sizeof path, "%s/pinwheel.%u", dir, (unsigned)geteuid());
    return path;
}

static struct pw_budget *open_with(struct pw_budget_config config)
{
    struct pw_budget *b;

    cr_assert(eq(int, pw_budget_open_sys(&config, &fake_sys, dir, &b), 0));
    return b;
}

static struct pw_budget_info info_of(struct pw_budget *b)
{
    struct pw_budget_info info;

    memset(&info, 0x5a, sizeof info);
    pw_budget_describe(b, &info);
    return info;
}

/* -------------------------------------------------------------- other processes */

/* Ends when it is told to. */
struct other {
    pid_t pid;
    int tell, hear;
};

static void other_wait(struct other *o)
{
    char c;

    cr_assert(eq(int, (int)read(o->hear, &c, 1), 1), "the other process failed");
}

/* body runs in a child; what it returns is told, then it waits for a word. */
static struct other other_start(bool (*body)(void *), void *arg)
{
    struct other o;
    int down[2], up[2];
    char c;

    cr_assert(eq(int, pipe2(down, O_CLOEXEC), 0));
    cr_assert(eq(int, pipe2(up, O_CLOEXEC), 0));
    o.pid = fork();
    cr_assert(ge(int, o.pid, 0));
    if (o.pid == 0) {
        close(down[1]);
        close(up[0]);
        if (body(arg) && write(up[1], "", 1) == 1)
            (void)!read(down[0], &c, 1);
        _exit(0);
    }
    close(down[0]);
    close(up[1]);
    o.tell = down[1];
    o.hear = up[0];
    return o;
}

/* A word, for the other end of the pipe does not close: later ones inherited it. */
static void other_reap(struct other *o)
{
    int status;

    (void)!write(o->tell, "\n", 1);
    close(o->tell);
    close(o->hear);
    cr_assert(eq(int, waitpid(o->pid, &status, 0), o->pid));
}

static void other_kill(struct other *o)
{
    cr_assert(eq(int, kill(o->pid, SIGKILL), 0));
    other_reap(o);
}

/* As open_with(), for Criterion does not hear what is asserted here. */
static struct pw_budget *others_open(void)
{
    struct pw_budget *b;

    if (pw_budget_open_sys(&usual, &fake_sys, dir, &b))
        _exit(1);
    return b;
}

/* Most bodies: a budget of its own, with so much taken. */
static struct pw_budget *others_budget;

static bool holds(void *bytes)
{
    others_budget = others_open();
    return pw_budget_charge(others_budget, *(size_t *)bytes, 1) == 0;
}

static struct other holder(size_t bytes)
{
    struct other o = other_start(holds, &bytes);

    other_wait(&o);
    return o;
}

/* --------------------------------------------------------------- one process */

Test(budget, what_is_taken_is_counted_and_given_back)
{
    struct pw_budget *b = open_with(usual);
    struct pw_budget_info info;

    cr_expect(eq(int, pw_budget_charge(b, 3 * MIB, 2), 0));
    cr_expect(eq(int, pw_budget_charge(b, 4 * KIB, 1), 0));
    info = info_of(b);
    cr_expect(eq(sz, info.used_bytes, 3 * MIB + 4 * KIB));
    cr_expect(eq(sz, info.used_regions, 3));
    cr_expect(eq(sz, info.host_used_bytes, 3 * MIB + 4 * KIB));
    cr_expect(eq(u32, info.processes, 1));
    cr_expect(eq(sz, info.rank_bytes, 64 * MIB));
    cr_expect(eq(sz, info.rank_regions, 100));
    cr_expect(eq(sz, info.host_bytes, 100 * MIB));
    cr_expect(eq(str, info.why, ""));

    pw_budget_credit(b, 3 * MIB, 2);
    pw_budget_credit(b, 4 * KIB, 1);
    info = info_of(b);
    cr_expect(eq(sz, info.used_bytes, 0));
    cr_expect(eq(sz, info.used_regions, 0));
    cr_expect(eq(sz, info.host_used_bytes, 0));
    cr_expect(eq(u32, info.processes, 0));
    pw_budget_close(b);
}

Test(budget, the_last_byte_is_had_and_not_one_more)
{
    struct pw_budget *b = open_with(usual);

    cr_expect(eq(int, pw_budget_charge(b, 64 * MIB + 1, 1), -ENOMEM));
    cr_expect(eq(int, pw_budget_charge(b, SIZE_MAX, 1), -ENOMEM));
    cr_expect(eq(int, pw_budget_charge(b, 64 * MIB, 1), 0));
    cr_expect(eq(int, pw_budget_charge(b, 1, 0), -ENOMEM));
    cr_expect(eq(int, pw_budget_charge(b, SIZE_MAX, 0), -ENOMEM));
    cr_expect(eq(sz, info_of(b).used_bytes, 64 * MIB), "a refusal takes nothing");
    cr_expect(eq(sz, info_of(b).host_used_bytes, 64 * MIB));
    pw_budget_credit(b, 1, 0);
    cr_expect(eq(int, pw_budget_charge(b, 1, 0), 0));
    pw_budget_close(b);
}

Test(budget, the_last_region_is_had_and_not_one_more)
{
    struct pw_budget *b = open_with(usual);

    cr_expect(eq(int, pw_budget_charge(b, 1, SIZE_MAX), -ENOMEM));
    cr_expect(eq(int, pw_budget_charge(b, 1, 100), 0));
    cr_expect(eq(int, pw_budget_charge(b, 1, 1), -ENOMEM));
    cr_expect(eq(sz, info_of(b).used_bytes, 1), "a refusal takes nothing");
    pw_budget_credit(b, 1, 1);
    cr_expect(eq(int, pw_budget_charge(b, 1, 1), 0));
    pw_budget_close(b);
}

Test(budget, the_hosts_limit_may_be_the_smaller_one)
{
    struct pw_budget_config config = usual;
    struct pw_budget *b;

    config.host_bytes = 10 * MIB;
    b = open_with(config);
    cr_expect(eq(int, pw_budget_charge(b, 10 * MIB + 1, 1), -ENOMEM),
              "nobody else holds any: not EDQUOT");
    cr_expect(eq(int, pw_budget_charge(b, 10 * MIB, 1), 0));
    cr_expect(eq(int, pw_budget_charge(b, 1, 1), -ENOMEM));
    pw_budget_close(b);
}

Test(budget, more_given_back_than_taken_is_not_a_gift)
{
    struct pw_budget *b = open_with(usual);

    pw_budget_charge(b, 1 * MIB, 1);
    pw_budget_credit(b, 2 * MIB, 2);
    cr_expect(eq(sz, info_of(b).used_bytes, 0));
    cr_expect(eq(sz, info_of(b).used_regions, 0));
    cr_expect(eq(int, pw_budget_charge(b, 64 * MIB + 1, 1), -ENOMEM));
    pw_budget_close(b);
}

Test(budget, closing_nothing_is_fine)
{
    pw_budget_close(NULL);
}

Test(budget, names_are_letters_digits_and_dashes)
{
    static const char *const bad[] = {
        "", "a/b", "..", "a b", "a_b", "\xc3\xa4",
        "12345678901234567890123456789012345678901234567890123456789012345",
    };
    static const char *const good[] = {
        "a", "Job-17", "-",
        "1234567890123456789012345678901234567890123456789012345678901234",
    };
    struct pw_budget_config config = usual;
    struct pw_budget *b;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        config.name = bad[i];
        b = (struct pw_budget *)&config;
        cr_expect(eq(int, pw_budget_open_sys(&config, &fake_sys, dir, &b), -EINVAL),
                  "'%s'", bad[i]);
        cr_expect(eq(ptr, b, NULL));
    }
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        config.name = good[i];
        b = open_with(config);
        cr_expect(eq(str, info_of(b).why, ""), "'%s'", good[i]);
        pw_budget_close(b);
    }
}

Test(budget, another_name_is_another_account)
{
    struct pw_budget_config config = usual;
    struct pw_budget *a, *b;

    a = open_with(config);
    config.name = "b";
    b = open_with(config);
    pw_budget_charge(a, 60 * MIB, 1);
    cr_expect(eq(int, pw_budget_charge(b, 60 * MIB, 1), 0));
    cr_expect(eq(sz, info_of(b).host_used_bytes, 60 * MIB));
    pw_budget_close(a);
    pw_budget_close(b);
}

/* ------------------------------------------------------------------- defaults */

static const struct pw_budget_config unsaid;

static void expect_rank_bytes(unsigned sharers, size_t bytes, const char *when)
{
    struct pw_budget_config config = { .sharers = sharers };
    struct pw_budget *b = open_with(config);

    cr_expect(eq(sz, info_of(b).rank_bytes, bytes), "%s", when);
    pw_budget_close(b);
}

Test(budget, without_a_word_a_rank_has_a_share_of_ram)
{
    struct pw_budget *b = open_with(unsaid);

    cr_expect(eq(sz, info_of(b).host_bytes, 32 * GIB));
    cr_expect(eq(sz, info_of(b).rank_regions, 65536));
    pw_budget_close(b);
    expect_rank_bytes(0, 16 * GIB, "alone");
    expect_rank_bytes(1, 16 * GIB, "alone");
    expect_rank_bytes(8, 2 * GIB, "one of eight");
    fake.ram = 0;
    expect_rank_bytes(1, 1 * GIB, "RAM that cannot be told");
}

Test(budget, the_limit_of_locked_memory_is_kept_below)
{
    fake.memlock.rlim_cur = 8 * MIB;
    expect_rank_bytes(1, 6 * MIB, "three quarters");
    expect_rank_bytes(8, 6 * MIB, "the limit is each process's");
    fake.memlock.rlim_cur = 0;
    expect_rank_bytes(1, 0, "nothing may be locked");
}

Test(budget, who_may_lock_memory_is_not_bound_by_its_limit)
{
    fake.memlock.rlim_cur = 8 * MIB;
    fake.status = "CapInh:\t0\nCapEff:\t0000000000004000\nCapBnd:\t0\n";
    expect_rank_bytes(1, 16 * GIB, "CAP_IPC_LOCK");
    fake.status = "CapInh:\t0\nCapEff:\tffffffffffffbfff\nCapBnd:\t0\n";
    expect_rank_bytes(1, 6 * MIB, "every capability but that one");
    fake.status = "Name:\tx\n";
    expect_rank_bytes(1, 6 * MIB, "no capabilities told");
}

Test(budget, root_of_a_container_is_bound)
{
    fake.memlock.rlim_cur = 8 * MIB;
    fake.status = "Name:\tx\nCapEff:\tffffffffffffffff\n";
    expect_rank_bytes(1, 16 * GIB, "root of the host");
    fake.uid_map = "0 1000 1\n";
    expect_rank_bytes(1, 6 * MIB, "root by a mapping");
    fake.uid_map = "0 100000 65536\n";
    expect_rank_bytes(1, 6 * MIB, "root by a mapping of many");
    fake.uid_map = "\n";
    expect_rank_bytes(1, 6 * MIB, "no mapping yet");
    fake.read = EACCES;
    expect_rank_bytes(1, 6 * MIB, "nothing can be read");
}

/* ------------------------------------------------------------ several processes */

Test(budget, two_processes_share_the_host)
{
    struct pw_budget *b = open_with(usual);
    struct other o = holder(60 * MIB);

    cr_expect(eq(int, pw_budget_charge(b, 40 * MIB + 1, 1), -EDQUOT));
    cr_expect(eq(sz, info_of(b).used_bytes, 0));
    cr_expect(eq(sz, info_of(b).host_used_bytes, 60 * MIB));
    cr_expect(eq(int, pw_budget_charge(b, 40 * MIB, 1), 0));
    cr_expect(eq(sz, info_of(b).host_used_bytes, 100 * MIB));
    cr_expect(eq(u32, info_of(b).processes, 2));
    other_kill(&o);
    pw_budget_close(b);
}

Test(budget, the_first_ones_limit_holds_until_nobody_is_left)
{
    struct pw_budget_config config = usual;
    struct other o = holder(1);
    struct pw_budget *b;

    config.host_bytes = 500 * MIB;
    b = open_with(config);
    cr_expect(eq(sz, info_of(b).host_bytes, 100 * MIB));
    other_kill(&o);
    pw_budget_close(b);

    o = holder(1);
    other_kill(&o);
    cr_expect(eq(int, access(account(), F_OK), 0), "a killed one cleans nothing up");
    b = open_with(config);
    cr_expect(eq(sz, info_of(b).host_bytes, 500 * MIB), "the dead one's limit is gone");
    cr_expect(eq(sz, info_of(b).host_used_bytes, 0));
    pw_budget_close(b);
}

Test(budget, what_a_killed_process_held_is_free_at_the_next_charge)
{
    struct pw_budget *b = open_with(usual);
    struct other o = holder(60 * MIB);

    cr_expect(eq(int, pw_budget_charge(b, 60 * MIB, 1), -EDQUOT));
    other_kill(&o);
    cr_expect(eq(int, pw_budget_charge(b, 60 * MIB, 1), 0));
    pw_budget_close(b);
}

Test(budget, what_a_killed_process_held_is_not_described)
{
    struct pw_budget *b = open_with(usual);
    struct other o = holder(60 * MIB);

    cr_expect(eq(u32, info_of(b).processes, 1));
    other_kill(&o);
    cr_expect(eq(sz, info_of(b).host_used_bytes, 0));
    cr_expect(eq(u32, info_of(b).processes, 0));
    pw_budget_close(b);
}

Test(budget, a_killed_ones_place_is_taken_over)
{
    struct pw_budget *b = open_with(usual);
    struct other o = holder(60 * MIB);

    other_kill(&o);
    o = holder(10 * MIB);
    cr_expect(eq(sz, info_of(b).host_used_bytes, 10 * MIB));
    other_kill(&o);
    pw_budget_close(b);
}

static bool holds_and_closes(void *bytes)
{
    bool held = holds(bytes);

    pw_budget_close(others_budget);
    return held;
}

Test(budget, closing_gives_everything_back)
{
    size_t bytes = 60 * MIB;
    struct pw_budget *b = open_with(usual);
    struct other o = other_start(holds_and_closes, &bytes);

    other_wait(&o);
    cr_expect(eq(int, pw_budget_charge(b, 60 * MIB, 1), 0));
    other_reap(&o);
    pw_budget_close(b);
}

static bool holds_and_execs(void *bytes)
{
    return holds(bytes) && execl("/bin/sh", "sh", "-c", "echo; read x", (char *)NULL);
}

Test(budget, what_a_process_held_is_free_when_it_becomes_another_program)
{
    size_t bytes = 60 * MIB;
    struct pw_budget *b = open_with(usual);
    struct other o;
    int down[2], up[2];
    char c;

    cr_assert(eq(int, pipe2(down, O_CLOEXEC), 0));
    cr_assert(eq(int, pipe2(up, O_CLOEXEC), 0));
    o.pid = fork();
    if (o.pid == 0) {
        dup2(down[0], 0);
        dup2(up[1], 1);
        holds_and_execs(&bytes);
        _exit(1);
    }
    o.tell = down[1];
    o.hear = up[0];
    close(down[0]);
    close(up[1]);
    cr_assert(eq(int, (int)read(o.hear, &c, 1), 1), "the shell is running");
    cr_expect(eq(int, pw_budget_charge(b, 60 * MIB, 1), 0));
    other_reap(&o);
    pw_budget_close(b);
}

/* ------------------------------------------------------------------------ fork */

struct forked {
    struct pw_budget *b;        /* the parent's, with 60 MiB taken */
    int taken_40, taken_41;
    struct pw_budget_info first;
};

static bool forks_properly(void *arg)
{
    struct forked *f = arg;

    pw_budget_forked(f->b);
    pw_budget_describe(f->b, &f->first);
    f->taken_41 = pw_budget_charge(f->b, 41 * MIB, 1);
    f->taken_40 = pw_budget_charge(f->b, 40 * MIB, 1);
    return true;
}

static struct forked *forked_open(void)
{
    struct forked *f = mmap(NULL, sizeof *f, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    cr_assert(ne(ptr, f, MAP_FAILED));
    f->b = open_with(usual);
    cr_assert(eq(int, pw_budget_charge(f->b, 60 * MIB, 5), 0));
    return f;
}

Test(budget, a_forked_child_has_nothing_and_shares_the_host)
{
    struct forked *f = forked_open();
    struct other o = other_start(forks_properly, f);

    other_wait(&o);
    cr_expect(eq(sz, f->first.used_bytes, 0));
    cr_expect(eq(sz, f->first.used_regions, 0));
    cr_expect(eq(sz, f->first.host_used_bytes, 60 * MIB), "the parent's");
    cr_expect(eq(str, f->first.why, ""));
    cr_expect(eq(int, f->taken_41, -EDQUOT));
    cr_expect(eq(int, f->taken_40, 0));
    cr_expect(eq(sz, info_of(f->b).host_used_bytes, 100 * MIB));
    cr_expect(eq(u32, info_of(f->b).processes, 2));
    other_kill(&o);
    cr_expect(eq(sz, info_of(f->b).host_used_bytes, 60 * MIB));
    pw_budget_close(f->b);
}

static bool forks_and_closes(void *arg)
{
    struct forked *f = arg;

    pw_budget_forked(f->b);
    pw_budget_close(f->b);
    return true;
}

static bool forks_charges_and_closes(void *arg)
{
    struct forked *f = arg;

    return forks_properly(f) && (pw_budget_close(f->b), true);
}

Test(budget, a_child_that_closes_does_not_close_the_parents)
{
    bool (*const bodies[])(void *) = { forks_and_closes, forks_charges_and_closes };
    struct forked *f = forked_open();

    for (int i = 0; i < 2; i++) {
        struct other o = other_start(bodies[i], f), third;

        other_wait(&o);
        other_reap(&o);
        third = holder(1 * MIB);
        cr_expect(eq(sz, info_of(f->b).host_used_bytes, 61 * MIB), "body %d", i);
        other_kill(&third);
        cr_expect(eq(int, access(account(), F_OK), 0));
    }
    pw_budget_close(f->b);
}

struct shared {
    size_t bytes;
    pid_t pid;
};

static struct shared *shared_with(size_t bytes)
{
    struct shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    cr_assert(ne(ptr, shared, MAP_FAILED));
    shared->bytes = bytes;
    return shared;
}

/* The child knows nothing of budgets, as one made by a bare system call. It keeps
 * the descriptor and with it its parent's lock. */
static bool holds_and_forks(void *arg)
{
    struct shared *shared = arg;
    pid_t child;

    if (!holds(&shared->bytes))
        return false;
    child = fork();
    if (child == 0)
        alarm(60);          /* whatever becomes of the test */
    while (child == 0)
        pause();
    shared->pid = child;
    return child > 0;
}

Test(budget, a_child_that_lives_on_does_not_keep_what_its_dead_parent_held)
{
    struct pw_budget *b = open_with(usual);
    struct shared *shared = shared_with(60 * MIB);
    siginfo_t died;
    struct other o;

    prctl(PR_SET_CHILD_SUBREAPER, 1);
    o = other_start(holds_and_forks, shared);
    other_wait(&o);
    cr_expect(eq(int, pw_budget_charge(b, 60 * MIB, 1), -EDQUOT));

    kill(o.pid, SIGKILL);
    cr_assert(eq(int, waitid(P_PID, (id_t)o.pid, &died, WEXITED | WNOWAIT), 0));
    cr_expect(eq(int, pw_budget_charge(b, 60 * MIB, 1), 0), "while a zombie");
    pw_budget_credit(b, 60 * MIB, 1);
    other_reap(&o);
    cr_expect(eq(int, pw_budget_charge(b, 60 * MIB, 1), 0), "when reaped");
    cr_expect(eq(u32, info_of(b).processes, 1));
    kill(shared->pid, SIGKILL);
    waitpid(shared->pid, NULL, 0);
    pw_budget_close(b);
}

/* ------------------------------------------------------- other pid namespaces */

static bool holds_elsewhere(void *arg)
{
    struct shared *shared = arg;
    pid_t inner;
    int up[2];
    char c;

    if (unshare(CLONE_NEWPID) || pipe(up))
        return false;
    inner = fork();
    if (inner == 0) {
        if (!holds(&shared->bytes) || write(up[1], "", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    shared->pid = inner;
    close(up[1]);
    return read(up[0], &c, 1) == 1;
}

Test(budget, a_process_of_another_pid_namespace_counts_while_it_lives)
{
    struct pw_budget *b = open_with(usual);
    struct shared *shared = shared_with(60 * MIB);
    struct other o;
    char c;

    prctl(PR_SET_CHILD_SUBREAPER, 1);
    o = other_start(holds_elsewhere, shared);
    if (read(o.hear, &c, 1) != 1) {
        pw_budget_close(b);
        rmdir(dir);
        cr_skip_test("no pid namespaces for this user");
    }
    cr_expect(eq(int, pw_budget_charge(b, 60 * MIB, 1), -EDQUOT));
    cr_expect(eq(u32, info_of(b).processes, 1));
    kill(shared->pid, SIGKILL);
    other_reap(&o);
    waitpid(shared->pid, NULL, 0);
    cr_expect(eq(int, pw_budget_charge(b, 60 * MIB, 1), 0));
    pw_budget_close(b);
}

/* What the file says of the place of a living process, but for its lock. */
static void rewrite_place(int place, off_t field, uint64_t value)
{
    int fd = open(account(), O_RDWR | O_CLOEXEC);

    cr_assert(eq(int, (int)pwrite(fd, &value, sizeof value, 64 + place * 64 + field), 8));
    close(fd);
}

Test(budget, a_pid_of_another_namespace_is_not_looked_up_in_ours)
{
    struct pw_budget *b = open_with(usual);
    struct other o = holder(60 * MIB);

    rewrite_place(1, 16, 4711);         /* spaces */
    rewrite_place(1, 32, 0x3fffffff);   /* a pid that nobody has */
    cr_expect(eq(int, pw_budget_charge(b, 60 * MIB, 1), -EDQUOT));
    other_kill(&o);
    cr_expect(eq(int, pw_budget_charge(b, 60 * MIB, 1), 0));
    pw_budget_close(b);
}

Test(budget, a_pid_that_was_given_again_is_not_taken_for_the_owner)
{
    struct pw_budget *b = open_with(usual);
    struct other o = holder(60 * MIB);

    cr_expect(eq(int, pw_budget_charge(b, 60 * MIB, 1), -EDQUOT));
    rewrite_place(1, 24, 1);            /* born at another time */
    cr_expect(eq(int, pw_budget_charge(b, 60 * MIB, 1), 0));
    other_kill(&o);
    pw_budget_close(b);
}

Test(budget, a_place_that_is_just_being_filled_in_counts)
{
    struct pw_budget *b = open_with(usual);
    struct other o = holder(60 * MIB);

    rewrite_place(1, 8, 1);             /* the stamp is odd */
    rewrite_place(1, 24, 1);
    cr_expect(eq(int, pw_budget_charge(b, 60 * MIB, 1), -EDQUOT));
    other_kill(&o);
    cr_expect(eq(int, pw_budget_charge(b, 60 * MIB, 1), 0));
    pw_budget_close(b);
}

Test(budget, without_proc_the_locks_alone_tell_who_lives)
{
    struct pw_budget *b;
    struct other o;

    fake.read = ENOENT;
    b = open_with(usual);
    o = holder(60 * MIB);
    cr_expect(eq(int, pw_budget_charge(b, 60 * MIB, 1), -EDQUOT));
    other_kill(&o);
    cr_expect(eq(int, pw_budget_charge(b, 60 * MIB, 1), 0));
    pw_budget_close(b);
}

/* ------------------------------------------------------------- eight at a time */

struct crowd {
    uint64_t held;              /* by all, as told after the charge */
    uint64_t most, refused, charged;
};

static bool charges_at_random(void *arg)
{
    struct crowd *crowd = arg;
    struct pw_budget *b = others_open();
    unsigned seed = (unsigned)getpid();

    for (int i = 0; i < 1500; i++) {
        size_t bytes = (size_t)(1 + rand_r(&seed) % 40) * MIB;
        uint64_t now, most;

        if (pw_budget_charge(b, bytes, 1)) {
            __atomic_add_fetch(&crowd->refused, 1, __ATOMIC_SEQ_CST);
            continue;
        }
        now = __atomic_add_fetch(&crowd->held, bytes, __ATOMIC_SEQ_CST);
        most = crowd->most;
        while (now > most && !__atomic_compare_exchange_n(&crowd->most, &most, now, false,
                                                          __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            ;
        __atomic_add_fetch(&crowd->charged, 1, __ATOMIC_SEQ_CST);
        sched_yield();
        __atomic_sub_fetch(&crowd->held, bytes, __ATOMIC_SEQ_CST);
        pw_budget_credit(b, bytes, 1);
    }
    while (pw_budget_charge(b, 1 * MIB, 1))
        ;       /* others are still at it */
    return true;
}

Test(budget, eight_processes_never_hold_more_than_the_host_has)
{
    struct crowd *crowd = mmap(NULL, sizeof *crowd, PROT_READ | PROT_WRITE,
                               MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct pw_budget *b = open_with(usual);
    struct other o[8];

    cr_assert(ne(ptr, crowd, MAP_FAILED));
    for (int i = 0; i < 8; i++)
        o[i] = other_start(charges_at_random, crowd);
    for (int i = 0; i < 8; i++)
        other_wait(&o[i]);
    cr_expect(le(u64, crowd->most, 100 * MIB));
    cr_expect(gt(u64, crowd->charged, 0));
    cr_expect(gt(u64, crowd->refused, 0), "the limit was reached");
    cr_expect(eq(sz, info_of(b).host_used_bytes, 8 * MIB));
    cr_expect(eq(u32, info_of(b).processes, 8));
    for (int i = 0; i < 8; i++)
        other_kill(&o[i]);
    cr_expect(eq(sz, info_of(b).host_used_bytes, 0));
    pw_budget_close(b);
}

__attribute__((noreturn)) static void charge_for_ever(void)
{
    struct pw_budget *b = others_open();

    for (size_t bytes = 1;; bytes = bytes % (9 * MIB) + 1)
        if (pw_budget_charge(b, bytes, 1) == 0)
            pw_budget_credit(b, bytes, 1);
}

static bool kills_one_that_charges(void *arg)
{
    pid_t pid = fork();

    (void)arg;
    if (pid < 0)
        return false;
    if (pid == 0)
        charge_for_ever();
    usleep(2000);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return true;
}

/* The grandchild is killed at a moment of no choice, in or between calls. */
Test(budget, nothing_is_lost_whenever_a_process_is_killed)
{
    struct pw_budget *b = open_with(usual);

    for (int round = 0; round < 10; round++) {
        struct other o[4];

        for (int i = 0; i < 4; i++)
            o[i] = other_start(kills_one_that_charges, NULL);
        for (int i = 0; i < 4; i++)
            other_wait(&o[i]);
        for (int i = 0; i < 4; i++)
            other_kill(&o[i]);
        cr_assert(eq(sz, info_of(b).host_used_bytes, 0));
        cr_assert(eq(int, pw_budget_charge(b, 64 * MIB, 1), 0));
        pw_budget_credit(b, 64 * MIB, 1);
    }
    pw_budget_close(b);
}

static bool opens_and_closes(void *arg)
{
    (void)arg;
    for (int i = 0; i < 200; i++) {
        struct pw_budget *b = others_open();

        if (info_of(b).why[0]) {
            fprintf(stderr, "# %s\n", info_of(b).why);
            return false;
        }
        if (pw_budget_charge(b, 1, 1) || info_of(b).host_used_bytes < 1)
            return false;
        pw_budget_close(b);
    }
    return true;
}

Test(budget, many_come_and_go_and_the_last_one_removes_the_file)
{
    struct other o[4];

    for (int i = 0; i < 4; i++)
        o[i] = other_start(opens_and_closes, NULL);
    for (int i = 0; i < 4; i++)
        other_wait(&o[i]);
    for (int i = 0; i < 4; i++)
        other_reap(&o[i]);
    cr_expect(eq(int, access(account(), F_OK), -1));
}

static void *charge_and_credit(void *b)
{
    for (int i = 0; i < 2000; i++)
        if (pw_budget_charge(b, 40 * MIB, 1) == 0)
            pw_budget_credit(b, 40 * MIB, 1);
    return NULL;
}

Test(budget, threads_may_charge_at_the_same_time)
{
    struct pw_budget *b = open_with(usual);
    pthread_t thread[3];

    for (int i = 0; i < 3; i++)
        cr_assert(eq(int, pthread_create(&thread[i], NULL, charge_and_credit, b), 0));
    for (int i = 0; i < 3; i++)
        pthread_join(thread[i], NULL);
    cr_expect(eq(sz, info_of(b).used_bytes, 0));
    cr_expect(eq(sz, info_of(b).used_regions, 0));
    pw_budget_close(b);
}

/* ----------------------------------------------------- where there is no account */

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

Test(budget, no_dev_shm)
{
    expect_no_account_in("/nonexistent", "/nonexistent/pinwheel.");
    expect_no_account_in("/nonexistent", "No such file or directory");
}

Test(budget, a_read_only_dev_shm)
{
    fake.open = EROFS;
    expect_no_account("Read-only file system");
}

Test(budget, no_descriptor_left)
{
    fake.open = EMFILE;
    expect_no_account("Too many open files");
}

/* Pages are reserved: a full file system is not found out by SIGBUS. */
Test(budget, a_full_dev_shm)
{
    fake.fallocate = ENOSPC;
    expect_no_account("No space left on device");
    cr_expect(le(int, (int)there(), 65536));
}

Test(budget, a_file_that_may_not_grow)
{
    fake.ftruncate = EFBIG;
    expect_no_account("File too large");
    cr_expect(eq(int, (int)there(), 0));
}

Test(budget, no_address_space)
{
    fake.mmap = ENOMEM;
    expect_no_account("Cannot allocate memory");
    there();
}

Test(budget, no_address_space_for_one_who_comes_later)
{
    struct other o = holder(1);

    fake.mmap = ENOMEM;
    expect_no_account("Cannot allocate memory");
    other_kill(&o);
    there();
}

Test(budget, a_file_system_without_locks)
{
    fake.ofd_lock = EINVAL;
    expect_no_account("cannot be locked");
    cr_expect(eq(int, (int)there(), 0));
}

Test(budget, a_lock_that_cannot_be_dropped)
{
    fake.lock_type = F_UNLCK;
    fake.ofd_lock = ENOLCK;
    expect_no_account("cannot be shared");
    there();
}

Test(budget, every_place_is_taken)
{
    fake.ofd_lock = EAGAIN;
    expect_no_account("all places");
    cr_expect(eq(int, (int)there(), 0));
}

Test(budget, a_symlink_is_not_followed)
{
    cr_assert(eq(int, symlink("/dev/null", account()), 0));
    expect_no_account("cannot be opened");
    there();
}

Test(budget, a_folder_in_its_place)
{
    cr_assert(eq(int, mkdir(account(), 0700), 0));
    expect_no_account("Is a directory");
    rmdir(account());
}

Test(budget, a_pipe_in_its_place_is_not_waited_for)
{
    cr_assert(eq(int, mkfifo(account(), 0600), 0));
    expect_no_account("is not a file");
    there();
}

Test(budget, another_users_file)
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

Test(budget, a_file_that_others_may_write)
{
    put_there(0620, 65536);
    expect_no_account("is open to others");
    there();
}

Test(budget, a_file_that_has_a_second_name)
{
    char second[96];

    put_there(0600, 65536);
    snprintf(second, sizeof second, "%s.second", account());
    cr_assert(eq(int, link(account(), second), 0));
    expect_no_account("is open to others");
    unlink(second);
    there();
}

Test(budget, garbage_that_nobody_uses_is_made_anew)
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

Test(budget, garbage_that_somebody_uses_is_left_alone)
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

Test(budget, a_table_gone_mad_refuses_and_does_not_crash)
{
    struct pw_budget *b = open_with(usual);
    struct other o = holder(1 * MIB);

    rewrite_place(1, 0, UINT64_MAX);
    rewrite_place(-1, 16, UINT64_MAX);  /* how many places were ever taken */
    rewrite_place(900, 0, UINT64_MAX);
    cr_expect(eq(int, pw_budget_charge(b, 1, 1), -EDQUOT));
    cr_expect(eq(sz, info_of(b).host_used_bytes, SIZE_MAX));
    other_kill(&o);
    cr_expect(eq(int, pw_budget_charge(b, 1, 1), 0));
    cr_expect(eq(sz, info_of(b).used_bytes, 1));
    pw_budget_close(b);
}

Test(budget, the_accounts_file_is_removed_under_us)
{
    struct pw_budget *b = open_with(usual), *later;

    cr_expect(eq(int, unlink(account()), 0));
    cr_expect(eq(int, pw_budget_charge(b, 60 * MIB, 1), 0));
    later = open_with(usual);
    pw_budget_close(b);
    cr_expect(eq(int, access(account(), F_OK), 0), "the later one's file is not ours");
    pw_budget_close(later);
}

Test(budget, a_umask_that_takes_everything)
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

/* As a program does it, in the folder that is meant for it. */
Test(budget, in_dev_shm)
{
    struct pw_budget_config config = usual;
    struct pw_budget *b;
    char name[32], path[80];

    snprintf(name, sizeof name, "test-%d", (int)getpid());
    snprintf(path, sizeof path, "/dev/shm/pinwheel.%u.%s", (unsigned)geteuid(), name);
    config.name = name;
    cr_assert(eq(int, pw_budget_open(&config, &b), 0));
    cr_expect(eq(int, pw_budget_charge(b, 1, 1), 0));
    cr_expect(eq(str, info_of(b).why, ""));
    cr_expect(eq(int, access(path, F_OK), 0));
    pw_budget_close(b);
    cr_expect(eq(int, access(path, F_OK), -1));
}
