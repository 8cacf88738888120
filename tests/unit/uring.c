/* SPDX-License-Identifier: BSD-3-Clause */
/* uring.c - memory pinned for io_uring: the pin is the kernel's, transfers land in
 * the pinned pages, and what is refused is said. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "child.h"
#include "pinwheel/uring.h"

#define PAGE ((size_t)4096)

static struct pw_uring *ring_of(unsigned buffers, unsigned entries)
{
    struct pw_uring_config config = { .buffers = buffers, .entries = entries };
    struct pw_uring *u;
    int err = pw_uring_open(&config, &u);

    if (err == -ENODEV || err == -EPERM)
        cr_skip_test("no io_uring here");
    cr_assert(eq(int, err, 0));
    return u;
}

static char *map(size_t pages)
{
    char *p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    cr_assert(ne(ptr, p, MAP_FAILED));
    return p;
}

static int pin(struct pw_uring *u, void *addr, size_t len, struct pw_uring_handle *h)
{
    return pw_uring_pin.pin(u, addr, len, PW_READ | PW_WRITE, h);
}

static struct pw_uring_handle pinned(struct pw_uring *u, void *addr, size_t len)
{
    struct pw_uring_handle h;

    cr_assert(eq(int, pin(u, addr, len, &h), 0));
    return h;
}

static void unpin(struct pw_uring *u, void *addr, size_t len, struct pw_uring_handle h)
{
    pw_uring_pin.unpin(u, addr, len, &h);
}

/* A file of whole pages; all bytes of page i are 'a' + i. */
static int file_of(size_t pages)
{
    char page[PAGE];
    int fd = memfd_create("pinwheel-uring", MFD_CLOEXEC);

    cr_assert(ge(int, fd, 0));
    for (size_t i = 0; i < pages; i++) {
        memset(page, 'a' + (int)(i % 26), PAGE);
        cr_assert(eq(int, (int)write(fd, page, PAGE), (int)PAGE));
    }
    return fd;
}

/* What the kernel counts as pinned by this process, in KiB. */
static long pinned_kib(void)
{
    FILE *f = fopen("/proc/self/status", "r");
    char line[256];
    long kib = -1;

    cr_assert(ne(ptr, f, NULL));
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "VmPin: %ld", &kib) == 1)
            break;
    fclose(f);
    return kib;
}

Test(uring, a_file_is_read_into_pinned_memory_and_written_from_it)
{
    struct pw_uring *u = ring_of(4, 4);
    int in = file_of(4), out = file_of(1);
    char *p = map(4), back[PAGE];
    struct pw_uring_handle h = pinned(u, p, 4 * PAGE);

    cr_expect(eq(int, (int)pw_uring_read(u, in, &h, p + PAGE + 10, PAGE, PAGE),
                 (int)PAGE));
    cr_expect(eq(int, p[PAGE + 9], 0));
    cr_expect(eq(int, p[PAGE + 10], 'b'));
    cr_expect(eq(int, p[2 * PAGE + 9], 'b'));
    cr_expect(eq(int, p[2 * PAGE + 10], 0));

    memset(p + 3 * PAGE, 'z', PAGE);
    cr_expect(eq(int, (int)pw_uring_write(u, out, &h, p + 3 * PAGE, PAGE, 100),
                 (int)PAGE));
    cr_assert(eq(int, (int)pread(out, back, PAGE, 99), (int)PAGE));
    cr_expect(eq(int, back[0], 'a'));
    cr_expect(eq(int, memcmp(back + 1, p + 3 * PAGE, PAGE - 1), 0));
    unpin(u, p, 4 * PAGE, h);
    pw_uring_close(u);
}

Test(uring, the_end_of_a_file_is_fewer_bytes_and_minus_one_is_where_it_stands)
{
    struct pw_uring *u = ring_of(1, 1);
    int fd = file_of(2);
    char *p = map(4);
    struct pw_uring_handle h = pinned(u, p, 4 * PAGE);

    cr_expect(eq(int, (int)pw_uring_read(u, fd, &h, p, 4 * PAGE, 0), 2 * (int)PAGE));
    cr_expect(eq(int, (int)pw_uring_read(u, fd, &h, p, 4 * PAGE, 2 * PAGE), 0));
    cr_assert(eq(int, (int)lseek(fd, PAGE, SEEK_SET), (int)PAGE));
    cr_expect(eq(int, (int)pw_uring_read(u, fd, &h, p, 4 * PAGE, -1), (int)PAGE));
    cr_expect(eq(int, p[0], 'b'));
    pw_uring_close(u);
}

Test(uring, the_kernel_counts_what_is_pinned_until_it_is_unpinned)
{
    struct pw_uring *u = ring_of(8, 1);
    char *p = map(16);
    long before = pinned_kib();
    struct pw_uring_handle a = pinned(u, p, 16 * PAGE), b = pinned(u, p, PAGE);

    cr_expect(ne(uint, a.index, b.index));
    cr_expect(ge(long, pinned_kib(), before + 64));
    unpin(u, p, 16 * PAGE, a);
    unpin(u, p, PAGE, b);
    cr_expect(eq(long, pinned_kib(), before));
    pinned(u, p, 16 * PAGE);
    pw_uring_close(u);
    cr_expect(eq(long, pinned_kib(), before), "closing unpins");
}

/* Which is what makes a cache that misses an munmap read into memory that nobody
 * sees; a pin by address would not show it. */
Test(uring, a_pin_holds_the_pages_and_not_the_addresses)
{
    struct pw_uring *u = ring_of(2, 1);
    int fd = file_of(1);
    char *p = map(1);
    struct pw_uring_handle old = pinned(u, p, PAGE), new;

    cr_assert(eq(ptr, mmap(p, PAGE, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), p));
    cr_expect(eq(int, (int)pw_uring_read(u, fd, &old, p, PAGE, 0), (int)PAGE));
    cr_expect(eq(int, p[0], 0));

    new = pinned(u, p, PAGE);
    cr_expect(eq(int, (int)pw_uring_read(u, fd, &new, p, PAGE, 0), (int)PAGE));
    cr_expect(eq(int, p[0], 'a'));
    pw_uring_close(u);
}

Test(uring, when_all_buffers_are_taken_there_is_no_memory_until_one_is_unpinned)
{
    struct pw_uring *u = ring_of(2, 1);
    char *p = map(3);
    struct pw_uring_handle a = pinned(u, p, PAGE), c;

    pinned(u, p + PAGE, PAGE);
    cr_expect(eq(int, pin(u, p + 2 * PAGE, PAGE, &c), -ENOMEM));
    unpin(u, p, PAGE, a);
    cr_expect(eq(int, pin(u, p + 2 * PAGE, PAGE, &c), 0));
    cr_expect(eq(uint, c.index, a.index));
    pw_uring_close(u);
}

Test(uring, what_cannot_be_pinned_is_refused_and_takes_no_buffer)
{
    struct pw_uring *u = ring_of(1, 1);
    size_t gib = (size_t)1 << 30;
    char *p = map(2), *big;
    struct pw_uring_handle h;

    munmap(p + PAGE, PAGE);
    cr_expect(eq(int, pin(u, p + PAGE, PAGE, &h), -EFAULT), "not mapped");
    cr_expect(eq(int, pin(u, p, 2 * PAGE, &h), -EFAULT), "partly mapped");
    mprotect(p, PAGE, PROT_READ);
    cr_expect(eq(int, pin(u, p, PAGE, &h), -EFAULT), "read only");
    mprotect(p, PAGE, PROT_READ | PROT_WRITE);

    big = mmap(NULL, gib + PAGE, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    cr_assert(ne(ptr, big, MAP_FAILED));
    cr_expect(eq(int, pin(u, big, gib + PAGE, &h), -EMSGSIZE), "too large");

    cr_expect(eq(int, pin(u, p, PAGE, &h), 0), "the one buffer is free");
    pw_uring_close(u);
}

Test(uring, a_transfer_outside_of_what_is_pinned_is_a_fault)
{
    struct pw_uring *u = ring_of(2, 1);
    int fd = file_of(1);
    char *p = map(4);
    struct pw_uring_handle h = pinned(u, p + PAGE, 2 * PAGE), empty = { 1 };

    cr_expect(eq(int, (int)pw_uring_read(u, fd, &h, p, PAGE, 0), -EFAULT));
    cr_expect(eq(int, (int)pw_uring_read(u, fd, &h, p + 2 * PAGE, 2 * PAGE, 0),
                 -EFAULT));
    cr_expect(eq(int, (int)pw_uring_read(u, fd, &h, p + PAGE, ((size_t)1 << 32) + 1, 0),
                 -EFAULT), "not cut to 32 bits");
    cr_expect(eq(int, (int)pw_uring_read(u, fd, &empty, p + PAGE, PAGE, 0), -EFAULT));
    unpin(u, p + PAGE, 2 * PAGE, h);
    cr_expect(eq(int, (int)pw_uring_read(u, fd, &h, p + PAGE, PAGE, 0), -EFAULT));
    pw_uring_close(u);
}

Test(uring, an_error_of_the_file_is_the_callers)
{
    struct pw_uring *u = ring_of(1, 1);
    int fd = open("/dev/null", O_RDONLY);
    char *p = map(1);
    struct pw_uring_handle h = pinned(u, p, PAGE);

    cr_expect(eq(int, (int)pw_uring_write(u, fd, &h, p, PAGE, 0), -EBADF));
    cr_expect(eq(int, (int)pw_uring_write(u, -1, &h, p, PAGE, 0), -EBADF));
    pw_uring_close(u);
}

Test(uring, numbers_that_are_too_large_are_refused)
{
    struct pw_uring *u = (struct pw_uring *)&u;

    cr_expect(eq(int, pw_uring_open(&(struct pw_uring_config){ .buffers = 16385 }, &u),
                 -EINVAL));
    cr_expect(eq(ptr, u, NULL));
    cr_expect(eq(int, pw_uring_open(&(struct pw_uring_config){ .entries = 4097 }, &u),
                 -EINVAL));
    pw_uring_close(NULL);
}

Test(uring, the_largest_numbers_and_none_at_all_are_fine)
{
    struct pw_uring *u = ring_of(16384, 4096);

    pw_uring_close(u);
    cr_assert(eq(int, pw_uring_open(NULL, &u), 0));
    pw_uring_close(u);
}

/* Several threads. */

struct reader {
    pthread_t thread;
    struct pw_uring *u;
    int fd;
    struct pw_uring_handle h;
    char *p;
    int64_t offset;
    unsigned seed;
    ssize_t result;
    bool started;
    pid_t tid;
};

static void *read_once(void *arg)
{
    struct reader *r = arg;

    r->tid = gettid();
    __atomic_store_n(&r->started, true, __ATOMIC_RELEASE);
    r->result = pw_uring_read(r->u, r->fd, &r->h, r->p, PAGE, r->offset);
    return NULL;
}

static bool asleep(pid_t tid)
{
    char path[64], line[256] = "";
    FILE *f;

    snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)tid);
    f = fopen(path, "r");
    cr_assert(ne(ptr, f, NULL));
    cr_assert(ne(ptr, fgets(line, sizeof line, f), NULL));
    fclose(f);
    return strstr(line, ") S ") != NULL;
}

/* A reader of an empty pipe, asleep in the kernel. */
static void start_waiting(struct reader *r, struct pw_uring *u, int pipe_end)
{
    *r = (struct reader){ .u = u, .fd = pipe_end, .p = map(1), .offset = -1 };
    r->h = pinned(u, r->p, PAGE);
    cr_assert(eq(int, pthread_create(&r->thread, NULL, read_once, r), 0));
    while (!__atomic_load_n(&r->started, __ATOMIC_ACQUIRE) || !asleep(r->tid))
        usleep(1000);
}

Test(uring, a_read_that_waits_keeps_nobody_else_waiting)
{
    struct pw_uring *u = ring_of(8, 4);
    int ends[2], fd = file_of(2);
    char *p = map(1);
    struct pw_uring_handle h = pinned(u, p, PAGE);
    struct reader r;

    cr_assert(eq(int, pipe(ends), 0));
    start_waiting(&r, u, ends[0]);
    for (int i = 0; i < 100; i++) {
        cr_expect(eq(int, (int)pw_uring_read(u, fd, &h, p, PAGE, PAGE), (int)PAGE));
        unpin(u, p, PAGE, h);
        h = pinned(u, p, PAGE);
    }
    cr_assert(eq(int, (int)write(ends[1], "wake", 4), 4));
    pthread_join(r.thread, NULL);
    cr_expect(eq(int, (int)r.result, 4));
    cr_expect(eq(int, memcmp(r.p, "wake", 4), 0));
    pw_uring_close(u);
}

/* Tokens go round through pipes, each read by a thread of its own, while others
 * read a file: whatever one thread finds done belongs to another, and nobody may
 * sleep through it. */
enum { STATIONS = 4, ROUNDS = 300 };

static int line[STATIONS][2];

static void *pass_on(void *arg)
{
    struct reader *r = arg;
    size_t me = r->seed;

    for (int i = 0; i < ROUNDS; i++) {
        r->result = pw_uring_read(r->u, line[me][0], &r->h, r->p, 1, -1);
        if (r->result != 1 || write(line[(me + 1) % STATIONS][1], r->p, 1) != 1)
            return r;
    }
    return NULL;
}

static void *read_until_stopped(void *arg)
{
    struct reader *r = arg;

    while (!__atomic_load_n(&r->started, __ATOMIC_ACQUIRE))
        r->result = pw_uring_read(r->u, r->fd, &r->h, r->p, PAGE, 0);
    return NULL;
}

Test(uring, what_one_thread_finds_done_wakes_the_one_it_belongs_to, .timeout = 120)
{
    struct pw_uring *u = ring_of(8, 8);
    struct reader r[STATIONS], busy = { .u = u, .fd = file_of(1), .p = map(1) };

    busy.h = pinned(u, busy.p, PAGE);
    cr_assert(eq(int, pthread_create(&busy.thread, NULL, read_until_stopped, &busy), 0));
    for (unsigned i = 0; i < STATIONS; i++)
        cr_assert(eq(int, pipe(line[i]), 0));
    for (unsigned i = 0; i < STATIONS; i++) {
        r[i] = (struct reader){ .u = u, .p = map(1), .seed = i };
        r[i].h = pinned(u, r[i].p, PAGE);
        cr_assert(eq(int, pthread_create(&r[i].thread, NULL, pass_on, &r[i]), 0));
    }
    for (unsigned i = 0; i < STATIONS; i += 2)
        cr_assert(eq(int, (int)write(line[i][1], "T", 1), 1));
    for (unsigned i = 0; i < STATIONS; i++) {
        void *failed;

        pthread_join(r[i].thread, &failed);
        cr_expect(eq(ptr, failed, NULL), "station %u got %zd", i, r[i].result);
    }
    __atomic_store_n(&busy.started, true, __ATOMIC_RELEASE);
    pthread_join(busy.thread, NULL);
    pw_uring_close(u);
}

Test(uring, no_more_transfers_are_under_way_than_there_are_entries)
{
    struct pw_uring *u = ring_of(2, 1);
    int ends[2];
    struct reader first, second = { .u = u, .fd = file_of(1), .p = map(1) };

    second.h = pinned(u, second.p, PAGE);
    cr_assert(eq(int, pipe(ends), 0));
    start_waiting(&first, u, ends[0]);
    cr_assert(eq(int, pthread_create(&second.thread, NULL, read_once, &second), 0));
    usleep(20000);
    cr_expect(eq(int, *(volatile char *)second.p, 0), "it waits for room");
    cr_assert(eq(int, (int)write(ends[1], "w", 1), 1));
    pthread_join(first.thread, NULL);
    pthread_join(second.thread, NULL);
    cr_expect(eq(int, (int)second.result, (int)PAGE));
    pw_uring_close(u);
}

static void on_signal(int number)
{
    (void)number;
}

static void catch_signals(void)
{
    struct sigaction action = { .sa_handler = on_signal };

    cr_assert(eq(int, sigaction(SIGUSR1, &action, NULL), 0));
}

Test(uring, a_signal_does_not_end_a_transfer)
{
    struct pw_uring *u = ring_of(1, 1);
    struct reader r;
    int ends[2];

    catch_signals();
    cr_assert(eq(int, pipe(ends), 0));
    start_waiting(&r, u, ends[0]);
    for (int i = 0; i < 10; i++) {
        pthread_kill(r.thread, SIGUSR1);
        usleep(1000);
    }
    cr_assert(eq(int, (int)write(ends[1], "wake", 4), 4));
    pthread_join(r.thread, NULL);
    cr_expect(eq(int, (int)r.result, 4));
    pw_uring_close(u);
}

/* A program that closes all descriptors must not hang. */
Test(uring, a_ring_whose_descriptor_was_closed_says_so)
{
    int next = dup(0), fd = file_of(1), ends[2];
    struct pw_uring *u;
    struct reader r, later;

    catch_signals();
    cr_assert(eq(int, pipe(ends), 0));
    close(next);
    u = ring_of(4, 1);
    start_waiting(&r, u, ends[0]);
    cr_assert(eq(int, close(next), 0));

    later = (struct reader){ .u = u, .fd = fd, .p = r.p, .h = r.h };
    cr_assert(eq(int, pthread_create(&later.thread, NULL, read_once, &later), 0));
    pthread_kill(r.thread, SIGUSR1);
    pthread_join(r.thread, NULL);
    pthread_join(later.thread, NULL);
    cr_expect(eq(int, (int)r.result, -EBADF));
    cr_expect(eq(int, (int)later.result, -EBADF));
    cr_expect(eq(int, (int)pw_uring_read(u, fd, &r.h, r.p, PAGE, 0), -EBADF));
    pw_uring_close(u);
}

enum { READERS = 6, READS = 400, FILE_PAGES = 52 };

static void *read_at_random(void *arg)
{
    struct reader *r = arg;

    for (int i = 0; i < READS; i++) {
        size_t at = (size_t)rand_r(&r->seed) % (FILE_PAGES - 1);
        size_t len = 1 + (size_t)rand_r(&r->seed) % PAGE;
        ssize_t got = pw_uring_read(r->u, r->fd, &r->h, r->p, len, (int64_t)(at * PAGE));
        struct pw_uring_handle h;

        if (got != (ssize_t)len || r->p[0] != 'a' + (int)(at % 26) ||
            r->p[len - 1] != r->p[0]) {
            r->result = got;
            return r;
        }
        if (i % 16 == 0 && !pin(r->u, r->p, PAGE, &h)) {
            unpin(r->u, r->p, PAGE, r->h);
            r->h = h;
        }
    }
    return NULL;
}

/* Fewer entries than threads: some wait for room, and pins change meanwhile. */
Test(uring, many_threads_each_get_their_own_bytes)
{
    struct pw_uring *u = ring_of(2 * READERS, 2);
    struct reader r[READERS];
    int fd = file_of(FILE_PAGES);

    for (unsigned i = 0; i < READERS; i++) {
        r[i] = (struct reader){ .u = u, .fd = fd, .p = map(1), .seed = i };
        r[i].h = pinned(u, r[i].p, PAGE);
        cr_assert(eq(int, pthread_create(&r[i].thread, NULL, read_at_random, &r[i]), 0));
    }
    for (unsigned i = 0; i < READERS; i++) {
        void *failed;

        pthread_join(r[i].thread, &failed);
        cr_expect(eq(ptr, failed, NULL), "thread %u got %zd", i, r[i].result);
    }
    pw_uring_close(u);
}

/* Children. */

struct family {
    struct pw_uring *u;
    char *p;
    struct pw_uring_handle h;
    int fd;
};

static int child_of(void *arg)
{
    struct family *f = arg;
    struct pw_uring_handle h;

    if (pin(f->u, f->p, PAGE, &h) != -EOPNOTSUPP)
        return 1;
    if (pw_uring_read(f->u, f->fd, &f->h, f->p, PAGE, 0) != -EOPNOTSUPP)
        return 2;
    unpin(f->u, f->p, PAGE, f->h);
    pw_uring_close(f->u);
    return 0;
}

Test(uring, a_forked_child_is_refused_and_unpins_nothing_of_its_parent)
{
    struct family f = { .u = ring_of(2, 1), .p = map(1), .fd = file_of(1) };

    f.h = pinned(f.u, f.p, PAGE);
    cr_expect(eq(int, in_child(child_of, &f), 0));
    cr_expect(eq(int, (int)pw_uring_read(f.u, f.fd, &f.h, f.p, PAGE, 0), (int)PAGE));
    cr_expect(eq(int, f.p[0], 'a'));
    pw_uring_close(f.u);
}

static int with_little_memory(void *arg)
{
    struct rlimit limit = { 16 * PAGE, 16 * PAGE };
    struct pw_uring_config config = { .buffers = 8 };
    struct pw_uring_handle h;
    struct pw_uring *u;
    char *p = arg;

    if (setrlimit(RLIMIT_MEMLOCK, &limit) || become_nobody())
        return 1;
    if (pw_uring_open(&config, &u))
        return 2;
    if (pin(u, p, 64 * PAGE, &h) != -ENOMEM)
        return 3;
    if (pin(u, p, 4 * PAGE, &h))
        return 4;
    unpin(u, p, 4 * PAGE, h);
    pw_uring_close(u);
    return 0;
}

Test(uring, beyond_the_users_limit_there_is_no_memory)
{
    int status;

    if (getuid() != 0)
        cr_skip_test("needs root to become another user");
    pw_uring_close(ring_of(1, 1));
    status = in_child(with_little_memory, map(64));
    cr_expect(eq(int, status, 0));
}

struct denial {
    unsigned call, error;
    int expected;
};

static int denied(void *arg)
{
    const struct denial *d = arg;
    struct pw_uring *u = (struct pw_uring *)arg;
    int fd = dup(0), after;

    close(fd);
    if (deny_call(d->call, d->error))
        return 1;
    if (pw_uring_open(NULL, &u) != d->expected || u)
        return 2;
    after = dup(0);
    return after != fd;
}

Test(uring, a_kernel_that_refuses_is_told_apart_and_leaves_no_descriptor)
{
    struct denial all[] = {
        { SYS_io_uring_setup, ENOSYS, -ENODEV },
        { SYS_io_uring_setup, EPERM, -EPERM },
        { SYS_io_uring_setup, ENOMEM, -ENOMEM },
        { SYS_io_uring_register, EINVAL, -ENODEV },
        { SYS_io_uring_register, EPERM, -EPERM },
        { SYS_mmap, ENOMEM, -ENOMEM },
        { SYS_madvise, EINVAL, -ENODEV },
    };

    pw_uring_close(ring_of(1, 1));
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        cr_expect(eq(int, in_child(denied, &all[i]), 0), "call %u, error %u",
                  all[i].call, all[i].error);
}

static int without_descriptors(void *arg)
{
    struct rlimit none = { 0, 0 };
    struct pw_uring *u;

    (void)arg;
    return setrlimit(RLIMIT_NOFILE, &none) || pw_uring_open(NULL, &u) != -EMFILE;
}

Test(uring, no_descriptor_left_is_an_error)
{
    pw_uring_close(ring_of(1, 1));
    cr_expect(eq(int, in_child(without_descriptors, NULL), 0));
}

/* What was not taken is not left for the next call. The ring's descriptor is
 * something else for a moment. */
Test(uring, a_transfer_that_the_kernel_does_not_take_is_an_error_and_no_more)
{
    int ring = dup(0), null = open("/dev/null", O_RDWR), out = file_of(1), real;
    struct pw_uring *u;
    struct pw_uring_handle h;
    char *p = map(1), back[3] = "";

    close(ring);
    u = ring_of(1, 4);
    h = pinned(u, p, PAGE);
    real = dup(ring);
    memcpy(p, "XY", 2);

    cr_assert(eq(int, dup2(null, ring), ring));
    for (int i = 0; i < 3; i++)
        cr_expect(lt(int, (int)pw_uring_write(u, out, &h, p, 1, 0), 0));
    cr_assert(eq(int, dup2(real, ring), ring));
    cr_expect(eq(int, (int)pw_uring_write(u, out, &h, p + 1, 1, 1), 1));

    cr_assert(eq(int, (int)pread(out, back, 2, 0), 2));
    cr_expect(eq(str, back, "aY"));
    pw_uring_close(u);
}

static int without_waiting(void *arg)
{
    struct family *f = arg;
    struct pw_uring_config config = { .buffers = 2 };

    if (pw_uring_open(&config, &f->u) || pin(f->u, f->p, PAGE, &f->h))
        return 1;
    if (deny_call(SYS_io_uring_enter, EPERM))
        return 2;
    return pw_uring_read(f->u, f->fd, &f->h, f->p, PAGE, 0) != -EPERM;
}

Test(uring, a_process_that_may_open_a_ring_but_not_use_it_is_told)
{
    struct family f = { .p = map(1), .fd = file_of(1) };

    pw_uring_close(ring_of(1, 1));
    cr_expect(eq(int, in_child(without_waiting, &f), 0));
}
