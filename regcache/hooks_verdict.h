/* SPDX-License-Identifier: BSD-3-Clause */
/* hooks_verdict.h - what of this process's system calls is not seen, and why.
 *
 * Any thread. What is said holds for good. Every format has two %s.
 */
#ifndef PINWHEEL_HOOKS_VERDICT_H
#define PINWHEEL_HOOKS_VERDICT_H

#include "pinwheel/monitor.h"

enum pw_unseen {
    PW_PASSED_BY,               /* calls past the C library */
    PW_UNTOLD,                  /* such of which userfaultfd does not tell either */
    PW_BROKEN,                  /* the interception itself is not whole */
    PW_UNSEEN
};

/* Said once, then everything is dropped. */
void pw_hooks_say(enum pw_unseen v, const char *format, const char *what,
                  const char *object);

/* Everything that is registered counts as changed. */
void pw_hooks_lose(void);

/* What went wrong in a survey: the first counts. Under the survey's lock, or in the
 * first one. failed: 0, or that error and its sentence. */
void pw_hooks_fail(int err, const char *format, const char *what, const char *object);
int pw_hooks_failed(const char **why);
void pw_hooks_fail_not(void);

#endif
