/* SPDX-License-Identifier: BSD-3-Clause */
/* sys.c - the table of system calls that are the kernel's own. See sys.h. */
#define _GNU_SOURCE
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static int real_memfd_create(const char *name, unsigned flags)
{
    return memfd_create(name, flags);
}

static int real_open(const char *path, int flags, mode_t mode)
{
    return open(path, flags, mode);
}

static int real_ioctl(int fd, unsigned long request, void *arg)
{
    return ioctl(fd, request, arg);
}

static int real_add_seals(int fd, int seals)
{
    return fcntl(fd, F_ADD_SEALS, seals);
}

static int real_ofd_lock(int fd, short type, off_t start, off_t len)
{
    struct flock lock = {
        .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len,
    };

    return fcntl(fd, F_OFD_SETLK, &lock);
}

/* libnuma's; the C library has none. */
static long real_move_pages(int pid, unsigned long count, void **pages, const int *nodes,
                            int *status, int flags)
{
    return syscall(SYS_move_pages, pid, count, pages, nodes, status, flags);
}

static int real_getrlimit(int resource, struct rlimit *out)
{
    return getrlimit((__rlimit_resource_t)resource, out);
}

static int real_read_text(const char *path, char *text, size_t size)
{
    ssize_t got;
    int err = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    got = read(fd, text, size - 1);
    if (got < 0) {
        err = -errno;
        got = 0;
    }
    text[got] = '\0';
    close(fd);
    return err;
}

static uint64_t real_ram(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), bytes = sysconf(_SC_PAGESIZE);

    return pages > 0 && bytes > 0 ? (uint64_t)pages * (uint64_t)bytes : 0;
}

const struct pw_sys pw_sys_real = {
    .memfd_create = real_memfd_create,
    .open = real_open,
    .ftruncate = ftruncate,
    .fallocate = fallocate,
    .fstatfs = fstatfs,
    .ioctl = real_ioctl,
    .add_seals = real_add_seals,
    .ofd_lock = real_ofd_lock,
    .mmap = mmap,
    .madvise = madvise,
    .move_pages = real_move_pages,
    .getrlimit = real_getrlimit,
    .read_text = real_read_text,
    .ram = real_ram,
};
