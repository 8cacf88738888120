/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_route.c - ways to hosts that may not answer, by a thread of its own.
 *
 * Start at verbs_route_want(). For RoCE the kernel asks who has an IP address (ARP) before it
 * gives an address handle, and waits up to a second where nobody does
 * (ib_resolve_unicast_gid_dmac(), drivers/infiniband/core/verbs.c). Nobody waits with it who
 * needs nic->guard: the thread that does holds no lock meanwhile.
 *
 * A route is wanted, then with the thread, then made; what a way wants it points to, and a
 * route of a way that is gone is dropped when it is made. nic->guard guards way->route and
 * route->way, router->lock the two lists.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "verbs.h"

struct verbs_route {
    struct verbs_route *next;
    struct verbs_way *way;      /* NULL: nobody wants it any more */
    struct ibv_ah_attr to;
    struct ibv_ah *ah;          /* NULL: there is none, */
    int err;                    /* for that reason, positive */
};

static void list_add(struct verbs_route **list, struct verbs_route *route)
{
    while (*list)
        list = &(*list)->next;
    route->next = NULL;
    *list = route;
}

static void route_made(struct verbs_router *router, struct verbs_route *route)
{
    uint64_t one = 1;

    list_add(&router->made, route);
    __atomic_store_n(&router->any_made, true, __ATOMIC_RELEASE);
    if (write(router->bell, &one, sizeof(one)) < 0)
        return;                 /* it rings already */
}

/* Who is not there is not there for others who want it: they do not wait again. */
static void others_fail(struct verbs_router *router, const struct verbs_route *failed)
{
    struct verbs_route **at = &router->wanted;

    while (*at) {
        struct verbs_route *route = *at;

        if (memcmp(&route->to, &failed->to, sizeof(route->to)) != 0) {
            at = &route->next;
            continue;
        }
        *at = route->next;
        route->err = failed->err;
        route_made(router, route);
    }
}

static void *router_main(void *arg)
{
    struct verbs_nic *nic = arg;
    struct verbs_router *router = &nic->router;

    pthread_mutex_lock(&router->lock);
    while (!router->stop) {
        struct verbs_route *route = router->wanted;

        if (!route) {
            pthread_cond_wait(&router->more, &router->lock);
            continue;
        }
        router->wanted = route->next;
        pthread_mutex_unlock(&router->lock);
        errno = 0;
        route->ah = nic->lib->create_ah(nic->pd, &route->to);
        route->err = route->ah ? 0 : errno == ENOMEM ? ENOMEM : EHOSTUNREACH;
        pthread_mutex_lock(&router->lock);
        if (route->err)
            others_fail(router, route);
        route_made(router, route);
    }
    pthread_mutex_unlock(&router->lock);
    return NULL;
}

/* Signals are the program's. */
static int thread_start(struct verbs_nic *nic)
{
    struct verbs_router *router = &nic->router;
    sigset_t all, old;
    int err;

    if (router->has_thread)
        return 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    err = pthread_create(&router->thread, NULL, router_main, nic);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    router->has_thread = !err;
    return err ? -ENOMEM : 0;
}

int verbs_router_open(struct verbs_nic *nic)
{
    struct verbs_router *router = &nic->router;

    pthread_mutex_init(&router->lock, NULL);
    pthread_cond_init(&router->more, NULL);
    router->bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return router->bell < 0 ? -errno : 0;
}

int verbs_route_want(struct verbs_way *way)
{
    struct verbs_router *router = &way->nic->router;
    struct verbs_route *route = calloc(1, sizeof(*route));

    if (!route || thread_start(way->nic)) {
        free(route);
        return -ENOMEM;
    }
    verbs_route_fill(way->nic, &way->to, &route->to);
    route->way = way;
    way->route = route;
    pthread_mutex_lock(&router->lock);
    list_add(&router->wanted, route);
    pthread_cond_signal(&router->more);
    pthread_mutex_unlock(&router->lock);
    return 0;
}

void verbs_route_forget(struct verbs_way *way)
{
    if (way->route)
        way->route->way = NULL;
    way->route = NULL;
}

static void route_deliver(struct verbs_nic *nic, struct verbs_route *route)
{
    struct verbs_way *way = route->way;

    if (way) {
        way->route = NULL;
        verbs_way_routed(way, route->ah, route->err);
    } else if (route->ah) {
        nic->lib->destroy_ah(route->ah);
    }
    free(route);
}

void verbs_routes_made(struct verbs_nic *nic)
{
    struct verbs_router *router = &nic->router;
    struct verbs_route *made;
    uint64_t rings;

    if (!__atomic_load_n(&router->any_made, __ATOMIC_ACQUIRE))
        return;
    pthread_mutex_lock(&router->lock);
    made = router->made;
    router->made = NULL;
    __atomic_store_n(&router->any_made, false, __ATOMIC_RELAXED);
    if (read(router->bell, &rings, sizeof(rings)) < 0)
        rings = 0;              /* it was heard before */
    pthread_mutex_unlock(&router->lock);
    while (made) {
        struct verbs_route *route = made;

        made = route->next;
        route_deliver(nic, route);
    }
}

/* Nobody wants any of them. */
static void routes_free(struct verbs_nic *nic, struct verbs_route *list)
{
    while (list) {
        struct verbs_route *route = list;

        list = route->next;
        route->way = NULL;
        route_deliver(nic, route);
    }
}

void verbs_router_close(struct verbs_nic *nic)
{
    struct verbs_router *router = &nic->router;

    pthread_mutex_lock(&router->lock);
    router->stop = true;
    pthread_cond_signal(&router->more);
    pthread_mutex_unlock(&router->lock);
    if (router->has_thread)
        pthread_join(router->thread, NULL);
    routes_free(nic, router->wanted);
    routes_free(nic, router->made);
    if (router->bell >= 0)
        close(router->bell);
    pthread_cond_destroy(&router->more);
    pthread_mutex_destroy(&router->lock);
}
