/* SPDX-License-Identifier: BSD-3-Clause */
/* rdma.c - registration, get, put and atomics as Open MPI asks for them.
 *
 * Start at pw_get(). The core either does it at once, then the caller's
 * callback comes before we return (both callers allow it), or later.
 *
 * A NULL endpoint or a NULL remote handle means that the remote address is one of
 * this process: osc/rdma passes them for a window's local part, and for memory
 * of MPI_Win_allocate, which it has mapped itself. So does the endpoint pw_own.
 *
 * A registration of all memory is a dynamic window's: see osc_dynamic.c.
 */
#include <errno.h>

#include "limits.h"
#include "pinwheel.h"
#include "pinwheel/atomic.h"

typedef struct pw_rdma pw_rdma_t;
typedef struct pw_handle pw_handle_t;
OBJ_CLASS_INSTANCE(pw_rdma_t, opal_free_list_item_t, NULL, NULL);
OBJ_CLASS_INSTANCE(pw_handle_t, opal_free_list_item_t, NULL, NULL);

static bool is_here(const struct mca_btl_base_endpoint_t *endpoint,
                    const struct mca_btl_base_registration_handle_t *handle)
{
    return !endpoint || !handle || endpoint == &pw_own;
}

static int list_init(opal_free_list_t *list, size_t size, opal_class_t *class)
{
    OBJ_CONSTRUCT(list, opal_free_list_t);
    return opal_free_list_init(list, size, 64, class, 0, 0, 16, -1, 64, NULL, 0, NULL,
                               NULL, NULL);
}

int pw_rdma_init(void)
{
    int rc = list_init(&pw_module.rdmas, sizeof(struct pw_rdma), OBJ_CLASS(pw_rdma_t));

    return rc ? rc : list_init(&pw_module.handles, sizeof(struct pw_handle),
                               OBJ_CLASS(pw_handle_t));
}

void pw_rdma_fini(void)
{
    OBJ_DESTRUCT(&pw_module.rdmas);
    OBJ_DESTRUCT(&pw_module.handles);
}

/* NULL makes the PML send in fragments: right for a message in ordinary memory
 * that is too short to pay for a request and an answer. */
static size_t rget_min(const struct pw_module *m, const struct mca_btl_base_endpoint_t *to)
{
    if (pw_params.rget_min)
        return pw_params.rget_min;
    if (to && !to->near)
        return PW_RGET_MIN_FAR;
    return pw_engine_crowded(m->engine) ? PW_RGET_MIN_CROWDED : PW_RGET_MIN;
}

static bool fragments_are_better(struct pw_module *m,
                                 const struct mca_btl_base_endpoint_t *to,
                                 const void *base, size_t size, uint32_t flags)
{
    return flags == MCA_BTL_REG_FLAG_REMOTE_READ && size < rget_min(m, to) &&
           !pw_pool_contains(m->pool, base, size);
}

/* NULL from register_mem: ob1 sends in fragments instead. */
static void tell_refusal(size_t size, int err)
{
    static bool told;

    if (__atomic_exchange_n(&told, true, __ATOMIC_RELAXED))
        return;
    pw_tell(1, "%zu bytes could not be registered (%s)%s. Messages in such memory are "
            "copied, puts and gets of windows on it too; this is told once", size,
            strerror(-err),
            err == -ENOMEM ? ": what may be pinned is spent, see btl_pinwheel_pin_bytes, "
            "_pin_regions, _pin_host_bytes and ulimit -l" : "");
}

_Thread_local struct mca_btl_base_registration_handle_t *pw_sparse_handle;

static int engine_register(struct pw_module *m, void *base, size_t size, unsigned access,
                           bool window, struct mca_btl_base_registration_handle_t *handle)
{
    int err;

    if (__builtin_expect(base || size != PW_ALL_MEMORY, 1)) {
        err = pw_engine_register(m->engine, base, size, access, window, &handle->key);
        if (__builtin_expect((err != -ENOMEM && err != -EAGAIN) || !window, 1))
            return err;
        tell_refusal(size, err);
        return pw_engine_register_copied(m->engine, base, size, access, window,
                                         &handle->key);
    }
    err = pw_engine_register_sparse(m->engine, access, window, &handle->key);
    if (!err)
        pw_sparse_handle = handle;
    return err;
}

struct mca_btl_base_registration_handle_t *
pw_register_mem(struct mca_btl_base_module_t *btl,
                struct mca_btl_base_endpoint_t *endpoint, void *base, size_t size,
                uint32_t flags)
{
    struct pw_module *m = &pw_module;
    bool window = flags & MCA_BTL_REG_FLAG_REMOTE_ATOMIC;
    unsigned access = 0;
    struct pw_handle *h;
    int err;

    (void)btl;
    if (fragments_are_better(m, endpoint, base, size, flags))
        return NULL;
    h = (struct pw_handle *)opal_free_list_get(&m->handles);
    if (!h)
        return NULL;
    access |= flags & MCA_BTL_REG_FLAG_REMOTE_READ ? PW_READ : 0;
    access |= flags & MCA_BTL_REG_FLAG_REMOTE_WRITE ? PW_WRITE : 0;
    access |= flags & MCA_BTL_REG_FLAG_REMOTE_ATOMIC ? PW_ATOMIC : 0;
    err = engine_register(m, base, size, access, window, &h->handle);
    if (__builtin_expect(!err, 1))
        return &h->handle;
    opal_free_list_return(&m->handles, &h->item);
    tell_refusal(size, err);
    return NULL;
}

int pw_deregister_mem(struct mca_btl_base_module_t *btl,
                      struct mca_btl_base_registration_handle_t *handle)
{
    struct pw_module *m = &pw_module;
    struct pw_handle *h = (struct pw_handle *)((char *)handle -
                                               offsetof(struct pw_handle, handle));

    (void)btl;
    pw_engine_deregister(m->engine, &handle->key);
    opal_free_list_return(&m->handles, &h->item);
    return OPAL_SUCCESS;
}

static void rdma_done(void *arg, int status)
{
    struct pw_rdma *r = arg;
    struct pw_rdma was = *r;

    if (!status && was.width)
        memcpy(was.local, &was.result, was.width);
    opal_free_list_return(&pw_module.rdmas, &r->item);
    if (was.done)
        was.done(&pw_module.super, was.endpoint, was.local, was.handle, was.context,
                 was.data, pw_opal_error(status));
}

static struct pw_rdma *rdma_new(struct mca_btl_base_endpoint_t *endpoint, void *local,
                                struct mca_btl_base_registration_handle_t *handle,
                                mca_btl_base_rdma_completion_fn_t done, void *context,
                                void *data)
{
    struct pw_rdma *r = (struct pw_rdma *)opal_free_list_get(&pw_module.rdmas);

    if (!r)
        return NULL;
    r->endpoint = endpoint;
    r->local = local;
    r->handle = handle;
    r->done = done;
    r->context = context;
    r->data = data;
    r->width = 0;
    return r;
}

/* What the core said of an operation of ours. Refused: the caller gets the error
 * as the return value and no callback. */
static int rdma_settle(struct pw_rdma *r, int err)
{
    if (err == PW_NIC_PENDING)
        return OPAL_SUCCESS;
    if (err) {
        opal_free_list_return(&pw_module.rdmas, &r->item);
        return pw_opal_error(err);
    }
    rdma_done(r, 0);
    return OPAL_SUCCESS;
}

int pw_put(struct mca_btl_base_module_t *btl, struct mca_btl_base_endpoint_t *endpoint,
           void *local, uint64_t remote,
           struct mca_btl_base_registration_handle_t *local_handle,
           struct mca_btl_base_registration_handle_t *remote_handle, size_t size,
           int flags, int order, mca_btl_base_rdma_completion_fn_t done, void *context,
           void *data)
{
    struct pw_endpoint *ep;
    struct pw_rdma *r;

    (void)flags;
    (void)order;
    if (is_here(endpoint, remote_handle)) {
        memmove((void *)(uintptr_t)remote, local, size);
    } else if (!(ep = pw_peer(endpoint))) {
        return OPAL_ERR_UNREACH;
    } else if (pw_endpoint_put_now(ep, local, remote, size, &remote_handle->key)) {
        r = rdma_new(endpoint, local, local_handle, done, context, data);
        if (!r)
            return OPAL_ERR_OUT_OF_RESOURCE;
        return rdma_settle(r, pw_endpoint_put(ep, local, remote, size,
                                              &remote_handle->key, rdma_done, r));
    }
    if (done)
        done(btl, endpoint, local, local_handle, context, data, OPAL_SUCCESS);
    return OPAL_SUCCESS;
}

int pw_get(struct mca_btl_base_module_t *btl, struct mca_btl_base_endpoint_t *endpoint,
           void *local, uint64_t remote,
           struct mca_btl_base_registration_handle_t *local_handle,
           struct mca_btl_base_registration_handle_t *remote_handle, size_t size,
           int flags, int order, mca_btl_base_rdma_completion_fn_t done, void *context,
           void *data)
{
    struct pw_endpoint *ep;
    struct pw_rdma *r;

    (void)flags;
    (void)order;
    if (is_here(endpoint, remote_handle)) {
        memmove(local, (void *)(uintptr_t)remote, size);
    } else if (!(ep = pw_peer(endpoint))) {
        return OPAL_ERR_UNREACH;
    } else if (pw_endpoint_get_now(ep, local, remote, size, &remote_handle->key)) {
        r = rdma_new(endpoint, local, local_handle, done, context, data);
        if (!r)
            return OPAL_ERR_OUT_OF_RESOURCE;
        return rdma_settle(r, pw_endpoint_get(ep, local, remote, size,
                                              &remote_handle->key, rdma_done, r));
    }
    if (done)
        done(btl, endpoint, local, local_handle, context, data, OPAL_SUCCESS);
    return OPAL_SUCCESS;
}

static int atomic_name(mca_btl_base_atomic_op_t op, enum pw_atomic_op *out)
{
    switch (op) {
    case MCA_BTL_ATOMIC_ADD:  *out = PW_ATOMIC_ADD; return 0;
    case MCA_BTL_ATOMIC_AND:  *out = PW_ATOMIC_AND; return 0;
    case MCA_BTL_ATOMIC_OR:   *out = PW_ATOMIC_OR; return 0;
    case MCA_BTL_ATOMIC_XOR:  *out = PW_ATOMIC_XOR; return 0;
    case MCA_BTL_ATOMIC_LAND: *out = PW_ATOMIC_LAND; return 0;
    case MCA_BTL_ATOMIC_LOR:  *out = PW_ATOMIC_LOR; return 0;
    case MCA_BTL_ATOMIC_LXOR: *out = PW_ATOMIC_LXOR; return 0;
    case MCA_BTL_ATOMIC_SWAP: *out = PW_ATOMIC_SWAP; return 0;
    default: return -EOPNOTSUPP;    /* MIN, MAX: see btl_atomic_flags */
    }
}

static enum pw_atomic_type atomic_type(int flags)
{
    bool narrow = flags & MCA_BTL_ATOMIC_FLAG_32BIT;

    if (flags & MCA_BTL_ATOMIC_FLAG_FLOAT)
        return narrow ? PW_FLOAT : PW_DOUBLE;
    return narrow ? PW_INT32 : PW_INT64;
}

static int atomic(struct mca_btl_base_endpoint_t *endpoint, struct pw_atomic *what,
                  uint64_t remote, struct mca_btl_base_registration_handle_t *key,
                  struct pw_rdma *r)
{
    struct pw_endpoint *ep;
    int err;

    if (is_here(endpoint, key))
        err = pw_atomic_apply(what, (void *)(uintptr_t)remote, &r->result);
    else if (!(ep = pw_peer(endpoint)))
        err = -EPIPE;
    else
        err = pw_endpoint_atomic(ep, what, remote, &r->result, &key->key,
                                 rdma_done, r);
    return rdma_settle(r, err);
}

int pw_atomic_fop(struct mca_btl_base_module_t *btl,
                  struct mca_btl_base_endpoint_t *endpoint, void *local, uint64_t remote,
                  struct mca_btl_base_registration_handle_t *local_handle,
                  struct mca_btl_base_registration_handle_t *remote_handle,
                  mca_btl_base_atomic_op_t op, uint64_t operand, int flags, int order,
                  mca_btl_base_rdma_completion_fn_t done, void *context, void *data)
{
    struct pw_atomic what = { .type = atomic_type(flags), .operand = operand };
    struct pw_rdma *r;

    (void)btl;
    (void)order;
    /* Any other error would make osc/rdma try for ever. */
    if (atomic_name(op, &what.op))
        return OPAL_ERR_NOT_SUPPORTED;
    r = rdma_new(endpoint, local, local_handle, done, context, data);
    if (!r)
        return OPAL_ERR_OUT_OF_RESOURCE;
    r->width = local ? pw_atomic_width(what.type) : 0;
    return atomic(endpoint, &what, remote, remote_handle, r);
}

int pw_atomic_op(struct mca_btl_base_module_t *btl,
                 struct mca_btl_base_endpoint_t *endpoint, uint64_t remote,
                 struct mca_btl_base_registration_handle_t *remote_handle,
                 mca_btl_base_atomic_op_t op, uint64_t operand, int flags, int order,
                 mca_btl_base_rdma_completion_fn_t done, void *context, void *data)
{
    return pw_atomic_fop(btl, endpoint, NULL, remote, NULL, remote_handle, op, operand,
                         flags, order, done, context, data);
}

int pw_atomic_cswap(struct mca_btl_base_module_t *btl,
                    struct mca_btl_base_endpoint_t *endpoint, void *local,
                    uint64_t remote,
                    struct mca_btl_base_registration_handle_t *local_handle,
                    struct mca_btl_base_registration_handle_t *remote_handle,
                    uint64_t compare, uint64_t value, int flags, int order,
                    mca_btl_base_rdma_completion_fn_t done, void *context, void *data)
{
    struct pw_atomic what = { .op = PW_ATOMIC_CSWAP, .operand = value,
                              .compare = compare,
                              .type = flags & MCA_BTL_ATOMIC_FLAG_32BIT ? PW_INT32
                                                                        : PW_INT64 };
    struct pw_rdma *r = rdma_new(endpoint, local, local_handle, done, context, data);

    (void)btl;
    (void)order;
    if (!r)
        return OPAL_ERR_OUT_OF_RESOURCE;
    r->width = local ? pw_atomic_width(what.type) : 0;
    return atomic(endpoint, &what, remote, remote_handle, r);
}

int pw_flush(struct mca_btl_base_module_t *btl, struct mca_btl_base_endpoint_t *endpoint)
{
    (void)btl;
    (void)endpoint;
    pw_engine_flush(pw_module.engine);
    return OPAL_SUCCESS;
}
