/* SPDX-License-Identifier: BSD-3-Clause */
/* fake_verbs.c - see fake_verbs.h. Everything is guarded by one lock. */
#include "fake_verbs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { CQ_ROOM = 8192, QUEUE_ROOM = 2048, EVENTS = 64 };

struct fake_context {
    struct ibv_context it;
    struct fake_context *next;
    struct ibv_async_event events[EVENTS];
    unsigned n_events;
};

struct fake_cq {
    struct ibv_cq it;
    struct ibv_wc wc[CQ_ROOM];
    unsigned head, tail;
    bool armed;
};

/* Buffers to receive with, or sends that are not done. */
struct request {
    uint64_t id;
    uint8_t *at;
    size_t len;
    uint32_t key;
    bool is_inline, signaled;
    uint8_t bytes[VERBS_INLINE];
    enum ibv_wr_opcode opcode;
    uint64_t remote;
    uint32_t rkey, qpn, q_key;
};

struct queue {
    struct request *at;
    unsigned head, tail;
};

struct fake_srq {
    struct ibv_srq it;
    struct queue in;
};

struct fake_qp {
    struct ibv_qp it;
    struct fake_qp *next;
    struct queue in, out;
    struct ibv_qp_attr attr;
    unsigned inline_most;
    bool cut;
};

struct fake_mr {
    struct ibv_mr it;
    struct fake_mr *next;
    int access;
};

struct fake_rdma rdma;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gone_on = PTHREAD_COND_INITIALIZER;
static struct fake_context *contexts;
static struct fake_qp *qps;
static struct fake_mr *mrs;
static uint32_t numbers = 16;
static struct verbs_library real;
static char folder[] = "/tmp/pinwheel-verbs.XXXXXX";

void fake_verbs_lock(void)
{
    pthread_mutex_lock(&lock);
}

void fake_verbs_unlock(void)
{
    pthread_mutex_unlock(&lock);
}

void fake_verbs_refuse(const char *what, int err)
{
    fake_verbs_lock();
    rdma.refused = what;
    rdma.refused_errno = err;
    fake_verbs_unlock();
}

/* As errno says then; 0: it does not. */
static int refuses(const char *what)
{
    int err;

    fake_verbs_lock();
    err = rdma.refused && !strcmp(rdma.refused, what) ? rdma.refused_errno : 0;
    rdma.refusals += err != 0;
    fake_verbs_unlock();
    if (err)
        errno = err;
    return err;
}

static void *make(const char *what, size_t size)
{
    void *it;

    if (refuses(what))
        return NULL;
    it = calloc(1, size);
    if (!it)
        abort();
    pthread_mutex_lock(&lock);
    rdma.opened++;
    pthread_mutex_unlock(&lock);
    return it;
}

static int drop(void *it)
{
    pthread_mutex_lock(&lock);
    rdma.opened--;
    pthread_mutex_unlock(&lock);
    free(it);
    return 0;
}

/* ---- queues ---- */

static void queue_make(struct queue *q)
{
    q->at = calloc(QUEUE_ROOM, sizeof(*q->at));
    if (!q->at)
        abort();
}

static struct request *queue_first(const struct queue *q)
{
    return q->head == q->tail ? NULL : &q->at[q->head % QUEUE_ROOM];
}

static struct request *queue_add(struct queue *q)
{
    return q->tail - q->head == QUEUE_ROOM ? NULL : &q->at[q->tail++ % QUEUE_ROOM];
}

static void complete(struct ibv_cq *to, const struct ibv_wc *wc)
{
    struct fake_cq *cq = (struct fake_cq *)to;
    uint64_t one = 1;

    if (cq->tail - cq->head == CQ_ROOM)
        abort();
    cq->wc[cq->tail++ % CQ_ROOM] = *wc;
    if (cq->armed && write(cq->it.channel->fd, &one, sizeof(one)) < 0)
        abort();
    cq->armed = false;
}

/* ---- memory ---- */

static bool may(uint32_t key, uintptr_t at, size_t len, int access, bool remote)
{
    for (const struct fake_mr *mr = mrs; mr; mr = mr->next) {
        uintptr_t base = (uintptr_t)mr->it.addr;

        if ((remote ? mr->it.rkey : mr->it.lkey) == key)
            return at >= base && at - base <= mr->it.length &&
                   len <= mr->it.length - (at - base) && (mr->access & access) == access;
    }
    return false;
}

/* As RLIMIT_MEMLOCK does. */
static bool lock_more(size_t len)
{
    bool room;

    pthread_mutex_lock(&lock);
    room = !rdma.lockable || len <= rdma.lockable - rdma.locked;
    rdma.locked += room ? len : 0;
    pthread_mutex_unlock(&lock);
    errno = ENOMEM;
    return room;
}

static struct ibv_mr *fake_reg_mr(struct ibv_pd *pd, void *addr, size_t len, int access)
{
    struct fake_mr *mr;

    if (refuses("reg_mr") || !lock_more(len))
        return NULL;
    mr = make("reg_mr", sizeof(*mr));
    pthread_mutex_lock(&lock);
    rdma.rights |= access;
    mr->it = (struct ibv_mr){ .pd = pd, .context = pd->context, .addr = addr, .length = len,
                              .lkey = ++numbers };
    mr->it.rkey = ++numbers;
    mr->access = access;
    mr->next = mrs;
    mrs = mr;
    rdma.registered++;
    pthread_mutex_unlock(&lock);
    return &mr->it;
}

static struct ibv_mr *fake_reg_mr_iova2(struct ibv_pd *pd, void *addr, size_t len,
                                        uint64_t iova, unsigned access)
{
    if (iova != (uintptr_t)addr)
        abort();
    if (access & IBV_ACCESS_RELAXED_ORDERING) {
        int err;

        pthread_mutex_lock(&lock);
        rdma.relaxed_tries++;
        err = rdma.strict;
        pthread_mutex_unlock(&lock);
        if (err) {
            errno = err;
            return NULL;
        }
    }
    return fake_reg_mr(pd, addr, len, (int)access);
}

static int fake_dereg_mr(struct ibv_mr *it)
{
    struct fake_mr **at = &mrs;

    pthread_mutex_lock(&lock);
    while (&(*at)->it != it)
        at = &(*at)->next;
    *at = (*at)->next;
    rdma.locked -= it->length;
    pthread_mutex_unlock(&lock);
    return drop(it);
}

/* ---- work ---- */

static struct fake_qp *qp_find(uint32_t number)
{
    struct fake_qp *qp = qps;

    while (qp && qp->it.qp_num != number)
        qp = qp->next;
    return qp;
}

static const uint8_t *request_bytes(const struct request *r)
{
    if (r->is_inline || !r->len)
        return r->bytes;
    return may(r->key, (uintptr_t)r->at, r->len, 0, false) ? r->at : NULL;
}

static void request_end(struct fake_qp *qp, enum ibv_wc_status status)
{
    const struct request *r = queue_first(&qp->out);
    struct ibv_wc wc = { .wr_id = r->id, .status = status, .qp_num = qp->it.qp_num };

    if (r->signaled || status != IBV_WC_SUCCESS)
        complete(qp->it.send_cq, &wc);
    else
        rdma.silent++;
    qp->out.head++;
    if (status != IBV_WC_SUCCESS)
        qp->it.state = IBV_QPS_ERR;
}

/* False: it has no buffer. */
static bool receive(struct fake_qp *to, struct queue *in, size_t before, const uint8_t *bytes,
                    size_t len, uint32_t src)
{
    const struct request *room = queue_first(in);
    struct ibv_wc wc = { .qp_num = to->it.qp_num, .byte_len = (uint32_t)(before + len),
                         .src_qp = src, .opcode = IBV_WC_RECV };

    if (!room)
        return false;
    in->head++;
    wc.wr_id = room->id;
    if (before + len > room->len ||
        !may(room->key, (uintptr_t)room->at, room->len, IBV_ACCESS_LOCAL_WRITE, false))
        wc.status = IBV_WC_LOC_LEN_ERR;
    else
        memcpy(room->at + before, bytes, len);
    complete(to->it.recv_cq, &wc);
    return true;
}

static bool letter_lost(const uint8_t *bytes, size_t len)
{
    struct verbs_letter letter = { 0 };

    memcpy(&letter, bytes, len < sizeof(letter) ? len : sizeof(letter));
    return rdma.letter && !rdma.letter(&letter);
}

static void datagram(struct fake_qp *from, const struct request *r)
{
    struct fake_qp *to = qp_find(r->qpn);
    const uint8_t *bytes = request_bytes(r);
    unsigned times = 1;

    if (!to || to->cut || !bytes || to->attr.qkey != r->q_key || letter_lost(bytes, r->len))
        return;
    if (rdma.letters_twice) {
        rdma.letters_twice--;
        times = 2;
    }
    while (times--)
        receive(to, &to->in, VERBS_GRH, bytes, r->len, from->it.qp_num);
}

static bool connected(const struct fake_qp *from, const struct fake_qp *to)
{
    return to && !to->cut && to->attr.dest_qp_num == from->it.qp_num &&
           (to->it.state == IBV_QPS_RTR || to->it.state == IBV_QPS_RTS);
}

static enum ibv_wc_status read_do(struct fake_qp *to, const struct request *r)
{
    if (!may(r->rkey, (uintptr_t)r->remote, r->len, IBV_ACCESS_REMOTE_READ, true)) {
        to->it.state = IBV_QPS_ERR;
        return IBV_WC_REM_ACCESS_ERR;
    }
    if (!may(r->key, (uintptr_t)r->at, r->len, IBV_ACCESS_LOCAL_WRITE, false))
        return IBV_WC_LOC_PROT_ERR;
    memcpy(r->at, (const void *)(uintptr_t)r->remote, r->len);
    return IBV_WC_SUCCESS;
}

/* The first of what is posted there. False: it waits. */
static bool work_one(struct fake_qp *qp)
{
    const struct request *r = queue_first(&qp->out);
    struct fake_qp *to;
    const uint8_t *bytes;

    if (!r || (qp->it.state == IBV_QPS_ERR && rdma.hold_flush))
        return false;
    if (qp->it.qp_type == IBV_QPT_UD && rdma.letters_fail) {
        rdma.letters_fail--;
        request_end(qp, IBV_WC_LOC_QP_OP_ERR);
        return true;
    }
    if (qp->it.qp_type == IBV_QPT_UD && qp->it.state != IBV_QPS_ERR) {
        datagram(qp, r);
        request_end(qp, IBV_WC_SUCCESS);
        return true;
    }
    to = qp_find(qp->attr.dest_qp_num);
    if (qp->it.state == IBV_QPS_ERR) {
        request_end(qp, IBV_WC_WR_FLUSH_ERR);
    } else if (!connected(qp, to)) {
        request_end(qp, IBV_WC_RETRY_EXC_ERR);
    } else if (r->opcode == IBV_WR_RDMA_READ) {
        if (rdma.hold_reads)
            return false;
        request_end(qp, read_do(to, r));
    } else {
        bytes = request_bytes(r);
        if (rdma.rnr_ends) {
            rdma.rnr_ends--;
            request_end(qp, IBV_WC_RNR_RETRY_EXC_ERR);
            return true;
        }
        if (rdma.no_buffers)
            return false;
        if (bytes && !receive(to, &((struct fake_srq *)to->it.srq)->in, 0, bytes, r->len, 0))
            return false;
        request_end(qp, bytes ? IBV_WC_SUCCESS : IBV_WC_LOC_PROT_ERR);
    }
    return true;
}

static void buffers_flush(struct fake_qp *qp)
{
    struct ibv_wc wc = { .status = IBV_WC_WR_FLUSH_ERR, .qp_num = qp->it.qp_num };

    for (; queue_first(&qp->in); qp->in.head++) {
        wc.wr_id = queue_first(&qp->in)->id;
        complete(qp->it.recv_cq, &wc);
    }
}

static void work(void)
{
    for (struct fake_qp *qp = qps; qp; qp = qp->next) {
        while (work_one(qp))
            ;
        if (qp->it.state == IBV_QPS_ERR && !rdma.hold_flush)
            buffers_flush(qp);
    }
}

void fake_verbs_go_on(void)
{
    pthread_mutex_lock(&lock);
    rdma.hold_reads = rdma.hold_flush = rdma.hold_routes = rdma.no_buffers = false;
    pthread_cond_broadcast(&gone_on);
    pthread_mutex_unlock(&lock);
}

static int fake_poll_cq(struct ibv_cq *it, int n, struct ibv_wc *wc)
{
    struct fake_cq *cq = (struct fake_cq *)it;
    int got = 0;

    if (refuses("poll_cq"))
        return -1;
    pthread_mutex_lock(&lock);
    work();
    while (got < n && cq->head != cq->tail)
        wc[got++] = cq->wc[cq->head++ % CQ_ROOM];
    pthread_mutex_unlock(&lock);
    return got;
}

static int fake_req_notify(struct ibv_cq *it, int solicited)
{
    (void)solicited;
    pthread_mutex_lock(&lock);
    ((struct fake_cq *)it)->armed = true;
    pthread_mutex_unlock(&lock);
    return 0;
}

static int post_room(struct queue *in, const struct ibv_recv_wr *wr)
{
    struct request *r;

    if (refuses("post_recv"))
        return errno;
    pthread_mutex_lock(&lock);
    r = queue_add(in);
    if (r)
        *r = (struct request){ .id = wr->wr_id, .at = (void *)(uintptr_t)wr->sg_list->addr,
                               .len = wr->sg_list->length, .key = wr->sg_list->lkey };
    pthread_mutex_unlock(&lock);
    return r ? 0 : ENOMEM;
}

static int fake_post_srq_recv(struct ibv_srq *srq, struct ibv_recv_wr *wr,
                              struct ibv_recv_wr **bad)
{
    (void)bad;
    return post_room(&((struct fake_srq *)srq)->in, wr);
}

static int fake_post_recv(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
{
    (void)bad;
    return post_room(&((struct fake_qp *)qp)->in, wr);
}

static void request_fill(struct request *r, const struct ibv_send_wr *wr, bool all)
{
    static const struct ibv_sge none;
    const struct ibv_sge *sge = wr->num_sge ? wr->sg_list : &none;

    *r = (struct request){
        .id = wr->wr_id, .at = (void *)(uintptr_t)sge->addr, .len = sge->length,
        .key = sge->lkey, .opcode = wr->opcode,
        .is_inline = wr->send_flags & IBV_SEND_INLINE,
        .signaled = all || wr->send_flags & IBV_SEND_SIGNALED,
    };
    if (r->is_inline)
        memcpy(r->bytes, r->at, r->len);
    if (wr->opcode == IBV_WR_RDMA_READ) {
        r->remote = wr->wr.rdma.remote_addr;
        r->rkey = wr->wr.rdma.rkey;
    } else {
        r->qpn = wr->wr.ud.remote_qpn;
        r->q_key = wr->wr.ud.remote_qkey;
    }
}

static int fake_post_send(struct ibv_qp *it, struct ibv_send_wr *wr, struct ibv_send_wr **bad)
{
    struct fake_qp *qp = (struct fake_qp *)it;
    struct request *r;

    (void)bad;
    if (refuses("post_send"))
        return errno;
    if (wr->send_flags & IBV_SEND_INLINE && wr->sg_list->length > qp->inline_most)
        return EINVAL;
    pthread_mutex_lock(&lock);
    r = queue_add(&qp->out);
    if (r)
        request_fill(r, wr, it->qp_type == IBV_QPT_UD);
    pthread_mutex_unlock(&lock);
    return r ? 0 : ENOMEM;
}

/* ---- objects ---- */

static struct ibv_device **fake_get_device_list(int *n)
{
    struct ibv_device **list = calloc(FAKE_DEVICES + 1, sizeof(*list));

    if (!list)
        abort();
    for (unsigned i = 0; i < rdma.n_devices; i++)
        list[i] = &rdma.device[i];
    *n = (int)rdma.n_devices;
    return list;
}

static void fake_free_device_list(struct ibv_device **list)
{
    free(list);
}

static struct ibv_context *fake_open_device(struct ibv_device *device)
{
    struct fake_context *c = make("open_device", sizeof(*c));

    if (!c)
        return NULL;
    c->it.device = device;
    c->it.async_fd = eventfd(0, EFD_SEMAPHORE);
    c->it.ops = (struct ibv_context_ops){
        .poll_cq = fake_poll_cq, .req_notify_cq = fake_req_notify,
        .post_srq_recv = fake_post_srq_recv, .post_recv = fake_post_recv,
        .post_send = fake_post_send,
    };
    pthread_mutex_lock(&lock);
    c->next = contexts;
    contexts = c;
    pthread_mutex_unlock(&lock);
    return &c->it;
}

static int fake_close_device(struct ibv_context *it)
{
    struct fake_context **at = &contexts;

    pthread_mutex_lock(&lock);
    while (&(*at)->it != it)
        at = &(*at)->next;
    *at = (*at)->next;
    pthread_mutex_unlock(&lock);
    close(it->async_fd);
    return drop(it);
}

static unsigned device_index(const struct ibv_context *context)
{
    return (unsigned)(context->device - rdma.device);
}

static int fake_query_device(struct ibv_context *context, struct ibv_device_attr *out)
{
    *out = rdma.limits[device_index(context)];
    return refuses("query_device");
}

static int fake_query_port(struct ibv_context *context, uint8_t port,
                           struct ibv_port_attr *out)
{
    *out = rdma.port[device_index(context)][port - 1];
    return refuses("query_port");
}

static ssize_t fake_query_gid_table(struct ibv_context *context, struct ibv_gid_entry *out,
                                    size_t max, uint32_t flags, size_t size)
{
    (void)context;
    (void)flags;
    if (size != sizeof(*out) || rdma.n_gids > max)
        abort();
    memcpy(out, rdma.gid, rdma.n_gids * sizeof(*out));
    return (ssize_t)rdma.n_gids;
}

void fake_verbs_event(enum ibv_event_type type, struct ibv_qp *qp)
{
    uint64_t one = 1;

    pthread_mutex_lock(&lock);
    for (struct fake_context *c = contexts; c; c = c->next) {
        struct ibv_async_event *event = &c->events[c->n_events];

        if (qp && qp->context != &c->it)
            continue;
        if (c->n_events == EVENTS || write(c->it.async_fd, &one, sizeof(one)) < 0)
            abort();
        event->event_type = type;
        if (qp)
            event->element.qp = qp;
        else
            event->element.port_num = 1;
        c->n_events++;
    }
    pthread_mutex_unlock(&lock);
}

unsigned fake_verbs_events_unread(void)
{
    unsigned n = 0;

    pthread_mutex_lock(&lock);
    for (const struct fake_context *c = contexts; c; c = c->next)
        n += c->n_events;
    pthread_mutex_unlock(&lock);
    return n;
}

static int fake_get_async_event(struct ibv_context *it, struct ibv_async_event *out)
{
    struct fake_context *c = (struct fake_context *)it;
    uint64_t n;
    bool there;

    pthread_mutex_lock(&lock);
    there = c->n_events && read(it->async_fd, &n, sizeof(n)) > 0;
    if (there)
        *out = c->events[--c->n_events];
    pthread_mutex_unlock(&lock);
    return there ? 0 : -1;
}

static void fake_ack_async_event(struct ibv_async_event *event)
{
    (void)event;
}

static struct ibv_pd *fake_alloc_pd(struct ibv_context *context)
{
    struct ibv_pd *pd = make("alloc_pd", sizeof(*pd));

    if (pd)
        pd->context = context;
    return pd;
}

static int fake_dealloc_pd(struct ibv_pd *pd)
{
    return drop(pd);
}

static struct ibv_comp_channel *fake_create_comp_channel(struct ibv_context *context)
{
    struct ibv_comp_channel *channel = make("create_comp_channel", sizeof(*channel));

    if (channel) {
        channel->context = context;
        channel->fd = eventfd(0, 0);
    }
    return channel;
}

static int fake_destroy_comp_channel(struct ibv_comp_channel *channel)
{
    close(channel->fd);
    return drop(channel);
}

static struct ibv_cq *fake_create_cq(struct ibv_context *context, int entries, void *of,
                                     struct ibv_comp_channel *channel, int vector)
{
    struct fake_cq *cq = make("create_cq", sizeof(*cq));

    (void)vector;
    if (cq)
        cq->it = (struct ibv_cq){ .context = context, .channel = channel, .cq_context = of,
                                  .cqe = entries };
    return cq ? &cq->it : NULL;
}

static int fake_destroy_cq(struct ibv_cq *cq)
{
    return drop(cq);
}

static int fake_get_cq_event(struct ibv_comp_channel *channel, struct ibv_cq **cq, void **of)
{
    uint64_t n;

    (void)cq;
    (void)of;
    return read(channel->fd, &n, sizeof(n)) > 0 ? 0 : -1;
}

static void fake_ack_cq_events(struct ibv_cq *cq, unsigned n)
{
    (void)cq;
    (void)n;
}

static struct ibv_srq *fake_create_srq(struct ibv_pd *pd, struct ibv_srq_init_attr *attr)
{
    struct fake_srq *srq = make("create_srq", sizeof(*srq));

    (void)attr;
    if (!srq)
        return NULL;
    srq->it.context = pd->context;
    queue_make(&srq->in);
    return &srq->it;
}

static int fake_destroy_srq(struct ibv_srq *srq)
{
    free(((struct fake_srq *)srq)->in.at);
    return drop(srq);
}

static unsigned qps_of(const struct ibv_context *context)
{
    unsigned n = 0;

    for (const struct fake_qp *qp = qps; qp; qp = qp->next)
        n += qp->it.context == context && qp->it.qp_type == IBV_QPT_RC;
    return n;
}

/* One more of that context. */
static bool qps_full(const struct ibv_context *context)
{
    unsigned n;
    bool full;

    pthread_mutex_lock(&lock);
    n = qps_of(context) + 1;
    full = rdma.qps && n > rdma.qps;
    if (!full && n > rdma.qps_most)
        rdma.qps_most = n;
    pthread_mutex_unlock(&lock);
    return full;
}

static struct ibv_qp *fake_create_qp(struct ibv_pd *pd, struct ibv_qp_init_attr *attr)
{
    struct fake_qp *qp;

    errno = EINVAL;
    if (attr->cap.max_inline_data > rdma.inline_most ||
        (attr->qp_type == IBV_QPT_RC && refuses("create_rc")))
        return NULL;
    errno = ENOMEM;
    if (attr->qp_type == IBV_QPT_RC && qps_full(pd->context))
        return NULL;
    qp = make("create_qp", sizeof(*qp));
    if (!qp)
        return NULL;
    queue_make(&qp->in);
    queue_make(&qp->out);
    qp->inline_most = attr->cap.max_inline_data;
    pthread_mutex_lock(&lock);
    qp->it = (struct ibv_qp){ .context = pd->context, .qp_context = attr->qp_context,
                              .pd = pd, .send_cq = attr->send_cq, .recv_cq = attr->recv_cq,
                              .srq = attr->srq, .qp_num = ++numbers,
                              .qp_type = attr->qp_type };
    qp->next = qps;
    qps = qp;
    pthread_mutex_unlock(&lock);
    return &qp->it;
}

/* A device refuses a reliable connection of which it is not told all. */
static bool mask_whole(enum ibv_qp_state to, int mask)
{
    int init = IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS;
    int rtr = IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
              IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
    int rts = IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN |
              IBV_QP_MAX_QP_RD_ATOMIC;
    int needed = to == IBV_QPS_INIT ? init : to == IBV_QPS_RTR ? rtr :
                 to == IBV_QPS_RTS ? rts : 0;

    return (mask & needed) == needed;
}

/* The lock is held. */
static void last_buffer_reached(struct ibv_qp *qp)
{
    struct fake_context *c = (struct fake_context *)qp->context;
    uint64_t one = 1;

    if (c->n_events == EVENTS || write(c->it.async_fd, &one, sizeof(one)) < 0)
        abort();
    c->events[c->n_events++] = (struct ibv_async_event){
        .event_type = IBV_EVENT_QP_LAST_WQE_REACHED, .element.qp = qp,
    };
}

static int fake_modify_qp(struct ibv_qp *it, struct ibv_qp_attr *attr, int mask)
{
    struct fake_qp *qp = (struct fake_qp *)it;

    if (attr->qp_state == IBV_QPS_RTR && it->qp_type == IBV_QPT_RC && refuses("modify_qp"))
        return errno;
    if (it->qp_type == IBV_QPT_RC && !mask_whole(attr->qp_state, mask))
        return EINVAL;
    pthread_mutex_lock(&lock);
    it->state = attr->qp_state;
    if (it->srq && attr->qp_state == IBV_QPS_ERR && !rdma.hold_flush && !rdma.never_last)
        last_buffer_reached(it);
    if (mask & IBV_QP_ACCESS_FLAGS)
        rdma.rights |= (int)attr->qp_access_flags;
    if (mask & IBV_QP_PKEY_INDEX)
        *(it->qp_type == IBV_QPT_RC ? &rdma.pkey_ways : &rdma.pkey_letters) =
            attr->pkey_index;
    if (attr->qp_state == IBV_QPS_RESET) {
        qp->in.head = qp->in.tail;
        qp->out.head = qp->out.tail;
    }
    if (mask & IBV_QP_QKEY)
        qp->attr.qkey = attr->qkey;
    if (mask & IBV_QP_DEST_QPN)
        qp->attr.dest_qp_num = attr->dest_qp_num;
    if (mask & IBV_QP_MAX_QP_RD_ATOMIC)
        rdma.last = *attr;
    pthread_mutex_unlock(&lock);
    return 0;
}

/* Nobody is told any more what has ended there. */
static void ended_forget(struct fake_cq *cq, uint32_t number)
{
    unsigned to = cq->head;

    for (unsigned at = cq->head; at != cq->tail; at++)
        if (cq->wc[at % CQ_ROOM].qp_num != number)
            cq->wc[to++ % CQ_ROOM] = cq->wc[at % CQ_ROOM];
    cq->tail = to;
}

/* The kernel drops what was not read. */
static void events_forget(struct fake_context *c, const struct ibv_qp *qp)
{
    unsigned to = 0;
    uint64_t n;

    for (unsigned at = 0; at < c->n_events; at++)
        if (c->events[at].event_type != IBV_EVENT_QP_LAST_WQE_REACHED ||
            c->events[at].element.qp != qp)
            c->events[to++] = c->events[at];
        else if (read(c->it.async_fd, &n, sizeof(n)) < 0)
            abort();
    c->n_events = to;
}

unsigned fake_verbs_buffers(struct pw_nic *nic)
{
    const struct fake_srq *srq = (struct fake_srq *)((struct verbs_nic *)nic)->srq;
    unsigned n;

    pthread_mutex_lock(&lock);
    n = srq->in.tail - srq->in.head;
    pthread_mutex_unlock(&lock);
    return n;
}

static int fake_destroy_qp(struct ibv_qp *it)
{
    struct fake_qp **at = &qps, *qp = (struct fake_qp *)it;

    pthread_mutex_lock(&lock);
    while (*at != qp)
        at = &(*at)->next;
    *at = qp->next;
    if (rdma.forgets)
        ended_forget((struct fake_cq *)it->send_cq, it->qp_num);
    events_forget((struct fake_context *)it->context, it);
    pthread_mutex_unlock(&lock);
    free(qp->in.at);
    free(qp->out.at);
    return drop(it);
}

void fake_verbs_cut(struct pw_nic *nic)
{
    const struct ibv_context *context = ((struct verbs_nic *)nic)->context;

    pthread_mutex_lock(&lock);
    for (struct fake_qp *qp = qps; qp; qp = qp->next)
        qp->cut = qp->cut || qp->it.context == context;
    pthread_mutex_unlock(&lock);
}

/* False: nobody has answered. */
static bool route_found(void)
{
    struct timespec until;
    bool found;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec++;
    pthread_mutex_lock(&lock);
    rdma.routes_waited += rdma.hold_routes;
    while (rdma.hold_routes && !pthread_cond_timedwait(&gone_on, &lock, &until))
        ;
    found = !rdma.hold_routes;
    pthread_mutex_unlock(&lock);
    return found;
}

static struct ibv_ah *fake_create_ah(struct ibv_pd *pd, struct ibv_ah_attr *attr)
{
    struct ibv_ah *ah;

    (void)attr;
    errno = ETIMEDOUT;
    if (!route_found())
        return NULL;
    ah = make("create_ah", sizeof(*ah));
    if (ah)
        ah->pd = pd;
    return ah;
}

static int fake_destroy_ah(struct ibv_ah *ah)
{
    return drop(ah);
}

static int fake_fork_init(void)
{
    rdma.forks++;
    return 0;
}

static enum ibv_fork_status fake_is_fork_initialized(void)
{
    return rdma.forks ? IBV_FORK_ENABLED : IBV_FORK_DISABLED;
}

/* ---- the library ---- */

static struct verbs_library *library_loaded(void)
{
    char why[PW_NIC_WHY_MAX];

    return (struct verbs_library *)(uintptr_t)verbs_library(why);
}

static void folder_fill(void)
{
    char path[sizeof(folder) + 16];

    if (!mkdtemp(folder))
        abort();
    snprintf(path, sizeof(path), "%s/fake0", folder);
    if (mkdir(path, 0700))
        abort();
}

static void device_make(void)
{
    static const uint8_t gid[16] = { [10] = 0xff, [11] = 0xff, [12] = 10, [13] = 9, [15] = 1 };

    rdma.n_devices = 1;
    for (unsigned i = 0; i < FAKE_DEVICES; i++) {
        snprintf(rdma.device[i].name, sizeof(rdma.device[i].name), "fake%u", i);
        snprintf(rdma.device[i].dev_name, sizeof(rdma.device[i].dev_name), "uverbs9%u", i);
        rdma.limits[i] = (struct ibv_device_attr){ .phys_port_cnt = 1, .max_srq_wr = 2048,
                                                   .max_cqe = 32767, .max_qp_rd_atom = 4,
                                                   .max_qp_init_rd_atom = 8 };
        for (unsigned k = 0; k < FAKE_PORTS; k++)
            rdma.port[i][k] = (struct ibv_port_attr){
                .state = IBV_PORT_ACTIVE, .active_mtu = IBV_MTU_1024, .active_speed = 32,
                .active_width = 2, .link_layer = IBV_LINK_LAYER_ETHERNET,
                .max_msg_sz = 65536, .pkey_tbl_len = 4,
            };
    }
    rdma.n_gids = 1;
    rdma.gid[0] = (struct ibv_gid_entry){ .port_num = 1, .gid_index = 3,
                                          .gid_type = IBV_GID_TYPE_ROCE_V2 };
    memcpy(rdma.gid[0].gid.raw, gid, sizeof(gid));
    rdma.inline_most = 128;
}

void fake_verbs_install(void)
{
    struct verbs_library *lib = library_loaded();

    if (!lib)
        abort();
    real = *lib;
    *lib = (struct verbs_library){
        fake_get_device_list, fake_free_device_list, fake_open_device, fake_close_device,
        fake_query_device, fake_query_port, fake_query_gid_table, fake_get_async_event,
        fake_ack_async_event, fake_alloc_pd, fake_dealloc_pd, fake_reg_mr,
        fake_reg_mr_iova2, fake_dereg_mr, fake_create_comp_channel,
        fake_destroy_comp_channel, fake_create_cq, fake_destroy_cq,
        fake_get_cq_event, fake_ack_cq_events, fake_create_srq, fake_destroy_srq,
        fake_create_qp, fake_modify_qp, fake_destroy_qp, fake_create_ah, fake_destroy_ah,
        fake_fork_init, fake_is_fork_initialized,
    };
    device_make();
    folder_fill();
    rdm_ports_use(folder);
}

void fake_verbs_remove(void)
{
    char path[sizeof(folder) + 16];

    snprintf(path, sizeof(path), "%s/fake0", folder);
    rmdir(path);
    rmdir(folder);
    *library_loaded() = real;
}
