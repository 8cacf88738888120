/* SPDX-License-Identifier: BSD-3-Clause */
/* story.h - what the MPI test programs share.
 *
 * A program tells stories. Without arguments it tells all of them; with names
 * as arguments only those, and with names after a minus all but those, which is
 * how a failure is narrowed down:
 *
 *     mpirun -n 2 ./win malloc,-cas
 *
 * Nothing is printed but failures. A failure is counted and the program goes on,
 * so that one run shows everything that is wrong.
 */
#ifndef TESTS_MPI_STORY_H
#define TESTS_MPI_STORY_H

#include <mpi.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { STORY_SKIP = 77 };   /* exit status: this machine cannot run it */

/* Where a buffer comes from. A transport may treat the two differently. */
enum mem { MEM_MALLOC, MEM_POOL };

extern int rank, size;      /* in MPI_COMM_WORLD */

/* MPI_Init_thread at that level, and the watch for hangs: a program that is
 * still running after `seconds` (or after PW_TEST_SECONDS of the environment) tells
 * in which story it is and exits. */
void story_open(int *argc, char ***argv, int level, unsigned seconds);

/* MPI_Finalize; the exit status. */
int story_close(void);

/* Is this story to be told? Remembers the name for failure messages. */
bool story(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Leave at once, telling why nothing was tested. All ranks call it. */
void story_skip(const char *why) __attribute__((noreturn));

#define expect(cond, ...) \
    do { \
        if (!(cond)) \
            story_fail(__FILE__, __LINE__, #cond, __VA_ARGS__); \
    } while (0)
void story_fail(const char *file, int line, const char *what, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
int story_failures(void);

/* Bytes that depend on seed and position, and the check for them: a lost,
 * doubled, shifted or foreign byte does not pass. same() counts a failure naming
 * the first wrong byte; fmt says what was being transferred. */
void fill(void *buf, size_t len, uint64_t seed);
bool same(const void *buf, size_t len, uint64_t seed, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* Every byte of buf is `byte`. */
bool all_bytes(const void *buf, size_t len, unsigned char byte);

uint64_t mix(uint64_t a, uint64_t b);           /* a seed out of two numbers */
uint32_t draw(uint64_t *state);                 /* the next pseudo-random number */

/* Bytes of the largest messages: `usual`, or PW_TEST_LARGEST where the environment has
 * that; 1 MiB at least, so that each way of moving data is still taken. For machines whose
 * processors are emulated. */
int story_largest(int usual);

/* How often: `usual`, or PW_TEST_ROUNDS. */
int story_rounds(int usual);

void *mem_get(enum mem kind, size_t len);       /* aborts when there is none */
void mem_put(enum mem kind, void *ptr);
const char *mem_name(enum mem kind);

double now(void);                               /* seconds, monotonic */
void nap(double seconds);                       /* sleep outside of MPI */
void compute(double seconds);                   /* work outside of MPI */
double cpu_seconds(void);                       /* that this process has used */
long status_kib(const char *field);             /* of /proc/self/status */

#endif
