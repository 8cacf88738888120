/* SPDX-License-Identifier: BSD-3-Clause */
/* steps.c - what does a process that talks to an RDMA device execute for a message?
 *
 *     steps [--messages N] [--counts FILE] [--mark getppid] PID
 *
 * The main thread of PID goes one instruction at a time from one mark to the next, N times
 * (100). A device of which the kernel does the work (rxe) is told of each post of a send by
 * a system call, so that is a mark; of a ping-pong, what is between two of them is one
 * message sent and one received. A program that may post more for a message calls getppid().
 * As one instruction takes some microseconds so, the peer's message is there at the first
 * look for it: no polling in vain is counted.
 *
 * Other threads are stopped where they sleep, so that they neither help nor hold a lock.
 *
 * Prints lines of a key and numbers: of all messages the median, the mean, least and most of
 *     program     instructions outside of the device's library and libibverbs
 *     provider    inside of those, with what they call (of libc, say)
 * and
 *     posts N             of sends, per message
 *     call NAME N         system calls of that number in all, without marks and posts
 *     in OBJECT N         instructions of the program's, per message, by the file they are in
 * FILE gets a line for each instruction: object, offset, how often; addr2line tells what it
 * is.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <rdma/ib_user_verbs.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    OBJECTS = 256, PLACES = 1 << 16, CALLS = 512, THREADS = 64, MESSAGES_MAX = 100000,
    SETTLE_TRIES = 1000,
};

/* A mapped part of a file. */
struct object {
    uint64_t from, to, offset;
    char name[400];
    bool provider;
};

/* An instruction. */
struct place {
    uint64_t pc;                /* 0: free */
    uint64_t count;
    int object;                 /* -1: none */
    bool call;                  /* of the kernel */
};

struct message {
    uint64_t program, provider;
};

static pid_t traced;
static struct object objects[OBJECTS];
static int n_objects;
static struct place places[PLACES];
static unsigned n_places;
static uint64_t calls[CALLS];
static uint64_t inside_until;   /* the provider was entered with that stack pointer */
static bool inside;
static bool by_getppid;
static uint64_t posts;

static void fail(const char *what)
{
    fprintf(stderr, "steps: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void refuse(const char *sentence)
{
    fprintf(stderr, "steps: %s\n", sentence);
    exit(2);
}

/* ---- what is mapped where ---- */

static bool is_provider(const char *name)
{
    return !strncmp(name, "libibverbs", 10) || strstr(name, "-rdmav");
}

static void objects_read(void)
{
    char path[64], line[512], file[400];
    unsigned long from, to, offset;
    FILE *maps;

    snprintf(path, sizeof(path), "/proc/%d/maps", traced);
    maps = fopen(path, "r");
    if (!maps)
        fail(path);
    while (n_objects < OBJECTS && fgets(line, sizeof(line), maps)) {
        struct object *o = &objects[n_objects];
        const char *name;

        if (sscanf(line, "%lx-%lx %*2cx%*c %lx %*s %*s %399s", &from, &to, &offset, file) != 4)
            continue;
        name = strrchr(file, '/') ? strrchr(file, '/') + 1 : file;
        *o = (struct object){ .from = from, .to = to, .offset = offset,
                              .provider = is_provider(name) };
        snprintf(o->name, sizeof(o->name), "%s", name);
        n_objects++;
    }
    fclose(maps);
}

static int object_at(uint64_t pc)
{
    for (int i = 0; i < n_objects; i++)
        if (pc >= objects[i].from && pc < objects[i].to)
            return i;
    return -1;
}

static struct place *place_at(uint64_t pc)
{
    unsigned at = (unsigned)(pc * UINT64_C(0x9e3779b97f4a7c15) >> 48) % PLACES;
    long word;

    while (places[at].pc && places[at].pc != pc)
        at = (at + 1) % PLACES;
    if (!places[at].pc) {
        if (++n_places == PLACES)
            refuse("more instructions than there is room for");
        errno = 0;
        word = ptrace(PTRACE_PEEKTEXT, traced, pc, NULL);
        places[at] = (struct place){ .pc = pc, .object = object_at(pc),
                                     .call = !errno && (word & 0xffff) == 0x050f };
    }
    return &places[at];
}

/* ---- system calls ---- */

/* Is that call a device's post of a send? (include/uapi/rdma/ib_user_verbs.h) */
static bool is_post(const struct user_regs_struct *regs)
{
    struct ib_uverbs_cmd_hdr hdr;
    long word;

    if (regs->rax != SYS_write || regs->rdx < sizeof(hdr))
        return false;
    errno = 0;
    word = ptrace(PTRACE_PEEKDATA, traced, regs->rsi, NULL);
    if (errno)
        return false;
    memcpy(&hdr, &word, sizeof(hdr));
    return inside && hdr.command == IB_USER_VERBS_CMD_POST_SEND;
}

static const char *call_name(unsigned nr, char text[16])
{
    static const struct { unsigned nr; const char *name; } known[] = {
        { SYS_read, "read" }, { SYS_write, "write" }, { SYS_ioctl, "ioctl" },
        { SYS_poll, "poll" }, { SYS_ppoll, "ppoll" }, { SYS_epoll_wait, "epoll_wait" },
        { SYS_epoll_pwait, "epoll_pwait" }, { SYS_sched_yield, "sched_yield" },
        { SYS_futex, "futex" }, { SYS_clock_gettime, "clock_gettime" },
        { SYS_getpid, "getpid" }, { SYS_nanosleep, "nanosleep" },
        { SYS_clock_nanosleep, "clock_nanosleep" }, { SYS_mmap, "mmap" },
    };

    for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
        if (known[i].nr == nr)
            return known[i].name;
    snprintf(text, 16, "%u", nr);
    return text;
}

/* ---- threads ---- */

static void await_stop(pid_t thread)
{
    int status;

    if (waitpid(thread, &status, __WALL) != thread || !WIFSTOPPED(status))
        fail("the process has ended");
}

/* Those calls hold nothing that another thread waits for. */
static bool sleeps(pid_t thread)
{
    struct user_regs_struct regs;

    if (ptrace(PTRACE_GETREGS, thread, NULL, &regs))
        fail("cannot read registers");
    return regs.orig_rax == SYS_ppoll || regs.orig_rax == SYS_poll ||
           regs.orig_rax == SYS_epoll_wait || regs.orig_rax == SYS_epoll_pwait ||
           regs.orig_rax == SYS_futex || regs.orig_rax == SYS_select ||
           regs.orig_rax == SYS_read || regs.orig_rax == SYS_clock_nanosleep;
}

static void settle(pid_t thread)
{
    const struct timespec ms = { .tv_nsec = 1000000 };

    for (int i = 0; i < SETTLE_TRIES; i++) {
        if (ptrace(PTRACE_INTERRUPT, thread, NULL, NULL))
            fail("cannot stop a thread");
        await_stop(thread);
        if (sleeps(thread))
            return;
        ptrace(PTRACE_CONT, thread, NULL, NULL);
        nanosleep(&ms, NULL);
    }
    refuse("another thread of it never sleeps");
}

static void attach(void)
{
    char path[64];
    struct dirent *entry;
    DIR *dir;

    snprintf(path, sizeof(path), "/proc/%d/task", traced);
    dir = opendir(path);
    if (!dir)
        fail(path);
    while ((entry = readdir(dir))) {
        pid_t thread = atoi(entry->d_name);

        if (thread <= 0)
            continue;
        if (ptrace(PTRACE_SEIZE, thread, NULL, NULL))
            fail("cannot trace it");
        if (thread != traced)
            settle(thread);
    }
    closedir(dir);
    if (ptrace(PTRACE_INTERRUPT, traced, NULL, NULL))
        fail("cannot stop it");
    await_stop(traced);
}

/* ---- steps ---- */

/* After the next instruction. Signals are the process's. */
static void step(struct user_regs_struct *regs)
{
    int status, signal = 0;

    do {
        if (ptrace(PTRACE_SINGLESTEP, traced, NULL, (void *)(intptr_t)signal))
            fail("cannot step");
        if (waitpid(traced, &status, __WALL) != traced || !WIFSTOPPED(status)) {
            errno = ESRCH;
            fail("the process has ended");
        }
        signal = WSTOPSIG(status);
    } while (signal != SIGTRAP);
    if (ptrace(PTRACE_GETREGS, traced, NULL, regs))
        fail("cannot read registers");
}

/* The provider is entered by a call and left by its return, whatever it calls. */
static void whereabouts(const struct place *p, const struct user_regs_struct *regs)
{
    if (inside && regs->rsp > inside_until)
        inside = false;
    if (!inside && p->object >= 0 && objects[p->object].provider) {
        inside = true;
        inside_until = regs->rsp;
    }
}

/* Until a mark, which belongs to what was before it. counted: what is to be kept of it. */
static struct message until_mark(struct user_regs_struct *regs, bool counted)
{
    struct message m = { 0 };
    bool mark = false;

    while (!mark) {
        struct place *p = place_at(regs->rip);
        uint64_t pc = regs->rip;
        bool post;

        whereabouts(p, regs);
        post = p->call && is_post(regs);
        mark = by_getppid ? p->call && regs->rax == SYS_getppid : post;
        posts += counted && post;
        if (counted && p->call && !mark && !post && regs->rax < CALLS)
            calls[regs->rax]++;
        step(regs);
        if (regs->rip == pc)
            continue;           /* a repeated one is one */
        *(inside ? &m.provider : &m.program) += 1;
        if (counted && !inside)
            p->count++;
    }
    return m;
}

/* ---- what is said ---- */

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void say_column(const char *key, uint64_t *column, int n)
{
    uint64_t sum = 0;

    for (int i = 0; i < n; i++)
        sum += column[i];
    qsort(column, (size_t)n, sizeof(*column), by_size);
    printf("%s %llu %.1f %llu %llu\n", key, (unsigned long long)column[n / 2],
           (double)sum / n, (unsigned long long)column[0],
           (unsigned long long)column[n - 1]);
}

static void say(const struct message *all, int n)
{
    uint64_t *column = calloc((size_t)n, sizeof(*column));
    char text[16];

    if (!column)
        fail("no memory");
    for (int i = 0; i < n; i++)
        column[i] = all[i].program;
    say_column("program", column, n);
    for (int i = 0; i < n; i++)
        column[i] = all[i].provider;
    say_column("provider", column, n);
    free(column);
    printf("posts %.2f\n", (double)posts / n);
    for (unsigned i = 0; i < CALLS; i++)
        if (calls[i])
            printf("call %s %llu\n", call_name(i, text), (unsigned long long)calls[i]);
    for (int o = -1; o < n_objects; o++) {
        uint64_t sum = 0;

        for (unsigned i = 0; i < PLACES; i++)
            sum += places[i].pc && places[i].object == o ? places[i].count : 0;
        if (sum)
            printf("in %s %.1f\n", o < 0 ? "-" : objects[o].name, (double)sum / n);
    }
}

static void counts_write(const char *path)
{
    FILE *file = fopen(path, "w");

    if (!file)
        fail(path);
    for (unsigned i = 0; i < PLACES; i++) {
        const struct object *o = places[i].object < 0 ? NULL : &objects[places[i].object];

        if (places[i].count)
            fprintf(file, "%s %llx %llu\n", o ? o->name : "-",
                    (unsigned long long)(o ? places[i].pc - o->from + o->offset
                                           : places[i].pc),
                    (unsigned long long)places[i].count);
    }
    if (fclose(file))
        fail(path);
}

int main(int argc, char **argv)
{
    struct user_regs_struct regs;
    const char *counts = NULL;
    struct message *all;
    int n = 100, i = 1;

    for (; i + 1 < argc && argv[i][0] == '-'; i += 2) {
        if (!strcmp(argv[i], "--messages"))
            n = atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--counts"))
            counts = argv[i + 1];
        else if (!strcmp(argv[i], "--mark") && !strcmp(argv[i + 1], "getppid"))
            by_getppid = true;
        else
            break;
    }
    traced = i + 1 == argc ? atoi(argv[i]) : 0;
    if (traced <= 0 || n <= 0 || n > MESSAGES_MAX)
        refuse("steps [--messages N] [--counts FILE] [--mark getppid] PID");
    all = calloc((size_t)n, sizeof(*all));
    if (!all)
        fail("no memory");
    attach();
    objects_read();
    if (ptrace(PTRACE_GETREGS, traced, NULL, &regs))
        fail("cannot read registers");
    until_mark(&regs, false);
    until_mark(&regs, false);
    for (i = 0; i < n; i++)
        all[i] = until_mark(&regs, true);
    ptrace(PTRACE_DETACH, traced, NULL, NULL);      /* the others are by our end */
    say(all, n);
    if (counts)
        counts_write(counts);
    free(all);
    return 0;
}
