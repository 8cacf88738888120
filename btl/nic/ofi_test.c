/* SPDX-License-Identifier: BSD-3-Clause */
/* ofi_test.c - does the endpoint do what its provider says?
 *
 * Providers list what they do not do, and answer with an error, or not at all, when it is
 * asked for. So before an endpoint is used it sends a message to itself and reads its own
 * memory as that of a peer. Without the message it is of no use; without the read puts and
 * gets go by frames. The time is bounded.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

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

static void test_arrived(struct test *t, struct ofi_rx *rx, size_t len)
{
    t->heard = t->heard || (len == TEST_MESSAGE && !memcmp(rx->bytes, t->memory, len));
    ofi_rx_post(t->nic, rx);
}

static void test_look(struct test *t)
{
    struct fi_cq_err_entry failed = { 0 };
    struct fi_cq_msg_entry entry;
    struct fid_cq *cq = t->nic->port.cq;
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
        err = (int)fi_send(t->nic->port.ep, t->memory, TEST_MESSAGE, ofi_desc(t->mr), t->to,
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
    uint64_t from = ofi_mr(&nic->domain, FI_MR_VIRT_ADDR) ? (uintptr_t)test_source(t) : 0;
    int err;

    t->context.done = false;
    if (ofi_register(&nic->domain, &nic->port, test_source(t), TEST_BYTES,
                     FI_READ | FI_REMOTE_READ, &t->remote)) {
        t->err = FI_ENOKEY;
        return false;
    }
    do
        err = (int)fi_read(t->nic->port.ep, test_target(t), TEST_BYTES, ofi_desc(t->mr), t->to,
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
    if (ofi_mr(&nic->domain, FI_MR_LOCAL))
        err = ofi_register(&nic->domain, &nic->port, t->memory, 3 * TEST_BYTES,
                           FI_SEND | FI_READ, &t->mr);
    if (!err && fi_av_insert(nic->port.av, nic->port.name, 1, &t->to, 0, NULL) != 1)
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
        fi_av_remove(t->nic->port.av, &t->to, 1, 0);
    if (t->memory)
        munmap(t->memory, 3 * TEST_BYTES);
}

int ofi_test(struct ofi_nic *nic, char why[PW_NIC_WHY_MAX])
{
    struct test t = { .nic = nic, .to = FI_ADDR_UNSPEC,
                      .until_ns = pw_now_ns() + OFI_TEST_MS * UINT64_C(1000000) };
    int err = test_open(&t);

    if (err)
        t.err = -err;
    if (err || !test_message(&t)) {
        snprintf(why, PW_NIC_WHY_MAX, "an endpoint of %s on %s got no message from itself:"
                 " %s", nic->domain.info->fabric_attr->prov_name,
                 nic->domain.info->domain_attr->name,
                 t.err ? nic->domain.lib->strerror(t.err) : "nothing came in time");
        test_close(&t);
        return -ENODEV;
    }
    nic->reads = test_read(&t);
    if (!nic->reads)
        snprintf(nic->base.info.note, sizeof(nic->base.info.note),
                 "puts and gets go by frames, for it does not read peers' memory: %s",
                 t.err ? nic->domain.lib->strerror(t.err) : "nothing came in time");
    test_close(&t);
    if (nic->domain.info->addr_format == FI_SOCKADDR_IN ||
        nic->domain.info->addr_format == FI_SOCKADDR_IN6)
        nic->probes = !ofi_listens(nic->port.name, nic->port.name_len, 100);
    return 0;
}

/* ---- who listens ---- */

static int listens_wait(int fd, int wait_ms)
{
    struct pollfd p = { .fd = fd, .events = POLLOUT };
    socklen_t len = sizeof(int);
    int err = 0;

    if (poll(&p, 1, wait_ms) != 1)
        return -ETIMEDOUT;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len))
        return -errno;
    return -err;
}

int ofi_listens(const void *name, size_t len, int wait_ms)
{
    struct sockaddr_storage to = { 0 };
    int fd, err = 0;

    if (len > sizeof(to))
        return -EAFNOSUPPORT;
    memcpy(&to, name, len);
    fd = socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (struct sockaddr *)&to, (socklen_t)len))
        err = errno == EINPROGRESS ? listens_wait(fd, wait_ms) : -errno;
    close(fd);
    return err;
}
