/* SPDX-License-Identifier: BSD-3-Clause */
/* budget.c - how much may this process pin, and is there room on the host?
 *
 * Start at pw_budget_charge(). What this process holds is counted here; what all
 * processes of the user hold together, in the host's account (account.c).
 *
 * Always true: the account says at least what `used_bytes` says, and no more once
 * no call is going on. A forked child has no account until its first call.
 *
 * b->lock guards everything. Charging happens on a miss, next to a system call
 * that pins, and so may take a lock.
 */
#define _GNU_SOURCE
#include "budget_sys.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "account.h"

#define CAP_IPC_LOCK 14                 /* Linux include/uapi/linux/capability.h */
#define REGIONS_DEFAULT 65536
#define RAM_UNKNOWN ((uint64_t)4 << 30)

enum host_state { HOST_UNKNOWN, HOST_JOINED, HOST_MISSING };

struct pw_budget {
    pthread_mutex_t lock;
    const struct pw_sys *sys;
    pid_t owner;                        /* else a child has forgotten to say so */
    size_t rank_bytes, rank_regions;    /* limits */
    size_t host_bytes;                  /* as configured; the account's may differ */
    unsigned sharers;
    size_t used_bytes, used_regions;

    enum host_state host;
    struct pw_account account;          /* JOINED */
    char why[PW_ACCOUNT_WHY_MAX];       /* MISSING */
    char dir[64], name[PW_ACCOUNT_NAME_MAX + 1];
};

/* ------------------------------------------------------------------- defaults */

/* The limit is waived for who may lock memory, in the host's own user namespace:
 * root of a container has the capability and not the privilege. */
static bool memlock_binds(const struct pw_sys *sys)
{
    unsigned long long effective = 0, inside, outside, count;
    char text[4096], *at;

    if (sys->read_text("/proc/self/uid_map", text, sizeof text) == 0 &&
        (sscanf(text, "%llu %llu %llu", &inside, &outside, &count) != 3 ||
         inside != 0 || outside != 0 || count != UINT32_MAX))
        return true;
    if (sys->read_text("/proc/self/status", text, sizeof text))
        return true;
    at = strstr(text, "\nCapEff:");
    if (at)
        effective = strtoull(at + strlen("\nCapEff:"), NULL, 16);
    return !(effective >> CAP_IPC_LOCK & 1);
}

static uint64_t ram(const struct pw_sys *sys)
{
    uint64_t bytes = sys->ram();

    return bytes ? bytes : RAM_UNKNOWN;
}

static size_t rank_bytes_default(const struct pw_sys *sys, unsigned sharers)
{
    struct rlimit lim;

    if (sys->getrlimit(RLIMIT_MEMLOCK, &lim) == 0 && lim.rlim_cur != RLIM_INFINITY &&
        memlock_binds(sys))
        return lim.rlim_cur / 4 * 3;
    return ram(sys) / 4 / sharers;
}

static bool name_valid(const char *name)
{
    size_t n = strlen(name);

    if (n == 0 || n > PW_ACCOUNT_NAME_MAX)
        return false;
    for (; *name; name++)
        if (!(*name >= 'a' && *name <= 'z') && !(*name >= 'A' && *name <= 'Z') &&
            !(*name >= '0' && *name <= '9') && *name != '-')
            return false;
    return true;
}

/* ------------------------------------------------------------------- the host */

/* Again after fork: then a child asks for itself. */
static void host_join(struct pw_budget *b)
{
    if (b->host != HOST_UNKNOWN)
        return;
    b->host = pw_account_join(&b->account, b->sys, b->dir, b->name[0] ? b->name : NULL,
                              b->host_bytes, b->why) ? HOST_MISSING : HOST_JOINED;
}

static size_t host_limit(const struct pw_budget *b)
{
    return b->host == HOST_JOINED ? b->account.limit : b->host_bytes;
}

/* Without an account, each takes its share of the host's and no more. */
static size_t rank_limit(const struct pw_budget *b)
{
    size_t share = b->host_bytes / b->sharers;

    return b->host == HOST_MISSING && share < b->rank_bytes ? share : b->rank_bytes;
}

/* ----------------------------------------------------------------- the budget */

int pw_budget_charge(struct pw_budget *b, size_t bytes, size_t regions)
{
    int err = 0;

    pthread_mutex_lock(&b->lock);
    host_join(b);
    if (regions > b->rank_regions - b->used_regions ||
        bytes > rank_limit(b) - b->used_bytes)
        err = -ENOMEM;
    else if (b->host == HOST_JOINED)
        err = pw_account_take(&b->account, b->used_bytes, bytes);
    if (!err) {
        b->used_bytes += bytes;
        b->used_regions += regions;
    }
    pthread_mutex_unlock(&b->lock);
    return err;
}

void pw_budget_credit(struct pw_budget *b, size_t bytes, size_t regions)
{
    pthread_mutex_lock(&b->lock);
    b->used_bytes -= bytes < b->used_bytes ? bytes : b->used_bytes;
    b->used_regions -= regions < b->used_regions ? regions : b->used_regions;
    if (b->host == HOST_JOINED)
        pw_account_give(&b->account, b->used_bytes);
    pthread_mutex_unlock(&b->lock);
}

/* Another thread may have held the lock when the process was forked, and left
 * anything half done. A descriptor it was just opening is lost to the child; the
 * account tells by other means that the parent is gone (account.c). */
void pw_budget_forked(struct pw_budget *b)
{
    pthread_mutex_init(&b->lock, NULL);
    if (b->host == HOST_JOINED)
        pw_account_forget(&b->account);
    b->host = HOST_UNKNOWN;
    b->owner = getpid();
    b->used_bytes = b->used_regions = 0;
}

void pw_budget_describe(struct pw_budget *b, struct pw_budget_info *out)
{
    pthread_mutex_lock(&b->lock);
    host_join(b);
    *out = (struct pw_budget_info){
        .rank_bytes = rank_limit(b),
        .rank_regions = b->rank_regions,
        .host_bytes = host_limit(b),
        .used_bytes = b->used_bytes,
        .used_regions = b->used_regions,
        .host_used_bytes = b->used_bytes,
        .processes = b->used_bytes > 0,
    };
    if (b->host == HOST_JOINED)
        out->host_used_bytes = pw_account_look(&b->account, &out->processes);
    else
        memcpy(out->why, b->why, sizeof out->why);
    pthread_mutex_unlock(&b->lock);
}

int pw_budget_open_sys(const struct pw_budget_config *config, const struct pw_sys *sys,
                       const char *dir, struct pw_budget **out)
{
    struct pw_budget *b;

    *out = NULL;
    if (config->name && !name_valid(config->name))
        return -EINVAL;
    b = calloc(1, sizeof *b);
    if (!b)
        return -ENOMEM;

    pthread_mutex_init(&b->lock, NULL);
    b->sys = sys;
    b->owner = getpid();
    b->sharers = config->sharers ? config->sharers : 1;
    b->rank_bytes = config->rank_bytes ? config->rank_bytes
                                       : rank_bytes_default(sys, b->sharers);
    b->rank_regions = config->rank_regions ? config->rank_regions : REGIONS_DEFAULT;
    b->host_bytes = config->host_bytes ? config->host_bytes : ram(sys) / 2;
    snprintf(b->dir, sizeof b->dir, "%s", dir);
    snprintf(b->name, sizeof b->name, "%s", config->name ? config->name : "");
    host_join(b);
    *out = b;
    return 0;
}

int pw_budget_open(const struct pw_budget_config *config, struct pw_budget **out)
{
    return pw_budget_open_sys(config, &pw_sys_real, PW_ACCOUNT_DIR, out);
}

void pw_budget_close(struct pw_budget *b)
{
    if (!b)
        return;
    /* A child that runs its parent's exit handlers: the account is the parent's. */
    if (b->owner != getpid())
        pw_budget_forked(b);
    if (b->host == HOST_JOINED)
        pw_account_leave(&b->account);
    pthread_mutex_destroy(&b->lock);
    free(b);
}
