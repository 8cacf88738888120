/* SPDX-License-Identifier: BSD-3-Clause */
/* budget_host.c - processes share what a host has, and fork, exec and are killed. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "budget_rig.h"

TestSuite(budget_host, .init = rig_open, .fini = rig_close);

/* A word of what the file says of a place; of the table itself at place -1. */
enum { BYTES = 0, STAMP = 8, SPACES = 16, BORN = 24, PID = 32, PLACES_TAKEN = 16 };

static void rewrite_place(int place, off_t word, uint64_t value)
{
    int fd = open(account(), O_RDWR | O_CLOEXEC);

    cr_assert(eq(int, (int)pwrite(fd, &value, sizeof value, 64 + place * 64 + word), 8));
    close(fd);
}

static uint64_t place_says(int place, off_t word)
{
    int fd = open(account(), O_RDONLY | O_CLOEXEC);
    uint64_t value;

    cr_assert(eq(int, (int)pread(fd, &value, sizeof value, 64 + place * 64 + word), 8));
    close(fd);
    return value;
}

Test(budget_host, two_processes_share_the_host)
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

Test(budget_host, the_first_ones_limit_holds_until_nobody_is_left)
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

Test(budget_host, what_a_killed_process_held_is_free_at_the_next_charge)
{
    struct pw_budget *b = open_with(usual);
    struct other o = holder(60 * MIB);

    cr_expect(eq(int, pw_budget_charge(b, 60 * MIB, 1), -EDQUOT));
    other_kill(&o);
    cr_expect(eq(int, pw_budget_charge(b, 60 * MIB, 1), 0));
    pw_budget_close(b);
}

Test(budget_host, what_a_killed_process_held_is_not_described)
{
    struct pw_budget *b = open_with(usual);
    struct other o = holder(60 * MIB);

    cr_expect(eq(u32, info_of(b).processes, 1));
    other_kill(&o);
    cr_expect(eq(sz, info_of(b).host_used_bytes, 0));
    cr_expect(eq(u32, info_of(b).processes, 0));
    pw_budget_close(b);
}

Test(budget_host, a_killed_ones_place_is_taken_over)
{
    struct pw_budget *b = open_with(usual);
    struct other o = holder(60 * MIB);

    other_kill(&o);
    cr_expect(eq(int, pw_budget_charge(b, 50 * MIB, 1), 0));
    cr_expect(eq(u64, place_says(1, BYTES), 0), "who noticed it has wiped it");
    o = holder(10 * MIB);
    cr_expect(eq(u64, place_says(1, BYTES), 10 * MIB));
    cr_expect(eq(sz, info_of(b).host_used_bytes, 60 * MIB));
    other_kill(&o);
    pw_budget_close(b);
}

static bool holds_and_closes(void *bytes)
{
    bool held = holds(bytes);

    pw_budget_close(others_budget);
    return held;
}

Test(budget_host, closing_gives_everything_back)
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

Test(budget_host, what_a_process_held_is_free_when_it_becomes_another_program)
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
    f->taken_41 = pw_budget_charge(f->b, 41 * MIB, 1);
    pw_budget_describe(f->b, &f->first);
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

Test(budget_host, a_forked_child_has_nothing_and_shares_the_host)
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

/* As an exit handler that a child runs. */
static bool closes_without_a_word(void *arg)
{
    pw_budget_close(((struct forked *)arg)->b);
    return true;
}

Test(budget_host, a_child_that_closes_does_not_close_the_parents)
{
    bool (*const bodies[])(void *) = {
        forks_and_closes, forks_charges_and_closes, closes_without_a_word,
    };
    struct forked *f = forked_open();

    for (int i = 0; i < 3; i++) {
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

Test(budget_host, a_child_that_lives_on_does_not_keep_what_its_dead_parent_held)
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

Test(budget_host, a_process_of_another_pid_namespace_counts_while_it_lives)
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

Test(budget_host, a_pid_of_another_namespace_is_not_looked_up_in_ours)
{
    struct pw_budget *b = open_with(usual);
    struct other o = holder(60 * MIB);

    rewrite_place(1, SPACES, 4711);
    rewrite_place(1, PID, 0x3fffffff);  /* that nobody has */
    cr_expect(eq(int, pw_budget_charge(b, 60 * MIB, 1), -EDQUOT));
    other_kill(&o);
    cr_expect(eq(int, pw_budget_charge(b, 60 * MIB, 1), 0));
    pw_budget_close(b);
}

Test(budget_host, a_pid_that_was_given_again_is_not_taken_for_the_owner)
{
    struct pw_budget *b = open_with(usual);
    struct other o = holder(60 * MIB);

    cr_expect(eq(int, pw_budget_charge(b, 60 * MIB, 1), -EDQUOT));
    rewrite_place(1, BORN, 1);
    cr_expect(eq(int, pw_budget_charge(b, 60 * MIB, 1), 0));
    other_kill(&o);
    pw_budget_close(b);
}

Test(budget_host, a_place_that_is_just_being_filled_in_counts)
{
    struct pw_budget *b = open_with(usual);
    struct other o = holder(60 * MIB);

    rewrite_place(1, STAMP, 1);
    rewrite_place(1, BORN, 1);
    cr_expect(eq(int, pw_budget_charge(b, 60 * MIB, 1), -EDQUOT));
    other_kill(&o);
    cr_expect(eq(int, pw_budget_charge(b, 60 * MIB, 1), 0));
    pw_budget_close(b);
}

Test(budget_host, without_proc_the_locks_alone_tell_who_lives)
{
    struct pw_budget *b;
    struct other o;

    fake.read = ENOENT;
    b = open_with(usual);
    o = holder(60 * MIB);
    rewrite_place(1, PID, 0x3fffffff);  /* as of a namespace that cannot be told */
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

Test(budget_host, eight_processes_never_hold_more_than_the_host_has)
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
    cr_expect(lt(u64, 0, crowd->charged));
    cr_expect(lt(u64, 0, crowd->refused), "the limit was reached");
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
Test(budget_host, nothing_is_lost_whenever_a_process_is_killed)
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

Test(budget_host, many_come_and_go_and_the_last_one_removes_the_file)
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

Test(budget_host, a_table_gone_mad_refuses_and_does_not_crash)
{
    struct pw_budget *b = open_with(usual);
    struct other o = holder(1 * MIB);

    cr_expect(eq(int, pw_budget_charge(b, 1, 1), 0));
    rewrite_place(1, BYTES, UINT64_MAX);
    rewrite_place(-1, PLACES_TAKEN, UINT64_MAX);
    rewrite_place(900, BYTES, UINT64_MAX);
    cr_expect(eq(int, pw_budget_charge(b, 1, 1), -EDQUOT));
    cr_expect(eq(sz, info_of(b).host_used_bytes, SIZE_MAX));
    other_kill(&o);
    cr_expect(eq(int, pw_budget_charge(b, 1, 1), 0));
    cr_expect(eq(sz, info_of(b).used_bytes, 2));
    pw_budget_close(b);
}

static void remove_account(void)
{
    cr_expect(eq(int, unlink(account()), 0));
}

/* The last one left when we had opened the file, and not yet locked it. */
Test(budget_host, a_file_that_is_removed_while_we_join_is_not_ours)
{
    struct pw_budget *b;

    fake.before_lock = remove_account;
    b = open_with(usual);
    cr_expect(eq(str, info_of(b).why, ""));
    cr_expect(eq(int, access(account(), F_OK), 0), "another one was made");
    pw_budget_close(b);
}

/* As a program does it, in the folder that is meant for it. */
Test(budget_host, in_dev_shm)
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
