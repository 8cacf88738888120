/* SPDX-License-Identifier: BSD-3-Clause */
/* stale_raw.c - changes by system calls that pass by the C library.
 *
 * The code that makes them is in objects of its own, which only these cases load: who
 * looks for such code shall find it here and in no other cell. One object unmaps, one
 * maps, with the numbers of the calls beside them; one makes any call.
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

/* MADV_GUARD_*, from Linux include/uapi/asm-generic/mman-common.h. */
enum { GUARD_INSTALL = 102, GUARD_REMOVE = 103 };

int stale_find(struct scene *s, const char *name, void *function)
{
    void *p = dlsym(s->object, name);
    if (!p)
        return -ENOENT;
    memcpy(function, &p, sizeof p);
    return 0;
}

/* What the objects offer. */
typedef long (*few_munmap)(void *, size_t);
typedef long (*few_mmap)(void *, size_t, long flags);
typedef long (*any_call)(long, long, long, long, long, long, long);

/* The object is there before anything is cached. */
static int make_few(struct scene *s)
{
    int err = stale_load(s, "stale_raw_few.so");
    return err ? err : stale_make_private(s);
}

static int make_map(struct scene *s)
{
    int err = stale_load(s, "stale_raw_map.so");
    return err ? err : stale_make_private(s);
}

static int make_any(struct scene *s)
{
    int err = stale_load(s, "stale_raw_any.so");
    return err ? err : stale_make_private(s);
}

/* ---- a few calls ---- */

static int unmap_raw(struct scene *s)
{
    few_munmap unmap;
    int err = stale_find(s, "stale_few_munmap", &unmap);
    if (!err)
        err = (int)unmap(s->part, s->part_len);
    return err ? err : stale_map_at(s->part, s->part_len);
}

/* The object comes after something was cached. */
static int unmap_raw_late(struct scene *s)
{
    int err = stale_load(s, "stale_raw_few.so");
    return err ? err : unmap_raw(s);
}

/* And is used only after the cache has been asked once more. */
static int unmap_raw_later(struct scene *s)
{
    int err = stale_load(s, "stale_raw_few.so");
    if (!err)
        err = s->use(s);
    return err ? err : unmap_raw(s);
}

static int map_over_raw(struct scene *s)
{
    few_mmap map;
    int err = stale_find(s, "stale_map_mmap", &map);
    if (err)
        return err;
    long p = map(s->part, s->part_len, MAP_FIXED);
    return p < 0 ? (int)p : 0;
}

static int clone_unmaps_raw(struct scene *s)
{
    few_munmap clone_unmap;
    int err = stale_find(s, "stale_few_clone_munmap", &clone_unmap);
    if (err)
        return err;
    long child = clone_unmap(s->part, s->part_len);
    if (child < 0)
        return (int)child;
    int status;
    if (waitpid((pid_t)child, &status, __WALL) != child)
        return -errno;
    return status ? -EIO : stale_map_at(s->part, s->part_len);
}

/* One thread unmaps, another has the addresses as soon as they are free, long before
 * the first one's call returns. */
enum { ROUNDS = 100 };

struct race {
    struct scene *scene;
    few_munmap unmap;
    few_mmap map;
    pthread_barrier_t start;
};

static void *unmap_in_race(void *arg)
{
    struct race *race = arg;
    for (int i = 0; i < ROUNDS; i++) {
        pthread_barrier_wait(&race->start);
        race->unmap(race->scene->addr, race->scene->len);
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
        p = race->map(s->addr, s->len, MAP_FIXED_NOREPLACE);
    while (p == -EEXIST);
    int err = p == (long)s->addr ? s->use(s) : (int)p;
    pthread_barrier_wait(&race->start);
    return err;
}

static int run_race(struct race *race)
{
    pthread_t thread;
    pthread_barrier_init(&race->start, NULL, 2);
    int err = -pthread_create(&thread, NULL, unmap_in_race, race);
    if (err)
        return err;
    for (int i = 0; i < ROUNDS; i++) {
        int answer = map_in_race(race);
        err = err ? err : answer;
    }
    pthread_join(thread, NULL);
    return err;
}

/* The object that unmaps comes after the buffer was got. */
static int race_raw(struct scene *s)
{
    struct race race = { .scene = s };
    int err = stale_find(s, "stale_map_mmap", &race.map);
    if (!err)
        err = stale_load(s, "stale_raw_few.so");
    if (!err)
        err = stale_find(s, "stale_few_munmap", &race.unmap);
    return err ? err : run_race(&race);
}

/* As any other cache can do it: what maps is the library. */
static long map_by_library(void *addr, size_t len, long flags)
{
    void *p = mmap(addr, len, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | (int)flags, -1, 0);
    return p == MAP_FAILED ? -errno : (long)p;
}

static int race_raw_library(struct scene *s)
{
    struct race race = { .scene = s, .map = map_by_library };
    int err = stale_find(s, "stale_few_munmap", &race.unmap);
    return err ? err : run_race(&race);
}

static long unmap_by_library(void *addr, size_t len)
{
    return munmap(addr, len);
}

static int race_library(struct scene *s)
{
    struct race race = { .scene = s, .unmap = unmap_by_library, .map = map_by_library };
    return run_race(&race);
}

/* ---- any call ---- */

static int unmap_any(struct scene *s)
{
    any_call any;
    int err = stale_find(s, "stale_raw_any", &any);
    if (!err)
        err = (int)any(SYS_munmap, (long)s->part, (long)s->part_len, 0, 0, 0, 0);
    return err ? err : stale_map_at(s->part, s->part_len);
}

static int unmap_any_late(struct scene *s)
{
    int err = stale_load(s, "stale_raw_any.so");
    return err ? err : unmap_any(s);
}

static int guard_any(struct scene *s)
{
    any_call any;
    int err = stale_find(s, "stale_raw_any", &any);
    if (!err)
        err = (int)any(SYS_madvise, (long)s->part, (long)s->part_len, GUARD_INSTALL, 0, 0, 0);
    if (!err)
        err = (int)any(SYS_madvise, (long)s->part, (long)s->part_len, GUARD_REMOVE, 0, 0, 0);
    return err == -EINVAL ? stale_cannot(s, "this kernel knows no such advice") : err;
}

static int attach_any(struct scene *s)
{
    any_call any;
    int err = stale_find(s, "stale_raw_any", &any);
    if (err)
        return err;
    int id = shmget(IPC_PRIVATE, s->part_len, IPC_CREAT | 0600);
    if (id < 0)
        return stale_cannot(s, "no System V segments here");
    long at = any(SYS_shmat, id, (long)s->part, SHM_REMAP, 0, 0, 0);
    shmctl(id, IPC_RMID, NULL);
    return at < 0 && at > -STALE_PAGE ? (int)at : 0;
}

static int dontneed_ring_any(struct scene *s)
{
    int (*ring_madvise)(void *, size_t, int);
    int err = stale_find(s, "stale_raw_ring_madvise", &ring_madvise);
    if (!err)
        err = ring_madvise(s->part, s->part_len, MADV_DONTNEED);
    if (err == -ENOSYS || err == -EPERM)
        return stale_cannot(s, "no io_uring here");
    return err;
}

const struct stale_case stale_raw_cases[] = {
    { "race", "munmap by one thread, mmap by another at once", MOVES | WHOLE | PLAIN,
      stale_make_private, race_library },
    { "raw", "munmap by inline assembly", MOVES, make_few, unmap_raw },
    { "raw-before", "the same, by an object from before", MOVES | FIRST,
      make_few, unmap_raw },
    { "raw-late", "the same, by an object loaded later", MOVES | PLAIN,
      stale_make_private, unmap_raw_late },
    { "raw-later", "the same, and a get between load and use", MOVES | PLAIN,
      stale_make_private, unmap_raw_later },
    { "raw-fixed", "mmap(MAP_FIXED) by inline assembly", MOVES, make_map, map_over_raw },
    { "raw-clone", "munmap by a CLONE_VM child, all by assembly", MOVES,
      make_few, clone_unmaps_raw },
    { "raw-race", "munmap by assembly, mmap by another thread at once", MOVES | WHOLE,
      make_few, race_raw_library },
    { "raw-race-raw", "the same, and the mmap by assembly too", MOVES | WHOLE,
      make_map, race_raw },
    { "any", "munmap by an assembly routine for any call", MOVES, make_any, unmap_any },
    { "any-late", "the same, by an object loaded later", MOVES | PLAIN,
      stale_make_private, unmap_any_late },
    { "any-guard", "MADV_GUARD_INSTALL by such a routine", MOVES, make_any, guard_any },
    { "any-shm-remap", "shmat(SHM_REMAP) by such a routine", MOVES, make_any, attach_any },
    { "any-uring", "IORING_OP_MADVISE, its ring by such a routine", MOVES,
      make_any, dontneed_ring_any },
    { NULL, NULL, 0, NULL, NULL },
};
