/* SPDX-License-Identifier: BSD-3-Clause */
/* pool_fake_sys.c - a kernel that refuses what a test asks it to refuse. */
#include "pool_fake_sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "pinwheel/kdriver.h"

struct fake_sys fake;

static struct { int at, err; } plan[FAKE_CALLS], plan_any;

void fake_reset(void)
{
    memset(plan, 0, sizeof plan);
    plan_any.err = 0;
    fake = (struct fake_sys){
        .resv_pages = 0, .ram = (uint64_t)8 << 30,
        .fsize = RLIM_INFINITY, .as = RLIM_INFINITY,
        .version = PW_KD_VERSION, .services = PW_KD_SERVICE_POOL,
    };
}

void fake_fail(enum fake_call call, int nth, int err)
{
    plan[call].at = nth == FAKE_ALWAYS ? FAKE_ALWAYS : fake.calls[call] + nth;
    plan[call].err = err;
}

void fake_fail_any(int nth, int err)
{
    plan_any.at = fake.all + nth;
    plan_any.err = err;
}

static bool refused(enum fake_call call)
{
    int now = ++fake.calls[call];

    if (++fake.all == plan_any.at && plan_any.err) {
        errno = plan_any.err;
        return true;
    }
    if (!plan[call].err || (plan[call].at != FAKE_ALWAYS && plan[call].at != now))
        return false;
    errno = plan[call].err;
    return true;
}

static int fake_memfd_create(const char *name, unsigned flags)
{
    bool huge = flags & MFD_HUGETLB;

    fake.memfd_flags = flags;
    if (refused(huge ? FAKE_MEMFD_HUGE : FAKE_MEMFD))
        return -1;
    if (huge)
        flags &= MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL;
    return pw_sys_real.memfd_create(name, flags);
}

static int device_open(void)
{
    if (!fake.pinnable)
        errno = ENOENT;
    return !fake.pinnable || refused(FAKE_DEVICE) ? -1 : open("/dev/null", O_RDWR | O_CLOEXEC);
}

static int fake_open(const char *path, int flags, mode_t mode)
{
    if (!strcmp(path, PW_KD_PATH))
        return device_open();
    snprintf(fake.opened, sizeof fake.opened, "%s", path);
    return refused(FAKE_OPEN) ? -1 : pw_sys_real.open(path, flags, mode);
}

static int fake_ftruncate(int fd, off_t size)
{
    return refused(FAKE_FTRUNCATE) ? -1 : pw_sys_real.ftruncate(fd, size);
}

static int fake_fallocate(int fd, int mode, off_t offset, off_t len)
{
    return refused(FAKE_FALLOCATE) ? -1 : pw_sys_real.fallocate(fd, mode, offset, len);
}

static int kd_info(struct pw_kd_info *info)
{
    if (refused(FAKE_KD_INFO))
        return -1;
    *info = (struct pw_kd_info){ .version = fake.version, .services = fake.services,
                                 .user_bytes = fake.pinned, .user_bytes_max = fake.pinnable };
    return 0;
}

static int kd_pool(struct pw_kd_pool *pool)
{
    if (refused(FAKE_KD_POOL))
        return -1;
    pool->fd = memfd_create("pinwheel-pool", MFD_CLOEXEC);
    return ftruncate(pool->fd, (off_t)pool->size);
}

static int kd_fill(int fd, const struct pw_kd_part *part)
{
    if (refused(FAKE_KD_FILL))
        return -1;
    fake.node = part->node;
    fake.filled += part->len;
    return fallocate(fd, 0, (off_t)part->offset, (off_t)part->len);
}

static int kd_drain(int fd, const struct pw_kd_part *part)
{
    if (refused(FAKE_KD_DRAIN))
        return -1;
    fake.drained += part->len;
    return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)part->offset,
                     (off_t)part->len);
}

static int fake_fstatfs(int fd, struct statfs *out)
{
    int err = pw_sys_real.fstatfs(fd, out);

    if (!err && fake.magic)
        out->f_type = fake.magic;
    if (!err && fake.block)
        out->f_bsize = fake.block;
    return err;
}

static int fake_ioctl(int fd, unsigned long request, void *arg)
{
    switch (request) {
    case PW_KD_INFO:  return kd_info(arg);
    case PW_KD_POOL:  return kd_pool(arg);
    case PW_KD_FILL:  return kd_fill(fd, arg);
    case PW_KD_DRAIN: return kd_drain(fd, arg);
    case PW_KD_POOL_INFO: return refused(FAKE_KD_POOL_INFO) ? -1 : 0;
    }
    errno = ENOTTY;
    return -1;
}

static int fake_add_seals(int fd, int seals)
{
    return refused(FAKE_SEALS) ? -1 : pw_sys_real.add_seals(fd, seals);
}

static void *fake_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
    if (refused(FAKE_MMAP))
        return MAP_FAILED;
    if (flags & MAP_SHARED)
        fake.shared_flags = flags;
    return pw_sys_real.mmap(addr, len, prot, flags, fd, offset);
}

static int fake_madvise(void *addr, size_t len, int advice)
{
    enum fake_call call = advice == MADV_POPULATE_WRITE ? FAKE_POPULATE
                        : advice == MADV_COLLAPSE ? FAKE_COLLAPSE : FAKE_DONTDUMP;

    if (refused(call))
        return -1;
    if (call == FAKE_POPULATE && (fake.memfd_flags & MFD_HUGE_1GB) == MFD_HUGE_1GB)
        return 0;
    return pw_sys_real.madvise(addr, len, advice);
}

static long fake_move_pages(int pid, unsigned long count, void **pages, const int *nodes,
                            int *status, int flags)
{
    (void)pid;
    (void)nodes;
    (void)flags;
    if (refused(FAKE_MOVE_PAGES))
        return -1;
    for (unsigned long i = 0; i < count; i++)
        status[i] = (uintptr_t)pages[i] >> 12 & 1 ? 5 : 3;
    return 0;
}

static int fake_getrlimit(int resource, struct rlimit *out)
{
    out->rlim_max = RLIM_INFINITY;
    out->rlim_cur = resource == RLIMIT_FSIZE ? fake.fsize : fake.as;
    return 0;
}

static int fake_read_text(const char *path, char *text, size_t size)
{
    bool is_free = strstr(path, "free_hugepages"), gigantic = strstr(path, "-1048576kB/");
    int count = is_free ? fake.free_pages : fake.resv_pages;

    if (gigantic)
        count = is_free ? fake.free_1g : fake.resv_1g;
    if (strstr(path, "nr_hugepages"))
        count = fake.all_pages;

    if (fake.nodes && strstr(path, "/node/online")) {
        snprintf(text, size, "%s", fake.nodes);
        return 0;
    }
    if (count < 0)
        return -ENOENT;
    if (is_free && fake.free_text && !gigantic)
        snprintf(text, size, "%s", fake.free_text);
    else
        snprintf(text, size, "%d\n", count);
    return 0;
}

static uint64_t fake_ram(void)
{
    return fake.ram;
}

const struct pw_sys fake_sys = {
    .memfd_create = fake_memfd_create,
    .open = fake_open,
    .ftruncate = fake_ftruncate,
    .fallocate = fake_fallocate,
    .fstatfs = fake_fstatfs,
    .ioctl = fake_ioctl,
    .add_seals = fake_add_seals,
    .mmap = fake_mmap,
    .madvise = fake_madvise,
    .move_pages = fake_move_pages,
    .getrlimit = fake_getrlimit,
    .read_text = fake_read_text,
    .ram = fake_ram,
};
