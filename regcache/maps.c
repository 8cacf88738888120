/* SPDX-License-Identifier: BSD-3-Clause */
/* maps.c - what kinds of memory lie behind a range, as the kernel tells it.
 *
 * Start at pw_maps_find(). To open the file takes five times as long as to ask, so
 * it is kept open. Two things can happen to it:
 *   - fork: a child's copy shows the parent's memory. What we keep stands in a page
 *     that the kernel wipes in children.
 *   - a program closes all descriptors that it does not know, and the number is soon
 *     another file's. So the file's inode is looked at each time: one of /proc is no
 *     other file's while it is open.
 * The file is a thread's, for a process whose first thread has ended shows an empty
 * one. It shows the whole process's memory, also when that thread has ended.
 *
 * System calls are made raw: this runs within other libraries' calls, which rely
 * on errno, and none of the calls is a place where a thread may be cancelled.
 */
#include "maps.h"

#include <fcntl.h>
#include <linux/ioctl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "owner.h"
#include "raw.h"

/* The question and the answer of PROCMAP_QUERY: Linux include/uapi/linux/fs.h, of
 * 6.11 and later, field by field. */
struct query {
    uint64_t size;              /* of this structure */
    uint64_t flags;             /* in; 0: the mapping that covers addr */
    uint64_t addr;              /* in */
    uint64_t start, end;
    uint64_t vma_flags;
    uint64_t page_size;
    uint64_t offset;
    uint64_t inode;
    uint32_t dev_major, dev_minor;
    uint32_t name_size;         /* in: room; out: with the 0, or 0 for no name */
    uint32_t build_id_size;
    uint64_t name;              /* in: where */
    uint64_t build_id;
};
#define QUERY _IOWR('f', 17, struct query)
_Static_assert(sizeof(struct query) == 104, "as in Linux 6.11");

enum { VMA_SHARED = 0x08 };

/* Longer than all names that tell a kind; [anon:...] is 87 at most. */
enum { NAME_MAX_SIZE = 128 };

static bool begins(const char *name, const char *with)
{
    return strncmp(name, with, strlen(with)) == 0;
}

/* Devices show by where they stand; /dev/zero, /dev/shm and /dev/hugepages are
 * memory. What the kernel maps by itself is named in brackets. */
static bool special(const char *name)
{
    if (name[0] == '[')
        return !begins(name, "[heap]") && !begins(name, "[stack") &&
               !begins(name, "[anon:") && !begins(name, "[anon_shmem:");
    if (begins(name, "/dev/"))
        return !begins(name, "/dev/zero") && !begins(name, "/dev/shm/") &&
               !begins(name, "/dev/hugepages/");
    return begins(name, "anon_inode:") || begins(name, "/secretmem");
}

static enum pw_memory kind_of(bool shared, bool file, const char *name)
{
    if (special(name))
        return PW_MEM_SPECIAL;
    if (shared)
        return PW_MEM_SHARED;
    /* MAP_ANONYMOUS | MAP_HUGETLB is made of a nameless file of this mapping's
     * own, which is shown by this name, deleted. */
    if (file && !begins(name, "/anon_hugepage (deleted)"))
        return PW_MEM_PRIVATE_FILE;
    return PW_MEM_PRIVATE;
}

/* A name too long to be told is a file's. */
static long ask(int fd, struct query *q, uintptr_t addr, char *name)
{
    long got;

    memset(q, 0, sizeof *q);
    q->size = sizeof *q;
    q->addr = addr;
    q->name = (uintptr_t)name;
    q->name_size = NAME_MAX_SIZE;
    got = pw_raw3(SYS_ioctl, fd, (long)QUERY, (long)(uintptr_t)q);
    if (got == -ENAMETOOLONG) {
        q->name = 0;
        q->name_size = 0;
        got = pw_raw3(SYS_ioctl, fd, (long)QUERY, (long)(uintptr_t)q);
    }
    if (!got && q->name_size == 0)
        name[0] = '\0';
    return got;
}

static void found_add(struct pw_maps_found *f, struct pw_range r, unsigned kind)
{
    if (!f->kinds)
        f->whole.start = r.start;
    f->whole.end = r.end;
    f->kinds |= kind;
}

int pw_maps_by_query(int fd, struct pw_range r, struct pw_maps_found *out)
{
    char name[NAME_MAX_SIZE];
    struct query q;

    out->kinds = 0;
    for (uintptr_t at = r.start; at < r.end; at = q.end) {
        long got = ask(fd, &q, at, name);

        if (got == -ENOENT)
            return -EFAULT;
        if (got)
            return (int)got;
        found_add(out, (struct pw_range){ q.start, q.end },
                  kind_of(q.vma_flags & VMA_SHARED,
                          q.inode || q.dev_major || q.dev_minor, name));
    }
    return 0;
}

/* The file, a line at a time. */
struct lines {
    int fd;
    size_t at, have;
    char buf[2048];
};

/* One character; 0 at the end of the file; -errno. */
static int next_char(struct lines *in)
{
    if (in->at == in->have) {
        long got;

        do
            got = pw_raw3(SYS_read, in->fd, (long)(uintptr_t)in->buf,
                          sizeof in->buf);
        while (got == -EINTR);
        if (got <= 0)
            return (int)got;
        in->at = 0;
        in->have = (size_t)got;
    }
    return (unsigned char)in->buf[in->at++];
}

/* The start of the next line as a string; the rest of a long one is skipped.
 * 1, 0 at the end of the file, or -errno. */
static int next_line(struct lines *in, char *line, size_t size)
{
    size_t n = 0;
    int c;

    while ((c = next_char(in)) > 0 && c != '\n')
        if (n < size - 1)
            line[n++] = (char)c;
    line[n] = '\0';
    return c < 0 ? c : c == '\n';
}

/* A hexadecimal number, which moves *s behind it. */
static uintptr_t number(const char **s)
{
    uintptr_t value = 0;

    for (;; ++*s) {
        if (**s >= '0' && **s <= '9')
            value = value * 16 + (uintptr_t)(**s - '0');
        else if (**s >= 'a' && **s <= 'f')
            value = value * 16 + (uintptr_t)(**s - 'a' + 10);
        else
            return value;
    }
}

static const char *next_field(const char *s)
{
    while (*s && *s != ' ')
        s++;
    while (*s == ' ')
        s++;
    return s;
}

struct line {
    struct pw_range range;
    enum pw_memory kind;
};

/* "start-end rwxs offset major:minor inode   name", as in proc(5). */
static struct line parse(const char *s)
{
    struct line l;
    const char *device, *inode;
    bool shared, file;

    l.range.start = number(&s);
    s += *s == '-';
    l.range.end = number(&s);
    s = next_field(s);
    shared = memchr(s, 's', strnlen(s, 4)) != NULL;
    device = next_field(next_field(s));
    inode = next_field(device);
    file = !begins(device, "00:00 ") || !begins(inode, "0");
    l.kind = kind_of(shared, file, next_field(inode));
    return l;
}

/* 1, 0 at the end of the file, or -errno. */
static int next_mapping(struct lines *in, struct line *out)
{
    char text[NAME_MAX_SIZE + 128];
    int got = next_line(in, text, sizeof text);

    if (got > 0)
        *out = parse(text);
    return got;
}

int pw_maps_by_reading(int fd, struct pw_range r, struct pw_maps_found *out)
{
    struct lines in = { .fd = fd };
    uintptr_t at = r.start;

    out->kinds = 0;
    while (at < r.end) {
        struct line l;
        int got = next_mapping(&in, &l);

        if (got < 0)
            return got;
        if (got == 0)
            return -EFAULT;
        if (l.range.end <= at)
            continue;
        if (l.range.start > at)
            return -EFAULT;
        found_add(out, l.range, l.kind);
        at = l.range.end;
    }
    return 0;
}

static int maps_open(void)
{
    return (int)pw_raw6(SYS_openat, AT_FDCWD,
                        (long)(uintptr_t)"/proc/thread-self/maps", O_RDONLY | O_CLOEXEC,
                        0, 0, 0);
}

static void maps_close(int fd)
{
    pw_raw3(SYS_close, fd, 0, 0);
}

/* A kept descriptor and the inode that it had, in one word; 0 is none. */
enum { KEY_BITS = 20, KEPT_FROM = 800 };

static uint64_t *kept;              /* in a page that is wiped by fork */
static uint64_t kept_last;          /* the same, and in a child the parent's */

static int key_fd(uint64_t key)
{
    return (int)(key & ((1 << KEY_BITS) - 1));
}

static uint64_t key_of(int fd)
{
    struct stat st;

    if (fd < 0 || fd >> KEY_BITS ||
        pw_raw3(SYS_fstat, fd, (long)(uintptr_t)&st, 0))
        return 0;
    return (uint64_t)st.st_ino << KEY_BITS | (unsigned)fd;
}

static bool is_ours(uint64_t key)
{
    return key && key_of(key_fd(key)) == key;
}

/* The first thread that comes makes the page. */
static uint64_t *kept_page(void)
{
    uint64_t *page = __atomic_load_n(&kept, __ATOMIC_ACQUIRE), *none = NULL;
    int before = errno, err;
    struct pw_owner o;

    if (page)
        return page;
    err = pw_owner_init(&o);
    errno = before;
    if (err)
        return NULL;
    page = (uint64_t *)(void *)o.mark;
    *page = 0;
    if (__atomic_compare_exchange_n(&kept, &none, page, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE))
        return page;
    pw_owner_fini(&o);
    return none;
}

/* In the place of `was`, which is no good. In a child, what the parent left open is
 * closed. */
static void keep(int fd, uint64_t was)
{
    uint64_t *page = kept_page(), last;
    int high = (int)pw_raw3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, KEPT_FROM);
    uint64_t key = key_of(high);

    if (page && key && __atomic_compare_exchange_n(page, &was, key, false,
                                                   __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
        last = __atomic_exchange_n(&kept_last, key, __ATOMIC_ACQ_REL);
        if (is_ours(last))
            maps_close(key_fd(last));
    } else if (high >= 0) {
        maps_close(high);
    }
}

__attribute__((destructor)) static void unkeep(void)
{
    uint64_t key = kept ? __atomic_exchange_n(kept, 0, __ATOMIC_ACQ_REL) : 0;

    if (is_ours(key))
        maps_close(key_fd(key));
}

/* The kernel can answer by a query. */
static bool answered(int err)
{
    return !err || err == -EFAULT;
}

int pw_maps_find(struct pw_range r, struct pw_maps_found *out)
{
    uint64_t *page = __atomic_load_n(&kept, __ATOMIC_ACQUIRE);
    uint64_t key = page ? __atomic_load_n(page, __ATOMIC_ACQUIRE) : 0;
    int err, fd;

    if (is_ours(key)) {
        err = pw_maps_by_query(key_fd(key), r, out);
        if (answered(err))
            return err;
    }
    fd = maps_open();
    if (fd < 0)
        return fd;
    err = pw_maps_by_query(fd, r, out);
    if (answered(err))
        keep(fd, key);
    else
        err = pw_maps_by_reading(fd, r, out);
    maps_close(fd);
    return err;
}

int pw_maps_kinds(struct pw_range r, unsigned *kinds)
{
    struct pw_maps_found found;
    int err = pw_maps_find(r, &found);

    if (!err)
        *kinds = found.kinds;
    return err;
}

int pw_maps_each(void (*visit)(struct pw_range r, enum pw_memory kind, void *arg),
                 void *arg)
{
    struct lines in = { .fd = maps_open() };
    struct line l;
    int got;

    if (in.fd < 0)
        return in.fd;
    while ((got = next_mapping(&in, &l)) > 0)
        visit(l.range, l.kind, arg);
    maps_close(in.fd);
    return got;
}
