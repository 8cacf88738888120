/* SPDX-License-Identifier: BSD-3-Clause */
/* oracle.c - a pin backend that remembers which frames it pinned.
 *
 * What goes wrong with the pinning itself is noticed here too (kept.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "pinwheel/uring.h"
#include "tests/cache/kept.h"
#include "tests/cache/oracle.h"

enum { PAGE = 4096, FILES = 64, AWAY_TRIES = 10000 };
#define FRAME_PRESENT (1ull << 63)
#define FRAME_AWAY (1ull << 62)         /* in the swap, or on its way between frames */
#define FRAME_NUMBER ((1ull << 55) - 1)

/* What the pinning left behind: the ring's handle and what we know. */
struct known {
    struct kept kept;
    uint64_t frames[];
};

struct handle {
    struct pw_uring_handle ring;
    struct known *known;
};

/* Where the data of one transfer comes from or goes to. */
struct io_file {
    int busy, fd;
};

struct oracle {
    struct pw_pin_ops ops;
    unsigned slots;
    bool sees_frames;
    pthread_mutex_t lock;       /* guards what follows while it is opened anew */
    pid_t owner;                /* whose the rest is: a child needs its own */
    struct pw_uring *ring;
    int pagemap;
    struct io_file files[FILES];
};

/* A forked child opens its own: a ring is its opener's, and /proc/self was the
 * parent when the file was opened. */
static int own(struct oracle *o)
{
    pid_t self = getpid();
    if (__atomic_load_n(&o->owner, __ATOMIC_ACQUIRE) == self)
        return 0;
    struct pw_uring_config config = { .buffers = o->slots };
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (pagemap < 0)
        return -errno;
    struct pw_uring *ring;
    int err = pw_uring_open(&config, &ring);
    if (err) {
        close(pagemap);
        return err;
    }
    if (o->ring)
        pw_uring_close(o->ring);
    if (o->pagemap >= 0)
        close(o->pagemap);
    o->ring = ring;
    o->pagemap = pagemap;
    for (int i = 0; i < FILES; i++) {
        if (o->files[i].fd >= 0)
            close(o->files[i].fd);
        o->files[i] = (struct io_file){ .fd = -1 };
    }
    __atomic_store_n(&o->owner, self, __ATOMIC_RELEASE);
    return 0;
}

/* A child that was forked while another thread held the lock could not take it;
 * but there the lock is only ever held by a thread that has just been forked. */
static int ensure_own(struct oracle *o)
{
    if (__atomic_load_n(&o->owner, __ATOMIC_ACQUIRE) == getpid())
        return 0;
    pthread_mutex_lock(&o->lock);
    int err = own(o);
    pthread_mutex_unlock(&o->lock);
    return err;
}

/* ---- frames ---- */

/* Reading as the program would, the kernel waits for a page that is being moved. */
static bool can_be_read(uintptr_t page)
{
    char byte;
    struct iovec local = { &byte, 1 }, remote = { (void *)page, 1 };
    return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == 1;
}

static int read_entries(struct oracle *o, uintptr_t start, size_t pages, uint64_t *out)
{
    size_t size = pages * sizeof *out;
    ssize_t n = pread(o->pagemap, out, size, (off_t)(start / PAGE * sizeof *out));
    return n == (ssize_t)size ? 0 : n < 0 ? -errno : -EFAULT;
}

/* Compaction begins to move pages of shared memory although they are pinned: it takes
 * them out of the page tables, finds that it may not move them, and puts them back.
 * Who looks meanwhile finds no page, where the program has the same one as ever.
 * Source: Linux mm/compaction.c, isolate_migratepages_block(), which spares anonymous
 * pages that are pinned, no others. */
static int wait_for_page(struct oracle *o, uintptr_t page, uint64_t *entry)
{
    int err = 0;
    for (int tries = 0; !err && *entry & FRAME_AWAY && tries < AWAY_TRIES; tries++) {
        if (!can_be_read(page))
            break;
        err = read_entries(o, page, 1, entry);
    }
    return err;
}

/* The number of each page's frame; 0 where there is none. */
static int read_frames(struct oracle *o, uintptr_t start, size_t pages, uint64_t *out)
{
    int err = read_entries(o, start, pages, out);
    for (size_t i = 0; !err && i < pages; i++) {
        err = wait_for_page(o, start + i * PAGE, &out[i]);
        out[i] = out[i] & FRAME_PRESENT ? out[i] & FRAME_NUMBER : 0;
    }
    return err;
}

/* Without the privilege the kernel shows the number 0. */
static bool frames_are_shown(struct oracle *o)
{
    static unsigned char here[2 * PAGE];
    uintptr_t page = ((uintptr_t)here + PAGE - 1) & -(uintptr_t)PAGE;
    uint64_t frame;
    *(volatile unsigned char *)page = 1;
    return read_frames(o, page, 1, &frame) == 0 && frame != 0;
}

bool oracle_sees_frames(const struct oracle *o) { return o->sees_frames; }

static struct known *known_of(const struct pw_region *r)
{
    struct known *k = ((const struct handle *)(const void *)r->handle)->known;
    kept_check(&k->kept);
    return k;
}

int oracle_frames(struct oracle *o, const struct pw_region *r, const void *addr,
                  size_t len, struct oracle_frame *bad)
{
    const struct known *k = known_of(r);
    uintptr_t page = (uintptr_t)addr & -(uintptr_t)PAGE;
    uintptr_t end = (uintptr_t)addr + len;
    int err = ensure_own(o);

    while (!err && page < end) {
        uint64_t now[64];
        size_t n = (end - page + PAGE - 1) / PAGE;
        if (n > 64)
            n = 64;
        err = read_frames(o, page, n, now);
        const uint64_t *then = k->frames + (page - k->kept.start) / PAGE;
        for (size_t i = 0; !err && i < n; i++)
            if (now[i] != then[i] || !now[i]) {
                *bad = (struct oracle_frame){ page + i * PAGE, then[i], now[i] };
                return 1;
            }
        page += n * PAGE;
    }
    return err;
}

/* ---- the backend ---- */

static int oracle_pin(void *ctx, void *addr, size_t len, unsigned access, void *handle)
{
    struct oracle *o = ctx;
    struct handle *h = handle;
    size_t pages = len / PAGE;
    int err = ensure_own(o);
    if (err)
        return err;

    struct known *k = malloc(sizeof *k + pages * sizeof k->frames[0]);
    if (!k)
        return -ENOMEM;
    k->kept = kept_begin(o->owner, addr, len);
    err = pw_uring_pin.pin(o->ring, addr, len, access, &h->ring);
    if (err) {
        free(k);
        return err;
    }
    if (o->sees_frames && read_frames(o, k->kept.start, pages, k->frames))
        memset(k->frames, 0, pages * sizeof k->frames[0]);      /* will not compare */
    h->known = k;
    return 0;
}

static void oracle_unpin(void *ctx, void *addr, size_t len, void *handle)
{
    struct oracle *o = ctx;
    struct handle *h = handle;
    struct known *k = h->known;
    kept_end(k ? &k->kept : NULL, addr, len);
    pw_uring_pin.unpin(o->ring, addr, len, &h->ring);
    h->known = NULL;
    free(k);
}

const struct pw_pin_ops *oracle_ops(struct oracle *o) { return &o->ops; }

/* ---- data ---- */

static struct io_file *take_file(struct oracle *o)
{
    for (int i = 0;; i = (i + 1) % FILES) {
        struct io_file *f = &o->files[i];
        if (__atomic_load_n(&f->busy, __ATOMIC_RELAXED) ||
            __atomic_exchange_n(&f->busy, 1, __ATOMIC_ACQUIRE))
            continue;
        if (f->fd < 0)
            f->fd = memfd_create("oracle", MFD_CLOEXEC);
        if (f->fd >= 0)
            return f;
        __atomic_store_n(&f->busy, 0, __ATOMIC_RELEASE);
        return NULL;
    }
}

static void leave_file(struct io_file *f) { __atomic_store_n(&f->busy, 0, __ATOMIC_RELEASE); }

static int whole(ssize_t done, size_t len)
{
    return done < 0 ? (int)done : (size_t)done == len ? 0 : -EIO;
}

int oracle_in(struct oracle *o, const struct pw_region *r, void *addr, size_t len,
              const void *data)
{
    known_of(r);
    int err = ensure_own(o);
    struct io_file *f = err ? NULL : take_file(o);
    if (!f)
        return err ? err : -errno;
    err = whole(pwrite(f->fd, data, len, 0), len);
    if (!err)
        err = whole(pw_uring_read(o->ring, f->fd, r->handle, addr, len, 0), len);
    leave_file(f);
    return err;
}

int oracle_out(struct oracle *o, const struct pw_region *r, const void *addr, size_t len,
               void *data)
{
    known_of(r);
    int err = ensure_own(o);
    struct io_file *f = err ? NULL : take_file(o);
    if (!f)
        return err ? err : -errno;
    err = whole(pw_uring_write(o->ring, f->fd, r->handle, addr, len, 0), len);
    if (!err)
        err = whole(pread(f->fd, data, len, 0), len);
    leave_file(f);
    return err;
}

/* ---- open and close ---- */

int oracle_open(unsigned slots, struct oracle **out)
{
    struct oracle *o = calloc(1, sizeof *o);
    if (!o)
        return -ENOMEM;
    pthread_mutex_init(&o->lock, NULL);
    o->slots = slots;
    o->pagemap = -1;
    for (int i = 0; i < FILES; i++)
        o->files[i].fd = -1;
    o->ops = (struct pw_pin_ops){
        .name = "oracle", .handle_size = sizeof(struct handle),
        .pin = oracle_pin, .unpin = oracle_unpin,
    };
    int err = own(o);
    if (err) {
        free(o);
        return err;
    }
    o->sees_frames = frames_are_shown(o);
    *out = o;
    return 0;
}

void oracle_close(struct oracle *o)
{
    if (o->owner == getpid())
        pw_uring_close(o->ring);
    close(o->pagemap);
    for (int i = 0; i < FILES; i++)
        if (o->files[i].fd >= 0)
            close(o->files[i].fd);
    free(o);
}
