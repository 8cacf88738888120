/* SPDX-License-Identifier: BSD-3-Clause */
/* pinned_stories.c - a driver's pool: its calls, its mappings, its limits, its end.
 * What get_user_pages() does with it is in pinned_pins.c.
 */
#define _GNU_SOURCE
#include "pinned.h"

#include <linux/mempolicy.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define refused(want, call) \
    do { \
        errno = 0; \
        expect((call) == -1 && errno == (want), "not " #want); \
    } while (0)

/* ---- calls ---- */

static void bad_pools(void)
{
    static const uint64_t size[] = {
        0, 1, PAGE, UNIT - 1, UNIT + PAGE, 3 * MIB, (uint64_t)1 << 63, ~(UNIT - 1), ~0ull,
    };
    struct pw_kd_pool pool = { .size = UNIT, .reserved = 1 };
    char *readonly = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct rlimit many, few;

    refused(EINVAL, ioctl(control(), PW_KD_POOL, &pool));
    pool = (struct pw_kd_pool){ .size = UNIT, .reserved2 = { 0, 1 } };
    refused(EINVAL, ioctl(control(), PW_KD_POOL, &pool));
    for (size_t i = 0; i < sizeof size / sizeof *size; i++) {
        pool = (struct pw_kd_pool){ .size = size[i] };
        refused(EINVAL, ioctl(control(), PW_KD_POOL, &pool));
    }
    refused(EFAULT, ioctl(control(), PW_KD_POOL, NULL));

    /* Can be read but not written: the answer. */
    mprotect(readonly, PAGE, PROT_READ | PROT_WRITE);
    memcpy(readonly, &(struct pw_kd_pool){ .size = UNIT }, sizeof pool);
    mprotect(readonly, PAGE, PROT_READ);
    refused(EFAULT, ioctl(control(), PW_KD_POOL, readonly));
    expect(counter("pools") == 0);

    pool = (struct pw_kd_pool){ .size = UNIT };
    getrlimit(RLIMIT_NOFILE, &many);
    few = (struct rlimit){ (rlim_t)control() + 1, many.rlim_max };
    setrlimit(RLIMIT_NOFILE, &few);
    refused(EMFILE, ioctl(control(), PW_KD_POOL, &pool));
    setrlimit(RLIMIT_NOFILE, &many);
    expect(counter("pools") == 0);
}

static void bad_parts(void)
{
    int fd = pool_make(4 * UNIT);
    struct pw_kd_part bad[] = {
        { .len = 0 }, { .len = PAGE }, { .len = 3 * MIB }, { .offset = PAGE, .len = UNIT },
        { .offset = 4 * UNIT, .len = UNIT }, { .offset = 3 * UNIT, .len = 2 * UNIT },
        { .offset = ~(UNIT - 1), .len = UNIT }, { .offset = ~(UNIT - 1), .len = 2 * UNIT },
        { .offset = UNIT, .len = ~(UNIT - 1) }, { .len = UNIT, .reserved = 1 },
        { .len = UNIT, .node = -2 }, { .len = UNIT, .node = 1 << 20 },
        { .len = UNIT, .node = INT32_MAX }, { .len = UNIT, .node = INT32_MIN },
        { .len = UNIT, .node = 63 },
    };

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        errno = 0;
        expect(ioctl(fd, PW_KD_FILL, &bad[i]) == -1 && errno == EINVAL, "part %zu", i);
        errno = 0;
        expect(ioctl(fd, PW_KD_DRAIN, &bad[i]) == -1 && errno == EINVAL, "part %zu", i);
    }
    bad[0] = (struct pw_kd_part){ .len = UNIT, .node = -1 };
    refused(EINVAL, ioctl(fd, PW_KD_DRAIN, &bad[0]));
    refused(EFAULT, ioctl(fd, PW_KD_FILL, NULL));
    refused(EFAULT, ioctl(fd, PW_KD_DRAIN, NULL));
    refused(EFAULT, ioctl(fd, PW_KD_POOL_INFO, NULL));
    expect(filled(fd) == 0);
}

static void no_such_calls(void)
{
    int fd = pool_make(UNIT);
    struct pw_kd_pool pool = { .size = UNIT };
    char path[64], byte = 0;
    struct statfs fs;

    refused(ENOTTY, ioctl(fd, PW_KD_POOL, &pool));
    refused(ENOTTY, ioctl(fd, _IO(PW_KD_IOC, 0x3f), &pool));
    refused(ENOTTY, ioctl(fd, PW_KD_INFO, &pool));
    refused(ENOTTY, ioctl(control(), PW_KD_FILL, &pool));
    refused(EINVAL, read(fd, &byte, 1));
    refused(EINVAL, write(fd, &byte, 1));

    /* What kind it is nobody else can say of a file. */
    expect(fstatfs(fd, &fs) == 0 && fs.f_type == PW_KD_MAGIC);

    /* It stays as large as it was made. */
    refused(EINVAL, ftruncate(fd, 0));
    refused(EINVAL, ftruncate(fd, (off_t)UNIT * 2));
    expect(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, UNIT) == -1);
    expect(fcntl(fd, F_GET_SEALS) == -1);

    /* Nobody makes another descriptor of it by its name in /proc. */
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    expect(open(path, O_RDWR) == -1);
}

static void size_and_filling(void)
{
    int fd = pool_make(8 * UNIT);
    struct pw_kd_pool_info info;
    struct stat st;

    expect(fcntl(fd, F_GETFD) == FD_CLOEXEC);
    expect(!fstat(fd, &st) && (size_t)st.st_size == 8 * UNIT);
    expect(!ioctl(fd, PW_KD_POOL_INFO, &info) && info.size == 8 * UNIT && info.filled == 0);
    expect(counter("pools") == 1 && counter("pool_pages") == 0);

    expect(fill(fd, UNIT, 2 * UNIT) == 0);
    expect(filled(fd) == 2 * UNIT);
    expect(fill(fd, 0, 4 * UNIT) == 0);
    expect(filled(fd) == 4 * UNIT);
    expect(fill(fd, 0, 4 * UNIT) == 0);
    expect(filled(fd) == 4 * UNIT && counter("pool_pages") == 4 * 512);
    expect(drain(fd, 3 * UNIT, 5 * UNIT) == 0);
    expect(filled(fd) == 3 * UNIT && counter("pool_pages") == 3 * 512);
    expect(drain(fd, 3 * UNIT, UNIT) == 0);
    expect(filled(fd) == 3 * UNIT);
}

/* Pages that others wrote to, and come back. */
static void filling_zeroes(void)
{
    int fd = pool_make(8 * UNIT);
    char *p = pool_map(fd, 8 * UNIT);

    for (int round = 0; round < 3; round++) {
        expect(fill(fd, 0, 8 * UNIT) == 0);
        expect(zero(p, 8 * UNIT), "round %d", round);
        memset(p, 0xa5, 8 * UNIT);
        expect(fill(fd, 0, 8 * UNIT) == 0);
        expect(p[5] == (char)0xa5 && p[8 * UNIT - 1] == (char)0xa5, "what is there stays");
        expect(drain(fd, 0, 8 * UNIT) == 0);
    }
    expect(zero(p, UNIT), "a touch fills with zeros, too");
    expect(filled(fd) == UNIT);
}

static void a_touch_fills(void)
{
    int fd = pool_make(4 * UNIT);
    char *p = pool_map(fd, 4 * UNIT);

    expect(p[UNIT + 3 * PAGE] == 0 && filled(fd) == UNIT);
    p[2 * UNIT - 1] = 7;
    expect(filled(fd) == UNIT);
    p[3 * UNIT] = 8;
    expect(filled(fd) == 2 * UNIT);
    expect(madvise(p, 4 * UNIT, MADV_POPULATE_WRITE) == 0 && filled(fd) == 4 * UNIT);
    expect(p[2 * UNIT - 1] == 7 && p[3 * UNIT] == 8);
}

static void bad_mappings(void)
{
    int fd = pool_make(2 * UNIT), rw = PROT_READ | PROT_WRITE;
    char *p;

#define no_mapping(want, ...) \
    do { \
        errno = 0; \
        expect(mmap(NULL, __VA_ARGS__) == MAP_FAILED && errno == (want)); \
    } while (0)
    no_mapping(EINVAL, UNIT, rw, MAP_PRIVATE, fd, 0);
    no_mapping(EINVAL, UNIT, PROT_READ, MAP_PRIVATE, fd, 0);
    no_mapping(EINVAL, 2 * UNIT + PAGE, rw, MAP_SHARED, fd, 0);
    no_mapping(EINVAL, PAGE, rw, MAP_SHARED, fd, 2 * (off_t)UNIT);
    no_mapping(EINVAL, 2 * UNIT, rw, MAP_SHARED, fd, (off_t)PAGE);
    no_mapping(EINVAL, PAGE, rw, MAP_SHARED, fd, (off_t)1 << 50);
    no_mapping(EOPNOTSUPP, UNIT, rw, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0);

    p = pool_map(fd, UNIT);
    errno = 0;
    expect(mremap(p, UNIT, 2 * UNIT, MREMAP_MAYMOVE) == MAP_FAILED && errno == EFAULT);
    expect(madvise(p, UNIT, MADV_REMOVE) == -1);
    expect(madvise(p, UNIT, MADV_COLLAPSE) == -1);
    expect(filled(fd) == 0);
}

/* ---- mappings ---- */

static long faults(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return u.ru_minflt + u.ru_majflt;
}

static long touch_all(volatile char *p, size_t len)
{
    long before = faults();

    for (size_t at = 0; at < len; at += PAGE)
        p[at] = (char)(at >> 12);
    return faults() - before;
}

static void huge_entries(void)
{
    size_t size = 64 * MIB;
    int fd = pool_make(size);
    char *p = pool_map(fd, size), *odd;
    long n;

    expect(((uintptr_t)p & (UNIT - 1)) == 0, "the kernel chose %p", (void *)p);
    expect(fill(fd, 0, size) == 0);
    n = touch_all(p, size);
    expect(n <= 32 + 2, "%ld faults", n);           /* the stack's, say */
    expect(smaps_kib(p, "FilePmdMapped") == 64 * 1024);
    expect(smaps_kib(p, "Rss") == 64 * 1024);

    /* Where address and offset do not agree: small entries of the same pages. */
    odd = mmap(NULL, 3 * UNIT, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    odd = (char *)(((uintptr_t)odd + UNIT - 1) & ~(UNIT - 1)) + PAGE;
    expect(mmap(odd, UNIT, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == odd);
    paint(p, UNIT, 1);
    expect(painted(odd, UNIT, 1));
    expect(smaps_kib(odd, "FilePmdMapped") == 0 && smaps_kib(odd, "Rss") == 2048);
    paint(odd, UNIT, 2);
    expect(painted(p, UNIT, 2));
    expect(munmap(p, size) == 0 && painted(odd, UNIT, 2));
}

static void a_read_makes_no_copy(void)
{
    int fd = pool_make(2 * UNIT);
    char *p = pool_map(fd, 2 * UNIT);

    char *q = mmap(NULL, UNIT, PROT_READ, MAP_SHARED, fd, 0);

    expect(q != MAP_FAILED && q[0] == 0);
    p[0] = 1;
    expect(q[0] == 1, "both see one page");
    expect(mprotect(q, UNIT, PROT_READ | PROT_WRITE) == 0);
    q[PAGE] = 2;
    expect(p[PAGE] == 2);
    expect(filled(fd) == UNIT);
}

static void parts_of_a_mapping(void)
{
    size_t size = 4 * UNIT;
    int fd = pool_make(size);
    char *p = pool_map(fd, size), *q;

    paint(p, size, 3);
    expect(madvise(p + PAGE, 7 * PAGE, MADV_DONTNEED) == 0 && painted(p, size, 3));
    expect(madvise(p, UNIT, MADV_DONTNEED) == 0 && painted(p, size, 3));
    expect(madvise(p, size, MADV_COLD) == 0 && painted(p, size, 3));
    madvise(p + UNIT + PAGE, 5 * PAGE, MADV_PAGEOUT);
    expect(painted(p, size, 3));
    expect(mlock(p, UNIT) == 0 && munlock(p, UNIT) == 0 && painted(p, size, 3));

    expect(mprotect(p + 3 * PAGE, 2 * PAGE, PROT_READ) == 0 && painted(p, size, 3));
    expect(mprotect(p, size, PROT_READ) == 0 && painted(p, size, 3));
    expect(mprotect(p, size, PROT_READ | PROT_WRITE) == 0);
    paint(p, size, 4);

    expect(munmap(p + PAGE, PAGE) == 0);
    expect(painted(p + UNIT, size - UNIT, 4 + UNIT * STEP));
    expect(munmap(p + UNIT + UNIT / 2, UNIT) == 0);
    q = pool_map(fd, size);
    expect(painted(q, size, 4));

    /* Moved by a page: no huge entry any more. Moved by 2 MiB: still one. */
    p = mmap(NULL, size + 2 * UNIT, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    p = (char *)(((uintptr_t)p + UNIT - 1) & ~(UNIT - 1));
    expect(mremap(q, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, p + PAGE) == p + PAGE);
    expect(painted(p + PAGE, size, 4) && smaps_kib(p + PAGE, "FilePmdMapped") == 0);
    q = mmap(NULL, size + UNIT, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    q = (char *)(((uintptr_t)q + UNIT - 1) & ~(UNIT - 1));
    expect(mremap(p + PAGE, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, q) == q);
    expect(painted(q, size, 4));
    expect(smaps_kib(q, "Rss") == (long)(size >> 10));
    expect(filled(fd) == size);
}

/* ---- several processes ---- */

struct shared {
    int fd, socket[2];
    char *p;
};

static void forked(void *arg)
{
    struct shared *s = arg;
    struct pw_kd_pool pool = { .size = UNIT };

    expect(painted(s->p, UNIT, 5));
    paint(s->p + UNIT, UNIT, 6);
    expect(fill(s->fd, 3 * UNIT, UNIT) == 0, "the pool is whose who has it");
    refused(EXDEV, ioctl(control(), PW_KD_POOL, &pool));
}

static void forks_share(void)
{
    struct shared s = { .fd = pool_make(4 * UNIT) };

    s.p = pool_map(s.fd, 4 * UNIT);
    paint(s.p, UNIT, 5);
    expect(ended(child(forked, &s)) == 0);
    expect(painted(s.p + UNIT, UNIT, 6));
    expect(painted(s.p, UNIT, 5));
    expect(filled(s.fd) == 3 * UNIT);
}

static void send_fd(int socket, int fd)
{
    char byte = 0, room[CMSG_SPACE(sizeof fd)] = { 0 };
    struct iovec iov = { &byte, 1 };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = room,
                        .msg_controllen = sizeof room };
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);

    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    if (sendmsg(socket, &m, 0) != 1)
        give_up("sendmsg");
}

static int take_fd(int socket)
{
    char byte, room[CMSG_SPACE(sizeof(int))];
    struct iovec iov = { &byte, 1 };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = room,
                        .msg_controllen = sizeof room };
    int fd;

    if (recvmsg(socket, &m, 0) != 1 || !CMSG_FIRSTHDR(&m))
        give_up("recvmsg");
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
    return fd;
}

/* Says a byte, waits for one. */
static void turn(int socket)
{
    char byte = 0;

    if (write(socket, &byte, 1) != 1 || read(socket, &byte, 1) != 1)
        _exit(2);
}

static void peer(void *arg)
{
    struct shared *s = arg;
    int fd = take_fd(s->socket[1]);
    char *p = pool_map(fd, 4 * UNIT);

    expect(painted(p, 4 * UNIT, 7));
    paint(p, 4 * UNIT, 8);
    turn(s->socket[1]);
    expect(zero(p + UNIT, UNIT), "drained by the other");
    expect(painted(p, UNIT, 8));
    p[UNIT] = 9;
}

static void passed_on(void)
{
    struct shared s;
    char *p, byte;
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, s.socket))
        give_up("socketpair");
    pid = child(peer, &s);      /* has nothing of the pool yet */
    s.fd = pool_make(4 * UNIT);
    p = pool_map(s.fd, 4 * UNIT);
    paint(p, 4 * UNIT, 7);
    send_fd(s.socket[0], s.fd);
    expect(read(s.socket[0], &byte, 1) == 1);
    expect(painted(p, 4 * UNIT, 8));
    expect(drain(s.fd, UNIT, UNIT) == 0);
    expect(smaps_kib(p, "Rss") == 3 * 2048, "no mapping has it");
    expect(write(s.socket[0], &byte, 1) == 1);
    expect(ended(pid) == 0);
    expect(p[UNIT] == 9 && zero(p + UNIT + PAGE, UNIT - PAGE));
}

static volatile int stop;

static void *toucher(void *arg)
{
    volatile char *p = arg;

    for (size_t i = 0; !stop; i++)
        p[i * 5 * PAGE % (4 * UNIT)]++;
    return NULL;
}

static void *filler(void *arg)
{
    while (!stop)
        if (fill(*(int *)arg, UNIT, 3 * UNIT))
            return arg;
    return NULL;
}

static void *drainer(void *arg)
{
    while (!stop)
        if (drain(*(int *)arg, 0, UNIT))
            return arg;
    return NULL;
}

/* Pages that were drained while others touch and fill are in no mapping. What were
 * mapped too late would stay so in the first 2 MiB, which a touch alone fills. */
static void drained_while_touched(void)
{
    int fd = pool_make(4 * UNIT);
    char *p = pool_map(fd, 4 * UNIT);
    pthread_t t[4];
    void *err;

    for (int i = 0; i < 2; i++)
        pthread_create(&t[i], NULL, toucher, p);
    pthread_create(&t[2], NULL, filler, &fd);
    pthread_create(&t[3], NULL, drainer, &fd);
    for (int i = 0; i < 500; i++)
        expect(drain(fd, 0, 4 * UNIT) == 0);
    stop = 1;
    for (int i = 0; i < 4; i++) {
        pthread_join(t[i], &err);
        expect(err == NULL);
    }
    expect(drain(fd, 0, 4 * UNIT) == 0);
    expect(smaps_kib(p, "Rss") == 0 && filled(fd) == 0 && counter("pool_pages") == 0);
}

/* ---- limits ---- */

static sigjmp_buf landing;

static void on_bus(int sig)
{
    (void)sig;
    siglongjmp(landing, 1);
}

static bool touch_fails(volatile char *p)
{
    signal(SIGBUS, on_bus);
    if (sigsetjmp(landing, 1))
        return true;
    *p = 1;
    return false;
}

/* Somebody who is not root, with the device open. */
static void be_user(uid_t uid, rlim_t memlock)
{
    struct rlimit lim = { memlock, memlock };

    control();
    if (setrlimit(RLIMIT_MEMLOCK, &lim) || setresuid(uid, uid, uid))
        give_up("setresuid");
}

static void locked_memory_limit(void)
{
    long before = counter("refused");
    int fd, other;
    char *p;

    be_user(12345, 8 * MIB);
    fd = pool_make(16 * UNIT);
    other = pool_make(UNIT);
    p = pool_map(fd, 16 * UNIT);

    expect(fill(fd, 0, 5 * UNIT) == -EDQUOT);
    expect(filled(fd) == 0, "nothing was added");
    expect(fill(fd, 0, 4 * UNIT) == 0);
    expect(fill(fd, 3 * UNIT, 2 * UNIT) == -EDQUOT && filled(fd) == 4 * UNIT);
    expect(fill(other, 0, UNIT) == -EDQUOT, "it is the user's, not the pool's");
    expect(touch_fails(p + 10 * UNIT));
    expect(counter("refused") == before + 4);
    p[0] = 1;
    expect(drain(fd, 0, UNIT) == 0);
    expect(!touch_fails(p + 10 * UNIT) && filled(fd) == 4 * UNIT);
    expect(touch_fails(p));
    expect(drain(fd, 0, 16 * UNIT) == 0 && fill(other, 0, UNIT) == 0);
}

static void hold_three(void *arg)
{
    struct shared *s = arg;
    char byte;

    be_user(12345, 8 * MIB);
    expect(fill(s->fd, 0, 3 * UNIT) == 0);
    turn(s->socket[1]);
    expect(drain(s->fd, 2 * UNIT, UNIT) == 0);
    turn(s->socket[1]);
    expect(read(s->socket[1], &byte, 1) == 0);
}

/* Two processes of one user share what it may have, whose pages stay on its account
 * when the one that filled them is gone. */
static void one_users_processes(void)
{
    struct shared s = { .fd = pool_make(8 * UNIT) };
    char byte;
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s.socket))
        give_up("socketpair");
    pid = child(hold_three, &s);
    be_user(12345, 8 * MIB);
    expect(read(s.socket[0], &byte, 1) == 1);
    expect(fill(s.fd, 4 * UNIT, 2 * UNIT) == -EDQUOT);
    expect(fill(s.fd, 4 * UNIT, UNIT) == 0);
    expect(write(s.socket[0], &byte, 1) == 1 && read(s.socket[0], &byte, 1) == 1);
    expect(fill(s.fd, 5 * UNIT, UNIT) == 0);
    kill(pid, SIGKILL);
    ended(pid);
    expect(fill(s.fd, 6 * UNIT, UNIT) == -EDQUOT);
    expect(drain(s.fd, 0, UNIT) == 0 && fill(s.fd, 6 * UNIT, UNIT) == 0);
}

static void set_user_limit(int mib)
{
    FILE *f = fopen("/sys/module/pinwheel/parameters/user_limit", "w");

    if (!f || fprintf(f, "%d\n", mib) < 0 || fclose(f))
        give_up("user_limit");
}

static void the_drivers_limit(void)
{
    int fd = pool_make(16 * UNIT);
    char *p = pool_map(fd, 16 * UNIT);

    set_user_limit(8);
    expect(fill(fd, 0, 5 * UNIT) == -EDQUOT && filled(fd) == 0, "root's, too");
    expect(fill(fd, 0, 4 * UNIT) == 0);
    expect(touch_fails(p + 4 * UNIT));
    set_user_limit(0);
    expect(!touch_fails(p + 4 * UNIT) && filled(fd) == 5 * UNIT);
}

static void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    if (!f || fputs(text, f) < 0 || fclose(f))
        give_up(path);
}

/* A memory cgroup is made by the script. */
static void in_a_cgroup(void *arg)
{
    int fd = *(int *)arg;
    char *p = pool_map(fd, 64 * MIB), self[16];

    snprintf(self, sizeof self, "%d", getpid());
    write_text("/run/cgroup/small/cgroup.procs", self);
    expect(fill(fd, 0, 64 * MIB) == -ENOMEM);
    expect(filled(fd) == 0, "nothing was added");
    expect(counter("pool_pages") == 0);
    expect(fill(fd, 0, 16 * MIB) == 0);
    expect(touch_all(p, 16 * MIB) > 0);
    expect(number_of("/run/cgroup/small/memory.current") >= (long)(16 * MIB), "charged");
    expect(fill(fd, 16 * MIB, 32 * MIB) == -ENOMEM && filled(fd) == 16 * MIB);
    for (size_t at = 16 * MIB; at < 64 * MIB; at += UNIT)
        if (touch_fails(p + at))
            return;
    expect(false, "a touch is no way round");
}

static void no_memory(void)
{
    int fd = pool_make(64 * MIB);
    char *p = pool_map(fd, 64 * MIB);

    expect(ended(child(in_a_cgroup, &fd)) == 0);
    expect(drain(fd, 0, 64 * MIB) == 0);
    expect(number_of("/run/cgroup/small/memory.current") < (long)(16 * MIB), "and given back");
    expect(touch_all(p, 64 * MIB) > 0);
}

/* ---- the end ---- */

static void killer(void *arg)
{
    struct shared *s = arg;

    if (s->p)
        paint(s->p, 8 * UNIT, 10);
    turn(s->socket[1]);
}

/* Descriptor closed or kept, mapping gone or kept, in each of two processes. */
static void one_end(int what)
{
    struct shared s = { .fd = pool_make(8 * UNIT) };
    char *p = pool_map(s.fd, 8 * UNIT), byte;
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, s.socket))
        give_up("socketpair");
    s.p = p;
    pid = child(killer, &s);
    expect(read(s.socket[0], &byte, 1) == 1);
    if (what & 1)
        close(s.fd);
    if (what & 2)
        munmap(p, 8 * UNIT);
    if (what & 4) {
        kill(pid, SIGKILL);
        ended(pid);
    }
    expect(counter("pool_pages") == ((what & 7) == 7 ? 0 : 8 * 512), "way %d", what);
    if (!(what & 2))
        expect(painted(p, 8 * UNIT, 10), "way %d", what);
    if (!(what & 4)) {
        expect(write(s.socket[0], &byte, 1) == 1);
        expect(ended(pid) == 0);
    }
    close(s.socket[0]);
    close(s.socket[1]);
    if (!(what & 2))
        munmap(p, 8 * UNIT);
    if (!(what & 1))
        close(s.fd);
    expect(counter("pool_pages") == 0 && counter("pools") == 0, "way %d", what);
}

static void every_order_of_ends(void)
{
    for (int what = 0; what < 8; what++)
        one_end(what);
}

static void take_and_wait(void *arg)
{
    int fd = pool_make(128 * MIB);
    char *p = pool_map(fd, 128 * MIB);

    if (fill(fd, 0, 64 * MIB))
        _exit(1);
    touch_all(p, 128 * MIB);
    turn(*(int *)arg);
}

/* More in the end than the machine has, if any of it stayed. */
static void killed_again_and_again(void)
{
    int both[2];
    char byte;

    for (int i = 0; i < 16; i++) {
        pid_t pid;

        if (socketpair(AF_UNIX, SOCK_STREAM, 0, both))
            give_up("socketpair");
        pid = child(take_and_wait, &both[1]);
        close(both[1]);
        expect(read(both[0], &byte, 1) == 1, "round %d", i);
        kill(pid, SIGKILL);
        ended(pid);
        close(both[0]);
    }
}

static void killed_while_filling(void *arg)
{
    int fd = pool_make(256 * MIB);

    (void)arg;
    for (;;) {
        fill(fd, 0, 256 * MIB);
        drain(fd, 0, 256 * MIB);
    }
}

static void killed_in_a_call(void)
{
    for (int i = 1; i <= 8; i++) {
        pid_t pid = child(killed_while_filling, NULL);

        for (int tries = 0; tries < 6000 && !counter("pool_pages"); tries++)
            usleep(10000);
        usleep((useconds_t)i * 20000);
        kill(pid, SIGKILL);
        ended(pid);
    }
}

/* ---- nodes ---- */

static int node_of(char *p)
{
    void *page = p;
    int node = -1;

    if (syscall(SYS_move_pages, 0, 1L, &page, NULL, &node, 0))
        give_up("move_pages");
    return node;
}

static void policy(int mode, unsigned long nodes)
{
    if (syscall(SYS_set_mempolicy, mode, nodes ? &nodes : NULL, nodes ? 64L : 0L))
        give_up("set_mempolicy");
}

static bool two_nodes(void)
{
    return access("/sys/devices/system/node/node1", F_OK) == 0;
}

static void nodes(void)
{
    int fd = pool_make(32 * UNIT), on[2] = { 0 };
    char *p = pool_map(fd, 32 * UNIT);

    if (!two_nodes()) {
        expect(fill_node(fd, 0, UNIT, 0) == 0 && fill_node(fd, 0, UNIT, 1) == -EINVAL);
        return;
    }
    expect(fill_node(fd, 0, UNIT, 2) == -EINVAL);
    for (int i = 0; i < 2; i++) {
        expect(fill_node(fd, i * UNIT, UNIT, i) == 0);
        p[i * UNIT] = 1;
        expect(node_of(p + i * UNIT) == i, "asked for node %d", i);

        policy(MPOL_BIND, 1ul << i);
        expect(fill(fd, (2 + i) * UNIT, UNIT) == 0);
        p[(2 + i) * UNIT] = 1;
        expect(node_of(p + (2 + i) * UNIT) == i, "bound to node %d", i);
        p[(4 + i) * UNIT + PAGE] = 1;
        expect(node_of(p + (4 + i) * UNIT + PAGE) == i, "a touch, bound to node %d", i);
    }
    policy(MPOL_INTERLEAVE, 3);
    expect(fill(fd, 16 * UNIT, 16 * UNIT) == 0);
    policy(MPOL_DEFAULT, 0);
    for (int i = 16; i < 32; i++) {
        p[i * UNIT] = 1;
        on[node_of(p + i * UNIT) & 1]++;
    }
    expect(on[0] == 8 && on[1] == 8, "%d and %d", on[0], on[1]);

    /* Pinned: it stays where it is. */
    void *page = p;
    int to = 1, status = 0;

    syscall(SYS_move_pages, 0, 1L, &page, &to, &status, MPOL_MF_MOVE);
    expect(node_of(p) == 0, "moved");
}

/* One node has less than this, both have more: nothing was added. */
static void a_node_is_full(void)
{
    size_t size = (size_t)sysconf(_SC_PHYS_PAGES) * PAGE / 2 & ~(UNIT - 1);
    int fd = pool_make(size);

    if (!two_nodes())
        return;
    set_user_limit(1 << 20);
    expect(fill_node(fd, 0, size, 1) == -ENOMEM);
    expect(filled(fd) == 0 && counter("pool_pages") == 0);
    set_user_limit(0);
}

const struct story stories[] = {
    { "pools", "pools that cannot be made are refused", bad_pools },
    { "parts", "so are parts that are none", bad_parts },
    { "calls", "and calls that do not exist; a pool keeps its size", no_such_calls },
    { "fill", "FILL and DRAIN count what is there", size_and_filling },
    { "zero", "pages are zeroed", filling_zeroes },
    { "touch", "a touch fills 2 MiB", a_touch_fills },
    { "mappings", "mappings that cannot be made are refused", bad_mappings },
    { "huge", "64 MiB are mapped by 32 faults, and page by page where they do not fit",
      huge_entries },
    { "read", "those who may only read see the same pages", a_read_makes_no_copy },
    { "parts-mapped", "munmap, mprotect, mremap and madvise of parts lose nothing",
      parts_of_a_mapping },
    { "forks", "a forked child shares", forks_share },
    { "passed", "so does who is given the descriptor", passed_on },
    { "drained", "DRAIN beside touches and FILL leaves nothing mapped", drained_while_touched },
    { "memlock", "RLIMIT_MEMLOCK holds for who is not root", locked_memory_limit },
    { "user", "and for all processes of a user together", one_users_processes },
    { "limit", "the driver's limit holds for everybody", the_drivers_limit },
    { "memory", "without memory FILL adds nothing, and a touch is a SIGBUS", no_memory },
    { "ends", "pages stay to the last mapping and descriptor, in every order",
      every_order_of_ends },
    { "killed", "what killed processes had comes back", killed_again_and_again },
    { "killed-calls", "also of those who are killed in FILL and DRAIN", killed_in_a_call },
    { "nodes", "pages lie on the node asked for, or by policy", nodes },
    { "node-full", "when a node is full FILL adds nothing", a_node_is_full },
    { "copy", "other processes copy from and to a pool", copied_by_others },
    { "direct", "a device reads and writes it directly", written_directly },
    { "io", "io_uring registers it, where it registers files at all", registered_for_io },
    { "nic", "ibv_reg_mr registers it", registered_with_a_nic },
    { "outlives", "what a pipe holds outlives DRAIN and the pool", outlives_the_pool },
    { 0 }
};
