/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_launch.h - run a program, keep what it prints, and never hang. */
#ifndef PWBENCH_LAUNCH_H
#define PWBENCH_LAUNCH_H

#include <stdbool.h>
#include <stddef.h>

struct pw_launch_result {
    int exit_code;      /* 128 + signal when a signal ended it */
    bool timed_out;
    char *out, *err;    /* stdout and stderr, not NULL; pw_launch_free() */
};

/* Call once, before the first pw_launch(): SIGINT, SIGTERM and SIGHUP then end
 * the running program with all it started, and processes that lose their
 * parent become ours to end. */
void pw_launch_prepare(void);

/* The signal that asked us to stop, or 0. */
int pw_launch_signal(void);

/* If there was one, die of it, so that the caller's shell knows. Else returns. */
void pw_launch_end(void);

/* Run argv (looked up in PATH) with the settings env ("NAME=VALUE", NULL-
 * terminated) added to the environment, and wait, at most seconds. When this
 * returns nothing that was started is left.
 * 0, or -ENOENT and the like  argv[0] could not be started
 *       -EINTR   we were asked to stop
 *       -errno   of pipe2 or fork. On an error there is nothing to free. */
int pw_launch(const char *const argv[], const char *const env[], double seconds,
              struct pw_launch_result *out);

void pw_launch_free(struct pw_launch_result *result);

#endif
