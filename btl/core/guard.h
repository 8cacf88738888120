/* SPDX-License-Identifier: BSD-3-Clause */
/* guard.h - frames that survive the path they were sent on.
 *
 * An endpoint whose only path is lossless (shared memory) has no guard and pays
 * nothing, unless its peer, which may have found more paths, numbers the frames
 * that it sends. Any other numbers its frames, keeps copies until they are
 * acknowledged, sends them again in order when a path failed, and drops what it has
 * seen. Where a path may lose frames while it is up, they are also sent again when an
 * answer is overdue; one of a PW_NIC_ANSWERS NIC does not. One guard for each endpoint;
 * the caller holds nothing.
 */
#ifndef PW_GUARD_H
#define PW_GUARD_H

#include "core.h"

/* Frames kept at most; a full window answers -EAGAIN. */
enum { PW_GUARD_WINDOW = 1024 };

/* Behind the bytes of each numbered frame. */
struct pw_guard_tail {
    uint32_t seq;           /* its number; the low half is in the immediate data too */
    uint32_t ack;           /* the number that its sender expects next */
};

/* Give the endpoint a guard: what it sends from now on is numbered. Under
 * e->progress. 0 or -ENOMEM. */
int pw_guard_open(struct pw_endpoint *ep);
void pw_guard_close(struct pw_guard *g);

/* Number, copy and send. As pw_frame_send(): 0, -EAGAIN, -EMSGSIZE, -EPIPE,
 * -ENOMEM. */
int pw_guard_send(struct pw_guard *g, unsigned kind, uint8_t tag,
                  const struct pw_iov *iov, int n);

/* A numbered frame came: true when it is the next one and is to be served, all but its
 * tail; false when it is to be dropped (seen before, or others are missing). */
bool pw_guard_accept(struct pw_guard *g, uint32_t imm, const void *data, size_t len);

/* An ACK frame came. */
void pw_guard_acked(struct pw_guard *g, const void *data, size_t len);

/* A NIC is through with a copy. Such are known by their cookie. */
bool pw_guard_owns(const void *op);
void pw_guard_sent(void *op);

/* The path changed: send everything again that is not acknowledged. */
void pw_guard_replay(struct pw_guard *g);

/* From progress: send what waits, look at overdue answers. Returns the number of frames
 * sent. */
int pw_guard_step(struct pw_guard *g);

/* From progress, now and then: acknowledge what no frame of ours has since. */
int pw_guard_settle(struct pw_guard *g);

/* Nothing of ours waits for an acknowledgement. */
bool pw_guard_quiet(const struct pw_guard *g);

#endif
