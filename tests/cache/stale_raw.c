/* SPDX-License-Identifier: BSD-3-Clause */
/* stale_raw.c - changes by system calls that pass by the C library.
 *
 * The code that makes them is in an object of its own, which only these cases
 * load: who looks for such code shall find it here and in no other cell.
 */
#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/cache/stale.h"

#define RAW_OBJECT "stale_raw_object.so"

/* MADV_GUARD_*, from Linux include/uapi/asm-generic/mman-common.h. */
enum { GUARD_INSTALL = 102, GUARD_REMOVE = 103 };

static int find(struct scene *s, const char *name, void *function)
{
    void *p = dlsym(s->object, name);
    if (!p)
        return -ENOENT;
    memcpy(function, &p, sizeof p);
    return 0;
}

/* The object is there before anything is cached. */
static int make_early(struct scene *s)
{
    int err = stale_load(s, RAW_OBJECT);
    return err ? err : stale_make_private(s);
}

static int unmap_raw(struct scene *s)
{
    long (*raw_munmap)(void *, size_t);
    int err = find(s, "stale_raw_munmap", &raw_munmap);
    if (!err)
        err = (int)raw_munmap(s->part, s->part_len);
    return err ? err : stale_map_at(s->part, s->part_len);
}

/* The object comes after something was cached. */
static int unmap_raw_late(struct scene *s)
{
    int err = stale_load(s, RAW_OBJECT);
    return err ? err : unmap_raw(s);
}

/* And is used only after the cache has been asked once more. */
static int unmap_raw_later(struct scene *s)
{
    int err = stale_load(s, RAW_OBJECT);
    if (!err)
        err = s->use(s);
    return err ? err : unmap_raw(s);
}

static int find_any(struct scene *s, long (**raw)(long, long, long, long, long, long, long))
{
    return find(s, "stale_raw_any", raw);
}

/* The number of the call does not stand beside the instruction. */
static int unmap_any(struct scene *s)
{
    long (*raw)(long, long, long, long, long, long, long);
    int err = find_any(s, &raw);
    if (!err)
        err = (int)raw(SYS_munmap, (long)s->part, (long)s->part_len, 0, 0, 0, 0);
    return err ? err : stale_map_at(s->part, s->part_len);
}

static int map_over_raw(struct scene *s)
{
    long (*raw)(long, long, long, long, long, long, long);
    int err = find_any(s, &raw);
    if (err)
        return err;
    long p = raw(SYS_mmap, (long)s->part, (long)s->part_len, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    return p < 0 ? (int)p : 0;
}

static int guard_raw(struct scene *s)
{
    long (*raw)(long, long, long, long, long, long, long);
    int err = find_any(s, &raw);
    if (!err)
        err = (int)raw(SYS_madvise, (long)s->part, (long)s->part_len, GUARD_INSTALL, 0, 0, 0);
    if (!err)
        err = (int)raw(SYS_madvise, (long)s->part, (long)s->part_len, GUARD_REMOVE, 0, 0, 0);
    return err == -EINVAL ? stale_cannot(s, "this kernel knows no such advice") : err;
}

static int attach_raw(struct scene *s)
{
    long (*raw)(long, long, long, long, long, long, long);
    int err = find_any(s, &raw);
    if (err)
        return err;
    int id = shmget(IPC_PRIVATE, s->part_len, IPC_CREAT | 0600);
    if (id < 0)
        return stale_cannot(s, "no System V segments here");
    long at = raw(SYS_shmat, id, (long)s->part, SHM_REMAP, 0, 0, 0);
    shmctl(id, IPC_RMID, NULL);
    return at < 0 && at > -STALE_PAGE ? (int)at : 0;
}

static int clone_unmaps_raw(struct scene *s)
{
    long (*raw_clone_munmap)(void *, size_t);
    int err = find(s, "stale_raw_clone_munmap", &raw_clone_munmap);
    if (err)
        return err;
    long child = raw_clone_munmap(s->part, s->part_len);
    if (child < 0)
        return (int)child;
    int status;
    if (waitpid((pid_t)child, &status, __WALL) != child)
        return -errno;
    return status ? -EIO : stale_map_at(s->part, s->part_len);
}

static int dontneed_ring_raw(struct scene *s)
{
    int (*raw_ring_madvise)(void *, size_t, int);
    int err = find(s, "stale_raw_ring_madvise", &raw_ring_madvise);
    if (!err)
        err = raw_ring_madvise(s->part, s->part_len, MADV_DONTNEED);
    if (err == -ENOSYS || err == -EPERM)
        return stale_cannot(s, "no io_uring here");
    return err;
}

/* One thread unmaps, another has the addresses as soon as they are free, long before
 * the first one's call returns. Both past the library. */
enum { ROUNDS = 100 };

struct race {
    struct scene *scene;
    long (*raw)(long, long, long, long, long, long, long);
    pthread_barrier_t start;
};

static void *unmap_in_race(void *arg)
{
    struct race *race = arg;
    for (int i = 0; i < ROUNDS; i++) {
        pthread_barrier_wait(&race->start);
        race->raw(SYS_munmap, (long)race->scene->addr, (long)race->scene->len, 0, 0, 0, 0);
        pthread_barrier_wait(&race->start);
    }
    return NULL;
}

static int map_in_race(struct race *race)
{
    struct scene *s = race->scene;
    pthread_barrier_wait(&race->start);
    long p;
    do
        p = race->raw(SYS_mmap, (long)s->addr, (long)s->len, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    while (p == -EEXIST);
    int err = p == (long)s->addr ? s->use(s) : (int)p;
    pthread_barrier_wait(&race->start);
    return err;
}

static int race_unmap_map(struct scene *s)
{
    struct race race = { .scene = s };
    pthread_t thread;
    int err = find_any(s, &race.raw);
    if (err)
        return err;
    pthread_barrier_init(&race.start, NULL, 2);
    err = -pthread_create(&thread, NULL, unmap_in_race, &race);
    if (err)
        return err;
    for (int i = 0; i < ROUNDS; i++) {
        int answer = map_in_race(&race);
        err = err ? err : answer;
    }
    pthread_join(thread, NULL);
    return err;
}

/* A second C library, in a name space of its own, as a plugin host loads it. */
static int unmap_other_library(struct scene *s)
{
    void *library = dlmopen(LM_ID_NEWLM, "libc.so.6", RTLD_NOW);
    int (*other_munmap)(void *, size_t);
    if (!library)
        return stale_cannot(s, "the C library cannot be loaded twice");
    s->object = library;
    int err = find(s, "munmap", &other_munmap);
    if (!err && other_munmap(s->part, s->part_len))
        err = -EIO;
    return err ? err : stale_map_at(s->part, s->part_len);
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
    int err = find(s, "stale_int80_munmap", &int80_munmap);
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

const struct stale_case stale_raw_cases[] = {
    { "raw", "munmap by inline assembly", MOVES, make_early, unmap_raw },
    { "raw-before", "the same, by an object from before", MOVES | FIRST,
      make_early, unmap_raw },
    { "raw-late", "the same, by an object loaded later", MOVES | PLAIN,
      stale_make_private, unmap_raw_late },
    { "raw-later", "the same, and a get between load and use", MOVES | PLAIN,
      stale_make_private, unmap_raw_later },
    { "raw-any", "munmap by an assembly routine for any call", MOVES,
      make_early, unmap_any },
    { "raw-fixed", "mmap(MAP_FIXED) by inline assembly", MOVES, make_early, map_over_raw },
    { "raw-guard", "madvise(MADV_GUARD_INSTALL) by inline assembly", MOVES,
      make_early, guard_raw },
    { "raw-shm-remap", "shmat(SHM_REMAP) by inline assembly", MOVES, make_early, attach_raw },
    { "raw-clone", "munmap by a CLONE_VM child, all by assembly", MOVES,
      make_early, clone_unmaps_raw },
    { "raw-uring", "IORING_OP_MADVISE, its ring by assembly", MOVES,
      make_early, dontneed_ring_raw },
    { "raw-race", "munmap and mmap by two threads, both by assembly", MOVES | WHOLE,
      make_early, race_unmap_map },
    { "int80", "munmap by the kernel's 32-bit entry", MOVES, make_low, unmap_int80 },
    { "dlmopen", "munmap of a second C library, by dlmopen", MOVES | PLAIN,
      stale_make_private, unmap_other_library },
    { "raw-made", "munmap by code made at run time", MOVES | PLAIN,
      stale_make_private, unmap_made_code },
    { "raw-made-guard", "MADV_GUARD_INSTALL by code made at run time", MOVES | PLAIN,
      stale_make_private, guard_made_code },
    { NULL, NULL, 0, NULL, NULL },
};
