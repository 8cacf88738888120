/* SPDX-License-Identifier: BSD-3-Clause */
/* hooks_trial.c - does a call of this function arrive at the hooks?
 *
 * Each trial concerns two pages made for it, or fails in the kernel; a record of it
 * must be there afterwards. Not tried: brk, for another thread's malloc may be
 * moving the break, and the C library would remember the wrong one.
 */
#include "hooks_trial.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "hooks_entry.h"
#include "raw.h"

enum { PAGE = 4096, PAGES = 2, ADVICE_FREE = 8, CHANGES = 16 };

/* All take what they need from integer registers. */
typedef long function(long a, long b, long c, long d, long e, long f);

static const struct trial {
    const char *name;
    enum { REGION, NUMBER, VECTOR, SHM_ID, FD, PATH } first;
    long b, c, d, e;            /* the arguments after the first */
    unsigned cause;
    int left;                   /* pages to unmap afterwards */
} trials[] = {
    { "syscall", NUMBER, 0, 0, 0, 0, PW_EV_DISCARD, 2 },
    { "munmap", REGION, PAGES * PAGE, 0, 0, 0, PW_EV_UNMAP, 0 },
    { "mmap", REGION, PAGES * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
      PW_EV_MAP_OVER, 2 },
    { "mremap", REGION, PAGES * PAGE, PAGE, 0, 0, PW_EV_REMAP, 1 },
    { "madvise", REGION, PAGE, MADV_DONTNEED, 0, 0, PW_EV_DISCARD, 2 },
    { "posix_madvise", REGION, PAGE, ADVICE_FREE, 0, 0, PW_EV_DISCARD, 2 },
    { "process_madvise", VECTOR, 0, 1, MADV_DONTNEED, 0, PW_EV_DISCARD, 2 },
    { "mprotect", REGION, PAGE, PROT_NONE, 0, 0, PW_EV_PROTECT, 2 },
    { "pkey_mprotect", REGION, PAGE, PROT_NONE, 0, 0, PW_EV_PROTECT, 2 },
    { "shmat", SHM_ID, 0, SHM_REMAP, 0, 0, PW_EV_SHM, 2 },
    { "shmdt", REGION, 0, 0, 0, 0, PW_EV_SHM, 2 },
    { "ftruncate", FD, 0, 0, 0, 0, PW_EV_TRUNCATE, 2 },
    { "truncate", PATH, 0, 0, 0, 0, PW_EV_TRUNCATE, 2 },
    { "fallocate", FD, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1, 0,
      PW_EV_TRUNCATE, 2 },
    { "remap_file_pages", REGION, PAGE, 0, 0, 0, PW_EV_MAP_OVER, 2 },
};

static void call(const struct trial *t, function *f, long pages)
{
    struct iovec v = { (void *)pages, PAGE };

    switch (t->first) {
    case NUMBER: f(SYS_madvise, pages, PAGE, MADV_DONTNEED, 0, 0); break;
    case VECTOR: f(-1, (long)&v, t->c, t->d, t->e, 0); break;
    case SHM_ID: f(-1, pages, t->c, t->d, t->e, 0); break;
    case FD: f(-1, t->b, t->c, t->d, t->e, 0); break;
    case PATH: f((long)"", t->b, t->c, t->d, t->e, 0); break;
    default: f(pages, t->b, t->c, t->d, t->e, 0); break;
    }
}

/* What was recorded of it has its cause, and its pages, or none. */
static bool arrived(struct pw_reader *reader, const struct trial *t, uintptr_t pages)
{
    struct pw_change c[CHANGES];
    bool found = false;
    int n;

    do {
        n = pw_records_read(pw_hooks.records, reader, c, CHANGES);
        for (int i = 0; i < n; i++)
            found |= c[i].cause == t->cause &&
                     ((c[i].range.start < pages + PAGES * PAGE && pages < c[i].range.end) ||
                      c[i].range.start == c[i].range.end);
    } while (n == CHANGES);
    return found;
}

static bool try(const struct trial *t, uintptr_t address)
{
    struct pw_reader reader;
    int before = errno;
    long pages = pw_raw6(SYS_mmap, 0, PAGES * PAGE, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (pages < 0 && pages > -PAGE)
        return false;
    pw_reader_init(&reader, pw_hooks.records);
    call(t, (function *)address, pages);
    errno = before;
    if (t->left)
        pw_raw3(SYS_munmap, pages, t->left * PAGE, 0);
    return arrived(&reader, t, (uintptr_t)pages);
}

bool pw_hooks_trial(const char *name, uintptr_t address)
{
    for (unsigned i = 0; i < sizeof trials / sizeof trials[0]; i++)
        if (!strcmp(trials[i].name, name))
            return try(&trials[i], address);
    return true;
}
