/* SPDX-License-Identifier: BSD-3-Clause */
/* budget_rig.c - budgets over a kernel that refuses on demand, and other processes. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "budget_rig.h"

struct rig_refusals fake;
struct pw_sys fake_sys;

const struct pw_budget_config usual = {
    .rank_bytes = 64 * MIB, .rank_regions = 100, .host_bytes = 100 * MIB, .sharers = 4,
};

static int fake_open(const char *path, int flags, mode_t mode)
{
    errno = fake.open;
    return errno ? -1 : pw_sys_real.open(path, flags, mode);
}

static int fake_ofd_lock(int fd, short type, off_t start, off_t len)
{
    void (*before)(void) = fake.before_lock;

    fake.before_lock = NULL;
    if (before)
        before();
    errno = type == fake.lock_type ? fake.ofd_lock : 0;
    return errno ? -1 : pw_sys_real.ofd_lock(fd, type, start, len);
}

static int fake_fallocate(int fd, int mode, off_t offset, off_t len)
{
    errno = fake.fallocate;
    return errno ? -1 : pw_sys_real.fallocate(fd, mode, offset, len);
}

static int fake_ftruncate(int fd, off_t size)
{
    errno = fake.ftruncate;
    return errno ? -1 : pw_sys_real.ftruncate(fd, size);
}

static void *fake_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
    errno = fake.mmap;
    return errno ? MAP_FAILED : pw_sys_real.mmap(addr, len, prot, flags, fd, offset);
}

static uint64_t fake_ram(void)
{
    return fake.ram;
}

static int fake_getrlimit(int resource, struct rlimit *out)
{
    cr_assert(eq(int, resource, RLIMIT_MEMLOCK));
    *out = fake.memlock;
    return 0;
}

static int fake_read_text(const char *path, char *text, size_t size)
{
    const char *told = strstr(path, "uid_map") ? fake.uid_map
                       : strstr(path, "status") ? fake.status : NULL;

    if (fake.read)
        return -fake.read;
    if (!told)
        return pw_sys_real.read_text(path, text, size);
    snprintf(text, size, "%s", told);
    return 0;
}

char dir[40];

void rig_open(void)
{
    fake = (struct rig_refusals){
        .lock_type = F_WRLCK, .ram = 64 * GIB,
        .memlock = { RLIM_INFINITY, RLIM_INFINITY },
        .status = "Name:\tx\nCapEff:\t0000000000000000\n",
        .uid_map = "         0          0 4294967295\n",
    };
    fake_sys = pw_sys_real;
    fake_sys.open = fake_open;
    fake_sys.ofd_lock = fake_ofd_lock;
    fake_sys.fallocate = fake_fallocate;
    fake_sys.ftruncate = fake_ftruncate;
    fake_sys.mmap = fake_mmap;
    fake_sys.ram = fake_ram;
    fake_sys.getrlimit = fake_getrlimit;
    fake_sys.read_text = fake_read_text;

    signal(SIGPIPE, SIG_IGN);   /* telling one that was killed */
    strcpy(dir, "/tmp/pinwheel-budget.XXXXXX");
    cr_assert(ne(ptr, mkdtemp(dir), NULL));
}

void rig_close(void)
{
    cr_expect(eq(int, rmdir(dir), 0), "left behind in %s", dir);
}

char *account(void)
{
    static char path[80];

    snprintf(path, sizeof path, "%s/pinwheel.%u", dir, (unsigned)geteuid());
    return path;
}

struct pw_budget *open_with(struct pw_budget_config config)
{
    struct pw_budget *b;

    cr_assert(eq(int, pw_budget_open_sys(&config, &fake_sys, dir, &b), 0));
    return b;
}

struct pw_budget_info info_of(struct pw_budget *b)
{
    struct pw_budget_info info;

    memset(&info, 0x5a, sizeof info);
    pw_budget_describe(b, &info);
    return info;
}

/* -------------------------------------------------------------- other processes */

void other_wait(struct other *o)
{
    char c;

    cr_assert(eq(int, (int)read(o->hear, &c, 1), 1), "the other process failed");
}

struct other other_start(bool (*body)(void *), void *arg)
{
    struct other o;
    int down[2], up[2];
    char c;

    cr_assert(eq(int, pipe2(down, O_CLOEXEC), 0));
    cr_assert(eq(int, pipe2(up, O_CLOEXEC), 0));
    o.pid = fork();
    cr_assert(ge(int, o.pid, 0));
    if (o.pid == 0) {
        close(down[1]);
        close(up[0]);
        if (body(arg) && write(up[1], "", 1) == 1)
            (void)!read(down[0], &c, 1);
        _exit(0);
    }
    close(down[0]);
    close(up[1]);
    o.tell = down[1];
    o.hear = up[0];
    return o;
}

/* A word, for the other end of the pipe does not close: later ones inherited it. */
void other_reap(struct other *o)
{
    int status;

    (void)!write(o->tell, "\n", 1);
    close(o->tell);
    close(o->hear);
    cr_assert(eq(int, waitpid(o->pid, &status, 0), o->pid));
}

void other_kill(struct other *o)
{
    cr_assert(eq(int, kill(o->pid, SIGKILL), 0));
    other_reap(o);
}

struct pw_budget *others_open(void)
{
    struct pw_budget *b;

    if (pw_budget_open_sys(&usual, &fake_sys, dir, &b))
        _exit(1);
    return b;
}

struct pw_budget *others_budget;

bool holds(void *bytes)
{
    others_budget = others_open();
    return pw_budget_charge(others_budget, *(size_t *)bytes, 1) == 0;
}

struct other holder(size_t bytes)
{
    struct other o = other_start(holds, &bytes);

    other_wait(&o);
    return o;
}
