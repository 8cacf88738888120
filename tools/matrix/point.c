/* SPDX-License-Identifier: BSD-3-Clause */
/* point.c - one point: two processes, each on its core (tools/pair.c), measure.
 *
 * Start at pw_link_measure(). The side that holds the clock leaves its samples in
 * memory that both share. Side 0 asks (latency) or sends (throughput).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "link.h"
#include "tools/clock.h"
#include "tools/pair.h"

enum {
    SAMPLES_MAX = 4096,
    LATENCY_SAMPLE_NS = 20 * 1000,      /* at least: so the clock costs nothing */
    THROUGHPUT_SAMPLE_NS = 200 * 1000,
    LINE = 64,
};

/* The last word or message says so. */
static const uint64_t LAST = (uint64_t)1 << 63;

struct samples {
    int n;
    double sample[SAMPLES_MAX];
};

struct job {
    double seconds;
    enum pw_measure measure;
    struct samples *samples;
    struct pw_link *link;
};

static void sample_add(struct samples *c, double value)
{
    if (c->n < SAMPLES_MAX)
        c->sample[c->n++] = value;
}

/* How long one takes, so that there is room for all. */
static int64_t sample_ns(double seconds, int64_t least)
{
    int64_t fits = (int64_t)(seconds * 1e9 / (SAMPLES_MAX - 96));

    return fits > least ? fits : least;
}

static int wrong(const struct pw_link *l)
{
    return pw_link_fails(l, -EBADMSG, "it delivers wrong data");
}

/* ---- latency ---- */

/* n round trips; their time in ns, or -errno. */
static int64_t round_trips(struct pw_link *l, uint64_t *word, int64_t n)
{
    int64_t start = pw_clock_ns();
    uint64_t back;
    int err;

    for (int64_t i = 0; i < n; i++) {
        err = l->ops->say(l, ++*word);
        if (!err)
            err = l->ops->hear(l, &back);
        if (err)
            return err;
        if (back != *word)
            return wrong(l);
    }
    return pw_clock_ns() - start;
}

/* A sample is as many round trips as take a while. Finding out how many warms up;
 * it goes on, for what was too few may have looked enough on a busy machine. */
static int latency_ask(struct pw_link *l, struct samples *c, double seconds)
{
    int64_t end = pw_clock_ns() + (int64_t)(seconds * 1e9), took, n = 1;
    int64_t enough = sample_ns(seconds, LATENCY_SAMPLE_NS);
    uint64_t word = 0;
    bool over;

    do {
        took = round_trips(l, &word, n);
        if (took < 0)
            return (int)took;
        over = pw_clock_ns() >= end;
        if (took >= enough || (over && c->n == 0))
            sample_add(c, (double)took / (double)n / 2);
        else
            n *= 2;
    } while (!over);

    word = LAST - 1;
    took = round_trips(l, &word, 1);
    return took < 0 ? (int)took : 0;
}

static int latency_answer(struct pw_link *l)
{
    uint64_t word = 0;
    int err = 0;

    while (!err && !(word & LAST)) {
        err = l->ops->hear(l, &word);
        if (!err)
            err = l->ops->say(l, word);
    }
    return err;
}

/* ---- throughput ---- */

/* Each message is new, a word in every cache line: else the receiver would copy
 * from its own cache after the first one. */
static void stamp(char *message, size_t size, uint64_t word)
{
    for (size_t at = 0; at + sizeof word <= size; at += LINE)
        memcpy(message + at, &word, sizeof word);
}

static uint64_t stamp_at(const char *message, size_t at)
{
    uint64_t word;

    memcpy(&word, message + at, sizeof word);
    return word;
}

static bool stamped(const char *message, size_t size, uint64_t word)
{
    size_t last = (size - sizeof word) / LINE;

    return stamp_at(message, 0) == word && stamp_at(message, last / 2 * LINE) == word &&
           stamp_at(message, last * LINE) == word;
}

static int throughput_send(struct pw_link *l, double seconds)
{
    int64_t end = pw_clock_ns() + (int64_t)(seconds * 1e9);
    uint64_t word, n = 0;
    bool last;
    int err;

    do {
        char *message;

        err = l->ops->next(l, &message);
        if (err)
            return err;
        last = pw_clock_ns() >= end;
        stamp(message, l->size, ++n | (last ? LAST : 0));
        err = l->ops->send(l, message);
        if (err)
            return err;
    } while (!last);

    err = l->ops->hear(l, &word);
    return err ? err : word == n ? 0 : wrong(l);
}

/* The first tenth of the time is for warming up. */
static int throughput_receive(struct pw_link *l, struct samples *c, double seconds)
{
    int64_t start = pw_clock_ns(), now = start;
    int64_t warm = start + (int64_t)(seconds * 1e8);
    int64_t enough = sample_ns(seconds, THROUGHPUT_SAMPLE_NS);
    uint64_t word, n = 0;
    double bytes = 0;

    do {
        int err = l->ops->receive(l);

        if (err)
            return err;
        word = stamp_at(l->buffer, 0);
        if ((word & ~LAST) != ++n || !stamped(l->buffer, l->size, word))
            return wrong(l);
        bytes += (double)l->size;
        now = pw_clock_ns();
        if (now - start >= enough || (word & LAST && c->n == 0)) {
            if (now >= warm || word & LAST)
                sample_add(c, bytes * 1e3 / (double)(now - start));
            start = now;
            bytes = 0;
        }
    } while (!(word & LAST));
    return l->ops->say(l, n);
}

/* ---- the two processes ---- */

static int point_prepare(void *arg, int side, pid_t peer, char *why)
{
    struct pw_link *l = ((struct job *)arg)->link;

    l->side = side;
    l->peer = peer;
    l->why = why;
    l->buffer = aligned_alloc(4096, (l->size + 4095) / 4096 * 4096);
    if (!l->buffer)
        return -ENOMEM;
    memset(l->buffer, 0, l->size);
    return l->ops->enter(l);
}

static int point_measure(void *arg, int side)
{
    struct job *j = arg;

    if (j->measure == PW_M_LATENCY)
        return side == 0 ? latency_ask(j->link, j->samples, j->seconds)
                         : latency_answer(j->link);
    return side == 0 ? throughput_send(j->link, j->seconds)
                     : throughput_receive(j->link, j->samples, j->seconds);
}

int pw_link_measure(const struct pw_link_ops *ops, enum pw_measure measure,
                    const struct pw_pair *pair, const struct pw_matrix_options *o,
                    struct pw_point *out, char why[PW_WHY])
{
    struct job j = { .seconds = o->seconds, .measure = measure };
    struct pw_pair_work work = { .core = { pair->a, pair->b },
                                 .seconds = o->timeout + o->seconds, .arg = &j,
                                 .prepare = point_prepare, .measure = point_measure };
    struct pw_link with = { .ops = ops, .size = o->size, .yields = pair->a == pair->b,
                            .why = why };
    int err;

    *why = '\0';
    j.samples = mmap(NULL, sizeof *j.samples, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (j.samples == MAP_FAILED) {
        snprintf(why, PW_WHY, "there is no shared memory: %s", strerror(errno));
        return -EOPNOTSUPP;
    }
    err = ops->open(&with, &j.link);
    if (err) {
        if (!*why)
            snprintf(why, PW_WHY, "%s", strerror(-err));
        err = -EOPNOTSUPP;
        goto unmap;
    }
    err = pw_pair_run(&work, why);
    if (!err)
        *out = pw_point_of(j.samples->sample, j.samples->n);
    ops->close(j.link);

unmap:
    munmap(j.samples, sizeof *j.samples);
    return err;
}
