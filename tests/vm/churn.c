/* SPDX-License-Identifier: BSD-3-Clause */
/* churn.c - exports that come and go while others map them, for a while.
 *
 *   churn SECONDS
 *
 * Runs as root in a machine with the driver loaded; see tests/vm/attach. One process
 * exports, by some threads; one of them only drops memory that others are exporting.
 * Two processes map what is exported, one uses memory for itself. At any time
 *
 *   - while an export's word stands still, a guest sees what its owner has there, and
 *     what one writes there the other reads;
 *   - afterwards it sees the old data, or pages that only itself has written: never what
 *     is in anybody's other memory (POISON);
 *   - no frame that an export has pinned is behind other memory (/proc/self/pagemap).
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "peer.h"

enum { OWNERS = 2, GUESTS = 2, PAGES_MAX = 1024, FRAMES = 1 << 20, RW = PROT_READ | PROT_WRITE };
enum { PATTERN = 0, GUESTS_WORD = 1, OWNERS_WORD = 2 };     /* words of a page */
#define POISON 0xdeaddeaddeaddeadul
#define MARK 0x6d61726bul

/* What an owner has exported: a guest takes a copy, which is whole if turn is even and
 * has not changed. */
struct offer {
    atomic_uint turn;
    uint64_t offset, len, seed, word;
    unsigned slot;
    pthread_mutex_t lock;   /* the owner's threads': what one has just now, and others may */
    char *memory;           /* drop parts of; or NULL */
    size_t memory_len;
};

struct common {
    atomic_bool stop;
    struct offer offers[OWNERS];
    atomic_ulong cycles, refused, moved, mapped, alive, late, gone, wrong;
    atomic_uchar frames[FRAMES];    /* by frame number: pinned by an export */
};

static struct common *common;
static int control, share;
static volatile uint64_t *words;

static void wrong(const char *what, uint64_t a, uint64_t b)
{
    if (atomic_fetch_add(&common->wrong, 1) < 20)
        printf("wrong: %s: 0x%lx, 0x%lx\n", what, a, b);
    fflush(stdout);
}

static uint64_t draw(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* ---- memory ---- */

static char *memory_of(size_t len, int flags)
{
    void *p = mmap(NULL, len, RW, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

enum { ROOM = 3 * HUGE_PAGE };  /* of each piece of memory that is exported */

static char *memory_any(uint64_t *random)
{
    int kind = draw(random) % 3;
    char *p = kind == 0 ? memory_of(ROOM, MAP_HUGETLB) : NULL;

    if (!p)
        p = memory_of(ROOM, 0);
    madvise(p, ROOM, kind == 1 ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    return p;
}

static void fill(char *p, size_t len, uint64_t seed)
{
    for (size_t i = 0; i < len; i += PAGE) {
        volatile uint64_t *page = (void *)(p + i);

        page[PATTERN] = page[511] = pattern(seed, i);
    }
}

/* Its frames: -1 where there is none. */
static void frames_of(const char *p, size_t pages, uint64_t *frames)
{
    static __thread int fd = -1;

    if (fd < 0)
        fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (pread(fd, frames, pages * 8, (off_t)((uintptr_t)p / PAGE * 8)) != (ssize_t)(pages * 8))
        memset(frames, 0, pages * 8);
    for (size_t i = 0; i < pages; i++) {
        frames[i] = frames[i] >> 63 ? frames[i] & ((1ull << 55) - 1) : FRAMES;
        if (frames[i] > FRAMES)
            frames[i] = FRAMES;
    }
}

/* New memory, of whatever frames are free: none is one that an export has pinned. */
static void poison(size_t len)
{
    uint64_t frames[PAGES_MAX];
    char *p = memory_of(len, 0);

    if (!p)
        return;
    for (size_t i = 0; i < len / 8; i += 8)
        ((volatile uint64_t *)p)[i] = POISON;
    for (size_t i = 0; i < len; i += PAGE)
        for (int word = PATTERN; word <= OWNERS_WORD; word++)
            ((volatile uint64_t *)(p + i))[word] = ((volatile uint64_t *)(p + i))[511] = POISON;
    frames_of(p, len / PAGE, frames);
    for (size_t i = 0; i < len / PAGE; i++)
        if (frames[i] < FRAMES && atomic_load(&common->frames[frames[i]]))
            wrong("a pinned frame is used again", frames[i], i);
    for (size_t i = 0; i < len; i += PAGE)
        if (((volatile uint64_t *)(p + i))[PATTERN] != POISON || ((volatile uint64_t *)(p + i))[GUESTS_WORD] != POISON)
            wrong("somebody has written into memory of nobody else", ((uint64_t *)(p + i))[GUESTS_WORD], i);
    munmap(p, len);
}

/* ---- owners ---- */

static bool moved(const struct pw_kd_watch *w)
{
    atomic_thread_fence(memory_order_seq_cst);
    return words[w->slot] != w->word;
}

/* Is the memory still the one that is pinned? By writing to the one, reading the other. */
static void compare(const struct pw_kd_watch *w, char *memory, size_t len, uint64_t value)
{
    char *at = mmap(NULL, len, RW, MAP_SHARED, share, (off_t)w->offset);

    if (at == MAP_FAILED) {
        wrong("the owner cannot map its own", (uint64_t)errno, len);
        return;
    }
    for (size_t i = 0; i < len; i += PAGE) {
        uint64_t *mine = (void *)(memory + i), *theirs = (void *)(at + i);

        __atomic_store_n(&theirs[OWNERS_WORD], value, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(&mine[OWNERS_WORD], __ATOMIC_SEQ_CST) != value && !moved(w))
            wrong("stale, and the word stands still", w->offset, i);
    }
    munmap(at, len);
}

/* Marks its frames, if they are what it says. */
static bool marked(const struct pw_kd_watch *w, char *memory, size_t len, uint64_t seed, uint64_t *frames)
{
    bool whole = true;

    for (size_t i = 0; i < len && whole; i += PAGE)
        whole = *(volatile uint64_t *)(memory + i) == pattern(seed, i);
    frames_of(memory, len / PAGE, frames);
    if (!whole || moved(w))
        return false;
    for (size_t i = 0; i < len / PAGE; i++)
        if (frames[i] < FRAMES)
            atomic_store(&common->frames[frames[i]], 1);
    return true;
}

/* What happens to the memory while it is exported. True: it is there no more. */
static bool disturb(uint64_t *random, char *memory, size_t len)
{
    size_t part = draw(random) % (len / PAGE) * PAGE;
    pid_t pid;

    switch (draw(random) % 4) {
    case 0:
        munmap(memory, ROOM);
        poison(len);
        return true;
    case 1:
        madvise(memory + part, len - part, MADV_DONTNEED);
        poison(len - part);
        break;
    case 2:
        pid = fork();
        if (pid == 0)
            _exit(0);
        waitpid(pid, NULL, 0);
        break;
    }
    return false;
}

static void may_be_dropped(struct offer *o, char *memory, size_t len)
{
    pthread_mutex_lock(&o->lock);
    o->memory = memory;
    o->memory_len = len;
    pthread_mutex_unlock(&o->lock);
}

static void cycle(struct offer *o, uint64_t *random)
{
    size_t len = (1 + draw(random) % (draw(random) % 4 ? 64 : PAGES_MAX)) * PAGE;
    uint64_t seed = draw(random), frames[PAGES_MAX];
    char *memory = memory_any(random);
    struct pw_kd_watch w = { .access = PW_KD_READ | PW_KD_WRITE };
    struct pw_kd_slot drop = { 0 };
    bool offered;

    fill(memory, len, seed);
    w.start = (uintptr_t)memory;
    w.end = w.start + len;
    may_be_dropped(o, memory, len);
    if (ioctl(control, PW_KD_EXPORT, &w)) {
        if (errno != EAGAIN && errno != ENOMEM)
            wrong("EXPORT", (uint64_t)errno, len);
        atomic_fetch_add(&common->refused, 1);
        goto unmap;
    }
    if (draw(random) % 2)
        compare(&w, memory, len, seed);
    offered = marked(&w, memory, len, seed, frames);
    if (offered) {
        o->offset = w.offset;
        o->len = len;
        o->seed = seed;
        o->slot = w.slot;
        o->word = w.word;
        atomic_fetch_add(&o->turn, 1);
    }
    usleep(draw(random) % 1000);
    may_be_dropped(o, NULL, 0);
    if (disturb(random, memory, len))
        memory = NULL;
    usleep(draw(random) % 1000);
    if (moved(&w))
        atomic_fetch_add(&common->moved, 1);
    if (offered) {
        atomic_fetch_add(&o->turn, 1);
        for (size_t i = 0; i < len / PAGE; i++)
            if (frames[i] < FRAMES)
                atomic_store(&common->frames[frames[i]], 0);
    }
    drop.slot = w.slot;
    if (ioctl(control, PW_KD_DROP, &drop))
        wrong("DROP", (uint64_t)errno, drop.slot);
    atomic_fetch_add(&common->cycles, 1);
unmap:
    may_be_dropped(o, NULL, 0);
    if (memory)
        munmap(memory, ROOM);
    poison(len);
}

static void *own(void *arg)
{
    struct offer *o = arg;
    uint64_t random = 88172645463325252ull + (uint64_t)(o - common->offers) * 1234567;

    while (!atomic_load(&common->stop))
        cycle(o, &random);
    return NULL;
}

/* Drops memory that others export at this very moment. */
static void *interfere(void *arg)
{
    uint64_t random = 5577006791947779410ull;
    struct offer *o;
    size_t first;

    (void)arg;
    while (!atomic_load(&common->stop)) {
        o = &common->offers[draw(&random) % OWNERS];
        pthread_mutex_lock(&o->lock);
        if (o->memory) {
            first = draw(&random) % (o->memory_len / PAGE) * PAGE;
            madvise(o->memory + first, o->memory_len - first, MADV_DONTNEED);
        }
        pthread_mutex_unlock(&o->lock);
        usleep(draw(&random) % 2000);
    }
    return NULL;
}

/* ---- guests ---- */

static bool take(struct offer *o, struct offer *copy)
{
    unsigned turn = atomic_load(&o->turn);

    if (!(turn & 1))
        return false;
    copy->offset = o->offset;
    copy->len = o->len;
    copy->seed = o->seed;
    copy->slot = o->slot;
    copy->word = o->word;
    atomic_thread_fence(memory_order_seq_cst);
    return atomic_load(&o->turn) == turn;
}

/* One look at all pages: how many show nothing. */
static size_t look(const struct offer *o, char *at, size_t len)
{
    size_t none = 0;

    for (size_t i = 0; i < len; i += PAGE) {
        volatile uint64_t *page = (void *)(at + i);
        uint64_t first = page[PATTERN], last = page[511], guests = page[GUESTS_WORD];
        bool stands;

        page[GUESTS_WORD] = MARK;
        atomic_thread_fence(memory_order_seq_cst);
        stands = words[o->slot] == o->word;
        if (first != pattern(o->seed, i) || last != first) {
            none++;
            if (stands)
                wrong("other data, and the word stands still", first, last);
            else if ((first && first != pattern(o->seed, i)) || (last && last != pattern(o->seed, i)))
                wrong("data of somebody", first, last);
        }
        if (guests && guests != MARK)
            wrong("data of somebody where guests write", guests, i);
    }
    return none;
}

static void visit(const struct offer *o, uint64_t *random)
{
    char *at = mmap(NULL, o->len, RW, MAP_SHARED, share, (off_t)o->offset);
    size_t part = draw(random) % (o->len / PAGE) * PAGE;

    if (at == MAP_FAILED) {
        if (errno != ENXIO)
            wrong("mmap", (uint64_t)errno, o->len);
        atomic_fetch_add(&common->gone, 1);
        return;
    }
    atomic_fetch_add(&common->mapped, 1);
    for (uint64_t n = 1 + draw(random) % 8; n; n--) {
        atomic_fetch_add(look(o, at, o->len) ? &common->late : &common->alive, 1);
        usleep(draw(random) % 1000);
    }
    if (part && draw(random) % 2)
        munmap(at, part);       /* in two pieces */
    munmap(at, o->len);
}

static void guest(uint64_t random)
{
    struct offer copy;

    close(control);
    while (!atomic_load(&common->stop))
        if (take(&common->offers[draw(&random) % OWNERS], &copy))
            visit(&copy, &random);
        else
            usleep(100);
    _exit(0);
}

static void other(uint64_t random)
{
    close(control);
    close(share);
    while (!atomic_load(&common->stop)) {
        poison((1 + draw(&random) % PAGES_MAX) * PAGE);
        usleep(draw(&random) % 3000);
    }
    _exit(0);
}

static bool count(const char *what, unsigned long n)
{
    printf("%s: %lu\n", what, n);
    return n > 0;
}

int main(int argc, char **argv)
{
    unsigned seconds = argc > 1 ? (unsigned)atoi(argv[1]) : 10;
    struct pw_kd_share given = { 0 };
    pthread_t threads[OWNERS + 1];
    pid_t pids[GUESTS + 1];
    bool ran = true;

    common = mmap(NULL, sizeof *common, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    control = open(PW_KD_PATH, O_RDWR | O_CLOEXEC);
    if (control < 0 || ioctl(control, PW_KD_SHARE, &given))
        return 1;
    share = given.fd;
    words = mmap(NULL, 16 * PAGE, PROT_READ, MAP_SHARED, share, 0);
    for (int i = 0; i <= GUESTS; i++) {
        pids[i] = fork();
        if (pids[i] == 0)
            i < GUESTS ? guest(7046029254386353131ull + (uint64_t)i) : other(1181783497276652981ull);
    }
    for (int i = 0; i < OWNERS; i++)
        pthread_mutex_init(&common->offers[i].lock, NULL);
    for (int i = 0; i <= OWNERS; i++)
        pthread_create(&threads[i], NULL, i < OWNERS ? own : interfere, i < OWNERS ? &common->offers[i] : NULL);
    sleep(seconds);
    atomic_store(&common->stop, true);
    for (int i = 0; i <= OWNERS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i <= GUESTS; i++) {
        int status;

        waitpid(pids[i], &status, 0);
        if (status)
            wrong("a process has died", (uint64_t)status, (uint64_t)i);
    }

    ran &= count("exported and dropped", common->cycles);
    count("refused, because the memory changed", common->refused);
    ran &= count("changed while exported", common->moved);
    ran &= count("mapped by guests", common->mapped);
    count("gone when a guest came", common->gone);
    ran &= count("looked at alive", common->alive);
    ran &= count("looked at when it was taken back", common->late);
    right(ran, "exports come and go, change, and are mapped and taken back under others' eyes");
    right(common->wrong == 0, "and all the while nobody sees or writes what is not his");
    close(share);
    close(control);
    munmap((void *)words, 16 * PAGE);
    right(counter_becomes("exports", 0) && counter_becomes("mappings", 0) && counter_becomes("export_pages", 0) &&
          counter_becomes("watches", 0) && counter_becomes("controls", 0), "nothing of that is left");
    return 0;
}
