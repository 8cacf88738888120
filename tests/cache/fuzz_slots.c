/* SPDX-License-Identifier: BSD-3-Clause */
/* fuzz_slots.c - the slots: who has them, and where their memory comes from.
 *
 * Addresses shall change hands at once. So sizes are few, what one thread has just
 * unmapped is offered to all, and a window of cells is mapped and unmapped cell by
 * cell, neighbour beside neighbour.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <unistd.h>

#include "tests/cache/fuzz.h"

#define WINDOW ((unsigned char *)0x100000000000)    /* far from what the kernel gives */
enum { NOISE = 4 << 20, RECENT = 8, RW = PROT_READ | PROT_WRITE };

const char *const kind_names[KINDS] = {
    "nothing", "mapped", "cell", "reused", "large", "small", "shared", "file",
    "private file", "segment", "break", "huge",
};

static unsigned char *noise;                /* NOISE bytes */
static int cell_slots[CELLS];               /* slot + 1, or 0 */
static uintptr_t recent[RECENT];            /* address | pages: unmapped just now */
static pthread_mutex_t break_lock = PTHREAD_MUTEX_INITIALIZER;
static int break_taken;                     /* one slot at most is at the break */

uint64_t draw(struct worker *w)
{
    uint64_t z = w->random += 0x9e3779b97f4a7c15u;      /* splitmix64 */
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* ---- who has it ---- */

bool slot_take(struct slot *s)
{
    int free = 0;
    return __atomic_compare_exchange_n(&s->state, &free, -1, false, __ATOMIC_ACQUIRE,
                                       __ATOMIC_RELAXED);
}

bool slot_share(struct slot *s)
{
    int n = __atomic_load_n(&s->state, __ATOMIC_RELAXED);
    while (n >= 0)
        if (__atomic_compare_exchange_n(&s->state, &n, n + 1, false, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED))
            return true;
    return false;
}

void slot_leave(struct slot *s)
{
    if (__atomic_load_n(&s->state, __ATOMIC_RELAXED) < 0)
        __atomic_store_n(&s->state, 0, __ATOMIC_RELEASE);
    else
        __atomic_fetch_sub(&s->state, 1, __ATOMIC_RELEASE);
}

struct slot *slot_of_cell(int cell)
{
    int i = cell < CELLS ? __atomic_load_n(&cell_slots[cell], __ATOMIC_ACQUIRE) : 0;
    return i ? &fuzz.slots[i - 1] : NULL;
}

void brk_take(void) { pthread_mutex_lock(&break_lock); }
void brk_leave(void) { pthread_mutex_unlock(&break_lock); }

/* ---- what is in it ---- */

void slots_open(void)
{
    noise = mmap(NULL, NOISE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char *shadows = mmap(NULL, (size_t)SLOTS * SLOT_MAX, RW,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (noise == MAP_FAILED || shadows == MAP_FAILED) {
        perror("mmap");
        exit(3);
    }
    struct worker w = { .random = fuzz.seed ^ 0x6e6f697365 };
    for (size_t i = 0; i < NOISE; i += 8) {
        uint64_t x = draw(&w);
        memcpy(noise + i, &x, 8);
    }
    for (int i = 0; i < SLOTS; i++) {
        fuzz.slots[i].shadow = shadows + (size_t)i * SLOT_MAX;
        fuzz.slots[i].fd = -1;
    }
}

void slot_write(struct worker *w, struct slot *s, size_t from, size_t len)
{
    const unsigned char *data = noise + below(w, NOISE - SLOT_MAX);
    memcpy(s->addr + from, data, len);
    memcpy(s->shadow + from, data, len);
    note(w, OP_WRITE, s->addr + from, len, 0, 0);
}

bool slot_private(const struct slot *s)
{
    return s->kind != SHARED && s->kind != FILED && s->kind != SEGMENT;
}

/* ---- make ---- */

static size_t few_pages(struct worker *w) { return (size_t)PAGE << below(w, 5); }

void *map_pages(struct worker *w, void *at, size_t len, int flags, int fd)
{
    if (fuzz.raw_maps && flags & MAP_PRIVATE && fd < 0 && below(w, 2)) {
        long p = fuzz.raw_mmap(at, len, flags);
        return p < 0 && p > -PAGE ? NULL : (void *)p;
    }
    void *p = mmap(at, len, RW, flags, fd, 0);
    return p == MAP_FAILED ? NULL : p;
}

static void make_cell(struct worker *w, struct slot *s)
{
    int cell = (int)below(w, CELLS), none = 0, tries = CELLS;
    while (!__atomic_compare_exchange_n(&cell_slots[cell], &none, (int)(s - fuzz.slots) + 1,
                                        false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
        if (--tries == 0)
            return;
        cell = (cell + 1) % CELLS;
        none = 0;
    }
    s->cell = cell;
    s->len = below(w, 4) ? CELL_LEN : PAGE + below(w, CELL_PAGES) * PAGE;
    s->addr = map_pages(w, WINDOW + (size_t)cell * CELL_LEN, s->len,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1);
    if (!s->addr)
        trouble(w, "a cell of the window is taken");
}

/* Where something was unmapped a moment ago; elsewhere if somebody was faster. */
static void make_reused(struct worker *w, struct slot *s)
{
    size_t i = below(w, RECENT);
    uintptr_t r = 0;
    for (size_t tries = RECENT; !r && tries > 0; tries--, i = (i + 1) % RECENT)
        r = __atomic_exchange_n(&recent[i], 0, __ATOMIC_RELAXED);
    s->len = (r & (PAGE - 1)) * PAGE;
    if (r)
        s->addr = map_pages(w, (void *)(r & -(uintptr_t)PAGE), s->len,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1);
    if (s->addr)
        return;
    s->kind = MAPPED;
    s->len = few_pages(w);
    s->addr = map_pages(w, NULL, s->len, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

static void make_file(struct worker *w, struct slot *s, int flags)
{
    s->len = few_pages(w);
    s->fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (s->fd < 0 || ftruncate(s->fd, (off_t)s->len))
        trouble(w, "memfd");
    s->addr = map_pages(w, NULL, s->len, flags, s->fd);
}

static void make_segment(struct worker *w, struct slot *s)
{
    s->len = few_pages(w);
    int id = shmget(IPC_PRIVATE, s->len, IPC_CREAT | 0600);
    if (id < 0)
        return;
    void *p = shmat(id, NULL, 0);
    shmctl(id, IPC_RMID, NULL);
    s->addr = p == (void *)-1 ? NULL : p;
}

static void make_break(struct worker *w, struct slot *s)
{
    brk_take();
    if (!break_taken) {
        uintptr_t end = (uintptr_t)sbrk(0);
        size_t pad = -end & (PAGE - 1);
        s->len = few_pages(w);
        if (sbrk((intptr_t)(pad + s->len)) != (void *)-1) {
            s->addr = (unsigned char *)(end + pad);
            break_taken = 1;
        }
    }
    brk_leave();
}

static void make_huge(struct worker *w, struct slot *s)
{
    unsigned char *p = map_pages(w, NULL, 2 * SLOT_MAX, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    if (!p)
        return;
    size_t lead = -(uintptr_t)p & (SLOT_MAX - 1);
    if (lead)
        munmap(p, lead);
    s->addr = p + lead;
    s->len = SLOT_MAX;
    if (SLOT_MAX - lead)
        munmap(s->addr + SLOT_MAX, SLOT_MAX - lead);
    madvise(s->addr, s->len, MADV_HUGEPAGE);
}

static enum kind some_kind(struct worker *w)
{
    static const unsigned char weights[KINDS] = {
        [MAPPED] = 20, [CELL] = 40, [REUSED] = 40, [LARGE] = 5, [SMALL] = 8, [SHARED] = 4,
        [FILED] = 4, [PRIVATE_FILE] = 4, [SEGMENT] = 3, [BREAK] = 3, [HUGE] = 1,
    };
    unsigned sum = 0, k = 0;
    for (int i = 0; i < KINDS; i++)
        sum += weights[i];
    size_t x = below(w, sum);
    while (x >= weights[k])
        x -= weights[k++];
    return (enum kind)k;
}

void slot_make(struct worker *w, struct slot *s)
{
    s->addr = NULL;
    s->one = true;
    s->kind = fuzz.heap ? below(w, 3) ? SMALL : LARGE : some_kind(w);
    switch (s->kind) {
    case MAPPED:
        s->len = few_pages(w);
        s->addr = map_pages(w, NULL, s->len, MAP_PRIVATE | MAP_ANONYMOUS, -1);
        break;
    case SHARED:
        s->len = few_pages(w);
        s->addr = map_pages(w, NULL, s->len, MAP_SHARED | MAP_ANONYMOUS, -1);
        break;
    case LARGE:
        s->len = (130 << 10) + (below(w, 3) << 15);
        s->addr = malloc(s->len);
        break;
    case SMALL:
        s->len = 100 + below(w, 1 << (9 + below(w, 8)));
        s->addr = malloc(s->len);
        break;
    case CELL: make_cell(w, s); break;
    case REUSED: make_reused(w, s); break;
    case FILED: make_file(w, s, MAP_SHARED); break;
    case PRIVATE_FILE: make_file(w, s, MAP_PRIVATE); break;
    case SEGMENT: make_segment(w, s); break;
    case BREAK: make_break(w, s); break;
    case HUGE: make_huge(w, s); break;
    default: break;
    }
    if (!s->addr) {
        s->kind = NOTHING;
        return;
    }
    note(w, OP_MAKE, s->addr, s->len, (int)s->kind, 0);
    if (s->kind == LARGE || s->kind == SMALL || below(w, 4))
        slot_write(w, s, 0, s->len);
    else
        memset(s->shadow, 0, s->len);
}

/* ---- release ---- */

static void release_break(struct slot *s)
{
    brk_take();
    if (sbrk(0) == s->addr + s->len)
        brk(s->addr);
    break_taken = 0;
    brk_leave();
}

static void offer(struct worker *w, struct slot *s)
{
    uintptr_t r = (uintptr_t)s->addr | (s->len / PAGE & (PAGE - 1));
    __atomic_store_n(&recent[below(w, RECENT)], r, __ATOMIC_RELAXED);
}

void slot_release(struct worker *w, struct slot *s)
{
    unsigned char *addr = s->addr;
    int err = 0;
    switch (s->kind) {
    case NOTHING: return;
    case LARGE: case SMALL: free(addr); break;
    case SEGMENT: err = shmdt(addr); break;
    case BREAK: release_break(s); break;
    default: err = munmap(addr, s->len); break;
    }
    if (err)
        trouble(w, "release");
    note(w, OP_RELEASE, addr, s->len, (int)s->kind, 0);
    if (s->kind == MAPPED || s->kind == REUSED || s->kind == SHARED || s->kind == FILED)
        offer(w, s);
    if (s->kind == CELL)
        __atomic_store_n(&cell_slots[s->cell], 0, __ATOMIC_RELEASE);
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    s->kind = NOTHING;
    s->addr = NULL;
}
