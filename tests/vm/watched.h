/* SPDX-License-Identifier: BSD-3-Clause */
/* watched.h - what the programs about watched ranges share: a descriptor of the driver,
 * its words, and stories that say RIGHT or WRONG. See changes.c, cycles.c and calls.c.
 */
#ifndef TESTS_VM_WATCHED_H
#define TESTS_VM_WATCHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "pinwheel/kdriver.h"
#include "tests/vm/told.h"

#define PAGE ((size_t)4096)
#define MIB ((size_t)1 << 20)
#define HUGE (2 * MIB)
#define READ PW_KD_READ
#define BOTH (PW_KD_READ | PW_KD_WRITE)

struct story {
    const char *name;
    void (*tell)(void);
};

/* All of them, or the one that the program's argument names; exits. Each has a
 * descriptor of its own, and fails when one of its watches outlives that. */
void stories_tell(const struct story *stories, const char *only) __attribute__((noreturn));

extern int dev;                         /* the control descriptor */
extern const volatile uint64_t *words;  /* mapped */

void control_open(void);
int info_get(struct pw_kd_info *info);  /* 0 or -errno, as the next two */
int watch_try(const void *start, size_t len, unsigned access, struct pw_kd_watch *watch);
int drop_try(unsigned slot);

/* A slot whose moves are counted from now on. */
struct slot {
    unsigned number;
    uint64_t word;
};
struct slot watch(const void *start, size_t len, unsigned access);
void drop(struct slot *s);

/* How often its word has moved since the watch began or the last one who asked. */
unsigned moves(struct slot *s);
unsigned last_event(const struct slot *s);

/* So often, the last time by that event. */
#define moved(s, times, event) moved_at(__FILE__, __LINE__, s, times, event)
void moved_at(const char *file, int line, struct slot *s, unsigned times, unsigned event);

char *anon(size_t len);                 /* new memory, all of it written */
char *anon_huge_aligned(size_t len);    /* likewise, in pages of 4 KiB, from 2 MiB on */
char *shared(int *fd, size_t len);      /* a file in memory, mapped and written */

/* A process, or a thread without libpthread's knowledge, of this very mm. */
void in_cloned_vm(void (*run)(void *), void *arg);

/* Until that counter has that value. */
bool counter_becomes(const char *name, long value);
/* Until the slot's word has moved, for as long as that may take on a busy machine. */
bool moves_at_last(const struct slot *s);

#endif
