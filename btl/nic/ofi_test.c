/* SPDX-License-Identifier: BSD-3-Clause */
/* ofi_test.c - does the endpoint do what its provider says?
 *
 * Providers list what they do not do, and answer with an error, or not at all, when it is
 * asked for. So before an endpoint is used it sends a message to itself and reads its own
 * memory as that of a peer. Without the message it is of no use; without the read puts and
 * gets go by frames. The time is bounded.
 *
 * Over sockets no memory is read before libfabric 1.18: where a connection ends in the midst
 * of a read, its tcp reports and frees that one among those that wait, and once more as what
 * is being received, now without a context, which ofi_rxm does not survive
 * (tcpx_ep_flush_all_queues, rxm_handle_comp_error of 1.17).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "ofi.h"
#include "pinwheel/clock.h"

enum { TEST_BYTES = 65536, TEST_MESSAGE = 1024 };

struct test_context {
    struct fi_context2 room;        /* the provider's */
    bool done;
};

struct test {
    struct ofi_nic *nic;
    fi_addr_t to;                   /* itself */
    uint8_t *memory;                /* a message, what is read, and where to */
    struct fid_mr *mr;              /* of the memory, where it must be registered */
    struct fid_mr *remote;          /* of what is read */
    struct test_context context;
    bool heard;
    int err;                        /* libfabric's */
    uint64_t until_ns;
};

static uint8_t *test_source(const struct test *t)
{
    return t->memory + TEST_BYTES;
}

static uint8_t *test_target(const struct test *t)
{
    return t->memory + 2 * TEST_BYTES;
}

static void test_arrived(struct test *t, struct rdm_rx *rx, size_t len)
{
    t->nic->base.n_posted--;
    t->heard = t->heard || (len == TEST_MESSAGE && !memcmp(rx->bytes, t->memory, len));
    rdm_rx_post(&t->nic->base, rx);
}

static void test_look(struct test *t)
{
    struct fi_cq_err_entry failed = { 0 };
    struct fi_cq_msg_entry entry;
    struct fid_cq *cq = t->nic->cq;
    ssize_t got = fi_cq_read(cq, &entry, 1);

    if (got == -FI_EAVAIL) {
        if (fi_cq_readerr(cq, &failed, 0) == 1)
            t->err = failed.err ? failed.err : FI_EOTHER;
    } else if (got == -FI_EAGAIN) {
        sched_yield();
    } else if (got < 0) {
        t->err = (int)-got;
    } else if (entry.op_context == &t->context) {
        t->context.done = true;
    } else {
        test_arrived(t, entry.op_context, entry.len);
    }
}

/* False: it failed, or the time is over. */
static bool test_go_on(struct test *t)
{
    if (t->err || pw_now_ns() > t->until_ns)
        return false;
    test_look(t);
    return true;
}

static bool test_message(struct test *t)
{
    int err;

    t->context.done = false;
    do
        err = (int)fi_send(t->nic->ep, t->memory, TEST_MESSAGE, ofi_desc(t->mr), t->to,
                           &t->context);
    while (err == -FI_EAGAIN && test_go_on(t));
    if (err && err != -FI_EAGAIN)
        t->err = -err;
    while (!err && !(t->heard && t->context.done) && test_go_on(t))
        ;
    return t->heard;
}

static bool test_read(struct test *t)
{
    struct ofi_nic *nic = t->nic;
    uint64_t from = ofi_mr(nic, FI_MR_VIRT_ADDR) ? (uintptr_t)test_source(t) : 0;
    int err;

    t->context.done = false;
    if (ofi_register(nic, test_source(t), TEST_BYTES,
                     FI_READ | FI_REMOTE_READ, &t->remote)) {
        t->err = FI_ENOKEY;
        return false;
    }
    do
        err = (int)fi_read(t->nic->ep, test_target(t), TEST_BYTES, ofi_desc(t->mr), t->to,
                           from, fi_mr_key(t->remote), &t->context);
    while (err == -FI_EAGAIN && test_go_on(t));
    if (err && err != -FI_EAGAIN)
        t->err = -err;
    while (!err && !t->context.done && test_go_on(t))
        ;
    return t->context.done && !memcmp(test_source(t), test_target(t), TEST_BYTES);
}

static int test_open(struct test *t)
{
    struct ofi_nic *nic = t->nic;
    int err = 0;

    t->memory = mmap(NULL, 3 * TEST_BYTES, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (t->memory == MAP_FAILED) {
        t->memory = NULL;
        return -ENOMEM;
    }
    for (size_t i = 0; i < 2 * TEST_BYTES; i++)
        t->memory[i] = (uint8_t)(i * 31 + i / 251 + 7);
    if (ofi_mr(nic, FI_MR_LOCAL))
        err = ofi_register(nic, t->memory, 3 * TEST_BYTES,
                           FI_SEND | FI_READ, &t->mr);
    if (!err && fi_av_insert(nic->av, nic->base.address.name, 1, &t->to, 0, NULL) != 1)
        err = -FI_EADDRNOTAVAIL;
    return err;
}

static void test_close(struct test *t)
{
    if (t->mr)
        fi_close(&t->mr->fid);
    if (t->remote)
        fi_close(&t->remote->fid);
    if (t->to != FI_ADDR_UNSPEC)
        fi_av_remove(t->nic->av, &t->to, 1, 0);
    if (t->memory)
        munmap(t->memory, 3 * TEST_BYTES);
}

int ofi_test(struct rdm_nic *base, char why[PW_NIC_WHY_MAX])
{
    struct ofi_nic *nic = ofi_of(base);
    struct test t = { .nic = nic, .to = FI_ADDR_UNSPEC,
                      .until_ns = pw_now_ns() + RDM_TEST_MS * UINT64_C(1000000) };
    int err = test_open(&t);

    if (err)
        t.err = -err;
    if (err || !test_message(&t)) {
        snprintf(why, PW_NIC_WHY_MAX, "an endpoint of %s on %s got no message from itself:"
                 " %s", nic->info->fabric_attr->prov_name,
                 nic->info->domain_attr->name,
                 t.err ? nic->lib->strerror(t.err) : "nothing came in time");
        test_close(&t);
        return -ENODEV;
    }
    base->streams = ofi_is_socket(nic->info) &&
                    FI_VERSION_LT(nic->lib->version(), FI_VERSION(1, 18));
    base->reads = !base->streams && test_read(&t);
    if (base->streams)
        snprintf(base->base.info.note, sizeof(base->base.info.note),
                 "puts and gets go by messages, for before libfabric 1.18 reads over sockets"
                 " do not outlive a lost connection");
    else if (!base->reads)
        snprintf(base->base.info.note, sizeof(base->base.info.note),
                 "puts and gets go by frames, for it does not read peers' memory: %s",
                 t.err ? nic->lib->strerror(t.err) : "nothing came in time");
    test_close(&t);
    base->probes = !rdm_listens(base, &base->address, 100);
    return 0;
}
