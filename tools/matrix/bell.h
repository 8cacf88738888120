/* SPDX-License-Identifier: BSD-3-Clause */
/* bell.h - one process tells another that something is there, in one of three ways.
 *
 * Bells lie in memory that both processes share. What was written before a bell
 * was rung is seen by who was woken. One process rings, one waits.
 */
#ifndef PW_MATRIX_BELL_H
#define PW_MATRIX_BELL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* A cache line: the word that is told comes with the count. */
struct pw_bell {
    _Alignas(64) _Atomic uint32_t count;    /* times it was rung */
    _Atomic uint32_t sleeping;              /* futex: it takes a call to wake */
    uint64_t word;
};

/* 0 or -errno. fd is the bell's eventfd, where there is one. */
struct pw_bell_ops {
    bool descriptor;
    int (*ring)(struct pw_bell *b, int fd);

    /* Until it was rung that many times. Waited for once each time, in turn. */
    int (*await)(struct pw_bell *b, int fd, uint32_t times, bool yields);
};

extern const struct pw_bell_ops pw_bell_spin, pw_bell_futex, pw_bell_eventfd;

#endif
