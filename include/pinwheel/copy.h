/* SPDX-License-Identifier: BSD-3-Clause */
/* copy.h - copying bulk data between memory that two cores use.
 *
 * Both functions do what memcpy(3) does; they differ in what the CPU makes of
 * it. Any thread, any alignment, no overlap.
 */
#ifndef PINWHEEL_COPY_H
#define PINWHEEL_COPY_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __x86_64__
#include <emmintrin.h>
#include <x86intrin.h>
#endif

/* A line that will be written soon, from wherever it is. The compiler's own builtin
 * fetches it as for reading unless it is told of a newer CPU; where prefetchw is not
 * known it does nothing. */
static inline void pw_fetch_for_writing(const void *line)
{
#ifdef __x86_64__
    __asm__ volatile("prefetchw %0" : : "m"(*(const char *)line));
#else
    __builtin_prefetch(line, 1);
#endif
}

/* memcpy, but not slow when the destination's offset in its page is up to 15 bytes
 * above the source's: "rep movsb", which the C library takes from 2 KiB on, then
 * moves a few bytes a cycle on some CPUs (measured on Zen 4: 3.5 GB/s instead of
 * 100). Pieces below that length avoid it. */
static inline void pw_copy(void *to, const void *from, size_t len)
{
    enum { PIECE = 2047 };
    size_t ahead = ((uintptr_t)to - (uintptr_t)from) & 4095;
    char *d = (char *)to;
    const char *s = (const char *)from;

    if (ahead - 1 < 15)
        for (; len > PIECE; len -= PIECE, d += PIECE, s += PIECE)
            memcpy(d, s, PIECE);
    memcpy(d, s, len);
}

/* From `half` to twice as many bytes: two moves that overlap. half is a constant, at
 * most 32, so that they are moves and not calls. */
static inline __attribute__((always_inline))
void pw_copy_two(char *d, const char *s, size_t len, size_t half)
{
    char a[32], b[32];

    memcpy(a, s, half);
    memcpy(b, s + len - half, half);
    memcpy(d, a, half);
    memcpy(d + len - half, b, half);
}

/* memcpy for the few bytes of a small message: no call up to 64, which is most
 * of what a PML's header and some numbers need. */
static inline __attribute__((always_inline))
void pw_copy_small(void *to, const void *from, size_t len)
{
    char *d = (char *)to;
    const char *s = (const char *)from;

    if (len > 16) {
        if (len > 64)
            memcpy(d, s, len);
        else if (len > 32)
            pw_copy_two(d, s, len, 32);
        else
            pw_copy_two(d, s, len, 16);
    } else if (len >= 8) {
        pw_copy_two(d, s, len, 8);
    } else if (len >= 4) {
        pw_copy_two(d, s, len, 4);
    } else {
        for (size_t i = 0; i < len; i++)
            d[i] = s[i];
    }
}

/* Copy past the caches of this core: the stores do not fetch the destination's
 * lines from the cache of the core that read them last. Slower than pw_copy()
 * between cores that share a cache, several times faster between cores that do
 * not; but then the reader fetches it from memory. The data is visible to whoever
 * sees a later release store of ours. */
static inline void pw_copy_past_cache(void *to, const void *from, size_t len)
{
#ifdef __x86_64__
    char *d = (char *)to;
    const char *s = (const char *)from;
    size_t head = -(uintptr_t)d & 63;

    if (len < 256) {
        memcpy(d, s, len);
        return;
    }
    memcpy(d, s, head);
    d += head;
    s += head;
    len -= head;
    for (; len >= 64; len -= 64, d += 64, s += 64) {
        __m128i a = _mm_loadu_si128((const __m128i *)(const void *)s);
        __m128i b = _mm_loadu_si128((const __m128i *)(const void *)(s + 16));
        __m128i c = _mm_loadu_si128((const __m128i *)(const void *)(s + 32));
        __m128i e = _mm_loadu_si128((const __m128i *)(const void *)(s + 48));

        _mm_stream_si128((__m128i *)(void *)d, a);
        _mm_stream_si128((__m128i *)(void *)(d + 16), b);
        _mm_stream_si128((__m128i *)(void *)(d + 32), c);
        _mm_stream_si128((__m128i *)(void *)(d + 48), e);
    }
    memcpy(d, s, len);
    _mm_sfence();   /* such stores are not ordered by a release store */
#else
    pw_copy(to, from, len);
#endif
}

/* Which of the two is faster towards one peer, writing and reading together, found
 * out while copying: cores
 * that share a cache want the one, others the other, and in a virtual machine
 * that changes while the program runs. One writer at a time. Zeroed is valid, and
 * looks at the writing alone.
 *
 * The way not in use is tried now and then for PW_PACE_TRIAL copies in a row, for
 * what a line costs depends on how it was written the last time: a single copy
 * the other way would pay for its predecessors. A trial that goes badly ends
 * early, and the next one comes later. */
struct pw_pace {
    uint32_t cost[2];       /* clock ticks for 16 KiB, smoothed; 0 not known */
    uint32_t settled;       /* the cost of the way in use when it was chosen */
    uint32_t past_extra;    /* what the reader of 16 KiB pays more when they went past
                             * the cache, ticks: it fetches them from memory */
    uint32_t copies, next;  /* done since the last trial; when to try again */
    uint16_t way;           /* 0 pw_copy, 1 past the cache */
    uint16_t trial;         /* copies of a trial done; 0 none is on */
};

enum {
    PW_PACE_MIN = 8192,     /* bytes; below, the clock costs too much */
    PW_PACE_TRIAL = 128,    /* two laps of a queue, in chunks */
    PW_PACE_EARLY = 16,     /* copies after which a bad trial may end */
    PW_PACE_FIRST = 32, PW_PACE_SOON = 1024, PW_PACE_LATE = 8192,
};

/* By half as much again. */
static inline int pw_pace_dearer(uint32_t a, uint32_t b)
{
    return a > b + b / 2;
}

static inline void pw_pace_trial_step(struct pw_pace *p)
{
    uint32_t mine = p->cost[p->way], other = p->cost[!p->way];

    p->trial++;
    if (p->trial < PW_PACE_TRIAL &&
        !(p->trial >= PW_PACE_EARLY && pw_pace_dearer(mine, other)))
        return;
    if (mine < other) {
        p->next = PW_PACE_SOON;
    } else {
        p->way = !p->way;
        p->next = p->next < PW_PACE_LATE ? 2 * p->next : PW_PACE_LATE;
    }
    p->trial = 0;
    p->copies = 0;
    p->settled = p->cost[p->way];
}

/* A copy the way in use took so many ticks for 16 KiB: which way is next? */
static inline void pw_pace_note(struct pw_pace *p, uint64_t took)
{
    uint32_t *cost = &p->cost[p->way];

    if (p->way && took < UINT64_MAX - p->past_extra)
        took += p->past_extra;
    if (!*cost)
        *cost = took < UINT32_MAX ? (uint32_t)took : UINT32_MAX;
    else if (took < 8 * (uint64_t)*cost)    /* else we were interrupted */
        *cost = (uint32_t)(*cost + ((int64_t)took - *cost) / 8);
    if (p->trial) {
        pw_pace_trial_step(p);
        return;
    }
    if (!p->next)
        p->next = PW_PACE_FIRST;
    /* It has become dear: something has changed, see soon. */
    if (p->settled && pw_pace_dearer(*cost, p->settled) && p->next > PW_PACE_SOON)
        p->next = PW_PACE_SOON;
    if (++p->copies < p->next)
        return;
    p->next = p->next < PW_PACE_SOON ? PW_PACE_SOON : p->next;
    p->way = !p->way;
    p->cost[p->way] = 0;
    p->trial = 1;
}

static inline void pw_copy_paced(struct pw_pace *pace, void *to, const void *from,
                                 size_t len)
{
#ifdef __x86_64__
    uint64_t start = __rdtsc();

    if (pace->way)
        pw_copy_past_cache(to, from, len);
    else
        pw_copy(to, from, len);
    pw_pace_note(pace, (__rdtsc() - start) * 16384 / len);
#else
    (void)pace;
    pw_copy(to, from, len);
#endif
}

#endif
