/* SPDX-License-Identifier: BSD-3-Clause */
/* changes.c - each way of changing memory: the word of a watched range moves as often as
 * it must, and not when nothing of it has changed.
 *
 * What is expected to move more than once does so on Debian's 6.1; the kernel may tell
 * of a change in two parts.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/vm/watched.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* ---- mappings ---- */

static void unmapped(void)
{
    char *p = anon(8 * PAGE);
    struct slot all = watch(p, 8 * PAGE, BOTH), first = watch(p, PAGE, BOTH),
                rest = watch(p + PAGE, 7 * PAGE, READ);
    uint64_t zero = words[0];

    munmap(p, PAGE);
    moved(&all, 1, PW_KD_UNMAP);
    moved(&first, 1, PW_KD_UNMAP);
    moved(&rest, 0, 0);
    expect((words[0] >> 8) - (zero >> 8) == 2, ": word 0 moves with each");
    munmap(p + PAGE, 7 * PAGE);
    moved(&all, 1, PW_KD_UNMAP);
    moved(&first, 0, 0);
    moved(&rest, 1, PW_KD_UNMAP);
}

static void mapped_over(void)
{
    char *p = anon(4 * PAGE);
    struct slot s = watch(p, 4 * PAGE, BOTH);

    mmap(p + PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    moved(&s, 1, PW_KD_UNMAP);
    expect(mmap(p + PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
                0) == MAP_FAILED);
    moved(&s, 0, 0);
}

static void remapped(void)
{
    char *p = anon(4 * PAGE), *to = anon(8 * PAGE);
    struct slot s = watch(p, 4 * PAGE, BOTH), t = watch(to, 8 * PAGE, BOTH);

    mremap(p, 4 * PAGE, 2 * PAGE, 0);
    moved(&s, 1, PW_KD_UNMAP);
    expect(mremap(p, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
    moved(&s, 2, PW_KD_UNMAP);
    moved(&t, 1, PW_KD_UNMAP);
}

static void broken(void)
{
    char *p = sbrk(0);
    size_t into = (size_t)(-(uintptr_t)p & (PAGE - 1));
    struct slot s;

    if (brk(p + into + 4 * PAGE))
        give_up("brk");
    memset(p + into, 1, 4 * PAGE);
    s = watch(p + into, 4 * PAGE, BOTH);
    if (brk(p + into + PAGE))
        give_up("brk");
    moved(&s, 1, PW_KD_UNMAP);
    brk(p);
}

static void detached(void)
{
    int id = shmget(IPC_PRIVATE, 4 * PAGE, IPC_CREAT | 0600);
    char *p = shmat(id, NULL, 0);
    struct slot s;

    memset(p, 1, 4 * PAGE);
    shmctl(id, IPC_RMID, NULL);
    s = watch(p, 4 * PAGE, BOTH);
    shmdt(p);
    moved(&s, 1, PW_KD_UNMAP);
}

static void unmap_page(void *p)
{
    munmap(p, PAGE);
}

static void cloned(void)
{
    char *p = anon(4 * PAGE);
    struct slot s = watch(p, 4 * PAGE, BOTH);

    in_cloned_vm(unmap_page, p + PAGE);
    moved(&s, 1, PW_KD_UNMAP);
}

/* munmap() as a program of 32 bits calls it: no library sees that. */
static void by_interrupt(void)
{
    char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1,
                   0);
    struct slot s;
    long answer;

    *p = 1;
    s = watch(p, PAGE, BOTH);
    __asm__ volatile("int $0x80"
                     : "=a"(answer)
                     : "a"(91), "b"((long)(uintptr_t)p), "c"(PAGE)
                     : "memory", "r8", "r9", "r10", "r11");
    expect(answer == 0);
    moved(&s, 1, PW_KD_UNMAP);
}

/* ---- pages ---- */

static void advised(void)
{
    char *p = anon(4 * PAGE);
    struct slot s = watch(p, 4 * PAGE, BOTH);

    madvise(p, 4 * PAGE, MADV_WILLNEED);
    madvise(p, 4 * PAGE, MADV_COLD);
    madvise(p, 4 * PAGE, MADV_DONTFORK);
    moved(&s, 0, 0);
    madvise(p + PAGE, PAGE, MADV_DONTNEED);
    moved(&s, 1, PW_KD_DISCARD);
    p[PAGE] = 1;
    moved(&s, 0, 0);
    madvise(p + PAGE, PAGE, MADV_FREE);
    moved(&s, 1, PW_KD_DISCARD);
}

static void punched(void)
{
    int fd;
    char *p = shared(&fd, 4 * PAGE);
    struct slot s = watch(p, 4 * PAGE, BOTH), other = watch(p, PAGE, BOTH);

    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)PAGE, (off_t)PAGE);
    moved(&s, 1, PW_KD_DISCARD);
    moved(&other, 0, 0);
    expect(p[PAGE] == 0);
    moved(&s, 0, 0);
    madvise(p + PAGE, PAGE, MADV_REMOVE);
    moved(&s, 1, PW_KD_DISCARD);
    expect(ftruncate(fd, 2 * PAGE) == 0);
    moved(&s, 2, PW_KD_DISCARD);
    close(fd);
}

static void punch_page(void *fd)
{
    expect(fallocate(*(int *)fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)PAGE,
                     (off_t)PAGE) == 0);
}

static void cut(void *fd)
{
    expect(ftruncate(*(int *)fd, 2 * PAGE) == 0);
}

static void by_another(void)
{
    int fd;
    char *p = shared(&fd, 4 * PAGE);
    struct slot s = watch(p, 4 * PAGE, BOTH);

    expect(ended(child(punch_page, &fd)) == 0);
    moved(&s, 1, PW_KD_DISCARD);
    expect(ended(child(cut, &fd)) == 0);
    moved(&s, 2, PW_KD_DISCARD);
    close(fd);
}

/* To swap and back: another page. On one processor: a page that is new may be on another's
 * list for a while. */
static void swapped(void)
{
    unsigned char in = 1;
    cpu_set_t all;
    struct slot s;
    char *p;

    on_one_processor(&all);
    p = anon(PAGE);
    s = watch(p, PAGE, BOTH);
    *p = 7;
    madvise(p, PAGE, MADV_PAGEOUT);
    moved(&s, 1, PW_KD_DISCARD);
    expect(mincore(p, PAGE, &in) == 0 && !(in & 1), ": still there");
    expect(*p == 7);
    moved(&s, 0, 0);
    on_all_processors(&all);
}

static void page_out(void *p)
{
    struct { void *base; size_t len; } part = { p, PAGE };
    int fd = (int)syscall(SYS_pidfd_open, getppid(), 0);

    expect(syscall(SYS_process_madvise, fd, &part, 1L, MADV_PAGEOUT, 0L) == (long)PAGE);
}

/* On one processor, too. */
static void swapped_by_another(void)
{
    cpu_set_t all;
    struct slot s;
    pid_t pid;
    char *p;

    on_one_processor(&all);
    p = anon(4 * PAGE);
    s = watch(p, PAGE, BOTH);
    /* Only pages that one process alone has are paged out. */
    madvise(p, 4 * PAGE, MADV_DONTFORK);
    pid = child(page_out, p);
    expect(ended(pid) == 0);
    moved(&s, 1, PW_KD_DISCARD);
    on_all_processors(&all);
}

static int node_of(char *p)
{
    int node = -1;

    syscall(SYS_move_pages, 0, 1L, (void *[]){ p }, NULL, &node, 0);
    return node;
}

static void migrated(void)
{
    char *p = anon(2 * PAGE);
    struct slot s = watch(p, PAGE, BOTH), other = watch(p + PAGE, PAGE, BOTH);
    int to = !node_of(p), status = -1;

    expect(syscall(SYS_move_pages, 0, 1L, (void *[]){ p }, &to, &status, MPOL_MF_MOVE) == 0);
    expect(status == to && node_of(p) == to, ": status %d", status);
    moved(&s, 1, PW_KD_DISCARD);
    moved(&other, 0, 0);
}

/* By us, or as soon as it may by khugepaged: once. */
static void collapsed(void)
{
    char *p = anon_huge_aligned(HUGE);
    struct slot s = watch(p, HUGE, BOTH);

    madvise(p, HUGE, MADV_HUGEPAGE);
    expect(madvise(p, HUGE, MADV_COLLAPSE) == 0, ": %s", strerror(errno));
    moved(&s, 1, PW_KD_DISCARD);
    expect(p[HUGE - 1] == 1);
    /* A part of a huge page: it is split, and the part is dropped. */
    madvise(p, PAGE, MADV_DONTNEED);
    moved(&s, 2, PW_KD_DISCARD);
}

/* The kernel tells of 2 MiB when a mapping is cut amid them, were they of small pages:
 * they might have been a huge one.
 */
static void cut_in_two(void)
{
    char *p = anon_huge_aligned(2 * HUGE);
    struct slot near = watch(p, PAGE, BOTH), far = watch(p + HUGE, PAGE, BOTH);

    mprotect(p + 8 * PAGE, PAGE, PROT_READ);
    moved(&near, 1, PW_KD_DISCARD);
    moved(&far, 0, 0);
    mprotect(p + 16 * PAGE, PAGE, PROT_READ);
    moved(&near, 0, 0);
}

static void by_khugepaged(void)
{
    char *p = anon_huge_aligned(HUGE);
    struct slot s = watch(p, HUGE, BOTH);

    madvise(p, HUGE, MADV_HUGEPAGE);
    expect(moves_at_last(&s), ": khugepaged did nothing");
    moved(&s, 1, PW_KD_DISCARD);
    expect(p[HUGE - 1] == 1);
}

/* ---- rights ---- */

static void protect(void *p)
{
    mprotect(p, PAGE, PROT_READ);
}

static void protected(void)
{
    char *p = anon(4 * PAGE);
    struct slot both = watch(p, 4 * PAGE, BOTH), read = watch(p, 4 * PAGE, READ),
                last = watch(p + 3 * PAGE, PAGE, BOTH);

    mprotect(p, 4 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
    moved(&both, 0, 0);
    mprotect(p, 4 * PAGE, PROT_READ | PROT_WRITE);
    moved(&both, 0, 0);
    mprotect(p + PAGE, PAGE, PROT_READ);
    moved(&both, 1, PW_KD_PROTECT);
    moved(&read, 0, 0);
    moved(&last, 0, 0);
    /* What is taken away already moves it again, here by what was outside before. */
    mprotect(p, 2 * PAGE, PROT_NONE);
    moved(&both, 2, PW_KD_PROTECT);
    moved(&read, 2, PW_KD_PROTECT);
    mprotect(p, 4 * PAGE, PROT_READ | PROT_WRITE);
    moved(&read, 0, 0);
    moved(&last, 0, 0);
    in_cloned_vm(protect, p + 3 * PAGE);
    moved(&last, 1, PW_KD_PROTECT);
    moved(&read, 0, 0);
}

/* ---- fork ---- */

static void write_page(void *p)
{
    *(char *)p = 2;
}

static void forked(void)
{
    char *p = anon(4 * PAGE);
    struct slot s = watch(p, 4 * PAGE, BOTH);
    pid_t pid;

    pid = child(write_page, p);
    expect(ended(pid) == 0);
    moved(&s, 0, 0);
    expect(*p == 1);
}

static void wait_for_end(void *fd)
{
    char byte;

    expect(read(*(int *)fd, &byte, 1) == 1);
}

/* While a child has the page, too, its parent's write gives the parent another one. */
static void copied_on_write(void)
{
    char *p = anon(4 * PAGE);
    struct slot s = watch(p, 4 * PAGE, BOTH);
    int pipes[2];
    pid_t pid;

    if (pipe(pipes))
        give_up("pipe");
    pid = child(wait_for_end, &pipes[0]);
    moved(&s, 0, 0);
    *p = 3;
    moved(&s, 1, PW_KD_DISCARD);
    expect(write(pipes[1], "x", 1) == 1 && ended(pid) == 0);
    moved(&s, 0, 0);
    close(pipes[0]);
    close(pipes[1]);
}

static const struct story stories[] = {
    { "munmap moves it once, and not another's", unmapped },
    { "mmap over it", mapped_over },
    { "mremap, away from it and onto it", remapped },
    { "brk", broken },
    { "shmdt", detached },
    { "munmap by a child that shares all memory", cloned },
    { "munmap by an interrupt that no library sees", by_interrupt },
    { "madvise: what drops pages, and what does not", advised },
    { "a hole in the file, and its truncation", punched },
    { "the same by another process", by_another },
    { "to swap and back", swapped },
    { "to swap by another process", swapped_by_another },
    { "migration between nodes", migrated },
    { "small pages become a huge one, and a part of that is dropped", collapsed },
    { "a mapping that is cut in two: once, for what is near", cut_in_two },
    { "khugepaged", by_khugepaged },
    { "mprotect: only when it takes away what was asked for", protected },
    { "a child that writes gets the copy", forked },
    { "a parent that writes while it has a child gets the copy", copied_on_write },
    { NULL, NULL }
};

int main(int argc, char **argv)
{
    stories_tell(stories, argc > 1 ? argv[1] : NULL);
}
