/* SPDX-License-Identifier: BSD-3-Clause */
/* ucx_test.c - does the worker do what UCX says, and does the device read by itself?
 *
 * A worker that carries no message to itself is of no use. One that reads is tried out with
 * a second worker of the same context, whose memory it reads by a key as peers get them:
 * first while both look at what has come, for they connect, then while the second does not.
 * A device that reads by itself needs nobody there. UCX would also do it by messages, and
 * wait for that worker; then puts and gets are ours by messages.
 *
 * That worker is told the first's address as peers are, so the way between them is one as
 * between hosts: UCX's own memory of the same process is of no other worker.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pinwheel/clock.h"
#include "ucx.h"

enum {
    TEST_BYTES = 2 * UCX_ZCOPY,     /* comes without a copy of UCX's */
    TEST_ALONE_MS = 500,            /* so long a read may take that nobody helps */
};

struct test {
    struct ucx_nic *nic;
    ucp_worker_h other;
    ucp_ep_h ep;                    /* from ours to the other */
    uint8_t *source, *target;
    ucp_mem_h memory;               /* of the source */
    struct ucx_key key;
    bool ended;
    ucs_status_t status;
};

/* ---- a message ---- */

/* A message to itself, which is a stranger's: a device that UCX opens and that carries
 * nothing is found out. */
static int test_message(struct rdm_nic *base, char why[PW_NIC_WHY_MAX])
{
    struct rdm_peer self = { .base.nic = &base->base, .address = base->address };
    uint64_t until = rdm_ms(pw_now_ns()) + RDM_TEST_MS, zero[4] = { 0 };
    const uint64_t *heard = &base->base.counts.strangers;
    struct rdm_tx *tx = rdm_tx_get(base, true);
    int err = tx ? ucx_peer_open(&self) : -ENOMEM;

    if (!err) {
        self.there = true;
        memcpy(tx->bytes, zero, sizeof(zero));
        err = ucx_send(&self, tx, sizeof(zero));
    }
    while (!err && !__atomic_load_n(heard, __ATOMIC_RELAXED) &&
           rdm_ms(pw_now_ns()) < until) {
        rdm_poll(base);
        sched_yield();
    }
    if (self.there)
        ucx_peer_close(&self);
    if (!err && !__atomic_exchange_n(&base->base.counts.strangers, 0, __ATOMIC_RELAXED))
        err = -ETIMEDOUT;
    if (err)
        snprintf(why, PW_NIC_WHY_MAX, "UCX brought no message from %s to itself: %s",
                 base->base.info.what, strerror(-err));
    return err ? -ENODEV : 0;
}

/* ---- a read ---- */

static void read_ended(void *request, ucs_status_t status, void *user_data)
{
    struct test *t = user_data;

    (void)request;
    t->ended = true;
    t->status = status;
}

static bool read_wait(struct test *t, bool both)
{
    uint64_t until = rdm_ms(pw_now_ns()) + (both ? RDM_TEST_MS : TEST_ALONE_MS);

    while (!t->ended && rdm_ms(pw_now_ns()) < until) {
        t->nic->lib->progress(t->nic->worker);
        if (both)
            t->nic->lib->progress(t->other);
        sched_yield();
    }
    return t->ended && t->status == UCS_OK;
}

static bool read_once(struct test *t, bool both)
{
    ucp_request_param_t param = {
        .op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA,
        .cb.send = read_ended,
        .user_data = t,
    };
    ucs_status_ptr_t got;
    ucp_rkey_h key;
    bool ok;

    for (size_t i = 0; i < TEST_BYTES; i++)
        t->source[i] = (uint8_t)(i * 31 + i / 251 + both);
    t->ended = false;
    if (ucx_key_unpack(t->nic, t->ep, &t->key, &key) != UCS_OK)
        return false;
    got = t->nic->lib->get(t->ep, t->target, TEST_BYTES, (uintptr_t)t->source, key, &param);
    t->ended = !UCS_PTR_IS_PTR(got);
    t->status = UCS_PTR_STATUS(got);
    ok = read_wait(t, both);
    if (!t->ended)
        read_wait(t, true);     /* not a success, but nothing of it is to be left */
    if (UCS_PTR_IS_PTR(got))
        t->nic->lib->request_free(got);     /* and read_ended() is not called any more */
    if (t->ended)
        t->nic->lib->rkey_destroy(key);
    return ok && !memcmp(t->source, t->target, TEST_BYTES);
}

static void ep_failed(void *arg, ucp_ep_h ep, ucs_status_t status)
{
    (void)arg;
    (void)ep;
    (void)status;
}

static bool test_connect(struct test *t)
{
    ucp_ep_params_t params = {
        .field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS |
                      UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE | UCP_EP_PARAM_FIELD_ERR_HANDLER,
        .err_mode = UCP_ERR_HANDLING_MODE_PEER,
        .err_handler.cb = ep_failed,
    };
    ucp_address_t *address = ucx_worker_open(t->nic, &t->other);
    ucs_status_t status;

    if (!address) {
        t->other = NULL;
        return false;
    }
    params.address = address;
    status = t->nic->lib->ep_create(t->nic->worker, &params, &t->ep);
    t->nic->lib->release_address(t->other, address);
    if (status != UCS_OK)
        t->ep = NULL;
    return status == UCS_OK;
}

static void test_disconnect(struct test *t)
{
    ucp_request_param_t param = { .op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS,
                                  .flags = UCP_EP_CLOSE_FLAG_FORCE };
    ucs_status_ptr_t closing = t->ep ? t->nic->lib->ep_close(t->ep, &param) : NULL;

    for (int i = 0; i < 100; i++) {
        t->nic->lib->progress(t->nic->worker);
        if (t->other)
            t->nic->lib->progress(t->other);
    }
    if (UCS_PTR_IS_PTR(closing))
        t->nic->lib->request_free(closing);
    if (t->other)
        t->nic->lib->worker_destroy(t->other);
}

/* NULL, or why it does not. */
static const char *test_read(struct test *t)
{
    if (ucx_map(t->nic, t->source, TEST_BYTES, &t->memory, &t->key)) {
        t->memory = NULL;
        return "UCX gives no key of 8 bytes for memory";
    }
    if (!test_connect(t) || !read_once(t, true))
        return "a read brought nothing";
    return read_once(t, false) ? NULL : "a read waits for the peer";
}

/* What a device might still write stays. */
static void test_free(struct test *t)
{
    if (!t->ended)
        return;
    if (t->memory)
        t->nic->lib->mem_unmap(t->nic->context, t->memory);
    free(t->source);
}

static void test_reads(struct ucx_nic *nic)
{
    struct pw_nic_info *info = &nic->base.base.info;
    struct ucx_name *name = (void *)nic->base.address.name;
    struct test t = { .nic = nic };
    const char *why = nic->base.distrust ? "peers are not trusted"
                                         : "there is no memory to try more";

    t.source = nic->base.distrust ? NULL : malloc(2 * TEST_BYTES);
    if (t.source) {
        t.target = t.source + TEST_BYTES;
        t.ended = true;
        why = test_read(&t);
        test_disconnect(&t);
        test_free(&t);
    }
    nic->base.reads = !why;
    nic->domain = t.key.domain;
    name->domain = why ? 0 : (uint8_t)(t.key.domain + 1);
    name->sum = ucx_name_sum(name, nic->base.address.name_len);
    if (why)
        snprintf(info->note, sizeof(info->note),
                 "puts and gets go by UCX's active messages: %s", why);
    else
        snprintf(info->note, sizeof(info->note), "the device reads peers' memory by itself");
}

int ucx_test(struct rdm_nic *base, char why[PW_NIC_WHY_MAX])
{
    int err = test_message(base, why);

    if (err)
        return err;
    test_reads(ucx_of(base));
    base->probes = !rdm_listens(base, &base->address, 100);
    return 0;
}
