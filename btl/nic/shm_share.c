/* SPDX-License-Identifier: BSD-3-Clause */
/* shm_share.c - our memory, exported so that peers can map it.
 *
 * Start at shm_pin(). The driver pins the pages and watches the range: when the
 * program changes what is there, a word moves that peers see, and they do not
 * believe the pages any more (shm_attach.c). Memory of the pool is mapped by
 * everybody already and is never exported.
 *
 * Without the driver, or where it refuses for good, a key says so by zeros and peers
 * go on as without it. A child after fork() gets EXDEV for everything, which is
 * such a refusal.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pinwheel/device.h"
#include "shm.h"

_Static_assert(sizeof(struct shm_key) <= PW_NIC_KEY_MAX, "a key of ours fits");

enum { PAGE = 4096 };

static int real_open(const char *path, int flags)
{
    return open(path, flags);
}

static int real_ioctl(int fd, unsigned long request, void *arg)
{
    return ioctl(fd, request, arg);
}

static const struct shm_device real_device = { real_open, real_ioctl, mmap };
const struct shm_device *shm_device = &real_device;

/* 0, or -errno. */
static int call(int fd, unsigned long request, void *arg)
{
    int n;

    do
        n = shm_device->ioctl(fd, request, arg);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : 0;
}

__attribute__((format(printf, 4, 5)))
static int refuse(struct shm_share *s, int err, char note[SHM_NOTE], const char *format, ...)
{
    int at = snprintf(note, SHM_NOTE, "no attach: ");
    va_list ap;

    shm_share_close(s);
    va_start(ap, format);
    vsnprintf(note + at, SHM_NOTE - (size_t)at, format, ap);
    va_end(ap);
    return err;
}

int shm_share_open(struct shm_share *s, char note[SHM_NOTE])
{
    struct pw_kd_share share = { .fd = -1 };
    struct pw_kd_info info = { 0 };
    char why[SHM_NOTE];
    int err;

    *s = (struct shm_share){ .fd = -1 };
    s->control = shm_device->open(PW_KD_PATH, O_RDWR | O_CLOEXEC);
    if (s->control < 0) {
        err = -errno;
        pw_device_why(err, why, sizeof why);
        return refuse(s, err, note, "%s", why);
    }
    err = call(s->control, PW_KD_INFO, &info);
    if (!pw_device_suits(err, &info, PW_KD_SERVICE_ATTACH, why, sizeof why))
        return refuse(s, err ? err : -EPROTO, note, "%s", why);
    if (info.words_bytes / 8 <= PW_KD_FIRST_SLOT)
        return refuse(s, -EPROTO, note, "the kernel driver has no slots");
    err = call(s->control, PW_KD_SHARE, &share);
    if (err)
        return refuse(s, err, note, "the kernel driver has no memory or descriptors left");
    s->fd = share.fd;
    s->words_bytes = info.words_bytes;
    s->id = info.id;
    snprintf(note, SHM_NOTE, "kdriver: peers map memory outside the pool, too");
    return 0;
}

void shm_share_close(struct shm_share *s)
{
    shm_fd_close(&s->fd);
    shm_fd_close(&s->control);
}

static void drop(struct shm_nic *n, uint32_t slot)
{
    struct pw_kd_slot arg = { .slot = slot };

    /* Fails in a fork()ed child, whose parent still has it. */
    (void)call(n->share.control, PW_KD_DROP, &arg);
}

/* What stays refused gets a key of zeros: to fail for it would be to fail again each
 * time. */
static int refusal(struct shm_nic *n, int err)
{
    __atomic_fetch_add(&n->nic.counts.attach_refused, 1, __ATOMIC_RELAXED);
    switch (err) {
    case -EDQUOT:
    case -ENOMEM:
    case -ENOSPC: return -ENOMEM;
    case -EAGAIN: return -EAGAIN;
    default:      return 0;
    }
}

int shm_pin(struct pw_nic *nic, void *addr, size_t len, unsigned access,
            struct pw_nic_key *key)
{
    struct shm_nic *n = (struct shm_nic *)nic;
    bool writable = access & (PW_WRITE | PW_ATOMIC);
    struct pw_kd_watch arg = {
        .start = (uint64_t)(uintptr_t)addr & ~(uint64_t)(PAGE - 1),
        .end = ((uint64_t)(uintptr_t)addr + len + PAGE - 1) & ~(uint64_t)(PAGE - 1),
        .access = PW_KD_READ | (writable ? PW_KD_WRITE : 0),
    };
    struct shm_key k;
    int err;

    memset(key, 0, sizeof(*key));
    if (n->share.fd < 0 || pw_pool_contains(n->config.pool, addr, len) ||
        (arg.end - arg.start) / PAGE >= 1u << 30)
        return 0;
    err = call(n->share.control, PW_KD_EXPORT, &arg);
    if (err)
        return refusal(n, err);
    if (arg.id != n->share.id) {    /* our descriptor's number is another's now */
        drop(n, arg.slot);
        return refusal(n, -EBADF);
    }
    k = (struct shm_key){ .offset = arg.offset, .start = arg.start, .word = arg.word,
                          .slot = arg.slot, .pages = (arg.end - arg.start) / PAGE & 0x3fffffff,
                          .writable = writable, .often = !!(access & PW_ATOMIC) };
    memcpy(key, &k, sizeof(k));
    return 0;
}

void shm_unpin(struct pw_nic *nic, void *addr, size_t len, const struct pw_nic_key *key)
{
    struct shm_nic *n = (struct shm_nic *)nic;
    struct shm_key k;

    (void)addr;
    (void)len;
    memcpy(&k, key, sizeof(k));
    if (k.slot && n->share.fd >= 0)
        drop(n, k.slot);
}
