/* SPDX-License-Identifier: BSD-3-Clause */
/* fuzz.c - does the cache ever hand out pages that the program does not have?
 *
 *     fuzz_cache [--monitor NAME] [--seconds N | --steps N] [--threads N] [--seed N]
 *                [--raw-maps] [--heap]
 *
 * Threads change memory and use it at random (fuzz.h says by which rule), with an
 * oracle that does not ask the cache. Ends with the counts, or on the first mismatch with its story and
 * status 1; 2 for a wrong option, 3 when the machine does not play along (the
 * monitor does not open).
 *
 * Where the monitor sees system calls that pass by the library, memory is unmapped by
 * them too; with --raw-maps it is also mapped by them. With --heap all memory is of malloc,
 * and what changes is what realloc and free make of it.
 *
 * Each thread's choices follow from the seed and its number. One thread alone does
 * the same at the same addresses each time; more are scheduled as it comes.
 */
#include <dlfcn.h>
#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <time.h>
#include <unistd.h>

#include "tests/cache/broken.h"
#include "tests/cache/fuzz.h"

enum { MAX_REGIONS = 256, STUCK_SECONDS = 200 };
#define BUDGET_BYTES ((size_t)6 << 20)

struct fuzz fuzz = { .n_threads = 4, .monitor_name = "auto" };

/* ---- what a thread does ---- */

static void own_step(struct worker *w, struct slot *s)
{
    size_t choice = below(w, 100);
    if (s->kind == NOTHING) {
        slot_make(w, s);
        if (s->kind != NOTHING && choice & 1)
            use_in(w, s);
        return;
    }
    if (choice < 25) {
        slot_release(w, s);
        if (choice & 1)
            slot_make(w, s);
    } else if (choice < 60) {
        slot_change(w, s);
    } else if (choice < 68) {
        size_t from = below(w, s->len);
        slot_write(w, s, from, 1 + below(w, s->len - from));
    }
    if (s->kind == NOTHING)
        return;
    if (choice & 2)
        use_in(w, s);
    if (choice & 4)
        use_out(w, s);
    slot_agrees(w, s);
}

static void shared_step(struct worker *w, struct slot *s)
{
    if (s->kind == NOTHING)
        return;
    switch (below(w, 8)) {
    case 0: case 1: case 2: use_out(w, s); break;
    case 3: use_span(w, s); break;
    case 4: use_hold(w, s); break;
    default: use_look(w, s); break;
    }
}

static void step(struct worker *w)
{
    /* A few slots are wanted by all, so that who changes one has company. */
    struct slot *s = &fuzz.slots[below(w, below(w, 2) ? SLOTS : fuzz.n_threads)];
    size_t choice = below(w, 1000);
    if (choice < 3) {
        pw_regcache_trim(fuzz.cache, below(w, 4) ? below(w, BUDGET_BYTES / 16) : SIZE_MAX);
        w->counts[OP_TRIM]++;
    } else if (choice < 10) {
        pw_regcache_progress(fuzz.cache);
        w->counts[OP_PROGRESS]++;
    } else if (choice < 40) {
        held_put_some(w);
    } else if (choice < 140) {
        use_in_race(w, s);
    } else if (choice < 480) {
        if (slot_share(s)) {
            shared_step(w, s);
            slot_leave(s);
        } else {
            w->busy++;
        }
    } else if (slot_take(s)) {
        if (choice < 490)
            process_step(w, s);
        else
            own_step(w, s);
        slot_leave(s);
    } else {
        w->busy++;
    }
}

static bool time_to_stop(const struct worker *w)
{
    return fuzz.steps ? w->step >= fuzz.steps
                      : __atomic_load_n(&fuzz.stop, __ATOMIC_RELAXED);
}

static void *work(void *arg)
{
    struct worker *w = arg;
    while (!time_to_stop(w)) {
        step(w);
        __atomic_store_n(&w->step, w->step + 1, __ATOMIC_RELAXED);
    }
    children_reap(w, true);
    return NULL;
}

/* ---- start and end ---- */

/* In the order in which each needs the one before. */
static void open_all(void)
{
    struct pw_monitor_report report;
    /* With odd seeds a cache that evicts all the time; with even ones most of what
     * is remembered stays until it changes. */
    bool small = fuzz.seed & 1;
    struct pw_budget_config budget = {
        .rank_bytes = small ? BUDGET_BYTES : 16 * BUDGET_BYTES,
        .rank_regions = small ? 28 : MAX_REGIONS,
        .host_bytes = 64 * BUDGET_BYTES, .name = "fuzz",
    };

    int err = oracle_open(2 * MAX_REGIONS, &fuzz.oracle);
    const char *what = "oracle";
    if (!err) {
        what = fuzz.monitor_name;
        err = broken_monitor_open(fuzz.monitor_name, &fuzz.monitor, &report);
        if (err)
            fprintf(stderr, "%s\n", report.why_not);
    }
    if (!err) {
        what = "budget";
        err = pw_budget_open(&budget, &fuzz.budget);
    }
    if (!err) {
        struct pw_regcache_config config = {
            .pin = oracle_ops(fuzz.oracle), .pin_ctx = fuzz.oracle,
            .monitor = fuzz.monitor, .budget = fuzz.budget, .max_regions = MAX_REGIONS,
        };
        what = "cache";
        err = pw_regcache_open(&config, &fuzz.cache);
    }
    if (err) {
        fprintf(stderr, "%s: %s\n", what, strerror(-err));
        exit(3);
    }
}

static void load_function(const char *file, const char *name, void *function)
{
    void *handle = load_object(file);
    void *p = handle ? dlsym(handle, name) : NULL;
    if (!p) {
        fprintf(stderr, "%s: %s\n", file, dlerror());
        exit(3);
    }
    memcpy(function, &p, sizeof p);
}

static void load_raw(void)
{
    fuzz.raw = fuzz.monitor->sees & PW_EV_RAW && strcmp(fuzz.monitor_name, "blind");
    fuzz.raw_maps &= fuzz.raw;
    if (!fuzz.raw)
        return;
    load_function("stale_raw_few.so", "stale_few_munmap", &fuzz.raw_munmap);
    if (fuzz.raw_maps)
        load_function("stale_raw_map.so", "stale_map_mmap", &fuzz.raw_mmap);
}

static void start_workers(void)
{
    for (unsigned i = 0; i < fuzz.n_threads; i++) {
        struct worker *w = &fuzz.workers[i];
        w->id = i;
        w->random = fuzz.seed * 0x2545f4914f6cdd1du + i;
        w->data = mmap(NULL, SLOT_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                       -1, 0);
        w->log = calloc(RECORDS, sizeof w->log[0]);
        if (w->data == MAP_FAILED || !w->log) {
            perror("mmap");
            exit(3);
        }
    }
    for (unsigned i = 0; i < fuzz.n_threads; i++) {
        int err = pthread_create(&fuzz.workers[i].thread, NULL, work, &fuzz.workers[i]);
        if (err) {
            fprintf(stderr, "thread: %s\n", strerror(err));
            exit(3);
        }
    }
}

static uint64_t steps_done(void)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < fuzz.n_threads; i++)
        sum += __atomic_load_n(&fuzz.workers[i].step, __ATOMIC_RELAXED);
    return sum;
}

/* A thread that does no step for so long waits for what never comes, or the machine
 * is very busy. */
static void tell_stuck(void)
{
    for (unsigned i = 0; i < fuzz.n_threads; i++) {
        struct worker *w = &fuzz.workers[i];
        struct record *r = &w->log[(w->logged - 1) % RECORDS];
        fprintf(stderr, "thread %u stands at step %llu after %s of %#lx-%#lx\n", i,
                (unsigned long long)w->step, w->logged ? op_names[r->op] : "nothing",
                (unsigned long)r->start, (unsigned long)r->end);
    }
    fprintf(stderr, "STUCK: --monitor %s --seed %llu --threads %u; pid %d, aborting\n",
            fuzz.monitor_name, (unsigned long long)fuzz.seed, fuzz.n_threads, getpid());
    abort();
}

/* Of a clock that nobody sets. */
static time_t seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec;
}

static void wait_for_workers(unsigned seconds)
{
    uint64_t last[THREADS_MAX] = { 0 };
    time_t moved[THREADS_MAX], start = seconds_now();
    for (unsigned i = 0; i < THREADS_MAX; i++)
        moved[i] = start;
    for (unsigned running = fuzz.n_threads; running > 0;) {
        usleep(50000);
        time_t now = seconds_now();
        if (now - start >= (time_t)seconds)
            __atomic_store_n(&fuzz.stop, true, __ATOMIC_RELAXED);
        for (unsigned i = 0; i < fuzz.n_threads; i++) {
            struct worker *w = &fuzz.workers[i];
            uint64_t done = __atomic_load_n(&w->step, __ATOMIC_RELAXED);
            if (w->thread && pthread_tryjoin_np(w->thread, NULL) == 0) {
                w->thread = 0;
                running--;
            }
            if (!w->thread || done != last[i])
                moved[i] = now;
            last[i] = done;
            if (now - moved[i] > STUCK_SECONDS)
                tell_stuck();
        }
    }
}

static void report(double seconds)
{
    uint64_t counts[OPS] = { 0 }, refused = 0, again = 0, busy = 0;
    struct pw_regcache_stats st;
    for (unsigned i = 0; i < fuzz.n_threads; i++) {
        struct worker *w = &fuzz.workers[i];
        for (int op = 0; op < OPS; op++)
            counts[op] += w->counts[op];
        refused += w->refused;
        again += w->again;
        busy += w->busy;
    }
    pw_regcache_stats(fuzz.cache, &st);
    printf("monitor %s, seed %llu, %u threads, %.0f s: %llu steps, %llu slots were busy\n",
           fuzz.monitor->ops->name, (unsigned long long)fuzz.seed, fuzz.n_threads, seconds,
           (unsigned long long)steps_done(), (unsigned long long)busy);
    for (int op = 0, column = 0; op < OPS; op++)
        if (counts[op])
            printf("%s%s %llu", column++ % 6 ? ", " : column > 1 ? "\n  " : "  ",
                   op_names[op], (unsigned long long)counts[op]);
    printf("\ngets: %llu hits, %llu misses, %llu uncached, %llu refused, %llu try again\n",
           (unsigned long long)st.hits, (unsigned long long)st.misses,
           (unsigned long long)st.uncached, (unsigned long long)refused,
           (unsigned long long)again);
    printf("cache: %llu merges, %llu evictions, %llu retries; invalidated:",
           (unsigned long long)st.merges, (unsigned long long)st.evictions,
           (unsigned long long)st.retries);
    for (int e = 0; e < 12; e++)
        if (st.invalidated[e])
            printf(" %s %llu", pw_event_name(1u << e), (unsigned long long)st.invalidated[e]);
    printf("\nframes %s; monitor: %s\n", oracle_sees_frames(fuzz.oracle) ? "compared"
           : "not looked at", fuzz.monitor->note[0] ? fuzz.monitor->note : "-");
}

/* Everything has been put: it must all come off. */
static int close_all(void)
{
    struct pw_regcache_stats st;
    struct pw_budget_info info;
    held_put_all(&fuzz.workers[0]);
    pw_regcache_trim(fuzz.cache, SIZE_MAX);
    pw_regcache_stats(fuzz.cache, &st);
    pw_regcache_close(fuzz.cache);
    broken_monitor_close(fuzz.monitor);
    pw_budget_describe(fuzz.budget, &info);
    pw_budget_close(fuzz.budget);
    oracle_close(fuzz.oracle);
    if (!st.pinned_bytes && !st.pinned_regions && !st.regions && !info.used_bytes)
        return 0;
    fprintf(stderr, "LEFT BEHIND: %llu bytes pinned in %llu regions, %llu in the index, "
            "%zu bytes charged\n", (unsigned long long)st.pinned_bytes,
            (unsigned long long)st.pinned_regions, (unsigned long long)st.regions,
            info.used_bytes);
    return 1;
}

/* Addresses that are the same each time. */
static void without_aslr(char **argv)
{
    int now = personality(0xffffffff);
    if (now == -1 || now & ADDR_NO_RANDOMIZE || personality(now | ADDR_NO_RANDOMIZE) == -1)
        return;
    execv("/proc/self/exe", argv);
}

static unsigned long number(const char *text, unsigned long least, unsigned long most)
{
    char *end;
    errno = 0;
    unsigned long n = strtoul(text, &end, 0);
    if (errno || *end || end == text || n < least || n > most) {
        fprintf(stderr, "%s: not a number from %lu to %lu\n", text, least, most);
        exit(2);
    }
    return n;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        { "monitor", 1, NULL, 'm' }, { "seconds", 1, NULL, 's' }, { "steps", 1, NULL, 'n' },
        { "threads", 1, NULL, 't' }, { "seed", 1, NULL, 'r' }, { "raw-maps", 0, NULL, 'w' },
        { "heap", 0, NULL, 'h' }, { NULL, 0, NULL, 0 },
    };
    unsigned seconds = 60;
    struct timespec from, to;
    int o;
    without_aslr(argv);
    clock_gettime(CLOCK_REALTIME, &from);
    fuzz.seed = (uint64_t)from.tv_nsec ^ (uint64_t)getpid() << 32;
    while ((o = getopt_long(argc, argv, "", options, NULL)) != -1)
        switch (o) {
        case 'm': fuzz.monitor_name = optarg; break;
        case 's': seconds = (unsigned)number(optarg, 1, 1u << 30); break;
        case 'n': fuzz.steps = number(optarg, 1, ~0ul); break;
        case 't': fuzz.n_threads = (unsigned)number(optarg, 1, THREADS_MAX); break;
        case 'r': fuzz.seed = number(optarg, 0, ~0ul); break;
        case 'w': fuzz.raw_maps = true; break;
        case 'h': fuzz.heap = true; break;
        default: return 2;
        }
    mallopt(M_MMAP_THRESHOLD, 128 << 10);
    mallopt(M_ARENA_MAX, 2 * THREADS_MAX);
    story_open();
    open_all();
    load_raw();
    slots_open();
    clock_gettime(CLOCK_MONOTONIC, &from);
    start_workers();
    wait_for_workers(fuzz.steps ? UINT32_MAX : seconds);
    clock_gettime(CLOCK_MONOTONIC, &to);
    report((double)(to.tv_sec - from.tv_sec));
    return close_all();
}
