/* SPDX-License-Identifier: BSD-3-Clause */
/* ucx.h - the backend over UCX's own part of rdm.h; nobody else includes this.
 *
 *     ucx.c          the table; what these files do for rdm's
 *     ucx_library.c  UCX, loaded when it is first needed; which devices it may drive
 *     ucx_port.c     one worker, its ways to others, its messages
 *     ucx_memory.c   what is registered with UCX, its keys, reading by it
 *     ucx_test.c     does the worker do what UCX says, and does the device read by itself?
 *
 * Messages are UCP's active messages, always eager: they come as they are and are copied
 * once, so nothing of a lost peer's is left that UCX could still write. Where the device reads
 * a peer's memory by itself, and tests/unit/ucx_reads and ucx_test.c say what that means, a
 * get is a read of it and a long put one of ours (rdm_memory.c); both go from the user's
 * memory to the user's. Elsewhere messages bring them (rdm_stream.c): UCP reads over every
 * transport, but where the device cannot, its peer is asked to send what stands there, which
 * it does when it has time, and looks at no key.
 *
 * UCX keeps no registration of its own, and ours end with our cache's. UCP's cache and that
 * of InfiniBand's memory are switched off in our context: what UCX 1.13 registers for one read
 * (it takes no handle of ours for that) it gives up when the read ends. So nothing can go
 * stale, and there is nobody to feed events of memory to. Its hooks, which are the whole
 * process's, are left as whoever else in it uses UCX wants them (tests/unit/ucx looks at
 * that).
 */
#ifndef PW_UCX_H
#define PW_UCX_H

#include <ucp/api/ucp.h>

#include "rdm.h"

/* ---- UCX ---- */

/* The functions in use. */
struct ucx_library {
    void (*get_version)(unsigned *major, unsigned *minor, unsigned *release);
    ucs_status_t (*config_read)(const char *prefix, const char *file, ucp_config_t **out);
    ucs_status_t (*config_modify)(ucp_config_t *config, const char *name,
                                  const char *value);
    void (*config_release)(ucp_config_t *config);
    ucs_status_t (*init)(unsigned major, unsigned minor, const ucp_params_t *params,
                         const ucp_config_t *config, ucp_context_h *out);
    void (*cleanup)(ucp_context_h context);
    ucs_status_t (*worker_create)(ucp_context_h context, const ucp_worker_params_t *params,
                                  ucp_worker_h *out);
    void (*worker_destroy)(ucp_worker_h worker);
    ucs_status_t (*worker_query)(ucp_worker_h worker, ucp_worker_attr_t *attr);
    void (*release_address)(ucp_worker_h worker, ucp_address_t *address);
    ucs_status_t (*get_efd)(ucp_worker_h worker, int *fd);
    ucs_status_t (*arm)(ucp_worker_h worker);
    unsigned (*progress)(ucp_worker_h worker);
    ucs_status_t (*set_am_recv_handler)(ucp_worker_h worker,
                                        const ucp_am_handler_param_t *param);
    void (*am_data_release)(ucp_worker_h worker, void *data);
    ucs_status_ptr_t (*am_send)(ucp_ep_h ep, unsigned id, const void *header,
                                size_t header_len, const void *buffer, size_t count,
                                const ucp_request_param_t *param);
    ucs_status_t (*ep_create)(ucp_worker_h worker, const ucp_ep_params_t *params,
                              ucp_ep_h *out);
    ucs_status_ptr_t (*ep_close)(ucp_ep_h ep, const ucp_request_param_t *param);
    ucs_status_t (*mem_map)(ucp_context_h context, const ucp_mem_map_params_t *params,
                            ucp_mem_h *out);
    ucs_status_t (*mem_unmap)(ucp_context_h context, ucp_mem_h memory);
    ucs_status_t (*rkey_pack)(ucp_context_h context, ucp_mem_h memory, void **out,
                              size_t *len);
    void (*rkey_release)(void *packed);
    ucs_status_t (*rkey_unpack)(ucp_ep_h ep, const void *packed, ucp_rkey_h *out);
    void (*rkey_destroy)(ucp_rkey_h key);
    ucs_status_ptr_t (*get)(ucp_ep_h ep, void *buffer, size_t count, uint64_t remote,
                            ucp_rkey_h key, const ucp_request_param_t *param);
    void (*request_free)(void *request);
    const char *(*status_string)(ucs_status_t status);
};

/* NULL and a sentence when it cannot be loaded. Any thread; it stays loaded. */
const struct ucx_library *ucx_library(char why[PW_NIC_WHY_MAX]);

/* For tests: load that file instead, from the next ucx_library() on. */
void ucx_library_use(const char *file);

/* The kernel's interfaces, then the ports of RDMA devices, as UCX names them. */
int ucx_devices(struct pw_nic_device *out, int max);

/* ---- one worker ---- */

/* The name in an address: where we listen, for who wants to know whether we live, then the
 * address of the worker. */
struct ucx_name {
    uint8_t family;                 /* 4, 6; 0: this is no network of IP */
    uint8_t domain;                 /* of its keys, and 1; 0: its memory is not read */
    uint16_t port;
    uint32_t sum;                   /* of the rest: UCX ends a process that shows it an
                                     * address with an error in it */
    uint8_t ip[16];                 /* of 4 bytes, then zeros, for IPv4 */
    uint8_t worker[];
};

enum {
    UCX_WORKER_MAX = RDM_NAME_MAX - sizeof(struct ucx_name),
    UCX_ZCOPY = 65537,              /* reads below come through memory of UCX's; no message
                                     * is so long, for UCX would register it each time */
    UCX_READ_MOST = 1 << 30,
};
#define UCX_ZCOPY_TEXT "65537"

/* To one process, for all its connections one after the other. */
struct ucx_way {
    struct ucx_way *next;
    struct ucx_nic *nic;
    ucp_ep_h ep;
    unsigned users;                 /* peers */
    unsigned reads;                 /* under way */
    bool failed;                    /* UCX says so, or it was dropped: nobody new uses it */
    bool dropped;                   /* what is under way is to end, whoever uses it */
    bool closed;
    void *closing;                  /* UCX's request, while it is about to close it */
    struct rdm_address to;
};

struct ucx_nic {
    struct rdm_nic base;
    const struct ucx_library *lib;
    ucp_context_h context;
    ucp_worker_h worker;
    int wait_fd;                    /* the worker's; -1: it has none */
    int listen_fd;                  /* -1: none */
    struct ucx_way *ways;
    struct ucx_way *closing;        /* ways that UCX is still about to close */
    struct ucx_way *closed;         /* and those that somebody still names */
    unsigned domain;                /* that keys are of */
    struct ucx_read *reads;         /* under way */
    struct ucx_read *ended, **ended_end;    /* at once: told when we next look */
    struct rdm_rx *aside, **aside_end;      /* to be dealt with when UCX has returned */
};

static inline struct ucx_nic *ucx_of(struct rdm_nic *nic)
{
    return (struct ucx_nic *)nic;
}

/* What is to be its sum. */
uint32_t ucx_name_sum(const struct ucx_name *name, size_t len);

int ucx_errno(ucs_status_t status);         /* positive */

/* ---- ucx_port.c ---- */

/* device: NULL as UCX likes. 0, or -errno and a sentence. */
int ucx_port_open(struct ucx_nic *nic, const char *device, char why[PW_NIC_WHY_MAX]);
void ucx_port_close(struct rdm_nic *nic);
int ucx_peer_open(struct rdm_peer *peer);
void ucx_peer_close(struct rdm_peer *peer);
void ucx_peer_drop(struct rdm_peer *peer);
int ucx_send(struct rdm_peer *peer, struct rdm_tx *tx, size_t len);
int ucx_post(struct rdm_nic *nic, struct rdm_rx *rx);
int ucx_poll(struct rdm_nic *nic);
int ucx_arm(struct rdm_nic *nic);

/* A second worker of that context, and its address as peers are told it; NULL: UCX gives
 * none. */
ucp_address_t *ucx_worker_open(struct ucx_nic *nic, ucp_worker_h *out);

/* A read over it has ended. */
void ucx_way_read(struct ucx_nic *nic, struct ucx_way *way);

/* ---- ucx_memory.c ---- */

/* 8 bytes of a key, in the domain of which all of a worker's are. */
struct ucx_key {
    unsigned domain;
    uint64_t key;
};

/* Register it with UCX. 0; -EOPNOTSUPP where keys are not as ours have to be; -ENOMEM,
 * -EFAULT. */
int ucx_map(struct ucx_nic *nic, const void *addr, size_t len, ucp_mem_h *out,
            struct ucx_key *key);

/* As UCX wants it for that endpoint. */
ucs_status_t ucx_key_unpack(const struct ucx_nic *nic, ucp_ep_h ep,
                            const struct ucx_key *key, ucp_rkey_h *out);

int ucx_mr_open(struct rdm_nic *nic, const void *addr, size_t len, unsigned access,
                void **out);
void ucx_mr_close(struct rdm_nic *nic, void *mr);
uint64_t ucx_mr_key(void *mr);
bool ucx_mr_reads(void *mr);
bool ucx_peer_reads(const struct rdm_peer *peer);
int ucx_read(struct rdm_peer *peer, struct rdm_context *c, void *to, size_t len, void *mr,
             uint64_t from, uint64_t key);

/* Tell of those that ended at once. How many. */
int ucx_reads_tell(struct ucx_nic *nic);

/* The worker goes: those that did not end are not told of. */
void ucx_reads_forget(struct ucx_nic *nic);

/* ---- ucx_test.c ---- */

int ucx_test(struct rdm_nic *nic, char why[PW_NIC_WHY_MAX]);

#endif
