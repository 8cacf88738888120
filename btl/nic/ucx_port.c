/* SPDX-License-Identifier: BSD-3-Clause */
/* ucx_port.c - one worker, its ways to others, its messages.
 *
 * UCX calls us from inside of ucp_worker_progress() with each message (message_came), each
 * send that has ended and each way that has failed.
 *
 * A way stays when the last peer that used it has gone, for the next connection with the
 * same process. It is closed when it fails, as it does when that process ends; and when it is
 * dropped, for that is how a read ends whose peer does not answer. It is kept until nobody
 * names it, and UCX has given back all reads.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pinwheel/clock.h"
#include "ucx.h"

enum {
    UCX_AM = 0,             /* the only kind of active message */
    UCX_CLOSE_MS = 200,     /* a flush of a way takes so long, at most */
};

int ucx_errno(ucs_status_t status)
{
    switch (status) {
    case UCS_OK:
        return 0;
    case UCS_ERR_NO_MEMORY:
        return ENOMEM;
    case UCS_ERR_NO_RESOURCE:
        return EAGAIN;
    case UCS_ERR_UNREACHABLE:
        return EHOSTUNREACH;
    case UCS_ERR_TIMED_OUT:
    case UCS_ERR_ENDPOINT_TIMEOUT:
        return ETIMEDOUT;
    case UCS_ERR_CANCELED:
        return ECANCELED;
    case UCS_ERR_CONNECTION_RESET:
        return ECONNRESET;
    case UCS_ERR_UNSUPPORTED:
        return EOPNOTSUPP;
    default:
        return EIO;
    }
}

/* ---- messages in ---- */

static bool is_hello(const struct ucx_nic *nic, const void *data, size_t len)
{
    uint32_t magic = 0;

    if (len >= sizeof(magic))
        memcpy(&magic, data, sizeof(magic));
    return magic == nic->base.driver->magic;
}

/* What UCX lets us keep, and what stands where it can be read, stays where it is. */
static void rx_fill(struct rdm_rx *rx, void *data, size_t len, bool ours)
{
    rx->len = len;
    rx->held = NULL;
    rx->bytes = rx->room;
    if (ours && (uintptr_t)data % sizeof(uint64_t) == 0) {
        rx->held = data;
        rx->bytes = data;
    } else {
        memcpy(rx->room, data, len);
    }
}

/* Hellos open ways, which is not done from inside of UCX; what comes behind one stays behind
 * it. */
static void put_aside(struct ucx_nic *nic, struct rdm_rx *rx)
{
    rx->next = NULL;
    *nic->aside_end = rx;
    nic->aside_end = &rx->next;
}

static ucs_status_t message_came(void *arg, const void *header, size_t header_len,
                                 void *data, size_t len, const ucp_am_recv_param_t *param)
{
    struct ucx_nic *nic = arg;
    struct rdm_rx *rx;

    (void)header;
    if (header_len || len > RDM_MESSAGE_MAX ||
        param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) {
        __atomic_fetch_add(&nic->base.base.counts.strangers, 1, __ATOMIC_RELAXED);
        return UCS_OK;
    }
    rx = rdm_rx_take(&nic->base);
    if (!rx)
        return UCS_OK;          /* its number will be missed */
    rx_fill(rx, data, len, param->recv_attr & UCP_AM_RECV_ATTR_FLAG_DATA);
    if (nic->aside || is_hello(nic, data, len)) {
        put_aside(nic, rx);
        return rx->held ? UCS_INPROGRESS : UCS_OK;
    }
    if (rdm_message_heard(&nic->base, rx))
        return rx->held ? UCS_INPROGRESS : UCS_OK;
    rx->held = NULL;            /* it goes back by what we return */
    rdm_rx_post(&nic->base, rx);
    return UCS_OK;
}

static int aside_hear(struct ucx_nic *nic)
{
    int n = 0;

    while (nic->aside) {
        struct rdm_rx *rx = nic->aside;

        nic->aside = rx->next;
        if (!nic->aside)
            nic->aside_end = &nic->aside;
        if (!rdm_message_heard(&nic->base, rx))
            rdm_rx_post(&nic->base, rx);
        n++;
    }
    return n;
}

/* None is posted: they wait until a message comes. */
int ucx_post(struct rdm_nic *base, struct rdm_rx *rx)
{
    struct ucx_nic *nic = ucx_of(base);

    if (rx->held)
        nic->lib->am_data_release(nic->worker, rx->held);
    rx->held = NULL;
    rx->bytes = rx->room;
    return -EAGAIN;
}

/* ---- messages out ---- */

static void send_ended(void *request, ucs_status_t status, void *user_data)
{
    struct rdm_tx *tx = user_data;
    struct ucx_nic *nic = tx->c.room[0];

    nic->lib->request_free(request);
    rdm_ended(&nic->base, &tx->c, 0, ucx_errno(status));
}

int ucx_send(struct rdm_peer *peer, struct rdm_tx *tx, size_t len)
{
    struct ucx_nic *nic = ucx_of(rdm_nic_of(peer));
    const struct ucx_way *way = peer->to.pointer;
    ucp_request_param_t param = {
        .op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA |
                        UCP_OP_ATTR_FIELD_FLAGS,
        .flags = UCP_AM_SEND_FLAG_EAGER,
        .cb.send = send_ended,
        .user_data = tx,
    };
    ucs_status_ptr_t sent;

    if (way->failed)
        return -ECONNRESET;
    tx->c.room[0] = nic;
    sent = nic->lib->am_send(way->ep, UCX_AM, NULL, 0, tx->bytes, len, &param);
    if (UCS_PTR_IS_ERR(sent))
        return -ucx_errno(UCS_PTR_STATUS(sent));
    if (!sent)
        rdm_ended(&nic->base, &tx->c, 0, 0);
    return 0;
}

/* ---- ways ---- */

static void way_failed(void *arg, ucp_ep_h ep, ucs_status_t status)
{
    struct ucx_way *way = arg;

    (void)ep;
    if (way->failed)
        return;
    way->failed = true;
    for (struct rdm_peer *peer = way->nic->base.peers; peer; peer = peer->next)
        if (peer->there && peer->to.pointer == way)
            rdm_peer_failed(peer, ucx_errno(status));
}

static void way_forget(struct ucx_way **list, struct ucx_way *way)
{
    while (*list != way)
        list = &(*list)->next;
    *list = way->next;
}

static void way_release(struct ucx_nic *nic, struct ucx_way *way)
{
    if (!way->closed || way->users || way->reads)
        return;
    way_forget(&nic->closed, way);
    free(way);
}

void ucx_way_read(struct ucx_nic *nic, struct ucx_way *way)
{
    way->reads--;
    way_release(nic, way);
}

static void way_end(struct ucx_nic *nic, struct ucx_way *way)
{
    way->closed = true;
    way->next = nic->closed;
    nic->closed = way;
    way_release(nic, way);
}

static void way_closed(void *request, ucs_status_t status, void *user_data)
{
    struct ucx_way *way = user_data;

    (void)status;
    way->nic->lib->request_free(request);
    way_forget(&way->nic->closing, way);
    way_end(way->nic, way);
}

/* What is under way ends by and by. flush: it still arrives. */
static void way_close(struct ucx_nic *nic, struct ucx_way *way, bool flush)
{
    ucp_request_param_t param = {
        .op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA |
                        UCP_OP_ATTR_FIELD_FLAGS,
        .flags = flush ? 0 : UCP_EP_CLOSE_FLAG_FORCE,
        .cb.send = way_closed,
        .user_data = way,
    };

    way_forget(&nic->ways, way);
    way->failed = true;
    way->closing = nic->lib->ep_close(way->ep, &param);
    if (UCS_PTR_IS_PTR(way->closing)) {
        way->next = nic->closing;
        nic->closing = way;
    } else {
        way_end(nic, way);
    }
}

static void ways_reap(struct ucx_nic *nic)
{
    for (struct ucx_way *way = nic->ways, *next; way; way = next) {
        next = way->next;
        if (way->failed && (way->dropped || !way->users))
            way_close(nic, way, false);
    }
}

static int way_open(struct ucx_nic *nic, const struct rdm_address *to, struct ucx_way **out)
{
    struct ucx_way *way = calloc(1, sizeof(*way));
    ucp_ep_params_t params = {
        .field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS |
                      UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE | UCP_EP_PARAM_FIELD_ERR_HANDLER,
        .err_mode = UCP_ERR_HANDLING_MODE_PEER,
        .err_handler = { .cb = way_failed, .arg = way },
    };
    ucs_status_t status;

    if (!way)
        return -ENOMEM;
    way->nic = nic;
    way->to = *to;
    params.address = (const void *)((const struct ucx_name *)(const void *)way->to.name)
                         ->worker;
    status = nic->lib->ep_create(nic->worker, &params, &way->ep);
    if (status != UCS_OK) {
        free(way);
        return status == UCS_ERR_NO_MEMORY ? -ENOMEM : -EHOSTUNREACH;
    }
    way->next = nic->ways;
    nic->ways = way;
    *out = way;
    return 0;
}

int ucx_peer_open(struct rdm_peer *peer)
{
    struct ucx_nic *nic = ucx_of(rdm_nic_of(peer));
    struct ucx_way *way = nic->ways;
    int err = 0;

    while (way && (way->failed || memcmp(&way->to, &peer->address, sizeof(way->to)) != 0))
        way = way->next;
    if (!way)
        err = way_open(nic, &peer->address, &way);
    if (err)
        return err;
    way->users++;
    peer->to.pointer = way;
    return 0;
}

void ucx_peer_close(struct rdm_peer *peer)
{
    struct ucx_way *way = peer->to.pointer;

    way->users--;
    way_release(way->nic, way);
}

/* It is closed when we look next. */
void ucx_peer_drop(struct rdm_peer *peer)
{
    struct ucx_way *way = peer->to.pointer;

    way->failed = way->dropped = true;
    __atomic_fetch_add(&rdm_nic_of(peer)->base.counts.reconnects, 1, __ATOMIC_RELAXED);
}

/* ---- the worker ---- */

int ucx_poll(struct rdm_nic *base)
{
    struct ucx_nic *nic = ucx_of(base);
    int n = (int)nic->lib->progress(nic->worker);

    n += aside_hear(nic);
    n += ucx_reads_tell(nic);
    ways_reap(nic);
    return n;
}

int ucx_arm(struct rdm_nic *base)
{
    struct ucx_nic *nic = ucx_of(base);

    if (nic->ended)
        return -EAGAIN;
    if (nic->wait_fd < 0)
        return -1;
    return nic->lib->arm(nic->worker) == UCS_OK ? nic->wait_fd : -EAGAIN;
}

static ucp_config_t *config_make(struct ucx_nic *nic, const char *device)
{
    const struct ucx_library *lib = nic->lib;
    ucp_config_t *config;

    if (lib->config_read(NULL, NULL, &config) != UCS_OK)
        return NULL;
    /* One NIC is one device. Peers on this host have shm. */
    if (device)
        lib->config_modify(config, "NET_DEVICES", device);
    if (!getenv("UCX_TLS"))
        lib->config_modify(config, "TLS", "^self,sm");
    /* It would have memory watched, for all of this process. So would InfiniBand's own cache,
     * or it would believe memory that it knows nothing new of (its UCX_IB_REG_METHODS). */
    lib->config_modify(config, "RCACHE_ENABLE", "n");
    /* A connect() that waits would hold up everybody for as long as a host is away. */
    if (nic->base.iface.index) {
        lib->config_modify(config, "CONN_NB", "y");
    } else {
        lib->config_modify(config, "REG_METHODS", "direct");
        lib->config_modify(config, "ZCOPY_THRESH", UCX_ZCOPY_TEXT);
    }
    return config;
}

/* With it UCX also does by messages what a device does not: it writes and reads for whoever
 * reaches the worker, at any address of the process. A network of IP is not trusted so far;
 * an RDMA device's is, unless the user says otherwise. */
static bool reads_wanted(const struct ucx_nic *nic)
{
    return !nic->base.iface.index && !nic->base.distrust;
}

static ucs_status_t context_open(struct ucx_nic *nic, const char *device)
{
    ucp_params_t params = { .field_mask = UCP_PARAM_FIELD_FEATURES,
                            .features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP };
    ucp_config_t *config = config_make(nic, device);
    ucs_status_t status;

    if (!config)
        return UCS_ERR_NO_MEMORY;
    if (reads_wanted(nic))
        params.features |= UCP_FEATURE_RMA;
    status = nic->lib->init(UCP_API_MAJOR, UCP_API_MINOR, &params, config, &nic->context);
    nic->lib->config_release(config);
    return status;
}

static ucs_status_t worker_make(struct ucx_nic *nic, ucp_worker_h *out)
{
    ucp_worker_params_t params = { .field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE,
                                   .thread_mode = UCS_THREAD_MODE_SERIALIZED };

    return nic->lib->worker_create(nic->context, &params, out);
}

static ucs_status_t worker_open(struct ucx_nic *nic)
{
    ucp_am_handler_param_t handler = {
        .field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_FLAGS |
                      UCP_AM_HANDLER_PARAM_FIELD_CB | UCP_AM_HANDLER_PARAM_FIELD_ARG,
        .id = UCX_AM, .flags = UCP_AM_FLAG_WHOLE_MSG, .cb = message_came, .arg = nic,
    };
    ucs_status_t status = worker_make(nic, &nic->worker);

    if (status == UCS_OK)
        status = nic->lib->set_am_recv_handler(nic->worker, &handler);
    if (status == UCS_OK && nic->lib->get_efd(nic->worker, &nic->wait_fd) != UCS_OK)
        nic->wait_fd = -1;
    return status;
}

/* release_address is for who has it. */
static ucs_status_t address_query(struct ucx_nic *nic, ucp_worker_h worker,
                                  ucp_worker_attr_t *attr)
{
    *attr = (ucp_worker_attr_t){
        .field_mask = UCP_WORKER_ATTR_FIELD_ADDRESS | UCP_WORKER_ATTR_FIELD_ADDRESS_FLAGS,
        .address_flags = getenv("UCX_TLS") ? 0 : UCP_WORKER_ADDRESS_FLAG_NET_ONLY,
    };
    return nic->lib->worker_query(worker, attr);
}

ucp_address_t *ucx_worker_open(struct ucx_nic *nic, ucp_worker_h *out)
{
    ucp_worker_attr_t attr;

    if (worker_make(nic, out) != UCS_OK)
        return NULL;
    if (address_query(nic, *out, &attr) == UCS_OK)
        return attr.address;
    nic->lib->worker_destroy(*out);
    return NULL;
}

/* Its address goes into ours. */
static int address_take(struct ucx_nic *nic, char why[PW_NIC_WHY_MAX])
{
    struct ucx_name *name = (void *)nic->base.address.name;
    ucp_worker_attr_t attr;
    ucs_status_t status = address_query(nic, nic->worker, &attr);
    int err = 0;

    if (status != UCS_OK) {
        snprintf(why, PW_NIC_WHY_MAX, "UCX gives no address: %s",
                 nic->lib->status_string(status));
        return -ENODEV;
    }
    if (attr.address_length > UCX_WORKER_MAX) {
        snprintf(why, PW_NIC_WHY_MAX, "UCX's address is of %zu bytes, which is more than the"
                 " %d that are left in ours: UCX_TLS can name fewer transports",
                 attr.address_length, (int)UCX_WORKER_MAX);
        err = -EMSGSIZE;
    } else {
        memcpy(name->worker, attr.address, attr.address_length);
        nic->base.address.name_len = (uint8_t)(sizeof(*name) + attr.address_length);
    }
    nic->lib->release_address(nic->worker, attr.address);
    return err;
}

int ucx_port_open(struct ucx_nic *nic, const char *device, char why[PW_NIC_WHY_MAX])
{
    ucs_status_t status = context_open(nic, device);

    if (status == UCS_OK)
        status = worker_open(nic);
    if (status == UCS_OK)
        return address_take(nic, why);
    snprintf(why, PW_NIC_WHY_MAX, "UCX cannot use %s: %s", device ? device : "anything here",
             nic->lib->status_string(status));
    return -ENODEV;
}

static void ways_free(struct ucx_way **list)
{
    while (*list) {
        struct ucx_way *way = *list;

        *list = way->next;
        free(way);
    }
}

/* UCX ends the process when a worker goes that somebody still waits for. */
static void closing_wait(struct ucx_nic *nic)
{
    uint64_t until = rdm_ms(pw_now_ns()) + UCX_CLOSE_MS;

    while ((nic->closing || nic->reads) && rdm_ms(pw_now_ns()) < until)
        nic->lib->progress(nic->worker);
    ucx_reads_forget(nic);
    for (struct ucx_way *way = nic->closing; way; way = way->next)
        nic->lib->request_free(way->closing);       /* and way_closed() is not called */
    ways_free(&nic->closing);
    ways_free(&nic->closed);
}

/* What was not delivered is UCX's memory. */
static void held_release(struct ucx_nic *nic, struct rdm_rx *rx)
{
    for (; rx; rx = rx->next)
        ucx_post(&nic->base, rx);
}

void ucx_port_close(struct rdm_nic *base)
{
    struct ucx_nic *nic = ucx_of(base);

    if (!nic->worker)
        return;
    for (struct rdm_peer *peer = base->peers; peer; peer = peer->next) {
        held_release(nic, peer->in);
        held_release(nic, peer->early);
    }
    held_release(nic, nic->aside);
    while (nic->ways)
        way_close(nic, nic->ways, !nic->ways->failed && !nic->ways->reads);
    closing_wait(nic);
    nic->lib->worker_destroy(nic->worker);
    nic->worker = NULL;
}
