/* SPDX-License-Identifier: BSD-3-Clause */
/* steps.h - what does this thread execute between two places?
 *
 * Another process goes through it one instruction at a time. Open before threads are started,
 * and from one thread only:
 *
 *     steps_open(&s);
 *     steps_begin(); ...; steps_end();        one turn; STEPS_TURNS of them at most
 *     steps_close(&s);
 */
#ifndef PW_TEST_STEPS_H
#define PW_TEST_STEPS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { STEPS_TURNS = 256, STEPS_APART = 4 };

struct steps_turn {
    unsigned instructions;      /* a repeated one is one */
    unsigned apart;             /* those that are somebody else's, not among them */
    unsigned calls;             /* of the kernel, but by those */
};

struct steps {
    pid_t pid;
    struct steps_shared *shared;
};

/* What these functions execute until they return, with what they call, is apart. NULL ends
 * the list. False, and a sentence: this machine does not let anybody do that. */
bool steps_open(struct steps *s, void *const apart[STEPS_APART], const char **why);
void steps_begin(void);
void steps_end(void);

/* How many turns; out has room for STEPS_TURNS. -1: something went wrong. */
int steps_close(struct steps *s, struct steps_turn *out);

#endif
