/* SPDX-License-Identifier: BSD-3-Clause */
/* fuzz_changes.c - a slot changes, by one of the ways that fit its kind.
 *
 * Who calls has the slot for itself. Afterwards there is memory at the same
 * addresses, other pages as a rule, and the shadow says what is in it; or, where
 * another thread was faster to map there, the slot is empty.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/cache/fuzz.h"

#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

enum { RW = PROT_READ | PROT_WRITE };

/* What of the slot changes: whole pages, all of it as often as not. */
struct piece {
    unsigned char *addr;
    size_t from, len;
};

static struct piece some_pages(struct worker *w, const struct slot *s)
{
    size_t pages = s->len / PAGE, from = 0, n = pages;
    if (below(w, 2)) {
        from = below(w, pages);
        n = 1 + below(w, pages - from);
    }
    return (struct piece){ s->addr + from * PAGE, from * PAGE, n * PAGE };
}

static void zero(struct slot *s, struct piece p) { memset(s->shadow + p.from, 0, p.len); }

/* Another mapping lies at p now. */
static void mapped_at(struct slot *s, struct piece p) { s->one = p.len == s->len; }

/* The pages of p are unmapped. Map them again; 0, or the slot has been emptied. */
static int map_again(struct worker *w, struct slot *s, struct piece p)
{
    void *again = map_pages(w, p.addr, p.len,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1);
    if (again == p.addr) {
        zero(s, p);
        mapped_at(s, p);
        return 0;
    }
    if (s->kind == CELL)
        trouble(w, "another thread mapped into a cell");

    /* Somebody was faster. What lies around p is still ours. */
    size_t behind = s->len - p.from - p.len;
    if (p.from)
        munmap(s->addr, p.from);
    if (behind)
        munmap(p.addr + p.len, behind);
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    note(w, OP_RELEASE, s->addr, s->len, -EEXIST, 0);
    s->kind = NOTHING;
    return 1;
}

static void unmap_map(struct worker *w, struct slot *s, enum op op)
{
    struct piece p = some_pages(w, s);
    int err = op == OP_RAW_UNMAP ? (int)fuzz.raw_munmap(p.addr, p.len)
            : op == OP_SYSCALL_UNMAP ? (int)syscall(SYS_munmap, p.addr, p.len)
            : munmap(p.addr, p.len);
    if (err)
        trouble(w, "munmap");
    note(w, op, p.addr, p.len, 0, 0);
    map_again(w, s, p);
}

static void map_over(struct worker *w, struct slot *s)
{
    struct piece p = some_pages(w, s);
    if (!map_pages(w, p.addr, p.len, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1))
        trouble(w, "mmap over");
    zero(s, p);
    mapped_at(s, p);
    note(w, OP_MAP_OVER, p.addr, p.len, 0, 0);
}

static void *scratch(struct worker *w, size_t len)
{
    void *p = mmap(NULL, len, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        trouble(w, "mmap");
    return p;
}

static void move_away(struct worker *w, struct slot *s)
{
    struct piece p = some_pages(w, s);
    if (!s->one)
        p.len = PAGE;
    void *to = scratch(w, p.len);
    if (mremap(p.addr, p.len, p.len, MREMAP_MAYMOVE | MREMAP_FIXED, to) == MAP_FAILED)
        trouble(w, "mremap away");
    note(w, OP_MOVE_AWAY, p.addr, p.len, 0, 0);
    bool there = map_again(w, s, p) == 0;
    munmap(to, p.len);
    if (there && below(w, 2))
        slot_write(w, s, p.from, p.len);
}

static void move_onto(struct worker *w, struct slot *s)
{
    struct piece p = some_pages(w, s);
    unsigned char *from = scratch(w, p.len);
    unsigned char c = (unsigned char)below(w, 256);
    memset(from, c, p.len);
    if (mremap(from, p.len, p.len, MREMAP_MAYMOVE | MREMAP_FIXED, p.addr) == MAP_FAILED)
        trouble(w, "mremap onto");
    memset(s->shadow + p.from, c, p.len);
    mapped_at(s, p);
    note(w, OP_MOVE_ONTO, p.addr, p.len, 0, 0);
}

/* Fails where the range is of several mappings: then nothing has happened. */
static void take_pages(struct worker *w, struct slot *s)
{
    struct piece p = some_pages(w, s);
    void *to = mremap(p.addr, p.len, p.len, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
    note(w, OP_DONTUNMAP, p.addr, p.len, to == MAP_FAILED ? -errno : 0, 0);
    if (to == MAP_FAILED)
        return;
    zero(s, p);
    mapped_at(s, p);
    munmap(to, p.len);
}

static void shrink_grow(struct worker *w, struct slot *s)
{
    size_t pages = s->len / PAGE;
    if (pages < 2)
        return;
    size_t keep = (1 + below(w, pages - 1)) * PAGE;
    struct piece rest = { s->addr + keep, keep, s->len - keep };
    void *shrunk = mremap(s->addr, s->len, keep, 0);
    note(w, OP_SHRINK_GROW, rest.addr, rest.len, shrunk == MAP_FAILED ? -errno : 0, 0);
    if (shrunk == MAP_FAILED)       /* it is of several mappings */
        return;
    if (mremap(rest.addr - PAGE, PAGE, PAGE + rest.len, 0) != MAP_FAILED)
        zero(s, rest);
    else
        map_again(w, s, rest);
}

/* By way of a third place, and with no hole at any time, which another thread could
 * map into. */
static void trade_pages(struct worker *w, struct slot *s, struct slot *t)
{
    int leave = MREMAP_MAYMOVE | MREMAP_DONTUNMAP, fixed = MREMAP_MAYMOVE | MREMAP_FIXED;
    size_t n = s->len;
    void *third = mremap(s->addr, n, n, leave, NULL);
    if (third == MAP_FAILED ||
        mremap(t->addr, n, n, leave | MREMAP_FIXED, s->addr) == MAP_FAILED ||
        mremap(third, n, n, fixed, t->addr) == MAP_FAILED)
        trouble(w, "mremap of a pair");
}

static bool can_trade(const struct slot *s)
{
    return s->one && (s->kind == MAPPED || s->kind == CELL || s->kind == REUSED);
}

static void trade(struct worker *w, struct slot *s)
{
    struct slot *t = &fuzz.slots[below(w, SLOTS)];
    if (w->child || t == s || !slot_take(t))
        return;
    if (t->len == s->len && can_trade(s) && can_trade(t)) {
        unsigned char *shadow = s->shadow;
        trade_pages(w, s, t);
        note(w, OP_TRADE, s->addr, s->len, 0, 0);
        note(w, OP_TRADE, t->addr, t->len, 0, 0);
        s->shadow = t->shadow;
        t->shadow = shadow;
    }
    slot_leave(t);
}

static void dontneed(struct worker *w, struct slot *s, enum op op)
{
    struct piece p = some_pages(w, s);
    struct iovec v = { p.addr, p.len };
    long n = 0;
    switch (op) {
    case OP_DONTNEED_LOCKED:
        n = madvise(p.addr, p.len, MADV_DONTNEED_LOCKED);
        break;
    case OP_SYSCALL_DONTNEED:
        n = syscall(SYS_madvise, p.addr, p.len, MADV_DONTNEED);
        break;
    case OP_PROCESS_MADVISE: {
        int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
        n = process_madvise(self, &v, 1, MADV_DONTNEED, 0) == (ssize_t)p.len ? 0 : -1;
        close(self);
        break;
    }
    default:
        n = madvise(p.addr, p.len, MADV_DONTNEED);
        break;
    }
    note(w, op, p.addr, p.len, (int)n, 0);
    if (n && (op == OP_DONTNEED || op == OP_SYSCALL_DONTNEED))
        trouble(w, "madvise");
    if (!n)                 /* others this kernel may not have */
        zero(s, p);
}

static void guard(struct worker *w, struct slot *s)
{
    struct piece p = some_pages(w, s);
    int err = madvise(p.addr, p.len, MADV_GUARD_INSTALL);
    if (!err) {
        err = madvise(p.addr, p.len, MADV_GUARD_REMOVE);
        zero(s, p);
    }
    note(w, OP_GUARD, p.addr, p.len, err, 0);
}

/* What is in it is not defined until it is written. */
static void free_lazily(struct worker *w, struct slot *s)
{
    struct piece p = some_pages(w, s);
    madvise(p.addr, p.len, MADV_FREE);
    if (below(w, 2))
        madvise(p.addr, p.len, MADV_PAGEOUT);
    note(w, OP_FREE_LAZILY, p.addr, p.len, 0, 0);
    slot_write(w, s, p.from, p.len);
}

static void protect(struct worker *w, struct slot *s)
{
    struct piece p = some_pages(w, s);
    if (mprotect(p.addr, p.len, PROT_NONE) || mprotect(p.addr, p.len, RW))
        trouble(w, "mprotect");
    s->one &= p.len == s->len;
    note(w, OP_PROTECT, p.addr, p.len, 0, 0);
}

static void split(struct worker *w, struct slot *s)
{
    struct piece p = { s->addr + below(w, s->len / PAGE) * PAGE, 0, PAGE };
    if (mprotect(p.addr, p.len, PROT_READ) || mprotect(p.addr, p.len, RW))
        trouble(w, "mprotect");
    note(w, OP_SPLIT, p.addr, p.len, 0, 0);
}

/* Of shared memory, whose pages stay with the file unless they are removed. */
static void remove_pages(struct worker *w, struct slot *s)
{
    struct piece p = some_pages(w, s);
    if (madvise(p.addr, p.len, MADV_REMOVE))
        trouble(w, "MADV_REMOVE");
    zero(s, p);
    note(w, OP_REMOVE, p.addr, p.len, 0, 0);
}

static void punch(struct worker *w, struct slot *s)
{
    struct piece p = some_pages(w, s);
    if (fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)p.from,
                  (off_t)p.len))
        trouble(w, "fallocate");
    if (s->kind == FILED)           /* a private copy stays */
        zero(s, p);
    note(w, OP_PUNCH, p.addr, p.len, 0, 0);
}

/* Also what has been copied privately goes. */
static void cut(struct worker *w, struct slot *s)
{
    size_t from = below(w, s->len / PAGE) * PAGE;
    struct piece p = { s->addr + from, from, s->len - from };
    if (ftruncate(s->fd, (off_t)from) || ftruncate(s->fd, (off_t)s->len))
        trouble(w, "ftruncate");
    zero(s, p);
    note(w, OP_TRUNCATE, p.addr, p.len, 0, 0);
}

static void cut_by_open(struct worker *w, struct slot *s)
{
    char name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", s->fd);
    int fd = open(name, O_RDWR | O_TRUNC | O_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)s->len))
        trouble(w, "open(O_TRUNC)");
    close(fd);
    memset(s->shadow, 0, s->len);
    note(w, OP_OPEN_TRUNC, s->addr, s->len, 0, 0);
}

static void remap_segment(struct worker *w, struct slot *s)
{
    int id = shmget(IPC_PRIVATE, s->len, IPC_CREAT | 0600);
    if (id < 0 || shmat(id, s->addr, SHM_REMAP) == (void *)-1)
        trouble(w, "shmat(SHM_REMAP)");
    shmctl(id, IPC_RMID, NULL);
    memset(s->shadow, 0, s->len);
    note(w, OP_REMAP_SEGMENT, s->addr, s->len, 0, 0);
}

static void resize(struct worker *w, struct slot *s)
{
    size_t len = s->kind == LARGE ? (130 << 10) + (below(w, 8) << 15)
                                  : 100 + below(w, 1 << (9 + below(w, 8)));
    size_t was = s->len;
    unsigned char *p = realloc(s->addr, len);
    if (!p)
        trouble(w, "realloc");
    note(w, OP_REALLOC, s->addr, was, 0, 0);
    note(w, OP_REALLOC, p, len, 1, 0);
    s->addr = p;
    s->len = len;
    if (len > was)
        slot_write(w, s, was, len - was);
}

static void break_down_up(struct worker *w, struct slot *s)
{
    size_t from = below(w, s->len / PAGE) * PAGE;
    struct piece p = { s->addr + from, from, s->len - from };
    brk_take();
    if (sbrk(0) == s->addr + s->len) {
        if (brk(p.addr) || brk(p.addr + p.len))
            trouble(w, "brk");
        zero(s, p);
        note(w, OP_BREAK_DOWN_UP, p.addr, p.len, 0, 0);
    }
    brk_leave();
}

static void change_private(struct worker *w, struct slot *s)
{
    static const enum op any[] = {
        OP_UNMAP_MAP, OP_UNMAP_MAP, OP_UNMAP_MAP, OP_MAP_OVER, OP_MAP_OVER, OP_MOVE_AWAY,
        OP_MOVE_ONTO, OP_DONTUNMAP, OP_SHRINK_GROW, OP_TRADE, OP_TRADE, OP_DONTNEED,
        OP_DONTNEED, OP_DONTNEED_LOCKED, OP_GUARD, OP_FREE_LAZILY, OP_PROCESS_MADVISE,
        OP_SYSCALL_UNMAP, OP_SYSCALL_DONTNEED, OP_PROTECT,
        OP_RAW_UNMAP, OP_RAW_UNMAP,     /* only where the monitor sees them */
    };
    enum op op = any[below(w, sizeof any / sizeof any[0] - (fuzz.raw ? 0 : 2))];
    switch (op) {
    case OP_UNMAP_MAP: case OP_SYSCALL_UNMAP: case OP_RAW_UNMAP: unmap_map(w, s, op); break;
    case OP_MAP_OVER: map_over(w, s); break;
    case OP_MOVE_AWAY: move_away(w, s); break;
    case OP_MOVE_ONTO: move_onto(w, s); break;
    case OP_DONTUNMAP: take_pages(w, s); break;
    case OP_SHRINK_GROW: shrink_grow(w, s); break;
    case OP_TRADE: trade(w, s); break;
    case OP_GUARD: guard(w, s); break;
    case OP_FREE_LAZILY: free_lazily(w, s); break;
    case OP_PROTECT: protect(w, s); break;
    default: dontneed(w, s, op); break;
    }
}

void slot_change(struct worker *w, struct slot *s)
{
    size_t choice = below(w, 4);
    switch (s->kind) {
    case MAPPED: case CELL: case REUSED: change_private(w, s); break;
    case LARGE: case SMALL: resize(w, s); break;
    case SHARED: remove_pages(w, s); break;
    case FILED:
        if (choice == 0)
            remove_pages(w, s);
        else if (choice == 1)
            punch(w, s);
        else if (choice == 2)
            cut(w, s);
        else
            cut_by_open(w, s);
        break;
    case PRIVATE_FILE:
        if (choice == 0)
            punch(w, s);
        else if (choice == 1)
            cut_by_open(w, s);
        else
            cut(w, s);
        break;
    case SEGMENT: choice & 1 ? remove_pages(w, s) : remap_segment(w, s); break;
    case BREAK: break_down_up(w, s); break;
    case HUGE: choice & 1 ? dontneed(w, s, OP_DONTNEED) : split(w, s); break;
    default: break;
    }
}
