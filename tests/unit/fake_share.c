/* SPDX-License-Identifier: BSD-3-Clause */
/* fake_share.c - see fake_share.h. */
#define _GNU_SOURCE
#include "fake_share.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "btl/nic/shm_attach.h"

enum { CONTROLS = 64, SLOTS = 1024, PAGE = 4096 };
static const uint64_t huge = 2 << 20;

struct export {
    uint64_t start, end;
    bool taken;
};

struct control {
    int fd;
    uint64_t id, next;
    uint64_t *words;
    struct export exports[SLOTS];
};

struct fake_share fake_share;
static struct control *controls[CONTROLS];

static int fail(int err)
{
    errno = err;
    return -1;
}

static struct control *control_of(int fd)
{
    for (int i = 0; i < CONTROLS; i++)
        if (controls[i] && controls[i]->fd == fd)
            return controls[i];
    return NULL;
}

/* The one that had this descriptor before has been closed. */
static struct control *control_new(int fd)
{
    struct control *c = control_of(fd);
    int i = 0;

    if (!c) {
        while (i < CONTROLS && controls[i])
            i++;
        c = i < CONTROLS ? calloc(1, sizeof *c) : NULL;
        if (!c)
            return NULL;
        controls[i] = c;
    } else {
        munmap(c->words, SLOTS * sizeof *c->words);
        memset(c, 0, sizeof *c);
    }
    c->fd = fd;
    return c;
}

static int fake_open(const char *path, int flags)
{
    static uint64_t ids;
    struct control *c;
    void *words;
    int fd;

    (void)flags;
    if (strcmp(path, PW_KD_PATH))
        return fail(ENOENT);
    if (fake_share.open_error)
        return fail(fake_share.open_error);
    fd = memfd_create("fake share", MFD_CLOEXEC);
    c = fd < 0 || ftruncate(fd, (off_t)1 << 40) ? NULL : control_new(fd);
    if (!c)
        return fail(EMFILE);
    words = mmap(NULL, SLOTS * sizeof *c->words, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (words == MAP_FAILED)
        return -1;
    c->words = words;
    c->id = ++ids;
    c->next = PW_KD_EXPORTS;
    return fd;
}

static int info(struct control *c, struct pw_kd_info *out)
{
    if (fake_share.info_error)
        return fail(fake_share.info_error);
    *out = (struct pw_kd_info){ .version = fake_share.version,
                                .services = fake_share.services, .id = c->id,
                                .words_bytes = fake_share.words_bytes };
    return 0;
}

/* What is there goes into the memfd, and the memfd where it was. */
static bool replace(int fd, uint64_t offset, uint64_t start, uint64_t end)
{
    unsigned char in_core[16];
    void *at = (void *)(uintptr_t)start;
    size_t done = 0, len = end - start;

    for (uint64_t a = start; a < end; a += PAGE * sizeof in_core)
        if (mincore((void *)(uintptr_t)a, end - a < PAGE * sizeof in_core
                    ? end - a : PAGE * sizeof in_core, in_core))
            return false;
    while (done < len) {
        ssize_t n = pwrite(fd, (char *)at + done, len - done, (off_t)(offset + done));
        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return mmap(at, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
                (off_t)offset) != MAP_FAILED;
}

static int export(struct control *c, struct pw_kd_watch *arg)
{
    uint64_t offset = c->next + ((arg->start - c->next) & (huge - 1));
    uint32_t slot = PW_KD_FIRST_SLOT;

    if (arg->start % PAGE || arg->end % PAGE || arg->start >= arg->end)
        return fail(EINVAL);
    if (fake_share.export_errors) {
        fake_share.export_errors--;
        return fail(fake_share.export_error);
    }
    while (slot < SLOTS && c->exports[slot].taken)
        slot++;
    if (slot == SLOTS)
        return fail(ENOSPC);
    if (!replace(c->fd, offset, arg->start, arg->end))
        return fail(ENOENT);
    c->exports[slot] = (struct export){ arg->start, arg->end, true };
    c->next = offset + (arg->end - arg->start);
    arg->slot = slot;
    arg->word = __atomic_load_n(&c->words[slot], __ATOMIC_SEQ_CST);
    arg->offset = offset;
    arg->id = fake_share.other_id ? fake_share.other_id : c->id;
    fake_share.exports++;
    return 0;
}

static void move(struct control *c, uint32_t slot, enum pw_kd_event event)
{
    uint64_t word = c->words[slot];

    __atomic_store_n(&c->words[slot], ((word >> 8) + 1) << 8 | event, __ATOMIC_SEQ_CST);
}

static int drop(struct control *c, const struct pw_kd_slot *arg)
{
    if (arg->slot >= SLOTS || !c->exports[arg->slot].taken)
        return fail(ENOENT);
    c->exports[arg->slot].taken = false;
    move(c, arg->slot, PW_KD_DROPPED);
    fake_share.drops++;
    return 0;
}

static int share(struct control *c, struct pw_kd_share *out)
{
    if (fake_share.share_error)
        return fail(fake_share.share_error);
    out->fd = fcntl(c->fd, F_DUPFD_CLOEXEC, 0);
    return out->fd < 0 ? -1 : 0;
}

static int fake_ioctl(int fd, unsigned long request, void *arg)
{
    struct control *c = control_of(fd);

    if (!c)
        return fail(ENOTTY);
    if (fake_share.interrupts) {
        fake_share.interrupts--;
        return fail(EINTR);
    }
    switch (request) {
    case PW_KD_INFO:   return info(c, arg);
    case PW_KD_SHARE:  return share(c, arg);
    case PW_KD_EXPORT: return export(c, arg);
    case PW_KD_DROP:   return drop(c, arg);
    default:           return fail(ENOTTY);
    }
}

static void *fake_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
    if ((uint64_t)offset >= PW_KD_EXPORTS)
        fake_share.maps++;
    if (fake_share.map_error) {
        errno = fake_share.map_error;
        return MAP_FAILED;
    }
    return mmap(addr, len, prot, flags, fd, offset);
}

static const struct shm_device fake_device = { fake_open, fake_ioctl, fake_mmap };

void fake_share_install(void)
{
    fake_share = (struct fake_share){ .version = PW_KD_VERSION,
                                      .services = PW_KD_SERVICE_ATTACH,
                                      .words_bytes = SLOTS * sizeof(uint64_t) };
    shm_device = &fake_device;
}

void fake_share_change(const void *addr, enum pw_kd_event event)
{
    uint64_t at = (uint64_t)(uintptr_t)addr;

    for (int i = 0; i < CONTROLS; i++)
        for (uint32_t slot = 0; controls[i] && slot < SLOTS; slot++) {
            const struct export *e = &controls[i]->exports[slot];
            if (e->taken && e->start <= at && at < e->end)
                move(controls[i], slot, event);
        }
}
