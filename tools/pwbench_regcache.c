/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_regcache.c - registration caches against each other, fairly.
 *
 * Start at pw_regcache_run(). A point is a pattern of use, a number of regions and
 * of threads. For each point come the rounds; in each, every cache is measured once,
 * and another one goes first, so a machine that is busy for a while is busy for all.
 * Each measurement is a process of its own (tools/regcache/driver.h): no cache runs
 * beside another's hooks, and this process has none at all.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pwbench_launch.h"
#include "pwbench_table.h"

enum { OURS, UCX, GRDMA, PLAIN, CACHES };
enum { TEXT_MAX = 320, PATH_LEN = 4096, ABSENT = 3 };

static const char *const cache_names[CACHES] = { "pinwheel", "ucx", "grdma", "plain" };

struct point {
    const char *pattern;
    int regions, threads;
};

static const struct point points[] = {
    { "same", 1, 1 }, { "same", 1, 2 }, { "same", 10000, 1 },
    { "random", 100, 1 }, { "random", 10000, 1 }, { "random", 10000, 2 },
    { "mixed", 10000, 1 }, { "inside", 16, 1 },
    { "munmap", 0, 1 }, { "munmap", 10000, 1 },
    { "munmap-get", 1, 1 }, { "munmap-get", 10000, 1 },
    { "churn", 0, 1 }, { "churn", 10000, 1 },
    { "miss", 0, 1 }, { "miss-pinned", 0, 1 },
    { "memory", 10000, 1 },
};
enum { POINTS = sizeof points / sizeof *points };

/* What one point costs over another, for people. */
static const struct {
    const char *what;
    struct point more, less;
} quotients[] = {
    { "2 threads over 1, same", { "same", 1, 2 }, { "same", 1, 1 } },
    { "2 threads over 1, random", { "random", 10000, 2 }, { "random", 10000, 1 } },
    { "munmap, 10000 cached over 0", { "munmap", 10000, 1 }, { "munmap", 0, 1 } },
};

struct bench {
    const struct pw_regcache_options *o;
    char drivers[PATH_LEN];
    bool out[CACHES];               /* it can measure nothing, or not be trusted to end */
    bool ours_failed;
    char note[CACHES][TEXT_MAX];    /* what it is */
    char reason[CACHES][TEXT_MAX];  /* the last one told */
    char warning[TEXT_MAX];         /* the first */
    double *samples;                /* [cache][round], of one point */
    double value[POINTS][CACHES];   /* NAN: not measured */
};

/* ---- where the programs are ---- */

static bool has_drivers(const char *dir)
{
    char probe[PATH_LEN + 32];

    snprintf(probe, sizeof probe, "%s/regcache-%s", dir, cache_names[PLAIN]);
    return access(probe, X_OK) == 0;
}

/* In a build tree this program is tools/pwbench, or tools/.libs/pwbench under
 * libtool, and the others are in tools/regcache. */
static void find_drivers(struct bench *b)
{
    char self[PATH_LEN - 16], *slash;
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);

    if (b->o->drivers) {
        snprintf(b->drivers, sizeof b->drivers, "%s", b->o->drivers);
        return;
    }
    self[len < 0 ? 0 : len] = '\0';
    for (int up = 0; up < 2 && (slash = strrchr(self, '/')) != NULL; up++) {
        *slash = '\0';
        snprintf(b->drivers, sizeof b->drivers, "%s/regcache", self);
        if (has_drivers(b->drivers))
            return;
    }
    snprintf(b->drivers, sizeof b->drivers, "%s", PW_DRIVERS);
}

/* ---- one measurement ---- */

static void line_copy(char out[TEXT_MAX], const char *text)
{
    snprintf(out, TEXT_MAX, "%.*s", (int)strcspn(text, "\n"), text);
}

/* A line "# NOTE", then one number. */
static bool parse_output(const char *out, char note[TEXT_MAX], double *value)
{
    const char *number = strchr(out, '\n');
    char *end;

    if (strncmp(out, "# ", 2) || !number)
        return false;
    *value = strtod(number, &end);
    if (end == number || strcmp(end, "\n") || !isfinite(*value) || *value <= 0)
        return false;
    line_copy(note, out + 2);
    return true;
}

/* What a program says is "NAME: REASON"; the dynamic linker puts its path first. */
static void said(const char *text, int cache, char reason[TEXT_MAX])
{
    size_t len = strlen(cache_names[cache]);

    if (!strncmp(text, cache_names[cache], len) && !strncmp(text + len, ": ", 2))
        text += len + 2;
    line_copy(reason, text);
}

static void reason_from(const struct pw_launch_result *r, int cache, double timeout,
                        char reason[TEXT_MAX])
{
    if (r->timed_out)
        snprintf(reason, TEXT_MAX, "it did not finish in %g seconds and was ended",
                 timeout);
    else if (r->exit_code == 0)
        snprintf(reason, TEXT_MAX, "its output is not a number above 0");
    else if (!*r->err)
        snprintf(reason, TEXT_MAX, "it ended with exit code %d and no message",
                 r->exit_code);
    else
        said(r->err, cache, reason);
}

/* 0 and *value; ABSENT when there is nothing to measure here, 1 when it went wrong, and
 * reason says why; -EINTR. */
static int run_once(struct bench *b, int cache, const struct point *p, double *value,
                    char reason[TEXT_MAX])
{
    char program[PATH_LEN + 32], regions[16], threads[16], seconds[32];
    const char *argv[] = {
        program, "--pattern", p->pattern, "--regions", regions, "--threads", threads,
        "--seconds", seconds, "--monitor", b->o->monitor, NULL,
    };
    struct pw_launch_result r;
    int err;

    snprintf(program, sizeof program, "%s/regcache-%s", b->drivers, cache_names[cache]);
    snprintf(regions, sizeof regions, "%d", p->regions);
    snprintf(threads, sizeof threads, "%d", p->threads);
    snprintf(seconds, sizeof seconds, "%.3f", b->o->seconds);
    err = pw_launch(argv, NULL, b->o->timeout, &r);
    if (err == -EINTR)
        return err;
    if (err) {
        snprintf(reason, TEXT_MAX, "%.200s could not be started: %s", program,
                 strerror(-err));
        b->out[cache] = true;
        return 1;
    }
    err = r.exit_code == ABSENT ? ABSENT : 1;
    if (!r.timed_out && r.exit_code == 0 && parse_output(r.out, b->note[cache], value)) {
        err = 0;
        if (*r.err && !b->warning[0])
            said(r.err, cache, b->warning);
    } else {
        reason_from(&r, cache, b->o->timeout, reason);
    }
    if (r.timed_out)
        b->out[cache] = true;
    pw_launch_free(&r);
    return err;
}

/* ---- a point ---- */

/* Without a cache there is only what memory costs by itself. */
static bool takes_part(const struct bench *b, int cache, const struct point *p)
{
    return !b->out[cache] && (cache != PLAIN || (p->regions == 0 &&
                                                 !strcmp(p->pattern, "munmap")));
}

static void tell(struct bench *b, int cache, const struct point *p, const char *reason)
{
    if (!strcmp(b->reason[cache], reason))
        return;
    snprintf(b->reason[cache], TEXT_MAX, "%s", reason);
    fflush(stdout);
    fprintf(stderr, "pwbench: %s is not measured (%s, regions %d, threads %d): %s\n",
            cache_names[cache], p->pattern, p->regions, p->threads, reason);
}

/* Medians to value. False to stop. */
static bool run_point(struct bench *b, const struct point *p, double value[CACHES])
{
    bool here[CACHES];
    char reason[TEXT_MAX];

    for (int i = 0; i < CACHES; i++)
        here[i] = takes_part(b, i, p);
    for (int round = 0; round < b->o->rounds; round++) {
        if (isatty(STDERR_FILENO))
            fprintf(stderr, "\r%s of %d: round %d of %d   \r", p->pattern, p->regions,
                    round + 1, b->o->rounds);
        for (int k = 0; k < CACHES; k++) {
            int i = (k + round) % CACHES, err;

            if (!here[i])
                continue;
            err = run_once(b, i, p, &b->samples[i * b->o->rounds + round], reason);
            if (err == -EINTR)
                return false;
            if (err) {
                here[i] = false;
                tell(b, i, p, reason);
                b->ours_failed = b->ours_failed || (i == OURS && err != ABSENT);
            }
        }
    }
    for (int i = 0; i < CACHES; i++)
        value[i] = here[i] ? pw_median(b->samples + i * b->o->rounds, b->o->rounds) : NAN;
    return true;
}

/* ---- what is printed ---- */

static void print_value(double value, int decimals)
{
    if (isnan(value))
        printf(" %9s", "-");
    else
        printf(" %9.*f", decimals, value);
}

static void print_heading(const struct bench *b)
{
    if (b->o->csv) {
        puts("cache,regions,pattern,threads,ns");
        return;
    }
    printf("%-11s %7s %7s %-5s", "pattern", "regions", "threads", "unit");
    for (int i = 0; i < CACHES; i++)
        printf(" %9s", cache_names[i]);
    printf(" %7s\n", "ratio");
}

static void print_csv(const struct point *p, const double value[CACHES])
{
    for (int i = 0; i < CACHES; i++) {
        if (i == PLAIN && isnan(value[i]))
            continue;
        printf("%s,%d,%s,%d,", cache_names[i], p->regions, p->pattern, p->threads);
        if (!isnan(value[i]))
            printf("%.6g", value[i]);
        putchar('\n');
    }
}

static void print_point(const struct bench *b, const struct point *p,
                        const double value[CACHES])
{
    double ratio = value[OURS] / value[UCX];

    if (b->o->csv) {
        print_csv(p, value);
    } else {
        printf("%-11s %7d %7d %-5s", p->pattern, p->regions, p->threads,
               strcmp(p->pattern, "memory") ? "ns" : "bytes");
        for (int i = 0; i < CACHES; i++)
            print_value(value[i], value[i] < 100 ? 2 : 0);
        if (isnan(ratio))
            printf(" %7s\n", "-");
        else
            printf(" %7.*f\n", ratio < 1 ? 3 : 2, ratio);
    }
    fflush(stdout);
}

static const double *value_at(const struct bench *b, const struct point *p)
{
    for (int i = 0; i < POINTS; i++)
        if (!strcmp(points[i].pattern, p->pattern) && points[i].regions == p->regions &&
            points[i].threads == p->threads)
            return b->value[i];
    abort();    /* the two tables above disagree */
}

static void print_summary(const struct bench *b)
{
    for (size_t q = 0; q < sizeof quotients / sizeof *quotients; q++) {
        const double *more = value_at(b, &quotients[q].more);
        const double *less = value_at(b, &quotients[q].less);

        printf("%-33s", quotients[q].what);
        for (int i = 0; i < PLAIN; i++)
            print_value(more[i] / less[i], 2);
        putchar('\n');
    }
    puts("ratio: pinwheel's cost over UCX's; below 1, pinwheel costs less.");
    for (int i = 0; i < CACHES; i++)
        if (b->note[i][0])
            printf("%s: %s\n", cache_names[i], b->note[i]);
}

/* ---- all of it ---- */

static bool run_all(struct bench *b)
{
    print_heading(b);
    for (int i = 0; i < POINTS; i++) {
        if (!run_point(b, &points[i], b->value[i]))
            return false;
        print_point(b, &points[i], b->value[i]);
    }
    if (!b->o->csv)
        print_summary(b);
    if (b->warning[0]) {
        fflush(stdout);
        fprintf(stderr, "pwbench: %s\n", b->warning);
    }
    return true;
}

static bool ours_measured(const struct bench *b)
{
    for (int i = 0; i < POINTS; i++)
        if (!isnan(b->value[i][OURS]))
            return !b->ours_failed;
    return false;
}

int pw_regcache_run(const struct pw_regcache_options *o)
{
    struct bench b = { .o = o };
    bool done;

    b.samples = calloc(CACHES * (size_t)o->rounds, sizeof *b.samples);
    if (!b.samples) {
        fprintf(stderr, "pwbench: no memory for %d rounds\n", o->rounds);
        return PW_BENCH_FAILED;
    }
    find_drivers(&b);
    pw_launch_prepare();
    done = run_all(&b);
    free(b.samples);
    if (!done)
        pw_launch_end();
    if (fflush(stdout) || ferror(stdout)) {
        fprintf(stderr, "pwbench: the results could not all be written\n");
        return PW_BENCH_FAILED;
    }
    return ours_measured(&b) ? 0 : PW_BENCH_FAILED;
}
