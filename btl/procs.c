/* SPDX-License-Identifier: BSD-3-Clause */
/* procs.c - which ranks there are, their first use, and their death.
 *
 * Start at pw_add_procs(). A rank's address was published to all jobs of the
 * user, because ranks of two mpiruns may meet later (MPI_Comm_connect) and Open
 * MPI calls those remote even on the same host: the NICs decide who is near.
 *
 * A rank that we never talk to costs a struct mca_btl_base_endpoint_t and nothing else.
 * Whatever is asked of it first opens it (pw_peer()), or its own call does
 * (pw_procs_caller()); its address is fetched again for that, from Open MPI, which keeps
 * it anyway.
 *
 * peers_lock guards the list and the opening. Who holds it never waits for progress,
 * in which the call of a peer waits for it.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>

#include "opal/mca/base/mca_base_var.h"
#include "pinwheel.h"
#include "regcache/fnv.h"

static pthread_mutex_t peers_lock = PTHREAD_MUTEX_INITIALIZER;

/* Open MPI tells us of a rank on another host when the program first sends to it. But it
 * may call us before that, and who is not in our list is let in by nobody: so we want all
 * of them told at MPI_Init. That is decided after us; its parameter is written where it lies,
 * for it is not marked as one that may be set. */
static void know_all(void)
{
    int var = mca_base_var_find("ompi", "mpi", NULL, "add_procs_cutoff");
    uint32_t *cutoff = NULL;

    if (var >= 0 && mca_base_var_get_value(var, &cutoff, NULL, NULL) == OPAL_SUCCESS && cutoff)
        *cutoff = UINT32_MAX;
}

int pw_procs_publish(void)
{
    uint8_t address[1024];
    int len = pw_engine_address(pw_module.engine, address, sizeof(address)), rc;

    know_all();
    if (len < 0)
        return pw_opal_error(len);
    pw_tell(5, "%d bytes of address for other ranks", len);
    OPAL_MODEX_SEND(rc, OPAL_PMIX_GLOBAL, &mca_btl_pinwheel_component.btl_version, address,
                    (size_t)len);
    return rc;
}

static const char *proc_host(struct opal_proc_t *proc)
{
    const char *host = opal_get_proc_hostname(proc);

    return host ? host : "an unknown host";
}

/* One that died ends its own job in Open MPI; ranks of another job that was joined go on,
 * and only what they still have with it fails. */
static void peer_lost(struct pw_module *m, struct mca_btl_base_endpoint_t *peer,
                      const char *what, const char *why)
{
    bool ours = peer->proc->proc_name.jobid == opal_proc_local_get()->proc_name.jobid;

    if (peer->told)
        return;
    peer->told = true;
    pw_say(false, "rank %s on %s %s: %s%s", OPAL_NAME_PRINT(peer->proc->proc_name),
           proc_host(peer->proc), what, why,
           ours ? "" : ". It was of another job: this one goes on; what still waits for "
                       "it will wait in vain");
    if (ours && m->error_cb)
        m->error_cb(&m->super, MCA_BTL_ERROR_FLAGS_FATAL, peer->proc,
                    (char *)(uintptr_t)why);
}

/* What that rank published; to be freed. NULL: it runs without pinwheel. */
static uint8_t *proc_address(struct opal_proc_t *proc, size_t *len)
{
    uint8_t *address = NULL;
    int rc;

    *len = 0;
    OPAL_MODEX_RECV(rc, &mca_btl_pinwheel_component.btl_version, &proc->proc_name, &address,
                    len);
    return OPAL_SUCCESS == rc ? address : NULL;
}

static struct mca_btl_base_endpoint_t *peer_new(struct pw_module *m,
                                                struct opal_proc_t *proc)
{
    struct mca_btl_base_endpoint_t *peer = NULL;
    size_t len;
    uint8_t *address = proc_address(proc, &len);

    if (address && pw_engine_reachable(m->engine, address, len)) {
        peer = calloc(1, sizeof(*peer));
        if (peer) {
            peer->proc = proc;
            pw_engine_fingerprints(m->engine, address, len, peer->fingerprints,
                                   &peer->near);
        }
    }
    free(address);
    return peer;
}

/* Under peers_lock: n more, or one less. */
static void peer_count(struct pw_module *m, const struct mca_btl_base_endpoint_t *peer,
                       unsigned n)
{
    if (peer->near)
        m->n_near += n;
    else
        m->n_far += n;
    pw_engine_neighbours(m->engine, m->n_near, m->n_far);
}

static void peer_list(struct pw_module *m, struct mca_btl_base_endpoint_t *peer)
{
    pthread_mutex_lock(&peers_lock);
    peer->next = m->endpoints;
    m->endpoints = peer;
    peer_count(m, peer, 1);
    pthread_mutex_unlock(&peers_lock);
}

static bool peer_unlist(struct pw_module *m, struct mca_btl_base_endpoint_t *peer)
{
    struct mca_btl_base_endpoint_t **at = &m->endpoints;

    pthread_mutex_lock(&peers_lock);
    while (*at && *at != peer)
        at = &(*at)->next;
    if (*at) {
        *at = peer->next;
        peer_count(m, peer, -1u);
    }
    pthread_mutex_unlock(&peers_lock);
    return *at != NULL;
}

static void peer_close(struct mca_btl_base_endpoint_t *peer)
{
    pw_endpoint_close(peer->ep);
    free(peer);
}

/* osc/rdma of Open MPI 4.1 keeps what it knows of a window's ranks on the first rank of
 * each host, and reads it through the endpoint of that rank, which may be itself: without
 * one, MPI_Put crashes where ranks of several hosts are numbered in turn. Having it, we also
 * get what is sent to ourselves, for our exclusivity is above that of btl/self. Refused: no
 * path is made. */
struct mca_btl_base_endpoint_t pw_own = { .near = true, .refused = true };

static struct mca_btl_base_endpoint_t *peer_find(struct pw_module *m,
                                                 const struct opal_proc_t *proc)
{
    struct mca_btl_base_endpoint_t *peer;

    pthread_mutex_lock(&peers_lock);
    for (peer = m->endpoints; peer && peer->proc != proc; peer = peer->next)
        ;
    pthread_mutex_unlock(&peers_lock);
    return peer;
}

/* Both modules ask for each rank, one after the other; it has one endpoint. */
static struct mca_btl_base_endpoint_t *peer_get(struct pw_module *m, struct opal_proc_t *proc)
{
    struct mca_btl_base_endpoint_t *peer = peer_find(m, proc);

    if (!peer && (peer = peer_new(m, proc)))
        peer_list(m, peer);
    return peer;
}

/* Of the module for ranks of other hosts those of ours are none. */
static bool peer_is_of(const struct mca_btl_base_module_t *btl,
                       const struct mca_btl_base_endpoint_t *peer)
{
    return peer && (btl != &pw_far || !peer->near);
}

int pw_add_procs(struct mca_btl_base_module_t *btl, size_t n, struct opal_proc_t **procs,
                 struct mca_btl_base_endpoint_t **peers, opal_bitmap_t *reachable)
{
    struct pw_module *m = &pw_module;

    pw_windows_prefer_sm();
    for (size_t i = 0; i < n; i++) {
        struct mca_btl_base_endpoint_t *peer;
        bool own = procs[i] == opal_proc_local_get();

        peer = own ? &pw_own : peer_get(m, procs[i]);
        peers[i] = peer_is_of(btl, peer) ? peer : NULL;
        if (peers[i] && reachable)
            opal_bitmap_set_bit(reachable, (int)i);
    }
    return OPAL_SUCCESS;
}

/* bml/r2 comes with the same pointer for each module, and must find it in peers[]
 * unchanged: what is not in our list was freed before. */
int pw_del_procs(struct mca_btl_base_module_t *btl, size_t n, struct opal_proc_t **procs,
                 struct mca_btl_base_endpoint_t **peers)
{
    struct pw_module *m = &pw_module;

    (void)btl;
    /* Of our own job only when it ends. */
    if (n && procs[0]->proc_name.jobid == opal_proc_local_get()->proc_name.jobid)
        pw_calibrate(m);
    for (size_t i = 0; i < n; i++)
        if (peers[i] && peer_unlist(m, peers[i]))
            peer_close(peers[i]);
    return OPAL_SUCCESS;
}

/* ---- first use ---- */

/* Under peers_lock. 0, or why not: once, from then on -EPIPE. */
static int peer_open(struct pw_module *m, struct mca_btl_base_endpoint_t *peer,
                     char why[PW_NIC_WHY_MAX])
{
    struct pw_endpoint *ep;
    uint8_t *address;
    size_t len;
    int err = -ENOMEM;

    why[0] = '\0';
    if (peer->ep || peer->refused)
        return peer->ep ? 0 : -EPIPE;
    address = proc_address(peer->proc, &len);
    if (address)
        err = pw_endpoint_open(m->engine, address, len, peer, &ep, why);
    free(address);
    peer->refused = err != 0;
    if (!err)   /* pairs with the acquire in pw_peer() */
        __atomic_store_n(&peer->ep, ep, __ATOMIC_RELEASE);
    else if (!*why)
        snprintf(why, PW_NIC_WHY_MAX, "%s", strerror(-err));
    return err;
}

struct pw_endpoint *pw_peer_open(struct mca_btl_base_endpoint_t *peer)
{
    struct pw_module *m = &pw_module;
    char why[PW_NIC_WHY_MAX];
    int err;

    pthread_mutex_lock(&peers_lock);
    err = peer_open(m, peer, why);
    pthread_mutex_unlock(&peers_lock);
    if (err && *why)
        peer_lost(m, peer, "cannot be reached", why);
    return err ? NULL : peer->ep;
}

static bool peer_is(const struct mca_btl_base_endpoint_t *peer, uint32_t fingerprint)
{
    for (int i = 0; i < PW_KEY_NICS; i++)
        if (peer->fingerprints[i] == fingerprint)
            return fingerprint != 0;
    return false;
}

/* One at a time: who is told that a rank is lost may end the job, or come back here. */
void pw_procs_caller(void *ctx, uint32_t fingerprint)
{
    struct pw_module *m = ctx;
    struct mca_btl_base_endpoint_t *peer;
    char why[PW_NIC_WHY_MAX] = "";
    int err = 0;

    pthread_mutex_lock(&peers_lock);
    for (peer = m->endpoints; peer; peer = peer->next)
        if (peer_is(peer, fingerprint) && !peer->ep && !peer->refused)
            break;
    if (peer)
        err = peer_open(m, peer, why);
    pthread_mutex_unlock(&peers_lock);
    if (err)
        peer_lost(m, peer, "has called and cannot be reached", why);
}

/* A peer that left in good order is nobody's error. */
void pw_procs_dead(void *ctx, void *cookie, int cause, const char *why)
{
    if (cause)
        peer_lost(ctx, cookie, "is lost", why);
}

/* Each rank has paths to each of another host: one line for a path and a host will do. */
static bool told_lately(const char *host, const char *sentence)
{
    enum { EVENTS = 16, SECONDS = 10 };
    static struct { uint32_t print; time_t at; } events[EVENTS];
    static unsigned last;
    uint32_t print = pw_fnv32(pw_fnv32(PW_FNV32, host, strlen(host)), sentence,
                              strcspn(sentence, ":;"));
    time_t now = time(NULL);

    for (int i = 0; i < EVENTS; i++)
        if (events[i].print == print && now - events[i].at < SECONDS)
            return true;
    events[last].print = print;
    events[last].at = now;
    last = (last + 1) % EVENTS;
    return false;
}

void pw_procs_news(void *ctx, void *cookie, const char *sentence)
{
    struct mca_btl_base_endpoint_t *peer = cookie;
    const char *host = proc_host(peer->proc);

    (void)ctx;
    if (!told_lately(host, sentence))
        pw_say(false, "to rank %s on %s: %s", OPAL_NAME_PRINT(peer->proc->proc_name), host,
               sentence);
}

void pw_procs_fini(void)
{
    struct pw_module *m = &pw_module;

    while (m->endpoints) {
        struct mca_btl_base_endpoint_t *peer = m->endpoints;

        peer_unlist(m, peer);
        peer_close(peer);
    }
}
