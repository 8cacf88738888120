/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_pattern.h - data that differs each time, so that what arrives late, twice
 * or at the wrong place is seen to be wrong. No MPI here. */
#ifndef PWBENCH_PATTERN_H
#define PWBENCH_PATTERN_H

#include <stdbool.h>
#include <stddef.h>

/* Where a message belongs. Neighbours in any of these have different bytes. */
struct pw_place {
    int round, sender, slot;
};

/* A byte that is not what it should be. */
struct pw_wrong {
    size_t at;
    unsigned char is, wanted;
};

enum {
    PW_GUARD = 64,      /* bytes behind each message that must stay untouched */
};

void pw_pattern_fill(char *mem, size_t size, const struct pw_place *p);
unsigned char pw_pattern_byte(const struct pw_place *p, size_t at);

/* Fill what is to be overwritten, and PW_GUARD bytes more, with something else. */
void pw_poison(char *mem, size_t size);

/* False, and the first wrong byte, unless mem holds what pw_pattern_fill() gives. */
bool pw_pattern_verify(const char *mem, size_t size, const struct pw_place *p,
                       struct pw_wrong *wrong);

/* The same for the PW_GUARD bytes behind size, which pw_poison() filled. */
bool pw_guard_verify(const char *mem, size_t size, struct pw_wrong *wrong);

#endif
