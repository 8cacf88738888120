/* SPDX-License-Identifier: BSD-3-Clause */
/* driver.c - one point of one cache: the command line, and the order of things.
 *
 * Proof first (proof.c) that the cache does its work in this very process; then the
 * regions are laid out and cached; then the pattern is measured.
 */
#include "driver.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "proof.h"

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

static double measure(struct bench *b)
{
    bench_lay_out(b);
    bench_choose_uses(b);
    if (b->pattern->kind == MEMORY)
        return bench_memory(b);
    bench_cache_all(b);
    switch (b->pattern->kind) {
    case MISS:
    case MISS_PINNED:
        return bench_misses(b);
    case MUNMAP:
    case MUNMAP_GET:
    case CHURN:
        return bench_munmap(b);
    default:
        return bench_hits(b);
    }
}

/* ---- the command line ---- */

static double parse(const char *option, const char *text, double min, double max)
{
    char *end;
    double value = strtod(text, &end);

    if (end == text || *end || !(value >= min && value <= max))
        bench_stop(DRIVER_USAGE, "--%s takes a number from %g to %g, not \"%s\"", option,
                   min, max, text);
    return value;
}

static const struct pattern *parse_pattern(const char *text)
{
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++)
        if (!strcmp(patterns[i].name, text))
            return &patterns[i];
    bench_stop(DRIVER_USAGE, "there is no pattern \"%s\"", text);
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
        case 't': b->threads = (int)parse("threads", optarg, 1, BENCH_THREADS_MAX); break;
        case 's': b->seconds = parse("seconds", optarg, 0.001, 60); break;
        case 'm': *monitor = optarg; break;
        default: bench_stop(DRIVER_USAGE, "there is no option %s", argv[optind - 1]);
        }
    }
    if (optind < argc)
        bench_stop(DRIVER_USAGE, "there is no argument \"%s\"", argv[optind]);
    if (!b->regions && b->pattern->kind != MUNMAP && b->pattern->kind != CHURN &&
        b->pattern->kind != MISS && b->pattern->kind != MISS_PINNED)
        bench_stop(DRIVER_USAGE, "%s needs a region at least", b->pattern->name);
    if (b->threads > 1 && b->pattern->kind != HITS)
        bench_stop(DRIVER_USAGE, "%s is measured in one thread", b->pattern->name);
    if (!driver.caches && (b->regions || b->pattern->kind != MUNMAP))
        bench_stop(DRIVER_USAGE, "without a cache only munmap is measured, with 0 regions");
}

int main(int argc, char **argv)
{
    static struct bench b = {
        .pattern = patterns, .regions = 1, .threads = 1, .seconds = 0.05,
    };
    struct driver_config config = { .pins = &b.pins, .monitor = "auto" };
    char note[DRIVER_NOTE_MAX];
    int err;

    parse_options(argc, argv, &b, &config.monitor);
    config.regions = b.regions;
    config.threads = b.threads;
    pins_init(&b.pins);
    if (b.pattern->kind == MISS_PINNED && (err = pins_use_ring(&b.pins)) != 0)
        bench_stop(DRIVER_ABSENT, "io_uring does not register buffers here: %s",
                   strerror(-err));
    err = driver.open(&config, &b.cache, note);
    if (err)
        bench_stop(err, "%s", note);
    if (driver.caches && proof(b.cache, &b.pins, note))
        bench_stop(DRIVER_FAILED, "%s", note);
    printf("# %s\n", note);
    printf("%.6g\n", measure(&b));
    fflush(stdout);
    /* What the caches would do at the end is nobody's concern. */
    _exit(0);
}
