/* SPDX-License-Identifier: BSD-3-Clause */
/* share.h - which of several paths has the next piece of a transfer, and how large it is.
 *
 * Each path is kept busy for a few milliseconds ahead, and no longer: what it is worth is
 * seen from what it brings, so one that is throttled meanwhile holds up little. Pieces take
 * about a millisecond each. Near the end a slow path gets no piece that the others would
 * have done sooner without it.
 *
 * Pure but for the clock, which callers read. A share zeroed is valid: nothing is known.
 * No locks: see core.h.
 */
#ifndef PW_SHARE_H
#define PW_SHARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PW_PIECE_LEAST = 16 << 10,
    PW_PIECE_FIRST = 64 << 10,          /* while nothing is known of a path */
    PW_PIECE_MOST = 1 << 20,
    PW_SHARE_PIECES = 12,               /* under way on a path, at most */
};

/* What a user asks for; how pw_share_pays() judges, and which path goes first. */
enum pw_want { PW_WANT_AUTO, PW_WANT_LATENCY, PW_WANT_BANDWIDTH };

struct pw_share {
    uint64_t bytes_per_s;       /* as it turned out; 0: not known yet */
    uint64_t bytes, ns;         /* in that time, of which half is forgotten now and then */
    uint64_t noted_ns;          /* when it did */
    uint64_t mark_ns;           /* until when it is counted */
    uint64_t out;               /* bytes under way */
    unsigned pieces;
    bool begun;                 /* its first piece is done */
};

/* Pieces given to that path, and done; or not done after all. */
void pw_share_begin(struct pw_share *s, size_t len, uint64_t now);
void pw_share_end(struct pw_share *s, size_t len, uint64_t now);
void pw_share_drop(struct pw_share *s, size_t len);

/* What it is expected to bring, in bytes per second: as it turned out, or else as its NIC
 * says. What was found long ago is doubted, so that a path that was slow gets another
 * try. */
uint64_t pw_share_rate(const struct pw_share *s, uint64_t declared, uint64_t now);

/* One of n paths for a piece of a transfer of `len` bytes, of which, and of those behind
 * it, `left` are given to nobody yet: its place and the length of the piece, at least 1;
 * -1: not now. */
int pw_share_next(const struct pw_share *const shares[], const uint64_t rates[], int n,
                  size_t len, uint64_t left, size_t *piece);

/* Is a transfer of that length done sooner by all n of them than by one whose rate is
 * `alone`, and its device's `declared`? Where neither the device nor anything slow on its
 * way is what limits it, the processor is, and others would not help. */
bool pw_share_pays(const uint64_t rates[], int n, uint64_t alone, uint64_t declared,
                   size_t len, enum pw_want want);

#endif
