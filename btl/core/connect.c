/* SPDX-License-Identifier: BSD-3-Clause */
/* connect.c - addresses, and endpoints opened and closed.
 *
 * Start at pw_endpoint_open(). An endpoint is opened and closed under
 * e->progress. When another thread is in there, or we are in an upcall of it,
 * that is left for progress to do (pw_endpoints_chores()): nobody waits for that
 * lock.
 */
#include <stdio.h>
#include <stdlib.h>

#include "core.h"
#include "guard.h"
#include "path.h"
#include "regcache/fnv.h"

/* An engine's address: for each NIC its name's length and bytes, its address's
 * length and bytes. */
enum { PW_ADDRESS_MAGIC = 0x70, PW_ADDRESS_VERSION = 2 };
enum { PW_ADDRESS_MAX = PW_KEY_NICS * (PW_NIC_ADDRESS_MAX + 16) };

int pw_engine_address(struct pw_engine *e, void *out, size_t room)
{
    uint8_t *p = out, nic_addr[PW_NIC_ADDRESS_MAX];
    size_t at = 3;

    if (room < at)
        return -ENOSPC;
    p[0] = PW_ADDRESS_MAGIC;
    p[1] = PW_ADDRESS_VERSION;
    p[2] = (uint8_t)e->n_nics;
    for (int i = 0; i < e->n_nics; i++) {
        const struct pw_nic_ops *ops = e->nics[i]->ops;
        size_t name = strlen(ops->name), len = ops->address(e->nics[i], nic_addr);

        if (at + 2 + name + len > room)
            return -ENOSPC;
        p[at++] = (uint8_t)name;
        memcpy(p + at, ops->name, name);
        at += name;
        p[at++] = (uint8_t)len;
        memcpy(p + at, nic_addr, len);
        at += len;
    }
    return (int)at;
}

/* The part of an engine's address that is for `nic`; NULL when there is none
 * or the address is malformed (then *bad). */
static const uint8_t *address_part(const struct pw_nic *nic, const void *addr,
                                   size_t len, size_t *part_len, bool *bad)
{
    const uint8_t *p = addr, *end = p + len, *found = NULL;

    *bad = true;
    if (len < 3 || p[0] != PW_ADDRESS_MAGIC || p[1] != PW_ADDRESS_VERSION)
        return NULL;
    int n = p[2];
    p += 3;
    while (n--) {
        const uint8_t *name = p + 1;
        if (p == end || (size_t)(end - p) < 2u + *p)
            return NULL;
        const uint8_t *part = name + *p;
        if ((size_t)(end - part) < 1u + *part)
            return NULL;
        if (*p == strlen(nic->ops->name) && !memcmp(name, nic->ops->name, *p)) {
            found = part + 1;
            *part_len = *part;
        }
        p = part + 1 + *part;
    }
    *bad = false;
    return found;
}

bool pw_engine_reachable(struct pw_engine *e, const void *addr, size_t len)
{
    for (int i = 0; i < e->n_nics; i++) {
        size_t n;
        bool bad;
        const uint8_t *part = address_part(e->nics[i], addr, len, &n, &bad);
        if (part && e->nics[i]->ops->reachable(e->nics[i], part, n))
            return true;
    }
    return false;
}

uint32_t pw_engine_fingerprint(struct pw_engine *e, const void *addr, size_t len,
                               bool *near)
{
    uint32_t first = 0;
    bool found = false;

    *near = false;
    for (int i = 0; i < e->n_nics; i++) {
        size_t n;
        bool bad;
        const uint8_t *part = address_part(e->nics[i], addr, len, &n, &bad);

        if (!part || !e->nics[i]->ops->reachable(e->nics[i], part, n))
            continue;
        if (!found)
            first = pw_fnv32(PW_FNV32, part, n);
        found = true;
        *near |= e->nics[i]->info.flags & PW_NIC_SAME_HOST;
    }
    return first;
}

void pw_engine_called(struct pw_engine *e, const void *part, size_t len)
{
    if (e->config.up->caller)
        e->config.up->caller(e->config.ctx, pw_fnv32(PW_FNV32, part, len));
}

/* What follows from how many there are on this host: they may be more than the cores, and
 * each without an endpoint may call. */
static void reckon_local(struct pw_engine *e)
{
    unsigned told = __atomic_load_n(&e->n_near, __ATOMIC_RELAXED);
    unsigned local = __atomic_load_n(&e->n_local, __ATOMIC_RELAXED);
    unsigned near = told > local ? told : local;

    __atomic_store_n(&e->crowded, e->config.cores && near + 1 > e->config.cores,
                     __ATOMIC_RELAXED);
    for (int i = 0; i < e->n_nics; i++)
        if (e->nics[i]->info.flags & PW_NIC_SAME_HOST)
            __atomic_store_n(&e->nics[i]->callers, near - local, __ATOMIC_RELAXED);
}

void pw_engine_neighbours(struct pw_engine *e, unsigned n)
{
    pw_lock(e);
    __atomic_store_n(&e->n_near, n, __ATOMIC_RELAXED);
    reckon_local(e);
    pw_unlock(e);
}

static void count_local(struct pw_endpoint *ep, bool here)
{
    struct pw_engine *e = ep->e;

    if (ep->local == here)
        return;
    ep->local = here;
    pw_lock(e);
    __atomic_store_n(&e->n_local, e->n_local + (here ? 1 : -1u), __ATOMIC_RELAXED);
    reckon_local(e);
    pw_unlock(e);
}

/* Connect what each NIC can. Under e->progress. */
static int endpoint_connect(struct pw_endpoint *ep, const void *addr, size_t len,
                            char why[PW_NIC_WHY_MAX])
{
    struct pw_engine *e = ep->e;
    bool guarded = false;
    int err = -EHOSTUNREACH;

    snprintf(why, PW_NIC_WHY_MAX, "no NIC of this process reaches it");
    for (int i = 0; i < e->n_nics; i++) {
        struct pw_nic *nic = e->nics[i];
        struct pw_path *path = &ep->paths[ep->n_paths];
        size_t n;
        bool bad;
        const uint8_t *part = address_part(nic, addr, len, &n, &bad);

        if (bad)
            return -EINVAL;
        if (!part || !nic->ops->reachable(nic, part, n))
            continue;
        *path = (struct pw_path){ .ep = ep, .nic = nic };
        err = nic->ops->connect(nic, part, n, path, &path->peer);
        if (err) {
            snprintf(why, PW_NIC_WHY_MAX, "%s: %s", nic->ops->name,
                     err == -ECONNREFUSED ? "its process is gone" : strerror(-err));
            continue;
        }
        path->alive = true;
        if (nic->info.flags & PW_NIC_SAME_HOST)
            count_local(ep, true);
        guarded |= !(nic->info.flags & PW_NIC_LOSSLESS) || ep->n_paths;
        /* Pairs with the acquire in pw_path_reach(): other threads look already when we
         * are here from pw_endpoints_chores(). */
        __atomic_store_n(&ep->n_paths, ep->n_paths + 1, __ATOMIC_RELEASE);
    }
    if (!ep->n_paths)
        return err;
    if (guarded) {
        err = pw_guard_open(ep);
        if (err)
            return err;
    }
    __atomic_store_n(&ep->path, pw_path_best(ep), __ATOMIC_RELEASE);
    return 0;
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

/* Progress is to connect it. */
static int endpoint_put_off(struct pw_endpoint *ep, const void *addr, size_t len)
{
    ep->addr = malloc(len);
    if (!ep->addr)
        return -ENOMEM;
    memcpy(ep->addr, addr, len);
    ep->addr_len = len;
    return 0;
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
    err = now ? endpoint_connect(ep, addr, len, why) : endpoint_put_off(ep, addr, len);
    if (err) {
        count_local(ep, false);
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
    count_local(ep, false);
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
        } else if (ep->addr) {
            int err = endpoint_connect(ep, ep->addr, ep->addr_len, why);

            free(ep->addr);
            ep->addr = NULL;
            if (err)
                pw_endpoint_kill(ep, err, why);
        }
    }
}
