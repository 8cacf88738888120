/* SPDX-License-Identifier: BSD-3-Clause */
/* path.c - which path carries frames, and which way a transfer takes.
 *
 * Start at pw_way_choose().
 */
#include "path.h"

enum pw_way pw_way_choose(enum pw_way bulk, const struct pw_choice *c)
{
    if (c->reach == PW_REACH_DIRECT)
        return PW_WAY_DIRECT;
    /* Every other way but the kernel's needs the owner's help. */
    if (c->passive && c->reach == PW_REACH_KERNEL)
        return PW_WAY_KERNEL;
    if (c->in_pool)
        return PW_WAY_PUSH;
    return c->reach == PW_REACH_KERNEL ? bulk : PW_WAY_STREAM;
}

/* The one in use stays so where all are doubted: nobody knows better. */
static bool better(const struct pw_path *p, const struct pw_path *than,
                   const struct pw_path *now)
{
    if (pw_path_doubted(p) != pw_path_doubted(than))
        return pw_path_doubted(than);
    if (pw_path_doubted(p) && (p == now || than == now))
        return p == now;
    return p->nic->info.latency_ns < than->nic->info.latency_ns;
}

struct pw_path *pw_path_best(struct pw_endpoint *ep)
{
    struct pw_path *best = NULL;

    for (int i = 0; i < ep->n_paths; i++) {
        struct pw_path *p = &ep->paths[i];

        if (pw_path_is_up(p) && (!best || better(p, best, pw_path_current(ep))))
            best = p;
    }
    return best;
}

const struct pw_nic_key *pw_path_key(const struct pw_path *path, const struct pw_key *key,
                                     struct pw_nic_key *room)
{
    if (!key || !(path->nic->info.flags & PW_NIC_REGIONS))
        return key ? &key->nic[path->part] : NULL;
    memset(room, 0, sizeof(*room));
    memcpy(room, &key->id, sizeof(key->id));
    return room;
}

struct pw_path *pw_path_reach(struct pw_endpoint *ep, uint64_t remote, size_t len,
                              const struct pw_key *key, enum pw_reach *reach)
{
    struct pw_path *best = NULL;
    /* Pairs with the release in pw_endpoint_connect(). */
    int n = __atomic_load_n(&ep->n_paths, __ATOMIC_ACQUIRE);

    *reach = PW_REACH_NONE;
    for (int i = 0; i < n; i++) {
        struct pw_path *p = &ep->paths[i];
        struct pw_nic_key room;
        enum pw_reach r;

        if (!pw_path_is_up(p) || !pw_path_enter(p))
            continue;
        r = p->nic->ops->reach(p->peer, remote, len, pw_path_key(p, key, &room));
        pw_path_leave(p);
        if (!best || r > *reach ||
            (r == *reach && pw_path_doubted(best) && !pw_path_doubted(p))) {
            best = p;
            *reach = r;
        }
        if (r == PW_REACH_DIRECT && !pw_path_doubted(p))
            break;
    }
    return best;
}
