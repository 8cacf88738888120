/* SPDX-License-Identifier: BSD-3-Clause */
/* fuzz_areas.c - memory and mappings. Each area has a window of addresses of its own,
 * where nothing else ever is, so an area that is gone is not taken for another one.
 *
 * Start at touch(). An area is touched below its lock, so a SIGSEGV is never our own
 * doing.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/mman.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/vm/fuzz.h"

#define WINDOW (1ul << 38)
#define WINDOWS 0x100000000000ul
#define VAST_WINDOW 0x200000000000ul
#define VAST_MOST (1ul << 45)
#define AREA_MOST (4ul << 20)

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

struct area areas[AREAS];
uint32_t me, myself;
static _Atomic uint64_t generations;

uint64_t tag_of(enum whose whose, uint32_t number)
{
    return (uint64_t)((unsigned)whose << 24 | (number & 0xffffff)) << 32;
}

void areas_open(void)
{
    for (int i = 0; i < AREAS; i++) {
        pthread_rwlock_init(&areas[i].lock, NULL);
        areas[i].file = -1;
    }
}

static struct area *find(struct rng *r, unsigned kinds, int (*lock)(pthread_rwlock_t *))
{
    int from = (int)below(r, AREAS);

    for (int i = 0; i < AREAS; i++) {
        struct area *a = &areas[(from + i) % AREAS];

        if (lock(&a->lock) != 0)
            continue;
        if (kinds & 1u << a->kind && !a->elses)
            return a;
        pthread_rwlock_unlock(&a->lock);
    }
    return NULL;
}

struct area *area_read(struct rng *r, unsigned kinds)
{
    return find(r, kinds, pthread_rwlock_tryrdlock);
}

struct area *area_write(struct rng *r, unsigned kinds)
{
    return find(r, kinds, pthread_rwlock_trywrlock);
}

void area_done(struct area *a)
{
    pthread_rwlock_unlock(&a->lock);
}

/* Somewhere in its window; equal to modulo, modulo 2 MiB, or anywhere. */
char *area_place(struct rng *r, const struct area *a, size_t len, uint64_t modulo)
{
    uint64_t base = WINDOWS + (uint64_t)(a - areas) * WINDOW;
    uint64_t at = base + HUGE_PAGE * (1 + below(r, (WINDOW - 2 * len) / HUGE_PAGE - 2));

    if (one_in(r, 4))
        return (char *)(at + PAGE * below(r, HUGE_PAGE / PAGE));
    return (char *)(at + modulo % HUGE_PAGE);
}

void area_settle(struct area *a, enum kind kind, char *at, size_t len, int prot,
                 uint64_t tag)
{
    a->kind = kind;
    a->at = at;
    a->len = len;
    a->prot = a->most = prot;
    a->may_bus = kind == POOLED;
    a->tag = tag;
    a->generation = atomic_fetch_add(&generations, 1) + 1;
    atomic_store(&a->exports, 0);
}

void area_unmap(struct area *a)
{
    bool vast = a->kind == VAST;

    munmap(vast ? (void *)VAST_WINDOW : (void *)(WINDOWS + (uint64_t)(a - areas) * WINDOW),
           vast ? VAST_MOST : WINDOW);
    if (a->file >= 0)
        close(a->file);
    a->file = -1;
    a->kind = NOTHING;
}

/* An export of it has ended, if it is the same one still. */
void area_no_longer_shown(struct area *a, uint64_t generation)
{
    if (pthread_rwlock_tryrdlock(&a->lock) != 0)
        return;
    if (a->generation == generation)
        atomic_fetch_sub(&a->exports, 1);
    pthread_rwlock_unlock(&a->lock);
}

/* ---- cells ---- */

static bool belongs(const struct area *a, uint64_t value)
{
    uint64_t tag = value >> 32 << 32;

    if (value == 0 || tag == a->tag)
        return true;
    if (a->kind == ATTACHED && a->tag == 0)
        return tag >> 56 != SECRET;
    /* A forked child finds what its parent was about to write. */
    return (a->kind == PRIVATE || a->kind == SHARED) && tag == tag_of(SECRET, me);
}

struct touch {
    struct area *area;
    struct rng *r;
    unsigned cells;
    bool write;
    volatile uint64_t *at;      /* the last one */
    uint64_t value;
    bool foreign;
};

static void touch_cells(void *arg)
{
    struct touch *t = arg;
    struct area *a = t->area;

    for (unsigned i = 0; i < t->cells; i++) {
        t->at = (volatile uint64_t *)a->at + below(t->r, a->len / 8);
        t->value = *t->at;
        if (!belongs(a, t->value)) {
            t->foreign = true;
            return;
        }
        if (t->write)
            *t->at = a->tag | (uint32_t)rng_next(t->r);
    }
}

/* The words of a control descriptor: a count never goes back. */
static void touch_words(void *arg)
{
    struct touch *t = arg;
    struct area *a = t->area;

    for (unsigned i = 0; i < PAGE / 8 && i < a->len / 8; i++) {
        uint64_t last = a->words[i];

        t->at = (volatile uint64_t *)a->at + i;
        t->value = *t->at;
        if (t->value >> 8 < last >> 8) {
            t->foreign = true;
            return;
        }
        /* Another thread may have written a later one there; then the check is weaker. */
        a->words[i] = t->value;
    }
}

static void touch(struct rng *r, struct area *a)
{
    struct touch t = { .area = a, .r = r, .cells = 1 + (unsigned)below(r, 64) };
    int signal;

    if (!(a->prot & PROT_READ))
        return;
    t.write = a->prot & PROT_WRITE && a->tag && one_in(r, 2);
    signal = guarded(a->kind == WORDS ? touch_words : touch_cells, &t);
    atomic_fetch_add(&board->touches, 1);
    if (t.foreign)
        broken("%#lx is seen at %p of an area of kind %d, tag %#lx, actor %u",
               (unsigned long)t.value, (void *)t.at, a->kind, (unsigned long)a->tag, me);
    if (signal == SIGSEGV || (signal == SIGBUS && !a->may_bus))
        broken("signal %d for a touch of %p in an area of kind %d at %p, %zu bytes", signal,
               (void *)t.at, a->kind, (void *)a->at, a->len);
}

void area_touch(struct rng *r)
{
    struct area *a = area_read(r, 1 << PRIVATE | 1 << SHARED | 1 << WORDS | 1 << ATTACHED |
                               1 << POOLED);

    if (!a)
        return;
    touch(r, a);
    area_done(a);
}

/* ---- memory of our own ---- */

static void memory_vast(struct rng *r, struct area *a)
{
    size_t len = (1ul << (32 + below(r, 13))) & ~(PAGE - 1);
    void *p =
        mmap((void *)VAST_WINDOW, len, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);

    if (p != MAP_FAILED)
        area_settle(a, VAST, p, len, PROT_READ | PROT_WRITE, 0);
}

static int memory_file(size_t len)
{
    int file = memfd_create("fuzz", MFD_CLOEXEC);

    if (file >= 0 && ftruncate(file, (off_t)len)) {
        close(file);
        return -1;
    }
    return file;
}

void area_memory(struct rng *r)
{
    struct area *a = area_write(r, 1 << NOTHING);
    bool shared = one_in(r, 3);
    size_t len = PAGE * rng_length(r, AREA_MOST / PAGE);
    int file = -1;
    void *at;

    if (!a)
        return;
    if (one_in(r, 12)) {
        memory_vast(r, a);
        goto done;
    }
    if (one_in(r, 3))
        len = HUGE_PAGE * (1 + below(r, AREA_MOST / HUGE_PAGE));
    if (shared && (file = memory_file(len)) < 0)
        goto done;
    at = mmap(area_place(r, a, len, 0), len, PROT_READ | PROT_WRITE,
              (shared ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS) | MAP_FIXED_NOREPLACE |
              (one_in(r, 2) ? MAP_POPULATE : 0), file, 0);
    if (at == MAP_FAILED) {
        if (file >= 0)
            close(file);
        goto done;
    }
    area_settle(a, shared ? SHARED : PRIVATE, at, len, PROT_READ | PROT_WRITE,
                tag_of(OPEN_TO_ALL, me));
    a->file = file;
    touch(r, a);
done:
    area_done(a);
}

/* ---- changes ---- */

void area_lose(struct rng *r)
{
    struct area *a = area_write(r, ~(1u << NOTHING));

    if (!a)
        return;
    if (a->kind != VAST && a->len > PAGE && one_in(r, 3)) {
        /* A part of it; we go on with what is before. */
        size_t keep = PAGE * (1 + below(r, a->len / PAGE - 1));
        size_t rest = one_in(r, 2) ? PAGE : a->len - keep;

        munmap(a->at + keep, rest);
        a->len = keep;
    } else {
        area_unmap(a);
    }
    area_done(a);
}

/* Mappings of the driver do not grow. */
void area_remap(struct rng *r)
{
    struct area *a = area_write(r, 1 << PRIVATE | 1 << SHARED | 1 << WORDS | 1 << ATTACHED |
                                1 << POOLED);
    bool drivers;
    size_t len;
    char *to, *at;

    if (!a)
        return;
    drivers = a->kind >= WORDS;
    len = one_in(r, 2) ? a->len : PAGE * rng_length(r, a->len / PAGE + 4);
    to = area_place(r, a, a->len + len, (uint64_t)a->at);
    if (to + len <= a->at || to >= a->at + a->len) {
        int flags = MREMAP_MAYMOVE | MREMAP_FIXED | (one_in(r, 8) ? MREMAP_DONTUNMAP : 0);
        size_t old = one_in(r, 16) ? 0 : a->len;

        at = mremap(a->at, old, len, flags, to);
        if (at != MAP_FAILED && drivers && len > a->len)
            broken("a mapping of kind %d has grown from %zu to %zu bytes", a->kind, a->len,
                   len);
        if (at != MAP_FAILED && (old == 0 || flags & MREMAP_DONTUNMAP)) {
            munmap(at, len);
            /* Its pages have gone with it; a driver's must come again. */
            a->may_bus |= a->kind == WORDS;
        } else if (at != MAP_FAILED) {
            a->at = at;
            a->may_bus |= a->kind == SHARED && len > a->len;
            a->len = len;
        } else if (old && len < a->len) {
            /* Cut before it was moved, perhaps. */
            a->len = len;
        }
    }
    area_done(a);
}

void area_protect(struct rng *r)
{
    struct area *a = area_write(r, ~(1u << NOTHING | 1u << VAST));
    static const int rights[] = { PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE,
                                  PROT_READ | PROT_WRITE, PROT_READ | PROT_EXEC };
    int prot = rights[below(r, 5)];
    size_t from = 0, len;

    if (!a)
        return;
    len = a->len;
    if (one_in(r, 3)) {
        from = PAGE * below(r, a->len / PAGE);
        len = PAGE * (1 + below(r, (a->len - from) / PAGE));
    }
    if (mprotect(a->at + from, len, prot) != 0) {
        a->prot &= prot;
    } else {
        if ((a->kind == WORDS || a->kind == ATTACHED) && prot & ~a->most)
            broken("mprotect adds %#x to a mapping of kind %d that has %#x", prot, a->kind,
                   a->most);
        a->prot = len == a->len ? prot : a->prot & prot;
    }
    area_done(a);
}

void area_advise(struct rng *r)
{
    struct area *a = area_read(r, ~(1u << NOTHING | 1u << VAST));
    static const int advices[] = {
        MADV_DONTNEED,   MADV_DONTNEED,      MADV_FREE,           MADV_HUGEPAGE,
        MADV_NOHUGEPAGE, MADV_DOFORK,        MADV_COLLAPSE,       MADV_PAGEOUT,
        MADV_COLD,       MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_REMOVE,
        MADV_DONTDUMP,   MADV_DODUMP,        MADV_KEEPONFORK,     MADV_WILLNEED,
        MADV_MERGEABLE,
    };
    int advice = advices[below(r, sizeof advices / sizeof *advices)];
    size_t from, len;

    if (!a)
        return;
    from = PAGE * below(r, a->len / PAGE);
    len = PAGE * (1 + below(r, (a->len - from) / PAGE));
    /* Nothing brings words back that their process itself has thrown away. */
    a->may_bus |= a->kind == WORDS;
    madvise(a->at + from, len, advice);
    area_done(a);
}

void area_punch(struct rng *r)
{
    struct area *a = area_read(r, 1 << SHARED);

    if (!a)
        return;
    if (one_in(r, 8)) {
        a->may_bus = true;
        if (ftruncate(a->file, (off_t)(PAGE * below(r, a->len / PAGE + 1)))) {
            /* as it was */
        }
    } else {
        fallocate(a->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                  (off_t)(PAGE * below(r, a->len / PAGE)),
                  (off_t)(PAGE * rng_length(r, 512)));
    }
    area_done(a);
}

/* What else the kernel does with pages. */
void area_other(struct rng *r)
{
    struct area *a = area_read(r, 1 << PRIVATE | 1 << SHARED | 1 << WORDS | 1 << ATTACHED |
                               1 << POOLED);
    unsigned char seen[AREA_MOST / PAGE + 1];
    char bytes[64];
    size_t len;

    if (!a)
        return;
    len = a->len < AREA_MOST ? a->len : AREA_MOST;
    switch (below(r, 6)) {
    case 0: mlock(a->at, len); break;
    case 1: munlock(a->at, len); break;
    case 2: msync(a->at, len, MS_SYNC); break;
    case 3: mincore(a->at, len, seen); break;
    case 4: {
        struct iovec { void *at; size_t len; } to = { bytes, sizeof bytes },
            from = { a->at + 8 * below(r, (len - sizeof bytes) / 8), sizeof bytes };

        syscall(SYS_process_vm_readv, getpid(), &to, 1, &from, 1, 0);
        break;
    }
    default:
        syscall(SYS_mlock2, a->at, len, 1 /* MLOCK_ONFAULT */);
    }
    area_done(a);
}

/* ---- what nobody may see ---- */

struct fill {
    struct area *area;
    uint64_t value;
    volatile uint64_t *wrong;
};

static void fill_write(void *arg)
{
    struct fill *f = arg;

    for (size_t i = 0; i < f->area->len / 8; i += 61)
        ((volatile uint64_t *)f->area->at)[i] = f->value;
}

static void fill_check(void *arg)
{
    struct fill *f = arg;

    for (size_t i = 0; i < f->area->len / 8; i += 61)
        if (((volatile uint64_t *)f->area->at)[i] != f->value)
            f->wrong = (volatile uint64_t *)f->area->at + i;
}

/* Memory that no export shows, or none any more, is written and read for a moment: who
 * still had it mapped would find what he must not, or write what we find. */
void area_secret(struct rng *r)
{
    struct area *a = area_write(r, 1 << PRIVATE | 1 << SHARED);
    struct fill f = { .area = a };

    if (!a)
        return;
    if (atomic_load(&a->exports) != 0 || a->may_bus ||
        (a->prot & (PROT_READ | PROT_WRITE)) != (PROT_READ | PROT_WRITE))
        goto done;
    f.value = tag_of(SECRET, me) | 7;
    if (guarded(fill_write, &f))
        broken("a signal for memory of our own");
    for (uint64_t n = below(r, 20); n > 0; n--)
        sched_yield();
    if (guarded(fill_check, &f))
        broken("a signal for memory of our own");
    if (f.wrong)
        broken("somebody wrote %#lx to %p, memory of actor %u that nobody may see",
               (unsigned long)*f.wrong, (void *)f.wrong, me);
    f.value = tag_of(OPEN_TO_ALL, me) | 8;
    guarded(fill_write, &f);
    atomic_fetch_add(&board->secrets, 1);
done:
    area_done(a);
}

/* ---- children ---- */

static void read_one(void *arg)
{
    (void)*(volatile char *)arg;
}

/* What a thread of the parent had locked, for reading perhaps, is left alone for good. */
void areas_after_fork(void)
{
    for (int i = 0; i < AREAS; i++) {
        struct area *a = &areas[i];

        a->elses = true;
        if (pthread_rwlock_trywrlock(&a->lock) != 0)
            continue;
        if (a->kind == ATTACHED && guarded(read_one, a->at) != SIGSEGV)
            broken("a child has inherited what its parent had attached");
        if (a->kind == ATTACHED)
            a->kind = NOTHING;
        a->elses = a->kind == SHARED;
        pthread_rwlock_unlock(&a->lock);
    }
}
