/* SPDX-License-Identifier: BSD-3-Clause */
/* pair.c - see pair.h.
 *
 * Start at pw_pair_run(). The two share the control page, where each says how far it is
 * and why it failed. Whatever happens to one, the other is ended too; and when this
 * process is killed, both are.
 */
#include "pair.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "pwbench_launch.h"

enum { SLICE_MS = 100, GRACE_MS = 100 };

/* How a child ends. */
enum { CHILD_DONE = 0, CHILD_WRONG = 1, CHILD_ABSENT = 3 };

struct control {
    _Atomic int here[2], prepared[2], done[2];
    pid_t pid[2];
    char why[2][PW_PAIR_WHY];
};

struct job {
    const struct pw_pair_work *work;
    pid_t parent;
    struct control *control;
    pid_t pid[2];           /* 0 when it is gone */
    int status[2];
};

/* ---- a child ---- */

static int pin(int core, char *why)
{
    cpu_set_t set;
    int err = 0;

    CPU_ZERO(&set);
    CPU_SET(core, &set);
    if (sched_setaffinity(0, sizeof set, &set)) {
        err = -errno;
        snprintf(why, PW_PAIR_WHY, "a process cannot be pinned to core %d: %s", core,
                 strerror(errno));
    }
    return err;
}

/* Until both are as far. Whoever fails before is noticed by the parent. */
static void meet(_Atomic int flag[2], int side)
{
    atomic_store(&flag[side], 1);
    while (!atomic_load(&flag[1 - side]))
        sched_yield();
}

static int child_prepare(struct job *j, int side)
{
    struct control *c = j->control;
    int err = pin(j->work->core[side], c->why[side]);

    if (err)
        return err;
    /* As MPI libraries ask for, so that the other may read our memory (Yama). */
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
    c->pid[side] = getpid();
    meet(c->here, side);
    err = j->work->prepare(j->work->arg, side, c->pid[1 - side], c->why[side]);
    if (!err)
        meet(c->prepared, side);
    return err;
}

static _Noreturn void child_run(struct job *j, int side)
{
    static const int stop[] = { SIGINT, SIGTERM, SIGHUP };
    char *why = j->control->why[side];
    int code = CHILD_ABSENT, err;
    sigset_t none;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != j->parent)
        _exit(CHILD_ABSENT);
    for (size_t i = 0; i < sizeof stop / sizeof *stop; i++)
        signal(stop[i], SIG_DFL);
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);

    err = child_prepare(j, side);
    if (!err) {
        code = CHILD_WRONG;
        err = j->work->measure(j->work->arg, side);
    }
    if (!err) {
        /* The other may still read from our memory. */
        meet(j->control->done, side);
        _exit(CHILD_DONE);
    }
    if (!*why)
        snprintf(why, PW_PAIR_WHY, "%s", strerror(-err));
    _exit(code);
}

/* ---- the parent ---- */

static void reap(struct job *j)
{
    for (int side = 0; side < 2; side++)
        if (j->pid[side] > 0 && waitpid(j->pid[side], &j->status[side], WNOHANG) != 0)
            j->pid[side] = 0;
}

static bool failed(const struct job *j)
{
    return (!j->pid[0] && j->status[0]) || (!j->pid[1] && j->status[1]);
}

/* Until both are gone, one has failed, we are to stop, or it takes too long. Time
 * in which this process was stopped does not count. 0, -EINTR or -ETIMEDOUT. */
static int await_both(struct job *j, double seconds)
{
    const struct timespec slice = { 0, SLICE_MS * 1000000L };
    int64_t left = (int64_t)(seconds * 1e9);
    sigset_t child;

    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    for (;;) {
        int64_t start = pw_clock_ns(), took;

        reap(j);
        if (failed(j) || (!j->pid[0] && !j->pid[1]))
            return 0;
        if (pw_launch_signal())
            return -EINTR;
        if (left <= 0)
            return -ETIMEDOUT;
        sigtimedwait(&child, NULL, &slice);
        took = pw_clock_ns() - start;
        left -= took < 2 * slice.tv_nsec ? took : slice.tv_nsec;
    }
}

static void end_both(struct job *j)
{
    for (int side = 0; side < 2; side++) {
        if (j->pid[side] <= 0)
            continue;
        kill(j->pid[side], SIGKILL);
        while (waitpid(j->pid[side], NULL, 0) < 0 && errno == EINTR)
            ;
        j->pid[side] = 0;
    }
}

static int start_both(struct job *j, char why[PW_PAIR_WHY])
{
    j->parent = getpid();
    for (int side = 0; side < 2; side++) {
        j->pid[side] = fork();
        if (j->pid[side] == 0)
            child_run(j, side);
        if (j->pid[side] < 0) {
            snprintf(why, PW_PAIR_WHY, "a process could not be started: %s",
                     strerror(errno));
            return -EIO;
        }
    }
    return 0;
}

/* A side that was killed tells more than the other, which only lost its peer: it
 * gets a moment to be seen. */
static int verdict(struct job *j, char why[PW_PAIR_WHY])
{
    const struct timespec moment = { 0, 1000000 };
    int side;

    if (!failed(j))
        return 0;
    for (int i = 0; i < GRACE_MS && j->pid[0] + j->pid[1]; i++) {
        nanosleep(&moment, NULL);
        reap(j);
    }
    for (side = 0; side < 2; side++) {
        if (!j->pid[side] && WIFSIGNALED(j->status[side])) {
            snprintf(why, PW_PAIR_WHY, "the process on core %d was ended by signal %d",
                     j->work->core[side], WTERMSIG(j->status[side]));
            return -EIO;
        }
    }
    side = !j->pid[0] && j->status[0] ? 0 : 1;
    snprintf(why, PW_PAIR_WHY, "%s", j->control->why[side]);
    return WEXITSTATUS(j->status[side]) == CHILD_ABSENT ? -EOPNOTSUPP : -EIO;
}

static int run_both(struct job *j, char why[PW_PAIR_WHY])
{
    int err = start_both(j, why);

    if (!err) {
        err = await_both(j, j->work->seconds);
        if (!err)
            err = verdict(j, why);
    }
    end_both(j);
    if (err == -ETIMEDOUT) {
        snprintf(why, PW_PAIR_WHY, "it did not finish in %g seconds and was ended",
                 j->work->seconds);
        err = -EIO;
    }
    return err;
}

int pw_pair_run(const struct pw_pair_work *w, char why[PW_PAIR_WHY])
{
    struct job j = { .work = w };
    sigset_t child, before;
    int err;

    *why = '\0';
    j.control = mmap(NULL, sizeof *j.control, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (j.control == MAP_FAILED) {
        snprintf(why, PW_PAIR_WHY, "there is no shared memory: %s", strerror(errno));
        return -EOPNOTSUPP;
    }
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, &before);
    err = run_both(&j, why);
    sigprocmask(SIG_SETMASK, &before, NULL);
    munmap(j.control, sizeof *j.control);
    return err;
}
