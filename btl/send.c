/* SPDX-License-Identifier: BSD-3-Clause */
/* send.c - messages: what the PML sends and what arrives for it.
 *
 * Start at pw_sendi(), the way of every message up to the eager limit: the
 * PML's header and the user's bytes go straight into the frame. Longer ones
 * come as descriptors (pw_prepare_src(), pw_send()), whose second segment points
 * into the user's buffer when that is contiguous.
 *
 * A frame is copied out before pw_endpoint_send() returns, so a descriptor is
 * done at once, or waits in the core's queue until there is room.
 */
#include <errno.h>

#include "pinwheel.h"

typedef struct pw_frag pw_frag_t;
OBJ_CLASS_INSTANCE(pw_frag_t, mca_btl_base_descriptor_t, NULL, NULL);

/* Descriptors at most: the PML waits and tries again when they are used up, so
 * memory is bounded whatever the program sends at once. */
enum { PW_SMALL_MAX = 8192, PW_LARGE_MAX = 512 };

static int frag_item_init(opal_free_list_item_t *item, void *ctx)
{
    struct pw_frag *f = (struct pw_frag *)item;

    f->list = ctx;
    f->base.des_segments = f->segments;
    f->base.order = MCA_BTL_NO_ORDER;
    return OPAL_SUCCESS;
}

static int frag_list_init(opal_free_list_t *list, size_t bytes, int least, int max)
{
    OBJ_CONSTRUCT(list, opal_free_list_t);
    return opal_free_list_init(list, sizeof(struct pw_frag) + bytes, 64,
                               OBJ_CLASS(pw_frag_t), 0, 0, least, max, 8, NULL, 0, NULL,
                               frag_item_init, list);
}

int pw_send_init(void)
{
    int rc = frag_list_init(&pw_module.small, PW_SMALL, 8, PW_SMALL_MAX);

    if (!rc)
        rc = frag_list_init(&pw_module.large, pw_module.super.btl_max_send_size, 8,
                            PW_LARGE_MAX);
    /* To other hosts alone: none until one is needed. */
    return rc ? rc : frag_list_init(&pw_module.longest, pw_far.btl_max_send_size, 0,
                                    PW_LARGE_MAX);
}

void pw_send_fini(void)
{
    OBJ_DESTRUCT(&pw_module.small);
    OBJ_DESTRUCT(&pw_module.large);
    OBJ_DESTRUCT(&pw_module.longest);
}

static struct pw_frag *frag_get(struct pw_module *m,
                                struct mca_btl_base_endpoint_t *endpoint, size_t bytes,
                                uint32_t flags)
{
    opal_free_list_t *list = bytes <= PW_SMALL ? &m->small :
                             bytes <= m->super.btl_max_send_size ? &m->large : &m->longest;
    struct pw_frag *f;

    if (bytes > pw_far.btl_max_send_size)
        return NULL;
    f = (struct pw_frag *)opal_free_list_get(list);
    if (!f)
        return NULL;
    f->endpoint = endpoint;
    f->base.des_flags = flags;
    f->base.des_segment_count = 1;
    f->base.des_cbfunc = NULL;
    f->segments[0].seg_addr.pval = f->bytes;
    f->segments[0].seg_len = bytes;
    return f;
}

mca_btl_base_descriptor_t *pw_alloc(struct mca_btl_base_module_t *btl,
                                    struct mca_btl_base_endpoint_t *endpoint,
                                    uint8_t order, size_t size, uint32_t flags)
{
    struct pw_frag *f = frag_get(&pw_module, endpoint, size, flags);

    (void)btl;
    (void)order;
    return f ? &f->base : NULL;
}

int pw_free(struct mca_btl_base_module_t *btl, mca_btl_base_descriptor_t *des)
{
    struct pw_frag *f = (struct pw_frag *)des;

    (void)btl;
    opal_free_list_return(f->list, &f->base.super);
    return OPAL_SUCCESS;
}

static size_t convertor_pack(struct opal_convertor_t *convertor, void *to, size_t room)
{
    struct iovec iov = { .iov_base = to, .iov_len = room };
    uint32_t count = 1;
    size_t len = room;

    return opal_convertor_pack(convertor, &iov, &count, &len) < 0 ? 0 : len;
}

mca_btl_base_descriptor_t *pw_prepare_src(struct mca_btl_base_module_t *btl,
                                          struct mca_btl_base_endpoint_t *endpoint,
                                          struct opal_convertor_t *convertor,
                                          uint8_t order, size_t reserve, size_t *size,
                                          uint32_t flags)
{
    struct pw_module *m = &pw_module;
    bool pack = opal_convertor_need_buffers(convertor);
    size_t room = btl->btl_max_send_size - reserve;
    struct pw_frag *f;

    (void)order;
    if (*size > room)
        *size = room;
    f = frag_get(m, endpoint, reserve + (pack ? *size : 0), flags);
    if (!f)
        return NULL;
    if (pack) {
        *size = convertor_pack(convertor, f->bytes + reserve, *size);
        f->segments[0].seg_len = reserve + *size;
    } else {
        void *data;
        opal_convertor_get_current_pointer(convertor, &data);
        f->segments[1].seg_addr.pval = data;
        f->segments[1].seg_len = *size;
        f->base.des_segment_count = 2;
    }
    return &f->base;
}

static void frag_done(struct pw_frag *f, int status)
{
    struct pw_module *m = &pw_module;
    bool ours = f->base.des_flags & MCA_BTL_DES_FLAGS_BTL_OWNERSHIP;

    if (f->base.des_cbfunc)
        f->base.des_cbfunc(&m->super, f->endpoint, &f->base, status);
    if (ours)
        pw_free(&m->super, &f->base);
}

static void message_done(struct pw_message *message, int status)
{
    struct pw_frag *f = (struct pw_frag *)((char *)message -
                                           offsetof(struct pw_frag, message));

    frag_done(f, pw_opal_error(status));
}

/* To ourselves: it arrives before we return, as over btl/self. */
static int own_send(uint8_t tag, const struct pw_iov *iov, int n)
{
    struct pw_frag *f;
    size_t len = 0;

    for (int i = 0; i < n; i++)
        len += iov[i].len;
    f = frag_get(&pw_module, &pw_own, len, 0);
    if (!f)
        return -EAGAIN;
    len = 0;
    for (int i = 0; i < n; i++) {
        memcpy(f->bytes + len, iov[i].base, iov[i].len);
        len += iov[i].len;
    }
    pw_recv(&pw_module, &pw_own, tag, f->bytes, len);
    pw_free(&pw_module.super, &f->base);
    return 0;
}

static __attribute__((noinline))
int send_to_nobody(const struct mca_btl_base_endpoint_t *endpoint, uint8_t tag,
                   const struct pw_iov *iov, int n)
{
    return endpoint == &pw_own ? own_send(tag, iov, n) : -EPIPE;
}

/* Each small message passes it: 23 instructions where it is a function of its own. */
static inline __attribute__((always_inline))
int send_to(const struct mca_btl_base_endpoint_t *endpoint, struct pw_endpoint *ep,
            uint8_t tag, const struct pw_iov *iov, int n)
{
    return OPAL_LIKELY(ep != NULL) ? pw_endpoint_send(ep, tag, iov, n)
                                   : send_to_nobody(endpoint, tag, iov, n);
}

int pw_send(struct mca_btl_base_module_t *btl, struct mca_btl_base_endpoint_t *endpoint,
            mca_btl_base_descriptor_t *des, mca_btl_base_tag_t tag)
{
    struct pw_frag *f = (struct pw_frag *)des;
    struct pw_message *message = &f->message;
    struct pw_endpoint *ep;
    int err;

    message->n = (int)des->des_segment_count;
    for (int i = 0; i < message->n; i++)
        message->iov[i] = (struct pw_iov){ f->segments[i].seg_addr.pval,
                                           f->segments[i].seg_len };
    f->endpoint = endpoint;
    ep = pw_peer(endpoint);
    err = send_to(endpoint, ep, tag, message->iov, message->n);
    if (OPAL_LIKELY(!err)) {
        /* 1: sent, and the PML does without its callback unless it insists. */
        if (des->des_flags & MCA_BTL_DES_SEND_ALWAYS_CALLBACK)
            frag_done(f, OPAL_SUCCESS);
        else if (des->des_flags & MCA_BTL_DES_FLAGS_BTL_OWNERSHIP)
            pw_free(btl, des);
        return 1;
    }
    if (err != -EAGAIN || OPAL_UNLIKELY(!ep))
        return pw_opal_error(err);
    message->done = message_done;
    pw_endpoint_queue(ep, tag, message);
    return OPAL_SUCCESS;
}

static int sendi_packed(struct pw_module *m, struct mca_btl_base_endpoint_t *endpoint,
                        struct pw_endpoint *ep,
                        struct opal_convertor_t *convertor, const void *header,
                        size_t header_size, size_t payload_size, uint8_t tag)
{
    struct pw_frag *f = frag_get(m, endpoint, header_size + payload_size, 0);
    struct pw_iov iov;
    int err;

    if (!f)
        return -EAGAIN;
    memcpy(f->bytes, header, header_size);
    iov = (struct pw_iov){ f->bytes, header_size + payload_size };
    err = convertor_pack(convertor, f->bytes + header_size, payload_size) == payload_size
              ? send_to(endpoint, ep, tag, &iov, 1) : -EINVAL;
    pw_free(&m->super, &f->base);
    return err;
}

/* On -EAGAIN nothing was sent: the PML puts the request on its own list, so
 * nothing of ours grows however many are started. A convertor that was packed
 * from is set back by the PML. */
int pw_sendi(struct mca_btl_base_module_t *btl, struct mca_btl_base_endpoint_t *endpoint,
             struct opal_convertor_t *convertor, void *header, size_t header_size,
             size_t payload_size, uint8_t order, uint32_t flags, mca_btl_base_tag_t tag,
             mca_btl_base_descriptor_t **descriptor)
{
    struct pw_iov iov[2] = { { header, header_size }, { NULL, payload_size } };
    struct pw_endpoint *ep = pw_peer(endpoint);
    int err;

    (void)btl;
    (void)order;
    (void)flags;
    /* With no payload the convertor is not set up: do not look at it. */
    if (payload_size && OPAL_UNLIKELY(opal_convertor_need_buffers(convertor))) {
        err = sendi_packed(&pw_module, endpoint, ep, convertor, header,
                           header_size, payload_size, tag);
    } else {
        if (payload_size)
            opal_convertor_get_current_pointer(convertor, (void **)&iov[1].base);
        err = send_to(endpoint, ep, tag, iov, 2);
    }
    if (OPAL_LIKELY(!err))
        return OPAL_SUCCESS;
    if (descriptor)
        *descriptor = NULL;
    return pw_opal_error(err);
}

/* In place: the PML copies from the frame to where the user wants it. */
void pw_recv(void *ctx, void *cookie, uint8_t tag, const void *data, size_t len)
{
    const struct mca_btl_base_endpoint_t *peer = cookie;
    const mca_btl_active_message_callback_t *to = mca_btl_base_active_message_trigger + tag;
    mca_btl_base_segment_t segment = { .seg_addr.pval = (void *)(uintptr_t)data,
                                       .seg_len = len };
    mca_btl_base_descriptor_t des;

    (void)ctx;
    des.des_segments = &segment;
    des.des_segment_count = 1;
    des.des_flags = 0;
    if (OPAL_LIKELY(to->cbfunc != NULL))
        to->cbfunc(peer->near ? &pw_module.super : &pw_far, tag, &des, to->cbdata);
}
