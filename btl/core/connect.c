/* SPDX-License-Identifier: BSD-3-Clause */
/* connect.c - endpoints opened and closed, and who is reached.
 *
 * Start at pw_endpoint_open(). An endpoint is opened and closed under
 * e->progress. When another thread is in there, or we are in an upcall of it,
 * that is left for progress to do (pw_endpoints_chores()): nobody waits for that
 * lock.
 */
#include <stdio.h>
#include <stdlib.h>

#include "address.h"
#include "core.h"
#include "guard.h"
#include "path.h"
#include "rails.h"
#include "regcache/fnv.h"

int pw_engine_address(struct pw_engine *e, void *out, size_t room)
{
    struct pw_part parts[PW_KEY_NICS];

    for (int i = 0; i < e->n_nics; i++) {
        const struct pw_nic_ops *ops = e->nics[i]->ops;

        parts[i] = (struct pw_part){ .name = (const uint8_t *)ops->name,
                                     .name_len = strlen(ops->name) };
        parts[i].len = ops->address(e->nics[i], parts[i].addr);
    }
    return pw_address_write(parts, e->n_nics, out, room);
}

/* How well does that NIC reach what the part is the address of (enum pw_fit)? */
static int part_fit(struct pw_nic *nic, const struct pw_part *part)
{
    if (strlen(nic->ops->name) != part->name_len ||
        memcmp(nic->ops->name, part->name, part->name_len))
        return PW_FIT_NONE;
    return nic->ops->reachable(nic, part->addr, part->len);
}

static uint32_t part_print(const struct pw_part *part)
{
    return pw_fnv32(PW_FNV32, part->addr, part->len);
}

bool pw_engine_reachable(struct pw_engine *e, const void *addr, size_t len)
{
    struct pw_part parts[PW_KEY_NICS];
    int n = pw_address_read(addr, len, parts);

    for (int i = 0; i < e->n_nics; i++)
        for (int j = 0; j < n; j++)
            if (part_fit(e->nics[i], &parts[j]))
                return true;
    return false;
}

void pw_engine_fingerprints(struct pw_engine *e, const void *addr, size_t len,
                            uint32_t prints[PW_KEY_NICS], bool *near)
{
    struct pw_part parts[PW_KEY_NICS];
    int n = pw_address_read(addr, len, parts);

    *near = false;
    memset(prints, 0, PW_KEY_NICS * sizeof(*prints));
    for (int j = 0; j < n; j++)
        prints[j] = part_print(&parts[j]);
    for (int i = 0; i < e->n_nics; i++)
        for (int j = 0; j < n; j++)
            if (e->nics[i]->info.flags & PW_NIC_SAME_HOST)
                *near |= part_fit(e->nics[i], &parts[j]) != PW_FIT_NONE;
}

/* What follows from how many there are on this host and elsewhere: they may be more than
 * the cores, and each without an endpoint may call. */
static void reckon_peers(struct pw_engine *e)
{
    unsigned told = __atomic_load_n(&e->n_near, __ATOMIC_RELAXED);
    unsigned local = __atomic_load_n(&e->n_local, __ATOMIC_RELAXED);
    unsigned near = told > local ? told : local;
    unsigned afar = __atomic_load_n(&e->n_far, __ATOMIC_RELAXED);
    unsigned remote = __atomic_load_n(&e->n_remote, __ATOMIC_RELAXED);

    __atomic_store_n(&e->crowded, e->config.cores && near + 1 > e->config.cores,
                     __ATOMIC_RELAXED);
    for (int i = 0; i < e->n_nics; i++)
        __atomic_store_n(&e->nics[i]->callers,
                         e->nics[i]->info.flags & PW_NIC_SAME_HOST ? near - local :
                         afar > remote ? afar - remote : 0, __ATOMIC_RELAXED);
}

/* Whose threads look at regions. */
static bool borrows(const struct pw_nic *nic)
{
    return nic->info.flags & PW_NIC_REGIONS;
}

void pw_engine_neighbours(struct pw_engine *e, unsigned near, unsigned afar)
{
    /* Who calls from there may be served before we have a path to it. */
    for (int i = 0; i < e->n_nics && afar && !e->locks; i++)
        e->locks = borrows(e->nics[i]);
    pw_lock(e);
    __atomic_store_n(&e->n_near, near, __ATOMIC_RELAXED);
    __atomic_store_n(&e->n_far, afar, __ATOMIC_RELAXED);
    reckon_peers(e);
    pw_unlock(e);
}

/* From now on counted as a peer of this host, one of another, or none. */
static void count_peer(struct pw_endpoint *ep, enum pw_where where)
{
    struct pw_engine *e = ep->e;

    if (ep->where == where)
        return;
    pw_lock(e);
    __atomic_store_n(&e->n_local, e->n_local + (where == PW_IS_NEAR) -
                                  (ep->where == PW_IS_NEAR), __ATOMIC_RELAXED);
    __atomic_store_n(&e->n_remote, e->n_remote + (where == PW_IS_AFAR) -
                                   (ep->where == PW_IS_AFAR), __ATOMIC_RELAXED);
    ep->where = where;
    reckon_peers(e);
    pw_unlock(e);
}

/* ---- paths ---- */

/* What sends and services of that NIC take for granted once it has a peer. */
static void nic_in_use(struct pw_endpoint *ep, const struct pw_nic *nic)
{
    size_t max = nic->info.frame_max;

    /* It borrows regions in threads of its own from now on. */
    if (borrows(nic))
        ep->e->locks = true;
    if (!ep->frame_max || max < ep->frame_max)
        ep->frame_max = max;
}

/* Would it be the same at any other time? */
static bool never(int err)
{
    return err == -EINVAL || err == -EACCES || err == -ECONNREFUSED || err == -ENOMEM;
}

/* One more path, if that NIC connects. Under e->progress. */
static int path_add(struct pw_endpoint *ep, struct pw_nic *nic, int part,
                    const struct pw_part *where)
{
    struct pw_path *path = &ep->paths[ep->n_paths];
    int err;

    *path = (struct pw_path){ .ep = ep, .nic = nic, .part = part };
    nic_in_use(ep, nic);
    err = nic->ops->connect(nic, where->addr, where->len, path, &path->peer);
    /* Where links come back it is tried again. */
    if (err && !(nic->info.flags & PW_NIC_ANSWERS && !never(err)))
        return err;
    pw_nic_used(ep->e, nic, 1);
    pw_path_start(path, err);
    count_peer(ep, nic->info.flags & PW_NIC_SAME_HOST ? PW_IS_NEAR : PW_IS_AFAR);
    /* Pairs with the acquire in pw_path_reach(): other threads look already when we
     * are here from pw_endpoints_chores(). */
    __atomic_store_n(&ep->n_paths, ep->n_paths + 1, __ATOMIC_RELEASE);
    return 0;
}

int pw_path_connect(struct pw_path *path)
{
    struct pw_part parts[PW_KEY_NICS];
    int n = pw_address_read(path->ep->addr, path->ep->addr_len, parts);

    if (path->part >= n)
        return -EINVAL;
    return path->nic->ops->connect(path->nic, parts[path->part].addr,
                                   parts[path->part].len, path, &path->peer);
}

static void why_not(char why[PW_NIC_WHY_MAX], const struct pw_nic *nic, int err)
{
    snprintf(why, PW_NIC_WHY_MAX, "%s: %s", nic->ops->name,
             err == -ECONNREFUSED ? "its process is gone" : strerror(-err));
}

/* By NICs of this host: each that reaches it. Returns the number of those that do, with a
 * path or without. */
static int paths_near(struct pw_endpoint *ep, const struct pw_part *parts, int n, int *err,
                      char why[PW_NIC_WHY_MAX])
{
    int found = 0;

    for (int i = 0; i < ep->e->n_nics; i++) {
        struct pw_nic *nic = ep->e->nics[i];
        int j = 0;

        if (!(nic->info.flags & PW_NIC_SAME_HOST))
            continue;
        while (j < n && !part_fit(nic, &parts[j]))
            j++;
        if (j == n)
            continue;
        found++;
        *err = path_add(ep, nic, j, &parts[j]);
        if (*err)
            why_not(why, nic, *err);
    }
    return found;
}

/* By networks: a path for each pair of NICs. */
static void paths_afar(struct pw_endpoint *ep, const struct pw_part *parts, int n, int *err,
                       char why[PW_NIC_WHY_MAX])
{
    int fit[PW_RAILS][PW_RAILS] = { { 0 } }, n_rails;
    struct pw_engine *e = ep->e;
    struct pw_rail rails[PW_PAIRS];

    _Static_assert((int)PW_RAILS == (int)PW_KEY_NICS && (int)PW_PAIRS == (int)PW_PATHS,
                   "each pair has its path");
    for (int i = 0; i < e->n_nics; i++)
        for (int j = 0; j < n && !(e->nics[i]->info.flags & PW_NIC_SAME_HOST); j++)
            fit[i][j] = part_fit(e->nics[i], &parts[j]);
    n_rails = pw_rails_pair(fit, rails);
    for (int r = 0; r < n_rails; r++) {
        *err = path_add(ep, e->nics[rails[r].own], rails[r].part, &parts[rails[r].part]);
        if (*err)
            why_not(why, e->nics[rails[r].own], *err);
    }
}

/* Does anything need what a guard gives? */
static bool guard_needed(const struct pw_endpoint *ep)
{
    return ep->n_paths > 1 || !(ep->paths[0].nic->info.flags & PW_NIC_LOSSLESS);
}

/* Connect what each NIC can. No network to a peer that this host's memory reaches: should
 * that fail, it does for both. Under e->progress. */
static int endpoint_connect(struct pw_endpoint *ep, const void *addr, size_t len,
                            char why[PW_NIC_WHY_MAX])
{
    struct pw_part parts[PW_KEY_NICS];
    int err = -EHOSTUNREACH, n = pw_address_read(addr, len, parts);

    snprintf(why, PW_NIC_WHY_MAX, "no NIC of this process reaches it");
    if (n < 0)
        return -EINVAL;
    for (int j = 0; j < n; j++)
        ep->prints[j] = part_print(&parts[j]);
    if (!paths_near(ep, parts, n, &err, why))
        paths_afar(ep, parts, n, &err, why);
    if (!ep->n_paths)
        return err;
    if (guard_needed(ep)) {
        err = pw_guard_open(ep);
        if (err)
            return err;
    }
    __atomic_store_n(&ep->path, pw_path_best(ep), __ATOMIC_RELEASE);
    return 0;
}

/* A NIC of a peer that we have an endpoint for calls one of ours that we had not paired it
 * with. Under e->progress. */
static void endpoint_called(struct pw_endpoint *ep, struct pw_nic *nic, int j,
                            const void *addr, size_t len)
{
    struct pw_part part = { .len = len };

    for (int i = 0; i < ep->n_paths; i++)
        if (ep->paths[i].nic == nic && ep->paths[i].part == j)
            return;
    if (ep->where != PW_IS_AFAR || ep->n_paths == PW_PATHS || len > sizeof(part.addr))
        return;
    memcpy(part.addr, addr, len);
    if (path_add(ep, nic, j, &part))
        return;
    if (!pw_path_current(ep))
        __atomic_store_n(&ep->path, pw_path_best(ep), __ATOMIC_RELEASE);
}

/* Is it the peer's, as far as that is kept? Fingerprints are of 32 bits, so two of many
 * peers may have the same. */
static bool part_is(const struct pw_endpoint *ep, int j, const void *part, size_t len)
{
    struct pw_part parts[PW_KEY_NICS];

    return !ep->addr || (j < pw_address_read(ep->addr, ep->addr_len, parts) &&
                         parts[j].len == len && !memcmp(parts[j].addr, part, len));
}

void pw_engine_called(struct pw_engine *e, struct pw_nic *nic, const void *part, size_t len)
{
    uint32_t print = pw_fnv32(PW_FNV32, part, len);

    /* Pairs with the release in endpoint_list(). */
    for (struct pw_endpoint *ep = __atomic_load_n(&e->endpoints, __ATOMIC_ACQUIRE); ep;
         ep = ep->next)
        for (int j = 0; j < PW_KEY_NICS && pw_endpoint_alive(ep); j++)
            if (ep->prints[j] == print && ep->n_paths && part_is(ep, j, part, len)) {
                endpoint_called(ep, nic, j, part, len);
                return;
            }
    if (e->config.up->caller)
        e->config.up->caller(e->config.ctx, print);
}

static struct pw_endpoint *endpoint_new(struct pw_engine *e, void *cookie)
{
    struct pw_endpoint *ep = calloc(1, sizeof(*ep));

    if (!ep)
        return NULL;
    ep->e = e;
    ep->cookie = cookie;
    ep->queue_end = &ep->queue;
    ep->streams_end = &ep->streams;
    return ep;
}

static int address_keep(struct pw_endpoint *ep, const void *addr, size_t len)
{
    ep->addr = malloc(len);
    if (!ep->addr)
        return -ENOMEM;
    memcpy(ep->addr, addr, len);
    ep->addr_len = len;
    return 0;
}

/* Connected: only networks may have to be called again. */
static void address_drop(struct pw_endpoint *ep)
{
    if (ep->where == PW_IS_AFAR)
        return;
    free(ep->addr);
    ep->addr = NULL;
}

/* Under e->lock: progress has something to look for. */
static void chore_add(struct pw_engine *e)
{
    __atomic_store_n(&e->n_chores, e->n_chores + 1, __ATOMIC_RELAXED);
}

/* Not connected: that is a chore, which nobody may find before the endpoint. */
static void endpoint_list(struct pw_endpoint *ep, bool connected)
{
    struct pw_engine *e = ep->e;

    pw_lock(e);
    ep->next = e->endpoints;
    /* Pairs with the acquire in progress_slow(). */
    __atomic_store_n(&e->endpoints, ep, __ATOMIC_RELEASE);
    __atomic_store_n(&e->n_endpoints, e->n_endpoints + 1, __ATOMIC_RELAXED);
    if (!connected)
        chore_add(e);
    pw_unlock(e);
}

int pw_endpoint_open(struct pw_engine *e, const void *addr, size_t len, void *cookie,
                     struct pw_endpoint **out, char why[PW_NIC_WHY_MAX])
{
    struct pw_endpoint *ep;
    bool now;
    int err;

    *out = NULL;
    why[0] = '\0';
    if (!len || len > PW_ADDRESS_MAX)
        return -EINVAL;
    ep = endpoint_new(e, cookie);
    if (!ep)
        return -ENOMEM;
    now = pw_progress_enter(e);
    ep->put_off = !now;
    err = address_keep(ep, addr, len);
    if (!err && now)
        err = endpoint_connect(ep, addr, len, why);
    if (!err && now)
        address_drop(ep);
    if (err) {
        count_peer(ep, PW_IS_NOWHERE);
        pw_endpoint_free(ep);
    }
    if (now)
        pw_progress_leave(e);
    if (err)
        return err;
    endpoint_list(ep, now);
    *out = ep;
    return 0;
}

static void endpoint_unlist(struct pw_endpoint *ep)
{
    struct pw_engine *e = ep->e;

    pw_lock(e);
    for (struct pw_endpoint **at = &e->endpoints; *at; at = &(*at)->next)
        if (*at == ep) {
            *at = ep->next;
            break;
        }
    __atomic_store_n(&e->n_endpoints, e->n_endpoints - 1, __ATOMIC_RELAXED);
    pw_unlock(e);
}

/* Under e->progress. */
static void endpoint_end(struct pw_endpoint *ep)
{
    while (ep->waiting && pw_endpoint_alive(ep) && pw_endpoint_pump(ep) > 0)
        ;
    count_peer(ep, PW_IS_NOWHERE);
    endpoint_unlist(ep);
    pw_endpoint_free(ep);
}

void pw_endpoint_close(struct pw_endpoint *ep)
{
    struct pw_engine *e;

    if (!ep)
        return;
    e = ep->e;
    if (!pw_progress_enter(e)) {
        pw_lock(e);
        __atomic_store_n(&ep->closing, true, __ATOMIC_RELAXED);
        chore_add(e);
        pw_unlock(e);
        return;
    }
    endpoint_end(ep);
    pw_progress_leave(e);
}

/* What open and close left to do. Under e->progress. */
void pw_endpoints_chores(struct pw_engine *e)
{
    struct pw_endpoint *ep, *next;

    pw_lock(e);
    __atomic_store_n(&e->n_chores, 0, __ATOMIC_RELAXED);
    ep = e->endpoints;
    pw_unlock(e);
    for (; ep; ep = next) {
        char why[PW_NIC_WHY_MAX];

        next = ep->next;
        if (__atomic_load_n(&ep->closing, __ATOMIC_RELAXED)) {
            endpoint_end(ep);
        } else if (ep->put_off) {
            int err = endpoint_connect(ep, ep->addr, ep->addr_len, why);

            ep->put_off = false;
            address_drop(ep);
            if (err)
                pw_endpoint_kill(ep, err, why);
        }
    }
}
