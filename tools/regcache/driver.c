/* SPDX-License-Identifier: BSD-3-Clause */
/* driver.c - what is measured of a registration cache, the same for all of them.
 *
 * Start at main(). A point is measured in three steps: proof (proof.c) that the
 * cache does its work in this very process; regions laid out and cached; then
 * batches of the pattern until the time is over. The result is the median over the
 * batches, for a machine that does other things too disturbs some of them.
 *
 * Nothing here is random: the order of the buffers comes from a generator with a
 * fixed seed, so each cache gets the same one.
 */
#include "driver.h"

#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "../cores.h"
#include "proof.h"

enum {
    PAGE = 4096,
    USES = 10240,               /* length of the list of buffers; then it begins anew */
    CHUNK = 512,                /* of it, in one call of hits() */
    THREADS_MAX = 64,
    BATCHES_MAX = 4096,
    MAP_BYTES = 64 << 10,       /* what munmap and miss are measured with */
    PART_MAX = 64 << 10,        /* what inside looks up at most */
    MISSES_MAX = 4096, MISSES_PINNED_MAX = 1024, MISSES_BATCH = 32,
};

enum kind { HITS, MUNMAP, MUNMAP_GET, CHURN, MISS, MISS_PINNED, MEMORY };

struct pattern {
    const char *name;
    enum kind kind;
    unsigned log2_min, log2_max;    /* lengths of the regions */
    bool one;                       /* one region is used again and again */
    bool inside;                    /* parts of regions, from any byte on */
};

static const struct pattern patterns[] = {
    { .name = "same", .kind = HITS, .log2_min = 12, .log2_max = 12, .one = true },
    { .name = "random", .kind = HITS, .log2_min = 12, .log2_max = 12 },
    { .name = "mixed", .kind = HITS, .log2_min = 12, .log2_max = 22 },
    { .name = "inside", .kind = HITS, .log2_min = 26, .log2_max = 26, .inside = true },
    { .name = "munmap", .kind = MUNMAP, .log2_min = 12, .log2_max = 12 },
    { .name = "munmap-get", .kind = MUNMAP_GET, .log2_min = 12, .log2_max = 12 },
    { .name = "churn", .kind = CHURN, .log2_min = 12, .log2_max = 12 },
    { .name = "miss", .kind = MISS, .log2_min = 12, .log2_max = 12 },
    { .name = "miss-pinned", .kind = MISS_PINNED, .log2_min = 12, .log2_max = 12 },
    { .name = "memory", .kind = MEMORY, .log2_min = 12, .log2_max = 12 },
};

struct bench {
    const struct pattern *pattern;
    size_t regions;
    int threads;
    double seconds;
    void *cache;
    struct pins pins;
    struct driver_use *region;  /* what is cached */
    struct driver_use uses[USES];
};

__attribute__((format(printf, 2, 3), noreturn))
static void stop(int code, const char *format, ...)
{
    va_list args;

    fprintf(stderr, "%s: ", driver.name);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    fflush(stderr);
    _exit(code);
}

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *values, int n)
{
    qsort(values, (size_t)n, sizeof *values, compare_doubles);
    return (values[n / 2] + values[(n - 1) / 2]) / 2;
}

/* Addresses for as much as we like; pages come when they are touched, if ever. */
static void *reserve(size_t bytes, int flags)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);

    if (p == MAP_FAILED)
        stop(DRIVER_ABSENT, "no %zu MiB of addresses: %s", bytes >> 20, strerror(errno));
    return p;
}

/* ---- what is cached, and what is looked up ---- */

/* Regions side by side, a page between them so that none are neighbours. */
static void lay_out(struct bench *b)
{
    unsigned span = b->pattern->log2_max - b->pattern->log2_min + 1;
    uint64_t state = 1;
    size_t bytes = 0;
    char *at;

    b->region = calloc(b->regions + 1, sizeof *b->region);
    if (!b->region)
        stop(DRIVER_FAILED, "no memory for a list of %zu regions", b->regions);
    for (size_t i = 0; i < b->regions; i++) {
        b->region[i].len = (size_t)1 << (b->pattern->log2_min + next_random(&state) % span);
        bytes += b->region[i].len + PAGE;
    }
    at = reserve(bytes + PAGE, 0);
    for (size_t i = 0; i < b->regions; i++) {
        b->region[i].addr = at;
        at += b->region[i].len + PAGE;
    }
}

static struct driver_use part_of(const struct driver_use *region, uint64_t *state)
{
    size_t len = 1 + next_random(state) % PART_MAX;

    return (struct driver_use){
        (char *)region->addr + next_random(state) % (region->len - len + 1), len,
    };
}

/* All regions once in random order, then again in another, until the list is full. */
static void choose_uses(struct bench *b)
{
    struct driver_use *uses = b->uses;
    uint64_t state = 2;

    for (size_t i = 0, n = b->regions; i < USES && n; i++) {
        size_t round = i / n * n, other = round + next_random(&state) % (i - round + 1);

        uses[i] = uses[other];
        uses[other] = b->region[b->pattern->one ? n / 2 : i % n];
    }
    for (int i = 0; i < USES && b->pattern->inside; i++)
        uses[i] = part_of(&uses[i], &state);
}

static void use_once(struct bench *b, void *addr, size_t len)
{
    void *region;

    if (driver.get(b->cache, addr, len, &region))
        stop(DRIVER_FAILED, "a get of %zu bytes failed", len);
    driver.put(b->cache, region);
}

/* They must all be there afterwards, each as a region of its own, or the figure
 * would be of another number than we say. */
static void cache_all(struct bench *b)
{
    uint64_t before = pins_pinned(&b->pins), lost = pins_unpinned(&b->pins);

    for (size_t i = 0; i < b->regions; i++)
        use_once(b, b->region[i].addr, b->region[i].len);
    if (pins_pinned(&b->pins) - before != b->regions || pins_unpinned(&b->pins) != lost)
        stop(DRIVER_FAILED, "%zu regions were to be cached, and %zu pins were made, %zu undone",
             b->regions, (size_t)(pins_pinned(&b->pins) - before),
             (size_t)(pins_unpinned(&b->pins) - lost));
}

/* ---- hits ---- */

struct worker {
    struct bench *b;
    int index;
    size_t chunks, failed;      /* done; gets among them that failed */
    double ns;
};

static struct {
    int arrived;
    double until;       /* when the last one has arrived */
} gate;

/* Off they go together. The last to arrive says until when. */
static double gate_pass(struct bench *b)
{
    double until;

    if (__atomic_add_fetch(&gate.arrived, 1, __ATOMIC_ACQ_REL) == b->threads) {
        until = now() + b->seconds;
        __atomic_store(&gate.until, &until, __ATOMIC_RELEASE);
        return until;
    }
    do {
        sched_yield();
        __atomic_load(&gate.until, &until, __ATOMIC_ACQUIRE);
    } while (until == 0);
    return until;
}

static void stay_on_core(int index)
{
    int cpu = pw_core_at(index);
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu < 0 ? 0 : cpu, &set);
    if (cpu < 0 || sched_setaffinity(0, sizeof set, &set))
        stop(DRIVER_ABSENT, "%d threads need as many cores, and core %d is not to be had",
             index + 1, index);
}

/* The next part of the list. Each thread starts at another one. */
static void use_chunk(struct worker *w)
{
    size_t parts = USES / CHUNK, first = (size_t)w->index * parts / (size_t)w->b->threads;
    const struct driver_use *uses = w->b->uses + (first + w->chunks++) % parts * CHUNK;

    w->failed += driver.hits(w->b->cache, uses, CHUNK);
}

/* Everything seen once, and how many chunks make a batch that is long beside the
 * clock's own cost. */
static size_t warm_up(struct worker *w)
{
    double start = now(), least = w->b->seconds / 1000, took;

    do {
        use_chunk(w);
        took = now() - start;
    } while (w->chunks < 2 * USES / CHUNK && took < 0.3);
    took /= (double)w->chunks;
    if (least < 20e-6)
        least = 20e-6;
    return took >= least ? 1 : (size_t)(least / took) + 1;
}

static void *worker_run(void *arg)
{
    struct worker *w = arg;
    double each[BATCHES_MAX], until;
    size_t batch;
    int n = 0;

    stay_on_core(w->index);
    batch = warm_up(w);
    until = gate_pass(w->b);
    do {
        double start = now();

        for (size_t i = 0; i < batch; i++)
            use_chunk(w);
        each[n++ % BATCHES_MAX] = (now() - start) / (double)(batch * CHUNK);
    } while (now() < until);
    w->ns = median(each, n < BATCHES_MAX ? n : BATCHES_MAX) * 1e9;
    return NULL;
}

/* Were they all hits, by the pins and by the cache's own count? */
static void check_hits(struct bench *b, uint64_t pinned, uint64_t counted, size_t uses)
{
    if (pins_pinned(&b->pins) != pinned)
        stop(DRIVER_FAILED, "%zu gets were misses where hits are measured",
             (size_t)(pins_pinned(&b->pins) - pinned));
    if (driver.hit_count && driver.hit_count(b->cache) - counted != uses)
        stop(DRIVER_FAILED, "%zu hits were measured, and the cache counted %zu", uses,
             (size_t)(driver.hit_count(b->cache) - counted));
}

/* ns for a get and its put, in each thread. With one thread there is no other in
 * the process. */
static double measure_hits(struct bench *b)
{
    uint64_t pinned = pins_pinned(&b->pins);
    uint64_t counted = driver.hit_count ? driver.hit_count(b->cache) : 0;
    struct worker w[THREADS_MAX];
    pthread_t thread[THREADS_MAX];
    size_t uses = 0;
    double ns = 0;

    for (int i = 0; i < b->threads; i++)
        w[i] = (struct worker){ .b = b, .index = i };
    for (int i = 1; i < b->threads; i++)
        if (pthread_create(&thread[i], NULL, worker_run, &w[i]))
            stop(DRIVER_ABSENT, "no thread %d", i + 1);
    worker_run(&w[0]);
    for (int i = 1; i < b->threads; i++)
        pthread_join(thread[i], NULL);

    for (int i = 0; i < b->threads; i++) {
        if (w[i].failed)
            stop(DRIVER_FAILED, "%zu gets failed", w[i].failed);
        uses += w[i].chunks * CHUNK;
        ns += w[i].ns / b->threads;
    }
    check_hits(b, pinned, counted, uses);
    return ns;
}

/* ---- memory that comes and goes ---- */

static void map_unmap(struct bench *b, size_t i)
{
    void *p = mmap(NULL, MAP_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        stop(DRIVER_FAILED, "mmap: %s", strerror(errno));
    if (b->pattern->kind == CHURN)
        use_once(b, p, MAP_BYTES);
    munmap(p, MAP_BYTES);
    if (b->pattern->kind == MUNMAP_GET)
        use_once(b, b->uses[i % USES].addr, b->uses[i % USES].len);
}

/* ns for mmap and munmap of 64 KiB and what the pattern does besides. */
static double measure_munmap(struct bench *b)
{
    double each[BATCHES_MAX], until = now() + b->seconds;
    size_t i = 0;
    int n = 0;

    stay_on_core(0);
    for (; i < 64; i++)
        map_unmap(b, i);
    do {
        double start = now();

        for (int k = 0; k < 16; k++)
            map_unmap(b, i++);
        each[n++ % BATCHES_MAX] = (now() - start) / 16;
    } while (now() < until);
    return median(each, n < BATCHES_MAX ? n : BATCHES_MAX) * 1e9;
}

/* How many misses may be pinned: what is pinned stays so until the end. */
static size_t misses_pinned_max(void)
{
    struct rlimit limit;

    if (geteuid() == 0 || getrlimit(RLIMIT_MEMLOCK, &limit) ||
        limit.rlim_cur / 2 / MAP_BYTES > MISSES_PINNED_MAX)
        return MISSES_PINNED_MAX;
    return (size_t)limit.rlim_cur / 2 / MAP_BYTES;
}

/* ns for a get of 64 KiB that was never seen before, and its put. */
static double measure_misses(struct bench *b)
{
    bool pinned = b->pattern->kind == MISS_PINNED;
    size_t n = pinned ? misses_pinned_max() : MISSES_MAX, stride = MAP_BYTES + PAGE;
    char *at = reserve(n * stride, pinned ? MAP_POPULATE : 0);
    double each[MISSES_MAX / MISSES_BATCH], until = now() + b->seconds;
    uint64_t before = pins_pinned(&b->pins);
    int batches = 0;

    if (n < 2 * MISSES_BATCH)
        stop(DRIVER_ABSENT, "this user may lock too little memory; raise RLIMIT_MEMLOCK");
    stay_on_core(0);
    for (size_t i = 0; i + MISSES_BATCH <= n && (batches < 2 || now() < until);
         i += MISSES_BATCH) {
        double start = now();

        for (size_t k = i; k < i + MISSES_BATCH; k++)
            use_once(b, at + k * stride, MAP_BYTES);
        each[batches++] = (now() - start) / MISSES_BATCH;
    }
    if (pins_pinned(&b->pins) - before != (uint64_t)batches * MISSES_BATCH)
        stop(DRIVER_FAILED, "some gets were hits where misses are measured");
    return median(each, batches) * 1e9;
}

/* Bytes of memory that the process has in use, by the kernel's count. */
static size_t resident(void)
{
    char line[256];
    size_t kib = 0;
    FILE *f = fopen("/proc/self/smaps_rollup", "re");

    if (!f)
        stop(DRIVER_ABSENT, "/proc/self/smaps_rollup: %s", strerror(errno));
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "Rss: %zu kB", &kib) == 1)
            break;
    fclose(f);
    return kib << 10;
}

/* Bytes for each region that is cached, beyond what the first few needed. The
 * regions' own pages are not touched. */
static double measure_memory(struct bench *b)
{
    size_t few = b->regions / 50, before;

    for (size_t i = 0; i < few; i++)
        use_once(b, b->region[i].addr, b->region[i].len);
    resident();
    before = resident();
    for (size_t i = few; i < b->regions; i++)
        use_once(b, b->region[i].addr, b->region[i].len);
    if (pins_pinned(&b->pins) - pins_unpinned(&b->pins) < b->regions)
        stop(DRIVER_FAILED, "fewer than %zu regions are cached", b->regions);
    return (double)(resident() - before) / (double)(b->regions - few);
}

static double measure(struct bench *b)
{
    lay_out(b);
    choose_uses(b);
    if (b->pattern->kind == MEMORY)
        return measure_memory(b);
    cache_all(b);
    switch (b->pattern->kind) {
    case MISS:
    case MISS_PINNED:
        return measure_misses(b);
    case MUNMAP:
    case MUNMAP_GET:
    case CHURN:
        return measure_munmap(b);
    default:
        return measure_hits(b);
    }
}

/* ---- the command line ---- */

static double parse(const char *option, const char *text, double min, double max)
{
    char *end;
    double value = strtod(text, &end);

    if (end == text || *end || !(value >= min && value <= max))
        stop(DRIVER_USAGE, "--%s takes a number from %g to %g, not \"%s\"", option, min, max,
             text);
    return value;
}

static const struct pattern *parse_pattern(const char *text)
{
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++)
        if (!strcmp(patterns[i].name, text))
            return &patterns[i];
    stop(DRIVER_USAGE, "there is no pattern \"%s\"", text);
}

static void parse_options(int argc, char **argv, struct bench *b, const char **monitor)
{
    static const struct option options[] = {
        { "regions", required_argument, NULL, 'r' },
        { "pattern", required_argument, NULL, 'p' },
        { "threads", required_argument, NULL, 't' },
        { "seconds", required_argument, NULL, 's' },
        { "monitor", required_argument, NULL, 'm' },
        { NULL, 0, NULL, 0 },
    };
    int c;

    opterr = 0;
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (c) {
        case 'r': b->regions = (size_t)parse("regions", optarg, 0, 1e6); break;
        case 'p': b->pattern = parse_pattern(optarg); break;
        case 't': b->threads = (int)parse("threads", optarg, 1, THREADS_MAX); break;
        case 's': b->seconds = parse("seconds", optarg, 0.001, 60); break;
        case 'm': *monitor = optarg; break;
        default: stop(DRIVER_USAGE, "there is no option %s", argv[optind - 1]);
        }
    }
    if (optind < argc)
        stop(DRIVER_USAGE, "there is no argument \"%s\"", argv[optind]);
    if (!b->regions && b->pattern->kind != MUNMAP && b->pattern->kind != CHURN &&
        b->pattern->kind != MISS && b->pattern->kind != MISS_PINNED)
        stop(DRIVER_USAGE, "%s needs a region at least", b->pattern->name);
    if (b->threads > 1 && b->pattern->kind != HITS)
        stop(DRIVER_USAGE, "%s is measured in one thread", b->pattern->name);
    if (!driver.caches && (b->regions || b->pattern->kind != MUNMAP))
        stop(DRIVER_USAGE, "without a cache only munmap is measured, with 0 regions");
}

int main(int argc, char **argv)
{
    static struct bench b = { .pattern = patterns, .regions = 1, .threads = 1, .seconds = 0.05 };
    struct driver_config config = { .pins = &b.pins, .monitor = "auto" };
    char note[DRIVER_NOTE_MAX];
    int err;

    parse_options(argc, argv, &b, &config.monitor);
    config.regions = b.regions;
    config.threads = b.threads;
    pins_init(&b.pins);
    if (b.pattern->kind == MISS_PINNED && (err = pins_use_ring(&b.pins)) != 0)
        stop(DRIVER_ABSENT, "io_uring does not register buffers here: %s", strerror(-err));
    err = driver.open(&config, &b.cache, note);
    if (err)
        stop(err, "%s", note);
    if (driver.caches && proof(b.cache, &b.pins, note))
        stop(DRIVER_FAILED, "%s", note);
    printf("# %s\n", note);
    printf("%.4g\n", measure(&b));
    fflush(stdout);
    /* What the caches would do at the end is nobody's concern. */
    _exit(0);
}
