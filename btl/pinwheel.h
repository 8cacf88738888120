/* SPDX-License-Identifier: BSD-3-Clause */
/* pinwheel.h - the Open MPI side's own structures, shared by the files of btl/.
 *
 *     component.c  found, opened and closed by Open MPI
 *     params.c     what a user may set
 *     pvars.c      what is counted, for MPI_T
 *     procs.c      which ranks there are, and their death
 *     module.c     the table that Open MPI calls
 *     far.c        another one, for ranks of other hosts
 *     send.c       messages
 *     rdma.c       registration, get, put, atomics
 *     windows.c    which of Open MPI's components makes a window
 *     osc.c        windows that osc/rdma gets wrong between hosts; with osc_dynamic.c and
 *                  osc_units.c
 *     mpool.c      MPI_Alloc_mem
 *     costs.c      with which costs a job begins
 *     calibrate.c  the first job on a host measures it
 *     report.c     what people and Open MPI are told
 *     compat.h     Open MPI's headers and versions
 */
#ifndef PW_PINWHEEL_H
#define PW_PINWHEEL_H

#include "compat.h"
#include "core/engine.h"
#include "params.h"
#include "pinwheel/pool.h"

/* Open MPI's name for one peer: embeds nothing of its own, so it is ours. All there is
 * of a rank that we have not talked to: see procs.c. */
struct mca_btl_base_endpoint_t {
    struct pw_endpoint *ep;     /* atomic; NULL until it is used, or the peer calls */
    struct opal_proc_t *proc;
    struct mca_btl_base_endpoint_t *next;
    uint32_t fingerprints[PW_KEY_NICS]; /* of its address: who calls? */
    bool near;                  /* of this host */
    bool refused;               /* it could not be opened, and will not be */
    bool told;                  /* its death was reported */
};

/* What register_mem() hands out; the first btl_registration_handle_size bytes
 * travel to peers. */
struct mca_btl_base_registration_handle_t {
    struct pw_key key;
};

/* A descriptor with room for headers and packed data behind it. */
struct pw_frag {
    mca_btl_base_descriptor_t base;
    mca_btl_base_segment_t segments[2];
    struct pw_message message;          /* while it waits for room */
    struct mca_btl_base_endpoint_t *endpoint;
    opal_free_list_t *list;
    uint8_t tag;
    char bytes[];
};
OBJ_CLASS_DECLARATION(pw_frag_t);

/* A get, put or atomic that is not done yet. */
struct pw_rdma {
    opal_free_list_item_t item;
    struct mca_btl_base_endpoint_t *endpoint;
    void *local;
    struct mca_btl_base_registration_handle_t *handle;
    mca_btl_base_rdma_completion_fn_t done;
    void *context, *data;
    uint64_t result;
    size_t width;                       /* of an atomic's result; 0 none */
};

struct pw_handle {
    opal_free_list_item_t item;
    struct mca_btl_base_registration_handle_t handle;
};

struct pw_module {
    mca_btl_base_module_t super;
    struct pw_engine *engine;
    struct pw_pool *pool;
    struct mca_btl_base_endpoint_t *endpoints;
    unsigned n_near, n_far;             /* of them, those of this host, and of others */
    mca_btl_base_module_error_cb_fn_t error_cb;
    opal_free_list_t small, large, longest;     /* struct pw_frag */
    opal_free_list_t rdmas;             /* struct pw_rdma */
    opal_free_list_t handles;           /* struct pw_handle */
};

extern mca_btl_base_component_3_0_0_t mca_btl_pinwheel_component;
extern mca_mpool_base_component_t mca_mpool_pinwheel_component;
extern struct pw_module pw_module;

/* Bytes behind a descriptor of the small list: control messages of the PML. */
enum { PW_SMALL = 512 };

/* Lines for the user. pw_say() always, by one rank of the host when `once`;
 * pw_tell() at --mca btl_base_verbose LEVEL and above. */
void pw_say(bool once, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void pw_tell(int level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Which monitor is at work and what it does not see, at verbose level; by one rank
 * of the host, and always when the one asked for cannot be had. */
void pw_tell_memory(struct pw_engine *e);
/* Once: what moves after the first time is not the program's. */
void pw_tell_counts(struct pw_engine *e);
void pw_tell_nodes(struct pw_pool *pool);       /* where there are several */

/* costs.c: costs and chunk of config. */
void pw_costs_load(struct pw_engine_config *config);

/* calibrate.c: this job is to make that file when it ends; or NULL is not the answer, but
 * why it does not. Then, at its end, with nobody listening any more. */
const char *pw_calibrate_plan(const char *path);
void pw_calibrate(struct pw_module *m);

/* pvars.c */
int pw_pvars_register(void);

/* An errno of the core as Open MPI's code. */
int pw_opal_error(int err);

/* windows.c */
void pw_windows_prefer_sm(void);

/* procs.c */
int pw_procs_publish(void);
int pw_add_procs(struct mca_btl_base_module_t *btl, size_t n, struct opal_proc_t **procs,
                 struct mca_btl_base_endpoint_t **peers, opal_bitmap_t *reachable);
int pw_del_procs(struct mca_btl_base_module_t *btl, size_t n, struct opal_proc_t **procs,
                 struct mca_btl_base_endpoint_t **peers);
void pw_procs_dead(void *ctx, void *cookie, int cause, const char *why);
void pw_procs_caller(void *ctx, uint32_t fingerprint);
void pw_procs_news(void *ctx, void *cookie, const char *sentence);

/* This process to itself. See procs.c. */
extern struct mca_btl_base_endpoint_t pw_own;

/* Any thread. NULL when it cannot be opened, which was told. */
struct pw_endpoint *pw_peer_open(struct mca_btl_base_endpoint_t *peer);

static inline struct pw_endpoint *pw_peer(struct mca_btl_base_endpoint_t *peer)
{
    /* Pairs with the release in peer_open(). */
    struct pw_endpoint *ep = __atomic_load_n(&peer->ep, __ATOMIC_ACQUIRE);

    return __builtin_expect(ep != NULL, 1) ? ep : pw_peer_open(peer);
}
void pw_procs_fini(void);

/* far.c */
extern struct mca_btl_base_module_t pw_far;     /* the second module */
bool pw_far_wanted(const struct pw_module *m);  /* may there be ranks on other hosts? */
void pw_far_open(const struct pw_module *m);

/* module.c */
int pw_module_open(bool threads);
void pw_module_close(void);
unsigned pw_host_ranks(void);       /* of this job on this host, with this one */
bool pw_host_crowded(void);         /* more of them than cores */

/* send.c */
int pw_send_init(void);
void pw_send_fini(void);
void pw_recv(void *ctx, void *cookie, uint8_t tag, const void *data, size_t len);
mca_btl_base_descriptor_t *pw_alloc(struct mca_btl_base_module_t *btl,
                                    struct mca_btl_base_endpoint_t *endpoint,
                                    uint8_t order, size_t size, uint32_t flags);
int pw_free(struct mca_btl_base_module_t *btl, mca_btl_base_descriptor_t *des);
mca_btl_base_descriptor_t *pw_prepare_src(struct mca_btl_base_module_t *btl,
                                          struct mca_btl_base_endpoint_t *endpoint,
                                          struct opal_convertor_t *convertor,
                                          uint8_t order, size_t reserve, size_t *size,
                                          uint32_t flags);
int pw_send(struct mca_btl_base_module_t *btl, struct mca_btl_base_endpoint_t *endpoint,
            mca_btl_base_descriptor_t *des, mca_btl_base_tag_t tag);
int pw_sendi(struct mca_btl_base_module_t *btl, struct mca_btl_base_endpoint_t *endpoint,
             struct opal_convertor_t *convertor, void *header, size_t header_size,
             size_t payload_size, uint8_t order, uint32_t flags, mca_btl_base_tag_t tag,
             mca_btl_base_descriptor_t **descriptor);

/* rdma.c */
/* A registration of so many bytes from address 0 is a sparse region, left here for who had it
 * made in this thread. */
#define PW_ALL_MEMORY ((size_t)1 << 62)
extern _Thread_local struct mca_btl_base_registration_handle_t *pw_sparse_handle;
int pw_rdma_init(void);
void pw_rdma_fini(void);
struct mca_btl_base_registration_handle_t *
pw_register_mem(struct mca_btl_base_module_t *btl,
                struct mca_btl_base_endpoint_t *endpoint, void *base, size_t size,
                uint32_t flags);
int pw_deregister_mem(struct mca_btl_base_module_t *btl,
                      struct mca_btl_base_registration_handle_t *handle);
int pw_put(struct mca_btl_base_module_t *btl, struct mca_btl_base_endpoint_t *endpoint,
           void *local, uint64_t remote,
           struct mca_btl_base_registration_handle_t *local_handle,
           struct mca_btl_base_registration_handle_t *remote_handle, size_t size,
           int flags, int order, mca_btl_base_rdma_completion_fn_t done, void *context,
           void *data);
int pw_get(struct mca_btl_base_module_t *btl, struct mca_btl_base_endpoint_t *endpoint,
           void *local, uint64_t remote,
           struct mca_btl_base_registration_handle_t *local_handle,
           struct mca_btl_base_registration_handle_t *remote_handle, size_t size,
           int flags, int order, mca_btl_base_rdma_completion_fn_t done, void *context,
           void *data);
int pw_atomic_op(struct mca_btl_base_module_t *btl,
                 struct mca_btl_base_endpoint_t *endpoint, uint64_t remote,
                 struct mca_btl_base_registration_handle_t *remote_handle,
                 mca_btl_base_atomic_op_t op, uint64_t operand, int flags, int order,
                 mca_btl_base_rdma_completion_fn_t done, void *context, void *data);
int pw_atomic_fop(struct mca_btl_base_module_t *btl,
                  struct mca_btl_base_endpoint_t *endpoint, void *local, uint64_t remote,
                  struct mca_btl_base_registration_handle_t *local_handle,
                  struct mca_btl_base_registration_handle_t *remote_handle,
                  mca_btl_base_atomic_op_t op, uint64_t operand, int flags, int order,
                  mca_btl_base_rdma_completion_fn_t done, void *context, void *data);
int pw_atomic_cswap(struct mca_btl_base_module_t *btl,
                    struct mca_btl_base_endpoint_t *endpoint, void *local,
                    uint64_t remote,
                    struct mca_btl_base_registration_handle_t *local_handle,
                    struct mca_btl_base_registration_handle_t *remote_handle,
                    uint64_t compare, uint64_t value, int flags, int order,
                    mca_btl_base_rdma_completion_fn_t done, void *context, void *data);
int pw_flush(struct mca_btl_base_module_t *btl,
             struct mca_btl_base_endpoint_t *endpoint);

#endif
