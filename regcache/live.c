/* SPDX-License-Identifier: BSD-3-Clause */
/* live.c - a page of counters that others may read while its owner runs.
 *
 * Start at pw_live_open(). A memfd, for it has no name that could collide or be
 * left behind, and is found through /proc by who may look. It is sealed: its
 * size stays, so that no reader gets a SIGBUS, and from the owner's mapping on
 * nobody can map it to write.
 *
 * Always true: what a reader copies is checked before it is believed. Any
 * process may have a file of that name.
 */
#define _GNU_SOURCE
#include "pinwheel/live.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pinwheel/clock.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010      /* linux/fcntl.h, since Linux 5.1 */
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U         /* linux/memfd.h, since Linux 6.3 */
#endif

struct pw_live {
    struct pw_live_page *page;
    int fd;
};

/* ---- the owner ---- */

static int file_seal(int fd)
{
    int size = F_SEAL_SHRINK | F_SEAL_GROW;

    /* An older kernel lets others of this user write; they could anyway. */
    if (!fcntl(fd, F_ADD_SEALS, size | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL))
        return 0;
    return fcntl(fd, F_ADD_SEALS, size | F_SEAL_SEAL) ? -errno : 0;
}

static int file_make(int *fd)
{
    unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;

    *fd = memfd_create(PW_LIVE_FILE, flags | MFD_NOEXEC_SEAL);
    if (*fd < 0 && errno == EINVAL)
        *fd = memfd_create(PW_LIVE_FILE, flags);
    return *fd < 0 ? -errno : 0;
}

/* ftruncate() beyond RLIMIT_FSIZE does not only fail: it raises SIGXFSZ. */
static int file_grow(int fd, size_t size)
{
    struct rlimit lim;

    if (!getrlimit(RLIMIT_FSIZE, &lim) && lim.rlim_cur < size)
        return -EFBIG;
    return ftruncate(fd, (off_t)size) ? -errno : 0;
}

static int page_make(struct pw_live *live)
{
    void *page;
    int err = file_make(&live->fd);

    if (err)
        return err;
    err = file_grow(live->fd, sizeof(*live->page));
    if (err)
        goto close;
    page = mmap(NULL, sizeof(*live->page), PROT_READ | PROT_WRITE, MAP_SHARED, live->fd,
                0);
    if (page == MAP_FAILED) {
        err = -errno;
        goto close;
    }
    err = file_seal(live->fd);
    if (err) {
        munmap(page, sizeof(*live->page));
        goto close;
    }
    live->page = page;
    return 0;

close:
    close(live->fd);
    return err;
}

int pw_live_open(const char *const names[], unsigned n, struct pw_live **out)
{
    struct pw_live *live;
    int err;

    *out = NULL;
    if (n > PW_LIVE_VALUES)
        return -EINVAL;
    for (unsigned i = 0; i < n; i++)
        if (strlen(names[i]) >= PW_LIVE_NAME)
            return -EINVAL;
    live = calloc(1, sizeof(*live));
    if (!live)
        return -ENOMEM;
    err = page_make(live);
    if (err) {
        free(live);
        return err;
    }
    live->page->version = PW_LIVE_VERSION;
    live->page->pid = getpid();
    for (unsigned i = 0; i < n; i++)
        strcpy(live->page->values[i].name, names[i]);
    live->page->n_values = n;
    /* Pairs with the acquire in page_believe(): who sees it sees a whole page. */
    __atomic_store_n(&live->page->magic, PW_LIVE_MAGIC, __ATOMIC_RELEASE);
    *out = live;
    return 0;
}

void pw_live_close(struct pw_live *live)
{
    if (!live)
        return;
    munmap(live->page, sizeof(*live->page));
    close(live->fd);
    free(live);
}

int pw_live_tell(struct pw_live *live, const char *name, const char *text)
{
    struct pw_live_page *p = live->page;
    uint32_t i = 0;

    while (i < p->n_texts && strncmp(p->texts[i].name, name, PW_LIVE_NAME - 1))
        i++;
    if (i == PW_LIVE_TEXTS)
        return -ENOSPC;
    snprintf(p->texts[i].name, PW_LIVE_NAME, "%s", name);
    snprintf(p->texts[i].text, PW_LIVE_TEXT, "%s", text);
    if (i == p->n_texts)
        __atomic_store_n(&p->n_texts, i + 1, __ATOMIC_RELEASE);
    return 0;
}

void pw_live_update(struct pw_live *live, const uint64_t values[])
{
    struct pw_live_page *p = live->page;

    for (uint32_t i = 0; i < p->n_values; i++)
        __atomic_store_n(&p->values[i].value, values[i], __ATOMIC_RELAXED);
    __atomic_store_n(&p->updated_ns, pw_now_ns(), __ATOMIC_RELEASE);
}

/* ---- who looks ---- */

/* The number of the file among the process's descriptors; -errno. */
static int file_find(DIR *dir, unsigned skip)
{
    static const char wanted[] = "/memfd:" PW_LIVE_FILE " (deleted)";
    struct dirent *d;

    while ((d = readdir(dir)) != NULL) {
        char target[sizeof(wanted)];
        ssize_t n;

        if (!isdigit((unsigned char)d->d_name[0]))
            continue;
        n = readlinkat(dirfd(dir), d->d_name, target, sizeof(target));
        if (n == sizeof(wanted) - 1 && !memcmp(target, wanted, (size_t)n) && !skip--)
            return atoi(d->d_name);
    }
    return -ENOENT;
}

/* Sealed as ours are: then it can be mapped without fear of its end. */
static bool file_is_ours(int fd)
{
    struct stat s;
    int seals = fcntl(fd, F_GET_SEALS);

    return seals >= 0 && seals & F_SEAL_SHRINK && !fstat(fd, &s) &&
           s.st_size == sizeof(struct pw_live_page);
}

/* Numbers are read one by one, as they are written; the rest is made safe. */
static int page_believe(const struct pw_live_page *from, struct pw_live_page *out)
{
    if (__atomic_load_n(&from->magic, __ATOMIC_ACQUIRE) != PW_LIVE_MAGIC ||
        from->version != PW_LIVE_VERSION)
        return -EPROTO;
    memcpy(out, from, sizeof(*out));
    out->updated_ns = __atomic_load_n(&from->updated_ns, __ATOMIC_ACQUIRE);
    if (out->n_texts > PW_LIVE_TEXTS || out->n_values > PW_LIVE_VALUES)
        return -EPROTO;
    for (uint32_t i = 0; i < out->n_values; i++) {
        out->values[i].value = __atomic_load_n(&from->values[i].value, __ATOMIC_RELAXED);
        out->values[i].name[PW_LIVE_NAME - 1] = '\0';
    }
    for (uint32_t i = 0; i < out->n_texts; i++) {
        out->texts[i].name[PW_LIVE_NAME - 1] = '\0';
        out->texts[i].text[PW_LIVE_TEXT - 1] = '\0';
    }
    return 0;
}

static int page_read(int fd, struct pw_live_page *out)
{
    void *page;
    int err;

    if (!file_is_ours(fd))
        return -EPROTO;
    page = mmap(NULL, sizeof(*out), PROT_READ, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED)
        return -errno;
    err = page_believe(page, out);
    munmap(page, sizeof(*out));
    return err;
}

int pw_live_read(pid_t pid, unsigned skip, struct pw_live_page *out)
{
    char path[64];
    int n, fd, err;
    DIR *dir;

    snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
    dir = opendir(path);
    if (!dir)
        return errno == ENOENT ? -ESRCH : -errno;
    n = file_find(dir, skip);
    closedir(dir);
    if (n < 0)
        return n;
    snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, n);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    err = page_read(fd, out);
    close(fd);
    return err;
}
