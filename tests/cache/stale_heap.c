/* SPDX-License-Identifier: BSD-3-Clause */
/* stale_heap.c - memory that the C library and the dynamic linker give and take:
 * malloc, brk, the stacks of threads, objects that are loaded.
 *
 * That memory comes back at the same address is what these cases are about. It
 * does with glibc; where it does not, the case says so and is not tried.
 */
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/cache/stale.h"

enum { LARGE = 1 << 20, THRESHOLD = 128 << 10, STACK = 1 << 20 };

static int moved(struct scene *s)
{
    return stale_cannot(s, "the memory came back at another address");
}

/* All of these change the whole buffer, so it was at s->part. */
static int there(struct scene *s)
{
    return s->addr == s->part ? 0 : moved(s);
}

/* Large blocks are mappings of their own. */
static int make_large(struct scene *s)
{
    mallopt(M_MMAP_THRESHOLD, THRESHOLD);
    s->len = LARGE;
    s->addr = malloc(s->len);
    return s->addr ? 0 : -ENOMEM;
}

static int free_malloc(struct scene *s)
{
    free(s->addr);
    s->addr = malloc(s->len);
    return there(s);
}

/* realloc moves a mapping by mremap, inside the C library. */
static int realloc_malloc(struct scene *s)
{
    void *big = NULL;
    for (size_t size = 2 * s->len; size <= 64 * s->len; size *= 2) {
        big = realloc(big ? big : s->addr, size);
        if (!big)
            return -ENOMEM;
        if (big != s->part)
            break;
    }
    /* What it left is a hole that a mapping of that size may fill. */
    for (int i = 0; i < 64; i++) {
        s->addr = malloc(s->len);
        if (!there(s))
            return 0;
    }
    return moved(s);
}

static int make_aligned(struct scene *s)
{
    mallopt(M_MMAP_THRESHOLD, THRESHOLD);
    s->len = LARGE;
    void *p;
    int err = posix_memalign(&p, STALE_PAGE, s->len);
    s->addr = err ? NULL : p;
    return -err;
}

static int free_memalign(struct scene *s)
{
    free(s->addr);
    void *p;
    int err = posix_memalign(&p, STALE_PAGE, s->len);
    s->addr = err ? NULL : p;
    return err ? -err : there(s);
}

/* Large blocks come from the heap, whose top is given back to the kernel. Small
 * ones of everybody else shall fit into a hole below, so that ours is the top. */
static int make_top(struct scene *s)
{
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    mallopt(M_TRIM_THRESHOLD, STALE_LEN);
    mallopt(M_TOP_PAD, 0);
    void *volatile hole = malloc(LARGE);    /* or the compiler leaves it out */
    s->other = malloc(STALE_PAGE);          /* keeps it apart from the top */
    s->len = LARGE;
    s->addr = malloc(s->len);
    free(hole);
    return s->addr ? 0 : -ENOMEM;
}

static int free_top(struct scene *s)
{
    void *top = sbrk(0);
    free(s->addr);
    if (sbrk(0) >= top)
        return stale_cannot(s, "free gave nothing back");
    s->addr = malloc(s->len);
    return there(s);
}

/* A block that another one keeps from being the top: malloc_trim gives back
 * pages in the middle of the heap. */
static int make_middle(struct scene *s)
{
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    mallopt(M_TRIM_THRESHOLD, 64 << 20);
    s->len = LARGE;
    s->addr = malloc(s->len);
    s->other = malloc(STALE_PAGE);
    return s->addr && s->other ? 0 : -ENOMEM;
}

static int trim_middle(struct scene *s)
{
    free(s->addr);
    malloc_trim(0);
    s->addr = malloc(s->len);
    return there(s);
}

/* The heap has spare room first, so that it leaves the break alone. */
static int make_brk(struct scene *s)
{
    mallopt(M_TOP_PAD, LARGE);
    mallopt(M_TRIM_THRESHOLD, 64 << 20);
    void *volatile room = malloc(THRESHOLD / 2);
    free(room);
    uintptr_t end = (uintptr_t)sbrk(0);
    size_t pad = -end & (STALE_PAGE - 1);
    if (sbrk((intptr_t)(pad + STALE_LEN)) == (void *)-1)
        return -errno;
    s->addr = (unsigned char *)(end + pad);
    s->len = STALE_LEN;
    return 0;
}

static int brk_down_up(struct scene *s)
{
    if (sbrk(0) != s->addr + s->len)
        return stale_cannot(s, "somebody else moved the break");
    return brk(s->part) || brk(s->addr + s->len) ? -errno : 0;
}

static int sbrk_down_up(struct scene *s)
{
    if (sbrk(0) != s->addr + s->len)
        return stale_cannot(s, "somebody else moved the break");
    intptr_t n = s->addr + s->len - s->part;
    return sbrk(-n) == (void *)-1 || sbrk(n) == (void *)-1 ? -errno : 0;
}

/* A thread of the case does what it is told in letters, and answers in letters. */
static void tell(int fd, char c) { while (write(fd, &c, 1) < 0 && errno == EINTR) {} }
static char hear(int fd)
{
    char c = 0;
    while (read(fd, &c, 1) < 0 && errno == EINTR) {}
    return c;
}

/* Its malloc() is of an arena of its own, whose heap is no brk. */
static void *malloc_for(void *arg)
{
    struct scene *s = arg;
    s->addr = malloc(LARGE);
    tell(s->done[1], 'm');
    hear(s->go[0]);
    free(s->addr);
    s->addr = malloc(LARGE);
    tell(s->done[1], s->addr == s->part ? 'y' : 'n');
    hear(s->go[0]);
    return NULL;
}

static int make_arena(struct scene *s)
{
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    mallopt(M_TRIM_THRESHOLD, STALE_LEN);
    mallopt(M_TOP_PAD, 0);
    if (pipe(s->go) || pipe(s->done))
        return -errno;
    int err = pthread_create(&s->thread, NULL, malloc_for, s);
    if (err)
        return -err;
    hear(s->done[0]);
    s->len = LARGE;
    return s->addr ? 0 : -ENOMEM;
}

static int trim_arena(struct scene *s)
{
    tell(s->go[1], 'f');
    return hear(s->done[0]) == 'y' ? 0 : moved(s);
}

/* A buffer on a thread's stack. */
static void *lend_stack(void *arg)
{
    struct scene *s = arg;
    unsigned char buffer[STALE_LEN + STALE_PAGE];
    s->other = (unsigned char *)(((uintptr_t)buffer + STALE_PAGE - 1) & -(uintptr_t)STALE_PAGE);
    tell(s->done[1], 'm');
    hear(s->go[0]);
    return NULL;
}

static int start_stack(struct scene *s)
{
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK);
    int err = pthread_create(&s->thread, &attr, lend_stack, s);
    pthread_attr_destroy(&attr);
    if (err)
        return -err;
    hear(s->done[0]);
    return 0;
}

static int make_stack(struct scene *s)
{
    if (pipe(s->go) || pipe(s->done))
        return -errno;
    int err = start_stack(s);
    s->addr = s->other;
    s->len = STALE_LEN;
    return err;
}

/* The next thread is given the stack of the one that ended, without its pages. */
static int next_stack(struct scene *s)
{
    tell(s->go[1], 'e');
    pthread_join(s->thread, NULL);
    int err = start_stack(s);
    s->addr = s->other;
    return err ? err : there(s);
}

static int make_bss(struct scene *s)
{
    int err = stale_load(s, "stale_bss.so");
    if (err)
        return err;
    s->addr = dlsym(s->object, "stale_bss");
    s->len = STALE_LEN;
    return s->addr ? 0 : -ENOENT;
}

static int unload_load(struct scene *s)
{
    if (dlclose(s->object))
        return -EIO;
    if (dlopen("stale_bss.so", RTLD_NOLOAD | RTLD_NOW))
        return stale_cannot(s, "dlclose did not unload it");
    int err = make_bss(s);
    return err ? err : there(s);
}

const struct stale_case stale_heap_cases[] = {
    { "free", "free, and malloc of a large block", MOVES | WHOLE | PLAIN,
      make_large, free_malloc },
    { "free-aligned", "free, and posix_memalign", MOVES | WHOLE | PLAIN,
      make_aligned, free_memalign },
    { "realloc", "realloc moves a large block, and malloc", MOVES | WHOLE | PLAIN,
      make_large, realloc_malloc },
    { "free-top", "free gives the top of the heap back", MOVES | WHOLE | PLAIN,
      make_top, free_top },
    { "malloc-trim", "malloc_trim gives back its middle", MOVES | WHOLE | PLAIN,
      make_middle, trim_middle },
    { "arena", "free trims the heap of a thread's arena", MOVES | WHOLE | PLAIN,
      make_arena, trim_arena },
    { "brk", "brk down, and up again", MOVES | PLAIN, make_brk, brk_down_up },
    { "sbrk", "sbrk down, and up again", MOVES | PLAIN, make_brk, sbrk_down_up },
    { "stack", "a thread ends, the next one has its stack", MOVES | WHOLE | PLAIN,
      make_stack, next_stack },
    { "dlclose", "dlclose, and dlopen of an object's data", MOVES | WHOLE | PLAIN,
      make_bss, unload_load },
    { NULL, NULL, 0, NULL, NULL },
};
