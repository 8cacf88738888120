/* SPDX-License-Identifier: BSD-3-Clause */
/* peer.h - processes that do as they are told, so that a story about several of them
 * reads from top to bottom in one.
 *
 * A peer makes any system call for the story and answers what it gave, or -errno.
 * Structures for system calls lie on the board, which all processes share at the same
 * address; so do strings that were there before the peer was started.
 */
#ifndef PINWHEEL_TESTS_VM_PEER_H
#define PINWHEEL_TESTS_VM_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "pinwheel/kdriver.h"

#define PAGE 4096ul
#define HUGE_PAGE (2ul << 20)
#define MiB (1ul << 20)

struct peer {
    pid_t pid;
    int sock;
};

struct board {
    struct pw_kd_watch watch;
    struct pw_kd_slot drop;
    struct pw_kd_share share;
    struct rlimit limit;
    struct rusage usage;
    char bytes[4 * PAGE];
};
extern struct board *board;

void peer_start(struct peer *p);
void peer_end(struct peer *p, int signal);      /* and see that it has ended */

/* A system call, number and arguments; -EPIPE when the peer died of it. */
long peer_call(struct peer *p, const long args[7]);
#define call(p, ...) peer_call(p, (const long[7]){ __VA_ARGS__ })

/* What memory is filled with: another value at each 8 bytes, by seed; 0: zeros. */
uint64_t pattern(uint64_t seed, uint64_t offset);
void pattern_fill(void *p, size_t len, uint64_t seed);
long pattern_wrong(const void *p, size_t len, uint64_t seed);   /* bytes by which it differs */

long peer_fill(struct peer *p, long addr, size_t len, uint64_t seed);
long peer_wrong(struct peer *p, long addr, size_t len, uint64_t seed);
uint64_t peer_word(struct peer *p, long words, unsigned slot);

/* A descriptor that one has, by SCM_RIGHTS: its number in the other. */
long peer_pass(struct peer *from, long fd, struct peer *to);

/* A child that waits for a signal, and has all that its parent has: its pid. */
long peer_fork(struct peer *p);
/* A child reads that address: the signal that it dies of, or 0. */
long peer_child_reads(struct peer *p, long addr);

/* /sys/class/misc/pinwheel/counters/NAME */
long counter(const char *name);
/* Until it has that value, for as long as that may take on a busy machine. */
bool counter_becomes(const char *name, long value);

/* One line of the test; and whether it is right. */
bool right(bool is, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A value that an expectation is about, when it is not met. */
bool same(long got, long want, const char *what);

#endif
