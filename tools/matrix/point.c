/* SPDX-License-Identifier: BSD-3-Clause */
/* point.c - one point: two processes, each on its core, measure and are gone.
 *
 * Start at pw_link_measure(). Processes and not threads, for ranks are processes.
 * They share the control page, where each says how far it is and why it failed,
 * and where the side that holds the clock leaves its samples. Side 0 asks (latency)
 * or sends (throughput). Whatever happens to one, the other is ended too; and when
 * this process is killed, both are.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "link.h"
#include "tools/pwbench_launch.h"

enum {
    SAMPLES_MAX = 4096,
    LATENCY_SAMPLE_NS = 20 * 1000,      /* at least: so the clock costs nothing */
    THROUGHPUT_SAMPLE_NS = 200 * 1000,
    SLICE_MS = 100,
    GRACE_MS = 100,
    LINE = 64,
};

/* How a child ends. */
enum { CHILD_DONE = 0, CHILD_WRONG = 1, CHILD_ABSENT = 3 };

/* The last word or message says so. */
static const uint64_t LAST = (uint64_t)1 << 63;

struct control {
    _Atomic int here[2], entered[2], done[2];
    pid_t pid[2];
    char why[2][PW_WHY];
    int n;
    double sample[SAMPLES_MAX];
};

struct job {
    const struct pw_link_ops *ops;
    const struct pw_matrix_options *o;
    enum pw_measure measure;
    int core[2];
    pid_t parent;
    struct control *control;
    struct pw_link *link;
    pid_t pid[2];           /* 0 when it is gone */
    int status[2];
};

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static void sample_add(struct control *c, double value)
{
    if (c->n < SAMPLES_MAX)
        c->sample[c->n++] = value;
}

/* How long one takes, so that there is room for all. */
static int64_t sample_ns(double seconds, int64_t least)
{
    int64_t fits = (int64_t)(seconds * 1e9 / (SAMPLES_MAX - 96));

    return fits > least ? fits : least;
}

static int wrong(const struct pw_link *l)
{
    return pw_link_fails(l, -EBADMSG, "it delivers wrong data");
}

/* ---- latency ---- */

/* n round trips; their time in ns, or -errno. */
static int64_t round_trips(struct pw_link *l, uint64_t *word, int64_t n)
{
    int64_t start = now_ns();
    uint64_t back;
    int err;

    for (int64_t i = 0; i < n; i++) {
        err = l->ops->say(l, ++*word);
        if (!err)
            err = l->ops->hear(l, &back);
        if (err)
            return err;
        if (back != *word)
            return wrong(l);
    }
    return now_ns() - start;
}

/* A sample is as many round trips as take a while. Finding out how many warms up;
 * it goes on, for what was too few may have looked enough on a busy machine. */
static int latency_ask(struct pw_link *l, struct control *c, double seconds)
{
    int64_t end = now_ns() + (int64_t)(seconds * 1e9), took, n = 1;
    int64_t enough = sample_ns(seconds, LATENCY_SAMPLE_NS);
    uint64_t word = 0;
    bool over;

    do {
        took = round_trips(l, &word, n);
        if (took < 0)
            return (int)took;
        over = now_ns() >= end;
        if (took >= enough || (over && c->n == 0))
            sample_add(c, (double)took / (double)n / 2);
        else
            n *= 2;
    } while (!over);

    word = LAST - 1;
    took = round_trips(l, &word, 1);
    return took < 0 ? (int)took : 0;
}

static int latency_answer(struct pw_link *l)
{
    uint64_t word = 0;
    int err = 0;

    while (!err && !(word & LAST)) {
        err = l->ops->hear(l, &word);
        if (!err)
            err = l->ops->say(l, word);
    }
    return err;
}

/* ---- throughput ---- */

/* Each message is new, a word in every cache line: else the receiver would copy
 * from its own cache after the first one. */
static void stamp(char *message, size_t size, uint64_t word)
{
    for (size_t at = 0; at + sizeof word <= size; at += LINE)
        memcpy(message + at, &word, sizeof word);
}

static uint64_t stamp_at(const char *message, size_t at)
{
    uint64_t word;

    memcpy(&word, message + at, sizeof word);
    return word;
}

static bool stamped(const char *message, size_t size, uint64_t word)
{
    size_t last = (size - sizeof word) / LINE;

    return stamp_at(message, 0) == word && stamp_at(message, last / 2 * LINE) == word &&
           stamp_at(message, last * LINE) == word;
}

static int throughput_send(struct pw_link *l, double seconds)
{
    int64_t end = now_ns() + (int64_t)(seconds * 1e9);
    uint64_t word, n = 0;
    bool last;
    int err;

    do {
        char *message;

        err = l->ops->next(l, &message);
        if (err)
            return err;
        last = now_ns() >= end;
        stamp(message, l->size, ++n | (last ? LAST : 0));
        err = l->ops->send(l, message);
        if (err)
            return err;
    } while (!last);

    err = l->ops->hear(l, &word);
    return err ? err : word == n ? 0 : wrong(l);
}

/* The first tenth of the time is for warming up. */
static int throughput_receive(struct pw_link *l, struct control *c, double seconds)
{
    int64_t start = now_ns(), now = start;
    int64_t warm = start + (int64_t)(seconds * 1e8);
    int64_t enough = sample_ns(seconds, THROUGHPUT_SAMPLE_NS);
    uint64_t word, n = 0;
    double bytes = 0;

    do {
        int err = l->ops->receive(l);

        if (err)
            return err;
        word = stamp_at(l->buffer, 0);
        if ((word & ~LAST) != ++n || !stamped(l->buffer, l->size, word))
            return wrong(l);
        bytes += (double)l->size;
        now = now_ns();
        if (now - start >= enough || (word & LAST && c->n == 0)) {
            if (now >= warm || word & LAST)
                sample_add(c, bytes * 1e3 / (double)(now - start));
            start = now;
            bytes = 0;
        }
    } while (!(word & LAST));
    return l->ops->say(l, n);
}

/* ---- a child ---- */

static int pin(const struct pw_link *l, int core)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(core, &set);
    if (sched_setaffinity(0, sizeof set, &set))
        return pw_link_fails(l, -errno, "a process cannot be pinned to core %d: %s", core,
                             strerror(errno));
    return 0;
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
    struct pw_link *l = j->link;
    int err;

    l->side = side;
    l->why = j->control->why[side];
    err = pin(l, j->core[side]);
    if (err)
        return err;
    l->buffer = aligned_alloc(4096, (l->size + 4095) / 4096 * 4096);
    if (!l->buffer)
        return -ENOMEM;
    memset(l->buffer, 0, l->size);

    /* As MPI libraries ask for, so that the other may read our memory (Yama). */
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
    j->control->pid[side] = getpid();
    meet(j->control->here, side);
    l->peer = j->control->pid[1 - side];
    err = l->ops->enter(l);
    if (!err)
        meet(j->control->entered, side);
    return err;
}

static int child_measure(struct job *j, int side)
{
    double seconds = j->o->seconds;

    if (j->measure == PW_M_LATENCY)
        return side == 0 ? latency_ask(j->link, j->control, seconds)
                         : latency_answer(j->link);
    return side == 0 ? throughput_send(j->link, seconds)
                     : throughput_receive(j->link, j->control, seconds);
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
        err = child_measure(j, side);
    }
    if (!err) {
        /* The other may still read from our memory. */
        meet(j->control->done, side);
        _exit(CHILD_DONE);
    }
    if (!*why)
        snprintf(why, PW_WHY, "%s", strerror(-err));
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
        int64_t start = now_ns(), took;

        reap(j);
        if (failed(j) || (!j->pid[0] && !j->pid[1]))
            return 0;
        if (pw_launch_signal())
            return -EINTR;
        if (left <= 0)
            return -ETIMEDOUT;
        sigtimedwait(&child, NULL, &slice);
        took = now_ns() - start;
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

static int start_both(struct job *j, char why[PW_WHY])
{
    j->parent = getpid();
    for (int side = 0; side < 2; side++) {
        j->pid[side] = fork();
        if (j->pid[side] == 0)
            child_run(j, side);
        if (j->pid[side] < 0) {
            snprintf(why, PW_WHY, "a process could not be started: %s", strerror(errno));
            return -EIO;
        }
    }
    return 0;
}

/* A side that was killed tells more than the other, which only lost its peer: it
 * gets a moment to be seen. */
static int verdict(struct job *j, char why[PW_WHY])
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
            snprintf(why, PW_WHY, "the process on core %d was ended by signal %d",
                     j->core[side], WTERMSIG(j->status[side]));
            return -EIO;
        }
    }
    side = !j->pid[0] && j->status[0] ? 0 : 1;
    snprintf(why, PW_WHY, "%s", j->control->why[side]);
    return WEXITSTATUS(j->status[side]) == CHILD_ABSENT ? -EOPNOTSUPP : -EIO;
}

static int run_both(struct job *j, struct pw_point *out, char why[PW_WHY])
{
    int err = start_both(j, why);

    if (!err) {
        err = await_both(j, j->o->timeout + j->o->seconds);
        if (!err)
            err = verdict(j, why);
    }
    end_both(j);
    if (err == -ETIMEDOUT) {
        snprintf(why, PW_WHY, "it did not finish in %g seconds and was ended",
                 j->o->timeout + j->o->seconds);
        err = -EIO;
    }
    if (!err)
        *out = pw_point_of(j->control->sample, j->control->n);
    return err;
}

int pw_link_measure(const struct pw_link_ops *ops, enum pw_measure measure,
                    const struct pw_pair *pair, const struct pw_matrix_options *o,
                    struct pw_point *out, char why[PW_WHY])
{
    struct job j = { .ops = ops, .o = o, .measure = measure,
                     .core = { pair->a, pair->b } };
    struct pw_link with = { .ops = ops, .size = o->size, .yields = pair->a == pair->b,
                            .why = why };
    sigset_t child, before;
    int err;

    *why = '\0';
    j.control = mmap(NULL, sizeof *j.control, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (j.control == MAP_FAILED) {
        snprintf(why, PW_WHY, "there is no shared memory: %s", strerror(errno));
        return -EOPNOTSUPP;
    }
    err = ops->open(&with, &j.link);
    if (err) {
        if (!*why)
            snprintf(why, PW_WHY, "%s", strerror(-err));
        err = -EOPNOTSUPP;
        goto unmap;
    }
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, &before);
    err = run_both(&j, out, why);
    sigprocmask(SIG_SETMASK, &before, NULL);
    ops->close(j.link);

unmap:
    munmap(j.control, sizeof *j.control);
    return err;
}
