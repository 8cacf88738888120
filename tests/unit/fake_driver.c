/* SPDX-License-Identifier: BSD-3-Clause */
/* fake_driver.c - see fake_driver.h. The words are in a memfd, whose descriptor stands
 * for the control descriptor. */
#include "fake_driver.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { BYTES = FAKE_SLOTS * 8 };

struct fake_driver fake_driver;
#define f (&fake_driver)

void fake_driver_reset(void)
{
    *f = (struct fake_driver){ .version = PW_KD_VERSION, .services = PW_KD_SERVICE_WATCH,
                               .words_bytes = BYTES };
    pthread_mutex_init(&f->lock, NULL);
    for (int i = 0; i < FAKE_CONTROLS; i++)
        f->control[i].fd = -1;
}

static struct fake_control *control_of(int fd)
{
    for (int i = 0; i < FAKE_CONTROLS; i++)
        if (fd >= 0 && f->control[i].fd == fd)
            return &f->control[i];
    return NULL;
}

struct fake_control *fake_driver_control(void)
{
    struct fake_control *c = NULL;

    for (int i = 0; i < FAKE_CONTROLS; i++)
        if (f->control[i].fd >= 0 && (!c || f->control[i].id > c->id))
            c = &f->control[i];
    return c;
}

static uint64_t move(uint64_t *word, enum pw_kd_event event)
{
    uint64_t was = __atomic_load_n(word, __ATOMIC_RELAXED), now;

    do
        now = ((was >> 8) + 1) << 8 | event;
    while (!__atomic_compare_exchange_n(word, &was, now, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_RELAXED));
    return now;
}

static void move_both(struct fake_control *c, uint32_t slot, enum pw_kd_event event)
{
    move(&c->words[slot], event);
    move(&c->words[0], event);
}

static int fake_open(void)
{
    struct fake_control *c = f->control;

    f->opens++;
    if (f->open_error)
        return -f->open_error;
    while (c->words)
        c++;
    c->fd = memfd_create("fake", MFD_CLOEXEC);
    if (c->fd < 0 || ftruncate(c->fd, BYTES))
        return -errno;
    c->words = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, c->fd, 0);
    c->id = ++f->ids;
    c->owner = getpid();
    return c->fd;
}

static int watch(struct fake_control *c, struct pw_kd_watch *arg)
{
    uint32_t slot = PW_KD_FIRST_SLOT;

    if (f->watch_interrupts && f->watch_interrupts--)
        return -EINTR;
    if (f->watch_errors && f->watch_errors--)
        return -f->watch_error;
    if (f->read_only && arg->access & PW_KD_WRITE)
        return -EACCES;
    while (slot < FAKE_SLOTS && c->watch[slot].taken)
        slot++;
    if (slot == FAKE_SLOTS)
        return -ENOSPC;
    arg->slot = slot;
    arg->word = c->words[slot];
    arg->id = c->id;
    c->watch[slot] = (struct fake_watch){ true, *arg };
    f->watches++;
    if (f->answers_slot)
        arg->slot = f->answers_slot;
    return 0;
}

static int drop(struct fake_control *c, uint32_t slot)
{
    if (slot >= FAKE_SLOTS || !c->watch[slot].taken)
        return -ENOENT;
    f->drops++;
    c->watch[slot].taken = false;
    move(&c->words[slot], PW_KD_DROPPED);
    return 0;
}

static int info(const struct fake_control *c, struct pw_kd_info *out)
{
    *out = (struct pw_kd_info){ .version = f->version, .services = f->services,
                                .words_bytes = f->words_bytes, .id = c->id };
    return -f->info_error;
}

static int answer(int fd, unsigned long request, void *arg)
{
    struct fake_control *c = control_of(fd);
    struct pw_kd_slot *slot = arg;

    if (!c) {
        f->foreign++;
        return write(fd, NULL, 0) < 0 && errno == EBADF ? -EBADF : -ENOTTY;
    }
    if (request == PW_KD_INFO)
        return info(c, arg);
    if (c->owner != getpid())
        return -EXDEV;
    switch (request) {
    case PW_KD_WATCH:
        return watch(c, arg);
    case PW_KD_DROP:
        return drop(c, slot->slot);
    default:
        return -ENOTTY;
    }
}

static int fake_ioctl(int fd, unsigned long request, void *arg)
{
    int err;

    pthread_mutex_lock(&f->lock);
    err = answer(fd, request, arg);
    pthread_mutex_unlock(&f->lock);
    return err;
}

static int fake_map(void *at, size_t bytes, int fd, void **out)
{
    if (f->map_error)
        return -f->map_error;
    *out = mmap(at, bytes, PROT_READ, MAP_SHARED | (at ? MAP_FIXED : 0), fd, 0);
    return *out == MAP_FAILED ? -errno : 0;
}

void fake_driver_close(int fd)
{
    struct fake_control *c = control_of(fd);

    close(fd);
    if (!c)
        return;
    for (uint32_t s = PW_KD_FIRST_SLOT; s < FAKE_SLOTS; s++)
        if (c->watch[s].taken && c->owner == getpid())
            move_both(c, s, PW_KD_DROPPED);
    c->fd = -1;
}

static void fake_close(int fd)
{
    f->closes++;
    f->foreign += !control_of(fd);
    fake_driver_close(fd);
}

void fake_driver_change(uintptr_t start, uintptr_t end, enum pw_kd_event event)
{
    pthread_mutex_lock(&f->lock);
    for (int i = 0; i < FAKE_CONTROLS; i++) {
        struct fake_control *c = &f->control[i];

        if (c->fd < 0 || c->owner != getpid())
            continue;
        for (uint32_t s = PW_KD_FIRST_SLOT; s < FAKE_SLOTS; s++)
            if (c->watch[s].taken && c->watch[s].arg.start < end &&
                start < c->watch[s].arg.end)
                move_both(c, s, event);
    }
    pthread_mutex_unlock(&f->lock);
}

const struct pw_kdriver_sys fake_driver_sys = {
    .open = fake_open, .ioctl = fake_ioctl, .map = fake_map, .close = fake_close,
};
