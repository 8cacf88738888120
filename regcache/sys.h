/* SPDX-License-Identifier: BSD-3-Clause */
/* sys.h - the system calls the pool and the budget make, as a table.
 *
 * Their error paths only run when the kernel refuses something. Tests hand
 * in a table whose entries refuse on demand; everyone else uses pw_sys_real.
 * Entries behave as the manual page of the same name says, -1 and errno
 * included. Calls that cannot fail in a way anyone handles are not in here.
 */
#ifndef PINWHEEL_SYS_H
#define PINWHEEL_SYS_H

#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <sys/vfs.h>

/* Newer than some C libraries that we build with; values from Linux
 * include/uapi/asm-generic/mman-common.h and include/uapi/linux/memfd.h. */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#endif
#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB (21U << 26)
#endif
#ifndef MFD_HUGE_1GB
#define MFD_HUGE_1GB (30U << 26)
#endif

struct pw_sys {
    int (*memfd_create)(const char *name, unsigned flags);
    int (*open)(const char *path, int flags, mode_t mode);
    int (*ftruncate)(int fd, off_t size);
    int (*fallocate)(int fd, int mode, off_t offset, off_t len);
    int (*fstatfs)(int fd, struct statfs *out);
    int (*ioctl)(int fd, unsigned long request, void *arg);
    int (*add_seals)(int fd, int seals);        /* fcntl(F_ADD_SEALS) */

    /* fcntl(F_OFD_SETLK): F_WRLCK or F_UNLCK of len bytes from start. */
    int (*ofd_lock)(int fd, short type, off_t start, off_t len);
    void *(*mmap)(void *addr, size_t len, int prot, int flags, int fd, off_t offset);
    int (*madvise)(void *addr, size_t len, int advice);
    long (*move_pages)(int pid, unsigned long count, void **pages, const int *nodes,
                       int *status, int flags);
    int (*getrlimit)(int resource, struct rlimit *out);

    /* The start of a small file as a string. 0, or -errno of open or read. */
    int (*read_text)(const char *path, char *text, size_t size);

    uint64_t (*ram)(void);                      /* bytes of RAM, 0 if unknown */
};

extern const struct pw_sys pw_sys_real;

#endif
