/* SPDX-License-Identifier: BSD-3-Clause */
/* path.h - which path carries frames, and which way a transfer takes.
 *
 * Pure decisions; no state, no side effects.
 */
#ifndef PW_PATH_H
#define PW_PATH_H

#include "core.h"

enum pw_way {
    PW_WAY_DIRECT,      /* the NIC reaches the memory by itself */
    PW_WAY_KERNEL,      /* through a system call for each transfer */
    PW_WAY_PUSH,        /* the other side copies straight into or from our pool */
    PW_WAY_STREAM,      /* as frames, copied twice, both sides at work */
};

/* What is known about one transfer when its way is chosen. */
struct pw_choice {
    size_t len;
    enum pw_reach reach;    /* of the remote memory */
    bool in_pool;           /* our buffer is in our pool, and the peer maps it */
    bool passive;           /* the owner of the memory may be computing */
};

/* KERNEL or STREAM, where both are possible, is as `bulk` says: the caller knows. */
enum pw_way pw_way_choose(enum pw_way bulk, const struct pw_choice *c);

static inline bool pw_path_is_up(const struct pw_path *path)
{
    return __atomic_load_n(&path->state, __ATOMIC_RELAXED) == PW_PATH_UP;
}

/* New work goes by another, if there is one. */
static inline bool pw_path_doubted(const struct pw_path *path)
{
    return __atomic_load_n(&path->doubted, __ATOMIC_RELAXED);
}

/* The one in use for frames; NULL: none is up. */
static inline struct pw_path *pw_path_current(const struct pw_endpoint *ep)
{
    return __atomic_load_n(&ep->path, __ATOMIC_ACQUIRE);
}

/* For who calls its NIC without e->progress or a guard's lock: false when it is not up.
 * Until pw_path_leave() it is not disconnected. */
static inline bool pw_path_enter(struct pw_path *path)
{
    if (!(path->nic->info.flags & PW_NIC_ANSWERS))
        return true;
    __atomic_fetch_add(&path->users, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&path->state, __ATOMIC_SEQ_CST) == PW_PATH_UP)
        return true;
    __atomic_fetch_sub(&path->users, 1, __ATOMIC_SEQ_CST);
    return false;
}

static inline void pw_path_leave(struct pw_path *path)
{
    if (path->nic->info.flags & PW_NIC_ANSWERS)
        __atomic_fetch_sub(&path->users, 1, __ATOMIC_SEQ_CST);
}

/* The path for frames: with the least latency, or for PW_WANT_BANDWIDTH the widest, of those
 * that are up and, if there are such, not doubted; NULL when none is up. */
struct pw_path *pw_path_best(struct pw_endpoint *ep);

/* The path whose NIC reaches that memory best, and how; of several that reach it by
 * themselves the one that is expected to be done first, as config.want counts that. NULL:
 * none is up. */
struct pw_path *pw_path_reach(struct pw_endpoint *ep, uint64_t remote, size_t len,
                              const struct pw_key *key, enum pw_reach *reach);

/* May transfers there do without a key? */
static inline bool pw_path_keyless(const struct pw_path *path)
{
    return !path->nic->info.key_size || path->nic->info.flags & PW_NIC_KEYS_OPTIONAL;
}

/* The part of a peer's key that is for the NIC of that path; NULL without a key. room may
 * be where it lies. */
const struct pw_nic_key *pw_path_key(const struct pw_path *path, const struct pw_key *key,
                                     struct pw_nic_key *room);

#endif
