/* SPDX-License-Identifier: BSD-3-Clause */
/* live.h - what a running process counts, for who looks from outside.
 *
 * The owner keeps a page of shared memory open, an anonymous file that shows as
 * "/memfd:pinwheel-stats (deleted)" in /proc/PID/fd. Who may open it there (the same
 * user, root) reads; nobody is stopped or even asked. It says itself what it
 * holds: texts and numbers, each with its name.
 *
 * Each number is whole, but two may be of different moments. All are as old as
 * `updated_ns` says: the owner writes when it comes by, and a process that computes
 * does not.
 */
#ifndef PINWHEEL_LIVE_H
#define PINWHEEL_LIVE_H

#include <stdint.h>
#include <sys/types.h>

#pragma GCC visibility push(default)
#ifdef __cplusplus
extern "C" {
#endif

#define PW_LIVE_FILE "pinwheel-stats"
#define PW_LIVE_MAGIC 0x6576696c2d777000u   /* "\0pw-live" */

enum {
    PW_LIVE_VERSION = 1,
    PW_LIVE_NAME = 40, PW_LIVE_TEXT = 472,      /* bytes, the final 0 included */
    PW_LIVE_TEXTS = 4, PW_LIVE_VALUES = 120,    /* at most */
};

struct pw_live_text {
    char name[PW_LIVE_NAME], text[PW_LIVE_TEXT];
};
struct pw_live_value {
    char name[PW_LIVE_NAME];
    uint64_t value;
};

/* The file, from its start. Unused places are zero. */
struct pw_live_page {
    uint64_t magic;
    uint32_t version;
    int32_t pid;                /* the owner's, as it sees itself: a child that it
                                 * forked has the page open too */
    uint64_t updated_ns;        /* CLOCK_MONOTONIC; 0: no numbers yet */
    uint32_t n_texts, n_values;
    struct pw_live_text texts[PW_LIVE_TEXTS];
    struct pw_live_value values[PW_LIVE_VALUES];
};

/* ---- the owner ---- */

struct pw_live;

/* A page with these n numbers, all 0.
 * 0, or -EINVAL  too many, or a name too long
 *       -ENOMEM
 *       -EFBIG   RLIMIT_FSIZE is smaller than that
 *       -errno   of memfd_create(2) or mmap(2): such a machine has no page */
int pw_live_open(const char *const names[], unsigned n, struct pw_live **out);
void pw_live_close(struct pw_live *live);       /* NULL is fine */

/* Set a text, cut to fit. 0, or -ENOSPC when all places are other names'. */
int pw_live_tell(struct pw_live *live, const char *name, const char *text);

/* Set all n numbers. tell and update: one thread at a time, not in a forked child. */
void pw_live_update(struct pw_live *live, const uint64_t values[]);

/* ---- who looks ---- */

/* Copy a page of that process: its first one, or with skip the next ones.
 * 0, or -ENOENT  it has no (further) page
 *       -ESRCH   there is no such process
 *       -EACCES, -EPERM  it is another user's
 *       -EPROTO  a page of another version, or none of ours
 *       -errno   else */
int pw_live_read(pid_t pid, unsigned skip, struct pw_live_page *out);

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop
#endif
