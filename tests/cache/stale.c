/* SPDX-License-Identifier: BSD-3-Clause */
/* stale.c - one cell of the staleness matrix, in a process of its own.
 *
 *     stale_cell CASE MONITOR VARIANT     run it, print what came of it
 *     stale_cell --cases                  ID, TRAITS and NAME, a line each
 *     stale_cell --monitors               NAME, and why it does not open here
 *     stale_cell --oracle                 why there is none here (exits 1), or nothing
 *
 * Start at cell(). What came of it is one word, and after a tab what there is to say:
 *
 *     fresh       the right pages, remembered or pinned anew
 *     uncached    the right pages, pinned for this once: nobody vouches for them
 *     refused     nothing is there, and get said so
 *     STALE       a region that does not have the program's pages
 *     cannot      the case cannot be tried here
 *     error       anything else that must not be
 *
 * with a "*" behind the first three when the buffer was remembered before it
 * changed: only then was there something to go stale. Exits 0 for those and
 * "cannot", 1 for the others.
 *
 * Variants: whole, all of the buffer changes; part, pages in its middle do, with
 * the region that covers all; thread, another thread that has got the region before
 * is the first one to ask; untouched, nobody touches the new pages before the get.
 */
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/cache/broken.h"
#include "tests/cache/oracle.h"
#include "tests/cache/stale.h"

static const struct stale_case *const tables[] = {
    stale_map_cases, stale_advice_cases, stale_heap_cases, stale_file_cases,
    stale_process_cases, stale_raw_cases, stale_odd_cases, NULL,
};

enum variant { VARIANT_WHOLE, VARIANT_PART, VARIANT_THREAD, VARIANT_UNTOUCHED };
static const char *const variants[] = { "whole", "part", "thread", "untouched", NULL };

/* A second user of the cache, who does what he is told when he is told. */
struct second {
    pthread_t thread;
    pthread_barrier_t begin, end;
    struct rig *rig;
    int answer;
    bool leave;
};

struct rig {
    struct scene scene;
    const struct stale_case *what;
    struct oracle *oracle;
    struct pw_monitor *monitor;
    struct pw_regcache *cache;
    struct second second;
    bool has_second;
    bool wrong_in_change;       /* the case itself has found it STALE */
    bool unpinnable;            /* the oracle cannot pin what is there */
    char story[512];
};

enum answer { RIGHT, WRONG, REFUSED };      /* or -errno */

static int tell(struct rig *g, int answer, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int tell(struct rig *g, int answer, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(g->story, sizeof g->story, format, list);
    va_end(list);
    return answer;
}

int stale_cannot(struct scene *s, const char *why)
{
    snprintf(s->why, sizeof s->why, "%.150s", why);
    return 1;
}

int stale_load(struct scene *s, const char *file)
{
    char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n < 0)
        return -errno;
    path[n] = 0;
    char *end = strrchr(path, '/') + 1;
    snprintf(end, sizeof path - (size_t)(end - path), ".libs/%s", file);
    s->object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    return s->object ? 0 : -ENOENT;
}

/* ---- is it right? ---- */

static void pattern(unsigned char *out, size_t len, unsigned seed)
{
    uint64_t x = seed * 0x9e3779b97f4a7c15u + 1;
    for (size_t i = 0; i < len; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        out[i] = (unsigned char)(x >> 56);
    }
}

static size_t first_difference(const unsigned char *a, const unsigned char *b, size_t len)
{
    size_t i = 0;
    while (i < len && a[i] == b[i])
        i++;
    return i;
}

/* Frames first, for the program's own reads and writes could bring pages back
 * where none were. */
static int region_right(struct rig *g, const struct pw_region *r)
{
    static unsigned seed;
    unsigned char *addr = g->scene.addr;
    size_t len = g->scene.len, at;
    uintptr_t start = (uintptr_t)addr;

    if (r->start > start || r->end < start + len)
        return tell(g, WRONG, "the region does not cover the buffer");

    struct oracle_frame bad;
    int err = oracle_sees_frames(g->oracle)
                  ? oracle_frames(g->oracle, r, addr, len, &bad) : 0;
    if (err < 0)
        return tell(g, err, "the frames cannot be read");
    if (err > 0)
        return tell(g, WRONG, "page %zu: frame %#llx was pinned, the program has %#llx",
                    (bad.page - start) / STALE_PAGE, (unsigned long long)bad.then,
                    (unsigned long long)bad.now);

    /* Not from the heap: what is freed may share a huge page with the buffer, and to
     * split that one is a change. */
    static unsigned char data[4 << 20];
    if (len > sizeof data)
        return -E2BIG;
    pattern(data, len, ++seed);
    err = oracle_in(g->oracle, r, addr, len, data);
    if (!err && (at = first_difference(data, addr, len)) < len)
        err = tell(g, WRONG, "byte %zu of what was read into the buffer is not there", at);
    if (!err) {
        pattern(addr, len, ++seed);
        err = oracle_out(g->oracle, r, addr, len, data);
        if (!err && (at = first_difference(data, addr, len)) < len)
            err = tell(g, WRONG, "byte %zu of the buffer was not what was written from it", at);
    }
    return err < 0 ? tell(g, err, "I/O through the pin: %s", strerror(-err)) : err;
}

static int use(struct rig *g)
{
    struct pw_region *r;
    int err = pw_regcache_get(g->cache, g->scene.addr, g->scene.len, PW_READ | PW_WRITE, &r);
    if (err == -EFAULT || err == -EAGAIN)
        return tell(g, REFUSED, "get: %s", strerror(-err));
    /* Linux 6.1 makes no fixed buffer of a System V segment, nor of memory of two
     * kinds. No monitor has a part in that. */
    g->unpinnable = err == -EOPNOTSUPP || err == -EINVAL;
    if (err)
        return tell(g, err, "get: %s", strerror(-err));

    int answer = g->what->traits & GONE && g->scene.part
                     ? tell(g, WRONG, "a region of memory that is not there")
                     : region_right(g, r);
    pw_regcache_put(g->cache, r);
    return answer;
}

static int use_for_case(struct scene *s)
{
    struct rig *g = (struct rig *)s;        /* the scene is its first member */
    int answer = use(g);
    g->wrong_in_change |= answer == WRONG;
    return answer == RIGHT ? 0 : answer < 0 ? answer : -EIO;
}

/* ---- the second user ---- */

static void *second_main(void *arg)
{
    struct second *t = arg;
    for (;;) {
        pthread_barrier_wait(&t->begin);
        if (t->leave)
            return NULL;
        t->answer = use(t->rig);
        pthread_barrier_wait(&t->end);
    }
}

static int second_start(struct rig *g)
{
    struct second *t = &g->second;
    t->rig = g;
    pthread_barrier_init(&t->begin, NULL, 2);
    pthread_barrier_init(&t->end, NULL, 2);
    int err = pthread_create(&t->thread, NULL, second_main, t);
    g->has_second = !err;
    return -err;
}

static int second_use(struct rig *g)
{
    pthread_barrier_wait(&g->second.begin);
    pthread_barrier_wait(&g->second.end);
    return g->second.answer;
}

static void second_stop(struct rig *g)
{
    if (!g->has_second)
        return;
    g->second.leave = true;
    pthread_barrier_wait(&g->second.begin);
    pthread_join(g->second.thread, NULL);
}

/* ---- the cell ---- */

static int rig_open(struct rig *g, const char *monitor)
{
    struct pw_monitor_report report;
    int err = oracle_open(64, &g->oracle);
    if (err)
        return tell(g, err, "no oracle: %s", strerror(-err));
    err = broken_monitor_open(monitor, &g->monitor, &report);
    if (err)
        return tell(g, err, "%s: %.400s", monitor, report.why_not);
    struct pw_regcache_config config = {
        .pin = oracle_ops(g->oracle), .pin_ctx = g->oracle,
        .monitor = g->monitor, .max_regions = 64,
    };
    err = pw_regcache_open(&config, &g->cache);
    return err ? tell(g, err, "no cache: %s", strerror(-err)) : 0;
}

static void rig_close(struct rig *g)
{
    pw_regcache_close(g->cache);
    broken_monitor_close(g->monitor);
    oracle_close(g->oracle);
}

static void choose_part(struct rig *g, enum variant v)
{
    struct scene *s = &g->scene;
    bool middle = v == VARIANT_PART || (v == VARIANT_UNTOUCHED && !(g->what->traits & WHOLE));
    size_t quarter = s->len / 4 & -(size_t)STALE_PAGE;
    s->part = s->addr + (middle ? quarter : 0);
    s->part_len = middle ? quarter : s->len;
}

/* Get it twice, each user: is it remembered the second time? */
static int get_twice(struct rig *g, bool *remembered)
{
    struct pw_regcache_stats first, then;
    int answer = use(g);
    if (!answer && g->has_second)
        answer = second_use(g);
    pw_regcache_stats(g->cache, &first);
    if (!answer)
        answer = use(g);
    if (!answer && g->has_second)
        answer = second_use(g);
    pw_regcache_stats(g->cache, &then);
    *remembered = then.hits > first.hits;
    return answer;
}

/* The runner maps and unmaps memory of its own, so a get may meet a change that is
 * just being told by a thread without a core: then that get remembers nothing. */
static int before(struct rig *g, bool *remembered)
{
    int answer = 0;
    pattern(g->scene.addr, g->scene.len, 99);
    for (int tries = 0; tries < 3 && !answer && !*remembered; tries++)
        answer = get_twice(g, remembered);
    return answer;
}

static int after(struct rig *g, enum variant v)
{
    int answer = v == VARIANT_THREAD ? second_use(g) : use(g);
    if (answer == RIGHT && g->has_second)
        answer = second_use(g);
    return answer == RIGHT ? use(g) : answer;
}

static int say(const char *word, bool remembered, const char *story)
{
    bool good = !strcmp(word, "fresh") || !strcmp(word, "uncached") || !strcmp(word, "refused");
    printf("%s%s\t%s\n", word, good && remembered ? "*" : "", story);
    fflush(stdout);
    return good || !strcmp(word, "cannot") ? 0 : 1;
}

static int make(struct rig *g)
{
    int err = g->what->make(&g->scene);
    return err < 0 ? tell(g, err, "making the buffer: %s", strerror(-err)) : err;
}

static int cell(struct rig *g, enum variant v, const char *monitor)
{
    struct scene *s = &g->scene;
    bool remembered = false;

    int err = g->what->traits & FIRST ? make(g) : 0;
    if (!err) {
        err = rig_open(g, monitor);
        /* A monitor may refuse to be where it could not see. */
        if ((err == -ENODEV || err == -EIO) && g->what->traits & FIRST)
            err = stale_cannot(s, g->story);
    }
    if (!err && v == VARIANT_THREAD)
        err = second_start(g);
    if (!err && !(g->what->traits & FIRST))
        err = make(g);
    if (err > 0)
        return say("cannot", false, s->why);
    if (err)
        return say("error", false, g->story);

    int answer = before(g, &remembered);
    if (g->unpinnable)
        return say("cannot", false, g->story);
    if (answer)
        return say(answer == WRONG ? "STALE" : "error", false, g->story);

    choose_part(g, v);
    err = g->what->change(s);
    if (err > 0)
        return say("cannot", false, s->why);
    if (g->wrong_in_change)
        return say("STALE", remembered, g->story);
    if (err) {
        tell(g, err, "changing it: %s", strerror(-err));
        return say("error", false, g->story);
    }
    if (!(g->what->traits & GONE) && v != VARIANT_UNTOUCHED)
        pattern(s->addr, s->len, 77);

    struct pw_regcache_stats was, is;
    pw_regcache_stats(g->cache, &was);
    if (s->in_child) {      /* where counting starts anew with the first get */
        answer = use(g);
        pw_regcache_stats(g->cache, &was);
    }
    if (!answer)
        answer = after(g, v);
    pw_regcache_stats(g->cache, &is);
    if (g->unpinnable)
        return say("cannot", false, g->story);
    if (answer == WRONG)
        return say("STALE", remembered, g->story);
    if (answer < 0 || (answer == REFUSED) != !!(g->what->traits & GONE))
        return say("error", remembered, g->story);
    if (answer == REFUSED)
        return say("refused", remembered, g->story);
    return say(is.uncached > was.uncached ? "uncached" : "fresh", remembered, "");
}

/* ---- the command line ---- */

static const struct stale_case *find_case(const char *id)
{
    for (int t = 0; tables[t]; t++)
        for (const struct stale_case *c = tables[t]; c->id; c++)
            if (!strcmp(c->id, id))
                return c;
    return NULL;
}

static void list_cases(void)
{
    static const char *const names[] = { "moves", "gone", "whole", "forks", "plain",
                                         "first" };
    for (int t = 0; tables[t]; t++)
        for (const struct stale_case *c = tables[t]; c->id; c++) {
            printf("%s\t", c->id);
            for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++)
                if (c->traits & 1u << i)
                    printf(" %s", names[i]);
            printf(" \t%s\n", c->name);
        }
}

static int try_oracle(void)
{
    struct oracle *o;
    int err = oracle_open(64, &o);
    if (err)
        printf("nothing to pin memory with: %s\n", strerror(-err));
    else
        oracle_close(o);
    return !!err;
}

static void list_monitors(void)
{
    for (int i = 0; pw_monitors[i]; i++) {
        fflush(stdout);
        struct pw_monitor_report report;
        struct pw_monitor *m;
        int err = pw_monitor_open(pw_monitors[i]->name, &m, &report);
        printf("%s\t%s\n", pw_monitors[i]->name, err ? report.why_not : "");
        if (!err)
            pw_monitor_close(m);
    }
}

int main(int argc, char **argv)
{
    static struct rig g;
    int v = 0;
    if (argc == 2 && !strcmp(argv[1], "--cases"))
        return list_cases(), 0;
    if (argc == 2 && !strcmp(argv[1], "--monitors"))
        return list_monitors(), 0;
    if (argc == 2 && !strcmp(argv[1], "--oracle"))
        return try_oracle();
    if (argc == 4) {
        g.what = find_case(argv[1]);
        while (variants[v] && strcmp(variants[v], argv[3]))
            v++;
    }
    if (!g.what || !variants[v]) {
        fprintf(stderr, "usage: %s CASE MONITOR VARIANT | --cases | --monitors | --oracle\n", argv[0]);
        return 2;
    }
    g.scene.use = use_for_case;
    g.scene.fd = -1;
    if ((v == VARIANT_PART && g.what->traits & WHOLE) ||
        (v == VARIANT_THREAD && g.what->traits & FORKS))
        return say("cannot", false, "not in this variant");

    int status = cell(&g, (enum variant)v, argv[2]);
    if (status == 0 && g.cache) {
        second_stop(&g);
        rig_close(&g);
    }
    return status;
}
