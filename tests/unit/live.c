/* SPDX-License-Identifier: BSD-3-Clause */
/* live.c - the page of counters that others read while its owner runs. */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pinwheel/live.h"

static const char *const names[] = { "hits", "misses" };

static struct pw_live *open_page(void)
{
    struct pw_live *live;

    cr_assert(eq(int, pw_live_open(names, 2, &live), 0));
    return live;
}

static struct pw_live_page look(pid_t pid)
{
    struct pw_live_page page;

    cr_assert(eq(int, pw_live_read(pid, 0, &page), 0));
    return page;
}

static int look_error(pid_t pid)
{
    struct pw_live_page page;

    return pw_live_read(pid, 0, &page);
}

/* ---- what is written is what is read ---- */

Test(live, a_page_says_itself_what_it_holds)
{
    struct pw_live *live = open_page();
    struct pw_live_page page = look(getpid());

    cr_expect(eq(int, page.pid, getpid()));
    cr_expect(eq(u32, page.n_values, 2));
    cr_expect(eq(str, page.values[0].name, "hits"));
    cr_expect(eq(str, page.values[1].name, "misses"));
    cr_expect(eq(u64, page.values[1].value, 0));
    cr_expect(eq(u64, page.updated_ns, 0), "no numbers yet");

    pw_live_update(live, (uint64_t[]){ 7, UINT64_MAX });
    page = look(getpid());
    cr_expect(eq(u64, page.values[0].value, 7));
    cr_expect(eq(u64, page.values[1].value, UINT64_MAX));
    cr_expect(lt(u64, 0, page.updated_ns));
    pw_live_close(live);
    cr_expect(eq(int, look_error(getpid()), -ENOENT), "gone with its owner's interest");
}

Test(live, texts_are_set_and_set_anew)
{
    struct pw_live *live = open_page();
    struct pw_live_page page;

    cr_expect(eq(int, pw_live_tell(live, "monitor", "hooks"), 0));
    cr_expect(eq(int, pw_live_tell(live, "unseen", "much"), 0));
    cr_expect(eq(int, pw_live_tell(live, "monitor", "uffd"), 0));
    page = look(getpid());
    cr_expect(eq(u32, page.n_texts, 2));
    cr_expect(eq(str, page.texts[0].name, "monitor"));
    cr_expect(eq(str, page.texts[0].text, "uffd"));
    cr_expect(eq(str, page.texts[1].text, "much"));
    pw_live_close(live);
}

Test(live, texts_are_cut_to_fit_and_so_many_fit)
{
    struct pw_live *live = open_page();
    char text[2 * PW_LIVE_TEXT], name[2 * PW_LIVE_NAME];
    struct pw_live_page page;

    memset(text, 't', sizeof text);
    memset(name, 'n', sizeof name);
    text[sizeof text - 1] = name[sizeof name - 1] = '\0';
    cr_expect(eq(int, pw_live_tell(live, name, text), 0));
    cr_expect(eq(int, pw_live_tell(live, name, text), 0), "the same");
    cr_expect(eq(int, pw_live_tell(live, "b", ""), 0));
    cr_expect(eq(int, pw_live_tell(live, "c", ""), 0));
    cr_expect(eq(int, pw_live_tell(live, "d", ""), 0));
    cr_expect(eq(int, pw_live_tell(live, "e", ""), -ENOSPC));
    page = look(getpid());
    cr_expect(eq(u32, page.n_texts, 4));
    cr_expect(eq(sz, strlen(page.texts[0].name), PW_LIVE_NAME - 1));
    cr_expect(eq(sz, strlen(page.texts[0].text), PW_LIVE_TEXT - 1));
    cr_expect(eq(str, page.texts[1].name, "b"));
    pw_live_close(live);
}

Test(live, one_process_may_have_several)
{
    struct pw_live *a = open_page(), *b = open_page();
    struct pw_live_page page;

    cr_expect(eq(int, pw_live_read(getpid(), 0, &page), 0));
    cr_expect(eq(int, pw_live_read(getpid(), 1, &page), 0));
    cr_expect(eq(int, pw_live_read(getpid(), 2, &page), -ENOENT));
    pw_live_close(a);
    pw_live_close(b);
}

Test(live, as_many_numbers_as_there_are_places)
{
    const char *many[PW_LIVE_VALUES + 1];
    char text[PW_LIVE_VALUES + 1][8], long_name[PW_LIVE_NAME + 1];
    struct pw_live *live;

    for (int i = 0; i <= PW_LIVE_VALUES; i++) {
        snprintf(text[i], sizeof text[i], "n%d", i);
        many[i] = text[i];
    }
    cr_expect(eq(int, pw_live_open(many, PW_LIVE_VALUES, &live), 0));
    cr_expect(eq(u32, look(getpid()).n_values, PW_LIVE_VALUES));
    pw_live_close(live);
    cr_expect(eq(int, pw_live_open(many, PW_LIVE_VALUES + 1, &live), -EINVAL));
    cr_expect(eq(ptr, live, NULL));

    memset(long_name, 'x', sizeof long_name);
    long_name[PW_LIVE_NAME] = '\0';
    many[0] = long_name;
    cr_expect(eq(int, pw_live_open(many, 1, &live), -EINVAL));
    cr_expect(eq(int, look_error(getpid()), -ENOENT));
    pw_live_close(NULL);
}

/* ---- from outside ---- */

/* A child that has a page and lives until killed; *value goes up in it. */
static pid_t child_with_page(uid_t user)
{
    int ready[2];
    pid_t pid;
    char c;

    cr_assert(eq(int, pipe(ready), 0));
    pid = fork();
    cr_assert(ge(int, pid, 0));
    if (pid == 0) {
        struct pw_live *live;
        uint64_t values[2] = { 0 };

        if ((user && setuid(user)) || pw_live_open(names, 2, &live) ||
            write(ready[1], "x", 1) != 1)
            _exit(1);
        for (;;) {
            values[0]++;
            values[1] = values[0] << 32;
            pw_live_update(live, values);
            usleep(100);
        }
    }
    close(ready[1]);
    cr_assert(eq(int, (int)read(ready[0], &c, 1), 1));
    close(ready[0]);
    return pid;
}

static void end(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

Test(live, numbers_move_under_the_eyes_of_another_process)
{
    pid_t pid = child_with_page(0);
    uint64_t first = look(pid).values[0].value, now = first;

    for (int i = 0; i < 30000 && now < first + 10; i++) {
        struct pw_live_page page = look(pid);

        cr_assert(ge(u64, page.values[0].value, now));
        now = page.values[0].value;
        cr_expect(eq(int, page.pid, pid));
        usleep(1000);
    }
    cr_expect(ge(u64, now, first + 10));
    end(pid);
}

Test(live, a_process_that_stands_still_is_read_too)
{
    pid_t pid = child_with_page(0);
    uint64_t then;

    kill(pid, SIGSTOP);
    waitpid(pid, NULL, WUNTRACED);
    then = look(pid).values[0].value;
    cr_expect(eq(u64, look(pid).values[0].value, then));
    end(pid);
    cr_expect(eq(int, look_error(pid), -ESRCH), "and a dead one not");
}

Test(live, a_forked_child_shows_its_parents_page_under_its_parents_number)
{
    struct pw_live *live = open_page();
    pid_t pid = fork();

    if (pid == 0) {
        pause();
        _exit(0);
    }
    cr_expect(eq(int, look(pid).pid, getpid()));
    end(pid);
    pw_live_close(live);
}

Test(live, nobody_is_there_or_has_none)
{
    cr_expect(eq(int, look_error(INT_MAX), -ESRCH));
    cr_expect(eq(int, look_error(getpid()), -ENOENT));
}

/* As nobody, who may not look at root's processes, nor at those of others. */
Test(live, another_users_process_cannot_be_read)
{
    struct pw_live *live;
    int status;
    pid_t pid;

    if (geteuid())
        cr_skip_test("needs root");
    live = open_page();
    pid = fork();
    if (pid == 0)
        _exit(setuid(65534) || look_error(getppid()) != -EACCES);
    waitpid(pid, &status, 0);
    cr_expect(eq(int, status, 0));
    pw_live_close(live);

    pid = child_with_page(65534);
    cr_expect(eq(int, look_error(pid), 0), "root may");
    end(pid);
}

Test(live, a_reader_cannot_write_nor_cut_it)
{
    char path[64];
    int fd = -1;
    struct pw_live *live = open_page();

    for (int i = 3; i < 64 && fd < 0; i++) {
        char target[64] = "";

        snprintf(path, sizeof path, "/proc/self/fd/%d", i);
        if (readlink(path, target, sizeof target - 1) > 0 && strstr(target, PW_LIVE_FILE))
            fd = open(path, O_RDWR);
    }
    cr_assert(ge(int, fd, 0), "its own user may open it, even to write");
    cr_expect(eq(int, ftruncate(fd, 0), -1));
    cr_expect(eq(int, (int)write(fd, "x", 1), -1));
    cr_expect(eq(ptr, mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED));
    close(fd);
    pw_live_close(live);
}

/* ---- files that only look like one ---- */

static int forge(size_t size, int seals)
{
    int fd = memfd_create(PW_LIVE_FILE, MFD_ALLOW_SEALING | MFD_CLOEXEC);

    cr_assert(ge(int, fd, 0));
    cr_assert(eq(int, ftruncate(fd, (off_t)size), 0));
    if (seals)
        cr_assert(eq(int, fcntl(fd, F_ADD_SEALS, seals), 0));
    return fd;
}

static void forge_page(int fd, const struct pw_live_page *page)
{
    cr_assert(eq(int, (int)pwrite(fd, page, sizeof *page, 0), (int)sizeof *page));
}

Test(live, what_could_shrink_or_has_another_size_is_not_touched)
{
    struct pw_live_page good = { .magic = PW_LIVE_MAGIC, .version = PW_LIVE_VERSION };
    int fd = forge(sizeof good, 0);

    forge_page(fd, &good);
    cr_expect(eq(int, look_error(getpid()), -EPROTO), "not sealed");
    cr_assert(eq(int, fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0));
    cr_expect(eq(int, look_error(getpid()), 0));
    close(fd);
    fd = forge(16, F_SEAL_SHRINK);
    cr_expect(eq(int, look_error(getpid()), -EPROTO), "short");
    close(fd);
    fd = forge(sizeof good + 1, F_SEAL_SHRINK);
    cr_expect(eq(int, look_error(getpid()), -EPROTO), "long");
    close(fd);
}

Test(live, a_page_of_another_kind_is_refused)
{
    struct pw_live_page good = { .magic = PW_LIVE_MAGIC, .version = PW_LIVE_VERSION }, bad;
    int fd = forge(sizeof good, F_SEAL_SHRINK);

    cr_expect(eq(int, look_error(getpid()), -EPROTO), "zeros");
    bad = good;
    bad.version++;
    forge_page(fd, &bad);
    cr_expect(eq(int, look_error(getpid()), -EPROTO), "version");
    bad = good;
    bad.n_values = PW_LIVE_VALUES + 1;
    forge_page(fd, &bad);
    cr_expect(eq(int, look_error(getpid()), -EPROTO), "values");
    bad = good;
    bad.n_texts = UINT32_MAX;
    forge_page(fd, &bad);
    cr_expect(eq(int, look_error(getpid()), -EPROTO), "texts");
    close(fd);
}

Test(live, names_and_texts_without_end_are_ended)
{
    struct pw_live_page bad;
    struct pw_live_page page;
    int fd = forge(sizeof bad, F_SEAL_SHRINK);

    memset(&bad, 'x', sizeof bad);
    bad.magic = PW_LIVE_MAGIC;
    bad.version = PW_LIVE_VERSION;
    bad.n_values = PW_LIVE_VALUES;
    bad.n_texts = PW_LIVE_TEXTS;
    forge_page(fd, &bad);
    page = look(getpid());
    cr_expect(eq(sz, strlen(page.values[PW_LIVE_VALUES - 1].name), PW_LIVE_NAME - 1));
    cr_expect(eq(sz, strlen(page.texts[PW_LIVE_TEXTS - 1].text), PW_LIVE_TEXT - 1));
    close(fd);
}

/* ---- machines that refuse ---- */

/* ThreadSanitizer needs memory of its own all the time. */
#ifdef __SANITIZE_THREAD__
enum { FRUGAL = 0 };
#else
enum { FRUGAL = 1 };
#endif

Test(live, without_a_descriptor_there_is_no_page)
{
    struct rlimit none, was;
    struct pw_live *live = (void *)1;
    int err;

    cr_assert(eq(int, getrlimit(RLIMIT_NOFILE, &was), 0));
    none = (struct rlimit){ 0, was.rlim_max };
    cr_assert(eq(int, setrlimit(RLIMIT_NOFILE, &none), 0));
    err = pw_live_open(names, 2, &live);
    cr_assert(eq(int, setrlimit(RLIMIT_NOFILE, &was), 0));
    cr_expect(eq(int, err, -EMFILE));
    cr_expect(eq(ptr, live, NULL));
}

Test(live, a_limit_on_files_is_an_error_and_no_signal)
{
    struct rlimit small, was;
    struct pw_live *live;
    int err;

    cr_assert(eq(int, getrlimit(RLIMIT_FSIZE, &was), 0));
    small = (struct rlimit){ 100, was.rlim_max };
    cr_assert(eq(int, setrlimit(RLIMIT_FSIZE, &small), 0));
    err = pw_live_open(names, 2, &live);
    cr_assert(eq(int, setrlimit(RLIMIT_FSIZE, &was), 0));
    cr_expect(eq(int, err, -EFBIG));
    cr_expect(eq(int, look_error(getpid()), -ENOENT));
}

Test(live, without_address_space_nothing_stays)
{
    struct rlimit none, was;
    struct pw_live *live;
    int err;

    if (!FRUGAL)
        cr_skip_test("not with ThreadSanitizer");
    cr_assert(eq(int, getrlimit(RLIMIT_AS, &was), 0));
    none = (struct rlimit){ 0, was.rlim_max };
    cr_assert(eq(int, setrlimit(RLIMIT_AS, &none), 0));
    err = pw_live_open(names, 2, &live);
    cr_assert(eq(int, setrlimit(RLIMIT_AS, &was), 0));
    cr_expect(eq(int, err, -ENOMEM));
    cr_expect(eq(int, look_error(getpid()), -ENOENT));
}
