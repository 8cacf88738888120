/* SPDX-License-Identifier: BSD-3-Clause */
/* gigantic.c - a pool of libpinwheel's that is made of reserved pages of 1 GiB, told story
 * by story, in a machine that has one such page on node 0, two on node 1, and nobody who
 * uses them.
 *
 * "RIGHT name" or "WRONG name" on stdout tells how each went, lines before it what was
 * wrong. Each is a process of its own; after it all pages are free again and the driver
 * has nothing.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pinwheel/kdriver.h"
#include "pinwheel/pool.h"
#include "pinwheel/uring.h"

#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)
#define PAGES "/sys/kernel/mm/hugepages/hugepages-1048576kB/"
#define COUNTERS "/sys/class/misc/pinwheel/counters/"

static int failures;

#define expect(cond, ...) \
    do { \
        if (!(cond)) \
            fail(__LINE__, #cond, " " __VA_ARGS__); \
    } while (0)

__attribute__((format(printf, 3, 4)))
static void fail(int line, const char *what, const char *fmt, ...)
{
    va_list ap;

    printf("line %d: %s: ", line, what);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf(" (%m)\n");
    failures++;
}

static void give_up(const char *what)
{
    printf("%s: %m\n", what);
    fflush(stdout);
    _exit(1);
}

static long number_of(const char *path)
{
    FILE *f = fopen(path, "r");
    long n = -1;

    if (!f || fscanf(f, "%ld", &n) != 1)
        give_up(path);
    fclose(f);
    return n;
}

/* Of pages of 1 GiB: those that are free, and of these those that are promised. */
static bool pages_are(long unused, long promised)
{
    long u = number_of(PAGES "free_hugepages"), p = number_of(PAGES "resv_hugepages");

    if (u != unused || p != promised)
        printf("%ld free, %ld promised\n", u, p);
    return u == unused && p == promised;
}

/* MiB that the driver lets a user have; 0: as many as it is made for. */
static void driver_gives(int limit)
{
    FILE *f = fopen("/sys/module/pinwheel/parameters/user_limit", "w");

    if (!f || fprintf(f, "%d\n", limit) < 0 || fclose(f))
        give_up("user_limit");
}

static struct pw_pool *pool_of(size_t size, enum pw_pages pages)
{
    const struct pw_pool_config config = { .size = size, .pages = pages };
    struct pw_pool *pool;

    errno = -pw_pool_open(&config, &pool);
    if (!pool)
        give_up("pw_pool_open");
    return pool;
}

/* A word in each 4 KiB tells place and seed. */
static void paint(char *p, size_t len, uint64_t seed)
{
    for (size_t at = 0; at < len; at += 4096)
        *(uint64_t *)(void *)(p + at) = seed * 0x9e3779b97f4a7c15u + at;
}

static bool painted(const char *p, size_t len, uint64_t seed)
{
    for (size_t at = 0; at < len; at += 4096)
        if (*(const uint64_t *)(const void *)(p + at) != seed * 0x9e3779b97f4a7c15u + at)
            return false;
    return true;
}

static long faults(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return u.ru_minflt + u.ru_majflt;
}

static pid_t child(void (*run)(void *), void *arg)
{
    pid_t pid;

    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        failures = 0;
        run(arg);
        fflush(stdout);
        _exit(failures != 0);
    }
    return pid;
}

static int ended(pid_t pid)
{
    int status = -1;

    waitpid(pid, &status, 0);
    return status;
}

/* ---- what it is made of ---- */

static void pages_come_as_they_are_used(void)
{
    struct pw_pool *pool;
    struct pw_pool_info info;
    long before;
    char *p;

    driver_gives(1);
    pool = pool_of(2 * GIB, PW_PAGES_AUTO);
    driver_gives(0);
    pw_pool_describe(pool, &info);
    expect(info.pages == PW_PAGES_1G && info.size == 2 * GIB, "%s", info.why);
    expect((uintptr_t)pw_pool_base(pool) % GIB == 0);
    expect(pages_are(3, 2), "promised, not taken");
    p = pw_pool_alloc(pool, 3 * MIB, 0);
    expect(p && pages_are(2, 1));
    expect(pw_pool_alloc(pool, GIB, 0) != NULL && pages_are(1, 0));
    before = faults();
    paint(pw_pool_base(pool), 2 * GIB, 1);
    expect(faults() - before <= 4, "%ld faults in 2 GiB", faults() - before);
    expect(painted(pw_pool_base(pool), 2 * GIB, 1));
    pw_pool_close(pool);
    expect(pages_are(3, 0));
}

/* Small, large, none left: never a signal. */
static void where_there_are_none_left(void)
{
    struct pw_pool_config config = { .size = GIB, .pages = PW_PAGES_1G };
    struct pw_pool *most = pool_of(2 * GIB, PW_PAGES_1G), *last = pool_of(GIB, PW_PAGES_1G), *no;
    struct pw_pool_info info;

    expect(pages_are(3, 3));
    expect(pw_pool_open(&config, &no) == -ENOMEM && !no);
    config.pages = PW_PAGES_AUTO;
    driver_gives(1);
    expect(pw_pool_open(&config, &no) == 0);
    pw_pool_describe(no, &info);
    expect(info.pages == PW_PAGES_THP || info.pages == PW_PAGES_4K);
    pw_pool_close(no);
    expect(pw_pool_alloc(most, 2 * GIB, 0) != NULL, "what is promised is there");
    expect(pw_pool_alloc(last, GIB, 0) != NULL);
    paint(pw_pool_base(last), GIB, 2);
    expect(pages_are(0, 0));
    pw_pool_close(last);
    pw_pool_close(most);

    config.size = 64 * MIB;
    expect(pw_pool_open(&config, &no) == 0);
    expect(pw_pool_size(no) == 64 * MIB);
    pw_pool_describe(no, &info);
    expect(info.pages != PW_PAGES_1G, "64 MiB are no gigabyte");
    pw_pool_close(no);
    driver_gives(0);
}

static void policy(int mode, unsigned long nodes)
{
    if (syscall(SYS_set_mempolicy, mode, nodes ? &nodes : NULL, nodes ? 64L : 0L))
        give_up("set_mempolicy");
}

static void on_the_node_that_is_wished_for(void)
{
    struct pw_pool *pool = pool_of(3 * GIB, PW_PAGES_1G);
    char nodes[16], *p;

    policy(MPOL_BIND, 2);
    p = pw_pool_alloc(pool, GIB, 0);
    expect(p != NULL);
    expect(number_of("/sys/devices/system/node/node1/hugepages/hugepages-1048576kB/free_hugepages") == 1);
    expect(pw_pool_alloc(pool, GIB, 0) != NULL);
    pw_pool_nodes(pool, nodes, sizeof nodes);
    expect(!strcmp(nodes, "1"), "\"%s\"", nodes);
    expect(!pw_pool_alloc(pool, 4096, 0), "that node has no third, which is no signal");
    policy(MPOL_DEFAULT, 0);
    expect(pw_pool_alloc(pool, 4096, 0) != NULL, "another has");
    expect(pages_are(0, 0));
    pw_pool_close(pool);
}

/* ---- shared ---- */

static void peer(void *arg)
{
    struct pw_pool *pool = arg;
    long before;
    void *base;

    if (pw_pool_map(pw_pool_fd(pool), 2 * GIB, &base))
        give_up("pw_pool_map");
    expect(base != pw_pool_base(pool) && (uintptr_t)base % GIB == 0);
    expect(pw_pool_map(pw_pool_fd(pool), GIB + 2 * MIB, &base) == -EINVAL, "not in whole pages");
    expect(pw_pool_steady(pw_pool_fd(pool)));
    before = faults();
    expect(painted(base, 2 * GIB, 3));
    expect(faults() - before <= 4, "%ld faults", faults() - before);
    paint(base, 2 * GIB, 4);
    pw_pool_unmap(base, 2 * GIB);
}

static void a_peer_maps_it_by_descriptor(void)
{
    struct pw_pool *pool = pool_of(2 * GIB, PW_PAGES_1G);

    expect(pw_pool_alloc(pool, 2 * GIB, 0) != NULL);
    paint(pw_pool_base(pool), 2 * GIB, 3);
    expect(ended(child(peer, pool)) == 0);
    expect(painted(pw_pool_base(pool), 2 * GIB, 4));
    pw_pool_close(pool);
}

static void owner_to_be_killed(void *arg)
{
    int *to = arg;
    struct pw_pool *pool = pool_of(GIB, PW_PAGES_1G);

    expect(pw_pool_alloc(pool, GIB, 0) != NULL);
    paint(pw_pool_base(pool), GIB, 5);
    expect(write(to[1], &(int){ pw_pool_fd(pool) }, sizeof(int)) == sizeof(int));
    pause();
}

static void killed_users_leave_nothing(void)
{
    char path[64];
    void *base;
    pid_t pid;
    int to[2], fd;

    if (pipe(to))
        give_up("pipe");
    pid = child(owner_to_be_killed, to);
    expect(read(to[0], &fd, sizeof fd) == sizeof fd);
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)pid, fd);
    fd = open(path, O_RDWR | O_CLOEXEC);
    expect(!pw_pool_map(fd, GIB, &base));
    close(fd);
    kill(pid, SIGKILL);
    ended(pid);
    expect(painted(base, GIB, 5) && pages_are(2, 0), "what a peer has mapped stays");
    fflush(stdout);
    if (!failures)
        kill(getpid(), SIGKILL);
}

/* ---- pinned ---- */

static void registered_with_io_uring(void)
{
    struct pw_pool *pool = pool_of(GIB, PW_PAGES_1G);
    int file = memfd_create("file", MFD_CLOEXEC);
    struct pw_uring_handle handle;
    struct pw_uring *u;
    char *p = pw_pool_alloc(pool, GIB, 0);
    size_t half = GIB / 2, len = 8 * MIB;

    errno = -pw_uring_open(NULL, &u);
    if (errno || !p)
        give_up("pw_uring_open");
    expect(pw_uring_pin.pin(u, p, GIB, PW_READ | PW_WRITE, &handle) == 0);
    paint(p + half - MIB, len, 6);
    expect(pw_uring_write(u, file, &handle, p + half - MIB, len, 0) == (ssize_t)len);
    expect(pw_uring_read(u, file, &handle, p + GIB - len, len, 0) == (ssize_t)len);
    expect(painted(p + GIB - len, len, 6));
    pw_uring_pin.unpin(u, p, GIB, &handle);
    pw_uring_close(u);
    pw_pool_close(pool);
    close(file);
}

struct exported {
    int share;
    struct pw_kd_watch watch;
    size_t len;
};

static void *map_export(const struct exported *e)
{
    char *room = mmap(NULL, e->len + GIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *at = room + ((e->watch.offset - (uintptr_t)room) & (2 * MIB - 1));

    return mmap(at, e->len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, e->share,
                (off_t)e->watch.offset);
}

static void attacher(void *arg)
{
    const struct exported *e = arg;
    long huge = number_of(COUNTERS "huge_faults"), other = number_of(COUNTERS "faults");
    char *p = map_export(e);

    if (p == MAP_FAILED)
        give_up("an export");
    expect(painted(p, e->len, 7));
    expect(number_of(COUNTERS "huge_faults") - huge == (long)(e->len / (2 * MIB)), "by 2 MiB");
    expect(number_of(COUNTERS "faults") == other, "and no page alone");
    paint(p, e->len, 8);
}

/* All of a page, and over a boundary between two. */
static void exported_by_the_driver(void)
{
    struct pw_pool *pool = pool_of(2 * GIB, PW_PAGES_1G);
    char *p = pw_pool_alloc(pool, 2 * GIB, 0);
    int control = open(PW_KD_PATH, O_RDWR | O_CLOEXEC);
    struct pw_kd_share share = { .fd = -1 };
    struct pw_kd_info info;
    struct { size_t from, len; } parts[] = { { 0, GIB }, { GIB - 8 * MIB, 16 * MIB } };

    if (control < 0 || ioctl(control, PW_KD_SHARE, &share) || !p)
        give_up(PW_KD_PATH);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        struct exported e = { .share = share.fd, .len = parts[i].len };
        struct pw_kd_slot drop;

        e.watch = (struct pw_kd_watch){ .start = (uintptr_t)p + parts[i].from,
                                        .end = (uintptr_t)p + parts[i].from + parts[i].len,
                                        .access = PW_KD_READ | PW_KD_WRITE };
        paint(p + parts[i].from, e.len, 7);
        expect(ioctl(control, PW_KD_EXPORT, &e.watch) == 0);
        expect(ioctl(control, PW_KD_INFO, &info) == 0 && info.user_bytes == e.len, "charged");
        expect(ended(child(attacher, &e)) == 0);
        expect(painted(p + parts[i].from, e.len, 8));
        drop.slot = e.watch.slot;
        drop.reserved = 0;
        expect(ioctl(control, PW_KD_DROP, &drop) == 0);
        expect(ioctl(control, PW_KD_INFO, &info) == 0 && info.user_bytes == 0);
    }
    pw_pool_close(pool);
}

/* Pinned as they are when everybody is killed. */
static void exported_when_it_is_killed(void)
{
    struct pw_pool *pool = pool_of(GIB, PW_PAGES_1G);
    struct pw_kd_watch watch = { .access = PW_KD_READ };
    int control = open(PW_KD_PATH, O_RDWR | O_CLOEXEC);
    char *p = pw_pool_alloc(pool, GIB, 0);

    watch.start = (uintptr_t)p;
    watch.end = watch.start + GIB;
    expect(p && ioctl(control, PW_KD_EXPORT, &watch) == 0);
    expect(number_of(COUNTERS "export_pages") == (long)(GIB / 4096));
    fflush(stdout);
    if (!failures)
        kill(getpid(), SIGKILL);
}

static const struct story {
    const char *name;
    void (*tell)(void);
    int status;
} stories[] = {
    { "a pool is of pages of 1 GiB, which come as they are used", pages_come_as_they_are_used, 0 },
    { "where none are left there are others, or none, and no signal", where_there_are_none_left, 0 },
    { "they come from the node that is wished for, or are NULL", on_the_node_that_is_wished_for, 0 },
    { "a peer that has the descriptor maps them", a_peer_maps_it_by_descriptor, 0 },
    { "the last user is killed", killed_users_leave_nothing, SIGKILL },
    { "io_uring registers 1 GiB of it", registered_with_io_uring, 0 },
    { "the driver exports it, 2 MiB in each fault", exported_by_the_driver, 0 },
    { "whoever exports it is killed", exported_when_it_is_killed, SIGKILL },
};

/* What a process leaves is taken back a moment later. */
static bool all_is_free(void)
{
    for (int tries = 0; tries < 600; tries++) {
        if (number_of(PAGES "free_hugepages") == 3 && number_of(COUNTERS "controls") == 0)
            break;
        usleep(100000);
    }
    expect(pages_are(3, 0));
    expect(number_of(COUNTERS "export_pages") == 0 && number_of(COUNTERS "controls") == 0);
    return failures == 0;
}

static void tell(void *arg)
{
    ((const struct story *)arg)->tell();
}

int main(void)
{
    int wrong = 0;

    for (size_t i = 0; i < sizeof stories / sizeof *stories; i++) {
        bool right = ended(child(tell, (void *)&stories[i])) == stories[i].status;

        failures = 0;
        driver_gives(0);
        right &= all_is_free();
        wrong += !right;
        printf("%s %s\n", right ? "RIGHT" : "WRONG", stories[i].name);
        fflush(stdout);
    }
    return wrong != 0;
}
