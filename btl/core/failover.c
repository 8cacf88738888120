/* SPDX-License-Identifier: BSD-3-Clause */
/* failover.c - paths that come up, fail and return, and peers that are given up.
 *
 * Start at pw_path_down(). All of it is under e->progress.
 *
 *     down ---- connect() ----> trying ---- the peer answers ----> up
 *      ^                          |                                |
 *      +--------------------------+--------------------------------+
 *
 * A path of a NIC that does not answer (PW_NIC_ANSWERS) is up from connect() on, and down
 * for ever. The others are tried again as long as the endpoint lives, which it does while
 * some path is up, and then for config.peer_timeout_ms; less where the peer has said that
 * it leaves, or its host that there is no such process.
 *
 * Always true: frames change their path only together with a replay of all that is not
 * acknowledged, so none of them overtakes another. What a NIC has of a path that is down is
 * given back in progress, not in its upcall, and not while another thread is in a call of
 * it (pw_path_enter()).
 */
#include <stdio.h>

#include "core.h"
#include "guard.h"
#include "path.h"
#include "pinwheel/clock.h"

/* Between two tries to connect, and between two looks for what is due. */
enum { RETRY_FIRST_MS = 100, RETRY_MOST_MS = 1000, LOOK_MS = 10 };

/* Networks that differ by less are alike. */
enum { DELAY_LEAST_NS = 100 * 1000 };

/* So many times in a row the peer's host has said that nobody is there. */
enum { REFUSALS = 3 };

/* Without a path for so long: somebody who looks on is told. */
enum { AWAY_TOLD_MS = 2000 };

#define MS ((uint64_t)1000000)

static bool path_answers(const struct pw_path *path)
{
    return path->nic->info.flags & PW_NIC_ANSWERS;
}

static bool path_lame(const struct pw_path *path, enum pw_path_state state)
{
    return path_answers(path) && state != PW_PATH_UP;
}

static void count_lame(struct pw_path *path, bool now)
{
    struct pw_engine *e = path->ep->e;

    if (path->lame != now)
        __atomic_store_n(&e->n_lame, e->n_lame + (now ? 1 : -1u), __ATOMIC_RELAXED);
    path->lame = now;
}

static void path_set(struct pw_path *path, enum pw_path_state state)
{
    __atomic_store_n(&path->state, state, __ATOMIC_SEQ_CST);
    count_lame(path, path_lame(path, state));
}

static bool some_up(const struct pw_endpoint *ep)
{
    for (int i = 0; i < ep->n_paths; i++)
        if (pw_path_is_up(&ep->paths[i]))
            return true;
    return false;
}

/* From now on frames take the best path there is. */
static void path_change(struct pw_endpoint *ep)
{
    struct pw_path *best = pw_path_best(ep);

    if (best == pw_path_current(ep))
        return;
    __atomic_store_n(&ep->path, best, __ATOMIC_RELEASE);
    /* Without a path too: from then on nobody is in a send on the old one. */
    if (ep->guard)
        pw_guard_replay(ep->guard);
}

static void news(struct pw_endpoint *ep, const char *sentence)
{
    struct pw_engine *e = ep->e;

    if (e->config.up->news && !__atomic_load_n(&ep->closing, __ATOMIC_RELAXED))
        e->config.up->news(e->config.ctx, ep->cookie, sentence);
}

const char *pw_path_name(const struct pw_path *path, char room[PW_PATH_NAME])
{
    const struct pw_engine *e = path->ep->e;
    int i = 0;

    while (i < e->n_nics - 1 && e->nics[i] != path->nic)
        i++;
    snprintf(room, PW_PATH_NAME, "%s%s%.31s", path->nic->ops->name,
             *e->devices[i].name ? " " : "", e->devices[i].name);
    return room;
}

/* ---- the end ---- */

/* All paths' reasons, one after the other. */
static void give_up(struct pw_endpoint *ep, uint64_t now)
{
    char why[PW_NIC_WHY_MAX], name[PW_PATH_NAME];
    int at = snprintf(why, sizeof(why), "no path for %.1f s",
                      (double)(now - ep->away_ns) * 1e-9);

    for (int i = 0; i < ep->n_paths && at < PW_NIC_WHY_MAX; i++)
        at += snprintf(why + at, sizeof(why) - (size_t)at, "%s%s: %s", i ? "; " : ": ",
                       pw_path_name(&ep->paths[i], name),
                       *ep->paths[i].why ? ep->paths[i].why : "it has not answered");
    pw_endpoint_kill(ep, -ETIMEDOUT, why);
}

/* A path is down, and no other is up. Is the peer gone, as far as anybody can tell? */
static bool gone_for_good(struct pw_path *path, int cause, enum pw_path_state was)
{
    struct pw_endpoint *ep = path->ep;

    if (!path_answers(path)) {
        for (int i = 0; i < ep->n_paths; i++)
            if (path_answers(&ep->paths[i]))
                return false;
        return true;
    }
    if (!cause || cause == -EPROTO)
        return true;
    /* Of a connection that stood it may mean that link alone: the next try tells. */
    if (cause != -ECONNREFUSED && cause != -ECONNRESET)
        return false;
    if (was == PW_PATH_TRYING)
        ep->refusals++;
    return ep->refusals >= REFUSALS;
}

/* ---- upcalls of NICs ---- */

void pw_path_start(struct pw_path *path, int err)
{
    struct pw_endpoint *ep = path->ep;
    uint64_t now = pw_now_ns();

    path->retry_ms = RETRY_FIRST_MS;
    path->retry_ns = now + RETRY_FIRST_MS * MS;
    if (err)
        snprintf(path->why, sizeof(path->why), "%s", strerror(-err));
    path_set(path, err ? PW_PATH_DOWN : path_answers(path) ? PW_PATH_TRYING : PW_PATH_UP);
    /* It is not in the endpoint's list yet. */
    if (pw_path_is_up(path))
        ep->away_ns = 0;
    else if (!some_up(ep) && !ep->away_ns)
        ep->away_ns = now;
}

/* As far as it is more than the moods of a machine. */
static void path_measure(struct pw_path *path)
{
    const struct pw_nic_ops *ops = path->nic->ops;
    uint32_t ns = ops->delay ? ops->delay(path->peer) : 0;

    path->delay_ns = ns < DELAY_LEAST_NS ? 0 : ns;
}

void pw_path_up(struct pw_path *path)
{
    struct pw_endpoint *ep = path->ep;
    char sentence[128], name[PW_PATH_NAME];
    bool told = path->lost || ep->away_told;

    __atomic_store_n(&path->broken, false, __ATOMIC_RELAXED);
    __atomic_store_n(&path->doubted, false, __ATOMIC_RELAXED);
    path->fenced = false;
    path_measure(path);
    path_set(path, PW_PATH_UP);
    if (!pw_endpoint_alive(ep))
        return;
    path->retry_ms = 0;
    path->lost = false;
    ep->refusals = 0;
    ep->away_ns = 0;
    ep->away_told = false;
    path_change(ep);
    if (!told)
        return;
    snprintf(sentence, sizeof(sentence), "path %s is back", pw_path_name(path, name));
    news(ep, sentence);
}

static void tell_lost(struct pw_path *path, const char *why)
{
    struct pw_endpoint *ep = path->ep;
    char sentence[PW_NIC_WHY_MAX + 2 * PW_PATH_NAME + 64], name[PW_PATH_NAME],
         other[PW_PATH_NAME];
    struct pw_path *now = pw_path_current(ep);

    path->lost = true;
    snprintf(sentence, sizeof(sentence), "path %s is lost: %s; going on over %s",
             pw_path_name(path, name), why, now ? pw_path_name(now, other) : "none");
    news(ep, sentence);
}

void pw_path_down(struct pw_path *path, int cause, const char *why)
{
    struct pw_endpoint *ep = path->ep;
    enum pw_path_state was = path->state;
    uint64_t now = pw_now_ns();

    path_set(path, PW_PATH_DOWN);
    snprintf(path->why, sizeof(path->why), "%.*s", (int)sizeof(path->why) - 1, why);
    path->retry_ms = !path->retry_ms ? RETRY_FIRST_MS : 2 * path->retry_ms < RETRY_MOST_MS ?
                     2 * path->retry_ms : RETRY_MOST_MS;
    /* A connection that stood is called again at once: its peer may have meant no more. */
    path->retry_ns = now + (was == PW_PATH_UP ? 0 : path->retry_ms * MS);
    path_change(ep);
    if (some_up(ep)) {
        if (was == PW_PATH_UP && cause)
            tell_lost(path, why);
        return;
    }
    /* What was silent is away since it began to be. */
    if (!ep->away_ns)
        ep->away_ns = now - (cause == -ETIMEDOUT ? ep->e->nic_timeout_ms * MS : 0);
    if (gone_for_good(path, cause, was))
        pw_endpoint_kill(ep, cause, why);
}

/* Nothing is lost yet, so nobody is told. What is not acknowledged goes by another path
 * too, for nothing overtakes it; the peer drops what comes twice. */
void pw_path_doubt(struct pw_path *path, bool doubted)
{
    __atomic_store_n(&path->doubted, doubted, __ATOMIC_RELAXED);
    if (doubted)
        pw_count(&path->ep->e->stats.doubted, 1);
    if (pw_path_is_up(path) && pw_endpoint_alive(path->ep))
        path_change(path->ep);
}

void pw_paths_restored(struct pw_engine *e, const struct pw_nic *nic)
{
    for (struct pw_endpoint *ep = __atomic_load_n(&e->endpoints, __ATOMIC_ACQUIRE); ep;
         ep = ep->next)
        for (int i = 0; i < ep->n_paths; i++)
            if (ep->paths[i].nic == nic && ep->paths[i].state == PW_PATH_DOWN) {
                ep->paths[i].retry_ms = 0;
                ep->paths[i].retry_ns = 0;
            }
    e->lame_ns = 0;
}

/* Its bytes may lie in a socket over there, unread: read later, they would come upon what
 * was put since. Alone there is no other way by which anything could overtake them. */
void pw_path_fence(struct pw_path *path)
{
    struct pw_engine *e = path->ep->e;
    struct pw_f_fence f = { .part = (uint32_t)path->part };

    if (path->fenced || path->ep->n_paths < 2)
        return;
    while (e->nics[f.own] != path->nic)
        f.own++;
    path->fenced = !pw_control_send(path->ep, PW_F_FENCE, &f, sizeof(f));
}

/* ---- from progress ---- */

static void path_retry(struct pw_path *path, uint64_t now)
{
    int err;

    if (__atomic_load_n(&path->users, __ATOMIC_SEQ_CST))
        return;     /* somebody is still in a call of it */
    if (path->peer) {
        path->nic->ops->disconnect(path->peer);
        path->peer = NULL;
    }
    err = pw_path_connect(path);
    if (!err) {
        path_set(path, PW_PATH_TRYING);
    } else if (err == -ECONNREFUSED) {
        path->state = PW_PATH_TRYING;
        pw_path_down(path, err, "its process is gone");
    } else {
        path->retry_ms = path->retry_ms < RETRY_MOST_MS / 2 ? 2 * path->retry_ms + 1
                                                            : RETRY_MOST_MS;
        path->retry_ns = now + path->retry_ms * MS;
        snprintf(path->why, sizeof(path->why), "%s", strerror(-err));
    }
}

static void endpoint_step(struct pw_endpoint *ep, uint64_t now)
{
    char sentence[PW_NIC_WHY_MAX + 64];

    for (int i = 0; i < ep->n_paths && pw_endpoint_alive(ep); i++)
        if (ep->paths[i].lame && ep->paths[i].state == PW_PATH_DOWN &&
            now >= ep->paths[i].retry_ns)
            path_retry(&ep->paths[i], now);
    if (!ep->away_ns || !pw_endpoint_alive(ep) || now < ep->away_ns)
        return;
    if (now - ep->away_ns > ep->e->config.peer_timeout_ms * MS) {
        give_up(ep, now);
    } else if (!ep->away_told && now - ep->away_ns > AWAY_TOLD_MS * MS) {
        ep->away_told = true;
        snprintf(sentence, sizeof(sentence), "no path at the moment (%s); waiting for it",
                 *ep->paths[0].why ? ep->paths[0].why : "it has not answered");
        news(ep, sentence);
    }
}

void pw_failover_step(struct pw_engine *e, uint64_t now)
{
    if (now - e->lame_ns < LOOK_MS * MS)
        return;
    e->lame_ns = now;
    for (struct pw_endpoint *ep = __atomic_load_n(&e->endpoints, __ATOMIC_ACQUIRE); ep;
         ep = ep->next)
        if (pw_endpoint_alive(ep) && !__atomic_load_n(&ep->closing, __ATOMIC_RELAXED))
            endpoint_step(ep, now);
}

void pw_paths_close(struct pw_endpoint *ep)
{
    for (int i = 0; i < ep->n_paths; i++) {
        count_lame(&ep->paths[i], false);
        pw_nic_used(ep->e, ep->paths[i].nic, -1u);
        if (ep->paths[i].peer)
            ep->paths[i].nic->ops->disconnect(ep->paths[i].peer);
    }
}
