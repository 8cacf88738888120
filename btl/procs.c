/* SPDX-License-Identifier: BSD-3-Clause */
/* procs.c - which ranks there are, and their death.
 *
 * Start at pw_add_procs(). A rank's address was published to all jobs of the
 * user, because ranks of two mpiruns may meet later (MPI_Comm_connect) and Open
 * MPI calls those remote even on the same host: the NICs decide who is near.
 */
#include <errno.h>

#include "pinwheel.h"

int pw_procs_publish(void)
{
    uint8_t address[1024];
    int len = pw_engine_address(pw_module.engine, address, sizeof(address)), rc;

    if (len < 0)
        return pw_opal_error(len);
    OPAL_MODEX_SEND(rc, OPAL_PMIX_GLOBAL, &mca_btl_pinwheel_component.btl_version, address,
                    (size_t)len);
    return rc;
}

static const char *proc_host(struct opal_proc_t *proc)
{
    const char *host = opal_get_proc_hostname(proc);

    return host ? host : "an unknown host";
}

static struct mca_btl_base_endpoint_t *endpoint_open(struct pw_module *m,
                                                     struct opal_proc_t *proc)
{
    struct mca_btl_base_endpoint_t *peer;
    char why[PW_NIC_WHY_MAX];
    uint8_t *address = NULL;
    size_t len = 0;
    int rc, err;

    OPAL_MODEX_RECV(rc, &mca_btl_pinwheel_component.btl_version, &proc->proc_name,
                    &address, &len);
    if (OPAL_SUCCESS != rc || !address)
        return NULL;    /* that rank runs without pinwheel */
    if (!pw_engine_reachable(m->engine, address, len)) {
        free(address);
        return NULL;
    }
    peer = calloc(1, sizeof(*peer));
    if (peer) {
        peer->proc = proc;
        err = pw_endpoint_open(m->engine, address, len, peer, &peer->ep, why);
        if (err) {
            pw_say(false, "rank %s on %s cannot be reached: %s",
                   OPAL_NAME_PRINT(proc->proc_name), proc_host(proc),
                   *why ? why : strerror(-err));
            free(peer);
            peer = NULL;
        }
    }
    free(address);
    return peer;
}

int pw_add_procs(struct mca_btl_base_module_t *btl, size_t n, struct opal_proc_t **procs,
                 struct mca_btl_base_endpoint_t **peers, opal_bitmap_t *reachable)
{
    struct pw_module *m = (struct pw_module *)btl;

    pw_windows_prefer_sm();
    for (size_t i = 0; i < n; i++) {
        struct mca_btl_base_endpoint_t *peer;

        if (procs[i] == opal_proc_local_get())
            continue;
        peer = endpoint_open(m, procs[i]);
        peers[i] = peer;
        if (!peer)
            continue;
        peer->next = m->endpoints;
        m->endpoints = peer;
        if (reachable)
            opal_bitmap_set_bit(reachable, (int)i);
    }
    return OPAL_SUCCESS;
}

static bool endpoint_unlist(struct pw_module *m, struct mca_btl_base_endpoint_t *peer)
{
    for (struct mca_btl_base_endpoint_t **at = &m->endpoints; *at; at = &(*at)->next)
        if (*at == peer) {
            *at = peer->next;
            return true;
        }
    return false;
}

/* bml/r2 may come again with the same pointer, and must find it in peers[]
 * unchanged: what is not in our list was freed before. */
int pw_del_procs(struct mca_btl_base_module_t *btl, size_t n, struct opal_proc_t **procs,
                 struct mca_btl_base_endpoint_t **peers)
{
    struct pw_module *m = (struct pw_module *)btl;

    (void)procs;
    for (size_t i = 0; i < n; i++)
        if (peers[i] && endpoint_unlist(m, peers[i])) {
            pw_endpoint_close(peers[i]->ep);
            free(peers[i]);
        }
    return OPAL_SUCCESS;
}

/* A peer that left in good order is nobody's error. One that died ends its own
 * job in Open MPI; ranks of another job that was joined go on, and only what
 * they still have with it fails. */
void pw_procs_dead(void *ctx, void *cookie, int cause, const char *why)
{
    struct pw_module *m = ctx;
    struct mca_btl_base_endpoint_t *peer = cookie;
    bool ours = peer->proc->proc_name.jobid == opal_proc_local_get()->proc_name.jobid;

    if (!cause || peer->told)
        return;
    peer->told = true;
    pw_say(false, "rank %s on %s is lost: %s%s", OPAL_NAME_PRINT(peer->proc->proc_name),
           proc_host(peer->proc), why,
           ours ? "" : ". It was of another job: this one goes on; what still waits for "
                       "it will wait in vain");
    if (ours && m->error_cb)
        m->error_cb(&m->super, MCA_BTL_ERROR_FLAGS_FATAL, peer->proc, (char *)why);
}

void pw_procs_fini(void)
{
    struct pw_module *m = &pw_module;

    while (m->endpoints) {
        struct mca_btl_base_endpoint_t *peer = m->endpoints;
        m->endpoints = peer->next;
        pw_endpoint_close(peer->ep);
        free(peer);
    }
}
