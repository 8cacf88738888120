/* SPDX-License-Identifier: BSD-3-Clause */
/* stale_maps.c - mappings that are taken away, put over, moved. */
#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/cache/stale.h"

int stale_make_private(struct scene *s)
{
    s->len = STALE_LEN;
    s->addr = mmap(NULL, s->len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return s->addr == MAP_FAILED ? -errno : 0;
}

int stale_map_at(void *addr, size_t len)
{
    void *p = mmap(addr, len, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    return p == MAP_FAILED ? -errno : 0;
}

/* Memory elsewhere, with something in it. */
static void *elsewhere(size_t len)
{
    void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    return memset(p, 0x5a, len);
}

static int unmap_map(struct scene *s)
{
    if (munmap(s->part, s->part_len))
        return -errno;
    return stale_map_at(s->part, s->part_len);
}

static int unmap_only(struct scene *s)
{
    return munmap(s->part, s->part_len) ? -errno : 0;
}

static int map_over(struct scene *s)
{
    void *p = mmap(s->part, s->part_len, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    return p == MAP_FAILED ? -errno : 0;
}

static int map_file_over(struct scene *s)
{
    int fd = memfd_create("over", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)s->part_len))
        return -errno;
    void *p = mmap(s->part, s->part_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED,
                   fd, 0);
    close(fd);
    return p == MAP_FAILED ? -errno : 0;
}

static int move_away(struct scene *s)
{
    void *to = elsewhere(s->part_len);
    if (!to || mremap(s->part, s->part_len, s->part_len, MREMAP_MAYMOVE | MREMAP_FIXED, to)
        == MAP_FAILED)
        return -errno;
    return stale_map_at(s->part, s->part_len);
}

/* Something stands behind the buffer, so that it cannot grow in place. */
static int grow_away(struct scene *s)
{
    size_t more = s->len + STALE_PAGE;
    unsigned char *end = s->addr + s->len;
    void *wall = mmap(end, STALE_PAGE, PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (wall == MAP_FAILED && errno != EEXIST)
        return -errno;
    void *moved = mremap(s->addr, s->len, more, MREMAP_MAYMOVE);
    if (moved == MAP_FAILED)
        return -errno;
    if (moved == s->addr)
        return stale_cannot(s, "the mapping grew in place");
    return stale_map_at(s->addr, s->len);
}

static int move_onto(struct scene *s)
{
    void *from = elsewhere(s->part_len);
    if (!from || mremap(from, s->part_len, s->part_len, MREMAP_MAYMOVE | MREMAP_FIXED,
                        s->part) == MAP_FAILED)
        return -errno;
    return 0;
}

/* The buffer and another one trade places. */
static int trade(struct scene *s)
{
    size_t n = s->part_len;
    void *other = elsewhere(n), *third = elsewhere(n);
    int flags = MREMAP_MAYMOVE | MREMAP_FIXED;
    if (!other || !third)
        return -ENOMEM;
    if (mremap(s->part, n, n, flags, third) == MAP_FAILED ||
        mremap(other, n, n, flags, s->part) == MAP_FAILED ||
        mremap(third, n, n, flags, other) == MAP_FAILED)
        return -errno;
    return 0;
}

static int shrink_map(struct scene *s)
{
    size_t half = s->len / 2;
    if (mremap(s->addr, s->len, half, 0) == MAP_FAILED)
        return -errno;
    return stale_map_at(s->addr + half, s->len - half);
}

static int shrink_grow(struct scene *s)
{
    size_t half = s->len / 2;
    if (mremap(s->addr, s->len, half, 0) == MAP_FAILED ||
        mremap(s->addr, half, s->len, 0) == MAP_FAILED)
        return -errno;
    return 0;
}

static int move_pages_only(struct scene *s)
{
    void *p = mremap(s->part, s->part_len, s->part_len,
                     MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
    if (p != MAP_FAILED)
        return 0;
    return errno == EINVAL ? stale_cannot(s, "no MREMAP_DONTUNMAP here") : -errno;
}

static int protect_unmap(struct scene *s)
{
    if (mprotect(s->part, s->part_len, PROT_NONE))
        return -errno;
    return unmap_map(s);
}

static int protect_and_back(struct scene *s)
{
    if (mprotect(s->part, s->part_len, PROT_NONE) ||
        mprotect(s->part, s->part_len, PROT_READ | PROT_WRITE))
        return -errno;
    return 0;
}

static int unmap_by_syscall(struct scene *s)
{
    if (syscall(SYS_munmap, s->part, s->part_len))
        return -errno;
    return stale_map_at(s->part, s->part_len);
}

static int map_over_by_syscall(struct scene *s)
{
    long p = syscall(SYS_mmap, s->part, s->part_len, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0L);
    return p == -1 ? -errno : 0;
}

static int move_onto_by_syscall(struct scene *s)
{
    void *from = elsewhere(s->part_len);
    if (!from || syscall(SYS_mremap, from, s->part_len, s->part_len,
                         MREMAP_MAYMOVE | MREMAP_FIXED, s->part) == -1)
        return -errno;
    return 0;
}

/* The C library's munmap, by a pointer that the program has had from the start,
 * as in a table that an allocator keeps. */
static int (*saved_munmap)(void *, size_t);
__attribute__((constructor)) static void save_munmap(void)
{
    void *p = dlsym(RTLD_DEFAULT, "munmap");
    memcpy(&saved_munmap, &p, sizeof p);
}

static int unmap_by_pointer(struct scene *s)
{
    if (saved_munmap(s->part, s->part_len))
        return -errno;
    return stale_map_at(s->part, s->part_len);
}

/* The first half of something shared. */
static int make_half(struct scene *s)
{
    s->len = STALE_LEN;
    s->addr = mmap(NULL, 2 * s->len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                   -1, 0);
    return s->addr == MAP_FAILED ? -errno : 0;
}

/* Pages of the other half come into the first one. */
static int other_file_pages(struct scene *s)
{
    size_t page = STALE_PAGES + (size_t)(s->part - s->addr) / STALE_PAGE;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    if (!remap_file_pages(s->part, s->part_len, 0, page, 0))
        return 0;
#pragma GCC diagnostic pop
    return errno == ENOSYS ? stale_cannot(s, "no remap_file_pages here") : -errno;
}

static int make_hugetlb(struct scene *s)
{
    s->len = 2 << 20;
    s->addr = mmap(NULL, s->len, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
    return s->addr == MAP_FAILED ? stale_cannot(s, "no hugetlb page is reserved") : 0;
}

const struct stale_case stale_map_cases[] = {
    { "munmap", "munmap, and mmap at the same address", MOVES | PLAIN,
      stale_make_private, unmap_map },
    { "munmap-gone", "munmap, and nothing there any more", MOVES | GONE | PLAIN,
      stale_make_private, unmap_only },
    { "munmap-pointer", "munmap by a pointer taken at the start", MOVES | PLAIN,
      stale_make_private, unmap_by_pointer },
    { "munmap-syscall", "syscall(SYS_munmap), and mmap", MOVES | PLAIN,
      stale_make_private, unmap_by_syscall },
    { "munmap-hugetlb", "munmap and mmap of a hugetlb page", MOVES | WHOLE,
      make_hugetlb, map_over },
    { "fixed", "mmap(MAP_FIXED) over it", MOVES | PLAIN,
      stale_make_private, map_over },
    { "fixed-file", "mmap(MAP_FIXED) of a file over it", MOVES | PLAIN,
      stale_make_private, map_file_over },
    { "fixed-syscall", "syscall(SYS_mmap, MAP_FIXED) over it", MOVES | PLAIN,
      stale_make_private, map_over_by_syscall },
    { "remap-file", "remap_file_pages within it", MOVES, make_half, other_file_pages },
    { "mremap-away", "mremap elsewhere, and mmap where it was", MOVES | PLAIN,
      stale_make_private, move_away },
    { "mremap-grow", "mremap grows it elsewhere, and mmap", MOVES | WHOLE | PLAIN,
      stale_make_private, grow_away },
    { "mremap-onto", "mremap(MREMAP_FIXED) of another onto it", MOVES | PLAIN,
      stale_make_private, move_onto },
    { "mremap-syscall", "syscall(SYS_mremap, MREMAP_FIXED) onto it", MOVES | PLAIN,
      stale_make_private, move_onto_by_syscall },
    { "mremap-trade", "two buffers trade places by mremap", MOVES | PLAIN,
      stale_make_private, trade },
    { "mremap-shrink", "mremap shrinks it, and mmap behind", MOVES | WHOLE | PLAIN,
      stale_make_private, shrink_map },
    { "mremap-shrink-grow", "mremap shrinks and grows it in place",
      MOVES | WHOLE | PLAIN, stale_make_private, shrink_grow },
    { "mremap-dontunmap", "mremap(MREMAP_DONTUNMAP) takes its pages", MOVES | PLAIN,
      stale_make_private, move_pages_only },
    { "mprotect-munmap", "mprotect to none, munmap, and mmap", MOVES | PLAIN,
      stale_make_private, protect_unmap },
    { "mprotect-back", "mprotect to none and back", PLAIN,
      stale_make_private, protect_and_back },
    { NULL, NULL, 0, NULL, NULL },
};
