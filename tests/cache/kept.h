/* SPDX-License-Identifier: BSD-3-Clause */
/* kept.h - what an oracle keeps of each thing that it has pinned, so that it notices what goes
 * wrong with the pinning itself: something unpinned twice, or the parent's in a child, or
 * handed out without being pinned. There is no way to go on then: it aborts.
 */
#ifndef PW_TESTS_CACHE_KEPT_H
#define PW_TESTS_CACHE_KEPT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct kept {
    unsigned magic;             /* 0 once unpinned */
    pid_t owner;
    uintptr_t start;
    size_t len;
};

void give_up(const char *what) __attribute__((noreturn));

struct kept kept_begin(pid_t owner, const void *addr, size_t len);

/* It is handed out. */
void kept_check(const struct kept *k);

/* It is unpinned, now; k may be NULL. */
void kept_end(struct kept *k, const void *addr, size_t len);

#endif
