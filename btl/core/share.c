/* SPDX-License-Identifier: BSD-3-Clause */
/* share.c - which of several paths has the next piece of a transfer, and how large it is.
 *
 * Start at pw_share_next().
 */
#include "share.h"

/* A piece takes about as long, and a path has so much before it. */
enum { PIECE_US = 1000, AHEAD_US = 8000 };

/* A path's rate is known after so long, is one of the last so many ns, and doubted when
 * they are long ago. Switches and shapers let a burst pass: a shorter time says nothing. */
enum { KNOWN_NS = 1000 * 1000, MEMORY_NS = 20 * KNOWN_NS, DOUBT_NS = 250 * KNOWN_NS,
       DOUBLINGS = 20 };

/* What it costs to cut a transfer, and what one must be at least. */
enum { CUT_US = 20, WORTH_LEAST = 8 * PW_PIECE_LEAST };

enum { SLOW_BYTES_PER_S = 400 * 1000 * 1000 };

static uint64_t in_us(uint64_t bytes_per_s, uint64_t us)
{
    return (uint64_t)((double)bytes_per_s * (double)us * 1e-6);
}

static double us_for(uint64_t bytes, uint64_t bytes_per_s)
{
    return (double)bytes * 1e6 / (double)(bytes_per_s ? bytes_per_s : 1);
}

/* ---- what a path is worth ---- */

/* All but so much of the time. */
static void forget(struct pw_share *s, uint64_t ns)
{
    if (s->ns <= ns)
        return;
    s->bytes = (uint64_t)((double)s->bytes * (double)ns / (double)s->ns);
    s->ns = ns;
}

void pw_share_begin(struct pw_share *s, size_t len, uint64_t now)
{
    if (!s->pieces) {
        s->mark_ns = now;
        if (s->bytes_per_s && now > s->noted_ns + DOUBT_NS)
            forget(s, KNOWN_NS);
    }
    s->pieces++;
    s->out += len;
}

void pw_share_drop(struct pw_share *s, size_t len)
{
    s->pieces--;
    s->out -= len;
}

/* Several may be seen to end at once, so what each took is no measure; what came while some
 * were under way is. Of the first piece it is not known how long the connection took. */
void pw_share_end(struct pw_share *s, size_t len, uint64_t now)
{
    pw_share_drop(s, len);
    if (s->begun) {
        s->bytes += len;
        s->ns += now - s->mark_ns;
    }
    s->begun = true;
    s->mark_ns = s->noted_ns = now;
    if (s->ns < KNOWN_NS)
        return;
    s->bytes_per_s = (uint64_t)((double)s->bytes * 1e9 / (double)s->ns);
    if (s->ns > MEMORY_NS)
        forget(s, MEMORY_NS / 2);
}

uint64_t pw_share_rate(const struct pw_share *s, uint64_t declared, uint64_t now)
{
    uint64_t rate = s->bytes_per_s, doubts = 0;

    if (!rate)
        return declared ? declared : 1;
    if (!s->pieces && now > s->noted_ns)
        doubts = (now - s->noted_ns) / DOUBT_NS;
    for (uint64_t i = 0; i < doubts && i < DOUBLINGS && rate < declared; i++)
        rate = 2 * rate < declared ? 2 * rate : declared;
    return rate;
}

/* ---- the next piece ---- */

static size_t piece_of(const struct pw_share *s, uint64_t rate, int n, size_t len)
{
    uint64_t piece = s->bytes_per_s ? in_us(rate, PIECE_US) : PW_PIECE_FIRST;
    uint64_t even = len / (2 * (unsigned)n);

    if (piece > even)
        piece = even;
    if (piece > PW_PIECE_MOST)
        piece = PW_PIECE_MOST;
    piece &= ~(uint64_t)(PW_PIECE_LEAST - 1);
    return piece ? (size_t)piece : PW_PIECE_LEAST;
}

static bool has_room(const struct pw_share *s, uint64_t rate)
{
    if (s->pieces < 2)
        return true;
    return s->bytes_per_s && s->pieces < PW_SHARE_PIECES && s->out < in_us(rate, AHEAD_US);
}

int pw_share_next(const struct pw_share *const shares[], const uint64_t rates[], int n,
                  size_t len, uint64_t left, size_t *piece)
{
    double total = 0, soonest = 0, best = 0, end;
    uint64_t queued = left;
    int chosen = -1;

    for (int i = 0; i < n; i++) {
        size_t size = piece_of(shares[i], rates[i], n, len);
        double ready = us_for(shares[i]->out + size, rates[i]);

        total += (double)rates[i];
        queued += shares[i]->out;
        if (!i || ready < soonest)
            soonest = ready;
    }
    /* All would be done by then, were all of them busy until then. */
    end = (double)queued * 1.25e6 / total;
    for (int i = 0; i < n; i++) {
        size_t size = piece_of(shares[i], rates[i], n, len);
        double ready = us_for(shares[i]->out + size, rates[i]);

        if (!has_room(shares[i], rates[i]) || (ready > end && ready > soonest) ||
            (chosen >= 0 && ready >= best))
            continue;
        chosen = i;
        best = ready;
        *piece = size;
    }
    return chosen;
}

/* Any processor moves SLOW_BYTES_PER_S. A device that brings more than it declares is none:
 * a veth, a bridge. */
static bool link_limits(uint64_t bytes_per_s, uint64_t declared)
{
    return bytes_per_s <= SLOW_BYTES_PER_S ||
           (bytes_per_s >= declared - declared / 4 &&
            bytes_per_s <= declared + declared / 8);
}

bool pw_share_pays(const uint64_t rates[], int n, uint64_t alone, uint64_t declared,
                   size_t len, enum pw_want want)
{
    double total = 0, cut = want == PW_WANT_LATENCY ? 4 * CUT_US : CUT_US;

    if (n < 2 || len < 2 * PW_PIECE_LEAST)
        return false;
    if (want == PW_WANT_BANDWIDTH)
        return true;
    if (len < WORTH_LEAST || !link_limits(alone, declared))
        return false;
    for (int i = 0; i < n; i++)
        total += (double)rates[i];
    return (double)len * 1e6 / total + cut < us_for(len, alone);
}
