/* SPDX-License-Identifier: BSD-3-Clause */
/* pwinfo_costs.c - what moving bytes costs here, and which way messages go for it. */
#include "pwinfo.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "btl/core/costs_file.h"
#include "btl/limits.h"
#include "json.h"

struct source {
    char path[PW_CALIB_PATH], why[PW_CALIB_WHY];
    bool measured;
    struct pw_calibration c;
};

/* NULL: the host's own. What cannot be read leaves the built-in ones. */
static struct source *source_open(const char *path)
{
    struct source *s = calloc(1, sizeof *s);
    int err = 0;

    if (!s)
        return NULL;
    if (path)
        snprintf(s->path, sizeof s->path, "%s", path);
    else
        err = pw_calib_path(s->path);
    if (err)
        snprintf(s->why, sizeof s->why, "this user has no home directory");
    else
        err = pw_calib_read(s->path, &s->c, s->why);
    s->measured = !err;
    if (err) {
        memset(&s->c, 0, sizeof s->c);
        s->c.costs = pw_costs_default;
    }
    if (!s->c.chunk)
        s->c.chunk = PW_CHUNK;
    return s;
}

/* A job measures only what decides its way, and only up to 1 MiB. */
static bool short_version(const struct source *s)
{
    return s->measured && !strcmp(s->c.by, PW_CALIB_BY_JOB);
}

static const char *size_text(size_t len, char room[32])
{
    if (len >= 1 << 20 && len % (1 << 20) == 0)
        snprintf(room, 32, "%zu MiB", len >> 20);
    else if (len >= 1024 && len % 1024 == 0)
        snprintf(room, 32, "%zu KiB", len >> 10);
    else
        snprintf(room, 32, "%zu", len);
    return room;
}

/* ---- text ---- */

static void us(FILE *to, uint64_t ns)
{
    if (ns)
        fprintf(to, " %10.2f", (double)ns / 1000);
    else
        fprintf(to, " %10s", "-");
}

struct column {
    const char *name;
    const struct pw_cost_curve *curve;
};

static void table(FILE *to, const char *title, const struct column *columns, int n)
{
    char text[32];

    fprintf(to, "%s\n  %8s", title, "");
    for (int i = 0; i < n; i++)
        fprintf(to, " %10s", columns[i].name);
    fputc('\n', to);
    for (int p = 0; p < PW_COST_POINTS; p++) {
        fprintf(to, "  %8s", size_text(pw_cost_len(p), text));
        for (int i = 0; i < n; i++)
            us(to, columns[i].curve->ns[p]);
        fputc('\n', to);
    }
}

static bool kernel_first(const struct pw_costs *c, size_t len)
{
    return pw_cost_ns(&c->kernel, len) < pw_cost_ns(&c->stream, len);
}

/* From `from` on, up to where the choice changes at a power of two. */
static void bulk_ways(FILE *to, const struct pw_costs *c)
{
    size_t from = PW_RGET_MIN, len = (size_t)128 << 10;
    char text[32];

    while (from) {
        bool kernel = kernel_first(c, from);

        while (len <= (size_t)1 << 30 && kernel_first(c, len) == kernel)
            len *= 2;
        fprintf(to, "  from %-10s %s\n", size_text(from, text), kernel
                ? "one copy by the kernel (process_vm_readv)"
                : "through the queue, both ranks copying");
        from = len <= (size_t)1 << 30 ? len : 0;
    }
}

static void ways(FILE *to, const struct pw_costs *c)
{
    char text[32];

    fprintf(to, "which way a message goes (parameters at their defaults)\n"
            "  up to %-9s sent at once, one copy on each side\n",
            size_text(PW_EAGER_LIMIT, text));
    fputs(" the sender's buffer from MPI_Alloc_mem or libpinwheel-malloc\n"
          "  above it        one copy by the receiver\n"
          " only the receiver's buffer from there\n", to);
    fprintf(to, "  from %-10s one copy by the sender\n", size_text(PW_RGET_MIN, text));
    fputs(" both buffers of malloc\n", to);
    fprintf(to, "  up to %-9s in fragments, one copy on each side\n",
            size_text(PW_RGET_MIN - 1, text));
    bulk_ways(to, c);
    fprintf(to, " with more ranks than cores\n  up to %-9s sent at once; ",
            size_text(PW_EAGER_LIMIT_CROWDED, text));
    fputs("above it fetched, in one transfer; by the kernel where\n"
          "                  waiting for the other rank's core would take longer\n", to);
    fputs("  A job begins with these and goes on with what its own transfers take\n"
          "  (btl_pinwheel_bulk fixes it). A sender that computes and does not answer:\n"
          "  by the kernel.\n", to);
}

static void rings(FILE *to, const struct pw_calibration *c)
{
    char text[32];

    fprintf(to, "1 MiB through the queue, us, by its pieces\n  %8s", "queue");
    for (int k = 0; k < PW_CALIB_CHUNKS; k++)
        fprintf(to, " %10s", size_text(pw_calib_chunks[k], text));
    fputc('\n', to);
    for (int q = 0; q < PW_CALIB_QUEUES; q++) {
        fprintf(to, "  %8s", size_text(pw_calib_queues[q], text));
        for (int k = 0; k < PW_CALIB_CHUNKS; k++)
            us(to, c->ring[q][k]);
        fputc('\n', to);
    }
    fprintf(to, "  pieces of %s are used (btl_pinwheel_chunk)\n",
            size_text(c->chunk, text));
}

static void small(FILE *to, const struct pw_calibration *c)
{
    uint64_t least = UINT64_MAX, most = 0;

    for (uint64_t i = 0; i < c->n_pairs; i++) {
        least = c->pairs[i].ns < least ? c->pairs[i].ns : least;
        most = c->pairs[i].ns > most ? c->pairs[i].ns : most;
    }
    fputs("single things, ns\n", to);
    if (c->n_pairs)
        fprintf(to, "  %-52s %" PRIu64 " to %" PRIu64 ", %" PRIu64 " pairs\n",
                "a cache line from one CPU to another", least, most, c->n_pairs);
    fprintf(to, "  %-52s %" PRIu64 "\n  %-52s %" PRIu64 "\n  %-52s %" PRIu64 "\n",
            "a sleeping process is woken (futex)", c->wake,
            "2 MiB of shared memory are mapped", c->map,
            "and each page of them is touched for the first time", c->touch);
}

static void print_text(const struct source *s, FILE *to)
{
    const struct pw_calibration *c = &s->c;
    const struct column transfers[] = {
        { "direct", &c->costs.direct }, { "push", &c->costs.push },
        { "stream", &c->costs.stream }, { "kernel", &c->costs.kernel },
    };
    const struct column copies[] = {
        { "own", &c->copy_own }, { "other", &c->copy_other }, { "none", &c->copy_none },
        { "past own", &c->past_own }, { "past other", &c->past_other },
        { "past none", &c->past_none },
    };

    if (s->measured)
        fprintf(to, "costs measured %s by %s on %s, %s, Linux %s\n  in %s\n", c->taken,
                c->by, c->host, c->cpu, c->kernel, s->path);
    else
        fprintf(to, "built-in costs: nothing measured on this host is used\n  %s: %s\n"
                "  pwbench calibrate measures this host in some seconds\n",
                *s->path ? s->path : "no file", s->why);
    if (short_version(s))
        fputs("  up to 1 MiB; beyond it as the built-in costs rise. pwbench calibrate "
              "measures all in\n  some seconds\n", to);
    table(to, "one transfer between two ranks, us", transfers, 4);
    if (s->measured && !short_version(s)) {
        rings(to, c);
        table(to, "one copy, us, by which cache holds the source; past: by stores past the "
              "cache", copies, 6);
        small(to, c);
    }
    ways(to, &c->costs);
}

/* ---- JSON ---- */

static void json_curve(struct pw_json *j, const char *key,
                       const struct pw_cost_curve *curve)
{
    pw_json_open(j, key, '[');
    for (int i = 0; i < PW_COST_POINTS; i++) {
        if (curve->ns[i])
            pw_json_integer(j, NULL, (long long)curve->ns[i]);
        else
            pw_json_null(j, NULL);
    }
    pw_json_close(j, ']');
}

static void json_measured(struct pw_json *j, const struct pw_calibration *c)
{
    pw_json_string(j, "taken", c->taken);
    pw_json_string(j, "by", c->by);
    pw_json_string(j, "host", c->host);
    pw_json_string(j, "cpu", c->cpu);
    pw_json_string(j, "kernel_release", c->kernel);
    json_curve(j, "copy_own_ns", &c->copy_own);
    json_curve(j, "copy_other_ns", &c->copy_other);
    json_curve(j, "copy_none_ns", &c->copy_none);
    json_curve(j, "past_own_ns", &c->past_own);
    json_curve(j, "past_other_ns", &c->past_other);
    json_curve(j, "past_none_ns", &c->past_none);
    pw_json_open(j, "ring_1m_ns", '[');
    for (int q = 0; q < PW_CALIB_QUEUES; q++)
        for (int k = 0; k < PW_CALIB_CHUNKS; k++) {
            pw_json_open(j, NULL, '{');
            pw_json_integer(j, "queue", (long long)pw_calib_queues[q]);
            pw_json_integer(j, "chunk", (long long)pw_calib_chunks[k]);
            pw_json_integer(j, "ns", (long long)c->ring[q][k]);
            pw_json_close(j, '}');
        }
    pw_json_close(j, ']');
    pw_json_open(j, "lines", '[');
    for (uint64_t i = 0; i < c->n_pairs; i++) {
        pw_json_open(j, NULL, '{');
        pw_json_integer(j, "a", (long long)c->pairs[i].a);
        pw_json_integer(j, "b", (long long)c->pairs[i].b);
        pw_json_integer(j, "ns", (long long)c->pairs[i].ns);
        pw_json_close(j, '}');
    }
    pw_json_close(j, ']');
    pw_json_integer(j, "wake_ns", (long long)c->wake);
    pw_json_integer(j, "map_2m_ns", (long long)c->map);
    pw_json_integer(j, "touch_2m_ns", (long long)c->touch);
}

static void print_json(const struct source *s, FILE *to)
{
    struct pw_json j = { .to = to };

    pw_json_open(&j, NULL, '{');
    pw_json_bool(&j, "measured", s->measured);
    pw_json_string(&j, "file", s->path);
    if (!s->measured)
        pw_json_string(&j, "why", s->why);
    pw_json_open(&j, "sizes", '[');
    for (int i = 0; i < PW_COST_POINTS; i++)
        pw_json_integer(&j, NULL, (long long)pw_cost_len(i));
    pw_json_close(&j, ']');
    json_curve(&j, "direct_ns", &s->c.costs.direct);
    json_curve(&j, "push_ns", &s->c.costs.push);
    json_curve(&j, "stream_ns", &s->c.costs.stream);
    json_curve(&j, "kernel_ns", &s->c.costs.kernel);
    pw_json_integer(&j, "chunk", (long long)s->c.chunk);
    if (s->measured)
        json_measured(&j, &s->c);
    pw_json_close(&j, '}');
}

int pw_costs_print(const char *path, bool json, FILE *to)
{
    struct source *s = source_open(path);
    int status = 0;

    if (!s) {
        fprintf(stderr, "pwinfo: %s\n", strerror(ENOMEM));
        return 1;
    }
    if (path && !s->measured) {
        fprintf(stderr, "pwinfo: %s: %s\n", path, s->why);
        status = 1;
    } else if (json) {
        print_json(s, to);
    } else {
        print_text(s, to);
    }
    free(s);
    return status;
}
