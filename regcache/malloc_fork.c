/* SPDX-License-Identifier: BSD-3-Clause */
/* malloc_fork.c - a fork of a process whose heap is in the pool.
 *
 * Start at before_fork(). The C library calls the three handlers around fork() and
 * around the forks of its own (daemon, forkpty); vfork, posix_spawn, system and
 * popen need none, for their child runs on the parent's memory until it executes
 * another program. fork() itself is ours too, for what no handler can do: fail, or
 * leave a stack that lies in a block.
 */
#define _GNU_SOURCE
#include "malloc_fork.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/single_threaded.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "malloc_arena.h"
#include "malloc_next.h"
#include "malloc_tell.h"

#define TLS __thread __attribute__((tls_model("initial-exec")))

/* The fork that is going on; pw_arena_lock keeps others out. */
static struct pw_arena *forking;
static sigset_t signals;

/* This thread's fork. */
static TLS bool in_fork;        /* called by name: it can return an error */
static TLS int fork_err;

/* ---- handlers ---- */

/* A signal handler that writes to a block between here and the end would wait for
 * the fork that it interrupts, or be lost to the child. Signals that are ignored
 * where they are not handled stay as they are: blocked here, a SIGCHLD would no
 * longer be ignored but handed to another thread, whose read(2) it cuts short. */
static void signals_block(void)
{
    static const int ignored[] = { SIGCHLD, SIGURG, SIGWINCH };
    struct sigaction now;
    sigset_t block;

    sigfillset(&block);
    for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++)
        if (!sigaction(ignored[i], NULL, &now) &&
            (now.sa_handler == SIG_DFL || now.sa_handler == SIG_IGN))
            sigdelset(&block, ignored[i]);
    pthread_sigmask(SIG_BLOCK, &block, &signals);
}

static void before_fork(void)
{
    unsigned flags = __libc_single_threaded ? PW_HEAP_ALONE : 0;

    pthread_mutex_lock(&pw_arena_lock);
    forking = pw_arena_now();
    if (!forking)
        return;
    signals_block();
    if (!pw_malloc_params.fork_copies)
        flags |= PW_HEAP_NO_COPIES;
    fork_err = pw_heap_fork_prepare(forking->pool, flags);
}

static void after_fork_parent(void)
{
    struct pw_arena *a = forking;
    sigset_t old = signals;

    if (a)
        pw_heap_fork_parent(a->pool);
    pthread_mutex_unlock(&pw_arena_lock);
    if (a)
        pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/* Without its heap a child cannot go on. Where fork() can fail it does so in the
 * parent, and this one was never there. */
static void after_fork_child(void)
{
    if (forking) {
        int err = pw_heap_fork_child(forking->pool);

        if (err) {
            if (!in_fork)
                pw_malloc_tell("no memory for a forked child's copy of the heap: the "
                               "child ends");
            _exit(127);
        }
        forking->next = pw_arena_inherited;
        pw_arena_inherited = forking;
    }
    *pw_arena_here = (struct pw_arena_here){ .now = NULL };
    pthread_mutex_init(&pw_arena_lock, NULL);
    if (forking)
        pthread_sigmask(SIG_SETMASK, &signals, NULL);
    forking = NULL;
}

int pw_malloc_fork_start(void)
{
    return pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

/* ---- fork() ---- */

static pid_t fork_or_fail(void)
{
    pid_t pid;

    fork_err = 0;
    in_fork = true;
    pid = pw_next.fork();
    in_fork = false;
    if (pid <= 0 || !fork_err)
        return pid;
    waitpid(pid, NULL, 0);
    errno = -fork_err;
    return -1;
}

/* The trip to another stack and back, at the bottom of that stack. */
struct trip {
    ucontext_t back, there;
    pid_t pid;
    int error;
};
static TLS struct trip *trip;

static void trip_fork(void)
{
    trip->pid = fork_or_fail();
    trip->error = errno;
}

/* On a stack that parent and child share until the child has its copy, each would
 * overwrite the other's frames. */
static pid_t fork_elsewhere(void)
{
    enum { ROOM = 256 << 10 };
    struct trip *t = mmap(NULL, ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                          -1, 0);
    pid_t pid;
    int error;

    if (t == MAP_FAILED)
        return -1;
    getcontext(&t->there);
    t->there.uc_stack.ss_sp = (char *)t + sizeof *t + (-sizeof *t & 63);
    t->there.uc_stack.ss_size = ROOM - sizeof *t - (-sizeof *t & 63);
    t->there.uc_link = &t->back;
    trip = t;
    makecontext(&t->there, trip_fork, 0);
    swapcontext(&t->back, &t->there);

    t = trip;
    pid = t->pid;
    error = t->error;
    munmap(t, ROOM);
    errno = error;
    return pid;
}

/* A thread whose whole stack was made of a block has its descriptor there, into
 * which the kernel writes for the child what the parent would read. */
__attribute__((visibility("default")))
pid_t fork(void)
{
    char here;

    if (__builtin_expect(pw_arena_of(__builtin_thread_pointer()) == pw_arena_now() &&
                         pw_arena_of(__builtin_thread_pointer()), 0)) {
        pw_malloc_tell("fork() by a thread whose stack the program took from malloc() is "
                       "not possible here; raise PINWHEEL_MALLOC_THRESHOLD above its size");
        errno = ENOTSUP;
        return -1;
    }
    if (pw_arena_now() && pw_arena_of(&here) == pw_arena_now())
        return fork_elsewhere();
    return fork_or_fail();
}
