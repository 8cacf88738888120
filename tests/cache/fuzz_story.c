/* SPDX-License-Identifier: BSD-3-Clause */
/* fuzz_story.c - what each thread did last, and the story of a mismatch. */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/cache/fuzz.h"

enum { TOLD = 60 };

const char *const op_names[OPS] = {
    [OP_MAKE] = "make", [OP_RELEASE] = "release", [OP_WRITE] = "write", [OP_GET] = "get",
    [OP_PUT] = "put", [OP_IN] = "READ_FIXED", [OP_OUT] = "WRITE_FIXED",
    [OP_LOOK] = "look", [OP_SPAN] = "span", [OP_RACE] = "race", [OP_HOLD] = "hold", [OP_TRIM] = "trim",
    [OP_PROGRESS] = "progress", [OP_FORK] = "fork", [OP_FORK_WRITES] = "fork-writes",
    [OP_FORK_USES] = "fork-uses", [OP_SPAWN] = "spawn", [OP_THREAD] = "thread",
    [OP_OBJECT] = "dlopen-dlclose", [OP_MALLOC_TRIM] = "malloc_trim",
    [OP_UNMAP_MAP] = "munmap-mmap", [OP_MAP_OVER] = "map-over",
    [OP_MOVE_AWAY] = "mremap-away", [OP_MOVE_ONTO] = "mremap-onto",
    [OP_DONTUNMAP] = "mremap-dontunmap", [OP_SHRINK_GROW] = "mremap-shrink-grow",
    [OP_TRADE] = "mremap-trade", [OP_DONTNEED] = "dontneed",
    [OP_DONTNEED_LOCKED] = "dontneed-locked", [OP_GUARD] = "guard",
    [OP_FREE_LAZILY] = "madv-free", [OP_PROCESS_MADVISE] = "process_madvise",
    [OP_SYSCALL_UNMAP] = "syscall-munmap", [OP_SYSCALL_DONTNEED] = "syscall-madvise",
    [OP_PROTECT] = "mprotect", [OP_REMOVE] = "madv-remove", [OP_PUNCH] = "punch",
    [OP_TRUNCATE] = "ftruncate", [OP_OPEN_TRUNC] = "open-trunc",
    [OP_REMAP_SEGMENT] = "shm-remap", [OP_REALLOC] = "realloc",
    [OP_BREAK_DOWN_UP] = "brk", [OP_SPLIT] = "huge-split",
    [OP_RAW_UNMAP] = "raw-munmap",
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void note(struct worker *w, enum op op, const void *addr, size_t len, int result,
          unsigned extra)
{
    w->log[w->logged % RECORDS] = (struct record){
        .when = now_ns(), .step = w->step, .op = op, .result = result,
        .start = (uintptr_t)addr, .end = (uintptr_t)addr + len, .extra = extra,
    };
    w->logged++;
    w->counts[op]++;
}

struct told {
    struct record r;
    unsigned thread;
};

static int by_time(const void *a, const void *b)
{
    uint64_t x = ((const struct told *)a)->r.when, y = ((const struct told *)b)->r.when;
    return x < y ? -1 : x > y;
}

/* The last records of all threads that touch the page, oldest first. */
static void tell_page(uintptr_t page)
{
    static struct told found[THREADS_MAX * TOLD];
    size_t n = 0;
    for (unsigned t = 0; t < fuzz.n_threads; t++) {
        struct worker *w = &fuzz.workers[t];
        uint64_t i = w->logged, oldest = i > RECORDS ? i - RECORDS : 0;
        for (unsigned kept = 0; i > oldest && kept < TOLD; i--) {
            struct record r = w->log[(i - 1) % RECORDS];
            if (r.start >= page + PAGE || r.end <= page)
                continue;
            found[n++] = (struct told){ r, t };
            kept++;
        }
    }
    qsort(found, n, sizeof found[0], by_time);
    uint64_t end = now_ns();
    for (size_t i = n > TOLD ? n - TOLD : 0; i < n; i++) {
        struct record *r = &found[i].r;
        fprintf(stderr, "  %10.3f us ago  thread %2u step %8llu  %-18s %#lx-%#lx  %d  #%u\n",
                (double)(end - r->when) / 1000, found[i].thread, (unsigned long long)r->step,
                op_names[r->op], (unsigned long)r->start, (unsigned long)r->end,
                r->result, r->extra);
    }
}

void mismatch(struct worker *w, const void *addr, const char *format, ...)
{
    static pthread_mutex_t only_one = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&only_one);      /* never given back: the others wait */
    va_list list;
    va_start(list, format);
    fprintf(stderr, "MISMATCH at %p, thread %u, step %llu: ", addr, w->id,
            (unsigned long long)w->step);
    vfprintf(stderr, format, list);
    va_end(list);
    fprintf(stderr, "\n--monitor %s --seed %llu --threads %u%s; what was done there last "
            "(what, range, result, number of the region):\n", fuzz.monitor_name,
            (unsigned long long)fuzz.seed, fuzz.n_threads,
            fuzz.n_threads == 1 ? " (replays exactly)" : "");
    tell_page((uintptr_t)addr & -(uintptr_t)PAGE);
    fflush(stderr);
    _exit(1);
}

void trouble(struct worker *w, const char *what)
{
    int err = errno;
    fprintf(stderr, "TROUBLE: thread %u, step %llu: %s: %s; --monitor %s --seed %llu "
            "--threads %u\n", w->id, (unsigned long long)w->step, what, strerror(err),
            fuzz.monitor_name, (unsigned long long)fuzz.seed, fuzz.n_threads);
    _exit(3);
}

/* Of this thread, also in a forked child; NULL: a short-lived one. */
static const struct worker *worker_here(void)
{
    for (unsigned i = 0; i < fuzz.n_threads; i++)
        if (fuzz.workers[i].log && pthread_equal(fuzz.workers[i].thread, pthread_self()))
            return &fuzz.workers[i];
    return NULL;
}

/* What must be known comes first, by a system call: what follows may hang. */
static void tell_signal(int number, siginfo_t *info, void *context)
{
    const struct worker *w = worker_here();
    uintptr_t at = number == SIGABRT ? 0 : (uintptr_t)info->si_addr;
    char text[256];
    (void)context;
    int n = snprintf(text, sizeof text, "SIGNAL %d at %#lx, thread %d, step %llu%s, after %s; "
                     "--monitor %s --seed %llu --threads %u\n", number, (unsigned long)at,
                     w ? (int)w->id : -1, w ? (unsigned long long)w->step : 0,
                     w && w->child ? ", in a forked child" : "",
                     w && w->logged ? op_names[w->log[(w->logged - 1) % RECORDS].op] : "nothing",
                     fuzz.monitor_name, (unsigned long long)fuzz.seed, fuzz.n_threads);
    ssize_t done = write(2, text, n < (int)sizeof text ? (size_t)n : sizeof text - 1);
    (void)done;
    signal(number, SIG_DFL);
    if (at)
        tell_page(at & -(uintptr_t)PAGE);
    raise(number);
}

void story_open(void)
{
    static const int numbers[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT };
    struct sigaction how = { .sa_sigaction = tell_signal, .sa_flags = SA_SIGINFO };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        sigaction(numbers[i], &how, NULL);
}
