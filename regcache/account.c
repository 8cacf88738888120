/* SPDX-License-Identifier: BSD-3-Clause */
/* account.c - a table in a small shared file, one place for each process.
 *
 * Start at pw_account_take(). Everybody writes its own place only and sums up all
 * of them, so that nothing a process leaves undone when it is killed is in the
 * way of others, and no lock is held while somebody charges.
 *
 * Who owns place i holds a lock of its open file description on byte i of the
 * file; the kernel drops it when the process ends. A forked child inherits the
 * description and with it the lock: so a place whose lock is held is dead too
 * when the process written there is, seen from the same pid namespace. Seen from
 * another one the number says nothing, and the lock alone counts.
 *
 * The lock on all bytes at once is for who is alone: who joins first makes the
 * table with it, who leaves last removes the file with it. Both take
 * microseconds and end with the process; others try again meanwhile.
 *
 * Always true: a place's bytes are written by the owner of its lock only.
 *
 * Trusted are processes of the same user, not the name: anybody may have put
 * something under it in a folder that all write to. A file of this user's that
 * is cut short while mapped would be SIGBUS; its user can kill us anyway.
 */
#define _GNU_SOURCE
#include "account.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAGIC UINT64_C(0x31746e6363617770)      /* "pwaccnt1" */
#define SIZE ((size_t)64 << 10)

struct place {
    _Alignas(64) uint64_t bytes;
    uint64_t stamp;         /* odd while the next three are being written */
    uint64_t spaces, born;
    int64_t pid;
};

struct pw_account_table {
    _Alignas(64) uint64_t magic;
    uint64_t limit;
    uint64_t high;          /* no place from here on was ever taken */
    struct place place[PW_ACCOUNT_PLACES];
};

_Static_assert(sizeof(struct pw_account_table) == SIZE, "one size for all versions");

/* All table accesses are sequentially consistent: see take(). */
static uint64_t load(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

static void store(uint64_t *word, uint64_t value)
{
    __atomic_store_n(word, value, __ATOMIC_SEQ_CST);
}

static uint64_t add(uint64_t a, uint64_t b)
{
    return a + b < a ? UINT64_MAX : a + b;
}

static uint64_t high(const struct pw_account_table *t)
{
    uint64_t n = load(&t->high);

    return n < PW_ACCOUNT_PLACES ? n : PW_ACCOUNT_PLACES;
}

__attribute__((format(printf, 3, 4)))
static int fail(int err, char *why, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(why, PW_ACCOUNT_WHY_MAX, format, args);
    va_end(args);
    return err;
}

/* ------------------------------------------------------------------ who lives */

/* Fields 1, 3, 20 and 22 of /proc/PID/stat (proc_pid_stat(5)). */
struct stat_line {
    long long pid;
    char state;
    unsigned long long threads, born;
};

static int stat_read(const struct pw_sys *sys, const char *who, struct stat_line *out)
{
    char path[64], text[1024], *at;
    int err;

    snprintf(path, sizeof path, "/proc/%s/stat", who);
    err = sys->read_text(path, text, sizeof text);
    if (err)
        return err;

    /* The name, in parentheses, may hold anything, parentheses too. */
    out->pid = strtoll(text, NULL, 10);
    at = strrchr(text, ')');
    if (!at || sscanf(at, ") %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
                          "%*s %*s %*s %*s %llu %*s %llu",
                      &out->state, &out->threads, &out->born) != 3)
        return -EPROTO;
    return 0;
}

/* The namespaces in which a process's number and start time mean what they mean
 * to us; 0 when that cannot be told, or /proc shows those of another one. */
static uint64_t spaces_mine(const struct pw_sys *sys)
{
    struct stat_line me;
    struct stat pid, time;

    if (stat_read(sys, "self", &me) || me.pid != getpid() ||
        stat("/proc/self/ns/pid", &pid))
        return 0;
    if (stat("/proc/self/ns/time", &time))      /* before Linux 5.6 */
        time.st_ino = 0;
    return (uint64_t)pid.st_ino << 32 | (uint32_t)time.st_ino;
}

/* Has the process written in p ended, although its lock is held? */
static bool owner_ended(const struct pw_account *a, const struct place *p)
{
    uint64_t stamp = load(&p->stamp), born = p->born;
    int64_t pid = p->pid;
    struct stat_line now;
    char who[24];
    bool ended;

    if (stamp & 1 || a->spaces == 0 || p->spaces != a->spaces || pid <= 0)
        return false;

    snprintf(who, sizeof who, "%lld", (long long)pid);
    if (kill((pid_t)pid, 0) && errno == ESRCH)
        ended = true;
    else if (stat_read(a->sys, who, &now))
        ended = false;
    else        /* a leader that has left its threads behind is a zombie as well */
        ended = now.born != born || (strchr("ZX", now.state) && now.threads < 2);

    /* Somebody new moved in meanwhile: what was read may be half of each. */
    return ended && load(&p->stamp) == stamp;
}

/* Nobody can take a place while we hold its lock, so it can be wiped. */
static bool place_dead(const struct pw_account *a, unsigned i)
{
    struct place *p = &a->table->place[i];

    if (a->sys->ofd_lock(a->fd, F_WRLCK, i, 1))
        return owner_ended(a, p);
    store(&p->bytes, 0);
    a->sys->ofd_lock(a->fd, F_UNLCK, i, 1);
    return true;
}

/* What the others hold as far as written: no system call. */
static uint64_t others_written(const struct pw_account *a)
{
    uint64_t sum = 0, n = high(a->table);

    for (unsigned i = 0; i < n; i++)
        if (i != a->place)
            sum = add(sum, load(&a->table->place[i].bytes));
    return sum;
}

/* What the living among them hold. Some system calls for each that is written to
 * hold something. */
static uint64_t others_living(const struct pw_account *a, unsigned *holders)
{
    uint64_t sum = 0, n = high(a->table);

    for (unsigned i = 0; i < n; i++) {
        uint64_t *bytes = &a->table->place[i].bytes;

        if (i == a->place || load(bytes) == 0 || place_dead(a, i))
            continue;
        sum = add(sum, load(bytes));
        ++*holders;
    }
    return sum;
}

/* ------------------------------------------------------------------- charging */

/* Two that charge at once: each writes its own place first and reads the other's
 * then, in one order of all such accesses. So at least one sees both, and never
 * do both go beyond the limit unseen. It may be that both see both and both step
 * back where one would have fitted: so each tries once more, the one with the
 * higher place later. If that fails too, it counts as full: the caller unpins
 * something idle and comes again, or copies. */
int pw_account_take(struct pw_account *a, uint64_t held, uint64_t more)
{
    uint64_t *mine = &a->table->place[a->place].bytes, want = add(held, more);
    struct timespec pause = { .tv_nsec = 20000L * (a->place % 32) };
    unsigned holders = 0;

    if (want > a->limit)
        return -ENOMEM;

    for (int tries = 0; tries < 2; tries++) {
        store(mine, want);
        if (others_written(a) <= a->limit - want ||
            others_living(a, &holders) <= a->limit - want)
            return 0;
        store(mine, held);
        if (tries == 0)
            nanosleep(&pause, NULL);
    }
    return -EDQUOT;
}

void pw_account_give(struct pw_account *a, uint64_t held)
{
    store(&a->table->place[a->place].bytes, held);
}

uint64_t pw_account_look(struct pw_account *a, unsigned *holders)
{
    uint64_t mine = load(&a->table->place[a->place].bytes);

    *holders = mine > 0;
    return add(others_living(a, holders), mine);
}

/* ---------------------------------------------------------- joining, leaving */

/* Nobody else has a lock: make the table anew, whatever was there. The pages are
 * reserved, for where a file system is full the first touch of one is SIGBUS. */
static int table_make(const struct pw_account *a)
{
    if (fchmod(a->fd, 0600) || a->sys->ftruncate(a->fd, 0) ||
        a->sys->ftruncate(a->fd, (off_t)SIZE) ||
        a->sys->fallocate(a->fd, 0, 0, (off_t)SIZE))
        return -errno;
    return 0;
}

static int table_map(struct pw_account *a)
{
    void *at = a->sys->mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, a->fd, 0);

    if (at == MAP_FAILED)
        return -errno;
    a->table = at;
    return 0;
}

static void place_fill(struct pw_account *a)
{
    struct place *p = &a->table->place[a->place];
    uint64_t seen = load(&a->table->high);
    struct stat_line me;

    store(&p->bytes, 0);
    store(&p->stamp, load(&p->stamp) | 1);
    p->pid = getpid();
    p->spaces = a->spaces;
    if (stat_read(a->sys, "self", &me))
        p->spaces = 0;
    else
        p->born = me.born;
    store(&p->stamp, load(&p->stamp) + 1);

    while (seen <= a->place &&
           !__atomic_compare_exchange_n(&a->table->high, &seen, a->place + 1u, false,
                                        __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        ;
}

static int join_alone(struct pw_account *a, uint64_t limit, char *why)
{
    int err = table_make(a);

    if (!err)
        err = table_map(a);
    if (err)
        return fail(err, why, "%s cannot be had: %s", a->path, strerror(-err));

    store(&a->table->limit, limit);
    store(&a->table->magic, MAGIC);
    a->place = 0;
    place_fill(a);
    if (a->sys->ofd_lock(a->fd, F_UNLCK, 1, PW_ACCOUNT_PLACES - 1)) {
        err = -errno;
        munmap(a->table, SIZE);
        return fail(err, why, "%s cannot be shared: %s", a->path, strerror(-err));
    }
    return 0;
}

/* We have a lock, so nobody makes or removes the table meanwhile. */
static int join_others(struct pw_account *a, char *why)
{
    struct stat st;
    int err;

    if (fstat(a->fd, &st) || st.st_size != (off_t)SIZE)
        return fail(-EPROTO, why, "%s is no account, and in use", a->path);
    err = table_map(a);
    if (err)
        return fail(err, why, "%s cannot be mapped: %s", a->path, strerror(-err));
    if (load(&a->table->magic) != MAGIC) {
        munmap(a->table, SIZE);
        return fail(-EPROTO, why, "%s is the account of another version, and in use",
                    a->path);
    }
    place_fill(a);
    return 0;
}

/* 0 with a lock on a place; -EAGAIN when somebody makes or removes the table, or
 * all are taken; or -errno. */
static int place_lock(struct pw_account *a)
{
    for (a->place = 0; a->place < PW_ACCOUNT_PLACES; a->place++) {
        if (!a->sys->ofd_lock(a->fd, F_WRLCK, a->place, 1))
            return 0;
        if (errno != EAGAIN && errno != EACCES)
            return -errno;
    }
    return -EAGAIN;
}

static int file_open(struct pw_account *a, char *why)
{
    struct stat st;
    int err;

    a->fd = a->sys->open(a->path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (a->fd < 0 || fstat(a->fd, &st)) {
        err = -errno;
        fail(err, why, "%s cannot be opened: %s", a->path, strerror(-err));
    } else if (!S_ISREG(st.st_mode)) {
        err = fail(-EPERM, why, "%s is not a file", a->path);
    } else if (st.st_uid != geteuid()) {
        err = fail(-EPERM, why, "%s belongs to another user", a->path);
    } else if (st.st_mode & 0177 || st.st_nlink > 1) {
        err = fail(-EPERM, why, "%s is open to others: remove it", a->path);
    } else {
        return 0;
    }
    if (a->fd >= 0)
        close(a->fd);
    return err;
}

static bool file_removed(const struct pw_account *a)
{
    struct stat st;

    return fstat(a->fd, &st) || st.st_nlink == 0;
}

static int join_once(struct pw_account *a, uint64_t limit, char *why)
{
    bool alone;
    int err = file_open(a, why);

    if (err)
        return err;
    alone = a->sys->ofd_lock(a->fd, F_WRLCK, 0, PW_ACCOUNT_PLACES) == 0;
    err = alone ? 0 : place_lock(a);
    if (!err && file_removed(a))
        err = -EAGAIN;
    if (err)
        fail(err, why, err == -EAGAIN ? "all places of %s are taken"
                                      : "%s cannot be locked", a->path);
    else
        err = alone ? join_alone(a, limit, why) : join_others(a, why);
    if (err)
        close(a->fd);
    return err;
}

int pw_account_join(struct pw_account *a, const struct pw_sys *sys, const char *dir,
                    const char *name, uint64_t limit, char why[PW_ACCOUNT_WHY_MAX])
{
    struct timespec pause = { .tv_nsec = 1000000 };
    int err = -EAGAIN;

    *a = (struct pw_account){ .sys = sys, .fd = -1 };
    snprintf(a->path, sizeof a->path, "%s/pinwheel.%u%s%s", dir, (unsigned)geteuid(),
             name ? "." : "", name ? name : "");
    a->spaces = spaces_mine(sys);

    for (int tries = 0; tries < 100 && err == -EAGAIN; tries++) {
        if (tries)
            nanosleep(&pause, NULL);
        err = join_once(a, limit, why);
    }
    if (!err) {
        a->limit = load(&a->table->limit);
        why[0] = '\0';
    }
    return err;
}

/* Our lock goes first: of several that leave at once, the last one to drop its
 * lock finds none left. Under this name may by now be another file, if somebody
 * removed ours. */
void pw_account_leave(struct pw_account *a)
{
    struct stat ours, named;

    pw_account_give(a, 0);
    munmap(a->table, SIZE);
    a->sys->ofd_lock(a->fd, F_UNLCK, a->place, 1);
    if (a->sys->ofd_lock(a->fd, F_WRLCK, 0, PW_ACCOUNT_PLACES) == 0 &&
        fstat(a->fd, &ours) == 0 && lstat(a->path, &named) == 0 &&
        ours.st_ino == named.st_ino && ours.st_dev == named.st_dev)
        unlink(a->path);
    close(a->fd);
}

/* Unlocking would unlock for the parent too, for the description is one. */
void pw_account_forget(struct pw_account *a)
{
    munmap(a->table, SIZE);
    close(a->fd);
}
