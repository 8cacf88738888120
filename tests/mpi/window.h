/* SPDX-License-Identifier: BSD-3-Clause */
/* window.h - the five ways to have an MPI window, behind one face. */
#ifndef TESTS_MPI_WINDOW_H
#define TESTS_MPI_WINDOW_H

#include "story.h"

enum window_kind {
    WINDOW_MALLOC,      /* MPI_Win_create over malloc */
    WINDOW_POOL,        /* MPI_Win_create over MPI_Alloc_mem */
    WINDOW_ALLOCATE,
    WINDOW_DYNAMIC,     /* two attached pieces, used as one run of bytes each */
    WINDOW_SHARED,
    WINDOW_KINDS,
};

struct window {
    MPI_Win win;
    enum window_kind kind;
    char *base;         /* ours, `bytes` long */
    size_t bytes;
    int unit;           /* displacement unit of rank 0; see window_open */
    MPI_Aint *start;    /* per rank: what to add to a displacement in bytes */
};

const char *window_name(enum window_kind kind);

/* Collective: false for memory that ranks of several hosts are to share. */
bool window_possible(enum window_kind kind);

/* Collective. With `unit` over 1, ranks take unit, 1, unit, 1, ... in turn (all
 * take `unit` when shared or allocated). Memory is zeroed. */
void window_open(struct window *w, enum window_kind kind, size_t bytes, int unit);
void window_close(struct window *w);

/* The target displacement of byte `at` (a multiple of the unit) of rank `to`. */
MPI_Aint window_at(const struct window *w, int to, size_t at);

/* See all that others did to our memory, and let them see ours. Collective. */
void window_settle(struct window *w);

#endif
