/* SPDX-License-Identifier: BSD-3-Clause */
/* cycles.c - a thousand times each: what changes nothing moves no word, what changes
 * something moves it exactly as often.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tests/vm/watched.h"

enum { CYCLES = 1000, LONG_S = 120 };

/* ---- none ---- */

/* Each call is an event, and none takes anything away. */
static void mprotect_that_keeps(void)
{
    char *p = anon(4 * PAGE);
    struct slot both = watch(p, 4 * PAGE, BOTH), read = watch(p, 4 * PAGE, READ);
    long passed = counter("events_passed");

    for (int i = 0; i < CYCLES; i++) {
        mprotect(p, 4 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
        mprotect(p, 4 * PAGE, PROT_READ | PROT_WRITE);
    }
    moved(&both, 0, 0);
    passed = counter("events_passed") - passed;
    expect(passed == 4 * CYCLES, ": %ld events", passed);

    drop(&both);
    for (int i = 0; i < CYCLES; i++) {
        mprotect(p, 4 * PAGE, PROT_READ);
        mprotect(p, 4 * PAGE, PROT_READ | PROT_WRITE);
    }
    moved(&read, 0, 0);
}

static void write_pages(void *p)
{
    memset(p, 2, 4 * PAGE);
}

static void fork_and_copy(void)
{
    char *p = anon(4 * PAGE);
    struct slot s = watch(p, 4 * PAGE, BOTH);
    long passed = counter("events_passed");

    for (int i = 0; i < CYCLES; i++)
        expect(ended(child(write_pages, p)) == 0);
    moved(&s, 0, 0);
    expect(counter("events_passed") - passed >= CYCLES, ": no events of fork");
    expect(*p == 1);
}

static void setting(const char *path, const char *value)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, value, strlen(value)) < 0)
        give_up(path);
    close(fd);
}

/* Often, and little at once. Elsewhere it is switched off: it moves pages. */
static void numa_scans(const char *on)
{
#define SCAN "/sys/kernel/debug/sched/numa_balancing/scan_"
    setting(SCAN "delay_ms", "0");
    setting(SCAN "size_mb", "1");
    setting(SCAN "period_min_ms", "1");
    setting(SCAN "period_max_ms", "2");
    setting("/proc/sys/kernel/numa_balancing", on);
}

/* Where the memory and its only user are on one node, the scan finds nothing to move. */
static void numa_scan(void)
{
    time_t late = time(NULL) + LONG_S;
    cpu_set_t all;
    struct slot s;
    long passed;
    char *p;

    on_one_processor(&all);
    p = anon(4 * MIB);
    s = watch(p, 4 * MIB, BOTH);
    passed = counter("events_passed");
    numa_scans("1");
    while (counter("events_passed") - passed < CYCLES && time(NULL) < late)
        for (size_t i = 0; i < 4 * MIB; i += PAGE)
            p[i]++;
    passed = counter("events_passed") - passed;
    numa_scans("0");
    expect(passed >= CYCLES, ": only %ld scans", passed);
    moved(&s, 0, 0);
    on_all_processors(&all);
    munmap(p, 4 * MIB);
}

/* ---- exactly so many ---- */

static void unmap(void)
{
    unsigned wrong = 0;

    for (int i = 0; i < CYCLES; i++) {
        char *p = anon(2 * PAGE);
        struct slot s = watch(p, 2 * PAGE, BOTH);

        munmap(p, 2 * PAGE);
        wrong += moves(&s) != 1 || last_event(&s) != PW_KD_UNMAP;
        drop(&s);
    }
    expect(wrong == 0, ": %u times", wrong);
}

static void dontneed(void)
{
    char *p = anon(4 * PAGE);
    struct slot s = watch(p, 4 * PAGE, BOTH);

    for (int i = 0; i < CYCLES; i++) {
        madvise(p, 4 * PAGE, MADV_DONTNEED);
        memset(p, 1, 4 * PAGE);
    }
    moved(&s, CYCLES, PW_KD_DISCARD);
}

static int file, order[2], done[2];

/* For each byte that comes: one page is gone. */
static void punch(void *arg)
{
    char byte;

    (void)arg;
    close(order[1]);
    while (read(order[0], &byte, 1) == 1) {
        expect(fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)PAGE,
                         (off_t)PAGE) == 0);
        expect(write(done[1], &byte, 1) == 1);
    }
}

static void punched_by_another(void)
{
    char *p = shared(&file, 4 * PAGE), byte = 0;
    unsigned wrong = 0;
    struct slot s;
    pid_t pid;

    if (pipe(order) || pipe(done))
        give_up("pipe");
    pid = child(punch, NULL);
    s = watch(p, 4 * PAGE, BOTH);
    for (int i = 0; i < CYCLES; i++) {
        p[PAGE] = 1;
        if (write(order[1], &byte, 1) != 1 || read(done[0], &byte, 1) != 1)
            give_up("the other process");
        wrong += moves(&s) != 1;
    }
    expect(wrong == 0, ": %u times", wrong);
    close(order[1]);
    expect(ended(pid) == 0);
    for (int i = 0; i < 2; i++)
        close(done[i]);
    close(order[0]);
    close(file);
}

static void mprotect_that_takes(void)
{
    char *p = anon(4 * PAGE);
    struct slot both = watch(p, 4 * PAGE, BOTH), read = watch(p, 4 * PAGE, READ);

    for (int i = 0; i < CYCLES; i++) {
        mprotect(p, 4 * PAGE, PROT_READ);
        mprotect(p, 4 * PAGE, PROT_READ | PROT_WRITE);
    }
    moved(&both, CYCLES, PW_KD_PROTECT);
    moved(&read, 0, 0);
    for (int i = 0; i < CYCLES; i++) {
        mprotect(p, 4 * PAGE, PROT_NONE);
        mprotect(p, 4 * PAGE, PROT_READ | PROT_WRITE);
    }
    moved(&both, CYCLES, PW_KD_PROTECT);
    moved(&read, CYCLES, PW_KD_PROTECT);
}

static const struct story stories[] = {
    { "1000 times mprotect that keeps the rights: 0 moves", mprotect_that_keeps },
    { "1000 times fork, and the child writes: 0 moves", fork_and_copy },
    { "1000 NUMA scans: 0 moves", numa_scan },
    { "1000 times munmap: one move each", unmap },
    { "1000 times MADV_DONTNEED: 1000 moves", dontneed },
    { "1000 holes punched by another process: one move each", punched_by_another },
    { "1000 times mprotect that takes a right: 1000 moves", mprotect_that_takes },
    { NULL, NULL }
};

int main(int argc, char **argv)
{
    stories_tell(stories, argc > 1 ? argv[1] : NULL);
}
