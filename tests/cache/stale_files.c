/* SPDX-License-Identifier: BSD-3-Clause */
/* stale_files.c - the buffer is a mapped file or a System V segment, and the file
 * is cut or punched under it, or the segment is detached. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/cache/stale.h"
#include "tests/cache/stale_ring.h"

static int make_file(struct scene *s, int flags)
{
    s->len = STALE_LEN;
    s->fd = memfd_create("stale", MFD_CLOEXEC);
    if (s->fd < 0 || ftruncate(s->fd, (off_t)s->len))
        return -errno;
    s->addr = mmap(NULL, s->len, PROT_READ | PROT_WRITE, flags, s->fd, 0);
    return s->addr == MAP_FAILED ? -errno : 0;
}

static int make_shared_file(struct scene *s) { return make_file(s, MAP_SHARED); }
static int make_private_file(struct scene *s) { return make_file(s, MAP_PRIVATE); }

static off_t part_offset(const struct scene *s) { return s->part - s->addr; }

static int punch(struct scene *s)
{
    return fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, part_offset(s),
                     (off_t)s->part_len) ? -errno : 0;
}

static int punch_by_syscall(struct scene *s)
{
    return syscall(SYS_fallocate, s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                   part_offset(s), s->part_len) ? -errno : 0;
}

static int punch_by_ring(struct scene *s)
{
    int err = stale_ring_fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                   (uint64_t)part_offset(s), s->part_len);
    if (err == -ENOSYS || err == -EPERM)
        return stale_cannot(s, "no io_uring here");
    return err;
}

static int cut(struct scene *s)
{
    return ftruncate(s->fd, part_offset(s)) ? -errno : 0;
}

static int cut_and_grow(struct scene *s)
{
    int err = cut(s);
    return err ? err : ftruncate(s->fd, (off_t)s->len) ? -errno : 0;
}

/* By its name: a memfd has one in /proc. */
static void name_of(const struct scene *s, char name[64])
{
    snprintf(name, 64, "/proc/self/fd/%d", s->fd);
}

static int cut_by_name(struct scene *s)
{
    char name[64];
    name_of(s, name);
    if (truncate(name, part_offset(s)) || truncate(name, (off_t)s->len))
        return -errno;
    return 0;
}

static int cut_by_open(struct scene *s)
{
    char name[64];
    name_of(s, name);
    int fd = open(name, O_RDWR | O_TRUNC | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    close(fd);
    return ftruncate(s->fd, (off_t)s->len) ? -errno : 0;
}

static int cut_by_fopen(struct scene *s)
{
    char name[64];
    name_of(s, name);
    FILE *f = fopen(name, "w");
    if (!f)
        return -errno;
    fclose(f);
    return ftruncate(s->fd, (off_t)s->len) ? -errno : 0;
}

/* Through another mapping of the same file: not our addresses. */
static int remove_elsewhere(struct scene *s)
{
    void *alias = mmap(NULL, s->part_len, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd,
                       part_offset(s));
    if (alias == MAP_FAILED)
        return -errno;
    int err = madvise(alias, s->part_len, MADV_REMOVE) ? -errno : 0;
    munmap(alias, s->part_len);
    return err;
}

/* Another process has the file too, and waits for a letter. */
static int with_helper(struct scene *s, int (*make)(struct scene *),
                       int (*act)(struct scene *))
{
    int err = make(s);
    if (err)
        return err;
    if (pipe(s->go) || pipe(s->done))
        return -errno;
    s->helper = fork();
    if (s->helper < 0)
        return -errno;
    if (s->helper == 0) {
        uint64_t range[2];
        close(s->go[1]);
        if (read(s->go[0], range, sizeof range) == sizeof range) {
            s->part = s->addr + range[0];
            s->part_len = range[1];
            _exit(act(s) ? 1 : 0);
        }
        _exit(2);
    }
    close(s->go[0]);
    return 0;
}

static int helper_acts(struct scene *s)
{
    uint64_t range[2] = { (uint64_t)part_offset(s), s->part_len };
    int status;
    if (write(s->go[1], range, sizeof range) != sizeof range ||
        waitpid(s->helper, &status, 0) != s->helper)
        return -errno;
    return status ? -EIO : 0;
}

static int make_punched_by_other(struct scene *s)
{
    return with_helper(s, make_shared_file, punch);
}

static int make_cut_by_other(struct scene *s)
{
    return with_helper(s, make_shared_file, cut_and_grow);
}

static int remove_mapped(struct scene *s)
{
    return madvise(s->part, s->part_len, MADV_REMOVE) ? -errno : 0;
}

static int attach(struct scene *s, void *at, int flags, void **out)
{
    int id = shmget(IPC_PRIVATE, s->len, IPC_CREAT | 0600);
    if (id < 0)
        return errno == ENOSYS ? stale_cannot(s, "no System V segments here") : -errno;
    *out = shmat(id, at, flags);
    int err = *out == (void *)-1 ? -errno : 0;
    shmctl(id, IPC_RMID, NULL);
    return err;
}

static int make_segment(struct scene *s)
{
    void *p = NULL;
    s->len = STALE_LEN;
    int err = attach(s, NULL, 0, &p);
    s->addr = p;
    return err;
}

static int make_segment_of_other(struct scene *s)
{
    return with_helper(s, make_segment, remove_mapped);
}

static int detach_attach(struct scene *s)
{
    void *p;
    if (shmdt(s->addr))
        return -errno;
    return attach(s, s->addr, 0, &p);
}

static int attach_onto(struct scene *s)
{
    void *p;
    return attach(s, s->addr, SHM_REMAP, &p);
}

const struct stale_case stale_file_cases[] = {
    { "punch", "fallocate punches a hole in the mapped file", MOVES,
      make_shared_file, punch },
    { "punch-syscall", "syscall(SYS_fallocate) punches it", MOVES,
      make_shared_file, punch_by_syscall },
    { "punch-uring", "IORING_OP_FALLOCATE punches it", MOVES,
      make_shared_file, punch_by_ring },
    { "punch-other", "another process punches it", MOVES,
      make_punched_by_other, helper_acts },
    { "remove-alias", "MADV_REMOVE through another mapping of it", MOVES,
      make_shared_file, remove_elsewhere },
    { "ftruncate", "ftruncate of the mapped file, down and up", MOVES,
      make_shared_file, cut_and_grow },
    { "ftruncate-gone", "ftruncate down, and it stays short", MOVES | GONE,
      make_shared_file, cut },
    { "ftruncate-other", "ftruncate by another process", MOVES,
      make_cut_by_other, helper_acts },
    { "ftruncate-private", "ftruncate of a file mapped privately", MOVES,
      make_private_file, cut_and_grow },
    { "truncate", "truncate by name, down and up", MOVES,
      make_shared_file, cut_by_name },
    { "open-trunc", "open(O_TRUNC) of the mapped file", MOVES | WHOLE,
      make_shared_file, cut_by_open },
    { "open-trunc-private", "open(O_TRUNC) of a file mapped privately", MOVES | WHOLE,
      make_private_file, cut_by_open },
    { "fopen-private", "fopen(\"w\") of a file mapped privately", MOVES | WHOLE,
      make_private_file, cut_by_fopen },
    { "shmdt", "shmdt, and shmat of another segment", MOVES | WHOLE,
      make_segment, detach_attach },
    { "shm-remap", "shmat(SHM_REMAP) over private memory", MOVES | WHOLE | PLAIN,
      stale_make_private, attach_onto },
    { "shm-remap-shm", "shmat(SHM_REMAP) over another segment", MOVES | WHOLE,
      make_segment, attach_onto },
    { "shm-other", "MADV_REMOVE of the segment by another process", MOVES,
      make_segment_of_other, helper_acts },
    { NULL, NULL, 0, NULL, NULL },
};
