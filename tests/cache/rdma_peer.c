/* SPDX-License-Identifier: BSD-3-Clause */
/* rdma_peer.c - reads the memory of who started it, by RDMA, as often as that asks for it.
 *
 * Descriptors 3 and 4 are a socket and what both map (rdma_side.h). It ends when the socket
 * does.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "tests/cache/rdma_side.h"

static int fail(const char *what, int err)
{
    fprintf(stderr, "rdma_peer: %s: %s\n", what, strerror(-err));
    return 1;
}

/* What it cannot do it says, and goes on. */
static int serve(struct rdma_side *s, void *window, const struct pw_nic_key *key)
{
    struct pollfd asked = { RDMA_PEER_SOCKET, POLLIN, 0 };
    struct rdma_order order;

    for (;;) {
        ssize_t n = recv(RDMA_PEER_SOCKET, &order, sizeof order, MSG_DONTWAIT);
        if (n == (ssize_t)sizeof order && order.len <= RDMA_WINDOW) {
            int err = rdma_side_get(s, window, order.from, order.len, &order.key, key);
            send(RDMA_PEER_SOCKET, &err, sizeof err, MSG_NOSIGNAL);
        } else if (n < 0 && errno == EAGAIN) {
            rdma_side_turn(s);
            poll(&asked, 1, 1);
        } else {
            return n ? fail("an order", n < 0 ? -errno : -EPROTO) : 0;
        }
    }
}

int main(void)
{
    struct rdma_hello hello = { 0 }, other;
    struct rdma_side *s;
    void *window = mmap(NULL, RDMA_WINDOW, PROT_READ | PROT_WRITE, MAP_SHARED,
                        RDMA_PEER_WINDOW, 0);
    if (window == MAP_FAILED)
        return fail("the shared memory", -errno);
    int err = rdma_side_open(&s);
    if (err)
        return fail("open", err);
    err = rdma_side_pin(s, window, RDMA_WINDOW, PW_READ | PW_WRITE, &hello.key);
    if (err)
        return fail("pin", err);
    hello.window = (uintptr_t)window;
    rdma_side_address(s, &hello);
    if (send(RDMA_PEER_SOCKET, &hello, sizeof hello, MSG_NOSIGNAL) != sizeof hello ||
        recv(RDMA_PEER_SOCKET, &other, sizeof other, 0) != sizeof other)
        return fail("hello", -EPIPE);
    err = rdma_side_meet(s, &other);
    if (err)
        return fail("meet", err);
    err = serve(s, window, &hello.key);
    rdma_side_unpin(s, window, RDMA_WINDOW, &hello.key);
    rdma_side_close(s);
    return err;
}
