/* SPDX-License-Identifier: BSD-3-Clause */
/* told.h - what any program needs that tells stories of the driver in a guest: failures,
 * processes, and the driver's counters. watched.h and pinned.h add what theirs are about.
 */
#ifndef TESTS_VM_TOLD_H
#define TESTS_VM_TOLD_H

#include <sched.h>
#include <sys/types.h>

/* A failure is counted, and the story goes on. */
#define expect(cond, ...) \
    do { \
        if (!(cond)) \
            fail(__FILE__, __LINE__, #cond, " " __VA_ARGS__); \
    } while (0)
void fail(const char *file, int line, const char *what, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void give_up(const char *what) __attribute__((noreturn));   /* with errno's text */

extern unsigned failures;       /* of this process's story */

/* A process of the story's, and its wait status. It exits 1 after failures of its own,
 * and is ended when it hangs. */
pid_t child(void (*run)(void *), void *arg);
int ended(pid_t pid);

/* This thread on the first processor alone; and back again, where *all says. */
void on_one_processor(cpu_set_t *all);
void on_all_processors(const cpu_set_t *all);

long number_of(const char *path);
long counter(const char *name);                 /* the driver's */

#endif
