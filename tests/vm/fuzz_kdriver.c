/* SPDX-License-Identifier: BSD-3-Clause */
/* fuzz_kdriver.c - the kernel driver under everything that several processes of several
 * users may do to it, at random; see fuzz.h.
 *
 *   fuzz_kdriver [--seconds S] [--seed N] [--failures]
 *
 * In a guest, as root, with the module loaded and /dev/pinwheel open to all. Says the
 * seed. What each thread does follows from it; how they meet does not. --failures: now
 * and then an allocation fails in the midst of a call, where the kernel can do that.
 *
 * Start at main(). It starts actors again as they end or are killed, changes the module's
 * parameters, and sees at the end that nothing is left. Exits 0, 1 where something was
 * wrong, 77 without a driver.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/vm/fuzz.h"

#define THREADS 3
#define MiB (1ul << 20)
#define PARAMETER "/sys/module/pinwheel/parameters/"
#define COUNTER "/sys/class/misc/pinwheel/counters/"

/* Of each actor. Users are known to the driver as long as one of its descriptors is
 * open, so main() has one of each, and can ask what they have pinned. */
static const uid_t uids[ACTORS] = { 0, 20001, 20001, 20002, 20002, 0 };
static const uid_t users[] = { 0, 20001, 20002 };
#define USERS (sizeof users / sizeof *users)
static int watchers[USERS];

struct board *board;
static int pipes[ACTORS][2];
static uint64_t seed;

void broken(const char *format, ...)
{
    char line[400];
    va_list args;
    int n = snprintf(line, sizeof line, "broken: ");

    va_start(args, format);
    n += vsnprintf(line + n, sizeof line - (size_t)n - 1, format, args);
    va_end(args);
    if (n > (int)sizeof line - 2)
        n = (int)sizeof line - 2;
    line[n] = '\n';
    /* The first ones tell most. */
    if (atomic_fetch_add(&board->broken, 1) < 20 &&
        write(STDOUT_FILENO, line, (size_t)n + 1) < 0)
        _exit(4);
    atomic_store(&board->stop, true);
}

/* ---- touches ---- */

static __thread sigjmp_buf *guard;

static void caught(int signal)
{
    if (!guard) {
        broken("signal %d outside of a touch", signal);
        _exit(2);
    }
    siglongjmp(*guard, signal);
}

int guarded(void (*touch)(void *), void *arg)
{
    sigjmp_buf here;
    int signal = sigsetjmp(here, 1);

    if (signal == 0) {
        guard = &here;
        touch(arg);
    }
    guard = NULL;
    return signal;
}

/* ---- an actor ---- */

struct thread {
    pthread_t thread;
    struct rng rng;
    unsigned steps;
};

static void *thread(void *arg)
{
    struct thread *t = arg;

    thread_open();
    steps(&t->rng, t->steps, false);
    return NULL;
}

static void become(uid_t uid, struct rng *r)
{
    static const rlim_t locked[] = { 64 << 10, 8 << 20, 64 << 20, RLIM_INFINITY };
    struct rlimit limit = { .rlim_cur = locked[below(r, 4)] };

    limit.rlim_max = limit.rlim_cur;
    if (uid == 0)
        return;
    if (setrlimit(RLIMIT_MEMLOCK, &limit) || setresuid(uid, uid, uid)) {
        broken("cannot become user %u: %s", (unsigned)uid, strerror(errno));
        _exit(3);
    }
    /* Else its own /proc files would be root's. */
    prctl(PR_SET_DUMPABLE, 1);
}

/* Some ends are tidy, and some are not. */
static void end(struct rng *r)
{
    unsigned n = (unsigned)below(r, 60);

    if (one_in(r, 2))
        while (n-- > 0)
            (one_in(r, 2) ? desc_shut : area_lose)(r);
    _exit(0);
}

static void actor(int which, uint64_t start)
{
    struct rng r = { start };
    struct thread threads[THREADS];
    struct sigaction action = { .sa_handler = caught, .sa_flags = SA_NODEFER };

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGSEGV, &action, NULL);
    for (size_t i = 0; i < USERS; i++)
        close(watchers[i]);
    me = myself = atomic_fetch_add(&board->numbers, 1) + 1;
    become(uids[which], &r);
    areas_open();
    descs_open(pipes, which);
    for (int i = 0; i < THREADS; i++) {
        threads[i].rng.state = rng_next(&r);
        threads[i].steps = (unsigned)rng_length(&r, 3000);
        if (pthread_create(&threads[i].thread, NULL, thread, &threads[i]))
            _exit(3);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i].thread, NULL);
    thread_open();
    end(&r);
}

/* ---- all of them ---- */

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void put(const char *path, unsigned long value)
{
    FILE *f = fopen(path, "w");

    if (!f || fprintf(f, "%lu\n", value) < 0 || fclose(f))
        broken("%s: %s", path, strerror(errno));
}

static long get(const char *path)
{
    FILE *f = fopen(path, "r");
    long value = -1;

    if (!f || fscanf(f, "%ld", &value) != 1)
        broken("%s cannot be read", path);
    if (f)
        fclose(f);
    return value;
}

static void change_parameters(struct rng *r)
{
    static const unsigned long limits[] = { 4, 48, 96, 128 };
    static const unsigned long slots[] = { 1, 24, 1000, 16376 };
    static const unsigned long descriptors[] = { 3, 20, 1024 };

    put(PARAMETER "user_limit", limits[below(r, 4)]);
    put(PARAMETER "slots", slots[below(r, 4)]);
    put(PARAMETER "descriptors", descriptors[below(r, 3)]);
}

/* What was never done was not tested. */
static bool all_was_reached(void)
{
    uint64_t refused = 0;

    for (int i = 0; i < CALLS; i++) {
        refused += board->bad[i];
        if (board->good[i] == 0)
            return false;
    }
    return refused && board->touches && board->secrets && board->moved &&
           board->strangers && board->forks && (board->failed || !with_failures);
}

static void run(double seconds)
{
    double until = now() + seconds;
    pid_t actors[ACTORS] = { 0 };
    struct rng r = { seed };
    int status;

    /* A machine that is busy gets more time, until all has been done. */
    while ((now() < until || (now() < until + 120 && !all_was_reached())) &&
           !atomic_load(&board->stop)) {
        int which = (int)below(&r, ACTORS);
        pid_t pid;

        for (int i = 0; i < ACTORS; i++)
            if (actors[i] == 0) {
                uint64_t start = rng_next(&r);

                actors[i] = fork();
                if (actors[i] == 0)
                    actor(i, start);
            }
        usleep(20000);
        if (one_in(&r, 8))
            kill(actors[which], SIGKILL);
        if (one_in(&r, 16))
            change_parameters(&r);
        while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
            for (int i = 0; i < ACTORS; i++)
                if (actors[i] == pid) {
                    actors[i] = 0;
                    if (WIFEXITED(status) ? WEXITSTATUS(status)
                                          : WTERMSIG(status) != SIGKILL)
                        broken("an actor has ended with status %#x", status);
                }
    }
    atomic_store(&board->stop, true);
    for (int i = 0; i < ACTORS; i++)
        if (actors[i] > 0 && one_in(&r, 2))
            kill(actors[i], SIGKILL);
    /* Children whose actors are gone are ours. */
    while (waitpid(-1, NULL, 0) > 0)
        continue;
}

/* ---- at the end ---- */

static void comes_to(const char *path, long value)
{
    double until = now() + 60;

    while (get(path) != value)
        if (now() > until) {
            broken("%s is %ld at the end, not %ld", path, get(path), value);
            return;
        }
        else
            usleep(10000);
}

static int open_as(uid_t uid)
{
    int fd;

    if (setresuid(uid, uid, 0))
        return -1;
    fd = open(PW_KD_PATH, O_RDWR | O_CLOEXEC);
    if (setresuid(0, 0, 0))
        _exit(3);
    return fd;
}

/* What a user may, another time: all of it. */
static void all_again(uid_t uid, int watcher)
{
    struct rlimit limit = { MiB, MiB };
    struct pw_kd_info info;
    struct pw_kd_watch w = { .access = PW_KD_READ | PW_KD_WRITE };
    int fd, status = 0;

    if (ioctl(watcher, PW_KD_INFO, &info) || info.user_bytes)
        broken("user %u has %llu bytes pinned at the end", (unsigned)uid,
               (unsigned long long)info.user_bytes);
    if (fork() == 0) {
        void *p =
            mmap(NULL, MiB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        setrlimit(RLIMIT_MEMLOCK, &limit);
        if (uid && setresuid(uid, uid, uid))
            _exit(1);
        fd = open(PW_KD_PATH, O_RDWR);
        if (fd < 0) {
            broken("user %u cannot open the device at the end: %s", (unsigned)uid,
                   strerror(errno));
            _exit(1);
        }
        w.start = (uint64_t)p;
        w.end = w.start + MiB;
        if (services & PW_KD_SERVICE_ATTACH && ioctl(fd, PW_KD_EXPORT, &w))
            broken("user %u cannot export as much as it may lock: %s", (unsigned)uid,
                   strerror(errno));
        _exit(0);
    }
    wait(&status);
}

static void nothing_is_left(void)
{
    static const char *const gauges[] = {
        COUNTER "watches", COUNTER "exports", COUNTER "mappings", COUNTER "pools",
        COUNTER "export_pages", COUNTER "pool_pages",
    };

    for (int i = 0; i < ACTORS; i++) {
        close(pipes[i][0]);
        close(pipes[i][1]);
    }
    comes_to(COUNTER "controls", USERS);
    for (size_t i = 0; i < sizeof gauges / sizeof *gauges; i++)
        comes_to(gauges[i], 0);
    put(PARAMETER "user_limit", 0);
    put(PARAMETER "slots", 16376);
    put(PARAMETER "descriptors", 2);
    for (size_t i = 0; i < USERS; i++)
        all_again(users[i], watchers[i]);
    put(PARAMETER "descriptors", 1024);
    for (size_t i = 0; i < USERS; i++)
        close(watchers[i]);
    comes_to(COUNTER "controls", 0);
}

static void tell(void)
{
    static const char *const names[CALLS] = { "open",    "info",      "watch",     "export",
                                              "drop",    "share",     "pool",      "fill",
                                              "drain",   "pool_info", "map_words", "attach",
                                              "map_pool" };

    for (int i = 0; i < CALLS; i++)
        printf("%s %lu/%lu ", names[i], (unsigned long)board->good[i],
               (unsigned long)(board->good[i] + board->bad[i]));
    printf("\ntouches %lu, secrets %lu, changes seen %lu, strangers refused %lu, children "
           "%lu, "
           "failed allocations %lu\n",
           (unsigned long)board->touches, (unsigned long)board->secrets,
           (unsigned long)board->moved, (unsigned long)board->strangers,
           (unsigned long)board->forks, (unsigned long)board->failed);
}

static void open_all(void)
{
    struct pw_kd_info info;

    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                 -1, 0);
    if (board == MAP_FAILED || prctl(PR_SET_CHILD_SUBREAPER, 1)) {
        perror("fuzz_kdriver");
        exit(2);
    }
    for (int i = 0; i < ACTORS; i++)
        if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pipes[i])) {
            perror("fuzz_kdriver: socketpair");
            exit(2);
        }
    for (size_t i = 0; i < USERS; i++)
        watchers[i] = open_as(users[i]);
    if (watchers[0] < 0 || ioctl(watchers[0], PW_KD_INFO, &info)) {
        fprintf(stderr, "fuzz_kdriver: no driver: %s\n", strerror(errno));
        exit(77);
    }
    services = info.services;
}

int main(int argc, char **argv)
{
    double seconds = 20;

    seed = (uint64_t)time(NULL) * 1000003 + (uint64_t)getpid();
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--failures") == 0) {
            with_failures = true;
        } else if (strcmp(argv[i], "--seconds") == 0 && i + 1 < argc) {
            seconds = atof(argv[++i]);
        } else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
            seed = strtoull(argv[++i], NULL, 0);
        } else {
            fprintf(stderr, "usage: fuzz_kdriver [--seconds S] [--seed N] [--failures]\n");
            return 2;
        }
    setvbuf(stdout, NULL, _IOLBF, 0);
    open_all();
    printf("seed %llu, %.0f seconds\n", (unsigned long long)seed, seconds);
    fflush(stdout);
    run(seconds);
    nothing_is_left();
    if (!board->broken && !all_was_reached())
        broken("something was never done");
    tell();
    if (atomic_load(&board->broken)) {
        printf("again: fuzz_kdriver --seconds %.0f --seed %llu%s\n", seconds,
               (unsigned long long)seed, with_failures ? " --failures" : "");
        return 1;
    }
    return 0;
}
