/* SPDX-License-Identifier: BSD-3-Clause */
/* forks.c - fork() keeps its meaning while the heap is in shared memory, one story
 * a run.
 *
 * Run by tests/malloc/forks.sh with libpinwheel-malloc preloaded. A child tells by
 * its exit status; where order matters the two wait for each other by pipes.
 */
#include "told.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>

extern char **environ;
static void *volatile sink;

enum { BLOCKS = 6 };
static const size_t lens[BLOCKS] = { 64 * 1024, 100000, 1 << 20, 3 << 20, 5000000, 33 << 20 };
static unsigned char *block[BLOCKS];

static void blocks_take(uint64_t seed)
{
    for (int i = 0; i < BLOCKS; i++) {
        free(sink = malloc(lens[i] / 2));       /* holes between them */
        block[i] = malloc(lens[i]);
        sink = malloc(70000);
        fill(block[i], lens[i], seed + (uint64_t)i);
        free(sink);
    }
    expect(told().heap.blocks >= BLOCKS, "they are not in the pool");
}

static void blocks_fill(uint64_t seed)
{
    for (int i = 0; i < BLOCKS; i++)
        fill(block[i], lens[i], seed + (uint64_t)i);
}

static void blocks_same(uint64_t seed, const char *what)
{
    for (int i = 0; i < BLOCKS; i++)
        same(block[i], lens[i], seed + (uint64_t)i, what);
}

/* A word through a pipe. */
struct turn {
    int fd[2];
};
static void turn_make(struct turn *t)
{
    expect(!pipe(t->fd), "pipe");
}
static void turn_give(struct turn *t)
{
    expect(write(t->fd[1], "", 1) == 1, "the other one is gone");
}
static void turn_take(struct turn *t)
{
    char c;

    close(t->fd[1]);
    expect(read(t->fd[0], &c, 1) == 1, "the other one is gone");
}

static void child_is_well(pid_t pid)
{
    int status = 0;

    expect(pid > 0, "fork: %s", strerror(errno));
    expect(waitpid(pid, &status, 0) == pid, "waitpid: %s", strerror(errno));
    expect(status == 0, "the child's status is %#x", (unsigned)status);
}

static void each_sees_its_own_writes_only(void)
{
    struct turn to_child, to_parent;
    pid_t pid;

    blocks_take(10);
    turn_make(&to_child);
    turn_make(&to_parent);
    pid = fork();
    if (pid == 0) {
        turn_take(&to_child);
        blocks_same(10, "the child, after the parent wrote");
        blocks_fill(20);
        turn_give(&to_parent);
        blocks_same(20, "the child's own");
        _exit(0);
    }
    blocks_fill(30);
    turn_give(&to_child);
    turn_take(&to_parent);
    blocks_same(30, "the parent, after the child wrote");
    child_is_well(pid);
    blocks_same(30, "the parent, after the child ended");
    expect(told().heap.forks == 1, "%zu forks copied", (size_t)told().heap.forks);
}

static void what_was_not_touched_is_zero_in_the_child(void)
{
    char *p = malloc(2 * GIB);
    pid_t pid;

    p[GIB] = 1;
    p[2 * GIB - 1] = 2;
    pid = fork();
    if (pid == 0) {
        expect(p[GIB] == 1 && p[2 * GIB - 1] == 2, "bytes are lost");
        all_zero(p, 4 * MIB, "the start");
        all_zero(p + GIB + 1, MIB, "what follows");
        expect(status_kib("VmRSS") < 300 << 10, "the child has %ld KiB", status_kib("VmRSS"));
        _exit(0);
    }
    child_is_well(pid);
    expect(told().heap.fork_bytes < 64 * MIB, "%zu copied", (size_t)told().heap.fork_bytes);
}

static void a_child_frees_and_resizes_what_it_inherited(void)
{
    pid_t pid;

    blocks_take(40);
    pid = fork();
    if (pid == 0) {
        long before = status_kib("VmRSS");

        free(block[5]);
        expect(before - status_kib("VmRSS") > 30 << 10, "freed 33 MiB, and has %ld KiB of %ld",
               status_kib("VmRSS"), before);
        block[4] = realloc(block[4], 2 * lens[4]);
        same(block[4], lens[4], 44, "grown");
        block[3] = realloc(block[3], MIB);
        same(block[3], MIB, 43, "shrunk");
        block[2] = realloc(block[2], 100);
        same(block[2], 100, 42, "small");
        for (int i = 0; i < 5; i++)
            free(block[i]);
        _exit(0);
    }
    child_is_well(pid);
    blocks_same(40, "the parent");
}

/* By its own pool, whose blocks a grandchild gets as it does the inherited ones. */
static void a_child_and_its_child_have_heaps_of_their_own(void)
{
    pid_t pid;

    blocks_take(50);
    pid = fork();
    if (pid == 0) {
        unsigned char *mine = malloc(4 * MIB);
        pid_t grandchild;

        expect(told().open && told().heap.blocks == 1, "the child has no pool of its own");
        fill(mine, 4 * MIB, 1);
        grandchild = fork();
        if (grandchild == 0) {
            blocks_same(50, "the grandchild");
            same(mine, 4 * MIB, 1, "the grandchild, of its parent");
            memset(mine, 0, 4 * MIB);
            blocks_fill(51);
            free(mine);
            for (int i = 0; i < BLOCKS; i++)
                free(block[i]);
            free(malloc(MIB));
            _exit(0);
        }
        child_is_well(grandchild);
        blocks_same(50, "the child");
        same(mine, 4 * MIB, 1, "the child's own");
        free(mine);
        free(block[0]);
        _exit(0);
    }
    child_is_well(pid);
    blocks_same(50, "the parent");
    expect(told().heap.blocks == BLOCKS, "%zu blocks", (size_t)told().heap.blocks);
}

/* ---- threads ---- */

static volatile bool stop;

static void *churn(void *seed)
{
    uint64_t state = (uint64_t)(uintptr_t)seed;

    while (!stop) {
        size_t len = 32 * KIB + draw(&state) % MIB;
        unsigned char *p = malloc(len);

        fill(p, 5000, state);
        p = realloc(p, len / 2 + draw(&state) % MIB);
        free(p);
    }
    return NULL;
}

static void forks_among_threads_that_allocate(void)
{
    unsigned char *few[8];
    pthread_t t[3];

    for (int i = 0; i < 8; i++)
        fill(few[i] = malloc(100000), 100000, 60);
    for (uintptr_t i = 0; i < 3; i++)
        pthread_create(&t[i], NULL, churn, (void *)(i + 1));
    for (int i = 0; i < 40; i++) {
        pid_t pid = fork();

        if (pid == 0) {
            for (int k = 0; k < 8; k++)
                same(few[k], 100000, 60, "the child");
            free(sink = malloc(300 * KIB));
            free(few[i % 8]);
            _exit(0);
        }
        child_is_well(pid);
    }
    stop = true;
    for (int i = 0; i < 3; i++)
        pthread_join(t[i], NULL);
    for (int k = 0; k < 8; k++)
        same(few[k], 100000, 60, "the parent");
}

/* A writer goes through a block from end to end, raising each word by one. At any
 * moment all words are alike but for one step. It also counts its rounds outside
 * the pool: that count is of the moment of the fork. */
static uint64_t *words;
static const size_t n_words = (8 << 20) / 8;
static volatile uint64_t rounds;

static void *raise_words(void *arg)
{
    while (!stop) {
        rounds++;
        for (size_t i = 0; i < n_words; i++)
            __atomic_store_n(&words[i], rounds, __ATOMIC_RELAXED);
    }
    return arg;
}

static void check_moment(void)
{
    uint64_t first = words[0], last = words[n_words - 1], before = first;

    expect(first - last <= 1, "from %zu down to %zu: two moments", (size_t)first, (size_t)last);
    for (size_t i = 0; i < n_words; i++) {
        expect(words[i] <= before, "word %zu is %zu after %zu", i, (size_t)words[i],
               (size_t)before);
        before = words[i];
    }
    expect(rounds - first <= 1, "round %zu, words of %zu", (size_t)rounds, (size_t)first);
}

/* Two writers by system calls, which must neither fail nor write to a copy. */
static void *read_words(void *arg)
{
    int fd = open("/dev/zero", O_RDONLY);
    char *p = malloc(MIB);

    while (!stop)
        expect(read(fd, p, MIB) == (ssize_t)MIB, "read: %s", strerror(errno));
    return arg;
}

static void copies_are_of_one_moment(void)
{
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
    pthread_t writer, reader;

    if (fd < 0) {
        puts("skip: threads can be stopped by root only here");
        exit(77);
    }
    close(fd);
    words = calloc(n_words, 8);
    pthread_create(&writer, NULL, raise_words, NULL);
    pthread_create(&reader, NULL, read_words, NULL);
    for (int i = 0; i < 40; i++) {
        pid_t pid;

        usleep(3000);
        pid = fork();
        if (pid == 0) {
            check_moment();
            _exit(0);
        }
        child_is_well(pid);
    }
    stop = true;
    pthread_join(writer, NULL);
    pthread_join(reader, NULL);
}

/* A handler that writes to a block does not meet the fork half way. */
static unsigned char *signalled;
static void on_alarm(int number)
{
    (void)number;
    for (size_t i = 0; i < MIB; i += 4096)
        signalled[i]++;
}

static void signals_come_before_or_after(void)
{
    struct itimerval often = { { 0, 700 }, { 0, 700 } }, never = { { 0, 0 }, { 0, 0 } };
    sigset_t alarm_alone, before;
    pthread_t t;

    signalled = calloc(1, MIB);
    sigemptyset(&alarm_alone);
    sigaddset(&alarm_alone, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &alarm_alone, &before);
    pthread_create(&t, NULL, churn, (void *)1);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    signal(SIGALRM, on_alarm);
    setitimer(ITIMER_REAL, &often, NULL);
    for (int i = 0; i < 60; i++) {
        pid_t pid = fork();

        if (pid == 0) {
            for (size_t k = 0; k < MIB; k += 4096)
                expect(signalled[k] == signalled[0], "page %zu", k / 4096);
            _exit(0);
        }
        child_is_well(pid);
    }
    setitimer(ITIMER_REAL, &never, NULL);
    stop = true;
    pthread_join(t, NULL);
}

/* ---- forks that need no copy ---- */

static void programs_are_started_without_a_copy(void)
{
    char *argv[] = { "true", NULL };
    pid_t pid;
    FILE *f;

    blocks_take(70);
    child_is_well(posix_spawnp(&pid, "true", NULL, NULL, argv, environ) ? -1 : pid);
    pid = vfork();
    if (pid == 0) {
        execvp("true", argv);
        _exit(1);
    }
    child_is_well(pid);
    expect(system("exit 0") == 0, "system");
    f = popen("exit 0", "r");
    expect(f && pclose(f) == 0, "popen");
    expect(told().heap.forks == 0, "%zu forks copied", (size_t)told().heap.forks);
    blocks_same(70, "afterwards");
}

/* With PINWHEEL_MALLOC_FORK=none. */
static void children_that_only_exec_need_no_copy(void)
{
    char *argv[] = { "true", NULL };
    int status;
    pid_t pid;

    blocks_take(75);
    pid = fork();
    if (pid == 0) {
        free(malloc(MIB));
        execvp("true", argv);
        _exit(1);
    }
    child_is_well(pid);
    expect(told().heap.forks == 0, "a fork copied");
    pid = fork();
    if (pid == 0) {
        block[0][0] = 1;
        _exit(0);
    }
    waitpid(pid, &status, 0);
    expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "status %#x", (unsigned)status);
    blocks_same(75, "the parent");
}

static void a_fork_with_an_empty_heap_copies_nothing(void)
{
    pid_t pid;

    free(sink = malloc(MIB));
    pid = fork();
    if (pid == 0) {
        free(sink = malloc(MIB));
        _exit(0);
    }
    child_is_well(pid);
    expect(told().heap.forks == 0, "it copied");
}

/* Where no pool is to be had. */
static void a_fork_without_a_pool_is_one(void)
{
    char *p = malloc(MIB);
    pid_t pid;

    fill(p, MIB, 1);
    pid = fork();
    if (pid == 0) {
        same(p, MIB, 1, "the child");
        memset(p, 0, MIB);
        _exit(0);
    }
    child_is_well(pid);
    same(p, MIB, 1, "the parent");
    expect(!told().open, "there is a pool");
}

/* ---- other kinds of fork ---- */

/* daemon() forks inside the C library. */
static void daemon_keeps_the_heap(void)
{
    struct turn up;
    pid_t pid;

    blocks_take(80);
    turn_make(&up);
    pid = fork();
    if (pid == 0) {
        expect(!daemon(1, 1), "daemon");
        blocks_same(80, "the daemon");
        blocks_fill(81);
        turn_give(&up);
        _exit(0);
    }
    turn_take(&up);
    child_is_well(pid);
    blocks_same(80, "the parent");
}

/* A child that the C library does not know of cannot harm its parent. */
static void a_raw_fork_cannot_write_to_its_parent(void)
{
    int status = 0;
    long pid;

    blocks_take(90);
    pid = syscall(SYS_fork);
    if (pid == 0) {
        char *p = malloc(MIB);

        memset(p, 1, MIB);
        free(p);
        signal(SIGSEGV, SIG_DFL);
        block[0][0] ^= 1;
        _exit(0);
    }
    waitpid((pid_t)pid, &status, 0);
    expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "status %#x", (unsigned)status);
    blocks_same(90, "the parent");
}

/* ---- stacks ---- */

static ucontext_t back, there;
static pid_t forked = -2;

static void fork_on_this_stack(void)
{
    volatile char mark[256];

    memset((void *)mark, 77, sizeof mark);
    forked = fork();
    for (size_t i = 0; i < sizeof mark; i++)
        expect(mark[i] == 77, "byte %zu of the stack", i);
    memset((void *)mark, forked == 0 ? 1 : 2, sizeof mark);
    usleep(20000);
    for (size_t i = 0; i < sizeof mark; i++)
        expect(mark[i] == (forked == 0 ? 1 : 2), "byte %zu of the stack, later", i);
}

static void a_coroutine_forks_on_a_stack_from_malloc(void)
{
    blocks_take(100);
    getcontext(&there);
    there.uc_stack.ss_sp = malloc(256 * KIB);
    there.uc_stack.ss_size = 256 * KIB;
    there.uc_link = &back;
    makecontext(&there, fork_on_this_stack, 0);
    swapcontext(&back, &there);
    blocks_same(100, "either");
    if (forked == 0)
        _exit(0);
    child_is_well(forked);
}

static void *fork_in_thread(void *arg)
{
    errno = 0;
    forked = fork();
    if (forked == 0)
        _exit(0);
    *(int *)arg = errno;
    return NULL;
}

static void a_thread_on_a_stack_from_malloc_may_not_fork(void)
{
    pthread_attr_t attr;
    pthread_t t;
    int error;
    void *stack;

    expect(!posix_memalign(&stack, 4096, MIB), "a stack");
    pthread_attr_init(&attr);
    pthread_attr_setstack(&attr, stack, MIB);
    expect(!pthread_create(&t, &attr, fork_in_thread, &error), "pthread_create");
    pthread_join(t, NULL);
    expect(forked == -1 && error == ENOTSUP, "fork gave %d, errno %d", (int)forked, error);

    /* Others may, while it lives. */
    child_is_well(({ pid_t pid = fork(); if (!pid) _exit(0); pid; }));
}

/* ---- what goes wrong ---- */

static void without_memory_fork_fails(void)
{
    struct rlimit lim = { 0, 0 };
    pid_t pid;

    blocks_take(110);
    lim.rlim_cur = lim.rlim_max = (rlim_t)status_kib("VmSize") * 1024 + 20 * MIB;
    expect(!setrlimit(RLIMIT_AS, &lim), "setrlimit");
    errno = 0;
    pid = fork();
    if (pid == 0)
        _exit(0);
    expect(pid == -1 && errno == ENOMEM, "fork gave %d, errno %d", (int)pid, errno);
    expect(waitpid(-1, NULL, 0) == -1 && errno == ECHILD, "there is a child");
    blocks_same(110, "the parent");
    free(block[5]);
    pid = fork();
    if (pid == 0) {
        same(block[4], lens[4], 114, "the child");
        _exit(0);
    }
    child_is_well(pid);
}

/* As daemons do. */
static void a_program_may_close_all_descriptors(void)
{
    pid_t pid;

    blocks_take(120);
    for (int fd = 3; fd < 256; fd++)
        close(fd);
    for (int i = 0; i < 20; i++)
        (void)!open("/dev/null", O_RDWR);
    pid = fork();
    if (pid == 0) {
        blocks_same(120, "the child");
        blocks_fill(121);
        _exit(0);
    }
    child_is_well(pid);
    blocks_same(120, "the parent");
}

static const struct told_story stories[] = {
    { "each_sees_its_own_writes_only", each_sees_its_own_writes_only },
    { "what_was_not_touched_is_zero_in_the_child", what_was_not_touched_is_zero_in_the_child },
    { "a_child_frees_and_resizes_what_it_inherited",
      a_child_frees_and_resizes_what_it_inherited },
    { "a_child_and_its_child_have_heaps_of_their_own",
      a_child_and_its_child_have_heaps_of_their_own },
    { "forks_among_threads_that_allocate", forks_among_threads_that_allocate },
    { "copies_are_of_one_moment", copies_are_of_one_moment },
    { "signals_come_before_or_after", signals_come_before_or_after },
    { "programs_are_started_without_a_copy", programs_are_started_without_a_copy },
    { "children_that_only_exec_need_no_copy", children_that_only_exec_need_no_copy },
    { "a_fork_with_an_empty_heap_copies_nothing", a_fork_with_an_empty_heap_copies_nothing },
    { "a_fork_without_a_pool_is_one", a_fork_without_a_pool_is_one },
    { "daemon_keeps_the_heap", daemon_keeps_the_heap },
    { "a_raw_fork_cannot_write_to_its_parent", a_raw_fork_cannot_write_to_its_parent },
    { "a_coroutine_forks_on_a_stack_from_malloc", a_coroutine_forks_on_a_stack_from_malloc },
    { "a_thread_on_a_stack_from_malloc_may_not_fork",
      a_thread_on_a_stack_from_malloc_may_not_fork },
    { "without_memory_fork_fails", without_memory_fork_fails },
    { "a_program_may_close_all_descriptors", a_program_may_close_all_descriptors },
};

int main(int argc, char **argv)
{
    return told_main(argc, argv, stories, sizeof stories / sizeof *stories);
}
