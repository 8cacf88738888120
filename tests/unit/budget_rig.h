/* SPDX-License-Identifier: BSD-3-Clause */
/* budget_rig.h - budgets over a kernel that refuses on demand, and other processes.
 *
 * The host's account is a file in a folder of the test's own; a test that leaves one
 * there, and did not put it there, fails.
 */
#ifndef PW_BUDGET_RIG_H
#define PW_BUDGET_RIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "pinwheel/budget.h"
#include "regcache/budget_sys.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

struct rig_refusals {
    int open, ofd_lock, fallocate, ftruncate, mmap, read;   /* errno, 0: the real one */
    short lock_type;            /* only this one is refused */
    void (*before_lock)(void);  /* once */
    uint64_t ram;
    struct rlimit memlock;
    const char *status, *uid_map;
};
extern struct rig_refusals fake;
extern struct pw_sys fake_sys;

/* A rank that may have 64 MiB of a host's 100, a quarter of it without an account. */
extern const struct pw_budget_config usual;

/* Before and after each test: TestSuite(..., .init = rig_open, .fini = rig_close). */
void rig_open(void);
void rig_close(void);

extern char dir[40];
char *account(void);            /* the file in it */

struct pw_budget *open_with(struct pw_budget_config config);
struct pw_budget_info info_of(struct pw_budget *b);

/* Another process. It ends when it is told to. */
struct other {
    pid_t pid;
    int tell, hear;
};

/* body runs in a child; when it is done and says true, that is heard, and the child
 * waits for a word. Nothing in it may use Criterion, which does not hear it. */
struct other other_start(bool (*body)(void *), void *arg);
void other_wait(struct other *o);       /* until body is done; false fails the test */
void other_reap(struct other *o);
void other_kill(struct other *o);

/* In another process: as open_with(usual). */
struct pw_budget *others_open(void);

/* A body: a budget of its own, with *(size_t *)bytes taken of it. */
bool holds(void *bytes);
extern struct pw_budget *others_budget;

/* Another process that does so. */
struct other holder(size_t bytes);

#endif
