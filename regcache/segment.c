/* SPDX-License-Identifier: BSD-3-Clause */
/* segment.c - makes the anonymous file behind a pool, and maps it.
 *
 * Start at pw_segment_create(). A file without a name cannot be guessed, and
 * leaves nothing behind whatever kills its users. memfd_create() makes one;
 * where a seccomp filter or an old kernel refuses that, an O_TMPFILE in
 * /dev/shm, or else in $TMPDIR, is nameless too.
 *
 * A pool of /dev/pinwheel is nameless, too.
 *
 * Always true: the file's size is at least the mapping's. A memfd is sealed, so
 * that no peer can truncate it and turn our next load into SIGBUS; nobody can
 * truncate the driver's.
 */
#define _GNU_SOURCE
#include "segment.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pinwheel/kdriver.h"

static int file_memfd(const struct pw_sys *sys, enum pw_segment_kind kind, int *fd)
{
    unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;

    if (kind == PW_SEGMENT_HUGETLB)
        flags |= MFD_HUGETLB | MFD_HUGE_2MB;
    if (kind == PW_SEGMENT_GIGANTIC)
        flags |= MFD_HUGETLB | MFD_HUGE_1GB;

    /* vm.memfd_noexec=2 insists on NOEXEC_SEAL; before Linux 6.3 it is EINVAL. */
    *fd = sys->memfd_create("pinwheel-pool", flags | MFD_NOEXEC_SEAL);
    if (*fd < 0 && errno == EINVAL)
        *fd = sys->memfd_create("pinwheel-pool", flags);
    return *fd < 0 ? -errno : 0;
}

static int file_tmp(const struct pw_sys *sys, int *fd)
{
    int flags = O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC;
    const char *dir = getenv("TMPDIR");

    *fd = sys->open("/dev/shm", flags, 0600);
    if (*fd < 0)
        *fd = sys->open(dir && *dir ? dir : "/tmp", flags, 0600);
    return *fd < 0 ? -errno : 0;
}

/* It stays when the device is closed. */
static int file_kdriver(const struct pw_sys *sys, size_t size, int *fd)
{
    struct pw_kd_pool pool = { .size = size };
    int err, device = sys->open(PW_KD_PATH, O_RDWR | O_CLOEXEC, 0);

    if (device < 0)
        return -errno;
    err = sys->ioctl(device, PW_KD_POOL, &pool) ? -errno : 0;
    close(device);
    *fd = pool.fd;
    return err;
}

static int file_make(const struct pw_sys *sys, enum pw_segment_kind kind, bool *memfd,
                     int *fd)
{
    int err = file_memfd(sys, kind, fd);

    *memfd = err == 0;
    if (kind == PW_SEGMENT_SPARSE && (err == -ENOSYS || err == -EPERM || err == -EACCES))
        err = file_tmp(sys, fd);
    return err;
}

/* ftruncate() beyond RLIMIT_FSIZE does not only fail: it raises SIGXFSZ, which
 * kills. A memfd counts as a file there. */
static int file_grow(const struct pw_sys *sys, int fd, size_t size)
{
    struct rlimit lim;

    if (sys->getrlimit(RLIMIT_FSIZE, &lim) == 0 && lim.rlim_cur != RLIM_INFINITY &&
        lim.rlim_cur < size)
        return -EFBIG;
    return sys->ftruncate(fd, (off_t)size) ? -errno : 0;
}

/* A file of that size; in *memfd, whether a memfd of the machine's own memory. */
static int file_sized(const struct pw_sys *sys, size_t size, enum pw_segment_kind kind,
                      bool *memfd, int *fd)
{
    int err;

    *memfd = false;
    if (kind == PW_SEGMENT_KDRIVER)
        return file_kdriver(sys, size, fd);
    err = file_make(sys, kind, memfd, fd);
    if (err)
        return err;
    err = file_grow(sys, *fd, size);
    if (!err && *memfd && sys->add_seals(*fd, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
        err = -errno;
    if (err)
        close(*fd);
    return err;
}

int pw_segment_create(const struct pw_sys *sys, size_t size, enum pw_segment_kind kind,
                      struct pw_segment *out)
{
    void *base;
    struct stat st;
    bool memfd;
    int fd = -1, err = file_sized(sys, size, kind, &memfd, &fd);

    if (err)
        return err;

    /* Reserved hugepages are the exception that reserves at mmap: a page that somebody
     * else took in the meantime would be a SIGBUS at first touch. */
    *out = (struct pw_segment){ .fd = fd, .size = size, .kind = kind, .limited = !memfd };
    err = pw_segment_map(sys, fd, size, !pw_segment_reserved(out), &base);
    if (err) {
        close(fd);
        return err;
    }

    memset(&st, 0, sizeof st);
    fstat(fd, &st);
    out->base = base;
    out->dev = st.st_dev;
    out->ino = st.st_ino;
    return 0;
}

/* A file of FUSE answers calls as its owner says. But of which file system a file is,
 * only the kernel says. */
static bool is_kdriver_pool(const struct pw_sys *sys, int fd)
{
    struct pw_kd_pool_info info;
    struct statfs fs;

    return !sys->fstatfs(fd, &fs) && fs.f_type == PW_KD_MAGIC &&
           !sys->ioctl(fd, PW_KD_POOL_INFO, &info);
}

bool pw_segment_steady(const struct pw_sys *sys, int fd)
{
    int seals = fcntl(fd, F_GET_SEALS);

    return (seals >= 0 && seals & F_SEAL_SHRINK) || is_kdriver_pool(sys, fd);
}

bool pw_segment_has_fd(const struct pw_segment *seg)
{
    struct stat st;

    return !fstat(seg->fd, &st) && st.st_dev == seg->dev && st.st_ino == seg->ino;
}

void pw_segment_destroy(struct pw_segment *seg)
{
    munmap(seg->base, seg->size);
    close(seg->fd);
}

/* What a mapping of fd must be a multiple of. Reserved hugepages are mapped whole: mmap
 * refuses to begin within one, and where it is to end within one it maps all of it, over
 * whatever is there. */
static size_t file_unit(const struct pw_sys *sys, int fd)
{
    struct statfs fs;

    return sys->fstatfs(fd, &fs) || fs.f_type != HUGETLBFS_MAGIC ? 1 : (size_t)fs.f_bsize;
}

/* mmap aligns to 4 KiB only, and a huge page is mapped by one entry only where
 * address and file offset agree modulo its size. So take that much more of address
 * space than needed, map the file in the middle, give the ends back. */
int pw_segment_map(const struct pw_sys *sys, int fd, size_t size, bool noreserve,
                   void **base)
{
    int flags = MAP_SHARED | MAP_FIXED | (noreserve ? MAP_NORESERVE : 0);
    size_t unit = file_unit(sys, fd), align = unit > PW_HUGE ? unit : PW_HUGE;
    char *room, *at, *end;
    int err;

    if (size & (unit - 1) || size + align < size)
        return -EINVAL;
    room = sys->mmap(NULL, size + align, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED)
        return -errno;
    end = room + size + align;
    at = room + (-(uintptr_t)room & (align - 1));

    if (sys->mmap(at, size, PROT_READ | PROT_WRITE, flags, fd, 0) == MAP_FAILED) {
        err = -errno;
        munmap(room, size + align);
        return err;
    }

    if (at > room)
        munmap(room, (size_t)(at - room));
    if (at + size < end)
        munmap(at + size, (size_t)(end - (at + size)));
    *base = at;
    return 0;
}
