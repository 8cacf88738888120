/* SPDX-License-Identifier: BSD-3-Clause */
/* rdma_side.h - one of two processes that read each other's memory by an RDMA port, with the
 * backend that jobs use.
 *
 * Each opens its side, tells the other its address by whatever means, and meets it. Errors
 * are negative errno; nothing waits longer than a minute. One thread at a time, but for pin
 * and unpin.
 */
#ifndef PINWHEEL_TESTS_RDMA_SIDE_H
#define PINWHEEL_TESTS_RDMA_SIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pinwheel/nic.h"

/* What both share to say what was read: room for so much. */
enum { RDMA_WINDOW = 4 << 20 };

/* Where the peer finds the socket and the memory that it shares with who started it. */
enum { RDMA_PEER_SOCKET = 3, RDMA_PEER_WINDOW = 4 };

struct rdma_hello {
    size_t len;
    unsigned char address[PW_NIC_ADDRESS_MAX];
    uint64_t window;            /* the peer's view of it, and its key */
    struct pw_nic_key key;
};

/* Read that of the one who asks, to the window. Answered by an int, 0 or -errno. */
struct rdma_order {
    uint64_t from;
    size_t len;
    struct pw_nic_key key;
};

struct rdma_side;

/* -ENODEV: there is no port. */
int rdma_side_open(struct rdma_side **out);
void rdma_side_close(struct rdma_side *s);
void rdma_side_address(struct rdma_side *s, struct rdma_hello *out);
int rdma_side_meet(struct rdma_side *s, const struct rdma_hello *other);

int rdma_side_pin(struct rdma_side *s, void *addr, size_t len, unsigned access,
                  struct pw_nic_key *key);
void rdma_side_unpin(struct rdma_side *s, void *addr, size_t len,
                     const struct pw_nic_key *key);

/* The device writes to, through the pin `own`, what it reads from the other's memory. */
int rdma_side_get(struct rdma_side *s, void *to, uint64_t from, size_t len,
                  const struct pw_nic_key *theirs, const struct pw_nic_key *own);

/* Something may have come. */
void rdma_side_turn(struct rdma_side *s);

#endif
