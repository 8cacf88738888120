/* SPDX-License-Identifier: BSD-3-Clause */
/* hooks_verdict.c - what of this process's system calls is not seen, and why. */
#include "hooks_verdict.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "hooks_entry.h"
#include "hooks_install.h"

enum { VERDICT_MAX = 200 };

static struct {
    uint64_t said;              /* 1: being written, 2: it holds */
    char why[VERDICT_MAX];
} verdicts[PW_UNSEEN];

static struct {
    int err;
    char why[PW_MONITOR_WHY_MAX];
} failure;

static const char *holds(enum pw_unseen v)
{
    return __atomic_load_n(&verdicts[v].said, __ATOMIC_ACQUIRE) == 2 ? verdicts[v].why
                                                                     : NULL;
}

const char *pw_hooks_blind(bool alone)
{
    return holds(PW_BROKEN) ? holds(PW_BROKEN) : alone ? holds(PW_PASSED_BY) : NULL;
}

const char *pw_hooks_untold(void)
{
    return holds(PW_BROKEN) ? holds(PW_BROKEN) : holds(PW_UNTOLD);
}

void pw_hooks_lose(void)
{
    pw_records_end(pw_hooks.records,
                   pw_records_begin(pw_hooks.records, PW_RANGE_ALL, PW_EV_LOST));
}

void pw_hooks_say(enum pw_unseen v, const char *format, const char *what,
                  const char *object)
{
    uint64_t none = 0;

    if (!__atomic_compare_exchange_n(&verdicts[v].said, &none, 1, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE))
        return;
    snprintf(verdicts[v].why, sizeof verdicts[v].why, format, what, object);
    __atomic_store_n(&verdicts[v].said, 2, __ATOMIC_RELEASE);
    pw_hooks_lose();
}

void pw_hooks_fail(int err, const char *format, const char *what, const char *object)
{
    if (failure.err)
        return;
    snprintf(failure.why, sizeof failure.why, format, what, object);
    failure.err = err;
}

int pw_hooks_failed(const char **why)
{
    *why = failure.why;
    return failure.err;
}

void pw_hooks_fail_not(void)
{
    failure.err = 0;
}
