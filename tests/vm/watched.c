/* SPDX-License-Identifier: BSD-3-Clause */
/* watched.c - see watched.h. */
#define _GNU_SOURCE
#include "watched.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LONG_MS = 60000, STEP_MS = 5 };

int dev = -1;
const volatile uint64_t *words;
static size_t words_bytes;

/* ---- stories ---- */

static void control_close(void)
{
    munmap((void *)words, words_bytes);
    close(dev);
    dev = -1;
}

static void story_tell(const struct story *s)
{
    long watches = counter("watches"), controls = counter("controls");

    failures = 0;
    control_open();
    s->tell();
    control_close();
    expect(counter_becomes("watches", watches), ": %ld", counter("watches"));
    expect(counter_becomes("controls", controls), ": %ld", counter("controls"));
    printf("%s %s\n", failures ? "WRONG" : "RIGHT", s->name);
    fflush(stdout);
}

void stories_tell(const struct story *stories, const char *only)
{
    unsigned told = 0, wrong = 0;

    for (const struct story *s = stories; s->name; s++) {
        if (only && strcmp(only, s->name))
            continue;
        story_tell(s);
        told++;
        wrong += failures != 0;
    }
    if (!told)
        printf("WRONG there is no story '%s'\n", only);
    exit(!told || wrong);
}

/* ---- the driver ---- */

void control_open(void)
{
    struct pw_kd_info info;
    void *p;

    dev = open(PW_KD_PATH, O_RDWR | O_CLOEXEC);
    if (dev < 0)
        give_up(PW_KD_PATH);
    if (info_get(&info))
        give_up("PW_KD_INFO");
    words_bytes = info.words_bytes;
    p = mmap(NULL, words_bytes, PROT_READ, MAP_SHARED, dev, 0);
    if (p == MAP_FAILED)
        give_up("mapping the words");
    words = p;
}

int info_get(struct pw_kd_info *info)
{
    return ioctl(dev, PW_KD_INFO, info) ? -errno : 0;
}

int watch_try(const void *start, size_t len, unsigned access, struct pw_kd_watch *w)
{
    *w = (struct pw_kd_watch){ .start = (uintptr_t)start, .end = (uintptr_t)start + len,
                               .access = access };
    return ioctl(dev, PW_KD_WATCH, w) ? -errno : 0;
}

int drop_try(unsigned slot)
{
    struct pw_kd_slot d = { .slot = slot };

    return ioctl(dev, PW_KD_DROP, &d) ? -errno : 0;
}

struct slot watch(const void *start, size_t len, unsigned access)
{
    struct pw_kd_watch w;

    errno = -watch_try(start, len, access, &w);
    if (errno)
        give_up("PW_KD_WATCH");
    expect(words[w.slot] == w.word, ": slot %u moved already", w.slot);
    return (struct slot){ .number = w.slot, .word = w.word };
}

void drop(struct slot *s)
{
    expect(drop_try(s->number) == 0);
}

unsigned moves(struct slot *s)
{
    uint64_t now = words[s->number], before = s->word;

    s->word = now;
    return (unsigned)((now >> 8) - (before >> 8));
}

unsigned last_event(const struct slot *s)
{
    return words[s->number] & 0xff;
}

void moved_at(const char *file, int line, struct slot *s, unsigned times, unsigned event)
{
    unsigned n = moves(s);

    if (n != times || (times && last_event(s) != event))
        fail(file, line, "the word", " moved %u times, wanted %u; event %u, wanted %u", n, times,
             last_event(s), event);
}

/* ---- memory ---- */

char *anon(size_t len)
{
    char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        give_up("mmap");
    madvise(p, len, MADV_NOHUGEPAGE);
    memset(p, 1, len);
    return p;
}

char *anon_huge_aligned(size_t len)
{
    char *p = mmap(NULL, len + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        give_up("mmap");
    p = (char *)(((uintptr_t)p + HUGE - 1) & ~(HUGE - 1));
    madvise(p, len, MADV_NOHUGEPAGE);
    memset(p, 1, len);
    return p;
}

char *shared(int *fd, size_t len)
{
    char *p;

    *fd = memfd_create("shared", MFD_CLOEXEC);
    if (*fd < 0 || ftruncate(*fd, (off_t)len))
        give_up("memfd_create");
    p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
    if (p == MAP_FAILED)
        give_up("mmap");
    memset(p, 1, len);
    return p;
}

/* ---- processes ---- */

struct run {
    void (*run)(void *);
    void *arg;
};

static int run_cloned(void *arg)
{
    struct run *r = arg;

    r->run(r->arg);
    return 0;
}

void in_cloned_vm(void (*run)(void *), void *arg)
{
    static char stack[64 << 10] __attribute__((aligned(16)));
    struct run r = { run, arg };
    pid_t pid = clone(run_cloned, stack + sizeof stack, CLONE_VM, &r);

    if (pid < 0)
        give_up("clone");
    expect(ended(pid) == 0);
}

/* ---- counters ---- */

static void wait_a_little(void)
{
    nanosleep(&(struct timespec){ .tv_nsec = STEP_MS * 1000000 }, NULL);
}

bool counter_becomes(const char *name, long value)
{
    for (int ms = 0; ms < LONG_MS; ms += STEP_MS) {
        if (counter(name) == value)
            return true;
        wait_a_little();
    }
    return false;
}

bool moves_at_last(const struct slot *s)
{
    for (int ms = 0; ms < LONG_MS; ms += STEP_MS) {
        if (words[s->number] != s->word)
            return true;
        wait_a_little();
    }
    return false;
}
