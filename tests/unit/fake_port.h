/* SPDX-License-Identifier: BSD-3-Clause */
/* fake_port.h - a library for the files of rdm.h that lives in this process: messages wait in
 * their receiver's port until it is polled, and a test says what becomes of them.
 *
 * A message is in memory of its own length, and stays there while it is kept, so that a
 * sanitizer sees who reads behind its end. What a port is given to write into has to be
 * registered; it looks at that, as no library does.
 *
 * fake_reads is as libfabric is: buffers are posted, the library reads memory, and a reset
 * closes the port. fake_streams is as UCX is over TCP: messages alone, and a peer can be dropped;
 * fake_both as it is where the device reads memory.
 */
#ifndef PW_FAKE_PORT_H
#define PW_FAKE_PORT_H

#include "btl/nic/rdm.h"

extern const struct pw_nic_ops fake_reads, fake_streams, fake_both;

enum {
    FAKE_READ_MOST = 65536,     /* of one read */
    FAKE_INJECT = 64,
    FAKE_MAGIC = 0x656b6146,
};

struct fake_port;

/* What becomes of a message; NULL: it arrives. It calls fake_port_arrives() for it, or for
 * others, as often as it likes; nobody else calls that. */
extern void (*fake_port_wire)(struct fake_port *from, struct fake_port *to,
                              const void *bytes, size_t len);
void fake_port_arrives(struct fake_port *to, const void *bytes, size_t len);

/* Any bytes, from nobody. */
void fake_port_say(struct fake_port *to, const void *bytes, size_t len);

struct fake_port *fake_port_of(struct pw_nic *nic);

/* Nothing is sent by it: there is no room. */
void fake_port_full(struct fake_port *port, bool full);

/* So many more reads are done; the others wait. UINT_MAX, as at first: all. */
void fake_port_reads(struct fake_port *port, unsigned most);

/* Messages that it has given and that were not given back. */
unsigned fake_port_held(struct fake_port *port);

#endif
