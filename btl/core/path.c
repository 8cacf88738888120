/* SPDX-License-Identifier: BSD-3-Clause */
/* path.c - which path carries frames, and which way a transfer takes.
 *
 * Start at pw_way_choose().
 */
#include "path.h"
#include "pinwheel/clock.h"

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

/* What such a transfer is expected to take, as far as that is wanted; in ns. */
static uint64_t cost(const struct pw_path *p, size_t len, uint64_t bytes_per_s)
{
    enum pw_want want = p->ep->e->config.want;
    uint64_t ns = 0;

    if (want != PW_WANT_BANDWIDTH)
        ns = (uint64_t)p->nic->info.latency_ns + p->delay_ns;
    if (want != PW_WANT_LATENCY)
        ns += (uint64_t)((double)len * 1e9 / (double)(bytes_per_s ? bytes_per_s : 1));
    return ns;
}

/* By more than chance. */
static bool cheaper(uint64_t ns, uint64_t than_ns)
{
    return ns + ns / 4 < than_ns;
}

/* Of frames the length is not known; a wide path shows with long ones. */
static uint64_t frame_cost(const struct pw_path *p)
{
    return cost(p, p->ep->e->config.want == PW_WANT_BANDWIDTH ? PW_PIECE_FIRST : 0,
                p->nic->info.bytes_per_s);
}

static uint64_t transfer_cost(struct pw_path *p, size_t len)
{
    uint64_t rate, now = pw_now_ns();

    pw_lock(p->ep->e);
    rate = pw_share_rate(&p->share, p->nic->info.bytes_per_s, now);
    pw_unlock(p->ep->e);
    return cost(p, len, rate);
}

/* The one in use stays so where all are doubted: nobody knows better. */
static bool better(const struct pw_path *p, const struct pw_path *than,
                   const struct pw_path *now)
{
    if (pw_path_doubted(p) != pw_path_doubted(than))
        return pw_path_doubted(than);
    if (pw_path_doubted(p) && (p == now || than == now))
        return p == now;
    return cheaper(frame_cost(p), frame_cost(than));
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

/* Both reach the memory, one of them as well as the other. */
static bool transfer_better(struct pw_path *p, struct pw_path *than, enum pw_reach reach,
                            size_t len)
{
    if (pw_path_doubted(p) != pw_path_doubted(than))
        return pw_path_doubted(than);
    return reach == PW_REACH_DIRECT && len >= PW_PIECE_LEAST &&
           2 * transfer_cost(p, len) < transfer_cost(than, len);
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
        if (!best || r > *reach || (r == *reach && transfer_better(p, best, r, len))) {
            best = p;
            *reach = r;
        }
        if (r == PW_REACH_DIRECT && len < PW_PIECE_LEAST && !pw_path_doubted(p))
            break;
    }
    return best;
}
