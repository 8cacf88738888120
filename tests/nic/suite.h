/* SPDX-License-Identifier: BSD-3-Clause */
/* suite.h - what a conformance case is, and how it says what it found.
 *
 * A case is a function that runs in a process of its own, with a time limit, on
 * one subject (a backend, or the fake NIC in one of its ways to behave). It
 * fails by CHECK (goes on) or REQUIRE (ends the process), or by dying.
 *
 *     runner.c    one case in its process; its outcome
 *     rig.h       a NIC with a pool, connections that count, sending helpers
 *     party.h     other processes of a case (threads, where the subject's NICs
 *                 see each other in one process only)
 *     *_cases.c   the cases
 */
#ifndef PW_NIC_SUITE_H
#define PW_NIC_SUITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pinwheel/nic.h"

struct subject {
    const char *name;
    const struct pw_nic_ops *ops;
    bool one_process;       /* its NICs find each other in one process only */
    bool slow;              /* repeat less */
    bool distrust;          /* opened with config.distrust */
    const char *device;     /* of ops->devices(); NULL: it has none */
    void (*prepare)(const struct subject *subject);     /* may be NULL */
    void (*die)(struct pw_nic *nic);    /* one_process: as if killed now */
    const void *arg;        /* of prepare */
};

struct nic_case {
    const char *name;       /* the story in a line; NULL ends a list */
    void (*run)(const struct subject *subject);
    unsigned seconds;       /* then it has failed */
    bool parties;           /* other processes take part, which may be on another host */
};

extern const struct nic_case setup_cases[], address_cases[], frame_cases[],
    pressure_cases[], memory_cases[], atomic_cases[], crowd_cases[], sixteen_cases[],
    wait_cases[], leave_cases[], caller_cases[], answer_cases[];

/* All of the above, NULL-terminated. */
extern const struct nic_case *const all_cases[];

enum verdict { PASSED, FAILED, SKIPPED };

struct outcome {
    enum verdict verdict;
    double seconds;
    char text[4096];        /* lines of what failed, or why skipped */
};

void case_run(const struct nic_case *c, const struct subject *subject,
              struct outcome *out);

/* How long something that must happen may take, in milliseconds. */
extern unsigned suite_patience_ms;

/* All limits become so many times as long. Before any case. */
void suite_slow_down(unsigned factor);

/* All that is done again and again is done so many times less often, down to 16 times.
 * Before any case. */
void suite_shorten(unsigned factor);

/* n, or less where that was asked for. */
unsigned cycles(unsigned n);

/* The same, or less where the subject or the build (sanitizers) is slow, too. */
unsigned rounds(const struct subject *subject, unsigned n);

/* This one was said to have parties. */
bool case_has_parties(void);

/* Ends the case; it counts as neither passed nor failed. */
__attribute__((noreturn, format(printf, 1, 2))) void case_skip(const char *why, ...);

/* Record a failure. Any thread, any process of the case. */
__attribute__((format(printf, 3, 4)))
void case_fail(const char *file, int line, const char *text, ...);

__attribute__((noreturn)) void case_abort(void);

/* The report of this case holds a failure. */
bool case_failed(void);

static inline bool check_at(bool ok, const char *text, const char *file, int line)
{
    if (!ok)
        case_fail(file, line, "%s", text);
    return ok;
}

static inline bool check_eq_at(long long a, long long b, const char *text,
                               const char *file, int line)
{
    if (a != b)
        case_fail(file, line, "%s: %lld, wanted %lld", text, a, b);
    return a == b;
}

static inline void require_at(bool ok)
{
    if (!ok)
        case_abort();
}

#define CHECK(cond) check_at((cond), #cond, __FILE__, __LINE__)
#define CHECK_EQ(a, b) \
    check_eq_at((long long)(a), (long long)(b), #a, __FILE__, __LINE__)
#define REQUIRE(cond) require_at(CHECK(cond))
#define REQUIRE_EQ(a, b) require_at(CHECK_EQ(a, b))

#endif
