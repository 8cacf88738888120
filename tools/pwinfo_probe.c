/* SPDX-License-Identifier: BSD-3-Clause */
/* pwinfo_probe.c - what can only be known by trying.
 *
 * A file that says a call is allowed is not proof: seccomp filters, containers
 * and security modules forbid it without a trace in /proc.
 */
#include "pwinfo.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pinwheel/device.h"

/* What the child says: its return value, then its text. */
static void child_main(int (*probe)(const void *, char *, size_t), const void *arg,
                       int report, size_t room)
{
    char *text = calloc(1, room);
    int null = open("/dev/null", O_RDWR), result = -ENOMEM;
    struct iovec message[2] = { { &result, sizeof result }, { text, 0 } };

    if (null >= 0) {
        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
    }
    if (text) {
        result = probe(arg, text, room);
        message[1].iov_len = strnlen(text, room - 1);
    }
    _exit(writev(report, message, 2) < 0);
}

int pw_in_child(int (*probe)(const void *, char *, size_t), const void *arg, char *text,
                size_t room)
{
    int report[2], result = -EIO;
    size_t used = 0;
    ssize_t got;
    pid_t pid;

    text[0] = '\0';
    if (pipe2(report, O_CLOEXEC))
        return -errno;
    fflush(NULL);
    pid = fork();
    if (pid < 0) {
        result = -errno;
        close(report[0]);
        close(report[1]);
        return result;
    }
    if (pid == 0)
        child_main(probe, arg, report[1], room);

    close(report[1]);
    if (read(report[0], &result, sizeof result) != sizeof result)
        result = -EIO;
    while (used < room - 1 && (got = read(report[0], text + used, room - 1 - used)) > 0)
        used += (size_t)got;
    text[used] = '\0';
    close(report[0]);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return result;
}

struct cma_target {
    pid_t pid;
    const volatile uint64_t *word;
};

/* In the child. Ranks are siblings: none descends from the other, and yama lets
 * a process at its descendants. So the child looks at its parent. */
static int cma_read_parent(const void *arg, char *text, size_t room)
{
    const struct cma_target *t = arg;
    uint64_t expected = *t->word, seen = 0;
    struct iovec local = { &seen, sizeof seen };
    struct iovec remote = { (void *)(uintptr_t)t->word, sizeof seen };

    (void)text;
    (void)room;
    if (process_vm_readv(t->pid, &local, 1, &remote, 1, 0) != sizeof seen)
        return -errno;
    return seen == expected ? 0 : -EBADMSG;
}

static void probe_cma(struct pw_facts *f)
{
    static volatile uint64_t word;
    struct cma_target target = { getpid(), &word };
    char unused[2];
    int err;

    word = 0x70696e776865656c ^ (uint64_t)getpid();
    f->yama = (int)pw_read_number("/proc/sys/kernel/yama/ptrace_scope");
    err = pw_in_child(cma_read_parent, &target, unused, sizeof unused);

    if (err == 0)
        pw_verdict_yes(&f->cma, "");
    else if (err == -EPERM && f->yama > 0)
        pw_verdict_no(&f->cma, "yama forbids it (kernel.yama.ptrace_scope is %d); as root: "
                      "sysctl kernel.yama.ptrace_scope=0; large messages between malloc'ed "
                      "buffers are copied twice until then", f->yama);
    else if (err == -EPERM)
        pw_verdict_no(&f->cma, "process_vm_readv is forbidden, as in containers without "
                      "CAP_SYS_PTRACE; start the container with --cap-add=SYS_PTRACE; large "
                      "messages between malloc'ed buffers are copied twice until then");
    else if (err == -ENOSYS)
        pw_verdict_no(&f->cma, "this kernel has no process_vm_readv "
                      "(CONFIG_CROSS_MEMORY_ATTACH), or a seccomp filter hides it");
    else
        pw_verdict_no(&f->cma, "process_vm_readv failed: %s", strerror(-err));
}

static void probe_memfd(struct pw_facts *f)
{
    int fd = memfd_create("pwinfo", MFD_CLOEXEC);

    if (fd < 0) {
        pw_verdict_no(&f->memfd, "memfd_create failed: %s; a nameless file in /dev/shm "
                      "serves instead", strerror(errno));
        return;
    }
    close(fd);
    pw_verdict_yes(&f->memfd, "");
}

static void probe_membarrier(struct pw_facts *f)
{
    long commands = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);

    if (commands < 0)
        pw_verdict_no(&f->membarrier, "membarrier failed: %s; barriers in the fast path "
                      "take its place", strerror(errno));
    else if (!(commands & MEMBARRIER_CMD_GLOBAL_EXPEDITED))
        pw_verdict_no(&f->membarrier, "this kernel lacks MEMBARRIER_CMD_GLOBAL_EXPEDITED "
                      "(Linux 4.16); barriers in the fast path take its place");
    else
        pw_verdict_yes(&f->membarrier, "");
}

/* Our own segments are memfds. Open MPI keeps files there, and a full /dev/shm
 * stops it in MPI_Init. */
static void probe_dev_shm(struct pw_facts *f)
{
    struct statvfs v;

    f->dev_shm_free = -1;
    if (statvfs("/dev/shm", &v)) {
        pw_verdict_no(&f->dev_shm, "/dev/shm cannot be examined: %s; mount a tmpfs there, "
                      "for Open MPI wants it", strerror(errno));
        return;
    }
    f->dev_shm_free = (long long)v.f_bavail * (long long)v.f_frsize;
    if (access("/dev/shm", W_OK | X_OK))
        pw_verdict_no(&f->dev_shm, "/dev/shm is not writable for this user: %s; as root: "
                      "chmod 1777 /dev/shm", strerror(errno));
    else if (f->dev_shm_free < 16 << 20)
        pw_verdict_no(&f->dev_shm,
                      "less than 16 MiB free in /dev/shm, where Open MPI keeps "
                      "its own files; remove stale ones or enlarge it (containers: "
                      "--shm-size)");
    else
        pw_verdict_yes(&f->dev_shm, "");
}

static long long driver_counter(const char *name)
{
    char path[PW_PATH];

    snprintf(path, sizeof path, "/sys/class/misc/pinwheel/counters/%s", name);
    return pw_read_number(path);
}

/* Limits, and what all of the host have of it now. */
static void driver_tell(int fd, struct pw_verdict *v)
{
    struct pw_kd_info info = { .version = 0 };
    int err = ioctl(fd, PW_KD_INFO, &info) ? -errno : 0;

    v->ok = pw_device_suits(err, &info, 0, v->why, sizeof v->why);
    if (!v->ok)
        return;
    snprintf(v->why, sizeof v->why,
             "version %u; this user has %llu MiB pinned and may have %llu; ranges per "
             "descriptor: at most %llu; on this host now: %lld ranges watched, %lld exported, "
             "%lld mapped by others, %lld pools of %lld MiB",
             info.version, info.user_bytes >> 20, info.user_bytes_max >> 20,
             info.words_bytes / 8 - PW_KD_FIRST_SLOT, driver_counter("watches"),
             driver_counter("exports"), driver_counter("mappings"), driver_counter("pools"),
             driver_counter("pool_pages") / 256);
}

static void probe_driver(struct pw_facts *f)
{
    int fd = open(PW_KD_PATH, O_RDWR | O_CLOEXEC);

    if (fd >= 0) {
        driver_tell(fd, &f->driver);
        close(fd);
    } else {
        f->driver.ok = false;
        pw_device_why(-errno, f->driver.why, sizeof f->driver.why);
    }
}

void pw_facts_probe(struct pw_facts *f)
{
    probe_cma(f);
    probe_memfd(f);
    probe_membarrier(f);
    probe_dev_shm(f);
    probe_driver(f);
}
