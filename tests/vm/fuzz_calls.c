/* SPDX-License-Identifier: BSD-3-Clause */
/* fuzz_calls.c - the driver's calls with arguments that are right, nearly right or
 * neither, and which answer each may give by include/pinwheel/kdriver.h.
 *
 * Start at call_watch(). Arguments lie at the end of a page that is followed by none.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/vm/fuzz.h"

#define RECORDS 64
#define WORDS_SEEN (PAGE / 8)

struct desc descs[DESCS];
bool with_failures;
uint32_t services;
static int (*pipes)[2];
static int mine;
static volatile uint64_t words_seen[AREAS][WORDS_SEEN];

/* ---- what may be answered ---- */

static const char *const names[CALLS] = {
    "open",          "INFO", "WATCH", "EXPORT",    "DROP",          "SHARE",
    "POOL",          "FILL", "DRAIN", "POOL_INFO", "mmap of words", "mmap of an export",
    "mmap of a pool"
};

/* got: 0 or -errno; may: those that are allowed here, up to a 0. */
static void judge(enum call call, long got, bool must_fail, const int *may,
                  const char *format, ...)
{
    char what[200];
    va_list args;

    atomic_fetch_add(got < 0 ? &board->bad[call] : &board->good[call], 1);
    if (got >= 0 && !must_fail)
        return;
    for (; got < 0 && *may; may++)
        if (-got == *may)
            return;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    broken("%s answers %s: %s", names[call], got < 0 ? strerror((int)-got) : "success",
           what);
}

#define MAY(...) (const int[]){ __VA_ARGS__, 0 }
#define IF(condition, errno_) ((condition) ? (errno_) : EINTR)

/* ---- failing allocations ---- */

static __thread int fail_file = -1;

static void fail_open(void)
{
    if (fail_file >= 0)
        close(fail_file);
    fail_file = with_failures ? open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC) : -1;
}

void failing(struct rng *r)
{
    char n[16];

    if (fail_file < 0 || one_in(r, 2))
        return;
    snprintf(n, sizeof n, "%d", 1 + (int)below(r, one_in(r, 4) ? 60 : 12));
    if (pwrite(fail_file, n, strlen(n), 0) < 0)
        fail_file = -1;
}

void failing_done(void)
{
    int saved = errno;
    char left[8] = "";

    if (fail_file >= 0) {
        if (pread(fail_file, left, sizeof left - 1, 0) > 0 && atoi(left) == 0)
            atomic_fetch_add(&board->failed, 1);
        if (pwrite(fail_file, "0", 1, 0) < 0)
            fail_file = -1;
    }
    errno = saved;
}

/* ---- arguments ---- */

enum where { FINE, READ_ONLY, NOWHERE };

static __thread char *pages;    /* writable, none, only readable, none */

void thread_open(void)
{
    fail_open();
    if (pages)
        return;
    pages = mmap(NULL, 4 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED)
        _exit(3);
    mprotect(pages, PAGE, PROT_READ | PROT_WRITE);
}

static void *place(struct rng *r, const void *in, size_t len, enum where *where)
{
    char *at = pages + PAGE - len;

    *where = FINE;
    memcpy(at, in, len);
    if (!one_in(r, 16))
        return at;
    *where = NOWHERE;
    switch (below(r, 6)) {
    case 0: return NULL;
    case 1: return (void *)(0xffff888000000000ul + PAGE * below(r, 1 << 16));
    case 2: return (void *)(ADDRESSES_END - below(r, 2) * PAGE);
    case 3: return (void *)-len;
    case 4:
        *where = READ_ONLY;
        mprotect(pages + 2 * PAGE, PAGE, PROT_READ | PROT_WRITE);
        at = pages + 3 * PAGE - len;
        memcpy(at, in, len);
        mprotect(pages + 2 * PAGE, PAGE, PROT_READ);
        return at;
    default:
        return pages + PAGE - len + 8 - below(r, 4);
    }
}

/* A call; what it answered is in out. -errno. */
static long request(struct rng *r, int fd, unsigned long number, void *inout, size_t len,
                    enum where *where)
{
    void *at = place(r, inout, len, where);
    long got;

    failing(r);
    got = ioctl(fd, number, at);
    if (got < 0)
        got = -errno;
    failing_done();
    if (*where == FINE)
        memcpy(inout, at, len);
    return got;
}

/* ---- descriptors ---- */

void descs_open(int (*pipes_)[2], int mine_)
{
    pipes = pipes_;
    mine = mine_;
    for (int i = 0; i < DESCS; i++)
        pthread_rwlock_init(&descs[i].lock, NULL);
}

static struct desc *find(struct rng *r, enum what what, bool any,
                         int (*lock)(pthread_rwlock_t *))
{
    int from = (int)below(r, DESCS);

    for (int i = 0; i < DESCS; i++) {
        struct desc *d = &descs[(from + i) % DESCS];

        if (lock(&d->lock) != 0)
            continue;
        if (any ? d->what != CLOSED : d->what == what)
            return d;
        pthread_rwlock_unlock(&d->lock);
    }
    return NULL;
}

struct desc *desc_read(struct rng *r, enum what what)
{
    return find(r, what, false, pthread_rwlock_tryrdlock);
}

struct desc *desc_write(struct rng *r, enum what what)
{
    return find(r, what, false, pthread_rwlock_trywrlock);
}

void desc_done(struct desc *d)
{
    pthread_rwlock_unlock(&d->lock);
}

static ino_t inode_of(int fd)
{
    struct stat st;

    return fstat(fd, &st) ? 0 : st.st_ino;
}

/* All but the lock, which others try meanwhile. */
static void desc_set(struct desc *d, int fd, const struct desc *as)
{
    d->what = as->what;
    d->fd = fd;
    d->process = as->process;
    d->uid = as->uid;
    d->id = as->id;
    d->tag = as->tag;
    d->size = as->size;
    d->words = NULL;
    d->words_bytes = as->words_bytes;
    d->inode = inode_of(fd);
}

/* A child has the descriptors of a moment before its memory; another thread may have
 * opened and closed some between. */
void descs_after_fork(void)
{
    for (int i = 0; i < DESCS; i++) {
        struct desc *d = &descs[i];
        struct pw_kd_info info = { 0 };

        if (d->what == CLOSED)
            continue;
        if (inode_of(d->fd) != d->inode ||
            (d->what == CONTROL_FD &&
             (ioctl(d->fd, PW_KD_INFO, &info) || info.id != d->id)))
            d->what = CLOSED;
    }
}

void desc_close(struct desc *d)
{
    if (d->words)
        munmap((void *)d->words, d->words_bytes);
    d->words = NULL;
    close(d->fd);
    d->what = CLOSED;
}

void desc_shut(struct rng *r)
{
    struct desc *d = find(r, CLOSED, true, pthread_rwlock_trywrlock);

    if (!d)
        return;
    desc_close(d);
    desc_done(d);
}

/* A control descriptor is this process's: watches are its to make. */
static bool own(const struct desc *d)
{
    return d->process == myself;
}

struct parcel {
    enum what what;
    uint32_t process;
    uid_t uid;
    uint64_t id, tag, size;
};

void desc_pass(struct rng *r)
{
    struct desc *d = find(r, CLOSED, true, pthread_rwlock_tryrdlock);
    union { struct cmsghdr header; char room[CMSG_SPACE(sizeof(int))]; } control = { 0 };
    struct parcel parcel;
    struct iovec bytes = { &parcel, sizeof parcel };
    struct msghdr message = { .msg_iov = &bytes, .msg_iovlen = 1, .msg_control = &control,
                              .msg_controllen = sizeof control };

    if (!d)
        return;
    /* What belongs to another process is of little use there. */
    if (d->what == CONTROL_FD && !one_in(r, 6)) {
        desc_done(d);
        return;
    }
    parcel = (struct parcel){ d->what, d->process, d->uid, d->id, d->tag, d->size };
    control.header = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)),
                                       .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
    memcpy(CMSG_DATA(&control.header), &d->fd, sizeof(int));
    sendmsg(pipes[below(r, ACTORS)][1], &message, MSG_DONTWAIT);
    desc_done(d);
}

void desc_receive(struct rng *r)
{
    struct desc *d = desc_write(r, CLOSED);
    union { struct cmsghdr header; char room[CMSG_SPACE(sizeof(int))]; } control;
    struct parcel parcel;
    struct iovec bytes = { &parcel, sizeof parcel };
    struct msghdr message = { .msg_iov = &bytes, .msg_iovlen = 1, .msg_control = &control,
                              .msg_controllen = sizeof control };
    int fd;

    if (!d)
        return;
    if (recvmsg(pipes[mine][0], &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) ==
            sizeof parcel &&
        message.msg_controllen >= CMSG_LEN(sizeof(int))) {
        memcpy(&fd, CMSG_DATA(&control.header), sizeof fd);
        desc_set(d, fd,
                 &(struct desc){ .what = parcel.what,
                                 .process = parcel.process,
                                 .uid = parcel.uid,
                                 .id = parcel.id,
                                 .tag = parcel.tag,
                                 .size = parcel.size });
    }
    desc_done(d);
}

/* ---- control descriptors ---- */

static void words_look(struct desc *d)
{
    void *p = mmap(NULL, d->words_bytes, PROT_READ, MAP_SHARED, d->fd, 0);

    d->words = p == MAP_FAILED ? NULL : p;
}

void call_open(struct rng *r)
{
    struct desc *d = desc_write(r, CLOSED);
    struct pw_kd_info info;
    int fd;

    if (!d)
        return;
    failing(r);
    fd = open(PW_KD_PATH,
              (one_in(r, 2) ? O_RDWR : O_RDONLY) | (one_in(r, 2) ? O_CLOEXEC : 0));
    failing_done();
    judge(OPEN, fd < 0 ? -errno : 0, false, MAY(EDQUOT, ENOMEM, EMFILE, ENFILE, EINTR),
          "control");
    if (fd >= 0 && ioctl(fd, PW_KD_INFO, &info) == 0) {
        desc_set(d, fd, &(struct desc){ .what = CONTROL_FD, .process = myself,
                 .uid = geteuid(), .id = info.id, .words_bytes = info.words_bytes });
        words_look(d);
    } else if (fd >= 0) {
        broken("INFO of a new descriptor: %s", strerror(errno));
    }
    desc_done(d);
}

void call_info(struct rng *r)
{
    struct desc *d = desc_read(r, CONTROL_FD);
    struct pw_kd_info info = { 0 };
    enum where where;
    long got;

    if (!d)
        return;
    got = request(r, d->fd, PW_KD_INFO, &info, sizeof info, &where);
    judge(INFO, got, where != FINE, MAY(IF(where != FINE, EFAULT)), "where %d", where);
    if (got == 0 &&
        (info.id != d->id || info.version != PW_KD_VERSION || info.user_bytes >> 40))
        broken("INFO: id %llu, version %u, bytes %#llx", (unsigned long long)info.id,
               info.version, (unsigned long long)info.user_bytes);
    desc_done(d);
}

/* A right range of an area, made wrong by chance: true. */
static bool spoil(struct rng *r, struct pw_kd_watch *w)
{
    if (!one_in(r, 6))
        return false;
    switch (below(r, 11)) {
    case 0: w->start += 1 + below(r, PAGE - 1); break;
    case 1: w->end -= 1 + below(r, PAGE - 1); break;
    case 2: w->end = w->start; break;
    case 3: w->end = w->start - PAGE; break;
    case 4: w->end = ADDRESSES_END; break;
    case 5: w->start = -PAGE; w->end = 0; break;
    case 6:
        w->start = ADDRESSES_END;
        w->end = w->start + PAGE * rng_length(r, 1 << 20);
        break;
    case 7: w->start = 0xffffffff80000000ul; w->end = w->start + PAGE; break;
    case 8: w->access = (uint32_t)below(r, 2) * PW_KD_WRITE; break;
    case 9: w->access |= 4u << below(r, 30); break;
    default: w->reserved[below(r, 2)] = 1ull << below(r, 64);
    }
    return true;
}

/* Some part of it, or beyond: true. */
static bool range_of(struct rng *r, const struct area *a, struct pw_kd_watch *w)
{
    uint64_t pages_ = a->len / PAGE, from = 0, n = pages_;

    if (one_in(r, 2)) {
        from = below(r, pages_);
        n = rng_length(r, pages_ - from);
    }
    w->start = (uint64_t)a->at + from * PAGE;
    w->end = w->start + n * PAGE;
    if (!one_in(r, 16))
        return false;
    /* No area is next to another. */
    w->end = one_in(r, 2) ? ADDRESSES_END - PAGE : (uint64_t)a->at + (1ul << 46);
    return true;
}

static uint32_t access_of(struct rng *r, const struct area *a)
{
    if (one_in(r, 8))
        return PW_KD_READ | PW_KD_WRITE;
    return PW_KD_READ | (a->prot & PROT_WRITE && one_in(r, 2) ? PW_KD_WRITE : 0);
}

static bool lacks(const struct area *a, uint32_t access)
{
    return (access & PW_KD_READ && !(a->prot & PROT_READ)) ||
           (access & PW_KD_WRITE && !(a->prot & PROT_WRITE));
}

static void slot_check(enum call call, const struct desc *d, const struct pw_kd_watch *w)
{
    if (w->slot < PW_KD_FIRST_SLOT || w->id != d->id ||
        (d->words && w->slot >= d->words_bytes / 8))
        broken("%s: slot %u, id %llu", names[call], w->slot, (unsigned long long)w->id);
}

void call_watch(struct rng *r)
{
    struct desc *d = desc_read(r, CONTROL_FD);
    struct area *a = d ? area_read(r, ~(1u << NOTHING)) : NULL;
    struct pw_kd_watch w = { 0 };
    bool spoilt, beyond;
    enum where where;
    long got;

    if (!a)
        goto done;
    beyond = range_of(r, a, &w);
    w.access = access_of(r, a);
    spoilt = spoil(r, &w);
    got = request(r, d->fd, PW_KD_WATCH, &w, sizeof w, &where);
    judge(WATCH, got, spoilt || beyond || where != FINE || !own(d),
          MAY(ENOMEM, EINTR, IF(!own(d), EXDEV), IF(beyond || spoilt, ENOENT), ENOSPC,
              IF(lacks(a, w.access), EACCES), IF(spoilt, EINVAL),
              IF(where != FINE, EFAULT)),
          "%#llx to %#llx, access %#x, spoilt %d, beyond %d, where %d, own %d, kind %d",
          (unsigned long long)w.start, (unsigned long long)w.end, w.access, spoilt, beyond,
          where, own(d), a->kind);
    if (got == 0)
        slot_check(WATCH, d, &w);
    area_done(a);
done:
    if (d)
        desc_done(d);
}

/* ---- exports ---- */

/* What we have exported, so that its area is known when it is taken back. */
static struct record {
    uint64_t id, generation;
    struct area *area;
    uint32_t slot;
} records[RECORDS];
static pthread_mutex_t records_lock = PTHREAD_MUTEX_INITIALIZER;

static void record(struct rng *r, const struct record *one)
{
    if (pthread_mutex_trylock(&records_lock) != 0)
        return;
    records[below(r, RECORDS)] = *one;
    pthread_mutex_unlock(&records_lock);
}

static bool record_take(struct rng *r, uint64_t id, struct record *one)
{
    int from = (int)below(r, RECORDS);
    bool found = false;

    if (pthread_mutex_trylock(&records_lock) != 0)
        return false;
    for (int i = 0; i < RECORDS && !found; i++) {
        struct record *at = &records[(from + i) % RECORDS];

        if (at->id != id || !at->area)
            continue;
        *one = *at;
        at->area = NULL;
        found = true;
    }
    pthread_mutex_unlock(&records_lock);
    return found;
}

static uint64_t sum_of(const struct published *p)
{
    return (p->id * 31 + p->offset) * 31 + (p->len ^ p->tag * 7 ^ p->access) + 1;
}

static void publish(struct rng *r, const struct pw_kd_watch *w, uint64_t tag)
{
    struct published p = { .id = w->id, .offset = w->offset, .len = w->end - w->start,
                           .tag = tag, .access = w->access };

    p.sum = sum_of(&p);
    board->exports[below(r, PUBLISHED)] = p;
}

static bool published_of(struct rng *r, uint64_t id, struct published *p)
{
    unsigned from = (unsigned)below(r, PUBLISHED);

    for (unsigned i = 0; i < PUBLISHED; i++) {
        *p = *(volatile struct published *)&board->exports[(from + i) % PUBLISHED];
        if (p->id == id && p->len && p->sum == sum_of(p))
            return true;
    }
    return false;
}

static void exported(struct rng *r, struct desc *d, struct area *a,
                     const struct pw_kd_watch *w)
{
    slot_check(EXPORT, d, w);
    if (w->offset < PW_KD_EXPORTS || w->offset % HUGE_PAGE != w->start % HUGE_PAGE)
        broken("EXPORT of %#llx is at %#llx", (unsigned long long)w->start,
               (unsigned long long)w->offset);
    publish(r, w, a->tag);
    record(r, &(struct record){ w->id, a->generation, a, w->slot });
}

void call_export(struct rng *r)
{
    struct desc *d = desc_read(r, CONTROL_FD);
    struct area *a = d ? area_read(r, ~(1u << NOTHING)) : NULL;
    struct pw_kd_watch w = { 0 };
    bool spoilt, beyond, odd;
    enum where where;
    long got;

    if (!a)
        goto done;
    beyond = range_of(r, a, &w);
    w.access = access_of(r, a);
    spoilt = spoil(r, &w);
    atomic_fetch_add(&a->exports, 1);
    got = request(r, d->fd, PW_KD_EXPORT, &w, sizeof w, &where);
    /* Only now: another thread may have truncated the file in the midst of it. */
    odd = a->may_bus || a->kind == WORDS || a->kind == VAST || with_failures;
    judge(EXPORT, got, spoilt || beyond || where != FINE || !own(d) || a->kind == ATTACHED,
          MAY(ENOMEM, EINTR, IF(!own(d), EXDEV), IF(beyond || spoilt, ENOENT), ENOSPC,
              IF(lacks(a, w.access), EACCES), IF(spoilt, EINVAL), IF(where != FINE, EFAULT),
              EDQUOT, EAGAIN, IF(a->kind == ATTACHED || odd, EOPNOTSUPP)),
          "%#llx to %#llx, access %#x, spoilt %d, beyond %d, where %d, own %d, kind %d",
          (unsigned long long)w.start, (unsigned long long)w.end, w.access, spoilt, beyond,
          where, own(d), a->kind);
    if (got == 0)
        exported(r, d, a, &w);
    else
        atomic_fetch_sub(&a->exports, 1);
    area_done(a);
done:
    if (d)
        desc_done(d);
}

void call_drop(struct rng *r)
{
    struct desc *d = desc_read(r, CONTROL_FD);
    struct pw_kd_slot drop = { 0 };
    struct record one = { 0 };
    bool spoilt = one_in(r, 16);
    enum where where;
    long got;

    if (!d)
        return;
    if (!one_in(r, 3) && record_take(r, d->id, &one))
        drop.slot = one.slot;
    else
        drop.slot = one_in(r, 8) ? (uint32_t)rng_next(r) : (uint32_t)below(r, 64);
    if (spoilt)
        drop.reserved = 1u << below(r, 32);
    got = request(r, d->fd, PW_KD_DROP, &drop, sizeof drop, &where);
    judge(DROP, got, spoilt || where == NOWHERE || !own(d) || drop.slot < PW_KD_FIRST_SLOT,
          MAY(EINTR, ENOENT, IF(!own(d), EXDEV), IF(spoilt, EINVAL),
              IF(where == NOWHERE, EFAULT)),
          "slot %u, spoilt %d, where %d", drop.slot, spoilt, where);
    if (one.area && (got == 0 || got == -ENOENT))
        area_no_longer_shown(one.area, one.generation);
    desc_done(d);
}

/* A descriptor that a call has made: close-on-exec, or it is one too many. */
static void keep(struct rng *r, int fd, const struct desc *as)
{
    struct desc *d;

    if (fd < 3 || !(fcntl(fd, F_GETFD) & FD_CLOEXEC)) {
        broken("a new descriptor is %d, flags %#x", fd, fcntl(fd, F_GETFD));
        return;
    }
    d = desc_write(r, CLOSED);
    if (!d) {
        close(fd);
        return;
    }
    desc_set(d, fd, as);
    desc_done(d);
}

void call_share(struct rng *r)
{
    struct desc *d = desc_read(r, CONTROL_FD);
    bool spoilt = one_in(r, 16);
    struct pw_kd_share share = { .fd = -1, .reserved = spoilt ? 1u << below(r, 32) : 0 };
    enum where where;
    long got;

    if (!d)
        return;
    got = request(r, d->fd, PW_KD_SHARE, &share, sizeof share, &where);
    judge(SHARE, got, spoilt || where != FINE || !own(d),
          MAY(EINTR, EMFILE, ENFILE, ENOMEM, IF(!own(d), EXDEV), IF(spoilt, EINVAL),
              IF(where != FINE, EFAULT)), "spoilt %d, where %d", spoilt, where);
    if (got == 0)
        keep(r, share.fd, &(struct desc){ .what = SHARE_FD, .uid = d->uid, .id = d->id });
    desc_done(d);
}

/* ---- pools ---- */

static bool spoil_size(struct rng *r, struct pw_kd_pool *pool)
{
    if (!one_in(r, 8))
        return false;
    switch (below(r, 5)) {
    case 0: pool->size = 0; break;
    case 1: pool->size += 1 + below(r, HUGE_PAGE - 1); break;
    case 2: pool->size = -HUGE_PAGE; break;
    case 3: pool->reserved = 1u << below(r, 32); break;
    default: pool->reserved2[below(r, 2)] = 1ull << below(r, 64);
    }
    return true;
}

void call_pool(struct rng *r)
{
    struct desc *d = desc_read(r, CONTROL_FD);
    struct pw_kd_pool pool = { .fd = -1, .size = HUGE_PAGE * rng_length(r, 32) };
    bool vast = one_in(r, 16), spoilt;
    enum where where;
    long got;

    if (!d)
        return;
    if (vast)
        pool.size = HUGE_PAGE << below(r, 42);
    spoilt = spoil_size(r, &pool);
    got = request(r, d->fd, PW_KD_POOL, &pool, sizeof pool, &where);
    judge(POOL, got, spoilt || where != FINE || !own(d),
          MAY(EINTR, EMFILE, ENFILE, ENOMEM, IF(!own(d), EXDEV), IF(spoilt || vast, EINVAL),
              IF(where != FINE, EFAULT)), "size %#llx, spoilt %d, where %d",
          (unsigned long long)pool.size, spoilt, where);
    if (got == 0)
        keep(r, pool.fd, &(struct desc){ .what = POOL_FD, .size = pool.size,
             .tag = tag_of(POOLED_BY, atomic_fetch_add(&board->numbers, 1) + 1) });
    desc_done(d);
}

static bool spoil_part(struct rng *r, uint64_t size, struct pw_kd_part *part)
{
    if (!one_in(r, 6))
        return false;
    switch (below(r, 8)) {
    case 0: part->offset += 1 + below(r, HUGE_PAGE - 1); break;
    case 1: part->len += 1 + below(r, HUGE_PAGE - 1); break;
    case 2: part->offset = size + HUGE_PAGE * below(r, 3); part->len = HUGE_PAGE; break;
    case 3: part->len = size - part->offset + HUGE_PAGE; break;
    case 4: part->offset = -HUGE_PAGE; part->len = 2 * HUGE_PAGE; break;
    case 5: part->len = -part->offset; part->len += part->len ? 0 : -HUGE_PAGE; break;
    case 6: part->reserved = 1u << below(r, 32); break;
    default: part->len = -HUGE_PAGE;
    }
    return true;
}

/* FILL or DRAIN. */
void call_part(struct rng *r)
{
    struct desc *d = desc_read(r, POOL_FD);
    bool fill = !one_in(r, 3), spoilt, nowhere = false;
    struct pw_kd_part part = { 0 };
    enum where where;
    uint64_t units;
    long got;

    if (!d)
        return;
    units = d->size / HUGE_PAGE;
    part.offset = HUGE_PAGE * below(r, units);
    units -= part.offset / HUGE_PAGE;
    part.len = HUGE_PAGE * rng_length(r, one_in(r, 8) || units < 4 ? units : 4);
    if (fill) {
        part.node = (int)below(r, 2) - 1;
        nowhere = one_in(r, 8);
        if (nowhere)
            part.node =
                one_in(r, 2) ? 77 + (int)below(r, 2000) : -2 - (int)below(r, 1 << 30);
    }
    spoilt = spoil_part(r, d->size, &part);
    got = request(r, d->fd, fill ? PW_KD_FILL : PW_KD_DRAIN, &part, sizeof part, &where);
    judge(fill ? FILL : DRAIN, got, spoilt || nowhere || where == NOWHERE,
          MAY(EINTR, IF(fill, ENOMEM), IF(fill, EDQUOT), IF(spoilt || nowhere, EINVAL),
              IF(where == NOWHERE, EFAULT)),
          "offset %#llx, len %#llx of %#llx, node %d, spoilt %d, where %d",
          (unsigned long long)part.offset, (unsigned long long)part.len,
          (unsigned long long)d->size, part.node, spoilt, where);
    desc_done(d);
}

void call_pool_info(struct rng *r)
{
    struct desc *d = desc_read(r, POOL_FD);
    struct pw_kd_pool_info info = { 0 };
    enum where where;
    long got;

    if (!d)
        return;
    got = request(r, d->fd, PW_KD_POOL_INFO, &info, sizeof info, &where);
    judge(POOL_INFO, got, where != FINE, MAY(EINTR, IF(where != FINE, EFAULT)), "where %d",
          where);
    if (got == 0 &&
        (info.size != d->size || info.filled > info.size || info.filled % HUGE_PAGE))
        broken("POOL_INFO: %#llx filled of %#llx", (unsigned long long)info.filled,
               (unsigned long long)info.size);
    desc_done(d);
}

/* ---- calls that there are not ---- */

static bool is_a_call(unsigned long number)
{
    static const unsigned long all[] = { PW_KD_INFO, PW_KD_WATCH, PW_KD_EXPORT,
                                         PW_KD_DROP, PW_KD_SHARE, PW_KD_POOL,
                                         PW_KD_FILL, PW_KD_DRAIN, PW_KD_POOL_INFO };

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (number == all[i])
            return true;
    return false;
}

void call_garbage(struct rng *r)
{
    struct desc *d = find(r, CLOSED, true, pthread_rwlock_tryrdlock);
    unsigned long number = _IOC(below(r, 4), PW_KD_IOC, below(r, 0x42), below(r, 128));
    char bytes[128];
    enum where where;
    long got;

    if (!d)
        return;
    if (one_in(r, 8))
        number = (uint32_t)rng_next(r) | 1ul << 31;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)(one_in(r, 2) ? 0 : rng_next(r));
    if (!is_a_call(number)) {
        got = request(r, d->fd, number, bytes, sizeof bytes, &where);
        if (got != -ENOTTY && got != -EXDEV)
            broken("a call that is none, %#lx, of a descriptor of kind %d: %s", number,
                   d->what, got ? strerror((int)-got) : "success");
    }
    desc_done(d);
}

/* ---- mmap ---- */

struct map {
    enum kind kind;
    enum call call;
    uint64_t offset, len, tag;
    int prot, most, flags;
    bool must_fail, spoilt;
    const int *may;
};

static void map_words(struct rng *r, const struct desc *d, struct map *m)
{
    uint64_t last = d->words_bytes ? d->words_bytes : PAGE;

    m->kind = WORDS;
    m->call = MAP_WORDS;
    m->len = one_in(r, 2) ? last : PAGE * rng_length(r, last / PAGE);
    if (one_in(r, 8) && d->words_bytes) {
        m->offset = PAGE * below(r, 2 * last / PAGE);
        m->must_fail = m->offset + m->len > last;
    } else if (one_in(r, 8) && d->words_bytes) {
        m->len = last + PAGE * rng_length(r, 1 << 20);
        m->must_fail = true;
    }
    m->spoilt = m->must_fail || !d->words_bytes;
    if (one_in(r, 8)) {
        m->prot |= one_in(r, 2) ? PROT_WRITE : PROT_EXEC;
        m->must_fail = true;
    }
    m->most = PROT_READ;
}

static void map_export(struct rng *r, const struct desc *d, struct map *m)
{
    struct published p = { .access = PW_KD_READ };

    m->kind = ATTACHED;
    m->call = ATTACH;
    if (one_in(r, 8) || !published_of(r, d->id, &p)) {
        /* Whatever may be there. */
        m->offset = PW_KD_EXPORTS + PAGE * rng_length(r, 1 << 20);
        m->len = PAGE * rng_length(r, 1024);
        m->most = PROT_READ | PROT_WRITE;
        return;
    }
    m->offset = p.offset;
    m->len = p.len;
    m->tag = p.tag;
    m->most = PROT_READ | (p.access & PW_KD_WRITE ? PROT_WRITE : 0);
    if (one_in(r, 3)) {
        m->offset += PAGE * below(r, p.len / PAGE);
        m->len = PAGE * rng_length(r, (p.len + p.offset - m->offset) / PAGE);
    } else if (one_in(r, 10)) {
        m->len += PAGE * rng_length(r, 1 << 22);
        m->must_fail = true;
    }
    if (p.access & PW_KD_WRITE || one_in(r, 8))
        m->prot |= PROT_WRITE;
    if (one_in(r, 16))
        m->prot |= PROT_EXEC;
    m->must_fail |= (m->prot & ~m->most) != 0;
}

static void map_pool(struct rng *r, const struct desc *d, struct map *m)
{
    uint64_t pages_ = d->size / PAGE;

    m->kind = POOLED;
    m->call = MAP_POOL;
    m->prot = m->most = PROT_READ | PROT_WRITE;
    m->tag = d->tag;
    m->offset = one_in(r, 2) ? PAGE * below(r, pages_) : HUGE_PAGE * below(r, pages_ / 512);
    m->len = PAGE * rng_length(r, d->size / PAGE - m->offset / PAGE);
    if (m->len > 16 * HUGE_PAGE)
        m->len = 16 * HUGE_PAGE;
    if (one_in(r, 8)) {
        m->len = d->size - m->offset + PAGE * rng_length(r, 1 << 20);
        m->must_fail = m->spoilt = true;
    }
}

static void map_one(struct rng *r, struct area *a, const struct desc *d, struct map *m)
{
    bool stranger = d->what == SHARE_FD && d->uid != geteuid();
    void *at = area_place(r, a, m->len < 1ul << 36 ? m->len : PAGE, m->offset), *got_at;
    bool private = one_in(r, 16);
    long got;

    failing(r);
    got_at = mmap(at, m->len, m->prot,
                  (private ? MAP_PRIVATE : MAP_SHARED) | MAP_FIXED_NOREPLACE |
                      (one_in(r, 4) ? MAP_POPULATE : 0),
                  d->fd, (off_t)m->offset);
    got = got_at == MAP_FAILED ? -errno : 0;
    failing_done();
    judge(m->call, got, m->must_fail || private || stranger,
          MAY(ENOMEM, EINTR, EOVERFLOW, IF(m->kind == ATTACHED, ENXIO),
              IF(private || m->spoilt, EINVAL), IF(m->spoilt, ENOMEM),
              IF(m->spoilt, EEXIST),
              IF(m->kind != POOLED && (stranger || m->must_fail || m->tag == 0 || private),
                 EACCES)),
          "offset %#lx, len %#lx, prot %#x, most %#x, private %d, stranger %d, at %p, desc "
          "%d",
          (unsigned long)m->offset, (unsigned long)m->len, m->prot, m->most, private,
          stranger, at, d->what);
    atomic_fetch_add(&board->strangers, stranger);
    if (got)
        return;
    if (m->len > 1ul << 36) {   /* should have failed */
        munmap(at, m->len);
        return;
    }
    area_settle(a, m->kind, at, m->len, m->prot, m->tag);
    a->most = m->most;
    if (m->kind == WORDS) {
        a->words = words_seen[a - areas];
        for (int i = 0; i < (int)WORDS_SEEN; i++)
            a->words[i] = 0;
    }
}

/* A share descriptor; in most cases one of which an export is known. */
static struct desc *share_read(struct rng *r)
{
    struct published p;
    struct desc *d;

    for (int i = 0; i < DESCS && (d = desc_read(r, SHARE_FD)); i++) {
        if (one_in(r, 8) || (d->uid == geteuid() && published_of(r, d->id, &p)))
            return d;
        desc_done(d);
    }
    return NULL;
}

void call_map(struct rng *r)
{
    static const enum what whats[] = { CONTROL_FD, SHARE_FD, SHARE_FD,
                                       SHARE_FD,   POOL_FD,  POOL_FD };
    enum what what = whats[below(r, 6)];
    struct desc *d = what == SHARE_FD ? share_read(r) : desc_read(r, what);
    struct area *a = d ? area_write(r, 1 << NOTHING) : NULL;
    struct map m = { .prot = PROT_READ };

    if (a) {
        if (d->what == POOL_FD)
            map_pool(r, d, &m);
        else if (d->what == SHARE_FD && !one_in(r, 8))
            map_export(r, d, &m);
        else
            map_words(r, d, &m);
        map_one(r, a, d, &m);
        area_done(a);
    }
    if (d)
        desc_done(d);
}

/* Offsets and lengths that are anything; what succeeds is unmapped again. */
void call_map_garbage(struct rng *r)
{
    struct desc *d = find(r, CLOSED, true, pthread_rwlock_tryrdlock);
    struct area *a = d ? area_write(r, 1 << NOTHING) : NULL;
    size_t len = (size_t)rng_next(r) >> (27 + below(r, 37));
    off_t offset = (off_t)((rng_next(r) >> below(r, 64)) & ~(PAGE - 1));
    void *at;

    if (a) {
        failing(r);
        at = mmap(area_place(r, a, PAGE, 0), len, (int)below(r, 8),
                  (one_in(r, 3) ? MAP_PRIVATE : MAP_SHARED) | MAP_FIXED_NOREPLACE, d->fd,
                  offset);
        failing_done();
        if (at != MAP_FAILED)
            munmap(at, len);
        area_done(a);
    }
    if (d)
        desc_done(d);
}

/* ---- a change moves the word ---- */

static void write_one(void *arg)
{
    *(volatile uint64_t *)arg = tag_of(OPEN_TO_ALL, me);
}

static bool change(struct rng *r, struct area *a)
{
    switch (below(r, 3)) {
    case 0:
        area_unmap(a);
        return true;
    case 1:
        return madvise(a->at, PAGE, MADV_DONTNEED) == 0;
    default:
        if (mprotect(a->at, PAGE, PROT_NONE))
            return false;
        mprotect(a->at, PAGE, a->prot);
        return true;
    }
}

void watch_and_change(struct rng *r)
{
    struct desc *d = desc_read(r, CONTROL_FD);
    struct area *a = d ? area_write(r, 1 << PRIVATE | 1 << SHARED) : NULL;
    struct pw_kd_watch w = { .access = PW_KD_READ };
    uint64_t word0;

    if (!a || !own(d) || !d->words || a->may_bus || (a->prot & 3) != 3)
        goto done;
    if (guarded(write_one, a->at))
        broken("a signal for memory of our own");
    word0 = d->words[0];
    w.start = (uint64_t)a->at;
    w.end = w.start + a->len;
    if (ioctl(d->fd, PW_KD_WATCH, &w))
        goto done;
    if (change(r, a)) {
        if (d->words[w.slot] == w.word || d->words[0] == word0)
            broken("a change of %#llx is not seen in slot %u", (unsigned long long)w.start,
                   w.slot);
        atomic_fetch_add(&board->moved, 1);
    }
    if (ioctl(d->fd, PW_KD_DROP, &(struct pw_kd_slot){ .slot = w.slot }) == 0 &&
        d->words[w.slot] == w.word)
        broken("DROP of slot %u is not seen", w.slot);
done:
    if (a)
        area_done(a);
    if (d)
        desc_done(d);
}
