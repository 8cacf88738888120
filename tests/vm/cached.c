/* SPDX-License-Identifier: BSD-3-Clause */
/* cached.c - the registration cache over the kernel driver: what it forgets and what
 * not, counted; where nobody may race it, raced; and what a hit asks of the kernel.
 *
 *     cached              all stories; one line each, RIGHT or WRONG
 *     cached NAME...      only these
 *
 * Buffers are pinned by io_uring, and what is pinned is compared with what the program
 * has by the numbers of the page frames (tests/cache/oracle.h). PW_RACE_SECONDS: how
 * long threads race (10).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pinwheel/regcache.h"
#include "tests/cache/oracle.h"

#define PAGE ((size_t)4096)
enum { CYCLES = 1000, PAGES = 8, MANY = 10000, LONG_S = 120 };
#define LEN (PAGES * PAGE)

static unsigned failures;

#define expect(cond, ...) \
    do { \
        if (!(cond)) \
            fail(__LINE__, #cond, " " __VA_ARGS__); \
    } while (0)

__attribute__((format(printf, 3, 4)))
static void fail(int line, const char *what, const char *format, ...)
{
    va_list list;

    failures++;
    printf("cached.c:%d: %s", line, what);
    va_start(list, format);
    vprintf(format, list);
    va_end(list);
    printf("\n");
}

static void give_up(const char *what)
{
    perror(what);
    exit(1);
}

/* ---- a cache ---- */

static struct oracle *oracle;
static struct pw_monitor *monitor;
static struct pw_regcache *cache;

static void cache_open(void)
{
    struct pw_monitor_report report;
    struct pw_regcache_config config = { .max_regions = 64 };
    int err = oracle_open(64, &oracle);

    if (!err && !oracle_sees_frames(oracle))
        err = -EPERM;
    errno = -err;
    if (err)
        give_up("oracle");
    err = pw_monitor_open("kdriver", &monitor, &report);
    errno = -err;
    if (err)
        give_up(report.why_not);
    config.pin = oracle_ops(oracle);
    config.pin_ctx = oracle;
    config.monitor = monitor;
    errno = -pw_regcache_open(&config, &cache);
    if (errno)
        give_up("cache");
}

static void cache_close(void)
{
    pw_regcache_close(cache);
    pw_monitor_close(monitor);
    oracle_close(oracle);
}

static struct pw_regcache_stats counts;

static void count(void)
{
    pw_regcache_stats(cache, &counts);
}

static unsigned long long since(size_t field)
{
    struct pw_regcache_stats now;
    const char *a = (const char *)&counts, *b = (const char *)&now;

    pw_regcache_stats(cache, &now);
    return *(const uint64_t *)(const void *)(b + field) -
           *(const uint64_t *)(const void *)(a + field);
}
#define SINCE(field) since(offsetof(struct pw_regcache_stats, field))

/* Regions that a change has cost. */
static unsigned long long invalidated(unsigned event)
{
    return since(offsetof(struct pw_regcache_stats, invalidated) +
                 sizeof(uint64_t) * (size_t)__builtin_ctz(event));
}

static unsigned long long all_invalidated(void)
{
    unsigned long long sum = 0;

    for (unsigned e = 1; e & PW_EV_ALL; e <<= 1)
        sum += invalidated(e);
    return sum;
}

/* Get it, compare the frames, put it. 0; 1: STALE; -errno. */
static int use(void *p)
{
    struct oracle_frame bad;
    struct pw_region *r;
    int err = pw_regcache_get(cache, p, LEN, PW_READ | PW_WRITE, &r);

    if (err)
        return err;
    err = oracle_frames(oracle, r, p, LEN, &bad);
    pw_regcache_put(cache, r);
    return err;
}

static void *map(void *at, int flags, int fd)
{
    void *p = mmap(at, LEN, PROT_READ | PROT_WRITE, flags, fd, 0);

    if (p == MAP_FAILED)
        give_up("mmap");
    memset(p, 1, LEN);
    return p;
}

static void *anon(void)
{
    return map(NULL, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

static void stay_on(int cpu)
{
    cpu_set_t one;

    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof one, &one);
}

/* ---- what costs nothing ---- */

static void all_hits(void)
{
    expect(all_invalidated() == 0, "%llu", all_invalidated());
    expect(SINCE(misses) == 0, "%llu", SINCE(misses));
    expect(SINCE(hits) == CYCLES, "%llu", SINCE(hits));
}

static void mprotect_that_keeps(void)
{
    void *p = anon();
    int wrong = use(p);

    count();
    for (int i = 0; i < CYCLES; i++) {
        mprotect(p, LEN, PROT_READ | PROT_WRITE | (i % 2 ? 0 : PROT_EXEC));
        wrong |= use(p);
    }
    expect(wrong == 0);
    all_hits();
    munmap(p, LEN);
}

static void fork_and_copy(void)
{
    void *p = anon();
    int wrong = use(p), status;

    count();
    for (int i = 0; i < CYCLES; i++) {
        pid_t pid = fork();

        if (pid == 0) {
            memset(p, 2, LEN);
            _exit(0);
        }
        wrong |= waitpid(pid, &status, 0) != pid || status;
        wrong |= use(p);
    }
    expect(wrong == 0);
    all_hits();
    munmap(p, LEN);
}

static long number_of(const char *path)
{
    char text[32] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || read(fd, text, sizeof text - 1) < 0)
        give_up(path);
    close(fd);
    return atol(text);
}

static void set(const char *path, const char *value)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, value, strlen(value)) < 0)
        give_up(path);
    close(fd);
}

/* Each scan of the range is an event that the driver lets pass. */
static void numa_scan(void)
{
#define PASSED "/sys/class/misc/pinwheel/counters/events_passed"
#define SCAN "/sys/kernel/debug/sched/numa_balancing/scan_"
    time_t late = time(NULL) + LONG_S;
    cpu_set_t all;
    int wrong;
    long begin;
    char *p;

    sched_getaffinity(0, sizeof all, &all);
    stay_on(0);                 /* so that nothing is to be moved nearer */
    p = anon();
    wrong = use(p);
    set(SCAN "delay_ms", "0");
    set(SCAN "size_mb", "16");
    set(SCAN "period_min_ms", "1");
    set(SCAN "period_max_ms", "2");
    set("/proc/sys/kernel/numa_balancing", "1");
    count();
    for (begin = number_of(PASSED);
         number_of(PASSED) - begin < CYCLES && time(NULL) < late;) {
        for (size_t i = 0; i < LEN; i += PAGE)
            p[i]++;
        wrong |= use(p);
    }
    expect(number_of(PASSED) - begin >= CYCLES, "%ld scans", number_of(PASSED) - begin);
    set("/proc/sys/kernel/numa_balancing", "0");
    expect(wrong == 0);
    expect(all_invalidated() == 0, "%llu", all_invalidated());
    expect(SINCE(misses) == 0, "%llu", SINCE(misses));
    sched_setaffinity(0, sizeof all, &all);
    munmap(p, LEN);
}

/* ---- what costs exactly one region each time ---- */

static void one_each(unsigned event)
{
    expect(invalidated(event) == CYCLES, "%llu", invalidated(event));
    expect(all_invalidated() == CYCLES, "%llu", all_invalidated());
    expect(SINCE(misses) == CYCLES, "%llu", SINCE(misses));
    expect(SINCE(uncached) == 0 && SINCE(retries) == 0);
}

static void unmap(void)
{
    void *p = anon();
    int wrong = use(p);

    count();
    for (int i = 0; i < CYCLES; i++) {
        munmap(p, LEN);
        wrong |= map(p, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1) != p;
        wrong |= use(p);
    }
    expect(wrong == 0);
    one_each(PW_EV_UNMAP);
    munmap(p, LEN);
}

static void dontneed(void)
{
    char *p = anon();
    int wrong = use(p);

    count();
    for (int i = 0; i < CYCLES; i++) {
        madvise(p + PAGE, PAGE, MADV_DONTNEED);
        p[PAGE] = 1;
        wrong |= use(p);
    }
    expect(wrong == 0);
    one_each(PW_EV_DISCARD);
    munmap(p, LEN);
}

static void protect(void)
{
    void *p = anon();
    int wrong = use(p);

    count();
    for (int i = 0; i < CYCLES; i++) {
        mprotect(p, LEN, PROT_NONE);
        mprotect(p, LEN, PROT_READ | PROT_WRITE);
        wrong |= use(p);
    }
    expect(wrong == 0);
    one_each(PW_EV_PROTECT);
    munmap(p, LEN);
}

/* For each byte that comes a page of the file is gone. */
static pid_t puncher(int file, const int go[2], const int done[2])
{
    pid_t pid = fork();
    char byte;

    if (pid)
        return pid;
    close(go[1]);
    while (read(go[0], &byte, 1) == 1) {
        if (fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)PAGE,
                      (off_t)PAGE))
            _exit(1);
        if (write(done[1], &byte, 1) != 1)
            _exit(2);
    }
    _exit(0);
}

static void punched_by_another(void)
{
    int file = memfd_create("cached", MFD_CLOEXEC), go[2], done[2], status, wrong;
    pid_t pid;
    char *p;

    if (file < 0 || ftruncate(file, (off_t)LEN) || pipe(go) || pipe(done))
        give_up("file");
    pid = puncher(file, go, done);
    p = map(NULL, MAP_SHARED, file);
    wrong = use(p);
    count();
    for (int i = 0; i < CYCLES; i++) {
        char byte = 0;

        wrong |= write(go[1], &byte, 1) != 1 || read(done[0], &byte, 1) != 1;
        p[PAGE] = 1;
        wrong |= use(p);
    }
    expect(wrong == 0);
    one_each(PW_EV_DISCARD);
    close(go[1]);
    expect(waitpid(pid, &status, 0) == pid && !status, "it ended with %d", status);
    munmap(p, LEN);
    close(file);
    close(go[0]);
    close(done[0]);
    close(done[1]);
}

/* ---- get against munmap ---- */

struct race {
    char *p;
    unsigned turn;              /* odd while the memory changes */
    unsigned judged;
    bool end;
    unsigned stale, changes, refused;
    int error;
};

/* Each thread has a processor of its own.
 *
 * What was pinned is judged where the memory did not change from before the get until
 * after the comparison. A get that met a change may have pinned anything; when it is
 * served to the next one, that is STALE. */
static void *getter(void *arg)
{
    struct race *g = arg;

    stay_on(0);
    while (!__atomic_load_n(&g->end, __ATOMIC_ACQUIRE)) {
        unsigned turn = __atomic_load_n(&g->turn, __ATOMIC_SEQ_CST);
        int err = use(g->p);

        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        if (turn % 2 || __atomic_load_n(&g->turn, __ATOMIC_SEQ_CST) != turn) {
            __atomic_add_fetch(&g->refused, err == -EFAULT, __ATOMIC_RELAXED);
            continue;
        }
        if (err > 0)
            g->stale++;
        else if (err && err != -EAGAIN)
            g->error = err;
        __atomic_add_fetch(&g->judged, 1, __ATOMIC_RELEASE);
    }
    return NULL;
}

static void change(struct race *g)
{
    __atomic_add_fetch(&g->turn, 1, __ATOMIC_SEQ_CST);
    if (g->changes % 4 == 3) {
        madvise(g->p, LEN, MADV_DONTNEED);
    } else {
        munmap(g->p, LEN);
        map(g->p, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1);
    }
    memset(g->p, 1, LEN);
    __atomic_add_fetch(&g->turn, 1, __ATOMIC_SEQ_CST);
    g->changes++;
}

/* After none to three judgements, so that gets meet changes at every distance. */
static void *changer(void *arg)
{
    struct race *g = arg;
    unsigned seed = 1;

    stay_on(1);
    while (!__atomic_load_n(&g->end, __ATOMIC_ACQUIRE)) {
        unsigned until = __atomic_load_n(&g->judged, __ATOMIC_ACQUIRE) + rand_r(&seed) % 4;

        change(g);
        while ((int)(until - __atomic_load_n(&g->judged, __ATOMIC_ACQUIRE)) > 0 &&
               !__atomic_load_n(&g->end, __ATOMIC_ACQUIRE))
            sched_yield();
    }
    return NULL;
}

static void race(void)
{
    const char *text = getenv("PW_RACE_SECONDS");
    time_t late = time(NULL) + (text && *text ? atol(text) : 10);
    struct race g = { .p = anon() };
    pthread_t a, b;

    count();
    if (pthread_create(&a, NULL, getter, &g) || pthread_create(&b, NULL, changer, &g))
        give_up("threads");
    /* However slow the machine is, it has to have come to something. */
    while (time(NULL) < late || __atomic_load_n(&g.judged, __ATOMIC_RELAXED) < 100)
        usleep(100000);
    __atomic_store_n(&g.end, true, __ATOMIC_RELEASE);
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    printf("%u changes, %u gets judged, %u met no memory, %llu hits, %llu pinned again\n",
           g.changes, g.judged, g.refused, SINCE(hits), SINCE(retries));
    expect(g.stale == 0, "%u STALE", g.stale);
    expect(g.error == 0, "%s", strerror(-g.error));
    expect(all_invalidated() > 0);
    munmap(g.p, LEN);
}

/* ---- a hit makes no system call ---- */

/* From now on every system call but the last one is the end. */
static void forbid_calls(void)
{
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog filter = { .len = 4, .filter = program };

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter))
        _exit(3);
}

/* In a child, which begins with an empty cache; may it get the last one without having
 * it got before? Its wait status. */
static int gets_without_calls(bool miss)
{
    enum { BUFFERS = 16, GETS = 100000 };
    struct pw_region *r;
    void *p[BUFFERS];
    int status;
    pid_t pid = fork();

    if (pid) {
        waitpid(pid, &status, 0);
        return status;
    }
    for (int i = 0; i < BUFFERS; i++) {
        p[i] = anon();
        if ((i || !miss) && use(p[i]))
            _exit(4);
    }
    forbid_calls();
    for (int i = 0; i < GETS; i++) {
        if (pw_regcache_get(cache, p[i % BUFFERS], LEN, PW_READ, &r))
            _exit(5);
        pw_regcache_put(cache, r);
        pw_regcache_progress(cache);
    }
    _exit(0);
}

static void hits_make_no_calls(void)
{
    int status = gets_without_calls(false);

    expect(status == 0, "status %#x", (unsigned)status);
    status = gets_without_calls(true);
    expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS, "a miss is found out: %#x",
           (unsigned)status);
}

/* ---- the monitor alone ---- */

static struct pw_range range(const char *p, size_t len)
{
    return (struct pw_range){ (uintptr_t)p, (uintptr_t)p + len };
}

/* It was read-only when it was first asked for: so reading is all that is watched. */
static void mprotect_of_what_is_read(void)
{
    char *p = anon();
    struct pw_watch w;
    uint64_t word;

    mprotect(p, LEN, PROT_READ);
    expect(monitor->ops->watch(monitor, range(p, LEN), &w) == 0);
    word = *monitor->word;
    for (int i = 0; i < CYCLES; i++)
        mprotect(p, LEN, PROT_READ | (i % 2 ? 0 : PROT_WRITE));
    expect(*monitor->word == word);
    expect(monitor->ops->fresh(monitor, range(p, LEN), &w));
    mprotect(p, LEN, PROT_NONE);
    expect(!monitor->ops->fresh(monitor, range(p, LEN), &w));
    monitor->ops->unwatch(monitor, range(p, LEN), &w);
    expect(monitor->ops->watch(monitor, range(p, LEN), &w) == -EOPNOTSUPP);
    munmap(p, LEN);
    expect(monitor->ops->watch(monitor, range(p, LEN), &w) == -EFAULT);
}

static void thousands(void)
{
    static struct pw_watch w[MANY];
    char *p = mmap(NULL, MANY * PAGE, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    struct pw_change c[4];
    uint64_t upto;
    int wrong = p == MAP_FAILED, got;

    for (size_t i = 0; i < MANY && !wrong; i++)
        wrong = monitor->ops->watch(monitor, range(p + i * PAGE, PAGE), &w[i]);
    expect(wrong == 0, "%d", wrong);
    while (monitor->ops->changes(monitor, c, 4, &upto) == 4)
        ;
    madvise(p + 7777 * PAGE, PAGE, MADV_DONTNEED);
    got = monitor->ops->changes(monitor, c, 4, &upto);
    expect(got == 1 && c[0].range.start == (uintptr_t)p + 7777 * PAGE, "%d", got);
    expect(upto == *monitor->word);
    for (size_t i = 0; i < MANY; i++) {
        struct pw_range r = range(p + i * PAGE, PAGE);

        wrong += monitor->ops->fresh(monitor, r, &w[i]) != (i != 7777);
        monitor->ops->unwatch(monitor, r, &w[i]);
    }
    expect(wrong == 0, "%d", wrong);
    munmap(p, MANY * PAGE);
    expect(monitor->ops->changes(monitor, c, 4, &upto) == 0, "nobody watches it any more");
}

/* A child's copy keeps the watches, until it goes. */
static void closed_by_the_program(void)
{
    struct pw_monitor *m;
    struct pw_change c;
    struct pw_watch w, other;
    char *p = anon();
    int go[2], status;
    uint64_t word, upto;
    pid_t pid;

    if (pw_monitor_open("kdriver", &m, NULL) || pipe(go))
        give_up("monitor");
    expect(m->ops->watch(m, range(p, LEN), &w) == 0);
    pid = fork();
    if (pid == 0) {
        close(go[1]);
        _exit(read(go[0], &c, 1) != 0);
    }
    close(go[0]);
    /* All that are kept out of the way, the cache's monitor's too: not used again. */
    for (int fd = 800; fd < 1000; fd++)
        close(fd);
    expect(m->ops->fresh(m, range(p, LEN), &w), "the child has it, too");
    expect(m->ops->watch(m, range(p, LEN), &other) == -EOPNOTSUPP);
    word = *m->word;
    close(go[1]);
    expect(waitpid(pid, &status, 0) == pid && !status);
    expect(*m->word != word);
    expect(!m->ops->fresh(m, range(p, LEN), &w));
    expect(m->ops->changes(m, &c, 1, &upto) == 1 && c.cause == PW_EV_LOST);
    expect(*m->note);
    pw_monitor_close(m);
    munmap(p, LEN);
}

/* ---- the stories ---- */

static const struct story {
    const char *name;
    void (*tell)(void);
} stories[] = {
    { "1000 times mprotect that keeps the rights: none is forgotten", mprotect_that_keeps },
    { "1000 forks, and the child copies on write: none", fork_and_copy },
    { "1000 NUMA scans: none", numa_scan },
    { "1000 times munmap: 1000 are forgotten", unmap },
    { "1000 times madvise(MADV_DONTNEED) of one page: 1000", dontneed },
    { "1000 times mprotect to none: 1000", protect },
    { "1000 holes punched by another process: 1000", punched_by_another },
    { "one thread gets, one unmaps: none is stale", race },
    { "100,000 hits on 16 buffers make no system call", hits_make_no_calls },
    { "1000 times mprotect of what is only read: nothing moves", mprotect_of_what_is_read },
    { "10,000 ranges, and one of them changes", thousands },
    { "a program closes descriptors that are not its own", closed_by_the_program },
};

static bool chosen(const char *name, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strstr(name, argv[i]))
            return true;
    return argc < 2;
}

int main(int argc, char **argv)
{
    unsigned failed = 0;

    setvbuf(stdout, NULL, _IONBF, 0);
    for (size_t i = 0; i < sizeof stories / sizeof stories[0]; i++) {
        if (!chosen(stories[i].name, argc, argv))
            continue;
        failures = 0;
        cache_open();
        stories[i].tell();
        cache_close();
        printf("%s the cache: %s\n", failures ? "WRONG" : "RIGHT", stories[i].name);
        failed += failures;
    }
    return failed != 0;
}
