/* SPDX-License-Identifier: BSD-3-Clause */
/* copies.c - one core copies; where the lines of the source are makes the price.
 *
 * own: this core has just written the source. other: the other core has. none: nobody
 * has it in a cache. The destination is the same all the time, in this core's caches
 * as far as it fits.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#ifdef __x86_64__
#include <emmintrin.h>
#endif

#include "calibrate.h"
#include "pinwheel/clock.h"
#include "pinwheel/copy.h"

enum { LEAST = 3, BUDGET_NS = 8 * 1000 * 1000 };

enum where { OWN, OTHER, NONE, WHERES };

struct shared {
    uint32_t asked, done;       /* rounds; on lines of their own */
    char pad[120];
    size_t len;
    bool over;
};

struct copies {
    struct shared *s;
    unsigned char *from, *to;
};

static void dirty(struct copies *c, size_t len, uint32_t round)
{
    memset(c->from, (int)(round & 255), len);
}

static void write_when_asked(void *arg)
{
    struct copies *c = arg;

    for (uint32_t round = 1;; round++) {
        while (__atomic_load_n(&c->s->asked, __ATOMIC_ACQUIRE) != round)
            ;
        if (c->s->over)
            return;
        dirty(c, c->s->len, round);
        __atomic_store_n(&c->s->done, round, __ATOMIC_RELEASE);
    }
}

static void ask(struct copies *c, size_t len, bool over)
{
    uint32_t round = c->s->asked + 1;

    c->s->len = len;
    c->s->over = over;
    __atomic_store_n(&c->s->asked, round, __ATOMIC_RELEASE);
    while (!over && __atomic_load_n(&c->s->done, __ATOMIC_ACQUIRE) != round)
        ;
}

static void flush(const unsigned char *p, size_t len)
{
#ifdef __x86_64__
    for (size_t i = 0; i < len; i += 64)
        _mm_clflush(p + i);
    _mm_mfence();
#else
    (void)p;
    (void)len;
#endif
}

static void prepare(struct copies *c, enum where where, size_t len)
{
    static uint32_t round;

    if (where == OTHER) {
        ask(c, len, false);
        return;
    }
    dirty(c, len, ++round);
    if (where == NONE)
        flush(c->from, len);
}

static uint64_t one(struct copies *c, enum where where, size_t len, bool past)
{
    struct pw_samples s = { .n = 0 };

    while (!pw_samples_enough(&s, LEAST, BUDGET_NS)) {
        uint64_t start;

        prepare(c, where, len);
        start = pw_now_ns();
        if (past)
            pw_copy_past_cache(c->to, c->from, len);
        else
            pw_copy(c->to, c->from, len);
        pw_samples_add(&s, pw_now_ns() - start);
    }
    return pw_samples_typical(&s);
}

static void measure(struct copies *c, struct pw_calibration *out)
{
    struct pw_cost_curve *curves[WHERES][2] = {
        [OWN] = { &out->copy_own, &out->past_own },
        [OTHER] = { &out->copy_other, &out->past_other },
        [NONE] = { &out->copy_none, &out->past_none },
    };

    for (int i = 0; i < PW_COST_POINTS; i++)
        for (int w = 0; w < WHERES; w++)
            for (int past = 0; past < 2; past++)
                curves[w][past]->ns[i] = one(c, (enum where)w, pw_cost_len(i), past);
}

int calib_copies(int here, int there, struct pw_calibration *out)
{
    size_t len = pw_cost_len(PW_COST_POINTS - 1), all = 2 * len + 4096;
    unsigned char *p = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                            -1, 0);
    struct copies c = { (struct shared *)(void *)p, p + 4096, p + 4096 + len };
    bool ended;
    pid_t pid;

    if (p == MAP_FAILED)
        return calib_fail(-errno, "%zu MiB of shared memory: %s", all >> 20,
                          strerror(errno));
    madvise(p, all, MADV_HUGEPAGE);
    memset(p, 0, all);
    if (!calib_bind(here))
        return calib_fail(-errno, "CPU %d: %s", here, strerror(errno));
    pid = calib_partner(there, write_when_asked, &c);
    if (pid < 0)
        return calib_fail((int)pid, "fork: %s", strerror((int)-pid));
    measure(&c, out);
    ask(&c, 0, true);
    ended = calib_partner_end(pid);
    munmap(p, all);
    return ended ? 0 : calib_fail(-EIO, "the process on CPU %d did not end well", there);
}
