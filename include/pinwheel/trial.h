/* SPDX-License-Identifier: BSD-3-Clause */
/* trial.h - one of two ways of doing a transfer, found out from what transfers took.
 *
 * For lengths of about one size each (classes) it is kept what transfers took by either
 * way. The way not in use is tried when it may be the cheaper one: by at most two transfers
 * in a row, by one where it goes badly, and later each time that it was in vain. What seems
 * not to be worth a trial gets one now and then, for what is known of it may be old.
 *
 * Zeroed is valid: nothing is known yet. No locks: they are the caller's.
 */
#ifndef PINWHEEL_TRIAL_H
#define PINWHEEL_TRIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PW_TRIAL_CLASSES = 8,       /* up to 32 KiB, each twice the last, from 2 MiB on */
    PW_TRIAL_FIRST = 4, PW_TRIAL_LAST = 256,    /* transfers until a trial */
    PW_TRIAL_LENGTH = 2,
    PW_TRIAL_DOUBT = 64,        /* trials that seemed not worth it until one is made */
    PW_TRIAL_UNIT = 64 << 10,
    PW_TRIAL_BEFORE = 4,
};

/* Of what nobody knows what to expect. */
#define PW_TRIAL_UNKNOWN UINT64_MAX

struct pw_trial {
    struct pw_trial_class {
        uint32_t cost[2];           /* ns for PW_TRIAL_UNIT bytes, smoothed; 0 not known */
        uint16_t since, next;       /* transfers since the last trial; when to try */
        uint8_t way;                /* in use */
        uint8_t left;               /* transfers of a trial of the other one */
        uint8_t content;            /* trials that seemed not worth it */
        bool begun;
    } classes[PW_TRIAL_CLASSES];
};

static inline uint64_t pw_trial_per_unit(uint64_t ns, size_t len)
{
    return ns == PW_TRIAL_UNKNOWN ? ns : (uint64_t)((double)ns * PW_TRIAL_UNIT / (double)len);
}

static inline struct pw_trial_class *pw_trial_class(struct pw_trial *t,
                                                    const uint64_t expected[2], size_t len)
{
    struct pw_trial_class *c = t->classes;

    while (c < &t->classes[PW_TRIAL_CLASSES - 1] &&
           len > (size_t)32768 << (c - t->classes))
        c++;
    if (!c->begun) {
        c->begun = true;
        c->next = PW_TRIAL_FIRST;
        c->way = expected[1] < expected[0];
    }
    return c;
}

/* 0 or 1: the way for a transfer of len bytes, more than 0. expected: ns that it should
 * take by either, or PW_TRIAL_UNKNOWN; what is expected to take less is begun with, and
 * what is expected to take more than the other has taken is hardly tried. */
static inline int pw_trial_choose(struct pw_trial *t, const uint64_t expected[2], size_t len)
{
    const struct pw_trial_class *c = pw_trial_class(t, expected, len);

    return c->left ? !c->way : c->way;
}

/* An interruption counts for four times the usual at most, so that one does not
 * decide; what lasts gets through. */
static inline void pw_trial_smooth(uint32_t *cost, uint64_t sample)
{
    if (sample > UINT32_MAX / 8)
        sample = UINT32_MAX / 8;
    if (!sample)
        sample = 1;
    if (!*cost) {
        *cost = (uint32_t)sample;
        return;
    }
    if (sample > 4 * (uint64_t)*cost)
        sample = 4 * (uint64_t)*cost;
    *cost = (uint32_t)(*cost + ((int64_t)sample - (int64_t)*cost) / 4);
    if (!*cost)
        *cost = 1;
}

static inline void pw_trial_over(struct pw_trial_class *c)
{
    uint32_t mine = c->cost[c->way], other = c->cost[!c->way];

    c->left = 0;
    c->since = 0;
    c->content = 0;
    if (other < mine - mine / 8) {
        c->way = !c->way;
        c->next = PW_TRIAL_FIRST;
    } else {
        c->next = c->next < PW_TRIAL_LAST ? (uint16_t)(2 * c->next) : PW_TRIAL_LAST;
    }
}

static inline bool pw_trial_worth(const struct pw_trial_class *c, const uint64_t expected[2],
                                  size_t len)
{
    uint64_t other = pw_trial_per_unit(expected[!c->way], len);

    if (c->cost[!c->way] && c->cost[!c->way] < other)
        other = c->cost[!c->way];
    return other != PW_TRIAL_UNKNOWN && c->cost[c->way] > other - other / 8;
}

/* A transfer of len bytes by that way took ns; of several at once, since the one
 * before it was done. */
static inline void pw_trial_note(struct pw_trial *t, const uint64_t expected[2], int way,
                                 size_t len, uint64_t ns)
{
    struct pw_trial_class *c = pw_trial_class(t, expected, len);

    /* What a trial finds is fresh: what was found long ago does not soften it. */
    if (c->left == PW_TRIAL_LENGTH && way != c->way)
        c->cost[way] = 0;
    pw_trial_smooth(&c->cost[way], pw_trial_per_unit(ns, len));
    if (c->left) {
        if (way != c->way && (--c->left == 0 || c->cost[way] / 2 > c->cost[c->way]))
            pw_trial_over(c);
    } else if (way == c->way && ++c->since >= c->next) {
        c->since = 0;
        if (pw_trial_worth(c, expected, len) || ++c->content >= PW_TRIAL_DOUBT)
            c->left = PW_TRIAL_LENGTH;
    }
}

/* What a program sees of a transfer that took ns, `before` ns behind the end of the last
 * one: how that was done may be paid for in between, by a transfer the other way that finds
 * its lines in another cache. More than a few such times is the program's own. */
static inline uint64_t pw_trial_seen(uint64_t ns, uint64_t before)
{
    return ns + (before / PW_TRIAL_BEFORE < ns ? before : PW_TRIAL_BEFORE * ns);
}

#endif
