/* SPDX-License-Identifier: BSD-3-Clause */
/* account.h - bytes pinned, summed over the processes of a user on a host.
 *
 * A process joins, says how much it holds, and leaves. What a process held that
 * ended in whatever way counts no more.
 *
 * join, leave, take, give and look: one at a time. forget: in a forked child.
 */
#ifndef PINWHEEL_ACCOUNT_H
#define PINWHEEL_ACCOUNT_H

#include <stddef.h>
#include <stdint.h>

#include "sys.h"

enum {
    PW_ACCOUNT_PLACES = 1023,       /* budgets at a time; the table is 64 KiB */
    PW_ACCOUNT_NAME_MAX = 64,
    PW_ACCOUNT_PATH_MAX = 192,
    PW_ACCOUNT_WHY_MAX = 256,
};

#define PW_ACCOUNT_DIR "/dev/shm"

struct pw_account_table;

struct pw_account {
    const struct pw_sys *sys;
    struct pw_account_table *table;
    int fd;
    unsigned place;                 /* ours in the table */
    uint64_t limit;                 /* of all together; the first one's */
    uint64_t spaces;                /* which numbers for processes we use, 0 unknown */
    char path[PW_ACCOUNT_PATH_MAX];
};

/* name: letters, digits and '-', or NULL for the user's own. limit: holds if
 * nobody else is there. dir: shorter than 64.
 * 0, or -errno: then why says in a sentence what is wrong. */
int pw_account_join(struct pw_account *a, const struct pw_sys *sys, const char *dir,
                    const char *name, uint64_t limit, char why[PW_ACCOUNT_WHY_MAX]);

/* The last one to leave removes the file. */
void pw_account_leave(struct pw_account *a);

/* In a forked child: drop what is the parent's and change nothing of it. */
void pw_account_forget(struct pw_account *a);

/* Held are `held` bytes, and `more` are wanted. 0, or -EDQUOT with others holding
 * too much, or -ENOMEM when it is too much for us alone. */
int pw_account_take(struct pw_account *a, uint64_t held, uint64_t more);

/* From now on only `held` bytes. */
void pw_account_give(struct pw_account *a, uint64_t held);

/* What all living together hold, and how many hold something. */
uint64_t pw_account_look(struct pw_account *a, unsigned *holders);

#endif
