/* SPDX-License-Identifier: BSD-3-Clause */
/* link.h - what a transport is: a way from one process to another.
 *
 * A link is opened before the two processes are forked, and both inherit it. It
 * carries words (latency) and messages (throughput). A backend embeds struct
 * pw_link first and exports one const table.
 */
#ifndef PW_MATRIX_LINK_H
#define PW_MATRIX_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "matrix.h"

struct pw_link {
    const struct pw_link_ops *ops;
    size_t size;        /* bytes of a message, a multiple of 8 */
    bool yields;        /* both processes on one hardware thread: who spins must yield */
    int side;           /* 0 sends the messages, 1 receives them; from enter() on */
    pid_t peer;         /* the other process; from enter() on */
    char *buffer;       /* a message, this process's own; from enter() on */
    char *why;          /* PW_WHY bytes: more than the errno tells, with an error */
};

/* All return 0 or -errno. They wait for the other side as long as it takes: who
 * started the processes ends them. */
struct pw_link_ops {
    const char *name;   /* as typed */
    const char *what;   /* for people */
    bool spins;         /* whoever waits keeps its core busy */

    /* size, yields and why are set in *with; -errno where this machine lacks it. */
    int (*open)(const struct pw_link *with, struct pw_link **out);
    void (*close)(struct pw_link *l);

    /* First call in each of the two processes. An error: it cannot run here. */
    int (*enter)(struct pw_link *l);

    /* A word of 8 bytes to the other side. One at a time: each is answered
     * before the next. */
    int (*say)(struct pw_link *l, uint64_t word);
    int (*hear)(struct pw_link *l, uint64_t *word);

    /* Side 0: where to write the next message, free by then. Then send it. The
     * receiver has it in l->buffer. */
    int (*next)(struct pw_link *l, char **message);
    int (*send)(struct pw_link *l, const char *message);
    int (*receive)(struct pw_link *l);
};

extern const struct pw_link_ops pw_link_pipe, pw_link_unix, pw_link_tcp;
extern const struct pw_link_ops pw_link_eventfd, pw_link_spin, pw_link_futex;
extern const struct pw_link_ops pw_link_cma, pw_link_mapped;

/* All of them, in the order in which they are shown; NULL ends the list. */
extern const struct pw_link_ops *const pw_links[];

/* A next() for those that send from anywhere. */
int pw_link_next_own(struct pw_link *l, char **message);

/* Says why, and returns err. */
__attribute__((format(printf, 3, 4)))
int pw_link_fails(const struct pw_link *l, int err, const char *format, ...);

/* One point between two cores: two processes are started, measure, and are gone
 * when this returns.
 * 0, or -EINTR       we were asked to stop (pw_launch_signal())
 *       -EOPNOTSUPP  it cannot run here
 *       -EIO         it went wrong: wrong data, an ended process, too long
 * The last two with a sentence in why. */
int pw_link_measure(const struct pw_link_ops *ops, enum pw_measure measure,
                    const struct pw_pair *pair, const struct pw_matrix_options *o,
                    struct pw_point *out, char why[PW_WHY]);

#endif
