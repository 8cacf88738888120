/* SPDX-License-Identifier: BSD-3-Clause */
/* still.c - threads that write wait; with them a system call that writes. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "regcache/still.h"

#define PAGE 4096

static char *page;

static void map(void)
{
    int fd = memfd_create("still", MFD_CLOEXEC);

    cr_assert(ge(int, fd, 0));
    cr_assert(eq(int, ftruncate(fd, 4 * PAGE), 0));
    page = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    cr_assert(ne(ptr, page, MAP_FAILED));
    page[0] = 1;
}
TestSuite(still, .init = map);

/* The first three pages; false where this user may not. */
static bool begin(struct pw_still *s)
{
    int err = pw_still_begin(s, page, 4 * PAGE);

    if (err == -EPERM || err == -ENOSYS) {
        cr_expect(eq(int, s->fd, -1));
        cr_skip("threads cannot be stopped by this user");
        return false;
    }
    cr_assert(eq(int, err, 0));
    cr_assert(eq(int, pw_still_hold(s, page, 3 * PAGE), 0));
    return true;
}

static int zeros;
static int started, written;

static void *write_by_itself(void *at)
{
    __atomic_store_n(&started, 1, __ATOMIC_SEQ_CST);
    *(volatile char *)at = 2;
    __atomic_store_n(&written, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static void *write_by_a_call(void *at)
{
    ssize_t got;

    __atomic_store_n(&started, 1, __ATOMIC_SEQ_CST);
    got = read(zeros, at, 100);
    __atomic_store_n(&written, 1, __ATOMIC_SEQ_CST);
    return (void *)(got == 100 ? NULL : at);
}

static void writer_waits(void *(*writer)(void *), char *at, bool child)
{
    struct pw_still s;
    pthread_t t;
    void *bad;
    pid_t pid = 0;

    zeros = open("/dev/zero", O_RDONLY);
    if (!begin(&s))
        return;
    pthread_create(&t, NULL, writer, at);
    while (!__atomic_load_n(&started, __ATOMIC_SEQ_CST))
        usleep(1000);
    usleep(30000);
    cr_expect(eq(int, __atomic_load_n(&written, __ATOMIC_SEQ_CST), 0), "it did not wait");
    if (child && (pid = fork()) == 0) {
        alarm(20);
        pause();
        _exit(0);
    }
    pw_still_end(&s);
    cr_expect(eq(int, s.fd, -1));
    pthread_join(t, &bad);
    cr_expect(eq(ptr, bad, NULL), "the call failed");
    if (pid) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
}

Test(still, a_thread_that_writes_waits)
{
    writer_waits(write_by_itself, page, false);
    cr_expect(eq(chr, page[0], 2));
}

Test(still, on_a_page_that_nobody_has_touched_too)
{
    writer_waits(write_by_itself, page + 2 * PAGE, false);
}

Test(still, a_thread_inside_a_system_call_waits_and_the_call_succeeds)
{
    writer_waits(write_by_a_call, page, false);
    cr_expect(eq(chr, page[0], 0));
}

Test(still, a_child_that_has_the_descriptor_keeps_nobody_waiting, .timeout = 30)
{
    writer_waits(write_by_itself, page, true);
}

Test(still, what_is_not_held_can_be_written)
{
    struct pw_still s;

    if (!begin(&s))
        return;
    page[3 * PAGE] = 1;
    cr_expect(eq(chr, page[0], 1), "and what is held can be read");
    pw_still_end(&s);
    page[0] = 2;
}

Test(still, what_cannot_be_protected_is_told)
{
    struct pw_still s;
    struct rlimit none = { 0, 0 }, before;

    getrlimit(RLIMIT_NOFILE, &before);
    none.rlim_max = before.rlim_max;
    setrlimit(RLIMIT_NOFILE, &none);
    cr_expect(lt(int, pw_still_begin(&s, page, 4 * PAGE), 0), "no descriptor");
    cr_expect(eq(int, s.fd, -1));
    setrlimit(RLIMIT_NOFILE, &before);

    cr_expect(lt(int, pw_still_begin(&s, page + 1, PAGE), 0), "no page starts there");
    cr_expect(eq(int, s.fd, -1));
    cr_expect(eq(int, pw_still_hold(&s, page, PAGE), 0), "nobody is stopped");
    page[0] = 3;
    pw_still_end(&s);

    if (!begin(&s))
        return;
    cr_expect(lt(int, pw_still_hold(&s, page + 1, PAGE), 0));
    cr_expect(eq(int, s.fd, -1), "then nobody is");
    page[0] = 4;
}
