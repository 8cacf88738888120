/* SPDX-License-Identifier: BSD-3-Clause */
/* stale_process.c - forks, and children that share the memory. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/cache/stale.h"

enum { CHILD_STACK = 64 << 10 };

static int outcome(pid_t child)
{
    int status;
    if (waitpid(child, &status, 0) != child)
        return -errno;
    return status ? -EIO : 0;
}

/* What the kernel copies on a write is the child's page, for ours is pinned. */
static int fork_write(struct scene *s)
{
    int hold[2];
    if (pipe(hold))
        return -errno;
    pid_t child = fork();
    if (child < 0)
        return -errno;
    if (child == 0) {
        char c;
        close(hold[1]);
        _exit(read(hold[0], &c, 1) != 0);
    }
    close(hold[0]);
    memset(s->part, 0xa5, s->part_len);     /* while the child lives */
    close(hold[1]);
    return outcome(child);
}

static int fork_child_writes(struct scene *s)
{
    pid_t child = fork();
    if (child < 0)
        return -errno;
    if (child == 0) {
        memset(s->part, 0xa5, s->part_len);
        _exit(0);
    }
    return outcome(child);
}

static int fork_child_unmaps(struct scene *s)
{
    pid_t child = fork();
    if (child < 0)
        return -errno;
    if (child == 0)
        _exit(munmap(s->part, s->part_len) ? 1 : 0);
    return outcome(child);
}

/* The rest of the cell runs in the child. The parent ends as it does. */
static int go_on_in_child(struct scene *s)
{
    pid_t child = fork();
    if (child < 0)
        return -errno;
    s->in_child = child == 0;
    if (child == 0)
        return 0;
    int status;
    while (waitpid(child, &status, 0) != child)
        if (errno != EINTR)
            _exit(3);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 3);
}

/* Its pages become the child's own when it writes them. */
static int child_writes_and_goes_on(struct scene *s)
{
    int err = go_on_in_child(s);
    memset(s->part, 0xa5, s->part_len);
    return err;
}

/* What the child's own cache remembers goes stale in the child. */
static int child_unmaps(struct scene *s)
{
    int err = go_on_in_child(s);
    if (err)
        return err;
    err = s->use(s);
    if (err)
        return err;
    if (munmap(s->part, s->part_len))
        return -errno;
    return stale_map_at(s->part, s->part_len);
}

static int unmap_in_clone(void *arg)
{
    struct scene *s = arg;
    return munmap(s->part, s->part_len) ? 1 : 0;
}

static int clone_unmaps(struct scene *s)
{
    unsigned char *stack = mmap(NULL, CHILD_STACK, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED)
        return -errno;
    pid_t child = clone(unmap_in_clone, stack + CHILD_STACK, CLONE_VM | SIGCHLD, s);
    if (child < 0)
        return -errno;
    int err = outcome(child);
    return err ? err : stale_map_at(s->part, s->part_len);
}

static int vfork_unmaps(struct scene *s)
{
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    pid_t child = vfork();
#pragma GCC diagnostic pop
    if (child < 0)
        return -errno;
    if (child == 0)
        _exit(munmap(s->part, s->part_len) ? 1 : 0);
    int err = outcome(child);
    return err ? err : stale_map_at(s->part, s->part_len);
}

static void *unmap_in_thread(void *arg)
{
    struct scene *s = arg;
    munmap(s->part, s->part_len);
    return NULL;
}

static int thread_unmaps(struct scene *s)
{
    pthread_t thread;
    int err = pthread_create(&thread, NULL, unmap_in_thread, s);
    if (err)
        return -err;
    pthread_join(thread, NULL);
    /* The thread's own memory may have been put there. */
    err = stale_map_at(s->part, s->part_len);
    return err == -EEXIST ? stale_cannot(s, "the address was taken") : err;
}

static struct scene *signalled;

static void unmap_in_handler(int number)
{
    (void)number;
    munmap(signalled->part, signalled->part_len);
}

static int signal_unmaps(struct scene *s)
{
    struct sigaction act = { .sa_handler = unmap_in_handler };
    signalled = s;
    if (sigaction(SIGUSR1, &act, NULL) || raise(SIGUSR1))
        return -errno;
    return stale_map_at(s->part, s->part_len);
}

/* A program that runs and ends changes nothing here. */
static int spawn(struct scene *s)
{
    char *argv[] = { "true", NULL }, *env[] = { NULL };
    pid_t child;
    (void)s;
    int err = posix_spawnp(&child, "true", NULL, NULL, argv, env);
    return err ? -err : outcome(child);
}

const struct stale_case stale_process_cases[] = {
    { "thread", "munmap by another thread, and mmap", MOVES | PLAIN,
      stale_make_private, thread_unmaps },
    { "clone", "munmap by a CLONE_VM child, and mmap", MOVES | PLAIN,
      stale_make_private, clone_unmaps },
    { "vfork", "munmap by a vfork child, and mmap", MOVES | PLAIN,
      stale_make_private, vfork_unmaps },
    { "signal", "munmap by a signal handler, and mmap", MOVES | PLAIN,
      stale_make_private, signal_unmaps },
    { "fork-write", "fork, and the parent writes", PLAIN, stale_make_private, fork_write },
    { "fork-child-writes", "fork, and the child writes", PLAIN,
      stale_make_private, fork_child_writes },
    { "fork-child-unmaps", "fork, and the child unmaps its copy", PLAIN,
      stale_make_private, fork_child_unmaps },
    { "spawn", "posix_spawn of a program", PLAIN, stale_make_private, spawn },
    { "child", "fork, and the child uses the cache", FORKS | PLAIN,
      stale_make_private, go_on_in_child },
    { "child-writes", "fork, the child writes and uses the cache", FORKS | PLAIN,
      stale_make_private, child_writes_and_goes_on },
    { "child-unmaps", "fork, the child uses it, and munmap and mmap there",
      MOVES | FORKS | PLAIN, stale_make_private, child_unmaps },
    { NULL, NULL, 0, NULL, NULL },
};
