/* SPDX-License-Identifier: BSD-3-Clause */
/* stale_odd.c - ways round the C library that stand in no object, or in one that is
 * not looked for: a second C library, the 32-bit entry, code made at run time.
 */
#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "tests/cache/stale.h"

/* MADV_GUARD_*, from Linux include/uapi/asm-generic/mman-common.h. */
enum { GUARD_INSTALL = 102, GUARD_REMOVE = 103 };

/* A second C library, in a name space of its own, as a plugin host loads it. */
static int find_in_other_library(struct scene *s, const char *name, void *function)
{
    s->object = dlmopen(LM_ID_NEWLM, "libc.so.6", RTLD_NOW);
    if (!s->object)
        return stale_cannot(s, "the C library cannot be loaded twice");
    return stale_find(s, name, function);
}

static int unmap_other_library(struct scene *s)
{
    int (*other_munmap)(void *, size_t);
    int err = find_in_other_library(s, "munmap", &other_munmap);
    if (!err && other_munmap(s->part, s->part_len))
        err = -EIO;
    return err ? err : stale_map_at(s->part, s->part_len);
}

static int guard_other_library(struct scene *s)
{
    int (*other_madvise)(void *, size_t, int);
    int err = find_in_other_library(s, "madvise", &other_madvise);
    if (err)
        return err;
    if (other_madvise(s->part, s->part_len, GUARD_INSTALL) ||
        other_madvise(s->part, s->part_len, GUARD_REMOVE))
        return stale_cannot(s, "this kernel knows no such advice");
    return 0;
}

/* The kernel's 32-bit entry. Addresses are short there. */
static int make_low(struct scene *s)
{
#ifdef MAP_32BIT
    s->len = STALE_LEN;
    s->addr = mmap(NULL, s->len, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    return s->addr == MAP_FAILED ? -errno : stale_load(s, "stale_int80.so");
#else
    return stale_cannot(s, "another machine");
#endif
}

static int unmap_int80(struct scene *s)
{
    long (*int80_munmap)(void *, size_t);
    int err = stale_find(s, "stale_int80_munmap", &int80_munmap);
    if (!err)
        err = (int)int80_munmap(s->part, s->part_len);
    if (err == -ENOSYS)
        return stale_cannot(s, "no 32-bit system calls here");
    return err ? err : stale_map_at(s->part, s->part_len);
}

/* Machine code that the program makes as it runs: in no object at all.
 *     mov $NUMBER, %eax
 *     syscall
 *     ret
 */
typedef long (*made_call)(void *, size_t, long);

static int make_code(struct scene *s, unsigned number, made_call *out)
{
    /* Each byte plus one, for who looks through this program shall not find it. */
    static const volatile unsigned char code[] = { 0xb9, 1, 1, 1, 1, 0x10, 0x06, 0xc4 };
    unsigned char *page = mmap(NULL, STALE_PAGE, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return -errno;
    for (size_t i = 0; i < sizeof code; i++)
        page[i] = (unsigned char)(code[i] - 1);
    memcpy(page + 1, &number, sizeof number);
    if (mprotect(page, STALE_PAGE, PROT_READ | PROT_EXEC))
        return stale_cannot(s, "no code can be made here");
    memcpy(out, &page, sizeof page);
    return 0;
}

static int unmap_made_code(struct scene *s)
{
    made_call made;
    int err = make_code(s, SYS_munmap, &made);
    if (!err)
        err = (int)made(s->part, s->part_len, 0);
    return err ? err : stale_map_at(s->part, s->part_len);
}

static int guard_made_code(struct scene *s)
{
    made_call made;
    int err = make_code(s, SYS_madvise, &made);
    if (!err)
        err = (int)made(s->part, s->part_len, GUARD_INSTALL);
    if (!err)
        err = (int)made(s->part, s->part_len, GUARD_REMOVE);
    return err == -EINVAL ? stale_cannot(s, "this kernel knows no such advice") : err;
}

const struct stale_case stale_odd_cases[] = {
    { "int80", "munmap by the kernel's 32-bit entry", MOVES, make_low, unmap_int80 },
    { "dlmopen", "munmap of a second C library, by dlmopen", MOVES | PLAIN,
      stale_make_private, unmap_other_library },
    { "dlmopen-guard", "MADV_GUARD_INSTALL by a second C library", MOVES | PLAIN,
      stale_make_private, guard_other_library },
    { "made", "munmap by code made at run time", MOVES | PLAIN,
      stale_make_private, unmap_made_code },
    { "made-guard", "MADV_GUARD_INSTALL by code made at run time", MOVES | PLAIN,
      stale_make_private, guard_made_code },
    { NULL, NULL, 0, NULL, NULL },
};
