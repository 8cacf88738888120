/* SPDX-License-Identifier: BSD-3-Clause */
/* story.c - telling stories over MPI; see story.h. */
#include "story.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

int rank, size;

enum { PRINTED_FAILURES = 12 };     /* one broken path must not fill a log */

static char **wanted;
static int nwanted;
static char current[128] = "start";
static int failures;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void *watch_time(void *arg)
{
    unsigned seconds = *(unsigned *)arg;

    free(arg);
    nap(seconds);
    fprintf(stderr, "rank %d: still in \"%s\" after %u s\n", rank, current, seconds);
    /* The runner looks at the processes before it kills them; give it time. */
    nap(10);
    _exit(3);
}

void story_open(int *argc, char ***argv, int level, unsigned seconds)
{
    int got;
    pthread_t watcher;
    unsigned *limit = malloc(sizeof *limit);

    wanted = *argv + 1;
    nwanted = *argc - 1;
    MPI_Init_thread(argc, argv, level, &got);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (got < level)
        story_skip("this Open MPI does not give the thread level asked for");

    *limit = getenv("PW_TEST_SECONDS") ? (unsigned)atoi(getenv("PW_TEST_SECONDS")) : seconds;
    if (pthread_create(&watcher, NULL, watch_time, limit) == 0)
        pthread_detach(watcher);
}

int story_close(void)
{
    snprintf(current, sizeof current, "MPI_Finalize");
    MPI_Finalize();
    if (failures > PRINTED_FAILURES)
        fprintf(stderr, "rank %d: %d failures in all\n", rank, failures);
    return failures ? 1 : 0;
}

void story_skip(const char *why)
{
    if (rank == 0)
        printf("skip: %s\n", why);
    MPI_Finalize();
    exit(STORY_SKIP);
}

/* Does the list name the story, or one of its words ("malloc" names "malloc fence")? */
static bool list_names(const char *list, const char *name, char sign)
{
    char copy[256], *save = NULL;

    snprintf(copy, sizeof copy, "%s", list);
    for (char *s = strtok_r(copy, ",", &save); s; s = strtok_r(NULL, ",", &save)) {
        bool minus = *s == '-';
        if (minus != (sign == '-'))
            continue;
        if (strstr(name, s + minus))
            return true;
    }
    return false;
}

bool story(const char *fmt, ...)
{
    va_list ap;
    bool yes = true;

    va_start(ap, fmt);
    vsnprintf(current, sizeof current, fmt, ap);
    va_end(ap);

    for (int i = 0; i < nwanted; i++) {
        bool only = *wanted[i] != '-';
        if (only && !list_names(wanted[i], current, '+'))
            yes = false;
        if (list_names(wanted[i], current, '-'))
            yes = false;
    }
    return yes;
}

void story_fail(const char *file, int line, const char *what, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);

    pthread_mutex_lock(&lock);
    if (failures++ < PRINTED_FAILURES)
        fprintf(stderr, "rank %d of %d, %s: %s (%s:%d: %s)\n", rank, size, current,
                text, file, line, what);
    pthread_mutex_unlock(&lock);
}

int story_largest(int usual)
{
    const char *wish = getenv("PW_TEST_LARGEST");
    int largest = wish ? atoi(wish) : usual;

    return largest < 1 << 20 ? 1 << 20 : largest;
}

int story_rounds(int usual)
{
    const char *wish = getenv("PW_TEST_ROUNDS");

    return wish ? atoi(wish) : usual;
}

int story_failures(void)
{
    return failures;
}

uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t x = a * 0x9e3779b97f4a7c15u + b + 0x632be59bd9b4e019u;

    x = (x ^ (x >> 31)) * 0xd6e8feb86659fd93u;
    return x ^ (x >> 29);
}

uint32_t draw(uint64_t *state)
{
    *state = mix(*state, 1);
    return (uint32_t)(*state >> 32);
}

static uint64_t word_at(uint64_t seed, size_t i)
{
    return (seed + i) * 0x9e3779b97f4a7c15u ^ (uint64_t)i << 17;
}

void fill(void *buf, size_t len, uint64_t seed)
{
    char *p = buf;
    size_t i;
    uint64_t w;

    for (i = 0; i + 8 <= len; i += 8) {
        w = word_at(seed, i / 8);
        memcpy(p + i, &w, 8);
    }
    if (i < len) {
        w = word_at(seed, i / 8);
        memcpy(p + i, &w, len - i);
    }
}

/* Offset of the first byte that differs from the pattern, or len. Word by word as far as they
 * are right: a call for each takes long on processors that are emulated. */
static size_t first_wrong(const unsigned char *p, size_t len, uint64_t seed)
{
    size_t i = 0;

    for (uint64_t there; i + 8 <= len; i += 8) {
        memcpy(&there, p + i, 8);
        if (there != word_at(seed, i / 8))
            break;
    }
    for (; i < len; i += 8) {
        uint64_t w = word_at(seed, i / 8);
        size_t n = len - i < 8 ? len - i : 8;

        for (size_t k = 0; k < n; k++)
            if (p[i + k] != ((unsigned char *)&w)[k])
                return i + k;
    }
    return len;
}

bool same(const void *buf, size_t len, uint64_t seed, const char *fmt, ...)
{
    const unsigned char *p = buf;
    size_t at = first_wrong(p, len, seed);
    char text[256];
    va_list ap;

    if (at == len)
        return true;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);

    uint64_t w = word_at(seed, at / 8);
    story_fail("data", 0, "right bytes", "%s: byte %zu of %zu is %02x, not %02x", text,
               at, len, p[at], ((unsigned char *)&w)[at % 8]);
    return false;
}

bool all_bytes(const void *buf, size_t len, unsigned char byte)
{
    const unsigned char *p = buf;

    for (size_t i = 0; i < len; i++)
        if (p[i] != byte)
            return false;
    return true;
}

void *mem_get(enum mem kind, size_t len)
{
    void *p = NULL;

    if (kind == MEM_MALLOC)
        p = malloc(len ? len : 1);
    else
        MPI_Alloc_mem((MPI_Aint)(len ? len : 1), MPI_INFO_NULL, &p);
    if (!p) {
        fprintf(stderr, "rank %d: no memory for %zu bytes\n", rank, len);
        MPI_Abort(MPI_COMM_WORLD, 4);
    }
    return p;
}

void mem_put(enum mem kind, void *ptr)
{
    if (kind == MEM_MALLOC)
        free(ptr);
    else
        MPI_Free_mem(ptr);
}

const char *mem_name(enum mem kind)
{
    return kind == MEM_MALLOC ? "malloc" : "MPI_Alloc_mem";
}

double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void nap(double seconds)
{
    struct timespec t;
    double end = now() + seconds;

    while ((seconds = end - now()) > 0) {
        t.tv_sec = (time_t)seconds;
        t.tv_nsec = (long)((seconds - (double)t.tv_sec) * 1e9);
        nanosleep(&t, NULL);
    }
}

long status_kib(const char *field)
{
    char line[128];
    long kib = -1;
    FILE *f = fopen("/proc/self/status", "r");

    if (!f)
        return -1;
    while (fgets(line, sizeof line, f))
        if (strncmp(line, field, strlen(field)) == 0 && line[strlen(field)] == ':')
            kib = strtol(line + strlen(field) + 1, NULL, 10);
    fclose(f);
    return kib;
}

double cpu_seconds(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

void compute(double seconds)
{
    volatile uint64_t x = 1;

    for (double end = now() + seconds; now() < end;)
        for (int i = 0; i < 10000; i++)
            x = x * 3 + 1;
}
